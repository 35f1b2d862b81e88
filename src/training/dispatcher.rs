//! The shell around a model's [`Lane`]: takes calls in, carries out what the lane asks for, tells it what came of it.
//!
//! What is sent was written before (`writing`). Each request that is sent or polled is a task; the dispatcher holds its
//! handle, so a panic in one becomes an event of the lane, and the lane decides what follows.

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use tinkex_journal::lane::{Effect, Event, Failure, Lane, Number, Refusal, Shape, Ticket};
use tinkex_journal::record::{ANSWERS, Answer, Encoding, Failed};
use tinkex_protocol::{ModelId, RequestId, SeqId};
use tinkex_supervise::{Address, Exit, Reply, TaskSupervisor, faults};

use super::Name;
use super::held::{Held, find};
use super::method::{Ask, Method, nothing};
use super::writing::{Together, Writing};
use crate::error::{Error, Outcome};
use crate::platform::uuid;
use crate::request::Caller;
use crate::request::retrieve::{Payload, retrieve};
use crate::request::submit::{Denied, submit, taken};
use crate::session::OF_A_RUN;
use crate::store::{Journal, Op};
use crate::transport::{Call, Fetched, Transport};

/// What a training client tells its dispatcher, and what comes of what runs beside it.
pub enum Message {
    Call(Ticket, Box<Incoming>),
    /// The caller doesn't wait any more.
    LetGo(Ticket),
    /// A request is not through yet; its task goes on.
    Impatient(Ticket, Error),
    /// Somebody waits for a call that came back.
    Await {
        first: Number,
        key: u32,
        caller: Caller,
    },
    /// The caller of this key knows what came of its call; with its records' going this is written.
    Seen(u32, Vec<Op>),
    /// Answered when all that came before is done.
    Barrier(Reply<()>),
    /// A part was sent until the server took it under this id, or did not.
    Sent(Ticket, usize, Result<String, Denied>),
    Polled(Ticket, usize, Result<Payload, Error>),
    /// The task that sent or polled a part has ended so.
    Crashed(Ticket, usize, Exit),
    Committed(Writing, Result<(), Error>),
    /// A result has waited in [`Dispatcher::later`], since so many flushes were made.
    Soon(u32),
    /// It is late for what that had when so many flushes were made.
    Late(u32),
}

/// What the server says to a request in the end.
type Answered = Result<Fetched, Error>;

/// A call, and who made it.
pub struct Incoming {
    pub ask: Ask,
    pub name: Name,
    pub caller: Caller,
}

/// What the dispatcher knows beyond the lane: bytes, results, callers and records.
pub struct Dispatcher {
    pub transport: Transport,
    pub journal: Journal,
    pub model: ModelId,
    /// Where its requests run.
    pub requests: TaskSupervisor,
    /// Its own, for tasks that have news before they end.
    pub address: Address<Message>,
    pub lane: Lane<Error>,
    /// In the order in which they were made.
    pub calls: Vec<Held>,
    /// Requests, commits and timers. There are few at a time: a call's parts, and the one poll.
    pub running: Vec<LocalBoxFuture<'static, Message>>,
    /// What has its numbers and is not yet on its way to the disk.
    pub together: Together,
    /// What is to be written with whatever is written next, or soon by itself.
    pub later: Vec<Op>,
    /// How often that was taken for a commit.
    pub flushes: u32,
}

