//! What the page says to its run, and the states that follow.

use futures_util::FutureExt;
use tinkex_supervise::Reply;

use super::{Driver, Next, Stage, Then, Turn, Wanted};
use crate::error::Error;
use crate::run::event::Reason;
use crate::run::opening;
use crate::run::records::{Control, Cursor, State, control_key, cursor_key, entry_key};
use crate::run::status::Cause;
use crate::run::{Command, End};
use crate::store::{Durability, Op, put};

impl Driver {
    pub(super) fn hear(&mut self, command: Command) {
        let state = self.state();
        match command {
            Command::Pause(reply) | Command::Resume { reply, .. } | Command::Stop { reply, .. }
                if state.is_over() =>
            {
                let message = ["the run is ", state.as_str(), ": start another one"].concat();
                let _ = reply.send(Err(Error::invalid("run", message)));
            }
            Command::Pause(reply) if state == State::Running => {
                let control = self.standing_still(State::Paused, Cause::PausedByUser, String::new());
                self.set(control, Vec::new(), Then::Told(reply));
            }
            Command::Pause(reply) => drop(reply.send(Ok(()))),
            Command::Resume { reply, .. } if state.is_to_stop() => {
                let message = "the run was asked to stop, and can't be resumed: start another one";
                let _ = reply.send(Err(Error::invalid("run", message)));
            }
            Command::Resume { from, restart_step, reply } => self.resume(from, restart_step, reply),
            Command::Stop { checkpoint, reply } => self.stop(checkpoint && state != State::Stopping, reply),
            Command::Checkpoint(reply) => self.save(reply),
            Command::Hidden => {
                if self.shared.spec.checkpoints.on_hide && self.is_unsaved(self.cursor.step - 1) {
                    self.wanted.get_or_insert(Wanted { reason: Reason::Hidden, replies: Vec::new() });
                }
            }
            Command::Call(call) => self.call(call),
            Command::Note { attempt, index, entry } => self.note(attempt, index, entry),
        }
    }

    /// Whether it is to stop is written down: it does so whichever page has it then.
    fn stop(&mut self, checkpoint: bool, reply: Reply<Result<(), Error>>) {
        self.end_attempt();
        let Control { cause, message, .. } = self.control.clone();
        let saves = checkpoint && self.has_model() && !self.was_refused();
        let state = if saves { State::Saving } else { State::Stopping };
        let control = self.control_with(state, &cause, message);
        self.set(control, Vec::new(), Then::Told(reply));
        if state == State::Stopping && !matches!(self.stage, Stage::Open(_)) {
            // Nothing is under way that it would wait for.
            self.shut(None);
        }
    }

    /// Behind what the server has refused there is nothing to go on from.
    pub(super) fn was_refused(&self) -> bool {
        self.control.cause == Cause::Refused.as_str()
    }

    /// A checkpoint behind the step under way; the last one, where nothing was done since.
    fn save(&mut self, reply: Reply<Result<String, Error>>) {
        let place = (self.control.incarnation, self.cursor.step - 1);
        let latest = self.history.latest().filter(|saved| (saved.incarnation, saved.step) == place);
        if let Some(saved) = latest {
            let _ = reply.send(Ok(saved.path.clone()));
        } else if matches!(self.state(), State::Running | State::Saving) {
            let wanted = self.wanted.get_or_insert(Wanted { reason: Reason::Asked, replies: Vec::new() });
            wanted.reason = Reason::Asked;
            wanted.replies.push(reply);
        } else {
            let _ = reply.send(Err(Error::invalid("run", "the run isn't running: resume it first")));
        }
    }

    fn resume(&mut self, from: Option<String>, restart_step: bool, reply: Reply<Result<(), Error>>) {
        let cause = Cause::of_name(&self.control.cause);
        let kept = &self.control.version;
        if cause == Some(Cause::FunctionChanged)
            && *kept != self.shared.version
            && !restart_step
            && from.is_none()
        {
            let message = format!(
                "the step was begun with version {kept} of its function: give that one, begin the step again with \
                 resume({{ step: \"restart\" }}), or stop()"
            );
            let _ = reply.send(Err(Error::invalid("step", message)));
            return;
        }
        let mut ops = Vec::new();
        let mut control = self.control_with(State::Running, "", String::new());
        if from.is_some() {
            // Until there is another model, this one is what it is.
            (control.cause, control.message) = (self.control.cause.clone(), self.control.message.clone());
        }
        if restart_step {
            control.version = self.shared.version.clone();
            ops = self.forget_step();
        }
        if let Some(from) = from {
            let reason = match cause {
                Some(Cause::LossNotFinite) => "the loss was not finite",
                _ => "asked for",
            };
            let path = (from != "checkpoint").then_some(from);
            self.next = Next::New { reason: reason.into(), path };
            self.shut(None);
            (self.failures, self.attempts, self.reopenings) = (0, 0, 0);
            // That it runs is written with its new model: before that, a crash leaves it paused, and not with the old one.
            self.control = control;
            return self.write(Durability::Strict, ops, Then::Told(reply));
        }
        if matches!(self.turn, Turn::Stuck) || matches!(self.stage, Stage::Pausing(_)) {
            self.shut(None);
        }
        (self.failures, self.attempts, self.reopenings) = (0, 0, 0);
        self.set(control, ops, Then::Told(reply));
    }

