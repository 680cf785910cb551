//! When a line was written: its own date says it, or the last one of the log, or it is now.

use super::Options;
use crate::filter::Clock;
use crate::time::Time;

/// The last date of a log stands in for a missing one for so many seconds.
const INHERIT: f64 = 60.0;
/// Times of a log that is read as it grows are not further from now than so many seconds.
const TOO_FAR: f64 = 60.0;

/// The last date of a log.
#[derive(Debug, Default)]
pub struct Last {
    time: Option<Time>,
    text: String,
}

/// What was found out about the time of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// The time it counts with.
    pub time: Option<Time>,
    /// It has the date of a line before.
    pub inherited: bool,
    /// The time was too far from now and was replaced by it.
    pub replaced: bool,
    /// So many seconds it was from now, then; below 0: before it.
    pub distance: i64,
    /// It is older than `findtime`, so it does not count.
    pub old: bool,
}

impl Last {
    /// The last date as it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The time of the next line. `own` is its date if that is a valid one; `placeholder` says
    /// that a pattern found an empty date. Saying the same of a line again changes nothing.
    pub fn next(&mut self, own: Option<(Time, &str)>, placeholder: bool, clock: &Clock, options: Options) -> Moment {
        let mut moment = Moment::default();
        if let Some((time, text)) = own {
            self.time = Some(time);
            self.text.clear();
            self.text.push_str(text);
            moment.time = Some(time);
        } else if let Some(last) = self.time.filter(|last| *last > clock.now - INHERIT) {
            moment.time = Some(last);
            moment.inherited = true;
        } else if options.in_operation || placeholder {
            moment.time = Some(clock.now);
        }
        if let (Some(at), Some(findtime)) = (moment.time, options.findtime) {
            let distance = (at - clock.now).trunc();
            if options.in_operation && distance.abs() > TOO_FAR {
                (moment.replaced, moment.distance) = (true, distance as i64);
                moment.time = Some(clock.now);
                if self.time.is_some() {
                    self.time = moment.time;
                }
            } else if !options.in_operation && at < clock.now - findtime {
                moment.old = true;
            }
        }
        moment
    }
}

/// A time as the records of a journal carry it: local, with microseconds unless they are 0, and with
/// its distance from UTC.
#[must_use]
pub fn written(time: Time, zone: &jiff::tz::TimeZone) -> String {
    let Ok(timestamp) = jiff::Timestamp::from_microsecond(time.micros()) else { return String::new() };
    let (local, offset) = (zone.to_datetime(timestamp), zone.to_offset(timestamp).seconds());
    let (seconds, micros) = (local.strftime("%Y-%m-%dT%H:%M:%S"), time.micros().rem_euclid(1_000_000));
    let (sign, offset) = (if offset < 0 { '-' } else { '+' }, offset.unsigned_abs());
    let offset = format!("{sign}{:02}:{:02}", offset / 3600, offset / 60 % 60);
    if micros == 0 { format!("{seconds}{offset}") } else { format!("{seconds}.{micros:06}{offset}") }
}
