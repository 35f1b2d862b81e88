//! The messages of the Tinker training API, as the client and the sandbox both speak it: ids, JSON bodies, protobuf.
//!
//! Nothing here does I/O, waits, or keeps state. Bytes come in and checked values go out, or the other way round.
//!
//! | module | what |
//! |---|---|
//! | [`ids`], [`path`] | newtypes for ids, sequence numbers and `tinker://` paths |
//! | [`json`] | every JSON body, request and response, one file a group of endpoints |
//! | [`proto`] | the protobuf messages exactly as they go over the wire, unchecked, as the server reads and writes them |
//! | [`le`], [`tensor`], [`batch`] | arrays as the little-endian bytes that they travel in, with their shapes checked |
//! | [`input`] | what a model reads: chunks, prompts, data |
//! | [`forward_backward`], [`sample`] | the two calls whose bodies are protobuf, checked |
//! | [`retrieved`] | what an answer of `retrieve_future` says |
//! | [`chunking`], [`metrics`] | how one call is cut into requests, and its results put together again |
//!
//! Decoders take any bytes. What is malformed is an [`Error`] that names the place; a length or a count that a message
//! claims is held against the bytes that are there before anything of that size is allocated.

mod base64;
pub mod batch;
pub mod chunking;
mod error;
pub mod forward_backward;
pub mod ids;
pub mod input;
pub mod json;
pub mod le;
mod map;
pub mod metrics;
pub mod path;
pub mod proto;
pub mod retrieved;
pub mod sample;
pub mod tensor;
mod wire;

pub use error::Error;
pub use forward_backward::{EncodedForwardBackward, ForwardBackward, ForwardBackwardOutput, LossCall};
pub use ids::*;
pub use input::{Chunk, Datum, ModelInput};
pub use le::{LeVec, Tokens};
pub use map::Map;
pub use path::TinkerPath;
pub use retrieved::Retrieved;
pub use sample::{SampleResponse, SampledSequence, StopReason};
pub use tensor::{DType, Tensor};
