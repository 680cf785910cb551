//! Reports as people read them: a template in their language, and what happened in a block for each incident.

use std::fmt::Write as _;

use super::{Incident, utc};

/// Longest template, in bytes.
pub const MOST_BYTES: usize = 64 * 1024;

/// A language that reports are written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Language {
    /// English.
    #[default]
    En,
    /// Japanese.
    Ja,
}

impl Language {
    fn template(self) -> &'static str {
        match self {
            Language::En => include_str!("templates/en.txt"),
            Language::Ja => include_str!("templates/ja.txt"),
        }
    }

    fn index(self) -> usize {
        match self {
            Language::En => 0,
            Language::Ja => 1,
        }
    }

    /// The names of an incident's facts, in the order of [`block`].
    fn labels(self) -> [&'static str; 8] {
        match self {
            Language::En => ["Source", "Port", "Target", "Service", "First seen", "Last seen", "Attempts", "Log lines"],
            Language::Ja => {
                ["攻撃元", "送信元ポート", "攻撃先", "サービス", "最初の検知", "最後の検知", "試行回数", "ログ"]
            }
        }
    }

    fn words(self) -> [&'static str; 2] {
        match self {
            Language::En => ["not in the log", "To get no more of these, write to "],
            Language::Ja => ["ログに記録なし", "今後の報告が不要な場合のご連絡先: "],
        }
    }
}

/// What a template is filled with, beside the incidents.
#[derive(Clone, Debug)]
pub struct Words<'a> {
    /// Identifies the report.
    pub id: &'a str,
    /// Who reports.
    pub organisation: &'a str,
    /// Where answers are read.
    pub reply_to: &'a str,
    /// Where to say that no more are wanted: an address or an URL.
    pub opt_out: Option<&'a str>,
    /// Who named the recipient.
    pub source: &'a str,
}

/// The names that a template may have.
const NAMES: [&str; 9] =
    ["addresses", "source", "incidents", "seen", "reply_to", "opt_out", "id", "organisation", "version"];

/// A template with a mistake.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {text}")]
pub struct Error {
    /// Its line, from 1.
    pub line: usize,
    /// What is wrong.
    pub text: String,
}

/// Splits a template into texts and names.
fn parts(template: &str) -> Result<Vec<(&str, Option<&str>)>, Error> {
    let line = |rest: &str| template[..template.len() - rest.len()].matches('\n').count() + 1;
    if template.len() > MOST_BYTES {
        return Err(Error { line: 1, text: format!("longer than {MOST_BYTES} bytes") });
    }
    let mut found = Vec::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let name = after.split_once('}').filter(|(name, _)| NAMES.contains(name));
        let Some((name, next)) = name else {
            let name: String = after.chars().take_while(|c| *c != '}' && *c != '\n').take(40).collect();
            let text = format!("there is no `{{{name}}}`; the names are {{{}}}", NAMES.join("}, {"));
            return Err(Error { line: line(after), text });
        };
        found.push((before, Some(name)));
        rest = next;
    }
    found.push((rest, None));
    Ok(found)
}

/// Checks a template of the administrator's own.
///
/// # Errors
/// If it has a name that there is not.
pub fn check(template: &str) -> Result<(), Error> {
    parts(template).map(drop)
}

/// The text of a report; `template` instead of the one of the language.
///
/// # Errors
/// If the template has a mistake.
pub fn write(
    incidents: &[Incident],
    words: &Words<'_>,
    language: Language,
    template: Option<&str>,
) -> Result<String, Error> {
    let mut out = String::new();
    for (text, name) in parts(template.unwrap_or_else(|| language.template()))? {
        out.push_str(text);
        match name {
            Some("addresses") => out.push_str(&addresses(incidents)),
            Some("source") => out.push_str(words.source),
            Some("incidents") => {
                let blocks: Vec<String> = incidents.iter().map(|incident| block(incident, language)).collect();
                out.push_str(&blocks.join("\n\n"));
            }
            Some("seen") => {
                let mut seen: Vec<&str> =
                    incidents.iter().map(|incident| incident.kind.seen[language.index()]).collect();
                seen.dedup();
                out.push_str(&seen.join("; "));
            }
            Some("reply_to") => out.push_str(words.reply_to),
            Some("opt_out") => {
                if let Some(opt_out) = words.opt_out {
                    let _ = writeln!(out, "{}{opt_out}", language.words()[1]);
                }
            }
            Some("id") => out.push_str(words.id),
            Some("organisation") => out.push_str(words.organisation),
            Some("version") => out.push_str(env!("CARGO_PKG_VERSION")),
            _ => {}
        }
    }
    Ok(out)
}

