//! The engine: one thread that owns all jails, counts, decides, and has the decisions carried out.
//!
//! Whatever happens comes in as an [`Event`] through one channel. Events that wait together are
//! dealt with together, and their effects are [settled](Engine::settle) in a fixed order: the
//! kernel first, so that no disk write stands before a ban; then one transaction that moves
//! log positions, counters and bans together, so that after a crash the log is read again from
//! exactly there; then log lines, commands of actions, and answers to whoever asked.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use indexmap::IndexMap;
use tokio::sync::oneshot;

use crate::action;
use crate::action::queue::Queue;
use crate::address::AddressSet;
use crate::config::settings::{Compat, Undecided};
use crate::control::Reply;
use crate::filter::record::moment::written;
use crate::firewall::{Change, Firewall};
use crate::source::{Note, Position, Reached, journal};
use crate::state::{self, State};

use super::causes;
use super::clock::Watch;
use super::database::{Unopened, drop_surplus};
use super::guard::Guard;
use super::handover::Handed;
use super::jail::Jail;
use super::logging::{Level, Logger, shown};
use super::logs::{Batch, Logs, Read};
use super::own;
use super::questions::{Answer, Questions};
use super::socket::Request;

/// Events that are dealt with before their effects are settled.
const TOGETHER: usize = 64;
/// Ends of bans are looked for at least that often.
const TICK: Duration = Duration::from_millis(500);
/// Positions and counters without a ban wait so long for company before they are stored.
const STORE: Duration = Duration::from_millis(200);
/// Time between two tries after something failed.
const AGAIN: Duration = Duration::from_secs(1);
/// At the end, so long failures that have to be asked about are waited for.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
/// Time between two looks for old entries of the database.
const PURGE: Duration = Duration::from_secs(3600);
/// So many changes for the database do not wait for more events.
const MANY: usize = 1_000;
/// Time between two looks whether the database is still where it was.
const LOOK: Duration = Duration::from_secs(5);
/// At the end, so many tries to store what is left; each may wait for another program.
pub(super) const LAST_TRIES: u32 = 20;
/// Time between two looks whether the kernel still has our rules.
const HEAL: Duration = Duration::from_secs(5);

/// Something that happened.
#[derive(Debug)]
pub enum Event {
    /// Lines were read, and something was found in them.
    Batch(Batch),
    /// Lines were read, nothing was found.
    Positions(Vec<Read>),
    /// A log was opened for the first time.
    Opened(Read),
    /// Something about a log.
    Note {
        /// Numbers of the jails.
        tags: Vec<u64>,
        /// The log.
        path: PathBuf,
        /// What.
        note: Note,
    },
    /// Something about a journal.
    Journal {
        /// Numbers of the jails.
        tags: Vec<u64>,
        /// What.
        note: journal::Note,
    },
    /// Something does not work; the text says what.
    Trouble(String),
    /// A client wants something.
    Request(Request),
    /// A failure that had to be asked about.
    Answer(Answer),
    /// This machine's addresses.
    Own(Arc<AddressSet>),
    /// Somebody may have changed the kernel's rules.
    Firewall,
    /// The configuration is to be read again.
    Reload,
    /// The log file is to be opened again.
    Flush,
    /// End.
    Stop,
}

/// How the engine works; does not change while it runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// The configuration directory.
    pub directory: PathBuf,
    /// Where versions of Fail2Ban differ, whom to follow.
    pub compat: Compat,
    /// Whether stock firewall actions are done without their commands.
    pub native_actions: bool,
    /// What is done about lines that could not be decided, by jail; else `undecided`.
    pub undecided_of: BTreeMap<String, Undecided>,
    /// What is done about them in all other jails.
    pub undecided: Undecided,
    /// Only say what would be done: no command is run, nothing is stored.
    pub dry_run: bool,
    /// The database is copied into memory, but for how far the logs were read; its file stays as it is.
    pub database_in_memory: bool,
    /// How the configuration is read again.
    pub reading: crate::fail2ban::Options,
}

/// Settings of the whole server, as clients ask for them.
#[derive(Clone, Debug)]
pub(super) struct General {
    pub loglevel: String,
    pub logtarget: String,
    pub syslogsocket: String,
    pub dbfile: Option<PathBuf>,
    pub dbmaxmatches: i64,
    pub dbpurgeage: f64,
    pub stacksize: i64,
    /// Whether IPv6 is none of this machine's business.
    pub without_ipv6: bool,
}

