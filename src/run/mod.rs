//! Training runs: loops that outlive their page.
//!
//! A run is a process with a session and a model of its own. Where it is, its *cursor*, is written in the commit that writes
//! each of its calls, so the two never disagree: after a crash, calls that have a number go on by the journal, and the
//! loop goes on at the cursor.
//!
//! ```text
//! runs                       dynamic
//! └─ run {id}                one-for-all: a crash of its loop begins all of it again, from what is written
//!    ├─ incarnations         dynamic; one service at a time, with the run's session and model
//!    └─ loop
//! ```
//!
//! What the loop asks for is decided in `driver`; `opening` makes models and takes them up again, `steps` records what the
//! page's function does. Data and functions are the page's ([`Page`]).

mod driver;
mod event;
mod feed;
mod opening;
mod order;
pub mod page;
mod records;
mod schedule;
mod spec;
mod status;
mod steps;
mod tag;

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{LocalBoxFuture, select};
use tinkex_journal::record::{Record, unescaped};
use tinkex_supervise::{
    Address, AutoShutdown, CancelToken, ChildSpec, Context, DynamicSupervisor, Exit, Mailbox, Pid, Reply,
    Report, ReportContext, Restart, Started, Strategy, Supervisor, mailbox, reply,
};

use crate::error::{Error, Outcome};
use crate::platform::plain::{Given, Plain, Wrong};
use crate::platform::uuid;
use crate::service::{self, Service};
use crate::store::{Durability, Fence, Store, put};
use crate::wire::results::failure;
use driver::Driver;
use event::History;
use opening::one;
use order::Position;
use page::Page;
use records::{
    Control, Cursor, Entry, Kept, RUNS, Row, State, Value, control_key, cursor_key, rows_prefix, run_key,
    step_prefix,
};
use spec::{Spec, Work};
use status::{Status, kept_cause};
use steps::{Called, Came};

pub use feed::Data;
pub use spec::data;
pub use status::Cause;

/// How often a run's loop may crash before the run has failed.
const RESTARTS: u32 = 3;
const RESTART_PERIOD: Duration = Duration::from_secs(60);

/// The runs of a service. Clones are the same.
#[derive(Clone)]
pub struct Runs(Rc<All>);

struct All {
    service: service::Shared,
    supervisor: DynamicSupervisor,
    open: RefCell<Vec<Run>>,
}

/// A run that is open here. Clones are the same run.
#[derive(Clone)]
pub struct Run(Rc<Shared>);

/// What the processes of a run share, and what outlives them.
struct Shared {
    id: String,
    spec: Spec,
    /// Milliseconds since 1970.
    created: u64,
    /// Of the step function that the page has.
    version: String,
    page: Rc<dyn Page>,
    service: service::Shared,
    incarnations: DynamicSupervisor,
    commands: Address<Command>,
    /// None once it has ended here: nobody would read what comes.
    inbox: RefCell<Option<Mailbox<Command>>>,
    pid: RefCell<Option<Pid>>,
    /// As it was told last.
    status: RefCell<Vec<u8>>,
    /// How its loop crashed last.
    crash: RefCell<String>,
    end: RefCell<Option<End>>,
    ended: CancelToken,
    attempts: Cell<u32>,
}

/// How a run ended here.
#[derive(Clone, Debug)]
pub struct End {
    /// A state of the run, or `closed`: it goes on when it is opened again.
    pub state: &'static str,
    pub cause: Option<(Cause, String)>,
}

/// What a page may say to its run.
enum Command {
    Pause(Reply<Result<(), Error>>),
    Resume { from: Option<String>, restart_step: bool, reply: Reply<Result<(), Error>> },
    Stop { checkpoint: bool, reply: Reply<Result<(), Error>> },
    Checkpoint(Reply<Result<String, Error>>),
    Hidden,
    Call(Called),
    Note { attempt: u32, index: u32, entry: Entry },
}

