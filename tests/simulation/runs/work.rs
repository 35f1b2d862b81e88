//! The runs of these worlds: their options, and their data, which are known again in the server's log by their bytes.

use tinkex::platform::plain::Plain;
use tinkex::run::{Brought, Data};
use tinkex_protocol::{Datum, ModelInput, Tensor};
use tinkex_sandbox::TINY;

use crate::given;

/// How many kinds of runs there are.
pub const PLANS: u64 = 6;

/// Rows of the data.
pub const LENGTH: u32 = 10;

/// Where the numbers of the data begin that are evaluated, and of those that a step's function makes.
const EVALUATED: u32 = 900;
const MADE: u32 = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Data that can be read anywhere.
    Set,
    /// Data one after the other, shuffled in a buffer.
    Stream,
    /// A function of the page.
    Function,
}

#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub number: u64,
    pub source: Source,
    /// A step is so many rows.
    batch: u32,
    pub steps: u32,
    pipeline: u32,
    checkpoint_every: Option<u32>,
    checkpoint_every_ms: Option<u32>,
    /// So that they may be gone when they are needed.
    pub checkpoints_expire: bool,
    evaluate_every: Option<u32>,
    sample_every: Option<u32>,
    /// It pauses where its model is gone.
    asks: bool,
}

impl Plan {
    pub fn new(number: u64) -> Plan {
        let number = number % PLANS;
        let plain = Plan {
            number,
            source: if number < 3 { Source::Set } else { Source::Function },
            batch: 3,
            steps: 10,
            pipeline: 2,
            checkpoint_every: None,
            checkpoint_every_ms: None,
            checkpoints_expire: false,
            evaluate_every: None,
            sample_every: None,
            asks: false,
        };
        match number {
            0 => Plan { checkpoint_every: Some(4), evaluate_every: Some(3), ..plain },
            1 => Plan {
                source: Source::Stream,
                checkpoint_every: Some(3),
                checkpoints_expire: true,
                sample_every: Some(4),
                ..plain
            },
            2 => Plan { batch: 1, pipeline: 3, checkpoint_every_ms: Some(1_500), asks: true, ..plain },
            3 => Plan { steps: 6, checkpoint_every: Some(3), ..plain },
            4 => Plan { steps: 8, checkpoint_every: Some(2), checkpoints_expire: true, ..plain },
            _ => Plan { steps: 6, evaluate_every: Some(4), sample_every: Some(3), ..plain },
        }
    }

    /// How many steps may be asked for and not in the history.
    pub fn most_under_way(&self) -> usize {
        match self.source {
            Source::Function => 1,
            _ => self.pipeline as usize,
        }
    }

    pub fn brought(&self, version: &str) -> Brought {
        let data = match self.source {
            Source::Set => Some(Data::Indexed { length: LENGTH, fingerprint: "rows".into() }),
            Source::Stream => Some(Data::Stream { buffer: 4, fingerprint: Some("rows".into()) }),
            Source::Function => None,
        };
        let version = data.is_none().then(|| version.to_owned());
        Brought { data, version, ..Brought::default() }
    }

    /// As `startRun` takes it, with so many steps.
    pub fn spec(&self, steps: u32) -> Vec<u8> {
        Plain::object(|plain| {
            plain.text("baseModel", TINY);
            plain.number("rank", 2.0);
            for name in ["trainMlp", "trainAttn", "trainUnembed", "shuffle"] {
                plain.flag(name, true);
            }
            for (name, value) in
                [("loraSeed", 1.0), ("seed", 7.0), ("buffer", 4.0), ("stepTimeoutMs", 20_000.0)]
            {
                plain.number(name, value);
            }
            plain.number("batchSize", self.batch.into());
            plain.number("pipeline", self.pipeline.into());
            plain.number("steps", steps.into());
            self.source(plain);
            schedule(plain);
            self.beside(plain);
        })
    }

