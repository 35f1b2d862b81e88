//! The machine of a supervisor whose children stand in an order: one-for-one, one-for-all, rest-for-one.
//!
//! It does one job at a time, as OTP's supervisor does: stop some children in reverse order, then start some in
//! order, each after the one before is done. What comes meanwhile waits in the backlog, in order; only the order to
//! shut down, and the end of a start that somebody wants ended, are served at once.

use std::{
    collections::{HashMap, VecDeque},
    rc::Rc,
    time::Duration,
};

use super::{
    Answer, Effect, Event, Key, Machine, Meta, Phase, Request, TimerId, Token, Which, ended_as_asked,
    wants_restart, window::Window, worth_a_report,
};
use crate::{
    exit::Exit,
    map::Map,
    report::ReportContext,
    spec::{AutoShutdown, Intensity, Restart, Shutdown, Strategy},
};

#[derive(Debug)]
pub(crate) struct Ordered {
    strategy: Strategy,
    auto_shutdown: AutoShutdown,
    window: Window,
    /// Keys ascend in start order.
    children: Map<Key, Child>,
    by_id: HashMap<Rc<str>, Key>,
    last_timer: TimerId,
    job: Option<Job>,
    backlog: VecDeque<Event>,
    ended: bool,
}

#[derive(Debug)]
struct Child {
    meta: Meta,
    generation: u32,
    /// Counts starts after the first.
    restarts: u32,
    started_before: bool,
    phase: Phase,
}

/// Stops `stop` from its end, then starts `start` from its front, then does what the goal says.
#[derive(Debug)]
struct Job {
    stop: Vec<Key>,
    start: VecDeque<Key>,
    current: Option<Current>,
    goal: Goal,
}

/// The child that the job waits for: one that stops or one that starts.
#[derive(Clone, Copy, Debug)]
struct Current {
    key: Key,
    timer: Option<TimerId>,
}

#[derive(Debug)]
enum Goal {
    Boot,
    Start {
        token: Token,
        key: Key,
    },
    Restart {
        token: Token,
        key: Key,
    },
    Terminate {
        token: Token,
    },
    /// The restart after a crash.
    Recover,
    End {
        exit: Exit,
    },
}

impl Ordered {
    pub(crate) fn new(
        strategy: Strategy,
        intensity: Intensity,
        auto_shutdown: AutoShutdown,
        children: impl IntoIterator<Item = (Key, Meta)>,
    ) -> Self {
        let mut machine = Self {
            strategy,
            auto_shutdown,
            window: Window::new(intensity),
            children: Map::new(),
            by_id: HashMap::new(),
            last_timer: 0,
            job: None,
            backlog: VecDeque::new(),
            ended: false,
        };
        for (key, meta) in children {
            machine.insert(key, meta);
        }
        machine
    }

    fn insert(&mut self, key: Key, meta: Meta) {
        self.by_id.insert(meta.id.clone(), key);
        let child = Child { meta, generation: 0, restarts: 0, started_before: false, phase: Phase::Stopped };
        self.children.insert(key, child);
    }

    fn remove(&mut self, key: Key, effects: &mut Vec<Effect>) {
        if let Some(child) = self.children.remove(&key) {
            self.by_id.remove(&child.meta.id);
            effects.push(Effect::Forget { key });
        }
    }

    /// The child is not running any more, for good or until somebody says otherwise.
    fn put_down(&mut self, key: Key, effects: &mut Vec<Effect>) {
        let Some(child) = self.children.get_mut(&key) else { return };
        child.phase = Phase::Stopped;
        if child.meta.restart == Restart::Temporary {
            self.remove(key, effects);
        }
    }

