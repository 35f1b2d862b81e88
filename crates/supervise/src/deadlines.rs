//! Many deadlines on one timer of the runtime, which know a suspended clock from a slow child.

use std::{
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use crate::{map::Map, report::Report, runtime::LocalBoxFuture, system::System};

/// A wait that took more than so many times its time was none: the device slept, or the page was held back.
const SUSPENDED: u32 = 2;

/// Which timer, of those of one owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TimerId {
    /// Whose.
    pub(crate) key: u64,
    /// None of the same key has the same.
    pub(crate) nth: u64,
}

/// Deadlines under the ids that their owner gave them.
pub(crate) struct Deadlines {
    system: System,
    by_time: Map<(Duration, TimerId), Wait>,
    due: Map<TimerId, Duration>,
    /// The runtime's timer, for the earliest.
    armed: Option<(Duration, LocalBoxFuture<'static, ()>)>,
}

#[derive(Clone, Copy)]
struct Wait {
    began: Duration,
    after: Duration,
    /// It was given its time a second time, which happens once.
    graced: bool,
}

impl Deadlines {
    pub(crate) fn new(system: System) -> Self {
        Self { system, by_time: Map::new(), due: Map::new(), armed: None }
    }

    pub(crate) fn set(&mut self, id: TimerId, after: Duration) {
        self.insert(id, Wait { began: self.system.now(), after, graced: false });
    }

    pub(crate) fn clear(&mut self, id: TimerId) {
        if let Some(due) = self.due.remove(&id) {
            self.by_time.remove(&(due, id));
            if self.by_time.is_empty() {
                self.armed = None;
            }
        }
    }

    /// The id of a deadline that has passed.
    pub(crate) fn poll_next(&mut self, cx: &mut TaskContext<'_>) -> Poll<TimerId> {
        loop {
            let Some((&(due, id), &wait)) = self.by_time.first_key_value() else { return Poll::Pending };
            let now = self.system.now();
            if due <= now {
                self.clear(id);
                let took = now.saturating_sub(wait.began);
                if wait.graced || wait.after.is_zero() || took <= wait.after.saturating_mul(SUSPENDED) {
                    return Poll::Ready(id);
                }
                self.system.report(Report::Suspended { asked: wait.after, took });
                self.insert(id, Wait { began: now, after: wait.after, graced: true });
                continue;
            }
            let system = &self.system;
            let (_, timer) = match &mut self.armed {
                Some(armed) if armed.0 <= due => armed,
                armed => armed.insert((due, system.runtime().timer(due.saturating_sub(now)))),
            };
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            // It may have been early, by a fraction or for a deadline that was cleared: then it is armed anew.
            self.armed = None;
        }
    }

    fn insert(&mut self, id: TimerId, wait: Wait) {
        let due = wait.began.saturating_add(wait.after);
        self.due.insert(id, due);
        self.by_time.insert((due, id), wait);
    }
}

/// Resolves after `after`; if the clock says that the timer came far too late, the wait begins once more, once.
pub(crate) async fn deadline(system: System, after: Duration) {
    let mut deadlines = Deadlines::new(system);
    deadlines.set(TimerId { key: 0, nth: 0 }, after);
    std::future::poll_fn(|cx| deadlines.poll_next(cx).map(drop)).await;
}
