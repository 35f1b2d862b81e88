//! What a run has come to, by its own history and by the server's log, and what has to hold of it.

use std::collections::BTreeMap;
use std::rc::Rc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;
use tinkex::platform::plain::{Given, Wrong};
use tinkex_sandbox::replay;

use super::RunWorld;
use super::hears::step_in;
use super::tab::Tab;
use super::work::{Plan, Source, all_made, numbers_in, step_of_rate};
use crate::server::BASES;

/// Steps whose calls may be on their way at a time.
const MOST_ON_THEIR_WAY: u32 = 3;

/// Where a run came from and where it is, and what the server has done for it.
pub struct Trained {
    is_completed: bool,
    models: BTreeMap<u32, Model>,
    last: u32,
    /// What the functions of the steps that count have given, by step.
    values: BTreeMap<u32, String>,
    /// Of an incarnation the first step of which something was refused or broken.
    spoilt: BTreeMap<u32, u32>,
}

/// What the server has applied of one incarnation.
#[derive(Default)]
struct Model {
    /// The step behind which it begins.
    begins: u32,
    /// Its steps in their order, each with the numbers of the data that its passes had.
    steps: Vec<(u32, Vec<u32>)>,
    /// Of the step that is under way.
    rest: Vec<u32>,
    /// Hash of the weights, the optimizer and the gradients.
    hash: String,
}

/// A row of the history.
struct Row {
    kind: String,
    incarnation: u32,
    step: u32,
    path: Option<String>,
    value: Option<String>,
    reason: Option<String>,
}

impl Trained {
    /// Reads what there is when all tabs are closed.
    pub async fn read(world: &Rc<RunWorld>) -> Trained {
        let (is_completed, last, history) = history(world).await;
        let notes = world.notes.borrow();
        let mut models = models(world, &notes.models);
        let mut spoilt = notes.spoilt.clone();
        for row in history.iter().filter(|row| row.kind == "incarnation") {
            if let Some(step) = row.reason.as_deref().and_then(step_in) {
                let known = spoilt.entry(row.incarnation - 1).or_insert(step);
                *known = step.min(*known);
            }
            models.get_mut(&row.incarnation).expect("it was told with its model").begins = row.step;
        }
        let values = values(&history, last);
        // A row of a run over data is metrics; of one of a function it is the step itself.
        if is_completed && world.plan.source == Source::Function {
            let steps: Vec<u32> = values.keys().copied().collect();
            assert_eq!(steps, (1..=world.steps).collect::<Vec<_>>(), "the history has each step");
        }
        Trained { is_completed, models, last, values, spoilt }
    }

    /// What the function of each step has trained on, by what it said.
    pub fn rollouts(&self) -> Vec<u32> {
        self.values.values().map_while(|value| value.parse().ok()).collect()
    }

    /// How many steps the server has applied of the last incarnation and of what it came from.
    fn steps(&self) -> u32 {
        let Some(model) = self.models.get(&self.last) else { return 0 };
        model.steps.last().map_or(model.begins, |(step, _)| *step)
    }

    /// Each step once within its incarnation and none missing; the weights as if nothing had gone wrong. `undisturbed`
    /// gives a run of so many steps, of a function one that trains on what these have.
    pub fn check(&self, plan: &Plan, undisturbed: impl Fn(u32) -> Rc<Trained>) {
        let is_of_function = plan.source == Source::Function;
        let calm = (!is_of_function).then(|| undisturbed(plan.steps));
        let expected = |step: u32| calm.as_ref().map(|calm| &calm.models[&1].steps[step as usize - 1].1);
        for (incarnation, model) in &self.models {
            let spoilt = self.spoilt.get(incarnation).copied().unwrap_or(u32::MAX);
            // What was refused then was not of the training: a checkpoint, perhaps.
            let is_sound = self.is_completed && *incarnation == self.last;
            let spoilt = if is_sound { u32::MAX } else { spoilt };
            let mut next = model.begins + 1;
            let mut behind = 0;
            for (step, numbers) in &model.steps {
                let place = format!("step {step} of incarnation {incarnation}");
                assert!(*step >= next, "{place} is applied once, {next} was next");
                let is_whole = match expected(*step) {
                    Some(expected) => numbers == expected,
                    None => numbers
                        .first()
                        .is_some_and(|first| *numbers == all_made(first.saturating_sub(1_000) / 4)),
                };
                if *step < spoilt && (behind > 0 || *step != next || !is_whole) {
                    // What was on its way when a call was refused; the run goes on from a checkpoint before it.
                    behind += 1;
                    assert!(
                        behind <= MOST_ON_THEIR_WAY && !is_sound,
                        "{place}: {next} was next, with {numbers:?}"
                    );
                }
                next = step + 1;
            }
        }
        let Some(model) = self.models.get(&self.last) else { return };
        let is_whole = model.rest.is_empty() && (self.is_completed || !self.spoilt.contains_key(&self.last));
        assert!(is_whole || !self.is_completed, "a run is completed in the middle of a step");
        let known = !is_of_function || self.rollouts().len() as u32 == self.steps();
        if is_whole && known && self.steps() > 0 {
            let calm = undisturbed(self.steps());
            assert_eq!(model.hash, calm.models[&1].hash, "the weights are as if nothing had gone wrong");
        }
    }
}

