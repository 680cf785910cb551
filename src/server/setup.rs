//! What a jail has been told, by the files or over the socket, and what it answers when asked.
//!
//! These are the raw settings. What follows from them (a compiled filter, followed logs,
//! running actions) is made in `engine` when the jail starts, and made anew when they change.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::action::{Properties, Work, mail};
use crate::address::{AddressSet, Id};
use crate::config::journal::{self, Journal, Matches};
use crate::config::{Filter, Increment, Limits, UseDns};
use crate::control::{Failure, FailureKind, Reply, Value};
use crate::fail2ban::arithmetic::Number;
use crate::fail2ban::repr::repr;
use crate::fail2ban::{date, time};

use super::logging::{Level, shown};

/// A log of a jail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPath {
    /// The file.
    pub path: PathBuf,
    /// Whether reading begins at its end.
    pub tail: bool,
}

/// Rules about whom not to count.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ignore {
    /// Networks, names and other texts of `ignoreip` in their order.
    pub list: Vec<String>,
    /// Those of them that are addresses or networks.
    pub set: AddressSet,
    /// Whether the machine's own addresses are ignored.
    pub own: bool,
    /// Command to ask; empty asks none.
    pub command: Option<String>,
    /// `ignorecache` as it was given.
    pub cache: Option<(String, i64, f64)>,
}

/// All settings of a jail.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The jail's name.
    pub name: Arc<str>,
    /// Option `backend`.
    pub backend: String,
    /// Which journal that means, if any.
    pub journal: Option<Journal>,
    /// The filter's settings.
    pub filter: Filter,
    /// When and how long to ban.
    pub limits: Limits,
    /// Whether numbers were given with a fraction; Fail2Ban shows them so.
    pub increment: Increment,
    /// Whom not to count.
    pub ignore: Ignore,
    /// The logs.
    pub logs: Vec<LogPath>,
    /// `journalmatch`, one group a list.
    pub journalmatch: Matches,
    /// Actions in their order.
    pub actions: Vec<(String, Work)>,
    /// Options `bantime.*` as they were given, by what follows the dot; also those that mean nothing.
    given: BTreeMap<String, Value>,
    /// Whether nothing is processed for now.
    pub idle: bool,
    /// Another number after each change, of which no two are alike in this process.
    pub edition: u64,
}

