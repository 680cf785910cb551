//! A filter, read and put together: `filter.d/NAME` with the arguments it is used with.

use std::path::Path;

use indexmap::IndexMap;

use super::definition::Definition;
use super::diagnostic::{Diagnostic, nearest};
use super::interpolate::Vars;
use super::layer::{Files, Merged, Vendor};
use super::options;
use super::text::Text;
use crate::config::settings::Compat;
use crate::config::{self, UseDns};
use crate::control::Value;

/// The options of a filter that become commands, in the order they are read.
pub const OPTIONS: [&str; 7] =
    ["usedns", "prefregex", "ignoreregex", "failregex", "maxlines", "datepattern", "journalmatch"];

/// The settings of a filter, each with the places its text comes from.
#[derive(Clone, Debug, Default)]
pub struct ResolvedFilter {
    /// What to do with host names.
    pub usedns: Option<Text>,
    /// Has to match before any failregex.
    pub prefregex: Option<Text>,
    /// Recognise failures, in order.
    pub failregex: Vec<Text>,
    /// What is no failure.
    pub ignoreregex: Vec<Text>,
    /// How many lines are matched together.
    pub maxlines: Option<i64>,
    /// Date patterns, one a line.
    pub datepattern: Option<Text>,
    /// Groups of journal matches, one each.
    pub journalmatch: Vec<Text>,
}

impl ResolvedFilter {
    /// The texts as plain settings, ready to be compiled.
    #[must_use]
    pub fn settings(&self, usedns: UseDns) -> config::Filter {
        let text = |text: &Text| text.as_str().to_owned();
        config::Filter {
            usedns,
            prefregex: self.prefregex.as_ref().map(text),
            failregex: self.failregex.iter().map(text).collect(),
            ignoreregex: self.ignoreregex.iter().map(text).collect(),
            maxlines: self.maxlines.and_then(|lines| u32::try_from(lines).ok()).unwrap_or(1),
            datepattern: self.datepattern.as_ref().map(text),
            ..config::Filter::default()
        }
    }

    /// Takes the filter's options out of a map; what the map lacks stays as it is.
    pub(super) fn fill(&mut self, options: &IndexMap<String, Text>) {
        let lines = |text: &Text| text.lines().into_iter().filter(|line| !line.is_empty()).collect::<Vec<_>>();
        for (name, value) in options {
            match name.as_str() {
                "usedns" => self.usedns = Some(value.clone()),
                "prefregex" => self.prefregex = Some(value.clone()),
                "failregex" => self.failregex = lines(value),
                "ignoreregex" => self.ignoreregex = lines(value),
                "maxlines" => self.maxlines = options::integer(value.as_str()),
                "datepattern" => self.datepattern = Some(value.clone()),
                "journalmatch" => self.journalmatch = lines(value),
                _ => {}
            }
        }
    }
}

/// Reads one filter outside of any jail, as `sekimori regex` needs it.
///
/// `name` is without extension and folder, or a path; `arguments` are those of `name[…]`.
/// The second part of the answer is what was found wrong; errors in it do not always keep the
/// filter from being used.
///
/// # Errors
/// The findings, if there is no such filter or its values cannot be made.
pub fn read(
    directory: &Path,
    vendor: Vec<Vendor>,
    name: &str,
    arguments: IndexMap<String, Text>,
    backend: &str,
    compat: Compat,
) -> Result<(ResolvedFilter, Vec<Diagnostic>), Vec<Diagnostic>> {
    let mut files = Files::new(directory, vendor);
    let Some(merged) = files.read(&base(name)) else {
        let mut found = std::mem::take(&mut files.diagnostics);
        found.push(missing(&files, "filter.d", "filter", &Text::new(name, None)));
        return Err(found);
    };
    resolve(&merged, std::mem::take(&mut files.diagnostics), arguments, backend, compat)
}

/// The same for a file that lies anywhere, with what it includes.
///
/// # Errors
/// The findings, if it cannot be read or its values cannot be made.
pub fn read_file(
    path: &Path,
    arguments: IndexMap<String, Text>,
    backend: &str,
    compat: Compat,
) -> Result<(ResolvedFilter, Vec<Diagnostic>), Vec<Diagnostic>> {
    let mut files = Files::new(path.parent().unwrap_or(Path::new("")), Vec::new());
    let Some(merged) = files.read_file(path) else {
        let mut found = std::mem::take(&mut files.diagnostics);
        found.push(Diagnostic::error(None, format!("cannot read `{}`", path.display())));
        return Err(found);
    };
    resolve(&merged, std::mem::take(&mut files.diagnostics), arguments, backend, compat)
}

