//! A line without its date against the regular expressions of a filter.

use std::sync::Arc;

use super::buffer::{self, Buffer};
use super::identify::{self, Identity};
use super::session::{Groups, Sessions, Told};
use super::values::{self, Value, Values};
use super::{Filter, Options, Parts, Regex, Texts, Verdict, Which};
use crate::address::Id;
use crate::filter::exact::{Cache, Outcome, Start};
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

impl<'a> Judge<'a, '_> {
    /// Judges a line, together with those before it if the filter wants that.
    pub fn parts(mut self, parts: &Parts<'_>, texts: &mut Texts, buffer: &mut Buffer) {
        let Texts { whole, content } = texts;
        if self.filter.maxlines > 1 {
            buffer.push(parts.whole(), self.filter.maxlines as usize);
            let all = std::mem::take(&mut buffer.lines);
            buffer::join(&all, whole);
            let mut lines = Lines::Several { all, rest: None };
            self.end(whole);
            self.run(whole, content, &mut lines);
            if let Lines::Several { all, rest } = lines {
                buffer.lines = rest.unwrap_or(all);
            }
        } else {
            whole.clear();
            whole.push_str(&parts.line[..parts.start]);
            whole.push_str(&parts.line[parts.end..]);
            whole.push('\n');
            self.end(whole);
            self.run(whole, content, &mut Lines::One(&|| parts.whole()));
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

    /// The expressions in their order; `scratch` is memory for what they see instead of the line.
    fn run<'t>(&mut self, whole: &'t str, scratch: &mut String, lines: &mut Lines<'_>)
    where
        'a: 't,
    {
        let filter = self.filter;
        let excused = filter.ignoreregex.len();
        if excused > 0 && excused + 2 < filter.failregex.len() && self.excused(whole) {
            return;
        }
        let mut base = Values::default();
        let mut seen = None;
        if let Some(prefix) = &filter.prefregex {
            if !self.hit(prefix, Which::Prefregex, whole) {
                return;
            }
            if let Sink::Trace(trace) = &mut self.sink {
                trace.prefix = Some(prefix.groups(self.cache, whole));
            }
            let span = prefix.content(self.cache);
            prefix.values(self.cache, whole, &mut base, false);
            if let Some(Some(Value::Text(content))) = base.remove(values::CONTENT)
                && !content.is_empty()
            {
                seen = Some((content, span));
            }
        }
        let text = match (seen, &mut *lines) {
            (None, Lines::One(_)) => Some(whole),
            // mostly it is the rest of the line, which needs no copy
            (Some((_, Some((start, end)))), Lines::One(_)) if &whole[end..] == "\n" => Some(&whole[start..]),
            (seen, lines) => {
                scratch.clear();
                scratch.push_str(seen.map_or(whole, |(content, _)| content));
                if let Some((content, _)) = seen {
                    scratch.push('\n');
                    if let Lines::Several { rest, .. } = lines {
                        *rest = Some(vec![Match { line: content.into(), date: (0, 0) }]);
                    }
                }
                None
            }
        };
        let mut start = Start::of(text.unwrap_or(scratch));
        for (index, regex) in filter.failregex.iter().enumerate() {
            let text = text.unwrap_or(scratch);
            if !regex.may_begin(start) || !self.hit(regex, Which::Failregex(index), text) {
                continue;
            }
            if self.matched(index, regex, &base, text, lines) {
                return;
            }
            // the next ones see what this match has left
            if let Lines::Several { rest: Some(rest), .. } = lines {
                buffer::join(rest, scratch);
                start = Start::of(scratch);
            }
        }
    }

    #[inline]
    fn hit(&mut self, regex: &Regex, which: Which, text: &str) -> bool {
        let outcome = match which {
            Which::Prefregex => regex.search(self.cache, text),
            Which::Failregex(_) | Which::Ignoreregex(_) => regex.search_unlikely(self.cache, text),
        };
        match outcome {
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
        let start = Start::of(text);
        for (index, regex) in filter.ignoreregex.iter().enumerate() {
            if !regex.may_begin(start) || !self.hit(regex, Which::Ignoreregex(index), text) {
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
    fn matched(&mut self, index: usize, regex: &Regex, base: &Values<'_>, text: &str, lines: &mut Lines<'_>) -> bool {
        self.verdict.matched = true;
        let all = self.all();
        let mut values = base.copy();
        regex.values(self.cache, text, &mut values, self.options.keep_prefix_values);
        let mut left = None;
        let mut several = None;
        if let Lines::Several { all, .. } = lines {
            let span = self.cache.group(0).unwrap_or_default();
            let divided = buffer::divide(all, text, span, &regex.skipped(self.cache, text));
            (left, several) = (Some(divided.rest), Some(divided.matched));
        }
        let excused = match &several {
            Some(matches) if !self.filter.ignoreregex.is_empty() => {
                let mut covered = String::new();
                buffer::join(matches, &mut covered);
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
        // copied only for what keeps them
        let add = |matches: &mut Vec<Match>| match (several, lines) {
            (Some(several), _) => matches.extend(several),
            (None, Lines::One(whole)) => matches.push(whole()),
            (None, Lines::Several { .. }) => {}
        };
        let mut matches = Vec::new();
        if excused {
            if let (Some(watch), Some(index)) = (&mut self.watch, self.verdict.ignored) {
                add(&mut matches);
                watch.ignored.extend(matches.pop().map(|last| (index, last.line)));
            }
            return !all;
        }
        self.verdict.undated |= self.undated;
        if unknown {
            return false;
        }
        let id = values.text(values::MLFID);
        let Told { mut groups, users, matches, nofail } = match id {
            Some(id) => self.sessions.merge(id, values, add, self.now, all),
            None => {
                let nofail = values.is_set(values::NOFAIL);
                add(&mut matches);
                Told { groups: self.sessions.groups(&values), users: Vec::new(), matches, nofail }
            }
        };
        if id.is_some() && nofail && !all {
            return true;
        }
        let (who, address) = match identify::identify(&groups, self.filter.usedns) {
            Identity::Known(who, address) => (Some(who), address),
            Identity::Nobody => return !all,
            Identity::Missing => match id {
                Some(id) => {
                    self.sessions.wait(id);
                    (None, None)
                }
                None => return false,
            },
        };
        if !users.is_empty() {
            let users = Some(Datum::Set(users));
            match groups.iter_mut().find(|(name, _)| &**name == "users") {
                Some((_, old)) => *old = users,
                None => groups.push((Arc::from("users"), users)),
            }
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
