//! What only shows when the values are used: times, expressions, networks, names of backends,
//! regular expressions, date patterns.
//!
//! The original finds these when its server applies the stream, and then nothing starts. We
//! look at them when the configuration is read, each with its place.

use super::compile::{self, Setting};
use super::diagnostic::{Diagnostic, Severity, nearest};
use super::jail::Jail;
use super::text::Text;
use super::{Configuration, arithmetic, date, options, time};
use crate::address::Prefix;
use crate::config::{self, UseDns};
use crate::control::Value;

/// Names of backends; `gamin` is accepted as 1.0 did.
const BACKENDS: [&str; 5] = ["auto", "polling", "pyinotify", "systemd", "gamin"];
/// Values of `usedns`.
const USEDNS: [&str; 4] = ["yes", "warn", "no", "raw"];

/// Findings about the values of all jails and of fail2ban.conf.
#[must_use]
pub fn check(configuration: &Configuration) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for command in &configuration.stream {
        if let [_, Value::Text(option), Value::Text(value)] = command.words.as_slice()
            && option == "dbpurgeage"
        {
            let text = Text::new(value.as_str(), command.span.clone());
            found.extend(duration("dbpurgeage", &text));
        }
    }
    for jail in configuration.jails.iter().filter(|jail| jail.error.is_none()) {
        let mut own = jail_values(jail);
        own.extend(twice_the_same_action(configuration, jail));
        found.extend(own.into_iter().map(|one| one.jail(&jail.name)));
    }
    found
}

fn jail_values(jail: &Jail) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for (option, text) in &jail.options {
        match option.as_str() {
            "findtime" | "bantime" => found.extend(duration(option, text)),
            "bantime.maxtime" | "bantime.rndtime" if !text.is_empty() => found.extend(duration(option, text)),
            "bantime.factor" if !text.is_empty() => {
                found.extend(arithmetic::number(text.as_str()).err().map(|error| expression(option, text, &error)));
            }
            "bantime.formula" if !text.is_empty() => {
                let read = arithmetic::Formula::parse(text.as_str());
                found.extend(read.err().map(|error| expression(option, text, &error)));
            }
            "bantime.multipliers"
                if !text.is_empty() && text.as_str().split(' ').any(|word| options::integer(word).is_none()) =>
            {
                let help = "write whole numbers with one blank between them, such as 1 2 4 8";
                found.push(whole(text, format!("{option} is no list of numbers")).help(help));
            }
            "ignoreip" => found.extend(options::words(text).iter().filter_map(ignoreip)),
            "ignorecache" => {
                if let Err(error) = options::arguments(text, 0) {
                    let help = "write key=\"<ip>\", max-count=100, max-time=5m";
                    found.push(
                        Diagnostic::error(text.span_at(error.offset), format!("ignorecache: {error}")).help(help),
                    );
                }
            }
            "backend" => found.extend(backend(text)),
            "logencoding" => found.extend(encoding(text)),
            _ => {}
        }
    }
    let filter = &jail.filter;
    if let Some(text) = &filter.usedns
        && !USEDNS.iter().any(|known| text.as_str().eq_ignore_ascii_case(known))
    {
        let mut warning = whole(text, format!("`{}` is no value of usedns; taking it as `no`", text.as_str()));
        warning.severity = Severity::Warning;
        found.push(warning.help("write yes, warn, no or raw"));
    }
    if filter.maxlines.is_some_and(|lines| lines < 1) {
        found.push(Diagnostic::error(None, "maxlines has to be at least 1"));
    }
    found.extend(filter_values(jail));
    if filter.failregex.is_empty() {
        found.push(Diagnostic::warning(None, "there is no failregex: nothing will be found"));
    }
    found
}

