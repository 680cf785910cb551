//! The exact matcher for texts that are like earlier ones: an automaton with tags, made while it runs.
//!
//! What a backtracking search would try one after the other is walked through side by side, in
//! the order of preference; a set of such ways is a row of a table, and a byte leads from one row
//! to the next. Each way has registers for the borders of its groups; what has to be written to
//! them belongs to the step. Steps are worked out when a text first takes them; most texts of
//! a log take known ones, at a few instructions for each byte.
//!
//! Look-ahead is a debt that a way carries with it until the text has paid it or not. What else
//! is not regular (back-references, atomic groups, turns that may be empty) is left to the
//! backtracking search, and so are texts that are not ASCII and those that need more new steps
//! than they may cost: hostile text cannot make this slow.

mod nfa;
mod step;

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use super::code::Code;
use super::search::UNSET;
use crate::filter::set::without_digits;
use nfa::Nfa;
use step::{Row, Source, Step};

/// New steps that one text may cost.
pub(super) const PATIENCE: u32 = 32;
/// New steps that may be saved up, in quarters; each text that needs none adds one.
const MOST_CREDIT: u32 = 4 * 4096;
/// So often a pattern is searched for before it gets an automaton.
const WORTHWHILE: u32 = 16;
/// Memory for the steps of one pattern, and of all patterns of a thread, in bytes; what is larger is begun anew.
const LARGEST: usize = 1 << 20;
const LARGEST_OF_ALL: usize = 16 << 20;

/// Strides that are kept for one pattern, a power of two.
const KEPT: usize = 1024;

/// In the table: nothing is known yet.
const UNKNOWN: u32 = u32::MAX;
/// In the table: the number of an effect, not the place of a row.
const EFFECT: u32 = 1 << 31;
/// No way is left.
const DEAD: u32 = UNKNOWN;

/// A pattern as an automaton; the same for all threads.
#[derive(Debug)]
pub(super) struct Tagged {
    nfa: Nfa,
}

/// What a thread has learnt of all patterns, by their numbers.
#[derive(Debug, Default)]
pub(super) struct Learnt {
    patterns: HashMap<u64, Steps, BuildHasherDefault<Same>>,
    memory: usize,
}

/// A number is its own hash.
#[derive(Debug, Default)]
struct Same(u64);

impl Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, number: u64) {
        self.0 = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// A step that does more than lead to another row.
#[derive(Debug)]
struct Effect {
    to: u32,
    here: Option<u16>,
    matched: Option<Box<[Source]>>,
}

/// Eight bytes of a text, digits all `0` where they are alike: the row that they lead to, or those
/// of them that it can tell about.
#[derive(Clone, Copy, Debug)]
struct Stride {
    bytes: u64,
    from: u32,
    to: u32,
    length: u8,
    /// There are effects on the way.
    effects: bool,
}

/// A stride with a byte that no ASCII text has.
const NOTHING: Stride = Stride { bytes: u64::MAX, from: 0, to: 0, length: 0, effects: false };

/// What was learnt of one pattern.
#[derive(Debug, Default)]
pub(super) struct Steps {
    /// For each row and kind of byte: the place of the next row or the number of an effect.
    table: Vec<u32>,
    /// Kinds of bytes, and the end.
    width: usize,
    rows: Vec<Arc<Row>>,
    places: HashMap<Arc<Row>, u32>,
    effects: Vec<Effect>,
    strides: Vec<Stride>,
    /// By stride: effects and after how many bytes they come.
    effects_of_strides: Vec<[(u32, u8); 2]>,
    registers: Vec<u32>,
    /// Bytes in use, and those of them that are not yet counted among those of all patterns.
    memory: usize,
    grown: usize,
    credit: u32,
    searches: u32,
    used: bool,
}

impl Tagged {
    /// `None` if the pattern has something that no automaton follows.
    pub(super) fn new(code: &Code, slots: usize, anchored: bool) -> Option<Tagged> {
        Some(Tagged { nfa: Nfa::new(code, slots, anchored)? })
    }

    /// Whether an ASCII text matches, and the borders of its groups; `None` if that cannot be
    /// said at an acceptable price: new steps, or those that were saved up.
    pub(super) fn search(&self, steps: &mut Steps, text: &[u8], slots: &mut [u32], patience: u32) -> Option<bool> {
        steps.run(&self.nfa, text, slots, patience)
    }
}

impl Learnt {
    /// What is known of a pattern, once it has been searched for so often that an automaton pays.
    #[inline]
    pub(super) fn of(&mut self, id: u64) -> Option<&mut Steps> {
        if self.memory > LARGEST_OF_ALL {
            self.tidy();
        }
        // that it is known takes memory too: with each reload there are other patterns
        let new = || Steps { credit: MOST_CREDIT, grown: size_of::<Steps>(), ..Steps::default() };
        let steps = self.patterns.entry(id).or_insert_with(new);
        steps.used = true;
        self.memory += std::mem::take(&mut steps.grown);
        if steps.searches < WORTHWHILE {
            steps.searches += 1;
            return None;
        }
        Some(steps)
    }

    /// Forgets all steps when they are too many, and patterns that are no longer in use.
    #[cold]
    fn tidy(&mut self) {
        self.patterns.retain(|_, steps| steps.used);
        self.patterns.values_mut().for_each(Steps::clear);
        self.memory = 0;
    }
}

impl Steps {
    fn clear(&mut self) {
        *self = Steps { credit: self.credit, searches: self.searches, ..Steps::default() };
    }

