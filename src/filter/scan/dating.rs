//! The dates of a log's lines, for all jails at once and with as little work as possible.
//!
//! What a line does to the lines after it is kept even if no filter wants it: the templates
//! learn from every line, and the last date stands in for a missing one. Jails with the same
//! date patterns share this. Most lines begin with the date of the line before but for the time
//! of day; of these only that much is looked at, and their number is kept.

use std::sync::Arc;

use super::{Filter, JailLog};
use crate::filter::Clock;
use crate::filter::date::{Dates, Day, Found, State};
use crate::filter::exact::Cache;
use crate::time::Time;

/// The dates while a block is judged.
#[derive(Debug, Default)]
pub(super) struct Dating {
    groups: Vec<Group>,
    tracks: Vec<Track>,
    /// By jail.
    group_of: Vec<usize>,
    /// The dates of groups that have none in most lines.
    quiet: Vec<Arc<Dates>>,
    /// A group has no track and is not quiet.
    off: bool,
}

/// Jails that find the same date in every line.
#[derive(Debug)]
struct Group {
    dates: Arc<Dates>,
    state: State,
    /// The track it is on, and its template there.
    track: Option<(usize, usize)>,
    /// What the next dates are expected to look like.
    day: Option<Day>,
    /// The date of the present line, if that was off the track.
    here: Here,
    /// The last line with a valid date in the block.
    last: Option<Last>,
    /// Its jails know that there is none so far.
    told: bool,
    /// It had no date in the last line that was looked at, and is known to have none in others like it.
    quiet: bool,
    /// A date on its track, and its value.
    value: Option<(String, Option<Time>)>,
}

/// What dates look like for the groups on it.
#[derive(Debug)]
struct Track {
    day: Day,
    /// Lines with such a date that the groups have not counted yet.
    count: u64,
    /// The last of them, and what is cut out of it.
    last: Option<((usize, usize), (usize, usize))>,
    /// What is cut out of the present line, if it has such a date.
    cut: Option<(usize, usize)>,
}

/// A line of the block, without its newline, and its date.
#[derive(Clone, Copy, Debug)]
struct Last {
    line: (usize, usize),
    found: Found,
    /// Its value, once it was asked for.
    time: Option<Time>,
}

/// The date of a line.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Here {
    pub found: Option<Found>,
    /// It is a time that exists.
    pub valid: bool,
    /// Cutting it out may bring together what a string that is searched for could consist of.
    torn: bool,
}

/// Whether a string without two neighbours that are not of a word could be what stands around a date.
fn torn(line: &str, found: Found) -> bool {
    let other = |byte: u8| byte.is_ascii() && !byte.is_ascii_alphanumeric() && byte != b'_';
    let line = line.as_bytes();
    match (found.start.checked_sub(1).and_then(|at| line.get(at)), line.get(found.end)) {
        (Some(left), Some(right)) => found.start < found.end && !(other(*left) && other(*right)),
        _ => false,
    }
}

impl Group {
    /// Whether it can be passed over in lines that have no date for it: it had none in the last
    /// one, and its jails need not be told.
    fn is_quiet(&self) -> bool {
        self.here.found.is_none() && (self.told || self.last.is_some()) && self.dates.knows_absence()
    }
}

