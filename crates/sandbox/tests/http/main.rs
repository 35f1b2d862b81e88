//! The program as its users meet it: over HTTP, killed, terminated, misbehaving on request.

mod server;

use serde_json::{Value, json};
use server::{Folder, Server, binary, parse};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Output;
use tinkex_sandbox::{Bases, NOOP, TINY, replay};

fn session(server: &Server) -> String {
    server.post("create_session", json!({ "sdk_version": "test" }))["session_id"].as_str().unwrap().to_owned()
}

fn model(server: &Server, session: &str, base: &str) -> String {
    let body =
        json!({ "session_id": session, "model_seq_id": 0, "base_model": base, "lora_config": { "rank": 4 } });
    let made = server.post("create_model", body);
    server.result(&made);
    made["model_id"].as_str().unwrap().to_owned()
}

fn pass(model: &str, seq: u64) -> Value {
    let tokens = [seq % 1000, 5, 6, 7];
    let datum = json!({ "model_input": { "chunks": [{ "type": "encoded_text", "tokens": tokens[..3] }] },
                        "loss_fn_inputs": { "target_tokens": { "data": tokens[1..], "dtype": "int64" },
                                            "weights": { "data": [1.0, 1.0, 1.0], "dtype": "float32" } } });
    json!({ "model_id": model, "seq_id": seq, "forward_backward_input": { "data": [datum], "loss_fn": "cross_entropy" } })
}

fn step(model: &str, seq: u64) -> Value {
    json!({ "model_id": model, "seq_id": seq, "adam_params": { "learning_rate": 0.01 } })
}

/// Odd numbers are passes, even ones steps.
fn numbered(model: &str, seq: u64) -> (&'static str, Value) {
    if seq % 2 == 1 { ("forward_backward", pass(model, seq)) } else { ("optim_step", step(model, seq)) }
}

fn refused(flags: &[&str]) -> String {
    let Output { status, stdout, stderr } = binary().args(flags).output().unwrap();
    assert!(!status.success(), "{flags:?} were taken");
    assert_eq!(stdout, b"", "nothing listens");
    String::from_utf8(stderr).unwrap()
}

#[test]
fn a_client_trains_and_samples_over_http() {
    let server = Server::start(&[]);
    let session = session(&server);
    let model = model(&server, &session, TINY);
    let losses: Vec<f64> = (0..10)
        .map(|round| {
            let passed = server.post("forward_backward", pass(&model, 2 * round + 1));
            let stepped = server.post("optim_step", step(&model, 2 * round + 2));
            server.result(&stepped);
            server.result(&passed)["metrics"]["loss:sum"].as_f64().unwrap()
        })
        .collect();
    assert!(losses[9] < losses[0] - 1.0, "{losses:?}");
    let saved = server.post(
        "save_weights_for_sampler",
        json!({ "model_id": model, "seq_id": 21, "sampling_session_seq_id": 0 }),
    );
    let sampler = server.result(&saved)["sampling_session_id"].clone();
    let prompt = json!({ "chunks": [{ "type": "encoded_text", "tokens": [5] }] });
    let asked = server.post("asample", json!({ "sampling_session_id": sampler, "seq_id": 0, "prompt": prompt, "sampling_params": { "max_tokens": 1, "temperature": 0.0 } }));
    let token = server.result(&asked)["sequences"][0]["tokens"][0].as_u64().unwrap();
    assert!([5, 6, 7].contains(&token), "{token} was never a target");
}

#[test]
fn a_server_killed_again_and_again_applies_every_step_once() {
    let folder = Folder::new();
    let mut server = Server::with_data(&folder.0, &["--log-bodies"]);
    let session = session(&server);
    let model = model(&server, &session, TINY);
    const STEPS: u64 = 60;
    let mut answers = Vec::new();
    for seq in 1..=STEPS {
        let (path, body) = numbered(&model, seq);
        answers.push(server.post(path, body));
        if seq % 12 == 0 {
            // In the middle of the work that the last requests began.
            server.kill();
            server = Server::with_data(&folder.0, &["--log-bodies"]);
            for (seq, before) in (1..).zip(&answers) {
                let (path, body) = numbered(&model, seq);
                assert_eq!(server.post(path, body), *before, "number {seq} was forgotten");
            }
        }
    }
    for answer in &answers {
        assert_eq!(server.result(answer)["error"], Value::Null);
    }
    let log = server.send("GET", "/api/v1/sandbox/log", b"").body;
    let log = String::from_utf8(log).unwrap();
    let seqs: Vec<u64> = log
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["seq_id"].as_u64().unwrap())
        .collect();
    assert_eq!(seqs, (0..=STEPS).collect::<Vec<_>>());
    let live = server.get(&format!("sandbox/models/{model}/hash"));
    let replayed = replay(&log, &Bases::shipped().unwrap()).unwrap();
    assert_eq!(live["state_hash"], replayed[0].state_hash);

    let path = folder.0.join("copy.jsonl");
    fs::write(&path, log).unwrap();
    let printed = binary().args(["replay", "--log", path.to_str().unwrap()]).output().unwrap();
    let printed: Value = serde_json::from_slice(&printed.stdout).unwrap();
    assert_eq!(printed["state_hash"], live["state_hash"]);
}

