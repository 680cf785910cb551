//! Fail2Ban's date patterns: tokens such as `%Y` in a regular expression, names such as
//! `EPOCH` and `{^LN-BEG}`, and the formats that are tried where a filter names none.
//!
//! What comes out are [`Template`]s, which know nothing of this notation. The names they carry
//! are those `fail2ban-regex` shows.

use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use crate::fail2ban::regex;
use crate::filter::date::{Dates, Field, Form, Meaning, Part, Place, Plan, Quick, Spec, Template, zone};
use crate::filter::syntax::{Class, Node, Pattern};

/// Templates of one filter: more than this is a mistake.
const MAX_TEMPLATES: usize = 1_000;
/// The longest pattern, in bytes.
const MAX_PATTERN: usize = 16 * 1024;

/// Why a date pattern cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A letter after `%` that means nothing.
    #[error("date pattern `{pattern}` has an unknown token `{token}`")]
    Token {
        /// The pattern: one line of the option.
        pattern: String,
        /// Which line of the option, from 0.
        line: usize,
        /// Where in the pattern, in bytes.
        position: usize,
        /// The token.
        token: String,
    },
    /// The rest of the pattern is no regular expression.
    #[error("date pattern `{pattern}` is no regular expression: {reason}")]
    Regex {
        /// The pattern: one line of the option.
        pattern: String,
        /// Which line of the option, from 0.
        line: usize,
        /// Where in the pattern, in bytes.
        position: usize,
        /// What is wrong.
        reason: String,
    },
    /// Two patterns that say the same.
    #[error("date pattern `{pattern}` is there twice")]
    Twice {
        /// The pattern: one line of the option.
        pattern: String,
        /// Which line of the option, from 0.
        line: usize,
    },
    /// More or longer patterns than anyone needs.
    #[error("too many or too long date patterns (at most 1000, each at most 16 KiB)")]
    TooMany,
    /// `logtimezone` is no zone.
    #[error("unknown time zone `{0}`")]
    Zone(String),
}

impl Error {
    /// What to do next, if that is clear.
    #[must_use]
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Error::Token { .. } => Some("a literal percent sign is `%%` (in a configuration file `%%%%`)"),
            Error::Twice { .. } => Some("remove one of them"),
            Error::Zone(_) => Some("use an abbreviation, an offset or both, such as `UTC`, `CET`, `+0130`, `UTC-0500`"),
            _ => None,
        }
    }
}

/// What a pattern means beyond its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The first year `%ExY` accepts, rounded down to its decade: 2000, or 1970 for `fail2ban-regex`.
    pub first_year: u16,
    /// The year in which we started; `%ExY` accepts years up to the end of the decade in which
    /// this and the three following years lie.
    pub this_year: u16,
    /// Offset of dates that name no zone, in seconds east of Greenwich; else they are local times.
    pub zone: Option<i32>,
    /// Whether a group of one's own around `{EPOCH}` says what is cut, as since Fail2Ban 1.1;
    /// before, it was the whole match.
    pub cut_epoch_group: bool,
}

impl Options {
    /// For a server started in `this_year`, local times.
    #[must_use]
    pub fn server(this_year: u16) -> Options {
        Options { first_year: 2000, this_year, zone: None, cut_epoch_group: false }
    }

    /// For `fail2ban-regex`, which also reads the logs of the last century.
    #[must_use]
    pub fn tool(this_year: u16) -> Options {
        Options { first_year: 1970, ..Options::server(this_year) }
    }

    /// First and last year of `%ExY`.
    fn years(&self) -> (u16, u16) {
        (self.first_year / 10 * 10, (self.this_year.saturating_add(3) / 10 * 10 + 9).min(9999))
    }
}

