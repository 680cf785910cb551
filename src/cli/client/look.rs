//! Answers for people (aligned, coloured, nothing a terminal obeys) and for programs (JSON).

use serde_json::{Map, Value as Json, json};

use crate::control::{Failure, Value};
use crate::fail2ban::beautifier::{self, is_hidden, plain};
use crate::fail2ban::protocol::{self, to_json};

/// How answers are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// As Fail2Ban's client does, for pipes.
    Plain,
    /// On a terminal.
    Terminal {
        /// Whether colours are wanted.
        colour: bool,
        /// Columns.
        width: usize,
    },
    /// One document.
    Json,
}

/// Narrower terminals are treated as this wide.
const NARROWEST: usize = 40;

impl Look {
    /// What suits stdout, unless JSON is asked for.
    #[must_use]
    pub fn of_stdout(json: bool) -> Look {
        use std::io::IsTerminal as _;
        if json {
            return Look::Json;
        }
        let stdout = std::io::stdout();
        if !stdout.is_terminal() {
            return Look::Plain;
        }
        let unset = |name| std::env::var_os(name).is_none_or(|value| value.is_empty());
        let colour = unset("NO_COLOR") && std::env::var("TERM").is_ok_and(|term| term != "dumb");
        let width = rustix::termios::tcgetwinsize(&stdout).map_or(80, |size| usize::from(size.ws_col));
        Look::Terminal { colour, width: if width == 0 { 80 } else { width.max(NARROWEST) } }
    }

    /// The text of an answer, without the last newline.
    #[must_use]
    pub fn answer(self, command: &[Value], answer: &Value) -> String {
        match self {
            Look::Plain => beautifier::answer(command, answer, unicode()),
            Look::Json => document(command, answer).to_string(),
            Look::Terminal { colour, width } => {
                let text = by_jail(command, answer).unwrap_or_else(|| beautifier::answer(command, answer, unicode()));
                for_terminal(&text, colour, width)
            }
        }
    }

    /// The text of a failure, without the last newline.
    #[must_use]
    pub fn failure(self, failure: &Failure) -> String {
        match self {
            Look::Plain => beautifier::failure(failure),
            Look::Json => error_document(protocol::kind(failure.kind), &beautifier::failure(failure)),
            Look::Terminal { colour, .. } => {
                let text = escaped(&beautifier::failure(failure));
                if colour { format!("\x1b[31m{text}\x1b[0m") } else { text }
            }
        }
    }
}

/// What `--json` says when something failed.
#[must_use]
pub fn error_document(kind: &str, text: &str) -> String {
    json!({ "error": { "kind": kind, "text": text } }).to_string()
}

/// Whether the locale can show more than ASCII; as Python, C and POSIX are taken for UTF-8.
fn unicode() -> bool {
    let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let locale = set("LC_ALL").or_else(|| set("LC_CTYPE")).or_else(|| set("LANG")).unwrap_or_default();
    match locale.split_once('.') {
        Some((_, charset)) => charset.to_ascii_lowercase().replace('-', "").starts_with("utf8"),
        None => matches!(locale.as_str(), "" | "C" | "POSIX"),
    }
}

/// Lines of our own making stay; everything else that is not seen becomes visible.
#[must_use]
pub fn escaped(text: &str) -> String {
    let bad = |c| c != '\n' && is_hidden(c);
    text.chars().map(|c| if bad(c) { c.escape_default().to_string() } else { c.to_string() }).collect()
}

