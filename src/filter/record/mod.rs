//! What a line means to one filter: prefix, patterns, exceptions, and sessions over several lines.

pub mod identify;
pub mod session;

/// A compiled filter, shared by all logs of a jail.
#[derive(Debug)]
pub struct Filter {}

/// What a filter remembers of one log.
#[derive(Debug, Default)]
pub struct State {}
