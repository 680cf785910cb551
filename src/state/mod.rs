//! What survives a restart: bans, log positions, failure counters.
//!
//! One SQLite file, in Fail2Ban's own layout so that either program can take over from the
//! other, plus tables of ours whose names begin with `sekimori_`. What belongs together is
//! committed together: a batch of log lines moves the position, the counters and the bans in
//! one transaction, so that after a crash the log is read again from exactly there.
//!
//! Nothing in here knows what a ban's `data` means: `fail2ban::database` writes and reads it,
//! and hands over the statements that make the tables ([`Schema`]). Every call blocks for at
//! most [`BUSY`] seconds on another process's lock, so a thread of its own should do the calls.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, params};

use crate::time::Time;

mod open;
mod read;

pub use open::Opened;
pub use read::{History, Restorable, Restore};

/// Stands for a file's path in Fail2Ban's rows about journals.
const JOURNAL: &str = "systemd-journal";

/// How long a call waits for another process that holds the database. Bans wait as long, and what
/// could not be stored is tried again.
pub const BUSY: Duration = Duration::from_millis(100);

/// The tables that another program prescribes.
#[derive(Clone, Copy, Debug)]
pub struct Schema {
    /// The version that is used; older ones are upgraded to it.
    pub version: i64,
    /// The statements that make the tables of that version in an empty file.
    pub create: &'static str,
    /// What makes the tables of the next version of an older one, and which one that is, in order.
    pub upgrades: &'static [(i64, &'static str)],
    /// Asks for the version of a file; no such table means an empty file.
    pub read_version: &'static str,
}

/// A row of the ban history.
#[derive(Clone, Debug, PartialEq)]
pub struct Ban {
    /// The jail.
    pub jail: Arc<str>,
    /// Whom, as text.
    pub id: Arc<str>,
    /// When; stored in whole seconds.
    pub time: Time,
    /// For how long, in seconds; -1 is for ever.
    pub bantime: f64,
    /// How many times this one was banned here, from 1.
    pub count: u32,
    /// Whatever else is known, in a form of the caller's.
    pub data: Vec<u8>,
}

/// How far the log of a jail has been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The jail.
    pub jail: Arc<str>,
    /// The log.
    pub path: PathBuf,
    /// Hash of the first line, or empty.
    pub hash: String,
    /// Bytes read.
    pub offset: u64,
    /// The file's inode; 0 if unknown (Fail2Ban wrote the row).
    pub inode: u64,
}

/// How far a jail has read its journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journal {
    /// The jail.
    pub jail: Arc<str>,
    /// When the journal got the last entry.
    pub time: Time,
    /// The same as text, for Fail2Ban.
    pub written: String,
    /// The journal's name for the entry; empty if Fail2Ban wrote the row.
    pub cursor: String,
}

/// A failure that is being counted.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// The jail.
    pub jail: Arc<str>,
    /// Who, as text.
    pub id: Arc<str>,
    /// Beginning of the window.
    pub first: Time,
    /// The latest failure.
    pub last: Time,
    /// The count that decides.
    pub retry: u32,
    /// All failures so far.
    pub failures: u32,
    /// Whatever else is known, in a form of the caller's.
    pub data: Vec<u8>,
}

/// One thing to remember. Order within a commit is kept.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A new ban: into the history, and the last one of this id.
    Ban(Ban),
    /// The last ban of someone has another length than was stored.
    Length {
        /// The jail.
        jail: Arc<str>,
        /// Who.
        id: Arc<str>,
        /// In seconds; -1 is for ever.
        bantime: f64,
    },
    /// Someone was let in by hand: all rows of this id in this jail go.
    Delete {
        /// The jail.
        jail: Arc<str>,
        /// Whom.
        id: Arc<str>,
    },
    /// All bans of a jail, and their history, go.
    DeleteAll(Arc<str>),
    /// A log was read up to here.
    Position(Position),
    /// A journal was read up to here.
    Journal(Journal),
    /// A counter has a new value.
    Failure(Failure),
    /// A counter is gone: banned, or too old.
    Forget {
        /// The jail.
        jail: Arc<str>,
        /// Who.
        id: Arc<str>,
    },
    /// All counters of a jail are gone.
    ForgetAll(Arc<str>),
    /// A jail runs, or no longer.
    Jail {
        /// Its name.
        name: Arc<str>,
        /// Whether it runs.
        enabled: bool,
    },
    /// The clock was set: what was remembered until then moves with it.
    Shift {
        /// Seconds; negative is back.
        by: f64,
        /// What the clock showed before. What is later is of another time.
        before: Time,
    },
    /// No jail runs (yet): the daemon has just started.
    NoJails,
}

