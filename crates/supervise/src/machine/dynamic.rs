//! The machine of a supervisor whose children come and go and don't know of each other.
//!
//! Each child has a life of its own: one that takes long to start or to stop holds nobody up. Only the count of
//! restarts, the limit of children and the end are common.

use std::time::Duration;

use super::{
    Answer, Effect, Event, Key, Machine, Meta, Phase, Request, TimerId, Token, Which, ended_as_asked,
    wants_restart, window::Window, worth_a_report,
};
use crate::{
    exit::Exit,
    map::Map,
    report::ReportContext,
    spec::{Intensity, Shutdown},
};

#[derive(Debug)]
pub(crate) struct Dynamic {
    max_children: usize,
    window: Window,
    children: Map<Key, Child>,
    timers: Map<TimerId, Timed>,
    last_timer: TimerId,
    /// Set once it stops: with which exit it will end.
    ending: Option<Exit>,
    ended: bool,
}

#[derive(Debug)]
struct Child {
    meta: Meta,
    generation: u32,
    phase: Phase,
    /// Who waits for it to be started, or to be stopped.
    tokens: Vec<Token>,
    timer: Option<TimerId>,
}

/// What happens when a timer is over.
#[derive(Debug)]
enum Timed {
    /// This child has taken too long to start or to stop.
    One(Key),
    /// At the end, all that were given this time have taken too long.
    All(Duration),
}

impl Dynamic {
    pub(crate) fn new(intensity: Intensity, max_children: usize) -> Self {
        Self {
            max_children,
            window: Window::new(intensity),
            children: Map::new(),
            timers: Map::new(),
            last_timer: 0,
            ending: None,
            ended: false,
        }
    }

    fn ask(&mut self, token: Token, request: Request, effects: &mut Vec<Effect>) {
        let answer = match request {
            Request::Start { key, .. } if self.children.len() >= self.max_children => {
                effects.push(Effect::Forget { key });
                Answer::MaxChildren
            }
            Request::Start { key, meta } => {
                let tokens = vec![token];
                self.children
                    .insert(key, Child { meta, generation: 0, phase: Phase::Stopped, tokens, timer: None });
                return self.start(key, effects);
            }
            Request::Terminate(which) => {
                match self.find(&which).and_then(|key| Some((key, self.children.get_mut(&key)?))) {
                    None => Answer::NotFound,
                    Some((key, child)) => match child.phase {
                        Phase::Stopping => return child.tokens.push(token),
                        Phase::Restarting => {
                            self.remove(key, effects);
                            Answer::Done
                        }
                        _ => {
                            let starters = std::mem::replace(&mut child.tokens, vec![token]);
                            self.clear_timer(key, effects);
                            Self::answer(starters, Answer::Failed(Exit::Shutdown), effects);
                            return self.stop(key, effects);
                        }
                    },
                }
            }
            // A dynamic supervisor forgets what doesn't run: there is nothing to restart or delete.
            Request::Restart(_) | Request::Delete(_) => Answer::NotFound,
        };
        effects.push(Effect::Answer { token, answer });
    }

    fn start(&mut self, key: Key, effects: &mut Vec<Effect>) {
        let Some(child) = self.children.get_mut(&key) else { return };
        child.generation += 1;
        child.phase = Phase::Starting;
        let generation = child.generation;
        effects.push(Effect::Start { key, generation, restarts: generation - 1 });
        if let Some(after) = child.meta.start_timeout {
            self.set_timer(key, after, effects);
        }
    }

    fn stop(&mut self, key: Key, effects: &mut Vec<Effect>) {
        let Some(child) = self.children.get_mut(&key) else { return };
        child.phase = Phase::Stopping;
        match child.meta.shutdown {
            Shutdown::BrutalKill => effects.push(Effect::Kill { key, exit: Exit::Killed }),
            Shutdown::Infinity => effects.push(Effect::Ask { key }),
            Shutdown::After(time) => {
                effects.push(Effect::Ask { key });
                self.set_timer(key, time, effects);
            }
        }
    }

