//! HTTP as the service wants it: address and credential, idempotency keys, one budget of connections, time-outs, and
//! repetition of what may be repeated.

pub mod answer;
mod call;
pub mod connections;
pub mod delivery;
pub mod network;
pub mod retry;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use tinkex_supervise::CancelledFuture;

use crate::error::Error;
use crate::platform::{HttpRequest, HttpResponse, Level, Platform};
use answer::Answer;
pub use call::{Body, Call};
use connections::{Class, Connections, Permit};
use network::Network;
use retry::{Attempt, Policy, Silence, Tried, backoff, pause_before_retry};

/// How long one HTTP request may take, unless the user says otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

/// The client's name and version, as the service's own clients send theirs.
pub const SDK_VERSION: &str = concat!("tinkex-", env!("CARGO_PKG_VERSION"));

/// Between two tries of a request that was answered with 402.
pub const PAUSE_FOR_BILLING: Duration = Duration::from_secs(5);
const LONGEST_PAUSE_FOR_BILLING: Duration = Duration::from_secs(3_600);
const BILLING_WARNING_EVERY: Duration = Duration::from_secs(60);

/// How long a poll may be held while others wait for its connection.
const SLICE: Duration = Duration::from_secs(1);

/// Where the service is, and how to speak to it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Without a trailing slash.
    pub base_url: String,
    /// An API key or a token. Never logged, never part of an error.
    pub api_key: String,
    pub timeout: Duration,
    /// `None`: the defaults of [`retry`].
    pub max_retries: Option<u32>,
    pub max_connections: usize,
}

/// Is told of an answer; gives false when it is to be told of no more.
pub type Hear = Box<dyn Fn() -> bool>;

/// The way to one service. Clones share connections and what is known of the server.
#[derive(Clone)]
pub struct Transport(Rc<Inner>);

struct Inner {
    platform: Rc<dyn Platform>,
    settings: Settings,
    connections: Connections,
    network: Network,
    /// Whether this server has ever answered.
    reached: Cell<bool>,
    billing: Cell<Billing>,
    /// Told of every answer.
    on_answer: RefCell<Vec<Hear>>,
}

/// The clock of a pause for billing is one for all calls, as the account is one.
#[derive(Clone, Copy, Default)]
struct Billing {
    paused_since: Option<Duration>,
    last_seen: Duration,
    last_warned: Option<Duration>,
}

impl Transport {
    pub fn new(platform: Rc<dyn Platform>, settings: Settings) -> Transport {
        let connections = Connections::new(settings.max_connections);
        Transport(Rc::new(Inner {
            platform,
            settings,
            connections,
            network: Network::default(),
            reached: Cell::new(false),
            billing: Cell::default(),
            on_answer: RefCell::default(),
        }))
    }

    pub fn platform(&self) -> &Rc<dyn Platform> {
        &self.0.platform
    }

    /// `hear` is told of every answer, whatever it is, and of every [`wake`](Self::wake).
    pub fn on_answer(&self, hear: Hear) {
        self.0.on_answer.borrow_mut().push(hear);
    }

    /// The page is back, or its network has come or gone: what waits for a next try tries now, and what is due is sent.
    pub fn wake(&self, online: bool) {
        self.0.network.change(online);
        self.stir();
    }

    /// Tells those who hear of answers.
    fn stir(&self) {
        self.0.on_answer.borrow_mut().retain(|hear| hear());
    }

    /// Where the last try had no answer, or the server could give none: what happened, in words.
    pub fn trouble(&self) -> String {
        self.0.network.trouble()
    }

    /// Resolves when [`trouble`](Self::trouble) is another.
    pub fn until_trouble_changes(&self) -> CancelledFuture {
        self.0.network.until_noted()
    }

