//! The whole configuration directory as one list of commands: what `-d` prints, what the
//! server applies.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::diagnostic::{Diagnostic, Severity};
use super::interpolate::{Scope, Vars};
use super::jail::{Jail, Reader};
use super::layer::{Files, Merged, Vendor};
use super::options;
use super::text::Text;
use crate::config::settings::Compat;
use crate::control::{Command, Value};

/// How to read.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Whom to follow where versions differ.
    pub compat: Compat,
    /// Where files come from that the directory lacks.
    pub vendor: Vec<Vendor>,
    /// Only print: missing logs are no error.
    pub dump: bool,
    /// Only this jail.
    pub jail: Option<String>,
    /// Read that jail even if it is not enabled.
    pub even_disabled: bool,
    /// Instead of option `loglevel`.
    pub loglevel: Option<String>,
    /// Instead of option `logtarget`.
    pub logtarget: Option<String>,
    /// Instead of option `syslogsocket`.
    pub syslogsocket: Option<String>,
}

/// What a configuration directory says.
#[derive(Debug, Default)]
pub struct Configuration {
    /// The commands, in order.
    pub stream: Vec<Command>,
    /// Everything that is wrong, in the order of reading.
    pub diagnostics: Vec<Diagnostic>,
    /// The enabled jails, those with an error included.
    pub jails: Vec<Jail>,
    /// Path of the control socket.
    pub socket: String,
    /// Path of the pid file.
    pub pidfile: String,
    /// The texts of the files, by the path that spans carry.
    pub texts: HashMap<PathBuf, Arc<str>>,
}

impl Configuration {
    /// Whether nothing can be started from this.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        self.diagnostics.iter().any(|found| found.severity == Severity::Fatal)
    }

    /// Whether there is no jail left of those that should be there.
    #[must_use]
    pub fn lost_all_jails(&self) -> bool {
        !self.jails.is_empty() && self.jails.iter().all(|jail| jail.error.is_some())
    }

    /// Whether anything was left out.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(|found| found.severity >= Severity::Error)
    }
}

/// Options of fail2ban.conf with their defaults, in the order they are sent; the first two are
/// the client's own.
const GENERAL: [(&str, Option<&str>); 9] = [
    ("socket", Some("/var/run/fail2ban/fail2ban.sock")),
    ("pidfile", Some("/var/run/fail2ban/fail2ban.pid")),
    ("syslogsocket", Some("auto")),
    ("loglevel", Some("INFO")),
    ("logtarget", Some("/var/log/fail2ban.log")),
    ("allowipv6", Some("auto")),
    ("dbfile", Some("/var/lib/fail2ban/fail2ban.sqlite3")),
    ("dbmaxmatches", None),
    ("dbpurgeage", Some("1d")),
];

/// Reads a configuration directory. Never stops at the first error.
#[must_use]
pub fn read(directory: &Path, options: &Options) -> Configuration {
    let mut configuration = Configuration::default();
    let directory = without_slash(directory);
    if !directory.is_dir() && options.vendor.is_empty() {
        let text = format!("the configuration directory `{}` does not exist", directory.display());
        let mut fatal = Diagnostic::error(None, text).help("name another one with `-c DIR`");
        fatal.severity = Severity::Fatal;
        configuration.diagnostics.push(fatal);
        return configuration;
    }
    let mut files = Files::new(&directory, options.vendor.clone());
    general(&mut configuration, &mut files, options);
    jails(&mut configuration, &mut files, options);
    let mut found = files.diagnostics;
    found.append(&mut configuration.diagnostics);
    let mut seen = HashSet::new();
    found.retain(|one| seen.insert((one.span.clone(), one.text.clone(), one.jail.clone())));
    configuration.diagnostics = found;
    configuration.texts = files.texts;
    configuration
}

/// Reads fail2ban.conf alone: what every call of the client needs (socket, pid file).
#[must_use]
pub fn read_general(directory: &Path, options: &Options) -> Configuration {
    let mut configuration = Configuration::default();
    let mut files = Files::new(&without_slash(directory), options.vendor.clone());
    general(&mut configuration, &mut files, options);
    configuration.diagnostics.splice(0..0, files.diagnostics);
    configuration.texts = files.texts;
    configuration
}

/// The names of all jails, those included that are off or broken.
#[must_use]
pub fn jail_names(directory: &Path, options: &Options) -> Vec<String> {
    let mut files = Files::new(&without_slash(directory), options.vendor.clone());
    let merged = files.read("jail").unwrap_or_default();
    merged.sections.into_keys().filter(|name| is_jail(name)).collect()
}

/// Whether a section of jail.conf is a jail.
fn is_jail(section: &str) -> bool {
    section != "INCLUDES" && !section.starts_with("KNOWN/")
}

fn without_slash(directory: &Path) -> PathBuf {
    let text = directory.to_string_lossy();
    let bare = text.trim_end_matches('/');
    if bare.is_empty() { directory.to_owned() } else { PathBuf::from(bare) }
}

