//! Results and those who wait for them: `retrieve_future`, `retrieve_futures`, `cancel_future`, held polls.

use super::{Answer, Core, not_found};
use crate::message::{HoldId, Refusal, Response};
use crate::results;
use crate::state::{Category, Outcome, Progress, Task};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tinkex_protocol::ids::{RequestId, SamplingSessionId};
use tinkex_protocol::json::futures::{CancelFuture, RetrieveFuture, RetrieveFutures};

/// Polls that are held, and answers that wait to be carried out.
#[derive(Default)]
pub(super) struct Holds {
    made: u64,
    held: BTreeMap<HoldId, Hold>,
    released: Vec<(HoldId, Response)>,
}

struct Hold {
    deadline: Duration,
    poll: Poll,
}

#[derive(Clone)]
enum Poll {
    One { request: RequestId, metadata_only: bool, protobuf: bool },
    Many { sampler: SamplingSessionId, cursor: usize },
}

impl Holds {
    pub fn next_deadline(&self) -> Option<Duration> {
        self.held.values().map(|hold| hold.deadline).min()
    }

    pub fn released(&mut self) -> Vec<(HoldId, Response)> {
        std::mem::take(&mut self.released)
    }

    pub fn len(&self) -> usize {
        self.held.len()
    }

    pub fn forget(&mut self, id: HoldId) {
        self.held.remove(&id);
    }

    fn hold(&mut self, deadline: Duration, poll: Poll) -> Answer {
        self.made += 1;
        let id = HoldId(self.made);
        self.held.insert(id, Hold { deadline, poll });
        Answer::Held(id, deadline)
    }

    /// The ids of the polls that a condition holds for.
    fn which(&self, condition: impl Fn(&Hold) -> bool) -> Vec<HoldId> {
        self.held.iter().filter(|(_, hold)| condition(hold)).map(|(id, _)| *id).collect()
    }
}

impl Core {
    pub(super) fn retrieve_future(
        &mut self,
        asked: &RetrieveFuture,
        protobuf: bool,
    ) -> Result<Answer, Refusal> {
        let request = asked.request_id.clone();
        let poll = Poll::One { request, metadata_only: asked.allow_metadata_only, protobuf };
        self.poll(poll, self.settings.hold)
    }

    pub(super) fn retrieve_futures(&mut self, asked: &RetrieveFutures) -> Result<Answer, Refusal> {
        for request in &asked.retrieved_request_ids {
            if self.state.futures.contains_key(request) {
                self.fetched.entry(request.clone()).or_insert(self.now);
            }
        }
        let sampler = asked.target.sampling_session_id.clone();
        let cursor = usize::try_from(asked.prev_cursor).unwrap_or(usize::MAX);
        let wait = asked.timeout.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        self.poll(Poll::Many { sampler, cursor }, wait.unwrap_or(self.settings.hold).min(self.settings.hold))
    }

    /// Cancels a sample. Training can't be cancelled: what has a number is applied.
    pub(super) fn cancel_future(&mut self, asked: &CancelFuture) -> Result<Answer, Refusal> {
        let request = &asked.request_id;
        let Some(future) = self.state.futures.get(request) else { return Err(self.gone(request)) };
        let waiting = matches!(future.progress, Progress::Waiting(_));
        if !(waiting && matches!(future.task, Task::Sample { .. })) {
            return Ok(Answer::Same(Response::empty()));
        }
        self.samples.retain(|waiting| waiting != request);
        self.generating.retain(|generating| generating.request() != request);
        self.finish(request, Outcome::user("The sample was cancelled by its client."));
        Ok(Answer::Changed(Response::empty()))
    }

    fn poll(&mut self, poll: Poll, wait: Duration) -> Result<Answer, Refusal> {
        match self.answer(&poll)? {
            Some(response) => Ok(Answer::Same(response)),
            None if wait.is_zero() => Ok(Answer::Same(self.not_ready(&poll))),
            None => Ok(self.holds.hold(self.now + wait, poll)),
        }
    }

    /// The answer to a poll, if there is one by now.
    fn answer(&mut self, poll: &Poll) -> Result<Option<Response>, Refusal> {
        match poll {
            Poll::One { request, metadata_only, protobuf } => {
                let Some(future) = self.state.futures.get(request) else { return Err(self.gone(request)) };
                let Progress::Done(outcome) = &future.progress else { return Ok(None) };
                if *metadata_only && outcome.size() > self.settings.announce_above {
                    let size = outcome.size();
                    let body = json!({ "status": "complete_metadata", "request_id": request, "response_payload_size": size });
                    return Ok(Some(Response::json(&body)));
                }
                let response = match outcome {
                    Outcome::Json(body) => Response { body: body.clone(), ..Response::empty() },
                    Outcome::Protobuf(body) if *protobuf => Response::protobuf(body.clone()),
                    Outcome::Protobuf(body) => results::in_json(&future.task, body),
                    Outcome::Failed { error, category } => {
                        let category = match category {
                            Category::User => "user",
                            Category::Server => "server",
                        };
                        Response::json(&json!({ "error": error, "category": category }))
                    }
                };
                self.fetched.entry(request.clone()).or_insert(self.now);
                Ok(Some(response))
            }
            Poll::Many { sampler, cursor } => {
                let found = self.living_sampler(sampler)?;
                let new = found.completions.get(*cursor..).unwrap_or_default();
                if new.is_empty() {
                    return Ok(None);
                }
                let completions: Vec<Value> = new.iter().map(|request| self.completion(request)).collect();
                let cursor = cursor + completions.len();
                Ok(Some(Response::json(&json!({ "completions": completions, "cursor": cursor }))))
            }
        }
    }

