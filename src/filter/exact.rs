//! The exact matcher: priorities, captures, look-around and conditionals as in a backtracking
//! engine, in time linear in the text.
//!
//! It does backtrack, but never takes the same branch at the same place twice: what failed there
//! once will fail again. Only a back-reference makes the outcome depend on more than the place;
//! such patterns run without this memory and with a limit of steps instead.

use super::syntax::{Assertion, Class, Greed, Node, Pattern, Side};
use super::unicode;

/// Steps that a search with back-references may take.
pub const MAX_STEPS: u64 = 1_000_000;
/// Conditions (groups asked for, loops that may turn without consuming) that the memory can tell apart.
const MAX_CONDITIONS: usize = 4;

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

#[derive(Clone, Debug)]
enum Inst {
    Literal(Box<[u8]>),
    Class(Class),
    /// A class several times, as often as possible; bounds in characters. `memo`: number of the tail.
    Run {
        class: Class,
        min: u32,
        max: u32,
        memo: u32,
    },
    /// Tries `first`, then `second`.
    Split {
        first: u32,
        second: u32,
        memo: u32,
    },
    Jump(u32),
    Save(u32),
    Assert(Assertion),
    /// Goes to `exit` if nothing was consumed since `LoopStart`.
    LoopStart(u32),
    LoopEnd {
        register: u32,
        exit: u32,
    },
    /// The body follows and ends in `Match`; goes on at `next`.
    Look {
        behind: Option<u32>,
        negative: bool,
        next: u32,
    },
    Atomic {
        next: u32,
    },
    Backref {
        group: u32,
        ignore_case: bool,
    },
    IfSet {
        group: u32,
        no: u32,
    },
    Match,
}

/// A compiled pattern.
#[derive(Clone, Debug)]
pub struct Program {
    code: Vec<Inst>,
    /// Slots for group borders; registers of loops come behind.
    slots: usize,
    registers: usize,
    memos: u32,
    /// Groups and registers whose state the memory has to tell apart.
    groups_asked: Vec<u32>,
    registers_asked: Vec<u32>,
    /// Whether places may be remembered at all.
    memoised: bool,
    anchored: bool,
}

#[derive(Clone, Copy, Debug)]
enum Undo {
    /// Go on there.
    Branch { pc: u32, at: usize },
    /// Try the tail of a run with one character less, down to `least`.
    Shorter { pc: u32, least: usize, at: usize },
    /// Put the old value back.
    Slot { slot: u32, old: Option<usize> },
}

/// Scratch memory and the groups of the last match; one per thread, for all programs.
#[derive(Debug, Default)]
pub struct Cache {
    slots: Vec<Option<usize>>,
    stack: Vec<Undo>,
    /// One bit for each branch, condition and position that failed.
    failed: Vec<u64>,
    /// Words of `failed` that are not zero.
    touched: Vec<usize>,
    /// Last run of each memo number: where the class ends, and from where on all tails failed.
    runs: Vec<(usize, usize, usize)>,
    steps: u64,
}

impl Cache {
    /// Start and end of a group of the last match in bytes; group 0 is the whole match.
    #[must_use]
    pub fn group(&self, index: u32) -> Option<(usize, usize)> {
        let at = index as usize * 2;
        Some(((*self.slots.get(at)?)?, (*self.slots.get(at + 1)?)?))
    }

    /// Steps that the last search took.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps
    }
}

struct TooManySteps;

impl Program {
    /// Compiles a pattern. Never fails: the parser has checked everything, sizes included.
    #[must_use]
    pub fn new(pattern: &Pattern) -> Program {
        let mut program = Program {
            code: Vec::new(),
            slots: (pattern.groups as usize + 1) * 2,
            registers: 0,
            memos: 0,
            groups_asked: Vec::new(),
            registers_asked: Vec::new(),
            memoised: true,
            anchored: starts_at_start(&pattern.root),
        };
        program.emit(&pattern.root);
        program.code.push(Inst::Match);
        if program.groups_asked.len() + program.registers_asked.len() > MAX_CONDITIONS {
            program.memoised = false;
        }
        program
    }

