//! Telemetry: what a client tells the service about itself.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// `POST telemetry`: at most 100 events. Clients without a session send `sessionless-{uuid}` as its id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TelemetryBatch {
    pub events: Vec<TelemetryEvent>,
    pub platform: String,
    pub sdk_version: String,
    pub session_id: String,
    pub process_uuid: String,
}

/// `status` is `accepted`; a refused batch is dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TelemetryResponse {
    pub status: String,
}

/// One event: the fields of all kinds, of which a kind has its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TelemetryEvent {
    #[serde(rename = "event")]
    pub kind: EventKind,
    pub event_id: String,
    /// Counts from 0 in a session.
    pub event_session_index: u64,
    pub severity: Severity,
    /// ISO 8601, with zone.
    pub timestamp: String,
    /// SESSION_END: since the start, as `0:00:35.208113`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration: Option<String>,
    /// GENERIC_EVENT.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_name: Option<String>,
    /// GENERIC_EVENT; free, and nulls in it stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_data: Option<Map<String, Value>>,
    /// UNHANDLED_EXCEPTION.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_type: Option<String>,
    /// UNHANDLED_EXCEPTION.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    /// UNHANDLED_EXCEPTION.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traceback: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum EventKind {
    SessionStart,
    SessionEnd,
    GenericEvent,
    UnhandledException,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Severity {
    Debug,
    Info,
    Warning,
    Error,
    Critical,
}
