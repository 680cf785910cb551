//! The three ways most logs write their dates, recognised byte by byte in their usual form:
//! two digits where one would do, no oddities. Anything else is left to the others.
//!
//! What is found here is what the template's pattern finds: the usual form leaves it no other way.

/// Where the date begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// At the start of the line.
    Start,
    /// There, after at most two non-word characters.
    LooseStart,
    /// After the first `[` of the line.
    Bracket,
}

/// How the date is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `2005-08-14T12:00:00.123+02:00`; separators `-`, `/` or `.`; `T` or a blank.
    Iso,
    /// `Sun Aug 14 12:00:00.123 2005`; day name, fraction and year optional.
    Syslog,
    /// `14/Aug/2005:12:00:00 +0200`; separators `/` or `-`; `:` or a blank.
    Access,
}

/// A usual form at a usual place; years are those from the first to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quick {
    /// Where.
    pub place: Place,
    /// How.
    pub form: Form,
    /// First and last year that counts as one.
    pub years: (u16, u16),
}

impl Quick {
    /// Start and end of the date; `None` says nothing.
    #[inline]
    pub(super) fn find(&self, text: &[u8]) -> Option<(usize, usize)> {
        let start = match self.place {
            Place::Start => 0,
            Place::LooseStart => {
                let other = |n: usize| text.get(n).is_some_and(|&b| !word(b) && b < 0x80);
                match (other(0), other(1)) {
                    (false, _) => 0,
                    (true, false) => 1,
                    (true, true) => 2,
                }
            }
            Place::Bracket => memchr::memchr(b'[', text)? + 1,
        };
        let rest = text.get(start..)?;
        let end = match self.form {
            Form::Iso => self.iso(rest),
            Form::Syslog => self.syslog(rest),
            Form::Access => self.access(rest),
        }?;
        Some((start, start + end))
    }

    #[inline]
    fn iso(&self, text: &[u8]) -> Option<usize> {
        let head: &[u8; 19] = text.first_chunk()?;
        let separator = head[4];
        let usual = self.year(head[0], head[1], head[2], head[3])
            && matches!(separator, b'-' | b'/' | b'.')
            && month(head[5], head[6])
            && head[7] == separator
            && day(head[8], head[9])
            && head[9] != b' '
            && head[8] != b' '
            && matches!(head[10], b'T' | b' ')
            && hour(head[11], head[12])
            && clock(&[head[13], head[14], head[15], head[16], head[17], head[18]]);
        if !usual {
            return None;
        }
        let end = fraction(text, 19, true)?;
        match text.get(end) {
            None => Some(end),
            Some(b'Z') => bound(text, end + 1),
            Some(b'+' | b'-') => match zone(text, end) {
                Some(end) => Some(end),
                // No zone after all: a non-word character follows, that will do.
                None if !matches!(text.get(end + 1), Some(b'0' | b'1' | 0x80..)) => Some(end),
                None => None,
            },
            Some(b' ') => match text.get(end + 1) {
                // Perhaps a zone comes after the blanks.
                Some(b' ' | 9..=13 | 28..=31 | b'Z' | b'U' | b'G' | b'+' | b'-' | 0x80..) => None,
                _ => Some(end),
            },
            Some(9..=13 | 28..=31) => None,
            Some(_) => bound(text, end),
        }
    }

    #[inline]
    fn syslog(&self, text: &[u8]) -> Option<usize> {
        let mut at = 0;
        let head: &[u8; 4] = text.first_chunk()?;
        if !month_name(head[0], head[1], head[2]) {
            if !day_name(head[0], head[1], head[2]) || head[3] != b' ' {
                return None;
            }
            at = 4;
        }
        let head: &[u8; 15] = text.get(at..)?.first_chunk()?;
        let usual = month_name(head[0], head[1], head[2])
            && head[3] == b' '
            && day(head[4], head[5])
            && head[6] == b' '
            && hour(head[7], head[8])
            && clock(&[head[9], head[10], head[11], head[12], head[13], head[14]]);
        if !usual {
            return None;
        }
        let end = fraction(text, at + 15, false)?;
        if text.get(end) != Some(&b' ') {
            return bound(text, end);
        }
        match text.get(end + 1) {
            Some(b'0'..=b'9' | 0x80..) => {
                let year: &[u8; 4] = text.get(end + 1..)?.first_chunk()?;
                if self.year(year[0], year[1], year[2], year[3]) { bound(text, end + 5) } else { None }
            }
            _ => Some(end),
        }
    }

