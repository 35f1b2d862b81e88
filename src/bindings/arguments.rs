//! What JavaScript passes to each method, as plain objects. The classes in `js/` have checked names, types, ranges and
//! lengths; here the values become the client's own types.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_bytes::ByteBuf;
use tinkex_protocol::Map;
use tinkex_protocol::forward_backward::LossConfigValue;
use tinkex_protocol::json::sampling;
use tinkex_protocol::json::training::{AdamParams, LoraConfig};
use tinkex_protocol::{DType, LeVec, LossCall, ModelInput};
use wasm_bindgen::{JsCast, JsValue};

use crate::error::Error;
use crate::service::Lora;
use crate::training;

/// Reads a method's arguments.
pub fn read<T: DeserializeOwned>(args: JsValue) -> Result<T, Error> {
    serde_wasm_bindgen::from_value(args).map_err(|error| Error::invalid("", error.to_string()))
}

/// What `open` takes: where the service is and how to speak to it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Options {
    pub api_key: String,
    #[serde(rename = "baseURL")]
    pub base_url: String,
    pub timeout_ms: Option<f64>,
    pub max_retries: Option<u32>,
    pub max_connections: Option<u32>,
    #[serde(default)]
    pub tags: Vec<String>,
    #[serde(default)]
    pub user_metadata: Map<String>,
    pub project_id: Option<String>,
    pub display_name: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateLoraTrainingClient {
    pub base_model: String,
    pub rank: u32,
    pub seed: Option<u64>,
    pub train_mlp: bool,
    pub train_attn: bool,
    pub train_unembed: bool,
    pub user_metadata: Option<Map<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateTrainingClientFromState {
    pub path: String,
    pub optimizer: bool,
    pub user_metadata: Option<Map<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateSamplingClient {
    pub base_model: Option<String>,
    pub model_path: Option<String>,
}

/// A piece of a model's input. Text is the only kind that the classes let through.
#[derive(Deserialize)]
pub struct Chunk {
    /// int32, little-endian.
    tokens: ByteBuf,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Datum {
    pub model_input: Vec<Chunk>,
    pub loss_fn_inputs: Map<Tensor>,
}

#[derive(Deserialize)]
pub struct Tensor {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    /// Row-major, little-endian.
    pub data: ByteBuf,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
pub enum Dtype {
    Int64,
    Float32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Forward {
    pub data: Vec<Datum>,
    pub loss_fn: String,
    #[serde(default)]
    pub loss_fn_config: Map<LossConfigValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OptimStep {
    pub learning_rate: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    pub weight_decay: f64,
    pub grad_clip_norm: f64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Save {
    pub name: String,
    pub ttl_seconds: Option<f64>,
    #[serde(default)]
    pub overwrite: bool,
    pub user_metadata: Option<Map<String>>,
}

#[derive(Deserialize)]
pub struct LoadState {
    pub path: String,
    pub optimizer: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sample {
    pub prompt: Vec<Chunk>,
    pub num_samples: u32,
    pub sampling_params: SamplingParams,
    pub include_prompt_logprobs: bool,
    pub topk_prompt_logprobs: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SamplingParams {
    pub max_tokens: Option<u32>,
    pub seed: Option<i64>,
    /// A string, strings or token ids.
    #[serde(default, with = "serde_wasm_bindgen::preserve")]
    pub stop: JsValue,
    pub temperature: Option<f64>,
    pub top_k: Option<i64>,
    pub top_p: Option<f64>,
}

#[derive(Deserialize)]
pub struct ComputeLogprobs {
    pub prompt: Vec<Chunk>,
}

impl From<CreateLoraTrainingClient> for Lora {
    fn from(args: CreateLoraTrainingClient) -> Lora {
        let CreateLoraTrainingClient {
            base_model,
            rank,
            seed,
            train_mlp,
            train_attn,
            train_unembed,
            user_metadata,
        } = args;
        Lora {
            base_model,
            config: LoraConfig { rank, seed, train_unembed, train_mlp, train_attn },
            user_metadata,
        }
    }
}

/// A model input of its chunks.
pub fn model_input(chunks: Vec<Chunk>) -> Result<ModelInput, tinkex_protocol::Error> {
    let chunk =
        |Chunk { tokens }| LeVec::from_bytes(tokens.into_vec()).map(tinkex_protocol::Chunk::EncodedText);
    Ok(ModelInput { chunks: chunks.into_iter().map(chunk).collect::<Result<_, _>>()? })
}

impl TryFrom<Datum> for tinkex_protocol::Datum {
    type Error = tinkex_protocol::Error;

    fn try_from(datum: Datum) -> Result<Self, tinkex_protocol::Error> {
        let mut inputs = Map::new();
        for (name, Tensor { dtype, shape, data }) in datum.loss_fn_inputs {
            let dtype = match dtype {
                Dtype::Int64 => DType::Int64,
                Dtype::Float32 => DType::Float32,
            };
            let tensor = tinkex_protocol::Tensor::from_bytes(dtype, shape, data.into_vec());
            inputs.insert(name.clone(), tensor.map_err(|error| error.within(&name).within("lossFnInputs"))?);
        }
        Ok(tinkex_protocol::Datum {
            model_input: model_input(datum.model_input).map_err(|error| error.within("modelInput"))?,
            loss_fn_inputs: inputs,
            ..Default::default()
        })
    }
}

impl Forward {
    /// The data and the loss; an error names the datum.
    pub fn into_parts(self, forward_only: bool) -> Result<(Vec<tinkex_protocol::Datum>, LossCall), Error> {
        let data = self.data.into_iter().enumerate().map(|(i, datum)| {
            tinkex_protocol::Datum::try_from(datum).map_err(|error| error.within(&format!("data[{i}]")))
        });
        let call = LossCall { loss_fn: self.loss_fn, loss_fn_config: self.loss_fn_config, forward_only };
        Ok((data.collect::<Result<_, _>>()?, call))
    }
}

impl From<OptimStep> for AdamParams {
    fn from(args: OptimStep) -> AdamParams {
        let OptimStep { learning_rate, beta1, beta2, eps, weight_decay, grad_clip_norm } = args;
        AdamParams { learning_rate, beta1, beta2, eps, weight_decay, grad_clip_norm }
    }
}

impl From<Save> for training::Save {
    fn from(args: Save) -> training::Save {
        training::Save {
            name: args.name,
            ttl_seconds: args.ttl_seconds.map(|seconds| seconds as u64),
            overwrite: args.overwrite,
            user_metadata: args.user_metadata,
        }
    }
}

impl From<SamplingParams> for sampling::SamplingParams {
    fn from(args: SamplingParams) -> sampling::SamplingParams {
        let default = sampling::SamplingParams::default();
        sampling::SamplingParams {
            max_tokens: args.max_tokens,
            seed: args.seed,
            stop: stop(&args.stop),
            temperature: args.temperature.unwrap_or(default.temperature),
            top_k: args.top_k.unwrap_or(default.top_k),
            top_p: args.top_p.unwrap_or(default.top_p),
        }
    }
}

/// `undefined`: none; an empty array is empty, whatever it would have held.
fn stop(value: &JsValue) -> Option<sampling::Stop> {
    if let Some(text) = value.as_string() {
        return Some(sampling::Stop::Text(text));
    }
    let list = value.dyn_ref::<js_sys::Array>()?;
    let tokens: Vec<i32> = list.iter().filter_map(|id| Some(id.as_f64()? as i32)).collect();
    match tokens.is_empty() {
        false => Some(sampling::Stop::Tokens(tokens)),
        true => Some(sampling::Stop::Texts(list.iter().filter_map(|text| text.as_string()).collect())),
    }
}
