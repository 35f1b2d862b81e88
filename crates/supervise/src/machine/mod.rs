//! The heart of a supervisor: what it does next, from what it knows and what happened. No clocks, no futures.

mod children;
pub(crate) mod dynamic;
pub(crate) mod ordered;
#[cfg(test)]
mod properties;
mod window;

use std::{num::NonZeroU64, rc::Rc, time::Duration};

pub(crate) use self::children::{Children, Kept};
pub(crate) use crate::deadlines::TimerId;
use crate::{answers::Outcome, exit::Exit, report::ReportContext, spec::ChildSpec};

/// Which child: never used twice in one supervisor, ascending in start order.
pub(crate) type Key = u64;
/// Which caller waits for an answer.
pub(crate) type Token = NonZeroU64;

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
    Start { key: Key, spec: Box<ChildSpec> },
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
#[derive(Debug)]
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
        kept: Kept,
    },
    Answer {
        token: Token,
        outcome: Outcome,
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

/// How far a child is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Phase {
    /// Not running, spec kept: OTP's `undefined`.
    Stopped,
    /// In its init phase.
    Starting,
    Running,
    /// Asked to stop, or killed, and not heard of yet.
    Stopping,
    /// Ended, and its turn to be dealt with has not come.
    Dead,
    /// A restart failed, and the next attempt is queued.
    Restarting,
}

/// A pure state machine behind a supervisor.
pub(crate) trait Machine {
    /// Takes one event at time `now`; gives what is to be done, in order.
    fn step(&mut self, now: Duration, event: Event) -> Vec<Effect>;
    /// What it knows of its children.
    fn children(&self) -> &Children;
    fn children_mut(&mut self) -> &mut Children;
    /// The key of a child that is known.
    fn find(&self, which: &Which) -> Option<Key>;
}
