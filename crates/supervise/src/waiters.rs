//! The wakers of everyone who waits for one thing; used wherever one event wakes many.

use std::{cell::RefCell, num::NonZeroU32, task::Waker};

/// Which waiter, of one thing.
pub(crate) type Key = NonZeroU32;

/// Wakers under keys, so that a waiter that gives up takes its own away and nothing piles up. Small, since there are
/// two for each process: giving up goes through all who wait, of whom there are few.
#[derive(Default)]
pub(crate) struct Waiters(RefCell<Wakers>);

#[derive(Default)]
struct Wakers {
    last: u32,
    /// In the order in which they came.
    waiting: Vec<(Key, Waker)>,
}

impl Waiters {
    /// Remembers the waker of a waiter, in place of its former one.
    pub(crate) fn wait(&self, key: &mut Option<Key>, waker: &Waker) {
        let Wakers { last, waiting } = &mut *self.0.borrow_mut();
        if let Some((_, known)) = waiting.iter_mut().find(|(known, _)| Some(*known) == *key) {
            return known.clone_from(waker);
        }
        // After four thousand million waits the numbers begin anew; by then the first have gone.
        let new = Key::new(last.wrapping_add(1)).unwrap_or(Key::MIN);
        (*last, *key) = (new.get(), Some(new));
        if waiting.is_empty() {
            // One waiter is the rule.
            waiting.reserve_exact(1);
        }
        waiting.push((new, waker.clone()));
    }

    /// Forgets a waiter that no longer waits.
    pub(crate) fn leave(&self, key: Option<Key>) {
        let waiting = &mut self.0.borrow_mut().waiting;
        if let Some(at) = waiting.iter().position(|(known, _)| Some(*known) == key) {
            waiting.remove(at);
        }
    }

    /// Wakes everybody, in the order in which they came.
    pub(crate) fn wake_all(&self) {
        let woken = std::mem::take(&mut self.0.borrow_mut().waiting);
        // Not borrowed here: a waker may run code that waits again.
        for (_, waker) in woken {
            waker.wake();
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.0.borrow().waiting.len()
    }
}
