//! How the data of one call are cut into requests.

use std::ops::Range;

use crate::{Chunk, Datum, Tensor};

/// The flags that limit one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkLimits {
    /// Data.
    pub data: usize,
    /// Estimated bytes.
    pub bytes: usize,
}

impl ChunkLimits {
    /// Those of a server that says nothing.
    pub const DEFAULT: ChunkLimits = ChunkLimits { data: 1_024, bytes: 5_000_000 };
}

/// Consecutive ranges that cover the data, each within the limits. One datum is never cut: one that is too large by
/// itself is a chunk by itself. No data, no ranges.
pub fn chunks(sizes: impl IntoIterator<Item = usize>, limits: ChunkLimits) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    let mut bytes = 0usize;
    for (index, size) in sizes.into_iter().enumerate() {
        match ranges.last_mut() {
            Some(range) if range.len() < limits.data && bytes.saturating_add(size) <= limits.bytes => {
                range.end = index + 1;
                bytes = bytes.saturating_add(size);
            }
            _ => {
                ranges.push(index..index + 1);
                bytes = size;
            }
        }
    }
    ranges
}

/// The bytes of a datum, as the protocol estimates them: 4 a token, the length of images and audio, the size of each
/// tensor and 8 a sparse index.
pub fn datum_bytes(datum: &Datum) -> usize {
    let input: usize = datum.model_input.chunks.iter().map(chunk_bytes).sum();
    input + datum.loss_fn_inputs.values().map(tensor_bytes).sum::<usize>()
}

fn chunk_bytes(chunk: &Chunk) -> usize {
    match chunk {
        Chunk::EncodedText(tokens) => tokens.as_bytes().len(),
        Chunk::Image(image) => image.data.len(),
        Chunk::ImageAssetPointer { location, .. } => location.len(),
        Chunk::Dmel(audio) => audio.len(),
    }
}

fn tensor_bytes(tensor: &Tensor) -> usize {
    let indices = tensor.csr().map_or(0, |csr| csr.crow_indices().len() + csr.col_indices().len());
    tensor.bytes().len() + 8 * indices
}

/// The bytes of a prompt, as the limits on samples in dispatch count them: 10 a token, else the length of the data or of
/// the location.
pub fn prompt_bytes(prompt: &crate::ModelInput) -> usize {
    let size = |chunk: &Chunk| match chunk {
        Chunk::EncodedText(tokens) => tokens.len().saturating_mul(10),
        other => chunk_bytes(other),
    };
    prompt.chunks.iter().map(size).sum()
}
