//! Actions written in Python for Fail2Ban, each in a helper process of its own.
//!
//! The class in the action's file is called as Fail2Ban's server would call it; what it finds of that
//! server is in `helper.py`. Nothing that comes from a log is ever evaluated: it travels as JSON.

mod helper;
mod wire;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value as Json, json};

use self::helper::{Error, Helper, Message, Outcome, Raised, Traits};
use super::queue::Severity;
use super::worker::{ACTIONS, Worker, shown};
use super::{Family, Ticket, template};
use crate::address::Id;
use crate::control::{Failure, FailureKind, Reply, Value};

/// Name of the interpreter.
pub const PYTHON: &str = "python3";
/// Seconds that a call may take, unless the class has a `_timeout`.
const TIMEOUT: f64 = 60.0;
/// The longest limit that is accepted, in seconds.
const MAX_TIMEOUT: f64 = 86_400.0;
/// Lines of what an action printed that are logged for one event.
const MAX_LINES: usize = 20;
/// Longest line of it that is logged, in characters.
const MAX_TEXT: usize = 4096;

/// An action in Python as a jail asks for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Program {
    /// The interpreter.
    pub python: PathBuf,
    /// The file with the class `Action`.
    pub path: PathBuf,
    /// What the class is called with, by name.
    pub options: Map<String, Json>,
    /// A hash of the file as it was when the jail was told, so that a changed one is noticed.
    pub fingerprint: String,
}

/// Something that only the action itself can answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Question {
    /// The value of a property.
    Get(String),
    /// A new value for a property; a method of that name is called with the JSON object that the value is.
    Set(String, Value),
    /// The names of its properties.
    Properties,
    /// The names of its methods.
    Methods,
}

/// The interpreter, if there is one.
#[must_use]
pub fn interpreter() -> Option<PathBuf> {
    use std::os::unix::fs::MetadataExt as _;
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    let is_program = |path: &Path| path.metadata().is_ok_and(|data| data.is_file() && data.mode() & 0o111 != 0);
    std::env::split_paths(&path).map(|folder| folder.join(PYTHON)).find(|path| path.is_absolute() && is_program(path))
}

/// There is no action of that name.
#[must_use]
pub fn unknown(name: &str) -> Failure {
    Failure::new(FailureKind::Key, format!("Invalid Action name: {name}"))
}

/// An action of a jail, and how far it got.
pub(super) struct Action {
    pub name: String,
    program: Arc<Program>,
    helper: Option<Helper>,
    traits: Traits,
    /// Whether the jail runs.
    started: bool,
    /// Whether no instance could be made the last time.
    unusable: bool,
    /// Whose bans it was told of by the helper that runs.
    done: HashSet<Id>,
}

/// Why an event came to nothing.
struct Trouble {
    text: String,
    raised: Option<Raised>,
}

impl Action {
    pub fn new(name: String, program: Arc<Program>) -> Action {
        let (traits, done) = (Traits::default(), HashSet::new());
        Action { name, program, helper: None, traits, started: false, unusable: false, done }
    }

    /// Makes the instance, so that what is wrong with it is known early.
    pub async fn prepare(&mut self, worker: &Worker) {
        if let Err(trouble) = self.load(worker).await {
            self.tell(worker, "Failed to load", "", trouble);
        }
    }

    /// The jail starts.
    pub async fn start(&mut self, worker: &Worker) {
        // what is wrong with one that cannot be used has been said
        if !self.unusable
            && let Err(trouble) = self.call(worker, "start", None).await
        {
            self.tell(worker, "Failed to start", "", trouble);
        }
        self.started = true;
    }

    /// Bans, by the method `ban` or `reban`.
    pub async fn ban(&mut self, worker: &Worker, method: &str, ticket: &Ticket) {
        let loaded = self.load(worker).await;
        if self.passes_over(ticket) {
            return;
        }
        let done = match loaded {
            Ok(()) => self.call(worker, method, Some(ticket)).await,
            Err(trouble) => Err(trouble),
        };
        self.done.insert(ticket.id.clone());
        self.tell_of(worker, "ban", ticket, done);
    }

