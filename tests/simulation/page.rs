//! A page that trains, as one is written by hand: calls without waiting, up to a window; what came of each is noted, and a
//! call that was not made is made again. The page holds the promises, so they outlive its instance; what it notes outlives
//! the page.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::pin::pin;
use std::rc::Rc;

use futures_util::FutureExt;
use futures_util::StreamExt;
use futures_util::future::{Either, LocalBoxFuture, select};
use futures_util::stream::FuturesUnordered;
use tinkex::error::{Error, Kind, Outcome};
use tinkex::request::Progress;
use tinkex::sampling::Sample;
use tinkex::service::{Lora, Made, Service, Settings};
use tinkex::session::{Choice, Labels, Resume};
use tinkex::store::StoreErrorKind;
use tinkex::training::method::Output;
use tinkex::training::{Name, TrainingClient};
use tinkex_protocol::ModelInput;
use tinkex_protocol::json::sampling::SamplingParams;
use tinkex_protocol::json::training::LoraConfig;
use tinkex_sandbox::TINY;

use crate::around::Around;
use crate::door::to_sandbox;
use crate::frame::Frame;
use crate::instance::Instance;
use crate::plan::{EXTRA, Plan};
use crate::world::{Try, World};

pub const API_KEY: &str = "tml-secret";

/// Calls under way at a time.
const WINDOW: usize = 4;

pub struct Page {
    world: Rc<World>,
    name: String,
    frame: Frame,
    /// Calls that are not settled, by key.
    promises: RefCell<BTreeMap<u32, Promise>>,
    last_key: Cell<u32>,
    /// Services that it has made; one that lost its instance is still the same.
    services: Cell<u32>,
}

/// A call of the plan, or one beside it.
type Promise = Option<Try>;

type Settled = (u32, Result<Output, Error>);
type Settling = FuturesUnordered<LocalBoxFuture<'static, Option<Settled>>>;

/// Why an instance's service is not used any longer.
enum End {
    /// All is trained and noted.
    Done,
    /// Something went wrong; it is to be opened again.
    Again,
    /// Another page holds the session.
    Superseded,
}

impl Page {
    /// Opens a page, which then trains by itself.
    pub fn open(world: &Rc<World>, name: String) -> Rc<Page> {
        let (frame, closed) = Frame::new();
        let page = Rc::new(Page {
            world: world.clone(),
            name,
            frame,
            promises: RefCell::default(),
            last_key: Cell::new(0),
            services: Cell::new(1),
        });
        let living = page.clone();
        let life = async move {
            let trained = pin!(living.train());
            select(trained, closed).await;
            living.frame.close();
        };
        world.runtime.spawn(life.boxed_local());
        page
    }

    pub fn is_open(&self) -> bool {
        self.frame.is_open()
    }

    /// Whether the disk has something to do for it.
    pub fn has_waiting(&self) -> bool {
        self.frame.connection.has_waiting()
    }

    /// Kills its instance after so many polls.
    pub fn trap(&self, polls: u64) {
        self.frame.trap(polls);
    }

    /// Kills the page, with all that it holds.
    pub fn kill(&self) {
        if self.frame.kill(&self.world) {
            for promise in self.promises.take().values().flatten() {
                self.world.tally.transition(&promise.label(), "called", "lost with its page");
            }
        }
    }

    async fn train(&self) {
        let Around { runtime, network, disk, dice, tally, .. } = &**self.world;
        loop {
            let (instance, death) = Instance::new(runtime.clone(), network.clone(), dice.clone());
            self.frame.hold(&instance);
            self.world.instances.borrow_mut().push(instance.clone());
            tally.tell(format_args!("{} opens service {}", self.name, self.services.get()));
            let store = disk.handle(self.frame.connection.clone(), instance.epoch());
            let service = Service::open(Rc::new(instance.clone()), store, self.settings(), |_, root| root);
            self.world.systems.borrow_mut().push((instance.clone(), service.system().clone()));
            let used = pin!(self.use_service(&instance, &service));
            match select(used, death).await {
                Either::Left((End::Again, _)) => {
                    service.close();
                    self.services.set(self.services.get() + 1);
                }
                Either::Left((End::Done | End::Superseded, _)) => {
                    self.promises.take();
                    return service.close();
                }
                Either::Right(_) => self.frame.bereaved(tally),
            }
            runtime.timer(dice.up_to_ms(1_000)).await;
        }
    }

    fn settings(&self) -> Settings {
        let session = self.world.notes.borrow().session.clone();
        let resume = session.map_or(Resume::None, Resume::This);
        let session = Choice { owner: format!("{}/{}", self.name, self.services.get()), resume };
        Settings { transport: to_sandbox(API_KEY), labels: Labels::default(), session, telemetry: true }
    }

