//! One compiled regular expression and the named groups of its matches.

use std::sync::Arc;

use memchr::memmem;

use super::judge::LOST;
use super::session::Groups;
use super::values::{Name, Value, Values};
use crate::filter::exact::{Cache, Outcome, Program, Start};
use crate::filter::syntax::{Node, Pattern};

/// Shorter strings are not looked for before a search.
const WORTH_LOOKING: usize = 3;

/// One compiled regular expression.
#[derive(Debug)]
pub struct Regex {
    /// As the administrator wrote it.
    pub source: String,
    /// With its tags replaced.
    pub text: String,
    /// Its tree, for the over-approximation.
    pub pattern: Arc<Pattern>,
    program: Program,
    names: Vec<(Name, u32)>,
    /// The group `content`, if it is what it captures and no more.
    content: Option<u32>,
    /// Groups `alt_X` and `tuple_X` in the order of their names, each with its X.
    alternatives: Vec<(Name, Name)>,
    parts: Vec<(Name, Name)>,
    /// A string that every match contains, other than at its start.
    needed: Option<memmem::Finder<'static>>,
}

impl Regex {
    /// Compiles a parsed pattern.
    #[must_use]
    pub fn new(source: String, text: String, pattern: Pattern) -> Regex {
        let program = Program::new(&pattern);
        let names: Vec<(Name, u32)> = pattern.names.iter().map(|(name, index)| (Name::new(name), *index)).collect();
        let with = |prefix: &str| {
            let mut found: Vec<(Name, Name)> = names
                .iter()
                .filter_map(|(name, _)| {
                    let rest = name.text.strip_prefix(prefix).filter(|rest| !rest.is_empty())?;
                    Some((*name, Name::new(&target(rest))))
                })
                .collect();
            found.sort_by(|(one, of), (other, to)| (one.text, of.text).cmp(&(other.text, to.text)));
            found
        };
        let (alternatives, parts) = (with("alt_"), with("tuple_"));
        let simple = alternatives.is_empty() && parts.is_empty();
        let content = pattern.group("content").filter(|_| simple);
        let needed = needed(&pattern.root);
        Regex { source, text, pattern: Arc::new(pattern), program, names, content, alternatives, parts, needed }
    }

    /// Searches a text; the cache then holds the groups.
    pub fn search(&self, cache: &mut Cache, text: &str) -> Outcome {
        self.program.search(cache, text, 0)
    }

    /// Whether a text that begins like this may match.
    #[inline]
    pub(super) fn may_begin(&self, start: Start) -> bool {
        self.program.may_begin(start)
    }

    /// The same search where most texts do not match.
    #[inline]
    pub(super) fn search_unlikely(&self, cache: &mut Cache, text: &str) -> Outcome {
        if self.needed.as_ref().is_some_and(|f| f.find(text.as_bytes()).is_none()) {
            return Outcome::NoMatch;
        }
        self.program.search(cache, text, 0)
    }

    /// The named groups of the last match, in the order of the pattern; alternatives and parts
    /// of tuples are merged into what they belong to.
    #[must_use]
    pub fn groups(&self, cache: &Cache, text: &str) -> Groups {
        let mut values = Values::default();
        self.values(cache, text, &mut values, false);
        values.groups()
    }

    /// Start and end of the group `content` of the last match, if it is not empty.
    pub(super) fn content(&self, cache: &Cache) -> Option<(usize, usize)> {
        cache.group(self.content?).filter(|(start, end)| start < end)
    }

    /// Adds the groups of the last match to `values`, those that took no part only unless `keep`.
    pub(super) fn values<'t>(&'t self, cache: &Cache, text: &'t str, values: &mut Values<'t>, keep: bool) {
        let value = |index| cache.group(index).map(|(start, end)| Value::Text(&text[start..end]));
        if self.alternatives.is_empty() && self.parts.is_empty() {
            for (name, index) in &self.names {
                let value = value(*index);
                if value.is_some() || !keep {
                    values.set(*name, value);
                }
            }
            return;
        }
        let mut own: Values<'t> = self.names.iter().map(|(name, index)| (*name, value(*index))).collect();
        let full = |value: Option<&Value<'_>>| matches!(value, Some(Value::Text(text)) if !text.is_empty());
        for (name, target) in &self.alternatives {
            if full(own.get(*name)) && !full(own.get(*target)) {
                let value = own.get(*name).cloned();
                own.set(*target, value);
            }
        }
        let part = |value: Option<&Value<'t>>| match value {
            Some(Value::Text(text)) => Some(*text),
            _ => None,
        };
        for (name, target) in &self.parts {
            let last = part(own.get(*name));
            let tuple = match own.get(*target) {
                Some(Value::Tuple(tuple)) => tuple.iter().copied().chain([last]).collect(),
                other => vec![part(other), last],
            };
            own.set(*target, Some(Value::Tuple(tuple)));
        }
        for (name, value) in own {
            if value.is_some() || !keep {
                values.set(name, value);
            }
        }
    }

    /// Whether a group that says who is meant ends in the last match where `text` was cut.
    pub(super) fn names_the_cut(&self, cache: &Cache, text: &str) -> bool {
        let is_cut = |at: usize| text[at..].strip_prefix(LOST) == Some("\n");
        let groups =
            self.names.iter().filter(|(name, _)| matches!(&**name.text, "ip4" | "ip6" | "cidr" | "dns" | "fid"));
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

/// The longest string that every match contains, unless it begins with it: then the search itself
/// is as quick.
fn needed(root: &Node) -> Option<memmem::Finder<'static>> {
    let mut strings = vec![String::new()];
    collect(root, &mut strings);
    let strings = strings.iter().skip(1).filter(|string| string.len() >= WORTH_LOOKING);
    let longest = strings.max_by_key(|string| string.len())?;
    Some(memmem::Finder::new(longest.as_bytes()).into_owned())
}

/// Collects the strings that stand in a node in any case; the last one goes on with what follows.
fn collect(node: &Node, strings: &mut Vec<String>) {
    match node {
        Node::Empty | Node::Assert(_) => {}
        Node::Char(c) => {
            if let Some(last) = strings.last_mut() {
                last.push(*c);
            }
        }
        Node::Concat(parts) => parts.iter().for_each(|part| collect(part, strings)),
        Node::Capture { node, .. } | Node::Atomic(node) => collect(node, strings),
        Node::Repeat { node, min, .. } if *min > 0 => {
            strings.push(String::new());
            collect(node, strings);
            strings.push(String::new());
        }
        Node::Look { .. } => {}
        _ => strings.push(String::new()),
    }
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
