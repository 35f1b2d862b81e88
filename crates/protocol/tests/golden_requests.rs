//! The requests that the official Python client was recorded sending: each is read into its type and written back to the
//! same value, and protobuf to the same bytes.

use prost::Message;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use tinkex_protocol::json::{self, futures, managing, sampling, session, telemetry, training};
use tinkex_protocol::{EncodedForwardBackward, ForwardBackward, proto};

mod base64;

fn recorded() -> Vec<Value> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/wire/requests.jsonl");
    let text = std::fs::read_to_string(file).expect("the recordings");
    text.lines().map(|line| serde_json::from_str(line).expect("a recording")).collect()
}

fn round<T: Serialize + DeserializeOwned>(body: &Value) -> Value {
    let read: T = json::decode(body.to_string().as_bytes()).expect("a body of this type");
    let written = json::encode(&read);
    // The client's own writer gives the same bytes.
    let print = |number: f64| serde_json::to_string(&number).expect("a number can be written");
    assert_eq!(String::from_utf8_lossy(&json::write(&read, print)), String::from_utf8_lossy(&written));
    serde_json::from_slice(&written).expect("JSON")
}

fn round_by_path(path: &str, body: &Value) -> Value {
    match path.strip_prefix("/api/v1/").expect("the API") {
        "create_session" => round::<session::CreateSession>(body),
        "session_heartbeat" => round::<session::SessionHeartbeat>(body),
        "create_sampling_session" => round::<session::CreateSamplingSession>(body),
        "create_model" => round::<training::CreateModel>(body),
        "get_info" => round::<training::GetInfo>(body),
        "optim_step" => round::<training::OptimStep>(body),
        "save_weights" => round::<training::SaveWeights>(body),
        "save_weights_for_sampler" => round::<training::SaveWeightsForSampler>(body),
        "load_weights" => round::<training::LoadWeights>(body),
        "asample" => round::<sampling::Sample>(body),
        "retrieve_future" => round::<futures::RetrieveFuture>(body),
        "telemetry" => round::<telemetry::TelemetryBatch>(body),
        "weights_info" => round::<managing::WeightsInfo>(body),
        other => panic!("a recording of {other}, which no type stands for"),
    }
}

#[test]
fn every_recorded_json_body_is_read_and_written_back_the_same() {
    let mut bodies = 0;
    for request in recorded() {
        if let Some(body) = request.get("json") {
            let path = request["path"].as_str().expect("a path");
            assert_eq!(round_by_path(path, body), *body, "{path}");
            bodies += 1;
        }
    }
    assert_eq!(bodies, 42, "recordings with a JSON body");
}

#[test]
fn every_recorded_protobuf_body_is_what_the_recording_says_and_is_written_back_byte_for_byte() {
    let mut bodies = 0;
    for request in recorded() {
        let Some(text) = request.get("b64") else { continue };
        let bytes = base64::decode(text.as_str().expect("base64"));
        let wire: proto::ForwardBackwardRequest = proto::decode("request", &bytes).expect("a request");
        assert_eq!(as_json(&wire), request["proto"]);
        assert_eq!(wire.encode_to_vec(), bytes);

        let checked = ForwardBackward::decode(&bytes).expect("a sound request");
        let encoded = EncodedForwardBackward::new(checked.data, &checked.call).expect("encodes");
        assert_eq!(
            encoded.with_header(&checked.model_id, checked.seq_id).expect("a number that fits"),
            bytes
        );
        bodies += 1;
    }
    assert_eq!(bodies, 10, "recordings with a protobuf body");
}

/// The message as protobuf's JSON mapping has it, with the wire's own names.
fn as_json(request: &proto::ForwardBackwardRequest) -> Value {
    let mut object = Map::new();
    object.insert("model_id".into(), json!(request.model_id));
    object.insert("seq_id".into(), json!(request.seq_id));
    object.insert("data".into(), request.data.iter().map(datum).collect());
    object.insert("loss_fn".into(), json!(request.loss_fn));
    assert!(
        request.loss_fn_config.is_empty() && request.loss_fn_config_v2.is_empty(),
        "no recording has any"
    );
    if request.forward_only {
        object.insert("forward_only".into(), json!(true));
    }
    Value::Object(object)
}

fn datum(datum: &proto::Datum) -> Value {
    let inputs: Map<String, Value> = proto::map(datum.loss_fn_inputs.clone())
        .iter()
        .map(|(name, wire)| (name.clone(), tensor(wire)))
        .collect();
    json!({ "model_input": datum.model_input.iter().map(chunk).collect::<Value>(), "loss_fn_inputs": inputs })
}

fn chunk(chunk: &proto::Chunk) -> Value {
    match &chunk.chunk {
        Some(proto::chunk::Chunk::EncodedText(text)) => {
            json!({ "encoded_text": { "tokens": base64::encode(&text.tokens) } })
        }
        other => panic!("no recording has {other:?}"),
    }
}

fn tensor(tensor: &proto::Tensor) -> Value {
    let Some(proto::tensor::Layout::Dense(bytes)) = &tensor.layout else {
        panic!("no recording has a sparse tensor")
    };
    let dtype = match tensor.dtype() {
        proto::DType::Float32 => "DTYPE_FLOAT32",
        proto::DType::Int64 => "DTYPE_INT64",
        other => panic!("no recording has {other:?}"),
    };
    let shape: Vec<String> = tensor.shape.iter().map(i64::to_string).collect();
    json!({ "dense": base64::encode(bytes), "dtype": dtype, "shape": shape })
}
