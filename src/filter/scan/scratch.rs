//! What a thread keeps between blocks: memory that grows with what it has seen, within bounds.

use super::dating::Dating;
use super::plan::Jails;
use super::{exact, set};

/// So many scanners keep the states of their automata per thread; the one that was not used for
/// the longest time loses them.
const MOST_SCANNERS: usize = 64;

/// All states of automata that a thread keeps, in bytes.
const MOST_MEMORY: usize = 64 << 20;

/// Memory for the work of one thread; may be used with any number of scanners.
#[derive(Debug, Default)]
pub struct Scratch {
    pub(super) exact: exact::Cache,
    pub(super) lossy: String,
    pub(super) candidates: Jails,
    pub(super) cursor: Vec<usize>,
    pub(super) dating: Dating,
    pub(super) kept: Kept,
    /// If it is there, it is filled with the lines of a block as the first jail sees them.
    pub places: Option<Vec<Place>>,
}

/// A line in a block and its date; of a line that is not UTF-8 the date stands in the decoded text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Where it begins and ends, without its newline, in bytes of the block.
    pub line: (usize, usize),
    /// Where its date begins and ends, in bytes of the line; the same if it has none.
    pub date: (usize, usize),
    /// It is UTF-8.
    pub utf8: bool,
}

/// The states of the automata of one filter.
#[derive(Debug, Default)]
pub(super) struct Caches {
    pub(super) first: Option<set::Cache>,
    pub(super) second: Option<set::Cache>,
    /// Grows with each line that matches and falls with each that does not.
    matching: usize,
}

/// From here on most lines match: to judge them at once costs less than to ask first.
const FLOOD: usize = 256;

impl Caches {
    /// Takes note of a line that came as far as the automata. One that is judged in vain costs a look
    /// at each failregex.
    pub(super) fn note(&mut self, matched: bool, failregexes: usize) {
        self.matching = if matched {
            (self.matching + 2).min(FLOOD * 2)
        } else {
            self.matching.saturating_sub(4 + failregexes / 2)
        };
    }

    pub(super) fn is_flooded(&self) -> bool {
        self.matching >= FLOOD
    }
}

/// The states of automata by scanner, the one used last at the end.
#[derive(Debug, Default)]
pub(super) struct Kept {
    scanners: Vec<(u64, Vec<Caches>)>,
    blocks: u32,
}

impl Kept {
    /// Those of a scanner with so many filters.
    pub(super) fn of(&mut self, scanner: u64, filters: usize) -> &mut [Caches] {
        let entry = match self.scanners.iter().rposition(|(id, _)| *id == scanner) {
            Some(at) if at + 1 == self.scanners.len() => None,
            Some(at) => Some(self.scanners.remove(at)),
            None => Some((scanner, Vec::new())),
        };
        self.scanners.extend(entry);
        let Some((_, caches)) = self.scanners.last_mut() else { return &mut [] };
        if caches.len() < filters {
            caches.resize_with(filters, Caches::default);
        }
        caches
    }

    /// Forgets what has not been used for long, if it is too much.
    pub(super) fn tidy(&mut self) {
        self.blocks = self.blocks.wrapping_add(1);
        if self.scanners.len() > MOST_SCANNERS {
            self.scanners.remove(0);
        }
        // Counting is not free, and nothing grows fast.
        if !self.blocks.is_multiple_of(64) {
            return;
        }
        let mut left = MOST_MEMORY;
        for (_, caches) in self.scanners.iter_mut().rev() {
            for cache in caches {
                let used = [&cache.first, &cache.second].into_iter().flatten().map(set::Cache::memory).sum();
                match left.checked_sub(used) {
                    Some(rest) => left = rest,
                    None => *cache = Caches::default(),
                }
            }
        }
    }
}
