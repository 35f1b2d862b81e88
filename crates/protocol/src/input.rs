//! What a model reads: chunks of text, images and audio; prompts; and training data.

use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::wire::Writer;
use crate::{Error, Map, SampleSequenceId, Tensor, Tokens, base64, proto};

/// A piece of a model's input.
#[derive(Clone, Debug, PartialEq)]
pub enum Chunk {
    EncodedText(Tokens),
    Image(ImageChunk),
    /// An image that the server fetches by itself; for sampling only.
    ImageAssetPointer {
        location: String,
        format: String,
        expected_tokens: Option<i32>,
    },
    /// Audio, in a serialized form that passes through as it is.
    Dmel(Vec<u8>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct ImageChunk {
    pub data: Vec<u8>,
    /// `png` or `jpeg`.
    pub format: String,
    /// How many tokens the caller believes it to be; the server checks.
    pub expected_tokens: Option<i32>,
}

/// A prompt.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelInput {
    pub chunks: Vec<Chunk>,
}

impl ModelInput {
    pub fn from_tokens(tokens: impl Into<Tokens>) -> ModelInput {
        ModelInput { chunks: vec![Chunk::EncodedText(tokens.into())] }
    }

    /// The tokens, if all of it is text.
    pub fn tokens(&self) -> Option<Vec<i32>> {
        let mut tokens = Vec::new();
        for chunk in &self.chunks {
            match chunk {
                Chunk::EncodedText(text) => tokens.extend(text.iter()),
                _ => return None,
            }
        }
        Some(tokens)
    }
}

/// One training example.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Datum {
    pub model_input: ModelInput,
    /// By name: `target_tokens`, `weights`, `advantages`, `logprobs`, …
    pub loss_fn_inputs: Map<Tensor>,
    /// Where each token of the input came from: runs that tile it. Both lists of spans come, or neither. Only protobuf
    /// carries them.
    #[serde(skip)]
    pub model_input_spans: Vec<ProvenanceSpan>,
    #[serde(skip)]
    pub loss_fn_input_spans: Vec<ProvenanceSpan>,
}

/// A run of tokens that stood in a sampled sequence or in the prompt of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvenanceSpan {
    pub origin: Origin,
    pub sequence_id: SampleSequenceId,
    /// In tokens, from the start of that sequence or prompt.
    pub offset: u64,
    /// In tokens.
    pub length: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    PromptTokens,
    SampledTokens,
}

impl TryFrom<proto::Chunk> for Chunk {
    type Error = Error;

    fn try_from(wire: proto::Chunk) -> Result<Chunk, Error> {
        Ok(match wire.chunk {
            Some(proto::chunk::Chunk::EncodedText(text)) => {
                let tokens = Tokens::from_bytes(text.tokens);
                Chunk::EncodedText(tokens.map_err(|error| error.within("encoded_text.tokens"))?)
            }
            Some(proto::chunk::Chunk::Image(image)) => Chunk::Image(ImageChunk {
                data: image.data,
                format: image.format,
                expected_tokens: image.expected_tokens,
            }),
            Some(proto::chunk::Chunk::Dmel(audio)) => Chunk::Dmel(audio.dmel),
            None => return Err(Error::field("", "a chunk must be encoded_text, image or dmel")),
        })
    }
}

impl TryFrom<proto::ProvenanceSpan> for ProvenanceSpan {
    type Error = Error;

    fn try_from(wire: proto::ProvenanceSpan) -> Result<ProvenanceSpan, Error> {
        let (origin, span) = match wire.span {
            Some(proto::provenance_span::Span::PromptTokens(span)) => (Origin::PromptTokens, span),
            Some(proto::provenance_span::Span::SampledTokens(span)) => (Origin::SampledTokens, span),
            None => return Err(Error::field("", "a span must be prompt_tokens or sampled_tokens")),
        };
        let count = |field, number: i64| {
            u64::try_from(number).map_err(|_| Error::field(field, format!("{number} is negative")))
        };
        Ok(ProvenanceSpan {
            origin,
            offset: count("offset", span.offset)?,
            length: count("length", span.length)?,
            sequence_id: span.sequence_id.into(),
        })
    }
}

impl TryFrom<proto::Datum> for Datum {
    type Error = Error;

    fn try_from(wire: proto::Datum) -> Result<Datum, Error> {
        let tensor = |(name, wire): (String, proto::Tensor)| match Tensor::try_from(wire) {
            Ok(tensor) => Ok((name, tensor)),
            Err(error) => Err(error.within(&name).within("loss_fn_inputs")),
        };
        let inputs = proto::map(wire.loss_fn_inputs).into_iter().map(tensor);
        let loss_fn_inputs = inputs.collect::<Result<_, _>>()?;
        Ok(Datum {
            model_input: ModelInput { chunks: each("model_input", wire.model_input)? },
            loss_fn_inputs,
            model_input_spans: each("model_input_spans", wire.model_input_spans)?,
            loss_fn_input_spans: each("loss_fn_input_spans", wire.loss_fn_input_spans)?,
        })
    }
}

