//! Tasks: pieces of work with one result each, bounded in number, none of which can end unseen.

mod life;

use std::{
    any::Any,
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    task::{Context as TaskContext, Poll, ready},
};

use crate::{
    context::Context,
    exit::Exit,
    handle::{AtStart, TaskHandle, Ticket},
    map::Map,
    pid::{Kind, Pid},
    process::{self, Body, Owner, Process, Start},
    report::Report,
    runtime::LocalBoxFuture,
    seat::start_root,
    spec::{ChildSpec, Shutdown},
    stream::TaskStream,
    system::System,
    waiters::Waiters,
};

/// Keeps tasks: starts them while there is a place, queues them while there is room, ends them when it ends.
///
/// It is a handle: clones are the same supervisor, and it can be made and passed on before it is started, as a
/// child ([`child`](Self::child)) or alone ([`start`](Self::start)). Tasks that are given to it before its first start
/// wait in the queue; from the time when it stops, a task ends with [`Exit::NoProcess`] at once.
///
/// Stopping: queued tasks end with [`Exit::Shutdown`] unstarted; running ones are asked to stop, all together,
/// and killed when the shutdown time (5 s) is over.
///
/// ```
/// # use tinkex_supervise::{*, virtual_time::VirtualTime};
/// # let world = VirtualTime::new(0);
/// # let system = System::new(world.runtime());
/// let tasks = TaskSupervisor::new("tasks").limit(4);
/// # world.block_on(async {
/// tasks.start(&system).await?;
/// let answer = tasks.spawn("sum", |_ctx| async { 40 + 2 }).await;
/// assert_eq!(answer, Ok(42));
/// let failed = tasks.spawn("oops", |_ctx| async { panic!("no") as u32 }).await;
/// assert_eq!(&*failed.unwrap_err().panic().unwrap().message, "no");
/// # Ok::<_, Exit>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct TaskSupervisor(Rc<Tasks>);

pub(crate) struct Tasks {
    name: Rc<str>,
    limit: Cell<usize>,
    queue: Cell<usize>,
    shutdown: Cell<Shutdown>,
    state: RefCell<TasksState>,
    /// Wakes those who wait for room or for the end of all tasks.
    moved: Waiters,
}

#[derive(Default)]
struct TasksState {
    /// Where tasks are started: set while the supervisor runs and takes tasks.
    open: Option<Pid>,
    /// It has run, and doesn't run now.
    over: bool,
    last: u64,
    running: Map<Rc<Ticket>>,
    queued: Map<Rc<Ticket>>,
}

impl TaskSupervisor {
    /// A supervisor without limits that is not started.
    pub fn new(name: impl Into<Rc<str>>) -> Self {
        Self(Rc::new(Tasks {
            name: name.into(),
            limit: Cell::new(usize::MAX),
            queue: Cell::new(usize::MAX),
            shutdown: Cell::new(Shutdown::default()),
            state: RefCell::default(),
            moved: Waiters::default(),
        }))
    }

    /// At most so many tasks run at a time; the others queue, first come, first served.
    pub fn limit(self, running: usize) -> Self {
        self.0.limit.set(running);
        self
    }

    /// At most so many tasks queue; the next one ends with [`Exit::Refused`]. See [`room`](Self::room).
    pub fn queue(self, queued: usize) -> Self {
        self.0.queue.set(queued);
        self
    }

    /// How running tasks are ended when the supervisor stops.
    pub fn shutdown(self, shutdown: Shutdown) -> Self {
        self.0.shutdown.set(shutdown);
        self
    }

    /// Starts it alone, as a root of the tree. The process is made in this call; the future resolves with it when it
    /// takes tasks, and gives `Err` when it runs already.
    pub fn start(&self, system: &System) -> impl Future<Output = Result<Pid, Exit>> + use<> {
        let this = self.clone();
        let body = Box::new(move |ctx| this.run(ctx));
        let pid = start_root(system, self.0.name.clone(), Kind::TaskSupervisor, body);
        async move { pid.started().await.map(|()| pid) }
    }

    /// This supervisor as a child of another: permanent, and stopped without a limit of time but its tasks' own.
    pub fn child(&self) -> ChildSpec {
        let this = self.clone();
        let factory = Rc::new(move |ctx| this.clone().run(ctx));
        ChildSpec::from_factory(self.0.name.clone(), Kind::TaskSupervisor, factory)
    }

