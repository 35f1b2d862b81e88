//! Where a supervisor's runs come and go: what it was told, and the run that there is.

use std::{
    cell::{Cell, RefCell},
    future::{Future, ready},
    pin::Pin,
    rc::Rc,
};

use crate::{
    answers::{Answering, ChildError, ChildInfo},
    callers::Callers,
    context::Context,
    exit::Exit,
    machine::{Machine, Request},
    panics::destructor,
    pid::{Kind, Pid},
    process::{self, Life, Start},
    shell::Shell,
    spec::{AutoShutdown, ChildSpec, Intensity, SpecError, Strategy, check_children},
    system::System,
};

/// What both kinds of supervisor are handles of.
pub(crate) struct Seat {
    pub(crate) name: Rc<str>,
    pub(crate) plan: Plan,
    make: fn(&Plan) -> Box<dyn Machine>,
    /// The run of this supervisor, while there is one.
    current: RefCell<Option<Rc<Shell>>>,
}

/// What a supervisor is told before it starts.
pub(crate) struct Plan {
    pub(crate) strategy: Cell<Strategy>,
    pub(crate) intensity: Cell<Intensity>,
    pub(crate) auto_shutdown: Cell<AutoShutdown>,
    pub(crate) max_children: Cell<usize>,
    /// Those that are there from the outset.
    pub(crate) children: RefCell<Vec<ChildSpec>>,
}

impl Seat {
    pub(crate) fn new(name: Rc<str>, make: fn(&Plan) -> Box<dyn Machine>) -> Rc<Self> {
        let plan = Plan {
            strategy: Cell::default(),
            intensity: Cell::default(),
            auto_shutdown: Cell::default(),
            max_children: Cell::new(usize::MAX),
            children: RefCell::default(),
        };
        Rc::new(Self { name, plan, make, current: RefCell::default() })
    }

    pub(crate) fn check(&self) -> Result<(), SpecError> {
        let Plan { intensity, auto_shutdown, children, .. } = &self.plan;
        check_children(intensity.get(), auto_shutdown.get(), &children.borrow())
    }

    /// The process is made in this call; the future resolves when it is ready.
    pub(crate) fn start(
        self: &Rc<Self>,
        system: &System,
    ) -> impl Future<Output = Result<Pid, ChildError>> + use<> {
        let checked = self.check().map_err(ChildError::Spec);
        let seat = self.clone();
        let body = Box::new(move |ctx| seat.run(ctx));
        let pid = checked.map(|()| start_root(system, self.name.clone(), Kind::Supervisor, body));
        async move {
            let pid = pid?;
            pid.started().await.map_err(ChildError::Failed)?;
            Ok(pid)
        }
    }

    pub(crate) fn child(self: &Rc<Self>) -> ChildSpec {
        let seat = self.clone();
        let factory = Rc::new(move |ctx| seat.clone().run(ctx));
        ChildSpec::from_factory(self.name.clone(), Kind::Supervisor, factory).checked(self.check())
    }

    pub(crate) fn start_child(&self, spec: ChildSpec) -> Answering {
        let auto_shutdown = self.plan.auto_shutdown.get();
        match (spec.check_under(auto_shutdown), self.shell()) {
            (Err(error), _) => Answering::at_once(Err(ChildError::Spec(error))),
            (Ok(()), None) => Answering::at_once(Err(ChildError::NoProcess)),
            (Ok(()), Some(shell)) => shell.ask_for_start(spec),
        }
    }

    pub(crate) fn ask(&self, request: Request) -> Answering {
        match self.shell() {
            Some(shell) => shell.ask(request),
            None => Answering::at_once(Err(ChildError::NoProcess)),
        }
    }

    /// The children, in start order.
    pub(crate) fn children(&self) -> Vec<ChildInfo> {
        self.shell().map_or_else(Vec::new, |shell| shell.children())
    }

    pub(crate) fn shell(&self) -> Option<Rc<Shell>> {
        self.current.borrow().clone()
    }

    /// Its process, while it runs.
    pub(crate) fn pid(&self) -> Option<Pid> {
        self.shell().map(|shell| shell.pid())
    }

    fn run(self: Rc<Self>, ctx: Context) -> Pin<Box<dyn Life>> {
        if self.current.borrow().is_some() {
            return Box::pin(ready(Exit::from("this supervisor runs already")));
        }
        let shell = Shell::new(ctx, (self.make)(&self.plan));
        self.current.replace(Some(shell.clone()));
        shell.run(Vacate(self))
    }
}

/// However the run ends, the seat is free for the next.
pub(crate) struct Vacate(Rc<Seat>);

impl Drop for Vacate {
    fn drop(&mut self) {
        destructor(&mut || _ = self.0.current.take());
    }
}

pub(crate) fn start_root(system: &System, name: Rc<str>, kind: Kind, body: process::Body) -> Pid {
    let start = Start {
        name,
        kind,
        parent: None,
        callers: Callers::now(),
        key: 0,
        generation: 0,
        restarts: 0,
        ready_at_once: false,
        owner: None,
        body,
    };
    process::spawn(system, start)
}

pub(crate) async fn stop(pid: Option<Pid>) -> Exit {
    let Some(pid) = pid else { return Exit::NoProcess };
    pid.ask_to_stop();
    pid.monitor().await
}
