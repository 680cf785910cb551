//! The actions of one jail, run one after the other in a task of their own.
//!
//! The queue is not bounded by a number: it holds at most one entry for each ban and unban,
//! and a ban that only a command can carry out must not be dropped because another one hangs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::mail;
use super::python::{self, Question};
use super::worker::{self, Worker};
use super::{Facts, Ticket, Work};
use crate::control::Reply;

/// The limit of a command that does not name one, in seconds.
const DEFAULT_TIMEOUT: f64 = 60.0;
/// The longest limit that is accepted, in seconds.
const MAX_TIMEOUT: f64 = 86_400.0;

/// While so many events wait, checks and longer bans of those who come again are left out.
const MAX_REPEATED: usize = 1_000;

/// Something that the actions of a jail are to do.
#[derive(Debug)]
pub enum Event {
    /// One more action, behind the others.
    Add {
        /// Its name.
        name: String,
        /// What it does.
        work: Work,
        /// Limit of each command in seconds, if the action names one.
        timeout: Option<f64>,
        /// Whether to start it now: the jail runs already.
        start: bool,
        /// What is banned already; for an action that is started now.
        bans: Vec<Arc<Ticket>>,
    },
    /// New properties for an action of the same kind.
    Change {
        /// Its name.
        name: String,
        /// All its properties.
        work: Work,
        /// Limit of each command in seconds, if the action names one.
        timeout: Option<f64>,
    },
    /// Remove an action: its bans are lifted, then it is stopped.
    Remove {
        /// Its name.
        name: String,
        /// The jail's bans.
        bans: Vec<Arc<Ticket>>,
    },
    /// The jail starts.
    Start,
    /// Someone is banned.
    Ban(Arc<Ticket>),
    /// A running ban got longer.
    Prolong(Arc<Ticket>),
    /// Somebody who is banned was seen again: the environment is checked.
    Again(Arc<Ticket>),
    /// A ban ended.
    Unban(Arc<Ticket>),
    /// All of these end at once.
    Flush(Vec<Arc<Ticket>>),
    /// The configuration was read again.
    Reload,
    /// A client asks something that only the action itself knows.
    Ask {
        /// Its name.
        name: String,
        /// What.
        question: Question,
        /// For the answer.
        reply: oneshot::Sender<Reply>,
    },
    /// The jail stops, after all its bans were flushed; answers when the last command has ended.
    Stop(oneshot::Sender<()>),
}

/// How much a message matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Of interest when something is looked for.
    Debug,
    /// As usual.
    Info,
    /// Done on purpose, and of interest.
    Notice,
    /// Of interest to the administrator.
    Warning,
    /// Something did not work.
    Error,
    /// Bans by this action have no effect.
    Critical,
}

/// Where messages go: how much one matters, the part of the program that it is of as the log names
/// it, its text.
pub type Report = Arc<dyn Fn(Severity, &str, String) + Send + Sync>;

/// The sending end of a jail's queue.
#[derive(Clone, Debug)]
pub struct Queue {
    events: mpsc::UnboundedSender<(Facts, Event)>,
    /// How many events wait.
    waiting: Arc<AtomicUsize>,
}

impl Queue {
    /// Starts the task for a jail. It ends after [`Event::Stop`], or when all queues are dropped.
    ///
    /// It begins when `before` has ended: what a jail of the same name still has to tidy up comes first.
    pub fn start(
        runtime: &tokio::runtime::Handle,
        jail: Arc<str>,
        before: Option<oneshot::Receiver<()>>,
        report: Report,
    ) -> Queue {
        let (events, receiver) = mpsc::unbounded_channel();
        let waiting = Arc::<AtomicUsize>::default();
        let work = work(Worker::new(jail, report), receiver, waiting.clone());
        runtime.spawn(async move {
            if let Some(before) = before {
                // gone without a word is ended as well
                let _ = before.await;
            }
            work.await;
        });
        Queue { events, waiting }
    }

    /// Appends an event, with the figures of the jail at its time. What a banned one can make us do
    /// again and again is left out while many events wait.
    pub fn send(&self, facts: Facts, event: Event) {
        let waiting = self.waiting.fetch_add(1, Ordering::Relaxed);
        if waiting >= MAX_REPEATED && matches!(event, Event::Again(_) | Event::Prolong(_)) {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        // only after `Stop`, and then there is nobody left to tell
        let _ = self.events.send((facts, event));
    }
}

/// An action of a jail.
enum Action {
    Commands(worker::Action),
    Python(Box<python::Action>),
    Mail(mail::Action),
}

impl Action {
    fn new(name: String, work: Work, timeout: Option<f64>) -> Action {
        match work {
            Work::Commands(properties) => Action::Commands(worker::Action::new(name, properties, limit(timeout))),
            Work::Python(program) => Action::Python(Box::new(python::Action::new(name, program))),
            Work::Mail(options) => Action::Mail(mail::Action { name, options }),
        }
    }

