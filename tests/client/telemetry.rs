//! What a client tells of itself: what of it arrives, how much of it waits, and what is never in it.

use std::time::Duration;

use serde_json::Value;
use tinkex::request::Progress;
use tinkex::service::Service;
use tinkex::session::Resume;
use tinkex_supervise::faults;

use super::adam;
use super::world::{API_KEY, USERS_WORDS, World, batch, cross_entropy, model};

/// That wait at most.
pub const MOST_EVENTS: usize = 99;

/// Words that a crash has made of a user's.
const MADE: &str = "of-somebody's-text";

/// The batches that the server has, in their order.
fn batches(world: &World) -> Vec<Value> {
    let lines = world.ask("/api/v1/sandbox/telemetry");
    lines.lines().map(|line| serde_json::from_str(line).expect("a batch is JSON")).collect()
}

fn events(world: &World) -> Vec<Value> {
    let of = |batch: &Value| batch["events"].as_array().expect("a batch has events").clone();
    batches(world).iter().flat_map(of).collect()
}

/// The names of the events that the server has, in their order.
pub fn told(world: &World) -> Vec<String> {
    let name = |event: &Value| {
        let name = event.get("event_name").unwrap_or(&event["event"]);
        name.as_str().expect("an event has a name").to_owned()
    };
    events(world).iter().map(name).collect()
}

fn requests(world: &World) -> usize {
    world.sent().iter().filter(|path| path.ends_with("/telemetry")).count()
}

fn crash(service: &Service, times: usize) {
    for _ in 0..times {
        drop(service.calls().spawn_nolink(USERS_WORDS, |_| async { panic!("words of the source") }));
    }
}

/// A telling service with a session, whose beginning the server has heard of.
fn open(world: &std::rc::Rc<World>, owner: &str) -> Service {
    let service = world.telling(owner);
    world.time.block_on(model(&service)).expect("the server is up");
    world.time.advance(Duration::from_secs(15));
    service
}

/// Every name of a field in there.
fn fields(value: &Value, names: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                names.push(name.clone());
                fields(value, names);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| fields(value, names)),
        _ => {}
    }
}

#[test]
fn every_field_that_is_sent_is_in_the_docs_and_nothing_that_a_user_gave_is_sent() {
    let world = World::new(30);
    let service = open(&world, "page");
    let client = world.time.block_on(model(&service)).expect("the server is up").client;
    let step = client.forward_backward(batch(3), cross_entropy(), &Progress::default());
    world.time.block_on(step).expect("the server is up");
    crash(&service, 1);
    drop(service.calls().spawn_nolink(USERS_WORDS, |_| async { panic!("{MADE} {API_KEY} {}", 5) }));
    faults::arm_within("dispatcher", "/dispatcher", 1);
    drop(client.optim_step(adam(), &Progress::default()));
    world.time.advance(Duration::from_secs(5));
    world.set_up(false);
    crash(&service, MOST_EVENTS + 1);
    // Longer than the server keeps a session.
    world.time.advance(Duration::from_secs(600));
    world.set_up(true);
    world.time.advance(Duration::from_secs(600));
    service.close();
    world.time.advance(Duration::from_secs(5));
    // Another one takes the first one's session up.
    let (first, instance) = (world.telling("mortal"), world.telling("mortal"));
    world.time.block_on(model(&first)).expect("the server is up");
    world.time.block_on(model(&instance)).expect("the server is up");
    let session = first.session().id().expect("it is open");
    let next = world.telling_of("next", Resume::This(session));
    world.time.block_on(model(&next)).expect("the server is up");
    next.close();
    world.time.advance(Duration::from_secs(5));

    let mut kinds = told(&world);
    kinds.sort();
    kinds.dedup();
    let all = ["SESSION_END", "SESSION_START", "UNHANDLED_EXCEPTION"];
    assert_eq!(kinds, [&all[..], &["session_lost", "session_resumed", "telemetry_dropped"]].concat());

    let docs = std::fs::read_to_string("docs/telemetry.md").expect("it is there");
    let mut names = Vec::new();
    for batch in batches(&world) {
        fields(&batch, &mut names);
        let text = batch.to_string();
        for secret in [API_KEY, USERS_WORDS, MADE, "tinkex/tiny", "mortal"] {
            assert!(!text.contains(secret), "{secret} is in {text}");
        }
    }
    names.extend(kinds);
    names.sort();
    names.dedup();
    for name in names {
        assert!(docs.contains(&format!("`{name}`")), "docs/telemetry.md does not have `{name}`");
    }
}

