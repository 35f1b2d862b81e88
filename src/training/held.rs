//! What a dispatcher holds of each call beyond its place in the lane: bytes, results, its caller, and its records.

use std::rc::Rc;

use tinkex_journal::lane::{FIRST, Lane, Number, Ticket};
use tinkex_journal::record::{Answer, Encoding, Failed, Head, Place, check};
use tinkex_protocol::json::futures::RequestType;
use tinkex_supervise as supervise;

use super::Name;
use super::dispatcher::Incoming;
use super::method::{Ask, Method};
use crate::error::{Error, Outcome};
use crate::request::retrieve::Payload;
use crate::request::{Caller, Results};
use crate::store::{Op, put};
use crate::transport::Body;

/// A call that came back from the journal.
#[derive(Clone, Debug)]
pub struct Pending {
    /// The number of its first request.
    pub first: Number,
    /// None where its record was damaged, or a later version made the call.
    pub method: Option<Method>,
    /// JSON text; empty for none.
    pub label: String,
    /// The key of its promise, where this very service made it; else 0.
    pub key: u32,
    pub finished: bool,
}

/// What a client has when it begins.
pub struct Begun {
    pub lane: Lane<Error>,
    pub pending: Vec<Pending>,
    pub held: Vec<Held>,
}

impl Begun {
    /// Of a model that is new.
    pub fn anew() -> Begun {
        Begun { lane: Lane::new(FIRST, false), pending: Vec::new(), held: Vec::new() }
    }
}

/// One call.
pub struct Held {
    pub ticket: Ticket,
    pub method: Method,
    /// None where it came from the journal: then it can't be made for another number.
    pub ask: Option<Ask>,
    pub label: String,
    pub key: u32,
    /// What is written with it; gone once that is done, so that it isn't written again over what came later.
    pub with: Vec<Op>,
    pub written: Option<supervise::Reply<()>>,
    /// 0 before it has one.
    pub first: Number,
    pub parts: Vec<Part>,
    pub caller: Option<Caller>,
    /// How it ended, where its caller has not come yet.
    pub ended: Option<Result<(), Error>>,
    pub seen: bool,
    /// What is written when its records go, and not before: a call whose caller has heard of a part that failed may have others
    /// under way, and comes back after a crash.
    pub at_end: Vec<Op>,
    /// The lane is done with it; its records wait to be seen.
    pub done: bool,
    /// Why it came back without what it asked for: it was given up, or a record of it was damaged.
    pub lost: Option<Error>,
    /// What is left of it only holds its numbers.
    pub spoiled: bool,
    /// It was sent in an earlier life.
    pub resumed: bool,
}

#[derive(Default)]
pub struct Part {
    pub path: Rc<str>,
    /// Final once written.
    pub body: Option<Body>,
    pub idempotency_key: String,
    /// It may have been sent, in this life or an earlier one.
    pub sent: bool,
    pub data: u32,
    pub result: Option<Payload>,
}

/// The call of this ticket.
pub fn find(calls: &mut [Held], ticket: Ticket) -> Option<&mut Held> {
    calls.iter_mut().find(|held| held.ticket == ticket)
}

impl Held {
    pub fn new(ticket: Ticket, Incoming { ask, name, caller }: Incoming) -> Held {
        let Name { key, label, with, written, .. } = name;
        let method = ask.method();
        let mut parts = Vec::new();
        ask.each_part(&mut |path, data| parts.push(Part { path: path.into(), data, ..Part::default() }));
        Held {
            ticket,
            method,
            parts,
            ask: Some(ask),
            label,
            key,
            with,
            written,
            first: 0,
            caller: Some(caller),
            ended: None,
            seen: false,
            at_end: Vec::new(),
            done: false,
            lost: None,
            spoiled: false,
            resumed: false,
        }
    }

    /// So far it has come now, should its caller ask.
    pub fn come_to(&self, outcome: Outcome) {
        if let Some(caller) = &self.caller {
            caller.progress().set(outcome);
        }
    }

