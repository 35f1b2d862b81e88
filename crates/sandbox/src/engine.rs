//! What requests do to an engine: decoded bodies in, outcomes out. Knows nothing of queues, sessions or time, so
//! that a live model and a replayed log go through the same lines.

use crate::bases::Bases;
use crate::loss::{Inputs, Loss};
use crate::results;
use crate::state::{Kind, Outcome};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::collections::BTreeMap;
use tinkex_model::{AdamParams, Adapter, BaseModel, LoraConfig, Sequence};
use tinkex_protocol::forward_backward::LossConfigValue;
use tinkex_protocol::json::training::{
    CreateModel, ForwardBackwardInput, ForwardBackwardJson, OptimStep, OptimizerConfig,
};
use tinkex_protocol::{Datum, ForwardBackward, LossCall, Tensor};

pub(crate) fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    tinkex_protocol::json::decode(body).map_err(|error| error.to_string())
}

/// A result, or whose fault it is that there is none: everything that an engine refuses is the caller's doing.
pub(crate) fn outcome(result: Result<Outcome, String>) -> Outcome {
    result.unwrap_or_else(Outcome::user)
}

pub(crate) fn only_adam(optimizer: Option<&OptimizerConfig>) -> Result<(), String> {
    match optimizer {
        Some(other) if other.kind != "adamw" => Err(format!(
            "optimizer_config.type is {:?}; the sandbox trains with Adam only, so ask for \"adamw\"",
            other.kind
        )),
        _ => Ok(()),
    }
}

/// Makes the engine that a `create_model` asks for.
pub(crate) fn create(bases: &Bases, body: &[u8]) -> Result<Adapter, String> {
    let body: CreateModel = decode(body)?;
    only_adam(Some(&body.optimizer_config))?;
    let base = bases.get(&body.base_model).map_err(|refusal| refusal.detail)?;
    let asked = &body.lora_config;
    if !(asked.train_mlp || asked.train_attn || asked.train_unembed) {
        return Err(
            "lora_config trains nothing: at least one of train_mlp, train_attn, train_unembed must be true"
                .into(),
        );
    }
    let lora = LoraConfig {
        rank: asked.rank as usize,
        seed: asked.seed.unwrap_or_default(),
        train_mlp: asked.train_mlp,
        train_attn: asked.train_attn,
        train_unembed: asked.train_unembed,
    };
    Adapter::new(&base, lora).map_err(|error| error.to_string())
}

/// An engine from a checkpoint's bytes.
pub(crate) fn restore(
    bases: &Bases,
    base_model: &str,
    state: &[u8],
    optimizer: bool,
) -> Result<Adapter, String> {
    let base: BaseModel = bases.get(base_model).map_err(|refusal| refusal.detail)?;
    let mut engine = Adapter::from_state(&base, state).map_err(|error| error.to_string())?;
    if !optimizer {
        engine.reset_optimizer();
    }
    Ok(engine)
}

pub(crate) fn check_same_shape(engine: &Adapter, loaded: &Adapter) -> Result<(), String> {
    let shape = |engine: &Adapter| {
        let lora = engine.config();
        (engine.base().hash(), lora.rank, lora.train_mlp, lora.train_attn, lora.train_unembed)
    };
    if shape(engine) == shape(loaded) {
        return Ok(());
    }
    Err("The checkpoint is of another base model or LoRA shape. Make a new model from it instead.".into())
}

/// Runs the requests that take time: passes and optimizer steps.
pub(crate) fn train(engine: &mut Adapter, kind: Kind, body: &Bytes, threads: usize) -> Outcome {
    outcome(match kind {
        Kind::OptimStep => optim_step(engine, body),
        Kind::ForwardBackward => ForwardBackward::decode(body)
            .map_err(|error| error.to_string())
            .and_then(|pass| run_pass(engine, &pass.data, &pass.call, threads)),
        Kind::ForwardBackwardJson => decode::<ForwardBackwardJson>(body)
            .and_then(|body| json_pass(engine, body.forward_backward_input, false, threads)),
        Kind::ForwardJson => decode::<ForwardBackwardJson>(body)
            .and_then(|body| json_pass(engine, body.forward_input, true, threads)),
        Kind::CreateModel
        | Kind::CreateFromCheckpoint
        | Kind::LoadWeights
        | Kind::SaveWeights
        | Kind::SaveWeightsForSampler
        | Kind::SaveWeightsExternal => Err("this kind of request needs no engine's time".into()),
    })
}

fn optim_step(engine: &mut Adapter, body: &[u8]) -> Result<Outcome, String> {
    let body: OptimStep = decode(body)?;
    let Some(adam) = body.adam_params else {
        return Err("The sandbox steps with Adam only: send adam_params.".into());
    };
    let params = AdamParams {
        learning_rate: adam.learning_rate,
        beta1: adam.beta1,
        beta2: adam.beta2,
        eps: adam.eps,
        weight_decay: adam.weight_decay,
        grad_clip_norm: adam.grad_clip_norm,
    };
    let taken = engine.optim_step(&params).map_err(|error| error.to_string())?;
    Ok(Outcome::json(&json!({ "metrics": { "step": taken.step as f64, "grad_norm": taken.grad_norm } })))
}

