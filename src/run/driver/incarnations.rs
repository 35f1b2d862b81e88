//! The model of a run: opened, lost, made anew.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::stream::FuturesUnordered;

use super::results::Flight;
use super::{Driver, Next, Stage, Staged, Supply, Then, Turn, supply};
use crate::error::{Error, Kind as ErrorKind, Outcome};
use crate::request::Progress;
use crate::run::event::Behind;
use crate::run::opening::{self, Incarnation, Opened, Seam};
use crate::run::page::News;
use crate::run::records::{Control, Entry, State};
use crate::run::spec::{From, Work};
use crate::run::status::Cause;
use crate::run::tag::{Kind, Tag};
use crate::store::StoreErrorKind;

/// Between tries to reach a server that doesn't answer: doubled up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How often a client may be lost without a finished step in between.
const MOST_REOPENINGS: u32 = 3;

impl Driver {
    pub(super) fn open(&mut self) {
        let (shared, fence, control) = (self.shared.clone(), self.fence.clone(), self.control.clone());
        self.stage = Stage::Opening(match &self.next {
            Next::Same => opening::resume(shared, fence, control).boxed_local(),
            Next::New { reason, path } => {
                let seam = (control.incarnation > 0).then(|| self.seam(reason.clone(), path.clone()));
                opening::create(shared, fence, control, seam).boxed_local()
            }
        });
    }

    /// From which checkpoint the next model is made.
    fn seam(&self, reason: String, path: Option<String>) -> Seam {
        let history = &self.history;
        let (from, path) = match (path, &self.shared.spec.recovery.from) {
            (Some(path), _) => (history.of_path(&path), Some(path)),
            (None, From::Latest) => (history.latest(), None),
            (None, From::Best) => (history.best().or(history.latest()), None),
            (None, From::Path(path)) => (history.of_path(path), Some(path.clone())),
        };
        Seam { from: from.cloned(), path, reason, reached: history.step }
    }

    pub(super) fn staged(&mut self, staged: Staged) {
        let stage = std::mem::replace(&mut self.stage, Stage::Shut);
        match (staged, stage) {
            (Staged::Closed, Stage::Closing(_, Some(pause))) => {
                self.stage = Stage::Pausing(self.shared.service.transport.until_next_try(pause))
            }
            (Staged::Opened(Ok(opened)), _) => self.opened(*opened),
            (Staged::Opened(Err(error)), _) => self.not_opened(error),
            (Staged::Left(written), _) => self.left(written),
            (Staged::Closed | Staged::Paused, _) => {}
        }
    }

    fn opened(&mut self, opened: Opened) {
        let Opened { incarnation, control, cursor, entries, seam } = opened;
        self.unwritten.clear();
        self.closing.clear();
        let is_new = control.incarnation != self.control.incarnation;
        if is_new {
            // The first model is looked at before its first step. One that goes on was looked at there.
            let step = (control.incarnation > 1).then_some(cursor.step - 1);
            self.behind = Behind { evaluated: step, saved: step, sampled: step };
        }
        // Its state may have been changed meanwhile, and was written then: perhaps over the new model.
        self.control.incarnation = control.incarnation;
        (self.control.model, self.control.session) = (control.model, control.session);
        if is_new {
            if self.is_running() {
                (self.control.cause, self.control.message) = Default::default();
            }
            self.set(self.control.clone(), Vec::new(), Then::Nothing);
        }
        (self.cursor, self.entries) = (cursor, entries);
        self.next = Next::Same;
        self.failures = 0;
        self.waits = (Cause::WaitingForServer, self.shared.now(), String::new());
        self.step_began = self.now();
        if let Some(seam) = seam {
            self.history.take(&seam);
            self.shared.page.tell(News::Event(seam));
        }
        self.take_up(&incarnation);
        self.stage = Stage::Open(incarnation);
        if let Some(step) = self.gap() {
            let message =
                format!("the server refused a call of step {step}, and what was behind it is worth nothing");
            self.lose(Error::protocol(message));
        }
    }

    /// The step of a call that was written, and is neither done nor pending: the server would not have it, and this run
    /// ended before it had heard so. What was asked for behind it may have been done. Or of one that is pending, while the
    /// cursor was set back in front of it: it would be made twice.
    fn gap(&self) -> Option<u32> {
        let next = self.cursor.step;
        let flies = |step, kind| self.flights.iter().any(|it| (it.tag.step, it.tag.kind) == (step, kind));
        let is_ahead = |it: &&Flight| it.tag.kind == Kind::Step && it.tag.step >= next;
        if let Some(ahead) = self.flights.iter().find(is_ahead) {
            return Some(ahead.tag.step);
        }
        match self.shared.spec.work {
            Work::Data { .. } => (self.history.step + 1..next).find(|&step| !flies(step, Kind::Step)),
            Work::Function { .. } => {
                let is_ordered =
                    |entry: &Entry| !matches!(&*entry.method, "random" | "now" | "once" | "sample");
                let calls = self.entries.iter().enumerate().filter(|(_, entry)| is_ordered(entry));
                let is_gone =
                    calls.map(|(at, entry)| entry.value.is_none() && !flies(next, Kind::Call(at as u32)));
                // Where nothing stands behind it, it is asked for again in its place.
                (!is_gone.is_sorted()).then_some(next)
            }
        }
    }