    /// A running ban got longer.
    pub async fn prolong(&mut self, worker: &Worker, ticket: &Ticket) {
        if self.load(worker).await.is_ok() && self.traits.prolong && !self.passes_over(ticket) {
            let done = self.call(worker, "prolong", Some(ticket)).await;
            self.tell_of(worker, "prolong", ticket, done);
        }
    }

    /// Lifts a ban.
    pub async fn unban(&mut self, worker: &Worker, ticket: &Ticket) {
        self.done.remove(&ticket.id);
        if !self.unusable {
            let done = self.call(worker, "unban", Some(ticket)).await;
            self.tell_of(worker, "unban", ticket, done);
        }
    }

    /// Lifts all bans at once; false if it does not, so that each is lifted singly.
    pub async fn flush(&mut self, worker: &Worker) -> bool {
        if self.unusable || self.load(worker).await.is_err() || !self.traits.flush {
            return false;
        }
        worker.notice(format!("[{}] Flush ticket(s) with {}", worker.jail, self.name));
        match self.call(worker, "flush", None).await {
            Ok(well) => {
                if well {
                    self.done.clear();
                }
                well
            }
            Err(trouble) => {
                self.tell(worker, "Failed to flush bans in", "", trouble);
                false
            }
        }
    }

    /// Whether a ban is to be made anew, because the helper that made it is gone.
    pub fn misses(&self, ticket: &Ticket) -> bool {
        !self.done.contains(&ticket.id) && !self.passes_over(ticket)
    }

    fn passes_over(&self, ticket: &Ticket) -> bool {
        ticket.restored && self.traits.norestored
    }

    /// Has it look at its environment.
    pub async fn check(&mut self, worker: &Worker) {
        if self.traits.check
            && let Err(trouble) = self.call(worker, "consistencyCheck", None).await
        {
            self.tell(worker, "Failed to check", "", trouble);
        }
    }

    /// The configuration was read again, and says of this action what it said before.
    pub async fn reload(&mut self, worker: &Worker) {
        if self.traits.reload {
            let request = json!({ "do": "call", "method": "reload", "options": self.program.options });
            if let Err(trouble) = self.ask_for(worker, request, None).await {
                self.tell(worker, "Failed to reload", "", trouble);
            }
        }
    }

    /// The jail stops, or goes on without this action.
    pub async fn stop(&mut self, worker: &Worker) {
        if !self.unusable
            && let Err(trouble) = self.call(worker, "stop", None).await
        {
            self.tell(worker, "Failed to stop", "", trouble);
        }
        self.started = false;
        if let Some(helper) = self.helper.take() {
            helper.end().await;
        }
    }

    /// Answers a client.
    pub async fn ask(&mut self, worker: &Worker, question: Question) -> Reply {
        let request = match question {
            Question::Get(name) => json!({ "do": "get", "name": name }),
            Question::Set(name, value) => json!({ "do": "set", "name": name, "value": wire::pack(&value) }),
            Question::Properties => json!({ "do": "properties" }),
            Question::Methods => json!({ "do": "methods" }),
        };
        let answer = match self.load(worker).await {
            Ok(()) => self.ask_for(worker, request, None).await,
            Err(trouble) => Err(trouble),
        };
        let strange = || Failure::new(FailureKind::Runtime, Error::Strange.to_string());
        match answer {
            Ok(value) => wire::unpack(value).ok_or_else(strange),
            Err(Trouble { text, raised: None }) => Err(Failure::new(FailureKind::Runtime, text)),
            Err(Trouble { raised: Some(raised), .. }) => Err(Failure::new(kind(&raised), raised.text)),
        }
    }

