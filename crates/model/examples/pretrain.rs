//! Makes the base model: all weights, by the engine's own full-gradient mode, with a fixed number of steps.
//!
//! `pretrain TRAIN HELDOUT OUTPUT STEPS` reads token ids (16 bits each, little-endian, as `scripts/pretrain/prepare.py` writes
//! them), prints a line of log now and then, and writes the model file every 500 steps and at the end.

use std::time::Instant;
use tinkex_model::{AdamParams, ModelConfig, Pretraining, Sequence};

const CONFIG: ModelConfig =
    ModelConfig { vocabulary: 1024, d: 128, layers: 4, heads: 4, ff: 344, context: 1024 };
const LENGTH: usize = 192;
const BATCH: usize = 16;
const WARM_UP: usize = 100;
const PEAK: f64 = 4e-3;
const SEED: u64 = 20;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [train, held_out, output, steps] = &arguments[..] else {
        return Err("usage: pretrain TRAIN HELDOUT OUTPUT STEPS".into());
    };
    let (train, held_out, steps) = (ids(train)?, ids(held_out)?, steps.parse::<usize>()?);
    let held_out: Vec<Sequence> =
        (0..held_out.len() - LENGTH).step_by(LENGTH).map(|at| window(&held_out, at)).collect();
    let threads = std::thread::available_parallelism()?.get();
    let mut model = Pretraining::new(CONFIG, SEED)?;
    println!(
        "{} training tokens, {} held-out sequences, {steps} steps of {BATCH} × {LENGTH} tokens",
        train.len(),
        held_out.len()
    );

    let started = Instant::now();
    let mut random = SEED;
    let mut recent = Vec::new();
    for step in 0..steps {
        let batch: Vec<Sequence> = (0..BATCH)
            .map(|_| {
                random =
                    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                window(&train, (random >> 33) as usize % (train.len() - LENGTH))
            })
            .collect();
        let params = AdamParams {
            learning_rate: learning_rate(step, steps),
            weight_decay: 0.02,
            grad_clip_norm: 1.0,
            eps: 1e-8,
            ..AdamParams::default()
        };
        let (loss, _) = model.step(&batch, threads, &params)?;
        recent.push(loss);
        if (step + 1) % 50 == 0 {
            let mean = recent.iter().sum::<f64>() / recent.len() as f64;
            recent.clear();
            print!("step {:5}  loss {mean:.4}  {:6.0} s", step + 1, started.elapsed().as_secs_f64());
            if (step + 1) % 500 == 0 || step + 1 == steps {
                print!("  held-out {:.4}", model.evaluate(&held_out, threads)?);
                std::fs::write(output, model.to_bytes())?;
            }
            println!();
        }
    }
    std::fs::write(output, model.to_bytes())?;
    Ok(())
}

/// A rise, then half a cosine down to a fiftieth.
fn learning_rate(step: usize, steps: usize) -> f64 {
    if step < WARM_UP {
        return PEAK * (step + 1) as f64 / WARM_UP as f64;
    }
    let done = (step - WARM_UP) as f64 / (steps - WARM_UP) as f64;
    PEAK * (0.02 + 0.98 * 0.5 * (1.0 + (std::f64::consts::PI * done).cos()))
}

fn ids(path: &str) -> Result<Vec<u32>, std::io::Error> {
    let bytes = std::fs::read(path)?;
    Ok(bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]).into()).collect())
}

fn window(ids: &[u32], at: usize) -> Sequence {
    Sequence::new(ids[at..at + LENGTH].to_vec(), ids[at + 1..=at + LENGTH].to_vec())
}