    /// What a part is to the server.
    pub fn kind(&self, part: usize) -> RequestType {
        match self.method {
            Method::TrainStep if *self.parts[part].path == *Method::OptimStep.path() => {
                RequestType::OptimStep
            }
            method => method.kind(),
        }
    }

    pub fn number(&self, part: usize) -> Number {
        self.first + part as u64
    }

    /// The ops that write the call down under its numbers. Bodies were made.
    pub fn write(&self, model: &str, caller: String, again: bool, ops: &mut Vec<Op>) {
        let mut head = Head {
            method: self.method.name().into(),
            label: self.label.clone(),
            caller,
            key: self.key,
            parts: self.parts.len() as u32,
            again,
            ..Head::default()
        };
        for (i, part) in self.parts.iter().enumerate() {
            let number = self.number(i);
            let (encoding, bytes) = match &part.body {
                Some(Body::Json(bytes)) => (Encoding::Json, bytes.clone()),
                Some(Body::Protobuf(bytes)) => (Encoding::Protobuf, bytes.clone()),
                Some(Body::None) | None => (Encoding::Json, Rc::default()),
            };
            let body_key = Place::Body.key(model, number);
            head.path = part.path.to_string();
            head.part = i as u32;
            head.data = part.data;
            head.encoding = encoding;
            head.idempotency_key = part.idempotency_key.clone();
            head.body_length = bytes.len() as u32;
            head.body_check = check(&body_key, &bytes);
            ops.push(put(Place::Request.key(model, number), &head));
            ops.push(Op::Put(body_key, bytes));
        }
    }

    /// The ops that delete everything of it.
    pub fn delete(&self, model: &str, ops: &mut Vec<Op>) {
        if self.first == 0 {
            return;
        }
        for part in 0..self.parts.len() {
            for place in [Place::Request, Place::Body, Place::Answer] {
                ops.push(Op::Delete(place.key(model, self.number(part))));
            }
        }
    }

    /// The ops that keep what the server said of a part.
    pub fn answered(&self, model: &str, part: usize, answer: &Answer) -> Vec<Op> {
        let number = self.number(part);
        let mut ops = vec![put(Place::Answer.key(model, number), answer)];
        if !matches!(answer, Answer::Taken(_)) {
            ops.push(Op::Delete(Place::Body.key(model, number)));
        }
        ops
    }

    /// The ops that give it up, since the server refused a part.
    pub fn given_up(&self, model: &str, part: usize, why: &Error) -> Vec<Op> {
        let why = put(Place::Answer.key(model, self.number(part)), &Answer::Refused(Failed::from(why)));
        let mut ops = vec![why];
        for part in 0..self.parts.len() {
            ops.push(Op::Delete(Place::Body.key(model, self.number(part))));
        }
        ops
    }

    /// Tells the caller, or keeps it for one who comes.
    pub fn settle(&mut self, result: Result<(), Error>) {
        let result = self.lost.clone().map_or(result, Err);
        let Some(caller) = self.caller.take() else {
            self.ended = Some(result);
            return;
        };
        if result.as_ref().is_err_and(|error| error.outcome() == Outcome::Journaled) {
            // What comes of it is for whoever resumes: this caller's having seen the error is nothing.
            self.key = 0;
        } else if self.key == 0 {
            self.seen = true;
        }
        caller.settle(result.map(|()| self.results()));
    }

    /// Somebody waits for a call that came back.
    pub fn awaited(&mut self, key: u32, caller: Caller) {
        self.key = key;
        self.caller = Some(caller);
        match self.ended.take() {
            Some(result) => self.settle(result),
            None if self.done => self.settle(Err(Error::invalid("seqId", "its result was given already"))),
            None => {}
        }
    }

    fn results(&mut self) -> Results {
        let mut results = Vec::with_capacity(self.parts.len());
        for part in &mut self.parts {
            if let Some(result) = part.result.take() {
                results.push((result, part.data));
            }
        }
        results
    }
}
