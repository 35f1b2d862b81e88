//! A call on its way: sent over the connections, again and again, until its course says that it is done. One loop for all
//! that is sent, whatever becomes of it.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use tinkex_supervise::waiting_for;

use super::connections::Class;
use super::retry::{Attempt, Policy};
use super::{Call, Fetched, PAUSE_FOR_BILLING, Transport};
use crate::error::Error;
use crate::platform::{HttpResponse, Level, uuid};

/// How a call goes on after each of its tries.
pub trait Course {
    /// What the next try waits for, while it may not be made.
    fn held_back(&self) -> Option<(&'static str, Duration)> {
        None
    }

    /// It is sent now.
    fn sent(&self) {}

    /// A try was answered with a 2xx: whether that is the answer, or is to be asked for again at once.
    fn is_answer(&mut self, answer: &HttpResponse) -> Result<bool, Error> {
        let _ = answer;
        Ok(true)
    }

    /// A try has failed, with this status, or 0 where no answer came: the pause before the next one, or why there is none.
    fn failed(&mut self, attempt: &Attempt, status: u16) -> Result<Duration, Error>;
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

impl Transport {
    /// Sends the call until its course is done. Dropping the future aborts what is under way.
    pub fn deliver(
        &self,
        call: Call,
        mut course: Box<dyn Course>,
    ) -> LocalBoxFuture<'static, Result<Fetched, Error>> {
        let transport = self.clone();
        async move {
            let [connection, answer, next] = call.class.waits();
            let mut tries = 0;
            loop {
                let (why, pause) = match course.held_back() {
                    Some(held) => held,
                    None => {
                        let waiting = waiting_for(connection);
                        let permit = transport.0.connections.acquire(call.class).await;
                        drop(waiting);
                        course.sent();
                        let waiting = waiting_for(answer);
                        let attempt = transport.attempt(&call, tries, Some(permit)).await;
                        drop(waiting);
                        tries += 1;
                        let Some(attempt) = attempt else { continue };
                        let status = attempt.as_ref().map_or(0, |answer| answer.status);
                        let pause = match attempt {
                            Ok(answer) if answer.is_success() => {
                                if course.is_answer(&answer)? {
                                    return Ok(Fetched { path: call.path, answer });
                                }
                                continue;
                            }
                            failed => course.failed(&failed, status)?,
                        };
                        if pause.is_zero() {
                            continue;
                        }
                        transport.tell_of_pause(&call, pause);
                        (next, pause)
                    }
                };
                transport.pause(why, pause).await;
            }
        }
        .boxed_local()
    }

    fn tell_of_pause(&self, call: &Call, pause: Duration) {
        let message = format!("{} {} again in {} ms", call.method, call.path, pause.as_millis() as u64);
        self.platform().log(Level::Debug, &message);
    }

    /// Sends the call, again where its policy says so, and gives the first answer that is final: a 2xx. Anything else is
    /// an error.
    pub fn fetch(&self, mut call: Call) -> LocalBoxFuture<'static, Result<Fetched, Error>> {
        let platform = self.platform();
        if call.method != "GET" {
            call.idempotency_key.get_or_insert_with(|| uuid(&**platform));
        }
        let course =
            ByPolicy { transport: self.clone(), policy: call.policy, started: platform.now(), retries: 0 };
        self.deliver(call, Box::new(course))
    }
}

struct ByPolicy {
    transport: Transport,
    policy: Policy,
    started: Duration,
    retries: u32,
}

impl Course for ByPolicy {
    fn failed(&mut self, attempt: &Attempt, status: u16) -> Result<Duration, Error> {
        let transport = &self.transport;
        if status == 402 && self.policy == Policy::Patient && transport.may_pause_for_billing() {
            return Ok(PAUSE_FOR_BILLING);
        }
        let policy = match self.policy {
            // Before the first contact an unreachable server is likelier a wrong address than a passing fault.
            Policy::Patient if !transport.0.reached.get() => Policy::Plain,
            policy => policy,
        };
        self.retries += 1;
        let pause = transport.pause_before(policy, attempt, self.retries - 1, self.started);
        pause.ok_or_else(|| transport.final_error(attempt))
    }
}
