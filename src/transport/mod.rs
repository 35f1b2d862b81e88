//! HTTP as the service wants it: address and credential, idempotency keys, one budget of connections, time-outs, and
//! repetition of what may be repeated.

pub mod answer;
pub mod connections;
pub mod network;
pub mod retry;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::{Either, LocalBoxFuture, select};
use futures_util::{FutureExt, TryFutureExt};
use serde::Serialize;
use tinkex_supervise::waiting_for;

use crate::error::Error;
use crate::platform::{HttpRequest, HttpResponse, Level, Platform, numbers, uuid};
use answer::Answer;
use connections::{Asked, Class, Connections};
use network::Network;
use retry::{Attempt, Policy, Tried, backoff, pause_before_retry};

/// How long one HTTP request may take, unless the user says otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

/// The client's name and version, as the service's own clients send theirs.
pub const SDK_VERSION: &str = concat!("tinkex-", env!("CARGO_PKG_VERSION"));

/// Between two tries of a request that was answered with 402.
pub const PAUSE_FOR_BILLING: Duration = Duration::from_secs(5);
const LONGEST_PAUSE_FOR_BILLING: Duration = Duration::from_secs(3_600);
const BILLING_WARNING_EVERY: Duration = Duration::from_secs(60);

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

/// One call to the service, as the parts above describe it.
pub struct Call {
    pub method: &'static str,
    /// Behind `/api/v1/`.
    pub path: String,
    pub class: Class,
    pub policy: Policy,
    pub body: Body,
    pub timeout: Option<Duration>,
    pub headers: Vec<(&'static str, String)>,
    /// It is to arrive also when the page that sends it goes: of all such bodies of a page 64 KiB may be under way.
    pub keepalive: bool,
    /// Fixed by the caller where the same key must be used again; else made for this call.
    pub idempotency_key: Option<String>,
}

/// What a call carries.
#[derive(Clone)]
pub enum Body {
    None,
    Json(Rc<[u8]>),
    Protobuf(Rc<[u8]>),
}

impl Call {
    pub fn get(path: impl Into<String>) -> Call {
        Call {
            method: "GET",
            path: path.into(),
            class: Class::Submission,
            policy: Policy::Patient,
            body: Body::None,
            timeout: None,
            headers: Vec::new(),
            keepalive: false,
            idempotency_key: None,
        }
    }

    pub fn post(path: impl Into<String>, body: Body) -> Call {
        Call { method: "POST", body, ..Call::get(path) }
    }

    /// A POST of a message of the protocol.
    pub fn post_json(path: impl Into<String>, message: &impl Serialize) -> Call {
        Call::post(path, Body::json(message))
    }

    pub fn class(self, class: Class) -> Call {
        Call { class, ..self }
    }

    pub fn policy(self, policy: Policy) -> Call {
        Call { policy, ..self }
    }

    pub fn timeout(self, timeout: Duration) -> Call {
        Call { timeout: Some(timeout), ..self }
    }

    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Call {
        self.headers.push((name, value.into()));
        self
    }
}

impl Body {
    pub fn json(message: &impl Serialize) -> Body {
        Body::Json(tinkex_protocol::json::write(message, numbers::write).into())
    }
}

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

    /// Waits until a next try, and shows it as `why`: at most so long, and less when the network has changed.
    pub fn pause(&self, why: &'static str, pause: Duration) -> LocalBoxFuture<'static, ()> {
        let over = self.until_next_try(pause);
        let why = self.0.network.or_absent(why);
        async move {
            let _waiting = waiting_for(why);
            over.await;
        }
        .boxed_local()
    }

    /// The same, for those who show it themselves.
    pub fn until_next_try(&self, pause: Duration) -> LocalBoxFuture<'static, ()> {
        self.0.network.until_changed(self.0.platform.timer(pause))
    }

