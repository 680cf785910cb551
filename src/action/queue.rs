//! The actions of one jail, run one after the other in a task of their own.
//!
//! The queue is not bounded by a number: it holds at most one entry for each ban and unban,
//! and a ban that only a command can carry out must not be dropped because another one hangs.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::command::{self, Outcome};
use super::template::{self, Script};
use super::{Family, Properties, Ticket};

/// The limit of a command that does not name one, in seconds.
const DEFAULT_TIMEOUT: f64 = 60.0;
/// The longest limit that is accepted, in seconds.
const MAX_TIMEOUT: f64 = 86_400.0;

/// Something that the actions of a jail are to do.
#[derive(Debug)]
pub enum Event {
    /// One more action, behind the others.
    Add {
        /// Its name.
        name: String,
        /// Its commands and parameters.
        properties: Properties,
        /// Limit of each command in seconds, if the action names one.
        timeout: Option<f64>,
        /// Whether to start it now: the jail runs already.
        start: bool,
        /// What is banned already; for an action that is started now.
        bans: Vec<Arc<Ticket>>,
    },
    /// New properties for an action.
    Change {
        /// Its name.
        name: String,
        /// All its properties.
        properties: Properties,
        /// Limit of each command in seconds, if the action names one.
        timeout: Option<f64>,
    },
    /// Remove an action: its bans are lifted, then it is stopped.
    Remove {
        /// Its name.
        name: String,
        /// The jail's bans.
        bans: Vec<Arc<Ticket>>,
    },
    /// The jail starts.
    Start,
    /// Someone is banned.
    Ban(Arc<Ticket>),
    /// A running ban got longer.
    Prolong(Arc<Ticket>),
    /// A ban ended.
    Unban(Arc<Ticket>),
    /// All of these end at once.
    Flush(Vec<Arc<Ticket>>),
    /// The configuration was read again.
    Reload,
    /// The jail stops, after all its bans were flushed; answers when the last command has ended.
    Stop(oneshot::Sender<()>),
}

/// How much a message matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Of interest when something is looked for.
    Debug,
    /// As usual.
    Info,
    /// Something did not work.
    Error,
    /// Bans by this action have no effect.
    Critical,
}

/// Where messages go.
pub type Report = Arc<dyn Fn(Severity, String) + Send + Sync>;

/// The sending end of a jail's queue.
#[derive(Clone, Debug)]
pub struct Queue(mpsc::UnboundedSender<Event>);

impl Queue {
    /// Starts the task for a jail. It ends after [`Event::Stop`], or when all queues are dropped.
    pub fn start(runtime: &tokio::runtime::Handle, jail: Arc<str>, report: Report) -> Queue {
        let (sender, receiver) = mpsc::unbounded_channel();
        runtime.spawn(work(Worker { jail, report }, receiver));
        Queue(sender)
    }

    /// Appends an event.
    pub fn send(&self, event: Event) {
        // only after `Stop`, and then there is nobody left to tell
        let _ = self.0.send(event);
    }
}

struct Worker {
    jail: Arc<str>,
    report: Report,
}

struct Action {
    name: String,
    properties: Properties,
    timeout: Duration,
    /// Families whose start command ran, with what it was, so that equal commands run once.
    started: Vec<(Option<Family>, Script)>,
    /// Families that something was banned in.
    banned: Vec<Option<Family>>,
}

