//! One date pattern: what stands around its text, the named forms, and the [`Spec`] it becomes.

use std::sync::LazyLock;

use crate::fail2ban::regex;
use crate::filter::date::{Field, Form, Meaning, Part, Place, Plan, Quick, Spec};
use crate::filter::syntax::{Class, Node, Pattern};

use super::token::{Expanded, field, shown_name};
use super::{Error, FORMATS, LINE_BEGIN, Options, Source, UNBOUND};

/// Up to two non-word characters at the start of the line.
pub(super) const LOOSE_START: &str = r"^\W{0,2}";
/// Where an epoch is taken for one: at the start of the line, after `[` there, after `audit(`.
pub(super) const EPOCH_PLACE: &str = r"(?:^|(?<=^\[)|(?<=\baudit\())";
pub(super) const EPOCH: &str = r"\d{10,11}\b(?:\.\d{3,6})?";
pub(super) const LONG_EPOCH: &str = r"\d{10,11}(?:\d{3}(?:\.\d{1,6}|\d{3})?)?";
pub(super) const TAI: &str = r"@[0-9a-f]{24}";

/// The named forms, whose first group is what counts.
pub(super) fn epoch(source: Source<'_>, name: &str, text: &str, weight: f64, anchored: bool) -> Result<Spec, Error> {
    let meaning = match name {
        _ if name.ends_with("LongEpoch") => Meaning::LongEpoch(1),
        _ if name.ends_with("TAI64N") => Meaning::Tai(1),
        _ => Meaning::Epoch(1),
    };
    // What `EPOCH_PLACE` allows.
    let only_after = text.starts_with(EPOCH_PLACE).then_some(b"audit(".as_slice());
    let plan = Plan { before: false, after: true, parts: Vec::new(), only_after };
    Ok(Spec {
        name: name.to_owned(),
        pattern: parse(source, text, "", &[])?,
        other_than_word: other_than_word(),
        plan,
        cut: 1,
        anchored,
        weight,
        meaning,
        quick: None,
    })
}

/// Parses an expanded pattern; an error is told in terms of the pattern it came from.
fn parse(source: Source<'_>, text: &str, flags: &str, places: &[(usize, usize)]) -> Result<Pattern, Error> {
    let prefix = if flags.is_empty() { String::new() } else { format!("(?{flags})") };
    regex::parse(&format!("{prefix}{text}"), regex::Options::default()).map_err(|error| {
        let chars = error.position.saturating_sub(prefix.len());
        let at = text.char_indices().nth(chars).map_or(text.len(), |(at, _)| at);
        let (from, place) = places.iter().rev().find(|(from, _)| *from <= at).copied().unwrap_or((at, 0));
        let mut position = (place + at - from).min(source.pattern.len());
        while !source.pattern.is_char_boundary(position) {
            position -= 1;
        }
        Error::Regex { pattern: source.pattern.to_owned(), line: source.line, position, reason: error.message }
    })
}

/// The characters that are not of a word.
fn other_than_word() -> Class {
    static CLASS: LazyLock<Class> = LazyLock::new(|| match regex::parse(r"\W", regex::Options::default()) {
        Ok(Pattern { root: Node::Class(class), .. }) => class,
        _ => unreachable!("this is a class"),
    });
    CLASS.clone()
}

/// What stands around the text of a pattern.
pub(super) struct Shape {
    /// `{^LN-BEG}`: up to two non-word characters may stand before it.
    loose_start: bool,
    /// Whether a word bound is wanted before and after it.
    before: bool,
    after: bool,
    /// Whether it stands at the start or the end of the line.
    anchored: bool,
    /// The text as it is shown.
    shown: String,
    /// The same without the `**` that ask for no bound.
    text: String,
}

impl Shape {
    pub(super) fn of(whole: &str) -> Shape {
        let (bound, shown) = match whole.strip_prefix(UNBOUND) {
            Some(rest) => (false, rest),
            None => (true, whole),
        };
        let (loose_start, shown) = match shown.strip_prefix(LINE_BEGIN) {
            Some(rest) if bound => (true, rest),
            _ => (false, shown),
        };
        let mut shape = Shape {
            loose_start,
            before: bound && !loose_start,
            after: bound,
            anchored: loose_start,
            shown: shown.to_owned(),
            text: shown.to_owned(),
        };
        let (open, inner) = match shown.strip_prefix('(') {
            Some(inner) => ("(", inner),
            None => ("", shown),
        };
        if let Some(rest) = inner.strip_prefix("**") {
            shape.text = format!("{open}{rest}");
            (shape.loose_start, shape.before, shape.anchored) = (false, false, false);
        } else if inner.starts_with('^') {
            (shape.loose_start, shape.before, shape.anchored) = (false, false, true);
        } else if inner.strip_prefix("(?:").or_else(|| shown.strip_prefix("(?:")).is_some_and(|t| t.starts_with('^')) {
            (shape.loose_start, shape.before) = (false, false);
        }
        let inner = shape.text.trim_end_matches(')');
        if let Some(rest) = inner.strip_suffix("**") {
            shape.after = false;
            shape.text = format!("{rest}{}", &shape.text[inner.len()..]);
        } else if inner.ends_with('$') && !escaped(inner, inner.len() - 1) {
            (shape.after, shape.anchored) = (false, true);
        }
        shape
    }

