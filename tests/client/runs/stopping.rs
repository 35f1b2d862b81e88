//! Stops that have to wait, and whoever does them then.

use std::rc::Rc;
use std::time::Duration;

use tinkex::run::Brought;

use super::page::{Set, Tab};
use super::spec::{brought, checkpoints, function, spec};
use super::{begin, history, open, trained};
use crate::world::World;

/// Begins a run, stops it while the server is away, and takes its page away then; gives the run's id.
fn stopped_without_the_server(world: &Rc<World>, spec: &[u8], checkpoint: bool) -> String {
    let (service, runs, instance) = world.mortal_runs("first");
    let page = Rc::new(Set::default());
    let id = world.time.block_on(async {
        let run = begin(world, &runs, &page, spec).await.unwrap();
        while page.events.borrow().len() < 3 {
            world.runtime_timer(Duration::from_millis(1)).await;
        }
        world.set_up(false);
        run.stop(checkpoint).await.unwrap();
        world.runtime_timer(Duration::from_secs(60)).await;
        assert_eq!(page.status(), "running stopping");
        assert!(run.resume(None, false).await.is_err(), "it was asked to stop");
        instance.die_after(0);
        run.id().to_owned()
    });
    std::mem::forget((service, runs, page));
    id
}

#[test]
fn a_stop_that_waits_for_the_server_is_done_by_the_next_page_with_its_checkpoint() {
    for spec in [spec(100, |plain| checkpoints(plain, 0)), function(100, |plain| checkpoints(plain, 0))] {
        let world = World::patient(3);
        let id = stopped_without_the_server(&world, &spec, true);
        let (service, runs) = world.runs_of("second");
        let page = Rc::new(Set::default());
        let asked = trained(&world).len();
        world.time.block_on(async {
            let brought = Brought { version: Some("2".into()), ..brought() };
            let run =
                runs.open(id.clone(), brought, Rc::new(Tab(page.clone(), world.clone()))).await.unwrap();
            world.runtime_timer(Duration::from_secs(60)).await;
            assert_eq!(page.status(), "running stopping", "it waits for the server");
            world.set_up(true);
            assert_eq!(run.ended().await.state, "stopped");
        });
        let rows = history(&world, &runs, &id);
        assert!(rows.last().unwrap().starts_with("checkpoint"), "{rows:?}");
        assert!(trained(&world).len() - asked <= 5, "no step was begun for it");
        service.close();
    }
}

#[test]
fn a_stop_without_a_checkpoint_is_done_by_the_next_page_without_the_server() {
    let world = World::patient(3);
    let id = stopped_without_the_server(&world, &spec(100, |plain| checkpoints(plain, 0)), false);
    let (service, runs) = world.runs_of("second");
    world.time.block_on(async {
        let run = open(&world, &runs, &Rc::new(Set::default()), &id).await.unwrap();
        assert_eq!(run.ended().await.state, "stopped");
    });
    service.close();
}

#[test]
fn a_stop_that_is_asked_for_before_there_is_a_model_makes_none() {
    let world = World::patient(3);
    world.set_up(false);
    let (service, runs) = world.runs_of("page");
    let page = Rc::new(Set::default());
    world.time.block_on(async {
        let run = begin(&world, &runs, &page, &spec(4, |plain| checkpoints(plain, 0))).await.unwrap();
        world.runtime_timer(Duration::from_secs(1)).await;
        run.stop(true).await.unwrap();
        assert_eq!(run.ended().await.state, "stopped");
        assert_eq!(page.status(), "stopped ");
    });
    service.close();
}