async fn work(worker: Worker, mut events: mpsc::UnboundedReceiver<Event>) {
    let mut actions: Vec<Action> = Vec::new();
    while let Some(event) = events.recv().await {
        match event {
            Event::Add { name, properties, timeout, start, bans } => {
                let mut action =
                    Action { name, properties, timeout: limit(timeout), started: Vec::new(), banned: Vec::new() };
                if start {
                    worker.start(&mut action).await;
                }
                for ticket in &bans {
                    worker.ban(&mut action, ticket).await;
                }
                actions.push(action);
            }
            Event::Change { name, properties, timeout } => {
                if let Some(action) = actions.iter_mut().find(|a| a.name == name) {
                    action.properties = properties;
                    action.timeout = limit(timeout);
                }
            }
            Event::Remove { name, bans } => {
                if let Some(at) = actions.iter().position(|a| a.name == name) {
                    let mut action = actions.remove(at);
                    worker.release(&mut action, &bans).await;
                    worker.stop(&mut action).await;
                }
            }
            Event::Start => {
                for action in &mut actions {
                    worker.start(action).await;
                }
            }
            Event::Ban(ticket) => {
                for action in &mut actions {
                    worker.ban(action, &ticket).await;
                }
            }
            Event::Prolong(ticket) => {
                for action in &mut actions {
                    worker.prolong(action, &ticket).await;
                }
            }
            Event::Unban(ticket) => {
                for action in &mut actions {
                    worker.unban(action, &ticket).await;
                }
            }
            Event::Flush(tickets) => {
                for action in &mut actions {
                    worker.release(action, &tickets).await;
                }
            }
            Event::Reload => {
                for action in &actions {
                    for family in action.families() {
                        worker.run(action, "actionreload", family, None).await;
                    }
                }
            }
            Event::Stop(done) => {
                for action in actions.iter_mut().rev() {
                    worker.stop(action).await;
                }
                // whoever asked may have given up waiting
                let _ = done.send(());
                return;
            }
        }
    }
}

fn limit(seconds: Option<f64>) -> Duration {
    Duration::from_secs_f64(seconds.unwrap_or(DEFAULT_TIMEOUT).clamp(0.01, MAX_TIMEOUT))
}

impl Action {
    /// Families that the start command ran for.
    fn families(&self) -> Vec<Option<Family>> {
        self.started.iter().map(|(family, _)| *family).collect()
    }

    fn flag(&self, name: &str) -> Option<bool> {
        let text = self.properties.get(name)?.to_ascii_lowercase();
        Some(matches!(text.as_str(), "1" | "on" | "true" | "yes"))
    }

    /// Whether the start command waits for the first ban of a family.
    fn on_demand(&self) -> bool {
        self.flag("actionstart_on_demand").unwrap_or_else(|| self.properties.is_conditional())
    }

    /// The family a ticket belongs to, as far as this action makes a difference.
    fn family_of(&self, ticket: &Ticket) -> Option<Family> {
        if self.properties.is_conditional() || self.on_demand() {
            Some(ticket.family().unwrap_or(Family::Inet4))
        } else {
            None
        }
    }
}

impl Worker {
    async fn start(&self, action: &mut Action) {
        if action.on_demand() {
            return;
        }
        if action.properties.is_conditional() {
            for family in [Family::Inet4, Family::Inet6] {
                self.start_family(action, Some(family)).await;
            }
        } else {
            self.start_family(action, None).await;
        }
    }

    /// Runs the start command of a family unless it, or one of the same text, ran before.
    async fn start_family(&self, action: &mut Action, family: Option<Family>) -> bool {
        if action.started.iter().any(|(f, _)| *f == family) {
            return true;
        }
        let Some(script) = self.render(action, "actionstart", family, None) else { return false };
        if !action.started.iter().any(|(_, earlier)| *earlier == script) && !self.execute(action, &script).await {
            self.error(format!("Failed to start jail '{}' action '{}': Error starting action", self.jail, action.name));
            return false;
        }
        action.started.push((family, script));
        true
    }

    async fn ban(&self, action: &mut Action, ticket: &Ticket) {
        if ticket.restored && action.flag("norestored") == Some(true) {
            return;
        }
        let family = action.family_of(ticket);
        if !self.start_family(action, family).await {
            return;
        }
        if !action.banned.contains(&family) {
            action.banned.push(family);
        }
        self.checked(action, "actionban", family, ticket, true).await;
    }

    async fn prolong(&self, action: &mut Action, ticket: &Ticket) {
        let family = action.family_of(ticket);
        if action.banned.contains(&family) {
            self.checked(action, "actionprolong", family, ticket, true).await;
        }
    }

    async fn unban(&self, action: &mut Action, ticket: &Ticket) {
        let family = action.family_of(ticket);
        if action.banned.contains(&family) {
            let repair = action.flag("actionrepair_on_unban") == Some(true);
            self.checked(action, "actionunban", family, ticket, repair).await;
        }
    }

    /// Lifts all bans of an action: at once if it knows how, else one by one.
    async fn release(&self, action: &mut Action, bans: &[Arc<Ticket>]) {
        if !self.flush(action).await {
            for ticket in bans {
                self.unban(action, ticket).await;
            }
        }
    }

