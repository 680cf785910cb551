//! Options `bantime.*`: those who come back are banned longer, and sooner.

use std::fmt;
use std::sync::Arc;

use crate::time::Time;

/// Beyond this many bans nothing doubles any more.
const MAX_DOUBLINGS: u32 = 20;

/// The last ban of someone, or the sum over all jails.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct History {
    /// How many bans there were.
    pub count: u32,
    /// When the last one began.
    pub time: Time,
    /// Its length in seconds.
    pub bantime: f64,
}

impl History {
    /// Two histories as one: all bans, the time of the last one.
    #[must_use]
    pub fn and(self, other: History) -> History {
        History {
            count: self.count.saturating_add(other.count),
            time: self.time.max(other.time),
            bantime: self.bantime + other.bantime,
        }
    }
}

/// What is known of someone's earlier bans.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Past {
    /// In this jail.
    pub here: Option<History>,
    /// In all jails; only with `bantime.overalljails`.
    pub everywhere: Option<History>,
}

impl From<Option<History>> for Past {
    fn from(here: Option<History>) -> Past {
        Past { here, everywhere: None }
    }
}

/// A formula: base length in seconds, number of earlier bans, a source of random numbers from 0
/// up to 1. `None` if it has no value, such as a division by zero.
pub type Formula = Arc<dyn Fn(f64, u32, &mut dyn FnMut() -> f64) -> Option<f64> + Send + Sync>;

/// How the length of a ban grows.
#[derive(Clone)]
pub enum Growth {
    /// Doubles each time, times the factor.
    Doubling(f64),
    /// The factor times one of the numbers, the last one for ever after.
    Multipliers(f64, Vec<f64>),
    /// Whatever was configured.
    Formula(Formula),
}

impl fmt::Debug for Growth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Growth::Doubling(factor) => f.debug_tuple("Doubling").field(factor).finish(),
            Growth::Multipliers(factor, list) => f.debug_tuple("Multipliers").field(factor).field(list).finish(),
            Growth::Formula(_) => f.write_str("Formula"),
        }
    }
}

/// The options, ready for use. Durations in seconds.
#[derive(Clone, Debug)]
pub struct Increment {
    /// Whether it is on.
    pub enabled: bool,
    /// How bans grow.
    pub growth: Growth,
    /// Upper bound.
    pub maxtime: Option<f64>,
    /// A random share of so many seconds on top, also above `maxtime`.
    pub rndtime: Option<f64>,
    /// Whether the bans of all jails count.
    pub overalljails: bool,
}

impl Default for Increment {
    fn default() -> Increment {
        Increment { enabled: false, growth: Growth::Doubling(1.0), maxtime: None, rndtime: None, overalljails: false }
    }
}

impl Increment {
    /// The length of the next ban of someone with `count` earlier ones.
    pub fn bantime(&self, base: f64, count: u32, random: &mut dyn FnMut() -> f64) -> f64 {
        let grown = match &self.growth {
            Growth::Doubling(factor) => base.max(base * doubled(count) * factor),
            Growth::Multipliers(factor, list) => {
                let multiplier = list.get(count as usize).or(list.last()).copied().unwrap_or(1.0);
                base * factor * multiplier
            }
            // better the plain ban than none
            Growth::Formula(formula) => formula(base, count, random).map_or(base, |value| base.max(value)),
        };
        let capped = self.maxtime.map_or(grown, |maxtime| grown.min(maxtime));
        self.rndtime.map_or(capped, |rndtime| capped + random() * rndtime)
    }
}

fn doubled(count: u32) -> f64 {
    f64::from(1_u32 << count.min(MAX_DOUBLINGS))
}

/// How much one failure counts for someone with `count` earlier bans, and whether `maxretry` was the limit.
pub(super) fn weight(count: u32, maxretry: u32) -> (u32, bool) {
    let weight = doubled(count) / 2.0 + 1.0;
    if weight > f64::from(maxretry) { (maxretry, true) } else { (weight as u32, false) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(increment: &Increment, base: f64, counts: &[u32]) -> Vec<f64> {
        counts.iter().map(|count| increment.bantime(base, *count, &mut || 0.5)).collect()
    }

    #[test]
    fn bans_double_with_each_return() {
        let plain = Increment::default();
        let expected = [1200.0, 2400.0, 4800.0, 614_400.0, 629_145_600.0];
        assert_eq!(times(&plain, 600.0, &[1, 2, 3, 10, 25]), expected);
        let slower = Increment { growth: Growth::Doubling(0.5), ..Increment::default() };
        assert_eq!(times(&slower, 600.0, &[1, 2, 3]), [600.0, 1200.0, 2400.0]);
    }

    #[test]
    fn multipliers_are_taken_by_the_number_of_bans() {
        let list = Growth::Multipliers(1.0, vec![1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]);
        let increment = Increment { growth: list, ..Increment::default() };
        assert_eq!(times(&increment, 600.0, &[0, 1, 6, 7, 99]), [600.0, 1200.0, 38400.0, 38400.0, 38400.0]);
        let increment = Increment { growth: Growth::Multipliers(3.0, vec![1.0, 2.0, 4.0]), ..Increment::default() };
        assert_eq!(times(&increment, 600.0, &[1, 2, 3]), [3600.0, 7200.0, 7200.0]);
        let shorter = Increment { growth: Growth::Multipliers(0.1, vec![1.0, 2.0]), ..Increment::default() };
        assert_eq!(times(&shorter, 600.0, &[1]), [120.0]);
    }

    #[test]
    fn the_random_share_comes_after_the_cap() {
        let increment = Increment { maxtime: Some(3600.0), ..Increment::default() };
        assert_eq!(times(&increment, 600.0, &[1, 2, 3]), [1200.0, 2400.0, 3600.0]);
        let increment = Increment { maxtime: Some(3600.0), rndtime: Some(1000.0), ..Increment::default() };
        assert_eq!(times(&increment, 600.0, &[9]), [4100.0]);
    }

    #[test]
    fn a_formula_never_shortens_a_ban_and_its_failure_leaves_it() {
        let of = |f: fn(f64, u32) -> Option<f64>| Increment {
            growth: Growth::Formula(Arc::new(move |time, count, _| f(time, count))),
            ..Increment::default()
        };
        assert_eq!(times(&of(|time, count| Some(time * f64::from(count))), 600.0, &[0, 1, 2]), [600.0, 600.0, 1200.0]);
        assert_eq!(times(&of(|_, _| None), 600.0, &[5]), [600.0]);
    }

    #[test]
    fn known_offenders_count_more() {
        let weights: Vec<_> = (1..=5).map(|count| weight(count, 100)).collect();
        assert_eq!(weights, [(2, false), (3, false), (5, false), (9, false), (17, false)]);
        assert_eq!(weight(2, 3), (3, false));
        assert_eq!(weight(3, 3), (3, true));
    }
}
