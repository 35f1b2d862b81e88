//! The service without a socket, a clock, a disk, a thread or randomness of its own.
//!
//! A driver gives it requests with the time, carries work away and brings it back, lets time pass, and writes
//! down what it asks for. The same calls give the same answers, to the byte:
//!
//! - [`Core::handle`] takes a request and answers, or holds a poll.
//! - [`Core::take_work`] and [`Core::complete`] let the driver compute wherever it likes, while requests go on.
//! - [`Core::tick`] lets time pass: held polls end, sessions whose heartbeats stayed away end.
//! - [`Core::records`] must be on disk before an answer leaves that was given after them.
//! - [`Core::snapshot`] and those records give, by [`Core::restore`], the same state again, bit for bit.

mod futures;
mod own;
mod reading;
mod restore;
mod route;
mod sampling;
mod sessions;
mod training;
mod weights;

use crate::bases::Bases;
use crate::journal::{Fact, Logged, Record};
use crate::message::{HoldId, Refusal, Reply, Request, Response};
use crate::sample::Generating;
use crate::settings::Settings;
use crate::state::{Outcome, Progress, State, Task, fingerprint};
use crate::work::{Done, Finished, Work};
use futures::Holds;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use tinkex_model::{Adapter, Weights};
use tinkex_protocol::ids::{ModelId, RequestId, SamplingSessionId, SessionId};
use tinkex_protocol::json::telemetry::TelemetryBatch;

/// Samples that are generated in turns. Each holds a cache of keys and values.
const GENERATING: usize = 8;

/// Merged weights kept for samplers, so that a sampler in use is merged once.
const MERGED: usize = 8;

/// The service. See the [module](self).
pub struct Core {
    state: State,
    settings: Settings,
    bases: Bases,
    now: Duration,
    /// What happens now follows from a record that is written anyway: the request being handled, or a replayed log.
    consequence: bool,
    records: Vec<Record>,

    /// Of models whose work is not out.
    engines: BTreeMap<ModelId, Adapter>,
    /// Models whose work is out.
    busy: BTreeSet<ModelId>,
    /// Models that may have something to do, in turn.
    ready: VecDeque<ModelId>,
    /// Samples not begun, in order of arrival.
    samples: VecDeque<RequestId>,
    /// Samples begun, in turn.
    generating: VecDeque<Box<Generating>>,
    /// Samples that are out.
    sampling: usize,
    /// Whose turn it is, so that neither training nor sampling waits for all of the other.
    sample_next: bool,
    paused: bool,

    holds: Holds,
    /// When each living session was last heard. A restart counts as hearing all.
    heard: BTreeMap<SessionId, Duration>,
    /// When each fetched result was first fetched.
    fetched: BTreeMap<RequestId, Duration>,
    /// The latest used last.
    merged: VecDeque<(SamplingSessionId, Weights)>,
    /// What clients told about themselves, the latest last.
    telemetry: VecDeque<TelemetryBatch>,
}

/// How a handler ends when it doesn't refuse.
enum Answer {
    /// Nothing changed that a restart must find.
    Same(Response),
    /// The state changed: the request is written down.
    Changed(Response),
    Held(HoldId, Duration),
}

impl Core {
    /// A service that knows nothing yet. Two services with different seeds have no id in common.
    pub fn new(settings: Settings, bases: Bases, seed: [u8; 32]) -> Self {
        Self::with_state(settings, bases, State { seed, ..State::default() })
    }

    fn with_state(settings: Settings, bases: Bases, state: State) -> Self {
        Self {
            now: state.now,
            state,
            settings,
            bases,
            consequence: false,
            records: Vec::new(),
            engines: BTreeMap::new(),
            busy: BTreeSet::new(),
            ready: VecDeque::new(),
            samples: VecDeque::new(),
            generating: VecDeque::new(),
            sampling: 0,
            sample_next: false,
            paused: false,
            holds: Holds::default(),
            heard: BTreeMap::new(),
            fetched: BTreeMap::new(),
            merged: VecDeque::new(),
            telemetry: VecDeque::new(),
        }
    }

    /// The latest time that it was told, since the Unix epoch.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// A seed for a service that takes the place of this one and remembers nothing.
    pub fn next_seed(&self) -> [u8; 32] {
        fingerprint(&[&self.state.seed, b"next"])
    }

