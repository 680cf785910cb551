//! The `ignorecommand`: a script that is asked about a failure.
//!
//! Status 0 means ignore, 1 means count; anything else is an error, and the failure is counted.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::sync::{OnceCell, Semaphore};

use crate::action::{Properties, Ticket, command, template};
use crate::address::Id;
use crate::control::Value;
use crate::fail2ban::repr::repr;
use crate::filter::{Data, Datum, Failure};

use super::super::logging::shown;
use super::lock;
use super::policy::Policy;

/// How long an `ignorecommand` may take; as long again it may wait for its turn.
pub const DEADLINE: Duration = Duration::from_secs(60);
/// How much of what a failing command said is repeated, in characters.
const MAX_SAID: usize = 200;

/// Yes, no, or what went wrong.
type Outcome = Result<bool, Arc<str>>;
/// A rendered script with its arguments.
type Key = (String, Vec<String>);

/// The commands of a jail that are running.
pub struct Running {
    turns: Semaphore,
    /// Who asks the same while it is being asked gets the same answer.
    asked: Mutex<HashMap<Key, Weak<OnceCell<Outcome>>>>,
}

impl Running {
    /// At most `limit` at a time.
    pub fn new(limit: usize) -> Running {
        Running { turns: Semaphore::new(limit), asked: Mutex::default() }
    }

    /// Runs the command of a jail; true means ignore.
    pub async fn ask(&self, policy: &Policy, failure: &Failure, id: &Id) -> Outcome {
        let ticket = ticket(failure, id);
        let script = template::render(&policy.command, &Properties::default(), ticket.family(), Some(&ticket))
            .map_err(|error| Arc::from(format!("cannot be used: {error}")))?;
        let key = (script.text.clone(), script.arguments.clone());
        let cell = {
            let mut asked = lock(&self.asked);
            match asked.get(&key).and_then(Weak::upgrade) {
                Some(cell) => cell,
                None => {
                    asked.retain(|_, cell| cell.strong_count() > 0);
                    let cell = Arc::new(OnceCell::new());
                    asked.insert(key, Arc::downgrade(&cell));
                    cell
                }
            }
        };
        cell.get_or_init(|| self.run(&script, policy.deadline)).await.clone()
    }

    async fn run(&self, script: &template::Script, limit: Duration) -> Outcome {
        let Ok(Ok(_turn)) = tokio::time::timeout(limit, self.turns.acquire()).await else {
            return Err(format!("had no turn within {limit:?}, others took too long").into());
        };
        let outcome = command::run(script, limit).await.map_err(|error| format!("cannot be started: {error}"))?;
        let ending = match outcome.status.and_then(|status| status.code()) {
            _ if outcome.timed_out => format!("was ended, it took longer than {limit:?}"),
            Some(0) => return Ok(true),
            Some(1) => return Ok(false),
            Some(code) => format!("returned {code}, neither 0 (ignore) nor 1 (count)"),
            None => "was killed".to_owned(),
        };
        let said = String::from_utf8_lossy(&outcome.stderr);
        let said: String = said.trim().lines().next().unwrap_or_default().chars().take(MAX_SAID).collect();
        Err(if said.is_empty() { ending.into() } else { format!("{ending}: {}", shown(&said)).into() })
    }
}

/// A failure as the tags of `ignorecommand` and `ignorecache` show it.
#[must_use]
pub fn ticket(failure: &Failure, id: &Id) -> Ticket {
    Ticket {
        id: id.clone(),
        address: failure.address.clone().filter(|address| address != id),
        failures: 0,
        time: repr(&Value::Float(failure.time.map_or(0.0, |time| time.as_f64()))),
        bantime: 0,
        bancount: 0,
        restored: false,
        matches: failure.matches.iter().map(|matched| matched.line.clone()).collect(),
        data: words(&failure.data),
    }
}

/// Captured values as the tags `<F-…>` show them: lists as Python writes them.
#[must_use]
pub fn words(data: &Data) -> Vec<(Arc<str>, String)> {
    let quoted = |text: &Arc<str>| repr(&Value::Text(text.to_string()));
    data.iter()
        .map(|(name, datum)| {
            let text = match datum {
                Datum::Text(text) => text.to_string(),
                Datum::Set(texts) => format!("{{{}}}", texts.iter().map(quoted).collect::<Vec<_>>().join(", ")),
                Datum::Tuple(texts) => {
                    let value = |text: &Option<Arc<str>>| {
                        text.as_ref().map_or(Value::None, |text| Value::Text(text.to_string()))
                    };
                    repr(&Value::Tuple(texts.iter().map(value).collect()))
                }
            };
            (name.clone(), text)
        })
        .collect()
}
