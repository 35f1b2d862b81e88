//! Training requests: taken at once in any order, applied in the order of their numbers.

use super::sessions::asked;
use super::{Answer, Core, not_found};
use crate::applied::Applied;
use crate::engine;
use crate::message::{Refusal, Response};
use crate::state::{
    Checkpoint, Fingerprint, Future, Kind, Lora, Model, Numbered, Outcome, Progress, Run, Sampler, Task,
    fingerprint,
};
use crate::work::Work;
use bytes::Bytes;
use serde_json::json;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use tinkex_model::{Adapter, StateScope};
use tinkex_protocol::ids::{ModelId, RequestId, SamplingSessionId, SessionId};
use tinkex_protocol::json::custom_loss::CreateCustomLoss;
use tinkex_protocol::json::training::{CreateModel, LoadWeights, SaveWeights, SaveWeightsForSampler};
use tinkex_protocol::path::{CheckpointType, TinkerPath};

/// What a model is made with, before there is one.
pub(super) struct NewModel {
    pub session: SessionId,
    pub seq: u64,
    pub kind: Kind,
    pub asked: Fingerprint,
    pub base_model: String,
    pub lora: Lora,
    pub parent: Option<String>,
    pub user_metadata: Option<BTreeMap<String, String>>,
}

impl Core {
    pub(super) fn create_model(&mut self, body: &CreateModel, bytes: &Bytes) -> Result<Answer, Refusal> {
        self.bases.get(&body.base_model)?;
        let lora = Lora {
            rank: body.lora_config.rank,
            seed: body.lora_config.seed,
            train_unembed: body.lora_config.train_unembed,
            train_mlp: body.lora_config.train_mlp,
            train_attn: body.lora_config.train_attn,
        };
        let new = NewModel {
            session: body.session_id.clone(),
            seq: body.model_seq_id.get(),
            kind: Kind::CreateModel,
            asked: asked("create_model", body),
            base_model: body.base_model.clone(),
            lora,
            parent: None,
            user_metadata: body.user_metadata.clone(),
        };
        self.make_model(new, bytes)
    }

    /// Without a model's id it makes a new model, with one it loads into that.
    pub(super) fn load_weights(&mut self, body: &LoadWeights, bytes: &Bytes) -> Result<Answer, Refusal> {
        let asked = asked("load_weights", body);
        if let Some(model) = &body.model_id {
            let seq = body
                .seq_id
                .ok_or_else(|| Refusal::new(400, "load_weights into a model needs its seq_id."))?;
            return self.submit(model, seq.get(), Kind::LoadWeights, asked, bytes);
        }
        let (Some(session), Some(seq)) = (&body.session_id, body.model_seq_id) else {
            let needs =
                "load_weights needs model_id and seq_id, or session_id and model_seq_id for a new model.";
            return Err(Refusal::new(400, needs));
        };
        // A repeated request must be known before its checkpoint is looked for: that may be gone by now.
        if let Some(before) = self.living_session(session)?.models.get(&seq.get()).cloned() {
            return Self::model_answer(session, seq.get(), &before, &asked);
        }
        let checkpoint =
            self.training_checkpoint(&body.path).map_err(|problem| Refusal::new(404, problem))?;
        if let Some(wanted) = body.base_model.as_ref().filter(|wanted| **wanted != checkpoint.base_model) {
            let detail =
                format!("{} is a checkpoint of {}, not of {wanted}.", body.path, checkpoint.base_model);
            return Err(Refusal::new(400, detail));
        }
        let new = NewModel {
            session: session.clone(),
            seq: seq.get(),
            kind: Kind::CreateFromCheckpoint,
            asked,
            base_model: checkpoint.base_model.clone(),
            lora: checkpoint.lora,
            parent: Some(body.path.clone()),
            user_metadata: body.user_metadata.clone(),
        };
        self.make_model(new, bytes)
    }

    fn model_answer(
        session: &SessionId,
        seq: u64,
        before: &Numbered,
        asked: &Fingerprint,
    ) -> Result<Answer, Refusal> {
        Self::same(&format!("model_seq_id {seq} of this session"), &before.asked, asked)?;
        Ok(Answer::Same(Self::promise(&before.request, Some(&model_id(session, seq)))))
    }

