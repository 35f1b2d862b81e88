//! Many deadlines on one timer of the runtime, which know a suspended clock from a slow child.

use std::{
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use crate::{report::Report, runtime::LocalBoxFuture, system::System};

/// Which timer, of those of one owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TimerId {
    /// Whose.
    pub(crate) key: u64,
    /// None of the same key has the same.
    pub(crate) nth: u64,
}

/// Deadlines under the ids that their owner gave them. Few run at a time: each is looked for among all.
pub(crate) struct Deadlines {
    system: System,
    waits: Vec<Wait>,
    /// The runtime's timer, for the earliest. It may be early, for a deadline that was cleared.
    armed: Option<(Duration, LocalBoxFuture<'static, ()>)>,
}

#[derive(Clone, Copy)]
struct Wait {
    id: TimerId,
    after: Duration,
    due: Duration,
    /// It was given its time a second time, which happens once.
    graced: bool,
}

impl Deadlines {
    pub(crate) fn new(system: System) -> Self {
        Self { system, waits: Vec::new(), armed: None }
    }

    pub(crate) fn set(&mut self, id: TimerId, after: Duration) {
        self.insert(id, after, false);
    }

    pub(crate) fn clear(&mut self, id: TimerId) {
        self.waits.retain(|wait| wait.id != id);
        if self.waits.is_empty() {
            self.armed = None;
        }
    }

    /// The id of a deadline that has passed.
    pub(crate) fn poll_next(&mut self, cx: &mut TaskContext<'_>) -> Poll<TimerId> {
        loop {
            if let Some((_, timer)) = &mut self.armed {
                if timer.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                self.armed = None;
            }
            let Some(&Wait { id, after, due, graced }) = self.waits.iter().min_by_key(|wait| wait.due) else {
                return Poll::Pending;
            };
            let now = self.system.now();
            if due > now {
                self.armed = Some((due, self.system.runtime().timer(due.saturating_sub(now))));
                continue;
            }
            self.clear(id);
            let late = now.saturating_sub(due);
            // A wait that took more than twice its time was none: the device slept, or the page was held back.
            if graced || after.is_zero() || late <= after {
                return Poll::Ready(id);
            }
            self.system.report(Report::Suspended { asked: after, took: after.saturating_add(late) });
            self.insert(id, after, true);
        }
    }

    fn insert(&mut self, id: TimerId, after: Duration, graced: bool) {
        let due = self.system.now().saturating_add(after);
        self.armed.take_if(|(armed, _)| *armed > due);
        self.waits.push(Wait { id, after, due, graced });
    }
}

/// Resolves after `after`; if the clock says that the timer came far too late, the wait begins once more, once.
pub(crate) async fn deadline(system: System, after: Duration) {
    let mut deadlines = Deadlines::new(system);
    deadlines.set(TimerId { key: 0, nth: 0 }, after);
    std::future::poll_fn(|cx| deadlines.poll_next(cx).map(drop)).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::virtual_time::VirtualTime;

    #[test]
    fn the_earliest_comes_first_whenever_it_was_set() {
        let world = VirtualTime::new(0);
        let mut deadlines = Deadlines::new(System::new(world.runtime()));
        let at = |nth| TimerId { key: 1, nth };
        let mut passed = Vec::new();
        for (nth, seconds) in [(1, 4), (2, 1), (3, 3), (4, 2)] {
            deadlines.set(at(nth), Duration::from_secs(seconds));
            world.block_on(std::future::poll_fn(|cx| {
                assert!(deadlines.poll_next(cx).is_pending());
                Poll::Ready(())
            }));
        }
        deadlines.clear(at(3));
        while !deadlines.waits.is_empty() {
            let id = world.block_on(std::future::poll_fn(|cx| deadlines.poll_next(cx)));
            passed.push((id.nth, world.now().as_secs()));
        }
        assert_eq!(passed, [(2, 1), (4, 2), (1, 4)]);
        assert!(deadlines.armed.is_none());
    }
}
