//! The protobuf messages (package `tinker_public`, proto3) exactly as they go over the wire: names, tags and nothing
//! checked. `tensor`, `batch`, `input`, `forward_backward` and `sample` turn them into values that hold what they claim.
//!
//! A protobuf map is on the wire a repeated message of key and value, and is that here: [`map`] and [`entries`] convert.

use prost::{Enumeration, Message, Oneof};

use crate::{Error, Map};

/// Reads a message of type `M`; `name` is for the error.
pub fn decode<M: Message + Default>(name: &'static str, bytes: &[u8]) -> Result<M, Error> {
    M::decode(bytes).map_err(|cause| Error::field("", format!("not a protobuf {name}: {cause}")))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum StopReason {
    Stop = 0,
    Length = 1,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum DType {
    Unspecified = 0,
    Float32 = 1,
    Int64 = 2,
    Int32 = 3,
    Bfloat16 = 4,
}

#[derive(Clone, PartialEq, Message)]
pub struct ForwardBackwardRequest {
    #[prost(string, tag = "1")]
    pub model_id: String,
    #[prost(int32, tag = "2")]
    pub seq_id: i32,
    #[prost(message, repeated, tag = "3")]
    pub data: Vec<Datum>,
    #[prost(string, tag = "4")]
    pub loss_fn: String,
    /// The numbers of `loss_fn_config_v2`, for servers that know only these.
    #[prost(message, repeated, tag = "5")]
    pub loss_fn_config: Vec<NumberEntry>,
    #[prost(bool, tag = "6")]
    pub forward_only: bool,
    #[prost(message, repeated, tag = "7")]
    pub loss_fn_config_v2: Vec<LossConfigEntry>,
}

#[derive(Clone, PartialEq, Message)]
pub struct LossConfigValue {
    #[prost(oneof = "loss_config_value::Value", tags = "1, 2")]
    pub value: Option<loss_config_value::Value>,
}

pub mod loss_config_value {
    #[derive(Clone, PartialEq, super::Oneof)]
    pub enum Value {
        #[prost(double, tag = "1")]
        Number(f64),
        #[prost(string, tag = "2")]
        Text(String),
    }
}

#[derive(Clone, PartialEq, Message)]
pub struct Datum {
    #[prost(message, repeated, tag = "1")]
    pub model_input: Vec<Chunk>,
    #[prost(message, repeated, tag = "2")]
    pub loss_fn_inputs: Vec<TensorEntry>,
    #[prost(message, repeated, tag = "3")]
    pub model_input_spans: Vec<ProvenanceSpan>,
    #[prost(message, repeated, tag = "4")]
    pub loss_fn_input_spans: Vec<ProvenanceSpan>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Chunk {
    #[prost(oneof = "chunk::Chunk", tags = "1, 2, 3")]
    pub chunk: Option<chunk::Chunk>,
}

pub mod chunk {
    #[derive(Clone, PartialEq, super::Oneof)]
    pub enum Chunk {
        #[prost(message, tag = "1")]
        EncodedText(super::EncodedTextChunk),
        #[prost(message, tag = "2")]
        Image(super::ImageChunk),
        #[prost(message, tag = "3")]
        Dmel(super::DmelChunk),
    }
}

#[derive(Clone, PartialEq, Message)]
pub struct EncodedTextChunk {
    /// int32.
    #[prost(bytes = "vec", tag = "1")]
    pub tokens: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub struct DmelChunk {
    #[prost(bytes = "vec", tag = "1")]
    pub dmel: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ImageChunk {
    #[prost(bytes = "vec", tag = "1")]
    pub data: Vec<u8>,
    #[prost(string, tag = "2")]
    pub format: String,
    #[prost(int32, optional, tag = "3")]
    pub expected_tokens: Option<i32>,
    #[prost(message, optional, tag = "4")]
    pub override_dimensions: Option<ImageDimensions>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub struct ImageDimensions {
    #[prost(uint32, tag = "1")]
    pub width: u32,
    #[prost(uint32, tag = "2")]
    pub height: u32,
}

#[derive(Clone, PartialEq, Message)]
pub struct Tensor {
    #[prost(oneof = "tensor::Layout", tags = "1, 2")]
    pub layout: Option<tensor::Layout>,
    #[prost(enumeration = "DType", tag = "3")]
    pub dtype: i32,
    /// Empty: one-dimensional.
    #[prost(int64, repeated, tag = "4")]
    pub shape: Vec<i64>,
}

pub mod tensor {
    #[derive(Clone, PartialEq, super::Oneof)]
    pub enum Layout {
        #[prost(bytes, tag = "1")]
        Dense(Vec<u8>),
        #[prost(message, tag = "2")]
        SparseCsr(super::SparseCsr),
    }
}

#[derive(Clone, PartialEq, Message)]
pub struct SparseCsr {
    /// Of the tensor's dtype.
    #[prost(bytes = "vec", tag = "1")]
    pub values: Vec<u8>,
    /// int64, one more than rows.
    #[prost(bytes = "vec", tag = "2")]
    pub crow_indices: Vec<u8>,
    /// int64, one a value.
    #[prost(bytes = "vec", tag = "3")]
    pub col_indices: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ProvenanceSpan {
    #[prost(oneof = "provenance_span::Span", tags = "1, 2")]
    pub span: Option<provenance_span::Span>,
}

pub mod provenance_span {
    #[derive(Clone, PartialEq, super::Oneof)]
    pub enum Span {
        #[prost(message, tag = "1")]
        PromptTokens(super::SpanOfSequence),
        #[prost(message, tag = "2")]
        SampledTokens(super::SpanOfSequence),
    }
}

/// `PromptProvenanceSpan` and `SampledProvenanceSpan`, which have the same fields. Offset and length count tokens.
#[derive(Clone, PartialEq, Message)]
pub struct SpanOfSequence {
    #[prost(string, tag = "1")]
    pub sequence_id: String,
    #[prost(int64, tag = "2")]
    pub offset: i64,
    #[prost(int64, tag = "3")]
    pub length: i64,
}

#[derive(Clone, PartialEq, Message)]
pub struct ForwardBackwardOutput {
    #[prost(string, tag = "1")]
    pub loss_fn_output_type: String,
    #[prost(message, repeated, tag = "2")]
    pub loss_fn_outputs: Vec<ArrayRecord>,
    #[prost(message, repeated, tag = "3")]
    pub metrics: Vec<NumberEntry>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ArrayRecord {
    #[prost(string, tag = "1")]
    pub type_tag: String,
    #[prost(message, repeated, tag = "2")]
    pub fields: Vec<BatchedTensorEntry>,
    #[prost(int64, tag = "3")]
    pub num_datums: i64,
}

/// One field of all data of a record: datum *i* is `data[offsets[i]..offsets[i + 1]]`.
#[derive(Clone, PartialEq, Message)]
pub struct BatchedTensor {
    #[prost(bytes = "vec", tag = "1")]
    pub data: Vec<u8>,
    /// int64, in bytes of `data`; one more than data.
    #[prost(bytes = "vec", tag = "2")]
    pub offsets: Vec<u8>,
    #[prost(enumeration = "DType", tag = "3")]
    pub dtype: i32,
    #[prost(int64, repeated, tag = "4")]
    pub trailing_shape: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
pub struct SampleResponse {
    #[prost(message, repeated, tag = "1")]
    pub sequences: Vec<SampledSequence>,
    /// float32; NaN where there is none.
    #[prost(bytes = "vec", optional, tag = "2")]
    pub prompt_logprobs: Option<Vec<u8>>,
    #[prost(message, optional, tag = "3")]
    pub topk_prompt_logprobs: Option<TopkLogprobs>,
    #[prost(int32, tag = "4")]
    pub prompt_cache_hit_tokens: i32,
    #[prost(message, optional, tag = "5")]
    pub target_prompt_logprobs: Option<Tensor>,
    #[prost(message, optional, tag = "6")]
    pub prompt_alt_tokens: Option<PromptAltTokens>,
}

#[derive(Clone, PartialEq, Message)]
pub struct SampledSequence {
    #[prost(enumeration = "StopReason", tag = "1")]
    pub stop_reason: i32,
    /// int32.
    #[prost(bytes = "vec", tag = "2")]
    pub tokens: Vec<u8>,
    /// float32, one a token.
    #[prost(bytes = "vec", optional, tag = "3")]
    pub logprobs: Option<Vec<u8>>,
    #[prost(message, optional, tag = "4")]
    pub topk_sampled_logprobs: Option<TopkLogprobs>,
}

/// Two matrices `[length, k]`, row by row.
#[derive(Clone, PartialEq, Message)]
pub struct TopkLogprobs {
    /// int32.
    #[prost(bytes = "vec", tag = "1")]
    pub token_ids: Vec<u8>,
    /// float32.
    #[prost(bytes = "vec", tag = "2")]
    pub logprobs: Vec<u8>,
    #[prost(uint32, tag = "3")]
    pub k: u32,
    #[prost(uint32, tag = "4")]
    pub length: u32,
}

#[derive(Clone, PartialEq, Message)]
pub struct PromptAltTokens {
    #[prost(message, optional, tag = "1")]
    pub tokens: Option<Tensor>,
    #[prost(message, optional, tag = "2")]
    pub logprobs: Option<Tensor>,
}

/// The entries of a map. Written with both parts, even where one is a default, as the official client writes them.
macro_rules! entries {
    ($($name:ident: $value:ty = $kind:tt),* $(,)?) => {$(
        #[derive(Clone, PartialEq, Message)]
        pub struct $name {
            #[prost(string, optional, tag = "1")]
            pub key: Option<String>,
            #[prost($kind, optional, tag = "2")]
            pub value: Option<$value>,
        }

        impl From<(String, $value)> for $name {
            fn from((key, value): (String, $value)) -> $name {
                $name { key: Some(key), value: Some(value) }
            }
        }

        /// What is missing is the default.
        impl From<$name> for (String, $value) {
            fn from(entry: $name) -> (String, $value) {
                (entry.key.unwrap_or_default(), entry.value.unwrap_or_default())
            }
        }
    )*};
}

entries! {
    NumberEntry: f64 = double,
    LossConfigEntry: LossConfigValue = message,
    TensorEntry: Tensor = message,
    BatchedTensorEntry: BatchedTensor = message,
}

/// A map of the wire by name; of a name that comes twice the last value counts.
pub fn map<E: Into<(String, T)>, T>(entries: Vec<E>) -> Map<T> {
    entries.into_iter().map(Into::into).collect()
}

/// A map as it goes over the wire, in the order of its names, so that the same message is always the same bytes.
pub fn entries<E: From<(String, T)>, T>(map: Map<T>) -> Vec<E> {
    map.into_iter().map(E::from).collect()
}
