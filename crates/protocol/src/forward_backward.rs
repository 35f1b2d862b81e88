//! The forward and backward pass: its request, encoded before it has a number, and its result.

use prost::Message;
use serde::{Deserialize, Serialize};

use crate::batch::{self, Batch};
use crate::input::each;
use crate::metrics::Metrics;
use crate::wire::{self, Fields, Value, Writer};
use crate::{Datum, Error, Map, ModelId, SeqId, Tensor, proto};

/// What to compute: the same for all chunks of a call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LossCall {
    /// One of [`LOSS_FUNCTIONS`], or one that only the server knows.
    pub loss_fn: String,
    pub loss_fn_config: Map<LossConfigValue>,
    /// A forward pass: no gradients are kept.
    pub forward_only: bool,
}

/// The losses that the API names.
pub const LOSS_FUNCTIONS: [&str; 8] =
    ["cross_entropy", "importance_sampling", "ppo", "cispo", "dro", "gspo", "stable_reinforce", "custom"];

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum LossConfigValue {
    Number(f64),
    Text(String),
}

/// By hand: serde's untagged enums keep a copy of whatever comes before they choose, and the code for it.
impl<'de> Deserialize<'de> for LossConfigValue {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<LossConfigValue, D::Error> {
        struct NumberOrText;
        impl serde::de::Visitor<'_> for NumberOrText {
            type Value = LossConfigValue;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a number or a string")
            }
            fn visit_f64<E>(self, number: f64) -> Result<LossConfigValue, E> {
                Ok(LossConfigValue::Number(number))
            }
            fn visit_i64<E>(self, number: i64) -> Result<LossConfigValue, E> {
                Ok(LossConfigValue::Number(number as f64))
            }
            fn visit_u64<E>(self, number: u64) -> Result<LossConfigValue, E> {
                Ok(LossConfigValue::Number(number as f64))
            }
            fn visit_str<E>(self, text: &str) -> Result<LossConfigValue, E> {
                Ok(LossConfigValue::Text(text.to_owned()))
            }
        }
        deserializer.deserialize_any(NumberOrText)
    }
}

/// A `ForwardBackwardRequest` whose parts hold what they claim.
#[derive(Clone, Debug, PartialEq)]
pub struct ForwardBackward {
    pub model_id: ModelId,
    pub seq_id: SeqId,
    pub data: Vec<Datum>,
    pub call: LossCall,
}

impl ForwardBackward {
    /// Reads and checks in one go. To tell unreadable bytes from a readable request with bad data (whose number is used
    /// all the same), read a [`proto::ForwardBackwardRequest`] and convert that.
    pub fn decode(bytes: &[u8]) -> Result<ForwardBackward, Error> {
        proto::decode::<proto::ForwardBackwardRequest>("ForwardBackwardRequest", bytes)?.try_into()
    }
}

impl TryFrom<proto::ForwardBackwardRequest> for ForwardBackward {
    type Error = Error;

    fn try_from(wire: proto::ForwardBackwardRequest) -> Result<ForwardBackward, Error> {
        let seq_id = u64::try_from(wire.seq_id).ok().filter(|&number| number >= SeqId::FIRST.get());
        let seq_id =
            seq_id.ok_or_else(|| Error::field("seq_id", format!("{} must be 1 or more", wire.seq_id)))?;
        // Both maps are of one call; the second one has all of it, where a client writes it.
        let number = |(name, number)| Ok((name, LossConfigValue::Number(number)));
        let value = |(name, wire): (String, proto::LossConfigValue)| match wire.value {
            Some(proto::loss_config_value::Value::Number(number)) => {
                Ok((name, LossConfigValue::Number(number)))
            }
            Some(proto::loss_config_value::Value::Text(text)) => Ok((name, LossConfigValue::Text(text))),
            None => Err(Error::field(format!("loss_fn_config_v2.{name}"), "has no value")),
        };
        let numbers = proto::map(wire.loss_fn_config).into_iter().map(number);
        let values = proto::map(wire.loss_fn_config_v2).into_iter().map(value);
        let config = numbers.chain(values).collect::<Result<Map<_>, Error>>()?;
        Ok(ForwardBackward {
            model_id: wire.model_id.into(),
            seq_id: seq_id.into(),
            data: each("data", wire.data)?,
            call: LossCall { loss_fn: wire.loss_fn, loss_fn_config: config, forward_only: wire.forward_only },
        })
    }
}

