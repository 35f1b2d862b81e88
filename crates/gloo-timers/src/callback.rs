//! A timer that calls a function once, and is cancelled when it is dropped.

use js_sys::Function;
use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_name = setTimeout)]
    fn set_timeout(handler: &Function, millis: i32) -> JsValue;

    #[wasm_bindgen(js_name = clearTimeout)]
    fn clear_timeout(id: &JsValue);
}

/// A timer that has not fired, or has and is still held. Dropping it cancels it at once.
#[derive(Debug)]
#[must_use = "a timeout that is dropped is cancelled"]
pub struct Timeout {
    id: JsValue,
    // The browser holds no more than a reference to it, so it has to live as long as the timer.
    _closure: Closure<dyn FnMut()>,
}

impl Timeout {
    /// Calls `callback` after `millis` milliseconds (at most `i32::MAX`, about 24 days).
    pub fn new<F: FnOnce() + 'static>(millis: u32, callback: F) -> Timeout {
        // Sound without the bound: nothing of ours is between the callback and JavaScript, where its panic goes.
        let closure = Closure::once_assert_unwind_safe(callback);
        let millis = i32::try_from(millis).unwrap_or(i32::MAX);
        let id = set_timeout(closure.as_ref().unchecked_ref(), millis);
        Timeout { id, _closure: closure }
    }

    /// Cancels the timer: the same as dropping it, said aloud.
    pub fn cancel(self) {}
}

impl Drop for Timeout {
    fn drop(&mut self) {
        clear_timeout(&self.id);
    }
}
