//! What comes of a run's calls: rows of its history, or the end of its moving.

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use tinkex_protocol::SamplingSessionId;
use tinkex_protocol::metrics::Metrics;

use super::{Beside, Driver, Next, Stage, Then, Turn};
use crate::error::{Error, Kind as ErrorKind, Outcome};
use crate::request::Progress;
use crate::run::event::{self, When};
use crate::run::page::News;
use crate::run::records::{Cursor, Row, State, cursor_key, row_key};
use crate::run::status::Cause;
use crate::run::tag::{Kind, Tag};
use crate::sampling::Sample;
use crate::store::{Durability, Op, StoreErrorKind, put};
use crate::training::method::Output;

/// A call whose result is to come.
pub(super) struct Flight {
    pub key: u32,
    pub tag: Tag,
    pub output: LocalBoxFuture<'static, Result<Output, Error>>,
    /// It came back, so that what it made may have been used.
    pub resumed: bool,
    /// Where the run was in front of it; none for one that came back.
    pub from: Option<Cursor>,
}

impl Driver {
    pub(super) fn finished(&mut self, flight: Flight, output: Output) {
        let Flight { key, tag, resumed, .. } = flight;
        let step = tag.step;
        match (tag.kind, output) {
            (Kind::Step, Output::Step(metrics)) => {
                let loss = loss(&metrics, tag.weight);
                self.step_done(key, &tag, Some(loss), &metrics);
                if !loss.is_finite() {
                    let what = if loss.is_nan() { "NaN" } else { "infinite" };
                    let message = format!(
                        "the loss of step {step} is {what}, and its update was made; checkpoints before it are sound"
                    );
                    self.pause(Cause::LossNotFinite, message);
                }
            }
            (Kind::Evaluate, Output::Forward(output)) => {
                let loss = loss(&output.metrics, tag.weight);
                let row = event::evaluation(self.when(step), loss, tag.tokens);
                self.keep_row(key, step, "evaluation", row);
            }
            (Kind::Checkpoint(reason), Output::Path(path)) => {
                if self.was_refused() {
                    self.seen(key, Vec::new());
                } else {
                    let row = event::checkpoint(self.when(step), &path, reason);
                    self.keep_row(key, step, "checkpoint", row);
                }
                self.answer_wanted(Ok(path));
            }
            (Kind::Sampler, Output::Sampler(id)) => self.sample_behind(key, step, id, resumed),
            // Its step was closed in an earlier life, and what it gave is recorded no more.
            (Kind::Call(_), _) if step != self.cursor.step => self.seen(key, Vec::new()),
            (Kind::Call(index), output) => self.call_done(key, index, output),
            _ => {
                self.seen(key, Vec::new());
                self.log("a result of a run is of another kind than what was asked for");
            }
        }
    }

    /// `loss`: none where the server has forgotten it.
    fn step_done(&mut self, key: u32, tag: &Tag, loss: Option<f64>, metrics: &Metrics) {
        let step = tag.step;
        let now = self.now();
        let took = now.saturating_sub(self.step_began);
        (self.step_began, self.pace) = (now, Some(took));
        let ms = took.as_millis() as u64;
        let learning_rate = Some(self.shared.spec.schedule.rate(step, self.shared.spec.steps()));
        let done = event::Step { loss, tokens: tag.tokens, learning_rate, ms, metrics, value: None };
        let row = event::step(self.when(step), &done);
        self.keep_row(key, step, "step", row);
        self.moved();
    }

    /// A step is finished: what failed before counts for nothing.
    pub(super) fn moved(&mut self) {
        (self.attempts, self.reopenings) = (0, 0);
    }

    /// The step of a function is closed.
    pub(super) fn step_closed(&mut self, row: Vec<u8>) {
        self.happened(row);
        self.moved();
    }

    /// Writes a row with the end of its call, and tells of it.
    fn keep_row(&mut self, key: u32, step: u32, kind: &str, row: Vec<u8>) {
        let row_key = row_key(&self.shared.id, self.control.incarnation, step, kind, 0);
        self.seen(key, vec![put(row_key, &Row(row.clone()))]);
        self.happened(row);
    }

    pub(super) fn happened(&mut self, row: Vec<u8>) {
        self.history.take(&row);
        self.shared.page.tell(News::Event(row));
    }

    /// Nothing of a call need be kept any more; `with` is written when it goes.
    pub(in crate::run) fn seen(&self, key: u32, with: Vec<Op>) {
        if let Stage::Open(open) = &self.stage {
            open.client.seen_with(key, with);
        }
    }

    /// Samples from the weights behind a step, beside all else.
    fn sample_behind(&mut self, key: u32, step: u32, id: SamplingSessionId, used: bool) {
        let (Stage::Open(open), Some(samples)) = (&self.stage, self.shared.spec.samples.clone()) else {
            return;
        };
        let (service, when) = (open.service.clone(), self.when(step));
        let sampling = async move {
            let made = service.start_sampling_client(id, used).await?;
            let mut events = Vec::new();
            for (nth, prompt) in samples.prompts.iter().enumerate() {
                let sample = Sample { prompt: prompt.clone(), ..samples.sample.clone() };
                let sampled = made.client.sample(sample, &Progress::default()).await?;
                let sequences = &sampled.response.sequences;
                events.extend(sequences.iter().map(|sequence| event::sample(when, nth, sequence)));
            }
            service.close_client(&made.pid).await;
            Ok(events)
        };
        self.beside.push(sampling.map(move |events| Beside::Samples { key, step, events }).boxed_local());
    }

