//! Reading and managing: runs, checkpoints, sessions, and what a model may be asked to be.

use crate::driver::{Driven, text};
use serde_json::{Value, json};
use std::time::Duration;
use tinkex_protocol::json::managing::{
    Checkpoint, CheckpointsResponse, SessionResponse, SessionsResponse, TrainingRun, TrainingRunsResponse,
    WeightsInfoResponse,
};
use tinkex_protocol::json::session::{Flags, ServerCapabilities};
use tinkex_protocol::json::training::ModelInfo;
use tinkex_sandbox::message::{Method, Request};
use tinkex_sandbox::{Settings, TINY};

/// Reads an answer as the client does.
fn typed<T: serde::de::DeserializeOwned>((status, body): (u16, Value)) -> T {
    assert_eq!(status, 200, "{body}");
    serde_json::from_value(body).unwrap()
}

impl Driven {
    fn save(&mut self, model: &str, seq: u64, name: &str, more: Value) -> Value {
        let mut body = json!({ "model_id": model, "path": name, "seq_id": seq });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let saved = self.post("save_weights", body);
        self.json_result(&saved)
    }

    fn manage(&mut self, method: Method, path: &str, body: Value) -> (u16, Value) {
        let mut request = Request::post(format!("/api/v1/{path}"), &body);
        request.method = method;
        crate::driver::read(&self.send(&request))
    }

    fn names(&mut self, path: &str) -> Vec<String> {
        let found: CheckpointsResponse = typed(self.get(path));
        found.checkpoints.into_iter().map(|checkpoint: Checkpoint| checkpoint.checkpoint_id).collect()
    }
}

#[test]
fn runs_sessions_and_checkpoints_are_listed_newest_first_and_in_pages() {
    let mut service = Driven::new();
    let (session, model) = service.model();
    for number in 1..5 {
        let lora = json!({ "rank": 4 });
        let body = json!({ "session_id": session, "model_seq_id": number, "base_model": TINY, "lora_config": lora, "user_metadata": { "n": number.to_string() } });
        service.post("create_model", body);
    }
    service.work();
    for (seq, name) in [(1, "a"), (2, "b"), (3, "c")] {
        service.save(&model, seq, name, json!({}));
    }
    let page: TrainingRunsResponse = typed(service.get("training_runs?limit=2&offset=1"));
    let ids: Vec<_> = page.training_runs.iter().map(|run| run.training_run_id.as_str().to_owned()).collect();
    assert_eq!(ids, [3, 2].map(|number| format!("{session}:train:{number}")));
    assert_eq!((page.cursor.offset, page.cursor.limit, page.cursor.total_count), (1, 2, 5));
    let run: TrainingRun = typed(service.get(&format!("training_runs/{model}?access_scope=owned")));
    assert_eq!(run.last_checkpoint.unwrap().checkpoint_id, "weights/c");
    assert_eq!(run.lora_rank, Some(4));
    assert_eq!(service.names("checkpoints?limit=2"), ["weights/c", "weights/b"]);
    assert_eq!(
        service.names(&format!("training_runs/{model}/checkpoints")),
        ["weights/c", "weights/b", "weights/a"]
    );
    let sessions: SessionsResponse = typed(service.get("sessions"));
    assert_eq!(sessions.sessions.len(), 1);
    let shown: SessionResponse = typed(service.get(&format!("sessions/{session}")));
    assert_eq!(shown.training_run_ids.len(), 5);
    let escaped = model.replace(':', "%3A");
    assert_eq!(service.get(&format!("training_runs/{escaped}")).0, 200);
}

#[test]
fn a_checkpoint_is_published_given_a_time_to_live_and_deleted() {
    let mut service = Driven::new();
    let (_, model) = service.model();
    let path = text(&service.save(&model, 1, "a", json!({ "user_metadata": { "k": "v" } })), "path");
    let at = format!("training_runs/{model}/checkpoints/weights/a");
    let shown = |service: &mut Driven| {
        let found: CheckpointsResponse = typed(service.get("checkpoints"));
        found.checkpoints.into_iter().next().unwrap()
    };
    assert_eq!(shown(&mut service).user_metadata.unwrap()["k"], "v");
    assert_eq!(service.manage(Method::Post, &format!("{at}/publish"), Value::Null).0, 200);
    assert!(shown(&mut service).public);
    assert_eq!(service.manage(Method::Delete, &format!("{at}/publish"), Value::Null).0, 200);
    assert!(!shown(&mut service).public);
    assert_eq!(service.manage(Method::Put, &format!("{at}/ttl"), json!({ "ttl_seconds": 60 })).0, 422);
    assert_eq!(service.manage(Method::Put, &format!("{at}/ttl"), json!({ "ttl_seconds": 7200 })).0, 200);
    assert!(shown(&mut service).expires_at.is_some());
    assert_eq!(service.manage(Method::Put, &format!("{at}/ttl"), json!({ "ttl_seconds": null })).0, 200);
    assert_eq!(shown(&mut service).expires_at, None);
    let info: WeightsInfoResponse = typed(service.post("weights_info", json!({ "tinker_path": path })));
    assert_eq!((info.base_model.as_str(), info.lora_rank), (TINY, Some(4)));
    assert_eq!(service.manage(Method::Delete, &at, Value::Null).0, 200);
    assert_eq!(service.manage(Method::Delete, &at, Value::Null).0, 404);
    assert_eq!(service.post("weights_info", json!({ "tinker_path": path })).0, 404);
}

