use std::collections::hash_map::RandomState;
use std::env;
use std::hash::{BuildHasher, Hasher};

/// A small, seeded generator of numbers (xorshift64*): the same seed yields the same numbers on every
/// machine.
///
/// Suited to splitting bytes at random, and to nothing else.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// Makes a generator from `seed`.
    pub fn new(seed: u64) -> Self {
        Rng(seed ^ 0x9e37_79b9_7f4a_7c15 | 1)
    }

    /// The seed in the environment variable `GETTY_SEED`, or a random one. Print it, so that a failure can be
    /// repeated.
    ///
    /// # Panics
    /// If the variable is not a number.
    pub fn seed() -> u64 {
        let seed = env::var("GETTY_SEED").ok();
        let seed = seed.map(|seed| seed.parse().expect("GETTY_SEED must be a number"));
        seed.unwrap_or_else(|| RandomState::new().build_hasher().finish())
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number from 0 to `bound` - 1; 0 if `bound` is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next_u64() >> 16) as usize % bound.max(1)
    }
}
