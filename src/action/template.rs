//! From an action's command with tags to the script that `sh` runs.
//!
//! Two stages. First the action's own properties are inserted, as text: they come from the
//! administrator. Then the values of the ban: they may come from an attacker. A value in which a
//! shell could see anything but a plain word is never inserted: the script gets a variable, and
//! the value travels as an argument of `sh`, so that it is data and stays data.

use super::{Family, Properties, Ticket};
use crate::address::Id;
use std::net::IpAddr;

/// Rounds of insertion of properties; more means that they refer to each other in a circle.
const MAX_ROUNDS: usize = 25;
/// Longest script after insertion, in bytes.
const MAX_SCRIPT: usize = 1 << 20;

/// A script and the values it refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// What `sh -c` gets.
    pub text: String,
    /// The arguments behind it: `$0`, `$1` …
    pub arguments: Vec<String>,
}

/// Why a command cannot be rendered.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// Properties contain each other.
    #[error("properties contain self referencing definitions and cannot be resolved: `{0}`")]
    Circular(String),
    /// The text grew beyond all measure.
    #[error("the command is longer than {MAX_SCRIPT} bytes")]
    TooLong,
}

/// Renders `command` for a ban, or without one for start, stop, check and flush.
///
/// # Errors
/// If properties contain each other, or the text becomes too long.
pub fn render(
    command: &str,
    properties: &Properties,
    family: Option<Family>,
    ticket: Option<&Ticket>,
) -> Result<Script, Error> {
    let text = insert_properties(command, properties, family)?;
    let mut script = Script { text: String::with_capacity(text.len()), arguments: Vec::new() };
    let mut names: Vec<String> = Vec::new();
    let mut rest = text.as_str();
    while let Some((before, tag, after)) = next_tag(rest) {
        script.text.push_str(before);
        match dynamic(tag, family, ticket) {
            None => {
                script.text.push('<');
                rest = &rest[before.len() + 1..];
                continue;
            }
            Some(value) if is_plain(&value) => script.text.push_str(&value),
            Some(value) => {
                let name = variable(tag);
                if !names.contains(&name) {
                    names.push(name.clone());
                    script.arguments.push(value.replace('\0', ""));
                }
                script.text.push('$');
                script.text.push_str(&name);
            }
        }
        rest = after;
    }
    script.text.push_str(rest);
    if script.text.len() > MAX_SCRIPT {
        return Err(Error::TooLong);
    }
    if !names.is_empty() {
        let assignments: Vec<String> =
            names.iter().enumerate().map(|(index, name)| format!("{name}=${{{index}}}")).collect();
        script.text = format!("{} \n{}", assignments.join(" "), script.text);
    }
    Ok(script)
}

/// Inserts properties until none is left to insert; unknown tags stay.
fn insert_properties(command: &str, properties: &Properties, family: Option<Family>) -> Result<String, Error> {
    let mut text = command.to_owned();
    for _ in 0..MAX_ROUNDS {
        let mut out = String::with_capacity(text.len());
        let mut changed = false;
        let mut rest = text.as_str();
        while let Some((before, tag, after)) = next_tag(rest) {
            out.push_str(before);
            match fixed(tag, properties, family) {
                Some(value) => {
                    out.push_str(&value);
                    changed = true;
                    rest = after;
                }
                None => {
                    out.push('<');
                    rest = &rest[before.len() + 1..];
                }
            }
        }
        out.push_str(rest);
        if !changed {
            return Ok(out);
        }
        if out.len() > MAX_SCRIPT {
            return Err(Error::TooLong);
        }
        text = out;
    }
    Err(Error::Circular(command.chars().take(60).collect()))
}

/// The first `<tag>` of a text: what stands before it, its name, what comes after.
fn next_tag(text: &str) -> Option<(&str, &str, &str)> {
    let mut from = 0;
    while let Some(open) = text[from..].find('<').map(|at| at + from) {
        let inner = &text[open + 1..];
        let end = inner.find(|c: char| c == '<' || c == '>' || c.is_whitespace())?;
        if end > 0 && inner.as_bytes()[end] == b'>' {
            return Some((&text[..open], &inner[..end], &inner[end + 1..]));
        }
        from = open + 1;
    }
    None
}

/// Tags whose value is fixed for the action.
fn fixed(tag: &str, properties: &Properties, family: Option<Family>) -> Option<String> {
    match tag {
        // values of the ban, whatever a property of that name says
        "matches" | "ipmatches" | "ipjailmatches" | "bantime" => None,
        "br" => Some("\n".to_owned()),
        "sp" => Some(" ".to_owned()),
        _ => properties.get_for(tag, family).map(str::to_owned),
    }
}