fn general(configuration: &mut Configuration, files: &mut Files, options: &Options) {
    let merged = files.read("fail2ban").unwrap_or_default();
    let none = Vars::new();
    let mut fatal = |mut diagnostic: Diagnostic| {
        diagnostic.severity = Severity::Fatal;
        configuration.diagnostics.push(diagnostic);
    };
    if let Some((_, text)) = merged.broken.first() {
        fatal(Diagnostic::error(None, format!("fail2ban.conf cannot be used: {text}")));
    }
    let mut stream = Vec::new();
    let mut warnings = Vec::new();
    if merged.sections.contains_key("Thread")
        && let Ok(Some(size)) = (Scope { merged: &merged, section: "Thread", vars: &none }).get("stacksize")
        && let Some(number) = options::integer(size.as_str())
    {
        let map = Value::Map(vec![("stacksize".into(), Value::Int(number))]);
        stream.push(Command { words: vec!["set".into(), "thread".into(), map], span: size.span() });
    }
    let scope = Scope { merged: &merged, section: "Definition", vars: &none };
    let defined = merged.sections.contains_key("Definition");
    for (option, default) in GENERAL {
        let argument = match option {
            "loglevel" => options.loglevel.as_deref(),
            "logtarget" => options.logtarget.as_deref(),
            "syslogsocket" => options.syslogsocket.as_deref(),
            _ => None,
        };
        let read = if defined { scope.get(option) } else { Ok(None) };
        let read = read.unwrap_or_else(|error| {
            fatal(error.diagnostic());
            None
        });
        let text = argument.map(|text| Text::new(text, None)).or(read);
        let value = match (&text, default) {
            (Some(text), _) if option == "dbmaxmatches" => match options::integer(text.as_str()) {
                Some(number) => Value::Int(number),
                None => {
                    let words = format!("`{}` is no whole number; dbmaxmatches has its default", text.as_str());
                    warnings.push(Diagnostic::warning(text.span(), words));
                    Value::None
                }
            },
            (Some(text), _) => text.as_str().into(),
            (None, Some(default)) => default.into(),
            (None, None) if defined => continue,
            (None, None) => Value::None,
        };
        if option == "loglevel"
            && let Some(text) = &text
            && !is_level(text.as_str())
        {
            let help = "CRITICAL, ERROR, WARNING, NOTICE, INFO, DEBUG, TRACEDEBUG or HEAVYDEBUG";
            let width = text.as_str().chars().count();
            let words = format!("`{}` is no log level", text.as_str());
            fatal(Diagnostic::error(text.span(), words).width(width).help(help));
        }
        match (option, value) {
            ("socket", Value::Text(path)) => configuration.socket = path,
            ("pidfile", Value::Text(path)) => configuration.pidfile = path,
            (option, value) => {
                let span = text.as_ref().and_then(Text::span);
                stream.push(Command { words: vec!["set".into(), option.into(), value], span });
            }
        }
    }
    configuration.stream = stream;
    configuration.diagnostics.extend(warnings);
}

fn is_level(text: &str) -> bool {
    const NAMES: [&str; 9] =
        ["CRITICAL", "ERROR", "WARNING", "NOTICE", "INFO", "MSG", "DEBUG", "TRACEDEBUG", "HEAVYDEBUG"];
    NAMES.iter().any(|name| name.eq_ignore_ascii_case(text)) || options::integer(text).is_some_and(|n| n >= 0)
}

fn jails(configuration: &mut Configuration, files: &mut Files, options: &Options) {
    let Some(mut merged) = files.read("jail") else {
        let path = files.directory().join("jail.conf");
        let text = format!("there is no usable {}: no jail is known", path.display());
        let mut error = Diagnostic::error(None, text);
        if options.compat == Compat::V1_1 {
            error.severity = Severity::Fatal;
        }
        configuration.diagnostics.push(error);
        return;
    };
    let directory = files.directory().to_string_lossy().into_owned();
    for (name, value) in [("fail2ban_version", options.compat.version()), ("fail2ban_confpath", &directory)] {
        merged.defaults.entry(name.to_owned()).or_insert_with(|| Text::new(value, None));
    }
    if options.even_disabled
        && let Some(section) = options.jail.as_ref().and_then(|jail| merged.sections.get_mut(jail))
    {
        section.insert("enabled".to_owned(), Text::new("true", None));
    }
    let referenced = references(&merged);
    for name in merged.sections.keys() {
        if !is_jail(name) || options.jail.as_ref().is_some_and(|only| only != name) {
            continue;
        }
        let reader = Reader { files, merged: &merged, options, referenced: &referenced, found: Vec::new() };
        let (jail, found) = reader.read(name);
        configuration.diagnostics.extend(found);
        configuration.jails.extend(jail);
    }
    let mut starts = Vec::new();
    for jail in &mut configuration.jails {
        for (words, text) in std::mem::take(&mut jail.commands) {
            configuration.stream.push(Command { words, span: text.as_ref().and_then(Text::span) });
        }
        if jail.error.is_none() {
            starts.push(Command { words: vec!["start".into(), jail.name.as_str().into()], span: None });
        }
    }
    configuration.stream.extend(starts);
}

/// The names that any raw text refers to by `%(name)s` or `<name>`.
pub(super) fn references(merged: &Merged) -> HashSet<String> {
    let mut names = HashSet::new();
    let sections = merged.sections.values().chain([&merged.defaults]);
    for text in sections.flat_map(|section| section.values()) {
        for part in text.as_str().split(['<', '>', '(', ')', '[', ']', '=', ',']) {
            let name = part.rsplit('/').next().unwrap_or(part);
            if !name.is_empty() && name.len() < 64 && !name.contains(' ') {
                names.insert(name.to_lowercase());
            }
        }
    }
    names
}
