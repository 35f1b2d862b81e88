//! The client as its users meet it, over a simulated network to the real sandbox: order, lost answers, endings.

mod allocations;
mod audit;
mod disk;
#[path = "../simulation/door.rs"]
mod door;
#[path = "../simulation/given.rs"]
mod given;
mod instance;
mod journal;
mod page_life;
mod runs;
mod sessions;
mod telemetry;
mod world;

use std::rc::Rc;
use std::time::Duration;

use tinkex::error::{Error, Kind, Outcome};
use tinkex::request::Progress;
use tinkex_protocol::LossCall;
use tinkex_protocol::json::training::AdamParams;
use world::{Weather, World, batch, cross_entropy, model, of_base};

fn adam() -> AdamParams {
    AdamParams { learning_rate: 1e-2, ..AdamParams::default() }
}

/// Trains `steps` steps without waiting between the calls; the losses, and the hash of the weights at the server.
fn train(world: &Rc<World>, steps: i64) -> (Vec<f64>, String) {
    let service = world.service();
    let result = world.time.block_on(async {
        // A server that was never reached is given up after a few tries, and a storm can take them all.
        let weather = world.weather.take();
        service.session().limits().await?;
        world.weather.set(weather);
        let made = model(&service).await?;
        let client = made.client;
        let calls: Vec<_> = (0..steps)
            .map(|step| {
                let pass = client.forward_backward(batch(step), cross_entropy(), &Progress::default());
                (pass, client.optim_step(adam(), &Progress::default()))
            })
            .collect();
        let mut losses = Vec::new();
        for (pass, step) in calls {
            losses.push(*pass.await?.metrics.get("loss:sum").expect("a loss has a sum"));
            step.await?;
        }
        let hash = world.ask(&format!("/api/v1/sandbox/models/{}/hash", client.model()));
        Ok::<_, Error>((losses, hash))
    });
    service.close();
    world.time.advance(Duration::from_secs(10));
    service.system().assert_accounted();
    assert_eq!(service.system().live(), 0, "nothing runs after the end");
    assert_eq!(world.time.live_timers(), 0, "no timer is left");
    result.expect("the run goes through")
}

/// What was applied, as `kind seq`, in the server's own order.
fn applied(world: &World) -> Vec<String> {
    let lines = world.ask("/api/v1/sandbox/log");
    let field = |line: &str, name: &str| {
        let value: serde_json::Value = serde_json::from_str(line).expect("the log is JSON lines");
        value[name].to_string().trim_matches('"').to_owned()
    };
    lines.lines().map(|line| format!("{} {}", field(line, "kind"), field(line, "seq_id"))).collect()
}

