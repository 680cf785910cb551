//! One open log file: blocks of whole lines, in bounded memory.
//!
//! Nothing of a file is kept between two reads but its position and the last bytes before it.
//! These are read again with each block: if they have changed, the file was rewritten in
//! place and is another log now. That sees a truncation also if the file has grown
//! beyond its old length since; only a new content with the same first line and the same
//! [`BACK`] bytes before the position goes unnoticed.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::encoding::{Codec, Encoding};
use super::position::{First, Position, read_full};
use crate::line::{Block, MAX_LINE};
use crate::time::Time;

/// Bytes read at once. Twice [`MAX_LINE`], so that a line that is too long covers the middle.
const BLOCK: usize = 2 * MAX_LINE;
/// Bytes before the position that have to stay as they are: mostly a line or two with their times.
const BACK: usize = 256;
/// A first line up to this length is compared whenever the file has changed.
const QUICK_FIRST_LINE: u32 = 4096;

/// Memory to read into; one for all logs of a thread.
#[derive(Debug)]
pub(super) struct Buffer {
    raw: Vec<u8>,
    text: Vec<u8>,
}

impl Buffer {
    pub(super) fn new() -> Buffer {
        Buffer { raw: vec![0; BACK + BLOCK], text: Vec::new() }
    }
}

/// What one read has brought.
#[derive(Debug)]
pub(super) enum Step<'b> {
    /// Lines, and where in the file they begin.
    Block { block: Block<'b>, start: u64 },
    /// Part of a line that is too long was passed over; there may be more.
    Skipped,
    /// Nothing new, or a line that is not complete.
    End,
    /// The content before the position is not what it was.
    Replaced,
}

/// An open file and how far it was read.
#[derive(Debug)]
pub(super) struct Stream {
    file: File,
    encoding: Encoding,
    /// Known once the file has begun.
    codec: Option<Codec>,
    device: u64,
    inode: u64,
    offset: u64,
    /// Inside of a line whose beginning was handed over, or was never seen.
    skipping: bool,
    first: First,
    back: [u8; BACK],
    back_length: u16,
}

impl Stream {
    /// Opens a regular file, at its beginning.
    pub(super) fn open(path: &Path, encoding: Encoding) -> io::Result<Stream> {
        // without O_NONBLOCK a FIFO of that name would block us for ever
        let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let mut stream = Stream {
            file,
            encoding,
            codec: None,
            device: metadata.dev(),
            inode: metadata.ino(),
            offset: 0,
            skipping: false,
            first: First::None,
            back: [0; BACK],
            back_length: 0,
        };
        stream.learn()?;
        Ok(stream)
    }

    pub(super) fn is(&self, metadata: &Metadata) -> bool {
        self.device == metadata.dev() && self.inode == metadata.ino()
    }

    pub(super) fn inode(&self) -> u64 {
        self.inode
    }

    pub(super) fn first(&self) -> First {
        self.first
    }

    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    pub(super) fn metadata(&self) -> io::Result<Metadata> {
        self.file.metadata()
    }

    pub(super) fn position_at(&self, offset: u64) -> Position {
        Position { inode: self.inode, hash: self.first.hex(), offset }
    }

    /// Goes on from another place. What is left of a line that begins before it is passed over.
    pub(super) fn seek(&mut self, offset: u64) -> io::Result<()> {
        let offset = offset.min(self.metadata()?.len());
        let mut before = [0; BACK];
        let length = offset.min(BACK as u64) as usize;
        let read = read_full(&self.file, &mut before[..length], offset - length as u64)?;
        self.offset = offset;
        self.back_length = read as u16;
        self.back = before;
        self.skipping = match self.codec {
            Some(codec) if offset > 0 => !before[..read].ends_with(codec.newline()),
            _ => false,
        };
        Ok(())
    }

