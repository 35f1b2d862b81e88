//! Low-rank updates: where their parameters lie, how they join the base's matrices, what their gradients are.
//!
//! A matrix W `[rows, columns]` with an update acts as W + s·A·B, with A `[rows, rank]`, B `[rank, columns]` and s = 32 / rank.
//! A starts random and B at zero, so that a fresh adapter is the base.

use crate::Error;
use crate::config::{ModelConfig, Projection};
use crate::engine::Real;
use crate::engine::backward::Sink;
use crate::engine::forward::sized;
use crate::engine::gemm::{Right, Start, gemm};
use crate::engine::kernels;
use crate::engine::matrices::{Network, left, left_transposed, transposed};
use crate::random::Random;
use std::ops::Range;

/// s × rank: with it, a learning rate that suits one rank suits the others.
const ALPHA: f64 = 32.0;

/// Which matrices get a low-rank update, and how large.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoraConfig {
    /// 1 to 128.
    pub rank: usize,
    /// Of the random A. Two adapters with the same config start equal.
    pub seed: u64,
    /// Gate, up and down of every layer.
    pub train_mlp: bool,
    /// Query, key, value and output of every layer.
    pub train_attn: bool,
    /// The unembedding (the input embedding stays as it is).
    pub train_unembed: bool,
}

impl Default for LoraConfig {
    fn default() -> LoraConfig {
        LoraConfig { rank: 8, seed: 0, train_mlp: true, train_attn: true, train_unembed: true }
    }
}

impl LoraConfig {
    pub(crate) fn check(&self) -> Result<(), Error> {
        const LARGEST: usize = 128;
        if self.rank == 0 || self.rank > LARGEST {
            return Err(Error::InvalidParameter {
                name: "rank",
                value: self.rank as f64,
                allowed: "a whole number from 1 to 128",
            });
        }
        if !(self.train_mlp || self.train_attn || self.train_unembed) {
            return Err(Error::InvalidParameter {
                name: "train_mlp, train_attn and train_unembed",
                value: 0.0,
                allowed: "true for at least one of them",
            });
        }
        Ok(())
    }

    fn trains(&self, projection: Projection) -> bool {
        match projection {
            Projection::Query | Projection::Key | Projection::Value | Projection::Output => self.train_attn,
            Projection::Gate | Projection::Up | Projection::Down => self.train_mlp,
            Projection::Unembed => self.train_unembed,
        }
    }
}

/// Where the parameters of an adapter lie in one flat vector.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LoraLayout {
    /// By matrix index; None for a matrix without an update.
    pub parts: Vec<Option<Part>>,
    pub rank: usize,
    pub scale: f64,
    pub size: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Part {
    pub projection: Projection,
    pub rows: usize,
    pub columns: usize,
    /// `[rows, rank]`
    pub a: Range<usize>,
    /// `[rank, columns]`
    pub b: Range<usize>,
}

impl LoraLayout {
    pub fn new(model: &ModelConfig, config: &LoraConfig) -> LoraLayout {
        let rank = config.rank;
        let mut size = 0;
        let mut take = |length: usize| {
            size += length;
            size - length..size
        };
        let parts = model
            .projections()
            .into_iter()
            .map(|(projection, rows, columns)| {
                config.trains(projection).then(|| Part {
                    projection,
                    rows,
                    columns,
                    a: take(rows * rank),
                    b: take(rank * columns),
                })
            })
            .collect();
        LoraLayout { parts, rank, scale: ALPHA / rank as f64, size }
    }

    /// For the model without matrices.
    pub fn empty(config: &LoraConfig) -> LoraLayout {
        LoraLayout { parts: Vec::new(), rank: config.rank, scale: 1.0, size: 0 }
    }

    /// A uniform within ±1/√rows, B zero.
    pub fn initial<T: Real>(&self, seed: u64) -> Vec<T> {
        let mut random = Random::new(seed);
        let mut values = vec![T::ZERO; self.size];
        for part in self.parts.iter().flatten() {
            let bound = 1.0 / libm::sqrt(part.rows as f64);
            for value in &mut values[part.a.clone()] {
                *value = T::from_f64((random.uniform() * 2.0 - 1.0) * bound);
            }
        }
        values
    }

    /// The base with the updates in it: one product for each matrix, so that the passes cost nothing extra.
    pub fn merge<T: Real>(&self, base: &Network<T>, values: &[T]) -> Network<T> {
        let mut network = base.clone();
        for (matrix, part) in network.matrices.iter_mut().zip(&self.parts) {
            let Some(part) = part else { continue };
            let mut a = values[part.a.clone()].to_vec();
            kernels::scale(&mut a, T::from_f64(self.scale));
            let b = Right { data: &values[part.b.clone()], row: part.columns };
            let (rows, columns) = (part.rows, part.columns);
            gemm(rows, columns, self.rank, left(&a, self.rank), b, &mut matrix.data, columns, Start::Add);
        }
        network
    }

    /// Each B transposed, by matrix index, as `LoraSink` reads them.
    pub fn transposed_b<T: Real>(&self, values: &[T]) -> Vec<Vec<T>> {
        let one = |part: &Option<Part>| match part {
            Some(part) => transposed(&values[part.b.clone()], self.rank, part.columns),
            None => Vec::new(),
        };
        self.parts.iter().map(one).collect()
    }
}

/// Gradients of the updates, in their layout: dA = s·xᵀ·(dy·Bᵀ), dB = s·(x·A)ᵀ·dy. No gradient of a whole matrix is made.
pub(crate) struct LoraSink<'a, T> {
    pub gradient: Vec<T>,
    layout: &'a LoraLayout,
    values: &'a [T],
    transposed_b: &'a [Vec<T>],
    inner: Vec<T>,
}

impl<'a, T: Real> LoraSink<'a, T> {
    pub fn new(layout: &'a LoraLayout, values: &'a [T], transposed_b: &'a [Vec<T>]) -> LoraSink<'a, T> {
        LoraSink { gradient: vec![T::ZERO; layout.size], layout, values, transposed_b, inner: Vec::new() }
    }
}

impl<T: Real> Sink<T> for LoraSink<'_, T> {
    fn matrix(&mut self, index: usize, x: &[T], dy: &[T]) {
        let Some(part) = &self.layout.parts[index] else { return };
        let (rank, rows, columns) = (self.layout.rank, part.rows, part.columns);
        let count = x.len() / rows;
        let scale = T::from_f64(self.layout.scale);
        let inner = sized(&mut self.inner, count * rank);

        let bt = Right { data: &self.transposed_b[index], row: rank };
        gemm(count, rank, columns, left(dy, columns), bt, inner, rank, Start::Zero);
        kernels::scale(inner, scale);
        let to = &mut self.gradient[part.a.clone()];
        gemm(
            rows,
            rank,
            count,
            left_transposed(x, rows),
            Right { data: inner, row: rank },
            to,
            rank,
            Start::Add,
        );

        let a = Right { data: &self.values[part.a.clone()], row: rank };
        gemm(count, rank, rows, left(x, rows), a, inner, rank, Start::Zero);
        kernels::scale(inner, scale);
        let to = &mut self.gradient[part.b.clone()];
        let dy = Right { data: dy, row: columns };
        gemm(rank, columns, count, left_transposed(inner, rank), dy, to, columns, Start::Add);
    }

    fn norm(&mut self, _: usize, _: &[T], _: &[T], _: &[T]) {}

    fn embedding(&mut self, _: &[u32], _: &[T]) {}

    fn wants_embedding(&self) -> bool {
        false
    }
}
