//! Lets one through at a time: whoever comes meanwhile waits.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use tinkex_supervise::{Answer, Reply, destructor, reply};

#[derive(Default)]
pub struct Gate {
    taken: Cell<bool>,
    waiting: RefCell<Vec<Reply<()>>>,
}

/// Whoever holds it is through; the next may pass when it is dropped.
pub struct Through<'a>(&'a Gate);

pub struct Passing<'a> {
    gate: &'a Gate,
    /// Never answered, only dropped: all look again then, in their order, since any of them may have gone away.
    free: Option<Answer<()>>,
}

impl Gate {
    pub fn pass(&self) -> Passing<'_> {
        Passing { gate: self, free: None }
    }
}

impl<'a> Future for Passing<'a> {
    type Output = Through<'a>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context) -> Poll<Through<'a>> {
        loop {
            if self.free.as_mut().is_some_and(|free| free.poll_unpin(cx).is_pending()) {
                return Poll::Pending;
            }
            if !self.gate.taken.replace(true) {
                return Poll::Ready(Through(self.gate));
            }
            let (reply, free) = reply();
            self.gate.waiting.borrow_mut().push(reply);
            self.free = Some(free);
        }
    }
}

impl Drop for Through<'_> {
    fn drop(&mut self) {
        destructor(&mut || {
            self.0.taken.set(false);
            drop(self.0.waiting.take());
        });
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use tinkex_supervise::virtual_time::VirtualTime;

    use super::*;

    #[test]
    fn each_passes_in_its_turn_also_behind_one_that_went_away() {
        let world = VirtualTime::new(0);
        let gate = Rc::new(Gate::default());
        let passed = Rc::new(RefCell::new(Vec::new()));
        let first = gate.pass().now_or_never().expect("nobody is before it");
        for name in ["second", "third"] {
            let (gate, passed) = (gate.clone(), passed.clone());
            world.runtime().spawn(Box::pin(async move {
                let _through = gate.pass().await;
                passed.borrow_mut().push(name);
            }));
        }
        world.run_until_stalled();
        assert!(gate.pass().now_or_never().is_none(), "it waited, and went away");
        drop(first);
        world.run_until_stalled();
        assert_eq!(*passed.borrow(), ["second", "third"]);
        assert!(gate.pass().now_or_never().is_some());
    }
}
