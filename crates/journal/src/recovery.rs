//! What goes on after a crash: from a model's records to the calls of its [lane](crate::lane).
//!
//! What has no answer is sent again as it was; what has a request id is polled; what has a result is kept for its
//! caller. A record that can't be read is set aside: a request without its bytes and without an id only holds its
//! number, and so does what the server lacks of a call that was given up. A record that a later version wrote stops all of it, and nothing is touched.

use crate::lane::{FIRST, Lane, Number, Resumed, ResumedPart, Ticket};
use crate::record::{Answer, DAMAGED, Failed, Head, Model, Place, Record, Unreadable, check, model_key};

/// Records by key, as a store gives them.
pub type Found = Vec<(String, Vec<u8>)>;

/// A model's requests as they were found.
#[derive(Debug)]
pub struct Recovered {
    pub next: Number,
    /// In the order of their numbers.
    pub calls: Vec<Call>,
    /// Records that could not be read, under the keys that they had.
    pub damaged: Found,
}

/// A call that has its numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    pub first: Number,
    pub parts: Vec<Part>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Part {
    pub head: Option<Head>,
    /// The bytes that are sent, where they are still needed and are what was written.
    pub body: Option<Vec<u8>>,
    pub answer: Option<Answer>,
}

/// Takes in a model's own record and those under the prefixes of [`Place`].
///
/// Fails with the version of the first record that is too new.
pub fn recover(model: &str, record: Option<Vec<u8>>, found: [Found; 3]) -> Result<Recovered, u8> {
    let key = model_key(model);
    let (mut calls, mut damaged, mut next) = (Vec::new(), Vec::new(), FIRST);
    if let Some(bytes) = record {
        match unless_damaged(Model::from_bytes(&key, &bytes))? {
            Some(record) => next = record.next,
            None => damaged.push((key, bytes)),
        }
    }
    for (place, records) in [Place::Request, Place::Body, Place::Answer].into_iter().zip(found) {
        for (key, mut bytes) in records {
            let Some(number) = place.number(model, &key) else { continue };
            let sound = match place {
                Place::Request => {
                    next = next.max(number + 1);
                    let head = unless_damaged(Head::from_bytes(&key, &bytes))?;
                    let sound = head.is_some();
                    add(&mut calls, number, head);
                    sound
                }
                Place::Body => find(&mut calls, number).is_none_or(|part| part.take_body(&key, &mut bytes)),
                Place::Answer => {
                    let answer = unless_damaged(Answer::from_bytes(&key, &bytes))?;
                    let sound = answer.is_some();
                    if let Some(part) = find(&mut calls, number) {
                        part.answer = answer;
                    }
                    sound
                }
            };
            if !sound {
                damaged.push((key, bytes));
            }
        }
    }
    Ok(Recovered { next, calls, damaged })
}

/// A record, or none where it is damaged.
fn unless_damaged<R>(read: Result<R, Unreadable>) -> Result<Option<R>, u8> {
    match read {
        Ok(record) => Ok(Some(record)),
        Err(Unreadable::TooNew(version)) => Err(version),
        Err(Unreadable::Damaged) => Ok(None),
    }
}

/// Adds a request to its call, whose parts stand one behind the other.
fn add(calls: &mut Vec<Call>, number: Number, head: Option<Head>) {
    let goes_on = calls.last().is_some_and(|call| {
        let at = call.parts.len();
        let expected = head.as_ref().map_or(call.expects_more(), |head| head.part as usize == at);
        expected && call.first + at as u64 == number
    });
    if !goes_on {
        // Whatever part is found first, those before it belong to the call as well.
        let part = head.as_ref().map_or(0, |head| u64::from(head.part).min(number - 1));
        let parts = (0..part).map(|_| Part::default()).collect();
        calls.push(Call { first: number - part, parts });
    }
    if let Some(call) = calls.last_mut() {
        call.parts.push(Part { head, ..Part::default() });
    }
}

fn find(calls: &mut [Call], number: Number) -> Option<&mut Part> {
    calls.iter_mut().find_map(|call| {
        let part = number.checked_sub(call.first)? as usize;
        call.parts.get_mut(part)
    })
}

/// Where a record that can't be read is kept.
pub fn aside(key: &str) -> String {
    DAMAGED.to_owned() + key
}

impl Recovered {
    /// Of a model that is new.
    pub fn nothing() -> Recovered {
        Recovered { next: FIRST, calls: Vec::new(), damaged: Vec::new() }
    }

    /// The lane that goes on with them. Tickets are the places in `calls`; what is finished has no part in it.
    pub fn lane<E: Clone>(&self) -> Lane<E> {
        let again = self.calls.last().and_then(|call| call.head()).is_some_and(|head| head.again);
        let mut lane = Lane::new(self.next, again);
        for (at, call) in self.calls.iter().enumerate() {
            if !call.is_finished() {
                let parts = call.parts.iter().map(Part::resumed).collect();
                let (ends_apart, spoiled) = (call.ends_apart(), call.is_lost());
                lane.resume(call.first, Resumed { ticket: Ticket(at as u64), parts, ends_apart, spoiled });
            }
        }
        lane
    }
}

impl Call {
    /// Whether its last request goes elsewhere than the others: it is a step behind them.
    fn ends_apart(&self) -> bool {
        let [first, .., last] = &self.parts[..] else { return false };
        first.head.as_ref().zip(last.head.as_ref()).is_some_and(|(first, last)| first.path != last.path)
    }

    /// What is said of the call as a whole, by any of its parts.
    pub fn head(&self) -> Option<&Head> {
        self.parts.iter().find_map(|part| part.head.as_ref())
    }

    /// Nothing is to be sent or asked for: every part has its result, has failed, or is with the server in vain.
    pub fn is_finished(&self) -> bool {
        self.parts.iter().all(|part| match part.answer {
            Some(Answer::Result(..) | Answer::Failed(_)) => true,
            Some(Answer::Taken(_)) => self.is_lost(),
            Some(Answer::Refused(_)) | None => false,
        })
    }

    /// It was given up, or a part of it has neither its bytes nor an answer: what was asked for won't be.
    pub fn is_lost(&self) -> bool {
        self.parts.iter().any(|part| part.head.is_none() || (part.answer.is_none() && part.body.is_none()))
            || self.expects_more()
            || self.refused().is_some()
    }

    /// Why it was given up.
    pub fn refused(&self) -> Option<&Failed> {
        self.parts.iter().find_map(|part| match &part.answer {
            Some(Answer::Refused(failed)) => Some(failed),
            _ => None,
        })
    }

    fn expects_more(&self) -> bool {
        self.head().is_some_and(|head| (head.parts as usize) > self.parts.len())
    }
}

impl Part {
    /// Whether these are its bytes as they were written, and takes them then. Without its head nobody can say, or send them.
    fn take_body(&mut self, key: &str, bytes: &mut Vec<u8>) -> bool {
        let Some(head) = &self.head else { return true };
        let sound = head.body_length as usize == bytes.len() && head.body_check == check(key, bytes);
        if sound {
            self.body = Some(std::mem::take(bytes));
        }
        sound
    }

    fn resumed(&self) -> ResumedPart {
        match &self.answer {
            Some(Answer::Taken(request)) => ResumedPart::Answered(request.clone()),
            Some(Answer::Result(..) | Answer::Failed(_)) => ResumedPart::Done,
            Some(Answer::Refused(_)) | None => ResumedPart::ToSend,
        }
    }
}

#[cfg(test)]
mod tests;