impl Dispatcher {
    pub(super) fn hear(&mut self, message: Message) {
        faults::point!("dispatcher");
        match message {
            Message::Call(ticket, incoming) => {
                let revocable = incoming.name.revocable;
                let held = Held::new(ticket, *incoming);
                let ends_apart = held.method == Method::TrainStep;
                self.lane.call(ticket, Shape { parts: held.parts.len(), ends_apart, revocable });
                self.calls.push(held);
            }
            Message::LetGo(ticket) => {
                if let Some(held) = self.find(ticket) {
                    let caller = held.caller.take();
                    held.seen |= caller.is_some_and(|caller| caller.progress().is_given_up());
                }
                self.lane.step(Event::LetGo(ticket));
            }
            Message::Impatient(ticket, error) => self.lane.step(Event::OutOfPatience(ticket, error)),
            Message::Await { first, key, caller } => {
                let held = self.calls.iter_mut().find(|held| held.resumed && held.first == first);
                match held {
                    Some(held) => held.awaited(key, caller),
                    None => caller.settle(Err(Error::invalid("seqId", "its result was seen already"))),
                }
                self.sweep();
            }
            Message::Seen(key, with) => self.seen(key, with),
            Message::Barrier(done) => {
                self.go_on();
                self.relaxed(Vec::new());
                let _ = done.send(());
            }
            Message::Sent(ticket, part, taken) => self.sent(ticket, part, taken),
            Message::Polled(ticket, part, polled) => self.polled(ticket, part, polled),
            Message::Crashed(ticket, part, exit) => {
                self.lane.step(Event::Crashed(ticket, part, Error::from_exit(&exit, Outcome::Unknown)));
            }
            Message::Committed(writing, committed) => self.committed(writing, committed),
            Message::Soon(of) => self.soon(of),
            Message::Late(of) => self.late(of),
        }
    }

