//! One request's way to the server ([`submit`]), its result ([`retrieve`]), and the caller who waits for it. Its place in
//! the order, and what is written down of it, are in `crates/journal`.

pub mod retrieve;
pub mod submit;

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tinkex_supervise::{Exit, destructor};

use crate::error::{Error, Outcome};
use retrieve::Payload;

/// How far a call has come, as its caller would want to know if it failed now. Shared by all that carry it.
#[derive(Clone, Debug)]
pub struct Progress(Rc<State>);

#[derive(Debug)]
struct State {
    outcome: Cell<Outcome>,
    given_up: Cell<bool>,
}

impl Default for Progress {
    fn default() -> Progress {
        Progress(Rc::new(State { outcome: Cell::new(Outcome::NotSent), given_up: Cell::new(false) }))
    }
}

impl Progress {
    /// From now on the server may have acted.
    pub fn sent(&self) {
        self.set(Outcome::Unknown);
    }

    pub fn set(&self, outcome: Outcome) {
        self.0.outcome.set(outcome);
    }

    pub fn outcome(&self) -> Outcome {
        self.0.outcome.get()
    }

    /// The caller wants no result any more, now or later.
    pub fn give_up(&self) {
        self.0.given_up.set(true);
    }

    pub fn is_given_up(&self) -> bool {
        self.0.given_up.get()
    }
}

/// The results of a call's parts, each with how many data it had.
pub type Results = Vec<(Payload, u32)>;

/// The way back to whoever made a call. Every caller is answered: one that is dropped is told that the work died.
pub struct Caller {
    reply: Option<tinkex_supervise::Reply<Result<Results, Error>>>,
    progress: Progress,
}

/// A caller's end: resolves exactly once.
pub struct Reply {
    answer: tinkex_supervise::Answer<Result<Results, Error>>,
    progress: Progress,
    /// Tells the worker that this caller has gone; not called once the answer is here.
    let_go: Option<Box<dyn FnOnce()>>,
}

/// A caller and its end, who share `progress`.
pub fn caller(progress: Progress, let_go: Box<dyn FnOnce()>) -> (Caller, Reply) {
    let (reply, answer) = tinkex_supervise::reply();
    let caller = Caller { reply: Some(reply), progress: progress.clone() };
    (caller, Reply { answer, progress, let_go: Some(let_go) })
}

impl Caller {
    pub fn settle(mut self, result: Result<Results, Error>) {
        if let Some(reply) = self.reply.take() {
            // Nobody may be there any more; then nobody is to be told.
            let _ = reply.send(result);
        }
    }

    pub fn progress(&self) -> &Progress {
        &self.progress
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        destructor(&mut || {
            if let Some(reply) = self.reply.take() {
                let _ = reply.send(Err(worker_died(&self.progress)));
            }
        });
    }
}

impl Future for Reply {
    type Output = Result<Results, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Results, Error>> {
        let answer = match Pin::new(&mut self.answer).poll(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(answer)) => answer,
            Poll::Ready(Err(tinkex_supervise::Dropped)) => Err(worker_died(&self.progress)),
        };
        self.let_go = None;
        Poll::Ready(answer)
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        destructor(&mut || {
            if let Some(let_go) = self.let_go.take() {
                let_go();
            }
        });
    }
}

#[cold]
fn worker_died(progress: &Progress) -> Error {
    let outcome = progress.outcome();
    match tinkex_supervise::panic_under_way() {
        Some(panic) => Error::from_exit(&Exit::Panic(panic), outcome),
        None => Error::crashed("the work on this call was dropped", String::new(), Vec::new(), outcome),
    }
    .context("the client that carried this call has crashed, make a new one")
}
