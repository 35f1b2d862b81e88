//! The world of a test: a clock, a system, what was reported, and children that do as they are told.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::Future,
    rc::Rc,
    time::Duration,
};

use tinkex_supervise::{virtual_time::VirtualTime, *};

pub struct World {
    pub time: Rc<VirtualTime>,
    pub system: System,
    pub reports: Rc<RefCell<Vec<Report>>>,
    /// What children did: `+id` for a start that came to be ready, `-id` for an end.
    pub log: Rc<RefCell<Vec<String>>>,
}

pub const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub fn abnormal() -> Exit {
    Exit::error("abnormal")
}

/// What a start does.
#[derive(Clone, Debug)]
pub enum Init {
    Ready,
    Fail(Exit),
    /// Fails so after a while.
    FailAfter(Duration, Exit),
    Never,
}

impl World {
    pub fn new() -> Self {
        Self::seeded(0)
    }

    pub fn seeded(seed: u64) -> Self {
        let time = VirtualTime::new(seed);
        let system = System::new(time.runtime());
        let reports = Rc::new(RefCell::new(Vec::new()));
        let noted = reports.clone();
        system.on_report(move |report| noted.borrow_mut().push(report.clone()));
        Self { time: Rc::new(time), system, reports, log: Rc::default() }
    }

    /// Runs a future to its end.
    pub fn run<F: Future>(&self, future: F) -> F::Output {
        self.time.block_on(future)
    }

    /// Runs what is ready; the clock stays.
    pub fn settle(&self) {
        self.time.run_until_stalled();
    }

    /// OTP's `exit(Pid, Reason)`, and what follows from it.
    pub fn terminate(&self, pid: &Pid, exit: Exit) {
        pid.kill(exit);
        self.settle();
    }

    /// A child that is ready at once, and stops when it is asked to.
    pub fn child(&self, id: &str) -> ChildSpec {
        self.child_with(id, |_| Init::Ready)
    }

    /// A child that starts once, and fails to start from then on.
    pub fn child_that_starts_once(&self, id: &str) -> ChildSpec {
        self.child_with(id, |nth| if nth == 0 { Init::Ready } else { Init::Fail(Exit::error("no more")) })
    }

    /// A child whose starts take these turns; when they are over, it is ready.
    pub fn child_that(&self, id: &str, turns: impl IntoIterator<Item = Init>) -> ChildSpec {
        let turns = RefCell::new(turns.into_iter().collect::<VecDeque<_>>());
        self.child_with(id, move |_| turns.borrow_mut().pop_front().unwrap_or(Init::Ready))
    }

    pub fn child_with(&self, id: &str, init: impl Fn(u32) -> Init + 'static) -> ChildSpec {
        self.child_that_ends(id, init, ms(0), None)
    }

    /// A child that takes `after` to stop when asked, and then ends with `exit`.
    pub fn slow_child(&self, id: &str, after: Duration, exit: Option<Exit>) -> ChildSpec {
        self.child_that_ends(id, |_| Init::Ready, after, exit)
    }

    fn child_that_ends(
        &self,
        id: &str,
        init: impl Fn(u32) -> Init + 'static,
        after: Duration,
        exit: Option<Exit>,
    ) -> ChildSpec {
        let (log, starts) = (self.log.clone(), Cell::new(0));
        let name = id.to_owned();
        ChildSpec::new(id, move |ctx| {
            let turn = init(starts.replace(starts.get() + 1));
            let (log, name, exit) = (log.clone(), name.clone(), exit.clone());
            async move {
                match turn {
                    Init::Ready => {}
                    Init::Fail(exit) => return Err(exit),
                    Init::FailAfter(time, exit) => {
                        ctx.system().runtime().timer(time).await;
                        return Err(exit);
                    }
                    Init::Never => std::future::pending().await,
                }
                log.borrow_mut().push(format!("+{name}"));
                let _ended = Ended(log, name);
                ctx.ready();
                ctx.shutdown().await;
                if !after.is_zero() {
                    ctx.system().runtime().timer(after).await;
                }
                exit.map_or(Ok(()), Err)
            }
        })
    }

    /// What was logged since the last call.
    pub fn log(&self) -> Vec<String> {
        self.log.take()
    }

    /// The supervisor reports since the last call, as (context, offender, reason).
    pub fn complaints(&self) -> Vec<(ReportContext, String, Exit)> {
        let reports = self.reports.take();
        let complaint = |report| match report {
            Report::Supervisor { context, offender, reason, .. } => {
                Some((context, offender.to_string(), reason))
            }
            _ => None,
        };
        reports.into_iter().filter_map(complaint).collect()
    }

    /// A supervisor that bears two restarts in an hour, as most of the suite's.
    pub fn supervisor(&self, strategy: Strategy) -> Supervisor {
        Supervisor::new("sup_test").strategy(strategy).intensity(2, seconds(3600))
    }

    /// The same, started.
    pub fn started(&self, strategy: Strategy) -> Supervisor {
        let supervisor = self.supervisor(strategy);
        self.start(&supervisor);
        supervisor
    }

    pub fn start(&self, supervisor: &Supervisor) -> Pid {
        self.run(supervisor.start(&self.system)).expect("the supervisor starts")
    }

    /// Starts a child, and gives its process.
    pub fn add(&self, supervisor: &Supervisor, spec: ChildSpec) -> Pid {
        self.run(supervisor.start_child(spec)).expect("the child starts").pid.expect("it has something to do")
    }

    /// Starts a child of a dynamic supervisor, and gives its process.
    pub fn add_to(&self, supervisor: &DynamicSupervisor, spec: ChildSpec) -> Pid {
        self.run(supervisor.start_child(spec)).expect("the child starts").pid.expect("it has something to do")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.system.assert_accounted();
        }
    }
}

struct Ended(Rc<RefCell<Vec<String>>>, String);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.borrow_mut().push(format!("-{}", self.1));
    }
}

/// (specs, active, supervisors, workers)
pub fn counts(counts: Counts) -> [usize; 4] {
    [counts.specs, counts.active, counts.supervisors, counts.workers]
}

/// The children's ids, the last started first, with a mark for those that don't run.
pub fn ids(supervisor: &Supervisor) -> Vec<String> {
    let line = |child: ChildInfo| match child {
        ChildInfo { id, restarting: true, .. } => format!("{id} restarting"),
        ChildInfo { id, pid: None, .. } => format!("{id} undefined"),
        ChildInfo { id, .. } => id.to_string(),
    };
    supervisor.which_children().into_iter().map(line).collect()
}

pub fn pid_of(supervisor: &Supervisor, id: &str) -> Pid {
    supervisor.child_pid(id).expect("the child runs")
}