    fn handle(&mut self, now: Duration, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Boot => {
                let start = self.children.keys().copied().collect();
                self.begin(now, Vec::new(), start, Goal::Boot, effects);
            }
            Event::Ask(token, request) => self.ask(now, token, request, effects),
            Event::Exited { key, generation, exit } => {
                // Left over from the backlog: dealt with meanwhile, unless it is still just dead.
                let waits = self.children.get(&key).is_some_and(|child| {
                    child.generation == generation && matches!(child.phase, Phase::Dead(_) | Phase::Running)
                });
                if waits {
                    self.exited(now, key, exit, effects);
                }
            }
            Event::Retry { key, generation } => {
                let waits = self
                    .children
                    .get(&key)
                    .is_some_and(|child| child.generation == generation && child.phase == Phase::Restarting);
                if waits {
                    self.recover(now, key, effects);
                }
            }
            Event::Ready { .. } | Event::TimeUp(_) | Event::Shutdown => {}
        }
    }

    fn ask(&mut self, now: Duration, token: Token, request: Request, effects: &mut Vec<Effect>) {
        let refusal = match request {
            Request::Start { key, meta } => match self.by_id.get(&meta.id) {
                None => {
                    self.insert(key, meta);
                    let goal = Goal::Start { token, key };
                    return self.begin(now, Vec::new(), [key].into(), goal, effects);
                }
                Some(known) => {
                    effects.push(Effect::Forget { key });
                    match self.phase(*known) {
                        Some(Phase::Running | Phase::Dead(_)) => Answer::AlreadyStarted { key: *known },
                        _ => Answer::AlreadyPresent,
                    }
                }
            },
            Request::Terminate(which) => match self.find(&which) {
                None => Answer::NotFound,
                Some(key) => {
                    let goal = Goal::Terminate { token };
                    return self.begin(now, vec![key], VecDeque::new(), goal, effects);
                }
            },
            Request::Restart(which) => match self.find_with_phase(&which) {
                None => Answer::NotFound,
                Some((key, Phase::Stopped)) => {
                    let goal = Goal::Restart { token, key };
                    return self.begin(now, Vec::new(), [key].into(), goal, effects);
                }
                Some((_, Phase::Restarting)) => Answer::Restarting,
                Some(_) => Answer::Running,
            },
            Request::Delete(which) => match self.find_with_phase(&which) {
                None => Answer::NotFound,
                Some((key, Phase::Stopped)) => {
                    self.remove(key, effects);
                    Answer::Done
                }
                Some((_, Phase::Restarting)) => Answer::Restarting,
                Some(_) => Answer::Running,
            },
        };
        effects.push(Effect::Answer { token, answer: refusal });
    }

    /// A child ended by itself, while nothing else was under way.
    fn exited(&mut self, now: Duration, key: Key, exit: Exit, effects: &mut Vec<Effect>) {
        let Some(child) = self.children.get(&key) else { return };
        let (meta, significant) = (child.meta.clone(), child.meta.significant);
        if worth_a_report(&meta, &exit) {
            let context = ReportContext::ChildTerminated;
            effects.push(Effect::Report { context, offender: meta.id.clone(), reason: exit.clone() });
        }
        if wants_restart(&meta, &exit) {
            return self.recover(now, key, effects);
        }
        self.put_down(key, effects);
        if significant && self.shuts_down_now() {
            self.end(now, Exit::Shutdown, effects);
        }
    }

    /// Whether the end of a significant child ends the supervisor.
    fn shuts_down_now(&self) -> bool {
        match self.auto_shutdown {
            AutoShutdown::Never => false,
            AutoShutdown::AnySignificant => true,
            AutoShutdown::AllSignificant => {
                !self.children.values().any(|child| child.meta.significant && child.phase != Phase::Stopped)
            }
        }
    }

    /// Restarts what the strategy says, because of this child; or gives up. Each attempt counts.
    fn recover(&mut self, now: Duration, key: Key, effects: &mut Vec<Effect>) {
        let Some(child) = self.children.get_mut(&key) else { return };
        if !self.window.bears(now) {
            let offender = child.meta.id.clone();
            let reason = Exit::Error("reached_max_restart_intensity".into());
            effects.push(Effect::Report { context: ReportContext::Shutdown, offender, reason });
            self.put_down(key, effects);
            return self.end(now, Exit::Shutdown, effects);
        }
        child.phase = Phase::Restarting;
        let affected: Vec<Key> = match self.strategy {
            Strategy::OneForOne => vec![key],
            Strategy::RestForOne => self.children.keys_from(&key).copied().collect(),
            Strategy::OneForAll => self.children.keys().copied().collect(),
        };
        let comes_back =
            |key: &Key| self.children.get(key).is_some_and(|child| child.meta.restart != Restart::Temporary);
        let start = affected.iter().copied().filter(comes_back).collect();
        let stop = affected.into_iter().filter(|other| *other != key).collect();
        self.begin(now, stop, start, Goal::Recover, effects);
    }

    /// Stops everything, whatever was under way.
    fn end(&mut self, now: Duration, exit: Exit, effects: &mut Vec<Effect>) {
        let interrupted = self.job.take();
        let mut current = None;
        if let Some(job) = interrupted {
            if let Goal::Start { token, .. } | Goal::Restart { token, .. } | Goal::Terminate { token } =
                job.goal
            {
                effects.push(Effect::Answer { token, answer: Answer::NoProcess });
            }
            current = job.current;
        }
        // What stops already is waited for; what starts is stopped like the rest.
        let stops = |current: &Current| matches!(self.phase(current.key), Some(Phase::Stopping));
        let starting = current.filter(|current| !stops(current));
        if let Some(Current { timer: Some(timer), .. }) = starting {
            effects.push(Effect::ClearTimer { timer });
        }
        let current = current.filter(stops);
        let waited_for = current.map(|current| current.key);
        let stop = self.children.keys().copied().filter(|key| Some(*key) != waited_for).collect();
        self.job = Some(Job { stop, start: VecDeque::new(), current, goal: Goal::End { exit } });
        self.proceed(now, effects);
    }

    fn begin(
        &mut self,
        now: Duration,
        stop: Vec<Key>,
        start: VecDeque<Key>,
        goal: Goal,
        effects: &mut Vec<Effect>,
    ) {
        self.job = Some(Job { stop, start, current: None, goal });
        self.proceed(now, effects);
    }

    /// Does the job's next steps, until it has to wait or is done; then what is in the backlog.
    fn proceed(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        while let Some(job) = &mut self.job {
            if job.current.is_some() {
                return;
            }
            if let Some(key) = job.stop.pop() {
                self.stop(key, effects);
            } else if let Some(key) = job.start.pop_front() {
                self.start(key, effects);
            } else if let Some(job) = self.job.take() {
                self.conclude(job.goal, effects);
            }
        }
        while self.job.is_none() && !self.ended {
            let Some(event) = self.backlog.pop_front() else { return };
            self.handle(now, event, effects);
        }
    }

    fn start(&mut self, key: Key, effects: &mut Vec<Effect>) {
        let Some(child) = self.children.get_mut(&key) else { return };
        child.generation += 1;
        child.restarts += u32::from(std::mem::replace(&mut child.started_before, true));
        child.phase = Phase::Starting;
        let (generation, restarts) = (child.generation, child.restarts);
        let timeout = child.meta.start_timeout;
        effects.push(Effect::Start { key, generation, restarts });
        let timer = timeout.map(|after| self.set_timer(after, effects));
        self.wait_for(key, timer);
    }

    fn stop(&mut self, key: Key, effects: &mut Vec<Effect>) {
        let Some(child) = self.children.get_mut(&key) else { return };
        match std::mem::replace(&mut child.phase, Phase::Stopping) {
            Phase::Running | Phase::Starting | Phase::Stopping => {
                let timer = match child.meta.shutdown {
                    Shutdown::BrutalKill => {
                        effects.push(Effect::Kill { key, exit: Exit::Killed });
                        None
                    }
                    Shutdown::Infinity => {
                        effects.push(Effect::Ask { key });
                        None
                    }
                    Shutdown::After(time) => {
                        effects.push(Effect::Ask { key });
                        Some(self.set_timer(time, effects))
                    }
                };
                self.wait_for(key, timer);
            }
            Phase::Dead(exit) => self.stopped(key, exit, effects),
            Phase::Stopped | Phase::Restarting => self.put_down(key, effects),
        }
    }

    /// A child that the job stopped has ended.
    fn stopped(&mut self, key: Key, exit: Exit, effects: &mut Vec<Effect>) {
        let Some(child) = self.children.get(&key) else { return };
        if !ended_as_asked(&child.meta, &exit) {
            let offender = child.meta.id.clone();
            effects.push(Effect::Report { context: ReportContext::ShutdownError, offender, reason: exit });
        }
        self.put_down(key, effects);
    }

    /// A child that the job started has ended in its init phase.
    fn failed_to_start(&mut self, now: Duration, key: Key, exit: Exit, effects: &mut Vec<Effect>) {
        let (Some(child), Some(job)) = (self.children.get_mut(&key), &mut self.job) else { return };
        if exit == Exit::Ignore {
            if let Goal::Start { token, .. } | Goal::Restart { token, .. } = job.goal {
                effects.push(Effect::Answer { token, answer: Answer::Ignored });
                self.job = None;
            }
            return self.put_down(key, effects);
        }
        let id = child.meta.id.clone();
        let failure =
            Effect::Report { context: ReportContext::StartError, offender: id.clone(), reason: exit.clone() };
        child.phase = Phase::Stopped;
        match job.goal {
            Goal::Boot => {
                effects.push(failure);
                self.end(
                    now,
                    Exit::ShutdownWith(format!("failed_to_start_child {id}: {exit}").into()),
                    effects,
                );
            }
            Goal::Start { token, .. } => {
                self.job = None;
                self.remove(key, effects);
                effects.push(Effect::Answer { token, answer: Answer::Failed(exit) });
            }
            Goal::Restart { token, .. } => {
                self.job = None;
                effects.push(Effect::Answer { token, answer: Answer::Failed(exit) });
            }
            Goal::Recover => {
                child.phase = Phase::Restarting;
                let generation = child.generation;
                effects.push(failure);
                effects.push(Effect::Retry { key, generation });
                // Those that would have come after it stay down until the next attempt, which begins with it.
                let behind = self.job.take().map(|job| job.start).unwrap_or_default();
                for key in behind {
                    self.put_down(key, effects);
                }
            }
            Goal::Terminate { .. } | Goal::End { .. } => {}
        }
    }

    fn conclude(&mut self, goal: Goal, effects: &mut Vec<Effect>) {
        match goal {
            Goal::Boot => effects.push(Effect::Booted),
            Goal::Start { token, key } | Goal::Restart { token, key } => {
                effects.push(Effect::Answer { token, answer: Answer::Started { key } });
            }
            Goal::Terminate { token } => effects.push(Effect::Answer { token, answer: Answer::Done }),
            Goal::Recover => {}
            Goal::End { exit } => {
                self.ended = true;
                for event in self.backlog.drain(..) {
                    if let Event::Ask(token, _) = event {
                        effects.push(Effect::Answer { token, answer: Answer::NoProcess });
                    }
                }
                effects.push(Effect::End { exit });
            }
        }
    }

    /// A start that somebody wants ended is not waited for, where it is the only thing under way.
    fn ends_a_start(&self, event: &Event) -> Option<(Token, Key)> {
        let (Event::Ask(token, Request::Terminate(which)), Some(job)) = (event, &self.job) else {
            return None;
        };
        let (key, phase) = self.find_with_phase(which)?;
        let alone = job.start.is_empty() && !matches!(job.goal, Goal::Boot);
        (alone && *phase == Phase::Starting).then_some((*token, key))
    }

    fn find_with_phase(&self, which: &Which) -> Option<(Key, &Phase)> {
        let key = self.find(which)?;
        Some((key, self.phase(key)?))
    }

    fn set_timer(&mut self, after: Duration, effects: &mut Vec<Effect>) -> TimerId {
        self.last_timer += 1;
        effects.push(Effect::SetTimer { timer: self.last_timer, after });
        self.last_timer
    }

    fn wait_for(&mut self, key: Key, timer: Option<TimerId>) {
        if let Some(job) = &mut self.job {
            job.current = Some(Current { key, timer });
        }
    }

    /// The job's current child, if it is this one: then it is not waited for any more.
    fn arrived(&mut self, key: Key, effects: &mut Vec<Effect>) -> bool {
        let Some(job) = &mut self.job else { return false };
        if job.current.is_none_or(|current| current.key != key) {
            return false;
        }
        if let Some(Current { timer: Some(timer), .. }) = job.current.take() {
            effects.push(Effect::ClearTimer { timer });
        }
        true
    }

    fn is_current_start(&self, key: Key, generation: u32) -> bool {
        self.children.get(&key).is_some_and(|child| child.generation == generation)
    }
}

