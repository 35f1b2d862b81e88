//! Training runs: loops that outlive their page.

use std::cell::RefCell;
use std::future::{pending, ready};
use std::rc::Rc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use tinkex::error::{Error, Kind};
use tinkex::platform::plain::{Given, Plain, Wrong};
use tinkex::run::page::{Ask, Failure, News, Page, Told};
use tinkex::run::{Brought, Cause, Data, End, Run, Runs};
use tinkex_sandbox::TINY;

use crate::world::{World, batch};

/// A page that has a set of data, and keeps what it hears.
#[derive(Default)]
struct Set {
    events: RefCell<Vec<String>>,
    statuses: RefCell<Vec<String>>,
}

impl Page for Set {
    fn ask(&self, ask: Ask) -> LocalBoxFuture<'static, Result<Told, Failure>> {
        match ask {
            Ask::Rows(rows) => {
                let data = rows.into_iter().flat_map(|row| batch(row.into())).collect();
                ready(Ok(Told::Data(data))).boxed_local()
            }
            _ => pending().boxed_local(),
        }
    }

    fn tell(&self, news: News) {
        let wrong = Wrong::default();
        match news {
            News::Event(bytes) => {
                let given = Given::new(&bytes, &wrong);
                let (step, incarnation) = (given.number("step"), given.number("incarnation"));
                self.events.borrow_mut().push(format!("{} {step} {incarnation}", given.text("type")));
            }
            News::Status(bytes) => {
                let given = Given::new(&bytes, &wrong);
                let cause = given.get("cause").map(|cause| Given::of(cause, &wrong).text("kind"));
                self.statuses.borrow_mut().push(format!(
                    "{} {}",
                    given.text("state"),
                    cause.unwrap_or_default()
                ));
            }
            News::Over(_) => {}
        }
    }
}

const LENGTH: u32 = 10;

fn data() -> Data {
    Data::Indexed { length: LENGTH, fingerprint: "numbers".into() }
}

fn brought() -> Brought {
    Brought { data: Some(data()), ..Brought::default() }
}

/// A run over the set, of batches of 2.
fn spec(steps: u32, more: impl FnOnce(&mut Plain)) -> Vec<u8> {
    Plain::object(|plain| {
        plain.text("baseModel", TINY);
        plain.number("rank", 4.0);
        for name in ["trainMlp", "trainAttn", "trainUnembed"] {
            plain.flag(name, true);
        }
        plain.number("loraSeed", 1.0);
        plain.text("kind", "data");
        plain.text("lossFn", "cross_entropy");
        let data = plain.inner("data");
        plain.text("kind", "indexed");
        plain.number("length", LENGTH.into());
        plain.text("fingerprint", "numbers");
        plain.close(data);
        plain.number("stepTimeoutMs", 60_000.0);
        plain.number("batchSize", 2.0);
        plain.flag("shuffle", true);
        plain.number("buffer", 4.0);
        plain.number("steps", steps.into());
        plain.number("seed", 7.0);
        let schedule = plain.inner("schedule");
        plain.text("type", "linear");
        plain.number("peak", 1e-2);
        plain.number("warmupSteps", 2.0);
        plain.number("floor", 0.0);
        plain.close(schedule);
        let adam = plain.inner("adam");
        for (name, value) in
            [("beta1", 0.9), ("beta2", 0.95), ("eps", 1e-12), ("weightDecay", 0.0), ("gradClipNorm", 0.0)]
        {
            plain.number(name, value);
        }
        plain.close(adam);
        plain.number("pipeline", 2.0);
        let recovery = plain.inner("recovery");
        plain.text("from", "latest");
        plain.number("attempts", 3.0);
        plain.number("backoffMs", 1_000.0);
        plain.flag("ask", false);
        plain.close(recovery);
        more(plain);
    })
}

fn checkpoints(plain: &mut Plain, every: u32) {
    let checkpoints = plain.inner("checkpoints");
    if every > 0 {
        plain.number("everySteps", every.into());
    }
    plain.flag("onHide", true);
    plain.close(checkpoints);
}

async fn begin(runs: &Runs, page: &Rc<Set>, spec: &[u8]) -> Result<Run, Error> {
    let id = runs.start(spec).await?;
    runs.open(id, brought(), page.clone()).await
}

fn hash(world: &World, run: &Run) -> String {
    let status = run.status();
    let wrong = Wrong::default();
    let model = Given::new(&status, &wrong).text("modelId");
    crate::weights(&world.ask(&format!("/api/v1/sandbox/models/{model}/hash"))).to_owned()
}

/// Runs it without a disturbance; what it tells, and the weights.
fn undisturbed(steps: u32, every: u32) -> (Vec<String>, String) {
    let world = World::new(0);
    let (_service, runs) = world.runs_of("page");
    let page = Rc::new(Set::default());
    world.time.block_on(async {
        let run = begin(&runs, &page, &spec(steps, |plain| checkpoints(plain, every))).await.unwrap();
        let end = run.ended().await;
        assert_eq!((end.state, end.cause.is_none()), ("completed", true), "{end:?}");
        (page.events.take(), hash(&world, &run))
    })
}

#[test]
fn a_run_takes_its_steps_and_saves_its_checkpoints() {
    let (events, _) = undisturbed(6, 4);
    let mut expected: Vec<String> = (1..=6).map(|step| format!("step {step} 1")).collect();
    expected.insert(4, "checkpoint 4 1".into());
    expected.push("checkpoint 6 1".into());
    assert_eq!(events, expected);
}
