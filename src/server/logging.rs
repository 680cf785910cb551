//! The daemon's log in Fail2Ban's exact form.
//!
//! Other programs read it (the recidive filter, logwatch, monitoring), so names, widths and
//! levels are a contract: `2026-11-24 01:57:05,231 fail2ban.actions        [14564]: NOTICE  [j1] Ban 192.0.2.1`.

mod form;
mod lines;

use std::borrow::Cow;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::Sender;

use crate::fail2ban::options;
use crate::fail2ban::text::Text;
use crate::time::Time;
use form::{Form, Line};
use lines::Lines;

/// How much a message matters; Fail2Ban's names and numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Level(pub i32);

impl Level {
    /// Protection is off.
    pub const CRITICAL: Level = Level(50);
    /// Something did not work.
    pub const ERROR: Level = Level(40);
    /// Something is odd; we went on.
    pub const WARNING: Level = Level(30);
    /// Bans and unbans.
    pub const NOTICE: Level = Level(25);
    /// Failures, settings, files.
    pub const INFO: Level = Level(20);
    /// Between the two.
    pub const MSG: Level = Level(18);
    /// For whoever looks for a fault.
    pub const DEBUG: Level = Level(10);

    const NAMES: &[(&str, i32)] = &[
        ("CRITICAL", 50),
        ("ERROR", 40),
        ("WARNING", 30),
        ("NOTICE", 25),
        ("INFO", 20),
        ("MSG", 18),
        ("DEBUG", 10),
        ("TRACEDEBUG", 7),
        ("HEAVYDEBUG", 5),
    ];

    /// A level by name in any case, or by number; `None` if it is neither.
    #[must_use]
    pub fn parse(text: &str) -> Option<Level> {
        let upper = text.to_ascii_uppercase();
        Self::NAMES
            .iter()
            .find(|(name, _)| *name == upper)
            .map(|(_, number)| Level(*number))
            .or_else(|| text.parse().ok().map(Level))
    }

    /// As syslog counts it.
    fn severity(self) -> u32 {
        match self.0 {
            50.. => 2,
            40.. => 3,
            30.. => 4,
            25.. => 5,
            20.. => 6,
            _ => 7,
        }
    }

    fn label(self) -> Cow<'static, str> {
        match self.0 {
            7 => "TRACE".into(),
            5 => "HEAVY".into(),
            number => Self::NAMES
                .iter()
                .find(|(_, n)| *n == number)
                .map_or_else(|| format!("#{number:02}-Lev.").into(), |(name, _)| (*name).into()),
        }
    }
}

/// Where messages go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Appended to a file.
    File(PathBuf),
    /// Standard output, with date.
    Stdout,
    /// Standard output without date, for a service manager that adds its own.
    Sysout,
    /// Standard error.
    Stderr,
    /// The syslog socket.
    Syslog(PathBuf),
    /// Nowhere; for tests and dry runs.
    Null,
}

/// A target and how messages look there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The target.
    pub target: Target,
    /// Its name without options, as clients are told it.
    pub name: String,
    form: Form,
    /// Of syslog, by its number.
    facility: u8,
}

/// Facilities of syslog by their numbers.
const FACILITIES: [&str; 24] = [
    "kern",
    "user",
    "mail",
    "daemon",
    "auth",
    "syslog",
    "lpr",
    "news",
    "uucp",
    "cron",
    "authpriv",
    "ftp",
    "ntp",
    "security",
    "console",
    "solaris-cron",
    "local0",
    "local1",
    "local2",
    "local3",
    "local4",
    "local5",
    "local6",
    "local7",
];
/// Where messages of daemons belong.
const DAEMON: u8 = 3;

impl From<Target> for Destination {
    fn from(target: Target) -> Destination {
        let syslog = matches!(target, Target::Syslog(_));
        let form = Form::usual(!syslog && target != Target::Sysout, !syslog);
        Destination { target, name: String::new(), form, facility: DAEMON }
    }
}

impl Destination {
    /// Reads option `logtarget`: a key word or a path, and options in brackets. What `facility`, `datetime` or
    /// `padding` cannot be is taken as Fail2Ban takes it; other options say nothing.
    ///
    /// # Errors
    /// If the options cannot be read, or the format is none.
    pub fn parse(text: &str, syslogsocket: &str) -> Result<Destination, String> {
        let call = options::parse(&Text::new(text, None)).map_err(|error| error.to_string())?;
        let name = call.name.as_str();
        let target = match name.to_ascii_uppercase().as_str() {
            "STDOUT" => Target::Stdout,
            "SYSOUT" => Target::Sysout,
            "STDERR" => Target::Stderr,
            "SYSLOG" | "SYSTEMD-JOURNAL" => {
                let auto = syslogsocket.is_empty() || syslogsocket.eq_ignore_ascii_case("auto");
                Target::Syslog(if auto { "/dev/log" } else { syslogsocket }.into())
            }
            _ => Target::File(name.into()),
        };
        let mut destination = Destination { name: name.to_owned(), ..target.into() };
        let option = |option: &str| call.arguments.get(option).map(|value| value.as_str());
        let truth = |name: &str, otherwise: bool| {
            let value = option(name).map(str::to_ascii_lowercase);
            value.map_or(otherwise, |value| matches!(value.as_str(), "1" | "on" | "true" | "yes"))
        };
        let syslog = matches!(destination.target, Target::Syslog(_));
        destination.form = match option("format") {
            Some(format) => Form::parse(format)?,
            None => {
                let time = truth("datetime", !syslog && destination.target != Target::Sysout);
                Form::usual(time, truth("padding", !syslog))
            }
        };
        let facility = option("facility").map(str::to_ascii_lowercase);
        let known = facility.and_then(|facility| FACILITIES.iter().position(|known| *known == facility));
        destination.facility = known.and_then(|known| known.try_into().ok()).unwrap_or(DAEMON);
        Ok(destination)
    }
}

