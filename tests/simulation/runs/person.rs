//! What a person does who sees that a run stands still, by what it says is the cause.

use tinkex::platform::plain::{Given, Wrong};
use tinkex::run::Run;

use super::hears::THROWN;
use super::tab::{Command, Tab};
use super::work::Source;

impl Tab {
    /// At a glance now and then.
    pub fn look(&self, run: &Run) {
        let status = run.status();
        let wrong = Wrong::default();
        let given = Given::new(&status, &wrong);
        if given.optional_text("state").as_deref() != Some("paused") || !self.world.dice.happens(400) {
            return;
        }
        let cause = given.object("cause");
        let command = self.answer_to(&cause.text("kind"), &cause.text("message"));
        let place = (given.count("incarnation"), given.count("step") + 1);
        self.note(command, place, &cause.text("kind"));
        self.command(command);
    }

    fn answer_to(&self, cause: &str, message: &str) -> Command {
        let dice = &self.world.dice;
        match cause {
            "refused" if dice.happens(700) => Command::ResumeFromCheckpoint,
            "loss_not_finite" if dice.happens(500) => Command::ResumeFromCheckpoint,
            // Its function has met a refusal, and would meet it again.
            "step_failed" if self.world.plan.source == Source::Function && !message.contains(THROWN) => {
                Command::ResumeFromCheckpoint
            }
            "step_mismatch" | "function_changed" => {
                dice.pick(&[Command::Resume, Command::ResumeAfresh, Command::ResumeFromCheckpoint])
            }
            "checkpoint_gone" if dice.happens(500) => Command::StopAsItIs,
            _ => Command::Resume,
        }
    }

    /// What is known of the run from now on.
    fn note(&self, command: Command, (incarnation, step): (u32, u32), cause: &str) {
        let deeds = &mut self.world.notes.borrow_mut().deeds;
        match command {
            Command::Resume if cause == "refused" => drop(deeds.went_on.insert(incarnation)),
            Command::ResumeAfresh => drop(deeds.begun_again.insert((incarnation, step))),
            Command::ResumeFromCheckpoint => drop(deeds.went_back.insert(incarnation)),
            _ => {}
        }
    }
}
