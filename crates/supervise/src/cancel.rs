//! Cancellation that reaches whoever waits, at once: the shutdown signal of a child, and the end of every wait.

use std::{
    cell::Cell,
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    task::{Context as TaskContext, Poll},
};

use crate::{
    panics::destructor,
    waiters::{Key, Waiters},
};

/// A signal that is given once, to all clones of the token.
///
/// Cancelling wakes every waiter in the same call; none has to wait for a timer to run out. What was cancelled
/// stays cancelled. A token that is dropped is not cancelled by that.
///
/// ```
/// use tinkex_supervise::CancelToken;
///
/// let page = CancelToken::new();
/// let request = page.clone();
/// page.cancel();
/// assert!(request.is_cancelled());
/// ```
#[derive(Clone, Default)]
pub struct CancelToken(Rc<Inner>);

#[derive(Default)]
struct Inner {
    cancelled: Cell<bool>,
    waiters: Waiters,
}

impl CancelToken {
    /// A token that nobody has cancelled.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancels this token, and wakes everyone who waits for it. The second time, nothing.
    pub fn cancel(&self) {
        if !self.0.cancelled.replace(true) {
            self.0.waiters.wake_all();
        }
    }

    /// Whether it has been cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.get()
    }

    /// Resolves when the token is cancelled; at once if it was already. Owns what it needs, so it can be stored.
    pub fn cancelled(&self) -> CancelledFuture {
        CancelledFuture { token: self.clone(), key: None }
    }

    /// Runs a future until it ends or the token is cancelled, whichever is first; a token that was cancelled
    /// before lets the future do nothing. On cancellation the future is dropped before this returns.
    pub fn guard<F: Future>(&self, future: F) -> impl Future<Output = Result<F::Output, Cancelled>> + use<F> {
        let mut guarded = Some(Box::pin(future));
        let mut cancelled = self.cancelled();
        poll_fn(move |cx| {
            let polled = match &mut guarded {
                Some(future) if Pin::new(&mut cancelled).poll(cx).is_pending() => {
                    future.as_mut().poll(cx).map(Ok)
                }
                _ => Poll::Ready(Err(Cancelled)),
            };
            if polled.is_ready() {
                guarded = None;
            }
            polled
        })
    }

    /// How many futures wait: what a leak would show in.
    pub fn waiting(&self) -> usize {
        self.0.waiters.len()
    }
}

impl fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_cancelled() { "CancelToken(cancelled)" } else { "CancelToken" })
    }
}

/// What [`CancelToken::cancelled`] gives.
#[derive(Debug)]
#[must_use = "a future does nothing until it is awaited"]
pub struct CancelledFuture {
    token: CancelToken,
    key: Option<Key>,
}

impl Future for CancelledFuture {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<()> {
        let this = self.get_mut();
        if this.token.is_cancelled() {
            return Poll::Ready(());
        }
        this.token.0.waiters.wait(&mut this.key, cx.waker());
        Poll::Pending
    }
}

impl Drop for CancelledFuture {
    fn drop(&mut self) {
        destructor(&mut || self.token.0.waiters.leave(self.key));
    }
}

/// The wait was cancelled before it came to its end. As the error of a child it is an exit for
/// [`Shutdown`](crate::Exit::Shutdown), so that `?` is the whole handling of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cancelled;

impl fmt::Display for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cancelled")
    }
}

impl std::error::Error for Cancelled {}
