//! What a service writes of its session, under the session's fence.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use tinkex_journal::record::{self, MODELS, Place, Record, model_key, session_key, unescaped};
use tinkex_journal::recovery::{Found, Recovered, aside, recover};
use tinkex_protocol::{ModelId, ModelSeqId, SamplingSessionSeqId, SessionId};

use super::{Durability, Fence, Op, Store, StoreError};
use crate::error::Error;

/// Samplers are numbered without a write for each: so many numbers are written down ahead.
const SAMPLERS_AHEAD: u64 = 64;

/// The journal of one session, held by whoever claimed it last. Clones are the same journal.
#[derive(Clone)]
pub struct Journal(Rc<Inner>);

struct Inner {
    fence: Fence,
    session: SessionId,
    key: String,
    /// As it was written last.
    record: RefCell<record::Session>,
    /// Where this service's own count of models and samplers begins.
    first_model: u64,
    first_sampler: u64,
    /// A write failed: what of `record` is on the disk isn't known.
    unsure: Cell<bool>,
}

impl Journal {
    /// Of a session that is new since this time (ms since 1970), under a fence that is its owner's.
    pub fn new(
        fence: Fence,
        session: SessionId,
        owner: &str,
        created: u64,
    ) -> LocalBoxFuture<'static, Result<Journal, Error>> {
        let owner = owner.to_owned();
        let record = record::Session { owner, created, next_model: 0, next_sampler: 0, exactly_once: None };
        Journal::begin(fence, session, record)
    }

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

    /// Writes the session down as it is now.
    fn begin(
        fence: Fence,
        session: SessionId,
        record: record::Session,
    ) -> LocalBoxFuture<'static, Result<Journal, Error>> {
        let journal = Journal(Rc::new(Inner {
            fence,
            key: session_key(session.as_str()),
            session,
            first_model: record.next_model,
            first_sampler: record.next_sampler,
            record: RefCell::new(record),
            unsure: Cell::new(false),
        }));
        let written = journal.commit(Durability::Strict, vec![journal.session_op()]);
        async move { written.await.map(|()| journal) }.boxed_local()
    }

    pub fn session(&self) -> &SessionId {
        &self.0.session
    }

    pub fn owner(&self) -> String {
        self.0.record.borrow().owner.clone()
    }

    pub fn is_lost(&self) -> bool {
        self.0.fence.is_lost()
    }

    /// Why nothing of this session can be written here any more.
    pub fn lost(&self) -> Option<Error> {
        self.0.fence.lost()
    }

    /// Writes all of it or nothing.
    pub fn commit(&self, durability: Durability, ops: Vec<Op>) -> LocalBoxFuture<'static, Result<(), Error>> {
        let inner = self.0.clone();
        let committed = inner.fence.commit(durability, ops);
        async move {
            let committed = committed.await;
            if committed.is_err() {
                inner.unsure.set(true);
            }
            committed
        }
        .boxed_local()
    }

    /// The number of this service's nth model, and what must be written down before it is used.
    pub fn model_number(&self, nth: u64) -> (ModelSeqId, Option<Op>) {
        let number = self.0.first_model + nth;
        (ModelSeqId::new(number), self.reserve(|record| &mut record.next_model, number, 1))
    }

    /// The number of this service's nth sampler, and what must be written down before it is used.
    pub fn sampler_number(&self, nth: u64) -> (SamplingSessionSeqId, Option<Op>) {
        let number = self.0.first_sampler + nth;
        let op = self.reserve(|record| &mut record.next_sampler, number, SAMPLERS_AHEAD);
        (SamplingSessionSeqId::new(number), op)
    }

    /// Counts `next` up, where it has come to this number, by as many as are written down at a time.
    fn reserve(&self, next: fn(&mut record::Session) -> &mut u64, number: u64, many: u64) -> Option<Op> {
        let mut record = self.0.record.borrow_mut();
        let next = next(&mut record);
        let beyond = *next <= number;
        if beyond {
            *next = number + many;
        }
        drop(record);
        (beyond || self.0.unsure.take()).then(|| self.session_op())
    }

    pub fn exactly_once(&self) -> Option<bool> {
        self.0.record.borrow().exactly_once
    }

    /// What a probe has found. It is written with the next write of the session, and probed again where that is lost.
    pub fn set_exactly_once(&self, exactly_once: bool) {
        self.0.record.borrow_mut().exactly_once = Some(exactly_once);
    }

    /// A model of this session, whose next request is numbered `next`.
    pub fn model_op(&self, model: &ModelId, next: u64) -> Op {
        put(model_key(model.as_str()), &record::Model { session: self.0.session.as_str().to_owned(), next })
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

    /// The session as it is now.
    pub fn session_op(&self) -> Op {
        put(self.0.key.clone(), &*self.0.record.borrow())
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

/// An op that writes a record.
pub fn put(key: String, record: &impl Record) -> Op {
    let bytes = record.to_bytes(&key);
    Op::Put(key, bytes.into())
}
