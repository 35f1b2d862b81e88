//! One supervised future: wrapped once, watched by many, and ended exactly once, whatever it does.

mod rare;

use std::{
    any::Any,
    cell::{Cell, OnceCell, RefCell},
    future::Future,
    pin::Pin,
    rc::{Rc, Weak},
    task::{Context as TaskContext, Poll, Waker},
    time::Duration,
};

use crate::{
    callers::Callers,
    cancel::CancelToken,
    context::Context,
    exit::{Exit, IntoExit, PanicInfo},
    faults,
    panics::{self, destructor},
    pid::{Kind, Pid, State},
    report::Report,
    shell::Shell,
    system::System,
    tasks::Tasks,
    waiters::Waiters,
};

use self::rare::Rare;
pub(crate) use self::rare::Wait;

/// What a process starts from: called in its first poll, so that a panic of it is the process's own.
pub(crate) type Body = Box<dyn FnOnce(Context) -> Pin<Box<dyn Life>>>;

/// A future of whatever type, that ends as a process may.
pub(crate) trait Life {
    fn poll_exit(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Exit>>;
}

impl<Fut: Future> Life for Fut
where
    Fut::Output: IntoExit,
{
    fn poll_exit(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Exit>> {
        self.poll(cx).map(IntoExit::into_exit)
    }
}

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
    /// None of one that stands alone: whoever started it watches it through its pid.
    pub(crate) owner: Option<Rc<dyn Owner>>,
    pub(crate) body: Body,
}

/// What keeps the processes below a supervisor.
#[derive(Clone)]
pub(crate) enum Keeper {
    Children(Weak<Shell>),
    Tasks(Weak<Tasks>),
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
    /// `None` while it is polled or dropped, further up this very stack, and once it is gone.
    work: Cell<Option<Work>>,
    /// Its work is being dropped, or was.
    dropped: Cell<bool>,
    /// The panic for which its work is being dropped.
    crash: OnceCell<Rc<PanicInfo>>,
    /// Wakes the executor's task, so that it ends when the work was dropped from outside.
    waker: Cell<Option<Waker>>,
    /// Of a supervisor, from the start of its first poll.
    keeper: OnceCell<Keeper>,
    rare: RefCell<Option<Box<Rare>>>,
}

/// The future, or what it will be made from.
enum Work {
    Unstarted(Body),
    Started(Pin<Box<dyn Life>>),
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
        owner: RefCell::new(start.owner),
        watchers: Waiters::default(),
        work: Cell::new(Some(Work::Unstarted(start.body))),
        dropped: Cell::new(false),
        crash: OnceCell::new(),
        waker: Cell::new(None),
        keeper: OnceCell::new(),
        rare: RefCell::default(),
    });
    system.register(&process);
    system.runtime().spawn(Box::pin(Held(process.clone())));
    Pid(process)
}

impl Process {
    pub(crate) fn current() -> Option<Rc<Self>> {
        CURRENT.with_borrow(Clone::clone)
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

    /// Whether its work is being dropped.
    pub(crate) fn is_dropped(&self) -> bool {
        self.dropped.get()
    }

    /// The panic for which its work is being dropped.
    pub(crate) fn crash(&self) -> Option<Rc<PanicInfo>> {
        self.crash.get().cloned()
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
        let Some(work) = self.work.take() else {
            // It ends with this as soon as it yields. The first counts.
            return self.rare(|rare| _ = rare.ordered.get_or_insert(exit));
        };
        self.end(work, exit);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Runs code of this process: under its name, its panics caught.
    fn enter<T>(self: &Rc<Self>, run: impl FnOnce() -> T) -> Result<T, Rc<PanicInfo>> {
        let former = CURRENT.replace(Some(self.clone()));
        let outcome = panics::catch(run);
        CURRENT.replace(former);
        outcome
    }

    /// Drops the work, which comes to its end once; a destructor that panics makes the exit a panic. All that hear of
    /// the exit do so in this order: the tree, the owner, the linked, the monitors.
    fn end(self: &Rc<Self>, work: Work, mut exit: Exit) {
        self.dropped.set(true);
        if let Exit::Panic(crash) = &exit {
            let _ = self.crash.set(crash.clone());
        }
        let dropped = self.enter(|| {
            drop(work);
            faults::point!("task drop");
        });
        if let (Err(panic), None) = (dropped, self.crash.get()) {
            exit = Exit::Panic(panic);
        }
        let exit = self.exit.get_or_init(|| exit);
        self.system.count_future(false);
        self.system.unregister(self);
        if let Some(owner) = self.owner.take() {
            owner.exited(self, exit.clone());
        }
        if let Some(rare) = self.rare.take() {
            for last in rare.at_end {
                // What it drops may do anything.
                let _ = panics::catch(|| (last.does)(exit));
            }
        }
        self.watchers.wake_all();
    }

    fn poll(self: &Rc<Self>, cx: &mut TaskContext<'_>) -> Poll<()> {
        let Some(mut work) = self.work.take() else { return Poll::Ready(()) };
        let began = self.system.slow_poll().map(|limit| (limit, self.system.now()));
        let polled = self.enter(|| {
            faults::point!("task poll");
            if let Work::Unstarted(body) = &mut work {
                let body = std::mem::replace(body, Box::new(|_| unreachable!("a body is taken once")));
                work = Work::Started(body(Context(self.clone())));
            }
            match &mut work {
                Work::Started(life) => life.as_mut().poll_exit(cx),
                Work::Unstarted(_) => unreachable!("it was started above"),
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
            Ok(Poll::Ready(None)) if self.stop.is_cancelled() => Exit::Shutdown,
            Ok(Poll::Ready(None)) => Exit::Normal,
            // Only a start can come to nothing.
            Ok(Poll::Ready(Some(Exit::Ignore))) if self.ready.get() => Exit::Normal,
            Ok(Poll::Ready(Some(exit))) => exit,
            Err(panic) => Exit::Panic(panic),
        };
        self.end(work, exit);
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
        destructor(&mut || self.0.kill(Exit::Killed));
    }
}
