//! One entry, and its text as Fail2Ban's filters expect it: `HOST IDENT[PID]: MESSAGE`.

use super::Cursor;
use crate::line::MAX_LINE;
use crate::time::Time;

/// Of other fields than the message so much is kept, in bytes.
const MAX_FIELD: usize = 1024;

/// The fields that are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Cursor,
    Realtime,
    Monotonic,
    SourceRealtime,
    SourceMonotonic,
    Host,
    Identifier,
    Command,
    SyslogPid,
    Pid,
    Message,
    /// Any other, or one that was there before.
    Passed,
}

const NAMES: [(&[u8], Field); 11] = [
    (b"__CURSOR", Field::Cursor),
    (b"__REALTIME_TIMESTAMP", Field::Realtime),
    (b"__MONOTONIC_TIMESTAMP", Field::Monotonic),
    (b"_SOURCE_REALTIME_TIMESTAMP", Field::SourceRealtime),
    (b"_SOURCE_MONOTONIC_TIMESTAMP", Field::SourceMonotonic),
    (b"_HOSTNAME", Field::Host),
    (b"SYSLOG_IDENTIFIER", Field::Identifier),
    (b"_COMM", Field::Command),
    (b"SYSLOG_PID", Field::SyslogPid),
    (b"_PID", Field::Pid),
    (b"MESSAGE", Field::Message),
];

/// An entry; see the module.
#[derive(Debug)]
pub struct Entry {
    /// In the order of [`NAMES`].
    values: [Vec<u8>; NAMES.len()],
    seen: [bool; NAMES.len()],
    cut: bool,
}

impl Default for Entry {
    fn default() -> Entry {
        Entry { values: std::array::from_fn(|_| Vec::new()), seen: [false; NAMES.len()], cut: false }
    }
}

impl Entry {
    /// Nothing is known again.
    pub(super) fn clear(&mut self) {
        self.values.iter_mut().for_each(Vec::clear);
        self.seen = [false; NAMES.len()];
        self.cut = false;
    }

    /// A field begins. Only the message may come several times; its values are joined with blanks.
    pub(super) fn begin(&mut self, name: &[u8]) -> Field {
        let Some(&(_, field)) = NAMES.iter().find(|(known, _)| *known == name) else { return Field::Passed };
        if !std::mem::replace(&mut self.seen[field as usize], true) {
            return field;
        }
        if field != Field::Message {
            return Field::Passed;
        }
        self.push(field, b" ");
        field
    }

    /// A part of a field's value; what is too long is left out.
    pub(super) fn push(&mut self, field: Field, bytes: &[u8]) {
        let Some(value) = self.values.get_mut(field as usize) else { return };
        let most = if field == Field::Message { MAX_LINE } else { MAX_FIELD };
        let room = most - value.len();
        value.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.cut |= bytes.len() > room && field == Field::Message;
    }

    fn value(&self, field: Field) -> &[u8] {
        self.values.get(field as usize).map_or(&[], |value| value)
    }

    fn number(&self, field: Field) -> Option<i64> {
        std::str::from_utf8(self.value(field)).ok()?.parse().ok()
    }

    /// Which entry it is; `None` if the journal does not say.
    #[must_use]
    pub fn cursor(&self) -> Option<Cursor> {
        let id = std::str::from_utf8(self.value(Field::Cursor)).ok().filter(|id| !id.is_empty())?;
        Some(Cursor { id: id.to_owned(), time: Time::from_micros(self.number(Field::Realtime)?) })
    }

    /// Its name in the journal.
    #[must_use]
    pub fn id(&self) -> &[u8] {
        self.value(Field::Cursor)
    }

    /// When the journal got it.
    #[must_use]
    pub fn received(&self) -> Option<Time> {
        self.number(Field::Realtime).map(Time::from_micros)
    }

