//! Sessions, and polls that are held: what time does.

use crate::driver::{Driven, read, request_id};
use serde_json::{Value, json};
use std::time::Duration;
use tinkex_sandbox::message::{Headers, Request};
use tinkex_sandbox::{Settings, TINY};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_session_without_heartbeats_ends_and_all_that_is_its_own_answers_410() {
    let mut service = Driven::new();
    let (session, model) = service.model();
    let saved = service.post("save_weights", json!({ "model_id": model, "path": "kept", "seq_id": 1 }));
    service.work();
    let held = service.step(&model, 3);
    service.hold(request_id(&held));
    for _ in 0..30 {
        service.wait(10 * SECOND);
        assert_eq!(service.post("session_heartbeat", json!({ "session_id": session })).0, 200);
    }
    assert_eq!(service.core.released().len(), 1, "the poll was held for 30 s");

    service.wait(Settings::default().session_timeout + SECOND);
    let request = request_id(&saved).to_owned();
    for (status, body) in [
        service.post("session_heartbeat", json!({ "session_id": session })),
        service.post("retrieve_future", json!({ "request_id": request })),
        service.post("get_info", json!({ "model_id": model })),
        service.step(&model, 2),
        service.post(
            "create_model",
            json!({ "session_id": session, "model_seq_id": 1, "base_model": TINY, "lora_config": {} }),
        ),
        service.post(
            "create_sampling_session",
            json!({ "session_id": session, "sampling_session_seq_id": 0, "base_model": TINY }),
        ),
        service.get(&format!("samplers/{session}:sample:0")),
    ] {
        assert_eq!(status, 410, "{body}");
        assert!(body["detail"].as_str().unwrap().contains("heartbeats stayed away"), "{body}");
    }

    let path = format!("tinker://{model}/weights/kept");
    assert_eq!(service.post("weights_info", json!({ "tinker_path": path })).0, 200, "checkpoints stay");
    let next = service.session();
    let loaded = json!({ "session_id": next, "model_seq_id": 0, "path": path, "optimizer": true });
    let loaded = service.post("load_weights", loaded);
    assert_eq!(service.json_result(&loaded)["model_id"], loaded.1["model_id"]);
}

#[test]
fn a_session_is_over_for_the_next_request_even_if_nobody_let_time_pass() {
    let mut service = Driven::new();
    let session = service.session();
    service.now += Settings::default().session_timeout + SECOND;
    assert_eq!(service.post("session_heartbeat", json!({ "session_id": session })).0, 410);
}

#[test]
fn a_poll_that_is_held_is_answered_410_when_its_session_ends() {
    let mut service = Driven::with(Settings { session_timeout: 5 * SECOND, ..Settings::default() });
    let (_, model) = service.model();
    let step = service.step(&model, 2);
    let held = service.hold(request_id(&step));
    service.wait(6 * SECOND);
    let (id, response) = service.core.released().remove(0);
    assert_eq!((id, response.status), (held, 410));
}

#[test]
fn a_finished_session_stays_finished_and_may_be_finished_again() {
    let mut service = Driven::new();
    let (session, model) = service.model();
    let finish = json!({ "reason": { "type": "success" }, "detail": null });
    assert_eq!(service.post(&format!("sessions/{session}/finish"), finish.clone()).0, 200);
    assert_eq!(service.post(&format!("sessions/{session}/finish"), finish).0, 200);
    let (status, body) = service.step(&model, 1);
    assert_eq!(status, 410);
    assert!(body["detail"].as_str().unwrap().contains("finished by its client"), "{body}");
    assert_eq!(service.post("session_heartbeat", json!({ "session_id": session })).0, 410);
}

#[test]
fn a_held_poll_is_answered_as_soon_as_the_result_is_there() {
    let mut service = Driven::new();
    let (_, model) = service.model();
    let passed = service.pass(&model, 1, &[1, 2, 3]);
    let held = service.hold(request_id(&passed));
    assert!(service.work_once());
    let (id, response) = service.core.released().remove(0);
    assert_eq!((id, response.status), (held, 200));
    assert_eq!(response.content_type, "application/x-protobuf");
}

#[test]
fn a_held_poll_says_try_again_at_its_deadline_and_not_before() {
    let mut service = Driven::new();
    let (_, model) = service.model();
    let step = service.step(&model, 2);
    service.hold(request_id(&step));
    let deadline = service.core.next_deadline().unwrap();
    service.wait(Settings::default().hold - Duration::from_millis(10));
    assert_eq!(service.core.released(), []);
    assert!(service.now < deadline);
    service.now = deadline;
    service.wait(Duration::ZERO);
    let (_, response) = service.core.released().remove(0);
    assert_eq!(read(&response).1["type"], "try_again");
}

#[test]
fn a_poll_that_was_let_go_is_never_answered() {
    let mut service = Driven::new();
    let (_, model) = service.model();
    let passed = service.pass(&model, 1, &[1, 2, 3]);
    let held = service.hold(request_id(&passed));
    service.core.let_go(held);
    service.work();
    assert_eq!(service.core.released(), []);
}

