//! Fail2Ban's database: its tables (version 4) and the JSON it keeps with a ban.
//!
//! `state` holds the rows; `server` hands it what stands here.

use std::io;
use std::sync::Arc;

use serde_json::{Map, Value, ser::Formatter};

use crate::filter::{Data, Datum, Match};

/// The version that is written, as both 1.0 and 1.1 do.
pub const VERSION: i64 = 4;

/// Asks for the version of a file.
pub const READ_VERSION: &str = "SELECT version FROM fail2banDb LIMIT 1";

/// Makes the tables. Names, columns, their order and constraints are what other programs read.
pub const CREATE: &str = "
BEGIN;
CREATE TABLE fail2banDb(version INTEGER);
INSERT INTO fail2banDb(version) VALUES(4);
CREATE TABLE jails(
    name TEXT NOT NULL UNIQUE,
    enabled INTEGER NOT NULL DEFAULT 1);
CREATE INDEX jails_name ON jails(name);
CREATE TABLE logs(
    jail TEXT NOT NULL,
    path TEXT,
    firstlinemd5 TEXT,
    lastfilepos INTEGER DEFAULT 0,
    FOREIGN KEY(jail) REFERENCES jails(name) ON DELETE CASCADE,
    UNIQUE(jail, path),
    UNIQUE(jail, path, firstlinemd5));
CREATE INDEX logs_path ON logs(path);
CREATE INDEX logs_jail_path ON logs(jail, path);
CREATE TABLE bans(
    jail TEXT NOT NULL,
    ip TEXT,
    timeofban INTEGER NOT NULL,
    bantime INTEGER NOT NULL,
    bancount INTEGER NOT NULL default 1,
    data JSON,
    FOREIGN KEY(jail) REFERENCES jails(name));
CREATE INDEX bans_jail_timeofban_ip ON bans(jail, timeofban);
CREATE INDEX bans_jail_ip ON bans(jail, ip);
CREATE INDEX bans_ip ON bans(ip);
CREATE TABLE bips(
    ip TEXT NOT NULL,
    jail TEXT NOT NULL,
    timeofban INTEGER NOT NULL,
    bantime INTEGER NOT NULL,
    bancount INTEGER NOT NULL default 1,
    data JSON,
    PRIMARY KEY(ip, jail),
    FOREIGN KEY(jail) REFERENCES jails(name));
CREATE INDEX bips_timeofban ON bips(timeofban);
CREATE INDEX bips_ip ON bips(ip);
COMMIT;
";

/// What makes tables of the next version of those of versions 1, 2 and 3, and which version that is. The steps run
/// in one transaction, with foreign keys off; rows that the tables do not allow are left out.
///
/// Before version 3 the length of a ban was not kept: -2 stands for "not known".
pub const UPGRADES: &[(i64, &str)] = &[
    (
        2,
        "
CREATE TABLE sekimori_new_logs(
    jail TEXT NOT NULL,
    path TEXT,
    firstlinemd5 TEXT,
    lastfilepos INTEGER DEFAULT 0,
    FOREIGN KEY(jail) REFERENCES jails(name) ON DELETE CASCADE,
    UNIQUE(jail, path),
    UNIQUE(jail, path, firstlinemd5));
INSERT OR REPLACE INTO sekimori_new_logs(jail, path, firstlinemd5, lastfilepos)
    SELECT jail, path, firstlinemd5, lastfilepos FROM logs WHERE jail IS NOT NULL;
DROP TABLE logs;
ALTER TABLE sekimori_new_logs RENAME TO logs;
CREATE INDEX logs_path ON logs(path);
CREATE INDEX logs_jail_path ON logs(jail, path);
UPDATE fail2banDb SET version = 2;
",
    ),
    (
        3,
        "
CREATE TABLE sekimori_new_bans(
    jail TEXT NOT NULL,
    ip TEXT,
    timeofban INTEGER NOT NULL,
    bantime INTEGER NOT NULL,
    bancount INTEGER NOT NULL default 1,
    data JSON,
    FOREIGN KEY(jail) REFERENCES jails(name));
INSERT OR IGNORE INTO sekimori_new_bans(jail, ip, timeofban, bantime, bancount, data)
    SELECT jail, ip, timeofban, -2, 1, data FROM bans;
DROP TABLE bans;
ALTER TABLE sekimori_new_bans RENAME TO bans;
CREATE INDEX bans_jail_timeofban_ip ON bans(jail, timeofban);
CREATE INDEX bans_jail_ip ON bans(jail, ip);
CREATE INDEX bans_ip ON bans(ip);
UPDATE fail2banDb SET version = 3;
",
    ),
    (
        4,
        "
CREATE TABLE bips(
    ip TEXT NOT NULL,
    jail TEXT NOT NULL,
    timeofban INTEGER NOT NULL,
    bantime INTEGER NOT NULL,
    bancount INTEGER NOT NULL default 1,
    data JSON,
    PRIMARY KEY(ip, jail),
    FOREIGN KEY(jail) REFERENCES jails(name));
CREATE INDEX bips_timeofban ON bips(timeofban);
CREATE INDEX bips_ip ON bips(ip);
INSERT OR REPLACE INTO bips(ip, jail, timeofban, bantime, bancount, data)
    SELECT ip, jail, timeofban, bantime, bancount, data FROM bans WHERE ip IS NOT NULL ORDER BY timeofban;
INSERT OR IGNORE INTO jails(name, enabled) SELECT DISTINCT jail, 0 FROM bans;
UPDATE fail2banDb SET version = 4;
",
    ),
];

