//! The way of a numbered request to the server: sent as it is until the server takes it or refuses it for good.

use std::time::Duration;

use tinkex_protocol::RequestId;
use tinkex_protocol::json::futures::Submitted;
use tinkex_supervise::Context;

use super::lane::Refusal;
use crate::error::Error;
use crate::platform::{Level, uuid};
use crate::transport::connections::Class;
use crate::transport::retry::{self, Attempt, PATIENCE};
use crate::transport::{Call, PAUSE_FOR_BILLING, Transport};

/// Sends the call until the server answers with a request id, or with a status that ends it. When that takes longer
/// than [`PATIENCE`], says so once through `impatient` and goes on.
pub async fn submit(
    transport: &Transport,
    ctx: &Context,
    call: Call,
    impatient: impl FnOnce(Error),
) -> Result<RequestId, Refusal> {
    let platform = transport.platform();
    let started = platform.now();
    let key = uuid(&**platform);
    let mut impatient = Some(impatient);
    let mut retries = 0;
    loop {
        let waiting = ctx.waiting_for("a connection");
        let permit = transport.permit(Class::Submission).await;
        drop(waiting);
        let waiting = ctx.waiting_for("the server to take it");
        let outcome = transport.attempt(&call, Some(&key), retries).await;
        drop((permit, waiting));
        let attempt = match &outcome {
            Ok(answer) if answer.is_success() => {
                let taken: Result<Submitted, _> = crate::transport::answer::read(&answer.body);
                return taken.map(|taken| taken.request_id).map_err(|error| {
                    let message = format!("the server's answer to {} can't be read: {error}", call.path);
                    Refusal::Final(Error::protocol(message))
                });
            }
            Ok(answer) => Attempt::Answer(answer),
            Err(silence) => silence.as_attempt(),
        };
        let pause = match pause(transport, &attempt, retries) {
            Ok(pause) => pause,
            Err(refusal) => return Err(refusal),
        };
        if platform.now().saturating_sub(started) >= PATIENCE
            && let Some(impatient) = impatient.take()
        {
            let error = transport.final_error(&attempt);
            platform.log(Level::Warn, &format!("{} is not through after five minutes: {error}", call.path));
            impatient(error);
        }
        let _waiting = ctx.waiting_for("the next try");
        platform.timer(pause).await;
        retries += 1;
    }
}

/// How long to wait before the same is sent again, or why it is never to be.
fn pause(transport: &Transport, attempt: &Attempt, retries: u32) -> Result<Duration, Refusal> {
    if let Attempt::Answer(answer) = attempt {
        if answer.status == 402 && transport.may_pause_for_billing() {
            return Ok(PAUSE_FOR_BILLING);
        }
        if retry::is_number_conflict(answer) {
            return Err(Refusal::NumberUsed(transport.final_error(attempt)));
        }
    }
    transport
        .pause_until_answered(attempt, retries)
        .ok_or_else(|| Refusal::Final(transport.final_error(attempt)))
}
