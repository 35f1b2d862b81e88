//! Training runs: loops that outlive their page.

use std::cell::{Cell, RefCell};
use std::future::ready;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{Either, LocalBoxFuture, join, select};
use tinkex::error::{Error, Kind};
use tinkex::platform::Platform;
use tinkex::platform::plain::{Given, Plain, Wrong};
use tinkex::request::Progress;
use tinkex::run::page::{Ask, Failure, FailureKind, News, Page, Recorded, Told};
use tinkex::run::{Brought, Cause, Data, Run, Runs};
use tinkex::store::StoreErrorKind;
use tinkex_protocol::Datum;
use tinkex_protocol::json::training::AdamParams;
use tinkex_sandbox::TINY;
use tinkex_supervise::faults;

use crate::world::{World, batch};

/// A page that has a set of data, or a function for the steps, and keeps what it hears.
#[derive(Default)]
struct Set {
    /// Opened later than the page is made.
    run: RefCell<Option<Run>>,
    events: RefCell<Vec<String>>,
    statuses: RefCell<Vec<String>>,
    /// The function ends with this instead of what it would do.
    throws: Cell<bool>,
    /// What the function asks for instead of what it asked for before.
    changed: Cell<bool>,
}

impl Set {
    /// The status that was told last: its state and its cause.
    fn status(&self) -> String {
        self.statuses.borrow().last().cloned().unwrap_or_default()
    }

    /// Draws noise, samples, and trains on both: like a step of reinforcement learning.
    async fn step(
        run: Run,
        step: u32,
        attempt: u32,
        recorded: Vec<Recorded>,
        noise: u64,
        changed: bool,
    ) -> Result<Told, Failure> {
        let failed = |bytes: Vec<u8>| {
            let wrong = Wrong::default();
            let given = Given::new(&bytes, &wrong);
            let kind = match &*given.text("kind") {
                "step_mismatch" => FailureKind::StepMismatch,
                _ => FailureKind::Thrown,
            };
            Failure { kind, message: given.text("message") }
        };
        let noise = match recorded.first().and_then(|first| first.value.clone()) {
            Some(value) => value.parse().unwrap(),
            None => {
                run.note(attempt, 0, "random".into(), String::new(), noise.to_string());
                noise
            }
        };
        let made = run.call(attempt, 1, "sampler".into(), Plain::nothing()).await.map_err(failed)?;
        let sampler = Given::new(&made, &Wrong::default()).text("sampler");
        let sample = Plain::object(|plain| {
            plain.text("sampler", &sampler);
            let prompt = plain.list("prompt");
            let chunk = plain.item();
            plain.text("type", "encoded_text");
            plain.bytes("tokens", &[1, 0, 0, 0, 2, 0, 0, 0]);
            plain.close(chunk);
            plain.close(prompt);
            plain.number("numSamples", 1.0);
            let params = plain.inner("samplingParams");
            plain.number("maxTokens", 6.0);
            plain.close(params);
            plain.flag("includePromptLogprobs", false);
            plain.number("topkPromptLogprobs", 0.0);
        });
        let sampled = run.call(attempt, 2, "sample".into(), sample).await.map_err(failed)?;
        let wrong = Wrong::default();
        let sequence = Given::new(&sampled, &wrong).list("sequences").next().unwrap();
        let tokens = Given::of(sequence, &wrong).bytes("tokens");
        let drawn: Vec<i64> =
            tokens.chunks(4).map(|token| i32::from_le_bytes(token.try_into().unwrap()).into()).collect();
        // Both, so that what is trained on tells what was recorded.
        let number = drawn.iter().sum::<i64>() + (noise % 50) as i64;
        let pass = Plain::object(|plain| {
            let data = plain.list("data");
            wire(plain, &batch(number));
            plain.close(data);
            plain.text("lossFn", "cross_entropy");
        });
        let method = if changed { "forward" } else { "forwardBackward" };
        let passing = run.call(attempt, 3, method.into(), pass);
        let stepping = run.call(attempt, 4, "optimStep".into(), Plain::nothing());
        let (passed, stepped) = join(passing, stepping).await;
        passed.and(stepped).map_err(failed)?;
        Ok(Told::Step(Some(format!("[{step},{number}]"))))
    }
}

/// Data as a page gives them.
fn wire(plain: &mut Plain, data: &[Datum]) {
    for datum in data {
        let item = plain.item();
        let input = plain.list("modelInput");
        let chunk = plain.item();
        plain.text("type", "encoded_text");
        let tokens = datum.model_input.tokens().unwrap();
        plain.bytes("tokens", &tokens.iter().flat_map(|token| token.to_le_bytes()).collect::<Vec<_>>());
        plain.close(chunk);
        plain.close(input);
        let inputs = plain.inner("lossFnInputs");
        for (name, tensor) in &datum.loss_fn_inputs {
            let field = plain.inner(name);
            plain.text("dtype", tensor.dtype().as_str());
            let shape = plain.list("shape");
            tensor.shape().iter().for_each(|size| plain.item_number(*size as f64));
            plain.close(shape);
            plain.bytes("data", tensor.bytes());
            plain.close(field);
        }
        plain.close(inputs);
        plain.close(item);
    }
}

