//! One answer, on its way from whoever works to whoever waits.

use std::{
    cell::Cell,
    fmt,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context as TaskContext, Poll, Waker},
};

use crate::panics::destructor;

/// A way back, and the answer that comes on it.
///
/// ```
/// # use tinkex_supervise::{*, virtual_time::VirtualTime};
/// # let world = VirtualTime::new(0);
/// # world.block_on(async {
/// let (reply, answer) = reply();
/// reply.send(7);
/// assert_eq!(answer.await, Ok(7));
///
/// let (reply, answer) = tinkex_supervise::reply::<u32>();
/// drop(reply);
/// assert_eq!(answer.await, Err(Dropped));
/// # });
/// ```
pub fn reply<R>() -> (Reply<R>, Answer<R>) {
    let way = Rc::new(Way { value: Cell::new(None), ends: Ends::default() });
    (Reply(way.clone()), Answer(way))
}

struct Way<R> {
    value: Cell<Option<R>>,
    ends: Ends,
}

#[derive(Default)]
struct Ends {
    /// One of the two ends is gone.
    closed: Cell<bool>,
    reader: Cell<Option<Waker>>,
}

impl Ends {
    fn reply_is_gone(&self) {
        self.closed.set(true);
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    fn answer_is_gone(&self) {
        self.closed.set(true);
        // What the waker holds may hold the reply.
        self.reader.take();
    }
}

/// The way back to a caller. Dropping it unsent tells the caller that there will be no answer.
pub struct Reply<R>(Rc<Way<R>>);

/// An answer to come.
#[must_use = "a future does nothing until it is awaited"]
pub struct Answer<R>(Rc<Way<R>>);

/// The reply was dropped: nobody will answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dropped;

impl<R> Reply<R> {
    /// Answers. `Err` gives the answer back when nobody waits for it any more.
    pub fn send(self, answer: R) -> Result<(), R> {
        if self.is_abandoned() {
            return Err(answer);
        }
        self.0.value.set(Some(answer));
        Ok(())
    }

    /// Whether nobody waits for the answer any more: work for it can be left.
    pub fn is_abandoned(&self) -> bool {
        self.0.ends.closed.get()
    }
}

impl<R> Drop for Reply<R> {
    fn drop(&mut self) {
        destructor(&mut || self.0.ends.reply_is_gone());
    }
}

impl<R> Future for Answer<R> {
    type Output = Result<R, Dropped>;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        match self.0.value.take() {
            Some(answer) => Poll::Ready(Ok(answer)),
            None if self.0.ends.closed.get() => Poll::Ready(Err(Dropped)),
            None => {
                self.0.ends.reader.set(Some(cx.waker().clone()));
                Poll::Pending
            }
        }
    }
}

impl<R> Drop for Answer<R> {
    fn drop(&mut self) {
        destructor(&mut || self.0.ends.answer_is_gone());
    }
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nobody is there to answer")
    }
}

impl std::error::Error for Dropped {}
