//! Requests as the client makes them: data encoded once, before the request has its number.

use prost::Message;
use tinkex_protocol::forward_backward::LossConfigValue;
use tinkex_protocol::json::training::{AdamParams, DimuonParams, LoadWeights, LoraConfig, OptimStep};
use tinkex_protocol::json::{self, managing, session, tag::Tag};
use tinkex_protocol::{
    Chunk, Datum, EncodedForwardBackward, ForwardBackward, LossCall, Map, ModelInput, ModelSeqId, SeqId,
    Tensor, proto,
};

fn datum(tokens: &[i32]) -> Datum {
    let targets: Vec<i64> = tokens.iter().map(|&token| i64::from(token) + 1).collect();
    Datum {
        model_input: ModelInput::from_tokens(tokens),
        loss_fn_inputs: Map::from_iter([("target_tokens".to_owned(), Tensor::integers(&targets))]),
        ..Datum::default()
    }
}

#[test]
fn data_encoded_before_the_number_give_the_bytes_of_the_whole() {
    let call = LossCall {
        loss_fn: "ppo".into(),
        loss_fn_config: Map::from_iter([
            ("clip".into(), LossConfigValue::Number(0.2)),
            ("how".into(), LossConfigValue::Text("soft".into())),
        ]),
        forward_only: true,
    };
    let data = vec![datum(&[1, 2, 3]), datum(&[])];
    let encoded = EncodedForwardBackward::new(data.clone(), &call).expect("encodes");
    for number in [1, 127, 128, 2_147_483_647] {
        let bytes = encoded.with_header(&"a model".into(), SeqId::new(number)).expect("a number that fits");
        let request = ForwardBackward::decode(&bytes).expect("a sound request");
        assert_eq!((request.model_id.as_str(), request.seq_id.get()), ("a model", number));
        assert_eq!((&request.data, &request.call), (&data, &call));
        let whole: proto::ForwardBackwardRequest = proto::decode("request", &bytes).expect("a message");
        assert_eq!(whole.encode_to_vec(), bytes);
        // Numbers go in both maps, for servers that know only the first.
        assert_eq!((whole.loss_fn_config.len(), whole.loss_fn_config_v2.len()), (1, 2));
    }
}

#[test]
fn what_changes_nothing_is_a_forward_pass_over_one_token_without_weight() {
    let inputs = [("target_tokens", Tensor::integers(&[0])), ("weights", Tensor::floats(&[0.0]))];
    let datum = Datum {
        model_input: ModelInput::from_tokens(vec![0]),
        loss_fn_inputs: inputs.into_iter().map(|(name, tensor)| (name.to_owned(), tensor)).collect(),
        ..Datum::default()
    };
    let call = LossCall { forward_only: true, ..LossCall::new("cross_entropy") };
    assert_eq!(EncodedForwardBackward::new([datum], &call), Ok(EncodedForwardBackward::nothing()));
}

#[test]
fn a_number_that_the_wire_can_not_carry_is_refused() {
    let encoded =
        EncodedForwardBackward::new([datum(&[1])], &LossCall::new("cross_entropy")).expect("encodes");
    let error = encoded.with_header(&"m".into(), SeqId::new(2_147_483_648)).expect_err("too large");
    assert_eq!(error.path(), "seq_id");
    for number in [0, -1] {
        let wire = proto::ForwardBackwardRequest { seq_id: number, ..Default::default() };
        assert_eq!(ForwardBackward::try_from(wire).expect_err("no number").path(), "seq_id");
    }
}

#[test]
fn an_error_names_the_datum_and_its_field() {
    let pointer =
        Chunk::ImageAssetPointer { location: "l".into(), format: "png".into(), expected_tokens: None };
    let bad = Datum { model_input: ModelInput { chunks: vec![pointer] }, ..Datum::default() };
    let error = EncodedForwardBackward::new([datum(&[1]), bad], &LossCall::new("cross_entropy"));
    assert_eq!(error.expect_err("only for sampling").path(), "data[1].model_input[0]");

    let tensor = proto::Tensor { layout: None, dtype: 1, shape: vec![3] };
    let datum =
        proto::Datum { loss_fn_inputs: vec![("weights".to_owned(), tensor).into()], ..Default::default() };
    let wire = proto::ForwardBackwardRequest { seq_id: 1, data: vec![datum], ..Default::default() };
    let error = ForwardBackward::try_from(wire).expect_err("a wrong shape");
    assert_eq!(error.path(), "data[0].loss_fn_inputs.weights.shape");
    assert_eq!(error.to_string(), "data[0].loss_fn_inputs.weights.shape: [3] does not fit 0 values");
}

#[test]
fn defaults_are_written_and_what_is_unset_is_left_out() {
    let step = OptimStep {
        model_id: "m".into(),
        seq_id: SeqId::new(3),
        tag: Tag::default(),
        adam_params: Some(AdamParams { learning_rate: 0.01, ..AdamParams::default() }),
        optimizer_params: None,
    };
    let text = String::from_utf8(json::encode(&step)).expect("text");
    assert_eq!(
        text,
        r#"{"model_id":"m","seq_id":3,"type":"optim_step","adam_params":{"learning_rate":0.01,"beta1":0.9,"beta2":0.95,"eps":1e-12,"weight_decay":0.0,"grad_clip_norm":0.0}}"#
    );
    let dimuon = OptimStep { adam_params: None, optimizer_params: Some(DimuonParams::new(0.5)), ..step };
    let text = String::from_utf8(json::encode(&dimuon)).expect("text");
    assert!(text.ends_with(
        r#""optimizer_params":{"type":"dimuon","learning_rate":0.5,"grad_clip_norm":0.0,"beta1":0.9}}"#
    ));
    let read: LoraConfig = json::decode(b"{}").expect("all defaults");
    assert_eq!(read, LoraConfig::default());
}

#[test]
fn the_two_fields_that_are_null_when_unset_are_written() {
    let reason = session::FinishReason { kind: session::FinishKind::Success };
    let finish = session::FinishSession { reason, detail: None };
    assert_eq!(json::encode(&finish), br#"{"reason":{"type":"success"},"detail":null}"#);
    assert_eq!(json::encode(&managing::SetTtl { ttl_seconds: None }), br#"{"ttl_seconds":null}"#);
}

#[test]
fn a_model_made_from_a_checkpoint_has_an_id_that_is_known_before_the_answer() {
    let id = LoadWeights::new_model_id(&"session-1".into(), ModelSeqId::new(2));
    assert_eq!(id.as_str(), "session-1:train:2");
}

#[test]
fn a_setting_of_zero_is_written_as_the_official_client_writes_it() {
    let config = Map::from([("a".to_owned(), LossConfigValue::Number(0.0))]);
    let call = LossCall { loss_fn_config: config, ..LossCall::new("x") };
    let encoded = EncodedForwardBackward::new([], &call).expect("encodes");
    // protobuf 7.36 for Python writes both parts of a map's entry, whatever they are.
    let zero = [0; 8];
    let mut expected = b"\x0a\x01m\x10\x01\x22\x01x\x2a\x0c\x0a\x01a\x11".to_vec();
    expected.extend(zero);
    expected.extend(b"\x3a\x0e\x0a\x01a\x12\x09\x09");
    expected.extend(zero);
    assert_eq!(encoded.with_header(&"m".into(), SeqId::FIRST), Ok(expected));
}
