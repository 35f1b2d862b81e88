//! The disk of one browser: all pages write to it. A strict commit is on it when it is done, with all that was committed
//! before; a relaxed one may be lost with the power.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use tinkex::store::{Batch, Durability, Op, Store, StoreError, StoreErrorKind};
use tinkex_journal::record::{Answer, Record};
use tinkex_supervise::{Runtime, reply};

use crate::dice::Dice;
use crate::tally::Tally;
use crate::trace::Trace;

type Records = BTreeMap<String, Rc<[u8]>>;
type Found = Vec<(String, Vec<u8>)>;

/// Clones are the same disk.
#[derive(Clone)]
pub struct Disk(Rc<Inner>);

struct Inner {
    runtime: Rc<dyn Runtime>,
    dice: Rc<Dice>,
    tally: Rc<Tally>,
    trace: Rc<Trace>,
    /// What is read.
    records: RefCell<Records>,
    /// What is left when the power goes: this, and some of `unsynced` from its beginning.
    synced: RefCell<Records>,
    unsynced: RefCell<VecDeque<Vec<Op>>>,
    epochs: RefCell<BTreeMap<String, u64>>,
    /// Operations are done one after the other; so long it has to do.
    busy_until: Cell<Duration>,
    stormy: Cell<bool>,
    full: Cell<bool>,
    /// Operations begun before the power went last are never done.
    power: Cell<u64>,
}

/// The disk as one page reaches it.
pub struct Handle {
    disk: Disk,
    page: Rc<Connection>,
    /// What it claimed last.
    epoch: Rc<Cell<u64>>,
}

/// What a page has begun and the disk has not done.
#[derive(Default)]
pub struct Connection {
    waiting: RefCell<VecDeque<Rc<Cell<bool>>>>,
}

impl Connection {
    pub fn has_waiting(&self) -> bool {
        !self.waiting.borrow().is_empty()
    }

    /// The page is no more: so many of the operations that it has begun are done, and the others never.
    pub fn cut(&self, done: usize) {
        for given_up in self.waiting.borrow_mut().drain(..).skip(done) {
            given_up.set(true);
        }
    }

    pub fn waiting(&self) -> usize {
        self.waiting.borrow().len()
    }
}

impl Disk {
    pub fn new(runtime: Rc<dyn Runtime>, dice: Rc<Dice>, tally: Rc<Tally>, trace: Rc<Trace>) -> Disk {
        Disk(Rc::new(Inner {
            runtime,
            dice,
            tally,
            trace,
            records: RefCell::default(),
            synced: RefCell::default(),
            unsynced: RefCell::default(),
            epochs: RefCell::default(),
            busy_until: Cell::default(),
            stormy: Cell::new(false),
            full: Cell::new(false),
            power: Cell::new(0),
        }))
    }

    pub fn handle(&self, page: Rc<Connection>, epoch: Rc<Cell<u64>>) -> Rc<dyn Store> {
        Rc::new(Handle { disk: self.clone(), page, epoch })
    }

    pub fn set_stormy(&self, stormy: bool) {
        self.0.stormy.set(stormy);
    }

    pub fn set_full(&self, full: bool) {
        self.0.full.set(full);
    }

    /// The power goes: of what was not synced, some is lost, the latest first.
    pub fn lose_power(&self) {
        let Inner { dice, tally, records, synced, unsynced, power, busy_until, runtime, .. } = &*self.0;
        tally.fault("disk: loses power");
        power.set(power.get() + 1);
        busy_until.set(runtime.now());
        let left = std::mem::take(&mut *unsynced.borrow_mut());
        let kept = dice.roll(left.len() as u64 + 1) as usize;
        let mut synced = synced.borrow_mut();
        for ops in left.iter().take(kept) {
            apply(&mut synced, ops);
        }
        for _ in kept..left.len() {
            tally.fault("disk: loses a relaxed write");
        }
        if dice.happens(500) {
            self.damage_an_answer(&mut synced);
        }
        *records.borrow_mut() = synced.clone();
    }

    /// Damages the record of a request's id: the one record that can be had again, from the server.
    fn damage_an_answer(&self, records: &mut Records) {
        let answers = records.iter_mut().filter(|(key, _)| key.starts_with("answer/"));
        let is_id = |key: &str, bytes: &[u8]| matches!(Answer::from_bytes(key, bytes), Ok(Answer::Taken(_)));
        if let Some((_, record)) = answers.into_iter().find(|(key, bytes)| is_id(key, bytes)) {
            self.0.tally.fault("disk: damages a record");
            let mut bytes = record.to_vec();
            *bytes.last_mut().expect("a record is not empty") ^= 1;
            *record = bytes.into();
        }
    }

    /// The keys that begin so.
    pub fn keys_of(&self, prefix: &str) -> Vec<String> {
        self.0.records.borrow().keys().filter(|key| key.starts_with(prefix)).cloned().collect()
    }

