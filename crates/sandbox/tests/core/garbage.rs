//! Requests that are wrong in every way: answered with a 4xx that says why, and the service goes on.

use crate::driver::{Driven, read};
use base64::Engine as _;
use serde_json::{Value, json};
use tinkex_sandbox::message::{Headers, Method, Reply, Request};
use tinkex_sandbox::{LARGEST_BODY, TINY};

/// Requests recorded from the official client.
const RECORDED: &str = include_str!("../../../../tests/wire/requests.jsonl");

/// Enough that each recorded request is bent some hundred times.
const CASES: u64 = 20_000;

/// Sebastiano Vigna's SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

/// The recorded requests, about a session and a model of ours.
fn recorded(session: &str, model: &str) -> Vec<Request> {
    let ours = RECORDED
        .replace("session_f94b42a7", session)
        .replace("model_e95145cf", model)
        .replace("base-model", TINY)
        .replace("sampling_93fe7648", &format!("{session}:sample:0"));
    let request = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        let method = match line["method"].as_str() {
            Some("GET") => Method::Get,
            Some("PUT") => Method::Put,
            Some("DELETE") => Method::Delete,
            _ => Method::Post,
        };
        let content_type = line["headers"]["content-type"].as_str().map(str::to_owned);
        let body = match (line["json"].is_null(), line["b64"].as_str()) {
            (false, _) => line["json"].to_string().into_bytes(),
            (_, Some(text)) => bytes_of(text, model),
            _ => Vec::new(),
        };
        let headers = Headers { api_key: Some("tml-x".into()), content_type, ..Headers::default() };
        let path =
            format!("{}?{}", line["path"].as_str().unwrap(), line["query"].as_str().unwrap_or_default());
        Request { method, path, headers, body: body.into() }
    };
    ours.lines().map(request).collect()
}

/// A recorded protobuf body with our model's id in front: a later field of the same tag wins.
fn bytes_of(text: &str, model: &str) -> Vec<u8> {
    let mut body = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
    body.extend([0x0a, model.len() as u8]);
    body.extend(model.bytes());
    body
}

fn bend(request: &mut Request, random: &mut Random) {
    let mut body = request.body.to_vec();
    for _ in 0..=random.below(4) {
        let place = random.below(body.len());
        match random.below(8) {
            0 if !body.is_empty() => body[place] ^= 1 << random.below(8),
            1 if !body.is_empty() => drop(body.remove(place)),
            2 => body.insert(place.min(body.len()), random.next() as u8),
            3 => body.truncate(place),
            4 if !body.is_empty() => {
                body[place] = [0, 0x7f, 0x80, 0xff, b'"', b'-', b'9', b'['][random.below(8)]
            }
            5 => body.extend_from_within(place.min(body.len())..),
            6 => body.splice(place..place, *b"99999999999999999999").for_each(drop),
            7 => request.path.insert(request.path.len() - random.below(request.path.len()), '%'),
            _ => {}
        }
        body.truncate(200_000);
    }
    request.body = body.into();
}

#[test]
fn bent_requests_get_an_answer_that_says_why_and_the_service_goes_on() {
    let mut service = Driven::new();
    let (session, model) = service.model();
    let originals = recorded(&session, &model);
    assert!(originals.len() > 60);
    let mut random = Random(11);
    let mut seen = std::collections::BTreeMap::new();
    for case in 0..CASES {
        let mut request = originals[random.below(originals.len())].clone();
        if request.path.contains("/finish") {
            continue;
        }
        if case % 8 != 0 {
            bend(&mut request, &mut random);
        }
        if let Reply::Now(response) = service.handle(&request) {
            *seen.entry(response.status).or_insert(0) += 1;
            let (status, body) = read(&response);
            assert!(status == 200 || (400..500).contains(&status), "{status} {body} for {request:?}");
            assert!(
                status == 200 || body["detail"].as_str().is_some_and(|detail| detail.len() > 10),
                "{body}"
            );
        }
        if case % 64 == 0 {
            service.work();
        }
    }
    for status in [200, 404, 409, 422] {
        assert!(seen.get(&status).is_some_and(|count| *count > 50), "{status} was hardly met: {seen:?}");
    }
    let again = service.session();
    assert_eq!(service.post("session_heartbeat", json!({ "session_id": again })).0, 200);
    let back = service.killed_after(service.records.len());
    assert_eq!(back.records.len(), service.records.len(), "and what it wrote down can be read again");
}

