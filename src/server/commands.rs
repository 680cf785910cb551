//! What clients can ask for, and what the command stream is made of.
//!
//! `answers` only looks, `general` is about the whole server, `stream` about many commands at once.
//! Names, order and types of the answers are Fail2Ban's, because programs read them. One thing
//! is better on purpose: in a stream, a command that fails costs its own jail only.

use std::path::PathBuf;
use std::sync::Arc;

use crate::action::queue::Event as ActionEvent;
use crate::address::Id;
use crate::config::settings::Compat;
use crate::control::{Failure, FailureKind, Reply, Value};
use crate::fail2ban::{journal as backend, protocol, repr};
use crate::firewall::Change;
use crate::jail::{self, Decision, Reason};
use crate::state;

use super::engine::Engine;
use super::jail::{Jail, Leaving};
use super::logging::{Level, shown};
use super::setup::text;
use super::socket::Request;

mod answers;
mod general;
mod stream;

/// Characters of a command that a message about it shows.
const SHOWN: usize = 200;
/// A jail's name of so many characters is warned about: iptables allows 28 to a chain, `f2b-` included.
const LONG_NAME: usize = 26;

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
        let answer = match self.question(&command) {
            Some(Ok(question)) => return self.ask_action(question, command, reply),
            Some(Err(failure)) => Err(failure),
            None => self.command(&command),
        };
        if let Err(failure) = &answer {
            self.effects.line(Level::ERROR, "transmitter", of_failure(command, failure));
        }
        self.effects.replies.push((reply, answer));
    }

    fn command(&mut self, words: &[Value]) -> Reply {
        let word = |index: usize| words.get(index).map(text);
        let Some(name) = word(0) else { return Err(missing()) };
        let need = |index: usize| word(index).ok_or_else(missing);
        match name.as_str() {
            "ping" => Ok("pong".into()),
            "version" => Ok(self.options.compat.version().into()),
            "echo" => Ok(Value::List(words[1..].to_vec())),
            "server-status" => Ok("Server ready".into()),
            "status" => {
                let answer = self.status(&words[1..])?;
                if let Some(flavor) = word(2).filter(|flavor| !answers::FLAVORS.contains(&flavor.as_str())) {
                    let text = format!("Status flavor '{}' is not known, it is answered with 'basic'", shown(&flavor));
                    self.effects.line(Level::WARNING, "actions", text);
                }
                Ok(answer)
            }
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
                self.effects.line(Level::ERROR, "transmitter", shown(&text));
                Ok(Value::None)
            }
            "flushlogs" => self.flush_logs(),
            "stop" => match word(1).as_deref() {
                None => {
                    self.stopping = true;
                    Ok(Value::None)
                }
                // for `sekimori takeover --back`
                Some("--keep-bans") => {
                    (self.stopping, self.keep_bans) = (true, true);
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
        let known = match self.options.compat {
            Compat::V1_0 => &["pyinotify", "gamin", "polling", "systemd"][..],
            Compat::V1_1 => &["pyinotify", "polling", "systemd"],
        };
        if self.jails.contains_key(name) {
            return Err(failure(FailureKind::DuplicateJail, name));
        }
        if name == "--all" {
            return Err(failure(FailureKind::Exception, "Reserved name '--all'"));
        }
        let parsed =
            backend::backend(backend, self.options.compat).map_err(|text| failure(FailureKind::Value, text))?;
        if name.chars().count() >= LONG_NAME {
            let text =
                format!("Jail name '{}' is long; names of chains and sets made of it may be too long", shown(name));
            self.effects.line(Level::WARNING, "jail", text);
        }
        self.effects.line(Level::INFO, "jail", format!("Creating new jail '{}'", shown(name)));
        let kind = parsed.name.as_str();
        if kind != "auto" && kind != "gamin" && !known.contains(&kind) {
            let known = repr::repr(&Value::List(known.iter().map(|name| Value::from(*name)).collect()));
            let text = format!("Unknown backend {backend}. Must be among {known} or 'auto'");
            return Err(failure(FailureKind::Value, text));
        }
        let key: Arc<str> = name.into();
        self.last_tag += 1;
        self.tags.insert(self.last_tag, key.clone());
        self.jails.insert(key.clone(), Jail::new(self.last_tag, key, backend.to_owned(), parsed.journal.clone()));
        let used = match kind {
            "polling" | "systemd" => kind,
            _ => "pyinotify",
        };
        let by = if used == "polling" { "poller" } else { used };
        let text = format!("Jail '{}' uses {by} {}", shown(name), shown(&parsed.shown));
        self.effects.line(Level::INFO, "jail", text);
        self.effects.line(Level::INFO, "jail", format!("Initiated '{used}' backend"));
        Ok(name.into())
    }

    fn remove_jail(&mut self, name: &Arc<str>, leaving: Leaving) {
        self.stop_jail(name, leaving);
        if let Some(jail) = self.jails.shift_remove(name) {
            self.tags.remove(&jail.tag);
        }
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
        let tickets = self.tickets(name, &decisions);
        for decision in &decisions {
            if let Decision::Unban { ban, .. } = decision {
                self.effects.unstored.insert(ban.id.to_string().into());
                let text = format!("[{name}] Unban {}", shown(&ban.id.to_string()));
                self.effects.line(Level::NOTICE, "actions", text);
            }
        }
        self.act(name, ActionEvent::Flush(tickets));
        self.effects.stored.push(state::Change::DeleteAll(name.clone()));
        self.effects.urgent = true;
        decisions.len()
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

    fn set(&mut self, words: &[Value]) -> Reply {
        let name = words.first().map(text).ok_or_else(missing)?;
        if let Some(answer) = self.set_general(&name, words.get(1)) {
            return answer;
        }
        let option = words.get(1).map(text).ok_or_else(missing)?;
        let name = self.known(&name)?;
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
        let logs = setup.logs.len();
        let (value, line) = setup.set(words)?;
        self.announce(name, setup.logs.get(logs).cloned());
        self.adopt(name, setup)?;
        self.effects.lines.extend(line);
        Ok(value)
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
}

/// What the log says of a command that failed.
pub(super) fn of_failure(command: Vec<Value>, failure: &Failure) -> String {
    let words: String = repr::repr(&Value::List(command)).chars().take(SHOWN).collect();
    let why: String = protocol::exception(failure).chars().take(SHOWN).collect();
    format!("Command {} has failed. Received {}", shown(&words), shown(&why))
}

/// The commands of a stream.
fn commands(stream: &Value) -> Vec<Vec<Value>> {
    stream.as_list().unwrap_or_default().iter().filter_map(|command| Some(command.as_list()?.to_vec())).collect()
}
