//! What the server has done for a run, by its own log, and what of it was to be done: once, in order, and nothing left out
//! but what it would not do.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;
use tinkex_sandbox::replay;

use super::RunWorld;
use super::work::{has_data, numbers_in, step_of_rate};
use crate::network::Denied;
use crate::server::BASES;

/// One thing that was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// A pass over this datum.
    Pass(u32),
    /// The update of this step.
    Update(u32),
    /// A request that failed: nothing came of it.
    Nothing,
}

/// A call that was to be made: its passes, its update, or both.
pub struct Due {
    pub step: u32,
    pub what: Vec<Done>,
}

/// What was done for one incarnation, in its order.
#[derive(Default)]
pub struct Model {
    pub id: String,
    pub done: Vec<Done>,
    /// Hash of the weights, the optimizer and the gradients.
    pub hash: String,
    /// What was refused, or not let in, before it came to be done.
    refused: Vec<Vec<Done>>,
}

/// The server's log, by the ids of models. No number of theirs is left out or used twice.
pub fn models(world: &RunWorld) -> BTreeMap<String, Model> {
    let log = world.server.ask("/api/v1/sandbox/log");
    let mut models: BTreeMap<String, Model> = BTreeMap::new();
    let mut numbers: BTreeMap<String, u64> = BTreeMap::new();
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).expect("the log is JSON");
        let id = line["model_id"].as_str().expect("a model has an id").to_owned();
        let number = numbers.entry(id.clone()).or_default();
        assert_eq!(line["seq_id"], *number, "no number of {id} is left out or used twice");
        *number += 1;
        models.entry(id).or_default().take(&line);
    }
    for made in replay(&log, &BASES).expect("the log gives the same again") {
        models.get_mut(&made.model_id).expect("it is in the log").hash = made.state_hash;
    }
    for (id, model) in &mut models {
        let denied = world.network.denied();
        let of_it = denied.iter().filter(|denied| denied.is_of(id));
        model.refused = of_it
            .filter(|denied| matches!(denied.status, 401 | 402 | 422))
            .map(|denied| done_by(&denied.body))
            .collect();
        model.id.clone_from(id);
    }
    models
}

/// What a training request does.
fn done_by(body: &[u8]) -> Vec<Done> {
    let json = serde_json::from_slice::<Value>(body);
    match json.map(|body| body["adam_params"]["learning_rate"].as_f64()) {
        Ok(rate) => rate.map(|rate| Done::Update(step_of_rate(rate))).into_iter().collect(),
        // Broken data can't be known again: they may have been of any.
        Err(_) if !has_data(body) => vec![Done::Nothing],
        Err(_) => numbers_in(body).into_iter().map(Done::Pass).collect(),
    }
}

impl Denied {
    /// Whether it was a request of this model.
    pub fn is_of(&self, model: &str) -> bool {
        self.body.windows(model.len()).any(|bytes| bytes == model.as_bytes())
    }
}

impl Model {
    fn take(&mut self, line: &Value) {
        if !matches!(line["kind"].as_str(), Some("optim_step" | "forward_backward")) {
            return;
        }
        let body = BASE64.decode(line["body"].as_str().expect("the log has bodies")).expect("it is Base64");
        match line["ok"] == true {
            true => self.done.extend(done_by(&body).into_iter().filter(|done| *done != Done::Nothing)),
            false => self.done.push(Done::Nothing),
        }
    }

    /// Its passes, cut behind each update: the step that this is of, and none for what has no update.
    pub fn steps(&self) -> Vec<(Option<u32>, Vec<u32>)> {
        let mut steps = vec![(None, Vec::new())];
        for done in &self.done {
            let (step, passes) = steps.last_mut().expect("there is one at the start");
            match done {
                Done::Pass(datum) => passes.push(*datum),
                Done::Update(of) => {
                    *step = Some(*of);
                    steps.push((None, Vec::new()));
                }
                Done::Nothing => {}
            }
        }
        steps
    }

    /// The steps whose updates were made.
    pub fn updates(&self) -> impl Iterator<Item = u32> {
        self.done.iter().filter_map(|done| match done {
            Done::Update(step) => Some(*step),
            _ => None,
        })
    }

    /// Whether the server would not do anything that it was asked for.
    pub fn has_refused(&self) -> bool {
        !self.refused.is_empty() || self.done.contains(&Done::Nothing)
    }

    /// Compares what was done with what was to be: once and in order, up to a place behind which nothing is. Gives the steps
    /// of which something is missing in front of that, all of it refused.
    pub fn missing(&self, place: &str, due: Vec<Due>) -> BTreeSet<u32> {
        let mut missing = BTreeSet::new();
        let calls = due.iter().enumerate();
        let mut due = calls.flat_map(|(call, due)| due.what.iter().map(move |what| (call, due, *what)));
        let mut failed = 0;
        for done in &self.done {
            if *done == Done::Nothing {
                failed += 1;
                continue;
            }
            let mut left_out = BTreeSet::new();
            loop {
                let Some((call, of, what)) = due.next() else {
                    panic!("{place}: {done:?} is done twice, or was not asked for: {:?}", self.done);
                };
                if what == *done {
                    break;
                }
                missing.insert(of.step);
                if !self.has_refused_of(&of.what) {
                    left_out.insert(call);
                }
            }
            assert!(
                left_out.len() <= std::mem::take(&mut failed),
                "{place}: something was left out in front of {done:?}: {:?}",
                self.done
            );
        }
        missing
    }

    fn has_refused_of(&self, what: &[Done]) -> bool {
        let is_of = |refused: &Vec<Done>| match &refused[..] {
            [] => false,
            [Done::Nothing] => matches!(what[0], Done::Pass(_)),
            refused => what.windows(refused.len()).any(|part| part == refused),
        };
        self.refused.iter().any(is_of)
    }
}
