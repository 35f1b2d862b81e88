//! What a run says of itself: its state, and the one cause why it isn't moving.

use super::records::{Control, State};
use super::spec::Spec;
use crate::platform::plain::Plain;

/// Why a run isn't moving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    Starting,
    WaitingForServer,
    WaitingForData,
    WaitingForStep,
    /// It was asked to stop.
    Stopping,
    /// It lost its model and makes a new one.
    Recovering,
    PausedByUser,
    NeedsData,
    NeedsStep,
    /// No page has it open.
    NeedsOwner,
    DataChanged,
    DataFailed,
    FunctionChanged,
    StepMismatch,
    StepFailed,
    StepTimedOut,
    LossNotFinite,
    ModelGone,
    CheckpointGone,
    NotLetIn,
    Refused,
    Storage,
    /// Another page has taken it over.
    Fenced,
    Crashed,
}

impl Cause {
    pub const ALL: [Cause; 24] = [
        Cause::Starting,
        Cause::WaitingForServer,
        Cause::WaitingForData,
        Cause::WaitingForStep,
        Cause::Stopping,
        Cause::Recovering,
        Cause::PausedByUser,
        Cause::NeedsData,
        Cause::NeedsStep,
        Cause::NeedsOwner,
        Cause::DataChanged,
        Cause::DataFailed,
        Cause::FunctionChanged,
        Cause::StepMismatch,
        Cause::StepFailed,
        Cause::StepTimedOut,
        Cause::LossNotFinite,
        Cause::ModelGone,
        Cause::CheckpointGone,
        Cause::NotLetIn,
        Cause::Refused,
        Cause::Storage,
        Cause::Fenced,
        Cause::Crashed,
    ];

    pub fn as_str(self) -> &'static str {
        self.words().0
    }

    /// What will end it.
    pub fn ends(self) -> &'static str {
        self.words().1
    }

    pub fn of_name(name: &str) -> Option<Cause> {
        Cause::ALL.into_iter().find(|cause| cause.as_str() == name)
    }

    fn words(self) -> (&'static str, &'static str) {
        match self {
            Cause::Starting => ("starting", "the server's answer; it is tried until it comes"),
            Cause::WaitingForServer => {
                ("waiting_for_server", "the server's answer; it is asked until it comes")
            }
            Cause::WaitingForData => ("waiting_for_data", "the next batch from the page's data"),
            Cause::WaitingForStep => ("waiting_for_step", "the end of the step's function, or its timeout"),
            Cause::Stopping => ("stopping", "the results of what is under way, and the last checkpoint"),
            Cause::Recovering => ("recovering", "a new model from a checkpoint"),
            Cause::PausedByUser => ("paused_by_user", "resume()"),
            Cause::NeedsData => ("needs_data", "openRun(id, { data })"),
            Cause::NeedsStep => ("needs_step", "openRun(id, { step })"),
            Cause::NeedsOwner => ("needs_owner", "openRun(id)"),
            Cause::DataChanged => {
                ("data_changed", "openRun(id, { data }) with the data that it was started with")
            }
            Cause::DataFailed => ("data_failed", "resume(), which asks for the batch again, or stop()"),
            Cause::FunctionChanged => (
                "function_changed",
                "the function that it was started with, resume({ step: \"restart\" }), or stop()",
            ),
            Cause::StepMismatch => (
                "step_mismatch",
                "a function that asks for the same again, resume({ step: \"restart\" }), or stop()",
            ),
            Cause::StepFailed => ("step_failed", "resume(), which runs the step again, or stop()"),
            Cause::StepTimedOut => ("step_timed_out", "resume(), which runs the step again, or stop()"),
            Cause::LossNotFinite => (
                "loss_not_finite",
                "resume({ from: \"checkpoint\" }), resume(), which goes on as it is, or stop()",
            ),
            Cause::ModelGone => {
                ("model_gone", "resume(), which makes a new model from the last checkpoint, or stop()")
            }
            Cause::CheckpointGone => ("checkpoint_gone", "resume(), which tries again, or stop()"),
            Cause::NotLetIn => ("not_let_in", "openRun(id) with a key that is let in, or resume()"),
            Cause::Refused => {
                ("refused", "resume(), which goes on behind it, resume({ from: \"checkpoint\" }), or stop()")
            }
            Cause::Storage => ("storage", "room or leave to write on this machine, then resume()"),
            Cause::Fenced => ("fenced", "the page that has it"),
            Cause::Crashed => ("crashed", "resume(), which goes on from what is kept, or stop()"),
        }
    }
}

/// A run as it is now.
pub struct Status<'a> {
    pub id: &'a str,
    pub spec: &'a Spec,
    pub control: &'a Control,
    /// Steps that are finished.
    pub step: u32,
    /// Of the last of them.
    pub loss: Option<f64>,
    /// Steps of which something was asked for.
    pub submitted: u32,
    /// Why it isn't moving, since when (ms since 1970), and more of it in words.
    pub cause: Option<(Cause, u64, &'a str)>,
    /// The step and the path of the last checkpoint.
    pub checkpoint: Option<(u32, &'a str)>,
    pub created: u64,
}

impl Status<'_> {
    /// As JavaScript has it.
    pub fn to_plain(&self) -> Vec<u8> {
        Plain::object(|plain| self.write(plain))
    }

    pub fn write(&self, plain: &mut Plain) {
        let Status { spec, control, .. } = self;
        plain.text("id", self.id);
        if !spec.name.is_empty() {
            plain.text("name", &spec.name);
        }
        plain.text("kind", spec.kind());
        plain.text("baseModel", &spec.lora.base_model);
        plain.text("state", control.state.as_str());
        plain.number("createdAt", self.created as f64);
        plain.number("step", self.step.into());
        if let Some(loss) = self.loss {
            plain.number("loss", loss);
        }
        plain.number("submitted", self.submitted.max(self.step).into());
        if let Some(steps) = spec.steps() {
            plain.number("steps", steps.into());
        }
        plain.number("incarnation", control.incarnation.max(1).into());
        if control.incarnation > 0 {
            plain.text("modelId", &control.model);
            plain.text("sessionId", &control.session);
        }
        if let Some((step, path)) = self.checkpoint {
            let checkpoint = plain.inner("lastCheckpoint");
            plain.number("step", step.into());
            plain.text("path", path);
            plain.close(checkpoint);
        }
        if let Some(metadata) = &spec.lora.user_metadata {
            let object = plain.inner("userMetadata");
            metadata.iter().for_each(|(name, value)| plain.text(name, value));
            plain.close(object);
        }
        if let Some((cause, since, message)) = self.cause {
            let object = plain.inner("cause");
            plain.text("kind", cause.as_str());
            plain.number("since", since as f64);
            plain.text("message", message);
            plain.text("ends", cause.ends());
            plain.close(object);
        }
    }
}

/// Why a run isn't moving, as it is kept. `moving`: where it would move, what it waits for.
pub fn cause_of<'a>(control: &'a Control, moving: (Cause, u64, &'a str)) -> Option<(Cause, u64, &'a str)> {
    match control.state {
        // It says why it was paused before, or can't save a checkpoint.
        State::Stopping | State::Saving if !control.message.is_empty() => {
            Some((moving.0, moving.1, &control.message))
        }
        State::Running | State::Stopping | State::Saving => Some(moving),
        State::Paused => Some((Cause::of_name(&control.cause)?, control.since, &control.message)),
        State::Completed | State::Stopped => None,
    }
}
