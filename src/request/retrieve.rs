//! The result of a request: polled for until it is there.
//!
//! The server holds a poll for up to half a minute. Polls share two connections, so one that is held for longer than a
//! second gives way when others wait; the next one finds the same result.

use std::pin::pin;
use std::time::Duration;

use futures_channel::oneshot;
use futures_util::future::{Either, select};
use tinkex_protocol::RequestId;
use tinkex_protocol::json::futures::{RequestType, RetrieveFuture};
use tinkex_protocol::retrieved::{QueueState, Retrieved};
use tinkex_supervise::Context;

use crate::error::{Error, Outcome};
use crate::platform::{HttpResponse, Level};
use crate::transport::connections::Class;
use crate::transport::retry::{Attempt, PATIENCE};
use crate::transport::{Call, PAUSE_FOR_BILLING, Silence, Transport};

const POLL_TIMEOUT: Duration = Duration::from_secs(45);

/// How long a poll may be held while others wait for its connection.
const SLICE: Duration = Duration::from_secs(1);

const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A proxy's 400 is believed the third time.
const MAX_BAD_REQUESTS: u32 = 3;

const PAUSE_WARNING_EVERY: Duration = Duration::from_secs(60);

/// A result's bytes.
#[derive(Debug)]
pub enum Payload {
    Json(Vec<u8>),
    Protobuf(Vec<u8>),
}

/// Waits for the result of `request`. When no poll gets through for longer than [`PATIENCE`], says so once through
/// `impatient` and goes on.
pub async fn retrieve(
    transport: &Transport,
    ctx: &Context,
    request: &RequestId,
    kind: RequestType,
    impatient: Box<dyn FnOnce(Error)>,
) -> Result<Payload, Error> {
    let platform = transport.platform();
    let mut impatient = Some(impatient);
    let mut iteration = 0u32;
    let mut bad_requests = 0;
    let mut failures = 0;
    let mut last_contact = platform.now();
    let mut last_warned: Option<Duration> = None;
    loop {
        let outcome = poll(transport, ctx, request, kind, iteration).await;
        iteration += 1;
        let Some(outcome) = outcome else { continue };
        let attempt = match &outcome {
            Ok(answer) => Attempt::Answer(answer),
            Err(silence) => silence.as_attempt(),
        };
        let pause = match &outcome {
            Ok(answer) if answer.is_success() => match read(answer)? {
                Retrieved::TryAgain(again) => {
                    if matches!(
                        again.queue_state,
                        Some(QueueState::PausedRateLimit | QueueState::PausedCapacity)
                    ) && last_warned
                        .is_none_or(|at| platform.now().saturating_sub(at) >= PAUSE_WARNING_EVERY)
                    {
                        last_warned = Some(platform.now());
                        let reason =
                            again.queue_state_reason.unwrap_or_else(|| "the server is at its limit".into());
                        platform.log(Level::Warn, &format!("{} is paused: {reason}", kind.as_str()));
                    }
                    Duration::ZERO
                }
                Retrieved::Failed(failed) => {
                    return Err(Error::request_failed(failed.category.as_str(), failed.error));
                }
                Retrieved::Json(bytes) => return Ok(Payload::Json(bytes.to_vec())),
                Retrieved::Protobuf(bytes) => return Ok(Payload::Protobuf(bytes.to_vec())),
                Retrieved::Complete(_) => Duration::ZERO,
            },
            Ok(answer) => match answer.status {
                408 => Duration::ZERO,
                402 if transport.may_pause_for_billing() => PAUSE_FOR_BILLING,
                400 if bad_requests < MAX_BAD_REQUESTS => {
                    bad_requests += 1;
                    transport.backoff(bad_requests)
                }
                429 | 500.. => {
                    failures += 1;
                    transport.backoff(failures)
                }
                _ => return Err(transport.final_error(&attempt).with_outcome(Outcome::Unknown)),
            },
            Err(_) => {
                failures += 1;
                Duration::from_secs(1 << failures.min(5)).min(LONGEST_PAUSE)
            }
        };
        if let Ok(answer) = &outcome
            && answer.status < 500
        {
            failures = 0;
            last_contact = platform.now();
        }
        if platform.now().saturating_sub(last_contact) >= PATIENCE
            && let Some(impatient) = impatient.take()
        {
            impatient(transport.final_error(&attempt).with_outcome(Outcome::Unknown));
        }
        if pause > Duration::ZERO {
            let _waiting = ctx.waiting_for("the next poll");
            platform.timer(pause).await;
        }
    }
}

/// As [`retrieve`], for work whose caller is the only one that needs it: fails when its patience is over.
pub async fn retrieve_or_fail(
    transport: &Transport,
    ctx: &Context,
    request: &RequestId,
    kind: RequestType,
) -> Result<Payload, Error> {
    let (impatient, too_long) = oneshot::channel();
    let impatient = Box::new(|error| drop(impatient.send(error)));
    let result = retrieve(transport, ctx, request, kind, impatient);
    match select(pin!(result), too_long).await {
        Either::Left((result, _)) => result,
        Either::Right((Ok(error), _)) => Err(error),
        Either::Right((Err(oneshot::Canceled), result)) => result.await,
    }
}

/// One poll. `None`: it gave way to another one.
async fn poll(
    transport: &Transport,
    ctx: &Context,
    request: &RequestId,
    kind: RequestType,
    iteration: u32,
) -> Option<Result<HttpResponse, Silence>> {
    let ask = RetrieveFuture { request_id: request.clone(), allow_metadata_only: false };
    let accept = if kind.has_protobuf_result() {
        "application/x-protobuf, application/json"
    } else {
        "application/json"
    };
    let call = Call::post_json("retrieve_future", &ask)
        .timeout(POLL_TIMEOUT)
        .header("accept", accept)
        .header("x-tinker-request-iteration", iteration.to_string())
        .header("x-tinker-request-type", kind.as_str());
    let waiting = ctx.waiting_for("a connection for its poll");
    let permit = transport.permit(Class::Poll).await;
    drop(waiting);
    let _waiting = ctx.waiting_for("its result");
    let mut attempt = pin!(transport.attempt(&call, None, 0));
    loop {
        match select(attempt, transport.platform().timer(SLICE)).await {
            Either::Left((outcome, _)) => return Some(outcome),
            Either::Right((_, _)) if permit.others_wait() => return None,
            Either::Right((_, still_held)) => attempt = still_held,
        }
    }
}

fn read(answer: &HttpResponse) -> Result<Retrieved<'_>, Error> {
    let content_type = answer.header("content-type").unwrap_or("application/json");
    Retrieved::read(content_type, &answer.body)
        .map_err(|error| Error::protocol(format!("the server's result can't be read: {error}")))
}
