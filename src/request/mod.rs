//! One request's life: its place in the order ([`lane`]), its way to the server ([`submit`]), its result
//! ([`retrieve`]), and the caller who waits for it.

pub mod lane;
pub mod retrieve;
pub mod submit;

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use futures_channel::oneshot;
use tinkex_protocol::json::futures::RequestType;
use tinkex_protocol::{ModelId, SeqId};
use tinkex_supervise::Exit;

use crate::error::{Error, Outcome};
use crate::transport::Body;

/// A request of a model that has no number yet. Its bytes are made when it gets one.
pub struct Numbered {
    pub kind: RequestType,
    /// Behind `/api/v1/`.
    pub path: &'static str,
    pub body: MakeBody,
}

/// Makes a request's bytes for its model and its number.
pub type MakeBody = Box<dyn Fn(&ModelId, SeqId) -> Result<Body, Error>>;

/// How far a call has come, as its caller would want to know if it failed now. Shared by all that carry it.
#[derive(Clone, Debug)]
pub struct Progress(Rc<Cell<Outcome>>);

impl Default for Progress {
    fn default() -> Progress {
        Progress(Rc::new(Cell::new(Outcome::NotSent)))
    }
}

impl Progress {
    /// From now on the server may have acted.
    pub fn sent(&self) {
        self.0.set(Outcome::Unknown);
    }

    pub fn outcome(&self) -> Outcome {
        self.0.get()
    }
}

/// The way back to whoever made a call. Every caller is answered: one that is dropped is told that the work died.
pub struct Caller<T> {
    reply: Option<oneshot::Sender<Result<T, Error>>>,
    progress: Progress,
}

/// A caller's end: resolves exactly once.
pub struct Reply<T> {
    answer: oneshot::Receiver<Result<T, Error>>,
    progress: Progress,
    /// Tells the worker that this caller has gone; not called once the answer is here.
    let_go: Option<Box<dyn FnOnce()>>,
}

/// A caller and its end, who share `progress`.
pub fn caller<T>(progress: Progress, let_go: impl FnOnce() + 'static) -> (Caller<T>, Reply<T>) {
    let (reply, answer) = oneshot::channel();
    let caller = Caller { reply: Some(reply), progress: progress.clone() };
    (caller, Reply { answer, progress, let_go: Some(Box::new(let_go)) })
}

impl<T> Caller<T> {
    pub fn settle(mut self, result: Result<T, Error>) {
        if let Some(reply) = self.reply.take() {
            // Nobody may be there any more; then nobody is to be told.
            let _ = reply.send(result);
        }
    }

    pub fn progress(&self) -> &Progress {
        &self.progress
    }
}

impl<T> Drop for Caller<T> {
    fn drop(&mut self) {
        if let Some(reply) = self.reply.take() {
            let _ = reply.send(Err(worker_died(&self.progress)));
        }
    }
}

impl<T> Future for Reply<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, Error>> {
        let answer = match Pin::new(&mut self.answer).poll(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(answer)) => answer,
            Poll::Ready(Err(oneshot::Canceled)) => Err(worker_died(&self.progress)),
        };
        self.let_go = None;
        Poll::Ready(answer)
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        if let Some(let_go) = self.let_go.take() {
            let_go();
        }
    }
}

fn worker_died(progress: &Progress) -> Error {
    let outcome = progress.outcome();
    match tinkex_supervise::panic_under_way() {
        Some(panic) => Error::from_exit(&Exit::Panic(panic), outcome),
        None => Error::crashed("the work on this call was dropped", String::new(), Vec::new(), outcome),
    }
    .context("the client that carried this call has crashed, make a new one")
}
