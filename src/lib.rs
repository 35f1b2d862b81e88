//! The client, from the outside in: `docs/architecture.md` in the repository draws the map.
//!
//! | module | what it owns |
//! |---|---|
//! | [`bindings`] | the wasm boundary: the only place, with the browser's half of `platform`, that knows a `JsValue` |
//! | [`run`] | training runs: loops that outlive their page, each with a service of its own |
//! | [`wire`] | the client's values in JavaScript's terms: arguments and results |
//! | [`service`] | the supervision tree of one service, its session and its clients |
//! | [`training`], [`sampling`] | what can be done with a model and with a sampler |
//! | [`session`] | the service's settings, the session, its heartbeat |
//! | [`request`] | one request's way to the server and its result; its order and records are `crates/journal`'s |
//! | [`store`] | where records are kept, and what a service writes of its session |
//! | [`telemetry`] | what a client tells the service of itself |
//! | [`transport`] | HTTP: retries, the budget of connections |
//! | [`platform`] | clock, timers, executor, HTTP, randomness |

pub mod bindings;
pub mod error;
pub mod platform;
pub mod request;
pub mod run;
pub mod sampling;
pub mod service;
pub mod session;
pub mod store;
pub mod telemetry;
pub mod training;
pub mod transport;
pub mod wire;

pub use error::{Error, Kind, Outcome};
