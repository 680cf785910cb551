//! The options of `fail2ban-client` and `fail2ban-server`, read as `getopt` reads them: options end
//! at the first word that is none, long ones may be shortened, letters may be joined.
//!
//! Everything after the options is the command and goes to the server unchanged.

use std::path::PathBuf;
use std::time::Duration;

use super::configuration::Request;
use crate::config::settings::Compat;
use crate::fail2ban::arithmetic::Number;
use crate::fail2ban::time;

/// So long a server may take to answer after its start, unless `--timeout` says otherwise.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest `--timeout`.
const LONGEST: f64 = 1e9;

/// What the options ask for.
#[derive(Clone, Debug, PartialEq)]
pub enum Parsed {
    /// A command, or a dump, or a test.
    Options(Box<Options>),
    /// `-h`.
    Help,
    /// `--version`; `-V` asks for the short form.
    Version {
        /// Only the number.
        short: bool,
    },
    /// `--str2sec`: the text to convert.
    Seconds(String),
}

/// Why the options are not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// Not among those that exist, or without its value; the usage is the answer.
    Option(String),
    /// A value that cannot be used; the text says why.
    Value(String),
}

/// The options.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// `-c`, `--conf`.
    pub conf: Option<PathBuf>,
    /// `-s`, `--socket`.
    pub socket: Option<PathBuf>,
    /// `-p`, `--pidfile`.
    pub pidfile: Option<PathBuf>,
    /// `--loglevel`.
    pub loglevel: Option<String>,
    /// `--logtarget`.
    pub logtarget: Option<String>,
    /// `--syslogsocket`.
    pub syslogsocket: Option<String>,
    /// `-d`.
    pub dump: bool,
    /// `--dp`, `--dump-pretty`.
    pub pretty: bool,
    /// `-t`, `--test`.
    pub test: bool,
    /// `-i`.
    pub interactive: bool,
    /// `-v` makes it larger, `-q` smaller.
    pub verbosity: i32,
    /// `-x`.
    pub force: bool,
    /// The last one of `-f` (true) and `-b` (false).
    pub foreground: Option<bool>,
    /// `--async`: the one who starts the server sends the configuration.
    pub configured_by_client: bool,
    /// `--timeout`.
    pub timeout: Duration,
    /// `--json`, not of Fail2Ban.
    pub json: bool,
    /// `--compat`, not of Fail2Ban.
    pub compat: Option<Compat>,
    /// `--firewall`, not of Fail2Ban.
    pub firewall: Option<String>,
    /// `--dry-run`, not of Fail2Ban.
    pub dry_run: bool,
    /// `--detached`, between a server that goes to the background and its starter.
    pub detached: bool,
    /// The command.
    pub words: Vec<String>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            conf: None,
            socket: None,
            pidfile: None,
            loglevel: None,
            logtarget: None,
            syslogsocket: None,
            dump: false,
            pretty: false,
            test: false,
            interactive: false,
            verbosity: 0,
            force: false,
            foreground: None,
            configured_by_client: false,
            timeout: START_TIMEOUT,
            json: false,
            compat: None,
            firewall: None,
            dry_run: false,
            detached: false,
            words: Vec::new(),
        }
    }
}

/// An option, for everything that has to know it: the parser, `--help`, completions, manual pages.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// The letter behind one dash.
    pub letter: Option<char>,
    /// The names behind two dashes.
    pub names: &'static [&'static str],
    /// What stands for its value; empty if it has none.
    pub value: &'static str,
    /// What it does.
    pub text: &'static str,
    /// Whose it is.
    pub of: Whose,
}

/// Where an option comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Fail2Ban has it as well.
    Fail2Ban,
    /// Fail2Ban does not know it.
    Ours,
    /// Of no use to people.
    Hidden,
}

const fn known(letter: &str, names: &'static [&'static str], value: &'static str, text: &'static str) -> Known {
    let letter = if letter.is_empty() { None } else { Some(letter.as_bytes()[0] as char) };
    Known { letter, names, value, text, of: Whose::Fail2Ban }
}

const fn ours(name: &'static [&'static str], value: &'static str, text: &'static str) -> Known {
    Known { of: Whose::Ours, ..known("", name, value, text) }
}

