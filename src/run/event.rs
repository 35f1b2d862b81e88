//! What happens in a run, as JavaScript has it; most of it is kept as a row of the run's history.

use std::cmp::Ordering;

use tinkex_protocol::metrics::Metrics;
use tinkex_protocol::{SampledSequence, StopReason};

use crate::platform::plain::{Given, Plain, Wrong};

/// When and where.
#[derive(Clone, Copy)]
pub struct When {
    /// Milliseconds since 1970.
    pub at: u64,
    /// The last finished step then.
    pub step: u32,
    pub incarnation: u32,
}

/// Why a checkpoint was saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Cadence,
    Hidden,
    Asked,
    End,
    Stop,
}

impl Reason {
    pub const ALL: [Reason; 5] = [Reason::Cadence, Reason::Hidden, Reason::Asked, Reason::End, Reason::Stop];

    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Cadence => "cadence",
            Reason::Hidden => "hidden",
            Reason::Asked => "asked",
            Reason::End => "end",
            Reason::Stop => "stop",
        }
    }
}

pub struct Step<'a> {
    pub loss: Option<f64>,
    pub tokens: u64,
    pub learning_rate: Option<f64>,
    pub ms: u64,
    pub metrics: &'a Metrics,
    /// JSON text of what the function gave.
    pub value: Option<&'a str>,
}

pub fn step(when: When, step: &Step) -> Vec<u8> {
    event("step", when, |plain| {
        if let Some(loss) = step.loss {
            plain.number("loss", loss);
        }
        plain.number("tokens", step.tokens as f64);
        if let Some(rate) = step.learning_rate {
            plain.number("learningRate", rate);
        }
        plain.number("ms", step.ms as f64);
        let metrics = plain.inner("metrics");
        for (name, value) in step.metrics {
            plain.number(name, *value);
        }
        plain.close(metrics);
        if let Some(value) = step.value {
            plain.text("value", value);
        }
    })
}

pub fn evaluation(when: When, loss: f64, tokens: u64) -> Vec<u8> {
    event("evaluation", when, |plain| {
        plain.number("loss", loss);
        plain.number("tokens", tokens as f64);
    })
}

pub fn checkpoint(when: When, path: &str, reason: Reason) -> Vec<u8> {
    event("checkpoint", when, |plain| {
        plain.text("path", path);
        plain.text("reason", reason.as_str());
    })
}

pub fn sample(when: When, prompt: usize, sequence: &SampledSequence) -> Vec<u8> {
    event("sample", when, |plain| {
        plain.number("prompt", prompt as f64);
        plain.bytes("tokens", sequence.tokens.as_bytes());
        if let Some(logprobs) = &sequence.logprobs {
            plain.bytes("logprobs", logprobs.as_bytes());
        }
        plain.text(
            "stopReason",
            match sequence.stop_reason {
                StopReason::Stop => "stop",
                StopReason::Length => "length",
            },
        );
    })
}

/// A new model: `when.step` is where it goes on, `from` the step that the one before had reached.
pub fn incarnation(when: When, from: u32, path: Option<&str>, reason: &str, model: &str) -> Vec<u8> {
    event("incarnation", when, |plain| {
        plain.number("from", from.into());
        if let Some(path) = path {
            plain.text("path", path);
        }
        plain.text("reason", reason);
        plain.text("modelId", model);
    })
}

fn event(kind: &str, when: When, write: impl FnOnce(&mut Plain)) -> Vec<u8> {
    Plain::object(|plain| {
        plain.text("type", kind);
        plain.number("at", when.at as f64);
        plain.number("step", when.step.into());
        plain.number("incarnation", when.incarnation.into());
        write(plain);
    })
}

/// What a run needs of its own history.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The last finished step of the newest incarnation that has one.
    pub step: u32,
    /// Of that step.
    pub loss: Option<f64>,
    /// In their order.
    pub checkpoints: Vec<Saved>,
    /// Incarnation, step, loss.
    evaluations: Vec<(u32, u32, f64)>,
    /// The incarnation that samples were drawn of last, and the step behind which they were.
    sampled: Option<(u32, u32)>,
    /// The incarnation and the first of its steps whose loss was not finite: what was saved from there on is worth nothing.
    broken: Option<(u32, u32)>,
}

