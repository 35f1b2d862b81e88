//! Sampling: a prompt is read once, and any number of samples start from it, a token at a time.

use crate::config::ModelConfig;
use crate::engine::Real;
use crate::engine::forward::{Cache, Tape, forward, unembed};
use crate::engine::kernels;
use crate::engine::matrices::Network;
use crate::random::Random;
use crate::{Error, noop};
use std::sync::Arc;

/// Tokens of a prompt that are read together: enough to be fast, few enough that a long prompt needs little room.
const CHUNK: usize = 128;

/// Weights to sample from, which never change. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Weights {
    config: ModelConfig,
    network: Option<Arc<Network<f32>>>,
}

impl Weights {
    pub(crate) fn new(config: &ModelConfig, network: Option<Arc<Network<f32>>>) -> Weights {
        Weights { config: config.clone(), network }
    }

    pub fn config(&self) -> &ModelConfig {
        &self.config
    }
}

/// What is kept of a prompt's own tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PromptDetail {
    /// Nothing: the fastest.
    None,
    /// The log-probability of each token.
    Logprobs,
    /// And at each position this many of the most likely tokens.
    TopLogprobs(usize),
}

/// How a sample is drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingParams {
    /// A sample ends after as many tokens, or where the context is full.
    pub max_tokens: usize,
    /// 0 takes the most likely token each time (of equals the one with the lowest id).
    pub temperature: f64,
    /// Draws only from as many of the most likely tokens.
    pub top_k: Option<usize>,
    /// Draws only from the fewest most likely tokens that together have this probability (after temperature and `top_k`).
    pub top_p: f64,
    /// Sequences of tokens that end a sample; they stay at its end. This crate knows tokens and no text: who wants to stop at a
    /// string watches the tokens and calls `Generation::stop`.
    pub stop: Vec<Vec<u32>>,
    /// The same seed gives the same sample.
    pub seed: u64,
}

impl Default for SamplingParams {
    fn default() -> SamplingParams {
        SamplingParams {
            max_tokens: 64,
            temperature: 1.0,
            top_k: None,
            top_p: 1.0,
            stop: Vec::new(),
            seed: 0,
        }
    }
}

impl SamplingParams {
    fn check(&self) -> Result<(), Error> {
        let refuse = |name, value, allowed| Err(Error::InvalidParameter { name, value, allowed });
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            return refuse("temperature", self.temperature, "a finite number, 0 or more");
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return refuse("top_p", self.top_p, "above 0 and at most 1");
        }
        if self.top_k == Some(0) {
            return refuse("top_k", 0.0, "at least 1, or left out for no limit");
        }
        if self.stop.iter().any(Vec::is_empty) {
            return refuse("stop", 0.0, "sequences of at least one token");
        }
        Ok(())
    }
}

/// A prompt that was read. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Prompt {
    weights: Weights,
    length: usize,
    /// Keys and values, and the logits after the last token. None for the model that does no work.
    read: Option<Arc<(Cache<f32>, Vec<f32>)>>,
    logprobs: Vec<Option<f32>>,
    top_logprobs: Vec<Option<Vec<(u32, f32)>>>,
}

impl Prompt {
    /// Reads `tokens`.
    ///
    /// # Errors
    /// `EmptySequence`, `SequenceTooLong`, `TokenOutOfVocabulary`, all of them for sequence 0.
    pub fn read(weights: &Weights, tokens: &[u32], detail: PromptDetail) -> Result<Prompt, Error> {
        let datum = crate::Sequence::new(tokens.to_vec(), tokens.to_vec());
        crate::batch::check(&weights.config, std::slice::from_ref(&datum))?;
        let mut prompt = Prompt {
            weights: weights.clone(),
            length: tokens.len(),
            read: None,
            logprobs: Vec::new(),
            top_logprobs: Vec::new(),
        };
        match &weights.network {
            Some(network) => prompt.read = Some(Arc::new(prompt.read_with(network, tokens, detail))),
            None => prompt.read_without_work(tokens, detail),
        }
        Ok(prompt)
    }

    /// One for each token of the prompt, the first None: nothing is before it. Empty where it wasn't asked for.
    pub fn logprobs(&self) -> &[Option<f32>] {
        &self.logprobs
    }

