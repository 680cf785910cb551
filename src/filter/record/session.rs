//! Sessions: lines that belong together by a `<F-MLFID>`, such as one connection of sshd.
//!
//! One line names the address, another the user, a third one says that it failed. What is
//! known of a session is kept for a while, so that the failing line can be told whole.
//! Outsiders open sessions as they like, so their number and their age are bounded.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use super::super::{Datum, Match};
use crate::time::Time;

/// So many sessions are remembered; the oldest goes first.
pub const MAX_SESSIONS: usize = 100;
/// So long is a session remembered, in seconds.
pub const MAX_AGE: f64 = 300.0;
/// So many lines of a session are told with its failure; then the oldest are left out.
pub const MAX_LINES: usize = 1000;
/// So many bytes of them, but always the last line.
pub const MAX_BYTES: usize = 64 * 1024;

/// Named groups of a match in the order of the pattern; `None` is a group that took no part.
pub type Groups = Vec<(Arc<str>, Option<Datum>)>;

/// What is known of one session, or of a single line that begins none.
#[derive(Clone, Debug, Default)]
pub struct Session {
    /// Captured values; those of later lines replace those of earlier ones.
    pub groups: Groups,
    /// All the users that were tried, each once.
    pub users: Vec<Arc<str>>,
    /// Lines that are told with the failure.
    pub matches: Vec<Match>,
    /// The last line was no failure by itself.
    pub nofail: bool,
    /// A failure waits for a line that names the address.
    pub pending: bool,
    gained: bool,
    quiet: Vec<Match>,
}

/// The sessions of one log, the oldest first.
#[derive(Debug, Default)]
pub struct Sessions {
    kept: VecDeque<(Arc<str>, Time, Session)>,
    /// Hashes of their ids: looked through before anything else.
    hashes: VecDeque<u64>,
    /// One that began and ended with the last line.
    brief: Session,
}

fn hash(id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish()
}

/// Sets a value, keeping the place of one that is there.
pub fn set(groups: &mut Groups, name: &Arc<str>, value: Option<Datum>) {
    match groups.iter_mut().find(|(known, _)| Arc::ptr_eq(known, name) || known == name) {
        Some((_, old)) => *old = value,
        None => groups.push((name.clone(), value)),
    }
}

fn take(groups: &mut Groups, name: &str) -> bool {
    let Some(index) = groups.iter().position(|(known, _)| &**known == name) else { return false };
    match groups.remove(index).1 {
        Some(Datum::Text(text)) => !text.is_empty(),
        Some(_) => true,
        None => false,
    }
}

/// Strangers decide how much they write within a session.
fn bound(lines: &mut Vec<Match>) {
    let mut bytes: usize = lines.iter().map(|line| line.line.len()).sum();
    let mut surplus = 0;
    while surplus + 1 < lines.len() && (lines.len() - surplus > MAX_LINES || bytes > MAX_BYTES) {
        bytes -= lines[surplus].line.len();
        surplus += 1;
    }
    lines.drain(..surplus);
}

impl Sessions {
    /// Adds a matched line to session `id` and returns what is then known of it.
    ///
    /// The caller finds out who failed; if nobody can be named yet it calls [`Sessions::wait`].
    pub fn merge(&mut self, id: &Arc<str>, mut groups: Groups, lines: Vec<Match>, now: Time) -> &Session {
        while self.kept.front().is_some_and(|(_, stored, _)| now - *stored > MAX_AGE) {
            self.remove(0);
        }
        let gained = take(&mut groups, "mlfgained");
        let mut nofail = take(&mut groups, "nofail") || gained;
        let forget = take(&mut groups, "mlfforget");
        let user = groups.iter().find_map(|(name, value)| match value {
            Some(Datum::Text(user)) if &**name == "user" && !user.is_empty() => Some(user.clone()),
            _ => None,
        });
        let hash = hash(id);
        let place = self.place(hash, id);
        let mut session = match place {
            Some(place) => std::mem::take(&mut self.kept[place].2),
            None => Session::default(),
        };
        if place.is_some() {
            let had_nofail = session.nofail || session.gained;
            if gained {
                session.pending = false;
            }
            if !had_nofail && !session.pending {
                session.matches.clear();
            }
            for (name, value) in groups {
                if value.is_some() {
                    set(&mut session.groups, &name, value);
                }
            }
        } else {
            session.groups = groups;
        }
        // A session that ends with its first line is never kept, so it collects no users.
        if let Some(user) = user
            && (place.is_some() || !forget)
            && !session.users.contains(&user)
        {
            session.users.push(user);
        }
        (session.nofail, session.gained) = (nofail, gained);
        // Someone who tries one name after another has failed, whatever this line says.
        if std::mem::take(&mut session.pending) || session.users.len() > 1 {
            (session.nofail, session.gained) = (false, false);
            nofail = false;
        }
        if !nofail {
            let earlier = std::mem::take(&mut session.matches);
            session.matches = std::mem::take(&mut session.quiet);
            session.matches.extend(earlier);
            session.matches.extend(lines);
            bound(&mut session.matches);
        } else if !forget {
            session.quiet.extend(lines);
            bound(&mut session.quiet);
        }
        if forget {
            if let Some(place) = place {
                self.remove(place);
            }
            self.brief = session;
            return &self.brief;
        }
        let place = match place {
            Some(place) => place,
            None => {
                if self.kept.len() >= MAX_SESSIONS {
                    self.remove(0);
                }
                self.kept.push_back((id.clone(), now, Session::default()));
                self.hashes.push_back(hash);
                self.kept.len() - 1
            }
        };
        let kept = &mut self.kept[place].2;
        *kept = session;
        kept
    }

