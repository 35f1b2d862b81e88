//! Whole training runs in worlds where everything goes wrong: with tabs, absences, commands, and functions that misbehave.
//! `npm run simulate -- --runs` lets many of them run.

mod applied;
mod check;
pub mod counts;
mod fate;
mod hears;
mod history;
mod person;
mod step;
mod tab;
mod work;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Deref;
use std::rc::Rc;
use std::time::Duration;

use tinkex::run::Runs;
use tinkex::service::{Service, Settings};
use tinkex::session::{Choice, Labels, Resume};
use tinkex_supervise::virtual_time::VirtualTime;
use tinkex_supervise::{Answer, DynamicSupervisor, Supervisor};

use crate::around::Around;
use crate::disk::Connection;
use crate::door::to_sandbox;
use crate::instance::Instance;
use crate::page::API_KEY;
use crate::tally::Tally;
use check::{Deeds, Trained};
use tab::{Manners, Tab};
use work::{PLANS, Plan, Source};

/// A world that is not done by then hangs.
const LONGEST: Duration = Duration::from_secs(12 * 3_600);

/// Longer than any of a client's requests takes.
const SESSION_TIMEOUT: Duration = Duration::from_secs(200);

pub struct RunWorld {
    around: Around,
    pub plan: Plan,
    steps: u32,
    /// What each step is to train on, instead of what its function would draw.
    pub rollouts: Option<Vec<u32>>,
    pub notes: RefCell<Notes>,
    pub opened: RefCell<Vec<Opened>>,
    tabs: RefCell<Vec<Rc<Tab>>>,
    /// The tab that may own the run, as a Web Lock has it.
    pub lock: Cell<Option<u32>>,
    pub mischief: Cell<Option<Mischief>>,
    /// A step was told of since the last checkpoint.
    pub unsaved: Cell<bool>,
    tabs_opened: Cell<u32>,
}

/// A service in an instance of its own.
#[derive(Clone)]
pub struct Opened {
    pub instance: Instance,
    pub service: Service,
    pub runs: Runs,
    /// What was asked of its run and is not settled.
    pub unsettled: Rc<Cell<u32>>,
}

/// What is known of the run beside its records.
#[derive(Default)]
pub struct Notes {
    pub run: Option<String>,
    /// Its end was seen.
    pub over: bool,
    /// The models of its incarnations.
    pub models: BTreeMap<u32, String>,
    /// What persons did to its incarnations.
    pub deeds: Deeds,
    /// The calls of functions whose results they had: incarnation, step, place.
    pub heard: BTreeSet<(u32, u32, u32)>,
}

/// What a page's data or function does next instead of what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mischief {
    Throws,
    NeverReturns,
    AsksOtherwise,
    HasOtherData,
    HasBrokenData,
}

thread_local! {
    /// What undisturbed runs over data have come to, by plan and steps.
    static UNDISTURBED: RefCell<HashMap<(u64, u32), Rc<Trained>>> = RefCell::default();
}

/// Lets one world run. Panics where something does not hold.
pub fn run(seed: u64) -> Rc<Tally> {
    let plan = Plan::new(seed % PLANS);
    let (trained, tally) = live(seed, plan, plan.steps, None, true);
    let undisturbed = |steps| match plan.source {
        Source::Function => Rc::new(live(0, plan, steps, Some(trained.rollouts()), false).0),
        _ => undisturbed(plan, steps),
    };
    trained.check(&plan, undisturbed);
    tally
}

fn undisturbed(plan: Plan, steps: u32) -> Rc<Trained> {
    let key = (plan.number, steps);
    if let Some(known) = UNDISTURBED.with_borrow(|known| known.get(&key).cloned()) {
        return known;
    }
    let trained = Rc::new(live(0, plan, steps, None, false).0);
    UNDISTURBED.with_borrow_mut(|known| known.insert(key, trained.clone()));
    trained
}

fn live(
    seed: u64,
    plan: Plan,
    steps: u32,
    rollouts: Option<Vec<u32>>,
    disturbed: bool,
) -> (Trained, Rc<Tally>) {
    // Zero keeps tasks in their order.
    let time = VirtualTime::new(if disturbed { seed + 1 } else { 0 });
    let world = RunWorld::new(&time, seed, plan, steps, rollouts);
    let trained = time.block_on(async {
        world.open_tab(Manners::Waits);
        if disturbed {
            fate::befall(&world).await;
        }
        loop {
            // Long enough for what was begun for nobody to come to its end.
            world.runtime.timer(Duration::from_secs(100)).await;
            assert!(world.runtime.now() < LONGEST, "the run hangs: {}", world.state());
            match world.any_tab_open() {
                true => {}
                false if world.notes.borrow().over => break,
                false => world.open_tab(Manners::Waits),
            }
        }
        Trained::read(&world).await
    });
    world.check_rest();
    trained.check_seams(&world);
    let tally = world.tally.clone();
    world.end();
    assert_eq!((time.live_tasks(), time.live_timers()), (0, 0), "nothing is left running");
    (trained, tally)
}