    fn exited(&mut self, now: Duration, key: Key, exit: Exit, effects: &mut Vec<Effect>) {
        self.clear_timer(key, effects);
        let Some(child) = self.children.get_mut(&key) else { return };
        let tokens = std::mem::take(&mut child.tokens);
        let offender = child.meta.id.clone();
        match child.phase {
            Phase::Stopping => {
                if !ended_as_asked(&child.meta, &exit) {
                    let context = ReportContext::ShutdownError;
                    effects.push(Effect::Report { context, offender, reason: exit });
                }
                Self::answer(tokens, Answer::Done, effects);
                self.remove(key, effects);
            }
            Phase::Starting if !tokens.is_empty() => {
                let answer = if exit == Exit::Ignore { Answer::Ignored } else { Answer::Failed(exit) };
                Self::answer(tokens, answer, effects);
                self.remove(key, effects);
            }
            Phase::Starting if exit == Exit::Ignore => self.remove(key, effects),
            Phase::Starting => {
                child.phase = Phase::Restarting;
                let generation = child.generation;
                effects.push(Effect::Report { context: ReportContext::StartError, offender, reason: exit });
                effects.push(Effect::Retry { key, generation });
            }
            _ => self.ended_by_itself(now, key, exit, effects),
        }
        self.end_if_empty(effects);
    }

    fn ended_by_itself(&mut self, now: Duration, key: Key, exit: Exit, effects: &mut Vec<Effect>) {
        let Some(child) = self.children.get(&key) else { return };
        let restarts = wants_restart(&child.meta, &exit);
        if worth_a_report(&child.meta, &exit) {
            let offender = child.meta.id.clone();
            effects.push(Effect::Report { context: ReportContext::ChildTerminated, offender, reason: exit });
        }
        if restarts {
            return self.recover(now, key, effects);
        }
        self.remove(key, effects);
    }

    fn recover(&mut self, now: Duration, key: Key, effects: &mut Vec<Effect>) {
        if self.window.bears(now) {
            return self.start(key, effects);
        }
        if let Some(child) = self.children.get(&key) {
            let offender = child.meta.id.clone();
            let reason = Exit::Error("reached_max_restart_intensity".into());
            effects.push(Effect::Report { context: ReportContext::Shutdown, offender, reason });
        }
        self.remove(key, effects);
        self.end(Exit::Shutdown, effects);
    }

    /// Stops all at once: one timer for all that have the same time.
    fn end(&mut self, exit: Exit, effects: &mut Vec<Effect>) {
        if self.ending.is_some() {
            return;
        }
        self.ending = Some(exit);
        let mut times = Vec::new();
        let mut idle = Vec::new();
        for (key, child) in self.children.iter_mut() {
            match child.phase {
                // Somebody stops it already, with a timer of its own.
                Phase::Stopping => continue,
                Phase::Restarting | Phase::Stopped | Phase::Dead(_) => {
                    idle.push(*key);
                    continue;
                }
                Phase::Starting | Phase::Running => {}
            }
            Self::answer(std::mem::take(&mut child.tokens), Answer::NoProcess, effects);
            if let Some(timer) = child.timer.take() {
                self.timers.remove(&timer);
                effects.push(Effect::ClearTimer { timer });
            }
            child.phase = Phase::Stopping;
            match child.meta.shutdown {
                Shutdown::BrutalKill => effects.push(Effect::Kill { key: *key, exit: Exit::Killed }),
                Shutdown::Infinity => effects.push(Effect::Ask { key: *key }),
                Shutdown::After(time) => {
                    effects.push(Effect::Ask { key: *key });
                    times.push(time);
                }
            }
        }
        for key in idle {
            self.remove(key, effects);
        }
        times.sort_unstable();
        times.dedup();
        for after in times {
            self.last_timer += 1;
            self.timers.insert(self.last_timer, Timed::All(after));
            effects.push(Effect::SetTimer { timer: self.last_timer, after });
        }
        self.end_if_empty(effects);
    }

    fn end_if_empty(&mut self, effects: &mut Vec<Effect>) {
        if self.ended || !self.children.is_empty() {
            return;
        }
        if let Some(exit) = self.ending.clone() {
            self.ended = true;
            for &timer in std::mem::take(&mut self.timers).keys() {
                effects.push(Effect::ClearTimer { timer });
            }
            effects.push(Effect::End { exit });
        }
    }

