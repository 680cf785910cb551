//! Follows journals: one child for each set of options and matches, whoever reads it.
//!
//! A child that ends is started again behind the last entry that it told, after a pause that grows.
//! None outlives us: it ends when nobody holds the other end of its pipe.

use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use super::{Cursor, Delivery, Export, From, Note, PROGRAM, Spec, Start};
use crate::line::{Records, Stamp};
use crate::source::Handler;
use crate::source::follow::Waker;
use crate::source::glob::Glob;
use crate::time::Time;

/// Read at once; also what the kernel is asked to hold for us, in bytes.
const PIPE: usize = 256 * 1024;
/// Reads of one child in one turn; then the caller may see to other things.
const READS: usize = 8;
/// Records are handed over when their texts are so long together, in bytes, or there are no more.
const BATCH: usize = 256 * 1024;
/// Pause before a child is started again; it doubles each time, up to the longest.
const PAUSE: Duration = Duration::from_secs(1);
/// See [`PAUSE`].
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// A child that has run for so long works.
const WORKS: Duration = Duration::from_secs(3);
/// Time between two looks which files a pattern means.
const LOOK: Duration = Duration::from_secs(2);
/// What a child says on stderr is kept up to so many bytes.
const MAX_COMPLAINT: usize = 4096;

/// Follows any number of journals; owned by one thread.
#[derive(Debug)]
pub struct Journals {
    wake: Waker,
    streams: Vec<Stream>,
    buffer: Vec<u8>,
    notes: Vec<(Vec<u64>, Note)>,
}

/// One journal with one set of matches.
#[derive(Debug)]
struct Stream {
    spec: Spec,
    tags: Vec<u64>,
    start: Start,
    /// The last entry that was handed over.
    last: Option<Cursor>,
    /// The journal does not understand its own cursor: the time has to do.
    by_time: bool,
    running: Option<Running>,
    retry_at: Instant,
    pause: Duration,
    /// The trouble that was told of.
    told: Option<String>,
    text: Vec<u8>,
    stamps: Vec<Stamp>,
}

/// A child.
#[derive(Debug)]
struct Running {
    child: Child,
    out: ChildStdout,
    err: Option<ChildStderr>,
    export: Export,
    /// When it was started.
    begun: Instant,
    /// Entries from then on are of now.
    current: Time,
    /// The entry it begins with, if that was handed over already.
    skip: Option<String>,
    /// Entries up to then were handed over already.
    after: Option<Time>,
    has_read: bool,
    readable: bool,
    complaint: Vec<u8>,
    /// Inodes of the files that a pattern meant.
    files: Vec<u64>,
    /// It means other files now.
    outdated: bool,
    look_at: Instant,
    read_at: Instant,
}

impl Drop for Running {
    fn drop(&mut self) {
        // both fail only if it has ended
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Journals {
    /// Reads nothing yet.
    ///
    /// # Errors
    /// No file descriptor is left.
    pub fn new() -> io::Result<Journals> {
        Ok(Journals { wake: Waker::new()?, streams: Vec::new(), buffer: vec![0; PIPE], notes: Vec::new() })
    }

    /// For other threads.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.wake.clone()
    }

    /// Follows a journal for a tag, in place of the one it followed before. Then reading goes on
    /// behind the last entry of that one, else at `start`.
    pub fn add(&mut self, tag: u64, spec: Spec, mut start: Start) {
        if let Some(stream) = self.streams.iter().find(|stream| stream.tags.contains(&tag)) {
            if stream.spec == spec {
                return;
            }
            start.after = stream.last.clone().or_else(|| stream.start.after.clone());
            self.remove_all(tag);
        }
        let joins = |stream: &&mut Stream| {
            stream.spec == spec
                && match &stream.last {
                    Some(last) => start.after.as_ref() == Some(last),
                    None => stream.start.after == start.after,
                }
        };
        if let Some(stream) = self.streams.iter_mut().find(joins) {
            stream.tags.push(tag);
            if stream.last.is_none() && start.since < stream.start.since {
                stream.start.since = start.since;
                stream.restart();
            }
            return;
        }
        self.streams.push(Stream {
            spec,
            tags: vec![tag],
            start,
            last: None,
            by_time: false,
            running: None,
            retry_at: Instant::now(),
            pause: PAUSE,
            told: None,
            text: Vec::new(),
            stamps: Vec::new(),
        });
    }

    /// No longer follows anything for this tag.
    pub fn remove_all(&mut self, tag: u64) {
        for stream in &mut self.streams {
            stream.tags.retain(|other| *other != tag);
        }
        self.streams.retain(|stream| !stream.tags.is_empty());
    }

    /// Whether there may be something to read right now.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.notes.is_empty()
            || self.streams.iter().any(|stream| stream.running.as_ref().is_some_and(|running| running.readable))
    }