    fn name(&self) -> &str {
        match self {
            Action::Commands(action) => &action.name,
            Action::Python(action) => &action.name,
            Action::Mail(action) => &action.name,
        }
    }

    /// What can be done, and go wrong, before the jail starts.
    async fn prepare(&mut self, worker: &Worker) {
        match self {
            Action::Commands(_) | Action::Mail(_) => {}
            Action::Python(action) => action.prepare(worker).await,
        }
    }

    fn change(&mut self, work: Work, timeout: Option<f64>) {
        match (self, work) {
            (Action::Commands(action), Work::Commands(properties)) => {
                action.properties = properties;
                action.timeout = limit(timeout);
            }
            (Action::Mail(action), Work::Mail(options)) => action.options = options,
            (action, work) => *action = Action::new(action.name().to_owned(), work, timeout),
        }
    }

    async fn start(&mut self, worker: &Worker) {
        match self {
            Action::Commands(action) => worker.start(action).await,
            Action::Python(action) => action.start(worker).await,
            Action::Mail(action) => action.start(worker).await,
        }
    }

    async fn ban(&mut self, worker: &Worker, ticket: &Ticket) {
        match self {
            Action::Commands(action) => worker.ban(action, ticket).await,
            Action::Python(action) => action.ban(worker, "ban", ticket).await,
            Action::Mail(action) => action.ban(worker, ticket).await,
        }
    }

    async fn reban(&mut self, worker: &Worker, ticket: &Ticket) {
        match self {
            Action::Commands(action) => worker.reban(action, ticket).await,
            Action::Python(action) => action.ban(worker, "reban", ticket).await,
            Action::Mail(_) => {}
        }
    }

    async fn prolong(&mut self, worker: &Worker, ticket: &Ticket) {
        match self {
            Action::Commands(action) => worker.prolong(action, ticket).await,
            Action::Python(action) => action.prolong(worker, ticket).await,
            Action::Mail(_) => {}
        }
    }

    async fn unban(&mut self, worker: &Worker, ticket: &Ticket) {
        match self {
            Action::Commands(action) => worker.unban(action, ticket).await,
            Action::Python(action) => action.unban(worker, ticket).await,
            Action::Mail(_) => {}
        }
    }

    /// Whether all bans were lifted at once.
    async fn flush(&mut self, worker: &Worker) -> bool {
        match self {
            Action::Commands(action) => worker.flush(action).await,
            Action::Python(action) => action.flush(worker).await,
            // nobody is told of the end of a ban
            Action::Mail(_) => true,
        }
    }

    /// Whether a ban is not in effect any more, as far as is known.
    fn misses(&self, ticket: &Ticket) -> bool {
        match self {
            Action::Commands(action) => action.misses(ticket),
            Action::Python(action) => action.misses(ticket),
            Action::Mail(_) => false,
        }
    }

    async fn check(&mut self, worker: &Worker) {
        match self {
            Action::Commands(action) => worker.check(action).await,
            Action::Python(action) => action.check(worker).await,
            Action::Mail(_) => {}
        }
    }

    async fn reload(&mut self, worker: &Worker) {
        match self {
            Action::Commands(action) => worker.reload(action).await,
            Action::Python(action) => action.reload(worker).await,
            Action::Mail(_) => {}
        }
    }

    async fn ask(&mut self, worker: &Worker, question: Question) -> Reply {
        match self {
            Action::Commands(action) => Err(python::unknown(&action.name)),
            Action::Python(action) => action.ask(worker, question).await,
            Action::Mail(action) => action.ask(worker, question).await,
        }
    }

