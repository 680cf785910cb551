//! The settings of a filter become a compiled one; everything that is wrong is found at once.

use std::fmt;

use crate::config;
use crate::filter::record::{Filter, Regex};

use super::{date, regex, tags};

/// Groups that say who is to be banned, or which session a line belongs to.
const IDENTIFIERS: [&str; 5] = ["fid", "ip4", "ip6", "dns", "mlfid"];

/// Which setting is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// Option `prefregex`.
    Prefregex,
    /// A line of option `failregex`, from 0.
    Failregex(usize),
    /// A line of option `ignoreregex`, from 0.
    Ignoreregex(usize),
    /// Option `datepattern`.
    Datepattern,
    /// Option `logtimezone`.
    Logtimezone,
    /// Option `maxlines`.
    Maxlines,
}

impl fmt::Display for Setting {
    /// The option, and which line of it, from 1.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Setting::Prefregex => f.write_str("prefregex"),
            Setting::Failregex(index) => write!(f, "failregex {}", index + 1),
            Setting::Ignoreregex(index) => write!(f, "ignoreregex {}", index + 1),
            Setting::Datepattern => f.write_str("datepattern"),
            Setting::Logtimezone => f.write_str("logtimezone"),
            Setting::Maxlines => f.write_str("maxlines"),
        }
    }
}

/// Why a filter cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// The setting that is wrong.
    pub setting: Setting,
    /// The byte of its text where it is wrong, if there is one.
    pub offset: Option<usize>,
    /// What is wrong, in Fail2Ban's words if it has them; with the expression.
    pub message: String,
    /// The same for where the expression itself is shown.
    pub short: String,
    /// What to do.
    pub help: Option<&'static str>,
}

/// Compiles a filter.
///
/// # Errors
/// All that is wrong with it.
pub fn compile(settings: &config::Filter, dates: date::Options) -> Result<Filter, Vec<Error>> {
    let mut errors = Vec::new();
    let options = tags::Options { usedns: settings.usedns, bare_colons: false };
    if settings.maxlines < 1 {
        errors.push(Error {
            setting: Setting::Maxlines,
            offset: None,
            message: "`maxlines` has to be at least 1".to_owned(),
            short: "maxlines has to be at least 1".to_owned(),
            help: None,
        });
    }
    let mut one = |source: &str, setting| match compile_regex(source, setting, options, settings.maxlines > 1) {
        Ok(regex) => Some(regex),
        Err(error) => {
            errors.push(error);
            None
        }
    };
    let prefregex =
        settings.prefregex.as_deref().filter(|text| !text.is_empty()).map(|text| one(text, Setting::Prefregex));
    let failregex: Vec<Option<Regex>> =
        settings.failregex.iter().enumerate().map(|(index, text)| one(text, Setting::Failregex(index))).collect();
    let ignoreregex: Vec<Option<Regex>> =
        settings.ignoreregex.iter().enumerate().map(|(index, text)| one(text, Setting::Ignoreregex(index))).collect();
    let named = |regex: &Regex| IDENTIFIERS.iter().any(|name| regex.pattern.group(name).is_some());
    let by_prefix = prefregex.as_ref().is_some_and(|regex| regex.as_ref().is_none_or(named));
    for (index, regex) in failregex.iter().enumerate() {
        if let Some(regex) = regex
            && !by_prefix
            && !named(regex)
        {
            errors.push(Error {
                setting: Setting::Failregex(index),
                offset: None,
                message: format!("No failure-id group in '{}'", regex.source),
                short: format!("failregex {} does not say whom to ban", index + 1),
                help: Some("put <HOST>, <ADDR> or <F-ID>…</F-ID> where the address appears"),
            });
        }
    }
    let zone = settings.logtimezone.as_deref().map_or(Ok(None), date::logtimezone).unwrap_or_else(|error| {
        errors.push(of_date(&error, Setting::Logtimezone, ""));
        None
    });
    let dates = date::shared(settings.datepattern.as_deref(), &date::Options { zone, ..dates });
    let dates = dates.map_err(|error| {
        errors.push(of_date(&error, Setting::Datepattern, settings.datepattern.as_deref().unwrap_or("")));
    });
    match dates {
        Ok(dates) if errors.is_empty() => Ok(Filter {
            prefregex: prefregex.flatten(),
            failregex: failregex.into_iter().flatten().collect(),
            ignoreregex: ignoreregex.into_iter().flatten().collect(),
            maxlines: settings.maxlines,
            dates,
            usedns: settings.usedns,
        }),
        _ => Err(errors),
    }
}