    fn time_up(&mut self, timer: TimerId, effects: &mut Vec<Effect>) {
        match self.timers.remove(&timer) {
            Some(Timed::One(key)) => {
                let Some(child) = self.children.get_mut(&key) else { return };
                child.timer = None;
                let exit = if child.phase == Phase::Starting { Exit::Timeout } else { Exit::Killed };
                effects.push(Effect::Kill { key, exit });
            }
            Some(Timed::All(time)) => {
                for (key, child) in self.children.iter() {
                    if child.timer.is_none() && child.meta.shutdown == Shutdown::After(time) {
                        effects.push(Effect::Kill { key: *key, exit: Exit::Killed });
                    }
                }
            }
            None => {}
        }
    }

    fn remove(&mut self, key: Key, effects: &mut Vec<Effect>) {
        if self.children.remove(&key).is_some() {
            effects.push(Effect::Forget { key });
        }
    }

    fn set_timer(&mut self, key: Key, after: Duration, effects: &mut Vec<Effect>) {
        self.last_timer += 1;
        if let Some(child) = self.children.get_mut(&key) {
            child.timer = Some(self.last_timer);
        }
        self.timers.insert(self.last_timer, Timed::One(key));
        effects.push(Effect::SetTimer { timer: self.last_timer, after });
    }

    fn clear_timer(&mut self, key: Key, effects: &mut Vec<Effect>) {
        if let Some(timer) = self.children.get_mut(&key).and_then(|child| child.timer.take()) {
            self.timers.remove(&timer);
            effects.push(Effect::ClearTimer { timer });
        }
    }

    fn answer(tokens: Vec<Token>, answer: Answer, effects: &mut Vec<Effect>) {
        for token in tokens {
            effects.push(Effect::Answer { token, answer: answer.clone() });
        }
    }
}

impl Machine for Dynamic {
    fn step(&mut self, now: Duration, event: Event, effects: &mut Vec<Effect>) {
        let current = |key: Key, generation: u32| {
            self.children.get(&key).is_some_and(|child| child.generation == generation)
        };
        match event {
            Event::Boot => effects.push(Effect::Booted),
            Event::Ask(token, request) => match (&self.ending, request) {
                (None, request) => self.ask(token, request, effects),
                (Some(_), Request::Start { key, .. }) => {
                    effects.push(Effect::Forget { key });
                    effects.push(Effect::Answer { token, answer: Answer::NoProcess });
                }
                (Some(_), _) => effects.push(Effect::Answer { token, answer: Answer::NoProcess }),
            },
            Event::Ready { key, generation } if current(key, generation) => {
                let Some(child) = self.children.get_mut(&key) else { return };
                if child.phase == Phase::Starting {
                    child.phase = Phase::Running;
                    let tokens = std::mem::take(&mut child.tokens);
                    self.clear_timer(key, effects);
                    effects.push(Effect::Progress { key });
                    Self::answer(tokens, Answer::Started { key }, effects);
                }
            }
            Event::Exited { key, generation, exit } if current(key, generation) => {
                self.exited(now, key, exit, effects);
            }
            Event::Retry { key, generation } if current(key, generation) => {
                if self.phase(key) == Some(&Phase::Restarting) {
                    self.recover(now, key, effects);
                }
            }
            Event::Ready { .. } | Event::Exited { .. } | Event::Retry { .. } => {}
            Event::TimeUp(timer) => self.time_up(timer, effects),
            Event::Shutdown => self.end(Exit::Shutdown, effects),
        }
    }

    fn phase(&self, key: Key) -> Option<&Phase> {
        self.children.get(&key).map(|child| &child.phase)
    }

    fn restarts(&self, key: Key) -> u32 {
        self.children.get(&key).map_or(0, |child| child.generation.saturating_sub(1))
    }

    fn keys(&self) -> Vec<Key> {
        self.children.keys().copied().collect()
    }

    fn find(&self, which: &Which) -> Option<Key> {
        match which {
            Which::Key(key) => self.children.contains_key(key).then_some(*key),
            // Ids are for people here: several children may have the same.
            Which::Id(_) => None,
        }
    }
}
