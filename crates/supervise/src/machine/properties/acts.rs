//! What the dice do to a machine: children that come, go and crash, time that passes, requests.

use std::time::Duration;

use super::{IDS, World};
use crate::{
    exit::Exit,
    machine::{Event, Key, Request, TimerId, Which},
    spec::{AutoShutdown, ChildSpec, Restart, Shutdown},
};

pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    pub(super) fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.roll(of.len() as u64) as usize].clone()
    }
}

pub(super) fn spec(dice: &mut Dice, id: &str, auto_shutdown: AutoShutdown) -> ChildSpec {
    let restart = dice.pick(&[Restart::Permanent, Restart::Transient, Restart::Temporary]);
    let shutdown = dice.pick(&[
        Shutdown::BrutalKill,
        Shutdown::After(Duration::ZERO),
        Shutdown::After(Duration::from_secs(2)),
        Shutdown::Infinity,
    ]);
    let significant =
        restart != Restart::Permanent && auto_shutdown != AutoShutdown::Never && dice.roll(3) == 0;
    let spec = ChildSpec::new(id, |_| async {}).restart(restart).shutdown(shutdown).significant(significant);
    if dice.roll(3) == 0 { spec.start_timeout(Duration::from_secs(1)) } else { spec }
}

impl World {
    /// Some child does what it is about to do anyway.
    pub(super) fn child_acts(&mut self) {
        let keys: Vec<Key> = self.live.keys().copied().collect();
        if keys.is_empty() {
            return;
        }
        let key = self.dice.pick(&keys);
        let bad = self.dice.roll(8);
        let Some(live) = self.live.get(&key) else { return };
        if live.asked {
            let exit = self.dice.pick(&[Exit::Shutdown, Exit::Shutdown, Exit::Normal, Exit::error("late")]);
            self.exit(key, exit);
        } else if !live.said_ready {
            match bad {
                0 => self.exit(key, Exit::error("start")),
                1 => self.exit(key, Exit::Ignore),
                _ => self.says_ready(key),
            }
        }
    }

    pub(super) fn child_crashes(&mut self) {
        let keys: Vec<Key> = self.live.keys().copied().collect();
        if keys.is_empty() {
            return;
        }
        let key = self.dice.pick(&keys);
        let exit = self.dice.pick(&[
            Exit::error("crash"),
            Exit::error("crash"),
            Exit::Normal,
            Exit::Killed,
            Exit::ShutdownWith("done".into()),
        ]);
        self.exit(key, exit);
    }

    pub(super) fn time_passes(&mut self) {
        self.now += Duration::from_millis(self.dice.roll(1500));
        let due: Vec<TimerId> =
            self.timers.iter().filter(|(_, due)| **due <= self.now).map(|(timer, _)| *timer).collect();
        for timer in due {
            self.timers.remove(&timer);
            self.queue.push_back(Event::TimeUp(timer));
        }
    }

    pub(super) fn ask(&mut self) {
        let id = self.dice.pick(&IDS);
        let which = match self.strategy {
            Some(_) => Which::Id(id.into()),
            None => Which::Key(1 + self.dice.roll(self.last_key.max(1))),
        };
        let request = match self.dice.roll(6) {
            0 | 1 => {
                self.last_key += 1;
                let spec = spec(&mut self.dice, id, AutoShutdown::Never);
                self.specs.insert(self.last_key, spec.clone());
                Request::Start { key: self.last_key, spec: Box::new(spec) }
            }
            2 | 3 => Request::Terminate(which),
            4 => Request::Restart(which),
            _ => Request::Delete(which),
        };
        self.last_token = self.last_token.saturating_add(1);
        self.open.insert(self.last_token, request.clone());
        self.queue.push_back(Event::Ask(self.last_token, request));
    }

    /// Lets everything come to its end: who is asked stops, and time passes.
    pub(super) fn drain(&mut self) {
        for _ in 0..1000 {
            while !self.queue.is_empty() {
                self.deliver();
            }
            let asked = self.live.iter().find(|(_, live)| live.asked).map(|(key, _)| *key);
            if let Some(key) = asked {
                let deaf = self.specs[&key].shutdown != Shutdown::Infinity && self.dice.roll(2) == 0;
                if !deaf {
                    self.exit(key, Exit::Shutdown);
                    continue;
                }
            }
            self.now += Duration::from_secs(10);
            self.time_passes();
            if self.queue.is_empty() && asked.is_none() {
                return;
            }
        }
    }

    /// Lets everything come to rest: who starts becomes ready, who is asked stops, nobody crashes.
    pub(super) fn rest(&mut self) {
        loop {
            while !self.queue.is_empty() {
                self.deliver();
            }
            let busy = self.live.iter().find(|(_, live)| live.asked || !live.said_ready);
            let Some((&key, live)) = busy else { return };
            if live.asked {
                self.exit(key, Exit::Shutdown);
            } else {
                self.says_ready(key);
            }
        }
    }

    fn says_ready(&mut self, key: Key) {
        if let Some(live) = self.live.get_mut(&key) {
            live.said_ready = true;
            let generation = live.generation;
            self.queue.push_back(Event::Ready { key, generation });
        }
    }
}