/// What is kept with a ban, or with a failure that is being counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ticket {
    /// The matched lines, oldest first.
    pub matches: Vec<Match>,
    /// How many failures there were.
    pub failures: u32,
    /// Captured values.
    pub data: Data,
}

/// The JSON text of a ticket; the last `maxmatches` lines only, none and no key for 0.
#[must_use]
pub fn encode(ticket: &Ticket, maxmatches: usize) -> Vec<u8> {
    let mut map = Map::new();
    if maxmatches > 0 {
        let skipped = ticket.matches.len().saturating_sub(maxmatches);
        let matches = ticket.matches.iter().zip(in_parts(&ticket.matches, ticket.failures)).skip(skipped);
        let value = |(matched, parts): (&Match, Option<[&str; 3]>)| match parts {
            None => Value::from(&*matched.line),
            Some(parts) => Value::from(parts.to_vec()),
        };
        map.insert("matches".to_owned(), matches.map(value).collect());
    }
    map.insert("failures".to_owned(), ticket.failures.into());
    for (name, datum) in &ticket.data {
        let value = match datum {
            Datum::Text(text) => Value::from(&**text),
            Datum::Set(texts) => Value::from(python_list(texts)),
            Datum::Tuple(texts) => texts.iter().map(|text| text.as_deref().map_or(Value::Null, Value::from)).collect(),
        };
        map.insert(name.to_string(), value);
    }
    let mut out = Vec::with_capacity(128);
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, Spaced);
    // writing JSON values into memory cannot fail
    let _ = serde::Serialize::serialize(&map, &mut serializer);
    out
}

/// Reads what [`encode`] or Fail2Ban wrote. What has an unexpected form is left out: a ban
/// without its lines is better than none.
#[must_use]
pub fn decode(json: &[u8]) -> Ticket {
    let Ok(Value::Object(map)) = serde_json::from_slice(json) else { return Ticket::default() };
    let mut ticket = Ticket::default();
    for (name, value) in map {
        match (name.as_str(), value) {
            ("matches", Value::Array(matches)) => ticket.matches = matches.iter().filter_map(matched).collect(),
            ("failures", value) => {
                ticket.failures = value.as_u64().map_or(0, |number| u32::try_from(number).unwrap_or(u32::MAX));
            }
            ("matches", _) => {}
            (_, Value::String(text)) => ticket.data.push((name.into(), datum(&text))),
            (_, Value::Array(texts)) => {
                let texts = texts.iter().map(|text| text.as_str().map(Arc::from)).collect();
                ticket.data.push((name.into(), Datum::Tuple(texts)));
            }
            (_, Value::Number(number)) => ticket.data.push((name.into(), Datum::Text(number.to_string().into()))),
            _ => {}
        }
    }
    ticket
}

/// For each line of a ticket, whether Fail2Ban has it in three parts, and these: the first line that
/// a ticket was made of stays so, later ones are joined.
pub fn in_parts(matches: &[Match], failures: u32) -> impl Iterator<Item = Option<[&str; 3]>> {
    let first = matches.len() as u64 >= u64::from(failures);
    matches.iter().enumerate().map(move |(index, matched)| (index == 0 && first).then(|| parts(matched)))
}

/// The line before its date, the date, the rest.
fn parts(matched: &Match) -> [&str; 3] {
    let line = &*matched.line;
    let (start, end) = (matched.date.0 as usize, matched.date.1 as usize);
    match (line.get(..start), line.get(start..end), line.get(end..)) {
        (Some(before), Some(date), Some(after)) if start < end => [before, date, after],
        _ => ["", "", line],
    }
}

fn matched(value: &Value) -> Option<Match> {
    match value {
        Value::String(line) => Some(Match { line: line.as_str().into(), date: (0, 0) }),
        Value::Array(parts) => {
            let texts: Vec<&str> = parts.iter().filter_map(Value::as_str).collect();
            let date = match texts.as_slice() {
                [before, date, _] => {
                    (u32::try_from(before.len()).ok()?, u32::try_from(before.len() + date.len()).ok()?)
                }
                _ => (0, 0),
            };
            Some(Match { line: texts.concat().into(), date })
        }
        _ => None,
    }
}

