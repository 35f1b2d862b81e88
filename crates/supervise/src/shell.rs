//! The thin shell around a machine: its mailbox, its loop, and the doing of what it decides.

use std::{
    any::Any,
    cell::{Cell, OnceCell, RefCell},
    collections::VecDeque,
    future::poll_fn,
    rc::Rc,
    task::{Context as TaskContext, Poll, Waker},
};

use futures_channel::oneshot;

use crate::{
    answers::{Answering, ChildError, ChildInfo, Outcome, Started},
    context::Context,
    deadlines::Deadlines,
    exit::{Exit, PanicInfo},
    faults,
    machine::{Answer, Effect, Event, Key, Machine, Meta, Phase, Request, Token, Which},
    map::Map,
    panics,
    pid::{Pid, State},
    process::{self, Callers, Owner, Process, Start},
    report::Report,
    runtime::LocalBoxFuture,
    spec::{ChildSpec, Restart},
    tree::Node,
};

/// So many events are handled before everything else that is ready gets its turn.
const BATCH: usize = 256;
/// A step that panics so many times in a row is given up: the supervisor crashes, and its own supervisor decides.
const PATIENCE: u32 = 3;

/// One run of a supervisor.
pub(crate) struct Shell {
    name: Rc<str>,
    pid: OnceCell<Pid>,
    /// The callers of its children.
    calling: Rc<Callers>,
    machine: RefCell<Box<dyn Machine>>,
    events: RefCell<VecDeque<Event>>,
    effects: RefCell<VecDeque<Effect>>,
    slots: RefCell<Map<Key, Slot>>,
    callers: RefCell<Map<Token, oneshot::Sender<Result<Outcome, ChildError>>>>,
    last_key: Cell<Key>,
    last_token: Cell<Token>,
    deadlines: RefCell<Deadlines>,
    waker: RefCell<Option<Waker>>,
    /// The machine is in the midst of a step.
    stepping: Cell<bool>,
    /// With which exit the loop ends, once it does.
    end: RefCell<Option<Exit>>,
}

/// What the shell keeps of a child.
struct Slot {
    spec: ChildSpec,
    /// Its latest start.
    pid: Option<Pid>,
    info: Option<Rc<dyn Any>>,
}

impl Shell {
    /// Children that are there from the outset have the keys 1, 2, …
    pub(crate) fn new(
        name: Rc<str>,
        ctx: &Context,
        machine: Box<dyn Machine>,
        children: &[ChildSpec],
    ) -> Rc<Self> {
        let slot = |spec: &ChildSpec| Slot { spec: spec.clone(), pid: None, info: None };
        let slots: Map<_, _> = (1..).zip(children.iter().map(slot)).collect();
        let shell = Rc::new(Self {
            name,
            pid: OnceCell::new(),
            calling: Callers::of(&ctx.0),
            machine: RefCell::new(machine),
            events: RefCell::new([Event::Boot].into()),
            effects: RefCell::default(),
            last_key: Cell::new(slots.len() as Key),
            slots: RefCell::new(slots),
            callers: RefCell::default(),
            last_token: Cell::new(0),
            deadlines: RefCell::new(Deadlines::new(ctx.system().clone())),
            waker: RefCell::default(),
            stepping: Cell::new(false),
            end: RefCell::default(),
        });
        let _ = shell.pid.set(ctx.pid());
        ctx.0.set_keeper(Rc::downgrade(&shell));
        shell
    }

    /// The keys that [`new`](Self::new) gives to children.
    pub(crate) fn metas(children: &[ChildSpec]) -> impl Iterator<Item = (Key, Meta)> {
        (1..).zip(children.iter().map(Meta::from))
    }

