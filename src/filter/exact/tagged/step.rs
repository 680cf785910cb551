//! One step of all ways at once.

use std::sync::Arc;

use super::nfa::{Nfa, State, word};
use crate::filter::syntax::Assertion;

/// Instead of the kind of the byte before: the text begins, or nobody asks.
const START: u16 = u16::MAX;
const ANY: u16 = u16::MAX - 1;
/// A match that still has debts.
const WAITING: u32 = u32::MAX;
/// A border that is not set.
const NONE: u16 = u16::MAX;
/// Looks ahead that one way may have open.
const MOST_DEBTS: usize = 4;
/// Ways side by side, and states that are passed in one step; each is compared with all others.
const MOST_WAYS: usize = 128;
const MOST_PASSED: usize = 512;

/// Something that has to follow, or must not.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Debt {
    negative: bool,
    /// Where it may be by now.
    states: Vec<u32>,
}

/// One way to a match, as far as it has come.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Way {
    state: u32,
    /// The register of each border.
    registers: Box<[u16]>,
    debts: Vec<Debt>,
}

/// All ways that are still open, the preferred ones first: a state of the automaton.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Row {
    ways: Vec<Way>,
    before: u16,
    /// A match may still begin.
    searching: bool,
}

/// What a border is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Register(u16),
    Here,
    Unset,
}

/// What a byte leads to.
#[derive(Debug)]
pub(super) struct Step {
    /// `None`: no way is left.
    pub(super) to: Option<Row>,
    /// The register that takes this place.
    pub(super) here: Option<u16>,
    /// The borders of the best match so far.
    pub(super) matched: Option<Vec<Source>>,
}

/// A way that is being worked out.
#[derive(Clone)]
struct Open {
    state: u32,
    borders: Arc<Vec<Source>>,
    debts: Arc<Vec<Debt>>,
}

/// What a look ahead has come to.
enum Look {
    Met,
    Failed,
    Open(Vec<u32>),
}

/// All that one step needs.
struct Work<'n> {
    nfa: &'n Nfa,
    before: u16,
    /// The kind of the byte; `None` at the end.
    next: Option<u8>,
    seen: Vec<(u32, Arc<Vec<Debt>>)>,
    after: Vec<Open>,
}

impl Row {
    /// Before the first byte.
    pub(super) fn start(nfa: &Nfa) -> Row {
        let first = Way { state: 0, registers: vec![NONE; nfa.slots].into(), debts: Vec::new() };
        // the first border is written with the first byte
        Row { ways: if nfa.anchored { vec![first] } else { Vec::new() }, before: START, searching: !nfa.anchored }
    }

    /// Bytes that it takes in memory.
    pub(super) fn memory(&self) -> usize {
        let debts = |way: &Way| way.debts.iter().map(|debt| 32 + debt.states.len() * 4).sum::<usize>();
        64 + self.ways.iter().map(|way| 64 + way.registers.len() * 2 + debts(way)).sum::<usize>()
    }

    /// Where a byte of this kind leads, or the end of the text; `None` if that is too much.
    pub(super) fn step(&self, nfa: &Nfa, next: Option<u8>) -> Option<Step> {
        let mut work = Work { nfa, before: self.before, next, seen: Vec::new(), after: Vec::new() };
        let mut matched = None;
        for way in &self.ways {
            let Some(debts) = work.paid(&way.debts) else { continue };
            let mut borders: Vec<Source> = way.registers.iter().map(|register| source(*register)).collect();
            if self.before == START && nfa.anchored {
                borders[0] = Source::Here;
            }
            let way = Open { state: way.state, borders: borders.into(), debts: debts.into() };
            matched = work.follow(way)?;
            if matched.is_some() {
                break;
            }
        }
        if matched.is_none() && self.searching {
            let mut borders = vec![Source::Unset; nfa.slots];
            borders[0] = Source::Here;
            matched = work.follow(Open { state: 0, borders: borders.into(), debts: Arc::default() })?;
        }
        let searching = self.searching && matched.is_none();
        let matched = matched.map(|borders| borders.to_vec());
        let after = work.after;
        if next.is_none() || after.is_empty() && !searching {
            return Some(Step { to: None, here: None, matched });
        }
        let (ways, here) = numbered(after)?;
        let asks = |state: u32| state != WAITING && nfa.asks_before[state as usize];
        let asks = searching && asks(0)
            || ways
                .iter()
                .any(|way| asks(way.state) || way.debts.iter().any(|debt| debt.states.iter().any(|s| asks(*s))));
        let before = next.filter(|_| asks).map_or(ANY, u16::from);
        Some(Step { to: Some(Row { ways, before, searching }), here, matched })
    }
}

/// Gives the borders registers: what has one keeps it, and all that are set here share the
/// lowest that is free.
fn numbered(after: Vec<Open>) -> Option<(Vec<Way>, Option<u16>)> {
    if after.len() > MOST_WAYS {
        return None;
    }
    let is_used = |register| after.iter().any(|open| open.borders.contains(&Source::Register(register)));
    let is_here = after.iter().any(|open| open.borders.contains(&Source::Here));
    let here = if is_here { (0..NONE).find(|register| !is_used(*register)) } else { None };
    let ways = after.into_iter().map(|open| {
        let registers = open.borders.iter().map(|border| match border {
            Source::Register(register) => *register,
            Source::Here => here.unwrap_or(NONE),
            Source::Unset => NONE,
        });
        Way { state: open.state, registers: registers.collect(), debts: Arc::unwrap_or_clone(open.debts) }
    });
    Some((ways.collect(), here))
}

