//! The machine of a supervisor whose children stand in an order: one-for-one, one-for-all, rest-for-one.
//!
//! It does one job at a time, as OTP's supervisor does: stop some children in reverse order, then start some in
//! order, each after the one before is done. What comes meanwhile waits in the backlog, in order; only the order to
//! shut down, and the end of a start that somebody wants ended, are served at once.

use std::{collections::VecDeque, rc::Rc, time::Duration};

use super::{Answer, Children, Effect, Event, Key, Machine, Phase, Request, Token, Which, window::Window};
use crate::{
    exit::Exit,
    report::ReportContext,
    spec::{AutoShutdown, Intensity, Meta, Restart, Strategy},
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
    backlog: VecDeque<Event>,
    /// The time of the step that is being done.
    now: Duration,
    /// Set once it stops: with which exit it will end.
    ending: Option<Exit>,
    ended: bool,
}

/// Stops `stop` from its end, then starts `start` from its end, then does what the goal says.
#[derive(Debug)]
struct Job {
    goal: Goal,
    /// Who waits for it.
    token: Option<Token>,
    /// The last of these is the next.
    stop: Vec<Key>,
    start: Vec<Key>,
    /// The child that it waits for: one that stops or one that starts.
    current: Option<Key>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Goal {
    Boot,
    /// A child that is new.
    Start(Key),
    /// A child that was down.
    Restart(Key),
    Terminate,
    /// The restart after a crash.
    Recover,
    End,
}

impl Job {
    fn new(goal: Goal, token: Option<Token>) -> Self {
        Self { goal, token, stop: Vec::new(), start: Vec::new(), current: None }
    }
}

impl Ordered {
    pub(crate) fn new(
        strategy: Strategy,
        intensity: Intensity,
        auto_shutdown: AutoShutdown,
        children: impl IntoIterator<Item = (Key, Rc<Meta>)>,
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
        for (key, meta) in children {
            machine.insert(key, meta);
        }
        machine
    }

    /// Where an id stands in `by_id`, or where it would.
    fn place(&self, id: &str) -> Result<usize, usize> {
        let id_of = |key: &Key| self.children.get(*key).map_or("", |child| &child.meta.id);
        self.by_id.binary_search_by(|key| id_of(key).cmp(id))
    }

    fn insert(&mut self, key: Key, meta: Rc<Meta>) {
        let (Ok(at) | Err(at)) = self.place(&meta.id);
        self.by_id.insert(at, key);
        self.children.insert(key, meta, None);
    }

    fn remove(&mut self, key: Key) {
        let id = self.children.get(key).map(|child| child.meta.id.clone());
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
        self.children.get(key).is_some_and(|child| child.meta.restart == Restart::Temporary)
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Boot => {
                let mut job = Job::new(Goal::Boot, None);
                job.start = self.children.keys_from(0);
                job.start.reverse();
                self.begin(job);
            }
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
            Request::Start { meta, .. } => self.find(&Which::Id(meta.id.clone())),
            Request::Terminate(which) | Request::Restart(which) | Request::Delete(which) => self.find(which),
        };
        let known = known.and_then(|key| Some((key, self.children.phase(key)?)));
        let answer = match (request, known) {
            (Request::Start { key, meta }, None) => {
                self.insert(key, meta);
                return self.start_for(token, Goal::Start(key), key);
            }
            (Request::Start { key, .. }, Some((known, phase))) => {
                self.children.effect(Effect::Forget { key });
                match phase {
                    Phase::Running | Phase::Dead => Answer::AlreadyStarted { key: known },
                    _ => Answer::AlreadyPresent,
                }
            }
            (_, None) => Answer::NotFound,
            (Request::Terminate(_), Some((key, _))) => return self.stop_for(token, key),
            (Request::Restart(_), Some((key, Phase::Stopped))) => {
                return self.start_for(token, Goal::Restart(key), key);
            }
            (Request::Delete(_), Some((key, Phase::Stopped))) => {
                self.remove(key);
                Answer::Done
            }
            (_, Some((_, Phase::Restarting))) => Answer::Restarting,
            _ => Answer::Running,
        };
        self.children.answer(token, answer);
    }

    fn start_for(&mut self, token: Token, goal: Goal, key: Key) {
        let mut job = Job::new(goal, Some(token));
        job.start.push(key);
        self.begin(job);
    }

    fn stop_for(&mut self, token: Token, key: Key) {
        let mut job = Job::new(Goal::Terminate, Some(token));
        job.stop.push(key);
        self.begin(job);
    }

    /// A child ended by itself, while nothing else was under way.
    fn exited(&mut self, key: Key, exit: Exit) {
        let Some(child) = self.children.get(key) else { return };
        let (comes_back, significant) = (child.comes_back_after(&exit), child.meta.significant);
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
                !children.any(|(_, child)| child.meta.significant && child.phase != Phase::Stopped)
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
        let mut job = Job::new(Goal::Recover, None);
        let affected = match self.strategy {
            Strategy::OneForOne => vec![key],
            Strategy::RestForOne => self.children.keys_from(key),
            Strategy::OneForAll => self.children.keys_from(0),
        };
        job.start = affected.iter().rev().copied().filter(|key| !self.is_temporary(*key)).collect();
        job.stop = affected;
        job.stop.retain(|other| *other != key);
        self.begin(job);
    }

