//! The call order of an action's commands: start on demand, ban, check, repair, flush, stop.
//!
//! Who reads this beside Fail2Ban's manual: a *family* here is `None` for what an action does once
//! for all, as at the start of a jail, where no parameter depends on the family.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::command::{self, Outcome};
use super::hosts::Hosts;
use super::queue::{Report, Severity};
use super::template::{self, Case, Script};
use super::{Facts, Family, Properties, Ticket};
use crate::address::Id;

/// The environment of banned ones who are seen again is checked that often, in seconds.
const CHECK_EVERY: f64 = 3.0;
/// Lines of each stream of a command that are logged.
const MAX_LINES: usize = 20;
/// Part of the log for what commands did.
const UTILS: &str = "utils";
/// Part of the log for what became of bans.
pub(super) const ACTIONS: &str = "actions";
/// Part of the log for checks and repairs.
const ACTION: &str = "CommandAction";

/// An action of a jail, and how far it got.
pub(super) struct Action {
    pub name: String,
    pub properties: Properties,
    pub timeout: Duration,
    /// Families in the order they were first of interest.
    places: Vec<Place>,
    /// Start commands that ran, so that equal ones of several families run once.
    start_texts: Vec<String>,
    /// Whose bans were carried out since the last repair, or at least tried.
    done: HashSet<Id>,
}

/// How far an action got in a family.
struct Place {
    family: Option<Family>,
    /// Whether what bans need is set up.
    started: bool,
    /// Whether something was banned.
    banned: bool,
}

impl Action {
    pub fn new(name: String, properties: Properties, timeout: Duration) -> Action {
        Action { name, properties, timeout, places: Vec::new(), start_texts: Vec::new(), done: HashSet::new() }
    }

    fn flag(&self, name: &str) -> Option<bool> {
        let text = self.properties.get(name)?.to_ascii_lowercase();
        Some(matches!(text.as_str(), "1" | "on" | "true" | "yes"))
    }

    /// Whether a command is there and not empty.
    fn has(&self, command: &str) -> bool {
        self.properties.get(command).is_some_and(|text| !text.trim().is_empty())
    }

    /// Whether the start command waits for the first ban of a family.
    fn on_demand(&self) -> bool {
        self.flag("actionstart_on_demand").unwrap_or_else(|| self.properties.is_conditional())
    }

    /// Whether a ban is to be made anew, because a repair has undone it.
    pub fn misses(&self, ticket: &Ticket) -> bool {
        !self.done.contains(&ticket.id) && !self.passes_over(ticket)
    }

    /// Whether this ban is none of this action's business.
    fn passes_over(&self, ticket: &Ticket) -> bool {
        ticket.restored && self.flag("norestored") == Some(true)
    }

    /// How far this got in a family.
    fn place(&mut self, family: Option<Family>) -> &mut Place {
        let known = self.places.iter().position(|place| place.family == family);
        let at = known.unwrap_or_else(|| {
            self.places.push(Place { family, started: false, banned: false });
            self.places.len() - 1
        });
        &mut self.places[at]
    }

    /// Families of which something holds.
    fn families(&self, which: impl Fn(&Place) -> bool) -> Vec<Option<Family>> {
        self.places.iter().filter(|place| which(place)).map(|place| place.family).collect()
    }
}

/// The family a ticket belongs to; identifiers of other kinds go with IPv4.
fn family_of(ticket: &Ticket) -> Option<Family> {
    Some(ticket.family().unwrap_or(Family::Inet4))
}

/// Runs the commands of a jail's actions.
pub(super) struct Worker {
    pub jail: Arc<str>,
    pub report: Report,
    pub hosts: Hosts,
    /// Figures of the jail at the time of the event.
    pub facts: Facts,
    /// When the environment was last checked because somebody was seen again, in seconds.
    checked: f64,
}

impl Worker {
    pub fn new(jail: Arc<str>, report: Report) -> Worker {
        Worker { jail, report, hosts: Hosts::default(), facts: Facts::default(), checked: f64::NEG_INFINITY }
    }