    /// Calls a method, about a ban or not; whether its result is true.
    async fn call(&mut self, worker: &Worker, method: &str, ticket: Option<&Ticket>) -> Result<bool, Trouble> {
        self.load(worker).await?;
        let mut request = json!({ "do": "call", "method": method });
        if let Some(ticket) = ticket {
            request["info"] = info(ticket, worker);
        }
        self.ask_for(worker, request, ticket).await.map(|value| value == Json::Bool(true))
    }

    /// Sees to it that there is a helper with an instance in it.
    async fn load(&mut self, worker: &Worker) -> Result<(), Trouble> {
        if self.helper.is_some() {
            return Ok(());
        }
        self.done.clear();
        let label = format!("{}/{}", worker.jail, self.name);
        let helper = Helper::start(&self.program.python, &label).await;
        self.helper = Some(helper.map_err(|error| Trouble { text: error.to_string(), raised: None })?);
        let request = json!({
            "do": "load",
            "jail": &*worker.jail,
            "name": self.name,
            "path": self.program.path.to_string_lossy(),
            "options": self.program.options,
        });
        let loaded = self.ask_for(worker, request, None).await;
        self.unusable = loaded.is_err();
        if self.unusable {
            if let Some(helper) = self.helper.take() {
                helper.end().await;
            }
        } else if self.started {
            // the one before it is gone, and with it whatever its start had set up
            let text = format!("[{}] action '{}': its helper process is started again", worker.jail, self.name);
            worker.notice(text);
            let request = json!({ "do": "call", "method": "start" });
            if let Err(trouble) = self.ask_for(worker, request, None).await {
                self.tell(worker, "Failed to start", "", trouble);
            }
        }
        loaded.map(|_| ())
    }

    /// Has the helper do something; one that breaks is given up.
    async fn ask_for(&mut self, worker: &Worker, mut request: Json, ticket: Option<&Ticket>) -> Result<Json, Trouble> {
        let Some(helper) = &mut self.helper else {
            return Err(Trouble { text: Error::Ended.to_string(), raised: None });
        };
        request["bantime"] = worker.facts.bantime.into();
        let limit = self.traits.timeout.unwrap_or(TIMEOUT).clamp(0.01, MAX_TIMEOUT);
        let log = |message| said(worker, &self.name, message);
        let host = || async {
            let prefix = ticket?.address().prefix().filter(|prefix| prefix.is_host())?;
            worker.hosts.name(prefix.address()).await.map(|name| name.to_string())
        };
        let outcome = helper.ask(&request, Duration::from_secs_f64(limit), log, host).await;
        let printed = helper.printed();
        let well = matches!(outcome, Ok(Outcome::Done { .. }));
        let severity = if well { Severity::Debug } else { Severity::Error };
        for line in printed.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).take(MAX_LINES) {
            let line: String = String::from_utf8_lossy(line).chars().take(MAX_TEXT).collect();
            let text = format!("[{}] action '{}' -- stderr: '{}'", worker.jail, self.name, escaped(&line));
            (worker.report)(severity, "utils", text);
        }
        match outcome {
            Ok(Outcome::Done { value, traits }) => {
                self.traits = traits;
                Ok(value)
            }
            Ok(Outcome::Raised(raised)) => {
                let place = if raised.place.is_empty() { String::new() } else { format!("{}: ", raised.place) };
                Err(Trouble { text: place + &raised.text, raised: Some(raised) })
            }
            Err(error) => {
                if let Some(helper) = self.helper.take() {
                    helper.put_down().await;
                }
                Err(Trouble { text: error.to_string(), raised: None })
            }
        }
    }

    /// Says what went wrong with a ban, if anything.
    fn tell_of(&self, worker: &Worker, verb: &str, ticket: &Ticket, done: Result<bool, Trouble>) {
        if let Err(trouble) = done {
            let about = format!(" info '{}'", shown(&ticket.id.to_string()));
            self.tell(worker, &format!("Failed to execute {verb}"), &about, trouble);
        }
    }

    /// Says what went wrong.
    fn tell(&self, worker: &Worker, what: &str, about: &str, trouble: Trouble) {
        let (jail, name, text) = (&worker.jail, &self.name, escaped(&trouble.text));
        worker.error(ACTIONS, format!("{what} jail '{jail}' action '{name}'{about}: {text}"));
        for line in trouble.raised.iter().flat_map(|raised| raised.trace.lines()) {
            (worker.report)(Severity::Debug, ACTIONS, format!("  {}", escaped(line)));
        }
    }
}

