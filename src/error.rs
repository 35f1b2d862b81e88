//! What can go wrong, in the words that a caller acts on: the kind, whether the server may have acted, and whether
//! repeating is safe.

use std::fmt;
use std::rc::Rc;

use tinkex_journal::record::{Failed, Unreadable};
use tinkex_protocol::{ModelId, SessionId};
use tinkex_supervise::Exit;

use crate::store::{StoreError, StoreErrorKind};

pub use tinkex_journal::Outcome;

/// What kind of failure it is; JavaScript makes a class of each.
#[derive(Debug, PartialEq)]
pub enum Kind {
    /// An argument that can't be taken; `field` names it as the caller wrote it.
    InvalidArgument { field: String },
    /// The server answered with a status that is not 2xx; `body` is its text.
    Api { status: u16, body: String },
    /// No answer came: refused, reset, name not found, offline.
    Connection,
    /// No answer came in time.
    Timeout,
    /// The server took the request and then failed it, for this category of reasons (`user`, `server`, `unknown`).
    RequestFailed { category: String },
    /// The caller gave the call up.
    Aborted,
    /// The client was closed.
    Closed,
    /// A task of this package panicked: where, and on whose behalf.
    Crashed { place: String, callers: Vec<String> },
    /// The server's answer can't be read.
    Protocol,
    /// More calls than may be under way.
    Refused,
    /// What keeps the records failed, or somebody else holds them now.
    Storage(StoreErrorKind),
    /// The session can't be finished: calls of it are not done.
    Pending,
    /// A run's data are not those that it was started with.
    DataMismatch,
    /// A step's function asked for something else than what was recorded.
    StepMismatch,
}

impl Kind {
    /// The name by which JavaScript picks the class.
    pub fn as_str(&self) -> &'static str {
        match self {
            Kind::InvalidArgument { .. } => "invalid_argument",
            Kind::Api { .. } => "api",
            Kind::Connection => "connection",
            Kind::Timeout => "timeout",
            Kind::RequestFailed { .. } => "request_failed",
            Kind::Aborted => "aborted",
            Kind::Closed => "closed",
            Kind::Crashed { .. } => "crashed",
            Kind::Protocol => "protocol",
            Kind::Refused => "refused",
            Kind::Storage(_) => "storage",
            Kind::Pending => "pending",
            Kind::DataMismatch => "data_mismatch",
            Kind::StepMismatch => "step_mismatch",
        }
    }
}

/// One failure. Cheap to clone, since one cause may reject many callers.
#[derive(Clone, Debug)]
pub struct Error(Rc<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    kind: Rc<Kind>,
    message: String,
    outcome: Outcome,
    retryable: bool,
}

impl Error {
    fn new(kind: Kind, message: String, outcome: Outcome, retryable: bool) -> Error {
        Error(Rc::new(Inner { kind: Rc::new(kind), message, outcome, retryable }))
    }

    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Error {
        Error::new(Kind::InvalidArgument { field: field.into() }, message.into(), Outcome::NotSent, false)
    }

    /// A status that ends the request. The server said no, so it did not act; only 408, 429 and 5xx may pass.
    pub fn api(status: u16, body: String) -> Error {
        let passing = matches!(status, 408 | 429 | 500..);
        let outcome = if status >= 500 || status == 408 { Outcome::Unknown } else { Outcome::Refused };
        let message = format!("the server answered {status}: {}", detail_of(&body));
        Error::new(Kind::Api { status, body }, message, outcome, passing)
    }

    pub fn connection(message: impl Into<String>) -> Error {
        Error::new(Kind::Connection, message.into(), Outcome::Unknown, true)
    }

    pub fn timeout(message: impl Into<String>) -> Error {
        Error::new(Kind::Timeout, message.into(), Outcome::Unknown, true)
    }

