//! The forward pass: a chunk of tokens after those that a cache holds.
//!
//! Training reads a sequence as one chunk with an empty cache; sampling reads a prompt, then one token a chunk. Both are
//! this code, and each row goes through the same operations in the same order whatever the chunk is, which is why a decoding
//! step gives the very bits of the training pass.

use super::Real;
use super::gemm::{Left, Right, Start, gemm};
use super::kernels;
use super::matrices::{Matrix, Network, left};
use crate::config::Projection;

/// Rows of attention that are computed together; what lies right of a block's last row is left out.
pub(crate) const BLOCK: usize = 32;

/// Keys and values of the tokens so far.
#[derive(Debug, Clone)]
pub(crate) struct Cache<T> {
    pub length: usize,
    pub capacity: usize,
    layers: Vec<LayerCache<T>>,
}

#[derive(Debug, Clone)]
struct LayerCache<T> {
    /// `[d, capacity]`: transposed, for the product with queries.
    keys: Vec<T>,
    /// `[capacity, d]`
    values: Vec<T>,
}

impl<T: Real> Cache<T> {
    pub fn new(network: &Network<T>, capacity: usize) -> Cache<T> {
        let size = network.config.d * capacity;
        let layer = LayerCache { keys: vec![T::ZERO; size], values: vec![T::ZERO; size] };
        Cache { length: 0, capacity, layers: vec![layer; network.config.layers] }
    }

    /// The same tokens, in a cache with room for `capacity` in all.
    pub fn with_capacity(&self, capacity: usize) -> Cache<T> {
        let layers = self.layers.iter().map(|layer| {
            let d = layer.values.len() / self.capacity;
            let mut keys = vec![T::ZERO; d * capacity];
            let mut values = vec![T::ZERO; d * capacity];
            for (to, from) in keys.chunks_exact_mut(capacity).zip(layer.keys.chunks_exact(self.capacity)) {
                to[..self.length].copy_from_slice(&from[..self.length]);
            }
            values[..d * self.length].copy_from_slice(&layer.values[..d * self.length]);
            LayerCache { keys, values }
        });
        Cache { length: self.length, capacity, layers: layers.collect() }
    }

    /// Forgets the tokens and makes room for `capacity`.
    pub fn reset(&mut self, d: usize, capacity: usize) {
        self.length = 0;
        self.capacity = capacity;
        for layer in &mut self.layers {
            layer.keys.resize(d * capacity, T::ZERO);
            layer.values.resize(d * capacity, T::ZERO);
        }
    }
}

/// What a chunk of `rows` tokens leaves behind: all that the backward pass needs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tape<T> {
    pub rows: usize,
    pub layers: Vec<LayerTape<T>>,
    /// `[rows, d]`: after the last layer, and its norm.
    pub last: Vec<T>,
    pub last_inverse: Vec<T>,
    pub last_normed: Vec<T>,
    /// `[rows, vocabulary]`, where asked for.
    pub logits: Vec<T>,
    stream: Vec<T>,
    product: Vec<T>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct LayerTape<T> {
    /// The residual stream at the start, its norm and the divisors.
    pub start: Vec<T>,
    pub start_inverse: Vec<T>,
    pub start_normed: Vec<T>,
    /// `[rows, d]`, rotated.
    pub queries: Vec<T>,
    pub keys: Vec<T>,
    pub values: Vec<T>,
    /// `[heads, rows, tokens so far]`, 0 where a token would see a later one.
    pub attention: Vec<T>,
    /// `[rows, d]`: what the heads gathered.
    pub mixed: Vec<T>,
    pub middle: Vec<T>,
    pub middle_inverse: Vec<T>,
    pub middle_normed: Vec<T>,
    /// `[rows, ff]`
    pub gate: Vec<T>,
    pub up: Vec<T>,
    pub active: Vec<T>,
}

/// Makes `values` `length` long. What it held stays: callers overwrite all of it.
pub(crate) fn sized<T: Real>(values: &mut Vec<T>, length: usize) -> &mut [T] {
    values.resize(length, T::ZERO);
    values
}

/// `out = x · matrix`.
fn project<T: Real>(x: &[T], matrix: &Matrix<T>, out: &mut Vec<T>) {
    let rows = x.len() / matrix.rows;
    let out = sized(out, rows * matrix.columns);
    gemm(
        rows,
        matrix.columns,
        matrix.rows,
        left(x, matrix.rows),
        matrix.right(),
        out,
        matrix.columns,
        Start::Zero,
    );
}

