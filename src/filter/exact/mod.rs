//! The exact matcher: priorities, captures, look-around and conditionals as in a backtracking
//! engine, in time linear in the text.
//!
//! A search backtracks, with runs of a class as single instructions. That is fast on ordinary
//! text and may be very slow on hostile text; so it has a budget of steps in proportion to the
//! text. When that is used up, the strict form takes over: it never takes the same choice at the
//! same place twice, because what failed there once will fail again.
//!
//! What a back-reference does depends on more than the place; such patterns have a limit of steps
//! instead, [`MAX_STEPS`]. So have patterns with captures within look-around or an atomic group
//! (they are run again each time), and those whose memory would exceed [`MAX_MEMORY`].

mod class;
mod code;
mod compile;
mod decide;
mod head;
mod next;
mod search;
mod strict;
mod tagged;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use self::code::{Anchor, Code, Shape, Ways};
use self::head::Head;
pub use self::head::Start;
use self::search::{Frame, Memory, Search, UNSET};
use self::tagged::{Learnt, Tagged};
use super::syntax::Pattern;

/// Steps that a search may take whose time is not bounded otherwise.
pub const MAX_STEPS: u64 = 1_000_000;
/// Most memory for one search, in bits: 32 MiB.
pub const MAX_MEMORY: u64 = 1 << 28;
/// Frames of the stack that stay allocated between searches.
const KEEP_FRAMES: usize = 1 << 14;

/// Steps that the fast form of a pattern may take on a text of so many bytes before the strict
/// one takes over.
#[must_use]
pub fn budget(length: usize) -> u64 {
    length as u64 * 8 + 1024
}

/// How a search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It matched; the cache holds the groups.
    Match,
    /// It does not match.
    NoMatch,
    /// The step limit was reached.
    Unresolved,
}

/// A compiled pattern.
#[derive(Debug)]
pub struct Program {
    fast: Code,
    /// Made when a text comes that may match.
    ways: OnceLock<Option<Box<Ways>>>,
    /// Made when a text first asks for it.
    strict: OnceLock<Box<Code>>,
    /// Made when it is searched for often.
    tagged: OnceLock<Option<Box<Tagged>>>,
    /// Tells apart what threads have learnt of it.
    id: u64,
    head: Head,
    shape: Shape,
    /// Borders of groups.
    borders: usize,
}

/// Scratch memory and the groups of the last match; one per thread, for all programs.
#[derive(Debug, Default)]
pub struct Cache {
    /// Borders of groups, then registers of loops.
    slots: Vec<u32>,
    borders: usize,
    stack: Vec<Frame>,
    memory: Memory,
    learnt: Learnt,
    steps: u64,
}

impl Cache {
    /// Start and end of a group of the last match in bytes; group 0 is the whole match.
    #[must_use]
    pub fn group(&self, index: u32) -> Option<(usize, usize)> {
        let at = index as usize * 2;
        match self.slots.get(..self.borders)?.get(at..at + 2)? {
            &[from, to] if from != UNSET && to != UNSET => Some((from as usize, to as usize)),
            _ => None,
        }
    }

    /// Steps that the last search took.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps
    }
}

impl Program {
    /// Compiles a pattern. Never fails: the parser has checked everything, sizes included.
    #[must_use]
    pub fn new(pattern: &Pattern) -> Program {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let (fast, shape) = Code::fast(pattern);
        Program {
            fast,
            ways: OnceLock::new(),
            strict: OnceLock::new(),
            tagged: OnceLock::new(),
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            head: if shape.anchor == Anchor::Text { Head::new(pattern) } else { Head::default() },
            shape,
            borders: (pattern.groups as usize + 1) * 2,
        }
    }

    /// Whether a match can only begin at the beginning of the text.
    #[must_use]
    pub fn is_anchored(&self) -> bool {
        self.shape.anchor == Anchor::Text
    }

    /// Whether a search of a text of so many bytes can end without a decision: its steps are limited.
    #[must_use]
    pub fn may_give_up(&self, length: usize) -> bool {
        let code = self.strict.get_or_init(|| Box::new(self.fast.strict()));
        self.shape.backrefs
            || self.shape.too_conditional
            || self.shape.captures_aside
            || code.memos.saturating_mul(length as u64 + 1) > MAX_MEMORY
    }

    /// Searches `text[from..]` for the leftmost match; assertions see the whole text.
    /// `from` is a border between characters.
    #[inline]
    pub fn search(&self, cache: &mut Cache, text: &str, from: usize) -> Outcome {
        if self.shape.anchor == Anchor::Text && (from > 0 || !self.may_begin(Start::of(text))) {
            (cache.steps, cache.borders) = (0, 0);
            return Outcome::NoMatch;
        }
        if from == 0
            && let Some(outcome) = self.search_by_steps(cache, text, tagged::PATIENCE)
        {
            return outcome;
        }
        self.search_with(cache, text, from, budget(text.len()))
    }

