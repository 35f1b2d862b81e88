//! Samples: what a seed gives, what stops one, what is told about log-probabilities, and samplers of every origin.

use crate::driver::{Answer, Driven, datum, pass_of, request_id, text};
use serde_json::{Value, json};
use tinkex_protocol::{LossCall, StopReason};
use tinkex_sandbox::{NOOP, Settings, TINY};

fn prompt(tokens: &[u32]) -> Value {
    json!({ "chunks": [{ "type": "encoded_text", "tokens": tokens }] })
}

impl Driven {
    fn sampler(&mut self, session: &str, number: u64, from: Value) -> String {
        let mut body = json!({ "session_id": session, "sampling_session_seq_id": number });
        body.as_object_mut().unwrap().extend(from.as_object().unwrap().clone());
        let (status, body) = self.post("create_sampling_session", body);
        assert_eq!(status, 200, "{body}");
        text(&body, "sampling_session_id")
    }

    fn ask(&mut self, sampler: &str, number: u64, params: Value, more: Value) -> Answer {
        let mut body = json!({ "sampling_session_id": sampler, "seq_id": number, "prompt": prompt(&[10, 20, 30]),
                               "sampling_params": params });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.post("asample", body)
    }
}

#[test]
fn the_same_seed_gives_the_same_tokens_and_another_gives_others() {
    let mut service = Driven::new();
    let session = service.session();
    let sampler = service.sampler(&session, 0, json!({ "base_model": TINY }));
    let mut sample = |number, seed| {
        let asked = service.ask(
            &sampler,
            number,
            json!({ "max_tokens": 20, "seed": seed }),
            json!({ "num_samples": 2 }),
        );
        let sampled = service.sampled(&asked);
        assert_eq!(sampled.sequences.len(), 2);
        assert_ne!(sampled.sequences[0], sampled.sequences[1], "the sequences of a sample differ");
        sampled
    };
    let first = sample(0, 7);
    assert_eq!(sample(1, 7), first);
    assert_ne!(sample(2, 8), first);
}

#[test]
fn a_sample_without_a_seed_is_the_same_when_it_is_asked_for_again_and_differs_from_the_next() {
    let mut service = Driven::new();
    let session = service.session();
    let sampler = service.sampler(&session, 0, json!({ "base_model": TINY }));
    let asked = service.ask(&sampler, 0, json!({ "max_tokens": 20 }), json!({}));
    assert_eq!(service.ask(&sampler, 0, json!({ "max_tokens": 20 }), json!({})), asked);
    let first = service.sampled(&asked);
    let next = service.ask(&sampler, 1, json!({ "max_tokens": 20 }), json!({}));
    assert_ne!(service.sampled(&next).sequences[0].tokens, first.sequences[0].tokens);
    assert_eq!(service.ask(&sampler, 0, json!({ "max_tokens": 21 }), json!({})).0, 409);
}

