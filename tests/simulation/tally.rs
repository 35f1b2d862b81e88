//! What has happened, and how often: so that what is said to be tried was tried.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

use tinkex_supervise::Runtime;

/// What goes wrong around every client: with its network, its server and its disk.
pub const AROUND: [&str; 32] = [
    "network: a request is lost",
    "network: a reply is lost",
    "network: a request arrives twice",
    "network: a request arrives after a later one",
    "network: a reply comes after the client's patience",
    "network: an aborted request arrives all the same",
    "network: a poll is held",
    "status 400 of a proxy",
    "status 401",
    "status 402",
    "status 408",
    "status 408 of what was taken",
    "status 409",
    "status 410 of a sample",
    "status 410 of a training result",
    "status 422",
    "status 429",
    "status 500",
    "status 500 of what was taken",
    "status 503",
    "status 503 of what was taken",
    "server: dies",
    "server: dies with work under way",
    "server: returns from its records",
    "disk: refuses a commit",
    "disk: is full",
    "disk: can't be read",
    "disk: refuses a claim",
    "disk: damages a record",
    "disk: loses a relaxed write",
    "disk: loses power",
    "fence: a commit comes too late",
];

/// What befalls pages and instances.
const OF_PAGES: [&str; 9] = [
    "instance: one of its tasks panics",
    "instance: dies",
    "instance: dies with a commit under way",
    "instance: takes its page's calls up again",
    "page: is killed",
    "page: is killed with a commit under way",
    "page: goes on from what is pending",
    "page: a second one takes over",
    "page: gives a call up",
];

/// Everything that goes wrong here.
pub fn faults() -> Vec<&'static str> {
    [&AROUND[..], &OF_PAGES].concat()
}

/// The life of a request as its surroundings see it. `born` is a call without a number, `dead` what nobody holds while its
/// page or instance is gone.
pub const TRANSITIONS: [Transition; 20] = [
    ("called", "written"),
    ("called", "not written"),
    ("called", "lost with its page"),
    ("called", "rejected with its instance"),
    ("called", "given up"),
    ("written", "sent"),
    ("written", "come back"),
    ("sent", "sent again"),
    ("sent", "answered"),
    ("sent", "refused"),
    ("sent", "given up"),
    ("sent", "come back"),
    ("answered", "polled"),
    ("answered", "come back"),
    ("polled", "polled again"),
    ("polled", "finished"),
    ("given up", "come back"),
    ("finished", "come back"),
    ("finished", "settled"),
    ("settled", "forgotten"),
];

/// What occurred less often in many worlds was hardly tried.
const OFTEN: u64 = 100;

/// From which state to which.
pub type Transition = (&'static str, &'static str);

thread_local! {
    /// Whether everything is told as it happens.
    static TELLS: Cell<bool> = const { Cell::new(false) };
}

/// Lets every world of this thread tell what happens in it.
pub fn tell_all() {
    TELLS.set(true);
}

#[derive(Default)]
pub struct Tally {
    clock: Option<Rc<dyn Runtime>>,
    faults: RefCell<BTreeMap<&'static str, u64>>,
    transitions: RefCell<BTreeMap<Transition, u64>>,
}

impl Tally {
    pub fn new(clock: Rc<dyn Runtime>) -> Tally {
        Tally { clock: Some(clock), ..Tally::default() }
    }

    /// A line of the story.
    pub fn tell(&self, what: fmt::Arguments) {
        if TELLS.get()
            && let Some(clock) = &self.clock
        {
            println!("{:>10.4}  {what}", clock.now().as_secs_f64());
        }
    }

    pub fn fault(&self, fault: &'static str) {
        self.tell(format_args!("{fault}"));
        *self.faults.borrow_mut().entry(fault).or_default() += 1;
    }

    /// How often a fault has occurred.
    pub fn count(&self, fault: &str) -> u64 {
        self.faults.borrow().get(fault).copied().unwrap_or(0)
    }

    /// `what` is the request, or as much as is known of it.
    pub fn transition(&self, what: &str, from: &'static str, to: &'static str) {
        self.tell(format_args!("{what}: {from} → {to}"));
        *self.transitions.borrow_mut().entry((from, to)).or_default() += 1;
    }

    pub fn add(&self, other: &Tally) {
        for (fault, count) in &*other.faults.borrow() {
            *self.faults.borrow_mut().entry(fault).or_default() += count;
        }
        for (transition, count) in &*other.transitions.borrow() {
            *self.transitions.borrow_mut().entry(*transition).or_default() += count;
        }
    }

    /// A line for each of these, and then one for each that occurred less than this often. Whatever was counted has to be
    /// among them.
    pub fn table(&self, faults: &[&'static str], transitions: &[Transition]) -> Vec<String> {
        let (counted, passed) = (self.faults.borrow(), self.transitions.borrow());
        let other_faults: Vec<_> = counted.keys().filter(|fault| !faults.contains(fault)).collect();
        let others: Vec<_> = passed.keys().filter(|passed| !transitions.contains(passed)).collect();
        assert!(other_faults.is_empty() && others.is_empty(), "not listed: {other_faults:?} {others:?}");
        let mut rows: Vec<(u64, String)> = Vec::new();
        for fault in faults {
            rows.push((counted.get(fault).copied().unwrap_or(0), (*fault).to_owned()));
        }
        for transition in transitions {
            let (from, to) = transition;
            rows.push((passed.get(transition).copied().unwrap_or(0), format!("{from} → {to}")));
        }
        let line = |(count, name): &(u64, String)| format!("{count:>9}  {name}");
        let mut lines: Vec<String> = rows.iter().map(line).collect();
        rows.retain(|(count, _)| *count < OFTEN);
        rows.sort();
        lines.push(match rows.len() {
            0 => format!("each of these at least {OFTEN} times"),
            rare => format!("{rare} of these less than {OFTEN} times:"),
        });
        lines.extend(rows.iter().map(line));
        lines
    }
}
