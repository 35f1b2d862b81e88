//! Names under which the parts of a tree find each other; a name is free again when its owner ends.

use std::{any::Any, cell::RefCell, fmt, rc::Rc};

use crate::{map::Map, pid::Pid};

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
pub struct Names(Rc<RefCell<Map<Rc<str>, Entry>>>);

struct Entry {
    owner: Pid,
    value: Rc<dyn Any>,
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
        if let Some(entry) = entries.get(&name) {
            return Err(NameTaken { name, owner: entry.owner.clone() });
        }
        if owner.is_alive() {
            entries.insert(name.clone(), Entry { owner: owner.clone(), value: Rc::new(value) });
            let (names, id) = (self.clone(), owner.id());
            owner.0.at_end(Box::new(move || names.release(&name, id)));
        }
        Ok(())
    }

    /// What has this name, if it is of this type.
    pub fn find<T: Clone + 'static>(&self, name: &str) -> Option<T> {
        self.0.borrow().get(name)?.value.downcast_ref::<T>().cloned()
    }

    /// Who has this name.
    pub fn owner(&self, name: &str) -> Option<Pid> {
        self.0.borrow().get(name).map(|entry| entry.owner.clone())
    }

    /// Frees a name. Whether it was taken.
    pub fn unregister(&self, name: &str) -> bool {
        let entry = self.0.borrow_mut().remove(name);
        entry.is_some()
    }

    /// Frees a name of a process that ends, if it is its own still.
    fn release(&self, name: &str, owner: u64) {
        if self.owner(name).is_some_and(|of| of.id() == owner) {
            self.unregister(name);
        }
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
