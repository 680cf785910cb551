//! One followed path: which file it means at the moment, and who wants its lines.
//!
//! A file that was renamed or deleted is read to its end first, and is looked at for another
//! [`GRACE`]: who writes it mostly goes on for a moment. Fail2Ban loses those lines.
//!
//! What is lost nevertheless: the part of a file that was truncated or deleted before it was
//! read (a deleted one is read on if it was open already); a file that was renamed to and away
//! from the path between two looks; after a restart, a file that is no longer beside the path.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use inotify::WatchDescriptor;

use super::encoding::Encoding;
use super::file::{Buffer, Step, Stream};
use super::position::{self, Position};
use crate::line::Block;
use crate::time::Time;

/// How long a file is looked at after another one has taken its place.
const GRACE: Duration = Duration::from_secs(30);
/// Rotated files of one log that are open at the same time.
const MAX_PREVIOUS: usize = 4;
/// Directory entries that are looked at for a file that was renamed while nobody followed it.
const MAX_SIBLINGS: usize = 10_000;

/// Somebody who gets the lines of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// The number it was added with.
    pub tag: u64,
    /// Whether the end of the log was reached once with something read (or reading began there).
    pub in_operation: bool,
}

/// Some lines of a log.
#[derive(Debug)]
pub struct Delivery<'a> {
    /// The path as it was asked for.
    pub path: &'a Arc<Path>,
    /// Who gets them.
    pub members: &'a [Member],
    /// The lines.
    pub block: Block<'a>,
    /// Where to go on after a restart, once these lines are dealt with.
    pub position: Position,
}

/// Something that happened to a log.
#[derive(Debug)]
#[non_exhaustive]
pub enum Note {
    /// There is no such file any more, or not yet; it is waited for.
    Gone,
    /// It is there again.
    Back,
    /// The path means another file now, which is read from its beginning.
    Rotated,
    /// The file was rewritten in place and is read from its beginning.
    Truncated,
    /// It cannot be read; that is tried again.
    Failed(io::Error),
}

/// Where reading of a file begins, and whether it is the one that was read before.
fn place(stream: &Stream, metadata: &Metadata, from: &From) -> (u64, bool) {
    match from {
        From::End => (metadata.len(), false),
        From::Saved(Some(saved)) if position::is_same(saved, stream.first(), stream.inode(), metadata.len()) => {
            (saved.offset, true)
        }
        From::Saved(_) => (0, false),
    }
}

/// Where a [`Follower`](super::Follower) would begin to read a file: at its end if `tail`, else where it
/// was left according to `saved`, else at its beginning.
///
/// # Errors
/// It is no regular file, or cannot be read.
pub fn beginning(path: &Path, encoding: Encoding, tail: bool, saved: Option<&Position>) -> io::Result<Position> {
    let stream = Stream::open(path, encoding)?;
    let from = if tail { From::End } else { From::Saved(saved.cloned()) };
    let (offset, _) = place(&stream, &stream.metadata()?, &from);
    Ok(stream.position_at(offset))
}

/// A log that was just opened.
#[derive(Debug)]
pub struct Opened<'a> {
    /// The path as it was asked for.
    pub path: &'a Path,
    /// Where reading begins, with the hash of the first line.
    pub position: Position,
    /// Whether reading begins at the end because that was asked for.
    pub tail: bool,
    stream: &'a Stream,
}

impl Opened<'_> {
    /// Passes over lines that are certainly older than `time`, if the times of the log never
    /// decrease. `time_of` tells the time of a line, without its newline, or `None`.
    ///
    /// # Errors
    /// The file cannot be read; the position stays.
    pub fn search(&mut self, time: Time, mut time_of: impl FnMut(&[u8]) -> Option<Time>) -> io::Result<()> {
        self.position.offset = self.stream.search(self.position.offset, time, &mut time_of)?;
        Ok(())
    }
}

/// Where a member begins.
#[derive(Clone, Debug)]
pub(super) enum From {
    /// At the end of the file.
    End,
    /// At the beginning, or where it was left.
    Saved(Option<Position>),
}

/// An open file, and what its members do not want of it.
#[derive(Debug)]
pub(super) struct Source {
    stream: Stream,
    /// Tags whose lines begin at an offset that is yet to come.
    not_before: Vec<(u64, u64)>,
    pub(super) watch: Option<WatchDescriptor>,
}

