//! What one thread does: it reads, has lines judged, and sends what was found.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

use super::{Batch, Found, Jail, Order, Permit, Read, Room};
use crate::filter::exact::Cache;
use crate::filter::scan::{JailLog, Scanner, Scratch, Tally};
use crate::filter::{date, record};
use crate::server::clock;
use crate::server::engine::Event;
use crate::source::{Delivery, Follower, Handler, Journals, Member, Note, Opened, Position, Reached, Waker, journal};
use crate::time::Time;

/// How long positions are kept back that no failure goes with.
const DIRTY: Duration = Duration::from_millis(500);
/// A thread that is woken more often than [`WAKES`] times in [`QUIET`] waits so long before it reads
/// on: reading single lines as they come costs many times what reading them together does.
const GATHER: Duration = Duration::from_millis(8);
/// Stands for the path of a file where a journal is read.
const JOURNAL: &str = "systemd-journal";
/// See [`GATHER`].
const WAKES: u32 = 25;
/// See [`GATHER`].
const QUIET: Duration = Duration::from_millis(250);

/// What a thread reads.
pub(super) enum Source {
    Files(Box<Follower>),
    Journals(Journals),
}

impl Source {
    pub(super) fn waker(&self) -> Waker {
        match self {
            Source::Files(files) => files.waker(),
            Source::Journals(journals) => journals.waker(),
        }
    }

    fn is_ready(&self) -> bool {
        match self {
            Source::Files(files) => files.is_ready(),
            Source::Journals(journals) => journals.is_ready(),
        }
    }

    fn turn(&mut self, handler: &mut dyn Handler) {
        match self {
            Source::Files(files) => files.turn(handler),
            Source::Journals(journals) => journals.turn(handler),
        }
    }

    fn wait(&mut self, timeout: Option<Duration>) -> std::io::Result<bool> {
        match self {
            Source::Files(files) => files.wait(timeout),
            Source::Journals(journals) => journals.wait(timeout),
        }
    }

    fn remove_all(&mut self, tag: u64) {
        match self {
            Source::Files(files) => files.remove_all(tag),
            Source::Journals(journals) => journals.remove_all(tag),
        }
    }
}

/// What a thread knows.
pub(super) struct Worker {
    events: Sender<Event>,
    jails: HashMap<u64, Jail>,
    states: HashMap<(u64, Arc<Path>), record::State>,
    /// By the jails that read a log.
    scanners: HashMap<Vec<u64>, Arc<Scanner>>,
    scratch: Scratch,
    cache: Cache,
    room: Arc<Room>,
    /// Positions that were not sent yet.
    dirty: HashMap<Arc<Path>, (Vec<u64>, Position)>,
    /// The same of journals, by jail.
    dirty_cursors: HashMap<u64, journal::Cursor>,
    dirty_since: Option<Instant>,
}

impl Worker {
    pub(super) fn new(events: Sender<Event>, jails: HashMap<u64, Jail>) -> Worker {
        Worker {
            events,
            jails,
            states: HashMap::new(),
            scanners: HashMap::new(),
            scratch: Scratch::default(),
            cache: Cache::default(),
            room: Arc::default(),
            dirty: HashMap::new(),
            dirty_cursors: HashMap::new(),
            dirty_since: None,
        }
    }

    pub(super) fn work(&mut self, mut source: Source, orders: &Receiver<Order>) {
        let (mut since, mut wakes) = (Instant::now(), 0);
        loop {
            for order in orders.try_iter() {
                match order {
                    Order::Jail(tag, jail) => {
                        self.jails.insert(tag, jail);
                        self.scanners.retain(|tags, _| !tags.contains(&tag));
                    }
                    Order::Add(tag, spec) => {
                        if let Source::Files(files) = &mut source {
                            files.add(tag, spec);
                        }
                    }
                    Order::Journal(tag, spec, start) => {
                        if let Source::Journals(journals) = &mut source {
                            journals.add(tag, spec, start);
                        }
                    }
                    Order::Remove(tag, pattern) => {
                        if let Source::Files(files) = &mut source {
                            files.remove(tag, &pattern);
                        }
                    }
                    Order::RemoveAll(tag) => {
                        source.remove_all(tag);
                        self.send_positions();
                        self.jails.remove(&tag);
                        self.scanners.retain(|tags, _| !tags.contains(&tag));
                        self.states.retain(|(owner, _), _| *owner != tag);
                    }
                    Order::Stop => return self.send_positions(),
                }
            }
            if source.is_ready() {
                source.turn(self);
                continue;
            }
            if self.dirty_since.is_some_and(|since| since.elapsed() >= DIRTY) {
                self.send_positions();
            }
            let timeout = self.dirty_since.map(|since| DIRTY.saturating_sub(since.elapsed()));
            let waited = source.wait(timeout);
            if let Err(error) = waited {
                let text = format!("cannot wait for logs: {error}; trying again");
                let _ = self.events.send(Event::Trouble(text));
                std::thread::sleep(Duration::from_secs(1));
            }
            if since.elapsed() > QUIET {
                (since, wakes) = (Instant::now(), 0);
            }
            wakes += 1;
            if wakes > WAKES {
                std::thread::sleep(GATHER);
            }
        }
    }

    fn send_positions(&mut self) {
        self.dirty_since = None;
        let mut read = Vec::new();
        for (path, (tags, position)) in self.dirty.drain() {
            let reached = Reached::Log(position);
            read.extend(tags.into_iter().map(|tag| Read { tag, path: path.clone(), reached: reached.clone() }));
        }
        let path: Arc<Path> = Path::new(JOURNAL).into();
        let cursors = self.dirty_cursors.drain();
        read.extend(cursors.map(|(tag, cursor)| Read { tag, path: path.clone(), reached: Reached::Journal(cursor) }));
        if read.is_empty() {
            return;
        }
        // the engine is gone only when all ends
        let _ = self.events.send(Event::Positions(read));
    }