impl Deref for RunWorld {
    type Target = Around;

    fn deref(&self) -> &Around {
        &self.around
    }
}

impl RunWorld {
    fn new(
        time: &VirtualTime,
        seed: u64,
        plan: Plan,
        steps: u32,
        rollouts: Option<Vec<u32>>,
    ) -> Rc<RunWorld> {
        Rc::new(RunWorld {
            around: Around::new(time, seed, SESSION_TIMEOUT),
            plan,
            steps,
            rollouts,
            notes: RefCell::default(),
            opened: RefCell::default(),
            tabs: RefCell::default(),
            lock: Cell::new(None),
            mischief: Cell::new(None),
            unsaved: Cell::new(false),
            tabs_opened: Cell::new(0),
        })
    }

    pub fn spec(&self) -> Vec<u8> {
        self.plan.spec(self.steps)
    }

    pub fn open_tab(self: &Rc<Self>, manners: Manners) {
        let number = self.tabs_opened.get() + 1;
        self.tabs_opened.set(number);
        let tab = Tab::open(self, number, manners);
        self.tabs.borrow_mut().push(tab);
    }

    /// A tab that has the run, if one has.
    pub fn any_owner(&self) -> Option<Rc<Tab>> {
        let tabs = self.tabs.borrow();
        let owners: Vec<&Rc<Tab>> = tabs.iter().filter(|tab| tab.has_run()).collect();
        let nth = self.dice.roll(owners.len().max(1) as u64) as usize;
        owners.get(nth).map(|tab| (*tab).clone())
    }

    /// A tab that is open, if one is.
    pub fn any_tab(&self) -> Option<Rc<Tab>> {
        let tabs = self.tabs.borrow();
        let open: Vec<&Rc<Tab>> = tabs.iter().filter(|tab| tab.is_open()).collect();
        let nth = self.dice.roll(open.len().max(1) as u64) as usize;
        open.get(nth).map(|tab| (*tab).clone())
    }

    pub fn has_waiting(&self) -> bool {
        self.tabs.borrow().iter().any(|tab| tab.has_waiting())
    }

    pub fn kill_tabs(&self) {
        self.tabs.borrow().iter().for_each(|tab| tab.kill());
    }

    fn any_tab_open(&self) -> bool {
        self.tabs.borrow().iter().any(|tab| tab.is_open())
    }

    fn state(&self) -> String {
        let tabs = self.tabs.borrow();
        let statuses: Vec<String> = tabs.iter().filter_map(|tab| tab.status()).collect();
        format!("{statuses:?}; the disk has {:?}", self.disk.keys_of(""))
    }

    fn check_rest(&self) {
        for Opened { instance, service, unsettled, .. } in &*self.opened.borrow() {
            if instance.is_alive() {
                let system = service.system();
                system.assert_accounted();
                assert_eq!(system.live(), 0, "nothing runs after the end");
                assert_eq!(unsettled.get(), 0, "every promise is settled");
            }
        }
        assert!(!self.disk.contains(API_KEY), "no secret is on the disk");
        for place in ["run-call", "request", "body", "answer", "model"] {
            let left = self.disk.keys_of(&format!("{place}/"));
            assert_eq!(left, Vec::<String>::new(), "what was seen is forgotten");
        }
        let sessions = self.disk.keys_of("session/");
        assert_eq!(sessions, Vec::<String>::new(), "a run that is over has no session");
    }

    /// Lets go of everything.
    fn end(&self) {
        let opened = self.opened.take();
        opened.iter().for_each(|Opened { instance, .. }| instance.die());
        opened.iter().for_each(|Opened { instance, .. }| instance.bury());
        self.tabs.take().into_iter().for_each(|tab| tab.forget());
    }
}

impl Opened {
    /// One, and the news of its instance's death.
    pub fn new(world: &RunWorld, connection: &Rc<Connection>, owner: String) -> (Opened, Answer<()>) {
        let Around { runtime, network, disk, dice, .. } = &world.around;
        let (instance, death) = Instance::new(runtime.clone(), network.clone(), dice.clone());
        let store = disk.handle(connection.clone(), instance.epoch());
        let session = Choice { owner, resume: Resume::None };
        let settings =
            Settings { transport: to_sandbox(API_KEY), labels: Labels::default(), session, telemetry: true };
        let supervisor = DynamicSupervisor::new("runs");
        let above = |_: &Service, root: Supervisor| root.with(supervisor.child());
        let service = Service::open(Rc::new(instance.clone()), store, settings, above);
        let runs = Runs::new(&service, &supervisor);
        (Opened { instance, service, runs, unsettled: Rc::default() }, death)
    }
}
