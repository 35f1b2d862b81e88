//! The result of a sample: sequences, and what was asked about the prompt.

use prost::Message;
use serde::{Deserialize, Serialize};

use crate::{Error, LeVec, Tensor, Tokens, proto};

/// Fills the places of a top-k row that have no token.
pub const PADDING_LOGPROB: f32 = -99999.0;

/// A `SampleResponse` whose parts fit each other. Its JSON form is what older servers send.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SampleResponse {
    pub sequences: Vec<SampledSequence>,
    /// One a token of the prompt; NaN (`null` in JSON) where there is none, as for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_logprobs: Option<LeVec<f32>>,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "rows")]
    pub topk_prompt_logprobs: Option<TopkLogprobs>,
    /// Tokens of the prompt that cost nothing, because the server had them.
    #[serde(default)]
    pub prompt_cache_hit_tokens: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_prompt_logprobs: Option<Tensor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_alt_tokens: Option<PromptAltTokens>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SampledSequence {
    pub stop_reason: StopReason,
    pub tokens: Tokens,
    /// One a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<LeVec<f32>>,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "rows", rename = "topk_logprobs")]
    pub topk_logprobs: Option<TopkLogprobs>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StopReason {
    /// A stop token or string, or the end of the sequence.
    Stop,
    /// `max_tokens`, or the model's context.
    Length,
}

/// The likeliest tokens at each position: two matrices `[length, k]`, neither of them empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopkLogprobs {
    k: u32,
    token_ids: LeVec<i32>,
    logprobs: LeVec<f32>,
}

/// Alternatives drawn at each position of the prompt after the first: two tensors `[len(prompt) − 1, k]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptAltTokens {
    pub tokens: Tensor,
    pub logprobs: Tensor,
}

impl TopkLogprobs {
    /// Refuses matrices of different sizes, and ones that are not whole rows of `k`, or empty.
    pub fn new(k: u32, token_ids: LeVec<i32>, logprobs: LeVec<f32>) -> Result<TopkLogprobs, Error> {
        let whole = k > 0 && !token_ids.is_empty() && token_ids.len().is_multiple_of(k as usize);
        if !whole || token_ids.len() != logprobs.len() {
            let problem =
                format!("{} ids and {} logprobs are not rows of {k}", token_ids.len(), logprobs.len());
            return Err(Error::field("", problem));
        }
        Ok(TopkLogprobs { k, token_ids, logprobs })
    }

    /// Tokens a position.
    pub fn k(&self) -> usize {
        self.k as usize
    }

    /// Positions.
    pub fn rows(&self) -> usize {
        self.token_ids.len() / self.k()
    }

    /// Row by row, `rows() * k()` of them; padding is 0.
    pub fn token_ids(&self) -> &LeVec<i32> {
        &self.token_ids
    }

    /// Row by row, `rows() * k()` of them; padding is [`PADDING_LOGPROB`].
    pub fn logprobs(&self) -> &LeVec<f32> {
        &self.logprobs
    }

    fn from_wire(wire: proto::TopkLogprobs) -> Result<Option<TopkLogprobs>, Error> {
        if wire.k == 0 || wire.length == 0 {
            return Ok(None);
        }
        let token_ids = LeVec::from_bytes(wire.token_ids).map_err(|error| error.within("token_ids"))?;
        let logprobs = LeVec::from_bytes(wire.logprobs).map_err(|error| error.within("logprobs"))?;
        let topk = TopkLogprobs::new(wire.k, token_ids, logprobs)?;
        if topk.rows() != wire.length as usize {
            return Err(Error::field("length", format!("{} is not the {} rows", wire.length, topk.rows())));
        }
        Ok(Some(topk))
    }

    fn to_wire(&self) -> proto::TopkLogprobs {
        proto::TopkLogprobs {
            token_ids: self.token_ids.as_bytes().to_vec(),
            logprobs: self.logprobs.as_bytes().to_vec(),
            k: self.k,
            length: self.rows() as u32,
        }
    }
}

impl SampleResponse {
    /// Reads the protobuf result.
    pub fn decode(bytes: &[u8]) -> Result<SampleResponse, Error> {
        let wire: proto::SampleResponse = proto::decode("SampleResponse", bytes)?;
        let mut sequences = Vec::with_capacity(wire.sequences.len());
        for (index, sequence) in wire.sequences.into_iter().enumerate() {
            let sequence = SampledSequence::from_wire(sequence);
            sequences.push(sequence.map_err(|error| error.within(&format!("sequences[{index}]")))?);
        }
        let tensor = |field, wire| Tensor::try_from(wire).map_err(|error: Error| error.within(field));
        let alternatives = |wire: proto::PromptAltTokens| {
            let part = |field, wire: Option<proto::Tensor>| {
                tensor(field, wire.ok_or_else(|| Error::field(field, "is missing"))?)
            };
            Ok(PromptAltTokens {
                tokens: part("tokens", wire.tokens)?,
                logprobs: part("logprobs", wire.logprobs)?,
            })
        };
        let hits = u32::try_from(wire.prompt_cache_hit_tokens)
            .map_err(|_| Error::field("prompt_cache_hit_tokens", "is negative"))?;
        Ok(SampleResponse {
            sequences,
            prompt_logprobs: floats("prompt_logprobs", wire.prompt_logprobs)?,
            topk_prompt_logprobs: topk("topk_prompt_logprobs", wire.topk_prompt_logprobs)?,
            prompt_cache_hit_tokens: hits,
            target_prompt_logprobs: wire
                .target_prompt_logprobs
                .map(|wire| tensor("target_prompt_logprobs", wire))
                .transpose()?,
            prompt_alt_tokens: wire
                .prompt_alt_tokens
                .map(alternatives)
                .transpose()
                .map_err(|error: Error| error.within("prompt_alt_tokens"))?,
        })
    }