    /// Whether the bytes before the other stream's position are the same in this file.
    pub(super) fn continues(&self, other: &Stream) -> bool {
        let length = usize::from(other.back_length);
        let mut before = [0; BACK];
        matches!(self.first, First::Line { .. })
            && self.first == other.first
            && read_full(&self.file, &mut before[..length], other.offset - length as u64)
                .is_ok_and(|read| read == length)
            && before[..length] == other.back[..length]
    }

    /// Whether a change shows at once that the file is another log now: it has become shorter
    /// than what was read, or begins with another line.
    pub(super) fn is_replaced(&self, size: u64) -> bool {
        if size < self.offset {
            return true;
        }
        match self.first {
            First::Line { length, .. } if length <= QUICK_FIRST_LINE => {
                self.codec.is_some_and(|codec| First::of(&self.file, codec).is_ok_and(|first| first != self.first))
            }
            _ => false,
        }
    }

    /// Starts again from the beginning, as with a new file.
    pub(super) fn restart(&mut self) -> io::Result<()> {
        self.offset = 0;
        self.back_length = 0;
        self.skipping = false;
        self.codec = None;
        self.first = First::None;
        self.learn()
    }

    /// Byte order and first line, if the file has them by now.
    fn learn(&mut self) -> io::Result<()> {
        let codec = match self.codec {
            Some(codec) => codec,
            None => {
                let mut start = [0; 4];
                let read = read_full(&self.file, &mut start, 0)?;
                let codec = self.encoding.codec(&start[..read]);
                if read < codec.unit() {
                    return Ok(());
                }
                *self.codec.insert(codec)
            }
        };
        if self.first == First::None {
            self.first = First::of(&self.file, codec)?;
        }
        Ok(())
    }

    /// The next lines. A block ends at `fence` if a line begins there.
    pub(super) fn read<'b>(&mut self, buffer: &'b mut Buffer, fence: Option<u64>) -> io::Result<Step<'b>> {
        let back = usize::from(self.back_length);
        let Buffer { raw, text } = buffer;
        let read = read_full(&self.file, &mut raw[..back + BLOCK], self.offset - back as u64)?;
        if read < back || raw[..back] != self.back[..back] {
            return Ok(Step::Replaced);
        }
        if read == back {
            return Ok(Step::End);
        }
        if self.codec.is_none() || self.first == First::None {
            self.learn()?;
        }
        let Some(codec) = self.codec else { return Ok(Step::End) };
        let data = &raw[back..read];
        if self.skipping {
            let end = codec.line_end(data, 0);
            let passed = end.unwrap_or(data.len() - data.len() % codec.unit());
            self.skipping = end.is_none();
            self.advance(raw, back + passed);
            return Ok(if passed == 0 { Step::End } else { Step::Skipped });
        }
        let start = self.offset;
        let fenced = fence
            .and_then(|fence| usize::try_from(fence.checked_sub(start)?).ok())
            .filter(|at| (1..=data.len()).contains(at) && data[..*at].ends_with(codec.newline()));
        let lines = &data[..fenced.unwrap_or(data.len())];
        let taken = if codec.is_unchanged() { take(lines) } else { convert(codec, lines, text) };
        Ok(match taken {
            Taken::Nothing => Step::End,
            Taken::Lines(end) => {
                self.advance(raw, back + end);
                let bytes = if codec.is_unchanged() { &raw[back..back + end] } else { &text[..] };
                Step::Block { block: Block { bytes, cut: false }, start }
            }
            Taken::Cut { consumed, complete } => {
                self.advance(raw, back + consumed);
                self.skipping = !complete;
                if codec.is_unchanged() {
                    raw[back + MAX_LINE] = b'\n';
                }
                let bytes = if codec.is_unchanged() { &raw[back..=back + MAX_LINE] } else { &text[..] };
                Step::Block { block: Block { bytes, cut: true }, start }
            }
        })
    }

    /// Moves the position to `end`, counted in the raw buffer.
    fn advance(&mut self, raw: &[u8], end: usize) {
        self.offset += (end - usize::from(self.back_length)) as u64;
        let length = end.min(BACK);
        self.back[..length].copy_from_slice(&raw[end - length..end]);
        self.back_length = length as u16;
    }

    /// The beginning of a line, at or after `from`, before which all lines are older than
    /// `time`, if times never decrease. Lines without a time do not count. Found by
    /// halving, with some 20 small reads in a file of gigabytes.
    pub(super) fn search(
        &self,
        from: u64,
        time: Time,
        time_of: &mut dyn FnMut(&[u8]) -> Option<Time>,
    ) -> io::Result<u64> {
        /// What is not worth another look.
        const NEAR: u64 = 32 * 1024;
        let Some(codec) = self.codec else { return Ok(from) };
        let unit = codec.unit() as u64;
        let mut chunk = vec![0; 64 * 1024];
        let mut text = Vec::new();
        let (mut low, mut high) = (from, self.metadata()?.len());
        while high.saturating_sub(low) > NEAR {
            let middle = (low + (high - low) / 2) / unit * unit;
            let read = read_full(&self.file, &mut chunk, middle)?;
            let data = &chunk[..read];
            // the first piece is mostly the end of a line
            let mut at = codec.line_end(data, 0);
            let mut found = None;
            while let Some(start) = at
                && middle + (start as u64) < high
                && let Some(end) = codec.line_end(data, start)
            {
                text.clear();
                codec.decode(&data[start..end], &mut text);
                if let Some(time) = time_of(text.strip_suffix(b"\n").unwrap_or(&text)) {
                    found = Some((middle + start as u64, time));
                    break;
                }
                at = Some(end);
            }
            match found {
                Some((start, found)) if found < time => low = start,
                // reading too much does no harm, too little does
                _ => high = middle,
            }
        }
        Ok(low)
    }
}