/// What a page brings to open a run.
#[derive(Clone, Debug, Default)]
pub struct Brought {
    pub data: Option<Data>,
    /// The name of its loss function, where it says one.
    pub loss: Option<String>,
    /// Of its step function, where it has one.
    pub version: Option<String>,
}

impl Runs {
    pub fn new(service: &Service) -> Runs {
        let runs = Runs(Rc::new(All {
            service: service.shared().clone(),
            supervisor: DynamicSupervisor::new("runs"),
            open: RefCell::default(),
        }));
        let all = Rc::downgrade(&runs.0);
        service.system().on_report(move |report| {
            if let Report::Supervisor { supervisor, context: ReportContext::ChildTerminated, reason, .. } =
                report
                && let Some(all) = all.upgrade()
                && let Some(run) = all.open.borrow().iter().find(|run| *run.0.process_name() == **supervisor)
            {
                run.0.crash.replace(reason.to_string());
            }
        });
        runs
    }

    /// The runs as a child of their service.
    pub fn child(&self) -> ChildSpec {
        self.0.supervisor.child()
    }

    /// Writes a run down, and gives its id. `spec`: a plain value.
    pub fn start(&self, spec: &[u8]) -> LocalBoxFuture<'static, Result<String, Error>> {
        let service = self.0.service.clone();
        let spec = spec.to_vec();
        async move {
            let read = Spec::read(&spec)?;
            if let (Some(end), Some(steps)) = (read.schedule.end(), read.steps())
                && end < steps
            {
                let message = format!("the schedule ends with step {end}, and the run has {steps} steps");
                return Err(Error::invalid("learningRate", message));
            }
            let platform = service.transport.platform();
            let id = uuid(&**platform);
            let created = platform.unix_time().as_millis() as u64;
            let control = Control {
                state: State::Running,
                cause: String::new(),
                message: String::new(),
                since: created,
                incarnation: 0,
                model: String::new(),
                session: String::new(),
                version: read.version().to_owned(),
            };
            let fence = Fence::claim(service.store.clone(), run_key(&id)).await?;
            let ops = vec![put(run_key(&id), &Kept { created, spec }), put(control_key(&id), &control)];
            fence.commit(Durability::Strict, ops).await?;
            Ok(id)
        }
        .boxed_local()
    }

    /// Takes a run over from whoever has it, and goes on with it.
    ///
    /// Fails where there is no such run, where what the page brings is not what the run was started with, and where it is
    /// open here already; then nothing was changed.
    pub fn open(
        &self,
        id: String,
        brought: Brought,
        page: Rc<dyn Page>,
    ) -> LocalBoxFuture<'static, Result<Run, Error>> {
        let runs = self.clone();
        async move {
            if runs.find(&id).is_some() {
                return Err(Error::invalid("id", format!("run {id} is open here already")));
            }
            let service = runs.0.service.clone();
            let (created, spec) = kept(&service.store, &id).await?;
            let spec = Spec::read(&spec)?;
            check(&spec, &brought)?;
            let (commands, inbox) = mailbox();
            let incarnations = DynamicSupervisor::new("incarnations");
            let run = Run(Rc::new(Shared {
                version: brought.version.unwrap_or_default(),
                id,
                spec,
                created,
                page,
                service,
                incarnations: incarnations.clone(),
                commands,
                inbox: RefCell::new(Some(inbox)),
                pid: RefCell::default(),
                status: RefCell::default(),
                crash: RefCell::default(),
                end: RefCell::default(),
                ended: CancelToken::new(),
                attempts: Cell::default(),
            }));
            runs.0.open.borrow_mut().push(run.clone());
            let shared = run.0.clone();
            let run_loop = ChildSpec::new("loop", move |ctx| work(shared.clone(), ctx));
            let tree = Supervisor::new(run.0.process_name())
                .strategy(Strategy::OneForAll)
                .intensity(RESTARTS, RESTART_PERIOD)
                .auto_shutdown(AutoShutdown::AnySignificant)
                .with(incarnations.child())
                .with(run_loop.restart(Restart::Transient).significant(true));
            match runs.0.supervisor.start_child(tree.child().restart(Restart::Temporary)).await {
                Ok(Started { pid: Some(pid), .. }) => {
                    run.0.pid.replace(Some(pid));
                    Ok(run)
                }
                _ => Err(Error::closed("this service", Outcome::NotSent)),
            }
        }
        .boxed_local()
    }

    /// A run that is open here.
    pub fn find(&self, id: &str) -> Option<Run> {
        let mut open = self.0.open.borrow_mut();
        open.retain(|run| run.0.end.borrow().is_none());
        open.iter().find(|run| run.0.id == id).cloned()
    }

    /// Ends a run here; it goes on when it is opened again.
    pub fn close(&self, run: &Run) -> LocalBoxFuture<'static, ()> {
        run.0.end(End { state: "closed", cause: None });
        let pid = run.0.pid.borrow().clone();
        let runs = self.clone();
        async move {
            if let Some(pid) = pid {
                let _ = runs.0.supervisor.terminate_child(&pid).await;
            }
        }
        .boxed_local()
    }

    /// All runs that are kept, the newest first: `{ runs: [status, …] }`. Of one that isn't open here, without the checkpoint.
    pub fn list(&self) -> LocalBoxFuture<'static, Result<Vec<u8>, Error>> {
        let runs = self.clone();
        async move {
            let store = &runs.0.service.store;
            let mut found = Vec::new();
            for (key, bytes) in store.load(RUNS).await? {
                let Some(id) = key.strip_prefix(RUNS).and_then(unescaped) else { continue };
                // One that can't be read is said when it is asked for by its id.
                let Ok(Kept { created, spec }) = Kept::from_bytes(&key, &bytes) else { continue };
                let Ok(spec) = Spec::read(&spec) else { continue };
                let control = control(store, &id).await?;
                let history = newest(store, &id, control.incarnation, spec.pipeline).await?;
                found.push((created, runs.status(&id, created, &spec, &control, &history)));
            }
            found.sort_by_key(|(created, _)| std::cmp::Reverse(*created));
            Ok(Plain::object(|plain| {
                let list = plain.list("runs");
                found.iter().for_each(|(_, status)| plain.item_raw(status));
                plain.close(list);
            }))
        }
        .boxed_local()
    }

    /// A run as it is kept: `{ status, rows, spec }`, of the rows those after a time (ms since 1970).
    pub fn read(&self, id: String, after: f64) -> LocalBoxFuture<'static, Result<Vec<u8>, Error>> {
        let runs = self.clone();
        async move {
            let store = &runs.0.service.store;
            let (created, bytes) = kept(store, &id).await?;
            let spec = Spec::read(&bytes)?;
            let control = control(store, &id).await?;
            let mut history = History::default();
            let mut rows = Vec::new();
            for (key, bytes) in store.load(&rows_prefix(&id)).await? {
                let Ok(Row(row)) = Row::from_bytes(&key, &bytes) else { continue };
                history.take(&row);
                let wrong = Wrong::default();
                if Given::new(&row, &wrong).number("at") > after {
                    rows.push(row);
                }
            }
            let status = runs.status(&id, created, &spec, &control, &history);
            Ok(Plain::object(|plain| {
                plain.raw("status", &status);
                plain.raw("spec", &bytes);
                let list = plain.list("rows");
                rows.iter().for_each(|row| plain.item_raw(row));
                plain.close(list);
            }))
        }
        .boxed_local()
    }

    /// As an open run tells it itself; else from its records.
    fn status(&self, id: &str, created: u64, spec: &Spec, control: &Control, history: &History) -> Vec<u8> {
        if let Some(run) = self.find(id).filter(|run| !run.0.status.borrow().is_empty()) {
            return run.0.status.borrow().clone();
        }
        let cause = match control.state {
            State::Running => Some((Cause::NeedsOwner, control.since, "")),
            _ => kept_cause(control),
        };
        let checkpoint = history.latest().map(|saved| (saved.step, &*saved.path));
        let History { step, loss, .. } = *history;
        Status { id, spec, control, step, loss, submitted: step, cause, checkpoint, created }.to_plain()
    }
}

