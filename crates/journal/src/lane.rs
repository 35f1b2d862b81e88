//! The order of one model's numbered requests: a pure state machine, so that every fault can be tried without a
//! network or a disk. It takes in what happens, and says what to do next when it is asked; its shell (the training client's
//! dispatcher) does it and says what came of it.
//!
//! ```text
//! call → ticket → write: number + exact bytes → send → request id → poll → result → settle
//! ```
//!
//! What holds, whatever comes:
//! - Calls get their numbers in the order in which they were made. Those that wait together are written down together, but for
//!   one that may be given up until it is its turn; they are sent one after the other, each when all before it is with the server.
//! - Nothing is sent before it is written down.
//! - A number is given once. It is free again only if the server refused it and no higher one was given.
//! - Of a call in parts, parts 2…n are answered before part 1 is sent, so that the server has them all when it starts. One that
//!   ends with a step of another kind sends that behind them all, so that nothing is taken of it where they are refused.
//! - When one of them is refused, or a call behind which others are written, that is written down before anything is sent in the
//!   place of what the server lacks.
//! - A request that has a number is sent until the server answers it, whether or not its caller still waits.
//! - One poll at a time, for the oldest request: a model's results come in order.
//! - Each call is settled at most once, and exactly once if its caller stays; then it is forgotten or left.

use crate::Outcome;

/// A call's place in the queue, given when it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// A request's place in its model's order.
pub type Number = u64;

/// The number of a model's first request.
pub const FIRST: Number = 1;

/// What happened. `E` is the shell's error.
#[derive(Debug)]
pub enum Event<E> {
    /// The bytes of a call are written down, under the numbers that [`Effect::Write`] gave.
    Written(Ticket),
    /// They could not be written: nothing was sent, and the numbers are free. What was to be written with it is written
    /// without it.
    NotWritten(Ticket, E),
    /// The server took a part and will work on it under this id.
    Answered(Ticket, usize, String),
    /// The server will never take this part.
    Refused(Ticket, usize, Refusal<E>),
    /// It is written down that a call is given up, as [`Effect::GiveUp`] asks.
    GivenUp(Ticket),
    /// That could not be written.
    NotGivenUp(Ticket, E),
    /// Sending or polling goes on, but this caller has waited long enough.
    OutOfPatience(Ticket, E),
    /// The task that sent or polled a part died. The caller hears of it; the request itself goes on.
    Crashed(Ticket, usize, E),
    /// A part has its result; the shell keeps it.
    Finished(Ticket, usize),
    /// A part's result is that it failed, or can't be had.
    Failed(Ticket, usize, E),
    /// The server lets this client do nothing at present, and may know the part.
    Barred(Ticket, usize, E),
    /// The caller gave the call up.
    LetGo(Ticket),
}

/// Why a part was not taken.
#[derive(Debug)]
pub enum Refusal<E> {
    /// It is not to be done: a status that ends it.
    Final(E),
    /// Its number was used before, with another body.
    NumberUsed(E),
}

/// What the shell has to do.
#[derive(Debug, PartialEq)]
pub enum Effect<E> {
    /// Make the exact bytes of the call's parts, numbered from `first` on, and write them down: in one commit with the other
    /// calls that are to be written by now, in their order. `again`: the server refused `first` before, and may have kept it.
    Write { ticket: Ticket, first: Number, again: bool },
    /// Send a part as it was written.
    Send { ticket: Ticket, part: usize },
    /// Write down that the server refused a part, for this reason, and that no part is to be sent as it was any more.
    GiveUp { ticket: Ticket, part: usize, error: E },
    /// A number would be left out: send something that changes nothing in its place.
    Fill { ticket: Ticket, part: usize },
    /// Ask for the result of a part.
    Poll { ticket: Ticket, part: usize, request: String },
    /// Tell the caller: the parts' results are there, or why they are not.
    Settle { ticket: Ticket, result: Result<(), Failure<E>> },
    /// The lane is done with the call.
    Forget { ticket: Ticket, records: Records },
}

/// What becomes of the records of a call that the lane is done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Records {
    /// There are none: it was never written.
    None,
    /// Nothing of it is with the server: they go, and its number is free.
    Unused,
    /// It is done with: they stay until its caller has seen what came of it.
    Done,
    /// It can't go on here: they stay for whoever resumes the session.
    Left,
}

