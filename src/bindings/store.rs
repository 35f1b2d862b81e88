//! The store of one service, which its owner in JavaScript keeps: each operation is one plain value to the host, and one
//! back.

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use js_sys::Uint8Array;
use tinkex_journal::recovery::Found;
use wasm_bindgen_futures::JsFuture;

use super::host::{ServiceHost, store};
use crate::platform::plain::{Given, Plain, Value, Wrong};
use crate::store::{Batch, Durability, Op, Store, StoreError, StoreErrorKind};

impl ServiceHost {
    /// Begins at once; the future only waits.
    fn ask_store(&self, asked: &[u8]) -> LocalBoxFuture<'static, Result<Vec<u8>, StoreError>> {
        let answer = JsFuture::from(store(self.0, asked));
        async move {
            let answer = Uint8Array::new(&answer.await.unwrap_or_default()).to_vec();
            let wrong = Wrong::default();
            let given = Given::new(&answer, &wrong);
            let Some(kind) = given.optional_text("failure") else { return Ok(answer) };
            let kind = StoreErrorKind::ALL.into_iter().find(|known| known.as_str() == kind);
            let kind = kind.unwrap_or(StoreErrorKind::Aborted);
            Err(StoreError { kind, message: given.text("message") })
        }
        .boxed_local()
    }
}

impl Store for ServiceHost {
    fn load(&self, prefix: &str) -> LocalBoxFuture<'static, Result<Found, StoreError>> {
        let answer = self.ask_store(&Plain::object(|plain| plain.text("load", prefix)));
        async move {
            let answer = answer.await?;
            let wrong = Wrong::default();
            let mut found = Vec::new();
            for record in Given::new(&answer, &wrong).list("records") {
                let mut pair = record.as_list().into_iter().flatten();
                let key = pair.next().and_then(Value::as_text);
                if let (Some(key), Some(value)) = (key, pair.next().and_then(Value::as_bytes)) {
                    found.push((key.to_owned(), value.to_vec()));
                }
            }
            Ok(found)
        }
        .boxed_local()
    }

    fn claim(&self, fence: &str) -> LocalBoxFuture<'static, Result<u64, StoreError>> {
        let answer = self.ask_store(&Plain::object(|plain| plain.text("claim", fence)));
        async move {
            let answer = answer.await?;
            let wrong = Wrong::default();
            Ok(Given::new(&answer, &wrong).number("epoch") as u64)
        }
        .boxed_local()
    }

    fn commit(&self, batch: Batch) -> LocalBoxFuture<'static, Result<(), StoreError>> {
        let asked = Plain::object(|plain| {
            plain.text("fence", &batch.fence);
            plain.number("epoch", batch.epoch as f64);
            plain.text(
                "durability",
                match batch.durability {
                    Durability::Strict => "strict",
                    Durability::Relaxed => "relaxed",
                },
            );
            let ops = plain.list("ops");
            for op in &batch.ops {
                let item = plain.item();
                let (kind, key) = match op {
                    Op::Put(key, _) => ("put", key),
                    Op::Delete(key) => ("delete", key),
                };
                plain.text("type", kind);
                plain.text("key", key);
                if let Op::Put(_, value) = op {
                    plain.bytes("value", value);
                }
                plain.close(item);
            }
            plain.close(ops);
        });
        let answer = self.ask_store(&asked);
        async move { answer.await.map(drop) }.boxed_local()
    }
}
