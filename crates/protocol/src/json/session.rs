//! Sessions and the service: flags, credentials, capabilities, the start and the end of a session, samplers.

use serde::{Deserialize, Serialize};

use super::tag::{Tag, named};
use crate::chunking::ChunkLimits;
use crate::{Map, SamplingSessionId, SamplingSessionSeqId, SessionId};

/// Free text by name, which users attach to things.
pub type UserMetadata = Map<String>;

/// `POST client/config` and `POST client/dynamic_config`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientConfig {
    pub sdk_version: String,
}

/// Fields that the server may leave out or send as null, each with the value that this means.
macro_rules! flags {
    ($(#[$doc:meta])* $name:ident { $($(#[$flag_doc:meta])* $flag:ident: $kind:ty = $default:expr,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(from = "flags::Sent")]
        pub struct $name {
            $($(#[$flag_doc])* pub $flag: $kind,)*
        }
        impl Default for $name {
            fn default() -> Self {
                $name { $($flag: $default.into(),)* }
            }
        }
        mod flags {
            #[derive(serde::Deserialize)]
            pub struct Sent {
                $(pub $flag: Option<$kind>,)*
            }
        }
        impl From<flags::Sent> for $name {
            fn from(sent: flags::Sent) -> Self {
                $name { $($flag: sent.$flag.unwrap_or_else(|| $default.into()),)* }
            }
        }
    };
}

flags! {
    /// The answer of `client/config`: how the service wants its clients to behave.
    Flags {
        /// Exchange the credential for a short-lived token before anything else.
        pjwt_auth_enabled: bool = false,
        credential_default_source: String = "api_key",
        /// Estimated bytes of samples in dispatch.
        sample_dispatch_bytes_semaphore_size: u64 = 10u64 << 20,
        /// Bytes of results in flight.
        inflight_response_bytes_semaphore_size: u64 = 50u64 << 20,
        /// Send the chunks of a call together, and the first one last.
        parallel_fwdbwd_chunks: bool = true,
        /// Compress the bodies of forward and backward passes with zstd.
        proto_compress_fwdbwd: bool = false,
        /// Data in a request.
        fwdbwd_max_chunk_len: u64 = ChunkLimits::DEFAULT.data as u64,
        /// Estimated bytes in a request.
        fwdbwd_max_chunk_bytes_count: u64 = ChunkLimits::DEFAULT.bytes as u64,
        /// Estimated bytes of forward and backward passes in dispatch.
        fwdbwd_dispatch_bytes_semaphore_size: u64 = 50_000_000u64,
        /// Seconds that a call waits while the service is paused for billing.
        billing_exception_max_pause_duration_sec: u64 = 3_600u64,
        /// A failed sample is not made again.
        sample_no_retries: bool = false,
        /// Fail samples when none has moved for two hours.
        sample_enable_stuck_detection: bool = true,
        /// Samples that have no answer yet.
        sample_max_concurrent_requests: u64 = 2_000u64,
        /// One poller a sampling session asks for many samples.
        sample_use_retrieve_futures: bool = false,
        /// The server computes custom losses.
        custom_loss_server_side: bool = false,
        /// A clone of a sampler asks the server for its number.
        sample_join_sampling_session: bool = false,
    }
}

/// The answer of `client/dynamic_config`; a 404 means the defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "DynamicSent")]
pub struct DynamicFlags {
    /// Seconds until they are asked for again.
    pub refresh_interval_sec: u64,
    /// Abandoned samples are cancelled at the server.
    pub sample_cancel_enabled: bool,
    pub sample_cancel_max_batch_size: u64,
}

#[derive(Default, Deserialize)]
struct DynamicSent {
    refresh_interval_sec: Option<u64>,
    sample_cancel_enabled: Option<bool>,
    sample_cancel_max_batch_size: Option<u64>,
}

impl From<DynamicSent> for DynamicFlags {
    fn from(sent: DynamicSent) -> DynamicFlags {
        DynamicFlags {
            refresh_interval_sec: sent.refresh_interval_sec.unwrap_or(300),
            sample_cancel_enabled: sent.sample_cancel_enabled.unwrap_or(false),
            sample_cancel_max_batch_size: sent.sample_cancel_max_batch_size.unwrap_or(64),
        }
    }
}

impl Default for DynamicFlags {
    fn default() -> DynamicFlags {
        DynamicSent::default().into()
    }
}

/// `POST auth/token`; its request is `{}`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthTokenResponse {
    pub jwt: String,
}

/// Without the token, which is a secret.
impl std::fmt::Debug for AuthTokenResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AuthTokenResponse")
    }
}

