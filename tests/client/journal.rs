//! Calls that outlive whatever made them: what is on the disk at each moment, and what goes on from there.

use std::time::Duration;

use tinkex::error::{Error, Kind, Outcome};
use tinkex::request::Progress;
use tinkex::session::Resume;
use tinkex::store::{Op, StoreErrorKind};
use tinkex::training::method::{Ask, Output};
use tinkex::training::{Name, TrainingClient};
use tinkex_protocol::{ModelId, ModelInput};

use crate::world::{Weather, World, batch, cross_entropy, model, resume};
use crate::{adam, applied, train, weights};

/// The calls of a run of some steps, by number: a pass and then a step, each twice.
fn ask(client: &TrainingClient, call: u32) -> Ask {
    match call % 2 {
        0 => client.cut(batch(i64::from(call / 2)), &cross_entropy()).expect("the batch has data"),
        _ => Ask::OptimStep(adam()),
    }
}

/// A pass over three data, of each of which this world's server makes a request.
fn in_three_parts(client: &TrainingClient) -> Ask {
    let data = (0..3).flat_map(batch).collect();
    client.cut(data, &cross_entropy()).expect("the batch has data")
}

fn name(call: u32) -> Name {
    Name { key: call + 1, label: call.to_string(), ..Name::default() }
}

/// Makes a call that gets its number and no further: the server has gone.
async fn ask_nobody(world: &World, client: &TrainingClient, ask: Ask) {
    world.set_up(false);
    let _asked = client.ask(ask, name(1), &Progress::default());
    world.runtime_timer(Duration::from_secs(1)).await;
}

fn steps_of(world: &World) -> Vec<String> {
    applied(world).into_iter().filter(|line| !line.ends_with(" 0")).collect()
}

fn hash(world: &World, model: &ModelId) -> String {
    weights(&world.ask(&format!("/api/v1/sandbox/models/{model}/hash")))
}

/// How many calls a run of [`ask`] has.
const CALLS: u32 = 6;

/// Makes the calls from `from` on, waits for each in turn and says that it was seen.
async fn go_on(client: &TrainingClient, from: u32, seen: &mut Vec<u32>) -> Result<(), Error> {
    let asked: Vec<_> =
        (from..CALLS).map(|call| client.ask(ask(client, call), name(call), &Progress::default())).collect();
    for (call, asked) in (from..CALLS).zip(asked) {
        asked.await?;
        client.seen(name(call).key);
        seen.push(call);
    }
    Ok(())
}

#[test]
fn whenever_an_instance_dies_the_next_one_goes_on_and_every_step_is_applied_once() {
    let (_, undisturbed) = train(&World::new(0), i64::from(CALLS / 2));
    let mut deaths = 0;
    for polls in 1.. {
        let world = World::new(polls);
        if polls % 2 == 0 {
            world.weather.set(Weather { lost_requests: 100, lost_replies: 100, refusals: 100 });
        }
        let (first, instance) = world.mortal("first", Resume::None);
        let id = world.time.block_on(async { model(&first).await.map(|made| made.client) });
        let client = id.expect("the model is made");
        let id = client.model().clone();
        instance.die_after(polls);
        let mut seen = Vec::new();
        world.time.block_on(async {
            let all = go_on(&client, 0, &mut seen);
            let late = world.runtime_timer(Duration::from_secs(60));
            futures_util::future::select(std::pin::pin!(all), late).await;
        });
        let survived = seen.len() == CALLS as usize;
        deaths += 1;
        let second = world.service_of("second", Resume::Newest);
        world.time.block_on(async {
            let client = resume(&second, &id).await.expect("the session is alive");
            let mut next = seen.len() as u32;
            for pending in client.pending() {
                // Those were seen, and the instance died before it had deleted them.
                next = next.min(pending.label.parse().expect("it is a number"));
                assert_eq!(pending.label, next.to_string(), "polls {polls}: {:?}", client.pending());
                let asked = client.result(pending.first, name(next).key, &Progress::default());
                let output = asked.expect("it is pending").await;
                match (next % 2, output) {
                    (0, Ok(Output::Forward(_))) | (1, Ok(Output::Step(_))) => {}
                    (_, output) => panic!("polls {polls}: call {next} gave {output:?}"),
                }
                client.seen(name(next).key);
                next += 1;
            }
            go_on(&client, next, &mut seen).await.expect("the rest goes through");
        });
        world.time.advance(Duration::from_secs(1));
        assert_eq!(steps_of(&world).len(), CALLS as usize, "polls {polls}");
        assert_eq!(hash(&world, &id), weights(&undisturbed), "polls {polls}");
        for kind in ["request/", "body/", "answer/"] {
            assert_eq!(world.disk.keys_of(kind), [""; 0], "polls {polls}: nothing is kept of what was seen");
        }
        second.close();
        if survived {
            break;
        }
    }
    assert!(deaths > 50, "{deaths} moments were tried");
}

