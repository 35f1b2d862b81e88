//! A tab that has a run, or waits until its owner goes: it brings the data and the function, hears what happens, and does
//! what a person would where the run stands still. It outlives its instances.

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{Either, LocalBoxFuture, select};
use tinkex::error::Error;
use tinkex::platform::plain::{Given, Wrong};
use tinkex::run::{Cause, End, Run, Runs};
use tinkex_supervise::{Reply, reply};

use super::hears::Hearer;
use super::work::Source;
use super::{Opened, RunWorld, counts};
use crate::around::Around;
use crate::disk::Connection;
use crate::instance::Instance;

/// How often a person looks at a run.
const LOOK: Duration = Duration::from_millis(400);

/// Whether a tab asks for the lock before it opens the run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Manners {
    Waits,
    /// It thinks that it leads, whatever the others think.
    Barges,
}

pub struct Tab {
    pub world: Rc<RunWorld>,
    number: u32,
    connection: Rc<Connection>,
    instance: RefCell<Option<Instance>>,
    pub run: RefCell<Option<Run>>,
    unsettled: RefCell<Rc<Cell<u32>>>,
    /// Instances that it has made.
    lives: Cell<u32>,
    closing: RefCell<Option<Reply<()>>>,
}

/// What a person asks of a run.
#[derive(Clone, Copy, Debug)]
pub enum Command {
    Pause,
    Resume,
    ResumeFromCheckpoint,
    Stop,
    StopAsItIs,
    Checkpoint,
}

/// Why an instance's run is not used any longer.
enum Left {
    /// It is over.
    Over,
    /// Something went wrong; it is to be opened again.
    Again,
    /// Another tab has it.
    Fenced,
}

impl Tab {
    pub fn open(world: &Rc<RunWorld>, number: u32, manners: Manners) -> Rc<Tab> {
        let (closing, closed) = reply();
        let tab = Rc::new(Tab {
            world: world.clone(),
            number,
            connection: Rc::default(),
            instance: RefCell::default(),
            run: RefCell::default(),
            unsettled: RefCell::default(),
            lives: Cell::new(0),
            closing: RefCell::new(Some(closing)),
        });
        let living = tab.clone();
        let life = async move {
            select(pin!(living.live(manners)), closed).await;
            living.let_go();
            living.closing.take();
        };
        world.runtime.spawn(life.boxed_local());
        tab
    }

    /// What is kept of the run, read when nothing goes wrong any more.
    pub async fn read(world: &Rc<RunWorld>) -> Vec<u8> {
        let (opened, _death) = Opened::new(world, &Rc::default(), "reader".into());
        let id = world.notes.borrow().run.clone().expect("a run was started");
        let read = opened.instance.run(opened.runs.read(id, 0.0)).await.expect("the instance lives");
        opened.service.close();
        world.opened.borrow_mut().push(opened);
        world.runtime.timer(Duration::from_secs(20)).await;
        read.expect("its records can be read")
    }

    pub fn is_open(&self) -> bool {
        self.closing.borrow().is_some()
    }

    /// What its run told last.
    pub fn status(&self) -> Option<String> {
        let run = self.run.borrow().clone()?;
        Some(String::from_utf8_lossy(&run.status()).into_owned())
    }

    /// Kills its instance after so many polls.
    pub fn trap(&self, polls: u64) {
        if let Some(instance) = &*self.instance.borrow() {
            instance.die_after(polls);
        }
    }

    pub fn kill(&self) {
        let Some(closing) = self.closing.take() else { return };
        self.trap(0);
        let Around { tally, dice, .. } = &**self.world;
        tally.fault("page: is killed");
        if self.connection.has_waiting() {
            tally.fault("page: is killed with a commit under way");
        }
        self.connection.cut(dice.roll(self.connection.waiting() as u64 + 1) as usize);
        self.let_go();
        let _ = closing.send(());
    }

    pub fn hide(&self) {
        if let Some(run) = self.living_run() {
            self.world.tally.fault("page: is hidden");
            run.hidden();
        }
    }

