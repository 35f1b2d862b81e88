//! What a dispatcher writes down of its calls, and when that goes again.
//!
//! A call is one strict commit, before it is sent; calls that were made together are one. What came of it is kept soon, in a relaxed
//! one, if it was not seen before: a server may forget it. Request ids and deletions go with the next commit, or later by
//! themselves.

use std::time::Duration;

use futures_util::FutureExt;
use tinkex_journal::lane::{Event, Number, Records, Ticket};
use tinkex_journal::record::Answer;
use tinkex_protocol::SeqId;

use super::dispatcher::{Dispatcher, Message, is_answer, is_of_one_request};
use super::held::find;
use super::method::{Ask, Method};
use crate::error::{Error, Outcome};
use crate::platform::{Level, uuid};
use crate::store::{Durability, Op};

/// Request ids and deletions wait so long for a commit to go with: most calls end before, and cost no commit for these.
const LATER: Duration = Duration::from_millis(250);

/// A result waits so long to be seen: then it need not be written.
const SOON: Duration = Duration::from_millis(20);

/// What a commit was for.
pub enum Writing {
    /// Calls, and with them what was to be written later.
    Calls(Vec<Ticket>, Vec<Op>),
    GivingUp(Ticket),
    /// Nobody waits for it.
    Relaxed,
}

/// Calls that are written in one commit.
#[derive(Default)]
pub struct Together {
    tickets: Vec<Ticket>,
    ops: Vec<Op>,
    /// Behind their numbers.
    next: Number,
    /// Whose bytes could not be made. Those behind it need other numbers.
    without: Option<(Ticket, Error)>,
}

impl Dispatcher {
    /// Gives the parts of a call their numbers, and makes their bytes, which are final from here on.
    pub(super) fn number(&mut self, ticket: Ticket, first: Number, again: bool) {
        if self.together.without.is_none()
            && let Err(error) = self.numbered(ticket, first, again)
        {
            self.together.without = Some((ticket, error));
        }
    }

    fn numbered(&mut self, ticket: Ticket, first: Number, again: bool) -> Result<(), Error> {
        let held = find(&mut self.calls, ticket).expect("the lane forgets a call before its shell does");
        let Some(ask) = &held.ask else {
            let message = "its number was used by a request that the server had refused: make the call again";
            return Err(Error::protocol(message));
        };
        let (sampler, reservation) = match ask {
            Ask::NewSampler(nth) => {
                let (number, op) = self.journal.sampler_number(*nth);
                (Some(number), op)
            }
            _ => (None, None),
        };
        for (i, part) in held.parts.iter_mut().enumerate() {
            let number = SeqId::new(first + i as u64);
            part.body = Some(ask.body(i, &self.model, number, sampler)?);
            part.idempotency_key = uuid(&**self.transport.platform());
            part.sent = false;
        }
        let (model, Together { tickets, ops, next, .. }) = (self.model.as_str(), &mut self.together);
        // Under the number that it had before, if the server would not have it there.
        held.delete(model, ops);
        if let Some(op) = reservation {
            ops.push(op);
        }
        held.first = first;
        held.write(model, self.journal.owner(), again, ops);
        for op in &held.with {
            ops.push(op.clone());
        }
        held.come_to(Outcome::Unknown);
        tickets.push(ticket);
        *next = first + held.parts.len() as u64;
        Ok(())
    }

    /// Writes calls down that have their numbers. False where one had to be left out, which the lane knows now.
    pub(super) fn write(&mut self) -> bool {
        let Together { tickets, mut ops, next, without } = std::mem::take(&mut self.together);
        if !tickets.is_empty() {
            let later = self.take_later();
            let mut all = later.clone();
            all.append(&mut ops);
            all.push(self.journal.model_op(&self.model, next));
            self.commit(Durability::Strict, all, Writing::Calls(tickets, later));
        }
        let Some((ticket, error)) = without else { return true };
        self.not_written(&[ticket], error);
        false
    }

    fn commit(&mut self, durability: Durability, ops: Vec<Op>, writing: Writing) {
        let committed = self.journal.commit(durability, ops);
        self.running.push(committed.map(|committed| Message::Committed(writing, committed)).boxed_local());
    }

    pub(super) fn committed(&mut self, writing: Writing, committed: Result<(), Error>) {
        match (writing, committed) {
            (Writing::Calls(tickets, _), Ok(())) => {
                for ticket in tickets {
                    if let Some(held) = self.find(ticket) {
                        held.come_to(Outcome::Journaled);
                        held.with.clear();
                        if let Some(written) = held.written.take() {
                            let _ = written.send(());
                        }
                    }
                    self.lane.step(Event::Written(ticket));
                }
            }
            (Writing::Calls(tickets, later), Err(error)) => {
                // By themselves: deleting makes room on a disk that is full. What goes with a deletion stays with it.
                let goes_with = |op: &Op| later.iter().any(|answer| is_of_one_request(op, answer));
                let by_themselves = later.iter().filter(|op| !goes_with(op)).cloned().collect();
                self.relaxed(by_themselves);
                self.not_written(&tickets, error);
            }
            (Writing::GivingUp(ticket), Ok(())) => self.lane.step(Event::GivenUp(ticket)),
            (Writing::GivingUp(ticket), Err(error)) => self.lane.step(Event::NotGivenUp(ticket, error)),
            (Writing::Relaxed, Ok(())) => {}
            // It costs work after a crash and nothing else; so it is only said.
            (Writing::Relaxed, Err(error)) => {
                self.transport.platform().log(Level::Warn, &format!("a record was not kept: {error}"));
            }
        }
    }

