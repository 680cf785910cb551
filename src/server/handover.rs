//! Bans that another server had in force, handed over at the start.
//!
//! A list of a living server knows what no database does: bans of a server without one, and lengths that were
//! changed while it ran. `sekimori takeover` writes it beside the control socket; the server that starts next takes
//! it away and restores these bans besides those of the database, with the length that they have in the list.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::fail2ban::database;
use crate::state::{self, Change};
use crate::time::Time;

/// Largest list that is read, in bytes.
const MAX_FILE: u64 = 256 << 20;
/// A list is for a server that starts within so many seconds.
const FRESH: f64 = 3600.0;

/// A ban that is handed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handed {
    /// The jail.
    pub jail: String,
    /// Whom.
    pub id: String,
    /// When it began, in seconds since the epoch.
    pub time: i64,
    /// Its length in seconds, -1 for ever.
    pub bantime: i64,
}

#[derive(Serialize, Deserialize)]
struct List {
    written: f64,
    bans: Vec<Handed>,
}

/// Where the list is.
#[must_use]
pub fn path(socket: &Path) -> PathBuf {
    let mut name = socket.as_os_str().to_owned();
    name.push(".handover");
    name.into()
}

/// Leaves a list for the server that starts next.
///
/// # Errors
/// If it cannot be written.
pub fn leave(socket: &Path, bans: Vec<Handed>, now: Time) -> io::Result<()> {
    let path = path(socket);
    if let Some(directory) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
    }
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let text = serde_json::to_vec(&List { written: now.as_f64(), bans })?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(&text)?;
    file.sync_all()
}

/// Takes the list away; by jail, and empty if there is none that is meant for this start.
///
/// # Errors
/// If there is one that cannot be used; the text says why.
pub fn take(socket: &Path, now: Time) -> Result<HashMap<String, Vec<Handed>>, String> {
    let path = path(socket);
    let no_link = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    let file = match OpenOptions::new().read(true).custom_flags(no_link).open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(HashMap::new()),
        other => other,
    };
    let read = || {
        let file = file?;
        let facts = file.metadata()?;
        if facts.uid() != rustix::process::geteuid().as_raw() || facts.mode() & 0o077 != 0 || !facts.is_file() {
            return Err(io::Error::other("it is not a file of this user alone"));
        }
        let mut text = Vec::new();
        file.take(MAX_FILE).read_to_end(&mut text)?;
        Ok(serde_json::from_slice::<List>(&text)?)
    };
    let list = read();
    // it is for one start only
    let removed = fs::remove_file(&path);
    let list =
        list.and_then(|list| removed.map(|()| list)).map_err(|error| format!("`{}`: {error}", path.display()))?;
    let mut bans: HashMap<String, Vec<Handed>> = HashMap::new();
    if (0.0..FRESH).contains(&(now.as_f64() - list.written)) {
        for ban in list.bans {
            bans.entry(ban.jail.clone()).or_default().push(ban);
        }
    }
    Ok(bans)
}

/// Adds what is handed over to the rows of a database, and gives the rows the lengths of the list; the changes that
/// make the database agree.
pub(super) fn merge(bans: &mut Vec<state::Ban>, jail: &Arc<str>, handed: Vec<Handed>, most: i64) -> Vec<Change> {
    let places: HashMap<Arc<str>, usize> = bans.iter().enumerate().map(|(at, ban)| (ban.id.clone(), at)).collect();
    let mut changes = Vec::new();
    for Handed { id, time, bantime, .. } in handed {
        let (time, bantime) = (Time::from_seconds(time), bantime as f64);
        let place = places.get(&*id).map(|at| &mut bans[*at]);
        if let Some(row) = place {
            // a second is what a list rounds to
            if (row.time - time).abs() > 1.0 {
                (row.time, row.bantime) = (time, bantime);
                changes.push(Change::Ban(row.clone()));
            } else if (row.bantime - bantime).abs() >= 1.0 {
                row.bantime = bantime;
                changes.push(Change::Length { jail: jail.clone(), id: row.id.clone(), bantime });
            }
            continue;
        }
        let data = database::encode(&database::Ticket::default(), most.max(0) as usize);
        let row = state::Ban { jail: jail.clone(), id: id.into(), time, bantime, count: 1, data };
        changes.push(Change::Ban(row.clone()));
        bans.push(row);
    }
    changes
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_list_is_for_one_start_of_the_same_user_soon_after() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("new/sock");
        let at = Time::from_seconds;
        let ban = Handed { jail: "j".into(), id: "192.0.2.7".into(), time: 5, bantime: -1 };
        assert!(take(&socket, at(10)).unwrap().is_empty());
        leave(&socket, vec![ban.clone()], at(10)).unwrap();
        leave(&socket, vec![ban.clone()], at(11)).unwrap();
        assert_eq!(take(&socket, at(20)).unwrap(), HashMap::from([("j".to_owned(), vec![ban.clone()])]));
        assert!(take(&socket, at(20)).unwrap().is_empty());
        leave(&socket, vec![ban.clone()], at(10)).unwrap();
        assert!(take(&socket, at(10_000)).unwrap().is_empty(), "too old");
        leave(&socket, vec![ban], at(10)).unwrap();
        fs::set_permissions(path(&socket), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(take(&socket, at(10)).is_err());
        fs::write(path(&socket), "{").unwrap();
        fs::set_permissions(path(&socket), fs::Permissions::from_mode(0o600)).unwrap();
        assert!(take(&socket, at(10)).is_err());
        assert!(!path(&socket).exists());
    }
}
