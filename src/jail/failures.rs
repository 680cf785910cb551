//! Counts the failures of each source.
//!
//! Fail2Ban keeps a rate, not a window: what was counted over more than one `findtime` is
//! scaled down to it (halves to even, as Python rounds). An attacker decides how many sources
//! there are, so their number and the bytes kept for them are bounded; what has to go first
//! are the weakest counters, of those the oldest.

use super::table::Table;
use super::ticket::{Details, Ticket};
use crate::address::Id;
use crate::config::Limits;
use crate::time::Time;

/// How many sources a jail counts.
pub const MAX_SOURCES: usize = 800_000;
/// How many bytes of lines and captured values a jail keeps for sources that are not banned.
pub const MAX_DETAILS: usize = 16 * 1024 * 1024;

/// The counter of one source, as others see it.
#[derive(Clone, Debug, PartialEq)]
pub struct Counter {
    /// Who.
    pub id: Id,
    /// Beginning of the time the count is about.
    pub first: Time,
    /// The latest failure.
    pub last: Time,
    /// The count that decides.
    pub retry: u32,
    /// All failures.
    pub failures: u32,
    /// Lines and captured values; empty if there was no room for them.
    pub details: Details,
}

/// A change of a counter since changes were last asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Changed {
    /// It has this value now.
    Set(Counter),
    /// It is gone.
    Gone(Id),
}

/// Sizes of the table; the defaults are [`MAX_SOURCES`] and [`MAX_DETAILS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Sources.
    pub sources: usize,
    /// Bytes of details.
    pub details: usize,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { sources: MAX_SOURCES, details: MAX_DETAILS }
    }
}

/// The counters of a jail.
#[derive(Debug, Default)]
pub struct Failures {
    entries: Table<Entry>,
    bounds: Bounds,
    /// Bytes of details, roughly.
    kept: usize,
    total: u64,
    evicted: u64,
    /// Whose counters changed, if anybody wants to know.
    touched: Option<Vec<Id>>,
}

/// 32 bytes; there may be a million of them.
#[derive(Debug)]
struct Entry {
    first: Time,
    last: Time,
    retry: u32,
    /// All failures, and above them the two flags.
    failures: u32,
    details: Option<Box<Details>>,
}

/// The entry changed since changes were last taken.
const TOUCHED: u32 = 1 << 31;
/// Somebody took a change of it, so its end has to be told as well.
const TAKEN: u32 = 1 << 30;
const COUNT: u32 = TAKEN - 1;

impl Entry {
    fn count(&self) -> u32 {
        self.failures & COUNT
    }

    fn add_count(&mut self, more: u32) {
        self.failures = (self.failures & !COUNT) | (self.count() + more.min(COUNT)).min(COUNT);
    }

    fn has(&self, flag: u32) -> bool {
        self.failures & flag != 0
    }

    /// What decides who has to go: weak before strong, old before recent.
    fn strength(&self) -> (u32, Time) {
        (self.retry, self.last)
    }

    fn size(&self) -> usize {
        self.details.as_ref().map_or(0, |details| details.size())
    }

    fn counter(&self, id: Id) -> Counter {
        let details = self.details.as_deref().cloned().unwrap_or_default();
        Counter { id, first: self.first, last: self.last, retry: self.retry, failures: self.count(), details }
    }
}

impl Failures {
    /// Other sizes than the defaults; takes effect with the next failure.
    pub fn set_bounds(&mut self, bounds: Bounds) {
        self.bounds = bounds;
    }

    /// Whether changes are remembered for [`Failures::take_changes`].
    pub fn track_changes(&mut self, on: bool) {
        self.touched = on.then(|| self.touched.take().unwrap_or_default());
    }

    /// How many counters [`Failures::take_changes`] has something to tell of, at most.
    #[must_use]
    pub fn changes(&self) -> usize {
        self.touched.as_ref().map_or(0, Vec::len)
    }

    /// Counts one failure with this weight (from 1); the counter if it reached `maxretry`, which
    /// then starts anew.
    pub fn add(&mut self, ticket: Ticket, weight: u32, limits: &Limits) -> Option<Counter> {
        self.total += 1;
        if self.entries.len() >= self.bounds.sources && self.entries.get(&ticket.id).is_none() {
            self.evict(limits, ticket.time);
        }
        let Ticket { id, time, mut details } = ticket;
        let weight = weight.max(1);
        let new = || Entry { first: time, last: time, retry: 0, failures: 0, details: None };
        let entry = self.entries.get_or_insert(&id, new);
        let before = entry.size();
        scale(entry, time, limits.findtime);
        entry.retry = entry.retry.saturating_add(weight);
        entry.add_count(1);
        match &mut entry.details {
            Some(known) => {
                known.append(details.matches);
                known.bound(limits.maxmatches);
            }
            none => {
                details.bound(limits.maxmatches);
                if details != Details::default() {
                    *none = Some(Box::new(details));
                }
            }
        }
        self.kept = self.kept + entry.size() - before;
        self.touch(&id);
        let counter = self.reached(&id, limits);
        if self.kept > self.bounds.details {
            self.shed();
        }
        counter
    }

    /// Adds weight to the counter of a known offender, if there is one. That counts as a failure of
    /// its own, as it does in Fail2Ban.
    pub fn add_weight(&mut self, id: &Id, time: Time, weight: u32, limits: &Limits) -> Option<Counter> {
        let entry = self.entries.get_mut(id)?;
        self.total += 1;
        scale(entry, time, limits.findtime);
        entry.retry = entry.retry.saturating_add(weight);
        entry.add_count(1);
        self.touch(id);
        self.reached(id, limits)
    }

