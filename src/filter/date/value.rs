//! From the parts of a date to a point in time.
//!
//! What a log leaves out is filled in the way people read it: no year is this year, unless
//! that lies more than a day ahead; no day is today, unless that lies ahead.

use jiff::civil;
use jiff::tz::AmbiguousOffset;

use super::zone;
use crate::filter::Clock;
use crate::time::Time;

const DAY: i64 = 86_400;

/// What a group of a date pattern says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The year, four digits.
    Year,
    /// The year without its century.
    ShortYear,
    /// The month as a number.
    Month,
    /// The month by its name, short or full.
    MonthName,
    /// Day of the month.
    Day,
    /// Hour, 0 to 23.
    Hour,
    /// Hour, 1 to 12; [`Field::Half`] says of which half.
    Hour12,
    /// `am` or `pm`.
    Half,
    /// Minute.
    Minute,
    /// Second.
    Second,
    /// Day of the year from 1.
    YearDay,
    /// Week of the year, weeks begin on Sunday.
    SundayWeek,
    /// Week of the year, weeks begin on Monday.
    MondayWeek,
    /// Day of the week, 0 is Sunday.
    WeekDay,
    /// Day of the week by its name, short or full.
    DayName,
    /// Zone: an offset, an abbreviation, or both.
    Zone,
}

/// Days since 1970-01-01 of a day of the proleptic Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    // Years begin in March here, so that the leap day comes last.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Year, month and day of a number of days since 1970-01-01.
fn date(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

fn leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn month_length(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(leap(year)),
        _ => 31,
    }
}

/// Days since 1970-01-01, if there is such a day.
fn valid(year: i64, month: i64, day: i64) -> Option<i64> {
    let fits =
        (1..=9999).contains(&year) && (1..=12).contains(&month) && (1..=month_length(year, month)).contains(&day);
    fits.then(|| days(year, month, day))
}

fn number(text: &str) -> Option<i64> {
    let digits = text.trim();
    (!digits.is_empty() && digits.len() <= 9 && digits.bytes().all(|b| b.is_ascii_digit()))
        .then(|| digits.bytes().fold(0, |n, b| n * 10 + i64::from(b - b'0')))
}

fn named(text: &str, names: &[&str]) -> Option<i64> {
    // The first three letters tell them apart; the pattern has seen to the rest.
    let text = text.as_bytes();
    let at = names.iter().position(|name| text.len() >= 3 && text[..3].eq_ignore_ascii_case(name.as_bytes()))?;
    Some(at as i64)
}

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// What the parts of one date say so far.
#[derive(Debug, Default)]
struct Parts {
    year: Option<i64>,
    month: Option<i64>,
    day: Option<i64>,
    hour: i64,
    minute: i64,
    second: i64,
    year_day: Option<i64>,
    /// Week of the year, and whether weeks begin on Monday.
    week: Option<(i64, bool)>,
    /// 0 is Monday.
    week_day: Option<i64>,
    zone: Option<i32>,
}

impl Parts {
    fn read<'t>(fields: impl Iterator<Item = (Field, &'t str)> + Clone) -> Option<Parts> {
        let mut parts = Parts::default();
        let half = fields.clone().find(|(field, _)| *field == Field::Half).map(|(_, text)| text);
        for (field, text) in fields {
            match field {
                Field::Year => parts.year = Some(number(text)?),
                Field::ShortYear => {
                    let year = number(text)?;
                    parts.year = Some(if year <= 2000 { year + 2000 } else { year });
                }
                Field::Month => parts.month = Some(number(text)?),
                Field::MonthName => parts.month = Some(named(text, &MONTHS)? + 1),
                Field::Day => parts.day = Some(number(text)?),
                Field::Hour => parts.hour = number(text)?,
                Field::Hour12 => {
                    let hour = number(text)?;
                    parts.hour = match half {
                        Some(h) if h.eq_ignore_ascii_case("pm") => {
                            if hour == 12 {
                                12
                            } else {
                                hour + 12
                            }
                        }
                        _ => {
                            if hour == 12 {
                                0
                            } else {
                                hour
                            }
                        }
                    };
                }
                Field::Half => {}
                Field::Minute => parts.minute = number(text)?,
                Field::Second => parts.second = number(text)?,
                Field::YearDay => parts.year_day = Some(number(text)?),
                Field::SundayWeek => parts.week = Some((number(text)?, false)),
                Field::MondayWeek => parts.week = Some((number(text)?, true)),
                Field::WeekDay => parts.week_day = Some((number(text)? + 6) % 7),
                Field::DayName => parts.week_day = Some(named(text, &DAYS)?),
                Field::Zone => parts.zone = Some(zone::offset(text)?),
            }
        }
        Some(parts)
    }

    /// Fills in what is missing; seconds since the epoch as if the local clock were Greenwich.
    /// `now` is in the same count, with its fraction.
    fn local(mut self, now: f64) -> Option<i64> {
        let today = date((now.floor() as i64).div_euclid(DAY));
        let assumed_year = self.year.is_none();
        let year = self.year.unwrap_or(today.0);
        if !(1..=9999).contains(&year) {
            return None;
        }
        if self.month.is_none() || self.day.is_none() {
            if let (None, Some((week, from_monday)), Some(week_day)) = (self.year_day, self.week, self.week_day) {
                self.year_day = Some(year_day(year, week, week_day, from_monday));
            }
            if let Some(n) = self.year_day {
                let (y, month, day) = date(days(year, 1, 1) + n - 1);
                (self.year, self.month, self.day) = (Some(y), Some(month), Some(day));
            }
        }
        let year = self.year.unwrap_or(year);
        let assumed_day = self.month.is_none() && self.day.is_none();
        let (month, day) = if assumed_day { (today.1, today.2) } else { (self.month?, self.day?) };
        if !(0..24).contains(&self.hour) || !(0..60).contains(&self.minute) || !(0..60).contains(&self.second) {
            return None;
        }
        let clock = self.hour * 3600 + self.minute * 60 + self.second;
        let mut day_number = valid(year, month, day)?;
        if assumed_day && (day_number * DAY + clock) as f64 > now {
            day_number -= 1;
        }
        if assumed_year && (day_number * DAY + clock) as f64 > now + DAY as f64 {
            let (year, month, day) = date(day_number);
            day_number = valid(year - 1, month, day)?;
        }
        Some(day_number * DAY + clock)
    }
}

