//! Opening, checking and repairing the file.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, types::Value};

use super::{BUSY, Error, Schema, State};
use crate::time::Time;

/// Memory for pages of the database, in KiB.
const CACHE: i32 = 512;

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

/// All tables with those of their columns that are used, and what stands in for a column that is missing.
const TABLES: [(&str, &[(&str, &str)]); 7] = [
    ("jails", &[("name", "NULL"), ("enabled", "0")]),
    ("logs", &[("jail", "NULL"), ("path", "NULL"), ("firstlinemd5", "''"), ("lastfilepos", "0")]),
    ("bans", &BANS),
    ("bips", &BANS),
    ("sekimori_logs", &[("jail", "NULL"), ("path", "NULL"), ("position", "NULL"), ("inode", "NULL")]),
    ("sekimori_journals", &[("jail", "NULL"), ("time", "NULL"), ("cursor", "NULL")]),
    (
        "sekimori_failures",
        &[
            ("jail", "NULL"),
            ("id", "NULL"),
            ("first", "NULL"),
            ("last", "NULL"),
            ("retry", "NULL"),
            ("failures", "NULL"),
            ("data", "NULL"),
        ],
    ),
];
const BANS: [(&str, &str); 6] = [
    ("jail", "NULL"),
    ("ip", "NULL"),
    ("timeofban", "NULL"),
    // the length is not known
    ("bantime", "-2"),
    ("bancount", "1"),
    ("data", "NULL"),
];

/// What was found when the database was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// It was there.
    Existing,
    /// It was of an older version.
    Upgraded {
        /// That version.
        from: i64,
        /// A copy of it as it was.
        copy: PathBuf,
    },
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
            State { connection: None, path: path.map(Path::to_owned), schema, file: None, jails: Default::default() };
        let Some(path) = path else {
            state.prepare(Connection::open_in_memory())?;
            return Ok((state, Opened::Created));
        };
        let is_new = create(path)?;
        match state.upgrade(now).and_then(|upgraded| state.prepare(connect(path)).map(|()| upgraded)) {
            Ok(Some(upgraded)) => Ok((state, upgraded)),
            Ok(None) => Ok((state, if is_new { Opened::Created } else { Opened::Existing })),
            Err(error) if error.is_corrupt() => state.repair(now).map(|opened| (state, opened)),
            Err(error) => Err(error),
        }
    }

    /// What can be read of a file, in memory; the file is not changed.
    ///
    /// # Errors
    /// Only if there is no memory.
    pub fn copy(path: &Path, schema: Schema, now: Time) -> Result<State, Error> {
        let (state, _) = State::open(None, schema, now)?;
        state.salvage(path);
        Ok(state)
    }

    /// Makes the tables of the present version of older ones, all in one transaction, after a copy of the file.
    fn upgrade(&self, now: Time) -> Result<Option<Opened>, Error> {
        let Some(path) = &self.path else { return Ok(None) };
        let failed = |source| self.failed("upgrade", source);
        let connection = connect(path).map_err(|source| self.failed("open", source))?;
        let Some(from) = version(&connection, &self.schema).map_err(|source| self.failed("open", source))? else {
            return Ok(None);
        };
        if !(1..self.schema.version).contains(&from) {
            return Ok(None);
        }
        let copy = free_name(path, now);
        create(&copy)?;
        connection.execute("VACUUM INTO ?1", [copy.to_string_lossy()]).map_err(failed)?;
        let steps = self.schema.upgrades.iter().filter(|(to, _)| *to > from).map(|(_, text)| *text);
        let text = format!("PRAGMA foreign_keys = OFF; BEGIN IMMEDIATE; {} COMMIT;", steps.collect::<String>());
        match connection.execute_batch(&text) {
            Ok(()) => Ok(Some(Opened::Upgraded { from, copy })),
            // what is missing or odd is left out by the repair
            Err(error) if is_odd(&error) => Err(Error::Tables { path: path.clone(), why: error.to_string() }),
            Err(error) => Err(failed(error)),
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
        let path = || self.path.clone().unwrap_or_default();
        let failed = |source| self.failed("open", source);
        let connection = connection.map_err(failed)?;
        connection.set_prepared_statement_cache_capacity(32);
        // before anything is written: a file that is not for us stays as it is
        match version(&connection, &self.schema).map_err(failed)? {
            Some(found) if found > self.schema.version => {
                return Err(Error::Version { path: path(), found, known: self.schema.version });
            }
            Some(found) if found != self.schema.version => {
                return Err(Error::Tables { path: path(), why: format!("there is no version {found}") });
            }
            Some(_) => {}
            None => {
                let tables = "SELECT count(*) FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'";
                if connection.query_row(tables, [], |row| row.get::<_, i64>(0)).map_err(failed)? > 0 {
                    return Err(Error::Foreign { path: path() });
                }
                connection.execute_batch(self.schema.create).map_err(failed)?;
            }
        }
        let set = || {
            connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
            connection.pragma_update(None, "synchronous", "NORMAL")?;
            connection.pragma_update(None, "temp_store", "MEMORY")?;
            // a quarter of what is usual: the kernel keeps the pages anyhow
            connection.pragma_update(None, "cache_size", -CACHE)?;
            connection.pragma_update(None, "foreign_keys", true)?;
            connection.execute_batch(OWN)
        };
        set().map_err(failed)?;
        for (table, columns) in TABLES {
            let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
            if let Err(error) = connection.prepare(&format!("SELECT {} FROM {table}", names.join(", "))) {
                return Err(match is_odd(&error) {
                    true => Error::Tables { path: path(), why: error.to_string() },
                    false => failed(error),
                });
            }
        }
        self.connection = Some(connection);
        self.file = self.path.as_deref().and_then(identity);
        Ok(())
    }

    /// Copies every row of a file that can be read; the number of rows.
    fn salvage(&self, from: &Path) -> u64 {
        let (Ok(new), Ok(old)) = (self.connection(), open_untrusted(from, OpenFlags::SQLITE_OPEN_READ_ONLY)) else {
            return 0;
        };
        let Ok(transaction) = new.unchecked_transaction() else { return 0 };
        if old.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())).is_err_and(|error| is_busy(&error)) {
            return 0; // each table would wait as long
        }
        let mut rows = 0;
        for (table, columns) in TABLES {
            rows += copy_rows(&old, table, &transaction, table, columns);
        }
        // as before version 4
        if old.prepare("SELECT ip FROM bips").is_err() {
            copy_rows(&old, "bans", &transaction, "bips", &BANS);
        }
        if transaction.commit().is_ok() { rows } else { 0 }
    }
}

