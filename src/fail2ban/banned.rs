//! Bans as a server lists them for `get JAIL banip --with-time`: `ID \tSTART + SECONDS = END`, local time.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::time::Time;

/// One line of the list.
#[derive(Clone, Debug, PartialEq)]
pub struct Banned {
    /// Who. An attacker may have chosen it.
    pub id: String,
    /// When the ban began.
    pub time: Time,
    /// Its length in seconds, -1 for ever.
    pub bantime: i64,
}

/// Reads a line; `None` if it is none.
#[must_use]
pub fn parse(line: &str, zone: &TimeZone) -> Option<Banned> {
    let (rest, _end) = line.rsplit_once(" = ")?;
    let (rest, seconds) = rest.rsplit_once(" + ")?;
    let (id, start) = rest.rsplit_once('\t')?;
    let start: DateTime = start.trim().parse().ok()?;
    let start = zone.to_ambiguous_timestamp(start).compatible().ok()?;
    let bantime = seconds.trim().parse().ok()?;
    Some(Banned {
        id: id.strip_suffix(' ').unwrap_or(id).to_owned(),
        time: Time::from_seconds(start.as_second()),
        bantime,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_from_their_end_as_the_beginning_may_be_anything() {
        let read = |line: &str| parse(line, &TimeZone::UTC).map(|ban| (ban.id, ban.time.seconds(), ban.bantime));
        let line = "192.0.2.7 \t2026-11-24 01:57:09 + 600 = 2026-11-24 02:07:09";
        assert_eq!(read(line), Some(("192.0.2.7".to_owned(), 1_795_485_429, 600)));
        let line = "a \t2020-01-01 00:00:00 + 1 = b \t2026-11-24 01:57:09 + -1 = 9999-12-31 23:59:59";
        assert_eq!(read(line), Some(("a \t2020-01-01 00:00:00 + 1 = b".to_owned(), 1_795_485_429, -1)));
        for line in ["", "192.0.2.7", "x \tyesterday + 1 = y", "x \t2026-11-24 01:57:09 + many = z"] {
            assert_eq!(read(line), None, "{line}");
        }
    }
}
