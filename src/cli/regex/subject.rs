//! What is tested: a filter, the filter of a jail, or expressions as they were typed.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::options::{Options, Words};
use super::sheet::Sheet;
use crate::cli::{check, configuration};
use crate::config::journal::Matches;
use crate::config::settings::Compat;
use crate::config::{self, Span, UseDns};
use crate::control::Value;
use crate::fail2ban::compile::{self, Setting};
use crate::fail2ban::diagnostic::Diagnostic;
use crate::fail2ban::filter::{self, ResolvedFilter};
use crate::fail2ban::text::Text;
use crate::fail2ban::{self, date, regex, repr, tags};
use crate::filter::record::Filter;
use crate::server::settings;

/// Longest expression or line in the head of a report, in characters.
const SHORT: usize = 53;

/// Stands before a jail's name where a filter has the same.
const JAIL: &str = "jail:";

/// A compiled filter.
#[derive(Debug)]
pub struct Subject {
    /// What lines are held against.
    pub filter: Arc<Filter>,
    /// Encoding of the logs, as it was named; `auto` if it was not.
    pub encoding: String,
    /// Values of a line's prefix stay where a failregex leaves them open, as since Fail2Ban 1.1.
    pub keep_prefix_values: bool,
    /// Lines are matched together.
    pub several_lines: bool,
    /// Which entries of a journal are read.
    pub journalmatch: Matches,
    /// It says itself how dates are written.
    pub has_dates: bool,
    /// Whom to follow where versions differ.
    pub compat: Compat,
}

/// Nothing can be tested; why has been said.
#[derive(Debug)]
pub struct Failed;

/// What was read and not yet compiled.
struct Raw {
    settings: config::Filter,
    /// Where the texts stand, if in files.
    files: Option<ResolvedFilter>,
}

/// Reads and compiles what the words name, and writes the head of the report on the way.
///
/// # Errors
/// If it cannot be used. The report then ends with the error; details stand on stderr.
pub fn load(options: &Options, words: &Words, year: u16, sheet: &mut Sheet) -> Result<Subject, Failed> {
    let directory = options.config.clone().unwrap_or_else(configuration::default_directory);
    let compat = settings::read(&directory).0.compat;
    let dates = date::Options::tool(year);
    let datepattern = options.datepattern.as_ref().filter(|pattern| !pattern.is_empty());
    if let Some(lines) = options.maxlines {
        sheet.head(&format!("Use         maxlines : {lines}"));
    }
    if let Some(pattern) = datepattern {
        announce_dates(pattern, &dates, sheet)?;
    }
    let mut raw = read(options, words, &directory, compat, sheet)?;
    if options.maxlines.is_none()
        && let Some(lines) = raw.files.as_ref().and_then(|files| files.maxlines)
    {
        sheet.head(&format!("Use         maxlines : {lines}"));
    }
    let settings = &mut raw.settings;
    settings.usedns = options.usedns().unwrap_or(settings.usedns);
    settings.maxlines = options.maxlines.unwrap_or(settings.maxlines);
    settings.logtimezone = options.timezone.clone().or(settings.logtimezone.take());
    if let Some(encoding) = options.encoding.as_ref().filter(|name| !name.is_empty()) {
        settings.logencoding.clone_from(encoding);
    }
    let own_pattern = std::mem::replace(&mut settings.datepattern, datepattern.cloned());
    let mut compiled = raw.compile(dates, sheet)?;
    if datepattern.is_none()
        && let Some(pattern) = own_pattern
    {
        announce_dates(&pattern, &dates, sheet)?;
        raw.settings.datepattern = Some(pattern);
        compiled = raw.compile(dates, sheet)?;
    }
    if let Some(ignoreregex) = &words.ignoreregex {
        sheet.head(&format!("Use ignoreregex line : {}", short(ignoreregex)));
        raw.settings.ignoreregex.push(ignoreregex.clone());
        compiled = raw.compile(dates, sheet)?;
    }
    let groups: Vec<&str> = match (&options.journalmatch, &raw.files) {
        (Some(typed), _) => vec![typed],
        (None, Some(files)) => files.journalmatch.iter().map(Text::as_str).collect(),
        (None, None) => Vec::new(),
    };
    let groups = groups.into_iter().map(|group| fail2ban::options::shell_words(group).unwrap_or_default());
    let journalmatch: Matches = groups.filter(|group| !group.is_empty()).collect();
    Ok(Subject {
        journalmatch,
        has_dates: raw.settings.datepattern.is_some(),
        compat,
        filter: Arc::new(compiled),
        several_lines: raw.settings.maxlines > 1,
        encoding: raw.settings.logencoding,
        keep_prefix_values: compat == Compat::V1_1,
    })
}

