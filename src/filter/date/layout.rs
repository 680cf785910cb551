//! The quick way to recognise a date: a small matcher for short ASCII texts.
//!
//! It is compiled from the same pattern as the exact program and tries things in the same
//! order, so it finds the same span; where it cannot be certain (a byte beyond ASCII in
//! sight, too many attempts, a construct it does not know) it says so, and the exact
//! program decides. What makes it quick: the parts of a date (month, hour …) are one
//! instruction each, and the set of bytes that may follow leaves nearly always one way.

mod compile;
mod machine;

use super::clock::Clock;
use super::part::{Next, Part, is_word};
use machine::Machine;

/// More groups than any sensible date has; patterns with more go the general way.
const MAX_GROUPS: usize = 20;

/// One instruction.
#[derive(Clone, Copy, Debug)]
pub(super) enum Op {
    Byte(u8),
    Set {
        ascii: u128,
        high: bool,
    },
    /// A single-character class several times; `next` filters where it may stop.
    Run {
        ascii: u128,
        high: bool,
        min: u32,
        max: u32,
        lazy: bool,
        next: Next,
    },
    /// Goes on at the next instruction if that works, else at `other`.
    Split {
        other: u16,
        first: Next,
        second: Next,
    },
    /// The same, `other` first.
    SplitLazy {
        other: u16,
        first: Next,
        second: Next,
    },
    Jump(u16),
    Save {
        slot: u8,
        always: bool,
    },
    Part {
        part: Part,
        group: u8,
        always: bool,
        next: Next,
    },
    Back {
        group: u8,
        ignore_case: bool,
    },
    /// What follows up to `Match` has to match (or not) from `behind` bytes before here; then on at `other`.
    Look {
        other: u16,
        behind: u32,
        negative: bool,
    },
    Start,
    LineStart,
    End,
    VeryEnd,
    LineEnd,
    Boundary {
        wanted: bool,
    },
    /// Word bound before a date: line start, word boundary, or a non-word character follows.
    Before,
    /// Word bound after a date.
    After,
    Match,
}

/// The compiled form.
#[derive(Clone, Debug)]
pub struct Layout {
    ops: Box<[Op]>,
    first: Next,
    at_start: bool,
    bound: bool,
    clock: Option<Clock>,
    only_after: Option<&'static [u8]>,
}

/// What came of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is here.
    Match,
    /// It is not there.
    No,
    /// The exact program has to say.
    Unsure,
}

/// Where the groups of a match stand, in bytes; group 0 is the whole match.
#[derive(Clone, Copy, Debug)]
pub struct Groups {
    spans: [(u32, u32); MAX_GROUPS + 1],
}

const UNSET: (u32, u32) = (u32::MAX, u32::MAX);

impl Groups {
    /// Nothing is set.
    #[must_use]
    pub fn new() -> Groups {
        Groups { spans: [UNSET; MAX_GROUPS + 1] }
    }

    /// The span of a group.
    #[must_use]
    pub fn get(&self, group: u32) -> Option<(usize, usize)> {
        match self.spans.get(group as usize) {
            Some(&(start, end)) if end != u32::MAX && start != u32::MAX => Some((start as usize, end as usize)),
            _ => None,
        }
    }
}

impl Default for Groups {
    fn default() -> Groups {
        Groups::new()
    }
}

/// Whether the date must stand apart from words, and which groups are what.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The word bound before it.
    pub before: bool,
    /// The word bound after it.
    pub after: bool,
    /// Groups whose content is one part of a date.
    pub parts: Vec<(u32, Part)>,
    /// It begins at the start of the line, one byte later, or right after this text only.
    pub only_after: Option<&'static [u8]>,
}

impl Layout {
    /// Searches `text[from..]`, the leftmost match; what stands before `from` is seen by the
    /// bounds. Only the cut group is set. `ascii` says whether the whole text is ASCII.
    #[inline]
    pub fn search(&self, text: &[u8], from: usize, ascii: impl FnOnce() -> bool, groups: &mut Groups) -> Answer {
        if self.at_start {
            // Most lines that are not for this template show it at once.
            let possible = from == 0
                && self.first.allows(text.first().copied())
                && self
                    .clock
                    .as_ref()
                    .is_none_or(|clock| clock.next(text, 0, false).is_some_and(|(first, _)| first == 0));
            return if possible { Machine::new(&self.ops, text, groups).run::<false>(0, 0, 0) } else { Answer::No };
        }
        if let Some(before) = self.only_after {
            return self.search_after(text, from, before, groups);
        }
        let mut machine = Machine::new(&self.ops, text, groups);
        let Some(clock) = &self.clock else { return self.search_in(&mut machine, from, text.len()) };
        let ascii = ascii();
        let mut at = from;
        while let Some((first, last)) = clock.next(text, at, ascii) {
            match self.search_in(&mut machine, first, last) {
                Answer::No => at = last + 1,
                found => return found,
            }
        }
        Answer::No
    }

    /// Tries the two places at the start of the line and those after a text.
    fn search_after(&self, text: &[u8], from: usize, before: &[u8], groups: &mut Groups) -> Answer {
        let rest = &text[from..];
        let places = (from..2).chain(memchr::memmem::find_iter(rest, before).map(|at| from + at + before.len()));
        let mut machine = Machine::new(&self.ops, text, groups);
        // The text before a place may stand before `from`.
        let behind = text[..from].ends_with(before).then_some(from);
        for at in behind.into_iter().chain(places).filter(|at| *at <= text.len()) {
            match self.search_in(&mut machine, at, at) {
                Answer::No => {}
                found => return found,
            }
        }
        Answer::No
    }

    /// Matches at one place, and sets all groups.
    pub fn match_at(&self, text: &[u8], at: usize, groups: &mut Groups) -> Answer {
        Machine::new(&self.ops, text, groups).run::<true>(0, at, at)
    }

    /// Tries every start from one place to another.
    fn search_in(&self, machine: &mut Machine<'_>, from: usize, to: usize) -> Answer {
        let text = machine.text;
        for at in from..=to {
            let byte = text.get(at).copied();
            match byte {
                // Not the first byte of a character.
                Some(0x80..=0xBF) => continue,
                Some(0xC0..) if self.first.high => return Answer::Unsure,
                _ => {}
            }
            if self.first.allows(byte) {
                // In the middle of a word.
                if self.bound && at > 0 && byte.is_some_and(is_word) && is_word(text[at - 1]) {
                    continue;
                }
                match machine.attempt::<false>(0, at, at) {
                    Answer::No => {}
                    found => return found,
                }
            }
        }
        Answer::No
    }
}
