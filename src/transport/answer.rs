//! What the client reads of the service's JSON, by hand: the few fields that matter. The protocol's types can be read by
//! serde as well; the sandbox and the tests do that, and the tests hold the two to each other.

use tinkex_protocol::Error;
use tinkex_protocol::chunking::ChunkLimits;
use tinkex_protocol::json::Json;
use tinkex_protocol::json::futures::Submitted;
use tinkex_protocol::json::managing::WeightsInfoResponse;
use tinkex_protocol::json::session::{CreateSamplingSessionResponse, ServerCapabilities, SupportedModel};
use tinkex_protocol::json::training::{
    CreateModelResult, ModelData, ModelInfo, OptimStepResult, OptimizerConfig, SaveWeightsForSamplerResult,
    SaveWeightsResult,
};
use tinkex_protocol::metrics::Metrics;

use crate::platform::numbers;

/// An answer that the client reads.
pub trait Answer: Sized {
    /// The `type` that it may carry, and must not contradict.
    const TYPE: Option<&'static str> = None;

    fn of(fields: &Fields) -> Result<Self, Error>;
}

/// Reads an answer. The error names the field.
pub fn read<A: Answer>(body: &[u8]) -> Result<A, Error> {
    A::of(&Fields::read(body, A::TYPE)?)
}

/// `{"detail": "…"}`, which the service's errors are.
pub fn detail(body: &str) -> Option<String> {
    Json::read(body.as_bytes()).ok()?.get("detail")?.text()
}

/// The fields of an object. Null counts as left out.
pub struct Fields<'a>(Json<'a>);

impl<'a> Fields<'a> {
    fn read(body: &'a [u8], expected: Option<&str>) -> Result<Fields<'a>, Error> {
        let fields = Fields::of(Json::read(body)?)?;
        match (expected, fields.optional_text("type")?) {
            (Some(expected), Some(other)) if other != expected => Err(Error::field(
                "type",
                format!("invalid value: string \"{other}\", expected \"{expected}\""),
            )),
            _ => Ok(fields),
        }
    }

    fn of(json: Json<'a>) -> Result<Fields<'a>, Error> {
        if json.members().is_some() { Ok(Fields(json)) } else { Err(expected("", "an object")) }
    }

    fn get(&self, name: &str) -> Option<Json<'a>> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// What `read` makes of a field that is there.
    fn optional<T>(
        &self,
        name: &str,
        what: &str,
        read: impl FnOnce(Json<'a>) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        match self.get(name) {
            None => Ok(None),
            Some(value) => read(value).map(Some).ok_or_else(|| expected(name, what)),
        }
    }

    pub fn optional_text(&self, name: &str) -> Result<Option<String>, Error> {
        self.optional(name, "a string", Json::text)
    }

    pub fn text(&self, name: &str) -> Result<String, Error> {
        self.optional_text(name)?.ok_or_else(|| missing(name))
    }

    fn flag(&self, name: &str) -> Result<Option<bool>, Error> {
        self.optional(name, "a boolean", Json::flag)
    }

    fn count(&self, name: &str) -> Result<Option<u64>, Error> {
        self.optional(name, "a whole number of at least 0", Json::count)
    }

    fn small_count(&self, name: &str) -> Result<Option<u32>, Error> {
        self.optional(name, "a whole number below 2³²", |value| value.count()?.try_into().ok())
    }

    fn object(&self, name: &str) -> Result<Option<Fields<'a>>, Error> {
        self.get(name).map(|json| Fields::of(json).map_err(|error| error.within(name))).transpose()
    }

    fn optimizer(&self) -> Result<OptimizerConfig, Error> {
        match self.object("optimizer_config")? {
            Some(fields) => {
                Ok(OptimizerConfig { kind: fields.text("type")?, version: fields.small_count("version")? })
            }
            None => Ok(OptimizerConfig::default()),
        }
    }
}

#[cold]
#[inline(never)]
fn missing(name: &str) -> Error {
    Error::field("", format!("missing field `{name}`"))
}

#[cold]
#[inline(never)]
fn expected(name: &str, what: &str) -> Error {
    Error::field(name, format!("invalid type: expected {what}"))
}

impl Answer for Submitted {
    fn of(fields: &Fields) -> Result<Submitted, Error> {
        let ids = fields.optional("sample_sequence_ids", "a list of strings", |list| {
            let mut ids = Vec::new();
            for (_, id) in list.elements()? {
                ids.push(id.text()?.into());
            }
            Some(ids)
        });
        Ok(Submitted {
            request_id: fields.text("request_id")?.into(),
            model_id: fields.optional_text("model_id")?.map(Into::into),
            sample_sequence_ids: ids?,
        })
    }
}

/// Of the service's flags. One that is left out has its default.
impl Answer for ChunkLimits {
    fn of(fields: &Fields) -> Result<ChunkLimits, Error> {
        let limit = |name, default| Ok(fields.count(name)?.map_or(default, |limit| limit as usize));
        Ok(ChunkLimits {
            data: limit("fwdbwd_max_chunk_len", ChunkLimits::DEFAULT.data)?,
            bytes: limit("fwdbwd_max_chunk_bytes_count", ChunkLimits::DEFAULT.bytes)?,
        })
    }
}

impl Answer for ServerCapabilities {
    fn of(fields: &Fields) -> Result<ServerCapabilities, Error> {
        let models = fields.get("supported_models").ok_or_else(|| missing("supported_models"))?;
        let models = models.elements().ok_or_else(|| expected("supported_models", "a list"))?;
        let model = |json: Json| {
            let fields = Fields::of(json)?;
            Ok(SupportedModel {
                model_name: fields.optional_text("model_name")?,
                max_context_length: fields.count("max_context_length")?,
                trainable: fields.flag("trainable")?,
                sampleable: fields.flag("sampleable")?,
            })
        };
        let mut supported_models = Vec::new();
        for (index, (_, json)) in models.enumerate() {
            let model = model(json);
            supported_models
                .push(model.map_err(|error: Error| error.within_element("supported_models", index))?);
        }
        Ok(ServerCapabilities { supported_models })
    }
}

impl Answer for CreateSamplingSessionResponse {
    const TYPE: Option<&'static str> = Some("create_sampling_session");

