//! Models: made at the server, each with a client.

use std::cell::Cell;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use tinkex_journal::lane::FIRST;
use tinkex_protocol::json::futures::{RequestType, Submitted};
use tinkex_protocol::json::training::{CreateModel, CreateModelResult, OptimizerConfig};
use tinkex_protocol::{ModelId, ModelSeqId, RequestId, SessionId};
use tinkex_supervise::{
    AutoShutdown, ChildSpec, Pid, Restart, Shutdown, Supervisor, TaskSupervisor, mailbox,
};

use super::{Lora, MAX_CALLS, Made, Making, Service};
use crate::error::Error;
use crate::platform::Level;
use crate::request::Progress;
use crate::request::retrieve::{Payload, retrieve_or_fail};
use crate::store::{Durability, Journal};
use crate::training::TrainingClient;
use crate::training::dispatcher::Dispatcher;
use crate::training::held::Begun;
use crate::training::serving::Serving;
use crate::transport::retry::Policy;
use crate::transport::{Body, Call, read_result};

impl Service {
    /// Makes a new model at the server and a client for it.
    pub fn create_training_client(&self, lora: Lora, progress: &Progress) -> Making<TrainingClient> {
        let Lora { base_model, config, user_metadata } = lora;
        let named = base_model.clone();
        let ask = Box::new(move |session: &SessionId, number| Ask {
            path: "create_model",
            body: Body::json(&CreateModel {
                session_id: session.clone(),
                model_seq_id: number,
                base_model,
                user_metadata,
                lora_config: config,
                optimizer_config: OptimizerConfig::adamw(),
                tag: Default::default(),
            }),
            kind: RequestType::CreateModel,
            model: None,
        });
        let origin = Origin { ask, base_model: Some(named), nth: self.0.session.nth_model() };
        self.make_model(origin, progress)
    }

    /// Makes a model of what it comes from, and a client for it.
    pub(super) fn make_model(&self, origin: Origin, progress: &Progress) -> Making<TrainingClient> {
        let (service, progress) = (self.clone(), progress.clone());
        async move {
            let journal = service.0.session.journal().await?;
            let (number, reservation) = journal.model_number(origin.nth);
            journal.reserve(reservation).await?;
            let ask = (origin.ask)(journal.session(), number);
            progress.sent();
            let (taken, model) = match service.make(&ask).await {
                Ok(made) => made,
                Err(error) => return Err(service.explain_base_model(error, origin.base_model).await),
            };
            if journal.exactly_once().is_none() {
                // Nothing was done with the model yet, so a server that takes this for another one does no harm.
                let again = service.transport().fetch(ask.call()).await;
                if let Ok(again) = again.and_then(|again| again.read::<Submitted>()) {
                    service.learn_exactly_once(&journal, again.request_id == taken);
                }
            }
            let first = vec![journal.model_op(&model, FIRST), journal.session_op()];
            journal.commit(Durability::Strict, first).await?;
            service.start_training_client(model, journal, Begun::anew()).await
        }
        .boxed_local()
    }

    /// Has the server make a model: gives the request that it took this as, and the model.
    fn make(&self, ask: &Ask) -> LocalBoxFuture<'static, Result<(RequestId, ModelId), Error>> {
        let (service, taken) = (self.clone(), self.transport().fetch(ask.call()));
        let (kind, model) = (ask.kind, ask.model.clone());
        async move {
            let taken = taken.await?.read::<Submitted>()?.request_id;
            let answer = retrieve_or_fail(service.transport(), &taken, kind).await?;
            let model = match model {
                Some(model) => model,
                None => created(Payload::of(answer))?,
            };
            Ok((taken, model))
        }
        .boxed_local()
    }

    fn learn_exactly_once(&self, journal: &Journal, exactly_once: bool) {
        if !exactly_once {
            let message = "this server answers the same number and body with another request: a call that is sent \
                           again after a lost answer or a crash may be applied twice";
            self.transport().platform().log(Level::Warn, message);
        }
        journal.set_exactly_once(exactly_once);
    }

    /// A client for a model that is in the journal.
    pub(super) fn start_training_client(
        &self,
        model: ModelId,
        journal: Journal,
        begun: Begun,
    ) -> Making<TrainingClient> {
        let (client, tree) = self.training_client(model, journal, begun);
        let service = self.clone();
        let made = move |pid: Result<Pid, Error>| {
            let made = Made { client, pid: pid? };
            let mut models = service.0.models.borrow_mut();
            models.retain(|open| open.pid.is_alive());
            models.push(made.clone());
            Ok(made)
        };
        self.start_client(tree).map(made).boxed_local()
    }

    /// A client, and the tree that is to be started for it.
    fn training_client(
        &self,
        model: ModelId,
        journal: Journal,
        begun: Begun,
    ) -> (TrainingClient, Supervisor) {
        // When they are stopped, the dispatcher has told every caller: dropping a request aborts it.
        let requests = TaskSupervisor::new("requests").shutdown(Shutdown::BrutalKill);
        let calls = TaskSupervisor::new("calls").limit(MAX_CALLS).queue(MAX_CALLS);
        let tree = Supervisor::new(["training client ", model.as_str()].concat());
        let tree = tree.auto_shutdown(AutoShutdown::AnySignificant).with(requests.child());
        let (address, inbox) = mailbox();
        let Begun { lane, pending, held } = begun;
        let dispatcher = Dispatcher {
            transport: self.transport().clone(),
            journal,
            model: model.clone(),
            requests,
            address: address.clone(),
            lane,
            calls: held,
            running: Default::default(),
            together: Default::default(),
            later: Vec::new(),
            flushes: 0,
        };
        // Taken by its one start: what it knew dies with it.
        let parts = Cell::new(Some((Box::new(dispatcher), inbox)));
        let dispatcher = ChildSpec::new("dispatcher", move |ctx| {
            let (dispatcher, inbox) = parts.take().expect("a temporary child is started once");
            Serving::new(dispatcher, inbox, ctx)
        });
        let dispatcher = dispatcher.restart(Restart::Temporary).significant(true);
        let tree = tree.with(dispatcher).with(calls.child());
        (TrainingClient::new(model, self.0.session.clone(), address, calls, pending), tree)
    }
}

/// Makes the request for a model of this session and number.
pub(super) type Asking = dyn FnOnce(&SessionId, ModelSeqId) -> Ask;

/// What a model comes from.
pub(super) struct Origin {
    pub ask: Box<Asking>,
    /// As the caller named it, to be told which ones are served.
    pub base_model: Option<String>,
    pub nth: u64,
}

/// The request for a model.
pub(super) struct Ask {
    pub path: &'static str,
    pub body: Body,
    pub kind: RequestType,
    /// None where the server's answer says it.
    pub model: Option<ModelId>,
}

impl Ask {
    fn call(&self) -> Call {
        let call = Call::post(self.path, self.body.clone());
        if self.kind == RequestType::CreateModel { call.policy(Policy::Plain) } else { call }
    }
}

fn created(result: Payload) -> Result<ModelId, Error> {
    read_result(&result.json()?).map(|made: CreateModelResult| made.model_id)
}
