//! What a trainer relies on: steps that are Adam's, states that go on exactly, refusals that change nothing.

use tinkex_model::{AdamParams, Adapter, BaseModel, Error, LoraConfig, Sequence, StateScope};

fn batch(lengths: &[usize]) -> Vec<Sequence> {
    let sequence = |(i, &length): (usize, &usize)| {
        let id = |at: usize| ((at * 37 + i * 11) % 1024) as u32;
        Sequence::new((0..length).map(id).collect(), (1..=length).map(id).collect())
    };
    lengths.iter().enumerate().map(sequence).collect()
}

fn cross_entropy(_: usize, logprobs: &[f32]) -> Vec<f32> {
    vec![-1.0; logprobs.len()]
}

fn adapter() -> Adapter {
    Adapter::new(&BaseModel::tiny(1), LoraConfig::default()).unwrap()
}

fn step(adapter: &mut Adapter, batch: &[Sequence]) -> f32 {
    let logprobs = adapter.forward_backward(batch, 1, cross_entropy).unwrap();
    adapter.optim_step(&AdamParams { learning_rate: 3e-3, ..AdamParams::default() }).unwrap();
    -logprobs.iter().flatten().sum::<f32>()
}

/// The numbers behind a state's header; `count` of them, the first are the weights.
fn numbers(state: &[u8], adapter: &Adapter) -> Vec<f32> {
    let header = state.len() - 8 - 4 * adapter.parameters();
    state[header..state.len() - 8]
        .chunks_exact(4)
        .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
        .collect()
}

#[test]
fn a_fresh_adapter_is_the_base() {
    let base = BaseModel::tiny(1);
    let plain = Adapter::new(&base, LoraConfig { seed: 1, ..LoraConfig::default() }).unwrap();
    let other = Adapter::new(&base, LoraConfig { seed: 2, rank: 3, ..LoraConfig::default() }).unwrap();
    assert_ne!(plain.weights_hash(), other.weights_hash());
    assert_eq!(plain.forward(&batch(&[20]), 1), other.forward(&batch(&[20]), 1));
}

#[test]
fn training_lowers_the_loss() {
    let mut adapter = adapter();
    let batch = batch(&[40, 30]);
    let first = step(&mut adapter, &batch);
    let last = (0..60).map(|_| step(&mut adapter, &batch)).last().unwrap();
    assert!(last < first / 4.0, "from {first} to {last}");
    assert_eq!(adapter.steps(), 61);
}

#[test]
fn each_part_can_be_trained_alone() {
    let base = BaseModel::tiny(1);
    for part in 0..3 {
        let config = LoraConfig {
            train_attn: part == 0,
            train_mlp: part == 1,
            train_unembed: part == 2,
            ..LoraConfig::default()
        };
        let mut adapter = Adapter::new(&base, config).unwrap();
        let losses: Vec<f32> = (0..12).map(|_| step(&mut adapter, &batch(&[30]))).collect();
        assert!(losses[11] < losses[0], "part {part}: {losses:?}");
    }
}

#[test]
fn a_step_is_adams() {
    let params = AdamParams {
        learning_rate: 0.01,
        beta1: 0.8,
        beta2: 0.9,
        eps: 1e-8,
        weight_decay: 0.1,
        grad_clip_norm: 0.0,
    };
    let mut adapter = adapter();
    let batch = batch(&[25]);
    let size = adapter.parameters();
    let (mut mean, mut variance) = (vec![0.0f64; size], vec![0.0f64; size]);
    for t in 1..=5 {
        adapter.forward_backward(&batch, 1, cross_entropy).unwrap();
        let gradient = numbers(&adapter.state(StateScope::Everything), &adapter);
        let before = numbers(&adapter.state(StateScope::Weights), &adapter);
        let metrics = adapter.optim_step(&params).unwrap();
        let after = numbers(&adapter.state(StateScope::Weights), &adapter);
        let norm = gradient.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
        assert!((metrics.grad_norm - norm).abs() < 1e-9 * norm);
        assert_eq!(metrics.step, t as u64);
        for i in 0..size {
            let g = f64::from(gradient[i]);
            mean[i] = 0.8 * mean[i] + 0.2 * g;
            variance[i] = 0.9 * variance[i] + 0.1 * g * g;
            let root = (variance[i] / (1.0 - 0.9f64.powi(t))).sqrt() + 1e-8;
            let weight = f64::from(before[i]);
            let expected = weight - 0.01 * 0.1 * weight - 0.01 * mean[i] / (1.0 - 0.8f64.powi(t)) / root;
            assert!(
                (f64::from(after[i]) - expected).abs() < 2e-6,
                "weight {i}, step {t}: {} and {expected}",
                after[i]
            );
        }
    }
}

