//! The date of the line before, of which that of the next line mostly differs by the time of day.

use super::quick::{Form, Place, Quick, month_name};

/// Longer dates are not looked at in one go.
const LONGEST: usize = 32;

/// A date in one of the usual forms, up to the time of day, and what stands after that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Day {
    quick: Quick,
    date: Box<[u8]>,
    /// Where in it the hour begins.
    clock: usize,
    shape: Option<Shape>,
}

/// The date and what stands before it, byte by byte.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Shape {
    /// From the beginning of the line, if the date stands there; else from the date's.
    bytes: [u64; LONGEST / 8],
    /// All bits of those that are the same in all dates of the day.
    same: [u64; LONGEST / 8],
    /// All bits of those that are digits.
    digits: [u64; LONGEST / 8],
    /// Where in it the date and the hour begin, and where the date ends.
    start: usize,
    clock: usize,
    end: usize,
    /// The date ends with a zone or a year, behind which nothing belongs to it.
    complete: bool,
}

impl Quick {
    /// The day of a date that was found at this place of a line, and is a valid one.
    #[must_use]
    pub fn day(&self, line: &[u8], (start, end): (usize, usize)) -> Option<Day> {
        if self.find(line) != Some((start, end)) {
            return None;
        }
        let date = line.get(start..end)?;
        let clock = match self.form {
            Form::Iso => 11,
            Form::Access => 12,
            Form::Syslog => {
                let head: &[u8; 11] = date.first_chunk()?;
                let clock = if month_name(head[0], head[1], head[2]) { 7 } else { 11 };
                // Whether this day exists depends on the year, and that on the hour.
                if date[clock - 7].eq_ignore_ascii_case(&b'f') && date[clock - 3..clock - 1] == *b"29" {
                    return None;
                }
                clock
            }
        };
        let shape = Shape::new(self, &line[..end], start, clock);
        Some(Day { quick: *self, date: date.into(), clock, shape })
    }
}

impl Day {
    /// Where the date of another line stands, if it is one of the same day, in the same form, and
    /// at a time of day that exists.
    #[inline]
    pub fn find(&self, line: &[u8]) -> Option<(usize, usize)> {
        match self.glance(line) {
            None => self.look(line),
            found => found,
        }
    }

    /// The same for a date whose digits are the only difference, and that ends as most do.
    #[inline]
    fn glance(&self, line: &[u8]) -> Option<(usize, usize)> {
        let shape = self.shape.as_ref()?;
        let from = if self.quick.place == Place::Bracket { memchr::memchr(b'[', line)? + 1 } else { 0 };
        let text: &[u8; LONGEST] = line.get(from..)?.first_chunk()?;
        shape.fits(text).then_some(())?;
        let (next, after) = (*line.get(from + shape.end)?, *line.get(from + shape.end + 1)?);
        let ends = match self.quick.form {
            _ if shape.complete => next.is_ascii() && !next.is_ascii_alphanumeric() && next != b'_',
            // else a blank, and nothing that could be the rest of a date
            Form::Iso => {
                let more = matches!(after, b' ' | 9..=13 | 28..=31 | b'Z' | b'U' | b'G' | b'+' | b'-' | 0x80..);
                next == b' ' && !more
            }
            Form::Syslog => next == b' ' && !matches!(after, b'0'..=b'9' | 0x80..),
            Form::Access => {
                let more = matches!(after, b'+' | b'-' | b'Z' | b'U' | b'G' | b'z' | b'u' | b'g' | 0x80..);
                next == b' ' && !more
            }
        };
        ends.then_some((from + shape.start, from + shape.end))
    }

    fn look(&self, line: &[u8]) -> Option<(usize, usize)> {
        let (start, end) = self.quick.find(line)?;
        let date = &line[start..end];
        let (day, rest) = date.split_at_checked(self.clock)?;
        let (known_day, known_rest) = self.date.split_at_checked(self.clock)?;
        let (clock, rest) = rest.split_first_chunk::<8>()?;
        let exists = (clock[0] < b'2' || clock[1] < b'4') && clock[6] < b'6';
        (exists && day == known_day && same_zone(rest, known_rest.get(8..)?)).then_some((start, end))
    }
}

impl Day {
    /// Whether two dates in this form are the same to the second; a fraction does not count.
    #[inline]
    pub fn is_same_second(&self, one: &str, other: &str) -> bool {
        let (one, other) = (one.as_bytes(), other.as_bytes());
        match (one.split_at_checked(self.clock + 8), other.split_at_checked(self.clock + 8)) {
            (Some((one, rest)), Some((other, known_rest))) => one == other && same_zone(rest, known_rest),
            _ => false,
        }
    }
}

