//! An action, read and put together: `action.d/NAME` with the arguments a jail gives it.

use indexmap::IndexMap;

use super::definition::Definition;
use super::filter::Located;
use super::interpolate::{Error, Vars};
use super::layer::Merged;
use super::options;
use super::text::Text;
use crate::control::Value;

/// The options of an action that become properties, in the order they are read; true: boolean.
pub const OPTIONS: [(&str, bool); 13] = [
    ("actionstart", false),
    ("actionstart_on_demand", true),
    ("actionstop", false),
    ("actionflush", false),
    ("actionreload", false),
    ("actioncheck", false),
    ("actionrepair", false),
    ("actionrepair_on_unban", true),
    ("actionban", false),
    ("actionprolong", false),
    ("actionreban", false),
    ("actionunban", false),
    ("norestored", true),
];

/// Tags that are never replaced while reading: they mean the ban, not the jail.
const RUN_TIME: [&str; 5] = ["matches", "ipmatches", "ipjailmatches", "timeout", "bantime"];

/// The commands that give a jail this action.
///
/// # Errors
/// A value that cannot be made.
pub(super) fn commands(
    merged: &Merged,
    file: &str,
    jail: &str,
    mut arguments: IndexMap<String, Text>,
    vars: &Vars,
    override_conditional: bool,
) -> Result<Vec<Located>, Error> {
    let given = arguments.get("name").cloned();
    if given.is_none() {
        arguments.insert("name".to_owned(), Text::new(jail, None));
    }
    let actname = match arguments.get("actname") {
        Some(name) => name.as_str().to_owned(),
        None => {
            let suffix = match given.as_ref().map(Text::as_str) {
                Some(name) if name != jail => match name.strip_prefix(jail) {
                    Some(rest) => rest.to_owned(),
                    None => format!("-{name}"),
                },
                _ => String::new(),
            };
            let name = format!("{file}{suffix}");
            arguments.insert("actname".to_owned(), Text::new(name.as_str(), None));
            name
        }
    };
    let names = OPTIONS.map(|(name, _)| name);
    let mut definition = Definition::new(merged, arguments);
    definition.read(&names, vars, override_conditional, false)?;
    let combined = definition.combined(&RUN_TIME)?;
    let mut properties = Vec::new();
    let mut place = None;
    for (option, text) in &combined {
        let Some((_, boolean)) = OPTIONS.iter().find(|(name, _)| name == option) else { continue };
        let value = if *boolean { options::boolean(text.as_str()).into() } else { text.as_str().into() };
        place.get_or_insert_with(|| text.clone());
        properties.push(Value::List(vec![option.as_str().into(), value]));
    }
    for (option, text) in &definition.init {
        if !option.starts_with("known/") && !names.contains(&option.as_str()) {
            properties.push(Value::List(vec![option.as_str().into(), text.as_str().into()]));
        }
    }
    let add = vec!["set".into(), jail.into(), "addaction".into(), actname.as_str().into()];
    let mut words: Vec<Value> = vec!["multi-set".into(), jail.into(), "action".into(), actname.into()];
    if properties.len() == 1
        && let Some(Value::List(pair)) = properties.pop()
    {
        words[0] = "set".into();
        words.extend(pair);
    } else {
        words.push(Value::List(properties));
    }
    Ok(vec![(add, place.clone()), (words, place)])
}

/// The command for an action written in Python: its path and its arguments as JSON.
pub(super) fn python(directory: &str, file: &str, jail: &str, mut arguments: IndexMap<String, Text>) -> Located {
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    let name = arguments.shift_remove("actname");
    let name = name.as_ref().map_or(stem, Text::as_str);
    let path = if file.starts_with('/') { file.to_owned() } else { format!("{directory}/action.d/{file}") };
    let json = arguments.iter().map(|(key, value)| format!("{}: {}", json(key), json(value.as_str())));
    let json = format!("{{{}}}", json.collect::<Vec<_>>().join(", "));
    let words = ["set", jail, "addaction", name, &path, &json].map(Value::from);
    (words.to_vec(), None)
}

/// A JSON string with everything beyond ASCII escaped, as Python writes it.
fn json(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            ' '..='~' => out.push(c),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    out.push('"');
    out
}
