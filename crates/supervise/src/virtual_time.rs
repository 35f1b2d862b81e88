//! A deterministic executor with a clock of its own: hours of waiting pass in no time, and one seed replays a run.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, VecDeque},
    future::Future,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use crate::runtime::{LocalBoxFuture, Runtime};

/// The executor. The clock moves only when [`advance`](Self::advance), [`block_on`](Self::block_on) or
/// [`burn`](Self::burn) move it. Dropping it drops every task.
pub struct VirtualTime(Rc<Core>);

struct Core {
    now: Cell<Duration>,
    tasks: RefCell<BTreeMap<u64, Task>>,
    last_task: Cell<u64>,
    ready: Arc<Ready>,
    timers: Rc<RefCell<Timers>>,
    last_timer: Cell<u64>,
    /// State of the generator that picks the next ready task; zero keeps them in order.
    shuffle: Cell<u64>,
    polls: Cell<u64>,
}

/// By the time at which they are due, then in the order of their making.
type Timers = BTreeMap<(Duration, u64), Option<Waker>>;

struct Task {
    /// Taken out while it is polled.
    future: Option<LocalBoxFuture<'static, ()>>,
    alarm: Arc<Alarm>,
}

#[derive(Default)]
struct Ready(Mutex<VecDeque<u64>>);

/// Wakers are `Send` by their type, which is what the locks are for: there is one thread.
struct Alarm {
    task: u64,
    queued: AtomicBool,
    ready: Arc<Ready>,
}

/// The key of the future that `block_on` polls by itself.
const MAIN: u64 = 0;

impl VirtualTime {
    /// An executor at time zero. With seed 0, tasks run in the order in which they were woken; any other seed
    /// shuffles the ready ones, the same way every time.
    pub fn new(seed: u64) -> Self {
        Self(Rc::new(Core {
            now: Cell::default(),
            tasks: RefCell::default(),
            last_task: Cell::new(MAIN),
            ready: Arc::default(),
            timers: Rc::default(),
            last_timer: Cell::default(),
            // Neighbouring seeds begin far apart. The factor is odd, so no seed but zero becomes zero.
            shuffle: Cell::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15)),
            polls: Cell::default(),
        }))
    }

    /// The handle to start things with.
    pub fn runtime(&self) -> Rc<dyn Runtime> {
        self.0.clone()
    }

    /// Time since the start.
    pub fn now(&self) -> Duration {
        self.0.now.get()
    }

    /// Polls what is ready until nothing is. The clock stays where it is; timers that are due by now fire.
    pub fn run_until_stalled(&self) {
        loop {
            while self.0.run_one() {}
            if !self.0.fire_due() {
                return;
            }
        }
    }

    /// Moves the clock by `by`, stopping at every timer on the way, and runs what they wake.
    pub fn advance(&self, by: Duration) {
        let end = self.now() + by;
        self.run_until_stalled();
        while let Some(due) = self.0.next_timer().filter(|due| *due <= end) {
            self.0.now.set(due.max(self.now()));
            self.run_until_stalled();
        }
        self.0.now.set(end);
    }

    /// Moves the clock and runs nothing: what a task that computes for too long does to all others, or a lid that is closed.
    pub fn burn(&self, by: Duration) {
        self.0.now.set(self.now() + by);
    }

    /// Runs a future to its end, with everything else; when all is idle, the clock jumps to the next timer.
    ///
    /// # Panics
    ///
    /// When nothing is ready and no timer is set: the future waits for something that can't happen.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        let mut future = Box::pin(future);
        let alarm =
            Arc::new(Alarm { task: MAIN, queued: AtomicBool::new(false), ready: self.0.ready.clone() });
        let waker = Waker::from(alarm.clone());
        alarm.wake_by_ref();
        loop {
            while let Some(task) = self.0.next_ready() {
                if task != MAIN {
                    self.0.poll_task(task);
                    continue;
                }
                alarm.queued.store(false, Ordering::Relaxed);
                if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                    return output;
                }
            }
            if !self.0.fire_due() {
                let due = self.0.next_timer().expect("deadlock: nothing is ready and no timer is set");
                self.0.now.set(due);
            }
        }
    }

    /// Tasks that have been spawned and have not ended.
    pub fn live_tasks(&self) -> usize {
        self.0.tasks.borrow().len()
    }

    /// Timers that are set.
    pub fn live_timers(&self) -> usize {
        self.0.timers.borrow().len()
    }

    /// How often a task was polled so far.
    pub fn polls(&self) -> u64 {
        self.0.polls.get()
    }
}