#[test]
fn nothing_is_sent_before_it_is_written_and_a_call_costs_one_strict_write_at_most() {
    let world = World::new(1);
    let service = world.service();
    world.time.block_on(async {
        let client = model(&service).await.expect("the server is up").client;
        let (strict, _) = world.disk.commits();
        for call in 0..2 {
            let asked = client.ask(ask(&client, call), name(call), &Progress::default());
            asked.await.expect("the server is up");
        }
        assert_eq!(world.disk.commits().0, strict + 2);
        let asked = [2, 3].map(|call| client.ask(ask(&client, call), name(call), &Progress::default()));
        for asked in asked {
            asked.await.expect("the server is up");
        }
        assert_eq!(world.disk.commits().0, strict + 3, "a pass and the step behind it are written together");
    });
    service.close();
}

#[test]
fn a_body_goes_when_the_result_is_in_and_the_rest_when_it_was_seen() {
    let world = World::new(2);
    let service = world.service();
    world.time.block_on(async {
        let client = model(&service).await.expect("the server is up").client;
        world.set_up(false);
        let asked = client.ask(ask(&client, 0), name(0), &Progress::default());
        world.runtime_timer(Duration::from_secs(1)).await;
        let id = client.model();
        assert_eq!(world.disk.keys_of("body/"), [format!("body/{id}/0000000001")]);
        assert_eq!(world.disk.keys_of("request/"), [format!("request/{id}/0000000001")]);
        world.set_up(true);
        asked.await.expect("the server is up");
        world.runtime_timer(Duration::from_secs(1)).await;
        assert_eq!(world.disk.keys_of("body/"), [""; 0]);
        assert_eq!(world.disk.keys_of("answer/"), [format!("answer/{id}/0000000001")]);
        client.seen(name(0).key);
        world.runtime_timer(Duration::from_secs(1)).await;
        assert_eq!(world.disk.keys_of("answer/"), [""; 0]);
        assert_eq!(world.disk.keys_of("request/"), [""; 0]);
    });
    service.close();
}

#[test]
fn a_call_that_is_seen_before_the_next_costs_no_commit_but_its_own() {
    let world = World::new(14);
    let service = world.service();
    world.time.block_on(async {
        let client = model(&service).await.expect("the server is up").client;
        let before = world.disk.commits();
        for call in 0..4 {
            client.ask(ask(&client, call), name(call), &Progress::default()).await.expect("the server is up");
            client.seen(name(call).key);
        }
        world.runtime_timer(Duration::from_secs(1)).await;
        let after = world.disk.commits();
        assert_eq!((after.0 - before.0, after.1 - before.1), (4, 1), "the last deletion has none to go with");
        assert_eq!(world.disk.keys_of("request/"), [""; 0]);
    });
    service.close();
}

#[test]
fn deleting_what_was_seen_goes_on_when_the_disk_is_full() {
    let world = World::new(15);
    let service = world.service();
    world.time.block_on(async {
        let client = model(&service).await.expect("the server is up").client;
        client.ask(ask(&client, 1), name(1), &Progress::default()).await.expect("the server is up");
        client.seen(name(1).key);
        world.disk.fill();
        let error = client.optim_step(adam(), &Progress::default()).await.expect_err("the disk is full");
        assert_eq!(error.kind(), &Kind::Storage(StoreErrorKind::Quota));
        world.runtime_timer(Duration::from_secs(1)).await;
        assert_eq!(world.disk.keys_of("request/"), [""; 0]);
    });
    service.close();
}

