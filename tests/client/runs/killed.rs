//! Runs whose pages die anywhere, are away for too long, or both think that they lead.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::{Either, select};
use tinkex::platform::Platform;
use tinkex::request::Progress;
use tinkex::run::Cause;
use tinkex_supervise::faults;

use super::page::Set;
use super::spec::{checkpoints, function, rate, spec};
use super::{begin, hash, history, open, trained, undisturbed};
use crate::given;
use crate::world::{World, batch};

/// Kills instances at random until the run is through; the run's id, its history and its weights.
fn killed(world: &Rc<World>, spec: &[u8], lives: &Cell<u32>) -> (Vec<String>, String) {
    let (service, runs) = world.runs_of("starter");
    let id = world.time.block_on(runs.start(spec)).unwrap();
    service.close();
    let hash = loop {
        lives.set(lives.get() + 1);
        let (service, runs, instance) = world.mortal_runs(&format!("page {}", lives.get()));
        let page = Rc::new(Set::default());
        let life = world.random() % 400;
        instance.die_after(if lives.get() > 60 { u64::MAX / 2 } else { life });
        let through = world.time.block_on(async {
            let lived = async {
                let run = open(world, &runs, &page, &id).await.unwrap();
                let end = run.ended().await;
                assert_eq!(end.state, "completed", "{end:?}");
                hash(world, &run)
            };
            match select(pin!(lived), world.runtime_timer(Duration::from_secs(30))).await {
                Either::Left((hash, _)) => Some(hash),
                Either::Right(_) => None,
            }
        });
        if let Some(hash) = through {
            service.close();
            break hash;
        }
        // What is dead has no destructors.
        std::mem::forget((service, runs, page));
    };
    let (service, runs) = world.runs_of("reader");
    let rows = history(world, &runs, &id);
    service.close();
    (rows, hash)
}

#[test]
fn a_run_over_data_that_is_killed_anywhere_takes_each_step_once() {
    let spec = spec(8, |plain| checkpoints(plain, 3));
    let (_, weights) = undisturbed(World::patient(0), &spec);
    let lives = Cell::new(0);
    for seed in 1..=40 {
        let world = World::patient(seed);
        lives.set(0);
        let (rows, killed) = killed(&world, &spec, &lives);
        assert_eq!(killed, weights, "seed {seed} after {} lives", lives.get());
        assert_eq!(steps_of(&rows), steps_to(8));
    }
}

/// Another page takes the run to its end: what it was told, the history, and the weights.
fn completed_by_another(world: &Rc<World>, id: &str) -> (Vec<String>, Vec<String>, String) {
    let (service, runs) = world.runs_of("another");
    let page = Rc::new(Set::default());
    let hash = world.time.block_on(async {
        let run = open(world, &runs, &page, id).await.unwrap();
        assert_eq!(run.ended().await.state, "completed");
        hash(world, &run)
    });
    let rows = history(world, &runs, id);
    service.close();
    (page.events.take(), rows, hash)
}

fn steps_of(rows: &[String]) -> Vec<String> {
    rows.iter().filter(|row| row.starts_with("step")).cloned().collect()
}

/// Each of them, of the first incarnation.
fn steps_to(last: u32) -> Vec<String> {
    (1..=last).map(|step| format!("step {step} 1")).collect()
}

#[test]
fn a_run_of_a_function_that_is_killed_anywhere_makes_each_update_once() {
    let spec = function(6, |plain| checkpoints(plain, 0));
    let lives = Cell::new(0);
    for seed in 1..=40 {
        let world = World::patient(seed);
        lives.set(0);
        let (rows, _) = killed(&world, &spec, &lives);
        let steps: Vec<&String> = rows.iter().filter(|row| row.starts_with("step")).collect();
        assert_eq!(steps.len(), 6, "seed {seed}: {rows:?}");
        for place in ["run-call/", "request/", "body/", "answer/", "model/", "session/"] {
            assert_eq!(world.disk.keys_of(place), Vec::<String>::new(), "nothing of its calls is left");
        }
        // What each step says that it trained on is what the server has: the same batches give the same weights.
        let numbers: Vec<i64> = steps
            .iter()
            .map(|row| row.split_once(',').unwrap().1.trim_end_matches(']').parse().unwrap())
            .collect();
        let passes = trained(&world).iter().filter(|line| line.contains("forward_backward")).count();
        let updates = trained(&world).iter().filter(|line| line.contains("optim_step")).count();
        assert_eq!((passes, updates), (6, 6), "seed {seed} after {} lives", lives.get());
        let (replayed, _) = trains(&numbers);
        assert_eq!(world_hash(&world), replayed, "seed {seed}: the rollouts are those that were trained on");
    }
}