fn resolve(
    merged: &Merged,
    mut found: Vec<Diagnostic>,
    arguments: IndexMap<String, Text>,
    backend: &str,
    compat: Compat,
) -> Result<(ResolvedFilter, Vec<Diagnostic>), Vec<Diagnostic>> {
    if !merged.broken.is_empty() {
        return Err(found);
    }
    let mut definition = definition(merged, arguments, backend);
    let result =
        definition.read(&OPTIONS, &Vars::new(), compat == Compat::V1_1, false).and_then(|()| definition.combined(&[]));
    match result {
        Ok(options) => {
            let mut filter = ResolvedFilter::default();
            filter.fill(&options);
            Ok((filter, found))
        }
        Err(error) => {
            found.push(error.diagnostic());
            Err(found)
        }
    }
}

/// The base name of a filter's files.
pub(super) fn base(name: &str) -> String {
    if name.starts_with('/') || name.starts_with("./") { name.to_owned() } else { format!("filter.d/{name}") }
}

/// The filter with its arguments and the one that depends on the backend.
pub(super) fn definition<'a>(
    merged: &'a Merged,
    mut arguments: IndexMap<String, Text>,
    backend: &str,
) -> Definition<'a> {
    let defined = merged.sections.get("Definition").is_some_and(|section| section.contains_key("logtype"));
    if !defined && !arguments.contains_key("logtype") {
        let logtype = if backend.starts_with("systemd") { "journal" } else { "file" };
        arguments.insert("logtype".to_owned(), Text::new(logtype, None));
    }
    Definition::new(merged, arguments)
}

/// Says that a filter or action is not there, and which one may be meant.
pub(super) fn missing(files: &Files, folder: &str, kind: &str, name: &Text) -> Diagnostic {
    let text = format!("there is no {kind} `{}`", name.as_str());
    let names = files.names(folder);
    let wanted = name.as_str().trim();
    let help = if names.iter().any(|n| n == wanted) && wanted != name.as_str() {
        format!("`{wanted}` exists; remove the blank before `[`")
    } else if let Some(stem) = wanted.strip_suffix(".conf").or_else(|| wanted.strip_suffix(".local")) {
        format!("write `{stem}` without the extension")
    } else if let Some(near) = nearest(wanted, names.iter().map(String::as_str)) {
        format!("there is `{near}`")
    } else {
        format!("it would be {}", files.directory().join(folder).join(format!("{wanted}.conf")).display())
    };
    Diagnostic::error(name.span(), text).width(name.as_str().chars().count()).help(help)
}

/// A command and the text that its last word comes from.
pub(super) type Located = (Vec<Value>, Option<Text>);

/// The commands of a filter's options. `usedns` goes to the very front, then `prefregex` and
/// `maxlines`: the server needs them before any regex.
pub(super) fn commands(stream: &mut Vec<Located>, jail: &str, options: &IndexMap<String, Text>) {
    let mut front = 0;
    let set = |option: &str, value: Value| vec!["set".into(), jail.into(), option.into(), value];
    for (name, text) in options {
        match name.as_str() {
            "failregex" | "ignoreregex" => {
                let option = format!("add{name}");
                let mut lines: Vec<Text> = text.lines().into_iter().filter(|line| !line.is_empty()).collect();
                if lines.len() > 1 {
                    let values = lines.iter().map(|line| line.as_str().into()).collect();
                    let words = vec!["multi-set".into(), jail.into(), option.into(), Value::List(values)];
                    stream.push((words, Some(lines.remove(0))));
                } else if let Some(line) = lines.pop() {
                    stream.push((set(&option, line.as_str().into()), Some(line)));
                }
            }
            "usedns" | "prefregex" | "maxlines" => {
                let value = if name == "maxlines" {
                    options::integer(text.as_str()).map_or(Value::None, Value::Int)
                } else {
                    text.as_str().into()
                };
                if value == Value::None {
                    continue;
                }
                let place = if name == "usedns" { 0 } else { front };
                stream.insert(place, (set(name, value), Some(text.clone())));
                front += 1;
            }
            "datepattern" => stream.push((set(name, text.as_str().into()), Some(text.clone()))),
            "journalmatch" => {
                for line in text.lines() {
                    let words = options::shell_words(line.as_str()).unwrap_or_default();
                    if !words.is_empty() {
                        let mut command = vec!["set".into(), jail.into(), "addjournalmatch".into()];
                        command.extend(words.into_iter().map(Value::from));
                        stream.push((command, Some(line)));
                    }
                }
            }
            _ => {}
        }
    }
}