/// A request encoded all but its header, so that the data are encoded once, at the call, and the sequence number is put
/// in front when it is given.
///
/// That works because a protobuf message is its fields in a row, and the header's fields have the lowest tags: the
/// result is byte for byte what encoding the whole at once would give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedForwardBackward {
    /// The fields 3 to 7.
    body: Vec<u8>,
}

/// The fields of a forward pass over one token without any weight.
const NOTHING: &[u8] = b"\x1aD\n\x08\n\x06\n\x04\0\0\0\0\
    \x12 \n\rtarget_tokens\x12\x0f\n\x08\0\0\0\0\0\0\0\0\x18\x02\"\x01\x01\
    \x12\x16\n\x07weights\x12\x0b\n\x04\0\0\0\0\x18\x01\"\x01\x01\
    \"\rcross_entropy0\x01";

impl EncodedForwardBackward {
    /// What changes nothing, whatever the model: a forward pass over one token.
    pub fn nothing() -> EncodedForwardBackward {
        EncodedForwardBackward { body: NOTHING.to_vec() }
    }

    /// Takes the data apart into bytes, one datum at a time. An error names the datum, counted from the start of `data`.
    pub fn new(data: impl IntoIterator<Item = Datum>, call: &LossCall) -> Result<Self, Error> {
        EncodedForwardBackward::of(&mut data.into_iter(), call)
    }

    fn of(data: &mut dyn Iterator<Item = Datum>, call: &LossCall) -> Result<Self, Error> {
        let mut out = Writer::default();
        for (index, datum) in data.enumerate() {
            let start = out.open(3);
            datum.write(&mut out).map_err(|error| error.within_element("data", index))?;
            out.close(start);
        }
        call.write(&mut out);
        Ok(EncodedForwardBackward { body: out.0 })
    }

    /// Bytes of the request without its header.
    pub fn len(&self) -> usize {
        self.body.len()
    }

    /// Whether there is nothing to compute: no data and no loss.
    pub fn is_empty(&self) -> bool {
        self.body.is_empty()
    }

    /// The request's bytes. Refuses a number over 2³¹ − 1, which the wire can't carry.
    pub fn with_header(&self, model_id: &ModelId, seq_id: SeqId) -> Result<Vec<u8>, Error> {
        let number = seq_id.get();
        if number > i32::MAX as u64 {
            return Err(Error::field("seq_id", format!("{number} is over 2147483647: start a new model")));
        }
        let mut out = Writer::default();
        out.some_bytes(1, model_id.as_str().as_bytes());
        out.some_integer(2, number);
        out.0.extend_from_slice(&self.body);
        Ok(out.0)
    }
}

impl LossCall {
    pub fn new(loss_fn: impl Into<String>) -> LossCall {
        LossCall { loss_fn: loss_fn.into(), ..LossCall::default() }
    }

    /// The fields of a request that say what to compute: its last ones.
    fn write(&self, out: &mut Writer) {
        out.some_bytes(4, self.loss_fn.as_bytes());
        for (name, value) in &self.loss_fn_config {
            if let LossConfigValue::Number(number) = value {
                let entry = out.open(5);
                out.bytes(1, name.as_bytes());
                out.double(2, *number);
                out.close(entry);
            }
        }
        out.some_integer(6, self.forward_only.into());
        for (name, value) in &self.loss_fn_config {
            let entry = out.open(7);
            out.bytes(1, name.as_bytes());
            let start = out.open(2);
            match value {
                LossConfigValue::Number(number) => out.double(1, *number),
                LossConfigValue::Text(text) => out.bytes(2, text.as_bytes()),
            }
            out.close(start);
            out.close(entry);
        }
    }
}

/// The result of a forward or a forward and backward pass, of one chunk or of a whole call.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ForwardBackwardOutput {
    /// The name of the records' type, without its namespace.
    pub loss_fn_output_type: String,
    /// One a datum, in order: `logprobs`, a tensor as long as the targets, and what else the loss gives.
    pub loss_fn_outputs: Vec<Map<Tensor>>,
    /// By name with suffix (`loss:sum`).
    #[serde(default)]
    pub metrics: Metrics,
}

