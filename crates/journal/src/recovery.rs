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
    let [heads, bodies, answers] = found;
    let mut damaged = Vec::new();
    let mut calls: Vec<Call> = Vec::new();
    let key = model_key(model);
    let mut next = match record.map(|bytes| (Model::from_bytes(&key, &bytes), bytes)) {
        Some((Ok(record), _)) => record.next,
        Some((Err(Unreadable::TooNew(version)), _)) => return Err(version),
        Some((Err(Unreadable::Damaged), bytes)) => {
            damaged.push((key, bytes));
            FIRST
        }
        None => FIRST,
    };
    for (key, bytes) in heads {
        let Some(number) = Place::Request.number(model, &key) else { continue };
        let head = read::<Head>(key, bytes, &mut damaged)?;
        next = next.max(number + 1);
        // Parts of one call stand one behind the other.
        let behind = calls.last_mut().filter(|call| call.first + call.parts.len() as u64 == number);
        match (&head, behind) {
            (Some(head), Some(call)) if head.part as usize == call.parts.len() => {
                call.parts.push(Part { head: Some(head.clone()), ..Part::default() });
            }
            (None, Some(call)) if call.expects_more() => call.parts.push(Part::default()),
            _ => {
                // Whatever part is found first, those before it belong to the call as well.
                let part = head.as_ref().map_or(0, |head| u64::from(head.part).min(number - 1));
                let mut parts = vec![Part::default(); part as usize];
                parts.push(Part { head, ..Part::default() });
                calls.push(Call { first: number - part, parts });
            }
        }
    }
    for (key, bytes) in answers {
        let Some(number) = Place::Answer.number(model, &key) else { continue };
        let answer = read::<Answer>(key, bytes, &mut damaged)?;
        if let Some(part) = find(&mut calls, number) {
            part.answer = answer;
        }
    }
    for (key, bytes) in bodies {
        let Some(number) = Place::Body.number(model, &key) else { continue };
        let Some(part) = find(&mut calls, number) else { continue };
        let Some(head) = &part.head else { continue };
        if head.body_length as usize == bytes.len() && head.body_check == check(&key, &bytes) {
            part.body = Some(bytes);
        } else {
            damaged.push((key, bytes));
        }
    }
    Ok(Recovered { next, calls, damaged })
}

/// A record, or none where it is damaged.
fn read<R: Record>(key: String, bytes: Vec<u8>, damaged: &mut Found) -> Result<Option<R>, u8> {
    match R::from_bytes(&key, &bytes) {
        Ok(record) => Ok(Some(record)),
        Err(Unreadable::TooNew(version)) => Err(version),
        Err(Unreadable::Damaged) => {
            damaged.push((key, bytes));
            Ok(None)
        }
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
    /// The lane that goes on with them. Tickets are the places in `calls`; what is finished has no part in it.
    pub fn lane<E: Clone>(&self) -> Lane<E> {
        let going_on = self.calls.iter().enumerate().filter(|(_, call)| !call.is_finished());
        let resumed = |(at, call): (usize, &Call)| {
            let parts = call.parts.iter().map(Part::resumed).collect();
            let (ends_apart, spoiled) = (call.ends_apart(), call.is_lost());
            (call.first, Resumed { ticket: Ticket(at as u64), parts, ends_apart, spoiled })
        };
        let again = self.calls.last().and_then(|call| call.head()).is_some_and(|head| head.again);
        Lane::new(self.next, again, going_on.map(resumed).collect())
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