    fn of(fields: &Fields) -> Result<CreateSamplingSessionResponse, Error> {
        let sampling_session_id = fields.text("sampling_session_id")?.into();
        Ok(CreateSamplingSessionResponse { sampling_session_id, tag: Default::default() })
    }
}

impl Answer for CreateModelResult {
    const TYPE: Option<&'static str> = Some("create_model");

    fn of(fields: &Fields) -> Result<CreateModelResult, Error> {
        Ok(CreateModelResult { model_id: fields.text("model_id")?.into(), tag: Default::default() })
    }
}

impl Answer for WeightsInfoResponse {
    fn of(fields: &Fields) -> Result<WeightsInfoResponse, Error> {
        Ok(WeightsInfoResponse {
            base_model: fields.text("base_model")?,
            is_lora: fields.flag("is_lora")?.ok_or_else(|| missing("is_lora"))?,
            optimizer_config: fields.optimizer()?,
            lora_rank: fields.small_count("lora_rank")?,
            train_unembed: fields.flag("train_unembed")?,
            train_mlp: fields.flag("train_mlp")?,
            train_attn: fields.flag("train_attn")?,
        })
    }
}

impl Answer for ModelInfo {
    const TYPE: Option<&'static str> = Some("get_info");

    fn of(fields: &Fields) -> Result<ModelInfo, Error> {
        let data = fields.object("model_data")?.ok_or_else(|| missing("model_data"))?;
        Ok(ModelInfo {
            model_data: ModelData {
                arch: data.optional_text("arch")?,
                model_name: data.optional_text("model_name")?,
                tokenizer_id: data.optional_text("tokenizer_id")?,
            },
            model_id: fields.text("model_id")?.into(),
            optimizer_config: fields.optimizer()?,
            is_lora: fields.flag("is_lora")?,
            lora_rank: fields.small_count("lora_rank")?,
            model_name: fields.optional_text("model_name")?,
            tag: Default::default(),
        })
    }
}

impl Answer for OptimStepResult {
    fn of(fields: &Fields) -> Result<OptimStepResult, Error> {
        let Some(Fields(metrics)) = fields.object("metrics")? else {
            return Ok(OptimStepResult { metrics: None });
        };
        let mut read = Vec::new();
        for (name, value) in metrics.members().into_iter().flatten() {
            match value.number().and_then(numbers::read) {
                Some(number) => read.push((name, number)),
                None => return Err(expected(&name, "a number").within("metrics")),
            }
        }
        Ok(OptimStepResult { metrics: Some(Metrics::from_entries(read)) })
    }
}

impl Answer for SaveWeightsResult {
    const TYPE: Option<&'static str> = Some("save_weights");

    fn of(fields: &Fields) -> Result<SaveWeightsResult, Error> {
        Ok(SaveWeightsResult { path: fields.text("path")?, tag: Default::default() })
    }
}

impl Answer for SaveWeightsForSamplerResult {
    const TYPE: Option<&'static str> = Some("save_weights_for_sampler");

    fn of(fields: &Fields) -> Result<SaveWeightsForSamplerResult, Error> {
        Ok(SaveWeightsForSamplerResult {
            path: fields.optional_text("path")?,
            sampling_session_id: fields.optional_text("sampling_session_id")?.map(Into::into),
            tag: Default::default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tinkex_protocol::json::encode;
    use tinkex_protocol::json::session::Flags;

    #[test]
    fn limits_are_those_of_the_flags_or_their_defaults() {
        let flags = Flags { fwdbwd_max_chunk_len: 7, fwdbwd_max_chunk_bytes_count: 9, ..Flags::default() };
        assert_eq!(read(&encode(&flags)).as_ref(), Ok(&ChunkLimits { data: 7, bytes: 9 }));
        let default: ChunkLimits = read(&encode(&Flags::default())).expect("flags are an answer");
        assert_eq!((read(b"{}"), default), (Ok(default), ChunkLimits::DEFAULT));
        assert!(read::<ChunkLimits>(br#"{"fwdbwd_max_chunk_len":"many"}"#).is_err());
    }

    #[test]
    fn an_answer_of_another_kind_is_refused_with_the_field_that_is_wrong() {
        let refused =
            |body: &str| read::<Submitted>(body.as_bytes()).expect_err("it is no answer").to_string();
        assert!(refused("{}").contains("request_id"), "{}", refused("{}"));
        assert!(refused(r#"{"request_id":5}"#).contains("request_id"));
        for garbage in ["", "[]", "null", "{", "\"text\""] {
            refused(garbage);
        }
    }
}
