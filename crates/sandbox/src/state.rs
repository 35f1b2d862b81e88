//! All that a restart must find again, as plain data. What can be made from it (engines, merged weights, held
//! polls) stands in [`Core`](crate::Core), and is not written down.

use crate::applied::Applied;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use tinkex_protocol::ids::{ModelId, RequestId, SamplingSessionId, SessionId};
use tinkex_protocol::json::session::UserMetadata;
use tinkex_protocol::path::TinkerPath;

/// SHA-256 of what a request asks for.
pub(crate) type Fingerprint = [u8; 32];

pub(crate) fn fingerprint(parts: &[&[u8]]) -> Fingerprint {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct State {
    /// Where the ids of this server begin. Two servers have different ones.
    pub seed: [u8; 32],
    /// Of the last change.
    pub now: Duration,
    pub sessions_made: u64,
    pub models_made: u64,
    pub sessions: BTreeMap<SessionId, Session>,
    /// By idempotency key: what `create_session` was asked, and what it answered.
    pub session_keys: BTreeMap<String, (Fingerprint, SessionId)>,
    /// The models of living sessions.
    pub models: BTreeMap<ModelId, Model>,
    /// Every model there ever was.
    pub runs: BTreeMap<ModelId, Run>,
    pub samplers: BTreeMap<SamplingSessionId, Sampler>,
    pub futures: BTreeMap<RequestId, Future>,
    /// By their path, `tinker://…`.
    pub checkpoints: BTreeMap<String, Checkpoint>,
    /// Weights that checkpoints and samplers share, by their hash.
    pub blobs: BTreeMap<Fingerprint, Bytes>,
    pub log: Vec<Applied>,
}

/// How a session goes on, or ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Status {
    Active,
    /// Its client said that it is done.
    Finished {
        reason: String,
        detail: Option<String>,
    },
    /// Its heartbeats stayed away.
    Ended,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Session {
    pub created: Duration,
    pub status: Status,
    pub tags: Vec<String>,
    pub user_metadata: UserMetadata,
    pub project: Option<String>,
    pub display_name: Option<String>,
    /// Numbers its requests, for their ids.
    pub requests_made: u64,
    /// By `model_seq_id`.
    pub models: BTreeMap<u64, Numbered>,
    /// By `sampling_session_seq_id`; ephemeral ones included.
    pub samplers: BTreeMap<u64, (Fingerprint, SamplingSessionId)>,
    /// By `custom_loss_seq_id`.
    pub losses: BTreeMap<u64, Numbered>,
}

/// What a number was used for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Numbered {
    pub asked: Fingerprint,
    pub request: RequestId,
}

/// A model in training: the queue of its requests. Number 0 makes it; a client counts from 1.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Model {
    pub session: SessionId,
    /// All below are applied.
    pub next: u64,
    /// Submitted and not applied.
    pub waiting: BTreeMap<u64, RequestId>,
    pub numbers: BTreeMap<u64, Numbered>,
    /// Why there is no engine, if making it failed: all that follows fails for the same reason.
    pub failed: Option<String>,
    /// It takes no new numbers, and its engine is gone. Numbers that it took still name their requests.
    pub unloaded: bool,
    /// Its ephemeral samplers, oldest first.
    pub ephemeral: VecDeque<SamplingSessionId>,
}

/// What is known of a model for good, under the name of a training run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Run {
    pub session: SessionId,
    /// Counts models in the order of their making. Going on from a checkpoint is a new incarnation.
    pub incarnation: u64,
    pub base_model: String,
    pub lora: Lora,
    pub user_metadata: Option<UserMetadata>,
    pub last_request: Duration,
    /// The checkpoint that it went on from.
    pub parent: Option<String>,
    /// The request that asked to unload it.
    pub unloaded: Option<RequestId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lora {
    pub rank: u32,
    pub seed: Option<u64>,
    pub train_unembed: bool,
    pub train_mlp: bool,
    pub train_attn: bool,
}

