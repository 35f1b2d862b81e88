//! One supervised future: wrapped once, watched by many, and ended exactly once, whatever it does.

mod rare;

use std::{
    any::Any,
    cell::{Cell, OnceCell, RefCell},
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context as TaskContext, Poll, Waker},
    time::Duration,
};

use crate::{
    callers::Callers,
    cancel::CancelToken,
    context::Context,
    exit::{Exit, PanicInfo},
    faults,
    panics::{self, Caught, destructor},
    pid::{Kind, Pid, State},
    report::Report,
    runtime::LocalBoxFuture,
    system::System,
    waiters::Waiters,
};

use self::rare::Rare;
pub(crate) use self::rare::Wait;

/// What a process starts from: called in its first poll, so that a panic of it is the process's own.
pub(crate) type Body = Box<dyn FnOnce(Context) -> LocalBoxFuture<'static, Exit>>;

/// Who started a process and hears of it. Each call comes at most once for a process, `exited` exactly once.
pub(crate) trait Owner {
    fn ready(self: Rc<Self>, process: &Rc<Process>, info: Option<Rc<dyn Any>>);
    fn exited(self: Rc<Self>, process: &Rc<Process>, exit: Exit);
}

/// What a spawner decides about a process.
pub(crate) struct Start {
    pub(crate) name: Rc<str>,
    pub(crate) kind: Kind,
    pub(crate) parent: Option<u64>,
    /// Who asked for it: [`Callers::now`], unless it was asked for earlier.
    pub(crate) callers: Option<Rc<Callers>>,
    /// The owner's own key and count for it.
    pub(crate) key: u64,
    pub(crate) generation: u32,
    pub(crate) restarts: u32,
    /// No init phase: it is running from the start.
    pub(crate) ready_at_once: bool,
    pub(crate) owner: Rc<dyn Owner>,
    pub(crate) body: Body,
}

/// The owner of a process that stands alone: whoever started it watches it through its pid.
pub(crate) struct Nobody;

impl Owner for Nobody {
    fn ready(self: Rc<Self>, _: &Rc<Process>, _: Option<Rc<dyn Any>>) {}
    fn exited(self: Rc<Self>, _: &Rc<Process>, _: Exit) {}
}

pub(crate) struct Process {
    pub(crate) id: u64,
    pub(crate) name: Rc<str>,
    pub(crate) kind: Kind,
    pub(crate) parent: Option<u64>,
    pub(crate) key: u64,
    pub(crate) generation: u32,
    pub(crate) restarts: u32,
    pub(crate) system: System,
    pub(crate) started: Duration,
    pub(crate) stop: CancelToken,
    pub(crate) callers: Option<Rc<Callers>>,
    ready: Cell<bool>,
    exit: OnceCell<Exit>,
    owner: RefCell<Option<Rc<dyn Owner>>>,
    pub(crate) watchers: Waiters,
    /// `None` while it is polled or dropped, and once it is gone.
    work: Cell<Option<Work>>,
    /// Its future is being polled or dropped right now, further up this very stack.
    busy: Cell<bool>,
    /// Wakes the executor's task, so that it ends when the work was dropped from outside.
    waker: Cell<Option<Waker>>,
    rare: RefCell<Option<Box<Rare>>>,
}

/// The future, or what it will be made from; and its share in the count of live futures, which ends with it.
struct Work {
    stage: Stage,
    _counted: Counted,
}

enum Stage {
    Unstarted(Body),
    Started(LocalBoxFuture<'static, Exit>),
}

struct Counted(System);

impl Drop for Counted {
    fn drop(&mut self) {
        destructor(&self.0, |system| {
            system.count_future(false);
            faults::point("task drop");
        });
    }
}

thread_local! {
    /// The process that is being polled.
    static CURRENT: RefCell<Option<Rc<Process>>> = const { RefCell::new(None) };
}

/// The one place where futures start.
pub(crate) fn spawn(system: &System, start: Start) -> Pid {
    system.count_future(true);
    let process = Rc::new(Process {
        id: system.next_id(),
        name: start.name,
        kind: start.kind,
        parent: start.parent,
        key: start.key,
        generation: start.generation,
        restarts: start.restarts,
        system: system.clone(),
        started: system.now(),
        stop: CancelToken::new(),
        callers: start.callers,
        ready: Cell::new(start.ready_at_once),
        exit: OnceCell::new(),
        owner: RefCell::new(Some(start.owner)),
        watchers: Waiters::default(),
        work: Cell::new(Some(Work {
            stage: Stage::Unstarted(start.body),
            _counted: Counted(system.clone()),
        })),
        busy: Cell::new(false),
        waker: Cell::new(None),
        rare: RefCell::default(),
    });
    system.register(&process);
    system.runtime().spawn(Box::pin(Held(process.clone())));
    Pid(process)
}

impl Process {
    pub(crate) fn current() -> Option<Rc<Self>> {
        CURRENT.with(|current| current.borrow().clone())
    }

    pub(crate) fn state(&self) -> State {
        if self.exit.get().is_some() {
            State::Exited
        } else if self.stop.is_cancelled() {
            State::Stopping
        } else if self.ready.get() {
            State::Running
        } else {
            State::Starting
        }
    }