    /// Waits until a next try: at most so long, and less when the network has changed.
    pub fn until_next_try(&self, pause: Duration) -> LocalBoxFuture<'static, ()> {
        self.0.network.until_changed(self.0.platform.timer(pause))
    }

    /// One try, over the connection of its permit; telemetry has none. `tries`: how often the call was sent before. None is
    /// a poll that was held and gave way: the next one finds the same result.
    pub fn attempt(
        &self,
        call: &Call,
        tries: u32,
        permit: Option<Permit>,
    ) -> LocalBoxFuture<'static, Option<Attempt>> {
        let Inner { platform, settings, .. } = &*self.0;
        let mut answer = platform.http(self.request(call, tries));
        let mut timeout = platform.timer(call.timeout.unwrap_or(settings.timeout));
        let mut slice = (call.class == Class::Poll).then(|| platform.timer(SLICE));
        let transport = self.clone();
        // Telemetry's way is its own.
        let counts = permit.is_some();
        let attempt = poll_fn(move |cx| {
            let come = match answer.poll_unpin(cx) {
                Poll::Ready(answer) => Some(answer.map_err(Silence::Failed)),
                Poll::Pending => timeout.poll_unpin(cx).is_ready().then_some(Err(Silence::TimedOut)),
            };
            if let Some(attempt) = come {
                if attempt.is_ok() {
                    transport.0.reached.set(true);
                    transport.stir();
                }
                if counts {
                    transport.note(&attempt);
                }
                return Poll::Ready(Some(attempt));
            }
            while let Some(timer) = &mut slice
                && timer.poll_unpin(cx).is_ready()
            {
                if permit.as_ref().is_some_and(Permit::others_wait) {
                    return Poll::Ready(None);
                }
                *timer = transport.0.platform.timer(SLICE);
            }
            Poll::Pending
        });
        Box::pin(attempt)
    }

    fn note(&self, attempt: &Attempt) {
        self.0.network.note(match attempt {
            Ok(answer) if answer.status < 500 => String::new(),
            _ => self.final_error(attempt).message().to_owned(),
        });
    }

    fn request(&self, call: &Call, tries: u32) -> HttpRequest {
        let settings = &self.0.settings;
        let (content_type, body) = match &call.body {
            Body::None => (None, None),
            Body::Json(bytes) => (Some("application/json"), Some(bytes.clone())),
            Body::Protobuf(bytes) => (Some("application/x-protobuf"), Some(bytes.clone())),
        };
        let count = format!("{tries}");
        let mut headers = call.headers.clone();
        for (name, value) in [
            ("accept", Some(call.accept)),
            ("x-api-key", Some(&*settings.api_key)),
            ("x-idempotency-key", call.idempotency_key.as_deref()),
            (call.counter, (tries > 0 || call.class == Class::Poll).then_some(&*count)),
            ("content-type", content_type),
        ] {
            if let Some(value) = value {
                headers.push((name, value.to_owned()));
            }
        }
        HttpRequest {
            method: call.method,
            url: [&settings.base_url, "/api/v1/", &call.path].concat(),
            headers,
            body,
            keepalive: call.keepalive,
        }
    }

    /// The error that a try amounts to, where it is the last one.
    pub fn final_error(&self, attempt: &Attempt) -> Error {
        let base_url = &self.0.settings.base_url;
        match attempt {
            Ok(answer) if retry::is_from_a_proxy(answer) => {
                Error::connection("a proxy between this client and the service answered 400 without a body")
            }
            Ok(answer) => Error::api(answer.status, answer.text()),
            Err(Silence::TimedOut) => Error::timeout(format!("no answer from {base_url} in time")),
            Err(Silence::Failed(failure)) => {
                let hint = match self.0.reached.get() {
                    true => "",
                    false => {
                        ". Check baseURL, that the server runs, and that it allows this page's origin (CORS)"
                    }
                };
                Error::connection(format!("no answer from {base_url}: {}{hint}", failure.0))
            }
        }
    }

    /// The pause before a loop's next try, with this platform's jitter.
    pub fn backoff(&self, retries: u32) -> Duration {
        backoff(retries, unit(self.0.platform.random()))
    }

    /// The pause before the next try of a call that was sent `retries` times again since `started`; none where the last
    /// try is final.
    fn pause_before(
        &self,
        policy: Policy,
        attempt: &Attempt,
        retries: u32,
        started: Duration,
    ) -> Option<Duration> {
        let Inner { platform, settings, reached, .. } = &*self.0;
        let max_retries = settings.max_retries.unwrap_or(match reached.get() {
            true => retry::DEFAULT_RETRIES,
            false => retry::RETRIES_BEFORE_FIRST_CONTACT,
        });
        let elapsed = platform.now().saturating_sub(started);
        let jitter = unit(platform.random());
        pause_before_retry(policy, attempt, Tried { retries, max_retries, elapsed, jitter })
    }

    /// The pause before the next try of what is repeated until the server has answered; `None`: this was its answer.
    pub fn pause_until_answered(&self, attempt: &Attempt, retries: u32) -> Option<Duration> {
        self.pause_before(Policy::UntilAnswered, attempt, retries, Duration::ZERO)
    }

    /// 402 pauses work until the account is in order again: at most an hour, with a warning a minute.
    pub fn may_pause_for_billing(&self) -> bool {
        const QUIET_ENDS_PAUSE: Duration = Duration::from_secs(5 * 60);
        let now = self.0.platform.now();
        let mut billing = self.0.billing.get();
        if now.saturating_sub(billing.last_seen) > QUIET_ENDS_PAUSE {
            billing.paused_since = None;
        }
        billing.last_seen = now;
        let since = *billing.paused_since.get_or_insert(now);
        if billing.last_warned.is_none_or(|at| now.saturating_sub(at) >= BILLING_WARNING_EVERY) {
            billing.last_warned = Some(now);
            self.0
                .platform
                .log(Level::Warn, "work is paused for billing (402): see to the account's payment");
        }
        self.0.billing.set(billing);
        now.saturating_sub(since) < LONGEST_PAUSE_FOR_BILLING
    }
}

/// The last answer to a call, and to which.
pub struct Fetched {
    path: String,
    pub answer: HttpResponse,
}

impl Fetched {
    /// The answer as a message of the protocol.
    pub fn read<T: Answer>(&self) -> Result<T, Error> {
        answer::read(&self.answer.body).map_err(|error| self.unreadable(error))
    }

    #[cold]
    #[inline(never)]
    fn unreadable(&self, error: tinkex_protocol::Error) -> Error {
        unreadable(&["answer to ", &self.path].concat(), error)
    }
}

/// The result of a request as a message of the protocol.
pub fn read_result<T: Answer>(body: &[u8]) -> Result<T, Error> {
    answer::read(body).map_err(unreadable_result)
}

#[cold]
#[inline(never)]
pub fn unreadable_result(error: tinkex_protocol::Error) -> Error {
    unreadable("result", error)
}

pub fn unreadable(what: &str, error: tinkex_protocol::Error) -> Error {
    Error::protocol(format!("the server's {what} can't be read: {error}"))
}

/// Random bits as a number from 0 to 1.
fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1u64 << 53) as f64
}
