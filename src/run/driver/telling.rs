//! What a run tells of itself.

use super::{Driver, Next, Stage, Supply};
use crate::run::page::News;
use crate::run::status::{Cause, Status, cause_of};

impl Driver {
    /// Tells the status where it has changed.
    pub(super) fn tell_status(&mut self) {
        let cause = self.waiting_for();
        if cause != self.waits.0 {
            let message = match &self.next {
                Next::New { reason, .. } if cause == Cause::Recovering => reason.clone(),
                // What was put down as its words is the new cause's.
                _ if self.is_trying() => std::mem::take(&mut self.waits.2),
                _ => String::new(),
            };
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
            cause: cause_of(control, (*cause, *since, message)),
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
        let is_first = self.control.incarnation == 0;
        let idle = self.flights.is_empty() && self.beside.is_empty();
        match self.stage {
            _ if self.state().is_to_stop() => Cause::Stopping,
            Stage::Open(_) if idle && self.attempt.is_some() => Cause::WaitingForStep,
            Stage::Open(_) if idle && matches!(self.supply, Some(Supply::Reading(_))) => {
                Cause::WaitingForData
            }
            Stage::Open(_) | Stage::Leaving(..) | Stage::Left => Cause::WaitingForServer,
            _ if !is_first && matches!(self.next, Next::New { .. }) => Cause::Recovering,
            Stage::Shut | Stage::Opening(_) if is_first && self.failures == 0 => Cause::Starting,
            _ => Cause::WaitingForServer,
        }
    }

    /// Something failed, and is tried again.
    fn is_trying(&self) -> bool {
        matches!(self.stage, Stage::Pausing(_) | Stage::Closing(..))
    }
}
