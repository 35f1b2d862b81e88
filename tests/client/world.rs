//! A world for the client: a virtual clock, a network that may lose and refuse, and the sandbox's core behind it.
//! One seed decides everything.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::{Future, pending};
use std::ops::Deref;
use std::rc::Rc;
use std::sync::LazyLock;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{Either, LocalBoxFuture, select};
use tinkex::platform::{HttpFailure, HttpRequest, HttpResponse, Level, Platform};
use tinkex::request::Progress;
use tinkex::run::Runs;
use tinkex::service::{Lora, Made, Service, Settings};
use tinkex::session::{Choice, Labels, Resume};
use tinkex::training::TrainingClient;
use tinkex_protocol::json::training::LoraConfig;
use tinkex_protocol::{Datum, LossCall, ModelId, ModelInput, Tensor};
use tinkex_sandbox::message::{HoldId, Reply, Request, Response};
use tinkex_sandbox::{Bases, Core, TINY};
use tinkex_supervise::virtual_time::VirtualTime;
use tinkex_supervise::{DynamicSupervisor, Runtime, Supervisor, System};

use crate::disk::Disk;
use crate::door::{answered, asked, to_sandbox};
use crate::instance::Instance;

/// One way through the network.
const LATENCY: Duration = Duration::from_millis(5);

/// Read once for all worlds, since that takes longer than many a test.
static BASES: LazyLock<Bases> = LazyLock::new(|| Bases::shipped().expect("the shipped bases can be read"));

/// Of every service here; it is never to be found on a disk.
pub const API_KEY: &str = "tml-a-secret-of-somebody";

/// What a user has called things.
pub const USERS_WORDS: &str = "words of somebody";

/// How often the network does what, in a thousand requests.
#[derive(Clone, Copy, Default)]
pub struct Weather {
    pub lost_requests: u64,
    pub lost_replies: u64,
    pub refusals: u64,
}

/// Clones are the same world.
#[derive(Clone)]
pub struct World {
    pub time: Rc<Time>,
    runtime: Rc<dyn Runtime>,
    server: Rc<RefCell<Server>>,
    pub weather: Rc<Cell<Weather>>,
    /// Where services keep their journals.
    pub disk: Disk,
    dice: Rc<Cell<u64>>,
    /// Timers that were to fire at the very instant at which they were set.
    immediate_timers: Rc<Cell<usize>>,
    /// By how much the clock on the wall is ahead of the one that timers go by.
    unix_ahead: Rc<Cell<Duration>>,
}

/// The world's time, at whose every stop the trees of all services are counted.
pub struct Time {
    time: VirtualTime,
    systems: RefCell<Vec<System>>,
}

impl Time {
    /// Runs the world until the future ends. As many futures live then as the trees have processes.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        let output = self.time.block_on(future);
        self.systems.borrow().iter().for_each(System::assert_accounted);
        output
    }
}

impl Deref for Time {
    type Target = VirtualTime;

    fn deref(&self) -> &VirtualTime {
        &self.time
    }
}

struct Server {
    core: Core,
    up: bool,
    silent: bool,
    /// Nothing that it has taken is done meanwhile.
    idle: bool,
    refuses: Option<u16>,
    /// So many more.
    refusals: usize,
    holds: HashMap<HoldId, tinkex_supervise::Reply<Response>>,
    requests: usize,
    sent: Vec<String>,
    /// Requests to paths that end with this are never answered.
    hangs: Option<&'static str>,
    /// The lengths of the bodies that were to outlive their page.
    kept_alive: Vec<usize>,
}

impl World {
    pub fn new(seed: u64) -> Rc<World> {
        World::with(seed, tinkex_sandbox::Settings::default())
    }

    /// A world whose server keeps sessions without heartbeats for an hour.
    pub fn patient(seed: u64) -> Rc<World> {
        World::ending_sessions_after(seed, Duration::from_secs(3_600))
    }

    /// A world whose server ends a session that has sent no heartbeat for so long.
    pub fn ending_sessions_after(seed: u64, session_timeout: Duration) -> Rc<World> {
        World::with(seed, tinkex_sandbox::Settings { session_timeout, ..Default::default() })
    }

    /// A world whose server takes one datum a request.
    pub fn small_chunks(seed: u64) -> Rc<World> {
        let flags = [("fwdbwd_max_chunk_len".to_owned(), 1.into())].into_iter().collect();
        World::with(seed, tinkex_sandbox::Settings { flags, ..Default::default() })
    }