#[test]
fn a_record_torn_by_a_kill_is_cut_off() {
    let folder = Folder::new();
    let server = Server::with_data(&folder.0, &[]);
    let before = session(&server);
    server.kill();
    let log = folder.0.join("log-1");
    let whole = fs::read(&log).unwrap();
    assert!(!whole.is_empty());
    fs::write(&log, [&whole[..], &[200, 0, 0, 0, 1, 2, 3]].concat()).unwrap();
    let server = Server::with_data(&folder.0, &[]);
    server.post("session_heartbeat", json!({ "session_id": before }));
    assert_eq!(fs::read(&log).unwrap(), whole);
    let after = session(&server);
    server.kill();
    let server = Server::with_data(&folder.0, &[]);
    for session in [before, after] {
        server.post("session_heartbeat", json!({ "session_id": session }));
    }
}

#[test]
fn two_servers_do_not_share_a_folder() {
    let folder = Folder::new();
    let _first = Server::with_data(&folder.0, &[]);
    let said = refused(&["--port", "0", "--data", folder.0.to_str().unwrap()]);
    assert!(said.contains("used by another tinkex-sandbox"), "{said}");
}

#[test]
fn a_server_asked_to_end_answers_what_it_holds_and_ends_well() {
    let mut server = Server::start(&[]);
    let session = session(&server);
    let model = model(&server, &session, TINY);
    let waiting = server.post("optim_step", step(&model, 2));
    let mut stream = TcpStream::connect(server.address).unwrap();
    let body = json!({ "request_id": waiting["request_id"] }).to_string();
    write!(stream, "POST /api/v1/retrieve_future HTTP/1.1\r\nHost: x\r\nX-API-Key: tml-x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    // The poll is held once the server has read it; an answer to a later request shows that it has.
    while server.get("sandbox")["polls_held"] != 1 {}
    assert_eq!(server.terminate(), Some(0));
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(parse(&answer).unwrap().json()["type"], "try_again");
}

#[test]
fn a_page_of_any_origin_may_call() {
    let server = Server::start(&[]);
    let asked = server.raw(
        b"OPTIONS /api/v1/forward_backward HTTP/1.1\r\nHost: x\r\nConnection: close\r\nOrigin: https://example.org\r\n\
          Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: content-type,x-api-key,x-tinker-request-type\r\n\
          Access-Control-Request-Private-Network: true\r\n\r\n",
    );
    let allowed = parse(&asked).unwrap();
    assert_eq!(allowed.status, 200);
    for line in [
        "access-control-allow-origin: *",
        "access-control-allow-headers: content-type,x-api-key,x-tinker-request-type",
        "access-control-allow-private-network: true",
        "access-control-max-age: 7200",
    ] {
        assert!(allowed.head.contains(line), "{line} is missing in {}", allowed.head);
    }
    let refused = server.raw(b"GET /api/v1/sessions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nOrigin: https://example.org\r\n\r\n");
    let refused = parse(&refused).unwrap();
    assert_eq!(refused.status, 401);
    assert!(refused.head.contains("access-control-allow-origin: *"), "a page must be able to read why");
}

#[test]
fn every_answer_has_a_length_and_every_error_a_detail() {
    let server = Server::start(&[]);
    for (method, path, body, status) in [
        ("POST", "/api/v1/create_session", &b"{"[..], 422),
        ("POST", "/api/v1/nothing", b"", 404),
        ("PATCH", "/api/v1/sessions", b"", 405),
        ("GET", "/elsewhere", b"", 404),
    ] {
        let answer = server.send(method, path, body);
        assert_eq!(answer.status, status, "{path}");
        assert!(answer.head.contains(&format!("content-length: {}", answer.body.len())), "{}", answer.head);
        assert!(answer.json()["detail"].is_string());
    }
    let claimed = server.raw(b"POST /api/v1/create_session HTTP/1.1\r\nHost: x\r\nX-API-Key: tml-x\r\nConnection: close\r\nContent-Length: 99999999999\r\n\r\n{}");
    assert_eq!(parse(&claimed).unwrap().status, 413);
    server.raw(b"\x00\xff\xfe not http at all\r\n\r\n");
    assert_eq!(server.get("healthz")["status"], "ok");
}

#[test]
fn a_site_is_served_beside_the_api_with_its_types() {
    let folder = Folder::new();
    fs::write(folder.0.join("index.html"), "<title>console</title>").unwrap();
    fs::write(folder.0.join("x.wasm"), b"\0asm").unwrap();
    fs::write(folder.0.join("x.js"), "1").unwrap();
    let server = Server::start(&["--static", folder.0.to_str().unwrap()]);
    for (path, status, kind) in [
        ("/", 200, "text/html"),
        ("/runs/7", 200, "text/html"),
        ("/x.wasm", 200, "application/wasm"),
        ("/x.js", 200, "javascript"),
        ("/missing.wasm", 404, "application/json"),
        ("/assets/missing.js", 404, "application/json"),
        ("/../Cargo.toml", 404, "application/json"),
        ("/api/v1/missing", 404, "application/json"),
    ] {
        let answer = server.send("GET", path, b"");
        assert_eq!(answer.status, status, "{path}");
        assert!(answer.head.contains(kind), "{path} is no {kind}: {}", answer.head);
    }
}

#[test]
fn faults_happen_as_asked() {
    let lost = Server::start(&["--faults", "lose=1"]);
    assert!(lost.try_send("GET", "/api/v1/healthz", b"").is_none());
    let busy = Server::start(&["--faults", "429=1"]);
    assert_eq!(busy.send("GET", "/api/v1/healthz", b"").status, 429);
    let slow = Server::start(&["--faults", "delay=1:30-30"]);
    let begun = std::time::Instant::now();
    slow.get("healthz");
    assert!(begun.elapsed() >= std::time::Duration::from_millis(30));

    // Half of the answers are lost after handling: sending again until an answer comes applies each once.
    let server = Server::start(&["--faults", "seed=4,lose=0.3,500-after=0.2,drop=0.1"]);
    let insist = |path: &str, body: &Value| loop {
        let answer = server.try_send("POST", &format!("/api/v1/{path}"), body.to_string().as_bytes());
        if let Some(answer) = answer.filter(|answer| answer.status == 200) {
            return answer.json();
        }
    };
    let session = insist("create_session", &json!({ "sdk_version": "test" }))["session_id"].clone();
    let made = insist(
        "create_model",
        &json!({ "session_id": session, "model_seq_id": 0, "base_model": TINY, "lora_config": { "rank": 4 } }),
    );
    let model = made["model_id"].as_str().unwrap();
    let mut last = Value::Null;
    for seq in 1..=10 {
        let (path, body) = numbered(model, seq);
        last = insist(path, &body);
    }
    let result = insist("retrieve_future", &json!({ "request_id": last["request_id"] }));
    assert_eq!(result["metrics"]["step"], 5.0, "{result}");
}

#[test]
fn a_server_that_restarts_by_itself_goes_on_with_its_data() {
    let folder = Folder::new();
    let server = Server::with_data(&folder.0, &["--faults", "seed=2,restart=0.15", "--log-bodies"]);
    let insist = |path: &str, body: &Value| loop {
        let answer = server.try_send("POST", &format!("/api/v1/{path}"), body.to_string().as_bytes());
        if let Some(answer) = answer {
            assert_eq!(answer.status, 200, "{}", answer.json());
            if answer.json()["type"] != "try_again" {
                return answer.json();
            }
        }
    };
    let session = insist("create_session", &json!({ "sdk_version": "test" }))["session_id"].clone();
    let made = insist(
        "create_model",
        &json!({ "session_id": session, "model_seq_id": 0, "base_model": TINY, "lora_config": { "rank": 4 } }),
    );
    let model = made["model_id"].as_str().unwrap();
    let mut last = Value::Null;
    for seq in 1..=40 {
        let (path, body) = numbered(model, seq);
        last = insist(path, &body);
    }
    let result = insist("retrieve_future", &json!({ "request_id": last["request_id"] }));
    assert_eq!(result["metrics"]["step"], 20.0, "{result}");
}

#[test]
fn many_requests_to_the_model_that_does_nothing_are_all_answered() {
    let server = Server::start(&[]);
    let session = session(&server);
    let model = model(&server, &session, NOOP);
    let mut last = Value::Null;
    for seq in 1..=300 {
        let (path, body) = numbered(&model, seq);
        last = server.post(path, body);
    }
    assert_eq!(server.result(&last)["error"], Value::Null);
    assert_eq!(server.get("sandbox")["applied"], 301);
}

#[test]
fn wrong_flags_are_told_what_is_wrong() {
    for (flags, says) in [
        (&["--nonsense"][..], "--nonsense"),
        (&["--port", "high"], "high"),
        (&["--port", "70000"], "70000"),
        (&["--host", "localhost.invalid"], "localhost.invalid"),
        (&["--session-timeout", "-1"], "-1"),
        (&["--flag", "novalue"], "NAME=VALUE"),
        (&["--faults", "explode=1"], "not a fault"),
        (&["--static", "/no/such/folder"], "no such folder"),
        (&["replay"], "--log"),
        (&["replay", "--log", "/no/such/file"], "/no/such/file"),
    ] {
        let said = refused(flags);
        assert!(said.contains(says), "{flags:?}: {said}");
    }
}
