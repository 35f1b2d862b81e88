//! The whole client against the whole sandbox in worlds where everything goes wrong: each training call happens exactly
//! once. `npm run simulate` lets many more worlds run.

mod dice;
mod disk;
mod door;
mod fate;
mod instance;
mod network;
mod page;
mod plan;
mod server;
mod tally;
mod trace;
mod world;

/// Enough to meet each kind of fault many times.
const SEEDS: u64 = 200;

#[test]
fn whatever_goes_wrong_each_call_is_applied_once_and_the_weights_are_the_same() {
    let total = tally::Tally::default();
    for seed in 0..SEEDS {
        match std::panic::catch_unwind(|| world::run(seed)) {
            Ok(tally) => total.add(&tally),
            Err(_) => {
                // Once more, for its story.
                tally::tell_all();
                let _ = std::panic::catch_unwind(|| world::run(seed));
                panic!("seed {seed} fails; alone: npm run simulate -- --seeds 1 --first-seed {seed}");
            }
        }
    }
    println!("{}", total.table().0.join("\n"));
}