    fn with(seed: u64, settings: tinkex_sandbox::Settings) -> Rc<World> {
        let time = Rc::new(Time { time: VirtualTime::new(seed), systems: RefCell::default() });
        let core = Core::new(settings, BASES.clone(), [7; 32]);
        Rc::new(World {
            runtime: time.runtime(),
            time,
            server: Rc::new(RefCell::new(Server {
                core,
                up: true,
                silent: false,
                idle: false,
                refuses: None,
                refusals: 0,
                holds: HashMap::new(),
                requests: 0,
                sent: Vec::new(),
                hangs: None,
                kept_alive: Vec::new(),
            })),
            weather: Rc::default(),
            disk: Disk::default(),
            dice: Rc::new(Cell::new(seed)),
            immediate_timers: Rc::default(),
            unix_ahead: Rc::default(),
        })
    }

    /// A service of this world, with the heartbeats running.
    pub fn service(self: &Rc<Self>) -> Service {
        self.service_of("page", Resume::None)
    }

    /// A service of a page that is called so.
    pub fn service_of(self: &Rc<Self>, owner: &str, resume: Resume) -> Service {
        self.service_on(self.clone(), owner, resume)
    }

    /// A service that tells how it fares. All others here keep that to themselves, so that their requests are their calls'.
    pub fn telling(self: &Rc<Self>, owner: &str) -> Service {
        self.telling_of(owner, Resume::None)
    }

    pub fn telling_of(self: &Rc<Self>, owner: &str, resume: Resume) -> Service {
        self.service_with(self.clone(), owner, resume, true, |_, root| root)
    }

    /// A service of an instance of its own, which dies on its own.
    pub fn mortal(self: &Rc<Self>, owner: &str, resume: Resume) -> (Service, Rc<Instance>) {
        let instance = Instance::of(self.clone());
        (self.service_on(instance.clone(), owner, resume), instance)
    }

    fn service_on(self: &Rc<Self>, platform: Rc<dyn Platform>, owner: &str, resume: Resume) -> Service {
        self.service_with(platform, owner, resume, false, |_, root| root)
    }

    /// A service of a page with its runs.
    pub fn runs_of(self: &Rc<Self>, owner: &str) -> (Service, Runs) {
        self.runs_on(self.clone(), owner)
    }

    /// The same, of an instance that dies on its own.
    pub fn mortal_runs(self: &Rc<Self>, owner: &str) -> (Service, Runs, Rc<Instance>) {
        let instance = Instance::of(self.clone());
        let (service, runs) = self.runs_on(instance.clone(), owner);
        (service, runs, instance)
    }

    fn runs_on(self: &Rc<Self>, platform: Rc<dyn Platform>, owner: &str) -> (Service, Runs) {
        let supervisor = DynamicSupervisor::new("runs");
        let service =
            self.service_with(platform, owner, Resume::None, false, |_, root| root.with(supervisor.child()));
        let runs = Runs::new(&service, &supervisor);
        // Calls come through the desk, which is up last; here they come at once.
        self.time.run_until_stalled();
        (service, runs)
    }

    fn service_with(
        self: &Rc<Self>,
        platform: Rc<dyn Platform>,
        owner: &str,
        resume: Resume,
        telemetry: bool,
        above: impl FnOnce(&Service, Supervisor) -> Supervisor,
    ) -> Service {
        let session = Choice { owner: owner.to_owned(), resume };
        let labels = Labels {
            tags: vec![USERS_WORDS.into()],
            user_metadata: [(USERS_WORDS.to_owned(), USERS_WORDS.to_owned())].into_iter().collect(),
            project_id: None,
            display_name: Some(USERS_WORDS.into()),
        };
        let settings = Settings { transport: to_sandbox(API_KEY), labels, session, telemetry };
        let service = Service::open(platform, Rc::new(self.disk.clone()), settings, above);
        self.time.systems.borrow_mut().push(service.system().clone());
        service
    }

    /// The first life of a page: it makes a model, does something with its client, and then its instance dies.
    pub fn first_life(self: &Rc<Self>, lived: impl AsyncFnOnce(&TrainingClient)) -> ModelId {
        let (service, instance) = self.mortal("first", Resume::None);
        let id = self.time.block_on(async {
            let client = model(&service).await.expect("the server is up").client;
            lived(&client).await;
            client.model().clone()
        });
        instance.die_after(0);
        id
    }

    /// Another life: it takes the model up again, and is closed when it has done something with its client.
    pub fn next_life(self: &Rc<Self>, owner: &str, id: &ModelId, lived: impl AsyncFnOnce(&TrainingClient)) {
        let service = self.service_of(owner, Resume::Newest);
        self.time.block_on(async {
            let client = resume(&service, id).await.expect("the session is alive");
            lived(&client).await;
        });
        service.close();
    }