#[test]
fn a_full_disk_refuses_new_calls_with_the_reason_and_the_client_lives() {
    let world = World::new(3);
    let service = world.service();
    world.time.block_on(async {
        let client = model(&service).await.expect("the server is up").client;
        let before = world.requests();
        world.disk.refuse(Some(StoreErrorKind::Quota));
        let error = client.optim_step(adam(), &Progress::default()).await.expect_err("the disk is full");
        assert_eq!(error.kind(), &Kind::Storage(StoreErrorKind::Quota));
        assert_eq!((error.outcome(), world.requests()), (Outcome::NotSent, before));
        world.disk.refuse(None);
        client.optim_step(adam(), &Progress::default()).await.expect("there is room again");
    });
    assert_eq!(steps_of(&world), ["optim_step 1"], "no number was lost to the full disk");
    service.close();
}

#[test]
fn a_disk_that_refuses_only_what_is_relaxed_costs_nothing_but_a_second_send() {
    let world = World::new(4);
    let id = world.first_life(async |client| {
        let asked = client.ask(ask(client, 1), name(1), &Progress::default());
        world.runtime_timer(Duration::from_millis(1)).await;
        world.disk.refuse(Some(StoreErrorKind::Aborted));
        asked.await.expect("the result needs no disk");
        world.disk.refuse(None);
    });
    world.next_life("second", &id, async |client| {
        assert_eq!(client.pending().len(), 1);
        assert!(!client.pending()[0].finished);
        let asked = client.result(client.pending()[0].first, 9, &Progress::default()).expect("it is pending");
        asked.await.expect("the server has it");
    });
    assert_eq!(steps_of(&world), ["optim_step 1"]);
}

#[test]
fn a_result_that_no_disk_has_room_for_keeps_the_bytes_by_which_it_can_be_asked_for_again() {
    let world = World::new(15);
    let id = world.first_life(async |client| {
        let first = client.ask(ask(client, 1), name(1), &Progress::default());
        first.await.expect("the server is up");
        // Its result waits to be seen, and the next call can't be written.
        world.disk.fill();
        let next = client.ask(ask(client, 1), name(2), &Progress::default());
        next.await.expect_err("the disk is full");
        world.runtime_timer(Duration::from_secs(1)).await;
    });
    world.disk.refuse(None);
    world.next_life("second", &id, async |client| {
        let asked = client.result(client.pending()[0].first, 9, &Progress::default()).expect("it is pending");
        asked.await.expect("the server has it");
    });
    assert_eq!(steps_of(&world), ["optim_step 1"]);
}

#[test]
fn closing_leaves_what_has_a_number_for_whoever_resumes() {
    let world = World::new(5);
    let service = world.service();
    let id = world.time.block_on(async {
        let client = model(&service).await.expect("the server is up").client;
        world.set_up(false);
        let asked: Vec<_> =
            (0..5).map(|call| client.ask(ask(&client, call), name(call), &Progress::default())).collect();
        world.runtime_timer(Duration::from_secs(1)).await;
        service.close();
        let mut outcomes = Vec::new();
        for asked in asked {
            outcomes.push(asked.await.expect_err("the service is closed").outcome());
        }
        let [written @ .., queued] = &outcomes[..] else { unreachable!("there were five") };
        assert_eq!(written, [Outcome::Journaled; 4], "they were written together");
        assert_eq!(*queued, Outcome::NotSent);
        client.model().clone()
    });
    world.set_up(true);
    world.next_life("second", &id, async |client| {
        let labels: Vec<&str> = client.pending().iter().map(|pending| &*pending.label).collect();
        assert_eq!(labels, ["0", "1", "2", "3"]);
        for (key, pending) in (1..).zip(client.pending()) {
            let asked = client.result(pending.first, key, &Progress::default()).expect("it is pending");
            asked.await.expect("it went on");
        }
    });
}

