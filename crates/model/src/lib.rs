//! A small language model, trained and sampled for real, with the same bits everywhere.
//!
//! [`BaseModel`] holds frozen weights; an [`Adapter`] trains low-rank updates of them with gradients and Adam; [`Prompt`] and
//! [`Generation`] sample. The same calls give the same bits on any number of threads, on any machine, natively and in wasm,
//! which is what lets a test say "no step was lost or doubled" by comparing two hashes. `docs/sandbox-model.md` has the
//! rules, how the base model was made, and measurements. The crate knows tokens; text, files and HTTP are its callers'.
//!
//! ```
//! use tinkex_model::{AdamParams, Adapter, BaseModel, LoraConfig, Prompt, PromptDetail, SamplingParams, Sequence};
//!
//! let base = BaseModel::tiny(7);
//! let mut adapter = Adapter::new(&base, LoraConfig::default())?;
//! let batch = [Sequence::new(vec![1, 2, 3, 4], vec![2, 3, 4, 5])];
//! for _ in 0..60 {
//!     // Cross-entropy: the loss is -(sum of log-probabilities), so its derivative is -1 for each.
//!     adapter.forward_backward(&batch, 2, |_, logprobs| vec![-1.0; logprobs.len()])?;
//!     adapter.optim_step(&AdamParams { learning_rate: 1e-2, ..AdamParams::default() })?;
//! }
//! let prompt = Prompt::read(&adapter.weights(), &[1, 2], PromptDetail::None)?;
//! let mut sample = prompt.generate(&SamplingParams { max_tokens: 3, temperature: 0.0, ..Default::default() })?;
//! while sample.step().is_some() {}
//! assert_eq!(sample.tokens(), [3, 4, 5]);
//! # Ok::<(), tinkex_model::Error>(())
//! ```

mod adapter;
mod base;
mod batch;
mod bytes;
mod config;
mod engine;
mod error;
#[cfg(test)]
mod gradients;
mod lora;
mod noop;
mod optimizer;
mod pretraining;
mod random;
mod sampling;

pub use adapter::{Adapter, StateScope};
pub use base::BaseModel;
pub use batch::Sequence;
pub use config::ModelConfig;
pub use engine::simd::use_baseline_vectors;
pub use error::Error;
pub use lora::LoraConfig;
pub use optimizer::{AdamParams, StepMetrics};
pub use pretraining::Pretraining;
pub use sampling::{Generation, Prompt, PromptDetail, SamplingParams, StopReason, Weights};
