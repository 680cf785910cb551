//! What a filter finds in lines, for other commands.

use std::path::Path;

use super::options::{Options, Words};
use super::sheet::Sheet;
use super::subject::{self, Subject};
use crate::filter::exact::Cache;
use crate::filter::{Clock, Failure, record};

/// A filter and what it remembers of a log.
pub struct Test {
    subject: Subject,
    state: record::State,
    cache: Cache,
    clock: Clock,
    failures: Vec<Failure>,
}

impl Test {
    /// The filter that a word names, as `sekimori regex` understands it.
    ///
    /// # Errors
    /// If there is none that can be used; what is wrong with it has been said on stderr.
    pub fn new(filter: &str, directory: Option<&Path>) -> Result<Test, String> {
        let options = Options { config: directory.map(Path::to_owned), ..Options::default() };
        let words = Words { logs: Vec::new(), regex: filter.to_owned(), ignoreregex: None };
        let clock = Clock { now: super::now(), zone: jiff::tz::TimeZone::system() };
        let moment = jiff::Timestamp::from_second(clock.now.seconds()).unwrap_or_default();
        let year = u16::try_from(clock.zone.to_datetime(moment).year()).unwrap_or(1970);
        let mut sheet = Sheet::stdout(true);
        let subject = subject::load(&options, &words, year, &mut sheet);
        sheet.flush();
        let subject = subject.map_err(|_| format!("the filter `{filter}` cannot be used"))?;
        Ok(Test { subject, state: record::State::default(), cache: Cache::default(), clock, failures: Vec::new() })
    }

    /// The failures of the next line, which may have lost its end.
    pub fn line(&mut self, line: &[u8], cut: bool) -> &[Failure] {
        let text = String::from_utf8_lossy(line);
        let text = text.trim_end_matches(['\r', '\n']);
        let keep_prefix_values = self.subject.keep_prefix_values;
        let settings = record::Options { keep_prefix_values, cut, ..record::Options::default() };
        self.failures.clear();
        let Test { subject, state, cache, clock, failures } = self;
        subject.filter.line(state, cache, text, clock, settings, failures);
        failures
    }
}
