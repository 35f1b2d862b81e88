//! The heart of a supervisor: what it does next, from what it knows and what happened. No clocks, no futures.

pub(crate) mod dynamic;
pub(crate) mod ordered;
#[cfg(test)]
mod properties;
mod window;

use std::{rc::Rc, time::Duration};

use crate::{
    exit::Exit,
    report::ReportContext,
    spec::{ChildSpec, Restart, Shutdown},
};

/// Which child: never used twice in one supervisor, ascending in start order.
pub(crate) type Key = u64;
/// Which caller waits for an answer.
pub(crate) type Token = u64;
/// Which timer.
pub(crate) type TimerId = u64;

/// What a machine has to know of a child.
#[derive(Clone, Debug)]
pub(crate) struct Meta {
    pub(crate) id: Rc<str>,
    pub(crate) restart: Restart,
    pub(crate) shutdown: Shutdown,
    pub(crate) significant: bool,
    pub(crate) start_timeout: Option<Duration>,
}

impl From<&ChildSpec> for Meta {
    fn from(spec: &ChildSpec) -> Self {
        Self {
            id: spec.id.clone(),
            restart: spec.restart,
            shutdown: spec.shutdown_type(),
            significant: spec.significant,
            start_timeout: spec.start_timeout,
        }
    }
}

/// What happened.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// Begin: start the children given at the outset.
    Boot,
    /// Somebody asks for something.
    Ask(Token, Request),
    /// A start has come to the end of its init phase.
    Ready { key: Key, generation: u32 },
    /// A start has ended. Comes once for each.
    Exited { key: Key, generation: u32, exit: Exit },
    /// The machine's own `Effect::Retry`, come back.
    Retry { key: Key, generation: u32 },
    /// A timer that was set, and not cleared, is over.
    TimeUp(TimerId),
    /// The supervisor is to stop.
    Shutdown,
}

/// What can be asked for.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    Start { key: Key, meta: Meta },
    Terminate(Which),
    Restart(Which),
    Delete(Which),
}

/// The child that is meant: looked up when the request's turn comes, since one before it may have made it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Which {
    Id(Rc<str>),
    Key(Key),
}

/// What is to be done now, in this order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Effect {
    /// Start the child; `restarts` is how often it was restarted before.
    Start {
        key: Key,
        generation: u32,
        restarts: u32,
    },
    /// Ask it to stop.
    Ask {
        key: Key,
    },
    /// Drop it, with this exit.
    Kill {
        key: Key,
        exit: Exit,
    },
    SetTimer {
        timer: TimerId,
        after: Duration,
    },
    ClearTimer {
        timer: TimerId,
    },
    /// Send `Event::Retry` to the end of the queue.
    Retry {
        key: Key,
        generation: u32,
    },
    /// The child's spec is not needed any more.
    Forget {
        key: Key,
    },
    Answer {
        token: Token,
        answer: Answer,
    },
    Report {
        context: ReportContext,
        offender: Rc<str>,
        reason: Exit,
    },
    /// A child is ready.
    Progress {
        key: Key,
    },
    /// All children given at the outset are started.
    Booted,
    /// Nothing is left to do, and no child is alive.
    End {
        exit: Exit,
    },
}

/// What a caller is told.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    /// It runs.
    Started {
        key: Key,
    },
    /// It had nothing to do.
    Ignored,
    Done,
    AlreadyStarted {
        key: Key,
    },
    AlreadyPresent,
    Running,
    Restarting,
    NotFound,
    MaxChildren,
    Failed(Exit),
    /// The supervisor stops.
    NoProcess,
}

/// How far a child is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Phase {
    /// Not running, spec kept: OTP's `undefined`.
    Stopped,
    /// In its init phase.
    Starting,
    Running,
    /// Asked to stop, or killed, and not heard of yet.
    Stopping,
    /// Ended, and its turn to be dealt with has not come.
    Dead(Exit),
    /// A restart failed, and the next attempt is queued.
    Restarting,
}

/// A pure state machine behind a supervisor.
pub(crate) trait Machine {
    /// Takes one event at time `now`; appends what is to be done.
    fn step(&mut self, now: Duration, event: Event, effects: &mut Vec<Effect>);
    /// How far a child is; `None` if it is not known.
    fn phase(&self, key: Key) -> Option<&Phase>;
    /// How often a child was restarted.
    fn restarts(&self, key: Key) -> u32;
    /// The children, in start order.
    fn keys(&self) -> Vec<Key>;
    /// The key of a child that is known.
    fn find(&self, which: &Which) -> Option<Key>;
}

/// Whether a child that was stopped ended as it should.
fn ended_as_asked(meta: &Meta, exit: &Exit) -> bool {
    match exit {
        Exit::Shutdown => meta.shutdown != Shutdown::BrutalKill || meta.restart != Restart::Permanent,
        Exit::Normal | Exit::ShutdownWith(_) => meta.restart != Restart::Permanent,
        Exit::Killed => meta.shutdown == Shutdown::BrutalKill,
        _ => false,
    }
}

/// Whether a child that ended by itself is to be started again.
fn wants_restart(meta: &Meta, exit: &Exit) -> bool {
    match meta.restart {
        Restart::Permanent => true,
        Restart::Transient => !exit.is_graceful(),
        Restart::Temporary => false,
    }
}

/// Whether an exit is worth a report.
fn worth_a_report(meta: &Meta, exit: &Exit) -> bool {
    meta.restart == Restart::Permanent || !exit.is_graceful()
}