/// Why a call has no result.
#[derive(Clone, Debug, PartialEq)]
pub enum Failure<E> {
    /// As it was reported.
    As(E),
    /// As it was reported of a part, and what that means for the whole.
    With(E, Outcome),
    /// A part was refused for this reason, and the server has others.
    InPart(E),
    /// An earlier request of this model can't go on, for this reason; nothing can pass it.
    Behind(E, Outcome),
}

/// How often a part whose task crashed is sent or polled again before its client gives up.
const MAX_CRASHES: u32 = 3;

/// How many requests are written down together at most, but for those of one call: a pass or two and the step behind them. What is
/// written goes on without its caller, so no more of it than pays.
const MOST_TOGETHER: usize = 4;

/// One model's requests, from call to result.
#[derive(Debug)]
pub struct Lane<E> {
    /// The number that the next written request gets.
    next_number: Number,
    /// The number before was refused and is used anew; should the server have kept it after all, the next is taken.
    number_may_be_used: bool,
    /// In the order in which they were made.
    calls: Vec<Call<E>>,
    /// Why nothing goes on here any more.
    broken: Option<E>,
    /// What was decided and is not yet said.
    effects: Vec<Effect<E>>,
}

/// A call that is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// How many requests it takes, at least one.
    pub parts: usize,
    /// The last of them is sent when the others are with the server.
    pub ends_apart: bool,
    /// Its caller may give it up, and so it gets no number before it is its turn.
    pub revocable: bool,
}

/// A call that was written before a crash, as it goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resumed {
    pub ticket: Ticket,
    pub parts: Vec<ResumedPart>,
    /// As of [`Shape`].
    pub ends_apart: bool,
    /// A part of it can't be sent as it was: what the server doesn't have only holds its number.
    pub spoiled: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResumedPart {
    /// The server may have it or not.
    ToSend,
    Answered(String),
    Done,
}

#[derive(Debug)]
struct Call<E> {
    ticket: Ticket,
    phase: Phase,
    first: Number,
    parts: Vec<Part>,
    /// Whether somebody still waits for the result.
    awaited: bool,
    aim: Aim<E>,
    /// As of [`Shape`].
    ends_apart: bool,
    revocable: bool,
    /// The server has a part of it as it was asked for, or may have one from an earlier life.
    taken: bool,
    crashes: u32,
}

/// Whether a call is still to become what was asked for.
#[derive(Debug)]
enum Aim<E> {
    Whole,
    /// This part was refused while others may be with the server. Nothing is sent before that is written down.
    GivingUp(usize, E),
    /// What the server doesn't have of it only holds its number. None where it came back like that.
    Numbers(Option<E>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Queued,
    Writing,
    /// It has its numbers, and its bytes are final.
    Written,
}

#[derive(Clone, Debug)]
struct Part {
    state: State,
    /// Under which the server works on it; empty before it has answered.
    request: String,
}

/// What became of one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing the server took.
    ToSend,
    Sending,
    /// A request that changes nothing is being sent in its place.
    Filling,
    Answered,
    Polling,
    /// The server let nobody in: it waits for whoever resumes the session.
    Left,
    /// It has its result, has failed, or its number was filled.
    Done,
}

impl<E: Clone> Lane<E> {
    /// A lane whose next request gets the number `next` ([`FIRST`] for a new model). `again`: the one before was refused and
    /// is [resumed](Lane::resume), written anew. Ask [`next_effect`](Lane::next_effect) what is to be done.
    pub fn new(next: Number, again: bool) -> Lane<E> {
        Lane {
            next_number: next,
            number_may_be_used: again,
            calls: Vec::new(),
            broken: None,
            effects: Vec::new(),
        }
    }

    /// Takes in a call from an earlier life, behind those before it.
    pub fn resume(&mut self, first: Number, resumed: Resumed) {
        let Resumed { ticket, parts: answers, ends_apart, spoiled } = resumed;
        let mut parts = Vec::with_capacity(answers.len());
        for answer in answers {
            parts.push(match answer {
                ResumedPart::ToSend => Part::new(State::ToSend),
                ResumedPart::Answered(request) if !spoiled => Part { state: State::Answered, request },
                ResumedPart::Answered(_) | ResumedPart::Done => Part::new(State::Done),
            });
        }
        self.calls.push(Call {
            ticket,
            phase: Phase::Written,
            first,
            parts,
            awaited: true,
            aim: if spoiled { Aim::Numbers(None) } else { Aim::Whole },
            ends_apart,
            revocable: false,
            taken: true,
            crashes: 0,
        });
    }

