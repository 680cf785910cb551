//! Two servers' decisions side by side: what one of them does and the other does not do within a time of grace.
//!
//! Nothing in here reads a clock or asks a server: it is told the lists and the time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::server::handover::Handed;
use crate::time::Time;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The server that lives.
    Fail2Ban,
    /// What we would do.
    Sekimori,
}

use Side::{Fail2Ban, Sekimori};

impl Side {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        if self == Fail2Ban { "Fail2Ban" } else { "Sekimori" }
    }

    fn other(self) -> Side {
        if self == Fail2Ban { Sekimori } else { Fail2Ban }
    }
}

/// What kind of decision differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A jail that only one of them runs.
    Jail,
    /// A ban that only one of them made.
    Ban,
    /// An end of a ban that only one of them saw.
    Unban,
    /// A ban that lasts longer with the one.
    Length,
    /// A failure that only one of them found in the log.
    Failure,
}

/// One difference.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// What kind of decision.
    pub kind: Kind,
    /// The jail.
    pub jail: String,
    /// Whom it is about; an attacker may have chosen the text. Empty for a jail.
    pub id: String,
    /// Who did it, or does it longer.
    pub only: Side,
    /// Begin of the ban, or time of the failure.
    pub time: Time,
    /// Length of the ban in seconds, -1 for ever; 0 for a failure.
    pub bantime: i64,
}

/// Failures at most this far apart, in seconds, are the same one: lines without a time get that of their reading.
const SAME: f64 = 2.0;
/// Ends of a ban at most this far apart, in seconds, are the same.
const SAME_END: f64 = 2.0;
/// Most failures that wait for their counterpart; beyond, the oldest are not compared.
const MAX_WAITING: usize = 200_000;

type Key = (String, String);

/// What is known of the ban of someone.
#[derive(Debug, Default)]
struct Episode {
    /// The latest that each of them said.
    bans: [Option<Handed>; 2],
    /// Whether it has ever been with each of them.
    seen: [bool; 2],
    /// Since when they disagree, and whether that was told.
    since: Option<(Time, bool)>,
    /// Began before the comparison did.
    old: bool,
}

/// The comparison.
#[derive(Debug)]
pub struct Compare {
    grace: f64,
    begin: Time,
    episodes: BTreeMap<Key, Episode>,
    waiting: BTreeMap<Key, [VecDeque<(Time, Time)>; 2]>,
    waits: usize,
    jails: BTreeSet<String>,
    /// Bans that both made.
    pub bans: u64,
    /// Failures that both found.
    pub failures: u64,
    /// Failures that could not be compared because there were too many.
    pub dropped: u64,
}

impl Compare {
    /// Decisions about what happened before `begin` are not compared; `grace` is in seconds.
    #[must_use]
    pub fn new(grace: f64, begin: Time) -> Compare {
        Compare {
            grace,
            begin,
            episodes: BTreeMap::new(),
            waiting: BTreeMap::new(),
            waits: 0,
            jails: BTreeSet::new(),
            bans: 0,
            failures: 0,
            dropped: 0,
        }
    }

