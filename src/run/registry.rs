//! The runs that are kept, and those of them that are open here.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use tinkex_journal::record::{Record, unescaped};
use tinkex_supervise::{
    AutoShutdown, CancelToken, ChildSpec, Context, DynamicSupervisor, Exit, Report, ReportContext, Restart,
    Started, Strategy, Supervisor, mailbox,
};

use super::driver::Driver;
use super::event::History;
use super::feed::Data;
use super::opening::one;
use super::order::Position;
use super::page::Page;
use super::records::{
    Control, Cursor, Kept, RUNS, Row, State, control_key, cursor_key, rows_prefix, run_key, step_prefix,
};
use super::spec::{Spec, Work};
use super::status::{Cause, Status, cause_of};
use super::{End, MOST_AHEAD, Run, Shared};
use crate::error::{Error, Outcome};
use crate::platform::plain::{Given, Plain, Wrong};
use crate::platform::uuid;
use crate::service::{self, Service};
use crate::store::{Durability, Fence, Store, put};

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
    /// `supervisor`: a child of the service, under which each open run is one.
    pub fn new(service: &Service, supervisor: &DynamicSupervisor) -> Runs {
        let runs = Runs(Rc::new(All {
            service: service.shared().clone(),
            supervisor: supervisor.clone(),
            open: RefCell::default(),
        }));
        let all = Rc::downgrade(&runs.0);
        service.system().on_report(move |report| {
            let Report::Supervisor { supervisor, context, reason, .. } = report else { return };
            let Some(all) = all.upgrade() else { return };
            let open = all.open.borrow();
            let Some(run) = open.iter().find(|run| *run.0.process_name() == **supervisor) else { return };
            match context {
                ReportContext::ChildTerminated => drop(run.0.crash.replace(reason.to_string())),
                ReportContext::Shutdown => {
                    let message = ["it crashed too often, last: ", &run.0.crash.borrow()].concat();
                    run.0.end(End { state: "closed", cause: Some((Cause::Crashed, message)) });
                }
                _ => {}
            }
        });
        runs
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
                fence: RefCell::default(),
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
                let history =
                    newest(store, &id, control.incarnation, spec.pipeline.unwrap_or(MOST_AHEAD)).await?;
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
        let message =
            if control.state.is_to_stop() { "it is to stop, and does so where it is opened" } else { "" };
        let cause = cause_of(control, (Cause::NeedsOwner, control.since, message));
        let checkpoint = history.latest().map(|saved| (saved.step, &*saved.path));
        let History { step, loss, .. } = *history;
        Status { id, spec, control, step, loss, submitted: step, cause, checkpoint, created }.to_plain()
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

/// A run whose loop crashed too often is paused, so that it crashes no more before somebody has looked at it.
pub(super) async fn keep_crash(shared: &Shared, message: &str) {
    let Some(fence) = shared.fence.borrow().clone() else { return };
    let Ok(kept) = control(fence.store(), &shared.id).await else { return };
    let (state, cause) = match kept.state {
        State::Running => (State::Paused, Cause::Crashed.as_str()),
        State::Stopping | State::Saving => (State::Stopped, ""),
        _ => return,
    };
    let crashed =
        Control { state, cause: cause.into(), message: message.into(), since: shared.now(), ..kept };
    // What can't be written now crashes again where it is opened.
    let _ = fence.commit(Durability::Strict, vec![put(control_key(&shared.id), &crashed)]).await;
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

pub(super) async fn control(store: &Rc<dyn Store>, id: &str) -> Result<Control, Error> {
    let key = control_key(id);
    let bytes = one(store, &key).await?.unwrap_or_default();
    Control::from_bytes(&key, &bytes).map_err(|why| Error::unreadable_record(&key, why))
}

/// The last finished step, without a look at all those before: it is one of those under way at the cursor, or just before them.
async fn newest(store: &Rc<dyn Store>, id: &str, incarnation: u32, ahead: u32) -> Result<History, Error> {
    let asked = cursor(store, id).await?.step;
    let mut history = History::default();
    for step in (0..=asked).rev().take(ahead as usize + 2) {
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
pub(super) async fn cursor(store: &Rc<dyn Store>, id: &str) -> Result<Cursor, Error> {
    let key = cursor_key(id);
    match one(store, &key).await? {
        Some(bytes) => Cursor::from_bytes(&key, &bytes).map_err(|why| Error::unreadable_record(&key, why)),
        None => Ok(Cursor { step: 1, position: Position::default() }),
    }
}
