//! A world: a clock, a server, a network, a disk, pages, and what befalls them, all from one seed; and what has to hold
//! when it is over.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Deref;
use std::rc::Rc;
use std::time::Duration;

use tinkex_protocol::{ModelId, SessionId};
use tinkex_supervise::System;
use tinkex_supervise::virtual_time::VirtualTime;

use crate::around::Around;
use crate::fate;
use crate::instance::Instance;
use crate::page::{API_KEY, Page};
use crate::plan::{PLANS, Part, Plan, part_of};
use crate::tally::Tally;

/// A world that is not done by then hangs.
const LONGEST: Duration = Duration::from_secs(2 * 3_600);

/// None ends here.
const SESSION_TIMEOUT: Duration = Duration::from_secs(3_600);

pub struct World {
    around: Around,
    pub plan: Plan,
    pub notes: RefCell<Notes>,
    pub instances: RefCell<Vec<Instance>>,
    pub systems: RefCell<Vec<(Instance, System)>>,
    pages: RefCell<Vec<Rc<Page>>>,
    pages_opened: Cell<u32>,
}

/// What pages write down for themselves, beside the client's journal: a page writes it before it says that it has seen a
/// result.
#[derive(Default)]
pub struct Notes {
    pub session: Option<SessionId>,
    pub model: Option<ModelId>,
    /// Calls of the plan that are done, and which try it was.
    pub done: BTreeMap<usize, u64>,
    /// Tries of which the server refused a part.
    pub given_up: BTreeSet<Try>,
    tries: u64,
}

/// One making of a call of the plan; counted over all calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Try {
    pub call: usize,
    pub count: u64,
}

impl Notes {
    pub fn next_try(&mut self, call: usize) -> Try {
        self.tries += 1;
        Try { call, count: self.tries }
    }
}

impl Try {
    pub fn label(self) -> String {
        format!("[{}, {}]", self.call, self.count)
    }

    pub fn of_label(label: &str) -> Option<Try> {
        let (call, count) = serde_json::from_str(label).ok()?;
        Some(Try { call, count })
    }
}

/// What a run has come to: what was applied, in its order, and a hash of the model.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Trained {
    parts: Vec<Part>,
    state: String,
}

impl Trained {
    /// What was applied of calls, one after the other. The first part is sent when the server has the others.
    fn calls(&self) -> Vec<Vec<Part>> {
        self.parts.chunk_by(|part, next| part < next && part.0 == next.0).map(<[Part]>::to_vec).collect()
    }
}

thread_local! {
    /// What undisturbed runs have come to, by plan and what was applied of it.
    static UNDISTURBED: RefCell<HashMap<(u64, Vec<Part>), Trained>> = RefCell::default();
}

/// Lets one world run. Panics where something does not hold.
pub fn run(seed: u64) -> Rc<Tally> {
    let plan = seed % PLANS;
    let (trained, tally) = live(seed, Plan::new(plan), true);
    assert_eq!(trained, undisturbed(plan, &trained), "as if nothing had gone wrong");
    tally
}

/// What comes of the same calls in the same order, when nothing goes wrong.
fn undisturbed(plan: u64, trained: &Trained) -> Trained {
    let key = (plan, trained.parts.clone());
    if let Some(known) = UNDISTURBED.with_borrow(|known| known.get(&key).cloned()) {
        return known;
    }
    let (trained, _) = live(0, Plan::new(plan).of(&trained.calls()), false);
    UNDISTURBED.with_borrow_mut(|known| known.insert(key, trained.clone()));
    trained
}

fn live(seed: u64, plan: Plan, disturbed: bool) -> (Trained, Rc<Tally>) {
    // Zero keeps tasks in their order.
    let time = VirtualTime::new(if disturbed { seed + 1 } else { 0 });
    let world = World::new(&time, seed, plan);
    time.block_on(async {
        world.open_page();
        if disturbed {
            fate::befall(&world).await;
        }
        loop {
            // Long enough for what was begun for nobody to come to its end.
            world.runtime.timer(Duration::from_secs(100)).await;
            assert!(world.runtime.now() < LONGEST, "a call hangs: {}", world.state());
            match world.any_page_open() {
                true => {}
                false if world.is_done() => break,
                false => world.open_page(),
            }
        }
    });
    let trained = world.trained();
    if disturbed {
        world.check_calls(&trained.calls());
    }
    world.check_rest();
    let tally = world.tally.clone();
    world.end();
    assert_eq!((time.live_tasks(), time.live_timers()), (0, 0), "nothing is left running");
    (trained, tally)
}

impl Deref for World {
    type Target = Around;

