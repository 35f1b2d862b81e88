//! Usage and its cost. Times are ISO 8601 with zone.

use serde::{Deserialize, Serialize};

use super::session::UserMetadata;
use crate::Map;

/// `GET billing/usage/events`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UsageEventsResponse {
    pub data: Vec<UsageEvent>,
    #[serde(default, deserialize_with = "super::null_is_default")]
    pub sessions: Map<UsageSession>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_data_through: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageSession {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_metadata: Option<UserMetadata>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UsageEvent {
    pub bucket_start: String,
    pub bucket_end: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimated_cost_usd: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effective_rate_usd_per_million_tokens: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effective_rate_usd_per_gigabyte_month: Option<f64>,
    pub event_info: UsageInfo,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum UsageInfo {
    Training {
        token_count: u64,
    },
    SamplingPrefill {
        cached: bool,
        token_count: u64,
    },
    SamplingSample {
        token_count: u64,
    },
    Checkpoint {
        count: u64,
    },
    Storage {
        #[serde(default, deserialize_with = "super::null_is_default")]
        free: bool,
        gigabyte_hours: f64,
    },
}

/// `GET billing/usage/checkpoints/current`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CheckpointStorageResponse {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effective_rate_usd_per_gigabyte_month: Option<f64>,
    pub data: Vec<CheckpointStorage>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckpointStorage {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub org_user_urn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_email: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_name: Option<String>,
    pub checkpoint_count: u64,
    pub size_bytes: u64,
    pub size_gigabytes: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimated_monthly_cost_usd: Option<f64>,
}
