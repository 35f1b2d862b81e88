//! Makes the base model: all weights, by the engine's own full-gradient mode, with a fixed number of steps.
//!
//! `pretrain CACHE OUTPUT STEPS` reads the token ids that `scripts/pretrain/prepare.py` left in CACHE (`first.bin`,
//! `second.bin`, `heldout.bin`: 16 bits each, little-endian), prints a line of log every 50 steps, and writes the model file OUTPUT.
//! Every 250 steps it leaves its state in CACHE, and goes on from there when it is started again. The learning rate is
//! constant until the last 200 steps, so a run that was left goes on to any later STEPS with the bits that a single run to
//! STEPS would have.

use std::path::Path;
use std::time::Instant;
use tinkex_model::{AdamParams, ModelConfig, Pretraining, Sequence};

const CONFIG: ModelConfig =
    ModelConfig { vocabulary: 1024, d: 128, layers: 4, heads: 4, ff: 344, context: 1024 };
const LENGTH: usize = 192;
const SEED: u64 = 20;

const PEAK_RATE: f64 = 3e-3;
const WARM_UP: u64 = 100;
const COOL_DOWN: u64 = 200;

/// What is read from which step on, and how many windows a step.
const PARTS: [Part; 4] = [
    Part { from: 0, file: "first.bin", batch: 8 },
    Part { from: 750, file: "second.bin", batch: 8 },
    Part { from: 1250, file: "copying.bin", batch: 4 },
    Part { from: 2000, file: "second.bin", batch: 8 },
];

struct Part {
    from: u64,
    file: &'static str,
    batch: u64,
}

const STEPS_PER_LINE: u64 = 50;
const STEPS_PER_STATE: u64 = 250;
/// Of the held-out text, what is read at each state; enough to see where it goes.
const HELD_OUT_SEQUENCES: usize = 100;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [cache, output, steps] = &arguments[..] else {
        return Err("usage: pretrain CACHE OUTPUT STEPS".into());
    };
    let (cache, steps) = (Path::new(cache), steps.parse::<u64>()?);
    let read = |name: &str| ids(&cache.join(name));
    let texts: Vec<Vec<u32>> = PARTS.iter().map(|part| read(part.file)).collect::<Result<_, _>>()?;
    let held_out = read("heldout.bin")?;
    let held_out: Vec<Sequence> = (0..held_out.len() - LENGTH)
        .step_by(LENGTH)
        .take(HELD_OUT_SEQUENCES)
        .map(|at| window(&held_out, at))
        .collect();
    let threads = std::thread::available_parallelism()?.get();
    let saved = cache.join("state.bin");
    let mut model = match std::fs::read(&saved) {
        Ok(state) => Pretraining::resume(CONFIG, &state)?,
        Err(_) => Pretraining::new(CONFIG, SEED)?,
    };
    println!(
        "from step {} to {steps}, windows of {LENGTH} tokens from {:?} tokens",
        model.steps(),
        texts.iter().map(Vec::len).collect::<Vec<_>>()
    );

    let started = Instant::now();
    let mut recent = Vec::new();
    while model.steps() < steps {
        let step = model.steps();
        let params = AdamParams {
            learning_rate: learning_rate(step, steps),
            weight_decay: 0.02,
            grad_clip_norm: 1.0,
            eps: 1e-8,
            ..AdamParams::default()
        };
        let part = PARTS.iter().rposition(|part| part.from <= step).expect("the first part is from step 0");
        let batch = batch(&texts[part], PARTS[part].batch, step);
        let (loss, metrics) = model.step(&batch, threads, &params)?;
        recent.push(loss);
        let step = metrics.step;
        if step.is_multiple_of(STEPS_PER_LINE) {
            let mean = recent.drain(..).sum::<f64>() / STEPS_PER_LINE as f64;
            print!("step {step:5}  loss {mean:.4}  {:6.0} s", started.elapsed().as_secs_f64());
            if step.is_multiple_of(STEPS_PER_STATE) {
                print!("  held-out {:.4}", model.evaluate(&held_out, threads)?);
                let partial = cache.join("state.partial");
                std::fs::write(&partial, model.state())?;
                std::fs::rename(&partial, &saved)?;
                std::fs::write(output, model.to_bytes())?;
            }
            println!();
        }
    }
    std::fs::write(output, model.to_bytes())?;
    Ok(())
}

/// A short rise, constant, then straight down to nearly nothing.
fn learning_rate(step: u64, steps: u64) -> f64 {
    let rise = (step + 1) as f64 / WARM_UP as f64;
    let fall = (steps - step) as f64 / COOL_DOWN as f64;
    PEAK_RATE * rise.min(fall).min(1.0)
}

/// The windows of a step depend on its number alone.
fn batch(train: &[u32], count: u64, step: u64) -> Vec<Sequence> {
    let at = |i: u64| {
        let mixed = (step * 8 + i + SEED).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed >> 32) as usize % (train.len() - LENGTH)
    };
    (0..count).map(|i| window(train, at(i))).collect()
}

fn ids(path: &Path) -> Result<Vec<u32>, std::io::Error> {
    let bytes = std::fs::read(path)?;
    Ok(bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]).into()).collect())
}

fn window(ids: &[u32], at: usize) -> Sequence {
    Sequence::new(ids[at..at + LENGTH].to_vec(), ids[at + 1..=at + LENGTH].to_vec())
}