    /// Waits again for what was asked for in an earlier life.
    fn take_up(&mut self, incarnation: &Incarnation) {
        for pending in incarnation.client.pending() {
            let Some(tag) = Tag::of_label(&pending.label) else { continue };
            let last = match tag.kind {
                Kind::Evaluate => &mut self.behind.evaluated,
                Kind::Checkpoint(_) => &mut self.behind.saved,
                Kind::Sampler => &mut self.behind.sampled,
                Kind::Step | Kind::Call(_) => &mut None,
            };
            *last = Some(tag.step).max(*last);
            let key = self.next_key();
            match incarnation.client.result(pending.first, key, &Progress::default()) {
                Ok(asked) => self.fly(key, tag, asked, None),
                Err(error) => self.log(&format!("a call of the run is lost: {error}")),
            }
        }
    }

    /// Lets the model go, and all that was asked of it: what has a number comes back with it.
    pub(super) fn shut(&mut self, pause: Option<Duration>) {
        self.end_attempt();
        self.flights.clear();
        self.turn = Turn::Free;
        self.beside = FuturesUnordered::new();
        self.supply = match self.supply.take() {
            Some(Supply::With(feed) | Supply::Here(feed, _) | Supply::End(feed)) => Some(Supply::With(feed)),
            Some(Supply::Reading(_)) | None => supply(&self.shared),
        };
        let shared = self.shared.clone();
        self.stage = match std::mem::replace(&mut self.stage, Stage::Shut) {
            Stage::Open(incarnation) => {
                let closing = async move { incarnation.close(&shared).await };
                Stage::Closing(closing.boxed_local(), pause)
            }
            Stage::Closing(closing, earlier) => Stage::Closing(closing, pause.or(earlier)),
            leaving @ Stage::Leaving(..) => leaving,
            Stage::Left => Stage::Left,
            Stage::Shut | Stage::Pausing(_) | Stage::Opening(_) => match pause {
                Some(pause) => Stage::Pausing(self.shared.service.transport.until_next_try(pause)),
                None => Stage::Shut,
            },
        };
    }

    fn not_opened(&mut self, error: Error) {
        let makes_new = matches!(self.next, Next::New { .. });
        let message = error.message().to_owned();
        match error.kind() {
            ErrorKind::Storage(StoreErrorKind::Fenced) => self.leave_as_fenced(&error),
            ErrorKind::Storage(_) => self.pause(Cause::Storage, message),
            ErrorKind::Api { status: 401..=403, .. } => self.pause(Cause::NotLetIn, message),
            ErrorKind::Connection
            | ErrorKind::Timeout
            | ErrorKind::Api { status: 408 | 429 | 500.., .. }
            // The session's own tree has ended: by a crash, or since this run is about to.
            | ErrorKind::Closed
            | ErrorKind::Crashed { .. } => {
                let pause = (FIRST_PAUSE * 2u32.pow(self.failures.min(5))).min(LONGEST_PAUSE);
                self.failures += 1;
                self.waits.2 = message;
                self.stage = Stage::Pausing(self.shared.service.transport.until_next_try(pause));
            }
            _ if !makes_new => self.lose(error),
            ErrorKind::Api { status: 404 | 410, .. } | ErrorKind::RequestFailed { .. }
                if self.control.incarnation > 0 =>
            {
                let kept: Vec<&str> = self.history.checkpoints.iter().map(|saved| &*saved.path).collect();
                let message = format!("{message}; checkpoints that it saved: {}", kept.join(", "));
                self.pause(Cause::CheckpointGone, message);
            }
            _ => self.pause(Cause::Refused, message),
        }
    }

    /// The model is gone.
    pub(super) fn lose(&mut self, error: Error) {
        let recovery = self.shared.spec.recovery.clone();
        let message = error.message().to_owned();
        self.next = Next::New { reason: message.clone(), path: None };
        let is_to_stop = self.control.state.is_to_stop();
        if recovery.ask || is_to_stop || self.attempts >= recovery.attempts {
            self.shut(None);
            let times = self.attempts + 1;
            let message = match recovery.ask || is_to_stop {
                true => message,
                false => format!("lost {times} times without a finished step in between, last: {message}"),
            };
            return self.pause(Cause::ModelGone, message);
        }
        // The first is made at once.
        let pause = self.attempts.checked_sub(1).map(|again| recovery.backoff * 2u32.pow(again.min(10)));
        self.attempts += 1;
        self.waits.2 = message;
        self.shut(pause);
    }

    /// The client is gone, and the model may still be there.
    pub(super) fn reopen(&mut self, error: Error) {
        self.reopenings += 1;
        if self.reopenings > MOST_REOPENINGS && error.outcome() != Outcome::Journaled {
            self.shut(None);
            return self.pause(Cause::Crashed, error.message().into());
        }
        self.waits.2 = error.message().to_owned();
        self.shut(Some(FIRST_PAUSE * self.reopenings.min(10)));
    }

    /// Something of the run could not be written.
    pub(super) fn not_written(&mut self, error: Error) {
        if self.fence.lost().is_some() {
            return self.leave_as_fenced(&error);
        }
        self.shut(None);
        self.pause(Cause::Storage, error.message().into());
    }

    pub(in crate::run) fn open_incarnation(&self) -> Option<&Incarnation> {
        match &self.stage {
            Stage::Open(open) => Some(open),
            _ => None,
        }
    }

    pub(in crate::run) fn incarnation(&self) -> u32 {
        self.control.incarnation
    }

    pub(super) fn control_with(&self, state: State, cause: &str, message: String) -> Control {
        let since = self.shared.now();
        Control { state, cause: cause.to_owned(), message, since, ..self.control.clone() }
    }
}

impl Incarnation {
    /// Why its session can't be used any more.
    pub(super) fn lost(&self) -> Option<Error> {
        self.service.session().lost()
    }
}
