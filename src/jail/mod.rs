//! A jail counts failures and decides who is banned, for how long.
//!
//! Nothing in here reads a clock, a file or a socket, nor throws dice: each call is told the
//! time and what is known of earlier bans, and returns what ought to happen; `server` makes
//! it happen. That is why a week of log can be replayed in a test within a second.

pub mod bans;
pub mod failures;
pub mod ignore;
pub mod increment;
mod table;
pub mod ticket;

use std::sync::Arc;

use crate::address::{Id, Prefix};
use crate::config::Limits;
use crate::time::Time;

pub use bans::{Ban, Bans, PERMANENT};
pub use failures::{Changed, Counter, Failures};
pub use ignore::{Rules, Verdict};
pub use increment::{History, Increment, Past};
pub use ticket::{Details, Ticket};

/// Between these ages in seconds of a ban, failures of the banned one are worth a notice.
const STALE: std::ops::Range<f64> = 3.0..60.0;

/// What ought to happen. The order within one answer is the order of Fail2Ban's log lines.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// A failure was counted.
    Found {
        /// Who.
        id: Id,
        /// When.
        time: Time,
    },
    /// Somebody told us about a failure by `set JAIL attempt`; it was counted.
    Attempt {
        /// Who.
        id: Id,
        /// When.
        time: Time,
    },
    /// The failure of someone with earlier bans counts more.
    FoundBad {
        /// Who.
        id: Id,
        /// When.
        time: Time,
        /// How many bans there were.
        count: u32,
        /// What the failure counts.
        weight: u32,
        /// Whether that weight is `maxretry` itself, being the smaller (Fail2Ban prints `3`, else `3.0`).
        limited: bool,
        /// Whether it is enough for a ban.
        ban: bool,
    },
    /// Shut out: a new ban, with its final length. A restored one was in force before the restart.
    Ban {
        /// The ban.
        ban: Ban,
        /// Its length without history; actions that know no better start with it.
        base: f64,
        /// Why it is longer than `base`, if it is about someone with earlier bans.
        grown: Option<Grown>,
    },
    /// The ban lasts longer now.
    Prolong(Ban),
    /// The id is banned already, since `age` seconds before this failure.
    AlreadyBanned {
        /// Who.
        id: Id,
        /// Seconds between the beginning of the ban and the failure.
        age: f64,
    },
    /// Not banned, since the ban would have ended already.
    Expired(Id),
    /// Let in again.
    Unban {
        /// The ban that ended.
        ban: Ban,
        /// Why.
        reason: Reason,
    },
}

/// How a history lengthened a ban.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grown {
    /// The earlier bans.
    pub history: History,
    /// Length that was computed, in seconds; less than the base length if that remains.
    pub bantime: f64,
    /// Whether the ban got that length.
    pub increased: bool,
    /// The history knows this very ban, from a log that is read again: do not store it once more.
    pub known: bool,
}

/// Why a ban ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Its time was over.
    Time,
    /// Somebody asked; its history is to be forgotten.
    Asked,
    /// The jail stops; the history stays, so that a start can restore the ban.
    Stop,
}

/// How serious it is that a banned one still fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Staleness {
    /// Lines that were written before the ban took effect.
    Usual,
    /// The ban takes effect slowly, or not at all.
    Odd,
    /// The ban does not work.
    Bad,
}

impl Staleness {
    /// From the age of the ban in seconds.
    #[must_use]
    pub fn of(age: f64) -> Staleness {
        if age < STALE.start {
            Staleness::Usual
        } else if age < STALE.end {
            Staleness::Odd
        } else {
            Staleness::Bad
        }
    }
}

/// The network to shut out when a failure is about `id`; `None` if the kernel has no word for it.
///
/// The one place where a host could become more than a host, such as a whole IPv6 /64.
#[must_use]
pub fn prefix_to_ban(id: &Id) -> Option<Prefix> {
    id.prefix()
}

/// What the outside knows when something happens.
pub struct Moment<'a> {
    /// Now.
    pub now: Time,
    /// Random numbers from 0 up to, but not including, 1.
    pub random: &'a mut dyn FnMut() -> f64,
}