/// Says which date patterns are used.
fn announce_dates(pattern: &str, dates: &date::Options, sheet: &mut Sheet) -> Result<(), Failed> {
    match date::compile(Some(pattern), dates) {
        Ok(compiled) => {
            let mut names = compiled.names();
            let name = if names.len() > 2 { None } else { names.next() };
            sheet.head(&format!("Use      datepattern : {pattern} : {}", name.unwrap_or("Default Detectors")));
            Ok(())
        }
        Err(error) => {
            sheet.line(&format!("ERROR: {error}"));
            let help = error.help().map(str::to_owned);
            tell(&[typed("datepattern", pattern, None, &error.to_string(), help)], sheet, &[("datepattern", pattern)]);
            Err(Failed)
        }
    }
}

fn read(options: &Options, words: &Words, directory: &Path, compat: Compat, sheet: &mut Sheet) -> Result<Raw, Failed> {
    let word = words.regex.as_str();
    let jail = word.strip_prefix(JAIL).filter(|name| !name.is_empty());
    if let Some(name) = jail {
        return read_jail(name, directory, compat, sheet)?.ok_or_else(|| {
            sheet.line(&format!("ERROR: there is no jail `{name}`"));
            Failed
        });
    }
    let bare = !word.is_empty() && word.chars().all(|c| c.is_alphanumeric() || "_-".contains(c));
    if bare
        && compat == Compat::V1_1
        && let Some(raw) = read_jail(word, directory, compat, sheet)?
    {
        return Ok(raw);
    }
    if let Some(found) = find(word, directory) {
        return read_filter(options, &found, compat, sheet);
    }
    if bare
        && compat == Compat::V1_0
        && let Some(raw) = read_jail(word, directory, compat, sheet)?
    {
        return Ok(raw);
    }
    sheet.head(&format!("Use   failregex line : {}", short(word)));
    let settings = config::Filter { failregex: vec![word.to_owned()], ..config::Filter::default() };
    Ok(Raw { settings, files: None })
}

/// A filter's file.
struct Found {
    call: fail2ban::options::Call,
    path: PathBuf,
    /// The configuration directory whose filter.d it lies in; none for any other file.
    base: Option<String>,
}

/// The filter that a word names, if there is one.
fn find(word: &str, directory: &Path) -> Option<Found> {
    let named = word.split('[').next().unwrap_or(word);
    let fits = |c: char| c.is_alphanumeric() || "_/-.".contains(c);
    if named.is_empty() || !named.chars().all(fits) {
        return None;
    }
    let call = fail2ban::options::parse(&Text::new(word, None)).ok()?;
    let name = call.name.as_str();
    let endings: &[&str] = if name.chars().rev().take(6).any(|c| c == '.') { &[""] } else { &["", ".conf", ".local"] };
    let whole = directory.to_string_lossy();
    for ending in endings {
        let file = format!("{name}{ending}");
        let (path, base) = match file.rsplit_once('/') {
            None if folder_name(&whole) == "filter.d" => (directory.join(&file), Some(parent(&whole).to_owned())),
            None => (directory.join("filter.d").join(&file), Some(whole.to_string())),
            Some((folder, _)) if folder_name(folder) == "filter.d" => {
                (PathBuf::from(&file), Some(parent(folder).to_owned()))
            }
            Some(_) => (PathBuf::from(&file), None),
        };
        if path.is_file() {
            return Some(Found { call, path, base });
        }
    }
    None
}

fn folder_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

