//! Which request is for whom: credentials, paths, and bodies as far as they must be readable.

use super::reading::Query;
use super::sessions::asked;
use super::{Answer, Core};
use crate::message::{Headers, Method, Refusal, Request, Response};
use crate::settings::LARGEST_BODY;
use crate::state::{Kind, fingerprint};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tinkex_protocol::json::custom_loss::CreateCustomLoss;
use tinkex_protocol::json::futures::{CancelFuture, RetrieveFuture, RetrieveFutures};
use tinkex_protocol::json::managing::{SetProject, SetTtl, WeightsInfo};
use tinkex_protocol::json::sampling::Sample;
use tinkex_protocol::json::session::{
    ClientConfig, CreateSamplingSession, CreateSession, DynamicFlags, FinishSession, Flags,
    JoinSamplingSession, SessionHeartbeat,
};
use tinkex_protocol::json::training::{
    CreateModel, ForwardBackwardJson, GetInfo, LoadWeights, OptimStep, SaveWeights, SaveWeightsExternal,
    SaveWeightsForSampler, UnloadModel,
};
use tinkex_protocol::{SeqId, json, proto};

/// What all paths of the API begin with.
const ROOT: &str = "/api/v1/";

/// Paths that take a GET, for telling a wrong method from a wrong path.
const READ: [&str; 9] = [
    "healthz",
    "get_server_capabilities",
    "training_runs",
    "checkpoints",
    "sessions",
    "sandbox",
    "sandbox/log",
    "sandbox/telemetry",
    "sandbox/tokenizer.json",
];

impl Core {
    pub(super) fn route(&mut self, request: &Request) -> Result<Answer, Refusal> {
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        let path = path.strip_prefix(ROOT).ok_or_else(|| unknown(path))?;
        if path == "healthz" && request.method == Method::Get {
            return Ok(Answer::Same(Response::json(&json!({ "status": "ok" }))));
        }
        authorize(&request.headers)?;
        if request.body.len() > LARGEST_BODY {
            let limit = LARGEST_BODY / (1024 * 1024);
            return Err(Refusal::new(
                413,
                format!("The body is larger than {limit} MiB: send fewer datums at once."),
            ));
        }
        if let Some(encoding) =
            request.headers.content_encoding.as_deref().filter(|encoding| *encoding != "identity")
        {
            return Err(Refusal::new(
                415,
                format!("Content-Encoding {encoding} is not read here: send the body as it is."),
            ));
        }
        let path = unescape(path).ok_or_else(|| Refusal::new(400, "The path has a broken %-escape."))?;
        let parts: Vec<&str> = path.split('/').collect();
        let query = Query::parse(query);
        match request.method {
            Method::Get => self.read(&path, &parts, &query),
            Method::Post => self.post(&path, &parts, request),
            Method::Put => self.put(&path, &parts, &request.body),
            Method::Delete => self.delete(&path, &parts),
            Method::Other => Err(Refusal::new(405, "Only GET, POST, PUT and DELETE are known here.")),
        }
    }

    fn read(&mut self, path: &str, parts: &[&str], query: &Query<'_>) -> Result<Answer, Refusal> {
        match parts {
            ["get_server_capabilities"] => Ok(self.capabilities()),
            ["training_runs"] => self.list_runs(query),
            ["training_runs", id] => self.get_run(&(*id).into()),
            ["training_runs", id, "checkpoints"] => self.run_checkpoints(&(*id).into()),
            ["checkpoints"] => self.list_checkpoints(query),
            ["sessions"] => self.list_sessions(query),
            ["sessions", id] => self.get_session(&(*id).into()),
            ["samplers", id] => self.get_sampler(&(*id).into()),
            ["sandbox"] => Ok(self.overview()),
            ["sandbox", "log"] => self.applied_log(query),
            ["sandbox", "telemetry"] => Ok(self.told()),
            ["sandbox", "tokenizer.json"] => Ok(Self::tokenizer_file()),
            ["sandbox", "models", id, "hash"] => self.model_hash(&(*id).into()),
            _ => Err(unknown(path)),
        }
    }

