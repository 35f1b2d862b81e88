//! ServiceClient: the supervision tree of one service, its session, and the clients that it makes.
//!
//! ```text
//! service                    one-for-one
//! ├─ calls                   tasks: calls of the service itself
//! ├─ session                 heartbeats
//! ├─ clients                 dynamic; temporary children: closing one is a normal exit, and no crash of one is another's
//! │  ├─ training client      requests (tasks), dispatcher, calls (tasks)
//! │  └─ sampling client      calls (tasks)
//! └─ desk                    takes calls from JavaScript and gives the answers back
//! ```

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use tinkex_protocol::Map;
use tinkex_protocol::json::futures::{RequestType, Submitted};
use tinkex_protocol::json::managing::{WeightsInfo, WeightsInfoResponse};
use tinkex_protocol::json::session::{
    CreateSamplingSession, CreateSamplingSessionResponse, ServerCapabilities,
};
use tinkex_protocol::json::training::{
    CreateModel, CreateModelResult, LoadWeights, LoraConfig, OptimizerConfig,
};
use tinkex_protocol::{ModelId, SamplingSessionId, TinkerPath};
use tinkex_supervise::{
    AutoShutdown, ChildError, ChildSpec, Context, DynamicSupervisor, Exit, Pid, Restart, Shutdown, Started,
    Supervisor, System, TaskSupervisor, mailbox,
};

use crate::error::{Error, Kind, Outcome};
use crate::platform::Platform;
use crate::request::Progress;
use crate::request::retrieve::{Payload, retrieve_or_fail};
use crate::sampling::SamplingClient;
use crate::session::{Labels, Session};
use crate::training::TrainingClient;
use crate::training::dispatcher::Dispatcher;
use crate::transport::answer::{self, Answer};
use crate::transport::retry::Policy;
use crate::transport::{self, Call, Transport};

/// Calls of one client that may be under way, and as many that may wait for a place. Each is a task; a
/// page that has ten thousand open has stopped waiting for any.
const MAX_CALLS: usize = 10_000;

/// How often the parts of a service may crash before the service itself is the failure.
const RESTARTS: u32 = 10;
const RESTART_PERIOD: Duration = Duration::from_secs(5);

/// Where a service is, and what is written with its session.
#[derive(Clone, Debug)]
pub struct Settings {
    pub transport: transport::Settings,
    pub labels: Labels,
}

/// The handle of one service. Clones are the same service.
#[derive(Clone)]
pub struct Service(Rc<Inner>);

struct Inner {
    system: System,
    session: Session,
    calls: TaskSupervisor,
    clients: DynamicSupervisor,
    root: RefCell<Option<Supervisor>>,
}

/// A client that was made, and the process by which it is closed.
pub struct Made<C> {
    pub client: C,
    pub pid: Pid,
}

/// What a model is made of.
#[derive(Clone, Debug)]
pub struct Lora {
    pub base_model: String,
    pub config: LoraConfig,
    pub user_metadata: Option<Map<String>>,
}

impl Service {
    /// Starts the tree. `desk` makes one more child of it, last up and first down.
    pub fn open(
        platform: Rc<dyn Platform>,
        settings: Settings,
        desk: impl FnOnce(&Service) -> Option<ChildSpec>,
    ) -> Service {
        let system = System::new(platform.clone().as_runtime());
        let transport = Transport::new(platform, settings.transport);
        let session = Session::new(transport, settings.labels);
        let calls = TaskSupervisor::new("calls").limit(MAX_CALLS).queue(MAX_CALLS);
        let clients = DynamicSupervisor::new("clients");
        let service = Service(Rc::new(Inner {
            system: system.clone(),
            session: session.clone(),
            calls: calls.clone(),
            clients: clients.clone(),
            root: RefCell::new(None),
        }));
        let heartbeats = ChildSpec::new("session", move |ctx| session.clone().heartbeats(ctx));
        let root = Supervisor::new("service").intensity(RESTARTS, RESTART_PERIOD);
        let mut root = root.with(calls.child()).with(heartbeats).with(clients.child());
        if let Some(desk) = desk(&service) {
            root = root.with(desk);
        }
        // Its children find each other by handle; what is asked of them before they are up waits.
        drop(root.start(&system));
        *service.0.root.borrow_mut() = Some(root);
        service
    }

    pub fn session(&self) -> &Session {
        &self.0.session
    }

    pub fn system(&self) -> &System {
        &self.0.system
    }

