//! The machine of a supervisor whose children stand in an order: one-for-one, one-for-all, rest-for-one.
//!
//! It does one job at a time, as OTP's supervisor does: stop some children in reverse order, then start some in
//! order, each after the one before is done. What comes meanwhile waits in the backlog, in order; only the order to
//! shut down, and the end of a start that somebody wants ended, are served at once.

mod job;

use std::{collections::VecDeque, time::Duration};

use self::job::{Goal, Job};
use super::{Children, Effect, Event, Kept, Key, Machine, Phase, Request, Token, Which, window::Window};
use crate::{
    answers::{ChildError, Started},
    exit::Exit,
    spec::{AutoShutdown, ChildSpec, Intensity, Restart, Strategy},
};

#[derive(Debug)]
pub(crate) struct Ordered {
    strategy: Strategy,
    auto_shutdown: AutoShutdown,
    window: Window,
    children: Children,
    /// The keys of the children in the order of their ids.
    by_id: Vec<Key>,
    job: Option<Job>,
    /// What came while a job was under way, in its order.
    backlog: VecDeque<Event>,
    /// The time of the step that is being done.
    now: Duration,
    /// Set once it stops: with which exit it will end.
    ending: Option<Exit>,
    ended: bool,
}

impl Ordered {
    /// The children that are there from the outset have the keys 1, 2, …
    pub(crate) fn new(
        strategy: Strategy,
        intensity: Intensity,
        auto_shutdown: AutoShutdown,
        children: &[ChildSpec],
    ) -> Self {
        let mut machine = Self {
            strategy,
            auto_shutdown,
            window: Window::new(intensity),
            children: Children::default(),
            by_id: Vec::new(),
            job: None,
            backlog: VecDeque::new(),
            now: Duration::ZERO,
            ending: None,
            ended: false,
        };
        for (key, spec) in (1..).zip(children) {
            machine.insert(key, Box::new(spec.clone()));
        }
        machine
    }

    /// Where an id stands in `by_id`, or where it would.
    fn place(&self, id: &str) -> Result<usize, usize> {
        let id_of = |key: &Key| self.children.get(*key).map_or("", |child| &child.kept.spec.id);
        self.by_id.binary_search_by(|key| id_of(key).cmp(id))
    }

    fn insert(&mut self, key: Key, spec: Box<ChildSpec>) {
        let (Ok(at) | Err(at)) = self.place(&spec.id);
        self.by_id.insert(at, key);
        self.children.insert(key, spec, None);
    }

    fn remove(&mut self, key: Key) {
        let id = self.children.get(key).map(|child| child.kept.spec.id.clone());
        if let Some(Ok(at)) = id.map(|id| self.place(&id)) {
            self.by_id.remove(at);
        }
        self.children.remove(key);
    }

    /// The child is not running any more, for good or until somebody says otherwise.
    fn put_down(&mut self, key: Key) {
        self.children.set_phase(key, Phase::Stopped);
        if self.is_temporary(key) {
            self.remove(key);
        }
    }

