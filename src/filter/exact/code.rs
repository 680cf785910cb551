//! The instructions of a pattern, in two forms: one for speed, with runs of a class as single
//! instructions, and a strict one, in which every choice can be remembered. There a run without an
//! end remembers its places itself; other runs, and those in a pattern tried aside, are spelled
//! out, so that every choice is an instruction of its own.

use super::class::{Next, Set};
use crate::filter::syntax::Assertion;

/// How a run of one class chooses its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Longest,
    Shortest,
    /// The longest, and no other.
    Only,
}

/// Characters of one class, several times.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) set: u32,
    /// Bounds in characters; `u32::MAX`: none.
    pub(super) min: u32,
    pub(super) max: u32,
    /// What may come behind it.
    pub(super) follow: u32,
    /// As those of a [`Choice`].
    pub(super) memo: u32,
    pub(super) conditions: (u32, u32),
}

/// What else a choice knows.
#[derive(Clone, Debug)]
pub(super) struct Choice {
    /// What may come next on the first and on the second way.
    pub(super) first: u32,
    pub(super) second: u32,
    /// Number of its first place in the memory; it has one for each state of its conditions.
    pub(super) memo: u32,
    pub(super) conditions: (u32, u32),
}

/// What the future may depend on besides the place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// Whether a group is set.
    Group(u32),
    /// Whether the loop with this register has consumed nothing in this turn.
    Loop(u32),
}

/// A pattern that is tried aside; it ends in `Done`.
#[derive(Clone, Debug)]
pub(super) struct Aside {
    pub(super) next: u32,
    /// Characters to step back first.
    pub(super) behind: u32,
    pub(super) negative: bool,
    /// It captures nothing, so its result depends on the place alone.
    pub(super) pure: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Op {
    Byte(u8),
    /// Part of the pool of literals.
    Literal {
        start: u32,
        end: u32,
    },
    Class(u32),
    Run(u32, Way),
    Split {
        first: u32,
        second: u32,
        choice: u32,
    },
    Jump(u32),
    Save(u32),
    Assert(Assertion),
    /// Notes in a register where a turn of a loop begins.
    Turn(u32),
    /// Goes to `exit` if the turn has consumed nothing.
    Turned {
        register: u32,
        exit: u32,
    },
    Look(u32),
    Atomic(u32),
    Backref {
        group: u32,
        ignore_case: bool,
    },
    IfSet {
        group: u32,
        no: u32,
    },
    /// The end of a pattern tried aside.
    Done,
    Match,
}

/// For each choice of the fast form and kind of next byte where to go on; a choice that leads to
/// another is passed over.
#[derive(Clone, Debug)]
pub(super) struct Ways {
    pub(super) table: Vec<u16>,
    /// The kind of each byte, and of the end: for all choices those of one kind are the same.
    pub(super) kinds: Box<[u8; 257]>,
    /// How many kinds there are.
    pub(super) width: usize,
}

/// In [`Ways`]: no way is possible.
pub(super) const NO_WAY: u16 = u16::MAX;
/// In [`Ways`]: both ways are.
pub(super) const BOTH_WAYS: u16 = u16::MAX - 1;

/// Where a match can begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anchor {
    /// Anywhere.
    None,
    /// At the beginning of the text.
    Text,
    /// At the beginning of a line.
    Line,
}

/// A compiled pattern in one of its forms.
#[derive(Clone, Debug)]
pub(super) struct Code {
    pub(super) ops: Vec<Op>,
    pub(super) sets: Vec<Set>,
    pub(super) literals: Vec<u8>,
    pub(super) runs: Vec<Run>,
    pub(super) choices: Vec<Choice>,
    pub(super) conditions: Vec<Condition>,
    pub(super) asides: Vec<Aside>,
    pub(super) nexts: Vec<Next>,
    /// Places in the memory for each position of the text.
    pub(super) memos: u64,
    /// What a match may begin with.
    pub(super) first: Next,
}

/// What the compiler finds out besides.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) anchor: Anchor,
    /// Registers of loops, behind the borders of the groups.
    pub(super) registers: u32,
    /// The outcome depends on more than place and conditions.
    pub(super) backrefs: bool,
    /// A pattern that is tried aside captures, so that it has to be run each time.
    pub(super) captures_aside: bool,
    /// There are more conditions than the memory tells apart.
    pub(super) too_conditional: bool,
}

impl Code {
    pub(super) fn here(&self) -> u32 {
        self.ops.len() as u32
    }

    pub(super) fn choice(&mut self, conditions: (u32, u32)) -> u32 {
        self.choices.push(Choice { first: 0, second: 0, memo: 0, conditions });
        self.choices.len() as u32 - 1
    }
}