    fn make_model(&mut self, new: NewModel, bytes: &Bytes) -> Result<Answer, Refusal> {
        let NewModel { session, seq, kind, asked, .. } = new;
        if let Some(before) = self.living_session(&session)?.models.get(&seq).cloned() {
            return Self::model_answer(&session, seq, &before, &asked);
        }
        let id = model_id(&session, seq);
        let request = self.next_request(&session);
        let numbered = Numbered { asked, request: request.clone() };
        self.living_session(&session)?.models.insert(seq, numbered);
        self.state.models_made += 1;
        let run = Run {
            session: session.clone(),
            incarnation: self.state.models_made,
            base_model: new.base_model,
            lora: new.lora,
            user_metadata: new.user_metadata,
            last_request: self.now,
            parent: new.parent,
            unloaded: None,
        };
        let model = Model {
            session: session.clone(),
            next: 0,
            waiting: BTreeMap::from([(0, request.clone())]),
            numbers: BTreeMap::new(),
            failed: None,
            ephemeral: VecDeque::new(),
        };
        self.state.runs.insert(id.clone(), run);
        self.state.models.insert(id.clone(), model);
        self.queue(&request, session, Task::Train { model: id.clone(), seq: 0, kind }, bytes);
        self.ready.push_back(id.clone());
        Ok(Answer::Changed(Self::promise(&request, Some(&id))))
    }

    /// Takes a numbered request of a model. It is answered at once, whether or not lower numbers are missing.
    pub(super) fn submit(
        &mut self,
        id: &ModelId,
        seq: u64,
        kind: Kind,
        asked: Fingerprint,
        bytes: &Bytes,
    ) -> Result<Answer, Refusal> {
        let model = self.living_model(id)?;
        if seq == 0 {
            return Err(Refusal::new(400, "seq_id counts from 1."));
        }
        if let Some(before) = model.numbers.get(&seq) {
            Self::same(&format!("seq_id {seq} of this model"), &before.asked, &asked)?;
            return Ok(Answer::Same(Self::promise(&before.request, Some(id))));
        }
        let session = model.session.clone();
        let request = self.next_request(&session);
        let model = self.living_model(id)?;
        model.numbers.insert(seq, Numbered { asked, request: request.clone() });
        model.waiting.insert(seq, request.clone());
        if let Some(run) = self.state.runs.get_mut(id) {
            run.last_request = self.now;
        }
        self.queue(&request, session, Task::Train { model: id.clone(), seq, kind }, bytes);
        self.ready.push_back(id.clone());
        Ok(Answer::Changed(Self::promise(&request, Some(id))))
    }

    pub(super) fn queue(&mut self, request: &RequestId, session: SessionId, task: Task, bytes: &Bytes) {
        let future = Future { session, task, progress: Progress::Waiting(bytes.clone()) };
        self.state.futures.insert(request.clone(), future);
    }

    /// The answer to a submission: where its result will be.
    pub(super) fn promise(request: &RequestId, model: Option<&ModelId>) -> Response {
        match model {
            Some(model) => Response::json(&json!({ "request_id": request, "model_id": model })),
            None => Response::json(&json!({ "request_id": request })),
        }
    }

    pub(super) fn living_model(&mut self, id: &ModelId) -> Result<&mut Model, Refusal> {
        if !self.state.models.contains_key(id) {
            let unloaded = self.state.runs.get(id).is_some_and(|run| run.unloaded.is_some());
            return Err(match self.absent("model", id.as_str()) {
                refusal if refusal.status == 404 && unloaded => Refusal::new(
                    410,
                    format!("Model {id} was unloaded. Its checkpoints can be loaded into a new one."),
                ),
                refusal => refusal,
            });
        }
        self.state.models.get_mut(id).ok_or_else(|| not_found("model", id))
    }

    pub(super) fn take_training(&mut self) -> Option<Work> {
        while let Some(id) = self.ready.pop_front() {
            if self.busy.contains(&id) {
                continue;
            }
            let Some(model) = self.state.models.get(&id) else { continue };
            let Some(request) = model.waiting.get(&model.next).cloned() else {
                self.unload_when_idle(&id);
                continue;
            };
            let work = self.begin(&id, &request);
            if work.is_some() {
                return work;
            }
            self.ready.push_back(id);
        }
        None
    }

