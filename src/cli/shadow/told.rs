//! What a server's log tells of failures that it found: `[JAIL] Found ID - TIME`.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::time::Time;

/// So much is read at once, and of a line kept, in bytes.
const BLOCK: usize = 256 * 1024;

/// Jail, identifier and time of the failure that a message is about; `None` for all other messages.
#[must_use]
pub fn found<'a>(message: &'a str, zone: &TimeZone) -> Option<(&'a str, &'a str, Time)> {
    let (jail, rest) = message.strip_prefix('[')?.split_once("] Found ")?;
    let (id, time) = rest.rsplit_once(" - ")?;
    let time: DateTime = time.parse().ok()?;
    let time = zone.to_ambiguous_timestamp(time).compatible().ok()?;
    Some((jail, id, Time::from_seconds(time.as_second())))
}

/// The message of a line of Fail2Ban's log.
#[must_use]
pub fn message(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once("]: ")?;
    let (_level, message) = rest.split_once(' ')?;
    Some(message.trim_start())
}

/// A log that grows, from its present end on.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: File,
    rest: Vec<u8>,
}

impl Log {
    /// Begins at the end.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn open(path: &Path) -> std::io::Result<Log> {
        let mut file = File::open(path)?;
        if !file.metadata()?.is_file() {
            return Err(std::io::Error::other("it is not a file"));
        }
        file.seek(SeekFrom::End(0))?;
        Ok(Log { path: path.to_owned(), file, rest: Vec::new() })
    }

    /// Hands over each line that was added since.
    pub fn lines(&mut self, mut take: impl FnMut(&str)) {
        self.read(&mut take);
        // another file has come in its place, or it was emptied
        let (Ok(here), Ok(there)) = (self.file.metadata(), std::fs::metadata(&self.path)) else { return };
        let emptied = self.file.stream_position().is_ok_and(|position| position > here.len());
        if emptied || here.ino() != there.ino() || here.dev() != there.dev() {
            let Ok(file) = File::open(&self.path) else { return };
            (self.file, self.rest) = (file, Vec::new());
            self.read(&mut take);
        }
    }

    fn read(&mut self, take: &mut impl FnMut(&str)) {
        let mut block = vec![0; BLOCK];
        while let Ok(length @ 1..) = self.file.read(&mut block) {
            for part in block[..length].split_inclusive(|byte| *byte == b'\n') {
                if self.rest.len() < BLOCK {
                    self.rest.extend_from_slice(part);
                }
                if part.ends_with(b"\n") {
                    take(String::from_utf8_lossy(&self.rest).trim_end_matches('\n'));
                    self.rest.clear();
                }
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn only_failures_are_read_and_of_them_jail_id_and_time() {
        let start = "2026-11-24 01:57:05,231 fail2ban.filter         [14564]: INFO    ";
        let read = |rest: &str| {
            let line = format!("{start}{rest}");
            let (jail, id, time) = found(message(&line)?, &TimeZone::UTC)?;
            Some((jail.to_owned(), id.to_owned(), time.seconds()))
        };
        let expected = |id: &str| Some(("sshd".to_owned(), id.to_owned(), 1_795_485_425));
        assert_eq!(read("[sshd] Found 192.0.2.1 - 2026-11-24 01:57:05"), expected("192.0.2.1"));
        assert_eq!(read("[sshd] Found a - b]: c - 2026-11-24 01:57:05"), expected("a - b]: c"));
        assert_eq!(read("[sshd] Found 192.0.2.1, bad - 2026-11-24 01:57:05, 2 # -> 3.0"), None);
        assert_eq!(read("[sshd] Ban 192.0.2.1"), None);
        assert_eq!(message(""), None);
    }

    #[test]
    fn a_log_is_followed_through_a_rotation() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::fs::write(&path, "before\n").unwrap();
        let mut log = Log::open(&path).unwrap();
        let mut read = || {
            let mut all = Vec::new();
            log.lines(|line| all.push(line.to_owned()));
            all
        };
        let append = |text: &str| {
            std::fs::OpenOptions::new()
                .append(true)
                .create(true)
                .open(&path)
                .unwrap()
                .write_all(text.as_bytes())
                .unwrap();
        };
        append("one\ntw");
        assert_eq!(read(), ["one"]);
        append("o\nlast\n");
        std::fs::rename(&path, folder.path().join("log.1")).unwrap();
        append("three\n");
        assert_eq!(read(), ["two", "last", "three"]);
        std::fs::write(&path, "new\n").unwrap();
        // shorter than what was read of it
        assert_eq!(read(), ["new"]);
        assert_eq!(read(), Vec::<String>::new());
    }
}
