//! Training runs: loops that outlive their page.

mod ahead;
mod functions;
mod idle;
mod killed;
mod page;
mod refusals;
mod spec;
mod stopping;

use std::rc::Rc;
use std::time::Duration;

use tinkex::error::{Error, Kind};
use tinkex::platform::plain::{Given, Wrong};
use tinkex::run::page::News;
use tinkex::run::{Brought, Data, Run, Runs};
use tinkex::store::StoreErrorKind;

use crate::given;
use crate::world::{World, batch};
use page::{Set, Tab};
use spec::{LENGTH, brought, checkpoints, schedule, spec};

/// Opens a run in a service of a page.
async fn open(world: &Rc<World>, runs: &Runs, page: &Rc<Set>, id: &str) -> Result<Run, Error> {
    let run = runs.open(id.to_owned(), brought(), Rc::new(Tab(page.clone(), world.clone()))).await?;
    page.run.replace(Some(run.clone()));
    Ok(run)
}

async fn begin(world: &Rc<World>, runs: &Runs, page: &Rc<Set>, spec: &[u8]) -> Result<Run, Error> {
    let id = runs.start(spec).await?;
    open(world, runs, page, &id).await
}

/// The weights of a run's model.
fn hash(world: &World, run: &Run) -> String {
    let status = run.status();
    let wrong = Wrong::default();
    let model = Given::new(&status, &wrong).text("modelId");
    crate::weights(&world.ask(&format!("/api/v1/sandbox/models/{model}/hash")))
}

/// Runs it without a disturbance; what it tells, and the weights.
fn undisturbed(world: Rc<World>, spec: &[u8]) -> (Vec<String>, String) {
    let (service, runs) = world.runs_of("page");
    let page = Rc::new(Set::default());
    let told = world.time.block_on(async {
        let run = begin(&world, &runs, &page, spec).await.unwrap();
        let end = run.ended().await;
        assert_eq!((end.state, end.cause.is_none()), ("completed", true), "{end:?}");
        (page.events.take(), hash(&world, &run))
    });
    service.close();
    world.time.advance(Duration::from_secs(10));
    page.run.take();
    assert_eq!(service.system().live(), 0, "nothing runs after the end");
    told
}

/// What the history of a run has, as a page would read it.
fn history(world: &World, runs: &Runs, id: &str) -> Vec<String> {
    let read = world.time.block_on(runs.read(id.to_owned(), 0.0)).unwrap();
    let page = Set::default();
    let wrong = Wrong::default();
    for row in Given::new(&read, &wrong).list("rows") {
        page.tell(News::Event(row.encoded()));
    }
    page.events.take()
}

#[test]
fn a_run_takes_its_steps_and_saves_its_checkpoints() {
    let (events, _) = undisturbed(World::new(0), &spec(6, |plain| checkpoints(plain, 4)));
    let mut expected: Vec<String> = (1..=6).map(|step| format!("step {step} 1")).collect();
    expected.insert(4, "checkpoint 4 1".into());
    expected.push("checkpoint 6 1".into());
    assert_eq!(events, expected);
}

/// The log of what was applied, without what a model's own name makes different.
fn trained(world: &World) -> Vec<String> {
    let log = world.ask("/api/v1/sandbox/log");
    let lines = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    lines
        .filter(|line| line["kind"] != "create_model")
        .map(|line| format!("{} {}", line["kind"], line["seq_id"]))
        .collect()
}

/// Begins a run in a service of its own, and hands it over when it has told so many events.
fn with_run<T>(
    world: &Rc<World>,
    spec: &[u8],
    told: usize,
    then: impl AsyncFnOnce(&Runs, &Rc<Set>, Run) -> T,
) -> T {
    let (service, runs) = world.runs_of("page");
    let page = Rc::new(Set::default());
    let done = world.time.block_on(async {
        let run = begin(world, &runs, &page, spec).await.unwrap();
        while page.events.borrow().len() < told {
            world.runtime_timer(Duration::from_millis(1)).await;
        }
        then(&runs, &page, run).await
    });
    service.close();
    done
}

#[test]
fn a_paused_run_asks_for_nothing_and_goes_on_when_it_is_resumed() {
    let spec = spec(8, |plain| checkpoints(plain, 0));
    let (_, weights) = undisturbed(World::patient(0), &spec);
    let world = World::patient(3);
    let hash = with_run(&world, &spec, 2, async |_, page, run| {
        run.pause().await.unwrap();
        world.runtime_timer(Duration::from_secs(60)).await;
        assert_eq!(page.status(), "paused paused_by_user");
        let (told, log) = (page.events.borrow().len(), trained(&world).len());
        world.runtime_timer(Duration::from_secs(60)).await;
        assert_eq!((page.events.borrow().len(), trained(&world).len()), (told, log));
        assert!(told < 8, "it was paused in the middle");
        run.resume(None, false).await.unwrap();
        assert_eq!(run.ended().await.state, "completed");
        assert!(run.pause().await.is_err(), "a run that is over can't be paused");
        hash(&world, &run)
    });
    assert_eq!(hash, weights);
}

