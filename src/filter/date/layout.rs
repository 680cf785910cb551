//! The quick way to recognise a date: a small matcher for short ASCII texts.
//!
//! It is compiled from the same pattern as the exact program and tries things in the same
//! order, so it finds the same span; where it cannot be certain (a byte beyond ASCII in
//! sight, too many attempts, a construct it does not know) it says so, and the exact
//! program decides. What makes it quick: the parts of a date (month, hour …) are one
//! instruction each, and the set of bytes that may follow leaves nearly always one way.

use super::clock::Clock;
use super::part::{Next, Part, WORD, is_word};
use crate::filter::syntax::{Assertion, Class, Greed, Node, Pattern, Side};

/// More groups than any sensible date has; patterns with more go the general way.
const MAX_GROUPS: usize = 20;
/// More instructions than any sensible date has.
const MAX_OPS: usize = 1_000;
/// Attempts per search before the general way takes over.
const MAX_ATTEMPTS: u32 = 20_000;

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
            return if possible { self.machine(text, groups).run::<false>(0, 0, 0) } else { Answer::No };
        }
        if let Some(before) = self.only_after {
            return self.search_after(text, from, before, groups);
        }
        let mut machine = self.machine(text, groups);
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
        let mut machine = self.machine(text, groups);
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
        self.machine(text, groups).run::<true>(0, at, at)
    }

    fn machine<'t>(&'t self, text: &'t [u8], groups: &'t mut Groups) -> Machine<'t> {
        Machine { ops: &self.ops, text, groups, trail: [(0, UNSET); TRAIL], depth: 0, attempts: 0 }
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

const TRAIL: usize = 24;

struct Machine<'a> {
    ops: &'a [Op],
    text: &'a [u8],
    groups: &'a mut Groups,
    /// What was overwritten, so that a failed attempt leaves no trace.
    trail: [(u8, (u32, u32)); TRAIL],
    depth: usize,
    attempts: u32,
}

