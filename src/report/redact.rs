//! Log lines as strangers may see them: nothing of our own users, hosts and files.
//!
//! The rules are data: an expression and what stands in its place. What an attacker typed is evidence
//! and stays, unless it is the name of one of our own users.

use std::collections::BTreeSet;
use std::net::IpAddr;

use regex_automata::meta::Regex;
use sha1::{Digest as _, Sha1};

use crate::filter::Match;

/// So many lines of an incident are shown, and so many bytes of all of them and of one.
pub const MOST_LINES: usize = 20;
/// See [`MOST_LINES`].
pub const MOST_BYTES: usize = 4096;
const LONGEST: usize = 600;

/// What is replaced in a line, in this order; `$1` is what the first group captured.
const RULES: [(&str, &str); 5] = [
    // mail addresses
    (r"[A-Za-z0-9._%+=&'~-]+@[A-Za-z0-9][A-Za-z0-9.-]*", "x@x"),
    // what a browser sent along with a path
    (r"\?[^\s\x22'<>]+", "?…"),
    // words that are followed by a secret
    (
        r"(?i)(?-u:\b)(pass(?:word|wd)?|pwd|token|cookie|authorization|secret|api_?key|session(?:id)?)(\s*[:=]\s*(?:(?:basic|bearer)\s+)?)[^\s,;&\x22]+",
        "$1$2…",
    ),
    (r"(?i)(?-u:\b)(basic|bearer) [A-Za-z0-9+/=._-]{8,}", "$1 …"),
    // files of ours; a path that was asked for over the network is evidence
    (r"(^|[\s=\x22'(:])/(?:home|root|var|srv|etc|usr|opt|mnt|tmp|data|www)/[^\s\x22'),;:]*", "$1/…"),
];

/// The host in the head of a syslog line, in front of the program.
const HEAD: &str = r"^(\s*)[A-Za-z0-9._:-]+( [A-Za-z0-9_./()-]+(?:\[[0-9]+\])?: )";

/// What is known of our own machine.
#[derive(Clone, Debug, Default)]
pub struct Own {
    /// Names of users.
    pub users: BTreeSet<String>,
    /// Names of hosts.
    pub hosts: Vec<String>,
    /// Addresses.
    pub addresses: Vec<IpAddr>,
    /// Makes the same user of two machines look different; nobody else knows it.
    pub salt: String,
}

/// Makes lines fit to be shown.
#[derive(Debug)]
pub struct Redactor {
    rules: Vec<(Regex, &'static str)>,
    head: Regex,
    own: Own,
}

impl Redactor {
    /// For a machine.
    ///
    /// # Errors
    /// Never, as long as the rules are sound; the text names the rule.
    pub fn new(own: Own) -> Result<Redactor, String> {
        let compile = |rule: &str| Regex::new(rule).map_err(|error| format!("rule `{rule}`: {error}"));
        let rules = RULES.iter().map(|(rule, text)| Ok((compile(rule)?, *text))).collect::<Result<_, String>>()?;
        Ok(Redactor { rules, head: compile(HEAD)?, own })
    }

    /// A line without its date and what is nobody's business. `attacker` stays as it is.
    #[must_use]
    pub fn line(&self, line: &Match, attacker: IpAddr) -> String {
        let (start, end) = (line.date.0 as usize, line.date.1 as usize);
        let before = line.line.get(..start).unwrap_or("");
        let after = line.line.get(end..).unwrap_or(&line.line);
        let rest = replace(&self.head, "$1[host]$2", after.trim());
        let mut text = format!("{}{}", before.trim_start(), rest);
        for (rule, instead) in &self.rules {
            text = replace(rule, instead, &text);
        }
        text = self.words(&text, attacker);
        let visible: String = text.chars().map(|c| if hidden(c) { '\u{fffd}' } else { c }).collect();
        cut(&visible, LONGEST)
    }

    /// Replaces whole words: our users, hosts and addresses.
    fn words(&self, text: &str, attacker: IpAddr) -> String {
        let is_word = |c: char| c.is_alphanumeric() || "._-:".contains(c);
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find(is_word) {
            let end = rest[start..].find(|c| !is_word(c)).map_or(rest.len(), |length| start + length);
            out.push_str(&rest[..start]);
            let word = &rest[start..end];
            let bare = word.trim_matches(|c| ".:-".contains(c));
            match (bare.is_empty(), self.instead(bare, attacker)) {
                (false, Some(instead)) => out.push_str(&word.replacen(bare, &instead, 1)),
                _ => out.push_str(word),
            }
            rest = &rest[end..];
        }
        out + rest
    }

