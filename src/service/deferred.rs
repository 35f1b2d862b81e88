//! What a service does more rarely than it makes clients, trains and samples: it goes on with what was there before, makes models
//! of checkpoints, and ends its session. All of this is in the second file of the package.

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use tinkex_protocol::json::futures::RequestType;
use tinkex_protocol::json::managing::{WeightsInfo, WeightsInfoResponse};
use tinkex_protocol::json::training::LoadWeights;
use tinkex_protocol::{Map, ModelId, SamplingSessionId, SessionId};

use super::models::{Ask, Origin};
use super::{Made, Making, Service, check_path};
use crate::error::Error;
use crate::platform::Level;
use crate::request::Progress;
use crate::sampling::SamplingClient;
use crate::store::deferred::words;
use crate::training::TrainingClient;
use crate::training::deferred::resume;
use crate::transport::{Body, Call};

impl Service {
    /// A client for a model of this session that is in the journal, with the calls that nobody has seen the end of.
    pub fn resume_training_client(&self, model: ModelId) -> Making<TrainingClient> {
        resume_training_client(self.clone(), model).boxed_local()
    }

    /// A client for a sampler of this session that had a client before.
    pub fn resume_sampling_client(&self, id: SamplingSessionId) -> Making<SamplingClient> {
        resume_sampling_client(self.clone(), id).boxed_local()
    }

    /// Makes a new model from a checkpoint, with its optimizer's state or a fresh one, and a client for it.
    pub fn create_training_client_from_state(
        &self,
        path: String,
        optimizer: bool,
        user_metadata: Option<Map<String>>,
        progress: &Progress,
    ) -> Making<TrainingClient> {
        let (service, progress) = (self.clone(), progress.clone());
        let state = State { path, optimizer, user_metadata, nth: self.0.session.nth_model() };
        make_of_state(service, state, progress).boxed_local()
    }

    /// Ends the session at the server. Fails as [`Kind::Pending`](crate::Kind::Pending) when there are calls that nobody has
    /// seen the end of.
    pub fn finish(&self) -> LocalBoxFuture<'static, Result<(), Error>> {
        finish(self.clone()).boxed_local()
    }
}

async fn resume_training_client(service: Service, model: ModelId) -> Result<Made<TrainingClient>, Error> {
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
    let begun = resume(recovered, &journal.owner());
    service.start_training_client(model, journal, begun).await
}

async fn resume_sampling_client(
    service: Service,
    id: SamplingSessionId,
) -> Result<Made<SamplingClient>, Error> {
    service.0.session.journal().await?;
    service.start_sampling_client(id, true).await
}

/// What a model is made of that goes on from a checkpoint.
struct State {
    path: String,
    optimizer: bool,
    user_metadata: Option<Map<String>>,
    nth: u64,
}

async fn make_of_state(
    service: Service,
    state: State,
    progress: Progress,
) -> Result<Made<TrainingClient>, Error> {
    check_path(&state.path)?;
    service.0.session.journal().await?;
    // Its base model is for the server to say.
    let about = Call::post_json("weights_info", &WeightsInfo { tinker_path: state.path.clone() });
    let about: WeightsInfoResponse = service.transport().fetch(about).await?.read()?;
    let nth = state.nth;
    let ask = Box::new(move |session: &SessionId, number| Ask {
        path: "load_weights",
        body: Body::json(&LoadWeights {
            session_id: Some(session.clone()),
            model_seq_id: Some(number),
            model_id: None,
            seq_id: None,
            base_model: Some(about.base_model),
            user_metadata: state.user_metadata,
            path: state.path,
            optimizer: state.optimizer,
            optimizer_config: None,
            weights_access_token: None,
            tag: Default::default(),
        }),
        kind: RequestType::LoadWeights,
        model: Some(LoadWeights::new_model_id(session, number)),
    });
    service.make_model(Origin { ask, base_model: None, nth }, &progress).await
}

async fn finish(service: Service) -> Result<(), Error> {
    let session = &service.0.session;
    if session.id().is_none() {
        return session.lost().map_or(Ok(()), Err);
    }
    let journal = session.journal().await?;
    let open = service.0.models.borrow().clone();
    for model in &open {
        // What was seen before this call is deleted before the journal is looked at.
        let _ = model.client.barrier().await;
    }
    let kept = journal.inventory().await?;
    if kept.iter().any(|kept| !kept.calls.is_empty()) {
        return Err(Error::pending(&words(&kept)));
    }
    session.finish().await?;
    for model in &open {
        service.close_client(&model.pid).await;
    }
    journal.erase(&kept).await
}
