//! Responses as the official Python client's own types write and read them.

mod base64;
mod responses;

use serde_json::{Value, json};
use tinkex_protocol::json;
use tinkex_protocol::json::{session, training};

#[test]
fn every_response_is_read_and_written_back_the_same() {
    let golden = responses::golden();
    for entry in golden.iter().filter(|entry| entry.get("json").is_some()) {
        assert_eq!(
            echoless(&responses::rewritten(entry)["json"]),
            echoless(&entry["json"]),
            "{}",
            entry["kind"]
        );
    }
}

/// The client's own types leave the echo of `type` out of some answers, and we write it in all that may have it.
fn echoless(body: &Value) -> Value {
    let mut body = body.clone();
    if let Some(object) = body.as_object_mut().filter(|object| !object.contains_key("queue_state")) {
        object.remove("type");
    }
    body
}

#[test]
fn every_protobuf_response_is_understood_as_the_client_understands_it() {
    for entry in responses::golden().iter().filter(|entry| entry.get("b64").is_some()) {
        let ours = responses::rewritten(entry);
        assert_eq!(ours["understood"], entry["understood"]);
        // What we write of it says the same again.
        assert_eq!(responses::rewritten(&ours)["understood"], entry["understood"]);
    }
}

#[test]
fn a_field_that_a_response_may_leave_out_may_be_null_and_others_are_not_read() {
    let body = json!({
        "model_data": { "model_name": null }, "model_id": "m", "optimizer_config": null, "is_lora": null, "novel": {},
    });
    let info: training::ModelInfo = json::decode(body.to_string().as_bytes()).expect("information");
    assert_eq!(info.optimizer_config, training::OptimizerConfig::adamw());
    assert_eq!(info.is_lora, None);
    let flags: session::Flags = json::decode(br#"{"fwdbwd_max_chunk_len":null,"novel":1}"#).expect("flags");
    assert_eq!(flags, session::Flags::default());
}

#[test]
fn a_type_of_another_request_is_refused() {
    let error =
        json::decode::<session::CreateSessionResponse>(br#"{"session_id":"s","type":"create_model"}"#);
    let error = error.expect_err("another type");
    assert_eq!(
        error.to_string(),
        "type: invalid value: string \"create_model\", expected \"create_session\""
    );
}
