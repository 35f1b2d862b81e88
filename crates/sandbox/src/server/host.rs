//! The core behind its lock, with what surrounds it: the clock, the threads that compute, held polls, the disk.

use super::disk::{Disk, Place};
use crate::message::{HoldId, Reply, Request, Response};
use crate::{Bases, Core, Settings};
use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{Notify, oneshot};

/// Two, so that a sample need not wait for a long forward pass. More would only share the same cores.
const WORKERS: usize = 2;

/// The longest rest of the ticker. What ends within it is noticed by the next request all the same.
const IDLE: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub(super) struct Host(Arc<Inner>);

struct Inner {
    running: Mutex<Running>,
    /// Signalled when there may be work, or when the server stops.
    work: Condvar,
    /// Signalled when the core's next deadline may have changed.
    deadline: Notify,
    disk: Option<Disk>,
    settings: Settings,
    bases: Bases,
    clock: Clock,
}

struct Running {
    core: Core,
    /// Counts restarts, so that work begun before one isn't handed to the core after it.
    life: u64,
    stopping: bool,
    held: HashMap<HoldId, oneshot::Sender<(Response, Option<Place>)>>,
}

impl Host {
    pub fn new(core: Core, disk: Option<Disk>, settings: Settings, bases: Bases) -> Self {
        let clock = Clock::not_before(core.now());
        let running = Running { core, life: 0, stopping: false, held: HashMap::new() };
        let running = Mutex::new(running);
        let (work, deadline) = (Condvar::new(), Notify::new());
        Self(Arc::new(Inner { running, work, deadline, disk, settings, bases, clock }))
    }

    /// Handles a request and waits for its answer, and for the disk to hold what the answer relies on.
    /// `None`: the server restarted meanwhile.
    pub async fn handle(&self, request: &Request) -> Option<Response> {
        let (reply, place) = {
            let mut running = self.lock();
            let reply = running.core.handle(self.0.clock.now(), request);
            let place = self.settle(&mut running);
            let reply = match reply {
                Reply::Now(response) => Ok(response),
                Reply::Held(id, _) => {
                    let (answer, wait) = oneshot::channel();
                    running.held.insert(id, answer);
                    Err(Wait { host: self.clone(), id, life: running.life, wait })
                }
            };
            (reply, place)
        };
        let (response, place) = match reply {
            Ok(response) => (response, place),
            Err(mut wait) => {
                self.0.deadline.notify_one();
                (&mut wait.wait).await.ok()?
            }
        };
        if let (Some(disk), Some(place)) = (&self.0.disk, place) {
            disk.synced(place).await;
        }
        Some(response)
    }

    /// Starts the threads that compute.
    pub fn start_workers(&self) -> Vec<JoinHandle<()>> {
        let threads = self.0.settings.threads;
        let start = |_| {
            let host = self.clone();
            std::thread::spawn(move || host.work(threads))
        };
        (0..WORKERS).map(start).collect()
    }

    fn work(&self, threads: usize) {
        let mut running = self.lock();
        while !running.stopping {
            let Some(work) = running.core.take_work(self.0.clock.now()) else {
                // Taking may have finished small things at once.
                self.settle(&mut running);
                running = self.0.work.wait(running).expect(NO_PANIC);
                continue;
            };
            let life = running.life;
            self.settle(&mut running);
            drop(running);
            let done = work.run(threads);
            running = self.lock();
            if running.life == life {
                running.core.complete(self.0.clock.now(), done);
                self.settle(&mut running);
                self.0.work.notify_all();
            }
        }
    }

    /// Lets time pass in the core whenever it has something that ends.
    pub async fn tick_forever(self) {
        loop {
            let rest = {
                let mut running = self.lock();
                let now = self.0.clock.now();
                running.core.tick(now);
                self.settle(&mut running);
                running.core.next_deadline().map_or(IDLE, |deadline| deadline.saturating_sub(now).min(IDLE))
            };
            // Whatever is due, once a millisecond is often enough.
            let rest = rest.max(Duration::from_millis(1));
            tokio::select! {
                () = tokio::time::sleep(rest) => {}
                () = self.0.deadline.notified() => {}
            }
        }
    }

    /// What a kill and a new start do: connections close, and the state is what was on disk, or nothing.
    pub fn restart(&self) {
        let mut running = self.lock();
        let Running { core, life, held, .. } = &mut *running;
        *life += 1;
        held.clear();
        *core = match &self.0.disk {
            None => Core::new(self.0.settings.clone(), self.0.bases.clone(), core.next_seed()),
            Some(disk) => {
                disk.flush();
                let found = disk.read_again().unwrap_or_else(|error| gone(&error));
                let snapshot =
                    found.snapshot.unwrap_or_else(|| gone("the data folder has lost its snapshot"));
                Core::restore(
                    self.0.settings.clone(),
                    self.0.bases.clone(),
                    &snapshot,
                    found.records,
                    self.0.clock.now(),
                )
                .unwrap_or_else(|error| gone(&error))
            }
        };
        drop(running);
        self.0.work.notify_all();
        self.0.deadline.notify_one();
    }

    /// Answers all held polls with "try again", so that no client waits for a server that is going.
    pub fn release(&self) {
        let mut running = self.lock();
        running.stopping = true;
        running.core.release_all();
        self.settle(&mut running);
        self.0.work.notify_all();
    }

    /// Waits for the workers, and for the disk.
    pub fn stop(&self, workers: Vec<JoinHandle<()>>) {
        self.release();
        for worker in workers {
            worker.join().expect(NO_PANIC);
        }
        if let Some(disk) = &self.0.disk {
            disk.flush();
        }
    }

    /// After each step of the core, under the same lock: records go to the disk, answers to those who wait.
    fn settle(&self, running: &mut Running) -> Option<Place> {
        let records = running.core.records();
        let place = self.0.disk.as_ref().map(|disk| {
            disk.append(records);
            disk.place()
        });
        for (id, response) in running.core.released() {
            if let Some(answer) = running.held.remove(&id) {
                // Whoever has gone meanwhile asks again.
                let _ = answer.send((response, place));
            }
        }
        if let Some(disk) = &self.0.disk
            && disk.wants_snapshot()
        {
            match running.core.snapshot() {
                Some(state) => {
                    disk.snapshot(state);
                    running.core.pause(false);
                }
                None => running.core.pause(true),
            }
        }
        if running.core.has_work() {
            self.0.work.notify_one();
        }
        place
    }

    fn lock(&self) -> MutexGuard<'_, Running> {
        self.0.running.lock().expect(NO_PANIC)
    }
}

const NO_PANIC: &str = "a panic under the core's lock ends the process";

fn gone(error: &str) -> ! {
    eprintln!("tinkex-sandbox: can't restart: {error}");
    std::process::exit(74)
}

/// A held poll. When its client goes, the core is told.
struct Wait {
    host: Host,
    id: HoldId,
    life: u64,
    wait: oneshot::Receiver<(Response, Option<Place>)>,
}

impl Drop for Wait {
    fn drop(&mut self) {
        let mut running = self.host.lock();
        if running.life == self.life && running.held.remove(&self.id).is_some() {
            running.core.let_go(self.id);
        }
    }
}

/// Time since the Unix epoch that never goes back, neither here nor over a restart on another clock.
struct Clock {
    begin: Duration,
    since: Instant,
}

impl Clock {
    fn not_before(earliest: Duration) -> Self {
        Self { begin: system_time().max(earliest), since: Instant::now() }
    }

    fn now(&self) -> Duration {
        self.begin + self.since.elapsed()
    }
}

/// Since the Unix epoch, as the system has it.
pub(super) fn system_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
