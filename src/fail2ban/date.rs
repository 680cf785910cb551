//! Fail2Ban's date patterns: tokens such as `%Y` in a regular expression, names such as
//! `EPOCH` and `{^LN-BEG}`, and the formats that are tried where a filter names none.
//!
//! What comes out are [`Template`]s, which know nothing of this notation. The names they carry
//! are those `fail2ban-regex` shows.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::filter::date::{Dates, Spec, Template, zone};

use shape::{EPOCH, EPOCH_PLACE, LONG_EPOCH, LOOSE_START, Shape, TAI, epoch};

mod shape;
mod token;

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
