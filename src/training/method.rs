//! What can be asked of a model in training: the bytes of each request, and what its result is.

use tinkex_protocol::json::futures::RequestType;
use tinkex_protocol::json::training::{
    AdamParams, OptimStep, OptimStepResult, SamplerKind, SaveWeights, SaveWeightsForSampler,
    SaveWeightsForSamplerResult, SaveWeightsResult,
};
use tinkex_protocol::metrics::{Metrics, combine};
use tinkex_protocol::{
    EncodedForwardBackward, ForwardBackwardOutput, Map, ModelId, SamplingSessionId, SamplingSessionSeqId,
    SeqId,
};

use crate::error::Error;
use crate::request::Results;
use crate::transport::{Body, read_result, unreadable_result};

/// The methods that have a place in a model's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Forward,
    ForwardBackward,
    /// A forward and backward pass, and behind it a step of the optimizer.
    TrainStep,
    OptimStep,
    SaveState,
    LoadState,
    SaveWeightsForSampler,
    SaveWeightsAndGetSamplingClient,
}

/// What a call asks for. Its bytes are made when it gets its number.
pub enum Ask {
    Data {
        forward_only: bool,
        parts: Vec<Part>,
    },
    OptimStep(AdamParams),
    SaveState(Save),
    /// How its bytes are made is in the second file.
    LoadState(Box<dyn Fn(ModelId, SeqId) -> Body>),
    SaveWeightsForSampler(Save),
    /// The nth sampler of this service.
    NewSampler(u64),
}

/// One request of a call that has several.
pub enum Part {
    /// A pass over so many data.
    Pass(EncodedForwardBackward, u32),
    /// A step of the optimizer behind them.
    Step(AdamParams),
}

/// What `save_state` takes beside the name.
#[derive(Clone, Debug, Default)]
pub struct Save {
    pub name: String,
    pub ttl_seconds: Option<u64>,
    pub overwrite: bool,
    pub user_metadata: Option<Map<String>>,
}

/// What comes of a call.
#[derive(Debug)]
pub enum Output {
    Forward(ForwardBackwardOutput),
    Step(Metrics),
    Path(String),
    Loaded,
    Sampler(SamplingSessionId),
}

impl Method {
    const ALL: [Method; 8] = [
        Method::Forward,
        Method::ForwardBackward,
        Method::TrainStep,
        Method::OptimStep,
        Method::SaveState,
        Method::LoadState,
        Method::SaveWeightsForSampler,
        Method::SaveWeightsAndGetSamplingClient,
    ];

    /// As its caller knows it, and as it is written down.
    pub fn name(self) -> &'static str {
        match self {
            Method::Forward => "forward",
            Method::ForwardBackward => "forwardBackward",
            Method::TrainStep => "trainStep",
            Method::OptimStep => "optimStep",
            Method::SaveState => "saveState",
            Method::LoadState => "loadState",
            Method::SaveWeightsForSampler => "saveWeightsForSampler",
            Method::SaveWeightsAndGetSamplingClient => "saveWeightsAndGetSamplingClient",
        }
    }

    pub fn of_name(name: &str) -> Option<Method> {
        Method::ALL.into_iter().find(|method| method.name() == name)
    }

    /// Behind `/api/v1/`.
    pub fn path(self) -> &'static str {
        match self {
            Method::Forward | Method::ForwardBackward | Method::TrainStep => "forward_backward",
            Method::OptimStep => "optim_step",
            Method::SaveState => "save_weights",
            Method::LoadState => "load_weights",
            Method::SaveWeightsForSampler | Method::SaveWeightsAndGetSamplingClient => {
                "save_weights_for_sampler"
            }
        }
    }

    pub fn kind(self) -> RequestType {
        match self {
            Method::Forward => RequestType::Forward,
            Method::ForwardBackward | Method::TrainStep => RequestType::ForwardBackward,
            Method::OptimStep => RequestType::OptimStep,
            Method::SaveState => RequestType::SaveWeights,
            Method::LoadState => RequestType::LoadWeights,
            Method::SaveWeightsForSampler | Method::SaveWeightsAndGetSamplingClient => {
                RequestType::SaveWeightsForSampler
            }
        }
    }

    /// Reads the results of a call's parts.
    pub fn read(self, mut results: Results) -> Result<Output, Error> {
        let last = match self {
            Method::Forward | Method::ForwardBackward => return passes(results).map(Output::Forward),
            Method::LoadState => return Ok(Output::Loaded),
            _ => results.pop(),
        };
        let Some((last, _)) = last else { return Err(Error::protocol("the call has no result")) };
        let last = last.json()?;
        match self {
            Method::SaveState => read_result(&last).map(|saved: SaveWeightsResult| Output::Path(saved.path)),
            Method::SaveWeightsForSampler | Method::SaveWeightsAndGetSamplingClient => {
                let saved: SaveWeightsForSamplerResult = read_result(&last)?;
                let (output, missing) = match self {
                    Method::SaveWeightsForSampler => {
                        (saved.path.map(Output::Path), "the server saved the weights and gave no path")
                    }
                    _ => {
                        let id = saved.sampling_session_id;
                        (id.map(Output::Sampler), "the server made a sampler and gave no id")
                    }
                };
                output.ok_or_else(|| Error::protocol(missing))
            }
            _ => {
                let step: OptimStepResult = read_result(&last)?;
                let mut metrics = step.metrics.unwrap_or_default();
                if self == Method::TrainStep {
                    for (name, value) in passes(results)?.metrics.iter() {
                        metrics.insert(name.clone(), *value);
                    }
                }
                Ok(Output::Step(metrics))
            }
        }
    }
}

