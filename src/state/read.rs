//! What is read back: at start, and when someone comes again.

use std::sync::Arc;

use rusqlite::{Row, types::Type, types::ValueRef};

use super::{Ban, Error, Failure, JOURNAL, Journal, Position, State};
use crate::time::Time;

/// Most bans that are restored of one jail; the kernel takes no more either.
const MAX_BANS: u32 = 1 << 20;
/// Bytes of the longest identifier and of the longest `data` that are read; more is no work of ours.
const MAX_ID: u32 = 1024;
const MAX_DATA: u32 = 256 * 1024;
/// Bytes of `data` that are kept of all bans of a jail together; bans beyond are restored without.
const MAX_ALL_DATA: usize = 64 * 1024 * 1024;

/// Which bans of a jail are still to be carried out after a restart. Times in seconds.
#[derive(Clone, Debug)]
pub struct Restore<'a> {
    /// The jail.
    pub jail: &'a str,
    /// Now.
    pub now: Time,
    /// The jail's `bantime`; -1 is for ever.
    pub bantime: f64,
    /// With `bantime.increment`: the longest ban, -1 if there is no such limit. Without: `None`.
    pub increment: Option<f64>,
}

/// The bans of a jail that are still in force.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Restorable {
    /// By id.
    pub bans: Vec<Ban>,
    /// Rows that say nothing usable.
    pub unusable: usize,
}

/// The last ban of someone in a jail.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct History {
    /// How many bans there were.
    pub count: u32,
    /// When the last one began.
    pub time: Time,
    /// Its length in seconds; -1 is for ever.
    pub bantime: f64,
}

impl State {
    /// Jails that ran when the file was last written, by name.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn enabled_jails(&self) -> Result<Vec<String>, Error> {
        self.rows("SELECT name FROM jails WHERE enabled = 1 ORDER BY name", [], |row| row.get(0))
    }

    /// The bans of a jail that last beyond now, by id, with the length that they have under
    /// the present settings: a lowered `bantime` shortens them, a raised one changes nothing.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn restorable(&self, which: &Restore<'_>) -> Result<Restorable, Error> {
        let now = which.now.as_f64();
        let query = format!(
            "SELECT jail, iif(octet_length(ip) <= {MAX_ID}, ip, NULL), timeofban, bantime, bancount, \
             iif(octet_length(data) <= {MAX_DATA}, data, NULL) FROM bips \
             WHERE jail = ?1 AND (timeofban + bantime > ?2 OR bantime <= -1) ORDER BY ip LIMIT {MAX_BANS}"
        );
        let mut room = MAX_ALL_DATA;
        let (mut bans, unusable) = self.rows_and_unusable(&query, rusqlite::params![which.jail, now], |row| {
            let mut ban = ban(row)?;
            match room.checked_sub(ban.data.len()) {
                Some(left) => room = left,
                None => ban.data = Vec::new(),
            }
            Ok(ban)
        })?;
        bans.retain_mut(|ban| present_length(ban, which));
        Ok(Restorable { bans, unusable })
    }

    /// How far the logs of a jail were read.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn positions(&self, jail: &str) -> Result<Vec<Position>, Error> {
        self.positions_at(jail, None)
    }

    /// How far one log of a jail was read.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn position(&self, jail: &str, path: &str) -> Result<Option<Position>, Error> {
        Ok(self.positions_at(jail, Some(path))?.pop())
    }

    fn positions_at(&self, jail: &str, path: Option<&str>) -> Result<Vec<Position>, Error> {
        self.rows(
            "SELECT logs.jail, logs.path, firstlinemd5, lastfilepos, position, inode FROM logs \
             LEFT JOIN sekimori_logs AS own ON own.jail = logs.jail AND own.path = logs.path \
             WHERE logs.jail = ?1 AND logs.path <> ?3 AND logs.path = coalesce(?2, logs.path)",
            (jail, path, JOURNAL),
            |row| {
                let offset = number(row, 3)?.max(0.0) as u64;
                let same = row.get::<_, Option<i64>>(4)?.is_some_and(|own| own.cast_unsigned() == offset);
                Ok(Position {
                    jail: row.get(0)?,
                    path: row.get::<_, String>(1)?.into(),
                    hash: row.get::<_, Option<String>>(2)?.unwrap_or_default(),
                    offset,
                    inode: if same { row.get::<_, i64>(5)?.cast_unsigned() } else { 0 },
                })
            },
        )
    }

    /// How far the journal of a jail was read.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn journal(&self, jail: &str) -> Result<Option<Journal>, Error> {
        let rows = self.rows(
            "SELECT logs.jail, firstlinemd5, lastfilepos, time, cursor FROM logs \
             LEFT JOIN sekimori_journals AS own ON own.jail = logs.jail \
             WHERE logs.jail = ?1 AND logs.path = ?2",
            [jail, JOURNAL],
            |row| {
                let seconds = number(row, 2)?;
                let same = row.get::<_, Option<f64>>(3)? == Some(seconds);
                Ok(Journal {
                    jail: row.get(0)?,
                    time: Time::from_f64(seconds),
                    written: row.get::<_, Option<String>>(1)?.unwrap_or_default(),
                    cursor: if same { row.get(4)? } else { String::new() },
                })
            },
        )?;
        Ok(rows.into_iter().next())
    }

    /// The failure counters of a jail.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn failures(&self, jail: &str) -> Result<Vec<Failure>, Error> {
        self.rows(
            "SELECT jail, id, first, last, retry, failures, data FROM sekimori_failures WHERE jail = ?1",
            [jail],
            |row| {
                Ok(Failure {
                    jail: row.get(0)?,
                    id: row.get(1)?,
                    first: Time::from_micros(row.get(2)?),
                    last: Time::from_micros(row.get(3)?),
                    retry: row.get(4)?,
                    failures: row.get(5)?,
                    data: bytes(row, 6)?,
                })
            },
        )
    }

    /// The last ban of someone in each jail.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn histories_of(&self, id: &str) -> Result<Vec<(Arc<str>, History)>, Error> {
        self.rows("SELECT jail, bancount, timeofban, bantime FROM bips WHERE ip = ?1", [id], history)
    }

    /// All earlier bans of a jail by id, for a caller that keeps them in memory.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn histories(&self, jail: &str) -> Result<Vec<(Arc<str>, History)>, Error> {
        self.rows("SELECT ip, bancount, timeofban, bantime FROM bips WHERE jail = ?1", [jail], history)
    }

    /// Every ban of someone, the latest first: in one jail, or with `jail` `None` in all.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn bans_of(&self, id: &str, jail: Option<&str>) -> Result<Vec<Ban>, Error> {
        self.rows(
            "SELECT jail, ip, timeofban, bantime, bancount, data FROM bans \
             WHERE ip = ?1 AND (?2 IS NULL OR jail = ?2) ORDER BY timeofban DESC",
            rusqlite::params![id, jail],
            ban,
        )
    }

    pub(super) fn rows<T>(
        &self,
        query: &str,
        parameters: impl rusqlite::Params,
        row: impl FnMut(&Row<'_>) -> Result<T, rusqlite::Error>,
    ) -> Result<Vec<T>, Error> {
        self.rows_and_unusable(query, parameters, row).map(|(rows, _)| rows)
    }

    /// The rows, and the number of those whose values are of no use: one of them costs the others nothing.
    fn rows_and_unusable<T>(
        &self,
        query: &str,
        parameters: impl rusqlite::Params,
        mut row: impl FnMut(&Row<'_>) -> Result<T, rusqlite::Error>,
    ) -> Result<(Vec<T>, usize), Error> {
        use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType, Utf8Error};
        let found = self.connection().and_then(|db| {
            let mut statement = db.prepare_cached(query)?;
            let mut rows = statement.query(parameters)?;
            let (mut usable, mut unusable) = (Vec::new(), 0);
            while let Some(next) = rows.next()? {
                match row(next) {
                    Ok(value) => usable.push(value),
                    Err(
                        FromSqlConversionFailure(..)
                        | IntegralValueOutOfRange(..)
                        | InvalidColumnType(..)
                        | Utf8Error(..),
                    ) => unusable += 1,
                    Err(error) => return Err(error),
                }
            }
            Ok((usable, unusable))
        });
        found.map_err(|source| self.failed("read", source))
    }
}