/// `['a', 'b']`, the way Python shows a list of texts.
fn python_list(texts: &[Arc<str>]) -> String {
    let items: Vec<String> = texts
        .iter()
        .map(|text| {
            let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
            let mut out = String::from(quote);
            for c in text.chars() {
                match c {
                    '\\' => out.push_str("\\\\"),
                    '\n' => out.push_str("\\n"),
                    '\r' => out.push_str("\\r"),
                    '\t' => out.push_str("\\t"),
                    c if c == quote => out.extend(['\\', c]),
                    c if c.is_ascii_control() => out.push_str(&format!("\\x{:02x}", c as u32)),
                    c => out.push(c),
                }
            }
            out.push(quote);
            out
        })
        .collect();
    format!("[{}]", items.join(", "))
}

/// A text, or the set that [`python_list`] made a text of.
fn datum(text: &str) -> Datum {
    fn list(text: &str) -> Option<Vec<Arc<str>>> {
        let mut rest = text.strip_prefix('[')?.strip_suffix(']')?;
        let mut items = Vec::new();
        while !rest.is_empty() {
            let quote = rest.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
            let mut item = String::new();
            let mut chars = rest[1..].char_indices();
            let end = loop {
                match chars.next()? {
                    (at, c) if c == quote => break at + 2,
                    (_, '\\') => match chars.next()?.1 {
                        'n' => item.push('\n'),
                        'r' => item.push('\r'),
                        't' => item.push('\t'),
                        'x' => {
                            let code: String = [chars.next()?.1, chars.next()?.1].iter().collect();
                            item.push(char::from(u8::from_str_radix(&code, 16).ok()?));
                        }
                        c => item.push(c),
                    },
                    (_, c) => item.push(c),
                }
            };
            items.push(item.into());
            rest = &rest[end..];
            if !rest.is_empty() {
                rest = rest.strip_prefix(", ").filter(|rest| !rest.is_empty())?;
            }
        }
        (!items.is_empty()).then_some(items)
    }
    list(text).map_or_else(|| Datum::Text(text.into()), Datum::Set)
}

/// JSON with a blank after `,` and `:`, as Python writes it.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }
    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }
    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str, date: (u32, u32)) -> Match {
        Match { line: text.into(), date }
    }

    #[test]
    fn a_ticket_is_written_as_fail2ban_writes_it_and_read_back() {
        let ticket = Ticket {
            matches: vec![
                line("2026-11-24 01:57:09 user bob fail by 192.0.2.7", (0, 19)),
                line("2026-11-24 01:57:09 \u{fc}ser \"bob\"", (0, 19)),
            ],
            failures: 2,
            data: vec![
                ("fid".into(), Datum::Text("bob".into())),
                ("users".into(), Datum::Set(vec!["a".into(), "b'c\n".into()])),
                ("ip".into(), Datum::Text("192.0.2.7".into())),
            ],
        };
        let json = encode(&ticket, 10);
        assert_eq!(
            String::from_utf8_lossy(&json),
            "{\"matches\": [[\"\", \"2026-11-24 01:57:09\", \" user bob fail by 192.0.2.7\"], \
             \"2026-11-24 01:57:09 \u{fc}ser \\\"bob\\\"\"], \"failures\": 2, \"fid\": \"bob\", \
             \"users\": \"['a', \\\"b'c\\\\n\\\"]\", \"ip\": \"192.0.2.7\"}"
        );
        let mut expected = ticket.clone();
        expected.matches[1].date = (0, 0); // a joined line no longer knows where its date was
        assert_eq!(decode(&json), expected);
        assert_eq!(String::from_utf8_lossy(&encode(&Ticket::default(), 10)), "{\"matches\": [], \"failures\": 0}");
        assert!(!String::from_utf8_lossy(&encode(&ticket, 0)).contains("matches"));
        assert_eq!(decode(&encode(&ticket, 1)).matches.len(), 1);
    }

    #[test]
    fn damaged_tickets_lose_only_what_is_damaged() {
        assert_eq!(decode(b"{\"matches\": 7, \"failures\": \"x\", \"a\": \"b\"}").data.len(), 1);
        assert_eq!(decode(b"\xff"), Ticket::default());
        assert_eq!(decode(b""), Ticket::default());
        for text in ["[", "['", "['a'x]", "['a', ]", "[]", "['\\x", "['\u{fc}']x"] {
            assert_eq!(datum(text), Datum::Text(text.into()));
        }
    }
}
