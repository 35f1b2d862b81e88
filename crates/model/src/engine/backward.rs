//! The backward pass of one whole sequence. What becomes of a matrix's gradient is up to a [`Sink`].

use super::Real;
use super::forward::{BLOCK, LayerTape, Tape, sized};
use super::gemm::{Left, Right, Start, gemm};
use super::kernels;
use super::matrices::{Matrix, Network, left, left_transposed};
use crate::config::Projection;

/// Takes gradients as they arise, from the last layer to the first.
pub(crate) trait Sink<T> {
    /// The matrix of that index gave `dy`'s values `[rows, columns]` from the inputs `x` `[rows, rows of the matrix]`.
    fn matrix(&mut self, index: usize, x: &[T], dy: &[T]);
    /// The norm of that index gave `dy`'s values from the inputs `x`.
    fn norm(&mut self, index: usize, x: &[T], inverse: &[T], dy: &[T]);
    /// The gradient at the embeddings of the sequence's tokens.
    fn embedding(&mut self, tokens: &[u32], dx: &[T]);
    /// Whether anything takes the gradient below the first layer's matrices.
    fn wants_embedding(&self) -> bool;
}

/// Room for the pass, kept between sequences.
#[derive(Debug, Default)]
pub(crate) struct Scratch<T> {
    stream: Vec<T>,
    normed: Vec<T>,
    active: Vec<T>,
    up: Vec<T>,
    mixed: Vec<T>,
    queries: Vec<T>,
    keys: Vec<T>,
    values: Vec<T>,
    scores: Vec<T>,
    values_transposed: Vec<T>,
    row: Vec<T>,
}

/// Goes back through `tape`, the pass over all of `tokens` from an empty cache. `tape.logits` holds the gradient at the logits.
/// `transposed` are the network's matrices.
pub(crate) fn backward<T: Real>(
    network: &Network<T>,
    transposed: &[Matrix<T>],
    tokens: &[u32],
    tape: &Tape<T>,
    scratch: &mut Scratch<T>,
    sink: &mut impl Sink<T>,
) {
    let config = &network.config;
    let (d, rows) = (config.d, tape.rows);
    let index = |layer, projection| config.index(layer, projection);
    let Scratch { stream, normed, active, up, mixed, queries, keys, values, .. } = scratch;

    let unembed = index(0, Projection::Unembed);
    sink.matrix(unembed, &tape.last_normed, &tape.logits);
    back_through(&tape.logits, &transposed[unembed], normed, Start::Zero);
    let last_norm = 2 * config.layers;
    sink.norm(last_norm, &tape.last, &tape.last_inverse, normed);
    sized(stream, rows * d).fill(T::ZERO);
    kernels::rms_norm_backward(
        &tape.last,
        &network.norms[last_norm],
        &tape.last_inverse,
        normed,
        stream,
        &mut scratch.row,
    );

    for (layer, tape) in tape.layers.iter().enumerate().rev() {
        let down = index(layer, Projection::Down);
        sink.matrix(down, &tape.active, stream);
        back_through(stream, &transposed[down], active, Start::Zero);
        kernels::swiglu_backward(&tape.gate, &tape.up, active, sized(up, rows * config.ff));
        let (gate_index, up_index) = (index(layer, Projection::Gate), index(layer, Projection::Up));
        sink.matrix(gate_index, &tape.middle_normed, active);
        sink.matrix(up_index, &tape.middle_normed, up);
        back_through(active, &transposed[gate_index], normed, Start::Zero);
        back_through(up, &transposed[up_index], normed, Start::Add);
        sink.norm(2 * layer + 1, &tape.middle, &tape.middle_inverse, normed);
        let gain = &network.norms[2 * layer + 1];
        kernels::rms_norm_backward(
            &tape.middle,
            gain,
            &tape.middle_inverse,
            normed,
            stream,
            &mut scratch.row,
        );

        let output = index(layer, Projection::Output);
        sink.matrix(output, &tape.mixed, stream);
        back_through(stream, &transposed[output], mixed, Start::Zero);
        let room = (&mut scratch.scores, &mut scratch.values_transposed);
        attend_backward(network, tape, mixed, [queries, keys, values], room);
        let parts = [
            (index(layer, Projection::Query), &*queries),
            (index(layer, Projection::Key), &*keys),
            (index(layer, Projection::Value), &*values),
        ];
        for (index, gradient) in parts {
            sink.matrix(index, &tape.start_normed, gradient);
        }
        if layer == 0 && !sink.wants_embedding() {
            return;
        }
        for (i, (index, gradient)) in parts.into_iter().enumerate() {
            let start = if i == 0 { Start::Zero } else { Start::Add };
            back_through(gradient, &transposed[index], normed, start);
        }
        sink.norm(2 * layer, &tape.start, &tape.start_inverse, normed);
        let gain = &network.norms[2 * layer];
        kernels::rms_norm_backward(&tape.start, gain, &tape.start_inverse, normed, stream, &mut scratch.row);
    }
    sink.embedding(tokens, stream);
}

