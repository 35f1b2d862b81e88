//! A server that is killed at any moment and comes back: what was answered holds, bit for bit.

use crate::driver::{Answer, Driven, request_id, text};
use serde_json::{Value, json};
use std::time::Duration;
use tinkex_sandbox::message::Request;
use tinkex_sandbox::{Settings, TINY};

/// A run with some of everything, as the requests of a client that waits for nothing it needn't.
struct Script {
    answers: Vec<(Request, Answer)>,
}

fn post(path: &str, body: Value) -> Request {
    Request::post(format!("/api/v1/{path}"), &body)
}

impl Script {
    /// Sends a request, and remembers what was answered when so many records were on disk.
    fn send(&mut self, service: &mut Driven, request: Request) -> Answer {
        let answer = crate::driver::read(&service.send(&request));
        assert_eq!(answer.0, 200, "{}", answer.1);
        self.answers.push((request, answer.clone()));
        answer
    }
}

/// Trains, saves, loads, samples. Gives for each moment at which a kill may come: how many records were on disk, and how many answers
/// had been given by then.
fn run(service: &mut Driven) -> (Script, Vec<(usize, usize)>) {
    let mut script = Script { answers: Vec::new() };
    let mut moments = Vec::new();
    let mut create = post("create_session", json!({ "sdk_version": "1" }));
    create.headers.idempotency_key = Some("one".into());
    let session = text(&script.send(service, create).1, "session_id");
    let model = format!("{session}:train:0");
    let lora = json!({ "rank": 4, "seed": 1 });
    let mut requests = vec![post(
        "create_model",
        json!({ "session_id": session, "model_seq_id": 0, "base_model": TINY, "lora_config": lora }),
    )];
    // Number 2 comes before number 1, and 5 twice.
    requests.push(post("optim_step", crate::driver::step(&model, 2)));
    requests.push(crate::driver::pass(&model, 1, &[1, 2, 3, 4]));
    requests.push(crate::driver::pass(&model, 3, &[9, 8, 7, 6]));
    requests.push(crate::driver::pass(&model, 4, &[1, 99_999]));
    requests.push(crate::driver::pass(&model, 5, &[5, 5, 5]));
    requests.push(crate::driver::pass(&model, 5, &[5, 5, 5]));
    requests.push(post("optim_step", crate::driver::step(&model, 6)));
    requests.push(post("save_weights", json!({ "model_id": model, "path": "a", "seq_id": 7 })));
    requests.push(post(
        "save_weights_for_sampler",
        json!({ "model_id": model, "seq_id": 8, "sampling_session_seq_id": 0 }),
    ));
    for request in requests {
        script.send(service, request);
        moments.push((service.records.len(), script.answers.len()));
        service.work_once();
        moments.push((service.records.len(), script.answers.len()));
    }
    service.work();
    let path = format!("tinker://{model}/weights/a");
    let prompt = json!({ "chunks": [{ "type": "encoded_text", "tokens": [1, 2] }] });
    for request in [
        post(
            "load_weights",
            json!({ "session_id": session, "model_seq_id": 1, "path": path, "optimizer": true }),
        ),
        post(
            "asample",
            json!({ "sampling_session_id": format!("{session}:sample:0"), "seq_id": 0, "prompt": prompt,
                    "num_samples": 2, "sampling_params": { "max_tokens": 4 } }),
        ),
        crate::driver::pass(&format!("{session}:train:1"), 1, &[3, 3, 3]),
        post("optim_step", crate::driver::step(&model, 9)),
        post("unload_model", json!({ "model_id": model })),
    ] {
        script.send(service, request);
        moments.push((service.records.len(), script.answers.len()));
        service.work_once();
        moments.push((service.records.len(), script.answers.len()));
    }
    service.work();
    moments.push((service.records.len(), script.answers.len()));
    (script, moments)
}

/// Everything that a client can see at the end: all results, the second model's weights, and the log.
fn seen(service: &mut Driven, script: &Script) -> Vec<String> {
    service.work();
    let mut seen = Vec::new();
    for (request, before) in &script.answers {
        let again = crate::driver::read(&service.send(request));
        assert_eq!(again, *before, "{} was answered otherwise before", request.path);
        if let Some(id) = again.1["request_id"].as_str() {
            seen.push(format!("{:?}", service.result(id)));
        }
    }
    let second = script.answers.iter().find_map(|(_, (_, body))| {
        body["model_id"].as_str().filter(|id| id.ends_with(":train:1")).map(str::to_owned)
    });
    seen.push(service.hash(&second.expect("the second model was made"))["state_hash"].to_string());
    // Times differ; what was applied, and in which order for each model, does not.
    let mut applied = service.applied();
    applied.sort();
    seen.push(format!("{applied:?}"));
    seen
}