    /// The lane hears it of the first, and tries the others without it.
    fn not_written(&mut self, tickets: &[Ticket], error: Error) {
        for ticket in tickets {
            if let Some(held) = self.find(*ticket) {
                held.come_to(Outcome::NotSent);
            }
        }
        self.lane.step(Event::NotWritten(tickets[0], error));
    }

    /// Writes down that a call goes on no more, since the server refused a part. After a crash nothing of it is sent as it
    /// was: beside what stands in the place of other parts, the server would train on it.
    pub(super) fn give_up(&mut self, ticket: Ticket, part: usize, why: &Error) {
        let Some(held) = find(&mut self.calls, ticket) else { return };
        held.spoiled = true;
        held.parts.iter_mut().for_each(|part| part.body = None);
        let ops = held.given_up(self.model.as_str(), part, why);
        self.commit(Durability::Strict, ops, Writing::GivingUp(ticket));
    }

    pub(super) fn keep(&mut self, ticket: Ticket, part: usize, answer: Answer) {
        let held = find(&mut self.calls, ticket);
        // What fills a number is no answer to what was asked for.
        if let Some(held) = held.filter(|held| !held.spoiled) {
            let ops = held.answered(self.model.as_str(), part, &answer);
            // A run looks at once at what came of its step as a whole, and then nothing of this is written but its row.
            let soon = held.method != Method::TrainStep && !matches!(answer, Answer::Taken(_));
            self.later(ops);
            if soon {
                self.by(SOON, Message::Soon);
            }
        }
    }

    pub(super) fn later(&mut self, mut ops: Vec<Op>) {
        if self.later.is_empty() && !ops.is_empty() {
            self.by(LATER, Message::Late);
        }
        self.later.append(&mut ops);
    }

    /// What waits to be written goes after this time, if it has not gone before.
    fn by(&mut self, time: Duration, message: fn(u32) -> Message) {
        let (late, of) = (self.transport.platform().timer(time), self.flushes);
        self.running.push(late.map(move |()| message(of)).boxed_local());
    }

    fn take_later(&mut self) -> Vec<Op> {
        self.flushes += 1;
        std::mem::take(&mut self.later)
    }

    /// A result that waited to be seen is written, if it still waits.
    pub(super) fn soon(&mut self, of: u32) {
        if self.later.iter().any(is_answer) {
            self.late(of);
        }
    }

    /// What was waiting when this timer was set has gone with another commit, or goes now.
    pub(super) fn late(&mut self, of: u32) {
        if of == self.flushes {
            self.relaxed(Vec::new());
        }
    }

    /// Writes without waiting, and with it what was to be written later.
    pub(super) fn relaxed(&mut self, mut ops: Vec<Op>) {
        let mut all = self.take_later();
        all.append(&mut ops);
        if !all.is_empty() {
            self.commit(Durability::Relaxed, all, Writing::Relaxed);
        }
    }

    pub(super) fn forget(&mut self, ticket: Ticket, records: Records) {
        let Some(at) = self.calls.iter().position(|held| held.ticket == ticket) else { return };
        let held = &mut self.calls[at];
        let mut erased = Vec::new();
        match records {
            Records::Done => {
                held.done = true;
                held.ask = None;
                held.parts.iter_mut().for_each(|part| part.body = None);
                return;
            }
            // Nothing can be deleted that was never written.
            Records::None | Records::Unused => {
                held.delete(self.model.as_str(), &mut erased);
                if !erased.is_empty() {
                    erased.push(self.journal.model_op(&self.model, self.lane.next_number()));
                }
                erased.append(&mut held.at_end);
            }
            Records::Left => {}
        }
        if held.resumed && held.ended.is_some() {
            // Whoever asks for it hears how it ended; its records are not its own any more.
            held.parts.clear();
            held.done = true;
        } else {
            self.calls.remove(at);
        }
        if !erased.is_empty() {
            // At once and by itself: without the model's record a number that is free would be left out.
            self.relaxed(erased);
        }
    }

    /// The records of what is done and seen go; of what is done and never will be, only the memory.
    pub(super) fn sweep(&mut self) {
        let mut ops = Vec::new();
        let model = self.model.as_str();
        self.calls.retain_mut(|held| {
            let over = held.done && held.seen;
            if over {
                held.delete(model, &mut ops);
                ops.append(&mut held.at_end);
            }
            let left = held.done && !held.resumed && held.key == 0;
            !over && !left
        });
        // What is deleted need not be written before.
        self.later.retain(|before| ops.iter().all(|op| op.key() != before.key()));
        self.later(ops);
    }

    /// `with` goes with the deletion of its records.
    pub(super) fn seen(&mut self, key: u32, mut with: Vec<Op>) {
        match self.calls.iter_mut().find(|held| held.key == key) {
            Some(held) => {
                held.seen = true;
                held.at_end.append(&mut with);
                self.sweep();
            }
            None => self.later(with),
        }
    }
}
