//! What a server refuses stays known, whatever stops the run besides, until there is another model.

use std::rc::Rc;
use std::time::Duration;

use tinkex::store::StoreErrorKind;

use super::page::Set;
use super::spec::{checkpoints, spec};
use super::{begin, open, with_run};
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