    /// Begins the next request of a model: gives it out as work, or is done with it at once.
    pub(super) fn begin(&mut self, id: &ModelId, request: &RequestId) -> Option<Work> {
        let future = self.state.futures.get(request)?;
        let (Task::Train { kind, .. }, Progress::Waiting(body)) = (&future.task, &future.progress) else {
            return None;
        };
        let (kind, body) = (*kind, body.clone());
        let failed = self.state.models.get(id).and_then(|model| model.failed.clone());
        let outcome = match (kind, failed) {
            (_, Some(why)) => Outcome::user(why),
            (Kind::CreateModel, _) => self.perform_create(id, &body),
            (Kind::CreateFromCheckpoint, _) => self.perform_create_from(id, &body),
            (_, None) => {
                let engine = self.engines.remove(id)?;
                match kind {
                    Kind::SaveWeights => {
                        self.keep_engine(id, engine, |core, engine| core.perform_save(id, engine, &body))
                    }
                    Kind::SaveWeightsForSampler => self
                        .keep_engine(id, engine, |core, engine| core.perform_save_sampler(id, engine, &body)),
                    Kind::SaveWeightsExternal => self.keep_engine(id, engine, |_, _| {
                        Outcome::user(
                            "The sandbox exports no weights: save_weights_external is not offered here.",
                        )
                    }),
                    Kind::LoadWeights => {
                        self.keep_engine(id, engine, |core, engine| core.perform_load(engine, &body))
                    }
                    _ => {
                        self.busy.insert(id.clone());
                        return Some(Work::train(id.clone(), request.clone(), kind, body, engine));
                    }
                }
            }
        };
        self.applied(id, request, outcome);
        None
    }

    fn keep_engine(
        &mut self,
        id: &ModelId,
        mut engine: Adapter,
        act: impl FnOnce(&mut Self, &mut Adapter) -> Outcome,
    ) -> Outcome {
        let outcome = act(self, &mut engine);
        self.engines.insert(id.clone(), engine);
        outcome
    }

    /// Takes back the engine of a model whose work was out.
    pub(super) fn trained(&mut self, id: &ModelId, request: &RequestId, engine: Adapter, outcome: Outcome) {
        // A session that ended meanwhile took its models with it.
        if self.busy.remove(id) {
            self.engines.insert(id.clone(), engine);
            self.applied(id, request, outcome);
            self.ready.push_back(id.clone());
        }
    }

    fn applied(&mut self, id: &ModelId, request: &RequestId, outcome: Outcome) {
        let Some(future) = self.state.futures.get(request) else { return };
        let (Task::Train { seq, kind, .. }, Progress::Waiting(body)) = (&future.task, &future.progress)
        else {
            return;
        };
        let entry = Applied {
            at: self.now,
            session: future.session.clone(),
            model: id.clone(),
            incarnation: self.state.runs.get(id).map_or(0, |run| run.incarnation),
            seq: *seq,
            kind: *kind,
            request: request.clone(),
            body_hash: fingerprint(&[body]),
            ok: !matches!(outcome, Outcome::Failed { .. }),
            body: self.settings.log_bodies.then(|| body.clone()),
        };
        self.state.log.push(entry);
        if let Some(model) = self.state.models.get_mut(id) {
            model.waiting.remove(&model.next);
            model.next += 1;
        }
        self.finish(request, outcome);
    }

    fn perform_create(&mut self, id: &ModelId, body: &Bytes) -> Outcome {
        let made = engine::create(&self.bases, body);
        self.created(id, made)
    }

    fn perform_create_from(&mut self, id: &ModelId, body: &Bytes) -> Outcome {
        let made = engine::decode::<LoadWeights>(body).and_then(|body| {
            engine::only_adam(body.optimizer_config.as_ref())?;
            let checkpoint = self.training_checkpoint(&body.path)?;
            let state = &self.state.blobs[&checkpoint.weights];
            engine::restore(&self.bases, &checkpoint.base_model, state, body.optimizer)
        });
        self.created(id, made)
    }

    fn created(&mut self, id: &ModelId, made: Result<Adapter, String>) -> Outcome {
        match made {
            Ok(engine) => {
                self.engines.insert(id.clone(), engine);
                Outcome::json(&json!({ "model_id": id }))
            }
            Err(why) => {
                if let Some(model) = self.state.models.get_mut(id) {
                    model.failed = Some(format!("This model could not be made: {why}"));
                }
                Outcome::user(why)
            }
        }
    }

