//! The order of one model's numbered requests: a pure state machine, so that every fault can be tried without a
//! network. It says what to do next; its shell (the training client's dispatcher) does it and says what came of it.
//!
//! ```text
//! call → ticket → write: number + exact bytes → send → request id → poll → result → settle
//! ```
//!
//! What holds, whatever comes:
//! - Calls get their numbers in the order in which they were made, and only one at a time is being written and sent.
//! - A number is given once. It is free again only if the server refused it and nothing with a higher number was sent.
//! - Of a call in parts, parts 2…n are answered before part 1 is sent, so that the server has them all when it starts.
//! - A request that has a number is sent until the server answers it, whether or not its caller still waits.
//! - One poll at a time, for the oldest request: a model's results come in order.
//! - Each call is settled exactly once.

use std::collections::VecDeque;

use tinkex_protocol::{RequestId, SeqId};

use crate::error::{Error, Outcome};

/// A call's place in the queue, given when it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub(crate) u64);

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// The bytes of a call are written down, under the numbers that [`Effect::Write`] gave.
    Written(Ticket),
    /// They could not be written: nothing was sent, and the numbers are free.
    NotWritten(Ticket, Error),
    /// The server took a part and will work on it under this id.
    Answered(Ticket, usize, RequestId),
    /// The server will never take this part.
    Refused(Ticket, usize, Refusal),
    /// Sending goes on, but this caller has waited long enough.
    OutOfPatience(Ticket, Error),
    /// The task that sent or polled a part died. The caller hears of it; the request itself goes on.
    Crashed(Ticket, usize, Error),
    /// A part has its result; the shell keeps it.
    Finished(Ticket, usize),
    /// A part's result is that it failed, or can't be had.
    Failed(Ticket, usize, Error),
    /// The caller gave the call up.
    LetGo(Ticket),
}

/// Why a part was not taken.
#[derive(Debug)]
pub enum Refusal {
    /// It is not to be done: a status that ends it.
    Final(Error),
    /// Its number was used before, with another body.
    NumberUsed(Error),
}

/// What the shell has to do.
#[derive(Debug, PartialEq)]
pub enum Effect {
    /// Make the exact bytes of the call's parts, numbered from `first` on, and write them down.
    Write { ticket: Ticket, first: SeqId },
    /// Send a part as it was written.
    Send { ticket: Ticket, part: usize },
    /// A number would be left out: send something that changes nothing in its place.
    Fill { ticket: Ticket, part: usize },
    /// Ask for the result of a part.
    Poll { ticket: Ticket, part: usize, request: RequestId },
    /// Tell the caller: the parts' results are there, or this error.
    Settle { ticket: Ticket, result: Result<(), SettleError> },
    /// Nothing of this call is needed any more.
    Forget { ticket: Ticket },
}

/// The error of a call, compared by its text in tests.
#[derive(Debug)]
pub struct SettleError(pub Error);

impl PartialEq for SettleError {
    fn eq(&self, other: &SettleError) -> bool {
        self.0.message() == other.0.message() && self.0.outcome() == other.0.outcome()
    }
}

/// How often a part whose task crashed is sent or polled again before its client gives up.
const MAX_CRASHES: u32 = 3;

/// One model's requests, from call to result.
#[derive(Debug)]
pub struct Lane {
    /// The number that the next written request gets.
    next_number: SeqId,
    /// The number before was refused and is used anew; should the server have kept it after all, the next is taken.
    number_may_be_used: bool,
    /// In the order in which they were made.
    calls: VecDeque<Call>,
    /// Why nothing goes on here any more.
    broken: Option<Error>,
}

#[derive(Debug)]
struct Call {
    ticket: Ticket,
    phase: Phase,
    parts: Vec<Part>,
    /// Whether somebody still waits for the result.
    awaited: bool,
    /// A part was refused while others may be with the server: what is left only holds its number.
    spoiled: bool,
    crashes: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Queued,
    Writing,
    /// It has its numbers, and its bytes are final.
    Written,
}

