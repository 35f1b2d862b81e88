//! The request of a sample. Its result is [`crate::SampleResponse`].

use std::fmt;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::tag::{Tag, named};
use crate::{ModelInput, SampleSeqId, SamplingSessionId, Tensor};

/// `POST asample`, answered with [`Submitted`](super::futures::Submitted). Whoever only writes it may lend it prompt and
/// parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample<Prompt = ModelInput, Params = SamplingParams> {
    #[serde(default = "one")]
    pub num_samples: u32,
    pub prompt: Prompt,
    #[serde(default)]
    pub sampling_params: Params,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_path: Option<String>,
    pub sampling_session_id: SamplingSessionId,
    pub seq_id: SampleSeqId,
    #[serde(default, deserialize_with = "super::null_is_default")]
    pub prompt_logprobs: bool,
    /// 0: none.
    #[serde(default)]
    pub topk_prompt_logprobs: u32,
    /// 0: none.
    #[serde(default)]
    pub topk_sample_logprobs: u32,
    /// int64, `[len(prompt) − 1, k]`: row *i* asks for tokens at prompt position *i* + 1; −1 asks for nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_prompt_logprobs: Option<Tensor>,
    /// 0: none.
    #[serde(default)]
    pub prompt_alt_tokens_k: u32,
    /// 1 to `len(prompt) − 1`; needs `prompt_logprobs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_logprobs_last_n: Option<u32>,
    #[serde(default, deserialize_with = "super::null_is_default")]
    pub record_stability_info: bool,
    #[serde(rename = "type", default)]
    pub tag: Tag<Sample>,
}

fn one() -> u32 {
    1
}

impl<Prompt, Params> Sample<Prompt, Params> {
    /// One sample with everything else at its default.
    pub fn new(
        sampler: SamplingSessionId,
        seq_id: SampleSeqId,
        prompt: Prompt,
        params: Params,
    ) -> Sample<Prompt, Params> {
        Sample {
            num_samples: 1,
            prompt,
            sampling_params: params,
            base_model: None,
            model_path: None,
            sampling_session_id: sampler,
            seq_id,
            prompt_logprobs: false,
            topk_prompt_logprobs: 0,
            topk_sample_logprobs: 0,
            target_prompt_logprobs: None,
            prompt_alt_tokens_k: 0,
            prompt_logprobs_last_n: None,
            record_stability_info: false,
            tag: Tag::default(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SamplingParams {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop: Option<Stop>,
    pub temperature: f64,
    /// −1: all.
    pub top_k: i64,
    pub top_p: f64,
}

impl Default for SamplingParams {
    fn default() -> SamplingParams {
        SamplingParams { max_tokens: None, seed: None, stop: None, temperature: 1.0, top_k: -1, top_p: 1.0 }
    }
}

/// Where a sample ends. None at all keeps the end of the sequence; an empty list turns off even that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    Text(String),
    Texts(Vec<String>),
    Tokens(Vec<i32>),
}

impl Serialize for Stop {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Stop::Text(text) => text.serialize(serializer),
            Stop::Texts(texts) => texts.serialize(serializer),
            Stop::Tokens(tokens) => tokens.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Stop {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Stop, D::Error> {
        struct Form;

        impl<'de> Visitor<'de> for Form {
            type Value = Stop;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a list of texts or a list of token ids")
            }

            fn visit_str<E>(self, text: &str) -> Result<Stop, E> {
                Ok(Stop::Text(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Stop, A::Error> {
                let Some(first) = list.next_element::<Entry>()? else {
                    return Ok(Stop::Tokens(Vec::new()));
                };
                match first {
                    Entry::Text(text) => {
                        let mut texts = vec![text];
                        while let Some(text) = list.next_element()? {
                            texts.push(text);
                        }
                        Ok(Stop::Texts(texts))
                    }
                    Entry::Token(token) => {
                        let mut tokens = vec![token];
                        while let Some(token) = list.next_element()? {
                            tokens.push(token);
                        }
                        Ok(Stop::Tokens(tokens))
                    }
                }
            }
        }

        deserializer.deserialize_any(Form)
    }
}

/// The first of a list of stops, which says what kind of list it is.
#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    Text(String),
    Token(i32),
}

named! { Sample = "sample" }

#[cfg(test)]
mod tests {
    use super::Stop;
    use crate::json::{decode, encode};

    #[test]
    fn a_stop_keeps_its_form() {
        for (text, stop) in [
            ("\"a\"", Stop::Text("a".into())),
            ("[\"a\",\"b\"]", Stop::Texts(vec!["a".into(), "b".into()])),
            ("[1,2]", Stop::Tokens(vec![1, 2])),
            ("[]", Stop::Tokens(vec![])),
        ] {
            assert_eq!(decode::<Stop>(text.as_bytes()), Ok(stop.clone()));
            assert_eq!(encode(&stop), text.as_bytes());
        }
        for text in ["1", "[1,\"a\"]", "[\"a\",1]", "[1.5]", "{}", "[null]"] {
            assert!(decode::<Stop>(text.as_bytes()).is_err(), "{text}");
        }
    }
}