    /// One list for each token of the prompt, most likely first, what might have stood in its place; the first None. Empty
    /// where it wasn't asked for.
    pub fn top_logprobs(&self) -> &[Option<Vec<(u32, f32)>>] {
        &self.top_logprobs
    }

    /// Starts a sample.
    ///
    /// # Errors
    /// `InvalidParameter`; `SequenceTooLong` where the prompt leaves no room for a token.
    pub fn generate(&self, params: &SamplingParams) -> Result<Generation, Error> {
        params.check()?;
        let context = self.weights.config.context;
        if params.max_tokens > 0 && self.length >= context {
            return Err(Error::SequenceTooLong { sequence: 0, length: self.length + 1, context });
        }
        let limit = params.max_tokens.min(context - self.length);
        let state = self.read.as_ref().map(|read| {
            let (cache, logits) = &**read;
            let capacity = self.length + limit;
            State { cache: cache.with_capacity(capacity), tape: Tape::default(), logits: logits.clone() }
        });
        Ok(Generation {
            weights: self.weights.clone(),
            state,
            random: Random::new(params.seed),
            params: params.clone(),
            limit,
            tokens: Vec::new(),
            logprobs: Vec::new(),
            finished: (limit == 0).then_some(StopReason::Length),
            scratch: Vec::new(),
        })
    }

    fn read_with(
        &mut self,
        network: &Network<f32>,
        tokens: &[u32],
        detail: PromptDetail,
    ) -> (Cache<f32>, Vec<f32>) {
        let vocabulary = self.weights.config.vocabulary;
        let mut cache = Cache::new(network, tokens.len());
        let mut tape = Tape::default();
        let mut scratch = Vec::new();
        for (chunk_index, chunk) in tokens.chunks(CHUNK).enumerate() {
            forward(network, chunk, &mut cache, &mut tape);
            if detail == PromptDetail::None {
                continue;
            }
            unembed(network, &mut tape, 0);
            if chunk_index == 0 {
                self.keep(None, 0, detail, &mut scratch);
            }
            let next = tokens.iter().skip(chunk_index * CHUNK + 1);
            for (logits, &token) in tape.logits.chunks_exact(vocabulary).zip(next) {
                self.keep(Some(logits), token, detail, &mut scratch);
            }
        }
        let last = tape.rows - 1;
        unembed(network, &mut tape, last);
        (cache, tape.logits)
    }

    /// Notes what the logits before `token` say of it and of its rivals.
    fn keep(&mut self, logits: Option<&[f32]>, token: u32, detail: PromptDetail, scratch: &mut Vec<f32>) {
        let log_sum = logits.map(|logits| kernels::log_sum_exp(logits, scratch));
        let known = logits.zip(log_sum);
        self.logprobs.push(known.map(|(logits, log_sum)| logits[token as usize] - log_sum));
        if let PromptDetail::TopLogprobs(count) = detail {
            let best = |(logits, log_sum): (&[f32], f32)| {
                let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
                sort_by_likelihood(&mut ids, logits);
                ids.truncate(count);
                ids.into_iter().map(|id| (id, logits[id as usize] - log_sum)).collect()
            };
            self.top_logprobs.push(known.map(best));
        }
    }

    fn read_without_work(&mut self, tokens: &[u32], detail: PromptDetail) {
        if detail == PromptDetail::None {
            return;
        }
        let known = |(i, &token): (usize, &u32)| (i > 0).then(|| noop::logprob(token));
        self.logprobs = tokens.iter().enumerate().map(known).collect();
        if let PromptDetail::TopLogprobs(count) = detail {
            let best: Vec<_> = (0..count.min(64) as u32).map(|id| (id, noop::logprob(id))).collect();
            self.top_logprobs = (0..tokens.len()).map(|i| (i > 0).then(|| best.clone())).collect();
        }
    }
}

/// Most likely first, of equals the lowest id.
fn sort_by_likelihood(ids: &mut [u32], likelihood: &[f32]) {
    ids.sort_by(|&a, &b| likelihood[b as usize].total_cmp(&likelihood[a as usize]).then(a.cmp(&b)));
}

