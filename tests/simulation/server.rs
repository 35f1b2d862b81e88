//! The server: the sandbox's core on a clock and a disk that are not its own. It may die at any moment, and returns with
//! what it had written down.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::LazyLock;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{Either, select};
use tinkex_sandbox::journal::Record;
use tinkex_sandbox::message::{HoldId, Reply, Request, Response};
use tinkex_sandbox::{Bases, Core, Settings};
use tinkex_supervise::{Answer, Runtime};

use crate::dice::Dice;
use crate::tally::Tally;

/// Read once for all worlds, since that takes longer than a seed.
pub static BASES: LazyLock<Bases> =
    LazyLock::new(|| Bases::shipped().expect("the shipped bases can be read"));

/// Clones are the same server.
#[derive(Clone)]
pub struct Server(Rc<Inner>);

struct Inner {
    runtime: Rc<dyn Runtime>,
    dice: Rc<Dice>,
    tally: Rc<Tally>,
    settings: Settings,
    running: RefCell<Running>,
}

struct Running {
    /// None while it is away.
    core: Option<Core>,
    /// Counts its lives, so that nothing of one is handed to the next.
    life: u64,
    /// A piece of work is out.
    working: bool,
    holds: HashMap<HoldId, tinkex_supervise::Reply<Response>>,
    /// Its disk: what it began with, and all that it was told to write down since.
    snapshot: Vec<u8>,
    records: Vec<Record>,
}

impl Server {
    /// A server that takes two data a request.
    pub fn new(
        runtime: Rc<dyn Runtime>,
        dice: Rc<Dice>,
        tally: Rc<Tally>,
        session_timeout: Duration,
    ) -> Server {
        let flags = serde_json::json!({ "fwdbwd_max_chunk_len": 2 });
        let settings = Settings {
            session_timeout,
            log_bodies: true,
            flags: flags.as_object().cloned().unwrap_or_default(),
            ..Settings::default()
        };
        let core = Core::new(settings.clone(), BASES.clone(), [7; 32]);
        let running = Running {
            snapshot: core.snapshot().expect("nothing is under way at the start"),
            core: Some(core),
            life: 0,
            working: false,
            holds: HashMap::new(),
            records: Vec::new(),
        };
        Server(Rc::new(Inner { runtime, dice, tally, settings, running: RefCell::new(running) }))
    }

    /// The answer to a request; none when it is away, or dies before it has answered.
    pub async fn answer(&self, request: &Request) -> Option<Response> {
        let held = {
            let running = &mut *self.0.running.borrow_mut();
            let reply = running.core.as_mut()?.handle(self.0.runtime.now(), request);
            running.settle();
            match reply {
                Reply::Now(response) => Either::Left(response),
                Reply::Held(id, until) => {
                    let (sender, released) = tinkex_supervise::reply();
                    running.holds.insert(id, sender);
                    Either::Right((id, until, released))
                }
            }
        };
        self.work();
        match held {
            Either::Left(response) => Some(response),
            Either::Right((id, until, released)) => {
                self.0.tally.fault("network: a poll is held");
                self.held(id, until, released).await
            }
        }
    }

    async fn held(&self, id: HoldId, until: Duration, released: Answer<Response>) -> Option<Response> {
        let late = self.0.runtime.timer(until.saturating_sub(self.0.runtime.now()));
        match select(released, late).await {
            Either::Left((response, _)) => response.ok(),
            Either::Right((_, released)) => {
                let running = &mut *self.0.running.borrow_mut();
                if let Some(core) = &mut running.core
                    && running.holds.contains_key(&id)
                {
                    core.tick(self.0.runtime.now());
                    running.settle();
                }
                released.now_or_never()?.ok()
            }
        }
    }

    /// Lets the work that there is be done, one piece at a time.
    fn work(&self) {
        if !std::mem::replace(&mut self.0.running.borrow_mut().working, true) {
            let server = self.clone();
            let life = self.0.running.borrow().life;
            self.0.runtime.spawn(async move { while server.one_piece(life).await {} }.boxed_local());
        }
    }

    async fn one_piece(&self, life: u64) -> bool {
        let work = {
            let running = &mut *self.0.running.borrow_mut();
            if running.life != life {
                return false;
            }
            let work = running.core.as_mut().and_then(|core| core.take_work(self.0.runtime.now()));
            running.settle();
            running.working = work.is_some();
            work
        };
        let Some(work) = work else { return false };
        self.0.runtime.timer(self.0.dice.up_to_ms(100)).await;
        let running = &mut *self.0.running.borrow_mut();
        if running.life == life
            && let Some(core) = &mut running.core
        {
            core.complete(self.0.runtime.now(), work.run(1));
            running.settle();
        }
        true
    }

    /// It is gone, with all that it had not written down.
    pub fn die(&self) {
        let mut running = self.0.running.borrow_mut();
        self.0.tally.fault("server: dies");
        if running.working {
            self.0.tally.fault("server: dies with work under way");
        }
        running.core = None;
        running.life += 1;
        running.working = false;
        running.holds.clear();
    }

    /// Whether a piece of work is under way.
    pub fn is_working(&self) -> bool {
        self.0.running.borrow().working
    }

    pub fn is_away(&self) -> bool {
        self.0.running.borrow().core.is_none()
    }

    pub fn come_back(&self) {
        let mut running = self.0.running.borrow_mut();
        let Inner { settings, runtime, tally, .. } = &*self.0;
        tally.fault("server: returns from its records");
        let records = running.records.clone();
        let core = Core::restore(settings.clone(), BASES.clone(), &running.snapshot, records, runtime.now());
        running.core = Some(core.expect("its own records make the same state again"));
        drop(running);
        self.work();
    }

    /// What it says to a GET, beside the network.
    pub fn ask(&self, path: &str) -> String {
        let mut running = self.0.running.borrow_mut();
        let core = running.core.as_mut().expect("it is there");
        match core.handle(self.0.runtime.now(), &Request::get(path)) {
            Reply::Now(response) => String::from_utf8_lossy(&response.body).into_owned(),
            Reply::Held(..) => panic!("{path} was held"),
        }
    }
}

impl Running {
    /// After each step of the core: its records are on the disk before its answers leave.
    fn settle(&mut self) {
        let Some(core) = &mut self.core else { return };
        self.records.extend(core.records());
        for (id, response) in core.released() {
            if let Some(waiting) = self.holds.remove(&id) {
                // Whoever has gone asks again.
                let _ = waiting.send(response);
            }
        }
    }
}
