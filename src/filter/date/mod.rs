//! Where in a line the time stands, and what time it is.
//!
//! Finding the place and computing the value are two steps, because only lines that a
//! pattern matches need the value. A log keeps to one way of writing its dates, so each
//! log's [`State`] remembers the way and the place; the next line is looked at there first.
//! What is learnt, and in which order the others are tried, is what Fail2Ban does: it decides
//! which of several dates in a line counts.

mod absence;
mod clock;
mod day;
mod layout;
mod part;
mod quick;
mod template;
mod value;
pub mod zone;

use super::Clock;
use super::exact::Cache;
use crate::time::Time;
use absence::Absence;
pub use day::Day;
pub use layout::Plan;
pub use part::Part;
pub use quick::{Form, Place, Quick};
use template::Hit;
pub use template::{Meaning, Spec, Template};
pub use value::Field;

/// A template that was not used for so many seconds gives way to any that is.
const FORGOTTEN: f64 = 300.0;

/// The compiled templates of a filter, in order; shared by all logs of a jail.
#[derive(Debug)]
pub struct Dates {
    templates: Vec<Template>,
    zone: Option<i32>,
    absence: Option<Absence>,
}

/// What was learnt from one log: which templates were used, and where the last date stood.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// Templates in the order they are tried.
    order: Vec<u16>,
    /// By template.
    learnt: Vec<Learnt>,
    /// The first place in the order whose template was never used.
    unused: usize,
    /// The place in the order of the last one that matched.
    last: Option<usize>,
    /// Where the last match began and ended, in characters, and those at its ends, the outer one first.
    start: usize,
    end: usize,
    before: (Option<char>, Option<char>),
    after: (Option<char>, Option<char>),
}

#[derive(Clone, Debug, PartialEq)]
struct Learnt {
    /// In how many lines it was the one.
    hits: u64,
    /// Whether it ever matched, even where another was preferred. (Fail2Ban shares this one
    /// among all its jails, so that they influence each other; we do not.)
    seen: bool,
    used: Time,
    /// Where its last match began, in characters.
    distance: usize,
}

/// A place in a line that reads as a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// First byte of the part that is cut out of the line.
    pub start: usize,
    /// First byte after it. Equal to `start` where a pattern says that lines have no date of their own.
    pub end: usize,
    /// Index of the template.
    pub template: usize,
    /// The text that was searched: from the first byte of the match up to here.
    searched: (usize, usize),
}

/// What is known about one template of a log.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Use<'d> {
    /// Its name.
    pub name: &'d str,
    /// Index of the template.
    pub template: usize,
    /// How many lines it was found in.
    pub hits: u64,
    /// Where its last match began, in characters; `None` if there was none.
    pub distance: Option<usize>,
    /// How readily it moves up.
    pub weight: f64,
    /// When it was found last.
    pub used: Option<Time>,
}

impl Found {
    /// What a template finds that begins at the start of a line of so many bytes.
    #[must_use]
    pub fn at_start((start, end): (usize, usize), template: usize, length: usize) -> Found {
        Found { start, end, template, searched: (0, length) }
    }
}

impl State {
    fn prepare(&mut self, count: usize) {
        self.order = (0..count as u16).collect();
        self.learnt = vec![Learnt { hits: 0, seen: false, used: Time::from_seconds(0), distance: usize::MAX }; count];
        self.start = 1;
    }
}

impl Dates {
    /// From templates in order (at most 65,535); `zone` is the offset, in seconds east of
    /// Greenwich, of dates that name none (else they are local times).
    #[must_use]
    pub fn new(templates: Vec<Template>, zone: Option<i32>) -> Dates {
        let absence = Absence::new(templates.iter().map(|template| template.need.as_ref()));
        Dates { templates, zone, absence }
    }