/// `banned` as one line a jail, instead of Python's notation.
fn by_jail(command: &[Value], answer: &Value) -> Option<String> {
    let words: Vec<&str> = command.iter().filter_map(Value::as_text).collect();
    let line = |name: &str, items: &Value| {
        let items: Vec<String> = items.as_list()?.iter().map(plain).collect();
        Some(format!("{name}:\t{}", items.join(" ")))
    };
    let lines: Option<Vec<String>> = match words[..] {
        ["banned"] => jails(answer)?.iter().map(|(name, ids)| line(name, ids)).collect(),
        ["banned", ref ids @ ..] => ids.iter().zip(answer.as_list()?).map(|(id, jails)| line(id, jails)).collect(),
        _ => return None,
    };
    // an identifier with a newline must not look like another jail
    let lines: Vec<String> = lines?.iter().map(|line| line.replace('\n', "\\n")).collect();
    Some(lines.join("\n"))
}

/// Names and values of a list of maps.
fn jails(answer: &Value) -> Option<Vec<(String, &Value)>> {
    let mut found = Vec::new();
    for one in answer.as_list()? {
        let Value::Map(pairs) = one else { return None };
        found.extend(pairs.iter().map(|(name, value)| (plain(name), value)));
    }
    Some(found)
}

/// What stands after tabs is aligned and broken at blanks.
fn for_terminal(text: &str, colour: bool, width: usize) -> String {
    let text = escaped(text);
    let left = |line: &str| line.split_once('\t').map(|(left, _)| left.trim_end().chars().count());
    let column = text.lines().filter_map(left).max().unwrap_or(0).min(width / 2) + 2;
    let mut out = String::new();
    for (index, line) in text.split('\n').enumerate() {
        if index > 0 {
            out.push('\n');
        }
        let Some((name, value)) = line.split_once('\t') else {
            let title = index == 0 && text.contains('\n') && !line.is_empty();
            out.push_str(&if colour && title { format!("\x1b[1m{line}\x1b[0m") } else { line.to_owned() });
            continue;
        };
        let name = name.trim_end();
        out.push_str(name);
        out.extend(std::iter::repeat_n(' ', column.saturating_sub(name.chars().count()).max(1)));
        let shade = match value {
            _ if !colour || value.is_empty() || value == "0" => "",
            _ if name.contains("Currently banned") || name.contains("Banned IP list") => "\x1b[31m",
            _ if name.contains("Currently failed") => "\x1b[33m",
            _ => "",
        };
        let value = wrapped(value, width - column, column);
        out.push_str(&if shade.is_empty() { value } else { format!("{shade}{value}\x1b[0m") });
    }
    out
}

/// Words in lines of at most `width` characters; lines after the first are indented.
fn wrapped(text: &str, width: usize, indent: usize) -> String {
    let mut out = String::new();
    let mut used = 0;
    for word in text.split(' ') {
        let length = word.chars().count();
        if used > 0 && used + 1 + length > width {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent));
            used = 0;
        } else if used > 0 {
            out.push(' ');
            used += 1;
        }
        out.push_str(word);
        used += length;
    }
    out
}

/// The document that `--json` prints; its keys are listed in `contrib/doc/control.md`.
fn document(command: &[Value], answer: &Value) -> Json {
    let words: Vec<&str> = command.iter().filter_map(Value::as_text).collect();
    shaped(&words, answer).unwrap_or_else(|| json!({ "value": to_json(answer) }))
}