    fn source(&self, plain: &mut Plain) {
        if self.source == Source::Function {
            plain.text("kind", "steps");
            plain.text("version", "1");
            return;
        }
        plain.text("kind", "data");
        plain.text("lossFn", "cross_entropy");
        let data = plain.inner("data");
        plain.text("fingerprint", "rows");
        match self.source {
            Source::Stream => {
                plain.text("kind", "stream");
                plain.number("buffer", 4.0);
            }
            _ => {
                plain.text("kind", "indexed");
                plain.number("length", LENGTH.into());
            }
        }
        plain.close(data);
    }

    /// What is done behind steps, and when a model is gone.
    fn beside(&self, plain: &mut Plain) {
        let checkpoints = plain.inner("checkpoints");
        if let Some(every) = self.checkpoint_every {
            plain.number("everySteps", every.into());
        }
        if let Some(every) = self.checkpoint_every_ms {
            plain.number("everyMs", every.into());
        }
        if self.checkpoints_expire {
            plain.number("ttlSeconds", 3_600.0);
        }
        plain.flag("onHide", true);
        plain.close(checkpoints);
        if let Some(every) = self.evaluate_every {
            given::evaluation(plain, &[datum(EVALUATED), datum(EVALUATED + 1)], every);
        }
        if let Some(every) = self.sample_every {
            given::samples(plain, every);
        }
        given::recovery(plain, 500, self.asks);
    }
}

/// Every step has a rate of its own, by which it is known again.
fn schedule(plain: &mut Plain) {
    let schedule = plain.inner("schedule");
    plain.text("type", "points");
    let points = plain.list("points");
    for step in [1, 65] {
        plain.item_number(step.into());
        plain.item_number(0.01 + f64::from(step) / 1024.0);
    }
    plain.close(points);
    plain.close(schedule);
    given::adam(plain);
}

pub fn step_of_rate(rate: f64) -> u32 {
    ((rate - 0.01) * 1024.0).round() as u32
}

/// The nth datum that a step's function makes of a number.
pub fn made(number: u32, nth: u32) -> Datum {
    datum(MADE + number * 4 + nth)
}

/// A datum that its number makes different from all others. Its last weight tells the number.
pub fn datum(number: u32) -> Datum {
    let token = |at: u32| ((number * 31 + at * 7) % 500) as i32;
    let inputs = [
        ("target_tokens", Tensor::integers(&[1, 2, 3, 4].map(|at| token(at).into()))),
        ("weights", Tensor::floats(&[1.0, 1.0, 1.0, number as f32 / 1024.0])),
    ];
    Datum {
        model_input: ModelInput::from_tokens((0..4).map(token).collect::<Vec<_>>()),
        loss_fn_inputs: inputs.into_iter().map(|(name, tensor)| (name.to_owned(), tensor)).collect(),
        ..Datum::default()
    }
}

/// A row whose weights are no numbers, which the server refuses.
pub fn broken(number: u32) -> Datum {
    let mut datum = datum(number);
    datum.loss_fn_inputs.insert("weights".into(), Tensor::floats(&[f32::NAN; 4]));
    datum
}

/// Whether data can be known in a request's body.
pub fn has_data(body: &[u8]) -> bool {
    !marks_in(body).is_empty()
}

/// The numbers of the data in a request's body, in their order; without those that are evaluated.
pub fn numbers_in(body: &[u8]) -> Vec<u32> {
    let mut numbers = marks_in(body);
    numbers.retain(|number| !(EVALUATED..MADE).contains(number));
    numbers
}

fn marks_in(body: &[u8]) -> Vec<u32> {
    let ones = [1.0f32; 3].map(f32::to_le_bytes).concat();
    let mut numbers = Vec::new();
    let mut at = 0;
    while let Some(found) = body[at..].windows(ones.len()).position(|window| window == ones) {
        at += found + ones.len();
        let Some(Ok(mark)) = body.get(at..at + 4).map(<[u8; 4]>::try_from) else { break };
        numbers.push((f32::from_le_bytes(mark) * 1024.0) as u32);
    }
    numbers
}

/// The numbers of the data that a step's function makes of a number.
pub fn all_made(number: u32) -> Vec<u32> {
    (0..4).map(|nth| MADE + number * 4 + nth).collect()
}

/// The number of which a datum was made.
pub fn number_of(datum: u32) -> u32 {
    datum.saturating_sub(MADE) / 4
}
