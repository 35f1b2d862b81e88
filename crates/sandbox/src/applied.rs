//! The log of what was applied: one entry for each numbered request of a model, in the order in which it took
//! effect. Tests read it to see that every step stands in it once.

use crate::state::{Fingerprint, Kind, hex};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tinkex_protocol::ids::{ModelId, RequestId, SessionId};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Applied {
    pub at: Duration,
    pub session: SessionId,
    pub model: ModelId,
    pub incarnation: u64,
    /// 0 for the making of the model.
    pub seq: u64,
    pub kind: Kind,
    pub request: RequestId,
    pub body_hash: Fingerprint,
    /// Whether it took effect. A failed one uses its number and changes nothing.
    pub ok: bool,
    /// With `--log-bodies`.
    pub body: Option<Bytes>,
}

/// An entry as a line of JSON. The same form is read by [`replay`](crate::replay).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Line {
    pub index: u64,
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
    pub session_id: SessionId,
    pub model_id: ModelId,
    pub incarnation: u64,
    pub seq_id: u64,
    pub kind: Kind,
    pub request_id: RequestId,
    /// SHA-256 of the body as it came.
    pub body_sha256: String,
    pub ok: bool,
    /// Base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}

impl Applied {
    pub fn line(&self, index: usize) -> Line {
        Line {
            index: index as u64,
            at_ms: u64::try_from(self.at.as_millis()).unwrap_or(u64::MAX),
            session_id: self.session.clone(),
            model_id: self.model.clone(),
            incarnation: self.incarnation,
            seq_id: self.seq,
            kind: self.kind,
            request_id: self.request.clone(),
            body_sha256: hex(&self.body_hash),
            ok: self.ok,
            body: self.body.as_ref().map(|body| BASE64.encode(body)),
        }
    }
}

impl Line {
    pub fn body(&self) -> Result<Bytes, String> {
        let text = self.body.as_deref().ok_or_else(|| {
            format!("entry {} has no body: start the sandbox with --log-bodies before the run", self.index)
        })?;
        let body = BASE64.decode(text).map_err(|error| format!("entry {}: body: {error}", self.index))?;
        Ok(body.into())
    }
}
