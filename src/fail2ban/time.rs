//! Time expressions, and seconds as text: `1d12h` is 129600, 5400 is `1h 30m`.
//!
//! Fail2Ban rewrites such a text (units become factors, missing signs `+`) and lets Python
//! compute it; so `2 * 3h`, `1h30` and `(1h)` are all fine. The same grammar is parsed here.

use super::arithmetic::{Dialect, Error, Number, value_in};

/// The seconds that a time expression says, with their type: `1h` is whole, `1.5h` is not.
///
/// # Errors
/// With the place that is wrong. `None` and the empty text are errors too; where they mean
/// "not set", look before.
pub fn seconds(text: &str) -> Result<Number, Error> {
    value_in(text, Dialect::Time)
}

const MINUTE: i128 = 60;
const HOUR: i128 = 60 * MINUTE;
const DAY: i128 = 24 * HOUR;
const WEEK: i128 = 7 * DAY;
const YEAR: i128 = 365 * DAY;

/// A duration as Fail2Ban's log shows it: up to three units, rounded more as it grows.
///
/// ```
/// use sekimori::fail2ban::arithmetic::Number;
/// assert_eq!(sekimori::fail2ban::time::text(Number::Int(90_061)), "1d 1h 1m");
/// ```
#[must_use]
pub fn text(duration: Number) -> String {
    let seconds = duration.as_f64();
    if seconds < 60.0 {
        return if seconds == 0.0 { "0".to_owned() } else { format!("{duration}s") };
    }
    if seconds < 3595.0 {
        return match duration {
            Number::Int(whole) => groups(&[(whole / MINUTE, "m"), (whole % MINUTE, "s")]),
            Number::Float(_) => {
                let (minutes, rest) = (Number::Float((seconds / 60.0).floor()), Number::Float(seconds % 60.0));
                if rest.is_true() { format!("{minutes}m {rest}s") } else { format!("{minutes}m") }
            }
        };
    }
    let rounded_to = |unit: i128| (seconds / unit as f64).round_ties_even() as i128;
    if seconds < DAY as f64 {
        let minutes = ((seconds + 5.0) / 60.0).floor() as i128;
        groups(&[(minutes / 60, "h"), (minutes % 60, "m")])
    } else if seconds < WEEK as f64 {
        let minutes = rounded_to(MINUTE);
        groups(&[(minutes / 1440, "d"), (minutes / 60 % 24, "h"), (minutes % 60, "m")])
    } else if seconds < YEAR as f64 {
        let hours = rounded_to(HOUR);
        groups(&[(hours / 168, "w"), (hours / 24 % 7, "d"), (hours % 24, "h")])
    } else {
        let days = rounded_to(DAY);
        groups(&[(days / 365, "y"), (days % 365 / 7, "w"), (days % 365 % 7, "d")])
    }
}

fn groups(groups: &[(i128, &str)]) -> String {
    let shown: Vec<String> =
        groups.iter().filter(|(count, _)| *count != 0).map(|(count, unit)| format!("{count}{unit}")).collect();
    shown.join(" ")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    #[test]
    fn time_expressions_say_what_they_say_to_fail2ban() {
        for (text, value) in [
            ("600", "600"),
            ("10m", "600"),
            ("1d12h", "129600"),
            ("1h30", "3630"),
            ("5 m", "300"),
            ("1 h 5", "3605"),
            ("1h30m", "5400"),
            ("1M", "60"),
            ("1mo", "2629800.0"),
            ("1y 6mo", "47336400.0"),
            ("1year-6mo", "15778800.0"),
            ("1.5h", "5400.0"),
            (".5h", "1800.0"),
            ("2*3h", "21600"),
            ("5 * 60", "300"),
            ("2h-10", "7190"),
            ("(1h)", "3600"),
            ("(1+2) h", "10800"),
            ("1d-1h", "82800"),
            ("-1", "-1"),
            ("-1h 30m", "-1800"),
            ("~1h", "-7200"),
            ("2**1h", "7200"),
            ("1_000", "1000"),
            ("1_0h", "36000"),
            ("  5 ", "5"),
            ("1h\n2m", "3720"),
            ("1h\u{a0}2m", "3720"),
            ("1h h", "12960000"),
            ("2h2", "7202"),
            ("1m1.5", "61.5"),
            ("1h 3.5m", "3810.0"),
            ("1mo1s", "2629801.0"),
            ("10 000", "10"),
            ("60 s s", "60"),
            ("1 2h 3", "7204"),
            ("1 22 3", "26"),
            ("1d/2", "43200.0"),
            ("7//2h", "10800"),
            ("1h++2", "3602"),
            ("max(1h,2m)", "3600"),
            ("1if 1h else 2", "1"),
            ("1h1h1h", "10800"),
            ("1D12H", "129600"),
        ] {
            assert_eq!(seconds(text).unwrap().to_string(), value, "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_an_error_with_its_place() {
        for (text, at) in [
            ("", 0),
            (" ", 1),
            ("abc", 0),
            ("1e3", 1),
            ("0x10", 1),
            ("inf", 0),
            ("1h;2", 2),
            ("h", 0),
            ("(1+2)h", 5),
            ("1secs", 1),
            ("5m,", 2),
            ("1,5h", 1),
            ("010", 0),
            ("1 2 3", 4),
            ("1h (2)", 3),
            ("1h_2", 1),
            ("1__0", 0),
            ("1h .5", 3),
            ("1.5.2", 0),
            ("__import__('os')", 11),
            ("None", 0),
        ] {
            assert_eq!(seconds(text).unwrap_err().at, at, "{text}");
        }
    }

    #[test]
    fn durations_become_texts_as_in_fail2bans_log() {
        for (number, shown) in [
            (0, "0"),
            (1, "1s"),
            (59, "59s"),
            (60, "1m"),
            (61, "1m 1s"),
            (90, "1m 30s"),
            (3594, "59m 54s"),
            (3595, "1h"),
            (3654, "1h"),
            (3655, "1h 1m"),
            (5400, "1h 30m"),
            (86_395, "24h"),
            (86_399, "24h"),
            (86_430, "1d"),
            (90_000, "1d 1h"),
            (90_061, "1d 1h 1m"),
            (176_460, "2d 1h 1m"),
            (604_799, "7d"),
            (604_800, "1w"),
            (693_000, "1w 1d"),
            (34_000_000, "1y 4w 1d"),
            (31_579_200, "1y 1d"),
            (63_936_000, "2y 1w 3d"),
            (-3700, "-3700s"),
        ] {
            assert_eq!(text(Number::Int(number)), shown, "{number}");
        }
        assert_eq!(text(Number::Float(600.4)), "10.0m 0.39999999999997726s");
        assert_eq!(text(Number::Float(60.0)), "1.0m");
        assert_eq!(text(Number::Float(1e12)), "31709y 41w 2d");
        assert_eq!(text(Number::Float(0.5)), "0.5s");
    }
}
