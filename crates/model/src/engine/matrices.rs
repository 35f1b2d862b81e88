//! The weights in the forms that the passes read: matrices for the forward pass, and transposed for the backward one.

use super::Real;
use super::gemm::{Left, Right};
use crate::config::{BaseLayout, ModelConfig, Projection};

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Matrix<T> {
    pub rows: usize,
    pub columns: usize,
    /// Row by row.
    pub data: Vec<T>,
}

impl<T: Real> Matrix<T> {
    pub fn transposed(&self) -> Matrix<T> {
        Matrix {
            rows: self.columns,
            columns: self.rows,
            data: transposed(&self.data, self.rows, self.columns),
        }
    }

    pub fn right(&self) -> Right<'_, T> {
        Right { data: &self.data, row: self.columns }
    }
}

/// `data` `[rows, columns]` as `[columns, rows]`. In blocks, so that both sides stay in the cache.
pub(crate) fn transposed<T: Real>(data: &[T], rows: usize, columns: usize) -> Vec<T> {
    const BLOCK: usize = 16;
    let mut out = vec![T::ZERO; rows * columns];
    for row0 in (0..rows).step_by(BLOCK) {
        for column0 in (0..columns).step_by(BLOCK) {
            for row in row0..rows.min(row0 + BLOCK) {
                for column in column0..columns.min(column0 + BLOCK) {
                    out[column * rows + row] = data[row * columns + column];
                }
            }
        }
    }
    out
}

/// A dense matrix of `columns` columns as a left factor.
pub(crate) fn left<T>(data: &[T], columns: usize) -> Left<'_, T> {
    Left { data, row: columns, column: 1 }
}

/// The same, transposed.
pub(crate) fn left_transposed<T>(data: &[T], columns: usize) -> Left<'_, T> {
    Left { data, row: 1, column: columns }
}

/// Cosines and sines of the rotary positions, `[context, head / 2]`.
#[derive(Debug, PartialEq)]
pub(crate) struct Rotation<T> {
    pub cosines: Vec<T>,
    pub sines: Vec<T>,
    pub half: usize,
}

impl<T: Real> Rotation<T> {
    pub fn new(config: &ModelConfig) -> Rotation<T> {
        const BASE: f64 = 10_000.0;
        let half = config.head() / 2;
        let angles: Vec<f64> = (0..config.context)
            .flat_map(|position| {
                (0..half).map(move |i| position as f64 / libm::pow(BASE, i as f64 / half as f64))
            })
            .collect();
        Rotation {
            cosines: angles.iter().map(|&a| T::from_f64(libm::cos(a))).collect(),
            sines: angles.iter().map(|&a| T::from_f64(libm::sin(a))).collect(),
            half,
        }
    }

    pub fn at(&self, position: usize) -> (&[T], &[T]) {
        let range = position * self.half..(position + 1) * self.half;
        (&self.cosines[range.clone()], &self.sines[range])
    }
}

/// All that a forward pass reads.
#[derive(Debug, Clone)]
pub(crate) struct Network<T> {
    pub config: ModelConfig,
    pub rotation: std::sync::Arc<Rotation<T>>,
    /// `[vocabulary, d]`
    pub embedding: std::sync::Arc<Vec<T>>,
    /// Two gains for each layer, then the final one.
    pub norms: std::sync::Arc<Vec<Vec<T>>>,
    /// By matrix index; the unembedding is the last.
    pub matrices: Vec<Matrix<T>>,
}

impl<T: Real> Network<T> {
    /// From the flat parameters of a base.
    pub fn new(config: &ModelConfig, rotation: std::sync::Arc<Rotation<T>>, flat: &[T]) -> Network<T> {
        let layout = BaseLayout::new(config);
        let embedding = flat[layout.embedding.clone()].to_vec();
        let matrices = config
            .projections()
            .into_iter()
            .enumerate()
            .map(|(index, (projection, rows, columns))| {
                let data = match projection {
                    Projection::Unembed => transposed(&embedding, columns, rows),
                    _ => flat[layout.matrices[index].clone()].to_vec(),
                };
                Matrix { rows, columns, data }
            })
            .collect();
        Network {
            config: config.clone(),
            rotation,
            norms: std::sync::Arc::new(
                layout.norms.iter().map(|range| flat[range.clone()].to_vec()).collect(),
            ),
            embedding: std::sync::Arc::new(embedding),
            matrices,
        }
    }

    pub fn matrix(&self, layer: usize, projection: Projection) -> &Matrix<T> {
        &self.matrices[self.config.index(layer, projection)]
    }

    pub fn transposed(&self) -> Vec<Matrix<T>> {
        self.matrices.iter().map(Matrix::transposed).collect()
    }
}
