//! What follows from a failure or a decision: for the kernel, the database, the log, the actions.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use crate::action::queue::Event as ActionEvent;
use crate::address::Id;
use crate::fail2ban::arithmetic::Number;
use crate::fail2ban::{database, time};
use crate::filter::scan::Tally;
use crate::filter::{Datum, Failure, Who};
use crate::firewall::Change;
use crate::jail::ignore::By;
use crate::jail::{self, Ban, Bans, Changed, Decision, Details, Grown, Past, Reason, Staleness, Verdict};
use crate::state::{self, Opened};
use crate::time::Time;

use super::causes;
use super::engine::{Engine, General};
use super::jail::Act;
use super::logging::{Level, shown};
use super::questions::{Answer, Question};
use super::told::Circumstances;

/// Odd times of a jail's lines are told of that often, in seconds.
const TELL_ODD: f64 = 86_400.0;
/// A banned one who is seen within so many seconds is no sign that the ban has no effect.
const AT_ONCE: f64 = 3.0;

impl Engine {
    /// A failure from a log.
    pub(super) fn failure(&mut self, name: &Arc<str>, failure: Failure, now: Time) {
        let Some(jail) = self.jails.get(name) else { return };
        let Who::Id(id) = &failure.who else { return self.ask(name, failure) };
        match jail.policy.rules.check(id) {
            Verdict::Ignored(by) => self.ignored(name, id, &by),
            Verdict::NotIgnored => {
                let id = id.clone();
                self.count(name, jail::Ticket::new(failure, id, now), now);
            }
            Verdict::Ask(_) => self.ask(name, failure),
        }
    }

    fn ignored(&mut self, name: &str, id: &Id, by: &By) {
        let text = format!("[{name}] Ignore {} by {by}", shown(&id.to_string()));
        self.effects.line(Level::INFO, "filter", text);
    }

    /// Has a failure asked about; it comes back as an answer.
    fn ask(&mut self, name: &Arc<str>, failure: Failure) {
        let Some(jail) = self.jails.get(name) else { return };
        let history = match &failure.who {
            Who::Id(id) if jail.wants.history => Some(self.histories(name, id)),
            _ => None,
        };
        let circumstances = Circumstances { facts: self.facts(name), history };
        let policy = jail.policy.clone();
        let question = Question { jail: name.clone(), tag: jail.tag, failure, policy, circumstances };
        if let Err(full) = self.questions.ask(question)
            && let Some(note) = full.note
        {
            self.effects.line(note.level, note.part, note.text);
        }
    }

    /// A failure that had to be asked about.
    pub(super) fn answer(&mut self, answer: Answer) {
        for note in answer.notes {
            self.effects.line(note.level, note.part, note.text);
        }
        // the jail may have gone, and come back as another one, in the meantime
        if self.jails.get(&answer.jail).is_none_or(|jail| jail.tag != answer.tag) {
            return;
        }
        let now = super::clock().now;
        for judged in answer.failures {
            match &judged.ignored {
                Some(by) if !judged.cached => self.ignored(&answer.jail, &judged.id, by),
                Some(_) => {}
                None => self.count(&answer.jail, jail::Ticket::new(judged.failure, judged.id, now), now),
            }
        }
    }

    /// Counts a failure of someone who is not ignored.
    pub(super) fn count(&mut self, name: &Arc<str>, ticket: jail::Ticket, now: Time) {
        let past = self.past(name, &ticket.id);
        let Some(jail) = self.jails.get_mut(name) else { return };
        let random = &mut self.random;
        let mut moment = jail::Moment { now, random: &mut || random.draw() };
        let decisions = jail.counts.failure(ticket, &past, &mut moment);
        self.carry_out(name, decisions, now);
        self.store_soon();
    }

