//! The date of the line before, of which that of the next line mostly differs by the time of day.

use super::quick::{Form, Quick, month_name};

/// A date in one of the usual forms, up to the time of day, and what stands after that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Day {
    quick: Quick,
    date: Box<[u8]>,
    /// Where in it the hour begins.
    clock: usize,
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
        Some(Day { quick: *self, date: date.into(), clock })
    }
}

impl Day {
    /// Where the date of another line stands, if it is one of the same day, in the same form, and
    /// at a time of day that exists.
    #[inline]
    pub fn find(&self, line: &[u8]) -> Option<(usize, usize)> {
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