    fn post(&mut self, path: &str, parts: &[&str], request: &Request) -> Result<Answer, Refusal> {
        let body = &request.body;
        match parts {
            ["client", "config"] => {
                read::<ClientConfig>(body)?;
                Ok(Answer::Same(Response::json(&self.flags(&Flags::default()))))
            }
            ["client", "dynamic_config"] => {
                read::<ClientConfig>(body)?;
                let flags = DynamicFlags { sample_cancel_enabled: true, ..DynamicFlags::default() };
                Ok(Answer::Same(Response::json(&self.flags(&flags))))
            }
            ["auth", "token"] => Err(Refusal::new(
                404,
                "The sandbox gives out no tokens: send the API key itself, in X-API-Key.",
            )),
            ["create_session"] => {
                let body: CreateSession = read(body)?;
                self.create_session(
                    &body,
                    asked("create_session", &body),
                    request.headers.idempotency_key.as_deref(),
                )
            }
            ["session_heartbeat"] => self.heartbeat(&read::<SessionHeartbeat>(body)?.session_id),
            ["sessions", id, "finish"] => self.finish_session(&(*id).into(), &read::<FinishSession>(body)?),
            ["telemetry"] => {
                self.hear(read(body)?);
                Ok(Answer::Same(Response::json(&json!({ "status": "accepted" }))))
            }
            ["create_model"] => self.create_model(&read::<CreateModel>(body)?, body),
            ["get_info"] => self.get_info(&read::<GetInfo>(body)?.model_id),
            ["load_weights"] => self.load_weights(&read::<LoadWeights>(body)?, body),
            ["forward_backward"] if request.headers.is_protobuf() => self.pass(body),
            ["forward_backward"] => self.json_pass(Kind::ForwardBackwardJson, body),
            ["forward"] => self.json_pass(Kind::ForwardJson, body),
            ["optim_step"] => {
                let step: OptimStep = read(body)?;
                self.numbered(&step.model_id.clone(), step.seq_id, Kind::OptimStep, &step, body)
            }
            ["save_weights"] => {
                let save: SaveWeights = read(body)?;
                self.numbered(&save.model_id.clone(), save.seq_id, Kind::SaveWeights, &save, body)
            }
            ["save_weights_for_sampler"] => {
                let mut save: SaveWeightsForSampler = read(body)?;
                // A client that repeats this takes a new number for the sampler, and means the same request.
                save.sampling_session_seq_id = None;
                self.numbered(&save.model_id.clone(), save.seq_id, Kind::SaveWeightsForSampler, &save, body)
            }
            ["save_weights_external"] => {
                let save: SaveWeightsExternal = read(body)?;
                self.numbered(&save.model_id.clone(), save.seq_id, Kind::SaveWeightsExternal, &save, body)
            }
            ["unload_model"] => self.unload_model(&read::<UnloadModel>(body)?.model_id, body),
            ["create_custom_loss"] => self.create_custom_loss(&read::<CreateCustomLoss>(body)?, body),
            ["create_sampling_session"] => {
                self.create_sampling_session(&read::<CreateSamplingSession>(body)?)
            }
            ["join_sampling_session"] => {
                self.join_sampling_session(&read::<JoinSamplingSession>(body)?.sampling_session_id)
            }
            ["asample"] => self.sample(&read::<Sample>(body)?, body),
            ["retrieve_future"] => {
                self.retrieve_future(&read::<RetrieveFuture>(body)?, request.headers.accepts_protobuf())
            }
            ["retrieve_futures"] => self.retrieve_futures(&read::<RetrieveFutures>(body)?),
            ["cancel_future"] => self.cancel_future(&read::<CancelFuture>(body)?),
            ["weights_info"] => self.weights_info(&read::<WeightsInfo>(body)?.tinker_path),
            ["training_runs", run, "checkpoints", kind, name, "publish"] => {
                self.publish(&(*run).into(), &format!("{kind}/{name}"), true)
            }
            _ if READ.contains(&path) => Err(Refusal::new(405, format!("{path} is read with GET."))),
            _ => Err(unknown(path)),
        }
    }

