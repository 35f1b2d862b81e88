//! Takes up a session that was there before, and ends one for good. All of this is in the second file of the package: the first one reaches it through
//! [`earlier`](super::earlier) alone.

mod kept;
mod leftovers;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use tinkex_journal::record::SESSIONS;
use tinkex_journal::recovery::Found;
use tinkex_protocol::json::session::{FinishKind, FinishReason, FinishSession};

use super::earlier::Earlier;
use super::{Session, State, beat};
use crate::error::{Error, Outcome};
use crate::store::Journal;
use crate::store::deferred::words;
use crate::telemetry::Opened;
use crate::transport::Call;
use crate::transport::connections::Class;
use crate::transport::retry::Policy;
use kept::{Kept, read};
use leftovers::clear_one;

pub struct Here;

impl Earlier for Here {
    fn take_up(
        &self,
        session: &Session,
        kept: &Found,
    ) -> LocalBoxFuture<'static, Result<Option<(Journal, Opened)>, Error>> {
        take_up(session.clone(), read(kept)).boxed_local()
    }

    /// What can't be cleared now is found again.
    fn clear_one(&self, session: &Session, kept: &Found) -> LocalBoxFuture<'static, ()> {
        clear_one(session.clone(), read(kept)).map(drop).boxed_local()
    }
}

async fn take_up(session: Session, kept: Vec<Kept>) -> Result<Option<(Journal, Opened)>, Error> {
    let choice = &session.0.choice;
    let Some((id, how)) = choice.among(&kept) else { return Ok(None) };
    let fence = session.fence(&id).await?;
    let journal = Journal::take_over(fence, id, choice.owner.clone()).await?;
    let beat = beat(journal.session().clone()).policy(Policy::Plain);
    match session.0.transport.fetch(beat).await {
        Ok(_) => Ok(Some((journal, how))),
        Err(error) => Err(why_not(&session, &journal, error).await),
    }
}

/// What it means that a session which was taken over from whoever had it can't be kept alive.
async fn why_not(session: &Session, journal: &Journal, error: Error) -> Error {
    if !matches!(error.status(), Some(404 | 410)) {
        return error;
    }
    let kept = match journal.inventory().await {
        Ok(kept) => words(&kept),
        Err(error) => return error,
    };
    let error = error.context(&format!("session {} has ended; kept of it: {kept}", journal.session()));
    *session.0.state.borrow_mut() = State::Ended(error.clone());
    error
}

impl Session {
    /// Ends the session at the server. The journal has nothing that is not done.
    pub async fn finish(&self) -> Result<(), Error> {
        let Some(known) = self.known() else { return Ok(()) };
        let session = known?.session().clone();
        let ask = FinishSession { reason: FinishReason { kind: FinishKind::Success }, detail: None };
        let call = Call::post_json(&format!("sessions/{session}/finish"), &ask).class(Class::Control);
        self.0.transport.fetch(call).await?;
        let error = Error::closed("the session, which was finished,", Outcome::NotSent);
        *self.0.state.borrow_mut() = State::Ended(error);
        self.0.telemetry.finished(&session);
        Ok(())
    }

    /// Lets one old session go, if this one is open: what could be done with it was not here when it was made.
    pub fn clear_later(&self) -> LocalBoxFuture<'static, ()> {
        clear_later(self.clone()).map(drop).boxed_local()
    }
}

async fn clear_later(session: Session) -> Result<(), Error> {
    if session.id().is_none() {
        return Ok(());
    }
    let kept = session.0.store.load(SESSIONS).await?;
    clear_one(session, read(&kept)).await
}
