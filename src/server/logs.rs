//! Threads that follow logs and journals, and find failures in them.
//!
//! There are at most as many as processors, started when they are needed; a directory belongs
//! to one of them, so that jails that read the same log share one reading. What is found goes
//! to the engine in batches together with the position behind it. A thread may be
//! [`ROOM`] batches ahead, then it waits: the log is on the disk, nothing is lost. All journals are
//! one thread's.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::filter::scan::Tally;
use crate::filter::{Failure, record};
use crate::source::{Follower, Journals, Method, Pattern, Reached, Spec, Waker, journal};
use crate::time::Time;

use super::engine::Event;
use worker::{Source, Worker};

mod worker;

/// Batches of a thread that the engine has not dealt with yet.
const ROOM: usize = 2;

/// What a jail wants of its lines.
#[derive(Clone, Debug)]
pub struct Jail {
    /// The compiled filter.
    pub filter: Arc<record::Filter>,
    /// Lines of the past that are older than so many seconds do not count.
    pub findtime: f64,
    /// See [`record::Options::keep_prefix_values`].
    pub keep_prefix_values: bool,
}

/// What was found in some lines.
#[derive(Debug)]
pub struct Batch {
    /// The log.
    pub path: Arc<Path>,
    /// Behind the lines.
    pub reached: Reached,
    /// When they were read.
    pub now: Time,
    /// What each jail found.
    pub found: Vec<Found>,
    /// Lets the thread go on when it is dropped.
    _room: Permit,
}

/// What one jail found.
#[derive(Debug, Default)]
pub struct Found {
    /// The jail's number.
    pub tag: u64,
    /// Failures in the order of the lines.
    pub failures: Vec<Failure>,
    /// The rest.
    pub tally: Tally,
}

/// How far a jail has read a log.
#[derive(Clone, Debug)]
pub struct Read {
    /// The jail's number.
    pub tag: u64,
    /// The log.
    pub path: Arc<Path>,
    /// How far.
    pub reached: Reached,
}

enum Order {
    Jail(u64, Jail),
    Add(u64, Spec),
    Journal(u64, journal::Spec, journal::Start),
    Remove(u64, Pattern),
    RemoveAll(u64),
    Stop,
}

/// The threads.
pub struct Logs {
    events: Sender<Event>,
    /// By number; the last but one polls, the last one reads journals.
    threads: Vec<Option<Running>>,
    jails: HashMap<u64, Jail>,
}

struct Running {
    orders: Sender<Order>,
    waker: Waker,
    thread: std::thread::JoinHandle<()>,
}

impl std::fmt::Debug for Logs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Logs").field("jails", &self.jails).finish_non_exhaustive()
    }
}

impl Logs {
    /// No thread yet. Findings go to `events`.
    #[must_use]
    pub fn new(events: Sender<Event>) -> Logs {
        let count = std::thread::available_parallelism().map_or(1, usize::from).min(16);
        Logs { events, threads: (0..count + 2).map(|_| None).collect(), jails: HashMap::new() }
    }

    /// A jail, or new settings of it; takes effect with the next block.
    pub fn set_jail(&mut self, tag: u64, jail: Jail) {
        self.tell_all(|| Order::Jail(tag, jail.clone()));
        self.jails.insert(tag, jail);
    }

    /// Follows logs for a jail.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn add(&mut self, tag: u64, method: Method, spec: Spec) -> std::io::Result<()> {
        let number = match method {
            Method::Polling => self.threads.len() - 2,
            Method::Inotify => place(&spec.pattern, self.threads.len() - 2),
        };
        self.thread(number, || Ok(Source::Files(Box::new(Follower::new(method)?))))?.tell(Order::Add(tag, spec));
        Ok(())
    }

    /// Follows a journal for a jail, in place of the one it followed before; see [`Journals::add`].
    ///
    /// # Errors
    /// No thread can be started.
    pub fn add_journal(&mut self, tag: u64, spec: journal::Spec, start: journal::Start) -> std::io::Result<()> {
        let number = self.threads.len() - 1;
        let thread = self.thread(number, || Ok(Source::Journals(Journals::new()?)))?;
        thread.tell(Order::Journal(tag, spec, start));
        Ok(())
    }

    /// No longer follows a pattern for a jail.
    pub fn remove(&self, tag: u64, pattern: &Pattern) {
        self.tell_all(|| Order::Remove(tag, pattern.clone()));
    }

    /// Forgets a jail. What is still on its way from a thread comes with a number that nobody knows any more.
    pub fn remove_all(&mut self, tag: u64) {
        self.jails.remove(&tag);
        self.tell_all(|| Order::RemoveAll(tag));
    }

    /// Ends all threads and waits until what they read has been sent.
    pub fn stop(&mut self) {
        let running: Vec<Running> = self.threads.iter_mut().filter_map(Option::take).collect();
        for thread in &running {
            thread.tell(Order::Stop);
        }
        for thread in running {
            // a thread that panicked has nothing more to send
            let _ = thread.thread.join();
        }
    }

    fn tell_all(&self, order: impl Fn() -> Order) {
        for running in self.threads.iter().flatten() {
            running.tell(order());
        }
    }

    fn thread(&mut self, number: usize, source: impl Fn() -> std::io::Result<Source>) -> std::io::Result<&Running> {
        if self.threads[number].is_none() {
            let source = source()?;
            let waker = source.waker();
            let (orders, receiver) = channel();
            let mut worker = Worker::new(self.events.clone(), self.jails.clone());
            let thread = std::thread::Builder::new()
                .name(format!("sk/log{number}"))
                .spawn(move || worker.work(source, &receiver))?;
            self.threads[number] = Some(Running { orders, waker, thread });
        }
        self.threads[number].as_ref().ok_or_else(|| std::io::Error::other("no thread"))
    }
}

impl Running {
    fn tell(&self, order: Order) {
        // fails only if the thread is gone; its end has been logged
        let _ = self.orders.send(order);
        self.waker.wake();
    }
}

/// Which thread follows a pattern: that of its directory.
fn place(pattern: &Pattern, count: usize) -> usize {
    let (Pattern::Path(path) | Pattern::Glob(path)) = pattern;
    let directory: PathBuf = path
        .parent()
        .into_iter()
        .flat_map(Path::components)
        .take_while(|part| !part.as_os_str().as_encoded_bytes().iter().any(|byte| b"*?[".contains(byte)))
        .collect();
    let mut hasher = DefaultHasher::new();
    directory.hash(&mut hasher);
    (hasher.finish() % count.max(1) as u64) as usize
}

/// Counts the batches on their way.
#[derive(Debug, Default)]
struct Room {
    taken: Mutex<usize>,
    freed: Condvar,
}

#[derive(Debug)]
struct Permit(Arc<Room>);

impl Permit {
    /// Waits for room.
    fn get(room: &Arc<Room>) -> Permit {
        let taken = room.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = room.freed.wait_while(taken, |taken| *taken >= ROOM).unwrap_or_else(PoisonError::into_inner);
        *taken += 1;
        Permit(room.clone())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        *self.0.taken.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.freed.notify_one();
    }
}