    /// Starts a task that shares the fate of the process that calls: when one of the two crashes, so does the other,
    /// with the same exit. Called from outside of any process it is the same as [`spawn_nolink`](Self::spawn_nolink).
    ///
    /// The handle resolves with what the task returns, or with its exit if it returns nothing; dropping the handle
    /// leaves the task alone.
    pub fn spawn<T, F, Fut>(&self, name: impl Into<Rc<str>>, task: F) -> TaskHandle<T>
    where
        T: 'static,
        F: FnOnce(Context) -> Fut + 'static,
        Fut: Future<Output = T> + 'static,
    {
        let link = Process::current()
            .map(|caller| -> AtStart { Box::new(move |pid| Process::link(&caller, &pid.0)) });
        self.begin(name.into(), link, task)
    }

    /// Starts a task whose crash is nobody's but its handle's.
    pub fn spawn_nolink<T, F, Fut>(&self, name: impl Into<Rc<str>>, task: F) -> TaskHandle<T>
    where
        T: 'static,
        F: FnOnce(Context) -> Fut + 'static,
        Fut: Future<Output = T> + 'static,
    {
        self.begin(name.into(), None, task)
    }

    /// Runs a task for each item, at most `limit` at a time, and gives the results in the order of the items. See
    /// [`TaskStream`].
    pub fn stream<I, T, F, Fut>(&self, items: I, limit: usize, task: F) -> TaskStream<I::IntoIter, T, F>
    where
        I: IntoIterator,
        T: 'static,
        F: Fn(Context, I::Item) -> Fut + Clone + 'static,
        Fut: Future<Output = T> + 'static,
        I::Item: 'static,
    {
        TaskStream::new(self.clone(), items.into_iter(), limit, task)
    }

    /// Resolves when a spawn would not be refused for want of room. Spawn before the next await: the place is not kept.
    pub async fn room(&self) {
        let mut key = None;
        poll_fn(|cx| {
            if self.has_room() {
                self.0.moved.leave(key);
                return Poll::Ready(());
            }
            self.0.moved.wait(&mut key, cx.waker());
            Poll::Pending
        })
        .await;
    }

    /// Whether a spawn would not be refused for want of room.
    pub fn has_room(&self) -> bool {
        let state = self.0.state.borrow();
        state.running.len() < self.0.limit.get() || state.queued.len() < self.0.queue.get()
    }

    /// How many tasks run.
    pub fn running(&self) -> usize {
        self.0.state.borrow().running.len()
    }

    /// How many tasks wait for a place.
    pub fn queued(&self) -> usize {
        self.0.state.borrow().queued.len()
    }

    /// Its name.
    pub fn name(&self) -> &Rc<str> {
        &self.0.name
    }

    /// Its process, while it takes tasks.
    pub fn pid(&self) -> Option<Pid> {
        self.0.state.borrow().open.clone()
    }

    /// Takes a task out of the queue, if it is there.
    pub(crate) fn unqueue(&self, ticket: &Ticket, exit: Exit) {
        let queued = self.0.state.borrow_mut().queued.remove(ticket.key.get());
        if let Some(queued) = queued {
            queued.give_up(exit);
            self.0.moved.wake_all();
        }
    }

    fn begin<T, F, Fut>(&self, name: Rc<str>, link: Option<AtStart>, task: F) -> TaskHandle<T>
    where
        T: 'static,
        F: FnOnce(Context) -> Fut + 'static,
        Fut: Future<Output = T> + 'static,
    {
        let value = Rc::new(Cell::new(None));
        let result = value.clone();
        let body: Body = Box::new(move |ctx| Box::pin(Task { future: Box::pin(task(ctx)), result }));
        TaskHandle { ticket: self.0.enqueue(name, link, body), value, supervisor: self.clone() }
    }
}

/// The life of a task.
struct Task<T> {
    future: LocalBoxFuture<'static, T>,
    result: Rc<Cell<Option<T>>>,
}

