//! The result of a request: polled for until it is there.
//!
//! The server holds a poll for up to half a minute. Polls share two connections, so one that is held for longer than a
//! second gives way when others wait; the next one finds the same result.

use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use tinkex_protocol::RequestId;
use tinkex_protocol::json::futures::{RequestType, RetrieveFuture};
use tinkex_protocol::retrieved::{QueueState, Retrieved, TryAgain, is_protobuf};

use crate::error::{Error, Outcome};
use crate::platform::{HttpResponse, Level};
use crate::transport::connections::Class;
use crate::transport::delivery::{Course, Way};
use crate::transport::retry::{Attempt, PATIENCE};
use crate::transport::{Call, Fetched, PAUSE_FOR_BILLING, Transport, unreadable_result};

const POLL_TIMEOUT: Duration = Duration::from_secs(45);

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

impl Payload {
    pub fn of(Fetched { answer, .. }: Fetched) -> Payload {
        match is_protobuf(content_type(&answer)) {
            true => Payload::Protobuf(answer.body),
            false => Payload::Json(answer.body),
        }
    }

    pub fn json(self) -> Result<Vec<u8>, Error> {
        match self {
            Payload::Json(bytes) => Ok(bytes),
            Payload::Protobuf(_) => {
                Err(Error::protocol("the server sent protobuf where a JSON result belongs"))
            }
        }
    }

    pub fn protobuf(self) -> Result<Vec<u8>, Error> {
        match self {
            Payload::Protobuf(bytes) => Ok(bytes),
            Payload::Json(_) => Err(Error::protocol("the server sent JSON where a protobuf result belongs")),
        }
    }
}

/// Waits for the answer that has the result of `request`: a [`Payload`]. When no poll gets through for longer than [`PATIENCE`],
/// says so once through `impatient` and goes on.
pub fn retrieve(
    transport: &Transport,
    request: &RequestId,
    kind: RequestType,
    impatient: Box<dyn FnOnce(Error)>,
) -> LocalBoxFuture<'static, Result<Fetched, Error>> {
    poll(transport, request, kind, Impatience::Tells(impatient))
}

/// As [`retrieve`], for work whose caller is the only one that needs it: fails when its patience is over.
pub fn retrieve_or_fail(
    transport: &Transport,
    request: &RequestId,
    kind: RequestType,
) -> LocalBoxFuture<'static, Result<Fetched, Error>> {
    poll(transport, request, kind, Impatience::Ends)
}

fn poll(
    transport: &Transport,
    request: &RequestId,
    kind: RequestType,
    impatience: Impatience,
) -> LocalBoxFuture<'static, Result<Fetched, Error>> {
    let ask = RetrieveFuture { request_id: request.clone(), allow_metadata_only: false };
    let mut call = Call::post_json("retrieve_future", &ask)
        .class(Class::Poll)
        .timeout(POLL_TIMEOUT)
        .header("x-tinker-request-type", kind.as_str());
    call.counter = "x-tinker-request-iteration";
    if kind.has_protobuf_result() {
        call.accept = "application/x-protobuf, application/json";
    }
    let polls = Polls {
        last_contact: transport.platform().now(),
        kind,
        impatience,
        bad_requests: 0,
        failures: 0,
        last_warned: None,
    };
    transport.deliver(call, Box::new(polls))
}

/// What is done when no poll gets through for longer than [`PATIENCE`].
enum Impatience {
    /// Whoever waits is told, once.
    Tells(Box<dyn FnOnce(Error)>),
    Told,
    /// The result is not waited for any more.
    Ends,
}

/// What the polls for one result have come to.
struct Polls {
    kind: RequestType,
    impatience: Impatience,
    bad_requests: u32,
    failures: u32,
    last_contact: Duration,
    last_warned: Option<Duration>,
}

impl Course for Polls {
    fn is_answer(&mut self, way: &Way, answer: &HttpResponse) -> Result<bool, Error> {
        self.failures = 0;
        self.last_contact = way.transport.platform().now();
        match Retrieved::read(content_type(answer), &answer.body) {
            Ok(Retrieved::TryAgain(again)) => {
                self.warn_of_pause(&way.transport, again);
                Ok(false)
            }
            Ok(Retrieved::Complete(_)) => Ok(false),
            Ok(Retrieved::Failed(failed)) => {
                Err(Error::request_failed(failed.category.as_str(), failed.error))
            }
            Ok(Retrieved::Json(_) | Retrieved::Protobuf(_)) => Ok(true),
            Err(error) => Err(unreadable_result(error)),
        }
    }

    fn failed(&mut self, way: &Way, attempt: &Attempt, status: u16) -> Result<Duration, Error> {
        let transport = &way.transport;
        let why_no_result = || transport.final_error(attempt).with_outcome(Outcome::Unknown);
        let now = transport.platform().now();
        let pause = match status {
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
            0 => {
                self.failures += 1;
                Duration::from_secs(1 << self.failures.min(5)).min(LONGEST_PAUSE)
            }
            _ => return Err(why_no_result()),
        };
        if (1..500).contains(&status) {
            self.failures = 0;
            self.last_contact = now;
        }
        if now.saturating_sub(self.last_contact) >= PATIENCE {
            match std::mem::replace(&mut self.impatience, Impatience::Told) {
                Impatience::Tells(impatient) => impatient(why_no_result()),
                Impatience::Told => {}
                Impatience::Ends => return Err(why_no_result()),
            }
        }
        Ok(pause)
    }
}

impl Polls {
    fn warn_of_pause(&mut self, transport: &Transport, again: TryAgain) {
        let now = self.last_contact;
        let paused =
            matches!(again.queue_state, Some(QueueState::PausedRateLimit | QueueState::PausedCapacity));
        let lately = self.last_warned.is_some_and(|at| now.saturating_sub(at) < PAUSE_WARNING_EVERY);
        if paused && !lately {
            self.last_warned = Some(now);
            let reason = again.queue_state_reason.unwrap_or_else(|| "the server is at its limit".into());
            let message = format!("{} is paused: {reason}", self.kind.as_str());
            transport.platform().log(Level::Warn, &message);
        }
    }
}

fn content_type(answer: &HttpResponse) -> &str {
    answer.header("content-type").unwrap_or("application/json")
}
