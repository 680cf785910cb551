//! Sessions: lines that belong together by a `<F-MLFID>`, such as one connection of sshd.
//!
//! One line names the address, another the user, a third one says that it failed. What is
//! known of a session is kept for a while, so that the failing line can be told whole.
//! Outsiders open sessions as they like, so their number and their age are bounded.

use std::collections::VecDeque;
use std::sync::Arc;

use super::super::{Datum, Match};
use super::values::{self, Name, Value, Values};
use crate::time::Time;

/// So many sessions are remembered; the oldest goes first.
pub const MAX_SESSIONS: usize = 100;
/// So long is a session remembered, in seconds.
pub const MAX_AGE: f64 = 300.0;
/// So many lines of a session are told with its failure; then the oldest are left out.
pub const MAX_LINES: usize = 1000;
/// So many bytes of them, but always the last line.
pub const MAX_BYTES: usize = 64 * 1024;
/// So many users of a session are told, at most half of [`MAX_BYTES`]; then no new ones are.
pub const MAX_USERS: usize = 1000;
/// Texts that a session has replaced, or an ended one had, are left in memory up to so many bytes.
const SLACK: usize = 1024;

/// Named groups of a match in the order of the pattern; `None` is a group that took no part.
pub type Groups = Vec<(Arc<str>, Option<Datum>)>;

/// What is known of one session.
#[derive(Debug, Default)]
struct Session {
    /// Captured texts, one behind the other.
    text: String,
    /// Captured values; those of later lines replace those of earlier ones.
    groups: Vec<(Name, Option<Held>)>,
    /// All the users that were tried, each once.
    users: Vec<Span>,
    /// Lines that are told with the failure.
    matches: Vec<Match>,
    /// The last line was no failure by itself.
    nofail: bool,
    /// A failure waits for a line that names the address.
    pending: bool,
    gained: bool,
    quiet: Vec<Match>,
}

/// A place in the text of a session, in bytes.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: u32,
    end: u32,
}

/// A value of a session.
#[derive(Debug)]
enum Held {
    Text(Span),
    Other(Datum),
}

/// What is told of a session after a line.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Captured values; those of later lines replace those of earlier ones.
    pub groups: Groups,
    /// All the users that were tried, each once.
    pub users: Vec<Arc<str>>,
    /// Lines that are told with the failure.
    pub matches: Vec<Match>,
    /// The last line was no failure by itself; then the others may be left empty.
    pub nofail: bool,
}

/// One session that is remembered.
#[derive(Debug)]
struct Kept {
    id: String,
    since: Time,
    session: Session,
}

/// Counts of sessions by the end of their hash; most ids that are not there are seen not to be.
type Counts = [u8; 1024];

/// The sessions of one log, the oldest first.
#[derive(Debug)]
pub struct Sessions {
    kept: VecDeque<Box<Kept>>,
    /// Hashes of their ids: looked through before anything else.
    hashes: VecDeque<u64>,
    counts: Box<Counts>,
    shared: Shared,
    /// Memory of sessions that have ended.
    #[expect(clippy::vec_box, reason = "they move between the two")]
    free: Vec<Box<Kept>>,
}

impl Default for Sessions {
    fn default() -> Sessions {
        Sessions {
            kept: VecDeque::new(),
            hashes: VecDeque::new(),
            counts: Box::new([0; 1024]),
            shared: Shared::default(),
            free: Vec::new(),
        }
    }
}

/// Short texts that come again and again, such as `root`: what is kept of many failures has them once.
#[derive(Debug, Default)]
struct Shared(Vec<Option<Arc<str>>>);

/// So many such texts are at hand, and so many bytes has the longest.
const MOST_SHARED: usize = 64;
const LONGEST_SHARED: usize = 24;

impl Shared {
    fn text(&mut self, text: &str) -> Arc<str> {
        if text.len() > LONGEST_SHARED {
            return text.into();
        }
        self.0.resize(MOST_SHARED, None);
        let place = &mut self.0[(hash(text) >> 32) as usize % MOST_SHARED];
        match place {
            Some(known) if **known == *text => known.clone(),
            _ => place.insert(text.into()).clone(),
        }
    }
}

