//! What takes time, apart from the core, so that it runs on any thread, or in virtual time, while requests go on.
//!
//! Training work owns the engine of its model until it is given back. A sample is a function of immutable weights;
//! a long one comes back unfinished and takes its turn again.

use crate::engine;
use crate::sample::{Generating, SampleStart};
use crate::state::{Kind, Outcome};
use bytes::Bytes;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tinkex_model::Adapter;
use tinkex_protocol::ids::{ModelId, RequestId};

/// A piece of work. [`Work::run`] depends on nothing else, so the same work gives the same bits anywhere.
pub struct Work(Part);

enum Part {
    Train { model: ModelId, request: RequestId, kind: Kind, body: Bytes, engine: Adapter },
    Start(SampleStart),
    Generate(Box<Generating>),
}

/// Work that was run, to be given to [`Core::complete`](crate::Core::complete).
pub struct Done(pub(crate) Finished);

pub(crate) enum Finished {
    Trained(Box<Trained>),
    Sampled { request: RequestId, outcome: Outcome },
    Generating(Box<Generating>),
}

pub(crate) struct Trained {
    pub model: ModelId,
    pub request: RequestId,
    /// None if it was lost to a panic.
    pub engine: Option<Adapter>,
    pub outcome: Outcome,
}

impl Work {
    pub(crate) fn train(
        model: ModelId,
        request: RequestId,
        kind: Kind,
        body: Bytes,
        engine: Adapter,
    ) -> Self {
        Self(Part::Train { model, request, kind, body, engine })
    }

    pub(crate) fn sample(start: SampleStart) -> Self {
        Self(Part::Start(start))
    }

    pub(crate) fn generate(generating: Box<Generating>) -> Self {
        Self(Part::Generate(generating))
    }

    /// Does it. `threads` changes how long it takes, never the result.
    pub fn run(self, threads: usize) -> Done {
        Done(match self.0 {
            Part::Train { model, request, kind, body, mut engine } => {
                let trained = settle(move || {
                    let outcome = engine::train(&mut engine, kind, &body, threads);
                    (engine, outcome)
                });
                let (engine, outcome) = match trained {
                    Some((engine, outcome)) => (Some(engine), outcome),
                    None => (None, Outcome::server(PANICKED)),
                };
                Finished::Trained(Box::new(Trained { model, request, engine, outcome }))
            }
            Part::Start(start) => {
                let request = start.request.clone();
                let begun = settle(|| match start.begin() {
                    Ok(generating) => generate(Box::new(generating)),
                    Err(why) => Finished::Sampled { request: request.clone(), outcome: Outcome::user(why) },
                });
                begun.unwrap_or_else(|| Finished::Sampled {
                    request: request.clone(),
                    outcome: Outcome::server(PANICKED),
                })
            }
            Part::Generate(generating) => {
                let request = generating.request().clone();
                let went_on = settle(|| generate(generating));
                went_on.unwrap_or_else(|| Finished::Sampled { request, outcome: Outcome::server(PANICKED) })
            }
        })
    }
}

/// What a request is told that met a bug of ours. The same on a replay, which meets it again.
const PANICKED: &str = "The sandbox's engine panicked. What it panicked about is in the sandbox's output.";

/// Runs something whose panic must not leave a client waiting. What it owned is gone with it.
fn settle<T>(work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).ok()
}

fn generate(mut generating: Box<Generating>) -> Finished {
    match generating.advance() {
        None => Finished::Generating(generating),
        Some(result) => {
            let outcome = engine::outcome(result.map(|sample| Outcome::Protobuf(sample.encode().into())));
            Finished::Sampled { request: generating.request().clone(), outcome }
        }
    }
}