/// The page of a run, by which it reaches the run again.
struct Tab(Rc<Set>, Rc<World>);

impl Page for Tab {
    fn ask(&self, ask: Ask) -> LocalBoxFuture<'static, Result<Told, Failure>> {
        match ask {
            Ask::Rows(rows) => {
                let data = rows.into_iter().flat_map(|row| batch(row.into())).collect();
                ready(Ok(Told::Data(data))).boxed_local()
            }
            Ask::Stream { .. } => unreachable!("there is no stream here"),
            Ask::Step { .. } if self.0.throws.get() => {
                let message = "no rewards today".to_owned();
                ready(Err(Failure { kind: FailureKind::Thrown, message })).boxed_local()
            }
            Ask::Step { step, attempt, recorded } => {
                let (set, noise) = (self.0.clone(), self.1.random());
                let wait = self.1.runtime_timer(Duration::from_millis(1));
                async move {
                    wait.await;
                    let run = set.run.borrow().clone().expect("a run that asks is open");
                    Set::step(run, step, attempt, recorded, noise, set.changed.get()).await
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
    fn tell(&self, news: News) {
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
    Brought { data: Some(data()), version: Some("1".into()), ..Brought::default() }
}

/// A run over the set, of batches of 2.
fn spec(steps: u32, more: impl FnOnce(&mut Plain)) -> Vec<u8> {
    of_kind("data", steps, more)
}

/// A run of a function.
fn function(steps: u32, more: impl FnOnce(&mut Plain)) -> Vec<u8> {
    of_kind("steps", steps, more)
}

fn of_kind(kind: &str, steps: u32, more: impl FnOnce(&mut Plain)) -> Vec<u8> {
    Plain::object(|plain| {
        plain.text("baseModel", TINY);
        plain.number("rank", 4.0);
        for name in ["trainMlp", "trainAttn", "trainUnembed"] {
            plain.flag(name, true);
        }
        plain.number("loraSeed", 1.0);
        plain.text("kind", kind);
        if kind == "data" {
            plain.text("lossFn", "cross_entropy");
            let data = plain.inner("data");
            plain.text("kind", "indexed");
            plain.number("length", LENGTH.into());
            plain.text("fingerprint", "numbers");
            plain.close(data);
        }
        plain.text("version", "1");
        plain.number("stepTimeoutMs", 60_000.0);
        plain.number("batchSize", 2.0);
        plain.flag("shuffle", true);
        plain.number("buffer", 4.0);
        plain.number("steps", steps.into());
        plain.number("seed", 7.0);
        // A field that stands twice is the first one.
        more(plain);
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
        recovery(plain, Duration::from_secs(1));
    })
}

fn recovery(plain: &mut Plain, backoff: Duration) {
    let recovery = plain.inner("recovery");
    plain.text("from", "latest");
    plain.number("attempts", 3.0);
    plain.number("backoffMs", backoff.as_millis() as f64);
    plain.flag("ask", false);
    plain.close(recovery);
}

fn checkpoints(plain: &mut Plain, every: u32) {
    let checkpoints = plain.inner("checkpoints");
    if every > 0 {
        plain.number("everySteps", every.into());
    }
    plain.flag("onHide", true);
    plain.close(checkpoints);
}

/// Opens a run in a service of a page.
async fn open(world: &Rc<World>, runs: &Runs, page: &Rc<Set>, id: &str) -> Result<Run, Error> {
    let run = runs.open(id.to_owned(), brought(), Rc::new(Tab(page.clone(), world.clone()))).await?;
    page.run.replace(Some(run.clone()));
    Ok(run)
}

async fn begin(world: &Rc<World>, runs: &Runs, page: &Rc<Set>, spec: &[u8]) -> Result<Run, Error> {
    let id = runs.start(spec).await?;
    open(world, runs, page, &id).await
}

/// The weights of a run's model.
fn hash(world: &World, run: &Run) -> String {
    let status = run.status();
    let wrong = Wrong::default();
    let model = Given::new(&status, &wrong).text("modelId");
    crate::weights(&world.ask(&format!("/api/v1/sandbox/models/{model}/hash")))
}

/// Runs it without a disturbance; what it tells, and the weights.
fn undisturbed(world: Rc<World>, spec: &[u8]) -> (Vec<String>, String) {
    let (service, runs) = world.runs_of("page");
    let page = Rc::new(Set::default());
    let told = world.time.block_on(async {
        let run = begin(&world, &runs, &page, spec).await.unwrap();
        let end = run.ended().await;
        assert_eq!((end.state, end.cause.is_none()), ("completed", true), "{end:?}");
        (page.events.take(), hash(&world, &run))
    });
    service.close();
    world.time.advance(Duration::from_secs(10));
    page.run.take();
    assert_eq!(service.system().live(), 0, "nothing runs after the end");
    told
}

/// What the history of a run has, as a page would read it.
fn history(world: &World, runs: &Runs, id: &str) -> Vec<String> {
    let read = world.time.block_on(runs.read(id.to_owned(), 0.0)).unwrap();
    let page = Set::default();
    let wrong = Wrong::default();
    for row in Given::new(&read, &wrong).list("rows") {
        page.tell(News::Event(row.encoded()));
    }
    page.events.take()
}

#[test]
fn a_run_takes_its_steps_and_saves_its_checkpoints() {
    let (events, _) = undisturbed(World::new(0), &spec(6, |plain| checkpoints(plain, 4)));
    let mut expected: Vec<String> = (1..=6).map(|step| format!("step {step} 1")).collect();
    expected.insert(4, "checkpoint 4 1".into());
    expected.push("checkpoint 6 1".into());
    assert_eq!(events, expected);
}

/// Kills instances at random until the run is through; the run's id, its history and its weights.
fn killed(world: &Rc<World>, spec: &[u8], lives: &Cell<u32>) -> (Vec<String>, String) {
    let (service, runs) = world.runs_of("starter");
    let id = world.time.block_on(runs.start(spec)).unwrap();
    service.close();
    let hash = loop {
        lives.set(lives.get() + 1);
        let (service, runs, instance) = world.mortal_runs(&format!("page {}", lives.get()));
        let page = Rc::new(Set::default());
        let life = world.random() % 400;
        instance.die_after(if lives.get() > 60 { u64::MAX / 2 } else { life });
        let through = world.time.block_on(async {
            let lived = async {
                let run = open(world, &runs, &page, &id).await.unwrap();
                let end = run.ended().await;
                assert_eq!(end.state, "completed", "{end:?}");
                hash(world, &run)
            };
            match select(pin!(lived), world.runtime_timer(Duration::from_secs(30))).await {
                Either::Left((hash, _)) => Some(hash),
                Either::Right(_) => None,
            }
        });
        if let Some(hash) = through {
            service.close();
            break hash;
        }
        // What is dead has no destructors.
        std::mem::forget((service, runs, page));
    };
    let (service, runs) = world.runs_of("reader");
    let rows = history(world, &runs, &id);
    service.close();
    (rows, hash)
}

#[test]
fn a_run_over_data_that_is_killed_anywhere_takes_each_step_once() {
    let spec = spec(8, |plain| checkpoints(plain, 3));
    let (_, weights) = undisturbed(World::patient(0), &spec);
    let lives = Cell::new(0);
    for seed in 1..=40 {
        let world = World::patient(seed);
        lives.set(0);
        let (rows, killed) = killed(&world, &spec, &lives);
        assert_eq!(killed, weights, "seed {seed} after {} lives", lives.get());
        let steps: Vec<&String> = rows.iter().filter(|row| row.starts_with("step")).collect();
        assert_eq!(
            steps,
            (1..=8).map(|step| format!("step {step} 1")).collect::<Vec<_>>().iter().collect::<Vec<_>>()
        );
    }
}

/// The log of what was applied, without what a model's own name makes different.
fn trained(world: &World) -> Vec<String> {
    let log = world.ask("/api/v1/sandbox/log");
    let lines = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    lines
        .filter(|line| line["kind"] != "create_model")
        .map(|line| format!("{} {}", line["kind"], line["seq_id"]))
        .collect()
}

#[test]
fn a_run_of_a_function_that_is_killed_anywhere_makes_each_update_once() {
    let spec = function(6, |plain| checkpoints(plain, 0));
    let lives = Cell::new(0);
    for seed in 1..=40 {
        let world = World::patient(seed);
        lives.set(0);
        let (rows, _) = killed(&world, &spec, &lives);
        let steps: Vec<&String> = rows.iter().filter(|row| row.starts_with("step")).collect();
        assert_eq!(steps.len(), 6, "seed {seed}: {rows:?}");
        // What each step says that it trained on is what the server has: the same batches give the same weights.
        let numbers: Vec<i64> = steps
            .iter()
            .map(|row| row.split_once(',').unwrap().1.trim_end_matches(']').parse().unwrap())
            .collect();
        let passes = trained(&world).iter().filter(|line| line.contains("forward_backward")).count();
        let updates = trained(&world).iter().filter(|line| line.contains("optim_step")).count();
        assert_eq!((passes, updates), (6, 6), "seed {seed} after {} lives", lives.get());
        let (replayed, _) = trains(&numbers);
        assert_eq!(world_hash(&world), replayed, "seed {seed}: the rollouts are those that were trained on");
    }
}

/// The weights after an undisturbed training on batches of these numbers.
fn trains(numbers: &[i64]) -> (String, ()) {
    let world = World::patient(0);
    let service = world.service();
    let hash = world.time.block_on(async {
        let made = crate::model(&service).await.unwrap();
        for (step, number) in numbers.iter().enumerate() {
            let loss = crate::cross_entropy();
            made.client.forward_backward(batch(*number), loss, &Progress::default()).await.unwrap();
            let params = rate(step as u32 + 1, numbers.len() as u32);
            made.client.optim_step(params, &Progress::default()).await.unwrap();
        }
        let model = made.client.model().clone();
        crate::weights(&world.ask(&format!("/api/v1/sandbox/models/{model}/hash")))
    });
    service.close();
    (hash, ())
}

/// As the schedule of [`of_kind`] has it.
fn rate(step: u32, of: u32) -> AdamParams {
    let learning_rate = match step {
        1 => 5e-3,
        2 => 1e-2,
        _ => 1e-2 + (0.0 - 1e-2) * (f64::from(step - 3) / f64::from(of - 2)),
    };
    AdamParams { learning_rate, beta1: 0.9, beta2: 0.95, eps: 1e-12, weight_decay: 0.0, grad_clip_norm: 0.0 }
}

/// The weights of the only model of the world's server.
fn world_hash(world: &World) -> String {
    let log = world.ask("/api/v1/sandbox/log");
    let first: serde_json::Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    let model = first["model_id"].as_str().unwrap();
    crate::weights(&world.ask(&format!("/api/v1/sandbox/models/{model}/hash")))
}

#[test]
fn an_absence_longer_than_the_sessions_life_costs_what_is_behind_the_last_checkpoint_and_no_more() {
    const BACKOFF: Duration = Duration::from_secs(1_000);
    let spec = spec(8, |plain| {
        checkpoints(plain, 3);
        recovery(plain, BACKOFF);
    });
    let (_, weights) = undisturbed(World::new(0), &spec);
    for seed in 1..=20 {
        let world = World::new(seed);
        let (service, runs, instance) = world.mortal_runs("first");
        let page = Rc::new(Set::default());
        instance.die_after(150 + world.random() % 300);
        let id = world.time.block_on(async {
            let id = runs.start(&spec).await.unwrap();
            let _run = open(&world, &runs, &page, &id).await.unwrap();
            world.runtime_timer(Duration::from_secs(3_600)).await;
            id
        });
        // Before it had a model there was nothing to lose, and nothing when it was done.
        let done = page.status() == "completed ";
        let lost = !page.events.borrow().is_empty() && !done;
        std::mem::forget((service, runs, page));
        let (service, runs) = world.runs_of("second");
        let page = Rc::new(Set::default());
        let back = world.time.now();
        let hash = world.time.block_on(async {
            let run = open(&world, &runs, &page, &id).await.unwrap();
            let end = run.ended().await;
            assert_eq!(end.state, "completed", "seed {seed}: {end:?}");
            assert!(
                world.time.now() - back < BACKOFF,
                "seed {seed}: it waits only behind an attempt that failed"
            );
            // A session that ended takes its models along.
            if done { weights.clone() } else { hash(&world, &run) }
        });
        assert_eq!(hash, weights, "seed {seed}");
        let rows = history(&world, &runs, &id);
        let seams = rows.iter().filter(|row| row.starts_with("incarnation")).count();
        assert_eq!(seams, usize::from(lost), "seed {seed}: {rows:?}");
        service.close();
    }
}

#[test]
fn a_run_that_lost_its_model_before_its_first_checkpoint_begins_again_at_step_0_and_says_so() {
    let spec = spec(8, |plain| checkpoints(plain, 0));
    let (_, weights) = undisturbed(World::new(0), &spec);
    let world = World::ending_sessions_after(5, Duration::from_secs(90));
    let (service, runs, instance) = world.mortal_runs("first");
    let page = Rc::new(Set::default());
    let id = world.time.block_on(async {
        let run = begin(&world, &runs, &page, &spec).await.unwrap();
        while page.events.borrow().len() < 3 {
            world.runtime_timer(Duration::from_millis(1)).await;
        }
        instance.die_after(0);
        world.runtime_timer(Duration::from_secs(3_600)).await;
        run.id().to_owned()
    });
    std::mem::forget((service, runs, page));
    let (service, runs) = world.runs_of("second");
    let page = Rc::new(Set::default());
    let hash = world.time.block_on(async {
        let run = open(&world, &runs, &page, &id).await.unwrap();
        assert_eq!(run.ended().await.state, "completed");
        hash(&world, &run)
    });
    assert_eq!(hash, weights);
    let mut expected = vec!["incarnation 0 2".to_owned()];
    expected.extend((1..=8).map(|step| format!("step {step} 2")));
    expected.push("checkpoint 8 2".into());
    assert_eq!(page.events.take(), expected);
    service.close();
}

/// Begins a run in a service of its own, and hands it over when it has told so many events.
fn with_run<T>(
    world: &Rc<World>,
    spec: &[u8],
    told: usize,
    then: impl AsyncFnOnce(&Runs, &Rc<Set>, Run) -> T,
) -> T {
    let (service, runs) = world.runs_of("page");
    let page = Rc::new(Set::default());
    let done = world.time.block_on(async {
        let run = begin(world, &runs, &page, spec).await.unwrap();
        while page.events.borrow().len() < told {
            world.runtime_timer(Duration::from_millis(1)).await;
        }
        then(&runs, &page, run).await
    });
    service.close();
    done
}

#[test]
fn a_paused_run_asks_for_nothing_and_goes_on_when_it_is_resumed() {
    let spec = spec(8, |plain| checkpoints(plain, 0));
    let (_, weights) = undisturbed(World::patient(0), &spec);
    let world = World::patient(3);
    let hash = with_run(&world, &spec, 2, async |_, page, run| {
        run.pause().await.unwrap();
        world.runtime_timer(Duration::from_secs(60)).await;
        assert_eq!(page.status(), "paused paused_by_user");
        let (told, log) = (page.events.borrow().len(), trained(&world).len());
        world.runtime_timer(Duration::from_secs(60)).await;
        assert_eq!((page.events.borrow().len(), trained(&world).len()), (told, log));
        assert!(told < 8, "it was paused in the middle");
        run.resume(None, false).await.unwrap();
        assert_eq!(run.ended().await.state, "completed");
        assert!(run.pause().await.is_err(), "a run that is over can't be paused");
        hash(&world, &run)
    });
    assert_eq!(hash, weights);
}

#[test]
fn a_run_that_is_stopped_saves_a_last_checkpoint_and_is_over() {
    let world = World::patient(3);
    with_run(&world, &spec(100, |plain| checkpoints(plain, 0)), 3, async |runs, page, run| {
        run.stop(true).await.unwrap();
        assert_eq!(run.ended().await.state, "stopped");
        assert!(page.events.borrow().last().unwrap().starts_with("checkpoint"), "{:?}", page.events.borrow());
        let again = open(&world, runs, &Rc::new(Set::default()), run.id()).await.unwrap();
        assert_eq!(again.ended().await.state, "stopped");
    });
}

/// Begins a run, stops it while the server is away, and takes its page away then; gives the run's id.
fn stopped_without_the_server(world: &Rc<World>, spec: &[u8], checkpoint: bool) -> String {
    let (service, runs, instance) = world.mortal_runs("first");
    let page = Rc::new(Set::default());
    let id = world.time.block_on(async {
        let run = begin(world, &runs, &page, spec).await.unwrap();
        while page.events.borrow().len() < 3 {
            world.runtime_timer(Duration::from_millis(1)).await;
        }
        world.set_up(false);
        run.stop(checkpoint).await.unwrap();
        world.runtime_timer(Duration::from_secs(60)).await;
        assert_eq!(page.status(), "running stopping");
        assert!(run.resume(None, false).await.is_err(), "it was asked to stop");
        instance.die_after(0);
        run.id().to_owned()
    });
    std::mem::forget((service, runs, page));
    id
}

#[test]
fn a_stop_that_waits_for_the_server_is_done_by_the_next_page_with_its_checkpoint() {
    for spec in [spec(100, |plain| checkpoints(plain, 0)), function(100, |plain| checkpoints(plain, 0))] {
        let world = World::patient(3);
        let id = stopped_without_the_server(&world, &spec, true);
        let (service, runs) = world.runs_of("second");
        let page = Rc::new(Set::default());
        let asked = trained(&world).len();
        world.time.block_on(async {
            let brought = Brought { version: Some("2".into()), ..brought() };
            let run =
                runs.open(id.clone(), brought, Rc::new(Tab(page.clone(), world.clone()))).await.unwrap();
            world.runtime_timer(Duration::from_secs(60)).await;
            assert_eq!(page.status(), "running stopping", "it waits for the server");
            world.set_up(true);
            assert_eq!(run.ended().await.state, "stopped");
        });
        let rows = history(&world, &runs, &id);
        assert!(rows.last().unwrap().starts_with("checkpoint"), "{rows:?}");
        assert!(trained(&world).len() - asked <= 5, "no step was begun for it");
        service.close();
    }
}

#[test]
fn a_stop_without_a_checkpoint_is_done_by_the_next_page_without_the_server() {
    let world = World::patient(3);
    let id = stopped_without_the_server(&world, &spec(100, |plain| checkpoints(plain, 0)), false);
    let (service, runs) = world.runs_of("second");
    world.time.block_on(async {
        let run = open(&world, &runs, &Rc::new(Set::default()), &id).await.unwrap();
        assert_eq!(run.ended().await.state, "stopped");
    });
    service.close();
}

#[test]
fn a_stop_that_is_asked_for_before_there_is_a_model_makes_none() {
    let world = World::patient(3);
    world.set_up(false);
    let (service, runs) = world.runs_of("page");
    let page = Rc::new(Set::default());
    world.time.block_on(async {
        let run = begin(&world, &runs, &page, &spec(4, |plain| checkpoints(plain, 0))).await.unwrap();
        world.runtime_timer(Duration::from_secs(1)).await;
        run.stop(true).await.unwrap();
        assert_eq!(run.ended().await.state, "stopped");
        assert_eq!(page.status(), "stopped ");
    });
    service.close();
}

/// The state and the cause of a status.
fn state_of(status: &[u8]) -> String {
    let page = Set::default();
    page.tell(News::Status(status.to_vec()));
    page.status()
}

#[test]
fn runs_are_listed_read_and_opened_without_a_server() {
    let world = World::patient(3);
    let spec = spec(100, |plain| checkpoints(plain, 2));
    let (service, runs, instance) = world.mortal_runs("first");
    let page = Rc::new(Set::default());
    let id = world.time.block_on(async {
        let run = begin(&world, &runs, &page, &spec).await.unwrap();
        while page.events.borrow().len() < 4 {
            world.runtime_timer(Duration::from_millis(1)).await;
        }
        instance.die_after(0);
        run.id().to_owned()
    });
    std::mem::forget((service, runs));
    world.set_up(false);
    let (service, runs) = world.runs_of("second");
    let told = page.events.borrow().len();
    world.time.block_on(async {
        let wrong = Wrong::default();
        let listed = runs.list().await.unwrap();
        let listed: Vec<String> =
            Given::new(&listed, &wrong).list("runs").map(|run| state_of(&run.encoded())).collect();
        assert_eq!(listed, ["running needs_owner"]);
        let read = runs.read(id.clone(), 0.0).await.unwrap();
        // What was told last may not have been written.
        assert!(Given::new(&read, &wrong).list("rows").count() + 2 >= told);
        let page = Rc::new(Set::default());
        open(&world, &runs, &page, &id).await.unwrap();
        for seconds in [1, 60, 600] {
            world.runtime_timer(Duration::from_secs(seconds)).await;
            assert_eq!(page.status(), "running waiting_for_server");
        }
        page.run.take();
    });
    service.close();
}

#[test]
fn a_run_that_crashes_again_and_again_is_paused_and_goes_on_when_it_is_resumed() {
    let spec = spec(6, |plain| checkpoints(plain, 0));
    let (_, weights) = undisturbed(World::patient(0), &spec);
    let world = World::patient(3);
    let (service, runs) = world.runs_of("page");
    faults::clear();
    let hash = world.time.block_on(async {
        [5, 10, 15, 20].into_iter().for_each(|nth| faults::arm("run", nth));
        let run = begin(&world, &runs, &Rc::new(Set::default()), &spec).await.unwrap();
        let end = run.ended().await;
        let (cause, message) = end.cause.expect("it says why");
        assert_eq!((end.state, cause), ("closed", Cause::Crashed), "{message}");
        let page = Rc::new(Set::default());
        let run = open(&world, &runs, &page, run.id()).await.unwrap();
        world.runtime_timer(Duration::from_secs(60)).await;
        assert_eq!(page.status(), "paused crashed");
        run.resume(None, false).await.unwrap();
        assert_eq!(run.ended().await.state, "completed");
        page.run.take();
        hash(&world, &run)
    });
    assert_eq!(hash, weights);
    service.close();
}

#[test]
fn data_that_changed_are_refused_and_nothing_is_touched() {
    let world = World::patient(0);
    let (service, runs) = world.runs_of("page");
    let page = Rc::new(Set::default());
    world.time.block_on(async {
        let id = runs.start(&spec(3, |plain| checkpoints(plain, 0))).await.unwrap();
        let tab = || Rc::new(Tab(page.clone(), world.clone()));
        let others = Brought {
            data: Some(Data::Indexed { length: LENGTH, fingerprint: "others".into() }),
            ..brought()
        };
        let error = runs.open(id.clone(), others, tab()).await.err().expect("these are others");
        assert_eq!(error.kind(), &Kind::DataMismatch);
        let none = Brought::default();
        let error = runs.open(id.clone(), none, tab()).await.err().expect("there are none");
        assert_eq!(error.kind(), &Kind::InvalidArgument { field: "data".into() });
        let other_loss = Brought { loss: Some("ppo".into()), ..brought() };
        let error = runs.open(id.clone(), other_loss, tab()).await.err().expect("it is another loss");
        assert_eq!(error.kind(), &Kind::InvalidArgument { field: "loss".into() });
        let unknown = runs.open("nobody".into(), brought(), tab()).await;
        assert_eq!(unknown.err().unwrap().kind(), &Kind::InvalidArgument { field: "id".into() });
        assert!(page.statuses.borrow().is_empty());
        let run = open(&world, &runs, &page, &id).await.unwrap();
        assert_eq!(run.ended().await.state, "completed");
    });
    service.close();
}

#[test]
fn a_function_that_throws_pauses_the_run_and_its_step_runs_again_with_what_was_recorded() {
    let world = World::patient(5);
    with_run(&world, &function(4, |plain| checkpoints(plain, 0)), 2, async |_, page, run| {
        page.throws.set(true);
        world.runtime_timer(Duration::from_secs(30)).await;
        assert_eq!(page.status(), "paused step_failed");
        page.throws.set(false);
        run.resume(None, false).await.unwrap();
        assert_eq!(run.ended().await.state, "completed");
    });
    let updates = trained(&world).iter().filter(|line| line.contains("optim_step")).count();
    assert_eq!(updates, 4);
}

#[test]
fn a_step_that_asks_for_something_else_the_second_time_is_refused_by_name() {
    let world = World::patient(5);
    let spec = function(4, |plain| checkpoints(plain, 0));
    let (service, runs, instance) = world.mortal_runs("first");
    let page = Rc::new(Set::default());
    let id = world.time.block_on(async {
        let id = runs.start(&spec).await.unwrap();
        open(&world, &runs, &page, &id).await.unwrap();
        while !world.disk.keys_of("run-call/").iter().any(|key| key.ends_with("03")) {
            world.runtime_timer(Duration::from_micros(200)).await;
        }
        instance.die_after(0);
        id
    });
    std::mem::forget((service, runs, page));
    let (service, runs) = world.runs_of("second");
    let page = Rc::new(Set::default());
    page.changed.set(true);
    world.time.block_on(async {
        let run = open(&world, &runs, &page, &id).await.unwrap();
        world.runtime_timer(Duration::from_secs(30)).await;
        assert_eq!(page.status(), "paused step_mismatch");
        // Begun again from nothing, it may ask for what it likes.
        run.resume(None, true).await.unwrap();
        assert_eq!(run.ended().await.state, "completed");
    });
    service.close();
}

#[test]
fn another_version_of_the_function_is_said_and_the_step_can_be_begun_again() {
    let world = World::patient(5);
    let (service, runs, instance) = world.mortal_runs("first");
    let page = Rc::new(Set::default());
    let id = world.time.block_on(async {
        let id = runs.start(&function(3, |plain| checkpoints(plain, 0))).await.unwrap();
        open(&world, &runs, &page, &id).await.unwrap();
        while world.disk.keys_of("run-call/").is_empty() {
            world.runtime_timer(Duration::from_micros(200)).await;
        }
        instance.die_after(0);
        id
    });
    std::mem::forget((service, runs, page));
    let (service, runs) = world.runs_of("second");
    let page = Rc::new(Set::default());
    world.time.block_on(async {
        let brought = Brought { version: Some("2".into()), ..brought() };
        let run = runs.open(id, brought, Rc::new(Tab(page.clone(), world.clone()))).await.unwrap();
        page.run.replace(Some(run.clone()));
        world.runtime_timer(Duration::from_secs(30)).await;
        assert_eq!(page.status(), "paused function_changed");
        assert!(run.resume(None, false).await.is_err(), "it says what to do");
        run.resume(None, true).await.unwrap();
        assert_eq!(run.ended().await.state, "completed");
    });
    service.close();
}

#[test]
fn of_two_pages_that_both_think_they_have_a_run_one_can_write() {
    let spec = spec(8, |plain| checkpoints(plain, 3));
    let (_, weights) = undisturbed(World::patient(0), &spec);
    for seed in 1..=20 {
        let world = World::patient(seed);
        let (first, first_runs) = world.runs_of("first");
        let (second, second_runs) = world.runs_of("second");
        let (one, other) = (Rc::new(Set::default()), Rc::new(Set::default()));
        let hash = world.time.block_on(async {
            let run = begin(&world, &first_runs, &one, &spec).await.unwrap();
            world.runtime_timer(Duration::from_millis(world.random() % 200)).await;
            let taken = open(&world, &second_runs, &other, run.id()).await.unwrap();
            let end = run.ended().await;
            let fenced = end.cause.is_some_and(|(cause, _)| cause == Cause::Fenced);
            assert!(end.state == "completed" || fenced, "seed {seed}: {}", end.state);
            assert_eq!(taken.ended().await.state, "completed", "seed {seed}");
            hash(&world, &taken)
        });
        assert_eq!(hash, weights, "seed {seed}");
        first.close();
        second.close();
    }
}

#[test]
fn a_key_that_is_not_let_in_pauses_the_run_and_it_goes_on_when_it_is() {
    let spec = spec(6, |plain| checkpoints(plain, 0));
    let (_, weights) = undisturbed(World::patient(0), &spec);
    let world = World::patient(9);
    let hash = with_run(&world, &spec, 2, async |_, page, run| {
        world.refuse_all(Some(401));
        world.runtime_timer(Duration::from_secs(60)).await;
        assert_eq!(page.status(), "paused not_let_in");
        world.refuse_all(None);
        run.resume(None, false).await.unwrap();
        assert_eq!(run.ended().await.state, "completed");
        hash(&world, &run)
    });
    assert_eq!(hash, weights);
}

#[test]
fn a_full_disk_pauses_the_run_and_it_goes_on_when_there_is_room() {
    let spec = spec(6, |plain| checkpoints(plain, 0));
    let (_, weights) = undisturbed(World::patient(0), &spec);
    let world = World::patient(9);
    let hash = with_run(&world, &spec, 2, async |_, page, run| {
        world.disk.refuse(Some(StoreErrorKind::Quota));
        world.runtime_timer(Duration::from_secs(60)).await;
        assert_eq!(page.status(), "paused storage");
        world.disk.refuse(None);
        run.resume(None, false).await.unwrap();
        assert_eq!(run.ended().await.state, "completed");
        hash(&world, &run)
    });
    assert_eq!(hash, weights);
}

#[test]
fn a_server_that_is_away_is_waited_for_and_the_status_says_so() {
    let spec = spec(6, |plain| checkpoints(plain, 0));
    let (_, weights) = undisturbed(World::patient(0), &spec);
    let world = World::patient(9);
    world.set_up(false);
    let (service, runs) = world.runs_of("page");
    let page = Rc::new(Set::default());
    let hash = world.time.block_on(async {
        let run = begin(&world, &runs, &page, &spec).await.unwrap();
        world.runtime_timer(Duration::from_secs(600)).await;
        assert!(page.status().starts_with("running"), "{}", page.status());
        world.set_up(true);
        assert_eq!(run.ended().await.state, "completed");
        hash(&world, &run)
    });
    assert_eq!(hash, weights);
    service.close();
}

#[test]
fn the_model_is_evaluated_and_sampled_before_its_first_step_and_after_its_last() {
    let world = World::new(0);
    let (service, runs) = world.runs_of("page");
    let page = Rc::new(Set::default());
    let looked_at = spec(3, |plain| {
        checkpoints(plain, 0);
        let metadata = plain.inner("userMetadata");
        plain.text("set", "numbers");
        plain.close(metadata);
        let evaluation = plain.inner("evaluation");
        let data = plain.list("data");
        wire(plain, &batch(1));
        plain.close(data);
        plain.number("every", 2.0);
        plain.close(evaluation);
        let samples = plain.inner("samples");
        let prompts = plain.list("prompts");
        let prompt = plain.item();
        let chunks = plain.list("chunks");
        let chunk = plain.item();
        plain.text("type", "encoded_text");
        plain.bytes("tokens", &[1, 0, 0, 0, 2, 0, 0, 0]);
        plain.close(chunk);
        plain.close(chunks);
        plain.close(prompt);
        plain.close(prompts);
        plain.number("every", 2.0);
        plain.number("numSamples", 1.0);
        let params = plain.inner("samplingParams");
        plain.number("maxTokens", 2.0);
        plain.close(params);
        plain.close(samples);
    });
    world.time.block_on(async {
        let run = begin(&world, &runs, &page, &looked_at).await.unwrap();
        assert_eq!(run.ended().await.state, "completed");
        for kind in ["evaluation", "sample"] {
            let events = page.events.borrow();
            let of_kind: Vec<&String> = events.iter().filter(|event| event.starts_with(kind)).collect();
            assert_eq!(of_kind, [0, 2, 3].map(|step| format!("{kind} {step} 1")).iter().collect::<Vec<_>>());
        }
        let listed = runs.list().await.unwrap();
        let wrong = Wrong::default();
        let first = Given::of(Given::new(&listed, &wrong).list("runs").next().unwrap(), &wrong);
        assert_eq!(first.number("step"), 3.0);
        assert!(first.number("loss") > 0.0);
        assert_eq!(first.texts("userMetadata").get("set").map(|set| &**set), Some("numbers"));
    });
    service.close();
}

#[test]
fn a_checkpoint_that_is_asked_for_is_saved_once() {
    let world = World::new(0);
    let (service, runs) = world.runs_of("page");
    let page = Rc::new(Set::default());
    world.time.block_on(async {
        let run = begin(&world, &runs, &page, &spec(12, |plain| checkpoints(plain, 0))).await.unwrap();
        assert!(run.checkpoint().await.unwrap().starts_with("tinker://"));
        run.ended().await;
        let saved = page.events.borrow().iter().filter(|event| event.starts_with("checkpoint")).count();
        assert_eq!(saved, 2, "that one, and the last");
    });
    service.close();
}

#[test]
fn a_step_that_the_server_refuses_pauses_the_run_and_nothing_restarts_in_a_loop() {
    // A rate that breaks the model at once, so that the next pass is refused.
    let broken = spec(6, |plain| {
        checkpoints(plain, 0);
        let schedule = plain.inner("schedule");
        plain.text("type", "constant");
        plain.number("peak", 1e30);
        plain.number("warmupSteps", 0.0);
        plain.number("floor", 0.0);
        plain.close(schedule);
    });
    let world = World::patient(2);
    let (service, runs) = world.runs_of("page");
    let page = Rc::new(Set::default());
    world.time.block_on(async {
        let run = begin(&world, &runs, &page, &broken).await.unwrap();
        world.runtime_timer(Duration::from_secs(60)).await;
        assert_eq!(page.status(), "paused refused", "{:?}", page.events.borrow());
        let told = page.events.borrow().len();
        run.resume(Some("checkpoint".into()), false).await.unwrap();
        world.runtime_timer(Duration::from_secs(60)).await;
        // It begins again, meets the same, and does not loop.
        assert_eq!(page.status(), "paused refused");
        assert!(page.events.borrow()[told..].iter().any(|event| event.starts_with("incarnation")));
    });
    service.close();
}
