//! What a run tells of itself.

use super::{Driver, Next, Stage};
use crate::run::page::News;
use crate::run::records::State;
use crate::run::status::{Cause, Status, kept_cause};

impl Driver {
    /// Tells the status where it has changed.
    pub(super) fn tell_status(&mut self) {
        let cause = self.waiting_for();
        if cause != self.waits.0 {
            // What was put down as its words is the new cause's.
            let message = if self.is_trying() { std::mem::take(&mut self.waits.2) } else { String::new() };
            self.waits = (cause, self.shared.now(), message);
        }
        let control = &self.control;
        let (cause, since, message) = &self.waits;
        let status = Status {
            id: &self.shared.id,
            spec: &self.shared.spec,
            control,
            step: self.history.step,
            loss: self.history.loss,
            submitted: self.cursor.step - 1 + self.cursor.call.min(1),
            cause: match control.state {
                State::Running => Some((*cause, *since, message)),
                _ => kept_cause(control),
            },
            checkpoint: self.history.latest().map(|saved| (saved.step, &*saved.path)),
            created: self.shared.created,
        };
        let told = status.to_plain();
        if told != self.told {
            self.shared.status.replace(told.clone());
            self.shared.page.tell(News::Status(told.clone()));
            self.told = told;
        }
    }

    fn waiting_for(&self) -> Cause {
        let is_new = matches!(self.next, Next::New { .. }) && self.control.incarnation > 0;
        let idle = self.flights.is_empty() && self.beside.is_empty();
        match self.stage {
            Stage::Open(_) if idle && self.attempt.is_some() => Cause::WaitingForStep,
            Stage::Open(_) if idle && self.preparing.is_some() => Cause::WaitingForData,
            Stage::Open(_) | Stage::Leaving(_) => Cause::WaitingForServer,
            _ if is_new => Cause::Recovering,
            Stage::Pausing(_) | Stage::Closing(..) => Cause::WaitingForServer,
            Stage::Shut | Stage::Opening(_) => Cause::Starting,
        }
    }

    /// Something failed, and is tried again.
    fn is_trying(&self) -> bool {
        matches!(self.stage, Stage::Pausing(_) | Stage::Closing(..))
    }
}
