//! What JavaScript passes to each method. The classes in `js/` have checked names, types, ranges and lengths; here the
//! values become the client's own types. What can't be taken is noted with the object that it was read from.

use std::time::Duration;

use tinkex_protocol::forward_backward::LossConfigValue;
use tinkex_protocol::json::sampling::{SamplingParams, Stop};
use tinkex_protocol::json::training::{AdamParams, LoraConfig};
use tinkex_protocol::{Chunk, DType, Datum, LeVec, LossCall, ModelInput, Tensor};

use crate::platform::plain::{Given, Value, Values};
use crate::sampling::Sample;
use crate::service::{Lora, Settings};
use crate::session::{Choice, Labels, Resume};
use crate::training::Save;
use crate::transport::connections::DEFAULT_CONNECTIONS;
use crate::transport::{self, DEFAULT_TIMEOUT};

/// What `open` takes: where the service is and how to speak to it.
pub fn settings(given: Given) -> Settings {
    let timeout = given.optional_number("timeoutMs");
    Settings {
        transport: transport::Settings {
            base_url: given.text("baseURL"),
            api_key: given.text("apiKey"),
            timeout: timeout.map_or(DEFAULT_TIMEOUT, |ms| Duration::from_micros((ms * 1000.0) as u64)),
            max_retries: given.optional_count("maxRetries"),
            max_connections: given
                .optional_count("maxConnections")
                .map_or(DEFAULT_CONNECTIONS, |connections| connections as usize),
        },
        labels: Labels {
            tags: texts(given.list("tags")),
            user_metadata: given.texts("userMetadata"),
            project_id: given.optional_text("projectId"),
            display_name: given.optional_text("displayName"),
        },
        session: Choice {
            owner: given.text("owner"),
            resume: match given.optional_text("session") {
                None => Resume::None,
                Some(newest) if newest == "resume" => Resume::Newest,
                Some(id) => Resume::This(id.into()),
            },
        },
        telemetry: given.flag("telemetry"),
    }
}

/// Of `createLoraTrainingClient`.
pub fn lora(given: Given) -> Lora {
    let seed = given.optional_whole("seed");
    if seed.is_some_and(|seed| seed < 0) {
        given.wrong().must_be("seed", "at least 0");
    }
    Lora {
        base_model: given.text("baseModel"),
        config: LoraConfig {
            rank: given.count("rank"),
            seed: seed.map(|seed| seed as u64),
            train_unembed: given.flag("trainUnembed"),
            train_mlp: given.flag("trainMlp"),
            train_attn: given.flag("trainAttn"),
        },
        user_metadata: given.optional_texts("userMetadata"),
    }
}

/// Of `forward` and `forwardBackward`: the data.
pub fn data(given: Given) -> Vec<Datum> {
    let mut data = Vec::new();
    for value in given.list("data") {
        let at = data.len();
        data.push(datum(Given::of(value, given.wrong()), at));
    }
    data
}

/// Of `forward` and `forwardBackward`: the loss.
pub fn loss(given: Given, forward_only: bool) -> LossCall {
    let mut config = Vec::new();
    for (name, value) in given.entries("lossFnConfig") {
        let value = match (value.as_number(), value.as_text()) {
            (Some(number), _) => LossConfigValue::Number(number),
            (None, Some(text)) => LossConfigValue::Text(text.to_owned()),
            (None, None) => {
                given.wrong().must_be("lossFnConfig", "an object of numbers and strings");
                continue;
            }
        };
        config.push((name.to_owned(), value));
    }
    LossCall { loss_fn: given.text("lossFn"), loss_fn_config: config.into_iter().collect(), forward_only }
}

/// An error names the datum by its place.
fn datum(given: Given, at: usize) -> Datum {
    let within = |error: tinkex_protocol::Error| {
        given.wrong().note(error.within_element("data", at).into());
    };
    let mut inputs = Vec::new();
    for (name, value) in given.entries("lossFnInputs") {
        match tensor(Given::of(value, given.wrong())) {
            Ok(tensor) => inputs.push((name.to_owned(), tensor)),
            Err(error) => within(error.within(name).within("lossFnInputs")),
        }
    }
    let model_input = chunks(given, "modelInput").unwrap_or_else(|error| {
        within(error.within("modelInput"));
        ModelInput::default()
    });
    Datum { model_input, loss_fn_inputs: inputs.into_iter().collect(), ..Datum::default() }
}

fn tensor(given: Given) -> Result<Tensor, tinkex_protocol::Error> {
    let dtype = match &*given.text("dtype") {
        "int64" => DType::Int64,
        "float32" => DType::Float32,
        _ => return Err(tinkex_protocol::Error::field("dtype", "int64 or float32 belongs here")),
    };
    let mut shape = Vec::new();
    for size in given.list("shape") {
        shape.push(size.as_number().unwrap_or_default() as usize);
    }
    Tensor::from_bytes(dtype, shape, given.bytes("data"))
}