    /// The server took the request, tried, and answered that it failed.
    pub fn request_failed(category: impl Into<String>, message: impl Into<String>) -> Error {
        let category = category.into();
        let retryable = category != "user";
        Error::new(Kind::RequestFailed { category }, message.into(), Outcome::Refused, retryable)
    }

    pub fn aborted(outcome: Outcome) -> Error {
        let message = match outcome {
            Outcome::NotSent => "the call was given up before anything was sent",
            _ => "the call was given up after it was sent: the server may still act on it",
        };
        Error::new(Kind::Aborted, message.into(), outcome, outcome == Outcome::NotSent)
    }

    pub fn closed(what: &str, outcome: Outcome) -> Error {
        Error::new(Kind::Closed, format!("{what} is closed"), outcome, outcome == Outcome::NotSent)
    }

    pub fn crashed(
        message: impl Into<String>,
        place: String,
        callers: Vec<String>,
        outcome: Outcome,
    ) -> Error {
        Error::new(Kind::Crashed { place, callers }, message.into(), outcome, outcome == Outcome::NotSent)
    }

    pub fn protocol(message: impl Into<String>) -> Error {
        Error::new(Kind::Protocol, message.into(), Outcome::Unknown, false)
    }

    pub fn no_such_session(session: &SessionId) -> Error {
        let message = format!("no session {session} of this server and account is kept here: make a new one");
        Error::invalid("session", message)
    }

    pub fn no_such_model(model: &ModelId) -> Error {
        let message =
            format!("{model} is not kept here: make a model, or load its last checkpoint into a new one");
        Error::invalid("modelId", message)
    }

    pub fn of_another_session(model: &ModelId, session: &str) -> Error {
        let message = format!("{model} is of session {session}: make a ServiceClient with that `session`");
        Error::invalid("modelId", message)
    }

    /// The session can't be finished: `what` of it nobody has seen the end of.
    pub fn pending(what: &str) -> Error {
        let message = format!("there are calls that are not done or not seen: {what}. Wait for them first");
        Error::new(Kind::Pending, message, Outcome::NotSent, true)
    }

    pub fn data_mismatch(message: impl Into<String>) -> Error {
        Error::new(Kind::DataMismatch, message.into(), Outcome::NotSent, false)
    }

    pub fn step_mismatch(message: impl Into<String>) -> Error {
        Error::new(Kind::StepMismatch, message.into(), Outcome::NotSent, false)
    }

    /// A record that stops what was asked for.
    pub fn unreadable_record(key: &str, why: Unreadable) -> Error {
        let (kind, message) = match why {
            Unreadable::TooNew(version) => return Error::too_new(version),
            Unreadable::Damaged => (StoreErrorKind::Damaged, format!("the record {key} is damaged")),
        };
        Error::from(StoreError { kind, message })
    }

    pub fn too_new(version: u8) -> Error {
        let message = format!(
            "a newer version of this package wrote these records (format {version}): update the package; nothing was \
             changed"
        );
        Error::from(StoreError { kind: StoreErrorKind::TooNew, message })
    }

    /// A call whose records were damaged: what it asked for can't be known any more.
    pub fn lost_record() -> Error {
        let message = "the record of this call is damaged; it was set aside. Whether the server has applied the call is \
                       not known";
        let error = Error::from(StoreError { kind: StoreErrorKind::Damaged, message: message.into() });
        error.with_outcome(Outcome::Unknown)
    }

    /// A call that an earlier life gave up, since the server refused it, or one of its parts, and its numbers were not free.
    pub fn given_up(refusal: Failed) -> Error {
        let what = "the server refused this call or a part of it, so it was given up; it may train on what it took of it before";
        Error::from(refusal).context(what).with_outcome(Outcome::Unknown)
    }

