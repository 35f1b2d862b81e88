//! What the client reads of the service's JSON: a value first, then by hand the few fields that matter.
//!
//! The protocol's types can be read by serde as well, and the sandbox and the tests do that. But a derived reader is
//! compiled whole for each type, some kilobytes each, and the client reads a dozen.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use tinkex_protocol::json::futures::Submitted;
use tinkex_protocol::json::managing::WeightsInfoResponse;
use tinkex_protocol::json::session::{
    CreateSamplingSessionResponse, CreateSessionResponse, Flags, ServerCapabilities, SupportedModel,
};
use tinkex_protocol::json::training::{
    CreateModelResult, ModelData, ModelInfo, OptimStepResult, OptimizerConfig, SaveWeightsForSamplerResult,
    SaveWeightsResult,
};
use tinkex_protocol::{Error, Map};

/// An answer that the client reads.
pub trait Answer: Sized {
    /// The `type` that it may carry, and must not contradict.
    const TYPE: Option<&'static str> = None;

    fn of(fields: &Fields) -> Result<Self, Error>;
}

/// Reads an answer. The error names the field.
pub fn read<A: Answer>(body: &[u8]) -> Result<A, Error> {
    let json = json(body)?;
    let fields = Fields::of(&json)?;
    check_type(&fields, A::TYPE)?;
    A::of(&fields)
}

fn json(body: &[u8]) -> Result<Json, Error> {
    tinkex_protocol::json::decode(body)
}

/// `{"detail": "…"}`, which the service's errors are.
pub fn detail(body: &str) -> Option<String> {
    let json = json(body.as_bytes()).ok()?;
    Fields::of(&json).ok()?.text("detail").ok()
}

fn check_type(fields: &Fields, expected: Option<&str>) -> Result<(), Error> {
    let Some(expected) = expected else { return Ok(()) };
    match fields.optional_text("type")? {
        Some(other) if other != expected => {
            Err(wrong("type", format!("invalid value: string \"{other}\", expected \"{expected}\"")))
        }
        _ => Ok(()),
    }
}

/// Any JSON. Numbers are doubles: none that the client reads needs more.
enum Json {
    Null,
    Flag(bool),
    Number(f64),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

/// The fields of an object. Null counts as left out.
pub struct Fields<'a>(&'a [(String, Json)]);

impl<'a> Fields<'a> {
    fn of(json: &'a Json) -> Result<Fields<'a>, Error> {
        match json {
            Json::Object(fields) => Ok(Fields(fields)),
            _ => Err(wrong("", "invalid type: expected an object".to_owned())),
        }
    }

    /// Of a name that comes twice the last value counts.
    fn get(&self, name: &str) -> Option<&'a Json> {
        let (_, value) = self.0.iter().rev().find(|(field, _)| field == name)?;
        (!matches!(value, Json::Null)).then_some(value)
    }

    fn optional_text(&self, name: &str) -> Result<Option<String>, Error> {
        match self.get(name) {
            None => Ok(None),
            Some(Json::Text(text)) => Ok(Some(text.clone())),
            Some(_) => Err(expected(name, "a string")),
        }
    }

    fn text(&self, name: &str) -> Result<String, Error> {
        self.optional_text(name)?.ok_or_else(|| missing(name))
    }

    fn flag(&self, name: &str) -> Result<Option<bool>, Error> {
        match self.get(name) {
            None => Ok(None),
            Some(Json::Flag(flag)) => Ok(Some(*flag)),
            Some(_) => Err(expected(name, "a boolean")),
        }
    }

    fn count(&self, name: &str) -> Result<Option<u64>, Error> {
        match self.get(name) {
            None => Ok(None),
            Some(&Json::Number(number)) if number >= 0.0 && number.trunc() == number => {
                Ok(Some(number as u64))
            }
            Some(_) => Err(expected(name, "a whole number of at least 0")),
        }
    }

    fn small_count(&self, name: &str) -> Result<Option<u32>, Error> {
        let count = self.count(name)?;
        count.map(|count| u32::try_from(count).map_err(|_| expected(name, "u32"))).transpose()
    }