    /// Earlier bans of someone, where that matters.
    pub(super) fn past(&mut self, name: &Arc<str>, id: &Id) -> Past {
        let Some(jail) = self.jails.get(name).filter(|jail| jail.counts.needs_past()) else { return Past::default() };
        let everywhere = jail.counts.increment().overalljails;
        let Some(state) = &self.state else { return Past::default() };
        let text = id.to_string();
        let mut known: HashMap<Arc<str>, jail::History> = match state.histories_of(&text) {
            Ok(rows) => rows.into_iter().map(|(jail, row)| (jail, history(row))).collect(),
            Err(error) => {
                self.effects.line(Level::ERROR, "database", causes(&error));
                HashMap::new()
            }
        };
        // What is not yet stored counts as well. It must not be stored for this: the position behind the
        // failures of a batch is known only when all of them are counted.
        let unstored = self.effects.unstored.contains(&*text);
        for change in self.effects.stored.iter().filter(|_| unstored) {
            match change {
                state::Change::Ban(ban) if *ban.id == *text => {
                    let history = jail::History { count: ban.count, time: ban.time, bantime: ban.bantime };
                    known.insert(ban.jail.clone(), history);
                }
                state::Change::Delete { jail, id } if **id == *text => _ = known.remove(jail),
                state::Change::DeleteAll(jail) => _ = known.remove(jail),
                _ => {}
            }
        }
        Past {
            here: known.get(name).copied(),
            everywhere: everywhere.then(|| known.into_values().reduce(jail::History::and)).flatten(),
        }
    }

    /// Turns decisions into effects.
    pub(super) fn carry_out(&mut self, name: &Arc<str>, decisions: Vec<Decision>, now: Time) {
        for decision in decisions {
            match decision {
                Decision::Found { id, time } => {
                    let text = format!("[{name}] Found {} - {}", shown(&id.to_string()), self.logger.day_time(time));
                    self.effects.line(Level::INFO, "filter", text);
                }
                Decision::Attempt { id, time } => {
                    let text = format!("[{name}] Attempt {} - {}", shown(&id.to_string()), self.logger.day_time(time));
                    self.effects.line(Level::INFO, "filter", text);
                }
                Decision::FoundBad { id, time, count, weight, limited, ban } => {
                    let weight = if limited { weight.to_string() } else { format!("{weight}.0") };
                    let ban = if ban { ", Ban" } else { "" };
                    let (id, time) = (shown(&id.to_string()), self.logger.day_time(time));
                    let text = format!("[{name}] Found {id}, bad - {time}, {count} # -> {weight}{ban}");
                    self.effects.line(Level::INFO, "observer", text);
                }
                Decision::Ban { ban, grown, .. } => self.ban(name, &ban, grown, now),
                Decision::Prolong(ban) => {
                    let Some(jail) = self.jails.get(name) else { continue };
                    let bantime = jail.counts.limits().bantime;
                    let changes = jail.places().filter_map(|place| change(place, &ban, bantime, now));
                    self.effects.kernel.extend(changes);
                    if jail.queue.is_some() {
                        let ticket = self.full_ticket(jail, &ban);
                        self.act(name, ActionEvent::Prolong(ticket));
                    }
                }
                Decision::AlreadyBanned { id, age } => {
                    self.banned_again(name, &id, age);
                    let level = match Staleness::of(age) {
                        Staleness::Usual => Level::DEBUG,
                        Staleness::Odd => Level::NOTICE,
                        Staleness::Bad => Level::WARNING,
                    };
                    self.effects.line(level, "actions", format!("[{name}] {} already banned", shown(&id.to_string())));
                }
                Decision::Expired(id) => {
                    let text = format!("[{name}] Ignore {}, expired bantime", shown(&id.to_string()));
                    self.effects.line(Level::INFO, "actions", text);
                }
                Decision::Unban { ban, reason } => self.unban(name, &ban, reason),
            }
        }
    }