    /// Judges lines for all jails that read them: `judge` is called with the scanner of their filters
    /// and with what each of them knows.
    fn judge(
        &mut self,
        members: &[Member],
        path: &Arc<Path>,
        judge: impl FnOnce(&Scanner, &mut Scratch, &mut [JailLog<'_>]),
    ) -> Vec<Found> {
        let jails = &self.jails;
        let members: Vec<(Member, &Jail)> =
            members.iter().filter_map(|member| Some((*member, jails.get(&member.tag)?))).collect();
        let tags: Vec<u64> = members.iter().map(|(member, _)| member.tag).collect();
        let scanner = self.scanners.entry(tags).or_insert_with_key(|_| {
            let filters: Vec<_> = members.iter().map(|(_, jail)| jail.filter.clone()).collect();
            Arc::new(Scanner::new(&filters))
        });
        // out of the map for the time being: several are needed at once
        let mut states: Vec<record::State> = members
            .iter()
            .map(|(member, _)| self.states.remove(&(member.tag, path.clone())).unwrap_or_default())
            .collect();
        let mut logs: Vec<JailLog<'_>> = members
            .iter()
            .zip(&mut states)
            .map(|((member, jail), state)| JailLog {
                state,
                options: record::Options {
                    in_operation: member.in_operation,
                    findtime: Some(jail.findtime),
                    keep_prefix_values: jail.keep_prefix_values,
                    // the scanner says it, line by line
                    cut: false,
                },
                failures: Vec::new(),
                tally: Tally::default(),
            })
            .collect();
        judge(scanner, &mut self.scratch, &mut logs);
        let found = logs.into_iter().zip(&members).map(|(log, (member, _))| Found {
            tag: member.tag,
            failures: log.failures,
            tally: log.tally,
        });
        let found = found.collect();
        let owners = members.iter().map(|(member, _)| (member.tag, path.clone()));
        self.states.extend(owners.zip(states));
        found
    }

    /// Sends what was found, with the place behind it; waits for room.
    fn send(&self, path: &Arc<Path>, reached: Reached, now: Time, found: Vec<Found>) {
        let batch = Batch { path: path.clone(), reached, now, found, _room: Permit::get(&self.room) };
        // the engine is gone only when all ends
        let _ = self.events.send(Event::Batch(batch));
    }
}

/// Whether nothing was found that would have to be told.
fn is_quiet(found: &[Found]) -> bool {
    found.iter().all(|found| found.failures.is_empty() && !is_odd(&found.tally))
}

/// Whether there is something to tell.
fn is_odd(tally: &Tally) -> bool {
    tally.cut + tally.steps + tally.old + tally.replaced > 0
}

impl Handler for Worker {
    fn opened(&mut self, tag: u64, log: &mut Opened<'_>) {
        if let Some(jail) = self.jails.get(&tag)
            && !log.tail
        {
            let clock = clock();
            let (dates, cache) = (&jail.filter.dates, &mut self.cache);
            let mut learnt = date::State::default();
            let time_of = |line: &[u8]| {
                let text = String::from_utf8_lossy(line);
                let found = dates.find(&mut learnt, cache, &text, clock.now).filter(|found| found.start < found.end)?;
                dates.value(cache, &text, found, &clock)
            };
            if let Err(error) = log.search(clock.now - jail.findtime, time_of) {
                let _ = self.events.send(Event::Trouble(format!("{}: {error}", log.path.display())));
            }
        }
        let read = Read { tag, path: log.path.into(), reached: Reached::Log(log.position.clone()) };
        let _ = self.events.send(Event::Opened(read));
    }

    fn block(&mut self, delivery: &Delivery<'_>) {
        let clock = clock();
        let found = self.judge(delivery.members, delivery.path, |scanner, scratch, jails| {
            scanner.block(scratch, &delivery.block, jails, &clock);
        });
        if is_quiet(&found) {
            let tags = delivery.members.iter().map(|member| member.tag).collect();
            self.dirty.insert(delivery.path.clone(), (tags, delivery.position.clone()));
            self.dirty_since.get_or_insert_with(Instant::now);
            return;
        }
        self.dirty.remove(delivery.path);
        self.send(delivery.path, Reached::Log(delivery.position.clone()), clock.now, found);
    }

    fn records(&mut self, delivery: &journal::Delivery<'_>) {
        let clock = clock();
        let path: Arc<Path> = Path::new(JOURNAL).into();
        // which records are of now, each says itself
        let members: Vec<Member> = delivery.tags.iter().map(|tag| Member { tag: *tag, in_operation: false }).collect();
        let found = self.judge(&members, &path, |scanner, scratch, jails| {
            scanner.records(scratch, &delivery.records, jails, &clock);
        });
        if is_quiet(&found) {
            self.dirty_cursors.extend(delivery.tags.iter().map(|tag| (*tag, delivery.cursor.clone())));
            self.dirty_since.get_or_insert_with(Instant::now);
            return;
        }
        delivery.tags.iter().for_each(|tag| _ = self.dirty_cursors.remove(tag));
        self.send(&path, Reached::Journal(delivery.cursor.clone()), clock.now, found);
    }

    fn journal_note(&mut self, tags: &[u64], note: &journal::Note) {
        let _ = self.events.send(Event::Journal { tags: tags.to_vec(), note: note.clone() });
    }

    fn note(&mut self, members: &[Member], path: &Path, note: Note) {
        let tags = members.iter().map(|member| member.tag).collect();
        let _ = self.events.send(Event::Note { tags, path: path.to_owned(), note });
    }
}