/// All options of the client and the server.
pub const OPTIONS: [Known; 25] = [
    known("c", &["conf"], "DIR", "directory of the configuration"),
    known("s", &["socket"], "FILE", "control socket, instead of the configured one"),
    known("p", &["pidfile"], "FILE", "pid file, instead of the configured one"),
    known("", &["pname"], "NAME", "accepted and ignored"),
    known("", &["loglevel"], "LEVEL", "CRITICAL, ERROR, WARNING, NOTICE, INFO, DEBUG or a number"),
    known("", &["logtarget"], "TARGET", "a file, STDOUT, STDERR, SYSLOG or SYSOUT"),
    known("", &["syslogsocket"], "FILE", "where SYSLOG sends to; auto is /dev/log"),
    known("d", &[], "", "print the commands that the configuration comes to"),
    known("", &["dp", "dump-pretty"], "", "the same, with long commands broken into lines"),
    known("t", &["test"], "", "report every error of the configuration"),
    known("i", &[], "", "read commands from the terminal or standard input"),
    known("v", &[], "", "say more; repeatable"),
    known("q", &[], "", "say less; repeatable"),
    known("x", &[], "", "accepted: a socket that nobody listens at is always replaced"),
    known("b", &[], "", "start the server in the background"),
    known("f", &[], "", "start the server in the foreground"),
    known("", &["async"], "", "start the server without configuration; the client sends it"),
    known("", &["timeout"], "TIME", "how long a server may take to answer after its start (30s)"),
    known("", &["str2sec"], "TIME", "print a time in seconds: 1d12h is 129600"),
    known("h", &["help"], "", "print this"),
    known("V", &["version"], "", "print the version; -V prints the number only"),
    ours(&["json"], "", "one JSON document instead of text (also as the last word)"),
    ours(&["compat"], "VERSION", "whom to follow where versions of Fail2Ban differ: 1.0 or 1.1"),
    ours(&["firewall"], "KIND", "where bans go: auto, nftables, ipset or memory (nowhere)"),
    ours(&["dry-run"], "", "server: say what would be done, ban nobody, store nothing"),
];

/// Between a server that goes to the background and its starter.
const DETACHED: Known = Known { of: Whose::Hidden, ..known("", &["detached"], "", "") };

/// All names behind two dashes, and whether each has a value.
fn long_names() -> impl Iterator<Item = (&'static str, bool)> {
    let all = OPTIONS.iter().chain([&DETACHED]);
    all.flat_map(|option| option.names.iter().map(|name| (*name, !option.value.is_empty())))
}

/// Reads the words after the program's name.
///
/// # Errors
/// If there is an option that does not exist or whose value is missing or wrong.
pub fn parse(arguments: &[String]) -> Result<Parsed, Wrong> {
    let mut found: Vec<(String, String)> = Vec::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.as_slice().first() {
        if argument == "--" {
            rest.next();
            break;
        }
        if let Some(long) = argument.strip_prefix("--") {
            rest.next();
            let (name, attached) = long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
            let (name, has_value) = long_option(name)?;
            let value = match (has_value, attached) {
                (true, None) => rest.next().cloned().ok_or_else(|| wrong(&format!("--{name}")))?,
                (true, Some(value)) => value.to_owned(),
                (false, None) => String::new(),
                (false, Some(_)) => return Err(wrong(&format!("--{name}"))),
            };
            found.push((name.to_owned(), value));
        } else if let Some(letters) = argument.strip_prefix('-').filter(|letters| !letters.is_empty()) {
            rest.next();
            for (index, letter) in letters.char_indices() {
                let Some(option) = OPTIONS.iter().find(|option| option.letter == Some(letter)) else {
                    return Err(wrong(&format!("-{letter}")));
                };
                if option.value.is_empty() {
                    found.push((letter.to_string(), String::new()));
                    continue;
                }
                let attached = &letters[index + 1..];
                let value = if attached.is_empty() { rest.next().cloned() } else { Some(attached.to_owned()) };
                found.push((letter.to_string(), value.ok_or_else(|| wrong(&format!("-{letter}")))?));
                break;
            }
        } else {
            break;
        }
    }
    apply(found, rest.as_slice())
}

fn wrong(option: &str) -> Wrong {
    Wrong::Option(option.to_owned())
}

/// The option that is meant: itself, or the only one that begins so.
fn long_option(name: &str) -> Result<(&'static str, bool), Wrong> {
    if let Some(exact) = long_names().find(|(known, _)| *known == name) {
        return Ok(exact);
    }
    let mut candidates = long_names().filter(|(known, _)| known.starts_with(name) && !name.is_empty());
    match (candidates.next(), candidates.next()) {
        (Some(only), None) => Ok(only),
        _ => Err(wrong(&format!("--{name}"))),
    }
}

