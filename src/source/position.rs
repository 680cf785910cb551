//! Where to go on reading a log after a restart.
//!
//! A log is known again by its first line: the SHA-1 of that line's bytes with its newline, as
//! Fail2Ban's database keeps it (in a column that is called `md5`). The inode finds a log that
//! was renamed in the meantime.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use sha1::{Digest as _, Sha1};

use super::encoding::Codec;

/// A first line longer than this, in bytes, gives no hash.
const MAX_FIRST_LINE: usize = 1 << 20;

/// How far a log was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Inode of the file; 0 if unknown.
    pub inode: u64,
    /// SHA-1 of the first line in hex; empty as long as there is no complete line.
    pub hash: Arc<str>,
    /// Bytes read, up to the end of a line (or inside of one that is too long).
    pub offset: u64,
}

/// The first line of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum First {
    /// Not complete yet.
    None,
    /// Longer than [`MAX_FIRST_LINE`].
    TooLong,
    /// Its hash and its length with the newline.
    Line { hash: [u8; 20], length: u32 },
}

impl First {
    /// Reads the first line of a file.
    pub(super) fn of(file: &File, codec: Codec) -> io::Result<First> {
        let mut hash = Sha1::new();
        let mut chunk = [0; 4096];
        let mut length = 0;
        loop {
            let read = read_full(file, &mut chunk, length as u64)?;
            let bytes = &chunk[..read];
            if let Some(end) = codec.line_end(bytes, 0) {
                hash.update(&bytes[..end]);
                return Ok(First::Line { hash: hash.finalize().into(), length: (length + end) as u32 });
            }
            if read < chunk.len() {
                return Ok(First::None);
            }
            hash.update(bytes);
            length += read;
            if length >= MAX_FIRST_LINE {
                return Ok(First::TooLong);
            }
        }
    }

    /// The hash in hex, or an empty text.
    pub(super) fn hex(self) -> Arc<str> {
        use std::fmt::Write as _;
        let mut hex = String::new();
        if let First::Line { hash, .. } = self {
            for byte in hash {
                let _ = write!(hex, "{byte:02x}");
            }
        }
        hex.into()
    }
}

/// Whether a file with this first line, inode and size is the one that was read up to `saved`.
pub(super) fn is_same(saved: &Position, first: First, inode: u64, size: u64) -> bool {
    saved.offset <= size
        && match first {
            First::Line { .. } => *saved.hash == *first.hex(),
            // nothing but the inode speaks for it; a file without a complete line is read from its start
            First::TooLong => saved.hash.is_empty() && saved.inode == inode,
            First::None => false,
        }
}

/// Reads until the buffer is full or the file ends.
pub(super) fn read_full(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