    /// The server answers no more, until it is up again with what it knew.
    pub fn set_up(&self, up: bool) {
        self.server.borrow_mut().up = up;
    }

    /// What arrives is done, and no answer comes back.
    pub fn lose_replies(&self, lose: bool) {
        self.server.borrow_mut().silent = lose;
    }

    /// Requests to paths that end with this are never answered.
    pub fn hang(&self, path: Option<&'static str>) {
        self.server.borrow_mut().hangs = path;
    }

    /// Every request is answered with this status.
    pub fn refuse_all(&self, status: Option<u16>) {
        let mut server = self.server.borrow_mut();
        server.refuses = status;
        server.refusals = usize::MAX;
    }

    /// The next requests are answered with this status.
    pub fn refuse_next(&self, status: u16, requests: usize) {
        let mut server = self.server.borrow_mut();
        server.refuses = Some(status);
        server.refusals = requests;
    }

    /// The server takes requests, and does what they ask for only when it works again.
    pub fn set_working(&self, working: bool) {
        let mut server = self.server.borrow_mut();
        server.idle = !working;
        server.work(self.time.now());
    }

    /// A machine sleeps whose timers' clock stands meanwhile.
    pub fn skip_unix_time(&self, by: Duration) {
        self.unix_ahead.set(self.unix_ahead.get() + by);
    }

    /// Forgets the paths that [`sent`](Self::sent) gives.
    pub fn forget_sent(&self) {
        self.server.borrow_mut().sent = Vec::new();
    }

    /// How many requests have reached the server.
    pub fn requests(&self) -> usize {
        self.server.borrow().requests
    }

    /// What the server says to a GET of its own, beside the network.
    pub fn ask(&self, path: &str) -> String {
        let request = Request::get(path);
        match self.server.borrow_mut().core.handle(self.time.now(), &request) {
            Reply::Now(response) => String::from_utf8_lossy(&response.body).into_owned(),
            Reply::Held(..) => panic!("{path} was held"),
        }
    }

    /// The paths of all requests that clients have sent.
    pub fn sent(&self) -> Vec<String> {
        self.server.borrow().sent.clone()
    }

    /// The lengths of the bodies that were to arrive also when their page goes.
    pub fn kept_alive(&self) -> Vec<usize> {
        self.server.borrow().kept_alive.clone()
    }

    /// Waits on the world's clock.
    pub fn runtime_timer(&self, after: Duration) -> LocalBoxFuture<'static, ()> {
        self.runtime.timer(after)
    }

    /// One turn of the event loop: what is ready runs until nothing is. The clock stands and no timer fires: one that is
    /// set to fire at once would belong to the next turn.
    pub fn turn(&self) {
        let (now, immediate) = (self.time.now(), self.immediate_timers.get());
        self.time.run_until_stalled();
        assert_eq!((self.time.now(), self.immediate_timers.get()), (now, immediate));
    }

    fn draw(&self, of: u64) -> u64 {
        let next = self.dice.get().wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        self.dice.set(next);
        (next >> 33) % of
    }

    fn happens(&self, in_a_thousand: u64) -> bool {
        self.draw(1_000) < in_a_thousand
    }

    async fn exchange(self, request: HttpRequest) -> Result<HttpResponse, HttpFailure> {
        self.server.borrow_mut().sent.push(request.url.clone());
        if let (true, Some(body)) = (request.keepalive, &request.body) {
            self.server.borrow_mut().kept_alive.push(body.len());
        }
        self.runtime.timer(LATENCY).await;
        let hangs = self.server.borrow().hangs;
        if hangs.is_some_and(|path| request.url.ends_with(path)) {
            return pending().await;
        }
        let weather = self.weather.get();
        if !self.server.borrow().up || self.happens(weather.lost_requests) {
            return Err(HttpFailure("connection refused".into()));
        }
        if self.happens(weather.refusals) {
            let status = [408, 429, 500, 503][self.draw(4) as usize];
            return Ok(HttpResponse { status, ..HttpResponse::default() });
        }
        if let Some(status) = self.server.borrow_mut().refusal() {
            return Ok(HttpResponse { status, body: b"{}".to_vec(), ..HttpResponse::default() });
        }
        let response = self.answer(&request).await;
        if self.server.borrow().silent {
            return Err(HttpFailure("connection reset".into()));
        }
        if self.happens(weather.lost_replies) {
            return Err(HttpFailure("connection reset".into()));
        }
        self.runtime.timer(LATENCY).await;
        Ok(response)
    }

    async fn answer(&self, request: &HttpRequest) -> HttpResponse {
        let request = asked(request);
        let reply = {
            let mut server = self.server.borrow_mut();
            server.requests += 1;
            let reply = server.core.handle(self.time.now(), &request);
            server.work(self.time.now());
            reply
        };
        let response = match reply {
            Reply::Now(response) => response,
            Reply::Held(id, until) => self.held(id, until).await,
        };
        answered(response)
    }

    async fn held(&self, id: HoldId, until: Duration) -> Response {
        let (sender, released) = tinkex_supervise::reply();
        self.server.borrow_mut().holds.insert(id, sender);
        // Work may have been done between the hold and this line.
        self.server.borrow_mut().work(self.time.now());
        let _let_go = LetGo { server: self.server.clone(), id };
        let late = self.runtime.timer(until.saturating_sub(self.time.now()));
        match select(released, late).await {
            Either::Left((response, _)) => response.expect("a hold is released or waited for to its end"),
            Either::Right((_, released)) => {
                self.server.borrow_mut().tick(self.time.now());
                released.await.expect("the deadline releases the hold")
            }
        }
    }
}

