//! The shape of a model, and where each of its parameters lies.

use crate::Error;
use std::ops::Range;

/// The shape of a Llama-style decoder: RMSNorm, rotary positions, SwiGLU, tied embeddings, no biases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelConfig {
    /// Token ids are below this.
    pub vocabulary: usize,
    /// Width of the residual stream.
    pub d: usize,
    pub layers: usize,
    /// Divides `d` into heads of an even width.
    pub heads: usize,
    /// Width of the feed-forward part.
    pub ff: usize,
    /// Most tokens of a sequence.
    pub context: usize,
}

/// The matrices of a layer, in the order in which they lie; the unembedding follows the last layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Projection {
    Query,
    Key,
    Value,
    Output,
    Gate,
    Up,
    Down,
    Unembed,
}

pub(crate) const PER_LAYER: [Projection; 7] = [
    Projection::Query,
    Projection::Key,
    Projection::Value,
    Projection::Output,
    Projection::Gate,
    Projection::Up,
    Projection::Down,
];

impl ModelConfig {
    pub(crate) fn head(&self) -> usize {
        self.d / self.heads
    }

    /// Index of a layer's matrix in every list of matrices.
    pub(crate) fn index(&self, layer: usize, projection: Projection) -> usize {
        match projection {
            Projection::Unembed => self.layers * PER_LAYER.len(),
            inner => layer * PER_LAYER.len() + inner as usize,
        }
    }

    /// All matrices in order of their index, with rows (inputs) and columns (outputs).
    pub(crate) fn projections(&self) -> Vec<(Projection, usize, usize)> {
        let layer = PER_LAYER.map(|p| {
            let (rows, columns) = self.shape(p);
            (p, rows, columns)
        });
        let mut all = layer.repeat(self.layers);
        let (rows, columns) = self.shape(Projection::Unembed);
        all.push((Projection::Unembed, rows, columns));
        all
    }

    fn shape(&self, projection: Projection) -> (usize, usize) {
        match projection {
            Projection::Query | Projection::Key | Projection::Value | Projection::Output => (self.d, self.d),
            Projection::Gate | Projection::Up => (self.d, self.ff),
            Projection::Down => (self.ff, self.d),
            Projection::Unembed => (self.d, self.vocabulary),
        }
    }

    /// Refuses shapes that no model has, and sizes that a damaged file could claim.
    pub(crate) fn check(&self) -> Result<(), Error> {
        const LARGEST: usize = 1 << 20;
        let bad = |reason: &str| Err(Error::Malformed { what: "model", reason: reason.to_string() });
        let sizes = [self.vocabulary, self.d, self.layers, self.heads, self.ff, self.context];
        if sizes.iter().any(|&size| size == 0 || size > LARGEST) {
            return bad("a size is 0 or above 1,048,576");
        }
        if !self.d.is_multiple_of(self.heads) || !self.head().is_multiple_of(2) {
            return bad("the heads must divide the width into even parts");
        }
        if self.layers.saturating_mul(self.d).saturating_mul(self.d + self.ff) > LARGEST * 64
            || self.vocabulary.saturating_mul(self.d) > LARGEST * 64
        {
            return bad("it claims more parameters than this crate is made for");
        }
        Ok(())
    }
}

/// Where each parameter of the base lies in one flat vector: the embedding `[vocabulary, d]`, then for each layer its two
/// norms and seven matrices, then the final norm. The unembedding is the embedding transposed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BaseLayout {
    pub embedding: Range<usize>,
    /// Two for each layer, then the final one.
    pub norms: Vec<Range<usize>>,
    /// By matrix index, without the unembedding.
    pub matrices: Vec<Range<usize>>,
    pub size: usize,
}

impl BaseLayout {
    pub fn new(config: &ModelConfig) -> BaseLayout {
        let mut size = 0;
        let mut take = |length: usize| {
            size += length;
            size - length..size
        };
        let embedding = take(config.vocabulary * config.d);
        let (mut norms, mut matrices) = (Vec::new(), Vec::new());
        for _ in 0..config.layers {
            norms.extend([take(config.d), take(config.d)]);
            for projection in PER_LAYER {
                let (rows, columns) = config.shape(projection);
                matrices.push(take(rows * columns));
            }
        }
        norms.push(take(config.d));
        BaseLayout { embedding, norms, matrices, size }
    }
}
