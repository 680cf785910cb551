//! Waits for logs to change, and reads them in turns.
//!
//! The kernel is asked about each file (growth, truncation) and about the directories where a
//! file may appear, be renamed or replaced. Whatever that misses (another machine's writes on
//! a network file system, a symbolic link on the way that changes, a full event queue), a sweep
//! over all paths finds every [`SWEEP`]; where there is no inotify, or polling is asked for,
//! the sweep is all there is, every [`POLL`].

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask};
use rustix::event::{EventfdFlags, PollFd, PollFlags};

use super::encoding::Encoding;
use super::file::Buffer;
use super::glob::Glob;
use super::log::{From, Log, Note};
use super::{Handler, Position};

/// Time between two looks at all paths beside inotify.
const SWEEP: Duration = Duration::from_secs(10);
/// Time between two looks at all paths without inotify.
const POLL: Duration = Duration::from_millis(500);
/// Blocks of one turn; then the caller may see to other things.
const BLOCKS_A_TURN: usize = 16;

/// How changes are noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// The kernel tells.
    Inotify,
    /// All paths are looked at again and again.
    Polling,
}

/// Which files are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Exactly this path, whatever characters it has.
    Path(PathBuf),
    /// All files that match, now or later: `*`, `?`, `[…]` within a component.
    Glob(PathBuf),
}

/// Where reading begins in a file that is there when its pattern is added. One that appears
/// later is read from its beginning, or from its saved position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// At the saved position, else at the beginning.
    #[default]
    Head,
    /// At the end.
    Tail,
}

/// What is to be followed.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The files.
    pub pattern: Pattern,
    /// How their text is encoded.
    pub encoding: Encoding,
    /// Where to begin.
    pub start: Start,
    /// Positions from before a restart, by path.
    pub saved: HashMap<PathBuf, Position>,
}

/// Interrupts [`Follower::wait`] from another thread.
#[derive(Clone, Debug)]
pub struct Waker(Arc<OwnedFd>);

impl Waker {
    pub(super) fn new() -> io::Result<Waker> {
        let descriptor = rustix::event::eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Waker(Arc::new(descriptor)))
    }

    /// To be polled.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Forgets that it was used.
    pub(super) fn clear(&self) {
        let _ = rustix::io::read(&*self.0, &mut [0; 8]);
    }

    /// The present or next `wait` returns at once.
    pub fn wake(&self) {
        // fails only if it was woken 2^64 times and never looked
        let _ = rustix::io::write(&*self.0, &1_u64.to_ne_bytes());
    }
}

/// A pattern and whose it is.
#[derive(Debug)]
struct Watched {
    tag: u64,
    glob: Glob,
    spec: Spec,
}

/// Follows logs; owned by one thread.
#[derive(Debug)]
pub struct Follower {
    inotify: Option<Inotify>,
    wake: Waker,
    patterns: HashMap<u64, Watched>,
    logs: HashMap<u64, Log>,
    by_path: HashMap<PathBuf, Vec<u64>>,
    /// The last number given to a pattern or log.
    last: u64,
    ready: VecDeque<u64>,
    /// Which logs a watched file belongs to.
    files: HashMap<WatchDescriptor, Vec<u64>>,
    /// Watched directories, and the patterns that look for names there.
    directories: HashMap<WatchDescriptor, (PathBuf, HashSet<(u64, usize)>)>,
    /// Patterns to be looked up again.
    stale: HashSet<u64>,
    buffer: Buffer,
    next_sweep: Instant,
    sweeps: u64,
}

impl Follower {
    /// With inotify, or polling where that is asked for or the kernel has no more of it.
    ///
    /// # Errors
    /// No file descriptor is left.
    pub fn new(method: Method) -> io::Result<Follower> {
        let inotify = if method == Method::Inotify { Inotify::init().ok() } else { None };
        Ok(Follower {
            inotify,
            wake: Waker::new()?,
            patterns: HashMap::new(),
            logs: HashMap::new(),
            by_path: HashMap::new(),
            last: 0,
            ready: VecDeque::new(),
            files: HashMap::new(),
            directories: HashMap::new(),
            stale: HashSet::new(),
            buffer: Buffer::new(),
            next_sweep: Instant::now(),
            sweeps: 0,
        })
    }

