//! Who asked for whom: what an exit says beside the place of a panic.

use std::rc::Rc;

use crate::process::Process;

/// The names of a process's spawners, innermost first.
pub(crate) struct Callers {
    name: Rc<str>,
    outer: Option<Rc<Callers>>,
}

impl Callers {
    /// The process that is being polled, and its callers.
    pub(crate) fn now() -> Option<Rc<Self>> {
        Process::current().map(|caller| Self::of(&caller))
    }

    /// A process, and its callers.
    pub(crate) fn of(caller: &Process) -> Rc<Self> {
        Rc::new(Self { name: caller.name.clone(), outer: caller.callers.clone() })
    }
}

impl Process {
    /// The names of its callers.
    pub(crate) fn callers(&self) -> Vec<Rc<str>> {
        let mut names = self.and_callers();
        names.remove(0);
        names
    }

    /// Its own name, and those of its callers.
    pub(crate) fn and_callers(&self) -> Vec<Rc<str>> {
        let mut names = vec![self.name.clone()];
        let mut next = self.callers.as_ref();
        while let Some(caller) = next {
            names.push(caller.name.clone());
            next = caller.outer.as_ref();
        }
        names
    }
}
