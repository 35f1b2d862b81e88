//! The thin shell around a machine: its mailbox, its loop, and the doing of what it decides.

mod life;

use std::{
    any::Any,
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::ready,
    rc::Rc,
    task::{Context as TaskContext, Poll, Waker},
    vec,
};

use crate::{
    answers::{Answering, ChildInfo, Outcome},
    callers::Callers,
    context::Context,
    deadlines::Deadlines,
    exit::Exit,
    faults,
    machine::{Effect, Event, Kept, Key, Machine, Phase, Request, Token, Which},
    map::Map,
    pid::{Pid, State},
    process::{self, Keeper, Owner, Process, Start},
    reply::{Reply, reply},
    report::Report,
    spec::{ChildSpec, Restart},
    tree::Node,
};

/// One run of a supervisor.
pub(crate) struct Shell {
    ctx: Context,
    /// The callers of its children.
    calling: Rc<Callers>,
    desk: RefCell<Desk>,
    deadlines: RefCell<Deadlines>,
    waker: Cell<Option<Waker>>,
    /// The machine is in the midst of a step.
    stepping: Cell<bool>,
    /// With which exit the loop ends, once it does.
    end: Cell<Option<Exit>>,
}

/// What is there to be worked on. Not borrowed while anybody else's code runs.
struct Desk {
    machine: Box<dyn Machine>,
    events: VecDeque<Event>,
    /// What is left to do of the last step.
    effects: vec::IntoIter<Effect>,
    callers: Map<Reply<Outcome>>,
    /// The last key or token that was given.
    last: Key,
}

impl Desk {
    fn next(&mut self) -> Key {
        self.last += 1;
        self.last
    }

    fn kept(&mut self, key: Key) -> Option<&mut Kept> {
        self.machine.children_mut().get_mut(key).map(|child| &mut child.kept)
    }
}

impl Shell {
    pub(crate) fn new(ctx: Context, machine: Box<dyn Machine>) -> Rc<Self> {
        let shell = Rc::new(Self {
            calling: Callers::of(&ctx.0),
            desk: RefCell::new(Desk {
                last: machine.children().len() as Key,
                machine,
                events: [Event::Boot].into(),
                effects: Vec::new().into_iter(),
                callers: Map::default(),
            }),
            deadlines: RefCell::new(Deadlines::new(ctx.system().clone())),
            waker: Cell::default(),
            stepping: Cell::new(false),
            end: Cell::default(),
            ctx,
        });
        shell.ctx.0.set_keeper(Keeper::Children(Rc::downgrade(&shell)));
        shell
    }

    /// One event, with all that follows from it. Whether there may be more.
    ///
    /// An event leaves the queue when its step begins, an effect when its turn has come: a panic before leaves it in
    /// place, to be tried again. The machine's step runs nobody else's code and has nothing that panics; should it
    /// do so nevertheless, its state can't be trusted any more, and the supervisor crashes, as it would in OTP.
    fn advance(self: &Rc<Self>, cx: &mut TaskContext<'_>) -> bool {
        while let Some(effect) = self.next_effect() {
            self.perform(effect);
        }
        while let Poll::Ready(timer) = self.deadlines.borrow_mut().poll_next(cx) {
            self.desk.borrow_mut().events.push_back(Event::TimeUp(timer));
        }
        let now = self.ctx.system().now();
        let desk = &mut *self.desk.borrow_mut();
        if !desk.events.is_empty() {
            faults::point!("supervisor step");
        }
        let Some(event) = desk.events.pop_front() else { return false };
        self.stepping.set(true);
        desk.effects = desk.machine.step(now, event).into_iter();
        self.stepping.set(false);
        true
    }

    fn next_effect(&self) -> Option<Effect> {
        let desk = &mut *self.desk.borrow_mut();
        if desk.effects.len() > 0 {
            faults::point!("supervisor effect");
        }
        desk.effects.next()
    }

    fn perform(self: &Rc<Self>, effect: Effect) {
        let system = self.ctx.system();
        match effect {
            Effect::Start { key, generation, restarts } => self.start(key, generation, restarts),
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
            Effect::Forget { kept } => {
                system.changed();
                // What its factory has captured is dropped here, not borrowed, since it may do anything.
                drop(kept);
            }
            Effect::Answer { token, outcome } => {
                let caller = self.desk.borrow_mut().callers.remove(token.get());
                if let Some(caller) = caller {
                    // One who does not wait any more is not told.
                    let _ = caller.send(outcome);
                }
            }
            Effect::Report { context, offender, reason } => {
                let supervisor = self.ctx.name().clone();
                system.report(Report::Supervisor { supervisor, context, reason, offender });
            }
            Effect::Progress { key } => {
                let (Some(pid), supervisor) = (self.pid_of(key), self.ctx.name().clone()) else { return };
                system.report(Report::Progress { supervisor, child: pid.name().clone(), pid });
            }
            Effect::Booted => self.ctx.ready(),
            Effect::End { exit } => self.end.set(Some(exit)),
        }
    }

