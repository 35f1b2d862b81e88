//! What JavaScript gets back from each method, as plain objects. Numbers in bulk stay the little-endian bytes that they
//! came in; the classes in `js/` make typed arrays of them.

use serde::Serialize;
use serde_bytes::ByteBuf;
use tinkex_protocol::Map;
use tinkex_protocol::json::session::ServerCapabilities;
use tinkex_protocol::json::training;
use tinkex_protocol::sample::TopkLogprobs as ProtocolTopk;
use tinkex_protocol::{DType, ForwardBackwardOutput, LeVec, StopReason};
use wasm_bindgen::JsValue;

use crate::error::{Error, Kind};
use crate::sampling::Sampled;

/// A plain object of `value`: maps become objects, bytes become `Uint8Array`s, what is absent is left out.
pub fn to_js(value: &impl Serialize) -> Result<JsValue, Error> {
    let serializer = serde_wasm_bindgen::Serializer::json_compatible().serialize_bytes_as_arrays(false);
    value
        .serialize(&serializer)
        .map_err(|error| Error::protocol(format!("a result can't be given to JavaScript: {error}")))
}

/// `{client, …}`: a new client's handle, and the server's name for what it stands for.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NewTrainingClient {
    pub client: u32,
    pub model_id: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NewSamplingClient {
    pub client: u32,
    pub sampling_session_id: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Capabilities {
    supported_models: Vec<SupportedModel>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SupportedModel {
    #[serde(skip_serializing_if = "Option::is_none")]
    model_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_context_length: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trainable: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sampleable: Option<bool>,
}

impl From<ServerCapabilities> for Capabilities {
    fn from(capabilities: ServerCapabilities) -> Capabilities {
        let supported_models = capabilities.supported_models.into_iter().map(|model| SupportedModel {
            model_name: model.model_name,
            max_context_length: model.max_context_length.map(|tokens| tokens as f64),
            trainable: model.trainable,
            sampleable: model.sampleable,
        });
        Capabilities { supported_models: supported_models.collect() }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Forward {
    loss_fn_output_type: String,
    loss_fn_outputs: Vec<Map<Tensor>>,
    metrics: Map<f64>,
}

#[derive(Serialize)]
struct Tensor {
    dtype: &'static str,
    shape: Vec<u32>,
    data: ByteBuf,
}

impl From<ForwardBackwardOutput> for Forward {
    fn from(output: ForwardBackwardOutput) -> Forward {
        let tensor = |tensor: tinkex_protocol::Tensor| Tensor {
            dtype: match tensor.dtype() {
                DType::Float32 => "float32",
                DType::Int64 => "int64",
            },
            shape: tensor.shape().iter().map(|&size| size as u32).collect(),
            data: ByteBuf::from(tensor.into_bytes()),
        };
        let fields = |fields: Map<tinkex_protocol::Tensor>| {
            fields.into_iter().map(|(name, value)| (name, tensor(value))).collect()
        };
        Forward {
            loss_fn_output_type: output.loss_fn_output_type,
            loss_fn_outputs: output.loss_fn_outputs.into_iter().map(fields).collect(),
            metrics: output.metrics.into_iter().collect(),
        }
    }
}

#[derive(Serialize)]
pub struct Metrics {
    pub metrics: Map<f64>,
}

#[derive(Serialize)]
pub struct Path {
    pub path: String,
}

#[derive(Serialize)]
pub struct Nothing {}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelInfo {
    model_id: String,
    model_data: ModelData,
    #[serde(skip_serializing_if = "Option::is_none")]
    is_lora: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lora_rank: Option<u32>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ModelData {
    #[serde(skip_serializing_if = "Option::is_none")]
    arch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokenizer_id: Option<String>,
}

impl From<training::ModelInfo> for ModelInfo {
    fn from(info: training::ModelInfo) -> ModelInfo {
        let data = info.model_data;
        ModelInfo {
            model_id: info.model_id.into_string(),
            model_data: ModelData {
                arch: data.arch,
                model_name: data.model_name,
                tokenizer_id: data.tokenizer_id,
            },
            is_lora: info.is_lora,
            lora_rank: info.lora_rank,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sample {
    sequences: Vec<Sequence>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_logprobs: Option<ByteBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    topk_prompt_logprobs: Option<Topk>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Sequence {
    tokens: ByteBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<ByteBuf>,
    stop_reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence_id: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Topk {
    token_ids: ByteBuf,
    logprobs: ByteBuf,
    k: u32,
    length: u32,
}

impl From<Sampled> for Sample {
    fn from(Sampled { response, sequence_ids }: Sampled) -> Sample {
        let mut ids = sequence_ids.into_iter();
        let sequences = response.sequences.into_iter().map(|sequence| Sequence {
            tokens: ByteBuf::from(sequence.tokens.into_bytes()),
            logprobs: sequence.logprobs.map(|logprobs| ByteBuf::from(logprobs.into_bytes())),
            stop_reason: match sequence.stop_reason {
                StopReason::Stop => "stop",
                StopReason::Length => "length",
            },
            sequence_id: ids.next().map(|id| id.into_string()),
        });
        let topk = |topk: ProtocolTopk| Topk {
            token_ids: ByteBuf::from(topk.token_ids().as_bytes()),
            logprobs: ByteBuf::from(topk.logprobs().as_bytes()),
            k: topk.k() as u32,
            length: topk.rows() as u32,
        };
        Sample {
            sequences: sequences.collect(),
            prompt_logprobs: response.prompt_logprobs.map(|logprobs| ByteBuf::from(logprobs.into_bytes())),
            topk_prompt_logprobs: response.topk_prompt_logprobs.map(topk),
        }
    }
}

#[derive(Serialize)]
pub struct Logprobs {
    logprobs: ByteBuf,
}

impl From<LeVec<f32>> for Logprobs {
    fn from(logprobs: LeVec<f32>) -> Logprobs {
        Logprobs { logprobs: ByteBuf::from(logprobs.into_bytes()) }
    }
}

/// An error as the owner in JavaScript makes a class of it.
#[derive(Serialize)]
struct Failure<'a> {
    kind: &'static str,
    message: &'a str,
    outcome: &'static str,
    retryable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    category: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    callers: Option<&'a [String]>,
}

pub fn failure(error: &Error) -> JsValue {
    let mut failure = Failure {
        kind: error.kind().as_str(),
        message: error.message(),
        outcome: error.outcome().as_str(),
        retryable: error.retryable(),
        field: None,
        status: None,
        body: None,
        category: None,
        place: None,
        callers: None,
    };
    match error.kind() {
        Kind::InvalidArgument { field } => failure.field = Some(field),
        Kind::Api { status, body } => {
            failure.status = Some(*status);
            failure.body = Some(body);
        }
        Kind::RequestFailed { category } => failure.category = Some(category),
        Kind::Crashed { place, callers } => {
            failure.place = Some(place);
            failure.callers = Some(callers);
        }
        _ => {}
    }
    to_js(&failure).unwrap_or_else(|_| JsValue::from_str(error.message()))
}
