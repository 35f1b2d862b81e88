//! The machine of a supervisor whose children come and go and don't know of each other.
//!
//! Each child has a life of its own: one that takes long to start or to stop holds nobody up. Only the count of
//! restarts, the limit of children and the end are common.

use std::time::Duration;

use super::{
    Children, Effect, Event, Kept, Key, Machine, Phase, Request, TimerId, Token, Which, window::Window,
};
use crate::{
    answers::{ChildError, Outcome, Started},
    exit::Exit,
    report::ReportContext,
    spec::{Intensity, Shutdown},
};

#[derive(Debug)]
pub(crate) struct Dynamic {
    max_children: usize,
    window: Window,
    children: Children,
    /// Who else waits for the end of a child that somebody stops already.
    also_waiting: Vec<(Key, Token)>,
    /// At the end, one timer runs for all children that have the same time: here in the order of their timers.
    times: Vec<Duration>,
    life: Life,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Life {
    Up,
    /// All children are being stopped.
    Ending,
    Over,
}

/// No child's: its timers are for all that are left at the end.
const ALL: Key = 0;

impl Dynamic {
    pub(crate) fn new(intensity: Intensity, max_children: usize) -> Self {
        Self {
            max_children,
            window: Window::new(intensity),
            children: Children::default(),
            also_waiting: Vec::new(),
            times: Vec::new(),
            life: Life::Up,
        }
    }

    fn ask(&mut self, token: Token, request: Request) {
        let up = self.life == Life::Up;
        let outcome = match request {
            Request::Start { spec, .. } if !up || self.children.len() >= self.max_children => {
                self.children.effect(Effect::Forget { kept: Kept::new(spec) });
                Err(if up { ChildError::MaxChildren } else { ChildError::NoProcess })
            }
            _ if !up => Err(ChildError::NoProcess),
            Request::Start { key, spec } => {
                self.children.insert(key, spec, Some(token));
                self.children.start(key);
                return;
            }
            Request::Terminate(which) => match self.find(&which) {
                None => Err(ChildError::NotFound),
                Some(key) => match self.children.phase(key) {
                    Some(Phase::Stopping) => return self.also_waiting.push((key, token)),
                    Some(Phase::Restarting) => {
                        self.children.remove(key);
                        Ok(Started::default())
                    }
                    _ => {
                        self.answer(key, Err(ChildError::Failed(Exit::Shutdown)));
                        if let Some(child) = self.children.get_mut(key) {
                            child.token = Some(token);
                        }
                        return self.children.stop(key);
                    }
                },
            },
            // A dynamic supervisor forgets what doesn't run: there is nothing to restart or delete.
            Request::Restart(_) | Request::Delete(_) => Err(ChildError::NotFound),
        };
        self.children.answer(token, outcome);
    }

    /// Answers the one who waits for a child, if anybody does.
    fn answer(&mut self, key: Key, outcome: Outcome) -> bool {
        let token = self.children.get_mut(key).and_then(|child| child.token.take());
        if let Some(token) = token {
            self.children.answer(token, outcome);
        }
        token.is_some()
    }

    fn exited(&mut self, now: Duration, key: Key, phase: Phase, exit: Exit) {
        self.children.clear_timer(key);
        match phase {
            Phase::Stopping => {
                self.children.report_stop(key, exit);
                self.answer(key, Ok(Started::default()));
                let children = &mut self.children;
                self.also_waiting.retain(|(of, token)| {
                    if *of == key {
                        children.answer(*token, Ok(Started::default()));
                    }
                    *of != key
                });
                children.remove(key);
            }
            Phase::Starting => {
                let ignored = matches!(exit, Exit::Ignore);
                let outcome =
                    if ignored { Ok(Started::default()) } else { Err(ChildError::Failed(exit.clone())) };
                if self.answer(key, outcome) || ignored {
                    self.children.remove(key);
                } else if let Some(child) = self.children.get_mut(key) {
                    child.phase = Phase::Restarting;
                    let generation = child.generation;
                    self.children.report(ReportContext::StartError, key, exit);
                    self.children.effect(Effect::Retry { key, generation });
                }
            }
            _ => {
                let comes_back = self.children.get(key).is_some_and(|child| child.comes_back_after(&exit));
                self.children.report_end(key, exit);
                if comes_back {
                    self.recover(now, key);
                } else {
                    self.children.remove(key);
                }
            }
        }
        self.end_if_empty();
    }

    fn recover(&mut self, now: Duration, key: Key) {
        if self.window.bears(now) {
            self.children.start(key);
            return;
        }
        self.children.report_giving_up(key);
        self.children.remove(key);
        self.end();
    }

    /// Stops all at once.
    fn end(&mut self) {
        if self.life != Life::Up {
            return;
        }
        self.life = Life::Ending;
        for key in self.children.keys_from(ALL) {
            match self.children.phase(key) {
                // Somebody stops it already, with a timer of its own.
                Some(Phase::Stopping) => {}
                Some(Phase::Starting | Phase::Running) => {
                    self.answer(key, Err(ChildError::NoProcess));
                    if let Some(after) = self.children.order_to_stop(key)
                        && !self.times.contains(&after)
                    {
                        let timer = TimerId { key: ALL, nth: self.times.len() as u64 };
                        self.times.push(after);
                        self.children.effect(Effect::SetTimer { timer, after });
                    }
                }
                _ => self.children.remove(key),
            }
        }
        self.end_if_empty();
    }

    fn end_if_empty(&mut self) {
        if self.life != Life::Ending || self.children.len() > 0 {
            return;
        }
        self.life = Life::Over;
        for nth in 0..self.times.len() as u64 {
            self.children.effect(Effect::ClearTimer { timer: TimerId { key: ALL, nth } });
        }
        self.children.effect(Effect::End { exit: Exit::Shutdown });
    }

    fn time_up(&mut self, timer: TimerId) {
        if timer.key != ALL {
            return self.children.time_up(timer);
        }
        let Some(time) = self.times.get(timer.nth as usize) else { return };
        for key in self.children.keys_from(ALL) {
            // One that was stopped before, with a timer of its own, has been killed before, if it still lives.
            let late = self
                .children
                .get(key)
                .is_some_and(|child| child.kept.spec.shutdown == Shutdown::After(*time));
            if late {
                self.children.effect(Effect::Kill { key, exit: Exit::Killed });
            }
        }
    }

    fn take_in(&mut self, now: Duration, event: Event) {
        match event {
            Event::Boot => self.children.effect(Effect::Booted),
            Event::Ask(token, request) => self.ask(token, request),
            Event::Ready { key, generation } => {
                if self.children.phase_of(key, generation) == Some(Phase::Starting) {
                    self.children.set_phase(key, Phase::Running);
                    self.children.clear_timer(key);
                    self.children.effect(Effect::Progress { key });
                    self.answer(key, self.children.started(key));
                }
            }
            Event::Exited { key, generation, exit } => {
                if let Some(phase) = self.children.phase_of(key, generation) {
                    self.exited(now, key, phase, exit);
                }
            }
            Event::Retry { key, generation } => {
                if self.children.phase_of(key, generation) == Some(Phase::Restarting) {
                    self.recover(now, key);
                }
            }
            Event::TimeUp(timer) => self.time_up(timer),
            Event::Shutdown => self.end(),
        }
    }
}

impl Machine for Dynamic {
    fn step(&mut self, now: Duration, event: Event) -> Vec<Effect> {
        self.take_in(now, event);
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
            Which::Key(key) => self.children.get(*key).map(|_| *key),
            // Ids are for people here: several children may have the same.
            Which::Id(_) => None,
        }
    }
}