#[test]
fn a_crash_is_told_at_once_with_its_place_and_no_words_but_those_of_the_source() {
    let world = World::new(31);
    let service = open(&world, "page");
    crash(&service, 1);
    world.time.advance(Duration::from_millis(100));
    drop(service.calls().spawn_nolink("made", |_| async { panic!("{MADE} {}", 5) }));
    world.time.advance(Duration::from_millis(100));
    let crashes = events(&world).split_off(1);
    let of = |event: &Value, field: &str| event[field].as_str().expect("a text").to_owned();
    for (event, message) in crashes.iter().zip(["words of the source", "(made at the time, and not sent)"]) {
        assert_eq!(of(event, "event"), "UNHANDLED_EXCEPTION");
        assert_eq!((of(event, "error_type"), of(event, "error_message")), ("Panic".into(), message.into()));
        assert!(of(event, "traceback").contains("telemetry.rs:"), "{event}");
    }
    assert_eq!(crashes.len(), 2);
    // A client whose dispatcher crashes ends with it; that is one crash.
    let client = world.time.block_on(model(&service)).expect("the server is up").client;
    faults::arm_within("dispatcher", "/dispatcher", 1);
    drop(client.optim_step(adam(), &Progress::default()));
    world.time.advance(Duration::from_secs(5));
    assert_eq!(faults::armed(), 0);
    assert_eq!(events(&world).len(), 4);
    service.close();
}

#[test]
fn the_next_instance_tells_that_the_one_before_it_died() {
    let world = World::new(32);
    let first = open(&world, "page");
    let session = first.session().id().expect("it is open");
    // Nothing of a dead instance ends.
    let next = world.telling("page");
    world.time.block_on(model(&next)).expect("the server is up");
    world.time.advance(Duration::from_secs(1));
    let event = events(&world).pop().expect("it was told");
    assert_eq!(event["error_type"], "InstanceLost");
    assert_eq!(batches(&world).last().unwrap()["session_id"], session.as_str());
}

#[test]
fn what_finds_no_room_is_dropped_from_the_oldest_on_and_counted() {
    let world = World::new(33);
    let service = open(&world, "page");
    world.set_up(false);
    crash(&service, 1_000);
    world.time.advance(Duration::from_secs(60));
    world.set_up(true);
    world.time.advance(Duration::from_secs(600));
    let events = events(&world).split_off(1);
    assert_eq!(events.len(), MOST_EVENTS + 1);
    let index = |event: &Value| event["event_session_index"].as_u64().expect("it is numbered");
    assert!(events.is_sorted_by_key(index) && index(&events[0]) > 1_000 - MOST_EVENTS as u64);
    let report = events.last().unwrap();
    assert_eq!(report["event_name"], "telemetry_dropped");
    assert_eq!(report["event_data"]["count"], 1_000 - MOST_EVENTS);
    assert_eq!(batches(&world).len(), 2, "they are one batch");
    service.close();
}

#[test]
fn a_server_that_does_not_answer_is_asked_ever_more_seldom_and_told_when_it_is_back() {
    let world = World::patient(34);
    let service = open(&world, "page");
    world.hang(Some("/telemetry"));
    let before = requests(&world);
    crash(&service, 1);
    world.time.advance(Duration::from_secs(3_600));
    let tries = requests(&world) - before;
    assert!((10..=17).contains(&tries), "after 10 s, 20 s, 40 s … 5 min: {tries} in an hour");
    world.hang(None);
    world.time.advance(Duration::from_secs(310));
    assert_eq!(told(&world), ["SESSION_START", "UNHANDLED_EXCEPTION"]);
    let tries = requests(&world);
    world.time.advance(Duration::from_secs(3_600));
    assert_eq!(requests(&world), tries, "with nothing to tell, nothing is sent");
    service.close();
}

#[test]
fn a_server_that_has_no_telemetry_is_asked_once() {
    let world = World::new(35);
    let service = world.telling("page");
    world.time.block_on(model(&service)).expect("the server is up");
    world.refuse_all(Some(404));
    world.time.advance(Duration::from_secs(15));
    world.refuse_all(None);
    crash(&service, 5);
    world.time.advance(Duration::from_secs(60));
    service.close();
    world.time.advance(Duration::from_secs(5));
    assert_eq!((requests(&world), told(&world).len()), (1, 0));
    assert_eq!(world.disk.keys_of("telemetry/"), Vec::<String>::new());
}