    /// Sends the call, again where its policy says so, and gives the first answer that is final: a 2xx.
    /// Anything else is an error; dropping the future aborts what is under way.
    pub fn send(&self, call: Call) -> LocalBoxFuture<'static, Result<HttpResponse, Error>> {
        let transport = self.clone();
        async move { transport.send_until_final(call).await }.boxed_local()
    }

    async fn send_until_final(&self, call: Call) -> Result<HttpResponse, Error> {
        let platform = &self.0.platform;
        let started = platform.now();
        let key =
            (call.method != "GET").then(|| call.idempotency_key.clone().unwrap_or_else(|| uuid(&**platform)));
        let mut retries = 0;
        loop {
            let permit = self.permit(call.class).await;
            let outcome = self.attempt(&call, key.as_deref(), retries).await;
            drop(permit);
            let outcome = match outcome {
                Ok(answer) if answer.is_success() => return Ok(answer),
                other => other,
            };
            let attempt = match &outcome {
                Ok(answer) => Attempt::Answer(answer),
                Err(silence) => silence.as_attempt(),
            };
            if let Attempt::Answer(answer) = &attempt
                && answer.status == 402
                && call.policy == Policy::Patient
                && self.may_pause_for_billing()
            {
                platform.timer(PAUSE_FOR_BILLING).await;
                continue;
            }
            let tried = Tried {
                retries,
                max_retries: self.max_retries(),
                elapsed: platform.now().saturating_sub(started),
                jitter: unit(platform.random()),
            };
            let policy = match call.policy {
                // Before the first contact an unreachable server is likelier a wrong address than a passing fault.
                Policy::Patient if !self.0.reached.get() => Policy::Plain,
                policy => policy,
            };
            let Some(pause) = pause_before_retry(policy, &attempt, tried) else {
                return Err(self.final_error(&attempt));
            };
            platform.log(
                Level::Debug,
                &format!("{} {} again in {} ms", call.method, call.path, pause.as_millis() as u64),
            );
            self.pause("the next try", pause).await;
            retries += 1;
        }
    }

    /// As [`send`](Transport::send), for an answer that is to be read.
    pub fn fetch(&self, call: Call) -> LocalBoxFuture<'static, Result<Fetched, Error>> {
        let path = call.path.clone();
        self.send(call).map_ok(|answer| Fetched { path, body: answer.body }).boxed_local()
    }

    /// Waits for a place among the connections.
    pub fn permit(&self, class: Class) -> Asked {
        let platform = self.0.platform.clone();
        self.0.connections.acquire(class, Rc::new(move || platform.now()))
    }

    /// One try over a connection that the caller has a permit for. For loops with a policy of their own.
    pub fn attempt(
        &self,
        call: &Call,
        key: Option<&str>,
        retries: u32,
    ) -> LocalBoxFuture<'static, Result<HttpResponse, Silence>> {
        let Inner { platform, settings, .. } = &*self.0;
        let timeout = call.timeout.unwrap_or(settings.timeout);
        let mut headers =
            vec![("accept", "application/json".to_owned()), ("x-api-key", settings.api_key.clone())];
        if let Some(key) = key {
            headers.push(("x-idempotency-key", key.to_owned()));
        }
        if retries > 0 {
            headers.push(("x-stainless-retry-count", retries.to_string()));
        }
        for (name, value) in &call.headers {
            headers.retain(|(other, _)| other != name);
            headers.push((name, value.clone()));
        }
        let body = match &call.body {
            Body::None => None,
            Body::Json(bytes) => Some(("application/json", bytes.clone())),
            Body::Protobuf(bytes) => Some(("application/x-protobuf", bytes.clone())),
        };
        let body = body.map(|(content_type, bytes)| {
            headers.push(("content-type", content_type.to_owned()));
            bytes
        });
        let url = format!("{}/api/v1/{}", settings.base_url, call.path);
        let answer =
            platform.http(HttpRequest { method: call.method, url, headers, body, keepalive: call.keepalive });
        let either = select(answer, platform.timer(timeout));
        let transport = self.clone();
        async move {
            match either.await {
                Either::Left((Ok(answer), _)) => {
                    transport.0.reached.set(true);
                    transport.stir();
                    Ok(answer)
                }
                Either::Left((Err(failure), _)) => Err(Silence::Failed(failure)),
                Either::Right(_) => Err(Silence::TimedOut),
            }
        }
        .boxed_local()
    }

    /// The error that a try's answer amounts to.
    pub fn final_error(&self, attempt: &Attempt) -> Error {
        let base_url = &self.0.settings.base_url;
        match attempt {
            Attempt::Answer(answer) if retry::is_from_a_proxy(answer) => {
                Error::connection("a proxy between this client and the service answered 400 without a body")
            }
            Attempt::Answer(answer) => Error::api(answer.status, answer.text()),
            Attempt::NoAnswer(failure) if self.0.reached.get() => {
                Error::connection(format!("no answer from {base_url}: {}", failure.0))
            }
            Attempt::NoAnswer(failure) => Error::connection(format!(
                "no answer from {base_url}: {}. Check baseURL, that the server runs, and that it allows this page's \
                 origin (CORS)",
                failure.0
            )),
            Attempt::TimedOut => Error::timeout(format!("no answer from {base_url} in time")),
        }
    }

    /// The pause before a loop's next try, with this platform's jitter.
    pub fn backoff(&self, retries: u32) -> Duration {
        backoff(retries, unit(self.0.platform.random()))
    }

    /// The pause before the next try of what is repeated until the server has answered; `None`: this was its answer.
    pub fn pause_until_answered(&self, attempt: &Attempt, retries: u32) -> Option<Duration> {
        let jitter = unit(self.0.platform.random());
        let tried = Tried { retries, max_retries: 0, elapsed: Duration::ZERO, jitter };
        pause_before_retry(Policy::Patient, attempt, tried)
    }

    fn max_retries(&self) -> u32 {
        let first =
            if self.0.reached.get() { retry::DEFAULT_RETRIES } else { retry::RETRIES_BEFORE_FIRST_CONTACT };
        self.0.settings.max_retries.unwrap_or(first)
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

/// An answer, and to what.
pub struct Fetched {
    path: String,
    body: Vec<u8>,
}

impl Fetched {
    /// The answer as a message of the protocol.
    pub fn read<T: Answer>(&self) -> Result<T, Error> {
        read_answer(&self.path, &self.body)
    }
}

/// The answer to a call as a message of the protocol.
pub fn read_answer<T: Answer>(path: &str, body: &[u8]) -> Result<T, Error> {
    answer::read(body).map_err(|error| unreadable(&["answer to ", path].concat(), &error))
}

/// The result of a request as a message of the protocol.
pub fn read_result<T: Answer>(body: &[u8]) -> Result<T, Error> {
    answer::read(body).map_err(|error| unreadable_result(&error))
}

pub fn unreadable_result(error: &tinkex_protocol::Error) -> Error {
    unreadable("result", error)
}

#[cold]
#[inline(never)]
fn unreadable(what: &str, error: &tinkex_protocol::Error) -> Error {
    Error::protocol(format!("the server's {what} can't be read: {error}"))
}

/// No answer came to a try.
pub enum Silence {
    Failed(crate::platform::HttpFailure),
    TimedOut,
}

impl Silence {
    pub fn as_attempt(&self) -> Attempt<'_> {
        match self {
            Silence::Failed(failure) => Attempt::NoAnswer(failure),
            Silence::TimedOut => Attempt::TimedOut,
        }
    }
}

/// Random bits as a number from 0 to 1.
fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1u64 << 53) as f64
}
