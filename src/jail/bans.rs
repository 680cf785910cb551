//! Who is banned, until when.
//!
//! A ban ends after its own time if it has one, else after the jail's present `bantime`:
//! changing that option moves the ends of running bans.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::ticket::Details;
use crate::address::{Id, Prefix};
use crate::time::Time;

/// How many bytes of lines and captured values the bans of a jail keep; beyond, the oldest bans lose theirs.
pub const MAX_DETAILS: usize = 8 * 1024 * 1024;

/// `bantime` for ever.
pub const PERMANENT: f64 = -1.0;

/// A ban.
#[derive(Clone, Debug, PartialEq)]
pub struct Ban {
    /// Who.
    pub id: Id,
    /// From when on: the time of the last failure, not of the decision.
    pub time: Time,
    /// Its own length in seconds if it has one, [`PERMANENT`] for ever.
    pub own: Option<f64>,
    /// How many times this one was banned, this time included.
    pub count: u32,
    /// How many failures led to it.
    pub failures: u32,
    /// Whether it was in force before a restart, or was read from a log a second time.
    pub restored: bool,
    /// Lines and captured values.
    pub details: Arc<Details>,
}

impl Ban {
    /// A ban without history.
    #[must_use]
    pub fn new(id: Id, time: Time) -> Ban {
        Ban { id, time, own: None, count: 0, failures: 0, restored: false, details: Arc::default() }
    }

    /// Its length in seconds, [`PERMANENT`] for ever.
    #[must_use]
    pub fn bantime(&self, default: f64) -> f64 {
        self.own.unwrap_or(default)
    }

    /// Its end; `None` is never.
    #[must_use]
    pub fn end(&self, default: f64) -> Option<Time> {
        let bantime = self.bantime(default);
        (bantime != PERMANENT).then(|| self.time + bantime)
    }
}

/// What became of a ban that was added.
#[derive(Clone, Debug, PartialEq)]
pub enum Added {
    /// It is in force.
    New,
    /// It would have ended already.
    Expired,
    /// There is one that began at `time`; it lasts longer now if `prolonged`.
    Present {
        /// Beginning of the present ban.
        time: Time,
        /// Whether its end moved.
        prolonged: bool,
    },
}

/// The bans of a jail, in the order they came.
#[derive(Debug, Default)]
pub struct Bans {
    bans: BTreeMap<u64, Ban>,
    places: HashMap<Id, u64>,
    ends: BTreeSet<(Time, u64)>,
    next: u64,
    total: u64,
    /// Bytes of details, roughly, and the first ban that may have any.
    kept: usize,
    with_details: u64,
    /// One for all that have lost theirs.
    nothing: Arc<Details>,
}

impl Bans {
    /// Adds a ban; the jail's `bantime` is `default`.
    pub fn add(&mut self, mut ban: Ban, default: f64, now: Time) -> Added {
        let end = ban.end(default);
        if end.is_some_and(|end| end < now) {
            return Added::Expired;
        }
        if let Some(&place) = self.places.get(&ban.id) {
            return self.prolong(place, &ban, default);
        }
        ban.count += 1;
        let place = self.next;
        self.next += 1;
        self.total += 1;
        self.kept += ban.details.size();
        self.places.insert(ban.id.clone(), place);
        self.ends.extend(end.map(|end| (end, place)));
        self.bans.insert(place, ban);
        self.bound();
        Added::New
    }

