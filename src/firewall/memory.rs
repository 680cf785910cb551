//! A firewall that only remembers, for `--dry-run` and for tests.
//!
//! Clones share what they remember, so a test keeps one and gives the other away. Bans do
//! not end here: there is no clock.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Change, Error, Firewall, Held, Listing, Scope};
use crate::address::Prefix;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Mutex<BTreeMap<Arc<str>, Jail>>>);

#[derive(Debug)]
struct Jail {
    scope: Scope,
    bans: BTreeMap<Prefix, Option<f64>>,
}

impl Memory {
    /// What the bans of a jail cover, if the jail was announced.
    #[must_use]
    pub fn scope(&self, jail: &str) -> Option<Scope> {
        self.state().get(jail).map(|jail| jail.scope.clone())
    }

    /// Whether this very prefix is banned by the jail.
    #[must_use]
    pub fn holds(&self, jail: &str, prefix: Prefix) -> bool {
        self.state().get(jail).is_some_and(|jail| jail.bans.contains_key(&prefix))
    }

    fn state(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Jail>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Firewall for Memory {
    fn apply(&mut self, changes: &[Change]) -> Result<Vec<(usize, Error)>, Error> {
        let mut state = self.state();
        let mut failed = Vec::new();
        for (index, change) in changes.iter().enumerate() {
            if let Change::Jail { name, scope } = change {
                let jail = state.entry(name.clone());
                jail.or_insert_with(|| Jail { scope: scope.clone(), bans: BTreeMap::new() }).scope = scope.clone();
                continue;
            }
            let Some(jail) = state.get_mut(change.jail()) else {
                if !matches!(change, Change::RemoveJail(_)) {
                    failed.push((index, Error::NoJail(change.jail().clone())));
                }
                continue;
            };
            match change {
                Change::Ban { prefix, seconds, .. } if seconds.is_none_or(|s| s > 0.0) => {
                    jail.bans.insert(*prefix, *seconds);
                }
                Change::Ban { prefix, .. } | Change::Unban { prefix, .. } => {
                    jail.bans.remove(prefix);
                }
                Change::Flush(_) => jail.bans.clear(),
                Change::RemoveJail(name) => {
                    state.remove(name);
                }
                Change::Jail { .. } => {}
            }
        }
        Ok(failed)
    }

    fn banned(&mut self) -> Result<Listing, Error> {
        let state = self.state();
        let bans = state.iter().flat_map(|(jail, held)| {
            held.bans.iter().map(|(prefix, seconds)| Held { jail: jail.clone(), prefix: *prefix, seconds: *seconds })
        });
        Ok(Listing { bans: bans.collect(), complete: true })
    }

    fn remove(&mut self) -> Result<(), Error> {
        self.state().clear();
        Ok(())
    }

    fn describe(&self) -> String {
        "memory (nobody is shut out)".to_owned()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    #[test]
    fn a_removed_jail_takes_its_bans_along_and_an_unknown_one_is_named() {
        let memory = Memory::default();
        let name: Arc<str> = "sshd".into();
        let prefix: Prefix = "192.0.2.7".parse().unwrap();
        let scope = Scope { ports: vec![(22, 22)], protocols: vec![6], verdict: super::super::Verdict::Drop };
        let ban = Change::Ban { jail: name.clone(), prefix, seconds: Some(60.0) };
        let mut firewall = memory.clone();
        assert!(firewall.apply(&[Change::Jail { name: name.clone(), scope }, ban.clone()]).unwrap().is_empty());
        assert!(memory.holds("sshd", prefix));
        let failed = firewall.apply(&[Change::RemoveJail(name), ban]).unwrap();
        assert!(matches!(failed[..], [(1, Error::NoJail(_))]));
        assert!(!memory.holds("sshd", prefix));
    }
}
