//! What filters and actions have in common: `[Definition]`, `[Init]`, arguments, `<tags>`.
//!
//! A tag is replaced by an argument, an `[Init]` value or another option of `[Definition]`;
//! what is none of these stays for run time (`<ip>`) or for the regex (`<HOST>`).

use std::collections::{HashMap, HashSet};

use indexmap::IndexMap;

use super::interpolate::{Error, Scope, Vars, split_reference};
use super::layer::Merged;
use super::text::Text;

/// How often one tag may be replaced in one option before it counts as referring to itself.
pub const MAX_TAG_REPLACEMENTS: usize = 25;
/// How many replacements one filter or action may need, all in all.
pub const MAX_REPLACEMENTS: usize = 20_000;

const DEFINITION: &str = "Definition";
const INIT: &str = "Init";

/// A filter or action file with the arguments it is used with.
#[derive(Debug)]
pub struct Definition<'a> {
    merged: &'a Merged,
    /// Arguments, then what `[Init]` adds; also `known/…` of `[Init]`.
    pub init: IndexMap<String, Text>,
    /// What `%(name)s` finds first: options of the jail, arguments.
    vars: Vars,
    /// The options that were read.
    values: IndexMap<String, Text>,
}

impl<'a> Definition<'a> {
    /// A file used with these arguments.
    #[must_use]
    pub fn new(merged: &'a Merged, arguments: IndexMap<String, Text>) -> Definition<'a> {
        Definition { merged, init: arguments, vars: Vars::new(), values: IndexMap::new() }
    }

    /// Whether `[Definition]` itself has an option.
    #[must_use]
    pub fn defines(&self, option: &str) -> bool {
        self.merged.sections.get(DEFINITION).is_some_and(|section| section.contains_key(option))
    }

    /// Reads the known options, with the jail's options as variables. With `all`, also every
    /// other option of the file, for `known/`.
    ///
    /// # Errors
    /// A value that cannot be made.
    pub fn read(&mut self, known: &[&str], jail: &Vars, override_conditional: bool, all: bool) -> Result<(), Error> {
        let mut vars = jail.clone();
        vars.extend(self.init.iter().map(|(name, value)| (name.clone(), value.clone())));
        let scope_vars: Vars = vars.iter().map(|(name, value)| (name.to_lowercase(), value.clone())).collect();
        self.values.clear();
        let merged = self.merged;
        let has_definition = merged.sections.contains_key(DEFINITION);
        let scope = Scope { merged, section: DEFINITION, vars: &scope_vars };
        for option in known {
            if vars.contains_key(*option) || !has_definition {
                continue;
            }
            if let Some(value) = scope.get(option)? {
                self.values.insert((*option).to_owned(), value);
            }
        }
        self.init_options(&vars, override_conditional)?;
        if all && has_definition {
            let none = Vars::new();
            let scope = Scope { merged, section: DEFINITION, vars: &none };
            let own = merged.sections[DEFINITION].keys().chain(merged.defaults.keys());
            for option in own {
                if self.values.contains_key(option) {
                    continue;
                }
                // Nobody may ever ask for it; who does will see the error then.
                if let Ok(Some(value)) = scope.get(option) {
                    self.values.insert(option.clone(), value);
                }
            }
        }
        self.vars = scope_vars;
        Ok(())
    }

    fn init_options(&mut self, vars: &Vars, override_conditional: bool) -> Result<(), Error> {
        let Some(section) = self.merged.sections.get(INIT) else { return Ok(()) };
        let none = Vars::new();
        let scope = Scope { merged: self.merged, section: INIT, vars: &none };
        for option in section.keys() {
            let Some(value) = scope.get(option)? else { continue };
            if !option.starts_with("known/") {
                self.init.insert(format!("known/{option}"), value.clone());
            }
            if self.init.contains_key(option) {
                continue;
            }
            let base = option.split_once('?').map(|(base, _)| base);
            let argument = base.filter(|_| override_conditional).and_then(|base| vars.get(base));
            self.init.insert(option.clone(), argument.cloned().unwrap_or(value));
        }
        Ok(())
    }

    /// All options with their tags replaced, except those in `keep`.
    ///
    /// # Errors
    /// Tags that refer to themselves, a value too long.
    pub fn combined(&self, keep: &[&str]) -> Result<IndexMap<String, Text>, Error> {
        let mut tags = self.values.clone();
        for (name, value) in &self.init {
            tags.insert(name.clone(), value.clone());
        }
        let mut keep: HashSet<String> = keep.iter().map(|&name| name.to_owned()).collect();
        keep.extend(tags.keys().filter_map(|name| name.split_once('?')).map(|(base, _)| base.to_owned()));
        self.substitute(tags, &keep)
    }

    fn substitute(
        &self,
        mut tags: IndexMap<String, Text>,
        keep: &HashSet<String>,
    ) -> Result<IndexMap<String, Text>, Error> {
        let mut counts: HashMap<(usize, String), usize> = HashMap::new();
        let mut cache: HashMap<String, Option<Text>> = HashMap::new();
        let mut total = 0;
        loop {
            let mut again = false;
            for index in 0..tags.len() {
                let Some((name, value)) = tags.get_index(index) else { continue };
                if keep.contains(name) || !value.as_str().contains('<') {
                    continue;
                }
                let name = name.clone();
                let mut value = value.clone();
                let mut changed = false;
                let mut from = 0;
                while let Some((start, end)) = next_tag(value.as_str(), from) {
                    let tag = value.as_str()[start + 1..end - 1].to_owned();
                    if keep.contains(&tag) {
                        from = end;
                        continue;
                    }
                    let count = counts.entry((index, tag.clone())).or_insert(0);
                    total += 1;
                    if tag == name || *count > MAX_TAG_REPLACEMENTS - 1 || total > MAX_REPLACEMENTS {
                        return Err(Error {
                            text: format!("option `{name}` refers to itself by the tag <{tag}>"),
                            span: value.span_at(start),
                            width: tag.chars().count() + 2,
                            help: Some("in [Init], write %(known/…)s for the earlier value".to_owned()),
                        });
                    }
                    let new = match tags.get(&tag) {
                        Some(new) => Some(new.clone()),
                        None => cache.entry(tag.clone()).or_insert_with(|| self.lookup(&tag)).clone(),
                    };
                    let Some(new) = new else {
                        from = end;
                        continue;
                    };
                    *count += 1;
                    value = value.replace(&format!("<{tag}>"), &new).map_err(|_| Error {
                        text: format!("the value of option `{name}` becomes too long"),
                        span: value.span_at(start),
                        width: tag.chars().count() + 2,
                        help: None,
                    })?;
                    changed = true;
                    from = start;
                }
                if changed {
                    again |= next_tag(value.as_str(), 0).is_some();
                    tags.insert(name, value);
                }
            }
            if !again {
                return Ok(tags);
            }
        }
    }

    /// The value of a tag that is no option read so far.
    fn lookup(&self, tag: &str) -> Option<Text> {
        let none = Vars::new();
        if let Some((section, option)) = split_reference(tag).filter(|(_, option)| !option.contains('>')) {
            let scope = |section| Scope { merged: self.merged, section, vars: &none };
            let value = if section.eq_ignore_ascii_case("known") {
                let shadow = self.merged.shadows.get(DEFINITION).and_then(|s| s.get(option)?.last());
                match shadow {
                    Some(raw) => scope(DEFINITION).expand(option, raw).ok(),
                    None if self.merged.sections.contains_key(DEFINITION) => scope(DEFINITION).get(option).ok()?,
                    None => None,
                }
            } else if section.eq_ignore_ascii_case(super::ini::DEFAULT) {
                scope(super::ini::DEFAULT).get(option).ok()?
            } else if self.merged.sections.contains_key(section) {
                scope(section).get(option).ok()?
            } else {
                None
            };
            if value.is_some() {
                return value;
            }
        }
        if !self.merged.sections.contains_key(DEFINITION) {
            return None;
        }
        Scope { merged: self.merged, section: DEFINITION, vars: &self.vars }.get(tag).ok()?
    }
}

/// The next `<tag>`: from its `<` to behind its `>`. No blank and no `<` inside.
fn next_tag(text: &str, from: usize) -> Option<(usize, usize)> {
    let mut open = None;
    for (index, byte) in text.bytes().enumerate().skip(from) {
        match byte {
            b'<' => open = Some(index),
            b' ' => open = None,
            b'>' => match open {
                Some(start) if index > start + 1 => return Some((start, index + 1)),
                // `<>` is no tag; a tag cannot contain `>` either.
                _ => open = None,
            },
            _ => {}
        }
    }
    None
}