/// The offset that option `logtimezone` names, in seconds east of Greenwich; `None` for an
/// empty text: local time.
///
/// # Errors
/// Whatever is neither a known abbreviation nor `±hh`, `±hhmm`, `±hh:mm`, nor one after the other.
pub fn logtimezone(text: &str) -> Result<Option<i32>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    let number = text.find(['+', '-']).map_or("", |at| &text[at..]);
    let fits = number.is_empty() || matches!(number.as_bytes()[1], b'0' | b'1');
    match zone::offset(text) {
        Some(offset) if fits => Ok(Some(offset)),
        _ => Err(Error::Zone(text.to_owned())),
    }
}

/// The templates of option `datepattern`; absent, empty or `{DEFAULT}`: the default ones.
///
/// # Errors
/// The first pattern that cannot be used.
pub fn compile(datepattern: Option<&str>, options: &Options) -> Result<Dates, Error> {
    let mut list = List { options: *options, specs: Vec::new() };
    for (line, pattern) in datepattern.unwrap_or("").split('\n').enumerate() {
        let pattern = pattern.trim();
        if !pattern.is_empty() {
            list.pattern(Source { pattern, line })?;
        }
    }
    if list.specs.is_empty() {
        list.default_formats()?;
    }
    Ok(Dates::new(list.specs.into_iter().map(Template::new).collect(), options.zone))
}

/// The same, compiled once for all filters that ask for it at the same time: most have the
/// default formats, and a log's lines then have to be looked at only once for all of them.
///
/// # Errors
/// The first pattern that cannot be used.
pub fn shared(datepattern: Option<&str>, options: &Options) -> Result<Arc<Dates>, Error> {
    type Known = (String, Options, Weak<Dates>);
    static KNOWN: Mutex<Vec<Known>> = Mutex::new(Vec::new());
    let pattern = datepattern.unwrap_or("");
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let found = known.iter().find(|(text, of, _)| text == pattern && of == options);
    if let Some(dates) = found.and_then(|(.., dates)| dates.upgrade()) {
        return Ok(dates);
    }
    let dates = Arc::new(compile(datepattern, options)?);
    known.retain(|(.., dates)| dates.strong_count() > 0);
    known.push((pattern.to_owned(), *options, Arc::downgrade(&dates)));
    Ok(dates)
}

/// The default formats in Fail2Ban's order. Part of the contract: their names are in the
/// reports of `fail2ban-regex`.
const FORMATS: &[&str] = &[
    r"%ExY(?P<_sep>[-/.])%m(?P=_sep)%d(?:T|  ?)%H:%M:%S(?:[.,]%f)?(?:\s*%z)?",
    r"(?:%a )?%b %d %k:%M:%S(?:\.%f)?(?: %ExY)?",
    r"(?:%a )?%b %d %ExY %k:%M:%S(?:\.%f)?",
    r"%d(?P<_sep>[-/])%m(?P=_sep)(?:%ExY|%Exy) %k:%M:%S",
    r"%d(?P<_sep>[-/])%b(?P=_sep)%ExY[ :]?%H:%M:%S(?:\.%f)?(?: %z)?",
    r"%m/%d/%ExY:%H:%M:%S",
    r"%m-%d-%ExY %k:%M:%S(?:\.%f)?",
    r"EPOCH",
    r"{^LN-BEG}%H:%M:%S",
    r"^<%m/%d/%Exy@%H:%M:%S>",
    r"%Exy%Exm%Exd  ?%H:%M:%S",
    r"%b %d, %ExY %I:%M:%S %p",
    r"^%b-%d-%Exy %k:%M:%S",
    r"%ExY%Exm%Exd(?:T|  ?)%ExH%ExM%ExS(?:[.,]%f)?(?:\s*%z)?",
    r"(?:%Z )?(?:%a )?%b %d %k:%M:%S(?:\.%f)?(?: %ExY)?",
    r"(?:%z )?(?:%a )?%b %d %k:%M:%S(?:\.%f)?(?: %ExY)?",
    r"TAI64N",
];

/// One line of the option.
#[derive(Clone, Copy)]
struct Source<'a> {
    pattern: &'a str,
    line: usize,
}

struct List {
    options: Options,
    specs: Vec<Spec>,
}

/// Whether a template with the name of an earlier one is left out or is a mistake.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Repeated {
    LeaveOut,
    Mistake,
}

