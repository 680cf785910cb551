//! A line without its date against the regular expressions of a filter.

use std::sync::Arc;

use super::buffer::{self, Buffer};
use super::identify::{self, Identity};
use super::session::{self, Groups, Sessions};
use super::{Filter, Options, Parts, Regex, Verdict, Which};
use crate::address::Id;
use crate::filter::exact::{Cache, Outcome};
use crate::filter::{Datum, Failure, Match, Unresolved, Who};
use crate::time::Time;

/// Stands for the lost end of a line: no character of a word, and none that a filter names.
pub(super) const LOST: &str = "\u{fffd}";

/// What each regular expression said about a line.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// How the line was judged.
    pub verdict: Verdict,
    /// The groups of the prefregex, if it matched.
    pub prefix: Option<Groups>,
    /// Indices of the ignoreregexes that matched, each as often as it was asked: once for the
    /// line, or once for every failregex that matched.
    pub ignored: Vec<usize>,
    /// The failregexes that matched and were not excused, in order.
    pub hits: Vec<Hit>,
    /// Lines before this one that a match over several lines has used up.
    pub earlier: Vec<Match>,
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

/// What a report tells beside the failures of lines that are matched one by one.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    /// Failregexes that matched without naming anybody yet.
    pub pending: Vec<usize>,
    /// Lines that an ignoreregex excused after a failregex had matched, with the index of the first.
    pub ignored: Vec<(usize, Arc<str>)>,
}

/// Where results go.
pub(super) enum Sink<'a> {
    /// What is to be counted.
    Failures(&'a mut Vec<Failure>),
    /// Everything that matched.
    Trace(&'a mut Trace),
}

/// The lines that a match tells.
pub(super) enum Lines<'a> {
    /// One, made when it is needed.
    One(&'a dyn Fn() -> Match),
    /// Those of a filter that matches over several lines.
    Several {
        /// Those the texts are made of.
        all: Vec<Match>,
        /// What is left of them, once that is less.
        rest: Option<Vec<Match>>,
    },
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
    pub watch: Option<&'a mut Watch>,
}

impl Judge<'_, '_> {
    /// Judges a line, together with those before it if the filter wants that; `text` is
    /// scratch memory.
    pub fn parts(mut self, parts: &Parts<'_>, text: &mut String, buffer: &mut Buffer) {
        if self.filter.maxlines > 1 {
            buffer.push(parts.whole(), self.filter.maxlines as usize);
            let all = std::mem::take(&mut buffer.lines);
            buffer::join(&all, text);
            let mut lines = Lines::Several { all, rest: None };
            self.end(text);
            self.run(text, &mut lines);
            if let Lines::Several { all, rest } = lines {
                buffer.lines = rest.unwrap_or(all);
            }
        } else {
            text.clear();
            text.push_str(&parts.line[..parts.start]);
            text.push_str(&parts.line[parts.end..]);
            text.push('\n');
            self.end(text);
            self.run(text, &mut Lines::One(&|| parts.whole()));
        }
        let Verdict { matched, ignored, unresolved, .. } = self.verdict;
        if self.options.cut && !*matched && ignored.is_none() {
            unresolved.get_or_insert(Unresolved::Cut);
        }
    }

    /// Puts something in place of the lost end of a line, so that `$` does not take the cut for
    /// the end.
    fn end(&self, text: &mut String) {
        if self.options.cut {
            text.insert_str(text.len() - 1, LOST);
        }
    }

    fn run(&mut self, text: &mut String, lines: &mut Lines<'_>) {
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
                trace.prefix = Some(prefix.groups(self.cache, text));
            }
            let content = prefix.content(self.cache).filter(|_| matches!(lines, Lines::One(_)));
            base = prefix.groups_without(self.cache, text, content);
            if let Some((_, start, end)) = content {
                text.truncate(end);
                text.drain(..start);
                text.push('\n');
            } else if let Some(index) = base.iter().position(|(name, _)| &**name == "content")
                && let Some(Datum::Text(content)) = base.remove(index).1
                && !content.is_empty()
            {
                text.clear();
                text.push_str(&content);
                text.push('\n');
                if let Lines::Several { rest, .. } = lines {
                    *rest = Some(vec![Match { line: content, date: (0, 0) }]);
                }
            }
        }
        for (index, regex) in filter.failregex.iter().enumerate() {
            if !self.hit(regex, Which::Failregex(index), text) {
                continue;
            }
            if self.matched(index, regex, &base, text, lines) {
                return;
            }
            // the next ones see what this match has left
            if let Lines::Several { rest: Some(rest), .. } = lines {
                buffer::join(rest, text);
            }
        }
    }

    fn hit(&mut self, regex: &Regex, which: Which, text: &str) -> bool {
        match regex.search(self.cache, text) {
            // 192.0.2.12 may have been 192.0.2.123
            Outcome::Match if self.options.cut && regex.names_the_cut(self.cache, text) => {
                self.verdict.unresolved = Some(Unresolved::Cut);
                self.verdict.undecided.get_or_insert(which);
                false
            }
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
    fn matched(&mut self, index: usize, regex: &Regex, base: &Groups, text: &str, lines: &mut Lines<'_>) -> bool {
        self.verdict.matched = true;
        let all = self.all();
        let mut groups = base.clone();
        for (name, value) in regex.groups(self.cache, text) {
            if value.is_some() || !self.options.keep_prefix_values {
                session::set(&mut groups, &name, value);
            }
        }
        let mut left = None;
        let matches = match lines {
            Lines::One(whole) => vec![whole()],
            Lines::Several { all, .. } => {
                let span = self.cache.group(0).unwrap_or_default();
                let divided = buffer::divide(all, text, span, &regex.skipped(self.cache, text));
                left = Some(divided.rest);
                divided.matched
            }
        };
        let excused = match left {
            Some(_) if !self.filter.ignoreregex.is_empty() => {
                let mut covered = String::new();
                buffer::join(&matches, &mut covered);
                self.excused(&covered)
            }
            _ => self.excused(text),
        };
        let unknown = self.undated && self.time.is_none() && self.options.findtime.is_some();
        if let Lines::Several { rest, .. } = lines
            && (excused || !unknown)
        {
            *rest = left;
        }
        if excused {
            if let (Some(watch), Some(index), Some(line)) = (&mut self.watch, self.verdict.ignored, matches.last()) {
                watch.ignored.push((index, line.line.clone()));
            }
            return !all;
        }
        self.verdict.undated |= self.undated;
        if unknown {
            return false;
        }
        let id = groups.iter().find_map(|(name, value)| match value {
            Some(Datum::Text(id)) if &**name == "mlfid" => Some(id.clone()),
            _ => None,
        });
        let (mut groups, users, matches, nofail) = match &id {
            Some(id) => {
                let session = self.sessions.merge(id, groups, matches, self.now);
                if session.nofail && !all {
                    return true;
                }
                let session = session.clone();
                (session.groups, session.users, session.matches, session.nofail)
            }
            None => {
                let quiet = groups.iter().any(|(name, value)| &**name == "nofail" && value.is_some());
                (groups, Vec::new(), matches, quiet)
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
                } else if let Some(watch) = &mut self.watch {
                    watch.pending.push(index);
                }
            }
        }
        !all
    }
}
