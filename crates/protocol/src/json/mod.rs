//! The JSON bodies of every endpoint, request and response, by group.
//!
//! Rules for all: a field that is `None` is left out (`finish.detail` and `ttl.ttl_seconds` apart, which are written as
//! null); defaults are written; unknown fields are ignored; a `type` may be left out, but if it is there it must be the
//! endpoint's.

use serde::Serialize;
use serde::de::{Deserialize, DeserializeOwned, Deserializer};

use crate::Error;

pub mod custom_loss;
pub mod futures;
mod locate;
pub mod managing;
pub mod read;
pub mod sampling;
pub mod session;
pub mod tag;
pub mod telemetry;
pub mod training;
pub mod usage;
pub mod write;

pub use read::Json;
pub use write::write;

/// Reads a body into its type. The error names the field.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|error| locate::explain(bytes, &error))
}

/// Writes a body.
pub fn encode<T: Serialize + ?Sized>(body: &T) -> Vec<u8> {
    serde_json::to_vec(body).expect("a body has text keys, and none of its values refuses to be written")
}

/// For a response's field whose absence has a meaning: null means the same.
pub(crate) fn null_is_default<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Default + Deserialize<'de>,
    D: Deserializer<'de>,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}
