//! Steps that are functions, and what they do otherwise the second time.

use std::rc::Rc;
use std::time::Duration;

use tinkex::run::Brought;

use super::page::{Mischief, Set, Tab};
use super::spec::{brought, checkpoints, function};
use super::{open, trained, with_run};
use crate::world::World;

#[test]
fn a_function_that_throws_pauses_the_run_and_its_step_runs_again_with_what_was_recorded() {
    let world = World::patient(5);
    with_run(&world, &function(4, |plain| checkpoints(plain, 0)), 2, async |_, page, run| {
        page.mischief.set(Some(Mischief::Throws));
        world.runtime_timer(Duration::from_secs(30)).await;
        assert_eq!(page.status(), "paused step_failed");
        page.mischief.take();
        run.resume(None, false).await.unwrap();
        assert_eq!(run.ended().await.state, "completed");
    });
    let updates = trained(&world).iter().filter(|line| line.contains("optim_step")).count();
    assert_eq!(updates, 4);
}

#[test]
fn a_step_that_asks_for_something_else_the_second_time_is_refused_by_name() {
    let world = World::patient(5);
    let spec = function(4, |plain| checkpoints(plain, 0));
    let (service, runs, instance) = world.mortal_runs("first");
    let page = Rc::new(Set::default());
    let id = world.time.block_on(async {
        let id = runs.start(&spec).await.unwrap();
        open(&world, &runs, &page, &id).await.unwrap();
        while !world.disk.keys_of("run-call/").iter().any(|key| key.ends_with("03")) {
            world.runtime_timer(Duration::from_micros(200)).await;
        }
        instance.die_after(0);
        id
    });
    std::mem::forget((service, runs, page));
    let (service, runs) = world.runs_of("second");
    let page = Rc::new(Set::default());
    page.mischief.set(Some(Mischief::AsksOtherwise));
    world.time.block_on(async {
        let run = open(&world, &runs, &page, &id).await.unwrap();
        world.runtime_timer(Duration::from_secs(30)).await;
        assert_eq!(page.status(), "paused step_mismatch");
        // Begun again from nothing, it may ask for what it likes.
        run.resume(None, true).await.unwrap();
        assert_eq!(run.ended().await.state, "completed");
    });
    service.close();
}

#[test]
fn another_version_of_the_function_is_said_and_the_step_can_be_begun_again() {
    let world = World::patient(5);
    let (service, runs, instance) = world.mortal_runs("first");
    let page = Rc::new(Set::default());
    let id = world.time.block_on(async {
        let id = runs.start(&function(3, |plain| checkpoints(plain, 0))).await.unwrap();
        open(&world, &runs, &page, &id).await.unwrap();
        while world.disk.keys_of("run-call/").is_empty() {
            world.runtime_timer(Duration::from_micros(200)).await;
        }
        instance.die_after(0);
        id
    });
    std::mem::forget((service, runs, page));
    let (service, runs) = world.runs_of("second");
    let page = Rc::new(Set::default());
    world.time.block_on(async {
        let brought = Brought { version: Some("2".into()), ..brought() };
        let run = runs.open(id, brought, Rc::new(Tab(page.clone(), world.clone()))).await.unwrap();
        page.run.replace(Some(run.clone()));
        world.runtime_timer(Duration::from_secs(30)).await;
        assert_eq!(page.status(), "paused function_changed");
        assert!(run.resume(None, false).await.is_err(), "it says what to do");
        run.resume(None, true).await.unwrap();
        assert_eq!(run.ended().await.state, "completed");
    });
    service.close();
}
