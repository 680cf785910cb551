//! `sekimori regex` (`fail2ban-regex`): what a filter finds in logs, without a server.
//!
//! `options` is the command line, `subject` what is tested, `input` where lines come from;
//! `report`, `rows` and `json` are the three forms of the answer.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser as _;

use crate::cli::configuration;
use crate::config::journal::is_match;
use crate::fail2ban::journal as backend;
use crate::filter::exact::Cache;
use crate::filter::record::moment::written;
use crate::filter::{Clock, Failure, approximate, record};
use crate::line::{MAX_LINE, Record};
use crate::server::settings;
use crate::source::{Encoding, journal};
use crate::time::Time;
use fast::Fast;
use input::{Log, Progress, Reader};
use options::{Options, Words};
use report::{End, Report, Show};
use result::Names;
use rows::Format;
use sheet::Sheet;
use subject::{Failed, Subject};

pub mod failures;
mod fast;
mod input;
mod json;
pub(super) mod options;
mod prefix;
mod report;
mod result;
mod rows;
mod sheet;
mod subject;

/// Wrong arguments, an unreadable filter or log, a bad expression.
const FAILED: u8 = 255;

/// From so many bytes on a progress bar is worth it.
const LARGE: u64 = 32 << 20;

/// Runs the command; the first word is its name.
#[must_use]
pub fn main(words: &[String]) -> ExitCode {
    let original = words.first().is_some_and(|path| path.rsplit('/').next() == Some("fail2ban-regex"));
    let options = match Options::try_parse_from(words) {
        Ok(options) => options,
        Err(error) => {
            // the terminal is gone, then there is nobody to tell
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    if options.short_version || options.version {
        let directory = options.config.clone().unwrap_or_else(configuration::default_directory);
        let version = settings::read(&directory).0.compat.version();
        if options.short_version {
            println!("{version}");
        } else if original {
            println!("fail2ban-regex {version}");
        } else {
            println!("sekimori {} (as fail2ban-regex {version})", env!("CARGO_PKG_VERSION"));
        }
        return ExitCode::SUCCESS;
    }
    let Some(words) = options.split() else {
        // nobody to tell
        let _ = std::io::stdout().write_all(options::help().as_bytes());
        eprintln!("\nERROR: provide both <LOG> and <REGEX>.");
        return ExitCode::from(FAILED);
    };
    if !options::is_level(&options.log_level) {
        eprintln!("ERROR: `{}` is no log level", options.log_level);
        return ExitCode::from(FAILED);
    }
    match run(&options, &words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed) => ExitCode::from(FAILED),
    }
}

fn run(options: &Options, words: &Words) -> Result<(), Failed> {
    let mut sheet = Sheet::stdout(options.out().is_some() || options.json || options.print_approximation);
    let result = tested(options, words, &mut sheet);
    sheet.flush();
    result
}

fn tested(options: &Options, words: &Words, sheet: &mut Sheet) -> Result<(), Failed> {
    let zone = jiff::tz::TimeZone::system();
    let clock = Clock { now: options.now.map_or_else(now, Time::from_seconds), zone };
    let moment = jiff::Timestamp::from_second(clock.now.seconds()).map_err(|error| {
        eprintln!("ERROR: --now: {error}");
        Failed
    })?;
    let year = u16::try_from(clock.zone.to_datetime(moment).year()).unwrap_or(1970);
    for line in ["", "Running tests", "=============", ""] {
        sheet.head(line);
    }
    let subject = subject::load(options, words, year, sheet)?;
    if options.print_approximation {
        approximation(&subject, sheet);
        return Ok(());
    }
    let Some(encoding) = Encoding::from_name(&subject.encoding) else {
        sheet.flush();
        eprintln!("ERROR: there is no encoding `{}`", subject.encoding);
        return Err(Failed);
    };
    let logs: Result<Vec<Log>, String> = words.logs.iter().map(|word| log(word, options, &subject)).collect();
    let logs = logs.map_err(|text| {
        sheet.flush();
        eprintln!("ERROR: {text}");
        Failed
    })?;
    announce(&logs, words, &subject, sheet);
    let show = Show {
        level: options.level(),
        dates: options.verbose_date,
        matched: options.print_all_matched,
        no_missed: options.print_no_missed,
        all_missed: options.print_all_missed,
        no_ignored: options.print_no_ignored,
        all_ignored: options.print_all_ignored,
        no_dates: !subject.has_dates && logs.iter().all(|log| matches!(log, Log::Journal(_))),
        lines: options.maxlines,
    };
    let form = match options.out() {
        _ if options.json => Form::Json,
        Some(format) => Form::Rows { format: Format::new(format), invert: options.invert },
        None => Form::Report,
    };
    let first = options.no_check_all || options.out().is_some();
    let all_lines = show.level > 0 || show.matched || show.all_missed && !show.no_missed;
    let fast = match &form {
        Form::Report if first && !all_lines => Fast::new(&subject.filter, true),
        Form::Rows { format, invert: false } if *format != Format::Row => Fast::new(&subject.filter, false),
        _ => None,
    };
    let mut test = Test {
        report: Report::new(&subject.filter, show),
        settings: record::Options { keep_prefix_values: subject.keep_prefix_values, ..record::Options::default() },
        filter: &subject.filter,
        state: record::State::default(),
        cache: Cache::default(),
        ticks: options.now.is_none(),
        clock,
        names: Names::default(),
        first,
        form,
        fast,
        number: 0,
        failures: Vec::new(),
    };
    let started = Instant::now();
    let progress = Progress::default();
    let bar = bar(&logs);
    let mut result = Ok(());
    for log in &logs {
        if let Err(error) = test.log(log, encoding, &progress, &bar, sheet) {
            sheet.flush();
            bar.suspend(|| eprintln!("ERROR: {}", error.told()));
            result = Err(Failed);
        }
        if sheet.is_gone() {
            break;
        }
    }
    bar.finish_and_clear();
    if matches!(test.form, Form::Report) {
        test.report.write(sheet, test.filter, &test.state, started.elapsed());
    }
    result
}

fn now() -> Time {
    Time::from_micros(jiff::Timestamp::now().as_microsecond())
}

/// What a word means as a log: a file, the standard input, the journal, or lines as text.
fn log(word: &str, options: &Options, subject: &Subject) -> Result<Log, String> {
    Ok(if word == "-" {
        Log::Stdin
    } else if std::path::Path::new(word).is_file() {
        Log::File(word.to_owned())
    } else if options::is_journal(word) {
        let journal = backend::backend(word, subject.compat)?.journal.unwrap_or_default();
        let wrong = subject.journalmatch.iter().flatten().find(|word| !is_match(word));
        if let Some(wrong) = wrong {
            return Err(format!("`{wrong}` is no journal match; write FIELD=value, and + between alternatives"));
        }
        Log::Journal(journal::Spec { journal, matches: subject.journalmatch.clone() })
    } else if word.contains('\n') || options.maxlines.is_some_and(|lines| lines > 1) {
        Log::Text(word.split('\n').map(str::to_owned).collect())
    } else {
        Log::Text(vec![word.to_owned()])
    })
}

/// Says in the head what is read.
fn announce(logs: &[Log], words: &Words, subject: &Subject, sheet: &mut Sheet) {
    let encoding = if subject.encoding == "auto" { "UTF-8" } else { &subject.encoding };
    for (log, word) in logs.iter().zip(&words.logs) {
        match log {
            Log::File(_) | Log::Stdin => {
                sheet.head(&format!("Use         log file : {word}"));
                sheet.head(&format!("Use         encoding : {encoding}"));
            }
            Log::Journal(spec) => {
                sheet.head("Use         systemd journal");
                sheet.head(&format!("Use         encoding : {encoding}"));
                if !spec.matches.is_empty() {
                    let groups: Vec<String> = spec.matches.iter().map(|group| group.join(" ")).collect();
                    sheet.head(&format!("Use    journal match : {}", groups.join(" + ")));
                }
            }
            Log::Text(lines) if !word.contains('\n') && lines.len() == 1 && !subject.several_lines => {
                sheet.head(&format!("Use      single line : {}", subject::short(word)));
            }
            Log::Text(lines) => {
                sheet.head(&format!("Use      multi line : {} line(s)", lines.len()));
                for (index, line) in lines.iter().take(5).enumerate() {
                    sheet.head(&format!("|  {}: {}", index + 1, subject::short(line)));
                }
                if lines.len() > 5 {
                    sheet.head("| ...");
                }
                sheet.head("`-");
            }
        }
    }
    sheet.head("");
}

/// The preselection of a filter as plain regular expressions, one a line; a line that the
/// filter recognises matches all of them.
fn approximation(subject: &Subject, sheet: &mut Sheet) {
    let failures: Vec<_> = subject.filter.failregex.iter().map(|regex| &*regex.pattern).collect();
    let prefix = subject.filter.prefregex.as_ref().map(|regex| &*regex.pattern);
    let patterns = approximate::Patterns { prefix, failures: &failures };
    sheet.line(&approximate::to_regex_text(&approximate::filter(patterns)));
}

/// A bar on stderr, if that is a terminal and there is much to read; else one that nobody sees.
fn bar(logs: &[Log]) -> indicatif::ProgressBar {
    let size = |log: &Log| match log {
        Log::File(path) => std::fs::metadata(path).map_or(0, |data| data.len()),
        Log::Stdin | Log::Text(_) | Log::Journal(_) => 0,
    };
    let total: u64 = logs.iter().map(size).sum();
    if total < LARGE || !std::io::stderr().is_terminal() {
        return indicatif::ProgressBar::hidden();
    }
    let style = indicatif::ProgressStyle::with_template(
        "{bar:30} {bytes}/{total_bytes} {bytes_per_sec}, {eta} remaining, {msg}",
    );
    let bar = indicatif::ProgressBar::new(total);
    bar.set_style(style.unwrap_or_else(|_| indicatif::ProgressStyle::default_bar()));
    bar
}

/// How results are told.
enum Form {
    Report,
    Rows { format: Format, invert: bool },
    Json,
}

/// A filter on its way through logs.
struct Test<'a> {
    filter: &'a record::Filter,
    settings: record::Options,
    state: record::State,
    cache: Cache,
    clock: Clock,
    /// The clock is the machine's.
    ticks: bool,
    names: Names,
    /// The first failregex that matches is enough.
    first: bool,
    form: Form,
    report: Report,
    fast: Option<Fast>,
    /// Lines of the log so far.
    number: u64,
    failures: Vec<Failure>,
}

