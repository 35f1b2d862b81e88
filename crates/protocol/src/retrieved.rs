//! What an answer of `retrieve_future` says: not yet, ready, failed, or the result.

use serde::{Deserialize, Serialize};

use crate::json::Json;
use crate::{Error, RequestId};

/// The content type of protobuf bodies.
pub const PROTOBUF: &str = "application/x-protobuf";

/// A 200 answer of `retrieve_future`. Results stay the bytes that came.
#[derive(Clone, Debug, PartialEq)]
pub enum Retrieved<'a> {
    /// Not ready: ask again.
    TryAgain(TryAgain),
    /// Ready, but only its size was sent: ask again with `allow_metadata_only: false`.
    Complete(CompleteMetadata),
    /// The request failed, for good.
    Failed(Failed),
    /// The result, as JSON: an object.
    Json(&'a [u8]),
    /// The result, as protobuf.
    Protobuf(&'a [u8]),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TryAgain {
    pub request_id: Option<RequestId>,
    /// None when the server said nothing, or something unknown.
    pub queue_state: Option<QueueState>,
    pub queue_state_reason: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QueueState {
    Active,
    PausedRateLimit,
    PausedCapacity,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompleteMetadata {
    /// Bytes of the result, uncompressed.
    pub response_payload_size: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    pub error: String,
    pub category: Category,
}

/// Whose fault a failed request was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    User,
    Server,
    #[default]
    Unknown,
}

impl Category {
    pub fn as_str(self) -> &'static str {
        match self {
            Category::User => "user",
            Category::Server => "server",
            Category::Unknown => "unknown",
        }
    }

    fn named(name: &str) -> Category {
        match name {
            "user" => Category::User,
            "server" => Category::Server,
            _ => Category::Unknown,
        }
    }
}

impl QueueState {
    pub fn as_str(self) -> &'static str {
        match self {
            QueueState::Active => "active",
            QueueState::PausedRateLimit => "paused_rate_limit",
            QueueState::PausedCapacity => "paused_capacity",
        }
    }

    fn named(name: &str) -> Option<QueueState> {
        [QueueState::Active, QueueState::PausedRateLimit, QueueState::PausedCapacity]
            .into_iter()
            .find(|state| state.as_str() == name)
    }
}

impl<'a> Retrieved<'a> {
    /// Reads the body of a 200 answer. What is neither of the first two and has a key `error` is a failure, whatever else it
    /// has. Refuses what is neither protobuf by its content type nor a JSON object.
    pub fn read(content_type: &str, body: &'a [u8]) -> Result<Retrieved<'a>, Error> {
        if is_protobuf(content_type) {
            return Ok(Retrieved::Protobuf(body));
        }
        let answer = Json::read(body)?;
        if answer.members().is_none() {
            return Err(Error::field("", "is not a JSON object"));
        }
        // A result may use the same names for something else: values are taken as they come.
        let said = |name| said(answer, name);
        if says(answer, "type", "try_again") {
            return Ok(Retrieved::TryAgain(TryAgain {
                request_id: said("request_id").map(Into::into),
                queue_state: said("queue_state").and_then(|state| QueueState::named(&state)),
                queue_state_reason: said("queue_state_reason"),
            }));
        }
        if says(answer, "status", "complete_metadata") {
            let size = answer.get("response_payload_size").and_then(Json::count);
            let missing = || Error::field("response_payload_size", "must be a size in bytes");
            return Ok(Retrieved::Complete(CompleteMetadata {
                response_payload_size: size.ok_or_else(missing)?,
            }));
        }
        if let Some(error) = answer.get("error") {
            let category = said("category").map_or(Category::Unknown, |category| Category::named(&category));
            return Ok(Retrieved::Failed(Failed { error: text(error), category }));
        }
        Ok(Retrieved::Json(body))
    }
}

/// Whether a content type, whatever its parameters, is protobuf's.
pub fn is_protobuf(content_type: &str) -> bool {
    let mut parts = content_type.as_bytes().split(|&byte| byte == b';');
    parts.next().is_some_and(|kind| kind.trim_ascii().eq_ignore_ascii_case(PROTOBUF.as_bytes()))
}

#[inline(never)]
fn said(answer: Json, name: &str) -> Option<String> {
    answer.get(name).filter(|value| !value.is_null()).map(text)
}

#[inline(never)]
fn says(answer: Json, name: &str, word: &str) -> bool {
    said(answer, name).is_some_and(|said| said == word)
}

/// The text of a value that should be one; of another its JSON.
fn text(value: Json) -> String {
    value.text().unwrap_or_else(|| value.raw().to_owned())
}

impl Serialize for TryAgain {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Wire<'a> {
            r#type: &'static str,
            #[serde(skip_serializing_if = "Option::is_none")]
            request_id: &'a Option<RequestId>,
            #[serde(skip_serializing_if = "Option::is_none")]
            queue_state: &'a Option<QueueState>,
            #[serde(skip_serializing_if = "Option::is_none")]
            queue_state_reason: &'a Option<String>,
        }
        let TryAgain { request_id, queue_state, queue_state_reason } = self;
        Wire { r#type: "try_again", request_id, queue_state, queue_state_reason }.serialize(serializer)
    }
}

