//! The order of a run's data: drawn from its seed alone, so that it is the same again after a crash.
//!
//! Data are drawn block by block. A set that can be read anywhere is one block; of a stream a block is what its buffer
//! holds. Within a block the order is a permutation that the seed, the epoch and the block decide.

/// Where a run is in its data: in front of the next datum.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// From 0.
    pub epoch: u32,
    /// Of the epoch, from 0.
    pub block: u32,
    /// How many of the block were drawn.
    pub at: u32,
    /// Of a stream: where the block begins, as JSON text; empty for its beginning.
    pub cursor: String,
}

impl Position {
    pub fn next_epoch(&self) -> Position {
        Position { epoch: self.epoch + 1, ..Position::default() }
    }
}

/// The order of a block of so many data.
pub fn permutation(seed: u64, position: &Position, length: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..length as u32).collect();
    let mut dice = Dice(mixed(seed ^ mixed(u64::from(position.epoch) << 32 | u64::from(position.block))));
    // Fisher and Yates, from the end.
    for last in (1..length).rev() {
        let drawn = (u128::from(dice.roll()) * (last as u128 + 1)) >> 64;
        order.swap(last, drawn as usize);
    }
    order
}

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed(self.0)
    }
}

fn mixed(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_datum_is_drawn_once_an_epoch_in_an_order_that_the_seed_decides() {
        let first = Position::default();
        let order = permutation(7, &first, 1_000);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..1_000).collect::<Vec<_>>());
        assert_eq!(order, permutation(7, &first, 1_000));
        for other in [first.next_epoch(), Position { block: 1, ..first.clone() }] {
            assert_ne!(order, permutation(7, &other, 1_000));
        }
        assert_ne!(order, permutation(8, &first, 1_000));
    }

    #[test]
    fn every_place_is_as_likely_for_every_datum() {
        let mut counts = [[0; 3]; 3];
        for seed in 0..3_000 {
            for (place, datum) in permutation(seed, &Position::default(), 3).into_iter().enumerate() {
                counts[place][datum as usize] += 1;
            }
        }
        assert!(counts.as_flattened().iter().all(|count| (900..1_100).contains(count)), "{counts:?}");
    }
}
