//! What a model's requests do to its weights without taking time: made, saved, loaded.
//!
//! These run under the core's own hands, at one moment, because they meet other models' checkpoints: a record of
//! that moment is enough to do the same again.

use super::Core;
use super::training::sampler_id;
use crate::engine;
use crate::state::{Checkpoint, Outcome, Sampler, fingerprint};
use bytes::Bytes;
use serde_json::json;
use std::time::Duration;
use tinkex_model::{Adapter, StateScope};
use tinkex_protocol::ids::{ModelId, SamplingSessionId};
use tinkex_protocol::json::session::UserMetadata;
use tinkex_protocol::json::training::{LoadWeights, SaveWeights, SaveWeightsForSampler};
use tinkex_protocol::path::{CheckpointType, TinkerPath};

impl Core {
    pub(super) fn perform_create(&mut self, id: &ModelId, body: &Bytes) -> Outcome {
        let made = engine::create(&self.bases, body);
        self.created(id, made)
    }

    pub(super) fn perform_create_from(&mut self, id: &ModelId, body: &Bytes) -> Outcome {
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

    pub(super) fn perform_load(&mut self, engine: &mut Adapter, body: &Bytes) -> Outcome {
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

    pub(super) fn perform_save(&mut self, id: &ModelId, engine: &mut Adapter, body: &Bytes) -> Outcome {
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

    pub(super) fn perform_save_sampler(
        &mut self,
        id: &ModelId,
        engine: &mut Adapter,
        body: &Bytes,
    ) -> Outcome {
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
        user_metadata: Option<UserMetadata>,
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