impl Serialize for CompleteMetadata {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Wire {
            status: &'static str,
            response_payload_size: u64,
        }
        let response_payload_size = self.response_payload_size;
        Wire { status: "complete_metadata", response_payload_size }.serialize(serializer)
    }
}

impl Serialize for Failed {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Wire<'a> {
            error: &'a str,
            category: Category,
        }
        Wire { error: &self.error, category: self.category }.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Retrieved<'_>, Error> {
        Retrieved::read("application/json", body.as_bytes())
    }

    #[test]
    fn the_content_type_decides_what_is_protobuf() {
        for kind in ["application/x-protobuf", "Application/X-Protobuf; charset=binary"] {
            assert_eq!(Retrieved::read(kind, b"{}"), Ok(Retrieved::Protobuf(b"{}")));
        }
        for kind in ["", "application/json", "text/plain"] {
            assert_eq!(Retrieved::read(kind, b"{}"), Ok(Retrieved::Json(b"{}")));
        }
    }

    #[test]
    fn any_object_with_an_error_is_a_failure() {
        let failed =
            |error: &str, category| Ok(Retrieved::Failed(Failed { error: error.to_owned(), category }));
        assert_eq!(read(r#"{"error":"why","category":"user"}"#), failed("why", Category::User));
        assert_eq!(read(r#"{"error":"why","category":"novel"}"#), failed("why", Category::Unknown));
        assert_eq!(read(r#"{"error":null,"path":"p"}"#), failed("null", Category::Unknown));
        assert_eq!(read(r#"{"error":{"a":1}}"#), failed(r#"{"a":1}"#, Category::Unknown));
    }

    #[test]
    fn an_unknown_queue_state_is_not_reported() {
        for body in [
            r#"{"type":"try_again"}"#,
            r#"{"type":"try_again","queue_state":"novel"}"#,
            r#"{"type":"try_again","queue_state":null}"#,
        ] {
            let Ok(Retrieved::TryAgain(answer)) = read(body) else { panic!("{body}") };
            assert_eq!(answer.queue_state, None);
        }
    }

    #[test]
    fn a_result_that_uses_the_same_names_is_a_result() {
        for body in [
            r#"{"type":"save_weights","status":{"ok":true},"path":"p"}"#,
            r#"{"status":"done","request_id":12}"#,
        ] {
            assert_eq!(read(body), Ok(Retrieved::Json(body.as_bytes())));
        }
    }

    #[test]
    fn what_is_not_an_object_is_refused() {
        for body in
            ["", "[]", "[1,2,3,4,5,6,7,8]", "null", "\"try_again\"", "{", r#"{"status":"complete_metadata"}"#]
        {
            assert!(read(body).is_err(), "{body}");
        }
    }
}
