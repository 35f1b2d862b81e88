//! The way of a numbered request to the server: sent as it is until the server takes it or refuses it for good.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tinkex_journal::lane::Refusal;
use tinkex_protocol::json::futures::Submitted;

use crate::error::{Error, Kind, Outcome};
use crate::platform::Level;
use crate::transport::delivery::Course;
use crate::transport::retry::{Attempt, PATIENCE, is_number_conflict};
use crate::transport::{Call, PAUSE_FOR_BILLING, Transport};

/// Why the server did not take a request.
pub enum Denied {
    Refused(Refusal<Error>),
    /// It lets this client do nothing at present, and may have taken the request at an earlier try.
    Barred(Error),
}

/// Sends the call until the server answers with a request id, or with a status that ends it. `unclear`: it was sent
/// before, and what came of it is not known. When that takes longer than [`PATIENCE`], says so once through `impatient`
/// and goes on.
pub async fn submit(
    transport: &Transport,
    call: Call,
    unclear: bool,
    impatient: Box<dyn FnOnce(Error)>,
) -> Result<String, Denied> {
    let unclear = Rc::new(Cell::new(unclear));
    let course = Submission {
        started: transport.platform().now(),
        transport: transport.clone(),
        path: call.path.clone(),
        retries: 0,
        unclear: unclear.clone(),
        impatient: Some(impatient),
    };
    let taken = transport.deliver(call, Box::new(course)).await;
    match taken.and_then(|taken| taken.read::<Submitted>()) {
        Ok(taken) => Ok(taken.request_id.into_string()),
        Err(error) => Err(denied(error, unclear.get())),
    }
}

fn denied(error: Error, unclear: bool) -> Denied {
    Denied::Refused(match error.kind() {
        Kind::Api { status, body } if is_number_conflict(*status, body.as_bytes()) => {
            Refusal::NumberUsed(error)
        }
        // A server that knows the request would have said so to whomever it lets in.
        Kind::Api { status: 401..=403, .. } if unclear => return Denied::Barred(error),
        Kind::Api { status: 404 | 410, .. } if unclear => {
            Refusal::Final(error.with_outcome(Outcome::Unknown))
        }
        _ => Refusal::Final(error),
    })
}

struct Submission {
    transport: Transport,
    path: String,
    started: Duration,
    retries: u32,
    /// What came of an earlier try is not known.
    unclear: Rc<Cell<bool>>,
    impatient: Option<Box<dyn FnOnce(Error)>>,
}

impl Course for Submission {
    fn failed(&mut self, attempt: &Attempt, status: u16) -> Result<Duration, Error> {
        let transport = &self.transport;
        let error = transport.final_error(attempt);
        let pause = match status {
            402 if transport.may_pause_for_billing() => Some(PAUSE_FOR_BILLING),
            _ => transport.pause_until_answered(attempt, self.retries),
        };
        let Some(pause) = pause else { return Err(error) };
        self.retries += 1;
        if matches!(status, 0 | 408 | 500..) {
            self.unclear.set(true);
        }
        if transport.platform().now().saturating_sub(self.started) >= PATIENCE
            && let Some(impatient) = self.impatient.take()
        {
            let message = format!("{} is not through after five minutes: {error}", self.path);
            transport.platform().log(Level::Warn, &message);
            impatient(error);
        }
        Ok(pause)
    }
}
