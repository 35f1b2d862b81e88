//! The whole client against the whole sandbox in worlds where everything goes wrong: each training call happens exactly
//! once, by hand and in a training run. `npm run simulate` lets many more worlds run.

mod around;
mod dice;
mod disk;
mod door;
mod fate;
mod frame;
mod given;
mod instance;
mod network;
mod page;
mod plan;
mod runs;
mod server;
mod tally;
mod trace;
mod world;

use std::panic::{RefUnwindSafe, catch_unwind};
use std::rc::Rc;

use tally::Tally;

/// Enough to meet each kind of fault many times.
const SEEDS: u64 = 200;

/// A run takes longer; still each kind of fault is met.
const SEEDS_OF_RUNS: u64 = 48;

#[test]
fn whatever_goes_wrong_each_call_is_applied_once_and_the_weights_are_the_same() {
    let total = all(SEEDS, "", world::run);
    println!("{}", total.table(&tally::faults(), &tally::TRANSITIONS).join("\n"));
}

#[test]
fn whatever_goes_wrong_a_run_takes_each_step_once_and_the_weights_are_the_same() {
    let total = all(SEEDS_OF_RUNS, "--runs ", runs::run);
    println!("{}", total.table(&runs::counts::faults(), &runs::counts::TRANSITIONS).join("\n"));
}

fn all(seeds: u64, flag: &str, run: impl Fn(u64) -> Rc<Tally> + RefUnwindSafe) -> Tally {
    let total = Tally::default();
    for seed in 0..seeds {
        match catch_unwind(|| run(seed)) {
            Ok(tally) => total.add(&tally),
            Err(_) => {
                // Once more, for its story.
                tally::tell_all();
                let _ = catch_unwind(|| run(seed));
                panic!("seed {seed} fails; alone: npm run simulate -- {flag}--seeds 1 --first-seed {seed}");
            }
        }
    }
    total
}