impl Machine<'_> {
    #[inline]
    fn set(&mut self, group: u8, span: (u32, u32)) -> bool {
        let Some(entry) = self.trail.get_mut(self.depth) else { return false };
        *entry = (group, self.groups.spans[group as usize]);
        self.depth += 1;
        self.groups.spans[group as usize] = span;
        true
    }

    fn undo(&mut self, depth: usize) {
        while self.depth > depth {
            self.depth -= 1;
            let (group, span) = self.trail[self.depth];
            self.groups.spans[group as usize] = span;
        }
    }

    /// One way of several: a failure leaves the groups as they were.
    fn attempt<const FIELDS: bool>(&mut self, pc: usize, at: usize, start: usize) -> Answer {
        let depth = self.depth;
        let answer = self.run::<FIELDS>(pc, at, start);
        if answer == Answer::No {
            self.undo(depth);
        }
        answer
    }

    fn run<const FIELDS: bool>(&mut self, mut pc: usize, mut at: usize, start: usize) -> Answer {
        self.attempts += 1;
        if self.attempts > MAX_ATTEMPTS {
            return Answer::Unsure;
        }
        let text = self.text;
        loop {
            match self.ops[pc] {
                Op::Byte(b) => {
                    if text.get(at) != Some(&b) {
                        return Answer::No;
                    }
                    at += 1;
                }
                Op::Set { ascii, high } => match text.get(at) {
                    Some(&b) if b < 0x80 => {
                        if ascii >> b & 1 == 0 {
                            return Answer::No;
                        }
                        at += 1;
                    }
                    Some(_) if high => return Answer::Unsure,
                    _ => return Answer::No,
                },
                Op::Run { ascii, high, min, max, lazy, next } => {
                    let mut most = at;
                    while most - at < max as usize && text.get(most).is_some_and(|&b| b < 0x80 && ascii >> b & 1 == 1) {
                        most += 1;
                    }
                    if high && most - at < max as usize && text.get(most).is_some_and(|&b| b >= 0x80) {
                        return Answer::Unsure;
                    }
                    let least = at.saturating_add(min as usize);
                    if most < least {
                        return Answer::No;
                    }
                    let viable = |end: &usize| next.allows(text.get(*end).copied());
                    let mut only = None;
                    let mut rest = (least..=most).filter(viable);
                    let (a, b) = if lazy { (rest.next(), rest.next()) } else { (rest.next_back(), rest.next_back()) };
                    match (a, b) {
                        (None, _) => return Answer::No,
                        (Some(end), None) => only = Some(end),
                        _ => {}
                    }
                    let Some(end) = only else {
                        let mut ends = (least..=most).filter(viable);
                        while let Some(end) = if lazy { ends.next() } else { ends.next_back() } {
                            match self.attempt::<FIELDS>(pc + 1, end, start) {
                                Answer::No => {}
                                found => return found,
                            }
                        }
                        return Answer::No;
                    };
                    at = end;
                }
                Op::Split { other, first, second } | Op::SplitLazy { other, first, second } => {
                    let byte = text.get(at).copied();
                    let lazy = matches!(self.ops[pc], Op::SplitLazy { .. });
                    match (first.allows(byte), second.allows(byte)) {
                        (false, false) => return Answer::No,
                        (true, false) => {}
                        (false, true) => {
                            pc = usize::from(other);
                            continue;
                        }
                        (true, true) => {
                            let (one, two) =
                                if lazy { (usize::from(other), pc + 1) } else { (pc + 1, usize::from(other)) };
                            match self.attempt::<FIELDS>(one, at, start) {
                                Answer::No => pc = two,
                                found => return found,
                            }
                            continue;
                        }
                    }
                }
                Op::Jump(to) => {
                    pc = usize::from(to);
                    continue;
                }
                Op::Save { slot, always } => {
                    if FIELDS || always {
                        let group = slot / 2;
                        let (from, _) = self.groups.spans[group as usize];
                        let here = at as u32;
                        // A group that is open keeps its start and no end.
                        let span = if slot % 2 == 0 { (here, u32::MAX) } else { (from, here) };
                        if !self.set(group, span) {
                            return Answer::Unsure;
                        }
                    }
                }
                Op::Part { part, group, always, next } => {
                    let Some(mut lengths) = part.lengths(text, at) else { return Answer::Unsure };
                    let mut kept = 0;
                    for n in 0..lengths.count as usize {
                        let length = lengths.list[n];
                        let byte = text.get(at + length as usize).copied();
                        if byte.is_some_and(|b| b >= 0x80) {
                            return Answer::Unsure;
                        }
                        if next.allows(byte) {
                            lengths.list[kept] = length;
                            kept += 1;
                        }
                    }
                    if kept == 0 {
                        return Answer::No;
                    }
                    for n in 0..kept {
                        let end = at + lengths.list[n] as usize;
                        let depth = self.depth;
                        if (FIELDS || always) && !self.set(group, (at as u32, end as u32)) {
                            return Answer::Unsure;
                        }
                        if n + 1 == kept {
                            at = end;
                            break;
                        }
                        match self.run::<FIELDS>(pc + 1, end, start) {
                            Answer::No => self.undo(depth),
                            found => return found,
                        }
                    }
                }
                Op::Back { group, ignore_case } => {
                    let (from, to) = self.groups.spans[group as usize];
                    if to == u32::MAX || from == u32::MAX {
                        return Answer::No;
                    }
                    let wanted = &text[from as usize..to as usize];
                    let Some(there) = text.get(at..at + wanted.len()) else { return Answer::No };
                    if ignore_case {
                        if !there.is_ascii() || !wanted.is_ascii() {
                            return Answer::Unsure;
                        }
                        if !there.eq_ignore_ascii_case(wanted) {
                            return Answer::No;
                        }
                    } else if there != wanted {
                        return Answer::No;
                    }
                    at += wanted.len();
                }
                Op::Look { other, behind, negative } => {
                    let behind = behind as usize;
                    // As many characters are as many bytes only where all are ASCII.
                    let from = at.checked_sub(behind);
                    if let Some(from) = from
                        && !text[from..at].is_ascii()
                    {
                        return Answer::Unsure;
                    }
                    let answer = match from {
                        Some(from) => self.attempt::<FIELDS>(pc + 1, from, from),
                        None if text[..at].is_ascii() => Answer::No,
                        None => Answer::Unsure,
                    };
                    match answer {
                        Answer::Unsure => return Answer::Unsure,
                        Answer::Match if negative => return Answer::No,
                        Answer::No if !negative => return Answer::No,
                        _ => {}
                    }
                    pc = usize::from(other);
                    continue;
                }
                Op::Start => {
                    if at != 0 {
                        return Answer::No;
                    }
                }
                Op::LineStart => {
                    if at != 0 && text[at - 1] != b'\n' {
                        return Answer::No;
                    }
                }
                Op::VeryEnd => {
                    if at != text.len() {
                        return Answer::No;
                    }
                }
                Op::End => {
                    if at != text.len() && !(at + 1 == text.len() && text[at] == b'\n') {
                        return Answer::No;
                    }
                }
                Op::LineEnd => {
                    if at != text.len() && text[at] != b'\n' {
                        return Answer::No;
                    }
                }
                Op::Boundary { wanted } => match self.boundary(at) {
                    Some(is) if is == wanted => {}
                    Some(_) => return Answer::No,
                    None => return Answer::Unsure,
                },
                Op::Before => {
                    // At the line start, or where the next character is not of a word, it holds anyway.
                    if at != 0 && text.get(at).is_none_or(|&b| is_word(b) || b >= 0x80) {
                        match self.boundary(at) {
                            Some(true) => {}
                            Some(false) => return Answer::No,
                            None => return Answer::Unsure,
                        }
                    }
                }
                Op::After => {
                    if text.get(at).is_some_and(|&b| is_word(b) || b >= 0x80) {
                        match self.boundary(at) {
                            Some(true) => {}
                            Some(false) => return Answer::No,
                            None => return Answer::Unsure,
                        }
                    }
                }
                Op::Match => {
                    self.groups.spans[0] = (start as u32, at as u32);
                    return Answer::Match;
                }
            }
            pc += 1;
        }
    }

    /// Whether a word begins or ends here; `None` next to a byte beyond ASCII.
    fn boundary(&self, at: usize) -> Option<bool> {
        let before = at.checked_sub(1).map(|n| self.text[n]);
        let after = self.text.get(at).copied();
        if before.is_some_and(|b| b >= 0x80) || after.is_some_and(|b| b >= 0x80) {
            return None;
        }
        Some(before.is_some_and(is_word) != after.is_some_and(is_word))
    }
}
