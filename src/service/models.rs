//! Models: made at the server, each with a client.

use std::cell::Cell;

use futures_util::FutureExt;
use futures_util::future::{Either, LocalBoxFuture, ready};
use tinkex_journal::lane::FIRST;
use tinkex_protocol::json::futures::{RequestType, Submitted};
use tinkex_protocol::json::training::{CreateModel, CreateModelResult, OptimizerConfig};
use tinkex_protocol::{ModelId, ModelSeqId, RequestId};
use tinkex_supervise::{
    AutoShutdown, ChildSpec, Exit, Restart, Shutdown, Supervisor, TaskSupervisor, mailbox,
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
use crate::transport::{Body, Call, Fetched, read_result};

impl Service {
    /// Makes a new model at the server and a client for it.
    pub fn create_training_client(&self, lora: Lora, progress: &Progress) -> Making<TrainingClient> {
        let (service, nth, progress) = (self.clone(), self.0.session.nth_model(), progress.clone());
        async move { service.make_model(lora, nth, progress).await }.boxed_local()
    }

    async fn make_model(
        &self,
        lora: Lora,
        nth: u64,
        progress: Progress,
    ) -> Result<Made<TrainingClient>, Error> {
        let journal = self.0.session.journal().await?;
        let model_seq_id = self.model_number(&journal, nth).await?;
        let base_model = lora.base_model.clone();
        let ask = Ask {
            path: "create_model",
            body: Body::json(&CreateModel {
                session_id: journal.session().clone(),
                model_seq_id,
                base_model: lora.base_model,
                user_metadata: lora.user_metadata,
                lora_config: lora.config,
                optimizer_config: OptimizerConfig::adamw(),
                tag: Default::default(),
            }),
            kind: RequestType::CreateModel,
        };
        progress.sent();
        let (taken, answer) = match self.make(&ask).await {
            Ok(made) => made,
            Err(error) => return Err(self.explain_base_model(error, base_model).await),
        };
        let Payload::Json(bytes) = Payload::of(answer) else {
            return Err(Error::protocol("the server sent protobuf where a JSON result belongs"));
        };
        let made: CreateModelResult = read_result(&bytes)?;
        self.begin_training(ask, taken, made.model_id, journal).await
    }

    /// The number of this service's nth model, which is written down.
    pub(super) fn model_number(
        &self,
        journal: &Journal,
        nth: u64,
    ) -> LocalBoxFuture<'static, Result<ModelSeqId, Error>> {
        let (number, reservation) = journal.model_number(nth);
        let reserved = reservation.map(|op| journal.commit(Durability::Strict, vec![op]));
        async move {
            if let Some(reserved) = reserved {
                reserved.await?;
            }
            Ok(number)
        }
        .boxed_local()
    }

    /// Has the server make a model: gives the request that it took this as, and what came of it.
    pub(super) fn make(&self, ask: &Ask) -> LocalBoxFuture<'static, Result<(RequestId, Fetched), Error>> {
        let (transport, kind, taken) = (self.transport().clone(), ask.kind, self.submit(ask));
        async move {
            let taken = taken.await?;
            let answer = retrieve_or_fail(&transport, &taken, kind).await?;
            Ok((taken, answer))
        }
        .boxed_local()
    }

    /// A client for a model that was made.
    pub(super) fn begin_training(
        &self,
        ask: Ask,
        taken: RequestId,
        model: ModelId,
        journal: Journal,
    ) -> Making<TrainingClient> {
        let service = self.clone();
        async move {
            if journal.exactly_once().is_none() {
                // Nothing was done with the model yet, so a server that takes this for another one does no harm.
                if let Ok(again) = service.submit(&ask).await {
                    service.learn_exactly_once(&journal, again == taken);
                }
            }
            let first = vec![journal.model_op(&model, FIRST), journal.session_op()];
            journal.commit(Durability::Strict, first).await?;
            service.start_training_client(model, journal, Begun::anew()).await
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

    /// A client for a model that is in the journal.
    pub(super) fn start_training_client(
        &self,
        model: ModelId,
        journal: Journal,
        begun: Begun,
    ) -> Making<TrainingClient> {
        let (client, tree) = self.training_client(model, journal, begun);
        let (service, started) = (self.clone(), self.start_client(tree));
        async move {
            let made = Made { client, pid: started.await? };
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
        journal: Journal,
        begun: Begun,
    ) -> (TrainingClient, Supervisor) {
        // When they are stopped, the dispatcher has told every caller: dropping a request aborts it.
        let requests = TaskSupervisor::new("requests").shutdown(Shutdown::BrutalKill);
        let calls = TaskSupervisor::new("calls").limit(MAX_CALLS).queue(MAX_CALLS);
        let tree = Supervisor::new(format!("training client {model}"));
        let (address, inbox) = mailbox();
        let Begun { lane, pending, held } = begun;
        let dispatcher = Dispatcher {
            transport: self.transport().clone(),
            journal,
            model: model.clone(),
            requests: requests.clone(),
            address: address.clone(),
            lane,
            calls: held,
            running: Default::default(),
            later: Vec::new(),
            flushes: 0,
        };
        let session = self.0.session.clone();
        let client = TrainingClient::new(model, session, address, calls.clone(), pending);
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

/// The request for a model.
pub(super) struct Ask {
    pub path: &'static str,
    pub body: Body,
    pub kind: RequestType,
}

impl Ask {
    fn call(&self) -> Call {
        let call = Call::post(self.path, self.body.clone());
        if self.kind == RequestType::CreateModel { call.policy(Policy::Plain) } else { call }
    }
}