    /// Runs the flush command; false if there is none or it failed, so that each ban is lifted singly.
    async fn flush(&self, action: &mut Action) -> bool {
        if action.properties.get("actionflush").is_none_or(|text| text.trim().is_empty()) {
            return false;
        }
        (self.report)(Severity::Info, format!("[{}] Flush ticket(s) with {}", self.jail, action.name));
        let mut good = true;
        let mut done: Vec<Script> = Vec::new();
        for family in std::mem::take(&mut action.banned) {
            let Some(script) = self.render(action, "actionflush", family, None) else { continue };
            if !done.contains(&script) {
                if !self.execute(action, &script).await {
                    good = false;
                    action.banned.push(family);
                }
                done.push(script);
            }
        }
        good
    }

    async fn stop(&self, action: &mut Action) {
        let mut done: Vec<Script> = Vec::new();
        for (family, _) in std::mem::take(&mut action.started) {
            let Some(script) = self.render(action, "actionstop", family, None) else { continue };
            if !done.contains(&script) {
                self.execute(action, &script).await;
                done.push(script);
            }
        }
    }

    /// Runs a command for a ticket; if it fails, checks the environment, repairs it and tries once more.
    async fn checked(&self, action: &mut Action, what: &str, family: Option<Family>, ticket: &Ticket, repair: bool) {
        if self.run(action, what, family, Some(ticket)).await {
            return;
        }
        if self.sane(action, family, repair).await && self.run(action, what, family, Some(ticket)).await {
            return;
        }
        let verb = what.trim_start_matches("action");
        self.error(format!(
            "Failed to execute {verb} jail '{}' action '{}' for {}",
            self.jail,
            action.name,
            shown(&ticket.id.to_string())
        ));
    }

    /// Whether the check command is content, if need be after a repair.
    async fn sane(&self, action: &mut Action, family: Option<Family>, repair: bool) -> bool {
        if self.run(action, "actioncheck", family, None).await {
            return true;
        }
        if !repair {
            self.error("Invariant check failed. Unban is impossible.".to_owned());
            return false;
        }
        self.error("Invariant check failed. Trying to restore a sane environment".to_owned());
        if action.properties.get("actionrepair").is_some_and(|text| !text.trim().is_empty()) {
            if !self.run(action, "actionrepair", family, None).await {
                action.started.retain(|(f, _)| *f != family);
            }
        } else {
            if action.started.iter().any(|(f, _)| *f == family) {
                self.run(action, "actionstop", family, None).await;
                action.started.retain(|(f, _)| *f != family);
            }
            self.start_family(action, family).await;
        }
        let good = self.run(action, "actioncheck", family, None).await;
        if !good {
            (self.report)(Severity::Critical, "Unable to restore environment".to_owned());
        }
        good
    }

    async fn run(&self, action: &Action, what: &str, family: Option<Family>, ticket: Option<&Ticket>) -> bool {
        match self.render(action, what, family, ticket) {
            Some(script) => self.execute(action, &script).await,
            None => false,
        }
    }

    fn render(&self, action: &Action, what: &str, family: Option<Family>, ticket: Option<&Ticket>) -> Option<Script> {
        let command = action.properties.get_for(what, family).unwrap_or_default();
        match template::render(command, &action.properties, family, ticket) {
            Ok(script) => Some(script),
            Err(error) => {
                self.error(format!("jail '{}' action '{}': {what}: {error}", self.jail, action.name));
                None
            }
        }
    }

    /// Runs a script; an empty one succeeds without a process.
    async fn execute(&self, action: &Action, script: &Script) -> bool {
        if script.text.trim().is_empty() {
            return true;
        }
        match command::run(script, action.timeout).await {
            Ok(outcome) => {
                let good = outcome.success();
                self.tell(action, script, &outcome, if good { Severity::Debug } else { Severity::Error });
                good
            }
            Err(error) => {
                self.error(format!("jail '{}' action '{}': cannot run /bin/sh: {error}", self.jail, action.name));
                false
            }
        }
    }

