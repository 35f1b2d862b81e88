//! Who may write: a fence that was claimed, under which every commit of its holder is made.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

use super::{Batch, Durability, Op, Store, StoreErrorKind};
use crate::error::Error;

/// A fence as it was claimed here. Clones are the same claim.
#[derive(Clone)]
pub struct Fence(Rc<Inner>);

struct Inner {
    store: Rc<dyn Store>,
    name: String,
    epoch: u64,
    /// How many commits have failed.
    failures: Cell<u32>,
    /// Somebody else has claimed it since, or has deleted all.
    lost: RefCell<Option<Error>>,
}

impl Fence {
    /// Takes it from whoever has it.
    pub fn claim(store: Rc<dyn Store>, name: String) -> LocalBoxFuture<'static, Result<Fence, Error>> {
        let claimed = store.claim(&name);
        async move {
            let epoch = claimed.await?;
            Ok(Fence(Rc::new(Inner { store, name, epoch, failures: Cell::new(0), lost: RefCell::new(None) })))
        }
        .boxed_local()
    }

    pub fn store(&self) -> &Rc<dyn Store> {
        &self.0.store
    }

    pub fn is_lost(&self) -> bool {
        self.0.lost.borrow().is_some()
    }

    pub fn failures(&self) -> u32 {
        self.0.failures.get()
    }

    /// Why nothing can be written under it any more.
    pub fn lost(&self) -> Option<Error> {
        self.0.lost.borrow().clone()
    }

    /// Writes all of it or nothing.
    pub fn commit(&self, durability: Durability, ops: Vec<Op>) -> LocalBoxFuture<'static, Result<(), Error>> {
        let inner = self.0.clone();
        let batch = Batch { fence: inner.name.clone(), epoch: inner.epoch, durability, ops };
        let committed = inner.store.commit(batch);
        async move {
            let Err(error) = committed.await else { return Ok(()) };
            inner.failures.set(inner.failures.get() + 1);
            let fenced = error.kind == StoreErrorKind::Fenced;
            let error = Error::from(error);
            if fenced {
                inner.lost.borrow_mut().get_or_insert_with(|| error.clone());
            }
            Err(error)
        }
        .boxed_local()
    }
}
