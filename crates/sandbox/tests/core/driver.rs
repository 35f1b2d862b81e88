//! Drives a core as a server does, on a virtual clock and with a disk that is a list.

use serde_json::{Value, json};
use std::time::Duration;
use tinkex_protocol::{
    Datum, EncodedForwardBackward, ForwardBackwardOutput, LossCall, ModelInput, SampleResponse, Tensor,
};
use tinkex_sandbox::journal::Record;
use tinkex_sandbox::message::{HoldId, Reply, Request, Response};
use tinkex_sandbox::{Bases, Core, Settings, TINY};

pub struct Driven {
    pub core: Core,
    pub now: Duration,
    /// What is on disk.
    pub snapshot: Vec<u8>,
    pub records: Vec<Record>,
    pub settings: Settings,
    pub bases: Bases,
}

/// An answer: its status, and its body as JSON.
pub type Answer = (u16, Value);

impl Driven {
    pub fn new() -> Self {
        Self::with(Settings::default())
    }

    pub fn with(settings: Settings) -> Self {
        let bases = Bases::shipped().unwrap();
        let core = Core::new(settings.clone(), bases.clone(), [7; 32]);
        let snapshot = core.snapshot().unwrap();
        Self { core, now: Duration::from_secs(1_800_000_000), snapshot, records: Vec::new(), settings, bases }
    }

    /// What a server becomes that was killed when `records` were on disk.
    pub fn killed_after(&self, records: usize) -> Self {
        let kept = self.records[..records].to_vec();
        let core =
            Core::restore(self.settings.clone(), self.bases.clone(), &self.snapshot, kept.clone(), self.now);
        Self {
            core: core.unwrap_or_else(|why| panic!("after {records} records: {why}")),
            now: self.now,
            snapshot: self.snapshot.clone(),
            records: kept,
            settings: self.settings.clone(),
            bases: self.bases.clone(),
        }
    }

    pub fn handle(&mut self, request: &Request) -> Reply {
        self.now += Duration::from_millis(1);
        let reply = self.core.handle(self.now, request);
        self.records.extend(self.core.records());
        reply
    }

    /// The answer to a request that must not be held.
    pub fn send(&mut self, request: &Request) -> Response {
        match self.handle(request) {
            Reply::Now(response) => response,
            Reply::Held(..) => panic!("{} was held", request.path),
        }
    }

    pub fn get(&mut self, path: &str) -> Answer {
        read(&self.send(&Request::get(format!("/api/v1/{path}"))))
    }

    pub fn post(&mut self, path: &str, body: Value) -> Answer {
        read(&self.send(&Request::post(format!("/api/v1/{path}"), &body)))
    }

    /// A poll that is answered later.
    pub fn hold(&mut self, request: &str) -> HoldId {
        let body = json!({ "request_id": request, "allow_metadata_only": true });
        match self.handle(&Request::post("/api/v1/retrieve_future", &body)) {
            Reply::Held(id, _) => id,
            Reply::Now(response) => panic!("answered at once: {:?}", read(&response)),
        }
    }

    /// Does one piece of work, if there is one.
    pub fn work_once(&mut self) -> bool {
        let work = self.core.take_work(self.now);
        let worked = work.is_some();
        if let Some(work) = work {
            self.now += Duration::from_millis(1);
            self.core.complete(self.now, work.run(1));
        }
        self.records.extend(self.core.records());
        worked
    }

    pub fn work(&mut self) {
        while self.work_once() {}
    }

    pub fn wait(&mut self, time: Duration) {
        self.now += time;
        self.core.tick(self.now);
        self.records.extend(self.core.records());
    }

    /// Works until nothing is left, and fetches a result.
    pub fn result(&mut self, request: &str) -> Response {
        self.work();
        let body = json!({ "request_id": request, "allow_metadata_only": false });
        self.send(&Request::post("/api/v1/retrieve_future", &body))
    }

    pub fn json_result(&mut self, submitted: &Answer) -> Value {
        let response = self.result(request_id(submitted));
        assert_eq!(response.status, 200, "{:?}", response.body);
        read(&response).1
    }