impl Datum {
    /// The fields of a datum's message. Refuses what only JSON can carry.
    pub(crate) fn write(&self, out: &mut Writer) -> Result<(), Error> {
        for (index, chunk) in self.model_input.chunks.iter().enumerate() {
            let start = out.open(1);
            chunk.write(out).map_err(|error| error.within_element("model_input", index))?;
            out.close(start);
        }
        for (name, tensor) in &self.loss_fn_inputs {
            let entry = out.open(2);
            out.bytes(1, name.as_bytes());
            let value = out.open(2);
            tensor.write(out);
            out.close(value);
            out.close(entry);
        }
        self.model_input_spans.iter().for_each(|span| span.write(3, out));
        self.loss_fn_input_spans.iter().for_each(|span| span.write(4, out));
        Ok(())
    }
}

impl Chunk {
    fn write(&self, out: &mut Writer) -> Result<(), Error> {
        let (kind, bytes) = match self {
            Chunk::EncodedText(tokens) => (1, tokens.as_bytes()),
            Chunk::Image(image) => (2, &image.data[..]),
            Chunk::Dmel(audio) => (3, &audio[..]),
            Chunk::ImageAssetPointer { .. } => {
                let problem = "an image_asset_pointer can only be sampled from: train on the image";
                return Err(Error::field("", problem));
            }
        };
        let start = out.open(kind);
        out.some_bytes(1, bytes);
        if let Chunk::Image(image) = self {
            out.some_bytes(2, image.format.as_bytes());
            if let Some(tokens) = image.expected_tokens {
                out.integer(3, tokens as u64);
            }
        }
        out.close(start);
        Ok(())
    }
}

impl ProvenanceSpan {
    fn write(&self, field: u8, out: &mut Writer) {
        let span = out.open(field);
        let start = out.open(match self.origin {
            Origin::PromptTokens => 1,
            Origin::SampledTokens => 2,
        });
        out.some_bytes(1, self.sequence_id.as_str().as_bytes());
        out.some_integer(2, self.offset);
        out.some_integer(3, self.length);
        out.close(start);
        out.close(span);
    }
}

/// Converts a list, and names the element that can't be.
pub(crate) fn each<A, B: TryFrom<A, Error = Error>>(field: &str, list: Vec<A>) -> Result<Vec<B>, Error> {
    let element = |(index, element)| B::try_from(element).map_err(|error| error.within_element(field, index));
    list.into_iter().enumerate().map(element).collect()
}

/// `{type: "encoded_text" | "image" | "image_asset_pointer" | "dmel", …}`.
impl Serialize for Chunk {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let (kind, format, expected_tokens) = match self {
            Chunk::EncodedText(tokens) => {
                map.serialize_entry("tokens", tokens)?;
                ("encoded_text", None, None)
            }
            Chunk::Image(ImageChunk { data, format, expected_tokens }) => {
                map.serialize_entry("data", &base64::encode(data))?;
                ("image", Some(format), *expected_tokens)
            }
            Chunk::ImageAssetPointer { location, format, expected_tokens } => {
                map.serialize_entry("location", location)?;
                ("image_asset_pointer", Some(format), *expected_tokens)
            }
            Chunk::Dmel(audio) => {
                map.serialize_entry("dmel", &base64::encode(audio))?;
                ("dmel", None, None)
            }
        };
        if let Some(format) = format {
            map.serialize_entry("format", format)?;
        }
        map.serialize_entry("type", kind)?;
        if let Some(tokens) = expected_tokens {
            map.serialize_entry("expected_tokens", &tokens)?;
        }
        map.end()
    }
}

/// Through a struct of all fields, not through serde's tagged enums: those hold every token in a 32-byte cell first.
impl<'de> Deserialize<'de> for Chunk {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Chunk, D::Error> {
        #[derive(Deserialize)]
        struct Wire {
            r#type: String,
            tokens: Option<Tokens>,
            data: Option<String>,
            dmel: Option<String>,
            location: Option<String>,
            format: Option<String>,
            expected_tokens: Option<i32>,
        }
        fn chunk(wire: Wire) -> Result<Chunk, Error> {
            fn needed<T>(field: &str, value: Option<T>) -> Result<T, Error> {
                value.ok_or_else(|| Error::field(field, "is missing"))
            }
            let bytes = |field: &str, text: Option<String>| {
                base64::decode(&needed(field, text)?).ok_or_else(|| Error::field(field, "is not base64"))
            };
            Ok(match wire.r#type.as_str() {
                "encoded_text" => Chunk::EncodedText(needed("tokens", wire.tokens)?),
                "image" => Chunk::Image(ImageChunk {
                    data: bytes("data", wire.data)?,
                    format: needed("format", wire.format)?,
                    expected_tokens: wire.expected_tokens,
                }),
                "image_asset_pointer" => Chunk::ImageAssetPointer {
                    location: needed("location", wire.location)?,
                    format: needed("format", wire.format)?,
                    expected_tokens: wire.expected_tokens,
                },
                "dmel" => Chunk::Dmel(bytes("dmel", wire.dmel)?),
                other => return Err(Error::field("type", format!("\"{other}\" is not a known chunk"))),
            })
        }
        chunk(Wire::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}