    pub(super) fn spec(&self, source: Source<'_>, whole: &str, weight: f64, options: &Options) -> Result<Spec, Error> {
        let marker = self.epoch_marker();
        let mut expanded = Expanded::default();
        let at = source.pattern.len() - whole.len().min(source.pattern.len());
        let offset = if source.pattern.ends_with(whole) { at + whole.len() - self.text.len() } else { 0 };
        match marker {
            Some((at, length, core)) => {
                expanded.literal(&self.text[..at], offset);
                expanded.text.push_str(&format!("(?P<{EPOCH_GROUP}>{core})"));
                expanded.literal(&self.text[at + length..], offset + at + length);
            }
            None => expanded.tokens(&self.text, source, offset, options)?,
        }
        let flags = expanded.take_flags();
        if flags.is_empty() {
            expanded.trim();
        }
        // Group 1 is what is cut; a group of one's own in the pattern takes that place.
        if !has_own_group(&self.text) || marker.is_some() && !options.cut_epoch_group {
            expanded.wrap();
        }
        let mut name = String::new();
        if self.loose_start {
            expanded.insert(0, LOOSE_START);
            name.push_str(LINE_BEGIN);
        }
        name.push_str(&if marker.is_some() { self.shown.clone() } else { shown_name(&self.shown) });
        let pattern = parse(source, &expanded.text, &flags, &expanded.places)?;
        let ignore_case = flags.contains('i');
        let parts = expanded.parts.iter().filter_map(|&(name, part)| {
            let part = match part {
                Part::Offset(_) => Part::Offset(ignore_case),
                Part::ZoneName(_) => Part::ZoneName(ignore_case),
                part => part,
            };
            Some((pattern.group(name)?, part))
        });
        let plan = Plan { before: self.before, after: self.after, parts: parts.collect(), only_after: None };
        let meaning = match marker.and_then(|(_, _, core)| Some((core, pattern.group(EPOCH_GROUP)?))) {
            Some((core, group)) if core == EPOCH => Meaning::Epoch(group),
            Some((_, group)) => Meaning::LongEpoch(group),
            None => {
                let mut fields: Vec<(Field, u32)> =
                    pattern.names.iter().filter_map(|(name, group)| Some((field(name)?, *group))).collect();
                fields.sort_by_key(|&(_, group)| group);
                Meaning::Calendar(fields)
            }
        };
        let other_than_word = other_than_word();
        let quick = quick(whole, options);
        let anchored = self.anchored;
        Ok(Spec { name, pattern, other_than_word, plan, cut: 1, anchored, weight, meaning, quick })
    }

    /// Where `{EPOCH}` or `{LEPOCH}` stands, how long it is, and the expression it means.
    fn epoch_marker(&self) -> Option<(usize, usize, &'static str)> {
        let text = if self.text.contains('%') { self.text.clone() } else { self.text.to_ascii_uppercase() };
        [("{EPOCH}", EPOCH), ("{LEPOCH}", LONG_EPOCH)]
            .into_iter()
            .find_map(|(marker, core)| Some((text.find(marker)?, marker.len(), core)))
    }
}

/// The usual form of a pattern that is one of the default formats at a usual place.
fn quick(text: &str, options: &Options) -> Option<Quick> {
    let (place, format) = if let Some(format) = text.strip_prefix(LINE_BEGIN) {
        (Place::LooseStart, format)
    } else if let Some(format) = text.strip_prefix(r"^[^\[]*\[(").and_then(|rest| rest.strip_suffix(')')) {
        (Place::Bracket, format)
    } else {
        (Place::Start, text.strip_prefix('^')?)
    };
    // These differ in what is none of the usual forms only.
    let plain = |format: &str| format.replace("%k", "%H").replace("(?:T|  ?)", "[T ]");
    let format = plain(format);
    let form = match FORMATS.iter().position(|f| plain(f) == format)? {
        0 => Form::Iso,
        1 => Form::Syslog,
        4 => Form::Access,
        _ => return None,
    };
    Some(Quick { place, form, years: options.years() })
}

const EPOCH_GROUP: &str = "_epoch";

/// Whether the character there is escaped, as Fail2Ban sees it: a backslash stands before it.
pub(super) fn escaped(text: &str, at: usize) -> bool {
    text[..at].ends_with('\\')
}

/// Whether there is a capturing group without a name.
fn has_own_group(text: &str) -> bool {
    let mut class = false;
    text.char_indices().any(|(at, c)| {
        let plain = !escaped(text, at);
        match c {
            '[' if plain && !class => class = true,
            ']' if plain && class => class = false,
            '(' if plain && !class => return !text[at + 1..].starts_with('?'),
            _ => {}
        }
        false
    })
}