impl ForwardBackwardOutput {
    /// Reads the protobuf result of a request of `data` data. Refuses more outputs than data: their number is only
    /// claimed where outputs have no fields.
    pub fn decode(bytes: &[u8], data: usize) -> Result<ForwardBackwardOutput, Error> {
        let mut kind = "";
        let mut records = Vec::new();
        let mut metrics = Vec::new();
        let mut fields = Fields(bytes);
        while let Some((field, value)) = fields.next()? {
            match field {
                1 => kind = value.text()?,
                2 => records.push(Record::read(value.bytes()?)?),
                3 => {
                    let (name, value) = wire::entry(value.bytes()?)?;
                    metrics.push((name.to_owned(), value.map_or(Ok(0.0), Value::double)?));
                }
                _ => {}
            }
        }
        // Where no record counts its data, the first field's count is used.
        let counted = records.iter().any(|record| record.num_datums != 0);
        let mut outputs = Vec::new();
        for (index, record) in records.iter().enumerate() {
            unbatch(record, counted, data, &mut outputs)
                .map_err(|error| error.within_element("loss_fn_outputs", index))?;
        }
        let name = kind.rsplit_once(':').map_or(kind, |(_, name)| name);
        let name = if name.is_empty() { "ArrayRecord" } else { name };
        Ok(ForwardBackwardOutput {
            loss_fn_output_type: name.to_owned(),
            loss_fn_outputs: outputs,
            metrics: Map::from_entries(metrics),
        })
    }

    /// The protobuf result: consecutive outputs with the same fields, types and trailing shapes share a record.
    /// Refuses sparse and zero-dimensional outputs, which the wire has no place for.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        let mut records = Vec::new();
        for group in self.loss_fn_outputs.chunk_by(same_fields) {
            let mut fields = Vec::new();
            for name in group[0].keys() {
                let tensors = group.iter().map(|output| &output[name]);
                let batched = batch::join(tensors).map_err(|error| error.within(name))?;
                fields.push((name.clone(), batched).into());
            }
            records.push(proto::ArrayRecord {
                type_tag: self.loss_fn_output_type.clone(),
                fields,
                num_datums: group.len() as i64,
            });
        }
        let wire = proto::ForwardBackwardOutput {
            loss_fn_output_type: self.loss_fn_output_type.clone(),
            loss_fn_outputs: records,
            metrics: proto::entries(self.metrics.clone()),
        };
        Ok(wire.encode_to_vec())
    }
}

fn same_fields(one: &Map<Tensor>, other: &Map<Tensor>) -> bool {
    one.len() == other.len()
        && one.iter().all(|(name, tensor)| {
            other.get(name).is_some_and(|other| batch::kind(tensor) == batch::kind(other))
        })
}

/// Consecutive outputs, one batch a field.
#[derive(Default)]
struct Record<'a> {
    fields: Vec<(&'a str, &'a [u8])>,
    num_datums: i64,
}

impl<'a> Record<'a> {
    #[inline(never)]
    fn read(message: &'a [u8]) -> Result<Record<'a>, Error> {
        let mut record = Record::default();
        let mut fields = Fields(message);
        while let Some((field, value)) = fields.next()? {
            match field {
                // Says again what the whole says, and must be text all the same.
                1 => drop(value.text()?),
                2 => {
                    let (name, batched) = wire::entry(value.bytes()?)?;
                    record.fields.push((name, batched.map_or(Ok(&[][..]), Value::bytes)?));
                }
                3 => record.num_datums = value.integer()? as i64,
                _ => {}
            }
        }
        Ok(record)
    }
}

#[inline(never)]
fn unbatch(record: &Record, counted: bool, most: usize, outputs: &mut Vec<Map<Tensor>>) -> Result<(), Error> {
    let start = outputs.len();
    let mut count = counted.then_some(record.num_datums);
    if let Some(claimed) = count {
        make_room(claimed, most, outputs)?;
    }
    for (name, batched) in &record.fields {
        let inside = |error: Error| error.within(name).within("fields");
        let batch = Batch::read(batched).map_err(inside)?;
        let held = batch.data() as i64;
        match count {
            None => make_room(held, most, outputs)?,
            Some(count) if count != held => {
                return Err(inside(Error::field("offsets", format!("hold {held} data and not {count}"))));
            }
            Some(_) => {}
        }
        count = Some(held);
        for (datum, output) in outputs[start..].iter_mut().enumerate() {
            output.insert((*name).to_owned(), batch.tensor(datum).map_err(inside)?);
        }
    }
    Ok(())
}

/// For so many outputs more, if there are not more than data then.
fn make_room(count: i64, most: usize, outputs: &mut Vec<Map<Tensor>>) -> Result<(), Error> {
    match usize::try_from(count) {
        Ok(count) if count <= most - outputs.len() => {
            outputs.resize_with(outputs.len() + count, Map::new);
            Ok(())
        }
        _ => {
            let problem = format!("{count} outputs do not fit a request of {most} data");
            Err(Error::field("num_datums", problem))
        }
    }
}
