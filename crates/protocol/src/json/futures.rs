//! Work that the server took: what it answers at once, and how the results are asked for.

use serde::{Deserialize, Serialize};

use crate::{ModelId, RequestId, SampleSequenceId, SamplingSessionId};

/// The answer at once to every call that makes work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submitted {
    pub request_id: RequestId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_id: Option<ModelId>,
    /// Of a sample: the ids of its sequences, in the order of the result's. Older servers send none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample_sequence_ids: Option<Vec<SampleSequenceId>>,
}

/// `POST retrieve_future`; [`crate::Retrieved`] is its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetrieveFuture {
    pub request_id: RequestId,
    /// The server may answer with the size of the result alone.
    #[serde(default)]
    pub allow_metadata_only: bool,
}

/// `POST retrieve_futures`: which of a sampling session's requests are done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RetrieveFutures {
    pub target: FuturesTarget,
    /// Everything before it was received.
    #[serde(default)]
    pub prev_cursor: u64,
    /// Seconds that the server may hold the poll.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<f64>,
    /// Results that were fetched, and that the server may drop.
    #[serde(default)]
    pub retrieved_request_ids: Vec<RequestId>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FuturesTarget {
    #[serde(rename = "type")]
    pub kind: FuturesTargetKind,
    pub sampling_session_id: SamplingSessionId,
    #[serde(default)]
    pub cloned_sampler_id: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FuturesTargetKind {
    SamplingSession,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetrieveFuturesResponse {
    pub completions: Vec<Completion>,
    pub cursor: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completion {
    pub state: CompletionState,
    pub request_id: RequestId,
    /// Bytes, of a finished one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_payload_uncompressed_size: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CompletionState {
    Finished,
    Failed,
}

/// `POST cancel_future`; its answer is not read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelFuture {
    pub request_id: RequestId,
}

/// What a request is, in the header `X-Tinker-Request-Type` of its polls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RequestType {
    CreateModel,
    LoadWeights,
    Forward,
    ForwardBackward,
    OptimStep,
    SaveWeights,
    SaveWeightsForSampler,
    SaveWeightsExternal,
    CreateCustomLoss,
    UnloadModel,
    Sample,
}

impl RequestType {
    pub fn as_str(self) -> &'static str {
        match self {
            RequestType::CreateModel => "CreateModel",
            RequestType::LoadWeights => "LoadWeights",
            RequestType::Forward => "Forward",
            RequestType::ForwardBackward => "ForwardBackward",
            RequestType::OptimStep => "OptimStep",
            RequestType::SaveWeights => "SaveWeights",
            RequestType::SaveWeightsForSampler => "SaveWeightsForSampler",
            RequestType::SaveWeightsExternal => "SaveWeightsExternal",
            RequestType::CreateCustomLoss => "CreateCustomLoss",
            RequestType::UnloadModel => "UnloadModel",
            RequestType::Sample => "Sample",
        }
    }

    /// Whether the result is protobuf; of the others it is JSON.
    pub fn has_protobuf_result(self) -> bool {
        matches!(self, RequestType::Forward | RequestType::ForwardBackward | RequestType::Sample)
    }
}
