//! Custom losses that the server computes: a traced graph and its inputs.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::tag::{Tag, named};
use crate::{CustomLossSeqId, LossId, SessionId};

/// `POST create_custom_loss`. The same loss twice in a session is refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CreateCustomLoss {
    pub session_id: SessionId,
    pub custom_loss_seq_id: CustomLossSeqId,
    pub name: String,
    /// `logprobs` first; at most 16.
    pub inputs: Vec<CustomLossInput>,
    pub graph: CustomLossGraph,
    #[serde(rename = "type", default)]
    pub tag: Tag<CreateCustomLoss>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CustomLossInput {
    /// `[a-z_][a-z0-9_]{0,63}`.
    pub name: String,
    /// 0: a number, 1: `[tokens]`, 2: `[tokens, k]`.
    pub rank: u8,
}

/// Nodes in the order of their execution.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CustomLossGraph {
    /// 1.
    pub format: u32,
    pub nodes: Vec<CustomLossNode>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CustomLossNode {
    pub op: CustomLossOp,
    /// Unique in the graph.
    pub name: String,
    /// Parameter, qualified function (`torch.exp`), method, or `output`.
    pub target: String,
    /// Null, booleans, numbers, texts and lists stand for themselves; anything else is an object of one key (`ref`,
    /// `tuple`, `dict`, `slice`, `ellipsis`, `float`, `dtype`, `device`, `layout`, `memory_format`).
    #[serde(default)]
    pub args: Vec<Value>,
    #[serde(default)]
    pub kwargs: Map<String, Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CustomLossOp {
    Placeholder,
    GetAttr,
    CallFunction,
    CallMethod,
    CallModule,
    Output,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateCustomLossResult {
    pub loss_id: LossId,
    #[serde(rename = "type", default)]
    pub tag: Tag<CreateCustomLoss>,
}

named! { CreateCustomLoss = "create_custom_loss" }
