//! What the commands of a jail are told: about a ban, about the jail, about earlier bans.

use std::sync::Arc;

use crate::action::queue::Event;
use crate::action::{Facts, Histories, History, Literal, Ticket, Wants, Work};
use crate::address::Id;
use crate::control::Value;
use crate::fail2ban::database;
use crate::fail2ban::repr::repr;
use crate::filter::{Data, Datum, Failure, Match};
use crate::jail::{Ban, Decision};
use crate::state::{self, Change};

use super::engine::Engine;
use super::jail::Jail;

/// What an `ignorecommand` is told besides the failure.
#[derive(Clone, Debug, Default)]
pub struct Circumstances {
    /// Figures of the jail.
    pub facts: Facts,
    /// Earlier bans, where the command wants them and the identifier is known.
    pub history: Option<Histories>,
}

impl Jail {
    /// The figures of this moment.
    fn facts(&self) -> Facts {
        let (failures, bans) = (&self.counts.failures, self.counts.bans());
        Facts {
            now: super::clock().now,
            bantime: self.counts.limits().bantime as i64,
            found: failures.len() as u64,
            found_total: failures.total(),
            banned: bans.len() as u64,
            banned_total: bans.total(),
            without_ipv6: false,
        }
    }

    /// Finds out what the commands of this jail want to know.
    pub(super) fn set_wants(&mut self) {
        let actions = self.setup.actions.iter().filter_map(|(_, work)| work.properties());
        let commands = actions.flat_map(|properties| properties.iter().map(|(_, text)| text));
        self.wants = Wants::of(commands.chain(self.setup.ignore.command.as_deref()));
        // a program may look at whatever there is
        let programs = self.setup.actions.iter().any(|(_, work)| matches!(work, Work::Python(_)));
        self.wants.history |= programs;
        self.wants.literal |= programs;
        let mails = |work: &Work| matches!(work, Work::Mail(options) if options.wants_history());
        self.wants.history |= self.setup.actions.iter().any(|(_, work)| mails(work));
    }

    /// A ban as actions are told of it, without what only the database knows.
    pub(super) fn ticket(&self, ban: &Ban) -> Ticket {
        let details = &ban.details;
        let seconds = ban.time.as_f64();
        let time = match (ban.restored, seconds.fract() == 0.0) {
            // the database keeps whole seconds, and Python shows them as such
            (true, true) => format!("{seconds:.0}"),
            (false, true) => format!("{seconds:.1}"),
            (_, false) => seconds.to_string(),
        };
        let literal = self.wants.literal.then(|| {
            let all = literal_matches(&details.matches, ban.failures, ban.restored);
            let matches = repr(&all);
            let bantime = match ban.own {
                None => "None".to_owned(),
                Some(own) if own.fract() == 0.0 => format!("{own:.0}"),
                Some(own) => own.to_string(),
            };
            let (id, count, failures) = (&ban.id, ban.count, ban.failures);
            let ticket = format!(
                "BanTicket: ip={id} time={time} bantime={bantime} bancount={count} #attempts={failures} matches={matches}"
            );
            Literal { ticket, matches, captures: captures(all, failures, &details.data, ban.restored) }
        });
        Ticket {
            id: ban.id.clone(),
            address: details.address.clone(),
            failures: ban.failures.into(),
            time,
            bantime: ban.bantime(self.counts.limits().bantime) as i64,
            bancount: ban.count,
            restored: ban.restored,
            matches: lines(&details.matches),
            data: words(&details.data, ban.restored),
            literal,
            history: None,
        }
    }
}

impl Engine {
    /// The figures of a jail at this moment.
    pub(super) fn facts(&self, name: &str) -> Facts {
        let facts = self.jails.get(name).map(Jail::facts).unwrap_or_default();
        Facts { without_ipv6: self.general.without_ipv6, ..facts }
    }

    /// A ban as actions are told of it.
    pub(super) fn full_ticket(&self, jail: &Jail, ban: &Ban) -> Arc<Ticket> {
        let history = jail.wants.history.then(|| self.histories(&jail.setup.name, &ban.id));
        Arc::new(Ticket { history, ..jail.ticket(ban) })
    }

    /// The bans that some decisions end, as actions are told of them; none if there are no commands.
    pub(super) fn tickets(&self, name: &str, decisions: &[Decision]) -> Vec<Arc<Ticket>> {
        let Some(jail) = self.jails.get(name).filter(|jail| jail.queue.is_some()) else { return Vec::new() };
        let ended = decisions.iter().filter_map(|decision| match decision {
            Decision::Unban { ban, .. } => Some(self.full_ticket(jail, ban)),
            _ => None,
        });
        ended.collect()
    }