#[test]
fn calls_made_without_waiting_are_applied_in_their_order() {
    let world = World::new(0);
    let (losses, _) = train(&world, 6);
    assert_eq!(losses.len(), 6);
    let steps: Vec<String> = applied(&world).into_iter().filter(|line| !line.ends_with(" 0")).collect();
    let numbers: Vec<&str> = steps.iter().filter_map(|line| line.split(' ').nth(1)).collect();
    assert_eq!(numbers, ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12"]);
}

#[test]
fn whatever_the_network_loses_each_step_is_applied_once_and_the_weights_are_the_same() {
    let (losses, hash) = train(&World::new(0), 8);
    for seed in 1..=100 {
        let world = World::new(seed);
        world.weather.set(Weather { lost_requests: 100, lost_replies: 100, refusals: 150 });
        let (stormy_losses, stormy_hash) = train(&world, 8);
        assert_eq!(stormy_losses, losses, "seed {seed}");
        assert_eq!(weights(&stormy_hash), weights(&hash), "seed {seed}");
    }
}

/// The hash of the weights, out of the server's answer about a model.
fn weights(answer: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(answer).expect("the answer is JSON");
    value["weights_hash"].as_str().unwrap_or_else(|| panic!("no weights in {answer}")).to_owned()
}

#[test]
fn a_server_that_is_away_for_a_while_delays_a_run_and_loses_nothing() {
    let world = World::new(3);
    let service = world.service();
    let loss = world.time.block_on(async {
        let client = model(&service).await.expect("the server is up").client;
        world.set_up(false);
        let pass = client.forward_backward(batch(1), cross_entropy(), &Progress::default());
        world.runtime_timer(Duration::from_secs(60)).await;
        world.set_up(true);
        pass.await
    });
    assert!(loss.is_ok(), "{loss:?}");
    service.close();
}

#[test]
fn a_call_that_is_not_through_after_five_minutes_lets_its_caller_go_and_goes_on() {
    let world = World::patient(4);
    let service = world.service();
    world.time.block_on(async {
        let client = model(&service).await.expect("the server is up").client;
        world.set_up(false);
        let error = client.optim_step(adam(), &Progress::default()).await.expect_err("nobody answers");
        assert_eq!((error.kind(), error.outcome()), (&Kind::Connection, Outcome::Journaled));
        assert!(world.time.now() >= Duration::from_secs(300));
        world.set_up(true);
        client.optim_step(adam(), &Progress::default()).await.expect("the next call follows the first");
    });
    let steps: Vec<String> = applied(&world).into_iter().filter(|line| !line.ends_with(" 0")).collect();
    assert_eq!(steps.len(), 2, "{steps:?}");
    service.close();
}

#[test]
fn an_unreachable_server_is_said_within_seconds_with_what_to_check() {
    let world = World::new(5);
    world.set_up(false);
    let service = world.service();
    let error = world.time.block_on(service.server_capabilities()).expect_err("nobody is there");
    assert_eq!(error.kind(), &Kind::Connection);
    assert!(error.message().contains("baseURL"), "{error}");
    assert!(world.time.now() < Duration::from_secs(10), "{:?}", world.time.now());
    service.close();
}

#[test]
fn making_a_model_fails_when_the_server_is_gone_before_its_result() {
    let world = World::new(13);
    let service = world.service();
    let error = world.time.block_on(async {
        let maker = service.clone();
        let made =
            service.calls().spawn_nolink("make", move |_| async move { model(&maker).await.map(|_| ()) });
        // `create_model` is answered after 30 ms, and its first poll arrives 5 ms later.
        world.runtime_timer(Duration::from_millis(32)).await;
        world.set_up(false);
        made.await.expect("making a model does not crash").expect_err("the server is gone")
    });
    assert_eq!((error.kind(), error.outcome()), (&Kind::Connection, Outcome::Unknown), "{error}");
    assert!(world.requests() >= 3, "the model was asked for: {}", world.requests());
    service.close();
}

#[test]
fn a_base_model_that_is_not_served_is_refused_with_those_that_are() {
    let world = World::new(6);
    let service = world.service();
    let error = world.time.block_on(of_base(&service, "gpt-9")).err().expect("it isn't served");
    assert_eq!(error.kind(), &Kind::InvalidArgument { field: "baseModel".into() });
    assert_eq!(error.outcome(), Outcome::Refused, "the server was asked, and said no");
    assert!(error.message().contains("tinkex/tiny"), "{error}");
    service.close();
}

#[test]
fn an_empty_batch_is_refused_before_anything_is_sent() {
    let world = World::new(7);
    let service = world.service();
    world.time.block_on(async {
        let client = model(&service).await.expect("the server is up").client;
        let before = world.requests();
        let call = LossCall::new("cross_entropy");
        let error =
            client.forward_backward(Vec::new(), call, &Progress::default()).await.expect_err("no data");
        assert_eq!(error.kind(), &Kind::InvalidArgument { field: "data".into() });
        assert_eq!((error.outcome(), world.requests()), (Outcome::NotSent, before));
    });
    service.close();
}

#[test]
fn a_session_that_the_server_ended_is_said_and_not_used_again() {
    let world = World::new(11);
    let service = world.service();
    world.time.block_on(async {
        let client = model(&service).await.expect("the server is up").client;
        world.set_up(false);
        world.runtime_timer(Duration::from_secs(600)).await;
        world.set_up(true);
        world.runtime_timer(Duration::from_secs(30)).await;
        let error = client.optim_step(adam(), &Progress::default()).await.expect_err("the model is gone");
        assert_eq!(error.status(), Some(410), "{error}");
        let error = model(&service).await.err().expect("so is the session");
        assert_eq!(error.status(), Some(410), "{error}");
    });
    service.close();
}

#[test]
fn heartbeats_keep_a_session_alive_for_a_day() {
    let world = World::new(12);
    let service = world.service();
    world.time.block_on(async {
        let client = model(&service).await.expect("the server is up").client;
        world.runtime_timer(Duration::from_secs(24 * 3_600)).await;
        client.optim_step(adam(), &Progress::default()).await.expect("the session lives");
    });
    service.close();
}
