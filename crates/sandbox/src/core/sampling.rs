//! Samplers and samples: made, joined, asked, and taken up in turn.

use super::sessions::asked;
use super::training::sampler_id;
use super::{Answer, Core, GENERATING, MERGED, not_found};
use crate::engine;
use crate::message::{Refusal, Response};
use crate::sample::{Generating, MOST_SEQUENCES, SampleStart};
use crate::state::{Checkpoint, Numbered, Outcome, Progress, Sampler, Task, fingerprint};
use crate::work::Work;
use bytes::Bytes;
use serde_json::json;
use tinkex_model::Weights;
use tinkex_protocol::ids::{RequestId, SamplingSessionId};
use tinkex_protocol::json::sampling::Sample;
use tinkex_protocol::json::session::CreateSamplingSession;

impl Core {
    pub(super) fn create_sampling_session(
        &mut self,
        body: &CreateSamplingSession,
    ) -> Result<Answer, Refusal> {
        let asked = asked("create_sampling_session", body);
        let seq = body.sampling_session_seq_id.get();
        let made = |id: &SamplingSessionId| Response::json(&json!({ "sampling_session_id": id }));
        if let Some((before, id)) = self.living_session(&body.session_id)?.samplers.get(&seq) {
            Self::same(&format!("sampling_session_seq_id {seq} of this session"), before, &asked)?;
            return Ok(Answer::Same(made(id)));
        }
        let sampler = match (&body.model_path, &body.base_model) {
            (Some(path), wanted) => {
                let checkpoint = self.checkpoint(path).map_err(|problem| Refusal::new(404, problem))?;
                if let Some(wanted) = wanted.as_ref().filter(|wanted| **wanted != checkpoint.base_model) {
                    let detail =
                        format!("{path} is a checkpoint of {}, not of {wanted}.", checkpoint.base_model);
                    return Err(Refusal::new(400, detail));
                }
                let (base, weights) = (checkpoint.base_model.clone(), checkpoint.weights);
                Sampler::new(body.session_id.clone(), base, Some(path.clone()), Some(weights))
            }
            (None, Some(base)) => {
                self.bases.get(base)?;
                Sampler::new(body.session_id.clone(), base.clone(), None, None)
            }
            (None, None) => {
                let detail = "create_sampling_session needs a base_model or a model_path.";
                return Err(Refusal::new(400, detail));
            }
        };
        let id = sampler_id(&body.session_id, seq);
        self.state.samplers.insert(id.clone(), sampler);
        self.living_session(&body.session_id)?.samplers.insert(seq, (asked, id.clone()));
        Ok(Answer::Changed(made(&id)))
    }

    pub(super) fn join_sampling_session(&mut self, id: &SamplingSessionId) -> Result<Answer, Refusal> {
        self.living_sampler(id)?;
        let sampler = self.state.samplers.get_mut(id).ok_or_else(|| not_found("sampling session", id))?;
        let counter = sampler.joined;
        sampler.joined += 1;
        Ok(Answer::Changed(Response::json(&json!({ "client_counter": counter }))))
    }

    pub(super) fn get_sampler(&mut self, id: &SamplingSessionId) -> Result<Answer, Refusal> {
        let sampler = self.living_sampler(id)?;
        let mut body = json!({ "sampler_id": id, "base_model": sampler.base_model });
        if let Some(path) = &sampler.model_path {
            body["model_path"] = path.as_str().into();
        }
        Ok(Answer::Same(Response::json(&body)))
    }

    pub(super) fn sample(&mut self, body: &Sample, bytes: &Bytes) -> Result<Answer, Refusal> {
        let id = body.sampling_session_id.clone();
        let asked = asked("asample", body);
        let seq = body.seq_id.get();
        let sampler = self.living_sampler(&id)?;
        if let Some(before) = sampler.numbers.get(&seq) {
            Self::same(&format!("seq_id {seq} of this sampling session"), &before.asked, &asked)?;
            return Ok(Answer::Same(Self::sample_promise(&before.request, body.num_samples)));
        }
        let session = sampler.session.clone();
        let request = self.next_request(&session);
        if let Some(sampler) = self.state.samplers.get_mut(&id) {
            sampler.numbers.insert(seq, Numbered { asked, request: request.clone() });
        }
        self.queue(&request, session, Task::Sample { sampler: id }, bytes);
        self.samples.push_back(request.clone());
        Ok(Answer::Changed(Self::sample_promise(&request, body.num_samples)))
    }

    fn sample_promise(request: &RequestId, sequences: u32) -> Response {
        // As many as there will be; a number out of bounds fails later, with the reason.
        let count = if (1..=MOST_SEQUENCES).contains(&sequences) { sequences } else { 0 };
        let ids: Vec<_> = (0..count).map(|i| format!("{request}:sequence:{i}")).collect();
        Response::json(&json!({ "request_id": request, "sample_sequence_ids": ids }))
    }