impl Source {
    fn new(stream: Stream) -> Source {
        Source { stream, not_before: Vec::new(), watch: None }
    }

    fn begins(&self, tag: u64) -> u64 {
        let begin = self.not_before.iter().find(|(other, _)| *other == tag).map_or(0, |(_, offset)| *offset);
        begin.max(self.stream.offset())
    }

    /// Reads on from an earlier place for the sake of one member; the others miss nothing and
    /// get nothing twice.
    fn begin(&mut self, tag: u64, offset: u64, others: &[Member]) -> io::Result<()> {
        self.not_before.retain(|(other, _)| *other != tag);
        let current = self.stream.offset();
        if others.is_empty() {
            return self.stream.seek(offset);
        }
        if offset < current {
            for member in others {
                if !self.not_before.iter().any(|(other, _)| *other == member.tag) {
                    self.not_before.push((member.tag, current));
                }
            }
            self.stream.seek(offset)?;
        } else if offset > current {
            self.not_before.push((tag, offset));
        }
        Ok(())
    }

    fn read<'b>(&mut self, buffer: &'b mut Buffer) -> io::Result<Step<'b>> {
        let offset = self.stream.offset();
        self.not_before.retain(|(_, begin)| *begin > offset);
        let fence = self.not_before.iter().map(|(_, begin)| *begin).min();
        self.stream.read(buffer, fence)
    }
}

/// A file that had the path before.
#[derive(Debug)]
struct Previous {
    source: Source,
    until: Instant,
    /// The last read found nothing more.
    ended: bool,
}

/// One followed path.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) path: Arc<Path>,
    pub(super) encoding: Encoding,
    /// In the order they were added, and whether they got something since the last end.
    members: Vec<(Member, bool)>,
    joining: Vec<(u64, From)>,
    pub(super) current: Option<Source>,
    previous: Vec<Previous>,
    missing: bool,
    /// The current file was seen to be rewritten.
    replaced: bool,
    /// The last attempt failed, and that was said.
    failing: bool,
    /// Memory for the members of one delivery.
    receivers: Vec<Member>,
    /// Watches of files that are no longer read.
    pub(super) stale: Vec<WatchDescriptor>,
    /// In the queue of the follower.
    pub(super) queued: bool,
    /// The path may mean another file now, or the file has changed.
    pub(super) changed: bool,
    /// Changes cannot be seen through the kernel.
    pub(super) unwatched: bool,
    /// What the last look at the path showed.
    seen: Option<(u64, u64, u64, i64, i64)>,
}

impl Log {
    pub(super) fn new(path: &Path, encoding: Encoding) -> Log {
        Log {
            path: path.into(),
            encoding,
            members: Vec::new(),
            joining: Vec::new(),
            current: None,
            previous: Vec::new(),
            missing: false,
            replaced: false,
            failing: false,
            receivers: Vec::new(),
            stale: Vec::new(),
            queued: false,
            changed: true,
            unwatched: false,
            seen: None,
        }
    }

    /// Lines go to this member too; false if they do already.
    pub(super) fn join(&mut self, tag: u64, from: From) -> bool {
        let there = self.members.iter().any(|(member, _)| member.tag == tag)
            || self.joining.iter().any(|(joining, _)| *joining == tag);
        if !there {
            self.joining.push((tag, from));
            self.changed = true;
        }
        !there
    }

    /// True if nobody wants the log any more.
    pub(super) fn leave(&mut self, tag: u64) -> bool {
        self.members.retain(|(member, _)| member.tag != tag);
        self.joining.retain(|(joining, _)| *joining != tag);
        self.members.is_empty() && self.joining.is_empty()
    }

    pub(super) fn has(&self, tag: u64) -> bool {
        self.members.iter().any(|(member, _)| member.tag == tag)
            || self.joining.iter().any(|(joining, _)| *joining == tag)
    }

    pub(super) fn members(&self) -> Vec<Member> {
        self.members.iter().map(|(member, _)| *member).collect()
    }

