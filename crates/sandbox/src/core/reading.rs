//! What can be read and managed without a session: runs, checkpoints, sessions.

use super::route::unescape;
use super::weights::ttl;
use super::{Answer, Core, not_found};
use crate::message::{Refusal, Response};
use crate::state::{Checkpoint, Run, Session, Status};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tinkex_protocol::ids::{ModelId, SessionId};
use tinkex_protocol::path::{CheckpointType, TinkerPath};

/// The service's own defaults of `limit`.
const RUNS: usize = 20;
const CHECKPOINTS: usize = 100;
const SESSIONS: usize = 20;

/// Who everything here belongs to: the sandbox has one account.
const OWNER: &str = "sandbox";

/// The query of a path, decoded as far as our parameters need it.
pub(super) struct Query<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Query<'a> {
    pub fn parse(query: &'a str) -> Self {
        Self(query.split('&').filter_map(|pair| pair.split_once('=')).collect())
    }

    fn number(&self, name: &str, default: usize) -> Result<usize, Refusal> {
        let Some(text) = self.0.get(name) else { return Ok(default) };
        text.parse().map_err(|_| {
            Refusal::new(422, format!("{name} is {text:?}; it must be a whole number from 0 on."))
        })
    }

    pub fn text(&self, name: &str) -> Option<String> {
        self.0.get(name).map(|text| unescape(text).unwrap_or_else(|| (*text).to_owned()))
    }

    pub fn number_u64(&self, name: &str) -> Result<Option<u64>, Refusal> {
        self.0.contains_key(name).then(|| self.number(name, 0).map(|number| number as u64)).transpose()
    }

    /// A page of a list, and where it stands.
    fn page<T>(&self, all: Vec<T>, limit: usize) -> Result<(Vec<T>, Value), Refusal> {
        let (limit, offset) = (self.number("limit", limit)?, self.number("offset", 0)?);
        let cursor = json!({ "offset": offset, "limit": limit, "total_count": all.len() });
        Ok((all.into_iter().skip(offset).take(limit).collect(), cursor))
    }
}

impl Core {
    pub(super) fn capabilities(&self) -> Answer {
        let model = |name: &str| {
            let context = self.bases.get(name).map_or(0, |base| base.config().context);
            json!({ "model_name": name, "max_context_length": context, "trainable": true, "sampleable": true })
        };
        let models: Vec<_> = self.bases.names().map(model).collect();
        Answer::Same(Response::json(&json!({ "supported_models": models })))
    }

    pub(super) fn get_info(&mut self, id: &ModelId) -> Result<Answer, Refusal> {
        self.living_model(id)?;
        let run = self.state.runs.get(id).ok_or_else(|| not_found("model", id))?;
        Ok(Answer::Same(Response::json(&json!({
            "model_data": { "arch": "llama", "model_name": run.base_model, "tokenizer_id": run.base_model },
            "model_id": id,
            "model_name": run.base_model,
            "is_lora": true,
            "lora_rank": run.lora.rank,
            "optimizer_config": { "type": "adamw" },
        }))))
    }

    pub(super) fn list_runs(&self, query: &Query<'_>) -> Result<Answer, Refusal> {
        let mut runs: Vec<_> = self.state.runs.iter().collect();
        runs.sort_by_key(|(_, run)| std::cmp::Reverse(run.incarnation));
        let (runs, cursor) = query.page(runs, RUNS)?;
        let runs: Vec<_> = runs.into_iter().map(|(id, run)| self.run(id, run)).collect();
        Ok(Answer::Same(Response::json(&json!({ "training_runs": runs, "cursor": cursor }))))
    }

    pub(super) fn get_run(&self, id: &ModelId) -> Result<Answer, Refusal> {
        let run = self.state.runs.get(id).ok_or_else(|| not_found("training run", id))?;
        Ok(Answer::Same(Response::json(&self.run(id, run))))
    }

