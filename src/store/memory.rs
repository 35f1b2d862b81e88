//! Records that die with the instance: until the boundary reaches the stores in `js/store/`.

use std::cell::RefCell;
use std::rc::Rc;

use futures_util::FutureExt;
use futures_util::future::{LocalBoxFuture, ready};
use tinkex_journal::recovery::Found;

use super::{Batch, Op, Store, StoreError};

#[derive(Default)]
pub struct Memory(RefCell<Vec<(String, Rc<[u8]>)>>);

impl Store for Memory {
    fn load(&self, prefix: &str) -> LocalBoxFuture<'static, Result<Found, StoreError>> {
        let records = self.0.borrow();
        let found = records.iter().filter(|(key, _)| key.starts_with(prefix));
        ready(Ok(found.map(|(key, value)| (key.clone(), value.to_vec())).collect())).boxed_local()
    }

    fn claim(&self, _: &str) -> LocalBoxFuture<'static, Result<u64, StoreError>> {
        ready(Ok(1)).boxed_local()
    }

    fn commit(&self, batch: Batch) -> LocalBoxFuture<'static, Result<(), StoreError>> {
        let mut records = self.0.borrow_mut();
        for op in batch.ops {
            let (Op::Put(key, _) | Op::Delete(key)) = &op;
            records.retain(|(known, _)| known != key);
            if let Op::Put(key, value) = op {
                records.push((key, value));
            }
        }
        ready(Ok(())).boxed_local()
    }
}
