//! The address of a live SSH login is not banned without a warning first.
//!
//! Who mistypes a password while another session of theirs is open would shut themselves out.
//! The first time such an address would be banned from a log, the log says so instead; the
//! next time it is banned. Live logins are those that systemd-logind knows to come from a
//! remote host, and the one that the server was started from.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;

use crate::address::Id;
use crate::time::Time;

/// Where logind keeps what it knows of sessions; one file each, of lines `KEY=value`.
const SESSIONS: &str = "/run/systemd/sessions";
/// Most sessions that are looked at.
const MAX_SESSIONS: usize = 1000;
/// So long what was read is taken for true, in seconds.
const FRESH: f64 = 5.0;
/// A warning holds so long, in seconds: the next ban within this time is carried out.
const WARNED: f64 = 3600.0;

/// Knows who is logged in, and who has been warned.
#[derive(Debug)]
pub struct Guard {
    /// Where the server was started from.
    starter: Option<IpAddr>,
    live: Vec<IpAddr>,
    read: Option<Time>,
    warned: HashMap<IpAddr, Time>,
}

impl Guard {
    /// Takes the session that the server was started in from the environment.
    #[must_use]
    pub fn new() -> Guard {
        let starter = std::env::var("SSH_CONNECTION").ok();
        let starter = starter.and_then(|value| value.split(' ').next()?.parse().ok());
        Guard { starter, live: Vec::new(), read: None, warned: HashMap::new() }
    }

    /// Whether to warn instead of banning this one.
    pub fn spares(&mut self, id: &Id, now: Time) -> bool {
        let Some(prefix) = id.prefix().filter(|prefix| prefix.is_host()) else { return false };
        let address = prefix.address();
        if self.read.is_none_or(|read| !(0.0..FRESH).contains(&(now - read))) {
            self.read = Some(now);
            self.live = sessions(Path::new(SESSIONS));
            self.warned.retain(|_, since| (0.0..WARNED).contains(&(now - *since)));
        }
        if self.starter != Some(address) && !self.live.contains(&address) {
            return false;
        }
        self.warned.insert(address, now).is_none()
    }

    /// The address that the server was started from.
    #[must_use]
    pub fn starter(&self) -> Option<IpAddr> {
        self.starter
    }
}

impl Default for Guard {
    fn default() -> Guard {
        Guard::new()
    }
}

/// Remote hosts of sessions that are not about to end.
fn sessions(directory: &Path) -> Vec<IpAddr> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    entries
        .flatten()
        .take(MAX_SESSIONS)
        .filter_map(|entry| {
            let text = std::fs::read_to_string(entry.path()).ok()?;
            let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            if value("REMOTE") != Some("1") || value("STATE") == Some("closing") {
                return None;
            }
            value("REMOTE_HOST")?.parse().ok()
        })
        .collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    #[test]
    fn only_remote_sessions_that_are_open_count() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("1", "UID=0\nREMOTE=1\nREMOTE_HOST=192.0.2.7\nSTATE=active\n");
        write("2", "REMOTE=0\nREMOTE_HOST=192.0.2.8\n");
        write("3", "REMOTE=1\nREMOTE_HOST=192.0.2.9\nSTATE=closing\n");
        write("4", "REMOTE=1\nREMOTE_HOST=host.example\n");
        std::fs::create_dir(dir.path().join("5")).unwrap();
        assert_eq!(sessions(dir.path()), ["192.0.2.7".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn the_second_time_it_is_banned() {
        let address: IpAddr = "192.0.2.7".parse().unwrap();
        let now = Time::from_micros(0);
        let mut guard = Guard { starter: Some(address), live: vec![], read: Some(now), warned: HashMap::new() };
        let id = Id::parse("192.0.2.7");
        assert!(!guard.spares(&Id::parse("192.0.2.8"), now));
        assert!(guard.spares(&id, now));
        assert!(!guard.spares(&id, now));
        assert!(guard.spares(&id, now + 2.0 * WARNED));
    }
}
