//! The service's settings and the session: asked for and made, or taken up again, when the first call needs them; kept
//! alive by heartbeats.
//!
//! What is known of the session lives here, beside the process that sends the heartbeats and not in it: a heartbeat
//! that crashes starts again and goes on with the same session. What must outlive the instance is in the store, written
//! before it is used.

pub mod deferred;
pub mod earlier;
mod gate;
mod heartbeat;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{LocalBoxFuture, ready};
use tinkex_journal::record::{SESSIONS, session_key};
use tinkex_protocol::Map;
use tinkex_protocol::SessionId;
use tinkex_protocol::chunking::ChunkLimits;
use tinkex_protocol::json::session::{ClientConfig, CreateSession, SessionHeartbeat};

use crate::error::Error;
use crate::platform::{Level, uuid};
use crate::store::{Fence, Journal, Store};
use crate::telemetry::{Opened, Telemetry};
use crate::transport::answer::{Answer, Fields};
use crate::transport::connections::Class;
use crate::transport::retry::Policy;
use crate::transport::{Body, Call, Fetched, SDK_VERSION, Transport};
use gate::Gate;
pub use heartbeat::Heartbeats;

/// The service ends a session that is silent for a minute or two.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(10);
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(10);

/// What is written with a session.
#[derive(Clone, Debug, Default)]
pub struct Labels {
    pub tags: Vec<String>,
    pub user_metadata: Map<String>,
    pub project_id: Option<String>,
    pub display_name: Option<String>,
}

/// Which session a service takes.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// The name of this service in records: of its page or process, and its own in there. The session that it used
    /// before its instance died is its own again, whatever else is asked for.
    pub owner: String,
    pub resume: Resume,
}

#[derive(Clone, Debug, Default)]
pub enum Resume {
    /// A new one.
    #[default]
    None,
    /// The newest that is kept of this server and account, or a new one where there is none.
    Newest,
    This(SessionId),
}

/// What the names of runs begin with, as owners of sessions: only the run itself takes those up again.
pub const OF_A_RUN: &str = "run/";

/// A service's session, made or taken up again when it is first needed. Clones share it.
#[derive(Clone)]
pub struct Session(Rc<Inner>);

struct Inner {
    transport: Transport,
    store: Rc<dyn Store>,
    /// Under which its journal is written, where that is not the session's own.
    fence: Option<Fence>,
    choice: Choice,
    telemetry: Telemetry,
    /// One asks, the others wait for its answer; a failure is not kept, so the next caller asks again.
    asking: Gate,
    limits: Cell<Option<ChunkLimits>>,
    opening: Gate,
    /// The body of `create_session`.
    creation: Body,
    /// The same key for each try, as `create_session` has no number: an orphan session does no harm.
    creation_key: String,
    state: RefCell<State>,
    models: Cell<u64>,
    samplers: Cell<u64>,
    /// When the last heartbeat was sent.
    last_beat: Cell<Beat>,
    /// The process that sends them, while it sleeps.
    sleeping: RefCell<Option<Waker>>,
}

/// A moment by both clocks: while a machine sleeps some browsers' own clock stands.
#[derive(Clone, Copy, Default)]
struct Beat {
    at: Duration,
    unix_time: Duration,
}

enum State {
    None,
    Live {
        journal: Journal,
        last_success: Duration,
        warned: bool,
    },
    /// The server ended it; nothing of it can be used again.
    Ended(Error),
}

impl Session {
    /// `fence`: under which its journal is written; its own where there is none.
    pub fn new(
        transport: Transport,
        store: Rc<dyn Store>,
        fence: Option<Fence>,
        labels: Labels,
        choice: Choice,
        telemetry: Telemetry,
    ) -> Session {
        let creation_key = uuid(&**transport.platform());
        let creation = Body::json(&CreateSession {
            tags: labels.tags,
            user_metadata: labels.user_metadata,
            sdk_version: SDK_VERSION.into(),
            project_id: labels.project_id,
            display_name: labels.display_name,
            tag: Default::default(),
        });
        let session = Rc::new(Inner {
            transport,
            store,
            fence,
            choice,
            telemetry,
            asking: Gate::default(),
            limits: Cell::default(),
            opening: Gate::default(),
            creation,
            creation_key,
            state: RefCell::new(State::None),
            models: Cell::new(0),
            samplers: Cell::new(0),
            last_beat: Cell::default(),
            sleeping: RefCell::new(None),
        });
        let known = Rc::downgrade(&session);
        session.transport.on_answer(Box::new(move || {
            let session = known.upgrade().map(Session);
            session.is_some_and(|session| {
                session.wake();
                true
            })
        }));
        Session(session)
    }

    pub fn transport(&self) -> &Transport {
        &self.0.transport
    }

