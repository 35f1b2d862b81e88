//! The sessions that were there before, as far as they are known to a page that takes none of them up. What does so, and lets
//! go of old ones, is in the second file of the package (`scripts/build/split.mjs`); [`provide`] is how it makes itself known.

#[cfg(target_arch = "wasm32")]
use std::cell::Cell;
#[cfg(target_arch = "wasm32")]
use std::hint::black_box;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use tinkex_journal::record::{self, Record};
use tinkex_journal::recovery::Found;

use super::{OF_A_RUN, Session};
use crate::error::Error;
use crate::store::Journal;
use crate::telemetry::Opened;

/// Somebody may still look for a session that is younger.
const KEPT_FOR: Duration = Duration::from_secs(30 * 24 * 3_600);

/// What is done with earlier sessions, of which these records are kept.
pub trait Earlier {
    /// Takes the session over that this one's choice names; none where a new one is to be made.
    fn take_up(
        &self,
        session: &Session,
        kept: &Found,
    ) -> LocalBoxFuture<'static, Result<Option<(Journal, Opened)>, Error>>;

    /// Lets one of those go in which nobody could find anything.
    fn clear_one(&self, session: &Session, kept: &Found) -> LocalBoxFuture<'static, ()>;
}

#[cfg(target_arch = "wasm32")]
thread_local! {
    static EARLIER: Cell<Option<&'static dyn Earlier>> = const { Cell::new(None) };
}

/// From now on earlier sessions can be taken up.
#[cfg(target_arch = "wasm32")]
pub fn provide(earlier: &'static dyn Earlier) {
    // The optimizer is not to know which it is: it would call what is in there by name.
    EARLIER.set(Some(black_box(earlier)));
}

#[cfg(target_arch = "wasm32")]
pub fn here() -> Option<&'static dyn Earlier> {
    EARLIER.get()
}

/// Outside of WebAssembly all of the program is in one file.
#[cfg(not(target_arch = "wasm32"))]
pub fn here() -> Option<&'static dyn Earlier> {
    Some(&super::deferred::Here)
}

/// Whether one of them is so old that nobody looks for it any more; `now` is since 1970.
pub fn has_old(kept: &Found, now: Duration) -> bool {
    let mut records = kept.iter().filter_map(|(key, bytes)| record::Session::from_bytes(key, bytes).ok());
    records.any(|record| is_old(&record, now))
}

pub fn is_old(record: &record::Session, now: Duration) -> bool {
    // Of a run's the run itself decides.
    record.created < now.saturating_sub(KEPT_FOR).as_millis() as u64 && !record.owner.starts_with(OF_A_RUN)
}
