//! The result of a sample: sequences, and what was asked about the prompt.

use prost::Message;
use serde::{Deserialize, Serialize};

use crate::wire::Fields;
use crate::{Error, LeVec, Tensor, Tokens, proto};

/// Fills the places of a top-k row that have no token.
pub const PADDING_LOGPROB: f32 = -99999.0;

/// A `SampleResponse` whose parts fit each other. Its JSON form is what older servers send. What the server says of other
/// tokens of the prompt stands in the same message, and is [`OtherTokens`].
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

/// The part of a `SampleResponse` that answers what was asked of tokens which the prompt doesn't have. Read and written by
/// itself: the client asks nothing of the kind, and does not carry the code for it. A message is its fields in a row, so
/// the two parts one after the other are the whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OtherTokens {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_prompt_logprobs: Option<Tensor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_alt_tokens: Option<PromptAltTokens>,
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
        let mut response = SampleResponse::default();
        let mut topk = TopkMessage::default();
        let mut hits = 0;
        let mut fields = Fields(bytes);
        while let Some((field, value)) = fields.next()? {
            match field {
                1 => {
                    let sequence = SampledSequence::read(value.bytes()?);
                    let index = response.sequences.len();
                    let sequence = sequence.map_err(|error| error.within_element("sequences", index));
                    response.sequences.push(sequence?);
                }
                2 => response.prompt_logprobs = floats("prompt_logprobs", value.bytes()?)?,
                3 => topk.merge(value.bytes()?)?,
                4 => hits = value.integer()? as i32,
                _ => {}
            }
        }
        response.topk_prompt_logprobs = topk.checked("topk_prompt_logprobs")?;
        response.prompt_cache_hit_tokens =
            u32::try_from(hits).map_err(|_| Error::field("prompt_cache_hit_tokens", "is negative"))?;
        Ok(response)
    }

    /// The protobuf result.
    pub fn encode(&self) -> Vec<u8> {
        let wire = proto::SampleResponse {
            sequences: self.sequences.iter().map(SampledSequence::to_wire).collect(),
            prompt_logprobs: self.prompt_logprobs.as_ref().map(|floats| floats.as_bytes().to_vec()),
            topk_prompt_logprobs: self.topk_prompt_logprobs.as_ref().map(TopkLogprobs::to_wire),
            prompt_cache_hit_tokens: self.prompt_cache_hit_tokens as i32,
            ..Default::default()
        };
        wire.encode_to_vec()
    }
}

impl OtherTokens {
    /// Reads this part of the protobuf result.
    pub fn decode(bytes: &[u8]) -> Result<OtherTokens, Error> {
        let wire: proto::SampleResponse = proto::decode("SampleResponse", bytes)?;
        let checked = |field, wire| Tensor::try_from(wire).map_err(|error: Error| error.within(field));
        let alternatives = |both: proto::PromptAltTokens| {
            let part = |field, wire: Option<proto::Tensor>| {
                checked(field, wire.ok_or_else(|| Error::field(field, "is missing"))?)
            };
            Ok(PromptAltTokens {
                tokens: part("tokens", both.tokens)?,
                logprobs: part("logprobs", both.logprobs)?,
            })
        };
        let targets = wire.target_prompt_logprobs;
        let alternatives = wire.prompt_alt_tokens.map(alternatives).transpose();
        Ok(OtherTokens {
            target_prompt_logprobs: targets
                .map(|wire| checked("target_prompt_logprobs", wire))
                .transpose()?,
            prompt_alt_tokens: alternatives.map_err(|error: Error| error.within("prompt_alt_tokens"))?,
        })
    }

    /// This part of the protobuf result.
    pub fn encode(&self) -> Vec<u8> {
        let alternatives = self.prompt_alt_tokens.clone().map(|both| proto::PromptAltTokens {
            tokens: Some(both.tokens.into()),
            logprobs: Some(both.logprobs.into()),
        });
        let wire = proto::SampleResponse {
            target_prompt_logprobs: self.target_prompt_logprobs.clone().map(Into::into),
            prompt_alt_tokens: alternatives,
            ..Default::default()
        };
        wire.encode_to_vec()
    }
}

impl SampledSequence {
    fn read(message: &[u8]) -> Result<SampledSequence, Error> {
        let mut stop_reason = 0;
        let (mut tokens, mut logprobs) = (&[][..], &[][..]);
        let mut topk = TopkMessage::default();
        let mut fields = Fields(message);
        while let Some((field, value)) = fields.next()? {
            match field {
                1 => stop_reason = value.integer()? as i32,
                2 => tokens = value.bytes()?,
                3 => logprobs = value.bytes()?,
                4 => topk.merge(value.bytes()?)?,
                _ => {}
            }
        }
        let stop_reason = match stop_reason {
            0 => StopReason::Stop,
            1 => StopReason::Length,
            other => return Err(Error::field("stop_reason", format!("{other} is unknown"))),
        };
        let tokens = Tokens::from_bytes(tokens.to_vec()).map_err(|error| error.within("tokens"))?;
        let logprobs = floats("logprobs", logprobs)?;
        if logprobs.as_ref().is_some_and(|logprobs| logprobs.len() != tokens.len()) {
            let problem = format!("must be one for each of the {} tokens", tokens.len());
            return Err(Error::field("logprobs", problem));
        }
        let topk_logprobs = topk.checked("topk_sampled_logprobs")?;
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
fn floats(field: &str, bytes: &[u8]) -> Result<Option<LeVec<f32>>, Error> {
    match LeVec::from_bytes(bytes.to_vec()) {
        Ok(floats) => Ok(Some(floats).filter(|floats| !floats.is_empty())),
        Err(error) => Err(error.within(field)),
    }
}

/// Top-k as it came, unchecked; empty where none did.
#[derive(Default)]
struct TopkMessage<'a> {
    token_ids: &'a [u8],
    logprobs: &'a [u8],
    k: u32,
    length: u32,
}

impl<'a> TopkMessage<'a> {
    fn merge(&mut self, message: &'a [u8]) -> Result<(), Error> {
        let mut fields = Fields(message);
        while let Some((field, value)) = fields.next()? {
            match field {
                1 => self.token_ids = value.bytes()?,
                2 => self.logprobs = value.bytes()?,
                3 => self.k = value.integer()? as u32,
                4 => self.length = value.integer()? as u32,
                _ => {}
            }
        }
        Ok(())
    }

    fn checked(self, field: &str) -> Result<Option<TopkLogprobs>, Error> {
        if self.k == 0 || self.length == 0 {
            return Ok(None);
        }
        self.topk().map(Some).map_err(|error| error.within(field))
    }

    fn topk(self) -> Result<TopkLogprobs, Error> {
        let token_ids =
            LeVec::from_bytes(self.token_ids.to_vec()).map_err(|error| error.within("token_ids"))?;
        let logprobs = LeVec::from_bytes(self.logprobs.to_vec()).map_err(|error| error.within("logprobs"))?;
        let topk = TopkLogprobs::new(self.k, token_ids, logprobs)?;
        if topk.rows() != self.length as usize {
            let problem = format!("{} is not the {} rows", self.length, topk.rows());
            return Err(Error::field("length", problem));
        }
        Ok(topk)
    }
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
