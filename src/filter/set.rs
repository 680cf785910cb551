//! One lazy DFA for a filter: "can any failregex match this text?" in one pass.
//!
//! Built state by state as texts come, within a fixed memory. A text it cannot decide within
//! that memory is a candidate, never a "no". The text comes in pieces (before and after the date).

use std::sync::atomic::{AtomicU64, Ordering};

use regex_automata::hybrid::dfa::{self, DFA};
use regex_automata::nfa::thompson::{self, WhichCaptures};
use regex_automata::{Input, MatchKind};
use regex_syntax::hir::Hir;

use strides::Strides;
pub(super) use strides::without_digits;

mod strides;

/// Memory of the states of one automaton, per thread.
const CACHE: usize = 3 << 20;

/// Largest automaton description; what is larger is left out ("perhaps" for every line).
const LARGEST_NFA: usize = 8 << 20;

/// An automaton that says whether a text is a candidate.
#[derive(Debug)]
pub struct Automaton {
    dfa: DFA,
    id: u64,
}

/// The states that were built so far; one per automaton and thread.
#[derive(Debug)]
pub struct Cache {
    cache: dfa::Cache,
    /// Which automaton it belongs to.
    id: u64,
    /// A text that came in pieces.
    joined: Vec<u8>,
    strides: Option<Strides>,
}

impl Automaton {
    /// Builds the automaton; `None` if it accepts everything or would be too large.
    #[must_use]
    pub fn new(hir: &Hir) -> Option<Automaton> {
        if hir.properties().minimum_len() == Some(0) && hir.properties().look_set().is_empty() {
            return None;
        }
        Some(Automaton { dfa: build(std::slice::from_ref(hir), MatchKind::LeftmostFirst)?, id: next_id() })
    }

    /// Memory for the states of this automaton.
    #[must_use]
    pub fn cache(&self) -> Cache {
        Cache { cache: self.dfa.create_cache(), id: self.id, joined: Vec::new(), strides: None }
    }

    /// Whether the text that consists of these pieces may match. Giving up is no answer, so it counts as one that may.
    pub fn may_match(&self, cache: &mut Cache, pieces: &[&[u8]]) -> bool {
        self.decide(cache, pieces) != Some(false)
    }

    /// Whether the text that consists of these pieces matches; `None` if that takes more memory than there is.
    pub fn decide(&self, cache: &mut Cache, pieces: &[&[u8]]) -> Option<bool> {
        debug_assert_eq!(self.id, cache.id, "the cache of another automaton");
        let text = match pieces {
            [text] => text,
            pieces => {
                // To copy a line costs less than to walk through its pieces step by step.
                cache.joined.clear();
                pieces.iter().for_each(|piece| cache.joined.extend_from_slice(piece));
                &*cache.joined
            }
        };
        let found = self.dfa.try_search_fwd(&mut cache.cache, &Input::new(text).earliest(true));
        found.ok().map(|found| found.is_some())
    }
}

impl Cache {
    /// Bytes in use.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.cache.memory_usage()
    }
}

fn build(hirs: &[Hir], kind: MatchKind) -> Option<DFA> {
    let size =
        thompson::Config::new().utf8(false).which_captures(WhichCaptures::None).nfa_size_limit(Some(LARGEST_NFA));
    let nfa = thompson::Compiler::new().configure(size).build_many_from_hir(hirs).ok()?;
    // Thrown away too often, states cost more than they save: then it gives up.
    let config = DFA::config()
        .match_kind(kind)
        .cache_capacity(CACHE)
        .skip_cache_capacity_check(true)
        .minimum_cache_clear_count(Some(16))
        .minimum_bytes_per_state(Some(10));
    DFA::builder().configure(config).build_from_nfa(nfa).ok()
}

/// Tells the caches of different automata apart.
fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    fn automaton(pattern: &str) -> Automaton {
        let hir = regex_syntax::ParserBuilder::new().utf8(false).unicode(false).build().parse(pattern).unwrap();
        Automaton::new(&hir).unwrap()
    }

    #[test]
    fn a_text_in_pieces_is_the_text() {
        let automaton = automaton(r"\A *(?:sshd|cron): (?:Failed|Invalid) [a-z]+(?m:$)");
        let mut cache = automaton.cache();
        for (text, expected) in [
            (&b" sshd: Failed root\n"[..], true),
            (b" sshd: Failed root", true),
            (b" sshd: Failed root 1\n", false),
            (b"x sshd: Failed root\n", false),
            (b"", false),
        ] {
            for cut in 0..=text.len() {
                let (left, right) = text.split_at(cut);
                assert_eq!(automaton.may_match(&mut cache, &[left, right]), expected, "{text:?} at {cut}");
                assert_eq!(automaton.may_match(&mut cache, &[b"", left, b"", right]), expected, "{text:?} at {cut}");
            }
            assert_eq!(automaton.may_match(&mut cache, &[text]), expected, "{text:?}");
        }
    }

    #[test]
    fn what_accepts_everything_is_no_automaton() {
        let hir = regex_syntax::ParserBuilder::new().utf8(false).unicode(false).build().parse("a*").unwrap();
        assert!(Automaton::new(&hir).is_none());
    }

    #[test]
    fn too_many_states_mean_perhaps() {
        // Each text needs states of its own: 2^n sets of positions.
        let automaton = automaton(r"(?-u:[ab])*a(?-u:[ab]){200}c");
        let mut cache = automaton.cache();
        let mut random = 1u64;
        let mut perhaps = 0;
        // enough for more than sixteen caches full
        for _ in 0..200 {
            let text: Vec<u8> = (0..2000)
                .map(|_| {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    if random >> 40 & 1 == 1 { b'a' } else { b'b' }
                })
                .collect();
            perhaps += usize::from(automaton.may_match(&mut cache, &[&text]));
        }
        assert!(perhaps > 0);
        assert!(cache.memory() < 2 * CACHE, "{} bytes", cache.memory());
    }
}
