//! The text of a mail: headers in the form that `smtp.py` gives them, words of our own.
//!
//! Identifiers, lines and names may be an attacker's. A header takes no line break, whatever is
//! put into it; in the body nothing is left that a terminal would obey.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::time::Time;

/// Longest line of a body that is sent as it is, in bytes; servers take 998.
const MAX_LINE: usize = 990;
/// What is shown of matched lines, in bytes.
const MAX_LINES: usize = 256 * 1024;
/// Bytes of a header that make one encoded word.
const WORD: usize = 42;
/// Characters of a line of base64.
const WIDTH: usize = 76;

/// What a mail is about.
pub(super) enum Event {
    /// A jail has started.
    Started,
    /// A jail has stopped.
    Stopped,
    /// Somebody is banned.
    Banned {
        /// Who.
        id: String,
        /// How often it failed.
        failures: u64,
        /// Lines to be shown, where the jail wants them.
        lines: Option<String>,
    },
}

/// What mails of an action have in common.
pub(super) struct Message<'a> {
    pub jail: &'a str,
    /// Name of this machine.
    pub machine: &'a str,
    /// The jail's ban time in seconds, -1 is for ever.
    pub bantime: i64,
    /// Which lines are shown.
    pub matches: &'a str,
    /// Name of the sender.
    pub name: &'a str,
    /// Address of the sender.
    pub from: &'a str,
    pub to: &'a [String],
    pub now: Time,
}

/// The addresses of a list with commas.
pub(super) fn recipients(list: &str) -> Vec<String> {
    list.split(',').map(|one| one.trim().to_owned()).filter(|one| !one.is_empty()).collect()
}

impl Message<'_> {
    /// Whether the addresses are some, so that they can stand in a header and a command.
    pub fn check(&self) -> Result<(), String> {
        let bad = |address: &&str| {
            address.is_empty() || !address.chars().all(|c| c.is_ascii_graphic() && !"<>,;\"\\()".contains(c))
        };
        if self.to.is_empty() {
            return Err("`dest` names nobody".to_owned());
        }
        match std::iter::once(self.from).chain(self.to.iter().map(String::as_str)).find(bad) {
            Some(address) => Err(format!("`{address}` is no address of a mail")),
            None => Ok(()),
        }
    }

    /// What the mail is about, in one line.
    pub fn subject(&self, event: &Event) -> String {
        let (jail, machine) = (plain(self.jail), self.machine);
        match event {
            Event::Started => format!("[Fail2Ban] {jail}: started on {machine}"),
            Event::Stopped => format!("[Fail2Ban] {jail}: stopped on {machine}"),
            Event::Banned { id, .. } => format!("[Fail2Ban] {jail}: banned {} from {machine}", plain(id)),
        }
    }

    fn body(&self, event: &Event) -> String {
        let jail = plain(self.jail);
        let mut text = "Hi,\n\n".to_owned();
        match event {
            Event::Started => text += &format!("Jail {jail} is running now.\n"),
            Event::Stopped => text += &format!("Jail {jail} does not run any more.\n"),
            Event::Banned { id, failures, lines } => {
                let id = plain(id);
                let long = match self.bantime {
                    ..0 => "for good".to_owned(),
                    seconds => format!("for {seconds} seconds"),
                };
                text += &format!("{id} is shut out {long},\nhaving failed {failures} times in jail {jail}.\n");
                if let Some(lines) = lines.as_ref().filter(|lines| !lines.is_empty()) {
                    let which = match self.matches {
                        "matches" => "The lines that led to it".to_owned(),
                        "ipjailmatches" => format!("Lines of {id} in this jail"),
                        _ => format!("Lines of {id} in all jails"),
                    };
                    let shown: Vec<String> = split(lines, MAX_LINES).0.split('\n').map(plain).collect();
                    let _ = write!(text, "\n{which}:\n{}\n", shown.join("\n"));
                }
            }
        }
        text + "\nRegards,\nSekimori"
    }

    /// The whole mail, without a line break at its end.
    pub fn text(&self, event: &Event) -> String {
        let body = self.body(event);
        let is_simple = body.is_ascii() && body.lines().all(|line| line.len() <= MAX_LINE);
        let (charset, encoding) = if is_simple { ("us-ascii", "7bit") } else { ("utf-8", "base64") };
        let seconds = jiff::Timestamp::from_microsecond(self.now.micros()).unwrap_or_default();
        let headers = [
            format!("Content-Type: text/plain; charset=\"{charset}\""),
            "MIME-Version: 1.0".to_owned(),
            format!("Content-Transfer-Encoding: {encoding}"),
            format!("Subject: {}", words(&self.subject(event))),
            format!("From: {}<{}>", name(self.name), self.from),
            format!("To: {}", self.to.join(",\r\n ")),
            format!("Date: {}", seconds.strftime("%a, %d %b %Y %H:%M:%S -0000")),
        ];
        let body = if is_simple { body.replace('\n', "\r\n") } else { base64_lines(body.as_bytes()) };
        format!("{}\r\n\r\n{body}", headers.join("\r\n"))
    }
}

