//! The way of a numbered request to the server: sent as it is until the server takes it or refuses it for good.

use std::rc::Rc;
use std::time::Duration;

use tinkex_journal::lane::Refusal;
use tinkex_protocol::json::futures::Submitted;

use super::tries::attempt;
use crate::error::{Error, Outcome};
use crate::platform::Level;
use crate::transport::retry::{self, Attempt, PATIENCE};
use crate::transport::{Call, PAUSE_FOR_BILLING, Transport, read_answer};

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
    mut unclear: bool,
    impatient: Box<dyn FnOnce(Error)>,
) -> Result<String, Denied> {
    let platform = transport.platform();
    let started = platform.now();
    let (call, mut impatient) = (Rc::new(call), Some(impatient));
    let mut retries = 0;
    loop {
        let outcome = attempt(transport, &call, retries, None).await;
        let attempt = match &outcome {
            Ok(answer) if answer.is_success() => {
                let taken: Result<Submitted, Error> = read_answer(&call.path, &answer.body);
                return taken
                    .map(|taken| taken.request_id.into_string())
                    .map_err(|error| Denied::Refused(Refusal::Final(error)));
            }
            Ok(answer) => Attempt::Answer(answer),
            Err(silence) => silence.as_attempt(),
        };
        let wait = pause_before(transport, &attempt, retries, unclear)?;
        unclear |= !matches!(outcome, Ok(ref answer) if answer.status < 500 && answer.status != 408);
        if platform.now().saturating_sub(started) >= PATIENCE
            && let Some(impatient) = impatient.take()
        {
            let error = transport.final_error(&attempt);
            platform.log(Level::Warn, &format!("{} is not through after five minutes: {error}", call.path));
            impatient(error);
        }
        transport.pause("the next try", wait).await;
        retries += 1;
    }
}

/// How long to wait before the same is sent again, or why it is not to be.
fn pause_before(
    transport: &Transport,
    attempt: &Attempt,
    retries: u32,
    unclear: bool,
) -> Result<Duration, Denied> {
    if let Attempt::Answer(answer) = attempt {
        if answer.status == 402 && transport.may_pause_for_billing() {
            return Ok(PAUSE_FOR_BILLING);
        }
        if retry::is_number_conflict(answer) {
            return Err(Denied::Refused(Refusal::NumberUsed(transport.final_error(attempt))));
        }
    }
    transport.pause_until_answered(attempt, retries).ok_or_else(|| {
        let error = transport.final_error(attempt);
        match error.status() {
            // A server that knows the request would have said so to whomever it lets in.
            Some(401..=403) if unclear => Denied::Barred(error),
            Some(404 | 410) if unclear => {
                Denied::Refused(Refusal::Final(error.with_outcome(Outcome::Unknown)))
            }
            _ => Denied::Refused(Refusal::Final(error)),
        }
    })
}
