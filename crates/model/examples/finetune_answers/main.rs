//! Fine-tunes the shipped base on `data/answers.jsonl`, and says how many held-out answers are right in form and in content.
//!
//! `cargo run --release -p tinkex-model --example finetune_answers [STEPS]`, from the root of the repository.

mod tokenizer;

use serde_json::Value;
use std::time::Instant;
use tinkex_model::{
    AdamParams, Adapter, BaseModel, LoraConfig, Prompt, PromptDetail, SamplingParams, Sequence, Weights,
};
use tokenizer::Tokenizer;

const STEPS: usize = 300;
const BATCH: usize = 8;
const LEARNING_RATE: f64 = 3e-3;
/// Each tenth line is held out, as the data set was made for.
const HELD_OUT_EVERY: usize = 10;

struct Example {
    prompt: Vec<u32>,
    answer: Vec<u32>,
    expected: Value,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let steps = std::env::args().nth(1).map_or(Ok(STEPS), |steps| steps.parse())?;
    let tokenizer = Tokenizer::from_file("data/tokenizer.json")?;
    let mut train = Vec::new();
    let mut held_out = Vec::new();
    for (i, line) in std::fs::read_to_string("data/answers.jsonl")?.lines().enumerate() {
        let line: Value = serde_json::from_str(line)?;
        let (prompt, answer) = (line["prompt"].as_str(), line["answer"].as_str());
        let (prompt, answer) = prompt.zip(answer).ok_or("a line needs a prompt and an answer")?;
        let example = Example {
            prompt: tokenizer.encode(&format!("<|user|>{prompt}<|assistant|>")),
            answer: tokenizer.encode(&format!("{answer}<|end|>")),
            expected: serde_json::from_str(answer)?,
        };
        if i % HELD_OUT_EVERY == HELD_OUT_EVERY - 1 { held_out.push(example) } else { train.push(example) }
    }

    let threads = std::thread::available_parallelism()?.get();
    let mut adapter = Adapter::new(&BaseModel::shipped(), LoraConfig::default())?;
    println!(
        "{} training and {} held-out answers, {BATCH} a step, rank 8, rate {LEARNING_RATE}",
        train.len(),
        held_out.len()
    );
    report(0, 0.0, &adapter.weights(), &held_out, &tokenizer)?;
    let mut training = 0.0;
    for step in 0..steps {
        let started = Instant::now();
        let batch: Vec<&Example> = (0..BATCH).map(|i| &train[(step * BATCH + i) % train.len()]).collect();
        let sequences: Vec<Sequence> = batch.iter().map(|example| sequence(example)).collect();
        // Only the answer counts: its tokens are the last ones that are predicted.
        adapter.forward_backward(&sequences, threads, |i, logprobs| {
            let asked = logprobs.len() - batch[i].answer.len();
            (0..logprobs.len()).map(|position| if position < asked { 0.0 } else { -1.0 }).collect()
        })?;
        adapter.optim_step(&AdamParams { learning_rate: LEARNING_RATE, ..AdamParams::default() })?;
        training += started.elapsed().as_secs_f64();
        if (step + 1) % 25 == 0 || step + 1 == steps {
            report(step + 1, training, &adapter.weights(), &held_out, &tokenizer)?;
        }
    }
    Ok(())
}

fn sequence(example: &Example) -> Sequence {
    let all: Vec<u32> = example.prompt.iter().chain(&example.answer).copied().collect();
    Sequence::new(all[..all.len() - 1].to_vec(), all[1..].to_vec())
}

/// Right in form: the whole answer, up to its end marker, is a JSON object with the keys asked for, each with a text. Right in
/// content: their values are the expected ones as well.
fn report(
    step: usize,
    seconds: f64,
    weights: &Weights,
    held_out: &[Example],
    tokenizer: &Tokenizer,
) -> Result<(), tinkex_model::Error> {
    let end = tokenizer.encode("<|end|>");
    let (mut form, mut content, mut first) = (0, 0, None);
    for example in held_out {
        let prompt = Prompt::read(weights, &example.prompt, PromptDetail::None)?;
        let params = SamplingParams {
            max_tokens: 64,
            temperature: 0.0,
            stop: vec![end.clone()],
            ..SamplingParams::default()
        };
        let mut sample = prompt.generate(&params)?;
        while sample.step().is_some() {}
        let text = tokenizer.decode(sample.tokens());
        let answer = text.strip_suffix("<|end|>").and_then(|text| serde_json::from_str::<Value>(text).ok());
        if let Some(answer) = answer {
            let keys_of =
                |value: &Value| value.as_object().map(|object| object.keys().cloned().collect::<Vec<_>>());
            let texts = answer.as_object().is_some_and(|object| object.values().all(Value::is_string));
            form += usize::from(texts && keys_of(&answer) == keys_of(&example.expected));
            content += usize::from(answer == example.expected);
        }
        first.get_or_insert(text);
    }
    let percent = |count: usize| 100.0 * count as f64 / held_out.len() as f64;
    println!(
        "step {step:4}  {seconds:5.1} s  form {:5.1} %  content {:5.1} %  {}",
        percent(form),
        percent(content),
        first.unwrap_or_default()
    );
    Ok(())
}