impl Ask {
    pub fn method(&self) -> Method {
        match self {
            Ask::Data { forward_only: true, .. } => Method::Forward,
            Ask::Data { parts, .. } if matches!(parts.last(), Some(Part::Step(_))) => Method::TrainStep,
            Ask::Data { .. } => Method::ForwardBackward,
            Ask::OptimStep(_) => Method::OptimStep,
            Ask::SaveState(_) => Method::SaveState,
            Ask::LoadState(_) => Method::LoadState,
            Ask::SaveWeightsForSampler(_) => Method::SaveWeightsForSampler,
            Ask::NewSampler(_) => Method::SaveWeightsAndGetSamplingClient,
        }
    }

    /// Where each part goes, and how many data it has.
    pub fn each_part(&self, each: &mut dyn FnMut(&'static str, u32)) {
        let path = self.method().path();
        let Ask::Data { parts, .. } = self else { return each(path, 0) };
        for part in parts {
            match part {
                Part::Pass(_, data) => each(path, *data),
                Part::Step(_) => each(Method::OptimStep.path(), 0),
            }
        }
    }

    /// The exact bytes of a part, for its model and number. `sampler`: the number of the sampler that is made.
    pub fn body(
        &self,
        part: usize,
        model: &ModelId,
        seq_id: SeqId,
        sampler: Option<SamplingSessionSeqId>,
    ) -> Result<Body, Error> {
        let model_id = model.clone();
        Ok(match self {
            Ask::Data { parts, .. } => match &parts[part] {
                Part::Pass(pass, _) => Body::Protobuf(pass.with_header(model, seq_id)?.into()),
                Part::Step(params) => step(model_id, seq_id, *params),
            },
            Ask::OptimStep(params) => step(model_id, seq_id, *params),
            Ask::SaveState(save) => Body::json(&SaveWeights {
                model_id,
                path: save.name.clone(),
                seq_id,
                ttl_seconds: save.ttl_seconds,
                overwrite: save.overwrite,
                user_metadata: save.user_metadata.clone(),
                tag: Default::default(),
            }),
            Ask::LoadState(body) => body(model_id, seq_id),
            Ask::SaveWeightsForSampler(save) => for_sampler(model_id, seq_id, Some(save), None),
            Ask::NewSampler(_) => for_sampler(model_id, seq_id, None, sampler),
        })
    }
}

fn step(model_id: ModelId, seq_id: SeqId, params: AdamParams) -> Body {
    Body::json(&OptimStep {
        model_id,
        seq_id,
        adam_params: Some(params),
        optimizer_params: None,
        tag: Default::default(),
    })
}

fn for_sampler(
    model_id: ModelId,
    seq_id: SeqId,
    save: Option<&Save>,
    sampling_session_seq_id: Option<SamplingSessionSeqId>,
) -> Body {
    Body::json(&SaveWeightsForSampler {
        model_id,
        path: save.map(|save| save.name.clone()),
        sampling_session_seq_id,
        kind: SamplerKind::Snapshot,
        seq_id,
        ttl_seconds: save.and_then(|save| save.ttl_seconds),
        user_metadata: save.and_then(|save| save.user_metadata.clone()),
        tag: Default::default(),
    })
}

/// A request that changes nothing, for a number that would be left out.
pub fn nothing(model: &ModelId, number: SeqId) -> Result<Body, Error> {
    Ok(Body::Protobuf(EncodedForwardBackward::nothing().with_header(model, number)?.into()))
}

fn passes(results: Results) -> Result<ForwardBackwardOutput, Error> {
    let mut outputs = Vec::with_capacity(results.len());
    for (payload, data) in results {
        let bytes = payload.protobuf()?;
        outputs.push(ForwardBackwardOutput::decode(&bytes, data as usize).map_err(unreadable_result)?);
    }
    combine(outputs).map_err(unreadable_result)
}
