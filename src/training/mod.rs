//! TrainingClient: what can be done with one model in training, in order.

pub mod dispatcher;

use std::cell::Cell;
use std::future::{Future, ready};
use std::rc::Rc;

use futures_util::future::Either;
use tinkex_protocol::Map;
use tinkex_protocol::chunking::{ChunkLimits, chunks, datum_bytes};
use tinkex_protocol::json::futures::RequestType;
use tinkex_protocol::json::session::Flags;
use tinkex_protocol::json::training::{
    AdamParams, GetInfo, LoadWeights, ModelInfo, OptimStep, OptimStepResult, SamplerKind, SaveWeights,
    SaveWeightsForSampler, SaveWeightsForSamplerResult, SaveWeightsResult,
};
use tinkex_protocol::metrics::{Metrics, combine};
use tinkex_protocol::{
    Datum, EncodedForwardBackward, ForwardBackwardOutput, LossCall, ModelId, SamplingSessionId, SeqId,
};
use tinkex_supervise::{Address, TaskSupervisor};

use crate::error::{Error, Outcome};
use crate::request::lane::Ticket;
use crate::request::retrieve::Payload;
use crate::request::{Numbered, Progress, Reply, caller};
use crate::session::Session;
use crate::transport::answer::{self, Answer};
use crate::transport::{Body, Call};
use dispatcher::{Incoming, Message};

/// The handle of one model in training. Clones are the same client.
///
/// Each method takes its place in the order when it is called; the future that it gives only waits for the result.
#[derive(Clone)]
pub struct TrainingClient(Rc<Inner>);

struct Inner {
    model: ModelId,
    session: Session,
    flags: Rc<Flags>,
    dispatcher: Address<Message>,
    calls: TaskSupervisor,
    next_ticket: Cell<u64>,
}

/// What `save_state` takes beside the name.
#[derive(Clone, Debug, Default)]
pub struct Save {
    pub name: String,
    pub ttl_seconds: Option<u64>,
    pub overwrite: bool,
    pub user_metadata: Option<Map<String>>,
}

impl TrainingClient {
    pub(crate) fn new(
        model: ModelId,
        session: Session,
        flags: Rc<Flags>,
        dispatcher: Address<Message>,
        calls: TaskSupervisor,
    ) -> TrainingClient {
        TrainingClient(Rc::new(Inner { model, session, flags, dispatcher, calls, next_ticket: Cell::new(0) }))
    }

    pub fn model(&self) -> &ModelId {
        &self.0.model
    }

    /// Where calls of this client run as tasks: bounded, and ended when the client is closed.
    pub fn calls(&self) -> &TaskSupervisor {
        &self.0.calls
    }

    /// A forward pass, or a forward and backward pass whose gradients add up until the next step. Large data are cut
    /// into several requests, and their results put together.
    pub fn forward_backward(
        &self,
        data: Vec<Datum>,
        call: LossCall,
        progress: &Progress,
    ) -> impl Future<Output = Result<ForwardBackwardOutput, Error>> + use<> {
        let counts_and_parts = self.cut(data, &call);
        let (counts, parts) = match counts_and_parts {
            Ok(cut) => cut,
            Err(error) => return Either::Left(ready(Err(error))),
        };
        let reply = self.enqueue(parts, progress);
        Either::Right(async move {
            let results = reply.await?;
            let outputs: Result<Vec<_>, Error> = results
                .into_iter()
                .zip(&counts)
                .map(|(payload, &data)| match payload {
                    Payload::Protobuf(bytes) => {
                        ForwardBackwardOutput::decode(&bytes, data).map_err(unreadable)
                    }
                    Payload::Json(_) => {
                        Err(Error::protocol("the server sent JSON where a protobuf result belongs"))
                    }
                })
                .collect();
            combine(outputs?).map_err(unreadable)
        })
    }

    /// One step of the optimizer over the gradients since the last one.
    pub fn optim_step(
        &self,
        params: AdamParams,
        progress: &Progress,
    ) -> impl Future<Output = Result<Metrics, Error>> + use<> {
        let reply = self.numbered(RequestType::OptimStep, "optim_step", progress, move |model_id, seq_id| {
            let adam_params = Some(params);
            Body::json(&OptimStep {
                model_id,
                seq_id,
                adam_params,
                optimizer_params: None,
                tag: Default::default(),
            })
        });
        async move {
            let step: OptimStepResult = json_of(reply.await?)?;
            Ok(step.metrics.unwrap_or_default())
        }
    }

    /// Saves weights and optimizer under a name; gives the checkpoint's path.
    pub fn save_state(
        &self,
        save: Save,
        progress: &Progress,
    ) -> impl Future<Output = Result<String, Error>> + use<> {
        let reply =
            self.numbered(RequestType::SaveWeights, "save_weights", progress, move |model_id, seq_id| {
                let Save { name, ttl_seconds, overwrite, user_metadata } = save.clone();
                Body::json(&SaveWeights {
                    model_id,
                    path: name,
                    seq_id,
                    ttl_seconds,
                    overwrite,
                    user_metadata,
                    tag: Default::default(),
                })
            });
        async move { Ok(json_of::<SaveWeightsResult>(reply.await?)?.path) }
    }