    fn list(&self, name: &str) -> Result<Option<&'a [Json]>, Error> {
        match self.get(name) {
            None => Ok(None),
            Some(Json::List(list)) => Ok(Some(list)),
            Some(_) => Err(expected(name, "a list")),
        }
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
fn missing(name: &str) -> Error {
    wrong("", format!("missing field `{name}`"))
}

#[cold]
fn expected(name: &str, what: &str) -> Error {
    wrong(name, format!("invalid type: expected {what}"))
}

#[cold]
fn wrong(path: &str, problem: String) -> Error {
    Error::Json { path: path.to_owned(), problem }
}

impl Answer for Submitted {
    fn of(fields: &Fields) -> Result<Submitted, Error> {
        let ids = fields.list("sample_sequence_ids")?.map(|ids| {
            let id = |id: &Json| match id {
                Json::Text(id) => Ok(id.as_str().into()),
                _ => Err(expected("sample_sequence_ids", "strings")),
            };
            ids.iter().map(id).collect::<Result<Vec<_>, Error>>()
        });
        Ok(Submitted {
            request_id: fields.text("request_id")?.into(),
            model_id: fields.optional_text("model_id")?.map(Into::into),
            sample_sequence_ids: ids.transpose()?,
        })
    }
}

impl Answer for Flags {
    fn of(fields: &Fields) -> Result<Flags, Error> {
        let mut flags = Flags::default();
        for (name, flag) in flags.booleans() {
            *flag = fields.flag(name)?.unwrap_or(*flag);
        }
        for (name, count) in flags.counts() {
            *count = fields.count(name)?.unwrap_or(*count);
        }
        if let Some(source) = fields.optional_text("credential_default_source")? {
            flags.credential_default_source = source;
        }
        Ok(flags)
    }
}

impl Answer for CreateSessionResponse {
    const TYPE: Option<&'static str> = Some("create_session");

    fn of(fields: &Fields) -> Result<CreateSessionResponse, Error> {
        Ok(CreateSessionResponse {
            session_id: fields.text("session_id")?.into(),
            info_message: fields.optional_text("info_message")?,
            warning_message: fields.optional_text("warning_message")?,
            error_message: fields.optional_text("error_message")?,
            tag: Default::default(),
        })
    }
}

impl Answer for ServerCapabilities {
    fn of(fields: &Fields) -> Result<ServerCapabilities, Error> {
        let models = fields.list("supported_models")?.ok_or_else(|| missing("supported_models"))?;
        let model = |json: &Json| {
            let fields = Fields::of(json)?;
            Ok(SupportedModel {
                model_name: fields.optional_text("model_name")?,
                max_context_length: fields.count("max_context_length")?,
                trainable: fields.flag("trainable")?,
                sampleable: fields.flag("sampleable")?,
            })
        };
        let mut supported_models = Vec::new();
        for (index, json) in models.iter().enumerate() {
            let model = model(json);
            supported_models
                .push(model.map_err(|error: Error| error.within(&format!("supported_models[{index}]")))?);
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
        let metric = |(name, value): &(String, Json)| match value {
            Json::Number(number) => Ok((name.clone(), *number)),
            _ => Err(expected(name, "a number").within("metrics")),
        };
        Ok(OptimStepResult { metrics: Some(metrics.iter().map(metric).collect::<Result<Map<_>, _>>()?) })
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

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Json, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Json;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any JSON")
            }
            fn visit_unit<E>(self) -> Result<Json, E> {
                Ok(Json::Null)
            }
            fn visit_bool<E>(self, flag: bool) -> Result<Json, E> {
                Ok(Json::Flag(flag))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Json, E> {
                Ok(Json::Number(number as f64))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Json, E> {
                Ok(Json::Number(number as f64))
            }
            fn visit_f64<E>(self, number: f64) -> Result<Json, E> {
                Ok(Json::Number(number))
            }
            fn visit_str<E>(self, text: &str) -> Result<Json, E> {
                Ok(Json::Text(text.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Json, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = list.next_element()? {
                    values.push(value);
                }
                Ok(Json::List(values))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Json, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = object.next_entry()? {
                    fields.push(field);
                }
                Ok(Json::Object(fields))
            }
        }

        deserializer.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use tinkex_protocol::json::decode;

    #[test]
    fn every_flag_is_read() {
        let Ok(Value::Object(mut flags)) = serde_json::to_value(Flags::default()) else {
            panic!("flags are fields")
        };
        for value in flags.values_mut() {
            *value = match value.take() {
                Value::Bool(flag) => (!flag).into(),
                Value::Number(number) => (number.as_f64().expect("a number") as u64 + 1).into(),
                other => other,
            };
        }
        let body = serde_json::to_vec(&flags).expect("flags can be written");
        assert_eq!(read::<Flags>(&body).as_ref(), decode(&body).as_ref());
        assert_eq!(read::<Flags>(b"{}").as_ref(), Ok(&Flags::default()));
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
