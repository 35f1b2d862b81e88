//! A timer as a future, cancelled when it is dropped.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::callback::Timeout;

/// Resolves once, after the time that it was made with. Dropping it before cancels the timer at once.
#[must_use = "futures do nothing unless polled or spawned"]
pub struct TimeoutFuture {
    state: Rc<Cell<State>>,
    _timer: Timeout,
}

enum State {
    /// Whoever waits, once somebody does.
    Running(Option<Waker>),
    Fired,
}

impl TimeoutFuture {
    /// The time, in milliseconds, counts from this call and not from the first poll.
    pub fn new(millis: u32) -> TimeoutFuture {
        let state = Rc::new(Cell::new(State::Running(None)));
        let fired = state.clone();
        let timer = Timeout::new(millis, move || {
            if let State::Running(Some(waker)) = fired.replace(State::Fired) {
                waker.wake();
            }
        });
        TimeoutFuture { state, _timer: timer }
    }
}

impl Future for TimeoutFuture {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match self.state.replace(State::Fired) {
            State::Fired => Poll::Ready(()),
            State::Running(_) => {
                self.state.set(State::Running(Some(cx.waker().clone())));
                Poll::Pending
            }
        }
    }
}
