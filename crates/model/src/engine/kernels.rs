//! Everything on rows that is not a matrix product: norms, softmax, activation, rotation, sums.

use super::Real;
use super::simd::kernel;

/// Partial sums of a long row; see rule 3 in `engine`.
const LANES: usize = 16;

/// Keeps the root mean square of a zero row away from zero.
const NORM_EPSILON: f64 = 1e-5;

#[inline(always)]
fn add_up<T: Real>(lanes: [T; LANES]) -> T {
    let mut sum = lanes[0];
    for lane in &lanes[1..] {
        sum += *lane;
    }
    sum
}

#[inline(always)]
fn dot_row<T: Real>(a: &[T], b: &[T]) -> T {
    let mut lanes = [T::ZERO; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let (a_rest, b_rest) = (a_chunks.remainder(), b_chunks.remainder());
    for (x, y) in a_chunks.zip(b_chunks) {
        for i in 0..LANES {
            lanes[i] += x[i] * y[i];
        }
    }
    for (i, (x, y)) in a_rest.iter().zip(b_rest).enumerate() {
        lanes[i] += *x * *y;
    }
    add_up(lanes)
}

#[inline(always)]
fn max_row<T: Real>(row: &[T]) -> T {
    let mut lanes = [row[0]; LANES];
    let chunks = row.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for i in 0..LANES {
            lanes[i] = if chunk[i] > lanes[i] { chunk[i] } else { lanes[i] };
        }
    }
    let mut max = lanes[0];
    for value in lanes[1..].iter().chain(rest) {
        max = if *value > max { *value } else { max };
    }
    max
}

/// Replaces each x by `e^(x * scale - shift)` and gives their sum.
#[inline(always)]
fn exp_row<T: Real>(row: &mut [T], scale: T, shift: T) -> T {
    let mut lanes = [T::ZERO; LANES];
    let mut chunks = row.chunks_exact_mut(LANES);
    for chunk in &mut chunks {
        for i in 0..LANES {
            chunk[i] = (chunk[i] * scale - shift).exp();
            lanes[i] += chunk[i];
        }
    }
    for (i, value) in chunks.into_remainder().iter_mut().enumerate() {
        *value = (*value * scale - shift).exp();
        lanes[i] += *value;
    }
    add_up(lanes)
}

#[inline(always)]
fn sigmoid<T: Real>(x: T) -> T {
    T::ONE / (T::ONE + (-x).exp())
}

