//! Mails about a jail's start, stop and bans: what Fail2Ban's `smtp.py` does, done by ourselves.
//!
//! `message` makes the text, `delivery` hands it to a mail server. A server that is slow or
//! away costs its own jail's queue a bounded time, and nothing else waits.

mod delivery;
mod message;

use serde_json::{Map, Value as Json};

use self::message::{Event, Message};
use super::python::Question;
use super::queue::Severity;
use super::worker::{ACTIONS, Worker, shown};
use super::{Ticket, hosts};
use crate::control::{Failure, FailureKind, Reply, Value};

/// The part of the log that tells of mails.
const PART: &str = "SMTPAction";
/// How long a mail may take.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(60);
/// Names of its methods, for clients that ask.
pub const METHODS: [&str; 5] = ["ban", "reban", "start", "stop", "unban"];
/// A property that is shown, but has no value that could be sent.
const TEXTS: &str = "message_values";

/// To whom mails go, from whom, and how. The properties have the names that clients find with Fail2Ban.
#[derive(Clone, Debug, PartialEq)]
pub struct Options(Vec<(&'static str, Value)>);

impl Options {
    /// Options as a jail gives them (`host`, `user`, `password`, `ssl`, `sendername`, `sender`, `dest`, `matches`).
    ///
    /// # Errors
    /// There is no such option, or its value is no text, number or truth.
    pub fn new(given: &Map<String, Json>) -> Result<Options, Failure> {
        let mut options = Options(vec![
            ("fromaddr", "fail2ban".into()),
            ("fromname", "Fail2Ban".into()),
            ("host", "localhost".into()),
            ("matches", Value::None),
            ("norestored", Value::Int(1)),
            ("password", Value::None),
            ("toaddr", "root".into()),
            ("user", Value::None),
        ]);
        for (name, value) in given {
            let property = match name.as_str() {
                "host" => "host",
                "user" => "user",
                "password" => "password",
                "ssl" => "ssl",
                "sendername" => "fromname",
                "sender" => "fromaddr",
                "dest" => "toaddr",
                "matches" => "matches",
                _ => return Err(Failure::new(FailureKind::Type, format!("smtp.py has no option `{name}`"))),
            };
            let value = match value {
                Json::Null => Value::None,
                Json::String(text) => text.as_str().into(),
                Json::Bool(_) | Json::Number(_) => value.to_string().into(),
                _ => return Err(Failure::new(FailureKind::Type, format!("option `{name}` of smtp.py must be a text"))),
            };
            options.put(property, value);
        }
        Ok(options)
    }

    fn put(&mut self, property: &'static str, value: Value) {
        match self.0.iter_mut().find(|(name, _)| *name == property) {
            Some((_, old)) => *old = value,
            None => self.0.push((property, value)),
        }
    }

    /// Changes a property.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn set(&mut self, property: &str, value: Value) -> Result<(), Failure> {
        let known = self.0.iter_mut().find(|(name, _)| *name == property);
        let (_, old) = known.ok_or_else(|| attribute(property))?;
        *old = value;
        Ok(())
    }

    /// A property.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn get(&self, property: &str) -> Reply {
        let known = self.0.iter().find(|(name, _)| *name == property);
        if property == TEXTS || METHODS.contains(&property) {
            return Err(Failure::new(FailureKind::Type, format!("the value of `{property}` cannot be sent")));
        }
        known.map(|(_, value)| value.clone()).ok_or_else(|| attribute(property))
    }

    /// The names of the properties, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<&'static str> {
        let mut names: Vec<&str> = self.0.iter().map(|(name, _)| *name).chain([TEXTS]).collect();
        names.sort_unstable();
        names
    }

    /// The text of a property; `None` if it is not set.
    fn text(&self, property: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| *name == property).and_then(|(_, value)| value.as_text())
    }

    /// Whether a property is on.
    fn is_on(&self, property: &str) -> bool {
        match self.0.iter().find(|(name, _)| *name == property).map(|(_, value)| value) {
            Some(Value::Int(number)) => *number != 0,
            Some(Value::Text(text)) => !matches!(text.to_ascii_lowercase().as_str(), "" | "0" | "no" | "off" | "false"),
            _ => false,
        }
    }

    /// Whether mails show lines of earlier bans.
    #[must_use]
    pub fn wants_history(&self) -> bool {
        matches!(self.text("matches"), Some("ipmatches" | "ipjailmatches"))
    }
}

fn attribute(name: &str) -> Failure {
    Failure::new(FailureKind::Attribute, format!("'SMTPAction' object has no attribute '{name}'"))
}

/// An action of a jail.
pub(super) struct Action {
    pub name: String,
    pub options: Options,
}

