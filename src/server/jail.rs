//! A jail of the daemon: what it was told, and what runs because of it.
//!
//! There is one way to a changed jail: a copy of its settings is changed, and
//! [`Engine::adopt`] makes what runs agree with the copy. A reload and a single `set` are the same.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use indexmap::IndexMap;

use crate::action::queue::{Event as ActionEvent, Queue, Severity};
use crate::action::{Ticket, Wants, Work};
use crate::address::{AddressSet, Id};
use crate::config::journal::Journal;
use crate::config::settings::Compat;
use crate::control::{Failure, FailureKind};
use crate::fail2ban::{compile, database, date, increment, time};
use crate::filter::record;
use crate::firewall::{Change, Scope};
use crate::jail::{self, Ban, Decision, Reason, Verdict};
use crate::source::{self, Encoding, Method, Pattern, Position, Spec, Start, journal};
use crate::state;
use crate::time::Time;

use super::causes;
use super::engine::Engine;
use super::logging::{Level, shown};
use super::logs;
use super::native::Mentions;
use super::questions::Policy;
use super::setup::{LogPath, Setup};
use super::undecided::Undecided;

/// What becomes of the bans of a jail that goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaving {
    /// The server or the jail stops; a start restores the bans.
    Stop,
    /// The jail is made anew at once.
    Restart,
}

/// How an action is carried out.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Act {
    /// By ourselves, at this place of the firewall.
    Native { place: Arc<str>, scope: Scope },
    /// By what it consists of.
    Own(Work),
}

/// A jail.
#[derive(Debug)]
pub struct Jail {
    /// Its number.
    pub(super) tag: u64,
    /// What it was told.
    pub(super) setup: Setup,
    /// Whether it runs.
    pub(super) started: bool,
    /// Counters, bans, rules.
    pub(super) counts: jail::Jail,
    /// Whom not to count.
    pub(super) policy: Arc<Policy>,
    pub(super) filter: Option<Arc<record::Filter>>,
    pub(super) acts: IndexMap<String, Act>,
    /// For actions that the kernel knows nothing of.
    pub(super) queue: Option<Queue>,
    /// Logs that are read, and were told of when they came.
    pub(super) announced: HashSet<PathBuf>,
    /// What these want to know.
    pub(super) wants: Wants,
    /// How far each log was read.
    pub(super) positions: HashMap<Arc<Path>, Position>,
    /// How far its journal was read.
    pub(super) cursor: Option<journal::Cursor>,
    /// Lines that could not be decided.
    pub(super) undecided: Undecided,
    /// When odd times were last told of.
    pub(super) told_odd: Option<Time>,
}

impl Jail {
    pub(super) fn new(tag: u64, name: Arc<str>, backend: String, journal: Option<Journal>) -> Jail {
        let setup = Setup::new(name, backend, journal);
        let policy = Arc::new(Policy::new(&setup.ignore, setup.filter.usedns, Arc::default()));
        Jail {
            tag,
            setup,
            policy,
            started: false,
            counts: jail::Jail::default(),
            filter: None,
            acts: IndexMap::new(),
            queue: None,
            announced: HashSet::new(),
            wants: Wants::default(),
            positions: HashMap::new(),
            cursor: None,
            undecided: Undecided::default(),
            told_odd: None,
        }
    }

    /// Makes the rules agree with the settings and this machine's addresses.
    pub(super) fn set_policy(&mut self, own: &Arc<AddressSet>) {
        self.policy = Arc::new(Policy::new(&self.setup.ignore, self.setup.filter.usedns, own.clone()));
    }

    /// Places in the firewall.
    pub(super) fn places(&self) -> impl Iterator<Item = &Arc<str>> {
        self.acts.values().filter_map(|act| match act {
            Act::Native { place, .. } => Some(place),
            Act::Own(_) => None,
        })
    }

    /// Files that are read.
    pub(super) fn files(&self) -> Vec<String> {
        let mut files: Vec<String> =
            self.setup.logs.iter().map(|log| log.path.to_string_lossy().into_owned()).collect();
        let mut more: Vec<String> = self.announced.iter().map(|path| path.to_string_lossy().into_owned()).collect();
        more.retain(|path| !files.contains(path));
        more.sort();
        files.extend(more);
        files
    }
}

