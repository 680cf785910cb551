//! The daemon's database: opened at its start, or as soon as that works.
//!
//! A file that another program holds, or that lies on a disk that is read-only, must cost neither the bans in it nor
//! those to come. Until it can be opened for writing, a copy in memory of what can be read stands in for it, and
//! everything that is stored there is kept for the file too.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::engine::{Engine, LAST_TRIES};
use super::logging::{Level, shown};
use super::{causes, effects};
use crate::control::{Failure, FailureKind, Reply, Value};
use crate::fail2ban::database;
use crate::state::{Change, Schema, State};
use crate::time::Time;

/// Fail2Ban's tables.
pub const SCHEMA: Schema = Schema {
    version: database::VERSION,
    create: database::CREATE,
    upgrades: database::UPGRADES,
    read_version: database::READ_VERSION,
};

/// Time between two tries to open the file.
const AGAIN: Duration = Duration::from_secs(1);
/// Effects that could not be stored are kept up to this number; then the oldest positions and
/// counters are in memory alone until the disk works again.
const MAX_UNSTORED: usize = 200_000;

/// A file that could not be opened yet.
#[derive(Debug)]
pub(super) struct Unopened {
    path: PathBuf,
    /// What is to be stored there.
    changes: Vec<Change>,
    again: Instant,
}

impl Unopened {
    /// What was stored in memory is to be stored in the file too.
    pub(super) fn keep(&mut self, changes: &mut Vec<Change>) {
        self.changes.append(changes);
        drop_surplus(&mut self.changes);
    }
}

/// Forgets what matters least of too many changes.
pub(super) fn drop_surplus(changes: &mut Vec<Change>) {
    let mut surplus = changes.len().saturating_sub(MAX_UNSTORED);
    changes.retain(|change| {
        use Change::{Failure, Forget, Journal, Position};
        let goes = surplus > 0 && matches!(change, Position(_) | Journal(_) | Failure(_) | Forget { .. });
        surplus -= usize::from(goes);
        !goes
    });
}

impl Engine {
    /// `set dbfile`: opens another database.
    pub(super) fn set_database(&mut self, path: &str) -> Reply {
        let same = self.general.dbfile.as_ref().map(|path| path.to_string_lossy().into_owned());
        if same.as_deref() == Some(path) {
            return Ok(path.into());
        }
        if !self.jails.is_empty() {
            return Err(Failure::new(FailureKind::Runtime, "Cannot change database when there are jails present"));
        }
        if let Some(state) = self.state.take() {
            // what was committed is safe in any case
            let _ = state.close();
        }
        (self.general.dbfile, self.unopened) = (None, None);
        if self.options.database_in_memory {
            let file = if path.eq_ignore_ascii_case("none") { ":memory:" } else { path };
            let copy = State::copy(Path::new(file), SCHEMA, super::clock().now);
            match copy.and_then(|mut copy| copy.forget_positions().map(|()| copy)) {
                Ok(copy) => self.state = Some(copy),
                Err(error) => self.effects.line(Level::ERROR, "database", causes(&error)),
            }
            return Ok(Value::None);
        }
        if path.eq_ignore_ascii_case("none") || self.options.dry_run {
            return Ok(Value::None);
        }
        self.general.dbfile = Some(PathBuf::from(path));
        let file = (path != ":memory:").then(|| PathBuf::from(path));
        match State::open(file.as_deref(), SCHEMA, super::clock().now) {
            Ok((mut state, opened)) => {
                let text = format!("Connected to fail2ban persistent database '{}'", shown(path));
                self.effects.line(Level::INFO, "database", text);
                self.effects.lines.extend(effects::opened(&opened));
                if let Err(error) = state.commit(&[Change::NoJails]) {
                    self.effects.line(Level::ERROR, "database", causes(&error));
                }
                self.state = Some(state);
                Ok(path.into())
            }
            Err(error) if error.may_pass() => {
                let text = format!(
                    "{}; what can be read of it is used, bans go on, and are stored as soon as that works",
                    causes(&error)
                );
                self.effects.line(Level::ERROR, "database", text);
                if let Some(file) = &file {
                    self.stop_gap(file);
                }
                Ok(path.into())
            }
            Err(error) => {
                let text = format!("{}; bans are in force but will not survive a restart", causes(&error));
                self.effects.line(Level::ERROR, "database", text.clone());
                Err(Failure::new(FailureKind::Exception, text))
            }
        }
    }

