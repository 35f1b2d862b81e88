//! How far a run submits ahead of what is finished, and what it writes for that.

use std::time::Duration;

use super::spec::{checkpoints, of_kind, spec};
use super::with_run;
use crate::world::World;

#[test]
fn short_steps_are_submitted_further_ahead_unless_the_run_says_how_far() {
    for (pipeline, expected) in [(Some(2), 2..=2), (None, 3..=8)] {
        let world = World::patient(3);
        let spec = of_kind("data", 40, pipeline, |plain| checkpoints(plain, 0));
        let ahead = with_run(&world, &spec, 30, async |_, page, _| page.ahead.get());
        assert!(expected.contains(&ahead), "{pipeline:?}: {ahead}");
    }
}

#[test]
fn a_step_is_one_commit_which_takes_along_what_came_of_those_before() {
    let world = World::patient(3);
    with_run(&world, &spec(60, |plain| checkpoints(plain, 0)), 10, async |_, page, _| {
        let (strict, relaxed) = world.disk.commits();
        while page.events.borrow().len() < 50 {
            world.runtime_timer(Duration::from_millis(1)).await;
        }
        let (strict_then, relaxed_then) = world.disk.commits();
        let (strict, relaxed) = (strict_then - strict, relaxed_then - relaxed);
        assert!((39..=41).contains(&strict) && relaxed <= 4, "{strict} strict and {relaxed} relaxed commits");
    });
}