/// Why something could not be remembered, or remembered things not be read.
///
/// After an error of [`State::commit`] nothing of that commit is stored; it may be tried again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// SQLite says no.
    #[error("cannot {what} database `{}`", path.display())]
    Database {
        /// What was being done.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: rusqlite::Error,
    },
    /// The file system says no.
    #[error("cannot {what} `{}`", path.display())]
    File {
        /// What was being done.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Of a version that is not yet, or no longer, understood. The file was not touched.
    #[error("database `{}` has version {found}, only up to {known} can be used; a newer program wrote it", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The version that is known.
        known: i64,
    },
    /// A database, but of another program. The file was not touched.
    #[error("database `{}` is of another program; name another file", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A database of the right program whose tables are not as they ought to be.
    #[error("database `{}` has damaged tables: {why}", path.display())]
    Tables {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

impl Error {
    /// Whether the file itself is damaged: [`State::repair`] may help, trying again will not.
    #[must_use]
    pub fn is_corrupt(&self) -> bool {
        matches!(self, Error::Tables { .. })
            || matches!(self.code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
    }

    /// Whether another process held the file for too long; trying again later helps.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        matches!(self.code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
    }

    /// Whether the same file may be usable later: locked now, on a disk that is full, read-only or not there.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        !matches!(self, Error::Version { .. } | Error::Foreign { .. })
    }

    fn code(&self) -> Option<ErrorCode> {
        match self {
            Error::Database { source, .. } => source.sqlite_error_code(),
            _ => None,
        }
    }
}

/// The open database.
#[derive(Debug)]
pub struct State {
    connection: Option<Connection>,
    /// `None`: in memory.
    path: Option<PathBuf>,
    schema: Schema,
    /// Device and inode of the file.
    file: Option<(u64, u64)>,
    /// Jails that certainly have a row, which rows of other tables need.
    jails: HashSet<Arc<str>>,
}

impl State {
    /// Carries out all changes in one transaction.
    ///
    /// # Errors
    /// Nothing was stored then: the disk is full, another process holds the file for more than
    /// [`BUSY`], the file is damaged.
    pub fn commit(&mut self, changes: &[Change]) -> Result<(), Error> {
        if changes.is_empty() {
            return Ok(());
        }
        // what is learnt of jails is true only if the transaction comes to its end
        let mut jails = std::mem::take(&mut self.jails);
        let done = self.connection().and_then(|connection| {
            let transaction = connection.unchecked_transaction()?;
            for change in changes {
                carry_out(&transaction, &mut jails, change)?;
            }
            transaction.commit()
        });
        match done {
            Ok(()) => {
                self.jails = jails;
                Ok(())
            }
            Err(source) => Err(self.failed("write to", source)),
        }
    }

    /// Forgets bans that are older than `age` seconds and over for long, and jails without any.
    ///
    /// # Errors
    /// Nothing was removed then.
    pub fn purge(&mut self, now: Time, age: f64) -> Result<(), Error> {
        let before = (now - age).as_f64();
        let done = self.connection().and_then(|connection| {
            let transaction = connection.unchecked_transaction()?;
            transaction.execute("DELETE FROM bans WHERE timeofban < ?1", [before])?;
            transaction.execute(
                "DELETE FROM bips WHERE timeofban < ?1 AND bantime <> -1 AND timeofban + 3 * bantime < ?1",
                [before],
            )?;
            transaction.execute(
                "DELETE FROM jails WHERE enabled = 0 AND name NOT IN (SELECT jail FROM bans) \
                 AND name NOT IN (SELECT jail FROM bips)",
                [],
            )?;
            for table in ["sekimori_logs", "sekimori_journals", "sekimori_failures"] {
                transaction.execute(&format!("DELETE FROM {table} WHERE jail NOT IN (SELECT name FROM jails)"), [])?;
            }
            transaction.commit()
        });
        self.jails.clear();
        done.map_err(|source| self.failed("purge", source))
    }

