//! What supervision costs, beside a plain spawn on the same executor in the same run:
//! `cargo run --release -p tinkex-supervise --example bench`.

mod workload;

use std::{
    alloc::System as SystemAllocator,
    time::{Duration, Instant},
};

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tinkex_supervise::{Exit, virtual_time::VirtualTime};
use workload::{Family, grow_ordered, ordered, plain};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<SystemAllocator> = &INSTRUMENTED_SYSTEM;

/// What so many children took, each.
struct Cost {
    bytes_kept: f64,
    allocations: f64,
    polls: f64,
    time: Duration,
}

/// Runs work on an executor to its end, and divides what it took.
fn measure(world: &VirtualTime, children: usize, work: impl FnOnce()) -> Cost {
    let (region, polls, began) = (Region::new(ALLOCATOR), world.polls(), Instant::now());
    work();
    world.run_until_stalled();
    let (time, stats) = (began.elapsed(), region.change());
    let each = |count: f64| count / children as f64;
    Cost {
        bytes_kept: each(stats.bytes_allocated as f64 - stats.bytes_deallocated as f64),
        allocations: each((stats.allocations + stats.reallocations) as f64),
        polls: each((world.polls() - polls) as f64),
        time,
    }
}

fn row(what: &str, children: usize, cost: &Cost) {
    println!(
        "{what:<28} {children:>7} {:>9.0} {:>9.2} {:>7.2} {:>10.3}",
        cost.bytes_kept,
        cost.allocations,
        cost.polls,
        cost.time.as_secs_f64() * 1e3
    );
}

/// One kind of supervisor with so many children: what their start and their stop took.
struct Life {
    what: &'static str,
    children: usize,
    start: Cost,
    stop: Cost,
}

impl Life {
    fn new(what: &'static str, children: usize, start: Cost, stop: Cost) -> Self {
        row(&format!("{what}: start"), children, &start);
        row(&format!("{what}: stop"), children, &stop);
        Self { what, children, start, stop }
    }
}

fn main() {
    println!(
        "{:<28} {:>7} {:>9} {:>9} {:>7} {:>10}",
        "", "children", "B kept", "allocs", "polls", "ms in all"
    );
    let few: Vec<Life> = lives(1_000).into();
    let many: Vec<Life> = lives(100_000).into();
    let restart = restarts();

    println!("\n{:<72} {:>9}  bar", "", "measured");
    for life in few.iter().chain(&many) {
        bar(
            &format!("an idle child, {}, of {}: bytes", life.what, life.children),
            life.start.bytes_kept,
            1e3,
        );
    }
    for (few, many) in few.iter().zip(&many) {
        let same = |count: fn(&Cost) -> f64| {
            let drift = |few: &Cost, many: &Cost| (count(few) - count(many)).abs();
            drift(&few.start, &many.start).max(drift(&few.stop, &many.stop))
        };
        let what = few.what;
        let from_to = "between 1,000 and 100,000";
        bar(
            &format!("allocations for each child, {what}, {from_to}: change"),
            same(|cost| cost.allocations),
            0.1,
        );
        bar(&format!("polls for each child, {what}, {from_to}: change"), same(|cost| cost.polls), 0.1);
        bar(&format!("stop of 1,000, {what}: ms"), few.stop.time.as_secs_f64() * 1e3, 100.0);
    }
    bar("a restart, median round: µs", restart, 10.0);
}

fn bar(what: &str, measured: f64, most: f64) {
    let verdict = if measured <= most { "" } else { "  OVER" };
    println!("{what:<72} {measured:>9.2}  {most}{verdict}");
}

/// Plain futures for comparison; then the lives of both kinds of supervisor.
fn lives(children: usize) -> [Life; 2] {
    let world = VirtualTime::new(0);
    let runtime = world.runtime();
    let mut stop = None;
    let start = measure(&world, children, || stop = Some(plain(&runtime, children)));
    let stop = measure(&world, children, || stop.take().expect("started").cancel());
    Life::new("plain spawn", children, start, stop);

    let world = VirtualTime::new(0);
    let family = Family::new(world.runtime());
    world.run_until_stalled();
    let start = measure(&world, children, || family.grow(children));
    let stop = measure(&world, children, || drop(family.stop()));
    assert_eq!(family.system.live(), 0, "all have stopped");
    let dynamic = Life::new("dynamic", children, start, stop);

    let world = VirtualTime::new(0);
    let supervisor = ordered(world.runtime());
    world.run_until_stalled();
    let start = measure(&world, children, || grow_ordered(&supervisor, children));
    let pid = supervisor.pid().expect("it runs");
    let stop = measure(&world, children, || pid.ask_to_stop());
    assert_eq!(world.live_tasks(), 0, "all have stopped");
    [dynamic, Life::new("in order", children, start, stop)]
}

/// Restarts one child again and again, in rounds: on a busy machine the fastest round is the one that was not
/// interrupted. Gives the microseconds of one restart in the median round.
fn restarts() -> f64 {
    const ROUNDS: usize = 50;
    const EACH: usize = 200;
    let world = VirtualTime::new(0);
    let family = Family::new(world.runtime());
    world.run_until_stalled();
    family.grow_permanent();
    world.run_until_stalled();
    let round = || {
        measure(&world, EACH, || {
            for _ in 0..EACH {
                family.crash(Exit::error("crash"));
                world.run_until_stalled();
            }
        })
    };
    let mut costs: Vec<Cost> = (0..ROUNDS).map(|_| round()).collect();
    costs.sort_by_key(|cost| cost.time);
    row("restart, fastest round", EACH, &costs[0]);
    row("restart, median round", EACH, &costs[ROUNDS / 2]);
    costs[ROUNDS / 2].time.as_secs_f64() * 1e6 / EACH as f64
}
