//! The findings of the audit of the SDK that this one re-creates, each as a test of its name. `tests/mutants/` puts each
//! defect back.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use futures_util::FutureExt;
use tinkex::error::{Kind, Outcome};
use tinkex::request::Progress;
use tinkex::sampling::Sample;
use tinkex_protocol::ModelInput;
use tinkex_sandbox::{NOOP, TINY};
use tinkex_supervise::{Report, faults};

use super::adam;
use super::telemetry::{MOST_EVENTS, told};
use super::world::{World, batch, cross_entropy, model, of_base};

/// The first: stopping clients restarted them until their supervisor gave up, siblings and all.
#[test]
fn audit_1_stopping_clients_never_restarts_one_and_never_stops_a_sibling() {
    let world = World::new(8);
    let service = world.service();
    let complaints = Rc::new(Cell::new(0));
    let heard = complaints.clone();
    service.system().on_report(move |report| {
        heard.set(heard.get() + usize::from(matches!(report, Report::Supervisor { .. })));
    });
    world.time.block_on(async {
        let sibling = model(&service).await.expect("the server is up").client;
        let live = service.system().live();
        for i in 0..10_000 {
            let made = of_base(&service, NOOP).await.expect("the server is up");
            // As a user closes it, or as whoever has its process stops that.
            match i % 2 {
                0 => service.close_client(&made.pid).await,
                _ => made.pid.ask_to_stop(),
            }
            made.pid.monitor().await;
            if i % 100 == 0 {
                let error = made.client.optim_step(adam(), &Progress::default()).await;
                let error = error.expect_err("it is closed");
                assert_eq!((error.kind(), error.outcome()), (&Kind::Closed, Outcome::NotSent));
                sibling.optim_step(adam(), &Progress::default()).await.expect("the sibling goes on");
                assert_eq!(service.system().live(), live, "nothing of client {i} is left");
            }
        }
    });
    assert_eq!(complaints.get(), 0, "no client was restarted, and none was missed");
    assert!(service.system().snapshot().iter().all(|node| node.restarts == 0));
    service.close();
}

/// The second: work that died left its caller waiting for ever.
#[test]
fn audit_2_work_that_dies_rejects_its_caller_and_says_where() {
    let places = [
        ("task poll", "/requests/", 2),
        ("task poll", "/requests/result", 2),
        ("task drop", "/requests/", 1),
        ("task poll", "/dispatcher", 3),
        ("dispatcher", "/dispatcher", 3),
    ];
    for (place, within, passages) in places {
        for nth in 1..=passages {
            let world = World::new(9);
            let service = world.service();
            let client = world.time.block_on(model(&service)).expect("the server is up").client;
            faults::clear();
            faults::arm_within(place, within, nth);
            let call = client.optim_step(adam(), &Progress::default());
            world.time.advance(Duration::from_secs(60));
            assert_eq!(faults::armed(), 0, "{place} of {within}, {nth}");
            let result = call.now_or_never().expect("its caller does not wait for ever");
            let error = result.expect_err("its work died");
            let Kind::Crashed { place, callers } = error.kind() else { panic!("{error:?}") };
            assert!(place.contains("faults.rs") && !callers.is_empty(), "{error:?}");
            service.close();
        }
    }
}

/// The third: telemetry was sent by tasks that nobody owned: they piled up, and a shutdown killed them with what they had.
#[test]
fn audit_3_telemetry_blocks_nobody_is_bounded_and_does_not_outlive_its_owner() {
    let world = World::new(15);
    let service = world.telling("page");
    let system = service.system().clone();
    let requests = || world.sent().iter().filter(|path| path.ends_with("/telemetry")).count();
    let client = world.time.block_on(model(&service)).expect("the server is up").client;
    world.hang(Some("/telemetry"));

    // A storm of crashes, and a server that takes telemetry and never answers.
    for _ in 0..500 {
        drop(service.calls().spawn_nolink("crash", |_| async { panic!("boom") }));
    }
    let live = system.live();
    world.time.advance(Duration::from_secs(4));
    assert_eq!(requests(), 1, "one request at a time, however much there is to tell");
    assert!(system.live() <= live - 500, "nothing was started for what is told");
    let sender =
        system.snapshot().into_iter().find(|node| &*node.name == "telemetry").expect("it is in the tree");
    assert_eq!(sender.queues, [("events", MOST_EVENTS)]);
    assert_eq!(
        sender.waits.map(|(what, _)| what.to_string()).as_deref(),
        Some("the server to take telemetry")
    );

    // Nobody waits for it: not a call, and not whoever closes the service.
    let before = world.time.now();
    world.time.block_on(client.optim_step(adam(), &Progress::default())).expect("calls go on");
    assert!(world.time.now() - before < Duration::from_secs(1), "and don't wait");
    let call = client.optim_step(adam(), &Progress::default());
    service.close();
    world.turn();
    assert!(call.now_or_never().is_some(), "its caller does not wait for telemetry");
    // And it does not outlive its owner, which gives it two seconds.
    world.time.advance(Duration::from_millis(1_999));
    assert!(system.live() > 0, "it still tries");
    world.time.advance(Duration::from_millis(2));
    world.turn();
    assert_eq!((system.live(), world.time.live_timers()), (0, 0));

    // One that dies does so alone.
    let world = World::new(16);
    let service = world.telling("page");
    faults::clear();
    for nth in 1..=10 {
        faults::arm("telemetry", nth);
    }
    let client = world.time.block_on(model(&service)).expect("the server is up").client;
    world.time.advance(Duration::from_secs(60));
    faults::clear();
    assert!(service.system().snapshot().iter().all(|node| &*node.name == "telemetry" || node.restarts == 0));
    assert!(service.system().snapshot().iter().all(|node| &*node.name != "telemetry"), "it was given up");
    world.time.block_on(client.optim_step(adam(), &Progress::default())).expect("the service goes on");
    service.close();
    world.turn();
    assert_eq!((service.system().live(), world.time.live_timers()), (0, 0));

    // What was told before the close is with the server after it.
    let world = World::new(17);
    let service = world.telling("page");
    world.time.block_on(model(&service)).expect("the server is up");
    service.close();
    world.time.advance(Duration::from_secs(1));
    assert_eq!((service.system().live(), world.time.live_timers()), (0, 0));
    assert_eq!(told(&world), ["SESSION_START", "SESSION_END"]);
}

