//! What clients can ask for, and what the command stream is made of.
//!
//! Names, order and types of the answers are Fail2Ban's, because programs read them. One thing
//! is better on purpose: in a stream, a command that fails costs its own jail only.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use indexmap::IndexMap;

use crate::address::Id;
use crate::config::settings::Compat;
use crate::control::{Command, Failure, FailureKind, Reply, Value};
use crate::fail2ban::{self, database, repr, time};
use crate::firewall::Change;
use crate::jail::{self, Decision, Reason};
use crate::state::{self, State};

use super::causes;
use super::engine::Engine;
use super::jail::{Jail, Leaving};
use super::logging::{Level, Target, shown};
use super::setup::{Setup, number, text};
use super::socket::Request;

/// Characters of a command that a message about it shows.
const SHOWN: usize = 200;

fn failure(kind: FailureKind, text: impl Into<String>) -> Failure {
    Failure::new(kind, text)
}

fn invalid() -> Failure {
    failure(FailureKind::Exception, "Invalid command")
}

fn missing() -> Failure {
    failure(FailureKind::Index, "list index out of range")
}

fn list(texts: impl IntoIterator<Item = String>) -> Value {
    Value::List(texts.into_iter().map(Value::Text).collect())
}

fn pair(name: &str, value: Value) -> Value {
    Value::Tuple(vec![name.into(), value])
}

