//! What a client tells the service of itself: that a session began and ended, and that something of this package crashed.
//!
//! Whoever has something to tell puts it into a bounded queue and goes on; one supervised process sends it, one request at
//! a time. That is the first child of its service's tree, so it ends last, when everybody has told the end of theirs. Its
//! failures are nobody else's: what the server doesn't take waits, what finds no room is dropped, and should the process
//! crash, the service goes on without it.
//!
//! What did not get out is kept in the store, and sent by whoever opens a session there next. So an event may arrive
//! twice, under the same id: once from a page that lives and could not send it, once from the next.

mod event;
mod queue;
mod sender;
mod state;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use tinkex_journal::record::telemetry_key;
use tinkex_protocol::SessionId;
use tinkex_supervise::{ChildSpec, Exit, PanicInfo, Report, ReportContext, Restart, Shutdown, System};

use crate::platform::uuid;
use crate::store::{Journal, Store};
use crate::transport::Transport;
use event::Event;
use sender::Sender;
use state::{Mode, Session, State};

/// How long the end of a service waits for the server to take the rest.
const DRAIN: Duration = Duration::from_secs(2);

/// How a session came to be this service's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    Made,
    /// Somebody else had it.
    Resumed,
    /// It was this service's already, and its instance died.
    Again,
}

/// The telemetry of one service, with all its sessions. Clones are the same.
#[derive(Clone)]
pub struct Telemetry(Rc<Inner>);

struct Inner {
    transport: Transport,
    store: Rc<dyn Store>,
    /// Of the record of what did not get out.
    key: String,
    process: String,
    state: RefCell<State>,
    /// The last panic that was told: it may end several processes.
    last_panic: RefCell<Option<Rc<PanicInfo>>>,
}

impl Telemetry {
    /// `owner` names the service, as in [`Choice`](crate::session::Choice). Turned off, nothing is told, sent or written.
    pub fn new(on: bool, transport: &Transport, store: &Rc<dyn Store>, owner: &str) -> Telemetry {
        let process = uuid(&**transport.platform());
        let mode = if on { Mode::Open } else { Mode::Off };
        let state = State::new(mode, ["sessionless-", &process].concat());
        Telemetry(Rc::new(Inner {
            transport: transport.clone(),
            store: store.clone(),
            key: telemetry_key(owner),
            process,
            state: RefCell::new(state),
            last_panic: RefCell::default(),
        }))
    }

    /// The process that sends, and listens to every crash in the tree; none where telemetry is turned off.
    pub fn child(&self, system: &System) -> Option<ChildSpec> {
        if self.0.state.borrow().mode == Mode::Off {
            return None;
        }
        let (listener, inner) = (self.0.clone(), self.0.clone());
        system.on_report(move |report| listener.hear(report));
        let sender = ChildSpec::new("telemetry", move |ctx| Sender::new(inner.clone(), ctx));
        // A crash of it must not count as one of its service's.
        Some(sender.restart(Restart::Temporary).shutdown(Shutdown::After(DRAIN)))
    }

    /// The service has a session more.
    pub fn opened(&self, journal: &Journal, how: Opened) {
        {
            let state = &mut *self.0.state.borrow_mut();
            let id = journal.session().as_str().to_owned();
            state.sessions.push(Session::new(id, self.0.transport.platform().now()));
            state.journal = Some(journal.clone());
        }
        self.0.tell(match how {
            Opened::Made => Event::SessionStart,
            Opened::Resumed => Event::SessionResumed,
            Opened::Again => Event::InstanceLost,
        });
    }

    /// It was finished here.
    pub fn finished(&self, session: &SessionId) {
        self.0.close(session.as_str(), |after| Event::SessionEnd { after });
    }

    /// The server has ended it.
    pub fn lost(&self, session: &SessionId) {
        self.0.close(session.as_str(), |_| Event::SessionLost);
    }

    /// The page is hidden, and may never be seen again: what waits is sent now, so that it arrives also when the page goes.
    pub fn leave(&self) {
        self.0.state.borrow_mut().leave(Mode::Leaving);
    }
}

impl Inner {
    fn hear(&self, report: &Report) {
        let reason = match report {
            Report::Supervisor { supervisor, context: ReportContext::Shutdown, .. } => {
                // A client that crashes too often is no failure of its service's.
                return if &**supervisor == "service" {
                    self.tell(Event::ServiceFailed)
                };
            }
            Report::Supervisor { reason, .. }
            | Report::TaskExited { reason, .. }
            | Report::Contained { reason, .. } => reason,
            _ => return,
        };
        let Exit::Panic(panic) = reason else { return };
        let last = self.last_panic.borrow_mut().replace(panic.clone());
        if !last.is_some_and(|last| Rc::ptr_eq(&last, panic)) {
            self.tell(Event::Panicked(panic));
        }
    }

    /// Tells the last of a session, if it is open.
    fn close(&self, session: &str, event: fn(Duration) -> Event<'static>) {
        let state = &mut *self.state.borrow_mut();
        if let Some(at) = state.sessions.iter().position(|open| open.id == session) {
            self.close_at(state, at, event);
        }
    }

    fn close_at(&self, state: &mut State, at: usize, event: fn(Duration) -> Event<'static>) {
        let session = state.sessions.remove(at);
        let since = session.since;
        // What is told now is of the latest.
        state.sessions.push(session);
        self.add(state, &event(self.transport.platform().now().saturating_sub(since)));
        state.sessions.pop();
    }

    /// The service ends, and what is open ends with it.
    fn end(&self) {
        let state = &mut *self.state.borrow_mut();
        while state.sessions.len() > 1 {
            self.close_at(state, state.sessions.len() - 1, |after| Event::SessionEnd { after });
        }
        if state.mode != Mode::Ending {
            state.leave(Mode::Ending);
        }
    }

    /// Puts an event of the latest session into the queue.
    fn tell(&self, event: Event) {
        self.add(&mut self.state.borrow_mut(), &event);
    }

    fn add(&self, state: &mut State, event: &Event) {
        if state.mode != Mode::Off {
            let written = self.written(state, event);
            state.push(written, &self.process, event.is_urgent(), self.transport.platform().now());
        }
    }

    fn written(&self, state: &mut State, event: &Event) -> Vec<u8> {
        let platform = &**self.transport.platform();
        state.written(event, &uuid(platform), platform.unix_time())
    }
}
