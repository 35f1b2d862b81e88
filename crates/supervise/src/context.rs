//! What a child or a task is given: its end of the relation to its supervisor.

use std::{
    any::Any,
    borrow::Cow,
    fmt,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use crate::{
    cancel::{CancelToken, Cancelled, CancelledFuture},
    names::NameTaken,
    panics::destructor,
    pid::Pid,
    process::{Process, Wait},
    system::System,
};

/// The view that a process has of itself. Clones are the same context; keeping one beyond the end of the process
/// keeps a record of a few hundred bytes, nothing more.
#[derive(Clone)]
pub struct Context(pub(crate) Rc<Process>);

impl Context {
    /// The context of the process that is being polled right now on this thread, if any.
    pub fn current() -> Option<Self> {
        Process::current().map(Self)
    }

    /// Says that the init phase is over: `start_child` resolves, and the next sibling is started. An exit before
    /// it is a failed start. The second time, nothing.
    pub fn ready(&self) {
        self.0.set_ready(None);
    }

    /// As [`ready`](Self::ready), with something that the caller of `start_child` gets as
    /// [`Started::info`](crate::Started::info).
    pub fn ready_with(&self, info: impl Any) {
        self.0.set_ready(Some(Rc::new(info)));
    }

    /// Resolves when the supervisor asks for the end. What is left of the shutdown time begins then.
    pub fn shutdown(&self) -> CancelledFuture {
        self.0.stop.cancelled()
    }

    /// Whether the end was asked for.
    pub fn is_stopping(&self) -> bool {
        self.0.stop.is_cancelled()
    }

    /// The signal of [`shutdown`](Self::shutdown), for what takes a token. Cancelling it is asking oneself to stop.
    pub fn token(&self) -> &CancelToken {
        &self.0.stop
    }

    /// Waits for `duration`, or until the end is asked for, whichever is first: cancellation ends it at once.
    pub fn sleep(&self, duration: Duration) -> impl Future<Output = Result<(), Cancelled>> + use<> {
        self.0.stop.guard(self.0.system.runtime().timer(duration))
    }

    /// Runs a future until it ends or the end is asked for.
    pub fn until_shutdown<F: Future>(
        &self,
        future: F,
    ) -> impl Future<Output = Result<F::Output, Cancelled>> + use<F> {
        self.0.stop.guard(future)
    }

    /// Lets everything else that is ready run once. Work that takes long should do so every few milliseconds: on one thread nobody can interrupt it.
    pub fn yield_now(&self) -> YieldNow {
        YieldNow { yielded: false }
    }

    /// The name that its spec or its spawner gave it.
    pub fn name(&self) -> &Rc<str> {
        &self.0.name
    }

    /// How often it has been restarted: 0 for the first start.
    pub fn restarts(&self) -> u32 {
        self.0.restarts
    }

    /// Who asked for whom: the name of the process that spawned this one (a child's supervisor, a task's caller), of
    /// that one's spawner, and so on outwards.
    pub fn callers(&self) -> Vec<Rc<str>> {
        self.0.callers()
    }

    /// Says what this process waits for from now on, until the guard is dropped: shown in the tree with the time since when.
    pub fn waiting_for(&self, what: impl Into<Cow<'static, str>>) -> Waiting {
        let former = self.0.set_waiting(Some((what.into(), self.0.system.now())));
        Waiting { process: self.0.clone(), former }
    }

    /// Says what this process waits for from now on, until it says so anew.
    pub fn waits_for(&self, what: &'static str) {
        self.0.set_waiting(Some((what.into(), self.0.system.now())));
    }

    /// Shows the length of a queue of this process in the tree, as long as the process lives.
    pub fn show_queue(&self, name: &'static str, length: impl Fn() -> usize + 'static) {
        self.0.show_queue(name, Box::new(length));
    }

    /// Gives a name to a value, as long as this process lives: see [`Names`](crate::Names).
    pub fn register(&self, name: impl Into<Rc<str>>, value: impl Any) -> Result<(), NameTaken> {
        self.0.system.names().register(&self.pid(), name, value)
    }

    /// The handle by which others know this process.
    pub fn pid(&self) -> Pid {
        Pid(self.0.clone())
    }

    /// The system in which it runs.
    pub fn system(&self) -> &System {
        &self.0.system
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Context({}, {:?})", self.0.name, self.0.state())
    }
}

/// [`Context::waiting_for`], of the process that is being polled right now; `None` outside of any.
pub fn waiting_for(what: impl Into<Cow<'static, str>>) -> Option<Waiting> {
    Context::current().map(|ctx| ctx.waiting_for(what))
}

/// As long as it is kept, the process is shown as waiting. Guards nest: the inner wait is shown first.
#[must_use = "the wait is shown until this is dropped"]
pub struct Waiting {
    process: Rc<Process>,
    former: Option<Wait>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        destructor(&mut || _ = self.process.set_waiting(self.former.take()));
    }
}

/// What [`Context::yield_now`] gives.
#[derive(Debug)]
#[must_use = "a future does nothing until it is awaited"]
pub struct YieldNow {
    yielded: bool,
}

impl Future for YieldNow {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
