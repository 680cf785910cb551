//! What a line means to one filter: prefix, patterns, exceptions, and sessions over several lines.
//!
//! This file deals with the time of a line; [`judge`] with what is left of it. The order of
//! effects is Fail2Ban's, because filters are written for it: the first failregex that matches
//! wins, and exceptions come early or late depending on how many there are.

use std::sync::Arc;

use super::date::{self, Dates, Found};
use super::exact::Cache;
use super::{Clock, Failure, Match, Unresolved};
use crate::config::UseDns;
use crate::line::Record;
use crate::time::Time;
use buffer::Buffer;
use judge::{Judge, Sink};
use moment::{Last, Moment};
use session::Sessions;

pub mod buffer;
pub mod identify;
mod judge;
pub mod moment;
mod regex;
pub mod session;
mod values;

pub use judge::{Hit, Trace, Watch};
pub use regex::Regex;

/// A compiled filter, shared by all logs of a jail.
#[derive(Debug)]
pub struct Filter {
    /// Has to match first; its group `content` is what the others see.
    pub prefregex: Option<Regex>,
    /// Recognise failures.
    pub failregex: Vec<Regex>,
    /// Exceptions.
    pub ignoreregex: Vec<Regex>,
    /// So many lines are matched together, from 1.
    pub maxlines: u32,
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
    /// The line has lost its end ([`crate::line::Block::cut`]): what would depend on it is not taken for a match.
    pub cut: bool,
}

/// What a filter remembers of one log.
#[derive(Debug, Default)]
pub struct State {
    pub(super) dates: date::State,
    pub(super) last: Last,
    sessions: Sessions,
    buffer: Buffer,
    texts: Texts,
    /// Is filled if it is there.
    pub watch: Option<Box<Watch>>,
}

/// Memory for what the expressions see.
#[derive(Debug, Default)]
struct Texts {
    whole: String,
    content: String,
}

impl State {
    /// What was learnt about the dates of the log; [`Dates::uses`] reads it.
    #[must_use]
    pub fn dates(&self) -> &date::State {
        &self.dates
    }
}

/// Which of a filter's regular expressions is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The prefregex.
    Prefregex,
    /// A failregex, index from 0.
    Failregex(usize),
    /// An ignoreregex, index from 0.
    Ignoreregex(usize),
}

/// How a line was judged, beside its failures.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Verdict {
    /// A failregex matched, whether or not that makes a failure.
    pub matched: bool,
    /// Index of the ignoreregex that excused the line.
    pub ignored: Option<usize>,
    /// The line could not be judged: more may be in it than was found. What was found counts.
    pub unresolved: Option<Unresolved>,
    /// The first expression that could not be decided and was taken for one that does not
    /// match; `None` for a line that is only cut.
    pub undecided: Option<Which>,
    /// The line was older than `findtime`.
    pub old: bool,
    /// The time was too far from now and was replaced by it.
    pub replaced: bool,
    /// So many seconds it was from now, then; below 0: before it.
    pub distance: i64,
    /// A failregex matched, but the line has no date of its own.
    pub undated: bool,
    /// There is a date, but no such day or hour.
    pub bad_date: bool,
}

impl Verdict {
    fn of(moment: Moment) -> Verdict {
        let Moment { old, replaced, distance, .. } = moment;
        Verdict { old, replaced, distance, ..Verdict::default() }
    }
}

/// A line cut in two by its date.
struct Parts<'l> {
    line: &'l str,
    /// The date that stands in for the line's own; empty if it has one.
    inherited: &'l str,
    /// The bytes that are cut out.
    start: usize,
    end: usize,
}

impl Parts<'_> {
    fn whole(&self) -> Match {
        if self.inherited.is_empty() {
            return Match { line: self.line.into(), date: (self.start as u32, self.end as u32) };
        }
        Match { line: format!("{}{}", self.inherited, self.line).into(), date: (0, self.inherited.len() as u32) }
    }
}