impl Machine for Ordered {
    fn step(&mut self, now: Duration, event: Event, effects: &mut Vec<Effect>) {
        if self.ended {
            if let Event::Ask(token, _) = event {
                effects.push(Effect::Answer { token, answer: Answer::NoProcess });
            }
            return;
        }
        match event {
            Event::Ready { key, generation } if self.is_current_start(key, generation) => {
                if self.phase(key) == Some(&Phase::Starting) && self.arrived(key, effects) {
                    if let Some(child) = self.children.get_mut(&key) {
                        child.phase = Phase::Running;
                    }
                    effects.push(Effect::Progress { key });
                    self.proceed(now, effects);
                }
            }
            Event::Exited { key, generation, exit } if self.is_current_start(key, generation) => {
                let was_starting = self.phase(key) == Some(&Phase::Starting);
                if self.arrived(key, effects) {
                    if was_starting {
                        self.failed_to_start(now, key, exit, effects);
                    } else {
                        self.stopped(key, exit, effects);
                    }
                    self.proceed(now, effects);
                } else if self.job.is_some() {
                    if let Some(child) = self.children.get_mut(&key) {
                        child.phase = Phase::Dead(exit.clone());
                    }
                    self.backlog.push_back(Event::Exited { key, generation, exit });
                } else {
                    self.handle(now, Event::Exited { key, generation, exit }, effects);
                }
            }
            // A start that is not current any more: dealt with long ago.
            Event::Ready { .. } | Event::Exited { .. } => {}
            Event::TimeUp(timer) => {
                let current = self.job.as_mut().and_then(|job| job.current.as_mut());
                let Some(current) = current.filter(|current| current.timer == Some(timer)) else { return };
                current.timer = None;
                let key = current.key;
                let starting = self.phase(key) == Some(&Phase::Starting);
                effects.push(Effect::Kill { key, exit: if starting { Exit::Timeout } else { Exit::Killed } });
            }
            Event::Shutdown => {
                if !matches!(self.job, Some(Job { goal: Goal::End { .. }, .. })) {
                    self.end(now, Exit::Shutdown, effects);
                }
            }
            event if self.job.is_some() => match self.ends_a_start(&event) {
                None => self.backlog.push_back(event),
                Some((token, key)) => {
                    let Some(job) = self.job.take() else { return };
                    if let Goal::Start { token, .. } | Goal::Restart { token, .. } = job.goal {
                        effects.push(Effect::Answer { token, answer: Answer::Failed(Exit::Shutdown) });
                    }
                    if let Some(Current { timer: Some(timer), .. }) = job.current {
                        effects.push(Effect::ClearTimer { timer });
                    }
                    self.begin(now, vec![key], VecDeque::new(), Goal::Terminate { token }, effects);
                }
            },
            event => {
                self.handle(now, event, effects);
                self.proceed(now, effects);
            }
        }
    }

    fn phase(&self, key: Key) -> Option<&Phase> {
        self.children.get(&key).map(|child| &child.phase)
    }

    fn restarts(&self, key: Key) -> u32 {
        self.children.get(&key).map_or(0, |child| child.restarts)
    }

    fn keys(&self) -> Vec<Key> {
        self.children.keys().copied().collect()
    }

    fn find(&self, which: &Which) -> Option<Key> {
        match which {
            Which::Id(id) => self.by_id.get(id).copied(),
            Which::Key(key) => self.children.contains_key(key).then_some(*key),
        }
    }
}
