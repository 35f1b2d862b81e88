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
mod registry;
mod schedule;
mod spec;
mod status;
mod steps;
mod tag;

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::Rc;

use futures_util::FutureExt;
use futures_util::future::{LocalBoxFuture, select};
use tinkex_supervise::{Address, CancelToken, DynamicSupervisor, Mailbox, Pid, Reply, reply};

use crate::error::{Error, Outcome};
use crate::service;
use crate::store::Fence;
use crate::wire::results::failure;
use page::Page;
use records::{Entry, Value};
use registry::{control, cursor};
use spec::Spec;
use steps::{Called, Came};

pub use feed::Data;
pub use registry::{Brought, Runs};
pub use spec::data;
pub use status::Cause;

/// The steps that a run may have submitted and not finished, at most, where it doesn't say how many.
const MOST_AHEAD: u32 = 8;

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
    /// Under which it is written, once it was claimed.
    fence: RefCell<Option<Fence>>,
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
            // Where nothing else was said, its service has ended.
            run.end(End { state: "closed", cause: None });
            let end = run.end.borrow().clone().expect("it was set just now");
            if let Some((Cause::Crashed, message)) = &end.cause {
                registry::keep_crash(&run, message).await;
            }
            end
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

    /// Done when that is written down; how it ended says [`ended`](Run::ended).
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