impl Action {
    /// The jail starts.
    pub async fn start(&self, worker: &Worker) {
        if let Err(error) = self.send(worker, &Event::Started).await {
            self.tell(worker, "Failed to start", "", &error);
        }
    }

    /// The jail stops, or goes on without this action.
    pub async fn stop(&self, worker: &Worker) {
        if let Err(error) = self.send(worker, &Event::Stopped).await {
            self.tell(worker, "Failed to stop", "", &error);
        }
    }

    /// Somebody is banned.
    pub async fn ban(&self, worker: &Worker, ticket: &Ticket) {
        if ticket.restored && self.options.is_on("norestored") {
            return;
        }
        let id = ticket.address().to_string();
        let history = ticket.history.as_ref();
        let lines = match self.options.text("matches") {
            Some("matches") => Some(&ticket.matches),
            // without a ban on record, what is known of this one
            Some("ipmatches") => {
                history.and_then(|all| all.everywhere.as_ref()).map(|all| &all.matches).or(Some(&ticket.matches))
            }
            Some("ipjailmatches") => {
                history.and_then(|all| all.here.as_ref()).map(|all| &all.matches).or(Some(&ticket.matches))
            }
            _ => None,
        };
        let event =
            Event::Banned { id: id.clone(), failures: ticket.failures, lines: lines.map(|lines| lines.join("\n")) };
        if let Err(error) = self.send(worker, &event).await {
            self.tell(worker, "Failed to execute ban", &format!(" info '{}'", shown(&id)), &error);
        }
    }

    /// Calls a method for a client.
    pub async fn ask(&self, worker: &Worker, question: Question) -> Reply {
        let Question::Set(method, arguments) = question else { return Err(super::python::unknown(&self.name)) };
        let kind = |text: String| Failure::new(FailureKind::Type, text);
        let event = match method.as_str() {
            "start" => Event::Started,
            "stop" => Event::Stopped,
            "unban" => return Ok(Value::None),
            _ => {
                let given: Json = serde_json::from_str(arguments.as_text().unwrap_or("{}"))
                    .map_err(|error| Failure::new(FailureKind::Value, error.to_string()))?;
                let info = given.get("aInfo").and_then(Json::as_object);
                let info = info.ok_or_else(|| kind(format!("{method}() needs {{\"aInfo\": {{…}}}}")))?;
                let word = |name: &str| match info.get(name) {
                    Some(Json::String(text)) => text.clone(),
                    Some(other) => other.to_string(),
                    None => String::new(),
                };
                let lines = self.options.text("matches").map(word).filter(|text| !text.is_empty());
                let failures = info.get("failures").and_then(Json::as_u64).unwrap_or(0);
                Event::Banned { id: word("ip"), failures, lines }
            }
        };
        self.send(worker, &event).await.map_err(|error| Failure::new(FailureKind::Runtime, error))?;
        Ok(Value::None)
    }

    /// Sends a mail about something.
    async fn send(&self, worker: &Worker, event: &Event) -> Result<(), String> {
        let text = |property: &str| self.options.text(property).unwrap_or_default();
        let message = Message {
            jail: &worker.jail,
            machine: &hosts::short(),
            bantime: worker.facts.bantime,
            matches: text("matches"),
            name: text("fromname"),
            from: text("fromaddr"),
            to: &message::recipients(text("toaddr")),
            now: worker.facts.now,
        };
        let subject = message.subject(event);
        let own = worker.hosts.own().await;
        let server = delivery::Server {
            host: text("host"),
            user: self.options.text("user").zip(self.options.text("password")),
            tls: self.options.is_on("ssl"),
            own: &own,
            limit: LIMIT,
        };
        let sent = match message.check() {
            Ok(()) => delivery::send(&server, message.from, message.to, &message.text(event)).await,
            Err(error) => Err(error),
        };
        match sent {
            Ok(refused) => {
                for (recipient, why) in refused {
                    let text = format!(
                        "the mail server does not take mails for '{}': {}",
                        one_line(&recipient),
                        one_line(&why)
                    );
                    (worker.report)(Severity::Warning, PART, text);
                }
                (worker.report)(Severity::Debug, PART, format!("Email '{subject}' successfully sent"));
                Ok(())
            }
            Err(error) => {
                let (host, from, to) = (one_line(text("host")), one_line(text("fromaddr")), one_line(text("toaddr")));
                worker.error(PART, format!("Error sending mail to host '{host}' from '{from}' to '{to}'"));
                Err(one_line(&error))
            }
        }
    }

    fn tell(&self, worker: &Worker, what: &str, about: &str, error: &str) {
        worker.error(ACTIONS, format!("{what} jail '{}' action '{}'{about}: {error}", worker.jail, self.name));
    }
}

/// A text as one line of the log; much of it is what others wrote.
fn one_line(text: &str) -> String {
    shown(text).replace('\n', "\\n")
}
