//! From an action's command with tags to the script that `sh` runs.
//!
//! Two stages. First the action's own properties are inserted, as text: they come from the
//! administrator. Then the values of the ban: they may come from an attacker. A value in which a
//! shell could see syntax is never inserted: the script gets a variable, and the value travels as
//! an argument of `sh`, so that it is data and stays data. Which values these are is Fail2Ban's
//! rule to the letter, because a variable between single quotes stays a name.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use super::{Facts, Family, History, Properties, Ticket};
use crate::address::Id;

/// Rounds of insertion of properties; more means that they refer to each other in a circle.
const MAX_ROUNDS: usize = 25;
/// Longest script after insertion, in bytes; the kernel takes no longer argument.
const MAX_SCRIPT: usize = 128 * 1024 - 1;
/// A value that is longer becomes an argument, whatever it consists of.
const MAX_INLINE: usize = 1024;
/// Longest argument, in bytes; what is longer is cut.
const MAX_VALUE: usize = 100 * 1024;
/// All arguments together, in bytes.
const MAX_VALUES: usize = 1024 * 1024;
/// Characters that a shell gives a meaning.
const SYNTAX: &str = "\\#&;`|*?~<>^()[]{}$'\"\n\r";

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

/// What a command is rendered for.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// The ban; none for start, stop, check, flush and reload.
    pub ticket: Option<&'a Ticket>,
    /// Figures of the jail.
    pub facts: &'a Facts,
    /// The name of the address, see [`wants_host`].
    pub host: Option<&'a str>,
}

/// Whether a text shows the name of the address.
#[must_use]
pub fn wants_host(text: &str) -> bool {
    text.contains("<ip-host>")
}

/// Whether a command may show the full name of this machine.
#[must_use]
pub fn wants_own(command: &str, properties: &Properties) -> bool {
    let shows = |text: &str| text.contains("fq-hostname");
    shows(command) || properties.iter().any(|(_, text)| shows(text))
}

/// The second stage: inserts the values of a ban into what [`prepare`] made.
///
/// # Errors
/// If the text becomes too long.
pub fn fill(text: &str, case: &Case<'_>) -> Result<Script, Error> {
    let mut script = Script { text: String::with_capacity(text.len()), arguments: Vec::new() };
    let mut names: Vec<String> = Vec::new();
    let mut room = MAX_VALUES;
    let mut rest = text;
    while let Some((before, tag, after)) = next_tag(rest) {
        script.text.push_str(before);
        match dynamic(tag, case) {
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
                    let value = value.replace('\0', "");
                    let most = MAX_VALUE.min(room).min(value.len());
                    let cut = (0..=most).rev().find(|at| value.is_char_boundary(*at)).unwrap_or(0);
                    room -= cut;
                    script.arguments.push(value[..cut].to_owned());
                }
                script.text.push('$');
                script.text.push_str(&name);
            }
        }
        rest = after;
    }
    script.text.push_str(rest);
    if !names.is_empty() {
        let place = |index| if index < 10 { format!("${index}") } else { format!("${{{index}}}") };
        let assignments: Vec<String> =
            names.iter().enumerate().map(|(index, name)| format!("{name}={}", place(index))).collect();
        script.text = format!("{} \n{}", assignments.join(" "), script.text);
    }
    if script.text.len() > MAX_SCRIPT {
        return Err(Error::TooLong);
    }
    Ok(script)
}

