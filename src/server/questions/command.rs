//! The `ignorecommand`: a script that is asked about a failure.
//!
//! Status 0 means ignore, 1 means count; anything else is an error, and the failure is counted.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::sync::{OnceCell, Semaphore};

use crate::action::hosts::Hosts;
use crate::action::{Facts, Properties, Ticket, command, template};
use crate::address::Id;
use crate::filter::Failure;

use super::super::logging::shown;
use super::super::told::{self, Circumstances};
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
    hosts: Hosts,
    /// Who asks the same while it is being asked gets the same answer.
    asked: Mutex<HashMap<Key, Weak<OnceCell<Outcome>>>>,
}

impl Running {
    /// At most `limit` at a time.
    pub fn new(limit: usize) -> Running {
        Running { turns: Semaphore::new(limit), hosts: Hosts::default(), asked: Mutex::default() }
    }

    /// Runs the command of a jail; true means ignore.
    pub async fn ask(&self, policy: &Policy, failure: &Failure, id: &Id, circumstances: &Circumstances) -> Outcome {
        let ticket = told::ticket(failure, id, circumstances);
        let script = self.script(policy, &ticket, &circumstances.facts).await;
        let script = script.map_err(|error| Arc::from(format!("cannot be used: {error}")))?;
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

    async fn script(
        &self,
        policy: &Policy,
        ticket: &Ticket,
        facts: &Facts,
    ) -> Result<template::Script, template::Error> {
        let none = Properties::default();
        let own = match template::wants_own(&policy.command, &none) {
            true => Some(self.hosts.own().await),
            false => None,
        };
        let text = template::prepare(&policy.command, &none, ticket.family(), own.as_deref())?;
        let host = match ticket.address().prefix().filter(|prefix| prefix.is_host()) {
            Some(prefix) if template::wants_host(&text) => self.hosts.name(prefix.address()).await,
            _ => None,
        };
        template::fill(&text, &template::Case { ticket: Some(ticket), facts, host: host.as_deref() })
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
