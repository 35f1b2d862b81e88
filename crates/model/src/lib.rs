//! A small language model, trained and sampled for real, with the same bits everywhere.
//!
//! API skeleton: the shapes below are final, the bodies arrive next.
#![allow(unused_variables)]

mod error;
pub use error::Error;

/// The shape of a model: a Llama-style decoder (RMSNorm, RoPE, SwiGLU) with tied embeddings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelConfig {
    pub vocabulary: usize,
    pub d: usize,
    pub layers: usize,
    pub heads: usize,
    pub ff: usize,
    pub context: usize,
}

/// Frozen base weights. Cheap to clone.
#[derive(Debug, Clone)]
pub struct BaseModel {}
impl BaseModel {
    /// Reads a model file (checksum verified).
    pub fn from_bytes(bytes: &[u8]) -> Result<BaseModel, Error> {
        todo!()
    }
    /// The pretrained model that is committed with this crate (feature `shipped`).
    #[cfg(feature = "shipped")]
    pub fn shipped() -> BaseModel {
        todo!()
    }
    /// One layer, d 16, vocabulary 1,024, random weights: for simulations.
    pub fn tiny(seed: u64) -> BaseModel {
        todo!()
    }
    /// Takes any token and does no work: for benchmarks of everything around the model.
    pub fn noop() -> BaseModel {
        todo!()
    }
    pub fn config(&self) -> &ModelConfig {
        todo!()
    }
    /// Names the base weights: equal weights, equal hash.
    pub fn hash(&self) -> u64 {
        todo!()
    }
    /// The base without an adapter, for sampling.
    pub fn weights(&self) -> Weights {
        todo!()
    }
}

/// Which matrices get a low-rank update, and how large it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoraConfig {
    /// 1 to 128.
    pub rank: usize,
    pub seed: u64,
    pub train_mlp: bool,
    pub train_attn: bool,
    pub train_unembed: bool,
}

/// One sequence of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequence {
    /// Length T.
    pub tokens: Vec<u32>,
    /// T × targets_per_token ids, row by row.
    pub targets: Vec<u32>,
    /// Usually 1.
    pub targets_per_token: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub struct AdamParams {
    pub learning_rate: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    pub weight_decay: f64,
    /// 0 means that nothing is clipped.
    pub grad_clip_norm: f64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct StepMetrics {
    /// Steps taken so far, this one included.
    pub step: u64,
    /// L2 norm of the gradient before clipping.
    pub grad_norm: f64,
}

/// How much of an adapter a state holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateScope {
    Weights,
    WithOptimizer,
    /// With the gradients accumulated since the last step: an exact snapshot at any moment.
    Everything,
}

/// LoRA weights in training.
#[derive(Debug, Clone)]
pub struct Adapter {}
impl Adapter {
    pub fn new(base: &BaseModel, config: LoraConfig) -> Result<Adapter, Error> {
        todo!()
    }
    pub fn config(&self) -> &LoraConfig {
        todo!()
    }
    pub fn base(&self) -> &BaseModel {
        todo!()
    }
    /// Log-probabilities of the targets, per sequence (T × targets_per_token). `threads` changes the time, never the bits.
    pub fn forward(&self, batch: &[Sequence], threads: usize) -> Result<Vec<Vec<f32>>, Error> {
        todo!()
    }
    /// As `forward`; `loss(i, logprobs)` gives d loss / d log-probability of sequence `i`, and its gradient is added to what
    /// accumulates until `optim_step`. On an error nothing has been added.
    pub fn forward_backward<L>(
        &mut self,
        batch: &[Sequence],
        threads: usize,
        loss: L,
    ) -> Result<Vec<Vec<f32>>, Error>
    where
        L: Fn(usize, &[f32]) -> Vec<f32> + Sync,
    {
        todo!()
    }
    /// One step of Adam on the accumulated gradient, which is then zero again.
    pub fn optim_step(&mut self, params: &AdamParams) -> Result<StepMetrics, Error> {
        todo!()
    }
    /// Steps taken.
    pub fn steps(&self) -> u64 {
        todo!()
    }
    pub fn state(&self, scope: StateScope) -> Vec<u8> {
        todo!()
    }
    /// What the state doesn't hold starts fresh (moments and step count at zero).
    pub fn from_state(base: &BaseModel, bytes: &[u8]) -> Result<Adapter, Error> {
        todo!()
    }
    /// Forgets moments, step count and accumulated gradients.
    pub fn reset_optimizer(&mut self) {
        todo!()
    }
    /// Of the LoRA weights alone.
    pub fn weights_hash(&self) -> u64 {
        todo!()
    }
    /// Of everything that the next steps depend on (`StateScope::Everything`).
    pub fn state_hash(&self) -> u64 {
        todo!()
    }
    /// Merged and immutable, for sampling. Cheap (shared until the next step).
    pub fn weights(&self) -> Weights {
        todo!()
    }
}

/// Immutable merged weights. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Weights {}

#[derive(Debug, Clone, PartialEq)]
pub struct SamplingParams {
    pub max_tokens: usize,
    /// 0 is greedy.
    pub temperature: f64,
    /// None or 0: no limit.
    pub top_k: Option<usize>,
    /// 1.0: no limit.
    pub top_p: f64,
    /// Sequences of tokens that end a sample (they stay in its tokens). Strings are the caller's to match: use `Generation::stop`.
    pub stop: Vec<Vec<u32>>,
    pub seed: u64,
}

/// A prompt that was read once, from which any number of samples start.
#[derive(Debug, Clone)]
pub struct Prompt {}
impl Prompt {
    /// Reads `tokens`, with room for `max_tokens` more. `top_k` > 0 also keeps the most likely tokens at each position.
    pub fn read(
        weights: &Weights,
        tokens: &[u32],
        max_tokens: usize,
        detail: PromptDetail,
    ) -> Result<Prompt, Error> {
        todo!()
    }
    /// One per token of the prompt; the first is None. Empty unless asked for.
    pub fn logprobs(&self) -> &[Option<f32>] {
        todo!()
    }
    /// One list per token of the prompt, most likely first; the first is None. Empty unless asked for.
    pub fn top_logprobs(&self) -> &[Option<Vec<(u32, f32)>>] {
        todo!()
    }
    /// Starts a sample; two with the same parameters give the same tokens.
    pub fn generate(&self, params: &SamplingParams) -> Result<Generation, Error> {
        todo!()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PromptDetail {
    None,
    Logprobs,
    /// Log-probabilities, and this many of the most likely tokens at each position.
    TopLogprobs(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    Length,
    Stop,
}

/// One sample in the making, a token a call, so that a server can interleave and cancel.
#[derive(Debug, Clone)]
pub struct Generation {}
impl Generation {
    /// Adds one token; None once finished.
    pub fn step(&mut self) -> Option<u32> {
        todo!()
    }
    pub fn finished(&self) -> Option<StopReason> {
        todo!()
    }
    /// Ends it with `StopReason::Stop` (a caller that matched a stop string).
    pub fn stop(&mut self) {
        todo!()
    }
    pub fn tokens(&self) -> &[u32] {
        todo!()
    }
    /// Of the sampled tokens under the model itself (temperature 1, nothing cut): the very numbers of `Adapter::forward`.
    pub fn logprobs(&self) -> &[f32] {
        todo!()
    }
}