impl Test<'_> {
    fn log(
        &mut self,
        log: &Log,
        encoding: Encoding,
        progress: &Progress,
        bar: &indicatif::ProgressBar,
        sheet: &mut Sheet,
    ) -> Result<(), input::Error> {
        self.number = 0;
        if let Log::Journal(spec) = log {
            return self.journal(spec, bar, sheet);
        }
        let mut reader = Reader::open(log, encoding, progress)?;
        while let Some(block) = reader.block()? {
            bar.set_position(progress.bytes());
            if block.unfinished && matches!(log, Log::File(_)) && matches!(self.form, Form::Report | Form::Rows { .. })
            {
                // As the original: whoever writes it may not be done.
                sheet.flush();
                eprintln!("note: the last line of `{}` has no end and was left out", reader.name());
                break;
            }
            if block.cut {
                let number = self.number + 1;
                bar.suspend(|| {
                    eprintln!("warning: line {number} is longer than {MAX_LINE} bytes; only its beginning is matched");
                });
            }
            if self.ticks {
                self.clock.now = now();
            }
            let mut rest = block.bytes;
            while !rest.is_empty() {
                if self.fast.is_some() && (!matches!(self.form, Form::Report) || !self.report.wants_missed()) {
                    self.fast(rest, block.cut, sheet);
                    break;
                }
                let end = memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
                for line in input::lines(&rest[..end]) {
                    self.number += 1;
                    self.line(&String::from_utf8_lossy(line), sheet);
                }
                rest = &rest[end..];
            }
            if sheet.is_gone() {
                return Ok(());
            }
            if reader.is_eager() {
                sheet.flush();
            }
        }
        Ok(())
    }

    /// All entries of a journal.
    fn journal(
        &mut self,
        spec: &journal::Spec,
        bar: &indicatif::ProgressBar,
        sheet: &mut Sheet,
    ) -> Result<(), input::Error> {
        let mut text = Vec::new();
        input::each_entry(spec, &mut |entry| {
            let Some(time) = entry.time() else { return true };
            self.number += 1;
            text.clear();
            let cut = entry.write(&mut text);
            if cut {
                let number = self.number;
                bar.suspend(|| {
                    eprintln!("warning: entry {number} is longer than {MAX_LINE} bytes; only its beginning is matched");
                });
            }
            if self.ticks {
                self.clock.now = now();
            }
            self.record(&Record { time, text: &text }, cut, sheet);
            !sheet.is_gone()
        })
    }

    fn record(&mut self, record: &Record<'_>, cut: bool, sheet: &mut Sheet) {
        let (state, cache, clock) = (&mut self.state, &mut self.cache, &self.clock);
        let settings = record::Options { cut, ..self.settings };
        if matches!(self.form, Form::Json) {
            self.failures.clear();
            self.filter.record(state, cache, record, clock, settings, &mut self.failures);
            return self.objects(sheet);
        }
        let line = format!("{} {}", written(record.time, &clock.zone), String::from_utf8_lossy(record.text));
        let trace = self.filter.trace_record(state, cache, record, clock, settings, self.first);
        self.tell(&line, trace, sheet);
    }

    /// Whole lines of which only failures and numbers are of interest.
    fn fast(&mut self, bytes: &[u8], cut: bool, sheet: &mut Sheet) {
        let Some(fast) = &mut self.fast else { return };
        let outcomes = fast.block(bytes, cut, &mut self.state, &mut self.cache, self.settings, &self.clock);
        let (mut matched, mut ignored) = (outcomes.watch.pending.len() as u64, 0);
        for index in outcomes.watch.pending {
            self.report.hit(index, None, None, false, &self.clock);
        }
        for failure in outcomes.failures {
            let quiet = failure.data.iter().any(|(name, _)| &**name == "nofail");
            let ids = self.names.of(Some(&failure.who));
            if let Form::Rows { format, .. } = &self.form {
                if !quiet {
                    let hit = hit(failure);
                    ids.iter().flatten().for_each(|id| format.write(sheet, &hit, id, self.clock.now));
                }
                continue;
            }
            for _ in &ids {
                self.report.hit(failure.regex, None, failure.time, false, &self.clock);
            }
            if quiet && !ids.is_empty() {
                ignored += 1;
                let line = failure.matches.last().map_or("", |one| &*one.line);
                self.report.line(line, End::Ignored);
            } else if !ids.is_empty() {
                matched += 1;
            }
        }
        for (index, line) in outcomes.watch.ignored {
            ignored += 1;
            self.report.excused(index, &line);
        }
        self.report.many(outcomes.lines.saturating_sub(ignored), matched, outcomes.prefix);
    }

    fn line(&mut self, line: &str, sheet: &mut Sheet) {
        if matches!(self.form, Form::Json) {
            self.failures.clear();
            let (state, cache) = (&mut self.state, &mut self.cache);
            self.filter.line(state, cache, line, &self.clock, self.settings, &mut self.failures);
            return self.objects(sheet);
        }
        if line.is_empty() || line.starts_with('#') {
            return;
        }
        let (state, cache) = (&mut self.state, &mut self.cache);
        let trace = self.filter.trace(state, cache, line, &self.clock, self.settings, self.first);
        self.tell(line, trace, sheet);
    }

    /// One object for each failure of a line.
    fn objects(&self, sheet: &mut Sheet) {
        for failure in &self.failures {
            sheet.line(&json::object(self.number, failure).to_string());
        }
    }

    /// Tells what became of a line.
    fn tell(&mut self, line: &str, mut trace: record::Trace, sheet: &mut Sheet) {
        let mut ignored = !trace.ignored.is_empty();
        let mut matched = 0;
        for hit in &trace.hits {
            for id in self.names.of(hit.who.as_ref()) {
                match (&self.form, &id) {
                    (Form::Report, _) => {
                        let who = id.as_ref().map(ToString::to_string);
                        self.report.hit(hit.regex, who.as_deref(), hit.time, matched > 1, &self.clock);
                    }
                    (Form::Rows { format, invert: false }, Some(id)) if !ignored && !hit.nofail => {
                        format.write(sheet, hit, id, self.clock.now);
                    }
                    _ => {}
                }
                if hit.nofail {
                    ignored = true;
                } else {
                    matched += 1;
                }
            }
        }
        let end = match (ignored, matched) {
            (true, _) => End::Ignored,
            (false, 0) => End::Missed,
            (false, _) => End::Matched,
        };
        match &self.form {
            Form::Report => {
                self.report.earlier(&trace.earlier);
                self.report.others(&mut trace);
                self.report.line(line, end);
            }
            Form::Rows { invert: true, .. } if end != End::Matched => sheet.line(line),
            _ => {}
        }
    }
}

/// A failure as a match with its groups.
fn hit(failure: Failure) -> record::Hit {
    let Failure { regex, who, time, address, matches, data } = failure;
    let groups = data.into_iter().map(|(name, datum)| (name, Some(datum))).collect();
    record::Hit { regex, who: Some(who), address, time, matches, groups, nofail: false }
}