/// The fourth: what a session knew was in the memory of one process, and a crash of that began another one.
#[test]
fn audit_4_a_crash_of_the_sessions_own_process_goes_on_with_the_same_session() {
    let world = World::new(14);
    let service = world.service();
    world.time.block_on(async {
        let client = model(&service).await.expect("the server is up").client;
        let session = service.session().id().expect("it is open");
        for crash in 1..=5 {
            faults::arm("heartbeat", 1);
            world.runtime_timer(Duration::from_secs(30)).await;
            assert_eq!(faults::armed(), 0, "crash {crash} has struck");
            assert_eq!(service.session().id().as_ref(), Some(&session));
        }
        world.runtime_timer(Duration::from_secs(24 * 3_600)).await;
        client.optim_step(adam(), &Progress::default()).await.expect("the session lives, and its model");
        let next = model(&service).await.expect("it makes more models").client;
        assert!(next.model().as_str().starts_with(session.as_str()) && next.model() != client.model());
    });
    assert_eq!(world.sent().iter().filter(|path| path.ends_with("/create_session")).count(), 1);
    service.close();
}

/// The fifth: a wait was a sleep that had to run out.
#[test]
fn audit_5_closing_ends_every_wait_at_once() {
    let world = World::new(10);
    let service = world.service();
    world.time.block_on(async {
        let made = model(&service).await.expect("the server is up");
        world.set_up(false);
        let call = made.client.optim_step(adam(), &Progress::default());
        // Long enough for the pauses between two tries to be many seconds.
        world.runtime_timer(Duration::from_secs(100)).await;
        let before = world.time.now();
        service.close();
        call.await.expect_err("the service is closed");
        assert_eq!(world.time.now(), before);
    });
    world.turn();
    assert_eq!(service.system().live(), 0);
    assert_eq!(world.time.live_timers(), 0);
}

#[test]
fn a_client_that_is_closed_settles_every_caller_and_says_what_was_sent() {
    let world = World::new(9);
    let service = world.service();
    world.time.block_on(async {
        let made = model(&service).await.expect("the server is up");
        world.set_up(false);
        let calls: Vec<_> = (0..200).map(|_| made.client.optim_step(adam(), &Progress::default())).collect();
        world.runtime_timer(Duration::from_secs(1)).await;
        let closed_at = world.time.now();
        service.close_client(&made.pid).await;
        for (i, call) in calls.into_iter().enumerate() {
            let error = call.await.expect_err("the client is closed");
            // Those that were written down together.
            let outcome = if i < 4 { Outcome::Journaled } else { Outcome::NotSent };
            assert_eq!((error.kind(), error.outcome()), (&Kind::Closed, outcome), "call {i}");
        }
        assert_eq!(world.time.now(), closed_at, "nobody had to wait for it");
    });
    service.close();
}

#[test]
fn stopping_with_200_requests_in_flight_settles_them_all_within_a_turn() {
    for of_service in [true, false] {
        let world = World::new(14);
        let service = world.service();
        let made = world.time.block_on(model(&service)).expect("the server is up");
        let sampling = service.create_sampling_client(Some(TINY.into()), None, &Progress::default());
        let sampler = world.time.block_on(sampling).expect("the server is up");
        world.set_up(false);
        let trained: Vec<_> = (0..100)
            .map(|step| made.client.forward_backward(batch(step), cross_entropy(), &Progress::default()))
            .collect();
        let sampled: Vec<_> = (0..100)
            .map(|_| {
                let client = sampler.client.clone();
                let sample =
                    Sample { prompt: ModelInput::from_tokens(vec![1]), num_samples: 1, ..Sample::default() };
                sampler.client.calls().spawn_nolink("sample", move |ctx| async move {
                    let sampled = client.sample(sample, &Progress::default());
                    // As the desk does it: a call ends when its client stops.
                    ctx.until_shutdown(sampled).await
                })
            })
            .collect();
        world.time.advance(Duration::from_secs(10));
        match of_service {
            true => service.close(),
            false => {
                made.pid.ask_to_stop();
                sampler.pid.ask_to_stop();
            }
        }
        world.turn();
        for call in trained {
            assert!(call.now_or_never().is_some_and(|result| result.is_err()));
        }
        for call in sampled {
            assert!(call.now_or_never().is_some_and(|result| !matches!(result, Ok(Ok(Ok(_))))));
        }
        service.close();
        world.turn();
        assert_eq!((service.system().live(), world.time.live_timers()), (0, 0));
    }
}
