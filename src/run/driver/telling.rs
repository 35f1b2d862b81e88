//! What a run tells of itself.

use super::{Driver, Next, Stage, Supply, Turn};
use crate::run::page::News;
use crate::run::records::State;
use crate::run::status::{Cause, Status, cause_of};

/// What of a status changes while the run is open here.
#[derive(PartialEq)]
pub(super) struct Changing {
    state: State,
    since: u64,
    incarnation: u32,
    step: u32,
    submitted: u32,
    checkpoints: usize,
    waits: (Cause, u64, String),
}

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
        let asked = match &self.turn {
            Turn::Writing(_, Some(next)) => next,
            _ => &self.cursor,
        };
        let changing = Changing {
            state: control.state,
            since: control.since,
            incarnation: control.incarnation,
            step: self.history.step,
            submitted: asked.step - 1,
            checkpoints: self.history.checkpoints.len(),
            waits: match &self.waits {
                (Cause::WaitingForServer, since, message) if message.is_empty() => {
                    (Cause::WaitingForServer, *since, self.shared.service.transport.trouble())
                }
                waits => waits.clone(),
            },
        };
        if self.told.as_ref() == Some(&changing) {
            return;
        }
        let Changing { step, submitted, waits: (cause, since, message), .. } = &changing;
        let status = Status {
            id: &self.shared.id,
            spec: &self.shared.spec,
            control,
            step: *step,
            loss: self.history.loss,
            submitted: *submitted,
            cause: cause_of(control, (*cause, *since, message)),
            checkpoint: self.history.latest().map(|saved| (saved.step, &*saved.path)),
            created: self.shared.created,
        };
        let status = status.to_plain();
        self.shared.status.replace(status.clone());
        self.shared.page.tell(News::Status(status));
        self.told = Some(changing);
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
