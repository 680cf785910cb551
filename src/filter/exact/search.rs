//! Running the instructions: a search from one place, with the choices still open on a stack.

use super::class::{self, END};
use super::code::{BOTH_WAYS, Code, Condition, NO_WAY, Op, Way, Ways};
use crate::filter::syntax::Assertion;
use crate::filter::unicode;

/// A group border or register without a value.
pub(super) const UNSET: u32 = u32::MAX;

/// What to do when the present way fails.
#[derive(Clone, Copy, Debug)]
pub(super) enum Frame {
    /// Go on there.
    Branch { pc: u32, at: u32 },
    /// Try what follows a run with a shorter one, but not shorter than `least`.
    Shorter { run: u32, pc: u32, least: u32, at: u32 },
    /// Try what follows a run with a longer one.
    Longer { run: u32, pc: u32, at: u32, left: u32 },
    /// Put the old value back.
    Slot { slot: u32, old: u32 },
    /// All ways from this choice have failed.
    Failed { state: u64 },
}

/// What a strict search remembers.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// One bit for each choice, condition and position: set once it was taken (it has failed, or
    /// is going to decide the match).
    bits: Vec<u64>,
    /// Words of `bits` that are not zero.
    touched: Vec<u32>,
    /// Where a pattern tried aside ends, for the choices in it that led to success.
    ends: std::collections::HashMap<u64, u32>,
}

/// Bytes of a run that are looked at together.
const PIECE: usize = 256;
/// Words of memory that stay allocated; what one long line needed is given back.
const KEEP_WORDS: usize = 1 << 15;

impl Memory {
    pub(super) fn clear(&mut self) {
        for word in self.touched.drain(..) {
            self.bits[word as usize] = 0;
        }
        self.ends.clear();
        if self.bits.len() > KEEP_WORDS {
            *self = Memory::default();
        }
    }

    pub(super) fn reserve(&mut self, bits: u64) {
        let words = (bits / 64 + 1) as usize;
        if self.bits.len() < words {
            self.bits.resize(words, 0);
        }
    }

    fn has(&self, state: u64) -> bool {
        self.bits[(state / 64) as usize] >> (state % 64) & 1 == 1
    }

    /// The first of these states that is remembered.
    fn first(&self, from: u64, to: u64) -> Option<u64> {
        let mut state = from;
        while state < to {
            let word = self.bits[(state / 64) as usize] >> (state % 64);
            if word != 0 {
                let found = state + u64::from(word.trailing_zeros());
                return (found < to).then_some(found);
            }
            state = (state / 64 + 1) * 64;
        }
        None
    }

    /// Remembers all of them.
    fn fill(&mut self, from: u64, to: u64) {
        let mut state = from;
        while state < to {
            let end = ((state / 64 + 1) * 64).min(to);
            let mask = u64::MAX >> (64 - (end - state)) << (state % 64);
            let word = &mut self.bits[(state / 64) as usize];
            if *word == 0 {
                self.touched.push((state / 64) as u32);
            }
            *word |= mask;
            state = end;
        }
    }

    fn insert(&mut self, state: u64) {
        let word = &mut self.bits[(state / 64) as usize];
        if *word == 0 {
            self.touched.push((state / 64) as u32);
        }
        *word |= 1 << (state % 64);
    }
}

/// The steps allowed have been used up.
pub(super) struct Exhausted;

/// What is being run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// The pattern itself: the first success decides the search.
    Whole,
    /// A pattern tried aside, without groups in it.
    Pure,
    /// A pattern tried aside, with groups in it.
    Capturing,
}

pub(super) struct Search<'s> {
    pub(super) code: &'s Code,
    /// Of the fast form.
    pub(super) ways: Option<&'s Ways>,
    pub(super) text: &'s str,
    pub(super) stack: &'s mut Vec<Frame>,
    pub(super) slots: &'s mut [u32],
    pub(super) memory: &'s mut Memory,
    pub(super) steps: u64,
    pub(super) limit: u64,
}