#[test]
fn clipping_bounds_what_the_averages_see() {
    let mut clipped = adapter();
    let mut scaled = adapter();
    let batch = batch(&[25]);
    clipped.forward_backward(&batch, 1, cross_entropy).unwrap();
    let params = AdamParams { learning_rate: 0.01, eps: 0.1, ..AdamParams::default() };
    let norm = clipped.optim_step(&AdamParams { grad_clip_norm: 0.5, ..params.clone() }).unwrap().grad_norm;
    assert!(norm > 0.5);
    scaled.forward_backward(&batch, 1, |_, logprobs| vec![-(0.5 / norm) as f32; logprobs.len()]).unwrap();
    scaled.optim_step(&params).unwrap();
    let (a, b) = (clipped.state(StateScope::Weights), scaled.state(StateScope::Weights));
    for (a, b) in numbers(&a, &clipped).iter().zip(numbers(&b, &scaled)) {
        assert!((a - b).abs() < 1e-6, "{a} and {b}");
    }
}

#[test]
fn gradients_of_several_calls_add_up_until_a_step() {
    let (mut together, mut apart) = (adapter(), adapter());
    let batch = batch(&[20, 30]);
    together.forward_backward(&batch, 1, cross_entropy).unwrap();
    for sequence in batch.chunks(1) {
        apart.forward_backward(sequence, 1, cross_entropy).unwrap();
    }
    let gradient = |adapter: &Adapter| numbers(&adapter.state(StateScope::Everything), adapter);
    for (a, b) in gradient(&together).iter().zip(gradient(&apart)) {
        assert!((a - b).abs() <= 1e-5 * (1.0 + a.abs()), "{a} and {b}");
    }
    together.optim_step(&AdamParams::default()).unwrap();
    assert!(gradient(&together).iter().all(|&g| g == 0.0));
}

#[test]
fn an_adapter_restored_in_the_middle_of_a_step_goes_on_with_the_same_bits() {
    let base = BaseModel::tiny(1);
    let batch = batch(&[20, 30, 9]);
    let mut adapter = adapter();
    step(&mut adapter, &batch);
    adapter.forward_backward(&batch[..1], 1, cross_entropy).unwrap();
    let mut restored = Adapter::from_state(&base, &adapter.state(StateScope::Everything)).unwrap();
    assert_eq!(restored.config(), adapter.config());
    for both in [&mut adapter, &mut restored] {
        both.forward_backward(&batch[1..], 1, cross_entropy).unwrap();
        both.optim_step(&AdamParams::default()).unwrap();
    }
    assert_eq!(adapter.state_hash(), restored.state_hash());
    assert_eq!(adapter.steps(), restored.steps());
}

#[test]
fn a_state_without_the_optimizer_starts_it_fresh() {
    let base = BaseModel::tiny(1);
    let mut adapter = adapter();
    step(&mut adapter, &batch(&[20]));
    let without = Adapter::from_state(&base, &adapter.state(StateScope::Weights)).unwrap();
    let with = Adapter::from_state(&base, &adapter.state(StateScope::WithOptimizer)).unwrap();
    assert_eq!(without.weights_hash(), adapter.weights_hash());
    assert_eq!((without.steps(), with.steps()), (0, 1));
    assert_eq!(with.state_hash(), adapter.state_hash());
    adapter.reset_optimizer();
    assert_eq!(without.state_hash(), adapter.state_hash());
}

#[test]
fn a_state_that_is_damaged_or_of_another_base_is_refused() {
    let base = BaseModel::tiny(1);
    let state = adapter().state(StateScope::WithOptimizer);
    assert!(matches!(Adapter::from_state(&BaseModel::tiny(2), &state), Err(Error::OtherBaseModel { .. })));
    for cut in [0, 3, 20, 50, state.len() - 1] {
        let error = Adapter::from_state(&base, &state[..cut]).unwrap_err();
        assert!(matches!(error, Error::Malformed { .. }), "{error}");
    }
    for at in (0..state.len()).step_by(997) {
        let mut damaged = state.clone();
        damaged[at] ^= 0x10;
        assert!(Adapter::from_state(&base, &damaged).is_err(), "byte {at}");
    }
}

