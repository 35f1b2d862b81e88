//! The page of a run, as its owner in JavaScript reaches it: what a run asks and tells goes out by the key of the call
//! `run`, and what the page answers comes back by it.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use tinkex_supervise::{Reply, reply};

use super::super::door::Talk;
use super::super::host::from_run;
use crate::platform::plain::{Given, Plain, Value};
use crate::run::page::{Ask, Failure, FailureKind, News, Page, Told};
use crate::run::{Brought, End, Run, data};
use crate::wire::arguments;

pub struct RunPage {
    /// Of the call that opened the run.
    key: u32,
    run: OnceCell<Run>,
    asked: RefCell<Vec<Asked>>,
    last: Cell<u32>,
}

/// A question that is not answered yet.
struct Asked {
    number: u32,
    what: What,
    reply: Reply<Result<Told, Failure>>,
}

#[derive(Clone, Copy)]
enum What {
    Rows,
    Stream,
    Step,
}

impl RunPage {
    pub fn new(key: u32) -> Rc<RunPage> {
        Rc::new(RunPage { key, run: OnceCell::new(), asked: RefCell::default(), last: Cell::new(0) })
    }

    /// From now on the page's messages reach the run.
    pub fn is_of(&self, run: Run) {
        let _ = self.run.set(run);
    }

    fn answered(&self, given: Given) {
        let number = given.count("ask");
        let mut asked = self.asked.borrow_mut();
        let Some(place) = asked.iter().position(|asked| asked.number == number) else { return };
        let Asked { what, reply, .. } = asked.remove(place);
        drop(asked);
        let _ = reply.send(told(what, given));
    }
}

impl Talk for RunPage {
    fn hear(&self, given: Given) {
        match given.word("type") {
            "answer" => self.answered(given),
            "note" => {
                let name = given.optional_text("name").unwrap_or_default();
                let (method, value) = (given.text("method"), given.text("value"));
                if let Some(run) = self.run.get() {
                    run.note(given.count("attempt"), given.count("index"), method, name, value);
                }
            }
            "hidden" => self.run.get().into_iter().for_each(Run::hidden),
            _ => {}
        }
    }
}

fn told(what: What, given: Given) -> Result<Told, Failure> {
    if let Some(message) = given.optional_text("failure") {
        let kind = match given.optional_text("kind").as_deref() {
            Some("data_mismatch") => FailureKind::DataMismatch,
            Some("step_mismatch") => FailureKind::StepMismatch,
            _ => FailureKind::Thrown,
        };
        return Err(Failure { kind, message });
    }
    let told = match what {
        What::Rows => Told::Data(arguments::data(given)),
        What::Stream => Told::Stream {
            data: arguments::data(given),
            cursors: given.list("cursors").filter_map(Value::as_text).map(str::to_owned).collect(),
            end: given.flag("end"),
        },
        What::Step => Told::Step(given.optional_text("value")),
    };
    let thrown =
        |error: crate::Error| Failure { kind: FailureKind::Thrown, message: error.message().to_owned() };
    given.wrong().check().map(|()| told).map_err(thrown)
}

impl Page for RunPage {
    fn ask(&self, ask: Ask) -> LocalBoxFuture<'static, Result<Told, Failure>> {
        let number = self.last.get() + 1;
        self.last.set(number);
        let (reply, answer) = reply();
        let (what, message) = question(number, &ask);
        self.asked.borrow_mut().push(Asked { number, what, reply });
        from_run(self.key, &message);
        async move {
            answer.await.unwrap_or_else(|_| {
                let message = "the page that has the run's data and functions has gone".to_owned();
                Err(Failure { kind: FailureKind::Thrown, message })
            })
        }
        .boxed_local()
    }

    fn tell(&self, news: News) {
        let message = Plain::object(|plain| match &news {
            News::Event(event) => {
                plain.text("type", "event");
                plain.raw("event", event);
            }
            News::Status(status) => {
                plain.text("type", "status");
                plain.raw("status", status);
            }
            News::Over(attempt) => {
                plain.text("type", "over");
                plain.number("attempt", (*attempt).into());
            }
        });
        from_run(self.key, &message);
    }
}

fn question(number: u32, ask: &Ask) -> (What, Vec<u8>) {
    let what = match ask {
        Ask::Rows(_) => What::Rows,
        Ask::Stream { .. } => What::Stream,
        Ask::Step { .. } => What::Step,
    };
    let message = Plain::object(|plain| {
        plain.text("type", "ask");
        plain.number("ask", number.into());
        match ask {
            Ask::Rows(rows) => {
                plain.text("what", "rows");
                let list = plain.list("rows");
                rows.iter().for_each(|row| plain.item_number((*row).into()));
                plain.close(list);
            }
            Ask::Stream { cursor, count } => {
                plain.text("what", "stream");
                if let Some(cursor) = cursor {
                    plain.text("cursor", cursor);
                }
                plain.number("count", (*count).into());
            }
            Ask::Step { step, attempt, recorded } => {
                plain.text("what", "step");
                plain.number("step", (*step).into());
                plain.number("attempt", (*attempt).into());
                let entries = plain.list("entries");
                for call in recorded {
                    let entry = plain.item();
                    plain.text("method", &call.method);
                    plain.flag("done", call.done);
                    if !call.name.is_empty() {
                        plain.text("name", &call.name);
                    }
                    if let Some(value) = &call.value {
                        plain.text("value", value);
                    }
                    plain.close(entry);
                }
                plain.close(entries);
            }
        }
    });
    (what, message)
}

/// What a page brings to open a run.
pub fn brought(given: Given) -> Brought {
    Brought {
        data: given.get("data").map(|value| data(Given::of(value, given.wrong()))),
        loss: given.optional_text("lossFn"),
        version: given
            .optional_text("version")
            .filter(|_| given.optional_flag("canStep").unwrap_or_default()),
    }
}

/// How a run ended here, as the call `run` settles.
pub fn end(End { state, cause }: &End) -> Vec<u8> {
    Plain::object(|plain| {
        plain.text("state", state);
        if let Some((cause, message)) = cause {
            let object = plain.inner("cause");
            plain.text("kind", cause.as_str());
            plain.text("message", message);
            plain.text("ends", cause.ends());
            plain.close(object);
        }
    })
}