    /// The jail starts.
    pub async fn start(&self, action: &mut Action) {
        if action.on_demand() {
            return;
        }
        let all: &[Option<Family>] = match action.properties.is_conditional() {
            true if self.facts.without_ipv6 => &[Some(Family::Inet4)],
            true => &[Some(Family::Inet4), Some(Family::Inet6)],
            false => &[None],
        };
        for family in all {
            if !self.start_family(action, *family).await {
                let text = self.failed("start", "starting", action);
                self.error(ACTIONS, text);
            }
        }
    }

    /// Runs the start command of a family unless it, or one of the same text, ran before.
    async fn start_family(&self, action: &mut Action, family: Option<Family>) -> bool {
        if action.place(family).started {
            return true;
        }
        let Some(text) = self.prepared(action, "actionstart", family).await else { return false };
        if !action.start_texts.contains(&text) && !self.run_prepared(action, &text, None).await {
            return false;
        }
        action.start_texts.push(text);
        action.place(family).started = true;
        true
    }

    /// Bans.
    pub async fn ban(&self, action: &mut Action, ticket: &Ticket) {
        self.ban_by(action, "actionban", ticket).await;
    }

    /// Bans somebody whose ban was undone.
    pub async fn reban(&self, action: &mut Action, ticket: &Ticket) {
        let what = if action.has("actionreban") { "actionreban" } else { "actionban" };
        self.ban_by(action, what, ticket).await;
    }

    async fn ban_by(&self, action: &mut Action, what: &str, ticket: &Ticket) {
        if action.passes_over(ticket) {
            return;
        }
        let family = family_of(ticket);
        action.done.insert(ticket.id.clone());
        if action.on_demand() && !self.start_family(action, family).await {
            let id = shown(&ticket.id.to_string());
            let text = format!("{}: Error banning {id}", self.about("execute ban", action));
            return self.error(ACTIONS, text);
        }
        action.place(family).banned = true;
        if self.checked(action, what, family, ticket, true).await {
            // what a ban of a family needs is there, however it came to be
            action.place(family).started = true;
        }
        // a repair on the way has forgotten it
        action.done.insert(ticket.id.clone());
    }

    /// A running ban got longer.
    pub async fn prolong(&self, action: &mut Action, ticket: &Ticket) {
        let family = family_of(ticket);
        if action.has("actionprolong") && action.place(family).banned {
            self.checked(action, "actionprolong", family, ticket, true).await;
        }
    }

    /// Lifts a ban, if this action has one in that family.
    pub async fn unban(&self, action: &mut Action, ticket: &Ticket) {
        let family = family_of(ticket);
        action.done.remove(&ticket.id);
        if action.place(family).banned {
            let repair = action.flag("actionrepair_on_unban") == Some(true);
            self.checked(action, "actionunban", family, ticket, repair).await;
        }
    }

    /// Whether the environment is to be looked at, because somebody who is banned was seen again.
    pub fn is_time_to_check(&mut self) -> bool {
        let now = self.facts.now.as_f64();
        let due = !(0.0..=CHECK_EVERY).contains(&(now - self.checked));
        if due {
            self.checked = now;
        }
        due
    }

    /// Checks the environment, and repairs it.
    pub async fn check(&self, action: &mut Action) {
        if action.has("actioncheck") {
            for family in action.families(|_| true) {
                self.sane(action, family, true).await;
            }
        }
    }

    /// Runs the flush command; false if there is none or it failed, so that each ban is lifted singly.
    pub async fn flush(&self, action: &mut Action) -> bool {
        if !action.has("actionflush") {
            return false;
        }
        self.notice(format!("[{}] Flush ticket(s) with {}", self.jail, action.name));
        let failed = self.each_once(action, "actionflush", &action.families(|place| place.banned)).await;
        action.places.iter_mut().for_each(|place| place.banned = failed.contains(&place.family));
        if failed.is_empty() {
            action.done.clear();
            return true;
        }
        let text =
            format!("Failed to flush bans in jail '{}' action '{}': Error flushing action", self.jail, action.name);
        self.error(ACTIONS, format!("{text} Jail('{}')/{}: 'Script error'", self.jail, action.name));
        false
    }

