//! Plain values as a page gives them to its run, and what it reads in those that it gets.

use tinkex::platform::plain::{Given, Plain, Wrong};
use tinkex::run::page::{Failure, FailureKind};
use tinkex_protocol::Datum;

/// A list of data.
pub fn data(plain: &mut Plain, data: &[Datum]) {
    let list = plain.list("data");
    for datum in data {
        let item = plain.item();
        let input: Vec<i32> = datum.model_input.tokens().unwrap_or_default().into_iter().collect();
        tokens(plain, "modelInput", &input);
        let inputs = plain.inner("lossFnInputs");
        for (name, tensor) in &datum.loss_fn_inputs {
            let field = plain.inner(name);
            plain.text("dtype", tensor.dtype().as_str());
            let shape = plain.list("shape");
            tensor.shape().iter().for_each(|size| plain.item_number(*size as f64));
            plain.close(shape);
            plain.bytes("data", tensor.bytes());
            plain.close(field);
        }
        plain.close(inputs);
        plain.close(item);
    }
    plain.close(list);
}

/// A model's input: one chunk of text.
pub fn tokens(plain: &mut Plain, name: &str, tokens: &[i32]) {
    let chunks = plain.list(name);
    let chunk = plain.item();
    plain.text("type", "encoded_text");
    plain.bytes("tokens", &tokens.iter().flat_map(|token| token.to_le_bytes()).collect::<Vec<_>>());
    plain.close(chunk);
    plain.close(chunks);
}

/// How samples are drawn: one, of so many tokens.
pub fn sampling(plain: &mut Plain, max_tokens: u32) {
    plain.number("numSamples", 1.0);
    let params = plain.inner("samplingParams");
    plain.number("maxTokens", max_tokens.into());
    plain.close(params);
    plain.flag("includePromptLogprobs", false);
    plain.number("topkPromptLogprobs", 0.0);
}

/// What is evaluated, and how often.
pub fn evaluation(plain: &mut Plain, evaluated: &[Datum], every: u32) {
    let evaluation = plain.inner("evaluation");
    data(plain, evaluated);
    plain.number("every", every.into());
    plain.close(evaluation);
}

/// What is sampled of one prompt, and how often.
pub fn samples(plain: &mut Plain, every: u32) {
    let samples = plain.inner("samples");
    let prompts = plain.list("prompts");
    let prompt = plain.item();
    tokens(plain, "chunks", &[1, 2]);
    plain.close(prompt);
    plain.close(prompts);
    plain.number("every", every.into());
    sampling(plain, 2);
    plain.close(samples);
}

pub fn adam(plain: &mut Plain) {
    let adam = plain.inner("adam");
    for (name, value) in
        [("beta1", 0.9), ("beta2", 0.95), ("eps", 1e-12), ("weightDecay", 0.0), ("gradClipNorm", 0.0)]
    {
        plain.number(name, value);
    }
    plain.close(adam);
}

/// What happens when the model is gone: it goes on from the latest checkpoint, or asks.
pub fn recovery(plain: &mut Plain, backoff_ms: u32, asks: bool) {
    let recovery = plain.inner("recovery");
    plain.text("from", "latest");
    plain.number("attempts", 3.0);
    plain.number("backoffMs", backoff_ms.into());
    plain.flag("ask", asks);
    plain.close(recovery);
}

/// The arguments of a pass that trains on these.
pub fn pass(trained_on: &[Datum]) -> Vec<u8> {
    Plain::object(|plain| {
        data(plain, trained_on);
        plain.text("lossFn", "cross_entropy");
    })
}

/// The arguments of a sample.
pub fn sample(sampler: &str, max_tokens: u32) -> Vec<u8> {
    Plain::object(|plain| {
        plain.text("sampler", sampler);
        tokens(plain, "prompt", &[1, 2]);
        sampling(plain, max_tokens);
    })
}

/// The name of the sampler that a call has made.
pub fn sampler(made: &[u8]) -> String {
    Given::new(made, &Wrong::default()).text("sampler")
}

/// The tokens of the one sequence that was drawn.
pub fn drawn(sampled: &[u8]) -> Vec<i32> {
    let wrong = Wrong::default();
    let sequence = Given::new(sampled, &wrong).list("sequences").next().expect("one was asked for");
    let tokens = Given::of(sequence, &wrong).bytes("tokens");
    tokens.chunks(4).map(|token| i32::from_le_bytes(token.try_into().expect("four bytes a token"))).collect()
}

/// With what a function ends that has met the failure of a call.
pub fn failure(failed: &[u8]) -> Failure {
    let wrong = Wrong::default();
    let given = Given::new(failed, &wrong);
    let kind = match &*given.text("kind") {
        "step_mismatch" => FailureKind::StepMismatch,
        _ => FailureKind::Thrown,
    };
    Failure { kind, message: given.text("message") }
}