impl Default for General {
    fn default() -> General {
        General {
            loglevel: "INFO".to_owned(),
            logtarget: "STDOUT".to_owned(),
            syslogsocket: "auto".to_owned(),
            dbfile: None,
            dbmaxmatches: 10,
            dbpurgeage: 86_400.0,
            stacksize: 0,
            without_ipv6: false,
        }
    }
}

/// What is still to be done, in this order.
#[derive(Debug, Default)]
pub(super) struct Effects {
    /// For the kernel.
    pub kernel: Vec<Change>,
    /// For the database; what is not yet stored stays here.
    pub stored: Vec<state::Change>,
    /// Whose history is among the things to store.
    pub unstored: HashSet<Arc<str>>,
    /// For the log.
    pub lines: Vec<(Level, &'static str, String)>,
    /// For actions that are commands.
    pub actions: Vec<(Queue, action::Facts, action::queue::Event)>,
    /// For whoever asked.
    pub replies: Vec<(oneshot::Sender<Reply>, Reply)>,
    /// A ban or unban is among the things to store: it does not wait.
    pub urgent: bool,
}

impl Effects {
    pub(super) fn line(&mut self, level: Level, part: &'static str, text: String) {
        self.lines.push((level, part, text));
    }

    /// Something about someone's history that has to be stored without delay.
    pub(super) fn store(&mut self, id: Arc<str>, change: state::Change) {
        self.unstored.insert(id);
        self.stored.push(change);
        self.urgent = true;
    }
}

/// The engine; see the module.
pub struct Engine {
    pub(super) options: Options,
    pub(super) jails: IndexMap<Arc<str>, Jail>,
    pub(super) tags: HashMap<u64, Arc<str>>,
    pub(super) last_tag: u64,
    pub(super) firewall: Box<dyn Firewall>,
    pub(super) state: Option<State>,
    /// The file that `state` stands in for.
    pub(super) unopened: Option<Unopened>,
    pub(super) general: General,
    pub(super) logs: Logs,
    pub(super) logger: Arc<Logger>,
    pub(super) runtime: tokio::runtime::Handle,
    pub(super) effects: Effects,
    /// Positions that are not yet stored.
    pub(super) positions: HashMap<(u64, Arc<Path>), Position>,
    /// The same of journals, by jail.
    pub(super) cursors: HashMap<u64, journal::Cursor>,
    /// When something not urgent has to be stored.
    store_at: Option<Instant>,
    /// No try to store before.
    store_again: Option<Instant>,
    /// The kernel may not have all bans: send all of them then.
    repair_at: Option<Instant>,
    heal_at: Instant,
    look_at: Instant,
    pub(super) watch: Watch,
    purge_at: Instant,
    pub(super) own: Arc<AddressSet>,
    pub(super) questions: Questions,
    pub(super) guard: Guard,
    pub(super) random: super::random::Random,
    /// What the actions of all jails mention, and the editions of the jails it was read from.
    pub(super) mentions: (Vec<u64>, super::native::Mentions),
    pub(super) stopping: bool,
    /// The kernel goes on banning when we have ended.
    pub(super) keep_bans: bool,
    /// Bans of another server, by jail, for its start.
    pub(super) handed: HashMap<String, Vec<Handed>>,
    /// Jails that are gone, and whose last actions are still to come to their end.
    pub(super) endings: HashMap<Arc<str>, oneshot::Receiver<()>>,
    /// Globs of `logpath`, by jail, where the configuration was read by ourselves.
    pub(super) patterns: HashMap<String, Vec<String>>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Engine {
    /// Without any jail.
    #[must_use]
    pub fn new(
        options: Options,
        firewall: Box<dyn Firewall>,
        logger: Arc<Logger>,
        runtime: tokio::runtime::Handle,
        events: Sender<Event>,
    ) -> Engine {
        let sender = events.clone();
        // the engine is gone only when all ends
        let questions = Questions::start(&runtime, move |answer| drop(sender.send(Event::Answer(answer))));
        let sender = events.clone();
        questions.watch_own(move |own| drop(sender.send(Event::Own(own))));
        Engine {
            options,
            jails: IndexMap::new(),
            tags: HashMap::new(),
            last_tag: 0,
            firewall,
            state: None,
            unopened: None,
            general: General::default(),
            logs: Logs::new(events),
            logger,
            runtime,
            effects: Effects::default(),
            positions: HashMap::new(),
            cursors: HashMap::new(),
            store_at: None,
            store_again: None,
            repair_at: None,
            heal_at: Instant::now() + HEAL,
            look_at: Instant::now() + LOOK,
            watch: Watch::new(),
            purge_at: Instant::now() + PURGE,
            own: Arc::new(own::addresses()),
            questions,
            guard: Guard::new(),
            random: super::random::Random::new(),
            mentions: Default::default(),
            stopping: false,
            keep_bans: false,
            handed: HashMap::new(),
            endings: HashMap::new(),
            patterns: HashMap::new(),
        }
    }

    /// Works until something asks for the end, then stops all jails.
    pub fn run(&mut self, events: &Receiver<Event>) {
        while !self.stopping {
            let event = events.recv_timeout(self.patience());
            self.follow_clock();
            match event {
                Ok(event) => {
                    self.take(event);
                    for event in events.try_iter().take(TOGETHER) {
                        self.take(event);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => self.stopping = true,
            }
            self.expire();
            self.settle();
            self.look_after();
        }
        self.shut_down(events);
    }

    /// How long there is nothing to do by itself.
    fn patience(&self) -> Duration {
        let now = Instant::now();
        let mut next = now + TICK;
        for other in [self.store_at, self.repair_at].into_iter().flatten() {
            next = next.min(other);
        }
        let ends = self.jails.values().filter_map(|jail| jail.counts.next_end()).min();
        let end = ends.map(|end| Duration::from_secs_f64((end - super::clock().now).clamp(0.0, 1.0) + 0.001));
        end.map_or(next, |end| next.min(now + end)).saturating_duration_since(now)
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Batch(batch) => self.batch(batch),
            Event::Positions(read) => read.into_iter().for_each(|read| self.read(read)),
            Event::Opened(read) => self.opened(read),
            Event::Note { tags, path, note } => self.note(&tags, &path, &note),
            Event::Journal { tags, note } => self.journal_note(&tags, &note),
            Event::Trouble(text) => self.effects.line(Level::ERROR, "filter", text),
            Event::Request(request) => self.request(request),
            Event::Answer(answer) => self.answer(answer),
            Event::Own(own) => self.set_own(own),
            Event::Firewall => self.heal_at = Instant::now(),
            Event::Reload => self.reload_from_files(),
            Event::Flush => _ = self.flush_logs(),
            Event::Stop => self.stopping = true,
        }
    }

    /// What was found in some lines.
    fn batch(&mut self, batch: Batch) {
        for found in batch.found {
            let Some(name) = self.tags.get(&found.tag).cloned() else { continue };
            self.tally(&name, &batch.path, &found.tally);
            for failure in found.failures {
                self.failure(&name, failure, batch.now);
            }
            self.read(Read { tag: found.tag, path: batch.path.clone(), reached: batch.reached.clone() });
        }
        // a flood is stored bit by bit: what is prepared for the database takes much more room than a counter
        let counters: usize = self.jails.values().map(|jail| jail.counts.failures.changes()).sum();
        if self.effects.stored.len() + counters >= MANY {
            self.effects.urgent = true;
        }
        if self.effects.urgent || self.effects.lines.len() >= MANY {
            self.settle();
        }
    }

    fn read(&mut self, read: Read) {
        let Some(jail) = self.tags.get(&read.tag).and_then(|name| self.jails.get_mut(name)) else { return };
        match read.reached {
            Reached::Log(position) => {
                // what was read of a log that has left in the meantime
                if !jail.announced.contains(&*read.path) {
                    return;
                }
                jail.positions.insert(read.path.clone(), position.clone());
                if self.state.is_some() {
                    self.positions.insert((read.tag, read.path), position);
                }
            }
            Reached::Journal(cursor) => {
                jail.cursor = Some(cursor.clone());
                if self.state.is_some() {
                    self.cursors.insert(read.tag, cursor);
                }
            }
        }
        if self.state.is_some() {
            self.store_soon();
        }
    }

    fn opened(&mut self, read: Read) {
        let Some(name) = self.tags.get(&read.tag).cloned() else { return };
        // only a log is opened
        let Reached::Log(position) = read.reached else { return };
        self.added(&name, &read.path, &position);
        if let Some(jail) = self.jails.get_mut(&name) {
            jail.positions.insert(read.path, position);
        }
    }

    fn note(&mut self, tags: &[u64], path: &Path, note: &Note) {
        let path = shown(&path.to_string_lossy());
        let (level, text) = match note {
            Note::Gone => (Level::MSG, format!("Log file '{path}' is not there; waiting for it")),
            Note::Back => (Level::MSG, format!("Log file '{path}' is there again")),
            Note::Rotated => (Level::MSG, format!("Log rotation detected for {path}, reason: (another file)")),
            Note::Truncated => (Level::MSG, format!("Log rotation detected for {path}, reason: (emptied)")),
            Note::Failed(error) => {
                let hint = if error.kind() == std::io::ErrorKind::PermissionDenied {
                    "; give the server the right to read it"
                } else {
                    "; trying again"
                };
                (Level::ERROR, format!("Unable to open {path}: {error}{hint}"))
            }
        };
        // a member without a jail left already
        if tags.iter().any(|tag| self.tags.contains_key(tag)) {
            self.effects.line(level, "filter", text);
        }
    }

    fn journal_note(&mut self, tags: &[u64], note: &journal::Note) {
        for name in tags.iter().filter_map(|tag| self.tags.get(tag)).cloned().collect::<Vec<_>>() {
            let (level, text) = match note {
                journal::Note::Failed(why) => {
                    (Level::ERROR, format!("[{name}] the journal cannot be read: {}; trying again", shown(why)))
                }
                journal::Note::Back => (Level::NOTICE, format!("[{name}] the journal can be read again")),
            };
            self.effects.line(level, "filtersystemd", text);
        }
    }

    /// This machine's addresses have changed.
    fn set_own(&mut self, own: Arc<AddressSet>) {
        if own == self.own {
            return;
        }
        self.own = own;
        for jail in self.jails.values_mut() {
            jail.set_policy(&self.own);
        }
    }

    /// Ends what is over.
    fn expire(&mut self) {
        let now = super::clock().now;
        for index in 0..self.jails.len() {
            let Some((name, jail)) = self.jails.get_index_mut(index) else { continue };
            if jail.setup.idle {
                continue;
            }
            let name = name.clone();
            let decisions = jail.counts.expire(now);
            if !decisions.is_empty() {
                self.carry_out(&name, decisions, now);
            }
            self.track(&name);
        }
    }

    /// Remembers that counters have changed.
    fn track(&mut self, name: &str) {
        if self.state.is_some() && self.jails.get(name).is_some_and(|jail| jail.counts.failures.changes() > 0) {
            self.store_soon();
        }
    }

    pub(super) fn store_soon(&mut self) {
        self.store_at.get_or_insert_with(|| Instant::now() + STORE);
    }

    /// Carries out all effects; see the module for the order.
    pub(super) fn settle(&mut self) {
        self.apply();
        let due = self.store_at.is_some_and(|at| at <= Instant::now());
        if self.effects.urgent || due {
            self.store();
        }
        self.logger.log_all(self.effects.lines.iter().map(|(level, part, text)| (*level, *part, &**text)));
        self.effects.lines.clear();
        for (queue, facts, event) in std::mem::take(&mut self.effects.actions) {
            queue.send(facts, event);
        }
        for (reply, answer) in std::mem::take(&mut self.effects.replies) {
            // whoever asked may be gone
            let _ = reply.send(answer);
        }
    }

    /// Tells the kernel what has gathered.
    fn apply(&mut self) {
        let changes = std::mem::take(&mut self.effects.kernel);
        if changes.is_empty() {
            return;
        }
        match self.firewall.apply(&changes) {
            Ok(refused) => {
                for (index, error) in refused {
                    let jail = changes[index].jail();
                    self.effects.line(Level::ERROR, "actions", format!("[{jail}] firewall: {}", causes(&error)));
                }
            }
            Err(error) => {
                let text = format!("firewall: {}; all bans are sent again in a moment", causes(&error));
                self.effects.line(Level::CRITICAL, "actions", text);
                self.repair_at.get_or_insert_with(|| Instant::now() + AGAIN);
            }
        }
    }

    /// Stores what has gathered, in one transaction; what cannot be stored is tried again.
    fn store(&mut self) {
        if self.store_again.is_some_and(|again| Instant::now() < again) {
            return;
        }
        self.effects.urgent = false;
        self.store_at = None;
        let Some(state) = &mut self.state else {
            self.effects.stored.clear();
            self.effects.unstored.clear();
            return;
        };
        for ((tag, path), position) in self.positions.drain() {
            let Some(jail) = self.tags.get(&tag) else { continue };
            self.effects.stored.push(state::Change::Position(state::Position {
                jail: jail.clone(),
                path: path.to_path_buf(),
                hash: position.hash.to_string(),
                offset: position.offset,
                inode: position.inode,
            }));
        }
        let zone = jiff::tz::TimeZone::system();
        for (tag, journal::Cursor { id, time }) in self.cursors.drain() {
            let Some(jail) = self.tags.get(&tag) else { continue };
            self.effects.stored.push(state::Change::Journal(state::Journal {
                jail: jail.clone(),
                time,
                written: written(time, &zone) + " ",
                cursor: id,
            }));
        }
        for (name, jail) in &mut self.jails {
            let maxmatches = jail.counts.limits().maxmatches as usize;
            let changes = jail.counts.failures.take_changes();
            self.effects
                .stored
                .extend(changes.into_iter().map(|change| super::effects::counter(name, change, maxmatches)));
        }
        match state.commit(&self.effects.stored) {
            Ok(()) => {
                if let Some(unopened) = &mut self.unopened {
                    unopened.keep(&mut self.effects.stored);
                }
                self.effects.stored.clear();
                self.effects.unstored.clear();
                if self.store_again.take().is_some() {
                    self.effects.line(Level::NOTICE, "database", "the database can be written again".to_owned());
                }
            }
            Err(error) => {
                if self.store_again.is_none() {
                    let text = format!("{}; bans go on, and are stored as soon as that works", causes(&error));
                    self.effects.line(Level::ERROR, "database", text);
                }
                let again = Instant::now() + AGAIN;
                (self.store_again, self.store_at) = (Some(again), Some(again));
                if error.is_corrupt() {
                    self.repair();
                }
                drop_surplus(&mut self.effects.stored);
            }
        }
    }

    /// What has to be done now and then.
    fn look_after(&mut self) {
        let now = Instant::now();
        if now >= self.heal_at {
            self.heal_at = now + HEAL;
            match self.firewall.heal() {
                Ok(Some(damage)) => {
                    let by = damage.by.map_or_else(|| "somebody".to_owned(), |by| format!("`{}`", shown(&by)));
                    let text = format!("{by} took our rules out of the kernel; they are back, and all bans");
                    self.effects.line(Level::WARNING, "actions", text);
                    self.repair_at = Some(now);
                }
                Ok(None) => {}
                Err(error) => {
                    self.effects.line(Level::ERROR, "actions", format!("firewall: {}", causes(&error)));
                    self.repair_at.get_or_insert(now + AGAIN);
                }
            }
        }
        if self.repair_at.is_some_and(|at| at <= now) {
            self.repair_at = None;
            self.send_all();
            self.settle();
        }
        self.open_again();
        if now >= self.look_at {
            self.look_at = now + LOOK;
            self.look_for_database();
        }
        if now >= self.purge_at {
            self.purge_at = now + PURGE;
            let age = self.general.dbpurgeage;
            if let Some(Err(error)) = self.state.as_mut().map(|state| state.purge(super::clock().now, age)) {
                self.effects.line(Level::ERROR, "database", causes(&error));
            }
        }
    }

    fn shut_down(&mut self, events: &Receiver<Event>) {
        self.effects.line(Level::INFO, "server", "Shutdown in progress...".to_owned());
        // what has been read is still counted; everything else begins from there
        self.logs.stop();
        let end = Instant::now() + LAST_ANSWERS;
        let mut more = true;
        while more {
            for event in events.try_iter() {
                if matches!(event, Event::Batch(_) | Event::Positions(_) | Event::Answer(_)) {
                    self.take(event);
                }
            }
            // an answer is in the channel before its question stops waiting, hence one more round after the last
            let waiting = self.questions.pending() > 0;
            more = waiting && Instant::now() < end;
            if more {
                std::thread::sleep(Duration::from_millis(1));
            } else if !waiting {
                events.try_iter().filter(|event| matches!(event, Event::Answer(_))).for_each(|event| self.take(event));
            }
        }
        self.settle();
        self.store();
        self.effects.line(Level::INFO, "server", "Stopping all jails".to_owned());
        for name in self.jails.keys().cloned().collect::<Vec<_>>() {
            self.stop_jail(&name, super::jail::Leaving::Stop);
        }
        self.settle();
        // the last chance, whenever the last try was
        for _ in 0..LAST_TRIES {
            self.store_again = self.store_again.map(|_| Instant::now());
            self.store();
            if self.effects.stored.is_empty() {
                break;
            }
        }
        self.open_at_last();
        // commands have their own deadlines; all jails' run side by side
        for (_, ending) in std::mem::take(&mut self.endings) {
            // without an answer the runtime is gone, and the commands with it
            let _ = ending.blocking_recv();
        }
        if self.keep_bans {
            self.effects.line(Level::NOTICE, "actions", "the kernel goes on banning, as it was asked for".to_owned());
        } else if let Err(error) = self.firewall.remove() {
            self.effects.line(Level::ERROR, "actions", format!("firewall: {}", causes(&error)));
        }
        if let Some(state) = self.state.take() {
            if let Err(error) = state.close() {
                self.effects.line(Level::WARNING, "database", causes(&error));
            }
            self.effects.line(Level::INFO, "database", "Connection to database closed.".to_owned());
        }
        self.effects.line(Level::INFO, "server", format!("Exiting {}", super::NAME));
        self.settle();
    }
}
