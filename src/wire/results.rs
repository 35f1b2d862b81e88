//! What JavaScript gets back from each method, as plain objects: what is absent is left out. Numbers in bulk stay the
//! little-endian bytes that they came in; the classes in `js/` make typed arrays of them.

use tinkex_protocol::Map;
use tinkex_protocol::json::session::ServerCapabilities;
use tinkex_protocol::json::training::ModelInfo;
use tinkex_protocol::{ForwardBackwardOutput, LeVec, StopReason};

use crate::error::{Error, Kind};
use crate::platform::plain::Plain;
use crate::sampling::Sampled;
use crate::store::Journal;
use crate::training::Pending;

/// `{client, …}`: a new client's handle, the server's name for what it stands for, and what is known of the session.
pub fn new_client(
    client: u32,
    name: &str,
    id: &str,
    session: Option<&Journal>,
    pending: Option<&[Pending]>,
) -> Vec<u8> {
    Plain::object(|plain| {
        plain.number("client", client.into());
        plain.text(name, id);
        if let Some(journal) = session {
            plain.text("sessionId", journal.session().as_str());
            if let Some(exactly_once) = journal.exactly_once() {
                plain.flag("exactlyOnce", exactly_once);
            }
        }
        let Some(pending) = pending else { return };
        let list = plain.list("pending");
        for call in pending {
            let item = plain.item();
            plain.number("seqId", call.first as f64);
            if let Some(method) = call.method {
                plain.text("method", method.name());
            }
            plain.text("label", &call.label);
            plain.number("key", call.key.into());
            plain.flag("finished", call.finished);
            plain.close(item);
        }
        plain.close(list);
    })
}

pub fn capabilities(capabilities: &ServerCapabilities) -> Vec<u8> {
    Plain::object(|plain| {
        let models = plain.list("supportedModels");
        for model in &capabilities.supported_models {
            let item = plain.item();
            if let Some(name) = &model.model_name {
                plain.text("modelName", name);
            }
            if let Some(tokens) = model.max_context_length {
                plain.number("maxContextLength", tokens as f64);
            }
            if let Some(trainable) = model.trainable {
                plain.flag("trainable", trainable);
            }
            if let Some(sampleable) = model.sampleable {
                plain.flag("sampleable", sampleable);
            }
            plain.close(item);
        }
        plain.close(models);
    })
}

pub fn forward(output: &ForwardBackwardOutput) -> Vec<u8> {
    Plain::object(|plain| {
        plain.text("lossFnOutputType", &output.loss_fn_output_type);
        let outputs = plain.list("lossFnOutputs");
        for fields in &output.loss_fn_outputs {
            let item = plain.item();
            for (name, tensor) in fields {
                let field = plain.inner(name);
                plain.text("dtype", tensor.dtype().as_str());
                let shape = plain.list("shape");
                for &size in tensor.shape() {
                    plain.item_number(size as f64);
                }
                plain.close(shape);
                plain.bytes("data", tensor.bytes());
                plain.close(field);
            }
            plain.close(item);
        }
        plain.close(outputs);
        numbers(plain, "metrics", &output.metrics);
    })
}

fn numbers(plain: &mut Plain, name: &str, values: &Map<f64>) {
    let object = plain.inner(name);
    for (name, value) in values {
        plain.number(name, *value);
    }
    plain.close(object);
}

pub fn metrics(values: &Map<f64>) -> Vec<u8> {
    Plain::object(|plain| numbers(plain, "metrics", values))
}

pub fn path(path: &str) -> Vec<u8> {
    Plain::object(|plain| plain.text("path", path))
}

pub fn model_info(info: &ModelInfo) -> Vec<u8> {
    Plain::object(|plain| {
        plain.text("modelId", info.model_id.as_str());
        let data = plain.inner("modelData");
        for (name, text) in [
            ("arch", &info.model_data.arch),
            ("modelName", &info.model_data.model_name),
            ("tokenizerId", &info.model_data.tokenizer_id),
        ] {
            if let Some(text) = text {
                plain.text(name, text);
            }
        }
        plain.close(data);
        if let Some(is_lora) = info.is_lora {
            plain.flag("isLora", is_lora);
        }
        if let Some(rank) = info.lora_rank {
            plain.number("loraRank", rank.into());
        }
    })
}

