//! What takes time, apart from the core, so that it runs on any thread, or in virtual time, while requests go on.
//!
//! Training work owns the engine of its model until it is given back. A sample is a function of immutable weights;
//! a long one comes back unfinished and takes its turn again.

use crate::engine;
use crate::sample::{Generating, SampleStart};
use crate::state::{Kind, Outcome};
use bytes::Bytes;
use tinkex_model::Adapter;
use tinkex_protocol::ids::{ModelId, RequestId};

/// A piece of work. [`Work::run`] depends on nothing else, so the same work gives the same bits anywhere.
pub struct Work(Part);

enum Part {
    Train { model: ModelId, request: RequestId, kind: Kind, body: Bytes, engine: Adapter },
    Start(SampleStart),
    Generate(Generating),
}

/// Work that was run, to be given to [`Core::complete`](crate::Core::complete).
pub struct Done(pub(crate) Finished);

pub(crate) enum Finished {
    Trained { model: ModelId, request: RequestId, engine: Adapter, outcome: Outcome },
    Sampled { request: RequestId, outcome: Outcome },
    Generating(Generating),
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

    pub(crate) fn generate(generating: Generating) -> Self {
        Self(Part::Generate(generating))
    }

    /// Does it. `threads` changes how long it takes, never the result.
    pub fn run(self, threads: usize) -> Done {
        Done(match self.0 {
            Part::Train { model, request, kind, body, mut engine } => {
                let outcome = engine::train(&mut engine, kind, &body, threads);
                Finished::Trained { model, request, engine, outcome }
            }
            Part::Start(start) => {
                let request = start.request().clone();
                match start.begin() {
                    Ok(generating) => generate(generating),
                    Err(why) => Finished::Sampled { request, outcome: Outcome::user(why) },
                }
            }
            Part::Generate(generating) => generate(generating),
        })
    }
}

fn generate(mut generating: Generating) -> Finished {
    match generating.advance() {
        None => Finished::Generating(generating),
        Some(result) => {
            let outcome = engine::outcome(result.map(|sample| Outcome::Protobuf(sample.encode().into())));
            Finished::Sampled { request: generating.request().clone(), outcome }
        }
    }
}
