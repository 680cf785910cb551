//! What a list of changes comes to: per jail one end state, so that one transaction can be
//! made of it and no order within it matters.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::{Change, Scope};
use crate::address::Prefix;

/// Longest ban told to the kernel, in milliseconds: a hundred years. More overflows its clock.
const LONGEST: f64 = 100.0 * 365.25 * 86_400.0 * 1000.0;

/// What becomes of one jail.
#[derive(Debug, Default)]
pub struct JailEffect {
    /// It ends, before anything else here begins.
    pub removed: bool,
    /// It exists afterwards, with this scope; nothing if that stays as it is.
    pub scope: Option<Scope>,
    /// All bans from before end.
    pub flushed: bool,
    /// The last word on each prefix.
    pub prefixes: HashMap<Prefix, Last>,
}

/// The last word on a prefix.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Last {
    /// Index of the change it comes from.
    pub change: usize,
    /// What is wanted.
    pub wanted: Wanted,
}

/// What is wanted of a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Banned for so many milliseconds, 0 for ever.
    Banned(u64),
    /// Not banned.
    Free,
}

/// Folds changes, plus the changes that name a jail which is not there.
pub fn of(changes: &[Change], exists: impl Fn(&str) -> bool) -> (BTreeMap<Arc<str>, JailEffect>, Vec<usize>) {
    let mut effects: BTreeMap<Arc<str>, JailEffect> = BTreeMap::new();
    let mut strangers = Vec::new();
    for (index, change) in changes.iter().enumerate() {
        let name = change.jail();
        let there = match effects.get(name) {
            Some(effect) => effect.scope.is_some() || (!effect.removed && exists(name)),
            None => exists(name),
        };
        if !there && !matches!(change, Change::Jail { .. }) {
            if !matches!(change, Change::RemoveJail(_)) {
                strangers.push(index);
            }
            continue;
        }
        if !effects.contains_key(name) {
            effects.insert(name.clone(), JailEffect::default());
        }
        let Some(effect) = effects.get_mut(name) else { continue };
        let wanted = match change {
            Change::Jail { scope, .. } => {
                effect.scope = Some(scope.clone());
                continue;
            }
            Change::RemoveJail(_) => {
                *effect = JailEffect { removed: exists(name), ..JailEffect::default() };
                continue;
            }
            Change::Flush(_) => {
                effect.prefixes.clear();
                effect.flushed = true;
                continue;
            }
            Change::Ban { prefix, seconds: None, .. } => (prefix, Wanted::Banned(0)),
            Change::Ban { prefix, seconds: Some(seconds), .. } if *seconds > 0.0 => {
                (prefix, Wanted::Banned((seconds * 1000.0).ceil().clamp(1.0, LONGEST) as u64))
            }
            Change::Ban { prefix, .. } | Change::Unban { prefix, .. } => (prefix, Wanted::Free),
        };
        effect.prefixes.insert(*wanted.0, Last { change: index, wanted: wanted.1 });
    }
    (effects, strangers)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_on_a_prefix_counts() {
        let jail: Arc<str> = "a".into();
        let prefix: Prefix = "192.0.2.1".parse().unwrap();
        let ban = |seconds| Change::Ban { jail: jail.clone(), prefix, seconds };
        let (effects, strangers) = of(
            &[ban(Some(1.5)), Change::Flush(jail.clone()), ban(None), ban(Some(0.0)), ban(Some(f64::INFINITY))],
            |_| true,
        );
        assert!(strangers.is_empty());
        assert!(effects["a"].flushed);
        assert_eq!(effects["a"].prefixes[&prefix], Last { change: 4, wanted: Wanted::Banned(3_155_760_000_000) });
        let (effects, strangers) = of(&[Change::RemoveJail(jail.clone()), ban(None)], |_| true);
        assert_eq!(strangers, [1]);
        assert!(effects["a"].removed && effects["a"].prefixes.is_empty());
    }
}
