//! The world outside, as a browser, Node, Deno, Bun and workerd offer it: `setTimeout`, `fetch`, `crypto`,
//! `performance`. All of it is reached through the instance's own glue, whose owner can cut a dead instance off.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use gloo_timers::future::TimeoutFuture;
use js_sys::{Promise, Uint8Array};
use tinkex_supervise::{Runtime, destructor};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{AbortController, AbortSignal};

use super::plain::{Given, Plain, Wrong};
use super::{HttpFailure, HttpRequest, HttpResponse, Level, Platform};

/// In milliseconds: `setTimeout` takes a signed 32-bit number.
const LONGEST_TIMEOUT: u64 = i32::MAX as u64;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = performance, js_name = now)]
    fn performance_now() -> f64;

    #[wasm_bindgen(js_namespace = crypto, js_name = getRandomValues)]
    fn get_random_values(bytes: &mut [u8]);

    /// Writes the text of a number there, which has room for it, and says how long it is.
    #[wasm_bindgen(js_namespace = host, js_name = writeNumber)]
    fn number_to(number: f64, text: &mut [u8]) -> u32;

    #[wasm_bindgen(js_name = Number)]
    fn to_number(text: &str) -> f64;
}

/// Of a finite number.
pub fn write_number(number: f64) -> String {
    let mut text = [0; 32];
    let length = number_to(number, &mut text) as usize;
    text[..length].iter().copied().map(char::from).collect()
}

/// The finite number that a text is, if it is one. JavaScript takes an empty text for zero.
pub fn read_number(text: &str) -> Option<f64> {
    Some(to_number(text)).filter(|number| number.is_finite() && !text.is_empty())
}

/// What the instance's owner does for one service's world.
pub trait Outside {
    /// Resolves with a plain value: the answer, or words for why there is none.
    fn fetch(&self, request: &[u8], signal: &AbortSignal) -> Promise;
    fn log(&self, level: &str, message: &str);
    fn bring_the_rest(&self);
}

/// The platform of one service.
pub struct Browser<O> {
    outside: O,
}

impl<O: Outside + 'static> Browser<O> {
    pub fn new(outside: O) -> Rc<Browser<O>> {
        Rc::new(Browser { outside })
    }
}

impl<O: Outside + 'static> Runtime for Browser<O> {
    fn now(&self) -> Duration {
        milliseconds(performance_now())
    }

    fn timer(&self, after: Duration) -> LocalBoxFuture<'static, ()> {
        // Up to the next millisecond: a timer may be late, and must not be early.
        let left = after.as_secs() * 1_000 + u64::from(after.subsec_nanos().div_ceil(1_000_000));
        Box::pin(Timer { left, part: None })
    }

    #[expect(clippy::disallowed_methods, reason = "the one place where futures start")]
    fn spawn(&self, future: LocalBoxFuture<'static, ()>) {
        wasm_bindgen_futures::spawn_local(future);
    }
}

/// One timeout after another.
struct Timer {
    /// In milliseconds, with those of the part under way.
    left: u64,
    part: Option<TimeoutFuture>,
}

impl Future for Timer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, task: &mut Context) -> Poll<()> {
        loop {
            let part = self.left.min(LONGEST_TIMEOUT) as u32;
            let timeout = self.part.get_or_insert_with(|| TimeoutFuture::new(part));
            ready!(timeout.poll_unpin(task));
            self.part = None;
            self.left -= u64::from(part);
            if self.left == 0 {
                return Poll::Ready(());
            }
        }
    }
}

impl<O: Outside + 'static> Platform for Browser<O> {
    fn http(&self, request: HttpRequest) -> LocalBoxFuture<'static, Result<HttpResponse, HttpFailure>> {
        let Ok(abort) = AbortController::new() else {
            unreachable!("the owner makes one of each request, too")
        };
        let abort = AbortOnDrop(abort);
        let answer = JsFuture::from(self.outside.fetch(&written(&request), &abort.0.signal()));
        let answer = answer.map(move |answer| {
            let _complete = abort;
            read(&Uint8Array::new(&answer.unwrap_or_default()).to_vec())
        });
        answer.boxed_local()
    }

    fn random(&self) -> u64 {
        let mut bytes = [0; 8];
        get_random_values(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn unix_time(&self) -> Duration {
        milliseconds(js_sys::Date::now())
    }

    fn log(&self, level: Level, message: &str) {
        self.outside.log(level.as_str(), message);
    }

    fn bring_the_rest(&self) {
        self.outside.bring_the_rest();
    }
}

fn milliseconds(ms: f64) -> Duration {
    Duration::from_micros((ms * 1000.0) as u64)
}

fn written(request: &HttpRequest) -> Vec<u8> {
    Plain::object(|plain| {
        plain.text("method", request.method);
        plain.text("url", &request.url);
        let headers = plain.inner("headers");
        for (name, value) in &request.headers {
            plain.text(name, value);
        }
        plain.close(headers);
        if let Some(body) = &request.body {
            plain.bytes("body", body);
        }
        if request.keepalive {
            plain.flag("keepalive", true);
        }
    })
}

fn read(answer: &[u8]) -> Result<HttpResponse, HttpFailure> {
    let wrong = Wrong::default();
    let given = Given::new(answer, &wrong);
    if let Some(words) = given.optional_text("failure") {
        return Err(HttpFailure(words));
    }
    let mut headers = Vec::new();
    for (name, value) in given.entries("headers") {
        if let Some(text) = value.as_text() {
            headers.push((name.to_owned(), text.to_owned()));
        }
    }
    Ok(HttpResponse { status: given.count("status") as u16, headers, body: given.bytes("body") })
}

/// Aborts the request when it is dropped; on one that is complete that does nothing.
struct AbortOnDrop(AbortController);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        destructor(&mut || self.0.abort());
    }
}