    /// Forgets how far logs were read, and counters.
    ///
    /// # Errors
    /// Nothing was removed then.
    pub fn forget_positions(&mut self) -> Result<(), Error> {
        let done = self.connection().and_then(|connection| {
            connection.execute_batch(
                "BEGIN; DELETE FROM logs; DELETE FROM sekimori_logs; DELETE FROM sekimori_journals; \
                 DELETE FROM sekimori_failures; COMMIT;",
            )
        });
        done.map_err(|source| self.failed("write to", source))
    }

    /// Closes the file and leaves it as Fail2Ban and readers without write access want it: in
    /// one piece, with a rollback journal. Without this call nothing is lost either.
    ///
    /// # Errors
    /// Another process reads the file; what was committed is safe in its write-ahead log.
    pub fn close(mut self) -> Result<(), Error> {
        let Some(connection) = self.connection.take() else { return Ok(()) };
        let done = connection
            .pragma_update_and_check(None, "journal_mode", "DELETE", |_| Ok(()))
            .and_then(|()| connection.close().map_err(|(_, error)| error));
        done.map_err(|source| self.failed("close", source))
    }

    /// Whether the file is still the one that was opened, and not emptied. Of that SQLite says
    /// nothing as long as it need not read, and what is written then is gone at the next start.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.path.as_deref().is_none_or(|path| self.file.is_none() || open::identity(path) == self.file)
    }

    /// The file; `None` if everything is in memory.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    fn connection(&self) -> Result<&Connection, rusqlite::Error> {
        self.connection.as_ref().ok_or(rusqlite::Error::InvalidQuery)
    }

    fn failed(&self, what: &'static str, source: rusqlite::Error) -> Error {
        Error::Database { what, path: self.path.clone().unwrap_or_else(|| ":memory:".into()), source }
    }
}