    pub(crate) fn set_ready(self: &Rc<Self>, info: Option<Rc<dyn Any>>) {
        if self.exit.get().is_some() || self.ready.replace(true) {
            return;
        }
        // Not borrowed during the call.
        let owner = self.owner.borrow().clone();
        if let Some(owner) = owner {
            owner.ready(self, info);
        }
        self.watchers.wake_all();
        self.system.changed();
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready.get()
    }

    pub(crate) fn has_exited(&self) -> bool {
        self.exit.get().is_some()
    }

    pub(crate) fn exit_reason(&self) -> Option<Exit> {
        self.exit.get().cloned()
    }

    pub(crate) fn ask(&self) {
        if self.exit.get().is_none() && !self.stop.is_cancelled() {
            self.stop.cancel();
            self.system.changed();
        }
    }

    pub(crate) fn kill(self: &Rc<Self>, exit: Exit) {
        if self.exit.get().is_some() {
            return;
        }
        if self.busy.get() {
            self.rare(|rare| {
                // The first counts.
                rare.ordered.get_or_insert(exit);
            });
            return;
        }
        let exit = self.discard(self.work.take(), exit);
        self.finish(exit);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Drops the work; a destructor that panics makes the exit a panic.
    fn discard(self: &Rc<Self>, work: Option<Work>, exit: Exit) -> Exit {
        if let Exit::Panic(crash) = &exit {
            self.rare(|rare| rare.crash = Some(crash.clone()));
        }
        match self.enter(|| drop(work)) {
            Err(caught) if exit.panic().is_none() => self.panicked(caught, true),
            _ => exit,
        }
    }

    /// Runs code of this process: under its name, its panics caught.
    fn enter<T>(self: &Rc<Self>, run: impl FnOnce() -> T) -> Result<T, Caught> {
        let former = CURRENT.with(|current| current.replace(Some(self.clone())));
        let was_busy = self.busy.replace(true);
        let outcome = panics::catch(run);
        self.busy.set(was_busy);
        CURRENT.with(|current| current.replace(former));
        outcome
    }

    pub(crate) fn panicked(&self, caught: Caught, in_destructor: bool) -> Exit {
        Exit::Panic(Rc::new(self.panic_info(caught, in_destructor)))
    }

    /// What is known of a panic of this process.
    pub(crate) fn panic_info(&self, caught: Caught, in_destructor: bool) -> PanicInfo {
        caught.into_info(self.and_callers(), in_destructor)
    }

    /// The exit, once. All that hear of it do so in this order: the tree, the owner, the linked, the monitors.
    fn finish(self: &Rc<Self>, exit: Exit) {
        if self.exit.set(exit.clone()).is_err() {
            return;
        }
        let (at_end, links) =
            self.rare.take().map_or_else(Default::default, |rare| (rare.at_end, rare.links));
        for undo in at_end {
            // What it drops may do anything.
            let _ = panics::catch(undo);
        }
        self.system.unregister(self);
        if let Some(owner) = self.owner.take() {
            owner.exited(self, exit.clone());
        }
        for linked in links {
            linked.0.rare(|rare| rare.links.retain(|link| !Rc::ptr_eq(&link.0, self)));
            if !exit.is_graceful() {
                linked.kill(exit.clone());
            }
        }
        self.watchers.wake_all();
    }

    fn poll(self: &Rc<Self>, cx: &mut TaskContext<'_>) -> Poll<()> {
        let Some(mut work) = self.work.take() else { return Poll::Ready(()) };
        let began = self.system.slow_poll().map(|limit| (limit, self.system.now()));
        let polled = self.enter(|| {
            faults::point("task poll");
            if let Stage::Unstarted(body) = &mut work.stage {
                let body = std::mem::replace(body, Box::new(|_| unreachable!("a body is taken once")));
                work.stage = Stage::Started(body(Context(self.clone())));
            }
            match &mut work.stage {
                Stage::Started(future) => future.as_mut().poll(cx),
                Stage::Unstarted(_) => unreachable!("it was started above"),
            }
        });
        if let Some((limit, began)) = began {
            let took = self.system.now().saturating_sub(began);
            if took > limit {
                self.system.report(Report::SlowPoll { process: Pid(self.clone()), took });
            }
        }
        let exit = match polled {
            Ok(Poll::Pending) => match self.ordered() {
                None => {
                    self.work.set(Some(work));
                    self.waker.set(Some(cx.waker().clone()));
                    return Poll::Pending;
                }
                Some(ordered) => ordered,
            },
            // Only a start can come to nothing.
            Ok(Poll::Ready(Exit::Ignore)) if self.ready.get() => Exit::Normal,
            Ok(Poll::Ready(exit)) => exit,
            Err(caught) => self.panicked(caught, false),
        };
        let exit = self.discard(Some(work), exit);
        self.finish(exit);
        Poll::Ready(())
    }
}

/// What the executor holds. Dropped before its end, it ends the process with it.
struct Held(Rc<Process>);

impl Future for Held {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<()> {
        self.0.poll(cx)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        destructor(&self.0, |process| process.kill(Exit::Killed));
    }
}
