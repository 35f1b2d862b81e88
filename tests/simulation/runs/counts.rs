//! What the worlds of runs count: everything that goes wrong in them, and the way of a run through its states.

use crate::tally::{AROUND, Transition};

/// What befalls a run, what is told of it, and what its pages do.
const OF_RUNS: [&str; 72] = [
    "instance: dies",
    "instance: dies with a commit under way",
    "server: a loss is not a number",
    "instance: a run's loop panics",
    "instance: a dispatcher panics",
    "page: is killed",
    "page: is killed with a commit under way",
    "page: is hidden",
    "page: is away for longer than a session lives",
    "tab: waits for the run's owner",
    "tab: takes over from an owner that has gone",
    "tab: opens a run that another one has",
    "tab: is fenced",
    "tab: opens a run that is over",
    "tab: reads a run that it has not opened",
    "tab: brings other data",
    "command: pause",
    "command: resume",
    "command: resume from a checkpoint",
    "command: resume, and begin the step again",
    "command: stop",
    "command: checkpoint",
    "command: rejects",
    "data: are read",
    "data: the source throws",
    "data: are others than before",
    "data: a weight is not a number",
    "step: begins",
    "step: runs again",
    "step: its function throws",
    "step: its function never returns",
    "step: asks for something else",
    "step: is of another version",
    "step: is given up",
    "call: its recorded result is given",
    "call: its result came while nobody waited",
    "call: a sample is drawn again",
    "event: step",
    "event: evaluation",
    "event: sample",
    "event: incarnation",
    "checkpoint: cadence",
    "checkpoint: hidden",
    "checkpoint: asked",
    "checkpoint: end",
    "checkpoint: stop",
    "incarnation: from a checkpoint",
    "incarnation: from the beginning",
    "cause: starting",
    "cause: waiting_for_server",
    "cause: waiting_for_data",
    "cause: waiting_for_step",
    "cause: stopping",
    "cause: recovering",
    "cause: paused_by_user",
    "cause: data_changed",
    "cause: data_failed",
    "cause: function_changed",
    "cause: step_mismatch",
    "cause: step_failed",
    "cause: step_timed_out",
    "cause: loss_not_finite",
    "cause: model_gone",
    "cause: checkpoint_gone",
    "cause: not_let_in",
    "cause: refused",
    "cause: storage",
    "cause: crashed",
    "cause: fenced",
    "cause: needs_owner",
    "cause: needs_data",
    "cause: needs_step",
];

/// Everything that goes wrong here.
pub fn faults() -> Vec<&'static str> {
    [&AROUND[..], &OF_RUNS].concat()
}

/// Of a run as its page is told of it, and of its requests as their surroundings see them.
pub const TRANSITIONS: [Transition; 16] = [
    ("opened", "running"),
    ("opened", "paused"),
    ("opened", "completed"),
    ("opened", "stopped"),
    ("running", "paused"),
    ("paused", "running"),
    ("running", "completed"),
    ("running", "stopped"),
    ("called", "written"),
    ("written", "sent"),
    ("sent", "sent again"),
    ("sent", "given up"),
    ("sent", "answered"),
    ("answered", "polled"),
    ("polled", "polled again"),
    ("polled", "finished"),
];

/// The name under which something is counted.
pub fn fault(group: &str, name: &str) -> Option<&'static str> {
    OF_RUNS
        .into_iter()
        .find(|fault| fault.strip_prefix(group).and_then(|rest| rest.strip_prefix(": ")) == Some(name))
}