    /// Puts the weights of a checkpoint, and with `optimizer` its optimizer, in the place of this model's own.
    pub fn load_state(
        &self,
        path: String,
        optimizer: bool,
        progress: &Progress,
    ) -> impl Future<Output = Result<(), Error>> + use<> {
        let reply =
            self.numbered(RequestType::LoadWeights, "load_weights", progress, move |model_id, seq_id| {
                Body::json(&LoadWeights {
                    session_id: None,
                    model_seq_id: None,
                    model_id: Some(model_id),
                    seq_id: Some(seq_id),
                    base_model: None,
                    user_metadata: None,
                    path: path.clone(),
                    optimizer,
                    optimizer_config: None,
                    weights_access_token: None,
                    tag: Default::default(),
                })
            });
        async move { reply.await.map(|_| ()) }
    }

    /// Saves weights that a sampler can be made of, under a name; gives the path.
    pub fn save_weights_for_sampler(
        &self,
        save: Save,
        progress: &Progress,
    ) -> impl Future<Output = Result<String, Error>> + use<> {
        let path = "save_weights_for_sampler";
        let reply =
            self.numbered(RequestType::SaveWeightsForSampler, path, progress, move |model_id, seq_id| {
                let Save { name, ttl_seconds, user_metadata, .. } = save.clone();
                Body::json(&SaveWeightsForSampler {
                    model_id,
                    path: Some(name),
                    sampling_session_seq_id: None,
                    kind: SamplerKind::Snapshot,
                    seq_id,
                    ttl_seconds,
                    user_metadata,
                    tag: Default::default(),
                })
            });
        async move {
            let saved: SaveWeightsForSamplerResult = json_of(reply.await?)?;
            saved.path.ok_or_else(|| Error::protocol("the server saved the weights and gave no path"))
        }
    }

    /// Makes a sampler of the weights as they are at this point of the order, without a name.
    pub fn save_weights_for_new_sampler(
        &self,
        progress: &Progress,
    ) -> impl Future<Output = Result<SamplingSessionId, Error>> + use<> {
        let number = self.0.session.next_sampler();
        let path = "save_weights_for_sampler";
        let reply =
            self.numbered(RequestType::SaveWeightsForSampler, path, progress, move |model_id, seq_id| {
                Body::json(&SaveWeightsForSampler {
                    model_id,
                    path: None,
                    sampling_session_seq_id: Some(number),
                    kind: SamplerKind::Snapshot,
                    seq_id,
                    ttl_seconds: None,
                    user_metadata: None,
                    tag: Default::default(),
                })
            });
        async move {
            let saved: SaveWeightsForSamplerResult = json_of(reply.await?)?;
            saved
                .sampling_session_id
                .ok_or_else(|| Error::protocol("the server made a sampler and gave no id"))
        }
    }

    /// What the server says of the model. Not part of the order.
    pub fn get_info(&self) -> impl Future<Output = Result<ModelInfo, Error>> + use<> {
        let transport = self.0.session.transport().clone();
        let ask = GetInfo { model_id: self.0.model.clone(), tag: Default::default() };
        async move { transport.fetch(Call::post_json("get_info", &ask)).await }
    }

    /// One request that isn't data.
    fn numbered(
        &self,
        kind: RequestType,
        path: &'static str,
        progress: &Progress,
        body: impl Fn(ModelId, SeqId) -> Body + 'static,
    ) -> Reply<Vec<Payload>> {
        let body = Box::new(move |model: &ModelId, number| Ok(body(model.clone(), number)));
        self.enqueue(vec![Numbered { kind, path, body }], progress)
    }

    fn enqueue(&self, parts: Vec<Numbered>, progress: &Progress) -> Reply<Vec<Payload>> {
        let ticket = Ticket(self.0.next_ticket.get());
        self.0.next_ticket.set(ticket.0 + 1);
        let dispatcher = self.0.dispatcher.clone();
        let let_go = move || drop(dispatcher.send(Message::LetGo(ticket)));
        let (caller, reply) = caller(progress.clone(), let_go);
        if let Err(Message::Call(_, incoming)) =
            self.0.dispatcher.send(Message::Call(ticket, Incoming { parts, caller }))
        {
            incoming.caller.settle(Err(Error::closed("the training client", Outcome::NotSent)));
        }
        reply
    }

    /// Cuts data into requests within the service's limits: how many data each has, and the requests.
    fn cut(&self, data: Vec<Datum>, call: &LossCall) -> Result<(Vec<usize>, Vec<Numbered>), Error> {
        if data.is_empty() {
            return Err(Error::invalid("data", "the batch is empty: give at least one datum"));
        }
        let limits = ChunkLimits {
            data: self.0.flags.fwdbwd_max_chunk_len as usize,
            bytes: self.0.flags.fwdbwd_max_chunk_bytes_count as usize,
        };
        let ranges = chunks(data.iter().map(datum_bytes), limits);
        let mut data = data.into_iter();
        let mut parts = Vec::with_capacity(ranges.len());
        for range in &ranges {
            let encoded = EncodedForwardBackward::new(data.by_ref().take(range.len()), call)?;
            let kind = if call.forward_only { RequestType::Forward } else { RequestType::ForwardBackward };
            let body = Box::new(move |model: &ModelId, number| {
                let bytes = encoded.with_header(model, number)?;
                Ok(Body::Protobuf(bytes.into()))
            });
            parts.push(Numbered { kind, path: "forward_backward", body });
        }
        Ok((ranges.into_iter().map(|range| range.len()).collect(), parts))
    }
}

fn json_of<T: Answer>(results: Vec<Payload>) -> Result<T, Error> {
    match results.into_iter().next() {
        Some(Payload::Json(bytes)) => answer::read(&bytes).map_err(unreadable),
        _ => Err(Error::protocol("the server sent protobuf where a JSON result belongs")),
    }
}

fn unreadable(error: tinkex_protocol::Error) -> Error {
    Error::protocol(format!("the server's result can't be read: {error}"))
}
