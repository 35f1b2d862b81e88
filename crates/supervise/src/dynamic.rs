//! The supervisor of children that come and go: OTP's simple-one-for-one, with a spec for each child.

use std::{cell::RefCell, future::Future, rc::Rc, time::Duration};

use crate::{
    answers::{Answering, ChildError, ChildInfo, Counts, Started},
    context::Context,
    exit::Exit,
    machine::{Request, Which, dynamic::Dynamic},
    pid::{Kind, Pid},
    runtime::LocalBoxFuture,
    shell::Shell,
    spec::{AutoShutdown, ChildSpec, Intensity, SpecError, check_children},
    supervisor::{start_root, stop},
    system::System,
};

/// Keeps any number of children, up to a limit, that don't know of each other: each starts, is restarted and stops by
/// itself; at the end all are stopped together. What has ended for good is forgotten, ids need not
/// differ, and no child is significant.
///
/// It is a handle, as [`Supervisor`](crate::Supervisor) is. Defaults: no limit, one restart in five seconds.
///
/// ```
/// # use tinkex_supervise::{*, virtual_time::VirtualTime};
/// # let world = VirtualTime::new(0);
/// # let system = System::new(world.runtime());
/// let clients = DynamicSupervisor::new("clients").max_children(100);
/// let root = Supervisor::new("root").with(clients.child());
/// # world.block_on(async {
/// root.start(&system).await?;
/// let client = ChildSpec::new("client", |ctx| async move {
///     ctx.ready();
///     ctx.shutdown().await;
/// });
/// let started = clients.start_child(client.restart(Restart::Temporary)).await?;
/// clients.terminate_child(&started.pid.unwrap()).await?;
/// # Ok::<_, ChildError>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct DynamicSupervisor(Rc<Seat>);

struct Seat {
    name: Rc<str>,
    plan: RefCell<Plan>,
    /// The run of this supervisor, while there is one.
    current: RefCell<Option<Rc<Shell>>>,
}

#[derive(Clone, Copy)]
struct Plan {
    intensity: Intensity,
    max_children: usize,
}

impl DynamicSupervisor {
    /// A supervisor without children that is not started.
    pub fn new(name: impl Into<Rc<str>>) -> Self {
        let plan = Plan { intensity: Intensity::default(), max_children: usize::MAX };
        Self(Rc::new(Seat { name: name.into(), plan: RefCell::new(plan), current: RefCell::default() }))
    }

    /// How many restarts, of all children together, in which sliding time it bears.
    pub fn intensity(self, restarts: u32, period: Duration) -> Self {
        self.0.plan.borrow_mut().intensity = Intensity { restarts, period };
        self
    }

    /// How many children it has at most; those that start, stop or are restarted count.
    pub fn max_children(self, max_children: usize) -> Self {
        self.0.plan.borrow_mut().max_children = max_children;
        self
    }

    /// Whether what it was told holds together.
    pub fn check(&self) -> Result<(), SpecError> {
        let plan = self.0.plan.borrow();
        check_children(plan.intensity, AutoShutdown::Never, &[])
    }

    /// Starts it alone, as a root of the tree.
    pub fn start(&self, system: &System) -> impl Future<Output = Result<Pid, ChildError>> + use<> {
        let checked = self.check().map_err(ChildError::Spec);
        let seat = self.0.clone();
        let body = Box::new(move |ctx| seat.run(ctx));
        let pid = checked.map(|()| start_root(system, self.0.name.clone(), Kind::Supervisor, body));
        async move {
            let pid = pid?;
            pid.started().await.map_err(ChildError::Failed)?;
            Ok(pid)
        }
    }

    /// This supervisor as a child of another: permanent, and stopped without a limit of time.
    pub fn child(&self) -> ChildSpec {
        let seat = self.0.clone();
        let factory = Rc::new(move |ctx| seat.clone().run(ctx));
        let mut spec = ChildSpec::from_factory(self.0.name.clone(), Kind::Supervisor, factory);
        spec.fault = self.check().err().map(Box::new);
        spec
    }

    /// Starts a child. The request is made in this call, whether or not the future is awaited; it resolves when the
    /// child is ready. Starts don't wait for each other.
    pub fn start_child(&self, spec: ChildSpec) -> impl Future<Output = Result<Started, ChildError>> + use<> {
        let answer = match (spec.check_under(AutoShutdown::Never), self.shell()) {
            (Err(error), _) => Answering::refused(ChildError::Spec(error)),
            (Ok(()), None) => Answering::refused(ChildError::NoProcess),
            (Ok(()), Some(shell)) => shell.ask_for_start(spec),
        };
        answer.started()
    }

    /// Stops a child and forgets it. Also ends the restarts of the one whose latest start this was. A process that
    /// has ended is no error; one that is alive and not a child is [`ChildError::NotFound`].
    pub fn terminate_child(&self, child: &Pid) -> impl Future<Output = Result<(), ChildError>> + use<> {
        let answer = match self.shell() {
            None => Answering::refused(ChildError::NoProcess),
            Some(shell) => match shell.key_of(child) {
                None if child.is_alive() => Answering::refused(ChildError::NotFound),
                None => Answering::done_already(),
                Some(key) => shell.ask(Request::Terminate(Which::Key(key))),
            },
        };
        answer.done()
    }

    /// The children, the first started first.
    pub fn which_children(&self) -> Vec<ChildInfo> {
        self.shell().map_or_else(Vec::new, |shell| shell.children())
    }

    /// How many children there are, and how many are alive.
    pub fn count_children(&self) -> Counts {
        Counts::of(&self.which_children())
    }

    /// Its process, while it runs.
    pub fn pid(&self) -> Option<Pid> {
        self.shell()?.pid().cloned()
    }

    /// Its name.
    pub fn name(&self) -> &Rc<str> {
        &self.0.name
    }

    /// Asks it to stop and waits for its exit, as [`Supervisor::stop`](crate::Supervisor::stop).
    pub async fn stop(&self) -> Exit {
        stop(self.pid()).await
    }

    fn shell(&self) -> Option<Rc<Shell>> {
        self.0.current.borrow().clone()
    }
}

impl Seat {
    fn run(self: Rc<Self>, ctx: Context) -> LocalBoxFuture<'static, Exit> {
        if self.current.borrow().is_some() {
            return Box::pin(async { Exit::error("this supervisor runs already") });
        }
        let Plan { intensity, max_children } = *self.plan.borrow();
        let machine = Dynamic::new(intensity, max_children);
        let shell = Shell::new(self.name.clone(), &ctx, Box::new(machine), &[]);
        self.current.replace(Some(shell.clone()));
        let vacate = Vacate(self);
        Box::pin(async move {
            let exit = shell.run(ctx).await;
            drop(vacate);
            exit
        })
    }
}

/// However the run ends, the seat is free for the next.
struct Vacate(Rc<Seat>);

impl Drop for Vacate {
    fn drop(&mut self) {
        self.0.current.take();
    }
}