#[test]
fn a_run_that_is_stopped_saves_a_last_checkpoint_and_is_over() {
    let world = World::patient(3);
    with_run(&world, &spec(100, |plain| checkpoints(plain, 0)), 3, async |runs, page, run| {
        run.stop(true).await.unwrap();
        assert_eq!(run.ended().await.state, "stopped");
        assert!(page.events.borrow().last().unwrap().starts_with("checkpoint"), "{:?}", page.events.borrow());
        let again = open(&world, runs, &Rc::new(Set::default()), run.id()).await.unwrap();
        assert_eq!(again.ended().await.state, "stopped");
    });
}

#[test]
fn data_that_changed_are_refused_and_nothing_is_touched() {
    let world = World::patient(0);
    let (service, runs) = world.runs_of("page");
    let page = Rc::new(Set::default());
    world.time.block_on(async {
        let id = runs.start(&spec(3, |plain| checkpoints(plain, 0))).await.unwrap();
        let tab = || Rc::new(Tab(page.clone(), world.clone()));
        let others = Brought {
            data: Some(Data::Indexed { length: LENGTH, fingerprint: "others".into() }),
            ..brought()
        };
        let error = runs.open(id.clone(), others, tab()).await.err().expect("these are others");
        assert_eq!(error.kind(), &Kind::DataMismatch);
        let none = Brought::default();
        let error = runs.open(id.clone(), none, tab()).await.err().expect("there are none");
        assert_eq!(error.kind(), &Kind::InvalidArgument { field: "data".into() });
        let other_loss = Brought { loss: Some("ppo".into()), ..brought() };
        let error = runs.open(id.clone(), other_loss, tab()).await.err().expect("it is another loss");
        assert_eq!(error.kind(), &Kind::InvalidArgument { field: "loss".into() });
        let unknown = runs.open("nobody".into(), brought(), tab()).await;
        assert_eq!(unknown.err().unwrap().kind(), &Kind::InvalidArgument { field: "id".into() });
        assert!(page.statuses.borrow().is_empty());
        let run = open(&world, &runs, &page, &id).await.unwrap();
        assert_eq!(run.ended().await.state, "completed");
    });
    service.close();
}

#[test]
fn a_key_that_is_not_let_in_pauses_the_run_and_it_goes_on_when_it_is() {
    let spec = spec(6, |plain| checkpoints(plain, 0));
    let (_, weights) = undisturbed(World::patient(0), &spec);
    let world = World::patient(9);
    let hash = with_run(&world, &spec, 2, async |_, page, run| {
        world.refuse_all(Some(401));
        world.runtime_timer(Duration::from_secs(60)).await;
        assert_eq!(page.status(), "paused not_let_in");
        world.refuse_all(None);
        run.resume(None, false).await.unwrap();
        assert_eq!(run.ended().await.state, "completed");
        hash(&world, &run)
    });
    assert_eq!(hash, weights);
}

#[test]
fn a_full_disk_pauses_the_run_and_it_goes_on_when_there_is_room() {
    let spec = spec(6, |plain| checkpoints(plain, 0));
    let (_, weights) = undisturbed(World::patient(0), &spec);
    let world = World::patient(9);
    let hash = with_run(&world, &spec, 2, async |_, page, run| {
        world.disk.refuse(Some(StoreErrorKind::Quota));
        world.runtime_timer(Duration::from_secs(60)).await;
        assert_eq!(page.status(), "paused storage");
        world.disk.refuse(None);
        run.resume(None, false).await.unwrap();
        assert_eq!(run.ended().await.state, "completed");
        hash(&world, &run)
    });
    assert_eq!(hash, weights);
}

#[test]
fn a_server_that_is_away_is_waited_for_and_the_status_says_so() {
    let spec = spec(6, |plain| checkpoints(plain, 0));
    let (_, weights) = undisturbed(World::patient(0), &spec);
    let world = World::patient(9);
    world.set_up(false);
    let (service, runs) = world.runs_of("page");
    let page = Rc::new(Set::default());
    let hash = world.time.block_on(async {
        let run = begin(&world, &runs, &page, &spec).await.unwrap();
        world.runtime_timer(Duration::from_secs(600)).await;
        assert!(page.status().starts_with("running"), "{}", page.status());
        world.set_up(true);
        assert_eq!(run.ended().await.state, "completed");
        hash(&world, &run)
    });
    assert_eq!(hash, weights);
    service.close();
}

/// The state and the cause of a status.
fn state_of(status: &[u8]) -> String {
    let page = Set::default();
    page.tell(News::Status(status.to_vec()));
    page.status()
}