/// Tags whose value belongs to the ban.
fn dynamic(tag: &str, family: Option<Family>, ticket: Option<&Ticket>) -> Option<String> {
    if tag == "family" {
        let family = ticket.map_or(family, Ticket::family);
        return Some(family.map_or_else(|| "None".to_owned(), |f| f.name().to_owned()));
    }
    let ticket = ticket?;
    let address = ticket.address.as_ref().unwrap_or(&ticket.id);
    let matches = || ticket.matches.iter().map(AsRef::as_ref).collect::<Vec<&str>>().join("\n");
    Some(match tag {
        "ip" => address.to_string(),
        "fid" => ticket.id.to_string(),
        "ip-rev" => reversed(address),
        "failures" | "ipfailures" | "ipjailfailures" => ticket.failures.to_string(),
        "time" => ticket.time.clone(),
        "bantime" => ticket.bantime.to_string(),
        "bancount" => ticket.bancount.to_string(),
        "restored" => u8::from(ticket.restored).to_string(),
        "matches" | "ipmatches" | "ipjailmatches" => matches(),
        _ => {
            let name = tag
                .strip_prefix("F-")
                .filter(|n| n.chars().all(|c| c.is_ascii_uppercase() || "-_0123456789".contains(c)))?;
            let name = match name {
                "ID" => "fid".to_owned(),
                "PORT" => "fport".to_owned(),
                "MATCHES" => return Some(matches()),
                "FAILURES" => return Some(ticket.failures.to_string()),
                _ => name.to_ascii_lowercase().replace('-', "_"),
            };
            ticket.data.iter().find(|(n, _)| **n == *name).map(|(_, value)| value.clone()).unwrap_or_default()
        }
    })
}

/// The address as reverse DNS zones write it, with the dot at the end; empty for other identifiers.
fn reversed(id: &Id) -> String {
    match id.prefix().map(crate::address::Prefix::address) {
        Some(IpAddr::V4(v4)) => v4.octets().iter().rev().map(|octet| format!("{octet}.")).collect(),
        Some(IpAddr::V6(v6)) => {
            v6.octets().iter().rev().map(|octet| format!("{:x}.{:x}.", octet & 15, octet >> 4)).collect()
        }
        None => String::new(),
    }
}

/// Whether a shell sees nothing but a word in this value, wherever it is inserted.
fn is_plain(value: &str) -> bool {
    !value.starts_with('-')
        && value.chars().all(|c| c.is_ascii_alphanumeric() || ".:/_-+,@= ".contains(c) || !c.is_ascii())
        && !value.contains("  ")
        || value.parse::<i64>().is_ok()
}

/// The name of the shell variable for a tag.
fn variable(tag: &str) -> String {
    let name: String = tag.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    format!(
        "f2bV_{}",
        name.strip_prefix("F_").map_or_else(|| name.clone(), |n| format!("F_{}", n.to_ascii_lowercase()))
    )
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    fn ticket(user: &str) -> Ticket {
        Ticket {
            id: Id::parse("2001:db8::7"),
            address: None,
            failures: 3,
            time: "1795485425.0".to_owned(),
            bantime: 600,
            bancount: 1,
            restored: false,
            matches: vec!["one".into(), "two".into()],
            data: vec![("user".into(), user.to_owned())],
        }
    }

    fn properties(list: &[(&str, &str)]) -> Properties {
        Properties(list.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn the_value_of_the_family_wins() {
        let p = properties(&[("set", "f2b-<name><sfx>"), ("name", "door"), ("sfx", "4"), ("sfx?family=inet6", "6")]);
        let script = render("fw add <set> <ip> <family>", &p, Some(Family::Inet6), Some(&ticket("x"))).unwrap();
        assert_eq!(script.text, "fw add f2b-door6 2001:db8::7 inet6");
        assert!(script.arguments.is_empty());
    }

    #[test]
    fn hostile_values_reach_the_shell_as_data_only() {
        for user in ["$(touch /x)", "a; rm -rf /", "`id`", "a'b", "a\"b", "a\nb", "-rf", "a|b", "*", "~root"] {
            let script = render("log <F-USER> end", &Properties::default(), None, Some(&ticket(user))).unwrap();
            assert_eq!(script.text, "f2bV_F_user=${0} \nlog $f2bV_F_user end", "{user}");
            assert_eq!(script.arguments, [user]);
        }
    }

    #[test]
    fn unknown_tags_and_shell_text_stay() {
        let script = render("sort <STDIN> < /f <a b> <x", &Properties::default(), None, Some(&ticket("x"))).unwrap();
        assert_eq!(script.text, "sort <STDIN> < /f <a b> <x");
    }

    #[test]
    fn a_value_is_never_searched_for_tags() {
        let script = render("<F-USER>", &Properties::default(), None, Some(&ticket("<ip>"))).unwrap();
        assert_eq!(script.arguments, ["<ip>"]);
    }

    #[test]
    fn properties_in_a_circle_are_an_error() {
        let p = properties(&[("a", "<b>"), ("b", "<a>")]);
        assert!(matches!(render("<a>", &p, None, None), Err(Error::Circular(_))));
        let p = properties(&[("a", "<a><a>")]);
        assert!(render("<a>", &p, None, None).is_err());
    }

    #[test]
    fn addresses_are_reversed_for_dns_zones() {
        assert_eq!(reversed(&Id::parse("192.0.2.1")), "1.2.0.192.");
        assert!(reversed(&Id::parse("2001:db8::7")).starts_with("7.0.0.0."));
    }
}
