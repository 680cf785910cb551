//! From a pattern to the instructions of a layout.

use super::{Layout, MAX_GROUPS, Op, Plan};
use crate::filter::date::clock::Clock;
use crate::filter::date::part::{Next, WORD};
use crate::filter::syntax::{Assertion, Class, Greed, Node, Pattern, Side};

/// More instructions than any sensible date has.
const MAX_OPS: usize = 1_000;

impl Layout {
    /// Compiles a pattern (without its bounds); `None` if it holds something only the exact
    /// program can do.
    #[must_use]
    pub fn new(pattern: &Pattern, plan: &Plan, cut: u32) -> Option<Layout> {
        if pattern.groups as usize > MAX_GROUPS {
            return None;
        }
        let mut compiler = Compiler { ops: Vec::new(), plan, cut, referred: Vec::new() };
        referred(&pattern.root, &mut compiler.referred);
        if plan.before {
            compiler.ops.push(Op::Before);
        }
        compiler.node(&pattern.root)?;
        if plan.after {
            compiler.ops.push(Op::After);
        }
        compiler.ops.push(Op::Match);
        if compiler.ops.len() > MAX_OPS {
            return None;
        }
        let mut ops = compiler.ops;
        for at in 0..ops.len() {
            // What may follow, from the back of each instruction that has a choice.
            let next = |from: usize, word: bool| first(&ops, from, word.then_some(true), 0);
            match ops[at] {
                Op::Run { .. } => {
                    let after = next(at + 1, false);
                    if let Op::Run { next, .. } = &mut ops[at] {
                        *next = after;
                    }
                }
                Op::Part { .. } => {
                    let after = next(at + 1, true);
                    if let Op::Part { next, .. } = &mut ops[at] {
                        *next = after;
                    }
                }
                Op::Split { other, .. } | Op::SplitLazy { other, .. } => {
                    let (a, b) = (next(at + 1, false), next(usize::from(other), false));
                    if let Op::Split { first, second, .. } | Op::SplitLazy { first, second, .. } = &mut ops[at] {
                        (*first, *second) = (a, b);
                    }
                }
                _ => {}
            }
        }
        let at_start = ops.iter().find(|op| !matches!(op, Op::Save { .. })).is_some_and(|op| matches!(op, Op::Start));
        let clock = Clock::of(&ops);
        Some(Layout {
            first: first(&ops, 0, None, 0),
            ops: ops.into(),
            at_start,
            bound: plan.before,
            clock,
            only_after: plan.only_after,
        })
    }
}

/// Groups that something refers back to.
fn referred(node: &Node, found: &mut Vec<u32>) {
    match node {
        Node::Backref { group, .. } => found.push(*group),
        Node::Concat(nodes) | Node::Alternate(nodes) => nodes.iter().for_each(|n| referred(n, found)),
        Node::Repeat { node, .. } | Node::Capture { node, .. } | Node::Atomic(node) | Node::Look { node, .. } => {
            referred(node, found);
        }
        _ => {}
    }
}

struct Compiler<'a> {
    ops: Vec<Op>,
    plan: &'a Plan,
    cut: u32,
    referred: Vec<u32>,
}

