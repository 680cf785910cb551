//! What has to wait before a failure can be counted: host names, names and files in `ignoreip`,
//! the `ignorecommand`.
//!
//! Most failures never come here: [`crate::jail::Rules::check`] decides them at once. The others are
//! asked about side by side, with a deadline for each step, and answered **in the order of the
//! questions of their jail**; no jail waits for another one's.
//!
//! Everything is bounded. A jail whose questions come faster than they can be answered loses the
//! newest: [`Questions::ask`] never waits, says so, and has a message ready once a minute. To count
//! an unanswered failure could shut out a friend, and to wait would hold up all other jails.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinHandle};

use crate::address::{AddressSet, Id, Prefix};
use crate::filter::{Datum, Failure, Who};
use crate::jail::Verdict;
use crate::jail::ignore::{By, Question as Asked};

use super::logging::{Level, shown};
use super::own;
use super::told::Circumstances;

mod bounded;
mod command;
mod files;
mod names;
mod policy;

pub use command::DEADLINE as COMMAND_DEADLINE;
pub use names::DEADLINE as DNS_DEADLINE;
pub use policy::Policy;

/// How many questions of one jail are worked on at the same time.
pub const IN_FLIGHT: usize = 64;
/// How many questions of one jail wait for that, at most.
pub const MAX_WAITING: usize = 10_000;
/// What the failures of one jail that wait may take, in bytes.
pub const MAX_BYTES: usize = 16 * 1024 * 1024;
/// Resolver threads of one jail for names in its log. A jail can use up its own, not those of others.
const LOOKUPS: usize = 8;
/// Resolver threads for names in `ignoreip`, all jails together.
const FRIENDS: usize = 8;
/// Commands of one jail that run at the same time.
const COMMANDS: usize = 4;
/// Between two messages about the same trouble of a jail.
const QUIET: Duration = Duration::from_secs(60);
/// How often the machine's own addresses are looked for.
const OWN_EVERY: Duration = Duration::from_secs(60);

/// A failure that cannot be counted yet.
#[derive(Debug)]
pub struct Question {
    /// The jail it is for.
    pub jail: Arc<str>,
    /// A number of the asker's own; it comes back in the answer.
    pub tag: u64,
    /// The failure.
    pub failure: Failure,
    /// The rules of the jail.
    pub policy: Arc<Policy>,
    /// What the `ignorecommand` is told besides.
    pub circumstances: Circumstances,
}

/// What became of a [`Question`].
#[derive(Debug)]
pub struct Answer {
    /// The jail.
    pub jail: Arc<str>,
    /// The asker's number.
    pub tag: u64,
    /// One for each address of the name, or one for the identifier; none if the name has no address.
    pub failures: Vec<Judged>,
    /// To be logged before them.
    pub notes: Vec<Note>,
}

/// A failure whose identifier is settled.
#[derive(Debug)]
pub struct Judged {
    /// Who is to be counted.
    pub id: Id,
    /// The failure.
    pub failure: Failure,
    /// Why not to count it: `[JAIL] Ignore ID by …`. `None` means: count it.
    pub ignored: Option<By>,
    /// Whether that comes from `ignorecache`; Fail2Ban does not log it again then.
    pub cached: bool,
}

/// A message for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Its level.
    pub level: Level,
    /// The part of Fail2Ban that would say so.
    pub part: &'static str,
    /// The text, printable.
    pub text: String,
}

/// The question was not taken, and its failure will not be counted.
#[derive(Debug, thiserror::Error)]
#[error("too many failures wait for an answer")]
pub struct Full {
    /// How many this jail has lost so far.
    pub lost: u64,
    /// A message, if the last one is long enough ago.
    pub note: Option<Note>,
}

/// Where questions go. Cheap to clone.
#[derive(Clone)]
pub struct Questions(Arc<Shared>);

impl fmt::Debug for Questions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Questions")
    }
}

struct Shared {
    runtime: Handle,
    answers: Box<dyn Fn(Answer) + Send + Sync>,
    lanes: Mutex<HashMap<Arc<str>, Working>>,
    names: names::Names,
    friends: names::Names,
    friends_turns: Arc<Semaphore>,
    files: files::Files,
}