kernel! {
    /// Each row of `x` `[rows, d]` divided by its root mean square, times `gain` `[d]`. `inverse` `[rows]` keeps the divisors.
    pub(crate) fn rms_norm(x: &[T], gain: &[T], out: &mut [T], inverse: &mut [T]) {
        let d = gain.len();
        let width = T::from_f64(d as f64);
        for ((x, out), inverse) in x.chunks_exact(d).zip(out.chunks_exact_mut(d)).zip(inverse) {
            let mean = dot_row(x, x) / width;
            *inverse = T::ONE / (mean + T::from_f64(NORM_EPSILON)).sqrt();
            for ((out, x), gain) in out.iter_mut().zip(x).zip(gain) {
                *out = *x * *inverse * *gain;
            }
        }
    }

    /// Adds to `dx` what `dy`, the gradient at the norm's output, is worth at its input.
    pub(crate) fn rms_norm_backward(x: &[T], gain: &[T], inverse: &[T], dy: &[T], dx: &mut [T], scratch: &mut Vec<T>) {
        let d = gain.len();
        let width = T::from_f64(d as f64);
        scratch.clear();
        scratch.resize(d, T::ZERO);
        for (((x, dy), dx), inverse) in x.chunks_exact(d).zip(dy.chunks_exact(d)).zip(dx.chunks_exact_mut(d)).zip(inverse) {
            for ((weighted, dy), gain) in scratch.iter_mut().zip(dy).zip(gain) {
                *weighted = *dy * *gain;
            }
            let along = dot_row(scratch, x) * *inverse * *inverse * *inverse / width;
            for ((dx, weighted), x) in dx.iter_mut().zip(scratch.iter()).zip(x) {
                *dx += *weighted * *inverse - *x * along;
            }
        }
    }

    /// Adds to `dgain` `[d]` the gradient of the norm's gain.
    pub(crate) fn rms_norm_gain_backward(x: &[T], inverse: &[T], dy: &[T], dgain: &mut [T]) {
        let d = dgain.len();
        for ((x, dy), inverse) in x.chunks_exact(d).zip(dy.chunks_exact(d)).zip(inverse) {
            for ((dgain, x), dy) in dgain.iter_mut().zip(x).zip(dy) {
                *dgain += *dy * (*x * *inverse);
            }
        }
    }

    /// Turns `row` of scores into probabilities of `row * scale`.
    pub(crate) fn softmax(row: &mut [T], scale: T) {
        let max = max_row(row) * scale;
        let sum = exp_row(row, scale, max);
        for value in row {
            *value = *value / sum;
        }
    }

    /// The gradient at the scores from `dp`, that at the probabilities `p`, in place.
    pub(crate) fn softmax_backward(p: &[T], dp: &mut [T], scale: T) {
        let along = dot_row(p, dp);
        for (dp, p) in dp.iter_mut().zip(p) {
            *dp = *p * (*dp - along) * scale;
        }
    }

    /// `ln(sum of e^logits)`. `scratch` is overwritten.
    pub(crate) fn log_sum_exp(logits: &[T], scratch: &mut Vec<T>) -> T {
        scratch.clear();
        scratch.extend_from_slice(logits);
        let max = max_row(logits);
        exp_row(scratch, T::ONE, max).ln() + max
    }

    /// Replaces logits by `-weight * probability`, the part of the gradient that all entries have.
    pub(crate) fn scaled_probabilities(logits: &mut [T], log_sum: T, weight: T) {
        for value in logits {
            *value = -(weight * (*value - log_sum).exp());
        }
    }

    /// `silu(gate) * up`.
    pub(crate) fn swiglu(gate: &[T], up: &[T], out: &mut [T]) {
        for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
            *out = *gate * sigmoid(*gate) * *up;
        }
    }

    /// From `dout`, in place of it the gradient at `gate`, and in `dup` that at `up`.
    pub(crate) fn swiglu_backward(gate: &[T], up: &[T], dout: &mut [T], dup: &mut [T]) {
        for (((gate, up), dout), dup) in gate.iter().zip(up).zip(dout).zip(dup) {
            let s = sigmoid(*gate);
            let silu = *gate * s;
            *dup = *dout * silu;
            *dout = *dout * *up * (s + silu * (T::ONE - s));
        }
    }

    /// Rotates each head of one row by its position (`cosines`, `sines`: half a head long). Element i goes with element
    /// i + half.
    pub(crate) fn rotate(row: &mut [T], head: usize, cosines: &[T], sines: &[T]) {
        for part in row.chunks_exact_mut(head) {
            let (low, high) = part.split_at_mut(head / 2);
            for (((low, high), cos), sin) in low.iter_mut().zip(high).zip(cosines).zip(sines) {
                let (x, y) = (*low, *high);
                *low = x * *cos - y * *sin;
                *high = x * *sin + y * *cos;
            }
        }
    }

    /// The inverse rotation, which is also the backward pass of `rotate`.
    pub(crate) fn rotate_back(row: &mut [T], head: usize, cosines: &[T], sines: &[T]) {
        for part in row.chunks_exact_mut(head) {
            let (low, high) = part.split_at_mut(head / 2);
            for (((low, high), cos), sin) in low.iter_mut().zip(high).zip(cosines).zip(sines) {
                let (x, y) = (*low, *high);
                *low = x * *cos + y * *sin;
                *high = y * *cos - x * *sin;
            }
        }
    }

    /// `to += from`.
    pub(crate) fn add(to: &mut [T], from: &[T]) {
        for (to, from) in to.iter_mut().zip(from) {
            *to += *from;
        }
    }

    /// `values *= factor`.
    pub(crate) fn scale(values: &mut [T], factor: T) {
        for value in values {
            *value = *value * factor;
        }
    }
}