/// The addresses, each once.
fn addresses(incidents: &[Incident]) -> String {
    let mut found: Vec<String> = Vec::new();
    for incident in incidents {
        let address = incident.address.to_string();
        if !found.contains(&address) {
            found.push(address);
        }
    }
    found.join(", ")
}

/// The facts of an incident, one a line, then its log lines.
#[must_use]
pub fn block(incident: &Incident, language: Language) -> String {
    let [source, port, target, service, first, last, attempts, lines] = language.labels();
    let [unknown, _] = language.words();
    let target_port =
        incident.service_port().map_or(String::new(), |port| format!(" {}/{port}", incident.kind.protocol));
    let destination = incident.destination.map_or_else(String::new, |address| address.to_string());
    let rows = [
        (source, incident.address.to_string()),
        (port, incident.port.map_or_else(|| unknown.to_owned(), |port| port.to_string())),
        (target, format!("{destination}{target_port}").trim_start().to_owned()),
        (service, format!("{} ({})", incident.kind.service, incident.kind.name)),
        (first, utc(incident.first)),
        (last, utc(incident.last)),
        (attempts, incident.attempts.to_string()),
    ];
    let wide = rows.iter().map(|(label, _)| width(label)).max().unwrap_or(0) + 2;
    let mut out = String::new();
    for (label, value) in rows.iter().filter(|(_, value)| !value.is_empty()) {
        let gap = " ".repeat(wide - width(label) - 1);
        let _ = writeln!(out, "{label}:{gap}{value}");
    }
    let _ = write!(out, "{lines}:");
    for (time, line) in &incident.lines {
        let _ = write!(out, "\n  {} {line}", utc(*time));
    }
    out
}

/// Columns that a label takes: letters of East Asia are twice as wide.
fn width(text: &str) -> usize {
    text.chars().map(|c| if c.is_ascii() { 1 } else { 2 }).sum()
}

/// A subject that sorts by what it is about.
#[must_use]
pub fn subject(incidents: &[Incident], id: &str) -> String {
    let Some(first) = incidents.first() else { return format!("ABUSE: [{id}]") };
    let others = incidents.len() - 1;
    let more = if others > 0 { format!(" and {others} more") } else { String::new() };
    let Incident { kind, address, last, .. } = first;
    format!("ABUSE: {} from {address} ({}){more} {} [{id}]", kind.name, kind.service, utc(*last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Time;

    #[test]
    fn every_language_fills_all_its_names_and_a_wrong_one_is_told_with_its_line() {
        let incident =
            Incident::new("198.51.100.7".parse().expect("an address"), "sshd", Time::from_seconds(1_790_000_000), None);
        let words = Words {
            id: "ID",
            organisation: "Example",
            reply_to: "noc@own.example",
            opt_out: Some("stop@own.example"),
            source: "someone",
        };
        for language in [Language::En, Language::Ja] {
            let text = write(std::slice::from_ref(&incident), &words, language, None).expect("a sound template");
            for part in [
                "ID",
                "Example",
                "noc@own.example",
                "stop@own.example",
                "someone",
                "198.51.100.7",
                "2026-09-21T14:13:20Z",
            ] {
                assert!(text.contains(part), "{language:?} lacks {part}: {text}");
            }
            assert!(!text.contains(['{', '}']), "{text}");
        }
        assert_eq!(check("a\nb {id}\nc {adress} {"), Err(Error {
            line: 3,
            text: "there is no `{adress}`; the names are {addresses}, {source}, {incidents}, {seen}, {reply_to}, {opt_out}, {id}, {organisation}, {version}".to_owned()
        }));
        assert!(check("{").is_err());
        assert_eq!(
            subject(&[incident.clone(), incident], "ID"),
            "ABUSE: login-attack from 198.51.100.7 (ssh) and 1 more 2026-09-21T14:13:20Z [ID]"
        );
    }
}
