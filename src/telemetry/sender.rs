//! The process that sends what was told: a batch every few seconds, the rest when its service ends; and that keeps what the
//! server did not take.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use tinkex_journal::record::TELEMETRY;
use tinkex_supervise::{Context, faults};

use super::Inner;
use super::event::Event;
use super::queue::Batch;
use super::state::{Mode, Next};
use crate::error::Error;
use crate::store::Durability;
use crate::transport::retry::Attempt;
use crate::transport::{Body, Call};

/// The official client's.
const TIMEOUT: Duration = Duration::from_secs(5);

type Sent = (Batch, LocalBoxFuture<'static, Option<Attempt>>);
type Kept = LocalBoxFuture<'static, Result<(), Error>>;

impl Inner {
    /// Ends with its service, when the server has taken everything or doesn't; its supervisor gives it two seconds.
    pub(super) async fn run(self: Rc<Self>, ctx: Context) {
        let queue = Rc::downgrade(&self);
        ctx.show_queue("events", move || queue.upgrade().map_or(0, |inner| inner.state.borrow().queue.len()));
        ctx.ready();
        loop {
            if ctx.is_stopping() {
                self.end();
            }
            let now = ctx.system().now();
            let next = self.state.borrow().next(now, ctx.is_stopping());
            match next {
                Next::Wait(what, pause) => {
                    let _waiting = ctx.waiting_for(what);
                    self.wait(&ctx, pause).await;
                }
                Next::Send => {
                    // Begun before the answer is there: a page that goes doesn't see it.
                    let kept = self.keep_if_leaving();
                    let (batch, answer) = self.send();
                    let _waiting = ctx.waiting_for("the server to take telemetry");
                    let answer = if ctx.is_stopping() {
                        answer.await
                    } else {
                        // Asked to end, it writes down what waits before it sends that once more.
                        match ctx.until_shutdown(answer).await {
                            Ok(answer) => answer,
                            Err(_) => continue,
                        }
                    };
                    let status = answer.and_then(Result::ok).map(|answer| answer.status);
                    self.state.borrow_mut().answered(&batch, status, ctx.system().now());
                    if let Some(kept) = kept {
                        let _ = kept.await;
                    }
                }
                Next::Look => {
                    let found = self.store.load(TELEMETRY).await.unwrap_or_default();
                    self.state.borrow_mut().take_up(found);
                }
                Next::Keep => {
                    if let Some(kept) = self.keep() {
                        let _ = kept.await;
                    }
                }
                Next::End => return,
            }
        }
    }

    /// Until so much time has passed, something was told, or the end is asked for.
    fn wait(self: &Rc<Self>, ctx: &Context, pause: Duration) -> LocalBoxFuture<'static, ()> {
        let (mut time, mut stop) = (ctx.system().runtime().timer(pause), ctx.shutdown());
        let inner = self.clone();
        let mut looked = false;
        let wait = poll_fn(move |cx| {
            let over = time.poll_unpin(cx).is_ready() || stop.poll_unpin(cx).is_ready();
            if over || std::mem::replace(&mut looked, true) {
                return Poll::Ready(());
            }
            inner.state.borrow_mut().sender = Some(cx.waker().clone());
            Poll::Pending
        });
        Box::pin(wait)
    }

    /// Sends a batch, beside the budget of connections: whoever trains never waits for it, and a page that goes has no time
    /// to wait.
    fn send(&self) -> Sent {
        faults::point("telemetry");
        let dropped = self.state.borrow().queue.dropped();
        let report = if dropped > 0 { self.written(&Event::Dropped(dropped)) } else { Vec::new() };
        let (batch, mode) = {
            let state = self.state.borrow();
            (state.queue.batch(&report), state.mode)
        };
        let mut call = Call::post("telemetry", Body::Json(batch.body.as_slice().into())).timeout(TIMEOUT);
        call.keepalive = mode != Mode::Open;
        let answer = self.transport.attempt(&call, 0, None);
        (batch, answer)
    }

    fn keep_if_leaving(&self) -> Option<Kept> {
        let mode = self.state.borrow().mode;
        if mode == Mode::Open { None } else { self.keep() }
    }

    /// Writes down what waits, or deletes what was written of it. Begins at once. A session that somebody else has taken is
    /// not written any more, and neither is this.
    fn keep(&self) -> Option<Kept> {
        let state = &mut *self.state.borrow_mut();
        let ops = state.keep(&self.key);
        Some(state.journal.as_ref()?.commit(Durability::Relaxed, ops))
    }
}
