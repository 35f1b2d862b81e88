//! What a run has come to, by its own history and by the server's log, and what has to hold of it.
//!
//! Of every incarnation, up to where its model was lost, each step is done once, in order and with its own data; nothing is
//! left out but what the server refused; the history has what was done. Of the weights that count nothing is missing that a
//! person was not told of. A model is given up for a reason that is not the run's own.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::RunWorld;
use super::applied::{Done, Due, Model, models};
use super::history::{History, Seam};
use super::work::{Plan, Source, all_made, number_of};

/// Rows are written up to a quarter of a second late: of so many steps at the most.
const UNWRITTEN: usize = 3;

/// Where a run came from and where it is, and what the server has done for it.
pub struct Trained {
    history: History,
    models: BTreeMap<u32, Model>,
    /// What persons did to its incarnations.
    deeds: Deeds,
    disk_refused: bool,
}

/// What a person did to a run knowingly, each with the incarnation.
#[derive(Clone, Debug, Default)]
pub struct Deeds {
    /// Gone on behind what was refused.
    pub went_on: BTreeSet<u32>,
    /// Begun a step again, with what it had done already.
    pub begun_again: BTreeSet<(u32, u32)>,
    /// Asked for a new model.
    pub went_back: BTreeSet<u32>,
}

impl Trained {
    /// Reads what there is when all tabs are closed.
    pub async fn read(world: &Rc<RunWorld>) -> Trained {
        let history = History::read(world).await;
        let mut by_id = models(world);
        let notes = world.notes.borrow();
        let known = notes
            .models
            .iter()
            .map(|(incarnation, id)| (*incarnation, by_id.remove(id).expect("the server has made it")));
        let models: BTreeMap<u32, Model> = known.collect();
        for (id, model) in by_id {
            assert!(model.done.is_empty(), "nobody trains {id}, which is of no incarnation");
        }
        let refusals = ["disk: refuses a commit", "disk: is full"];
        let disk_refused = refusals.into_iter().any(|refusal| world.tally.count(refusal) > 0);
        Trained { history, models, deeds: notes.deeds.clone(), disk_refused }
    }

    /// What the function of each step that counts has trained on, by what it said.
    pub fn rollouts(&self) -> Vec<u32> {
        let mut values = BTreeMap::new();
        for (incarnation, until) in self.history.lineage() {
            let steps = self.history.steps(incarnation);
            values.extend(steps.into_iter().filter(|(step, _)| *step <= until));
        }
        values.values().map_while(|value| value.parse().ok()).collect()
    }

    fn begins(&self, incarnation: u32) -> u32 {
        self.history.seam(incarnation).map_or(0, |seam| seam.begins)
    }

    /// `undisturbed` gives a run of so many steps, of a function one that trains on what these have.
    pub fn check(&self, plan: &Plan, undisturbed: impl Fn(u32) -> Rc<Trained>) {
        let calm = (plan.source != Source::Function).then(|| undisturbed(plan.steps));
        let mut missing = BTreeMap::new();
        for (incarnation, model) in &self.models {
            let place = format!("incarnation {incarnation}");
            let due = match &calm {
                Some(calm) => calm.due_of_data(self.begins(*incarnation)),
                None => self.due_of_function(*incarnation, model),
            };
            missing.insert(*incarnation, model.missing(&place, due));
            self.check_history(*incarnation, model, plan);
        }
        self.check_end(plan, &missing, undisturbed);
    }

    /// What a run over data was to do behind a step: what this one, which nothing disturbed, has done.
    fn due_of_data(&self, begins: u32) -> Vec<Due> {
        let steps = self.models[&1].steps().into_iter().filter_map(|(step, passes)| Some((step?, passes)));
        let behind = steps.filter(|(step, _)| *step > begins);
        let calls = behind.map(|(step, passes)| {
            let passes = passes.into_iter().map(Done::Pass);
            Due { step, what: passes.chain([Done::Update(step)]).collect() }
        });
        calls.collect()
    }

    /// What a run of a function was to do: of each step what it drew, which its passes tell.
    fn due_of_function(&self, incarnation: u32, model: &Model) -> Vec<Due> {
        let told = self.history.steps(incarnation);
        let is_again = |step: u32| self.deeds.begun_again.contains(&(incarnation, step));
        let (mut due, mut next) = (Vec::new(), self.begins(incarnation) + 1);
        for (made, passes) in model.steps() {
            // Begun again behind its update, a step has another.
            let step = made.filter(|made| made + 1 == next && is_again(*made)).unwrap_or(next);
            let pass = |datum: u32| vec![Done::Pass(datum)];
            if let Some(number) = passes.last().map(|datum| number_of(*datum)) {
                let all = all_made(number);
                if is_again(step) {
                    // What it drew the second time may be the same.
                    let again = passes.windows(2).rposition(|pair| pair[1] <= pair[0]);
                    let other = passes.iter().rposition(|datum| !all.contains(datum));
                    let begins = again.max(other).map_or(0, |before| before + 1);
                    due.extend(passes[..begins].iter().map(|datum| Due { step, what: pass(*datum) }));
                } else if let Some(told) = told.get(&step) {
                    assert_eq!(*told, number.to_string(), "what step {step} recorded is what was trained on");
                }
                due.push(Due { step, what: all[..3].iter().copied().flat_map(pass).collect() });
                due.push(Due { step, what: pass(all[3]) });
            }
            due.push(Due { step, what: vec![Done::Update(step)] });
            next = step + 1;
        }
        due
    }