impl Dating {
    /// Puts jails together that have the same date patterns and learnt the same from the log so far.
    pub(super) fn begin(&mut self, filters: &[Filter], jails: &mut [JailLog<'_>]) {
        self.groups.clear();
        self.group_of.clear();
        for (jail, filter) in jails.iter_mut().zip(filters) {
            let (dates, state) = (&filter.record.dates, &mut jail.state.dates);
            let known = self.groups.iter().position(|group| Arc::ptr_eq(&group.dates, dates) && group.state == *state);
            self.group_of.push(known.unwrap_or(self.groups.len()));
            if known.is_none() {
                self.groups.push(Group {
                    dates: dates.clone(),
                    state: std::mem::take(state),
                    track: None,
                    day: None,
                    here: Here::default(),
                    last: None,
                    told: false,
                    quiet: false,
                    value: None,
                });
            }
        }
        self.tracks.clear();
        self.quiet.clear();
        self.off = true;
    }

    /// Looks at a line that is UTF-8; false if some jails have to look closer.
    #[inline]
    pub(super) fn glance(&mut self, line: (usize, usize), bytes: &[u8]) -> bool {
        let mut all = !self.off;
        for track in &mut self.tracks {
            track.cut = track.day.find(bytes);
            if let Some(cut) = track.cut {
                track.count += 1;
                track.last = Some((line, cut));
            } else {
                all = false;
            }
        }
        all && self.quiet.iter().all(|dates| dates.is_absent(bytes))
    }

    /// Nothing is known of the present line.
    pub(super) fn look_away(&mut self) {
        for track in &mut self.tracks {
            track.cut = None;
        }
    }

    /// Finds the date of a line for those groups that did not at a glance. `line` is where it
    /// stands in the block, if `text` is not a copy.
    #[inline(never)]
    pub(super) fn look(
        &mut self,
        line: Option<(usize, usize)>,
        text: &str,
        cache: &mut Cache,
        jails: &mut [JailLog<'_>],
        clock: &Clock,
    ) {
        let mut moved = false;
        for index in 0..self.groups.len() {
            let track = self.groups[index].track;
            if track.is_some_and(|(track, _)| self.tracks[track].cut.is_some()) {
                continue;
            }
            self.settle(index, clock.now);
            let group = &mut self.groups[index];
            let found = group.dates.find(&mut group.state, cache, text, clock.now);
            let time = found
                .filter(|found| found.start < found.end)
                .and_then(|found| group.dates.value(cache, text, found, clock));
            group.here = Here { found, valid: time.is_some(), torn: found.is_some_and(|found| torn(text, found)) };
            let sticky = group.dates.sticky(&group.state);
            match (found, time) {
                (Some(found), Some(time)) => {
                    group.day = sticky.and_then(|(_, quick)| quick.day(text.as_bytes(), (found.start, found.end)));
                    group.last = line.map(|line| Last { line, found, time: Some(time) });
                }
                _ if sticky.map(|(template, _)| template) != track.map(|(_, template)| template) => group.day = None,
                _ => {}
            }
            if time.is_some() && line.is_none() || time.is_none() && group.last.is_none() && !group.told {
                // A copy is gone with the next line; and where the block has no date so far, the
                // one of an earlier block may be too far from now.
                group.told = true;
                let own = found.zip(time).map(|(found, time)| (time, &text[found.start..found.end]));
                for (jail, _) in jails.iter_mut().zip(&self.group_of).filter(|(_, group)| **group == index) {
                    jail.state.last.next(own, false, clock, jail.options);
                }
            }
            let now_on = group.day.as_ref().zip(sticky.map(|(template, _)| template));
            moved |= track.map(|(track, template)| (&self.tracks[track].day, template)) != now_on;
            moved |= group.quiet != group.is_quiet();
        }
        for track in self.tracks.iter_mut().filter(|track| track.cut.is_none()) {
            (track.count, track.last) = (0, None);
        }
        if moved {
            self.lay_tracks(clock.now);
        }
    }

    /// Lets a group count the lines on its track.
    fn settle(&mut self, index: usize, now: Time) {
        let group = &mut self.groups[index];
        let Some((track, template)) = group.track else { return };
        let track = &self.tracks[track];
        if let Some((line, cut)) = track.last {
            group.dates.again(&mut group.state, track.count, now);
            group.last = Some(Last { line, found: Found::at_start(cut, template, line.1 - line.0), time: None });
        }
    }

    /// Puts groups that expect the same on one track.
    fn lay_tracks(&mut self, now: Time) {
        for index in 0..self.groups.len() {
            let on_track = self.groups[index].track.is_some_and(|(track, _)| self.tracks[track].cut.is_some());
            if on_track {
                self.settle(index, now);
                let group = &mut self.groups[index];
                group.here = Here { found: group.last.map(|last| last.found), valid: true, torn: false };
            }
        }
        self.tracks.clear();
        self.quiet.clear();
        self.off = false;
        for group in &mut self.groups {
            group.quiet = group.is_quiet();
            if group.quiet {
                group.track = None;
                if !self.quiet.iter().any(|dates| Arc::ptr_eq(dates, &group.dates)) {
                    self.quiet.push(group.dates.clone());
                }
                continue;
            }
            let sticky = group.dates.sticky(&group.state);
            let (Some(day), Some((template, _))) = (&group.day, sticky) else {
                self.off = true;
                group.track = None;
                continue;
            };
            let known = self.tracks.iter().position(|track| track.day == *day);
            group.track = Some((known.unwrap_or(self.tracks.len()), template));
            if known.is_none() {
                self.tracks.push(Track { day: day.clone(), count: 0, last: None, cut: None });
            }
        }
    }

    /// Whether strings that were searched for in the present line say nothing, because a date
    /// may stand in the middle of one. Never so after a glance: such dates stand between other
    /// characters than those of words, or at the start.
    pub(super) fn is_torn(&self) -> bool {
        self.groups.iter().any(|group| group.here.torn)
    }

    /// The date of the present line, of so many bytes, for a jail.
    #[inline]
    pub(super) fn here(&self, jail: usize, length: usize) -> Here {
        let group = &self.groups[self.group_of[jail]];
        if let Some((track, template)) = group.track
            && let Some(cut) = self.tracks[track].cut
        {
            return Here { found: Some(Found::at_start(cut, template, length)), valid: true, torn: false };
        }
        group.here
    }

    /// The value of the date of the present line for a jail.
    pub(super) fn time(
        &mut self,
        jail: usize,
        here: Here,
        text: &str,
        cache: &mut Cache,
        clock: &Clock,
    ) -> Option<Time> {
        let found = here.found.filter(|_| here.valid)?;
        let group = &mut self.groups[self.group_of[jail]];
        let date = &text[found.start..found.end];
        // On a track the text says all; elsewhere there may be more to it.
        let track = group.track.map(|(track, _)| &self.tracks[track]).filter(|track| track.cut.is_some());
        let on_track = track.is_some();
        if let Some((known, time)) = &group.value
            && track.is_some_and(|track| track.day.is_same_second(known, date))
        {
            return *time;
        }
        let time = group.dates.value(cache, text, found, clock);
        if !on_track {
            return time;
        }
        let (known, value) = group.value.get_or_insert_with(Default::default);
        known.clear();
        known.push_str(date);
        *value = time;
        time
    }

    /// Tells a jail the last date of the block, if the present line has none for it.
    pub(super) fn tell(
        &mut self,
        index: usize,
        block: &[u8],
        cache: &mut Cache,
        jail: &mut JailLog<'_>,
        clock: &Clock,
    ) {
        let group = &mut self.groups[self.group_of[index]];
        let Some(last) = &mut group.last else { return };
        let Ok(text) = std::str::from_utf8(&block[last.line.0..last.line.1]) else { return };
        if last.time.is_none() {
            last.time = group.dates.value(cache, text, last.found, clock);
        }
        let own = last.time.map(|time| (time, &text[last.found.start..last.found.end]));
        if own.is_some() {
            let moment = jail.state.last.next(own, false, clock, jail.options);
            jail.tally.replace(moment.replaced, moment.distance);
        }
    }

    /// Gives the jails what was learnt in the block.
    pub(super) fn finish(&mut self, block: &[u8], cache: &mut Cache, jails: &mut [JailLog<'_>], clock: &Clock) {
        for index in 0..self.groups.len() {
            self.settle(index, clock.now);
        }
        for (index, jail) in jails.iter_mut().enumerate() {
            self.tell(index, block, cache, jail, clock);
            jail.state.dates.clone_from(&self.groups[self.group_of[index]].state);
        }
        self.groups.clear();
        self.tracks.clear();
        self.quiet.clear();
    }
}