    /// Whether a match can only begin at the beginning of the text.
    #[must_use]
    pub fn is_anchored(&self) -> bool {
        self.anchored
    }

    /// Searches `text[from..]` for the leftmost match; assertions see the whole text.
    pub fn search(&self, cache: &mut Cache, text: &str, from: usize) -> Outcome {
        cache.steps = 0;
        for word in cache.touched.drain(..) {
            cache.failed[word] = 0;
        }
        cache.stack.clear();
        cache.slots.clear();
        cache.slots.resize(self.slots + self.registers, None);
        cache.runs.clear();
        cache.runs.resize(self.memos as usize, (usize::MAX, 0, 0));
        if self.memoised {
            let bits = (self.memos as usize * (text.len() + 1)) << self.conditions();
            let words = bits / 64 + 1;
            if cache.failed.len() < words {
                cache.failed.resize(words, 0);
            }
        }
        let mut start = from;
        loop {
            match self.run(cache, text, 0, start) {
                Err(TooManySteps) => return Outcome::Unresolved,
                Ok(Some(end)) => {
                    cache.slots[0] = Some(start);
                    cache.slots[1] = Some(end);
                    return Outcome::Match;
                }
                Ok(None) => {}
            }
            if self.anchored || start >= text.len() {
                return Outcome::NoMatch;
            }
            start += width_at(text, start);
        }
    }

    fn conditions(&self) -> usize {
        self.groups_asked.len() + self.registers_asked.len()
    }

    /// Whether this branch failed here before; if not, it is noted that it is being tried.
    fn seen(&self, cache: &mut Cache, text: &str, memo: u32, at: usize) -> bool {
        if !self.memoised {
            return false;
        }
        let mut key = memo as usize * (text.len() + 1) + at;
        for group in &self.groups_asked {
            key = key << 1 | usize::from(cache.slots[*group as usize * 2 + 1].is_some());
        }
        for register in &self.registers_asked {
            key = key << 1 | usize::from(cache.slots[self.slots + *register as usize] == Some(at));
        }
        let (word, bit) = (key / 64, 1_u64 << (key % 64));
        let old = cache.failed[word];
        if old & bit != 0 {
            return true;
        }
        if old == 0 {
            cache.touched.push(word);
        }
        cache.failed[word] = old | bit;
        false
    }