/// Why a sample ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// It has `max_tokens`, or the context is full.
    Length,
    /// It ends with one of the stop sequences, or `Generation::stop` was called.
    Stop,
}

/// A sample in the making. Each `step` does the work of one token, so that a server can take turns between samples and drop one
/// at any time.
#[derive(Debug, Clone)]
pub struct Generation {
    weights: Weights,
    /// None for the model that does no work.
    state: Option<State>,
    random: Random,
    params: SamplingParams,
    limit: usize,
    tokens: Vec<u32>,
    logprobs: Vec<f32>,
    finished: Option<StopReason>,
    scratch: Vec<f32>,
}

#[derive(Debug, Clone)]
struct State {
    cache: Cache<f32>,
    tape: Tape<f32>,
    /// After the last token that was read.
    logits: Vec<f32>,
}

impl Generation {
    /// Adds a token and gives it; None when the sample has ended.
    pub fn step(&mut self) -> Option<u32> {
        if self.finished.is_some() {
            return None;
        }
        self.read_last();
        let (token, logprob) = match &self.state {
            Some(state) => {
                let token = draw(&state.logits, &self.params, &mut self.random);
                let log_sum = kernels::log_sum_exp(&state.logits, &mut self.scratch);
                (token, state.logits[token as usize] - log_sum)
            }
            None => {
                let token = noop::token(self.params.seed, self.tokens.len());
                (token, noop::logprob(token))
            }
        };
        self.tokens.push(token);
        self.logprobs.push(logprob);
        if self.params.stop.iter().any(|stop| self.tokens.ends_with(stop)) {
            self.finished = Some(StopReason::Stop);
        } else if self.tokens.len() == self.limit {
            self.finished = Some(StopReason::Length);
        }
        Some(token)
    }

    /// None while it goes on.
    pub fn finished(&self) -> Option<StopReason> {
        self.finished
    }

    /// Ends it here with `StopReason::Stop`, if it hasn't ended.
    pub fn stop(&mut self) {
        self.finished.get_or_insert(StopReason::Stop);
    }

    /// The tokens so far, without the prompt.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Of each token under the model itself (temperature 1, nothing cut off): the very numbers that `Adapter::forward` gives for
    /// them.
    pub fn logprobs(&self) -> &[f32] {
        &self.logprobs
    }

    /// Reads the token that the step before has added. Late, so that the last token of a sample costs nothing.
    fn read_last(&mut self) {
        if let (Some(&last), Some(state), Some(network)) =
            (self.tokens.last(), &mut self.state, &self.weights.network)
        {
            forward(network, &[last], &mut state.cache, &mut state.tape);
            unembed(network, &mut state.tape, 0);
            state.logits.copy_from_slice(&state.tape.logits);
        }
    }
}

fn draw(logits: &[f32], params: &SamplingParams, random: &mut Random) -> u32 {
    let mut best = 0;
    for (id, &logit) in logits.iter().enumerate() {
        if logit > logits[best] {
            best = id;
        }
    }
    if params.temperature == 0.0 {
        return best as u32;
    }
    let temperature = params.temperature as f32;
    let weights: Vec<f32> =
        logits.iter().map(|&logit| Real::exp((logit - logits[best]) / temperature)).collect();
    let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
    let limited = params.top_k.is_some_and(|k| k < ids.len()) || params.top_p < 1.0;
    if limited {
        sort_by_likelihood(&mut ids, &weights);
        ids.truncate(params.top_k.unwrap_or(usize::MAX));
        let total = sum(&ids, &weights);
        let mut gathered = 0.0;
        let enough = ids.iter().position(|&id| {
            gathered += f64::from(weights[id as usize]);
            gathered >= params.top_p * total
        });
        ids.truncate(enough.map_or(ids.len(), |last| last + 1));
    }
    let mut rest = random.uniform() * sum(&ids, &weights);
    for &id in &ids {
        rest -= f64::from(weights[id as usize]);
        if rest < 0.0 {
            return id;
        }
    }
    // Rounding may leave a crumb behind the last one.
    ids[ids.len() - 1]
}

fn sum(ids: &[u32], weights: &[f32]) -> f64 {
    ids.iter().map(|&id| f64::from(weights[id as usize])).sum()
}