    fn perform_load(&mut self, engine: &mut Adapter, body: &Bytes) -> Outcome {
        let loaded = engine::decode::<LoadWeights>(body).and_then(|body| {
            let checkpoint = self.training_checkpoint(&body.path)?;
            let state = &self.state.blobs[&checkpoint.weights];
            let loaded = engine::restore(&self.bases, &checkpoint.base_model, state, body.optimizer)?;
            engine::check_same_shape(engine, &loaded)?;
            *engine = loaded;
            Ok(json!({ "path": body.path }))
        });
        engine::outcome(loaded.map(|body| Outcome::json(&body)))
    }

    fn perform_save(&mut self, id: &ModelId, engine: &mut Adapter, body: &Bytes) -> Outcome {
        let saved = engine::decode::<SaveWeights>(body).and_then(|body| {
            let path = TinkerPath::new(id.clone(), CheckpointType::Training, body.path.as_str());
            let path = path.map_err(|error| error.to_string())?;
            let exists = self.state.checkpoints.get(&path.to_string()).is_some_and(|it| it.alive(self.now));
            if exists && !body.overwrite {
                return Err(format!("{path} exists already. Choose another name, or save with overwrite."));
            }
            self.put_checkpoint(&path, engine, body.ttl_seconds, body.user_metadata.clone())?;
            Ok(json!({ "path": path.to_string() }))
        });
        engine::outcome(saved.map(|body| Outcome::json(&body)))
    }

    fn perform_save_sampler(&mut self, id: &ModelId, engine: &mut Adapter, body: &Bytes) -> Outcome {
        let saved = engine::decode::<SaveWeightsForSampler>(body).and_then(|body| {
            match (&body.path, body.sampling_session_seq_id) {
                (Some(name), _) => {
                    let path = TinkerPath::new(id.clone(), CheckpointType::Sampler, name.as_str());
                    let path = path.map_err(|error| error.to_string())?;
                    self.put_checkpoint(&path, engine, body.ttl_seconds, body.user_metadata.clone())?;
                    Ok(json!({ "path": path.to_string() }))
                }
                (None, Some(seq)) => {
                    let sampler = self.put_ephemeral(id, engine, seq.get())?;
                    Ok(json!({ "sampling_session_id": sampler }))
                }
                (None, None) => {
                    Err("save_weights_for_sampler needs a path or a sampling_session_seq_id".into())
                }
            }
        });
        engine::outcome(saved.map(|body| Outcome::json(&body)))
    }

    fn put_checkpoint(
        &mut self,
        path: &TinkerPath,
        engine: &Adapter,
        ttl_seconds: Option<u64>,
        user_metadata: Option<BTreeMap<String, String>>,
    ) -> Result<(), String> {
        let expires = ttl_seconds.map(ttl).transpose()?.map(|living| self.now + living);
        let run = self.state.runs.get(path.run()).ok_or("this model has no run")?;
        let (base_model, lora) = (run.base_model.clone(), run.lora);
        let scope = match path.kind() {
            CheckpointType::Training => StateScope::WithOptimizer,
            _ => StateScope::Weights,
        };
        let state = engine.state(scope);
        let size = state.len() as u64;
        let weights = self.state.keep(state);
        let made = self.now;
        let path = path.clone();
        let name = path.to_string();
        let checkpoint =
            Checkpoint { path, made, expires, public: false, user_metadata, base_model, lora, weights, size };
        self.state.checkpoints.insert(name, checkpoint);
        self.state.drop_unused_blobs();
        Ok(())
    }

    fn put_ephemeral(
        &mut self,
        id: &ModelId,
        engine: &Adapter,
        seq: u64,
    ) -> Result<SamplingSessionId, String> {
        let model = self.state.models.get(id).ok_or("this model is gone")?;
        let session = model.session.clone();
        let base_model = self.state.runs.get(id).ok_or("this model has no run")?.base_model.clone();
        let sampler_id = sampler_id(&session, seq);
        let used =
            self.state.sessions.get(&session).is_some_and(|session| session.samplers.contains_key(&seq));
        if used {
            return Err(format!(
                "sampling_session_seq_id {seq} of this session was already used for another sampler"
            ));
        }
        let weights = Some(self.state.keep(engine.state(StateScope::Weights)));
        let sampler = Sampler::new(session.clone(), base_model, None, weights);
        self.state.samplers.insert(sampler_id.clone(), sampler);
        if let Some(session) = self.state.sessions.get_mut(&session) {
            let asked = fingerprint(&[b"ephemeral", id.as_str().as_bytes()]);
            session.samplers.insert(seq, (asked, sampler_id.clone()));
        }
        let mut over = Vec::new();
        if let Some(model) = self.state.models.get_mut(id) {
            model.ephemeral.push_back(sampler_id.clone());
            while model.ephemeral.len() > self.settings.ephemeral_samplers.max(1) {
                over.extend(model.ephemeral.pop_front());
            }
        }
        for old in &over {
            self.drop_sampler(old);
        }
        Ok(sampler_id)
    }