pub fn sample(Sampled { response, sequence_ids }: &Sampled) -> Vec<u8> {
    Plain::object(|plain| {
        let mut ids = sequence_ids.iter();
        let sequences = plain.list("sequences");
        for sequence in &response.sequences {
            let item = plain.item();
            plain.bytes("tokens", sequence.tokens.as_bytes());
            if let Some(logprobs) = &sequence.logprobs {
                plain.bytes("logprobs", logprobs.as_bytes());
            }
            let reason = match sequence.stop_reason {
                StopReason::Stop => "stop",
                StopReason::Length => "length",
            };
            plain.text("stopReason", reason);
            if let Some(id) = ids.next() {
                plain.text("sequenceId", id.as_str());
            }
            plain.close(item);
        }
        plain.close(sequences);
        if let Some(logprobs) = &response.prompt_logprobs {
            plain.bytes("promptLogprobs", logprobs.as_bytes());
        }
        if let Some(topk) = &response.topk_prompt_logprobs {
            let object = plain.inner("topkPromptLogprobs");
            plain.bytes("tokenIds", topk.token_ids().as_bytes());
            plain.bytes("logprobs", topk.logprobs().as_bytes());
            plain.number("k", topk.k() as f64);
            plain.number("length", topk.rows() as f64);
            plain.close(object);
        }
    })
}

pub fn logprobs(logprobs: &LeVec<f32>) -> Vec<u8> {
    Plain::object(|plain| plain.bytes("logprobs", logprobs.as_bytes()))
}

/// An error as the owner in JavaScript makes a class of it.
pub fn failure(error: &Error) -> Vec<u8> {
    Plain::object(|plain| {
        plain.text("kind", error.kind().as_str());
        plain.text("message", error.message());
        plain.text("outcome", error.outcome().as_str());
        plain.flag("retryable", error.retryable());
        match error.kind() {
            Kind::InvalidArgument { field } => plain.text("field", field),
            Kind::Api { status, body } => {
                plain.number("status", (*status).into());
                plain.text("body", body);
            }
            Kind::RequestFailed { category } => plain.text("category", category),
            Kind::Storage(reason) => plain.text("reason", reason.as_str()),
            Kind::Crashed { place, callers } => {
                plain.text("place", place);
                let list = plain.list("callers");
                for caller in callers {
                    plain.item_text(caller);
                }
                plain.close(list);
            }
            _ => {}
        }
    })
}

#[cfg(test)]
mod tests {
    use tinkex_protocol::Tensor;

    use super::*;
    use crate::error::Outcome;
    use crate::platform::plain::{Given, Wrong};

    #[test]
    fn losses_keep_their_names_shapes_and_bytes() {
        let output = ForwardBackwardOutput {
            loss_fn_output_type: "scalar".into(),
            loss_fn_outputs: vec![[("logprobs".to_owned(), Tensor::floats(&[-1.0, -2.0]))].into()],
            metrics: [("loss:sum".to_owned(), 3.0)].into(),
        };
        let bytes = forward(&output);
        let wrong = Wrong::default();
        let given = Given::new(&bytes, &wrong);
        assert_eq!(given.object("metrics").number("loss:sum"), 3.0);
        let first = given.list("lossFnOutputs").next().unwrap();
        let logprobs = Given::of(first, &wrong).object("logprobs");
        assert_eq!(logprobs.text("dtype"), "float32");
        assert_eq!(logprobs.list("shape").next().unwrap().as_number(), Some(2.0));
        assert_eq!(logprobs.bytes("data"), [(-1f32).to_le_bytes(), (-2f32).to_le_bytes()].concat());
        assert!(wrong.check().is_ok());
    }

    #[test]
    fn a_failure_says_what_its_kind_knows() {
        let panic = Error::crashed("oh", "here:1".into(), vec!["a".into(), "b".into()], Outcome::Unknown);
        let bytes = failure(&panic);
        let wrong = Wrong::default();
        let given = Given::new(&bytes, &wrong);
        assert_eq!((given.text("kind"), given.text("outcome")), ("crashed".into(), "unknown".into()));
        assert_eq!((given.text("place"), given.flag("retryable")), ("here:1".into(), false));
        let callers: Vec<_> = given.list("callers").filter_map(|caller| caller.as_text()).collect();
        assert_eq!(callers, ["a", "b"]);

        let bytes = failure(&Error::api(503, "busy".into()));
        let given = Given::new(&bytes, &wrong);
        assert_eq!((given.count("status"), given.text("body")), (503, "busy".into()));
        assert!(wrong.check().is_ok());
    }
}