#[test]
fn there_are_as_many_sequence_ids_as_sequences() {
    let mut service = Driven::new();
    let session = service.session();
    let sampler = service.sampler(&session, 0, json!({ "base_model": TINY }));
    let asked = service.ask(&sampler, 0, json!({ "max_tokens": 1 }), json!({ "num_samples": 5 }));
    let ids: std::collections::BTreeSet<_> =
        asked.1["sample_sequence_ids"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
    assert_eq!(ids.len(), 5);
    assert_eq!(service.sampled(&asked).sequences.len(), 5);
}

#[test]
fn a_sampled_token_has_the_very_log_probability_of_the_training_forward_pass() {
    let mut service = Driven::new();
    let (_, model) = service.model();
    service.pass(&model, 1, &[10, 20, 30, 40]);
    service.step(&model, 2);
    let saved = service.post(
        "save_weights_for_sampler",
        json!({ "model_id": model, "seq_id": 3, "sampling_session_seq_id": 0 }),
    );
    let sampler = text(&service.json_result(&saved), "sampling_session_id");
    let asked = service.ask(
        &sampler,
        0,
        json!({ "max_tokens": 8, "seed": 1, "stop": [] }),
        json!({ "prompt_logprobs": true }),
    );
    let sampled = service.sampled(&asked);
    let tokens: Vec<i64> =
        [10, 20, 30].into_iter().chain(sampled.sequences[0].tokens.iter().map(i64::from)).collect();
    let call = LossCall { forward_only: true, ..LossCall::new("cross_entropy") };
    let forward = crate::driver::read(&service.send(&pass_of(&model, 4, vec![datum(&tokens)], &call)));
    let forward = service.passed(&forward);
    let trained: Vec<u32> =
        forward.loss_fn_outputs[0]["logprobs"].iter_f32().unwrap().map(f32::to_bits).collect();
    let prompt = sampled.prompt_logprobs.unwrap();
    assert!(prompt.get(0).unwrap().is_nan());
    let said: Vec<u32> = prompt
        .iter()
        .skip(1)
        .chain(sampled.sequences[0].logprobs.as_ref().unwrap().iter())
        .map(f32::to_bits)
        .collect();
    assert_eq!(said, trained);
}

#[test]
fn a_sample_ends_at_a_stop_token_a_stop_string_the_limit_or_the_context() {
    let mut service = Driven::new();
    let session = service.session();
    let sampler = service.sampler(&session, 0, json!({ "base_model": TINY }));
    let free = service.ask(&sampler, 0, json!({ "max_tokens": 12, "seed": 3, "stop": [] }), json!({}));
    let free = service.sampled(&free).sequences.remove(0);
    assert_eq!((free.tokens.len(), free.stop_reason), (12, StopReason::Length));

    let fifth = free.tokens.get(4).unwrap();
    let first = free.tokens.iter().position(|token| token == fifth).unwrap();
    let stopped =
        service.ask(&sampler, 1, json!({ "max_tokens": 12, "seed": 3, "stop": [fifth] }), json!({}));
    let stopped = service.sampled(&stopped).sequences.remove(0);
    assert_eq!(stopped.stop_reason, StopReason::Stop);
    assert_eq!(stopped.tokens.to_vec(), free.tokens.to_vec()[..=first]);

    let context = service.ask(&sampler, 2, json!({ "seed": 3, "stop": [] }), json!({}));
    let context = service.sampled(&context).sequences.remove(0);
    assert_eq!((context.tokens.len() + 3, context.stop_reason), (1024, StopReason::Length));
}

#[test]
fn a_stop_string_is_found_across_tokens() {
    let mut service = Driven::new();
    let file = service.send(&tinkex_sandbox::message::Request::get("/api/v1/sandbox/tokenizer.json"));
    let file: Value = serde_json::from_slice(&file.body).unwrap();
    let vocabulary = file["model"]["vocab"].as_object().unwrap();
    let spelled = |token: i32| {
        vocabulary.iter().find(|(_, id)| id.as_i64() == Some(token.into())).map(|(text, _)| text.clone())
    };
    let session = service.session();
    let sampler = service.sampler(&session, 0, json!({ "base_model": TINY }));
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    // Two tokens in a row that are plain letters: their spelling is their text.
    let (seed, at, stop) = (0..1000)
        .find_map(|seed| {
            let asked =
                service.ask(&sampler, seed, json!({ "max_tokens": 30, "seed": seed, "stop": [] }), json!({}));
            let tokens = service.sampled(&asked).sequences.remove(0).tokens.to_vec();
            let texts: Vec<_> = tokens.iter().map(|token| spelled(*token).unwrap_or_default()).collect();
            let at = (1..texts.len())
                .find(|at| plain(&texts[at - 1]) && plain(&texts[*at]) && !texts[*at].is_empty())?;
            let stop =
                format!("{}{}", &texts[at - 1][texts[at - 1].len().saturating_sub(1)..], &texts[at][..1]);
            let whole: String = texts[..at].concat();
            (!whole.contains(&stop)).then_some((seed, at, stop))
        })
        .expect("a seed with two plain tokens in a row");
    for (number, stop) in [(5000, json!(stop)), (5001, json!(["never said", stop]))] {
        let asked =
            service.ask(&sampler, number, json!({ "max_tokens": 30, "seed": seed, "stop": stop }), json!({}));
        let stopped = service.sampled(&asked).sequences.remove(0);
        assert_eq!((stopped.tokens.len(), stopped.stop_reason), (at + 1, StopReason::Stop));
    }
}

#[test]
fn the_likeliest_tokens_are_told_of_prompt_and_sample_and_the_last_n_only_if_asked() {
    let mut service = Driven::new();
    let session = service.session();
    let sampler = service.sampler(&session, 0, json!({ "base_model": TINY }));
    let more = json!({ "prompt_logprobs": true, "prompt_logprobs_last_n": 1, "topk_prompt_logprobs": 3, "topk_sample_logprobs": 2 });
    let asked = service.ask(&sampler, 0, json!({ "max_tokens": 4, "temperature": 0.0, "stop": [] }), more);
    let sampled = service.sampled(&asked);
    let known: Vec<bool> = sampled.prompt_logprobs.unwrap().iter().map(|logprob| !logprob.is_nan()).collect();
    assert_eq!(known, [false, false, true]);
    let top = sampled.topk_prompt_logprobs.unwrap();
    assert_eq!((top.k(), top.rows()), (3, 3));
    assert_eq!(top.logprobs().get(0), Some(-99_999.0));
    let sequence = &sampled.sequences[0];
    let top = sequence.topk_logprobs.as_ref().unwrap();
    assert_eq!((top.k(), top.rows()), (2, 4));
    for place in 0..4 {
        assert_eq!(top.token_ids().get(place * 2), sequence.tokens.get(place), "greedy takes the likeliest");
        assert_eq!(top.logprobs().get(place * 2), sequence.logprobs.as_ref().unwrap().get(place));
    }
}

#[test]
fn what_cannot_be_sampled_fails_with_the_reason() {
    let mut service = Driven::new();
    let session = service.session();
    let sampler = service.sampler(&session, 0, json!({ "base_model": TINY }));
    let cases = [
        (json!({}), json!({ "prompt": prompt(&[]) }), "empty"),
        (json!({}), json!({ "prompt": prompt(&[1, 99_999]) }), "prompt: token 99999 at position 1"),
        (json!({}), json!({ "prompt": prompt(&[1; 5000]) }), "reads 1024 at most"),
        (json!({}), json!({ "num_samples": 0 }), "num_samples is 0"),
        (json!({}), json!({ "num_samples": 4_000_000_000_u32 }), "num_samples is 4000000000"),
        (json!({ "temperature": -1.0 }), json!({}), "temperature"),
        (json!({ "top_p": 2.0 }), json!({}), "top_p"),
        (json!({}), json!({ "prompt_logprobs_last_n": 1 }), "needs prompt_logprobs"),
        (json!({}), json!({ "prompt_alt_tokens_k": 1 }), "prompt_alt_tokens"),
        (
            json!({}),
            json!({ "prompt": { "chunks": [{ "type": "image", "data": "AAAA", "format": "png" }] } }),
            "text only",
        ),
    ];
    for (number, (params, more, says)) in cases.into_iter().enumerate() {
        let asked = service.ask(&sampler, number as u64, params, more);
        let failed = service.json_result(&asked);
        assert_eq!(failed["category"], "user", "{failed}");
        assert!(failed["error"].as_str().unwrap().contains(says), "{failed} should say {says:?}");
    }
}

#[test]
fn samplers_come_from_a_base_a_checkpoint_or_the_model_as_it_is() {
    let mut service = Driven::new();
    let (session, model) = service.model();
    service.pass(&model, 1, &[1, 2, 3]);
    service.step(&model, 2);
    let named =
        service.post("save_weights_for_sampler", json!({ "model_id": model, "seq_id": 3, "path": "s" }));
    let path = service.json_result(&named)["path"].clone();
    let saved = service.post("save_weights", json!({ "model_id": model, "seq_id": 4, "path": "w" }));
    let training = service.json_result(&saved)["path"].clone();
    let ephemeral = service.post(
        "save_weights_for_sampler",
        json!({ "model_id": model, "seq_id": 5, "sampling_session_seq_id": 0 }),
    );
    let ephemeral = text(&service.json_result(&ephemeral), "sampling_session_id");
    let mut samplers = vec![ephemeral];
    for (number, from) in [
        (1, json!({ "model_path": path })),
        (2, json!({ "model_path": training })),
        (3, json!({ "base_model": TINY })),
    ] {
        samplers.push(service.sampler(&session, number, from));
    }
    let sampled: Vec<_> = samplers
        .iter()
        .map(|sampler| {
            let asked = service.ask(sampler, 0, json!({ "max_tokens": 6, "seed": 1 }), json!({}));
            service.sampled(&asked).sequences
        })
        .collect();
    assert_eq!(sampled[0], sampled[1]);
    assert_eq!(sampled[0], sampled[2]);
    assert_ne!(sampled[0], sampled[3], "a step changed the weights");
    let (_, shown) = service.get(&format!("samplers/{}", samplers[1]));
    assert_eq!((&shown["base_model"], &shown["model_path"]), (&json!(TINY), &path));
    let loaded = service.post(
        "load_weights",
        json!({ "session_id": session, "model_seq_id": 5, "path": path, "optimizer": false }),
    );
    assert_eq!(loaded.0, 404);
    assert!(loaded.1["detail"].as_str().unwrap().contains("for sampling"), "{}", loaded.1);
}

#[test]
fn the_oldest_ephemeral_sampler_goes_when_there_are_too_many() {
    let mut service = Driven::with(Settings { ephemeral_samplers: 2, ..Settings::default() });
    let (_, model) = service.model();
    let samplers: Vec<_> = (0..3)
        .map(|number| {
            let body = json!({ "model_id": model, "seq_id": number + 1, "sampling_session_seq_id": number });
            let saved = service.post("save_weights_for_sampler", body);
            text(&service.json_result(&saved), "sampling_session_id")
        })
        .collect();
    let asked = service.ask(&samplers[0], 0, json!({ "max_tokens": 1 }), json!({}));
    assert_eq!(asked.0, 410, "{}", asked.1);
    let asked = service.ask(&samplers[1], 0, json!({ "max_tokens": 1 }), json!({}));
    assert_eq!(service.sampled(&asked).sequences.len(), 1);
}

#[test]
fn one_poll_tells_of_all_samples_of_a_session_and_is_held_until_there_is_news() {
    let mut service = Driven::new();
    let session = service.session();
    let sampler = service.sampler(&session, 0, json!({ "base_model": NOOP }));
    let poll = |cursor: u64, timeout: f64| {
        json!({ "target": { "type": "sampling_session", "sampling_session_id": sampler },
                                                    "prev_cursor": cursor, "timeout": timeout })
    };
    assert_eq!(service.post("retrieve_futures", poll(0, 0.0)).1, json!({ "completions": [], "cursor": 0 }));
    let one = service.ask(&sampler, 0, json!({ "max_tokens": 1 }), json!({}));
    let two = service.ask(&sampler, 1, json!({ "max_tokens": 1, "temperature": -1.0 }), json!({}));
    let held =
        service.handle(&tinkex_sandbox::message::Request::post("/api/v1/retrieve_futures", &poll(0, 9.0)));
    assert!(matches!(held, tinkex_sandbox::message::Reply::Held(..)));
    service.work();
    let (_, news) = crate::driver::read(&service.core.released().remove(0).1);
    assert_eq!(news["completions"][0]["request_id"], request_id(&one));
    let (_, all) = service.post("retrieve_futures", poll(0, 9.0));
    let states: Vec<_> = all["completions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (text(it, "request_id"), text(it, "state")))
        .collect();
    let expected = [(&one, "finished"), (&two, "failed")];
    assert_eq!(states, expected.map(|(asked, state)| (request_id(asked).to_owned(), state.to_owned())));
    let cursor = all["cursor"].as_u64().unwrap();
    assert_eq!(service.post("retrieve_futures", poll(cursor, 0.0)).1["completions"], json!([]));
}

#[test]
fn a_cancelled_sample_is_answered_and_not_made() {
    let mut service = Driven::new();
    let session = service.session();
    let sampler = service.sampler(&session, 0, json!({ "base_model": TINY }));
    let asked = service.ask(&sampler, 0, json!({ "max_tokens": 500 }), json!({}));
    let held = service.hold(request_id(&asked));
    assert_eq!(service.post("cancel_future", json!({ "request_id": request_id(&asked) })).0, 200);
    let (id, response) = service.core.released().remove(0);
    assert_eq!(id, held);
    assert!(crate::driver::read(&response).1["error"].as_str().unwrap().contains("cancelled"));
    assert!(!service.work_once());
}

#[test]
fn clients_that_join_a_sampler_number_their_requests_apart() {
    let mut service = Driven::new();
    let session = service.session();
    let sampler = service.sampler(&session, 0, json!({ "base_model": TINY }));
    let mut join = || {
        service.post("join_sampling_session", json!({ "sampling_session_id": sampler })).1["client_counter"]
            .clone()
    };
    assert_eq!([join(), join()], [1, 2]);
}

#[test]
fn samples_and_training_take_turns() {
    let mut service = Driven::new();
    let (session, model) = service.model();
    let sampler = service.sampler(&session, 0, json!({ "base_model": TINY }));
    let long = service.ask(&sampler, 0, json!({ "max_tokens": 900, "stop": [] }), json!({}));
    for number in 1..20 {
        service.ask(&sampler, number, json!({ "max_tokens": 900, "stop": [] }), json!({}));
    }
    let step = service.step(&model, 1);
    let held = [service.hold(request_id(&step)), service.hold(request_id(&long))];
    for _ in 0..4 {
        service.work_once();
    }
    let released: Vec<_> = service.core.released().into_iter().map(|(id, _)| id).collect();
    assert_eq!(released, held[..1], "a step does not wait for long samples");
}