/// Why the target cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot log to `{}`", path.display())]
pub struct Error {
    path: PathBuf,
    source: std::io::Error,
    syslog: bool,
}

impl Error {
    /// The socket, if syslog was the target.
    #[must_use]
    pub fn syslog_socket(&self) -> Option<&Path> {
        self.syslog.then_some(&*self.path)
    }
}

/// What is open, and how messages look in it.
struct Opened {
    output: Output,
    form: Form,
    facility: u8,
}

enum Output {
    File(Lines, PathBuf),
    Stdout,
    Stderr,
    Syslog(UnixDatagram),
    Told(Sender<String>),
    Null,
}

/// The log of one daemon; shared by all its parts.
pub struct Logger {
    level: AtomicI32,
    opened: Mutex<Opened>,
    zone: jiff::tz::TimeZone,
    pid: u32,
}

impl std::fmt::Debug for Logger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Logger").field("level", &self.level).finish_non_exhaustive()
    }
}

impl Logger {
    /// Opens a log.
    ///
    /// # Errors
    /// If the file or socket cannot be opened.
    pub fn open(destination: &Destination, level: Level) -> Result<Logger, Error> {
        Ok(Logger {
            level: AtomicI32::new(level.0),
            opened: Mutex::new(open(destination)?),
            zone: jiff::tz::TimeZone::system(),
            pid: std::process::id(),
        })
    }

    /// A log whose messages go to somebody of this program, without time and part.
    #[must_use]
    pub fn telling(to: Sender<String>, level: Level) -> Logger {
        Logger {
            level: AtomicI32::new(level.0),
            opened: Mutex::new(Opened { output: Output::Told(to), form: Form::usual(false, false), facility: DAEMON }),
            zone: jiff::tz::TimeZone::system(),
            pid: std::process::id(),
        }
    }

    /// Writes one message of a part (`actions`, `filter`, `server` …).
    pub fn log(&self, level: Level, part: &str, message: &str) {
        self.log_all([(level, part, message)]);
    }

    /// Writes messages together, all with the present time.
    pub fn log_all<'m>(&self, messages: impl IntoIterator<Item = (Level, &'m str, &'m str)>) {
        let least = self.level();
        let mut messages = messages.into_iter().filter(|(level, ..)| *level >= least).peekable();
        if messages.peek().is_none() {
            return;
        }
        let mut opened = self.opened.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Output::Told(to) = &opened.output {
            return messages.for_each(|(_, _, message)| _ = to.send(message.to_owned()));
        }
        let Opened { output, form, facility } = &mut *opened;
        let time = if form.has_time() { self.stamp() } else { String::new() };
        let mut text = String::new();
        let append = |text: &mut String, level: Level, part: &str, message: &str| {
            let (label, message) = (level.label(), printable(message));
            let line = Line { time: &time, part, level: (&label, level.0), process: self.pid, message: &message };
            form.write(&line, text);
        };
        for (level, part, message) in messages {
            if let Output::Syslog(socket) = &*output {
                text.clear();
                text.push_str(&format!("<{}>", u32::from(*facility) * 8 + level.severity()));
                append(&mut text, level, part, message);
                text.push('\0');
                // nobody waits for a syslog daemon that is slow
                let _ = socket.send(text.as_bytes());
            } else {
                append(&mut text, level, part, message);
                text.push('\n');
            }
        }
        // a log that cannot be written must not stop the daemon; nor could it be said anywhere
        let _ = match output {
            Output::File(lines, _) => {
                lines.write(&text, |lost| {
                    let mut text = String::new();
                    let message = format!("{lost} message(s) could not be written here and are lost");
                    append(&mut text, Level::WARNING, "server", &message);
                    text + "\n"
                });
                Ok(())
            }
            Output::Stdout => std::io::stdout().write_all(text.as_bytes()),
            Output::Stderr => std::io::stderr().write_all(text.as_bytes()),
            Output::Syslog(_) | Output::Told(_) | Output::Null => Ok(()),
        };
    }

    /// The present level.
    pub fn level(&self) -> Level {
        Level(self.level.load(Ordering::Relaxed))
    }

    /// Changes the level.
    pub fn set_level(&self, level: Level) {
        self.level.store(level.0, Ordering::Relaxed);
    }

    /// Changes the target; on an error the old one stays.
    ///
    /// # Errors
    /// If the file or socket cannot be opened.
    pub fn set_target(&self, destination: &Destination) -> Result<(), Error> {
        let new = open(destination)?;
        *self.opened.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = new;
        Ok(())
    }

    /// Opens the file anew by its name, after a rotation; true if the target is a file.
    ///
    /// # Errors
    /// If it cannot be opened; the old file stays in use.
    pub fn reopen(&self) -> Result<bool, Error> {
        let mut opened = self.opened.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let Output::File(lines, path) = &mut opened.output else { return Ok(false) };
        lines.go_on(append(path)?);
        Ok(true)
    }

    fn stamp(&self) -> String {
        stamp_millis(jiff::Timestamp::now(), &self.zone)
    }

    /// A time of day as messages show it: local, `YYYY-MM-DD HH:MM:SS`.
    #[must_use]
    pub fn day_time(&self, time: Time) -> String {
        day_time(time, &self.zone)
    }
}

