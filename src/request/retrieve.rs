//! The result of a request: polled for until it is there.
//!
//! The server holds a poll for up to half a minute. Polls share two connections, so one that is held for longer than a
//! second gives way when others wait; the next one finds the same result.

use std::pin::pin;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{Either, LocalBoxFuture, select};
use tinkex_protocol::RequestId;
use tinkex_protocol::json::futures::{RequestType, RetrieveFuture};
use tinkex_protocol::retrieved::{QueueState, Retrieved, TryAgain};
use tinkex_supervise::{Dropped, reply, waiting_for};

use crate::error::{Error, Outcome};
use crate::platform::{HttpResponse, Level};
use crate::transport::connections::Class;
use crate::transport::retry::{Attempt, PATIENCE};
use crate::transport::{Call, PAUSE_FOR_BILLING, Silence, Transport, unreadable_result};

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
pub fn retrieve(
    transport: &Transport,
    request: &RequestId,
    kind: RequestType,
    impatient: Box<dyn FnOnce(Error)>,
) -> LocalBoxFuture<'static, Result<Payload, Error>> {
    let request = request.clone();
    let mut polls = Polls {
        last_contact: transport.platform().now(),
        transport: transport.clone(),
        kind,
        impatient: Some(impatient),
        bad_requests: 0,
        failures: 0,
        last_warned: None,
    };
    async move {
        let mut iteration = 0;
        loop {
            let outcome = poll(&polls.transport, &request, kind, iteration).await;
            iteration += 1;
            let Some(outcome) = outcome else { continue };
            match polls.judge(outcome) {
                Judged::Ended(result) => return result,
                Judged::Again(wait) if wait.is_zero() => {}
                Judged::Again(wait) => polls.transport.pause("the next poll", wait).await,
            }
        }
    }
    .boxed_local()
}

/// As [`retrieve`], for work whose caller is the only one that needs it: fails when its patience is over.
pub fn retrieve_or_fail(
    transport: &Transport,
    request: &RequestId,
    kind: RequestType,
) -> LocalBoxFuture<'static, Result<Payload, Error>> {
    let (impatient, too_long) = reply();
    let impatient = Box::new(|error| drop(impatient.send(error)));
    let result = retrieve(transport, request, kind, impatient);
    async move {
        match select(result, too_long).await {
            Either::Left((result, _)) => result,
            Either::Right((Ok(error), _)) => Err(error),
            Either::Right((Err(Dropped), result)) => result.await,
        }
    }
    .boxed_local()
}

/// What the polls for one result have come to.
struct Polls {
    transport: Transport,
    kind: RequestType,
    impatient: Option<Box<dyn FnOnce(Error)>>,
    bad_requests: u32,
    failures: u32,
    last_contact: Duration,
    last_warned: Option<Duration>,
}

enum Judged {
    Ended(Result<Payload, Error>),
    Again(Duration),
}

impl Polls {
    fn judge(&mut self, outcome: Result<HttpResponse, Silence>) -> Judged {
        let transport = self.transport.clone();
        let now = transport.platform().now();
        let pause = match &outcome {
            Ok(answer) if answer.is_success() => match read(answer) {
                Ok(Retrieved::TryAgain(again)) => {
                    self.warn_of_pause(again, now);
                    Duration::ZERO
                }
                Ok(Retrieved::Complete(_)) => Duration::ZERO,
                Ok(Retrieved::Failed(failed)) => {
                    return Judged::Ended(Err(Error::request_failed(failed.category.as_str(), failed.error)));
                }
                Ok(Retrieved::Json(bytes)) => return Judged::Ended(Ok(Payload::Json(bytes.to_vec()))),
                Ok(Retrieved::Protobuf(bytes)) => {
                    return Judged::Ended(Ok(Payload::Protobuf(bytes.to_vec())));
                }
                Err(error) => return Judged::Ended(Err(error)),
            },
            Ok(answer) => match answer.status {
                408 => Duration::ZERO,
                402 if transport.may_pause_for_billing() => PAUSE_FOR_BILLING,
                400 if self.bad_requests < MAX_BAD_REQUESTS => {
                    self.bad_requests += 1;
                    transport.backoff(self.bad_requests)
                }
                409 | 429 | 500.. => {
                    self.failures += 1;
                    transport.backoff(self.failures)
                }
                _ => {
                    let error = transport.final_error(&attempt_of(&outcome));
                    return Judged::Ended(Err(error.with_outcome(Outcome::Unknown)));
                }
            },
            Err(_) => {
                self.failures += 1;
                Duration::from_secs(1 << self.failures.min(5)).min(LONGEST_PAUSE)
            }
        };
        if outcome.as_ref().is_ok_and(|answer| answer.status < 500) {
            self.failures = 0;
            self.last_contact = now;
        }
        if now.saturating_sub(self.last_contact) >= PATIENCE
            && let Some(impatient) = self.impatient.take()
        {
            impatient(transport.final_error(&attempt_of(&outcome)).with_outcome(Outcome::Unknown));
        }
        Judged::Again(pause)
    }

    fn warn_of_pause(&mut self, again: TryAgain, now: Duration) {
        let paused =
            matches!(again.queue_state, Some(QueueState::PausedRateLimit | QueueState::PausedCapacity));
        let lately = self.last_warned.is_some_and(|at| now.saturating_sub(at) < PAUSE_WARNING_EVERY);
        if paused && !lately {
            self.last_warned = Some(now);
            let reason = again.queue_state_reason.unwrap_or_else(|| "the server is at its limit".into());
            let message = format!("{} is paused: {reason}", self.kind.as_str());
            self.transport.platform().log(Level::Warn, &message);
        }
    }
}

fn attempt_of(outcome: &Result<HttpResponse, Silence>) -> Attempt<'_> {
    match outcome {
        Ok(answer) => Attempt::Answer(answer),
        Err(silence) => silence.as_attempt(),
    }
}

/// One poll. `None`: it gave way to another one.
async fn poll(
    transport: &Transport,
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
    let waiting = waiting_for("a connection for its poll");
    let permit = transport.permit(Class::Poll).await;
    drop(waiting);
    let _waiting = waiting_for("its result");
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
    Retrieved::read(content_type, &answer.body).map_err(|error| unreadable_result(&error))
}