fn apply(found: Vec<(String, String)>, words: &[String]) -> Result<Parsed, Wrong> {
    let mut options = Options { words: words.to_vec(), ..Options::default() };
    for (name, value) in found {
        match name.as_str() {
            "c" | "conf" => options.conf = Some(value.into()),
            "s" | "socket" => options.socket = Some(value.into()),
            "p" | "pidfile" => options.pidfile = Some(value.into()),
            "loglevel" => options.loglevel = Some(value),
            "logtarget" => options.logtarget = Some(value),
            "syslogsocket" => options.syslogsocket = Some(value),
            "d" => options.dump = true,
            "dp" | "dump-pretty" => options.pretty = true,
            "t" | "test" => options.test = true,
            "i" => options.interactive = true,
            "v" => options.verbosity += 1,
            "q" => options.verbosity -= 1,
            "x" => options.force = true,
            "b" => options.foreground = Some(false),
            "f" => options.foreground = Some(true),
            "async" => options.configured_by_client = true,
            "timeout" => options.timeout = timeout(&value)?,
            "json" => options.json = true,
            "compat" => options.compat = Some(value.parse().map_err(Wrong::Value)?),
            "firewall" => options.firewall = Some(value),
            "dry-run" => options.dry_run = true,
            "detached" => options.detached = true,
            // the name of a thread, which others do not see here
            "pname" => {}
            "h" | "help" => return Ok(Parsed::Help),
            "V" => return Ok(Parsed::Version { short: true }),
            "version" => return Ok(Parsed::Version { short: false }),
            "str2sec" => return Ok(Parsed::Seconds(value)),
            other => return Err(wrong(&format!("-{other}"))),
        }
    }
    Ok(Parsed::Options(Box::new(options)))
}

/// The text that `--str2sec` prints.
///
/// # Errors
/// If it is no time expression.
pub fn seconds(text: &str) -> Result<Number, String> {
    time::seconds(text).map_err(|error| format!("`{text}` is no time: {error}"))
}

fn timeout(text: &str) -> Result<Duration, Wrong> {
    let number = seconds(text).map_err(Wrong::Value)?;
    Ok(Duration::from_secs_f64(number.as_f64().clamp(0.0, LONGEST)))
}

impl Options {
    /// What the configuration reader has to know of them.
    #[must_use]
    pub fn request(&self) -> Request {
        Request {
            directory: self.conf.clone(),
            dump: self.dump,
            pretty: self.pretty,
            test: self.test,
            compat: self.compat,
            loglevel: self.loglevel.clone(),
            logtarget: self.logtarget.clone(),
            syslogsocket: self.syslogsocket.clone(),
            jail: None,
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Parsed, Wrong> {
        parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    fn options(line: &str) -> Options {
        match read(line).unwrap() {
            Parsed::Options(options) => *options,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn options_end_at_the_first_word_of_the_command() {
        let found = options("-vvxc /etc/f -s/run/s --logl=DEBUG -f --timeout 1m set sshd banip -q --json");
        assert_eq!(found.verbosity, 2);
        assert!(found.force && found.foreground == Some(true) && !found.json);
        assert_eq!(found.conf.as_deref(), Some("/etc/f".as_ref()));
        assert_eq!(found.socket.as_deref(), Some("/run/s".as_ref()));
        assert_eq!(found.loglevel.as_deref(), Some("DEBUG"));
        assert_eq!(found.timeout, Duration::from_secs(60));
        assert_eq!(found.words, ["set", "sshd", "banip", "-q", "--json"]);
        assert_eq!(options("-- -v").words, ["-v"]);
        assert_eq!(options("- x").words, ["-", "x"]);
    }

    #[test]
    fn the_first_of_help_version_and_conversion_is_done_if_all_options_are_right() {
        assert_eq!(read("-V -h"), Ok(Parsed::Version { short: true }));
        assert_eq!(read("--vers"), Ok(Parsed::Version { short: false }));
        assert_eq!(read("--str2sec 1d12h"), Ok(Parsed::Seconds("1d12h".to_owned())));
        for line in ["-V --nosuch", "-Vz", "--logt", "-c", "--l x", "--help=1", "--async=yes"] {
            assert!(matches!(read(line), Err(Wrong::Option(_))), "{line}");
        }
        assert!(matches!(read("--timeout x"), Err(Wrong::Value(_))));
    }
}
