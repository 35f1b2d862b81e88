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

/// Deadlines under the ids that their owner gave them. Few run at a time: the earliest is looked for among all.
pub(crate) struct Deadlines {
    system: System,
    waits: Map<TimerId, Wait>,
    /// The runtime's timer, for the earliest. It may be early, for a deadline that was cleared.
    armed: Option<(Duration, LocalBoxFuture<'static, ()>)>,
}

#[derive(Clone, Copy)]
struct Wait {
    began: Duration,
    after: Duration,
    /// It was given its time a second time, which happens once.
    graced: bool,
}

impl Wait {
    fn due(&self) -> Duration {
        self.began.saturating_add(self.after)
    }
}

impl Deadlines {
    pub(crate) fn new(system: System) -> Self {
        Self { system, waits: Map::new(), armed: None }
    }

    pub(crate) fn set(&mut self, id: TimerId, after: Duration) {
        self.insert(id, Wait { began: self.system.now(), after, graced: false });
    }

    pub(crate) fn clear(&mut self, id: TimerId) {
        self.waits.remove(&id);
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
            let earliest = self.waits.iter().min_by_key(|(_, wait)| wait.due());
            let Some((&id, &wait)) = earliest else { return Poll::Pending };
            let now = self.system.now();
            if wait.due() > now {
                let left = wait.due().saturating_sub(now);
                self.armed = Some((wait.due(), self.system.runtime().timer(left)));
                continue;
            }
            self.clear(id);
            let took = now.saturating_sub(wait.began);
            if wait.graced || wait.after.is_zero() || took <= wait.after.saturating_mul(SUSPENDED) {
                return Poll::Ready(id);
            }
            self.system.report(Report::Suspended { asked: wait.after, took });
            self.insert(id, Wait { began: now, after: wait.after, graced: true });
        }
    }

    fn insert(&mut self, id: TimerId, wait: Wait) {
        self.armed.take_if(|(due, _)| *due > wait.due());
        self.waits.insert(id, wait);
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
