//! Logs as blocks of whole lines: plain or compressed files, the standard input, or a text.
//!
//! Rotated logs are mostly compressed; what a file is, its first bytes say. Memory stays
//! bounded whatever an archive claims, and a damaged one gives the lines before the damage.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::rc::Rc;
use std::{cell::Cell, fmt};

use crate::line::MAX_LINE;
use crate::source::encoding::{Codec, Encoding};
use crate::source::journal;

/// So much is read at once; at least one longest line with its newline.
const BLOCK: usize = 256 * 1024;
/// Largest dictionary an .xz file may ask for, in KiB; `xz -9` takes 64 MiB.
const XZ_MEMORY: u32 = 200 * 1024;
/// Largest window a .zst file may ask for, in bytes; `zstd -19` takes 8 MiB, `--long` 128 MiB.
const ZSTD_WINDOW: u64 = 128 << 20;

/// Where lines come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Log {
    /// A file, perhaps compressed.
    File(String),
    /// The standard input, perhaps compressed.
    Stdin,
    /// Lines as they were typed.
    Text(Vec<String>),
    /// A systemd journal.
    Journal(journal::Spec),
}

/// Why a log could not be read to its end.
#[derive(Debug, thiserror::Error)]
#[error("{what} `{name}`")]
pub struct Error {
    /// What happened to it.
    what: &'static str,
    /// The file.
    name: String,
    source: io::Error,
}

impl Error {
    /// The error with its cause, in one line.
    #[must_use]
    pub fn told(&self) -> String {
        format!("{self}: {}", self.source)
    }
}

/// Counts the bytes read from files, before they are decompressed.
#[derive(Clone, Debug, Default)]
pub struct Progress(Rc<Cell<u64>>);

impl Progress {
    /// Bytes so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.get()
    }
}

struct Counted<R> {
    inner: R,
    progress: Progress,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.progress.0.set(self.progress.bytes() + read as u64);
        Ok(read)
    }
}

/// One log, read block by block.
pub struct Reader {
    name: String,
    compressed: bool,
    inner: Box<dyn Read>,
    /// A block, and room for a newline.
    buffer: Vec<u8>,
    /// The part of the buffer that was read and not yet handed out.
    start: usize,
    end: usize,
    /// Lines are handed out as soon as they are there.
    eager: bool,
    eof: bool,
    failed: Option<io::Error>,
    /// The rest of a line that was too long is passed over.
    skipping: bool,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Reads a journal; `each` says whether it wants more.
///
/// # Errors
/// If it cannot be read to its end.
pub fn each_entry(spec: &journal::Spec, each: &mut dyn FnMut(&journal::Entry) -> bool) -> Result<(), Error> {
    let failed = |source| Error { what: "cannot read the journal by", name: journal::PROGRAM.to_owned(), source };
    journal::read_all(spec, each).map_err(failed)
}

/// Whole lines, each with its newline.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a> {
    /// The lines.
    pub bytes: &'a [u8],
    /// Whether the only line in it was longer than [`MAX_LINE`] and lost its end.
    pub cut: bool,
    /// Whether the only line in it had no newline, because the log ends there.
    pub unfinished: bool,
}

impl Reader {
    /// Opens a log.
    ///
    /// # Errors
    /// If it cannot be opened, or its first bytes cannot be read.
    pub fn open(log: &Log, encoding: Encoding, progress: &Progress) -> Result<Reader, Error> {
        let name = match log {
            Log::File(path) => path.clone(),
            Log::Stdin => "standard input".to_owned(),
            Log::Text(_) => "text".to_owned(),
            Log::Journal(_) => "journal".to_owned(),
        };
        let failed = |source| Error { what: "cannot read", name: name.clone(), source };
        let raw: Box<dyn Read> = match log {
            Log::File(path) => Box::new(File::open(path).map_err(failed)?),
            Log::Stdin => Box::new(io::stdin()),
            // it has no lines; see `each_entry`
            Log::Journal(_) => Box::new(io::empty()),
            Log::Text(lines) => {
                let mut text = lines.join("\n");
                text.push('\n');
                Box::new(io::Cursor::new(text.into_bytes()))
            }
        };
        let mut counted = Counted { inner: raw, progress: progress.clone() };
        let start = beginning(&mut counted).map_err(failed)?;
        let is_text = matches!(log, Log::Text(_));
        let rest = io::Cursor::new(start.clone()).chain(counted);
        let (compressed, mut inner) = if is_text { (false, Box::new(rest) as _) } else { decompressed(&start, rest) };
        let codec = match encoding {
            // A byte order mark lies behind the compression.
            Encoding::Utf16(None) | Encoding::Utf32(None) => {
                let start = beginning(&mut inner).map_err(failed)?;
                let codec = encoding.codec(&start);
                inner = Box::new(io::Cursor::new(start).chain(inner));
                codec
            }
            other => other.codec(&[]),
        };
        if !is_text && !codec.is_unchanged() {
            inner = Box::new(Transcoded { inner, codec, raw: Vec::new(), text: io::Cursor::default(), eof: false });
        }
        Ok(Reader {
            name,
            compressed,
            inner,
            buffer: vec![0; BLOCK + 1],
            start: 0,
            end: 0,
            eager: *log == Log::Stdin,
            eof: false,
            failed: None,
            skipping: false,
        })
    }

    /// What the log is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether lines are to be dealt with as they come.
    #[must_use]
    pub fn is_eager(&self) -> bool {
        self.eager
    }