/// A message of an action, as the log has it.
fn said(worker: &Worker, action: &str, message: Message) {
    match message {
        Message::Log(level, part, text) => {
            let severity = match level {
                50.. => Severity::Critical,
                40.. => Severity::Error,
                30.. => Severity::Warning,
                25.. => Severity::Notice,
                20.. => Severity::Info,
                _ => Severity::Debug,
            };
            let part: String =
                part.chars().filter(|c| c.is_ascii_alphanumeric() || "._-".contains(*c)).take(64).collect();
            (worker.report)(severity, &part, escaped(&text));
        }
        Message::Cut => {
            let text = format!("[{}] action '{action}' says too much; its further messages are left out", worker.jail);
            (worker.report)(Severity::Warning, ACTIONS, text);
        }
    }
}

/// A text as one line of the log.
fn escaped(text: &str) -> String {
    shown(text).replace('\n', "\\n")
}

/// The kind of failure that clients are told of an exception.
fn kind(raised: &Raised) -> FailureKind {
    let known = |name: &String| {
        Some(match name.as_str() {
            "ValueError" => FailureKind::Value,
            "IndexError" => FailureKind::Index,
            "KeyError" => FailureKind::Key,
            "AttributeError" => FailureKind::Attribute,
            "TypeError" => FailureKind::Type,
            "RuntimeError" => FailureKind::Runtime,
            "LookupError" => FailureKind::Lookup,
            _ => return None,
        })
    };
    raised.kinds.iter().find_map(known).unwrap_or(FailureKind::Exception)
}

/// What an action is told about a ban, in the order in which Fail2Ban lists it.
fn info(ticket: &Ticket, worker: &Worker) -> Json {
    let joined = |lines: &[Arc<str>]| lines.join("\n");
    let matches = joined(&ticket.matches);
    let (everywhere, here) = match &ticket.history {
        Some(history) => (history.everywhere.as_ref(), history.here.as_ref()),
        None => (None, None),
    };
    // without a ban on record, what is known of this one
    let lines = |history: Option<&super::History>| history.map_or_else(|| matches.clone(), |h| joined(&h.matches));
    let times = |history: Option<&super::History>| history.map_or(ticket.failures, |h| h.failures);
    // a number as it was, whole or not
    let time: Json = match ticket.time.parse::<i64>() {
        Ok(whole) => whole.into(),
        Err(_) => ticket.time.parse::<f64>().map_or(Json::Null, Json::from),
    };
    let facts = &worker.facts;
    json!({
        "ip": ticket.address().to_string(),
        "family": ticket.family().map(Family::name),
        "ip-rev": template::reversed(ticket.address()),
        "ip-host": null,
        "fid": ticket.id.to_string(),
        "failures": ticket.failures,
        "time": time,
        "bantime": ticket.bantime,
        "bancount": ticket.bancount,
        "matches": matches,
        "restored": u8::from(ticket.restored),
        "F-*": ticket.literal.as_ref().map_or(Json::Null, |literal| wire::pack(&literal.captures)),
        "ipmatches": lines(everywhere),
        "ipjailmatches": lines(here),
        "ipfailures": times(everywhere),
        "ipjailfailures": times(here),
        "raw-ticket": ticket.literal.as_ref().map(|literal| &literal.ticket),
        "jail.banned": facts.banned,
        "jail.banned_total": facts.banned_total,
        "jail.found": facts.found,
        "jail.found_total": facts.found_total,
    })
}
