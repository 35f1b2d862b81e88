//! The client as a WebAssembly module: everything is in `tinkex`, whose `bindings` hold the exports.
//!
//! A crate of its own, since cargo optimizes a library across its crates only where it is nothing but a `cdylib`; the
//! client itself is also what native tests link to. That is worth 30 kB of what a page downloads, gzipped.

#[cfg(target_arch = "wasm32")]
mod memory;

// Linked for its exports.
use tinkex as _;
