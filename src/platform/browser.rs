//! The world outside, as a browser, Node, Deno, Bun and workerd offer it: `setTimeout`, `fetch`, `crypto`,
//! `performance`. All of it is reached through the instance's own glue, whose owner can cut a dead instance off.

use std::rc::Rc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use gloo_timers::future::TimeoutFuture;
use js_sys::{Promise, Uint8Array};
use tinkex_supervise::Runtime;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{AbortController, Headers, RequestInit, Response};

use super::{HttpFailure, HttpRequest, HttpResponse, Level, Platform};

/// Headers of a response that the client reads.
const READ_HEADERS: [&str; 6] = [
    "content-type",
    "retry-after",
    "retry-after-ms",
    "x-should-retry",
    "x-deprecation-note",
    "x-deprecation-level",
];

/// `setTimeout` takes a signed 32-bit number of milliseconds.
const LONGEST_TIMEOUT: Duration = Duration::from_millis(i32::MAX as u64);

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = performance, js_name = now)]
    fn performance_now() -> f64;

    #[wasm_bindgen(js_namespace = crypto, js_name = getRandomValues)]
    fn get_random_values(bytes: &mut [u8]);
}

/// What the instance's owner does for one service's world.
pub trait Outside {
    fn fetch(&self, url: &str, init: &RequestInit) -> Result<Promise, JsValue>;
    fn log(&self, level: &str, message: &str);
}

/// The platform of one service.
pub struct Browser<O> {
    outside: Rc<O>,
}

impl<O: Outside + 'static> Browser<O> {
    pub fn new(outside: O) -> Rc<Browser<O>> {
        Rc::new(Browser { outside: Rc::new(outside) })
    }
}

impl<O: Outside + 'static> Runtime for Browser<O> {
    fn now(&self) -> Duration {
        Duration::from_secs_f64(performance_now() / 1000.0)
    }

    fn timer(&self, after: Duration) -> LocalBoxFuture<'static, ()> {
        async move {
            let mut left = after;
            while left > LONGEST_TIMEOUT {
                TimeoutFuture::new(LONGEST_TIMEOUT.as_millis() as u32).await;
                left -= LONGEST_TIMEOUT;
            }
            // Up to the next millisecond: a timer may be late, and must not be early.
            TimeoutFuture::new(left.as_micros().div_ceil(1000) as u32).await;
        }
        .boxed_local()
    }

    #[expect(clippy::disallowed_methods, reason = "the one place where futures start")]
    fn spawn(&self, future: LocalBoxFuture<'static, ()>) {
        wasm_bindgen_futures::spawn_local(future);
    }
}

impl<O: Outside + 'static> Platform for Browser<O> {
    fn http(&self, request: HttpRequest) -> LocalBoxFuture<'static, Result<HttpResponse, HttpFailure>> {
        let outside = self.outside.clone();
        async move { exchange(&*outside, request).await.map_err(|thrown| HttpFailure(words_of(&thrown))) }
            .boxed_local()
    }

    fn random(&self) -> u64 {
        let mut bytes = [0; 8];
        get_random_values(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn unix_time(&self) -> Duration {
        Duration::from_secs_f64(js_sys::Date::now() / 1000.0)
    }

    fn log(&self, level: Level, message: &str) {
        self.outside.log(level.as_str(), message);
    }

    fn as_runtime(self: Rc<Self>) -> Rc<dyn Runtime> {
        self
    }
}

async fn exchange(outside: &impl Outside, request: HttpRequest) -> Result<HttpResponse, JsValue> {
    let headers = Headers::new()?;
    for (name, value) in &request.headers {
        headers.set(name, value)?;
    }
    let abort = AbortOnDrop(AbortController::new()?);
    let init = RequestInit::new();
    init.set_method(request.method);
    init.set_headers(&headers);
    init.set_signal(Some(&abort.0.signal()));
    if let Some(body) = &request.body {
        init.set_body(&Uint8Array::from(&body[..]));
    }
    // Not checked: a `fetch` of the user's own may give a response of another realm.
    let response: Response = JsFuture::from(outside.fetch(&request.url, &init)?).await?.unchecked_into();
    let read = response.headers();
    let headers =
        READ_HEADERS.iter().filter_map(|name| Some((name.to_string(), read.get(name).ok()??))).collect();
    let body = JsFuture::from(response.array_buffer()?).await?;
    Ok(HttpResponse { status: response.status(), headers, body: Uint8Array::new(&body).to_vec() })
}

/// Aborts the request when it is dropped; on one that is complete that does nothing.
struct AbortOnDrop(AbortController);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What a thrown value says of itself.
fn words_of(thrown: &JsValue) -> String {
    match thrown.dyn_ref::<js_sys::Error>() {
        Some(error) => {
            let cause = js_sys::Reflect::get(error, &"cause".into()).ok().and_then(|cause| {
                cause.dyn_ref::<js_sys::Error>().map(|cause| format!(" ({})", String::from(cause.message())))
            });
            format!("{}{}", String::from(error.message()), cause.unwrap_or_default())
        }
        None => thrown.as_string().unwrap_or_else(|| "fetch failed".into()),
    }
}