/// The beginning of a text, of at most so many bytes, and the rest.
fn split(text: &str, most: usize) -> (&str, &str) {
    let end = (0..=most.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.split_at(end.unwrap_or(0))
}

/// A text without what would end a line or command a terminal.
fn plain(text: &str) -> String {
    let is_bad = |c: char| c.is_control() && c != '\t' || matches!(c, '\u{2028}' | '\u{2029}');
    text.chars().flat_map(|c| if is_bad(c) { c.escape_default().collect::<Vec<_>>() } else { vec![c] }).collect()
}

/// A header's text: as it is, or in encoded words (RFC 2047).
fn words(text: &str) -> String {
    if text.is_ascii() && !text.contains("=?") {
        return text.to_owned();
    }
    let mut words = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (word, more) = split(rest, WORD);
        words.push(format!("=?utf-8?b?{}?=", STANDARD.encode(word)));
        rest = more;
    }
    words.join("\r\n ")
}

/// The name in front of an address, with the blank behind it.
fn name(text: &str) -> String {
    let text = plain(text);
    let is_atom = |c: char| c.is_ascii_alphanumeric() || " !#$%&'*+-/=?^_`{|}~".contains(c);
    match text {
        empty if empty.is_empty() => empty,
        plain if plain.chars().all(is_atom) && !plain.contains("=?") => plain + " ",
        ascii if ascii.is_ascii() && !ascii.contains("=?") => {
            format!("\"{}\" ", ascii.replace('\\', "\\\\").replace('"', "\\\""))
        }
        other => words(&other) + " ",
    }
}

fn base64_lines(bytes: &[u8]) -> String {
    let text = STANDARD.encode(bytes);
    let lines: Vec<&str> = (0..text.len()).step_by(WIDTH).map(|at| &text[at..text.len().min(at + WIDTH)]).collect();
    lines.join("\r\n")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    fn mail(jail: &str, name: &str, event: &Event) -> String {
        let to = recipients("root, a@example.org,,b@example.org ");
        Message {
            jail,
            machine: "host",
            bantime: 600,
            matches: "matches",
            name,
            from: "fail2ban",
            to: &to,
            now: Time::from_micros(1_795_546_933_000_000),
        }
        .text(event)
    }

    #[test]
    fn a_mail_has_the_headers_in_their_order_and_the_facts() {
        let event = Event::Banned { id: "192.0.2.7".to_owned(), failures: 3, lines: Some("one\ntwo".to_owned()) };
        assert_eq!(
            mail("sshd", "Fail2Ban", &event).replace("\r\n", "\n"),
            "Content-Type: text/plain; charset=\"us-ascii\"\nMIME-Version: 1.0\nContent-Transfer-Encoding: 7bit\n\
             Subject: [Fail2Ban] sshd: banned 192.0.2.7 from host\nFrom: Fail2Ban <fail2ban>\n\
             To: root,\n a@example.org,\n b@example.org\nDate: Tue, 24 Nov 2026 19:02:13 -0000\n\n\
             Hi,\n\n192.0.2.7 is shut out for 600 seconds,\nhaving failed 3 times in jail sshd.\n\n\
             The lines that led to it:\none\ntwo\n\nRegards,\nSekimori"
        );
    }

    #[test]
    fn nothing_begins_a_header_or_commands_a_terminal() {
        let evil = "x\r\nBcc: evil@example.org\n\u{1b}[31m\u{2028}\0\u{7f}\u{85}";
        let event = Event::Banned { id: evil.to_owned(), failures: 3, lines: Some(evil.to_owned()) };
        for text in [mail(evil, &format!("{evil}\", \\ ë"), &event), mail("j", evil, &Event::Started)] {
            let (head, _) = text.split_once("\r\n\r\n").unwrap();
            assert!(!head.contains("\nBcc"), "{head}");
            for line in text.split("\r\n") {
                assert!(!line.contains(|c: char| c.is_control()), "{line:?}");
            }
        }
        for address in ["a b", "a\r\nRCPT TO:<x>", "<a>", "", "ë@example.org", "a,b"] {
            let to = [address.to_owned()];
            let message = Message {
                from: "f",
                to: &to,
                jail: "j",
                machine: "m",
                bantime: 1,
                matches: "",
                name: "",
                now: Time::default(),
            };
            assert!(message.check().is_err(), "{address:?}");
            assert!(Message { from: address, to: &["root".to_owned()], ..message }.check().is_err(), "{address:?}");
        }
    }

    #[test]
    fn what_is_not_ascii_becomes_encoded_words() {
        assert_eq!(words("Zoë"), "=?utf-8?b?Wm/Dqw==?=");
        assert!(words(&"ë".repeat(200)).split("\r\n ").all(|word| word.len() <= 75 && word.starts_with("=?utf-8?b?")));
    }
}