impl Filter {
    /// Whether lines that no failregex can match have to be shown to the filter nevertheless.
    #[must_use]
    pub fn needs_every_line(&self) -> bool {
        self.maxlines > 1 || self.dates.needs_every_line()
    }

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
        let own = self.own(cache, line, found, clock);
        self.dated(state, cache, line, (found, own), clock, options, &mut Sink::Failures(out))
    }

    /// The same for a line whose date has been read already; `found` is it and its value, if it
    /// is a time that exists.
    #[expect(clippy::too_many_arguments, reason = "what a line means depends on all of them")]
    pub fn line_timed(
        &self,
        state: &mut State,
        cache: &mut Cache,
        line: &str,
        found: (Option<Found>, Option<Time>),
        clock: &Clock,
        options: Options,
        out: &mut Vec<Failure>,
    ) -> Verdict {
        self.dated(state, cache, line, found, clock, options, &mut Sink::Failures(out))
    }

    fn own(&self, cache: &mut Cache, line: &str, found: Option<Found>, clock: &Clock) -> Option<Time> {
        let found = found.filter(|found| found.start < found.end)?;
        self.dates.value(cache, line, found, clock)
    }

    /// Judges one record of a journal: its time is known, so no date is looked for.
    pub fn record(
        &self,
        state: &mut State,
        cache: &mut Cache,
        record: &Record<'_>,
        clock: &Clock,
        options: Options,
        out: &mut Vec<Failure>,
    ) -> Verdict {
        self.stamped(state, cache, record, clock, options, &mut Sink::Failures(out))
    }

    /// [`Filter::trace`] for a record of a journal.
    pub fn trace_record(
        &self,
        state: &mut State,
        cache: &mut Cache,
        record: &Record<'_>,
        clock: &Clock,
        options: Options,
        first: bool,
    ) -> Trace {
        self.traced(state, first, |state, sink| self.stamped(state, cache, record, clock, options, sink))
    }

    fn stamped(
        &self,
        state: &mut State,
        cache: &mut Cache,
        record: &Record<'_>,
        clock: &Clock,
        options: Options,
        sink: &mut Sink<'_>,
    ) -> Verdict {
        let line = String::from_utf8_lossy(record.text);
        // the matched line is told with its time, as Fail2Ban does
        let written = moment::written(record.time, &clock.zone) + " ";
        let moment = state.last.next(Some((record.time, &written)), false, clock, options);
        let parts = Parts { line: &line, inherited: &written, start: 0, end: 0 };
        let State { sessions, buffer, texts, .. } = state;
        let mut verdict = Verdict::of(moment);
        if !moment.old {
            let judge = Judge {
                filter: self,
                sessions,
                cache,
                time: moment.time,
                undated: false,
                now: clock.now,
                options,
                verdict: &mut verdict,
                sink,
                watch: None,
            };
            judge.parts(&parts, texts, buffer);
        }
        verdict
    }

    /// Tries all expressions on a line, for those who want to see which ones match; with `first`
    /// it stops at the first, as [`Filter::line`] does.
    ///
    /// Other than there, matches that name nobody yet or are no failure by themselves are told too.
    pub fn trace(
        &self,
        state: &mut State,
        cache: &mut Cache,
        line: &str,
        clock: &Clock,
        options: Options,
        first: bool,
    ) -> Trace {
        let found = self.dates.find(&mut state.dates, cache, line, clock.now);
        let own = self.own(cache, line, found, clock);
        self.traced(state, first, |state, sink| self.dated(state, cache, line, (found, own), clock, options, sink))
    }

    fn traced(
        &self,
        state: &mut State,
        first: bool,
        judge: impl FnOnce(&mut State, &mut Sink<'_>) -> Verdict,
    ) -> Trace {
        let mut trace = Trace { first, ..Trace::default() };
        // the oldest line of a full buffer makes room, used or not
        let full = usize::from(state.buffer.lines.len() >= self.maxlines as usize);
        let before = state.buffer.lines.get(full..).unwrap_or_default().to_vec();
        trace.verdict = judge(state, &mut Sink::Trace(&mut trace));
        trace.earlier = before;
        trace.earlier.retain(|line| !state.buffer.lines.contains(line));
        trace
    }

    #[expect(clippy::too_many_arguments, reason = "what a line means depends on all of them")]
    fn dated(
        &self,
        state: &mut State,
        cache: &mut Cache,
        line: &str,
        (found, own): (Option<Found>, Option<Time>),
        clock: &Clock,
        options: Options,
        sink: &mut Sink<'_>,
    ) -> Verdict {
        let (start, end) = found.map_or((0, 0), |found| (found.start, found.end));
        let dated = found.filter(|found| found.start < found.end);
        let own = own.map(|time| (time, &line[start..end]));
        // A pattern may say that lines have no date; then none is missed.
        let placeholder = found.is_some() && dated.is_none();
        let moment = state.last.next(own, placeholder, clock, options);
        let mut verdict = Verdict { bad_date: dated.is_some() && own.is_none(), ..Verdict::of(moment) };
        if moment.old {
            return verdict;
        }
        let undated = own.is_none() && !placeholder;
        let State { last, sessions, buffer, texts, watch, .. } = state;
        let parts = match moment.inherited {
            true => Parts { line, inherited: last.text(), start: 0, end: 0 },
            false => Parts { line, inherited: "", start, end },
        };
        let judge = Judge {
            filter: self,
            sessions,
            cache,
            time: moment.time,
            undated,
            now: clock.now,
            options,
            verdict: &mut verdict,
            sink,
            watch: watch.as_deref_mut(),
        };
        judge.parts(&parts, texts, buffer);
        verdict
    }
}
