//! The systemd journal, by way of `journalctl`.
//!
//! A child process per set of options and matches writes entries in the export format into a
//! pipe. It does what a reader of our own would have to do as well: it follows files that
//! are rotated, deleted or new, checks them, decompresses them. We tell it by a cursor where to go on.
//!
//! ```text
//! follow     children: starts, waits for, replaces and ends them
//! export     their output                    -> entries
//! entry      one entry                       -> text
//! ```

use std::ffi::OsString;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::config::journal::{Journal, Matches};
use crate::line::Records;
use crate::time::Time;

mod entry;
mod export;
mod follow;

pub use entry::Entry;
pub use export::{Export, Malformed};
pub use follow::Journals;

/// The program that reads journals.
pub const PROGRAM: &str = "journalctl";
/// Where a journald listens.
const JOURNALD: &str = "/run/systemd/journal/socket";
/// Journals that are gone after a reboot.
const RUNTIME: &str = "/run/log/journal";
/// The fields that are read beside those that are always told.
const FIELDS: &str = "--output-fields=MESSAGE,_HOSTNAME,SYSLOG_IDENTIFIER,_COMM,SYSLOG_PID,_PID,\
                      _SOURCE_REALTIME_TIMESTAMP,_SOURCE_MONOTONIC_TIMESTAMP";

/// What is to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Which journal.
    pub journal: Journal,
    /// Which entries; all if there is no group.
    pub matches: Matches,
}

/// An entry that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The journal's name for it; empty if only the time is known.
    pub id: String,
    /// When the journal got it.
    pub time: Time,
}

/// Where reading begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// Behind this entry.
    pub after: Option<Cursor>,
    /// Without one, or if it is older: with what the journal got from then on.
    pub since: Time,
}

/// Some records, and whose they are.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> {
    /// The numbers of those who read this journal.
    pub tags: &'a [u64],
    /// The records.
    pub records: Records<'a>,
    /// The last of them.
    pub cursor: &'a Cursor,
}

/// Something about a journal that an administrator may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// It cannot be read, and why; it is tried again.
    Failed(String),
    /// It can be read again.
    Back,
}

/// Whether [`PROGRAM`] is installed.
#[must_use]
pub fn is_available() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    let is_program = |path: &Path| path.metadata().is_ok_and(|data| data.is_file() && data.mode() & 0o111 != 0);
    std::env::split_paths(&path).any(|folder| is_program(&folder.join(PROGRAM)))
}

/// Whether a journald writes the journal of this machine; true if another one is meant.
#[must_use]
pub fn is_written(journal: &Journal) -> bool {
    let other = journal.path.is_some() || !journal.files.is_empty() || journal.namespace.is_some();
    other || Path::new(JOURNALD).exists()
}

/// Where a child begins.
#[derive(Clone, Debug, PartialEq, Eq)]
enum From {
    Beginning,
    /// With this entry, or the one after it if it is gone.
    Cursor(String),
    Since(Time),
}

impl Spec {
    /// The program with all its arguments; `follow`: it does not end at the end of the journal.
    fn command(&self, from: &From, follow: bool) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(["--output=export", "--all", "--quiet", "--no-pager", FIELDS]);
        // without this, following is confined to the present boot; it includes entries of other machines
        command.arg("--merge");
        if follow {
            command.args(["--follow", "--no-tail"]);
        }
        let Journal { path, files, flags, namespace } = &self.journal;
        let with = |option: &str, value: &dyn AsRef<std::ffi::OsStr>| {
            let mut word = OsString::from(option);
            word.push(value);
            word
        };
        if !files.is_empty() {
            command.args(files.iter().map(|file| with("--file=", file)));
        } else if let Some(path) = path {
            command.arg(with("--directory=", path));
        } else if let Some(namespace) = namespace {
            command.arg(with("--namespace=", namespace));
        } else if flags & Journal::RUNTIME != 0 {
            command.arg(with("--directory=", &RUNTIME));
        }
        if flags & Journal::SYSTEM != 0 {
            command.arg("--system");
        }
        if flags & Journal::USER != 0 {
            command.arg("--user");
        }
        match from {
            From::Beginning => {}
            From::Cursor(cursor) => _ = command.arg(with("--cursor=", cursor)),
            From::Since(time) => _ = command.arg(format!("--since=@{}", time.seconds().max(0))),
        }
        command.arg("--").args(self.terms());
        // its messages are read; the zone is of no interest
        command.env("LC_ALL", "C.UTF-8").env("SYSTEMD_COLORS", "0");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// The groups as one expression.
    fn terms(&self) -> Vec<String> {
        let machine = (self.journal.flags & Journal::LOCAL != 0).then(machine).flatten();
        let mut terms: Vec<String> = Vec::new();
        for group in &self.matches {
            for part in group.split(|word| word == "+").filter(|part| !part.is_empty()) {
                if !terms.is_empty() {
                    terms.push("+".to_owned());
                }
                terms.extend_from_slice(part);
                terms.extend(machine.clone());
            }
        }
        if terms.is_empty() { machine.into_iter().collect() } else { terms }
    }
}

/// The match for entries of this machine.
fn machine() -> Option<String> {
    let id = std::fs::read_to_string("/etc/machine-id").ok()?;
    let id = id.trim();
    (id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| format!("_MACHINE_ID={id}"))
}

/// Reads all entries that are there; `each` says whether it wants more. What the child has to
/// say goes to our own stderr.
///
/// # Errors
/// The child cannot be started, fails, or does not write what it should.
pub fn read_all(spec: &Spec, each: &mut dyn FnMut(&Entry) -> bool) -> io::Result<()> {
    let mut child = spec.command(&From::Beginning, false).stderr(Stdio::inherit()).spawn()?;
    let read = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe.into()).and_then(|mut out| {
        let (mut export, mut more, mut buffer) = (Export::default(), true, vec![0; 64 * 1024]);
        while more {
            let read = match out.read(&mut buffer) {
                Ok(0) => return Ok(true),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let fed = export.feed(&buffer[..read], &mut |entry| more = more && each(entry));
            fed.map_err(io::Error::other)?;
        }
        Ok(false)
    });
    if !matches!(read, Ok(true)) {
        // fails only if it has ended
        let _ = child.kill();
    }
    let status = child.wait()?;
    match read {
        Ok(true) if !status.success() => Err(io::Error::other(format!("it ended with {status}"))),
        other => other.map(|_| ()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(groups: &[&[&str]]) -> String {
        let matches = groups.iter().map(|group| group.iter().map(|word| (*word).to_owned()).collect()).collect();
        Spec { journal: Journal::default(), matches }.terms().join(" ")
    }

    #[test]
    fn groups_are_alternatives() {
        assert_eq!(terms(&[]), "");
        assert_eq!(terms(&[&["A=1", "B=2"]]), "A=1 B=2");
        assert_eq!(terms(&[&["A=1", "+", "B=2"], &["C=3"]]), "A=1 + B=2 + C=3");
        assert_eq!(terms(&[&["+"], &["+", "A=1", "+", "+"], &[]]), "A=1");
    }
}