/// Gives a stored ban its length under the present settings; false if it is over.
fn present_length(ban: &mut Ban, which: &Restore<'_>) -> bool {
    // without increment a jail never had a longer ban than its own
    if which.increment.is_none() && which.bantime >= 0.0 && ban.time <= which.now - which.bantime {
        return false;
    }
    if ban.bantime <= -2.0 {
        // written by a version that did not keep the length
        ban.bantime = which.bantime;
    }
    let longest = which.increment.unwrap_or(which.bantime);
    if longest >= 0.0 && (ban.bantime < 0.0 || ban.bantime > longest) {
        ban.bantime = longest;
    }
    ban.bantime < 0.0 || ban.time + ban.bantime > which.now
}

/// A name and a history.
fn history(row: &Row<'_>) -> Result<(Arc<str>, History), rusqlite::Error> {
    Ok((
        row.get(0)?,
        History { count: count(row, 1)?, time: Time::from_f64(number(row, 2)?), bantime: number(row, 3)? },
    ))
}

fn ban(row: &Row<'_>) -> Result<Ban, rusqlite::Error> {
    Ok(Ban {
        jail: row.get(0)?,
        id: row.get(1)?,
        time: Time::from_f64(number(row, 2)?),
        bantime: number(row, 3)?,
        count: count(row, 4)?,
        data: bytes(row, 5)?,
    })
}

fn count(row: &Row<'_>, column: usize) -> Result<u32, rusqlite::Error> {
    Ok(number(row, column)?.clamp(0.0, f64::from(u32::MAX)) as u32)
}

/// A column that ought to be a number, whole or not.
fn number(row: &Row<'_>, column: usize) -> Result<f64, rusqlite::Error> {
    let value = match row.get_ref(column)? {
        ValueRef::Integer(number) => Some(number as f64),
        ValueRef::Real(number) => Some(number),
        ValueRef::Text(bytes) => std::str::from_utf8(bytes).ok().and_then(|text| text.trim().parse().ok()),
        _ => None,
    };
    value
        .filter(|number| number.is_finite())
        .ok_or_else(|| rusqlite::Error::InvalidColumnType(column, column.to_string(), Type::Null))
}

/// A column that may be a BLOB, a text or nothing.
fn bytes(row: &Row<'_>, column: usize) -> Result<Vec<u8>, rusqlite::Error> {
    Ok(match row.get_ref(column)? {
        ValueRef::Blob(bytes) | ValueRef::Text(bytes) => bytes.to_vec(),
        _ => Vec::new(),
    })
}