    /// Watches of the files that are open.
    pub(super) fn watches(&mut self) -> Vec<WatchDescriptor> {
        let open = self.current.iter_mut().chain(self.previous.iter_mut().map(|previous| &mut previous.source));
        open.filter_map(|source| source.watch.take()).chain(self.stale.drain(..)).collect()
    }

    /// Gives away a file that is about to be read under another path for these tags; how far it
    /// was read. A pattern such as `x.log*` would read a renamed file twice otherwise.
    pub(super) fn release(&mut self, metadata: &Metadata, tags: &[u64]) -> Option<Position> {
        if !self.members.iter().all(|(member, _)| tags.contains(&member.tag)) {
            return None;
        }
        if let Some(index) = self.previous.iter().position(|previous| previous.source.stream.is(metadata)) {
            let source = self.previous.remove(index).source;
            self.stale.extend(source.watch);
            return Some(source.stream.position_at(source.stream.offset()));
        }
        let moved = self.current.as_ref().is_some_and(|current| current.stream.is(metadata))
            && !fs::metadata(&self.path).is_ok_and(|own| own.dev() == metadata.dev() && own.ino() == metadata.ino());
        let source = self.current.take_if(|_| moved)?;
        self.stale.extend(source.watch);
        self.changed = true;
        Some(source.stream.position_at(source.stream.offset()))
    }

    /// Tags that wait for the file to be opened for the first time.
    pub(super) fn is_new(&self) -> Option<Vec<u64>> {
        (self.current.is_none() && self.members.is_empty()).then(|| self.joining.iter().map(|(tag, _)| *tag).collect())
    }

    /// Those who wait begin here.
    pub(super) fn begin_at(&mut self, position: &Position) {
        for (_, from) in &mut self.joining {
            *from = From::Saved(Some(position.clone()));
        }
    }

    /// There is no such file, and none that had the name is still read.
    pub(super) fn is_over(&self) -> bool {
        self.missing && self.current.is_none() && self.previous.is_empty()
    }

    /// Where each member is, in the file that the path means now.
    pub(super) fn positions(&self) -> impl Iterator<Item = (u64, Position)> {
        self.current.iter().flat_map(|source| {
            self.members.iter().map(|(member, _)| (member.tag, source.stream.position_at(source.begins(member.tag))))
        })
    }