    /// Where calls of the service itself run as tasks.
    pub fn calls(&self) -> &TaskSupervisor {
        &self.0.calls
    }

    fn transport(&self) -> &Transport {
        self.0.session.transport()
    }

    /// The models that the server trains and samples.
    pub fn server_capabilities(&self) -> impl Future<Output = Result<ServerCapabilities, Error>> + use<> {
        let service = self.clone();
        async move {
            service.0.session.flags().await?;
            service.transport().fetch(Call::get("get_server_capabilities")).await
        }
    }

    /// Makes a new model at the server and a client for it.
    pub fn create_training_client(
        &self,
        ctx: &Context,
        lora: Lora,
        progress: &Progress,
    ) -> impl Future<Output = Result<Made<TrainingClient>, Error>> + use<> {
        let (service, ctx, progress) = (self.clone(), ctx.clone(), progress.clone());
        let model_seq_id = self.0.session.next_model();
        async move {
            let ask = CreateModel {
                session_id: service.0.session.id().await?,
                model_seq_id,
                base_model: lora.base_model.clone(),
                user_metadata: lora.user_metadata,
                lora_config: lora.config,
                optimizer_config: OptimizerConfig::adamw(),
                tag: Default::default(),
            };
            let call = Call::post_json("create_model", &ask).policy(Policy::Plain);
            let made = service.work(&ctx, call, RequestType::CreateModel, &progress).await;
            let made: CreateModelResult = match made {
                Err(error) => return Err(service.explain_base_model(error, &lora.base_model).await),
                made => read(&made?)?,
            };
            service.start_training_client(made.model_id).await
        }
    }

    /// Makes a new model from a checkpoint, with its optimizer's state or a fresh one, and a client for it.
    pub fn create_training_client_from_state(
        &self,
        ctx: &Context,
        path: String,
        optimizer: bool,
        user_metadata: Option<Map<String>>,
        progress: &Progress,
    ) -> impl Future<Output = Result<Made<TrainingClient>, Error>> + use<> {
        let (service, ctx, progress) = (self.clone(), ctx.clone(), progress.clone());
        let model_seq_id = self.0.session.next_model();
        async move {
            check_path(&path)?;
            let session_id = service.0.session.id().await?;
            let about = Call::post_json("weights_info", &WeightsInfo { tinker_path: path.clone() });
            let about: WeightsInfoResponse = service.transport().fetch(about).await?;
            let model_id = LoadWeights::new_model_id(&session_id, model_seq_id);
            let ask = LoadWeights {
                session_id: Some(session_id),
                model_seq_id: Some(model_seq_id),
                model_id: None,
                seq_id: None,
                base_model: Some(about.base_model),
                user_metadata,
                path,
                optimizer,
                optimizer_config: None,
                weights_access_token: None,
                tag: Default::default(),
            };
            let call = Call::post_json("load_weights", &ask);
            service.work(&ctx, call, RequestType::LoadWeights, &progress).await?;
            service.start_training_client(model_id).await
        }
    }

    /// Makes a sampler of a base model or of a checkpoint, and a client for it.
    pub fn create_sampling_client(
        &self,
        base_model: Option<String>,
        model_path: Option<String>,
        progress: &Progress,
    ) -> impl Future<Output = Result<Made<SamplingClient>, Error>> + use<> {
        let (service, progress) = (self.clone(), progress.clone());
        let sampling_session_seq_id = self.0.session.next_sampler();
        async move {
            if let Some(path) = &model_path {
                check_path(path)?;
            }
            let ask = CreateSamplingSession {
                session_id: service.0.session.id().await?,
                sampling_session_seq_id,
                base_model: base_model.clone(),
                model_path,
                tag: Default::default(),
            };
            progress.sent();
            let call = Call::post_json("create_sampling_session", &ask).policy(Policy::Plain);
            let made: Result<CreateSamplingSessionResponse, Error> = service.transport().fetch(call).await;
            match (made, base_model) {
                (Ok(made), _) => service.start_sampling_client(made.sampling_session_id).await,
                (Err(error), Some(base_model)) => Err(service.explain_base_model(error, &base_model).await),
                (Err(error), None) => Err(error),
            }
        }
    }

    /// A client for a sampler that is there.
    pub async fn start_sampling_client(&self, id: SamplingSessionId) -> Result<Made<SamplingClient>, Error> {
        let calls = TaskSupervisor::new("calls").limit(MAX_CALLS).queue(MAX_CALLS);
        let name = format!("sampling client {id}");
        let client = SamplingClient::new(id, self.transport().clone(), calls.clone());
        let tree = Supervisor::new(name).with(calls.child());
        self.start_client(tree, client).await
    }

