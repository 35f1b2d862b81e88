//! Lets one through at a time: whoever comes meanwhile waits.

use std::cell::{Cell, RefCell};

use tinkex_supervise::{Reply, reply};

#[derive(Default)]
pub struct Gate {
    taken: Cell<bool>,
    waiting: RefCell<Vec<Reply<()>>>,
}

/// Whoever holds it is through; the next may pass when it is dropped.
pub struct Through<'a>(&'a Gate);

impl Gate {
    pub async fn pass(&self) -> Through<'_> {
        while self.taken.replace(true) {
            let (reply, free) = reply();
            self.waiting.borrow_mut().push(reply);
            // Never answered, only dropped: all look again then, in their order, since any of them may have gone away.
            let _ = free.await;
        }
        Through(self)
    }
}

impl Drop for Through<'_> {
    fn drop(&mut self) {
        self.0.taken.set(false);
        drop(self.0.waiting.take());
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use futures_util::FutureExt;
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