    fn start(self: &Rc<Self>, key: Key, generation: u32, restarts: u32) {
        let start = {
            let desk = &mut *self.desk.borrow_mut();
            let Some(Kept { spec, .. }) = desk.kept(key) else { return };
            // What a temporary child is made from may be large, and is not needed again.
            let temporary = spec.restart == Restart::Temporary;
            let factory = if temporary { spec.factory.take() } else { spec.factory.clone() };
            Start {
                name: spec.id.clone(),
                kind: spec.kind,
                parent: Some(self.ctx.0.id),
                callers: Some(self.calling.clone()),
                key,
                generation,
                restarts,
                ready_at_once: spec.ready_at_once,
                owner: Some(self.clone()),
                body: Box::new(move |ctx| match factory {
                    Some(factory) => factory(ctx),
                    None => Box::pin(ready(Exit::NoProcess)),
                }),
            }
        };
        let ready_at_once = start.ready_at_once;
        let pid = process::spawn(self.ctx.system(), start);
        let former = self.desk.borrow_mut().kept(key).map(|kept| (kept.pid.replace(pid), kept.info.take()));
        drop(former);
        if ready_at_once {
            self.post(Event::Ready { key, generation });
        }
    }

    /// Puts an event at the end of the queue.
    fn post(&self, event: Event) {
        self.desk.borrow_mut().events.push_back(event);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Asks the machine for something.
    pub(crate) fn ask(&self, request: Request) -> Answering {
        let (reply, answer) = reply();
        let token = {
            let desk = &mut *self.desk.borrow_mut();
            let token = Token::MIN.saturating_add(desk.next());
            desk.callers.push(token.get(), reply);
            token
        };
        self.post(Event::Ask(token, request));
        Answering(answer)
    }

    /// Asks for the start of a child that is new to this supervisor.
    pub(crate) fn ask_for_start(&self, spec: ChildSpec) -> Answering {
        let key = self.desk.borrow_mut().next();
        self.ask(Request::Start { key, spec: Box::new(spec) })
    }

    /// The process of the supervisor itself.
    pub(crate) fn pid(&self) -> Pid {
        self.ctx.pid()
    }

    pub(crate) fn pid_of(&self, key: Key) -> Option<Pid> {
        self.desk.borrow_mut().kept(key).and_then(|kept| kept.pid.clone())
    }

    pub(crate) fn find(&self, id: &str) -> Option<Key> {
        self.desk.borrow().machine.find(&Which::Id(id.into()))
    }

    /// The key of the child whose latest start is this process, or was it before the restart that is under way.
    pub(crate) fn key_of(&self, pid: &Pid) -> Option<Key> {
        let key = pid.0.key;
        let latest = self.pid_of(key)?;
        let phase = self.desk.borrow().machine.children().phase(key);
        let restarts = matches!(phase, Some(Phase::Restarting | Phase::Starting));
        (latest == *pid || (restarts && latest.0.parent == pid.0.parent)).then_some(key)
    }

    pub(crate) fn spec_of(&self, key: Key) -> Option<ChildSpec> {
        self.desk.borrow_mut().kept(key).map(|kept| ChildSpec::clone(&kept.spec))
    }

    /// The children in start order, as the machine sees them.
    pub(crate) fn children(&self) -> Vec<ChildInfo> {
        let desk = self.desk.borrow();
        let mut infos = Vec::new();
        for (_, child) in desk.machine.children().iter() {
            let (phase, restarts) = (child.phase, child.restarts());
            let Kept { spec, pid, .. } = &child.kept;
            infos.push(ChildInfo {
                id: spec.id.clone(),
                kind: spec.kind,
                pid: pid.clone().filter(|_| matches!(phase, Phase::Running | Phase::Stopping)),
                // OTP answers between the attempts to start a child, never during one: here one sees the same.
                restarting: phase == Phase::Restarting || (phase == Phase::Starting && restarts > 0),
                restarts,
            });
        }
        infos
    }

    /// How many events wait.
    pub(crate) fn events(&self) -> usize {
        self.desk.borrow().events.len()
    }

    /// The children that don't run, as lines of the tree.
    pub(crate) fn absent(&self) -> Vec<Node> {
        let desk = self.desk.borrow();
        let mut nodes = Vec::new();
        for (_, child) in desk.machine.children().iter() {
            if let Some(pid) = &child.kept.pid
                && !pid.is_alive()
            {
                let waits = child.phase == Phase::Restarting;
                nodes.push(Node::of(&pid.0, if waits { State::Restarting } else { State::Stopped }));
            }
        }
        nodes
    }
}

impl Owner for Shell {
    fn ready(self: Rc<Self>, process: &Rc<Process>, info: Option<Rc<dyn Any>>) {
        if let Some(kept) = self.desk.borrow_mut().kept(process.key) {
            kept.info = info;
        }
        self.post(Event::Ready { key: process.key, generation: process.generation });
    }

    fn exited(self: Rc<Self>, process: &Rc<Process>, exit: Exit) {
        self.post(Event::Exited { key: process.key, generation: process.generation, exit });
    }
}
