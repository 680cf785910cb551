//! What a jail is, as plain values. Nothing in here knows a file format.
//!
//! `server` fills these from the command stream; the stages read them.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

pub mod contact;
pub mod journal;
pub mod report;
pub mod settings;

/// A place in a configuration file; lines and columns count from 1, columns in characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The file as it was opened.
    pub file: Arc<PathBuf>,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}

/// Option `usedns`: what becomes of a host name where an address could stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UseDns {
    /// Look it up.
    Yes,
    /// Look it up and say so in the log.
    #[default]
    Warn,
    /// `<HOST>` does not match names.
    No,
    /// The name itself is the identifier.
    Raw,
}

/// The settings of a filter, as texts; compiled by `fail2ban`.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    /// What to do with host names.
    pub usedns: UseDns,
    /// Has to match before any failregex is tried.
    pub prefregex: Option<String>,
    /// Recognise failures; the first that matches wins.
    pub failregex: Vec<String>,
    /// A line that matches one of these is no failure.
    pub ignoreregex: Vec<String>,
    /// How many lines are matched together, from 1.
    pub maxlines: u32,
    /// Where and how the time is written, one pattern a line; absent: the default templates.
    pub datepattern: Option<String>,
    /// Zone of times that do not name one.
    pub logtimezone: Option<String>,
    /// Name of the encoding, or `auto`.
    pub logencoding: String,
}

impl Default for Filter {
    fn default() -> Filter {
        Filter {
            usedns: UseDns::default(),
            prefregex: None,
            failregex: Vec::new(),
            ignoreregex: Vec::new(),
            maxlines: 1,
            datepattern: None,
            logtimezone: None,
            logencoding: "auto".to_owned(),
        }
    }
}

/// When a source is banned, and for how long. Durations in seconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Failures needed for a ban; 0 behaves like 1.
    pub maxretry: u32,
    /// Kept lines of a failure, the last ones; 0 keeps none.
    pub maxmatches: u32,
    /// The window failures are counted in.
    pub findtime: f64,
    /// Length of a ban; -1 is for ever.
    pub bantime: f64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { maxretry: 3, maxmatches: 5, findtime: 600.0, bantime: 600.0 }
    }
}

/// Options `bantime.*`: longer bans for those who come back.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Increment {
    /// Whether it is on.
    pub enabled: bool,
    /// `bantime.factor`, as written; an arithmetic expression.
    pub factor: Option<String>,
    /// `bantime.formula`, as written.
    pub formula: Option<String>,
    /// `bantime.multipliers`, as written.
    pub multipliers: Option<String>,
    /// Upper bound in seconds.
    pub maxtime: Option<f64>,
    /// A random share of so many seconds comes on top.
    pub rndtime: Option<f64>,
    /// Whether bans of other jails count.
    pub overalljails: bool,
}