/// A body of no fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// `GET healthz`: `status` is `ok`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthResponse {
    pub status: String,
}

/// `GET get_server_capabilities`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerCapabilities {
    pub supported_models: Vec<SupportedModel>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SupportedModel {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_name: Option<String>,
    /// Tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_context_length: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trainable: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampleable: Option<bool>,
}

/// `POST create_session`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateSession {
    #[serde(default)]
    pub tags: Vec<String>,
    #[serde(default, deserialize_with = "super::null_is_default")]
    pub user_metadata: UserMetadata,
    pub sdk_version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    #[serde(rename = "type", default)]
    pub tag: Tag<CreateSession>,
}

/// The messages are for the user's eyes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateSessionResponse {
    pub session_id: SessionId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub info_message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning_message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    #[serde(rename = "type", default)]
    pub tag: Tag<CreateSession>,
}

/// `POST session_heartbeat`, every 10 s.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionHeartbeat {
    pub session_id: SessionId,
    #[serde(rename = "type", default)]
    pub tag: Tag<SessionHeartbeat>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionHeartbeatResponse {
    #[serde(rename = "type", default)]
    pub tag: Tag<SessionHeartbeat>,
}

/// `POST sessions/{id}/finish`; its answer is not read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinishSession {
    pub reason: FinishReason,
    /// Written as null when there is none.
    pub detail: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinishReason {
    #[serde(rename = "type")]
    pub kind: FinishKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FinishKind {
    Success,
    Errored,
    Interrupted,
}

/// `POST create_sampling_session`: of a base model or of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateSamplingSession {
    pub session_id: SessionId,
    pub sampling_session_seq_id: SamplingSessionSeqId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_model: Option<String>,
    /// A `tinker://` path; only its beginning is looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_path: Option<String>,
    #[serde(rename = "type", default)]
    pub tag: Tag<CreateSamplingSession>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateSamplingSessionResponse {
    pub sampling_session_id: SamplingSessionId,
    #[serde(rename = "type", default)]
    pub tag: Tag<CreateSamplingSession>,
}

/// `POST join_sampling_session`: a number for a clone of a sampler.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinSamplingSession {
    pub sampling_session_id: SamplingSessionId,
    #[serde(rename = "type", default)]
    pub tag: Tag<JoinSamplingSession>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinSamplingSessionResponse {
    /// The first client is 0.
    pub client_counter: u64,
    #[serde(rename = "type", default)]
    pub tag: Tag<JoinSamplingSession>,
}

/// `GET samplers/{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sampler {
    pub sampler_id: SamplingSessionId,
    pub base_model: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_path: Option<String>,
}

/// `GET auth/apikey/me`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKeyInfo {
    pub key_id: u64,
    pub name: String,
    pub note: String,
    pub details: ApiKeyDetails,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKeyDetails {
    pub org_details: OrgDetails,
    pub user_details: UserDetails,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrgDetails {
    pub name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserDetails {
    pub email: String,
}

named! {
    CreateSession = "create_session",
    SessionHeartbeat = "session_heartbeat",
    CreateSamplingSession = "create_sampling_session",
    JoinSamplingSession = "join_sampling_session",
}
