//! The tree of a pattern, after its dialect has been dealt with.
//!
//! Flags do not exist here: the parser has turned ignore-case into classes, `(?s)` into a
//! class of everything, `(?m)` into line assertions. What is left says exactly one thing,
//! to the exact matcher as well as to the over-approximation.

use std::sync::Arc;

/// A parsed pattern.
#[derive(Clone, Debug)]
pub struct Pattern {
    /// The whole pattern (group 0).
    pub root: Node,
    /// Number of capturing groups, without group 0.
    pub groups: u32,
    /// Names of groups with their index (from 1), in order of appearance.
    pub names: Vec<(String, u32)>,
}

impl Pattern {
    /// The index of a named group.
    #[must_use]
    pub fn group(&self, name: &str) -> Option<u32> {
        self.names.iter().find(|(n, _)| n == name).map(|(_, index)| *index)
    }
}

/// A part of a pattern.
#[derive(Clone, Debug)]
pub enum Node {
    /// Matches the empty string.
    Empty,
    /// One character of exactly this value.
    Char(char),
    /// One character out of a set.
    Class(Class),
    /// One after the other.
    Concat(Vec<Node>),
    /// The first that leads to a match, in this order.
    Alternate(Vec<Node>),
    /// Several times.
    Repeat {
        /// What is repeated.
        node: Box<Node>,
        /// At least so often.
        min: u32,
        /// At most so often; without a bound if `None`.
        max: Option<u32>,
        /// Which count is tried first.
        greed: Greed,
    },
    /// A capturing group, index from 1.
    Capture {
        /// Index of the group.
        index: u32,
        /// What it captures.
        node: Box<Node>,
    },
    /// Its first match is final; later failure does not come back into it.
    Atomic(Box<Node>),
    /// A condition on the position.
    Assert(Assertion),
    /// A pattern that has to match (or not) here without consuming anything.
    Look {
        /// The pattern.
        node: Box<Node>,
        /// Where it is tried.
        side: Side,
        /// Whether it must *not* match.
        negative: bool,
    },
    /// The text that a group captured; fails if the group is unset.
    Backref {
        /// Index of the group.
        group: u32,
        /// Whether case is ignored.
        ignore_case: bool,
    },
    /// One of two patterns, depending on whether a group is set.
    Conditional {
        /// Index of the group.
        group: u32,
        /// If it is set.
        yes: Box<Node>,
        /// If it is not.
        no: Box<Node>,
    },
}

/// Which number of repetitions is preferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Greed {
    /// As many as possible.
    Greedy,
    /// As few as possible.
    Lazy,
    /// As many as possible, and never fewer afterwards.
    Possessive,
}

/// Where a look-around is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// From here on.
    Ahead,
    /// So that it ends here; the pattern has this fixed width in characters.
    Behind(u32),
}

/// A condition on a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assertion {
    /// The very beginning (`^` without multi-line, `\A`).
    Start,
    /// The end, or before a newline that is the last character (`$` without multi-line).
    End,
    /// The very end (`\Z`).
    VeryEnd,
    /// The beginning or after a newline (`^` with multi-line).
    LineStart,
    /// The end or before a newline (`$` with multi-line).
    LineEnd,
    /// Between a word character and another one, or none.
    WordBoundary {
        /// Whether only ASCII letters, digits and `_` are word characters.
        ascii: bool,
    },
    /// Not such a place.
    NotWordBoundary {
        /// Whether only ASCII letters, digits and `_` are word characters.
        ascii: bool,
    },
}

/// A set of characters, negation already applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    /// Bit n: the ASCII character n is in the set.
    pub ascii: u128,
    /// The rest, from U+0080: sorted, disjoint, inclusive ranges. Shared between patterns,
    /// because `\w` alone has hundreds.
    pub other: Arc<[(char, char)]>,
}

impl Class {
    /// Whether a character is in the set.
    #[must_use]
    pub fn contains(&self, c: char) -> bool {
        if c.is_ascii() {
            return self.ascii >> (c as u32) & 1 == 1;
        }
        let after = self.other.partition_point(|&(first, _)| first <= c);
        after > 0 && self.other[after - 1].1 >= c
    }
}
