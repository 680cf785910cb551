//! What `fail2ban-client` prints for a command and its answer.
//!
//! Scripts and monitoring parse these texts, so every blank, tab and backquote is a contract.
//! Only texts that came out of a log are changed: a control character in one could forge a line.

use super::repr::repr;
use crate::control::{Failure, FailureKind, Value};

/// The text for an answer, without the newline at its end.
///
/// `unicode` tells whether tables may be drawn with other than ASCII characters.
#[must_use]
pub fn answer(command: &[Value], answer: &Value, unicode: bool) -> String {
    let words: Vec<&str> = command.iter().map_while(Value::as_text).collect();
    let safe;
    let answer = if is_from_logs(&words) {
        safe = visible(answer);
        &safe
    } else {
        answer
    };
    // an answer of another shape than expected is printed as it is
    shaped(&words, answer, unicode).unwrap_or_else(|| plain(answer))
}

/// The text for a command that failed, without the newline at its end.
#[must_use]
pub fn failure(failure: &Failure) -> String {
    let first = failure.arguments.first().map(plain).unwrap_or_default();
    match (failure.kind, &failure.arguments[..]) {
        (FailureKind::UnknownJail, _) => format!("Sorry but the jail '{first}' does not exist"),
        (FailureKind::DuplicateJail, _) => format!("The jail '{first}' already exists"),
        (FailureKind::Index, _) => "Sorry but the command is invalid".to_owned(),
        // the rest is how Python writes an exception as text
        (FailureKind::Key, [name]) => repr(name),
        (FailureKind::FileNotFound, [number, text]) => format!("[Errno {}] {}", plain(number), plain(text)),
        (FailureKind::FileNotFound, [number, text, path, ..]) => {
            format!("[Errno {}] {}: {}", plain(number), plain(text), repr(path))
        }
        (_, [] | [_]) => first,
        (_, arguments) => repr(&Value::Tuple(arguments.to_vec())),
    }
}

/// The arguments of a failure, as the client's own log shows them.
#[must_use]
pub fn arguments(failure: &Failure) -> String {
    let shown = match (failure.kind, &failure.arguments[..]) {
        (FailureKind::FileNotFound, [number, text, _, ..]) => vec![number.clone(), text.clone()],
        (_, arguments) => arguments.to_vec(),
    };
    repr(&Value::Tuple(shown))
}

/// A value as Python's `str`: texts as they are, the rest as literals.
#[must_use]
pub fn plain(value: &Value) -> String {
    match value {
        Value::Text(text) => text.clone(),
        other => repr(other),
    }
}

/// Whether an answer has identifiers in it, which attackers choose.
fn is_from_logs(words: &[&str]) -> bool {
    matches!(words, ["status" | "banned", ..] | ["get", _, "banip" | "banned", ..])
}

/// The same value without control characters; a tab stays (`banip --with-time` has one).
fn visible(value: &Value) -> Value {
    let all = |items: &[Value]| items.iter().map(visible).collect();
    match value {
        Value::Text(text) if text.contains(is_hidden) => Value::Text(
            text.chars().map(|c| if is_hidden(c) { c.escape_default().to_string() } else { c.to_string() }).collect(),
        ),
        Value::List(items) => Value::List(all(items)),
        Value::Tuple(items) => Value::Tuple(all(items)),
        Value::Map(pairs) => Value::Map(pairs.iter().map(|(key, value)| (visible(key), visible(value))).collect()),
        other => other.clone(),
    }
}

