//! `%(name)s`: one option's value put into another's.
//!
//! Evaluated when an option is read, on the merged raw texts. `%(section/option)s` takes the
//! raw text of another section, `%(known/option)s` what a later file has overwritten.

use indexmap::IndexMap;

use super::diagnostic::{Diagnostic, nearest};
use super::ini::DEFAULT;
use super::layer::Merged;
use super::text::{Text, TooLong};
use crate::config::Span;

/// How many values may nest in each other.
pub const MAX_DEPTH: usize = 10;
/// How many references one value may have, all in all.
pub const MAX_REFERENCES: usize = 20_000;

/// Values that come before the section's own: arguments and options of the jail.
pub type Vars = IndexMap<String, Text>;

/// A section, as seen when one of its options is read.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// The files.
    pub merged: &'a Merged,
    /// The section.
    pub section: &'a str,
    /// What wins over the section's own options.
    pub vars: &'a Vars,
}

/// Why a value cannot be made.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{text}")]
pub struct Error {
    /// What is wrong.
    pub text: String,
    /// Where the reference stands.
    pub span: Option<Span>,
    /// How many characters it has.
    pub width: usize,
    /// What to do.
    pub help: Option<String>,
}

impl Error {
    /// The same as a finding.
    #[must_use]
    pub fn diagnostic(&self) -> Diagnostic {
        let found = Diagnostic::error(self.span.clone(), self.text.clone()).width(self.width);
        match &self.help {
            Some(help) => found.help(help.clone()),
            None => found,
        }
    }
}

/// Which `known/` values a text already stands behind: option and how far back.
type Levels = Vec<(String, usize)>;

