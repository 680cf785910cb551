//! Random choices that a seed repeats.

/// xorshift64*; the seed is printed, and taken from `SEED` if that is set.
pub struct Random(u64);

impl Random {
    /// From `SEED`, else from the clock.
    pub fn seeded() -> Random {
        let clock = || std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64 | 1;
        let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(clock);
        println!("SEED={seed}");
        Random::new(seed)
    }

    /// From a number that is not 0.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) % limit
    }
}
