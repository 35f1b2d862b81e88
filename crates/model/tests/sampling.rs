//! Samples: drawn as the parameters say, with the log-probabilities that training sees.

use tinkex_model::{
    AdamParams, Adapter, BaseModel, Error, Generation, LoraConfig, Prompt, PromptDetail, SamplingParams,
    Sequence, StopReason,
};

fn trained() -> Adapter {
    let mut adapter = Adapter::new(&BaseModel::shipped(), LoraConfig::default()).unwrap();
    let batch = [Sequence::new((0..50).collect(), (1..51).collect())];
    for _ in 0..3 {
        adapter.forward_backward(&batch, 1, |_, logprobs| vec![-1.0; logprobs.len()]).unwrap();
        adapter.optim_step(&AdamParams { learning_rate: 1e-3, ..AdamParams::default() }).unwrap();
    }
    adapter
}

fn ids(count: usize) -> Vec<u32> {
    (0..count).map(|i| (i * i * 7 + i * 13 + 5) as u32 % 1024).collect()
}

fn run(prompt: &Prompt, params: &SamplingParams) -> Generation {
    let mut sample = prompt.generate(params).unwrap();
    while sample.step().is_some() {}
    sample
}

fn params() -> SamplingParams {
    SamplingParams { max_tokens: 12, seed: 5, ..SamplingParams::default() }
}

#[test]
fn a_sample_has_the_very_logprobs_of_the_training_pass() {
    let adapter = trained();
    // Around the sizes at which attention and prompts are cut into blocks.
    for length in [1, 2, 31, 32, 33, 127, 128, 129, 200] {
        let tokens = ids(length);
        let prompt = Prompt::read(&adapter.weights(), &tokens, PromptDetail::Logprobs).unwrap();
        let sample = run(&prompt, &SamplingParams { max_tokens: 40, ..params() });
        let all = [&tokens[..], sample.tokens()].concat();
        let datum = Sequence::new(all[..all.len() - 1].to_vec(), all[1..].to_vec());
        let trained_on = adapter.forward(&[datum], 1).unwrap().remove(0);
        assert_eq!(prompt.logprobs()[0], None);
        let seen: Vec<f32> = prompt.logprobs()[1..]
            .iter()
            .map(|p| p.unwrap())
            .chain(sample.logprobs().iter().copied())
            .collect();
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&seen), bits(&trained_on), "a prompt of {length} tokens");
    }
}

#[test]
fn the_same_seed_gives_the_same_sample_and_another_one_another() {
    let prompt = Prompt::read(&BaseModel::shipped().weights(), &ids(9), PromptDetail::None).unwrap();
    let sample = |seed| run(&prompt, &SamplingParams { seed, ..params() }).tokens().to_vec();
    assert_eq!(sample(1), sample(1));
    assert_ne!(sample(1), sample(2));
}

#[test]
fn temperature_zero_and_a_top_k_of_one_take_the_most_likely_token() {
    let adapter = trained();
    let prompt = Prompt::read(&adapter.weights(), &ids(9), PromptDetail::None).unwrap();
    let greedy = run(&prompt, &SamplingParams { temperature: 0.0, ..params() });
    let alone = run(&prompt, &SamplingParams { top_k: Some(1), ..params() });
    let nucleus = run(&prompt, &SamplingParams { top_p: 1e-9, ..params() });
    let cold = run(&prompt, &SamplingParams { temperature: 1e-30, ..params() });
    for other in [alone, nucleus, cold] {
        assert_eq!(greedy.tokens(), other.tokens());
    }
    let all = [&ids(9)[..], greedy.tokens()].concat();
    let read = Prompt::read(&adapter.weights(), &all, PromptDetail::TopLogprobs(2)).unwrap();
    for (i, &token) in greedy.tokens().iter().enumerate() {
        let best = read.top_logprobs()[9 + i].as_ref().unwrap();
        assert_eq!(best[0], (token, greedy.logprobs()[i]));
        assert!(best[1].1 <= best[0].1);
    }
}

#[test]
fn tokens_come_as_often_as_their_probability_says() {
    let weights = BaseModel::shipped().weights();
    let likely = Prompt::read(&weights, &[ids(5), vec![0]].concat(), PromptDetail::TopLogprobs(4)).unwrap();
    let prompt = Prompt::read(&weights, &ids(5), PromptDetail::None).unwrap();
    let best = likely.top_logprobs()[5].clone().unwrap();
    let among: f64 = best.iter().map(|(_, logprob)| f64::from(*logprob).exp()).sum();
    const DRAWS: u32 = 4000;
    let mut counts = [0u32; 4];
    for seed in 0..u64::from(DRAWS) {
        let sample = run(
            &prompt,
            &SamplingParams { max_tokens: 1, top_k: Some(4), seed, ..SamplingParams::default() },
        );
        let rank = best.iter().position(|(id, _)| *id == sample.tokens()[0]).expect("one of the four");
        counts[rank] += 1;
    }
    for (count, (id, logprob)) in counts.iter().zip(&best) {
        let expected = f64::from(*logprob).exp() / among;
        let found = f64::from(*count) / f64::from(DRAWS);
        // Five deviations of a count of 4,000.
        assert!(
            (found - expected).abs() < 5.0 * (0.25 / f64::from(DRAWS)).sqrt(),
            "token {id}: {found}, not {expected}"
        );
    }
}

