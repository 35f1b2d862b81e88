//! The way of a numbered request to the server: sent as it is until the server takes it or refuses it for good.

use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use tinkex_journal::lane::Refusal;
use tinkex_protocol::json::futures::Submitted;

use crate::error::{Error, Kind, Outcome};
use crate::platform::Level;
use crate::transport::delivery::{Course, Way};
use crate::transport::retry::{Attempt, PATIENCE, is_number_conflict};
use crate::transport::{Call, Fetched, PAUSE_FOR_BILLING, Transport};

/// Why the server did not take a request.
pub enum Denied {
    Refused(Refusal<Error>),
    /// It lets this client do nothing at present, and may have taken the request at an earlier try.
    Barred(Error),
}

/// Sends the call until the server answers with a request id, or with a status that ends it. `unclear`: it was sent
/// before, and what came of it is not known. When that takes longer than [`PATIENCE`], says so once through `impatient`
/// and goes on. [`taken`] reads what came of it.
pub fn submit(
    transport: &Transport,
    call: Call,
    unclear: bool,
    impatient: Box<dyn FnOnce(Error)>,
) -> LocalBoxFuture<'static, Result<Fetched, Error>> {
    let course = Submission { retries: 0, unclear, impatient: Some(impatient) };
    transport.deliver(call, Box::new(course))
}

/// Under which id the server works on a request that was submitted, or why it does not.
pub fn taken(answer: Result<Fetched, Error>) -> Result<String, Denied> {
    match answer.and_then(|answer| answer.read::<Submitted>()) {
        Ok(taken) => Ok(taken.request_id.into_string()),
        Err(error) => Err(denied(error)),
    }
}

fn denied(error: Error) -> Denied {
    Denied::Refused(match error.kind() {
        Kind::Api { status, body } if is_number_conflict(*status, body.as_bytes()) => {
            Refusal::NumberUsed(error)
        }
        Kind::Api { status: 401..=403, .. } if error.outcome() == Outcome::Unknown => {
            return Denied::Barred(error);
        }
        _ => Refusal::Final(error),
    })
}

struct Submission {
    retries: u32,
    /// What came of an earlier try is not known.
    unclear: bool,
    impatient: Option<Box<dyn FnOnce(Error)>>,
}

impl Course for Submission {
    fn failed(&mut self, way: &Way, attempt: &Attempt, status: u16) -> Result<Duration, Error> {
        let Way { transport, call, started } = way;
        let error = transport.final_error(attempt);
        let pause = match status {
            402 if transport.may_pause_for_billing() => Some(PAUSE_FOR_BILLING),
            _ => transport.pause_until_answered(attempt, self.retries),
        };
        let Some(pause) = pause else {
            // A server that knows the request would have said so to whomever it lets in.
            let may_know = self.unclear && matches!(status, 401..=404 | 410);
            return Err(if may_know { error.with_outcome(Outcome::Unknown) } else { error });
        };
        self.retries += 1;
        if matches!(status, 0 | 408 | 500..) {
            self.unclear = true;
        }
        if transport.platform().now().saturating_sub(*started) >= PATIENCE
            && let Some(impatient) = self.impatient.take()
        {
            let message = format!("{} is not through after five minutes: {error}", call.path);
            transport.platform().log(Level::Warn, &message);
            impatient(error);
        }
        Ok(pause)
    }
}