/// A jail's lane and the task that works on it.
struct Working {
    lane: Arc<Lane>,
    task: AbortHandle,
}

/// What belongs to one jail.
struct Lane {
    jail: Arc<str>,
    queue: mpsc::Sender<Question>,
    /// Of the failures that are not answered, roughly.
    bytes: AtomicUsize,
    pending: AtomicUsize,
    lost: AtomicU64,
    /// When a lost question, a failing command was last reported.
    told: [Mutex<Option<Instant>>; 2],
    lookups: Arc<Semaphore>,
    commands: command::Running,
}

impl Lane {
    /// Whether to tell about something now.
    fn tells(&self, trouble: usize) -> bool {
        let mut told = lock(&self.told[trouble]);
        let due = told.is_none_or(|told| told.elapsed() >= QUIET);
        if due {
            *told = Some(Instant::now());
        }
        due
    }
}

impl Questions {
    /// Starts working in `runtime`. `answers` is called there with one answer at a time for each jail;
    /// it must not wait.
    #[must_use]
    pub fn start(runtime: &Handle, answers: impl Fn(Answer) + Send + Sync + 'static) -> Questions {
        Questions(Arc::new(Shared {
            runtime: runtime.clone(),
            answers: Box::new(answers),
            lanes: Mutex::default(),
            names: names::Names::default(),
            friends: names::Names::default(),
            friends_turns: Arc::new(Semaphore::new(FRIENDS)),
            files: files::Files::default(),
        }))
    }

    /// Asks. Any thread may call this; it does not wait.
    ///
    /// # Errors
    /// If too many failures of the jail wait already; this one is dropped then.
    pub fn ask(&self, question: Question) -> Result<(), Full> {
        let lane = self.lane(&question.jail);
        let size = size(&question.failure);
        let before = lane.bytes.fetch_add(size, Ordering::Relaxed);
        lane.pending.fetch_add(1, Ordering::Relaxed);
        if before.saturating_add(size) <= MAX_BYTES && lane.queue.try_send(question).is_ok() {
            return Ok(());
        }
        lane.bytes.fetch_sub(size, Ordering::Relaxed);
        lane.pending.fetch_sub(1, Ordering::Relaxed);
        let lost = lane.lost.fetch_add(1, Ordering::Relaxed) + 1;
        let note = lane.tells(0).then(|| Note {
            level: Level::WARNING,
            part: "filter",
            text: format!(
                "[{}] host names or the ignorecommand are answered too slowly: {lost} failures not counted so far",
                lane.jail
            ),
        });
        Err(Full { lost, note })
    }

    /// How many failures wait for an answer. All other answers have been given when this is read.
    #[must_use]
    pub fn pending(&self) -> usize {
        lock(&self.0.lanes).values().map(|working| working.lane.pending.load(Ordering::Acquire)).sum()
    }

    /// How many failures of a jail were not counted because too many waited.
    #[must_use]
    pub fn lost(&self, jail: &str) -> u64 {
        lock(&self.0.lanes).get(jail).map_or(0, |working| working.lane.lost.load(Ordering::Relaxed))
    }

    /// Drops the questions of a jail that stopped; they are not answered any more.
    pub fn forget(&self, jail: &str) {
        if let Some(working) = lock(&self.0.lanes).remove(jail) {
            working.task.abort();
        }
    }

    /// Finds out the machine's own addresses now and once a minute: those of its interfaces, and those its
    /// host name resolves to. Ends with the runtime.
    pub fn watch_own(&self, tell: impl Fn(Arc<AddressSet>) + Send + 'static) {
        let shared = self.0.clone();
        self.0.runtime.spawn(async move {
            loop {
                let mut own = own::addresses();
                let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
                for name in ["localhost", &host] {
                    let (found, _) = shared.friends.look_up(&name.into(), &shared.friends_turns).await;
                    own.extend(found.addresses.iter().copied());
                }
                tell(Arc::new(own));
                tokio::time::sleep(OWN_EVERY).await;
            }
        });
    }