impl List {
    /// One line of the option.
    fn pattern(&mut self, source: Source<'_>) -> Result<(), Error> {
        // Where there is no token, case does not matter to the names.
        let name = if source.pattern.contains('%') { source.pattern.to_owned() } else { source.pattern.to_uppercase() };
        match name.as_str() {
            // It adds nothing: it works alone, because no pattern means the default ones.
            "{DEFAULT}" => Ok(()),
            "{^LN-BEG}" => self.anchored_formats(source),
            _ if name.contains("{DATE}") => {
                let at = name.find("{DATE}").unwrap_or_default();
                let marker = &source.pattern[at..at + "{DATE}".len()];
                for format in FORMATS {
                    let format = match *format {
                        "EPOCH" => "Epoch",
                        format => format.strip_prefix(LINE_BEGIN).unwrap_or(format),
                    };
                    let text = source.pattern.replace(marker, format);
                    self.add(source, &text, Repeated::LeaveOut)?;
                }
                Ok(())
            }
            _ => self.add(source, source.pattern, Repeated::Mistake),
        }
    }

    /// The default formats where they stand at the start of the line.
    fn anchored_formats(&mut self, source: Source<'_>) -> Result<(), Error> {
        for format in FORMATS.iter().filter(|format| !is_anchored(format)) {
            self.add(source, &format!("{LINE_BEGIN}{format}"), Repeated::LeaveOut)?;
        }
        for format in FORMATS.iter().filter(|format| is_anchored(format)) {
            self.add(source, format, Repeated::LeaveOut)?;
        }
        Ok(())
    }

    /// What is tried without any pattern.
    fn default_formats(&mut self) -> Result<(), Error> {
        let source = Source { pattern: "{DEFAULT}", line: 0 };
        for format in FORMATS.iter().filter(|format| !is_anchored(format)) {
            self.add(source, &format!("{LINE_BEGIN}{format}"), Repeated::LeaveOut)?;
        }
        for format in FORMATS {
            self.add(source, format, Repeated::LeaveOut)?;
        }
        Ok(())
    }

    fn add(&mut self, source: Source<'_>, text: &str, repeated: Repeated) -> Result<(), Error> {
        let spec = template(source, text, &self.options)?;
        if self.specs.iter().any(|other| other.name == spec.name) {
            return match repeated {
                Repeated::LeaveOut => Ok(()),
                Repeated::Mistake => Err(Error::Twice { pattern: source.pattern.to_owned(), line: source.line }),
            };
        }
        if self.specs.len() >= MAX_TEMPLATES || text.len() > MAX_PATTERN {
            return Err(Error::TooMany);
        }
        self.specs.push(spec);
        Ok(())
    }
}

const LINE_BEGIN: &str = "{^LN-BEG}";
const UNBOUND: &str = "{UNB}";

fn is_anchored(format: &str) -> bool {
    format.starts_with('^') || format.starts_with(LINE_BEGIN)
}

/// One pattern whose names are resolved.
fn template(source: Source<'_>, text: &str, options: &Options) -> Result<Spec, Error> {
    let name = if text.contains('%') { text.to_owned() } else { text.to_uppercase() };
    let (start, rest) = match name.strip_prefix(LINE_BEGIN) {
        Some(rest) => (Some(100.0), rest),
        None => match name.strip_prefix('^') {
            Some(rest) => (Some(1.0), rest),
            None => (None, name.as_str()),
        },
    };
    let text = match (rest, start) {
        ("EPOCH", Some(weight)) => {
            return epoch(source, "{^LN-BEG}Epoch", &format!("{LOOSE_START}({EPOCH})"), weight, true);
        }
        ("LEPOCH", Some(weight)) => {
            return epoch(source, "{^LN-BEG}LongEpoch", &format!("{LOOSE_START}({LONG_EPOCH})"), weight, true);
        }
        ("TAI64N", Some(weight)) => {
            return epoch(source, "{^LN-BEG}TAI64N", &format!("{LOOSE_START}({TAI})"), weight, true);
        }
        ("EPOCH", None) => return epoch(source, "Epoch", &format!("{EPOCH_PLACE}({EPOCH})"), 1.0, false),
        ("LEPOCH", None) => return epoch(source, "LongEpoch", &format!("{EPOCH_PLACE}({LONG_EPOCH})"), 1.0, false),
        ("TAI64N", None) => return epoch(source, "TAI64N", &format!("({TAI})"), 1.0, false),
        ("{NONE}", None) => "{UNB}^",
        _ => text,
    };
    // A default format that only got a start is preferred to the same one elsewhere.
    let weight = match text.strip_prefix(LINE_BEGIN) {
        Some(format) if FORMATS.contains(&format) => 100.0,
        _ => 1.0,
    };
    Shape::of(text).spec(source, text, weight, options)
}