impl std::fmt::Debug for Moment<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Moment").field("now", &self.now).finish_non_exhaustive()
    }
}

/// Failures, bans and rules of one jail.
#[derive(Debug, Default)]
pub struct Jail {
    limits: Limits,
    increment: Increment,
    /// The counters.
    pub failures: Failures,
    bans: Bans,
    cleaned: Option<Time>,
}

/// How often outdated counters are looked for, in seconds.
const CLEAN_INTERVAL: f64 = 5.0;

impl Jail {
    /// The thresholds.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Changes the thresholds. A new `bantime` moves the ends of running bans: the next
    /// [`Jail::expire`] ends those that are over by it, and [`Jail::next_end`] knows.
    pub fn set_limits(&mut self, limits: Limits) {
        if limits.bantime != self.limits.bantime {
            self.bans.change_default(self.limits.bantime, limits.bantime);
        }
        self.limits = limits;
    }

    /// The options `bantime.*`.
    #[must_use]
    pub fn increment(&self) -> &Increment {
        &self.increment
    }

    /// Changes the options `bantime.*`; running bans stay as they are.
    pub fn set_increment(&mut self, increment: Increment) {
        self.increment = increment;
    }

    /// Whether `past` matters for the next failure; if not, nobody needs to look it up.
    #[must_use]
    pub fn needs_past(&self) -> bool {
        self.increment.enabled
    }

    /// A failure from a log, of someone who is not ignored.
    pub fn failure(&mut self, ticket: Ticket, past: &Past, moment: &mut Moment<'_>) -> Vec<Decision> {
        let (id, time) = (ticket.id.clone(), ticket.time);
        let mut decisions = vec![Decision::Found { id: id.clone(), time }];
        let mut full = self.failures.add(ticket, 1, &self.limits);
        if let Some(history) = past.here.filter(|history| self.increment.enabled && history.count > 0)
            // what is not later was counted for that ban already, and is being read again
            && time > history.time
        {
            let (weight, limited) = increment::weight(history.count, self.limits.maxretry);
            if weight > 1 {
                let ban = weight >= self.limits.maxretry;
                decisions.push(Decision::FoundBad { id: id.clone(), time, count: history.count, weight, limited, ban });
                full = full.or_else(|| self.failures.add_weight(&id, time, weight - 1, &self.limits));
            }
        }
        if let Some(counter) = full {
            self.ban_for(counter, past, moment, &mut decisions);
        }
        decisions
    }

    /// `set JAIL attempt`: a failure that counts once for each line, at least once.
    pub fn attempt(&mut self, ticket: Ticket, past: &Past, moment: &mut Moment<'_>) -> Vec<Decision> {
        let weight = u32::try_from(ticket.details.matches.len()).unwrap_or(u32::MAX);
        let mut decisions = vec![Decision::Attempt { id: ticket.id.clone(), time: ticket.time }];
        if let Some(counter) = self.failures.add(ticket, weight, &self.limits) {
            self.ban_for(counter, past, moment, &mut decisions);
        }
        decisions
    }

    fn ban_for(&mut self, counter: Counter, past: &Past, moment: &mut Moment<'_>, decisions: &mut Vec<Decision>) {
        let ban = Ban {
            failures: counter.failures,
            details: Arc::new(counter.details.tight()),
            ..Ban::new(counter.id, counter.last)
        };
        self.add_ban(ban, past, moment, decisions);
    }

    /// `set JAIL banip`: no ignore rule is asked.
    pub fn ban(&mut self, id: Id, past: &Past, moment: &mut Moment<'_>) -> Vec<Decision> {
        let mut decisions = Vec::new();
        self.add_ban(Ban::new(id, moment.now), past, moment, &mut decisions);
        decisions
    }

    /// A ban from before a restart: `bantime` is its own length, `count` the number it was.
    pub fn restore(&mut self, ban: Ban, now: Time) -> Vec<Decision> {
        let mut decisions = Vec::new();
        let mut moment = Moment { now, random: &mut || 0.0 };
        self.add_ban(Ban { restored: true, ..ban }, &Past::default(), &mut moment, &mut decisions);
        decisions
    }