    /// Does without a file for now.
    fn stop_gap(&mut self, path: &Path) {
        match State::copy(path, SCHEMA, super::clock().now) {
            Ok(copy) => {
                self.state = Some(copy);
                let changes = vec![Change::NoJails];
                self.unopened = Some(Unopened { path: path.to_owned(), changes, again: Instant::now() + AGAIN });
            }
            Err(error) => self.effects.line(Level::ERROR, "database", causes(&error)),
        }
    }

    /// Tries once more to open a file that could not be opened, and stores there what has happened since.
    pub(super) fn open_again(&mut self) {
        let Some(unopened) = self.unopened.as_mut().filter(|unopened| unopened.again <= Instant::now()) else { return };
        unopened.again = Instant::now() + AGAIN;
        self.open_now();
    }

    /// The last chance, whenever the last try was.
    pub(super) fn open_at_last(&mut self) {
        for _ in 0..LAST_TRIES {
            self.open_now();
        }
        if self.unopened.is_some() {
            let text = "the database could not be opened to the end: what happened since the start is forgotten";
            self.effects.line(Level::ERROR, "database", text.to_owned());
        }
    }

    fn open_now(&mut self) {
        let Some(unopened) = &self.unopened else { return };
        let now = super::clock().now;
        let opened = State::open(Some(&unopened.path), SCHEMA, now).and_then(|(mut state, opened)| {
            state.commit(&unopened.changes)?;
            Ok((state, opened))
        });
        // why not was said the first time
        let Ok((state, opened)) = opened else { return };
        (self.state, self.unopened) = (Some(state), None);
        self.effects.lines.extend(effects::opened(&opened));
        self.effects.line(Level::NOTICE, "database", "the database can be written again".to_owned());
        // bans that could not be read before
        for name in self.started() {
            self.restore(&name, now);
        }
    }

    /// Looks whether somebody took the file away. If so it is made anew, or what is in its place is used.
    pub(super) fn look_for_database(&mut self) {
        let Some(state) = self.state.take_if(|state| !state.is_there()) else { return };
        let Some(path) = state.path().map(Path::to_owned) else { return };
        drop(state);
        let text = format!(
            "the database `{}` was taken away, emptied or replaced; all bans are stored again",
            shown(&path.to_string_lossy())
        );
        self.effects.line(Level::ERROR, "database", text);
        match State::open(Some(&path), SCHEMA, super::clock().now) {
            Ok((state, opened)) => {
                self.state = Some(state);
                self.effects.lines.extend(effects::opened(&opened));
            }
            Err(error) => {
                self.effects.line(Level::ERROR, "database", causes(&error));
                self.stop_gap(&path);
            }
        }
        for name in self.started() {
            self.effects.stored.push(Change::Jail { name: name.clone(), enabled: true });
            self.restore(&name, super::clock().now);
        }
        self.store_unknown();
        self.settle();
    }

    /// Makes a new database of what can be read of a damaged one, and of what is known to be banned.
    pub(super) fn repair(&mut self) {
        let Some(state) = &mut self.state else { return };
        match state.repair(super::clock().now) {
            Ok(opened) => {
                self.store_unknown();
                self.effects.lines.extend(effects::opened(&opened));
            }
            Err(error) => self.effects.line(Level::ERROR, "database", causes(&error)),
        }
    }

    /// Has stored what the database does not have: bans, and how far logs were read.
    fn store_unknown(&mut self) {
        let Some(state) = &self.state else { return };
        let mut unknown = Vec::new();
        for (name, jail) in &self.jails {
            let positions = jail.positions.iter().map(|(path, position)| ((jail.tag, path.clone()), position.clone()));
            self.positions.extend(positions);
            self.cursors.extend(jail.cursor.clone().map(|cursor| (jail.tag, cursor)));
            let rows = state.histories(name).unwrap_or_default().into_iter();
            let known: HashMap<Arc<str>, Time> = rows.map(|(id, history)| (id, history.time)).collect();
            // it keeps whole seconds
            let is_known = |id: &str, time: Time| known.get(id).is_some_and(|known| time - *known < 1.0);
            let bans = jail.counts.bans().iter().filter(|ban| !is_known(&ban.id.to_string(), ban.time));
            let bantime = jail.counts.limits().bantime;
            unknown.extend(bans.map(|ban| effects::row(name, ban, bantime, &self.general)));
        }
        // those that wait to be stored are among both
        unknown.retain(|row| !self.effects.unstored.contains(&row.id));
        self.effects.stored.extend(unknown.into_iter().map(Change::Ban));
        self.effects.urgent = true;
    }

    fn started(&self) -> Vec<Arc<str>> {
        self.jails.iter().filter(|(_, jail)| jail.started).map(|(name, _)| name.clone()).collect()
    }
}
