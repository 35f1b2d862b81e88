//! Cancellation that reaches whoever waits, at once: the shutdown signal of a child, and the end of every wait.

use std::{
    cell::{Cell, RefCell},
    fmt,
    future::Future,
    pin::Pin,
    rc::{Rc, Weak},
    task::{Context as TaskContext, Poll},
};

use crate::{map::Map, waiters::Waiters};

/// A signal that is given once, to all clones and all children of the token.
///
/// Cancelling wakes every waiter in the same call; none has to wait for a timer to run out. What was cancelled
/// stays cancelled. A token that is dropped is not cancelled by that.
///
/// ```
/// use tinkex_supervise::CancelToken;
///
/// let page = CancelToken::new();
/// let request = page.child();
/// page.cancel();
/// assert!(request.is_cancelled());
/// ```
#[derive(Clone, Default)]
pub struct CancelToken(Rc<Inner>);

#[derive(Default)]
struct Inner {
    cancelled: Cell<bool>,
    waiters: Waiters,
    /// Made when there is one.
    children: RefCell<Option<Box<Children>>>,
    parent: Option<(Rc<Inner>, u64)>,
}

#[derive(Default)]
struct Children {
    last: u64,
    by_key: Map<u64, Weak<Inner>>,
}

impl CancelToken {
    /// A token that nobody has cancelled.
    pub fn new() -> Self {
        Self::default()
    }

    /// A token that is cancelled with this one, and can be cancelled alone. When its last clone is dropped, it
    /// leaves no trace in its parent.
    pub fn child(&self) -> Self {
        if self.is_cancelled() {
            let child = Self::new();
            child.cancel();
            return child;
        }
        let mut children = self.0.children.borrow_mut();
        let children = children.get_or_insert_default();
        children.last += 1;
        let key = children.last;
        let mut child = Inner::default();
        child.parent = Some((self.0.clone(), key));
        let child = Rc::new(child);
        children.by_key.insert(key, Rc::downgrade(&child));
        Self(child)
    }

    /// Cancels this token and its children, and wakes everyone who waits for them. The second time, nothing.
    pub fn cancel(&self) {
        if self.0.cancelled.replace(true) {
            return;
        }
        let children = self.0.children.take();
        self.0.waiters.wake_all();
        let children = children.map(|children| children.by_key.into_values());
        for child in children.into_iter().flatten().filter_map(|child| child.upgrade()) {
            Self(child).cancel();
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
    pub async fn guard<F: Future>(&self, future: F) -> Result<F::Output, Cancelled> {
        let mut future = Box::pin(future);
        let mut cancelled = self.cancelled();
        std::future::poll_fn(move |cx| {
            if Pin::new(&mut cancelled).poll(cx).is_ready() {
                return Poll::Ready(Err(Cancelled));
            }
            future.as_mut().poll(cx).map(Ok)
        })
        .await
    }

    /// How many futures wait and how many child tokens are held: what a leak would show in.
    pub fn waiting(&self) -> usize {
        self.0.waiters.len() + self.0.children.borrow().as_ref().map_or(0, |children| children.by_key.len())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some((parent, key)) = &self.parent
            && let Some(children) = parent.children.borrow_mut().as_mut()
        {
            children.by_key.remove(key);
        }
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
    key: Option<u64>,
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
        self.token.0.waiters.leave(self.key);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_thousand_children_leave_nothing_in_their_parent() {
        let parent = CancelToken::new();
        for _ in 0..10_000 {
            let child = parent.child();
            let _future = child.cancelled();
        }
        assert_eq!(parent.waiting(), 0);
    }

    #[test]
    fn a_child_of_a_cancelled_token_is_born_cancelled() {
        let parent = CancelToken::new();
        parent.cancel();
        assert!(parent.child().is_cancelled());
    }

    #[test]
    fn a_child_can_be_cancelled_alone() {
        let parent = CancelToken::new();
        let (one, other) = (parent.child(), parent.child());
        one.cancel();
        assert!(!parent.is_cancelled() && !other.is_cancelled());
        let grandchild = other.child();
        parent.cancel();
        assert!(grandchild.is_cancelled());
    }
}
