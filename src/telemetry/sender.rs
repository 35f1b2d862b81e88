//! The process that sends what was told: a batch every few seconds, the rest when its service ends; and that keeps what the
//! server did not take. It does one thing at a time, and asks the state what is next.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as Task, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use tinkex_journal::record::TELEMETRY;
use tinkex_journal::recovery::Found;
use tinkex_supervise::{CancelledFuture, Context, faults};

use super::Inner;
use super::event::Event;
use super::queue::Batch;
use super::state::{Mode, Next, State};
use crate::error::Error;
use crate::store::{Durability, StoreError};
use crate::transport::retry::Attempt;
use crate::transport::{Body, Call};

/// The official client's.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Ends with its service, when the server has taken everything or doesn't; its supervisor gives it two seconds.
pub struct Sender {
    inner: Rc<Inner>,
    ctx: Context,
    stop: CancelledFuture,
    doing: Doing,
}

enum Doing {
    Nothing,
    Waiting(LocalBoxFuture<'static, ()>),
    Looking(LocalBoxFuture<'static, Result<Found, StoreError>>),
    Sending {
        batch: Batch,
        answer: LocalBoxFuture<'static, Option<Attempt>>,
        /// Begun before the answer is there: a page that goes doesn't see it.
        kept: Option<Kept>,
    },
    Keeping(Option<Kept>),
}

type Kept = LocalBoxFuture<'static, Result<(), Error>>;

impl Sender {
    pub fn new(inner: Rc<Inner>, ctx: Context) -> Sender {
        let queue = Rc::downgrade(&inner);
        ctx.show_queue("events", move || queue.upgrade().map_or(0, |inner| inner.state.borrow().queue.len()));
        ctx.ready();
        Sender { inner, stop: ctx.shutdown(), ctx, doing: Doing::Nothing }
    }

    /// Begins what is to be done next; none when nothing is.
    fn next(&mut self, task: &mut Task) -> Option<Doing> {
        let Sender { inner, ctx, .. } = self;
        if ctx.is_stopping() {
            inner.end();
        }
        let next = inner.state.borrow().next(ctx.system().now(), ctx.is_stopping());
        let (what, doing) = match next {
            Next::Wait(what, pause) => {
                inner.state.borrow_mut().sender = Some(task.waker().clone());
                (what, Doing::Waiting(ctx.system().runtime().timer(pause)))
            }
            Next::Look => ("what others have left", Doing::Looking(inner.store.load(TELEMETRY))),
            Next::Keep => {
                ("the store to keep what waits", Doing::Keeping(inner.keep(&mut inner.state.borrow_mut())))
            }
            Next::Send => ("the server to take telemetry", inner.send()),
            Next::End => return None,
        };
        ctx.waits_for(what);
        Some(doing)
    }
}

impl Future for Sender {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, task: &mut Task) -> Poll<()> {
        let this = &mut *self;
        loop {
            // Once it ends, nothing is interrupted any more.
            let ends = this.inner.state.borrow().mode == Mode::Ending;
            let interrupted = !ends && this.stop.poll_unpin(task).is_ready();
            let done = match &mut this.doing {
                Doing::Nothing => true,
                Doing::Waiting(timer) => {
                    let told = this.inner.state.borrow().sender.is_none();
                    interrupted || told || timer.poll_unpin(task).is_ready()
                }
                Doing::Looking(found) => {
                    let found = found.poll_unpin(task).map(Result::unwrap_or_default);
                    found.map(|found| this.inner.state.borrow_mut().take_up(found)).is_ready()
                }
                Doing::Sending { batch, answer, kept } => {
                    let answer = answer.poll_unpin(task);
                    if let Poll::Ready(answer) = &answer {
                        let answer = answer.as_ref().and_then(|answer| answer.as_ref().ok());
                        let status = answer.map(|answer| answer.status);
                        let now = this.ctx.system().now();
                        this.inner.state.borrow_mut().answered(batch, status, now);
                    }
                    // Asked to end, it writes down what waits before it sends that once more.
                    if answer.is_ready() || interrupted {
                        this.doing = Doing::Keeping(kept.take());
                        continue;
                    }
                    false
                }
                Doing::Keeping(kept) => kept.as_mut().is_none_or(|kept| kept.poll_unpin(task).is_ready()),
            };
            if !done {
                return Poll::Pending;
            }
            match this.next(task) {
                Some(doing) => this.doing = doing,
                None => return Poll::Ready(()),
            }
        }
    }
}

impl Inner {
    /// Sends a batch, beside the budget of connections: whoever trains never waits for it, and a page that goes has no time
    /// to wait.
    fn send(&self) -> Doing {
        faults::point!("telemetry");
        let (mode, kept, (batch, body)) = {
            let state = &mut *self.state.borrow_mut();
            let kept = if state.mode == Mode::Open { None } else { self.keep(state) };
            let dropped = state.queue.dropped();
            let report = if dropped > 0 { self.written(state, &Event::Dropped(dropped)) } else { Vec::new() };
            (state.mode, kept, state.queue.batch(&report))
        };
        let mut call = Call::post("telemetry", Body::Json(body.into())).timeout(TIMEOUT);
        call.keepalive = mode != Mode::Open;
        let answer = self.transport.attempt(&call, 0, None);
        Doing::Sending { batch, answer, kept }
    }

    /// Writes down what waits, or deletes what was written of it. Begins at once. A session that somebody else has taken is
    /// not written any more, and neither is this.
    fn keep(&self, state: &mut State) -> Option<Kept> {
        let ops = state.keep(&self.key);
        Some(state.journal.as_ref()?.commit(Durability::Relaxed, ops))
    }
}
