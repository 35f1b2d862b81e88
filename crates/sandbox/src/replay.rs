//! A log applied to fresh engines: what the weights must be if every entry took effect once, in this order.

use crate::applied::Line;
use crate::bases::Bases;
use crate::engine::{self, decode};
use crate::state::{Kind, hex};
use serde::Serialize;
use std::collections::BTreeMap;
use tinkex_model::{Adapter, StateScope};
use tinkex_protocol::ids::ModelId;
use tinkex_protocol::json::training::{CreateModel, LoadWeights, SaveWeights};
use tinkex_protocol::path::{CheckpointType, TinkerPath};

/// What a model is after the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hashes {
    pub model_id: String,
    pub incarnation: u64,
    /// Entries applied, its making not counted.
    pub applied: u64,
    pub weights_hash: String,
    /// Of the weights, the optimizer and the gradients since its last step.
    pub state_hash: String,
}

struct Fresh<'a> {
    bases: &'a Bases,
    models: BTreeMap<ModelId, (Adapter, String, u64, u64)>,
    /// Saved states with the name of their base model, by path.
    saved: BTreeMap<String, (String, Vec<u8>)>,
}

/// Applies a log as `GET /api/v1/sandbox/log` gave it, with bodies, and says what came out, model by model.
///
/// # Errors
/// When a line can't be read, has no body, is out of order, or has another outcome than it had.
pub fn replay(log: &str, bases: &Bases) -> Result<Vec<Hashes>, String> {
    let mut fresh = Fresh { bases, models: BTreeMap::new(), saved: BTreeMap::new() };
    for (number, text) in log.lines().enumerate().filter(|(_, text)| !text.trim().is_empty()) {
        let line: Line =
            serde_json::from_str(text).map_err(|error| format!("line {}: {error}", number + 1))?;
        fresh.apply(&line).map_err(|why| format!("line {}: {why}", number + 1))?;
    }
    let hashes = |(id, (engine, _, incarnation, applied)): (ModelId, (Adapter, String, u64, u64))| Hashes {
        model_id: id.into_string(),
        incarnation,
        applied,
        weights_hash: hex(&engine.weights_hash().to_be_bytes()),
        state_hash: hex(&engine.state_hash().to_be_bytes()),
    };
    Ok(fresh.models.into_iter().map(hashes).collect())
}

impl Fresh<'_> {
    fn apply(&mut self, line: &Line) -> Result<(), String> {
        if let Some((_, _, _, applied)) = self.models.get_mut(&line.model_id) {
            if line.seq_id != *applied + 1 {
                return Err(format!("seq_id {} follows {applied}: one was lost or doubled", line.seq_id));
            }
            *applied += 1;
        }
        // What failed used its number and changed nothing.
        if !line.ok {
            return Ok(());
        }
        let body = line.body()?;
        match line.kind {
            Kind::CreateModel => {
                let base_model = decode::<CreateModel>(&body)?.base_model;
                let engine = engine::create(self.bases, &body)?;
                self.add(line, engine, base_model)
            }
            Kind::CreateFromCheckpoint => {
                let asked: LoadWeights = decode(&body)?;
                let (base_model, state) = self.saved(&asked.path)?.clone();
                let engine = engine::restore(self.bases, &base_model, &state, asked.optimizer)?;
                self.add(line, engine, base_model)
            }
            Kind::LoadWeights => {
                let asked: LoadWeights = decode(&body)?;
                let (base_model, state) = self.saved(&asked.path)?;
                let loaded = engine::restore(self.bases, base_model, state, asked.optimizer)?;
                self.model(line)?.0 = loaded;
                Ok(())
            }
            Kind::SaveWeights => {
                let asked: SaveWeights = decode(&body)?;
                let path = TinkerPath::new(line.model_id.clone(), CheckpointType::Training, asked.path);
                let path = path.map_err(|error| error.to_string())?.to_string();
                let (engine, base_model, ..) = self.model(line)?;
                let saved = (base_model.clone(), engine.state(StateScope::WithOptimizer));
                self.saved.insert(path, saved);
                Ok(())
            }
            // Samplers are copies: they change no weights.
            Kind::SaveWeightsForSampler | Kind::SaveWeightsExternal => Ok(()),
            Kind::ForwardBackward | Kind::ForwardBackwardJson | Kind::ForwardJson | Kind::OptimStep => {
                match engine::train(&mut self.model(line)?.0, line.kind, &body, 1) {
                    crate::state::Outcome::Failed { error, .. } => {
                        Err(format!("took effect then, and now: {error}"))
                    }
                    _ => Ok(()),
                }
            }
        }
    }

    fn add(&mut self, line: &Line, engine: Adapter, base_model: String) -> Result<(), String> {
        let model = (engine, base_model, line.incarnation, 0);
        match self.models.insert(line.model_id.clone(), model) {
            Some(_) => Err(format!("model {} is made twice", line.model_id)),
            None => Ok(()),
        }
    }

    fn model(&mut self, line: &Line) -> Result<&mut (Adapter, String, u64, u64), String> {
        let missing = || format!("model {} was not made in this log", line.model_id);
        self.models.get_mut(&line.model_id).ok_or_else(missing)
    }

    fn saved(&self, path: &str) -> Result<&(String, Vec<u8>), String> {
        self.saved.get(path).ok_or_else(|| format!("{path} was not saved in this log"))
    }
}
