//! Sets of characters in the form in which a search tests and scans them.

use std::sync::Arc;

use crate::filter::syntax::Class;

/// Which of the 256 bytes, or the end of the text (index 256), may come next.
pub(super) type Next = [u64; 5];

/// Index of the end of the text in a [`Next`].
pub(super) const END: usize = 256;

/// Every first byte of a character, and the end. The other bytes are left out, so that a place
/// that passes is always a border between characters.
pub(super) const ANY: Next = [u64::MAX, u64::MAX, 0, u64::MAX, 1];

/// Whether it is in.
#[inline(always)]
pub(super) fn may(set: &Next, next: usize) -> bool {
    set[next >> 6] >> (next & 63) & 1 == 1
}

/// Puts it in.
pub(super) fn insert(set: &mut Next, next: usize) {
    set[next >> 6] |= 1 << (next & 63);
}

/// Puts all of them in.
pub(super) fn unite(set: &mut Next, other: &Next) {
    for (word, more) in set.iter_mut().zip(other) {
        *word |= more;
    }
}

/// Characters beyond ASCII.
#[derive(Clone, Debug)]
enum Beyond {
    None,
    All,
    /// The ranges, and one bit for each character from U+0080 to U+07FF.
    Some {
        ranges: Arc<[(char, char)]>,
        two: Box<[u64; 32]>,
    },
}

/// The bytes that end a run, where they are few enough to look for them with vector instructions.
#[derive(Clone, Copy, Debug)]
enum Stop {
    Many,
    Never,
    At1(u8),
    At2(u8, u8),
    At3(u8, u8, u8),
}

/// A set of characters.
#[derive(Clone, Debug)]
pub(super) struct Set {
    source: Class,
    /// The bytes below 128 that are in it.
    ascii: [bool; 256],
    beyond: Beyond,
    stop: Stop,
    /// First bytes of its characters.
    pub(super) first: Next,
}

/// Bytes of the character that begins with this one.
#[inline(always)]
pub(super) fn width(first: u8) -> usize {
    match first {
        0..0x80 => 1,
        0x80..0xe0 => 2,
        0xe0..0xf0 => 3,
        _ => 4,
    }
}

fn first_byte(c: char) -> u8 {
    let mut buffer = [0; 4];
    c.encode_utf8(&mut buffer);
    buffer[0]
}

impl Set {
    pub(super) fn new(source: &Class) -> Set {
        let mut first = [source.ascii as u64, (source.ascii >> 64) as u64, 0, 0, 0];
        let mut ascii = [false; 256];
        for (byte, inside) in ascii.iter_mut().enumerate().take(128) {
            *inside = source.ascii >> byte & 1 == 1;
        }
        for &(low, high) in source.other.iter() {
            for byte in first_byte(low)..=first_byte(high) {
                insert(&mut first, byte.into());
            }
        }
        let all = |ranges: &[(char, char)]| {
            let mut next = '\u{80}';
            for &(low, high) in ranges {
                if low > next {
                    return false;
                }
                next = match high {
                    char::MAX => return true,
                    // the ranges of Rust's characters have a hole where the surrogates are
                    '\u{d7ff}' => '\u{e000}',
                    high => char::from_u32(high as u32 + 1).unwrap_or(char::MAX),
                };
            }
            false
        };
        let beyond = if source.other.is_empty() {
            Beyond::None
        } else if all(&source.other) {
            Beyond::All
        } else {
            let mut two = Box::new([0_u64; 32]);
            for &(low, high) in source.other.iter() {
                for code in (low as u32).max(0x80)..=(high as u32).min(0x7ff) {
                    two[code as usize >> 6] |= 1 << (code & 63);
                }
            }
            Beyond::Some { ranges: Arc::clone(&source.other), two }
        };
        let mut stop = Stop::Many;
        if matches!(beyond, Beyond::All) {
            let missing: Vec<u8> = (0..128).filter(|b| source.ascii >> b & 1 == 0).take(4).collect();
            stop = match missing[..] {
                [] => Stop::Never,
                [a] => Stop::At1(a),
                [a, b] => Stop::At2(a, b),
                [a, b, c] => Stop::At3(a, b, c),
                _ => Stop::Many,
            };
        }
        Set { source: source.clone(), ascii, beyond, stop, first }
    }

    /// Its ASCII characters, a bit for each.
    pub(super) fn ascii(&self) -> u128 {
        self.source.ascii
    }

    pub(super) fn is(&self, class: &Class) -> bool {
        self.source.ascii == class.ascii
            && (Arc::ptr_eq(&self.source.other, &class.other) || self.source.other == class.other)
    }

    #[cold]
    fn step_beyond(&self, text: &str, at: usize) -> Option<usize> {
        let c = text.get(at..)?.chars().next()?;
        let inside = match &self.beyond {
            Beyond::None => false,
            Beyond::All => true,
            Beyond::Some { two, .. } if c < '\u{800}' => two[c as usize >> 6] >> (c as u32 & 63) & 1 == 1,
            Beyond::Some { ranges, .. } => {
                let after = ranges.partition_point(|&(low, _)| low <= c);
                after > 0 && ranges[after - 1].1 >= c
            }
        };
        inside.then(|| at + c.len_utf8())
    }

    /// The place behind the character at `at`, if that is in the set.
    #[inline(always)]
    pub(super) fn step(&self, text: &str, at: usize) -> Option<usize> {
        let byte = *text.as_bytes().get(at)?;
        if self.ascii[usize::from(byte)] {
            return Some(at + 1);
        }
        if byte < 128 { None } else { self.step_beyond(text, at) }
    }

    /// The place behind all characters of the set that follow each other from `at`.
    #[inline]
    pub(super) fn scan_all(&self, text: &str, at: usize) -> usize {
        self.scan_to(text, at, text.len())
    }

    /// The same, but it need not look further than `limit`. Where it does not stop before, what it
    /// returns may lie behind the limit or, if that is within a character, there; to go on from
    /// there is right.
    #[inline]
    pub(super) fn scan_to(&self, text: &str, at: usize, limit: usize) -> usize {
        let bytes = text.as_bytes();
        let mut end = at;
        let rest = &bytes[at..limit.max(at)];
        let found = match self.stop {
            Stop::Many => loop {
                let Some(rest) = bytes.get(end..limit) else { return end };
                match rest.iter().position(|&byte| !self.ascii[usize::from(byte)]) {
                    None => return limit,
                    Some(length) => end += length,
                }
                if bytes[end] < 128 {
                    return end;
                }
                match self.step_beyond(text, end) {
                    Some(next) => end = next,
                    None => return end,
                }
            },
            Stop::Never => None,
            Stop::At1(a) => memchr::memchr(a, rest),
            Stop::At2(a, b) => memchr::memchr2(a, b, rest),
            Stop::At3(a, b, c) => memchr::memchr3(a, b, c, rest),
        };
        at + found.unwrap_or(rest.len())
    }

    /// The place behind all characters of the set that follow each other from `at`, at most `most`.
    #[inline]
    pub(super) fn scan(&self, text: &str, at: usize, most: u32) -> usize {
        if most == u32::MAX {
            return self.scan_all(text, at);
        }
        let mut end = at;
        for _ in 0..most {
            match self.step(text, end) {
                Some(next) => end = next,
                None => break,
            }
        }
        end
    }
}