    /// Whatever is in the history was done, and whatever was done is in it, but for what was under way at the end.
    fn check_history(&self, incarnation: u32, model: &Model, plan: &Plan) {
        let told = self.history.steps(incarnation);
        let done: BTreeSet<u32> = model.updates().collect();
        for step in told.keys() {
            let refused = model.has_refused();
            assert!(done.contains(step) || refused, "step {step} of incarnation {incarnation} was made");
        }
        let newest = told.keys().next_back().copied().unwrap_or_default();
        let (before, behind): (Vec<u32>, Vec<u32>) =
            done.iter().filter(|step| !told.contains_key(step)).partition(|step| **step < newest);
        let is_last = incarnation == self.history.last && self.history.is_completed;
        // What a model's disk would not take goes with the model.
        let may_lack = !is_last && self.disk_refused;
        let under_way = if is_last { 0 } else { plan.most_under_way() + UNWRITTEN };
        assert!(
            (before.is_empty() || may_lack) && behind.len() <= under_way,
            "the history has the steps of incarnation {incarnation}: not {before:?} and {behind:?}"
        );
    }

    /// The run is over: is all there, and are the weights as if nothing had gone wrong?
    fn check_end(
        &self,
        plan: &Plan,
        missing: &BTreeMap<u32, BTreeSet<u32>>,
        undisturbed: impl Fn(u32) -> Rc<Trained>,
    ) {
        let Some(model) = self.models.get(&self.history.last) else { return };
        let mut is_whole = true;
        for (incarnation, until) in self.history.lineage() {
            // What was refused of a step before it was begun again is not its own any more.
            let is_again = |step: u32| self.deeds.begun_again.contains(&(incarnation, step));
            let missing = missing[&incarnation].iter().any(|step| *step <= until && !is_again(*step));
            let begun_again =
                self.deeds.begun_again.iter().any(|(of, step)| *of == incarnation && *step <= until);
            let known = self.deeds.went_on.contains(&incarnation);
            let may_be = known || !self.history.is_completed;
            assert!(
                !missing || may_be,
                "of incarnation {incarnation} something is missing that nobody was told of"
            );
            is_whole &= !missing && !begun_again && !known;
        }
        let steps = model.updates().last().unwrap_or(self.begins(self.history.last));
        let rest = model.steps().pop().is_some_and(|(_, passes)| !passes.is_empty());
        if self.history.is_completed && is_whole {
            assert_eq!((steps, rest), (plan.steps, false), "a completed run has all its steps");
        }
        let known = plan.source != Source::Function || self.rollouts().len() as u32 == steps;
        if is_whole && !rest && known && steps > 0 {
            let calm = undisturbed(steps);
            assert_eq!(model.hash, calm.models[&1].hash, "the weights are as if nothing had gone wrong");
        }
    }

    /// Every model that was given up was lost, or was not to be used any more, by what happened around the run.
    pub fn check_seams(&self, world: &RunWorld) {
        let last = self.models.keys().next_back().copied().unwrap_or_default();
        let mut since = 0.0;
        for incarnation in 2..=last {
            let seam = self.history.seam(incarnation).expect("a new model is told with its event");
            let before = &self.models[&(incarnation - 1)];
            assert_eq!(Some(&seam.model), self.models.get(&incarnation).map(|model| &model.id));
            assert!(
                self.is_founded(world, incarnation - 1, seam, before, since),
                "incarnation {incarnation} has no reason to be: {}",
                seam.reason
            );
            since = seam.at;
        }
    }

    fn is_founded(&self, world: &RunWorld, given_up: u32, seam: &Seam, before: &Model, since: f64) -> bool {
        if self.deeds.went_back.contains(&given_up) {
            return true;
        }
        let denied = world.network.denied();
        let meanwhile = |status: u16| {
            denied.iter().filter(move |denied| {
                let at = denied.at.as_millis() as f64;
                denied.status == status && since <= at && at <= seam.at
            })
        };
        if seam.reason.contains("the server refused a call of step") {
            return before.has_refused();
        }
        let is_gone = [404, 410].into_iter().flat_map(meanwhile).next().is_some();
        is_gone || world.tally.count("disk: damages a record") > 0
    }
}