/// Reads `tokens` after those in the cache, which has room for them. Tokens are within the vocabulary.
pub(crate) fn forward<T: Real>(
    network: &Network<T>,
    tokens: &[u32],
    cache: &mut Cache<T>,
    tape: &mut Tape<T>,
) {
    let config = &network.config;
    let (d, rows, from) = (config.d, tokens.len(), cache.length);
    tape.rows = rows;
    tape.layers.resize_with(config.layers, LayerTape::default);
    let Tape { layers, last, last_inverse, last_normed, stream, product, .. } = tape;

    sized(stream, rows * d);
    for (row, &token) in stream.chunks_exact_mut(d).zip(tokens) {
        let token = token as usize;
        row.copy_from_slice(&network.embedding[token * d..(token + 1) * d]);
    }
    for (layer, (tape, cache)) in layers.iter_mut().zip(&mut cache.layers).enumerate() {
        sized(&mut tape.start, rows * d).copy_from_slice(stream);
        kernels::rms_norm(
            &tape.start,
            &network.norms[2 * layer],
            sized(&mut tape.start_normed, rows * d),
            sized(&mut tape.start_inverse, rows),
        );
        project(&tape.start_normed, network.matrix(layer, Projection::Query), &mut tape.queries);
        project(&tape.start_normed, network.matrix(layer, Projection::Key), &mut tape.keys);
        project(&tape.start_normed, network.matrix(layer, Projection::Value), &mut tape.values);
        attend(network, from, rows, tape, cache);
        project(&tape.mixed, network.matrix(layer, Projection::Output), product);
        kernels::add(stream, product);

        sized(&mut tape.middle, rows * d).copy_from_slice(stream);
        kernels::rms_norm(
            &tape.middle,
            &network.norms[2 * layer + 1],
            sized(&mut tape.middle_normed, rows * d),
            sized(&mut tape.middle_inverse, rows),
        );
        project(&tape.middle_normed, network.matrix(layer, Projection::Gate), &mut tape.gate);
        project(&tape.middle_normed, network.matrix(layer, Projection::Up), &mut tape.up);
        kernels::swiglu(&tape.gate, &tape.up, sized(&mut tape.active, rows * config.ff));
        project(&tape.active, network.matrix(layer, Projection::Down), product);
        kernels::add(stream, product);
    }
    cache.length += rows;
    sized(last, rows * d).copy_from_slice(stream);
    let gain = &network.norms[2 * config.layers];
    kernels::rms_norm(last, gain, sized(last_normed, rows * d), sized(last_inverse, rows));
}

/// Fills `tape.logits` for the rows of the chunk from `first` on.
pub(crate) fn unembed<T: Real>(network: &Network<T>, tape: &mut Tape<T>, first: usize) {
    let unembedding = network.matrix(0, Projection::Unembed);
    project(&tape.last_normed[first * network.config.d..], unembedding, &mut tape.logits);
}

/// Rotates queries and keys, stores keys and values in the cache, and gathers the values that each query attends to.
fn attend<T: Real>(
    network: &Network<T>,
    from: usize,
    rows: usize,
    tape: &mut LayerTape<T>,
    cache: &mut LayerCache<T>,
) {
    let (d, head) = (network.config.d, network.config.head());
    let seen = from + rows;
    let capacity = cache.keys.len() / d;
    for row in 0..rows {
        let range = row * d..(row + 1) * d;
        let (cosines, sines) = network.rotation.at(from + row);
        kernels::rotate(&mut tape.queries[range.clone()], head, cosines, sines);
        kernels::rotate(&mut tape.keys[range.clone()], head, cosines, sines);
        for (i, key) in tape.keys[range].iter().enumerate() {
            cache.keys[i * capacity + from + row] = *key;
        }
    }
    cache.values[from * d..seen * d].copy_from_slice(&tape.values);

    let scale = T::ONE / T::from_f64(head as f64).sqrt();
    let mixed = sized(&mut tape.mixed, rows * d);
    let attention = sized(&mut tape.attention, network.config.heads * rows * seen);
    for (h, attention) in attention.chunks_exact_mut(rows * seen).enumerate() {
        for start in (0..rows).step_by(BLOCK) {
            let block = BLOCK.min(rows - start);
            let visible = from + start + block;
            let attention = &mut attention[start * seen..(start + block) * seen];
            gemm(
                block,
                visible,
                head,
                Left { data: &tape.queries[start * d + h * head..], row: d, column: 1 },
                Right { data: &cache.keys[h * head * capacity..], row: capacity },
                attention,
                seen,
                Start::Zero,
            );
            for (r, row) in attention.chunks_exact_mut(seen).enumerate() {
                let (past, future) = row.split_at_mut(from + start + r + 1);
                kernels::softmax(past, scale);
                future.fill(T::ZERO);
            }
            gemm(
                block,
                head,
                visible,
                left(attention, seen),
                Right { data: &cache.values[h * head..], row: d },
                &mut mixed[start * d + h * head..],
                d,
                Start::Zero,
            );
        }
    }
}
