//! Option `backend = systemd[journalpath=…]`, and the words of `fail2ban-regex` for the same.

use indexmap::IndexMap;

use super::options;
use super::repr::repr;
use super::text::Text;
use crate::config::journal::Journal;
use crate::config::settings::Compat;
use crate::control::Value;

/// The option of 1.1 that changes nothing here: rotated files are always read on to their end.
const ROTATED: &str = "rotated";

/// What stands in a `backend` option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Its name in small letters.
    pub name: String,
    /// Its options as messages show them: a dictionary of Python.
    pub shown: String,
    /// Which journal, with `systemd` (and `systemd-journal`, as the tool calls it).
    pub journal: Option<Journal>,
}

/// Takes a backend apart; where versions differ in what is read without options, as `compat` does.
///
/// # Errors
/// A text that says what is wrong with the options.
pub fn backend(text: &str, compat: Compat) -> Result<Backend, String> {
    let call = options::parse(&Text::new(text, None)).map_err(|error| format!("backend `{text}`: {error}"))?;
    let name = call.name.as_str().trim().to_ascii_lowercase();
    let pairs = call.arguments.iter().map(|(key, value)| (Value::from(key.as_str()), Value::from(value.as_str())));
    let shown = repr(&Value::Map(pairs.collect()));
    let journal = match name.as_str() {
        "systemd" | "systemd-journal" => Some(journal(&call.arguments, compat)?),
        _ => None,
    };
    Ok(Backend { name, shown, journal })
}

fn journal(arguments: &IndexMap<String, Text>, compat: Compat) -> Result<Journal, String> {
    let mut journal = Journal::default();
    let mut flags = None;
    for (name, value) in arguments {
        let text = value.as_str();
        match name.as_str() {
            "journalpath" => journal.path = Some(text.into()),
            "journalfiles" => journal.files = options::words(value).iter().map(|word| word.as_str().into()).collect(),
            "journalflags" => {
                let number = text.trim().parse().map_err(|_| format!("journalflags: `{text}` is no whole number"))?;
                flags = Some(number);
            }
            "namespace" => journal.namespace = Some(text.to_owned()),
            ROTATED => {}
            other => {
                return Err(format!(
                    "the journal has no option `{other}`; there are journalpath, journalfiles, journalflags, \
                     namespace and rotated"
                ));
            }
        }
    }
    journal.flags = match (flags, compat) {
        (Some(flags), _) => flags,
        (None, _) if journal.path.is_some() || !journal.files.is_empty() => 0,
        (None, Compat::V1_0) => Journal::SYSTEM,
        (None, Compat::V1_1) => Journal::LOCAL,
    };
    Ok(journal)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    #[test]
    fn options_of_the_journal() {
        let read = |text: &str| backend(text, Compat::V1_0);
        let plain = read("Systemd").unwrap();
        assert_eq!((plain.name.as_str(), plain.shown.as_str()), ("systemd", "{}"));
        assert_eq!(plain.journal.unwrap().flags, Journal::SYSTEM);
        assert_eq!(backend("systemd", Compat::V1_1).unwrap().journal.unwrap().flags, Journal::LOCAL);
        let all = read("systemd[journalpath=/j, journalfiles=\"/a/*.journal, /b\", namespace=x, rotated=on]").unwrap();
        assert!(all.shown.starts_with("{'journalpath': '/j', "));
        let journal = all.journal.unwrap();
        assert_eq!(journal.files, ["/a/*.journal", "/b"]);
        assert_eq!((journal.path.unwrap().to_str(), journal.flags), (Some("/j"), 0));
        assert_eq!(journal.namespace.as_deref(), Some("x"));
        assert_eq!(read("systemd[journalflags=5]").unwrap().journal.unwrap().flags, 5);
        assert_eq!(read("auto").unwrap().journal, None);
        assert!(read("systemd[journalflags=x]").is_err());
        assert!(read("systemd[jurnalpath=/j]").unwrap_err().contains("jurnalpath"));
        assert!(read("systemd[journalpath").is_err());
    }
}