    /// Waits until a child has written something, the [`Waker`] is used (then true) or the time is over.
    ///
    /// # Errors
    /// The kernel cannot be asked.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<bool> {
        let now = Instant::now();
        for stream in &mut self.streams {
            if let Some(note) = stream.look_after(now) {
                self.notes.push((stream.tags.clone(), note));
            }
        }
        let left = if self.is_ready() {
            Some(Duration::ZERO)
        } else {
            let next = self.streams.iter().filter_map(Stream::next).min();
            let next = next.map(|next| next.saturating_duration_since(now));
            [next, timeout].into_iter().flatten().min()
        };
        let left = left.map(|left| rustix::event::Timespec {
            tv_sec: left.as_secs().cast_signed(),
            tv_nsec: left.subsec_nanos().into(),
        });
        let mut waiting = vec![PollFd::from_borrowed_fd(self.wake.as_fd(), PollFlags::IN)];
        for stream in &self.streams {
            waiting.extend(
                stream.descriptors().into_iter().flatten().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)),
            );
        }
        match rustix::event::poll(&mut waiting, left.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut ready = waiting.iter().map(|one| !one.revents().is_empty()).collect::<Vec<_>>().into_iter();
        let woken = ready.next().unwrap_or(false);
        for stream in &mut self.streams {
            let Some(running) = &mut stream.running else { continue };
            running.readable |= ready.next().unwrap_or(false);
            if running.err.is_some() && ready.next().unwrap_or(false) {
                running.listen();
            }
        }
        if woken {
            self.wake.clear();
        }
        Ok(woken)
    }

    /// Hands over what children have written.
    pub fn turn(&mut self, handler: &mut dyn Handler) {
        for (tags, note) in self.notes.drain(..) {
            handler.journal_note(&tags, &note);
        }
        for index in 0..self.streams.len() {
            let stream = &mut self.streams[index];
            let before = stream.last.clone();
            if let Some(note) = stream.read(&mut self.buffer, handler) {
                self.notes.push((stream.tags.clone(), note));
            }
            if stream.last != before {
                self.unite(index);
            }
        }
        self.streams.retain(|stream| !stream.tags.is_empty());
    }

    /// Those who read the same and are at the same place need one child only.
    fn unite(&mut self, index: usize) {
        let (spec, last) = (self.streams[index].spec.clone(), self.streams[index].last.clone());
        let mut joining = Vec::new();
        for (other, stream) in self.streams.iter_mut().enumerate() {
            if other != index && stream.spec == spec && stream.last == last {
                joining.append(&mut stream.tags);
                stream.running = None;
            }
        }
        self.streams[index].tags.append(&mut joining);
    }
}

impl Stream {
    /// When something is to be done without anything being written.
    fn next(&self) -> Option<Instant> {
        match &self.running {
            None => Some(self.retry_at),
            Some(running) => {
                let works = self.told.is_some().then(|| running.begun + WORKS);
                let look = (!self.spec.journal.files.is_empty()).then_some(running.look_at);
                works.into_iter().chain(look).min()
            }
        }
    }

    fn descriptors(&self) -> [Option<BorrowedFd<'_>>; 2] {
        self.running
            .as_ref()
            .map_or([None, None], |running| [Some(running.out.as_fd()), running.err.as_ref().map(|err| err.as_fd())])
    }

    fn restart(&mut self) {
        self.running = None;
        self.retry_at = Instant::now();
    }

    /// Starts the child if it is time, and looks for other files.
    fn look_after(&mut self, now: Instant) -> Option<Note> {
        let Some(running) = &mut self.running else {
            return if self.retry_at <= now { self.begin() } else { None };
        };
        if now >= running.look_at {
            running.look_at = now + LOOK;
            // a child does not see that other files have come to a pattern; it first reads the old ones to their end
            if !self.spec.journal.files.is_empty() {
                running.outdated |= running.files != inodes(&self.spec.journal.files);
                if running.outdated && running.read_at + LOOK / 2 < now && !running.readable {
                    self.restart();
                    return self.begin();
                }
            }
        }
        if now >= running.begun + WORKS && self.told.take().is_some() {
            return Some(Note::Back);
        }
        None
    }

