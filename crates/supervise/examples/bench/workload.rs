//! What is measured: the same work on any runtime, supervised and plain. Nothing here knows which clock or allocator
//! the measuring is done with, so that a browser's bench can share it.

use std::{rc::Rc, time::Duration};

use tinkex_supervise::{
    CancelToken, ChildSpec, DynamicSupervisor, Exit, Pid, Restart, Runtime, Supervisor, System,
};

/// A child that does nothing until it is asked to stop.
fn idle(id: impl Into<Rc<str>>) -> ChildSpec {
    ChildSpec::new(id, |ctx| async move {
        ctx.ready();
        ctx.shutdown().await;
    })
}

/// A dynamic supervisor on a system of its own.
pub struct Family {
    pub system: System,
    pub supervisor: DynamicSupervisor,
}

impl Family {
    /// Started, when the runtime has run.
    pub fn new(runtime: Rc<dyn Runtime>) -> Self {
        let system = System::new(runtime);
        let supervisor = DynamicSupervisor::new("bench").intensity(u32::MAX, Duration::from_secs(1));
        drop(supervisor.start(&system));
        Self { system, supervisor }
    }

    /// Asks for so many idle children; they are there when the runtime has run.
    pub fn grow(&self, children: usize) {
        for _ in 0..children {
            drop(self.supervisor.start_child(idle("child").restart(Restart::Temporary)));
        }
    }

    /// Asks for one child that is restarted whenever it ends.
    pub fn grow_permanent(&self) {
        drop(self.supervisor.start_child(idle("child")));
    }

    /// Ends the child by a crash; it is there again when the runtime has run.
    pub fn crash(&self, exit: Exit) {
        let child = self.supervisor.which_children().into_iter().find_map(|child| child.pid);
        child.expect("there is a child").kill(exit);
    }

    /// Asks all to stop; they have when the runtime has run.
    pub fn stop(&self) -> Pid {
        let pid = self.supervisor.pid().expect("it was started");
        pid.ask_to_stop();
        pid
    }
}

/// A supervisor whose children stand in an order, on a system of its own. Started, when the runtime has run.
pub fn ordered(runtime: Rc<dyn Runtime>) -> Supervisor {
    let supervisor = Supervisor::new("bench");
    drop(supervisor.start(&System::new(runtime)));
    supervisor
}

/// Asks it for so many idle children; they are there when the runtime has run.
pub fn grow_ordered(supervisor: &Supervisor, children: usize) {
    for nth in 0..children {
        drop(supervisor.start_child(idle(format!("child {nth:06}"))));
    }
}

/// The same without supervision: futures that wait for one signal, which is the least that can be stopped at all.
pub fn plain(runtime: &Rc<dyn Runtime>, children: usize) -> CancelToken {
    let stop = CancelToken::new();
    for _ in 0..children {
        let stop = stop.clone();
        runtime.spawn(Box::pin(async move { stop.cancelled().await }));
    }
    stop
}
