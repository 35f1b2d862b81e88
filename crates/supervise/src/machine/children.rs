//! What every machine does to a child: starts it, stops it, gives it a time, and tells of it.

use std::{any::Any, fmt, num::NonZeroU64, rc::Rc};

use super::{Effect, Key, Phase, TimerId, Token};
use crate::{
    answers::{Outcome, Started},
    exit::Exit,
    map::Map,
    pid::Pid,
    report::ReportContext,
    spec::{ChildSpec, Restart, Shutdown},
};

/// The children of a supervisor, and what is to be done next.
#[derive(Debug, Default)]
pub(crate) struct Children {
    /// Keys ascend in start order.
    by_key: Map<Child>,
    last_timer: u64,
    pub(super) effects: Vec<Effect>,
}

#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) kept: Kept,
    /// Counts its starts.
    pub(crate) generation: u32,
    pub(crate) phase: Phase,
    /// Its timer, while one runs.
    timer: Option<NonZeroU64>,
    /// Who waits for what is under way.
    pub(super) token: Option<Token>,
}

/// What the shell keeps of a child. The machine reads the spec, and carries the rest along.
pub(crate) struct Kept {
    pub(crate) spec: Box<ChildSpec>,
    /// Its latest start.
    pub(crate) pid: Option<Pid>,
    pub(crate) info: Option<Rc<dyn Any>>,
}

impl Kept {
    pub(super) fn new(spec: Box<ChildSpec>) -> Self {
        Self { spec, pid: None, info: None }
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.spec.fmt(f)
    }
}

impl Child {
    /// How often it was restarted.
    pub(crate) fn restarts(&self) -> u32 {
        self.generation.saturating_sub(1)
    }

    /// Whether it is to be started again after it has ended by itself.
    pub(super) fn comes_back_after(&self, exit: &Exit) -> bool {
        match self.kept.spec.restart {
            Restart::Permanent => true,
            Restart::Transient => !exit.is_graceful(),
            Restart::Temporary => false,
        }
    }

    /// Whether it ended as it should after it was stopped.
    fn ended_as_asked(&self, exit: &Exit) -> bool {
        let kill = self.kept.spec.shutdown == Shutdown::BrutalKill;
        let permanent = self.kept.spec.restart == Restart::Permanent;
        match exit {
            Exit::Shutdown => !kill || !permanent,
            Exit::Normal | Exit::ShutdownWith(_) => !permanent,
            Exit::Killed => kill,
            _ => false,
        }
    }
}

