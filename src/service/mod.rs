//! ServiceClient: the supervision tree of one service, its session, and the clients that it makes.
//!
//! ```text
//! service                    one-for-one
//! ├─ telemetry               sends what was told; temporary, and ends last
//! ├─ calls                   tasks: calls of the service itself
//! ├─ tasks                   tasks: the page's own functions
//! ├─ session                 heartbeats
//! ├─ clients                 dynamic; temporary children: closing one is a normal exit, and no crash of one is another's
//! │  ├─ training client      requests (tasks), dispatcher, calls (tasks)
//! │  └─ sampling client      calls (tasks)
//! └─ desk                    takes calls from JavaScript and gives the answers back
//! ```

mod deferred;
mod models;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use tinkex_protocol::Map;
use tinkex_protocol::json::session::{
    CreateSamplingSession, CreateSamplingSessionResponse, ServerCapabilities,
};
use tinkex_protocol::json::training::LoraConfig;
use tinkex_protocol::{SamplingSessionId, TinkerPath};
use tinkex_supervise::{
    ChildError, ChildSpec, DynamicSupervisor, Pid, Restart, Started, Supervisor, System, TaskSupervisor,
};

use crate::error::{Error, Kind, Outcome};
use crate::platform::Platform;
use crate::request::Progress;
use crate::sampling::SamplingClient;
use crate::session::{Choice, Heartbeats, Labels, Session};
use crate::store::{Fence, Store};
use crate::telemetry::Telemetry;
use crate::training::TrainingClient;
use crate::transport::retry::Policy;
use crate::transport::{self, Call, Transport};

/// Calls of one client that may be under way, and as many that may wait for a place. Each is a task; a
/// page that has ten thousand open has stopped waiting for any.
const MAX_CALLS: usize = 10_000;

/// Functions of the page that may run at a time; as many as calls may wait for a place.
const MAX_TASKS: usize = 100;

/// How often the parts of a service may crash before the service itself is the failure.
const RESTARTS: u32 = 10;
const RESTART_PERIOD: Duration = Duration::from_secs(5);

/// Where a service is, what is written with its session, and which one that is.
#[derive(Clone, Debug)]
pub struct Settings {
    pub transport: transport::Settings,
    pub labels: Labels,
    pub session: Choice,
    /// Whether the service is told how its client fares.
    pub telemetry: bool,
}

/// What the trees of one server and account share.
#[derive(Clone)]
pub struct Shared {
    pub system: System,
    pub transport: Transport,
    pub store: Rc<dyn Store>,
    pub labels: Labels,
    pub telemetry: Telemetry,
}

/// The handle of one service. Clones are the same service.
#[derive(Clone)]
pub struct Service(Rc<Inner>);

struct Inner {
    shared: Shared,
    session: Session,
    calls: TaskSupervisor,
    tasks: TaskSupervisor,
    clients: DynamicSupervisor,
    /// Models that have a client here.
    models: RefCell<Vec<Made<TrainingClient>>>,
    root: Cell<Option<Supervisor>>,
}

/// A client that was made, and the process by which it is closed.
#[derive(Clone)]
pub struct Made<C> {
    pub client: C,
    pub pid: Pid,
}

/// A client that is being made.
pub type Making<C> = LocalBoxFuture<'static, Result<Made<C>, Error>>;

/// What a model is made of.
#[derive(Clone, Debug)]
pub struct Lora {
    pub base_model: String,
    pub config: LoraConfig,
    pub user_metadata: Option<Map<String>>,
}

impl Service {
    /// Starts the tree. `above` gives it more children, last up and first down.
    pub fn open(
        platform: Rc<dyn Platform>,
        store: Rc<dyn Store>,
        settings: Settings,
        above: impl FnOnce(&Service, Supervisor) -> Supervisor,
    ) -> Service {
        let system = System::new(platform.clone());
        let transport = Transport::new(platform, settings.transport);
        let owner = &settings.session.owner;
        let telemetry = Telemetry::new(settings.telemetry, &transport, &store, owner);
        let sender = telemetry.child(&system);
        let shared = Shared { system: system.clone(), transport, store, labels: settings.labels, telemetry };
        let (service, root) = Service::tree(shared, "service", settings.session, None, sender);
        let root = above(&service, root);
        // Its children find each other by handle; what is asked of them before they are up waits.
        drop(root.start(&system));
        service.0.root.set(Some(root));
        service
    }

    /// A session and its clients, and the tree that is to be started for them, with a child that outlives all others.
    /// `fence`: see [`Session::new`].
    pub fn tree(
        shared: Shared,
        name: &str,
        choice: Choice,
        fence: Option<Fence>,
        first: Option<ChildSpec>,
    ) -> (Service, Supervisor) {
        let Shared { transport, store, labels, telemetry, .. } = shared.clone();
        let service = Service(Rc::new(Inner {
            session: Session::new(transport, store, fence, labels, choice, telemetry),
            calls: TaskSupervisor::new("calls").limit(MAX_CALLS).queue(MAX_CALLS),
            tasks: TaskSupervisor::new("tasks").limit(MAX_TASKS).queue(MAX_CALLS),
            clients: DynamicSupervisor::new("clients"),
            models: RefCell::default(),
            root: Cell::new(None),
            shared,
        }));
        let Inner { session, calls, tasks, clients, .. } = &*service.0;
        let session = session.clone();
        let heartbeats = ChildSpec::new("session", move |ctx| Heartbeats::new(session.clone(), ctx));
        let mut root = Supervisor::new(name).intensity(RESTARTS, RESTART_PERIOD);
        if let Some(first) = first {
            root = root.with(first);
        }
        let root = root.with(calls.child()).with(tasks.child()).with(heartbeats).with(clients.child());
        (service, root)
    }