    /// Runs from one place; the end of the match, or nothing. Undoes everything if it fails.
    fn run(&self, cache: &mut Cache, text: &str, pc: u32, at: usize) -> Result<Option<usize>, TooManySteps> {
        let bytes = text.as_bytes();
        let base = cache.stack.len();
        let (mut pc, mut at) = (pc, at);
        'forward: loop {
            cache.steps += 1;
            if !self.memoised && cache.steps > MAX_STEPS {
                return Err(TooManySteps);
            }
            let good = match &self.code[pc as usize] {
                Inst::Literal(literal) => {
                    let good = bytes[at..].starts_with(literal);
                    at += if good { literal.len() } else { 0 };
                    good
                }
                Inst::Class(class) => match step(class, text, at) {
                    Some(next) => {
                        at = next;
                        true
                    }
                    None => false,
                },
                Inst::Run { class, min, max, memo } => match self.reach(cache, text, class, (*min, *max), *memo, at) {
                    Some((least, end)) => {
                        cache.stack.push(Undo::Shorter { pc, least, at: end });
                        false
                    }
                    None => false,
                },
                Inst::Split { first, second, memo } => {
                    if self.seen(cache, text, *memo, at) {
                        false
                    } else {
                        cache.stack.push(Undo::Branch { pc: *second, at });
                        pc = *first;
                        continue 'forward;
                    }
                }
                Inst::Jump(to) => {
                    pc = *to;
                    continue 'forward;
                }
                Inst::Save(slot) => {
                    set_slot(cache, *slot as usize, at);
                    true
                }
                Inst::LoopStart(register) => {
                    set_slot(cache, self.slots + *register as usize, at);
                    true
                }
                Inst::LoopEnd { register, exit } => {
                    if cache.slots[self.slots + *register as usize] == Some(at) {
                        pc = *exit;
                        continue 'forward;
                    }
                    true
                }
                Inst::Assert(assertion) => holds(*assertion, text, at),
                Inst::Look { behind, negative, next } => {
                    let start = match behind {
                        None => Some(at),
                        Some(width) => back(text, at, *width),
                    };
                    let found = match start {
                        None => false,
                        Some(start) => self.aside(cache, text, pc + 1, start, !*negative)?.is_some(),
                    };
                    if found != *negative {
                        pc = *next;
                        continue 'forward;
                    }
                    false
                }
                Inst::Atomic { next } => match self.aside(cache, text, pc + 1, at, true)? {
                    Some(end) => {
                        at = end;
                        pc = *next;
                        continue 'forward;
                    }
                    None => false,
                },
                Inst::Backref { group, ignore_case } => {
                    let slot = *group as usize * 2;
                    match (cache.slots[slot], cache.slots[slot + 1]) {
                        (Some(from), Some(to)) => match same(&text[from..to], &text[at..], *ignore_case) {
                            Some(length) => {
                                cache.steps += length as u64;
                                at += length;
                                true
                            }
                            None => false,
                        },
                        _ => false,
                    }
                }
                Inst::IfSet { group, no } => {
                    if cache.slots[*group as usize * 2 + 1].is_none() {
                        pc = *no;
                        continue 'forward;
                    }
                    true
                }
                Inst::Match => return Ok(Some(at)),
            };
            if good {
                pc += 1;
                continue;
            }
            // back to the last choice
            loop {
                if cache.stack.len() == base {
                    return Ok(None);
                }
                cache.steps += 1;
                match cache.stack.pop() {
                    None => return Ok(None),
                    Some(Undo::Slot { slot, old }) => cache.slots[slot as usize] = old,
                    Some(Undo::Branch { pc: p, at: a }) => {
                        (pc, at) = (p, a);
                        continue 'forward;
                    }
                    Some(Undo::Shorter { pc: p, least, at: a }) => {
                        if a > least {
                            let mut shorter = a - 1;
                            while !text.is_char_boundary(shorter) {
                                shorter -= 1;
                            }
                            cache.stack.push(Undo::Shorter { pc: p, least, at: shorter });
                        }
                        let Inst::Run { memo, .. } = &self.code[p as usize] else { continue };
                        if !self.seen(cache, text, *memo, a) {
                            if self.conditions() == 0 {
                                cache.runs[*memo as usize].2 = a;
                            }
                            (pc, at) = (p + 1, a);
                            continue 'forward;
                        }
                    }
                }
            }
        }
    }

    /// How far a class goes on from here: the shortest and the longest end worth a try.
    fn reach(
        &self,
        cache: &mut Cache,
        text: &str,
        class: &Class,
        (min, max): (u32, u32),
        memo: u32,
        at: usize,
    ) -> Option<(usize, usize)> {
        let mut least = at;
        for _ in 0..min {
            least = step(class, text, least)?;
        }
        let (begin, end, failed_from) = cache.runs[memo as usize];
        if max == u32::MAX && begin <= at && least <= end {
            // within the last run of the class: its end is ours, and so are its failures
            let failures_known = self.memoised && self.conditions() == 0;
            return Some((least, if failures_known { failed_from.clamp(least, end) } else { end }));
        }
        let mut far = least;
        let mut left = max - min;
        while left > 0 {
            let Some(next) = step(class, text, far) else { break };
            far = next;
            left -= u32::from(max != u32::MAX);
        }
        cache.steps += (far - at) as u64 / 8;
        if max == u32::MAX {
            cache.runs[memo as usize] = (at, far, far);
        }
        Some((least, far))
    }

    /// Runs a body on its own. What it captured stays if `keep`; its choices are final.
    fn aside(
        &self,
        cache: &mut Cache,
        text: &str,
        pc: u32,
        at: usize,
        keep: bool,
    ) -> Result<Option<usize>, TooManySteps> {
        let base = cache.stack.len();
        let found = self.run(cache, text, pc, at)?;
        if found.is_some() {
            // branches of the body that led to its success have not failed
            self.forget(cache, text, pc);
            let mut kept = base;
            for index in base..cache.stack.len() {
                if let Undo::Slot { .. } = cache.stack[index] {
                    cache.stack[kept] = cache.stack[index];
                    kept += 1;
                }
            }
            cache.stack.truncate(kept);
            if !keep {
                while cache.stack.len() > base {
                    if let Some(Undo::Slot { slot, old }) = cache.stack.pop() {
                        cache.slots[slot as usize] = old;
                    }
                }
            }
        }
        Ok(found)
    }

    /// Clears what is remembered of the branches of a body that begins at `pc` and ends in its `Match`.
    fn forget(&self, cache: &mut Cache, text: &str, pc: u32) {
        if !self.memoised {
            return;
        }
        let mut depth = 0;
        let mut memos: Option<(u32, u32)> = None;
        for inst in &self.code[pc as usize..] {
            match inst {
                Inst::Look { .. } | Inst::Atomic { .. } => depth += 1,
                Inst::Match if depth == 0 => break,
                Inst::Match => depth -= 1,
                Inst::Split { memo, .. } | Inst::Run { memo, .. } => {
                    memos = Some(memos.map_or((*memo, *memo), |(low, high)| (low.min(*memo), high.max(*memo))));
                }
                _ => {}
            }
        }
        let Some((low, high)) = memos else { return };
        for memo in low..=high {
            cache.runs[memo as usize] = (usize::MAX, 0, 0);
        }
        let bit = |memo: u32| (memo as usize * (text.len() + 1)) << self.conditions();
        let (first, last) = (bit(low), bit(high + 1));
        for index in 0..cache.touched.len() {
            let word = cache.touched[index];
            if word >= first / 64 && word <= last / 64 {
                let from = first.saturating_sub(word * 64).min(64);
                let to = last.saturating_sub(word * 64).min(64);
                let ones = |n: usize| if n >= 64 { u64::MAX } else { (1 << n) - 1 };
                cache.failed[word] &= !(ones(to) & !ones(from));
            }
        }
    }

    fn memo(&mut self) -> u32 {
        self.memos += 1;
        self.memos - 1
    }

    fn here(&self) -> u32 {
        self.code.len() as u32
    }

    fn emit(&mut self, node: &Node) {
        match node {
            Node::Empty => {}
            Node::Char(c) => {
                let mut buffer = [0; 4];
                self.code.push(Inst::Literal(c.encode_utf8(&mut buffer).as_bytes().into()));
            }
            Node::Class(class) => self.code.push(Inst::Class(class.clone())),
            Node::Concat(parts) => self.emit_concat(parts),
            Node::Alternate(branches) => self.emit_alternate(branches),
            Node::Repeat { node, min, max, greed } => self.emit_repeat(node, *min, *max, *greed),
            Node::Capture { index, node } => {
                self.code.push(Inst::Save(index * 2));
                self.emit(node);
                self.code.push(Inst::Save(index * 2 + 1));
            }
            Node::Atomic(node) => {
                let at = self.code.len();
                self.code.push(Inst::Atomic { next: 0 });
                self.emit(node);
                self.code.push(Inst::Match);
                let next = self.here();
                self.code[at] = Inst::Atomic { next };
            }
            Node::Assert(assertion) => self.code.push(Inst::Assert(*assertion)),
            Node::Look { node, side, negative } => {
                let at = self.code.len();
                self.code.push(Inst::Match);
                self.emit(node);
                self.code.push(Inst::Match);
                let behind = match side {
                    Side::Ahead => None,
                    Side::Behind(width) => Some(*width),
                };
                self.code[at] = Inst::Look { behind, negative: *negative, next: self.here() };
            }
            Node::Backref { group, ignore_case } => {
                self.memoised = false;
                self.code.push(Inst::Backref { group: *group, ignore_case: *ignore_case });
            }
            Node::Conditional { group, yes, no } => {
                if !self.groups_asked.contains(group) {
                    self.groups_asked.push(*group);
                }
                let at = self.code.len();
                self.code.push(Inst::Match);
                self.emit(yes);
                let jump = self.code.len();
                self.code.push(Inst::Match);
                self.code[at] = Inst::IfSet { group: *group, no: self.here() };
                self.emit(no);
                self.code[jump] = Inst::Jump(self.here());
            }
        }
    }

    fn emit_concat(&mut self, parts: &[Node]) {
        let mut literal: Vec<u8> = Vec::new();
        for part in parts {
            if let Node::Char(c) = part {
                let mut buffer = [0; 4];
                literal.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes());
                continue;
            }
            if !literal.is_empty() {
                self.code.push(Inst::Literal(std::mem::take(&mut literal).into()));
            }
            self.emit(part);
        }
        if !literal.is_empty() {
            self.code.push(Inst::Literal(literal.into()));
        }
    }

    fn emit_alternate(&mut self, branches: &[Node]) {
        let mut jumps = Vec::new();
        for (index, branch) in branches.iter().enumerate() {
            if index + 1 == branches.len() {
                self.emit(branch);
                break;
            }
            let split = self.code.len();
            let memo = self.memo();
            self.code.push(Inst::Match);
            self.emit(branch);
            jumps.push(self.code.len());
            self.code.push(Inst::Match);
            self.code[split] = Inst::Split { first: split as u32 + 1, second: self.here(), memo };
        }
        let end = self.here();
        for jump in jumps {
            self.code[jump] = Inst::Jump(end);
        }
    }

    fn emit_repeat(&mut self, node: &Node, min: u32, max: Option<u32>, greed: Greed) {
        if greed == Greed::Possessive {
            let at = self.code.len();
            self.code.push(Inst::Atomic { next: 0 });
            self.emit_repeat(node, min, max, Greed::Greedy);
            self.code.push(Inst::Match);
            let next = self.here();
            self.code[at] = Inst::Atomic { next };
            return;
        }
        if greed == Greed::Greedy && max != Some(0) && (min, max) != (1, Some(1)) {
            let class = match node {
                Node::Class(class) => Some(class.clone()),
                Node::Char(c) if c.is_ascii() => Some(Class { ascii: 1 << (*c as u32), other: [].into() }),
                _ => None,
            };
            if let Some(class) = class {
                let memo = self.memo();
                self.code.push(Inst::Run { class, min, max: max.unwrap_or(u32::MAX), memo });
                return;
            }
        }
        for _ in 0..min {
            self.emit(node);
        }
        let split = |program: &mut Program, at: usize, memo: u32, exit: u32| {
            let body = at as u32 + 1;
            let (first, second) = if greed == Greed::Lazy { (exit, body) } else { (body, exit) };
            program.code[at] = Inst::Split { first, second, memo };
        };
        match max {
            None => {
                let register = can_be_empty(node).then(|| {
                    self.registers += 1;
                    self.registers as u32 - 1
                });
                let at = self.code.len();
                let memo = self.memo();
                self.code.push(Inst::Match);
                if let Some(register) = register {
                    self.registers_asked.push(register);
                    self.code.push(Inst::LoopStart(register));
                }
                self.emit(node);
                let end = self.code.len();
                if let Some(register) = register {
                    self.code.push(Inst::LoopEnd { register, exit: end as u32 + 2 });
                }
                self.code.push(Inst::Jump(at as u32));
                let exit = self.here();
                split(self, at, memo, exit);
            }
            Some(max) => {
                let mut splits = Vec::new();
                for _ in min..max {
                    splits.push((self.code.len(), self.memo()));
                    self.code.push(Inst::Match);
                    self.emit(node);
                }
                let exit = self.here();
                for (at, memo) in splits {
                    split(self, at, memo, exit);
                }
            }
        }
    }
}