/// A line for the log: its level, the part that says it, the text.
pub(super) type Line = (Level, &'static str, String);

/// Seconds that a command of an action may take, unless `timeout` says otherwise.
const TIMEOUT: i64 = 60;
/// Names behind `bantime.` that are remembered.
const MAX_GIVEN: usize = 32;
/// Commands that an action has, if only empty ones.
const COMMANDS: [&str; 9] = [
    "actionban",
    "actioncheck",
    "actionflush",
    "actionreban",
    "actionreload",
    "actionrepair",
    "actionstart",
    "actionstop",
    "actionunban",
];
/// Further names that programs find in the list of properties.
const OTHER_PROPERTIES: [&str; 4] = ["ESCAPE_CRE", "ESCAPE_VN_CRE", "banEpoch", "timeout"];
/// Names that programs find in the list of methods; commands are what they are there for.
const METHODS: [&str; 15] = [
    "ban",
    "clearAllParams",
    "consistencyCheck",
    "escapeTag",
    "executeCmd",
    "flush",
    "invalidateBanEpoch",
    "prolong",
    "reban",
    "reload",
    "replaceDynamicTags",
    "replaceTag",
    "start",
    "stop",
    "unban",
];

/// A value of the wrong form.
fn bad(text: impl Into<String>) -> Failure {
    Failure::new(FailureKind::Value, text)
}

fn invalid() -> Failure {
    Failure::new(FailureKind::Exception, "Invalid command")
}

/// The text of a word; numbers and truth values as people write them.
pub fn text(value: &Value) -> String {
    match value {
        Value::Text(text) => text.clone(),
        Value::Int(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Bool(truth) => if *truth { "True" } else { "False" }.to_owned(),
        Value::None => "None".to_owned(),
        other => repr(other),
    }
}

fn truth(value: &Value) -> bool {
    match value {
        Value::Bool(truth) => *truth,
        Value::Int(number) => *number != 0,
        other => matches!(text(other).to_ascii_lowercase().as_str(), "1" | "on" | "true" | "yes"),
    }
}

fn whole(value: &Value) -> Result<i64, Failure> {
    match value {
        Value::Int(number) => Ok(*number),
        other => {
            let text = text(other);
            text.trim().parse().map_err(|_| bad(format!("invalid literal for int() with base 10: '{text}'")))
        }
    }
}

fn seconds(value: &Value) -> Result<f64, Failure> {
    match value {
        Value::Int(number) => Ok(*number as f64),
        Value::Float(number) => Ok(*number),
        other => span(&text(other)),
    }
}

/// A time expression in seconds.
fn span(text: &str) -> Result<f64, Failure> {
    time::seconds(text).map(Number::as_f64).map_err(|error| bad(error.to_string()))
}

/// A number as replies show it: whole if it is.
pub fn number(seconds: f64) -> Value {
    if seconds.fract() == 0.0 && seconds.abs() < 9e15 { Value::Int(seconds as i64) } else { Value::Float(seconds) }
}

fn texts(list: &[String]) -> Value {
    Value::List(list.iter().map(|text| Value::Text(text.clone())).collect())
}

fn next_edition() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

impl Setup {
    /// A jail with all settings at Fail2Ban's built-in defaults.
    #[must_use]
    pub fn new(name: Arc<str>, backend: String, journal: Option<Journal>) -> Setup {
        Setup {
            name,
            backend,
            journal,
            filter: Filter::default(),
            limits: Limits::default(),
            increment: Increment::default(),
            ignore: Ignore { own: true, ..Ignore::default() },
            logs: Vec::new(),
            journalmatch: Vec::new(),
            actions: Vec::new(),
            given: BTreeMap::new(),
            idle: false,
            edition: next_edition(),
        }
    }

    /// Empties what a reload names anew: regexes, ignored addresses, journal matches, logs, actions.
    pub fn forget_lists(&mut self) {
        self.filter.failregex.clear();
        self.filter.ignoreregex.clear();
        self.ignore.list.clear();
        self.ignore.set = AddressSet::default();
        self.journalmatch.clear();
        self.logs.clear();
        self.actions.clear();
        self.edition = next_edition();
    }

    /// `set JAIL WORDS…`: changes a setting; the answer, and what the log is told.
    ///
    /// # Errors
    /// The setting does not exist, or the value is of no use; nothing is changed then.
    pub(super) fn set(&mut self, words: &[Value]) -> Result<(Value, Option<Line>), Failure> {
        let missing = || Failure::new(FailureKind::Index, "list index out of range");
        let option = words.first().and_then(Value::as_text).ok_or_else(missing)?;
        self.edition = next_edition();
        let values = &words[1..];
        let value = values.first();
        let need = || value.ok_or_else(missing);
        let needed = || need().map(text);
        let told = |value: Value, part, name: &str| {
            let line = format!("  {name}: {}", shown(&text(&value)));
            (value, Some((Level::INFO, part, line)))
        };
        Ok(match option {
            "idle" => {
                self.idle = match needed()?.as_str() {
                    "on" => true,
                    "off" => false,
                    _ => {
                        let text = "Invalid idle option, must be 'on' or 'off'";
                        return Err(Failure::new(FailureKind::Exception, text));
                    }
                };
                (Value::Bool(self.idle), None)
            }
            "ignoreself" => {
                self.ignore.own = truth(need()?);
                (Value::Bool(self.ignore.own), None)
            }
            "addignoreip" => {
                for entry in values {
                    self.ignore.add(&text(entry));
                }
                (self.ignore.shown(), None)
            }
            "delignoreip" => {
                let entry = needed()?;
                if !self.ignore.remove(&entry) {
                    return Err(bad("list.remove(x): x not in list"));
                }
                (self.ignore.shown(), None)
            }
            "ignorecommand" => {
                self.ignore.command = Some(needed()?);
                (self.shown_command(), None)
            }
            "ignorecache" => {
                self.ignore.cache = ignorecache(&needed()?)?;
                (self.ignore.shown_cache(), None)
            }
            "maxretry" => {
                self.limits.maxretry = u32::try_from(whole(need()?)?.max(0)).unwrap_or(u32::MAX);
                told(Value::Int(self.limits.maxretry.into()), "filter", "maxRetry")
            }
            "maxmatches" => {
                self.limits.maxmatches = u32::try_from(whole(need()?)?.max(0)).unwrap_or(u32::MAX);
                (Value::Int(self.limits.maxmatches.into()), None)
            }
            "findtime" => {
                self.limits.findtime = seconds(need()?)?;
                told(number(self.limits.findtime), "filter", "findtime")
            }
            "bantime" => {
                self.limits.bantime = seconds(need()?)?;
                told(number(self.limits.bantime), "actions", "banTime")
            }
            "maxlines" => {
                let lines = whole(need()?)?;
                if lines < 1 {
                    return Err(bad("maxlines must be integer greater than zero"));
                }
                self.filter.maxlines = u32::try_from(lines).unwrap_or(u32::MAX);
                told(Value::Int(lines), "filter", "maxLines")
            }
            "usedns" => {
                let given = needed()?;
                let known = usedns(&given);
                self.filter.usedns = known.unwrap_or(UseDns::No);
                let line = known.is_none().then(|| {
                    (
                        Level::ERROR,
                        "filter",
                        format!("usedns `{}` is not known; names are not looked up", shown(&given)),
                    )
                });
                (usedns_name(self.filter.usedns).into(), line)
            }
            "prefregex" => {
                let text = needed()?;
                self.filter.prefregex = (!text.is_empty()).then(|| text.clone());
                (Value::Text(text), None)
            }
            "addfailregex" => {
                self.filter.failregex.extend(values.iter().flat_map(flat));
                (texts(&self.filter.failregex), None)
            }
            "addignoreregex" => {
                self.filter.ignoreregex.extend(values.iter().flat_map(flat));
                (texts(&self.filter.ignoreregex), None)
            }
            "delfailregex" | "delignoreregex" => {
                let index = whole(need()?)?;
                let list =
                    if option == "delfailregex" { &mut self.filter.failregex } else { &mut self.filter.ignoreregex };
                let at = usize::try_from(index).ok().filter(|at| *at < list.len());
                if let Some(at) = at {
                    list.remove(at);
                }
                let line = at.is_none().then(|| {
                    (Level::ERROR, "filter", format!("There is no regular expression [{index}] that could be removed"))
                });
                (texts(list), line)
            }
            "datepattern" => {
                let text = needed()?;
                self.filter.datepattern = (!text.is_empty()).then_some(text);
                let shown_pattern = self.shown_datepattern();
                let line = match &shown_pattern {
                    Value::Tuple(parts) => match &parts[..] {
                        [pattern @ Value::Text(_), Value::Text(name)] => Some((
                            Level::INFO,
                            "datedetector",
                            format!("  date pattern `{}`: `{}`", repr(pattern), shown(name)),
                        )),
                        _ => None,
                    },
                    _ => None,
                };
                (shown_pattern, line)
            }
            "logtimezone" => {
                let text = needed()?;
                if date::logtimezone(&text).is_err() {
                    let text = repr(&Value::Text(text));
                    return Err(bad(format!("Unknown or unsupported time zone: {text}")));
                }
                self.filter.logtimezone = (!text.is_empty()).then(|| text.clone());
                (Value::Text(text), None)
            }
            "logencoding" => {
                let text = needed()?;
                if crate::source::Encoding::from_name(&text).is_none() {
                    return Err(Failure::new(FailureKind::Lookup, format!("unknown encoding: {text}")));
                }
                self.filter.logencoding = text;
                told(Value::Text(self.shown_encoding()), "filter", "encoding")
            }
            "addlogpath" | "dellogpath" if self.journal.is_some() => (self.shown_logs(), None),
            "addlogpath" => {
                let tail = match values.get(1).map(text).as_deref() {
                    None | Some("head") => false,
                    Some("tail") => true,
                    _ => return Err(bad("File option must be 'head' or 'tail'")),
                };
                let log = LogPath { path: needed()?.into(), tail };
                let line = if self.logs.iter().any(|known| known.path == log.path) {
                    Some((Level::ERROR, "filter", format!("{} already exists", shown(&log.path.to_string_lossy()))))
                } else {
                    self.logs.push(log);
                    None
                };
                (self.shown_logs(), line)
            }
            "dellogpath" => {
                let path = PathBuf::from(needed()?);
                self.logs.retain(|log| log.path != path);
                (self.shown_logs(), None)
            }
            // a filter names its entries of a journal wherever its jail reads
            "addjournalmatch" | "deljournalmatch" if self.journal.is_none() => (self.shown_journalmatch(), None),
            "addjournalmatch" => {
                let groups: Matches = match value {
                    Some(Value::List(_)) => values.iter().map(flat).collect(),
                    _ => vec![values.iter().map(text).collect()],
                };
                if !groups.iter().flatten().all(|word| journal::is_match(word)) {
                    return Err(bad("Invalid match"));
                }
                self.journalmatch.extend(groups);
                (self.shown_journalmatch(), self.told_match("Added", values))
            }
            "deljournalmatch" => {
                let group: Vec<String> = values.iter().map(text).collect();
                if group.is_empty() {
                    self.journalmatch.clear();
                } else {
                    let at = self.journalmatch.iter().position(|known| *known == group);
                    let at = at.ok_or_else(|| bad(format!("Match {} not found", repr(&texts(&group)))))?;
                    self.journalmatch.remove(at);
                }
                (self.shown_journalmatch(), self.told_match("Removed", values))
            }
            "addaction" => {
                let name = needed()?;
                if self.actions.iter().any(|(known, _)| *known == name) {
                    return Err(bad(format!("Action {name} already exists")));
                }
                let work = match values {
                    [_] => Work::Commands(Properties::default()),
                    [_, path, options] => super::actions::work(&text(path), &text(options))?,
                    _ => return Err(missing()),
                };
                self.actions.push((name.clone(), work));
                (Value::Text(name), None)
            }
            "delaction" => {
                let name = needed()?;
                let Some(at) = self.actions.iter().position(|(known, _)| *known == name) else {
                    return Err(Failure::new(FailureKind::Key, format!("Invalid Action name: {name}")));
                };
                self.actions.remove(at);
                (Value::None, None)
            }
            "action" => {
                let name = needed()?;
                let properties = match self.actions.iter_mut().find(|(known, _)| *known == name) {
                    Some((_, Work::Commands(properties))) => properties,
                    Some((_, Work::Mail(options))) => {
                        let [key, value] = &values[1..] else { return Err(missing()) };
                        options.set(&text(key), Value::Text(text(value)))?;
                        return Ok((Value::Text(text(value)), None));
                    }
                    Some((_, Work::Python(_))) => {
                        let text = format!("properties of `{name}` can be set one by one, while its jail runs");
                        return Err(Failure::new(FailureKind::Runtime, text));
                    }
                    None => return Err(Failure::new(FailureKind::Key, format!("Invalid Action name: {name}"))),
                };
                let reply = match &values[1..] {
                    [Value::List(pairs)] => {
                        for pair in pairs {
                            if let Some([key, value]) = pair.as_list() {
                                properties.set(&text(key), text(value));
                            }
                        }
                        Value::Bool(true)
                    }
                    [key, value] if key.as_text() == Some("timeout") => {
                        let time = seconds(value)?;
                        properties.set("timeout", text(value));
                        number(time)
                    }
                    [key, value] => {
                        properties.set(&text(key), text(value));
                        Value::Text(text(value))
                    }
                    _ => return Err(missing()),
                };
                (reply, None)
            }
            _ if option.starts_with("bantime.") => {
                let (name, given) = (&option[8..], needed()?);
                let line = format!("Set banTime.{} = {}", shown(name), shown(&given));
                (self.set_increment(name, &given)?, Some((Level::INFO, "jail", line)))
            }
            _ => {
                return Err(Failure::new(
                    FailureKind::Exception,
                    format!("Invalid command {} (no set action or not yet implemented)", repr(&option.into())),
                ));
            }
        })
    }

    fn set_increment(&mut self, option: &str, text: &str) -> Reply {
        let unset = text.is_empty();
        let kept = (!unset).then(|| text.to_owned());
        let truth = matches!(text.to_ascii_lowercase().as_str(), "1" | "on" | "true" | "yes");
        let increment = &mut self.increment;
        let mut value = Value::from(text);
        match option {
            "increment" => {
                increment.enabled = truth;
                value = Value::Bool(truth);
            }
            "overalljails" => increment.overalljails = truth,
            "factor" => increment.factor = kept,
            "formula" => increment.formula = kept,
            "multipliers" => increment.multipliers = kept,
            "maxtime" | "rndtime" => {
                let time = if unset { None } else { Some(span(text)?) };
                value = time.map_or(Value::None, number);
                *(if option == "maxtime" { &mut increment.maxtime } else { &mut increment.rndtime }) = time;
            }
            // names that nobody knows are kept and shown, as the original does; a bounded number of them
            _ if self.given.len() >= MAX_GIVEN => return Err(invalid()),
            _ => {}
        }
        if unset {
            self.given.remove(option);
        } else {
            self.given.insert(option.to_owned(), value);
        }
        Ok(self.given.get(option).cloned().unwrap_or(Value::None))
    }

    /// `get JAIL WORDS…` for what is a setting.
    ///
    /// # Errors
    /// There is no such setting.
    pub fn get(&self, words: &[Value]) -> Reply {
        let option = words.first().and_then(Value::as_text).unwrap_or_default();
        let action = |name: Option<&Value>| {
            let name = name.map(text).unwrap_or_default();
            self.actions
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, work)| work)
                .ok_or_else(|| Failure::new(FailureKind::Key, format!("Invalid Action name: {name}")))
        };
        Ok(match option {
            "logpath" => self.shown_logs(),
            "logencoding" => Value::Text(self.shown_encoding()),
            "journalmatch" => self.shown_journalmatch(),
            "ignoreself" => Value::Bool(self.ignore.own),
            "ignoreip" => self.ignore.shown(),
            "ignorecommand" => self.shown_command(),
            "ignorecache" => self.ignore.shown_cache(),
            "prefregex" => Value::Text(self.filter.prefregex.clone().unwrap_or_default()),
            "failregex" => texts(&self.filter.failregex),
            "ignoreregex" => texts(&self.filter.ignoreregex),
            "usedns" => Value::Text(usedns_name(self.filter.usedns).to_owned()),
            "findtime" => number(self.limits.findtime),
            "bantime" => number(self.limits.bantime),
            "maxretry" => Value::Int(self.limits.maxretry.into()),
            "maxmatches" => Value::Int(self.limits.maxmatches.into()),
            "maxlines" => Value::Int(self.filter.maxlines.into()),
            "datepattern" if self.journal.is_some() => Value::None,
            "datepattern" => self.shown_datepattern(),
            "logtimezone" => self.filter.logtimezone.clone().map_or(Value::None, Value::Text),
            "idle" => Value::Bool(self.idle),
            "actions" => Value::List(self.actions.iter().map(|(name, _)| Value::Text(name.clone())).collect()),
            "action" => {
                let name = words.get(2).map(text).unwrap_or_default();
                let properties = match action(words.get(1))? {
                    Work::Commands(properties) => properties,
                    Work::Mail(options) => return options.get(&name),
                    // has been asked itself
                    Work::Python(_) => return Err(invalid()),
                };
                match properties.get(&name) {
                    Some(time) if name == "timeout" => number(span(time)?),
                    Some(value) => value.into(),
                    None if name == "timeout" => Value::Int(TIMEOUT),
                    None if COMMANDS.contains(&name.as_str()) => "".into(),
                    None => {
                        let text = format!("'CommandAction' object has no attribute '{name}'");
                        return Err(Failure::new(FailureKind::Attribute, text));
                    }
                }
            }
            "actionproperties" => {
                let properties = match action(words.get(1))? {
                    Work::Commands(properties) => properties,
                    Work::Mail(options) => {
                        return Ok(Value::List(options.names().into_iter().map(Value::from).collect()));
                    }
                    Work::Python(_) => return Err(invalid()),
                };
                let own = properties.iter().map(|(name, _)| name);
                let names: BTreeSet<&str> = own.chain(COMMANDS).chain(OTHER_PROPERTIES).collect();
                Value::List(names.into_iter().map(Value::from).collect())
            }
            "actionmethods" => {
                let methods = match action(words.get(1))? {
                    Work::Commands(_) => &METHODS[..],
                    Work::Mail(_) => &mail::METHODS,
                    Work::Python(_) => return Err(invalid()),
                };
                Value::List(methods.iter().map(|name| Value::from(*name)).collect())
            }
            _ if option.starts_with("bantime.") => self.given.get(&option[8..]).cloned().unwrap_or(Value::None),
            _ => {
                return Err(Failure::new(
                    FailureKind::Exception,
                    "Invalid command (no get action or not yet implemented)",
                ));
            }
        })
    }

    /// `False` before it was ever given.
    fn shown_command(&self) -> Value {
        self.ignore.command.as_deref().map_or(Value::Bool(false), Value::from)
    }

    fn shown_logs(&self) -> Value {
        Value::List(self.logs.iter().map(|log| Value::Text(log.path.to_string_lossy().into_owned())).collect())
    }

    /// The line about a changed match.
    fn told_match(&self, done: &str, words: &[Value]) -> Option<Line> {
        let words = words.iter().map(text).collect::<Vec<_>>().join(" ");
        let text = format!("[{}] {done} journal match for: '{}'", self.name, shown(&words));
        Some((Level::INFO, "filtersystemd", text))
    }

    fn shown_journalmatch(&self) -> Value {
        Value::List(self.journalmatch.iter().map(|group| texts(group)).collect())
    }

    fn shown_encoding(&self) -> String {
        if self.filter.logencoding.eq_ignore_ascii_case("auto") {
            "UTF-8".to_owned()
        } else {
            self.filter.logencoding.clone()
        }
    }

    fn shown_datepattern(&self) -> Value {
        Value::Tuple(match &self.filter.datepattern {
            None => vec![Value::None, "Default Detectors".into()],
            Some(pattern) => {
                // the year has no part in the name
                let dates = date::compile(Some(pattern), &date::Options::server(2000));
                let name = dates.ok().and_then(|dates| dates.names().next().map(str::to_owned));
                if matches!(pattern.as_str(), "{DEFAULT}" | "{^LN-BEG}") {
                    return Value::Tuple(vec![Value::None, "Default Detectors".into()]);
                }
                vec![Value::Text(pattern.clone()), Value::Text(name.unwrap_or_else(|| pattern.clone()))]
            }
        })
    }
}