    /// A call takes its place behind all others.
    pub fn call(&mut self, ticket: Ticket, Shape { parts, ends_apart, revocable }: Shape) {
        self.calls.push(Call {
            ticket,
            phase: Phase::Queued,
            first: 0,
            parts: vec![Part::new(State::ToSend); parts.max(1)],
            awaited: true,
            aim: Aim::Whole,
            ends_apart,
            revocable,
            taken: false,
            crashes: 0,
        });
    }

    /// Takes in what happened. Events of calls that are no more are ignored. Inlined, since whoever calls it knows which event it has.
    #[inline(always)]
    pub fn step(&mut self, event: Event<E>) {
        match event {
            Event::Written(ticket) => self.written(ticket),
            Event::NotWritten(ticket, error) => self.not_written(ticket, error),
            Event::Answered(ticket, part, request) => self.answered(ticket, part, request),
            Event::Refused(ticket, part, refusal) => self.refused(ticket, part, refusal),
            Event::GivenUp(ticket) => self.given_up(ticket),
            Event::NotGivenUp(ticket, error) => self.not_given_up(ticket, error),
            Event::OutOfPatience(ticket, error) => {
                self.settle(ticket, Err(Failure::With(error, Outcome::Journaled)));
            }
            Event::Crashed(ticket, part, error) => self.crashed(ticket, part, error),
            Event::Finished(ticket, part) => self.done(ticket, part),
            Event::Failed(ticket, part, error) => {
                if self.find(ticket).is_some_and(|call| call.is_whole()) {
                    self.settle(ticket, Err(Failure::As(error)));
                }
                self.done(ticket, part);
            }
            Event::Barred(ticket, part, error) => self.barred(ticket, part, error),
            Event::LetGo(ticket) => self.let_go(ticket),
        }
    }

    /// Calls that wait for their turn, and requests that wait for their result.
    pub fn lengths(&self) -> (usize, usize) {
        let queued = self.calls.iter().filter(|call| call.phase != Phase::Written).count();
        (queued, self.calls.len() - queued)
    }

    /// The number that the next written request gets.
    pub fn next_number(&self) -> Number {
        self.next_number
    }

    fn find(&mut self, ticket: Ticket) -> Option<&mut Call<E>> {
        self.calls.iter_mut().find(|call| call.ticket == ticket)
    }

    fn written(&mut self, ticket: Ticket) {
        if let Some(call) = self.find(ticket)
            && call.phase == Phase::Writing
        {
            call.phase = Phase::Written;
            self.next_number = call.first + call.parts.len() as u64;
        }
    }

    /// Those behind it were to be written with it.
    fn not_written(&mut self, ticket: Ticket, error: E) {
        for call in &mut self.calls {
            if call.phase == Phase::Writing && call.ticket > ticket {
                call.phase = Phase::Queued;
            }
        }
        self.end(ticket, Err(Failure::With(error, Outcome::NotSent)), Records::None);
    }

    fn answered(&mut self, ticket: Ticket, part: usize, request: String) {
        self.number_may_be_used = false;
        let Some(call) = self.find(ticket) else { return };
        match call.parts[part].state {
            State::Sending if call.is_whole() => {
                call.taken = true;
                call.parts[part] = Part { state: State::Answered, request };
            }
            State::Sending => {
                call.taken = true;
                self.done(ticket, part);
            }
            State::Filling => self.done(ticket, part),
            _ => {}
        }
    }

    fn refused(&mut self, ticket: Ticket, part: usize, refusal: Refusal<E>) {
        let (number_may_be_used, next_number) = (self.number_may_be_used, self.next_number);
        let Some(call) = self.find(ticket) else { return };
        let number_used = matches!(refusal, Refusal::NumberUsed(_));
        let (Refusal::Final(error) | Refusal::NumberUsed(error)) = refusal;
        let last = call.first + 1 == next_number;
        if call.parts[part].state == State::Filling {
            // Nothing better can be put in its place.
            self.done(ticket, part);
        } else if call.parts.len() > 1 || !(last || number_used) {
            // Other parts may be with the server already, or later numbers are given: so these are used.
            call.parts[part].state = State::ToSend;
            if call.is_whole() {
                call.aim = Aim::GivingUp(part, error.clone());
                self.effects.push(Effect::GiveUp { ticket, part, error });
                self.drop_results_of(ticket);
            }
        } else if !last {
            // By this very call in an earlier life, or by somebody else.
            self.end(ticket, Err(Failure::With(error, Outcome::Unknown)), Records::Done);
        } else if number_used && number_may_be_used {
            // The server kept the number that it refused before. These bytes were never taken: number them anew.
            call.phase = Phase::Queued;
            call.parts[part].state = State::ToSend;
            self.number_may_be_used = false;
        } else if number_used {
            // Whoever used it, its place in the order is taken.
            self.end(ticket, Err(Failure::As(error)), Records::Done);
        } else {
            self.next_number -= 1;
            self.number_may_be_used = true;
            self.end(ticket, Err(Failure::As(error)), Records::Unused);
        }
    }

