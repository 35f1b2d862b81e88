//! What callers of a supervisor are told.

use std::{
    any::Any,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context as TaskContext, Poll},
};

use crate::{
    exit::Exit,
    pid::{Kind, Pid},
    reply,
    spec::SpecError,
};

/// A child that was started.
#[derive(Clone, Default)]
pub struct Started {
    /// The process, or `None` when the child had nothing to do ([`Exit::Ignore`]).
    pub pid: Option<Pid>,
    /// What it gave to [`Context::ready_with`].
    pub info: Option<Rc<dyn Any>>,
}

/// What a call to a supervisor comes back with; where nothing was to be started, the `Started` is empty.
pub(crate) type Outcome = Result<Started, ChildError>;

/// Why a supervisor did not do what it was asked, in OTP's words.
#[derive(Clone, Debug, PartialEq)]
pub enum ChildError {
    /// A child with this id runs.
    AlreadyStarted(Pid),
    /// A child with this id is known and not running: restart or delete it.
    AlreadyPresent,
    /// It runs: terminate it first.
    Running,
    /// It is being restarted: terminate it first.
    Restarting,
    /// No child has this id.
    NotFound,
    /// The supervisor has as many children as it may.
    MaxChildren,
    /// The spec contradicts itself, or its supervisor's.
    Spec(SpecError),
    /// The child ended in its init phase.
    Failed(Exit),
    /// The supervisor doesn't run.
    NoProcess,
}

/// An answer to come.
pub(crate) struct Answering(pub(crate) reply::Answer<Outcome>);

impl Answering {
    /// The answer is known.
    pub(crate) fn at_once(outcome: Outcome) -> Self {
        let (reply, answer) = reply::reply();
        // The answer's end is right here.
        let _ = reply.send(outcome);
        Self(answer)
    }

    pub(crate) fn done(self) -> Done {
        Done(self)
    }
}

impl Future for Answering {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Outcome> {
        Pin::new(&mut self.0).poll(cx).map(|answer| answer.unwrap_or(Err(ChildError::NoProcess)))
    }
}

/// As [`Answering`], where nothing was to be started.
pub(crate) struct Done(Answering);

impl Future for Done {
    type Output = Result<(), ChildError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map_ok(drop)
    }
}

/// One line of [`Supervisor::which_children`](crate::Supervisor::which_children).
#[derive(Clone, Debug, PartialEq)]
pub struct ChildInfo {
    /// Its id.
    pub id: Rc<str>,
    /// Worker or supervisor.
    pub kind: Kind,
    /// Its process, from the end of its init phase; `None` when it doesn't run.
    pub pid: Option<Pid>,
    /// Whether it is being started again, or a restart failed and the next attempt is due.
    pub restarting: bool,
    /// How often it was restarted.
    pub restarts: u32,
}

/// What [`count_children`](crate::Supervisor::count_children) gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Children, alive or not.
    pub specs: usize,
    /// Children that are alive.
    pub active: usize,
    /// Children that are supervisors, alive or not.
    pub supervisors: usize,
    /// Children that are workers, alive or not.
    pub workers: usize,
}

impl Counts {
    pub(crate) fn of(children: &[ChildInfo]) -> Self {
        let workers = children.iter().filter(|child| child.kind == Kind::Worker).count();
        Self {
            specs: children.len(),
            active: children.iter().filter(|child| child.pid.as_ref().is_some_and(Pid::is_alive)).count(),
            supervisors: children.len() - workers,
            workers,
        }
    }
}

impl std::fmt::Debug for Started {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Started({:?})", self.pid)
    }
}

impl std::fmt::Display for ChildError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AlreadyStarted(pid) => write!(f, "already_started: {}", pid.name()),
            Self::AlreadyPresent => f.write_str("already_present: restart or delete it"),
            Self::Running => f.write_str("running: terminate it first"),
            Self::Restarting => f.write_str("restarting: terminate it first"),
            Self::NotFound => f.write_str("not_found"),
            Self::MaxChildren => f.write_str("max_children: the supervisor has as many children as it may"),
            Self::Spec(error) => error.fmt(f),
            Self::Failed(exit) => write!(f, "the child did not start: {exit}"),
            Self::NoProcess => f.write_str("noproc: the supervisor is not running"),
        }
    }
}

impl std::error::Error for ChildError {}
