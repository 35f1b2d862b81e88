//! One sample in the making: its request is read, its prompt is run once, its sequences grow in slices.

use crate::engine::decode;
use crate::tokenizer::Tokenizer;
use bytes::Bytes;
use std::sync::Arc;
use tinkex_model::{Generation, Prompt, PromptDetail, SamplingParams, StopReason, Weights};
use tinkex_protocol::ids::RequestId;
use tinkex_protocol::json::sampling::{Sample, Stop};
use tinkex_protocol::sample::{PADDING_LOGPROB, TopkLogprobs};
use tinkex_protocol::{LeVec, SampleResponse, SampledSequence};

/// Tokens in one turn: some 10 ms of the shipped model, so that many samples share the time.
const SLICE: usize = 64;

/// Sequences of one sample at most.
pub(crate) const MOST_SEQUENCES: u32 = 4096;

/// Tokens per position that can be asked for.
const MOST_ALTERNATIVES: u32 = 1024;

/// A sample that was asked for and not begun.
pub(crate) struct SampleStart {
    pub request: RequestId,
    pub body: Bytes,
    pub weights: Weights,
    pub context: usize,
    /// Used where the request names no seed.
    pub seed: u64,
    pub tokenizer: Arc<Tokenizer>,
}

/// A sample that was begun.
pub(crate) struct Generating {
    request: RequestId,
    weights: Weights,
    tokenizer: Arc<Tokenizer>,
    prompt: Prompt,
    prompt_tokens: Vec<u32>,
    params: SamplingParams,
    stop_strings: Vec<Vec<u8>>,
    /// Sequences still to be begun.
    left: u32,
    current: Option<Sequence>,
    topk_sample: usize,
    response: SampleResponse,
}

struct Stops {
    tokens: Vec<Vec<u32>>,
    strings: Vec<Vec<u8>>,
}

struct Sequence {
    generation: Generation,
    /// What it says so far, where stop strings are looked for.
    text: Vec<u8>,
}

impl SampleStart {
    /// Reads the request and runs the prompt.
    pub fn begin(self) -> Result<Generating, String> {
        let asked: Sample = decode(&self.body)?;
        let prompt_tokens = prompt_tokens(&asked)?;
        check(&asked, prompt_tokens.len())?;
        let room = self.context.checked_sub(prompt_tokens.len()).ok_or_else(|| {
            format!(
                "the prompt has {} tokens, and this model reads {} at most",
                prompt_tokens.len(),
                self.context
            )
        })?;
        let wanted = match asked.sampling_params.max_tokens {
            None => room,
            Some(tokens) => tokens as usize,
        };
        let stops = self.stops(asked.sampling_params.stop.as_ref())?;
        let params = SamplingParams {
            max_tokens: wanted.min(room),
            temperature: asked.sampling_params.temperature,
            top_k: usize::try_from(asked.sampling_params.top_k).ok().filter(|k| *k > 0),
            top_p: asked.sampling_params.top_p,
            stop: stops.tokens,
            seed: asked.sampling_params.seed.map_or(self.seed, |seed| seed as u64),
        };
        let topk_prompt = alternatives("topk_prompt_logprobs", asked.topk_prompt_logprobs)?;
        let topk_sample = alternatives("topk_sample_logprobs", asked.topk_sample_logprobs)?;
        let detail = match (asked.prompt_logprobs, topk_prompt) {
            (_, k) if k > 0 => PromptDetail::TopLogprobs(k),
            (true, _) => PromptDetail::Logprobs,
            (false, _) => PromptDetail::None,
        };
        let prompt = Prompt::read(&self.weights, &prompt_tokens, detail).map_err(in_words_of_the_wire)?;
        let mut response = SampleResponse::default();
        if asked.prompt_logprobs {
            let first = asked.prompt_logprobs_last_n.map_or(0, |n| prompt_tokens.len() - n as usize);
            let logprob = |(place, logprob): (usize, &Option<f32>)| {
                logprob.filter(|_| place >= first).unwrap_or(f32::NAN)
            };
            response.prompt_logprobs = Some(prompt.logprobs().iter().enumerate().map(logprob).collect());
        }
        if topk_prompt > 0 {
            response.topk_prompt_logprobs = topk(topk_prompt, prompt.top_logprobs())?;
        }
        Ok(Generating {
            request: self.request,
            weights: self.weights,
            tokenizer: self.tokenizer,
            prompt,
            prompt_tokens,
            params,
            stop_strings: stops.strings,
            left: asked.num_samples,
            current: None,
            topk_sample,
            response,
        })
    }

    /// What stops a sequence. Nothing said: the end of the text stops; an empty list: nothing does.
    fn stops(&self, stop: Option<&Stop>) -> Result<Stops, String> {
        let end = self.tokenizer.end().map(|end| vec![end]);
        let strings = |all: &[String]| {
            let said = all.iter().filter(|text| !text.is_empty());
            said.map(|text| text.clone().into_bytes()).collect()
        };
        let mut stops = Stops { tokens: end.into_iter().collect(), strings: Vec::new() };
        match stop {
            None => {}
            Some(Stop::Text(text)) => stops.strings = strings(std::slice::from_ref(text)),
            Some(Stop::Texts(texts)) if !texts.is_empty() => stops.strings = strings(texts),
            Some(Stop::Tokens(tokens)) if !tokens.is_empty() => {
                for token in tokens {
                    let token = u32::try_from(*token).map_err(|_| format!("stop: {token} is no token"))?;
                    stops.tokens.push(vec![token]);
                }
            }
            Some(Stop::Texts(_) | Stop::Tokens(_)) => stops.tokens.clear(),
        }
        Ok(stops)
    }
}

impl Generating {
    pub fn request(&self) -> &RequestId {
        &self.request
    }