    fn deref(&self) -> &Around {
        &self.around
    }
}

impl World {
    fn new(time: &VirtualTime, seed: u64, plan: Plan) -> Rc<World> {
        Rc::new(World {
            around: Around::new(time, seed, SESSION_TIMEOUT),
            plan,
            notes: RefCell::default(),
            instances: RefCell::default(),
            systems: RefCell::default(),
            pages: RefCell::default(),
            pages_opened: Cell::new(0),
        })
    }

    pub fn open_page(self: &Rc<Self>) {
        let number = self.pages_opened.get() + 1;
        self.pages_opened.set(number);
        let page = Page::open(self, format!("page-{number}"));
        self.pages.borrow_mut().push(page);
    }

    /// The page that was opened last.
    pub fn page(&self) -> Rc<Page> {
        self.pages.borrow().last().expect("one was opened").clone()
    }

    pub fn kill_pages(&self) {
        self.pages.borrow().iter().for_each(|page| page.kill());
    }

    fn any_page_open(&self) -> bool {
        self.pages.borrow().iter().any(|page| page.is_open())
    }

    /// All is trained, and nothing is left for a page to see.
    fn is_done(&self) -> bool {
        let all = self.notes.borrow().done.len() == self.plan.len();
        all && self.disk.keys_of("request/").is_empty()
    }

    fn state(&self) -> String {
        let notes = self.notes.borrow();
        format!("done {:?} of {}; the disk has {:?}", notes.done, self.plan.len(), self.disk.keys_of(""))
    }

    /// What the server has applied, in its order, and the weights that came of it.
    fn trained(&self) -> Trained {
        let notes = self.notes.borrow();
        let model = notes.model.as_ref().expect("a model was made");
        let log = self.server.ask(&format!("/api/v1/sandbox/log?model={model}"));
        let lines: Vec<serde_json::Value> =
            log.lines().map(|line| serde_json::from_str(line).expect("the log is JSON")).collect();
        for (number, line) in lines.iter().enumerate() {
            assert_eq!(line["seq_id"], number, "no number is left out or used twice");
            assert_eq!(line["ok"], true, "what was applied went well: {line}");
        }
        let parts = lines[1..].iter().filter_map(part_of).collect();
        let hash = self.server.ask(&format!("/api/v1/sandbox/models/{model}/hash"));
        let hash: serde_json::Value = serde_json::from_str(&hash).expect("the answer is JSON");
        Trained { parts, state: hash["state_hash"].to_string() }
    }

    /// Each call was applied once and as a whole; of tries that were given up, perhaps, parts besides.
    fn check_calls(&self, calls: &[Vec<Part>]) {
        let Notes { done, given_up, .. } = &*self.notes.borrow();
        let (whole, in_part): (Vec<_>, Vec<_>) = calls.iter().partition(|parts| parts[0].1 == 0);
        let mut order = Vec::new();
        for parts in whole {
            let call = parts[0].0;
            assert_eq!(*parts, self.plan.parts(call), "each call is applied as a whole");
            order.push(call);
        }
        let mut once = order.clone();
        once.sort_unstable();
        assert_eq!(once, (0..self.plan.len()).collect::<Vec<_>>(), "each call is applied once: {order:?}");
        let tries: Vec<u64> = order.iter().map(|call| done[call]).collect();
        assert!(
            tries.is_sorted(),
            "calls are applied in the order in which they were made: {order:?}, {tries:?}"
        );
        for call in 0..self.plan.len() {
            let applied = in_part.iter().filter(|parts| parts[0].0 == call).count();
            let given_up = given_up.iter().filter(|given_up| given_up.call == call).count();
            assert!(applied <= given_up, "call {call} is in part applied {applied} times: {given_up}");
        }
    }

    fn check_rest(&self) {
        for (instance, system) in &*self.systems.borrow() {
            if instance.is_alive() {
                system.assert_accounted();
                assert_eq!(system.live(), 0, "nothing runs after the end");
            }
        }
        let model = self.notes.borrow().model.clone().expect("a model was made");
        for place in ["request", "body", "answer"] {
            let left = self.disk.keys_of(&format!("{place}/"));
            assert_eq!(left, Vec::<String>::new(), "what was seen is forgotten, of {model}");
        }
        assert!(!self.disk.contains(API_KEY), "no secret is on the disk");
        let told = self.server.ask("/api/v1/sandbox/telemetry");
        assert!(!told.contains(API_KEY), "no secret is told");
    }

    /// Lets go of everything.
    fn end(&self) {
        for instance in self.instances.take() {
            instance.die();
            instance.bury();
        }
        self.pages.take();
        self.systems.take();
    }
}
