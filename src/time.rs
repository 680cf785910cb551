//! Points in time as the whole program counts them: microseconds since the epoch.
//!
//! Nothing in here reads a clock; whoever needs "now" is told. Durations are plain
//! `f64` seconds, because Fail2Ban's time expressions can yield fractions (`1.5m`).

use std::ops::{Add, Sub};

/// A point in time: microseconds since 1970-01-01T00:00:00Z, without leap seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(i64);

impl Time {
    /// From whole seconds since the epoch; saturates far outside of human history.
    #[must_use]
    pub const fn from_seconds(seconds: i64) -> Time {
        Time(seconds.saturating_mul(1_000_000))
    }

    /// From seconds with a fraction, rounded to the microsecond.
    #[must_use]
    pub fn from_f64(seconds: f64) -> Time {
        Time((seconds * 1e6).round() as i64)
    }

    /// From microseconds since the epoch.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Time {
        Time(micros)
    }

    /// Microseconds since the epoch.
    #[must_use]
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch, rounded down.
    #[must_use]
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// Seconds since the epoch with the fraction.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        self.0 as f64 / 1e6
    }
}

#[expect(clippy::suspicious_arithmetic_impl, reason = "seconds become microseconds")]
impl Add<f64> for Time {
    type Output = Time;
    /// Later by so many seconds; saturates.
    fn add(self, seconds: f64) -> Time {
        Time(self.0.saturating_add((seconds * 1e6).round() as i64))
    }
}

#[expect(clippy::suspicious_arithmetic_impl, reason = "seconds become microseconds")]
impl Sub<f64> for Time {
    type Output = Time;
    /// Earlier by so many seconds; saturates.
    fn sub(self, seconds: f64) -> Time {
        Time(self.0.saturating_sub((seconds * 1e6).round() as i64))
    }
}

#[expect(clippy::suspicious_arithmetic_impl, reason = "microseconds become seconds")]
impl Sub for Time {
    type Output = f64;
    /// The seconds between two points, negative if `other` is later.
    fn sub(self, other: Time) -> f64 {
        self.0.saturating_sub(other.0) as f64 / 1e6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_survive_the_round_trip() {
        let time = Time::from_f64(1_795_485_771.075_749);
        assert_eq!(time.micros(), 1_795_485_771_075_749);
        assert_eq!(time.seconds(), 1_795_485_771);
        assert_eq!(Time::from_micros(-1).seconds(), -1);
    }
}
