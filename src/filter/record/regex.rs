//! One compiled regular expression and the named groups of its matches.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use super::judge::LOST;
use super::session::{self, Groups};
use crate::filter::Datum;
use crate::filter::exact::{Cache, Outcome, Program};
use crate::filter::syntax::Pattern;

/// Names of groups that are kept for all.
const MOST_NAMES: usize = 10_000;

/// One compiled regular expression.
#[derive(Clone, Debug)]
pub struct Regex {
    /// As the administrator wrote it.
    pub source: String,
    /// With its tags replaced.
    pub text: String,
    /// Its tree, for the over-approximation.
    pub pattern: Arc<Pattern>,
    program: Program,
    names: Vec<(Arc<str>, u32)>,
    /// The group `content`, if it is what it captures and no more.
    content: Option<u32>,
    /// Groups `alt_X` and `tuple_X` in the order of their names, each with its X.
    alternatives: Vec<(Arc<str>, Arc<str>)>,
    parts: Vec<(Arc<str>, Arc<str>)>,
}

impl Regex {
    /// Compiles a parsed pattern.
    #[must_use]
    pub fn new(source: String, text: String, pattern: Pattern) -> Regex {
        let program = Program::new(&pattern);
        let names: Vec<(Arc<str>, u32)> = pattern.names.iter().map(|(name, index)| (shared(name), *index)).collect();
        let with = |prefix: &str| {
            let mut found: Vec<(Arc<str>, Arc<str>)> = names
                .iter()
                .filter_map(|(name, _)| {
                    Some((name.clone(), shared(&target(name.strip_prefix(prefix).filter(|rest| !rest.is_empty())?))))
                })
                .collect();
            found.sort();
            found
        };
        let (alternatives, parts) = (with("alt_"), with("tuple_"));
        let simple = alternatives.is_empty() && parts.is_empty();
        let content = pattern.group("content").filter(|_| simple);
        Regex { source, text, pattern: Arc::new(pattern), program, names, content, alternatives, parts }
    }

    /// Searches a text; the cache then holds the groups.
    pub fn search(&self, cache: &mut Cache, text: &str) -> Outcome {
        self.program.search(cache, text, 0)
    }

    /// The named groups of the last match, in the order of the pattern; alternatives and parts
    /// of tuples are merged into what they belong to.
    #[must_use]
    pub fn groups(&self, cache: &Cache, text: &str) -> Groups {
        self.groups_without(cache, text, None)
    }

    /// Number, start and end of the group `content` of the last match, if it is not empty.
    pub(super) fn content(&self, cache: &Cache) -> Option<(u32, usize, usize)> {
        let (start, end) = cache.group(self.content?)?;
        (start < end).then_some((self.content?, start, end))
    }

    /// The same as [`Regex::groups`] without one of them.
    pub(super) fn groups_without(&self, cache: &Cache, text: &str, without: Option<(u32, usize, usize)>) -> Groups {
        let without = without.map(|(group, ..)| group);
        let value = |index| cache.group(index).map(|(start, end)| Datum::Text(text[start..end].into()));
        let named = self.names.iter().filter(|(_, index)| Some(*index) != without);
        let mut groups: Groups = named.map(|(name, index)| (name.clone(), value(*index))).collect();
        let get = |groups: &Groups, name: &str| {
            groups.iter().find(|(known, _)| &**known == name).and_then(|(_, value)| value.clone())
        };
        let full = |value: &Option<Datum>| matches!(value, Some(Datum::Text(text)) if !text.is_empty());
        for (name, target) in &self.alternatives {
            let value = get(&groups, name);
            if full(&value) && !full(&get(&groups, target)) {
                session::set(&mut groups, target, value);
            }
        }
        let text = |value: Option<Datum>| match value {
            Some(Datum::Text(text)) => Some(text),
            _ => None,
        };
        for (name, target) in &self.parts {
            let part = text(get(&groups, name));
            let tuple = match get(&groups, target) {
                Some(Datum::Tuple(mut tuple)) => {
                    tuple.push(part);
                    tuple
                }
                other => vec![text(other), part],
            };
            session::set(&mut groups, target, Some(Datum::Tuple(tuple)));
        }
        groups
    }

    /// Whether a group that says who is meant ends in the last match where `text` was cut.
    pub(super) fn names_the_cut(&self, cache: &Cache, text: &str) -> bool {
        let is_cut = |at: usize| text[at..].strip_prefix(LOST) == Some("\n");
        let groups = self.names.iter().filter(|(name, _)| matches!(&**name, "ip4" | "ip6" | "cidr" | "dns" | "fid"));
        groups
            .filter_map(|(_, group)| cache.group(*group))
            .any(|(_, end)| is_cut(end) || text[..end].ends_with(LOST) && &text[end..] == "\n")
    }

    /// The text that `<SKIPLINES>` passed over in the last match.
    pub(super) fn skipped(&self, cache: &Cache, text: &str) -> String {
        let groups = (0..).map_while(|n| self.pattern.group(&format!("skiplines{n}")));
        groups.filter_map(|group| cache.group(group)).map(|(start, end)| &text[start..end]).collect()
    }
}

/// The name, the same for all expressions: so names mostly need not be compared letter by letter.
fn shared(name: &str) -> Arc<str> {
    static KNOWN: Mutex<BTreeSet<Arc<str>>> = Mutex::new(BTreeSet::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = known.get(name) {
        return known.clone();
    }
    let new: Arc<str> = name.into();
    // Names come from the configuration; there are few, unless somebody tries.
    if known.len() < MOST_NAMES {
        known.insert(new.clone());
    }
    new
}

/// The group that `alt_NAME`, `alt_NAME_1`, `tuple_NAME` belong to. Fail2Ban wants a number to
/// stand after `_`: `alt_user1` is a group of its own.
fn target(name: &str) -> String {
    let base = match name.rsplit_once('_') {
        Some((head, digits)) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => head,
        _ => name,
    };
    match base.to_lowercase().as_str() {
        "id" => "fid".to_owned(),
        "port" => "fport".to_owned(),
        other => other.to_owned(),
    }
}
