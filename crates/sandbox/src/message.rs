//! What goes into the core and what comes out: a request and a response, without a socket.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Duration;

/// The media type of every protobuf body.
pub const PROTOBUF: &str = "application/x-protobuf";
/// The media type of every JSON body.
pub const JSON: &str = "application/json";

/// One HTTP request, read whole. `path` still has its query.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub method: Method,
    /// Path and query as sent, for example `/api/v1/training_runs?limit=5`.
    pub path: String,
    pub headers: Headers,
    pub body: Bytes,
}

impl Request {
    /// A GET with the key that a test or a simulation uses.
    pub fn get(path: impl Into<String>) -> Self {
        Self { method: Method::Get, path: path.into(), headers: Headers::trusted(), body: Bytes::new() }
    }

    /// A POST of JSON with the key that a test or a simulation uses.
    pub fn post(path: impl Into<String>, body: &Value) -> Self {
        let headers = Headers { content_type: Some(JSON.into()), ..Headers::trusted() };
        Self { method: Method::Post, path: path.into(), headers, body: body.to_string().into() }
    }

    /// A POST of a protobuf message.
    pub fn post_protobuf(path: impl Into<String>, body: impl Into<Bytes>) -> Self {
        let headers = Headers { content_type: Some(PROTOBUF.into()), ..Headers::trusted() };
        Self { method: Method::Post, path: path.into(), headers, body: body.into() }
    }
}

/// The methods that the service knows; anything else is `Other` and gets a 405.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Method {
    #[default]
    Get,
    Post,
    Put,
    Delete,
    Other,
}

/// The headers that change an answer. All others are ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    pub api_key: Option<String>,
    pub content_type: Option<String>,
    pub content_encoding: Option<String>,
    pub accept: Option<String>,
    pub idempotency_key: Option<String>,
}

impl Headers {
    fn trusted() -> Self {
        Self { api_key: Some("tml-local".into()), accept: Some(PROTOBUF.into()), ..Self::default() }
    }

    pub(crate) fn is_protobuf(&self) -> bool {
        self.content_type.as_deref().is_some_and(|kind| kind.starts_with(PROTOBUF))
    }

    pub(crate) fn accepts_protobuf(&self) -> bool {
        self.accept.as_deref().is_some_and(|kinds| kinds.contains(PROTOBUF))
    }
}

/// One HTTP response. The front adds `Content-Length`, always.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub content_type: &'static str,
    pub body: Bytes,
}

impl Response {
    pub fn json(body: &impl Serialize) -> Self {
        let body = serde_json::to_vec(body).expect("our own bodies have string keys and finite numbers");
        Self { status: 200, content_type: JSON, body: body.into() }
    }

    pub(crate) fn protobuf(body: Bytes) -> Self {
        Self { status: 200, content_type: PROTOBUF, body }
    }

    /// An error as every endpoint writes it: `{"detail": …}`.
    pub fn error(status: u16, detail: impl Into<String>) -> Self {
        Self { status, ..Self::json(&json!({ "detail": detail.into() })) }
    }

    pub(crate) fn empty() -> Self {
        Self::json(&json!({}))
    }
}

/// What the core makes of a request.
#[derive(Debug)]
pub enum Reply {
    Now(Response),
    /// The answer comes later: out of [`Core::released`](crate::Core::released), at the deadline at the latest
    /// if [`Core::tick`](crate::Core::tick) is called then.
    Held(HoldId, Duration),
}

/// A held poll. Whoever no longer waits for it says so with [`Core::let_go`](crate::Core::let_go).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HoldId(pub(crate) u64);

/// An error that a handler ends with: the status and what to do about it.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub status: u16,
    pub detail: String,
}

impl Refusal {
    pub fn new(status: u16, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into() }
    }
}

impl From<Refusal> for Response {
    fn from(refusal: Refusal) -> Self {
        Response::error(refusal.status, refusal.detail)
    }
}
