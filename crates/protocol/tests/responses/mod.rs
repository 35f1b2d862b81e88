//! The golden responses of `tests/wire/responses.jsonl`, and what our types make of each.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tinkex_protocol::json::{self, custom_loss, futures, managing, session, telemetry, training, usage};
use tinkex_protocol::sample::OtherTokens;
use tinkex_protocol::{ForwardBackwardOutput, Retrieved, SampleResponse};

use crate::base64;

/// More data than any golden result has outputs.
const DATA: usize = 100;

pub fn golden() -> Vec<Value> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/wire/responses.jsonl");
    let text = std::fs::read_to_string(file).expect("the golden responses");
    text.lines().map(|line| serde_json::from_str(line).expect("a golden response")).collect()
}

/// The same entry with its body read into our type and written again. What was understood of protobuf is in
/// `understood`, as JSON.
pub fn rewritten(entry: &Value) -> Value {
    let kind = entry["kind"].as_str().expect("a kind");
    if let Some(body) = entry.get("json") {
        return json!({ "kind": kind, "json": round(kind, body) });
    }
    let bytes = base64::decode(entry["b64"].as_str().expect("a body"));
    let (written, understood) = match kind {
        "ForwardBackwardOutput" => {
            let output = ForwardBackwardOutput::decode(&bytes, DATA).expect("a result");
            (output.encode().expect("encodes"), json::encode(&output))
        }
        "SampleResponse" => {
            let response = SampleResponse::decode(&bytes).expect("a result");
            let others = OtherTokens::decode(&bytes).expect("a result");
            let whole = json::encode(&Whole { response: &response, others: &others });
            ([response.encode(), others.encode()].concat(), whole)
        }
        other => panic!("no protobuf type stands for {other}"),
    };
    let understood: Value = serde_json::from_slice(&understood).expect("JSON");
    json!({ "kind": kind, "b64": base64::encode(&written), "understood": understood })
}

/// Both parts of a sample's result.
#[derive(Serialize)]
struct Whole<'a> {
    #[serde(flatten)]
    response: &'a SampleResponse,
    #[serde(flatten)]
    others: &'a OtherTokens,
}

fn round(kind: &str, body: &Value) -> Value {
    match kind {
        "Flags" => typed::<session::Flags>(body),
        "DynamicFlags" => typed::<session::DynamicFlags>(body),
        "AuthTokenResponse" => typed::<session::AuthTokenResponse>(body),
        "HealthResponse" => typed::<session::HealthResponse>(body),
        "ServerCapabilities" => typed::<session::ServerCapabilities>(body),
        "CreateSessionResponse" => typed::<session::CreateSessionResponse>(body),
        "SessionHeartbeatResponse" => typed::<session::SessionHeartbeatResponse>(body),
        "CreateSamplingSessionResponse" => typed::<session::CreateSamplingSessionResponse>(body),
        "JoinSamplingSessionResponse" => typed::<session::JoinSamplingSessionResponse>(body),
        "Sampler" => typed::<session::Sampler>(body),
        "Submitted" => typed::<futures::Submitted>(body),
        "RetrieveFuturesResponse" => typed::<futures::RetrieveFuturesResponse>(body),
        "TryAgain" | "Failed" => retrieved(body),
        "CreateModelResult" => typed::<training::CreateModelResult>(body),
        "LoadWeightsResult" => typed::<training::LoadWeightsResult>(body),
        "ModelInfo" => typed::<training::ModelInfo>(body),
        "OptimStepResult" => typed::<training::OptimStepResult>(body),
        "SaveWeightsResult" => typed::<training::SaveWeightsResult>(body),
        "SaveWeightsForSamplerResult" => typed::<training::SaveWeightsForSamplerResult>(body),
        "SaveWeightsExternalResult" => typed::<training::SaveWeightsExternalResult>(body),
        "UnloadModelResult" => typed::<training::UnloadModelResult>(body),
        "CreateCustomLossResult" => typed::<custom_loss::CreateCustomLossResult>(body),
        "CheckpointsResponse" => typed::<managing::CheckpointsResponse>(body),
        "TrainingRunsResponse" => typed::<managing::TrainingRunsResponse>(body),
        "TrainingRun" => typed::<managing::TrainingRun>(body),
        "SessionsResponse" => typed::<managing::SessionsResponse>(body),
        "SessionResponse" => typed::<managing::SessionResponse>(body),
        "SearchSessionsResponse" => typed::<managing::SearchSessionsResponse>(body),
        "WeightsInfoResponse" => typed::<managing::WeightsInfoResponse>(body),
        "CopyWeightsResponse" => typed::<managing::CopyWeightsResponse>(body),
        "ExternalWeightsUrls" => typed::<managing::ExternalWeightsUrls>(body),
        "AuditResponse" => typed::<managing::AuditResponse>(body),
        "UsageEventsResponse" => typed::<usage::UsageEventsResponse>(body),
        "CheckpointStorageResponse" => typed::<usage::CheckpointStorageResponse>(body),
        "TelemetryResponse" => typed::<telemetry::TelemetryResponse>(body),
        other => panic!("no type stands for {other}"),
    }
}

fn typed<T: Serialize + DeserializeOwned>(body: &Value) -> Value {
    let read: T = json::decode(body.to_string().as_bytes()).expect("a body of this type");
    serde_json::from_slice(&json::encode(&read)).expect("JSON")
}

fn retrieved(body: &Value) -> Value {
    let text = body.to_string();
    let written = match Retrieved::read("application/json", text.as_bytes()).expect("an answer") {
        Retrieved::TryAgain(answer) => json::encode(&answer),
        Retrieved::Failed(answer) => json::encode(&answer),
        other => panic!("{text} was read as {other:?}"),
    };
    serde_json::from_slice(&written).expect("JSON")
}
