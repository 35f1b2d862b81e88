//! What a run asks for, and when.
//!
//! A call is asked for when the one before it is written: a later one that is written without an earlier one would be another
//! run.

use std::time::Duration;

use futures_util::FutureExt;
use tinkex_protocol::LossCall;
use tinkex_supervise::reply;

use super::results::Flight;
use super::{Driver, Next, Prepared, Stage, Supply, Turn, weigh};
use crate::request::Progress;
use crate::run::MOST_AHEAD;
use crate::run::event::Reason;
use crate::run::feed::Batch;
use crate::run::page::{Failure, FailureKind};
use crate::run::records::{Cursor, Place, State, cursor_key, place_key};
use crate::run::spec::Work;
use crate::run::status::Cause;
use crate::run::tag::{Kind, Tag};
use crate::store::{Op, put};
use crate::training::method::Ask;
use crate::training::{Asked, Name, Save, TrainingClient};

/// Where a run doesn't say how many steps it submits ahead, it is those that take so long together.
const AHEAD: Duration = Duration::from_millis(500);
const LEAST_AHEAD: u32 = 2;

impl Driver {
    /// Does what can be done now.
    pub(super) fn act(&mut self) {
        match &self.stage {
            Stage::Shut if self.control.state.is_over() => self.leave(self.control.clone()),
            Stage::Shut if self.wants_model() => self.open(),
            Stage::Shut if self.control.state.is_to_stop() => self.end(State::Stopped),
            Stage::Open(open) => {
                let client = open.client.clone();
                self.ask_next(&client);
            }
            _ => {}
        }
    }

    fn wants_model(&self) -> bool {
        match self.control.state {
            State::Running => true,
            // Its session is kept alive, and what was asked for is taken in.
            State::Paused => {
                let by_user = self.control.cause == Cause::PausedByUser.as_str();
                by_user && self.has_model() && self.failures == 0
            }
            State::Saving => self.has_model(),
            State::Stopping | State::Completed | State::Stopped => false,
        }
    }

    /// Whether it has one that it means to go on with.
    pub(super) fn has_model(&self) -> bool {
        self.control.incarnation > 0 && matches!(self.next, Next::Same)
    }

    fn ask_next(&mut self, client: &TrainingClient) {
        if !self.may_ask() {
            return;
        }
        let behind = self.cursor.step - 1;
        let between = self.attempt.is_none();
        // What a step has done already is not to be in a checkpoint of the one before.
        let is_clean = self.entries.is_empty() || self.control.state.is_to_stop();
        if between && is_clean && self.ask_behind(client, behind) {
            return;
        }
        if between && self.control.state.is_to_stop() {
            if self.is_quiet() {
                self.end(State::Stopped);
            }
            return;
        }
        if between && !self.is_running() {
            return;
        }
        if matches!(self.supply, Some(Supply::End(_)))
            || self.shared.spec.steps().is_some_and(|steps| self.cursor.step > steps)
        {
            return self.ask_at_the_end(client, behind);
        }
        match &self.shared.clone().spec.work {
            Work::Data { loss, .. } => self.ask_of_data(client, loss),
            Work::Function { .. } => self.ask_of_function(client),
        }
    }

    /// What is due behind a step, one after another.
    fn ask_behind(&mut self, client: &TrainingClient, step: u32) -> bool {
        let shared = self.shared.clone();
        let due = |every: u32| step.is_multiple_of(every);
        if let Some(evaluation) = &shared.spec.evaluation
            && due(evaluation.every)
            && self.behind.evaluated < Some(step)
        {
            return self.ask_evaluation(client, step);
        }
        if self.is_unsaved(step)
            && let Some(reason) = self.checkpoint_due(step)
        {
            self.ask_checkpoint(client, step, reason);
            return true;
        }
        if let Some(samples) = &shared.spec.samples
            && due(samples.every)
            && self.behind.sampled < Some(step)
        {
            self.ask_samples(client, step);
            return true;
        }
        false
    }

    /// Whether a step was made since the last checkpoint.
    pub(super) fn is_unsaved(&self, step: u32) -> bool {
        self.behind.saved.unwrap_or_default() < step
    }

    fn checkpoint_due(&self, step: u32) -> Option<Reason> {
        let spec = &self.shared.spec.checkpoints;
        let late = spec.every.is_some_and(|every| self.now() >= self.saved_at + every);
        if late || spec.every_steps.is_some_and(|every| step.is_multiple_of(every)) {
            return Some(Reason::Cadence);
        }
        if self.control.state == State::Saving {
            return Some(Reason::Stop);
        }
        // One that is under way is the one that is wanted.
        let saving = self.flights.iter().any(|flight| matches!(flight.tag.kind, Kind::Checkpoint(_)));
        self.wanted.as_ref().filter(|_| !saving).map(|wanted| wanted.reason)
    }

    fn ask_evaluation(&mut self, client: &TrainingClient, step: u32) -> bool {
        let Some(evaluation) = &self.shared.spec.evaluation else { return false };
        self.behind.evaluated = Some(step);
        let data = evaluation.data.clone();
        let (weight, tokens) = weigh(&data);
        let loss = match &self.shared.spec.work {
            Work::Data { loss, .. } => loss.clone(),
            Work::Function { .. } => LossCall::new("cross_entropy"),
        };
        match client.cut(data, &LossCall { forward_only: true, ..loss }) {
            Ok(ask) => {
                let tag = Tag { weight, tokens, ..Tag::new(step, Kind::Evaluate) };
                self.ask(client, tag, ask, Vec::new(), None);
                true
            }
            Err(error) => {
                self.log(&format!("the evaluation behind step {step} can't be made: {error}"));
                false
            }
        }
    }

