//! What all trees on one thread share: the runtime, the register of live processes, and those who listen.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use crate::{
    map::Map, names::Names, panics, process::Process, report::Report, runtime::Runtime, waiters::Waiters,
};

/// The ground on which supervision trees stand. Clones are the same system; one for a page or a thread is usual.
#[derive(Clone)]
pub struct System(Rc<Inner>);

struct Inner {
    runtime: Rc<dyn Runtime>,
    last_id: Cell<u64>,
    live: Cell<usize>,
    processes: RefCell<Map<Rc<Process>>>,
    slow_poll: Cell<Option<Duration>>,
    listeners: RefCell<Vec<Listener>>,
    names: Names,
    /// Counts changes of the tree, from 1: a listener has seen 0.
    version: Cell<u64>,
    watchers: Waiters,
}

type Listener = Rc<dyn Fn(&Report)>;

/// Polls that take longer are reported: three frames of a page that draws 60 of them a second.
const SLOW_POLL: Duration = Duration::from_millis(50);

impl System {
    /// A system on this runtime. Sets the panic hook (see [`install_hook`](crate::install_panic_hook)).
    pub fn new(runtime: Rc<dyn Runtime>) -> Self {
        panics::install_hook();
        Self(Rc::new(Inner {
            runtime,
            last_id: Cell::new(0),
            live: Cell::new(0),
            processes: RefCell::default(),
            slow_poll: Cell::new(Some(SLOW_POLL)),
            listeners: RefCell::default(),
            names: Names::default(),
            version: Cell::new(1),
            watchers: Waiters::default(),
        }))
    }

    /// The runtime given to [`new`](Self::new).
    pub fn runtime(&self) -> &Rc<dyn Runtime> {
        &self.0.runtime
    }

    /// The runtime's clock.
    pub fn now(&self) -> Duration {
        self.0.runtime.now()
    }

    /// How many futures that this system started have not been dropped yet.
    pub fn live(&self) -> usize {
        self.0.live.get()
    }

    /// The names of its parts.
    pub fn names(&self) -> &Names {
        &self.0.names
    }

    /// From which length on a poll is reported; `None` spares the two readings of the clock for each poll.
    pub fn report_polls_over(&self, limit: Option<Duration>) {
        self.0.slow_poll.set(limit);
    }

    /// Calls `listener` with every report, as long as the system lives. It is called from the midst of things:
    /// it should note and return.
    pub fn on_report(&self, listener: impl Fn(&Report) + 'static) {
        self.0.listeners.borrow_mut().push(Rc::new(listener));
    }

    /// Checks that every live future belongs to a process of the tree, and every process to one future.
    ///
    /// # Panics
    ///
    /// When the two counts differ: something was started or forgotten behind the tree's back.
    pub fn assert_accounted(&self) {
        let processes = self.0.processes.borrow().len();
        assert_eq!(self.live(), processes, "live futures and processes of the tree differ");
    }

    pub(crate) fn report(&self, report: Report) {
        let mut told = 0;
        while let Some(listener) = self.listener(told) {
            told += 1;
            // A listener's panic is its own affair: reporting it would call it again.
            let _ = panics::catch(|| listener(&report));
        }
    }

    /// Not borrowed while it listens: it may bring another one.
    fn listener(&self, nth: usize) -> Option<Listener> {
        self.0.listeners.borrow().get(nth).cloned()
    }

    pub(crate) fn slow_poll(&self) -> Option<Duration> {
        self.0.slow_poll.get()
    }

    pub(crate) fn next_id(&self) -> u64 {
        let id = self.0.last_id.get() + 1;
        self.0.last_id.set(id);
        id
    }

    pub(crate) fn count_future(&self, started: bool) {
        let live = self.0.live.get();
        self.0.live.set(if started { live + 1 } else { live - 1 });
    }

    pub(crate) fn register(&self, process: &Rc<Process>) {
        self.0.processes.borrow_mut().push(process.id, process.clone());
        self.changed();
    }

    pub(crate) fn unregister(&self, process: &Rc<Process>) {
        self.0.processes.borrow_mut().remove(process.id);
        self.changed();
    }

    pub(crate) fn processes(&self) -> Vec<Rc<Process>> {
        let mut processes = Vec::new();
        for process in self.0.processes.borrow().values() {
            processes.push(process.clone());
        }
        processes
    }

    /// Something of the tree is not what it was.
    pub(crate) fn changed(&self) {
        self.0.version.set(self.0.version.get() + 1);
        self.0.watchers.wake_all();
    }

    pub(crate) fn version(&self) -> u64 {
        self.0.version.get()
    }

    pub(crate) fn watchers(&self) -> &Waiters {
        &self.0.watchers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::virtual_time::VirtualTime;

    #[test]
    #[should_panic(expected = "live futures and processes of the tree differ")]
    fn a_future_behind_the_trees_back_is_found() {
        let system = System::new(VirtualTime::new(0).runtime());
        system.count_future(true);
        system.assert_accounted();
    }
}