/// One change inside of a transaction.
fn carry_out(db: &Connection, jails: &mut HashSet<Arc<str>>, change: &Change) -> Result<(), rusqlite::Error> {
    let mut known = |jail: &Arc<str>| -> Result<(), rusqlite::Error> {
        if !jails.contains(jail) {
            db.prepare_cached("INSERT OR IGNORE INTO jails(name, enabled) VALUES(?1, 1)")?.execute([jail])?;
            jails.insert(jail.clone());
        }
        Ok(())
    };
    match change {
        Change::Ban(ban) => {
            known(&ban.jail)?;
            let seconds = whole_seconds(ban.time);
            let row = params![ban.jail, ban.id, seconds, ban.bantime, ban.count, ban.data];
            db.prepare_cached(
                "INSERT INTO bans(jail, ip, timeofban, bantime, bancount, data) VALUES(?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(row)?;
            db.prepare_cached(
                "INSERT OR REPLACE INTO bips(jail, ip, timeofban, bantime, bancount, data) \
                 VALUES(?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(row)?;
        }
        Change::Length { jail, id, bantime } => {
            let changed = params![jail, id, bantime];
            db.prepare_cached(
                "UPDATE bans SET bantime = ?3 WHERE jail = ?1 AND ip = ?2 \
                 AND timeofban = (SELECT timeofban FROM bips WHERE jail = ?1 AND ip = ?2)",
            )?
            .execute(changed)?;
            db.prepare_cached("UPDATE bips SET bantime = ?3 WHERE jail = ?1 AND ip = ?2")?.execute(changed)?;
        }
        Change::Delete { jail, id } => {
            db.prepare_cached("DELETE FROM bips WHERE jail = ?1 AND ip = ?2")?.execute([jail, id])?;
            db.prepare_cached("DELETE FROM bans WHERE jail = ?1 AND ip = ?2")?.execute([jail, id])?;
        }
        Change::DeleteAll(jail) => {
            db.execute("DELETE FROM bips WHERE jail = ?1", [jail])?;
            db.execute("DELETE FROM bans WHERE jail = ?1", [jail])?;
        }
        Change::Position(position) => {
            known(&position.jail)?;
            let path = position.path.to_string_lossy();
            let offset = i64::try_from(position.offset).unwrap_or(i64::MAX);
            db.prepare_cached(
                "INSERT INTO logs(jail, path, firstlinemd5, lastfilepos) VALUES(?1, ?2, ?3, ?4) \
                 ON CONFLICT(jail, path) DO UPDATE SET firstlinemd5 = ?3, lastfilepos = ?4",
            )?
            .execute(params![position.jail, path, position.hash, offset])?;
            db.prepare_cached(
                "INSERT OR REPLACE INTO sekimori_logs(jail, path, position, inode) VALUES(?1, ?2, ?3, ?4)",
            )?
            .execute(params![position.jail, path, offset, position.inode.cast_signed()])?;
        }
        Change::Journal(journal) => {
            known(&journal.jail)?;
            let seconds = journal.time.as_f64();
            db.prepare_cached(
                "INSERT INTO logs(jail, path, firstlinemd5, lastfilepos) VALUES(?1, ?2, ?3, ?4) \
                 ON CONFLICT(jail, path) DO UPDATE SET firstlinemd5 = ?3, lastfilepos = ?4",
            )?
            .execute(params![journal.jail, JOURNAL, journal.written, seconds])?;
            db.prepare_cached("INSERT OR REPLACE INTO sekimori_journals(jail, time, cursor) VALUES(?1, ?2, ?3)")?
                .execute(params![journal.jail, seconds, journal.cursor])?;
        }
        Change::Failure(failure) => {
            db.prepare_cached(
                "INSERT OR REPLACE INTO sekimori_failures(jail, id, first, last, retry, failures, data) \
                 VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![
                failure.jail,
                failure.id,
                failure.first.micros(),
                failure.last.micros(),
                failure.retry,
                failure.failures,
                failure.data
            ])?;
        }
        Change::Forget { jail, id } => {
            db.prepare_cached("DELETE FROM sekimori_failures WHERE jail = ?1 AND id = ?2")?.execute([jail, id])?;
        }
        Change::ForgetAll(jail) => {
            db.execute("DELETE FROM sekimori_failures WHERE jail = ?1", [jail])?;
        }
        Change::Jail { name, enabled } => {
            db.prepare_cached(
                "INSERT INTO jails(name, enabled) VALUES(?1, ?2) ON CONFLICT(name) DO UPDATE SET enabled = ?2",
            )?
            .execute(params![name, enabled])?;
            jails.insert(name.clone());
        }
        Change::Shift { by, before } => {
            let (seconds, last) = (by.round() as i64, whole_seconds(*before) + 1);
            for table in ["bans", "bips"] {
                let text = format!("UPDATE {table} SET timeofban = timeofban + ?1 WHERE timeofban <= ?2");
                db.execute(&text, [seconds, last])?;
            }
            db.execute(
                "UPDATE sekimori_failures SET first = first + ?1, last = last + ?1 WHERE last <= ?2",
                [(by * 1e6).round() as i64, last.saturating_mul(1_000_000)],
            )?;
        }
        Change::NoJails => {
            db.execute("UPDATE jails SET enabled = 0", [])?;
        }
    }
    Ok(())
}

/// Rounded to seconds, halves to the even one as Fail2Ban does.
fn whole_seconds(time: Time) -> i64 {
    let (seconds, micros) = (time.seconds(), time.micros().rem_euclid(1_000_000));
    seconds + i64::from(micros > 500_000 || (micros == 500_000 && seconds % 2 != 0))
}

#[cfg(test)]
mod tests;
