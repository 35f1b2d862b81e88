//! What a run asks of its tab, and what it tells it.

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::rc::Rc;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use tinkex::platform::plain::{Given, Wrong};
use tinkex::run::page::{Ask, Failure, FailureKind, News, Page, Recorded, Told};

use super::step::Attempt;
use super::tab::Tab;
use super::work::{LENGTH, broken, datum};
use super::{Mischief, RunWorld, counts};

/// What a source of data or a function throws by itself.
pub const THROWN: &str = "no rewards today";

/// A tab as one opening of a run sees it.
pub struct Hearer {
    tab: Rc<Tab>,
    /// The state that it was told last, and the cause.
    state: Cell<&'static str>,
    cause: RefCell<String>,
}

impl Hearer {
    pub fn new(tab: &Rc<Tab>) -> Hearer {
        Hearer { tab: tab.clone(), state: Cell::new("opened"), cause: RefCell::default() }
    }

    fn status(&self, given: Given) {
        let RunWorld { notes, plan, .. } = &*self.tab.world;
        let tally = &self.tab.world.tally;
        let incarnation = given.count("incarnation");
        if let Some(model) = given.optional_text("modelId") {
            notes.borrow_mut().models.insert(incarnation, model);
        }
        let cause = given.get("cause").map(|cause| Given::of(cause, given.wrong()));
        let kind = cause.map(|cause| cause.text("kind")).unwrap_or_default();
        let state = given.text("state");
        tally
            .tell(format_args!("{state} {kind} at step {}, incarnation {incarnation}", given.number("step")));
        let now = match &*state {
            "running" => "running",
            "paused" => "paused",
            "completed" => "completed",
            _ => "stopped",
        };
        if !kind.is_empty() && *kind != **self.cause.borrow() {
            tally.fault(counts::fault("cause", &kind).expect("every cause is listed"));
        }
        self.cause.replace(kind);
        let before = self.state.replace(now);
        if before != now {
            assert!((before, now) != ("paused", "completed"), "a paused run is completed");
            tally.transition(&format!("run of plan {}", plan.number), before, now);
        }
    }

    fn event(&self, given: Given) {
        let tally = &self.tab.world.tally;
        let kind = given.text("type");
        tally.tell(format_args!("event {kind} {} {}", given.number("step"), given.number("incarnation")));
        let fault = match &*kind {
            "checkpoint" => counts::fault("checkpoint", &given.text("reason")),
            kind => counts::fault("event", kind),
        };
        tally.fault(fault.expect("every kind of event is listed"));
        match &*kind {
            "step" => self.tab.world.unsaved.set(true),
            "checkpoint" => self.tab.world.unsaved.set(false),
            _ => {}
        }
        if kind == "incarnation" {
            tally.fault(match given.optional_text("path") {
                Some(_) => "incarnation: from a checkpoint",
                None => "incarnation: from the beginning",
            });
        }
    }
}

impl Page for Hearer {
    fn ask(&self, ask: Ask) -> LocalBoxFuture<'static, Result<Told, Failure>> {
        let tab = self.tab.clone();
        async move {
            let world = &*tab.world;
            world.runtime.timer(world.dice.up_to_ms(20)).await;
            match ask {
                Ask::Rows(rows) => {
                    let broken = data_asked(world)?;
                    let data = rows.into_iter().enumerate();
                    Ok(Told::Data(data.map(|(nth, row)| row_of(row, broken && nth == 0)).collect()))
                }
                Ask::Stream { cursor, count } => {
                    let broken = data_asked(world)?;
                    let from = cursor.map_or(0, |cursor| cursor.parse().expect("it is one of ours"));
                    let until = LENGTH.min(from + count);
                    Ok(Told::Stream {
                        data: (from..until).map(|row| row_of(row, broken && row == from)).collect(),
                        cursors: (from..until).map(|row| (row + 1).to_string()).collect(),
                        end: until < from + count,
                    })
                }
                Ask::Step { step, attempt, recorded } => take_step(&tab, step, attempt, recorded).await,
            }
        }
        .boxed_local()
    }

    fn tell(&self, news: News) {
        let wrong = Wrong::default();
        match news {
            News::Event(bytes) => self.event(Given::new(&bytes, &wrong)),
            News::Status(bytes) => self.status(Given::new(&bytes, &wrong)),
            News::Over(_) => self.tab.world.tally.fault("step: is given up"),
        }
    }
}

fn row_of(row: u32, is_broken: bool) -> tinkex_protocol::Datum {
    if is_broken { broken(row) } else { datum(row) }
}

/// Whether the data are to be broken.
fn data_asked(world: &RunWorld) -> Result<bool, Failure> {
    world.tally.fault("data: are read");
    let failure = |kind, message: &str| Err(Failure { kind, message: message.into() });
    match world.mischief.take() {
        Some(Mischief::Throws) => {
            world.tally.fault("data: the source throws");
            failure(FailureKind::Thrown, THROWN)
        }
        Some(Mischief::HasOtherData) => {
            world.tally.fault("data: are others than before");
            failure(FailureKind::DataMismatch, "row 3 is another one")
        }
        Some(Mischief::HasBrokenData) => {
            world.tally.fault("data: a weight is not a number");
            Ok(true)
        }
        _ => Ok(false),
    }
}

async fn take_step(tab: &Tab, step: u32, attempt: u32, recorded: Vec<Recorded>) -> Result<Told, Failure> {
    let world = &*tab.world;
    let Some(run) = tab.run.borrow().clone() else { return pending().await };
    world.tally.fault("step: begins");
    if !recorded.is_empty() {
        world.tally.fault("step: runs again");
    }
    let incarnation = world.notes.borrow().models.keys().next_back().copied().unwrap_or_default();
    for (place, call) in recorded.iter().enumerate() {
        let heard = world.notes.borrow().heard.contains(&(incarnation, step, place as u32));
        world.tally.fault(match (&*call.method, call.done) {
            ("random", _) => "call: its recorded result is given",
            (_, true) if heard => "call: its recorded result is given",
            (_, true) => "call: its result came while nobody waited",
            ("sample", false) => "call: a sample is drawn again",
            (method, false) => panic!("{method} of step {step} is recorded, and neither done nor under way"),
        });
    }
    let mut attempt =
        Attempt { world, run: &run, number: attempt, place: (incarnation, step), recorded, otherwise: false };
    if let Some(rollouts) = &world.rollouts {
        let number = rollouts[step as usize - 1];
        attempt.train(0, number).await?;
        return Ok(Told::Step(Some(number.to_string())));
    }
    match world.mischief.take() {
        Some(Mischief::Throws) => {
            world.tally.fault("step: its function throws");
            return Err(Failure { kind: FailureKind::Thrown, message: THROWN.into() });
        }
        Some(Mischief::NeverReturns) => {
            world.tally.fault("step: its function never returns");
            return pending().await;
        }
        // Only what was recorded can be asked for otherwise.
        Some(Mischief::AsksOtherwise) if attempt.recorded.len() > 4 => {
            world.tally.fault("step: asks for something else");
            attempt.otherwise = true;
        }
        Some(Mischief::AsksOtherwise) => {
            world.mischief.set(Some(Mischief::AsksOtherwise));
            attempt.run().await?;
            return Err(Failure { kind: FailureKind::Thrown, message: THROWN.into() });
        }
        other => world.mischief.set(other),
    }
    attempt.run().await
}
