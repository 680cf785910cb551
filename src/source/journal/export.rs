//! The journal's export format (<https://systemd.io/JOURNAL_EXPORT_FORMATS/>), in bounded memory.
//!
//! A field is `NAME=text` and a newline, or `NAME`, a newline, the length of the value as eight bytes
//! (little-endian), the value and a newline. An empty line ends an entry.

use super::entry::{Entry, Field};

/// Longest name of a field, in bytes; the journal allows 64.
const MAX_NAME: usize = 128;

/// What was written is not the export format; nothing after that can be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its output is not in the export format")]
pub struct Malformed;

/// A reader of the format that is given its bytes in pieces of any length.
#[derive(Debug, Default)]
pub struct Export {
    at: At,
    /// A name or length of which not all is there.
    held: Vec<u8>,
    entry: Entry,
}

/// What comes next.
#[derive(Clone, Copy, Debug, Default)]
enum At {
    #[default]
    Name,
    Text(Field),
    Length(Field),
    /// So many bytes of a value.
    Binary(Field, u64),
    Newline,
}

impl Export {
    /// Reads on; whole entries go to `done`.
    ///
    /// # Errors
    /// The bytes are no export.
    pub fn feed(&mut self, mut bytes: &[u8], done: &mut dyn FnMut(&Entry)) -> Result<(), Malformed> {
        while !bytes.is_empty() {
            match self.at {
                At::Name => {
                    let Some(end) = memchr::memchr2(b'=', b'\n', bytes) else {
                        self.hold(bytes)?;
                        return Ok(());
                    };
                    self.hold(&bytes[..end])?;
                    let is_text = bytes[end] == b'=';
                    bytes = &bytes[end + 1..];
                    if self.held.is_empty() {
                        if is_text {
                            return Err(Malformed);
                        }
                        done(&self.entry);
                        self.entry.clear();
                        continue;
                    }
                    let field = self.entry.begin(&self.held);
                    self.held.clear();
                    self.at = if is_text { At::Text(field) } else { At::Length(field) };
                }
                At::Text(field) => {
                    let end = memchr::memchr(b'\n', bytes);
                    self.entry.push(field, &bytes[..end.unwrap_or(bytes.len())]);
                    let Some(end) = end else { return Ok(()) };
                    bytes = &bytes[end + 1..];
                    self.at = At::Name;
                }
                At::Length(field) => {
                    let (part, rest) = bytes.split_at(bytes.len().min(8 - self.held.len()));
                    self.held.extend_from_slice(part);
                    bytes = rest;
                    if let Ok(length) = <[u8; 8]>::try_from(&*self.held) {
                        self.held.clear();
                        self.at = At::Binary(field, u64::from_le_bytes(length));
                    }
                }
                At::Binary(_, 0) => self.at = At::Newline,
                At::Binary(field, left) => {
                    let length = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    let (part, rest) = bytes.split_at(length);
                    self.entry.push(field, part);
                    bytes = rest;
                    self.at = At::Binary(field, left - length as u64);
                }
                At::Newline => {
                    if bytes[0] != b'\n' {
                        return Err(Malformed);
                    }
                    bytes = &bytes[1..];
                    self.at = At::Name;
                }
            }
        }
        Ok(())
    }

    fn hold(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        if self.held.len() + bytes.len() > MAX_NAME {
            return Err(Malformed);
        }
        self.held.extend_from_slice(bytes);
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;
    use crate::line::MAX_LINE;

    fn binary(name: &str, value: &[u8]) -> Vec<u8> {
        let mut out = format!("{name}\n").into_bytes();
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
        out.extend_from_slice(value);
        out.push(b'\n');
        out
    }

    fn texts(bytes: &[u8], piece: usize) -> Result<Vec<(String, bool)>, Malformed> {
        let mut export = Export::default();
        let mut found = Vec::new();
        for part in bytes.chunks(piece) {
            export.feed(part, &mut |entry| {
                let mut text = Vec::new();
                let cut = entry.write(&mut text);
                found.push((String::from_utf8_lossy(&text).into_owned(), cut));
            })?;
        }
        Ok(found)
    }

    #[test]
    fn entries_are_the_same_in_whatever_pieces_they_come() {
        let bytes = [
            b"__CURSOR=c1\n_HOSTNAME=h\nMESSAGE=a=b\n_PID=1\nSYSLOG_IDENTIFIER=x\n\n_HOSTNAME=h\n".to_vec(),
            binary("MESSAGE", b"one\n\n__CURSOR=no\ntwo\n"),
            binary("OTHER", &[0; 300]),
            b"\n\n".to_vec(),
        ]
        .concat();
        let whole = texts(&bytes, bytes.len()).unwrap();
        assert_eq!(whole[0], ("h x[1]: a=b".to_owned(), false));
        assert_eq!(whole[1], ("h one\\n\\n__CURSOR=no\\ntwo\\n".to_owned(), false));
        for piece in 1..40 {
            assert_eq!(texts(&bytes, piece).unwrap(), whole, "{piece}");
        }
    }

    #[test]
    fn what_is_too_long_is_cut_and_what_follows_is_read() {
        let long = vec![b'a'; 2 * MAX_LINE];
        for message in [binary("MESSAGE", &long), [b"MESSAGE=".to_vec(), long.clone(), b"\n".to_vec()].concat()] {
            let bytes = [message, b"\nMESSAGE=next\n\n".to_vec()].concat();
            let found = texts(&bytes, 1000).unwrap();
            assert_eq!((found[0].0.len(), found[0].1), (MAX_LINE, true));
            assert_eq!(found[1], ("next".to_owned(), false));
        }
    }

    #[test]
    fn what_is_no_export_is_refused() {
        let endless = vec![b'A'; 1000];
        for bytes in [&b"=x\n"[..], b"A\n\x01\0\0\0\0\0\0\0xy", &endless] {
            assert_eq!(texts(bytes, 7), Err(Malformed));
        }
        // a length that nobody can have is waited for, without memory for it
        let huge = [b"A\n".to_vec(), vec![0xff; 8], vec![b'x'; 100_000]].concat();
        assert_eq!(texts(&huge, 4096), Ok(Vec::new()));
    }
}
