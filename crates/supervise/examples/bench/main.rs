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

fn main() {
    println!(
        "{:<28} {:>7} {:>9} {:>9} {:>7} {:>10}",
        "", "children", "B kept", "allocs", "polls", "ms in all"
    );
    for children in [1_000, 100_000] {
        let world = VirtualTime::new(0);
        let runtime = world.runtime();
        let mut stop = None;
        row(
            "plain spawn: start",
            children,
            &measure(&world, children, || stop = Some(plain(&runtime, children))),
        );
        row(
            "plain spawn: stop",
            children,
            &measure(&world, children, || stop.take().expect("started").cancel()),
        );

        let world = VirtualTime::new(0);
        let family = Family::new(world.runtime());
        world.run_until_stalled();
        row("dynamic: start", children, &measure(&world, children, || family.grow(children)));
        row("dynamic: stop", children, &measure(&world, children, || drop(family.stop())));
        assert_eq!(family.system.live(), 0, "all have stopped");

        let world = VirtualTime::new(0);
        let supervisor = ordered(world.runtime());
        world.run_until_stalled();
        row("in order: start", children, &measure(&world, children, || grow_ordered(&supervisor, children)));
        let pid = supervisor.pid().expect("it runs");
        row("in order: stop", children, &measure(&world, children, || pid.ask_to_stop()));
        assert_eq!(world.live_tasks(), 0, "all have stopped");
    }

    restarts();
}

/// Restarts one child again and again, in rounds: on a busy machine the fastest round is the one that was not
/// interrupted.
fn restarts() {
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
    let each = |cost: &Cost| cost.time.as_secs_f64() * 1e6 / EACH as f64;
    println!(
        "a restart takes {:.2} µs at best, {:.2} µs in the middle",
        each(&costs[0]),
        each(&costs[ROUNDS / 2])
    );
}