    /// The templates' names, in order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.templates.iter().map(|template| template.name.as_str())
    }

    /// The templates in the order they are tried for this log, with what was learnt.
    pub fn uses<'d>(&'d self, state: &'d State) -> impl Iterator<Item = Use<'d>> {
        let count = if state.order.is_empty() { self.templates.len() } else { state.order.len() };
        (0..count).map(move |at| {
            let index = state.order.get(at).map_or(at, |&index| usize::from(index));
            let template = &self.templates[index];
            let learnt = state.learnt.get(index).filter(|learnt| learnt.hits > 0);
            Use {
                name: &template.name,
                template: index,
                hits: learnt.map_or(0, |learnt| learnt.hits),
                distance: learnt.map(|learnt| learnt.distance),
                weight: template.weight,
                used: learnt.map(|learnt| learnt.used),
            }
        })
    }

    /// Whether a line can have a date without a text of its own, and then counts as written when
    /// the line before was: such filters have to see every line.
    #[must_use]
    pub fn needs_every_line(&self) -> bool {
        self.templates.iter().any(Template::may_be_empty)
    }

    /// Whether a line certainly has no date, and so teaches nothing; false says nothing.
    #[must_use]
    #[inline]
    pub fn is_absent(&self, line: &[u8]) -> bool {
        self.absence.as_ref().is_some_and(|absence| absence.holds(line))
    }

    /// Whether [`Dates::is_absent`] can ever be true.
    #[must_use]
    pub fn knows_absence(&self) -> bool {
        self.absence.is_some()
    }

    /// Finds the time in a line and learns from it.
    pub fn find(&self, state: &mut State, cache: &mut Cache, line: &str, now: Time) -> Option<Found> {
        if state.order.len() == self.templates.len() && self.is_absent(line.as_bytes()) {
            return None;
        }
        let mut ascii = None;
        self.find_with(state, line, now, |template, from, to| template.search(cache, line, (from, to), &mut ascii))
    }

    /// The template that found the last date, and its usual form, if the next date in that form
    /// is found without looking further and teaches nothing but that there was one more.
    #[must_use]
    pub fn sticky(&self, state: &State) -> Option<(usize, Quick)> {
        let index = usize::from(*state.order.get(state.last?)?);
        let (template, learnt) = (self.templates.get(index)?, state.learnt.get(index)?);
        let used = |at: usize| state.order.get(at).is_some_and(|&at| state.learnt[usize::from(at)].hits > 0);
        let settled = template.anchored && learnt.hits > 0 && learnt.distance == 0 && state.start == 0;
        let settled = settled && state.learnt.len() == state.order.len() && !used(state.unused);
        Some((index, template.quick.filter(|_| settled)?))
    }

    /// Counts so many dates that are as [`Dates::sticky`] says.
    pub fn again(&self, state: &mut State, count: u64, now: Time) {
        let index = state.last.and_then(|last| state.order.get(last)).copied();
        if let Some(learnt) = index.and_then(|index| state.learnt.get_mut(usize::from(index))) {
            learnt.hits += count;
            learnt.used = now;
        }
    }

    /// The same without the quick way; for comparison.
    #[doc(hidden)]
    pub fn find_exact(&self, state: &mut State, cache: &mut Cache, line: &str, now: Time) -> Option<Found> {
        self.find_with(state, line, now, |template, from, to| template.search_exact(cache, line, from, to))
    }

    #[inline]
    fn find_with(
        &self,
        state: &mut State,
        line: &str,
        now: Time,
        mut search: impl FnMut(&Template, usize, usize) -> Option<Hit>,
    ) -> Option<Found> {
        let count = self.templates.len();
        if state.order.len() != count {
            *state = State::default();
            state.prepare(count);
        }
        let template = |state: &State, at: usize| &self.templates[usize::from(state.order[at])];
        let mut tried = None;
        // The best so far that was not good enough to stop: its place, match, and end of what was searched.
        let mut candidate: Option<(usize, Hit, usize)> = None;
        if let Some(at) = state.last {
            let last = template(state, at);
            let window = if last.anchored { None } else { state.window(line) };
            let (from, to) = window.unwrap_or((0, line.len()));
            let hit = search(last, from, to);
            if let Some(hit) = hit {
                state.learnt[usize::from(state.order[at])].seen = true;
                let span = (chars(line, hit.start), chars(line, hit.end));
                if count == 1 || last.anchored || span == (state.start, state.end) {
                    return Some(self.take(state, line, at, hit, to, now));
                }
                candidate = Some((at, hit, to));
            }
            if window.is_none() {
                tried = Some(at);
            }
        }
        for at in 0..count {
            if tried == Some(at) {
                continue;
            }
            let one = template(state, at);
            let Some(hit) = search(one, 0, line.len()) else { continue };
            let learnt = &mut state.learnt[usize::from(state.order[at])];
            learnt.seen = true;
            let (hits, distance) = (learnt.hits, learnt.distance);
            let settled = one.anchored
                || at + 1 == count
                || hit.start == 0 && hits > 0 && !state.learnt[usize::from(state.order[at + 1])].seen;
            let start = chars(line, hit.start);
            if !settled && (start > distance || start > state.start) {
                if candidate.is_none_or(|(_, best, _)| hit.start < best.start) {
                    candidate = Some((at, hit, line.len()));
                }
                continue;
            }
            candidate = Some((at, hit, line.len()));
            break;
        }
        let (at, hit, to) = candidate?;
        Some(self.take(state, line, at, hit, to, now))
    }

    /// Counts a match and lets its template move up.
    #[inline]
    fn take(&self, state: &mut State, line: &str, at: usize, hit: Hit, to: usize, now: Time) -> Found {
        let index = usize::from(state.order[at]);
        let learnt = &mut state.learnt[index];
        learnt.hits += 1;
        learnt.used = now;
        learnt.distance = chars(line, hit.start);
        state.start = learnt.distance;
        if !self.templates[index].anchored {
            state.remember(line, hit);
        }
        while state.order.get(state.unused).is_some_and(|&index| state.learnt[usize::from(index)].hits > 0) {
            state.unused += 1;
        }
        let moved = if at > 0 && state.last != Some(at) { self.move_up(state, at, now) } else { at };
        state.last = Some(moved);
        Found { start: hit.cut.0, end: hit.cut.1, template: index, searched: (hit.start, to) }
    }

    fn move_up(&self, state: &mut State, at: usize, now: Time) -> usize {
        let index = usize::from(state.order[at]);
        let weight = |state: &State, index: usize| {
            let learnt = &state.learnt[index];
            learnt.hits as f64 * self.templates[index].weight / learnt.distance.max(1) as f64
        };
        let mine = weight(state, index);
        let gives_way = |target: usize| {
            let other = usize::from(state.order[target]);
            mine > weight(state, other) || now - state.learnt[other].used > FORGOTTEN
        };
        let mut target = if state.unused < at { state.unused } else { at / 2 };
        if !gives_way(target) {
            target = at - 1;
            if !gives_way(target) {
                return at;
            }
        }
        let moving = state.order.remove(at);
        state.order.insert(target, moving);
        target
    }

    /// The time that was found; `None` if it is no valid one (30 February).
    pub fn value(&self, cache: &mut Cache, line: &str, found: Found, clock: &Clock) -> Option<Time> {
        self.templates.get(found.template)?.value(cache, line, found.searched, self.zone, clock)
    }

    /// The same without the quick way; for comparison.
    #[doc(hidden)]
    pub fn value_exact(&self, cache: &mut Cache, line: &str, found: Found, clock: &Clock) -> Option<Time> {
        self.templates.get(found.template)?.value_exact(cache, line, found.searched, self.zone, clock)
    }
}