#[test]
fn what_did_not_get_out_is_sent_by_the_next_service_as_what_it_was() {
    let world = World::new(36);
    let service = open(&world, "first");
    let session = service.session().id().expect("it is open");
    world.set_up(false);
    crash(&service, 2);
    service.close();
    world.time.advance(Duration::from_secs(5));
    assert_eq!(world.disk.keys_of("telemetry/"), ["telemetry/first"]);
    assert!(!world.disk.contains(API_KEY) && !told(&world).contains(&"SESSION_END".into()));
    world.set_up(true);

    // Two open at once: one of them sends it, or both do, and then its ids say that it is the same.
    let (second, third) = (world.telling("second"), world.telling("third"));
    world.time.block_on(async {
        let (one, other) = futures_util::future::join(model(&second), model(&third)).await;
        (one.expect("the server is up"), other.expect("the server is up"))
    });
    world.time.advance(Duration::from_secs(15));
    let late: Vec<Value> =
        batches(&world).into_iter().filter(|batch| batch["session_id"] == session.as_str()).collect();
    let kinds = |batch: &Value| -> Vec<Value> {
        let events = batch["events"].as_array().expect("a batch has events");
        events.iter().map(|event| event["event"].clone()).collect()
    };
    assert_eq!(kinds(&late[0]), ["SESSION_START"], "it went out when it was due");
    for again in &late[1..] {
        assert_eq!(kinds(again), ["UNHANDLED_EXCEPTION", "UNHANDLED_EXCEPTION", "SESSION_END"]);
        assert_eq!(again["events"], late[1]["events"], "to the id");
        assert_eq!(again["process_uuid"], late[0]["process_uuid"]);
    }
    assert!(late.len() >= 2);
    assert_eq!(world.disk.keys_of("telemetry/"), Vec::<String>::new(), "and it is forgotten");
    second.close();
    third.close();
}

#[test]
fn what_one_service_keeps_for_the_next_is_bounded_over_many() {
    let world = World::new(37);
    for number in 0..5 {
        let service = world.telling(&format!("page-{number}"));
        world.time.block_on(model(&service)).expect("the server is up");
        world.hang(Some("/telemetry"));
        crash(&service, 60);
        service.close();
        world.time.advance(Duration::from_secs(10));
        assert_eq!(world.disk.keys_of("telemetry/").len(), 1, "each takes up what the one before has left");
    }
    world.hang(None);
    let service = open(&world, "last");
    world.time.advance(Duration::from_secs(60));
    let crashes = told(&world).iter().filter(|name| *name == "UNHANDLED_EXCEPTION").count();
    assert!(crashes > 60 && crashes < MOST_EVENTS, "{crashes}");
    service.close();
}

#[test]
fn a_damaged_record_is_deleted_and_one_of_a_newer_version_is_left_alone() {
    for newer in [false, true] {
        let world = World::new(38);
        let service = open(&world, "first");
        world.set_up(false);
        crash(&service, 1);
        service.close();
        world.time.advance(Duration::from_secs(5));
        match newer {
            true => world.disk.make_newer("telemetry/first"),
            false => world.disk.damage("telemetry/first"),
        }
        world.set_up(true);
        let next = open(&world, "next");
        assert!(!told(&world).contains(&"UNHANDLED_EXCEPTION".into()));
        assert_eq!(world.disk.keys_of("telemetry/first").len(), usize::from(newer));
        next.close();
    }
}

#[test]
fn a_page_that_is_hidden_sends_what_waits_within_the_turn_and_keeps_it_until_that_arrived() {
    let world = World::new(39);
    let service = open(&world, "page");
    service.hidden();
    world.turn();
    assert!(world.kept_alive().is_empty(), "there is nothing to send");
    world.set_up(false);
    crash(&service, 1_000);
    // The server is to be asked again much later.
    world.time.advance(Duration::from_secs(100));
    world.set_up(true);
    service.hidden();
    world.turn();
    assert_eq!(world.kept_alive().len(), 1, "it has not waited for anything");
    assert!(world.kept_alive()[0] < 64 * 1024);
    assert_eq!(world.disk.keys_of("telemetry/").len(), 1);
    world.time.advance(Duration::from_secs(1));
    assert_eq!(told(&world).len(), 1 + MOST_EVENTS + 1);
    assert_eq!(world.disk.keys_of("telemetry/"), Vec::<String>::new());
    // Seen again, it is a page like any other.
    crash(&service, 1);
    world.time.advance(Duration::from_secs(1));
    assert_eq!(world.kept_alive().len(), 1);
    service.close();
}

#[test]
fn forgetting_everything_while_the_rest_is_sent_leaves_no_record() {
    let world = World::new(40);
    let service = open(&world, "page");
    world.set_up(false);
    crash(&service, 1);
    service.close();
    world.turn();
    world.disk.forget();
    world.time.advance(Duration::from_secs(5));
    assert_eq!(world.disk.keys(), Vec::<String>::new());
}

#[test]
fn turned_off_nothing_is_sent_and_nothing_is_written() {
    let world = World::new(41);
    let service = world.service();
    world.time.block_on(model(&service)).expect("the server is up");
    crash(&service, 100);
    world.time.advance(Duration::from_secs(60));
    service.hidden();
    world.set_up(false);
    service.close();
    world.time.advance(Duration::from_secs(60));
    assert_eq!(requests(&world), 0);
    assert_eq!(world.disk.keys_of("telemetry/"), Vec::<String>::new());
    assert!(service.system().snapshot().is_empty());
}