    /// When it was written, as far as its writer says so.
    #[must_use]
    pub fn time(&self) -> Option<Time> {
        self.number(Field::SourceRealtime).or_else(|| self.number(Field::Realtime)).map(Time::from_micros)
    }

    /// Appends its text, without a newline in or after it; newlines of the entry become `\n`, two
    /// characters. True if the text lost its end.
    pub fn write(&self, out: &mut Vec<u8>) -> bool {
        let begin = out.len();
        let either = |first: Field, second: Field| match self.value(first) {
            b"" => self.value(second),
            value => value,
        };
        let (host, identifier) = (self.value(Field::Host), either(Field::Identifier, Field::Command));
        if !host.is_empty() {
            escape(host, out);
            out.push(b' ');
        }
        let from = out.len();
        escape(identifier, out);
        let pid = either(Field::SyslogPid, Field::Pid);
        if !pid.is_empty() && !identifier.is_empty() {
            out.push(b'[');
            escape(number(pid).as_deref().map_or(pid, str::as_bytes), out);
            out.push(b']');
        }
        if !identifier.is_empty() {
            out.extend_from_slice(b": ");
        }
        if &out[from..] == b"kernel: "
            && let Some(micros) = self.number(Field::SourceMonotonic).or_else(|| self.number(Field::Monotonic))
        {
            let (seconds, rest) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000));
            out.extend_from_slice(format!("[{:>12}] ", format!("{seconds}.{rest:06}")).as_bytes());
        }
        escape(self.value(Field::Message), out);
        let too_long = out.len() - begin > MAX_LINE;
        out.truncate(begin + MAX_LINE);
        self.cut || too_long
    }
}

/// A newline must not begin another line, whoever wrote it.
fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    let mut rest = bytes;
    while let Some(at) = memchr::memchr(b'\n', rest) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(b"\\n");
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

/// A number as Python would write it, of one as Python would read it.
fn number(text: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    // underscores stand between digits
    if digits.starts_with('_') || digits.ends_with('_') || digits.contains("__") {
        return None;
    }
    let digits = digits.replace('_', "");
    if digits.is_empty() {
        return None;
    }
    let digits = if digits.bytes().all(|byte| byte.is_ascii_digit()) {
        digits.trim_start_matches('0').to_owned()
    } else {
        let (kind, rest) = digits.split_at_checked(2)?;
        let base = match kind {
            "0x" | "0X" => 16,
            "0o" | "0O" => 8,
            "0b" | "0B" => 2,
            _ => return None,
        };
        let number = u128::from_str_radix(rest.strip_prefix('+').map_or(rest, |_| ""), base).ok()?;
        if number == 0 { String::new() } else { number.to_string() }
    };
    Some(if digits.is_empty() { "0".to_owned() } else { format!("{sign}{digits}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_numbers_are_written_in_one_way() {
        for (text, expected) in [
            ("12", Some("12")),
            ("0x10", Some("16")),
            ("0o17", Some("15")),
            ("0b11", Some("3")),
            (" 007 ", Some("7")),
            ("-7", Some("-7")),
            ("-0", Some("0")),
            ("1_0", Some("10")),
            ("99999999999999999999999", Some("99999999999999999999999")),
            ("abc", None),
            ("1__0", None),
            ("0x", None),
            ("0x+1", None),
            ("é", None),
            ("", None),
        ] {
            assert_eq!(number(text.as_bytes()).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_name_with_a_newline_begins_no_other_line() {
        let mut entry = Entry::default();
        for (name, value) in [("SYSLOG_IDENTIFIER", "x\ny"), ("SYSLOG_PID", "1\n2"), ("MESSAGE", "m"), ("MESSAGE", "n")]
        {
            let field = entry.begin(name.as_bytes());
            entry.push(field, value.as_bytes());
        }
        let mut text = Vec::new();
        assert!(!entry.write(&mut text));
        assert_eq!(text, b"x\\ny[1\\n2]: m n");
    }
}