/// Whether the run is completed, its incarnation, and the rows of its history.
async fn history(world: &Rc<RunWorld>) -> (bool, u32, Vec<Row>) {
    let bytes = Tab::read(world).await;
    let wrong = Wrong::default();
    let given = Given::new(&bytes, &wrong);
    let rows = given.list("rows").map(|row| {
        let row = Given::of(row, &wrong);
        Row {
            kind: row.text("type"),
            incarnation: row.count("incarnation"),
            step: row.count("step"),
            path: row.optional_text("path"),
            value: row.optional_text("value"),
            reason: row.optional_text("reason"),
        }
    });
    let status = given.object("status");
    (status.text("state") == "completed", status.count("incarnation"), rows.collect())
}

/// What the steps that count have given: those of the last incarnation, and of what it came from up to its checkpoint.
fn values(history: &[Row], last: u32) -> BTreeMap<u32, String> {
    let mut values = BTreeMap::new();
    let (mut at, mut until) = (last, u32::MAX);
    loop {
        let seam = history.iter().find(|row| row.kind == "incarnation" && row.incarnation == at);
        let from = seam.map_or(0, |seam| seam.step);
        let counts = |row: &&Row| row.kind == "step" && row.incarnation == at && row.step <= until;
        for row in history.iter().filter(counts) {
            let twice = values.insert(row.step, row.value.clone().unwrap_or_default());
            assert_eq!(twice, None, "the history has step {} once", row.step);
        }
        let Some(path) = seam.and_then(|seam| seam.path.as_ref()) else { return values };
        // By its name: run-{id}-{incarnation}-{step}.
        let saved_by = path.rsplit('-').nth(1).and_then(|incarnation| incarnation.parse().ok());
        (at, until) = (saved_by.expect("the run has saved it"), from);
    }
}

/// What the server's log has of each incarnation.
fn models(world: &RunWorld, known: &BTreeMap<u32, String>) -> BTreeMap<u32, Model> {
    let log = world.server.ask("/api/v1/sandbox/log");
    let mut models: BTreeMap<String, Model> = BTreeMap::new();
    let mut applied: BTreeMap<String, u64> = BTreeMap::new();
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).expect("the log is JSON");
        let id = line["model_id"].as_str().expect("a model has an id").to_owned();
        let number = applied.entry(id.clone()).or_default();
        assert_eq!(line["seq_id"], *number, "no number of {id} is left out or used twice");
        *number += 1;
        models.entry(id).or_default().take(&line);
    }
    for made in replay(&log, &BASES).expect("the log gives the same again") {
        models.get_mut(&made.model_id).expect("it is in the log").hash = made.state_hash;
    }
    let incarnations = known.iter().map(|(incarnation, id)| {
        let model = models.remove(id).expect("the server has made it");
        (*incarnation, model)
    });
    let incarnations = incarnations.collect();
    for (id, model) in models {
        assert!(
            model.steps.is_empty() && model.rest.is_empty(),
            "nobody trains {id}, which is of no incarnation"
        );
    }
    incarnations
}

impl Model {
    fn take(&mut self, line: &Value) {
        if line["ok"] != true {
            return;
        }
        let body = BASE64.decode(line["body"].as_str().expect("the log has bodies")).expect("it is Base64");
        match line["kind"].as_str() {
            Some("optim_step") => {
                let body: Value = serde_json::from_slice(&body).expect("the body is JSON");
                let rate = body["adam_params"]["learning_rate"].as_f64().expect("a step has a rate");
                let numbers = std::mem::take(&mut self.rest);
                self.steps.push((step_of_rate(rate), numbers));
            }
            Some("forward_backward") => self.rest.extend(numbers_in(&body)),
            _ => {}
        }
    }
}
