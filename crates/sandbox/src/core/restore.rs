//! The state as bytes, and back: a snapshot, and the records since.

use super::Core;
use crate::bases::Bases;
use crate::engine;
use crate::journal::{Fact, Logged, Record};
use crate::message::{Headers, JSON, PROTOBUF, Reply, Request};
use crate::settings::Settings;
use crate::state::{Outcome, Progress, State, Status, Task};
use crate::work::Finished;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tinkex_model::StateScope;
use tinkex_protocol::ids::{ModelId, RequestId};

/// The first bytes of a snapshot: what it is, and the version of its form.
const MAGIC: &[u8; 8] = b"tkxsnap1";

#[derive(Serialize)]
struct SnapshotOf<'a> {
    state: &'a State,
    engines: Vec<(&'a ModelId, Vec<u8>)>,
}

#[derive(Deserialize)]
struct Snapshot {
    state: State,
    engines: Vec<(ModelId, Vec<u8>)>,
}

impl Core {
    /// Everything that a restart must find. `None` while the work of a model is out: [`Core::pause`], and ask again
    /// when it is back.
    pub fn snapshot(&self) -> Option<Vec<u8>> {
        if !self.busy.is_empty() {
            return None;
        }
        let engines = self.engines.iter().map(|(id, engine)| (id, engine.state(StateScope::Everything)));
        let snapshot = SnapshotOf { state: &self.state, engines: engines.collect() };
        let mut bytes = MAGIC.to_vec();
        bytes.extend([0; 4]);
        bytes = postcard::to_extend(&snapshot, bytes).expect("the state has no part that can't be written");
        let check = crc32fast::hash(&bytes[12..]);
        bytes[8..12].copy_from_slice(&check.to_le_bytes());
        Some(bytes)
    }

    /// The service as it was when `records` ended, begun from a snapshot. What was taken and not finished is done
    /// again, with the same result. Living sessions have the whole of their timeout from `now` on, since no heartbeat
    /// could reach a server that was down.
    ///
    /// # Errors
    /// When the snapshot is damaged or of another version, or when a record gives another result than it did then.
    pub fn restore(
        settings: Settings,
        bases: Bases,
        snapshot: &[u8],
        records: impl IntoIterator<Item = Record>,
        now: Duration,
    ) -> Result<Self, String> {
        let Snapshot { state, engines } = read(snapshot)?;
        let mut core = Self::with_state(settings, bases, state);
        for (id, bytes) in engines {
            let run =
                core.state.runs.get(&id).ok_or_else(|| format!("the snapshot has no run for model {id}"))?;
            let engine = engine::restore(&core.bases, &run.base_model, &bytes, true);
            core.engines
                .insert(id.clone(), engine.map_err(|why| format!("model {id} of the snapshot: {why}"))?);
        }
        core.consequence = true;
        for (number, record) in records.into_iter().enumerate() {
            let at = record.at;
            core.advance(at);
            core.state.now = at;
            core.replay(record.fact).map_err(|why| format!("record {number} of the log: {why}"))?;
        }
        core.consequence = false;
        core.advance(now);
        core.resume();
        Ok(core)
    }

    fn replay(&mut self, fact: Fact) -> Result<(), String> {
        match fact {
            Fact::Request(logged) => match self.handle(self.now, &request(logged)) {
                Reply::Now(response) if response.status == 200 => Ok(()),
                Reply::Now(response) => Err(format!("was accepted then, and now: {:?}", response.body)),
                Reply::Held(..) => Err("a poll was written down".into()),
            },
            Fact::Finished { request, check } => self.replay_finished(&RequestId::new(request), check),
            Fact::Sampled { request, outcome } => {
                let outcome: Outcome = postcard::from_bytes(&outcome).map_err(|error| error.to_string())?;
                self.finish(&RequestId::new(request), outcome);
                Ok(())
            }
            Fact::SessionEnded { session } => {
                self.end_session(&session.into(), Status::Ended);
                Ok(())
            }
        }
    }

    fn replay_finished(&mut self, request: &RequestId, check: u32) -> Result<(), String> {
        let future =
            self.state.futures.get(request).ok_or_else(|| format!("{request} is finished and unknown"))?;
        match &future.task {
            Task::Train { model, .. } => {
                let model = model.clone();
                if let Some(work) = self.begin(&model, request)
                    && let Finished::Trained(trained) = work.run(self.settings.threads).0
                {
                    self.trained(*trained);
                }
            }
            Task::Unload { model } => {
                let model = model.clone();
                self.unload_when_idle(&model);
            }
            Task::Sample { .. } | Task::CustomLoss => return Err(format!("{request} is not of a model")),
        }
        match self.state.futures.get(request).map(|future| &future.progress) {
            Some(Progress::Done(outcome)) if outcome.check() == check => Ok(()),
            Some(Progress::Done(_)) => Err(format!(
                "{request} gives another result than it did. The data were written by another version: use that one, \
                 or move the folder away to start anew."
            )),
            _ => Err(format!("{request} was finished then, and is not now")),
        }
    }

    /// Puts what was not finished back into its queues; all living sessions count as heard now.
    fn resume(&mut self) {
        self.ready = self.state.models.keys().cloned().collect();
        let waits = |(request, future): (&RequestId, &crate::state::Future)| {
            let waits =
                matches!((&future.task, &future.progress), (Task::Sample { .. }, Progress::Waiting(_)));
            waits.then(|| request.clone())
        };
        let mut samples: Vec<_> = self.state.futures.iter().filter_map(waits).collect();
        samples.sort_by_key(|request| (request.as_str().len(), request.clone()));
        self.samples = samples.into();
        let alive = self.state.sessions.iter().filter(|(_, session)| session.status == Status::Active);
        self.heard = alive.map(|(id, _)| (id.clone(), self.now)).collect();
        self.holds = super::futures::Holds::default();
        self.fetched.clear();
    }
}

fn read(bytes: &[u8]) -> Result<Snapshot, String> {
    let rest = bytes.strip_prefix(MAGIC).ok_or("the snapshot is not one of this version")?;
    let (check, payload) = rest.split_first_chunk::<4>().ok_or("the snapshot is cut off")?;
    if crc32fast::hash(payload) != u32::from_le_bytes(*check) {
        return Err(
            "the snapshot is damaged; move the folder away to start anew, or put a sound copy back".into()
        );
    }
    postcard::from_bytes(payload).map_err(|error| format!("the snapshot can't be read: {error}"))
}

fn request(logged: Logged) -> Request {
    let headers = Headers {
        api_key: Some("tml-replay".into()),
        content_type: Some(if logged.protobuf { PROTOBUF } else { JSON }.to_owned()),
        idempotency_key: logged.idempotency_key,
        ..Headers::default()
    };
    Request { method: logged.method, path: logged.path, headers, body: logged.body }
}