impl Run {
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// As it was told last: a plain value.
    pub fn status(&self) -> Vec<u8> {
        self.0.status.borrow().clone()
    }

    /// How it ended here.
    pub fn ended(&self) -> LocalBoxFuture<'static, End> {
        let run = self.0.clone();
        async move {
            let gone = run.pid.borrow().as_ref().map(Pid::monitor);
            match gone {
                Some(gone) => drop(select(pin!(run.ended.cancelled()), gone).await),
                None => run.ended.cancelled().await,
            }
            let crash = || {
                let message = format!("it crashed too often, last: {}", run.crash.borrow());
                End { state: State::Failed.as_str(), cause: Some((Cause::Crashed, message)) }
            };
            if run.end.borrow().is_none() {
                run.end(crash());
            }
            run.end.borrow().clone().unwrap_or_else(crash)
        }
        .boxed_local()
    }

    pub fn pause(&self) -> LocalBoxFuture<'static, Result<(), Error>> {
        self.command(Command::Pause)
    }

    /// `from`: `checkpoint`, or the path of one, to make a new model of it. `restart_step`: what was recorded of the step
    /// under way is forgotten.
    pub fn resume(
        &self,
        from: Option<String>,
        restart_step: bool,
    ) -> LocalBoxFuture<'static, Result<(), Error>> {
        self.command(|reply| Command::Resume { from, restart_step, reply })
    }

    /// Done when it has stopped.
    pub fn stop(&self, checkpoint: bool) -> LocalBoxFuture<'static, Result<(), Error>> {
        self.command(|reply| Command::Stop { checkpoint, reply })
    }

    /// Saves a checkpoint behind the step under way, and gives its path.
    pub fn checkpoint(&self) -> LocalBoxFuture<'static, Result<String, Error>> {
        self.command(Command::Checkpoint)
    }

    /// The page was hidden, and may never be seen again.
    pub fn hidden(&self) {
        let _ = self.0.commands.send(Command::Hidden);
    }

    /// A call of the step's function. `index`: its place among all of the attempt's calls.
    pub fn call(
        &self,
        attempt: u32,
        index: u32,
        method: String,
        args: Vec<u8>,
    ) -> LocalBoxFuture<'static, Came> {
        let (reply, answer) = reply();
        drop(self.0.commands.send(Command::Call(Called { attempt, index, method, args, reply })));
        async move {
            match answer.await {
                Ok(came) => came,
                Err(_) => Err(failure(&Error::closed("this run", Outcome::Unknown))),
            }
        }
        .boxed_local()
    }

    /// The page itself has recorded something for its function: `value` is JSON text.
    pub fn note(&self, attempt: u32, index: u32, method: String, name: String, value: String) {
        let entry = Entry { method, name, check: 0, value: Some(Value::Given(value.into_bytes())) };
        let _ = self.0.commands.send(Command::Note { attempt, index, entry });
    }

    fn command<T: 'static>(
        &self,
        command: impl FnOnce(Reply<Result<T, Error>>) -> Command,
    ) -> LocalBoxFuture<'static, Result<T, Error>> {
        let (reply, answer) = reply();
        // What nobody takes is dropped, and the answer with it.
        drop(self.0.commands.send(command(reply)));
        async move {
            match answer.await {
                Ok(done) => done,
                Err(_) => Err(Error::closed("this run", Outcome::Unknown)),
            }
        }
        .boxed_local()
    }
}

