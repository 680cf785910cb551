//! What may come next at a choice: the byte that stands there often decides it.

use super::class::{self, ANY, END, Next};
use super::code::{BOTH_WAYS, Code, NO_WAY, Op, Ways};
use crate::filter::syntax::Assertion;

/// Instructions looked at to find out which byte may come next.
const LOOK_AHEAD: usize = 200;
/// Choices one after the other that are passed over together.
const LONGEST_WAY: usize = 50;
/// Ways that are kept for one pattern.
const MOST_WAYS: usize = 1 << 16;

/// For each instruction the last question about what comes next that came across it.
struct Seen {
    questions: u32,
    last: Vec<u32>,
}

impl Code {
    /// Finds out what may come next at all choices, and numbers the memory.
    pub(super) fn finish(&mut self) {
        let mut seen = Seen { questions: 0, last: vec![0; self.ops.len()] };
        self.first = self.next(0, &mut seen);
        self.memos = 0;
        for index in 0..self.ops.len() {
            match self.ops[index] {
                Op::Split { first, second, choice } => {
                    let first = self.next_number(first, &mut seen);
                    let second = self.next_number(second, &mut seen);
                    let memo = self.memos as u32;
                    let choice = &mut self.choices[choice as usize];
                    (choice.first, choice.second, choice.memo) = (first, second, memo);
                    self.memos += 1 << (choice.conditions.1 - choice.conditions.0);
                }
                Op::Run(run, _) => {
                    let follow = self.next_number(index as u32 + 1, &mut seen);
                    let memo = self.memos as u32;
                    let run = &mut self.runs[run as usize];
                    (run.follow, run.memo) = (follow, memo);
                    self.memos += 1 << (run.conditions.1 - run.conditions.0);
                }
                _ => {}
            }
        }
        self.ops.shrink_to_fit();
    }

    /// Finds out where choices lead, by the byte that comes next; `None` if there are too many.
    pub(super) fn ways(&self) -> Option<Ways> {
        let (kinds, examples) = self.kinds();
        let (kinds, width) = (kinds?, examples.len());
        let count = self.choices.len() * width;
        if count > MOST_WAYS || self.ops.len() >= usize::from(BOTH_WAYS) {
            return None;
        }
        let mut table = vec![NO_WAY; count];
        for op in &self.ops {
            let Op::Split { first, second, choice } = *op else { continue };
            for (kind, &next) in examples.iter().enumerate() {
                table[choice as usize * width + kind] = match self.which_ways(choice, next) {
                    (true, true) => BOTH_WAYS,
                    (true, false) => self.far(first, next),
                    (false, true) => self.far(second, next),
                    (false, false) => NO_WAY,
                };
            }
        }
        Some(Ways { table, kinds, width })
    }

    /// The kinds of next bytes, and one of each kind; no kinds if they are too many.
    fn kinds(&self) -> (Option<Box<[u8; 257]>>, Vec<usize>) {
        let mut kinds = [0_usize; 257];
        let mut examples = vec![0];
        for set in &self.nexts {
            // those of a kind that are in the set become a new kind, unless all are
            let mut partly = vec![false; examples.len()];
            for (next, kind) in kinds.iter().enumerate() {
                partly[*kind] |= !class::may(set, next);
            }
            let mut new = vec![None; examples.len()];
            for (next, kind) in kinds.iter_mut().enumerate() {
                if partly[*kind] && class::may(set, next) {
                    *kind = *new[*kind].get_or_insert_with(|| {
                        examples.push(next);
                        examples.len() - 1
                    });
                }
            }
            // what is left of a kind may have lost its example, or be nothing
            for (next, kind) in kinds.iter().enumerate() {
                if kinds[examples[*kind]] != *kind {
                    examples[*kind] = next;
                }
            }
        }
        let mut numbers = Box::new([0; 257]);
        for (number, kind) in numbers.iter_mut().zip(kinds) {
            match u8::try_from(kind) {
                Ok(kind) => *number = kind,
                Err(_) => return (None, examples),
            }
        }
        (Some(numbers), examples)
    }

    fn which_ways(&self, choice: u32, next: usize) -> (bool, bool) {
        let choice = &self.choices[choice as usize];
        let may = |number: u32| class::may(&self.nexts[number as usize], next);
        (may(choice.first), may(choice.second))
    }

    /// Where one gets from an instruction without a choice that is one.
    fn far(&self, mut pc: u32, next: usize) -> u16 {
        for _ in 0..LONGEST_WAY {
            pc = match self.ops[pc as usize] {
                Op::Jump(to) => to,
                Op::Split { first, second, choice } => match self.which_ways(choice, next) {
                    (true, true) => break,
                    (true, false) => first,
                    (false, true) => second,
                    (false, false) => return NO_WAY,
                },
                _ => break,
            };
        }
        pc as u16
    }

    fn next_number(&mut self, pc: u32, seen: &mut Seen) -> u32 {
        let next = self.next(pc, seen);
        if let Some(known) = self.nexts.iter().position(|n| *n == next) {
            return known as u32;
        }
        self.nexts.push(next);
        self.nexts.len() as u32 - 1
    }

    /// Which bytes, or the end of the text, may come next if this instruction is to lead to a match.
    fn next(&self, pc: u32, seen: &mut Seen) -> Next {
        let mut found = [0; 5];
        let mut looked_at = 0;
        let mut todo = vec![pc];
        seen.questions += 1;
        while let Some(pc) = todo.pop() {
            if std::mem::replace(&mut seen.last[pc as usize], seen.questions) == seen.questions {
                continue;
            }
            if looked_at == LOOK_AHEAD {
                return ANY;
            }
            looked_at += 1;
            match self.ops[pc as usize] {
                Op::Byte(byte) => class::insert(&mut found, byte.into()),
                Op::Literal { start, .. } => class::insert(&mut found, self.literals[start as usize].into()),
                Op::Class(set) => class::unite(&mut found, &self.sets[set as usize].first),
                Op::Run(run, _) => {
                    let run = &self.runs[run as usize];
                    class::unite(&mut found, &self.sets[run.set as usize].first);
                    if run.min == 0 {
                        todo.push(pc + 1);
                    }
                }
                Op::Split { first, second, .. } => todo.extend([first, second]),
                Op::Jump(to) => todo.push(to),
                Op::Turned { exit, .. } => todo.extend([pc + 1, exit]),
                Op::IfSet { no, .. } => todo.extend([pc + 1, no]),
                Op::Assert(Assertion::End | Assertion::LineEnd) => {
                    class::insert(&mut found, b'\n'.into());
                    class::insert(&mut found, END);
                }
                Op::Assert(Assertion::VeryEnd) => class::insert(&mut found, END),
                Op::Assert(_) | Op::Save(_) | Op::Turn(_) => todo.push(pc + 1),
                Op::Look(aside) => todo.push(self.asides[aside as usize].next),
                Op::Atomic(_) => todo.push(pc + 1),
                Op::Backref { .. } | Op::Done | Op::Match => return ANY,
            }
        }
        found
    }
}
