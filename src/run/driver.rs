//! The loop of a run: asks for the next call where it may, waits for whatever comes first, and takes that in.
//!
//! A call is asked for when the one before it is written, since a later one that is written without an earlier one would be
//! another run. Results of a model come in the order of its calls, so only the oldest is waited for.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::{LocalBoxFuture, select};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tinkex_protocol::metrics::Metrics;
use tinkex_protocol::{Datum, LossCall, SamplingSessionId};
use tinkex_supervise::{Answer, CancelledFuture, Context, Exit, Reply, faults, reply};

use super::event::{self, History, Reason, When};
use super::feed::{Batch, Feed};
use super::opening::{self, Incarnation, Opened, Seam};
use super::page::{Failure, FailureKind, News, Told};
use super::records::{
    Control, Cursor, Entry, Place, Row, State, control_key, cursor_key, entries_prefix, place_key, row_key,
    rows_prefix,
};
use super::spec::{From, Work};
use super::status::{Cause, Status};
use super::steps::Attempt;
use super::tag::{Kind, Tag};
use super::{Command, End, Shared};
use crate::error::{Error, Kind as ErrorKind, Outcome};
use crate::platform::Level;
use crate::request::Progress;
use crate::store::{Durability, Fence, Op, StoreErrorKind, put};
use crate::training::method::{Ask, Output};
use crate::training::{Asked, Name, Save, TrainingClient};

/// Between tries to reach a server that doesn't answer: doubled up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How long a server may take to end the session of a run that is over.
const PATIENCE_AT_THE_END: Duration = Duration::from_secs(5);

/// How often a client may be lost without a finished step in between.
const MOST_REOPENINGS: u32 = 3;

pub(super) struct Driver {
    pub(super) shared: Rc<Shared>,
    ctx: Context,
    pub(super) fence: Fence,
    control: Control,
    pub(super) cursor: Cursor,
    pub(super) history: History,
    stage: Stage,
    /// What is opened next.
    next: Next,
    /// Waits to be written; then the cursor is there.
    writing: Option<Writing>,
    /// A call could not be written: nothing is asked for before the cursor was read again.
    stuck: bool,
    /// Oldest first.
    flights: VecDeque<Flight>,
    feed: Option<Feed>,
    preparing: Option<LocalBoxFuture<'static, (Feed, Result<Option<Batch>, Failure>)>>,
    batch: Option<Batch>,
    /// The data are at their end.
    data_end: bool,
    /// The pass whose step is not finished.
    passed: Option<Passed>,
    /// What runs beside the order: samples.
    pub(super) beside: FuturesUnordered<LocalBoxFuture<'static, Beside>>,
    pub(super) attempt: Option<Attempt>,
    /// What was recorded of the step at the cursor.
    pub(super) entries: Vec<Entry>,
    /// Of these, what goes with the next call's commit.
    pub(super) unwritten: Vec<Op>,
    /// The step's own sampler, once its function has sampled.
    pub(super) own: Option<Entry>,
    /// The last steps behind which these were asked for.
    evaluated: u32,
    saved: u32,
    sampled: u32,
    saved_at: Duration,
    /// Somebody wants a checkpoint.
    wanted: Option<(Reason, Vec<Reply<Result<String, Error>>>)>,
    stopping: Option<Stopping>,
    /// In a row.
    failures: u32,
    attempts: u32,
    reopenings: u32,
    last_key: u32,
    /// When the last step was finished, or the first one begun.
    step_began: Duration,
    waits: (Cause, u64, String),
    told: Vec<u8>,
    stop: Pin<Box<CancelledFuture>>,
    over: bool,
}