    async fn stop(&mut self, worker: &Worker) {
        match self {
            Action::Commands(action) => worker.stop(action).await,
            Action::Python(action) => action.stop(worker).await,
            Action::Mail(action) => action.stop(worker).await,
        }
    }
}

async fn work(mut worker: Worker, mut events: mpsc::UnboundedReceiver<(Facts, Event)>, waiting: Arc<AtomicUsize>) {
    let mut actions: Vec<Action> = Vec::new();
    while let Some((facts, event)) = events.recv().await {
        waiting.fetch_sub(1, Ordering::Relaxed);
        worker.facts = facts;
        match event {
            Event::Add { name, work, timeout, start, bans } => {
                let mut action = Action::new(name, work, timeout);
                action.prepare(&worker).await;
                if start {
                    action.start(&worker).await;
                }
                for ticket in &bans {
                    action.ban(&worker, ticket).await;
                }
                actions.push(action);
            }
            Event::Change { name, work, timeout } => {
                if let Some(action) = actions.iter_mut().find(|a| a.name() == name) {
                    action.change(work, timeout);
                }
            }
            Event::Remove { name, bans } => {
                if let Some(at) = actions.iter().position(|a| a.name() == name) {
                    let mut action = actions.remove(at);
                    release(&worker, std::slice::from_mut(&mut action), &bans).await;
                    action.stop(&worker).await;
                }
            }
            Event::Start => {
                for action in &mut actions {
                    action.start(&worker).await;
                }
            }
            Event::Ban(ticket) => {
                for action in &mut actions {
                    action.ban(&worker, &ticket).await;
                }
            }
            Event::Prolong(ticket) => {
                for action in &mut actions {
                    action.prolong(&worker, &ticket).await;
                }
            }
            Event::Again(ticket) => again(&mut worker, &mut actions, &ticket).await,
            Event::Unban(ticket) => {
                for action in &mut actions {
                    action.unban(&worker, &ticket).await;
                }
            }
            Event::Flush(tickets) => release(&worker, &mut actions, &tickets).await,
            Event::Reload => {
                for action in &mut actions {
                    action.reload(&worker).await;
                }
            }
            Event::Ask { name, question, reply } => {
                let answer = match actions.iter_mut().find(|action| action.name() == name) {
                    Some(action) => action.ask(&worker, question).await,
                    None => Err(python::unknown(&name)),
                };
                // whoever asked may have given up waiting
                let _ = reply.send(answer);
            }
            Event::Stop(done) => {
                for action in actions.iter_mut().rev() {
                    action.stop(&worker).await;
                }
                // whoever asked may have given up waiting
                let _ = done.send(());
                return;
            }
        }
    }
}

/// Lifts all bans: first at once, by the actions that know how, then one by one by the others.
async fn release(worker: &Worker, actions: &mut [Action], bans: &[Arc<Ticket>]) {
    let mut others = Vec::new();
    for action in actions {
        if !action.flush(worker).await {
            others.push(action);
        }
    }
    for ticket in bans {
        for action in &mut others {
            action.unban(worker, ticket).await;
        }
    }
}

/// Somebody who is banned was seen again: either a repair has undone the ban, or the environment
/// may be damaged.
async fn again(worker: &mut Worker, actions: &mut [Action], ticket: &Ticket) {
    if !actions.iter().any(|action| action.misses(ticket)) && worker.is_time_to_check() {
        for action in actions.iter_mut() {
            action.check(worker).await;
        }
    }
    let missing: Vec<&mut Action> = actions.iter_mut().filter(|action| action.misses(ticket)).collect();
    let id = worker::shown(&ticket.id.to_string());
    match &missing[..] {
        [] => return,
        [action] => worker.notice(format!("[{}] Reban {id}, action '{}'", worker.jail, action.name())),
        _ => worker.notice(format!("[{}] Reban {id}", worker.jail)),
    }
    for action in missing {
        action.reban(worker, ticket).await;
    }
}

fn limit(seconds: Option<f64>) -> Duration {
    Duration::from_secs_f64(seconds.unwrap_or(DEFAULT_TIMEOUT).clamp(0.01, MAX_TIMEOUT))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;
    use crate::action::Properties;
    use crate::address::Id;

    fn ticket(ip: &str) -> Arc<Ticket> {
        Arc::new(Ticket {
            id: Id::parse(ip),
            address: None,
            failures: 1,
            time: "1.0".to_owned(),
            bantime: 600,
            bancount: 1,
            restored: false,
            matches: Vec::new(),
            data: Vec::new(),
            literal: None,
            history: None,
        })
    }

    /// Runs the events and returns what the commands S P B U F wrote.
    async fn played(extra: &[(&str, &str)], events: Vec<Event>) -> String {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let mut properties = Properties::default();
        for (name, text) in [
            ("actionstart", "S <bt>"),
            ("actionstop", "P <bt>"),
            ("actionban", "B <ip>"),
            ("actionunban", "U <ip>"),
            ("actionflush", "F <bt>"),
        ] {
            properties.set(name, format!("echo {text} >> {}", out.display()));
        }
        properties.set("bt", "4".to_owned());
        for (name, value) in extra {
            properties.set(name, (*value).to_owned());
        }
        let queue = Queue::start(&tokio::runtime::Handle::current(), "j".into(), None, Arc::new(|_, _, _| ()));
        queue.send(
            Facts::default(),
            Event::Add {
                name: "a".to_owned(),
                work: Work::Commands(properties),
                timeout: None,
                start: false,
                bans: Vec::new(),
            },
        );
        for event in events {
            queue.send(Facts::default(), event);
        }
        let (done, ended) = oneshot::channel();
        queue.send(Facts::default(), Event::Stop(done));
        ended.await.unwrap();
        std::fs::read_to_string(out).unwrap_or_default().replace('\n', ", ")
    }

    fn bans() -> Vec<Event> {
        let (v4, v6) = (ticket("192.0.2.1"), ticket("2001:db8::1"));
        vec![Event::Start, Event::Ban(v4.clone()), Event::Ban(v6.clone()), Event::Flush(vec![v4, v6])]
    }

    #[tokio::test]
    async fn an_action_without_conditional_parameters_starts_with_the_jail() {
        let seen = played(&[], bans()).await;
        assert_eq!(seen, "S 4, B 192.0.2.1, B 2001:db8::1, F 4, P 4, ");
    }

    #[tokio::test]
    async fn a_conditional_action_starts_with_the_first_ban_of_a_family() {
        let seen = played(&[("bt?family=inet6", "6")], bans()).await;
        assert_eq!(seen, "S 4, B 192.0.2.1, S 6, B 2001:db8::1, F 4, F 6, P 4, P 6, ");
    }

    #[tokio::test]
    async fn what_cannot_be_flushed_is_lifted_one_by_one() {
        let seen = played(&[("actionflush", "false"), ("bt?family=inet6", "6")], bans()).await;
        assert_eq!(seen, "S 4, B 192.0.2.1, S 6, B 2001:db8::1, U 192.0.2.1, U 2001:db8::1, P 4, P 6, ");
    }

    #[tokio::test]
    async fn a_ban_of_a_name_starts_nothing_anew() {
        let (v4, name) = (ticket("192.0.2.1"), ticket("bob"));
        let events = vec![Event::Ban(v4.clone()), Event::Ban(name.clone()), Event::Unban(v4), Event::Unban(name)];
        let seen = played(&[("bt?family=inet6", "6")], events).await;
        assert_eq!(seen, "S 4, B 192.0.2.1, B bob, U 192.0.2.1, U bob, P 4, ");
    }

    #[tokio::test]
    async fn a_ban_that_got_longer_is_told_to_those_who_want_to_know() {
        let v4 = ticket("192.0.2.1");
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("longer");
        let command = format!("echo <ip> <bantime> > {}", out.display());
        let longer = Arc::new(Ticket { bantime: 1200, ..(*v4).clone() });
        played(&[("actionprolong", &command)], vec![Event::Start, Event::Ban(v4), Event::Prolong(longer)]).await;
        assert_eq!(std::fs::read_to_string(out).unwrap(), "192.0.2.1 1200\n");
    }

    #[tokio::test]
    async fn a_damaged_environment_is_repaired_when_a_banned_one_is_seen_again() {
        let (v4, v6) = (ticket("192.0.2.1"), ticket("2001:db8::1"));
        let folder = tempfile::tempdir().unwrap();
        let broken = folder.path().join("broken");
        let check = format!("test ! -e {}", broken.display());
        let repair = format!("rm {}", broken.display());
        let ban =
            format!("echo B <ip> >> {0}/bans; test <ip> != 192.0.2.1 || touch {0}/broken", folder.path().display());
        let extra = [("actioncheck", &*check), ("actionrepair", &*repair), ("actionban", &*ban)];
        let events = vec![
            Event::Start,
            Event::Ban(v6.clone()),
            // breaks it, and is found out when it comes again
            Event::Ban(v4.clone()),
            Event::Again(v4.clone()),
            // the check is not repeated at once, but the repair has lost this one
            Event::Again(v6.clone()),
            Event::Again(v6),
        ];
        let again = ban.replace("B <ip>", "again <ip>");
        let all = [&extra[..], &[("actionreban", &*again)]].concat();
        played(&all, events).await;
        let bans = std::fs::read_to_string(folder.path().join("bans")).unwrap();
        assert_eq!(bans, "B 2001:db8::1\nB 192.0.2.1\nagain 192.0.2.1\nagain 2001:db8::1\n");
    }

    #[tokio::test]
    async fn a_failing_ban_is_checked_and_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("again");
        let ban = format!("echo B >> {out}; test $(grep -c B {out}) -gt 1", out = out.display());
        played(&[("actionban", &ban)], vec![Event::Start, Event::Ban(ticket("192.0.2.1"))]).await;
        assert_eq!(std::fs::read_to_string(out).unwrap(), "B\nB\n");
    }
}