impl<T> Future for Task<T> {
    type Output = Exit;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Exit> {
        let value = ready!(self.future.as_mut().poll(cx));
        self.result.set(Some(value));
        Poll::Ready(Exit::Normal)
    }
}

impl Tasks {
    fn open(&self, pid: Pid) -> bool {
        let mut state = self.state.borrow_mut();
        let free = state.open.is_none() && state.running.is_empty();
        if free {
            state.open = Some(pid);
            state.over = false;
        }
        free
    }

    fn enqueue(self: &Rc<Self>, name: Rc<str>, link: Option<AtStart>, body: Body) -> Rc<Ticket> {
        let ticket = Rc::new(Ticket::new(name, link, body));
        let mut state = self.state.borrow_mut();
        let waits = state.open.is_none() || state.running.len() >= self.limit.get();
        let refused = if state.over {
            Some(Exit::NoProcess)
        } else {
            (waits && state.queued.len() >= self.queue.get()).then_some(Exit::Refused)
        };
        if let Some(exit) = refused {
            drop(state);
            ticket.give_up(exit);
            return ticket;
        }
        state.last += 1;
        let key = state.last;
        ticket.key.set(key);
        state.queued.push(key, ticket.clone());
        drop(state);
        self.start_queued();
        ticket
    }

    /// Starts what is queued while there is a place.
    fn start_queued(self: &Rc<Self>) {
        while let Some((parent, ticket)) = self.next() {
            self.start(&parent, &ticket);
        }
    }

    /// The next task, and what it is to be started below; from now on it has a place.
    fn next(&self) -> Option<(Pid, Rc<Ticket>)> {
        let state = &mut *self.state.borrow_mut();
        if state.running.len() >= self.limit.get() {
            return None;
        }
        let parent = state.open.clone()?;
        let ticket = state.queued.pop_first()?;
        state.running.push(ticket.key.get(), ticket.clone());
        Some((parent, ticket))
    }

    fn start(self: &Rc<Self>, parent: &Pid, ticket: &Ticket) {
        let Some(body) = ticket.body.take() else { return };
        let start = Start {
            name: ticket.name.clone(),
            kind: Kind::Task,
            parent: Some(parent.id()),
            callers: ticket.callers.clone(),
            key: ticket.key.get(),
            generation: 0,
            restarts: 0,
            ready_at_once: true,
            owner: Some(self.clone()),
            body,
        };
        let pid = process::spawn(&parent.0.system, start);
        if let Some(link) = ticket.link.take() {
            link(&pid);
        }
        let _ = ticket.pid.set(pid);
    }

    /// Takes no more tasks; those in the queue end unstarted.
    fn close(&self) {
        loop {
            let queued = {
                let state = &mut *self.state.borrow_mut();
                (state.open, state.over) = (None, true);
                state.queued.pop_first()
            };
            let Some(ticket) = queued else { return };
            ticket.give_up(Exit::Shutdown);
        }
    }

    fn kill_all(&self) {
        self.each(&|pid| pid.kill(Exit::Killed));
    }

    /// How many tasks are there, and where.
    pub(crate) fn queues(&self) -> [(&'static str, usize); 2] {
        let state = self.state.borrow();
        [("running", state.running.len()), ("queued", state.queued.len())]
    }

    /// Does this with every task that runs. One may end meanwhile, or come.
    fn each(&self, does: &dyn Fn(&Pid)) {
        let keys = self.state.borrow().running.keys_from(0);
        for key in keys {
            let ticket = self.state.borrow().running.get(key).cloned();
            if let Some(pid) = ticket.as_ref().and_then(|ticket| ticket.pid.get()) {
                does(pid);
            }
        }
    }
}

impl Owner for Tasks {
    fn ready(self: Rc<Self>, _: &Rc<Process>, _: Option<Rc<dyn Any>>) {}

    fn exited(self: Rc<Self>, process: &Rc<Process>, exit: Exit) {
        let ticket = self.state.borrow_mut().running.remove(process.key);
        if !exit.is_graceful() {
            process.system.report(Report::TaskExited {
                supervisor: self.name.clone(),
                pid: Pid(process.clone()),
                reason: exit.clone(),
            });
        }
        if let Some(ticket) = ticket {
            ticket.settle(exit);
        }
        self.start_queued();
        self.moved.wake_all();
    }
}