    /// Stops everything, whatever was under way.
    fn end(&mut self, exit: Exit) {
        let mut last = Job::new(Goal::End, None);
        if let Some(interrupted) = self.job.take() {
            if let Some(token) = interrupted.token {
                self.children.answer(token, Answer::NoProcess);
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
        last.stop = self.children.keys_from(0);
        last.stop.retain(|key| Some(*key) != last.current);
        self.ending = Some(exit);
        self.begin(last);
    }

    fn begin(&mut self, job: Job) {
        self.job = Some(job);
        self.proceed();
    }

    /// Does the job's next steps, until it has to wait or is done; then what is in the backlog.
    fn proceed(&mut self) {
        while let Some(job) = &mut self.job {
            if job.current.is_some() {
                return;
            }
            if let Some(key) = job.stop.pop() {
                self.stop(key);
            } else if let Some(key) = job.start.pop() {
                job.current = Some(key);
                self.children.start(key);
            } else if let Some(job) = self.job.take() {
                self.conclude(&job);
            }
        }
        while self.job.is_none() && !self.ended {
            let Some(event) = self.backlog.pop_front() else { return };
            self.handle(event);
        }
    }

    fn stop(&mut self, key: Key) {
        match self.children.phase(key) {
            None => {}
            Some(Phase::Running | Phase::Starting | Phase::Stopping) => {
                self.children.stop(key);
                if let Some(job) = &mut self.job {
                    job.current = Some(key);
                }
            }
            Some(Phase::Dead) => {
                if let Some(exit) = self.unread_exit(key) {
                    self.stopped(key, exit);
                }
            }
            Some(Phase::Stopped | Phase::Restarting) => self.put_down(key),
        }
    }

    /// Takes the exit of a dead child out of the backlog: there is one for each.
    fn unread_exit(&mut self, key: Key) -> Option<Exit> {
        let of_it = |event: &Event| matches!(event, Event::Exited { key: of, .. } if *of == key);
        let at = self.backlog.iter().rposition(of_it)?;
        match self.backlog.remove(at)? {
            Event::Exited { exit, .. } => Some(exit),
            _ => None,
        }
    }

    /// A child that the job stopped has ended.
    fn stopped(&mut self, key: Key, exit: Exit) {
        self.children.report_stop(key, exit);
        self.put_down(key);
    }

    /// A child that the job started has ended in its init phase.
    fn failed_to_start(&mut self, key: Key, exit: Exit) {
        let Some(job) = &self.job else { return };
        let (goal, token) = (job.goal, job.token);
        let ignored = matches!(exit, Exit::Ignore);
        if let Some(token) = token {
            self.job = None;
            let answer = if ignored { Answer::Ignored } else { Answer::Failed(exit) };
            self.children.answer(token, answer);
            if !ignored && goal == Goal::Start(key) {
                return self.remove(key);
            }
            return self.put_down(key);
        }
        if ignored {
            return self.put_down(key);
        }
        self.children.report(ReportContext::StartError, key, exit.clone());
        if goal == Goal::Boot {
            self.children.set_phase(key, Phase::Stopped);
            let id = self.children.get(key).map(|child| child.meta.id.clone()).unwrap_or_default();
            return self.end(Exit::ShutdownWith(format!("failed_to_start_child {id}: {exit}").into()));
        }
        let Some(child) = self.children.get_mut(key) else { return };
        child.phase = Phase::Restarting;
        let generation = child.generation;
        self.children.effect(Effect::Retry { key, generation });
        // Those that would have come after it stay down until the next attempt, which begins with it.
        let behind = self.job.take().map(|job| job.start).unwrap_or_default();
        for key in behind {
            self.put_down(key);
        }
    }

    fn conclude(&mut self, job: &Job) {
        let answer = match job.goal {
            Goal::Boot => return self.children.effect(Effect::Booted),
            Goal::Recover => return,
            Goal::End => return self.conclude_all(),
            Goal::Start(key) | Goal::Restart(key) => Answer::Started { key },
            Goal::Terminate => Answer::Done,
        };
        if let Some(token) = job.token {
            self.children.answer(token, answer);
        }
    }

    fn conclude_all(&mut self) {
        self.ended = true;
        while let Some(event) = self.backlog.pop_front() {
            self.refuse(event);
        }
        let exit = self.ending.take().unwrap_or(Exit::Shutdown);
        self.children.effect(Effect::End { exit });
    }

    /// It is too late for this event.
    fn refuse(&mut self, event: Event) {
        if let Event::Ask(token, _) = event {
            self.children.answer(token, Answer::NoProcess);
        }
    }

    /// A start that somebody wants ended is not waited for, where it is the only thing under way.
    fn ends_a_start(&self, event: &Event) -> Option<(Token, Key)> {
        let (Event::Ask(token, Request::Terminate(which)), Some(job)) = (event, &self.job) else {
            return None;
        };
        let key = self.find(which)?;
        let alone = job.start.is_empty() && job.goal != Goal::Boot;
        (alone && self.children.phase(key) == Some(Phase::Starting)).then_some((*token, key))
    }

    /// The job's current child, if it is this one: then it is not waited for any more.
    fn arrived(&mut self, key: Key) -> bool {
        let arrived = self.job.as_mut().and_then(|job| job.current.take_if(|current| *current == key));
        if arrived.is_some() {
            self.children.clear_timer(key);
        }
        arrived.is_some()
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
                        self.children.answer(starter, Answer::Failed(Exit::Shutdown));
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

    fn find(&self, which: &Which) -> Option<Key> {
        match which {
            Which::Id(id) => self.place(id).ok().map(|at| self.by_id[at]),
            Which::Key(key) => self.children.get(*key).map(|_| *key),
        }
    }
}
