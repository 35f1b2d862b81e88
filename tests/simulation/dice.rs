//! Chance, from one seed.

use std::cell::Cell;
use std::time::Duration;

pub struct Dice(Cell<u64>);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        // Seeds that follow each other would give rolls that do.
        Dice(Cell::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03))
    }

    /// 64 bits (splitmix64).
    pub fn bits(&self) -> u64 {
        let state = self.0.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
        self.0.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// From 0 up to below `sides`.
    pub fn roll(&self, sides: u64) -> u64 {
        self.bits() % sides
    }

    /// True so many times in a thousand.
    pub fn happens(&self, in_a_thousand: u64) -> bool {
        self.roll(1_000) < in_a_thousand
    }

    pub fn pick<T: Copy>(&self, of: &[T]) -> T {
        of[self.roll(of.len() as u64) as usize]
    }

    /// Up to so many milliseconds, in microseconds.
    pub fn up_to_ms(&self, ms: u64) -> Duration {
        Duration::from_micros(1 + self.roll(ms * 1_000))
    }
}