fn set_slot(cache: &mut Cache, slot: usize, at: usize) {
    cache.stack.push(Undo::Slot { slot: slot as u32, old: cache.slots[slot] });
    cache.slots[slot] = Some(at);
}

/// The place behind the character at `at`, if it is in the class.
fn step(class: &Class, text: &str, at: usize) -> Option<usize> {
    let byte = *text.as_bytes().get(at)?;
    if byte < 128 {
        return (class.ascii >> byte & 1 == 1).then_some(at + 1);
    }
    let c = text[at..].chars().next()?;
    class.contains(c).then(|| at + c.len_utf8())
}

fn width_at(text: &str, at: usize) -> usize {
    text[at..].chars().next().map_or(1, char::len_utf8)
}

/// So many characters back.
fn back(text: &str, at: usize, width: u32) -> Option<usize> {
    let mut at = at;
    for _ in 0..width {
        at -= text[..at].chars().next_back()?.len_utf8();
    }
    Some(at)
}

/// The length in `text` that equals `wanted`.
fn same(wanted: &str, text: &str, ignore_case: bool) -> Option<usize> {
    if !ignore_case {
        return text.starts_with(wanted).then_some(wanted.len());
    }
    let mut rest = text.chars();
    for c in wanted.chars() {
        let other = rest.next()?;
        if c != other && !c.to_lowercase().eq(other.to_lowercase()) {
            return None;
        }
    }
    Some(text.len() - rest.as_str().len())
}