    fn lane(&self, jail: &Arc<str>) -> Arc<Lane> {
        let mut lanes = lock(&self.0.lanes);
        if let Some(working) = lanes.get(jail) {
            return working.lane.clone();
        }
        let (queue, receiver) = mpsc::channel(MAX_WAITING);
        let lane = Arc::new(Lane {
            jail: jail.clone(),
            queue,
            bytes: AtomicUsize::new(0),
            pending: AtomicUsize::new(0),
            lost: AtomicU64::new(0),
            told: Default::default(),
            lookups: Arc::new(Semaphore::new(LOOKUPS)),
            commands: command::Running::new(COMMANDS),
        });
        let task = self.0.runtime.spawn(work(self.0.clone(), lane.clone(), receiver));
        lanes.insert(jail.clone(), Working { lane: lane.clone(), task: task.abort_handle() });
        lane
    }
}

/// A task that ends when nobody waits for it any more.
struct Task<T>(JoinHandle<T>);

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Answers the questions of a jail: many at a time, in their order.
async fn work(shared: Arc<Shared>, lane: Arc<Lane>, mut queue: mpsc::Receiver<Question>) {
    let mut tasks: VecDeque<(usize, Task<Answer>)> = VecDeque::new();
    loop {
        let room = tasks.len() < IN_FLIGHT;
        tokio::select! {
            biased;
            answer = first(&mut tasks) => {
                if let Some((size, _)) = tasks.pop_front() {
                    lane.bytes.fetch_sub(size, Ordering::Relaxed);
                }
                if let Some(answer) = answer {
                    (shared.answers)(answer);
                }
                lane.pending.fetch_sub(1, Ordering::Release);
            }
            question = queue.recv(), if room => {
                // the lane holds a sender, so there is always another question to come
                let Some(question) = question else { return };
                let size = size(&question.failure);
                let (shared, lane) = (shared.clone(), lane.clone());
                tasks.push_back((size, Task(tokio::spawn(answer(shared, lane, question)))));
            }
        }
    }
}

/// Waits for the oldest task; for ever if there is none.
async fn first(tasks: &mut VecDeque<(usize, Task<Answer>)>) -> Option<Answer> {
    match tasks.front_mut() {
        Some((_, task)) => (&mut task.0).await.ok(),
        None => std::future::pending().await,
    }
}

async fn answer(shared: Arc<Shared>, lane: Arc<Lane>, question: Question) -> Answer {
    let Question { jail, tag, failure, policy, circumstances } = question;
    let mut notes = Vec::new();
    let ids = match &failure.who {
        Who::Id(id) => vec![id.clone()],
        Who::Name(name) => {
            let (found, fresh) = shared.names.look_up(name, &lane.lookups).await;
            notes.extend(named(name, &found, fresh, policy.warn));
            found.addresses.iter().copied().map(Id::Prefix).collect()
        }
    };
    let case = Arc::new(Case { shared, lane, policy, failure, circumstances });
    let tasks: Vec<(Id, Task<Ruling>)> =
        ids.into_iter().map(|id| (id.clone(), Task(tokio::spawn(case.clone().judge(id))))).collect();
    let mut failures = Vec::with_capacity(tasks.len());
    for (id, mut task) in tasks {
        let ruling = (&mut task.0).await.unwrap_or_default();
        notes.extend(ruling.notes);
        let failure = Failure { who: Who::Id(id.clone()), ..case.failure.clone() };
        failures.push(Judged { id, failure, ignored: ruling.by, cached: ruling.cached });
    }
    Answer { jail, tag, failures, notes }
}

/// What is said about a name that was looked up; once, not as long as it is remembered.
fn named(name: &str, found: &names::Found, fresh: bool, warn: bool) -> Option<Note> {
    if !fresh {
        return None;
    }
    let note = |text| Some(Note { level: Level::WARNING, part: "ipdns", text });
    let name = shown(name);
    match &found.problem {
        Some(problem) => note(format!("Unable to find a corresponding IP address for {name}: {problem}")),
        None if warn => {
            let list: Vec<String> = found.addresses.iter().map(|address| format!("'{address}'")).collect();
            note(format!("Determined IP using DNS Lookup: {name} = {{{}}}", list.join(", ")))
        }
        None => None,
    }
}

