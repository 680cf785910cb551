//! Streams of commands: the start, and reloads.

use std::collections::HashSet;
use std::sync::Arc;

use indexmap::IndexMap;

use crate::control::{Command, Failure, FailureKind, Reply, Value};
use crate::fail2ban::diagnostic::Diagnostic;
use crate::fail2ban::{self, repr};
use crate::server::engine::Engine;
use crate::server::jail::Leaving;
use crate::server::logging::{Level, shown};
use crate::server::settings;
use crate::server::setup::{Setup, text};

use super::{SHOWN, failure};

/// The jails of a reload that stay, with the settings they are to have.
type Drafts = IndexMap<Arc<str>, Setup>;

impl Engine {
    /// Carries out a list of commands; jails start last, all together.
    ///
    /// # Errors
    /// The first command that failed. Those of other jails were carried out.
    pub(in crate::server) fn stream(&mut self, stream: &[Vec<Value>]) -> Result<(), Failure> {
        self.many(stream, &mut None)
    }

    fn many(&mut self, stream: &[Vec<Value>], drafts: &mut Option<Drafts>) -> Result<(), Failure> {
        let mut starts: Vec<Arc<str>> = Vec::new();
        let mut broken: HashSet<String> = HashSet::new();
        let mut first = Ok(());
        for words in stream {
            let name = words.get(1).map(text).unwrap_or_default();
            let done = match words.first().and_then(Value::as_text) {
                Some("start") if broken.contains(&name) => {
                    drafts.iter_mut().for_each(|drafts| _ = drafts.shift_remove(&*name));
                    continue;
                }
                Some("start") => match drafts.as_mut().and_then(|drafts| drafts.shift_remove(&*name)) {
                    Some(setup) => self.known(&name).and_then(|name| {
                        self.adopt(&name, setup)?;
                        self.effects.line(Level::INFO, "server", format!("Jail '{name}' reloaded"));
                        Ok(())
                    }),
                    None => self.known(&name).map(|name| starts.push(name)),
                },
                Some("add") if drafts.is_some() && self.jails.contains_key(&*name) => {
                    self.add_again(&name, words, drafts)
                }
                Some("set" | "multi-set") if words.len() > 2 => self.set_in_stream(&words[1..], drafts),
                _ => self.command(words).map(|_| ()),
            };
            if let Err(failure) = done {
                let why = failure.arguments.first().map(text).unwrap_or_default();
                let shortened: String = repr::repr(&Value::List(words.clone())).chars().take(SHOWN).collect();
                let of_jail = self.jails.contains_key(&*name);
                let runs = self.jails.get(&*name).is_some_and(|jail| jail.started);
                // without one of its actions a jail still does what it can
                let action = of_jail && words.get(2).and_then(Value::as_text) == Some("addaction");
                let rest = match (of_jail, runs) {
                    (true, _) if action => format!("; jail '{}' goes without it", shown(&name)),
                    (true, true) => format!("; jail '{}' is left as it was", shown(&name)),
                    (true, false) => format!("; jail '{}' is not started", shown(&name)),
                    (false, _) => String::new(),
                };
                let line = format!("{} has failed: {}{rest}", shown(&shortened), shown(&why));
                self.effects.line(Level::ERROR, "transmitter", line);
                if of_jail && !action {
                    broken.insert(name);
                }
                first = first.and(Err(failure));
            }
        }
        let started = self.start_jails(&starts);
        first.and(started)
    }

    /// `set` in a stream. What is about a jail that does not run, or that a reload changes, is only noted: it is
    /// compiled when the jail starts, not with each regex.
    fn set_in_stream(&mut self, words: &[Value], drafts: &mut Option<Drafts>) -> Result<(), Failure> {
        let name = text(&words[0]);
        let draft = drafts.as_mut().and_then(|drafts| drafts.get_mut(&*name));
        let waiting = self.jails.get_mut(&*name).filter(|jail| !jail.started).map(|jail| &mut jail.setup);
        let Some(setup) = draft.or(waiting) else { return self.set(words).map(|_| ()) };
        let logs = setup.logs.len();
        let (_, line) = setup.set(&words[1..])?;
        let added = setup.logs.get(logs).cloned();
        self.effects.lines.extend(line);
        self.announce(&name, added);
        Ok(())
    }

    /// `add` of a jail that is there, in a reload.
    fn add_again(&mut self, name: &str, words: &[Value], drafts: &mut Option<Drafts>) -> Result<(), Failure> {
        let backend = words.get(2).map_or_else(|| "auto".to_owned(), text);
        let name = self.known(name)?;
        let old = &self.jails[&name].setup.backend;
        if *old == backend {
            self.effects.line(Level::INFO, "server", format!("Reload jail '{name}'"));
            let mut setup = self.jails[&name].setup.clone();
            setup.forget_lists();
            drafts.get_or_insert_default().insert(name, setup);
            return Ok(());
        }
        let text = format!("Restart jail '{name}' (reason: '{old}' != '{backend}')");
        self.effects.line(Level::INFO, "server", text);
        self.remove_jail(&name, Leaving::Restart);
        self.settle();
        self.add_jail(&name, &backend).map(|_| ())
    }

