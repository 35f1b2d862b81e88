//! ServiceClient: the supervision tree of one service, its session, and the clients that it makes.
//!
//! ```text
//! service                    one-for-one
//! ├─ calls                   tasks: calls of the service itself
//! ├─ tasks                   tasks: the page's own functions
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

use futures_channel::oneshot;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use tinkex_journal::lane::{FIRST, Lane};
use tinkex_journal::recovery::Recovered;
use tinkex_protocol::Map;
use tinkex_protocol::json::futures::{RequestType, Submitted};
use tinkex_protocol::json::managing::{WeightsInfo, WeightsInfoResponse};
use tinkex_protocol::json::session::{
    CreateSamplingSession, CreateSamplingSessionResponse, ServerCapabilities,
};
use tinkex_protocol::json::training::{
    CreateModel, CreateModelResult, LoadWeights, LoraConfig, OptimizerConfig,
};
use tinkex_protocol::{ModelId, ModelSeqId, SamplingSessionId, SessionId, TinkerPath};
use tinkex_supervise::{
    Address, AutoShutdown, ChildError, ChildSpec, Context, DynamicSupervisor, Exit, Pid, Restart, Shutdown,
    Started, Supervisor, System, TaskSupervisor, mailbox,
};

use crate::error::{Error, Kind, Outcome};
use crate::platform::{Level, Platform};
use crate::request::Progress;
use crate::request::retrieve::{Payload, retrieve_or_fail};
use crate::sampling::SamplingClient;
use crate::session::{Choice, Labels, Session};
use crate::store::{Durability, Journal, Store, words};
use crate::training::TrainingClient;
use crate::training::dispatcher::{Dispatcher, Message};
use crate::training::held::resume;
use crate::transport::answer::{self, Answer};
use crate::transport::retry::Policy;
use crate::transport::{self, Body, Call, Transport};

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
}

/// The handle of one service. Clones are the same service.
#[derive(Clone)]
pub struct Service(Rc<Inner>);

struct Inner {
    system: System,
    session: Session,
    calls: TaskSupervisor,
    tasks: TaskSupervisor,
    clients: DynamicSupervisor,
    models: RefCell<Vec<Open>>,
    root: RefCell<Option<Supervisor>>,
}

/// A client that was made, and the process by which it is closed.
pub struct Made<C> {
    pub client: C,
    pub pid: Pid,
}

/// A model that has a client here.
#[derive(Clone)]
struct Open {
    model: ModelId,
    pid: Pid,
    dispatcher: Address<Message>,
}

/// What a model is made of.
#[derive(Clone, Debug)]
pub struct Lora {
    pub base_model: String,
    pub config: LoraConfig,
    pub user_metadata: Option<Map<String>>,
}

enum Source {
    Base(Lora),
    State { path: String, optimizer: bool, user_metadata: Option<Map<String>> },
}

impl Source {
    /// How the model is asked for: path, body, and what it is.
    fn ask(
        self,
        session_id: &SessionId,
        model_seq_id: ModelSeqId,
        base_model: String,
    ) -> (&'static str, Body, RequestType) {
        let session_id = session_id.clone();
        match self {
            Source::Base(lora) => {
                let ask = CreateModel {
                    session_id,
                    model_seq_id,
                    base_model,
                    user_metadata: lora.user_metadata,
                    lora_config: lora.config,
                    optimizer_config: OptimizerConfig::adamw(),
                    tag: Default::default(),
                };
                ("create_model", Body::json(&ask), RequestType::CreateModel)
            }
            Source::State { path, optimizer, user_metadata } => {
                let ask = LoadWeights {
                    session_id: Some(session_id),
                    model_seq_id: Some(model_seq_id),
                    model_id: None,
                    seq_id: None,
                    base_model: Some(base_model),
                    user_metadata,
                    path,
                    optimizer,
                    optimizer_config: None,
                    weights_access_token: None,
                    tag: Default::default(),
                };
                ("load_weights", Body::json(&ask), RequestType::LoadWeights)
            }
        }
    }
}

impl Service {
    /// Starts the tree. `desk` makes one more child of it, last up and first down.
    pub fn open(
        platform: Rc<dyn Platform>,
        store: Rc<dyn Store>,
        settings: Settings,
        desk: impl FnOnce(&Service) -> Option<ChildSpec>,
    ) -> Service {
        let system = System::new(platform.clone().as_runtime());
        let transport = Transport::new(platform, settings.transport);
        let session = Session::new(transport, store, settings.labels, settings.session);
        let calls = TaskSupervisor::new("calls").limit(MAX_CALLS).queue(MAX_CALLS);
        let tasks = TaskSupervisor::new("tasks").limit(MAX_TASKS).queue(MAX_CALLS);
        let clients = DynamicSupervisor::new("clients");
        let service = Service(Rc::new(Inner {
            system: system.clone(),
            session: session.clone(),
            calls: calls.clone(),
            tasks: tasks.clone(),
            clients: clients.clone(),
            models: RefCell::default(),
            root: RefCell::new(None),
        }));
        let heartbeats = ChildSpec::new("session", move |ctx| session.clone().heartbeats(ctx));
        let root = Supervisor::new("service").intensity(RESTARTS, RESTART_PERIOD);
        let mut root = root.with(calls.child()).with(tasks.child()).with(heartbeats).with(clients.child());
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

    /// Where the page's own functions run as tasks.
    pub fn tasks(&self) -> &TaskSupervisor {
        &self.0.tasks
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
    ) -> LocalBoxFuture<'static, Result<Made<TrainingClient>, Error>> {
        self.make_model(ctx, Source::Base(lora), progress)
    }