    fn is_temporary(&self, key: Key) -> bool {
        self.children.get(key).is_some_and(|child| child.kept.spec.restart == Restart::Temporary)
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Boot => self.begin(Job::starts(Goal::Boot, self.children.keys_from(0))),
            Event::Ask(token, request) => self.ask(token, request),
            Event::Exited { key, exit, .. } => self.exited(key, exit),
            Event::Retry { key, generation } => {
                if self.children.phase_of(key, generation) == Some(Phase::Restarting) {
                    self.recover(key);
                }
            }
            Event::Ready { .. } | Event::TimeUp(_) | Event::Shutdown => {}
        }
    }

    fn ask(&mut self, token: Token, request: Request) {
        let known = match &request {
            Request::Start { spec, .. } => self.find(&Which::Id(spec.id.clone())),
            Request::Terminate(which) | Request::Restart(which) | Request::Delete(which) => self.find(which),
        };
        let known = known.and_then(|key| Some((key, self.children.phase(key)?)));
        let outcome = match (request, known) {
            (Request::Start { key, spec }, None) => {
                self.insert(key, spec);
                return self.start_for(token, Goal::Start(key), key);
            }
            (Request::Start { spec, .. }, Some((known, phase))) => {
                self.children.effect(Effect::Forget { kept: Kept::new(spec) });
                let pid = self.children.get(known).and_then(|child| child.kept.pid.clone());
                Err(match (phase, pid) {
                    (Phase::Running | Phase::Dead, Some(pid)) => ChildError::AlreadyStarted(pid),
                    _ => ChildError::AlreadyPresent,
                })
            }
            (_, None) => Err(ChildError::NotFound),
            (Request::Terminate(_), Some((key, _))) => return self.stop_for(token, key),
            (Request::Restart(_), Some((key, Phase::Stopped))) => {
                return self.start_for(token, Goal::Restart(key), key);
            }
            (Request::Delete(_), Some((key, Phase::Stopped))) => {
                self.remove(key);
                Ok(Started::default())
            }
            (_, Some((_, Phase::Restarting))) => Err(ChildError::Restarting),
            _ => Err(ChildError::Running),
        };
        self.children.answer(token, outcome);
    }

    /// A child ended by itself, while nothing else was under way.
    fn exited(&mut self, key: Key, exit: Exit) {
        let Some(child) = self.children.get(key) else { return };
        let (comes_back, significant) = (child.comes_back_after(&exit), child.kept.spec.significant);
        self.children.report_end(key, exit);
        if comes_back {
            return self.recover(key);
        }
        self.put_down(key);
        if significant && self.shuts_down_now() {
            self.end(Exit::Shutdown);
        }
    }

    /// Whether the end of a significant child ends the supervisor.
    fn shuts_down_now(&self) -> bool {
        match self.auto_shutdown {
            AutoShutdown::Never => false,
            AutoShutdown::AnySignificant => true,
            AutoShutdown::AllSignificant => {
                let mut children = self.children.iter();
                !children.any(|(_, child)| child.kept.spec.significant && child.phase != Phase::Stopped)
            }
        }
    }

    /// Restarts what the strategy says, because of this child; or gives up. Each attempt counts.
    fn recover(&mut self, key: Key) {
        if !self.window.bears(self.now) {
            self.children.report_giving_up(key);
            self.put_down(key);
            return self.end(Exit::Shutdown);
        }
        self.children.set_phase(key, Phase::Restarting);
        let affected = match self.strategy {
            Strategy::OneForOne => vec![key],
            Strategy::RestForOne => self.children.keys_from(key),
            Strategy::OneForAll => self.children.keys_from(0),
        };
        // Temporary ones are not there any more when their turn to start would come.
        self.begin(Job::restarts(Goal::Recover, affected, key));
    }

    /// Stops everything, whatever was under way.
    fn end(&mut self, exit: Exit) {
        let mut last = Job::stops(Goal::End, self.children.keys_from(0));
        if let Some(interrupted) = self.job.take() {
            if let Some(token) = interrupted.token {
                self.children.answer(token, Err(ChildError::NoProcess));
            }
            // What stops already is waited for; what starts is stopped like the rest.
            if let Some(key) = interrupted.current {
                if self.children.phase(key) == Some(Phase::Stopping) {
                    last.current = Some(key);
                } else {
                    self.children.clear_timer(key);
                }
            }
        }
        last.spared = last.current;
        self.ending = Some(exit);
        self.begin(last);
    }

    /// It is too late for this event.
    fn refuse(&mut self, event: Event) {
        if let Event::Ask(token, request) = event {
            if let Request::Start { spec, .. } = request {
                self.children.effect(Effect::Forget { kept: Kept::new(spec) });
            }
            self.children.answer(token, Err(ChildError::NoProcess));
        }
    }

    fn take_in(&mut self, event: Event) {
        if self.ended {
            return self.refuse(event);
        }
        match event {
            Event::Ready { key, generation } => {
                let starts = self.children.phase_of(key, generation) == Some(Phase::Starting);
                if starts && self.arrived(key) {
                    self.children.set_phase(key, Phase::Running);
                    self.children.effect(Effect::Progress { key });
                    self.proceed();
                }
            }
            Event::Exited { key, generation, exit } => {
                // A start that is not current any more was dealt with long ago.
                let Some(phase) = self.children.phase_of(key, generation) else { return };
                if self.arrived(key) {
                    if phase == Phase::Starting {
                        self.failed_to_start(key, exit);
                    } else {
                        self.stopped(key, exit);
                    }
                    self.proceed();
                } else if self.job.is_some() {
                    self.children.set_phase(key, Phase::Dead);
                    self.backlog.push_back(Event::Exited { key, generation, exit });
                } else {
                    self.exited(key, exit);
                }
            }
            Event::TimeUp(timer) => self.children.time_up(timer),
            Event::Shutdown => {
                if self.ending.is_none() {
                    self.end(Exit::Shutdown);
                }
            }
            event if self.job.is_some() => match self.ends_a_start(&event) {
                None => self.backlog.push_back(event),
                Some((token, key)) => {
                    if let Some(starter) = self.job.take().and_then(|job| job.token) {
                        self.children.answer(starter, Err(ChildError::Failed(Exit::Shutdown)));
                    }
                    self.stop_for(token, key);
                }
            },
            event => {
                self.handle(event);
                self.proceed();
            }
        }
    }
}

impl Machine for Ordered {
    fn step(&mut self, now: Duration, event: Event) -> Vec<Effect> {
        self.now = now;
        self.take_in(event);
        std::mem::take(&mut self.children.effects)
    }

    fn children(&self) -> &Children {
        &self.children
    }

    fn children_mut(&mut self) -> &mut Children {
        &mut self.children
    }

    fn find(&self, which: &Which) -> Option<Key> {
        match which {
            Which::Id(id) => self.place(id).ok().map(|at| self.by_id[at]),
            Which::Key(key) => self.children.get(*key).map(|_| *key),
        }
    }
}