impl Search<'_> {
    /// The end of a match that begins at `at`.
    pub(super) fn from<const STRICT: bool>(&mut self, at: usize) -> Result<Option<usize>, Exhausted> {
        self.run::<STRICT>(0, at, Part::Whole)
    }

    /// Number in the memory of a choice at a place.
    fn state(&self, memo: u32, (from, to): (u32, u32), at: usize) -> u64 {
        let mut kind = 0_u64;
        for condition in &self.code.conditions[from as usize..to as usize] {
            kind = kind << 1
                | u64::from(match *condition {
                    Condition::Group(group) => self.is_set(group).is_some(),
                    Condition::Loop(register) => self.slots[register as usize] == at as u32,
                });
        }
        (u64::from(memo) + kind) * (self.text.len() as u64 + 1) + at as u64
    }

    /// The text of a group. While the group is open again, its old end stands before its new start.
    fn is_set(&self, group: u32) -> Option<(usize, usize)> {
        let (from, to) = (self.slots[group as usize * 2], self.slots[group as usize * 2 + 1]);
        (from != UNSET && to != UNSET && from <= to).then_some((from as usize, to as usize))
    }

    #[inline(always)]
    fn next(&self, at: usize) -> usize {
        self.text.as_bytes().get(at).map_or(END, |&byte| byte.into())
    }

    fn set(&mut self, slot: u32, at: usize, part: Part) {
        let old = std::mem::replace(&mut self.slots[slot as usize], at as u32);
        // nobody comes back to see the old value if there is nothing to come back to
        if part != Part::Whole || !self.stack.is_empty() {
            self.stack.push(Frame::Slot { slot, old });
        }
    }

    /// Runs from one place; the end of the match, or nothing. If it fails everything is as before.
    fn run<const STRICT: bool>(&mut self, pc: u32, at: usize, part: Part) -> Result<Option<usize>, Exhausted> {
        let code = self.code;
        let bytes = self.text.as_bytes();
        let base = self.stack.len();
        let (mut pc, mut at) = (pc, at);
        loop {
            self.steps += 1;
            let good = match code.ops[pc as usize] {
                Op::Byte(byte) => {
                    let good = bytes.get(at) == Some(&byte);
                    at += 1;
                    good
                }
                Op::Literal { start, end } => {
                    let literal = &code.literals[start as usize..end as usize];
                    let good = bytes[at..].starts_with(literal);
                    at += literal.len();
                    good
                }
                Op::Class(set) => match code.sets[set as usize].step(self.text, at) {
                    Some(next) => {
                        at = next;
                        true
                    }
                    None => false,
                },
                Op::Split { first, second, choice } => {
                    if self.steps > self.limit {
                        return Err(Exhausted);
                    }
                    let next = self.next(at);
                    if !STRICT && let Some(ways) = self.ways {
                        match ways.table[choice as usize * ways.width + usize::from(ways.kinds[next])] {
                            NO_WAY => {}
                            BOTH_WAYS => {
                                self.stack.push(Frame::Branch { pc: second, at: at as u32 });
                                pc = first;
                                continue;
                            }
                            to => {
                                pc = to.into();
                                continue;
                            }
                        }
                        match self.back_to_a_choice::<STRICT>(base)? {
                            Some(place) => (pc, at) = place,
                            None => return Ok(None),
                        }
                        continue;
                    }
                    let choice = &code.choices[choice as usize];
                    let one = class::may(&code.nexts[choice.first as usize], next);
                    let other = class::may(&code.nexts[choice.second as usize], next);
                    let mut go = one || other;
                    if STRICT && go {
                        let state = self.state(choice.memo, choice.conditions, at);
                        if self.memory.has(state) {
                            go = false;
                        } else if part == Part::Whole {
                            self.memory.insert(state);
                        } else {
                            if part == Part::Pure
                                && let Some(&end) = self.memory.ends.get(&state)
                            {
                                return Ok(Some(end as usize));
                            }
                            self.stack.push(Frame::Failed { state });
                        }
                    }
                    if go {
                        if one && other {
                            self.stack.push(Frame::Branch { pc: second, at: at as u32 });
                        }
                        pc = if one { first } else { second };
                        continue;
                    }
                    false
                }
                Op::Jump(to) => {
                    pc = to;
                    continue;
                }
                Op::Save(slot) => {
                    self.set(slot, at, part);
                    true
                }
                Op::Run(run, way) => match self.begin_run::<STRICT>(run, way, pc, at) {
                    Some(end) => {
                        at = end;
                        true
                    }
                    None => false,
                },
                Op::Assert(assertion) => holds(assertion, self.text, at),
                Op::Turn(register) => {
                    self.set(register, at, part);
                    true
                }
                Op::Turned { register, exit } => {
                    if self.slots[register as usize] == at as u32 {
                        pc = exit;
                        continue;
                    }
                    true
                }
                Op::Look(number) => {
                    let aside = &code.asides[number as usize];
                    let found = match back(self.text, at, aside.behind) {
                        None => false,
                        Some(start) => self.aside::<STRICT>(pc + 1, start, aside.pure, !aside.negative)?.is_some(),
                    };
                    if found != aside.negative {
                        pc = aside.next;
                        continue;
                    }
                    false
                }
                Op::Atomic(number) => {
                    let aside = &code.asides[number as usize];
                    if let Some(end) = self.aside::<STRICT>(pc + 1, at, aside.pure, true)? {
                        (pc, at) = (aside.next, end);
                        continue;
                    }
                    false
                }
                Op::Backref { group, ignore_case } => match self.is_set(group) {
                    Some((from, to)) => {
                        self.steps += (to - from) as u64;
                        match same(&self.text[from..to], &self.text[at..], ignore_case) {
                            Some(length) => {
                                at += length;
                                true
                            }
                            None => false,
                        }
                    }
                    None => false,
                },
                Op::IfSet { group, no } => {
                    if self.is_set(group).is_none() {
                        pc = no;
                        continue;
                    }
                    true
                }
                Op::Done | Op::Match => return Ok(Some(at)),
            };
            if good {
                pc += 1;
                continue;
            }
            match self.back_to_a_choice::<STRICT>(base)? {
                Some(place) => (pc, at) = place,
                None => return Ok(None),
            }
        }
    }

    /// Undoes what was done since the last choice, and says where to go on.
    #[inline(always)]
    fn back_to_a_choice<const STRICT: bool>(&mut self, base: usize) -> Result<Option<(u32, usize)>, Exhausted> {
        loop {
            self.steps += 1;
            if self.steps > self.limit {
                return Err(Exhausted);
            }
            if self.stack.len() == base {
                return Ok(None);
            }
            match self.stack.pop() {
                Some(Frame::Branch { pc, at }) => return Ok(Some((pc, at as usize))),
                Some(Frame::Slot { slot, old }) => self.slots[slot as usize] = old,
                Some(Frame::Shorter { run, pc, least, at }) => {
                    if let Some(at) = self.shorter(run, pc, least as usize, at as usize) {
                        return Ok(Some((pc, at)));
                    }
                }
                Some(Frame::Longer { run, pc, at, left }) => {
                    if left > 0
                        && let Some(next) = self.set_of(run).step(self.text, at as usize)
                        && let Some(at) =
                            self.longer::<STRICT>(run, pc, next, left.saturating_sub(u32::from(left != u32::MAX)))
                    {
                        return Ok(Some((pc, at)));
                    }
                }
                Some(Frame::Failed { state }) => self.memory.insert(state),
                None => return Ok(None),
            }
        }
    }

    fn set_of(&self, run: u32) -> &'_ class::Set {
        &self.code.sets[self.code.runs[run as usize].set as usize]
    }

    /// The first length that a run takes.
    #[inline(always)]
    fn begin_run<const STRICT: bool>(&mut self, number: u32, way: Way, pc: u32, at: usize) -> Option<usize> {
        let bytes = self.text.as_bytes();
        let run = &self.code.runs[number as usize];
        let set = &self.code.sets[run.set as usize];
        if way == Way::Shortest {
            let mut least = at;
            for _ in 0..run.min {
                least = set.step(self.text, least)?;
            }
            let left = if run.max == u32::MAX { u32::MAX } else { run.max - run.min };
            return self.longer::<STRICT>(number, pc + 1, least, left);
        }
        if STRICT {
            return self.begin_remembering(number, pc, at);
        }
        let end = set.scan(self.text, at, run.max);
        self.steps += (end - at) as u64 / 4;
        let mut least = at;
        for _ in 0..run.min {
            if least >= end {
                return None;
            }
            least += class::width(bytes[least]);
        }
        if way == Way::Only { Some(end) } else { self.shorter_or_equal(number, pc + 1, least, end) }
    }

    /// The first length that a run takes in the strict form, where each place is left only once:
    /// whoever comes there again finds it remembered, and so are all the places behind it.
    fn begin_remembering(&mut self, number: u32, pc: u32, at: usize) -> Option<usize> {
        let run = &self.code.runs[number as usize];
        let set = &self.code.sets[run.set as usize];
        let mut least = at;
        for _ in 0..run.min {
            least = set.step(self.text, least)?;
        }
        let row = self.state(run.memo, run.conditions, 0);
        let (mut end, mut fresh) = (least, true);
        // in pieces, so that nothing is looked at that will turn out to be remembered
        let most = loop {
            let limit = (end + PIECE).min(self.text.len());
            let known = self.memory.first(row + end as u64, row + limit as u64 + 1).map(|state| (state - row) as usize);
            let stop = known.unwrap_or(limit);
            end = set.scan_to(self.text, end, stop);
            if known.is_some_and(|known| end >= known) {
                fresh = false;
            } else if end >= limit && end < self.text.len() {
                continue;
            }
            break end;
        };
        self.steps += (most - least) as u64 / 4;
        if !fresh && most == least {
            return None;
        }
        let last = if fresh { most } else { most - 1 };
        self.memory.fill(row + least as u64, row + last as u64 + 1);
        self.shorter_or_equal(number, pc + 1, least, last)
    }

    #[inline(always)]
    fn shorter_or_equal(&mut self, run: u32, pc: u32, least: usize, at: usize) -> Option<usize> {
        let follow = &self.code.nexts[self.code.runs[run as usize].follow as usize];
        let mut end = at;
        while !class::may(follow, self.next(end)) {
            if end == least {
                self.steps += (at - end) as u64;
                return None;
            }
            end -= 1;
        }
        self.steps += (at - end) as u64;
        if end > least {
            self.stack.push(Frame::Shorter { run, pc, least: least as u32, at: end as u32 });
        }
        Some(end)
    }

    fn shorter(&mut self, run: u32, pc: u32, least: usize, at: usize) -> Option<usize> {
        self.shorter_or_equal(run, pc, least, at - 1)
    }

    /// The next length that a lazy run takes, `at` being one that it could.
    #[inline(always)]
    fn longer<const STRICT: bool>(&mut self, run: u32, pc: u32, at: usize, left: u32) -> Option<usize> {
        let follow = &self.code.nexts[self.code.runs[run as usize].follow as usize];
        let set = &self.code.sets[self.code.runs[run as usize].set as usize];
        let (mut end, mut left) = (at, left);
        let mut passed = 0;
        let row = if STRICT {
            let run = &self.code.runs[run as usize];
            self.state(run.memo, run.conditions, 0)
        } else {
            0
        };
        let found = loop {
            if STRICT {
                if self.memory.has(row + end as u64) {
                    break false;
                }
                self.memory.insert(row + end as u64);
            }
            if class::may(follow, self.next(end)) {
                break true;
            }
            if left == 0 {
                break false;
            }
            match set.step(self.text, end) {
                Some(next) => end = next,
                None => break false,
            }
            passed += 1;
            left -= u32::from(left != u32::MAX);
        };
        self.steps += passed;
        if !found {
            return None;
        }
        self.stack.push(Frame::Longer { run, pc, at: end as u32, left });
        Some(end)
    }

    /// Runs a pattern on its own. What it captured stays if `keep`; its choices are final.
    fn aside<const STRICT: bool>(
        &mut self,
        pc: u32,
        at: usize,
        pure: bool,
        keep: bool,
    ) -> Result<Option<usize>, Exhausted> {
        let base = self.stack.len();
        let part = if pure { Part::Pure } else { Part::Capturing };
        let Some(end) = self.run::<STRICT>(pc, at, part)? else { return Ok(None) };
        let mut kept = base;
        for index in base..self.stack.len() {
            match self.stack[index] {
                slot @ Frame::Slot { .. } => {
                    self.stack[kept] = slot;
                    kept += 1;
                }
                Frame::Failed { state } if pure => {
                    self.memory.ends.insert(state, end as u32);
                }
                _ => {}
            }
        }
        self.stack.truncate(kept);
        if !keep {
            while self.stack.len() > base {
                if let Some(Frame::Slot { slot, old }) = self.stack.pop() {
                    self.slots[slot as usize] = old;
                }
            }
        }
        Ok(Some(end))
    }
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
        if c != other && lower(c) != lower(other) {
            return None;
        }
    }
    Some(text.len() - rest.as_str().len())
}

