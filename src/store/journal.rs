//! What a service writes of its session, under the session's fence.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use futures_util::FutureExt;
use futures_util::future::{LocalBoxFuture, ready};
use tinkex_journal::record::{self, Record, model_key, session_key};
use tinkex_protocol::{ModelId, ModelSeqId, SamplingSessionSeqId, SessionId};

use super::{Durability, Fence, Op};
use crate::error::Error;

/// Samplers are numbered without a write for each: so many numbers are written down ahead.
const SAMPLERS_AHEAD: u64 = 64;

/// The journal of one session, held by whoever claimed it last. Clones are the same journal.
#[derive(Clone)]
pub struct Journal(pub(super) Rc<Inner>);

pub(super) struct Inner {
    pub(super) fence: Fence,
    pub(super) session: SessionId,
    pub(super) key: String,
    /// As it was written last.
    record: RefCell<record::Session>,
    /// Where this service's own count of models and samplers begins.
    first_model: u64,
    first_sampler: u64,
    /// How many commits of its fence had failed when `record` was last to be written: with each more it isn't known what of it is
    /// on the disk.
    failures: Cell<u32>,
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

    /// Writes the session down as it is now.
    pub(super) fn begin(
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
            failures: Cell::new(0),
        }));
        let written = journal.commit(Durability::Strict, vec![journal.session_op()]);
        written.map(|written| written.map(|()| journal)).boxed_local()
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
        self.0.fence.commit(durability, ops)
    }

    /// Writes down what must be there before a number is used, if there is anything.
    pub fn reserve(&self, op: Option<Op>) -> LocalBoxFuture<'static, Result<(), Error>> {
        match op {
            Some(op) => self.commit(Durability::Strict, vec![op]),
            None => ready(Ok(())).boxed_local(),
        }
    }

    /// The number of this service's nth model, and what must be written down before it is used.
    pub fn model_number(&self, nth: u64) -> (ModelSeqId, Option<Op>) {
        let number = self.0.first_model + nth;
        (ModelSeqId::new(number), self.count_up(|record| &mut record.next_model, number, 1))
    }

    /// The number of this service's nth sampler, and what must be written down before it is used.
    pub fn sampler_number(&self, nth: u64) -> (SamplingSessionSeqId, Option<Op>) {
        let number = self.0.first_sampler + nth;
        let op = self.count_up(|record| &mut record.next_sampler, number, SAMPLERS_AHEAD);
        (SamplingSessionSeqId::new(number), op)
    }

    /// Counts `next` up, where it has come to this number, by as many as are written down at a time.
    fn count_up(&self, next: fn(&mut record::Session) -> &mut u64, number: u64, many: u64) -> Option<Op> {
        let mut record = self.0.record.borrow_mut();
        let next = next(&mut record);
        let beyond = *next <= number;
        if beyond {
            *next = number + many;
        }
        drop(record);
        let failures = self.0.fence.failures();
        let unsure = self.0.failures.replace(failures) != failures;
        (beyond || unsure).then(|| self.session_op())
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

    /// The session as it is now.
    pub fn session_op(&self) -> Op {
        put(self.0.key.clone(), &*self.0.record.borrow())
    }
}

/// An op that writes a record.
pub fn put(key: String, record: &impl Record) -> Op {
    let bytes = record.to_bytes(&key);
    Op::Put(key, bytes.into())
}
