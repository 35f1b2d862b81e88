//! The supervisor of children that come and go: OTP's simple-one-for-one, with a spec for each child.

use std::{future::Future, rc::Rc, time::Duration};

use crate::{
    answers::{Answering, ChildError, ChildInfo, Counts, Started},
    exit::Exit,
    machine::{Machine, Request, Which, dynamic::Dynamic},
    pid::Pid,
    seat::{Plan, Seat, stop},
    spec::{ChildSpec, Intensity, SpecError},
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

fn machine(plan: &Plan) -> Box<dyn Machine> {
    Box::new(Dynamic::new(plan.intensity.get(), plan.max_children.get()))
}

impl DynamicSupervisor {
    /// A supervisor without children that is not started.
    pub fn new(name: impl Into<Rc<str>>) -> Self {
        Self(Seat::new(name.into(), machine))
    }

    /// How many restarts, of all children together, in which sliding time it bears.
    pub fn intensity(self, restarts: u32, period: Duration) -> Self {
        self.0.plan.intensity.set(Intensity { restarts, period });
        self
    }

    /// How many children it has at most; those that start, stop or are restarted count.
    pub fn max_children(self, max_children: usize) -> Self {
        self.0.plan.max_children.set(max_children);
        self
    }

    /// Whether what it was told holds together.
    pub fn check(&self) -> Result<(), SpecError> {
        self.0.check()
    }

    /// Starts it alone, as a root of the tree.
    pub fn start(&self, system: &System) -> impl Future<Output = Result<Pid, ChildError>> + use<> {
        self.0.start(system)
    }

    /// This supervisor as a child of another: permanent, and stopped without a limit of time.
    pub fn child(&self) -> ChildSpec {
        self.0.child()
    }

    /// Starts a child. The request is made in this call, whether or not the future is awaited; it resolves when the
    /// child is ready. Starts don't wait for each other.
    pub fn start_child(&self, spec: ChildSpec) -> impl Future<Output = Result<Started, ChildError>> + use<> {
        self.0.start_child(spec)
    }

    /// Stops a child and forgets it. Also ends the restarts of the one whose latest start this was. A process that
    /// has ended is no error; one that is alive and not a child is [`ChildError::NotFound`].
    pub fn terminate_child(&self, child: &Pid) -> impl Future<Output = Result<(), ChildError>> + use<> {
        let answer = match self.0.shell() {
            None => Answering::at_once(Err(ChildError::NoProcess)),
            Some(shell) => match shell.key_of(child) {
                None if child.is_alive() => Answering::at_once(Err(ChildError::NotFound)),
                None => Answering::at_once(Ok(Started::default())),
                Some(key) => shell.ask(Request::Terminate(Which::Key(key))),
            },
        };
        answer.done()
    }

    /// The children, the first started first.
    pub fn which_children(&self) -> Vec<ChildInfo> {
        self.0.children()
    }

    /// How many children there are, and how many are alive.
    pub fn count_children(&self) -> Counts {
        Counts::of(&self.which_children())
    }

    /// Its process, while it runs.
    pub fn pid(&self) -> Option<Pid> {
        self.0.pid()
    }

    /// Its name.
    pub fn name(&self) -> &Rc<str> {
        &self.0.name
    }

    /// Asks it to stop and waits for its exit, as [`Supervisor::stop`](crate::Supervisor::stop).
    pub async fn stop(&self) -> Exit {
        stop(self.pid()).await
    }
}