impl Children {
    pub(crate) fn get(&self, key: Key) -> Option<&Child> {
        self.by_key.get(key)
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut Child> {
        self.by_key.get_mut(key)
    }

    pub(crate) fn phase(&self, key: Key) -> Option<Phase> {
        self.get(key).map(|child| child.phase)
    }

    /// How far this start of a child is; `None` if there was a later one.
    pub(super) fn phase_of(&self, key: Key, generation: u32) -> Option<Phase> {
        self.get(key).filter(|child| child.generation == generation).map(|child| child.phase)
    }

    pub(super) fn set_phase(&mut self, key: Key, phase: Phase) {
        if let Some(child) = self.get_mut(key) {
            child.phase = phase;
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_key.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, &Child)> {
        self.by_key.iter()
    }

    /// The keys that are not before this one, in start order.
    pub(crate) fn keys_from(&self, first: Key) -> Vec<Key> {
        self.by_key.keys_from(first)
    }

    pub(super) fn insert(&mut self, key: Key, spec: Box<ChildSpec>, token: Option<Token>) {
        let kept = Kept::new(spec);
        let child = Child { kept, generation: 0, phase: Phase::Stopped, timer: None, token };
        self.by_key.push(key, child);
    }

    pub(super) fn remove(&mut self, key: Key) {
        if let Some(child) = self.by_key.remove(key) {
            self.effect(Effect::Forget { kept: child.kept });
        }
    }

    /// Removes all, for whoever ends without the machine.
    pub(crate) fn forget_all(&mut self) -> Vec<Effect> {
        for key in self.keys_from(0) {
            self.remove(key);
        }
        std::mem::take(&mut self.effects)
    }

    /// `false` if there is no such child.
    pub(super) fn start(&mut self, key: Key) -> bool {
        let Some(child) = self.get_mut(key) else { return false };
        child.generation += 1;
        child.phase = Phase::Starting;
        let (generation, restarts, limit) =
            (child.generation, child.restarts(), child.kept.spec.start_timeout);
        self.effect(Effect::Start { key, generation, restarts });
        if let Some(after) = limit {
            let timer = self.new_timer(key);
            self.effect(Effect::SetTimer { timer, after });
        }
        true
    }

    /// Stops a child that runs, with a timer of its own.
    pub(super) fn stop(&mut self, key: Key) {
        if let Some(after) = self.order_to_stop(key) {
            let timer = self.new_timer(key);
            self.effect(Effect::SetTimer { timer, after });
        }
    }

    /// Tells a child to stop, and gives the time that it has for it, if there is a limit.
    pub(super) fn order_to_stop(&mut self, key: Key) -> Option<std::time::Duration> {
        self.clear_timer(key);
        let child = self.get_mut(key)?;
        child.phase = Phase::Stopping;
        let shutdown = child.kept.spec.shutdown;
        self.effect(match shutdown {
            Shutdown::BrutalKill => Effect::Kill { key, exit: Exit::Killed },
            _ => Effect::Ask { key },
        });
        if let Shutdown::After(time) = shutdown { Some(time) } else { None }
    }

    fn new_timer(&mut self, key: Key) -> TimerId {
        self.last_timer += 1;
        let nth = self.last_timer;
        if let Some(child) = self.get_mut(key) {
            child.timer = NonZeroU64::new(nth);
        }
        TimerId { key, nth }
    }

    pub(super) fn clear_timer(&mut self, key: Key) {
        if let Some(nth) = self.get_mut(key).and_then(|child| child.timer.take()) {
            self.effect(Effect::ClearTimer { timer: TimerId { key, nth: nth.get() } });
        }
    }

    /// A child has taken too long to start or to stop. A timer that was cleared meanwhile says nothing.
    pub(super) fn time_up(&mut self, TimerId { key, nth }: TimerId) {
        let Some(child) = self.get_mut(key) else { return };
        if child.timer != NonZeroU64::new(nth) {
            return;
        }
        child.timer = None;
        let exit = if child.phase == Phase::Starting { Exit::Timeout } else { Exit::Killed };
        self.effect(Effect::Kill { key, exit });
    }

    /// Reports how a child that was stopped has ended, if that is not as it should be.
    pub(super) fn report_stop(&mut self, key: Key, exit: Exit) {
        if self.get(key).is_some_and(|child| !child.ended_as_asked(&exit)) {
            self.report(ReportContext::ShutdownError, key, exit);
        }
    }

    /// Reports how a child has ended by itself, if that is worth a word.
    pub(super) fn report_end(&mut self, key: Key, exit: Exit) {
        if !exit.is_graceful()
            || self.get(key).is_some_and(|child| child.kept.spec.restart == Restart::Permanent)
        {
            self.report(ReportContext::ChildTerminated, key, exit);
        }
    }

    /// Reports that the supervisor gives up, and over whom.
    pub(super) fn report_giving_up(&mut self, key: Key) {
        self.report(ReportContext::Shutdown, key, Exit::from("reached_max_restart_intensity"));
    }

    pub(super) fn report(&mut self, context: ReportContext, key: Key, reason: Exit) {
        if let Some(child) = self.get(key) {
            let offender = child.kept.spec.id.clone();
            self.effect(Effect::Report { context, offender, reason });
        }
    }

    pub(super) fn answer(&mut self, token: Token, outcome: Outcome) {
        self.effect(Effect::Answer { token, outcome });
    }

    /// What the one who asked for the start of this child is told when it runs.
    pub(super) fn started(&self, key: Key) -> Outcome {
        let kept = self.get(key).map(|child| &child.kept);
        Ok(kept
            .map_or_else(Started::default, |kept| Started { pid: kept.pid.clone(), info: kept.info.clone() }))
    }

    /// There are many callers: one copy of this is enough.
    #[inline(never)]
    pub(super) fn effect(&mut self, effect: Effect) {
        self.effects.push(effect);
    }
}
