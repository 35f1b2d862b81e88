//! Sessions: made, kept alive by heartbeats, finished by their client or ended by time.

use super::{Answer, Core, not_found};
use crate::journal::Fact;
use crate::message::{Refusal, Response};
use crate::state::{Fingerprint, Session, Status, fingerprint};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use tinkex_protocol::ids::{RequestId, SamplingSessionId, SessionId};
use tinkex_protocol::json::session::{CreateSession, FinishKind, FinishSession};

impl Core {
    pub(super) fn create_session(
        &mut self,
        asked: &CreateSession,
        body: Fingerprint,
        key: Option<&str>,
    ) -> Result<Answer, Refusal> {
        if let Some((before, id)) = key.and_then(|key| self.state.session_keys.get(key)) {
            return if *before == body {
                Ok(Answer::Same(Self::session_made(id)))
            } else {
                Err(Refusal::new(
                    409,
                    "This X-Idempotency-Key was used with another body. Make a new key for a new session.",
                ))
            };
        }
        let id = self.state.next_session();
        if let Some(key) = key {
            self.state.session_keys.insert(key.to_owned(), (body, id.clone()));
        }
        let session = Session {
            created: self.now,
            status: Status::Active,
            tags: asked.tags.clone(),
            user_metadata: asked.user_metadata.clone(),
            project: asked.project_id.clone(),
            display_name: asked.display_name.clone(),
            requests_made: 0,
            models: BTreeMap::new(),
            samplers: BTreeMap::new(),
            losses: BTreeMap::new(),
        };
        self.state.sessions.insert(id.clone(), session);
        self.heard.insert(id.clone(), self.now);
        Ok(Answer::Changed(Self::session_made(&id)))
    }

    fn session_made(id: &SessionId) -> Response {
        Response::json(&json!({ "session_id": id, "type": "create_session" }))
    }

    pub(super) fn heartbeat(&mut self, id: &SessionId) -> Result<Answer, Refusal> {
        self.living_session(id)?;
        self.heard.insert(id.clone(), self.now);
        Ok(Answer::Same(Response::json(&json!({ "type": "session_heartbeat" }))))
    }

    pub(super) fn finish_session(
        &mut self,
        id: &SessionId,
        asked: &FinishSession,
    ) -> Result<Answer, Refusal> {
        match self.living_session(id) {
            // A second finish, after a lost answer, is as good as the first.
            Err(refusal) if refusal.status == 410 => return Ok(Answer::Same(Response::empty())),
            other => other?,
        };
        let reason = match asked.reason.kind {
            FinishKind::Success => "success",
            FinishKind::Errored => "errored",
            FinishKind::Interrupted => "interrupted",
        };
        self.end_session(id, Status::Finished { reason: reason.to_owned(), detail: asked.detail.clone() });
        Ok(Answer::Changed(Response::empty()))
    }

    /// Ends the sessions whose heartbeats stayed away.
    pub(super) fn sessions_end(&mut self) {
        let (now, timeout) = (self.now, self.settings.session_timeout);
        let over: Vec<_> = self
            .heard
            .iter()
            .filter(|(_, heard)| **heard + timeout <= now)
            .map(|(id, _)| id.clone())
            .collect();
        for id in over {
            self.end_session(&id, Status::Ended);
            self.record(Fact::SessionEnded { session: id.into_string() });
        }
    }

    /// What belongs to the session alone goes with it. Training runs and checkpoints stay.
    pub(super) fn end_session(&mut self, id: &SessionId, status: Status) {
        self.heard.remove(id);
        let Some(session) = self.state.sessions.get_mut(id) else { return };
        session.status = status;
        self.state.models.retain(|_, model| model.session != *id);
        self.state.samplers.retain(|_, sampler| sampler.session != *id);
        self.state.futures.retain(|_, future| future.session != *id);
        self.state.drop_unused_blobs();
        let (models, futures) = (&self.state.models, &self.state.futures);
        self.engines.retain(|id, _| models.contains_key(id));
        self.busy.retain(|id| models.contains_key(id));
        self.ready.retain(|id| models.contains_key(id));
        self.samples.retain(|id| futures.contains_key(id));
        self.generating.retain(|generating| futures.contains_key(generating.request()));
        self.fetched.retain(|id, _| futures.contains_key(id));
        self.release_gone();
    }

    /// A session that can be used.
    pub(super) fn living_session(&mut self, id: &SessionId) -> Result<&mut Session, Refusal> {
        let session = self.state.sessions.get_mut(id).ok_or_else(|| not_found("session", id))?;
        match Self::ended(id, session) {
            Some(refusal) => Err(refusal),
            None => Ok(session),
        }
    }

    /// Why a session can't be used any longer, if so.
    pub(super) fn ended(id: &SessionId, session: &Session) -> Option<Refusal> {
        let how = match &session.status {
            Status::Active => return None,
            Status::Finished { .. } => "was finished by its client",
            Status::Ended => "was ended because its heartbeats stayed away",
        };
        let detail = format!("Session {id} {how}. Create a new session; checkpoints can still be loaded.");
        Some(Refusal::new(410, detail))
    }

    /// Why something that names its session in its id is not there.
    pub(super) fn absent(&self, what: &str, id: &str) -> Refusal {
        let session = SessionId::from(id.split(':').next().unwrap_or_default());
        let ended = self.state.sessions.get(&session).and_then(|found| Self::ended(&session, found));
        ended.unwrap_or_else(|| not_found(what, id))
    }

    /// The id of a session's next request. It names the session, so that it says why it is gone later.
    pub(super) fn next_request(&mut self, session: &SessionId) -> RequestId {
        let made = self.state.sessions.get_mut(session).map_or(0, |session| {
            session.requests_made += 1;
            session.requests_made
        });
        RequestId::new(format!("{session}:request:{made}"))
    }

    /// Sampling sessions whose session is alive.
    pub(super) fn sampler_ids(&self, session: &SessionId) -> BTreeSet<SamplingSessionId> {
        let mine = self.state.samplers.iter().filter(|(_, sampler)| sampler.session == *session);
        mine.map(|(id, _)| id.clone()).collect()
    }

    /// Compares what a number was used for before with what it is asked for now.
    pub(super) fn same(number: &str, before: &Fingerprint, now: &Fingerprint) -> Result<(), Refusal> {
        if before == now {
            return Ok(());
        }
        Err(Refusal::new(
            409,
            format!(
                "{number} was already used with another body. Send the same body again, or use the next number."
            ),
        ))
    }
}

/// What a JSON body asks for, whatever the order of its keys.
pub(super) fn asked(kind: &str, body: &impl serde::Serialize) -> Fingerprint {
    fingerprint(&[kind.as_bytes(), &serde_json::to_vec(body).expect("a decoded body can be written")])
}
