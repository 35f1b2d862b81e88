//! The shell around a model's [`Lane`]: takes calls in, carries out what the lane asks for, tells it what came of it.
//!
//! Each request that is sent or polled is a task; the dispatcher holds its handle, so a panic in one becomes an event
//! of the lane, and the lane decides what follows.

use std::collections::{HashMap, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tinkex_protocol::{Datum, EncodedForwardBackward, LossCall, ModelId, ModelInput, SeqId, Tensor};
use tinkex_supervise::{Address, Context, Exit, Mailbox, TaskSupervisor, faults};

use crate::error::{Error, Outcome};
use crate::request::lane::{Effect, Event, Lane, Ticket};
use crate::request::retrieve::{Payload, retrieve};
use crate::request::submit::submit;
use crate::request::{Caller, Numbered};
use crate::transport::{Body, Call, Transport};

/// What a training client tells its dispatcher.
pub enum Message {
    Call(Ticket, Incoming),
    /// The caller doesn't wait any more.
    LetGo(Ticket),
    /// A request is not through yet; its task goes on.
    Impatient(Ticket, Error),
}

/// A call, and who made it.
pub struct Incoming {
    pub parts: Vec<Numbered>,
    pub caller: Caller<Vec<Payload>>,
}

/// What the dispatcher knows beyond the lane: bytes, results and callers.
pub struct Dispatcher {
    transport: Transport,
    model: ModelId,
    /// Where its requests run.
    requests: TaskSupervisor,
    /// Its own, for tasks that have news before they end.
    address: Address<Message>,
    lane: Lane,
    calls: HashMap<Ticket, Held>,
    running: FuturesUnordered<Running>,
    /// What happened and is not yet taken in.
    news: VecDeque<Event>,
}

struct Held {
    parts: Vec<Part>,
    caller: Option<Caller<Vec<Payload>>>,
}

struct Part {
    request: Numbered,
    /// Final once written.
    body: Option<Body>,
    number: SeqId,
    result: Option<Payload>,
}

type Running = Pin<Box<dyn Future<Output = Done>>>;

enum Done {
    Event(Event),
    Result(Ticket, usize, Payload),
}

enum Wake {
    Stop,
    Message(Message),
    Done(Done),
}

impl Dispatcher {
    pub fn new(
        transport: Transport,
        model: ModelId,
        requests: TaskSupervisor,
        address: Address<Message>,
    ) -> Dispatcher {
        Dispatcher {
            transport,
            model,
            requests,
            address,
            lane: Lane::new(SeqId::FIRST),
            calls: HashMap::new(),
            running: FuturesUnordered::new(),
            news: VecDeque::new(),
        }
    }

    /// The process: runs until it is asked to stop, and then settles every caller.
    pub async fn run(mut self, ctx: Context, mut inbox: Mailbox<Message>) -> Result<(), Exit> {
        ctx.show_queue("messages", inbox.length());
        ctx.ready();
        let mut stop = pin!(ctx.shutdown());
        loop {
            let waiting = ctx.waiting_for(match self.lane.lengths() {
                (0, 0) => "a call",
                (_, 0) => "the server to take a request",
                _ => "a result",
            });
            let wake = poll_fn(|cx| {
                if stop.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Wake::Stop);
                }
                if let Poll::Ready(Some(message)) = pin!(inbox.next()).poll(cx) {
                    return Poll::Ready(Wake::Message(message));
                }
                match self.running.poll_next_unpin(cx) {
                    Poll::Ready(Some(done)) => Poll::Ready(Wake::Done(done)),
                    _ => Poll::Pending,
                }
            })
            .await;
            drop(waiting);
            faults::point("dispatcher");
            match wake {
                Wake::Stop => break,
                Wake::Message(Message::Call(ticket, incoming)) => self.take(ticket, incoming),
                Wake::Message(Message::LetGo(ticket)) => self.news.push_back(Event::LetGo(ticket)),
                Wake::Message(Message::Impatient(ticket, error)) => {
                    self.news.push_back(Event::OutOfPatience(ticket, error));
                }
                Wake::Done(Done::Event(event)) => self.news.push_back(event),
                Wake::Done(Done::Result(ticket, part, payload)) => {
                    if let Some(held) = self.calls.get_mut(&ticket) {
                        held.parts[part].result = Some(payload);
                    }
                    self.news.push_back(Event::Finished(ticket, part));
                }
            }
            while let Some(event) = self.news.pop_front() {
                let effects = self.lane.step(event);
                self.perform(effects);
            }
        }
        let effects = self.lane.close(|outcome| Error::closed("the training client", outcome));
        self.perform(effects);
        while let Some(message) = inbox.next().now_or_never().flatten() {
            if let Message::Call(_, incoming) = message {
                incoming.caller.settle(Err(Error::closed("the training client", Outcome::NotSent)));
            }
        }
        Ok(())
    }

    fn take(&mut self, ticket: Ticket, incoming: Incoming) {
        let parts: Vec<Part> = incoming
            .parts
            .into_iter()
            .map(|request| Part { request, body: None, number: SeqId::FIRST, result: None })
            .collect();
        let count = parts.len();
        self.calls.insert(ticket, Held { parts, caller: Some(incoming.caller) });
        let effects = self.lane.call(ticket, count);
        self.perform(effects);
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Write { ticket, first } => {
                    let event = match self.write(ticket, first) {
                        Ok(()) => Event::Written(ticket),
                        Err(error) => Event::NotWritten(ticket, error),
                    };
                    self.news.push_back(event);
                }
                Effect::Send { ticket, part } => self.send(ticket, part, false),
                Effect::Fill { ticket, part } => self.send(ticket, part, true),
                Effect::Poll { ticket, part, request } => {
                    let Some(held) = self.calls.get(&ticket) else { continue };
                    let kind = held.parts[part].request.kind;
                    let name = format!("result of {} {}", kind.as_str(), held.parts[part].number);
                    let (transport, address) = (self.transport.clone(), self.address.clone());
                    let poll = self.requests.spawn_nolink(name, move |ctx| async move {
                        let impatient = |error| drop(address.send(Message::Impatient(ticket, error)));
                        retrieve(&transport, &ctx, &request, kind, impatient).await
                    });
                    self.running.push(Box::pin(async move {
                        match poll.await {
                            Ok(Ok(payload)) => Done::Result(ticket, part, payload),
                            Ok(Err(error)) => Done::Event(Event::Failed(ticket, part, error)),
                            Err(exit) => Done::Event(Event::Crashed(
                                ticket,
                                part,
                                Error::from_exit(&exit, Outcome::Unknown),
                            )),
                        }
                    }));
                }
                Effect::Settle { ticket, result } => self.settle(ticket, result.map_err(|error| error.0)),
                Effect::Forget { ticket } => {
                    self.calls.remove(&ticket);
                }
            }
        }
    }

    /// Gives the parts of a call their numbers and makes their bytes, which are final from here on.
    fn write(&mut self, ticket: Ticket, first: SeqId) -> Result<(), Error> {
        let Some(held) = self.calls.get_mut(&ticket) else { return Ok(()) };
        let mut number = first;
        for part in &mut held.parts {
            part.number = number;
            part.body = Some((part.request.body)(&self.model, number)?);
            number = number.next();
        }
        if let Some(caller) = &held.caller {
            caller.progress().sent();
        }
        Ok(())
    }

    fn send(&mut self, ticket: Ticket, part: usize, filler: bool) {
        let Some(held) = self.calls.get(&ticket) else { return };
        let Part { request, body, number, .. } = &held.parts[part];
        let (path, body) = match (filler, body) {
            (false, Some(body)) => (request.path, Ok(body.clone())),
            _ => ("forward_backward", nothing(&self.model, *number)),
        };
        let name = format!("{} {number}", if filler { "place of" } else { request.kind.as_str() });
        let body = match body {
            Ok(body) => body,
            Err(error) => return self.news.push_back(Event::Crashed(ticket, part, error)),
        };
        let (transport, address) = (self.transport.clone(), self.address.clone());
        let sending = self.requests.spawn_nolink(name, move |ctx| async move {
            let impatient = |error| drop(address.send(Message::Impatient(ticket, error)));
            submit(&transport, &ctx, Call::post(path, body), impatient).await
        });
        self.running.push(Box::pin(async move {
            Done::Event(match sending.await {
                Ok(Ok(request)) => Event::Answered(ticket, part, request),
                Ok(Err(refusal)) => Event::Refused(ticket, part, refusal),
                Err(exit) => Event::Crashed(ticket, part, Error::from_exit(&exit, Outcome::Unknown)),
            })
        }));
    }

    fn settle(&mut self, ticket: Ticket, result: Result<(), Error>) {
        let Some(held) = self.calls.get_mut(&ticket) else { return };
        let Some(caller) = held.caller.take() else { return };
        caller.settle(result.map(|()| {
            let results = held.parts.iter_mut().filter_map(|part| part.result.take());
            results.collect()
        }));
    }
}

/// A request that changes nothing, for a number that would be left out: a forward pass over one token.
fn nothing(model: &ModelId, number: SeqId) -> Result<Body, Error> {
    let call = LossCall { forward_only: true, ..LossCall::new("cross_entropy") };
    let inputs = [("target_tokens", Tensor::integers(&[0])), ("weights", Tensor::floats(&[0.0]))];
    let datum = Datum {
        model_input: ModelInput::from_tokens(vec![0]),
        loss_fn_inputs: inputs.into_iter().map(|(name, tensor)| (name.to_owned(), tensor)).collect(),
        ..Datum::default()
    };
    let bytes = EncodedForwardBackward::new([datum], &call)?.with_header(model, number)?;
    Ok(Body::Protobuf(Rc::from(bytes)))
}