    fn ask_samples(&mut self, client: &TrainingClient, step: u32) {
        self.behind.sampled = Some(step);
        self.ask(client, Tag::new(step, Kind::Sampler), client.new_sampler(), Vec::new(), None);
    }

    fn ask_checkpoint(&mut self, client: &TrainingClient, step: u32, reason: Reason) {
        self.behind.saved = Some(step);
        self.saved_at = self.now();
        let (id, number) = (&self.shared.id, self.control.incarnation);
        let save = Save {
            // Asked for again under the same name, it is the same.
            name: format!("run-{id}-{number}-{step}"),
            ttl_seconds: self.shared.spec.checkpoints.ttl_seconds,
            overwrite: true,
            user_metadata: None,
        };
        let with = vec![put(place_key(id, number, step), &Place(self.cursor.position.clone()))];
        self.ask(client, Tag::new(step, Kind::Checkpoint(reason)), Ask::SaveState(save), with, None);
    }

    /// The last evaluation, samples and checkpoint; then it is done.
    fn ask_at_the_end(&mut self, client: &TrainingClient, step: u32) {
        let evaluates = self.shared.spec.evaluation.is_some() && self.behind.evaluated < Some(step);
        if evaluates && self.ask_evaluation(client, step) {
            return;
        }
        if self.shared.spec.samples.is_some() && self.behind.sampled < Some(step) {
            self.ask_samples(client, step);
        } else if self.is_unsaved(step) {
            self.ask_checkpoint(client, step, Reason::End);
        } else if self.is_quiet() {
            self.end(State::Completed);
        }
    }

    fn ask_of_data(&mut self, client: &TrainingClient, loss: &LossCall) {
        let Cursor { step, position } = self.cursor.clone();
        let has_room = (step - 1).saturating_sub(self.history.step) < self.most_ahead();
        let Batch { data, after } = match self.supply.take() {
            Some(Supply::With(feed)) => {
                // Read ahead, so that it is here when there is room.
                let reading = feed.next(position).map(|(feed, batch)| Prepared { feed, batch });
                self.supply = Some(Supply::Reading(reading.boxed_local()));
                return;
            }
            Some(Supply::Here(feed, batch)) if has_room => {
                self.supply = Some(Supply::With(feed));
                batch
            }
            other => {
                self.supply = other;
                return;
            }
        };
        let (weight, tokens) = weigh(&data);
        match client.cut_step(data, loss, self.shared.spec.adam(step)) {
            Ok(ask) => {
                let tag = Tag { weight, tokens, ..Tag::new(step, Kind::Step) };
                let next = Cursor { step: step + 1, position: after };
                self.ask(client, tag, ask, Vec::new(), Some(next));
            }
            Err(error) => {
                // Nothing of it was sent: the cursor stays in front of it.
                let message = format!("the batch of step {step} can't be sent: {}", error.message());
                self.pause(Cause::Refused, message);
            }
        }
    }

    /// How many steps may be submitted and not finished: a pause waits for all of them.
    fn most_ahead(&self) -> u32 {
        self.shared.spec.pipeline.unwrap_or_else(|| {
            let fit = |pace: Duration| AHEAD.as_millis() as u32 / (pace.as_millis() as u32).max(1);
            self.pace.map_or(LEAST_AHEAD, |pace| fit(pace).clamp(LEAST_AHEAD, MOST_AHEAD))
        })
    }

    pub(super) fn prepared(&mut self, Prepared { feed, batch }: Prepared) {
        self.supply = Some(match batch {
            Ok(Some(batch)) => Supply::Here(feed, batch),
            Ok(None) => Supply::End(feed),
            Err(Failure { kind, message }) => {
                let cause = match kind {
                    FailureKind::DataMismatch => Cause::DataChanged,
                    _ => Cause::DataFailed,
                };
                // One that is to stop needs none.
                if self.is_running() {
                    self.pause(cause, message);
                }
                Supply::With(feed)
            }
        });
    }

    /// Asks for a call. With it is written `with`, and where the run is then.
    pub(in crate::run) fn ask(
        &mut self,
        client: &TrainingClient,
        tag: Tag,
        ask: Ask,
        mut with: Vec<Op>,
        next: Option<Cursor>,
    ) {
        with.append(&mut self.closing);
        if let Some(next) = &next {
            with.push(put(cursor_key(&self.shared.id), next));
        }
        if self.flights.is_empty() && tag.kind == Kind::Step {
            self.step_began = self.now();
        }
        let key = self.next_key();
        let (told, written) = reply();
        let name = Name { key, label: tag.to_label(), with, written: Some(told), ..Name::default() };
        let asked = client.ask(ask, name, &Progress::default());
        self.fly(key, tag, asked, Some(self.cursor.clone()));
        self.turn = Turn::Writing(written, next);
    }

    pub(super) fn fly(&mut self, key: u32, tag: Tag, asked: Asked, from: Option<Cursor>) {
        let resumed = asked.resumed;
        self.flights.push_back(Flight { key, tag, output: asked.boxed_local(), resumed, from });
    }

    pub(super) fn next_key(&mut self) -> u32 {
        self.last_key += 1;
        self.last_key
    }

    /// Whether the next call may be asked for.
    pub(in crate::run) fn may_ask(&self) -> bool {
        matches!(self.turn, Turn::Free)
    }
}