    /// What an exit of a task means to the caller whose work it was.
    pub fn from_exit(exit: &Exit, outcome: Outcome) -> Error {
        match exit {
            Exit::Panic(panic) => {
                let callers = panic.callers.iter().map(|name| name.to_string()).collect();
                let message = format!("a task of this package panicked: {}", panic.message);
                Error::crashed(message, panic.place.to_string(), callers, outcome)
            }
            Exit::Refused => Error::too_many_calls(),
            Exit::Error(_) => Error::crashed(exit.to_string(), String::new(), Vec::new(), outcome),
            _ => Error::closed("the client", outcome),
        }
    }

    /// There is a limit on calls that wait, so that a loop that never waits runs into an error and not out of memory.
    pub fn too_many_calls() -> Error {
        let message = "too many calls of this client are under way: await some before you make more";
        Error::new(Kind::Refused, message.into(), Outcome::NotSent, true)
    }

    /// The same failure of a call about which more is known.
    pub fn with_outcome(&self, outcome: Outcome) -> Error {
        let retryable = self.0.retryable || outcome == Outcome::NotSent;
        Error(Rc::new(Inner { outcome, retryable, ..(*self.0).clone() }))
    }

    /// The same failure, with what was tried said first.
    pub fn context(&self, what: &str) -> Error {
        Error(Rc::new(Inner { message: format!("{what}: {}", self.0.message), ..(*self.0).clone() }))
    }

    pub fn kind(&self) -> &Kind {
        &self.0.kind
    }

    pub fn message(&self) -> &str {
        &self.0.message
    }

    pub fn outcome(&self) -> Outcome {
        self.0.outcome
    }

    /// Whether making the same call again is safe and may help.
    pub fn retryable(&self) -> bool {
        self.0.retryable
    }

    pub fn status(&self) -> Option<u16> {
        match *self.0.kind {
            Kind::Api { status, .. } => Some(status),
            _ => None,
        }
    }
}

impl From<StoreError> for Error {
    fn from(StoreError { kind, message }: StoreError) -> Error {
        let retryable = matches!(kind, StoreErrorKind::Aborted | StoreErrorKind::Blocked);
        Error::new(Kind::Storage(kind), message, Outcome::NotSent, retryable)
    }
}

/// A failure as it is written down and read again. Only what a poll may end with comes back as what it was.
impl From<&Error> for Failed {
    fn from(error: &Error) -> Failed {
        let (status, detail) = match error.kind() {
            Kind::Api { status, body } => (u32::from(*status), body.clone()),
            Kind::RequestFailed { category } => (0, category.clone()),
            _ => (0, String::new()),
        };
        Failed {
            kind: error.kind().as_str().into(),
            status,
            detail,
            message: error.message().into(),
            outcome: error.outcome().as_str().into(),
            retryable: error.retryable(),
        }
    }
}

impl From<Failed> for Error {
    fn from(failed: Failed) -> Error {
        let kind = match failed.kind.as_str() {
            "api" => Kind::Api { status: failed.status as u16, body: failed.detail },
            "request_failed" => Kind::RequestFailed { category: failed.detail },
            _ => Kind::Protocol,
        };
        let outcome = if failed.outcome == "refused" { Outcome::Refused } else { Outcome::Unknown };
        Error::new(kind, failed.message, outcome, failed.retryable)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Error {}

/// A message of the protocol that can't be made from what the caller gave: the path names the argument.
impl From<tinkex_protocol::Error> for Error {
    fn from(error: tinkex_protocol::Error) -> Error {
        Error::invalid(error.path(), error.to_string())
    }
}

/// The text of an error body: `{"detail": "…"}` where it is that, else what it is, cut short.
fn detail_of(body: &str) -> String {
    const SHOWN: usize = 500; // characters: enough for a sentence and a list, too little to flood a console
    let mut detail = crate::transport::answer::detail(body).unwrap_or_else(|| body.to_owned());
    if detail.is_empty() {
        return "(no text)".into();
    }
    if let Some((end, _)) = detail.char_indices().nth(SHOWN) {
        detail.truncate(end);
        detail.push('…');
    }
    detail
}
