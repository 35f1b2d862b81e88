//! For the tests' own build: where the client is to panic.

use tinkex_supervise::faults;
use wasm_bindgen::prelude::*;

/// Lets the `nth` passage from now of a place panic, of the processes whose path has `within` in it.
#[wasm_bindgen]
pub fn arm(place: &str, within: &str, nth: u32) {
    faults::arm_within(place, within, nth.into());
}

/// As [`arm`], and what strikes is a trap: it ends the instance.
#[wasm_bindgen]
pub fn arm_trap(place: &str, within: &str, nth: u32) {
    faults::arm_abort(place, within, nth.into());
}

/// How many faults are armed and have not struck.
#[wasm_bindgen]
pub fn armed() -> usize {
    faults::armed()
}
