//! A page that has a set of data, or a function for the steps, and keeps what it hears of its run.

use std::cell::{Cell, RefCell};
use std::future::ready;
use std::rc::Rc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{LocalBoxFuture, join};
use tinkex::platform::Platform;
use tinkex::platform::plain::{Given, Plain, Wrong};
use tinkex::run::Run;
use tinkex::run::page::{Ask, Failure, FailureKind, News, Page, Recorded, Told};

use crate::given;
use crate::world::{World, batch};

#[derive(Default)]
pub struct Set {
    /// Opened later than the page is made.
    pub run: RefCell<Option<Run>>,
    pub events: RefCell<Vec<String>>,
    pub statuses: RefCell<Vec<String>>,
    /// The most steps that were submitted and not finished.
    pub ahead: Cell<u32>,
    /// What its function does instead of what it would.
    pub mischief: Cell<Option<Mischief>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mischief {
    Throws,
    /// It asks for something else than it did before.
    AsksOtherwise,
}

/// The page of a run, by which it reaches the run again.
pub struct Tab(pub Rc<Set>, pub Rc<World>);

impl Page for Tab {
    fn ask(&self, ask: Ask) -> LocalBoxFuture<'static, Result<Told, Failure>> {
        match ask {
            Ask::Rows(rows) => {
                let data = rows.into_iter().flat_map(|row| batch(row.into())).collect();
                ready(Ok(Told::Data(data))).boxed_local()
            }
            Ask::Stream { .. } => unreachable!("there is no stream here"),
            Ask::Step { .. } if self.0.mischief.get() == Some(Mischief::Throws) => {
                let message = "no rewards today".to_owned();
                ready(Err(Failure { kind: FailureKind::Thrown, message })).boxed_local()
            }
            Ask::Step { step, attempt, recorded } => {
                let (set, noise) = (self.0.clone(), self.1.random());
                let wait = self.1.runtime_timer(Duration::from_millis(1));
                async move {
                    wait.await;
                    let run = set.run.borrow().clone().expect("a run that asks is open");
                    let is_other = set.mischief.get() == Some(Mischief::AsksOtherwise);
                    Set::step(run, step, attempt, recorded, noise, is_other).await
                }
                .boxed_local()
            }
        }
    }

    fn tell(&self, news: News) {
        self.0.tell(news);
    }
}

impl Set {
    /// The status that was told last: its state and its cause.
    pub fn status(&self) -> String {
        self.statuses.borrow().last().cloned().unwrap_or_default()
    }

    /// Draws noise, samples, and trains on both: like a step of reinforcement learning.
    async fn step(
        run: Run,
        step: u32,
        attempt: u32,
        recorded: Vec<Recorded>,
        noise: u64,
        is_other: bool,
    ) -> Result<Told, Failure> {
        let call = async |index, method: &str, args| {
            let came = run.call(attempt, index, method.into(), args).await;
            came.map_err(|failed| given::failure(&failed))
        };
        let noise = match recorded.first().and_then(|first| first.value.clone()) {
            Some(value) => value.parse().unwrap(),
            None => {
                run.note(attempt, 0, "random".into(), String::new(), noise.to_string());
                noise
            }
        };
        let made = call(1, "sampler", Plain::nothing()).await?;
        let sampled = call(2, "sample", given::sample(&given::sampler(&made), 6)).await?;
        let drawn: i64 = given::drawn(&sampled).into_iter().map(i64::from).sum();
        // Both, so that what is trained on tells what was recorded.
        let number = drawn + (noise % 50) as i64;
        let method = if is_other { "forward" } else { "forwardBackward" };
        let passing = call(3, method, given::pass(&batch(number)));
        let stepping = call(4, "optimStep", Plain::nothing());
        let (passed, stepped) = join(passing, stepping).await;
        passed.and(stepped)?;
        Ok(Told::Step(Some(format!("[{step},{number}]"))))
    }

    pub fn tell(&self, news: News) {
        let wrong = Wrong::default();
        match news {
            News::Event(bytes) => {
                let given = Given::new(&bytes, &wrong);
                let (step, incarnation) = (given.number("step"), given.number("incarnation"));
                let value = given.optional_text("value").unwrap_or_default();
                self.events.borrow_mut().push(format!("{} {step} {incarnation}{value}", given.text("type")));
            }
            News::Status(bytes) => {
                let given = Given::new(&bytes, &wrong);
                let cause = given.get("cause").map(|cause| Given::of(cause, &wrong).text("kind"));
                let ahead = given.count("submitted") - given.count("step");
                self.ahead.set(ahead.max(self.ahead.get()));
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

/// What a status says of its cause.
pub fn message(status: &[u8]) -> String {
    let wrong = Wrong::default();
    let cause = Given::new(status, &wrong).get("cause").map(|cause| Given::of(cause, &wrong).text("message"));
    cause.unwrap_or_default()
}