#[test]
fn random_bytes_are_refused_on_every_path() {
    let mut service = Driven::new();
    let mut random = Random(5);
    for path in [
        "create_session",
        "create_model",
        "forward_backward",
        "asample",
        "retrieve_future",
        "telemetry",
        "optim_step",
    ] {
        for protobuf in [false, true] {
            for length in [0, 1, 7, 300] {
                let body: Vec<u8> = (0..length).map(|_| random.next() as u8).collect();
                let path = format!("/api/v1/{path}");
                let request = if protobuf {
                    Request::post_protobuf(path, body)
                } else {
                    Request { body: body.into(), ..Request::post(path, &json!({})) }
                };
                let (status, body) = read(&service.send(&request));
                assert!((400..500).contains(&status), "{status} {body}");
            }
        }
    }
}

#[test]
fn json_that_is_deeper_than_any_body_is_refused() {
    let mut service = Driven::new();
    let deep = format!("{{\"sdk_version\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let mut request = Request::post("/api/v1/create_session", &json!({}));
    request.body = deep.into();
    assert_eq!(service.send(&request).status, 422);
}

#[test]
fn a_body_over_the_limit_is_refused() {
    let mut service = Driven::new();
    let mut request = Request::post("/api/v1/create_session", &json!({}));
    request.body = vec![b' '; LARGEST_BODY + 1].into();
    assert_eq!(service.send(&request).status, 413);
}

#[test]
fn a_size_that_is_only_claimed_is_not_believed() {
    let mut service = Driven::new();
    let (_, model) = service.model();
    // A datum that says that it is 2 GiB long, in a message of a few bytes.
    let mut bytes = vec![0x0a, model.len() as u8];
    bytes.extend(model.bytes());
    bytes.extend([0x10, 1, 0x1a, 0xff, 0xff, 0xff, 0xff, 0x07]);
    let (status, body) = read(&service.send(&Request::post_protobuf("/api/v1/forward_backward", bytes)));
    assert_eq!(status, 422, "{body}");
}

#[test]
fn wrong_requests_are_told_what_is_wrong_with_them() {
    let mut service = Driven::new();
    let (session, model) = service.model();
    let unknown = json!({ "session_id": session, "model_seq_id": 9, "base_model": "gpt", "lora_config": {} });
    let (status, body) = service.post("create_model", unknown);
    assert_eq!(status, 400);
    assert!(body["detail"].as_str().unwrap().contains(TINY), "the served models are named: {body}");
    let cases = [
        (service.post("create_model", json!({ "session_id": "session-1", "model_seq_id": 0, "base_model": TINY, "lora_config": {} })), 404, "forgets everything"),
        (service.post("optim_step", json!({ "model_id": "nobody", "seq_id": 1, "adam_params": {} })), 404, "nobody"),
        (service.post("optim_step", json!({ "model_id": model, "seq_id": "one", "adam_params": {} })), 422, "seq_id"),
        (service.post("optim_step", json!({ "model_id": model, "seq_id": 0, "adam_params": {} })), 400, "counts from 1"),
        (service.post("retrieve_future", json!({ "request_id": "7" })), 404, "7"),
        (service.post("create_session", json!({})), 422, "sdk_version"),
        (service.post("nothing/here", json!({})), 404, "no endpoint"),
        (service.post("training_runs", json!({})), 405, "GET"),
        (service.get("training_runs?limit=many"), 422, "limit"),
        (service.post("auth/token", json!({})), 404, "API key itself"),
    ];
    for ((status, body), expected, says) in cases {
        assert_eq!(status, expected, "{body}");
        assert!(body["detail"].as_str().unwrap().contains(says), "{body} should say {says:?}");
    }
}