    /// Whether the path looks other than the last time; for polling.
    pub(super) fn looks_different(&mut self) -> bool {
        let seen = fs::metadata(&self.path).ok().map(|m| (m.dev(), m.ino(), m.size(), m.mtime(), m.mtime_nsec()));
        // within the clock's tick of the file system a second change leaves no trace
        let fresh = seen.is_some_and(|(.., seconds, _)| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            seconds + 2 >= now.as_secs().cast_signed()
        });
        let different = fresh || seen != self.seen || (seen.is_some() && self.current.is_none());
        self.seen = seen;
        // a renamed file that still grows is nowhere to be seen by its path
        different
            || self.previous.iter().any(|previous| {
                let stream = &previous.source.stream;
                stream.metadata().is_ok_and(|metadata| metadata.len() > stream.offset())
            })
    }

    /// Closes rotated files whose time is over.
    pub(super) fn expire(&mut self, now: Instant) {
        let stale = &mut self.stale;
        self.previous.retain_mut(|previous| {
            // an incomplete last line stays incomplete, and is nobody's line
            let keep = previous.until > now || !previous.ended;
            if !keep {
                stale.extend(previous.source.watch.take());
            }
            keep
        });
    }

    /// Finds out which file the path means now, and lets new members in.
    pub(super) fn look(
        &mut self,
        now: Instant,
        opened: &mut dyn FnMut(u64, &mut Opened<'_>),
        note: &mut dyn FnMut(&[Member], &Path, Note),
    ) {
        self.changed = false;
        let path = self.path.clone();
        let found = self.find(now);
        let mut failed = found.is_err();
        match found {
            Ok(Some(what)) => note(&self.members(), &path, what),
            Ok(None) => {}
            Err(error) if !self.failing => note(&self.members(), &path, Note::Failed(error)),
            Err(_) => {}
        }
        if let Err(error) = self.admit(now, opened)
            && !std::mem::replace(&mut failed, true)
            && !self.failing
        {
            note(&self.members(), &path, Note::Failed(error));
        }
        self.failing = failed;
    }

    fn find(&mut self, now: Instant) -> io::Result<Option<Note>> {
        let replaced = std::mem::take(&mut self.replaced);
        let metadata = match fs::metadata(&self.path) {
            Ok(metadata) if metadata.is_file() => metadata,
            Ok(_) => return Ok(self.gone(now)),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(self.gone(now));
            }
            Err(error) => return Err(error),
        };
        let was_missing = std::mem::take(&mut self.missing);
        let back = was_missing.then_some(Note::Back);
        let Some(current) = &mut self.current else {
            return self.open_new(back);
        };
        if !current.stream.is(&metadata) {
            return self.rotate(&metadata, now);
        }
        if replaced || current.stream.is_replaced(metadata.len()) {
            current.stream.restart()?;
            current.not_before.clear();
            return Ok(Some(Note::Truncated));
        }
        Ok(back)
    }

    /// There is no file of that name.
    fn gone(&mut self, now: Instant) -> Option<Note> {
        // renamed: whoever writes it may go on until there is a new one; deleted: its room is
        // given back soon
        if self.current.as_ref().is_some_and(|current| current.stream.metadata().is_ok_and(|m| m.nlink() == 0)) {
            self.set_aside(now);
        }
        (!std::mem::replace(&mut self.missing, true)).then_some(Note::Gone)
    }

    fn open_new(&mut self, note: Option<Note>) -> io::Result<Option<Note>> {
        let stream = Stream::open(&self.path, self.encoding)?;
        // a file that was moved away and back again is known already
        let known = self
            .previous
            .iter()
            .position(|previous| stream.metadata().is_ok_and(|metadata| previous.source.stream.is(&metadata)));
        self.current = Some(match known {
            Some(index) => self.previous.remove(index).source,
            None => Source::new(stream),
        });
        Ok(note)
    }

    fn rotate(&mut self, metadata: &Metadata, now: Instant) -> io::Result<Option<Note>> {
        if let Some(index) = self.previous.iter().position(|previous| previous.source.stream.is(metadata)) {
            let back = self.previous.remove(index).source;
            self.set_aside(now);
            self.current = Some(back);
            return Ok(Some(Note::Rotated));
        }
        let mut stream = Stream::open(&self.path, self.encoding)?;
        if let Some(current) = &mut self.current
            && current.stream.offset() > 0
            && stream.continues(&current.stream)
        {
            // a copy that was put in the place of the original, as editors do
            stream.seek(current.stream.offset())?;
            self.stale.extend(current.watch.take());
            current.stream = stream;
            return Ok(None);
        }
        self.set_aside(now);
        self.current = Some(Source::new(stream));
        Ok(Some(Note::Rotated))
    }

    /// The current file is read to its end, but is no longer what the path means.
    fn set_aside(&mut self, now: Instant) {
        if let Some(source) = self.current.take() {
            if self.previous.len() == MAX_PREVIOUS {
                self.stale.extend(self.previous.remove(0).source.watch);
            }
            self.previous.push(Previous { source, until: now + GRACE, ended: false });
        }
    }

    /// Members that were waiting for the file to be there.
    fn admit(&mut self, now: Instant, opened: &mut dyn FnMut(u64, &mut Opened<'_>)) -> io::Result<()> {
        let mut others: Vec<Member> = self.members.iter().map(|(member, _)| *member).collect();
        while let Some(current) = &mut self.current
            && let Some((tag, from)) = self.joining.pop()
        {
            let stream = &current.stream;
            let metadata = stream.metadata()?;
            let tail = matches!(from, From::End);
            let (offset, known) = place(stream, &metadata, &from);
            let mut start = Opened { path: &self.path, position: stream.position_at(offset), tail, stream };
            opened(tag, &mut start);
            let offset = start.position.offset;
            current.begin(tag, offset, &others)?;
            let member = Member { tag, in_operation: tail };
            let saved = match &from {
                From::Saved(Some(saved)) if !known && saved.inode != 0 && saved.inode != stream_inode(current) => {
                    Some(saved)
                }
                _ => None,
            };
            self.go_back(tag, saved, &others, now)?;
            others.push(member);
            self.members.push((member, false));
        }
        Ok(())
    }

    /// The file that a new member was reading was renamed while it was away: its rest comes first. Of
    /// other files that had the path it gets nothing, and the others get nothing of this one.
    fn go_back(&mut self, tag: u64, saved: Option<&Position>, others: &[Member], now: Instant) -> io::Result<()> {
        let mut found = false;
        for previous in &mut self.previous {
            let (source, until) = (&mut previous.source, now + GRACE);
            let size = source.stream.metadata()?.len();
            let own =
                saved.filter(|saved| position::is_same(saved, source.stream.first(), source.stream.inode(), size));
            match own {
                Some(saved) => {
                    source.begin(tag, saved.offset, others)?;
                    (previous.until, previous.ended, found) = (until, false, true);
                }
                None => source.not_before.push((tag, u64::MAX)),
            }
        }
        if let Some(saved) = saved
            && !found
            && self.previous.len() < MAX_PREVIOUS
            && let Some(mut stream) = sibling(&self.path, self.encoding, saved)
            && stream.seek(saved.offset).is_ok()
        {
            let mut source = Source::new(stream);
            source.not_before.extend(others.iter().map(|other| (other.tag, u64::MAX)));
            self.previous.push(Previous { source, until: now + GRACE, ended: false });
        }
        Ok(())
    }

    /// Reads one block and hands it over; false if there is nothing more for now.
    pub(super) fn read(&mut self, buffer: &mut Buffer, deliver: &mut dyn FnMut(&Delivery<'_>)) -> io::Result<bool> {
        let current_offset = self.current.as_ref().map_or(0, |current| current.stream.offset());
        for previous in &mut self.previous {
            let source = &mut previous.source;
            match source.read(buffer)? {
                Step::Block { block, start } => {
                    receivers(&mut self.members, &source.not_before, start, &mut self.receivers);
                    // the rest of an old file is worth going back for only until the new one has begun
                    let stream = match &self.current {
                        Some(current) if current_offset > 0 => &current.stream,
                        _ => &source.stream,
                    };
                    let position = stream.position_at(stream.offset());
                    deliver(&Delivery { path: &self.path, members: &self.receivers, block, position });
                    return Ok(true);
                }
                Step::Skipped => return Ok(true),
                Step::End => previous.ended = true,
                Step::Replaced => source.stream.restart()?,
            }
        }
        if let Some(source) = &mut self.current {
            match source.read(buffer)? {
                Step::Block { block, start } => {
                    receivers(&mut self.members, &source.not_before, start, &mut self.receivers);
                    let position = source.stream.position_at(source.stream.offset());
                    deliver(&Delivery { path: &self.path, members: &self.receivers, block, position });
                    return Ok(true);
                }
                Step::Skipped => return Ok(true),
                Step::Replaced => {
                    // `look` restarts it, and says so
                    self.replaced = true;
                    self.changed = true;
                    return Ok(true);
                }
                Step::End => {}
            }
        }
        for (member, got) in &mut self.members {
            member.in_operation |= std::mem::take(got);
        }
        Ok(false)
    }
}

fn stream_inode(source: &Source) -> u64 {
    source.stream.inode()
}

/// The members that want lines which begin at `start`.
fn receivers(members: &mut [(Member, bool)], not_before: &[(u64, u64)], start: u64, out: &mut Vec<Member>) {
    out.clear();
    for (member, got) in members {
        if !not_before.iter().any(|(tag, begin)| *tag == member.tag && *begin > start) {
            *got = true;
            out.push(*member);
        }
    }
}

/// The file that a saved position belongs to, under another name in the same directory
/// (`x.log.1`, `x.log-20261124`).
fn sibling(path: &Path, encoding: Encoding, saved: &Position) -> Option<Stream> {
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::DirEntryExt as _;
    // the directory of the file itself, if the path is a link
    let path = fs::canonicalize(path).ok()?;
    let stem = path.file_stem()?.as_bytes();
    fs::read_dir(path.parent()?)
        .ok()?
        .take(MAX_SIBLINGS)
        .flatten()
        .filter(|entry| entry.ino() == saved.inode && entry.file_name().as_bytes().starts_with(stem))
        .find_map(|entry| {
            let stream = Stream::open(&entry.path(), encoding).ok()?;
            let size = stream.metadata().ok()?.len();
            position::is_same(saved, stream.first(), stream.inode(), size).then_some(stream)
        })
}