    /// Whether a text is anywhere on it.
    pub fn contains(&self, text: &str) -> bool {
        let records = self.0.records.borrow();
        records.values().any(|value| value.windows(text.len()).any(|bytes| bytes == text.as_bytes()))
    }

    fn load(&self, prefix: &str) -> Result<Found, StoreError> {
        if self.happens(30) {
            self.0.tally.fault("disk: can't be read");
            return Err(refusal(StoreErrorKind::Unavailable));
        }
        let records = self.0.records.borrow();
        let found = records.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix));
        Ok(found.map(|(key, value)| (key.clone(), value.to_vec())).collect())
    }

    fn claim(&self, fence: &str) -> Result<u64, StoreError> {
        if self.happens(20) {
            self.0.tally.fault("disk: refuses a claim");
            return Err(refusal(StoreErrorKind::Aborted));
        }
        let mut epochs = self.0.epochs.borrow_mut();
        let epoch = epochs.entry(fence.to_owned()).or_insert(0);
        *epoch += 1;
        Ok(*epoch)
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        let Inner { tally, trace, records, synced, unsynced, epochs, full, .. } = &*self.0;
        if epochs.borrow().get(&batch.fence) != Some(&batch.epoch) {
            tally.fault("fence: a commit comes too late");
            return Err(refusal(StoreErrorKind::Fenced));
        }
        if full.get() && batch.ops.iter().any(|op| matches!(op, Op::Put(..))) {
            tally.fault("disk: is full");
            return Err(refusal(StoreErrorKind::Quota));
        }
        if self.happens(50) {
            tally.fault("disk: refuses a commit");
            return Err(refusal(StoreErrorKind::Aborted));
        }
        apply(&mut records.borrow_mut(), &batch.ops);
        unsynced.borrow_mut().push_back(batch.ops.clone());
        if batch.durability == Durability::Strict {
            for ops in unsynced.borrow_mut().drain(..) {
                apply(&mut synced.borrow_mut(), &ops);
            }
        }
        trace.committed(&batch.ops);
        Ok(())
    }

    fn happens(&self, in_a_thousand: u64) -> bool {
        self.0.stormy.get() && self.0.dice.happens(in_a_thousand)
    }
}

impl Handle {
    /// Begins an operation; it is done in its turn, whether or not anybody waits for it.
    fn begin<T: 'static>(
        &self,
        takes: Duration,
        operation: impl FnOnce(&Disk) -> Result<T, StoreError> + 'static,
    ) -> LocalBoxFuture<'static, Result<T, StoreError>> {
        let (disk, page) = (self.disk.clone(), self.page.clone());
        let Inner { runtime, busy_until, power, .. } = &*disk.0;
        let done_at = busy_until.get().max(runtime.now()) + takes;
        busy_until.set(done_at);
        let given_up = Rc::new(Cell::new(false));
        page.waiting.borrow_mut().push_back(given_up.clone());
        let (powered, timer) = (power.get(), runtime.timer(done_at - runtime.now()));
        let (sender, answer) = reply();
        let done = {
            let (disk, given_up) = (disk.clone(), given_up.clone());
            async move {
                timer.await;
                page.waiting.borrow_mut().retain(|waiting| !Rc::ptr_eq(waiting, &given_up));
                if !given_up.get() && disk.0.power.get() == powered {
                    // Whoever has gone is not told.
                    let _ = sender.send(operation(&disk));
                }
            }
        };
        runtime.spawn(done.boxed_local());
        async move { answer.await.unwrap_or_else(|_| Err(refusal(StoreErrorKind::Closed))) }.boxed_local()
    }
}

impl Store for Handle {
    fn load(&self, prefix: &str) -> LocalBoxFuture<'static, Result<Found, StoreError>> {
        let prefix = prefix.to_owned();
        self.begin(self.disk.0.dice.up_to_ms(2), move |disk| disk.load(&prefix))
    }

    fn claim(&self, fence: &str) -> LocalBoxFuture<'static, Result<u64, StoreError>> {
        let fence = fence.to_owned();
        let known = self.epoch.clone();
        self.begin(self.disk.0.dice.up_to_ms(5), move |disk| {
            disk.claim(&fence).inspect(|epoch| known.set(*epoch))
        })
    }

    fn commit(&self, batch: Batch) -> LocalBoxFuture<'static, Result<(), StoreError>> {
        let takes = if batch.durability == Durability::Strict { 20 } else { 3 };
        self.begin(self.disk.0.dice.up_to_ms(takes), move |disk| disk.commit(&batch))
    }
}

fn apply(records: &mut Records, ops: &[Op]) {
    for op in ops {
        match op {
            Op::Put(key, value) => drop(records.insert(key.clone(), value.clone())),
            Op::Delete(key) => drop(records.remove(key)),
        }
    }
}

fn refusal(kind: StoreErrorKind) -> StoreError {
    StoreError { kind, message: format!("the disk says {}", kind.as_str()) }
}
