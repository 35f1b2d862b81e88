//! One job of an ordered supervisor: some children stopped, some started, one after another.

use super::Ordered;
use crate::{
    answers::{ChildError, Started},
    exit::Exit,
    machine::{Effect, Event, Key, Machine, Phase, Request, Token},
    report::ReportContext,
};

/// Stops its children from the last to the first, then starts them from the first to the last, or does one of the two; then
/// does what the goal says.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) goal: Goal,
    /// Who waits for it.
    pub(super) token: Option<Token>,
    /// In start order.
    children: Vec<Key>,
    /// So many of them, from the first, are to be stopped.
    to_stop: usize,
    /// So many of them, from the first, are not to be started any more.
    started: usize,
    /// The one that is not stopped: it is down, or somebody stops it already.
    pub(super) spared: Option<Key>,
    /// The child that it waits for: one that stops or one that starts.
    pub(super) current: Option<Key>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Goal {
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
    pub(super) fn starts(goal: Goal, children: Vec<Key>) -> Self {
        Self { goal, token: None, children, to_stop: 0, started: 0, spared: None, current: None }
    }

    pub(super) fn stops(goal: Goal, children: Vec<Key>) -> Self {
        let all = children.len();
        Self { to_stop: all, started: all, ..Self::starts(goal, children) }
    }

    /// All but one are stopped, and all are started.
    pub(super) fn restarts(goal: Goal, children: Vec<Key>, spared: Key) -> Self {
        Self { to_stop: children.len(), spared: Some(spared), ..Self::starts(goal, children) }
    }

    /// Those whose turn to be started has not come.
    pub(super) fn behind(&self) -> &[Key] {
        self.children.get(self.started..).unwrap_or_default()
    }
}

impl Ordered {
    pub(super) fn start_for(&mut self, token: Token, goal: Goal, key: Key) {
        self.begin(Job { token: Some(token), ..Job::starts(goal, vec![key]) });
    }

    pub(super) fn stop_for(&mut self, token: Token, key: Key) {
        self.begin(Job { token: Some(token), ..Job::stops(Goal::Terminate, vec![key]) });
    }

    pub(super) fn begin(&mut self, job: Job) {
        self.job = Some(job);
        self.proceed();
    }

    /// Does the job's next steps, until it has to wait or is done; then what is in the backlog.
    pub(super) fn proceed(&mut self) {
        while let Some(job) = &mut self.job {
            if job.current.is_some() {
                return;
            }
            if job.to_stop > 0 {
                job.to_stop -= 1;
                let key = job.children[job.to_stop];
                if job.spared != Some(key) {
                    self.stop(key);
                }
            } else if let Some(&key) = job.behind().first() {
                job.started += 1;
                job.current = self.children.start(key).then_some(key);
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
        for at in (0..self.backlog.len()).rev() {
            if let Event::Exited { key: of, generation, exit } = &self.backlog[at]
                && *of == key
            {
                let (generation, exit) = (*generation, exit.clone());
                // In the backlog this says nothing.
                self.backlog[at] = Event::Ready { key, generation };
                return Some(exit);
            }
        }
        None
    }

    /// A child that the job stopped has ended.
    pub(super) fn stopped(&mut self, key: Key, exit: Exit) {
        self.children.report_stop(key, exit);
        self.put_down(key);
    }

    /// A child that the job started has ended in its init phase.
    pub(super) fn failed_to_start(&mut self, key: Key, exit: Exit) {
        let Some(job) = &self.job else { return };
        let (goal, token) = (job.goal, job.token);
        let ignored = matches!(exit, Exit::Ignore);
        if let Some(token) = token {
            self.job = None;
            let outcome = if ignored { Ok(Started::default()) } else { Err(ChildError::Failed(exit)) };
            self.children.answer(token, outcome);
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
            let id = self.children.get(key).map(|child| child.kept.spec.id.clone()).unwrap_or_default();
            return self.end(Exit::ShutdownWith(format!("failed_to_start_child {id}: {exit}").into()));
        }
        let Some(child) = self.children.get_mut(key) else { return };
        child.phase = Phase::Restarting;
        let generation = child.generation;
        self.children.effect(Effect::Retry { key, generation });
        // Those that would have come after it stay down until the next attempt, which begins with it.
        if let Some(job) = self.job.take() {
            for key in job.behind() {
                self.put_down(*key);
            }
        }
    }

    fn conclude(&mut self, job: &Job) {
        let outcome = match job.goal {
            Goal::Boot => return self.children.effect(Effect::Booted),
            Goal::Recover => return,
            Goal::End => return self.conclude_all(),
            Goal::Start(key) | Goal::Restart(key) => self.children.started(key),
            Goal::Terminate => Ok(Started::default()),
        };
        if let Some(token) = job.token {
            self.children.answer(token, outcome);
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

    /// A start that somebody wants ended is not waited for, where it is the only thing under way.
    pub(super) fn ends_a_start(&self, event: &Event) -> Option<(Token, Key)> {
        let (Event::Ask(token, Request::Terminate(which)), Some(job)) = (event, &self.job) else {
            return None;
        };
        let key = self.find(which)?;
        let alone = job.behind().is_empty() && job.goal != Goal::Boot;
        (alone && self.children.phase(key) == Some(Phase::Starting)).then_some((*token, key))
    }

    /// The job's current child, if it is this one: then it is not waited for any more.
    pub(super) fn arrived(&mut self, key: Key) -> bool {
        let arrived = self.job.as_mut().and_then(|job| job.current.take_if(|current| *current == key));
        if arrived.is_some() {
            self.children.clear_timer(key);
        }
        arrived.is_some()
    }
}