    /// Takes the counter out if it is high enough for a ban.
    fn reached(&mut self, id: &Id, limits: &Limits) -> Option<Counter> {
        (self.entries.get(id)?.retry >= limits.maxretry.max(1)).then(|| self.remove(id)).flatten()
    }

    /// Forgets a source; its counter.
    pub fn remove(&mut self, id: &Id) -> Option<Counter> {
        let entry = self.entries.remove(id)?;
        self.kept = self.kept.saturating_sub(entry.size());
        if entry.has(TAKEN) {
            self.touched.iter_mut().for_each(|touched| touched.push(id.clone()));
        }
        Some(entry.counter(id.clone()))
    }

    /// Forgets those whose latest failure is one `findtime` old. Looks at all of them: every few
    /// seconds is enough.
    pub fn clean(&mut self, limits: &Limits, now: Time) {
        let end = now - limits.findtime;
        self.retain(|entry| entry.last > end);
    }

    fn retain(&mut self, keep: impl FnMut(&Entry) -> bool) {
        let (kept, touched) = (&mut self.kept, &mut self.touched);
        self.entries.retain(keep, |id, entry| {
            *kept = kept.saturating_sub(entry.size());
            if entry.has(TAKEN) {
                touched.iter_mut().for_each(|touched| touched.push(id.clone()));
            }
        });
    }

    /// Makes room for an eighth of the table: the outdated go, then the weakest, of those the oldest.
    fn evict(&mut self, limits: &Limits, now: Time) {
        let before = self.entries.len();
        self.clean(limits, now);
        let target = self.bounds.sources - (self.bounds.sources / 8).max(1).min(self.bounds.sources);
        if self.entries.len() > target {
            let surplus = self.entries.len() - target;
            let mut strengths: Vec<_> = self.entries.iter().map(Entry::strength).collect();
            let (_, limit, _) = strengths.select_nth_unstable(surplus - 1);
            let limit = *limit;
            let mut surplus = surplus;
            self.retain(|entry| {
                let goes = surplus > 0 && entry.strength() <= limit;
                surplus -= usize::from(goes);
                !goes
            });
        }
        self.evicted += (before - self.entries.len()) as u64;
    }

    /// Drops the details (not the counters) of the weakest until half of the room is free.
    fn shed(&mut self) {
        let mut strengths: Vec<_> =
            self.entries.iter().filter(|e| e.details.is_some()).map(|e| (e.strength(), e.size())).collect();
        strengths.sort_unstable_by_key(|(strength, _)| *strength);
        let (mut freed, mut limit) = (0, None);
        for (strength, size) in strengths {
            if self.kept - freed <= self.bounds.details / 2 {
                break;
            }
            freed += size;
            limit = Some(strength);
        }
        let kept = &mut self.kept;
        for entry in self.entries.iter_mut() {
            if Some(entry.strength()) <= limit {
                *kept = kept.saturating_sub(entry.size());
                entry.details = None;
            }
        }
    }

    fn touch(&mut self, id: &Id) {
        let Some(touched) = &mut self.touched else { return };
        if let Some(entry) = self.entries.get_mut(id)
            && !entry.has(TOUCHED)
        {
            entry.failures |= TOUCHED;
            touched.push(id.clone());
        }
    }

    /// What changed since the last call, each source once; nothing unless changes are tracked.
    pub fn take_changes(&mut self) -> Vec<Changed> {
        let Some(touched) = self.touched.as_mut().map(std::mem::take) else { return Vec::new() };
        let mut changes = Vec::with_capacity(touched.len());
        let mut gone = std::collections::HashSet::new();
        for id in touched {
            match self.entries.get_mut(&id) {
                Some(entry) if entry.has(TOUCHED) => {
                    entry.failures = (entry.failures & COUNT) | TAKEN;
                    changes.push(Changed::Set(entry.counter(id)));
                }
                Some(_) => {}
                None if gone.insert(id.clone()) => changes.push(Changed::Gone(id)),
                None => {}
            }
        }
        changes
    }

    /// Moves the times of all counters. It is no change for [`Failures::take_changes`].
    pub fn shift(&mut self, by: f64) {
        for entry in self.entries.iter_mut() {
            entry.first = entry.first + by;
            entry.last = entry.last + by;
        }
    }

    /// Puts a stored counter back; one that is there already stays.
    pub fn load(&mut self, counter: Counter) {
        if self.entries.len() >= self.bounds.sources || self.entries.get(&counter.id).is_some() {
            return;
        }
        let details = (counter.details != Details::default()).then(|| Box::new(counter.details));
        let failures = counter.failures.min(COUNT) | TAKEN;
        let entry = Entry { first: counter.first, last: counter.last, retry: counter.retry, failures, details };
        self.kept += entry.size();
        self.entries.get_or_insert(&counter.id, || entry);
    }

    /// The counter of a source.
    #[must_use]
    pub fn get(&self, id: &Id) -> Option<Counter> {
        self.entries.get(id).map(|entry| entry.counter(id.clone()))
    }

    /// `Currently failed`: how many sources are being counted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nobody is being counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.len() == 0
    }

    /// `Total failed`: how often something was counted.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// How many counters had to go because there were too many.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted
    }
}

/// Brings a counter to the time of a later failure. Out of order, the times stay.
fn scale(entry: &mut Entry, time: Time, findtime: f64) {
    if time > entry.last {
        let window = time - findtime;
        if entry.first < window {
            let rate = f64::from(entry.retry) / (time - entry.first) * findtime;
            entry.retry = rate.round_ties_even() as u32;
            entry.first = window;
        }
        entry.last = time;
    }
}

#[cfg(test)]
#[path = "failures_tests.rs"]
mod tests;