#[test]
fn a_checkpoint_expires() {
    let mut service = Driven::new();
    let (_, model) = service.model();
    let failed = service.save(&model, 1, "soon", json!({ "ttl_seconds": 10 }));
    assert!(failed["error"].as_str().unwrap().contains("between 3600"), "{failed}");
    let path = text(&service.save(&model, 2, "later", json!({ "ttl_seconds": 3600 })), "path");
    service.wait(Duration::from_secs(3601));
    let (status, body) = service.post("weights_info", json!({ "tinker_path": path }));
    assert_eq!(status, 404);
    assert!(body["detail"].as_str().unwrap().contains("expired"), "{body}");
    assert_eq!(service.names("checkpoints"), [""; 0]);
}

#[test]
fn a_name_is_saved_under_once_unless_overwriting() {
    let mut service = Driven::new();
    let (_, model) = service.model();
    service.save(&model, 1, "a", json!({ "user_metadata": { "k": "v", "l": "w" } }));
    let failed = service.save(&model, 2, "a", json!({}));
    assert!(failed["error"].as_str().unwrap().contains("overwrite"), "{failed}");
    service.save(&model, 3, "a", json!({ "overwrite": true, "user_metadata": { "k": "x" } }));
    let found: CheckpointsResponse = typed(service.get("checkpoints"));
    assert_eq!(found.checkpoints.len(), 1);
    assert_eq!(found.checkpoints[0].user_metadata.as_ref().unwrap().len(), 1, "all metadata are replaced");
    let failed = service.save(&model, 4, "a/b", json!({}));
    assert!(failed["error"].as_str().unwrap().contains("slash"), "{failed}");
}

#[test]
fn a_model_from_a_checkpoint_goes_on_with_the_optimizer_or_without() {
    let mut service = Driven::new();
    let (session, model) = service.model();
    service.pass(&model, 1, &[1, 2, 3]);
    service.step(&model, 2);
    let path = text(&service.save(&model, 3, "a", json!({})), "path");
    let from = |service: &mut Driven, number: u64, optimizer: bool| {
        let body =
            json!({ "session_id": session, "model_seq_id": number, "path": path, "optimizer": optimizer });
        let made = service.post("load_weights", body);
        service.json_result(&made);
        text(&made.1, "model_id")
    };
    let (with, without) = (from(&mut service, 1, true), from(&mut service, 2, false));
    let original = service.hash(&model);
    let (with, without) = (service.hash(&with), service.hash(&without));
    assert_eq!(
        (&with["weights_hash"], &with["state_hash"]),
        (&original["weights_hash"], &original["state_hash"])
    );
    assert_eq!(without["weights_hash"], original["weights_hash"]);
    assert_eq!((&with["steps"], &without["steps"]), (&json!(1), &json!(0)));

    service.pass(&model, 4, &[5, 6, 7]);
    service.step(&model, 5);
    assert_ne!(service.hash(&model)["weights_hash"], original["weights_hash"]);
    let live = service
        .post("load_weights", json!({ "model_id": model, "seq_id": 6, "path": path, "optimizer": true }));
    assert_eq!(service.json_result(&live)["path"], path.as_str());
    assert_eq!(service.hash(&model)["state_hash"], original["state_hash"]);
}