    fn remove(&mut self, place: usize) {
        self.kept.remove(place);
        self.hashes.remove(place);
    }

    fn place(&self, hash: u64, id: &str) -> Option<usize> {
        let mut places = self.hashes.iter().enumerate().filter(|(_, known)| **known == hash).map(|(place, _)| place);
        places.find(|place| *self.kept[*place].0 == *id)
    }

    /// Session `id` has failed, but nobody knows yet from which address.
    pub fn wait(&mut self, id: &str) {
        if let Some(place) = self.place(hash(id), id) {
            self.kept[place].2.pending = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(sessions: &mut Sessions, groups: &[(&str, &str)], line: &str) -> Session {
        let groups =
            groups.iter().map(|(name, text)| (Arc::from(*name), Some(Datum::Text(Arc::from(*text))))).collect();
        let lines = vec![Match { line: line.into(), date: (0, 0) }];
        sessions.merge(&Arc::from("s"), groups, lines, Time::from_seconds(1000)).clone()
    }

    fn lines(session: &Session) -> Vec<&str> {
        session.matches.iter().map(|m| &*m.line).collect()
    }

    #[test]
    fn a_failure_carries_the_quiet_line_once() {
        let mut sessions = Sessions::default();
        assert!(add(&mut sessions, &[("nofail", "hello"), ("ip4", "192.0.2.1")], "a").nofail);
        assert_eq!(lines(&add(&mut sessions, &[("user", "bob")], "b")), ["a", "b"]);
        assert_eq!(lines(&add(&mut sessions, &[("user", "bob")], "c")), ["c"]);
    }

    #[test]
    fn a_session_without_end_keeps_its_last_lines() {
        let mut sessions = Sessions::default();
        let long = "x".repeat(1000);
        (0..500).for_each(|_| drop(add(&mut sessions, &[("nofail", "x")], &long)));
        let told = add(&mut sessions, &[("ip4", "192.0.2.1")], "the last");
        assert_eq!((lines(&told).len(), lines(&told).last()), (66, Some(&"the last")));
    }

    #[test]
    fn a_waiting_failure_is_told_by_the_line_that_names_the_address() {
        let mut sessions = Sessions::default();
        add(&mut sessions, &[("user", "bob")], "a");
        sessions.wait("s");
        let told = add(&mut sessions, &[("nofail", "x"), ("ip4", "192.0.2.1")], "b");
        assert!(!told.nofail);
        assert_eq!(lines(&told), ["a", "b"]);
    }

    #[test]
    fn a_login_after_another_users_failure_counts_and_one_after_the_same_does_not() {
        for (user, quiet) in [("bob", true), ("eve", false)] {
            let mut sessions = Sessions::default();
            add(&mut sessions, &[("user", "bob"), ("ip4", "192.0.2.1")], "a");
            let end = [("mlfgained", "x"), ("mlfforget", "x"), ("user", user)];
            assert_eq!(add(&mut sessions, &end, "b").nofail, quiet, "{user}");
            assert!(sessions.kept.is_empty());
        }
    }
}
