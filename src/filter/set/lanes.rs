//! Several texts side by side through one automaton: each step of a text has to wait for the one
//! before it, but not for those of the others.

use regex_automata::Input;
use regex_automata::hybrid::LazyStateID;

use super::{Automaton, Cache};

/// So many texts at a time.
const LANES: usize = 4;

/// A text on its way.
#[derive(Clone, Copy)]
struct Lane<'t> {
    number: usize,
    pieces: [&'t [u8]; 2],
    /// What is left of the second piece.
    rest: &'t [u8],
    state: LazyStateID,
}

/// What became of a text.
enum Step {
    Answer(Option<bool>),
    /// It goes on.
    On(LazyStateID),
    /// Memory was cleared: nothing that was known of states holds.
    Cleared,
}

pub(super) fn run<'t>(
    automaton: &Automaton,
    cache: &mut Cache,
    mut texts: impl Iterator<Item = [&'t [u8]; 2]>,
    mut answer: impl FnMut(usize, Option<bool>),
) {
    debug_assert_eq!(automaton.id, cache.id, "the cache of another automaton");
    let mut number = 0;
    loop {
        let Some(start) = start(automaton, cache) else {
            // no memory even for the beginning
            for pieces in texts {
                answer(number, alone(automaton, cache, pieces));
                number += 1;
            }
            return;
        };
        let mut lanes: Vec<Lane<'t>> = Vec::with_capacity(LANES);
        let cleared = loop {
            let mut cleared = false;
            while lanes.len() < LANES && !cleared {
                let Some(pieces) = texts.next() else { break };
                let lane = Lane { number, pieces, rest: pieces[1], state: start };
                number += 1;
                match before(automaton, cache, lane) {
                    Step::On(state) => lanes.push(Lane { state, ..lane }),
                    Step::Answer(found) => answer(lane.number, found),
                    Step::Cleared => {
                        lanes.push(lane);
                        cleared = true;
                    }
                }
            }
            if lanes.is_empty() || cleared {
                break cleared;
            }
            if let Ok(four) = <&mut [Lane<'t>; LANES]>::try_from(&mut lanes[..]) {
                together(automaton, cache, four);
            }
            // whoever is at an end, or at a state that is not known yet, is dealt with alone
            let mut index = 0;
            while index < lanes.len() && !cleared {
                match one(automaton, cache, &mut lanes[index]) {
                    Step::On(state) => {
                        lanes[index].state = state;
                        index += 1;
                    }
                    Step::Answer(found) => {
                        answer(lanes[index].number, found);
                        lanes.swap_remove(index);
                    }
                    Step::Cleared => cleared = true,
                }
            }
            if cleared {
                break true;
            }
        };
        for lane in lanes {
            answer(lane.number, alone(automaton, cache, lane.pieces));
        }
        if !cleared {
            return;
        }
    }
}

fn start(automaton: &Automaton, cache: &mut Cache) -> Option<LazyStateID> {
    let input = Input::new(b"").earliest(true);
    automaton.dfa.start_state_forward(&mut cache.cache, &input).ok().filter(|state| !state.is_tagged())
}

fn alone(automaton: &Automaton, cache: &mut Cache, [before, after]: [&[u8]; 2]) -> Option<bool> {
    automaton.decide(cache, &[before, after, b"\n"])
}

/// Takes all texts forward until one of them is at an end or at a state that says more.
#[inline]
fn together(automaton: &Automaton, cache: &Cache, lanes: &mut [Lane<'_>; LANES]) {
    let (dfa, known) = (&automaton.dfa, &cache.cache);
    let steps = lanes.iter().map(|lane| lane.rest.len()).min().unwrap_or(0);
    let [a, b, c, d] = lanes.each_ref().map(|lane| &lane.rest[..steps]);
    let mut states = lanes.each_ref().map(|lane| lane.state);
    let mut done = steps;
    for at in 0..steps {
        let next = [
            dfa.next_state_untagged(known, states[0], a[at]),
            dfa.next_state_untagged(known, states[1], b[at]),
            dfa.next_state_untagged(known, states[2], c[at]),
            dfa.next_state_untagged(known, states[3], d[at]),
        ];
        if next[0].is_tagged() | next[1].is_tagged() | next[2].is_tagged() | next[3].is_tagged() {
            done = at;
            break;
        }
        states = next;
    }
    for (lane, state) in lanes.iter_mut().zip(states) {
        lane.state = state;
        lane.rest = &lane.rest[done..];
    }
}

/// The first piece of a text.
#[inline]
fn before(automaton: &Automaton, cache: &mut Cache, lane: Lane<'_>) -> Step {
    let mut state = lane.state;
    for &byte in lane.pieces[0] {
        match next(automaton, cache, state, Some(byte)) {
            Step::On(next) => state = next,
            end => return end,
        }
    }
    Step::On(state)
}

/// One step of a text, or the last ones.
#[inline]
fn one(automaton: &Automaton, cache: &mut Cache, lane: &mut Lane<'_>) -> Step {
    if let Some((&byte, rest)) = lane.rest.split_first() {
        lane.rest = rest;
        return next(automaton, cache, lane.state, Some(byte));
    }
    let mut state = lane.state;
    for last in [Some(b'\n'), None] {
        match next(automaton, cache, state, last) {
            Step::On(next) => state = next,
            end => return end,
        }
    }
    Step::Answer(Some(false))
}

/// The next state; `None` is the end of the text.
#[inline]
fn next(automaton: &Automaton, cache: &mut Cache, state: LazyStateID, byte: Option<u8>) -> Step {
    let clears = cache.cache.clear_count();
    let next = match byte {
        Some(byte) => automaton.dfa.next_state(&mut cache.cache, state, byte),
        None => automaton.dfa.next_eoi_state(&mut cache.cache, state),
    };
    match next {
        Err(_) => Step::Cleared,
        // an answer holds whatever became of the memory, but the states of the others do not
        Ok(_) if cache.cache.clear_count() != clears => Step::Cleared,
        Ok(next) if next.is_match() => Step::Answer(Some(true)),
        Ok(next) if next.is_dead() => Step::Answer(Some(false)),
        Ok(next) if next.is_quit() => Step::Answer(None),
        Ok(next) => Step::On(next),
    }
}
