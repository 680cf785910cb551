//! The daemon's log in Fail2Ban's exact form.
//!
//! Other programs read it (the recidive filter, logwatch, monitoring), so names, widths and
//! levels are a contract: `2026-11-24 01:57:05,231 fail2ban.actions        [14564]: NOTICE  [j1] Ban 192.0.2.1`.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicI32, Ordering};

use crate::time::Time;

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

impl Target {
    /// Reads option `logtarget`; what is no key word is a path. Options in brackets are not used.
    #[must_use]
    pub fn parse(text: &str, syslogsocket: &str) -> Target {
        let name = text.split('[').next().unwrap_or(text).trim();
        match name.to_ascii_uppercase().as_str() {
            "STDOUT" => Target::Stdout,
            "SYSOUT" => Target::Sysout,
            "STDERR" => Target::Stderr,
            "SYSLOG" | "SYSTEMD-JOURNAL" => {
                let auto = syslogsocket.is_empty() || syslogsocket.eq_ignore_ascii_case("auto");
                Target::Syslog(if auto { "/dev/log" } else { syslogsocket }.into())
            }
            _ => Target::File(name.into()),
        }
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

enum Output {
    File(File, PathBuf),
    Stdout,
    Sysout,
    Stderr,
    Syslog(UnixDatagram),
    Null,
}

/// The log of one daemon; shared by all its parts.
pub struct Logger {
    level: AtomicI32,
    output: Mutex<Output>,
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
    pub fn open(target: &Target, level: Level) -> Result<Logger, Error> {
        Ok(Logger {
            level: AtomicI32::new(level.0),
            output: Mutex::new(open(target)?),
            zone: jiff::tz::TimeZone::system(),
            pid: std::process::id(),
        })
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
        let mut output = self.output.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Output::Syslog(socket) = &*output {
            messages.for_each(|(level, part, message)| _ = socket.send(self.datagram(level, part, message).as_bytes()));
            return;
        }
        let stamp = if matches!(*output, Output::Sysout) { String::new() } else { self.stamp() + " " };
        let mut text = String::new();
        for (level, part, message) in messages {
            let (label, message) = (level.label(), printable(message));
            // `fail2ban.` and the part fill 24 columns
            let _ = writeln!(text, "{stamp}fail2ban.{part:<15}[{}]: {label:<7} {message}", self.pid);
        }
        // a log that cannot be written must not stop the daemon; nor could it be said anywhere
        let _ = match &mut *output {
            Output::File(file, _) => file.write_all(text.as_bytes()),
            Output::Stdout | Output::Sysout => std::io::stdout().write_all(text.as_bytes()),
            Output::Stderr => std::io::stderr().write_all(text.as_bytes()),
            Output::Syslog(_) | Output::Null => Ok(()),
        };
    }

    /// A message for the syslog socket.
    fn datagram(&self, level: Level, part: &str, message: &str) -> String {
        let severity = match level.0 {
            50.. => 2,
            40.. => 3,
            30.. => 4,
            25.. => 5,
            20.. => 6,
            _ => 7,
        };
        let message = printable(message);
        format!("<{}>fail2ban.{part}[{}]: {} {message}\0", 24 + severity, self.pid, level.label())
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
    pub fn set_target(&self, target: &Target) -> Result<(), Error> {
        let new = open(target)?;
        *self.output.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = new;
        Ok(())
    }

    /// Opens the file anew by its name, after a rotation; true if the target is a file.
    ///
    /// # Errors
    /// If it cannot be opened; the old file stays in use.
    pub fn reopen(&self) -> Result<bool, Error> {
        let mut output = self.output.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let Output::File(_, path) = &*output else { return Ok(false) };
        let path = path.clone();
        *output = Output::File(append(&path)?, path);
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

fn open(target: &Target) -> Result<Output, Error> {
    Ok(match target {
        Target::File(path) => Output::File(append(path)?, path.clone()),
        Target::Stdout => Output::Stdout,
        Target::Sysout => Output::Sysout,
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
    })
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
        let logger = Logger::open(&Target::File(path.clone()), Level::INFO).unwrap();
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
        let logger = Logger::open(&Target::File(path.clone()), Level::INFO).unwrap();
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