    fn ban(&mut self, name: &Arc<str>, ban: &Ban, grown: Option<Grown>, now: Time) {
        let id = shown(&ban.id.to_string());
        if !ban.restored && ban.failures > 0 && self.guard.spares(&ban.id, now) {
            if let Some(jail) = self.jails.get_mut(name) {
                jail.counts.unban_all_of(std::slice::from_ref(&ban.id));
            }
            let text = format!(
                "[{name}] {id} would be banned now, but somebody is logged in from there by SSH; the next time it is. \
                 Add it to `ignoreip` if it is yours"
            );
            return self.effects.line(Level::WARNING, "actions", text);
        }
        let Some(jail) = self.jails.get(name) else { return };
        let limits = jail.counts.limits();
        let bantime = limits.bantime;
        let places: Vec<Arc<str>> = jail.places().cloned().collect();
        self.effects.kernel.extend(places.iter().filter_map(|place| change(place, ban, bantime, now)));
        let known = grown.is_some_and(|grown| grown.known);
        if !ban.restored && !known {
            let row = row(name, ban, bantime, &self.general);
            self.effects.store(row.id.clone(), state::Change::Ban(row));
        }
        if let Some(jail) = self.jails.get(name).filter(|jail| jail.queue.is_some()) {
            let ticket = self.full_ticket(jail, ban);
            self.act(name, ActionEvent::Ban(ticket));
        }
        let word = if ban.restored || known { "Restore Ban" } else { "Ban" };
        self.effects.line(Level::NOTICE, "actions", format!("[{name}] {word} {id}"));
        if let Some(grown) = grown.filter(|grown| grown.increased) {
            let (count, last) = (grown.history.count, self.logger.day_time(grown.history.time));
            let (old, new) = (span(bantime), span(grown.bantime));
            let text = format!("[{name}] IP {id} is bad: {count} # last {last} - incr {old} to {new}");
            self.effects.line(Level::INFO, "observer", text);
            let end = ban.end(bantime).map_or_else(|| "infinite".to_owned(), |end| self.logger.day_time(end));
            let text = format!("[{name}] Increase Ban {id} ({} # {new} -> {end})", ban.count);
            self.effects.line(Level::NOTICE, "observer", text);
        }
    }

    /// Somebody who is banned was seen again. The first moments after a ban do not count: the lines
    /// were written before.
    fn banned_again(&mut self, name: &Arc<str>, id: &Id, age: f64) {
        let Some(jail) = self.jails.get(name).filter(|jail| age > AT_ONCE && jail.queue.is_some()) else { return };
        if let Some(ban) = jail.counts.bans().get(id) {
            let ticket = self.full_ticket(jail, ban);
            self.act(name, ActionEvent::Again(ticket));
        }
    }

    fn unban(&mut self, name: &Arc<str>, ban: &Ban, reason: Reason) {
        let Some(jail) = self.jails.get(name) else { return };
        if let Some(prefix) = jail::prefix_to_ban(&ban.id) {
            let places = jail.places().cloned();
            self.effects.kernel.extend(places.map(|jail| Change::Unban { jail, prefix }));
        }
        if jail.queue.is_some() {
            let ticket = self.full_ticket(jail, ban);
            self.act(name, ActionEvent::Unban(ticket));
        }
        if reason == Reason::Asked {
            self.effects.urgent = true;
        }
        self.effects.line(Level::NOTICE, "actions", format!("[{name}] Unban {}", shown(&ban.id.to_string())));
    }

    /// Sends all bans to the kernel once more.
    pub(super) fn send_all(&mut self) {
        let now = super::clock().now;
        for jail in self.jails.values() {
            let bantime = jail.counts.limits().bantime;
            for act in jail.acts.values() {
                if let Act::Native { place, scope } = act {
                    self.effects.kernel.push(Change::Jail { name: place.clone(), scope: scope.clone() });
                    self.effects.kernel.extend(bans(place, jail.counts.bans(), bantime, now));
                }
            }
        }
    }

    /// Counts lines that could not be decided, and tells of odd ones.
    pub(super) fn tally(&mut self, name: &Arc<str>, path: &Path, tally: &Tally) {
        let undecided = tally.cut + tally.steps;
        let odd = tally.old + tally.replaced;
        let Some(jail) = self.jails.get_mut(name).filter(|_| undecided + odd > 0) else { return };
        let path = shown(&path.to_string_lossy());
        let now = super::clock().now;
        if undecided > 0 {
            let policy = self.options.undecided_of.get(&**name).copied().unwrap_or(self.options.undecided);
            for text in jail.undecided.add(tally, policy, now) {
                self.effects.line(Level::WARNING, "filter", format!("[{name}] {path}: {text}"));
            }
        }
        if odd > 0 && jail.told_odd.is_none_or(|told| !(0.0..TELL_ODD).contains(&(now - told))) {
            jail.told_odd = Some(now);
            let findtime = jail.counts.limits().findtime;
            let text = if tally.replaced > 0 {
                let distance = span(tally.distance.unsigned_abs() as f64);
                let side = if tally.distance < 0 { "before" } else { "after" };
                format!(
                    "[{name}] Detected a log entry {distance} {side} the current time in operation mode. A clock or a zone \
                     is wrong; lines like that count as of now"
                )
            } else {
                format!("[{name}] Ignoring all log entries older than {findtime}s; they were written before it started")
            };
            self.effects.line(Level::WARNING, "filter", text);
            let text = format!("[{name}] Please check a jail for a timing issue. Log file: {path}");
            self.effects.line(Level::WARNING, "filter", text);
        }
    }
}

