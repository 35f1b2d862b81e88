//! The network beneath all requests, as the page knows it: whether there is one, what the last try came to, and the waits for
//! a next try, which end when something about it has changed.

use std::cell::{Cell, RefCell};

use futures_util::FutureExt;
use futures_util::future::{LocalBoxFuture, select};
use tinkex_supervise::{CancelToken, CancelledFuture};

/// What a wait for the next try is for, while the page says that there is no network. Tries are made all the same: what a
/// page knows of it is a guess, and a server on its own machine is there without one.
const OFFLINE: &str = "the network, as this device is offline";

#[derive(Default)]
pub struct Network {
    offline: Cell<bool>,
    /// Given, and replaced, when it is time to try again.
    changed: RefCell<CancelToken>,
    /// Why the last try had no answer, in words; empty where it had one.
    trouble: RefCell<String>,
    /// Given, and replaced, when that is another.
    noted: RefCell<CancelToken>,
}

impl Network {
    /// What a wait for a next try is shown as: `why`, or that there is no network.
    pub fn or_absent(&self, why: &'static str) -> &'static str {
        if self.offline.get() { OFFLINE } else { why }
    }

    /// Resolves with the timer, or when the network has changed.
    pub fn until_changed(&self, timer: LocalBoxFuture<'static, ()>) -> LocalBoxFuture<'static, ()> {
        select(timer, self.changed.borrow().cancelled()).map(drop).boxed_local()
    }

    /// The page is back, or its network has come or gone: all waits end now, and find out by a try how things are.
    pub fn change(&self, online: bool) {
        self.offline.set(!online);
        self.changed.take().cancel();
    }

    pub fn trouble(&self) -> String {
        self.trouble.borrow().clone()
    }

    /// What a try has come to.
    pub fn note(&self, trouble: String) {
        if self.trouble.replace(trouble) != *self.trouble.borrow() {
            self.noted.take().cancel();
        }
    }

    /// Resolves when [`trouble`](Self::trouble) is another.
    pub fn until_noted(&self) -> CancelledFuture {
        self.noted.borrow().cancelled()
    }
}
