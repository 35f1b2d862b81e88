//! Lets many worlds run: `npm run simulate -- --seeds N [--first-seed S]`. Prints what went wrong in them and how often, and
//! the seed of the first in which something did not hold; a single world is told as it happens.

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

use std::process::ExitCode;
use std::time::Instant;

use tally::Tally;

fn main() -> ExitCode {
    let (first, seeds) = match arguments() {
        Ok(given) => given,
        Err(unknown) => {
            eprintln!("{unknown}: it takes --seeds N and --first-seed S");
            return ExitCode::FAILURE;
        }
    };
    if seeds == 1 {
        tally::tell_all();
    }
    let began = Instant::now();
    let total = Tally::default();
    for seed in first..first + seeds {
        match std::panic::catch_unwind(|| world::run(seed)) {
            Ok(tally) => total.add(&tally),
            Err(_) => {
                println!("seed {seed} fails");
                return ExitCode::FAILURE;
            }
        }
    }
    let (table, least) = total.table();
    table.iter().for_each(|line| println!("{line}"));
    println!(
        "{seeds} seeds from {first} on hold, in {:.1} s; each of these at least {least} times",
        began.elapsed().as_secs_f64()
    );
    ExitCode::SUCCESS
}

fn arguments() -> Result<(u64, u64), String> {
    let (mut first, mut seeds) = (0, 1_000);
    let mut given = std::env::args().skip(1);
    while let Some(name) = given.next() {
        let value = given.next().and_then(|value| value.parse().ok());
        match (name.as_str(), value) {
            ("--seeds", Some(value)) => seeds = value,
            ("--first-seed", Some(value)) => first = value,
            _ => return Err(name),
        }
    }
    Ok((first, seeds))
}