    /// Has the actions of a jail told of something.
    pub(super) fn act(&mut self, name: &str, event: Event) {
        if let Some(queue) = self.jails.get(name).and_then(|jail| jail.queue.clone()) {
            self.effects.actions.push((queue, self.facts(name), event));
        }
    }

    /// All bans of someone, those included that are not yet stored.
    pub(super) fn histories(&self, jail: &str, id: &Id) -> Histories {
        let id = id.to_string();
        // what cannot be read is told of where it is needed for a decision
        let mut rows = self.state.as_ref().and_then(|state| state.bans_of(&id, None).ok()).unwrap_or_default();
        if self.effects.unstored.contains(&*id) {
            for change in &self.effects.stored {
                match change {
                    Change::Ban(ban) if *ban.id == *id => rows.insert(0, ban.clone()),
                    Change::Delete { jail, id: gone } if **gone == *id => rows.retain(|row| row.jail != *jail),
                    Change::DeleteAll(jail) => rows.retain(|row| row.jail != *jail),
                    _ => {}
                }
            }
        }
        let most = usize::try_from(self.general.dbmaxmatches).unwrap_or(0);
        Histories {
            everywhere: history(rows.iter(), most),
            here: history(rows.iter().filter(|row| *row.jail == *jail), most),
        }
    }
}

/// Bans, the latest first, as one: the last lines and the sum of the failures.
fn history<'a>(rows: impl Iterator<Item = &'a state::Ban>, most: usize) -> Option<History> {
    let mut all: Option<History> = None;
    for row in rows {
        let all = all.get_or_insert_default();
        let kept = database::decode(&row.data);
        all.failures += u64::from(kept.failures);
        let room = most.saturating_sub(all.matches.len());
        all.matches.extend(kept.matches.into_iter().rev().take(room).map(|matched| matched.line));
    }
    if let Some(all) = &mut all {
        all.matches.reverse();
    }
    all
}

/// A failure as the tags of `ignorecommand` and `ignorecache` show it.
#[must_use]
pub fn ticket(failure: &Failure, id: &Id, circumstances: &Circumstances) -> Ticket {
    let time = repr(&Value::Float(failure.time.map_or(0.0, |time| time.as_f64())));
    let all = literal_matches(&failure.matches, 0, false);
    let matches = repr(&all);
    let ticket = format!("FailTicket: ip={id} time={time} bantime=None bancount=0 #attempts=0 matches={matches}");
    Ticket {
        id: id.clone(),
        address: failure.address.clone().filter(|address| address != id),
        failures: 0,
        time,
        bantime: circumstances.facts.bantime,
        bancount: 0,
        restored: false,
        matches: lines(&failure.matches),
        data: words(&failure.data, false),
        literal: Some(Literal { ticket, matches, captures: captures(all, 0, &failure.data, false) }),
        history: circumstances.history.clone(),
    }
}

fn lines(matches: &[Match]) -> Vec<Arc<str>> {
    matches.iter().map(|matched| matched.line.clone()).collect()
}

/// Lines as Python shows the list of them: the first one in three parts.
fn literal_matches(matches: &[Match], failures: u32, restored: bool) -> Value {
    let item = |(matched, parts): (&Match, Option<[&str; 3]>)| match parts {
        None => Value::from(&*matched.line),
        Some(parts) if restored => Value::List(parts.map(Value::from).to_vec()),
        Some(parts) => Value::Tuple(parts.map(Value::from).to_vec()),
    };
    Value::List(matches.iter().zip(database::in_parts(matches, failures)).map(item).collect())
}

/// Captured values as the tags `<F-…>` show them: lists as Python writes them.
#[must_use]
pub fn words(data: &Data, restored: bool) -> Vec<(Arc<str>, String)> {
    data.iter()
        .map(|(name, datum)| match value(datum, restored) {
            Value::Text(text) => (name.clone(), text),
            other => (name.clone(), repr(&other)),
        })
        .collect()
}

/// All that is known of a ban by the names that a Python program finds it under.
fn captures(matches: Value, failures: u32, data: &Data, restored: bool) -> Value {
    let own = [("matches".into(), matches), ("failures".into(), Value::Int(failures.into()))];
    let data = data.iter().map(|(name, datum)| (Value::from(&**name), value(datum, restored)));
    Value::Map(own.into_iter().chain(data).collect())
}

/// A captured value as Python has it.
fn value(datum: &Datum, restored: bool) -> Value {
    let text = |text: &Arc<str>| Value::Text(text.to_string());
    match datum {
        Datum::Text(value) => text(value),
        // the database keeps a list
        Datum::Set(texts) if restored => Value::List(texts.iter().map(text).collect()),
        Datum::Set(texts) => Value::Set(texts.iter().map(text).collect()),
        Datum::Tuple(texts) => {
            Value::Tuple(texts.iter().map(|value| value.as_ref().map_or(Value::None, text)).collect())
        }
    }
}