fn source(register: u16) -> Source {
    if register == NONE { Source::Unset } else { Source::Register(register) }
}

impl Work<'_> {
    /// Follows a way up to what consumes the byte; its borders if it has matched. `None` if that is too much.
    fn follow(&mut self, way: Open) -> Option<Option<Arc<Vec<Source>>>> {
        if way.state == WAITING {
            return Some(self.arrived(way));
        }
        let mut todo = vec![way];
        while let Some(Open { state, mut borders, mut debts }) = todo.pop() {
            if self.seen.iter().any(|(known, with)| *known == state && *with == debts) {
                continue;
            }
            if self.seen.len() > MOST_PASSED {
                return None;
            }
            self.seen.push((state, debts.clone()));
            let to = match self.nfa.states[state as usize] {
                State::Byte { set, next } => {
                    if self.is_next_in(set) {
                        self.keep(Open { state: next, borders, debts });
                    }
                    continue;
                }
                State::Split { first, second } => {
                    todo.push(Open { state: second, borders: borders.clone(), debts: debts.clone() });
                    first
                }
                State::Jump(next) => next,
                State::Save { slot, next } => {
                    Arc::make_mut(&mut borders)[slot as usize] = Source::Here;
                    next
                }
                State::Assert { assertion, next } if self.holds(assertion) => next,
                State::Before { set, negative, next } if self.is_before_in(set) != negative => next,
                State::Ahead { start, negative, next } => {
                    match (self.look(&[start]), negative) {
                        (Look::Met, true) | (Look::Failed, false) => continue,
                        (Look::Met, false) | (Look::Failed, true) => {}
                        (Look::Open(states), _) => {
                            let debt = Debt { negative, states };
                            if !debts.contains(&debt) {
                                Arc::make_mut(&mut debts).push(debt);
                            }
                            if debts.len() > MOST_DEBTS {
                                return None;
                            }
                        }
                    }
                    next
                }
                State::Match => {
                    Arc::make_mut(&mut borders)[1] = Source::Here;
                    let matched = self.arrived(Open { state: WAITING, borders, debts });
                    if matched.is_some() {
                        return Some(matched);
                    }
                    continue;
                }
                State::Assert { .. } | State::Before { .. } | State::Done | State::Fail => continue,
            };
            todo.push(Open { state: to, borders, debts });
        }
        Some(None)
    }

    /// At a match: its borders, unless debts are left.
    fn arrived(&mut self, way: Open) -> Option<Arc<Vec<Source>>> {
        if way.debts.is_empty() {
            return Some(way.borders);
        }
        self.keep(way);
        None
    }

    /// Of two ways with the same future only the first counts.
    fn keep(&mut self, way: Open) {
        if !self.after.iter().any(|other| other.state == way.state && other.debts == way.debts) {
            self.after.push(way);
        }
    }

    /// What is left of debts behind the byte; `None` if one cannot be paid any more.
    fn paid(&self, debts: &[Debt]) -> Option<Vec<Debt>> {
        let mut left = Vec::new();
        for debt in debts {
            match (self.look(&debt.states), debt.negative) {
                (Look::Met, true) | (Look::Failed, false) => return None,
                (Look::Met, false) | (Look::Failed, true) => {}
                (Look::Open(states), negative) => {
                    let debt = Debt { negative, states };
                    if !left.contains(&debt) {
                        left.push(debt);
                    }
                }
            }
        }
        Some(left)
    }

    /// What a look ahead that has come so far makes of the byte.
    fn look(&self, states: &[u32]) -> Look {
        let mut todo: Vec<u32> = states.iter().rev().copied().collect();
        let (mut seen, mut after) = (Vec::new(), Vec::new());
        while let Some(state) = todo.pop() {
            if seen.contains(&state) {
                continue;
            }
            seen.push(state);
            match self.nfa.states[state as usize] {
                State::Byte { set, next } if self.is_next_in(set) => {
                    if self.nfa.done[next as usize] {
                        return Look::Met;
                    }
                    if !after.contains(&next) {
                        after.push(next);
                    }
                }
                State::Split { first, second } => todo.extend([second, first]),
                State::Jump(next) => todo.push(next),
                State::Assert { assertion, next } if self.holds(assertion) => todo.push(next),
                State::Before { set, negative, next } if self.is_before_in(set) != negative => todo.push(next),
                State::Done => return Look::Met,
                _ => {}
            }
        }
        if after.is_empty() {
            return Look::Failed;
        }
        after.sort_unstable();
        Look::Open(after)
    }

    fn is_next_in(&self, set: u128) -> bool {
        self.next.is_some_and(|kind| set >> self.nfa.examples[usize::from(kind)] & 1 == 1)
    }

    fn is_before_in(&self, set: u128) -> bool {
        self.nfa.examples.get(usize::from(self.before)).is_some_and(|byte| set >> byte & 1 == 1)
    }

    fn holds(&self, assertion: Assertion) -> bool {
        let newline = 1 << b'\n';
        let boundary = || self.is_before_in(word()) != self.is_next_in(word());
        let is_empty = self.before == START && self.next.is_none();
        match assertion {
            Assertion::Start => self.before == START,
            Assertion::LineStart => self.before == START || self.is_before_in(newline),
            Assertion::LineEnd => self.next.is_none() || self.is_next_in(newline),
            Assertion::VeryEnd => self.next.is_none(),
            Assertion::WordBoundary { .. } => !is_empty && boundary(),
            Assertion::NotWordBoundary { .. } => !is_empty && !boundary(),
            // there it is a look ahead
            Assertion::End => false,
        }
    }
}