    /// Makes a new model from a checkpoint, with its optimizer's state or a fresh one, and a client for it.
    pub fn create_training_client_from_state(
        &self,
        ctx: &Context,
        path: String,
        optimizer: bool,
        user_metadata: Option<Map<String>>,
        progress: &Progress,
    ) -> LocalBoxFuture<'static, Result<Made<TrainingClient>, Error>> {
        self.make_model(ctx, Source::State { path, optimizer, user_metadata }, progress)
    }

    fn make_model(
        &self,
        ctx: &Context,
        source: Source,
        progress: &Progress,
    ) -> LocalBoxFuture<'static, Result<Made<TrainingClient>, Error>> {
        let (service, ctx, progress) = (self.clone(), ctx.clone(), progress.clone());
        let nth = self.0.session.nth_model();
        async move {
            if let Source::State { path, .. } = &source {
                check_path(path)?;
            }
            let journal = service.0.session.journal().await?;
            let base_model = match &source {
                Source::Base(lora) => lora.base_model.clone(),
                Source::State { path, .. } => {
                    let about = WeightsInfo { tinker_path: path.clone() };
                    let about = Call::post_json("weights_info", &about);
                    let about: WeightsInfoResponse = service.transport().fetch(about).await?;
                    about.base_model
                }
            };
            let number = journal.model_number(nth).await?;
            let session_id = journal.session().clone();
            let (path, body, kind) = source.ask(&session_id, number, base_model.clone());
            let call = |body| match kind {
                RequestType::CreateModel => Call::post(path, body).policy(Policy::Plain),
                _ => Call::post(path, body),
            };
            progress.sent();
            let made = async {
                let taken: Submitted = service.transport().fetch(call(body.clone())).await?;
                let payload = retrieve_or_fail(service.transport(), &ctx, &taken.request_id, kind).await?;
                Ok((taken.request_id, payload))
            };
            let (request, model) = match (made.await, kind) {
                (Ok((request, payload)), RequestType::CreateModel) => {
                    (request, read::<CreateModelResult>(&payload)?.model_id)
                }
                (Ok((request, _)), _) => (request, LoadWeights::new_model_id(&session_id, number)),
                (Err(error), RequestType::CreateModel) => {
                    return Err(service.explain_base_model(error, &base_model).await);
                }
                (Err(error), _) => return Err(error),
            };
            if journal.exactly_once().is_none() {
                // Nothing was done with the model yet, so a server that takes this for another one does no harm.
                let again: Result<Submitted, Error> = service.transport().fetch(call(body)).await;
                if let Ok(again) = again {
                    service.learn_exactly_once(&journal, again.request_id == request).await;
                }
            }
            journal.commit(Durability::Strict, vec![journal.model_op(&model, FIRST)]).await?;
            service.start_training_client(model, journal, None).await
        }
        .boxed_local()
    }

    async fn learn_exactly_once(&self, journal: &Journal, exactly_once: bool) {
        if !exactly_once {
            let message = "this server answers the same number and body with another request: a call that is sent \
                           again after a lost answer or a crash may be applied twice";
            self.transport().platform().log(Level::Warn, message);
        }
        // Where it is not kept, the next model finds it out again.
        let _ = journal.set_exactly_once(exactly_once).await;
    }

    /// A client for a model of this session that is in the journal, with the calls that nobody has seen the end of.
    pub fn resume_training_client(
        &self,
        model: ModelId,
    ) -> LocalBoxFuture<'static, Result<Made<TrainingClient>, Error>> {
        let service = self.clone();
        async move {
            let journal = service.0.session.journal().await?;
            let open =
                service.0.models.borrow().iter().any(|open| open.model == model && open.pid.is_alive());
            if open {
                let message = format!("{model} has a client already: use that, or close it first");
                return Err(Error::invalid("modelId", message));
            }
            let recovered = journal.recover(&model).await?;
            let recovered = recovered.ok_or_else(|| Error::no_such_model(&model))?;
            for (key, _) in &recovered.damaged {
                let message = format!("the record {key} is damaged; it was set aside");
                service.transport().platform().log(Level::Error, &message);
            }
            service.start_training_client(model, journal, Some(recovered)).await
        }
        .boxed_local()
    }

    /// Makes a sampler of a base model or of a checkpoint, and a client for it.
    pub fn create_sampling_client(
        &self,
        base_model: Option<String>,
        model_path: Option<String>,
        progress: &Progress,
    ) -> LocalBoxFuture<'static, Result<Made<SamplingClient>, Error>> {
        let (service, progress) = (self.clone(), progress.clone());
        let nth = self.0.session.nth_sampler();
        async move {
            if let Some(path) = &model_path {
                check_path(path)?;
            }
            let journal = service.0.session.journal().await?;
            let (sampling_session_seq_id, reservation) = journal.sampler_number(nth);
            if let Some(op) = reservation {
                journal.commit(Durability::Strict, vec![op]).await?;
            }
            let ask = CreateSamplingSession {
                session_id: journal.session().clone(),
                sampling_session_seq_id,
                base_model: base_model.clone(),
                model_path,
                tag: Default::default(),
            };
            progress.sent();
            let call = Call::post_json("create_sampling_session", &ask).policy(Policy::Plain);
            let made: Result<CreateSamplingSessionResponse, Error> = service.transport().fetch(call).await;
            match (made, base_model) {
                (Ok(made), _) => service.start_sampling_client(made.sampling_session_id, false).await,
                (Err(error), Some(base_model)) => Err(service.explain_base_model(error, &base_model).await),
                (Err(error), None) => Err(error),
            }
        }
        .boxed_local()
    }

    /// A client for a sampler that is there. `used`: by another client before, whose samples' numbers are not known.
    pub fn start_sampling_client(
        &self,
        id: SamplingSessionId,
        used: bool,
    ) -> LocalBoxFuture<'static, Result<Made<SamplingClient>, Error>> {
        let calls = TaskSupervisor::new("calls").limit(MAX_CALLS).queue(MAX_CALLS);
        let name = format!("sampling client {id}");
        let client = SamplingClient::new(id, self.transport().clone(), calls.clone(), used);
        let pid = self.start_client(Supervisor::new(name).with(calls.child()));
        async move { Ok(Made { client, pid: pid.await? }) }.boxed_local()
    }

    /// Ends the session at the server. Fails as [`Kind::Pending`] when there are calls that nobody has seen the end of.
    pub async fn finish(&self) -> Result<(), Error> {
        let session = &self.0.session;
        if session.id().is_none() {
            return session.lost().map_or(Ok(()), Err);
        }
        let journal = session.journal().await?;
        let open: Vec<Open> = self.0.models.borrow().clone();
        for model in &open {
            // What was seen before this call is deleted before the journal is looked at.
            let (done, deleted) = oneshot::channel();
            if model.dispatcher.send(Message::Barrier(done)).is_ok() {
                let _ = deleted.await;
            }
        }
        let kept = journal.inventory().await?;
        if kept.iter().any(|kept| !kept.calls.is_empty()) {
            return Err(Error::pending(&words(&kept)));
        }
        session.finish().await?;
        for model in &open {
            self.close_client(&model.pid).await;
        }
        journal.erase().await
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

    async fn start_training_client(
        &self,
        model: ModelId,
        journal: Journal,
        recovered: Option<Recovered>,
    ) -> Result<Made<TrainingClient>, Error> {
        let flags = self.0.session.flags().await?;
        // When they are stopped, the dispatcher has told every caller: dropping a request aborts it.
        let requests = TaskSupervisor::new("requests").shutdown(Shutdown::BrutalKill);
        let calls = TaskSupervisor::new("calls").limit(MAX_CALLS).queue(MAX_CALLS);
        let (address, inbox) = mailbox();
        let lane = recovered.as_ref().map_or_else(|| Lane::new(FIRST, false, Vec::new()), Recovered::lane);
        let (pending, held) =
            recovered.map_or_else(Default::default, |recovered| resume(recovered, &journal.owner()));
        let session = self.0.session.clone();
        let client =
            TrainingClient::new(model.clone(), session, flags, address.clone(), calls.clone(), pending);
        let name = format!("training client {model}");
        let dispatcher = Dispatcher {
            transport: self.transport().clone(),
            journal,
            model: model.clone(),
            requests: requests.clone(),
            address: address.clone(),
            lane,
            calls: held,
            running: Default::default(),
            news: Default::default(),
        };
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
        let pid = self.start_client(tree).await?;
        let mut models = self.0.models.borrow_mut();
        models.retain(|open| open.pid.is_alive());
        models.push(Open { model, pid: pid.clone(), dispatcher: address });
        Ok(Made { client, pid })
    }

    fn start_client(&self, tree: Supervisor) -> LocalBoxFuture<'static, Result<Pid, Error>> {
        let started = self.0.clients.start_child(tree.child().restart(Restart::Temporary));
        async move {
            match started.await {
                Ok(Started { pid: Some(pid), .. }) => Ok(pid),
                Err(ChildError::Failed(exit)) => Err(Error::from_exit(&exit, Outcome::Unknown)),
                _ => Err(Error::closed("this service", Outcome::Unknown)),
            }
        }
        .boxed_local()
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