    /// How changes are noticed.
    #[must_use]
    pub fn method(&self) -> Method {
        if self.inotify.is_some() { Method::Inotify } else { Method::Polling }
    }

    /// For other threads.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.wake.clone()
    }

    /// Follows more files; the paths that are there now. Lines that another tag reads from the
    /// same file in the same encoding are read once.
    pub fn add(&mut self, tag: u64, spec: Spec) -> Vec<PathBuf> {
        let glob = match &spec.pattern {
            Pattern::Path(path) => Glob::new(path, true),
            Pattern::Glob(path) => Glob::new(path, false),
        };
        self.last += 1;
        let id = self.last;
        self.patterns.insert(id, Watched { tag, glob, spec });
        self.look_up(id, true, false)
    }

    /// No longer follows a pattern for this tag; false if it did not.
    pub fn remove(&mut self, tag: u64, pattern: &Pattern) -> bool {
        let before = self.patterns.len();
        self.patterns.retain(|_, watched| watched.tag != tag || watched.spec.pattern != *pattern);
        self.tidy(tag);
        self.patterns.len() < before
    }

    /// No longer follows anything for this tag.
    pub fn remove_all(&mut self, tag: u64) {
        self.patterns.retain(|_, watched| watched.tag != tag);
        self.tidy(tag);
    }

    /// The paths that are followed for a tag, in no order.
    pub fn paths(&self, tag: u64) -> impl Iterator<Item = &Path> {
        self.logs.values().filter(move |log| log.has(tag)).map(|log| &*log.path)
    }

    /// Where each tag is in each log. Worth keeping whenever no log is ready: an emptied or new
    /// file has a position that no delivery tells of.
    pub fn positions(&self) -> impl Iterator<Item = (u64, &Arc<Path>, Position)> {
        self.logs.values().flat_map(|log| log.positions().map(move |(tag, position)| (tag, &log.path, position)))
    }

    /// Whether there may be something to read right now.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Waits until a log may have something to read, the [`Waker`] is used (then true) or the
    /// time is over. Does not wait if a log is ready.
    ///
    /// # Errors
    /// The kernel cannot be asked.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<bool> {
        let mut left = self.next_sweep.saturating_duration_since(Instant::now());
        if !self.ready.is_empty() {
            left = Duration::ZERO;
        }
        if let Some(timeout) = timeout {
            left = left.min(timeout);
        }
        let woken = {
            let mut waiting = vec![PollFd::from_borrowed_fd(self.wake.as_fd(), PollFlags::IN)];
            if let Some(inotify) = &self.inotify {
                waiting.push(PollFd::from_borrowed_fd(inotify.as_fd(), PollFlags::IN));
            }
            let left = rustix::event::Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
            match rustix::event::poll(&mut waiting, Some(&left)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            waiting[0].revents().contains(PollFlags::IN)
        };
        if woken {
            self.wake.clear();
        }
        self.hear()?;
        if Instant::now() >= self.next_sweep {
            self.sweep(false);
        }
        Ok(woken)
    }

    /// Reads from the logs that are ready, one block of each in turn, some blocks in all.
    pub fn turn(&mut self, handler: &mut dyn Handler) {
        let now = Instant::now();
        for _ in 0..BLOCKS_A_TURN {
            let Some(id) = self.ready.pop_front() else { return };
            let Some(log) = self.logs.get_mut(&id) else { continue };
            log.queued = false;
            if log.changed {
                if let Some(tags) = log.is_new() {
                    self.take_over(id, &tags);
                }
                let Some(log) = self.logs.get_mut(&id) else { continue };
                let shared = std::cell::RefCell::new(&mut *handler);
                log.look(
                    now,
                    &mut |tag, opened| shared.borrow_mut().opened(tag, opened),
                    &mut |members, path, note| shared.borrow_mut().note(members, path, note),
                );
                self.watch_file(id);
            }
            let Some(log) = self.logs.get_mut(&id) else { continue };
            match log.read(&mut self.buffer, &mut |delivery| handler.block(delivery)) {
                Ok(true) => self.queue(id),
                Ok(false) => {}
                Err(error) => handler.note(&log.members(), &log.path.clone(), Note::Failed(error)),
            }
        }
    }

    /// A new path may be the new name of a file that is being read.
    fn take_over(&mut self, id: u64, tags: &[u64]) {
        let Some(metadata) = self.logs.get(&id).and_then(|log| std::fs::metadata(&log.path).ok()) else { return };
        let mut others = self.logs.iter_mut().filter(|(other, _)| **other != id);
        let Some((other, position)) = others.find_map(|(other, log)| Some((*other, log.release(&metadata, tags)?)))
        else {
            return;
        };
        self.queue(other);
        if let Some(log) = self.logs.get_mut(&id) {
            log.begin_at(&position);
        }
    }

    fn queue(&mut self, id: u64) {
        if let Some(log) = self.logs.get_mut(&id)
            && !std::mem::replace(&mut log.queued, true)
        {
            self.ready.push_back(id);
        }
    }

    fn mark(&mut self, id: u64) {
        if let Some(log) = self.logs.get_mut(&id) {
            log.changed = true;
            self.queue(id);
        }
    }

    /// Finds the files of a pattern and the directories to watch for it.
    fn look_up(&mut self, id: u64, initial: bool, changed: bool) -> Vec<PathBuf> {
        let Some(watched) = self.patterns.get(&id) else { return Vec::new() };
        let mut found = watched.glob.expand();
        // a file that appears between the look and the watch would be missed: look once more
        if self.watch_directories(id, &found.directories) {
            if let Some(watched) = self.patterns.get(&id) {
                found = watched.glob.expand();
            }
            self.watch_directories(id, &found.directories);
        }
        // a path that is not there yet is a log to be waited for
        if let Some(Watched { spec: Spec { pattern: Pattern::Path(path), .. }, .. }) = self.patterns.get(&id)
            && found.files.is_empty()
            && initial
        {
            let path = path.clone();
            self.appear(id, &path, false, false);
        }
        for path in &found.files {
            self.appear(id, path, initial, changed);
        }
        found.files
    }

    /// A path matches a pattern; `changed`: it may mean another file than before.
    fn appear(&mut self, pattern: u64, path: &Path, initial: bool, changed: bool) {
        let Some(watched) = self.patterns.get(&pattern) else { return };
        let (tag, encoding) = (watched.tag, watched.spec.encoding);
        let ids = self.by_path.entry(path.to_owned()).or_default();
        let id = match ids.iter().find(|id| self.logs.get(id).is_some_and(|log| log.encoding == encoding)) {
            Some(id) => *id,
            None => {
                self.last += 1;
                ids.push(self.last);
                self.logs.insert(self.last, Log::new(path, encoding));
                self.last
            }
        };
        let from = if initial && watched.spec.start == Start::Tail {
            From::End
        } else {
            From::Saved(watched.spec.saved.get(path).cloned())
        };
        if self.logs.get_mut(&id).is_some_and(|log| log.join(tag, from) || log.current.is_none() || changed) {
            self.mark(id);
        }
    }

    /// Removes a tag from logs that no pattern of it matches any more.
    fn tidy(&mut self, tag: u64) {
        let kept: HashSet<PathBuf> = self
            .patterns
            .values()
            .filter(|watched| watched.tag == tag)
            .flat_map(|watched| match &watched.spec.pattern {
                Pattern::Path(path) => vec![path.clone()],
                Pattern::Glob(_) => watched.glob.expand().files,
            })
            .collect();
        let mut unused = Vec::new();
        for (id, log) in &mut self.logs {
            if !kept.contains(&*log.path) && log.leave(tag) {
                unused.push(*id);
            }
        }
        for id in unused {
            self.forget(id);
        }
        let patterns = &self.patterns;
        let mut idle = Vec::new();
        for (watch, (_, interested)) in &mut self.directories {
            interested.retain(|(pattern, _)| patterns.contains_key(pattern));
            if interested.is_empty() {
                idle.push(watch.clone());
            }
        }
        for watch in idle {
            self.directories.remove(&watch);
            if let Some(inotify) = &self.inotify {
                let _ = inotify.watches().remove(watch);
            }
        }
    }

    /// Closes a log.
    fn forget(&mut self, id: u64) {
        let Some(mut log) = self.logs.remove(&id) else { return };
        if let Some(ids) = self.by_path.get_mut(&*log.path) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.by_path.remove(&*log.path);
            }
        }
        log.watches().into_iter().for_each(|watch| self.unwatch(id, &watch));
    }

    /// Watches the file that a log means now, and no longer those that it does not read.
    fn watch_file(&mut self, id: u64) {
        let Some(log) = self.logs.get_mut(&id) else { return };
        let stale = std::mem::take(&mut log.stale);
        if let Some(inotify) = &self.inotify
            && let Some(current) = &mut log.current
        {
            let mask = WatchMask::MODIFY | WatchMask::ATTRIB | WatchMask::MOVE_SELF | WatchMask::DELETE_SELF;
            // always by the path: if it means another file by now, that one's events say so
            match inotify.watches().add(&log.path, mask) {
                Ok(watch) => {
                    log.unwatched = false;
                    let logs = self.files.entry(watch.clone()).or_default();
                    if !logs.contains(&id) {
                        logs.push(id);
                        // between the reading and the watch something may have been written
                        log.changed = true;
                    }
                    current.watch = Some(watch);
                }
                Err(_) => {
                    log.unwatched = true;
                    self.next_sweep = self.next_sweep.min(Instant::now() + POLL);
                }
            }
        }
        let again = log.changed;
        for watch in stale {
            self.unwatch(id, &watch);
        }
        if again {
            self.queue(id);
        }
    }

    fn unwatch(&mut self, id: u64, watch: &WatchDescriptor) {
        let Some(logs) = self.files.get_mut(watch) else { return };
        logs.retain(|other| *other != id);
        if logs.is_empty() {
            self.files.remove(watch);
            if let Some(inotify) = &self.inotify {
                let _ = inotify.watches().remove(watch.clone());
            }
        }
    }

    /// True if a directory is watched that was not before.
    fn watch_directories(&mut self, id: u64, directories: &[(PathBuf, usize)]) -> bool {
        let Some(inotify) = &self.inotify else { return false };
        let mut new = false;
        let mask = WatchMask::CREATE
            | WatchMask::MOVED_TO
            | WatchMask::MOVED_FROM
            | WatchMask::DELETE
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF
            | WatchMask::ONLYDIR;
        for (path, index) in directories {
            // what cannot be watched is found by the sweep
            let Ok(watch) = inotify.watches().add(path, mask) else { continue };
            let (_, interested) = self.directories.entry(watch).or_insert_with(|| (path.clone(), HashSet::new()));
            new |= interested.insert((id, *index));
        }
        new
    }

    /// Takes note of what the kernel tells.
    fn hear(&mut self) -> io::Result<()> {
        let mut memory = [0; 16 * 1024];
        let mut overflow = false;
        'events: loop {
            let Some(inotify) = &mut self.inotify else { return Ok(()) };
            let events: Vec<_> = match inotify.read_events(&mut memory) {
                Ok(events) => events.map(|event| event.to_owned()).collect(),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                    break 'events;
                }
                Err(error) => return Err(error),
            };
            if events.is_empty() {
                break;
            }
            for event in events {
                if event.mask.contains(EventMask::Q_OVERFLOW) {
                    overflow = true;
                    continue;
                }
                for id in self.files.get(&event.wd).cloned().unwrap_or_default() {
                    self.mark(id);
                }
                if event.mask.contains(EventMask::IGNORED) {
                    self.files.remove(&event.wd);
                }
                self.heard_of_directory(&event.wd, event.mask, event.name.as_deref());
            }
        }
        if overflow {
            self.sweep(true);
        }
        for id in std::mem::take(&mut self.stale) {
            self.look_up(id, false, true);
        }
        Ok(())
    }

    fn heard_of_directory(&mut self, watch: &WatchDescriptor, mask: EventMask, name: Option<&std::ffi::OsStr>) {
        let Some((directory, interested)) = self.directories.get(watch) else { return };
        let Some(name) = name else {
            // the directory itself is gone or elsewhere
            self.stale.extend(interested.iter().map(|(pattern, _)| *pattern));
            if mask.intersects(EventMask::IGNORED | EventMask::MOVE_SELF) {
                let directory = directory.clone();
                self.directories.remove(watch);
                if mask.contains(EventMask::MOVE_SELF)
                    && let Some(inotify) = &self.inotify
                {
                    let _ = inotify.watches().remove(watch.clone());
                }
                let below: Vec<u64> = self
                    .by_path
                    .iter()
                    .filter(|(path, _)| path.starts_with(&directory))
                    .flat_map(|(_, ids)| ids.clone())
                    .collect();
                below.into_iter().for_each(|id| self.mark(id));
            }
            return;
        };
        let path = directory.join(name);
        let arrived = mask.intersects(EventMask::CREATE | EventMask::MOVED_TO);
        let mut appeared = Vec::new();
        for (pattern, index) in interested {
            let Some(watched) = self.patterns.get(pattern) else { continue };
            match watched.glob.matches(*index, name) {
                Some(true) if arrived => appeared.push(*pattern),
                Some(false) => {
                    self.stale.insert(*pattern);
                }
                _ => {}
            }
        }
        for id in self.by_path.get(&path).cloned().unwrap_or_default() {
            self.mark(id);
        }
        if !appeared.is_empty() && std::fs::metadata(&path).is_ok_and(|metadata| metadata.is_file()) {
            for pattern in appeared {
                self.appear(pattern, &path, false, true);
            }
        }
    }

    /// Looks at all paths without waiting for the time to do so.
    pub fn look_at_all(&mut self) {
        self.sweep(true);
    }

    /// Looks at all paths; `all`: as if each had changed.
    fn sweep(&mut self, all: bool) {
        let now = Instant::now();
        let mut different = Vec::new();
        let mut over = Vec::new();
        let mut unwatched = self.inotify.is_none();
        for (id, log) in &mut self.logs {
            log.expire(now);
            unwatched |= log.unwatched;
            if log.is_over() {
                over.push(*id);
            }
            if log.looks_different() || all || !log.stale.is_empty() {
                different.push(*id);
            }
        }
        different.into_iter().for_each(|id| self.mark(id));
        // yesterday's name of a pattern; an exact path is waited for
        let exact: HashSet<&Path> = self
            .patterns
            .values()
            .filter_map(|watched| match &watched.spec.pattern {
                Pattern::Path(path) => Some(path.as_path()),
                Pattern::Glob(_) => None,
            })
            .collect();
        over.retain(|id| self.logs.get(id).is_some_and(|log| !exact.contains(&*log.path)));
        over.into_iter().for_each(|id| self.forget(id));
        self.sweeps += 1;
        if all || self.inotify.is_some() || self.sweeps.is_multiple_of(4) {
            let patterns: Vec<u64> = self.patterns.keys().copied().collect();
            for id in patterns {
                self.look_up(id, false, false);
            }
        }
        self.next_sweep = now + if unwatched { POLL } else { SWEEP };
    }
}