#[test]
fn a_sample_ends_at_a_stop_sequence_at_its_length_or_when_told() {
    let prompt = Prompt::read(&BaseModel::shipped().weights(), &ids(9), PromptDetail::None).unwrap();
    let free = run(&prompt, &params());
    assert_eq!((free.tokens().len(), free.finished()), (12, Some(StopReason::Length)));

    let stop = vec![vec![1023, 1022], free.tokens()[3..5].to_vec()];
    let stopped = run(&prompt, &SamplingParams { stop, ..params() });
    assert_eq!(stopped.finished(), Some(StopReason::Stop));
    assert!(stopped.tokens().len() <= 5 && free.tokens().starts_with(stopped.tokens()));

    let mut told = prompt.generate(&params()).unwrap();
    told.step();
    told.stop();
    assert_eq!((told.step(), told.tokens().len(), told.finished()), (None, 1, Some(StopReason::Stop)));

    let none = run(&prompt, &SamplingParams { max_tokens: 0, ..params() });
    assert_eq!((none.tokens().len(), none.finished()), (0, Some(StopReason::Length)));
}

#[test]
fn a_sample_ends_where_the_context_is_full() {
    let weights = BaseModel::tiny(1).weights();
    let prompt = Prompt::read(&weights, &ids(1020), PromptDetail::None).unwrap();
    let sample = run(&prompt, &SamplingParams { max_tokens: usize::MAX, ..params() });
    assert_eq!((sample.tokens().len(), sample.finished()), (4, Some(StopReason::Length)));
    let full = Prompt::read(&weights, &ids(1024), PromptDetail::Logprobs).unwrap();
    assert_eq!(full.logprobs().len(), 1024);
    assert!(matches!(full.generate(&params()), Err(Error::SequenceTooLong { .. })));
}

#[test]
fn what_cannot_be_sampled_is_refused_by_name() {
    let weights = BaseModel::tiny(1).weights();
    let read = |tokens: &[u32]| Prompt::read(&weights, tokens, PromptDetail::None).map(|_| ());
    assert!(matches!(read(&[]), Err(Error::EmptySequence { .. })));
    assert!(matches!(read(&[1024]), Err(Error::TokenOutOfVocabulary { index: 0, token: 1024, .. })));
    assert!(matches!(read(&ids(1025)), Err(Error::SequenceTooLong { length: 1025, .. })));
    let prompt = Prompt::read(&weights, &[1], PromptDetail::None).unwrap();
    let refused = |params: SamplingParams| match prompt.generate(&params) {
        Err(Error::InvalidParameter { name, .. }) => name,
        other => panic!("{params:?} gave {other:?}"),
    };
    assert_eq!(refused(SamplingParams { temperature: -0.1, ..params() }), "temperature");
    assert_eq!(refused(SamplingParams { temperature: f64::NAN, ..params() }), "temperature");
    assert_eq!(refused(SamplingParams { top_p: 0.0, ..params() }), "top_p");
    assert_eq!(refused(SamplingParams { top_p: 1.1, ..params() }), "top_p");
    assert_eq!(refused(SamplingParams { top_k: Some(0), ..params() }), "top_k");
    assert_eq!(refused(SamplingParams { stop: vec![vec![]], ..params() }), "stop");
}

#[test]
fn later_steps_leave_weights_that_were_taken_before() {
    let mut adapter = trained();
    let weights = adapter.weights();
    let sample = || {
        let prompt = Prompt::read(&weights, &ids(6), PromptDetail::None).unwrap();
        run(&prompt, &params()).logprobs().to_vec()
    };
    let before = sample();
    let batch = [Sequence::new(vec![1, 2], vec![2, 3])];
    adapter.forward_backward(&batch, 1, |_, logprobs| vec![-1.0; logprobs.len()]).unwrap();
    adapter.optim_step(&AdamParams { learning_rate: 0.1, ..AdamParams::default() }).unwrap();
    assert_eq!(sample(), before);
}

#[test]
fn the_model_without_work_samples_all_the_same() {
    let weights = BaseModel::noop().weights();
    let prompt = Prompt::read(&weights, &[9, 4_000_000_000], PromptDetail::TopLogprobs(2)).unwrap();
    assert_eq!((prompt.logprobs().len(), prompt.top_logprobs()[1].as_ref().unwrap().len()), (2, 2));
    let (one, two) = (run(&prompt, &params()), run(&prompt, &params()));
    assert_eq!((one.tokens().len(), one.tokens()), (12, two.tokens()));
}
