//! A tab that has a run, or waits until its owner goes: it brings the data and the function, hears what happens, and does
//! what a person would where the run stands still. It outlives its instances.

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{Either, LocalBoxFuture, select};
use tinkex::error::{Error, Kind};
use tinkex::platform::plain::{Given, Wrong};
use tinkex::run::{Brought, Cause, Data, End, Run, Runs};

use super::hears::Hearer;
use super::work::Source;
use super::{Opened, RunWorld};
use crate::around::Around;
use crate::frame::Frame;
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
    frame: Frame,
    pub run: RefCell<Option<Run>>,
    unsettled: RefCell<Rc<Cell<u32>>>,
    /// Instances that it has made.
    lives: Cell<u32>,
}

/// What a person asks of a run.
#[derive(Clone, Copy, Debug)]
pub enum Command {
    Pause,
    Resume,
    ResumeFromCheckpoint,
    /// With nothing of the step under way.
    ResumeAfresh,
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
        let (frame, closed) = Frame::new();
        let tab = Rc::new(Tab {
            world: world.clone(),
            number,
            frame,
            run: RefCell::default(),
            unsettled: RefCell::default(),
            lives: Cell::new(0),
        });
        let living = tab.clone();
        let life = async move {
            select(pin!(living.live(manners)), closed).await;
            living.let_go();
            living.frame.close();
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
        self.frame.is_open()
    }

    /// What its run told last.
    pub fn status(&self) -> Option<String> {
        let run = self.run.borrow().clone()?;
        Some(String::from_utf8_lossy(&run.status()).into_owned())
    }

    /// Whether the disk has something to do for it.
    pub fn has_waiting(&self) -> bool {
        self.frame.connection.has_waiting()
    }

    /// Kills its instance after so many polls.
    pub fn trap(&self, polls: u64) {
        self.frame.trap(polls);
    }

    pub fn kill(&self) {
        if self.frame.kill(&self.world) {
            self.let_go();
        }
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
            Command::ResumeAfresh => "command: resume, and begin the step again",
            Command::Stop | Command::StopAsItIs => "command: stop",
            Command::Checkpoint => "command: checkpoint",
        });
        let asked: LocalBoxFuture<'static, Result<(), Error>> = match command {
            Command::Pause => run.pause(),
            Command::Resume => run.resume(None, false),
            Command::ResumeFromCheckpoint => run.resume(Some("checkpoint".into()), false),
            Command::ResumeAfresh => run.resume(None, true),
            Command::Stop => run.stop(true),
            Command::StopAsItIs => run.stop(false),
            Command::Checkpoint => run.checkpoint().map(|saved| saved.map(drop)).boxed_local(),
        };
        let unsettled = self.unsettled.borrow().clone();
        unsettled.set(unsettled.get() + 1);
        let (tally, number) = (tally.clone(), self.number);
        if let Some(instance) = self.frame.living_instance() {
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
        self.frame.forget();
    }

    pub fn has_run(&self) -> bool {
        self.is_open() && self.living_run().is_some()
    }

    fn living_run(&self) -> Option<Run> {
        self.frame.living_instance().and_then(|_| self.run.borrow().clone())
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
            let (opened, death) = Opened::new(&self.world, &self.frame.connection, owner);
            let Opened { instance, service, runs, .. } = &opened;
            self.frame.hold(instance);
            self.unsettled.replace(opened.unsettled.clone());
            self.world.opened.borrow_mut().push(opened.clone());
            let left = match select(pin!(self.use_runs(instance, runs)), death).await {
                Either::Left((left, _)) => {
                    service.close();
                    left
                }
                Either::Right(_) => {
                    self.frame.bereaved(tally);
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
        let Around { tally, .. } = &**self.world;
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
        let brought = self.brings();
        let hearer = Rc::new(Hearer::new(self));
        let opened = runs.open(id, brought, hearer);
        match instance.run(opened).await.ok()? {
            Ok(run) => Some(run),
            Err(error) => {
                tally.tell(format_args!("tab {} can't open the run: {error}", self.number));
                match error.kind() {
                    // As the page then says, which needs no run for it.
                    Kind::InvalidArgument { field } if field == "data" => tally.fault("cause: needs_data"),
                    Kind::InvalidArgument { field } if field == "step" => tally.fault("cause: needs_step"),
                    Kind::DataMismatch => tally.fault("tab: brings other data"),
                    _ => {}
                }
                None
            }
        }
    }

    /// What it has for the run: mostly what the run was started with.
    fn brings(&self) -> Brought {
        let RunWorld { plan, .. } = &*self.world;
        let Around { dice, tally, disk, .. } = &**self.world;
        if dice.happens(30) {
            return Brought::default();
        }
        let is_in_a_step = !disk.keys_of("run-call/").is_empty();
        let version = if dice.happens(if is_in_a_step { 300 } else { 60 }) { "2" } else { "1" };
        if version == "2" && plan.source == Source::Function {
            tally.fault("step: is of another version");
        }
        let brought = plan.brought(version);
        match brought.data {
            Some(Data::Indexed { length, .. }) if dice.happens(30) => {
                Brought { data: Some(Data::Indexed { length, fingerprint: "others".into() }), ..brought }
            }
            _ => brought,
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
            _ => Left::Again,
        }
    }
}