impl Shape {
    /// Of a line that ends behind its date.
    fn new(quick: &Quick, line: &[u8], start: usize, clock: usize) -> Option<Shape> {
        let from = if quick.place == Place::Bracket { start } else { 0 };
        let (text, start) = (&line[from..], start - from);
        let clock = start + clock;
        let rest = text.get(clock + 8..)?;
        let complete = without_fraction(rest);
        let fraction = clock + 8..text.len() - complete.len();
        let mut bytes = [[0; 3]; LONGEST];
        for (at, &byte) in text.iter().enumerate() {
            let digit = byte.is_ascii_digit() && (clock..clock + 8).contains(&at)
                || fraction.contains(&at) && at > fraction.start;
            *bytes.get_mut(at)? = [byte, if digit { 0 } else { 0xff }, if digit { 0xff } else { 0 }];
        }
        let word = |of: usize| {
            let mut words = [0; LONGEST / 8];
            for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
                *word = bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(byte[of]));
            }
            words
        };
        let complete = !complete.is_empty();
        Some(Shape { bytes: word(0), same: word(1), digits: word(2), start, clock, end: text.len(), complete })
    }

    /// Whether a text is like that, and its time of day exists.
    #[inline]
    fn fits(&self, text: &[u8; LONGEST]) -> bool {
        const ONES: u64 = 0x0101_0101_0101_0101;
        let mut other = 0;
        for (at, eight) in text.as_chunks::<8>().0.iter().enumerate() {
            let word = u64::from_le_bytes(*eight);
            let digits = word ^ (ONES * 0x30);
            let no_digits = (digits | digits.wrapping_add(ONES * 6)) & (ONES * 0xf0);
            other |= (word ^ self.bytes[at]) & self.same[at] | no_digits & self.digits[at];
        }
        let Some(&[hours, hour, _, minutes, _, _, seconds, _]) = text.get(self.clock..).and_then(<[u8]>::first_chunk)
        else {
            return false;
        };
        other == 0 && (hours < b'2' || hours == b'2' && hour < b'4') && minutes < b'6' && seconds < b'6'
    }
}

/// Whether two texts after the time of day differ in the digits of the fraction at most.
#[inline]
fn same_zone(one: &[u8], other: &[u8]) -> bool {
    one == other || without_fraction(one) == without_fraction(other)
}

fn without_fraction(text: &[u8]) -> &[u8] {
    match text {
        [b'.' | b',', digits @ ..] => {
            let end = digits.iter().position(|b| !b.is_ascii_digit()).unwrap_or(digits.len());
            &digits[end..]
        }
        _ => text,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    const DATES: &[(Place, Form, &str, &str)] = &[
        (Place::Start, Form::Syslog, "", "Jan  5 00:17:00"),
        (Place::Start, Form::Syslog, "", "Mon Jan 05 00:00:00.005374 2026"),
        (Place::LooseStart, Form::Syslog, "[", "Mon Jan 05 00:00:00.005374 2026"),
        (Place::LooseStart, Form::Syslog, "", "Jan 15 00:00:00.12"),
        (Place::LooseStart, Form::Iso, "", "2026-01-05 23:59:59,005"),
        (Place::LooseStart, Form::Iso, "", "2026-01-05T20:00:00.123456+02:00"),
        (Place::Start, Form::Iso, "", "2026/01/05 10:00:00"),
        (Place::Bracket, Form::Access, "192.0.2.1 - - [", "05/Jan/2026:00:00:00 +0000"),
        (Place::Bracket, Form::Iso, "x [", "2026-01-05T20:00:00Z"),
        (Place::Start, Form::Access, "", "05-Jan-2026 00:00:00.001"),
    ];

    #[test]
    fn what_is_seen_at_a_glance_is_what_is_found() {
        let mut random = 1_u64;
        let mut next = |below: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) as usize % below
        };
        for &(place, form, before, date) in DATES {
            let quick = Quick { place, form, years: (2000, 2036) };
            let (mut seen, mut found) = (0, 0);
            for end in [" host app: some words that follow", "] and so on, and so on, and so on", ": 12345678"] {
                let line = format!("{before}{date}{end}").into_bytes();
                let Some(day) = quick.day(&line, (before.len(), before.len() + date.len())) else { continue };
                for _ in 0..20_000 {
                    let mut other = line.clone();
                    for _ in 0..=next(3) {
                        let at = next(before.len() + date.len() + 4);
                        let bytes = b"0123456789 .,:+-TZUGu[]xJa_\xc3\t/";
                        let byte = bytes[next(bytes.len())];
                        match next(6) {
                            0 => drop(other.remove(at.min(other.len() - 1))),
                            1 => other.insert(at.min(other.len()), byte),
                            _ => *other.get_mut(at).unwrap_or(&mut 0) = byte,
                        }
                    }
                    let glance = day.glance(&other);
                    found += usize::from(day.look(&other).is_some());
                    seen += usize::from(glance.is_some());
                    if glance.is_some() {
                        assert_eq!(glance, day.look(&other), "{:?} after {date:?}", String::from_utf8_lossy(&other));
                    }
                }
            }
            assert!(seen > 100 && found >= seen, "{date:?}: {seen} of {found}");
        }
    }

    #[test]
    fn hours_that_do_not_exist_are_none() {
        let quick = Quick { place: Place::Start, form: Form::Syslog, years: (2000, 2036) };
        let day = quick.day(b"Jan  5 12:34:56 host app: some words", (0, 15)).unwrap();
        let find = |clock: &str| day.find(format!("Jan  5 {clock} host app: some words").as_bytes()).is_some();
        assert!(find("23:59:59") && find("00:00:00"));
        assert!(!find("24:00:00") && !find("12:60:00") && !find("12:00:60") && !find("12:0a:00"));
    }
}