    async fn use_service(&self, instance: &Instance, service: &Service) -> End {
        let Made { client, pid } = match self.client(instance, service).await {
            Ok(made) => made,
            Err(error) => return self.end_of(service, &error),
        };
        let mut settling = Settling::new();
        self.take_up(instance, &client, &settling);
        if self.world.dice.happens(300) {
            drop(instance.run(sampled(service.clone())));
        }
        let mut broken = None;
        loop {
            if broken.is_none() {
                self.call(instance, &client, &settling);
            }
            match settling.next().await {
                None if broken.is_none() => return End::Done,
                None => break,
                Some(None) => panic!("a call was dropped by a living instance"),
                Some(Some((key, result))) => {
                    let promise = self.promises.borrow_mut().remove(&key);
                    let promise = promise.expect("a call is settled once");
                    if let Err(error) = self.settled(&client, key, promise, result).await {
                        broken = Some(error);
                    }
                }
            }
            if !pid.is_alive() && broken.is_none() {
                broken = Some(Error::closed("it", Outcome::NotSent));
            }
        }
        self.end_of(service, &broken.expect("it broke, or it would not be here"))
    }

    /// The client of the model: a new one, or the one that is noted.
    async fn client(&self, instance: &Instance, service: &Service) -> Result<Made<TrainingClient>, Error> {
        let noted = self.world.notes.borrow().model.clone();
        if let Some(model) = noted {
            let resumed = instance.run(service.resume_training_client(model));
            return resumed.await.expect("the instance lives");
        }
        let maker = service.clone();
        let made = service.calls().spawn_nolink("create", move |_| {
            let config = LoraConfig { rank: 2, seed: Some(1), ..LoraConfig::default() };
            let lora = Lora { base_model: TINY.into(), config, user_metadata: None };
            maker.create_training_client(lora, &Progress::default())
        });
        let made = instance.run(made).await.expect("the instance lives");
        let made = made.expect("making a model does not crash")?;
        let mut notes = self.world.notes.borrow_mut();
        // Another page may have been first.
        notes.model.get_or_insert_with(|| made.client.model().clone());
        if notes.model.as_ref() != Some(made.client.model()) {
            return Err(Error::closed("a second model", Outcome::NotSent));
        }
        notes.session = service.session().id();
        Ok(made)
    }

    /// What came back from the journal settles the promises that are here, or is news.
    fn take_up(&self, instance: &Instance, client: &TrainingClient, settling: &Settling) {
        let Around { tally, trace, .. } = &**self.world;
        let open = self.promises.take();
        for pending in client.pending() {
            trace.come_back(pending.first, pending.finished);
            let (key, promise) = match open.get(&pending.key) {
                Some(promise) => {
                    tally.fault("instance: takes its page's calls up again");
                    (pending.key, *promise)
                }
                None => {
                    tally.fault("page: goes on from what is pending");
                    (self.next_key(), Try::of_label(&pending.label))
                }
            };
            self.promises.borrow_mut().insert(key, promise);
            let asked = client.result(pending.first, key, &Progress::default());
            let asked = asked.expect("a pending call can be waited for");
            let settled = instance.run(async move { (key, asked.await) });
            settling.push(settled.map(Result::ok).boxed_local());
        }
        let taken_up = self.promises.borrow();
        for (_, promise) in open.iter().filter(|(key, _)| !taken_up.contains_key(key)) {
            // Nothing of it was written: it is made again.
            if let Some(promise) = promise {
                tally.transition(&promise.label(), "called", "rejected with its instance");
            }
        }
    }

    /// Makes the next calls of the plan.
    fn call(&self, instance: &Instance, client: &TrainingClient, settling: &Settling) {
        let World { plan, notes, .. } = &*self.world;
        while settling.len() < WINDOW {
            let open: Vec<usize> =
                self.promises.borrow().values().flatten().map(|promise| promise.call).collect();
            let is_due = |call: &&usize| !notes.borrow().done.contains_key(call) && !open.contains(call);
            let Some(call) = (0..plan.len()).find(|call| is_due(&call)) else { return };
            let (key, promise) = (self.next_key(), notes.borrow_mut().next_try(call));
            self.promises.borrow_mut().insert(key, Some(promise));
            let label = promise.label();
            let asked = client.ask(
                plan.ask(call, client),
                Name { key, label, ..Name::default() },
                &Progress::default(),
            );
            let settled = instance.run(async move { (key, asked.await) });
            settling.push(settled.map(Result::ok).boxed_local());
            if self.world.dice.happens(100) {
                self.call_beside(instance, client);
            }
        }
    }