    /// Does what there is to do by now, and says what it waits for then.
    pub(super) fn go_on(&mut self) -> &'static str {
        loop {
            while let Some(effect) = self.lane.next_effect() {
                self.perform(effect);
            }
            if self.write() {
                break;
            }
        }
        self.sweep();
        match self.lane.lengths() {
            (0, 0) => "a call",
            (_, 0) => "the server to take a request",
            _ => "a result",
        }
    }

    pub(super) fn find(&mut self, ticket: Ticket) -> Option<&mut Held> {
        find(&mut self.calls, ticket)
    }

    /// What came of a request is written down first, where it is worth it.
    fn sent(&mut self, ticket: Ticket, part: usize, taken: Result<String, Denied>) {
        let stays = self.journal.owner().starts_with(OF_A_RUN);
        let event = match taken {
            Ok(request) => {
                self.keep(ticket, part, Answer::Taken(request.clone()));
                Event::Answered(ticket, part, request)
            }
            // A run comes back with a key that is let in. Until then what it asks for stays in its order: were this call gone,
            // one behind it could be let in.
            Err(Denied::Refused(Refusal::Final(error))) if stays && lets_nobody_in(&error) => {
                Event::Barred(ticket, part, error)
            }
            Err(Denied::Refused(refusal)) => Event::Refused(ticket, part, refusal),
            Err(Denied::Barred(error)) => Event::Barred(ticket, part, error),
        };
        self.lane.step(event);
    }

    fn polled(&mut self, ticket: Ticket, part: usize, polled: Result<Payload, Error>) {
        let event = match polled {
            Ok(payload) => {
                let (encoding, bytes) = match &payload {
                    Payload::Json(bytes) => (Encoding::Json, bytes),
                    Payload::Protobuf(bytes) => (Encoding::Protobuf, bytes),
                };
                self.keep(ticket, part, Answer::Result(encoding, bytes.clone()));
                if let Some(held) = self.find(ticket) {
                    held.parts[part].result = Some(payload);
                }
                Event::Finished(ticket, part)
            }
            // The result is still there for whoever is let in.
            Err(error) if lets_nobody_in(&error) => Event::Barred(ticket, part, error),
            Err(error) => {
                self.keep(ticket, part, Answer::Failed(Failed::from(&error)));
                Event::Failed(ticket, part, error)
            }
        };
        self.lane.step(event);
    }

    fn perform(&mut self, effect: Effect<Error>) {
        match effect {
            Effect::Write { ticket, first, again } => self.number(ticket, first, again),
            Effect::Send { ticket, part } => self.send(ticket, part, false),
            Effect::GiveUp { ticket, part, error } => self.give_up(ticket, part, &error),
            Effect::Fill { ticket, part } => self.send(ticket, part, true),
            Effect::Poll { ticket, part, request } => self.poll(ticket, part, RequestId::new(request)),
            Effect::Settle { ticket, result } => {
                if let Some(held) = self.find(ticket) {
                    held.settle(result.map_err(told));
                }
            }
            Effect::Forget { ticket, records } => self.forget(ticket, records),
        }
    }

    fn send(&mut self, ticket: Ticket, part: usize, filler: bool) {
        let Some(held) = find(&mut self.calls, ticket) else { return };
        let number = SeqId::new(held.number(part));
        let kind = held.kind(part).as_str();
        let alone = held.parts.len() == 1 && held.first + 1 == self.lane.next_number();
        let written = &mut held.parts[part];
        // Whoever is not let in can't tell then what the server has of the call, or can't give its number back.
        let unclear = std::mem::replace(&mut written.sent, true) || filler || !alone;
        let (call, key) = match &written.body {
            Some(body) if !filler => {
                (Call::post(&written.path, body.clone()), written.idempotency_key.clone())
            }
            _ => match nothing(&self.model, number) {
                Ok(body) => (Call::post("forward_backward", body), uuid(&**self.transport.platform())),
                Err(error) => return self.lane.step(Event::Crashed(ticket, part, error)),
            },
        };
        let call = Call { idempotency_key: Some(key), ..call };
        let name = format!("{} {number}", if filler { "place of" } else { kind });
        let answer = submit(&self.transport, call, unclear, self.impatient(ticket));
        let sent = |ticket, part, answer| Message::Sent(ticket, part, taken(answer));
        self.start(ticket, part, name, answer, sent);
    }

    fn poll(&mut self, ticket: Ticket, part: usize, request: RequestId) {
        let Some(held) = self.find(ticket) else { return };
        let kind = held.kind(part);
        let name = format!("result of {} {}", kind.as_str(), held.number(part));
        let answer = retrieve(&self.transport, &request, kind, self.impatient(ticket));
        let polled = |ticket, part, answer: Answered| Message::Polled(ticket, part, answer.map(Payload::of));
        self.start(ticket, part, name, answer, polled);
    }

    fn impatient(&self, ticket: Ticket) -> Box<dyn FnOnce(Error)> {
        let address = self.address.clone();
        Box::new(move |error| drop(address.send(Message::Impatient(ticket, error))))
    }

    /// Waits in a task of this name for the answer to a request, and has `read` made of it what the dispatcher is told.
    fn start(
        &mut self,
        ticket: Ticket,
        part: usize,
        name: String,
        answer: LocalBoxFuture<'static, Answered>,
        read: fn(Ticket, usize, Answered) -> Message,
    ) {
        let work = answer.map(move |answer| read(ticket, part, answer)).boxed_local();
        let task = self.requests.spawn_nolink(name, |_| work);
        let ended = task.map(move |ended| ended.unwrap_or_else(|exit| Message::Crashed(ticket, part, exit)));
        self.running.push(ended.boxed_local());
    }
}

/// A failure as its caller is told of it.
fn told(failure: Failure<Error>) -> Error {
    let (error, what, outcome) = match failure {
        Failure::As(error) => return error,
        Failure::With(error, outcome) => (error, "", outcome),
        Failure::InPart(error) => {
            let what = "a part of this call was refused, and the server trains on others";
            (error, what, Outcome::Unknown)
        }
        Failure::Behind(error, outcome) => (error, "an earlier request of this model can't go on", outcome),
    };
    let error = error.with_outcome(outcome);
    if what.is_empty() { error } else { error.context(what) }
}

/// A request's id may be older than what was written meanwhile; sending again finds it.
pub(super) fn is_answer(op: &Op) -> bool {
    matches!(op, Op::Put(key, _) if key.starts_with(ANSWERS))
}

/// Whether one is an answer, and the other of the request that has it: its bytes go because of that.
pub(super) fn is_of_one_request(op: &Op, answer: &Op) -> bool {
    is_answer(answer) && answer.key().strip_prefix(ANSWERS).is_some_and(|request| op.key().ends_with(request))
}

/// The server takes nothing from whoever has this key.
fn lets_nobody_in(error: &Error) -> bool {
    matches!(error.status(), Some(401..=403))
}
