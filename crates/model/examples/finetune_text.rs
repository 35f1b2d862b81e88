//! Fine-tunes the shipped base on `data/shakespeare.txt`, with the held-out loss and a sample before and after.
//!
//! `cargo run --release -p tinkex-model --example finetune_text [STEPS]`, from the root of the repository.

#[path = "finetune_answers/tokenizer.rs"]
mod tokenizer;

use std::time::Instant;
use tinkex_model::{
    AdamParams, Adapter, BaseModel, LoraConfig, Prompt, PromptDetail, SamplingParams, Sequence,
};
use tokenizer::Tokenizer;

const STEPS: usize = 150;
const BATCH: usize = 8;
const LENGTH: usize = 64;
const LEARNING_RATE: f64 = 3e-3;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let steps = std::env::args().nth(1).map_or(Ok(STEPS), |steps| steps.parse())?;
    let tokenizer = Tokenizer::from_file("data/tokenizer.json")?;
    let ids = tokenizer.encode(&std::fs::read_to_string("data/shakespeare.txt")?);
    let (train, held_out) = ids.split_at(ids.len() * 9 / 10);
    let windows = |ids: &[u32]| -> Vec<Sequence> {
        ids.windows(LENGTH + 1)
            .step_by(LENGTH)
            .map(|window| Sequence::new(window[..LENGTH].to_vec(), window[1..].to_vec()))
            .collect()
    };
    let (train, held_out) = (windows(train), windows(held_out));
    let threads = std::thread::available_parallelism()?.get();
    let mut adapter = Adapter::new(&BaseModel::shipped(), LoraConfig::default())?;
    let mut training = 0.0;
    for step in 0..=steps {
        if step % 50 == 0 || step == steps {
            let logprobs = adapter.forward(&held_out, threads)?;
            let count = held_out.len() * LENGTH;
            let loss =
                -logprobs.iter().flatten().map(|&logprob| f64::from(logprob)).sum::<f64>() / count as f64;
            println!("step {step:4}  {training:5.1} s  held-out loss {loss:.3}");
        }
        if step == 0 || step == steps {
            let prompt = Prompt::read(&adapter.weights(), &tokenizer.encode("Romeo.\n"), PromptDetail::None)?;
            let mut sample = prompt.generate(&SamplingParams {
                max_tokens: 60,
                temperature: 0.8,
                ..Default::default()
            })?;
            while sample.step().is_some() {}
            println!("--- Romeo.\n{}\n---", tokenizer.decode(sample.tokens()));
        }
        let started = Instant::now();
        // 389 is prime to the number of windows, so that all of them are met before one comes again.
        let batch: Vec<Sequence> =
            (0..BATCH).map(|i| train[(step * BATCH + i) * 389 % train.len()].clone()).collect();
        adapter.forward_backward(&batch, threads, |_, logprobs| vec![-1.0; logprobs.len()])?;
        adapter.optim_step(&AdamParams { learning_rate: LEARNING_RATE, ..AdamParams::default() })?;
        training += started.elapsed().as_secs_f64();
    }
    Ok(())
}
