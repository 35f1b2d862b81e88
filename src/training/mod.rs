//! TrainingClient: what can be done with one model in training, in order.

pub mod deferred;
pub mod dispatcher;
pub mod held;
pub mod method;
pub mod serving;
mod writing;

use std::cell::Cell;
use std::future::{Future, ready};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{self, Context, Poll};

use futures_util::FutureExt;
use futures_util::future::Either;
use tinkex_journal::lane::Ticket;
use tinkex_protocol::chunking::{chunks, datum_bytes};
use tinkex_protocol::json::training::{AdamParams, GetInfo, ModelInfo};
use tinkex_protocol::metrics::Metrics;
use tinkex_protocol::{
    Datum, EncodedForwardBackward, ForwardBackwardOutput, LossCall, ModelId, SamplingSessionId,
};
use tinkex_supervise::{self as supervise, Address, TaskSupervisor};

use crate::error::{Error, Outcome};
use crate::request::{Progress, Reply, caller};
use crate::session::Session;
use crate::store::Op;
use crate::transport::Call;
use dispatcher::{Incoming, Message};
use method::{Ask, Method, Output, Part};

pub use held::Pending;
pub use method::Save;

/// The handle of one model in training. Clones are the same client.
///
/// Each method takes its place in the order when it is called; the future that it gives only waits for the result.
#[derive(Clone)]
pub struct TrainingClient(Rc<Inner>);

struct Inner {
    model: ModelId,
    session: Session,
    dispatcher: Address<Message>,
    calls: TaskSupervisor,
    next_ticket: Cell<u64>,
    /// Calls that were in the journal when this client was made.
    pending: Vec<Pending>,
}

/// By what a call is known to whoever made it.
#[derive(Default)]
pub struct Name {
    /// The key of its promise; 0 for none, and then its result counts as seen when it is given.
    pub key: u32,
    /// JSON text; empty for none.
    pub label: String,
    /// Whoever made it may give it up.
    pub revocable: bool,
    /// What is written with it, in the same commit.
    pub with: Vec<Op>,
    /// Told when it is written; dropped when it could not be.
    pub written: Option<supervise::Reply<()>>,
}

impl TrainingClient {
    pub(crate) fn new(
        model: ModelId,
        session: Session,
        dispatcher: Address<Message>,
        calls: TaskSupervisor,
        pending: Vec<Pending>,
    ) -> TrainingClient {
        // Behind the tickets of those that were there before.
        let next_ticket = Cell::new(pending.len() as u64);
        TrainingClient(Rc::new(Inner { model, session, dispatcher, calls, next_ticket, pending }))
    }

    pub fn model(&self) -> &ModelId {
        &self.0.model
    }

    /// Where calls of this client run as tasks: bounded, and ended when the client is closed.
    pub fn calls(&self) -> &TaskSupervisor {
        &self.0.calls
    }

    /// The calls that came back with this client, in their order: those that go on, and finished ones that nobody has
    /// seen. [`result`](TrainingClient::result) waits for one.
    pub fn pending(&self) -> &[Pending] {
        &self.0.pending
    }

    /// The caller of this key has seen what came of its call: nothing of it need be kept.
    pub fn seen(&self, key: u32) {
        self.seen_with(key, Vec::new());
    }

    /// The same; `with` is written in the commit that deletes it.
    pub fn seen_with(&self, key: u32, with: Vec<Op>) {
        // A client that has ended leaves it in the journal: it will come back as finished.
        let _ = self.0.dispatcher.send(Message::Seen(key, with));
    }

    /// Answered, or dropped, when the journal has no more of what was seen before.
    pub fn barrier(&self) -> supervise::Answer<()> {
        let (done, deleted) = supervise::reply();
        // To a client that has ended it is dropped.
        let _ = self.0.dispatcher.send(Message::Barrier(done));
        deleted
    }

    /// Takes a call's place in the order.
    pub fn ask(&self, ask: Ask, name: Name, progress: &Progress) -> Asked {
        let method = ask.method();
        let ticket = Ticket(self.0.next_ticket.get());
        self.0.next_ticket.set(ticket.0 + 1);
        self.0.session.wake();
        let dispatcher = self.0.dispatcher.clone();
        let let_go = move || drop(dispatcher.send(Message::LetGo(ticket)));
        let (caller, reply) = caller(progress.clone(), Box::new(let_go));
        let message = Message::Call(ticket, Box::new(Incoming { ask, name, caller }));
        if let Err(Message::Call(_, incoming)) = self.0.dispatcher.send(message) {
            incoming.caller.settle(Err(self.ended(Outcome::NotSent)));
        }
        Asked { method, resumed: false, reply }
    }