/// Characters that a terminal obeys or that turn the direction of a text.
#[must_use]
pub fn is_hidden(c: char) -> bool {
    c != '\t' && c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn shaped(words: &[&str], answer: &Value, unicode: bool) -> Option<String> {
    let text = || answer.as_text();
    Some(match words {
        ["ping", ..] => format!("Server replied: {}", text()?),
        ["start", ..] => "Jail started".to_owned(),
        ["stop"] if *answer == Value::None => "Shutdown successful".to_owned(),
        ["stop", ..] if *answer == Value::None => "Jail stopped".to_owned(),
        ["add", ..] => format!("Added jail {}", text()?),
        ["flushlogs", ..] => format!("logs: {}", text()?),
        ["echo", ..] => texts(answer)?.join(" "),
        ["stats" | "statistics", ..] | ["status", "--all", "stats"] => statistics(answer, unicode)?,
        ["statistic"] => plain(&with_pairs(answer)?),
        ["status", _, "stats"] if matches!(answer.as_list(), Some([Value::Text(_), ..])) => plain(&with_pairs(answer)?),
        ["status", "--all", ..] => status_of_all(answer)?,
        ["status"] => tree("Status", &branches(answer)?),
        ["status", jail, ..] => tree(&format!("Status for the jail: {jail}"), &branches(answer)?),
        ["get" | "set", "syslogsocket", ..] => format!("Current syslog socket is:\n`- {}", text()?),
        ["get" | "set", "logtarget", ..] => format!("Current logging target is:\n`- {}", text()?),
        ["get" | "set", "loglevel", ..] => format!("Current logging level is {}", repr(answer)),
        ["get" | "set", "dbfile" | "dbpurgeage", ..] if *answer == Value::None => {
            "Database currently disabled".to_owned()
        }
        ["get" | "set", "dbfile", ..] => format!("Current database file is:\n`- {}", text()?),
        ["get" | "set", "dbpurgeage", ..] => {
            let seconds = match answer {
                Value::Float(number) => Value::Int(*number as i64),
                other => other.clone(),
            };
            format!("Current database purge age is:\n`- {}seconds", plain(&seconds))
        }
        ["get" | "set", jail, option, rest @ ..] => of_jail(words[0] == "get", jail, option, rest, answer)?,
        _ => return None,
    })
}

fn of_jail(get: bool, jail: &str, option: &str, rest: &[&str], answer: &Value) -> Option<String> {
    Some(match option {
        "logpath" | "addlogpath" | "dellogpath" => {
            listed(answer, "No file is currently monitored", "Current monitored log file(s):", false)?
        }
        "ignoreip" | "addignoreip" | "delignoreip" => {
            let title = "These IP addresses/networks are ignored:";
            listed(answer, "No IP address/network is ignored", title, false)?
        }
        "failregex" | "addfailregex" | "delfailregex" | "ignoreregex" | "addignoreregex" | "delignoreregex" => {
            let title = "The following regular expression are defined:";
            listed(answer, "No regular expression is defined", title, true)?
        }
        "logencoding" => format!("Current log encoding is set to:\n{}", answer.as_text()?),
        "journalmatch" | "addjournalmatch" | "deljournalmatch" => match answer.as_list()? {
            [] => "No journal match filter set".to_owned(),
            groups => {
                let groups: Vec<String> =
                    groups.iter().map(|group| Some(texts(group)?.join(" "))).collect::<Option<_>>()?;
                format!("Current match filter:\n{}", groups.join(" + "))
            }
        },
        "datepattern" => {
            let set = match (answer, answer.as_list()) {
                (Value::None, _) => "Not set/required".to_owned(),
                (_, Some([Value::None, name])) => plain(name),
                (_, Some([pattern, name])) => format!("{} ({})", plain(pattern), plain(name)),
                _ => return None,
            };
            format!("Current date pattern set to: {set}")
        }
        "actions" => match &texts(answer)?[..] {
            [] => format!("No actions for jail {jail}"),
            names => format!("The jail {jail} has the following actions:\n{}", names.join(", ")),
        },
        "actionproperties" | "actionmethods" => {
            let (action, what) = (rest.first()?, &option["action".len()..]);
            match &texts(answer)?[..] {
                [] => format!("No {what} for jail {jail} action {action}"),
                names => {
                    format!("The jail {jail} action {action} has the following {what}:\n{}", names.join(", "))
                }
            }
        }
        "banip" if get => {
            let between = match rest.first() {
                None => " ",
                Some(&"--with-time") => "\n",
                Some(other) => other,
            };
            texts(answer)?.join(between)
        }
        _ => return None,
    })
}

/// Statistics with their pairs of numbers as Fail2Ban has them; as JSON they come as lists.
fn with_pairs(value: &Value) -> Option<Value> {
    if let Value::Map(jails) = value {
        let jails = jails.iter().map(|(name, jail)| Some((name.clone(), with_pairs(jail)?)));
        return jails.collect::<Option<_>>().map(Value::Map);
    }
    let pair = |item: &Value| item.as_list().map_or_else(|| item.clone(), |pair| Value::Tuple(pair.to_vec()));
    Some(Value::List(value.as_list()?.iter().map(pair).collect()))
}

/// The elements, each as text.
fn texts(value: &Value) -> Option<Vec<String>> {
    Some(value.as_list()?.iter().map(plain).collect())
}

/// A title and the elements under it, numbered or not.
fn listed(value: &Value, none: &str, title: &str, numbered: bool) -> Option<String> {
    let items = texts(value)?;
    let mut out = if items.is_empty() { none } else { title }.to_owned();
    for (index, item) in items.iter().enumerate() {
        out.push_str(if index + 1 == items.len() { "\n`- " } else { "\n|- " });
        if numbered {
            out.push_str(&format!("[{index}]: "));
        }
        out.push_str(item);
    }
    Some(out)
}

/// A name and what hangs below it.
enum Branch {
    Leaf(String),
    Twig(String, Vec<Branch>),
}

/// A list of pairs; a value that is itself a list of pairs is a level of its own.
fn branches(value: &Value) -> Option<Vec<Branch>> {
    value
        .as_list()?
        .iter()
        .map(|pair| {
            let [name, value] = pair.as_list()? else { return None };
            let name = plain(name);
            Some(match value {
                Value::List(items) if items.iter().any(|item| item.as_list().is_some()) => {
                    Branch::Twig(name, branches(value)?)
                }
                Value::List(items) => {
                    let items: Vec<String> = items.iter().map(plain).collect();
                    Branch::Leaf(format!("{name}:\t{}", items.join(" ")))
                }
                value => Branch::Leaf(format!("{name}:\t{}", plain(value))),
            })
        })
        .collect()
}

fn tree(title: &str, branches: &[Branch]) -> String {
    let mut out = title.to_owned();
    grow(&mut out, branches, "");
    out
}

fn grow(out: &mut String, branches: &[Branch], margin: &str) {
    for (index, branch) in branches.iter().enumerate() {
        let last = index + 1 == branches.len();
        let (Branch::Leaf(text) | Branch::Twig(text, _)) = branch;
        out.push_str(&format!("\n{margin}{} {text}", if last { "`-" } else { "|-" }));
        if let Branch::Twig(_, below) = branch {
            grow(out, below, &format!("{margin}{}", if last { "   " } else { "|  " }));
        }
    }
}

/// `status --all` of version 1.1: two lines as `status`, then a tree for each jail.
fn status_of_all(value: &Value) -> Option<String> {
    let (Value::Map(jails), pairs) = value.as_list()?.split_last()? else { return None };
    let mut all = branches(&Value::List(pairs.to_vec()))?;
    let jails: Option<Vec<Branch>> = jails
        .iter()
        .map(|(name, status)| Some(Branch::Twig(format!("Jail: {}", plain(name)), branches(status)?)))
        .collect();
    all.push(Branch::Twig("Status for the jails:".to_owned(), jails?));
    Some(tree("Status", &all))
}

/// The table of `stats`, of version 1.1.
fn statistics(value: &Value, unicode: bool) -> Option<String> {
    let Value::Map(jails) = value else { return None };
    if jails.is_empty() {
        return Some("No jails found.".to_owned());
    }
    let mut rows: Vec<Vec<String>> = Vec::new();
    for (name, numbers) in jails {
        let [backend, failed, banned] = numbers.as_list()? else { return None };
        let numbers = failed.as_list()?.iter().chain(banned.as_list()?);
        rows.push([name, backend].into_iter().chain(numbers).map(plain).collect());
    }
    let width = |column: usize| {
        let least = if column < 2 { 8 } else { 3 };
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).fold(least, usize::max)
    };
    let [name, backend, failed, all_failed, banned, all_banned] = [0, 1, 2, 3, 4, 5].map(width);
    let (filter, actions) = (failed + all_failed + 3, banned + all_banned + 3);
    let line = |left: &str, middle: &str, cross: &str, end: &str| {
        [name + 2, backend + 2, filter + 2, actions + 2]
            .iter()
            .enumerate()
            .map(|(index, width)| format!("{}{}", ["", left, middle, cross][index], end.repeat(*width)))
            .collect::<String>()
    };
    let mut out = vec![
        format!(" {:name$} ║ {:backend$} ║ {:filter$} ║ {:actions$}", "", "", "Filter", "Actions"),
        format!(" {:name$} ║ {:backend$} ╟{}╫{}", "Jail", "Backend", "─".repeat(filter + 2), "─".repeat(actions + 2)),
        format!(
            " {:name$} ║ {:backend$} ║ {:>failed$} │ {:>all_failed$} ║ {:>banned$} │ {:>all_banned$}",
            "", "", "cur", "tot", "cur", "tot"
        ),
        line("╬", "╬", "╬", "═"),
    ];
    for row in &rows {
        let [jail, engine, a, b, c, d] = &row[..] else { return None };
        out.push(format!(
            " {jail:name$} ║ {engine:backend$} ║ {a:>failed$} │ {b:>all_failed$} ║ {c:>banned$} │ {d:>all_banned$}"
        ));
    }
    out.push(line("╩", "╩", "╩", "═"));
    let text = out.join("\n");
    if unicode {
        return Some(text);
    }
    let plain = |c| match c {
        '║' | '│' | '╟' => '|',
        '═' | '─' | '╩' => '-',
        '╬' | '╫' => 'x',
        other => other,
    };
    Some(text.chars().map(plain).collect())
}

#[cfg(test)]
#[path = "beautifier/tests.rs"]
mod tests;