impl Scope<'_> {
    /// The value of an option, everything put in; none if it is defined nowhere.
    ///
    /// # Errors
    /// A reference that leads nowhere or in a circle, a `%` without meaning, a value too long.
    pub fn get(&self, option: &str) -> Result<Option<Text>, Error> {
        let name = option.to_lowercase();
        let Some(raw) = self.raw(&name) else { return Ok(None) };
        self.expand(option, raw).map(Some)
    }

    /// A raw text with everything put in that it refers to.
    ///
    /// # Errors
    /// As [`Scope::get`].
    pub fn expand(&self, option: &str, raw: &Text) -> Result<Text, Error> {
        let mut out = Text::default();
        let mut references = 0;
        self.expand_into(option, raw, 1, &mut Levels::new(), &mut references, &mut out)?;
        Ok(out)
    }

    /// The raw text: explicit variables, then the section, then DEFAULT.
    #[must_use]
    pub fn raw(&self, name: &str) -> Option<&Text> {
        let own = self.merged.sections.get(self.section);
        self.vars.get(name).or_else(|| own?.get(name)).or_else(|| self.merged.defaults.get(name))
    }

    fn expand_into(
        &self,
        option: &str,
        raw: &Text,
        depth: usize,
        levels: &mut Levels,
        references: &mut usize,
        out: &mut Text,
    ) -> Result<(), Error> {
        let text = raw.as_str();
        let fail = |offset: usize, width: usize, text: String, help: Option<String>| Error {
            text,
            span: raw.span_at(offset),
            width,
            help,
        };
        let long = |_: TooLong| fail(0, 0, format!("the value of option `{option}` becomes too long"), None);
        if depth > MAX_DEPTH {
            let text = format!("values nest deeper than {MAX_DEPTH}, perhaps in a circle (option `{option}`)");
            return Err(fail(0, text.len().min(1), text, Some("let the option not refer to itself".to_owned())));
        }
        let mut done = 0;
        while let Some(found) = text[done..].find('%') {
            let at = done + found;
            out.append(&raw.slice(done..at)).map_err(long)?;
            let rest = &text[at + 1..];
            if rest.starts_with('%') {
                out.append(&raw.slice(at..at + 1)).map_err(long)?;
                done = at + 2;
                continue;
            }
            let reference = rest.strip_prefix('(').and_then(|inner| {
                let end = inner.find(')')?;
                (end > 0 && inner[end + 1..].starts_with('s')).then(|| &inner[..end])
            });
            let Some(name) = reference else {
                let text = format!("`%` in option `{option}` begins neither `%(name)s` nor `%%`");
                return Err(fail(at, 1, text, Some("write `%%` where a percent sign is meant".to_owned())));
            };
            *references += 1;
            let width = name.chars().count() + 4;
            if *references > MAX_REFERENCES {
                let text = format!("option `{option}` refers to more than {MAX_REFERENCES} values");
                return Err(fail(at, width, text, None));
            }
            self.reference(option, name, depth, levels, references, out)
                .map_err(|error| error.unwrap_or_else(|| self.unknown(option, name, raw.span_at(at), width)))?;
            done = at + 1 + width - 1 + (name.len() - name.chars().count());
        }
        out.append(&raw.slice(done..text.len())).map_err(long)
    }

    /// Puts the value of one reference in. The error is `None` if there is no such value.
    fn reference(
        &self,
        option: &str,
        name: &str,
        depth: usize,
        levels: &mut Levels,
        references: &mut usize,
        out: &mut Text,
    ) -> Result<(), Option<Error>> {
        let lower = name.to_lowercase();
        let direct = if lower == "__name__" && self.raw("__name__").is_none() {
            out.push_str(self.section, None);
            return Ok(());
        } else {
            self.raw(&lower)
        };
        if let Some(raw) = direct {
            return self.nested(&lower, raw, depth, levels, references, out);
        }
        let Some((section, wanted)) = split_reference(name) else { return Err(None) };
        let wanted = wanted.to_lowercase();
        if section.eq_ignore_ascii_case("known") {
            let level = levels.iter().rev().find(|(known, _)| *known == wanted).map_or(1, |(_, level)| level + 1);
            let shadow = self.merged.shadows.get(self.section).and_then(|s| s.get(&wanted));
            let raw = shadow.and_then(|values| values.len().checked_sub(level).map(|index| &values[index]));
            let shadowed = raw.is_some();
            let Some(raw) = raw.or_else(|| self.merged.defaults.get(&wanted)) else { return Err(None) };
            // A value of DEFAULT has nothing older behind it.
            levels.push((wanted.clone(), if shadowed { level } else { usize::MAX - 1 }));
            let result = self.nested(option, raw, depth, levels, references, out);
            levels.pop();
            return result;
        }
        let raw = if section.eq_ignore_ascii_case(DEFAULT) {
            self.merged.defaults.get(&wanted)
        } else {
            let foreign = self.merged.sections.get(section).ok_or(None)?;
            foreign.get(&wanted).or_else(|| self.merged.defaults.get(&wanted))
        };
        self.nested(&wanted, raw.ok_or(None)?, depth, levels, references, out)
    }

    fn nested(
        &self,
        option: &str,
        raw: &Text,
        depth: usize,
        levels: &mut Levels,
        references: &mut usize,
        out: &mut Text,
    ) -> Result<(), Option<Error>> {
        if raw.as_str().contains('%') {
            return self.expand_into(option, raw, depth + 1, levels, references, out).map_err(Some);
        }
        out.append(raw).map_err(|_| {
            Some(Error {
                text: format!("a value that includes option `{option}` becomes too long"),
                span: raw.span(),
                width: 0,
                help: None,
            })
        })
    }

    fn unknown(&self, option: &str, name: &str, span: Option<Span>, width: usize) -> Error {
        let own = self.merged.sections.get(self.section).into_iter().flat_map(|s| s.keys());
        let known = own.chain(self.merged.defaults.keys()).chain(self.vars.keys()).map(String::as_str);
        let help = nearest(&name.to_lowercase(), known.filter(|known| *known != option))
            .map_or_else(|| "define it in this section or in [DEFAULT]".to_owned(), |n| format!("there is `{n}`"));
        let text = format!("option `{option}` refers to `{name}`, which is not defined");
        Error { text, span, width, help: Some(help) }
    }
}

/// `section/option`, the section being a word.
pub(super) fn split_reference(name: &str) -> Option<(&str, &str)> {
    let (section, option) = name.split_once('/')?;
    let word = !section.is_empty() && section.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-');
    (word && !option.is_empty()).then_some((section, option))
}
