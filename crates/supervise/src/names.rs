//! Names under which the parts of a tree find each other; a name is free again when its owner ends.

use std::{any::Any, cell::RefCell, fmt, rc::Rc};

use crate::pid::Pid;

/// The names of a [`System`](crate::System). What is found under a name is whatever its owner put there: an address,
/// a handle, a store.
///
/// A part that is restarted registers anew, with the same name; so ask for a name when it is needed, and don't keep
/// what it gave.
///
/// ```
/// # use tinkex_supervise::{*, virtual_time::VirtualTime};
/// # let world = VirtualTime::new(0);
/// # let system = System::new(world.runtime());
/// let root = Supervisor::new("root").with(ChildSpec::new("store", |ctx| async move {
///     ctx.register("store", 7_u32)?;
///     ctx.ready();
///     ctx.shutdown().await;
///     Ok::<_, Exit>(())
/// }));
/// # world.block_on(async {
/// root.start(&system).await?;
/// assert_eq!(system.names().find::<u32>("store"), Some(7));
/// root.stop().await;
/// assert_eq!(system.names().find::<u32>("store"), None);
/// # Ok::<_, ChildError>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Default)]
pub struct Names(Rc<RefCell<Vec<Entry>>>);

/// They stand in the order of their names.
struct Entry {
    name: Rc<str>,
    owner: Pid,
    value: Rc<dyn Any>,
}

/// Where a name is, or where it would be.
fn place(entries: &[Entry], name: &str) -> Result<usize, usize> {
    entries.binary_search_by(|entry| (*entry.name).cmp(name))
}

/// Another process has this name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameTaken {
    /// The name.
    pub name: Rc<str>,
    /// Who has it.
    pub owner: Pid,
}

impl Names {
    /// Gives a name to a value, as long as `owner` lives. An owner that has ended registers nothing.
    pub fn register(&self, owner: &Pid, name: impl Into<Rc<str>>, value: impl Any) -> Result<(), NameTaken> {
        let name = name.into();
        let mut entries = self.0.borrow_mut();
        let at = match place(&entries, &name) {
            Ok(at) => return Err(NameTaken { name, owner: entries[at].owner.clone() }),
            Err(at) => at,
        };
        if owner.is_alive() {
            entries.insert(at, Entry { name: name.clone(), owner: owner.clone(), value: Rc::new(value) });
            let (names, id) = (self.clone(), owner.id());
            owner.0.at_end(None, Box::new(move |_| names.release(&name, id)));
        }
        Ok(())
    }

    /// What has this name, if it is of this type.
    pub fn find<T: Clone + 'static>(&self, name: &str) -> Option<T> {
        self.entry(name, |entry| entry.value.downcast_ref::<T>().cloned())?
    }

    /// Who has this name.
    pub fn owner(&self, name: &str) -> Option<Pid> {
        self.entry(name, |entry| entry.owner.clone())
    }

    /// Frees a name. Whether it was taken.
    pub fn unregister(&self, name: &str) -> bool {
        let mut entries = self.0.borrow_mut();
        let entry = place(&entries, name).map(|at| entries.remove(at));
        // What it has is dropped when nothing is borrowed: it may do anything.
        drop(entries);
        entry.is_ok()
    }

    /// Frees a name of a process that ends, if it is its own still.
    fn release(&self, name: &str, owner: u64) {
        if self.owner(name).is_some_and(|of| of.id() == owner) {
            self.unregister(name);
        }
    }

    fn entry<T>(&self, name: &str, read: impl FnOnce(&Entry) -> T) -> Option<T> {
        let entries = self.0.borrow();
        Some(read(&entries[place(&entries, name).ok()?]))
    }
}

impl fmt::Display for NameTaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the name {} is taken by {}", self.name, self.owner.name())
    }
}

impl std::error::Error for NameTaken {}

impl From<NameTaken> for crate::exit::Exit {
    fn from(error: NameTaken) -> Self {
        Self::error(error)
    }
}