    pub(super) fn training_checkpoint(&self, path: &str) -> Result<&Checkpoint, String> {
        let checkpoint = self.checkpoint(path)?;
        match checkpoint.path.kind() {
            CheckpointType::Training => Ok(checkpoint),
            _ => Err(format!(
                "{path} holds weights for sampling. Training goes on from one made by save_weights."
            )),
        }
    }

    pub(super) fn unload_model(&mut self, id: &ModelId, bytes: &Bytes) -> Result<Answer, Refusal> {
        if let Some(before) = self.state.runs.get(id).and_then(|run| run.unloaded.clone()) {
            return Ok(Answer::Same(Self::promise(&before, Some(id))));
        }
        let session = self.living_model(id)?.session.clone();
        let request = self.next_request(&session);
        if let Some(run) = self.state.runs.get_mut(id) {
            run.unloaded = Some(request.clone());
        }
        self.queue(&request, session, Task::Unload { model: id.clone() }, bytes);
        self.ready.push_back(id.clone());
        Ok(Answer::Changed(Self::promise(&request, Some(id))))
    }

    /// A model that is to be unloaded goes when nothing of it can be applied any more.
    pub(super) fn unload_when_idle(&mut self, id: &ModelId) {
        let Some(request) = self.state.runs.get(id).and_then(|run| run.unloaded.clone()) else { return };
        let Some(model) = self.state.models.remove(id) else { return };
        self.engines.remove(id);
        for waiting in model.waiting.values() {
            if let Some(future) = self.state.futures.get_mut(waiting) {
                future.progress =
                    Progress::Done(Outcome::user("The model was unloaded before this could be applied."));
                let task = future.task.clone();
                self.release_finished(waiting, &task);
            }
        }
        self.finish(&request, Outcome::json(&json!({ "model_id": id })));
    }

    /// Custom losses on the server are not offered: the future says so, and the number is used.
    pub(super) fn create_custom_loss(
        &mut self,
        body: &CreateCustomLoss,
        bytes: &Bytes,
    ) -> Result<Answer, Refusal> {
        let asked = asked("create_custom_loss", body);
        let seq = body.custom_loss_seq_id.get();
        if let Some(before) = self.living_session(&body.session_id)?.losses.get(&seq) {
            Self::same(&format!("custom_loss_seq_id {seq} of this session"), &before.asked, &asked)?;
            return Ok(Answer::Same(Self::promise(&before.request, None)));
        }
        let request = self.next_request(&body.session_id);
        let numbered = Numbered { asked, request: request.clone() };
        self.living_session(&body.session_id)?.losses.insert(seq, numbered);
        self.queue(&request, body.session_id.clone(), Task::CustomLoss, bytes);
        let why =
            "The sandbox computes no custom losses; compute it in the client (forward_backward_custom).";
        self.finish(&request, Outcome::user(why));
        Ok(Answer::Changed(Self::promise(&request, None)))
    }
}

/// How the service names the n-th model of a session; clients derive it themselves for `load_weights`.
pub(super) fn model_id(session: &SessionId, seq: u64) -> ModelId {
    ModelId::new(format!("{session}:train:{seq}"))
}

pub(super) fn sampler_id(session: &SessionId, seq: u64) -> SamplingSessionId {
    SamplingSessionId::new(format!("{session}:sample:{seq}"))
}

/// How long a checkpoint may be asked to live, in seconds: the service's own limits.
const TTL: std::ops::RangeInclusive<u64> = 3600..=10 * 365 * 24 * 3600;

pub(super) fn ttl(seconds: u64) -> Result<Duration, String> {
    if TTL.contains(&seconds) {
        return Ok(Duration::from_secs(seconds));
    }
    Err(format!(
        "ttl_seconds is {seconds}; it must be between {} (an hour) and {} (ten years)",
        TTL.start(),
        TTL.end()
    ))
}