    /// The search by steps that are known from earlier texts.
    #[inline]
    fn search_by_steps(&self, cache: &mut Cache, text: &str, patience: u32) -> Option<Outcome> {
        if matches!(self.tagged.get(), Some(None)) || !text.is_ascii() || text.len() >= UNSET as usize {
            return None;
        }
        let steps = cache.learnt.of(self.id)?;
        let anchored = self.shape.anchor == Anchor::Text;
        let tagged = self.tagged.get_or_init(|| Tagged::new(&self.fast, self.borders, anchored).map(Box::new));
        (cache.steps, cache.borders) = (0, self.borders);
        cache.slots.clear();
        cache.slots.resize(self.borders, UNSET);
        let found = tagged.as_ref()?.search(steps, text.as_bytes(), &mut cache.slots, patience)?;
        Some(if found { Outcome::Match } else { Outcome::NoMatch })
    }

    /// The same by the automaton, at any price, so that a test can hold it against the others;
    /// undecided if there is none for this pattern and text.
    pub fn search_by_automaton(&self, cache: &mut Cache, text: &str) -> Outcome {
        // the first times it is not thought worthwhile, and what fills the memory is begun anew
        let mut tries = (0..20).map(|_| self.search_by_steps(cache, text, u32::MAX));
        tries.find_map(|outcome| outcome).unwrap_or(Outcome::Unresolved)
    }

    /// Whether a text that begins like this may match. With most patterns most do not.
    #[inline]
    #[must_use]
    pub fn may_begin(&self, start: Start) -> bool {
        self.head.may_be(start)
    }

    /// The same in the strict form from the start: slower on ordinary text, so that a test can
    /// hold both against each other.
    pub fn search_strictly(&self, cache: &mut Cache, text: &str, from: usize) -> Outcome {
        self.search_with(cache, text, from, 0)
    }

    fn search_with(&self, cache: &mut Cache, text: &str, from: usize, patience: u64) -> Outcome {
        cache.steps = 0;
        cache.borders = self.borders;
        cache.stack.clear();
        cache.slots.clear();
        cache.slots.resize(self.borders + self.shape.registers as usize, UNSET);
        if text.len() >= UNSET as usize {
            return Outcome::Unresolved;
        }
        let unbounded = self.shape.backrefs || self.shape.too_conditional;
        let mut start = from;
        let outcome = if unbounded {
            self.attempts::<false>(&self.fast, cache, text, &mut start, MAX_STEPS).unwrap_or(Outcome::Unresolved)
        } else {
            let fast = if patience == 0 {
                None
            } else {
                self.attempts::<false>(&self.fast, cache, text, &mut start, patience)
            };
            fast.unwrap_or_else(|| self.strictly(cache, text, start))
        };
        if cache.stack.capacity() > KEEP_FRAMES {
            cache.stack = Vec::new();
        }
        outcome
    }

    /// The search from `start` on with a memory of what failed.
    #[cold]
    fn strictly(&self, cache: &mut Cache, text: &str, mut start: usize) -> Outcome {
        let code = self.strict.get_or_init(|| Box::new(self.fast.strict()));
        let bits = code.memos.saturating_mul(text.len() as u64 + 1);
        if bits > MAX_MEMORY {
            let limit = cache.steps + MAX_STEPS;
            return self.attempts::<false>(&self.fast, cache, text, &mut start, limit).unwrap_or(Outcome::Unresolved);
        }
        cache.memory.reserve(bits);
        let limit = if self.shape.captures_aside { cache.steps + MAX_STEPS } else { u64::MAX };
        let outcome = self.attempts::<true>(code, cache, text, &mut start, limit);
        cache.memory.clear();
        outcome.unwrap_or(Outcome::Unresolved)
    }

    /// Tries one place after the other, from `start` on; nothing if the steps do not suffice for `start`.
    fn attempts<const STRICT: bool>(
        &self,
        code: &Code,
        cache: &mut Cache,
        text: &str,
        start: &mut usize,
        limit: u64,
    ) -> Option<Outcome> {
        let bytes = text.as_bytes();
        let ways = match STRICT {
            true => None,
            false => self.ways.get_or_init(|| self.fast.ways().map(Box::new)).as_deref(),
        };
        loop {
            match self.shape.anchor {
                Anchor::None => {
                    // where nothing of this pattern can begin, none is tried
                    while !class::may(&code.first, bytes.get(*start).map_or(class::END, |&byte| byte.into())) {
                        if *start >= bytes.len() {
                            return Some(Outcome::NoMatch);
                        }
                        *start += 1;
                    }
                }
                Anchor::Text if *start > 0 => return Some(Outcome::NoMatch),
                Anchor::Line if *start > 0 && bytes.get(*start - 1) != Some(&b'\n') => {
                    match memchr::memchr(b'\n', bytes.get(*start..)?) {
                        Some(newline) => *start += newline + 1,
                        None => return Some(Outcome::NoMatch),
                    }
                }
                _ => {}
            }
            cache.stack.clear();
            cache.slots.fill(UNSET);
            let mut search = Search {
                code,
                ways,
                text,
                stack: &mut cache.stack,
                slots: &mut cache.slots,
                memory: &mut cache.memory,
                steps: cache.steps,
                limit,
            };
            let found = search.from::<STRICT>(*start);
            cache.steps = search.steps;
            if let Some(end) = found.ok()? {
                cache.slots[0] = *start as u32;
                cache.slots[1] = end as u32;
                return Some(Outcome::Match);
            }
            if *start >= bytes.len() {
                return Some(Outcome::NoMatch);
            }
            *start += class::width(bytes[*start]);
        }
    }
}