impl Shared {
    fn process_name(&self) -> Rc<str> {
        ["run ", &self.id].concat().into()
    }

    /// Milliseconds since 1970.
    fn now(&self) -> u64 {
        self.service.transport.platform().unix_time().as_millis() as u64
    }

    fn end(&self, end: End) {
        self.end.borrow_mut().get_or_insert(end);
        self.inbox.take();
        self.ended.cancel();
    }

    fn next_attempt(&self) -> u32 {
        self.attempts.set(self.attempts.get() + 1);
        self.attempts.get()
    }
}

/// The process of a run. It begins with what is written, so a crash costs nothing that was.
async fn work(shared: Rc<Shared>, ctx: Context) -> Result<(), Exit> {
    ctx.ready();
    match Driver::load(shared.clone()).await {
        Ok(driver) => driver.run(ctx).await,
        Err(error) => {
            shared.end(End { state: "closed", cause: Some((Cause::Storage, error.message().to_owned())) });
            Ok(())
        }
    }
}

/// Whether what a page brings is what the run was started with.
fn check(spec: &Spec, brought: &Brought) -> Result<(), Error> {
    let Work::Data { plan, loss } = &spec.work else {
        let missing = || Error::invalid("step", "give the run's step function: openRun(id, { step })");
        return brought.version.as_ref().map(drop).ok_or_else(missing);
    };
    let given = brought.data.as_ref();
    let given = given.ok_or_else(|| Error::invalid("data", "give the run's data: openRun(id, { data })"))?;
    let same = match (&plan.data, given) {
        (Data::Indexed { .. }, Data::Indexed { .. }) => plan.data == *given,
        (Data::Stream { fingerprint: kept, .. }, Data::Stream { fingerprint: given, .. }) => kept == given,
        _ => false,
    };
    if !same {
        return Err(Error::data_mismatch(
            "these are not the data that the run was started with; give it those. Nothing was changed",
        ));
    }
    match &brought.loss {
        Some(given) if *given != loss.loss_fn => {
            let message = format!("the run was started with {}: leave loss out, or give that", loss.loss_fn);
            Err(Error::invalid("loss", message))
        }
        _ => Ok(()),
    }
}

