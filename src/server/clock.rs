//! Somebody sets the clock of the machine while bans run.
//!
//! Bans and counters are kept by the time of day, since logs and the database have that. When it
//! jumps they jump with it, so that each ban lasts as long as it is to last: the kernel, which
//! ends bans by a clock that nobody sets, and commands, which are told of the end by us, agree.

use std::time::{Duration, Instant};

use crate::state::Change;
use crate::time::Time;

use super::clock;
use super::engine::Engine;
use super::logging::Level;

/// Seconds; less is no jump. A clock that is put right bit by bit is never that far off between two looks.
const JUMP: f64 = 2.0;
/// Two readings that are further apart than this were interrupted, and say nothing about each other.
const APART: Duration = Duration::from_millis(10);
/// So many tries to read both clocks without an interruption.
const TRIES: u32 = 100;

/// The time of day beside that of a clock that nobody sets.
#[derive(Debug)]
pub(super) struct Watch {
    time: Time,
    steady: Instant,
}

/// What was done to the clock.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Jump {
    /// Seconds; negative is back.
    by: f64,
    /// What it showed just before.
    before: Time,
}

impl Watch {
    pub(super) fn new() -> Watch {
        let mut watch = Watch { time: clock().now, steady: Instant::now() };
        for _ in 0..TRIES {
            let before = Instant::now();
            watch = Watch { time: clock().now, steady: Instant::now() };
            if watch.steady - before < APART {
                break;
            }
        }
        watch
    }

    /// Whether the clock was set since the last call.
    fn look(&mut self, now: Watch) -> Option<Jump> {
        let passed = now.steady.saturating_duration_since(self.steady).as_secs_f64();
        let before = self.time + passed;
        let by = now.time - before;
        *self = now;
        (by.abs() >= JUMP).then_some(Jump { by, before })
    }
}

impl Engine {
    /// Has bans and counters keep the time they have left when the clock was set. Call it before anything is
    /// done that depends on the time.
    pub(super) fn follow_clock(&mut self) {
        let Some(Jump { by, before }) = self.watch.look(Watch::new()) else { return };
        for jail in self.jails.values_mut() {
            jail.counts.shift(by);
        }
        if self.state.is_some() {
            self.effects.stored.push(Change::Shift { by, before });
            self.effects.urgent = true;
        }
        let way = if by < 0.0 { "back" } else { "forward" };
        let text = format!("The clock was set {way} by {:.0} seconds; bans end when they would have ended", by.abs());
        self.effects.line(Level::WARNING, "server", text);
        // what is looked up in the database from now on is of the same time
        self.settle();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_steady_clock_did_not_see_is_a_jump() {
        let (time, steady) = (Time::from_seconds(1000), Instant::now());
        let after = |time: i64, steady_seconds: u64| Watch {
            time: Time::from_seconds(time),
            steady: steady + Duration::from_secs(steady_seconds),
        };
        let mut watch = Watch { time, steady };
        assert_eq!(watch.look(after(1100, 100)), None);
        assert_eq!(watch.look(after(1111, 110)), None);
        let jump = Jump { by: 3600.0, before: Time::from_seconds(1121) };
        assert_eq!(watch.look(after(4721, 120)), Some(jump));
        let jump = Jump { by: -4000.0, before: Time::from_seconds(4721) };
        assert_eq!(watch.look(after(721, 120)), Some(jump));
        assert_eq!(watch.look(after(722, 121)), None);
    }
}
