//! Training: models, steps, and checkpoints. Every request but `get_info` is answered with
//! [`Submitted`](super::futures::Submitted); the `…Result` types are what its future holds.

use serde::{Deserialize, Serialize};

use super::session::UserMetadata;
use super::tag::{Tag, named};
use crate::forward_backward::LossConfigValue;
use crate::metrics::Metrics;
use crate::{Datum, ModelId, ModelSeqId, SamplingSessionId, SamplingSessionSeqId, SeqId, SessionId};

/// `POST create_model`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CreateModel {
    pub session_id: SessionId,
    pub model_seq_id: ModelSeqId,
    pub base_model: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_metadata: Option<UserMetadata>,
    pub lora_config: LoraConfig,
    #[serde(default, deserialize_with = "super::null_is_default")]
    pub optimizer_config: OptimizerConfig,
    #[serde(rename = "type", default)]
    pub tag: Tag<CreateModel>,
}

/// At least one part must be trained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoraConfig {
    #[serde(default = "LoraConfig::default_rank")]
    pub rank: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    #[serde(default = "yes")]
    pub train_unembed: bool,
    #[serde(default = "yes")]
    pub train_mlp: bool,
    #[serde(default = "yes")]
    pub train_attn: bool,
}

impl LoraConfig {
    fn default_rank() -> u32 {
        32
    }
}

impl Default for LoraConfig {
    fn default() -> LoraConfig {
        let rank = LoraConfig::default_rank();
        LoraConfig { rank, seed: None, train_unembed: true, train_mlp: true, train_attn: true }
    }
}

fn yes() -> bool {
    true
}

/// `{type: "adamw"}` or `{type: "dimuon", version: 1}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OptimizerConfig {
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
}

impl OptimizerConfig {
    pub fn adamw() -> OptimizerConfig {
        OptimizerConfig { kind: "adamw".into(), version: None }
    }

    pub fn dimuon() -> OptimizerConfig {
        OptimizerConfig { kind: "dimuon".into(), version: Some(1) }
    }
}

