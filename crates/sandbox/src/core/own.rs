//! Endpoints of the sandbox's own, under `/api/v1/sandbox/`: what tests and the console ask beyond the protocol.

use super::reading::Query;
use super::{Answer, Core};
use crate::message::{Refusal, Response};
use crate::state::{Progress, hex};
use crate::tokenizer;
use serde_json::json;
use tinkex_protocol::ids::ModelId;
use tinkex_protocol::json::telemetry::TelemetryBatch;

/// The media type of one JSON value a line.
const LINES: &str = "application/x-ndjson";

/// Batches of telemetry that are kept to be looked at; a restart forgets them all.
const BATCHES: usize = 1_000;

impl Core {
    /// The log of what was applied, from `?from=INDEX` on, maybe of one `?model=ID`.
    pub(super) fn applied_log(&self, query: &Query<'_>) -> Result<Answer, Refusal> {
        let from = query.number_u64("from")?.unwrap_or(0);
        let model = query.text("model");
        let mut body = Vec::new();
        for (index, entry) in
            self.state.log.iter().enumerate().skip(usize::try_from(from).unwrap_or(usize::MAX))
        {
            if model.as_deref().is_none_or(|model| model == entry.model.as_str()) {
                serde_json::to_writer(&mut body, &entry.line(index)).expect("a line has string keys");
                body.push(b'\n');
            }
        }
        Ok(Answer::Same(Response { status: 200, content_type: LINES, body: body.into() }))
    }

    /// Hashes of a living model. 409 while a request of it is being computed: ask when its results are there.
    pub(super) fn model_hash(&mut self, id: &ModelId) -> Result<Answer, Refusal> {
        let applied = self.living_model(id)?.next;
        let engine = self.engines.get(id).ok_or_else(|| {
            Refusal::new(409, format!("Model {id} is computing or not made yet. Fetch its results first."))
        })?;
        Ok(Answer::Same(Response::json(&json!({
            "model_id": id,
            "applied": applied.saturating_sub(1),
            "steps": engine.steps(),
            "weights_hash": hex(&engine.weights_hash().to_be_bytes()),
            "state_hash": hex(&engine.state_hash().to_be_bytes()),
        }))))
    }

    /// Keeps a batch of telemetry, the latest of them.
    pub(super) fn hear(&mut self, batch: TelemetryBatch) {
        if self.telemetry.len() == BATCHES {
            self.telemetry.pop_front();
        }
        self.telemetry.push_back(batch);
    }

    /// What clients told about themselves, a batch a line.
    pub(super) fn told(&self) -> Answer {
        let mut body = Vec::new();
        for batch in &self.telemetry {
            serde_json::to_writer(&mut body, batch).expect("a batch has string keys");
            body.push(b'\n');
        }
        Answer::Same(Response { status: 200, content_type: LINES, body: body.into() })
    }

    /// How much there is of everything.
    pub(super) fn overview(&self) -> Answer {
        let waiting =
            self.state.futures.values().filter(|it| matches!(it.progress, Progress::Waiting(_))).count();
        let models = self.state.models.iter().filter(|(_, model)| !model.unloaded);
        let sessions = self
            .state
            .sessions
            .iter()
            .map(|(id, session)| json!({ "session_id": id, "status": Self::session_status(session) }));
        Answer::Same(Response::json(&json!({
            "sessions": sessions.collect::<Vec<_>>(),
            "models": models.map(|(id, _)| id).collect::<Vec<_>>(),
            "samplers": self.state.samplers.len(),
            "checkpoints": self.state.checkpoints.len(),
            "requests_waiting": waiting,
            "polls_held": self.holds.len(),
            "results_kept": self.state.futures.len() - waiting,
            "applied": self.state.log.len(),
        })))
    }

    pub(super) fn tokenizer_file() -> Answer {
        Answer::Same(Response { body: tokenizer::FILE.into(), ..Response::empty() })
    }
}
