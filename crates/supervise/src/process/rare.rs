//! What few processes have, kept apart: there are many that have none of it.

use std::{borrow::Cow, rc::Rc, time::Duration};

use super::{Keeper, Process};
use crate::{exit::Exit, tree::Node};

#[derive(Default)]
pub(super) struct Rare {
    /// An exit that was ordered while it was busy.
    pub(super) ordered: Option<Exit>,
    pub(super) waiting: Option<Wait>,
    /// Queues shown in the tree.
    pub(super) queues: Vec<(&'static str, Length)>,
    /// What is to be done when it has ended.
    pub(super) at_end: Vec<AtEnd>,
}

pub(super) struct AtEnd {
    /// The process that it is of, if that may end before.
    of: Option<u64>,
    pub(super) does: Box<dyn FnOnce(&Exit)>,
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
        let mut queues = self.keeper.get().map_or_else(Vec::new, Keeper::queues);
        if let Some(rare) = &*self.rare.borrow() {
            for (name, length) in &rare.queues {
                queues.push((*name, length()));
            }
        }
        queues
    }

    /// Has this called when it has ended, before anybody who watches it hears of that.
    pub(crate) fn at_end(&self, of: Option<u64>, does: Box<dyn FnOnce(&Exit)>) {
        self.rare(|rare| rare.at_end.push(AtEnd { of, does }));
    }

    pub(crate) fn set_keeper(&self, keeper: Keeper) {
        // A process is one supervisor.
        let _ = self.keeper.set(keeper);
    }

    pub(crate) fn absent_children(&self) -> Vec<Node> {
        self.keeper.get().map_or_else(Vec::new, Keeper::absent)
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

    /// Binds two fates: a crash of one ends the other with the same exit. A graceful end does not.
    pub(crate) fn link(one: &Rc<Self>, other: &Rc<Self>) {
        if let Some(exit) = one.exit_reason() {
            if !exit.is_graceful() {
                other.kill(exit);
            }
            return;
        }
        for (one, other) in [(one, other), (other, one)] {
            let (id, linked) = (one.id, other.clone());
            let end = Box::new(move |exit: &Exit| {
                linked.rare(|rare| rare.at_end.retain(|last| last.of != Some(id)));
                if !exit.is_graceful() {
                    linked.kill(exit.clone());
                }
            });
            one.at_end(Some(other.id), end);
        }
    }
}

impl Keeper {
    /// The lengths of the supervisor's own queues.
    fn queues(&self) -> Vec<(&'static str, usize)> {
        match self {
            Self::Children(shell) => shell.upgrade().map(|shell| vec![("events", shell.events())]),
            Self::Tasks(tasks) => tasks.upgrade().map(|tasks| tasks.queues().into()),
        }
        .unwrap_or_default()
    }

    /// The children that don't run.
    fn absent(&self) -> Vec<Node> {
        match self {
            Self::Children(shell) => shell.upgrade().map_or_else(Vec::new, |shell| shell.absent()),
            Self::Tasks(_) => Vec::new(),
        }
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
            ctx.0.rare(|rare| rare.at_end.len())
        });
        assert_eq!(world.block_on(left), Ok(0));
    }
}
