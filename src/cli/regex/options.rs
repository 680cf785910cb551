//! The command line of `sekimori regex`: the options of `fail2ban-regex` and a few of ours.

use std::path::{Path, PathBuf};

use clap::Parser;

use crate::config::UseDns;

/// What was asked for.
#[derive(Parser, Clone, Debug, Default)]
#[command(
    name = "sekimori regex",
    about = "Shows what a filter, a jail's filter or a regular expression finds in logs",
    disable_version_flag = true,
    infer_long_args = true,
    override_usage = "sekimori regex [OPTIONS] LOG... REGEX [IGNOREREGEX]",
    after_help = "LOG          a file (also .gz, .xz, .zst, .bz2), `-` for the standard input, or a line as text\n\
                  REGEX        a filter such as `sshd` or `sshd[mode=aggressive]`, a filter's file, a jail\n             \
                  (`jail:NAME` if there is a filter of that name), or a failregex\n\
                  IGNOREREGEX  an ignoreregex\n\n\
                  Exit codes: 0 done, also if nothing was found; 2 unknown option; 255 anything else."
)]
#[expect(clippy::struct_excessive_bools, reason = "they are switches of a command line")]
pub struct Options {
    /// Configuration directory
    #[arg(short = 'c', long = "config", value_name = "DIR")]
    pub config: Option<PathBuf>,
    /// Where and how the date is written, instead of what the filter says
    #[arg(short = 'd', long, value_name = "PATTERN", allow_hyphen_values = true)]
    pub datepattern: Option<String>,
    /// Zone of dates that name none, such as UTC or UTC+0200
    #[arg(long, alias = "TZ", value_name = "ZONE", allow_hyphen_values = true)]
    pub timezone: Option<String>,
    /// Encoding of the logs
    #[arg(short = 'e', long, value_name = "NAME")]
    pub encoding: Option<String>,
    /// Take host names as they are, do not look them up
    #[arg(short = 'r', long)]
    pub raw: bool,
    /// What to do with host names: yes, warn, no or raw
    #[arg(long, value_name = "HOW")]
    pub usedns: Option<String>,
    /// How many lines are matched together
    #[arg(short = 'L', long, value_name = "N")]
    pub maxlines: Option<u32>,
    /// Which entries of the journal are read
    #[arg(short = 'm', long, value_name = "MATCH", allow_hyphen_values = true)]
    pub journalmatch: Option<String>,
    /// Log level
    #[arg(short = 'l', long = "log-level", value_name = "LEVEL", default_value = "critical")]
    pub log_level: String,
    /// The version in short
    #[arg(short = 'V')]
    pub short_version: bool,
    /// The version
    #[arg(long)]
    pub version: bool,
    /// Show the failures of each expression, and all expressions
    #[arg(short = 'v', long, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// The same as a number
    #[arg(long, value_name = "N")]
    pub verbosity: Option<u8>,
    /// Show how the dates are recognised
    #[arg(long = "verbose-date", alias = "VD")]
    pub verbose_date: bool,
    /// Add addresses of a site that draws the expression
    #[arg(short = 'D', long)]
    pub debuggex: bool,
    /// Stop at the first failregex that matches, as the server does
    #[arg(long = "no-check-all")]
    pub no_check_all: bool,
    /// Print only this of each failure: id, ip, msg, row, a group, or a text with tags
    #[arg(short = 'o', long, value_name = "FORMAT", allow_hyphen_values = true)]
    pub out: Option<String>,
    /// With --out: print the lines that do not match
    #[arg(short = 'i', long)]
    pub invert: bool,
    /// Leave out lines that did not match
    #[arg(long = "print-no-missed")]
    pub print_no_missed: bool,
    /// Leave out lines that were ignored
    #[arg(long = "print-no-ignored")]
    pub print_no_ignored: bool,
    /// Print the lines that match
    #[arg(long = "print-all-matched")]
    pub print_all_matched: bool,
    /// Print all lines that do not match, however many
    #[arg(long = "print-all-missed")]
    pub print_all_missed: bool,
    /// Print all lines that are ignored, however many
    #[arg(long = "print-all-ignored")]
    pub print_all_ignored: bool,
    /// For compatibility; without effect
    #[arg(short = 't', long = "log-traceback")]
    pub log_traceback: bool,
    /// For compatibility; without effect
    #[arg(long = "full-traceback")]
    pub full_traceback: bool,
    /// One JSON object for each failure that a server would count
    #[arg(long)]
    pub json: bool,
    /// Judge dates as if it were this time, in seconds since the epoch
    #[arg(long, value_name = "SECONDS")]
    pub now: Option<i64>,
    /// Print the expressions that preselect lines, for grep-like tools, and read no log
    #[arg(long = "print-approximation")]
    pub print_approximation: bool,
    /// LOG... REGEX [IGNOREREGEX]
    #[arg(value_name = "ARGUMENT", hide = true)]
    pub words: Vec<String>,
}

/// The positional arguments, told apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    /// Files or texts.
    pub logs: Vec<String>,
    /// The filter, jail or expression.
    pub regex: String,
    /// An ignoreregex.
    pub ignoreregex: Option<String>,
}