    /// The configuration was read again.
    pub async fn reload(&self, action: &Action) {
        if action.has("actionreload") {
            self.each_once(action, "actionreload", &action.families(|place| place.started)).await;
        }
    }

    /// The jail stops, or goes on without this action.
    pub async fn stop(&self, action: &mut Action) {
        let families = action.families(|place| place.started);
        action.places.clear();
        action.start_texts.clear();
        if !self.each_once(action, "actionstop", &families).await.is_empty() {
            let text = self.failed("stop", "stopping", action);
            self.error(ACTIONS, text);
        }
    }

    /// Runs a command for some families, one of equal text once; those it failed for.
    async fn each_once(&self, action: &Action, what: &str, families: &[Option<Family>]) -> Vec<Option<Family>> {
        let mut done: Vec<String> = Vec::new();
        let mut failed = Vec::new();
        for family in families {
            match self.prepared(action, what, *family).await {
                Some(text) if done.contains(&text) => {}
                Some(text) if self.run_prepared(action, &text, None).await => done.push(text),
                _ => failed.push(*family),
            }
        }
        failed
    }

    /// Runs a command for a ticket; if it fails, checks the environment, repairs it and tries once more.
    async fn checked(
        &self,
        action: &mut Action,
        what: &str,
        family: Option<Family>,
        ticket: &Ticket,
        repair: bool,
    ) -> bool {
        if self.run(action, what, family, Some(ticket)).await {
            return true;
        }
        if self.sane(action, family, repair).await {
            // a repair may have emptied everything, and this ban is there again in a moment
            if what != "actionunban" {
                action.place(family).banned = true;
            }
            if self.run(action, what, family, Some(ticket)).await {
                return true;
            }
        }
        let (verb, doing) = match what {
            "actionunban" => ("unban", "unbanning"),
            "actionprolong" => ("prolong", "prolonging"),
            _ => ("ban", "banning"),
        };
        let id = shown(&ticket.id.to_string());
        let text = format!("{}: Error {doing} {id}", self.about(&format!("execute {verb}"), action));
        self.error(ACTIONS, text);
        false
    }

    /// Whether the check command is content, if need be after a repair.
    async fn sane(&self, action: &mut Action, family: Option<Family>, repair: bool) -> bool {
        if self.run(action, "actioncheck", family, None).await {
            return true;
        }
        if !repair {
            self.error(ACTION, "Invariant check failed. Unban is impossible.".to_owned());
            return false;
        }
        self.error(ACTION, "Invariant check failed. Trying to restore a sane environment".to_owned());
        // what was banned is not there any more, wherever this leads to
        action.place(family).banned = false;
        action.done.clear();
        let good = if action.has("actionrepair") {
            self.run(action, "actionrepair", family, None).await
        } else {
            if action.place(family).started {
                self.run(action, "actionstop", family, None).await;
                action.place(family).started = false;
                action.start_texts.clear();
            }
            self.start_family(action, family).await
        };
        if good && self.run(action, "actioncheck", family, None).await {
            return true;
        }
        action.place(family).started = false;
        action.start_texts.clear();
        (self.report)(Severity::Critical, ACTION, "Unable to restore environment".to_owned());
        false
    }

    /// A command with the action's properties inserted.
    async fn prepared(&self, action: &Action, what: &str, family: Option<Family>) -> Option<String> {
        let command = action.properties.get_for(what, family).unwrap_or_default();
        let own = match template::wants_own(command, &action.properties) {
            true => Some(self.hosts.own().await),
            false => None,
        };
        let text = template::prepare(command, &action.properties, family, own.as_deref());
        // without a ban the family is part of the text
        let of_family = |text: String| text.replace("<family>", family.map_or("", Family::name));
        match text {
            Ok(text) if matches!(what, "actionban" | "actionreban" | "actionunban" | "actionprolong") => Some(text),
            Ok(text) => Some(of_family(text)),
            Err(error) => {
                self.error(ACTION, format!("jail '{}' action '{}': {what}: {error}", self.jail, action.name));
                None
            }
        }
    }