    #[inline]
    fn access(&self, text: &[u8]) -> Option<usize> {
        let head: &[u8; 20] = text.first_chunk()?;
        let separator = head[2];
        let usual = day(head[0], head[1])
            && head[0] != b' '
            && matches!(separator, b'-' | b'/')
            && month_name(head[3], head[4], head[5])
            && head[6] == separator
            && self.year(head[7], head[8], head[9], head[10])
            && matches!(head[11], b':' | b' ')
            && hour(head[12], head[13])
            && clock(&[head[14], head[15], head[16], head[17], head[18], head[19]]);
        if !usual {
            return None;
        }
        let end = fraction(text, 20, false)?;
        if text.get(end) != Some(&b' ') {
            return bound(text, end);
        }
        match text.get(end + 1) {
            Some(b'+' | b'-') => zone(text, end + 1),
            // These letters may be a zone's, in any case.
            Some(b'Z' | b'U' | b'G' | b'z' | b'u' | b'g' | 0x80..) => None,
            _ => Some(end),
        }
    }

    #[inline]
    fn year(&self, a: u8, b: u8, c: u8, d: u8) -> bool {
        if !(a.is_ascii_digit() && b.is_ascii_digit() && c.is_ascii_digit() && d.is_ascii_digit()) {
            return false;
        }
        let year =
            u16::from(a - b'0') * 1000 + u16::from(b - b'0') * 100 + u16::from(c - b'0') * 10 + u16::from(d - b'0');
        self.years.0 <= year && year <= self.years.1
    }
}

fn word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_'
}

/// `end`, if a word bound is there for certain.
#[inline]
fn bound(text: &[u8], end: usize) -> Option<usize> {
    match text.get(end) {
        Some(&b) if word(b) || b >= 0x80 => None,
        _ => Some(end),
    }
}

#[inline]
fn month(a: u8, b: u8) -> bool {
    a == b'0' && matches!(b, b'1'..=b'9') || a == b'1' && matches!(b, b'0'..=b'2')
}

#[inline]
fn day(a: u8, b: u8) -> bool {
    match a {
        b' ' | b'0' => matches!(b, b'1'..=b'9'),
        b'1' | b'2' => b.is_ascii_digit(),
        b'3' => matches!(b, b'0' | b'1'),
        _ => false,
    }
}

#[inline]
fn hour(a: u8, b: u8) -> bool {
    matches!(a, b'0' | b'1') && b.is_ascii_digit() || a == b'2' && matches!(b, b'0'..=b'3')
}

/// `:MM:SS`.
#[inline]
fn clock(text: &[u8; 6]) -> bool {
    text[0] == b':'
        && matches!(text[1], b'0'..=b'5')
        && text[2].is_ascii_digit()
        && text[3] == b':'
        && (matches!(text[4], b'0'..=b'5') && text[5].is_ascii_digit()
            || text[4] == b'6' && matches!(text[5], b'0' | b'1'))
}

/// The end of a fraction that may stand here; `None` if one begins oddly.
#[inline]
fn fraction(text: &[u8], at: usize, comma: bool) -> Option<usize> {
    match text.get(at) {
        Some(b'.') => {}
        Some(b',') if comma => {}
        _ => return Some(at),
    }
    let mut end = at + 1;
    while text.get(end).is_some_and(u8::is_ascii_digit) {
        end += 1;
    }
    match (end - at - 1, text.get(end)) {
        (_, Some(0x80..)) => None,
        // A point that is not part of the date.
        (0, _) => Some(at),
        (1..=6, _) => Some(end),
        _ => None,
    }
}

/// The end of a zone like `+0200` here.
#[inline]
fn zone(text: &[u8], at: usize) -> Option<usize> {
    let digit = |n: usize| text.get(at + n).is_some_and(u8::is_ascii_digit);
    if !(matches!(text.get(at + 1), Some(b'0' | b'1')) && digit(2)) {
        return None;
    }
    let colon = usize::from(text.get(at + 3) == Some(&b':'));
    if digit(3 + colon) && digit(4 + colon) { bound(text, at + 5 + colon) } else { None }
}

#[inline]
fn three(a: u8, b: u8, c: u8) -> u32 {
    u32::from_le_bytes([a | 0x20, b | 0x20, c | 0x20, 0])
}

const fn name(of: &[u8; 3]) -> u32 {
    u32::from_le_bytes([of[0], of[1], of[2], 0])
}

#[inline]
pub(super) fn month_name(a: u8, b: u8, c: u8) -> bool {
    const NAMES: [u32; 12] = [
        name(b"jan"),
        name(b"feb"),
        name(b"mar"),
        name(b"apr"),
        name(b"may"),
        name(b"jun"),
        name(b"jul"),
        name(b"aug"),
        name(b"sep"),
        name(b"oct"),
        name(b"nov"),
        name(b"dec"),
    ];
    let text = three(a, b, c);
    NAMES.iter().fold(false, |found, name| found | (*name == text)) && a >= b'A' && b >= b'A' && c >= b'A'
}

#[inline]
fn day_name(a: u8, b: u8, c: u8) -> bool {
    const NAMES: [u32; 7] =
        [name(b"mon"), name(b"tue"), name(b"wed"), name(b"thu"), name(b"fri"), name(b"sat"), name(b"sun")];
    let text = three(a, b, c);
    NAMES.iter().fold(false, |found, name| found | (*name == text)) && a >= b'A' && b >= b'A' && c >= b'A'
}