    /// The next lines; none at the end.
    ///
    /// # Errors
    /// If reading fails or an archive is damaged. All whole lines before that have been handed out.
    pub fn block(&mut self) -> Result<Option<Block<'_>>, Error> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        loop {
            self.fill();
            let newline = memchr::memrchr(b'\n', &self.buffer[..self.end]);
            if self.skipping {
                let first = memchr::memchr(b'\n', &self.buffer[..self.end]);
                let from = first.map_or(self.end, |at| at + 1);
                self.buffer.copy_within(from..self.end, 0);
                self.end -= from;
                if first.is_some() || self.eof || self.failed.is_some() {
                    self.skipping = false;
                }
                continue;
            }
            let (end, cut, unfinished) = match newline {
                Some(newline) => (newline, false, false),
                None if self.end > MAX_LINE => {
                    self.skipping = true;
                    (MAX_LINE, true, false)
                }
                None => match self.failed.take() {
                    Some(source) => {
                        self.eof = true;
                        self.end = 0;
                        let what = if self.compressed { "damaged archive" } else { "cannot read" };
                        return Err(Error { what, name: self.name.clone(), source });
                    }
                    None if self.end == 0 => return Ok(None),
                    None => (self.end, false, true),
                },
            };
            self.start = if cut || unfinished { self.end } else { end + 1 };
            self.buffer[end] = b'\n';
            return Ok(Some(Block { bytes: &self.buffer[..=end], cut, unfinished }));
        }
    }

    /// Reads until the buffer is full, or the log has no more.
    fn fill(&mut self) {
        while !self.eof && self.failed.is_none() && self.end < BLOCK {
            match self.inner.read(&mut self.buffer[self.end..BLOCK]) {
                Ok(0) => self.eof = true,
                Ok(read) => {
                    self.end += read;
                    if self.eager && self.buffer[self.end - read..self.end].contains(&b'\n') {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => self.failed = Some(error),
            }
        }
    }
}

/// The first bytes, as many as tell what they are.
fn beginning(reader: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut start = Vec::with_capacity(8);
    reader.take(6).read_to_end(&mut start)?;
    Ok(start)
}

/// By its first bytes: gzip, bzip2, xz, Zstandard or none.
fn decompressed(start: &[u8], rest: impl Read + 'static) -> (bool, Box<dyn Read>) {
    let buffered = BufReader::with_capacity(64 * 1024, rest);
    if start.starts_with(&[0x1f, 0x8b]) {
        (true, Box::new(flate2::bufread::MultiGzDecoder::new(buffered)))
    } else if start.starts_with(b"BZh") && start.get(3).is_some_and(u8::is_ascii_digit) {
        (true, Box::new(bzip2::bufread::MultiBzDecoder::new(buffered)))
    } else if start.starts_with(&[0xfd, b'7', b'z', b'X', b'Z', 0]) {
        (true, Box::new(lzma_rust2::XzReader::new_mem_limit(buffered, true, XZ_MEMORY)))
    } else if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        (true, Box::new(Zstd::new(buffered)))
    } else {
        (false, Box::new(buffered.into_inner()))
    }
}

/// Any number of Zstandard frames, one after the other.
struct Zstd<R> {
    source: R,
    decoder: ruzstd::decoding::FrameDecoder,
    running: bool,
}

impl<R: io::BufRead> Zstd<R> {
    fn new(source: R) -> Zstd<R> {
        let mut decoder = ruzstd::decoding::FrameDecoder::new();
        decoder.set_max_window_size(ZSTD_WINDOW);
        Zstd { source, decoder, running: false }
    }
}

impl<R: io::BufRead> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        use ruzstd::decoding::BlockDecodingStrategy::UptoBlocks;
        use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
        loop {
            if !self.running {
                if self.source.fill_buf()?.is_empty() {
                    return Ok(0);
                }
                match self.decoder.init(&mut self.source) {
                    Ok(()) => self.running = true,
                    Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                        length, ..
                    })) => {
                        io::copy(&mut (&mut self.source).take(length.into()), &mut io::sink())?;
                        continue;
                    }
                    Err(error) => return Err(io::Error::other(error)),
                }
            }
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                self.decoder.decode_blocks(&mut self.source, UptoBlocks(1)).map_err(io::Error::other)?;
            }
            let read = self.decoder.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            self.running = false;
        }
    }
}

/// Text in an encoding in which bytes are not characters, as UTF-8.
struct Transcoded {
    inner: Box<dyn Read>,
    codec: Codec,
    raw: Vec<u8>,
    text: io::Cursor<Vec<u8>>,
    eof: bool,
}

impl Read for Transcoded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.text.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            let end = match self.codec.line_end(&self.raw, 0) {
                Some(end) => end,
                // Longer than any line that is matched whole: in parts then.
                None if self.raw.len() > 4 * (MAX_LINE + 2) => self.raw.len() / 4 * 4,
                None if self.eof && self.raw.is_empty() => return Ok(0),
                None if self.eof => self.raw.len(),
                None => {
                    let before = self.raw.len();
                    (&mut self.inner).take(64 * 1024).read_to_end(&mut self.raw)?;
                    self.eof = self.raw.len() == before;
                    continue;
                }
            };
            // As many whole lines as there are.
            let mut end = end;
            while let Some(next) = self.codec.line_end(&self.raw, end) {
                end = next;
            }
            let mut text = std::mem::take(&mut self.text).into_inner();
            text.clear();
            self.codec.decode(&self.raw[..end], &mut text);
            self.raw.drain(..end);
            self.text = io::Cursor::new(text);
        }
    }
}

/// The lines of a block without their ends, and the bytes of each with them.
pub fn lines(block: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = block;
    std::iter::from_fn(move || {
        let end = memchr::memchr(b'\n', rest)?;
        let (line, after) = rest.split_at(end);
        rest = &after[1..];
        let kept = line.iter().rposition(|byte| *byte != b'\r').map_or(0, |at| at + 1);
        Some(&line[..kept])
    })
}