#[test]
fn a_result_can_be_fetched_again_for_a_while_and_is_gone_then() {
    let mut service = Driven::new();
    let (session, model) = service.model();
    let passed = service.pass(&model, 1, &[1, 2, 3]);
    let request = request_id(&passed).to_owned();
    let first = service.result(&request);
    assert_eq!(service.result(&request), first);
    for _ in 0..70 {
        service.post("session_heartbeat", json!({ "session_id": session }));
        service.wait(10 * SECOND);
    }
    let gone = service.result(&request);
    assert_eq!(gone.status, 410);
    assert!(read(&gone).1["detail"].as_str().unwrap().contains("no longer kept"));
    assert_eq!(service.pass(&model, 1, &[1, 2, 3]), passed, "its number still names it");
}

#[test]
fn a_result_that_nobody_fetched_is_kept_as_long_as_its_session() {
    let mut service = Driven::new();
    let (session, model) = service.model();
    let passed = service.pass(&model, 1, &[1, 2, 3]);
    service.work();
    for _ in 0..1000 {
        service.post("session_heartbeat", json!({ "session_id": session }));
        service.wait(10 * SECOND);
    }
    assert_eq!(service.result(request_id(&passed)).status, 200);
}

#[test]
fn a_large_result_is_announced_to_those_who_allow_it() {
    let mut service = Driven::with(Settings { announce_above: 10, ..Settings::default() });
    let (_, model) = service.model();
    let passed = service.pass(&model, 1, &[1, 2, 3]);
    service.work();
    let ask = |only| json!({ "request_id": request_id(&passed), "allow_metadata_only": only });
    let (_, announced) = service.post("retrieve_future", ask(true));
    assert_eq!(announced["status"], "complete_metadata");
    let whole = service.send(&Request::post("/api/v1/retrieve_future", &ask(false)));
    assert_eq!(announced["response_payload_size"], whole.body.len());
}

#[test]
fn creating_a_session_again_with_its_key_gives_the_same_session() {
    let mut service = Driven::new();
    let create = |key: &str, name: &str| {
        let mut request =
            Request::post("/api/v1/create_session", &json!({ "sdk_version": "1", "display_name": name }));
        request.headers.idempotency_key = Some(key.into());
        request
    };
    let first = read(&service.send(&create("a", "one")));
    assert_eq!(read(&service.send(&create("a", "one"))), first);
    assert_ne!(read(&service.send(&create("b", "one"))), first);
    assert_eq!(service.send(&create("a", "two")).status, 409);
}

#[test]
fn only_keys_that_begin_with_tml_are_let_in() {
    let mut service = Driven::new();
    for (key, says) in [(None, "no API key"), (Some("eyJ0"), "begin with"), (Some(""), "begin with")] {
        let mut request = Request::get("/api/v1/sessions");
        request.headers = Headers { api_key: key.map(str::to_owned), ..Headers::default() };
        let (status, body) = read(&service.send(&request));
        assert_eq!(status, 401);
        assert!(body["detail"].as_str().unwrap().contains(says), "{body}");
    }
}

#[test]
fn two_servers_have_no_id_in_common() {
    let bases = tinkex_sandbox::Bases::shipped().unwrap();
    let session = |seed: [u8; 32]| {
        let mut core = tinkex_sandbox::Core::new(Settings::default(), bases.clone(), seed);
        let request = Request::post("/api/v1/create_session", &json!({ "sdk_version": "1" }));
        match core.handle(SECOND, &request) {
            tinkex_sandbox::message::Reply::Now(response) => read(&response).1["session_id"].to_string(),
            tinkex_sandbox::message::Reply::Held(..) => panic!("held"),
        }
    };
    assert_ne!(session([1; 32]), session([2; 32]));
    assert_eq!(session([1; 32]), session([1; 32]));
}

#[test]
fn telemetry_can_be_looked_at_the_latest_thousand_batches_as_they_came() {
    let mut service = Driven::new();
    let batch = |number: u64| {
        json!({
            "events": [{
                "event": "GENERIC_EVENT", "event_id": "e", "event_session_index": number, "severity": "INFO",
                "timestamp": "2026-11-26T00:00:00.000000Z", "event_name": "n", "event_data": { "count": 1 },
            }],
            "platform": "p", "sdk_version": "v", "session_id": "s", "process_uuid": "u",
        })
    };
    for number in 0..1_001 {
        assert_eq!(service.post("telemetry", batch(number)), (200, json!({ "status": "accepted" })));
    }
    assert_eq!(service.post("telemetry", json!({ "events": [] })).0, 422, "what is no batch is refused");
    let told = service.send(&Request::get("/api/v1/sandbox/telemetry"));
    let lines: Vec<Value> = told
        .body
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    assert_eq!((lines.len(), &lines[0], &lines[999]), (1_000, &batch(1), &batch(1_000)));
}
