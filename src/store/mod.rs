//! Where records are kept, as the client sees it: batches that happen whole or not at all, under fences that say who may
//! write. JavaScript keeps the stores (`js/store/`), so that they outlive an instance; tests bring a simulated disk.

pub mod deferred;
mod fence;
mod journal;

use std::rc::Rc;

use futures_util::future::LocalBoxFuture;
use tinkex_journal::recovery::Found;

pub use fence::Fence;
pub use journal::{Journal, put};

/// The records of one namespace: a server and an account. Held as `Rc<dyn Store>`.
///
/// Each operation begins when it is called, and those of one store take effect in that order. Dropping a future loses
/// the answer and nothing else.
pub trait Store {
    /// All records whose keys begin with `prefix`, in the order of their keys.
    fn load(&self, prefix: &str) -> LocalBoxFuture<'static, Result<Found, StoreError>>;

    /// Gives the fence a higher epoch than it ever had: whoever held it before can't commit any more.
    fn claim(&self, fence: &str) -> LocalBoxFuture<'static, Result<u64, StoreError>>;

    /// All ops in their order, or none of them. Fails as [`StoreErrorKind::Fenced`] when the fence has another epoch.
    fn commit(&self, batch: Batch) -> LocalBoxFuture<'static, Result<(), StoreError>>;
}

/// What is written at once.
#[derive(Clone, Debug)]
pub struct Batch {
    pub fence: String,
    /// What [`Store::claim`] gave for the fence.
    pub epoch: u64,
    pub durability: Durability,
    pub ops: Vec<Op>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// On the disk when the commit is done.
    Strict,
    /// Survives the page, and may be lost with the machine.
    Relaxed,
}

#[derive(Clone, Debug)]
pub enum Op {
    Put(String, Rc<[u8]>),
    Delete(String),
}

impl Op {
    pub fn key(&self) -> &str {
        match self {
            Op::Put(key, _) | Op::Delete(key) => key,
        }
    }
}

#[derive(Clone, Debug)]
pub struct StoreError {
    pub kind: StoreErrorKind,
    /// What happened and what to do.
    pub message: String,
}

/// What became of a store. JavaScript has the same names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// Somebody else has claimed the fence.
    Fenced,
    /// No room.
    Quota,
    /// There is no such store here, or it may not be used.
    Unavailable,
    Closed,
    /// The disk refused, or nobody says why. Nothing was written.
    Aborted,
    /// Another page keeps an old version of the store open.
    Blocked,
    /// A newer version of this package wrote it; it is left as it is.
    TooNew,
    /// A record is not what was written.
    Damaged,
}

impl StoreErrorKind {
    pub const ALL: [StoreErrorKind; 8] = [
        StoreErrorKind::Fenced,
        StoreErrorKind::Quota,
        StoreErrorKind::Unavailable,
        StoreErrorKind::Closed,
        StoreErrorKind::Aborted,
        StoreErrorKind::Blocked,
        StoreErrorKind::TooNew,
        StoreErrorKind::Damaged,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            StoreErrorKind::Fenced => "fenced",
            StoreErrorKind::Quota => "quota",
            StoreErrorKind::Unavailable => "unavailable",
            StoreErrorKind::Closed => "closed",
            StoreErrorKind::Aborted => "aborted",
            StoreErrorKind::Blocked => "blocked",
            StoreErrorKind::TooNew => "too_new",
            StoreErrorKind::Damaged => "damaged",
        }
    }
}
