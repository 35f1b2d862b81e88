//! Reading and managing: training runs, checkpoints, sessions, weights, the audit log. Times are ISO 8601 with zone.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::session::{FinishKind, FinishReason, UserMetadata};
use super::training::OptimizerConfig;
use crate::path::CheckpointType;
use crate::{Map, ModelId, ModelSeqId, RequestId, SamplingSessionId, SessionId};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// `weights/NAME` and so on.
    pub checkpoint_id: String,
    pub checkpoint_type: CheckpointType,
    pub time: String,
    pub tinker_path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    #[serde(default, deserialize_with = "super::null_is_default")]
    pub public: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_metadata: Option<UserMetadata>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
}

/// `GET training_runs/{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainingRun {
    pub training_run_id: ModelId,
    pub base_model: String,
    pub model_owner: String,
    pub is_lora: bool,
    #[serde(default, deserialize_with = "super::null_is_default")]
    pub corrupted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lora_rank: Option<u32>,
    pub last_request_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_checkpoint: Option<Checkpoint>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_sampler_checkpoint: Option<Checkpoint>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_metadata: Option<UserMetadata>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    pub offset: u64,
    pub limit: u64,
    pub total_count: u64,
}

/// `GET training_runs`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainingRunsResponse {
    pub training_runs: Vec<TrainingRun>,
    pub cursor: Cursor,
}

/// `GET training_runs/{id}/checkpoints` and `GET checkpoints`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointsResponse {
    pub checkpoints: Vec<Checkpoint>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<Cursor>,
}

/// `GET sessions`, without a cursor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionsResponse {
    pub sessions: Vec<SessionId>,
}

/// `GET sessions/{id}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionResponse {
    pub training_run_ids: Vec<ModelId>,
    pub sampler_ids: Vec<SamplingSessionId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_metadata: Option<UserMetadata>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
}

/// `GET sessions/{id}/trace_export`, asked every 5 s until it isn't pending.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceExportResponse {
    pub status: TraceExportStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TraceExportStatus {
    Pending,
    Ready,
    Failed,
}

/// `PUT sessions/{id}/project`; its answer is not read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetProject {
    pub project_id: String,
}

/// `POST sessions/search`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SearchSessions {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<SessionId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project_ids: Option<Vec<String>>,
    #[serde(default)]
    pub user_metadata: UserMetadata,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    #[serde(default)]
    pub owner: SearchOwner,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statuses: Option<Vec<StatusQuery>>,
    /// 1 to 200.
    #[serde(default = "SearchSessions::default_limit")]
    pub limit: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<SearchCursor>,
}

impl SearchSessions {
    fn default_limit() -> u32 {
        50
    }
}

impl Default for SearchSessions {
    fn default() -> SearchSessions {
        SearchSessions {
            session_id: None,
            project_ids: None,
            user_metadata: UserMetadata::new(),
            display_name: None,
            owner: SearchOwner::default(),
            statuses: None,
            limit: SearchSessions::default_limit(),
            cursor: None,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum SearchOwner {
    #[default]
    Own,
    Accessible,
    User {
        /// 1 to 10.
        owner_urns: Vec<String>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum StatusQuery {
    Active,
    Cancelled,
    Failed,
    ClientFinished {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reasons: Option<Vec<FinishKind>>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SearchCursor {
    pub last_created_at: String,
    pub last_session_id: SessionId,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SearchSessionsResponse {
    pub sessions: Vec<SessionSummary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<SearchCursor>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionSummary {
    pub session_id: SessionId,
    pub created_at: String,
    pub owner: String,
    pub project_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<SessionStatus>,
    pub checkpoints_count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_metadata: Option<UserMetadata>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint_storage_bytes: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum SessionStatus {
    Active,
    Cancelled {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        detail: Option<String>,
    },
    ClientFinished {
        reason: FinishReason,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        detail: Option<String>,
    },
    Failed {
        category: FailureCategory,
        message: String,
        reason: FailureReason,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FailureCategory {
    User,
    Internal,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FailureReason {
    Request { request_id: RequestId, request_type: String },
    TrainingRun { training_run_id: ModelId },
    SamplingSession { sampling_session_id: SamplingSessionId },
}

/// `POST weights_info`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightsInfo {
    pub tinker_path: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightsInfoResponse {
    pub base_model: String,
    pub is_lora: bool,
    #[serde(default, deserialize_with = "super::null_is_default")]
    pub optimizer_config: OptimizerConfig,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lora_rank: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_unembed: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_mlp: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_attn: Option<bool>,
}

/// `POST copy_weights`. The access token goes in a header, `X-Tinker-Weights-Access-Token`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyWeights {
    pub source_path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_project_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<SessionId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_seq_id: Option<ModelSeqId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyWeightsResponse {
    pub tinker_path: String,
}

/// `GET …/{cid}/external_weights_urls`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExternalWeightsUrls {
    /// By file.
    pub urls: Map<String>,
    pub expires: String,
}

/// `PUT …/{cid}/ttl`; its answer is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetTtl {
    /// Written as null when there is none: it never expires.
    pub ttl_seconds: Option<u64>,
}

/// `GET audit`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AuditResponse {
    pub entries: Vec<AuditEntry>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuditEntry {
    pub timestamp: String,
    pub event: String,
    #[serde(default, deserialize_with = "super::null_is_default")]
    pub event_details: serde_json::Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_id: Option<ModelId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tinker_path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
}
