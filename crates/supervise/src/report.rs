//! What happened in a tree, said to whoever listens: OTP's supervisor and progress reports, and what one thread adds.

use std::{fmt, rc::Rc, time::Duration};

use crate::{exit::Exit, pid::Pid};

/// One thing worth a line in a log.
#[derive(Clone, Debug, PartialEq)]
pub enum Report {
    /// A child is ready.
    Progress {
        /// The name of its supervisor.
        supervisor: Rc<str>,
        /// The id of the child.
        child: Rc<str>,
        /// The start that is ready now.
        pid: Pid,
    },
    /// Something went wrong with a child.
    Supervisor {
        /// The name of the supervisor that says so.
        supervisor: Rc<str>,
        /// What it was about to do.
        context: ReportContext,
        /// Why.
        reason: Exit,
        /// The id of the child.
        offender: Rc<str>,
    },
    /// A poll held the thread for longer than the limit of the system (50 ms).
    SlowPoll {
        /// Whose poll.
        process: Pid,
        /// For how long.
        took: Duration,
    },
    /// A timer came far too late: the device slept, or the page was held. The wait was begun once more, so that
    /// nobody is killed for the time in which he could not run.
    Suspended {
        /// What the timer had been set for.
        asked: Duration,
        /// When it fired.
        took: Duration,
    },
    /// A process panicked and went on: a supervisor's own loop, or what uses [`contain`](crate::contain).
    Contained {
        /// The name of the process.
        process: Rc<str>,
        /// Always a panic.
        reason: Exit,
    },
    /// A task ended in another way than gracefully.
    TaskExited {
        /// The name of its task supervisor.
        supervisor: Rc<str>,
        /// The task.
        pid: Pid,
        /// Why.
        reason: Exit,
    },
}

/// What a supervisor was about, in OTP's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportContext {
    /// A child failed to start.
    StartError,
    /// A child ended in a way that is restarted or worth a word.
    ChildTerminated,
    /// A child that was asked to stop ended for another reason.
    ShutdownError,
    /// The supervisor gives up: restarts exceeded their intensity.
    Shutdown,
}

impl fmt::Display for ReportContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::StartError => "start_error",
            Self::ChildTerminated => "child_terminated",
            Self::ShutdownError => "shutdown_error",
            Self::Shutdown => "shutdown",
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Progress { supervisor, child, .. } => write!(f, "{supervisor}: started {child}"),
            Self::Supervisor { supervisor, context, reason, offender } => {
                write!(f, "{supervisor}: {context} of {offender}: {reason}")
            }
            Self::SlowPoll { process, took } => {
                write!(f, "{} held the thread for {} ms", process.name(), took.as_millis() as u64)
            }
            Self::Suspended { asked, took } => {
                write!(
                    f,
                    "a timer of {} ms took {} ms: suspended",
                    asked.as_millis() as u64,
                    took.as_millis() as u64
                )
            }
            Self::Contained { process, reason } => write!(f, "{process}: contained {reason}"),
            Self::TaskExited { supervisor, pid, reason } => {
                write!(f, "{supervisor}: {}: {reason}", pid.name())
            }
        }
    }
}