/// An error of a date pattern; `text` is the whole option.
fn of_date(error: &date::Error, setting: Setting, text: &str) -> Error {
    let place = match error {
        date::Error::Token { line, position, .. } | date::Error::Regex { line, position, .. } => {
            Some((*line, *position))
        }
        date::Error::Twice { line, .. } => Some((*line, 0)),
        _ => None,
    };
    let offset = place.map(|(line, position)| {
        let before: usize = text.split('\n').take(line).map(|line| line.len() + 1).sum();
        let rest = text.get(before..).unwrap_or("");
        before + (rest.len() - rest.trim_start().len()) + position
    });
    let short = match error {
        date::Error::Token { token, .. } => format!("`{token}` is no token of a date pattern"),
        date::Error::Regex { reason, .. } => format!("datepattern: {reason}"),
        date::Error::Twice { .. } => "this date pattern is there twice".to_owned(),
        other => other.to_string(),
    };
    Error { setting, offset, message: error.to_string(), short, help: error.help() }
}

fn compile_regex(source: &str, setting: Setting, options: tags::Options, several_lines: bool) -> Result<Regex, Error> {
    if source.trim().is_empty() {
        let message = "empty regular expression".to_owned();
        let short = format!("{setting} is empty");
        let help = Some("remove the line or write an expression");
        return Err(Error { setting, offset: None, message, short, help });
    }
    let expanded = tags::expand(source, options);
    // where several lines are matched, failregexes see the beginning and the end of each
    let multiline = several_lines && matches!(setting, Setting::Failregex(_));
    let pattern = regex::parse(&expanded.text, regex::Options { multiline }).map_err(|wrong| {
        let byte = expanded.text.char_indices().nth(wrong.position).map_or(expanded.text.len(), |(at, _)| at);
        let offset = expanded.origin(byte);
        // the only message of Python's that has no place
        let place = match source.get(..offset) {
            Some(before) if !wrong.message.starts_with("look-behind") => {
                format!(" at position {}", before.chars().count())
            }
            _ => String::new(),
        };
        let message = format!("Unable to compile regular expression '{source}':\n{}{place}", wrong.message);
        let short = format!("{setting}: {}", wrong.message);
        Error { setting, offset: Some(offset), message, short, help: advice(&wrong.message) }
    })?;
    Ok(Regex::new(source.to_owned(), expanded.text, pattern))
}