/// What can be handed over of some bytes.
enum Taken {
    /// No line is complete.
    Nothing,
    /// Lines up to here.
    Lines(usize),
    /// The beginning of one long line, and whether its newline was among what was consumed.
    Cut { consumed: usize, complete: bool },
}

/// For bytes that are handed over as they are.
fn take(data: &[u8]) -> Taken {
    let Some(end) = memchr::memrchr(b'\n', data).map(|at| at + 1) else {
        return if data.len() > MAX_LINE { Taken::Cut { consumed: MAX_LINE, complete: false } } else { Taken::Nothing };
    };
    if end > MAX_LINE {
        // a line that is too long covers the byte in the middle
        let start = memchr::memrchr(b'\n', &data[..MAX_LINE]).map_or(0, |at| at + 1);
        let stop = memchr::memchr(b'\n', &data[MAX_LINE..]).map_or(end, |at| MAX_LINE + at);
        if stop - start > MAX_LINE {
            return if start > 0 { Taken::Lines(start) } else { Taken::Cut { consumed: MAX_LINE, complete: false } };
        }
    }
    Taken::Lines(end)
}

/// For bytes that have to be converted; leaves the result in `text`.
fn convert(codec: Codec, data: &[u8], text: &mut Vec<u8>) -> Taken {
    let cut = |text: &mut Vec<u8>| {
        let mut end = MAX_LINE;
        while !text[end].is_ascii() && text[end] & 0xc0 == 0x80 {
            end -= 1;
        }
        text.truncate(end);
        text.push(b'\n');
    };
    text.clear();
    let mut done = 0;
    while let Some(end) = codec.line_end(data, done) {
        let before = text.len();
        codec.decode(&data[done..end], text);
        if text.len() - before > MAX_LINE + 1 {
            if done > 0 {
                text.truncate(before);
                break;
            }
            cut(text);
            return Taken::Cut { consumed: end, complete: true };
        }
        done = end;
        if text.len() >= BLOCK {
            break;
        }
    }
    if done > 0 {
        return Taken::Lines(done);
    }
    if data.len() <= MAX_LINE {
        return Taken::Nothing;
    }
    codec.decode(&data[..MAX_LINE], text);
    if text.len() > MAX_LINE {
        cut(text);
    } else {
        text.push(b'\n');
    }
    Taken::Cut { consumed: MAX_LINE, complete: false }
}
