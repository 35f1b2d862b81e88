//! The gradients against finite differences, in `f64`, by the very code that trains in `f32`.

use crate::batch::{self, Sequence};
use crate::config::{BaseLayout, ModelConfig, PER_LAYER, Projection};
use crate::engine::matrices::{Network, Rotation};
use crate::lora::{LoraConfig, LoraLayout, LoraSink};
use crate::pretraining::FullSink;
use crate::random::Random;
use std::sync::Arc;

/// Odd sizes, so that every tail of every kernel is met; more rows than a block of attention.
fn config() -> ModelConfig {
    ModelConfig { vocabulary: 37, d: 20, layers: 2, heads: 2, ff: 27, context: 64 }
}

fn numbers(random: &mut Random, count: usize, size: f64) -> Vec<f64> {
    (0..count).map(|_| random.normal() * size).collect()
}

fn network(config: &ModelConfig, flat: &[f64]) -> Network<f64> {
    Network::new(config, Arc::new(Rotation::new(config)), flat)
}

fn sequences(random: &mut Random) -> Vec<Sequence> {
    let mut ids = |count: usize| (0..count).map(|_| (random.next() % 37) as u32).collect::<Vec<_>>();
    let mut batch = vec![Sequence::new(ids(41), ids(41)), Sequence::new(ids(1), ids(1))];
    batch.push(Sequence { tokens: ids(5), targets: ids(15), targets_per_token: 3 });
    batch
}

/// A loss that is not a plain sum, so that a gradient that ignores the caller's numbers is found out.
fn loss(logprobs: &[Vec<f64>]) -> f64 {
    logprobs.iter().flatten().enumerate().map(|(i, p)| p * p * 0.1 - p * (i % 3) as f64).sum()
}

fn loss_gradient(batch: &[Sequence], sequence: usize, logprobs: &[f64]) -> Vec<f64> {
    let before: usize = batch[..sequence].iter().map(|datum| datum.targets.len()).sum();
    let derivative = |(i, p): (usize, &f64)| 0.2 * p - ((before + i) % 3) as f64;
    logprobs.iter().enumerate().map(derivative).collect()
}

#[track_caller]
fn assert_close(what: &str, analytic: f64, numeric: f64) {
    let error = (analytic - numeric).abs();
    assert!(error < 1e-6 * (1.0 + numeric.abs()), "{what}: gradient {analytic}, by differences {numeric}");
}

const STEP: f64 = 1e-5;

#[test]
fn every_kind_of_lora_parameter_has_the_gradient_of_finite_differences() {
    let config = config();
    let mut random = Random::new(1);
    let base = network(&config, &numbers(&mut random, BaseLayout::new(&config).size, 0.3));
    let lora = LoraConfig { rank: 3, ..LoraConfig::default() };
    let layout = LoraLayout::new(&config, &lora);
    let mut values = numbers(&mut random, layout.size, 0.05);
    let batch = sequences(&mut random);

    let merged = layout.merge(&base, &values);
    let transposed_b = layout.transposed_b(&values);
    let (_, sinks) = batch::logprobs_and_gradients(
        &merged,
        &merged.transposed(),
        &batch,
        1,
        || LoraSink::new(&layout, &values, &transposed_b),
        |i, logprobs| loss_gradient(&batch, i, logprobs),
    )
    .unwrap();
    let mut gradient = vec![0.0; layout.size];
    for sink in &sinks {
        crate::engine::kernels::add(&mut gradient, &sink.gradient);
    }

    let mut seen = Vec::new();
    for (index, part) in layout.parts.iter().enumerate() {
        let part = part.as_ref().unwrap();
        seen.push(part.projection);
        for (name, range) in [("A", part.a.clone()), ("B", part.b.clone())] {
            // A few of each, the first and the last among them.
            let few = [range.start, range.start + range.len() / 2, range.end - 2, range.end - 1];
            for at in few {
                let mut at_offset = |offset: f64| {
                    let before = values[at];
                    values[at] += offset;
                    let merged = layout.merge(&base, &values);
                    values[at] = before;
                    loss(&batch::logprobs(&merged, &batch, 1))
                };
                let numeric = (at_offset(STEP) - at_offset(-STEP)) / (2.0 * STEP);
                assert!(numeric != 0.0, "matrix {index}, {name}: the difference tells nothing");
                assert_close(
                    &format!("matrix {index} ({:?}), {name}", part.projection),
                    gradient[at],
                    numeric,
                );
            }
        }
    }
    assert!(PER_LAYER.iter().chain(&[Projection::Unembed]).all(|kind| seen.contains(kind)));
}

#[test]
fn every_kind_of_base_parameter_has_the_gradient_of_finite_differences() {
    let config = config();
    let mut random = Random::new(2);
    let layout = Arc::new(BaseLayout::new(&config));
    let mut flat = numbers(&mut random, layout.size, 0.3);
    let batch = sequences(&mut random);
    let base = network(&config, &flat);
    let (_, sinks) = batch::logprobs_and_gradients(
        &base,
        &base.transposed(),
        &batch,
        2,
        || FullSink::new(&config, Arc::clone(&layout)),
        |i, logprobs| loss_gradient(&batch, i, logprobs),
    )
    .unwrap();
    let ranges = std::iter::once(&layout.embedding).chain(&layout.norms).chain(&layout.matrices);
    for range in ranges {
        let token = batch[0].tokens[3] as usize;
        for at in [range.start + (token * config.d + 3) % range.len(), range.end - 1] {
            let mut at_offset = |offset: f64| {
                let before = flat[at];
                flat[at] += offset;
                let found = loss(&batch::logprobs(&network(&config, &flat), &batch, 1));
                flat[at] = before;
                found
            };
            let numeric = (at_offset(STEP) - at_offset(-STEP)) / (2.0 * STEP);
            let analytic: f64 = sinks.iter().map(|sink| sink.gradient[at]).sum();
            assert_close(&format!("parameter {at}"), analytic, numeric);
        }
    }
}