    /// Makes the jails of a scope (one name, or `--all`) agree with a stream.
    pub(in crate::server) fn reload(&mut self, scope: &str, options: &[String], stream: &[Vec<Value>]) -> Reply {
        let all = scope == "--all";
        let has = |option: &str| options.iter().any(|given| given == option);
        if !all && !has("--if-exists") && !stream.iter().any(|words| words.get(1).map(text).as_deref() == Some(scope)) {
            return Err(failure(FailureKind::UnknownJail, scope));
        }
        let what = if all { "all jails".to_owned() } else { format!("jail {}", shown(scope)) };
        self.effects.line(Level::INFO, "server", format!("Reload {what}"));
        self.reread_settings();
        let scope: Vec<Arc<str>> = self.jails.keys().filter(|name| all || ***name == *scope).cloned().collect();
        if has("--unban") {
            for name in &scope {
                self.unban_all(name);
            }
        }
        if has("--restart") {
            for name in &scope {
                self.remove_jail(name, Leaving::Restart);
            }
            self.settle();
        }
        let named: Vec<String> = stream
            .iter()
            .filter(|words| words.first().and_then(Value::as_text) == Some("add"))
            .filter_map(|words| words.get(1).map(text))
            .collect();
        let mut drafts = Some(Drafts::new());
        let done = self.many(stream, &mut drafts);
        for name in scope {
            if !named.iter().any(|other| **other == *name) {
                self.remove_jail(&name, Leaving::Stop);
            } else {
                self.act(&name, crate::action::queue::Event::Reload);
            }
        }
        self.effects.line(Level::INFO, "server", "Reload finished.".to_owned());
        done.map(|()| "OK".into())
    }

    /// Reads the configuration again and makes all jails agree with it.
    pub(in crate::server) fn reload_from_files(&mut self) {
        // what is wrong with single jails has been logged
        if let Err(failure) = self.reload_by_itself("--all", &[])
            && failure.kind == FailureKind::Runtime
        {
            let why = failure.arguments.first().map(text).unwrap_or_default();
            self.effects.line(Level::ERROR, "server", format!("Reload: {}", shown(&why)));
        }
    }

    /// A reload for which the server reads the files.
    pub(in crate::server) fn reload_by_itself(&mut self, scope: &str, options: &[String]) -> Reply {
        let jail = (scope != "--all").then(|| scope.to_owned());
        let how = fail2ban::Options { jail, ..self.options.reading.clone() };
        let configuration = fail2ban::read(&self.options.directory, &how);
        if configuration.is_fatal() || configuration.lost_all_jails() {
            let worst = configuration.diagnostics.iter().min_by_key(|found| std::cmp::Reverse(found.severity));
            let why = worst.map_or_else(String::new, described);
            return Err(failure(
                FailureKind::Runtime,
                format!("nothing changed: the configuration is unusable: {why}"),
            ));
        }
        self.heed(&configuration);
        let stream: Vec<Vec<Value>> = configuration.stream.into_iter().map(|command: Command| command.words).collect();
        self.reload(scope, options, &stream)
    }

    /// Logs what is wrong in files.
    fn report(&mut self, diagnostics: &[Diagnostic]) {
        for found in diagnostics {
            let level = match found.severity {
                fail2ban::diagnostic::Severity::Warning => Level::WARNING,
                _ => Level::ERROR,
            };
            self.effects.line(level, "configreader", shown(&described(found)));
        }
    }

    /// Takes from sekimori.toml what may change while the server runs: what is done about undecided lines.
    fn reread_settings(&mut self) {
        let (settings, mut found) = settings::read(&self.options.directory);
        if found.is_empty() {
            found = settings::strangers(&settings, &self.options.directory, &self.options.reading);
            self.options.undecided = settings.undecided;
            self.options.undecided_of = settings.undecided_of;
        }
        self.report(&found);
    }

    /// Takes from a configuration that we read ourselves what the stream does not say.
    pub(in crate::server) fn heed(&mut self, configuration: &fail2ban::Configuration) {
        self.report(&configuration.diagnostics);
        for jail in &configuration.jails {
            self.patterns.insert(jail.name.clone(), jail.globs.clone());
        }
    }
}

/// A finding in one line: its place, what is wrong, what to do.
fn described(found: &Diagnostic) -> String {
    let place = found.span.as_ref().map_or_else(String::new, |span| format!("{span}: "));
    let help = found.help.as_ref().map_or_else(String::new, |help| format!("; {help}"));
    format!("{place}{}{help}", found.text)
}