    pub fn passed(&mut self, submitted: &Answer) -> ForwardBackwardOutput {
        let response = self.result(request_id(submitted));
        assert_eq!(response.content_type, "application/x-protobuf", "{:?}", response.body);
        ForwardBackwardOutput::decode(&response.body, 1000).unwrap()
    }

    pub fn sampled(&mut self, submitted: &Answer) -> SampleResponse {
        let response = self.result(request_id(submitted));
        assert_eq!(response.content_type, "application/x-protobuf", "{:?}", response.body);
        SampleResponse::decode(&response.body).unwrap()
    }

    pub fn session(&mut self) -> String {
        let (status, body) = self.post("create_session", json!({ "sdk_version": "test" }));
        assert_eq!(status, 200, "{body}");
        text(&body, "session_id")
    }

    /// A session and a model in it, made.
    pub fn model(&mut self) -> (String, String) {
        let session = self.session();
        let body = json!({ "session_id": session, "model_seq_id": 0, "base_model": TINY,
                           "lora_config": { "rank": 4, "seed": 1 } });
        let submitted = self.post("create_model", body);
        let made = self.json_result(&submitted);
        (session, text(&made, "model_id"))
    }

    pub fn pass(&mut self, model: &str, seq: u64, tokens: &[i64]) -> Answer {
        read(&self.send(&pass(model, seq, tokens)))
    }

    pub fn step(&mut self, model: &str, seq: u64) -> Answer {
        self.post("optim_step", step(model, seq))
    }

    /// The hashes of a model with nothing to do.
    pub fn hash(&mut self, model: &str) -> Value {
        self.work();
        let (status, body) = self.get(&format!("sandbox/models/{model}/hash"));
        assert_eq!(status, 200, "{body}");
        body
    }

    /// The log of what was applied: model, number and kind.
    pub fn applied(&mut self) -> Vec<(String, u64, String)> {
        let entry =
            |line: Value| (text(&line, "model_id"), line["seq_id"].as_u64().unwrap(), text(&line, "kind"));
        self.log().lines().map(|line| entry(serde_json::from_str(line).unwrap())).collect()
    }

    pub fn log(&mut self) -> String {
        let log = self.send(&Request::get("/api/v1/sandbox/log"));
        String::from_utf8(log.body.to_vec()).unwrap()
    }
}

pub fn read(response: &Response) -> Answer {
    (response.status, serde_json::from_slice(&response.body).unwrap_or(Value::Null))
}

pub fn text(body: &Value, name: &str) -> String {
    body[name].as_str().unwrap_or_else(|| panic!("no {name} in {body}")).to_owned()
}

pub fn request_id(submitted: &Answer) -> &str {
    assert_eq!(submitted.0, 200, "{}", submitted.1);
    submitted.1["request_id"].as_str().unwrap()
}

/// One datum that predicts each token from those before.
pub fn datum(tokens: &[i64]) -> Datum {
    let input: Vec<i32> = tokens[..tokens.len() - 1].iter().map(|token| *token as i32).collect();
    let targets = &tokens[1..];
    let inputs = [
        ("target_tokens".to_owned(), Tensor::integers(targets)),
        ("weights".to_owned(), Tensor::floats(&vec![1.0; targets.len()])),
    ];
    Datum {
        model_input: ModelInput::from_tokens(input),
        loss_fn_inputs: tinkex_protocol::Map::from_iter(inputs),
        ..Datum::default()
    }
}

pub fn pass_of(model: &str, seq: u64, data: Vec<Datum>, call: &LossCall) -> Request {
    let encoded = EncodedForwardBackward::new(data, call).unwrap();
    let bytes = encoded.with_header(&model.into(), seq.into()).unwrap();
    Request::post_protobuf("/api/v1/forward_backward", bytes)
}

pub fn pass(model: &str, seq: u64, tokens: &[i64]) -> Request {
    pass_of(model, seq, vec![datum(tokens)], &LossCall::new("cross_entropy"))
}

pub fn step(model: &str, seq: u64) -> Value {
    json!({ "model_id": model, "seq_id": seq, "type": "optim_step", "adam_params": { "learning_rate": 0.01 } })
}
