//! Where in a line a time of day may stand: most templates need one, most places have none.

use super::layout::Op;
use super::part::{Next, WORD};

/// The colon between hour and minute that every match of a template contains.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    /// At most so many bytes of the match stand before the colon, if all is ASCII.
    lead: usize,
    /// What may stand before the hour; `end` means that nothing may.
    before: Next,
}

impl Clock {
    /// From the instructions of a template; `None` if it does not need one, or there is no bound.
    pub(super) fn of(ops: &[Op]) -> Option<Clock> {
        let hour = ops.windows(3).position(|three| match three {
            [Op::Part { part, .. }, Op::Byte(b':'), Op::Part { .. }] => part.is_hour(),
            _ => false,
        })?;
        // The last character before each instruction, whatever way led there.
        let mut last = vec![Next::default(); ops.len() + 1];
        let at_start = matches!(ops.first(), Some(Op::Start));
        last[0] = if at_start { Next { ascii: 0, end: true, high: false } } else { Next::ANY };
        let mut lead = 0;
        let mut opened = [0; 64];
        let mut widths = [None; 32];
        for (at, op) in ops[..=hour].iter().enumerate() {
            let before = last[at];
            let (after, width) = match *op {
                Op::Byte(b) => (Next { ascii: 1 << b, end: false, high: false }, 1),
                Op::Set { ascii, high } => (Next { ascii, end: false, high }, 1),
                Op::Run { ascii, high, min, max, .. } => {
                    let these = Next { ascii, end: false, high };
                    (if min == 0 { these.or(before) } else { these }, if max > 64 { return None } else { max as usize })
                }
                Op::Part { part, .. } => (Next { ascii: u128::MAX, end: false, high: true }, part.longest()),
                Op::Split { other, .. } | Op::SplitLazy { other, .. } => {
                    if usize::from(other) > hour {
                        return None;
                    }
                    last[usize::from(other)] = last[usize::from(other)].or(before);
                    (before, 0)
                }
                Op::Jump(to) => {
                    if usize::from(to) > hour {
                        return None;
                    }
                    last[usize::from(to)] = last[usize::from(to)].or(before);
                    (Next::default(), 0)
                }
                Op::Save { slot, .. } => {
                    let group = usize::from(slot / 2);
                    if slot % 2 == 0 {
                        opened[group] = lead;
                    } else {
                        widths[group] = Some(lead - opened[group]);
                    }
                    (before, 0)
                }
                Op::Back { group, .. } => (Next::ANY, widths[usize::from(group)]?),
                // Digits follow, so what stands before is not of a word.
                Op::Before if at == 0 => (Next { ascii: !WORD, end: true, high: true }, 0),
                Op::Start | Op::LineStart | Op::Before | Op::Boundary { .. } => (before, 0),
                _ => return None,
            };
            last[at + 1] = last[at + 1].or(after);
            lead += width;
        }
        Some(Clock { lead, before: last[hour] })
    }

    /// The first start from `from` on that may lead to a match, and the last one that belongs
    /// to the same colon.
    pub(super) fn next(&self, text: &[u8], from: usize, ascii: bool) -> Option<(usize, usize)> {
        let lead = if ascii { self.lead } else { self.lead * 4 };
        let mut at = from;
        loop {
            let colon = at + memchr::memchr(b':', text.get(at..)?)?;
            at = colon + 1;
            if colon <= from {
                continue;
            }
            let digit = |n: usize| text.get(n).is_some_and(|&b| b.is_ascii_digit() || b >= 0x80);
            if !digit(colon - 1) || !digit(colon + 1) {
                continue;
            }
            // An hour of one digit, or of two.
            let before = |n: usize| match colon.checked_sub(n) {
                None => self.before.end,
                Some(n) => text[n] >= 0x80 || self.before.has(text[n]),
            };
            if !ascii || before(2) || digit(colon - 2.min(colon)) && before(3) {
                return Some((from.max(colon.saturating_sub(lead)), colon - 1));
            }
        }
    }
}
