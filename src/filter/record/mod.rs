//! What a line means to one filter: prefix, patterns, exceptions, and sessions over several lines.
//!
//! The order of effects is Fail2Ban's, because filters are written for it: the first failregex
//! that matches wins, and exceptions come early or late depending on how many there are.

use std::sync::Arc;

use super::date::{self, Dates, Found};
use super::exact::{Cache, Outcome, Program};
use super::syntax::Pattern;
use super::{Clock, Data, Datum, Failure, Match, Unresolved};
use crate::config::UseDns;
use crate::time::Time;
use identify::Identity;
use moment::Last;
use session::{Groups, Sessions};

pub mod identify;
pub mod moment;
pub mod session;

/// One compiled regular expression.
#[derive(Clone, Debug)]
pub struct Regex {
    /// As the administrator wrote it.
    pub source: String,
    /// With its tags replaced.
    pub text: String,
    /// Its tree, for the over-approximation.
    pub pattern: Arc<Pattern>,
    program: Program,
    names: Vec<(Arc<str>, u32)>,
}

impl Regex {
    /// Compiles a parsed pattern.
    #[must_use]
    pub fn new(source: String, text: String, pattern: Pattern) -> Regex {
        let program = Program::new(&pattern);
        let names = pattern.names.iter().map(|(name, index)| (Arc::from(name.as_str()), *index)).collect();
        Regex { source, text, pattern: Arc::new(pattern), program, names }
    }

    /// The named groups of the last match, alternatives merged.
    fn groups(&self, cache: &Cache, text: &str) -> Groups {
        let value = |index| cache.group(index).map(|(start, end)| Datum::Text(text[start..end].into()));
        let mut groups: Groups = self.names.iter().map(|(name, index)| (name.clone(), value(*index))).collect();
        self.merge_alternatives(&mut groups);
        groups
    }

    /// `alt_user` and `alt_user_1` stand in for `user` where that is unset or empty.
    fn merge_alternatives(&self, groups: &mut Groups) {
        let mut names: Vec<&Arc<str>> = self.names.iter().map(|(name, _)| name).collect();
        names.retain(|name| name.starts_with("alt_"));
        names.sort();
        let full = |value: &Option<Datum>| matches!(value, Some(Datum::Text(text)) if !text.is_empty());
        for name in names {
            let target = &name[4..];
            let target = match target.rsplit_once('_') {
                Some((head, digits)) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => head,
                _ => target,
            };
            let Some((_, value)) = groups.iter().find(|(known, value)| known == name && full(value)) else { continue };
            let value = value.clone();
            if !groups.iter().any(|(known, value)| &**known == target && full(value)) {
                session::set(groups, &Arc::from(target), value);
            }
        }
    }
}

/// A compiled filter, shared by all logs of a jail. Lines are matched one at a time.
#[derive(Debug)]
pub struct Filter {
    /// Has to match first; its group `content` is what the others see.
    pub prefregex: Option<Regex>,
    /// Recognise failures.
    pub failregex: Vec<Regex>,
    /// Exceptions.
    pub ignoreregex: Vec<Regex>,
    /// Where the time stands; the same for all filters with the same date patterns.
    pub dates: Arc<Dates>,
    /// What becomes of host names.
    pub usedns: UseDns,
}

/// What the caller wants, and what it knows of the log.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// The log has been read to its end once: its lines are of now.
    pub in_operation: bool,
    /// Lines older than this many seconds do not count; `None` leaves all times alone.
    pub findtime: Option<f64>,
    /// Groups that took no part leave the prefix's values alone, as since Fail2Ban 1.1.
    pub keep_prefix_values: bool,
}

/// What a filter remembers of one log.
#[derive(Debug, Default)]
pub struct State {
    pub(super) dates: date::State,
    pub(super) last: Last,
    sessions: Sessions,
    text: String,
}

/// How a line was judged, beside its failures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Index of the ignoreregex that excused the line.
    pub ignored: Option<usize>,
    /// A pattern could not be decided.
    pub unresolved: Option<Unresolved>,
    /// The line was older than `findtime`.
    pub old: bool,
    /// The time was too far from now and was replaced by it.
    pub replaced: bool,
}

impl Filter {
    /// Judges one decoded line without its newline.
    pub fn line(
        &self,
        state: &mut State,
        cache: &mut Cache,
        line: &str,
        clock: &Clock,
        options: Options,
        out: &mut Vec<Failure>,
    ) -> Verdict {
        let found = self.dates.find(&mut state.dates, cache, line, clock.now);
        self.line_at(state, cache, line, found, clock, options, out)
    }