/// The weights after an undisturbed training on batches of these numbers.
fn trains(numbers: &[i64]) -> (String, ()) {
    let world = World::patient(0);
    let service = world.service();
    let hash = world.time.block_on(async {
        let made = crate::model(&service).await.unwrap();
        for (step, number) in numbers.iter().enumerate() {
            let loss = crate::cross_entropy();
            made.client.forward_backward(batch(*number), loss, &Progress::default()).await.unwrap();
            let params = rate(step as u32 + 1, numbers.len() as u32);
            made.client.optim_step(params, &Progress::default()).await.unwrap();
        }
        let model = made.client.model().clone();
        crate::weights(&world.ask(&format!("/api/v1/sandbox/models/{model}/hash")))
    });
    service.close();
    (hash, ())
}

/// The weights of the only model of the world's server.
fn world_hash(world: &World) -> String {
    let log = world.ask("/api/v1/sandbox/log");
    let first: serde_json::Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    let model = first["model_id"].as_str().unwrap();
    crate::weights(&world.ask(&format!("/api/v1/sandbox/models/{model}/hash")))
}

#[test]
fn an_absence_longer_than_the_sessions_life_costs_what_is_behind_the_last_checkpoint_and_no_more() {
    const BACKOFF_MS: u32 = 1_000_000;
    let spec = spec(8, |plain| {
        checkpoints(plain, 3);
        given::recovery(plain, BACKOFF_MS, false);
    });
    let (_, weights) = undisturbed(World::new(0), &spec);
    for seed in 1..=20 {
        let world = World::new(seed);
        let (service, runs, instance) = world.mortal_runs("first");
        let page = Rc::new(Set::default());
        instance.die_after(150 + world.random() % 300);
        let id = world.time.block_on(async {
            let id = runs.start(&spec).await.unwrap();
            let _run = open(&world, &runs, &page, &id).await.unwrap();
            world.runtime_timer(Duration::from_secs(3_600)).await;
            id
        });
        // Before it had a model there was nothing to lose, and nothing when it was done.
        let done = page.status() == "completed ";
        let lost = !page.events.borrow().is_empty() && !done;
        std::mem::forget((service, runs, page));
        let (service, runs) = world.runs_of("second");
        let page = Rc::new(Set::default());
        let back = world.time.now();
        let hash = world.time.block_on(async {
            let run = open(&world, &runs, &page, &id).await.unwrap();
            let end = run.ended().await;
            assert_eq!(end.state, "completed", "seed {seed}: {end:?}");
            assert!(
                world.time.now() - back < Duration::from_millis(BACKOFF_MS.into()),
                "seed {seed}: it waits only behind an attempt that failed"
            );
            // A session that ended takes its models along.
            if done { weights.clone() } else { hash(&world, &run) }
        });
        assert_eq!(hash, weights, "seed {seed}");
        let rows = history(&world, &runs, &id);
        let seams = rows.iter().filter(|row| row.starts_with("incarnation")).count();
        assert_eq!(seams, usize::from(lost), "seed {seed}: {rows:?}");
        service.close();
    }
}