fn history(row: state::History) -> jail::History {
    jail::History { count: row.count, time: row.time, bantime: row.bantime }
}

/// A length of time as Fail2Ban's messages have it.
fn span(seconds: f64) -> String {
    if seconds == jail::PERMANENT {
        return "permanent".to_owned();
    }
    time::text(if seconds.fract() == 0.0 { Number::Int(seconds as i128) } else { Number::Float(seconds) })
}

/// A ban as the kernel gets it; `None` if it has no word for the identifier or the ban is over.
fn change(place: &Arc<str>, ban: &Ban, bantime: f64, now: Time) -> Option<Change> {
    let prefix = jail::prefix_to_ban(&ban.id)?;
    let seconds = ban.end(bantime).map(|end| end - now);
    // one that ends in this moment is over before the kernel could drop anything
    if seconds.is_some_and(|seconds| seconds <= 0.0) {
        return None;
    }
    Some(Change::Ban { jail: place.clone(), prefix, seconds })
}

/// All bans of a jail for one place of the firewall.
pub(super) fn bans(place: &Arc<str>, bans: &Bans, bantime: f64, now: Time) -> impl Iterator<Item = Change> {
    bans.iter().filter_map(move |ban| change(place, ban, bantime, now))
}

/// Name under which the database keeps an address that differs from the identifier.
const ADDRESS: &str = "ip";

/// A ban for the database; the jail's `bantime` is for those without one of their own.
pub(super) fn row(jail: &Arc<str>, ban: &Ban, bantime: f64, general: &General) -> state::Ban {
    state::Ban {
        jail: jail.clone(),
        id: ban.id.to_string().into(),
        time: ban.time,
        bantime: ban.bantime(bantime),
        count: ban.count,
        data: database::encode(&kept(&ban.details, ban.failures), general.dbmaxmatches.max(0) as usize),
    }
}

/// What to say of how the database was found.
pub(super) fn opened(opened: &Opened) -> Option<(Level, &'static str, String)> {
    let (level, text) = match opened {
        Opened::Existing => return None,
        Opened::Upgraded { from, copy } => {
            let copy = shown(&copy.to_string_lossy());
            let to = database::VERSION;
            (Level::WARNING, format!("Database updated from '{from}' to '{to}'; as it was it is {copy}"))
        }
        Opened::Created => (Level::WARNING, format!("New database created. Version '{}'", database::VERSION)),
        Opened::Repaired { moved, rows } => {
            let moved = shown(&moved.to_string_lossy());
            (Level::ERROR, format!("The database was damaged: {rows} row(s) saved, the damaged file is {moved}"))
        }
    };
    Some((level, "database", text))
}

/// What is stored of a ban or a counter.
pub(super) fn kept(details: &Details, failures: u32) -> database::Ticket {
    let mut data = details.data.clone();
    if let Some(address) = &details.address {
        data.push((ADDRESS.into(), Datum::Text(address.to_string().into())));
    }
    database::Ticket { matches: details.matches.clone(), failures, data }
}

/// What was stored of a ban or a counter.
pub(super) fn details(kept: database::Ticket) -> Details {
    let mut data = kept.data;
    let at = data.iter().position(|(name, _)| &**name == ADDRESS);
    let address = at.and_then(|at| match data.remove(at).1 {
        Datum::Text(text) => Some(Id::parse(&text)),
        _ => None,
    });
    Details { matches: kept.matches, data, address }
}

/// A changed counter for the database.
pub(super) fn counter(jail: &Arc<str>, change: Changed, maxmatches: usize) -> state::Change {
    match change {
        Changed::Set(counter) => state::Change::Failure(state::Failure {
            jail: jail.clone(),
            id: counter.id.to_string().into(),
            first: counter.first,
            last: counter.last,
            retry: counter.retry,
            failures: counter.failures,
            data: database::encode(&kept(&counter.details, counter.failures), maxmatches),
        }),
        Changed::Gone(id) => state::Change::Forget { jail: jail.clone(), id: id.to_string().into() },
    }
}
