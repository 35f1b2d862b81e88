//! The loop of a run: asks for the next call where it may, waits for whatever comes first, and takes that in.
//!
//! Only waiting takes time. What is to be written is begun in its order, and what depends on its being written comes with
//! the end of the write.

mod asking;
mod commands;
mod incarnations;
mod results;
mod telling;

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tinkex_journal::record::Record;
use tinkex_protocol::Datum;
use tinkex_supervise::{Answer, CancelledFuture, Context, Exit, Reply, faults};

use super::event::{Behind, History, Reason};
use super::feed::{Batch, Feed};
use super::opening::{self, Incarnation, Opened};
use super::page::{Failure, Told};
use super::records::{Control, Cursor, Entry, Row, State, rows_prefix, run_key};
use super::spec::Work;
use super::status::Cause;
use super::steps::{Attempt, Came};
use super::{Command, Shared};
use crate::error::Error;
use crate::platform::Level;
use crate::store::{Durability, Fence, Op};
use crate::training::method::Output;
use results::Flight;

pub(super) struct Driver {
    pub(super) shared: Rc<Shared>,
    pub(super) fence: Fence,
    control: Control,
    pub(super) cursor: Cursor,
    history: History,
    stage: Stage,
    /// What is opened next.
    next: Next,
    turn: Turn,
    /// Calls whose results are to come, the oldest first.
    flights: VecDeque<Flight>,
    /// Of a run over data.
    supply: Option<Supply>,
    /// Samples, which are drawn beside the order.
    pub(super) beside: FuturesUnordered<LocalBoxFuture<'static, Beside>>,
    /// What is being written beside calls.
    writes: FuturesUnordered<LocalBoxFuture<'static, (Result<(), Error>, Then)>>,
    pub(super) attempt: Option<Attempt>,
    /// What is recorded of the step at the cursor, in the order of its function's calls.
    pub(super) entries: Vec<Entry>,
    /// Of that, what goes with the next call's commit.
    pub(super) unwritten: Vec<(u32, Op)>,
    /// What closes the step of a function goes with the commit of the next call once more, and with it what was recorded.
    pub(super) closing: Vec<Op>,
    behind: Behind,
    saved_at: Duration,
    /// Somebody wants a checkpoint.
    wanted: Option<Wanted>,
    /// Tries to reach the server, incarnations and clients that were lost: each in a row.
    failures: u32,
    attempts: u32,
    reopenings: u32,
    last_key: u32,
    /// When the last step was finished, or the first one begun.
    step_began: Duration,
    /// How long the last one took; none yet.
    pace: Option<Duration>,
    /// What it waits for, since when (ms since 1970), and more of it in words.
    waits: (Cause, u64, String),
    /// Ends when the way to the server is another: the status may say so.
    way: Pin<Box<CancelledFuture>>,
    /// As its status was told last.
    told: Option<telling::Changing>,
}

/// Whether the next call may be asked for.
enum Turn {
    Free,
    /// Not before the last one is written. The cursor is then where this says.
    Writing(Answer<()>, Option<Cursor>),
    /// One could not be written: the cursor has to be read again.
    Stuck,
    /// The server lets nobody in, with these words. What was asked of it comes back first, and then the run goes back to in
    /// front of the first call that is gone.
    Barred(String, Option<Cursor>),
}