fn read_filter(options: &Options, found: &Found, compat: Compat, sheet: &mut Sheet) -> Result<Raw, Failed> {
    let name = found.call.name.as_str();
    let stem = found.path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    match &found.base {
        Some(base) => sheet.head(&format!("Use   failregex filter file : {stem}, basedir: {base}")),
        None => sheet.head(&format!("Use   failregex file : {name}")),
    }
    let arguments = &found.call.arguments;
    if !arguments.is_empty() {
        let pairs = arguments.iter().map(|(key, value)| (Value::from(key.as_str()), Value::from(value.as_str())));
        sheet.head(&format!("Use   filter options : {}", repr::repr(&Value::Map(pairs.collect()))));
    }
    let backend = if options.is_journal() { "systemd" } else { "auto" };
    let result = match &found.base {
        Some(base) => {
            let base = if base.is_empty() { "." } else { base };
            let vendor = configuration::vendor_layers();
            filter::read(Path::new(base), vendor, &stem, arguments.clone(), backend, compat)
        }
        None => filter::read_file(Path::new(name), arguments.clone(), backend, compat),
    };
    match result {
        Ok((files, warnings)) => {
            tell(&warnings, sheet, &[]);
            Ok(Raw { settings: files.settings(UseDns::default()), files: Some(files) })
        }
        Err(diagnostics) => {
            sheet.line(&format!("ERROR: failed to load filter {name}"));
            tell(&diagnostics, sheet, &[]);
            Err(Failed)
        }
    }
}

/// The filter of a jail, whether or not it is enabled, with what the jail says about its logs.
/// None if there is no such jail.
fn read_jail(name: &str, directory: &Path, compat: Compat, sheet: &mut Sheet) -> Result<Option<Raw>, Failed> {
    let options = fail2ban::Options {
        compat,
        vendor: configuration::vendor_layers(),
        dump: true,
        jail: Some(name.to_owned()),
        even_disabled: true,
        ..fail2ban::Options::default()
    };
    let configuration = fail2ban::read(directory, &options);
    let Some(jail) = configuration.jails.first() else { return Ok(None) };
    sheet.head(&format!("Use             jail : {name}"));
    if let Some(error) = &jail.error {
        sheet.line(&format!("ERROR: {error}"));
        tell(&configuration.diagnostics, sheet, &[]);
        return Err(Failed);
    }
    let option = |name: &str| jail.options.get(name).map(|text| text.as_str().to_owned());
    let usedns = jail.filter.usedns.as_ref().map_or(UseDns::default(), |text| {
        match text.as_str().to_ascii_lowercase().as_str() {
            "yes" => UseDns::Yes,
            "warn" => UseDns::Warn,
            "raw" => UseDns::Raw,
            _ => UseDns::No,
        }
    });
    let settings = config::Filter {
        logencoding: option("logencoding").unwrap_or_else(|| "auto".to_owned()),
        logtimezone: option("logtimezone"),
        ..jail.filter.settings(usedns)
    };
    Ok(Some(Raw { settings, files: Some(jail.filter.clone()) }))
}

impl Raw {
    fn compile(&self, dates: date::Options, sheet: &mut Sheet) -> Result<Filter, Failed> {
        compile::compile(&self.settings, dates).map_err(|errors| self.refuse(&errors, sheet))
    }

    /// The text of a setting, and where it stands if it came from a file.
    fn text(&self, setting: Setting) -> (&'static str, &str, Option<&Text>) {
        let files = self.files.as_ref();
        match setting {
            Setting::Prefregex => {
                let text = self.settings.prefregex.as_deref().unwrap_or("");
                ("prefregex", text, files.and_then(|files| files.prefregex.as_ref()))
            }
            Setting::Failregex(index) => {
                let text = self.settings.failregex.get(index).map_or("", String::as_str);
                ("failregex", text, files.and_then(|files| files.failregex.get(index)))
            }
            Setting::Ignoreregex(index) => {
                let text = self.settings.ignoreregex.get(index).map_or("", String::as_str);
                ("ignoreregex", text, files.and_then(|files| files.ignoreregex.get(index)))
            }
            Setting::Datepattern => ("datepattern", self.settings.datepattern.as_deref().unwrap_or(""), None),
            Setting::Logtimezone => ("timezone", self.settings.logtimezone.as_deref().unwrap_or(""), None),
            Setting::Maxlines => ("maxlines", "", None),
        }
    }