/// Eight bytes at a time; ids that strangers make collide cost a comparison with each session.
fn hash(id: &str) -> u64 {
    let step = |hash: u64, word: u64| (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    let (words, rest) = id.as_bytes().as_chunks::<8>();
    let hash = words.iter().fold(id.len() as u64, |hash, word| step(hash, u64::from_le_bytes(*word)));
    rest.iter().fold(hash, |hash, byte| step(hash, u64::from(*byte)))
}

fn number(hash: u64) -> usize {
    (hash >> 54) as usize
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
    /// Adds a matched line to session `id` and returns what is then known of it; of a session
    /// that did not fail only if `all`. `lines` adds the line, if it is kept.
    ///
    /// The caller finds out who failed; if nobody can be named yet it calls [`Sessions::wait`].
    pub(super) fn merge(
        &mut self,
        id: &str,
        mut values: Values<'_>,
        lines: impl FnOnce(&mut Vec<Match>),
        now: Time,
        all: bool,
    ) -> Told {
        while self.kept.front().is_some_and(|kept| now - kept.since > MAX_AGE) {
            self.remove(0);
        }
        let gained = values.take(values::MLFGAINED);
        let mut nofail = values.take(values::NOFAIL) || gained;
        let forget = values.take(values::MLFFORGET);
        let hash = hash(id);
        let place = self.place(hash, id);
        let known = place.is_some();
        if !known && forget {
            // It ends with its first line, so it is never kept and collects no users.
            let mut told = Told { nofail, ..Told::default() };
            if !nofail {
                lines(&mut told.matches);
                bound(&mut told.matches);
            }
            if !nofail || all {
                told.groups = self.groups(&values);
            }
            return told;
        }
        let place = place.unwrap_or_else(|| self.open(hash, id, now));
        let session = &mut self.kept[place].session;
        if known {
            let had_nofail = session.nofail || session.gained;
            if gained {
                session.pending = false;
            }
            if !had_nofail && !session.pending {
                session.matches.clear();
            }
        }
        session.learn(&values, known);
        (session.nofail, session.gained) = (nofail, gained);
        // Someone who tries one name after another has failed, whatever this line says.
        if std::mem::take(&mut session.pending) || session.users.len() > 1 {
            (session.nofail, session.gained) = (false, false);
            nofail = false;
        }
        if !nofail {
            let Session { quiet, matches, .. } = session;
            quiet.append(matches);
            lines(quiet);
            bound(quiet);
            std::mem::swap(quiet, matches);
        } else if !forget {
            lines(&mut session.quiet);
            bound(&mut session.quiet);
        }
        let told = if nofail && !all {
            Told { nofail, ..Told::default() }
        } else {
            let groups = session.told(&mut self.shared);
            let users = session.users(&groups);
            Told { groups, users, matches: session.matches.clone(), nofail }
        };
        if forget {
            self.remove(place);
        }
        told
    }

    /// Values that belong to no session, copied to be kept.
    pub(super) fn groups(&mut self, values: &Values<'_>) -> Groups {
        let mut datum = |value: &Value<'_>| match value {
            Value::Text(text) => Datum::Text(self.shared.text(text)),
            other => other.owned(),
        };
        values.iter().map(|(name, value)| (name.text.clone(), value.as_ref().map(&mut datum))).collect()
    }

    /// Begins a session; the oldest makes room.
    fn open(&mut self, hash: u64, id: &str, now: Time) -> usize {
        if self.kept.len() >= MAX_SESSIONS {
            self.remove(0);
        }
        let new = || Box::new(Kept { id: String::new(), since: now, session: Session::default() });
        let mut kept = self.free.pop().unwrap_or_else(new);
        kept.since = now;
        kept.id.push_str(id);
        self.kept.push_back(kept);
        self.hashes.push_back(hash);
        self.counts[number(hash)] += 1;
        self.kept.len() - 1
    }

    fn remove(&mut self, place: usize) {
        if let Some(hash) = self.hashes.remove(place) {
            self.counts[number(hash)] -= 1;
        }
        if let Some(mut kept) = self.kept.remove(place) {
            kept.id.clear();
            kept.id.shrink_to(SLACK);
            kept.session.clear();
            self.free.push(kept);
        }
    }

    fn place(&self, hash: u64, id: &str) -> Option<usize> {
        if self.counts[number(hash)] == 0 {
            return None;
        }
        // mostly it is one of the last
        let places = self.hashes.iter().enumerate().rev();
        let mut places = places.filter(|(_, known)| **known == hash).map(|(place, _)| place);
        places.find(|place| self.kept[*place].id == id)
    }

    /// Session `id` has failed, but nobody knows yet from which address.
    pub fn wait(&mut self, id: &str) {
        if let Some(place) = self.place(hash(id), id) {
            self.kept[place].session.pending = true;
        }
    }
}

impl Session {
    /// Takes over the values of a line; if there were some before, only those that are set.
    fn learn(&mut self, values: &Values<'_>, known: bool) {
        for (name, value) in values.iter() {
            let old = if known { self.groups.iter().position(|(other, _)| other == name) } else { None };
            let place = match (old, value) {
                (None, None) if known => continue,
                (Some(_), None) => continue,
                (None, value) => {
                    let value = value.as_ref().map(|value| self.hold(value));
                    self.groups.push((*name, value));
                    self.groups.len() - 1
                }
                (Some(place), Some(value)) => {
                    if !self.is(place, value) {
                        self.groups[place].1 = Some(self.hold(value));
                    }
                    place
                }
            };
            if name.is(values::USER) {
                self.learn_user(place);
            }
        }
        if self.text.len() > MAX_BYTES {
            self.tidy();
        }
    }