    fn given_up(&mut self, ticket: Ticket) {
        if let Some(call) = self.find(ticket)
            && let Aim::GivingUp(_, error) = &call.aim
        {
            call.aim = Aim::Numbers(Some(error.clone()));
        }
    }

    fn not_given_up(&mut self, ticket: Ticket, why: E) {
        let Some(call) = self.find(ticket) else { return };
        let Aim::GivingUp(part, error) = &call.aim else { return };
        let (part, error) = (*part, error.clone());
        call.crashes += 1;
        if call.crashes <= MAX_CRASHES {
            self.effects.push(Effect::GiveUp { ticket, part, error });
        } else {
            self.broken = Some(why.clone());
            self.end(ticket, Err(Failure::With(why, Outcome::Journaled)), Records::Left);
        }
    }

    fn crashed(&mut self, ticket: Ticket, part: usize, error: E) {
        let Some(call) = self.find(ticket) else { return };
        call.crashes += 1;
        let given_up = call.crashes > MAX_CRASHES;
        let state = &mut call.parts[part].state;
        match state {
            // Sending the same bytes under the same number again is safe: that is what numbers are for.
            State::Sending | State::Filling => *state = State::ToSend,
            State::Polling => *state = State::Answered,
            _ => {}
        }
        self.settle(ticket, Err(Failure::With(error.clone(), Outcome::Journaled)));
        if given_up {
            if self.find(ticket).is_some_and(|call| !call.is_with_the_server()) {
                // Its number can't be passed over, and it can't be sent.
                self.broken = Some(error);
            }
            self.remove(ticket, Records::Left);
        }
    }

    fn barred(&mut self, ticket: Ticket, part: usize, error: E) {
        let Some(call) = self.find(ticket) else { return };
        if call.parts[part].state != State::Done {
            call.parts[part].state = State::Left;
        }
        self.settle(ticket, Err(Failure::With(error.clone(), Outcome::Journaled)));
        self.broken = Some(error);
    }

    fn let_go(&mut self, ticket: Ticket) {
        let Some(call) = self.find(ticket) else { return };
        call.awaited = false;
        if call.phase == Phase::Queued {
            self.remove(ticket, Records::None);
        }
    }

    fn done(&mut self, ticket: Ticket, part: usize) {
        let Some(call) = self.find(ticket) else { return };
        call.parts[part].state = State::Done;
        if call.parts.iter().all(|part| part.state == State::Done) {
            let result = match &call.aim {
                Aim::Numbers(Some(error)) if call.taken => Err(match call.parts.len() {
                    // In an earlier life the server may have taken it.
                    1 => Failure::With(error.clone(), Outcome::Unknown),
                    _ => Failure::InPart(error.clone()),
                }),
                Aim::Numbers(Some(error)) => Err(Failure::As(error.clone())),
                _ => Ok(()),
            };
            self.end(ticket, result, Records::Done);
        }
    }

    /// Nobody waits for the results of a call that is given up.
    fn drop_results_of(&mut self, ticket: Ticket) {
        let parts = self.find(ticket).map_or(0, |call| call.parts.len());
        for part in 0..parts {
            let has_answer =
                |call: &mut Call<E>| matches!(call.parts[part].state, State::Answered | State::Polling);
            if self.find(ticket).is_some_and(has_answer) {
                self.done(ticket, part);
            }
        }
    }

    fn settle(&mut self, ticket: Ticket, result: Result<(), Failure<E>>) {
        if let Some(call) = self.find(ticket)
            && std::mem::take(&mut call.awaited)
        {
            self.effects.push(Effect::Settle { ticket, result });
        }
    }

    fn remove(&mut self, ticket: Ticket, records: Records) {
        if let Some(at) = self.calls.iter().position(|call| call.ticket == ticket) {
            self.calls.remove(at);
            self.effects.push(Effect::Forget { ticket, records });
        }
    }

