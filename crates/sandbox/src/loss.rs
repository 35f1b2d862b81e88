//! Losses: from a sequence's log-probabilities to the loss and its gradient. All are sums over tokens.
//!
//! This is the seam for a new loss: a name in [`Loss::find`] and a formula in [`Loss::evaluate`]. The engine knows none of them.
//! `exp` comes from libm, so that a gradient has the same bits native and in wasm.

use std::collections::BTreeMap;
use tinkex_protocol::{Datum, Tensor};

/// How far PPO's ratio may go before its gradient stops, where a request says nothing.
const PPO_CLIP: (f64, f64) = (0.8, 1.2);

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Loss {
    /// −Σ weight · logprob.
    CrossEntropy,
    /// −Σ exp(logprob − sampling logprob) · advantage.
    ImportanceSampling,
    /// −Σ min(ratio · advantage, clip(ratio, low, high) · advantage).
    Ppo { low: f64, high: f64 },
}

/// What a loss reads besides the log-probabilities: one number each per target.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inputs {
    weights: Vec<f32>,
    sampled: Vec<f32>,
    advantages: Vec<f32>,
    low: Option<Vec<f32>>,
    high: Option<Vec<f32>>,
}

/// The loss of one sequence, and d loss / d logprob.
pub(crate) struct Evaluated {
    pub loss: f64,
    pub gradient: Vec<f32>,
}

impl Loss {
    pub fn find(name: &str, config: &BTreeMap<String, f64>) -> Result<Self, String> {
        let known = |names: &[&str]| match config.keys().find(|key| !names.contains(&key.as_str())) {
            Some(key) => Err(format!("loss_fn_config.{key} is unknown to {name}; it knows {names:?}")),
            None => Ok(()),
        };
        match name {
            "cross_entropy" => known(&[]).map(|()| Self::CrossEntropy),
            "importance_sampling" => known(&[]).map(|()| Self::ImportanceSampling),
            "ppo" => {
                known(&["clip_low_threshold", "clip_high_threshold"])?;
                let value = |key, otherwise| config.get(key).copied().unwrap_or(otherwise);
                let low = value("clip_low_threshold", PPO_CLIP.0);
                let high = value("clip_high_threshold", PPO_CLIP.1);
                if !(0.0 <= low && low <= high) {
                    return Err(format!("ppo clips the ratio between {low} and {high}, which is no range"));
                }
                Ok(Self::Ppo { low, high })
            }
            "cispo" | "dro" | "gspo" | "stable_reinforce" | "custom" => Err(format!(
                "loss_fn {name} is not computed by the sandbox, which knows cross_entropy, importance_sampling and ppo. \
                 A custom loss in the client works with each of them."
            )),
            _ => Err(format!(
                "loss_fn {name:?} is unknown; the sandbox knows cross_entropy, importance_sampling and ppo"
            )),
        }
    }

    /// Reads what this loss needs out of a datum, each as long as its targets.
    pub fn inputs(self, datum: &Datum, targets: &Tensor) -> Result<Inputs, String> {
        let read = |name: &str| floats(datum, name, targets.shape());
        let need = |name: &str| {
            read(name)?.ok_or_else(|| format!("loss_fn_inputs.{name} is missing, and this loss needs it"))
        };
        Ok(match self {
            Self::CrossEntropy => {
                let weights = read("weights")?.unwrap_or_else(|| vec![1.0; targets.len()]);
                Inputs { weights, ..Inputs::default() }
            }
            Self::ImportanceSampling => {
                Inputs { sampled: need("logprobs")?, advantages: need("advantages")?, ..Inputs::default() }
            }
            Self::Ppo { .. } => Inputs {
                sampled: need("logprobs")?,
                advantages: need("advantages")?,
                low: read("clip_low_threshold")?,
                high: read("clip_high_threshold")?,
                ..Inputs::default()
            },
        })
    }