    fn add_ban(&mut self, mut ban: Ban, past: &Past, moment: &mut Moment<'_>, decisions: &mut Vec<Decision>) {
        let (id, time, base) = (ban.id.clone(), ban.time, self.limits.bantime);
        // known already: the ban is as long as this one is by itself, its history was counted then
        let grown = if self.bans.get(&id).is_none() && ban.end(base).is_none_or(|end| end >= moment.now) {
            self.grow(&mut ban, past, moment.random)
        } else {
            None
        };
        match self.bans.add(ban, base, moment.now) {
            bans::Added::New => {
                let ban = self.bans.get(&id).cloned().map(|ban| Decision::Ban { ban, base, grown });
                decisions.extend(ban);
            }
            bans::Added::Expired => decisions.push(Decision::Expired(id)),
            bans::Added::Present { time: since, prolonged } => {
                if prolonged {
                    decisions.extend(self.bans.get(&id).cloned().map(Decision::Prolong));
                }
                decisions.push(Decision::AlreadyBanned { id, age: time - since });
            }
        }
    }

    /// Gives a new ban the length its history asks for.
    fn grow(&self, ban: &mut Ban, past: &Past, random: &mut dyn FnMut() -> f64) -> Option<Grown> {
        let base = self.limits.bantime;
        if !self.increment.enabled || ban.restored || ban.own.is_some() || base == PERMANENT {
            return None;
        }
        let history = if self.increment.overalljails { past.everywhere } else { past.here }?;
        if history.count == 0 {
            return None;
        }
        let computed = self.increment.bantime(base, history.count, random);
        let increased = computed > base || computed == PERMANENT;
        if increased {
            ban.own = Some(computed);
        }
        ban.count = history.count;
        Some(Grown { history, bantime: computed, increased, known: ban.time <= history.time })
    }

    /// Ends what is over, and looks after the counters. Call it at [`Jail::next_end`] (just after), and
    /// every few seconds.
    pub fn expire(&mut self, now: Time) -> Vec<Decision> {
        if self.cleaned.is_none_or(|cleaned| now - cleaned >= CLEAN_INTERVAL || now < cleaned) {
            self.cleaned = Some(now);
            self.failures.clean(&self.limits, now);
        }
        self.bans.expire(now).into_iter().map(|ban| Decision::Unban { ban, reason: Reason::Time }).collect()
    }

    /// The clock was set by so many seconds, negative is back: bans and counters keep the time they have left.
    pub fn shift(&mut self, by: f64) {
        self.bans.shift(by);
        self.failures.shift(by);
        self.cleaned = None;
    }

    /// When the first ban ends.
    #[must_use]
    pub fn next_end(&self) -> Option<Time> {
        self.bans.next_end()
    }

    /// `set JAIL unbanip`: the ban of this id or, if there is none and it is a network, all bans inside of it.
    pub fn unban(&mut self, id: &Id) -> Vec<Decision> {
        let ids = match (self.bans.get(id), id.prefix()) {
            (None, Some(network)) if !network.is_host() => self.bans.within(network),
            _ => vec![id.clone()],
        };
        self.unban_all_of(&ids)
    }

    /// Ends these bans; for the addresses of a name.
    pub fn unban_all_of(&mut self, ids: &[Id]) -> Vec<Decision> {
        let default = self.limits.bantime;
        let bans = ids.iter().filter_map(|id| self.bans.remove(id, default));
        bans.map(|ban| Decision::Unban { ban, reason: Reason::Asked }).collect()
    }

    /// Ends all bans: `unban --all`, or the jail stops.
    pub fn flush(&mut self, reason: Reason) -> Vec<Decision> {
        self.bans.clear().into_iter().map(|ban| Decision::Unban { ban, reason }).collect()
    }

    /// The bans.
    #[must_use]
    pub fn bans(&self) -> &Bans {
        &self.bans
    }
}

#[cfg(test)]
mod tests;
