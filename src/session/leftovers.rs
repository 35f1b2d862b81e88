//! What is left of sessions that ended long ago. Of those in which nobody could find anything, one goes with each session
//! that is made: so the records of a page that is opened every day do not pile up.

use std::time::Duration;

use tinkex_journal::record::{self, MODELS, Place, Record, SESSIONS, unescaped};
use tinkex_journal::recovery::Found;

use super::{HEARTBEAT_TIMEOUT, OF_A_RUN, Session, beat};
use crate::error::Error;
use crate::store::{Durability, Fence, Op};
use crate::transport::retry::Policy;

/// Somebody may still look for a session that is younger.
const KEPT_FOR: Duration = Duration::from_secs(30 * 24 * 3_600);

impl Session {
    /// `kept`: the sessions of this server and account, as they were found.
    pub(super) async fn clear_one(&self, kept: Found) -> Result<(), Error> {
        let transport = &self.0.transport;
        let long_ago = transport.platform().unix_time().saturating_sub(KEPT_FOR).as_millis() as u64;
        for (key, bytes) in kept {
            let Ok(record) = record::Session::from_bytes(&key, &bytes) else { continue };
            let Some(id) = key.strip_prefix(SESSIONS).and_then(unescaped) else { continue };
            if record.created >= long_ago || record.owner.starts_with(OF_A_RUN) {
                continue;
            }
            let Some(models) = self.models_without_calls(&id).await? else { continue };
            let beat = beat(id.into()).policy(Policy::Once).timeout(HEARTBEAT_TIMEOUT);
            let answer = transport.fetch(beat).await;
            if answer.is_err_and(|error| matches!(error.status(), Some(404 | 410))) {
                let fence = Fence::claim(self.0.store.clone(), key.clone()).await?;
                let ops = models.into_iter().chain([key]).map(Op::Delete).collect();
                fence.commit(Durability::Relaxed, ops).await?;
            }
            break;
        }
        Ok(())
    }

    /// The keys of a session's models; none where there are calls of which nobody has seen the end.
    async fn models_without_calls(&self, session: &str) -> Result<Option<Vec<String>>, Error> {
        let mut models = Vec::new();
        for (key, bytes) in self.0.store.load(MODELS).await? {
            let is_its = record::Model::from_bytes(&key, &bytes).is_ok_and(|model| model.session == session);
            let Some(model) = key.strip_prefix(MODELS).and_then(unescaped).filter(|_| is_its) else {
                continue;
            };
            if !self.0.store.load(&Place::Request.prefix(&model)).await?.is_empty() {
                return Ok(None);
            }
            models.push(key);
        }
        Ok(Some(models))
    }
}
