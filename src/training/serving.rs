//! The process of a dispatcher: takes in one thing after another, until it is asked to stop or somebody else holds the
//! session, and then settles every caller.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context as Task, Poll, ready};

use futures_util::FutureExt;
use tinkex_supervise::{CancelledFuture, Context, Exit, Mailbox, Waiting};

use super::dispatcher::{Dispatcher, Message};
use super::held::Held;
use super::writing::Writing;
use crate::error::{Error, Outcome};
use crate::request::Caller;

pub struct Serving {
    dispatcher: Box<Dispatcher>,
    inbox: Mailbox<Message>,
    ctx: Context,
    /// None once it has ended to serve.
    stop: Option<CancelledFuture>,
    /// While it waits for something to take in.
    waiting: Option<Waiting>,
}

impl Serving {
    pub fn new(dispatcher: Box<Dispatcher>, inbox: Mailbox<Message>, ctx: Context) -> Serving {
        ctx.show_queue("messages", inbox.length());
        ctx.ready();
        Serving { dispatcher, inbox, stop: Some(ctx.shutdown()), ctx, waiting: None }
    }

    fn settle_all(&mut self, cx: &mut Task) {
        let dispatcher = &mut *self.dispatcher;
        while let Poll::Ready(Some(message)) = self.inbox.poll_next(cx) {
            match message {
                Message::Call(_, incoming) => dispatcher.turn_away(incoming.caller, Outcome::NotSent),
                Message::Await { caller, .. } => dispatcher.turn_away(caller, Outcome::Journaled),
                Message::Seen(key, with) => dispatcher.seen(key, with),
                _ => {}
            }
        }
        // Begun is enough: the store outlives this.
        dispatcher.relaxed(Vec::new());
        for mut held in std::mem::take(&mut dispatcher.calls) {
            if let Some(caller) = held.caller.take() {
                let outcome = caller.progress().outcome();
                dispatcher.turn_away(caller, outcome);
            }
        }
    }
}

impl Future for Serving {
    type Output = Result<(), Exit>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Task) -> Poll<Result<(), Exit>> {
        let this = &mut *self;
        while let Some(stop) = &mut this.stop {
            if !this.dispatcher.journal.is_lost() {
                // All that is there is taken in before anything is done: calls that were made together are written together.
                while let Poll::Ready(Some(message)) = this.inbox.poll_next(cx) {
                    this.dispatcher.hear(message);
                    this.waiting = None;
                }
                if this.waiting.is_none() {
                    let awaited = this.dispatcher.go_on();
                    this.waiting = Some(this.ctx.waiting_for(awaited));
                }
                if stop.poll_unpin(cx).is_pending() {
                    let message = ready!(this.dispatcher.poll_running(cx));
                    this.dispatcher.hear(message);
                    this.waiting = None;
                    continue;
                }
            }
            (this.stop, this.waiting) = (None, None);
        }
        while this.dispatcher.journal.is_lost() && this.dispatcher.writes_a_call() {
            let done = ready!(this.dispatcher.poll_running(cx));
            if let Message::Committed(calls @ Writing::Calls(..), committed) = done {
                this.dispatcher.committed(calls, committed);
            }
        }
        this.settle_all(cx);
        Poll::Ready(Ok(()))
    }
}

impl Dispatcher {
    fn poll_running(&mut self, cx: &mut Task) -> Poll<Message> {
        for at in 0..self.running.len() {
            if let Poll::Ready(message) = self.running[at].poll_unpin(cx) {
                drop(self.running.remove(at));
                return Poll::Ready(message);
            }
        }
        Poll::Pending
    }

    /// Where somebody else holds the session, the store knows at once which of the calls that are being written it has
    /// refused.
    fn writes_a_call(&self) -> bool {
        let is_being_written = |held: &Held| {
            held.caller.as_ref().is_some_and(|caller| caller.progress().outcome() == Outcome::Unknown)
        };
        !self.running.is_empty() && self.calls.iter().any(is_being_written)
    }

    /// A call meets the end of this client.
    fn turn_away(&self, caller: Caller, outcome: Outcome) {
        let lost = self.journal.lost();
        let error = lost.unwrap_or_else(|| Error::closed("the training client", outcome));
        caller.settle(Err(error.with_outcome(outcome)));
    }
}
