//! What JavaScript passes to each method, as plain objects. The classes in `js/` have checked names, types, ranges and
//! lengths; here the values become the client's own types.

use std::time::Duration;

use js_sys::Array;
use tinkex_protocol::forward_backward::LossConfigValue;
use tinkex_protocol::json::sampling::{SamplingParams, Stop};
use tinkex_protocol::json::training::{AdamParams, LoraConfig};
use tinkex_protocol::{Chunk, DType, Datum, LeVec, LossCall, Map, ModelInput, Tensor};
use wasm_bindgen::{JsCast, JsValue};

use super::plain::{Given, wrong};
use crate::error::Error;
use crate::sampling::Sample;
use crate::service::{Lora, Settings};
use crate::session::Labels;
use crate::training::Save;
use crate::transport::connections::DEFAULT_CONNECTIONS;
use crate::transport::{self, DEFAULT_TIMEOUT};

/// What `open` takes: where the service is and how to speak to it.
pub fn settings(given: &Given) -> Result<Settings, Error> {
    let timeout = given.optional_number("timeoutMs")?;
    let tags: Vec<String> = match given.get("tags") {
        Some(tags) => texts(tags.unchecked_ref()),
        None => Vec::new(),
    };
    Ok(Settings {
        transport: transport::Settings {
            base_url: given.text("baseURL")?,
            api_key: given.text("apiKey")?,
            timeout: timeout.map_or(DEFAULT_TIMEOUT, |ms| Duration::from_secs_f64(ms / 1000.0)),
            max_retries: given.optional_count("maxRetries")?,
            max_connections: given
                .optional_count("maxConnections")?
                .map_or(DEFAULT_CONNECTIONS, |connections| connections as usize),
        },
        labels: Labels {
            tags,
            user_metadata: given.texts("userMetadata")?,
            project_id: given.optional_text("projectId")?,
            display_name: given.optional_text("displayName")?,
        },
    })
}

/// Of `createLoraTrainingClient`.
pub fn lora(given: &Given) -> Result<Lora, Error> {
    let seed = given.optional_whole("seed")?;
    let seed = seed.map(|seed| u64::try_from(seed).map_err(|_| wrong("seed", "at least 0")));
    Ok(Lora {
        base_model: given.text("baseModel")?,
        config: LoraConfig {
            rank: given.count("rank")?,
            seed: seed.transpose()?,
            train_unembed: given.flag("trainUnembed")?,
            train_mlp: given.flag("trainMlp")?,
            train_attn: given.flag("trainAttn")?,
        },
        user_metadata: given.optional_texts("userMetadata")?,
    })
}

/// Of `forward` and `forwardBackward`: the data and the loss; an error names the datum.
pub fn forward(given: &Given, forward_only: bool) -> Result<(Vec<Datum>, LossCall), Error> {
    let list = given.list("data")?;
    let mut data = Vec::with_capacity(list.length() as usize);
    for at in 0..list.length() {
        data.push(datum(&Given(list.get(at)), &format!("data[{at}]"))?);
    }
    let value = |(name, value): (String, JsValue)| {
        let value = match value.as_f64() {
            Some(number) => LossConfigValue::Number(number),
            None => LossConfigValue::Text(
                value.as_string().ok_or_else(|| wrong("lossFnConfig", "an object of numbers and strings"))?,
            ),
        };
        Ok((name, value))
    };
    let loss_fn_config =
        given.entries("lossFnConfig").into_iter().map(value).collect::<Result<Map<_>, Error>>()?;
    Ok((data, LossCall { loss_fn: given.text("lossFn")?, loss_fn_config, forward_only }))
}

fn datum(given: &Given, at: &str) -> Result<Datum, Error> {
    let mut inputs = Vec::new();
    for (name, tensor) in given.entries("lossFnInputs") {
        let tensor = Given(tensor);
        let dtype = match tensor.text("dtype")?.as_str() {
            "int64" => DType::Int64,
            "float32" => DType::Float32,
            _ => return Err(wrong("dtype", "int64 or float32")),
        };
        let shape = tensor.list("shape")?.iter().filter_map(|size| Some(size.as_f64()? as usize)).collect();
        let tensor = Tensor::from_bytes(dtype, shape, tensor.bytes("data")?)
            .map_err(|error| error.within(&name).within("lossFnInputs").within(at))?;
        inputs.push((name, tensor));
    }
    Ok(Datum {
        model_input: chunks(given, "modelInput", at)?,
        loss_fn_inputs: inputs.into_iter().collect(),
        ..Datum::default()
    })
}

/// A model's input: text, the only kind of chunk that the classes let through, as int32.
fn chunks(given: &Given, name: &str, at: &str) -> Result<ModelInput, Error> {
    let mut chunks = Vec::new();
    for chunk in given.list(name)?.iter() {
        let tokens = LeVec::from_bytes(Given(chunk).bytes("tokens")?);
        chunks.push(Chunk::EncodedText(tokens.map_err(|error| match at {
            "" => error,
            at => error.within(name).within(at),
        })?));
    }
    Ok(ModelInput { chunks })
}

/// Of `sample` and `computeLogprobs`.
pub fn prompt(given: &Given) -> Result<ModelInput, Error> {
    chunks(given, "prompt", "")
}

/// Of `optimStep`.
pub fn adam(given: &Given) -> Result<AdamParams, Error> {
    Ok(AdamParams {
        learning_rate: given.number("learningRate")?,
        beta1: given.number("beta1")?,
        beta2: given.number("beta2")?,
        eps: given.number("eps")?,
        weight_decay: given.number("weightDecay")?,
        grad_clip_norm: given.number("gradClipNorm")?,
    })
}

/// Of `saveState` and `saveWeightsForSampler`.
pub fn save(given: &Given) -> Result<Save, Error> {
    Ok(Save {
        name: given.text("name")?,
        ttl_seconds: given.optional_number("ttlSeconds")?.map(|seconds| seconds as u64),
        overwrite: given.optional_flag("overwrite")?.unwrap_or_default(),
        user_metadata: given.optional_texts("userMetadata")?,
    })
}

/// Of `sample`.
pub fn sample(given: &Given) -> Result<Sample, Error> {
    let params = given.object("samplingParams")?;
    let default = SamplingParams::default();
    Ok(Sample {
        prompt: prompt(given)?,
        num_samples: given.count("numSamples")?,
        params: SamplingParams {
            max_tokens: params.optional_count("maxTokens")?,
            seed: params.optional_whole("seed")?,
            stop: params.get("stop").and_then(|stop| read_stop(&stop)),
            temperature: params.optional_number("temperature")?.unwrap_or(default.temperature),
            top_k: params.optional_whole("topK")?.unwrap_or(default.top_k),
            top_p: params.optional_number("topP")?.unwrap_or(default.top_p),
        },
        prompt_logprobs: given.flag("includePromptLogprobs")?,
        topk_prompt_logprobs: given.count("topkPromptLogprobs")?,
    })
}

/// A string, strings or token ids. An empty array is empty, whatever it would have held.
fn read_stop(value: &JsValue) -> Option<Stop> {
    if let Some(text) = value.as_string() {
        return Some(Stop::Text(text));
    }
    let list = value.dyn_ref::<Array>()?;
    let tokens: Vec<i32> = list.iter().filter_map(|id| Some(id.as_f64()? as i32)).collect();
    match tokens.is_empty() {
        false => Some(Stop::Tokens(tokens)),
        true => Some(Stop::Texts(texts(list))),
    }
}

fn texts(list: &Array) -> Vec<String> {
    list.iter().filter_map(|text| text.as_string()).collect()
}