    /// What the service's settings let one request have; asked for once. A server that knows none has the defaults.
    pub fn limits(&self) -> LocalBoxFuture<'static, Result<ChunkLimits, Error>> {
        let session = self.clone();
        async move {
            let _asking = session.0.asking.pass().await;
            if let Some(limits) = session.0.limits.get() {
                return Ok(limits);
            }
            let call = Call::post_json("client/config", &ClientConfig { sdk_version: SDK_VERSION.into() });
            let limits = match session.0.transport.fetch(call.class(Class::Control)).await {
                Err(error) if error.status() == Some(404) => ChunkLimits::DEFAULT,
                answer => answer?.read()?,
            };
            session.0.limits.set(Some(limits));
            Ok(limits)
        }
        .boxed_local()
    }

    /// The same of a session that is open, or was.
    pub fn known_limits(&self) -> ChunkLimits {
        self.0.limits.get().expect("no session is opened before its service's limits are known")
    }

    /// The session's journal, and with it its id; opens the session if that was not done. Rejects with `GoneError` once
    /// the server has ended it.
    pub fn journal(&self) -> LocalBoxFuture<'static, Result<Journal, Error>> {
        let session = self.clone();
        async move {
            let _opening = session.0.opening.pass().await;
            if let Some(known) = session.known() {
                return known;
            }
            session.limits().await?;
            let Inner { transport, store, state, .. } = &*session.0;
            let kept = store.load(SESSIONS).await?;
            let taken = match earlier::here() {
                Some(earlier) => earlier.take_up(&session, &kept).await?,
                None => {
                    let makes_one = matches!(session.0.choice.resume, Resume::None);
                    assert!(makes_one, "a service that resumes is opened when the second file is here");
                    None
                }
            };
            let (journal, how) = match taken {
                Some(taken) => taken,
                None => {
                    let id = session.made(&transport.fetch(session.creation()).await?)?;
                    let now = transport.platform().unix_time();
                    let fence = session.fence(&id).await?;
                    let (owner, created) = (&session.0.choice.owner, now.as_millis() as u64);
                    let journal = Journal::new(fence, id, owner, created).await?;
                    match earlier::here() {
                        Some(earlier) => earlier.clear_one(&session, &kept).await,
                        // It looks for itself what there is to do, when it is here.
                        None if earlier::has_old(&kept, now) => transport.platform().bring_the_rest(),
                        None => {}
                    }
                    (journal, Opened::Made)
                }
            };
            let last_success = transport.platform().now();
            session.beat();
            *state.borrow_mut() = State::Live { journal: journal.clone(), last_success, warned: false };
            session.0.telemetry.opened(&journal, how);
            Ok(journal)
        }
        .boxed_local()
    }

    fn known(&self) -> Option<Result<Journal, Error>> {
        match &*self.0.state.borrow() {
            State::None => None,
            State::Live { journal, .. } => Some(journal.lost().map_or_else(|| Ok(journal.clone()), Err)),
            State::Ended(error) => Some(Err(error.clone())),
        }
    }

    /// The id of the session, once it is open.
    pub fn id(&self) -> Option<SessionId> {
        self.known()?.ok().map(|journal| journal.session().clone())
    }

    /// The session's journal, once it is open.
    pub fn open_journal(&self) -> Option<Journal> {
        self.known()?.ok()
    }

    /// Why nothing of this session can be used here any more.
    pub fn lost(&self) -> Option<Error> {
        self.known()?.err()
    }

    /// Under which the journal of the session of this id is written.
    fn fence(&self, id: &SessionId) -> LocalBoxFuture<'static, Result<Fence, Error>> {
        match &self.0.fence {
            Some(fence) => ready(Ok(fence.clone())).boxed_local(),
            None => Fence::claim(self.0.store.clone(), session_key(id.as_str())),
        }
    }

    fn creation(&self) -> Call {
        let call = Call::post("create_session", self.0.creation.clone());
        let mut call = call.class(Class::Control).policy(Policy::Plain);
        call.idempotency_key = Some(self.0.creation_key.clone());
        call
    }

    /// The id of the session that was made. What the server has to say to whoever makes one is said.
    fn made(&self, answer: &Fetched) -> Result<SessionId, Error> {
        let Made { id, messages } = answer.read()?;
        for (level, message) in &messages {
            self.0.transport.platform().log(*level, message);
        }
        Ok(id)
    }

    /// The place of a model among those of this service. Given at the call, so that models are numbered in the order of
    /// the calls.
    pub fn nth_model(&self) -> u64 {
        self.0.models.replace(self.0.models.get() + 1)
    }

    /// The place of a sampler among those of this service.
    pub fn nth_sampler(&self) -> u64 {
        self.0.samplers.replace(self.0.samplers.get() + 1)
    }

    /// One is sent now, or what counts as one.
    fn beat(&self) {
        let platform = self.0.transport.platform();
        self.0.last_beat.set(Beat { at: platform.now(), unix_time: platform.unix_time() });
    }
}

/// The answer to `create_session`.
struct Made {
    id: SessionId,
    messages: Vec<(Level, String)>,
}

impl Answer for Made {
    const TYPE: Option<&'static str> = Some("create_session");

    fn of(fields: &Fields) -> Result<Made, tinkex_protocol::Error> {
        let mut messages = Vec::new();
        for (level, name) in
            [(Level::Info, "info_message"), (Level::Warn, "warning_message"), (Level::Error, "error_message")]
        {
            if let Some(message) = fields.optional_text(name)? {
                messages.push((level, message));
            }
        }
        Ok(Made { id: fields.text("session_id")?.into(), messages })
    }
}

fn beat(session_id: SessionId) -> Call {
    let beat = SessionHeartbeat { session_id, tag: Default::default() };
    Call::post_json("session_heartbeat", &beat).class(Class::Control)
}
