//! The runs of these tests: what they are started with, and what a page brings to open them.

use tinkex::platform::plain::Plain;
use tinkex::run::{Brought, Data};
use tinkex_protocol::json::training::AdamParams;
use tinkex_sandbox::TINY;

use crate::given;

pub const LENGTH: u32 = 10;

pub fn data() -> Data {
    Data::Indexed { length: LENGTH, fingerprint: "numbers".into() }
}

pub fn brought() -> Brought {
    Brought { data: Some(data()), version: Some("1".into()), ..Brought::default() }
}

/// A run over the set, of batches of 2.
pub fn spec(steps: u32, more: impl FnOnce(&mut Plain)) -> Vec<u8> {
    of_kind("data", steps, Some(2), more)
}

/// A run of a function.
pub fn function(steps: u32, more: impl FnOnce(&mut Plain)) -> Vec<u8> {
    of_kind("steps", steps, Some(2), more)
}

/// `pipeline`: none where the run decides itself how many steps it submits ahead.
pub fn of_kind(kind: &str, steps: u32, pipeline: Option<u32>, more: impl FnOnce(&mut Plain)) -> Vec<u8> {
    Plain::object(|plain| {
        plain.text("baseModel", TINY);
        plain.number("rank", 4.0);
        for name in ["trainMlp", "trainAttn", "trainUnembed"] {
            plain.flag(name, true);
        }
        plain.number("loraSeed", 1.0);
        plain.text("kind", kind);
        if kind == "data" {
            plain.text("lossFn", "cross_entropy");
            let data = plain.inner("data");
            plain.text("kind", "indexed");
            plain.number("length", LENGTH.into());
            plain.text("fingerprint", "numbers");
            plain.close(data);
        }
        plain.text("version", "1");
        plain.number("stepTimeoutMs", 60_000.0);
        plain.number("batchSize", 2.0);
        plain.flag("shuffle", true);
        plain.number("buffer", 4.0);
        plain.number("steps", steps.into());
        plain.number("seed", 7.0);
        // A field that stands twice is the first one.
        more(plain);
        schedule(plain, "linear", 1e-2, 2);
        given::adam(plain);
        if let Some(pipeline) = pipeline {
            plain.number("pipeline", pipeline.into());
        }
        given::recovery(plain, 1_000, false);
    })
}

/// The rates of a run: up to the peak, and from there on to nothing where it is linear.
pub fn schedule(plain: &mut Plain, kind: &str, peak: f64, warmup: u32) {
    let schedule = plain.inner("schedule");
    plain.text("type", kind);
    plain.number("peak", peak);
    plain.number("warmupSteps", warmup.into());
    plain.number("floor", 0.0);
    plain.close(schedule);
}

/// As the schedule of [`of_kind`] has it.
pub fn rate(step: u32, of: u32) -> AdamParams {
    let learning_rate = match step {
        1 => 5e-3,
        2 => 1e-2,
        _ => 1e-2 + (0.0 - 1e-2) * (f64::from(step - 3) / f64::from(of - 2)),
    };
    AdamParams { learning_rate, beta1: 0.9, beta2: 0.95, eps: 1e-12, weight_decay: 0.0, grad_clip_norm: 0.0 }
}

pub fn checkpoints(plain: &mut Plain, every: u32) {
    let checkpoints = plain.inner("checkpoints");
    if every > 0 {
        plain.number("everySteps", every.into());
    }
    plain.flag("onHide", true);
    plain.close(checkpoints);
}