/// A model's input: text, the only kind of chunk that the classes let through, as int32.
pub fn chunks(given: Given, name: &str) -> Result<ModelInput, tinkex_protocol::Error> {
    let mut chunks = Vec::new();
    for chunk in given.list(name) {
        let tokens = Given::of(chunk, given.wrong()).bytes("tokens");
        chunks.push(Chunk::EncodedText(LeVec::from_bytes(tokens)?));
    }
    Ok(ModelInput { chunks })
}

/// Of `sample` and `computeLogprobs`.
pub fn prompt(given: Given) -> ModelInput {
    chunks(given, "prompt").unwrap_or_else(|error| {
        given.wrong().note(error.into());
        ModelInput::default()
    })
}

/// Of `optimStep`.
pub fn adam(given: Given) -> AdamParams {
    AdamParams { learning_rate: given.number("learningRate"), ..adam_without_rate(given) }
}

/// Adam's settings where the learning rate comes from elsewhere.
pub fn adam_without_rate(given: Given) -> AdamParams {
    AdamParams {
        learning_rate: 0.0,
        beta1: given.number("beta1"),
        beta2: given.number("beta2"),
        eps: given.number("eps"),
        weight_decay: given.number("weightDecay"),
        grad_clip_norm: given.number("gradClipNorm"),
    }
}

/// Of an `optimStep` that leaves to the run what it doesn't say.
pub fn adam_over(given: Given, run: AdamParams) -> AdamParams {
    AdamParams {
        learning_rate: given.optional_number("learningRate").unwrap_or(run.learning_rate),
        beta1: given.optional_number("beta1").unwrap_or(run.beta1),
        beta2: given.optional_number("beta2").unwrap_or(run.beta2),
        eps: given.optional_number("eps").unwrap_or(run.eps),
        weight_decay: given.optional_number("weightDecay").unwrap_or(run.weight_decay),
        grad_clip_norm: given.optional_number("gradClipNorm").unwrap_or(run.grad_clip_norm),
    }
}

/// Of `saveState` and `saveWeightsForSampler`.
pub fn save(given: Given) -> Save {
    Save {
        name: given.text("name"),
        ttl_seconds: given.optional_number("ttlSeconds").map(|seconds| seconds as u64),
        overwrite: given.optional_flag("overwrite").unwrap_or_default(),
        user_metadata: given.optional_texts("userMetadata"),
    }
}

/// Of `sample`.
pub fn sample(given: Given) -> Sample {
    Sample {
        prompt: prompt(given),
        num_samples: given.count("numSamples"),
        params: sampling_params(given.object("samplingParams")),
        prompt_logprobs: given.flag("includePromptLogprobs"),
        topk_prompt_logprobs: given.count("topkPromptLogprobs"),
    }
}

pub fn sampling_params(given: Given) -> SamplingParams {
    let default = SamplingParams::default();
    SamplingParams {
        max_tokens: given.optional_count("maxTokens"),
        seed: given.optional_whole("seed"),
        stop: given.get("stop").and_then(stop),
        temperature: given.optional_number("temperature").unwrap_or(default.temperature),
        top_k: given.optional_whole("topK").unwrap_or(default.top_k),
        top_p: given.optional_number("topP").unwrap_or(default.top_p),
    }
}

/// A string, strings or token ids. An empty array is empty, whatever it would have held.
fn stop(value: Value) -> Option<Stop> {
    if let Some(text) = value.as_text() {
        return Some(Stop::Text(text.to_owned()));
    }
    let mut tokens = Vec::new();
    for id in value.as_list()? {
        if let Some(id) = id.as_number() {
            tokens.push(id as i32);
        }
    }
    match tokens.is_empty() {
        false => Some(Stop::Tokens(tokens)),
        true => Some(Stop::Texts(texts(value.as_list()?))),
    }
}

