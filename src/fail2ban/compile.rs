//! The settings of a filter become a compiled one; everything that is wrong is found at once.

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

/// Why a filter cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// The setting that is wrong.
    pub setting: Setting,
    /// The byte of its text where it is wrong, if there is one.
    pub offset: Option<usize>,
    /// What is wrong.
    pub message: String,
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
                help: Some("put <HOST>, <ADDR> or <F-ID>…</F-ID> where the address appears"),
            });
        }
    }
    let zone = settings.logtimezone.as_deref().map_or(Ok(None), date::logtimezone).unwrap_or_else(|error| {
        errors.push(of_date(&error, Setting::Logtimezone));
        None
    });
    let dates = date::shared(settings.datepattern.as_deref(), &date::Options { zone, ..dates });
    let dates = dates.map_err(|error| errors.push(of_date(&error, Setting::Datepattern)));
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

fn of_date(error: &date::Error, setting: Setting) -> Error {
    Error { setting, offset: None, message: error.to_string(), help: error.help() }
}

fn compile_regex(source: &str, setting: Setting, options: tags::Options, several_lines: bool) -> Result<Regex, Error> {
    let error = |offset, message, help| Error { setting, offset, message, help };
    if source.trim().is_empty() {
        return Err(error(None, "empty regular expression".to_owned(), Some("remove the line or write an expression")));
    }
    let expanded = tags::expand(source, options);
    // where several lines are matched, failregexes see the beginning and the end of each
    let multiline = several_lines && matches!(setting, Setting::Failregex(_));
    let pattern = regex::parse(&expanded.text, regex::Options { multiline }).map_err(|wrong| {
        let byte = expanded.text.char_indices().nth(wrong.position).map_or(expanded.text.len(), |(at, _)| at);
        let message = format!("Unable to compile regular expression '{source}': {}", wrong.message);
        error(Some(expanded.origin(byte)), message, None)
    })?;
    Ok(Regex::new(source.to_owned(), expanded.text, pattern))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

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
        use crate::filter::{Clock, Who, exact::Cache, record};
        let filter = compiled(&["^ bad <F-USER>\\S+</F-USER> from <HOST>$"]).unwrap();
        let clock = Clock { now: crate::time::Time::from_seconds(1_795_485_425), zone: jiff::tz::TimeZone::UTC };
        let mut out = Vec::new();
        let (mut state, mut cache) = (record::State::default(), Cache::default());
        let line = "2026-11-24 01:57:05 bad bob from 192.0.2.7";
        filter.line(&mut state, &mut cache, line, &clock, record::Options::default(), &mut out);
        assert_eq!(out.len(), 1);
        assert_eq!(out[0].who, Who::Id(crate::address::Id::parse("192.0.2.7")));
        assert_eq!(out[0].time, Some(crate::time::Time::from_seconds(1_795_485_425)));
    }
}
