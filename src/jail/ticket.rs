//! What is known of one failure or ban besides its count: the lines, the captured values.

use crate::address::Id;
use crate::filter::{Data, Datum, Failure, Match};
use crate::time::Time;

/// The longest line that is kept with a failure, in bytes; what is longer is cut.
pub const MAX_KEPT_LINE: usize = 16 * 1024;
/// How many bytes of lines one source can make us keep.
pub const MAX_KEPT_LINES: usize = 64 * 1024;
/// How many bytes of captured values are kept; further values are left out.
const MAX_KEPT_DATA: usize = 16 * 1024;

/// A failure whose identifier and time are settled: host names looked up, ignore rules asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Ticket {
    /// Who is counted and banned.
    pub id: Id,
    /// When it happened, not later than now.
    pub time: Time,
    /// What comes with it.
    pub details: Details,
}

impl Ticket {
    /// From a filter's failure. `id` is its identifier, or one of the addresses of its name.
    #[must_use]
    pub fn new(failure: Failure, id: Id, now: Time) -> Ticket {
        let time = failure.time.unwrap_or(now).min(now);
        let address = failure.address.filter(|address| *address != id);
        Ticket { id, time, details: Details { matches: failure.matches, data: failure.data, address } }
    }

    /// A failure or ban that somebody asked for.
    #[must_use]
    pub fn manual(id: Id, lines: &[&str], time: Time) -> Ticket {
        let matches = lines.iter().map(|line| Match { line: (*line).into(), date: (0, 0) }).collect();
        Ticket { id, time, details: Details { matches, ..Details::default() } }
    }
}

/// What comes with a failure, and later with the ban. Bounded, see [`MAX_KEPT_LINES`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Details {
    /// The last lines, oldest first.
    pub matches: Vec<Match>,
    /// Captured values of the first failure.
    pub data: Data,
    /// The address, where the identifier is something else.
    pub address: Option<Id>,
}

impl Details {
    /// Appends the lines of a later failure; its other values are not of interest.
    pub(super) fn append(&mut self, matches: Vec<Match>) {
        self.matches.extend(matches);
    }

    /// Keeps the last `maxmatches` lines, and no more bytes than allowed.
    pub(super) fn bound(&mut self, maxmatches: u32) {
        let surplus = self.matches.len().saturating_sub(maxmatches as usize);
        self.matches.drain(..surplus);
        let mut room = MAX_KEPT_LINES;
        let mut kept = 0;
        for matched in self.matches.iter_mut().rev() {
            cut(matched);
            if matched.line.len() > room {
                break;
            }
            room -= matched.line.len();
            kept += 1;
        }
        self.matches.drain(..self.matches.len() - kept);
        self.matches.shrink_to(8);
        let mut room = MAX_KEPT_DATA;
        self.data.retain(|(name, datum)| {
            let size = name.len() + datum_size(datum);
            let fits = size <= room;
            room = room.saturating_sub(size);
            fits
        });
        self.data.shrink_to_fit();
    }

    /// Without room for more; there may be many of them.
    pub(super) fn tight(mut self) -> Details {
        self.matches.shrink_to_fit();
        self.data.shrink_to_fit();
        self
    }

    /// Roughly the memory this takes, in bytes.
    pub(super) fn size(&self) -> usize {
        if self.matches.is_empty() && self.data.is_empty() && self.address.is_none() {
            return 0;
        }
        let lines: usize = self.matches.iter().map(|matched| 40 + matched.line.len()).sum();
        let data: usize = self.data.iter().map(|(_, datum)| 56 + datum_size(datum)).sum();
        96 + lines + data
    }
}

fn cut(matched: &mut Match) {
    if matched.line.len() > MAX_KEPT_LINE {
        let end = (0..=MAX_KEPT_LINE).rev().find(|at| matched.line.is_char_boundary(*at)).unwrap_or(0);
        matched.line = matched.line[..end].into();
        if matched.date.1 as usize > end {
            matched.date = (0, 0);
        }
    }
}

fn datum_size(datum: &Datum) -> usize {
    match datum {
        Datum::Text(text) => text.len(),
        Datum::Set(texts) => texts.iter().map(|text| 32 + text.len()).sum(),
        Datum::Tuple(texts) => texts.iter().map(|text| 16 + text.as_ref().map_or(0, |text| 16 + text.len())).sum(),
    }
}