    /// Takes over the user in this place.
    fn learn_user(&mut self, place: usize) {
        let Some(Held::Text(user)) = self.groups[place].1 else { return };
        let is_it = |known: &Span| self.at(*known) == self.at(user);
        if user.start == user.end || self.users.iter().any(is_it) || self.users.len() >= MAX_USERS {
            return;
        }
        let bytes: u32 = self.users.iter().map(|known| known.end - known.start).sum();
        if self.users.is_empty() || (bytes as usize) < MAX_BYTES / 2 {
            self.users.push(user);
        }
    }

    fn hold(&mut self, value: &Value<'_>) -> Held {
        match value {
            Value::Text(text) => {
                let start = self.text.len() as u32;
                self.text.push_str(text);
                Held::Text(Span { start, end: self.text.len() as u32 })
            }
            other => Held::Other(other.owned()),
        }
    }

    /// Whether the value in this place is this text.
    fn is(&self, place: usize, value: &Value<'_>) -> bool {
        matches!((value, &self.groups[place].1), (Value::Text(text), Some(Held::Text(span))) if self.at(*span) == *text)
    }

    fn at(&self, span: Span) -> &str {
        &self.text[span.start as usize..span.end as usize]
    }

    /// Leaves out the texts that have been replaced.
    #[cold]
    fn tidy(&mut self) {
        let held = self.groups.iter_mut().filter_map(|(_, value)| match value {
            Some(Held::Text(span)) => Some(span),
            _ => None,
        });
        let mut text = String::new();
        for span in held.chain(&mut self.users) {
            let start = text.len() as u32;
            text.push_str(&self.text[span.start as usize..span.end as usize]);
            *span = Span { start, end: text.len() as u32 };
        }
        self.text = text;
    }

    fn told(&self, shared: &mut Shared) -> Groups {
        let mut datum = |value: &Held| match value {
            Held::Text(span) => Datum::Text(shared.text(self.at(*span))),
            Held::Other(datum) => datum.clone(),
        };
        self.groups.iter().map(|(name, value)| (name.text.clone(), value.as_ref().map(&mut datum))).collect()
    }

    /// The users; a failure that is kept shares their texts with its groups.
    fn users(&self, groups: &Groups) -> Vec<Arc<str>> {
        let shared = |user: &str| {
            groups.iter().find_map(|(_, value)| match value {
                Some(Datum::Text(text)) if **text == *user => Some(text.clone()),
                _ => None,
            })
        };
        let users = self.users.iter().map(|user| self.at(*user));
        users.map(|user| shared(user).unwrap_or_else(|| user.into())).collect()
    }

    /// Forgets everything but some of its memory.
    fn clear(&mut self) {
        let Session { text, groups, users, matches, quiet, nofail, pending, gained } = self;
        text.clear();
        text.shrink_to(SLACK);
        groups.clear();
        users.clear();
        users.shrink_to(16);
        for lines in [matches, quiet] {
            lines.clear();
            lines.shrink_to(16);
        }
        (*nofail, *pending, *gained) = (false, false, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(sessions: &mut Sessions, groups: &[(&str, &str)], line: &str) -> Told {
        let names: Vec<Name> = groups.iter().map(|(name, _)| Name::new(name)).collect();
        let values = names.iter().zip(groups).map(|(name, (_, text))| (*name, Some(Value::Text(text)))).collect();
        let lines = |lines: &mut Vec<Match>| lines.push(Match { line: line.into(), date: (0, 0) });
        sessions.merge("s", values, lines, Time::from_seconds(1000), false)
    }

    fn lines(session: &Told) -> Vec<&str> {
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
    fn a_session_that_tries_names_without_end_keeps_a_bounded_memory_and_the_last_values() {
        let mut sessions = Sessions::default();
        for n in 0..20_000 {
            let (user, other) = (format!("user{n}{}", "x".repeat(100)), format!("other{n}"));
            drop(add(&mut sessions, &[("user", &user), ("fother", &other), ("ip4", "192.0.2.1")], "a"));
        }
        let told = add(&mut sessions, &[("user", "user0")], "b");
        let values: Vec<_> = told.groups.iter().map(|(_, value)| value.clone().expect("a value")).collect();
        assert_eq!(values, ["user0", "other19999", "192.0.2.1"].map(|text| Datum::Text(text.into())));
        assert!(told.users[0].starts_with("user0x") && (300..=MAX_USERS).contains(&told.users.len()));
        assert!(sessions.kept[0].session.text.capacity() < 4 * MAX_BYTES);
    }

    #[test]
    fn nothing_of_an_ended_session_is_told_in_the_next() {
        let mut sessions = Sessions::default();
        add(&mut sessions, &[("nofail", "x"), ("ip4", "192.0.2.1"), ("user", "bob")], "a");
        add(&mut sessions, &[("nofail", "x"), ("mlfforget", "x")], "b");
        assert!(sessions.kept.is_empty() && sessions.free.len() == 1);
        let told = add(&mut sessions, &[("ip4", "192.0.2.2")], "c");
        assert!(sessions.free.is_empty());
        assert_eq!((lines(&told), told.users.len(), told.groups.len()), (vec!["c"], 0, 1));
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
