//! The network between pages and the server. A request's way is its own: whoever sent it may be gone before it arrives.

use std::cell::{Cell, Ref, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use tinkex::platform::{HttpFailure, HttpRequest, HttpResponse};
use tinkex_protocol::ForwardBackwardOutput;
use tinkex_sandbox::message::Response;
use tinkex_supervise::{Reply, Runtime, reply};

use crate::dice::Dice;
use crate::door::{answered, asked, header};
use crate::server::Server;
use crate::tally::Tally;
use crate::trace::Trace;

/// Longer than a client waits for an answer.
const TOO_LATE: Duration = Duration::from_secs(70);

/// Clones are the same network.
#[derive(Clone)]
pub struct Network(Rc<Inner>);

struct Inner {
    runtime: Rc<dyn Runtime>,
    dice: Rc<Dice>,
    tally: Rc<Tally>,
    trace: Rc<Trace>,
    server: Server,
    /// Whether anything goes wrong.
    stormy: Cell<bool>,
    /// The status with which everything is answered at present.
    shut: Cell<Option<u16>>,
    /// Which requests of a model are refused for good, by the key that each of them keeps.
    refused: RefCell<HashMap<String, bool>>,
    /// What results are asked for with that the server has given up to remember, or not.
    forgotten: RefCell<HashMap<Rc<[u8]>, bool>>,
    /// The same of passes whose loss is not a number.
    without_loss: RefCell<HashMap<Rc<[u8]>, bool>>,
    denied: RefCell<Vec<Denied>>,
    sent: Cell<u64>,
    /// The latest that has arrived, by the order of sending.
    arrived: Cell<u64>,
}

/// A request that something has said no to for good.
pub struct Denied {
    pub at: Duration,
    pub status: u16,
    pub body: Rc<[u8]>,
}

type Exchanged = Result<HttpResponse, HttpFailure>;

impl Network {
    pub fn new(
        runtime: Rc<dyn Runtime>,
        dice: Rc<Dice>,
        tally: Rc<Tally>,
        trace: Rc<Trace>,
        server: Server,
    ) -> Network {
        Network(Rc::new(Inner {
            runtime,
            dice,
            tally,
            trace,
            server,
            stormy: Cell::new(false),
            shut: Cell::new(None),
            refused: RefCell::default(),
            forgotten: RefCell::default(),
            without_loss: RefCell::default(),
            denied: RefCell::default(),
            sent: Cell::new(0),
            arrived: Cell::new(0),
        }))
    }

    pub fn set_stormy(&self, stormy: bool) {
        self.0.stormy.set(stormy);
    }

    /// Answers everything with this status, until it is told otherwise.
    pub fn shut(&self, status: Option<u16>) {
        self.0.shut.set(status);
    }

    /// What was said no to so far, in its order.
    pub fn denied(&self) -> Ref<'_, Vec<Denied>> {
        self.0.denied.borrow()
    }

    /// Sends a request. Dropping the future aborts it, which the request may or may not notice. `epoch`: under which its
    /// sender holds its session.
    pub fn send(&self, request: HttpRequest, epoch: u64) -> LocalBoxFuture<'static, Exchanged> {
        let (reply, answer) = reply();
        let network = self.clone();
        let number = self.0.sent.get() + 1;
        self.0.sent.set(number);
        self.0.trace.sent(&request, epoch);
        let carried = async move {
            let exchanged = network.carry(number, &request, &reply).await;
            if let Ok(response) = &exchanged {
                network.0.trace.answered(&request, response);
                network.note_denial(&request, response);
            }
            // Whoever has gone is not told.
            let _ = reply.send(exchanged);
        };
        self.0.runtime.spawn(carried.boxed_local());
        async move { answer.await.unwrap_or_else(|_| Err(failure("aborted"))) }.boxed_local()
    }

    async fn carry(&self, number: u64, request: &HttpRequest, client: &Reply<Exchanged>) -> Exchanged {
        let Inner { runtime, dice, tally, server, .. } = &*self.0;
        runtime.timer(self.latency()).await;
        if client.is_abandoned() {
            if !self.happens(500) {
                return Err(failure("aborted"));
            }
            tally.fault("network: an aborted request arrives all the same");
        }
        if self.happens(60) {
            tally.fault("network: a request is lost");
            return Err(failure("connection reset"));
        }
        if let Some(refused) = self.refused_on_the_way(request) {
            return Ok(refused);
        }
        if self.0.arrived.get() > number {
            tally.fault("network: a request arrives after a later one");
        }
        self.0.arrived.set(self.0.arrived.get().max(number));
        let asked = asked(request);
        if self.happens(60) {
            tally.fault("network: a request arrives twice");
            let (network, asked) = (self.clone(), asked.clone());
            let late = dice.up_to_ms(5_000);
            let again = async move {
                network.0.runtime.timer(late).await;
                let _ = network.0.server.answer(&asked).await;
            };
            runtime.spawn(again.boxed_local());
        }
        let path = &asked.path;
        tally.tell(format_args!("    {number} arrives: {path}{}", self.0.trace.name(request)));
        let answer = server.answer(&asked).await;
        if let Some(Response { status, body, .. }) = &answer {
            let words = String::from_utf8_lossy(&body[..body.len().min(120)]);
            tally.tell(format_args!("    {number} is answered: {status} {words:?}"));
        }
        runtime.timer(self.latency()).await;
        let Some(response) = answer else { return Err(failure("connection refused")) };
        if response.status == 200 && self.is_forgotten(request, &response) {
            tally.fault("status 410 of a training result");
            return Ok(HttpResponse {
                status: 410,
                body: br#"{"detail": "this result is gone"}"#.to_vec(),
                ..HttpResponse::default()
            });
        }
        let response = self.without_a_loss(request, response);
        if self.happens(80) {
            tally.fault("network: a reply is lost");
            return Err(failure("connection reset"));
        }
        if self.happens(10) && !client.is_abandoned() {
            tally.fault("network: a reply comes after the client's patience");
            runtime.timer(TOO_LATE).await;
        }
        Ok(self.seen_through_a_gateway(response))
    }

    /// What something before the server answers in its place.
    fn refused_on_the_way(&self, request: &HttpRequest) -> Option<HttpResponse> {
        let tally = &self.0.tally;
        if let Some(status) = self.0.shut.get() {
            tally.fault(if status == 401 { "status 401" } else { "status 402" });
            return Some(answer(status, r#"{"detail": "not now"}"#));
        }
        // For a moment, and of a call that is known again: one of a step's function.
        if self.0.trace.name(request).contains("\"call\"") && self.happens(15) {
            tally.fault("status 401");
            return Some(answer(401, r#"{"detail": "not now"}"#));
        }
        let of_a_sample = request.headers.iter().any(|(_, value)| value == "Sample");
        if of_a_sample && self.happens(50) {
            tally.fault("status 410 of a sample");
            return Some(answer(410, r#"{"detail": "this result is gone"}"#));
        }
        if self.is_refused_for_good(request) {
            tally.fault("status 422");
            return Some(answer(422, r#"{"detail": "this can't be trained on"}"#));
        }
        if !self.happens(100) {
            return None;
        }
        let (status, fault, body) = self.0.dice.pick(&[
            (400, "status 400 of a proxy", ""),
            (408, "status 408", ""),
            (409, "status 409", r#"{"detail": "another request holds the lock"}"#),
            (429, "status 429", r#"{"detail": "slow down"}"#),
            (500, "status 500", "oops"),
            (503, "status 503", ""),
        ]);
        tally.fault(fault);
        Some(answer(status, body))
    }

    /// A server that refuses a request refuses the same one always.
    fn is_refused_for_good(&self, request: &HttpRequest) -> bool {
        let Some(key) = header(request, "x-idempotency-key") else { return false };
        let is_of_the_plan = || !self.0.trace.name(request).is_empty();
        let mut refused = self.0.refused.borrow_mut();
        *refused.entry(key).or_insert_with(|| is_of_the_plan() && self.happens(25))
    }

    /// A result that is there, and is not asked for again in vain.
    fn is_forgotten(&self, request: &HttpRequest, response: &Response) -> bool {
        let Some(poll) = request.body.clone().filter(|_| self.0.trace.is_polled_by(request)) else {
            return false;
        };
        // Nor is that something failed forgotten: what a client is then told is not that it was done.
        let is_there =
            ![&br#"{"queue_state"#[..], br#"{"category"#].iter().any(|it| response.body.starts_with(it));
        let mut forgotten = self.0.forgotten.borrow_mut();
        is_there && *forgotten.entry(poll).or_insert_with(|| self.happens(10))
    }

    /// The result of a run's training pass, at times with a loss that is not a number.
    fn without_a_loss(&self, request: &HttpRequest, response: Response) -> Response {
        let Some(poll) = request.body.clone() else { return response };
        let Ok(mut output) = ForwardBackwardOutput::decode(&response.body, usize::MAX) else {
            return response;
        };
        let is_struck = || self.0.trace.is_pass_of_a_run(request) && self.happens(50);
        if !*self.0.without_loss.borrow_mut().entry(poll).or_insert_with(is_struck) {
            return response;
        }
        self.0.tally.fault("server: a loss is not a number");
        output.metrics.insert("loss:sum".into(), f64::NAN);
        let body = output.encode().expect("it was read just now").into();
        Response { body, ..response }
    }

    fn note_denial(&self, request: &HttpRequest, HttpResponse { status, body: words, .. }: &HttpResponse) {
        // A proxy says nothing, and is asked again.
        if matches!(status, 400..=407 | 410..=428)
            && !words.is_empty()
            && let Some(body) = request.body.clone()
        {
            self.0.denied.borrow_mut().push(Denied { at: self.0.runtime.now(), status: *status, body });
        }
    }

    /// An answer that a gateway did not wait for, or lost.
    fn seen_through_a_gateway(&self, response: Response) -> HttpResponse {
        if self.happens(60) {
            let (status, fault) = self.0.dice.pick(&[
                (408, "status 408 of what was taken"),
                (500, "status 500 of what was taken"),
                (503, "status 503 of what was taken"),
            ]);
            self.0.tally.fault(fault);
            return answer(status, "");
        }
        answered(response)
    }

    fn happens(&self, in_a_thousand: u64) -> bool {
        self.0.stormy.get() && self.0.dice.happens(in_a_thousand)
    }

    /// Mostly milliseconds, at times long enough for later requests to overtake.
    fn latency(&self) -> Duration {
        self.0.dice.up_to_ms(if self.happens(50) { 3_000 } else { 20 })
    }
}

fn failure(words: &str) -> HttpFailure {
    HttpFailure(words.to_owned())
}

fn answer(status: u16, body: &str) -> HttpResponse {
    HttpResponse { status, body: body.as_bytes().to_vec(), ..HttpResponse::default() }
}