/// Day of the year of a week and weekday (0 is Monday); may lie outside of the year.
fn year_day(year: i64, week: i64, week_day: i64, from_monday: bool) -> i64 {
    // 1970-01-01 was a Thursday.
    let mut first = (days(year, 1, 1) + 3).rem_euclid(7);
    let mut week_day = week_day;
    if !from_monday {
        first = (first + 1) % 7;
        week_day = (week_day + 1) % 7;
    }
    if week == 0 { week_day - first + 1 } else { week_day + 1 + (7 - first) % 7 + 7 * (week - 1) }
}

/// The point in time that the fields say; `None` if there is no such time.
pub(super) fn time<'t>(
    fields: impl Iterator<Item = (Field, &'t str)> + Clone,
    default_zone: Option<i32>,
    clock: &Clock,
) -> Option<Time> {
    let parts = Parts::read(fields)?;
    let now = jiff::Timestamp::from_second(clock.now.seconds()).ok()?;
    let now_local = clock.now.as_f64() + f64::from(clock.zone.to_offset(now).seconds());
    let zone = parts.zone.or(default_zone);
    let local = parts.local(now_local)?;
    let offset = match zone {
        Some(offset) => i64::from(offset),
        None => local_offset(local, clock)?,
    };
    Some(Time::from_seconds(local - offset))
}

/// Seconds east of Greenwich at a local time. A time that the clock showed twice is the one
/// nearer to now; one that it skipped counts on from the offset before.
fn local_offset(local: i64, clock: &Clock) -> Option<i64> {
    let (year, month, day) = date(local.div_euclid(DAY));
    let second = local.rem_euclid(DAY);
    let at = civil::DateTime::new(
        i16::try_from(year).ok()?,
        i8::try_from(month).ok()?,
        i8::try_from(day).ok()?,
        (second / 3600) as i8,
        (second / 60 % 60) as i8,
        (second % 60) as i8,
        0,
    )
    .ok()?;
    let offset = match clock.zone.to_ambiguous_timestamp(at).offset() {
        AmbiguousOffset::Unambiguous { offset } => offset,
        AmbiguousOffset::Gap { before, .. } => before,
        AmbiguousOffset::Fold { before, after } => {
            let distance = |offset: jiff::tz::Offset| (local - i64::from(offset.seconds()) - clock.now.seconds()).abs();
            if distance(before) < distance(after) { before } else { after }
        }
    };
    Some(i64::from(offset.seconds()))
}

/// Seconds with an optional fraction (up to six digits count), as an epoch format writes
/// them. A `long` one of 13 digits or more is in milliseconds, of 16 or more in microseconds.
pub(super) fn epoch(text: &str, long: bool) -> Option<Time> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if whole.is_empty() || whole.len() > 17 || fraction.len() > 6 {
        return None;
    }
    let mut value: i64 = whole.parse().ok()?;
    let unit = match whole.len() {
        13 | 14 if long => 1_000,
        16 | 17 if long => 1,
        _ => 1_000_000,
    };
    value = value.checked_mul(unit)?;
    let mut scaled: i64 = 0;
    if !fraction.is_empty() {
        scaled = fraction.parse::<i64>().ok()? * unit / 10_i64.pow(fraction.len() as u32);
    }
    Some(Time::from_micros(value.checked_add(scaled)?))
}