/// The dialect of older clients.
fn json_pass(
    engine: &mut Adapter,
    input: Option<ForwardBackwardInput>,
    forward_only: bool,
    threads: usize,
) -> Result<Outcome, String> {
    let input = input.ok_or("there is no input")?;
    let loss_fn_config = input.loss_fn_config.unwrap_or_default();
    run_pass(engine, &input.data, &LossCall { loss_fn: input.loss_fn, loss_fn_config, forward_only }, threads)
}

fn run_pass(
    engine: &mut Adapter,
    data: &[Datum],
    call: &LossCall,
    threads: usize,
) -> Result<Outcome, String> {
    if data.is_empty() {
        return Err("data is empty: send at least one datum".into());
    }
    let loss = Loss::find(&call.loss_fn, &numbers(&call.loss_fn_config)?)?;
    let mut batch = Vec::with_capacity(data.len());
    let mut inputs = Vec::with_capacity(data.len());
    let mut shapes = Vec::with_capacity(data.len());
    for (i, datum) in data.iter().enumerate() {
        let (sequence, input, shape) =
            read_datum(datum, loss).map_err(|problem| format!("data[{i}]: {problem}"))?;
        batch.push(sequence);
        inputs.push(input);
        shapes.push(shape);
    }
    let gradient = |i: usize, logprobs: &[f32]| loss.evaluate(&inputs[i], logprobs).gradient;
    let logprobs = if call.forward_only {
        engine.forward(&batch, threads)
    } else {
        engine.forward_backward(&batch, threads, gradient)
    };
    let logprobs = logprobs.map_err(in_words_of_the_wire)?;
    let total =
        logprobs.iter().zip(&inputs).map(|(logprobs, inputs)| loss.evaluate(inputs, logprobs).loss).sum();
    results::pass(logprobs, shapes, total)
}

fn numbers(config: &tinkex_protocol::Map<LossConfigValue>) -> Result<BTreeMap<String, f64>, String> {
    let number = |(name, value): (&String, &LossConfigValue)| match value {
        LossConfigValue::Number(number) => Ok((name.clone(), *number)),
        LossConfigValue::Text(_) => {
            Err(format!("loss_fn_config.{name} is text; the losses of the sandbox take numbers only"))
        }
    };
    config.iter().map(number).collect()
}

/// The engine counts sequences; a client has data and their fields.
fn in_words_of_the_wire(error: tinkex_model::Error) -> String {
    use tinkex_model::Error::{EmptySequence, SequenceTooLong, TargetOutOfVocabulary, TokenOutOfVocabulary};
    match error {
        TokenOutOfVocabulary { sequence, index, token, vocabulary } => format!(
            "data[{sequence}].model_input: token {token} at position {index} is outside the vocabulary (0 to {})",
            vocabulary - 1
        ),
        TargetOutOfVocabulary { sequence, index, token, vocabulary } => format!(
            "data[{sequence}].loss_fn_inputs.target_tokens[{index}] is {token}, outside the vocabulary (0 to {})",
            vocabulary - 1
        ),
        SequenceTooLong { sequence, length, context } => format!(
            "data[{sequence}].model_input has {length} tokens, and this model reads {context} at most: shorten it"
        ),
        EmptySequence { sequence } => {
            format!("data[{sequence}].model_input is empty: give at least one token")
        }
        other => other.to_string(),
    }
}

/// A datum as the engine takes it, with what the loss needs, and the shape of its targets.
fn read_datum(datum: &Datum, loss: Loss) -> Result<(Sequence, Inputs, Vec<usize>), String> {
    let tokens =
        datum.model_input.tokens().ok_or("the sandbox's models read text only, no images or audio")?;
    let tokens = tokens
        .iter()
        .enumerate()
        .map(|(place, &token)| {
            u32::try_from(token).map_err(|_| format!("model_input: token {token} at {place} is negative"))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let targets =
        datum.loss_fn_inputs.get("target_tokens").ok_or("loss_fn_inputs.target_tokens is missing")?;
    let per_token = targets_per_token(targets, tokens.len())?;
    let inputs = loss.inputs(datum, targets)?;
    let integers = targets.iter_i64().ok_or("loss_fn_inputs.target_tokens must be int64")?;
    let targets_read = integers
        .enumerate()
        .map(|(place, token)| {
            u32::try_from(token)
                .map_err(|_| format!("loss_fn_inputs.target_tokens[{place}] is {token}, which is no token"))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let sequence = Sequence { tokens, targets: targets_read, targets_per_token: per_token };
    Ok((sequence, inputs, targets.shape().to_vec()))
}

fn targets_per_token(targets: &Tensor, tokens: usize) -> Result<usize, String> {
    if targets.csr().is_some() {
        return Err("loss_fn_inputs.target_tokens is sparse; the sandbox takes dense tensors".into());
    }
    match *targets.shape() {
        [length] if length == tokens => Ok(1),
        [length, each] if length == tokens && each > 0 => Ok(each),
        _ => Err(format!(
            "loss_fn_inputs.target_tokens has shape {:?} for {tokens} tokens: it must be [{tokens}] or [{tokens}, k]",
            targets.shape()
        )),
    }
}