    /// What each of them bans now, by jail.
    pub fn lists(&mut self, now: Time, lists: [Vec<(String, Vec<Handed>)>; 2]) -> Vec<Difference> {
        let mut found = Vec::new();
        let names: [BTreeSet<String>; 2] = [0, 1].map(|at| lists[at].iter().map(|(name, _)| name.clone()).collect());
        for (side, at) in [(Fail2Ban, 0), (Sekimori, 1)] {
            for jail in names[at].difference(&names[1 - at]) {
                if self.jails.insert(jail.clone()) {
                    let (jail, id) = (jail.clone(), String::new());
                    found.push(Difference { kind: Kind::Jail, jail, id, only: side, time: now, bantime: 0 });
                }
            }
        }
        for episode in self.episodes.values_mut() {
            episode.bans = [None, None];
        }
        for (at, bans) in lists.into_iter().enumerate() {
            for ban in bans.into_iter().flat_map(|(_, bans)| bans).filter(|ban| names[1 - at].contains(&ban.jail)) {
                let episode = self.episodes.entry((ban.jail.clone(), ban.id.clone())).or_default();
                let began = Time::from_seconds(ban.time);
                // a restored one, or one found in lines of the past
                episode.old |= !episode.seen[0] && !episode.seen[1] && began < self.begin;
                episode.seen[at] = true;
                episode.bans[at] = Some(ban);
            }
        }
        let (grace, bans) = (self.grace, &mut self.bans);
        self.episodes.retain(|(jail, id), episode| {
            let mut tell = |kind, only: Side, ban: Option<&Handed>| {
                let (time, bantime) = ban.map_or((now, 0), |ban| (Time::from_seconds(ban.time), ban.bantime));
                found.push(Difference { kind, jail: jail.clone(), id: id.clone(), only, time, bantime });
            };
            let [theirs, ours] = &episode.bans;
            let differs = match (theirs, ours) {
                (Some(theirs), Some(ours)) => {
                    let end = |ban: &Handed| if ban.bantime < 0 { f64::MAX } else { (ban.time + ban.bantime) as f64 };
                    let (theirs, ours) = (end(theirs), end(ours));
                    let longer = if theirs > ours { Fail2Ban } else { Sekimori };
                    ((theirs - ours).abs() > SAME_END).then_some((Kind::Length, longer))
                }
                (Some(_), None) => Some((if episode.seen[1] { Kind::Unban } else { Kind::Ban }, Fail2Ban)),
                (None, Some(_)) => Some((if episode.seen[0] { Kind::Unban } else { Kind::Ban }, Sekimori)),
                (None, None) => {
                    match episode.seen {
                        [true, true] if !episode.old => *bans += 1,
                        [true, true] => {}
                        // over before the time of grace was
                        [theirs, _] if !episode.old && !matches!(episode.since, Some((_, true))) => {
                            tell(Kind::Ban, if theirs { Fail2Ban } else { Sekimori }, None);
                        }
                        _ => {}
                    }
                    return false;
                }
            };
            let Some((kind, only)) = differs else {
                episode.since = None;
                return true;
            };
            let (since, told) = episode.since.get_or_insert((now, false));
            // what we make of old lines, Fail2Ban may have been told to forget
            let forgotten = episode.old && kind == Kind::Ban && only == Sekimori;
            if !*told && !forgotten && now - *since >= grace {
                *told = true;
                // an end is what the other one saw
                let who = if kind == Kind::Unban { only.other() } else { only };
                tell(kind, who, episode.bans.iter().flatten().next());
            }
            true
        });
        found
    }

    /// A failure that one of them has found, now.
    pub fn failure(&mut self, now: Time, side: Side, jail: &str, id: &str, time: Time) {
        if time < self.begin {
            return;
        }
        let both = self.waiting.entry((jail.to_owned(), id.to_owned())).or_default();
        let (at, other) = (side as usize, side.other() as usize);
        if let Some(place) = both[other].iter().position(|(others, _)| (*others - time).abs() <= SAME) {
            both[other].remove(place);
            self.waits -= 1;
            self.failures += 1;
        } else if self.waits < MAX_WAITING {
            both[at].push_back((time, now));
            self.waits += 1;
        } else {
            self.dropped += 1;
        }
    }

    /// Failures whose counterpart has not come in time.
    pub fn overdue(&mut self, now: Time) -> Vec<Difference> {
        let mut found = Vec::new();
        for ((jail, id), both) in &mut self.waiting {
            for (only, at) in [(Fail2Ban, 0), (Sekimori, 1)] {
                while let Some((time, _)) = both[at].front().copied().filter(|(_, since)| now - *since >= self.grace) {
                    both[at].pop_front();
                    self.waits -= 1;
                    let (jail, id) = (jail.clone(), id.clone());
                    found.push(Difference { kind: Kind::Failure, jail, id, only, time, bantime: 0 });
                }
            }
        }
        self.waiting.retain(|_, both| both.iter().any(|waits| !waits.is_empty()));
        found
    }