#[test]
fn a_batch_that_cannot_be_read_names_the_place_and_changes_nothing() {
    let mut adapter = adapter();
    let before = adapter.state_hash();
    let good = batch(&[3]).remove(0);
    let bad = |change: fn(&mut Sequence)| {
        let mut sequence = good.clone();
        change(&mut sequence);
        vec![good.clone(), sequence]
    };
    let cases: [(Vec<Sequence>, &str); 6] = [
        (
            bad(|s| s.tokens[2] = 1024),
            "sequence 1: token 1024 at position 2 is outside the vocabulary (0 to 1023)",
        ),
        (
            bad(|s| s.targets[0] = 5000),
            "sequence 1: target 5000 at position 0 is outside the vocabulary (0 to 1023)",
        ),
        (bad(|s| s.tokens.clear()), "sequence 1 is empty; give at least one token"),
        (bad(|s| s.targets.truncate(2)), "sequence 1: 2 targets for 3 tokens; 3 are needed (1 per token)"),
        (bad(|s| s.targets_per_token = usize::MAX), "sequence 1: 3 targets for 3 tokens"),
        (
            bad(|s| s.tokens = vec![1; 1025]),
            "sequence 1: 1025 tokens are more than the context of 1024; shorten it",
        ),
    ];
    for (batch, message) in cases {
        let error = adapter.forward_backward(&batch, 2, cross_entropy).unwrap_err();
        assert!(error.to_string().starts_with(message), "{error}");
        assert_eq!(adapter.forward(&batch, 1).unwrap_err(), error);
    }
    let error = adapter.forward_backward(&batch(&[3, 4]), 2, |_, _| vec![0.0; 4]).unwrap_err();
    assert_eq!(error, Error::GradientsLength { sequence: 0, expected: 3, given: 4 });
    assert_eq!(adapter.state_hash(), before);
    assert_eq!(adapter.forward(&[], 2), Ok(vec![]));
}

#[test]
fn a_step_that_cannot_be_taken_leaves_the_weights() {
    let mut adapter = adapter();
    let before = adapter.weights_hash();
    adapter.forward_backward(&batch(&[3]), 1, |_, logprobs| vec![f32::NAN; logprobs.len()]).unwrap();
    let error =
        adapter.optim_step(&AdamParams { learning_rate: f64::NAN, ..AdamParams::default() }).unwrap_err();
    assert!(error.to_string().starts_with("learning_rate is NaN"), "{error}");
    assert_eq!(adapter.optim_step(&AdamParams::default()), Err(Error::NonFiniteGradient));
    assert_eq!(adapter.weights_hash(), before);
    // The gradient that was not finite is gone.
    adapter.optim_step(&AdamParams::default()).unwrap();
    assert_eq!(adapter.weights_hash(), before);
}

#[test]
fn a_config_that_trains_nothing_is_refused() {
    let base = BaseModel::tiny(1);
    let refused = |config: LoraConfig| Adapter::new(&base, config).unwrap_err().to_string();
    let default = LoraConfig::default();
    assert!(refused(LoraConfig { rank: 0, ..default.clone() }).starts_with("rank is 0"));
    assert!(refused(LoraConfig { rank: 129, ..default.clone() }).starts_with("rank is 129"));
    let nothing = LoraConfig { train_mlp: false, train_attn: false, train_unembed: false, ..default };
    assert!(refused(nothing).contains("true for at least one"));
}

#[test]
fn the_model_without_work_takes_any_token_and_counts_steps() {
    let base = BaseModel::noop();
    let mut adapter = Adapter::new(&base, LoraConfig::default()).unwrap();
    let batch = [Sequence::new(vec![4_000_000_000, 1], vec![7, 4_000_000_000])];
    let logprobs = adapter.forward_backward(&batch, 2, cross_entropy).unwrap();
    assert_eq!(logprobs, adapter.forward(&batch, 1).unwrap());
    assert!(logprobs[0].iter().all(|&logprob| logprob < 0.0));
    assert_eq!(adapter.optim_step(&AdamParams::default()).unwrap().step, 1);
    let restored = Adapter::from_state(&base, &adapter.state(StateScope::Everything)).unwrap();
    assert_eq!(restored.state_hash(), adapter.state_hash());
}
