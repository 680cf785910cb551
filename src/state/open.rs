//! Opening, checking and repairing the file.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, types::Value};

use super::{BUSY, Error, Schema, State};
use crate::time::Time;

/// Tables of ours. Fail2Ban ignores them and its repair keeps them.
///
/// `position` repeats the offset: if it differs from Fail2Ban's row, Fail2Ban has run since
/// and the inode means nothing any more; so does `time` for the cursor.
const OWN: &str = "
    CREATE TABLE IF NOT EXISTS sekimori_logs(
        jail TEXT NOT NULL, path TEXT NOT NULL, position INTEGER NOT NULL, inode INTEGER NOT NULL,
        PRIMARY KEY(jail, path)) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS sekimori_journals(
        jail TEXT NOT NULL PRIMARY KEY, time REAL NOT NULL, cursor TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS sekimori_failures(
        jail TEXT NOT NULL, id TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
        retry INTEGER NOT NULL, failures INTEGER NOT NULL, data BLOB,
        PRIMARY KEY(jail, id)) WITHOUT ROWID;";

/// What was found when the database was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// It was there.
    Existing,
    /// There was none.
    Created,
    /// It was damaged: what could be read was copied into a new file.
    Repaired {
        /// Where the damaged file is now.
        moved: PathBuf,
        /// Rows that could be saved.
        rows: u64,
    },
}

impl State {
    /// Opens the file, or makes it (mode 0600, and its directory with 0700). A damaged file is moved
    /// aside under a name with the time, and replaced by a new one with the rows that can still be read.
    ///
    /// `path` `None` keeps everything in memory, as `dbfile = :memory:` asks for. For
    /// `dbfile = None` do not open any.
    ///
    /// # Errors
    /// The file cannot be used and was left as it is.
    pub fn open(path: Option<&Path>, schema: Schema, now: Time) -> Result<(State, Opened), Error> {
        let mut state =
            State { connection: None, path: path.map(Path::to_owned), schema, jails: std::collections::HashSet::new() };
        let Some(path) = path else {
            state.prepare(Connection::open_in_memory())?;
            return Ok((state, Opened::Created));
        };
        let is_new = create(path)?;
        match state.prepare(connect(path)) {
            Ok(()) => Ok((state, if is_new { Opened::Created } else { Opened::Existing })),
            Err(error) if error.is_corrupt() => state.repair(now).map(|opened| (state, opened)),
            Err(error) => Err(error),
        }
    }

    /// Moves the damaged file aside and starts a new one with what can still be read. What the
    /// caller knows to be banned should be committed again afterwards.
    ///
    /// # Errors
    /// The state cannot be used any more then, until a later call succeeds.
    pub fn repair(&mut self, now: Time) -> Result<Opened, Error> {
        self.connection = None;
        self.jails.clear();
        let Some(path) = self.path.clone() else {
            self.prepare(Connection::open_in_memory())?;
            return Ok(Opened::Created);
        };
        let moved = move_aside(&path, now)?;
        create(&path)?;
        self.prepare(connect(&path))?;
        let rows = self.salvage(&moved);
        Ok(Opened::Repaired { moved, rows })
    }

    /// Makes a fresh connection ours: settings, version, tables.
    fn prepare(&mut self, connection: Result<Connection, rusqlite::Error>) -> Result<(), Error> {
        let prepared = connection.and_then(|connection| {
            connection.busy_timeout(BUSY)?;
            connection.set_prepared_statement_cache_capacity(32);
            // before anything is written: a file of another version stays as it is
            let version = match connection.query_row(self.schema.read_version, [], |row| row.get(0)) {
                Ok(version) => version,
                Err(rusqlite::Error::QueryReturnedNoRows) => 0,
                Err(rusqlite::Error::SqliteFailure(_, Some(text))) if text.starts_with("no such table") => {
                    connection.execute_batch(self.schema.create)?;
                    self.schema.version
                }
                Err(error) => return Err(error),
            };
            if version == self.schema.version {
                connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
                connection.pragma_update(None, "synchronous", "NORMAL")?;
                connection.pragma_update(None, "temp_store", "MEMORY")?;
                connection.pragma_update(None, "foreign_keys", true)?;
                connection.execute_batch(OWN)?;
            }
            Ok((connection, version))
        });
        match prepared {
            Ok((_, version)) if version != self.schema.version => Err(Error::Version {
                path: self.path.clone().unwrap_or_default(),
                found: version,
                known: self.schema.version,
            }),
            Ok((connection, _)) => {
                self.connection = Some(connection);
                Ok(())
            }
            Err(source) => Err(self.failed("open", source)),
        }
    }

