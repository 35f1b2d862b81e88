//! Numbered requests: applied in order, once, whatever the order and the number of their coming.

use crate::driver::{self, Driven, datum, pass_of, request_id};
use serde_json::json;
use tinkex_protocol::LossCall;
use tinkex_sandbox::{Settings, TINY};

#[test]
fn a_request_is_answered_at_once_though_a_lower_number_is_missing_and_applied_after_it() {
    let mut service = Driven::new();
    let (_, model) = service.model();
    let step = service.step(&model, 2);
    let held = service.hold(request_id(&step));
    service.work();
    assert_eq!(service.core.released(), [], "a step was applied before the pass that comes first");
    service.wait(Settings::default().hold);
    let (id, response) = service.core.released().remove(0);
    let (_, waiting) = driver::read(&response);
    assert_eq!(id, held);
    assert_eq!(waiting["type"], "try_again");
    assert!(waiting["queue_state_reason"].as_str().unwrap().contains("seq_id 1 "), "{waiting}");

    service.pass(&model, 1, &[1, 2, 3]);
    assert_eq!(service.json_result(&step)["metrics"]["step"], 1.0);
    let kinds: Vec<_> = service.applied().into_iter().map(|(_, seq, kind)| (seq, kind)).collect();
    let expected = [(0, "create_model"), (1, "forward_backward"), (2, "optim_step")];
    assert_eq!(kinds, expected.map(|(seq, kind)| (seq, kind.to_owned())));
}

#[test]
fn the_order_of_coming_does_not_change_the_weights() {
    let hash = |order: [u64; 6]| {
        let mut service = Driven::new();
        let (_, model) = service.model();
        for seq in order {
            if seq % 2 == 1 {
                service.pass(&model, seq, &[seq as i64, 5, 6, 7]);
            } else {
                service.step(&model, seq);
            }
            service.work_once();
        }
        service.hash(&model)["state_hash"].clone()
    };
    assert_eq!(hash([1, 2, 3, 4, 5, 6]), hash([6, 4, 5, 2, 3, 1]));
}

#[test]
fn the_same_number_and_body_is_the_same_request_and_applied_once() {
    let mut service = Driven::new();
    let (_, model) = service.model();
    let first = service.pass(&model, 1, &[1, 2, 3]);
    assert_eq!(service.pass(&model, 1, &[1, 2, 3]), first);
    service.work();
    assert_eq!(service.pass(&model, 1, &[1, 2, 3]), first, "also after it was applied");
    service.work();
    assert_eq!(service.applied().len(), 2);
}

#[test]
fn the_order_of_keys_in_a_body_does_not_make_another_request() {
    let mut service = Driven::new();
    let (_, model) = service.model();
    let mut send = |body: String| {
        let mut request = tinkex_sandbox::message::Request::post("/api/v1/optim_step", &json!({}));
        request.body = body.into();
        driver::read(&service.send(&request))
    };
    let one = send(format!(
        r#"{{"model_id":"{model}","seq_id":1,"adam_params":{{"learning_rate":0.1,"beta1":0.5}}}}"#
    ));
    let two = send(format!(
        r#"{{"adam_params":{{"beta1":0.5,"learning_rate":0.1}},"seq_id":1,"model_id":"{model}"}}"#
    ));
    assert_eq!(one, two);
    assert_eq!(one.0, 200);
}

#[test]
fn the_same_number_with_another_body_is_a_conflict_that_says_so() {
    let mut service = Driven::new();
    let (session, model) = service.model();
    service.pass(&model, 1, &[1, 2, 3]);
    for (status, body) in [
        service.pass(&model, 1, &[1, 2, 4]),
        service.step(&model, 1),
        service.post("create_model", json!({ "session_id": session, "model_seq_id": 0, "base_model": TINY, "lora_config": { "rank": 5 } })),
    ] {
        assert_eq!(status, 409, "{body}");
        assert!(body["detail"].as_str().unwrap().contains("used with another body"), "{body}");
    }
}

#[test]
fn an_ephemeral_sampler_asked_for_again_under_a_new_sampler_number_is_the_same_request() {
    let mut service = Driven::new();
    let (_, model) = service.model();
    let ask = |sampler: u64| json!({ "model_id": model, "seq_id": 1, "sampling_session_seq_id": sampler });
    let first = service.post("save_weights_for_sampler", ask(0));
    assert_eq!(service.post("save_weights_for_sampler", ask(1)), first);
    assert_eq!(
        service.json_result(&first)["sampling_session_id"].as_str().unwrap().rsplit(':').next(),
        Some("0")
    );
}

