//! Adam with decoupled weight decay, on flat vectors.

use crate::Error;
use crate::engine::Real;
use crate::engine::simd::kernel;

/// One step's settings, all of the Tinker API's.
#[derive(Debug, Clone, PartialEq)]
pub struct AdamParams {
    pub learning_rate: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    /// Decoupled: each step takes this share, times the learning rate, off each weight.
    pub weight_decay: f64,
    /// The gradient is scaled down to this L2 norm; 0 means that nothing is.
    pub grad_clip_norm: f64,
}

impl Default for AdamParams {
    fn default() -> AdamParams {
        AdamParams {
            learning_rate: 1e-4,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-12,
            weight_decay: 0.0,
            grad_clip_norm: 0.0,
        }
    }
}

/// What a step was like.
#[derive(Debug, Clone, PartialEq)]
pub struct StepMetrics {
    /// Steps taken so far, this one included.
    pub step: u64,
    /// L2 norm of the gradient, before clipping.
    pub grad_norm: f64,
}

impl AdamParams {
    pub(crate) fn check(&self) -> Result<(), Error> {
        let not_negative = [
            ("learning_rate", self.learning_rate),
            ("eps", self.eps),
            ("weight_decay", self.weight_decay),
            ("grad_clip_norm", self.grad_clip_norm),
        ];
        for (name, value) in not_negative {
            if !(value.is_finite() && value >= 0.0) {
                return Err(Error::InvalidParameter { name, value, allowed: "a finite number, 0 or more" });
            }
        }
        for (name, value) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            if !(0.0..1.0).contains(&value) {
                return Err(Error::InvalidParameter { name, value, allowed: "at least 0 and below 1" });
            }
        }
        Ok(())
    }
}

/// The running averages of a flat vector of weights.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Adam<T> {
    pub step: u64,
    pub mean: Vec<T>,
    pub variance: Vec<T>,
}

impl<T: Real> Adam<T> {
    pub fn new(size: usize) -> Adam<T> {
        Adam { step: 0, mean: vec![T::ZERO; size], variance: vec![T::ZERO; size] }
    }

    /// Moves `weights` against `gradient`. Refuses a gradient that isn't finite, with nothing changed.
    pub fn step(
        &mut self,
        params: &AdamParams,
        weights: &mut [T],
        gradient: &[T],
    ) -> Result<StepMetrics, Error> {
        params.check()?;
        let grad_norm = squares(gradient).sqrt();
        if !grad_norm.is_finite() {
            return Err(Error::NonFiniteGradient);
        }
        let clipped = params.grad_clip_norm > 0.0 && grad_norm > params.grad_clip_norm;
        let factor = if clipped { params.grad_clip_norm / grad_norm } else { 1.0 };
        self.step += 1;
        let correction = |beta: f64| 1.0 - libm::pow(beta, self.step as f64);
        let numbers = [
            factor,
            params.beta1,
            1.0 - params.beta1,
            params.beta2,
            1.0 - params.beta2,
            1.0 / libm::sqrt(correction(params.beta2)),
            params.eps,
            params.learning_rate / correction(params.beta1),
            1.0 - params.learning_rate * params.weight_decay,
        ];
        update(weights, gradient, &mut self.mean, &mut self.variance, numbers.map(T::from_f64));
        Ok(StepMetrics { step: self.step, grad_norm })
    }
}

kernel! {
    fn update(weights: &mut [T], gradient: &[T], mean: &mut [T], variance: &mut [T], numbers: [T; 9]) {
        let [factor, beta1, rest1, beta2, rest2, root_correction, eps, rate, keep] = numbers;
        for (((w, g), m), v) in weights.iter_mut().zip(gradient).zip(mean).zip(variance) {
            let g = *g * factor;
            *m = beta1 * *m + rest1 * g;
            *v = beta2 * *v + rest2 * (g * g);
            let root = (*v).sqrt() * root_correction + eps;
            // Where no gradient ever came, mean and root may both be 0 (eps is often too small for an f32's square).
            let move_by = if root > T::ZERO { rate * *m / root } else { T::ZERO };
            *w = *w * keep - move_by;
        }
    }
}

/// Sum of squares, in `f64` and in 16 partial sums (rule 3 of the engine).
fn squares<T: Real>(values: &[T]) -> f64 {
    let mut lanes = [0.0; 16];
    for chunk in values.chunks(16) {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            let value = value.to_f64();
            *lane += value * value;
        }
    }
    lanes.iter().sum()
}
