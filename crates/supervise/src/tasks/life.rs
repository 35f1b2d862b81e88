//! The life of a task supervisor's process, and how it ends.

use std::{
    future::{Future, ready},
    pin::Pin,
    rc::Rc,
    task::{Context as TaskContext, Poll},
};

use super::{TaskSupervisor, Tasks};
use crate::{
    cancel::CancelledFuture,
    context::Context,
    deadlines::{Deadlines, TimerId},
    exit::Exit,
    panics::destructor,
    pid::Pid,
    process::{Keeper, Life},
    spec::Shutdown,
    waiters::Key,
};

impl TaskSupervisor {
    /// The process of the supervisor.
    pub(super) fn run(self, ctx: Context) -> Pin<Box<dyn Life>> {
        if !self.0.open(ctx.pid()) {
            return Box::pin(ready(Exit::from("this task supervisor runs already")));
        }
        let reaper = Reaper(self.0.clone());
        ctx.0.set_keeper(Keeper::Tasks(Rc::downgrade(&self.0)));
        ctx.ready();
        reaper.0.start_queued();
        let asked = Some(ctx.shutdown());
        let deadlines = Deadlines::new(ctx.system().clone());
        Box::pin(Run { reaper, asked, key: None, deadlines })
    }
}

/// The life of its process: takes tasks until it is asked to stop, then waits for those that run.
struct Run {
    reaper: Reaper,
    /// Until it was asked to stop.
    asked: Option<CancelledFuture>,
    key: Option<Key>,
    deadlines: Deadlines,
}

impl Future for Run {
    type Output = Exit;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Exit> {
        let Self { reaper: Reaper(tasks), asked, key, deadlines } = &mut *self;
        if let Some(future) = asked {
            if Pin::new(future).poll(cx).is_pending() {
                return Poll::Pending;
            }
            *asked = None;
            tasks.close();
            match tasks.shutdown.get() {
                Shutdown::BrutalKill => return Poll::Ready(Exit::Shutdown),
                Shutdown::After(time) => deadlines.set(TimerId { key: 0, nth: 0 }, time),
                Shutdown::Infinity => {}
            }
            tasks.each(&Pid::ask_to_stop);
        }
        if tasks.state.borrow().running.is_empty() {
            tasks.moved.leave(key.take());
            return Poll::Ready(Exit::Shutdown);
        }
        tasks.moved.wait(key, cx.waker());
        deadlines.poll_next(cx).map(|_| Exit::Shutdown)
    }
}

/// However the supervisor ends, no task outlives it.
struct Reaper(Rc<Tasks>);

impl Drop for Reaper {
    fn drop(&mut self) {
        destructor(&mut || self.0.close());
        destructor(&mut || self.0.kill_all());
    }
}
