//! A page's life as the client meets it: timers once a minute, an hour's sleep, a network that goes and comes, and days of
//! nothing but heartbeats and polls.

use std::rc::Rc;
use std::time::Duration;

use tinkex::request::Progress;
use tinkex::service::Service;
use tinkex::session::Resume;
use tinkex::training::{Name, method::Ask};
use tinkex_supervise::{Report, System};

use crate::adam;
use crate::allocations;
use crate::world::{World, model};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

/// More than a request takes there and back, and less than any pause.
const AT_ONCE: Duration = Duration::from_millis(20);

fn sent(world: &World, what: &str) -> usize {
    world.sent().iter().filter(|path| path.ends_with(what)).count()
}

/// What everything that runs waits for.
fn waits(service: &Service) -> Vec<String> {
    let nodes = service.system().snapshot();
    nodes.iter().filter_map(|node| node.waits.as_ref().map(|(what, _)| what.to_string())).collect()
}

/// Counts restarts, from here on.
fn restarts(system: &System) -> impl Fn() -> u32 + use<> {
    let system = system.clone();
    move || system.snapshot().iter().map(|node| node.restarts).sum()
}

#[test]
fn a_hidden_page_keeps_a_session_that_its_server_would_end_after_90_seconds() {
    for (period, lives) in [(MINUTE, true), (2 * MINUTE, false)] {
        let world = World::ending_sessions_after(1, Duration::from_secs(90));
        let (service, instance) = world.mortal("page", Resume::None);
        let client = world.time.block_on(model(&service)).expect("the server is up").client;
        instance.throttle_timers(period);
        let beats = sent(&world, "/session_heartbeat");
        world.time.advance(HOUR);
        let beats = sent(&world, "/session_heartbeat") - beats;
        let step = world.time.block_on(client.optim_step(adam(), &Progress::default()));
        assert_eq!(step.is_ok(), lives, "{period:?}: {beats} heartbeats");
        if lives {
            assert!((58..=61).contains(&beats), "one a minute, and there were {beats}");
        }
        service.close();
    }
}

#[test]
fn a_page_that_wakes_after_an_hour_sends_its_heartbeat_at_once_and_restarts_nothing() {
    for clock_stood in [false, true] {
        let world = World::ending_sessions_after(2, 2 * HOUR);
        let service = world.service();
        let client = world.time.block_on(model(&service)).expect("the server is up").client;
        let failed = Rc::new(std::cell::Cell::new(0));
        let failures = failed.clone();
        service.system().on_report(move |report| {
            if let Report::Supervisor { .. } = report {
                failures.set(failures.get() + 1);
            }
        });
        world.time.advance(Duration::from_secs(5));
        let restarts = restarts(service.system());
        let (beats, running) = (sent(&world, "/session_heartbeat"), service.system().live());
        match clock_stood {
            true => world.skip_unix_time(HOUR),
            false => world.time.burn(HOUR),
        }
        service.wake(true);
        world.turn();
        assert_eq!(
            sent(&world, "/session_heartbeat") - beats,
            1,
            "one, and at once; its clock stood: {clock_stood}"
        );
        world.time.advance(MINUTE);
        assert_eq!(
            (restarts(), failed.get(), service.system().live()),
            (0, 0, running),
            "its clock stood: {clock_stood}"
        );
        world.time.block_on(client.optim_step(adam(), &Progress::default())).expect("the session lives");
        service.close();
    }
}

#[test]
fn a_network_that_comes_back_ends_the_wait_for_the_next_try_and_one_that_is_gone_is_what_it_waits_for() {
    let world = World::new(3);
    let service = world.service();
    let client = world.time.block_on(model(&service)).expect("the server is up").client;
    world.set_up(false);
    let asked = client.ask(Ask::OptimStep(adam()), Name::default(), &Progress::default());
    world.time.advance(MINUTE);
    assert!(waits(&service).iter().any(|what| what == "the next try"), "{:?}", waits(&service));
    service.wake(false);
    world.time.advance(AT_ONCE);
    let offline = |service| waits(service).iter().any(|what| what.contains("offline"));
    assert!(offline(&service), "{:?}", waits(&service));
    world.set_up(true);
    let requests = world.requests();
    service.wake(true);
    world.time.advance(AT_ONCE);
    assert!(world.requests() > requests, "tried at once");
    assert!(!offline(&service), "{:?}", waits(&service));
    world.time.block_on(asked).expect("the server has it");
    service.close();
}

#[test]
fn a_day_of_heartbeats_and_polls_leaves_the_live_allocations_where_they_were() {
    let world = World::ending_sessions_after(4, Duration::from_secs(90));
    let service = world.service();
    let client = world.time.block_on(model(&service)).expect("the server is up").client;
    // The server has taken a request and doesn't get to it, so that its polls are held, one after another.
    world.set_working(false);
    let asked = client.ask(Ask::OptimStep(adam()), Name::default(), &Progress::default());
    // What is alive in between depends on what is under way, so of an hour it is the most that counts.
    let most_in_an_hour = || {
        let seconds = (0..3_600).map(|_| {
            world.time.advance(Duration::from_secs(1));
            world.forget_sent();
            allocations::live()
        });
        seconds.max()
    };
    let before = most_in_an_hour();
    world.time.advance(24 * HOUR);
    let (polls, beats) = (sent(&world, "/retrieve_future"), sent(&world, "/session_heartbeat"));
    assert!(polls > 2_800 && beats > 8_600, "{polls} polls and {beats} heartbeats");
    let after = most_in_an_hour();
    assert!(after <= before, "{before:?} live allocations at most, and {after:?} a day later");
    world.set_working(true);
    world.time.block_on(asked).expect("it is done in the end");
    service.close();
}