/// The last steps behind which something was asked for; 0 is the model as it was made.
#[derive(Clone, Copy, Default)]
pub struct Behind {
    pub evaluated: Option<u32>,
    pub saved: Option<u32>,
    pub sampled: Option<u32>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Saved {
    pub incarnation: u32,
    pub step: u32,
    pub path: String,
}

impl History {
    /// Takes in one row.
    pub fn take(&mut self, row: &[u8]) {
        let wrong = Wrong::default();
        let given = Given::new(row, &wrong);
        let (step, incarnation) = (given.number("step") as u32, given.number("incarnation") as u32);
        match &*given.text("type") {
            "step" => {
                // One whose row was lost with a disk comes again, behind later ones.
                self.step = self.step.max(step);
                self.loss = given.optional_number("loss");
                let broken = self.loss.is_some_and(|loss| !loss.is_finite());
                if broken && self.broken.is_none_or(|(known, _)| known != incarnation) {
                    self.broken = Some((incarnation, step));
                }
            }
            // What was done behind it counts for nothing any more.
            "incarnation" => (self.step, self.loss) = (step, None),
            "checkpoint" => {
                self.checkpoints.push(Saved { incarnation, step, path: given.text("path") });
            }
            "sample" => self.sampled = Some((incarnation, step)),
            "evaluation" => self.evaluations.push((incarnation, step, given.number("loss"))),
            _ => {}
        }
    }

    /// Within an incarnation.
    pub fn behind(&self, incarnation: u32) -> Behind {
        let evaluated =
            self.evaluations.iter().rfind(|(of, ..)| *of == incarnation).map(|(_, step, _)| *step);
        let saved = self.checkpoints.iter().rfind(|saved| saved.incarnation == incarnation);
        let sampled = self.sampled.filter(|(of, _)| *of == incarnation).map(|(_, step)| step);
        Behind { evaluated, saved: saved.map(|saved| saved.step), sampled }
    }

    /// The last checkpoint that can be gone on from.
    pub fn latest(&self) -> Option<&Saved> {
        self.sound().next_back()
    }

    /// The checkpoint whose evaluation has the lowest loss.
    pub fn best(&self) -> Option<&Saved> {
        let loss = |saved: &&Saved| {
            let place = (saved.incarnation, saved.step);
            let of_it = self.evaluations.iter().rfind(|(of, step, _)| (*of, *step) == place);
            of_it.map(|(.., loss)| *loss).filter(|loss| loss.is_finite())
        };
        let evaluated = self.sound().filter(|saved| loss(saved).is_some());
        evaluated.min_by(|a, b| loss(a).partial_cmp(&loss(b)).unwrap_or(Ordering::Equal))
    }

    fn sound(&self) -> impl DoubleEndedIterator<Item = &Saved> {
        self.checkpoints.iter().filter(|saved| {
            self.broken
                .is_none_or(|(incarnation, step)| saved.incarnation != incarnation || saved.step < step)
        })
    }

    pub fn of_path(&self, path: &str) -> Option<&Saved> {
        self.checkpoints.iter().rfind(|saved| saved.path == path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn when(step: u32) -> When {
        When { at: 1, step, incarnation: 1 }
    }

    #[test]
    fn a_history_knows_its_last_step_and_its_checkpoints() {
        let mut history = History::default();
        let metrics = Metrics::default();
        let done =
            Step { loss: Some(1.0), tokens: 2, learning_rate: None, ms: 1, metrics: &metrics, value: None };
        let rows = [
            step(when(4), &done),
            evaluation(when(4), 0.5, 9),
            checkpoint(when(4), "tinker://a", Reason::Cadence),
            step(when(8), &done),
            evaluation(when(8), 0.7, 9),
            checkpoint(when(8), "tinker://b", Reason::Cadence),
        ];
        rows.iter().for_each(|row| history.take(row));
        assert_eq!(history.step, 8);
        assert_eq!(history.latest().map(|saved| saved.step), Some(8));
        assert_eq!(history.best().map(|saved| &*saved.path), Some("tinker://a"));
        assert_eq!(history.of_path("tinker://b").map(|saved| saved.step), Some(8));
        let seam = When { incarnation: 2, ..when(4) };
        history.take(&incarnation(seam, 8, Some("tinker://a"), "gone", "m"));
        assert_eq!(history.step, 4);
    }
}