    /// Bans that both made, those included that are still in force.
    #[must_use]
    pub fn all_bans(&self) -> u64 {
        let open = self.episodes.values().filter(|episode| !episode.old && episode.seen == [true, true]);
        self.bans + open.count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Time {
        Time::from_seconds(seconds)
    }

    fn list(bans: &[(&str, i64, i64)]) -> Vec<(String, Vec<Handed>)> {
        let ban = |(id, time, bantime): &(&str, i64, i64)| Handed {
            jail: "j".into(),
            id: (*id).into(),
            time: *time,
            bantime: *bantime,
        };
        vec![("j".to_owned(), bans.iter().map(ban).collect())]
    }

    fn kinds(found: &[Difference]) -> Vec<(Kind, &str, Side)> {
        found.iter().map(|one| (one.kind, one.id.as_str(), one.only)).collect()
    }

    #[test]
    fn a_ban_that_the_other_makes_within_the_time_of_grace_is_no_difference() {
        let mut compare = Compare::new(10.0, at(100));
        let (with, without) = (|| list(&[("a", 101, 60)]), || list(&[]));
        assert!(compare.lists(at(101), [with(), without()]).is_empty());
        assert!(compare.lists(at(110), [with(), with()]).is_empty());
        assert!(compare.lists(at(161), [without(), with()]).is_empty());
        assert!(compare.lists(at(162), [without(), without()]).is_empty());
        assert_eq!((compare.bans, compare.all_bans()), (1, 1));
    }

    #[test]
    fn each_difference_is_told_once() {
        let mut compare = Compare::new(10.0, at(100));
        let now = |theirs: &[(&str, i64, i64)], ours: &[(&str, i64, i64)]| [list(theirs), list(ours)];
        let lists = || {
            now(&[("a", 101, 60), ("c", 101, 60), ("d", 101, -1)], &[("b", 102, 60), ("c", 101, 90), ("d", 101, -1)])
        };
        assert!(compare.lists(at(102), lists()).is_empty());
        let found = compare.lists(at(112), lists());
        assert_eq!(
            kinds(&found),
            [(Kind::Ban, "a", Fail2Ban), (Kind::Ban, "b", Sekimori), (Kind::Length, "c", Sekimori)]
        );
        assert!(compare.lists(at(122), lists()).is_empty());
        // one lets in, the other does not
        let lists = || now(&[], &[("d", 101, -1)]);
        assert!(compare.lists(at(130), lists()).is_empty());
        assert_eq!(kinds(&compare.lists(at(140), lists())), [(Kind::Unban, "d", Fail2Ban)]);
        // a short one that the other never made
        assert!(compare.lists(at(150), now(&[("e", 150, 1)], &[])).is_empty());
        assert_eq!(kinds(&compare.lists(at(151), now(&[], &[]))), [(Kind::Ban, "e", Fail2Ban)]);
        assert_eq!(compare.bans, 2, "c and d");
        // a jail
        let found = compare.lists(at(160), [vec![("j".to_owned(), vec![]), ("k".to_owned(), vec![])], list(&[])]);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].kind, found[0].jail.as_str(), found[0].only), (Kind::Jail, "k", Fail2Ban));
    }

    #[test]
    fn what_was_before_the_beginning_is_not_compared() {
        let mut compare = Compare::new(10.0, at(100));
        for now in [100, 120] {
            assert!(compare.lists(at(now), [list(&[]), list(&[("old", 50, 600)])]).is_empty());
        }
        compare.failure(at(100), Sekimori, "j", "old", at(99));
        assert!(compare.overdue(at(200)).is_empty());
        // but one that was handed over, and that we do not have
        for (now, count) in [(100, 0), (120, 1)] {
            assert_eq!(compare.lists(at(now), [list(&[("x", 50, 600)]), list(&[])]).len(), count);
        }
    }

    #[test]
    fn failures_find_their_counterpart_though_it_is_a_second_off() {
        let mut compare = Compare::new(10.0, at(100));
        for time in [101, 101, 105] {
            compare.failure(at(106), Fail2Ban, "j", "a", at(time));
        }
        for time in [101, 102] {
            compare.failure(at(107), Sekimori, "j", "a", at(time));
        }
        compare.failure(at(107), Sekimori, "k", "a", at(105));
        assert!(compare.overdue(at(110)).is_empty());
        let found = compare.overdue(at(117));
        let found: Vec<_> = found.iter().map(|one| (one.jail.as_str(), one.only, one.time.seconds())).collect();
        assert_eq!(found, [("j", Fail2Ban, 105), ("k", Sekimori, 105)]);
        assert_eq!((compare.failures, compare.waits), (2, 0));
    }
}