    /// The last that is said of a call.
    fn end(&mut self, ticket: Ticket, result: Result<(), Failure<E>>, records: Records) {
        self.settle(ticket, result);
        self.remove(ticket, records);
    }

    /// The next thing to do; none where there is nothing by now.
    pub fn next_effect(&mut self) -> Option<Effect<E>> {
        if self.effects.is_empty() {
            self.go_on();
        }
        (!self.effects.is_empty()).then(|| self.effects.remove(0))
    }

    /// Decides on whatever can be done now.
    fn go_on(&mut self) {
        if let Some(error) = self.broken.clone() {
            while let Some(call) = self.calls.iter().find(|call| call.is_unsent()) {
                let ticket = call.ticket;
                let (outcome, records) = match call.phase {
                    Phase::Written => (Outcome::Journaled, Records::Left),
                    _ => (Outcome::NotSent, Records::None),
                };
                self.end(ticket, Err(Failure::Behind(error.clone(), outcome)), records);
            }
        }
        for call in &mut self.calls {
            call.send(&mut self.effects);
            // Where nothing goes on any more, what is still here was begun in its order.
            if self.broken.is_none() && !call.is_with_the_server() {
                break;
            }
        }
        self.write();
        self.poll();
    }

    /// The queued calls, once all that were numbered before them are with the server.
    fn write(&mut self) {
        let again = self.number_may_be_used;
        let queued =
            self.calls.iter().position(|call| call.phase == Phase::Queued).unwrap_or(self.calls.len());
        let (ahead, queued) = self.calls.split_at_mut(queued);
        if !ahead.iter().all(|call| call.phase == Phase::Written && call.is_with_the_server()) {
            return;
        }
        let (mut next, mut together) = (self.next_number, 0);
        for call in queued {
            together += call.parts.len();
            // Should a number turn out to be used, nothing must have been given the one behind it.
            let alone = again || call.revocable || together > MOST_TOGETHER;
            if alone && next > self.next_number {
                break;
            }
            call.phase = Phase::Writing;
            call.first = next;
            next += call.parts.len() as u64;
            self.effects.push(Effect::Write { ticket: call.ticket, first: call.first, again });
        }
    }

    /// The oldest request that the server has and whose result is not here.
    fn poll(&mut self) {
        let polls = |call: &Call<E>| call.parts.iter().any(|part| part.state == State::Polling);
        if self.calls.iter().any(polls) {
            return;
        }
        for call in &mut self.calls {
            let oldest = call.parts.iter().position(|part| part.state == State::Answered);
            if let Some(part) = oldest {
                call.parts[part].state = State::Polling;
                let (ticket, request) = (call.ticket, call.parts[part].request.clone());
                return self.effects.push(Effect::Poll { ticket, part, request });
            }
        }
    }
}

impl<E> Call<E> {
    fn is_whole(&self) -> bool {
        matches!(self.aim, Aim::Whole)
    }

    /// Parts 2…n, and part 1 when those are with the server; then the end, where that is apart.
    fn send(&mut self, effects: &mut Vec<Effect<E>>) {
        if self.phase != Phase::Written || matches!(self.aim, Aim::GivingUp(..)) {
            return;
        }
        let end = self.parts.len() - usize::from(self.ends_apart);
        for i in (0..self.parts.len()).rev() {
            let ahead = match i {
                0 => 1.min(end)..end,
                _ if i == end => 0..end,
                _ => 0..0,
            };
            let is_next = self.parts[ahead].iter().all(Part::is_with_the_server);
            if self.parts[i].state == State::ToSend && is_next {
                let (ticket, part, is_whole) = (self.ticket, i, self.is_whole());
                self.parts[i].state = if is_whole { State::Sending } else { State::Filling };
                effects.push(match is_whole {
                    true => Effect::Send { ticket, part },
                    false => Effect::Fill { ticket, part },
                });
            }
        }
    }

    fn is_with_the_server(&self) -> bool {
        self.parts.iter().all(Part::is_with_the_server)
    }

    /// Nothing of it is on its way.
    fn is_unsent(&self) -> bool {
        self.phase != Phase::Writing
            && self.is_whole()
            && self.parts.iter().all(|part| part.state == State::ToSend)
    }
}

impl Part {
    fn new(state: State) -> Part {
        Part { state, request: String::new() }
    }

    fn is_with_the_server(&self) -> bool {
        matches!(self.state, State::Answered | State::Polling | State::Done)
    }
}

#[cfg(test)]
mod tests;