/// Compiles the filter as the server will, and says where it cannot be.
fn filter_values(jail: &Jail) -> Vec<Diagnostic> {
    let filter = &jail.filter;
    let usedns = match filter.usedns.as_ref().map(|text| text.as_str().to_lowercase()) {
        None => UseDns::default(),
        Some(text) => match text.as_str() {
            "yes" => UseDns::Yes,
            "warn" => UseDns::Warn,
            "raw" => UseDns::Raw,
            _ => UseDns::No,
        },
    };
    let timezone = jail.options.get("logtimezone");
    let settings = config::Filter {
        logtimezone: timezone.map(|text| text.as_str().to_owned()),
        // what is below was told already
        maxlines: filter.maxlines.map_or(1, |lines| u32::try_from(lines).unwrap_or(1).max(1)),
        ..filter.settings(usedns)
    };
    // Which years dates accept makes no difference to whether they are well formed.
    let Err(errors) = compile::compile(&settings, date::Options::server(2000)) else { return Vec::new() };
    let diagnostic = |error: compile::Error| {
        let text = match error.setting {
            Setting::Prefregex => filter.prefregex.as_ref(),
            Setting::Failregex(index) => filter.failregex.get(index),
            Setting::Ignoreregex(index) => filter.ignoreregex.get(index),
            Setting::Datepattern => filter.datepattern.as_ref(),
            Setting::Logtimezone => timezone,
            Setting::Maxlines => None,
        };
        let diagnostic = match (text, error.offset) {
            (Some(text), Some(offset)) => Diagnostic::error(text.span_at(offset), error.short),
            (Some(text), None) => whole(text, error.short),
            (None, _) => Diagnostic::error(None, error.short),
        };
        match error.help {
            Some(help) => diagnostic.help(help),
            None => diagnostic,
        }
    };
    errors.into_iter().map(diagnostic).collect()
}

fn whole(text: &Text, words: String) -> Diagnostic {
    Diagnostic::error(text.span(), words).width(text.as_str().lines().next().unwrap_or("").chars().count())
}

fn duration(option: &str, text: &Text) -> Option<Diagnostic> {
    let error = time::seconds(text.as_str()).err()?;
    Some(expression(option, text, &error).help("write seconds or such as 10m, 1d12h, -1 for ever"))
}

fn expression(option: &str, text: &Text, error: &arithmetic::Error) -> Diagnostic {
    Diagnostic::error(text.span_at(error.at), format!("{option}: {error}"))
}

fn ignoreip(word: &Text) -> Option<Diagnostic> {
    let text = word.as_str();
    if text.starts_with("file:") || !text.contains('/') {
        return None;
    }
    let error = text.parse::<Prefix>().err()?;
    Some(whole(word, format!("ignoreip: {error}")).help("write an address, a network such as 192.0.2.0/24, or a name"))
}

fn backend(text: &Text) -> Option<Diagnostic> {
    let call = match options::parse(text) {
        Ok(call) => call,
        Err(error) => return Some(Diagnostic::error(text.span_at(error.offset), format!("backend: {error}"))),
    };
    let name = call.name.as_str().trim().to_lowercase();
    if BACKENDS.contains(&name.as_str()) {
        return None;
    }
    let help = nearest(&name, BACKENDS).map_or_else(|| BACKENDS[..4].join(", "), |near| format!("is `{near}` meant?"));
    Some(whole(text, format!("there is no backend `{name}`")).help(help))
}

fn encoding(text: &Text) -> Option<Diagnostic> {
    /// Names that Python knows and the Web's list does not.
    const MORE: [&str; 5] = ["auto", "utf8", "latin", "iso8859-1", "iso8859-15"];
    let name = text.as_str().to_lowercase().replace('_', "-");
    let known = MORE.contains(&name.as_str())
        || encoding_rs::Encoding::for_label(name.as_bytes()).is_some()
        || name
            .strip_prefix("cp")
            .is_some_and(|number| encoding_rs::Encoding::for_label(format!("windows-{number}").as_bytes()).is_some());
    (!known).then(|| whole(text, format!("there is no encoding `{}`", text.as_str())).help("write auto or utf-8"))
}

fn twice_the_same_action(configuration: &Configuration, jail: &Jail) -> Vec<Diagnostic> {
    let mut names: Vec<&str> = Vec::new();
    let mut found = Vec::new();
    for command in &configuration.stream {
        let words: Vec<&str> = command.words.iter().take(4).filter_map(Value::as_text).collect();
        let ["set", owner, "addaction", name] = words[..] else { continue };
        if owner != jail.name {
            continue;
        }
        if names.contains(&name) {
            let text = format!("there are two actions named `{name}`");
            found.push(Diagnostic::error(command.span.clone(), text).help("give one of them another actname"));
        }
        names.push(name);
    }
    found
}