#[test]
fn a_call_that_was_given_up_after_its_number_goes_on_and_keeps_no_result() {
    let world = World::new(6);
    let service = world.service();
    world.time.block_on(async {
        let client = model(&service).await.expect("the server is up").client;
        world.set_up(false);
        let progress = Progress::default();
        let asked = client.ask(ask(&client, 1), name(1), &progress);
        let revocable = Name { revocable: true, ..name(2) };
        let queued = client.ask(ask(&client, 1), revocable, &Progress::default());
        world.runtime_timer(Duration::from_secs(1)).await;
        assert_eq!(progress.outcome(), Outcome::Journaled);
        progress.give_up();
        drop((asked, queued));
        world.set_up(true);
        client.optim_step(adam(), &Progress::default()).await.expect("the server is up");
    });
    world.time.advance(Duration::from_secs(1));
    assert_eq!(steps_of(&world), ["optim_step 1", "optim_step 2"], "the queued one left nothing behind");
    assert_eq!(world.disk.keys_of("request/"), [""; 0]);
    service.close();
}

#[test]
fn whoever_lost_the_session_writes_and_sends_no_more_and_says_who_has_it() {
    let world = World::new(7);
    let (first, second) = (world.service(), world.service_of("second", Resume::Newest));
    world.time.block_on(async {
        let client = model(&first).await.expect("the server is up").client;
        let id = client.model().clone();
        let other = resume(&second, &id).await.expect("the session is alive");
        let error = client.optim_step(adam(), &Progress::default()).await.expect_err("it is the other's");
        assert_eq!(error.kind(), &Kind::Storage(StoreErrorKind::Fenced));
        assert_eq!(error.outcome(), Outcome::NotSent);
        let error = client.optim_step(adam(), &Progress::default()).await.expect_err("and stays so");
        assert_eq!(error.kind(), &Kind::Storage(StoreErrorKind::Fenced), "{error}");
        other.optim_step(adam(), &Progress::default()).await.expect("the other trains");
    });
    assert_eq!(steps_of(&world), ["optim_step 1"]);
    first.close();
    second.close();
}

#[test]
fn a_damaged_record_is_set_aside_its_call_says_so_and_the_next_ones_go_on() {
    for record in ["request", "body"] {
        let world = World::new(8);
        let id = world.first_life(async |client| {
            ask_nobody(&world, client, ask(client, 1)).await;
        });
        let key = format!("{record}/{id}/0000000001");
        world.disk.damage(&key);
        world.set_up(true);
        world.next_life("second", &id, async |client| {
            assert_eq!(world.disk.keys_of("damaged/"), [format!("damaged/{key}")]);
            let pending = client.pending()[0].clone();
            if let Ok(asked) = client.result(pending.first, 1, &Progress::default()) {
                let error = asked.await.expect_err("what it asked for is lost");
                assert_eq!(error.kind(), &Kind::Storage(StoreErrorKind::Damaged));
            }
            client.optim_step(adam(), &Progress::default()).await.expect("the next one goes on");
        });
        assert_eq!(steps_of(&world), ["forward_backward 1", "optim_step 2"], "{record}: its number was held");
    }
}

#[test]
fn records_of_a_later_version_are_left_as_they_are_and_named() {
    let world = World::new(9);
    let id = world.first_life(async |client| {
        ask_nobody(&world, client, ask(client, 1)).await;
    });
    world.disk.make_newer(&format!("request/{id}/0000000001"));
    let keys = world.disk.keys();
    world.set_up(true);
    let second = world.service_of("second", Resume::Newest);
    let error = world.time.block_on(resume(&second, &id)).err().expect("it is too new");
    assert_eq!(error.kind(), &Kind::Storage(StoreErrorKind::TooNew));
    assert_eq!(world.disk.keys(), keys);
    second.close();
}

#[test]
fn the_key_is_never_written() {
    let world = World::new(10);
    let service = world.service();
    world.time.block_on(async {
        let client = model(&service).await.expect("the server is up").client;
        ask_nobody(&world, &client, ask(&client, 0)).await;
        assert!(world.disk.contains("forwardBackward"), "the scan finds what is there");
        assert!(!world.disk.contains(crate::world::API_KEY));
    });
    service.close();
}