/// Copies the rows of a table that can be read and stored; the number of them.
fn copy_rows(old: &Connection, from: &str, new: &Connection, to: &str, columns: &[(&str, &str)]) -> u64 {
    let list = |column: &dyn Fn(&(&str, &str)) -> String| columns.iter().map(column).collect::<Vec<_>>().join(", ");
    let names = list(&|(name, _)| (*name).to_owned());
    let marks = vec!["?"; columns.len()].join(", ");
    let Ok(mut insert) = new.prepare(&format!("INSERT OR REPLACE INTO {to}({names}) VALUES({marks})")) else {
        return 0;
    };
    let known = |name: &str| old.prepare(&format!("SELECT \"{from}\".{name} FROM {from}")).is_ok();
    let found = list(&|(name, other)| if known(name) { (*name).to_owned() } else { (*other).to_owned() });
    let Ok(mut select) = old.prepare(&format!("SELECT {found} FROM {from}")) else { return 0 };
    let Ok(mut found) = select.query([]) else { return 0 };
    // rows of a jail that has none itself would be refused
    let jail = columns.iter().position(|(name, _)| *name == "jail");
    let mut rows = 0;
    // the first page that cannot be read ends this table, not the others
    while let Ok(Some(row)) = found.next() {
        let values: Result<Vec<Value>, _> = (0..columns.len()).map(|index| row.get(index)).collect();
        let Ok(values) = values else { continue };
        if let Some(Value::Text(name)) = jail.map(|index| &values[index]) {
            // one that is refused is told of by what follows
            let _ = new
                .prepare_cached("INSERT OR IGNORE INTO jails(name, enabled) VALUES(?1, 0)")
                .and_then(|mut insert| insert.execute([name]));
        }
        rows += u64::from(insert.execute(rusqlite::params_from_iter(values)).is_ok());
    }
    rows
}

/// Whether a statement does not fit the tables: one of them, or a column, is missing, or is a view.
fn is_odd(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{AuthorizationForStatementDenied, Unknown};
    match error {
        rusqlite::Error::SqlInputError { .. } => true,
        error => matches!(error.sqlite_error_code(), Some(Unknown | AuthorizationForStatementDenied)),
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked))
}

/// The version of a file; `None` if it has no table that says so.
fn version(connection: &Connection, schema: &Schema) -> Result<Option<i64>, rusqlite::Error> {
    match connection.query_row(schema.read_version, [], |row| row.get::<_, Value>(0)) {
        Ok(Value::Integer(version)) => Ok(Some(version)),
        Ok(_) | Err(rusqlite::Error::QueryReturnedNoRows) => Ok(Some(0)),
        Err(error) if is_odd(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opens a file without letting its schema do anything: whoever made the file may have put triggers and
/// views into it.
fn open_untrusted(path: &Path, flags: OpenFlags) -> Result<Connection, rusqlite::Error> {
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY)?;
    for (what, on) in [
        (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false),
        (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
        (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
    ] {
        connection.set_db_config(what, on)?;
    }
    Ok(connection)
}

/// Which file it is; `None` if there is none, or nothing in it. It must not be opened for this:
/// with the end of that, SQLite's locks would be gone.
pub(super) fn identity(path: &Path) -> Option<(u64, u64)> {
    let data = fs::metadata(path).ok().filter(|data| data.len() > 0)?;
    Some((data.dev(), data.ino()))
}

fn connect(path: &Path) -> Result<Connection, rusqlite::Error> {
    open_untrusted(path, OpenFlags::SQLITE_OPEN_READ_WRITE)
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
    let to = free_name(path, now);
    fs::rename(path, &to).map_err(|source| Error::File { what: "move aside", path: path.to_owned(), source })?;
    for journal in ["-wal", "-shm", "-journal"] {
        // mostly there is none
        let _ = fs::rename(with(path, journal), with(&to, journal));
    }
    Ok(to)
}

/// A name beside a file that ends in the time (UTC) and is not taken.
fn free_name(path: &Path, now: Time) -> PathBuf {
    let stamp = jiff::Timestamp::from_second(now.seconds())
        .map_or_else(|_| now.seconds().to_string(), |at| at.strftime("%Y%m%d-%H%M%S").to_string());
    let mut to = with(path, &format!(".{stamp}"));
    let mut number = 1;
    while to.exists() {
        to = with(path, &format!(".{stamp}-{number}"));
        number += 1;
    }
    to
}

fn with(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
