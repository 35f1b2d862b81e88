//! An adapter in training: its low-rank weights, what gradient has accumulated, and the optimizer's averages.

use crate::batch::{self, Sequence};
use crate::bytes::{self, Reader, Writer};
use crate::engine::kernels;
use crate::engine::matrices::{Matrix, Network};
use crate::lora::{LoraConfig, LoraLayout, LoraSink};
use crate::optimizer::{Adam, AdamParams, StepMetrics};
use crate::sampling::Weights;
use crate::{BaseModel, Error, noop};
use std::sync::{Arc, OnceLock};

const MAGIC: &[u8; 4] = b"TXLA";
const VERSION: u32 = 1;

/// How much of an adapter a state holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateScope {
    /// The weights: to sample, or to train on with a fresh optimizer.
    Weights,
    /// And the optimizer's averages and count of steps: to train on as if nothing had happened.
    WithOptimizer,
    /// And the gradient since the last step: an exact snapshot at any moment.
    Everything,
}

/// Low-rank weights in training on a base model.
///
/// The same calls with the same arguments give the same bits, on any machine and any number of threads.
#[derive(Debug, Clone)]
pub struct Adapter {
    base: BaseModel,
    config: LoraConfig,
    layout: LoraLayout,
    values: Vec<f32>,
    gradient: Vec<f32>,
    adam: Adam<f32>,
    /// Made when first needed after a step.
    merged: OnceLock<Arc<Merged>>,
}

#[derive(Debug)]
struct Merged {
    network: Arc<Network<f32>>,
    transposed: OnceLock<Vec<Matrix<f32>>>,
}

impl Adapter {
    /// A fresh adapter, which changes nothing yet.
    ///
    /// # Errors
    /// `InvalidParameter` for a rank outside 1 to 128, or nothing to train.
    pub fn new(base: &BaseModel, config: LoraConfig) -> Result<Adapter, Error> {
        config.check()?;
        let layout = match base.network() {
            Some(_) => LoraLayout::new(base.config(), &config),
            None => LoraLayout::empty(&config),
        };
        Ok(Adapter {
            base: base.clone(),
            values: layout.initial(config.seed),
            gradient: vec![0.0; layout.size],
            adam: Adam::new(layout.size),
            merged: OnceLock::new(),
            layout,
            config,
        })
    }

    pub fn config(&self) -> &LoraConfig {
        &self.config
    }

    pub fn base(&self) -> &BaseModel {
        &self.base
    }

    /// Number of trained weights.
    pub fn parameters(&self) -> usize {
        self.layout.size
    }

    /// Log-probabilities of the targets: for each sequence T × `targets_per_token`. `threads` changes the time, never the bits;
    /// up to 8 have work.
    ///
    /// # Errors
    /// Where a sequence can't be read, with its index.
    pub fn forward(&self, batch: &[Sequence], threads: usize) -> Result<Vec<Vec<f32>>, Error> {
        batch::check(self.base.config(), batch)?;
        Ok(match self.merged() {
            Some(merged) => batch::logprobs(&merged.network, batch, threads),
            None => noop::logprobs(batch),
        })
    }

    /// As `forward`, and back. `loss(i, logprobs)` gives the derivative of the loss with respect to each log-probability of
    /// sequence `i` (for cross-entropy with weights w: −w); the resulting gradient adds to what waits for `optim_step`.
    /// `loss` may be called on several threads at a time and in any order.
    ///
    /// # Errors
    /// As `forward`, and `GradientsLength` where the loss gives too many or too few. On an error nothing was added.
    pub fn forward_backward<L>(
        &mut self,
        batch: &[Sequence],
        threads: usize,
        loss: L,
    ) -> Result<Vec<Vec<f32>>, Error>
    where
        L: Fn(usize, &[f32]) -> Vec<f32> + Sync,
    {
        batch::check(self.base.config(), batch)?;
        let Some(merged) = self.merged() else {
            let logprobs = noop::logprobs(batch);
            for (sequence, logprobs) in logprobs.iter().enumerate() {
                let (expected, given) = (logprobs.len(), loss(sequence, logprobs).len());
                if expected != given {
                    return Err(Error::GradientsLength { sequence, expected, given });
                }
            }
            return Ok(logprobs);
        };
        let transposed = merged.transposed.get_or_init(|| merged.network.transposed());
        let transposed_b = self.layout.transposed_b(&self.values);
        let sink = || LoraSink::new(&self.layout, &self.values, &transposed_b);
        let (logprobs, sinks) =
            batch::logprobs_and_gradients(&merged.network, transposed, batch, threads, sink, loss)?;
        for sink in sinks {
            kernels::add(&mut self.gradient, &sink.gradient);
        }
        Ok(logprobs)
    }