fn is_word(c: char, ascii: bool) -> bool {
    if c.is_ascii() {
        return c.is_ascii_alphanumeric() || c == '_';
    }
    let after = unicode::WORD.partition_point(|&(first, _)| first <= c);
    !ascii && after > 0 && unicode::WORD[after - 1].1 >= c
}

fn boundary(text: &str, at: usize, ascii: bool) -> bool {
    let word = |c: Option<char>| c.is_some_and(|c| is_word(c, ascii));
    word(text[..at].chars().next_back()) != word(text[at..].chars().next())
}

fn holds(assertion: Assertion, text: &str, at: usize) -> bool {
    let bytes = text.as_bytes();
    match assertion {
        Assertion::Start => at == 0,
        Assertion::End => at == bytes.len() || at + 1 == bytes.len() && bytes[at] == b'\n',
        Assertion::VeryEnd => at == bytes.len(),
        Assertion::LineStart => at == 0 || bytes[at - 1] == b'\n',
        Assertion::LineEnd => at == bytes.len() || bytes[at] == b'\n',
        Assertion::WordBoundary { ascii } => !text.is_empty() && boundary(text, at, ascii),
        Assertion::NotWordBoundary { ascii } => !text.is_empty() && !boundary(text, at, ascii),
    }
}

fn starts_at_start(node: &Node) -> bool {
    match node {
        Node::Assert(Assertion::Start) => true,
        Node::Concat(parts) => parts.first().is_some_and(starts_at_start),
        Node::Alternate(branches) => branches.iter().all(starts_at_start),
        Node::Capture { node, .. } | Node::Atomic(node) => starts_at_start(node),
        Node::Repeat { node, min, .. } => *min > 0 && starts_at_start(node),
        _ => false,
    }
}

fn can_be_empty(node: &Node) -> bool {
    match node {
        Node::Empty | Node::Assert(_) | Node::Look { .. } | Node::Backref { .. } => true,
        Node::Char(_) | Node::Class(_) => false,
        Node::Concat(parts) => parts.iter().all(can_be_empty),
        Node::Alternate(branches) => branches.iter().any(can_be_empty),
        Node::Repeat { node, min, .. } => *min == 0 || can_be_empty(node),
        Node::Capture { node, .. } | Node::Atomic(node) => can_be_empty(node),
        Node::Conditional { yes, no, .. } => can_be_empty(yes) || can_be_empty(no),
    }
}