/// Where the next batch is.
enum Supply {
    With(Feed),
    Reading(LocalBoxFuture<'static, Prepared>),
    Here(Feed, Batch),
    /// The data are at their end.
    End(Feed),
}

/// A checkpoint that somebody wants, and who.
struct Wanted {
    reason: Reason,
    replies: Vec<Reply<Result<String, Error>>>,
}

/// What comes of drawing a batch: none where the data are at their end.
struct Prepared {
    feed: Feed,
    batch: Result<Option<Batch>, Failure>,
}

enum Stage {
    Shut,
    /// Then a pause before the next try, where there is one.
    Closing(LocalBoxFuture<'static, ()>, Option<Duration>),
    Pausing(LocalBoxFuture<'static, ()>),
    Opening(LocalBoxFuture<'static, Result<Box<Opened>, Error>>),
    Open(Incarnation),
    /// That the run is over, in this way, is being written; none comes of it where a call was not seen to its end.
    Leaving(State, LocalBoxFuture<'static, Result<Option<Control>, Error>>),
    /// Nothing is to be done here any more.
    Left,
}

enum Next {
    /// The model that there is.
    Same,
    /// A new one, since this has happened; from a checkpoint of this path, or as the run's policy has it.
    New { reason: String, path: Option<String> },
}

/// What follows when something is written, or could not be.
pub(super) enum Then {
    Nothing,
    Told(Reply<Result<(), Error>>),
    /// The step at the cursor is closed, and this is its row.
    StepClosed(Vec<u8>),
    /// A call of this attempt has come to this, and may be told.
    Answered {
        attempt: u32,
        index: u32,
        came: Came,
    },
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
    Stage(Staged),
    Written(bool),
    Kept(Result<(), Error>, Then),
    Output(Result<Output, Error>),
    Batch(Prepared),
    Beside(Beside),
    FunctionEnded(Result<Told, Failure>),
    FunctionTimedOut,
    /// The way to the server is another.
    Way,
}

/// How a stage ended.
enum Staged {
    Closed,
    Paused,
    Opened(Result<Box<Opened>, Error>),
    Left(Result<Option<Control>, Error>),
}

impl Driver {
    /// Takes the run over from whoever has it, and reads where it is.
    pub(super) async fn load(shared: Rc<Shared>) -> Result<Driver, Error> {
        let fence = Fence::claim(shared.service.store.clone(), run_key(&shared.id)).await?;
        shared.fence.replace(Some(fence.clone()));
        let store = fence.store();
        let control = super::control(store, &shared.id).await?;
        let cursor = super::cursor(store, &shared.id).await?;
        let entries = opening::entries(&shared, store, cursor.step).await?;
        let mut history = History::default();
        for (key, bytes) in store.load(&rows_prefix(&shared.id)).await? {
            // One that can't be read is a gap in the history, and nothing more.
            if let Ok(Row(row)) = Row::from_bytes(&key, &bytes) {
                history.take(&row);
            }
        }
        let next = match control.incarnation {
            0 => Next::New { reason: String::new(), path: None },
            _ => Next::Same,
        };
        let transport = &shared.service.transport;
        let (now, since) = (transport.platform().now(), shared.now());
        let way = Box::pin(transport.until_trouble_changes());
        Ok(Driver {
            supply: supply(&shared),
            behind: history.behind(control.incarnation),
            shared,
            fence,
            control,
            cursor,
            history,
            stage: Stage::Shut,
            next,
            turn: Turn::Free,
            flights: VecDeque::new(),
            beside: FuturesUnordered::new(),
            writes: FuturesUnordered::new(),
            attempt: None,
            entries,
            unwritten: Vec::new(),
            closing: Vec::new(),
            saved_at: now,
            wanted: None,
            failures: 0,
            attempts: 0,
            reopenings: 0,
            last_key: 0,
            step_began: now,
            pace: None,
            waits: (Cause::Starting, since, String::new()),
            way,
            told: None,
        })
    }

    pub(super) async fn run(mut self, ctx: Context) -> Result<(), Exit> {
        if let Some(other) = self.other_version() {
            self.pause(Cause::FunctionChanged, other);
        }
        let mut stop = Box::pin(ctx.shutdown());
        while !matches!(self.stage, Stage::Left) {
            self.act();
            self.tell_status();
            let waiting = ctx.waiting_for(self.waits.0.as_str());
            let wake = self.wait(&mut stop).await;
            drop(waiting);
            faults::point!("run");
            self.take(wake);
        }
        Ok(())
    }

    /// What is wrong with the page's function, where it isn't that of the step under way.
    fn other_version(&self) -> Option<String> {
        let (kept, given) = (&self.control.version, &self.shared.version);
        let other = kept != given && self.is_running() && !self.entries.is_empty();
        other.then(|| {
            let step = self.cursor.step;
            format!("step {step} was begun with version {kept} of its function, and this is version {given}")
        })
    }

    async fn wait(&mut self, stop: &mut Pin<Box<CancelledFuture>>) -> Wake {
        let shared = self.shared.clone();
        let mut timeout = self.function_timeout();
        poll_fn(|cx| {
            if stop.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Wake::Stop);
            }
            if let Some(inbox) = &mut *shared.inbox.borrow_mut()
                && let Poll::Ready(Some(command)) = pin!(inbox.next()).poll(cx)
            {
                return Poll::Ready(Wake::Command(command));
            }
            if let Turn::Writing(written, _) = &mut self.turn
                && let Poll::Ready(written) = written.poll_unpin(cx)
            {
                return Poll::Ready(Wake::Written(written.is_ok()));
            }
            if let Poll::Ready(Some((written, then))) = self.writes.poll_next_unpin(cx) {
                return Poll::Ready(Wake::Kept(written, then));
            }
            // Results of a model come in the order of its calls.
            if let Some(flight) = self.flights.front_mut()
                && let Poll::Ready(output) = flight.output.poll_unpin(cx)
            {
                return Poll::Ready(Wake::Output(output));
            }
            let staged = match &mut self.stage {
                Stage::Closing(closing, _) => closing.poll_unpin(cx).map(|()| Staged::Closed),
                Stage::Pausing(timer) => timer.poll_unpin(cx).map(|()| Staged::Paused),
                Stage::Opening(opening) => opening.poll_unpin(cx).map(Staged::Opened),
                Stage::Leaving(_, leaving) => leaving.poll_unpin(cx).map(Staged::Left),
                Stage::Shut | Stage::Open(_) | Stage::Left => Poll::Pending,
            };
            if let Poll::Ready(staged) = staged {
                return Poll::Ready(Wake::Stage(staged));
            }
            if let Some(Supply::Reading(reading)) = &mut self.supply
                && let Poll::Ready(prepared) = reading.poll_unpin(cx)
            {
                return Poll::Ready(Wake::Batch(prepared));
            }
            if let Some(told) = self.attempt.as_mut().and_then(|attempt| attempt.poll(cx)) {
                return Poll::Ready(Wake::FunctionEnded(told));
            }
            if let Poll::Ready(Some(beside)) = self.beside.poll_next_unpin(cx) {
                return Poll::Ready(Wake::Beside(beside));
            }
            if self.way.as_mut().poll(cx).is_ready() {
                self.way = Box::pin(shared.service.transport.until_trouble_changes());
                return Poll::Ready(Wake::Way);
            }
            match timeout.as_mut().map(|timeout| timeout.poll_unpin(cx)) {
                Some(Poll::Ready(())) => Poll::Ready(Wake::FunctionTimedOut),
                _ => Poll::Pending,
            }
        })
        .await
    }

    /// Runs while a step's function has nothing under way.
    fn function_timeout(&self) -> Option<LocalBoxFuture<'static, ()>> {
        let Work::Function { timeout, .. } = self.shared.spec.work else { return None };
        let idle = self.attempt.as_ref().is_some_and(Attempt::is_idle) && self.is_quiet();
        idle.then(|| self.timer(timeout))
    }

    fn take(&mut self, wake: Wake) {
        match wake {
            Wake::Stop => self.stage = Stage::Left,
            Wake::Command(command) => self.hear(command),
            Wake::Stage(staged) => self.staged(staged),
            Wake::Written(written) => {
                let turn = if written { Turn::Free } else { Turn::Stuck };
                if let Turn::Writing(_, Some(next)) = std::mem::replace(&mut self.turn, turn)
                    && written
                {
                    self.cursor = next;
                }
            }
            Wake::Kept(written, then) => self.kept(written, then),
            Wake::Output(output) => {
                if let Some(flight) = self.flights.pop_front() {
                    match output {
                        Ok(output) => self.finished(flight, output),
                        Err(error) => self.failed(flight, error),
                    }
                }
            }
            Wake::Batch(prepared) => self.prepared(prepared),
            Wake::Beside(Beside::Samples { key, step, events }) => self.sampled_behind(key, step, events),
            Wake::Beside(Beside::Sampled { index, value }) => self.call_sampled(index, value),
            Wake::FunctionEnded(told) => self.function_ended(told),
            Wake::FunctionTimedOut => {
                let message = "its function had no call under way for longer than stepTimeoutMs";
                self.pause(Cause::StepTimedOut, message.into());
            }
            Wake::Way => {}
        }
        self.close_barred();
        self.close_step();
    }

    /// Begins to write, behind all that was begun before.
    pub(super) fn write(&mut self, durability: Durability, ops: Vec<Op>, then: Then) {
        let written = self.fence.commit(durability, ops);
        self.writes.push(written.map(|written| (written, then)).boxed_local());
    }

    fn kept(&mut self, written: Result<(), Error>, then: Then) {
        match (written, then) {
            (Ok(()), Then::Told(reply)) => drop(reply.send(Ok(()))),
            (Ok(()), Then::StepClosed(row)) => self.step_closed(row),
            (Ok(()), Then::Answered { attempt, index, came }) => self.answer_in(attempt, index, came),
            (Ok(()), Then::Nothing) => {}
            (Err(error), then) => {
                if let Then::Told(reply) = then {
                    let _ = reply.send(Err(error.clone()));
                } else {
                    self.log(&format!("something of the run could not be written down: {error}"));
                }
                self.not_written(error);
            }
        }
    }

    /// Nothing that was asked for is on its way.
    fn is_quiet(&self) -> bool {
        self.flights.is_empty() && self.beside.is_empty() && !matches!(self.turn, Turn::Writing(..))
    }

    pub(super) fn now(&self) -> Duration {
        self.shared.service.transport.platform().now()
    }

    fn timer(&self, after: Duration) -> LocalBoxFuture<'static, ()> {
        self.shared.service.transport.platform().timer(after)
    }

    pub(super) fn log(&self, message: &str) {
        self.shared.service.transport.platform().log(Level::Warn, message);
    }
}

/// Of a run over data: their source, from which nothing was read yet.
fn supply(shared: &Shared) -> Option<Supply> {
    match &shared.spec.work {
        Work::Data { plan, .. } => Some(Supply::With(Feed::new(plan.clone(), shared.page.clone()))),
        Work::Function { .. } => None,
    }
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
