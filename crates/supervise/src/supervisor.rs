//! The supervisor whose children stand in an order, under one of OTP's three strategies.

use std::{future::Future, rc::Rc, time::Duration};

use crate::{
    answers::{ChildError, ChildInfo, Counts, Started},
    exit::Exit,
    machine::{Machine, Request, Which, ordered::Ordered},
    pid::Pid,
    seat::{Plan, Seat, stop},
    spec::{AutoShutdown, ChildSpec, Intensity, SpecError, Strategy},
    system::System,
};

/// Starts its children in order, restarts them as their specs and its strategy say, and stops them in reverse order.
///
/// It is a handle: clones are the same supervisor. It is set up first, then started once alone
/// ([`start`](Self::start)) or given to another supervisor as a child ([`child`](Self::child)), which starts it as
/// often as it has to; the handle always reaches the one that runs. Calls to a supervisor that doesn't run give
/// [`ChildError::NoProcess`].
///
/// Defaults are OTP's: one-for-one, one restart in five seconds, no automatic shutdown.
///
/// ```
/// # use tinkex_supervise::{*, virtual_time::VirtualTime};
/// # use std::time::Duration;
/// # let world = VirtualTime::new(0);
/// let system = System::new(world.runtime());
/// let root = Supervisor::new("root")
///     .strategy(Strategy::RestForOne)
///     .intensity(3, Duration::from_secs(5))
///     .with(ChildSpec::new("store", |ctx| async move {
///         ctx.ready();
///         ctx.shutdown().await;
///     }));
/// # world.block_on(async {
/// let pid = root.start(&system).await?;
/// assert_eq!(root.count_children().active, 1);
/// assert_eq!(root.stop().await, Exit::Shutdown);
/// # Ok::<_, ChildError>(())
/// # }).unwrap();
/// # system.assert_accounted();
/// ```
#[derive(Clone)]
pub struct Supervisor(Rc<Seat>);

fn machine(plan: &Plan) -> Box<dyn Machine> {
    let Plan { strategy, intensity, auto_shutdown, children, .. } = plan;
    Box::new(Ordered::new(strategy.get(), intensity.get(), auto_shutdown.get(), &children.borrow()))
}

impl Supervisor {
    /// A supervisor without children that is not started.
    pub fn new(name: impl Into<Rc<str>>) -> Self {
        Self(Seat::new(name.into(), machine))
    }

    /// Whom the crash of a child concerns.
    pub fn strategy(self, strategy: Strategy) -> Self {
        self.0.plan.strategy.set(strategy);
        self
    }

    /// How many restarts in which sliding time it bears. One more, and it stops all children and ends with
    /// [`Exit::Shutdown`]; each failed attempt counts.
    pub fn intensity(self, restarts: u32, period: Duration) -> Self {
        self.0.plan.intensity.set(Intensity { restarts, period });
        self
    }

    /// Whether it stops by itself when significant children have.
    pub fn auto_shutdown(self, auto_shutdown: AutoShutdown) -> Self {
        self.0.plan.auto_shutdown.set(auto_shutdown);
        self
    }

    /// Adds a child that is there from the outset.
    pub fn with(self, child: ChildSpec) -> Self {
        self.0.plan.children.borrow_mut().push(child);
        self
    }

    /// Whether what it was told holds together. [`start`](Self::start) and [`child`](Self::child) do this first.
    pub fn check(&self) -> Result<(), SpecError> {
        self.0.check()
    }

    /// Starts it alone, as a root of the tree. Resolves when all its children are started. When one is not, those
    /// before it are stopped again, and the error is [`ChildError::Failed`] with a `ShutdownWith` that names it.
    pub fn start(&self, system: &System) -> impl Future<Output = Result<Pid, ChildError>> + use<> {
        self.0.start(system)
    }

    /// This supervisor as a child of another: permanent, and stopped without a limit of time.
    pub fn child(&self) -> ChildSpec {
        self.0.child()
    }

    /// Starts a child and adds it to the order, as the last. The request is made in this call, whether or not the
    /// future is awaited; it resolves when the child is ready.
    pub fn start_child(&self, spec: ChildSpec) -> impl Future<Output = Result<Started, ChildError>> + use<> {
        self.0.start_child(spec)
    }

    /// Stops a child; its spec stays, unless it is temporary. Also ends its restarts, and a start that is under way,
    /// whose caller gets [`ChildError::Failed`] with `Shutdown`. A child that doesn't run is no error.
    pub fn terminate_child(&self, id: &str) -> impl Future<Output = Result<(), ChildError>> + use<> {
        self.0.ask(Request::Terminate(Which::Id(id.into()))).done()
    }

    /// Starts a child that was stopped, or ended and was not restarted.
    pub fn restart_child(&self, id: &str) -> impl Future<Output = Result<Started, ChildError>> + use<> {
        self.0.ask(Request::Restart(Which::Id(id.into())))
    }

    /// Forgets the spec of a child that doesn't run.
    pub fn delete_child(&self, id: &str) -> impl Future<Output = Result<(), ChildError>> + use<> {
        self.0.ask(Request::Delete(Which::Id(id.into()))).done()
    }

    /// The children, the last started first.
    pub fn which_children(&self) -> Vec<ChildInfo> {
        let mut children = self.0.children();
        children.reverse();
        children
    }

    /// How many children there are, and how many are alive.
    pub fn count_children(&self) -> Counts {
        Counts::of(&self.which_children())
    }

    /// The spec of a child. That of a temporary child can be read, and not be started again.
    pub fn child_spec(&self, id: &str) -> Option<ChildSpec> {
        let shell = self.0.shell()?;
        shell.spec_of(shell.find(id)?)
    }

    /// The process of a child, if it is alive.
    pub fn child_pid(&self, id: &str) -> Option<Pid> {
        let shell = self.0.shell()?;
        shell.pid_of(shell.find(id)?).filter(Pid::is_alive)
    }

    /// Its process, while it runs.
    pub fn pid(&self) -> Option<Pid> {
        self.0.pid()
    }

    /// Its name.
    pub fn name(&self) -> &Rc<str> {
        &self.0.name
    }

    /// Asks it to stop and waits for its exit. If it is another supervisor's permanent child, that one starts it
    /// again: terminate it there instead.
    pub async fn stop(&self) -> Exit {
        stop(self.pid()).await
    }
}