    pub(super) fn sampled_behind(&mut self, key: u32, step: u32, events: Result<Vec<Vec<u8>>, Error>) {
        let incarnation = self.control.incarnation;
        match events {
            Ok(events) => {
                let id = &self.shared.id;
                let rows = events.iter().enumerate().map(|(nth, event)| {
                    put(row_key(id, incarnation, step, "sample", nth as u32), &Row(event.clone()))
                });
                self.seen(key, rows.collect());
                events.into_iter().for_each(|event| self.happened(event));
            }
            Err(error) => {
                self.seen(key, Vec::new());
                self.log(&format!("no samples behind step {step}: {error}"));
            }
        }
    }

    /// A call has no result.
    pub(super) fn failed(&mut self, flight: Flight, error: Error) {
        let Flight { key, tag, from, resumed, .. } = flight;
        if let Kind::Call(index) = tag.kind
            && tag.step == self.cursor.step
            && self.call_failed(key, index, &error)
        {
            return;
        }
        if matches!(tag.kind, Kind::Checkpoint(_)) {
            self.answer_wanted(Err(error.clone()));
        }
        let message = error.message().to_owned();
        match error.kind() {
            _ if self.fence.lost().is_some() => self.leave_as_fenced(&error),
            // The server has forgotten the result of what it did, or the session: opening it again tells. What a function
            // asked for can't be asked for again.
            ErrorKind::Api { status: 410, .. } if !matches!(tag.kind, Kind::Call(_)) => match tag.kind {
                Kind::Step if !resumed => self.reopen(error),
                Kind::Step => self.step_done(key, &tag, None, &Metrics::default()),
                _ => {
                    self.done_with(key, &tag);
                    self.reopen(error);
                }
            },
            ErrorKind::Api { status: 404 | 410, .. } => self.lose(error),
            // Whether it was applied can't be known; what is behind a checkpoint is.
            ErrorKind::Storage(StoreErrorKind::Damaged) => self.lose(error),
            ErrorKind::Storage(_) => self.not_written(error),
            ErrorKind::Api { status: 401..=403, .. } => {
                // What was not taken is out of the journal, and so is all behind it.
                let gone = matches!(error.outcome(), Outcome::NotSent | Outcome::Refused);
                let back = from.filter(|_| gone);
                self.turn = match std::mem::replace(&mut self.turn, Turn::Stuck) {
                    Turn::Barred(message, before) => Turn::Barred(message, before.or(back)),
                    _ => Turn::Barred(message, back),
                };
            }
            _ => match self.open_incarnation().and_then(|open| open.lost()) {
                Some(lost) => self.lose(lost),
                // It goes on without this caller, or its client has gone: it comes back with the model.
                None if error.outcome() == Outcome::Journaled => self.reopen(error),
                None if is_of_the_client(&error) => self.reopen(error),
                None => self.refused(key, &tag, &error),
            },
        }
    }

    /// The server has said no. What was asked for behind it may have been done.
    fn refused(&mut self, key: u32, tag: &Tag, error: &Error) {
        match error.kind() {
            // Of its pass nothing came; the update behind it was made all the same.
            ErrorKind::RequestFailed { .. } if tag.kind == Kind::Step => {
                self.step_done(key, tag, None, &Metrics::default());
            }
            _ => self.done_with(key, tag),
        }
        let message = format!("the server refused a call of step {}: {}", tag.step, error.message());
        if error.outcome() == Outcome::Unknown {
            // Part of it was taken, so that the model is no longer what the steps say.
            self.next = Next::New { reason: message.clone(), path: None };
            self.shut(None);
        }
        self.pause(Cause::Refused, message);
    }

    /// Nothing more will come of a call.
    fn done_with(&mut self, key: u32, tag: &Tag) {
        self.seen(key, Vec::new());
        if tag.kind == Kind::Step {
            self.history.step = tag.step;
        }
    }

    /// All that was on its way to a server that lets nobody in has been told so: the run goes back to where it was in
    /// front of the first call that is gone.
    pub(super) fn close_barred(&mut self) {
        let Turn::Barred(message, back) = &mut self.turn else { return };
        if !self.flights.is_empty() {
            return;
        }
        let message = std::mem::take(message);
        if let Some(back) = back.take() {
            self.write(Durability::Strict, vec![put(cursor_key(&self.shared.id), &back)], Then::Nothing);
        }
        if self.control.state == State::Saving {
            // What it has in the journal comes back with the model, should that be let in.
            return self.reopen(Error::protocol(message));
        }
        self.shut(None);
        self.pause(Cause::NotLetIn, message);
    }

    /// A sample has no result, and not because of what was asked for.
    pub(in crate::run) fn could_not_sample(&mut self, error: Error) {
        match error.status() {
            Some(404 | 410) => self.lose(error),
            Some(401..=403) => {
                self.shut(None);
                self.pause(Cause::NotLetIn, error.message().into());
            }
            // The step runs again, and so does what it had not recorded.
            _ => self.reopen(error),
        }
    }

    pub(super) fn answer_wanted(&mut self, saved: Result<String, Error>) {
        for reply in self.wanted.take().map(|wanted| wanted.replies).unwrap_or_default() {
            let _ = reply.send(saved.clone());
        }
    }

    pub(in crate::run) fn when(&self, step: u32) -> When {
        When { at: self.shared.now(), step, incarnation: self.control.incarnation }
    }

    pub(in crate::run) fn has_flight(&self, kind: Kind) -> bool {
        self.flights.iter().any(|flight| flight.tag.kind == kind)
    }

    pub(in crate::run) fn has_flights(&self) -> bool {
        !self.flights.is_empty()
    }
}

fn is_of_the_client(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Closed | ErrorKind::Crashed { .. } | ErrorKind::Refused)
}

/// The loss of a pass, per weight.
fn loss(metrics: &Metrics, weight: f64) -> f64 {
    metrics.get("loss:sum").copied().unwrap_or(f64::NAN) / weight.max(f64::MIN_POSITIVE)
}