    /// Writes the first error as the original does, and all of them with their places to stderr.
    fn refuse(&self, errors: &[compile::Error], sheet: &mut Sheet) -> Failed {
        let order = |setting: Setting| match setting {
            Setting::Prefregex => (0, 0),
            Setting::Ignoreregex(index) => (1, index),
            Setting::Failregex(index) => (2, index),
            Setting::Datepattern | Setting::Logtimezone | Setting::Maxlines => (3, 0),
        };
        let mut errors: Vec<&compile::Error> = errors.iter().collect();
        errors.sort_by_key(|error| order(error.setting));
        if let Some(first) = errors.first() {
            sheet.line(&format!("ERROR: {}", self.original_words(first)));
        }
        let mut typed_texts = Vec::new();
        let mut diagnostics = Vec::new();
        for error in errors {
            let (name, text, file) = self.text(error.setting);
            let help = error.help.map(str::to_owned);
            let message = self.short_words(error);
            match file.and_then(|file| file.span_at(error.offset.unwrap_or(0))) {
                Some(span) => {
                    let width = if error.offset.is_some() { 1 } else { text.chars().count() };
                    let mut diagnostic = Diagnostic::error(Some(span), message).width(width);
                    diagnostic.help = help;
                    diagnostics.push(diagnostic);
                }
                None => {
                    diagnostics.push(typed(name, text, error.offset, &message, help));
                    typed_texts.push((name, text));
                }
            }
        }
        tell(&diagnostics, sheet, &typed_texts);
        Failed
    }

    /// What is wrong with an expression, and its text with the tags replaced.
    fn problem(&self, error: &compile::Error) -> Option<(String, Option<regex::Error>)> {
        if !matches!(error.setting, Setting::Prefregex | Setting::Failregex(_) | Setting::Ignoreregex(_)) {
            return None;
        }
        let (_, text, _) = self.text(error.setting);
        let expanded = tags::expand(text, tags::Options { usedns: self.settings.usedns, bare_colons: false }).text;
        let multiline = self.settings.maxlines > 1 && matches!(error.setting, Setting::Failregex(_));
        let wrong = regex::parse(&expanded, regex::Options { multiline }).err();
        Some((expanded, wrong))
    }

    fn original_words(&self, error: &compile::Error) -> String {
        match self.problem(error) {
            Some((expanded, _)) if expanded.trim().is_empty() => "Cannot add empty regex".to_owned(),
            Some((expanded, Some(wrong))) => {
                // The only message of Python's that has no place.
                let placed = !wrong.message.starts_with("look-behind");
                let message = if placed { wrong.to_string() } else { wrong.message };
                format!("Unable to compile regular expression '{expanded}':\n{message}")
            }
            Some((expanded, None)) if error.offset.is_none() => format!("No failure-id group in '{expanded}'"),
            _ => error.message.clone(),
        }
    }

    fn short_words(&self, error: &compile::Error) -> String {
        let (name, ..) = self.text(error.setting);
        match self.problem(error) {
            Some((expanded, _)) if expanded.trim().is_empty() => format!("{name} is empty"),
            Some((_, Some(wrong))) => format!("{name}: {}", wrong.message),
            Some((_, None)) if error.offset.is_none() => format!("{name} does not say whom to ban"),
            _ => error.message.clone(),
        }
    }
}

/// A finding about a text that was typed.
fn typed(name: &str, text: &str, offset: Option<usize>, message: &str, help: Option<String>) -> Diagnostic {
    let before = text.get(..offset.unwrap_or(0)).unwrap_or(text);
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let span = Span {
        file: Arc::new(place(name)),
        line: number(before.matches('\n').count() + 1),
        column: number(before.rsplit('\n').next().unwrap_or("").chars().count() + 1),
    };
    let width = if offset.is_some() { 1 } else { text.lines().next().unwrap_or("").chars().count() };
    Diagnostic { help, ..Diagnostic::error(Some(span), message).width(width) }
}

/// Stands for a file where a text was typed.
fn place(name: &str) -> PathBuf {
    PathBuf::from(format!("<{name}>"))
}

/// Writes findings with their lines to stderr.
fn tell(diagnostics: &[Diagnostic], sheet: &mut Sheet, typed: &[(&str, &str)]) {
    if diagnostics.is_empty() {
        return;
    }
    let mut texts: HashMap<PathBuf, Arc<str>> =
        typed.iter().map(|(name, text)| (place(name), Arc::from(*text))).collect();
    for span in diagnostics.iter().filter_map(|diagnostic| diagnostic.span.as_ref()) {
        if !texts.contains_key(span.file.as_ref())
            && let Ok(text) = std::fs::read_to_string(span.file.as_ref())
        {
            texts.insert(span.file.as_ref().clone(), text.into());
        }
    }
    sheet.flush();
    eprint!("{}", check::report(diagnostics, &texts, std::io::IsTerminal::is_terminal(&std::io::stderr())));
}

/// The beginning of a text that is too long for a line of the report's head.
pub fn short(text: &str) -> String {
    if text.chars().count() <= SHORT {
        return text.to_owned();
    }
    text.chars().take(SHORT - 3).chain("...".chars()).collect()
}