fn shaped(words: &[&str], answer: &Value) -> Option<Json> {
    Some(match words {
        ["ping", ..] => json!({ "ping": to_json(answer) }),
        ["version", ..] => json!({ "version": to_json(answer) }),
        ["status"] => {
            let names = field(answer, "Jail list")?.as_text()?;
            let names: Vec<&str> = names.split(", ").filter(|name| !name.is_empty()).collect();
            json!({ "jails": names })
        }
        ["stats" | "statistic" | "statistics", ..] | ["status", "--all", "stats"] => statistics(answer)?,
        ["status", "--all", ..] => {
            let (Value::Map(jails), _) = answer.as_list()?.split_last()? else { return None };
            let jails: Option<Vec<Json>> = jails.iter().map(|(name, status)| jail(&plain(name), status)).collect();
            json!({ "jails": jails? })
        }
        ["status", name, ..] => jail(name, answer)?,
        ["banned"] => {
            let jails = jails(answer)?.into_iter().map(|(name, ids)| (name, to_json(ids)));
            json!({ "banned": jails.collect::<Map<_, _>>() })
        }
        ["banned", ids @ ..] => {
            let found = ids.iter().zip(answer.as_list()?).map(|(id, jails)| ((*id).to_owned(), to_json(jails)));
            json!({ "jails": found.collect::<Map<_, _>>() })
        }
        ["get", jail, "banip", "--with-time"] => {
            let bans: Option<Vec<Json>> = answer.as_list()?.iter().map(|line| ban(line.as_text()?)).collect();
            json!({ "jail": jail, "bans": bans? })
        }
        ["get", option] => json!({ "option": option, "value": to_json(answer) }),
        ["get", jail, "action", action, option] => {
            json!({ "jail": jail, "action": action, "option": option, "value": to_json(answer) })
        }
        ["get", jail, option, ..] => json!({ "jail": jail, "option": option, "value": to_json(answer) }),
        _ => return None,
    })
}

/// The value of a name in a list of pairs.
fn field<'a>(pairs: &'a Value, name: &str) -> Option<&'a Value> {
    pairs.as_list()?.iter().find_map(|pair| match pair.as_list()? {
        [key, value] if key.as_text() == Some(name) => Some(value),
        _ => None,
    })
}

fn jail(name: &str, status: &Value) -> Option<Json> {
    if status.as_list()?.len() == 3 && field(status, "Filter").is_none() {
        return numbers(name, status);
    }
    let (filter, actions) = (field(status, "Filter")?, field(status, "Actions")?);
    let mut out = Map::new();
    out.insert("jail".to_owned(), name.into());
    for (part, names) in [
        (
            filter,
            &[
                ("Currently failed", "currently_failed"),
                ("Total failed", "total_failed"),
                ("File list", "files"),
                ("Journal matches", "journal_matches"),
            ][..],
        ),
        (
            actions,
            &[
                ("Currently banned", "currently_banned"),
                ("Total banned", "total_banned"),
                ("Banned IP list", "banned"),
                ("Banned ASN list", "asns"),
                ("Banned Country list", "countries"),
                ("Banned RIR list", "registries"),
            ],
        ),
    ] {
        for (theirs, ours) in names {
            if let Some(value) = field(part, theirs) {
                out.insert((*ours).to_owned(), to_json(value));
            }
        }
    }
    Some(out.into())
}

fn statistics(answer: &Value) -> Option<Json> {
    let Value::Map(jails) = answer else { return None };
    let jails: Option<Vec<Json>> = jails.iter().map(|(name, status)| numbers(&plain(name), status)).collect();
    Some(json!({ "jails": jails? }))
}

fn numbers(name: &str, status: &Value) -> Option<Json> {
    let [backend, failed, banned] = status.as_list()? else { return None };
    let ([failed, all_failed], [banned, all_banned]) = (failed.as_list()?, banned.as_list()?) else { return None };
    Some(json!({
        "jail": name,
        "backend": to_json(backend),
        "currently_failed": to_json(failed),
        "total_failed": to_json(all_failed),
        "currently_banned": to_json(banned),
        "total_banned": to_json(all_banned),
    }))
}

/// `ID \tBEGIN + SECONDS = END`; a ban without end has -1 seconds.
fn ban(line: &str) -> Option<Json> {
    let (id, times) = line.rsplit_once(" \t")?;
    let (begin, rest) = times.split_once(" + ")?;
    let (seconds, end) = rest.split_once(" = ")?;
    let seconds: i64 = seconds.parse().ok()?;
    let end = if seconds < 0 { Json::Null } else { end.into() };
    Some(json!({ "id": id, "begin": begin, "seconds": seconds, "end": end }))
}

#[cfg(test)]
#[path = "look/tests.rs"]
mod tests;