/// Up to two non-word characters at the start of the line.
const LOOSE_START: &str = r"^\W{0,2}";
/// Where an epoch is taken for one: at the start of the line, after `[` there, after `audit(`.
const EPOCH_PLACE: &str = r"(?:^|(?<=^\[)|(?<=\baudit\())";
const EPOCH: &str = r"\d{10,11}\b(?:\.\d{3,6})?";
const LONG_EPOCH: &str = r"\d{10,11}(?:\d{3}(?:\.\d{1,6}|\d{3})?)?";
const TAI: &str = r"@[0-9a-f]{24}";

/// The named forms, whose first group is what counts.
fn epoch(source: Source<'_>, name: &str, text: &str, weight: f64, anchored: bool) -> Result<Spec, Error> {
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
struct Shape {
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
    fn of(whole: &str) -> Shape {
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

    fn spec(&self, source: Source<'_>, whole: &str, weight: f64, options: &Options) -> Result<Spec, Error> {
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
fn escaped(text: &str, at: usize) -> bool {
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

/// A pattern with its tokens replaced.
#[derive(Default)]
struct Expanded {
    text: String,
    /// Where pieces of the text come from: position in the text, position in the pattern.
    places: Vec<(usize, usize)>,
    /// Groups that are tokens.
    parts: Vec<(&'static str, Part)>,
    ignore_case: bool,
}

impl Expanded {
    fn literal(&mut self, text: &str, place: usize) {
        self.places.push((self.text.len(), place));
        self.text.push_str(text);
    }

    fn tokens(&mut self, text: &str, source: Source<'_>, offset: usize, options: &Options) -> Result<(), Error> {
        let mut rest = text;
        while let Some(at) = rest.find('%') {
            let place = offset + text.len() - rest.len();
            self.literal(&rest[..at], place);
            let after = &rest[at + 1..];
            let Some((token, length)) = token(after) else {
                let width = |text: &str| text.chars().next().map_or(0, char::len_utf8);
                let end = 1 + after.strip_prefix("Ex").map_or(width(after), |rest| 2 + width(rest));
                return Err(Error::Token {
                    pattern: source.pattern.to_owned(),
                    line: source.line,
                    position: place + at,
                    token: rest[at..at + end].to_owned(),
                });
            };
            self.places.push((self.text.len(), place + at));
            (token.expand)(self, options);
            rest = &after[length..];
        }
        self.literal(rest, offset + text.len() - rest.len());
        Ok(())
    }

    /// A named group; `part` if one instruction recognises it.
    fn group(&mut self, name: &'static str, expression: &str, part: Option<Part>) {
        self.text.push_str(&format!("(?P<{name}>{expression})"));
        self.parts.extend(part.map(|part| (name, part)));
    }

    /// Takes the inline flags out, wherever they stand: they count for all of it. (Fail2Ban's
    /// Python refuses them in the middle, with every line that is read.)
    fn take_flags(&mut self) -> String {
        let mut flags = String::from(if self.ignore_case { "iu" } else { "" });
        let mut from = 0;
        while let Some(at) = self.text[from..].find("(?").map(|at| at + from) {
            let letters = self.text[at + 2..].bytes().take_while(|b| b"aimsux".contains(b)).count();
            let end = at + 2 + letters;
            if letters > 0 && self.text[end..].starts_with(')') && !escaped(&self.text, at) {
                flags.push_str(&self.text[at + 2..end]);
                self.text.replace_range(at..=end, "");
                self.shift(at, -((end + 1 - at) as isize));
            } else {
                from = at + 2;
            }
        }
        let mut unique = String::new();
        flags.chars().for_each(|c| {
            if !unique.contains(c) {
                unique.push(c);
            }
        });
        // For all characters is what is meant anyway; only the opposite needs to be said.
        unique.retain(|c| c != 'u');
        unique
    }

    fn shift(&mut self, from: usize, by: isize) {
        for (at, _) in &mut self.places {
            if *at > from || *at == from && by > 0 {
                *at = at.saturating_add_signed(by).max(from);
            }
        }
    }

    fn insert(&mut self, at: usize, text: &str) {
        self.text.insert_str(at, text);
        self.shift(at, text.len() as isize);
    }

    fn trim(&mut self) {
        self.text.truncate(self.text.trim_end().len());
        // A blank that is optional stays: `%k` begins with one.
        let blank = self.text.len() - self.text.trim_start().len();
        if blank > 0 && !self.text[blank..].starts_with('?') {
            self.text.replace_range(..blank, "");
            self.shift(0, -(blank as isize));
        }
    }

    /// Makes all of it group 1, except for `^` and `$` around it.
    fn wrap(&mut self) {
        let end = self.text.len() - usize::from(self.text.ends_with('$') && !escaped(&self.text, self.text.len() - 1));
        self.text.insert(end, ')');
        self.insert(usize::from(self.text.starts_with('^')), "(");
    }
}

/// What a token stands for.
struct Token {
    /// The token without its percent sign.
    text: &'static str,
    /// What it is called in reports.
    name: &'static str,
    expand: fn(&mut Expanded, &Options),
}

/// The token at the beginning of a text, and its length.
fn token(text: &str) -> Option<(&'static Token, usize)> {
    TOKENS
        .iter()
        .filter(|token| text.starts_with(token.text))
        .map(|token| (token, token.text.len()))
        .max_by_key(|t| t.1)
}

/// A pattern with its tokens as people read them.
fn shown_name(text: &str) -> String {
    let mut name = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        name.push_str(&rest[..at]);
        let Some((token, length)) = token(&rest[at + 1..]) else { break };
        name.push_str(token.name);
        rest = &rest[at + 1 + length..];
    }
    name + rest
}

const MONTH_NAMES: &str = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec";
const DAY_NAMES: &str = "sun|mon|tue|wed|thu|fri|sat";
/// The C locale's forms need their digits in another order of preference.
const FULL_DAY: &str = r"3[01]|[12]\d|0[1-9]|[1-9]| [1-9]";
const FULL_HOUR: &str = r"2[0-3]|[01]\d|\d";
const FULL_MINUTE: &str = r"[0-5]\d|\d";
const FULL_SECOND: &str = r"6[01]|[0-5]\d|\d";
const FULL_MONTH: &str = "1[0-2]|0[1-9]|[1-9]";
const HOUR: &str = r"[01]?\d|2[0-3]";
const OFFSET: &str = r"[+-][01]\d(?::?\d\d)?";
const LETTER_ZONE: &str = "[A-Z](?:[A-Z]{2,4})?";
const WEEK: &str = r"5[0-3]|[0-4]\d|\d";

#[rustfmt::skip]
const TOKENS: &[Token] = &[
    Token { text: "%", name: "%", expand: |e, _| e.text.push('%') },
    Token { text: "Y", name: "Year", expand: |e, _| e.group("Y", r"\d{4}", None) },
    Token {
        text: "ExY",
        name: "ExYear",
        expand: |e, o| {
            let (first, last) = o.years();
            e.group("Y", &decades(first, last), Some(Part::Year(first, last)));
        },
    },
    Token { text: "y", name: "Year2", expand: |e, _| e.group("y", r"\d\d", Some(Part::Two)) },
    Token { text: "Exy", name: "ExYear2", expand: |e, _| e.group("y", r"\d\d", Some(Part::Two)) },
    Token { text: "G", name: "%G", expand: |e, _| e.group("G", r"\d{4}", None) },
    Token { text: "m", name: "Month", expand: |e, _| e.group("m", "0?[1-9]|1[0-2]", Some(Part::Month)) },
    Token { text: "Exm", name: "ExMonth", expand: |e, _| e.group("m", "0[1-9]|1[0-2]", Some(Part::Month2)) },
    Token { text: "d", name: "Day", expand: |e, _| e.group("d", r"[12]\d|[ 0]?[1-9]|3[01]", Some(Part::Day)) },
    Token { text: "Exd", name: "ExDay", expand: |e, _| e.group("d", r"[12]\d|0[1-9]|3[01]", Some(Part::Day2)) },
    Token { text: "H", name: "24hour", expand: |e, _| e.group("H", HOUR, Some(Part::Hour)) },
    Token { text: "ExH", name: "Ex24hour", expand: |e, _| e.group("H", r"[01]\d|2[0-3]", Some(Part::Hour2)) },
    Token {
        text: "k",
        name: "%k",
        expand: |e, _| {
            e.text.push_str(" ?");
            e.group("H", r"[0-2]?\d", Some(Part::HourLoose));
        },
    },
    Token {
        text: "Exk",
        name: "Ex%k",
        expand: |e, _| {
            e.text.push_str(" ?");
            e.group("H", HOUR, Some(Part::Hour));
        },
    },
    Token { text: "I", name: "12hour", expand: |e, _| e.group("I", "1[0-2]|0[1-9]|[1-9]", Some(Part::Hour12)) },
    Token {
        text: "l",
        name: "%l",
        expand: |e, _| {
            e.text.push_str(" ?");
            e.group("I", r"1?\d", None);
        },
    },
    Token {
        text: "Exl",
        name: "Ex%l",
        expand: |e, _| {
            e.text.push_str(" ?");
            e.group("I", r"1[0-2]|\d", None);
        },
    },
    Token { text: "M", name: "Minute", expand: |e, _| e.group("M", r"[0-5]?\d", Some(Part::Minute)) },
    Token { text: "ExM", name: "ExMinute", expand: |e, _| e.group("M", r"[0-5]\d", Some(Part::Minute2)) },
    Token { text: "S", name: "Second", expand: |e, _| e.group("S", r"[0-5]?\d|6[01]", Some(Part::Second)) },
    Token { text: "ExS", name: "ExSecond", expand: |e, _| e.group("S", r"[0-5]\d|6[01]", Some(Part::Second2)) },
    Token { text: "f", name: "Microseconds", expand: |e, _| e.group("f", "[0-9]{1,6}", Some(Part::Fraction)) },
    Token {
        text: "a",
        name: "DAY",
        expand: |e, _| {
            e.ignore_case = true;
            e.group("a", DAY_NAMES, Some(Part::DayName));
        },
    },
    Token {
        text: "A",
        name: "DAYNAME",
        expand: |e, _| {
            e.ignore_case = true;
            e.group("A", "sunday|monday|tuesday|wednesday|thursday|friday|saturday", None);
        },
    },
    Token {
        text: "b",
        name: "MON",
        expand: |e, _| {
            e.ignore_case = true;
            e.group("b", MONTH_NAMES, Some(Part::MonthName));
        },
    },
    Token {
        text: "B",
        name: "MONTH",
        expand: |e, _| {
            e.ignore_case = true;
            let names = "january|february|march|april|may|june|july|august|september|october|november|december";
            e.group("B", names, None);
        },
    },
    Token {
        text: "p",
        name: "AMPM",
        expand: |e, _| {
            e.ignore_case = true;
            e.group("p", "am|pm", Some(Part::Half));
        },
    },
    Token {
        text: "j",
        name: "Yearday",
        expand: |e, _| {
            e.group("j", r"36[0-6]|3[0-5]\d|[12]\d\d|0[1-9]\d|00[1-9]|[1-9]\d|0[1-9]|[1-9]", None);
        },
    },
    Token { text: "U", name: "Yearweek", expand: |e, _| e.group("U", WEEK, None) },
    Token { text: "W", name: "Yearweek", expand: |e, _| e.group("W", WEEK, None) },
    Token { text: "V", name: "%V", expand: |e, _| e.group("V", r"5[0-3]|0[1-9]|[1-4]\d|\d", None) },
    Token { text: "w", name: "Weekday", expand: |e, _| e.group("w", "[0-6]", None) },
    Token { text: "u", name: "%u", expand: |e, _| e.group("u", "[1-7]", None) },
    Token {
        text: "z",
        name: "Zone offset",
        expand: |e, _| {
            e.group("z", &format!("Z|UTC|GMT|{OFFSET}"), Some(Part::Offset(false)));
        },
    },
    Token {
        text: "Exz",
        name: "ExZone offset",
        expand: |e, _| {
            e.group("z", &format!("(?:{LETTER_ZONE})?{OFFSET}|{LETTER_ZONE}"), None);
        },
    },
    Token { text: "Z", name: "Zone name", expand: |e, _| e.group("Z", "Z|[A-Z]{3,5}", Some(Part::ZoneName(false))) },
    Token { text: "ExZ", name: "ExZone name", expand: |e, _| e.group("Z", LETTER_ZONE, None) },
    Token {
        text: "c",
        name: "%c",
        expand: |e, _| {
            e.ignore_case = true;
            e.group("a", DAY_NAMES, None);
            for (name, expression) in [("b", MONTH_NAMES), ("d", FULL_DAY)] {
                e.text.push_str(r"\s+");
                e.group(name, expression, None);
            }
            e.text.push_str(r"\s+");
            clock_time(e);
            e.text.push_str(r"\s+");
            e.group("Y", r"\d{4}", None);
        },
    },
    Token {
        text: "x",
        name: "%x",
        expand: |e, _| {
            e.group("m", FULL_MONTH, None);
            e.text.push('/');
            e.group("d", FULL_DAY, None);
            e.text.push('/');
            e.group("y", r"\d\d", None);
        },
    },
    Token { text: "X", name: "%X", expand: |e, _| clock_time(e) },
];

fn clock_time(e: &mut Expanded) {
    e.group("H", FULL_HOUR, None);
    e.text.push(':');
    e.group("M", FULL_MINUTE, None);
    e.text.push(':');
    e.group("S", FULL_SECOND, None);
}

/// Matches the years from the first to the last, both at the ends of decades.
fn decades(first: u16, last: u16) -> String {
    let mut centuries: Vec<(u16, u16, u16)> = Vec::new();
    for decade in first / 10..=last / 10 {
        match centuries.last_mut() {
            Some((century, _, to)) if *century == decade / 10 => *to = decade % 10,
            _ => centuries.push((decade / 10, decade % 10, decade % 10)),
        }
    }
    let ways: Vec<String> =
        centuries.iter().map(|(century, from, to)| format!(r"{century:02}[{from}-{to}]\d")).collect();
    ways.join("|")
}

/// What a group of this name says about the time.
fn field(name: &str) -> Option<Field> {
    Some(match name {
        "Y" => Field::Year,
        "y" => Field::ShortYear,
        "m" => Field::Month,
        "b" | "B" => Field::MonthName,
        "d" => Field::Day,
        "H" => Field::Hour,
        "I" => Field::Hour12,
        "p" => Field::Half,
        "M" => Field::Minute,
        "S" => Field::Second,
        "j" => Field::YearDay,
        "U" => Field::SundayWeek,
        "W" => Field::MondayWeek,
        "w" => Field::WeekDay,
        "a" | "A" => Field::DayName,
        "z" | "Z" => Field::Zone,
        _ => return None,
    })
}
