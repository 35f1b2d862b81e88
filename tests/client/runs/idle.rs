//! Runs that are paused for long: in a hidden page, whose timers fire once a minute, and for days.

use std::rc::Rc;
use std::time::Duration;

use super::page::Set;
use super::spec::{checkpoints, spec};
use super::{begin, with_run};
use crate::allocations;
use crate::world::World;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

#[test]
fn a_run_that_is_paused_in_a_hidden_page_keeps_a_model_that_its_server_would_end_after_90_seconds() {
    let world = World::ending_sessions_after(1, Duration::from_secs(90));
    let (service, runs, instance) = world.mortal_runs("page");
    let page = Rc::new(Set::default());
    world.time.block_on(async {
        let spec = spec(8, |plain| checkpoints(plain, 0));
        let run = begin(&world, &runs, &page, &spec).await.unwrap();
        while page.events.borrow().len() < 2 {
            world.runtime_timer(Duration::from_millis(1)).await;
        }
        run.pause().await.unwrap();
        instance.throttle_timers(MINUTE);
        world.runtime_timer(HOUR).await;
        run.resume(None, false).await.unwrap();
        assert_eq!(run.ended().await.state, "completed");
    });
    let seams = page.events.borrow().iter().filter(|event| event.starts_with("incarnation")).count();
    assert_eq!(seams, 0, "it is the same model: {:?}", page.events.borrow());
    service.close();
}

#[test]
fn a_day_of_a_paused_run_leaves_the_live_allocations_where_they_were() {
    let world = World::ending_sessions_after(2, Duration::from_secs(90));
    let spec = spec(8, |plain| checkpoints(plain, 0));
    with_run(&world, &spec, 2, async |_, page, run| {
        run.pause().await.unwrap();
        // What is alive in between depends on what is under way, so of an hour it is the most that counts.
        let most_in_an_hour = async || {
            let mut most = 0;
            for _ in 0..3_600 {
                world.runtime_timer(Duration::from_secs(1)).await;
                world.forget_sent();
                most = most.max(allocations::live());
            }
            most
        };
        world.runtime_timer(HOUR).await;
        let before = most_in_an_hour().await;
        world.runtime_timer(24 * HOUR).await;
        let after = most_in_an_hour().await;
        assert!(after <= before, "{before} live allocations at most, and {after} a day later");
        assert_eq!(page.status(), "paused paused_by_user");
        run.resume(None, false).await.unwrap();
        assert_eq!(run.ended().await.state, "completed");
    });
}