    /// Answers a request. `now` is since the Unix epoch; a time before an earlier one counts as that one.
    pub fn handle(&mut self, now: Duration, request: &Request) -> Reply {
        self.advance(now);
        if !self.consequence {
            // A session that is over is over for this request too, however long ago the last tick was.
            self.sessions_end();
        }
        let before = std::mem::replace(&mut self.consequence, true);
        let answer = self.route(request);
        self.consequence = before;
        match answer {
            Err(refusal) => Reply::Now(refusal.into()),
            Ok(Answer::Held(id, deadline)) => Reply::Held(id, deadline),
            Ok(Answer::Same(response)) => Reply::Now(response),
            Ok(Answer::Changed(response)) => {
                self.record(Fact::Request(Logged {
                    method: request.method,
                    path: request.path.clone(),
                    protobuf: request.headers.is_protobuf(),
                    idempotency_key: request.headers.idempotency_key.clone(),
                    body: request.body.clone(),
                }));
                Reply::Now(response)
            }
        }
    }

    /// Lets time pass: ends held polls, sessions without heartbeats, and results that were fetched long ago.
    pub fn tick(&mut self, now: Duration) {
        self.advance(now);
        self.holds_end();
        self.sessions_end();
        self.results_end();
    }

    /// When [`Core::tick`] has something to do next.
    pub fn next_deadline(&self) -> Option<Duration> {
        let sessions = self.heard.values().map(|heard| *heard + self.settings.session_timeout).min();
        let results = self.fetched.values().map(|fetched| *fetched + self.settings.keep_fetched).min();
        [self.holds.next_deadline(), sessions, results].into_iter().flatten().min()
    }

    /// The next piece of work, to be run anywhere and given back to [`Core::complete`]. Small things are done here
    /// at once. `None`: nothing to do now, though [`Core::records`] and [`Core::released`] may hold something.
    pub fn take_work(&mut self, now: Duration) -> Option<Work> {
        self.advance(now);
        if self.paused {
            return None;
        }
        self.sample_next = !self.sample_next;
        if self.sample_next {
            self.take_sample().or_else(|| self.take_training())
        } else {
            self.take_training().or_else(|| self.take_sample())
        }
    }

    /// Takes work back.
    pub fn complete(&mut self, now: Duration, done: Done) {
        self.advance(now);
        match done.0 {
            Finished::Trained(trained) => self.trained(*trained),
            Finished::Sampled { request, outcome } => {
                self.sampling -= 1;
                self.sampled(&request, outcome);
            }
            Finished::Generating(generating) => {
                self.sampling -= 1;
                self.still_generating(generating);
            }
        }
    }

    /// Whether [`Core::take_work`] may find something.
    pub fn has_work(&self) -> bool {
        let idle = self.ready.is_empty() && self.samples.is_empty() && self.generating.is_empty();
        !(idle || self.paused)
    }

    /// Stops or goes on handing out work, so that a moment comes in which [`Core::snapshot`] is possible.
    pub fn pause(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// What must be on disk before any answer leaves that was given since. Each is given once.
    pub fn records(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.records)
    }

    /// Answers to polls that were held, each given once.
    pub fn released(&mut self) -> Vec<(HoldId, Response)> {
        self.holds.released()
    }

    /// Nobody waits for this poll any longer.
    pub fn let_go(&mut self, id: HoldId) {
        self.holds.forget(id);
    }

    fn advance(&mut self, now: Duration) {
        self.now = self.now.max(now);
    }

    fn record(&mut self, fact: Fact) {
        self.state.now = self.now;
        if !self.consequence {
            self.records.push(Record { at: self.now, fact });
        }
    }

    /// Makes a result known: to the future, to those who wait for it, and to the log on disk.
    fn finish(&mut self, request: &RequestId, outcome: Outcome) {
        let Some(future) = self.state.futures.get_mut(request) else { return };
        let task = future.task.clone();
        let fact = match &task {
            Task::Sample { .. } => Fact::Sampled {
                request: request.as_str().to_owned(),
                outcome: postcard::to_allocvec(&outcome)
                    .expect("an outcome has no part that can't be written"),
            },
            _ => Fact::Finished { request: request.as_str().to_owned(), check: outcome.check() },
        };
        future.progress = Progress::Done(outcome);
        self.record(fact);
        if let Task::Sample { sampler } = &task
            && let Some(sampler) = self.state.samplers.get_mut(sampler)
        {
            sampler.completions.push(request.clone());
        }
        self.release_finished(request, &task);
    }
}

fn not_found(what: &str, id: impl std::fmt::Display) -> Refusal {
    Refusal::new(
        404,
        format!(
            "There is no {what} {id} on this server. A sandbox without --data forgets everything when it stops."
        ),
    )
}