#[test]
fn bad_data_use_their_number_fail_with_the_reason_and_what_follows_goes_on() {
    let mut service = Driven::with(Settings { log_bodies: true, ..Settings::default() });
    let (_, model) = service.model();
    let before = service.hash(&model)["state_hash"].clone();
    let mut short = datum(&[1, 2, 3]);
    short.loss_fn_inputs.insert("weights".into(), tinkex_protocol::Tensor::floats(&[1.0]));
    let mut infinite = datum(&[1, 2, 3]);
    infinite.loss_fn_inputs.insert("weights".into(), tinkex_protocol::Tensor::floats(&[1.0, f32::NAN]));
    let missing = tinkex_protocol::Datum { loss_fn_inputs: Default::default(), ..datum(&[1, 2, 3]) };
    let plain = LossCall::new("cross_entropy");
    let cases = [
        (vec![datum(&[1, 2, 99_999])], plain.clone(), "data[0].loss_fn_inputs.target_tokens[1] is 99999"),
        (vec![datum(&[1, 2]), datum(&[99_999, 2, 3])], plain.clone(), "data[1].model_input: token 99999"),
        (vec![datum(&vec![1; 5000])], plain.clone(), "shorten it"),
        (vec![short], plain.clone(), "data[0]: loss_fn_inputs.weights has shape [1]"),
        (vec![infinite], plain.clone(), "not finite"),
        (vec![missing], plain.clone(), "target_tokens is missing"),
        (vec![], plain, "data is empty"),
        (vec![datum(&[1, 2])], LossCall::new("gspo"), "not computed by the sandbox"),
        (vec![datum(&[1, 2])], LossCall::new("nonsense"), "is unknown"),
    ];
    let mut seq = 0;
    for (data, call, says) in cases {
        seq += 1;
        let submitted = driver::read(&service.send(&pass_of(&model, seq, data, &call)));
        let failed = service.json_result(&submitted);
        assert_eq!(failed["category"], "user", "{failed}");
        assert!(failed["error"].as_str().unwrap().contains(says), "{failed} should say {says:?}");
    }
    assert_eq!(service.hash(&model)["state_hash"], before);
    service.pass(&model, seq + 1, &[1, 2, 3]);
    let step = service.step(&model, seq + 2);
    assert_eq!(service.json_result(&step)["metrics"]["step"], 1.0);
}

#[test]
fn the_log_applied_to_fresh_engines_gives_the_same_weights() {
    let mut service = Driven::with(Settings { log_bodies: true, ..Settings::default() });
    let (session, model) = service.model();
    for seq in [1, 3, 5] {
        service.pass(&model, seq, &[seq as i64, 9, 8, 7]);
        service.step(&model, seq + 1);
    }
    let saved = service.post("save_weights", json!({ "model_id": model, "path": "a", "seq_id": 7 }));
    let path = service.json_result(&saved)["path"].clone();
    let from = json!({ "session_id": session, "model_seq_id": 1, "path": path, "optimizer": true });
    let second = service.post("load_weights", from);
    service.json_result(&second);
    let second = second.1["model_id"].as_str().unwrap().to_owned();
    service.pass(&second, 1, &[4, 4, 4]);
    service.step(&second, 2);
    service.pass(&model, 8, &[1, 99_999]);
    service.pass(&model, 9, &[1, 2]);

    let hashes = [service.hash(&model), service.hash(&second)];
    let log = service.log();
    let replayed = tinkex_sandbox::replay(&log, &service.bases).unwrap();
    assert_eq!(replayed.len(), 2);
    for (live, replayed) in hashes.iter().zip(&replayed) {
        assert_eq!(live["model_id"], replayed.model_id);
        assert_eq!(live["applied"], replayed.applied);
        assert_eq!(live["weights_hash"], replayed.weights_hash);
        assert_eq!(live["state_hash"], replayed.state_hash);
    }

    let lost: String =
        log.lines().filter(|line| !line.contains(r#""seq_id":3,"#)).map(|line| format!("{line}\n")).collect();
    let error = tinkex_sandbox::replay(&lost, &service.bases).unwrap_err();
    assert!(error.contains("lost or doubled"), "{error}");
}