#[test]
fn a_wrong_key_after_a_crash_leaves_the_call_in_the_journal() {
    let world = World::new(11);
    let id = world.first_life(async |client| {
        world.lose_replies(true);
        let _asked = client.ask(ask(client, 1), name(1), &Progress::default());
        world.runtime_timer(Duration::from_secs(1)).await;
    });
    world.lose_replies(false);
    let second = world.service_of("second", Resume::Newest);
    world.time.block_on(async {
        // The session is opened, and then the key expires.
        second.session().journal().await.expect("the session is alive");
        world.refuse_all(Some(401));
        let client = resume(&second, &id).await.expect("nothing is asked of the server");
        let asked = client.result(client.pending()[0].first, 1, &Progress::default()).expect("it is pending");
        let error = asked.await.expect_err("the key has expired");
        assert_eq!((error.status(), error.outcome()), (Some(401), Outcome::Journaled));
        let error = client.optim_step(adam(), &Progress::default()).await.expect_err("nothing passes it");
        assert_eq!(error.outcome(), Outcome::NotSent);
    });
    second.close();
    world.time.run_until_stalled();
    world.refuse_all(None);
    world.next_life("third", &id, async |client| {
        let asked =
            client.result(client.pending()[0].first, 1, &Progress::default()).expect("it is still there");
        asked.await.expect("the server had it all the time");
    });
    assert_eq!(steps_of(&world), ["optim_step 1"]);
}

#[test]
fn a_call_that_is_refused_after_a_crash_says_so_whenever_it_is_asked_for() {
    let world = World::new(13);
    let id = world.first_life(async |client| {
        ask_nobody(&world, client, ask(client, 1)).await;
    });
    world.set_up(true);
    let second = world.service_of("second", Resume::Newest);
    world.time.block_on(async {
        second.session().journal().await.expect("the session is alive");
        world.refuse_all(Some(422));
        let client = resume(&second, &id).await.expect("nothing is asked of the server");
        world.runtime_timer(Duration::from_secs(1)).await;
        world.refuse_all(None);
        // Its number goes to the next call, which keeps its own records.
        let next = client.ask(ask(&client, 0), name(0), &Progress::default());
        let asked = client.result(1, 9, &Progress::default()).expect("it came back");
        let error = asked.await.expect_err("the server refused it");
        assert_eq!((error.status(), error.outcome()), (Some(422), Outcome::Refused));
        client.seen(9);
        next.await.expect("the number is free");
        world.runtime_timer(Duration::from_secs(1)).await;
        assert_eq!(world.disk.keys_of("answer/"), [format!("answer/{id}/0000000001")]);
    });
    assert_eq!(steps_of(&world), ["forward_backward 1"]);
    second.close();
}

#[test]
fn a_call_cut_into_parts_comes_back_as_one() {
    let world = World::small_chunks(12);
    let id = world.first_life(async |client| {
        ask_nobody(&world, client, in_three_parts(client)).await;
    });
    assert_eq!(world.disk.keys_of("request/").len(), 3);
    world.set_up(true);
    world.next_life("second", &id, async |client| {
        assert_eq!(client.pending().len(), 1);
        let asked = client.result(1, 1, &Progress::default()).expect("it is pending");
        let Ok(Output::Forward(output)) = asked.await else { panic!("it is a forward pass") };
        assert_eq!(output.loss_fn_outputs.len(), 3);
        client.optim_step(adam(), &Progress::default()).await.expect("numbers go on behind it");
    });
    assert_eq!(steps_of(&world).len(), 4);
}

#[test]
fn a_call_in_parts_of_which_the_server_took_none_is_refused() {
    let world = World::small_chunks(14);
    let service = world.service();
    world.time.block_on(async {
        let client = model(&service).await.expect("the server is up").client;
        world.refuse_next(422, 2);
        let asked = client.ask(in_three_parts(&client), name(0), &Progress::default());
        let error = asked.await.expect_err("both that were sent were refused");
        assert_eq!((error.status(), error.outcome()), (Some(422), Outcome::Refused));
        client.optim_step(adam(), &Progress::default()).await.expect("no number was left out");
    });
    assert_eq!(steps_of(&world).last().map(String::as_str), Some("optim_step 4"));
    service.close();
}