/// What became of one number.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// Nothing the server took.
    ToSend,
    Sending,
    /// A request that changes nothing is being sent in its place.
    Filling,
    Answered(RequestId),
    Polling(RequestId),
    /// It has its result, has failed, or its number was filled.
    Done,
}

impl Lane {
    /// A lane whose next request gets the number `first` (1 for a new model).
    pub fn new(first: SeqId) -> Lane {
        Lane { next_number: first, number_may_be_used: false, calls: VecDeque::new(), broken: None }
    }

    /// A call of `parts` requests (at least one) takes its place behind all others.
    pub fn call(&mut self, ticket: Ticket, parts: usize) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.calls.push_back(Call {
            ticket,
            phase: Phase::Queued,
            parts: vec![Part::ToSend; parts.max(1)],
            awaited: true,
            spoiled: false,
            crashes: 0,
        });
        self.go_on(&mut effects);
        effects
    }

    /// Takes in what happened. Events of calls that are no more are ignored.
    pub fn step(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Written(ticket) => self.written(ticket),
            Event::NotWritten(ticket, error) => self.not_written(ticket, error, &mut effects),
            Event::Answered(ticket, part, request) => self.answered(ticket, part, request, &mut effects),
            Event::Refused(ticket, part, refusal) => self.refused(ticket, part, refusal, &mut effects),
            Event::OutOfPatience(ticket, error) => self.settle(ticket, Err(error), &mut effects),
            Event::Crashed(ticket, part, error) => self.crashed(ticket, part, error, &mut effects),
            Event::Finished(ticket, part) => self.done(ticket, part, &mut effects),
            Event::Failed(ticket, part, error) => {
                self.settle(ticket, Err(error), &mut effects);
                self.done(ticket, part, &mut effects);
            }
            Event::LetGo(ticket) => self.let_go(ticket, &mut effects),
        }
        self.go_on(&mut effects);
        effects
    }

    /// Settles every caller with `reason` and takes no more calls. What was written stays with whoever wrote it.
    pub fn close(&mut self, reason: impl Fn(Outcome) -> Error) -> Vec<Effect> {
        let mut effects = Vec::new();
        for call in &mut self.calls {
            if std::mem::take(&mut call.awaited) {
                let error = reason(call.outcome());
                effects.push(Effect::Settle { ticket: call.ticket, result: Err(SettleError(error)) });
            }
        }
        self.calls.clear();
        self.broken = Some(reason(Outcome::NotSent));
        effects
    }

    /// Calls that wait for their turn, and requests that wait for their result.
    pub fn lengths(&self) -> (usize, usize) {
        let queued = self.calls.iter().filter(|call| call.phase != Phase::Written).count();
        (queued, self.calls.len() - queued)
    }

    fn find(&mut self, ticket: Ticket) -> Option<&mut Call> {
        self.calls.iter_mut().find(|call| call.ticket == ticket)
    }

    fn written(&mut self, ticket: Ticket) {
        if let Some(call) = self.find(ticket)
            && call.phase == Phase::Writing
        {
            call.phase = Phase::Written;
            let parts = call.parts.len() as u64;
            self.next_number = SeqId::new(self.next_number.get() + parts);
        }
    }

    fn not_written(&mut self, ticket: Ticket, error: Error, effects: &mut Vec<Effect>) {
        self.settle(ticket, Err(error.with_outcome(Outcome::NotSent)), effects);
        self.remove(ticket, effects);
    }

    fn answered(&mut self, ticket: Ticket, part: usize, request: RequestId, effects: &mut Vec<Effect>) {
        self.number_may_be_used = false;
        let Some(call) = self.find(ticket) else { return };
        match call.parts[part] {
            Part::Sending if !call.spoiled => call.parts[part] = Part::Answered(request),
            Part::Sending | Part::Filling => self.done(ticket, part, effects),
            _ => {}
        }
    }

    fn refused(&mut self, ticket: Ticket, part: usize, refusal: Refusal, effects: &mut Vec<Effect>) {
        let number_may_be_used = self.number_may_be_used;
        let Some(call) = self.find(ticket) else { return };
        let (Refusal::Final(error) | Refusal::NumberUsed(error)) = &refusal;
        let error = error.clone();
        if call.parts[part] == Part::Filling {
            // Nothing better can be put in its place.
            self.done(ticket, part, effects);
        } else if call.parts.len() > 1 {
            // Other parts may be with the server already, so this is no clean refusal.
            call.spoiled = true;
            call.parts[part] = Part::ToSend;
            self.settle(ticket, Err(error.with_outcome(Outcome::Unknown)), effects);
            self.drop_results_of(ticket, effects);
        } else if matches!(refusal, Refusal::NumberUsed(_)) && number_may_be_used {
            // The server kept the number that it refused before. These bytes were never taken: number them anew.
            call.phase = Phase::Queued;
            call.parts[part] = Part::ToSend;
            self.number_may_be_used = false;
        } else {
            self.settle(ticket, Err(error), effects);
            self.remove(ticket, effects);
            if matches!(refusal, Refusal::Final(_)) {
                self.next_number = SeqId::new(self.next_number.get() - 1);
                self.number_may_be_used = true;
            }
        }
    }

    fn crashed(&mut self, ticket: Ticket, part: usize, error: Error, effects: &mut Vec<Effect>) {
        let Some(call) = self.find(ticket) else { return };
        call.crashes += 1;
        let given_up = call.crashes > MAX_CRASHES;
        let error = error.with_outcome(call.outcome());
        let was_writing = call.phase == Phase::Writing;
        let state = call.parts[part].clone();
        self.settle(ticket, Err(error.clone()), effects);
        match state {
            // Sending the same bytes under the same number again is safe: that is what numbers are for.
            Part::Sending | Part::Filling => {
                if let Some(call) = self.find(ticket) {
                    call.parts[part] = Part::ToSend;
                }
            }
            Part::Answered(_) | Part::Polling(_) => self.done(ticket, part, effects),
            Part::ToSend | Part::Done => {}
        }
        if was_writing {
            self.remove(ticket, effects);
        } else if given_up && self.find(ticket).is_some() {
            // Its number can't be passed over, and it can't be sent.
            self.broken = Some(error.context("an earlier request of this model could not be sent"));
            self.remove(ticket, effects);
        }
    }

    fn let_go(&mut self, ticket: Ticket, effects: &mut Vec<Effect>) {
        let Some(call) = self.find(ticket) else { return };
        let queued = call.phase == Phase::Queued;
        // What is being written will be sent, though it was not yet.
        let outcome = if queued { Outcome::NotSent } else { Outcome::Unknown };
        self.settle(ticket, Err(Error::aborted(outcome)), effects);
        if queued {
            self.remove(ticket, effects);
        }
    }

    fn done(&mut self, ticket: Ticket, part: usize, effects: &mut Vec<Effect>) {
        let Some(call) = self.find(ticket) else { return };
        call.parts[part] = Part::Done;
        if call.parts.iter().all(|part| *part == Part::Done) {
            self.settle(ticket, Ok(()), effects);
            self.remove(ticket, effects);
        }
    }

    /// Nobody waits for the results of a spoiled call.
    fn drop_results_of(&mut self, ticket: Ticket, effects: &mut Vec<Effect>) {
        let parts = self.find(ticket).map_or(0, |call| call.parts.len());
        for part in 0..parts {
            let has_answer = |call: &Call| matches!(call.parts[part], Part::Answered(_) | Part::Polling(_));
            if self.find(ticket).is_some_and(|call| has_answer(call)) {
                self.done(ticket, part, effects);
            }
        }
    }

    fn settle(&mut self, ticket: Ticket, result: Result<(), Error>, effects: &mut Vec<Effect>) {
        if let Some(call) = self.find(ticket)
            && std::mem::take(&mut call.awaited)
        {
            effects.push(Effect::Settle { ticket, result: result.map_err(SettleError) });
        }
    }

    fn remove(&mut self, ticket: Ticket, effects: &mut Vec<Effect>) {
        if let Some(at) = self.calls.iter().position(|call| call.ticket == ticket) {
            self.calls.remove(at);
            effects.push(Effect::Forget { ticket });
        }
    }

    /// Whatever can be done now.
    fn go_on(&mut self, effects: &mut Vec<Effect>) {
        if let Some(error) = self.broken.clone() {
            self.fail_what_is_queued(&error, effects);
        }
        for call in &mut self.calls {
            call.send(effects);
        }
        self.write(effects);
        self.poll(effects);
    }

    fn fail_what_is_queued(&mut self, error: &Error, effects: &mut Vec<Effect>) {
        let queued: Vec<Ticket> =
            self.calls.iter().filter(|call| call.phase == Phase::Queued).map(|call| call.ticket).collect();
        for ticket in queued {
            self.settle(ticket, Err(error.with_outcome(Outcome::NotSent)), effects);
            self.remove(ticket, effects);
        }
    }

    /// The oldest queued call, once all that were numbered before it are with the server.
    fn write(&mut self, effects: &mut Vec<Effect>) {
        let mut ahead = self.calls.iter().take_while(|call| call.phase != Phase::Queued);
        if !ahead.all(|call| call.phase == Phase::Written && call.is_with_the_server()) {
            return;
        }
        let first = self.next_number;
        if let Some(call) = self.calls.iter_mut().find(|call| call.phase == Phase::Queued) {
            call.phase = Phase::Writing;
            effects.push(Effect::Write { ticket: call.ticket, first });
        }
    }

    /// The oldest request that the server has and whose result is not here.
    fn poll(&mut self, effects: &mut Vec<Effect>) {
        let mut parts = self.calls.iter().flat_map(|call| &call.parts);
        if parts.any(|part| matches!(part, Part::Polling(_))) {
            return;
        }
        for call in &mut self.calls {
            for (i, part) in call.parts.iter_mut().enumerate() {
                if let Part::Answered(request) = part {
                    let request = request.clone();
                    effects.push(Effect::Poll { ticket: call.ticket, part: i, request: request.clone() });
                    *part = Part::Polling(request);
                    return;
                }
            }
        }
    }
}

