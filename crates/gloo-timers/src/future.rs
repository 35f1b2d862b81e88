//! A timer as a future, cancelled when it is dropped.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_channel::oneshot;

use crate::callback::Timeout;

/// Resolves once, after the time that it was made with. Dropping it before cancels the timer at once.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled or spawned"]
pub struct TimeoutFuture {
    fired: oneshot::Receiver<()>,
    _timer: Timeout,
}

impl TimeoutFuture {
    /// The time, in milliseconds, counts from this call and not from the first poll.
    pub fn new(millis: u32) -> TimeoutFuture {
        let (fire, fired) = oneshot::channel();
        // The receiver can only be gone together with the timer, so a failed send has nobody to tell.
        let timer = Timeout::new(millis, move || {
            let _ = fire.send(());
        });
        TimeoutFuture { fired, _timer: timer }
    }
}

impl Future for TimeoutFuture {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        ready!(Pin::new(&mut self.fired).poll(cx)).expect("the timer holds the sender until it has fired");
        Poll::Ready(())
    }
}
