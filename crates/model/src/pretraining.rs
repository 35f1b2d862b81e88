//! Training of all weights, by which the base model was made. Adapters don't use it.

use crate::batch::{self, Sequence};
use crate::bytes::{Reader, Writer};
use crate::config::{BaseLayout, ModelConfig, Projection};
use crate::engine::Real;
use crate::engine::backward::Sink;
use crate::engine::gemm::{Right, Start, gemm};
use crate::engine::kernels;
use crate::engine::matrices::{Network, Rotation, left_transposed};
use crate::optimizer::{Adam, AdamParams, StepMetrics};
use crate::random::Random;
use crate::{Error, base};
use std::sync::Arc;

const MAGIC: &[u8; 4] = b"TXPT";
const VERSION: u32 = 1;

/// A base model in the making.
#[derive(Debug, Clone)]
pub struct Pretraining {
    config: ModelConfig,
    layout: Arc<BaseLayout>,
    rotation: Arc<Rotation<f32>>,
    weights: Vec<f32>,
    adam: Adam<f32>,
}

impl Pretraining {
    /// Random weights from `seed`.
    pub fn new(config: ModelConfig, seed: u64) -> Result<Pretraining, Error> {
        config.check()?;
        let layout = BaseLayout::new(&config);
        Ok(Pretraining {
            rotation: Arc::new(Rotation::new(&config)),
            weights: initial_weights(&config, seed),
            adam: Adam::new(layout.size),
            layout: Arc::new(layout),
            config,
        })
    }

    /// One step on the mean negative log-probability of all targets. Gives that mean, in nats, from before the step.
    pub fn step(
        &mut self,
        batch: &[Sequence],
        threads: usize,
        params: &AdamParams,
    ) -> Result<(f64, StepMetrics), Error> {
        batch::check(&self.config, batch)?;
        let network = self.network();
        let transposed = network.transposed();
        let count: usize = batch.iter().map(|sequence| sequence.targets.len()).sum();
        let share = -1.0 / count as f32;
        let (logprobs, mut sinks) = batch::logprobs_and_gradients(
            &network,
            &transposed,
            batch,
            threads,
            || FullSink::new(&self.config, Arc::clone(&self.layout)),
            |_, logprobs| vec![share; logprobs.len()],
        )?;
        let mut total = std::mem::take(&mut sinks[0].gradient);
        for sink in &sinks[1..] {
            kernels::add(&mut total, &sink.gradient);
        }
        let metrics = self.adam.step(params, &mut self.weights, &total)?;
        Ok((mean_loss(&logprobs), metrics))
    }

    /// The mean negative log-probability of the targets, in nats.
    pub fn evaluate(&self, batch: &[Sequence], threads: usize) -> Result<f64, Error> {
        batch::check(&self.config, batch)?;
        Ok(mean_loss(&batch::logprobs(&self.network(), batch, threads)))
    }

    /// A model file of the weights as they are, rounded to 16-bit floats, for `BaseModel::from_bytes`.
    pub fn to_bytes(&self) -> Vec<u8> {
        base::to_bytes(&self.config, &self.weights)
    }

    /// All that later steps depend on, for `resume`.
    pub fn state(&self) -> Vec<u8> {
        let mut writer = Writer::new(MAGIC, VERSION);
        writer.u64(self.adam.step);
        for values in [&self.weights, &self.adam.mean, &self.adam.variance] {
            writer.f32s(values);
        }
        writer.finish()
    }

    /// Goes on where a `state` of the same config was taken, with the same bits as if it had never been left.
    ///
    /// # Errors
    /// `Malformed` for other or damaged bytes.
    pub fn resume(config: ModelConfig, state: &[u8]) -> Result<Pretraining, Error> {
        let mut model = Pretraining::new(config, 0)?;
        let mut reader = Reader::new("pretraining state", MAGIC, VERSION, state)?;
        model.adam.step = reader.u64()?;
        let size = model.layout.size;
        model.weights = reader.f32s(size)?;
        model.adam.mean = reader.f32s(size)?;
        model.adam.variance = reader.f32s(size)?;
        reader.end()?;
        Ok(model)
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.adam.step
    }

    fn network(&self) -> Network<f32> {
        Network::new(&self.config, Arc::clone(&self.rotation), &self.weights)
    }
}

fn mean_loss(logprobs: &[Vec<f32>]) -> f64 {
    let all = logprobs.iter().flatten();
    let count = all.clone().count();
    -all.map(|&logprob| f64::from(logprob)).sum::<f64>() / count as f64
}

/// Normal numbers of deviation 0.02 (the matrices that write to the residual stream divided by the root of their number),
/// gains of 1.
pub(crate) fn initial_weights(config: &ModelConfig, seed: u64) -> Vec<f32> {
    const DEVIATION: f64 = 0.02;
    let layout = BaseLayout::new(config);
    let mut random = Random::new(seed);
    let mut weights = vec![1.0; layout.size];
    let mut fill = |range: std::ops::Range<usize>, deviation: f64| {
        for weight in &mut weights[range] {
            *weight = (random.normal() * deviation) as f32;
        }
    };
    fill(layout.embedding.clone(), DEVIATION);
    for ((projection, ..), range) in config.projections().into_iter().zip(layout.matrices) {
        let writes = matches!(projection, Projection::Output | Projection::Down);
        let deviation = if writes { DEVIATION / libm::sqrt(2.0 * config.layers as f64) } else { DEVIATION };
        fill(range, deviation);
    }
    weights
}

/// Gradients of all parameters, in the base's layout.
pub(crate) struct FullSink<T> {
    pub gradient: Vec<T>,
    layout: Arc<BaseLayout>,
    shapes: Vec<(Projection, usize, usize)>,
}

impl<T: Real> FullSink<T> {
    pub fn new(config: &ModelConfig, layout: Arc<BaseLayout>) -> FullSink<T> {
        FullSink { gradient: vec![T::ZERO; layout.size], shapes: config.projections(), layout }
    }
}

impl<T: Real> Sink<T> for FullSink<T> {
    fn matrix(&mut self, index: usize, x: &[T], dy: &[T]) {
        let (projection, rows, columns) = self.shapes[index];
        let count = x.len() / rows;
        if projection == Projection::Unembed {
            // The embedding is the unembedding transposed.
            let to = &mut self.gradient[self.layout.embedding.clone()];
            let x = Right { data: x, row: rows };
            gemm(columns, rows, count, left_transposed(dy, columns), x, to, rows, Start::Add);
        } else {
            let to = &mut self.gradient[self.layout.matrices[index].clone()];
            let dy = Right { data: dy, row: columns };
            gemm(rows, columns, count, left_transposed(x, rows), dy, to, columns, Start::Add);
        }
    }

    fn norm(&mut self, index: usize, x: &[T], inverse: &[T], dy: &[T]) {
        kernels::rms_norm_gain_backward(x, inverse, dy, &mut self.gradient[self.layout.norms[index].clone()]);
    }

    fn embedding(&mut self, tokens: &[u32], dx: &[T]) {
        let d = dx.len() / tokens.len();
        let table = &mut self.gradient[self.layout.embedding.clone()];
        for (&token, dx) in tokens.iter().zip(dx.chunks_exact(d)) {
            kernels::add(&mut table[token as usize * d..][..d], dx);
        }
    }

    fn wants_embedding(&self) -> bool {
        true
    }
}
