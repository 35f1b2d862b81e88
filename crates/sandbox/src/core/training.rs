//! Training requests: taken at once in any order, applied in the order of their numbers.

use super::sessions::asked;
use super::{Answer, Core, not_found};
use crate::applied::Applied;
use crate::message::{Refusal, Response};
use crate::state::{
    Fingerprint, Future, Kind, Lora, Model, Numbered, Outcome, Progress, Run, Task, fingerprint,
};
use crate::work::{Trained, Work};
use bytes::Bytes;
use serde_json::json;
use std::collections::{BTreeMap, VecDeque};
use tinkex_model::Adapter;
use tinkex_protocol::ids::{ModelId, RequestId, SamplingSessionId, SessionId};
use tinkex_protocol::json::custom_loss::CreateCustomLoss;
use tinkex_protocol::json::session::UserMetadata;
use tinkex_protocol::json::training::{CreateModel, LoadWeights};

/// What a model is made with, before there is one.
pub(super) struct NewModel {
    pub session: SessionId,
    pub seq: u64,
    pub kind: Kind,
    pub asked: Fingerprint,
    pub base_model: String,
    pub lora: Lora,
    pub parent: Option<String>,
    pub user_metadata: Option<UserMetadata>,
}

/// Why nothing more is applied to a model after a bug of ours.
const LOST: &str =
    "This model was lost to a panic of the sandbox's engine. Go on from its last checkpoint in a new one.";

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
            unloaded: false,
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
        let model = self.known_model(id)?;
        if seq == 0 {
            return Err(Refusal::new(400, "seq_id counts from 1."));
        }
        if let Some(before) = model.numbers.get(&seq) {
            Self::same(&format!("seq_id {seq} of this model"), &before.asked, &asked)?;
            return Ok(Answer::Same(Self::promise(&before.request, Some(id))));
        }
        let session = self.living_model(id)?.session.clone();
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

    /// A model that can be used.
    pub(super) fn living_model(&mut self, id: &ModelId) -> Result<&mut Model, Refusal> {
        let model = self.known_model(id)?;
        if model.unloaded {
            let detail = format!("Model {id} was unloaded. Its checkpoints can be loaded into a new one.");
            return Err(Refusal::new(410, detail));
        }
        Ok(model)
    }

    /// A model of a living session, unloaded or not.
    fn known_model(&mut self, id: &ModelId) -> Result<&mut Model, Refusal> {
        if !self.state.models.contains_key(id) {
            return Err(self.absent("model", id.as_str()));
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
            let next = model.next;
            let work = self.begin(&id, &request);
            if work.is_some() {
                return work;
            }
            if self.state.models.get(&id).is_some_and(|model| model.next > next) {
                self.ready.push_back(id);
            }
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
    pub(super) fn trained(&mut self, trained: Trained) {
        let Trained { model: id, request, engine, outcome } = trained;
        // A session that ended meanwhile took its models with it.
        if self.busy.remove(&id) {
            match (engine, self.state.models.get_mut(&id)) {
                (Some(engine), _) => drop(self.engines.insert(id.clone(), engine)),
                (None, Some(model)) => model.failed = Some(LOST.to_owned()),
                (None, None) => {}
            }
            self.applied(&id, &request, outcome);
            self.ready.push_back(id);
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
        let Some(model) = self.state.models.get_mut(id).filter(|model| !model.unloaded) else { return };
        model.unloaded = true;
        self.engines.remove(id);
        for waiting in std::mem::take(&mut model.waiting).values() {
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