    /// Makes a call that changes nothing, with little patience.
    fn call_beside(&self, instance: &Instance, client: &TrainingClient) {
        let Around { dice, tally, runtime, .. } = &**self.world;
        let (progress, key) = (Progress::default(), self.next_key());
        let asked =
            client.ask(Plan::extra(client), Name { key, label: EXTRA.into(), ..Name::default() }, &progress);
        let patience = runtime.timer(dice.up_to_ms(300));
        let (tally, client) = (tally.clone(), client.clone());
        drop(instance.run(async move {
            let output = pin!(asked);
            match select(output, patience).await {
                Either::Left((Ok(_), _)) => client.seen(key),
                Either::Left((Err(_), _)) => {}
                Either::Right(_) => {
                    tally.fault("page: gives a call up");
                    if progress.outcome() == Outcome::NotSent {
                        tally.transition(EXTRA, "called", "given up");
                    }
                    progress.give_up();
                }
            }
        }));
    }

    /// Takes in what came of a call. Fails where the client can't go on.
    async fn settled(
        &self,
        client: &TrainingClient,
        key: u32,
        promise: Promise,
        result: Result<Output, Error>,
    ) -> Result<(), Error> {
        let (notes, Around { trace, tally, dice, runtime, .. }) = (&self.world.notes, &**self.world);
        let error = match result {
            Ok(_) => None,
            // It was applied, whatever became of its result.
            Err(error) if error.status() == Some(410) => None,
            Err(error) => Some(error),
        };
        let Some(error) = error else {
            // Between the answer and its handler a page can be killed, too.
            if dice.happens(200) {
                runtime.timer(dice.up_to_ms(200)).await;
            }
            if let Some(promise) = promise {
                tally.tell(format_args!("{} is done", promise.label()));
                notes.borrow_mut().done.insert(promise.call, promise.count);
                trace.settled(&promise.label());
            }
            // Between what is noted and what is said to be seen, a page can be killed.
            if dice.happens(200) {
                runtime.timer(dice.up_to_ms(5)).await;
            }
            client.seen(key);
            return Ok(());
        };
        let label = promise.map_or_else(|| EXTRA.to_owned(), Try::label);
        tally.tell(format_args!("{label} rejects as {}: {error}", error.outcome().as_str()));
        match error.outcome() {
            Outcome::NotSent => {
                tally.transition(&label, "called", "not written");
                runtime.timer(dice.up_to_ms(200)).await;
                // What follows it is not to be made before it.
                Err(error)
            }
            // Its client crashed while it was written: it comes back, or never was.
            Outcome::Unknown if matches!(error.kind(), Kind::Crashed { .. }) => Err(error),
            Outcome::Unknown => {
                assert_eq!(error.status(), Some(422), "of all else more is known: {error}");
                notes.borrow_mut().given_up.extend(promise);
                runtime.timer(dice.up_to_ms(200)).await;
                client.seen(key);
                Err(error)
            }
            // What of it comes back goes on.
            Outcome::Journaled => Err(error),
            Outcome::Refused => {
                tally.transition(&label, "sent", "refused");
                runtime.timer(dice.up_to_ms(200)).await;
                client.seen(key);
                Err(error)
            }
        }
    }

    fn end_of(&self, service: &Service, error: &Error) -> End {
        self.world.tally.tell(format_args!("{} breaks off: {error}", self.name));
        let lost = service.session().lost();
        let fenced = |error: &Error| *error.kind() == Kind::Storage(StoreErrorKind::Fenced);
        if lost.as_ref().is_some_and(fenced) || fenced(error) { End::Superseded } else { End::Again }
    }

    fn next_key(&self) -> u32 {
        let key = self.last_key.get() + 1;
        self.last_key.set(key);
        key
    }
}

/// Draws a few samples of the base model. They change nothing, so whatever comes of them is well.
async fn sampled(service: Service) {
    let made = service.create_sampling_client(Some(TINY.into()), None, &Progress::default());
    let Ok(made) = made.await else { return };
    for _ in 0..3 {
        let client = made.client.clone();
        let params = SamplingParams { max_tokens: Some(2), ..SamplingParams::default() };
        let prompt = ModelInput::from_tokens(vec![1]);
        let sample = Sample { prompt, num_samples: 1, params, ..Sample::default() };
        let drawn = made.client.calls().spawn_nolink("sample", move |_| async move {
            client.sample(sample, &Progress::default()).await.is_ok()
        });
        let _ = drawn.await;
    }
}