    /// What was recorded of the step under way is nothing any more.
    fn forget_step(&mut self) -> Vec<Op> {
        self.end_attempt();
        let Cursor { step, .. } = self.cursor;
        let id = &self.shared.id;
        let calls = 0..std::mem::take(&mut self.entries).len() as u32;
        let mut ops: Vec<Op> = calls.map(|call| Op::Delete(entry_key(id, step, call))).collect();
        ops.push(put(cursor_key(id), &self.cursor));
        ops
    }

    /// Why it stops to move, until somebody does something about it; one that is to stop does so as it is.
    pub(in crate::run) fn pause(&mut self, cause: Cause, message: String) {
        self.end_attempt();
        let state = match self.state() {
            State::Running => State::Paused,
            State::Saving => State::Stopping,
            // Paused for something else, it says so all the same.
            State::Paused if is_of_the_model(cause) => State::Paused,
            _ => return,
        };
        let control = self.standing_still(state, cause, message);
        self.set(control, Vec::new(), Then::Nothing);
    }

    /// That the model is not what its steps say stands until there is another, or somebody goes on with this one.
    fn standing_still(&self, state: State, cause: Cause, message: String) -> Control {
        match Cause::of_name(&self.control.cause) {
            Some(known) if is_of_the_model(known) && cause != Cause::Refused => {
                if !message.is_empty() {
                    self.log(&message);
                }
                Control { state, ..self.control.clone() }
            }
            _ => self.control_with(state, cause.as_str(), message),
        }
    }

    /// A step that is begun with another function than the one before says so, should it be gone on with.
    pub(in crate::run) fn begun_with_its_version(&mut self) {
        if self.control.version != self.shared.version {
            self.control.version = self.shared.version.clone();
            let op = put(control_key(&self.shared.id), &self.control);
            self.write(Durability::Relaxed, vec![op], Then::Nothing);
        }
    }

    pub(super) fn set(&mut self, control: Control, mut ops: Vec<Op>, then: Then) {
        self.control = control;
        ops.push(put(control_key(&self.shared.id), &self.control));
        self.write(Durability::Strict, ops, then);
    }

    /// It is over: what is left is to write that down. The session ends by itself when nobody keeps it alive.
    pub(super) fn end(&mut self, state: State) {
        let control = self.control_with(state, "", String::new());
        self.leave(control);
    }

    /// Until it is written that the run is over, it isn't.
    pub(super) fn leave(&mut self, control: Control) {
        let state = control.state;
        let (shared, fence) = (self.shared.clone(), self.fence.clone());
        let here = vec![put(cursor_key(&shared.id), &self.cursor)];
        let stage = std::mem::replace(&mut self.stage, Stage::Shut);
        let leaving = async move {
            if let Stage::Open(open) = stage {
                // With it goes what was still to be written of its last calls; behind this commit that is there, or never.
                open.close(&shared).await;
                fence.commit(Durability::Strict, here).await?;
                if opening::has_calls(&shared, &control).await? {
                    return Ok(None);
                }
            }
            let mut ops = opening::remains(&shared, None).await?;
            ops.push(put(control_key(&shared.id), &control));
            fence.commit(Durability::Strict, ops).await.map(|()| Some(control))
        };
        self.stage = Stage::Leaving(state, leaving.boxed_local());
    }

    pub(super) fn left(&mut self, written: Result<Option<Control>, Error>) {
        let end = match written {
            // It comes back with the model.
            Ok(None) => return self.reopen(Error::protocol("what came of a call could not be written down")),
            Ok(Some(control)) => {
                self.control = control;
                End { state: self.control.state.as_str(), cause: None }
            }
            Err(_) if self.fence.lost().is_some() => End { state: "closed", cause: self.fenced() },
            // It ends again when it is opened again.
            Err(error) => End { state: "closed", cause: Some((Cause::Storage, error.message().to_owned())) },
        };
        self.stage = Stage::Left;
        self.tell_status();
        self.shared.end(end);
    }

    fn fenced(&self) -> Option<(Cause, String)> {
        self.fence.lost().map(|lost| (Cause::Fenced, lost.message().to_owned()))
    }

    /// Somebody else has it now: nothing of it can be written here.
    pub(super) fn leave_as_fenced(&mut self, error: &Error) {
        self.end_attempt();
        self.stage = Stage::Left;
        self.shared.end(End { state: "closed", cause: Some((Cause::Fenced, error.message().to_owned())) });
    }

    /// What it is at: it is over as soon as that is being written.
    pub(super) fn state(&self) -> State {
        match self.stage {
            Stage::Leaving(state, _) => state,
            _ => self.control.state,
        }
    }

    pub(super) fn is_running(&self) -> bool {
        self.state() == State::Running
    }
}

/// Whether it says that a model is not what its steps say, or may not be.
fn is_of_the_model(cause: Cause) -> bool {
    matches!(cause, Cause::Refused | Cause::LossNotFinite)
}
