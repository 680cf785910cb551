//! The rules of a jail, ready to be asked: made from its settings, shared by all its questions.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::action::{Properties, template};
use crate::address::{AddressSet, Id};
use crate::config::UseDns;
use crate::filter::{Failure, Who};
use crate::jail::Rules;
use crate::jail::ignore::By;

use super::super::setup::Ignore;
use super::super::told::{self, Circumstances};
use super::bounded::Bounded;
use super::{command, lock};

/// Most answers that `ignorecache` keeps, whatever is asked for.
const MAX_ANSWERS: usize = 100_000;

/// What to do with a failure of a jail before it is counted.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Whom to ignore. [`Rules::check`] decides most without a question.
    pub rules: Rules,
    /// `ignorecommand`, or empty.
    pub command: String,
    /// How long one run of it may take.
    pub deadline: Duration,
    /// Whether to say which addresses a name had (`usedns = warn`).
    pub warn: bool,
    cache: Option<Arc<Answers>>,
}

/// What `ignorecache` says, and the answers so far.
#[derive(Debug)]
struct Answers {
    key: String,
    time: Duration,
    known: Mutex<Bounded<Key, (Instant, Option<By>)>>,
}

/// A rendered key: the text, and the values that are not part of it.
pub type Key = (String, Vec<String>);

impl Policy {
    /// From the settings of a jail.
    #[must_use]
    pub fn new(ignore: &Ignore, usedns: UseDns, own: Arc<AddressSet>) -> Policy {
        let mut rules = Rules::default();
        rules.ignoreself = ignore.own;
        let command = ignore.command.clone().unwrap_or_default();
        rules.command = !command.is_empty();
        rules.set_own(own);
        for entry in &ignore.list {
            rules.add(entry);
        }
        let cache = ignore.cache.as_ref().map(|(key, count, seconds)| {
            let limit = usize::try_from(*count).unwrap_or(0).clamp(1, MAX_ANSWERS);
            let time = Duration::try_from_secs_f64(*seconds).unwrap_or(Duration::ZERO);
            Arc::new(Answers { key: key.clone(), time, known: Mutex::new(Bounded::new(limit)) })
        });
        let warn = usedns == UseDns::Warn;
        Policy { rules, command, deadline: command::DEADLINE, warn, cache }
    }

    /// Whether a failure can be decided by [`Rules::check`] alone, or has to be asked about.
    #[must_use]
    pub fn must_ask(&self, failure: &Failure) -> bool {
        match &failure.who {
            Who::Name(_) => true,
            Who::Id(id) => matches!(self.rules.check(id), crate::jail::Verdict::Ask(_)),
        }
    }

    /// The key of a failure in `ignorecache`, if that is set.
    pub(super) fn key(&self, failure: &Failure, id: &Id, circumstances: &Circumstances) -> Option<Key> {
        let cache = self.cache.as_ref()?;
        let ticket = told::ticket(failure, id, circumstances);
        let text = template::prepare(&cache.key, &Properties::default(), ticket.family(), None).ok()?;
        // values are kept apart from the text, so that nobody can make up another one's key
        let case = template::Case { ticket: Some(&ticket), facts: &circumstances.facts, host: None };
        let script = template::fill(&text, &case).ok()?;
        Some((script.text, script.arguments))
    }

    /// The answer that is still known.
    pub(super) fn remembered(&self, key: &Key) -> Option<Option<By>> {
        let cache = self.cache.as_ref()?;
        let known = lock(&cache.known);
        let (at, by) = known.get(key)?;
        (at.elapsed() < cache.time).then(|| by.clone())
    }

    pub(super) fn remember(&self, key: Key, by: Option<By>) {
        if let Some(cache) = &self.cache {
            lock(&cache.known).insert(key, (Instant::now(), by));
        }
    }
}