impl Engine {
    /// Starts jails. All are announced to the kernel together with their stored bans, in one
    /// transaction. What keeps single jails from starting is logged and returned; the others run.
    pub(super) fn start_jails(&mut self, names: &[Arc<str>]) -> Result<(), Failure> {
        let now = super::clock().now;
        let mut first = Ok(());
        let mut started = Vec::new();
        for (name, compiled) in self.compile_all(names) {
            match compiled.and_then(|filter| self.start_jail(&name, filter, now)) {
                Ok(()) => started.push(name),
                Err(failure) => {
                    let text = super::setup::text(&failure.arguments.first().cloned().unwrap_or("unknown".into()));
                    let text = format!("Jail '{name}' not started: {}", text.replace('\n', " "));
                    self.effects.line(Level::ERROR, "jail", text);
                    first = first.and(Err(failure));
                }
            }
        }
        self.settle();
        for name in &started {
            self.follow(name);
            self.effects.line(Level::INFO, "jail", format!("Jail '{name}' started"));
        }
        self.settle();
        first
    }

    /// Compiles the filters of jails, on all processors.
    fn compile_all(&self, names: &[Arc<str>]) -> Vec<(Arc<str>, Result<record::Filter, Failure>)> {
        let todo: Vec<(&Arc<str>, &crate::config::Filter)> = names
            .iter()
            .filter_map(|name| Some((name, self.jails.get(name).filter(|jail| !jail.started)?)))
            .map(|(name, jail)| (name, &jail.setup.filter))
            .collect();
        let next = std::sync::atomic::AtomicUsize::new(0);
        let work = || {
            let mut done = Vec::new();
            loop {
                let index = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let Some((_, filter)) = todo.get(index) else { return done };
                done.push((index, compiled(filter)));
            }
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(todo.len());
        let mut results: Vec<(usize, Result<record::Filter, Failure>)> = if threads < 2 {
            work()
        } else {
            std::thread::scope(|scope| {
                let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
                workers.into_iter().filter_map(|worker| worker.join().ok()).flatten().collect()
            })
        };
        results.sort_by_key(|(index, _)| *index);
        results.into_iter().map(|(index, result)| (todo[index].0.clone(), result)).collect()
    }

    fn start_jail(&mut self, name: &Arc<str>, filter: record::Filter, now: Time) -> Result<(), Failure> {
        let Some(jail) = self.jails.get_mut(name) else { return Err(unknown(name)) };
        if jail.setup.journal.is_some() {
            if !journal::is_available() {
                let text = format!(
                    "it reads the journal, and there is no `{}`; install systemd, or set `logpath` to an existing file",
                    journal::PROGRAM
                );
                return Err(Failure::new(FailureKind::Runtime, text));
            }
        } else if jail.setup.logs.is_empty() {
            return Err(Failure::new(FailureKind::Runtime, "it has no log file; set `logpath` to an existing file"));
        }
        jail.filter = Some(Arc::new(filter));
        jail.started = true;
        jail.counts.set_limits(jail.setup.limits.clone());
        jail.set_policy(&self.own);
        jail.counts.failures.track_changes(self.state.is_some());
        jail.set_wants();
        self.set_increment(name);
        self.begin_actions(name);
        self.effects.stored.push(state::Change::Jail { name: name.clone(), enabled: true });
        self.restore(name, now);
        Ok(())
    }

    fn set_increment(&mut self, name: &Arc<str>) {
        let Some(jail) = self.jails.get_mut(name) else { return };
        match increment::increment(&jail.setup.increment) {
            Ok(mut increment) => {
                if increment.enabled && self.state.is_none() {
                    let text = "ban time increment is not available as long jail database is not set";
                    self.effects.line(Level::WARNING, "jail", format!("[{name}] {text}"));
                    increment.enabled = false;
                }
                jail.counts.set_increment(increment);
            }
            Err(error) => self.effects.line(Level::ERROR, "jail", format!("[{name}] {error}")),
        }
    }

    /// Sets up the actions of a jail that starts.
    fn begin_actions(&mut self, name: &Arc<str>) {
        let acts = self.acts_of(name);
        let facts = self.facts(name);
        let Some(jail) = self.jails.get_mut(name) else { return };
        let mut commands = false;
        for (action, act) in acts {
            match &act {
                Act::Native { place, scope } => {
                    self.effects.kernel.push(Change::Jail { name: place.clone(), scope: scope.clone() });
                }
                Act::Own(work) => {
                    if self.options.dry_run {
                        let text = format!("[{name}] dry run: action '{action}' is not run");
                        self.effects.line(Level::NOTICE, "actions", text);
                        jail.acts.insert(action, act);
                        continue;
                    }
                    let queue = jail.queue.get_or_insert_with(|| {
                        let logger = self.logger.clone();
                        let report = move |severity, part: &str, text: String| logger.log(level(severity), part, &text);
                        let before = self.endings.remove(name);
                        Queue::start(&self.runtime, name.clone(), before, Arc::new(report))
                    });
                    let event = add(&action, work, None);
                    self.effects.actions.push((queue.clone(), facts, event));
                    commands = true;
                }
            }
            jail.acts.insert(action, act);
        }
        if commands {
            self.act(name, ActionEvent::Start);
        }
    }

    /// How each action of a jail is carried out.
    fn acts_of(&mut self, name: &Arc<str>) -> Vec<(String, Act)> {
        let native = self.options.native_actions;
        let setups = || self.jails.values().map(|jail| &jail.setup);
        if native && !setups().map(|setup| setup.edition).eq(self.mentions.0.iter().copied()) {
            let actions = setups().flat_map(|setup| setup.actions.iter().filter_map(|(_, work)| work.properties()));
            let mentions =
                Mentions::of(actions, setups().map(|setup| setup.ignore.command.as_deref().unwrap_or_default()));
            self.mentions = (setups().map(|setup| setup.edition).collect(), mentions);
        }
        let Some(jail) = self.jails.get(name) else { return Vec::new() };
        let actions = jail.setup.actions.iter().map(|(action, work)| (action.as_str(), work.properties()));
        let places = super::native::places(name, actions, native, &self.mentions.1);
        let acts = places.into_iter().zip(&jail.setup.actions).map(|(place, (action, work))| match place {
            Some((place, scope)) => (action.clone(), Act::Native { place, scope }),
            None => (action.clone(), Act::Own(work.clone())),
        });
        acts.collect()
    }

    /// Bans and counters from before a restart.
    pub(super) fn restore(&mut self, name: &Arc<str>, now: Time) {
        let handed = self.handed.remove(&**name).unwrap_or_default();
        let Some(jail) = self.jails.get_mut(name).filter(|_| self.state.is_some() || !handed.is_empty()) else {
            return;
        };
        let limits = jail.counts.limits().clone();
        let options = jail.counts.increment();
        let which = state::Restore {
            jail: name,
            now,
            bantime: limits.bantime,
            increment: options.enabled.then(|| options.maxtime.unwrap_or(jail::PERMANENT)),
        };
        let found = self.state.as_ref().map_or_else(
            || Ok(Default::default()),
            |state| state.restorable(&which).and_then(|found| Ok((found, state.failures(name)?))),
        );
        let (state::Restorable { mut bans, unusable }, counters) = match found {
            Ok(found) => found,
            Err(error) => {
                let text = format!("[{name}] earlier bans cannot be restored: {}", causes(&error));
                return self.effects.line(Level::ERROR, "database", text);
            }
        };
        if unusable > 0 {
            let text = format!("[{name}] {unusable} row(s) of the database are of no use and are left out");
            self.effects.line(Level::WARNING, "database", text);
        }
        for counter in counters {
            let kept = database::decode(&counter.data);
            jail.counts.failures.load(jail::Counter {
                id: Id::parse(&counter.id),
                first: counter.first.min(now),
                last: counter.last.min(now),
                retry: counter.retry,
                failures: counter.failures,
                details: super::effects::details(kept),
            });
        }
        let mut decisions = Vec::new();
        let lengths = super::handover::merge(&mut bans, name, handed, self.general.dbmaxmatches);
        self.effects.stored.extend(lengths);
        for row in bans {
            let id = Id::parse(&row.id);
            // when the database could be opened only later
            if jail.counts.bans().get(&id).is_some() {
                continue;
            }
            if let Verdict::Ignored(by) = jail.policy.rules.check(&id) {
                let text = format!("[{name}] Ignore {} by {by}", shown(&id.to_string()));
                self.effects.line(Level::INFO, "filter", text);
                continue;
            }
            let mut kept = database::decode(&row.data);
            let surplus = kept.matches.len().saturating_sub(limits.maxmatches as usize);
            kept.matches.drain(..surplus);
            let failures = kept.failures;
            let ban = Ban {
                own: Some(row.bantime),
                count: row.count,
                failures,
                details: Arc::new(super::effects::details(kept)),
                // the clock may have been set back in the meantime
                ..Ban::new(id, row.time.min(now))
            };
            decisions.extend(jail.counts.restore(ban, now));
        }
        self.carry_out(name, decisions, now);
    }

    /// Tells of a log that a jail is to read, and from where on; only once.
    pub(super) fn announce(&mut self, name: &str, log: Option<LogPath>) {
        let (Some(log), Some(jail)) = (log, self.jails.get_mut(name)) else { return };
        if jail.announced.contains(&log.path) {
            return;
        }
        let saved = jail.positions.get(&*log.path).cloned().or_else(|| {
            let row = self.state.as_ref()?.position(name, &log.path.to_string_lossy()).ok()??;
            Some(Position { inode: row.inode, hash: row.hash.into(), offset: row.offset })
        });
        // one that cannot be opened is told of when it can
        if let Ok(position) = source::beginning(&log.path, encoding(&jail.setup), log.tail, saved.as_ref()) {
            self.added(name, &log.path, &position);
        }
    }

    /// Says that a log is read from now on, unless that was said.
    pub(super) fn added(&mut self, name: &str, path: &Path, position: &Position) {
        let Some(jail) = self.jails.get_mut(name) else { return };
        if jail.announced.insert(path.to_owned()) {
            let (Position { offset, hash, .. }, path) = (position, shown(&path.to_string_lossy()));
            let text = format!("Added logfile: '{path}' (pos = {offset}, hash = {hash})");
            self.effects.line(Level::INFO, "filter", text);
        }
    }

    /// Begins to read the logs of a jail that has started.
    fn follow(&mut self, name: &Arc<str>) {
        let saved = self.saved_positions(name);
        let Some(jail) = self.jails.get(name) else { return };
        let Some(filter) = jail.filter.clone() else { return };
        let keep_prefix_values = self.options.compat == Compat::V1_1;
        let findtime = jail.counts.limits().findtime;
        self.logs.set_jail(jail.tag, logs::Jail { filter, findtime, keep_prefix_values });
        if jail.setup.journal.is_some() {
            self.follow_journal(name);
            return self.tell_of_journal(name);
        }
        for log in jail.setup.logs.clone() {
            self.follow_log(name, &log, &saved);
        }
        let Some(jail) = self.jails.get(name) else { return };
        let (tag, method, encoding) = (jail.tag, method(&jail.setup), encoding(&jail.setup));
        for glob in self.patterns.get(&**name).cloned().unwrap_or_default() {
            let pattern = Pattern::Glob(PathBuf::from(glob));
            let spec = Spec { pattern, encoding, start: Start::Head, saved: saved.clone() };
            self.report_logs(name, tag, method, spec);
        }
    }

    /// Begins to read the journal of a jail, or goes on with other matches.
    fn follow_journal(&mut self, name: &Arc<str>) {
        let after = self.saved_cursor(name);
        let Some(jail) = self.jails.get(name) else { return };
        let Some(journal) = jail.setup.journal.clone() else { return };
        let since = super::clock().now - jail.counts.limits().findtime;
        let (tag, spec) = (jail.tag, journal::Spec { journal, matches: jail.setup.journalmatch.clone() });
        if let Err(error) = self.logs.add_journal(tag, spec, journal::Start { after, since }) {
            let text = format!("[{name}] the journal cannot be followed: {error}");
            self.effects.line(Level::ERROR, "filtersystemd", text);
        }
    }

    /// What is to be said when a jail begins to read a journal.
    fn tell_of_journal(&mut self, name: &Arc<str>) {
        let Some(setup) = self.jails.get(name).map(|jail| &jail.setup) else { return };
        let all = setup.journalmatch.iter().all(Vec::is_empty);
        let waits = setup.journal.as_ref().is_some_and(|journal| !journal::is_written(journal));
        if all {
            let text = format!(
                "[{name}] Jail started without 'journalmatch' set. It looks at every entry of the journal; name those of \
                 its service to save time"
            );
            self.effects.line(Level::NOTICE, "filtersystemd", text);
        }
        if waits {
            let text = format!("[{name}] no journald runs on this machine; waiting for entries of one");
            self.effects.line(Level::WARNING, "filtersystemd", text);
        }
        let text = format!("[{name}] Jail is in operation now (process new journal entries)");
        self.effects.line(Level::INFO, "filtersystemd", text);
    }

    /// Where to go on in the journal of a jail: as this process knows, else as the database says.
    fn saved_cursor(&mut self, name: &Arc<str>) -> Option<journal::Cursor> {
        if let Some(cursor) = self.jails.get(name).and_then(|jail| jail.cursor.clone()) {
            return Some(cursor);
        }
        match self.state.as_ref()?.journal(name) {
            Ok(saved) => saved.map(|saved| journal::Cursor { id: saved.cursor, time: saved.time }),
            Err(error) => {
                let text = format!("[{name}] the place in the journal cannot be read: {}", causes(&error));
                self.effects.line(Level::ERROR, "database", text);
                None
            }
        }
    }

    fn follow_log(&mut self, name: &Arc<str>, log: &LogPath, saved: &HashMap<PathBuf, Position>) {
        let Some(jail) = self.jails.get(name) else { return };
        let start = if log.tail { Start::Tail } else { Start::Head };
        let spec = Spec {
            pattern: Pattern::Path(log.path.clone()),
            encoding: encoding(&jail.setup),
            start,
            saved: saved.clone(),
        };
        self.report_logs(name, jail.tag, method(&jail.setup), spec);
    }

    fn report_logs(&mut self, name: &str, tag: u64, method: Method, spec: Spec) {
        if let Err(error) = self.logs.add(tag, method, spec) {
            self.effects.line(Level::ERROR, "filter", format!("[{name}] logs cannot be followed: {error}"));
        }
    }

    /// Where to go on in the logs of a jail: as this process knows, else as the database says.
    fn saved_positions(&mut self, name: &Arc<str>) -> HashMap<PathBuf, Position> {
        let mut saved = HashMap::new();
        if let Some(state) = &self.state {
            match state.positions(name) {
                Ok(rows) => {
                    saved.extend(rows.into_iter().map(|row| {
                        (row.path, Position { inode: row.inode, hash: row.hash.into(), offset: row.offset })
                    }));
                }
                Err(error) => {
                    let text = format!("[{name}] positions cannot be read, logs are read anew: {}", causes(&error));
                    self.effects.line(Level::ERROR, "database", text);
                }
            }
        }
        if let Some(jail) = self.jails.get(name) {
            saved.extend(jail.positions.iter().map(|(path, position)| (path.to_path_buf(), position.clone())));
        }
        saved
    }

    /// Makes a jail agree with new settings of it.
    ///
    /// # Errors
    /// The new filter cannot be compiled; the jail stays as it was.
    pub(super) fn adopt(&mut self, name: &Arc<str>, new: Setup) -> Result<(), Failure> {
        let Some(jail) = self.jails.get_mut(name) else { return Err(unknown(name)) };
        let changed = new.filter != jail.setup.filter;
        let fresh = if changed { Some(compiled(&new.filter)?) } else { None };
        let old = std::mem::replace(&mut jail.setup, new);
        for log in old.logs.iter().filter(|log| !jail.setup.logs.iter().any(|new| new.path == log.path)) {
            jail.positions.retain(|path, _| **path != *log.path);
            jail.announced.remove(&log.path);
            let text = format!("Removed logfile: '{}'", shown(&log.path.to_string_lossy()));
            self.effects.line(Level::INFO, "filter", text);
        }
        if !jail.started {
            return Ok(());
        }
        jail.counts.set_limits(jail.setup.limits.clone());
        if jail.setup.ignore != old.ignore || jail.setup.filter.usedns != old.filter.usedns {
            jail.set_policy(&self.own);
        }
        let new_increment = jail.setup.increment != old.increment;
        if let Some(filter) = fresh {
            jail.filter = Some(Arc::new(filter));
        }
        if changed || jail.setup.limits.findtime != old.limits.findtime {
            let keep_prefix_values = self.options.compat == Compat::V1_1;
            if let Some(filter) = jail.filter.clone() {
                let findtime = jail.setup.limits.findtime;
                self.logs.set_jail(jail.tag, logs::Jail { filter, findtime, keep_prefix_values });
            }
        }
        let idle = (old.idle, jail.setup.idle);
        if new_increment {
            self.set_increment(name);
        }
        if let Some(jail) = self.jails.get_mut(name) {
            jail.set_wants();
        }
        self.adopt_actions(name);
        match idle {
            (false, true) => {
                if let Some(jail) = self.jails.get(name) {
                    self.logs.remove_all(jail.tag);
                }
            }
            (true, false) => self.follow(name),
            (true, true) => {}
            (false, false) if self.jails.get(name).is_some_and(|jail| jail.setup.journal.is_some()) => {
                if self.jails[name].setup.journalmatch != old.journalmatch {
                    self.follow_journal(name);
                }
            }
            (false, false) => self.adopt_logs(name, &old),
        }
        Ok(())
    }

    fn adopt_logs(&mut self, name: &Arc<str>, old: &Setup) {
        let saved = self.saved_positions(name);
        let Some(jail) = self.jails.get_mut(name) else { return };
        let again = encoding(old) != encoding(&jail.setup);
        for log in &old.logs {
            if again || !jail.setup.logs.iter().any(|new| new.path == log.path) {
                self.logs.remove(jail.tag, &Pattern::Path(log.path.clone()));
            }
        }
        for log in jail.setup.logs.clone() {
            if again || !old.logs.iter().any(|known| known.path == log.path) {
                self.follow_log(name, &log, &saved);
            }
        }
    }

    /// Makes the running actions agree with the settings.
    fn adopt_actions(&mut self, name: &Arc<str>) {
        let new: IndexMap<String, Act> = self.acts_of(name).into_iter().collect();
        let now = super::clock().now;
        let Some(jail) = self.jails.get(name).filter(|jail| jail.acts != new) else { return };
        let own = |acts: &IndexMap<String, Act>| acts.values().any(|act| matches!(act, Act::Own(_)));
        let tickets: Vec<Arc<Ticket>> = match own(&new) || own(&jail.acts) {
            true => jail.counts.bans().iter().map(|ban| self.full_ticket(jail, ban)).collect(),
            false => Vec::new(),
        };
        let facts = self.facts(name);
        let Some(jail) = self.jails.get_mut(name) else { return };
        let bantime = jail.counts.limits().bantime;
        // places first: one that is free may be given to another action at once
        for (action, act) in &jail.acts {
            match (act, new.get(action)) {
                (Act::Native { place, .. }, kept) if !matches!(kept, Some(Act::Native { place: same, .. }) if same == place) =>
                {
                    self.effects.kernel.push(Change::RemoveJail(place.clone()));
                }
                (Act::Own(work), kept) if !matches!(kept, Some(Act::Own(new)) if goes_over(work, new)) => {
                    if let Some(queue) = &jail.queue {
                        let event = ActionEvent::Remove { name: action.clone(), bans: tickets.clone() };
                        self.effects.actions.push((queue.clone(), facts, event));
                    }
                }
                _ => {}
            }
        }
        for (action, act) in &new {
            match (act, jail.acts.get(action)) {
                (Act::Native { place, scope }, before) => {
                    if before == Some(act) {
                        continue;
                    }
                    self.effects.kernel.push(Change::Jail { name: place.clone(), scope: scope.clone() });
                    if !matches!(before, Some(Act::Native { place: same, .. }) if same == place) {
                        self.effects.kernel.extend(super::effects::bans(place, jail.counts.bans(), bantime, now));
                    }
                }
                (Act::Own(_), _) if self.options.dry_run => {}
                (Act::Own(work), Some(Act::Own(before))) if goes_over(before, work) => {
                    if let Some(queue) = jail.queue.as_ref().filter(|_| before != work) {
                        let event =
                            ActionEvent::Change { name: action.clone(), work: work.clone(), timeout: timeout(work) };
                        self.effects.actions.push((queue.clone(), facts, event));
                    }
                }
                (Act::Own(work), _) => {
                    let queue = jail.queue.get_or_insert_with(|| {
                        let logger = self.logger.clone();
                        let report = move |severity, part: &str, text: String| logger.log(level(severity), part, &text);
                        let before = self.endings.remove(name);
                        Queue::start(&self.runtime, name.clone(), before, Arc::new(report))
                    });
                    self.effects.actions.push((queue.clone(), facts, add(action, work, Some(&tickets))));
                }
            }
        }
        jail.acts = new;
    }

    /// Ends a jail: its logs are left, its bans lifted; their history stays.
    pub(super) fn stop_jail(&mut self, name: &Arc<str>, leaving: Leaving) {
        let Some(jail) = self.jails.get_mut(name) else { return };
        if !jail.started {
            return self.effects.line(Level::INFO, "jail", format!("Jail '{name}' stopped"));
        }
        jail.started = false;
        self.logs.remove_all(jail.tag);
        self.questions.forget(name);
        for path in jail.files() {
            self.effects.line(Level::INFO, "filter", format!("Removed logfile: '{}'", shown(&path)));
        }
        jail.announced.clear();
        let decisions = jail.counts.flush(Reason::Stop);
        if jail.queue.is_some() {
            let (done, ended) = tokio::sync::oneshot::channel();
            let bans = self.tickets(name, &decisions);
            self.act(name, ActionEvent::Flush(bans));
            self.act(name, ActionEvent::Stop(done));
            self.endings.insert(name.clone(), ended);
        }
        let Some(jail) = self.jails.get_mut(name) else { return };
        jail.queue = None;
        if !self.keep_bans {
            self.effects.kernel.extend(jail.places().map(|place| Change::RemoveJail(place.clone())));
        }
        jail.acts.clear();
        let word = if self.options.compat == Compat::V1_1 { "Repeal Ban" } else { "Unban" };
        for decision in decisions {
            if let Decision::Unban { ban, .. } = decision {
                let text = format!("[{name}] {word} {}", shown(&ban.id.to_string()));
                self.effects.line(Level::NOTICE, "actions", text);
            }
        }
        if leaving == Leaving::Stop {
            self.effects.stored.push(state::Change::Jail { name: name.clone(), enabled: false });
        }
        self.effects.urgent = true;
        self.effects.line(Level::INFO, "jail", format!("Jail '{name}' stopped"));
    }
}

/// The filter of a jail, or what is wrong with it.
pub(super) fn compiled(filter: &crate::config::Filter) -> Result<record::Filter, Failure> {
    let clock = super::clock();
    let year = clock.zone.to_datetime(jiff::Timestamp::now()).year();
    let options = date::Options::server(u16::try_from(year).unwrap_or(1970));
    compile::compile(filter, options).map_err(|errors| {
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        Failure::new(FailureKind::Regex, texts.join("; "))
    })
}

fn unknown(name: &str) -> Failure {
    Failure::new(FailureKind::UnknownJail, name)
}

fn method(setup: &Setup) -> Method {
    if setup.backend.starts_with("polling") { Method::Polling } else { Method::Inotify }
}

fn encoding(setup: &Setup) -> Encoding {
    Encoding::from_name(&setup.filter.logencoding).unwrap_or(Encoding::Unchanged)
}

/// An action for a jail that starts, or with `bans` for one that runs and has these.
fn add(name: &str, work: &Work, bans: Option<&[Arc<Ticket>]>) -> ActionEvent {
    ActionEvent::Add {
        name: name.to_owned(),
        work: work.clone(),
        timeout: timeout(work),
        start: bans.is_some(),
        bans: bans.unwrap_or_default().to_vec(),
    }
}

/// Whether an action that runs can go on as another description says. An instance of a class cannot.
fn goes_over(old: &Work, new: &Work) -> bool {
    match (old, new) {
        (Work::Commands(_), Work::Commands(_)) | (Work::Mail(_), Work::Mail(_)) => true,
        (old, new) => old == new,
    }
}

/// Limit of an action's commands in seconds.
fn timeout(work: &Work) -> Option<f64> {
    time::seconds(work.properties()?.get("timeout")?).ok().map(|number| number.as_f64())
}

fn level(severity: Severity) -> Level {
    match severity {
        Severity::Debug => Level::DEBUG,
        Severity::Info => Level::INFO,
        Severity::Notice => Level::NOTICE,
        Severity::Warning => Level::WARNING,
        Severity::Error => Level::ERROR,
        Severity::Critical => Level::CRITICAL,
    }
}