    fn prolong(&mut self, place: u64, ban: &Ban, default: f64) -> Added {
        let Some(old) = self.bans.get(&place) else { return Added::Expired };
        let (time, old_end, end) = (old.time, old.end(default), ban.end(default));
        let prolonged = match (old_end, end) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(old_end), Some(end)) => end > old_end,
        };
        if prolonged {
            let bantime = ban.bantime(default);
            let own = if bantime == PERMANENT { PERMANENT } else { bantime + (ban.time - time).max(0.0) };
            self.set_own(place, own, default);
        }
        Added::Present { time, prolonged }
    }

    fn set_own(&mut self, place: u64, own: f64, default: f64) {
        let Some(ban) = self.bans.get_mut(&place) else { return };
        if let Some(end) = ban.end(default) {
            self.ends.remove(&(end, place));
        }
        ban.own = Some(own);
        self.ends.extend(ban.end(default).map(|end| (end, place)));
    }

    /// The jail's `bantime` changed: moves the ends of bans without a time of their own.
    pub fn change_default(&mut self, old: f64, new: f64) {
        for (place, ban) in &self.bans {
            if ban.own.is_none() {
                if let Some(end) = ban.end(old) {
                    self.ends.remove(&(end, *place));
                }
                self.ends.extend(ban.end(new).map(|end| (end, *place)));
            }
        }
    }

    /// Moves the beginnings and with them the ends of all bans.
    pub fn shift(&mut self, by: f64) {
        self.bans.values_mut().for_each(|ban| ban.time = ban.time + by);
        self.ends = std::mem::take(&mut self.ends).into_iter().map(|(end, place)| (end + by, place)).collect();
    }

    /// When the first ban ends; it is over after, not at, that time.
    #[must_use]
    pub fn next_end(&self) -> Option<Time> {
        self.ends.first().map(|(end, _)| *end)
    }

    /// Takes out the bans that ended before `now`, earliest end first.
    pub fn expire(&mut self, now: Time) -> Vec<Ban> {
        let mut expired = Vec::new();
        while let Some(&(end, place)) = self.ends.first() {
            if end >= now {
                break;
            }
            self.ends.pop_first();
            if let Some(ban) = self.bans.remove(&place) {
                self.forget(&ban);
                expired.push(ban);
            }
        }
        expired
    }

    /// Takes one out.
    pub fn remove(&mut self, id: &Id, default: f64) -> Option<Ban> {
        let ban = self.bans.remove(self.places.get(id)?)?;
        if let (Some(end), Some(place)) = (ban.end(default), self.places.get(id)) {
            self.ends.remove(&(end, *place));
        }
        self.forget(&ban);
        Some(ban)
    }

    /// Takes all out, in the order they came.
    pub fn clear(&mut self) -> Vec<Ban> {
        self.places.clear();
        self.ends.clear();
        self.kept = 0;
        std::mem::take(&mut self.bans).into_values().collect()
    }

    fn forget(&mut self, ban: &Ban) {
        self.places.remove(&ban.id);
        self.kept = self.kept.saturating_sub(ban.details.size());
    }

    /// Takes lines and captured values from the oldest bans until the rest fits. An address stays: bans need it.
    fn bound(&mut self) {
        while self.kept > MAX_DETAILS {
            let Some((&place, ban)) = self.bans.range_mut(self.with_details..).next() else { return };
            self.with_details = place + 1;
            let before = ban.details.size();
            ban.details = match &ban.details.address {
                Some(address) => Arc::new(Details { address: Some(address.clone()), ..Details::default() }),
                None => self.nothing.clone(),
            };
            self.kept = self.kept - before + ban.details.size();
        }
    }

    /// The ban of this id.
    #[must_use]
    pub fn get(&self, id: &Id) -> Option<&Ban> {
        self.bans.get(self.places.get(id)?)
    }

    /// Ids of bans inside a network, in the order they came.
    #[must_use]
    pub fn within(&self, network: Prefix) -> Vec<Id> {
        let inside = |ban: &&Ban| ban.id.prefix().is_some_and(|prefix| network.contains(prefix));
        self.bans.values().filter(inside).map(|ban| ban.id.clone()).collect()
    }

    /// All bans in the order they came.
    pub fn iter(&self) -> impl Iterator<Item = &Ban> {
        self.bans.values()
    }

    /// All bans by their end, those without one last.
    #[must_use]
    pub fn by_end(&self) -> Vec<&Ban> {
        let ending = self.ends.iter().filter_map(|(_, place)| self.bans.get(place));
        let mut all: Vec<&Ban> = ending.collect();
        if all.len() < self.bans.len() {
            let ending: std::collections::HashSet<u64> = self.ends.iter().map(|(_, place)| *place).collect();
            all.extend(self.bans.iter().filter(|(place, _)| !ending.contains(place)).map(|(_, ban)| ban));
        }
        all
    }

    /// `Currently banned`.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bans.len()
    }

    /// Whether nobody is banned.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bans.is_empty()
    }

    /// `Total banned` since the start.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Time {
        Time::from_seconds(seconds)
    }

    fn ban(id: &str, time: i64, own: Option<f64>) -> Ban {
        Ban { own, ..Ban::new(Id::parse(id), at(time)) }
    }

    fn ids(bans: &[Ban]) -> Vec<String> {
        bans.iter().map(|ban| ban.id.to_string()).collect()
    }

    #[test]
    fn a_ban_is_over_after_its_end_not_at_it() {
        let mut bans = Bans::default();
        assert_eq!(bans.add(ban("192.0.2.1", 1000, None), 600.0, at(1000)), Added::New);
        assert_eq!(bans.next_end(), Some(at(1600)));
        assert!(bans.expire(at(1600)).is_empty());
        assert_eq!(ids(&bans.expire(Time::from_f64(1_600.000_001))), ["192.0.2.1"]);
        assert_eq!((bans.len(), bans.total()), (0, 1));
    }

    #[test]
    fn what_would_have_ended_is_not_banned_but_ending_now_is() {
        let mut bans = Bans::default();
        assert_eq!(bans.add(ban("192.0.2.1", 1000, None), 600.0, at(1601)), Added::Expired);
        assert_eq!(bans.add(ban("192.0.2.1", 1000, None), 600.0, at(1600)), Added::New);
    }

    #[test]
    fn a_later_failure_extends_the_ban() {
        let mut bans = Bans::default();
        bans.add(ban("192.0.2.1", 1000, None), 100.0, at(1000));
        let again = bans.add(ban("192.0.2.1", 1050, None), 100.0, at(1050));
        assert_eq!(again, Added::Present { time: at(1000), prolonged: true });
        assert_eq!(bans.get(&Id::parse("192.0.2.1")).unwrap().own, Some(150.0));
        assert_eq!(bans.next_end(), Some(at(1150)));
        let earlier = bans.add(ban("192.0.2.1", 1020, None), 100.0, at(1050));
        assert_eq!(earlier, Added::Present { time: at(1000), prolonged: false });
        bans.add(ban("192.0.2.1", 1060, Some(PERMANENT)), 100.0, at(1060));
        assert_eq!(bans.next_end(), None);
        let never = bans.add(ban("192.0.2.1", 5000, None), 100.0, at(5000));
        assert_eq!(never, Added::Present { time: at(1000), prolonged: false });
    }

    #[test]
    fn a_changed_bantime_moves_the_ends_of_bans_without_their_own() {
        let mut bans = Bans::default();
        bans.add(ban("192.0.2.1", 1000, None), 600.0, at(1000));
        bans.add(ban("192.0.2.2", 1000, Some(50.0)), 600.0, at(1000));
        bans.change_default(600.0, PERMANENT);
        assert_eq!(ids(&bans.expire(at(9999))), ["192.0.2.2"]);
        bans.change_default(PERMANENT, 10.0);
        assert_eq!(bans.next_end(), Some(at(1010)));
        assert_eq!(ids(&bans.expire(at(1011))), ["192.0.2.1"]);
    }

    #[test]
    fn lists_are_in_the_order_of_arrival_or_of_the_end() {
        let mut bans = Bans::default();
        bans.add(ban("192.0.2.3", 1000, Some(PERMANENT)), 600.0, at(1000));
        bans.add(ban("192.0.2.2", 1001, None), 600.0, at(1001));
        bans.add(ban("bob", 1000, None), 600.0, at(1002));
        bans.add(ban("192.0.2.0/28", 1000, Some(2.0)), 600.0, at(1002));
        let all: Vec<_> = bans.iter().cloned().collect();
        assert_eq!(ids(&all), ["192.0.2.3", "192.0.2.2", "bob", "192.0.2.0/28"]);
        let all: Vec<_> = bans.by_end().into_iter().cloned().collect();
        assert_eq!(ids(&all), ["192.0.2.0/28", "bob", "192.0.2.2", "192.0.2.3"]);
        let inside = bans.within("192.0.2.0/24".parse().unwrap());
        assert_eq!(inside.iter().map(Id::to_string).collect::<Vec<_>>(), ["192.0.2.3", "192.0.2.2", "192.0.2.0/28"]);
        assert!(bans.remove(&Id::parse("bob"), 600.0).is_some());
        assert!(bans.remove(&Id::parse("bob"), 600.0).is_none());
        assert_eq!(bans.next_end(), Some(at(1002)));
        assert_eq!(bans.clear().len(), 3);
        assert_eq!(bans.next_end(), None);
    }

    #[test]
    fn the_captured_values_of_the_oldest_bans_go_when_there_are_too_many_but_not_their_addresses() {
        let mut bans = Bans::default();
        let name = crate::filter::Datum::Text("x".repeat(super::super::ticket::MAX_KEPT_LINE).into());
        let address = Some(Id::parse("192.0.2.1"));
        for n in 0..2000 {
            let data = vec![(Arc::from("user"), name.clone())];
            let details = Arc::new(Details { data, address: address.clone(), ..Details::default() });
            bans.add(Ban { details, ..ban(&format!("user{n}"), 1000, None) }, 600.0, at(1000));
        }
        assert!(bans.kept <= MAX_DETAILS);
        let first = &bans.get(&Id::parse("user0")).unwrap().details;
        assert!(first.data.is_empty() && first.address == address);
    }

    #[test]
    fn the_lines_of_the_oldest_bans_go_when_there_are_too_many() {
        let mut bans = Bans::default();
        let line: Arc<str> = "x".repeat(super::super::ticket::MAX_KEPT_LINE).into();
        for n in 0..2000 {
            let matches = vec![crate::filter::Match { line: line.clone(), date: (0, 0) }];
            let details = Arc::new(Details { matches, ..Details::default() });
            bans.add(Ban { details, ..ban(&format!("user{n}"), 1000, None) }, 600.0, at(1000));
        }
        assert!(bans.kept <= MAX_DETAILS);
        assert!(bans.get(&Id::parse("user0")).unwrap().details.matches.is_empty());
        assert_eq!(bans.get(&Id::parse("user1999")).unwrap().details.matches.len(), 1);
        bans.clear();
        assert_eq!(bans.kept, 0);
    }
}
