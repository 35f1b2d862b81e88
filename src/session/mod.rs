//! The service's settings and the session: asked for and made when the first call needs them, kept alive by
//! heartbeats.
//!
//! What is known of the session lives here, beside the process that sends the heartbeats and not in it: a heartbeat
//! that crashes starts again and goes on with the same session.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use futures_util::lock::Mutex;
use tinkex_protocol::Map;
use tinkex_protocol::json::session::{
    ClientConfig, CreateSession, CreateSessionResponse, Flags, SessionHeartbeat,
};
use tinkex_protocol::{ModelSeqId, SamplingSessionSeqId, SessionId};
use tinkex_supervise::{Context, Exit};

use crate::error::Error;
use crate::platform::{Level, uuid};
use crate::transport::connections::Class;
use crate::transport::retry::Policy;
use crate::transport::{Call, SDK_VERSION, Transport};

/// The service ends a session that is silent for a minute or two.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(10);
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(10);
const WARN_AFTER_SILENCE: Duration = Duration::from_secs(120);

/// What is written with a session.
#[derive(Clone, Debug, Default)]
pub struct Labels {
    pub tags: Vec<String>,
    pub user_metadata: Map<String>,
    pub project_id: Option<String>,
    pub display_name: Option<String>,
}

/// A service's session, made when it is first needed. Clones share it.
#[derive(Clone)]
pub struct Session(Rc<Inner>);

struct Inner {
    transport: Transport,
    labels: Labels,
    /// One asks, the others wait for its answer; a failure is not kept, so the next caller asks again.
    flags: Mutex<Option<Rc<Flags>>>,
    id: Mutex<Option<SessionId>>,
    /// The same key for each try, as `create_session` has no number: an orphan session does no harm.
    creation_key: String,
    state: RefCell<State>,
    next_model: Cell<ModelSeqId>,
    next_sampler: Cell<SamplingSessionSeqId>,
}

enum State {
    None,
    Live {
        id: SessionId,
        last_success: Duration,
        warned: bool,
    },
    /// The server ended it; nothing of it can be used again.
    Ended(Error),
}

impl Session {
    pub fn new(transport: Transport, labels: Labels) -> Session {
        let creation_key = uuid(&**transport.platform());
        Session(Rc::new(Inner {
            transport,
            labels,
            flags: Mutex::new(None),
            id: Mutex::new(None),
            creation_key,
            state: RefCell::new(State::None),
            next_model: Cell::new(ModelSeqId::FIRST),
            next_sampler: Cell::new(SamplingSessionSeqId::FIRST),
        }))
    }

    pub fn transport(&self) -> &Transport {
        &self.0.transport
    }

    /// The service's settings, asked for once. A server that knows none has the defaults.
    pub async fn flags(&self) -> Result<Rc<Flags>, Error> {
        let mut known = self.0.flags.lock().await;
        if let Some(flags) = &*known {
            return Ok(flags.clone());
        }
        let ask = ClientConfig { sdk_version: SDK_VERSION.into() };
        let call = Call::post_json("client/config", &ask).class(Class::Control);
        let flags = match self.0.transport.fetch::<Flags>(call).await {
            Err(error) if error.status() == Some(404) => Flags::default(),
            answer => answer?,
        };
        Ok(known.insert(Rc::new(flags)).clone())
    }

    /// The session's id; makes the session if there is none. Rejects with `GoneError` once the server has ended it.
    pub async fn id(&self) -> Result<SessionId, Error> {
        if let State::Ended(error) = &*self.0.state.borrow() {
            return Err(error.clone());
        }
        let mut known = self.0.id.lock().await;
        if let Some(id) = &*known {
            return Ok(id.clone());
        }
        self.flags().await?;
        let Labels { tags, user_metadata, project_id, display_name } = self.0.labels.clone();
        let ask = CreateSession {
            tags,
            user_metadata,
            sdk_version: SDK_VERSION.into(),
            project_id,
            display_name,
            tag: Default::default(),
        };
        let mut call = Call::post_json("create_session", &ask).class(Class::Control).policy(Policy::Plain);
        call.idempotency_key = Some(self.0.creation_key.clone());
        let made: CreateSessionResponse = self.0.transport.fetch(call).await?;
        let platform = self.0.transport.platform();
        let messages = [
            (Level::Info, &made.info_message),
            (Level::Warn, &made.warning_message),
            (Level::Error, &made.error_message),
        ];
        for (level, message) in messages {
            if let Some(message) = message {
                platform.log(level, message);
            }
        }
        let state = State::Live { id: made.session_id.clone(), last_success: platform.now(), warned: false };
        *self.0.state.borrow_mut() = state;
        Ok(known.insert(made.session_id).clone())
    }

    /// The next model's number. Given at the call, so that models are numbered in the order of the calls.
    pub fn next_model(&self) -> ModelSeqId {
        let number = self.0.next_model.get();
        self.0.next_model.set(number.next());
        number
    }

    /// The next sampler's number.
    pub fn next_sampler(&self) -> SamplingSessionSeqId {
        let number = self.0.next_sampler.get();
        self.0.next_sampler.set(number.next());
        number
    }

    /// The process that keeps the session alive.
    pub async fn heartbeats(self, ctx: Context) -> Result<(), Exit> {
        ctx.ready();
        loop {
            let waiting = ctx.waiting_for("the next heartbeat");
            ctx.sleep(HEARTBEAT_EVERY).await?;
            drop(waiting);
            let _waiting = ctx.waiting_for("the answer to a heartbeat");
            ctx.until_shutdown(self.heartbeat()).await?;
        }
    }

    /// Sends one heartbeat, if there is a session.
    async fn heartbeat(&self) {
        let Inner { transport, state, .. } = &*self.0;
        let id = match &*state.borrow() {
            State::Live { id, .. } => id.clone(),
            State::None | State::Ended(_) => return,
        };
        let beat = SessionHeartbeat { session_id: id, tag: Default::default() };
        let call = Call::post_json("session_heartbeat", &beat).class(Class::Control).policy(Policy::Once);
        let answer = transport.send(call.timeout(HEARTBEAT_TIMEOUT)).await;
        let now = transport.platform().now();
        match (answer, &mut *state.borrow_mut()) {
            (Ok(_), State::Live { last_success, warned, .. }) => {
                *last_success = now;
                *warned = false;
            }
            (Err(error), state) if error.status() == Some(410) => {
                transport.platform().log(Level::Warn, &format!("the session has ended: {error}"));
                *state = State::Ended(error.context("the session has ended"));
            }
            (Err(error), State::Live { last_success, warned, .. }) => {
                let silence = now.saturating_sub(*last_success);
                if silence >= WARN_AFTER_SILENCE && !std::mem::replace(warned, true) {
                    let seconds = silence.as_secs();
                    let message =
                        format!("no heartbeat got through for {seconds} s; the session may end: {error}");
                    transport.platform().log(Level::Warn, &message);
                }
            }
            _ => {}
        }
    }
}
