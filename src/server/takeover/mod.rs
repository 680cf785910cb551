//! What a change from Fail2Ban to us, or back, needs of the server's parts: what the configured jails would shut out,
//! the bans of a database, and a firewall that holds them while neither server runs.

pub mod leftovers;

use std::path::Path;
use std::sync::Arc;

use indexmap::IndexMap;

use super::causes;
use super::database::SCHEMA;
use super::handover::Handed;
use super::native::{self, Mentions};
use super::setup::{Setup, text};
use crate::address::Id;
use crate::control::{Command, Value};
use crate::fail2ban::{database, increment};
use crate::firewall::{self, Change, Firewall, Kind};
use crate::jail;
use crate::state::{self, Change as Store, State};
use crate::time::Time;

/// What a jail of the configuration does with its bans.
#[derive(Debug)]
pub struct Planned {
    /// Its name.
    pub name: Arc<str>,
    /// Its places in our firewall.
    places: Vec<native::Place>,
    /// Actions that run as commands: their bans are lifted and made again.
    pub commands: Vec<String>,
    /// Whether all of its places come from actions that Fail2Ban has too.
    pub stock: bool,
    setup: Setup,
}

impl Planned {
    /// Whether our firewall can shut out whom this jail bans.
    #[must_use]
    pub fn is_native(&self) -> bool {
        !self.places.is_empty()
    }
}

/// The jails that a configuration's stream starts.
#[must_use]
pub fn plan(stream: &[Command], native_actions: bool) -> Vec<Planned> {
    let mut setups: IndexMap<String, Setup> = IndexMap::new();
    let mut started = Vec::new();
    for words in stream.iter().map(|command| &command.words) {
        let name = words.get(1).map(text).unwrap_or_default();
        match words.first().and_then(Value::as_text) {
            Some("add") => {
                let backend = words.get(2).map_or_else(|| "auto".to_owned(), text);
                setups.insert(name.clone(), Setup::new(name.into(), backend, None));
            }
            Some("set" | "multi-set") if words.len() > 2 => {
                if let Some(setup) = setups.get_mut(&name) {
                    // what cannot be set is said by the server when it starts
                    let _ = setup.set(&words[2..]);
                }
            }
            Some("start") => started.push(name),
            _ => {}
        }
    }
    let actions = setups.values().flat_map(|setup| setup.actions.iter().filter_map(|(_, work)| work.properties()));
    let commands = setups.values().map(|setup| setup.ignore.command.as_deref().unwrap_or_default());
    let mentions = Mentions::of(actions, commands);
    let jails = started.into_iter().filter_map(|name| setups.shift_remove(&name));
    jails
        .map(|setup| {
            let actions = setup.actions.iter().map(|(name, work)| (name.as_str(), work.properties()));
            let found = native::places(&setup.name, actions, native_actions, &mentions);
            let with_names = setup.actions.iter().zip(&found);
            let commands = with_names.filter(|(_, place)| place.is_none()).map(|((name, _), _)| name.clone()).collect();
            let mut lists = setup.actions.iter().filter_map(|(_, work)| work.properties());
            let stock = !lists.any(|properties| properties.get("native") == Some("true"));
            Planned { name: setup.name.clone(), places: found.into_iter().flatten().collect(), commands, stock, setup }
        })
        .collect()
}

/// What a database has of bans that are still in force, without changing it.
///
/// # Errors
/// If nothing can be read of a file that is there; the text says why.
pub fn stored(file: &Path, jails: &[Planned], now: Time) -> Result<Vec<Handed>, String> {
    let state = State::copy(file, SCHEMA, now).map_err(|error| causes(&error))?;
    let mut bans = Vec::new();
    for jail in jails {
        let options = increment::increment(&jail.setup.increment).unwrap_or_default();
        let which = state::Restore {
            jail: &jail.name,
            now,
            bantime: jail.setup.limits.bantime,
            increment: options.enabled.then(|| options.maxtime.unwrap_or(jail::PERMANENT)),
        };
        let found = state.restorable(&which).map_err(|error| causes(&error))?;
        bans.extend(found.bans.into_iter().map(|ban| Handed {
            jail: ban.jail.to_string(),
            id: ban.id.to_string(),
            time: ban.time.seconds(),
            bantime: ban.bantime.ceil() as i64,
        }));
    }
    Ok(bans)
}

