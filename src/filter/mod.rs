//! Lines to failures. Pure: no clock, no file, no process; whoever calls says what time it is.
//!
//! A [`Filter`] is compiled once and shared by all logs of a jail; what it has learnt of one
//! log (the last date, the position of the date, sessions that are not yet decided) is that
//! log's [`record::State`].

use std::sync::Arc;

use crate::address::Id;
use crate::time::Time;

pub mod approximate;
pub mod date;
pub mod exact;
pub mod literals;
pub mod record;
pub mod regular;
pub mod scan;
pub mod set;
pub mod syntax;
#[rustfmt::skip]
pub mod unicode;

pub use record::Filter;

/// What time it is, for a filter.
#[derive(Clone, Debug)]
pub struct Clock {
    /// Now.
    pub now: Time,
    /// The zone of the machine, for times that do not name one.
    pub zone: jiff::tz::TimeZone,
}

/// A line that a filter recognised: who failed, and when.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// Index of the failregex that matched, from 0.
    pub regex: usize,
    /// Who is to be counted.
    pub who: Who,
    /// When it happened: the time in the line, or what stands in for it. `None` if the line has
    /// none and nothing could.
    pub time: Option<Time>,
    /// The address, where the identifier is something else.
    pub address: Option<Id>,
    /// The matched lines, oldest first. The first part is what stood before the date.
    pub matches: Vec<Match>,
    /// Named groups in lower case with their texts, in the order of the pattern; unset groups are absent.
    pub data: Data,
}

/// Captured values by name.
pub type Data = Vec<(Arc<str>, Datum)>;

/// A captured value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Datum {
    /// A text.
    Text(Arc<str>),
    /// Several texts in no order: the users of a session.
    Set(Vec<Arc<str>>),
    /// Several texts in order: a `tuple_` group.
    Tuple(Vec<Option<Arc<str>>>),
}

/// Who a failure is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// An identifier, ready to be counted.
    Id(Id),
    /// A host name that has to be looked up first (`usedns = yes` or `warn`).
    Name(Arc<str>),
}

/// One matched line in its three parts: before the date, the date, after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// The line without its newline, date included.
    pub line: Arc<str>,
    /// Where in it the date stands, in bytes; empty if it has none.
    pub date: (u32, u32),
}

/// A line that could not be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unresolved {
    /// It was longer than [`crate::line::MAX_LINE`], and what is left of it does not match, or
    /// not without doubt who is meant.
    Cut,
    /// A pattern with back-references needed more steps than allowed.
    Steps,
}
