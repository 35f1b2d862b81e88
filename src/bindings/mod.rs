//! The wasm boundary: messages in, answers and events out. The only place that knows JavaScript's values, with the
//! browser's half of `platform`.
//!
//! The classes in `js/` hold ids. Their owner passes each call on with a key, and gets exactly one answer for it:
//!
//! | export | what |
//! |---|---|
//! | `provide_deferred()` | once, when the second file is there: see [`door`] |
//! | `supervision(service)` | the supervision tree as it is now |
//! | `tell(message)` | all else, as a plain value by its `type` |
//!
//! | message | what |
//! |---|---|
//! | `open`: service, options | makes a service |
//! | `call`: key, service, client, method, args | starts a call; client 0 is the service itself |
//! | `cancel`: key | the caller doesn't wait any more |
//! | `seen`: key | the caller knows what came of it: with a service that is open, nothing of it is kept |
//! | `ended`: key, failure | a function of the page has ended, or failed with these words |
//! | `toRun`: key, message | what the page says to a run, by the key of the call that opened it |
//! | `hidden` | the page is hidden, and may never be seen again |
//! | `wake`: online | the page is back, or its network has come or gone |
//! | `watch`: service, on | begins or ends to say when the tree changes |
//!
//! Calls are answered through the host: `settle(key, value)` or `fail(key, error)`. The call `spawn` is the task of a
//! function of the page: `run(key)` lets the page start it. The call `run` opens a training run and is answered when that has
//! ended here; meanwhile the run asks and tells through `fromRun(key, message)`.

#[cfg(target_arch = "wasm32")]
mod commands;
#[cfg(target_arch = "wasm32")]
mod deferred;
#[cfg(target_arch = "wasm32")]
mod desk;
#[cfg(target_arch = "wasm32")]
mod door;
#[cfg(target_arch = "wasm32")]
mod exports;
#[cfg(all(target_arch = "wasm32", feature = "fault-injection"))]
mod faults;
#[cfg(target_arch = "wasm32")]
mod host;
#[cfg(target_arch = "wasm32")]
mod store;