    async fn run(&self, action: &Action, what: &str, family: Option<Family>, ticket: Option<&Ticket>) -> bool {
        match self.prepared(action, what, family).await {
            Some(text) => self.run_prepared(action, &text, ticket).await,
            None => false,
        }
    }

    async fn run_prepared(&self, action: &Action, text: &str, ticket: Option<&Ticket>) -> bool {
        let address = ticket.and_then(|ticket| ticket.address().prefix()).filter(|prefix| prefix.is_host());
        let host = match address {
            Some(prefix) if template::wants_host(text) => self.hosts.name(prefix.address()).await,
            _ => None,
        };
        match template::fill(text, &Case { ticket, facts: &self.facts, host: host.as_deref() }) {
            Ok(script) => self.execute(action, &script).await,
            Err(error) => {
                self.error(ACTION, format!("jail '{}' action '{}': {error}", self.jail, action.name));
                false
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
                let text = format!("jail '{}' action '{}': cannot run /bin/sh: {error}", self.jail, action.name);
                self.error(UTILS, text);
                false
            }
        }
    }

    /// Says what a command did, as Fail2Ban does: what ran, what it wrote, how it ended.
    fn tell(&self, action: &Action, script: &Script, outcome: &Outcome, severity: Severity) {
        let mark = format!("{:x}", std::ptr::from_ref(outcome) as usize);
        let tell = |text: String| (self.report)(severity, UTILS, format!("{mark} -- {text}"));
        tell(format!("exec: {}", shown(&script.text)));
        for (stream, bytes) in [("stdout", &outcome.stdout), ("stderr", &outcome.stderr)] {
            for line in bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty()).take(MAX_LINES) {
                tell(format!("{stream}: '{}'", shown(&String::from_utf8_lossy(line))));
            }
        }
        if outcome.timed_out {
            tell(format!("timed out after {} seconds.", action.timeout.as_secs_f64()));
        }
        use std::os::unix::process::ExitStatusExt;
        tell(match outcome.status {
            Some(status) if status.success() => "returned successfully 0".to_owned(),
            Some(status) => match (status.code(), status.signal()) {
                (Some(code), _) => format!("returned {code}"),
                (None, Some(signal)) => format!("killed by signal {signal}"),
                (None, None) => "ended".to_owned(),
            },
            None => "could not be waited for".to_owned(),
        });
        if outcome.status.and_then(|status| status.code()) == Some(127) {
            let text = "HINT on 127: a program that the command names was not found".to_owned();
            (self.report)(Severity::Info, UTILS, text);
        }
    }

    /// `Failed to start jail 'J' action 'A': …`
    fn failed(&self, verb: &str, doing: &str, action: &Action) -> String {
        let place = format!("Jail('{}')/{}", self.jail, action.name);
        format!("{}: Error {doing} action {place}: 'Script error'", self.about(verb, action))
    }

    fn about(&self, verb: &str, action: &Action) -> String {
        format!("Failed to {verb} jail '{}' action '{}'", self.jail, action.name)
    }

    pub fn notice(&self, text: String) {
        (self.report)(Severity::Notice, ACTIONS, text);
    }

    pub fn error(&self, part: &str, text: String) {
        (self.report)(Severity::Error, part, text);
    }
}

/// A text for the log: line by line readable, nothing in it that a terminal would obey.
pub(super) fn shown(text: &str) -> String {
    text.chars()
        .flat_map(|c| if c.is_control() && c != '\n' { c.escape_default().collect::<Vec<_>>() } else { vec![c] })
        .collect()
}