    pub(super) fn living_sampler(&self, id: &SamplingSessionId) -> Result<&Sampler, Refusal> {
        self.state.samplers.get(id).ok_or_else(|| {
            let session = id.as_str().split(':').next().unwrap_or_default();
            let known = self.state.sessions.get(&session.into());
            match self.absent("sampling session", id.as_str()) {
                refusal
                    if refusal.status == 404
                        && known.is_some_and(|it| it.samplers.values().any(|(_, made)| made == id)) =>
                {
                    let kept = self.settings.ephemeral_samplers;
                    Refusal::new(
                        410,
                        format!("Sampler {id} is no longer kept: its model made more than {kept} since."),
                    )
                }
                refusal => refusal,
            }
        })
    }

    /// A checkpoint that can be read now.
    pub(super) fn checkpoint(&self, path: &str) -> Result<&Checkpoint, String> {
        match self.state.checkpoints.get(path) {
            Some(checkpoint) if checkpoint.alive(self.now) => Ok(checkpoint),
            Some(_) => Err(format!("The checkpoint {path} has expired.")),
            None => Err(format!(
                "There is no checkpoint {path} on this server. A path is tinker://RUN/weights/NAME or \
                 tinker://RUN/sampler_weights/NAME."
            )),
        }
    }

    pub(super) fn drop_sampler(&mut self, id: &SamplingSessionId) {
        self.state.samplers.remove(id);
        let of_it = |task: &Task| matches!(task, Task::Sample { sampler } if sampler == id);
        self.state
            .futures
            .retain(|_, future| !of_it(&future.task) || matches!(future.progress, Progress::Done(_)));
        let futures = &self.state.futures;
        self.samples.retain(|request| futures.contains_key(request));
        self.generating.retain(|generating| futures.contains_key(generating.request()));
        self.merged.retain(|(merged, _)| merged != id);
        self.state.drop_unused_blobs();
        self.release_gone();
    }

    pub(super) fn take_sample(&mut self) -> Option<Work> {
        let work = if self.generating.len() + self.sampling < GENERATING
            && let Some(request) = self.samples.pop_front()
        {
            match self.start_of(&request) {
                Ok(start) => Work::sample(start),
                Err(outcome) => {
                    self.finish(&request, outcome);
                    return self.take_sample();
                }
            }
        } else {
            Work::generate(self.generating.pop_front()?)
        };
        self.sampling += 1;
        Some(work)
    }

    fn start_of(&mut self, request: &RequestId) -> Result<SampleStart, Outcome> {
        let gone = || Outcome::user("The sampler of this request is gone.");
        let future = self.state.futures.get(request).ok_or_else(gone)?;
        let (Task::Sample { sampler }, Progress::Waiting(body)) = (&future.task, &future.progress) else {
            return Err(gone());
        };
        let (sampler, body) = (sampler.clone(), body.clone());
        let base_model = self.state.samplers.get(&sampler).ok_or_else(gone)?.base_model.clone();
        let base = self.bases.get(&base_model).map_err(|refusal| Outcome::server(refusal.detail))?;
        let hash = fingerprint(&[&self.state.seed, request.as_str().as_bytes()]);
        let seed = hash.first_chunk().map_or(0, |first| u64::from_le_bytes(*first));
        Ok(SampleStart {
            request: request.clone(),
            body,
            weights: self.merged(&sampler).ok_or_else(gone)?,
            context: base.config().context,
            seed,
            tokenizer: self.bases.tokenizer().clone(),
        })
    }

    /// The weights of a sampler, merged with its base once and kept while it is in use.
    fn merged(&mut self, id: &SamplingSessionId) -> Option<Weights> {
        if let Some(place) = self.merged.iter().position(|(merged, _)| merged == id) {
            let found = self.merged.remove(place)?;
            let weights = found.1.clone();
            self.merged.push_back(found);
            return Some(weights);
        }
        let sampler = self.state.samplers.get(id)?;
        let base = self.bases.get(&sampler.base_model).ok()?;
        let weights = match &sampler.weights {
            None => base.weights(),
            Some(hash) => {
                let state = self.state.blobs.get(hash)?;
                engine::restore(&self.bases, &sampler.base_model, state, false).ok()?.weights()
            }
        };
        if self.merged.len() >= MERGED {
            self.merged.pop_front();
        }
        self.merged.push_back((id.clone(), weights.clone()));
        Some(weights)
    }

    pub(super) fn sampled(&mut self, request: &RequestId, outcome: Outcome) {
        // Cancelled, or gone with its session meanwhile: then there is nobody to tell.
        let waits = |future: &crate::state::Future| matches!(future.progress, Progress::Waiting(_));
        if self.state.futures.get(request).is_some_and(waits) {
            self.finish(request, outcome);
        }
    }

    pub(super) fn still_generating(&mut self, generating: Box<Generating>) {
        let waits = |future: &crate::state::Future| matches!(future.progress, Progress::Waiting(_));
        if self.state.futures.get(generating.request()).is_some_and(waits) {
            self.generating.push_back(generating);
        }
    }
}