/// `out (+)= dy · matrixᵀ`.
fn back_through<T: Real>(dy: &[T], transposed: &Matrix<T>, out: &mut Vec<T>, start: Start) {
    let rows = dy.len() / transposed.rows;
    let columns = transposed.columns;
    let out = sized(out, rows * columns);
    gemm(rows, columns, transposed.rows, left(dy, transposed.rows), transposed.right(), out, columns, start);
}

/// From the gradient at what the heads gathered to those at queries, keys and values before their rotation.
fn attend_backward<T: Real>(
    network: &Network<T>,
    tape: &LayerTape<T>,
    mixed: &[T],
    [queries, keys, values]: [&mut Vec<T>; 3],
    (scores, values_transposed): (&mut Vec<T>, &mut Vec<T>),
) {
    let (d, head) = (network.config.d, network.config.head());
    let rows = mixed.len() / d;
    let scale = T::ONE / T::from_f64(head as f64).sqrt();
    let queries = sized(queries, rows * d);
    let keys = sized(keys, rows * d);
    let values = sized(values, rows * d);
    let scores = sized(scores, rows * rows);
    let values_transposed = sized(values_transposed, head * rows);

    for (h, attention) in tape.attention.chunks_exact(rows * rows).enumerate() {
        let at = h * head;
        for row in 0..rows {
            for i in 0..head {
                values_transposed[i * rows + row] = tape.values[row * d + at + i];
            }
        }
        for start in (0..rows).step_by(BLOCK) {
            let block = BLOCK.min(rows - start);
            let visible = start + block;
            let scores = &mut scores[start * rows..visible * rows];
            let attention = &attention[start * rows..visible * rows];
            gemm(
                block,
                visible,
                head,
                Left { data: &mixed[start * d + at..], row: d, column: 1 },
                Right { data: values_transposed, row: rows },
                scores,
                rows,
                Start::Zero,
            );
            for (r, (scores, attention)) in
                scores.chunks_exact_mut(rows).zip(attention.chunks_exact(rows)).enumerate()
            {
                let past = start + r + 1;
                kernels::softmax_backward(&attention[..past], &mut scores[..past], scale);
                scores[past..].fill(T::ZERO);
            }
            gemm(
                block,
                head,
                visible,
                left(scores, rows),
                Right { data: &tape.keys[at..], row: d },
                &mut queries[start * d + at..],
                d,
                Start::Zero,
            );
        }
        // A key and its value are seen by their own row and the later ones.
        for start in (0..rows).step_by(BLOCK) {
            let block = BLOCK.min(rows - start);
            let later = rows - start;
            let triangle = start * rows + start;
            gemm(
                block,
                head,
                later,
                left_transposed(&scores[triangle..], rows),
                Right { data: &tape.queries[start * d + at..], row: d },
                &mut keys[start * d + at..],
                d,
                Start::Zero,
            );
            gemm(
                block,
                head,
                later,
                left_transposed(&attention[triangle..], rows),
                Right { data: &mixed[start * d + at..], row: d },
                &mut values[start * d + at..],
                d,
                Start::Zero,
            );
        }
    }
    for row in 0..rows {
        let range = row * d..(row + 1) * d;
        let (cosines, sines) = network.rotation.at(row);
        kernels::rotate_back(&mut queries[range.clone()], head, cosines, sines);
        kernels::rotate_back(&mut keys[range], head, cosines, sines);
    }
}
