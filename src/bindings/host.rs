//! The instance's owner in JavaScript, as this side sees it: where answers, events and messages go, and who fetches.

use std::cell::Cell;

use js_sys::Promise as JsPromise;
use tinkex_supervise::destructor;
use wasm_bindgen::prelude::*;
use web_sys::AbortSignal;

use super::desk::Answer;
use crate::error::Error;
use crate::platform::browser::Outside;
use crate::request::Progress;
use crate::wire::results::failure;

// One host for each instance: a parameter of its glue. What it is given as bytes is a plain value, and a view of this memory: it
// takes a copy.
#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = host)]
    fn settle(key: u32, value: &[u8]);

    #[wasm_bindgen(js_namespace = host)]
    fn fail(key: u32, error: &[u8]);

    #[wasm_bindgen(js_namespace = host)]
    pub fn log(service: u32, level: &str, message: &str);

    /// Resolves with a plain value: the answer, or words for why there is none.
    #[wasm_bindgen(js_namespace = host)]
    fn fetch(service: u32, request: &[u8], signal: &AbortSignal) -> JsPromise;

    /// Runs a function of the page, which is known by the key of its call; `ended` is called when it has ended.
    #[wasm_bindgen(js_namespace = host)]
    fn run(key: u32);

    /// What a run asks and tells its page, by the key of the call that opened it.
    #[wasm_bindgen(js_namespace = host, js_name = fromRun)]
    pub fn from_run(key: u32, message: &[u8]);

    /// The tree of a service has changed, to this.
    #[wasm_bindgen(js_namespace = host)]
    pub fn supervision(service: u32, rows: JsValue);

    /// Has the second file brought, for which nobody waits.
    #[wasm_bindgen(js_namespace = host)]
    fn bring();

    /// Takes an operation of the service's store, and resolves with a plain value: what it gives, or why it failed.
    #[wasm_bindgen(js_namespace = host)]
    pub fn store(service: u32, operation: &[u8]) -> JsPromise;
}

/// The owner, for the service of this number.
#[derive(Clone, Copy)]
pub struct ServiceHost(pub u32);

impl Outside for ServiceHost {
    fn fetch(&self, request: &[u8], signal: &AbortSignal) -> JsPromise {
        fetch(self.0, request, signal)
    }

    fn log(&self, level: &str, message: &str) {
        log(self.0, level, message);
    }

    fn bring_the_rest(&self) {
        bring();
    }
}

/// A promise that the owner keeps for a caller: answered exactly once, whatever happens to the work.
pub struct Promise {
    key: u32,
    pub progress: Progress,
    settled: Cell<bool>,
}

impl Promise {
    pub fn new(key: u32) -> Promise {
        Promise { key, progress: Progress::default(), settled: Cell::new(false) }
    }

    pub fn key(&self) -> u32 {
        self.key
    }

    /// Lets the page run the function that this promise is for.
    pub fn run(&self) {
        run(self.key);
    }

    pub fn settle(&self, result: Answer) {
        self.settle_with(result.map_err(|error| failure(&error)));
    }

    /// The same, where a failure is a plain value already.
    pub fn settle_with(&self, result: Result<Vec<u8>, Vec<u8>>) {
        if self.settled.replace(true) {
            return;
        }
        match result {
            Ok(value) => settle(self.key, &value),
            Err(failure) => fail(self.key, &failure),
        }
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        destructor(&mut || {
            let message = "the work on this call was dropped";
            let error = Error::crashed(message, String::new(), Vec::new(), self.progress.outcome());
            self.settle(Err(error));
        });
    }
}