/// The first stage: inserts properties and this machine's full name until none is left to insert;
/// unknown tags stay.
///
/// # Errors
/// If properties contain each other, or the text becomes too long.
pub fn prepare(
    command: &str,
    properties: &Properties,
    family: Option<Family>,
    own: Option<&str>,
) -> Result<String, Error> {
    let mut text = command.to_owned();
    for _ in 0..MAX_ROUNDS {
        let mut out = String::with_capacity(text.len());
        let mut changed = false;
        let mut rest = text.as_str();
        while let Some((before, tag, after)) = next_tag(rest) {
            out.push_str(before);
            match fixed(tag, properties, family, own) {
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
fn fixed<'a>(
    tag: &str,
    properties: &'a Properties,
    family: Option<Family>,
    own: Option<&'a str>,
) -> Option<Cow<'a, str>> {
    match tag {
        // values of the ban, whatever a property of that name says
        "matches" | "ipmatches" | "ipjailmatches" | "bantime" => None,
        "br" => Some("\n".into()),
        "sp" => Some(" ".into()),
        "fq-hostname" => own.map(Cow::from),
        "sh-hostname" => Some(super::hosts::short().into()),
        "timeout" => Some(properties.get(tag).unwrap_or("60").into()),
        _ => properties.get_for(tag, family).map(Cow::from),
    }
}

/// Tags whose value belongs to the ban.
fn dynamic<'a>(tag: &str, case: &Case<'a>) -> Option<Cow<'a, str>> {
    let (ticket, facts) = (case.ticket, case.facts);
    let history = ticket.and_then(|ticket| ticket.history.as_ref());
    let number = |value: u64| Cow::from(value.to_string());
    // without a ban on record, what is known of this one
    let earlier = |history: Option<&'a History>| match history {
        Some(history) => joined(&history.matches),
        None => ticket.map_or_else(Cow::default, |ticket| joined(&ticket.matches)),
    };
    let times = |history: Option<&History>| number(history.map_or(ticket.map_or(0, |t| t.failures), |h| h.failures));
    Some(match tag {
        "ip" => ticket.map_or_else(Cow::default, |ticket| ticket.address().to_string().into()),
        "fid" => ticket.map_or_else(Cow::default, |ticket| ticket.id.to_string().into()),
        "family" => ticket.map_or("", |ticket| ticket.family().map_or("None", Family::name)).into(),
        "ip-rev" => ticket.map_or_else(Cow::default, |ticket| reversed(ticket.address()).into()),
        "ip-host" => case.host.unwrap_or("None").into(),
        "failures" => number(ticket.map_or(0, |ticket| ticket.failures)),
        "time" => ticket.map_or_else(|| facts.now.as_f64().to_string().into(), |ticket| (&*ticket.time).into()),
        "bantime" => ticket.map_or(facts.bantime, |ticket| ticket.bantime).to_string().into(),
        "bancount" => number(ticket.map_or(0, |ticket| ticket.bancount.into())),
        "restored" => number(ticket.is_some_and(|ticket| ticket.restored).into()),
        "matches" => earlier(None),
        "ipmatches" => earlier(history.and_then(|history| history.everywhere.as_ref())),
        "ipjailmatches" => earlier(history.and_then(|history| history.here.as_ref())),
        "ipfailures" => times(history.and_then(|history| history.everywhere.as_ref())),
        "ipjailfailures" => times(history.and_then(|history| history.here.as_ref())),
        "jail.found" => number(facts.found),
        "jail.found_total" => number(facts.found_total),
        "jail.banned" => number(facts.banned),
        "jail.banned_total" => number(facts.banned_total),
        "raw-ticket" => match ticket {
            Some(ticket) => ticket.literal.as_ref().map_or("", |literal| &literal.ticket).into(),
            None => {
                let now = facts.now.as_f64();
                format!("BanTicket: ip= time={now} bantime=None bancount=0 #attempts=0 matches=[]").into()
            }
        },
        "F-MATCHES" => ticket.map_or("[]", |t| t.literal.as_ref().map_or("", |literal| &literal.matches)).into(),
        "F-FAILURES" => number(ticket.map_or(0, |ticket| ticket.failures)),
        "F-IP" => ticket.and_then(|t| t.address.as_ref()).map_or_else(Cow::default, |a| a.to_string().into()),
        _ => {
            let is_name = |name: &&str| {
                !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || "-_0123456789".contains(c))
            };
            let name = match tag.strip_prefix("F-").filter(is_name)? {
                "ID" => "fid".to_owned(),
                "PORT" => "fport".to_owned(),
                name => name.to_ascii_lowercase(),
            };
            let found = ticket.and_then(|ticket| ticket.data.iter().find(|(n, _)| **n == *name));
            found.map_or_else(Cow::default, |(_, value)| (&**value).into())
        }
    })
}

/// Lines as one text.
fn joined(lines: &[Arc<str>]) -> Cow<'static, str> {
    lines.join("\n").into()
}

/// The address as reverse DNS zones write it, with the dot at the end; empty for other identifiers.
pub(super) fn reversed(id: &Id) -> String {
    match id.prefix().map(crate::address::Prefix::address) {
        Some(IpAddr::V4(v4)) => v4.octets().iter().rev().map(|octet| format!("{octet}.")).collect(),
        Some(IpAddr::V6(v6)) => {
            v6.octets().iter().rev().map(|octet| format!("{:x}.{:x}.", octet & 15, octet >> 4)).collect()
        }
        None => String::new(),
    }
}

/// Whether a value may become part of the script's text.
fn is_plain(value: &str) -> bool {
    value.len() <= MAX_INLINE && !value.contains('\0') && !value.contains(|c| SYNTAX.contains(c))
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
            literal: None,
            history: None,
        }
    }

    fn properties(list: &[(&str, &str)]) -> Properties {
        Properties(list.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect())
    }

    /// Both stages.
    fn render(command: &str, p: &Properties, family: Option<Family>, ticket: Option<&Ticket>) -> Result<Script, Error> {
        let text = prepare(command, p, family, Some("host.example.org"))?;
        fill(&text, &Case { ticket, facts: &Facts::default(), host: Some("peer.example.org") })
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
        for user in ["$(touch /x)", "a; rm -rf /", "`id`", "a'b", "a\"b", "a\nb", "a|b", "*", "~root", "a\rb"] {
            let script = render("log <F-USER> end", &Properties::default(), None, Some(&ticket(user))).unwrap();
            assert_eq!(script.text, "f2bV_F_user=$0 \nlog $f2bV_F_user end", "{user}");
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
    fn values_of_a_megabyte_are_cut_and_become_arguments() {
        for letter in ["a", "$", "\u{fc}"] {
            let user = letter.repeat(1 << 20);
            let script = render("x <F-USER> '<F-USER>'", &Properties::default(), None, Some(&ticket(&user))).unwrap();
            assert_eq!(script.arguments.len(), 1);
            assert!(script.text.len() < 100 && script.arguments[0].len() <= MAX_VALUE);
        }
        let mut many = ticket("x");
        many.data = (0..30).map(|n| (format!("x{n}").into(), "y".repeat(1 << 20))).collect();
        let text: String = (0..30).map(|n| format!("<F-X{n}>")).collect();
        let script = render(&text, &Properties::default(), None, Some(&many)).unwrap();
        assert!(script.text.contains("f2bV_F_x10=${10} "), "{}", script.text);
        assert_eq!(script.arguments.iter().map(String::len).sum::<usize>(), MAX_VALUES);
    }

    #[test]
    fn hosts_have_names_before_and_during_a_ban() {
        let script = render("<fq-hostname> <ip-host>", &Properties::default(), None, Some(&ticket("x"))).unwrap();
        assert_eq!(script.text, "host.example.org peer.example.org");
    }

    #[test]
    fn addresses_are_reversed_for_dns_zones() {
        assert_eq!(reversed(&Id::parse("192.0.2.1")), "1.2.0.192.");
        assert!(reversed(&Id::parse("2001:db8::7")).starts_with("7.0.0.0."));
    }
}