impl Compiler<'_> {
    fn node(&mut self, node: &Node) -> Option<()> {
        if self.ops.len() > MAX_OPS {
            return None;
        }
        match node {
            Node::Empty => {}
            Node::Char(c) => self.ops.push(Op::Byte(u8::try_from(*c).ok().filter(u8::is_ascii)?)),
            Node::Class(class) => self.ops.push(single(class)),
            Node::Concat(nodes) => nodes.iter().try_for_each(|n| self.node(n))?,
            Node::Alternate(nodes) => {
                let (last, init) = nodes.split_last()?;
                let mut jumps = Vec::new();
                for n in init {
                    let split = self.split(false);
                    self.node(n)?;
                    jumps.push(self.ops.len());
                    self.ops.push(Op::Jump(0));
                    self.aim(split);
                }
                self.node(last)?;
                for jump in jumps {
                    self.aim(jump);
                }
            }
            Node::Repeat { node, min, max, greed } => self.repeat(node, *min, *max, *greed)?,
            Node::Capture { index, node } => {
                let always = *index == self.cut || self.referred.contains(index);
                let group = u8::try_from(*index).ok()?;
                if let Some((_, part)) = self.plan.parts.iter().find(|(g, _)| g == index) {
                    self.ops.push(Op::Part { part: *part, group, always, next: Next::ANY });
                } else {
                    self.ops.push(Op::Save { slot: group * 2, always });
                    self.node(node)?;
                    self.ops.push(Op::Save { slot: group * 2 + 1, always });
                }
            }
            Node::Assert(assertion) => self.ops.push(match assertion {
                Assertion::Start => Op::Start,
                Assertion::LineStart => Op::LineStart,
                Assertion::End => Op::End,
                Assertion::VeryEnd => Op::VeryEnd,
                Assertion::LineEnd => Op::LineEnd,
                Assertion::WordBoundary { .. } => Op::Boundary { wanted: true },
                Assertion::NotWordBoundary { .. } => Op::Boundary { wanted: false },
            }),
            Node::Backref { group, ignore_case } => {
                self.ops.push(Op::Back { group: u8::try_from(*group).ok()?, ignore_case: *ignore_case });
            }
            Node::Look { node, side, negative } => {
                let behind = if let Side::Behind(width) = side { *width } else { 0 };
                let at = self.ops.len();
                self.ops.push(Op::Look { other: 0, behind, negative: *negative });
                self.node(node)?;
                self.ops.push(Op::Match);
                self.aim(at);
            }
            Node::Atomic(_) | Node::Conditional { .. } => return None,
        }
        Some(())
    }

    fn repeat(&mut self, node: &Node, min: u32, max: Option<u32>, greed: Greed) -> Option<()> {
        let lazy = match greed {
            Greed::Greedy => false,
            Greed::Lazy => true,
            Greed::Possessive => return None,
        };
        if (min, max) == (1, Some(1)) {
            return self.node(node);
        }
        let one = match node {
            Node::Char(c) if c.is_ascii() => Some((1 << (*c as u32), false)),
            Node::Class(class) => Some((class.ascii, !class.other.is_empty())),
            _ => None,
        };
        if let Some((ascii, high)) = one {
            self.ops.push(Op::Run { ascii, high, min, max: max.unwrap_or(u32::MAX), lazy, next: Next::ANY });
            return Some(());
        }
        let max = max.filter(|&m| m <= 16)?;
        for _ in 0..min {
            self.node(node)?;
        }
        let mut splits = Vec::new();
        for _ in min..max {
            splits.push(self.split(lazy));
            self.node(node)?;
        }
        for split in splits {
            self.aim(split);
        }
        Some(())
    }

    fn split(&mut self, lazy: bool) -> usize {
        let (other, first, second) = (0, Next::ANY, Next::ANY);
        self.ops.push(if lazy { Op::SplitLazy { other, first, second } } else { Op::Split { other, first, second } });
        self.ops.len() - 1
    }

    /// Lets a split or jump lead to what is compiled next.
    fn aim(&mut self, at: usize) {
        let here = self.ops.len().min(usize::from(u16::MAX)) as u16;
        match &mut self.ops[at] {
            Op::Split { other, .. } | Op::SplitLazy { other, .. } | Op::Look { other, .. } | Op::Jump(other) => {
                *other = here;
            }
            _ => {}
        }
    }
}

fn single(class: &Class) -> Op {
    Op::Set { ascii: class.ascii, high: !class.other.is_empty() }
}

/// What may stand where instruction `at` begins; more rather than less. `word`: the character
/// before is known to be one of a word.
fn first(ops: &[Op], mut at: usize, mut word: Option<bool>, depth: u32) -> Next {
    if depth > 24 {
        return Next::ANY;
    }
    let mut also = Next::default();
    loop {
        let here = match ops[at] {
            Op::Byte(b) => Next { ascii: 1 << b, end: false, high: false },
            Op::Set { ascii, high } => Next { ascii, end: false, high },
            Op::Run { ascii, high, min, .. } => {
                let these = Next { ascii, end: false, high };
                if min == 0 {
                    also = also.or(these);
                    at += 1;
                    // Only if nothing was taken is the character before still known.
                    word = None;
                    continue;
                }
                these
            }
            Op::Split { other, .. } | Op::SplitLazy { other, .. } => {
                also = also.or(first(ops, usize::from(other), word, depth + 1));
                at += 1;
                continue;
            }
            Op::Jump(to) | Op::Look { other: to, .. } => {
                at = usize::from(to);
                continue;
            }
            Op::Part { part, .. } => part.first(),
            Op::Save { .. } | Op::Start | Op::LineStart | Op::Before | Op::Boundary { .. } => {
                at += 1;
                continue;
            }
            Op::After if word == Some(true) && matches!(ops.get(at + 1), Some(Op::Match)) => {
                Next { ascii: !WORD, end: true, high: true }
            }
            Op::Back { .. } | Op::End | Op::VeryEnd | Op::LineEnd | Op::After | Op::Match => Next::ANY,
        };
        return also.or(here);
    }
}