    fn instead(&self, word: &str, attacker: IpAddr) -> Option<String> {
        if self.own.users.contains(word) {
            let hash = Sha1::digest(format!("{}\0{word}", self.own.salt));
            let hex: String = hash.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
            return Some(format!("user-{hex}"));
        }
        if self.own.hosts.iter().any(|host| host.eq_ignore_ascii_case(word)) {
            return Some("[host]".to_owned());
        }
        let address = word.parse::<IpAddr>().ok()?.to_canonical();
        (address != attacker && self.own.addresses.contains(&address)).then(|| "[own address]".to_owned())
    }
}

/// Replaces all that a rule finds.
fn replace(rule: &Regex, instead: &str, text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut last = 0;
    for found in rule.captures_iter(text) {
        let Some(whole) = found.get_match() else { continue };
        out.push_str(&text[last..whole.start()]);
        found.interpolate_string_into(text, instead, &mut out);
        last = whole.end();
    }
    out.push_str(&text[last..]);
    out
}

/// Characters that a terminal or a mail program would obey.
fn hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// At most so many bytes, and a mark if there were more.
fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let end = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redactor() -> Redactor {
        let own = Own {
            users: ["anna", "deploy"].map(str::to_owned).into(),
            hosts: vec!["srv1".to_owned(), "srv1.example.net".to_owned()],
            addresses: vec!["203.0.113.10".parse().expect("an address")],
            salt: "s".to_owned(),
        };
        Redactor::new(own).expect("sound rules")
    }

    fn told(line: &str, date: &str) -> String {
        let line = Match { line: line.into(), date: (0, date.len() as u32) };
        redactor().line(&line, "198.51.100.7".parse().expect("an address"))
    }

    #[test]
    fn what_is_ours_is_replaced_and_what_the_attacker_did_stays() {
        let date = "Nov 24 01:00:02";
        let line = |text: &str| told(&format!("{date}{text}"), date);
        assert_eq!(
            line(" srv1 sshd[1002]: Failed password for root from 198.51.100.7 port 45353 ssh2"),
            "[host] sshd[1002]: Failed password for root from 198.51.100.7 port 45353 ssh2"
        );
        let anna = line(" otherhost sshd[7]: Failed password for anna from 198.51.100.7 port 1 ssh2");
        assert!(anna.starts_with("[host] sshd[7]: Failed password for user-") && !anna.contains("anna"), "{anna}");
        assert_eq!(
            line(
                " mx postfix/smtpd[9]: NOQUEUE: reject: RCPT from unknown[198.51.100.7]: from=<a.b@evil.example> to=<anna@srv1.example.net>"
            ),
            "[host] postfix/smtpd[9]: NOQUEUE: reject: RCPT from unknown[198.51.100.7]: from=<x@x> to=<x@x>"
        );
        assert_eq!(
            told(
                "198.51.100.7 - - [24/Nov/2026] \"GET /wp-login.php?user=anna&pass=x HTTP/1.1\" 404 \"https://srv1.example.net/\"",
                ""
            ),
            "198.51.100.7 - - [24/Nov/2026] \"GET /wp-login.php?… HTTP/1.1\" 404 \"https://[host]/\""
        );
        assert_eq!(
            told(
                "open() \"/var/www/shop/.env\" failed, client: 198.51.100.7, server: srv1, host: \"203.0.113.10\", Authorization: Basic YTpiYzpkZQ==",
                ""
            ),
            "open() \"/…\" failed, client: 198.51.100.7, server: [host], host: \"[own address]\", Authorization: Basic …"
        );
    }

    #[test]
    fn nothing_of_a_line_is_obeyed_by_whoever_shows_it() {
        let text = told("evil\u{1b}[31m\r\nBcc: x\u{202e}y from 198.51.100.7", "");
        assert!(!text.chars().any(|c| c.is_control() || c == '\u{202e}'), "{text:?}");
        assert!(told(&"x".repeat(100_000), "").len() < 700);
    }
}