/// Puts bans into a database that it does not have, or has with another length, and leaves the file as Fail2Ban
/// expects it. No server may run. The number of bans that were put in.
///
/// # Errors
/// If it cannot be written; the text says why.
pub fn store(file: &Path, bans: &[Handed], now: Time) -> Result<usize, String> {
    let (mut state, _) = State::open(Some(file), SCHEMA, now).map_err(|error| causes(&error))?;
    let mut changes = Vec::new();
    for ban in bans {
        let known = state.bans_of(&ban.id, Some(&ban.jail)).map_err(|error| causes(&error))?;
        let (jail, id): (Arc<str>, Arc<str>) = (ban.jail.as_str().into(), ban.id.as_str().into());
        let bantime = ban.bantime as f64;
        match known.first() {
            Some(row) if (row.time.seconds() - ban.time).abs() <= 1 => {
                if (row.bantime - bantime).abs() >= 1.0 {
                    changes.push(Store::Length { jail, id, bantime });
                }
            }
            last => {
                let data = || database::encode(&database::Ticket::default(), 1);
                let (count, data) = last.map_or_else(|| (1, data()), |row| (row.count, row.data.clone()));
                let time = Time::from_seconds(ban.time);
                changes.push(Store::Ban(state::Ban { jail, id, time, bantime, count, data }));
            }
        }
    }
    state.commit(&changes).and_then(|()| state.close()).map_err(|error| causes(&error))?;
    Ok(changes.len())
}

/// Our table in the kernel, holding bans although no server of ours runs.
pub struct Shelter(Box<dyn Firewall>);

impl std::fmt::Debug for Shelter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Shelter").field(&self.0.describe()).finish()
    }
}

impl Shelter {
    /// Takes the bans in. What is there of an earlier run stays until then.
    ///
    /// # Errors
    /// If the kernel refuses; the text says why.
    pub fn open(kind: Kind, jails: &[Planned], bans: &[Handed], now: Time) -> Result<Shelter, String> {
        let mut shelter = Shelter(firewall::open(kind).map_err(|error| causes(&error))?);
        let places = jails.iter().flat_map(|jail| &jail.places);
        let mut changes: Vec<Change> =
            places.map(|(name, scope)| Change::Jail { name: name.clone(), scope: scope.clone() }).collect();
        changes.extend(self::bans(jails, bans, now));
        shelter.apply(&changes)?;
        Ok(shelter)
    }

    /// Takes more bans in.
    ///
    /// # Errors
    /// If the kernel refuses; the text says why.
    pub fn add(&mut self, jails: &[Planned], bans: &[Handed], now: Time) -> Result<(), String> {
        self.apply(&self::bans(jails, bans, now).collect::<Vec<_>>())
    }

    fn apply(&mut self, changes: &[Change]) -> Result<(), String> {
        let refused = self.0.apply(changes).map_err(|error| causes(&error))?;
        refused.first().map_or(Ok(()), |(_, error)| Err(causes(error)))
    }

    /// Which kernel interface it is.
    #[must_use]
    pub fn describe(&self) -> String {
        self.0.describe()
    }

    /// Takes everything of ours out of the kernel. Without this call the bans stay when the value goes.
    ///
    /// # Errors
    /// If something had to stay; the text says why.
    pub fn remove(mut self) -> Result<(), String> {
        self.0.remove().map_err(|error| causes(&error))
    }
}

/// Bans for the kernel, those of jails without a place left out.
fn bans<'a>(jails: &'a [Planned], bans: &'a [Handed], now: Time) -> impl Iterator<Item = Change> + 'a {
    bans.iter().flat_map(move |ban| {
        let jail = jails.iter().find(|jail| *jail.name == *ban.jail);
        let prefix = jail::prefix_to_ban(&Id::parse(&ban.id));
        let seconds = (ban.bantime >= 0).then(|| Time::from_seconds(ban.time) + ban.bantime as f64 - now);
        let in_force = prefix.filter(|_| seconds.is_none_or(|left| left > 0.0));
        let places = jail.into_iter().flat_map(|jail| &jail.places);
        places.filter_map(move |(place, _)| Some(Change::Ban { jail: place.clone(), prefix: in_force?, seconds }))
    })
}

/// A program of the system; those of administrators are not in everybody's search path.
#[must_use]
pub fn program(name: &str) -> std::process::Command {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = std::process::Command::new(name);
    command.env("PATH", format!("{path}:/usr/sbin:/sbin:/usr/bin:/bin"));
    command
}
