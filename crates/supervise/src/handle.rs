//! What comes of a task, and the means to end it early.

use std::{
    cell::{Cell, OnceCell},
    fmt,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context as TaskContext, Poll, Waker},
};

use crate::{callers::Callers, exit::Exit, panics, pid::Pid, process::Body, tasks::TaskSupervisor};

/// What a handle and its supervisor share: the part of a task that doesn't depend on its result.
pub(crate) struct Ticket {
    pub(crate) name: Rc<str>,
    pub(crate) key: Cell<u64>,
    /// Taken when it starts, or is given up.
    pub(crate) body: Cell<Option<Body>>,
    /// Set when it starts.
    pub(crate) pid: OnceCell<Pid>,
    exit: OnceCell<Exit>,
    /// Whoever waits for the handle.
    waiter: Cell<Option<Waker>>,
    /// Binds it to the caller whose fate it shares.
    pub(crate) link: Cell<Option<AtStart>>,
    pub(crate) callers: Option<Rc<Callers>>,
}

/// What is done with the process of a task as soon as there is one.
pub(crate) type AtStart = Box<dyn FnOnce(&Pid)>;

impl Ticket {
    pub(crate) fn new(name: Rc<str>, link: Option<AtStart>, body: Body) -> Self {
        Self {
            name,
            key: Cell::new(0),
            body: Cell::new(Some(body)),
            pid: OnceCell::new(),
            exit: OnceCell::new(),
            waiter: Cell::default(),
            link: Cell::new(link),
            callers: Callers::now(),
        }
    }

    pub(crate) fn settle(&self, exit: Exit) {
        let _ = self.exit.set(exit);
        if let Some(waiter) = self.waiter.take() {
            waiter.wake();
        }
    }

    /// It will not be started.
    pub(crate) fn give_up(&self, exit: Exit) {
        let body = self.body.take();
        // What a task has captured may panic when it is dropped. It never ran, so there is no exit to put that into.
        let _ = panics::catch(|| drop(body));
        self.settle(exit);
    }
}

/// The result of a task to come, and the means to end it early.
#[must_use = "a crash of the task shows here; drop it explicitly to leave the task alone"]
pub struct TaskHandle<T> {
    pub(crate) ticket: Rc<Ticket>,
    pub(crate) value: Rc<Cell<Option<T>>>,
    pub(crate) supervisor: TaskSupervisor,
}

impl<T> TaskHandle<T> {
    /// Asks the task to stop; a queued one ends with [`Exit::Shutdown`] at once.
    pub fn cancel(&self) {
        if let Some(pid) = self.pid() {
            pid.ask_to_stop();
        } else {
            self.supervisor.unqueue(&self.ticket, Exit::Shutdown);
        }
    }

    /// Ends the task now, dropping its future.
    pub fn kill(&self) {
        if let Some(pid) = self.pid() {
            pid.kill(Exit::Killed);
        } else {
            self.supervisor.unqueue(&self.ticket, Exit::Killed);
        }
    }

    /// Its process, once it has left the queue.
    pub fn pid(&self) -> Option<Pid> {
        self.ticket.pid.get().cloned()
    }

    /// Whether it has ended, or was never started.
    pub fn is_finished(&self) -> bool {
        self.ticket.exit.get().is_some()
    }
}

impl<T> Future for TaskHandle<T> {
    type Output = Result<T, Exit>;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let Some(exit) = self.ticket.exit.get() else {
            self.ticket.waiter.set(Some(cx.waker().clone()));
            return Poll::Pending;
        };
        // A value whose task then crashed, in a destructor, is not passed off as a success.
        let value = if exit.is_graceful() { self.value.take() } else { None };
        Poll::Ready(value.ok_or_else(|| exit.clone()))
    }
}

impl<T> fmt::Debug for TaskHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskHandle({})", self.ticket.name)
    }
}
