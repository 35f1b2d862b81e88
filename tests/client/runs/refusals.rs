//! What a server refuses stays known, whatever stops the run besides, until there is another model.

use std::rc::Rc;
use std::time::Duration;

use futures_util::future::{Either, select};
use tinkex::store::StoreErrorKind;

use super::page::Set;
use super::spec::{checkpoints, spec};
use super::{begin, hash, open, undisturbed, with_run};
use crate::given;
use crate::world::World;

#[test]
fn what_is_refused_while_a_run_is_paused_is_the_cause_from_then_on() {
    let world = World::patient(3);
    with_run(&world, &spec(8, |plain| checkpoints(plain, 0)), 2, async |_, page, run| {
        run.pause().await.unwrap();
        assert_eq!(page.status(), "paused paused_by_user");
        // Its next requests ask for what is under way.
        world.refuse_next(422, 2);
        world.runtime_timer(Duration::from_secs(10)).await;
        assert_eq!(page.status(), "paused refused");
        assert!(page.events.borrow().len() < 8, "it was paused in the middle");
    });
}

#[test]
fn a_model_that_was_to_be_made_after_a_refusal_is_not_forgotten_with_its_page() {
    let spec = spec(8, |plain| checkpoints(plain, 3));
    let world = World::patient(3);
    let (service, runs, instance) = world.mortal_runs("first");
    let page = Rc::new(Set::default());
    let id = world.time.block_on(async {
        let run = begin(&world, &runs, &page, &spec).await.unwrap();
        while page.events.borrow().len() < 5 {
            world.runtime_timer(Duration::from_millis(1)).await;
        }
        world.refuse_next(422, 2);
        world.runtime_timer(Duration::from_secs(10)).await;
        assert_eq!(page.status(), "paused refused");
        world.disk.refuse(Some(StoreErrorKind::Quota));
        let _ = run.resume(Some("checkpoint".into()), false).await;
        world.runtime_timer(Duration::from_secs(60)).await;
        assert_eq!(page.status(), "paused refused", "there is no other model yet");
        instance.die_after(0);
        run.id().to_owned()
    });
    std::mem::forget((service, runs, page));
    world.disk.refuse(None);
    let (service, runs) = world.runs_of("second");
    let page = Rc::new(Set::default());
    world.time.block_on(async {
        let run = open(&world, &runs, &page, &id).await.unwrap();
        world.runtime_timer(Duration::from_secs(10)).await;
        assert_eq!(page.status(), "paused refused");
        run.resume(Some("checkpoint".into()), false).await.unwrap();
        assert_eq!(run.ended().await.state, "completed");
        assert!(page.events.borrow()[0].starts_with("incarnation 3 2"), "{:?}", page.events.borrow());
    });
    service.close();
}

#[test]
fn a_key_that_is_not_let_in_for_a_moment_leaves_every_step_made_once() {
    let spec = spec(6, |plain| {
        checkpoints(plain, 2);
        given::samples(plain, 2);
    });
    let (_, weights) = undisturbed(World::patient(0), &spec);
    for moment in 0..60 {
        let world = World::patient(3);
        let hash = with_run(&world, &spec, 0, async |_, page, run| {
            world.runtime_timer(Duration::from_millis(moment * 25)).await;
            world.refuse_next(401, 1);
            let mut ended = Box::pin(run.ended());
            loop {
                let second = world.runtime_timer(Duration::from_secs(1));
                if let Either::Left((end, _)) = select(&mut ended, second).await {
                    assert_eq!(end.state, "completed", "{end:?}");
                    break hash(&world, &run);
                }
                if page.status() == "paused not_let_in" {
                    run.resume(None, false).await.unwrap();
                }
            }
        });
        assert_eq!(hash, weights, "after {moment} times 25 ms");
    }
}