    /// The protobuf result.
    pub fn encode(&self) -> Vec<u8> {
        let wire = proto::SampleResponse {
            sequences: self.sequences.iter().map(SampledSequence::to_wire).collect(),
            prompt_logprobs: self.prompt_logprobs.as_ref().map(|floats| floats.as_bytes().to_vec()),
            topk_prompt_logprobs: self.topk_prompt_logprobs.as_ref().map(TopkLogprobs::to_wire),
            prompt_cache_hit_tokens: self.prompt_cache_hit_tokens as i32,
            target_prompt_logprobs: self.target_prompt_logprobs.clone().map(Into::into),
            prompt_alt_tokens: self.prompt_alt_tokens.clone().map(|alternatives| proto::PromptAltTokens {
                tokens: Some(alternatives.tokens.into()),
                logprobs: Some(alternatives.logprobs.into()),
            }),
        };
        wire.encode_to_vec()
    }
}

impl SampledSequence {
    fn from_wire(wire: proto::SampledSequence) -> Result<SampledSequence, Error> {
        let stop_reason = match proto::StopReason::try_from(wire.stop_reason) {
            Ok(proto::StopReason::Stop) => StopReason::Stop,
            Ok(proto::StopReason::Length) => StopReason::Length,
            Err(_) => return Err(Error::field("stop_reason", format!("{} is unknown", wire.stop_reason))),
        };
        let tokens = Tokens::from_bytes(wire.tokens).map_err(|error| error.within("tokens"))?;
        let logprobs = floats("logprobs", wire.logprobs)?;
        if logprobs.as_ref().is_some_and(|logprobs| logprobs.len() != tokens.len()) {
            return Err(Error::field(
                "logprobs",
                format!("must be one for each of the {} tokens", tokens.len()),
            ));
        }
        let topk_logprobs = topk("topk_sampled_logprobs", wire.topk_sampled_logprobs)?;
        Ok(SampledSequence { stop_reason, tokens, logprobs, topk_logprobs })
    }

    fn to_wire(&self) -> proto::SampledSequence {
        let stop_reason = match self.stop_reason {
            StopReason::Stop => proto::StopReason::Stop,
            StopReason::Length => proto::StopReason::Length,
        };
        proto::SampledSequence {
            stop_reason: stop_reason.into(),
            tokens: self.tokens.as_bytes().to_vec(),
            logprobs: self.logprobs.as_ref().map(|floats| floats.as_bytes().to_vec()),
            topk_sampled_logprobs: self.topk_logprobs.as_ref().map(TopkLogprobs::to_wire),
        }
    }
}

/// Empty means none.
fn floats(field: &str, bytes: Option<Vec<u8>>) -> Result<Option<LeVec<f32>>, Error> {
    let bytes = bytes.filter(|bytes| !bytes.is_empty());
    bytes.map(LeVec::from_bytes).transpose().map_err(|error| error.within(field))
}

fn topk(field: &str, wire: Option<proto::TopkLogprobs>) -> Result<Option<TopkLogprobs>, Error> {
    wire.map_or(Ok(None), TopkLogprobs::from_wire).map_err(|error| error.within(field))
}

/// The JSON form of top-k: a list of positions, each null or a list of `[token, logprob]`.
mod rows {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{LeVec, PADDING_LOGPROB, TopkLogprobs};

    type Rows = Vec<Option<Vec<(i32, f32)>>>;

    pub fn serialize<S: Serializer>(topk: &Option<TopkLogprobs>, serializer: S) -> Result<S::Ok, S::Error> {
        topk.as_ref().map(to_rows).serialize(serializer)
    }

    fn to_rows(topk: &TopkLogprobs) -> Rows {
        let pairs: Vec<(i32, f32)> = topk.token_ids().iter().zip(topk.logprobs().iter()).collect();
        let held = |row: &[(i32, f32)]| {
            let count = row.iter().rposition(|&pair| pair != (0, PADDING_LOGPROB)).map(|last| last + 1)?;
            Some(row[..count].to_vec())
        };
        pairs.chunks(topk.k()).map(held).collect()
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<TopkLogprobs>, D::Error> {
        let Some(rows) = Option::<Rows>::deserialize(deserializer)? else {
            return Ok(None);
        };
        let k = rows.iter().flatten().map(Vec::len).max().unwrap_or(0);
        if k == 0 {
            return Ok(None);
        }
        // Padding a few long rows among many short ones could take far more room than the text did.
        let held: usize = rows.iter().map(|row| 1 + row.as_ref().map_or(0, Vec::len)).sum();
        if rows.len().saturating_mul(k) > held.saturating_mul(64) {
            return Err(serde::de::Error::custom("the rows of a top-k list differ too much in length"));
        }
        let mut token_ids = LeVec::default();
        let mut logprobs = LeVec::default();
        for row in rows {
            let row = row.unwrap_or_default();
            for place in 0..k {
                let (token, logprob) = row.get(place).copied().unwrap_or((0, PADDING_LOGPROB));
                token_ids.push(token);
                logprobs.push(logprob);
            }
        }
        TopkLogprobs::new(k as u32, token_ids, logprobs).map(Some).map_err(serde::de::Error::custom)
    }
}
