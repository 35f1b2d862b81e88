//! What few processes have, kept apart: there are many that have none of it.

use std::{
    borrow::Cow,
    rc::{Rc, Weak},
    time::Duration,
};

use super::Process;
use crate::{
    exit::{Exit, PanicInfo},
    pid::Pid,
    shell::Shell,
    tree::Node,
};

#[derive(Default)]
pub(super) struct Rare {
    /// An exit that was ordered while it was busy.
    pub(super) ordered: Option<Exit>,
    pub(super) waiting: Option<Wait>,
    /// The panic for which the work is being dropped.
    pub(super) crash: Option<Rc<PanicInfo>>,
    /// Queues shown in the tree.
    pub(super) queues: Vec<(&'static str, Length)>,
    /// What is to be undone when it ends.
    pub(super) at_end: Vec<Box<dyn FnOnce()>>,
    /// Processes that share its fate.
    pub(super) links: Vec<Pid>,
    /// Knows the children that don't run, if this is a supervisor.
    pub(super) keeper: Option<Weak<Shell>>,
}

/// What somebody waits for, and since when.
pub(crate) type Wait = (Cow<'static, str>, Duration);

/// Gives the length of a queue.
type Length = Box<dyn Fn() -> usize>;

impl Process {
    pub(crate) fn set_waiting(&self, waiting: Option<Wait>) -> Option<Wait> {
        let former = self.rare(|rare| std::mem::replace(&mut rare.waiting, waiting));
        self.system.changed();
        former
    }

    pub(crate) fn waiting(&self) -> Option<Wait> {
        self.rare.borrow().as_ref().and_then(|rare| rare.waiting.clone())
    }

    pub(crate) fn show_queue(&self, name: &'static str, length: Length) {
        self.rare(|rare| rare.queues.push((name, length)));
    }

    pub(crate) fn queues(&self) -> Vec<(&'static str, usize)> {
        let mut queues = Vec::new();
        if let Some(rare) = &*self.rare.borrow() {
            for (name, length) in &rare.queues {
                queues.push((*name, length()));
            }
        }
        queues
    }

    /// Has this called when it ends, before anybody hears of it.
    pub(crate) fn at_end(&self, undo: Box<dyn FnOnce()>) {
        self.rare(|rare| rare.at_end.push(undo));
    }

    pub(crate) fn set_keeper(&self, keeper: Weak<Shell>) {
        self.rare(|rare| rare.keeper = Some(keeper));
    }

    pub(crate) fn absent_children(&self) -> Vec<Node> {
        let keeper = self.rare.borrow().as_ref().and_then(|rare| rare.keeper.as_ref()?.upgrade());
        keeper.map_or_else(Vec::new, |keeper| keeper.absent())
    }

    /// The names from the root of the tree down to it, with a `/` between.
    #[cfg(feature = "fault-injection")]
    pub(crate) fn path(&self) -> String {
        let processes = self.system.processes();
        let above = self.parent.and_then(|parent| processes.iter().find(|process| process.id == parent));
        above.map_or_else(|| self.name.to_string(), |above| format!("{}/{}", above.path(), self.name))
    }

    pub(super) fn rare<T>(&self, change: impl FnOnce(&mut Rare) -> T) -> T {
        change(self.rare.borrow_mut().get_or_insert_default())
    }

    /// The exit that was ordered while it was busy.
    pub(super) fn ordered(&self) -> Option<Exit> {
        self.rare.borrow_mut().as_mut().and_then(|rare| rare.ordered.take())
    }

    /// The panic for which its work is being dropped.
    pub(crate) fn crash(&self) -> Option<Rc<PanicInfo>> {
        self.rare.borrow().as_ref().and_then(|rare| rare.crash.clone())
    }

    /// Binds two fates: a crash of one ends the other with the same exit. A graceful end does not.
    pub(crate) fn link(one: &Rc<Self>, other: &Rc<Self>) {
        if let Some(exit) = one.exit_reason() {
            if !exit.is_graceful() {
                other.kill(exit);
            }
            return;
        }
        one.rare(|rare| rare.links.push(Pid(other.clone())));
        other.rare(|rare| rare.links.push(Pid(one.clone())));
    }
}

#[cfg(test)]
mod tests {
    use crate::{system::System, tasks::TaskSupervisor, virtual_time::VirtualTime};

    #[test]
    fn a_process_forgets_the_tasks_that_it_was_linked_to() {
        let world = VirtualTime::new(0);
        let system = System::new(world.runtime());
        let tasks = TaskSupervisor::new("tasks");
        world.block_on(tasks.start(&system)).expect("it starts");
        let inner = tasks.clone();
        let left = tasks.spawn("caller", move |ctx| async move {
            for _ in 0..10 {
                inner.spawn("linked", |_| async {}).await.expect("it ends well");
            }
            ctx.0.rare(|rare| rare.links.len())
        });
        assert_eq!(world.block_on(left), Ok(0));
    }
}