    /// Says what a command did, as Fail2Ban does: what ran, what it wrote, how it ended.
    fn tell(&self, action: &Action, script: &Script, outcome: &Outcome, severity: Severity) {
        let mark = format!("{:x}", std::ptr::from_ref(outcome) as usize);
        (self.report)(severity, format!("{mark} -- exec: {}", shown(&script.text)));
        for (stream, bytes) in [("stdout", &outcome.stdout), ("stderr", &outcome.stderr)] {
            for line in bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty()).take(20) {
                let line = String::from_utf8_lossy(line);
                (self.report)(severity, format!("{mark} -- {stream}: '{}'", shown(&line)));
            }
        }
        if outcome.timed_out {
            (self.report)(severity, format!("{mark} -- timed out after {} seconds.", action.timeout.as_secs_f64()));
        }
        use std::os::unix::process::ExitStatusExt;
        let ending = match outcome.status {
            Some(status) if status.success() => "returned successfully 0".to_owned(),
            Some(status) => match (status.code(), status.signal()) {
                (Some(code), _) => format!("returned {code}"),
                (None, Some(signal)) => format!("killed by signal {signal}"),
                (None, None) => "ended".to_owned(),
            },
            None => "could not be waited for".to_owned(),
        };
        (self.report)(severity, format!("{mark} -- {ending}"));
        if outcome.status.and_then(|status| status.code()) == Some(127) {
            (self.report)(Severity::Info, "HINT on 127: a program that the command names was not found".to_owned());
        }
    }

    fn error(&self, text: String) {
        (self.report)(Severity::Error, text);
    }
}

/// A text for the log: line by line readable, nothing in it that a terminal would obey.
fn shown(text: &str) -> String {
    text.chars()
        .flat_map(|c| if c.is_control() && c != '\n' { c.escape_default().collect::<Vec<_>>() } else { vec![c] })
        .collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;
    use crate::address::Id;

    fn ticket(ip: &str) -> Arc<Ticket> {
        Arc::new(Ticket {
            id: Id::parse(ip),
            address: None,
            failures: 1,
            time: "1.0".to_owned(),
            bantime: 600,
            bancount: 1,
            restored: false,
            matches: Vec::new(),
            data: Vec::new(),
        })
    }

    /// Runs the events and returns what the commands S P B U F wrote.
    async fn played(extra: &[(&str, &str)], events: Vec<Event>) -> String {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let mut properties = Properties::default();
        for (name, text) in [
            ("actionstart", "S <bt>"),
            ("actionstop", "P <bt>"),
            ("actionban", "B <ip>"),
            ("actionunban", "U <ip>"),
            ("actionflush", "F <bt>"),
        ] {
            properties.set(name, format!("echo {text} >> {}", out.display()));
        }
        properties.set("bt", "4".to_owned());
        for (name, value) in extra {
            properties.set(name, (*value).to_owned());
        }
        let queue = Queue::start(&tokio::runtime::Handle::current(), "j".into(), Arc::new(|_, _| ()));
        queue.send(Event::Add { name: "a".to_owned(), properties, timeout: None, start: false, bans: Vec::new() });
        for event in events {
            queue.send(event);
        }
        let (done, ended) = oneshot::channel();
        queue.send(Event::Stop(done));
        ended.await.unwrap();
        std::fs::read_to_string(out).unwrap_or_default().replace('\n', ", ")
    }

    fn bans() -> Vec<Event> {
        let (v4, v6) = (ticket("192.0.2.1"), ticket("2001:db8::1"));
        vec![Event::Start, Event::Ban(v4.clone()), Event::Ban(v6.clone()), Event::Flush(vec![v4, v6])]
    }

    #[tokio::test]
    async fn an_action_without_conditional_parameters_starts_with_the_jail() {
        let seen = played(&[], bans()).await;
        assert_eq!(seen, "S 4, B 192.0.2.1, B 2001:db8::1, F 4, P 4, ");
    }

    #[tokio::test]
    async fn a_conditional_action_starts_with_the_first_ban_of_a_family() {
        let seen = played(&[("bt?family=inet6", "6")], bans()).await;
        assert_eq!(seen, "S 4, B 192.0.2.1, S 6, B 2001:db8::1, F 4, F 6, P 4, P 6, ");
    }

    #[tokio::test]
    async fn a_failing_ban_is_checked_and_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("again");
        let ban = format!("echo B >> {out}; test $(grep -c B {out}) -gt 1", out = out.display());
        played(&[("actionban", &ban)], vec![Event::Start, Event::Ban(ticket("192.0.2.1"))]).await;
        assert_eq!(std::fs::read_to_string(out).unwrap(), "B\nB\n");
    }
}