    /// Ends a client: its callers are rejected, its tasks end, its siblings don't notice.
    pub async fn close_client(&self, pid: &Pid) {
        // One that has ended already is as closed as can be.
        let _ = self.0.clients.terminate_child(pid).await;
    }

    /// Ends everything: clients first, then the session's heartbeats. Nothing is finished at the server.
    pub fn close(&self) {
        // Taken out, since the tree's children hold this service: nothing is left when they have ended.
        if let Some(pid) = self.0.root.borrow_mut().take().and_then(|root| root.pid()) {
            pid.ask_to_stop();
        }
    }

    async fn start_training_client(&self, model: ModelId) -> Result<Made<TrainingClient>, Error> {
        let flags = self.0.session.flags().await?;
        // When they are stopped, the dispatcher has told every caller: dropping a request aborts it.
        let requests = TaskSupervisor::new("requests").shutdown(Shutdown::BrutalKill);
        let calls = TaskSupervisor::new("calls").limit(MAX_CALLS).queue(MAX_CALLS);
        let (address, inbox) = mailbox();
        let client =
            TrainingClient::new(model.clone(), self.0.session.clone(), flags, address.clone(), calls.clone());
        let name = format!("training client {model}");
        let dispatcher = Dispatcher::new(self.transport().clone(), model, requests.clone(), address);
        // Taken by the first start; there is no second, since what it knew died with it.
        let parts = RefCell::new(Some((dispatcher, inbox)));
        let dispatcher = ChildSpec::new("dispatcher", move |ctx| {
            let parts = parts.borrow_mut().take();
            async move {
                let (dispatcher, inbox) = parts.ok_or(Exit::Normal)?;
                dispatcher.run(ctx, inbox).await
            }
        });
        let dispatcher = dispatcher.restart(Restart::Temporary).significant(true);
        let tree = Supervisor::new(name).auto_shutdown(AutoShutdown::AnySignificant);
        let tree = tree.with(requests.child()).with(dispatcher).with(calls.child());
        self.start_client(tree, client).await
    }

    async fn start_client<C>(&self, tree: Supervisor, client: C) -> Result<Made<C>, Error> {
        let started = self.0.clients.start_child(tree.child().restart(Restart::Temporary)).await;
        match started {
            Ok(Started { pid: Some(pid), .. }) => Ok(Made { client, pid }),
            Err(ChildError::Failed(exit)) => Err(Error::from_exit(&exit, Outcome::Unknown)),
            _ => Err(Error::closed("this service", Outcome::Unknown)),
        }
    }

    /// Submits work that has no place in a model's order, and waits for its result.
    async fn work(
        &self,
        ctx: &Context,
        call: Call,
        kind: RequestType,
        progress: &Progress,
    ) -> Result<Payload, Error> {
        progress.sent();
        let taken: Submitted = self.transport().fetch(call).await?;
        retrieve_or_fail(self.transport(), ctx, &taken.request_id, kind).await
    }

    /// Says which models are served, when an error comes of one that isn't.
    async fn explain_base_model(&self, error: Error, base_model: &str) -> Error {
        let refused = matches!(error.kind(), Kind::Api { status: 400..500, .. } | Kind::RequestFailed { .. });
        if !refused || error.status() == Some(401) {
            return error;
        }
        let Ok(served) = self.server_capabilities().await else { return error };
        let names: Vec<String> =
            served.supported_models.into_iter().filter_map(|model| model.model_name).collect();
        if names.iter().any(|name| name == base_model) {
            return error;
        }
        let message = format!("{base_model:?} isn't served here; take one of: {}", names.join(", "));
        Error::invalid("baseModel", message).with_outcome(Outcome::Refused)
    }
}

fn check_path(path: &str) -> Result<(), Error> {
    match path.parse::<TinkerPath>() {
        Ok(_) => Ok(()),
        Err(error) => Err(Error::invalid("path", format!("{path:?} is no checkpoint's path: {error}"))),
    }
}

fn read<T: Answer>(payload: &Payload) -> Result<T, Error> {
    match payload {
        Payload::Json(bytes) => answer::read(bytes)
            .map_err(|error| Error::protocol(format!("the server's result can't be read: {error}"))),
        Payload::Protobuf(_) => Err(Error::protocol("the server sent protobuf where a JSON result belongs")),
    }
}