/// The seconds of a TAI64N label (`@` and 24 hexadecimal digits), as they stand.
pub(super) fn tai(text: &str) -> Option<Time> {
    let seconds = i64::from_str_radix(text.get(2..17)?, 16).ok()?;
    Some(Time::from_seconds(seconds))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    #[test]
    fn days_and_dates_are_each_others_inverse() {
        for n in (-800_000..3_000_000).step_by(37) {
            let (year, month, day) = date(n);
            assert_eq!(days(year, month, day), n);
        }
        assert_eq!(days(1970, 1, 1), 0);
        assert_eq!(date(days(2004, 2, 28) + 1), (2004, 2, 29));
    }

    fn at(fields: &[(Field, &str)]) -> Option<i64> {
        // 2005-08-14 12:00 in Central Europe.
        let zone = jiff::tz::TimeZone::posix("CET-1CEST-2,M3.5.0,M10.5.0").unwrap();
        let clock = Clock { now: Time::from_seconds(1_124_013_600), zone };
        time(fields.iter().copied(), None, &clock).map(Time::seconds)
    }

    #[test]
    fn a_missing_year_is_this_one_unless_more_than_a_day_ahead() {
        let day = |day, hour, second| {
            at(&[(Field::Month, "08"), (Field::Day, day), (Field::Hour, hour), (Field::Second, second)])
        };
        assert_eq!(day("15", "12", "0"), Some(1_124_100_000));
        assert_eq!(day("15", "12", "1"), Some(1_092_564_001));
        assert_eq!(at(&[(Field::Month, "2"), (Field::Day, "29")]), None);
    }

    #[test]
    fn a_missing_day_is_today_or_yesterday() {
        assert_eq!(at(&[(Field::Hour, "11")]), Some(1_124_010_000));
        assert_eq!(at(&[(Field::Hour, "13")]), Some(1_123_930_800));
        assert_eq!(at(&[(Field::Year, "2006")]), Some(1_155_420_000));
        assert_eq!(at(&[(Field::Day, "13")]), None);
    }

    #[test]
    fn weeks_and_days_of_the_year_make_a_date() {
        let week = |week, day| at(&[(Field::Year, "2005"), (Field::SundayWeek, week), (Field::WeekDay, day)]);
        assert_eq!(week("00", "0"), Some(1_104_015_600));
        assert_eq!(week("10", "6"), Some(1_110_582_000));
        let week = |week, day| at(&[(Field::Year, "2005"), (Field::MondayWeek, week), (Field::WeekDay, day)]);
        assert_eq!(week("00", "0"), Some(1_104_620_400));
        assert_eq!(week("53", "6"), Some(1_136_588_400));
        assert_eq!(at(&[(Field::YearDay, "228")]), Some(1_092_607_200));
        assert_eq!(at(&[(Field::Year, "2005"), (Field::YearDay, "366")]), Some(1_136_070_000));
    }

    #[test]
    fn twelve_at_night_is_zero() {
        let hour = |hour, half| at(&[(Field::Hour12, hour), (Field::Half, half)]);
        assert_eq!(hour("12", "am"), Some(1_123_970_400));
        assert_eq!(hour("12", "pm"), Some(1_124_013_600));
        assert_eq!(hour("11", "AM"), Some(1_124_010_000));
        assert_eq!(hour("13", "pm"), None);
    }

    #[test]
    fn an_hour_that_the_clock_skips_counts_from_the_offset_before() {
        let local = |month, day, hour| {
            at(&[
                (Field::Year, "2005"),
                (Field::Month, month),
                (Field::Day, day),
                (Field::Hour, hour),
                (Field::Minute, "30"),
            ])
        };
        assert_eq!(local("03", "27", "02"), Some(1_111_887_000));
        assert_eq!(local("03", "27", "03"), Some(1_111_887_000));
        assert_eq!(local("10", "30", "03"), Some(1_130_639_400));
    }

    #[test]
    fn epochs_keep_their_fraction() {
        assert_eq!(epoch("1123981440.125", false), Some(Time::from_micros(1_123_981_440_125_000)));
        assert_eq!(epoch("1123981440123.5", true), Some(Time::from_micros(1_123_981_440_123_500)));
        assert_eq!(epoch("1123981440123456", true), Some(Time::from_micros(1_123_981_440_123_456)));
        assert_eq!(tai("@4000000042fb2d2e1d2a3b4c"), Some(Time::from_seconds(1_123_757_358)));
    }
}
