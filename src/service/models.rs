//! Models: made at the server, or found in the journal, each with a client.

use std::cell::Cell;

use futures_util::FutureExt;
use futures_util::future::{Either, LocalBoxFuture, ready};
use tinkex_journal::lane::FIRST;
use tinkex_journal::recovery::Recovered;
use tinkex_protocol::chunking::ChunkLimits;
use tinkex_protocol::json::futures::{RequestType, Submitted};
use tinkex_protocol::json::managing::{WeightsInfo, WeightsInfoResponse};
use tinkex_protocol::json::training::{CreateModel, CreateModelResult, LoadWeights, OptimizerConfig};
use tinkex_protocol::{Map, ModelId, ModelSeqId, RequestId, SessionId};
use tinkex_supervise::{
    AutoShutdown, ChildSpec, Exit, Restart, Shutdown, Supervisor, TaskSupervisor, mailbox,
};

use super::{Lora, MAX_CALLS, Made, Making, Service, check_path};
use crate::error::Error;
use crate::platform::Level;
use crate::request::Progress;
use crate::request::retrieve::{Payload, retrieve_or_fail};
use crate::store::{Durability, Journal};
use crate::training::TrainingClient;
use crate::training::dispatcher::Dispatcher;
use crate::training::held::resume;
use crate::training::serving::Serving;
use crate::transport::retry::Policy;
use crate::transport::{Body, Call, read_result};

/// What a model is made from.
enum Source {
    Base(Lora),
    State { path: String, optimizer: bool, user_metadata: Option<Map<String>> },
}

impl Service {
    /// Makes a new model at the server and a client for it.
    pub fn create_training_client(&self, lora: Lora, progress: &Progress) -> Making<TrainingClient> {
        self.make_model(Source::Base(lora), progress)
    }

    /// Makes a new model from a checkpoint, with its optimizer's state or a fresh one, and a client for it.
    pub fn create_training_client_from_state(
        &self,
        path: String,
        optimizer: bool,
        user_metadata: Option<Map<String>>,
        progress: &Progress,
    ) -> Making<TrainingClient> {
        self.make_model(Source::State { path, optimizer, user_metadata }, progress)
    }

    fn make_model(&self, source: Source, progress: &Progress) -> Making<TrainingClient> {
        let (service, progress) = (self.clone(), progress.clone());
        let nth = self.0.session.nth_model();
        async move {
            if let Source::State { path, .. } = &source {
                check_path(path)?;
            }
            let journal = service.0.session.journal().await?;
            let base_model = match &source {
                Source::Base(lora) => lora.base_model.clone(),
                // A checkpoint's is for the server to say.
                Source::State { path, .. } => {
                    let ask = WeightsInfo { tinker_path: path.clone() };
                    let about = service.transport().fetch(Call::post_json("weights_info", &ask)).await?;
                    about.read::<WeightsInfoResponse>()?.base_model
                }
            };
            let (number, reservation) = journal.model_number(nth);
            if let Some(op) = reservation {
                journal.commit(Durability::Strict, vec![op]).await?;
            }
            let ask = source.ask(journal.session(), number, base_model.clone());
            progress.sent();
            let made = match service.submit(&ask).await {
                Ok(taken) => {
                    let made = retrieve_or_fail(service.transport(), &taken, ask.kind).await;
                    made.map(|payload| (taken, payload))
                }
                Err(error) => Err(error),
            };
            let (taken, payload) = match made {
                Ok(made) => made,
                Err(error) if ask.kind == RequestType::CreateModel => {
                    return Err(service.explain_base_model(error, base_model).await);
                }
                Err(error) => return Err(error),
            };
            let model = ask.model(journal.session(), number, &payload)?;
            if journal.exactly_once().is_none() {
                // Nothing was done with the model yet, so a server that takes this for another one does no harm.
                if let Ok(again) = service.submit(&ask).await {
                    service.learn_exactly_once(&journal, again == taken);
                }
            }
            let first = vec![journal.model_op(&model, FIRST), journal.session_op()];
            journal.commit(Durability::Strict, first).await?;
            service.start_training_client(model, journal, Recovered::nothing()).await
        }
        .boxed_local()
    }