    fn run(&self, id: &ModelId, run: &Run) -> Value {
        let last = |kind: CheckpointType| {
            let mine = self.living_checkpoints().filter(|it| it.path.run() == id && it.path.kind() == kind);
            mine.max_by_key(|it| it.made).map(Self::describe)
        };
        let mut body = json!({
            "training_run_id": id,
            "base_model": run.base_model,
            "model_owner": OWNER,
            "is_lora": true,
            "corrupted": false,
            "lora_rank": run.lora.rank,
            "last_request_time": time(run.last_request),
        });
        let optional = [
            ("last_checkpoint", last(CheckpointType::Training)),
            ("last_sampler_checkpoint", last(CheckpointType::Sampler)),
            ("user_metadata", run.user_metadata.as_ref().map(|metadata| json!(metadata))),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                body[name] = value;
            }
        }
        body
    }

    pub(super) fn run_checkpoints(&self, id: &ModelId) -> Result<Answer, Refusal> {
        if !self.state.runs.contains_key(id) {
            return Err(not_found("training run", id));
        }
        let mine = self.newest_first(|checkpoint| checkpoint.path.run() == id);
        let checkpoints: Vec<_> = mine.into_iter().map(Self::describe).collect();
        Ok(Answer::Same(Response::json(&json!({ "checkpoints": checkpoints }))))
    }

    pub(super) fn list_checkpoints(&self, query: &Query<'_>) -> Result<Answer, Refusal> {
        let (page, cursor) = query.page(self.newest_first(|_| true), CHECKPOINTS)?;
        let checkpoints: Vec<_> = page.into_iter().map(Self::describe).collect();
        Ok(Answer::Same(Response::json(&json!({ "checkpoints": checkpoints, "cursor": cursor }))))
    }

    fn living_checkpoints(&self) -> impl Iterator<Item = &Checkpoint> {
        self.state.checkpoints.values().filter(|checkpoint| checkpoint.alive(self.now))
    }

    fn newest_first(&self, which: impl Fn(&Checkpoint) -> bool) -> Vec<&Checkpoint> {
        let mut found: Vec<_> = self.living_checkpoints().filter(|checkpoint| which(checkpoint)).collect();
        found.sort_by(|one, other| other.made.cmp(&one.made).then_with(|| one.path.cmp(&other.path)));
        found
    }

    fn describe(checkpoint: &Checkpoint) -> Value {
        let mut body = json!({
            "checkpoint_id": checkpoint.path.checkpoint_id(),
            "checkpoint_type": checkpoint.path.kind(),
            "time": time(checkpoint.made),
            "tinker_path": checkpoint.path.to_string(),
            "size_bytes": checkpoint.size,
            "public": checkpoint.public,
        });
        if let Some(metadata) = &checkpoint.user_metadata {
            body["user_metadata"] = json!(metadata);
        }
        if let Some(expires) = checkpoint.expires {
            body["expires_at"] = time(expires).into();
        }
        body
    }

    /// Changes a checkpoint of a run, named as in a URL.
    fn change(
        &mut self,
        run: &ModelId,
        id: &str,
        change: impl FnOnce(&mut Checkpoint),
    ) -> Result<Answer, Refusal> {
        let name = self.path_of(run, id)?;
        let checkpoint =
            self.state.checkpoints.get_mut(&name).ok_or_else(|| not_found("checkpoint", &name))?;
        change(checkpoint);
        Ok(Answer::Changed(Response::empty()))
    }

    fn path_of(&self, run: &ModelId, id: &str) -> Result<String, Refusal> {
        let path = TinkerPath::from_checkpoint_id(run.clone(), id);
        let path = path.map_err(|error| Refusal::new(404, error.to_string()))?.to_string();
        self.checkpoint(&path).map_err(|problem| Refusal::new(404, problem))?;
        Ok(path)
    }

    pub(super) fn publish(&mut self, run: &ModelId, id: &str, public: bool) -> Result<Answer, Refusal> {
        self.change(run, id, |checkpoint| checkpoint.public = public)
    }

    pub(super) fn set_ttl(
        &mut self,
        run: &ModelId,
        id: &str,
        seconds: Option<u64>,
    ) -> Result<Answer, Refusal> {
        let living = seconds.map(ttl).transpose().map_err(|problem| Refusal::new(422, problem))?;
        let expires = living.map(|living| self.now + living);
        self.change(run, id, |checkpoint| checkpoint.expires = expires)
    }

    pub(super) fn delete_checkpoint(&mut self, run: &ModelId, id: &str) -> Result<Answer, Refusal> {
        let path = self.path_of(run, id)?;
        self.state.checkpoints.remove(&path);
        self.state.drop_unused_blobs();
        Ok(Answer::Changed(Response::empty()))
    }

    pub(super) fn weights_info(&self, path: &str) -> Result<Answer, Refusal> {
        let checkpoint = self.checkpoint(path).map_err(|problem| Refusal::new(404, problem))?;
        let lora = checkpoint.lora;
        Ok(Answer::Same(Response::json(&json!({
            "base_model": checkpoint.base_model,
            "is_lora": true,
            "optimizer_config": { "type": "adamw" },
            "lora_rank": lora.rank,
            "train_unembed": lora.train_unembed,
            "train_mlp": lora.train_mlp,
            "train_attn": lora.train_attn,
        }))))
    }

    pub(super) fn list_sessions(&self, query: &Query<'_>) -> Result<Answer, Refusal> {
        let mut sessions: Vec<_> = self.state.sessions.iter().collect();
        sessions.sort_by_key(|(_, session)| std::cmp::Reverse(session.created));
        let ids = sessions.into_iter().map(|(id, _)| id).collect();
        let (ids, _) = query.page(ids, SESSIONS)?;
        Ok(Answer::Same(Response::json(&json!({ "sessions": ids }))))
    }

    pub(super) fn get_session(&self, id: &SessionId) -> Result<Answer, Refusal> {
        let session = self.state.sessions.get(id).ok_or_else(|| not_found("session", id))?;
        let runs = self.state.runs.iter().filter(|(_, run)| run.session == *id);
        let mut body = json!({
            "training_run_ids": runs.map(|(id, _)| id).collect::<Vec<_>>(),
            "sampler_ids": self.sampler_ids(id),
            "user_metadata": session.user_metadata,
        });
        if let Some(name) = &session.display_name {
            body["display_name"] = name.as_str().into();
        }
        Ok(Answer::Same(Response::json(&body)))
    }

    pub(super) fn set_project(&mut self, id: &SessionId, project: &str) -> Result<Answer, Refusal> {
        let session = self.state.sessions.get_mut(id).ok_or_else(|| not_found("session", id))?;
        session.project = Some(project.to_owned());
        Ok(Answer::Changed(Response::empty()))
    }

    /// What a session is shown as where its state matters: `sandbox/sessions`.
    pub(super) fn session_status(session: &Session) -> Value {
        match &session.status {
            Status::Active => json!({ "type": "active" }),
            Status::Finished { reason, detail } => {
                json!({ "type": "client_finished", "reason": { "type": reason }, "detail": detail })
            }
            Status::Ended => json!({ "type": "cancelled", "detail": "no heartbeats" }),
        }
    }
}

/// ISO 8601, in UTC.
fn time(since_epoch: Duration) -> String {
    humantime::format_rfc3339_micros(std::time::UNIX_EPOCH + since_epoch).to_string()
}