#[test]
fn a_server_killed_at_any_moment_goes_on_to_the_same_results() {
    let mut undisturbed = Driven::new();
    let (script, moments) = run(&mut undisturbed);
    let expected = seen(&mut undisturbed, &script);
    assert!(moments.len() > 25);
    for (records, answered) in moments {
        let mut service = undisturbed.killed_after(records);
        for (request, before) in &script.answers[..answered] {
            let again = crate::driver::read(&service.send(request));
            assert_eq!(again, *before, "{} after a kill at record {records}", request.path);
        }
        // What the kill prevented is sent now, as a client's journal would.
        for (request, _) in &script.answers[answered..] {
            service.work();
            assert_eq!(service.send(request).status, 200, "{}", request.path);
        }
        assert_eq!(seen(&mut service, &script), expected, "after a kill at record {records}");
    }
}

#[test]
fn a_kill_after_any_record_gives_a_state_that_goes_on() {
    let mut undisturbed = Driven::new();
    let (script, _) = run(&mut undisturbed);
    let expected = seen(&mut undisturbed, &script);
    for records in 0..=undisturbed.records.len() {
        let mut service = undisturbed.killed_after(records);
        let create = script.answers[0].0.clone();
        // Nothing that was not on disk was answered, so ids may only be asked for when their session is there.
        assert_eq!(crate::driver::read(&service.send(&create)), script.answers[0].1);
        for (request, _) in &script.answers {
            service.work();
            service.send(request);
        }
        service.work();
        if records > 0 {
            assert_eq!(seen(&mut service, &script), expected, "after a kill at record {records}");
        }
    }
}

#[test]
fn a_snapshot_at_any_moment_and_the_records_since_are_the_same_state() {
    let mut undisturbed = Driven::new();
    let (script, _) = run(&mut undisturbed);
    let expected = seen(&mut undisturbed, &script);
    let records = undisturbed.records.clone();
    for at in 0..=records.len() {
        let first = undisturbed.killed_after(at);
        let Some(snapshot) = first.core.snapshot() else { panic!("nothing was out at record {at}") };
        let mut second = undisturbed.killed_after(0);
        second.snapshot = snapshot;
        second.records = records[at..].to_vec();
        let mut service = second.killed_after(second.records.len());
        assert_eq!(seen(&mut service, &script), expected, "with a snapshot at record {at}");
    }
}

#[test]
fn a_snapshot_waits_for_a_model_whose_work_is_out() {
    let mut service = Driven::new();
    let (_, model) = service.model();
    service.pass(&model, 1, &[1, 2, 3]);
    let work = service.core.take_work(service.now).expect("there is a pass to do");
    assert!(service.core.snapshot().is_none());
    service.core.pause(true);
    service.pass(&model, 2, &[1, 2, 3]);
    service.core.complete(service.now, work.run(1));
    assert!(service.core.take_work(service.now).is_none(), "paused");
    assert!(service.core.snapshot().is_some());
    service.core.pause(false);
    assert!(service.core.take_work(service.now).is_some());
}

#[test]
fn a_damaged_snapshot_is_refused_and_not_guessed_at() {
    let mut service = Driven::new();
    service.model();
    let snapshot = service.core.snapshot().unwrap();
    for place in [0, 9, snapshot.len() / 2, snapshot.len() - 1] {
        let mut damaged = snapshot.clone();
        damaged[place] ^= 0x10;
        let (settings, bases) = (service.settings.clone(), service.bases.clone());
        let restored = tinkex_sandbox::Core::restore(settings, bases, &damaged, Vec::new(), service.now);
        assert!(restored.is_err(), "a snapshot with byte {place} flipped was taken");
    }
}

#[test]
fn a_session_has_its_whole_timeout_after_a_restart() {
    let mut service = Driven::new();
    let session = service.session();
    let mut back = service.killed_after(service.records.len());
    back.now += Duration::from_secs(3600);
    let (settings, bases) = (back.settings.clone(), back.bases.clone());
    back.core =
        tinkex_sandbox::Core::restore(settings, bases, &back.snapshot, back.records.clone(), back.now)
            .unwrap();
    back.wait(Settings::default().session_timeout / 2);
    assert_eq!(back.post("session_heartbeat", json!({ "session_id": session })).0, 200);
}

#[test]
fn a_session_that_ended_stays_ended_after_a_restart() {
    let mut service = Driven::new();
    let (session, model) = service.model();
    let step = service.step(&model, 1);
    service.wait(Settings::default().session_timeout + Duration::from_secs(1));
    let mut back = service.killed_after(service.records.len());
    assert_eq!(back.post("session_heartbeat", json!({ "session_id": session })).0, 410);
    assert_eq!(back.post("retrieve_future", json!({ "request_id": request_id(&step) })).0, 410);
}

#[test]
fn no_record_holds_a_credential() {
    let mut service = Driven::new();
    let mut request = post("create_session", json!({ "sdk_version": "1" }));
    request.headers.api_key = Some("tml-very-secret".into());
    service.send(&request);
    let mut bytes = service.core.snapshot().unwrap();
    service.records.iter().for_each(|record| tinkex_sandbox::journal::write(record, &mut bytes));
    assert!(!String::from_utf8_lossy(&bytes).contains("very-secret"));
}
