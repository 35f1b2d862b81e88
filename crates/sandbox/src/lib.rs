//! The embedded Tinker service: trains and samples a small real model behind the Tinker API.
//!
//! | module | what |
//! |---|---|
//! | [`Core`] | the service itself: requests in, answers out, no clock, disk or thread of its own |
//! | `state` | what a restart must find, as plain data |
//! | [`journal`] | the records that a driver writes down, and their form on disk |
//! | [`work`] | what takes time, to be run anywhere |
//! | `engine`, `loss`, `sample` | what requests do to a model |
//! | `applied`, [`replay`] | the log of what was applied, and the proof that it makes the same weights |
//! | [`faults`] | misbehaviour on request, by a seed |
//! | `server` | the HTTP front (feature `server`) |
//!
//! Nothing but `server` knows of sockets, files, threads or the time. Flags, endpoints of its own and files on disk:
//! `docs/sandbox.md`.

mod applied;
mod bases;
mod core;
mod engine;
pub mod faults;
pub mod journal;
mod loss;
pub mod message;
mod replay;
mod results;
mod sample;
#[cfg(feature = "server")]
pub mod server;
mod settings;
mod state;
mod tokenizer;
pub mod work;

pub use crate::core::Core;
pub use bases::{Bases, NOOP, SANDBOX, TINY};
pub use replay::{Hashes, replay};
pub use settings::{LARGEST_BODY, Settings};
