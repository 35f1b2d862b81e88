//! One instance of the client. It dies between any two polls of its futures: from then on none of them is polled again, and
//! nothing that it asks for is done.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use tinkex::platform::{HttpFailure, HttpRequest, HttpResponse, Level, Platform};
use tinkex_supervise::{Answer, Reply, Runtime, reply};

use crate::dice::Dice;
use crate::network::Network;

/// Clones are the same instance.
#[derive(Clone)]
pub struct Instance(Rc<Inner>);

struct Inner {
    runtime: Rc<dyn Runtime>,
    network: Network,
    dice: Rc<Dice>,
    alive: Cell<bool>,
    /// Under which it holds its session.
    epoch: Rc<Cell<u64>>,
    /// After so many polls it dies.
    polls_left: Cell<Option<u64>>,
    /// Its tasks, to be called in when it dies.
    wakers: RefCell<Vec<Waker>>,
    /// What was left of them. Not dropped before the end of the world: a dead instance runs no destructors.
    left: RefCell<Vec<LocalBoxFuture<'static, ()>>>,
    died: RefCell<Option<Reply<()>>>,
}

impl Instance {
    /// A living one, and the news of its death.
    pub fn new(runtime: Rc<dyn Runtime>, network: Network, dice: Rc<Dice>) -> (Instance, Answer<()>) {
        let (died, death) = reply();
        let instance = Instance(Rc::new(Inner {
            runtime,
            network,
            dice,
            alive: Cell::new(true),
            epoch: Rc::default(),
            polls_left: Cell::new(None),
            wakers: RefCell::default(),
            left: RefCell::default(),
            died: RefCell::new(Some(died)),
        }));
        (instance, death)
    }

    pub fn is_alive(&self) -> bool {
        self.0.alive.get()
    }

    pub fn epoch(&self) -> Rc<Cell<u64>> {
        self.0.epoch.clone()
    }

    /// Lets it die after so many more polls, or now.
    pub fn die_after(&self, polls: u64) {
        match polls {
            0 => self.die(),
            _ => self.0.polls_left.set(Some(polls)),
        }
    }

    pub fn die(&self) {
        if self.0.alive.replace(false) {
            self.0.wakers.take().into_iter().for_each(Waker::wake);
            if let Some(died) = self.0.died.take() {
                let _ = died.send(());
            }
        }
    }

    /// Runs a future inside of it; the answer never comes once it is dead.
    pub fn run<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> Answer<T> {
        let (sender, answer) = reply();
        self.spawn(future.map(|value| drop(sender.send(value))).boxed_local());
        answer
    }

    /// At the end of the world: what was left of it goes.
    pub fn bury(&self) {
        assert!(!self.is_alive());
        while let Some(future) = { self.0.left.borrow_mut().pop() } {
            drop(future);
        }
    }
}

/// A task of an instance.
struct Mortal {
    instance: Instance,
    future: Option<LocalBoxFuture<'static, ()>>,
}

impl Future for Mortal {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let instance = self.instance.clone();
        if instance.is_alive() {
            let Some(future) = &mut self.future else { return Poll::Ready(()) };
            if future.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let polls_left = instance.0.polls_left.get().map(|polls| polls - 1);
            instance.0.polls_left.set(polls_left);
            if polls_left == Some(0) {
                instance.die();
            }
        }
        if instance.is_alive() {
            let mut wakers = instance.0.wakers.borrow_mut();
            if !wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
                wakers.push(cx.waker().clone());
            }
            return Poll::Pending;
        }
        instance.0.left.borrow_mut().extend(self.future.take());
        Poll::Ready(())
    }
}

impl Runtime for Instance {
    fn now(&self) -> Duration {
        self.0.runtime.now()
    }

    fn timer(&self, after: Duration) -> LocalBoxFuture<'static, ()> {
        match self.is_alive() {
            true => self.0.runtime.timer(after),
            false => futures_util::future::pending().boxed_local(),
        }
    }

    fn spawn(&self, future: LocalBoxFuture<'static, ()>) {
        match self.is_alive() {
            true => {
                self.0.runtime.spawn(Mortal { instance: self.clone(), future: Some(future) }.boxed_local())
            }
            false => self.0.left.borrow_mut().push(future),
        }
    }
}

impl Platform for Instance {
    fn http(&self, request: HttpRequest) -> LocalBoxFuture<'static, Result<HttpResponse, HttpFailure>> {
        match self.is_alive() {
            true => self.0.network.send(request, self.0.epoch.get()),
            false => futures_util::future::pending().boxed_local(),
        }
    }

    fn random(&self) -> u64 {
        self.0.dice.bits()
    }

    fn unix_time(&self) -> Duration {
        self.0.runtime.now()
    }

    fn log(&self, _: Level, _: &str) {}
}