impl Ignore {
    fn add(&mut self, entry: &str) {
        let entry = entry.trim();
        if entry.is_empty() {
            return;
        }
        let shown = match Id::parse(entry) {
            Id::Prefix(prefix) => {
                if !self.set.insert(prefix) {
                    return;
                }
                prefix.to_string()
            }
            Id::Text(_) => entry.to_owned(),
        };
        if !self.list.contains(&shown) {
            self.list.push(shown);
        }
    }

    fn remove(&mut self, entry: &str) -> bool {
        let shown = Id::parse(entry).to_string();
        let Some(at) = self.list.iter().position(|known| *known == shown) else { return false };
        self.list.remove(at);
        if let Id::Prefix(prefix) = Id::parse(entry) {
            self.set.remove(prefix);
        }
        true
    }

    /// Networks and names first, then single addresses.
    fn shown(&self) -> Value {
        let single = |entry: &&String| Id::parse(entry).prefix().is_some_and(crate::address::Prefix::is_host);
        let mut list: Vec<String> = self.list.iter().filter(|entry| !single(entry)).cloned().collect();
        list.extend(self.list.iter().filter(single).cloned());
        texts(&list)
    }

    fn shown_cache(&self) -> Value {
        self.cache.as_ref().map_or(Value::None, |(key, count, time)| {
            Value::List(vec![Value::Text(key.clone()), Value::Int(*count), number(*time)])
        })
    }
}