    fn run(&mut self, nfa: &Nfa, text: &[u8], slots: &mut [u32], patience: u32) -> Option<bool> {
        if self.rows.is_empty() {
            self.width = nfa.examples.len() + 1;
            self.add(Row::start(nfa));
            self.strides.resize(KEPT, NOTHING);
            self.effects_of_strides.resize(KEPT, [(UNKNOWN, 0); 2]);
            self.grow(KEPT * (size_of::<Stride>() + size_of::<[(u32, u8); 2]>()));
        }
        let mut left = patience;
        let mut found = false;
        let (mut row, mut at) = (0, 0);
        loop {
            (row, at) = self.stride(nfa, text, row, at, slots, &mut found);
            let kind = text.get(at).map_or(self.width - 1, |byte| nfa.kind(*byte));
            let mut to = self.table[row as usize + kind];
            if to == UNKNOWN {
                left = left.checked_sub(1)?;
                self.credit = if patience == u32::MAX { MOST_CREDIT } else { self.credit };
                to = self.learn(nfa, row as usize, kind)?;
            }
            row = if to < EFFECT { to } else { self.apply(to, at, slots, &mut found) };
            if row == DEAD {
                self.credit += u32::from(left == patience && self.credit < MOST_CREDIT);
                return Some(found);
            }
            at += 1;
        }
    }

    /// Does what a step at this place does, and says which row it leads to.
    #[inline(always)]
    fn apply(&mut self, effect: u32, at: usize, slots: &mut [u32], found: &mut bool) -> u32 {
        let effect = &self.effects[(effect - EFFECT) as usize];
        if let Some(borders) = &effect.matched {
            *found = true;
            for (slot, border) in slots.iter_mut().zip(borders) {
                *slot = match *border {
                    Source::Register(register) => self.registers[usize::from(register)],
                    Source::Here => at as u32,
                    Source::Unset => UNSET,
                };
            }
        }
        if let Some(register) = effect.here {
            self.registers[usize::from(register)] = at as u32;
        }
        effect.to
    }

    /// Goes on eight bytes at a time, as far as that is known.
    #[inline(always)]
    fn stride(
        &mut self,
        nfa: &Nfa,
        text: &[u8],
        mut row: u32,
        mut at: usize,
        slots: &mut [u32],
        found: &mut bool,
    ) -> (u32, usize) {
        while let Some(eight) = text.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
            let mut bytes = u64::from_le_bytes(*eight);
            if nfa.digits_alike {
                bytes = without_digits(bytes);
            }
            let hash = (bytes ^ u64::from(row)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let place = (hash >> 54) as usize % KEPT;
            let mut known = self.strides[place];
            if known.bytes != bytes || known.from != row {
                known = self.walked(nfa, eight, bytes, row, place);
            }
            if known.effects {
                for (effect, offset) in self.effects_of_strides[place] {
                    if effect != UNKNOWN {
                        self.apply(effect, at + usize::from(offset), slots, found);
                    }
                }
            }
            (row, at) = (known.to, at + usize::from(known.length));
            if known.length < 8 {
                break;
            }
        }
        (row, at)
    }

    /// A stride byte by byte.
    fn walked(&mut self, nfa: &Nfa, eight: &[u8; 8], bytes: u64, from: u32, place: usize) -> Stride {
        let mut stride = Stride { bytes, from, to: from, length: 0, effects: false };
        let mut effects = [(UNKNOWN, 0); 2];
        let mut free = effects.iter_mut();
        for byte in eight {
            let mut next = self.table[stride.to as usize + nfa.kind(*byte)];
            if next == UNKNOWN {
                // the next time more is known
                stride.bytes = NOTHING.bytes;
                break;
            }
            if next >= EFFECT {
                let to = self.effects[(next - EFFECT) as usize].to;
                let Some(effect) = free.next().filter(|_| to != DEAD) else { break };
                *effect = (next, stride.length);
                stride.effects = true;
                next = to;
            }
            stride.to = next;
            stride.length += 1;
        }
        self.strides[place] = stride;
        self.effects_of_strides[place] = effects;
        stride
    }

    fn grow(&mut self, bytes: usize) {
        self.memory += bytes;
        self.grown += bytes;
    }

    /// Works out a step.
    #[cold]
    fn learn(&mut self, nfa: &Nfa, row: usize, kind: usize) -> Option<u32> {
        self.credit = self.credit.checked_sub(4)?;
        if self.memory > LARGEST {
            self.clear();
            return None;
        }
        let next = (kind + 1 < self.width).then_some(kind as u8);
        let Step { to, here, matched } = self.rows[row / self.width].clone().step(nfa, next)?;
        let to = to.map(|row| self.add(row));
        let entry = match to {
            Some(place) if here.is_none() && matched.is_none() => place,
            to => {
                if let Some(register) = here.map(usize::from)
                    && register >= self.registers.len()
                {
                    self.registers.resize(register + 1, UNSET);
                }
                self.grow(48 + matched.as_ref().map_or(0, |borders| borders.len() * 4));
                let matched = matched.map(Vec::into_boxed_slice);
                self.effects.push(Effect { to: to.unwrap_or(DEAD), here, matched });
                EFFECT + self.effects.len() as u32 - 1
            }
        };
        self.table[row + kind] = entry;
        Some(entry)
    }

    /// The place of a row.
    fn add(&mut self, row: Row) -> u32 {
        if let Some(place) = self.places.get(&row) {
            return *place;
        }
        self.grow(row.memory() + self.width * 4 + 64);
        let row = Arc::new(row);
        let place = self.table.len() as u32;
        self.rows.push(row.clone());
        self.places.insert(row, place);
        self.table.resize(self.table.len() + self.width, UNKNOWN);
        place
    }
}
