//! What is left of sessions that ended long ago. Of those in which nobody could find anything, one goes with each session
//! that is made: so the records of a page that is opened every day do not pile up.

use tinkex_journal::record::{self, MODELS, Place, REQUESTS, Record, unescaped};
use tinkex_journal::recovery::Found;

use super::super::earlier::is_old;
use super::super::{HEARTBEAT_TIMEOUT, Session, beat};
use super::kept::Kept;
use crate::error::Error;
use crate::store::{Durability, Fence, Op};
use crate::transport::retry::Policy;

pub async fn clear_one(session: Session, mut kept: Vec<Kept>) -> Result<(), Error> {
    let (transport, store) = (&session.0.transport, &session.0.store);
    let now = transport.platform().unix_time();
    kept.retain(|kept| is_old(&kept.record, now));
    if kept.is_empty() {
        return Ok(());
    }
    let (models, requests) = (store.load(MODELS).await?, store.load(REQUESTS).await?);
    let Some((old, ops)) = kept.iter().find_map(|kept| Some((kept, ops(kept, &models, &requests)?))) else {
        return Ok(());
    };
    let beat = beat(old.id.clone()).policy(Policy::Once).timeout(HEARTBEAT_TIMEOUT);
    let answer = transport.fetch(beat).await;
    if answer.is_err_and(|error| matches!(error.status(), Some(404 | 410))) {
        let fence = Fence::claim(store.clone(), old.key.clone()).await?;
        fence.commit(Durability::Relaxed, ops).await?;
    }
    Ok(())
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
