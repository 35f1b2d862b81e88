//! A short training run whose every bit is known, for the native tests and for the probe in wasm.

use tinkex_model::{
    AdamParams, Adapter, BaseModel, LoraConfig, Prompt, PromptDetail, SamplingParams, Sequence, StateScope,
};

/// What `hash` gives on each base, wherever it runs. A change of the engine's arithmetic, or of the shipped model, changes
/// these on purpose; nothing else may.
pub const TINY: u64 = 0x8b12_f477_19d3_3113;
pub const SHIPPED: u64 = 0xb0a2_371a_95c5_9ece;

/// Trains with every kind of update on sequences of many lengths, samples, and hashes all that came of it.
pub fn hash(base: &BaseModel, threads: usize) -> u64 {
    let mut ids = 1u64;
    let mut id = || {
        ids = ids.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (ids >> 33) as u32 % 1024
    };
    let mut sequence = |length: usize, targets_per_token: usize| Sequence {
        tokens: (0..length).map(|_| id()).collect(),
        targets: (0..length * targets_per_token).map(|_| id()).collect(),
        targets_per_token,
    };
    // More sequences than slots, so that a slot has two.
    let batch: Vec<Sequence> =
        [(1, 1), (7, 1), (33, 1), (64, 1), (90, 1), (12, 3), (31, 1), (32, 1), (5, 2), (40, 1), (2, 1)]
            .map(|(length, k)| sequence(length, k))
            .into();
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let mut mix = |value: u64| hash = (hash ^ value).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);

    let config = LoraConfig { rank: 8, seed: 17, ..LoraConfig::default() };
    let mut adapter = Adapter::new(base, config).expect("the config is valid");
    for step in 0..4 {
        for part in batch.chunks(8) {
            let logprobs = adapter
                .forward_backward(part, threads, |i, logprobs| {
                    logprobs.iter().map(|logprob| -0.1 - logprob * 0.01 * i as f32).collect()
                })
                .expect("the batch is valid");
            logprobs.iter().flatten().for_each(|logprob| mix(logprob.to_bits().into()));
        }
        let params = AdamParams {
            learning_rate: 4e-3 / f64::from(step + 1),
            weight_decay: 0.01,
            grad_clip_norm: 0.5,
            ..AdamParams::default()
        };
        adapter.optim_step(&params).expect("the gradient is finite");
    }
    adapter.state(StateScope::Everything).into_iter().for_each(|byte| mix(byte.into()));

    let detail = PromptDetail::TopLogprobs(3);
    let prompt = Prompt::read(&adapter.weights(), &batch[4].tokens, detail).expect("the prompt is valid");
    prompt.logprobs().iter().flatten().for_each(|logprob| mix(logprob.to_bits().into()));
    let params =
        SamplingParams { max_tokens: 30, temperature: 0.7, top_p: 0.9, seed: 3, ..SamplingParams::default() };
    let mut sample = prompt.generate(&params).expect("the parameters are valid");
    while let Some(token) = sample.step() {
        mix(token.into());
    }
    sample.logprobs().iter().for_each(|logprob| mix(logprob.to_bits().into()));
    hash
}