#[test]
fn a_model_that_cannot_be_made_says_why_and_so_does_all_that_was_asked_of_it() {
    let mut service = Driven::new();
    let session = service.session();
    let lora = json!({ "rank": 4, "train_mlp": false, "train_attn": false, "train_unembed": false });
    let cases = [
        (json!({ "rank": 0 }), json!({ "type": "adamw" }), "rank"),
        (lora, json!({ "type": "adamw" }), "trains nothing"),
        (json!({ "rank": 4 }), json!({ "type": "dimuon", "version": 1 }), "Adam only"),
    ];
    for (number, (lora, optimizer, says)) in cases.into_iter().enumerate() {
        let body = json!({ "session_id": session, "model_seq_id": number, "base_model": TINY, "lora_config": lora, "optimizer_config": optimizer });
        let made = service.post("create_model", body);
        let model = text(&made.1, "model_id");
        let step = service.step(&model, 1);
        for submitted in [made, step] {
            let failed = service.json_result(&submitted);
            assert_eq!(failed["category"], "user");
            assert!(failed["error"].as_str().unwrap().contains(says), "{failed} should say {says:?}");
        }
    }
}

#[test]
fn an_unloaded_model_takes_nothing_new_and_still_knows_what_it_took() {
    let mut service = Driven::new();
    let (_, model) = service.model();
    let step = service.step(&model, 1);
    let stranded = service.step(&model, 3);
    let unload = service.post("unload_model", json!({ "model_id": model }));
    assert_eq!(service.json_result(&unload)["model_id"], model.as_str());
    assert_eq!(service.post("unload_model", json!({ "model_id": model })), unload);
    assert_eq!(service.json_result(&step)["metrics"]["step"], 1.0);
    assert_eq!(service.step(&model, 1), step);
    assert!(service.json_result(&stranded)["error"].as_str().unwrap().contains("unloaded"));
    assert_eq!(service.step(&model, 2).0, 410);
}

#[test]
fn what_is_not_offered_fails_as_a_result_and_uses_its_number() {
    let mut service = Driven::new();
    let (session, model) = service.model();
    let external =
        service.post("save_weights_external", json!({ "model_id": model, "path": "x", "seq_id": 1 }));
    let dimuon = service.post("optim_step", json!({ "model_id": model, "seq_id": 2, "optimizer_params": { "type": "dimuon", "learning_rate": 0.1 } }));
    let loss = json!({ "session_id": session, "custom_loss_seq_id": 0, "name": "l", "inputs": [], "graph": { "format": 1, "nodes": [] } });
    let loss = service.post("create_custom_loss", loss);
    for submitted in [external, dimuon, loss] {
        assert_eq!(service.json_result(&submitted)["category"], "user");
    }
    let step = service.step(&model, 3);
    assert_eq!(service.json_result(&step)["metrics"]["step"], 1.0);
}

#[test]
fn the_service_says_what_it_serves_and_flags_can_be_set() {
    let flags =
        json!({ "parallel_fwdbwd_chunks": false, "fwdbwd_max_chunk_len": 7 }).as_object().unwrap().clone();
    let mut service = Driven::with(Settings { flags, ..Settings::default() });
    let served: ServerCapabilities = typed(service.get("get_server_capabilities"));
    assert_eq!(served.supported_models.len(), 3);
    let flags: Flags = typed(service.post("client/config", json!({ "sdk_version": "1" })));
    assert_eq!((flags.parallel_fwdbwd_chunks, flags.fwdbwd_max_chunk_len), (false, 7));
    assert_eq!(flags.fwdbwd_max_chunk_bytes_count, 5_000_000);
    let (_, model) = service.model();
    let info: ModelInfo = typed(service.post("get_info", json!({ "model_id": model })));
    assert_eq!(info.model_data.model_name.as_deref(), Some(TINY));
}

#[test]
fn an_old_client_may_speak_json_and_gets_the_same_numbers() {
    let mut service = Driven::new();
    let (_, model) = service.model();
    let (_, other) = service.model();
    let datum = crate::driver::datum(&[1, 2, 3, 4]);
    let input = json!({ "data": [datum], "loss_fn": "cross_entropy" });
    let old = service
        .post("forward_backward", json!({ "forward_backward_input": input, "model_id": model, "seq_id": 1 }));
    let forward = service.post("forward", json!({ "forward_input": input, "model_id": model, "seq_id": 2 }));
    let new = service.pass(&other, 1, &[1, 2, 3, 4]);
    let protobuf = service.passed(&new);
    for submitted in [old, forward] {
        service.work();
        let mut poll =
            Request::post("/api/v1/retrieve_future", &json!({ "request_id": submitted.1["request_id"] }));
        poll.headers.accept = Some("application/json".into());
        let answered: tinkex_protocol::ForwardBackwardOutput =
            typed(crate::driver::read(&service.send(&poll)));
        assert_eq!(answered, protobuf);
    }
    assert_eq!(service.hash(&model)["state_hash"], service.hash(&other)["state_hash"]);
}
