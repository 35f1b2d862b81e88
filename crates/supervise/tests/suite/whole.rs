//! Whole trees under random use, random order and injected faults: everything ends, and nothing is left.

use std::cell::Cell;

use futures_util::FutureExt;
use tinkex_supervise::*;

use crate::world::*;

struct Dice(Cell<u64>);

impl Dice {
    fn roll(&self, sides: u64) -> u64 {
        let mut state = self.0.get();
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        self.0.set(state);
        state % sides
    }

    fn pick<T: Clone>(&self, of: &[T]) -> T {
        of[self.roll(of.len() as u64) as usize].clone()
    }
}

fn child(world: &World, dice: &Dice, id: &str) -> ChildSpec {
    let ways = [
        Init::Ready,
        Init::Ready,
        Init::Ready,
        Init::Fail(abnormal()),
        Init::Fail(Exit::Ignore),
        Init::FailAfter(ms(30), abnormal()),
        Init::Never,
    ];
    let turns: Vec<Init> = (0..4).map(|_| dice.pick(&ways)).collect();
    let shutdown = dice.pick(&[Shutdown::BrutalKill, Shutdown::After(ms(50)), Shutdown::After(ms(0))]);
    let restart = dice.pick(&[Restart::Permanent, Restart::Transient, Restart::Temporary]);
    let spec = world.child_that(id, turns).shutdown(shutdown).restart(restart);
    if dice.roll(2) == 0 { spec.start_timeout(ms(20)) } else { spec }
}

fn run(seed: u64, faulty: bool) {
    let world = World::seeded(seed);
    let dice = Dice(Cell::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1));
    let strategy = dice.pick(&[Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne]);
    let tasks = TaskSupervisor::new("tasks").limit(3).queue(3).shutdown(Shutdown::After(ms(40)));
    let dynamic = DynamicSupervisor::new("dynamic").intensity(3, ms(500)).max_children(5);
    let ordered = Supervisor::new("ordered").strategy(strategy).intensity(3, ms(500));
    let root = Supervisor::new("root")
        .intensity(1000, ms(500))
        .with(tasks.child())
        .with(dynamic.child())
        .with(ordered.child());
    let root_pid = world.start(&root);
    faults::clear();
    let mut starts = Vec::new();
    let mut calls = Vec::new();
    let mut results = Vec::new();
    for _ in 0..60 {
        let id = dice.pick(&["a", "b", "c", "d"]);
        if faulty && dice.roll(6) == 0 {
            let place = dice.pick(&["task poll", "task drop", "supervisor step", "supervisor effect"]);
            // One at a time: a supervisor gives up at the third panic in a row.
            faults::clear();
            faults::arm(place, 1 + dice.roll(9));
        }
        match dice.roll(9) {
            0 | 1 => starts.push(ordered.start_child(child(&world, &dice, id)).boxed_local()),
            2 => starts.push(dynamic.start_child(child(&world, &dice, id)).boxed_local()),
            3 => calls.push(ordered.terminate_child(id).boxed_local()),
            4 => starts.push(ordered.restart_child(id).boxed_local()),
            5 => calls.push(ordered.delete_child(id).boxed_local()),
            6 => {
                // A fault may strike the root, and then nothing is left.
                assert_eq!(world.system.snapshot().is_empty(), !root_pid.is_alive());
                if let Some(pid) = ordered.child_pid(id) {
                    pid.kill(dice.pick(&[abnormal(), Exit::Normal, Exit::Shutdown, Exit::Killed]));
                }
            }
            7 => {
                for child in dynamic.which_children() {
                    if let Some(pid) = child.pid {
                        pid.kill(abnormal());
                    }
                }
            }
            _ => {
                let held = dice.roll(60);
                results
                    .push(tasks.spawn("task", move |ctx| async move { ctx.sleep(ms(held)).await.is_ok() }));
            }
        }
        world.time.advance(ms(dice.roll(25)));
        world.system.assert_accounted();
    }
    faults::clear();
    root_pid.ask_to_stop();
    world.time.advance(seconds(10));
    assert!(!root_pid.is_alive(), "the tree stops");
    assert_eq!(world.system.live(), 0, "nothing is left");
    assert_eq!(world.time.live_tasks(), 0);
    assert_eq!(world.time.live_timers(), 0);
    for start in starts {
        drop(world.run(start));
    }
    for call in calls {
        drop(world.run(call));
    }
    for result in results {
        drop(world.run(result));
    }
    let log = world.log();
    for id in ["a", "b", "c", "d"] {
        let count = |sign| log.iter().filter(|line| **line == format!("{sign}{id}")).count();
        assert_eq!(count('+'), count('-'), "each start has its end");
    }
}

fn over_seeds(seeds: std::ops::Range<u64>, faulty: bool) {
    let number = |name| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
    let each = number("SUPERVISE_THIN").unwrap_or(1) as usize;
    for seed in number("SUPERVISE_SEED").map_or(seeds, |seed: u64| seed..seed + 1).step_by(each) {
        let outcome = std::panic::catch_unwind(|| run(seed, faulty));
        if let Err(panic) = outcome {
            eprintln!("failed with SUPERVISE_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn random_use_leaves_nothing_behind() {
    over_seeds(1..400, false);
}

#[test]
fn random_use_with_panics_everywhere_leaves_nothing_behind() {
    over_seeds(1..400, true);
}