fn count(number: usize) -> Value {
    Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

/// The jails of a reload that stay, with the settings they are to have.
type Drafts = IndexMap<Arc<str>, Setup>;

impl Engine {
    /// A client's command. The answer goes out once its effects are settled.
    pub(super) fn request(&mut self, request: Request) {
        let Request { command, reply } = request;
        if let [word, seconds] = &command[..]
            && word.as_text() == Some("sleep")
        {
            let seconds = text(seconds).parse::<f64>().ok().filter(|seconds| (0.0..=60.0).contains(seconds));
            let wait = std::time::Duration::from_secs_f64(seconds.unwrap_or(0.0));
            self.runtime.spawn(async move {
                tokio::time::sleep(wait).await;
                let _ = reply.send(Ok(Value::None));
            });
            return;
        }
        let answer = self.command(&command);
        if let Err(failure) = &answer {
            let words: String = repr::repr(&Value::List(command)).chars().take(SHOWN).collect();
            let why = failure.arguments.iter().map(text).collect::<Vec<_>>().join(", ");
            let text = format!("Command {} has failed. Received {:?}: {}", shown(&words), failure.kind, shown(&why));
            self.effects.line(Level::ERROR, "transmitter", text);
        }
        self.effects.replies.push((reply, answer));
    }

    fn command(&mut self, words: &[Value]) -> Reply {
        let word = |index: usize| words.get(index).map(text);
        let Some(name) = word(0) else { return Err(invalid()) };
        let need = |index: usize| word(index).ok_or_else(missing);
        match name.as_str() {
            "ping" => Ok("pong".into()),
            "version" => Ok(self.options.compat.version().into()),
            "echo" => Ok(Value::List(words[1..].to_vec())),
            "server-status" => Ok("Server ready".into()),
            "status" => self.status(&words[1..]),
            "stats" | "statistic" | "statistics" if self.options.compat == Compat::V1_1 => Ok(self.statistics()),
            "banned" => Ok(self.banned(&words[1..])),
            "unban" => self.unban_everywhere(&words[1..]),
            "server-stream" => {
                let stream = commands(words.get(1).ok_or_else(missing)?);
                self.stream(&stream).map(|()| Value::None)
            }
            "reload" => {
                let scope = need(1)?;
                let options: Vec<String> =
                    words.get(2).and_then(Value::as_list).unwrap_or_default().iter().map(text).collect();
                match words.get(3) {
                    Some(stream) => self.reload(&scope, &options, &commands(stream)),
                    None => self.reload_by_itself(&scope, &options),
                }
            }
            "config-error" => {
                let text = need(1)?;
                self.effects.line(Level::ERROR, "server", shown(&text));
                Ok(Value::None)
            }
            "flushlogs" => self.flush_logs(),
            "stop" => match word(1).as_deref() {
                None => {
                    self.stopping = true;
                    Ok(Value::None)
                }
                Some("--all") => {
                    self.effects.line(Level::INFO, "server", "Stopping all jails".to_owned());
                    for name in self.jails.keys().cloned().collect::<Vec<_>>() {
                        self.remove_jail(&name, Leaving::Stop);
                    }
                    Ok(Value::None)
                }
                Some(name) => {
                    let name = self.known(name)?;
                    self.remove_jail(&name, Leaving::Stop);
                    Ok(Value::None)
                }
            },
            "add" => {
                let backend = word(2).unwrap_or_else(|| "auto".to_owned());
                self.add_jail(&need(1)?, &backend)
            }
            "start" => {
                let name = self.known(&need(1)?)?;
                if self.jails.get(&name).is_some_and(|jail| jail.setup.idle) {
                    let mut setup = self.jails[&name].setup.clone();
                    setup.idle = false;
                    self.adopt(&name, setup)?;
                }
                self.start_jails(&[name]).map(|()| Value::None)
            }
            "get" => self.get(&words[1..]),
            "set" => self.set(&words[1..]),
            "multi-set" => self.set(&words[1..]).map(|_| Value::Bool(true)),
            _ => Err(invalid()),
        }
    }

    fn known(&self, name: &str) -> Result<Arc<str>, Failure> {
        let known = self.jails.get_key_value(name).map(|(name, _)| name.clone());
        known.ok_or_else(|| failure(FailureKind::UnknownJail, name))
    }

    fn add_jail(&mut self, name: &str, backend: &str) -> Reply {
        const BACKENDS: [&str; 5] = ["auto", "pyinotify", "gamin", "polling", "systemd"];
        if self.jails.contains_key(name) {
            return Err(failure(FailureKind::DuplicateJail, name));
        }
        if name == "--all" {
            return Err(failure(FailureKind::Value, "Jail name '--all' is reserved"));
        }
        let kind = backend.split('[').next().unwrap_or_default().trim().to_ascii_lowercase();
        if !BACKENDS.contains(&kind.as_str()) {
            let text = format!("Unknown backend {backend}. Must be among {BACKENDS:?} or 'auto'");
            return Err(failure(FailureKind::Value, text));
        }
        let key: Arc<str> = name.into();
        self.last_tag += 1;
        self.tags.insert(self.last_tag, key.clone());
        self.jails.insert(key.clone(), Jail::new(self.last_tag, key, backend.to_owned()));
        self.effects.line(Level::INFO, "jail", format!("Creating new jail '{}'", shown(name)));
        let used = if kind == "polling" { "polling" } else { "pyinotify" };
        let by = if used == "polling" { "poller" } else { used };
        self.effects.line(Level::INFO, "jail", format!("Jail '{}' uses {by} {{}}", shown(name)));
        self.effects.line(Level::INFO, "jail", format!("Initiated '{used}' backend"));
        Ok(name.into())
    }

    fn remove_jail(&mut self, name: &Arc<str>, leaving: Leaving) {
        self.stop_jail(name, leaving);
        if let Some(jail) = self.jails.shift_remove(name) {
            self.tags.remove(&jail.tag);
        }
    }

    /// Carries out a list of commands; jails start last, all together.
    ///
    /// # Errors
    /// The first command that failed. Those of other jails were carried out.
    pub(super) fn stream(&mut self, stream: &[Vec<Value>]) -> Result<(), Failure> {
        self.many(stream, &mut None)
    }

    fn many(&mut self, stream: &[Vec<Value>], drafts: &mut Option<Drafts>) -> Result<(), Failure> {
        let mut starts: Vec<Arc<str>> = Vec::new();
        let mut broken: HashMap<String, ()> = HashMap::new();
        let mut first = Ok(());
        for words in stream {
            let name = words.get(1).map(text).unwrap_or_default();
            let done = match words.first().and_then(Value::as_text) {
                Some("start") if broken.contains_key(&name) => {
                    drafts.iter_mut().for_each(|drafts| _ = drafts.shift_remove(&*name));
                    continue;
                }
                Some("start") => match drafts.as_mut().and_then(|drafts| drafts.shift_remove(&*name)) {
                    Some(setup) => self.known(&name).and_then(|name| {
                        self.adopt(&name, setup)?;
                        self.effects.line(Level::INFO, "jail", format!("Jail '{name}' reloaded"));
                        Ok(())
                    }),
                    None => self.known(&name).map(|name| starts.push(name)),
                },
                Some("add") if drafts.is_some() && self.jails.contains_key(&*name) => {
                    self.add_again(&name, words, drafts)
                }
                Some("set" | "multi-set") if words.len() > 2 => {
                    match drafts.as_mut().and_then(|drafts| drafts.get_mut(&*name)) {
                        Some(setup) => setup.set(&words[2..]).map(|(value, _)| self.told(&words[2..], &value)),
                        // compiled when it starts, not with each regex
                        None => match self.jails.get_mut(&*name).filter(|jail| !jail.started) {
                            Some(jail) => jail.setup.set(&words[2..]).map(|(value, _)| self.told(&words[2..], &value)),
                            None => self.set(&words[1..]).map(|_| ()),
                        },
                    }
                }
                _ => self.command(words).map(|_| ()),
            };
            if let Err(failure) = done {
                let why = failure.arguments.first().map(text).unwrap_or_default();
                let words: String = repr::repr(&Value::List(words.clone())).chars().take(SHOWN).collect();
                let of_jail = self.jails.contains_key(&*name);
                let rest = if of_jail { format!("; jail '{}' is left as it was", shown(&name)) } else { String::new() };
                let line = format!("{} has failed: {}{rest}", shown(&words), shown(&why));
                self.effects.line(Level::ERROR, "transmitter", line);
                if of_jail {
                    broken.insert(name, ());
                }
                first = first.and(Err(failure));
            }
        }
        let started = self.start_jails(&starts);
        first.and(started)
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
    fn reload(&mut self, scope: &str, options: &[String], stream: &[Vec<Value>]) -> Reply {
        let all = scope == "--all";
        let has = |option: &str| options.iter().any(|given| given == option);
        if !all && !has("--if-exists") && !stream.iter().any(|words| words.get(1).map(text).as_deref() == Some(scope)) {
            return Err(failure(FailureKind::UnknownJail, scope));
        }
        let what = if all { "all jails".to_owned() } else { format!("jail {}", shown(scope)) };
        self.effects.line(Level::INFO, "server", format!("Reload {what}"));
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
            } else if let Some(queue) = self.jails.get(&name).and_then(|jail| jail.queue.clone()) {
                self.effects.actions.push((queue, crate::action::queue::Event::Reload));
            }
        }
        self.effects.line(Level::INFO, "server", "Reload finished.".to_owned());
        done.map(|()| "OK".into())
    }

    /// Reads the configuration again and makes all jails agree with it.
    pub(super) fn reload_from_files(&mut self) {
        // what is wrong with single jails has been logged
        if let Err(failure) = self.reload_by_itself("--all", &[])
            && failure.kind == FailureKind::Runtime
        {
            let why = failure.arguments.first().map(text).unwrap_or_default();
            self.effects.line(Level::ERROR, "server", format!("Reload: {}", shown(&why)));
        }
    }

    /// A reload for which the server reads the files.
    fn reload_by_itself(&mut self, scope: &str, options: &[String]) -> Reply {
        let jail = (scope != "--all").then(|| scope.to_owned());
        let how = fail2ban::Options { jail, ..self.options.reading.clone() };
        let configuration = fail2ban::read(&self.options.directory, &how);
        if configuration.is_fatal() || configuration.lost_all_jails() {
            let why = configuration.diagnostics.first().map_or_else(String::new, |first| first.text.clone());
            return Err(failure(
                FailureKind::Runtime,
                format!("nothing changed: the configuration is unusable: {why}"),
            ));
        }
        self.heed(&configuration);
        let stream: Vec<Vec<Value>> = configuration.stream.into_iter().map(|command: Command| command.words).collect();
        self.reload(scope, options, &stream)
    }

    /// Takes from a configuration that we read ourselves what the stream does not say.
    pub(super) fn heed(&mut self, configuration: &fail2ban::Configuration) {
        for found in &configuration.diagnostics {
            let place = found.span.as_ref().map_or_else(String::new, |span| format!("{span}: "));
            let level = match found.severity {
                fail2ban::diagnostic::Severity::Warning => Level::WARNING,
                _ => Level::ERROR,
            };
            self.effects.line(level, "configreader", shown(&format!("{place}{}", found.text)));
        }
        for jail in &configuration.jails {
            self.patterns.insert(jail.name.clone(), jail.globs.clone());
        }
    }

    pub(super) fn flush_logs(&mut self) -> Reply {
        match self.logger.reopen() {
            Ok(true) => {
                let text = format!("rollover performed on {}", self.general.logtarget);
                self.effects.line(Level::INFO, "server", text);
                Ok("rolled over".into())
            }
            Ok(false) => {
                let text = format!("flush performed on {}", self.general.logtarget);
                self.effects.line(Level::INFO, "server", text);
                Ok("flushed".into())
            }
            Err(error) => {
                let text = causes(&error);
                self.effects.line(Level::ERROR, "server", text.clone());
                Err(failure(FailureKind::Exception, text))
            }
        }
    }

    fn status(&self, words: &[Value]) -> Reply {
        let flavor = words.get(1).map(text);
        if words.len() > 2 {
            return Err(failure(FailureKind::Exception, "Invalid command (no status)"));
        }
        let v11 = self.options.compat == Compat::V1_1;
        match words.first().map(text) {
            None => Ok(Value::List(self.jail_list())),
            Some(all) if all == "--all" && v11 => {
                if flavor.as_deref() == Some("stats") {
                    return Ok(self.statistics());
                }
                let mut status = self.jail_list();
                let jails = self.sorted().into_iter();
                let jails = jails.map(|name| (Value::from(&*name), self.jail_status(&name, flavor.as_deref())));
                status.push(Value::Map(jails.collect()));
                Ok(Value::List(status))
            }
            Some(name) => {
                let name = self.known(&name)?;
                if flavor.as_deref() == Some("stats") && v11 {
                    return Ok(self.jail_statistics(&name));
                }
                Ok(self.jail_status(&name, flavor.as_deref()))
            }
        }
    }

    fn sorted(&self) -> Vec<Arc<str>> {
        let mut names: Vec<Arc<str>> = self.jails.keys().cloned().collect();
        names.sort();
        names
    }

    fn jail_list(&self) -> Vec<Value> {
        let names = self.sorted();
        vec![
            pair("Number of jail", count(names.len())),
            pair("Jail list", Value::Text(names.iter().map(|name| &**name).collect::<Vec<_>>().join(", "))),
        ]
    }

    fn jail_status(&self, name: &str, flavor: Option<&str>) -> Value {
        let Some(jail) = self.jails.get(name) else { return Value::None };
        let failures = &jail.counts.failures;
        let mut filter = vec![
            pair("Currently failed", count(failures.len())),
            pair("Total failed", Value::Int(i64::try_from(failures.total()).unwrap_or(i64::MAX))),
        ];
        if jail.setup.backend.starts_with("systemd") {
            let groups: Vec<String> = jail.setup.journalmatch.iter().map(|group| group.join(" ")).collect();
            filter.push(pair("Journal matches", list([groups.join(" + ")])));
        } else {
            filter.push(pair("File list", list(jail.files())));
        }
        if jail.unresolved > 0 {
            filter.push(pair("Undecided lines", Value::Int(i64::try_from(jail.unresolved).unwrap_or(i64::MAX))));
        }
        let bans = jail.counts.bans();
        let mut actions = vec![
            pair("Currently banned", count(bans.len())),
            pair("Total banned", Value::Int(i64::try_from(bans.total()).unwrap_or(i64::MAX))),
        ];
        if flavor != Some("short") {
            actions.push(pair("Banned IP list", list(bans.iter().map(|ban| ban.id.to_string()))));
        }
        Value::List(vec![pair("Filter", Value::List(filter)), pair("Actions", Value::List(actions))])
    }

    fn jail_statistics(&self, name: &str) -> Value {
        let Some(jail) = self.jails.get(name) else { return Value::None };
        let numbers =
            |now: usize, all: u64| Value::Tuple(vec![count(now), Value::Int(i64::try_from(all).unwrap_or(i64::MAX))]);
        let used = if jail.setup.backend.starts_with("polling") { "polling" } else { "pyinotify" };
        Value::List(vec![
            used.into(),
            numbers(jail.counts.failures.len(), jail.counts.failures.total()),
            numbers(jail.counts.bans().len(), jail.counts.bans().total()),
        ])
    }

    fn statistics(&self) -> Value {
        Value::Map(self.sorted().into_iter().map(|name| ((&*name).into(), self.jail_statistics(&name))).collect())
    }

    fn banned(&self, ids: &[Value]) -> Value {
        if ids.is_empty() {
            let jails = self.jails.iter().map(|(name, jail)| {
                Value::Map(vec![((&**name).into(), list(jail.counts.bans().iter().map(|ban| ban.id.to_string())))])
            });
            return Value::List(jails.collect());
        }
        let jails_of = |id: &Value| {
            let id = Id::parse(&text(id));
            let banning = self.jails.iter().filter(|(_, jail)| jail.counts.bans().get(&id).is_some());
            list(banning.map(|(name, _)| name.to_string()))
        };
        Value::List(ids.iter().map(jails_of).collect())
    }

    /// `unban ID…` and `unban --all`.
    fn unban_everywhere(&mut self, words: &[Value]) -> Reply {
        let names: Vec<Arc<str>> = self.jails.keys().cloned().collect();
        if words.is_empty() {
            return Err(invalid());
        }
        if words.len() == 1 && text(&words[0]) == "--all" {
            return Ok(count(names.iter().map(|name| self.unban_all(name)).sum()));
        }
        let mut done = 0;
        for name in names {
            for id in words {
                done += self.unban_id(&name, &text(id));
            }
        }
        Ok(count(done))
    }

    /// Ends all bans of a jail and forgets its history; how many there were.
    fn unban_all(&mut self, name: &Arc<str>) -> usize {
        let Some(jail) = self.jails.get_mut(name) else { return 0 };
        let decisions = jail.counts.flush(Reason::Asked);
        let places: Vec<Change> = jail.places().map(|place| Change::Flush(place.clone())).collect();
        self.effects.kernel.extend(places);
        for decision in &decisions {
            if let Decision::Unban { ban, .. } = decision {
                self.effects.unstored.insert(ban.id.to_string().into());
            }
        }
        self.effects.stored.push(state::Change::DeleteAll(name.clone()));
        self.effects.urgent = true;
        let number = decisions.len();
        self.carry_out(name, decisions, super::clock().now);
        number
    }

    /// Ends a ban, or those inside of a network, and forgets its history; how many there were.
    fn unban_id(&mut self, name: &Arc<str>, id: &str) -> usize {
        let Some(jail) = self.jails.get_mut(name) else { return 0 };
        let id = Id::parse(id);
        let decisions = jail.counts.unban(&id);
        let mut gone: Vec<Id> = decisions
            .iter()
            .filter_map(|decision| match decision {
                Decision::Unban { ban, .. } => Some(ban.id.clone()),
                _ => None,
            })
            .collect();
        let number = gone.len();
        if !gone.contains(&id) {
            gone.push(id);
        }
        for id in gone {
            let id: Arc<str> = id.to_string().into();
            self.effects.store(id.clone(), state::Change::Delete { jail: name.clone(), id });
        }
        self.carry_out(name, decisions, super::clock().now);
        number
    }

    fn get(&self, words: &[Value]) -> Reply {
        let name = words.first().map(text).ok_or_else(missing)?;
        let general = &self.general;
        let without_database = self.state.is_none();
        let stored = |value: Value| if without_database { Value::None } else { value };
        Ok(match name.as_str() {
            "loglevel" => general.loglevel.as_str().into(),
            "logtarget" => general.logtarget.as_str().into(),
            "syslogsocket" => general.syslogsocket.as_str().into(),
            "thread" => Value::Map(vec![("stacksize".into(), Value::Int(general.stacksize))]),
            "dbfile" => {
                general.dbfile.as_ref().map_or(Value::None, |path| stored(path.to_string_lossy().into_owned().into()))
            }
            "dbmaxmatches" => stored(Value::Int(general.dbmaxmatches)),
            "dbpurgeage" => stored(number(general.dbpurgeage)),
            _ => {
                let name = self.known(&name)?;
                return self.get_of_jail(&self.jails[&name], &words[1..]);
            }
        })
    }

    fn get_of_jail(&self, jail: &Jail, words: &[Value]) -> Reply {
        let bans = jail.counts.bans();
        let bantime = jail.counts.limits().bantime;
        let option = words.first().map(text).ok_or_else(missing)?;
        Ok(match option.as_str() {
            "logpath" => list(jail.files()),
            "banned" => match &words[1..] {
                [] => list(bans.iter().map(|ban| ban.id.to_string())),
                ids => {
                    let mut found: Vec<Value> =
                        ids.iter().map(|id| Value::Int(bans.get(&Id::parse(&text(id))).is_some().into())).collect();
                    if found.len() == 1 { found.remove(0) } else { Value::List(found) }
                }
            },
            "banip" if words.get(1).map(text).as_deref() == Some("--with-time") => {
                list(bans.by_end().into_iter().map(|ban| {
                    let length = ban.bantime(bantime);
                    let end = ban
                        .end(bantime)
                        .map_or_else(|| "9999-12-31 23:59:59".to_owned(), |end| self.logger.day_time(end));
                    let (id, start) = (ban.id.to_string(), self.logger.day_time(ban.time));
                    format!("{id} \t{start} + {} = {end}", length as i64)
                }))
            }
            "banip" => list(bans.by_end().into_iter().map(|ban| ban.id.to_string())),
            _ => return jail.setup.get(words),
        })
    }

    fn set(&mut self, words: &[Value]) -> Reply {
        let name = words.first().map(text).ok_or_else(missing)?;
        if let Some(answer) = self.set_general(&name, words.get(1)) {
            return answer;
        }
        let name = self.known(&name)?;
        let option = words.get(1).map(text).ok_or_else(missing)?;
        let values = &words[2..];
        match option.as_str() {
            "banip" => {
                let mut done = 0;
                for id in values {
                    done += self.ban_by_hand(&name, &text(id))?;
                }
                Ok(count(done))
            }
            "unbanip" => {
                let report = values.first().map(text).as_deref() == Some("--report-absent");
                let mut absent = Vec::new();
                let mut done = 0;
                for id in values.iter().skip(usize::from(report)) {
                    let number = self.unban_id(&name, &text(id));
                    done += number;
                    if number == 0 {
                        absent.push(Value::Text(text(id)));
                    }
                }
                if report && !absent.is_empty() {
                    let text = format!("not banned: {}", repr::repr(&Value::List(absent)));
                    return Err(failure(FailureKind::Value, text));
                }
                Ok(count(done))
            }
            "attempt" => {
                let id = Id::parse(&values.first().map(text).ok_or_else(missing)?);
                let lines: Vec<String> = values[1..].iter().map(text).collect();
                let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
                let now = super::clock().now;
                let past = self.past(&name, &id);
                let random = &mut self.random;
                let mut moment = jail::Moment { now, random: &mut || random.draw() };
                let Some(jail) = self.jails.get_mut(&name) else { return Err(invalid()) };
                let decisions = jail.counts.attempt(jail::Ticket::manual(id, &lines, now), &past, &mut moment);
                self.carry_out(&name, decisions, now);
                self.store_soon();
                Ok(Value::Int(1))
            }
            "addlogpath" => {
                let path = PathBuf::from(values.first().map(text).ok_or_else(missing)?);
                if let Err(error) = std::fs::metadata(&path) {
                    let errno = i64::from(error.raw_os_error().unwrap_or(2));
                    let path = path.to_string_lossy().into_owned();
                    let arguments = vec![errno.into(), "No such file or directory".into(), path.into()];
                    return Err(Failure { kind: FailureKind::FileNotFound, arguments });
                }
                self.change(&name, &words[1..])
            }
            _ => self.change(&name, &words[1..]),
        }
    }

    /// Changes a setting of a jail, and what runs because of it.
    fn change(&mut self, name: &Arc<str>, words: &[Value]) -> Reply {
        let Some(jail) = self.jails.get(name) else { return Err(failure(FailureKind::UnknownJail, &**name)) };
        let mut setup = jail.setup.clone();
        let (value, _) = setup.set(words)?;
        self.adopt(name, setup)?;
        self.told(words, &value);
        Ok(value)
    }

    /// Logs a new setting, if it is one that is logged.
    fn told(&mut self, words: &[Value], value: &Value) {
        let value = shown(&text(value));
        let option = words.first().map(text).unwrap_or_default();
        let (part, line) = match option.as_str() {
            "maxretry" => ("filter", format!("  maxRetry: {value}")),
            "findtime" => ("filter", format!("  findtime: {value}")),
            "maxlines" => ("filter", format!("  maxLines: {value}")),
            "logencoding" => ("filter", format!("  encoding: {value}")),
            "bantime" => ("actions", format!("  banTime: {value}")),
            other => match other.strip_prefix("bantime.") {
                Some(name) => ("jail", format!("Set banTime.{name} = {value}")),
                None => return,
            },
        };
        self.effects.line(Level::INFO, part, line);
    }

    fn ban_by_hand(&mut self, name: &Arc<str>, id: &str) -> Result<usize, Failure> {
        let id = Id::parse(id);
        let now = super::clock().now;
        let past = self.past(name, &id);
        let random = &mut self.random;
        let mut moment = jail::Moment { now, random: &mut || random.draw() };
        let Some(jail) = self.jails.get_mut(name) else { return Ok(0) };
        if !jail.started {
            return Err(failure(FailureKind::Runtime, format!("jail '{name}' does not run; start it first")));
        }
        let decisions = jail.counts.ban(id, &past, &mut moment);
        let number = decisions.iter().filter(|decision| matches!(decision, Decision::Ban { .. })).count();
        self.carry_out(name, decisions, now);
        Ok(number)
    }

    /// A setting of the whole server; `None` if it is none.
    fn set_general(&mut self, name: &str, value: Option<&Value>) -> Option<Reply> {
        if !matches!(
            name,
            "loglevel"
                | "logtarget"
                | "syslogsocket"
                | "allowipv6"
                | "thread"
                | "dbfile"
                | "dbmaxmatches"
                | "dbpurgeage"
        ) {
            return None;
        }
        let Some(value) = value else { return Some(Err(missing())) };
        let given = text(value);
        Some(match name {
            "loglevel" => match Level::parse(&given) {
                Some(level) => {
                    self.logger.set_level(level);
                    self.general.loglevel = given.to_ascii_uppercase();
                    Ok(self.general.loglevel.as_str().into())
                }
                None => Err(failure(FailureKind::Value, format!("Invalid log level '{}'", given.to_ascii_uppercase()))),
            },
            "logtarget" => self.set_logtarget(&given),
            "syslogsocket" => {
                self.general.syslogsocket.clone_from(&given);
                Ok(given.into())
            }
            "thread" => {
                if let Value::Map(pairs) = value
                    && let Some((_, Value::Int(size))) =
                        pairs.iter().find(|(key, _)| key.as_text() == Some("stacksize"))
                {
                    self.general.stacksize = *size;
                }
                Ok(Value::None)
            }
            "dbfile" => self.set_database(&given),
            "dbmaxmatches" => match given.trim().parse() {
                Ok(number) => {
                    self.general.dbmaxmatches = number;
                    Ok(Value::Int(number))
                }
                Err(_) => {
                    let text = format!("invalid literal for int() with base 10: '{given}'");
                    Err(failure(FailureKind::Value, text))
                }
            },
            "dbpurgeage" => match time::seconds(&given) {
                Ok(seconds) => {
                    self.general.dbpurgeage = seconds.as_f64();
                    Ok(number(self.general.dbpurgeage))
                }
                Err(error) => Err(failure(FailureKind::Value, error.to_string())),
            },
            _ => Ok(value.clone()),
        })
    }

    fn set_logtarget(&mut self, target: &str) -> Reply {
        if self.general.logtarget == target {
            return Ok(target.into());
        }
        // what was said before belongs into the old one
        self.settle();
        if let Err(error) = self.logger.set_target(&Target::parse(target, &self.general.syslogsocket)) {
            self.effects.line(
                Level::ERROR,
                "server",
                format!("Unable to log to '{}': {}", shown(target), causes(&error)),
            );
            return Err(failure(FailureKind::Exception, "Failed to change log target"));
        }
        target.clone_into(&mut self.general.logtarget);
        let text =
            format!("Changed logging target to {} for Fail2ban v{}", shown(target), self.options.compat.version());
        self.effects.line(Level::INFO, "server", text);
        Ok(target.into())
    }

    fn set_database(&mut self, path: &str) -> Reply {
        let same = self.general.dbfile.as_ref().map(|path| path.to_string_lossy().into_owned());
        if same.as_deref() == Some(path) {
            return Ok(path.into());
        }
        if !self.jails.is_empty() {
            return Err(failure(FailureKind::Runtime, "Cannot change database when there are jails present"));
        }
        if let Some(state) = self.state.take() {
            // what was committed is safe in any case
            let _ = state.close();
        }
        self.general.dbfile = None;
        if path.eq_ignore_ascii_case("none") || self.options.dry_run {
            return Ok(Value::None);
        }
        self.general.dbfile = Some(PathBuf::from(path));
        let file = (path != ":memory:").then(|| PathBuf::from(path));
        let schema = state::Schema {
            version: database::VERSION,
            create: database::CREATE,
            read_version: database::READ_VERSION,
        };
        match State::open(file.as_deref(), schema, super::clock().now) {
            Ok((mut state, opened)) => {
                let text = format!("Connected to fail2ban persistent database '{}'", shown(path));
                self.effects.line(Level::INFO, "database", text);
                self.effects.lines.extend(super::effects::opened(&opened));
                if let Err(error) = state.commit(&[state::Change::NoJails]) {
                    self.effects.line(Level::ERROR, "database", causes(&error));
                }
                self.state = Some(state);
                Ok(path.into())
            }
            Err(error) => {
                let text = format!("{}; bans are in force but will not survive a restart", causes(&error));
                self.effects.line(Level::ERROR, "database", text.clone());
                Err(failure(FailureKind::Exception, text))
            }
        }
    }
}

/// The commands of a stream.
fn commands(stream: &Value) -> Vec<Vec<Value>> {
    stream.as_list().unwrap_or_default().iter().filter_map(|command| Some(command.as_list()?.to_vec())).collect()
}