/// A word that may be one text or a list of them.
fn flat(value: &Value) -> Vec<String> {
    match value {
        Value::List(items) | Value::Tuple(items) => items.iter().map(text).collect(),
        other => vec![text(other)],
    }
}

fn usedns(text: &str) -> Option<UseDns> {
    Some(match text.to_ascii_lowercase().as_str() {
        "yes" | "true" | "1" | "on" => UseDns::Yes,
        "no" | "false" | "0" | "off" => UseDns::No,
        "warn" => UseDns::Warn,
        "raw" => UseDns::Raw,
        _ => return None,
    })
}

fn usedns_name(value: UseDns) -> &'static str {
    match value {
        UseDns::Yes => "yes",
        UseDns::Warn => "warn",
        UseDns::No => "no",
        UseDns::Raw => "raw",
    }
}

/// Reads `key="<ip>", max-count=100, max-time=5m`; empty switches it off.
fn ignorecache(text: &str) -> Result<Option<(String, i64, f64)>, Failure> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let (mut key, mut count, mut time) = (String::new(), 100, 300.0);
    for part in text.split(',') {
        let (name, value) =
            part.split_once('=').ok_or_else(|| bad(format!("ignorecache: `{part}` is not name=value")))?;
        let value = value.trim().trim_matches(['"', '\'']);
        match name.trim() {
            "key" => key = value.to_owned(),
            "max-count" => {
                count = value.parse().map_err(|_| bad(format!("ignorecache: max-count `{value}` is not a number")))?;
            }
            "max-time" => time = span(value)?,
            other => return Err(bad(format!("ignorecache: unknown option `{other}`"))),
        }
    }
    if key.is_empty() {
        return Err(bad("ignorecache: key is missing"));
    }
    Ok(Some((key, count, time)))
}
