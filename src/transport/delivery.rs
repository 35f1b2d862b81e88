//! A call on its way: sent over the connections, again and again, until its course says that it is done. One loop for all
//! that is sent, whatever becomes of it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use tinkex_supervise::{Waiting, waiting_for};

use super::connections::{Asked, Class};
use super::retry::{Attempt, Policy};
use super::{Call, Fetched, PAUSE_FOR_BILLING, Transport};
use crate::error::Error;
use crate::platform::{HttpResponse, Level, uuid};

/// A call that is on its way.
pub struct Way {
    pub transport: Transport,
    pub call: Call,
    pub started: Duration,
}

/// How a call goes on after each of its tries.
pub trait Course {
    /// What the next try waits for, while it may not be made.
    fn held_back(&self) -> Option<(&'static str, Duration)> {
        None
    }

    /// It is sent now.
    fn sent(&self) {}

    /// A try was answered with a 2xx: whether that is the answer, or is to be asked for again at once.
    fn is_answer(&mut self, way: &Way, answer: &HttpResponse) -> Result<bool, Error> {
        let _ = (way, answer);
        Ok(true)
    }

    /// A try has failed, with this status, or 0 where no answer came: the pause before the next one, or why there is none.
    fn failed(&mut self, way: &Way, attempt: &Attempt, status: u16) -> Result<Duration, Error>;
}

impl Class {
    /// What its calls wait for, one after the other: a connection, the answer, and the next try.
    fn waits(self) -> [&'static str; 3] {
        match self {
            Class::Poll => ["a connection for its poll", "its result", "the next poll"],
            _ => ["a connection", "the server to take it", "the next try"],
        }
    }
}

/// A call with its course. It does one thing at a time.
struct Delivery {
    way: Way,
    course: Box<dyn Course>,
    tries: u32,
    doing: Doing,
    shown: Option<Waiting>,
}

enum Doing {
    Nothing,
    Asking(Asked),
    Trying(LocalBoxFuture<'static, Option<Attempt>>),
    Pausing(LocalBoxFuture<'static, ()>),
}

impl Delivery {
    fn begin(&mut self, what: &'static str, doing: Doing) {
        self.shown = None;
        self.shown = waiting_for(what);
        self.doing = doing;
    }

    fn pause(&mut self, why: &'static str, pause: Duration) {
        let transport = &self.way.transport;
        let pausing = Doing::Pausing(transport.until_next_try(pause));
        self.begin(transport.0.network.or_absent(why), pausing);
    }

    /// What is made of a try: the answer, where it was the last one.
    fn judge(&mut self, attempt: Attempt, next: &'static str) -> Result<Option<Fetched>, Error> {
        let status = attempt.as_ref().map_or(0, |answer| answer.status);
        let failed = match attempt {
            Ok(answer) if answer.is_success() => {
                let is_last = self.course.is_answer(&self.way, &answer)?;
                return Ok(is_last.then(|| Fetched { path: std::mem::take(&mut self.way.call.path), answer }));
            }
            failed => failed,
        };
        let pause = self.course.failed(&self.way, &failed, status)?;
        if !pause.is_zero() {
            let Way { transport, call: Call { method, path, .. }, .. } = &self.way;
            let message = format!("{method} {path} again in {} ms", pause.as_millis() as u64);
            transport.platform().log(Level::Debug, &message);
            self.pause(next, pause);
        }
        Ok(None)
    }
}

impl Future for Delivery {
    type Output = Result<Fetched, Error>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Context) -> Poll<Result<Fetched, Error>> {
        let this = &mut *self;
        let [connection, answer, next] = this.way.call.class.waits();
        loop {
            match &mut this.doing {
                Doing::Nothing => match this.course.held_back() {
                    Some((why, pause)) => this.pause(why, pause),
                    None => {
                        let asked = this.way.transport.0.connections.acquire(this.way.call.class);
                        this.begin(connection, Doing::Asking(asked));
                    }
                },
                Doing::Asking(asked) => {
                    let Poll::Ready(permit) = asked.poll_unpin(task) else { return Poll::Pending };
                    this.course.sent();
                    let attempt = this.way.transport.attempt(&this.way.call, this.tries, Some(permit));
                    this.tries += 1;
                    this.begin(answer, Doing::Trying(attempt));
                }
                Doing::Trying(attempt) => {
                    let Poll::Ready(attempt) = attempt.poll_unpin(task) else { return Poll::Pending };
                    this.shown = None;
                    this.doing = Doing::Nothing;
                    if let Some(attempt) = attempt
                        && let Some(judged) = this.judge(attempt, next).transpose()
                    {
                        return Poll::Ready(judged);
                    }
                }
                Doing::Pausing(pause) => {
                    if pause.poll_unpin(task).is_pending() {
                        return Poll::Pending;
                    }
                    this.shown = None;
                    this.doing = Doing::Nothing;
                }
            }
        }
    }
}

impl Transport {
    /// Sends the call until its course is done. Dropping the future aborts what is under way.
    pub fn deliver(
        &self,
        call: Call,
        course: Box<dyn Course>,
    ) -> LocalBoxFuture<'static, Result<Fetched, Error>> {
        let way = Way { transport: self.clone(), call, started: self.platform().now() };
        Box::pin(Delivery { way, course, tries: 0, doing: Doing::Nothing, shown: None })
    }

    /// Sends the call, again where its policy says so, and gives the first answer that is final: a 2xx. Anything else is
    /// an error.
    pub fn fetch(&self, mut call: Call) -> LocalBoxFuture<'static, Result<Fetched, Error>> {
        if call.method != "GET" {
            call.idempotency_key.get_or_insert_with(|| uuid(&**self.platform()));
        }
        self.deliver(call, Box::new(ByPolicy { retries: 0 }))
    }
}

struct ByPolicy {
    retries: u32,
}

impl Course for ByPolicy {
    fn failed(&mut self, way: &Way, attempt: &Attempt, status: u16) -> Result<Duration, Error> {
        let Way { transport, call, started } = way;
        if status == 402 && call.policy == Policy::Patient && transport.may_pause_for_billing() {
            return Ok(PAUSE_FOR_BILLING);
        }
        let policy = match call.policy {
            // Before the first contact an unreachable server is likelier a wrong address than a passing fault.
            Policy::Patient if !transport.0.reached.get() => Policy::Plain,
            policy => policy,
        };
        self.retries += 1;
        let pause = transport.pause_before(policy, attempt, self.retries - 1, *started);
        pause.ok_or_else(|| transport.final_error(attempt))
    }
}
