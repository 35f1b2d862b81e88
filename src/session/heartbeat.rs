//! The process that keeps a session alive. It does one thing at a time: it sleeps until a heartbeat is due, or waits for the
//! answer to one.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context as Task, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use tinkex_supervise::{CancelledFuture, Context, Exit, faults};

use super::{HEARTBEAT_EVERY, HEARTBEAT_TIMEOUT, Session, State, beat};
use crate::error::Error;
use crate::platform::Level;
use crate::transport::Fetched;
use crate::transport::retry::Policy;

const WARN_AFTER_SILENCE: Duration = Duration::from_secs(120);

pub struct Heartbeats {
    session: Session,
    ctx: Context,
    stop: CancelledFuture,
    doing: Doing,
}

enum Doing {
    Sleeping(LocalBoxFuture<'static, ()>),
    Beating(LocalBoxFuture<'static, Result<Fetched, Error>>),
}

impl Heartbeats {
    pub fn new(session: Session, ctx: Context) -> Heartbeats {
        ctx.ready();
        let doing = sleep(&session, &ctx);
        Heartbeats { session, stop: ctx.shutdown(), ctx, doing }
    }

    fn beat(&self) -> Doing {
        faults::point!("heartbeat");
        self.session.beat();
        let Some(id) = self.session.id() else { return sleep(&self.session, &self.ctx) };
        self.ctx.waits_for("the answer to a heartbeat");
        let call = beat(id).policy(Policy::Once).timeout(HEARTBEAT_TIMEOUT);
        Doing::Beating(self.session.transport().fetch(call))
    }
}

fn sleep(session: &Session, ctx: &Context) -> Doing {
    let pause = session.until_next_beat();
    // Without a session nothing is due, and what opens one counts as its first.
    let pause = if pause.is_zero() { HEARTBEAT_EVERY } else { pause };
    ctx.waits_for("the next heartbeat");
    Doing::Sleeping(ctx.system().runtime().timer(pause))
}

impl Future for Heartbeats {
    type Output = Exit;

    fn poll(mut self: Pin<&mut Self>, task: &mut Task) -> Poll<Exit> {
        let this = &mut *self;
        if this.stop.poll_unpin(task).is_ready() {
            return Poll::Ready(Exit::Shutdown);
        }
        loop {
            this.doing = match &mut this.doing {
                Doing::Sleeping(timer) => {
                    if timer.poll_unpin(task).is_pending() && !this.session.is_due() {
                        *this.session.0.sleeping.borrow_mut() = Some(task.waker().clone());
                        return Poll::Pending;
                    }
                    this.beat()
                }
                Doing::Beating(answer) => match answer.poll_unpin(task) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(answer) => {
                        this.session.beaten(answer.err());
                        sleep(&this.session, &this.ctx)
                    }
                },
            };
        }
    }
}

impl Session {
    /// Something happened: a heartbeat that is due is sent, however late timers are.
    pub fn wake(&self) {
        if self.until_next_beat().is_zero()
            && let Some(waker) = self.0.sleeping.borrow_mut().take()
        {
            waker.wake();
        }
    }

    fn is_due(&self) -> bool {
        let live = matches!(&*self.0.state.borrow(), State::Live { journal, .. } if journal.lost().is_none());
        live && self.until_next_beat().is_zero()
    }

    fn until_next_beat(&self) -> Duration {
        let (platform, last) = (self.0.transport.platform(), self.0.last_beat.get());
        let left = (last.at + HEARTBEAT_EVERY).saturating_sub(platform.now());
        // Set back, the other clock says nothing.
        left.min((last.unix_time + HEARTBEAT_EVERY).saturating_sub(platform.unix_time()))
    }

    /// A heartbeat was sent, and failed for this, or got through.
    fn beaten(&self, failure: Option<Error>) {
        let platform = self.0.transport.platform();
        let mut state = self.0.state.borrow_mut();
        let State::Live { journal, last_success, warned } = &mut *state else { return };
        let Some(error) = failure else {
            *last_success = platform.now();
            *warned = false;
            return;
        };
        if error.status() == Some(410) {
            platform.log(Level::Warn, &format!("the session has ended: {error}"));
            self.0.telemetry.lost(journal.session());
            *state = State::Ended(error.context("the session has ended"));
            return;
        }
        let silence = platform.now().saturating_sub(*last_success);
        if silence >= WARN_AFTER_SILENCE && !std::mem::replace(warned, true) {
            let seconds = silence.as_secs();
            let message = format!("no heartbeat got through for {seconds} s; the session may end: {error}");
            platform.log(Level::Warn, &message);
        }
    }
}
