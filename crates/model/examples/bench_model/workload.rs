//! What is timed, the same natively and in wasm: rank 8 on all matrices of the shipped base, 8 sequences of 128 tokens a step.

use tinkex_model::{
    AdamParams, Adapter, BaseModel, LoraConfig, Prompt, PromptDetail, SamplingParams, Sequence,
};

const BATCH: usize = 8;
const LENGTH: usize = 128;

pub fn adapter() -> Adapter {
    Adapter::new(&BaseModel::shipped(), LoraConfig::default()).expect("the default config is valid")
}

/// Steps of forward, backward and Adam. Gives the tokens trained on.
pub fn train(adapter: &mut Adapter, steps: usize, threads: usize) -> usize {
    let sequence = |i: usize| {
        let id = |at: usize| ((at * at * 31 + at * 7 + i * 101) % 1024) as u32;
        Sequence::new((0..LENGTH).map(id).collect(), (1..=LENGTH).map(id).collect())
    };
    let batch: Vec<Sequence> = (0..BATCH).map(sequence).collect();
    for _ in 0..steps {
        adapter
            .forward_backward(&batch, threads, |_, logprobs| vec![-1.0; logprobs.len()])
            .expect("the batch is valid");
        adapter.optim_step(&AdamParams::default()).expect("the gradient is finite");
    }
    steps * BATCH * LENGTH
}

/// Samples of 128 tokens after a prompt of 32. Gives the tokens sampled.
pub fn sample(adapter: &Adapter, samples: usize) -> usize {
    let prompt: Vec<u32> = (0..32).map(|i| i * 31 % 1024).collect();
    let prompt = Prompt::read(&adapter.weights(), &prompt, PromptDetail::None).expect("the prompt is valid");
    let mut tokens = 0;
    for seed in 0..samples as u64 {
        let params = SamplingParams { max_tokens: LENGTH, seed, ..SamplingParams::default() };
        let mut sample = prompt.generate(&params).expect("the parameters are valid");
        while sample.step().is_some() {
            tokens += 1;
        }
    }
    tokens
}
