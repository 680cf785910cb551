//! All filters of one log over a block of lines at once.
//!
//! Most lines match no filter, so most work goes into saying so cheaply. Three stages, each of
//! which passes over lines that certainly do not match: one search for strings that every match
//! contains, over the whole block and for all jails; one lazy DFA for each jail; and the exact
//! judgement of [`record`]. The outcome is that of [`record::Filter::line`], line by line. What
//! a passed line means to the lines after it (where dates stand, and which was the last one) is
//! kept as well.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::approximate::{self, Patterns};
use super::exact;
use super::set::{self, Automaton};
use super::{Clock, Failure, Unresolved, record};
use crate::line::Block;
use dating::{Dating, Here};
use plan::{Jails, Plan, Planner};
pub use scratch::{Place, Scratch};

mod dating;
mod plan;
mod records;
mod scratch;

/// The filters of the jails that read one log; immutable, so that threads can share it.
#[derive(Debug)]
pub struct Scanner {
    id: u64,
    filters: Vec<Filter>,
    planner: Planner,
}

/// One filter with what is built from it when first needed.
#[derive(Debug)]
struct Filter {
    record: Arc<record::Filter>,
    automata: OnceLock<Automata>,
}

/// What a line has to pass before it is judged exactly; a missing one lets all lines pass.
#[derive(Debug)]
struct Automata {
    first: Option<Automaton>,
    second: Option<Automaton>,
}

/// What one jail knows and gets of the log.
#[derive(Debug)]
pub struct JailLog<'a> {
    /// What its filter remembers of the log.
    pub state: &'a mut record::State,
    /// What it wants of the lines.
    pub options: record::Options,
    /// Its failures, in the order of the lines; new ones are appended.
    pub failures: Vec<Failure>,
    /// What else there was; counted on.
    pub tally: Tally,
}

/// Most undecided lines of a block of which the beginning is kept, and how much of each, in bytes.
const SAMPLES: usize = 10;
const SAMPLE: usize = 300;

/// Lines that were judged in one way or another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// All lines.
    pub lines: u64,
    /// Lines that were cut and do not match in what was left of them.
    pub cut: u64,
    /// Lines on which a pattern with back-references took more steps than allowed.
    pub steps: u64,
    /// Lines whose time was too far from now and was replaced by it. Lines that match nothing
    /// are counted only if they are the last one of a block with a date.
    pub replaced: u64,
    /// So many seconds the last of them was from now; below 0: before it.
    pub distance: i64,
    /// Lines older than `findtime`, without those that would not have matched.
    pub old: u64,
    /// Lines that an ignoreregex excused.
    pub ignored: u64,
    /// How the first of the undecided lines (`cut`, `steps`) begin.
    pub samples: Vec<Box<str>>,
}

impl Tally {
    /// Counts how a line was judged.
    fn add(&mut self, verdict: &record::Verdict, text: &str) {
        self.steps += u64::from(verdict.unresolved == Some(Unresolved::Steps));
        self.replace(verdict.replaced, verdict.distance);
        self.old += u64::from(verdict.old);
        self.ignored += u64::from(verdict.ignored.is_some());
        self.cut += u64::from(verdict.unresolved == Some(Unresolved::Cut));
        if verdict.unresolved.is_some() && self.samples.len() < SAMPLES {
            let end = (0..=SAMPLE.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
            self.samples.push(text[..end.unwrap_or(0)].into());
        }
    }

    fn replace(&mut self, replaced: bool, distance: i64) {
        if replaced {
            self.replaced += 1;
            self.distance = distance;
        }
    }
}

/// A line as the filters see it.
#[derive(Clone, Copy)]
struct Line<'l> {
    text: &'l str,
    cut: bool,
}

/// What is at hand while a block is judged.
struct Work<'w, 'j> {
    scanner: &'w Scanner,
    block: &'w [u8],
    exact: &'w mut exact::Cache,
    caches: &'w mut [scratch::Caches],
    dating: &'w mut Dating,
    jails: &'w mut [JailLog<'j>],
    clock: &'w Clock,
    places: Option<&'w mut Vec<Place>>,
}

impl Scanner {
    /// For the filters of the jails that read a log, in this order.
    #[must_use]
    pub fn new(filters: &[Arc<record::Filter>]) -> Scanner {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let filters = filters.iter().map(|record| Filter { record: record.clone(), automata: OnceLock::new() });
        Scanner { id: NEXT.fetch_add(1, Ordering::Relaxed), filters: filters.collect(), planner: Planner::default() }
    }

    /// Judges every line of a block for every jail, in order. `jails` are those of the filters
    /// that the scanner was made with, in the same order; surplus ones get nothing.
    pub fn block(&self, scratch: &mut Scratch, block: &Block<'_>, jails: &mut [JailLog<'_>], clock: &Clock) {
        let count = jails.len().min(self.filters.len());
        let jails = &mut jails[..count];
        let plan = self.planner.plan(&self.filters, block.bytes);
        let Scratch { exact, lossy, candidates, cursor, dating, kept, places } = scratch;
        places.iter_mut().for_each(Vec::clear);
        dating.begin(&self.filters, jails);
        let caches = kept.of(self.id, count);
        let mut work =
            Work { scanner: self, block: block.bytes, exact, caches, dating, jails, clock, places: places.as_mut() };
        work.lines(&plan, block.cut, candidates, cursor, lossy);
        dating.finish(block.bytes, exact, jails, clock);
        kept.tidy();
    }

    fn automata(&self, index: usize) -> &Automata {
        let filter = &self.filters[index];
        filter.automata.get_or_init(|| filter.build())
    }
}

