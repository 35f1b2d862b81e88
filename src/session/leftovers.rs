//! What is left of sessions that ended long ago. Of those in which nobody could find anything, one goes with each session
//! that is made: so the records of a page that is opened every day do not pile up.

use std::time::Duration;

use tinkex_journal::record::{self, MODELS, Place, REQUESTS, Record, unescaped};
use tinkex_journal::recovery::Found;

use super::kept::Kept;
use super::{HEARTBEAT_TIMEOUT, Session, beat};
use crate::error::Error;
use crate::store::{Durability, Fence, Op};
use crate::transport::retry::Policy;

/// Somebody may still look for a session that is younger.
const KEPT_FOR: Duration = Duration::from_secs(30 * 24 * 3_600);

impl Session {
    pub(super) async fn clear_one(&self, mut kept: Vec<Kept>) -> Result<(), Error> {
        let (transport, store) = (&self.0.transport, &self.0.store);
        let long_ago = transport.platform().unix_time().saturating_sub(KEPT_FOR).as_millis() as u64;
        kept.retain(|kept| kept.record.created < long_ago && !kept.is_of_a_run());
        if kept.is_empty() {
            return Ok(());
        }
        let (models, requests) = (store.load(MODELS).await?, store.load(REQUESTS).await?);
        let Some((session, ops)) = kept.iter().find_map(|kept| Some((kept, ops(kept, &models, &requests)?)))
        else {
            return Ok(());
        };
        let beat = beat(session.id.clone()).policy(Policy::Once).timeout(HEARTBEAT_TIMEOUT);
        let answer = transport.fetch(beat).await;
        if answer.is_err_and(|error| matches!(error.status(), Some(404 | 410))) {
            let fence = Fence::claim(store.clone(), session.key.clone()).await?;
            fence.commit(Durability::Relaxed, ops).await?;
        }
        Ok(())
    }
}

/// What deletes a session and its models; none where there are calls of which nobody has seen the end.
fn ops(session: &Kept, models: &Found, requests: &Found) -> Option<Vec<Op>> {
    let mut ops = Vec::new();
    for (key, bytes) in models {
        let is_its =
            record::Model::from_bytes(key, bytes).is_ok_and(|model| model.session == session.id.as_str());
        let Some(model) = key.strip_prefix(MODELS).and_then(unescaped).filter(|_| is_its) else { continue };
        let calls = Place::Request.prefix(&model);
        if requests.iter().any(|(key, _)| key.starts_with(&calls)) {
            return None;
        }
        ops.push(Op::Delete(key.clone()));
    }
    ops.push(Op::Delete(session.key.clone()));
    Some(ops)
}
