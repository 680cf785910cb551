//! Where in a line the time stands, and what time it is.
//!
//! Finding the place and computing the value are two steps, because only lines that a
//! pattern matches need the value.

use super::Clock;
use super::exact::Cache;
use crate::time::Time;

/// The compiled templates of a filter, in order; shared by all logs of a jail.
#[derive(Debug)]
pub struct Dates {}

/// What was learnt from one log: which template was used last, and where.
#[derive(Debug, Default)]
pub struct State {}

/// A place in a line that reads as a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// First byte of the part that is cut out of the line.
    pub start: usize,
    /// First byte after it.
    pub end: usize,
    /// Index of the template.
    pub template: usize,
}

impl Dates {
    /// Finds the time in a line and learns from it.
    pub fn find(&self, _state: &mut State, _cache: &mut Cache, _line: &str, _now: Time) -> Option<Found> {
        None
    }

    /// The time that was found; `None` if it is no valid one (30 February).
    pub fn value(&self, _cache: &mut Cache, _line: &str, _found: Found, _clock: &Clock) -> Option<Time> {
        None
    }
}