    /// A forward pass, or a forward and backward pass whose gradients add up until the next step. Large data are cut
    /// into several requests, and their results put together.
    pub fn forward_backward(
        &self,
        data: Vec<Datum>,
        call: LossCall,
        progress: &Progress,
    ) -> impl Future<Output = Result<ForwardBackwardOutput, Error>> + use<> {
        let asked = match self.cut(data, &call) {
            Ok(ask) => self.ask(ask, Name::default(), progress),
            Err(error) => return Either::Left(ready(Err(error))),
        };
        Either::Right(async move {
            match asked.await? {
                Output::Forward(output) => Ok(output),
                _ => Err(Error::protocol("the result is of another method")),
            }
        })
    }

    /// One step of the optimizer over the gradients since the last one.
    pub fn optim_step(
        &self,
        params: AdamParams,
        progress: &Progress,
    ) -> impl Future<Output = Result<Metrics, Error>> + use<> {
        let asked = self.ask(Ask::OptimStep(params), Name::default(), progress);
        async move {
            match asked.await? {
                Output::Step(metrics) => Ok(metrics),
                _ => Err(Error::protocol("the result is of another method")),
            }
        }
    }

    /// Saves weights and optimizer under a name; gives the checkpoint's path.
    pub fn save_state(
        &self,
        save: Save,
        progress: &Progress,
    ) -> impl Future<Output = Result<String, Error>> + use<> {
        let asked = self.ask(Ask::SaveState(save), Name::default(), progress);
        async move { asked.path().await }
    }

    /// Puts the weights of a checkpoint, and with `optimizer` its optimizer, in the place of this model's own.
    pub fn load_state(
        &self,
        path: String,
        optimizer: bool,
        progress: &Progress,
    ) -> impl Future<Output = Result<(), Error>> + use<> {
        let asked = self.ask(deferred::load_state(path, optimizer), Name::default(), progress);
        async move { asked.await.map(|_| ()) }
    }

    /// Saves weights that a sampler can be made of, under a name; gives the path.
    pub fn save_weights_for_sampler(
        &self,
        save: Save,
        progress: &Progress,
    ) -> impl Future<Output = Result<String, Error>> + use<> {
        let asked = self.ask(Ask::SaveWeightsForSampler(save), Name::default(), progress);
        async move { asked.path().await }
    }

    /// Makes a sampler of the weights as they are at this point of the order, without a name.
    pub fn save_weights_for_new_sampler(
        &self,
        progress: &Progress,
    ) -> impl Future<Output = Result<SamplingSessionId, Error>> + use<> {
        let asked = self.ask(self.new_sampler(), Name::default(), progress);
        async move {
            match asked.await? {
                Output::Sampler(id) => Ok(id),
                _ => Err(Error::protocol("the result is of another method")),
            }
        }
    }

    /// What asks for a sampler of the weights, which takes its number now.
    pub fn new_sampler(&self) -> Ask {
        Ask::NewSampler(self.0.session.nth_sampler())
    }

    /// What the server says of the model. Not part of the order.
    pub fn get_info(&self) -> impl Future<Output = Result<ModelInfo, Error>> + use<> {
        let transport = self.0.session.transport().clone();
        let ask = GetInfo { model_id: self.0.model.clone(), tag: Default::default() };
        async move { transport.fetch(Call::post_json("get_info", &ask)).await?.read() }
    }

    /// Cuts data into requests within the service's limits.
    pub fn cut(&self, data: Vec<Datum>, call: &LossCall) -> Result<Ask, Error> {
        if data.is_empty() {
            return Err(Error::invalid("data", "the batch is empty: give at least one datum"));
        }
        let ranges = chunks(data.iter().map(datum_bytes), self.0.session.known_limits());
        let mut data = data.into_iter();
        let mut parts = Vec::with_capacity(ranges.len());
        for range in ranges {
            let encoded = EncodedForwardBackward::new(data.by_ref().take(range.len()), call)?;
            parts.push(Part::Pass(encoded, range.len() as u32));
        }
        Ok(Ask::Data { forward_only: call.forward_only, parts })
    }

    /// The same, and behind it a step of the optimizer, which is written in the same commit.
    pub fn cut_step(&self, data: Vec<Datum>, call: &LossCall, params: AdamParams) -> Result<Ask, Error> {
        let mut ask = self.cut(data, call)?;
        if let Ask::Data { parts, .. } = &mut ask {
            parts.push(Part::Step(params));
        }
        Ok(ask)
    }

    /// Why a call can't be taken any more.
    fn ended(&self, outcome: Outcome) -> Error {
        let lost = self.0.session.lost();
        lost.unwrap_or_else(|| Error::closed("the training client", outcome)).with_outcome(outcome)
    }
}

/// A call that has its place. Resolves with what comes of it.
pub struct Asked {
    pub method: Method,
    /// It came back: what it made may have been used before.
    pub resumed: bool,
    reply: Reply,
}

impl Future for Asked {
    type Output = Result<Output, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context) -> Poll<Result<Output, Error>> {
        let results = task::ready!(self.reply.poll_unpin(cx))?;
        Poll::Ready(self.method.read(results))
    }
}

impl Asked {
    async fn path(self) -> Result<String, Error> {
        match self.await? {
            Output::Path(path) => Ok(path),
            _ => Err(Error::protocol("the result is of another method")),
        }
    }
}
