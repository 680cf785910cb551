//! A log file on a disk that may be full.
//!
//! A line that could be written only in part is finished before anything else, or it would become
//! one with the next. Whole lines wait in memory as well, as far as there is room for them; what
//! there was none for is counted, and said in its place.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;

/// Bytes that wait until the disk has room again.
const MAX_WAITING: usize = 1024 * 1024;

/// The open file.
#[derive(Debug)]
pub(super) struct Lines {
    file: File,
    /// What could not be written.
    waiting: Vec<u8>,
    /// The first of it is the rest of a line.
    torn: bool,
    /// Lines behind it that are lost.
    lost: usize,
}

impl Lines {
    pub(super) fn new(file: File) -> Lines {
        Lines { file, waiting: Vec::new(), torn: false, lost: 0 }
    }

    /// Appends whole lines; `note` makes one that says how many are missing before them.
    pub(super) fn write(&mut self, lines: &str, note: impl FnOnce(usize) -> String) {
        if !self.waiting.is_empty() {
            let waiting = std::mem::take(&mut self.waiting);
            let sent = self.send(&waiting);
            self.waiting = waiting;
            self.waiting.drain(..sent);
        }
        if self.waiting.is_empty() && self.lost > 0 {
            let note = note(std::mem::take(&mut self.lost));
            self.append(&note);
        }
        self.append(lines);
    }

    fn append(&mut self, lines: &str) {
        let sent = if self.waiting.is_empty() { self.send(lines.as_bytes()) } else { 0 };
        let rest = &lines.as_bytes()[sent..];
        if rest.is_empty() {
            return;
        }
        // nothing may pass those that are lost
        let room = if self.lost > 0 { 0 } else { MAX_WAITING.saturating_sub(self.waiting.len()).min(rest.len()) };
        let kept = memchr::memrchr(b'\n', &rest[..room]).map_or(0, |end| end + 1);
        self.waiting.extend_from_slice(&rest[..kept]);
        self.lost += memchr::memchr_iter(b'\n', &rest[kept..]).count();
    }

    /// Writes as much as can be written; that many bytes.
    fn send(&mut self, bytes: &[u8]) -> usize {
        let mut sent = 0;
        while sent < bytes.len() {
            match self.file.write(&bytes[sent..]) {
                Ok(0) => break,
                Ok(more) => sent += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // a log that cannot be written must not stop the daemon; nor could it be said anywhere
                Err(_) => break,
            }
        }
        if sent > 0 {
            self.torn = bytes[sent - 1] != b'\n';
        }
        sent
    }

    /// Goes on in a file that was opened by the same name. The rest of a line is of use only where
    /// its beginning is.
    pub(super) fn go_on(&mut self, file: File) {
        let inode = |file: &File| file.metadata().map(|data| (data.dev(), data.ino())).ok();
        if self.torn && inode(&file) != inode(&self.file) {
            let rest = memchr::memchr(b'\n', &self.waiting).map_or(self.waiting.len(), |end| end + 1);
            self.waiting.drain(..rest);
            self.torn = false;
        }
        self.file = file;
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;
    use std::fs::OpenOptions;

    fn say(lost: usize) -> String {
        format!("{lost} lost\n")
    }

    #[test]
    fn what_does_not_fit_into_memory_either_is_counted_and_said_in_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut lines = Lines::new(full);
        let line = "x".repeat(1023) + "\n";
        for _ in 0..MAX_WAITING / 1024 + 10 {
            lines.write(&line, say);
        }
        assert_eq!((lines.waiting.len(), lines.lost), (MAX_WAITING, 10));
        lines.go_on(OpenOptions::new().append(true).create(true).open(&path).unwrap());
        lines.write("after\n", say);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.len(), MAX_WAITING + "10 lost\nafter\n".len());
        assert!(text.ends_with("x\n10 lost\nafter\n"));
        assert!(lines.waiting.is_empty() && lines.lost == 0);
    }
}