impl Server {
    fn refusal(&mut self) -> Option<u16> {
        self.refusals = self.refusals.checked_sub(1)?;
        self.refuses
    }

    fn work(&mut self, now: Duration) {
        while !self.idle
            && let Some(work) = self.core.take_work(now)
        {
            self.core.complete(now, work.run(1));
        }
        let _ = self.core.records();
        for (id, response) in self.core.released() {
            if let Some(waiting) = self.holds.remove(&id) {
                let _ = waiting.send(response);
            }
        }
    }

    fn tick(&mut self, now: Duration) {
        self.core.tick(now);
        self.work(now);
    }
}

struct LetGo {
    server: Rc<RefCell<Server>>,
    id: HoldId,
}

impl Drop for LetGo {
    fn drop(&mut self) {
        let mut server = self.server.borrow_mut();
        server.holds.remove(&self.id);
        server.core.let_go(self.id);
    }
}

impl Runtime for World {
    fn now(&self) -> Duration {
        self.runtime.now()
    }

    fn timer(&self, after: Duration) -> LocalBoxFuture<'static, ()> {
        self.immediate_timers.set(self.immediate_timers.get() + usize::from(after.is_zero()));
        self.runtime.timer(after)
    }

    fn spawn(&self, future: LocalBoxFuture<'static, ()>) {
        self.runtime.spawn(future);
    }
}

impl Platform for World {
    fn http(&self, request: HttpRequest) -> LocalBoxFuture<'static, Result<HttpResponse, HttpFailure>> {
        self.clone().exchange(request).boxed_local()
    }

    fn random(&self) -> u64 {
        (self.draw(1 << 31) << 33) | (self.draw(1 << 31) << 2)
    }

    fn unix_time(&self) -> Duration {
        self.runtime.now() + self.unix_ahead.get()
    }

    fn log(&self, _: Level, _: &str) {}
}

/// Makes a model of the tiny base, in a task of the service.
pub async fn model(service: &Service) -> Result<Made<TrainingClient>, tinkex::Error> {
    of_base(service, TINY).await
}

pub async fn of_base(service: &Service, base_model: &str) -> Result<Made<TrainingClient>, tinkex::Error> {
    let config = LoraConfig { rank: 4, seed: Some(1), ..LoraConfig::default() };
    let lora = Lora { base_model: base_model.to_owned(), config, user_metadata: None };
    let maker = service.clone();
    let made = service.calls().spawn_nolink("create", move |_| async move {
        maker.create_training_client(lora, &Progress::default()).await
    });
    made.await.expect("making a model does not crash")
}

/// Takes the client of a model up again, in a task of the service.
pub async fn resume(service: &Service, id: &ModelId) -> Result<TrainingClient, tinkex::Error> {
    let (resumer, id) = (service.clone(), id.clone());
    let made = service.calls().spawn_nolink("resume", move |_| async move {
        Ok::<_, tinkex::Error>(resumer.resume_training_client(id).await?.client)
    });
    made.await.expect("resuming does not crash")
}

/// A batch that depends on its number.
pub fn batch(number: i64) -> Vec<Datum> {
    let tokens: Vec<i64> = (0..8).map(|i| (number * 7 + i * 3) % 500).collect();
    let input: Vec<i32> = tokens[..7].iter().map(|&token| token as i32).collect();
    vec![Datum {
        model_input: ModelInput::from_tokens(input),
        loss_fn_inputs: [
            ("target_tokens".to_owned(), Tensor::integers(&tokens[1..])),
            ("weights".to_owned(), Tensor::floats(&[1.0; 7])),
        ]
        .into_iter()
        .collect(),
        ..Datum::default()
    }]
}

pub fn cross_entropy() -> LossCall {
    LossCall::new("cross_entropy")
}