impl State {
    /// The remembered place, if this line looks the same around it; in bytes.
    fn window(&self, line: &str) -> Option<(usize, usize)> {
        let beyond = |place: Option<usize>| place.map_or((None, None), |at| around(line, at));
        let (from, to) = (byte(line, self.start), byte(line, self.end));
        let fits = |outside: Option<char>, inside: Option<char>, known: (Option<char>, Option<char>)| {
            outside == known.0 || inside == known.1 && inside.is_some_and(|c| !c.is_alphanumeric())
        };
        let (before, first) = beyond(from);
        let (last, after) = beyond(to);
        (fits(before, first, self.before) && fits(after, last, self.after))
            .then(|| (from.unwrap_or(line.len()), to.unwrap_or(line.len())))
    }

    fn remember(&mut self, line: &str, hit: Hit) {
        self.end = chars(line, hit.end);
        let (before, first) = around(line, hit.start);
        let (last, after) = around(line, hit.end);
        self.before = (before, first);
        self.after = (after, last);
    }
}

/// The characters before and after a place.
fn around(line: &str, at: usize) -> (Option<char>, Option<char>) {
    (line[..at].chars().next_back(), line[at..].chars().next())
}

/// How many characters stand before a place. What is learnt is counted in characters, as
/// Fail2Ban counts; in most lines they are bytes.
#[inline]
fn chars(line: &str, at: usize) -> usize {
    let before = &line[..at];
    if before.is_ascii() { at } else { before.chars().count() }
}

/// The place after so many characters; `None` beyond the end.
fn byte(line: &str, chars: usize) -> Option<usize> {
    if line.is_ascii() {
        return (chars <= line.len()).then_some(chars);
    }
    line.char_indices().map(|(at, _)| at).chain([line.len()]).nth(chars)
}
