//! What a journal does for who goes on with what was there before, or ends it. All of this is in the second file of the package.

use std::rc::Rc;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use tinkex_journal::record::{self, MODELS, Place, Record, model_key, session_key, unescaped};
use tinkex_journal::recovery::{Found, Recovered, aside, recover};
use tinkex_protocol::{ModelId, SessionId};

use super::journal::Inner;
use super::{Durability, Fence, Journal, Op, Store, StoreError};
use crate::error::Error;

impl Journal {
    /// Of a session that is kept, and is this owner's from now on.
    pub async fn take_over(fence: Fence, session: SessionId, owner: String) -> Result<Journal, Error> {
        let key = session_key(session.as_str());
        // Read when it is ours: until then its last owner may have written it.
        let known = load_one(fence.store(), &key).await?;
        let known = known.ok_or_else(|| Error::no_such_session(&session))?;
        let mut record = match record::Session::from_bytes(&key, &known) {
            Ok(record) => record,
            Err(why) => return Err(Error::unreadable_record(&key, why)),
        };
        record.owner = owner;
        Journal::begin(fence, session, record).await
    }

    /// What is kept of a model. What can't be read is set aside; none where the model isn't known here.
    pub async fn recover(&self, model: &ModelId) -> Result<Option<Recovered>, Error> {
        let Inner { fence, session, .. } = &*self.0;
        let store = fence.store();
        let id = model.as_str();
        let key = model_key(id);
        let Some(record) = load_one(store, &key).await? else { return Ok(None) };
        match record::Model::from_bytes(&key, &record) {
            Ok(known) if known.session != session.as_str() => {
                return Err(Error::of_another_session(model, &known.session));
            }
            Ok(_) => {}
            // Its number is known from nothing else, once its requests were seen.
            Err(why) => return Err(Error::unreadable_record(&key, why)),
        }
        let mut found: [Found; 3] = Default::default();
        for (place, found) in [Place::Request, Place::Body, Place::Answer].into_iter().zip(&mut found) {
            *found = store.load(&place.prefix(id)).await?;
        }
        let recovered = recover(id, Some(record), found).map_err(Error::too_new)?;
        if !recovered.damaged.is_empty() {
            // Copied: a request's own key says that its number is to be held, until that is done.
            let copy = |(key, bytes): &(String, Vec<u8>)| Op::Put(aside(key), bytes[..].into());
            let ops = recovered.damaged.iter().map(copy).collect();
            self.commit(Durability::Strict, ops).await?;
        }
        Ok(Some(recovered))
    }

    /// What is kept of this session's models: of each its calls, and how many of them are finished and not seen.
    pub async fn inventory(&self) -> Result<Vec<Kept>, Error> {
        let mut kept = Vec::new();
        for (key, bytes) in self.0.fence.store().load(MODELS).await? {
            let model = key.strip_prefix(MODELS).and_then(unescaped);
            let (Some(model), Ok(record)) = (model, record::Model::from_bytes(&key, &bytes)) else {
                continue;
            };
            if record.session != self.0.session.as_str() {
                continue;
            }
            let heads = self.0.fence.store().load(&Place::Request.prefix(&model)).await?;
            let mut calls = Vec::new();
            for (key, bytes) in heads {
                if let Ok(head) = record::Head::from_bytes(&key, &bytes)
                    && head.part == 0
                {
                    calls.push(head.method);
                }
            }
            kept.push(Kept { calls, model });
        }
        Ok(kept)
    }

    /// Deletes what there is of the session and these models, which are all that it has. Their calls were seen.
    pub fn erase(&self, models: &[Kept]) -> LocalBoxFuture<'static, Result<(), Error>> {
        let mut ops: Vec<Op> = models.iter().map(|kept| Op::Delete(model_key(&kept.model))).collect();
        ops.push(Op::Delete(self.0.key.clone()));
        self.commit(Durability::Relaxed, ops)
    }
}

/// A model of which something is kept, and the methods of its calls that nobody has seen the end of.
pub struct Kept {
    pub model: String,
    pub calls: Vec<String>,
}

/// In words, for errors.
pub fn words(kept: &[Kept]) -> String {
    let mut words = String::new();
    for Kept { model, calls } in kept.iter().filter(|kept| !kept.calls.is_empty()) {
        words.push_str(if words.is_empty() { "" } else { "; " });
        words.push_str(&format!("{} of {model} ({})", calls.len(), calls.join(", ")));
    }
    if words.is_empty() { "no calls".into() } else { words }
}

/// The record of this very key.
fn load_one(
    store: &Rc<dyn Store>,
    key: &str,
) -> LocalBoxFuture<'static, Result<Option<Vec<u8>>, StoreError>> {
    let (loaded, key) = (store.load(key), key.to_owned());
    async move {
        let mut found = loaded.await?.into_iter();
        Ok(found.find(|(found, _)| *found == key).map(|(_, record)| record))
    }
    .boxed_local()
}
