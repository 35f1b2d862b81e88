//! The handle by which others know a process: OTP's pid, with its monitor.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context as TaskContext, Poll},
};

use crate::{exit::Exit, panics::destructor, process::Process, waiters::Key};

/// Which part a process plays in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Does the work.
    Worker,
    /// Keeps children.
    Supervisor,
    /// Keeps tasks.
    TaskSupervisor,
    /// A piece of work with a result, under a task supervisor.
    Task,
}

/// How far a process is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// In its init phase, or not polled yet.
    Starting,
    /// Ready.
    Running,
    /// Asked to stop, and not yet gone.
    Stopping,
    /// Gone.
    Exited,
    /// Gone, and the attempt to start it again has failed; the next is due. Said of children in the tree only.
    Restarting,
    /// Gone, and its supervisor keeps its spec. Said of children in the tree only.
    Stopped,
}

impl State {
    /// The state in one lower-case word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Exited => "exited",
            Self::Restarting => "restarting",
            Self::Stopped => "stopped",
        }
    }
}

/// A handle to a process, as OTP's pid: it stays valid, and says so, after the process has ended. Two handles are
/// equal if they mean the same start of the same child.
#[derive(Clone)]
pub struct Pid(pub(crate) Rc<Process>);

impl Pid {
    /// A number that no other process of this system has had.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// The name that its spec or its spawner gave it.
    pub fn name(&self) -> &Rc<str> {
        &self.0.name
    }

    /// How far it is.
    pub fn state(&self) -> State {
        self.0.state()
    }

    /// Whether it has not ended.
    pub fn is_alive(&self) -> bool {
        !self.0.has_exited()
    }

    /// Why it ended, if it has.
    pub fn exit_reason(&self) -> Option<Exit> {
        self.0.exit_reason()
    }

    /// Resolves with the exit of this process; at once if it has ended. Dropping it ends the watch.
    pub fn monitor(&self) -> Monitor {
        Monitor { process: self.0.clone(), key: None }
    }

    /// Resolves when its init phase is over, or with the exit that came before. Dropping it ends the watch.
    pub(crate) fn started(&self) -> BecomesReady {
        BecomesReady { monitor: self.monitor() }
    }

    /// Asks it to stop, as its supervisor would: its [`Context::shutdown`] resolves. Nothing forces it.
    pub fn ask_to_stop(&self) {
        self.0.ask();
    }

    /// Ends it now with this exit: its future is dropped before this returns, or, when it is the one that runs,
    /// as soon as it yields. Its supervisor treats it as any exit.
    pub fn kill(&self, exit: Exit) {
        self.0.kill(exit);
    }
}

impl PartialEq for Pid {
    fn eq(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Pid {}

impl fmt::Debug for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pid({} {})", self.0.id, self.0.name)
    }
}

/// What [`Pid::monitor`] gives.
#[must_use = "a future does nothing until it is awaited"]
pub struct Monitor {
    process: Rc<Process>,
    key: Option<Key>,
}

impl Future for Monitor {
    type Output = Exit;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Exit> {
        let this = self.get_mut();
        if let Some(exit) = this.process.exit_reason() {
            return Poll::Ready(exit);
        }
        this.process.watchers.wait(&mut this.key, cx.waker());
        Poll::Pending
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        destructor(&mut || self.process.watchers.leave(self.key));
    }
}

/// What [`Pid::started`] gives.
pub(crate) struct BecomesReady {
    monitor: Monitor,
}

impl Future for BecomesReady {
    type Output = Result<(), Exit>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Result<(), Exit>> {
        if self.monitor.process.is_ready() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.monitor).poll(cx).map(Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{system::System, tasks::TaskSupervisor, virtual_time::VirtualTime};

    #[test]
    fn a_watch_that_is_given_up_leaves_nothing() {
        let world = VirtualTime::new(0);
        let system = System::new(world.runtime());
        let pid = world.block_on(TaskSupervisor::new("tasks").start(&system)).expect("it starts");
        for _ in 0..3 {
            let mut monitor = pid.monitor();
            let mut cx = TaskContext::from_waker(std::task::Waker::noop());
            assert!(Pin::new(&mut monitor).poll(&mut cx).is_pending());
            assert_eq!(pid.0.watchers.len(), 1);
        }
        assert_eq!(pid.0.watchers.len(), 0);
    }
}