    /// The life of the supervisor's process. However it ends, no child outlives it.
    pub(crate) fn run(self: Rc<Self>, ctx: Context) -> LocalBoxFuture<'static, Exit> {
        let reaper = Reaper(self.clone());
        Box::pin(async move {
            let events = Rc::downgrade(&self);
            ctx.show_queue("events", move || events.upgrade().map_or(0, |shell| shell.events.borrow().len()));
            let mut shutdown = Some(ctx.shutdown());
            let mut stumbles = 0;
            let exit = poll_fn(|cx| {
                self.waker.replace(Some(cx.waker().clone()));
                if let Some(asked) = &mut shutdown
                    && std::pin::Pin::new(asked).poll(cx).is_ready()
                {
                    shutdown = None;
                    self.post(Event::Shutdown);
                }
                self.turn(&ctx, cx, &mut stumbles)
            })
            .await;
            drop(reaper);
            exit
        })
    }

    /// Handles what there is. A panic on the way is reported, and what was not yet done is tried again.
    fn turn(self: &Rc<Self>, ctx: &Context, cx: &mut TaskContext<'_>, stumbles: &mut u32) -> Poll<Exit> {
        for _ in 0..BATCH {
            match panics::catch(|| self.advance(ctx, cx)) {
                Ok(more) => {
                    *stumbles = 0;
                    if let Some(exit) = self.end.borrow_mut().take() {
                        return Poll::Ready(exit);
                    }
                    if !more {
                        return Poll::Pending;
                    }
                }
                Err(caught) => {
                    let callers = [vec![self.name.clone()], ctx.callers()].concat();
                    let (message, place) = (caught.message, caught.place);
                    let info = PanicInfo { message, place, callers, in_destructor: false };
                    let reason = Exit::Panic(Rc::new(info));
                    ctx.system()
                        .report(Report::Contained { supervisor: self.name.clone(), reason: reason.clone() });
                    *stumbles += 1;
                    if *stumbles >= PATIENCE || self.stepping.get() {
                        return Poll::Ready(reason);
                    }
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// One event, with all that follows from it. Whether there may be more.
    ///
    /// An event leaves the queue when its step begins, an effect when its turn has come: a panic before leaves it in
    /// place, to be tried again. The machine's step runs nobody else's code and has nothing that panics; should it
    /// do so nevertheless, its state can't be trusted any more, and the supervisor crashes, as it would in OTP.
    fn advance(self: &Rc<Self>, ctx: &Context, cx: &mut TaskContext<'_>) -> bool {
        while !self.effects.borrow().is_empty() {
            faults::point("supervisor effect");
            let effect = self.effects.borrow_mut().pop_front();
            if let Some(effect) = effect {
                self.perform(ctx, effect);
            }
        }
        while let Poll::Ready(timer) = self.deadlines.borrow_mut().poll_next(cx) {
            self.events.borrow_mut().push_back(Event::TimeUp(timer));
        }
        if self.events.borrow().is_empty() {
            return false;
        }
        faults::point("supervisor step");
        let Some(event) = self.events.borrow_mut().pop_front() else { return false };
        let mut effects = Vec::new();
        self.stepping.set(true);
        self.machine.borrow_mut().step(ctx.system().now(), event, &mut effects);
        self.stepping.set(false);
        self.effects.borrow_mut().extend(effects);
        true
    }

    fn perform(self: &Rc<Self>, ctx: &Context, effect: Effect) {
        match effect {
            Effect::Start { key, generation, restarts } => self.start(ctx, key, generation, restarts),
            Effect::Ask { key } => {
                if let Some(pid) = self.pid_of(key) {
                    pid.ask_to_stop();
                }
            }
            Effect::Kill { key, exit } => {
                if let Some(pid) = self.pid_of(key) {
                    pid.kill(exit);
                }
            }
            Effect::SetTimer { timer, after } => self.deadlines.borrow_mut().set(timer, after),
            Effect::ClearTimer { timer } => self.deadlines.borrow_mut().clear(timer),
            Effect::Retry { key, generation } => self.post(Event::Retry { key, generation }),
            Effect::Forget { key } => {
                let forgotten = self.slots.borrow_mut().remove(&key);
                ctx.system().changed();
                // What its factory has captured is dropped here, not borrowed, since it may do anything.
                drop(forgotten);
            }
            Effect::Answer { token, answer } => {
                let caller = self.callers.borrow_mut().remove(&token);
                if let Some(caller) = caller {
                    // One who does not wait any more is not told.
                    let _ = caller.send(self.outcome(answer));
                }
            }
            Effect::Report { context, offender, reason } => {
                let supervisor = self.name.clone();
                ctx.system().report(Report::Supervisor { supervisor, context, reason, offender });
            }
            Effect::Progress { key } => {
                let (Some(pid), supervisor) = (self.pid_of(key), self.name.clone()) else { return };
                ctx.system().report(Report::Progress { supervisor, child: pid.name().clone(), pid });
            }
            Effect::Booted => ctx.ready(),
            Effect::End { exit } => {
                self.end.replace(Some(exit));
            }
        }
    }

    fn start(self: &Rc<Self>, ctx: &Context, key: Key, generation: u32, restarts: u32) {
        let Some(spec) = self.spec_of(key) else { return };
        if spec.restart == Restart::Temporary
            && let Some(slot) = self.slots.borrow_mut().get_mut(&key)
        {
            // What it is made from may be large, and is not needed again. It is `spec`'s from here.
            slot.spec.factory = None;
        }
        let factory = spec.factory;
        let pid = process::spawn(
            ctx.system(),
            Start {
                name: spec.id,
                kind: spec.kind,
                parent: Some(ctx.0.id),
                callers: Some(self.calling.clone()),
                key,
                generation,
                restarts,
                ready_at_once: spec.ready_at_once,
                owner: self.clone(),
                body: Box::new(move |ctx| match factory {
                    Some(factory) => factory(ctx),
                    None => Box::pin(async { Exit::NoProcess }),
                }),
            },
        );
        let former = self.slots.borrow_mut().get_mut(&key).and_then(|slot| {
            slot.info = None;
            slot.pid.replace(pid)
        });
        drop(former);
        if spec.ready_at_once {
            self.post(Event::Ready { key, generation });
        }
    }

    /// Puts an event at the end of the queue.
    fn post(&self, event: Event) {
        self.events.borrow_mut().push_back(event);
        let waker = self.waker.borrow_mut().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Asks the machine for something; the answer comes through the channel.
    pub(crate) fn ask(&self, request: Request) -> Answering {
        let (sender, receiver) = oneshot::channel();
        let token = self.last_token.get() + 1;
        self.last_token.set(token);
        self.callers.borrow_mut().insert(token, sender);
        self.post(Event::Ask(token, request));
        Answering(Ok(receiver))
    }

    /// Asks for the start of a child that is new to this supervisor.
    pub(crate) fn ask_for_start(&self, spec: ChildSpec) -> Answering {
        let key = self.last_key.get() + 1;
        self.last_key.set(key);
        let meta = Meta::from(&spec);
        self.slots.borrow_mut().insert(key, Slot { spec, pid: None, info: None });
        self.ask(Request::Start { key, meta })
    }

    fn outcome(&self, answer: Answer) -> Result<Outcome, ChildError> {
        Err(match answer {
            Answer::Started { key } => {
                let slots = self.slots.borrow();
                let slot = slots.get(&key);
                let pid = slot.and_then(|slot| slot.pid.clone());
                return Ok(Outcome::Started(Started { pid, info: slot.and_then(|slot| slot.info.clone()) }));
            }
            Answer::Ignored => return Ok(Outcome::Started(Started { pid: None, info: None })),
            Answer::Done => return Ok(Outcome::Done),
            Answer::AlreadyStarted { key } => match self.pid_of(key) {
                Some(pid) => ChildError::AlreadyStarted(pid),
                None => ChildError::AlreadyPresent,
            },
            Answer::AlreadyPresent => ChildError::AlreadyPresent,
            Answer::Running => ChildError::Running,
            Answer::Restarting => ChildError::Restarting,
            Answer::NotFound => ChildError::NotFound,
            Answer::MaxChildren => ChildError::MaxChildren,
            Answer::Failed(exit) => ChildError::Failed(exit),
            Answer::NoProcess => ChildError::NoProcess,
        })
    }

    /// The process of the supervisor itself.
    pub(crate) fn pid(&self) -> Option<&Pid> {
        self.pid.get()
    }

    pub(crate) fn pid_of(&self, key: Key) -> Option<Pid> {
        self.slots.borrow().get(&key).and_then(|slot| slot.pid.clone())
    }

    pub(crate) fn find(&self, id: &str) -> Option<Key> {
        self.machine.borrow().find(&Which::Id(id.into()))
    }

    /// The key of the child whose latest start is this process, or was it before the restart that is under way.
    pub(crate) fn key_of(&self, pid: &Pid) -> Option<Key> {
        let key = pid.0.key;
        let latest = self.pid_of(key)?;
        let restarts = matches!(self.machine.borrow().phase(key), Some(Phase::Restarting | Phase::Starting));
        (latest == *pid || (restarts && latest.0.parent == pid.0.parent)).then_some(key)
    }

    pub(crate) fn spec_of(&self, key: Key) -> Option<ChildSpec> {
        self.slots.borrow().get(&key).map(|slot| slot.spec.clone())
    }

    /// The children in start order, as the machine sees them.
    pub(crate) fn children(&self) -> Vec<ChildInfo> {
        let machine = self.machine.borrow();
        let slots = self.slots.borrow();
        let info = |key| {
            let slot = slots.get(&key)?;
            let phase = machine.phase(key)?;
            // OTP answers between the attempts to start a child, never during one: here one sees the same.
            let starts_again = *phase == Phase::Starting && machine.restarts(key) > 0;
            Some(ChildInfo {
                id: slot.spec.id.clone(),
                kind: slot.spec.kind,
                pid: slot.pid.clone().filter(|_| matches!(phase, Phase::Running | Phase::Stopping)),
                restarting: *phase == Phase::Restarting || starts_again,
                restarts: machine.restarts(key),
            })
        };
        machine.keys().into_iter().filter_map(info).collect()
    }

    /// The children that don't run, as lines of the tree.
    pub(crate) fn absent(&self) -> Vec<Node> {
        let machine = self.machine.borrow();
        let slots = self.slots.borrow();
        let absent = slots.iter().filter_map(|(key, slot)| {
            let pid = slot.pid.as_ref().filter(|pid| !pid.is_alive())?;
            let waits = machine.phase(*key) == Some(&Phase::Restarting);
            Some(Node::of(&pid.0, if waits { State::Restarting } else { State::Stopped }))
        });
        absent.collect()
    }
}

impl Owner for Shell {
    fn ready(self: Rc<Self>, process: &Rc<Process>, info: Option<Rc<dyn Any>>) {
        if let Some(slot) = self.slots.borrow_mut().get_mut(&process.key) {
            slot.info = info;
        }
        self.post(Event::Ready { key: process.key, generation: process.generation });
    }

    fn exited(self: Rc<Self>, process: &Rc<Process>, exit: Exit) {
        self.post(Event::Exited { key: process.key, generation: process.generation, exit });
    }
}

/// However the supervisor ends, its children end first: the last one started, first.
struct Reaper(Rc<Shell>);

impl Drop for Reaper {
    fn drop(&mut self) {
        let left: Vec<Pid> =
            self.0.slots.borrow().values().rev().filter_map(|slot| slot.pid.clone()).collect();
        for pid in left {
            pid.kill(Exit::Killed);
        }
        self.0.events.take();
        self.0.effects.take();
        // Whoever still waits for an answer learns that there is none.
        drop(self.0.callers.take());
        let slots = self.0.slots.take();
        for slot in slots.into_values() {
            // What a spec has captured may panic when it is dropped: the others are dropped all the same.
            let _ = panics::catch(|| drop(slot));
        }
    }
}