    pub fn evaluate(self, inputs: &Inputs, logprobs: &[f32]) -> Evaluated {
        let each = |formula: &dyn Fn(usize, f32) -> (f64, f64)| {
            let mut loss = 0.0;
            let gradient = logprobs.iter().enumerate().map(|(i, logprob)| {
                let (value, slope) = formula(i, *logprob);
                loss += value;
                slope as f32
            });
            let gradient = gradient.collect();
            Evaluated { loss, gradient }
        };
        let ratio = |i: usize, logprob: f32| libm::exp(f64::from(logprob) - f64::from(inputs.sampled[i]));
        match self {
            Self::CrossEntropy => each(&|i, logprob| {
                let weight = f64::from(inputs.weights[i]);
                // A weight of zero leaves a token out, however unlikely it is.
                (if weight == 0.0 { 0.0 } else { -weight * f64::from(logprob) }, -weight)
            }),
            Self::ImportanceSampling => each(&|i, logprob| {
                let surrogate = -ratio(i, logprob) * f64::from(inputs.advantages[i]);
                (surrogate, surrogate)
            }),
            Self::Ppo { low, high } => each(&|i, logprob| {
                let at = |given: &Option<Vec<f32>>, otherwise| {
                    given.as_ref().map_or(otherwise, |all| f64::from(all[i]))
                };
                let (low, high) = (at(&inputs.low, low), at(&inputs.high, high));
                let (ratio, advantage) = (ratio(i, logprob), f64::from(inputs.advantages[i]));
                let free = ratio * advantage;
                let clipped = ratio.max(low).min(high) * advantage;
                if free <= clipped { (-free, -free) } else { (-clipped, 0.0) }
            }),
        }
    }
}

/// A float input of a datum, which must be finite and of the shape of its targets.
fn floats(datum: &Datum, name: &str, shape: &[usize]) -> Result<Option<Vec<f32>>, String> {
    let Some(tensor) = datum.loss_fn_inputs.get(name) else { return Ok(None) };
    if tensor.csr().is_some() {
        return Err(format!("loss_fn_inputs.{name} is sparse; the sandbox takes dense tensors"));
    }
    if tensor.shape() != shape {
        let (has, needs) = (tensor.shape(), shape);
        return Err(format!(
            "loss_fn_inputs.{name} has shape {has:?}, and target_tokens has {needs:?}: make them equal"
        ));
    }
    let numbers = tensor.iter_f32().ok_or_else(|| format!("loss_fn_inputs.{name} must be float32"))?;
    let numbers: Vec<f32> = numbers.collect();
    match numbers.iter().position(|number| !number.is_finite()) {
        Some(place) => {
            Err(format!("loss_fn_inputs.{name}[{place}] is {}, which is not finite", numbers[place]))
        }
        None => Ok(Some(numbers)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_policy() -> Inputs {
        Inputs { sampled: vec![-1.0, -2.0, -3.0], advantages: vec![1.0, -2.0, 0.5], ..Inputs::default() }
    }

    #[test]
    fn the_gradient_is_the_slope_of_the_loss() {
        let weights = Inputs { weights: vec![0.5, 0.0, 2.0], ..Inputs::default() };
        let cases = [
            (Loss::CrossEntropy, weights),
            (Loss::ImportanceSampling, on_policy()),
            (Loss::Ppo { low: 0.8, high: 1.2 }, on_policy()),
        ];
        let logprobs = [-0.75_f32, -2.5, -2.75];
        for (loss, inputs) in cases {
            let gradient = loss.evaluate(&inputs, &logprobs).gradient;
            for i in 0..logprobs.len() {
                let step = 1.0 / 4096.0;
                let mut moved = [logprobs; 2];
                moved[0][i] -= step;
                moved[1][i] += step;
                let [below, above] = moved.map(|moved| loss.evaluate(&inputs, &moved).loss);
                let slope = (above - below) / f64::from(2.0 * step);
                assert!(
                    (slope - f64::from(gradient[i])).abs() < 1e-3,
                    "{loss:?} {i}: {slope} {}",
                    gradient[i]
                );
            }
        }
    }

    #[test]
    fn on_policy_ppo_is_importance_sampling() {
        let inputs = on_policy();
        let logprobs = inputs.sampled.clone();
        let ppo = Loss::Ppo { low: 0.8, high: 1.2 }.evaluate(&inputs, &logprobs);
        let plain = Loss::ImportanceSampling.evaluate(&inputs, &logprobs);
        assert_eq!((ppo.loss, ppo.gradient), (plain.loss, plain.gradient));
    }

    #[test]
    fn a_ratio_beyond_the_clip_has_no_gradient() {
        let inputs = Inputs { sampled: vec![-2.0], advantages: vec![1.0], ..Inputs::default() };
        assert_eq!(Loss::Ppo { low: 0.8, high: 1.2 }.evaluate(&inputs, &[-1.0]).gradient, [0.0]);
    }
}
