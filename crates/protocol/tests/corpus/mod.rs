//! Sound messages of every kind, each with its decoder: where the tests of unsound ones begin.

use std::fmt::Debug;

use prost::Message;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tinkex_protocol::forward_backward::LossConfigValue;
use tinkex_protocol::input::{ImageChunk, Origin, ProvenanceSpan};
use tinkex_protocol::json::{
    self, Json, custom_loss, futures, managing, sampling, session, telemetry, training, usage,
};
use tinkex_protocol::sample::{OtherTokens, PromptAltTokens, TopkLogprobs};
use tinkex_protocol::{
    Chunk, DType, Datum, EncodedForwardBackward, Error, ForwardBackward, ForwardBackwardOutput, LeVec,
    LossCall, Map, ModelInput, Retrieved, SampleResponse, SampledSequence, SeqId, StopReason, Tensor, proto,
};

/// Data that the request behind a result is taken to have had.
pub const DATA: usize = 64;

/// A decoder, and messages that it takes.
pub struct Kind {
    pub name: &'static str,
    /// Whether it took the bytes. Panics when what it read is written back as something else.
    pub read: fn(&[u8]) -> bool,
    pub sound: Vec<Vec<u8>>,
}

pub fn kinds() -> Vec<Kind> {
    let mut kinds = vec![
        Kind { name: "forward_backward", read: forward_backward, sound: vec![request()] },
        Kind { name: "forward_backward output", read: output, sound: outputs() },
        Kind { name: "sample response", read: sample_response, sound: vec![[sample().encode(), other_tokens().encode()].concat()] },
        Kind {
            name: "retrieve_future",
            read: retrieved,
            sound: [
                r#"{"type":"try_again","request_id":"1","queue_state":"paused_capacity","queue_state_reason":"full"}"#,
                r#"{"status":"complete_metadata","response_payload_size":1024}"#,
                r#"{"error":"a token is outside the vocabulary","category":"user"}"#,
                r#"{"path":"tinker://r/weights/a"}"#,
            ]
            .map(|text| text.as_bytes().to_vec())
            .to_vec(),
        },
        json_kind::<sampling::Sample>(
            "asample",
            &[r#"{"num_samples":2,"prompt":{"chunks":[{"type":"encoded_text","tokens":[1,2,-3]},{"type":"image","data":"AAEC","format":"png","expected_tokens":4},{"type":"image_asset_pointer","location":"x","format":"jpeg"},{"type":"dmel","dmel":"AA=="}]},"sampling_params":{"max_tokens":8,"seed":7,"stop":["a","b"],"temperature":0.5,"top_k":-1,"top_p":1.0},"sampling_session_id":"s","seq_id":999999999000000001,"prompt_logprobs":true,"topk_prompt_logprobs":2,"topk_sample_logprobs":1,"target_prompt_logprobs":{"data":[1,2],"dtype":"int64","shape":[2,2],"sparse_crow_indices":[0,1,2],"sparse_col_indices":[0,1]},"prompt_alt_tokens_k":1,"prompt_logprobs_last_n":1,"record_stability_info":false,"type":"sample"}"#],
        ),
        json_kind::<session::Flags>("client/config", &[r#"{"pjwt_auth_enabled":true,"fwdbwd_max_chunk_len":null}"#]),
        json_kind::<session::DynamicFlags>("client/dynamic_config", &[r#"{"refresh_interval_sec":60}"#]),
        json_kind::<session::CreateSession>(
            "create_session",
            &[r#"{"tags":["a"],"user_metadata":{"k":"v"},"sdk_version":"0.38.0","type":"create_session"}"#],
        ),
        json_kind::<futures::Submitted>("submitted", &[r#"{"request_id":"1","sample_sequence_ids":["a","b"]}"#]),
        json_kind::<futures::RetrieveFutures>(
            "retrieve_futures",
            &[r#"{"target":{"type":"sampling_session","sampling_session_id":"s","cloned_sampler_id":0},"prev_cursor":3,"timeout":0.5,"retrieved_request_ids":["1"]}"#],
        ),
        json_kind::<training::CreateModel>(
            "create_model",
            &[r#"{"session_id":"s","model_seq_id":0,"base_model":"b","lora_config":{"rank":8,"seed":1},"optimizer_config":{"type":"dimuon","version":1}}"#],
        ),
        json_kind::<training::OptimStep>(
            "optim_step",
            &[
                r#"{"model_id":"m","seq_id":3,"type":"optim_step","adam_params":{"learning_rate":0.01}}"#,
                r#"{"model_id":"m","seq_id":3,"optimizer_params":{"type":"dimuon","learning_rate":0.01}}"#,
            ],
        ),
        json_kind::<training::ForwardBackwardJson>(
            "forward_backward as JSON",
            &[r#"{"forward_backward_input":{"data":[{"model_input":{"chunks":[{"type":"encoded_text","tokens":[1,2]}]},"loss_fn_inputs":{"target_tokens":{"data":[2,3],"dtype":"int64","shape":[2]},"weights":{"data":[0.5,null],"dtype":"float32"}}}],"loss_fn":"ppo","loss_fn_config":{"clip":0.2,"how":"soft"}},"model_id":"m","seq_id":1}"#],
        ),
        json_kind::<managing::SearchSessionsResponse>(
            "sessions/search",
            &[r#"{"sessions":[{"session_id":"s","created_at":"2026-11-23T08:48:09Z","owner":"o","project_id":"p","checkpoints_count":1,"status":{"type":"failed","category":"user","message":"m","reason":{"type":"request","request_id":"1","request_type":"Sample"}}}],"next_cursor":{"last_created_at":"2026","last_session_id":"s"}}"#],
        ),
        json_kind::<custom_loss::CreateCustomLoss>(
            "create_custom_loss",
            &[r#"{"session_id":"s","custom_loss_seq_id":0,"name":"n","inputs":[{"name":"logprobs","rank":1}],"graph":{"format":1,"nodes":[{"op":"call_function","name":"a","target":"torch.exp","args":[{"ref":"logprobs"},null],"kwargs":{}}]}}"#],
        ),
        json_kind::<telemetry::TelemetryBatch>(
            "telemetry",
            &[r#"{"events":[{"event":"GENERIC_EVENT","event_id":"e","event_session_index":0,"severity":"INFO","timestamp":"2026","event_name":"n","event_data":{"a":null}}],"platform":"p","sdk_version":"v","session_id":"s","process_uuid":"u"}"#],
        ),
        json_kind::<usage::UsageEventsResponse>(
            "usage",
            &[r#"{"data":[{"bucket_start":"a","bucket_end":"b","event_info":{"type":"storage","gigabyte_hours":0.5}}],"sessions":{"s":{}}}"#],
        ),
    ];
    let json_result = json::encode(&result());
    kinds.push(Kind {
        name: "forward_backward output as JSON",
        read: json_read::<ForwardBackwardOutput>,
        sound: vec![json_result],
    });
    let json_sample = json::encode(&sample());
    kinds.push(Kind {
        name: "sample response as JSON",
        read: json_read::<SampleResponse>,
        sound: vec![json_sample],
    });
    kinds.push(Kind {
        name: "other tokens as JSON",
        read: json_read::<OtherTokens>,
        sound: vec![json::encode(&other_tokens())],
    });
    kinds
}

fn json_kind<T: Serialize + DeserializeOwned + PartialEq + Debug>(
    name: &'static str,
    sound: &[&str],
) -> Kind {
    Kind { name, read: json_read::<T>, sound: sound.iter().map(|text| text.as_bytes().to_vec()).collect() }
}

fn json_read<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) -> bool {
    the_readers_agree(bytes);
    match json::decode::<T>(bytes) {
        Ok(body) => {
            let written = json::encode(&body);
            // What the client's writer writes says the same.
            let lean = json::decode::<T>(&json::write(&body, print)).expect("what was written can be read");
            assert_eq!(String::from_utf8_lossy(&json::encode(&lean)), String::from_utf8_lossy(&written));
            let again = json::encode(&json::decode::<T>(&written).expect("what was written can be read"));
            assert_eq!(String::from_utf8_lossy(&again), String::from_utf8_lossy(&written));
            true
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            false
        }
    }
}

pub fn print(number: f64) -> String {
    serde_json::to_string(&number).expect("a number can be written")
}

/// The client's reader takes what serde_json takes, and as the same.
fn the_readers_agree(bytes: &[u8]) {
    let shown = String::from_utf8_lossy(bytes);
    match (Json::read(bytes), serde_json::from_slice::<Value>(bytes)) {
        (Ok(ours), Ok(theirs)) => assert_eq!(value(ours), theirs, "{shown}"),
        (Err(_), Err(_)) => {}
        // A number is not read before somebody asks for it.
        (Ok(_), Err(error)) => assert!(error.to_string().contains("out of range"), "{error}: {shown}"),
        (Err(error), Ok(_)) => panic!("{error}: {shown}"),
    }
}

fn value(json: Json) -> Value {
    if let Some(members) = json.members() {
        return Value::Object(members.map(|(name, member)| (name, value(member))).collect());
    }
    if let Some(elements) = json.elements() {
        return elements.map(|(_, element)| value(element)).collect();
    }
    if let Some(number) = json.number() {
        return serde_json::from_str(number).expect("a number");
    }
    match (json.text(), json.flag()) {
        (Some(text), _) => text.into(),
        (_, Some(flag)) => flag.into(),
        _ => {
            assert!(json.is_null());
            Value::Null
        }
    }
}

/// The same message as prost reads and writes it.
fn through_prost<M: Message + Default>(bytes: &[u8]) -> Vec<u8> {
    let message: M = proto::decode("message", bytes).expect("prost takes what our reader takes");
    message.encode_to_vec()
}

fn retrieved(bytes: &[u8]) -> bool {
    the_readers_agree(bytes);
    Retrieved::read("application/json; charset=utf-8", bytes).is_ok()
}

fn forward_backward(bytes: &[u8]) -> bool {
    let Ok(request) = ForwardBackward::decode(bytes) else { return false };
    let written = EncodedForwardBackward::new(request.data.clone(), &request.call)
        .and_then(|encoded| encoded.with_header(&request.model_id, request.seq_id))
        .expect("what was read can be written");
    assert_eq!(through_prost::<proto::ForwardBackwardRequest>(&written), written);
    let again = ForwardBackward::decode(&written).expect("what was written can be read");
    // Bytes, since a NaN in the call's numbers is not equal to itself.
    let rewritten = EncodedForwardBackward::new(again.data, &again.call).expect("encodes");
    assert_eq!(rewritten.with_header(&again.model_id, again.seq_id).expect("fits"), written);
    true
}

fn output(bytes: &[u8]) -> bool {
    let Ok(output) = ForwardBackwardOutput::decode(bytes, DATA) else { return false };
    // A NaN among the metrics is not equal to itself.
    let same = ForwardBackwardOutput::decode(&through_prost::<proto::ForwardBackwardOutput>(bytes), DATA);
    assert_eq!(format!("{same:?}"), format!("{:?}", Ok::<_, Error>(&output)));
    let written = output.encode().expect("what was read can be written");
    let again = ForwardBackwardOutput::decode(&written, DATA).expect("what was written can be read");
    assert_eq!(again.loss_fn_outputs, output.loss_fn_outputs);
    true
}

fn sample_response(bytes: &[u8]) -> bool {
    let (Ok(response), Ok(others)) = (SampleResponse::decode(bytes), OtherTokens::decode(bytes)) else {
        return false;
    };
    let same = SampleResponse::decode(&through_prost::<proto::SampleResponse>(bytes));
    assert_eq!(same.as_ref(), Ok(&response));
    let written = [response.encode(), others.encode()].concat();
    assert_eq!(SampleResponse::decode(&written).as_ref(), Ok(&response));
    assert_eq!(OtherTokens::decode(&written).as_ref(), Ok(&others));
    true
}

pub fn request() -> Vec<u8> {
    let weights = Tensor::sparse(
        DType::Float32,
        [2, 3],
        LeVec::from(vec![0.5f32, 1.0]).into_bytes(),
        vec![0, 1, 2].into(),
        vec![2, 0].into(),
    );
    let span = |origin| ProvenanceSpan { origin, sequence_id: "sequence".into(), offset: 1, length: 2 };
    let datum = Datum {
        model_input: ModelInput {
            chunks: vec![
                Chunk::EncodedText(vec![1, 2].into()),
                Chunk::Image(ImageChunk {
                    data: vec![1, 2, 3],
                    format: "png".into(),
                    expected_tokens: Some(3),
                }),
                Chunk::Dmel(vec![4, 5]),
            ],
        },
        loss_fn_inputs: Map::from_iter([
            ("target_tokens".into(), Tensor::integers(&[2, 3])),
            ("weights".into(), weights.expect("a sound tensor")),
        ]),
        model_input_spans: vec![span(Origin::PromptTokens)],
        loss_fn_input_spans: vec![span(Origin::SampledTokens)],
    };
    let call = LossCall {
        loss_fn: "ppo".into(),
        loss_fn_config: Map::from_iter([
            ("clip".into(), LossConfigValue::Number(0.2)),
            ("how".into(), LossConfigValue::Text("soft".into())),
        ]),
        forward_only: true,
    };
    let encoded = EncodedForwardBackward::new(vec![datum.clone(), datum], &call).expect("encodes");
    encoded.with_header(&"model".into(), SeqId::new(7)).expect("a number that fits")
}

pub fn result() -> ForwardBackwardOutput {
    let output = |logprobs: &[f32]| Map::from_iter([("logprobs".to_owned(), Tensor::floats(logprobs))]);
    let wide = LeVec::from(vec![1i64, 2, 3, 4]).into_bytes();
    let wide = Tensor::from_bytes(DType::Int64, vec![2, 2], wide).expect("a sound tensor");
    ForwardBackwardOutput {
        loss_fn_output_type: "ArrayRecord".into(),
        loss_fn_outputs: vec![
            output(&[-0.5, -1.5]),
            output(&[]),
            Map::from_iter([("ids".to_owned(), wide)]),
            Map::new(),
        ],
        metrics: Map::from_iter([("loss:sum".to_owned(), 2.0)]),
    }
}

fn outputs() -> Vec<Vec<u8>> {
    let narrow =
        |dtype: proto::DType, data: Vec<u8>, ends: [i64; 3], trailing: Vec<i64>| proto::BatchedTensor {
            data,
            offsets: LeVec::from(ends.to_vec()).into_bytes(),
            dtype: dtype.into(),
            trailing_shape: trailing,
        };
    let record = proto::ArrayRecord {
        type_tag: "x:Record".into(),
        fields: proto::entries(Map::from_iter([
            ("brief".into(), narrow(proto::DType::Bfloat16, vec![0, 0x3f, 0x80, 0x3f], [0, 2, 4], vec![])),
            ("counts".into(), narrow(proto::DType::Int32, vec![1; 16], [0, 8, 16], vec![2])),
        ])),
        num_datums: 0,
    };
    let uncounted = proto::ForwardBackwardOutput {
        loss_fn_output_type: "x:Record".into(),
        loss_fn_outputs: vec![record],
        metrics: Vec::new(),
    };
    vec![result().encode().expect("encodes"), uncounted.encode_to_vec()]
}

pub fn sample() -> SampleResponse {
    let topk = TopkLogprobs::new(2, vec![5, 6, 7, 0].into(), vec![-0.1, -2.0, -0.5, -99999.0].into());
    let topk = Some(topk.expect("sound matrices"));
    SampleResponse {
        sequences: vec![
            SampledSequence {
                stop_reason: StopReason::Length,
                tokens: vec![5, 7].into(),
                logprobs: Some(vec![-0.1, -0.5].into()),
                topk_logprobs: topk.clone(),
            },
            SampledSequence {
                stop_reason: StopReason::Stop,
                tokens: LeVec::default(),
                logprobs: None,
                topk_logprobs: None,
            },
        ],
        prompt_logprobs: Some(vec![f32::NAN, -1.0].into()),
        topk_prompt_logprobs: topk,
        prompt_cache_hit_tokens: 3,
    }
}

pub fn other_tokens() -> OtherTokens {
    OtherTokens {
        target_prompt_logprobs: Some(Tensor::floats(&[0.0, -3.0])),
        prompt_alt_tokens: Some(PromptAltTokens {
            tokens: Tensor::integers(&[1, 2]),
            logprobs: Tensor::floats(&[-1.0, -2.0]),
        }),
    }
}

/// Sound messages with bytes changed, cut, doubled, moved and made up, from a seed.
pub struct Mutator(u64);

impl Mutator {
    pub fn new(seed: u64) -> Mutator {
        Mutator(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % end.max(1)
    }

    pub fn mutate(&mut self, sound: &[u8]) -> Vec<u8> {
        let mut bytes = sound.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len() + 1);
            match self.below(7) {
                0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                1 if at < bytes.len() => bytes[at] = self.below(256) as u8,
                2 => bytes.truncate(at),
                3 => bytes.insert(at, self.below(256) as u8),
                4 => {
                    // A varint that claims a lot.
                    let claim = [0xff; 9].into_iter().take(1 + self.below(9)).chain([self.below(128) as u8]);
                    bytes.splice(at..at, claim.collect::<Vec<u8>>());
                }
                5 if at < bytes.len() => {
                    let end = at + self.below((bytes.len() - at).min(40) + 1);
                    let part = bytes[at..end].to_vec();
                    let to = self.below(bytes.len() + 1);
                    bytes.splice(to..to, part);
                }
                _ if at < bytes.len() => {
                    let end = at + self.below((bytes.len() - at).min(8) + 1);
                    bytes.drain(at..end);
                }
                _ => {}
            }
        }
        bytes
    }
}