impl Call {
    /// Parts 2…n, and part 1 when those are with the server.
    fn send(&mut self, effects: &mut Vec<Effect>) {
        if self.phase != Phase::Written {
            return;
        }
        for i in (0..self.parts.len()).rev() {
            let rest_is_with_the_server = i > 0 || self.parts[1..].iter().all(Part::is_with_the_server);
            if self.parts[i] == Part::ToSend && rest_is_with_the_server {
                let (ticket, part) = (self.ticket, i);
                let (state, effect) = match self.spoiled {
                    true => (Part::Filling, Effect::Fill { ticket, part }),
                    false => (Part::Sending, Effect::Send { ticket, part }),
                };
                self.parts[i] = state;
                effects.push(effect);
            }
        }
    }

    fn is_with_the_server(&self) -> bool {
        self.parts.iter().all(Part::is_with_the_server)
    }

    /// What the server may know of it.
    fn outcome(&self) -> Outcome {
        match self.phase {
            Phase::Queued | Phase::Writing => Outcome::NotSent,
            Phase::Written => Outcome::Unknown,
        }
    }
}

impl Part {
    fn is_with_the_server(&self) -> bool {
        !matches!(self, Part::ToSend | Part::Sending | Part::Filling)
    }
}

#[cfg(test)]
mod tests;
