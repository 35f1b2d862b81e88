//! Lets many worlds run: `npm run simulate -- [--runs] --seeds N [--first-seed S]`. Prints what went wrong in them and how often, and
//! the seed of the first in which something did not hold; a single world is told as it happens.

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

use std::process::ExitCode;
use std::time::Instant;

use tally::Tally;

fn main() -> ExitCode {
    let Asked { of_runs, first, seeds } = match arguments() {
        Ok(asked) => asked,
        Err(unknown) => {
            eprintln!("{unknown}: it takes --runs, --seeds N and --first-seed S");
            return ExitCode::FAILURE;
        }
    };
    let run = if of_runs { runs::run } else { world::run };
    if seeds == 1 {
        tally::tell_all();
    }
    let began = Instant::now();
    let total = Tally::default();
    for seed in first..first + seeds {
        match std::panic::catch_unwind(|| run(seed)) {
            Ok(tally) => total.add(&tally),
            Err(_) => {
                println!("seed {seed} fails");
                return ExitCode::FAILURE;
            }
        }
    }
    let table = match of_runs {
        true => total.table(&runs::counts::faults(), &runs::counts::TRANSITIONS),
        false => total.table(&tally::faults(), &tally::TRANSITIONS),
    };
    table.iter().for_each(|line| println!("{line}"));
    println!("{seeds} seeds from {first} on hold, in {:.1} s", began.elapsed().as_secs_f64());
    ExitCode::SUCCESS
}

struct Asked {
    /// Whole training runs, and not calls made by hand.
    of_runs: bool,
    first: u64,
    seeds: u64,
}

fn arguments() -> Result<Asked, String> {
    let mut asked = Asked { of_runs: false, first: 0, seeds: 1_000 };
    let mut given = std::env::args().skip(1);
    while let Some(name) = given.next() {
        let mut value = || given.next().and_then(|value| value.parse().ok()).ok_or(name.clone());
        match name.as_str() {
            "--runs" => asked.of_runs = true,
            "--seeds" => asked.seeds = value()?,
            "--first-seed" => asked.first = value()?,
            _ => return Err(name),
        }
    }
    Ok(asked)
}