impl Drop for VirtualTime {
    fn drop(&mut self) {
        // Tasks hold the runtime, which holds the tasks. One at a time: a destructor may spawn.
        while let Some((_, task)) = { self.0.tasks.borrow_mut().pop_first() } {
            drop(task);
        }
    }
}

impl Core {
    fn next_ready(&self) -> Option<u64> {
        let mut ready = self.ready.lock();
        let state = self.shuffle.get();
        if state == 0 || ready.len() < 2 {
            return ready.pop_front();
        }
        // xorshift64: never zero when it starts from another number.
        let mut next = state;
        next ^= next << 13;
        next ^= next >> 7;
        next ^= next << 17;
        self.shuffle.set(next);
        let pick = (next % ready.len() as u64) as usize;
        ready.remove(pick)
    }

    fn run_one(&self) -> bool {
        match self.next_ready() {
            Some(task) => {
                self.poll_task(task);
                true
            }
            None => false,
        }
    }

    fn poll_task(&self, key: u64) {
        let (mut future, alarm) = {
            let mut tasks = self.tasks.borrow_mut();
            // A waker may outlive its task.
            let Some(task) = tasks.get_mut(&key) else { return };
            let Some(future) = task.future.take() else { return };
            (future, task.alarm.clone())
        };
        alarm.queued.store(false, Ordering::Relaxed);
        self.polls.set(self.polls.get() + 1);
        let waker = Waker::from(alarm);
        if future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            let ended = self.tasks.borrow_mut().remove(&key);
            drop((ended, future));
        } else if let Some(task) = self.tasks.borrow_mut().get_mut(&key) {
            task.future = Some(future);
        }
    }

    fn next_timer(&self) -> Option<Duration> {
        self.timers.borrow().first_key_value().map(|((due, _), _)| *due)
    }

    /// Fires the timers that are due; whether there were any.
    fn fire_due(&self) -> bool {
        let mut fired = false;
        while self.next_timer().is_some_and(|due| due <= self.now.get()) {
            fired = true;
            let waker = self.timers.borrow_mut().pop_first().and_then(|(_, waker)| waker);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
        fired
    }
}

impl Runtime for Core {
    fn now(&self) -> Duration {
        self.now.get()
    }

    fn timer(&self, after: Duration) -> LocalBoxFuture<'static, ()> {
        let key = self.last_timer.get() + 1;
        self.last_timer.set(key);
        let key = (self.now.get().saturating_add(after), key);
        self.timers.borrow_mut().insert(key, None);
        Box::pin(Timer { timers: self.timers.clone(), key })
    }

    fn spawn(&self, future: LocalBoxFuture<'static, ()>) {
        let task = self.last_task.get() + 1;
        self.last_task.set(task);
        let alarm = Arc::new(Alarm { task, queued: AtomicBool::new(false), ready: self.ready.clone() });
        self.tasks.borrow_mut().insert(task, Task { future: Some(future), alarm: alarm.clone() });
        alarm.wake();
    }
}

struct Timer {
    timers: Rc<RefCell<Timers>>,
    key: (Duration, u64),
}

impl Future for Timer {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match self.timers.borrow_mut().get_mut(&self.key) {
            Some(waker) => {
                *waker = Some(cx.waker().clone());
                Poll::Pending
            }
            None => Poll::Ready(()),
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.timers.borrow_mut().remove(&self.key);
    }
}

impl Ready {
    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            self.ready.lock().push_back(self.task);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// In which order so many tasks run that are ready at the same time.
    fn order(seed: u64, tasks: usize) -> Vec<usize> {
        let world = VirtualTime::new(seed);
        let order = Rc::new(RefCell::new(Vec::new()));
        for task in 0..tasks {
            let order = order.clone();
            world.runtime().spawn(Box::pin(async move { order.borrow_mut().push(task) }));
        }
        assert_eq!(world.live_tasks(), tasks);
        world.run_until_stalled();
        assert_eq!(world.live_tasks(), 0);
        order.take()
    }

    #[test]
    fn seed_zero_keeps_the_order_and_others_make_every_order() {
        assert_eq!(order(0, 9), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(order(7, 9), order(7, 9));
        for (tasks, orders) in [(2, 2), (4, 24)] {
            let seen: BTreeSet<_> = (1..400).map(|seed| order(seed, tasks)).collect();
            assert_eq!(seen.len(), orders);
        }
    }
}
