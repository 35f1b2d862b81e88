//! What is to be trained, and how its requests are known again in the server's log, by their bytes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use tinkex::training::method::Ask;
use tinkex::training::{Save, TrainingClient};
use tinkex_protocol::json::training::AdamParams;
use tinkex_protocol::{Datum, LossCall, ModelInput, Tensor};

/// How many plans there are.
pub const PLANS: u64 = 4;

/// Data of a pass are cut into requests of two, as the server of this world wants it.
const DATA_A_REQUEST: usize = 2;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Call {
    /// Over these of its data.
    Pass {
        data: Vec<usize>,
    },
    Step,
    Save,
}

/// The calls of a training run in their order, each under the number by which its requests are known.
pub struct Plan {
    calls: Vec<(usize, Call)>,
}

/// A request: which call of the plan it belongs to, and which of its data it begins with. Ordered as they are numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Part(pub usize, pub usize);

/// The label of a call that is not of the plan: it changes no weights, and may be given up.
pub const EXTRA: &str = "extra";
const EXTRA_CALL: usize = 63;

impl Plan {
    pub fn new(number: u64) -> Plan {
        let pass = |data: usize| Call::Pass { data: (0..data).collect() };
        let (one, two_parts, three_parts) = (|| pass(1), || pass(3), || pass(5));
        let calls = match number % PLANS {
            0 => vec![one(), Call::Step, one(), one(), Call::Step, Call::Save, one(), Call::Step],
            1 => vec![two_parts(), Call::Step, one(), Call::Step, two_parts(), Call::Step],
            2 => vec![one(), three_parts(), Call::Step, Call::Save, two_parts(), Call::Step],
            _ => vec![
                Call::Save,
                one(),
                Call::Step,
                two_parts(),
                two_parts(),
                Call::Step,
                one(),
                Call::Step,
                Call::Save,
            ],
        };
        Plan { calls: calls.into_iter().enumerate().collect() }
    }

    /// The calls that were applied, in the order in which they were; of those that were given up what was applied.
    pub fn of(&self, applied: &[Vec<Part>]) -> Plan {
        let call = |parts: &Vec<Part>| {
            let (number, call) = &self.calls[parts[0].0];
            let of_parts = |datum: &usize| parts.iter().any(|part| part.1 == datum - datum % DATA_A_REQUEST);
            let call = match call {
                Call::Pass { data } => Call::Pass { data: data.iter().copied().filter(of_parts).collect() },
                call => call.clone(),
            };
            (*number, call)
        };
        Plan { calls: applied.iter().map(call).collect() }
    }

    pub fn len(&self) -> usize {
        self.calls.len()
    }

    pub fn ask(&self, number: usize, client: &TrainingClient) -> Ask {
        let (number, call) = &self.calls[number];
        match call {
            Call::Pass { data } => pass(*number, data, false, client),
            Call::Step => {
                let learning_rate = 0.01 + *number as f64 / 1024.0;
                Ask::OptimStep(AdamParams { learning_rate, ..AdamParams::default() })
            }
            Call::Save => Ask::SaveState(Save { name: format!("save-{number}"), ..Save::default() }),
        }
    }

    /// A forward pass beside the plan.
    pub fn extra(client: &TrainingClient) -> Ask {
        pass(EXTRA_CALL, &[0], true, client)
    }

    /// The requests of a call.
    pub fn parts(&self, number: usize) -> Vec<Part> {
        let (number, call) = &self.calls[number];
        match call {
            Call::Pass { data } => data.chunks(DATA_A_REQUEST).map(|data| Part(*number, data[0])).collect(),
            Call::Step | Call::Save => vec![Part(*number, 0)],
        }
    }
}

/// The request that a line of the server's log is about; none for what changes no weights.
pub fn part_of(line: &serde_json::Value) -> Option<Part> {
    let body = BASE64.decode(line["body"].as_str().expect("the log has bodies")).expect("it is Base64");
    let json = || serde_json::from_slice::<serde_json::Value>(&body).expect("the body is JSON");
    match line["kind"].as_str().expect("a kind is a word") {
        "optim_step" => {
            let rate = json()["adam_params"]["learning_rate"].as_f64().expect("a step has a rate");
            Some(Part(((rate - 0.01) * 1024.0).round() as usize, 0))
        }
        "save_weights" => {
            let body = json();
            let number = body["path"].as_str().and_then(|path| path.strip_prefix("save-"));
            Some(Part(number.and_then(|number| number.parse().ok()).expect("it is the plan's"), 0))
        }
        "forward_backward" => {
            let ones = [1.0f32; 3].map(f32::to_le_bytes).concat();
            let at = body.windows(ones.len()).position(|window| window == ones)? + ones.len();
            let mark = f32::from_le_bytes(body[at..at + 4].try_into().expect("four bytes follow"));
            let mark = (mark * 1024.0) as usize;
            let part = Part(mark / 8, mark % 8);
            (part.0 != EXTRA_CALL).then_some(part)
        }
        kind => panic!("nobody asked for a {kind}"),
    }
}

/// Data that differ from call to call. The last weight of each tells which it is.
fn pass(number: usize, data: &[usize], forward_only: bool, client: &TrainingClient) -> Ask {
    let datum = |i: usize| {
        let token = |at: usize| ((number * 31 + i * 17 + at * 7) % 500) as i64;
        let mark = (number * 8 + i) as f32 / 1024.0;
        let inputs = [
            ("target_tokens", Tensor::integers(&[token(1), token(2), token(3), token(4)])),
            ("weights", Tensor::floats(&[1.0, 1.0, 1.0, mark])),
        ];
        Datum {
            model_input: ModelInput::from_tokens((0..4).map(|at| token(at) as i32).collect::<Vec<_>>()),
            loss_fn_inputs: inputs.into_iter().map(|(name, tensor)| (name.to_owned(), tensor)).collect(),
            ..Datum::default()
        }
    };
    let call = LossCall { forward_only, ..LossCall::new("cross_entropy") };
    client.cut(data.iter().copied().map(datum).collect(), &call).expect("there are data")
}
