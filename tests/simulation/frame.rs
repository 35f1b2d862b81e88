//! What every page of a world is made of: an instance that may die, what that has begun on the disk, and the page's end.

use std::cell::RefCell;
use std::rc::Rc;

use tinkex_supervise::{Answer, Reply, reply};

use crate::around::Around;
use crate::disk::Connection;
use crate::instance::Instance;
use crate::tally::Tally;

pub struct Frame {
    pub connection: Rc<Connection>,
    instance: RefCell<Option<Instance>>,
    /// None once the page is closed.
    closing: RefCell<Option<Reply<()>>>,
}

impl Frame {
    /// One that is open, and the news that it is killed.
    pub fn new() -> (Frame, Answer<()>) {
        let (closing, closed) = reply();
        let frame = Frame {
            connection: Rc::default(),
            instance: RefCell::default(),
            closing: RefCell::new(Some(closing)),
        };
        (frame, closed)
    }

    pub fn is_open(&self) -> bool {
        self.closing.borrow().is_some()
    }

    /// The page is through by itself.
    pub fn close(&self) {
        self.closing.take();
    }

    /// Its instance from now on.
    pub fn hold(&self, instance: &Instance) {
        self.instance.replace(Some(instance.clone()));
    }

    pub fn living_instance(&self) -> Option<Instance> {
        self.instance.borrow().clone().filter(Instance::is_alive)
    }

    /// At the end of the world.
    pub fn forget(&self) {
        self.instance.take();
    }

    /// Kills its instance after so many polls.
    pub fn trap(&self, polls: u64) {
        if let Some(instance) = &*self.instance.borrow() {
            instance.die_after(polls);
        }
    }

    /// Its instance has died.
    pub fn bereaved(&self, tally: &Tally) {
        tally.fault("instance: dies");
        if self.connection.has_waiting() {
            tally.fault("instance: dies with a commit under way");
        }
    }

    /// Kills the page, with all that it holds; false where it was closed before.
    pub fn kill(&self, Around { tally, dice, .. }: &Around) -> bool {
        let Some(closing) = self.closing.take() else { return false };
        self.trap(0);
        tally.fault("page: is killed");
        if self.connection.has_waiting() {
            tally.fault("page: is killed with a commit under way");
        }
        self.connection.cut(dice.roll(self.connection.waiting() as u64 + 1) as usize);
        let _ = closing.send(());
        true
    }
}