impl Default for OptimizerConfig {
    fn default() -> OptimizerConfig {
        OptimizerConfig::adamw()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateModelResult {
    pub model_id: ModelId,
    #[serde(rename = "type", default)]
    pub tag: Tag<CreateModel>,
}

/// `POST load_weights`: into a new model (session and model number), or into a live one (model and sequence number).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoadWeights {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<SessionId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_seq_id: Option<ModelSeqId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_id: Option<ModelId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq_id: Option<SeqId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_metadata: Option<UserMetadata>,
    /// A `tinker://` path of a training checkpoint.
    pub path: String,
    /// Load the optimizer's state as well.
    #[serde(default)]
    pub optimizer: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optimizer_config: Option<OptimizerConfig>,
    /// A secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights_access_token: Option<String>,
    #[serde(rename = "type", default)]
    pub tag: Tag<LoadWeights>,
}

impl LoadWeights {
    /// The id of the model that a `load_weights` into a new model makes: known before it is answered.
    pub fn new_model_id(session: &SessionId, number: ModelSeqId) -> ModelId {
        ModelId::new(format!("{session}:train:{number}"))
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadWeightsResult {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_id: Option<ModelId>,
    #[serde(rename = "type", default)]
    pub tag: Tag<LoadWeights>,
}

/// `POST get_info`, answered at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetInfo {
    pub model_id: ModelId,
    #[serde(rename = "type", default)]
    pub tag: Tag<GetInfo>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelInfo {
    pub model_data: ModelData,
    pub model_id: ModelId,
    #[serde(default, deserialize_with = "super::null_is_default")]
    pub optimizer_config: OptimizerConfig,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_lora: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lora_rank: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_name: Option<String>,
    #[serde(rename = "type", default)]
    pub tag: Tag<GetInfo>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelData {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arch: Option<String>,
    /// The base model; the tokenizer and ephemeral samplers are found by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_name: Option<String>,
    /// Up to the first colon the tokenizer's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokenizer_id: Option<String>,
}

/// `POST forward_backward` and `POST forward` of older servers, which take JSON: exactly one of the inputs is there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ForwardBackwardJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forward_backward_input: Option<ForwardBackwardInput>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forward_input: Option<ForwardBackwardInput>,
    pub model_id: ModelId,
    pub seq_id: SeqId,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ForwardBackwardInput {
    pub data: Vec<Datum>,
    pub loss_fn: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss_fn_config: Option<crate::Map<LossConfigValue>>,
}

/// `POST optim_step`, with the parameters of one optimizer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OptimStep {
    pub model_id: ModelId,
    pub seq_id: SeqId,
    #[serde(rename = "type", default)]
    pub tag: Tag<OptimStep>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adam_params: Option<AdamParams>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optimizer_params: Option<DimuonParams>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AdamParams {
    pub learning_rate: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    pub weight_decay: f64,
    /// 0: off.
    pub grad_clip_norm: f64,
}

impl Default for AdamParams {
    fn default() -> AdamParams {
        AdamParams {
            learning_rate: 1e-4,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-12,
            weight_decay: 0.0,
            grad_clip_norm: 0.0,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DimuonParams {
    #[serde(rename = "type", default)]
    pub tag: Tag<DimuonParams>,
    /// Not negative.
    pub learning_rate: f64,
    /// 0: off.
    #[serde(default)]
    pub grad_clip_norm: f64,
    /// In [0, 1).
    #[serde(default = "DimuonParams::default_beta1")]
    pub beta1: f64,
}

impl DimuonParams {
    fn default_beta1() -> f64 {
        0.9
    }

    pub fn new(learning_rate: f64) -> DimuonParams {
        let beta1 = DimuonParams::default_beta1();
        DimuonParams { tag: Tag::default(), learning_rate, grad_clip_norm: 0.0, beta1 }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OptimStepResult {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Metrics>,
}

/// `POST save_weights`: a training checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaveWeights {
    pub model_id: ModelId,
    /// The name, not yet a path.
    pub path: String,
    pub seq_id: SeqId,
    /// 3,600 to 10 years; never expires without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
    #[serde(default)]
    pub overwrite: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_metadata: Option<UserMetadata>,
    #[serde(rename = "type", default)]
    pub tag: Tag<SaveWeights>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaveWeightsResult {
    /// `tinker://…/weights/NAME`.
    pub path: String,
    #[serde(rename = "type", default)]
    pub tag: Tag<SaveWeights>,
}

/// `POST save_weights_for_sampler`: a named checkpoint, or without a name an ephemeral sampler.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaveWeightsForSampler {
    pub model_id: ModelId,
    /// The name, not yet a path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampling_session_seq_id: Option<SamplingSessionSeqId>,
    #[serde(default)]
    pub kind: SamplerKind,
    pub seq_id: SeqId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_metadata: Option<UserMetadata>,
    #[serde(rename = "type", default)]
    pub tag: Tag<SaveWeightsForSampler>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SamplerKind {
    /// The weights as they were when it was saved.
    #[default]
    Snapshot,
    /// The weights as they go on being trained.
    Inflight,
}

/// One of the two is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaveWeightsForSamplerResult {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampling_session_id: Option<SamplingSessionId>,
    #[serde(rename = "type", default)]
    pub tag: Tag<SaveWeightsForSampler>,
}

/// `POST save_weights_external`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaveWeightsExternal {
    pub model_id: ModelId,
    pub path: String,
    pub seq_id: SeqId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
    /// At most 10.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_encryption_recipients: Option<Vec<String>>,
    #[serde(rename = "type", default)]
    pub tag: Tag<SaveWeightsExternal>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaveWeightsExternalResult {
    pub path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    #[serde(rename = "type", default)]
    pub tag: Tag<SaveWeightsExternal>,
}

/// `POST unload_model`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnloadModel {
    pub model_id: ModelId,
    #[serde(rename = "type", default)]
    pub tag: Tag<UnloadModel>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnloadModelResult {
    pub model_id: ModelId,
    #[serde(rename = "type", default)]
    pub tag: Tag<UnloadModel>,
}

named! {
    CreateModel = "create_model",
    LoadWeights = "load_weights",
    GetInfo = "get_info",
    OptimStep = "optim_step",
    DimuonParams = "dimuon",
    SaveWeights = "save_weights",
    SaveWeightsForSampler = "save_weights_for_sampler",
    SaveWeightsExternal = "save_weights_external",
    UnloadModel = "unload_model",
}