    /// Asks something of its run, if it has one.
    pub fn command(&self, command: Command) {
        let Some(run) = self.living_run() else { return };
        let Around { tally, .. } = &**self.world;
        tally.fault(match command {
            Command::Pause => "command: pause",
            Command::Resume => "command: resume",
            Command::ResumeFromCheckpoint => "command: resume from a checkpoint",
            Command::Stop | Command::StopAsItIs => "command: stop",
            Command::Checkpoint => "command: checkpoint",
        });
        let asked: LocalBoxFuture<'static, Result<(), Error>> = match command {
            Command::Pause => run.pause(),
            Command::Resume => run.resume(None, false),
            Command::ResumeFromCheckpoint => run.resume(Some("checkpoint".into()), false),
            Command::Stop => run.stop(true),
            Command::StopAsItIs => run.stop(false),
            Command::Checkpoint => run.checkpoint().map(|saved| saved.map(drop)).boxed_local(),
        };
        let unsettled = self.unsettled.borrow().clone();
        unsettled.set(unsettled.get() + 1);
        let (tally, number) = (tally.clone(), self.number);
        if let Some(instance) = &*self.instance.borrow() {
            drop(instance.run(async move {
                if let Err(error) = asked.await {
                    tally.tell(format_args!("tab {number}: {command:?} rejects: {error}"));
                    tally.fault("command: rejects");
                }
                unsettled.set(unsettled.get() - 1);
            }));
        }
    }

    /// At the end of the world.
    pub fn forget(&self) {
        self.run.take();
        self.instance.take();
    }

    fn living_run(&self) -> Option<Run> {
        let alive = self.instance.borrow().as_ref().is_some_and(Instance::is_alive);
        self.run.borrow().clone().filter(|_| alive)
    }

    fn let_go(&self) {
        if self.world.lock.get() == Some(self.number) {
            self.world.lock.set(None);
        }
    }

    async fn live(self: &Rc<Self>, manners: Manners) {
        let Around { runtime, dice, tally, .. } = &**self.world;
        if manners == Manners::Waits {
            self.lead().await;
        }
        loop {
            self.lives.set(self.lives.get() + 1);
            let owner = format!("tab-{}/{}", self.number, self.lives.get());
            let (opened, death) = Opened::new(&self.world, &self.connection, owner);
            let Opened { instance, service, runs, .. } = &opened;
            self.instance.replace(Some(instance.clone()));
            self.unsettled.replace(opened.unsettled.clone());
            self.world.opened.borrow_mut().push(opened.clone());
            let left = match select(pin!(self.use_runs(instance, runs)), death).await {
                Either::Left((left, _)) => {
                    service.close();
                    left
                }
                Either::Right(_) => {
                    tally.fault("instance: dies");
                    if self.connection.has_waiting() {
                        tally.fault("instance: dies with a commit under way");
                    }
                    Left::Again
                }
            };
            self.run.take();
            match left {
                Left::Over => return,
                Left::Again => runtime.timer(dice.up_to_ms(1_000)).await,
                Left::Fenced => {
                    self.let_go();
                    runtime.timer(Duration::from_secs(5) + dice.up_to_ms(10_000)).await;
                    self.lead().await;
                }
            }
        }
    }

    /// Waits until no other tab leads.
    async fn lead(&self) {
        let Around { runtime, dice, tally, .. } = &**self.world;
        let lock = &self.world.lock;
        let mut waited = false;
        while lock.get().is_some_and(|owner| owner != self.number) {
            if !std::mem::replace(&mut waited, true) {
                tally.fault("tab: waits for the run's owner");
            }
            runtime.timer(dice.up_to_ms(100)).await;
        }
        if waited {
            tally.fault("tab: takes over from an owner that has gone");
        }
        lock.set(Some(self.number));
    }

    async fn use_runs(self: &Rc<Self>, instance: &Instance, runs: &Runs) -> Left {
        let Around { dice, tally, runtime, .. } = &**self.world;
        if dice.happens(100) && self.world.notes.borrow().run.is_some() {
            tally.fault("tab: reads a run that it has not opened");
            let id = self.world.notes.borrow().run.clone().unwrap_or_default();
            if let Ok(Ok(read)) = instance.run(runs.read(id, 0.0)).await {
                let wrong = Wrong::default();
                let status = Given::new(&read, &wrong).object("status");
                if status.get("cause").is_some() && status.object("cause").text("kind") == "needs_owner" {
                    tally.fault("cause: needs_owner");
                }
            }
        }
        let opened = self.open_run(instance, runs).await;
        let Some(run) = opened else { return Left::Again };
        self.run.replace(Some(run.clone()));
        let mut ended = pin!(instance.run(run.ended()));
        loop {
            match select(&mut ended, runtime.timer(LOOK)).await {
                Either::Left((Ok(end), _)) => {
                    let left = self.left(&end);
                    tally.tell(format_args!("tab {}: {end:?}", self.number));
                    let _ = instance.run(runs.close(&run)).await;
                    return left;
                }
                Either::Left((Err(_), _)) => panic!("a run was dropped by a living instance"),
                Either::Right(_) => self.look(&run),
            }
        }
    }

    /// Starts the run where nobody has, and opens it.
    async fn open_run(self: &Rc<Self>, instance: &Instance, runs: &Runs) -> Option<Run> {
        let Around { dice, tally, .. } = &**self.world;
        let known = self.world.notes.borrow().run.clone();
        let id = match known {
            Some(id) => id,
            None => {
                let id = instance.run(runs.start(&self.world.spec())).await.ok()?.ok()?;
                self.world.notes.borrow_mut().run.get_or_insert(id).clone()
            }
        };
        let another_has_it = self.world.lock.get().is_some_and(|owner| owner != self.number);
        if another_has_it {
            tally.fault("tab: opens a run that another one has");
        }
        if self.world.notes.borrow().over {
            tally.fault("tab: opens a run that is over");
        }
        let version = if dice.happens(80) { "2" } else { "1" };
        if version == "2" && self.world.plan.source == Source::Function {
            tally.fault("step: is of another version");
        }
        let hearer = Rc::new(Hearer::new(self));
        let opened = runs.open(id, self.world.plan.brought(version), hearer);
        match instance.run(opened).await.ok()? {
            Ok(run) => Some(run),
            Err(error) => {
                tally.tell(format_args!("tab {} can't open the run: {error}", self.number));
                None
            }
        }
    }

    fn left(&self, End { state, cause }: &End) -> Left {
        match (*state, cause) {
            ("completed" | "stopped", _) => {
                self.world.notes.borrow_mut().over = true;
                Left::Over
            }
            (_, Some((Cause::Fenced, _))) => {
                self.world.tally.fault("tab: is fenced");
                self.world.tally.fault("cause: fenced");
                Left::Fenced
            }
            (_, Some((cause, _))) => {
                if let Some(fault) = counts::fault("cause", cause.as_str()) {
                    self.world.tally.fault(fault);
                }
                Left::Again
            }
            _ => Left::Again,
        }
    }

    /// Does what a person would who sees that the run stands still.
    fn look(&self, run: &Run) {
        let status = run.status();
        let wrong = Wrong::default();
        let given = Given::new(&status, &wrong);
        if given.optional_text("state").as_deref() != Some("paused") || !self.world.dice.happens(400) {
            return;
        }
        let cause = given.object("cause").text("kind");
        let thrown = given.object("cause").text("message").contains(super::hears::THROWN);
        self.command(match &*cause {
            "refused" | "loss_not_finite" | "function_changed" => Command::ResumeFromCheckpoint,
            // Its function has met a refusal, and would meet it again.
            "step_failed" if self.world.plan.source == Source::Function && !thrown => {
                Command::ResumeFromCheckpoint
            }
            "checkpoint_gone" => Command::StopAsItIs,
            // It knows of a refusal before, whatever has stopped the run since.
            _ if self.world.notes.borrow().spoilt.contains_key(&given.count("incarnation")) => {
                Command::ResumeFromCheckpoint
            }
            "step_mismatch" if self.world.dice.happens(500) => Command::ResumeFromCheckpoint,
            _ => Command::Resume,
        });
    }
}