    fn begin(&mut self) -> Option<Note> {
        let last = self.last.as_ref().or(self.start.after.as_ref());
        // what is older than any interest is left out, but not what comes after an entry of now
        let last = last.filter(|last| self.last.is_some() || last.time >= self.start.since);
        let (from, skip, after) = match last {
            Some(last) if self.by_time || last.id.is_empty() => (From::Since(last.time), None, Some(last.time)),
            Some(last) => (From::Cursor(last.id.clone()), Some(last.id.clone()), None),
            None => (From::Since(self.start.since), None, None),
        };
        let files = inodes(&self.spec.journal.files);
        let begun = Instant::now();
        let current = Time::from_micros(jiff::Timestamp::now().as_microsecond());
        let spawned = self.spec.command(&from, true).spawn().and_then(|mut child| {
            let (out, err) = (child.stdout.take(), child.stderr.take());
            let out = out.ok_or(io::ErrorKind::BrokenPipe)?;
            let now_or_never = |fd: BorrowedFd<'_>| {
                let flags = rustix::fs::fcntl_getfl(fd)?;
                rustix::fs::fcntl_setfl(fd, flags | rustix::fs::OFlags::NONBLOCK)
            };
            now_or_never(out.as_fd())?;
            err.as_ref().map_or(Ok(()), |err| now_or_never(err.as_fd()))?;
            // more room saves changes between the processes; with less it works as well
            let _ = rustix::pipe::fcntl_setpipe_size(&out, PIPE);
            Ok((child, out, err))
        });
        match spawned {
            Ok((child, out, err)) => {
                self.running = Some(Running {
                    child,
                    out,
                    err,
                    export: Export::default(),
                    begun,
                    current,
                    skip,
                    after,
                    has_read: false,
                    readable: false,
                    complaint: Vec::new(),
                    files,
                    outdated: false,
                    look_at: begun + LOOK,
                    read_at: begun,
                });
                None
            }
            Err(error) => self.fail(format!("`{PROGRAM}` cannot be started: {error}")),
        }
    }

    /// There is no child any more; another is started after a pause.
    fn fail(&mut self, why: String) -> Option<Note> {
        self.running = None;
        self.retry_at = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        if self.told.as_ref() == Some(&why) {
            return None;
        }
        self.told = Some(why.clone());
        Some(Note::Failed(why))
    }

    /// Reads what there is, within bounds.
    fn read(&mut self, buffer: &mut [u8], handler: &mut dyn Handler) -> Option<Note> {
        for _ in 0..READS {
            let running = self.running.as_mut().filter(|running| running.readable)?;
            let read = match running.out.read(buffer) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    running.readable = false;
                    self.hand_over(handler);
                    return None;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => 0,
            };
            if read == 0 {
                self.hand_over(handler);
                return self.ended();
            }
            running.read_at = Instant::now();
            let (text, stamps, last) = (&mut self.text, &mut self.stamps, &mut self.last);
            let Running { export, skip, after, current, has_read, .. } = running;
            let fed = export.feed(&buffer[..read], &mut |entry| {
                let is_known = skip.take().is_some_and(|skip| skip.as_bytes() == entry.id());
                let (Some(received), Some(time)) = (entry.received(), entry.time()) else { return };
                if is_known || after.is_some_and(|after| received <= after) {
                    return;
                }
                let Some(cursor) = entry.cursor() else { return };
                *has_read = true;
                let cut = entry.write(text);
                stamps.push(Stamp { end: text.len(), time, current: received >= *current, cut });
                text.push(b'\n');
                *last = Some(cursor);
            });
            if fed.is_err() || self.text.len() >= BATCH {
                self.hand_over(handler);
            }
            if let Err(error) = fed {
                return self.fail(format!("`{PROGRAM}`: {error}"));
            }
        }
        self.hand_over(handler);
        None
    }

    fn hand_over(&mut self, handler: &mut dyn Handler) {
        if let (false, Some(cursor)) = (self.stamps.is_empty(), &self.last) {
            let records = Records { bytes: &self.text, stamps: &self.stamps };
            handler.records(&Delivery { tags: &self.tags, records, cursor });
        }
        self.text.clear();
        self.stamps.clear();
        // one that was very long does not keep its room
        self.text.shrink_to(2 * BATCH);
    }

    /// The child has closed its pipe.
    fn ended(&mut self) -> Option<Note> {
        let mut running = self.running.take()?;
        running.listen();
        let why = running.reason();
        if running.has_read || running.begun.elapsed() > LONGEST_PAUSE {
            self.pause = PAUSE;
        } else if running.skip.is_some() && why.contains("cursor") {
            self.by_time = true;
        }
        drop(running);
        self.fail(format!("`{PROGRAM}`: {why}"))
    }
}

impl Running {
    /// Takes what it says on stderr.
    fn listen(&mut self) {
        let Some(err) = &mut self.err else { return };
        let mut buffer = [0; 1024];
        match err.read(&mut buffer) {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Ok(0) | Err(_) => self.err = None,
            Ok(read) => {
                self.complaint.extend_from_slice(&buffer[..read]);
                let surplus = self.complaint.len().saturating_sub(MAX_COMPLAINT);
                self.complaint.drain(..surplus);
            }
        }
    }

    /// Why it ended: its last words, else how.
    fn reason(&mut self) -> String {
        let said = String::from_utf8_lossy(&self.complaint);
        if let Some(line) = said.lines().rev().find(|line| !line.trim().is_empty()) {
            return line.trim().to_owned();
        }
        // its pipe is closed, so it has ended or is about to
        let _ = self.child.kill();
        self.child.wait().map_or_else(|error| error.to_string(), |status| format!("ended by itself, {status}"))
    }
}

/// Which files patterns mean now, in order.
fn inodes(patterns: &[String]) -> Vec<u64> {
    let files = patterns.iter().flat_map(|pattern| Glob::new(Path::new(pattern), false).expand().files);
    let mut inodes: Vec<u64> = files.filter_map(|file| Some(file.metadata().ok()?.ino())).collect();
    inodes.sort_unstable();
    inodes.dedup();
    inodes
}