#[test]
fn a_run_that_lost_its_model_before_its_first_checkpoint_begins_again_at_step_0_and_says_so() {
    let spec = spec(8, |plain| checkpoints(plain, 0));
    let (_, weights) = undisturbed(World::new(0), &spec);
    let world = World::ending_sessions_after(5, Duration::from_secs(90));
    let (service, runs, instance) = world.mortal_runs("first");
    let page = Rc::new(Set::default());
    let id = world.time.block_on(async {
        let run = begin(&world, &runs, &page, &spec).await.unwrap();
        while page.events.borrow().len() < 3 {
            world.runtime_timer(Duration::from_millis(1)).await;
        }
        instance.die_after(0);
        world.runtime_timer(Duration::from_secs(3_600)).await;
        run.id().to_owned()
    });
    std::mem::forget((service, runs, page));
    let (events, _, hash) = completed_by_another(&world, &id);
    assert_eq!(hash, weights);
    let mut expected = vec!["incarnation 0 2".to_owned()];
    expected.extend((1..=8).map(|step| format!("step {step} 2")));
    expected.push("checkpoint 8 2".into());
    assert_eq!(events, expected);
}

#[test]
fn a_run_that_is_paused_and_resumed_while_its_model_is_made_keeps_that_model() {
    let spec = spec(8, |plain| checkpoints(plain, 0));
    let (_, weights) = undisturbed(World::patient(0), &spec);
    for seed in 1..=20 {
        let world = World::patient(seed);
        let (service, runs, instance) = world.mortal_runs("first");
        let page = Rc::new(Set::default());
        let id = world.time.block_on(async {
            let run = begin(&world, &runs, &page, &spec).await.unwrap();
            world.runtime_timer(Duration::from_millis(seed * 5)).await;
            run.pause().await.unwrap();
            run.resume(None, false).await.unwrap();
            while page.events.borrow().len() < 3 {
                world.runtime_timer(Duration::from_millis(1)).await;
            }
            instance.die_after(0);
            run.id().to_owned()
        });
        std::mem::forget((service, runs, page));
        let (_, rows, hash) = completed_by_another(&world, &id);
        assert_eq!(hash, weights, "seed {seed}");
        assert_eq!(steps_of(&rows), steps_to(8), "seed {seed}");
    }
}

#[test]
fn of_two_pages_that_both_think_they_have_a_run_one_can_write() {
    let spec = spec(8, |plain| checkpoints(plain, 3));
    let (_, weights) = undisturbed(World::patient(0), &spec);
    for seed in 1..=20 {
        let world = World::patient(seed);
        let (first, first_runs) = world.runs_of("first");
        let (second, second_runs) = world.runs_of("second");
        let (one, other) = (Rc::new(Set::default()), Rc::new(Set::default()));
        let hash = world.time.block_on(async {
            let run = begin(&world, &first_runs, &one, &spec).await.unwrap();
            world.runtime_timer(Duration::from_millis(world.random() % 200)).await;
            let taken = open(&world, &second_runs, &other, run.id()).await.unwrap();
            let end = run.ended().await;
            let fenced = end.cause.is_some_and(|(cause, _)| cause == Cause::Fenced);
            assert!(end.state == "completed" || fenced, "seed {seed}: {}", end.state);
            assert_eq!(taken.ended().await.state, "completed", "seed {seed}");
            hash(&world, &taken)
        });
        assert_eq!(hash, weights, "seed {seed}");
        first.close();
        second.close();
    }
}

#[test]
fn a_run_that_crashes_again_and_again_is_paused_and_goes_on_when_it_is_resumed() {
    let spec = spec(6, |plain| checkpoints(plain, 0));
    let (_, weights) = undisturbed(World::patient(0), &spec);
    let world = World::patient(3);
    let (service, runs) = world.runs_of("page");
    faults::clear();
    let hash = world.time.block_on(async {
        [5, 10, 15, 20].into_iter().for_each(|nth| faults::arm("run", nth));
        let run = begin(&world, &runs, &Rc::new(Set::default()), &spec).await.unwrap();
        let end = run.ended().await;
        let (cause, message) = end.cause.expect("it says why");
        assert_eq!((end.state, cause), ("closed", Cause::Crashed), "{message}");
        let page = Rc::new(Set::default());
        let run = open(&world, &runs, &page, run.id()).await.unwrap();
        world.runtime_timer(Duration::from_secs(60)).await;
        assert_eq!(page.status(), "paused crashed");
        run.resume(None, false).await.unwrap();
        assert_eq!(run.ended().await.state, "completed");
        page.run.take();
        hash(&world, &run)
    });
    assert_eq!(hash, weights);
    service.close();
}