impl Filter {
    fn patterns<T>(&self, then: impl FnOnce(Patterns<'_>) -> T) -> T {
        let failures: Vec<_> = self.record.failregex.iter().map(|regex| &*regex.pattern).collect();
        let prefix = self.record.prefregex.as_ref().map(|regex| &*regex.pattern);
        then(Patterns { prefix, failures: &failures })
    }

    fn build(&self) -> Automata {
        self.patterns(|patterns| Automata {
            first: Automaton::new(&approximate::filter(patterns)),
            second: approximate::conjunct(patterns).and_then(|hir| Automaton::new(&hir)),
        })
    }
}

impl Work<'_, '_> {
    fn lines(&mut self, plan: &Plan, cut: bool, candidates: &mut Jails, cursor: &mut Vec<usize>, lossy: &mut String) {
        let block = self.block;
        // Mostly the block is UTF-8, and then so are its lines.
        let utf8 = std::str::from_utf8(block).ok();
        let (mut start, mut count) = (0, 0);
        let always = plan.always.any();
        cursor.clear();
        let mut hit = plan.next(block, 0, cursor);
        while start < block.len() {
            let newline = memchr::memchr(b'\n', &block[start..]).map_or(block.len(), |at| start + at);
            let next = (newline + 1).min(block.len());
            let mut end = newline;
            while end > start && block[end - 1] == b'\r' {
                end -= 1;
            }
            count += 1;
            let (place, bytes) = ((start, end), &block[start..end]);
            let line = utf8.map_or_else(|| std::str::from_utf8(bytes).ok(), |block| block.get(start..end));
            let known = line.is_some() && self.dating.glance(place, bytes);
            // Of a line that was cut only the exact judgement says whether what is left matches.
            let cut = cut && next == block.len();
            let mut passed = hit >= newline && !always && !cut;
            if known && passed {
                self.note(place, true);
                start = next;
                continue;
            }
            let text = match line {
                Some(text) => text,
                None => {
                    self.dating.look_away();
                    decode(&block[start..end], lossy);
                    &**lossy
                }
            };
            if !known {
                self.dating.look(line.map(|_| place), text, self.exact, self.jails, self.clock);
            }
            self.note(place, line.is_some());
            let torn = !known && self.dating.is_torn();
            passed &= !torn;
            if !passed {
                candidates.clone_from(if cut || torn { &plan.all } else { &plan.always });
                if hit < newline {
                    plan.add(&block[start..end], candidates);
                    hit = plan.next(block, next, cursor);
                }
                let line = Line { text, cut };
                for index in candidates.iter() {
                    let here = self.dating.here(index, text.len());
                    if cut || self.is_possible(index, line, here) {
                        let matched = self.judge(index, line, here);
                        self.came_this_far(index, matched);
                    }
                }
            }
            start = next;
        }
        for jail in &mut *self.jails {
            jail.tally.lines += count;
        }
    }

    /// Tells where a line stands, to whom it may interest.
    #[inline]
    fn note(&mut self, line: (usize, usize), utf8: bool) {
        if let Some(places) = &mut self.places {
            let found = self.dating.here(0, 0).found;
            places.push(Place { line, date: found.map_or((0, 0), |found| (found.start, found.end)), utf8 });
        }
    }

    /// Whether the automata of a jail think that the line may match.
    fn is_possible(&mut self, index: usize, line: Line<'_>, here: Here) -> bool {
        if self.scanner.filters[index].record.maxlines > 1 {
            return true;
        }
        let (start, end) = match here.found {
            Some(found) if here.valid => (found.start, found.end),
            // A date that is none (30 February): whether it is cut out depends on the line before.
            Some(found) if found.start < found.end => return true,
            _ => (0, 0),
        };
        let pieces = [&line.text.as_bytes()[..start], &line.text.as_bytes()[end..]];
        let ascii = line.text.is_ascii();
        let automata = self.scanner.automata(index);
        let caches = &mut self.caches[index];
        if caches.is_flooded() {
            return true;
        }
        let may_match = |automaton: &Option<Automaton>, cache: &mut Option<set::Cache>| {
            let Some(automaton) = automaton else { return true };
            let cache = cache.get_or_insert_with(|| automaton.cache());
            if ascii {
                return automaton.decide_ascii(cache, pieces) != Some(false);
            }
            automaton.may_match(cache, &[pieces[0], pieces[1], b"\n"])
        };
        let may = may_match(&automata.first, &mut caches.first) && may_match(&automata.second, &mut caches.second);
        if !may {
            self.came_this_far(index, false);
        }
        may
    }

    /// Takes note of a line that came as far as the automata of a jail.
    fn came_this_far(&mut self, index: usize, matched: bool) {
        self.caches[index].note(matched, self.scanner.filters[index].record.failregex.len());
    }

    /// The exact judgement; whether a failregex matched.
    fn judge(&mut self, index: usize, line: Line<'_>, here: Here) -> bool {
        let jail = &mut self.jails[index];
        if !here.valid {
            self.dating.tell(index, self.block, self.exact, jail, self.clock);
        }
        let filter = &self.scanner.filters[index].record;
        let found = (here.found, self.dating.time(index, here, line.text, self.exact, self.clock));
        let (state, failures) = (&mut *jail.state, &mut jail.failures);
        let options = record::Options { cut: line.cut, ..jail.options };
        let verdict = filter.line_timed(state, self.exact, line.text, found, self.clock, options, failures);
        jail.tally.add(&verdict, line.text);
        verdict.matched
    }
}

/// Puts U+FFFD in place of what is no UTF-8.
fn decode(bytes: &[u8], text: &mut String) {
    text.clear();
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        if !chunk.invalid().is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
}