fn texts(list: Values) -> Vec<String> {
    let mut texts = Vec::new();
    for value in list {
        texts.extend(value.as_text().map(str::to_owned));
    }
    texts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::platform::plain::{Plain, Wrong};

    fn read<T>(bytes: &[u8], read: impl FnOnce(Given) -> T) -> Result<T, Error> {
        let wrong = Wrong::default();
        let value = read(Given::new(bytes, &wrong));
        wrong.check().map(|()| value)
    }

    fn datum_of(plain: &mut Plain, tokens: &[u8], targets: &[u8]) {
        let datum = plain.item();
        let chunks = plain.list("modelInput");
        let chunk = plain.item();
        plain.bytes("tokens", tokens);
        plain.close(chunk);
        plain.close(chunks);
        let inputs = plain.inner("lossFnInputs");
        let input = plain.inner("target_tokens");
        plain.text("dtype", "int64");
        let shape = plain.list("shape");
        plain.item_number(1.0);
        plain.close(shape);
        plain.bytes("data", targets);
        plain.close(input);
        plain.close(inputs);
        plain.close(datum);
    }

    fn batch(second_tokens: &[u8], second_targets: &[u8]) -> Vec<u8> {
        Plain::object(|plain| {
            let data = plain.list("data");
            datum_of(plain, &[5, 0, 0, 0], &6_i64.to_le_bytes());
            datum_of(plain, second_tokens, second_targets);
            plain.close(data);
            plain.text("lossFn", "cross_entropy");
            let config = plain.inner("lossFnConfig");
            plain.number("scale", 2.0);
            plain.text("reduction", "mean");
            plain.close(config);
        })
    }

    #[test]
    fn data_and_loss_are_read_as_they_were_given() {
        let bytes = batch(&[7, 0, 0, 0, 8, 0, 0, 0], &9_i64.to_le_bytes());
        let data = read(&bytes, data).unwrap();
        assert_eq!(data[0].model_input, ModelInput::from_tokens(vec![5]));
        assert_eq!(data[1].model_input, ModelInput::from_tokens(vec![7, 8]));
        assert_eq!(data[1].loss_fn_inputs["target_tokens"], Tensor::integers(&[9]));
        let loss = read(&bytes, |given| loss(given, true)).unwrap();
        assert_eq!((loss.loss_fn.as_str(), loss.forward_only), ("cross_entropy", true));
        assert_eq!(loss.loss_fn_config["scale"], LossConfigValue::Number(2.0));
        assert_eq!(loss.loss_fn_config["reduction"], LossConfigValue::Text("mean".into()));
    }

    #[test]
    fn what_is_wrong_with_a_datum_is_said_with_its_place() {
        let error = read(&batch(&[1, 2, 3], &[]), data).expect_err("neither tokens nor targets are whole");
        assert!(error.message().starts_with("data[1].lossFnInputs.target_tokens"), "{error}");
        let error = read(&batch(&[1, 2, 3], &[0; 8]), data).expect_err("three bytes are no tokens");
        assert!(error.message().starts_with("data[1].modelInput"), "{error}");
    }

    #[test]
    fn stops_are_a_text_texts_or_tokens() {
        let stop_of = |write: fn(&mut Plain)| {
            let bytes = Plain::object(write);
            read(&bytes, |given| given.get("stop").and_then(stop)).unwrap()
        };
        let list = |write: fn(&mut Plain)| {
            let bytes = Plain::object(|plain| {
                let list = plain.list("stop");
                write(plain);
                plain.close(list);
            });
            read(&bytes, |given| given.get("stop").and_then(stop)).unwrap()
        };
        assert_eq!(stop_of(|plain| plain.text("stop", "end")), Some(Stop::Text("end".into())));
        assert_eq!(list(|plain| plain.item_text("end")), Some(Stop::Texts(vec!["end".into()])));
        assert_eq!(list(|plain| plain.item_number(3.0)), Some(Stop::Tokens(vec![3])));
        assert_eq!(list(|_| {}), Some(Stop::Texts(Vec::new())));
    }

    #[test]
    fn a_seed_of_a_model_is_not_negative() {
        let bytes = Plain::object(|plain| {
            plain.text("baseModel", "m");
            plain.number("rank", 8.0);
            plain.number("seed", -1.0);
            for name in ["trainUnembed", "trainMlp", "trainAttn"] {
                plain.flag(name, true);
            }
        });
        assert_eq!(read(&bytes, lora).expect_err("-1").message(), "seed must be at least 0");
    }

    #[test]
    fn a_service_is_told_where_it_is_and_the_rest_has_defaults() {
        let bytes = Plain::object(|plain| {
            plain.text("baseURL", "http://x");
            plain.text("apiKey", "tml-x");
            plain.text("owner", "page-1");
            plain.text("session", "s-7");
            plain.number("timeoutMs", 1500.5);
            plain.flag("telemetry", true);
            let tags = plain.list("tags");
            plain.item_text("one");
            plain.close(tags);
        });
        let settings = read(&bytes, settings).unwrap();
        assert_eq!(settings.transport.timeout, Duration::from_micros(1_500_500));
        assert_eq!(settings.transport.max_connections, DEFAULT_CONNECTIONS);
        assert_eq!(settings.session.owner, "page-1");
        assert!(matches!(settings.session.resume, Resume::This(id) if id.as_str() == "s-7"));
        assert_eq!((settings.transport.max_retries, settings.labels.tags), (None, vec!["one".to_owned()]));
    }
}
