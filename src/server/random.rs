//! Random numbers for `bantime.rndtime`: that nobody can tell when a ban ends.

use std::hash::{BuildHasher as _, RandomState};

/// A source of numbers, seeded by the system.
#[derive(Debug)]
pub struct Random {
    keys: RandomState,
    count: u64,
}

impl Random {
    /// Seeded by the system.
    #[must_use]
    pub fn new() -> Random {
        Random { keys: RandomState::new(), count: 0 }
    }

    /// The next number, from 0 up to, but not including, 1.
    pub fn draw(&mut self) -> f64 {
        self.count += 1;
        (self.keys.hash_one(self.count) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

impl Default for Random {
    fn default() -> Random {
        Random::new()
    }
}