/// What a sampler samples from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Sampler {
    pub session: SessionId,
    pub base_model: String,
    pub model_path: Option<String>,
    /// `None`: the base model as it is.
    pub weights: Option<Fingerprint>,
    /// By `seq_id` of the request.
    pub numbers: BTreeMap<u64, Numbered>,
    /// Clients that joined, its maker included; each numbers its requests apart.
    pub joined: u64,
    /// Finished requests in the order in which they were, for `retrieve_futures`.
    pub completions: Vec<RequestId>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Checkpoint {
    #[serde(with = "as_text")]
    pub path: TinkerPath,
    pub made: Duration,
    pub expires: Option<Duration>,
    pub public: bool,
    pub user_metadata: Option<UserMetadata>,
    pub base_model: String,
    pub lora: Lora,
    pub weights: Fingerprint,
    pub size: u64,
}

mod as_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use tinkex_protocol::path::TinkerPath;

    pub fn serialize<S: Serializer>(path: &TinkerPath, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(path)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<TinkerPath, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl Sampler {
    pub fn new(
        session: SessionId,
        base_model: String,
        model_path: Option<String>,
        weights: Option<Fingerprint>,
    ) -> Self {
        let (numbers, completions) = (BTreeMap::new(), Vec::new());
        Self { session, base_model, model_path, weights, numbers, joined: 1, completions }
    }
}

impl Checkpoint {
    pub fn alive(&self, now: Duration) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

/// A request that works in the background, until its result is dropped.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Future {
    pub session: SessionId,
    pub task: Task,
    pub progress: Progress,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Progress {
    /// The body as it came.
    Waiting(Bytes),
    Done(Outcome),
}

/// What a future is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Task {
    Train { model: ModelId, seq: u64, kind: Kind },
    Unload { model: ModelId },
    Sample { sampler: SamplingSessionId },
    CustomLoss,
}

/// What a numbered request of a model does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    CreateModel,
    CreateFromCheckpoint,
    ForwardBackward,
    /// The same in the JSON dialect of older clients.
    ForwardBackwardJson,
    ForwardJson,
    OptimStep,
    SaveWeights,
    SaveWeightsForSampler,
    SaveWeightsExternal,
    LoadWeights,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    Json(Bytes),
    Protobuf(Bytes),
    Failed { error: String, category: Category },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Category {
    User,
    Server,
}

impl Outcome {
    pub fn json(body: &impl Serialize) -> Self {
        Self::Json(serde_json::to_vec(body).expect("our own bodies have string keys").into())
    }

    pub fn user(error: impl Into<String>) -> Self {
        Self::Failed { error: error.into(), category: Category::User }
    }

    pub fn server(error: impl Into<String>) -> Self {
        Self::Failed { error: error.into(), category: Category::Server }
    }

    /// The size of the body that carries it.
    pub fn size(&self) -> usize {
        match self {
            Self::Json(body) | Self::Protobuf(body) => body.len(),
            Self::Failed { error, .. } => error.len(),
        }
    }

    pub fn check(&self) -> u32 {
        match self {
            Self::Json(body) | Self::Protobuf(body) => crc32fast::hash(body),
            Self::Failed { error, .. } => crc32fast::hash(error.as_bytes()),
        }
    }
}

impl State {
    /// The id of the next session: unpredictable without the seed, so that servers don't meet in ids.
    pub fn next_session(&mut self) -> SessionId {
        self.sessions_made += 1;
        let hash = fingerprint(&[&self.seed, b"session", &self.sessions_made.to_le_bytes()]);
        SessionId::new(format!("session-{}", hex(&hash[..8])))
    }

    /// Keeps bytes once, however many refer to them.
    pub fn keep(&mut self, bytes: Vec<u8>) -> Fingerprint {
        let hash = fingerprint(&[&bytes]);
        self.blobs.entry(hash).or_insert_with(|| bytes.into());
        hash
    }

    /// Drops weights that nothing refers to any more.
    pub fn drop_unused_blobs(&mut self) {
        let checkpoints = self.checkpoints.values().map(|checkpoint| checkpoint.weights);
        let samplers = self.samplers.values().filter_map(|sampler| sampler.weights);
        let used: BTreeSet<_> = checkpoints.chain(samplers).collect();
        self.blobs.retain(|hash, _| used.contains(hash));
    }
}