    /// One step of Adam on the accumulated gradient, which then is zero again. Without a gradient it is a step all the same:
    /// the averages decay.
    ///
    /// # Errors
    /// `InvalidParameter`; `NonFiniteGradient`, after which the gradient is zero. The weights are as before in both cases.
    pub fn optim_step(&mut self, params: &AdamParams) -> Result<StepMetrics, Error> {
        let result = self.adam.step(params, &mut self.values, &self.gradient);
        if !matches!(result, Err(Error::InvalidParameter { .. })) {
            self.gradient.fill(0.0);
        }
        if result.is_ok() {
            self.merged = OnceLock::new();
        }
        result
    }

    /// Steps taken, those before a restored state included.
    pub fn steps(&self) -> u64 {
        self.adam.step
    }

    /// Bytes from which `from_state` makes this adapter again.
    pub fn state(&self, scope: StateScope) -> Vec<u8> {
        let mut writer = Writer::new(MAGIC, VERSION);
        writer.u64(self.base.hash());
        writer.u32(self.config.rank as u32);
        writer.u64(self.config.seed);
        for flag in [self.config.train_mlp, self.config.train_attn, self.config.train_unembed] {
            writer.u32(flag.into());
        }
        writer.u32(scope as u32);
        writer.f32s(&self.values);
        if scope != StateScope::Weights {
            writer.u64(self.adam.step);
            writer.f32s(&self.adam.mean);
            writer.f32s(&self.adam.variance);
        }
        if scope == StateScope::Everything {
            writer.f32s(&self.gradient);
        }
        writer.finish()
    }

    /// The adapter of a state. What the state doesn't hold starts fresh.
    ///
    /// # Errors
    /// `Malformed` for other or damaged bytes, `OtherBaseModel` where it was made on another base.
    pub fn from_state(base: &BaseModel, bytes: &[u8]) -> Result<Adapter, Error> {
        let mut reader = Reader::new("adapter state", MAGIC, VERSION, bytes)?;
        let found = reader.u64()?;
        if found != base.hash() {
            return Err(Error::OtherBaseModel { expected: base.hash(), found });
        }
        let config = LoraConfig {
            rank: reader.size()?,
            seed: reader.u64()?,
            train_mlp: reader.flag()?,
            train_attn: reader.flag()?,
            train_unembed: reader.flag()?,
        };
        let scope = match reader.u32()? {
            0 => StateScope::Weights,
            1 => StateScope::WithOptimizer,
            2 => StateScope::Everything,
            _ => return Err(reader.error("it names an unknown scope")),
        };
        let mut adapter = Adapter::new(base, config)?;
        let size = adapter.layout.size;
        adapter.values = reader.f32s(size)?;
        if scope != StateScope::Weights {
            adapter.adam =
                Adam { step: reader.u64()?, mean: reader.f32s(size)?, variance: reader.f32s(size)? };
        }
        if scope == StateScope::Everything {
            adapter.gradient = reader.f32s(size)?;
        }
        reader.end()?;
        Ok(adapter)
    }

    /// Forgets the optimizer's averages, its count of steps and the accumulated gradient; the weights stay.
    pub fn reset_optimizer(&mut self) {
        self.adam = Adam::new(self.layout.size);
        self.gradient.fill(0.0);
    }

    /// Of the trained weights alone: equal bits, equal hash.
    pub fn weights_hash(&self) -> u64 {
        bytes::hash_f32(&self.values)
    }

    /// Of all that later steps depend on: weights, optimizer and accumulated gradient.
    pub fn state_hash(&self) -> u64 {
        bytes::hash(&self.state(StateScope::Everything))
    }

    /// The weights as they are now, for sampling; later steps don't change them. Cheap until the next step.
    pub fn weights(&self) -> Weights {
        Weights::new(self.base.config(), self.merged().map(|merged| Arc::clone(&merged.network)))
    }

    fn merged(&self) -> Option<&Arc<Merged>> {
        let base = self.base.network()?;
        Some(self.merged.get_or_init(|| {
            let network = Arc::new(self.layout.merge(base, &self.values));
            Arc::new(Merged { network, transposed: OnceLock::new() })
        }))
    }
}