#[test]
fn runs_are_listed_read_and_opened_without_a_server() {
    let world = World::patient(3);
    let spec = spec(100, |plain| checkpoints(plain, 2));
    let (service, runs, instance) = world.mortal_runs("first");
    let page = Rc::new(Set::default());
    let id = world.time.block_on(async {
        let run = begin(&world, &runs, &page, &spec).await.unwrap();
        while page.events.borrow().len() < 4 {
            world.runtime_timer(Duration::from_millis(1)).await;
        }
        instance.die_after(0);
        run.id().to_owned()
    });
    std::mem::forget((service, runs));
    world.set_up(false);
    let (service, runs) = world.runs_of("second");
    let told = page.events.borrow().len();
    world.time.block_on(async {
        let wrong = Wrong::default();
        let listed = runs.list().await.unwrap();
        let listed: Vec<String> =
            Given::new(&listed, &wrong).list("runs").map(|run| state_of(&run.encoded())).collect();
        assert_eq!(listed, ["running needs_owner"]);
        let read = runs.read(id.clone(), 0.0).await.unwrap();
        // What was told last may not have been written.
        assert!(Given::new(&read, &wrong).list("rows").count() + 2 >= told);
        let page = Rc::new(Set::default());
        open(&world, &runs, &page, &id).await.unwrap();
        for seconds in [1, 60, 600] {
            world.runtime_timer(Duration::from_secs(seconds)).await;
            assert_eq!(page.status(), "running waiting_for_server");
        }
        page.run.take();
    });
    service.close();
}

#[test]
fn a_run_that_waits_for_a_server_says_why_it_has_no_answer() {
    let world = World::patient(3);
    with_run(&world, &spec(6, |plain| checkpoints(plain, 0)), 2, async |_, page, run| {
        let words = || page::message(&run.status());
        assert_eq!(words(), "");
        world.set_up(false);
        world.runtime_timer(Duration::from_secs(60)).await;
        assert_eq!(page.status(), "running waiting_for_server");
        assert!(words().starts_with("no answer from "), "{}", words());
        let told = page.statuses.borrow().len();
        world.runtime_timer(Duration::from_secs(60)).await;
        assert_eq!(page.statuses.borrow().len(), told, "what is known is told once");
        world.set_up(true);
        while page.events.borrow().len() < 4 {
            world.runtime_timer(Duration::from_millis(1)).await;
        }
        assert_eq!(words(), "");
    });
}

#[test]
fn the_model_is_evaluated_and_sampled_before_its_first_step_and_after_its_last() {
    let world = World::new(0);
    let (service, runs) = world.runs_of("page");
    let page = Rc::new(Set::default());
    let looked_at = spec(3, |plain| {
        checkpoints(plain, 0);
        let metadata = plain.inner("userMetadata");
        plain.text("set", "numbers");
        plain.close(metadata);
        given::evaluation(plain, &batch(1), 2);
        given::samples(plain, 2);
    });
    world.time.block_on(async {
        let run = begin(&world, &runs, &page, &looked_at).await.unwrap();
        assert_eq!(run.ended().await.state, "completed");
        for kind in ["evaluation", "sample"] {
            let events = page.events.borrow();
            let of_kind: Vec<&String> = events.iter().filter(|event| event.starts_with(kind)).collect();
            assert_eq!(of_kind, [0, 2, 3].map(|step| format!("{kind} {step} 1")).iter().collect::<Vec<_>>());
        }
        let listed = runs.list().await.unwrap();
        let wrong = Wrong::default();
        let first = Given::of(Given::new(&listed, &wrong).list("runs").next().unwrap(), &wrong);
        assert_eq!(first.number("step"), 3.0);
        assert!(first.number("loss") > 0.0);
        assert_eq!(first.texts("userMetadata").get("set").map(|set| &**set), Some("numbers"));
    });
    service.close();
}

#[test]
fn a_checkpoint_that_is_asked_for_is_saved_once() {
    let world = World::new(0);
    let (service, runs) = world.runs_of("page");
    let page = Rc::new(Set::default());
    world.time.block_on(async {
        let run = begin(&world, &runs, &page, &spec(12, |plain| checkpoints(plain, 0))).await.unwrap();
        assert!(run.checkpoint().await.unwrap().starts_with("tinker://"));
        run.ended().await;
        let saved = page.events.borrow().iter().filter(|event| event.starts_with("checkpoint")).count();
        assert_eq!(saved, 2, "that one, and the last");
    });
    service.close();
}

#[test]
fn a_step_that_the_server_refuses_pauses_the_run_and_nothing_restarts_in_a_loop() {
    // A rate that breaks the model at once, so that the next pass is refused.
    let broken = spec(6, |plain| {
        checkpoints(plain, 0);
        schedule(plain, "constant", 1e30, 0);
    });
    let world = World::patient(2);
    let (service, runs) = world.runs_of("page");
    let page = Rc::new(Set::default());
    world.time.block_on(async {
        let run = begin(&world, &runs, &page, &broken).await.unwrap();
        world.runtime_timer(Duration::from_secs(60)).await;
        assert_eq!(page.status(), "paused refused", "{:?}", page.events.borrow());
        let told = page.events.borrow().len();
        run.resume(Some("checkpoint".into()), false).await.unwrap();
        world.runtime_timer(Duration::from_secs(60)).await;
        // It begins again, meets the same, and does not loop.
        assert_eq!(page.status(), "paused refused");
        assert!(page.events.borrow()[told..].iter().any(|event| event.starts_with("incarnation")));
    });
    service.close();
}