    /// The same for a line whose date has been looked for already.
    #[expect(clippy::too_many_arguments, reason = "what a line means depends on all of them")]
    pub fn line_at(
        &self,
        state: &mut State,
        cache: &mut Cache,
        line: &str,
        found: Option<Found>,
        clock: &Clock,
        options: Options,
        out: &mut Vec<Failure>,
    ) -> Verdict {
        let mut verdict = Verdict::default();
        let (mut start, mut end) = found.map_or((0, 0), |found| (found.start, found.end));
        let mut own = None;
        if let Some(found) = found.filter(|found| found.start < found.end) {
            own = self.dates.value(cache, line, found, clock).map(|time| (time, &line[start..end]));
        }
        let moment = state.last.next(own, found.is_some_and(|found| found.start == found.end), clock, options);
        (verdict.replaced, verdict.old) = (moment.replaced, moment.old);
        if moment.old {
            return verdict;
        }
        let mut inherited = "";
        if moment.inherited {
            (start, end) = (0, 0);
            inherited = state.last.text();
        }
        let time = moment.time;
        let mut text = std::mem::take(&mut state.text);
        text.clear();
        text.push_str(&line[..start]);
        text.push_str(&line[end..]);
        text.push('\n');
        let date = (start as u32, if inherited.is_empty() { end } else { inherited.len() } as u32);
        let whole = || Match { line: format!("{inherited}{line}").into(), date };
        self.judge(&mut state.sessions, cache, &mut text, &whole, time, clock.now, options, &mut verdict, out);
        state.text = text;
        verdict
    }

    #[expect(clippy::too_many_arguments, reason = "what a line means depends on all of them")]
    fn judge(
        &self,
        sessions: &mut Sessions,
        cache: &mut Cache,
        text: &mut String,
        whole: &dyn Fn() -> Match,
        time: Option<Time>,
        now: Time,
        options: Options,
        verdict: &mut Verdict,
        out: &mut Vec<Failure>,
    ) {
        let mut hit = |regex: &Regex, text: &str, cache: &mut Cache| match regex.program.search(cache, text, 0) {
            Outcome::Match => true,
            Outcome::NoMatch => false,
            Outcome::Unresolved => {
                verdict.unresolved = Some(Unresolved::Steps);
                false
            }
        };
        let excused = self.ignoreregex.len();
        if excused > 0 && excused + 2 < self.failregex.len() {
            verdict.ignored = self.ignoreregex.iter().position(|regex| hit(regex, text, cache));
            if verdict.ignored.is_some() {
                return;
            }
        }
        let mut base = Groups::new();
        if let Some(prefix) = &self.prefregex {
            if !hit(prefix, text, cache) {
                return;
            }
            base = prefix.groups(cache, text);
            let content = base.iter().position(|(name, value)| {
                &**name == "content" && matches!(value, Some(Datum::Text(text)) if !text.is_empty())
            });
            if let Some((_, Some(Datum::Text(content)))) = content.map(|index| base.remove(index)) {
                text.clear();
                text.push_str(&content);
                text.push('\n');
            }
        }
        for (index, regex) in self.failregex.iter().enumerate() {
            if !hit(regex, text, cache) {
                continue;
            }
            let mut groups = base.clone();
            for (name, value) in regex.groups(cache, text) {
                if value.is_some() || !options.keep_prefix_values {
                    session::set(&mut groups, &name, value);
                }
            }
            verdict.ignored = self.ignoreregex.iter().position(|regex| hit(regex, text, cache));
            if verdict.ignored.is_some() || (time.is_none() && options.findtime.is_some()) {
                return;
            }
            let id = groups.iter().find_map(|(name, value)| match value {
                Some(Datum::Text(id)) if &**name == "mlfid" => Some(id.clone()),
                _ => None,
            });
            let (groups, users, matches) = match &id {
                Some(id) => {
                    let session = sessions.merge(id, groups, &[whole()], now);
                    if session.nofail {
                        return;
                    }
                    (session.groups, session.users, session.matches)
                }
                None => (groups, Vec::new(), vec![whole()]),
            };
            let (who, address) = match identify::identify(&groups, self.usedns) {
                Identity::Known(who, address) => (who, address),
                Identity::Nobody => return,
                Identity::Missing => match &id {
                    Some(id) => return sessions.wait(id),
                    None => continue,
                },
            };
            let mut data: Data = groups.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
            if !users.is_empty() {
                data.push((Arc::from("users"), Datum::Set(users)));
            }
            out.push(Failure { regex: index, who, time, address, matches, data });
            return;
        }
    }
}
