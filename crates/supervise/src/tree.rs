//! The tree as it is now, and what changes in it: for a console, a log, or a test.

use std::{future::poll_fn, rc::Rc, task::Poll, time::Duration};

use crate::{
    exit::Exit,
    panics::destructor,
    pid::{Kind, State},
    process::Process,
    system::System,
    waiters::Key,
};

/// One process of the tree, or a child that doesn't run just now.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The number of its latest start; no other node has it.
    pub id: u64,
    /// The node of its supervisor; `None` for a root. A parent's number is smaller than its children's.
    pub parent: Option<u64>,
    /// The id of a child, the name of a task.
    pub name: Rc<str>,
    /// What it is.
    pub kind: Kind,
    /// How far it is.
    pub state: State,
    /// How often it was restarted.
    pub restarts: u32,
    /// When this start was, on the system's clock: `system.now() - started` is the uptime.
    pub started: Duration,
    /// What it says it waits for, and since when on the system's clock.
    pub waits: Option<(Rc<str>, Duration)>,
    /// The lengths of its queues, by name.
    pub queues: Vec<(&'static str, usize)>,
}

/// What happened to a node.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// It is new, or something of it is: this is all of it.
    Set(Node),
    /// It is gone. The exit is known if the process was seen to end since the last call.
    Gone {
        /// Which node.
        id: u64,
        /// Why it ended.
        exit: Option<Exit>,
    },
}

/// The changes of a tree, for one listener: see [`System::changes`].
///
/// It is told as late as it asks, and then all at once: however much happens between two calls, it keeps one line for
/// each node that it knows. The length of a queue is told with the next change of any other kind.
pub struct Changes {
    system: System,
    seen: u64,
    key: Option<Key>,
    known: Vec<Row>,
}

/// A node, and its process if that runs.
type Row = (Node, Option<Rc<Process>>);

/// Where a node is among rows in the order of their ids, or where it would be.
fn place(rows: &[Row], id: u64) -> Result<usize, usize> {
    rows.binary_search_by_key(&id, |(node, _)| node.id)
}

fn add(rows: &mut Vec<Row>, row: Row) {
    match place(rows, row.0.id) {
        Ok(at) => rows[at] = row,
        Err(at) => rows.insert(at, row),
    }
}

impl System {
    /// All processes, and the children that don't run just now, each after its supervisor.
    pub fn snapshot(&self) -> Vec<Node> {
        let mut nodes = Vec::new();
        for (node, _) in self.rows() {
            nodes.push(node);
        }
        nodes
    }

    /// What changes from now on; the first call gives everything that there is.
    pub fn changes(&self) -> Changes {
        Changes { system: self.clone(), seen: 0, key: None, known: Vec::new() }
    }

    /// In the order of their ids.
    fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for process in self.processes() {
            for node in process.absent_children() {
                add(&mut rows, (node, None));
            }
            let node = Node::of(&process, process.state());
            add(&mut rows, (node, Some(process)));
        }
        rows
    }
}

impl Node {
    pub(crate) fn of(process: &Process, state: State) -> Self {
        Self {
            id: process.id,
            parent: process.parent,
            name: process.name.clone(),
            kind: process.kind,
            state,
            restarts: process.restarts,
            started: process.started,
            waits: process.waiting().map(|(what, since)| (what.into(), since)),
            queues: process.queues(),
        }
    }
}

impl Changes {
    /// Waits until something has changed since the last call, and gives it, parents first. Never empty.
    pub async fn next(&mut self) -> Vec<Change> {
        loop {
            self.due().await;
            let changes = self.take();
            if !changes.is_empty() {
                return changes;
            }
        }
    }

    /// Waits until there may be something to [`take`](Self::take), which counts as taken: for a listener who then looks at
    /// the whole tree.
    pub async fn due(&mut self) {
        poll_fn(|cx| {
            let version = self.system.version();
            if version != self.seen {
                self.seen = version;
                self.system.watchers().leave(self.key.take());
                return Poll::Ready(());
            }
            self.system.watchers().wait(&mut self.key, cx.waker());
            Poll::Pending
        })
        .await;
    }

    /// What has changed since the last call, if anything.
    pub fn take(&mut self) -> Vec<Change> {
        self.seen = self.system.version();
        let rows = self.system.rows();
        let mut changes = Vec::new();
        for (Node { id, .. }, process) in &self.known {
            if place(&rows, *id).is_err() {
                let exit = process.as_ref().and_then(|process| process.exit_reason());
                changes.push(Change::Gone { id: *id, exit });
            }
        }
        for (node, _) in &rows {
            if !place(&self.known, node.id).is_ok_and(|at| self.known[at].0 == *node) {
                changes.push(Change::Set(node.clone()));
            }
        }
        self.known = rows;
        changes
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        destructor(&mut || self.system.watchers().leave(self.key));
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::Future,
        pin::pin,
        task::{Context, Waker},
    };

    use super::*;
    use crate::virtual_time::VirtualTime;

    #[test]
    fn a_listener_that_goes_leaves_nothing() {
        let system = System::new(VirtualTime::new(0).runtime());
        let mut changes = system.changes();
        changes.take();
        let waits = pin!(changes.next()).poll(&mut Context::from_waker(Waker::noop())).is_pending();
        assert!(waits);
        assert_eq!(system.watchers().len(), 1);
        drop(changes);
        assert_eq!(system.watchers().len(), 0);
    }
}
