//! ASCII texts through an automaton in strides of eight bytes.
//!
//! The lines of a log begin alike but for their numbers. Where all digits are the same to an
//! automaton, they are made the same; what eight bytes did to a state is mostly known from an earlier line, so the state
//! after them need not be walked to byte by byte.

use regex_automata::Input;
use regex_automata::hybrid::LazyStateID;

use super::{Automaton, Cache};

/// So many strides are remembered, a power of two; 32 KiB.
const KEPT: usize = 2048;

/// A stride with a byte that no ASCII text has.
const NOTHING: u64 = u64::MAX;

/// What was learnt of an automaton's states.
#[derive(Clone, Debug)]
pub(super) struct Strides {
    known: Box<[Stride; KEPT]>,
    start: LazyStateID,
    /// How often the memory of states had been cleared: once more, and nothing of this holds.
    clears: usize,
    digits_alike: bool,
}

/// Eight bytes, digits all `0`, from one state to another.
#[derive(Clone, Copy, Debug)]
struct Stride {
    bytes: u64,
    from: LazyStateID,
    to: LazyStateID,
}

impl Automaton {
    /// The same as [`Automaton::decide`] for a text of two ASCII pieces and a final newline; faster
    /// for texts that are like earlier ones.
    #[inline]
    pub fn decide_ascii(&self, cache: &mut Cache, pieces: [&[u8]; 2]) -> Option<bool> {
        debug_assert!(pieces.iter().all(|piece| piece.is_ascii()), "not ASCII");
        self.stride(cache, pieces).or_else(|| self.decide(cache, &[pieces[0], pieces[1], b"\n"]))
    }

    /// Nothing if the memory of states was cleared on the way.
    fn stride(&self, cache: &mut Cache, [before, after]: [&[u8]; 2]) -> Option<bool> {
        debug_assert_eq!(self.id, cache.id, "the cache of another automaton");
        let clears = cache.cache.clear_count();
        if cache.strides.as_ref().is_none_or(|strides| strides.clears != clears) {
            self.prepare(cache)?;
        }
        let Cache { cache, strides: Some(strides), .. } = cache else { return None };
        let mut state = strides.start;
        for &byte in before {
            state = self.dfa.next_state(cache, state, byte).ok()?;
            if state.is_tagged() {
                return end(state);
            }
        }
        if cache.clear_count() != clears {
            return None;
        }
        let mut rest = after;
        let mut number = 0_u64;
        while let Some((eight, after)) = rest.split_first_chunk::<8>() {
            let bytes = u64::from_le_bytes(*eight);
            let bytes = if strides.digits_alike { without_digits(bytes) } else { bytes };
            let hash = (bytes ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let known = &mut strides.known[(hash >> 53) as usize % KEPT];
            if known.bytes != bytes || known.from != state {
                let mut to = state;
                for byte in bytes.to_le_bytes() {
                    to = self.dfa.next_state(cache, to, byte).ok()?;
                    if to.is_tagged() {
                        break;
                    }
                }
                if cache.clear_count() != clears {
                    return None;
                }
                *known = Stride { bytes, from: state, to };
            }
            state = known.to;
            if state.is_tagged() {
                return end(state);
            }
            rest = after;
            number += 1;
        }
        for &byte in rest.iter().chain(b"\n") {
            state = self.dfa.next_state(cache, state, byte).ok()?;
            if state.is_tagged() {
                return end(state);
            }
        }
        Some(self.dfa.next_eoi_state(cache, state).ok()?.is_match())
    }

    #[cold]
    fn prepare(&self, cache: &mut Cache) -> Option<()> {
        let start = self.dfa.start_state_forward(&mut cache.cache, &Input::new(b"")).ok()?;
        if start.is_tagged() {
            return None;
        }
        let none = Stride { bytes: NOTHING, from: start, to: start };
        let known = Box::new([none; KEPT]);
        let classes = self.dfa.byte_classes();
        let digits_alike = (b'0'..=b'9').all(|digit| classes.get(digit) == classes.get(b'0'));
        cache.strides = Some(Strides { known, start, clears: cache.cache.clear_count(), digits_alike });
        Some(())
    }
}

/// What a state says that is not like others.
#[inline]
fn end(state: LazyStateID) -> Option<bool> {
    (state.is_match() || state.is_dead()).then(|| state.is_match())
}

/// ASCII bytes with `0` in place of every digit.
#[inline]
pub(crate) fn without_digits(bytes: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let from_zero = bytes ^ (ONES * 0x30);
    // the high bit of each byte: it is more than 9
    let others = from_zero.wrapping_add(ONES * (0x7f - 9)) & (ONES * 0x80);
    let mask = (others - (others >> 7)) | others;
    (from_zero & mask) ^ (ONES * 0x30)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_become_noughts() {
        for byte in 0..128u8 {
            let expected = if byte.is_ascii_digit() { b'0' } else { byte };
            for other in [0, b'9', b'/', b':', 0x7f] {
                let bytes = [other, byte, other, byte, byte, other, b'5', byte];
                let out = without_digits(u64::from_le_bytes(bytes)).to_le_bytes();
                assert_eq!([out[1], out[3], out[4], out[7]], [expected; 4], "{byte}");
                assert_eq!(out[6], b'0');
                assert_eq!(out[0] == other, !other.is_ascii_digit());
            }
        }
    }
}
