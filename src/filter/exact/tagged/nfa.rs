//! The part of a pattern's instructions that an automaton can follow on ASCII texts.

use crate::filter::exact::code::{Code, Op, Way};
use crate::filter::syntax::Assertion;

/// More states make too large an automaton.
const MOST_STATES: usize = 4_000;
/// Nested choices make many states for a byte; this many borders of groups are copied with each.
const MOST_SLOTS: usize = 128;

/// A state; those that consume nothing are passed at once.
#[derive(Clone, Copy, Debug)]
pub(super) enum State {
    /// Consumes a byte out of a set.
    Byte {
        set: u128,
        next: u32,
    },
    /// The first way is preferred.
    Split {
        first: u32,
        second: u32,
    },
    Jump(u32),
    Save {
        slot: u32,
        next: u32,
    },
    Assert {
        assertion: Assertion,
        next: u32,
    },
    /// The byte before is, or is not, in the set.
    Before {
        set: u128,
        negative: bool,
        next: u32,
    },
    /// What begins with `start` must, or must not, follow.
    Ahead {
        start: u32,
        negative: bool,
        next: u32,
    },
    /// The end of what has to follow.
    Done,
    Match,
    Fail,
}

/// An automaton without memory of what it has seen.
#[derive(Debug)]
pub(super) struct Nfa {
    pub(super) states: Vec<State>,
    /// Whether what a state leads to without consuming asks for the byte before.
    pub(super) asks_before: Vec<bool>,
    /// Whether a state leads to the end of what has to follow in any case.
    pub(super) done: Vec<bool>,
    /// The kind of each ASCII byte: those of a kind are the same for all states.
    pub(super) kinds: [u8; 128],
    /// Digits are all of a kind.
    pub(super) digits_alike: bool,
    /// A byte of each kind.
    pub(super) examples: Vec<u8>,
    /// Borders of groups.
    pub(super) slots: usize,
    /// Whether a match begins at the beginning of the text.
    pub(super) anchored: bool,
}

const NEWLINE: u128 = 1 << b'\n';

