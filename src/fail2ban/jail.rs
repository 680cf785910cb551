//! One jail, put together from its section, its filter and its actions.

use std::collections::HashSet;

use indexmap::IndexMap;

use super::diagnostic::{Diagnostic, Severity, nearest};
use super::filter::{Located, ResolvedFilter};
use super::interpolate::{Error, Scope, Vars};
use super::layer::{Files, Merged};
use super::text::Text;
use super::{Options, action, filter, logpath, options, repr, vendor};
use crate::config::settings::Compat;
use crate::control::Value;

/// What an option's text is turned into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Bool,
    Int,
}

/// The options of a jail in the order they are read and sent, before those of the filter.
const OPTIONS: [(&str, Kind); 24] = [
    ("enabled", Kind::Bool),
    ("backend", Kind::Text),
    ("maxretry", Kind::Int),
    ("maxmatches", Kind::Int),
    ("findtime", Kind::Text),
    ("bantime", Kind::Text),
    ("bantime.increment", Kind::Bool),
    ("bantime.factor", Kind::Text),
    ("bantime.formula", Kind::Text),
    ("bantime.multipliers", Kind::Text),
    ("bantime.maxtime", Kind::Text),
    ("bantime.rndtime", Kind::Text),
    ("bantime.overalljails", Kind::Bool),
    ("ignorecommand", Kind::Text),
    ("ignoreself", Kind::Bool),
    ("ignoreip", Kind::Text),
    ("ignorecache", Kind::Text),
    ("filter", Kind::Text),
    ("logtimezone", Kind::Text),
    ("logencoding", Kind::Text),
    ("logpath", Kind::Text),
    ("skip_if_nologs", Kind::Bool),
    ("systemd_if_nologs", Kind::Bool),
    ("action", Kind::Text),
];

/// Options that steer the reading and are not sent.
const NOT_SENT: [&str; 6] = ["enabled", "backend", "filter", "action", "skip_if_nologs", "systemd_if_nologs"];

/// A jail that is enabled.
#[derive(Clone, Debug, Default)]
pub struct Jail {
    /// Its name.
    pub name: String,
    /// The settings of its filter, those of the jail already over them.
    pub filter: ResolvedFilter,
    /// The options of the jail itself, as they are sent, by name.
    pub options: IndexMap<String, Text>,
    /// Why it cannot be used.
    pub error: Option<String>,
    /// Patterns of `logpath` with wildcards: the stream names the files that are there, these tell of later ones.
    pub globs: Vec<String>,
    pub(super) commands: Vec<Located>,
}

/// Why a jail is left out.
enum Reject {
    /// With the words of Fail2Ban and a finding for our own report.
    Skip(String, Box<Diagnostic>),
    /// The original would have stopped here for good.
    Value(Error),
}

impl From<Error> for Reject {
    fn from(error: Error) -> Reject {
        Reject::Value(error)
    }
}

pub(super) struct Reader<'a> {
    pub files: &'a mut Files,
    pub merged: &'a Merged,
    pub options: &'a Options,
    /// Names that any value of the file refers to.
    pub referenced: &'a HashSet<String>,
    /// Findings about this jail.
    pub found: Vec<Diagnostic>,
}