/// The small letter, by the Unicode version of the tables; Python compares these here, and not
/// all that is the same but for its case.
fn lower(c: char) -> char {
    let known = unicode::CASES.binary_search_by_key(&c, |&(c, _)| c).is_ok();
    c.to_lowercase().next().filter(|_| known).unwrap_or(c)
}

fn is_word(c: char, ascii: bool) -> bool {
    if c.is_ascii() {
        return c.is_ascii_alphanumeric() || c == '_';
    }
    let after = unicode::WORD.partition_point(|&(first, _)| first <= c);
    !ascii && after > 0 && unicode::WORD[after - 1].1 >= c
}

fn boundary(text: &str, at: usize, ascii: bool) -> bool {
    let bytes = text.as_bytes();
    let before = match at.checked_sub(1).map(|before| bytes[before]) {
        None => false,
        Some(byte) if byte < 128 => is_word(byte.into(), ascii),
        Some(_) => text[..at].chars().next_back().is_some_and(|c| is_word(c, ascii)),
    };
    let after = match bytes.get(at) {
        None => false,
        Some(&byte) if byte < 128 => is_word(byte.into(), ascii),
        Some(_) => text[at..].chars().next().is_some_and(|c| is_word(c, ascii)),
    };
    before != after
}

fn holds(assertion: Assertion, text: &str, at: usize) -> bool {
    let bytes = text.as_bytes();
    match assertion {
        Assertion::Start => at == 0,
        Assertion::End => at == bytes.len() || at + 1 == bytes.len() && bytes[at] == b'\n',
        Assertion::VeryEnd => at == bytes.len(),
        Assertion::LineStart => at == 0 || bytes[at - 1] == b'\n',
        Assertion::LineEnd => at == bytes.len() || bytes[at] == b'\n',
        // in an empty text there is neither, as Python has it
        Assertion::WordBoundary { ascii } => !text.is_empty() && boundary(text, at, ascii),
        Assertion::NotWordBoundary { ascii } => !text.is_empty() && !boundary(text, at, ascii),
    }
}