/// Characters of words.
pub(super) fn word() -> u128 {
    (0..128_u8).filter(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').fold(0, |set, byte| set | 1 << byte)
}

impl Nfa {
    /// The states of a pattern; `None` if it has something that no automaton follows.
    pub(super) fn new(code: &Code, slots: usize, anchored: bool) -> Option<Nfa> {
        if slots > MOST_SLOTS {
            return None;
        }
        let mut states = vec![State::Fail; code.ops.len()];
        let mut aside = 0;
        for (pc, op) in code.ops.iter().enumerate() {
            let next = pc as u32 + 1;
            // what is tried aside may neither capture nor look aside again
            let is_aside = pc < aside;
            states[pc] = match *op {
                Op::Byte(byte) => State::Byte { set: ascii(byte), next },
                Op::Literal { start, end } => {
                    let bytes = &code.literals[start as usize..end as usize];
                    let mut to = next;
                    for byte in bytes[1..].iter().rev() {
                        states.push(State::Byte { set: ascii(*byte), next: to });
                        to = states.len() as u32 - 1;
                    }
                    State::Byte { set: ascii(bytes[0]), next: to }
                }
                Op::Class(set) => State::Byte { set: code.sets[set as usize].ascii(), next },
                Op::Run(run, way) => {
                    let run = &code.runs[run as usize];
                    let set = code.sets[run.set as usize].ascii();
                    State::Jump(unrolled(&mut states, set, (run.min, run.max), way, next)?)
                }
                Op::Split { first, second, .. } => State::Split { first, second },
                Op::Jump(to) => State::Jump(to),
                Op::Save(_) if is_aside => return None,
                Op::Save(slot) => State::Save { slot, next },
                Op::Assert(Assertion::End) if is_aside => return None,
                Op::Assert(Assertion::End) => {
                    let end = states.len() as u32;
                    states.push(State::Split { first: end + 1, second: end + 2 });
                    states.push(State::Assert { assertion: Assertion::VeryEnd, next: end + 3 });
                    states.push(State::Byte { set: NEWLINE, next: end + 1 });
                    states.push(State::Done);
                    State::Ahead { start: end, negative: false, next }
                }
                Op::Assert(assertion) => State::Assert { assertion, next },
                Op::Look(number) => {
                    let look = &code.asides[number as usize];
                    if is_aside || !look.pure {
                        return None;
                    }
                    aside = look.next as usize;
                    let (negative, after) = (look.negative, look.next);
                    match (look.behind, code.ops.get(pc + 1), code.ops.get(pc + 2)) {
                        (0, ..) => State::Ahead { start: next, negative, next: after },
                        (1, Some(Op::Byte(byte)), Some(Op::Done)) => {
                            State::Before { set: ascii(*byte), negative, next: after }
                        }
                        (1, Some(Op::Class(set)), Some(Op::Done)) => {
                            State::Before { set: code.sets[*set as usize].ascii(), negative, next: after }
                        }
                        _ => return None,
                    }
                }
                Op::Done => State::Done,
                Op::Match => State::Match,
                Op::Turn(_) | Op::Turned { .. } | Op::Atomic(_) | Op::Backref { .. } | Op::IfSet { .. } => return None,
            };
            if states.len() > MOST_STATES {
                return None;
            }
        }
        let (kinds, examples) = kinds(&states);
        let asks_before = leads(&states, |state| match state {
            State::Before { .. } => true,
            State::Assert { assertion, .. } => {
                !matches!(assertion, Assertion::End | Assertion::VeryEnd | Assertion::LineEnd)
            }
            _ => false,
        });
        let done = (0..states.len()).map(|state| is_done(&states, state)).collect();
        let digits_alike = (b'0'..=b'9').all(|digit| kinds[usize::from(digit)] == kinds[usize::from(b'0')]);
        Some(Nfa { states, asks_before, done, kinds, digits_alike, examples, slots, anchored })
    }

    /// The kind of an ASCII byte.
    #[inline(always)]
    pub(super) fn kind(&self, byte: u8) -> usize {
        self.kinds[usize::from(byte & 127)].into()
    }
}

fn ascii(byte: u8) -> u128 {
    if byte < 128 { 1 << byte } else { 0 }
}

/// The states of a run; where it begins.
fn unrolled(states: &mut Vec<State>, set: u128, (min, max): (u32, u32), way: Way, next: u32) -> Option<u32> {
    let least = if max == u32::MAX { min } else { max };
    if way == Way::Only || least as usize > MOST_STATES / 4 {
        return None;
    }
    let choice = |consume: u32| match way {
        Way::Shortest => State::Split { first: next, second: consume },
        _ => State::Split { first: consume, second: next },
    };
    let mut to = next;
    if max == u32::MAX {
        let split = states.len() as u32;
        states.push(choice(split + 1));
        states.push(State::Byte { set, next: split });
        to = split;
    } else {
        for _ in min..max {
            states.push(State::Byte { set, next: to });
            states.push(choice(states.len() as u32 - 1));
            to = states.len() as u32 - 1;
        }
    }
    for _ in 0..min {
        states.push(State::Byte { set, next: to });
        to = states.len() as u32 - 1;
    }
    Some(to)
}

/// Bytes that no state tells apart.
fn kinds(states: &[State]) -> ([u8; 128], Vec<u8>) {
    let mut sets: Vec<u128> = Vec::new();
    let mut add = |set: u128| {
        if !sets.contains(&set) {
            sets.push(set);
        }
    };
    add(NEWLINE);
    for state in states {
        match state {
            State::Byte { set, .. } | State::Before { set, .. } => add(*set),
            State::Assert { assertion: Assertion::WordBoundary { .. } | Assertion::NotWordBoundary { .. }, .. } => {
                add(word());
            }
            _ => {}
        }
    }
    let mut kinds = [0_u8; 128];
    let mut examples: Vec<u8> = Vec::new();
    for byte in 0..128_u8 {
        let alike = |other: &u8| sets.iter().all(|set| set >> byte & 1 == set >> *other & 1);
        let kind = examples.iter().position(alike).unwrap_or_else(|| {
            examples.push(byte);
            examples.len() - 1
        });
        kinds[usize::from(byte)] = kind as u8;
    }
    (kinds, examples)
}

/// Whether a state leads to such a state without consuming anything.
fn leads(states: &[State], wanted: impl Fn(&State) -> bool) -> Vec<bool> {
    let mut found: Vec<bool> = states.iter().map(wanted).collect();
    loop {
        let mut changed = false;
        for at in 0..states.len() {
            let has = |to: u32| found[to as usize];
            let leads = match states[at] {
                State::Split { first, second } => has(first) || has(second),
                State::Jump(next) | State::Save { next, .. } | State::Assert { next, .. } => has(next),
                State::Before { next, .. } => has(next),
                State::Ahead { start, next, .. } => has(start) || has(next),
                State::Byte { .. } | State::Done | State::Match | State::Fail => false,
            };
            if leads && !found[at] {
                (found[at], changed) = (true, true);
            }
        }
        if !changed {
            return found;
        }
    }
}

/// Whether the end of what has to follow is reached without a condition.
fn is_done(states: &[State], state: usize) -> bool {
    let mut todo = vec![state];
    // there are no circles without a byte, but ways may meet again
    for _ in 0..100 {
        match todo.pop().map(|state| states[state]) {
            Some(State::Done) => return true,
            Some(State::Split { first, second }) => todo.extend([second as usize, first as usize]),
            Some(State::Jump(next)) => todo.push(next as usize),
            Some(_) => {}
            None => return false,
        }
    }
    false
}
