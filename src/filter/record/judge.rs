//! A line without its date against the regular expressions of a filter.

use std::sync::Arc;

use super::identify::{self, Identity};
use super::session::{self, Groups, Sessions};
use super::{Filter, Options, Regex, Verdict, Which};
use crate::address::Id;
use crate::filter::exact::{Cache, Outcome};
use crate::filter::{Datum, Failure, Match, Unresolved, Who};
use crate::time::Time;

/// What each regular expression said about a line.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// How the line was judged.
    pub verdict: Verdict,
    /// Whether the prefregex matched.
    pub prefix: bool,
    /// Indices of the ignoreregexes that matched, each as often as it was asked: once for the
    /// line, or once for every failregex that matched.
    pub ignored: Vec<usize>,
    /// The failregexes that matched and were not excused, in order.
    pub hits: Vec<Hit>,
    /// Whether the first match was enough.
    pub(super) first: bool,
}

/// A failregex that matched.
#[derive(Clone, Debug, PartialEq)]
pub struct Hit {
    /// Its index, from 0.
    pub regex: usize,
    /// Who is meant; `None` while a session has not named anybody.
    pub who: Option<Who>,
    /// The address, where the identifier is something else.
    pub address: Option<Id>,
    /// When it happened.
    pub time: Option<Time>,
    /// The matched lines, oldest first.
    pub matches: Vec<Match>,
    /// Named groups, those that took no part included.
    pub groups: Groups,
    /// It has an `<F-NOFAIL>`. A server counts it nevertheless if it belongs to no session.
    pub nofail: bool,
}

/// Where results go.
pub(super) enum Sink<'a> {
    /// What is to be counted.
    Failures(&'a mut Vec<Failure>),
    /// Everything that matched.
    Trace(&'a mut Trace),
}

/// All that judging a line needs.
pub(super) struct Judge<'a, 's> {
    pub filter: &'a Filter,
    pub sessions: &'a mut Sessions,
    pub cache: &'a mut Cache,
    pub time: Option<Time>,
    /// Whether the line should have had a date of its own.
    pub undated: bool,
    pub now: Time,
    pub options: Options,
    pub verdict: &'a mut Verdict,
    pub sink: &'a mut Sink<'s>,
}

impl Judge<'_, '_> {
    /// Judges `text`, which ends in a newline; `whole` makes the line as it is told.
    pub fn run(mut self, text: &mut String, whole: &dyn Fn() -> Match) {
        let filter = self.filter;
        let excused = filter.ignoreregex.len();
        if excused > 0 && excused + 2 < filter.failregex.len() && self.excused(text) {
            return;
        }
        let mut base = Groups::new();
        if let Some(prefix) = &filter.prefregex {
            if !self.hit(prefix, Which::Prefregex, text) {
                return;
            }
            if let Sink::Trace(trace) = &mut self.sink {
                trace.prefix = true;
            }
            base = prefix.groups(self.cache, text);
            if let Some(index) = base.iter().position(|(name, _)| &**name == "content")
                && let Some(Datum::Text(content)) = base.remove(index).1
                && !content.is_empty()
            {
                text.clear();
                text.push_str(&content);
                text.push('\n');
            }
        }
        for (index, regex) in filter.failregex.iter().enumerate() {
            if self.hit(regex, Which::Failregex(index), text) && self.matched(index, regex, &base, text, whole) {
                return;
            }
        }
    }

    fn hit(&mut self, regex: &Regex, which: Which, text: &str) -> bool {
        match regex.search(self.cache, text) {
            Outcome::Match => true,
            Outcome::NoMatch => false,
            Outcome::Unresolved => {
                self.verdict.unresolved = Some(Unresolved::Steps);
                self.verdict.undecided.get_or_insert(which);
                false
            }
        }
    }

    /// Whether the search goes on after a match.
    fn all(&self) -> bool {
        matches!(&self.sink, Sink::Trace(trace) if !trace.first)
    }

    /// Whether an ignoreregex matches.
    fn excused(&mut self, text: &str) -> bool {
        let filter = self.filter;
        let mut found = false;
        for (index, regex) in filter.ignoreregex.iter().enumerate() {
            if !self.hit(regex, Which::Ignoreregex(index), text) {
                continue;
            }
            found = true;
            self.verdict.ignored.get_or_insert(index);
            if let Sink::Trace(trace) = &mut self.sink {
                trace.ignored.push(index);
            }
            if !self.all() {
                break;
            }
        }
        found
    }

    /// Deals with a failregex that has just matched; true if no other is to be tried.
    fn matched(&mut self, index: usize, regex: &Regex, base: &Groups, text: &str, whole: &dyn Fn() -> Match) -> bool {
        self.verdict.matched = true;
        let all = self.all();
        let mut groups = base.clone();
        for (name, value) in regex.groups(self.cache, text) {
            if value.is_some() || !self.options.keep_prefix_values {
                session::set(&mut groups, &name, value);
            }
        }
        if self.excused(text) {
            return !all;
        }
        self.verdict.undated |= self.undated;
        if self.undated && self.time.is_none() && self.options.findtime.is_some() {
            return false;
        }
        let id = groups.iter().find_map(|(name, value)| match value {
            Some(Datum::Text(id)) if &**name == "mlfid" => Some(id.clone()),
            _ => None,
        });
        let (mut groups, users, matches, nofail) = match &id {
            Some(id) => {
                let session = self.sessions.merge(id, groups, &[whole()], self.now);
                if session.nofail && !all {
                    return true;
                }
                (session.groups, session.users, session.matches, session.nofail)
            }
            None => {
                let quiet = groups.iter().any(|(name, value)| &**name == "nofail" && value.is_some());
                (groups, Vec::new(), vec![whole()], quiet)
            }
        };
        let (who, address) = match identify::identify(&groups, self.filter.usedns) {
            Identity::Known(who, address) => (Some(who), address),
            Identity::Nobody => return !all,
            Identity::Missing => match &id {
                Some(id) => {
                    self.sessions.wait(id);
                    (None, None)
                }
                None => return false,
            },
        };
        if !users.is_empty() {
            session::set(&mut groups, &Arc::from("users"), Some(Datum::Set(users)));
        }
        let time = self.time;
        match &mut self.sink {
            Sink::Trace(trace) => trace.hits.push(Hit { regex: index, who, address, time, matches, groups, nofail }),
            Sink::Failures(out) => {
                if let Some(who) = who {
                    let data = groups.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
                    out.push(Failure { regex: index, who, time, address, matches, data });
                }
            }
        }
        !all
    }
}