    fn put(&mut self, path: &str, parts: &[&str], body: &Bytes) -> Result<Answer, Refusal> {
        match parts {
            ["training_runs", run, "checkpoints", kind, name, "ttl"] => {
                let asked: SetTtl = read(body)?;
                self.set_ttl(&(*run).into(), &format!("{kind}/{name}"), asked.ttl_seconds)
            }
            ["sessions", id, "project"] => {
                self.set_project(&(*id).into(), &read::<SetProject>(body)?.project_id)
            }
            _ => Err(unknown(path)),
        }
    }

    fn delete(&mut self, path: &str, parts: &[&str]) -> Result<Answer, Refusal> {
        match parts {
            ["training_runs", run, "checkpoints", kind, name] => {
                self.delete_checkpoint(&(*run).into(), &format!("{kind}/{name}"))
            }
            ["training_runs", run, "checkpoints", kind, name, "publish"] => {
                self.publish(&(*run).into(), &format!("{kind}/{name}"), false)
            }
            _ => Err(unknown(path)),
        }
    }

    /// The flags of the service with those that were set.
    fn flags(&self, defaults: &impl Serialize) -> serde_json::Value {
        let mut flags = serde_json::to_value(defaults).unwrap_or_default();
        for (name, value) in &self.settings.flags {
            flags[name.as_str()] = value.clone();
        }
        flags
    }

    fn pass(&mut self, body: &Bytes) -> Result<Answer, Refusal> {
        // Bad data use their number all the same, and fail when their turn comes. Only what can't be read is refused.
        let wire: proto::ForwardBackwardRequest =
            proto::decode("ForwardBackwardRequest", body).map_err(bad)?;
        let seq = u64::try_from(wire.seq_id).map_err(|_| Refusal::new(400, "seq_id can't be negative."))?;
        let asked = fingerprint(&[b"forward_backward", body]);
        self.submit(&wire.model_id.into(), seq, Kind::ForwardBackward, asked, body)
    }

    fn json_pass(&mut self, kind: Kind, body: &Bytes) -> Result<Answer, Refusal> {
        let pass: ForwardBackwardJson = read(body)?;
        let missing = match kind {
            Kind::ForwardJson => pass.forward_input.is_none().then_some("forward_input"),
            _ => pass.forward_backward_input.is_none().then_some("forward_backward_input"),
        };
        if let Some(missing) = missing {
            return Err(Refusal::new(422, format!("{missing} is missing.")));
        }
        self.numbered(&pass.model_id.clone(), pass.seq_id, kind, &pass, body)
    }

    fn numbered(
        &mut self,
        model: &tinkex_protocol::ModelId,
        seq: SeqId,
        kind: Kind,
        body: &impl Serialize,
        bytes: &Bytes,
    ) -> Result<Answer, Refusal> {
        self.submit(model, seq.get(), kind, asked(&format!("{kind:?}"), body), bytes)
    }
}

fn authorize(headers: &Headers) -> Result<(), Refusal> {
    match headers.api_key.as_deref() {
        Some(key) if key.starts_with("tml-") => Ok(()),
        Some(_) => {
            Err(Refusal::new(401, "The API key must begin with \"tml-\"; any such key is let in here."))
        }
        None => {
            Err(Refusal::new(401, "There is no API key: send one that begins with \"tml-\" in X-API-Key."))
        }
    }
}

/// Reads a body; what can't be read is the client's fault, and says where.
fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    json::decode(body).map_err(bad)
}

fn bad(error: tinkex_protocol::Error) -> Refusal {
    Refusal::new(422, format!("The body can't be read: {error}"))
}

fn unknown(path: &str) -> Refusal {
    Refusal::new(
        404,
        format!("The sandbox has no endpoint {path} with this method; docs/sandbox.md lists what it has."),
    )
}

/// Undoes %-escapes, of which ids of ours need none, but a client may escape their colons. `None`: broken ones.
pub(super) fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
            let (high, low) = (digit(rest.next())?, digit(rest.next())?);
            bytes.push((high * 16 + low) as u8);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}