impl Reader<'_> {
    /// Reads the jail of this section; none if it is not enabled.
    pub fn read(mut self, name: &str) -> (Option<Jail>, Vec<Diagnostic>) {
        let mut jail = Jail { name: name.to_owned(), ..Jail::default() };
        let known_before = self.files.diagnostics.len();
        let result = self.enabled(name).and_then(|enabled| {
            if !enabled {
                return Ok(false);
            }
            if let Some(text) = self.merged.broken(name) {
                let text = text.to_owned();
                // The finding itself was reported when the file was read.
                return Err(Reject::Skip(text.clone(), Box::new(Diagnostic::error(None, text))));
            }
            self.fill(&mut jail)?;
            Ok(true)
        });
        match result {
            Ok(false) => return (None, self.found),
            Ok(true) => {}
            Err(reject) => {
                let (text, diagnostic) = match reject {
                    Reject::Skip(text, diagnostic) => (text, *diagnostic),
                    Reject::Value(error) => (error.text.clone(), error.diagnostic()),
                };
                if self.merged.broken(name).is_none() {
                    self.found.push(diagnostic.jail(name));
                }
                let text = format!("Jail '{name}' skipped, because of wrong configuration: {text}");
                jail.commands = vec![(vec!["config-error".into(), text.clone().into()], None)];
                jail.error = Some(text);
            }
        }
        for diagnostic in &mut self.files.diagnostics[known_before..] {
            *diagnostic = diagnostic.clone().jail(name);
        }
        (Some(jail), self.found)
    }

    fn enabled(&mut self, name: &str) -> Result<bool, Reject> {
        let none = Vars::new();
        let scope = Scope { merged: self.merged, section: name, vars: &none };
        let enabled = scope.get("enabled")?.is_some_and(|text| options::boolean(text.as_str()));
        if !enabled {
            for option in ["backend", "filter"] {
                // The original stops altogether when it cannot read these of a jail that is off.
                if let Err(error) = scope.get(option) {
                    let mut warning = error.diagnostic().jail(name);
                    warning.severity = Severity::Warning;
                    self.found.push(warning);
                }
            }
        }
        Ok(enabled)
    }

    fn fill(&mut self, jail: &mut Jail) -> Result<(), Reject> {
        let none = Vars::new();
        let backend = Scope { merged: self.merged, section: &jail.name, vars: &none }.get("backend")?;
        let backend = backend.unwrap_or_else(|| Text::new("auto", None));
        let known = self.found.len();
        if let Some(journal) = self.fill_for(jail, backend)? {
            // a filter may be another one for a journal: everything once more, without saying it twice
            let told: Vec<Diagnostic> = self.found.drain(known..).collect();
            *jail = Jail { name: jail.name.clone(), ..Jail::default() };
            self.fill_for(jail, journal)?;
            self.found.truncate(known);
            self.found.extend(told);
        }
        Ok(())
    }

    /// Reads the jail for a backend; if none of its logs is there and the journal is to be read
    /// instead, the backend that says so.
    fn fill_for(&mut self, jail: &mut Jail, backend: Text) -> Result<Option<Text>, Reject> {
        let name = jail.name.clone();
        let merged = self.merged;
        let none = Vars::new();
        let first = Scope { merged, section: &name, vars: &none };
        let enabled = Text::new("True", None);
        let filter_text = first.get("filter")?.unwrap_or_default();
        let conditional = self.options.compat == Compat::V1_1;

        let filter_files;
        let mut definition = None;
        let mut known = Vars::new();
        if filter_text.is_empty() {
            let place = merged.headers.get(&name).cloned();
            let width = name.chars().count() + 2;
            self.found.push(Diagnostic::warning(place, "no filter is set").width(width).jail(&name));
        } else {
            let call = options::parse(&filter_text).map_err(|error| {
                let quoted = repr::repr(&Value::from(filter_text.as_str()));
                let diagnostic = Diagnostic::error(filter_text.span_at(error.offset), format!("filter: {error}"));
                let help = "write `filter = name[option=value, option=\"value, with comma\"]`";
                Reject::Skip(format!("Invalid filter definition {quoted}: {error}"), diagnostic.help(help).into())
            })?;
            filter_files = self.files.read(&filter::base(call.name.as_str())).ok_or_else(|| {
                let quoted = repr::repr(&Value::from(call.name.as_str()));
                let diagnostic = filter::missing(self.files, "filter.d", "filter", &call.name);
                Reject::Skip(format!("Unable to read the filter {quoted}"), Box::new(diagnostic))
            })?;
            self.usable(&filter_files, &call.name)?;
            self.mistyped(&filter_files, "Definition", &filter::OPTIONS);
            let mut filter = filter::definition(&filter_files, call.arguments, backend.as_str());
            let vars: Vars = [("enabled", &enabled), ("backend", &backend), ("filter", &filter_text)]
                .map(|(name, text)| (name.to_owned(), text.clone()))
                .into();
            filter.read(&filter::OPTIONS, &vars, conditional, true)?;
            for (option, text) in filter.combined(&[])? {
                if !option.starts_with("known/") {
                    known.insert(format!("known/{option}").to_lowercase(), text);
                }
            }
            definition = Some(filter);
        }

        let scope = Scope { merged, section: &name, vars: &known };
        let mut values: IndexMap<String, (Kind, Text)> = IndexMap::new();
        let all = OPTIONS
            .iter()
            .copied()
            .chain(filter::OPTIONS.map(|option| (option, if option == "maxlines" { Kind::Int } else { Kind::Text })));
        let mut errors = Vec::new();
        for (option, kind) in all {
            let value = match scope.get(option) {
                Ok(value) => value,
                Err(error) => {
                    errors.push(error);
                    continue;
                }
            };
            let default = match option {
                "enabled" | "backend" => Some(if option == "backend" { backend.clone() } else { enabled.clone() }),
                "filter" | "action" => Some(Text::default()),
                _ => None,
            };
            if let Some(text) = value.or(default) {
                values.insert(option.to_owned(), (kind, text));
            }
        }
        let mut errors = errors.into_iter();
        if let Some(error) = errors.next() {
            self.found.extend(errors.map(|error| error.diagnostic().jail(&name)));
            return Err(error.into());
        }
        self.numbers(&name, &values);
        self.mistyped(merged, &name, &[]);

        let mut vars = Vars::new();
        for (option, (kind, text)) in &values {
            let python = match kind {
                Kind::Text => text.clone(),
                Kind::Bool => Text::new(if options::boolean(text.as_str()) { "True" } else { "False" }, text.span()),
                Kind::Int => match options::integer(text.as_str()) {
                    Some(number) => Text::new(number.to_string(), text.span()),
                    None => continue,
                },
            };
            vars.insert(option.clone(), python);
        }

        let mut commands = Vec::new();
        if let Some(filter) = &mut definition {
            filter.read(&filter::OPTIONS, &vars, conditional, false)?;
            let combined = filter.combined(&[])?;
            jail.filter.fill(&combined);
            filter::commands(&mut commands, &name, &combined);
        }
        let own: IndexMap<String, Text> = values
            .iter()
            .filter(|(option, _)| filter::OPTIONS.contains(&option.as_str()))
            .map(|(option, (_, text))| (option.clone(), text.clone()))
            .collect();
        jail.filter.fill(&own);
        filter::commands(&mut commands, &name, &own);

        let mut logs = Vec::new();
        for (option, (kind, text)) in &values {
            if NOT_SENT.contains(&option.as_str()) || filter::OPTIONS.contains(&option.as_str()) {
                continue;
            }
            jail.options.insert(option.clone(), text.clone());
            let set = |value| vec!["set".into(), name.as_str().into(), option.as_str().into(), value];
            match option.as_str() {
                "logpath" if backend.as_str().starts_with("systemd") => {}
                "logpath" => {
                    logs = self.logs(&name, text);
                    let patterns = text.lines().into_iter().map(|line| logpath::entry(line.as_str()).0.to_owned());
                    jail.globs.extend(patterns.filter(|pattern| logpath::has_wildcard(pattern)));
                }
                "ignoreip" => {
                    let mut words: Vec<Value> = vec!["set".into(), name.as_str().into(), "addignoreip".into()];
                    words.extend(options::words(text).iter().map(|word| Value::from(word.as_str())));
                    commands.push((words, Some(text.clone())));
                }
                _ => {
                    let value = match kind {
                        Kind::Text => text.as_str().into(),
                        Kind::Bool => options::boolean(text.as_str()).into(),
                        Kind::Int => options::integer(text.as_str()).map_or(Value::None, Value::Int),
                    };
                    commands.push((set(value), Some(text.clone())));
                }
            }
        }
        if let Some((_, text)) = values.get("logpath")
            && logs.is_empty()
            && !backend.as_str().starts_with("systemd")
        {
            let flag =
                |option: &str, default| values.get(option).map_or(default, |(_, text)| options::boolean(text.as_str()));
            let (skip, journal) = (flag("skip_if_nologs", false), flag("systemd_if_nologs", true));
            if let Some(journal) = self.no_logs(jail, text, &backend, skip, journal)? {
                return Ok(Some(journal));
            }
        }
        commands.extend(logs);
        self.actions(&name, values.get("action").map(|(_, text)| text), &vars, &mut commands)?;
        commands.insert(0, (vec!["add".into(), name.as_str().into(), backend.as_str().into()], Some(backend.clone())));
        jail.options.insert("backend".to_owned(), backend);
        jail.commands = commands;
        Ok(None)
    }

    /// Refuses files with a parse error in them.
    fn usable(&self, files: &Merged, name: &Text) -> Result<(), Reject> {
        let Some((_, text)) = files.broken.first() else { return Ok(()) };
        let diagnostic = Diagnostic::error(name.span(), format!("`{}` has errors: {text}", name.as_str()))
            .width(name.as_str().chars().count());
        Err(Reject::Skip(text.clone(), Box::new(diagnostic)))
    }

    fn numbers(&mut self, name: &str, values: &IndexMap<String, (Kind, Text)>) {
        for (option, (kind, text)) in values {
            if *kind == Kind::Int && options::integer(text.as_str()).is_none() {
                let words = format!("`{}` is no whole number; {option} has its default", text.as_str());
                let width = text.as_str().chars().count();
                self.found.push(Diagnostic::error(text.span(), words).width(width).jail(name));
            }
        }
    }

    /// Warns of options that nobody reads but whose name is nearly that of one.
    fn mistyped(&mut self, files: &Merged, section: &str, known: &[&str]) {
        let own;
        let (known, referenced): (Vec<&str>, _) = if known.is_empty() {
            (OPTIONS.iter().map(|(name, _)| *name).chain(filter::OPTIONS).collect(), self.referenced)
        } else {
            own = super::references(files);
            (known.to_vec(), &own)
        };
        for (option, text) in files.sections.get(section).into_iter().flatten() {
            if known.contains(&option.as_str()) || referenced.contains(option) || option.contains('?') {
                continue;
            }
            if let Some(near) = nearest(option, known.iter().copied()) {
                let text = Diagnostic::warning(text.span(), format!("option `{option}` is not known and not used"));
                self.files.report(text.help(format!("is `{near}` meant?")));
            }
        }
    }

    fn logs(&mut self, name: &str, text: &Text) -> Vec<Located> {
        let mut logs = Vec::new();
        for line in text.lines() {
            let (pattern, place) = logpath::entry(line.as_str());
            let found = logpath::glob(pattern);
            for path in found.dangling {
                let text = format!("`{path}` is a link to a file that does not exist; leaving it out");
                self.found.push(Diagnostic::warning(line.span(), text).jail(name));
            }
            // the built-in jails name the places of several distributions
            let built_in = line.span().is_some_and(|span| span.file.starts_with(vendor::PLACE));
            if found.files.is_empty() && !pattern.is_empty() && !built_in {
                let text = format!("no file is there for `{pattern}`");
                let width = pattern.chars().count();
                self.found.push(Diagnostic::warning(line.span(), text).width(width).jail(name));
            }
            for path in found.files {
                let words = ["set", name, "addlogpath", &path, place].map(Value::from);
                logs.push((words.to_vec(), Some(line.clone())));
            }
        }
        logs
    }

    /// Decides what becomes of a jail whose logs are not there; the backend of one that reads the journal instead.
    fn no_logs(
        &mut self,
        jail: &Jail,
        text: &Text,
        backend: &Text,
        skip: bool,
        journal: bool,
    ) -> Result<Option<Text>, Reject> {
        if self.options.dump {
            return Ok(None);
        }
        if backend.as_str().starts_with("auto") && journal && !jail.filter.journalmatch.is_empty() {
            let words = "no log file is there; reading the journal";
            self.found.push(Diagnostic::warning(text.span(), words).jail(&jail.name));
            return Ok(Some(Text::new("systemd", text.span())));
        }
        let mut diagnostic = Diagnostic::error(text.span(), "no log file is there")
            .help("correct logpath, create the file, or set `skip_if_nologs = true`");
        if skip {
            diagnostic.severity = Severity::Warning;
        }
        let words = format!("Have not found any log file for {} jail", jail.name);
        Err(Reject::Skip(words, Box::new(diagnostic)))
    }

    fn actions(
        &mut self,
        name: &str,
        text: Option<&Text>,
        vars: &Vars,
        commands: &mut Vec<Located>,
    ) -> Result<(), Reject> {
        let tokens = text.map(options::split).unwrap_or_default();
        if tokens.is_empty() {
            let place = text.and_then(Text::span).or_else(|| self.merged.headers.get(name).cloned());
            self.found.push(Diagnostic::warning(place, "no action is set; bans have no effect").jail(name));
        }
        for token in tokens {
            let call = options::parse(&token).map_err(|error| {
                let quoted = repr::repr(&Value::from(token.as_str()));
                let diagnostic = Diagnostic::error(token.span_at(error.offset), format!("action: {error}"));
                let help = "write `action = name[option=value, option=\"value, with comma\"]`";
                Reject::Skip(format!("Invalid action definition {quoted}: {error}"), diagnostic.help(help).into())
            })?;
            let file = call.name.as_str();
            if file.ends_with(".py") {
                let directory = self.files.directory().to_string_lossy().into_owned();
                commands.push(action::python(&directory, file, name, call.arguments));
                continue;
            }
            let base = if file.starts_with('/') || file.starts_with("./") {
                file.to_owned()
            } else {
                format!("action.d/{file}")
            };
            let merged = self.files.read(&base).ok_or_else(|| {
                let quoted = repr::repr(&Value::from(file));
                let diagnostic = filter::missing(self.files, "action.d", "action", &call.name);
                Reject::Skip(format!("Unable to read action {quoted}"), Box::new(diagnostic))
            })?;
            self.usable(&merged, &call.name)?;
            self.mistyped(&merged, "Definition", &action::OPTIONS.map(|(option, _)| option));
            let conditional = self.options.compat == Compat::V1_1;
            let made = action::commands(&merged, file, name, call.arguments, vars, conditional);
            let made = made.map_err(|error| {
                let quoted = repr::repr(&Value::from(token.as_str()));
                Reject::Skip(format!("Error in action definition {quoted}: {error}"), Box::new(error.diagnostic()))
            })?;
            commands.extend(made);
        }
        Ok(())
    }
}
