//! A disk for the client's journal, in memory. It outlives the services that write to it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use futures_util::FutureExt;
use futures_util::future::{LocalBoxFuture, ready};
use tinkex::store::{Batch, Durability, Op, Store, StoreError, StoreErrorKind};

/// Clones are the same disk.
#[derive(Clone, Default)]
pub struct Disk(Rc<Inner>);

#[derive(Default)]
struct Inner {
    records: RefCell<BTreeMap<String, Rc<[u8]>>>,
    epochs: RefCell<BTreeMap<String, u64>>,
    /// Every strict commit and every relaxed one.
    strict: Cell<usize>,
    relaxed: Cell<usize>,
    /// Commits from now on are refused for this reason.
    refuses: Cell<Option<StoreErrorKind>>,
    /// There is no room for another body.
    full: Cell<bool>,
}

impl Disk {
    /// All keys, in their order.
    pub fn keys(&self) -> Vec<String> {
        self.0.records.borrow().keys().cloned().collect()
    }

    /// The keys that begin with a word.
    pub fn keys_of(&self, prefix: &str) -> Vec<String> {
        self.keys().into_iter().filter(|key| key.starts_with(prefix)).collect()
    }

    /// Every byte that is on it.
    pub fn contains(&self, text: &str) -> bool {
        let records = self.0.records.borrow();
        records.iter().any(|(key, value)| {
            key.contains(text) || value.windows(text.len()).any(|bytes| bytes == text.as_bytes())
        })
    }

    /// Strict commits and relaxed ones so far.
    pub fn commits(&self) -> (usize, usize) {
        (self.0.strict.get(), self.0.relaxed.get())
    }

    /// From now on there is room for small records alone.
    pub fn fill(&self) {
        self.0.full.set(true);
    }

    pub fn refuse(&self, why: Option<StoreErrorKind>) {
        self.0.refuses.set(why);
    }

    /// Deletes everything, and fences whoever held something.
    pub fn forget(&self) {
        self.0.records.borrow_mut().clear();
        self.0.epochs.borrow_mut().values_mut().for_each(|epoch| *epoch += 1);
    }

    /// Changes one bit of a record.
    pub fn damage(&self, key: &str) {
        let mut records = self.0.records.borrow_mut();
        let record = records.get_mut(key).expect("the record is there");
        let mut bytes = record.to_vec();
        *bytes.last_mut().expect("it is not empty") ^= 1;
        *record = bytes.into();
    }

    /// Makes a record one of a later version.
    pub fn make_newer(&self, key: &str) {
        let mut records = self.0.records.borrow_mut();
        let record = records.get_mut(key).expect("the record is there");
        let mut bytes = record.to_vec();
        bytes[0] += 1;
        *record = bytes.into();
    }

    fn write(&self, batch: Batch) -> Result<(), StoreError> {
        if let Some(kind) = self.0.refuses.get() {
            return Err(StoreError { kind, message: "the disk refuses".into() });
        }
        let body = |op: &Op| matches!(op, Op::Put(key, _) if key.starts_with("body/"));
        if self.0.full.get() && batch.ops.iter().any(body) {
            return Err(StoreError { kind: StoreErrorKind::Quota, message: "the disk is full".into() });
        }
        if self.0.epochs.borrow().get(&batch.fence) != Some(&batch.epoch) {
            let message = format!("{} was taken over by another page", batch.fence);
            return Err(StoreError { kind: StoreErrorKind::Fenced, message });
        }
        let counter = match batch.durability {
            Durability::Strict => &self.0.strict,
            Durability::Relaxed => &self.0.relaxed,
        };
        counter.set(counter.get() + 1);
        let mut records = self.0.records.borrow_mut();
        for op in batch.ops {
            match op {
                Op::Put(key, value) => drop(records.insert(key, value)),
                Op::Delete(key) => drop(records.remove(&key)),
            }
        }
        Ok(())
    }
}

impl Store for Disk {
    fn load(&self, prefix: &str) -> LocalBoxFuture<'static, Result<Vec<(String, Vec<u8>)>, StoreError>> {
        let records = self.0.records.borrow();
        let found = records.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix));
        ready(Ok(found.map(|(key, value)| (key.clone(), value.to_vec())).collect())).boxed_local()
    }

    fn claim(&self, fence: &str) -> LocalBoxFuture<'static, Result<u64, StoreError>> {
        let mut epochs = self.0.epochs.borrow_mut();
        let epoch = epochs.entry(fence.to_owned()).or_insert(7);
        *epoch += 1;
        ready(Ok(*epoch)).boxed_local()
    }

    fn commit(&self, batch: Batch) -> LocalBoxFuture<'static, Result<(), StoreError>> {
        ready(self.write(batch)).boxed_local()
    }
}