    /// Goes on for one slice. The result, once all sequences are there.
    pub fn advance(&mut self) -> Option<Result<SampleResponse, String>> {
        for _ in 0..SLICE {
            match self.step() {
                Ok(true) => {}
                Ok(false) => return Some(Ok(std::mem::take(&mut self.response))),
                Err(why) => return Some(Err(why)),
            }
        }
        None
    }

    /// One token more, or one sequence begun or ended. False when there is nothing left to do.
    fn step(&mut self) -> Result<bool, String> {
        let Some(sequence) = &mut self.current else {
            if self.left == 0 {
                return Ok(false);
            }
            self.left -= 1;
            let generation = self.prompt.generate(&self.params).map_err(|error| error.to_string())?;
            self.current = Some(Sequence { generation, text: Vec::new() });
            // Each sequence of a sample draws from its own numbers, all from the one seed.
            self.params.seed = self.params.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            return Ok(true);
        };
        if sequence.generation.finished().is_none()
            && let Some(token) = sequence.generation.step()
        {
            if !self.stop_strings.is_empty() {
                let said = self.tokenizer.bytes(token);
                sequence.text.extend_from_slice(said);
                if self.stop_strings.iter().any(|stop| said_now(&sequence.text, said.len(), stop)) {
                    sequence.generation.stop();
                }
            }
            return Ok(true);
        }
        if let Some(Sequence { generation, .. }) = self.current.take() {
            let ended = self.ended(&generation)?;
            self.response.sequences.push(ended);
        }
        Ok(true)
    }

    fn ended(&self, generation: &Generation) -> Result<SampledSequence, String> {
        let stop_reason = match generation.finished() {
            Some(StopReason::Stop) => tinkex_protocol::StopReason::Stop,
            Some(StopReason::Length) | None => tinkex_protocol::StopReason::Length,
        };
        let tokens = generation.tokens();
        let topk_logprobs = match self.topk_sample {
            0 => None,
            _ if tokens.is_empty() => None,
            k => {
                // The cache gives the very numbers of a forward pass, so reading what was sampled gives them too.
                let all = [&self.prompt_tokens, tokens].concat();
                let read = Prompt::read(&self.weights, &all, PromptDetail::TopLogprobs(k));
                let read = read.map_err(|error| error.to_string())?;
                topk(k, &read.top_logprobs()[self.prompt_tokens.len()..])?
            }
        };
        Ok(SampledSequence {
            stop_reason,
            tokens: tokens.iter().map(|token| *token as i32).collect(),
            logprobs: Some(generation.logprobs().to_vec().into()),
            topk_logprobs,
        })
    }
}

/// Whether `stop` ended within the last `new` bytes of `text`.
fn said_now(text: &[u8], new: usize, stop: &[u8]) -> bool {
    let from = (text.len() - new + 1).saturating_sub(stop.len());
    text[from.min(text.len())..].windows(stop.len()).any(|window| window == stop)
}

fn prompt_tokens(asked: &Sample) -> Result<Vec<u32>, String> {
    let tokens = asked.prompt.tokens().ok_or("the sandbox's models read text only, no images or audio")?;
    if tokens.is_empty() {
        return Err("the prompt is empty: send at least one token".into());
    }
    let token = |(place, token): (usize, &i32)| {
        u32::try_from(*token).map_err(|_| format!("prompt: token {token} at position {place} is negative"))
    };
    tokens.iter().enumerate().map(token).collect()
}

/// The engine counts sequences; a sample has one prompt.
fn in_words_of_the_wire(error: tinkex_model::Error) -> String {
    match error {
        tinkex_model::Error::TokenOutOfVocabulary { index, token, vocabulary, .. } => {
            format!(
                "prompt: token {token} at position {index} is outside the vocabulary (0 to {})",
                vocabulary - 1
            )
        }
        other => other.to_string(),
    }
}

fn check(asked: &Sample, prompt: usize) -> Result<(), String> {
    if !(1..=MOST_SEQUENCES).contains(&asked.num_samples) {
        return Err(format!(
            "num_samples is {}; it must be between 1 and {MOST_SEQUENCES}",
            asked.num_samples
        ));
    }
    if let Some(n) = asked.prompt_logprobs_last_n {
        if !asked.prompt_logprobs {
            return Err("prompt_logprobs_last_n needs prompt_logprobs".into());
        }
        if n < 1 || n as usize >= prompt {
            return Err(format!(
                "prompt_logprobs_last_n is {n}; it must be between 1 and {} (prompt − 1)",
                prompt - 1
            ));
        }
    }
    if asked.target_prompt_logprobs.is_some() || asked.prompt_alt_tokens_k > 0 {
        return Err(
            "the sandbox gives no target_prompt_logprobs and no prompt_alt_tokens; leave them out".into()
        );
    }
    Ok(())
}

fn alternatives(name: &str, k: u32) -> Result<usize, String> {
    if k <= MOST_ALTERNATIVES {
        return Ok(k as usize);
    }
    Err(format!("{name} is {k}; it must be between 0 and {MOST_ALTERNATIVES}"))
}

fn topk(k: usize, rows: &[Option<Vec<(u32, f32)>>]) -> Result<Option<TopkLogprobs>, String> {
    let (mut tokens, mut logprobs) = (LeVec::<i32>::default(), LeVec::<f32>::default());
    for row in rows {
        for place in 0..k {
            let held = row.as_ref().and_then(|row| row.get(place));
            tokens.push(held.map_or(0, |(token, _)| *token as i32));
            logprobs.push(held.map_or(PADDING_LOGPROB, |(_, logprob)| *logprob));
        }
    }
    TopkLogprobs::new(k as u32, tokens, logprobs).map(Some).map_err(|error| error.to_string())
}