enum Stage {
    Shut,
    Opening(LocalBoxFuture<'static, Result<Opened, Error>>),
    /// A pause before the next try.
    Pause(LocalBoxFuture<'static, ()>),
    Open(Incarnation),
}

enum Next {
    /// The model that there is.
    Same,
    /// A new one, since this has happened; from a checkpoint of this path, or as the run's policy has it.
    New { reason: String, path: Option<String> },
}

struct Writing {
    written: Answer<()>,
    next: Option<Cursor>,
}

/// A call whose result is to come.
struct Flight {
    key: u32,
    tag: Tag,
    output: LocalBoxFuture<'static, Result<Output, Error>>,
    /// It came back, so that what it made may have been used.
    resumed: bool,
}

struct Passed {
    key: u32,
    tag: Tag,
    loss: f64,
    metrics: Metrics,
}

pub(super) struct Stopping {
    checkpoint: bool,
    replies: Vec<Reply<Result<(), Error>>>,
}

/// What something beside the order ends with.
pub(super) enum Beside {
    /// Events of samples, and the key of the call that made their sampler.
    Samples { key: u32, step: u32, events: Result<Vec<Vec<u8>>, Error> },
    /// What a step's function sampled.
    Sampled { index: u32, value: Result<Vec<u8>, Error> },
}

enum Wake {
    Stop,
    Command(Command),
    Opened(Result<Opened, Error>),
    Paused,
    Written(bool),
    Output(Result<Output, Error>),
    Batch(Feed, Result<Option<Batch>, Failure>),
    Beside(Beside),
    StepEnded(Result<Told, Failure>),
    StepTimedOut,
}

impl Driver {
    /// Takes the run over from whoever has it, and reads where it is.
    pub(super) async fn load(shared: Rc<Shared>, ctx: Context) -> Result<Driver, Error> {
        let fence = Fence::claim(shared.service.store.clone(), super::run_key(&shared.id)).await?;
        let store = fence.store();
        let control = super::control(store, &shared.id).await?;
        let cursor = super::cursor(store, &shared.id).await?;
        let mut history = History::default();
        for (key, bytes) in store.load(&rows_prefix(&shared.id)).await? {
            // One that can't be read is a gap in the history, and nothing more.
            if let Ok(Row(row)) = tinkex_journal::record::Record::from_bytes(&key, &bytes) {
                history.take(&row);
            }
        }
        let feed = match &shared.spec.work {
            Work::Data { plan, .. } => Some(Feed::new(plan.clone(), shared.page.clone())),
            Work::Function { .. } => None,
        };
        let now = shared.service.transport.platform().now();
        let stop = Box::pin(ctx.shutdown());
        let next = match control.incarnation {
            0 => Next::New { reason: String::new(), path: None },
            _ => Next::Same,
        };
        let since = shared.now();
        let (entries, own) = opening::entries(&shared, &fence, cursor.step).await?;
        let mut driver = Driver {
            shared,
            ctx,
            fence,
            control,
            cursor,
            history,
            stage: Stage::Shut,
            next,
            writing: None,
            stuck: false,
            flights: VecDeque::new(),
            feed,
            preparing: None,
            batch: None,
            data_end: false,
            passed: None,
            beside: FuturesUnordered::new(),
            attempt: None,
            entries,
            unwritten: Vec::new(),
            own,
            evaluated: 0,
            saved: 0,
            sampled: 0,
            saved_at: now,
            wanted: None,
            stopping: None,
            failures: 0,
            attempts: 0,
            reopenings: 0,
            last_key: 0,
            step_began: now,
            waits: (Cause::Starting, since, String::new()),
            told: Vec::new(),
            stop,
            over: false,
        };
        driver.look_at_history();
        Ok(driver)
    }

    /// What was asked for behind which step, as far as the history has it.
    fn look_at_history(&mut self) {
        let marks = self.history.marks(self.control.incarnation);
        (self.evaluated, self.saved, self.sampled) = (marks.evaluated, marks.saved, marks.sampled);
    }

    pub(super) async fn run(mut self) -> Result<(), Exit> {
        if let Some(other) = self.other_version() {
            self.pause(Cause::FunctionChanged, other).await;
        }
        while !self.over {
            self.act();
            self.tell_status();
            if self.control.state.is_over() {
                self.leave().await;
                break;
            }
            let wake = self.wait().await;
            faults::point("run");
            self.take(wake).await;
            self.close_step().await;
        }
        self.shut().await;
        Ok(())
    }

    /// What is wrong with the page's function, where it isn't that of the step under way.
    fn other_version(&self) -> Option<String> {
        let (kept, given) = (&self.control.version, &self.shared.version);
        let other = kept != given && self.control.state == State::Running && !self.entries.is_empty();
        other.then(|| {
            let step = self.cursor.step;
            format!("step {step} was begun with version {kept} of its function, and this is version {given}")
        })
    }

    // ---- What may be asked for.

    fn act(&mut self) {
        match self.stage {
            Stage::Shut if self.wants_model() => self.open(),
            Stage::Shut if self.stopping.is_some() => self.stopped(),
            Stage::Open(_) => self.ask_next(),
            _ => {}
        }
    }

    fn wants_model(&self) -> bool {
        let has_one = self.control.incarnation > 0 && matches!(self.next, Next::Same) && self.failures == 0;
        match self.control.state {
            State::Running => true,
            // Its session is kept alive, and what was asked for is taken in.
            State::Paused if self.control.cause == Cause::PausedByUser.as_str() => has_one,
            State::Paused => has_one && self.stopping.is_some(),
            _ => false,
        }
    }

    fn ask_next(&mut self) {
        if self.writing.is_some() || self.stuck {
            return;
        }
        let Stage::Open(open) = &self.stage else { return };
        let client = open.client.clone();
        let behind = self.cursor.step - 1;
        let between = self.attempt.is_none() && self.cursor.call == 0;
        if between && behind > 0 && self.ask_behind(&client, behind) {
            return;
        }
        if self.stopping.is_some() && between {
            return self.stopped();
        }
        if self.control.state != State::Running && between {
            return;
        }
        if self.is_at_the_end() {
            return self.ask_at_the_end(&client, behind);
        }
        match &self.shared.spec.work {
            Work::Data { loss, .. } => {
                let loss = loss.clone();
                self.ask_of_data(&client, &loss);
            }
            Work::Function { .. } => self.ask_of_function(&client),
        }
    }

    fn is_at_the_end(&self) -> bool {
        self.shared.spec.steps().is_some_and(|steps| self.cursor.step > steps) || self.data_end
    }

    /// What is due behind a step, one after another.
    fn ask_behind(&mut self, client: &TrainingClient, step: u32) -> bool {
        let shared = self.shared.clone();
        let spec = &shared.spec;
        let due = |every: u32| step % every == 0;
        if let Some(evaluation) = &spec.evaluation
            && due(evaluation.every)
            && self.evaluated < step
        {
            return self.ask_evaluation(client, step);
        }
        if let Some(reason) = self.checkpoint_due(step) {
            return self.ask_checkpoint(client, step, reason);
        }
        if let Some(samples) = &spec.samples
            && due(samples.every)
            && self.sampled < step
        {
            self.sampled = step;
            self.ask(client, Tag::new(step, Kind::Sampler), client.new_sampler(), Vec::new(), None);
            return true;
        }
        false
    }

    fn checkpoint_due(&self, step: u32) -> Option<Reason> {
        let spec = &self.shared.spec.checkpoints;
        let late = spec.every.is_some_and(|every| self.now() >= self.saved_at + every);
        let stop = self.stopping.as_ref().is_some_and(|stopping| stopping.checkpoint);
        if self.saved < step {
            if spec.every_steps.is_some_and(|every| step % every == 0) || late {
                return Some(Reason::Cadence);
            }
            if stop {
                return Some(Reason::Stop);
            }
            return self.wanted.as_ref().map(|(reason, _)| *reason);
        }
        None
    }

    fn ask_evaluation(&mut self, client: &TrainingClient, step: u32) -> bool {
        let Some(evaluation) = &self.shared.spec.evaluation else { return false };
        self.evaluated = step;
        let data = evaluation.data.clone();
        let (weight, tokens) = weigh(&data);
        let loss = match &self.shared.spec.work {
            Work::Data { loss, .. } => LossCall { forward_only: true, ..loss.clone() },
            Work::Function { .. } => LossCall { forward_only: true, ..LossCall::new("cross_entropy") },
        };
        match client.cut(data, &loss) {
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

    fn ask_checkpoint(&mut self, client: &TrainingClient, step: u32, reason: Reason) -> bool {
        self.saved = step;
        self.saved_at = self.now();
        let Shared { id, spec, .. } = &*self.shared;
        let name = format!("run-{id}-{}-{step}", self.control.incarnation);
        // Asked for again under the same name, it is the same.
        let save =
            Save { name, ttl_seconds: spec.checkpoints.ttl_seconds, overwrite: true, user_metadata: None };
        let place = Place(self.cursor.position.clone());
        let with = vec![put(place_key(id, self.control.incarnation, step), &place)];
        self.ask(client, Tag::new(step, Kind::Checkpoint(reason)), Ask::SaveState(save), with, None);
        true
    }

    /// The last evaluation and the last checkpoint; then it is done.
    fn ask_at_the_end(&mut self, client: &TrainingClient, step: u32) {
        if step > 0
            && self.shared.spec.evaluation.is_some()
            && self.evaluated < step
            && self.ask_evaluation(client, step)
        {
            return;
        }
        if step > 0 && self.saved < step {
            self.ask_checkpoint(client, step, Reason::End);
        } else if self.is_quiet() {
            self.control.state = State::Completed;
        }
    }

    fn is_quiet(&self) -> bool {
        self.flights.is_empty() && self.beside.is_empty() && self.writing.is_none()
    }

    fn ask_of_data(&mut self, client: &TrainingClient, loss: &LossCall) {
        let Cursor { step, call, position } = self.cursor.clone();
        if call == 1 {
            let ask = Ask::OptimStep(self.shared.spec.adam(step));
            let next = Cursor { step: step + 1, call: 0, position };
            return self.ask(client, Tag::new(step, Kind::Optim), ask, Vec::new(), Some(next));
        }
        if self.batch.is_none() {
            if let Some(feed) = self.feed.take() {
                self.preparing = Some(feed.next(position).boxed_local());
            }
            return;
        }
        if (step - 1).saturating_sub(self.history.step) as usize >= self.shared.spec.pipeline {
            return;
        }
        let Some(Batch { data, after }) = self.batch.take() else { return };
        let (weight, tokens) = weigh(&data);
        let next = Cursor { step, call: 1, position: after };
        match client.cut(data, loss) {
            Ok(ask) => {
                let tag = Tag { weight, tokens, ..Tag::new(step, Kind::Train) };
                self.ask(client, tag, ask, Vec::new(), Some(next));
            }
            Err(error) => self.refuse_batch(error),
        }
    }

    /// Asks for a call. With it is written `with`, and where the run is then.
    pub(super) fn ask(
        &mut self,
        client: &TrainingClient,
        tag: Tag,
        ask: Ask,
        mut with: Vec<Op>,
        next: Option<Cursor>,
    ) {
        if let Some(next) = &next {
            with.push(put(cursor_key(&self.shared.id), next));
        }
        self.last_key += 1;
        let key = self.last_key;
        let (told, written) = reply();
        let name = Name { key, label: tag.to_label(), with, written: Some(told) };
        if self.flights.is_empty() && self.history.step + 1 == tag.step && tag.kind == Kind::Train {
            self.step_began = self.now();
        }
        let asked = client.ask(ask, name, &Progress::default());
        self.fly(key, tag, asked);
        self.writing = Some(Writing { written, next });
    }

    fn fly(&mut self, key: u32, tag: Tag, asked: Asked) {
        let resumed = asked.resumed;
        self.flights.push_back(Flight { key, tag, output: asked.output().boxed_local(), resumed });
    }

    // ---- Opening and losing the model.

    fn open(&mut self) {
        let (shared, fence) = (self.shared.clone(), self.fence.clone());
        let control = self.control.clone();
        let opening = match &self.next {
            Next::Same => opening::resume(shared, fence, control).boxed_local(),
            Next::New { reason, path } => {
                let first = self.control.incarnation == 0;
                let seam = (!first).then(|| self.seam(reason.clone(), path.clone()));
                opening::create(shared, fence, control, seam).boxed_local()
            }
        };
        self.stage = Stage::Opening(opening);
    }

    /// From which checkpoint the next model is made.
    fn seam(&self, reason: String, path: Option<String>) -> Seam {
        let history = &self.history;
        let (from, path) = match (path, &self.shared.spec.recovery.from) {
            (Some(path), _) => (history.of_path(&path).cloned(), Some(path)),
            (None, From::Latest) => (history.latest().cloned(), None),
            (None, From::Best) => (history.best().or(history.latest()).cloned(), None),
            (None, From::Path(path)) => (history.of_path(path).cloned(), Some(path.clone())),
        };
        Seam { from, path, reason, reached: history.step }
    }

    fn opened(&mut self, opened: Opened) {
        let Opened { incarnation, control, cursor, entries, own, seam } = opened;
        let new = control.incarnation != self.control.incarnation;
        // Its state may have been changed meanwhile, and is written then.
        self.control = Control {
            incarnation: control.incarnation,
            model: control.model,
            session: control.session,
            ..self.control.clone()
        };
        self.cursor = cursor;
        (self.entries, self.own) = (entries, own);
        self.failures = 0;
        self.next = Next::Same;
        self.step_began = self.now();
        if let Some(seam) = seam {
            self.history.take(&seam);
            self.shared.page.tell(News::Event(seam));
        }
        if new {
            self.look_at_history();
            let behind = self.cursor.step - 1;
            (self.evaluated, self.saved, self.sampled) = (behind, behind, behind);
        }
        let client = incarnation.client.clone();
        for pending in client.pending() {
            let Some(tag) = Tag::of_label(&pending.label) else { continue };
            self.last_key += 1;
            let key = self.last_key;
            match tag.kind {
                Kind::Evaluate => self.evaluated = self.evaluated.max(tag.step),
                Kind::Checkpoint(_) => self.saved = self.saved.max(tag.step),
                Kind::Sampler => self.sampled = self.sampled.max(tag.step),
                _ => {}
            }
            match client.result(pending.first, key, &Progress::default()) {
                Ok(asked) => self.fly(key, tag, asked),
                Err(error) => self.log(&format!("a call of the run is lost: {error}")),
            }
        }
        self.stage = Stage::Open(incarnation);
    }

    /// Lets the model go, and all that was asked of it: what has a number comes back with it.
    async fn shut(&mut self) {
        self.flights.clear();
        self.writing = None;
        self.stuck = false;
        self.passed = None;
        self.batch = None;
        self.beside = FuturesUnordered::new();
        self.end_attempt();
        if self.preparing.take().is_some() || self.feed.is_none() {
            if let Work::Data { plan, .. } = &self.shared.spec.work {
                self.feed = Some(Feed::new(plan.clone(), self.shared.page.clone()));
            }
        }
        self.data_end = false;
        if let Stage::Open(incarnation) = std::mem::replace(&mut self.stage, Stage::Shut) {
            incarnation.close(&self.shared).await;
        }
    }

    async fn not_opened(&mut self, error: Error) {
        self.stage = Stage::Shut;
        if self.stopping.is_some() && self.control.state != State::Running {
            // It stops without a last checkpoint.
            self.failures += 1;
            return self.stopped();
        }
        let made_new = matches!(self.next, Next::New { .. });
        match error.kind() {
            ErrorKind::Storage(StoreErrorKind::Fenced) => self.leave_as_fenced(&error),
            ErrorKind::Storage(_) => self.pause(Cause::Storage, error.message().into()).await,
            ErrorKind::Api { status: 401..=403, .. } => {
                self.pause(Cause::NotLetIn, error.message().into()).await
            }
            ErrorKind::Connection | ErrorKind::Timeout | ErrorKind::Api { status: 408 | 429 | 500.., .. } => {
                let pause = (FIRST_PAUSE * 2u32.pow(self.failures.min(5))).min(LONGEST_PAUSE);
                self.failures += 1;
                self.hold(pause, error.message());
            }
            ErrorKind::Api { status: 404 | 410, .. } | ErrorKind::RequestFailed { .. } if made_new => {
                if self.control.incarnation == 0 {
                    return self.pause(Cause::Refused, error.message().into()).await;
                }
                let kept: Vec<&str> = self.history.checkpoints.iter().map(|saved| &*saved.path).collect();
                let message = format!("{}; checkpoints that it saved: {}", error.message(), kept.join(", "));
                self.pause(Cause::CheckpointGone, message).await;
            }
            ErrorKind::Closed if self.ctx.is_stopping() => {}
            _ if made_new => self.pause(Cause::Refused, error.message().into()).await,
            _ => self.lose(error).await,
        }
    }

    fn hold(&mut self, pause: Duration, why: &str) {
        self.waits.2 = why.to_owned();
        let timer = self.shared.service.transport.platform().timer(pause);
        self.stage = Stage::Pause(timer.map(drop).boxed_local());
    }

    /// The model is gone.
    async fn lose(&mut self, error: Error) {
        self.shut().await;
        let recovery = self.shared.spec.recovery.clone();
        self.next = Next::New { reason: error.message().into(), path: None };
        if recovery.ask {
            return self.pause(Cause::ModelGone, error.message().into()).await;
        }
        if self.attempts >= recovery.attempts {
            let message =
                format!("lost {} times without a finished step: {}", self.attempts + 1, error.message());
            return self.pause(Cause::ModelGone, message).await;
        }
        let pause = recovery.backoff * 2u32.pow(self.attempts.min(10));
        self.attempts += 1;
        self.hold(pause, error.message());
    }

    // ---- What comes.

    async fn wait(&mut self) -> Wake {
        let shared = self.shared.clone();
        let _waiting = self.ctx.waiting_for(self.waits.0.as_str());
        let mut timeout = self.attempt_timeout();
        poll_fn(|cx| {
            if self.stop.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Wake::Stop);
            }
            if let Some(inbox) = &mut *shared.inbox.borrow_mut()
                && let Poll::Ready(Some(command)) = pin!(inbox.next()).poll(cx)
            {
                return Poll::Ready(Wake::Command(command));
            }
            if let Some(writing) = &mut self.writing
                && let Poll::Ready(written) = writing.written.poll_unpin(cx)
            {
                return Poll::Ready(Wake::Written(written.is_ok()));
            }
            if let Some(flight) = self.flights.front_mut()
                && let Poll::Ready(output) = flight.output.poll_unpin(cx)
            {
                return Poll::Ready(Wake::Output(output));
            }
            match &mut self.stage {
                Stage::Opening(opening) => {
                    if let Poll::Ready(opened) = opening.poll_unpin(cx) {
                        return Poll::Ready(Wake::Opened(opened));
                    }
                }
                Stage::Pause(timer) => {
                    if timer.poll_unpin(cx).is_ready() {
                        return Poll::Ready(Wake::Paused);
                    }
                }
                Stage::Shut | Stage::Open(_) => {}
            }
            if let Some(preparing) = &mut self.preparing
                && let Poll::Ready((feed, batch)) = preparing.poll_unpin(cx)
            {
                return Poll::Ready(Wake::Batch(feed, batch));
            }
            if let Some(told) = self.attempt.as_mut().and_then(|attempt| attempt.poll(cx)) {
                return Poll::Ready(Wake::StepEnded(told));
            }
            if let Poll::Ready(Some(beside)) = self.beside.poll_next_unpin(cx) {
                return Poll::Ready(Wake::Beside(beside));
            }
            match timeout.as_mut().map(|timeout| timeout.poll_unpin(cx)) {
                Some(Poll::Ready(())) => Poll::Ready(Wake::StepTimedOut),
                _ => Poll::Pending,
            }
        })
        .await
    }

    /// Runs while a step's function has nothing under way.
    fn attempt_timeout(&self) -> Option<LocalBoxFuture<'static, ()>> {
        let Work::Function { timeout, .. } = self.shared.spec.work else { return None };
        let idle = self.attempt.as_ref().is_some_and(Attempt::is_idle) && self.is_quiet();
        idle.then(|| self.shared.service.transport.platform().timer(timeout).map(drop).boxed_local())
    }

    async fn take(&mut self, wake: Wake) {
        match wake {
            Wake::Stop => self.over = true,
            Wake::Command(command) => self.hear(command).await,
            Wake::Opened(Ok(opened)) => self.opened(opened),
            Wake::Opened(Err(error)) => self.not_opened(error).await,
            Wake::Paused => self.stage = Stage::Shut,
            Wake::Written(written) => {
                let next = self.writing.take().and_then(|writing| writing.next);
                match (written, next) {
                    (true, Some(next)) => self.cursor = next,
                    (true, None) => {}
                    (false, _) => self.stuck = true,
                }
            }
            Wake::Output(output) => {
                if let Some(flight) = self.flights.pop_front() {
                    match output {
                        Ok(output) => self.finished(flight, output).await,
                        Err(error) => self.failed(flight, error).await,
                    }
                }
            }
            Wake::Batch(feed, batch) => {
                self.preparing = None;
                self.feed = Some(feed);
                match batch {
                    Ok(Some(batch)) => self.batch = Some(batch),
                    Ok(None) => self.data_end = true,
                    Err(failure) => {
                        let cause = match failure.kind {
                            FailureKind::DataMismatch => Cause::DataChanged,
                            _ => Cause::StepFailed,
                        };
                        self.pause(cause, failure.message).await;
                    }
                }
            }
            Wake::Beside(Beside::Samples { key, step, events }) => self.sampled_behind(key, step, events),
            Wake::Beside(Beside::Sampled { index, value }) => self.call_sampled(index, value).await,
            Wake::StepEnded(told) => self.function_ended(told).await,
            Wake::StepTimedOut => {
                let message = "the function of the step had no call under way for longer than stepTimeoutMs";
                self.pause(Cause::StepTimedOut, message.into()).await;
            }
        }
    }

    async fn hear(&mut self, command: Command) {
        match command {
            Command::Pause(reply) => {
                let done = match self.control.state {
                    State::Running => self.paused_by_user().await,
                    State::Paused => Ok(()),
                    over => Err(is_over(over)),
                };
                let _ = reply.send(done);
            }
            Command::Resume { from, restart_step, reply } => {
                let resumed = self.resume(from, restart_step).await;
                let _ = reply.send(resumed);
            }
            Command::Stop { checkpoint, reply } => match self.control.state.is_over() {
                true => drop(reply.send(Err(is_over(self.control.state)))),
                false => {
                    self.end_attempt();
                    let stopping = self.stopping.get_or_insert(Stopping { checkpoint, replies: Vec::new() });
                    stopping.checkpoint &= checkpoint;
                    stopping.replies.push(reply);
                }
            },
            Command::Checkpoint(reply) => {
                let behind = self.cursor.step - 1;
                let latest = self
                    .history
                    .latest()
                    .filter(|saved| (saved.incarnation, saved.step) == (self.control.incarnation, behind));
                match latest {
                    Some(saved) => drop(reply.send(Ok(saved.path.clone()))),
                    None if self.control.state != State::Running => {
                        let message = "the run isn't running: resume it first";
                        let _ = reply.send(Err(Error::invalid("run", message)));
                    }
                    None => self.want(Reason::Asked, Some(reply)),
                }
            }
            Command::Hidden if self.shared.spec.checkpoints.on_hide => self.want(Reason::Hidden, None),
            Command::Hidden => {}
            Command::Call(call) => self.call(call).await,
            Command::Note { attempt, index, entry } => self.note(attempt, index, entry),
        }
    }

    fn want(&mut self, reason: Reason, reply: Option<Reply<Result<String, Error>>>) {
        let (known, replies) = self.wanted.get_or_insert((reason, Vec::new()));
        if reason == Reason::Asked {
            *known = reason;
        }
        replies.extend(reply);
    }

    async fn paused_by_user(&mut self) -> Result<(), Error> {
        self.set(State::Paused, Cause::PausedByUser.as_str(), String::new()).await
    }

    async fn resume(&mut self, from: Option<String>, restart_step: bool) -> Result<(), Error> {
        if self.control.state.is_over() {
            return Err(is_over(self.control.state));
        }
        let cause = Cause::of_name(&self.control.cause);
        if self.control.state == State::Paused
            && cause == Some(Cause::FunctionChanged)
            && !restart_step
            && from.is_none()
        {
            let kept = &self.control.version;
            if *kept != self.shared.version {
                let message = format!(
                    "the step was begun with version {kept} of its function: give that one, begin the step again with \
                     resume({{ step: \"restart\" }}), or stop()"
                );
                return Err(Error::invalid("step", message));
            }
        }
        if restart_step {
            self.forget_step().await?;
        }
        if let Some(from) = from {
            self.shut().await;
            let path = (from != "checkpoint").then_some(from);
            let reason = match cause {
                Some(Cause::LossNotFinite) => "the loss was not finite".to_owned(),
                _ => "asked for".to_owned(),
            };
            self.next = Next::New { reason, path };
        }
        if self.control.state == State::Paused {
            (self.failures, self.attempts, self.reopenings) = (0, 0, 0);
            if self.stuck {
                self.shut().await;
            }
            self.set(State::Running, "", String::new()).await?;
        }
        Ok(())
    }

    /// What was recorded of the step under way is nothing any more.
    async fn forget_step(&mut self) -> Result<(), Error> {
        self.end_attempt();
        let found = self.fence.store().load(&entries_prefix(&self.shared.id)).await?;
        let mut ops: Vec<Op> = found.into_iter().map(|(key, _)| Op::Delete(key)).collect();
        let cursor = Cursor { call: 0, ..self.cursor.clone() };
        ops.push(put(cursor_key(&self.shared.id), &cursor));
        let control = Control { version: self.shared.version.clone(), ..self.control.clone() };
        ops.push(put(control_key(&self.shared.id), &control));
        self.fence.commit(Durability::Strict, ops).await?;
        (self.cursor, self.control) = (cursor, control);
        self.entries.clear();
        self.own = None;
        Ok(())
    }

    /// A result has come.
    async fn finished(&mut self, flight: Flight, output: Output) {
        let Flight { key, tag, resumed, .. } = flight;
        let step = tag.step;
        match (tag.kind, output) {
            (Kind::Train, Output::Forward(output)) => {
                let loss = total_loss(&output.metrics) / tag.weight.max(f64::MIN_POSITIVE);
                let finite = loss.is_finite();
                // One whose step was finished by the history has no second row.
                if let Some(before) = self.passed.replace(Passed { key, tag, loss, metrics: output.metrics })
                {
                    self.seen(before.key, Vec::new());
                }
                if !finite && self.control.state == State::Running {
                    let message = format!(
                        "the loss of step {step} is {}; its update may have been made. Checkpoints before it are kept",
                        if loss.is_nan() { "NaN" } else { "infinite" }
                    );
                    self.pause(Cause::LossNotFinite, message).await;
                }
            }
            (Kind::Optim, Output::Step(metrics)) => {
                let passed = self.passed.take_if(|passed| passed.tag.step == step);
                self.step_done(key, step, passed, metrics);
            }
            (Kind::Evaluate, Output::Forward(output)) => {
                let loss = total_loss(&output.metrics) / tag.weight.max(f64::MIN_POSITIVE);
                let row = event::evaluation(self.when(step), loss, tag.tokens);
                self.keep_row(key, step, "evaluation", row);
            }
            (Kind::Checkpoint(reason), Output::Path(path)) => {
                let row = event::checkpoint(self.when(step), &path, reason);
                self.keep_row(key, step, "checkpoint", row);
                if let Some((_, replies)) = self.wanted.take() {
                    for reply in replies {
                        let _ = reply.send(Ok(path.clone()));
                    }
                }
            }
            (Kind::Sampler, Output::Sampler(id)) => self.sample_behind(key, step, id, resumed),
            (Kind::Call(index), output) => self.call_done(key, index, output),
            _ => {
                self.seen(key, Vec::new());
                self.log("a result of a run is of another kind than what was asked for");
            }
        }
    }

    fn step_done(&mut self, key: u32, step: u32, passed: Option<Passed>, mut metrics: Metrics) {
        let now = self.now();
        let ms = now.saturating_sub(self.step_began).as_millis() as u64;
        self.step_began = now;
        let (mut loss, mut tokens, mut before) = (None, 0, None);
        if let Some(Passed { key, tag, loss: of_pass, metrics: of_it }) = passed {
            (loss, tokens, before) = (Some(of_pass), tag.tokens, Some(key));
            for (name, value) in of_it.iter() {
                metrics.insert(name.clone(), *value);
            }
        }
        let rate = Some(self.shared.spec.schedule.rate(step, self.shared.spec.steps()));
        let done = event::Step { loss, tokens, learning_rate: rate, ms, metrics: &metrics, value: None };
        let row = event::step(self.when(step), &done);
        self.keep_row(key, step, "step", row);
        if let Some(before) = before {
            self.seen(before, Vec::new());
        }
        self.step_finished();
    }

    pub(super) fn step_finished(&mut self) {
        (self.attempts, self.reopenings) = (0, 0);
    }

    /// Writes a row with the end of its call, and tells of it.
    pub(super) fn keep_row(&mut self, key: u32, step: u32, kind: &str, row: Vec<u8>) {
        let row_key = row_key(&self.shared.id, self.control.incarnation, step, kind, 0);
        self.seen(key, vec![put(row_key, &Row(row.clone()))]);
        self.happened(row);
    }

    pub(super) fn happened(&mut self, row: Vec<u8>) {
        self.history.take(&row);
        self.shared.page.tell(News::Event(row));
    }

    pub(super) fn seen(&self, key: u32, with: Vec<Op>) {
        if let Stage::Open(open) = &self.stage {
            open.client.seen_with(key, with);
        }
    }

    /// Samples from the weights behind a step, beside all else.
    fn sample_behind(&mut self, key: u32, step: u32, id: SamplingSessionId, used: bool) {
        let Stage::Open(open) = &self.stage else { return };
        let Some(samples) = self.shared.spec.samples.clone() else { return };
        let (service, when) = (open.service.clone(), self.when(step));
        let sampling = async move {
            let made = service.start_sampling_client(id, used).await?;
            let mut events = Vec::new();
            for (nth, prompt) in samples.prompts.iter().enumerate() {
                let sample = crate::sampling::Sample { prompt: prompt.clone(), ..samples.sample.clone() };
                let sampled = made.client.sample(sample, &Progress::default()).await?;
                events.extend(
                    sampled.response.sequences.iter().map(|sequence| event::sample(when, nth, sequence)),
                );
            }
            service.close_client(&made.pid).await;
            Ok(events)
        };
        self.beside.push(sampling.map(move |events| Beside::Samples { key, step, events }).boxed_local());
    }

    fn sampled_behind(&mut self, key: u32, step: u32, events: Result<Vec<Vec<u8>>, Error>) {
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
    async fn failed(&mut self, flight: Flight, error: Error) {
        let Flight { key, tag, .. } = flight;
        if let Kind::Call(index) = tag.kind
            && self.call_failed(key, index, &error)
        {
            return;
        }
        if matches!(tag.kind, Kind::Checkpoint(_))
            && let Some((_, replies)) = self.wanted.take()
        {
            for reply in replies {
                let _ = reply.send(Err(error.clone()));
            }
        }
        let ended = match &self.stage {
            Stage::Open(open) => open.service.session().lost(),
            _ => None,
        };
        match error.kind() {
            ErrorKind::Storage(StoreErrorKind::Fenced) => self.leave_as_fenced(&error),
            _ if self.fence.lost().is_some() => self.leave_as_fenced(&error),
            ErrorKind::Api { status: 404 | 410, .. } => self.lose(error).await,
            _ if ended.is_some() => self.lose(ended.unwrap_or(error)).await,
            ErrorKind::Api { status: 401..=403, .. } => {
                self.shut().await;
                self.pause(Cause::NotLetIn, error.message().into()).await;
            }
            ErrorKind::Storage(StoreErrorKind::Damaged) => {
                // Whether it was applied can't be known; what is behind a checkpoint is.
                self.seen(key, Vec::new());
                self.lose(error).await;
            }
            ErrorKind::Storage(_) => {
                self.shut().await;
                self.pause(Cause::Storage, error.message().into()).await;
            }
            // It goes on without this caller, or its client has gone: it comes back with the model.
            _ if error.outcome() == Outcome::Journaled => self.reopen(error).await,
            ErrorKind::Closed | ErrorKind::Crashed { .. } | ErrorKind::Refused => self.reopen(error).await,
            _ => {
                self.seen(key, Vec::new());
                if let Some(passed) = self.passed.take_if(|passed| passed.tag.step == tag.step) {
                    self.seen(passed.key, Vec::new());
                }
                let message = format!("the server refused a call of step {}: {}", tag.step, error.message());
                self.pause(Cause::Refused, message).await;
                if tag.kind == Kind::Optim {
                    // It counts as done: nothing will come of it.
                    self.history.step = tag.step;
                }
            }
        }
    }

    /// Something of the run itself could not be written.
    pub(super) async fn not_written(&mut self, error: Error) {
        if self.fence.lost().is_some() {
            return self.leave_as_fenced(&error);
        }
        self.shut().await;
        self.pause(Cause::Storage, error.message().into()).await;
    }

    /// A sample has no result, and not because of what was asked for.
    pub(super) async fn could_not_sample(&mut self, error: Error) {
        match error.status() {
            Some(404 | 410) => self.lose(error).await,
            Some(401..=403) => {
                self.shut().await;
                self.pause(Cause::NotLetIn, error.message().into()).await;
            }
            // The step runs again, and so does what it had not recorded.
            _ => self.reopen(error).await,
        }
    }

    async fn reopen(&mut self, error: Error) {
        self.shut().await;
        self.reopenings += 1;
        if self.reopenings > MOST_REOPENINGS && error.outcome() != Outcome::Journaled {
            return self.pause(Cause::Crashed, error.message().into()).await;
        }
        self.hold(FIRST_PAUSE * self.reopenings.min(10), error.message());
    }

    fn refuse_batch(&mut self, error: Error) {
        // Nothing of it was sent: the cursor stays in front of it.
        let shared = self.shared.clone();
        self.control.state = State::Paused;
        self.control.cause = Cause::Refused.as_str().to_owned();
        self.control.message =
            format!("the batch of step {} can't be sent: {}", self.cursor.step, error.message());
        self.control.since = shared.now();
        let control = put(control_key(&shared.id), &self.control);
        drop(self.fence.commit(Durability::Strict, vec![control]));
    }

    // ---- States.

    pub(super) async fn pause(&mut self, cause: Cause, message: String) {
        self.end_attempt();
        if self.control.state != State::Running {
            return;
        }
        if let Err(error) = self.set(State::Paused, cause.as_str(), message).await {
            self.log(&format!("that the run is paused could not be written down: {error}"));
        }
    }

    async fn set(&mut self, state: State, cause: &str, message: String) -> Result<(), Error> {
        self.control = Control {
            state,
            cause: cause.to_owned(),
            message,
            since: self.shared.now(),
            ..self.control.clone()
        };
        let record = put(control_key(&self.shared.id), &self.control);
        let written = self.fence.commit(Durability::Strict, vec![record]).await;
        if let Err(error) = &written
            && self.fence.lost().is_some()
        {
            self.leave_as_fenced(error);
        }
        written
    }

    fn stopped(&mut self) {
        if self.is_quiet() {
            self.control.state = State::Stopped;
            (self.control.cause, self.control.message) = Default::default();
        }
    }

    /// It is over: writes that down, and lets the server end its session.
    async fn leave(&mut self) {
        let record = put(control_key(&self.shared.id), &self.control);
        if let Err(error) = self.fence.commit(Durability::Strict, vec![record]).await {
            self.log(&format!("that the run is over could not be written down: {error}"));
        }
        if let Stage::Open(open) = &self.stage {
            let patience = self.shared.service.transport.platform().timer(PATIENCE_AT_THE_END);
            // A server that doesn't answer ends it by itself.
            let _ = select(pin!(open.service.finish()), patience).await;
        }
        for reply in self.stopping.take().map(|stopping| stopping.replies).unwrap_or_default() {
            let _ = reply.send(Ok(()));
        }
        self.over = true;
        self.shared.end(End { state: self.control.state.as_str(), cause: None });
    }

    fn leave_as_fenced(&mut self, error: &Error) {
        self.over = true;
        self.shared.end(End { state: "closed", cause: Some((Cause::Fenced, error.message().to_owned())) });
    }

    // ---- What is told.

    fn tell_status(&mut self) {
        let cause = match &self.stage {
            Stage::Pause(_) => Cause::WaitingForServer,
            _ if matches!(self.next, Next::New { .. }) && self.control.incarnation > 0 => Cause::Recovering,
            Stage::Shut | Stage::Opening(_) => Cause::Starting,
            Stage::Open(_) if self.attempt.is_some() && self.flights.is_empty() && self.beside.is_empty() => {
                Cause::WaitingForStep
            }
            Stage::Open(_) if self.flights.is_empty() && self.preparing.is_some() => Cause::WaitingForData,
            Stage::Open(_) => Cause::WaitingForServer,
        };
        let cause = if matches!(self.stage, Stage::Pause(_))
            && matches!(self.next, Next::New { .. })
            && self.control.incarnation > 0
        {
            Cause::Recovering
        } else {
            cause
        };
        if cause != self.waits.0 {
            let message = if matches!(self.stage, Stage::Pause(_)) {
                std::mem::take(&mut self.waits.2)
            } else {
                String::new()
            };
            self.waits = (cause, self.shared.now(), message);
        }
        let control = &self.control;
        let checkpoint = self.history.latest().map(|saved| (saved.step, &*saved.path));
        let status = Status {
            id: &self.shared.id,
            spec: &self.shared.spec,
            control,
            step: self.history.step,
            submitted: if self.cursor.call > 0 { self.cursor.step } else { self.cursor.step - 1 },
            cause: match control.state {
                State::Running => Some((self.waits.0, self.waits.1, &*self.waits.2)),
                _ => super::status::kept_cause(control),
            },
            checkpoint,
            created: self.shared.created,
        };
        let told = status.to_plain();
        if told != self.told {
            self.shared.status.replace(told.clone());
            self.shared.page.tell(News::Status(told.clone()));
            self.told = told;
        }
    }

    pub(super) fn when(&self, step: u32) -> When {
        When { at: self.shared.now(), step, incarnation: self.control.incarnation }
    }

    pub(super) fn incarnation(&self) -> u32 {
        self.control.incarnation
    }


    pub(super) fn open_incarnation(&self) -> Option<&Incarnation> {
        match &self.stage {
            Stage::Open(open) => Some(open),
            _ => None,
        }
    }

    pub(super) fn is_writing(&self) -> bool {
        self.writing.is_some() || self.stuck
    }

    pub(super) fn has_flight(&self, kind: Kind) -> bool {
        self.flights.iter().any(|flight| flight.tag.kind == kind)
    }

    pub(super) fn has_flights(&self) -> bool {
        !self.flights.is_empty()
    }

    pub(super) fn now(&self) -> Duration {
        self.shared.service.transport.platform().now()
    }

    pub(super) fn log(&self, message: &str) {
        self.shared.service.transport.platform().log(Level::Warn, message);
    }
}

/// The loss of a pass, summed over its data.
fn total_loss(metrics: &Metrics) -> f64 {
    metrics.get("loss:sum").copied().unwrap_or(f64::NAN)
}

/// The sum of the weights of data, and how many tokens they have.
pub(super) fn weigh(data: &[Datum]) -> (f64, u64) {
    let (mut weight, mut tokens) = (0.0, 0);
    for datum in data {
        tokens += datum.model_input.tokens().map_or(0, |tokens| tokens.len() as u64);
        let inputs = &datum.loss_fn_inputs;
        weight += match inputs.get("weights").and_then(|weights| weights.iter_f32()) {
            Some(weights) => weights.map(f64::from).sum(),
            None => inputs.get("target_tokens").map_or(0.0, |targets| targets.len() as f64),
        };
    }
    (weight, tokens)
}

fn is_over(state: State) -> Error {
    Error::invalid("run", format!("the run is {}: start another one", state.as_str()))
}