    /// Asks for a model; gives the request that the server took it as.
    fn submit(&self, ask: &Ask) -> LocalBoxFuture<'static, Result<RequestId, Error>> {
        let taken = self.transport().fetch(ask.call());
        async move { Ok(taken.await?.read::<Submitted>()?.request_id) }.boxed_local()
    }

    fn learn_exactly_once(&self, journal: &Journal, exactly_once: bool) {
        if !exactly_once {
            let message = "this server answers the same number and body with another request: a call that is sent \
                           again after a lost answer or a crash may be applied twice";
            self.transport().platform().log(Level::Warn, message);
        }
        journal.set_exactly_once(exactly_once);
    }

    /// A client for a model of this session that is in the journal, with the calls that nobody has seen the end of.
    pub fn resume_training_client(&self, model: ModelId) -> Making<TrainingClient> {
        let service = self.clone();
        async move {
            let journal = service.0.session.journal().await?;
            let is_open = |open: &Made<TrainingClient>| *open.client.model() == model && open.pid.is_alive();
            if service.0.models.borrow().iter().any(is_open) {
                let message = format!("{model} has a client already: use that, or close it first");
                return Err(Error::invalid("modelId", message));
            }
            let recovered = journal.recover(&model).await?;
            let recovered = recovered.ok_or_else(|| Error::no_such_model(&model))?;
            for (key, _) in &recovered.damaged {
                let message = format!("the record {key} is damaged; it was set aside");
                service.transport().platform().log(Level::Error, &message);
            }
            service.start_training_client(model, journal, recovered).await
        }
        .boxed_local()
    }

    fn start_training_client(
        &self,
        model: ModelId,
        journal: Journal,
        recovered: Recovered,
    ) -> Making<TrainingClient> {
        let service = self.clone();
        async move {
            let limits = service.0.session.limits().await?;
            let (client, tree) = service.training_client(model, limits, journal, recovered);
            let pid = service.start_client(tree).await?;
            let made = Made { client, pid };
            let mut models = service.0.models.borrow_mut();
            models.retain(|open| open.pid.is_alive());
            models.push(made.clone());
            Ok(made)
        }
        .boxed_local()
    }

    /// A client, and the tree that is to be started for it.
    fn training_client(
        &self,
        model: ModelId,
        limits: ChunkLimits,
        journal: Journal,
        recovered: Recovered,
    ) -> (TrainingClient, Supervisor) {
        // When they are stopped, the dispatcher has told every caller: dropping a request aborts it.
        let requests = TaskSupervisor::new("requests").shutdown(Shutdown::BrutalKill);
        let calls = TaskSupervisor::new("calls").limit(MAX_CALLS).queue(MAX_CALLS);
        let tree = Supervisor::new(format!("training client {model}"));
        let (address, inbox) = mailbox();
        let lane = recovered.lane();
        let (pending, held) = resume(recovered, &journal.owner());
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
            later: Vec::new(),
            flushes: 0,
        };
        let session = self.0.session.clone();
        let client = TrainingClient::new(model, session, limits, address, calls.clone(), pending);
        // Taken by the first start; there is no second, since what it knew died with it.
        let parts = Cell::new(Some((Box::new(dispatcher), inbox)));
        let dispatcher = ChildSpec::new("dispatcher", move |ctx| match parts.take() {
            Some((dispatcher, inbox)) => Either::Left(Serving::new(dispatcher, inbox, ctx)),
            None => Either::Right(ready(Err(Exit::Normal))),
        });
        let dispatcher = dispatcher.restart(Restart::Temporary).significant(true);
        let tree = tree.auto_shutdown(AutoShutdown::AnySignificant);
        (client, tree.with(requests.child()).with(dispatcher).with(calls.child()))
    }
}

impl Source {
    /// How the model is asked for.
    fn ask(self, session_id: &SessionId, model_seq_id: ModelSeqId, base_model: String) -> Ask {
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
                Ask { path: "create_model", body: Body::json(&ask), kind: RequestType::CreateModel }
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
                Ask { path: "load_weights", body: Body::json(&ask), kind: RequestType::LoadWeights }
            }
        }
    }
}

/// The request for a model.
struct Ask {
    path: &'static str,
    body: Body,
    kind: RequestType,
}

impl Ask {
    fn call(&self) -> Call {
        let call = Call::post(self.path, self.body.clone());
        if self.kind == RequestType::CreateModel { call.policy(Policy::Plain) } else { call }
    }

    /// The id of the model that was made.
    fn model(&self, session: &SessionId, number: ModelSeqId, result: &Payload) -> Result<ModelId, Error> {
        if self.kind != RequestType::CreateModel {
            return Ok(LoadWeights::new_model_id(session, number));
        }
        let Payload::Json(bytes) = result else {
            return Err(Error::protocol("the server sent protobuf where a JSON result belongs"));
        };
        read_result(bytes).map(|made: CreateModelResult| made.model_id)
    }
}
