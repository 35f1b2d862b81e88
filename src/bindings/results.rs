//! What JavaScript gets back from each method, as plain objects: what is absent is left out. Numbers in bulk stay the
//! little-endian bytes that they came in; the classes in `js/` make typed arrays of them.

use tinkex_protocol::Map;
use tinkex_protocol::json::session::ServerCapabilities;
use tinkex_protocol::json::training::ModelInfo;
use tinkex_protocol::{ForwardBackwardOutput, LeVec, StopReason, Tensor};
use wasm_bindgen::JsValue;

use super::plain::{Plain, array};
use crate::error::{Error, Kind};
use crate::sampling::Sampled;

/// `{client, …}`: a new client's handle, and the server's name for what it stands for.
pub fn new_client(client: u32, name: &str, id: &str) -> JsValue {
    Plain::new().number("client", client.into()).text(name, id).done()
}

pub fn capabilities(capabilities: ServerCapabilities) -> JsValue {
    let models = capabilities.supported_models.into_iter().map(|model| {
        let mut plain = Plain::new();
        if let Some(name) = &model.model_name {
            plain = plain.text("modelName", name);
        }
        if let Some(tokens) = model.max_context_length {
            plain = plain.number("maxContextLength", tokens as f64);
        }
        for (name, flag) in [("trainable", model.trainable), ("sampleable", model.sampleable)] {
            if let Some(flag) = flag {
                plain = plain.flag(name, flag);
            }
        }
        plain.done()
    });
    Plain::new().with("supportedModels", array(models)).done()
}

pub fn forward(output: ForwardBackwardOutput) -> JsValue {
    let outputs = array(output.loss_fn_outputs.iter().map(tensors));
    Plain::new()
        .text("lossFnOutputType", &output.loss_fn_output_type)
        .with("lossFnOutputs", outputs)
        .with("metrics", numbers(&output.metrics))
        .done()
}

fn tensors(fields: &Map<Tensor>) -> JsValue {
    let plain = Plain::new();
    for (name, tensor) in fields {
        let shape = array(tensor.shape().iter().map(|&size| JsValue::from_f64(size as f64)));
        let tensor = Plain::new()
            .text("dtype", tensor.dtype().as_str())
            .with("shape", shape)
            .bytes("data", tensor.bytes());
        plain.set(name, &tensor.done());
    }
    plain.done()
}

fn numbers(values: &Map<f64>) -> JsValue {
    let plain = Plain::new();
    for (name, value) in values {
        plain.set(name, &JsValue::from_f64(*value));
    }
    plain.done()
}

pub fn metrics(values: &Map<f64>) -> JsValue {
    Plain::new().with("metrics", numbers(values)).done()
}

pub fn path(path: &str) -> JsValue {
    Plain::new().text("path", path).done()
}

pub fn nothing() -> JsValue {
    Plain::new().done()
}

pub fn model_info(info: ModelInfo) -> JsValue {
    let mut data = Plain::new();
    for (name, text) in [
        ("arch", info.model_data.arch),
        ("modelName", info.model_data.model_name),
        ("tokenizerId", info.model_data.tokenizer_id),
    ] {
        if let Some(text) = text {
            data = data.text(name, &text);
        }
    }
    let mut plain = Plain::new().text("modelId", info.model_id.as_str()).with("modelData", data.done());
    if let Some(is_lora) = info.is_lora {
        plain = plain.flag("isLora", is_lora);
    }
    if let Some(rank) = info.lora_rank {
        plain = plain.number("loraRank", rank.into());
    }
    plain.done()
}

pub fn sample(Sampled { response, sequence_ids }: Sampled) -> JsValue {
    let mut ids = sequence_ids.into_iter();
    let sequences = response.sequences.into_iter().map(|sequence| {
        let mut plain = Plain::new().bytes("tokens", sequence.tokens.as_bytes());
        if let Some(logprobs) = sequence.logprobs {
            plain = plain.bytes("logprobs", logprobs.as_bytes());
        }
        let reason = match sequence.stop_reason {
            StopReason::Stop => "stop",
            StopReason::Length => "length",
        };
        plain = plain.text("stopReason", reason);
        if let Some(id) = ids.next() {
            plain = plain.text("sequenceId", id.as_str());
        }
        plain.done()
    });
    let mut plain = Plain::new().with("sequences", array(sequences));
    if let Some(logprobs) = response.prompt_logprobs {
        plain = plain.bytes("promptLogprobs", logprobs.as_bytes());
    }
    if let Some(topk) = response.topk_prompt_logprobs {
        let topk = Plain::new()
            .bytes("tokenIds", topk.token_ids().as_bytes())
            .bytes("logprobs", topk.logprobs().as_bytes())
            .number("k", topk.k() as f64)
            .number("length", topk.rows() as f64);
        plain = plain.with("topkPromptLogprobs", topk.done());
    }
    plain.done()
}

pub fn logprobs(logprobs: &LeVec<f32>) -> JsValue {
    Plain::new().bytes("logprobs", logprobs.as_bytes()).done()
}

/// An error as the owner in JavaScript makes a class of it.
pub fn failure(error: &Error) -> JsValue {
    let plain = Plain::new()
        .text("kind", error.kind().as_str())
        .text("message", error.message())
        .text("outcome", error.outcome().as_str())
        .flag("retryable", error.retryable());
    let plain = match error.kind() {
        Kind::InvalidArgument { field } => plain.text("field", field),
        Kind::Api { status, body } => plain.number("status", (*status).into()).text("body", body),
        Kind::RequestFailed { category } => plain.text("category", category),
        Kind::Crashed { place, callers } => plain
            .text("place", place)
            .with("callers", array(callers.iter().map(|caller| JsValue::from_str(caller)))),
        _ => plain,
    };
    plain.done()
}
