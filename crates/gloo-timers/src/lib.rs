//! A stand-in for gloo-timers 0.4, in place of it by `[patch.crates-io]`: the part of its interface that we use.
//!
//! gloo-timers 0.4.0 does not compile with `panic=unwind` for wasm, because wasm-bindgen then asks that closures
//! be `UnwindSafe`. The fix (ranile/gloo#562) is merged and not released. Delete this crate, and the patch in
//! the root `Cargo.toml`, when a release has it.
//!
//! `setTimeout` and `clearTimeout` are imported by their bare names: each instance of the wasm is given
//! its own through its glue.
#![cfg(target_family = "wasm")]

pub mod callback;
#[cfg(feature = "futures")]
pub mod future;