    fn completion(&self, request: &RequestId) -> Value {
        match self.state.futures.get(request).map(|future| &future.progress) {
            Some(Progress::Done(outcome @ (Outcome::Json(_) | Outcome::Protobuf(_)))) => {
                let size = if outcome.size() > self.settings.announce_above { outcome.size() } else { 0 };
                json!({ "state": "finished", "request_id": request, "response_payload_uncompressed_size": size })
            }
            _ => json!({ "state": "failed", "request_id": request }),
        }
    }

    fn not_ready(&self, poll: &Poll) -> Response {
        match poll {
            Poll::Many { cursor, .. } => Response::json(&json!({ "completions": [], "cursor": cursor })),
            Poll::One { request, .. } => {
                let mut body = json!({ "type": "try_again", "request_id": request, "queue_state": "active" });
                if let Some(missing) = self.missing_before(request) {
                    body["queue_state_reason"] = missing.into();
                }
                Response::json(&body)
            }
        }
    }

    /// A request that waits for a number that nobody has sent says so, since only its client can help.
    fn missing_before(&self, request: &RequestId) -> Option<String> {
        let Task::Train { model, .. } = &self.state.futures.get(request)?.task else { return None };
        let model = self.state.models.get(model)?;
        let missing = !model.waiting.contains_key(&model.next);
        missing.then(|| format!("seq_id {} of this model was not received yet", model.next))
    }

    fn gone(&self, request: &RequestId) -> Refusal {
        let session = request.as_str().split(':').next().unwrap_or_default();
        let number = request.as_str().rsplit(':').next().and_then(|number| number.parse::<u64>().ok());
        let Some((id, session)) = self.state.sessions.iter().find(|(id, _)| id.as_str() == session) else {
            return not_found("request", request);
        };
        if let Some(why) = Self::ended(id, session) {
            return why;
        }
        if number.is_some_and(|number| number <= session.requests_made) {
            Refusal::new(410, format!("The result of {request} was fetched long ago, and is no longer kept."))
        } else {
            not_found("request", request)
        }
    }

    /// Answers whoever waited for this result.
    pub(super) fn release_finished(&mut self, request: &RequestId, task: &Task) {
        let ids = self.holds.which(|hold| match (&hold.poll, task) {
            (Poll::One { request: waited, .. }, _) => waited == request,
            (Poll::Many { sampler: waited, .. }, Task::Sample { sampler }) => waited == sampler,
            _ => false,
        });
        self.release(ids);
    }

    /// Answers all polls of things that are no longer there.
    pub(super) fn release_gone(&mut self) {
        let (futures, samplers) = (&self.state.futures, &self.state.samplers);
        let ids = self.holds.which(|hold| match &hold.poll {
            Poll::One { request, .. } => !futures.contains_key(request),
            Poll::Many { sampler, .. } => !samplers.contains_key(sampler),
        });
        self.release(ids);
    }

    /// Answers all held polls: with "try again" where there is nothing better. For a server that stops.
    pub fn release_all(&mut self) {
        let ids = self.holds.which(|_| true);
        self.release(ids);
    }

    pub(super) fn holds_end(&mut self) {
        let now = self.now;
        let ids = self.holds.which(|hold| hold.deadline <= now);
        self.release(ids);
    }

    fn release(&mut self, ids: Vec<HoldId>) {
        for id in ids {
            let Some(hold) = self.holds.held.remove(&id) else { continue };
            let response = match self.answer(&hold.poll) {
                Ok(Some(response)) => response,
                Ok(None) => self.not_ready(&hold.poll),
                Err(refusal) => refusal.into(),
            };
            self.holds.released.push((id, response));
        }
    }

    pub(super) fn results_end(&mut self) {
        let (now, keep) = (self.now, self.settings.keep_fetched);
        let over: Vec<_> =
            self.fetched.iter().filter(|(_, at)| **at + keep <= now).map(|(id, _)| id.clone()).collect();
        for request in over {
            self.fetched.remove(&request);
            self.state.futures.remove(&request);
        }
    }
}