/// What to do about an error of the parser, where that is not obvious.
fn advice(message: &str) -> Option<&'static str> {
    const ADVICE: [(&str, &str); 9] = [
        ("missing ), unterminated subpattern", "close it with `)`, or write `\\(` for the character"),
        ("unbalanced parenthesis", "write `\\)` for the character"),
        ("unterminated character set", "close it with `]`, or write `\\[` for the character"),
        ("nothing to repeat", "write a backslash before a `*`, `+` or `?` that is meant as a character"),
        ("multiple repeat", "write a backslash before a `*`, `+` or `?` that is meant as a character"),
        ("redefinition of group name", "a tag such as <HOST> can stand only once; put the alternatives around it"),
        ("global flags not at the start", "move the flags to the very start, or write `(?i:…)` around the part"),
        ("look-behind requires fixed-width", "all ways through a look-behind have to be of the same length"),
        ("bad escape", "write two backslashes for the character `\\`"),
    ];
    ADVICE.iter().find(|(start, _)| message.starts_with(start)).map(|(_, advice)| *advice)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;
    use crate::filter::exact::Cache;
    use crate::filter::record::{self, Verdict};
    use crate::filter::{Clock, Failure, Unresolved, Who};
    use crate::time::Time;

    fn compiled(failregex: &[&str]) -> Result<Filter, Vec<Error>> {
        let settings = config::Filter {
            failregex: failregex.iter().map(|text| (*text).to_owned()).collect(),
            ..Default::default()
        };
        compile(&settings, date::Options::server(2026))
    }

    #[test]
    fn all_errors_are_found_with_their_places() {
        let errors = compiled(&["^ok <HOST>$", "^nobody$", "^<HOST> (x$", " "]).unwrap_err();
        let found: Vec<(Setting, Option<usize>)> = errors.iter().map(|error| (error.setting, error.offset)).collect();
        assert_eq!(
            found,
            [(Setting::Failregex(2), Some(8)), (Setting::Failregex(3), None), (Setting::Failregex(1), None)]
        );
    }

    #[test]
    fn a_filter_recognises_a_line() {
        let filter = compiled(&["^ bad <F-USER>\\S+</F-USER> from <HOST>$"]).unwrap();
        let line = "2026-11-24 01:57:05 bad bob from 192.0.2.7";
        let (out, _) = judged(&filter, &[line], record::Options::default());
        assert_eq!(out.len(), 1);
        assert_eq!(out[0].who, Who::Id(crate::address::Id::parse("192.0.2.7")));
        assert_eq!(out[0].time, Some(Time::from_seconds(1_795_485_425)));
    }

    fn judged(filter: &Filter, lines: &[&str], options: record::Options) -> (Vec<Failure>, Verdict) {
        let clock = Clock { now: Time::from_seconds(1_795_485_425), zone: jiff::tz::TimeZone::UTC };
        let (mut state, mut cache, mut out) = (record::State::default(), Cache::default(), Vec::new());
        let mut verdict = Verdict::default();
        for line in lines {
            verdict = filter.line(&mut state, &mut cache, line, &clock, options, &mut out);
        }
        (out, verdict)
    }

    #[test]
    fn what_a_cut_line_lost_is_not_taken_for_its_end() {
        let filter = compiled(&["^ bad \\S+ from <HOST>$", "^ worse <HOST>", "^ ugly <HOST> .*$"]).unwrap();
        let cut = record::Options { cut: true, ..Default::default() };
        for (line, whole, part) in [
            (" bad bob from 192.0.2.1", 1, 0),
            (" worse 192.0.2.1", 1, 0),
            (" worse 192.0.2.1 and", 1, 1),
            (" ugly 192.0.2.1 and more", 1, 1),
            (" good", 0, 0),
        ] {
            assert_eq!(judged(&filter, &[line], record::Options::default()).0.len(), whole, "{line}");
            let (found, verdict) = judged(&filter, &[line], cut);
            assert_eq!(found.len(), part, "{line}");
            assert_eq!(verdict.unresolved, (part == 0).then_some(Unresolved::Cut), "{line}");
        }
    }

    #[test]
    fn a_pattern_that_cannot_be_decided_is_named() {
        let filter = compiled(&["^x <HOST>$", "^(a*)*(a*)*(a*)*\\1\\2\\3b <HOST>$", "c <HOST>$"]).unwrap();
        let line = format!("{}c 192.0.2.1", "a".repeat(3000));
        let (found, verdict) = judged(&filter, &[&line], record::Options::default());
        assert_eq!((found.len(), verdict.unresolved), (1, Some(Unresolved::Steps)));
        assert_eq!(verdict.undecided, Some(record::Which::Failregex(1)));
    }

    #[test]
    fn a_journals_record_has_its_time() {
        use crate::line::Record;
        let filter = compiled(&["^host sshd\\[1\\]: bad <HOST>$"]).unwrap();
        let zone = jiff::tz::TimeZone::fixed(jiff::tz::Offset::constant(2));
        let clock = Clock { now: Time::from_seconds(1_795_485_425), zone };
        let (mut state, mut cache) = (record::State::default(), Cache::default());
        let time = Time::from_micros(1_795_485_400_000_012);
        let options = record::Options { findtime: Some(600.0), in_operation: true, ..Default::default() };
        for (seconds, expected) in [(0.0, time), (-61.0, clock.now), (3600.0, clock.now)] {
            let mut out = Vec::new();
            let record = Record { time: time + seconds, text: b"host sshd[1]: bad 192.0.2.1" };
            let verdict = filter.record(&mut state, &mut cache, &record, &clock, options, &mut out);
            assert_eq!((out.len(), out[0].time, verdict.undated), (1, Some(expected), false));
            assert_eq!(verdict.replaced, seconds != 0.0);
            if !verdict.replaced {
                let line = "2026-11-24T03:56:40.000012+02:00 host sshd[1]: bad 192.0.2.1";
                assert_eq!(out[0].matches, [crate::filter::Match { line: line.into(), date: (0, 33) }]);
            }
        }
        let old = Record { time: time - 601.0, text: b"host sshd[1]: bad 192.0.2.1" };
        let options = record::Options { in_operation: false, ..options };
        let mut out = Vec::new();
        assert!(filter.record(&mut state, &mut cache, &old, &clock, options, &mut out).old && out.is_empty());
    }
}