impl Options {
    /// How much is told: 0 to 4.
    #[must_use]
    pub fn level(&self) -> u8 {
        self.verbosity.unwrap_or(0).max(self.verbose).min(4)
    }

    /// Option `usedns`, if one was given.
    #[must_use]
    pub fn usedns(&self) -> Option<UseDns> {
        let given = self.usedns.as_ref().map(|text| match text.to_ascii_lowercase().as_str() {
            "yes" => UseDns::Yes,
            "warn" => UseDns::Warn,
            "raw" => UseDns::Raw,
            _ => UseDns::No,
        });
        if self.raw && given != Some(UseDns::No) { Some(UseDns::Raw) } else { given }
    }

    /// Whether the log is the journal.
    #[must_use]
    pub fn is_journal(&self) -> bool {
        self.words.first().is_some_and(|word| is_journal(word))
    }

    /// Format of `--out`, if one was given.
    #[must_use]
    pub fn out(&self) -> Option<&str> {
        self.out.as_deref().filter(|out| !out.is_empty())
    }

    /// Tells logs from expressions. Two words are a log and a regex, three may have an
    /// ignoreregex at the end; more logs are existing files before the regex. None if words are missing.
    #[must_use]
    pub fn split(&self) -> Option<Words> {
        let words = &self.words;
        if self.print_approximation {
            let regex = words.last()?.clone();
            return Some(Words { regex, ..Words::default() });
        }
        let is_log = |word: &String| {
            let filter = [".conf", ".local"].iter().any(|end| word.ends_with(end));
            word == "-" || !filter && Path::new(word).is_file()
        };
        match words.as_slice() {
            [] | [_] => None,
            [log, regex] => Some(Words { logs: vec![log.clone()], regex: regex.clone(), ignoreregex: None }),
            [logs @ .., regex] if logs.iter().all(is_log) => {
                Some(Words { logs: logs.to_vec(), regex: regex.clone(), ignoreregex: None })
            }
            [log, regex, ignoreregex] => {
                Some(Words { logs: vec![log.clone()], regex: regex.clone(), ignoreregex: Some(ignoreregex.clone()) })
            }
            [logs @ .., regex, ignoreregex] if logs.iter().all(is_log) => {
                Some(Words { logs: logs.to_vec(), regex: regex.clone(), ignoreregex: Some(ignoreregex.clone()) })
            }
            _ => None,
        }
    }
}

/// The text of `--help`.
#[must_use]
pub fn help() -> String {
    <Options as clap::CommandFactory>::command().render_help().to_string()
}

/// Whether a word names the journal instead of a file.
#[must_use]
pub fn is_journal(word: &str) -> bool {
    word.strip_prefix("systemd-journal").is_some_and(|rest| rest.is_empty() || rest.starts_with('['))
}

/// Whether a log level has a meaning.
#[must_use]
pub fn is_level(text: &str) -> bool {
    const NAMES: [&str; 10] =
        ["CRITICAL", "ERROR", "WARNING", "NOTICE", "INFO", "MSG", "DEBUG", "TRACEDEBUG", "HEAVYDEBUG", "NOTSET"];
    NAMES.iter().any(|name| name.eq_ignore_ascii_case(text)) || text.parse::<u32>().is_ok()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Options {
        Options::try_parse_from([&["x"], words].concat()).unwrap()
    }

    #[test]
    fn logs_and_expressions_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, "").unwrap();
            path.to_str().unwrap().to_owned()
        };
        let (a, b, filter) = (path("a"), path("b"), path("f.conf"));
        let split = |words: &[&str]| parsed(words).split().map(|w| (w.logs.len(), w.regex, w.ignoreregex));
        let some = |logs, regex: &str, ignore: Option<&str>| Some((logs, regex.to_owned(), ignore.map(str::to_owned)));
        assert_eq!(split(&[&a]), None);
        assert_eq!(split(&[&a, "sshd"]), some(1, "sshd", None));
        assert_eq!(split(&[&a, "x <HOST>", "y"]), some(1, "x <HOST>", Some("y")));
        assert_eq!(split(&[&a, &b, "sshd"]), some(2, "sshd", None));
        assert_eq!(split(&[&a, &filter, "y"]), some(1, &filter, Some("y")));
        assert_eq!(split(&[&a, "-", &b, "sshd", "y"]), some(3, "sshd", Some("y")));
        assert_eq!(split(&[&a, "sshd", "y", "z"]), None);
    }

    #[test]
    fn options_are_those_of_the_original() {
        let options = parsed(&["-vvv", "--TZ", "UTC", "-d", "-%Y", "--print-all-mis", "a", "-o", "", "b", "-r"]);
        assert_eq!((options.level(), options.timezone.as_deref()), (3, Some("UTC")));
        assert_eq!((options.datepattern.as_deref(), options.print_all_missed), (Some("-%Y"), true));
        assert_eq!((options.out(), options.usedns()), (None, Some(UseDns::Raw)));
        assert!(Options::try_parse_from(["x", "--nonsense", "a", "b"]).is_err());
        assert!(is_level("heavydebug") && is_level("10") && !is_level("loud"));
    }
}
