//! The life of a supervisor's process: its loop, and how it ends.

use std::{
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context as TaskContext, Poll},
};

use super::Shell;
use crate::{
    cancel::CancelledFuture,
    exit::Exit,
    machine::Event,
    panics::{self, destructor},
    process::Life,
    report::Report,
    seat::Vacate,
};

/// So many events are handled before everything else that is ready gets its turn.
const BATCH: usize = 256;
/// A step that panics so many times in a row is given up: the supervisor crashes, and its own supervisor decides.
const PATIENCE: u32 = 3;

impl Shell {
    /// The life of the supervisor's process. However it ends, no child outlives it, and then its seat is free.
    pub(crate) fn run(self: Rc<Self>, vacate: Vacate) -> Pin<Box<dyn Life>> {
        let shutdown = Some(self.ctx.shutdown());
        Box::pin(Run { reaper: Reaper(self), shutdown, stumbles: 0, _vacate: vacate })
    }
}

/// The loop. Its fields are dropped in this order.
struct Run {
    reaper: Reaper,
    shutdown: Option<CancelledFuture>,
    /// How often in a row it has panicked.
    stumbles: u32,
    _vacate: Vacate,
}

impl Future for Run {
    type Output = Exit;

    /// Handles what there is. A panic on the way is reported, and what was not yet done is tried again.
    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Exit> {
        let this = &mut *self;
        let shell = &this.reaper.0;
        shell.waker.set(Some(cx.waker().clone()));
        if let Some(asked) = &mut this.shutdown
            && Pin::new(asked).poll(cx).is_ready()
        {
            this.shutdown = None;
            shell.post(Event::Shutdown);
        }
        for _ in 0..BATCH {
            match panics::catch(|| shell.advance(cx)) {
                Ok(more) => {
                    this.stumbles = 0;
                    if let Some(exit) = shell.end.take() {
                        return Poll::Ready(exit);
                    }
                    if !more {
                        return Poll::Pending;
                    }
                }
                Err(panic) => {
                    let reason = Exit::Panic(panic);
                    let process = shell.ctx.name().clone();
                    shell.ctx.system().report(Report::Contained { process, reason: reason.clone() });
                    this.stumbles += 1;
                    if this.stumbles >= PATIENCE || shell.stepping.get() {
                        return Poll::Ready(reason);
                    }
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// However the supervisor ends, its children end first: the last one started, first.
struct Reaper(Rc<Shell>);

impl Drop for Reaper {
    fn drop(&mut self) {
        destructor(&mut || self.0.kill_children());
        destructor(&mut || self.0.clear());
    }
}

impl Shell {
    fn kill_children(&self) {
        let mut left = self.desk.borrow().machine.children().keys_from(0);
        while let Some(key) = left.pop() {
            if let Some(pid) = self.pid_of(key) {
                pid.kill(Exit::Killed);
            }
        }
    }

    fn clear(&self) {
        let (left, mut forgotten) = {
            let desk = &mut *self.desk.borrow_mut();
            let (callers, events) = (std::mem::take(&mut desk.callers), std::mem::take(&mut desk.events));
            let effects = std::mem::take(&mut desk.effects);
            ((callers, events, effects), desk.machine.children_mut().forget_all())
        };
        // Whoever still waits for an answer learns that there is none.
        let _ = panics::catch(|| drop(left));
        while let Some(child) = forgotten.pop() {
            // What a spec has captured may panic when it is dropped: the others are dropped all the same.
            let _ = panics::catch(|| drop(child));
        }
    }
}