/// One failure and what is needed to judge it.
struct Case {
    shared: Arc<Shared>,
    lane: Arc<Lane>,
    policy: Arc<Policy>,
    failure: Failure,
    circumstances: Circumstances,
}

/// Whether somebody is ignored.
#[derive(Default)]
struct Ruling {
    by: Option<By>,
    cached: bool,
    notes: Vec<Note>,
}

impl Case {
    async fn judge(self: Arc<Case>, id: Id) -> Ruling {
        let asked = match self.policy.rules.check(&id) {
            Verdict::Ignored(by) => return Ruling { by: Some(by), ..Ruling::default() },
            Verdict::NotIgnored => return Ruling::default(),
            Verdict::Ask(asked) => asked,
        };
        let key = self.policy.key(&self.failure, &id, &self.circumstances);
        if let Some(by) = key.as_ref().and_then(|key| self.policy.remembered(key)) {
            return Ruling { by, cached: true, notes: Vec::new() };
        }
        let mut notes = Vec::new();
        let by = self.ask(&id, &asked, &mut notes).await;
        if let Some(key) = key {
            self.policy.remember(key, by.clone());
        }
        Ruling { by, cached: false, notes }
    }

    /// Asks one after the other, until the answer is yes. All names are looked up side by side.
    async fn ask(self: &Arc<Case>, id: &Id, asked: &[Asked], notes: &mut Vec<Note>) -> Option<By> {
        let mut looked: VecDeque<Task<(names::Found, bool)>> = VecDeque::new();
        for question in asked {
            if let Asked::Name(name) = question {
                let (case, name) = (self.clone(), name.clone());
                looked.push_back(Task(tokio::spawn(async move {
                    case.shared.friends.look_up(&name, &case.shared.friends_turns).await
                })));
            }
        }
        for question in asked {
            let yes = match question {
                Asked::Name(name) => match looked.pop_front() {
                    Some(mut task) => (&mut task.0).await.is_ok_and(|(found, fresh)| {
                        notes.extend(named(name, &found, fresh, false));
                        id.prefix().is_some_and(|prefix| found.addresses.contains(&prefix))
                    }),
                    None => false,
                },
                Asked::File(path) => {
                    let (listed, problem) = self.shared.files.listed(path).await;
                    notes.extend(problem.map(|text| Note { level: Level::WARNING, part: "filter", text }));
                    listed.contains(id)
                }
                Asked::Command => {
                    let outcome = self.lane.commands.ask(&self.policy, &self.failure, id, &self.circumstances).await;
                    match outcome {
                        Ok(ignored) => ignored,
                        Err(problem) => {
                            if self.lane.tells(1) {
                                let text =
                                    format!("[{}] ignorecommand {problem}; counting the failure", self.lane.jail);
                                notes.push(Note { level: Level::ERROR, part: "utils", text });
                            }
                            false
                        }
                    }
                }
            };
            if yes {
                return Some(question.by());
            }
        }
        None
    }
}

/// What a failure takes, roughly, in bytes.
fn size(failure: &Failure) -> usize {
    let lines: usize = failure.matches.iter().map(|matched| 64 + matched.line.len()).sum();
    let data: usize = failure
        .data
        .iter()
        .map(|(_, datum)| match datum {
            Datum::Text(text) => 64 + text.len(),
            Datum::Set(texts) => 64 + texts.iter().map(|text| 32 + text.len()).sum::<usize>(),
            Datum::Tuple(texts) => 64 + texts.iter().flatten().map(|text| 32 + text.len()).sum::<usize>(),
        })
        .sum();
    256 + lines + data
}

/// Locks; what a thread that panicked left behind is still good, since nothing is ever half done under
/// these locks.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The host addresses of an answer, without repetition, as many as are of use.
fn distinct(addresses: impl IntoIterator<Item = std::net::IpAddr>, limit: usize) -> Arc<[Prefix]> {
    let mut list: Vec<Prefix> = Vec::new();
    for address in addresses {
        let prefix = Prefix::host(address);
        if !list.contains(&prefix) && list.len() < limit {
            list.push(prefix);
        }
    }
    list.into()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may")]
mod tests;