async fn kept(store: &Rc<dyn Store>, id: &str) -> Result<(u64, Vec<u8>), Error> {
    let key = run_key(id);
    let Some(bytes) = one(store, &key).await? else {
        let message = format!("no run {id} of this server and account is kept here");
        return Err(Error::invalid("id", message));
    };
    let Kept { created, spec } =
        Kept::from_bytes(&key, &bytes).map_err(|why| Error::unreadable_record(&key, why))?;
    Ok((created, spec))
}

async fn control(store: &Rc<dyn Store>, id: &str) -> Result<Control, Error> {
    let key = control_key(id);
    let bytes = one(store, &key).await?.unwrap_or_default();
    Control::from_bytes(&key, &bytes).map_err(|why| Error::unreadable_record(&key, why))
}

/// The last finished step, without a look at all those before: it is one of those under way at the cursor, or just before them.
async fn newest(
    store: &Rc<dyn Store>,
    id: &str,
    incarnation: u32,
    pipeline: usize,
) -> Result<History, Error> {
    let asked = cursor(store, id).await?.step;
    let mut history = History::default();
    for step in (0..=asked).rev().take(pipeline + 2) {
        for (key, bytes) in store.load(&step_prefix(id, incarnation, step)).await? {
            if let Ok(Row(row)) = Row::from_bytes(&key, &bytes) {
                history.take(&row);
            }
        }
        if history.step > 0 {
            break;
        }
    }
    Ok(history)
}

/// Where the run is.
async fn cursor(store: &Rc<dyn Store>, id: &str) -> Result<Cursor, Error> {
    let key = cursor_key(id);
    match one(store, &key).await? {
        Some(bytes) => Cursor::from_bytes(&key, &bytes).map_err(|why| Error::unreadable_record(&key, why)),
        None => Ok(Cursor::at(1, Position::default())),
    }
}
