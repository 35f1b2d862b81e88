//! What a run is: read from the plain value that it was started with, and again whenever it is opened.

use std::time::Duration;

use tinkex_protocol::json::training::{AdamParams, LoraConfig};
use tinkex_protocol::{Datum, LossCall, ModelInput};

use super::feed::{self, Data};
use super::schedule::{Schedule, Shape};
use crate::error::Error;
use crate::platform::plain::{Given, Wrong};
use crate::sampling::Sample;
use crate::service::Lora;
use crate::wire::arguments;

#[derive(Clone, Debug)]
pub struct Spec {
    pub name: String,
    pub lora: Lora,
    pub work: Work,
    /// `None`: as many as the data have.
    pub steps: Option<u32>,
    pub schedule: Schedule,
    /// Its learning rate is the schedule's.
    pub adam: AdamParams,
    /// Steps that may be submitted and not finished, where it says so.
    pub pipeline: Option<u32>,
    pub evaluation: Option<Evaluation>,
    pub checkpoints: Checkpoints,
    pub samples: Option<Samples>,
    pub recovery: Recovery,
}

/// What a step does.
#[derive(Clone, Debug)]
pub enum Work {
    /// A forward and backward pass over the next batch, and a step of the optimizer.
    Data { plan: feed::Plan, loss: LossCall },
    /// What the page's function does.
    Function { version: String, timeout: Duration },
}

#[derive(Clone, Debug)]
pub struct Evaluation {
    pub data: Vec<Datum>,
    pub every: u32,
}

#[derive(Clone, Debug)]
pub struct Checkpoints {
    pub every_steps: Option<u32>,
    pub every: Option<Duration>,
    /// When the page is hidden.
    pub on_hide: bool,
    pub ttl_seconds: Option<u64>,
}

#[derive(Clone, Debug)]
pub struct Samples {
    pub prompts: Vec<ModelInput>,
    pub every: u32,
    /// For each prompt, which is not in it.
    pub sample: Sample,
}

#[derive(Clone, Debug)]
pub struct Recovery {
    pub from: From,
    /// Incarnations in a row that finish no step.
    pub attempts: u32,
    /// Before the first of them; doubled each time.
    pub backoff: Duration,
    /// It is not for the run to decide: it pauses.
    pub ask: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    Latest,
    /// The one whose evaluation has the lowest loss; the latest where none was evaluated.
    Best,
    Path(String),
}

impl Spec {
    /// The classes in `js/` have checked it; what can't be taken is noted all the same.
    pub fn read(bytes: &[u8]) -> Result<Spec, Error> {
        let wrong = Wrong::default();
        let spec = spec(Given::new(bytes, &wrong));
        wrong.check().map(|()| spec)
    }

    /// How many steps it has, where that is known.
    pub fn steps(&self) -> Option<u32> {
        self.steps.or_else(|| match &self.work {
            Work::Data { plan, .. } => plan.steps(),
            Work::Function { .. } => None,
        })
    }

    pub fn kind(&self) -> &'static str {
        match self.work {
            Work::Data { .. } => "data",
            Work::Function { .. } => "steps",
        }
    }

    pub fn version(&self) -> &str {
        match &self.work {
            Work::Function { version, .. } => version,
            Work::Data { .. } => "",
        }
    }

    pub fn adam(&self, step: u32) -> AdamParams {
        AdamParams { learning_rate: self.schedule.rate(step, self.steps()), ..self.adam }
    }
}

/// Where the data of a run come from, as the page has it.
pub fn data(given: Given) -> Data {
    match &*given.text("kind") {
        "stream" => Data::Stream {
            buffer: given.optional_count("buffer").unwrap_or_default(),
            fingerprint: given.optional_text("fingerprint"),
        },
        _ => Data::Indexed { length: given.count("length"), fingerprint: given.text("fingerprint") },
    }
}

fn spec(given: Given) -> Spec {
    let steps = given.optional_count("steps");
    let work = match &*given.text("kind") {
        "data" => Work::Data {
            plan: feed::Plan {
                data: match data(given.object("data")) {
                    Data::Stream { fingerprint, .. } => {
                        Data::Stream { buffer: given.count("buffer").max(1), fingerprint }
                    }
                    indexed => indexed,
                },
                batch: given.count("batchSize").max(1),
                shuffle: given.flag("shuffle"),
                seed: given.number("seed") as u64,
                epochs: given.optional_count("epochs"),
            },
            loss: arguments::loss(given, false),
        },
        _ => Work::Function { version: given.text("version"), timeout: ms(given.number("stepTimeoutMs")) },
    };
    let checkpoints = given.object("checkpoints");
    let recovery = given.object("recovery");
    Spec {
        name: given.optional_text("name").unwrap_or_default(),
        lora: Lora {
            base_model: given.text("baseModel"),
            config: LoraConfig {
                rank: given.count("rank"),
                // A run that loses its model before its first checkpoint begins again with the same weights.
                seed: Some(given.optional_number("loraSeed").unwrap_or_else(|| given.number("seed")) as u64),
                train_unembed: given.flag("trainUnembed"),
                train_mlp: given.flag("trainMlp"),
                train_attn: given.flag("trainAttn"),
            },
            user_metadata: given.optional_texts("userMetadata"),
        },
        work,
        steps,
        schedule: schedule(given.object("schedule")),
        adam: arguments::adam_without_rate(given.object("adam")),
        pipeline: given.optional_count("pipeline").map(|steps| steps.max(1)),
        evaluation: given.get("evaluation").map(|value| {
            let given = Given::of(value, given.wrong());
            Evaluation { data: arguments::data(given), every: given.count("every").max(1) }
        }),
        checkpoints: Checkpoints {
            every_steps: checkpoints.optional_count("everySteps"),
            every: checkpoints.optional_number("everyMs").map(ms),
            on_hide: checkpoints.flag("onHide"),
            ttl_seconds: checkpoints.optional_number("ttlSeconds").map(|seconds| seconds as u64),
        },
        samples: given.get("samples").map(|value| samples(Given::of(value, given.wrong()))),
        recovery: Recovery {
            from: match &*recovery.text("from") {
                "latest" => From::Latest,
                "best" => From::Best,
                path => From::Path(path.to_owned()),
            },
            attempts: recovery.count("attempts"),
            backoff: ms(recovery.number("backoffMs")),
            ask: recovery.flag("ask"),
        },
    }
}

fn schedule(given: Given) -> Schedule {
    let shape = match &*given.text("type") {
        "points" => {
            let flat: Vec<f64> = given.list("points").filter_map(|value| value.as_number()).collect();
            return Schedule::Points(flat.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect());
        }
        "linear" => Shape::Linear,
        "cosine" => Shape::Cosine,
        _ => Shape::Constant,
    };
    Schedule::Shaped {
        shape,
        peak: given.number("peak"),
        warmup: given.count("warmupSteps"),
        floor: given.number("floor"),
        steps: given.optional_count("steps"),
    }
}

fn samples(given: Given) -> Samples {
    let prompts = given.list("prompts").map(|prompt| {
        let given = Given::of(prompt, given.wrong());
        arguments::chunks(given, "chunks").unwrap_or_default()
    });
    Samples {
        prompts: prompts.collect(),
        every: given.count("every").max(1),
        sample: Sample {
            num_samples: given.count("numSamples"),
            params: arguments::sampling_params(given.object("samplingParams")),
            ..Sample::default()
        },
    }
}

fn ms(ms: f64) -> Duration {
    Duration::from_micros((ms * 1000.0) as u64)
}