    pub fn session(&self) -> &Session {
        &self.0.session
    }

    pub fn shared(&self) -> &Shared {
        &self.0.shared
    }

    pub fn system(&self) -> &System {
        &self.0.shared.system
    }

    /// Where calls of the service itself run as tasks.
    pub fn calls(&self) -> &TaskSupervisor {
        &self.0.calls
    }

    /// Where the page's own functions run as tasks.
    pub fn tasks(&self) -> &TaskSupervisor {
        &self.0.tasks
    }

    fn transport(&self) -> &Transport {
        self.0.session.transport()
    }

    /// The models that the server trains and samples.
    pub fn server_capabilities(&self) -> LocalBoxFuture<'static, Result<ServerCapabilities, Error>> {
        let service = self.clone();
        async move {
            service.0.session.limits().await?;
            service.transport().fetch(Call::get("get_server_capabilities")).await?.read()
        }
        .boxed_local()
    }

    /// Makes a sampler of a base model or of a checkpoint, and a client for it.
    pub fn create_sampling_client(
        &self,
        base_model: Option<String>,
        model_path: Option<String>,
        progress: &Progress,
    ) -> Making<SamplingClient> {
        let (service, progress) = (self.clone(), progress.clone());
        let nth = self.0.session.nth_sampler();
        async move {
            if let Some(path) = &model_path {
                check_path(path)?;
            }
            let journal = service.0.session.journal().await?;
            let (sampling_session_seq_id, reservation) = journal.sampler_number(nth);
            journal.reserve(reservation).await?;
            let call = Call::post_json(
                "create_sampling_session",
                &CreateSamplingSession {
                    session_id: journal.session().clone(),
                    sampling_session_seq_id,
                    base_model: base_model.clone(),
                    model_path,
                    tag: Default::default(),
                },
            );
            progress.sent();
            match service.transport().fetch(call.policy(Policy::Plain)).await {
                Ok(made) => {
                    let made: CreateSamplingSessionResponse = made.read()?;
                    service.start_sampling_client(made.sampling_session_id, false).await
                }
                Err(error) => Err(service.explain_base_model(error, base_model).await),
            }
        }
        .boxed_local()
    }

    /// A client for a sampler that is there. `used`: by another client before, whose samples' numbers are not known.
    pub fn start_sampling_client(&self, id: SamplingSessionId, used: bool) -> Making<SamplingClient> {
        let calls = TaskSupervisor::new("calls").limit(MAX_CALLS).queue(MAX_CALLS);
        let tree = Supervisor::new(["sampling client ", id.as_str()].concat()).with(calls.child());
        let client = SamplingClient::new(id, self.transport().clone(), calls, used);
        self.start_client(tree).map(|pid| Ok(Made { client, pid: pid? })).boxed_local()
    }

    /// Ends a client: its callers are rejected, its tasks end, its siblings don't notice.
    pub fn close_client(&self, pid: &Pid) -> impl Future<Output = ()> + use<> {
        // One that has ended already is as closed as can be.
        self.0.clients.terminate_child(pid).map(drop)
    }

    /// The page is hidden, and may never be seen again.
    pub fn hidden(&self) {
        self.0.shared.telemetry.leave();
    }

    /// The page is back, or its network has come or gone.
    pub fn wake(&self, online: bool) {
        self.transport().wake(online);
    }

    /// Ends everything: clients first, then the session's heartbeats, and telemetry when it has told of that. Nothing is
    /// finished at the server.
    pub fn close(&self) {
        // Taken out, since the tree's children hold this service: nothing is left when they have ended.
        if let Some(pid) = self.0.root.take().and_then(|root| root.pid()) {
            pid.ask_to_stop();
        }
    }

    fn start_client(&self, tree: Supervisor) -> LocalBoxFuture<'static, Result<Pid, Error>> {
        let started = self.0.clients.start_child(tree.child().restart(Restart::Temporary));
        let pid = |started| match started {
            Ok(Started { pid: Some(pid), .. }) => Ok(pid),
            Err(ChildError::Failed(exit)) => Err(Error::from_exit(&exit, Outcome::Unknown)),
            _ => Err(Error::closed("this service", Outcome::Unknown)),
        };
        started.map(pid).boxed_local()
    }

    /// Says which models are served, when an error comes of one that isn't.
    fn explain_base_model(&self, error: Error, base_model: Option<String>) -> LocalBoxFuture<'static, Error> {
        let service = self.clone();
        async move {
            let Some(base_model) = base_model else { return error };
            let refused =
                matches!(error.kind(), Kind::Api { status: 400..500, .. } | Kind::RequestFailed { .. });
            if !refused || error.status() == Some(401) {
                return error;
            }
            let Ok(served) = service.server_capabilities().await else { return error };
            let mut message = format!("\"{base_model}\" isn't served here; take one of");
            let mut between = ": ";
            for name in served.supported_models.iter().filter_map(|model| model.model_name.as_deref()) {
                if name == base_model {
                    return error;
                }
                message.push_str(between);
                message.push_str(name);
                between = ", ";
            }
            Error::invalid("baseModel", message).with_outcome(Outcome::Refused)
        }
        .boxed_local()
    }
}

fn check_path(path: &str) -> Result<(), Error> {
    match path.parse::<TinkerPath>() {
        Ok(_) => Ok(()),
        Err(error) => Err(Error::invalid("path", format!("\"{path}\" is no checkpoint's path: {error}"))),
    }
}
