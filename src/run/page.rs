//! The page, as a run sees it: it has the data and the functions, and hears what happens.

use futures_util::future::LocalBoxFuture;
use tinkex_protocol::Datum;

/// What a run asks of its page.
#[derive(Clone, Debug, PartialEq)]
pub enum Ask {
    /// These data, by their places in the set.
    Rows(Vec<u32>),
    /// The next data of a stream, from a cursor on, or from the beginning.
    Stream { cursor: Option<String>, count: u32 },
    /// To run the function of a step. What was recorded of it before comes along.
    Step { step: u32, attempt: u32, recorded: Vec<Recorded> },
}

/// A call of a step as it was recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    pub method: String,
    /// Of `once`.
    pub name: String,
    pub done: bool,
    /// JSON text of what the page itself recorded; what the model gave comes when it is asked for.
    pub value: Option<String>,
}

/// What the page answers.
#[derive(Debug)]
pub enum Told {
    Data(Vec<Datum>),
    /// One cursor a datum: where to go on behind it. `end`: there is nothing behind the last one.
    Stream {
        data: Vec<Datum>,
        cursors: Vec<String>,
        end: bool,
    },
    /// What the function gave, as JSON text.
    Step(Option<String>),
}

/// Why the page has no answer.
#[derive(Clone, Debug)]
pub struct Failure {
    pub kind: FailureKind,
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The data are not those that the run was started with.
    DataMismatch,
    /// The function asked for something else than what was recorded.
    StepMismatch,
    /// A function or a source of data threw this.
    Thrown,
}

/// What a run tells its page; each is one plain value.
pub enum News {
    Event(Vec<u8>),
    Status(Vec<u8>),
    /// Nobody waits any more for this attempt at a step.
    Over(u32),
}

pub trait Page {
    /// Dropping the future gives the answer up.
    fn ask(&self, ask: Ask) -> LocalBoxFuture<'static, Result<Told, Failure>>;
    fn tell(&self, news: News);
}