/// The time at the beginning of a line of the log: local, with milliseconds.
#[must_use]
pub fn stamp_millis(now: jiff::Timestamp, zone: &jiff::tz::TimeZone) -> String {
    let now = zone.to_datetime(now);
    format!("{},{:03}", now.strftime("%Y-%m-%d %H:%M:%S"), now.subsec_nanosecond() / 1_000_000)
}

/// Local time, `YYYY-MM-DD HH:MM:SS`; far in the future it is the end of the year 9999.
#[must_use]
pub fn day_time(time: Time, zone: &jiff::tz::TimeZone) -> String {
    if time.seconds() >= 253_402_214_400 {
        return "9999-12-31 23:59:59".to_owned();
    }
    jiff::Timestamp::from_second(time.seconds())
        .map_or_else(|_| "?".to_owned(), |t| zone.to_datetime(t).strftime("%Y-%m-%d %H:%M:%S").to_string())
}

fn open(destination: &Destination) -> Result<Opened, Error> {
    let output = match &destination.target {
        Target::File(path) => Output::File(Lines::new(append(path)?), path.clone()),
        Target::Stdout | Target::Sysout => Output::Stdout,
        Target::Stderr => Output::Stderr,
        Target::Null => Output::Null,
        Target::Syslog(path) => {
            let connect = || {
                let socket = UnixDatagram::unbound()?;
                socket.connect(path)?;
                socket.set_nonblocking(true)?;
                Ok(socket)
            };
            Output::Syslog(connect().map_err(|source| Error { path: path.clone(), source, syslog: true })?)
        }
    };
    Ok(Opened { output, form: destination.form.clone(), facility: destination.facility })
}

fn append(path: &Path) -> Result<File, Error> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path).map_err(|source| Error {
        path: path.to_owned(),
        source,
        syslog: false,
    })
}

/// A message without anything that a terminal would obey or that would forge a second line.
///
/// Only a newline that our own code put in front of a detail survives, as it does in Fail2Ban.
fn printable(message: &str) -> Cow<'_, str> {
    let bad = |c: char| {
        (c.is_control() && c != '\n' && c != '\t') || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !message.contains(bad) {
        return message.into();
    }
    message.chars().flat_map(|c| if bad(c) { c.escape_default().collect() } else { vec![c] }).collect::<String>().into()
}

/// An identifier as messages show it: on one line.
#[must_use]
pub fn shown(id: &str) -> String {
    printable(id).replace('\n', "\\n")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_form_that_others_parse() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let logger = Logger::open(&Target::File(path.clone()).into(), Level::INFO).unwrap();
        logger.log(Level::NOTICE, "actions", "[j1] Ban 192.0.2.1");
        logger.log(Level::DEBUG, "actions", "unseen");
        logger.log(Level::INFO, "filter", "[j1] Found \u{1b}[31mred");
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(&lines[0][19..20], ",");
        let pid = std::process::id();
        assert_eq!(&lines[0][24..], format!("fail2ban.actions        [{pid}]: NOTICE  [j1] Ban 192.0.2.1"));
        assert_eq!(&lines[1][24..], format!("fail2ban.filter         [{pid}]: INFO    [j1] Found \\u{{1b}}[31mred"));
    }

    #[test]
    fn rotation_is_followed_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let logger = Logger::open(&Target::File(path.clone()).into(), Level::INFO).unwrap();
        std::fs::rename(&path, folder.path().join("log.1")).unwrap();
        assert!(logger.reopen().unwrap());
        logger.log(Level::INFO, "server", "again");
        assert!(std::fs::read_to_string(&path).unwrap().ends_with("again\n"));
    }

    #[test]
    fn levels_have_names_and_numbers() {
        assert_eq!(Level::parse("notice"), Some(Level::NOTICE));
        assert_eq!(Level::parse("9"), Some(Level(9)));
        assert_eq!(Level::parse("bogus"), None);
        assert_eq!(Level(9).label(), "#09-Lev.");
    }
}
