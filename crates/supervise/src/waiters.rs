//! The wakers of everyone who waits for one thing; used wherever one event wakes many.

use std::{cell::RefCell, task::Waker};

use crate::map::Map;

/// Wakers under keys, so that a waiter that gives up takes its own away and nothing piles up.
#[derive(Default)]
pub(crate) struct Waiters(RefCell<Wakers>);

#[derive(Default)]
struct Wakers {
    last: u64,
    by_key: Map<u64, Waker>,
}

impl Waiters {
    /// Remembers the waker of a waiter, in place of its former one.
    pub(crate) fn wait(&self, key: &mut Option<u64>, waker: &Waker) {
        let mut wakers = self.0.borrow_mut();
        let key = *key.get_or_insert_with(|| {
            wakers.last += 1;
            wakers.last
        });
        match wakers.by_key.get_mut(&key) {
            Some(known) => known.clone_from(waker),
            None => {
                if wakers.by_key.is_empty() {
                    // One waiter is the rule, and there are as many of these as there are processes.
                    wakers.by_key = Map::with_capacity(1);
                }
                wakers.by_key.insert(key, waker.clone());
            }
        }
    }

    /// Forgets a waiter that no longer waits.
    pub(crate) fn leave(&self, key: Option<u64>) {
        if let Some(key) = key {
            self.0.borrow_mut().by_key.remove(&key);
        }
    }

    /// Wakes everybody, in the order in which they came.
    pub(crate) fn wake_all(&self) {
        let woken = std::mem::take(&mut self.0.borrow_mut().by_key);
        // Not borrowed here: a waker may run code that waits again.
        woken.into_values().for_each(Waker::wake);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.borrow().by_key.len()
    }
}