    /// Copies every row of the damaged file that can be read; the number of rows.
    fn salvage(&self, from: &Path) -> u64 {
        let (Ok(new), Ok(old)) =
            (self.connection(), Connection::open_with_flags(from, OpenFlags::SQLITE_OPEN_READ_ONLY))
        else {
            return 0;
        };
        let Ok(transaction) = new.unchecked_transaction() else { return 0 };
        let mut rows = 0;
        for (table, columns) in [
            ("jails", "name, enabled"),
            ("logs", "jail, path, firstlinemd5, lastfilepos"),
            ("bans", "jail, ip, timeofban, bantime, bancount, data"),
            ("bips", "ip, jail, timeofban, bantime, bancount, data"),
            ("sekimori_logs", "jail, path, position, inode"),
            ("sekimori_journals", "jail, time, cursor"),
            ("sekimori_failures", "jail, id, first, last, retry, failures, data"),
        ] {
            let marks = vec!["?"; columns.split(',').count()].join(", ");
            let Ok(mut insert) =
                transaction.prepare(&format!("INSERT OR IGNORE INTO {table}({columns}) VALUES({marks})"))
            else {
                continue;
            };
            let Ok(mut select) = old.prepare(&format!("SELECT {columns} FROM {table}")) else { continue };
            let width = select.column_count();
            let Ok(mut found) = select.query([]) else { continue };
            // the first page that cannot be read ends this table, not the others
            while let Ok(Some(row)) = found.next() {
                let values: Result<Vec<Value>, _> = (0..width).map(|index| row.get(index)).collect();
                if values.is_ok_and(|values| insert.execute(rusqlite::params_from_iter(values)).is_ok()) {
                    rows += 1;
                }
            }
        }
        if transaction.commit().is_ok() { rows } else { 0 }
    }
}

fn connect(path: &Path) -> Result<Connection, rusqlite::Error> {
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)
}

/// Makes an empty file that only its owner can read, unless there is one; true if it was made.
/// SQLite gives its journals the same mode.
fn create(path: &Path) -> Result<bool, Error> {
    let failed = |what, path: &Path, source| Error::File { what, path: path.to_owned(), source };
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    match options.open(path) {
        Ok(_) => return Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed("create database", path, error)),
    }
    if let Some(folder) = path.parent() {
        use std::os::unix::fs::DirBuilderExt as _;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|error| failed("create", folder, error))?;
    }
    options.open(path).map(|_| true).map_err(|error| failed("create database", path, error))
}

/// Renames the file, and its journals with it, to a name that ends in the time (UTC).
fn move_aside(path: &Path, now: Time) -> Result<PathBuf, Error> {
    let stamp = jiff::Timestamp::from_second(now.seconds())
        .map_or_else(|_| now.seconds().to_string(), |at| at.strftime("%Y%m%d-%H%M%S").to_string());
    let with = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let mut to = format!(".{stamp}");
    let mut number = 1;
    while with(&to).exists() {
        to = format!(".{stamp}-{number}");
        number += 1;
    }
    fs::rename(path, with(&to)).map_err(|source| Error::File { what: "move aside", path: path.to_owned(), source })?;
    for journal in ["-wal", "-shm", "-journal"] {
        // mostly there is none
        let _ = fs::rename(with(journal), with(&format!("{to}{journal}")));
    }
    Ok(with(&to))
}