#[test]
fn a_call_in_parts_that_was_given_up_is_not_sent_after_a_crash_and_says_why() {
    let world = World::small_chunks(15);
    let id = world.first_life(async |client| {
        world.refuse_next(422, 1);
        let _asked = client.ask(in_three_parts(client), name(0), &Progress::default());
        while world.disk.keys_of("answer/").is_empty() {
            world.runtime_timer(Duration::from_millis(1)).await;
        }
        // What was to stand in its place gets nowhere.
        world.set_up(false);
    });
    assert_eq!(world.disk.keys_of("request/").len(), 3, "its numbers are held");
    assert_eq!(world.disk.keys_of("body/"), [""; 0], "there is nothing to send as it was");
    world.set_up(true);
    world.next_life("second", &id, async |client| {
        let asked = client.result(1, 1, &Progress::default()).expect("it came back");
        let error = asked.await.expect_err("it was given up");
        assert_eq!((error.status(), error.outcome()), (Some(422), Outcome::Unknown));
        assert!(error.message().starts_with("the server refused this call or a part of it"), "{error}");
        client.optim_step(adam(), &Progress::default()).await.expect("no number was left out");
    });
    assert_eq!(steps_of(&world).last().map(String::as_str), Some("optim_step 4"));
}

#[test]
fn a_key_that_expires_before_a_call_in_parts_leaves_it_to_whoever_resumes() {
    let world = World::small_chunks(16);
    let first = world.service();
    let id = world.time.block_on(async {
        let client = model(&first).await.expect("the server is up").client;
        world.refuse_all(Some(401));
        let asked = client.ask(in_three_parts(&client), name(0), &Progress::default());
        let error = asked.await.expect_err("the key has expired");
        assert_eq!((error.status(), error.outcome()), (Some(401), Outcome::Journaled));
        client.model().clone()
    });
    first.close();
    world.time.run_until_stalled();
    world.refuse_all(None);
    world.next_life("second", &id, async |client| {
        let asked = client.result(1, 1, &Progress::default()).expect("it came back");
        asked.await.expect("it is let in");
    });
    assert_eq!(steps_of(&world).len(), 3);
}

#[test]
fn a_number_that_is_free_is_the_next_ones_even_if_a_call_between_could_not_be_written() {
    let world = World::new(17);
    let id = world.first_life(async |client| {
        world.refuse_next(422, 1);
        let refused = client.ask(ask(client, 0), name(0), &Progress::default()).await;
        assert_eq!(refused.expect_err("the server said no").outcome(), Outcome::Refused);
        world.disk.refuse(Some(StoreErrorKind::Aborted));
        let unwritten = client.ask(ask(client, 0), name(1), &Progress::default()).await;
        assert_eq!(unwritten.expect_err("the disk said no").outcome(), Outcome::NotSent);
        world.disk.refuse(None);
        world.runtime_timer(Duration::from_secs(1)).await;
    });
    world.next_life("second", &id, async |client| {
        client.optim_step(adam(), &Progress::default()).await.expect("it is next");
    });
    assert_eq!(steps_of(&world), ["optim_step 1"]);
}

#[test]
fn what_is_to_go_with_a_calls_records_waits_for_all_of_its_parts() {
    let world = World::small_chunks(18);
    let service = world.service();
    world.time.block_on(async {
        let client = model(&service).await.expect("the server is up").client;
        let mut data: Vec<_> = (0..3).flat_map(batch).collect();
        // Whichever is asked for first, it ends the call.
        data.iter_mut().for_each(|datum| datum.model_input = ModelInput::from_tokens(vec![99_999; 7]));
        let ask = client.cut(data, &cross_entropy()).expect("the batch has data");
        let asked = client.ask(ask, name(0), &Progress::default());
        asked.await.expect_err("no part can be done");
        world.hang(Some("/api/v1/retrieve_future"));
        client.seen_with(name(0).key, vec![Op::Put("kept/1".into(), [1].into())]);
        world.runtime_timer(Duration::from_secs(1)).await;
        assert_eq!(world.disk.keys_of("request/").len(), 3, "the others are under way");
        assert_eq!(world.disk.keys_of("kept/"), [""; 0], "after a crash the call comes back");
        world.hang(None);
        world.runtime_timer(Duration::from_secs(120)).await;
        assert_eq!(world.disk.keys_of("request/"), [""; 0]);
        assert_eq!(world.disk.keys_of("kept/").len(), 1);
    });
    service.close();
}
