//! What waits to be told, when it is sent, and what of it is written down. Pure: it is told what happens, and says what to
//! do.

use std::task::Waker;
use std::time::Duration;

use tinkex_journal::record::{Record, Telemetry, Unreadable, Untold};
use tinkex_journal::recovery::Found;

use super::event::{Event, Head};
use super::queue::{Batch, MOST_EVENTS, Queue};
use crate::store::{Journal, Op, put};

/// How many seconds an event waits for others to go with it.
const EVERY: u64 = 10;

/// So many events wait for no others.
const MANY: usize = MOST_EVENTS / 2;

/// In seconds.
const LONGEST_PAUSE: u64 = 5 * 60;

pub struct State {
    pub mode: Mode,
    pub queue: Queue,
    /// The sessions that are open, the latest last; the first one stands for events without any.
    pub sessions: Vec<Session>,
    /// Of the latest session: where it is written what waits.
    pub journal: Option<Journal>,
    record: InStore,
    /// Deletes the records of others, whose events are in the queue, when those are written down.
    taken: Vec<Op>,
    /// When the next batch is sent; none while nothing waits, and once all was tried at the end.
    due: Option<Duration>,
    /// Batches in a row that the server did not take.
    failures: u32,
    /// Until then only what can't wait is sent.
    paused_until: Duration,
    /// The sender, while it waits for something to change here.
    pub sender: Option<Waker>,
}

pub struct Session {
    pub id: String,
    /// When it was opened.
    pub since: Duration,
    next_index: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Open,
    /// The page may not be there any more when an answer comes.
    Leaving,
    /// The service ends.
    Ending,
    /// Nothing is told: it is turned off, or the server has no telemetry.
    Off,
}

/// What the record in the store has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InStore {
    /// Others may have left something, which nobody has looked for.
    Unseen,
    Nothing,
    /// What waits.
    Everything,
    /// Something else: it is to be written anew.
    Stale,
}

/// What is to be done.
pub enum Next {
    /// Look what others have left.
    Look,
    Keep,
    Send,
    /// Wait for this.
    Wait(&'static str, Duration),
    /// Nothing more.
    End,
}

impl Session {
    pub fn new(id: String, since: Duration) -> Session {
        Session { id, since, next_index: 0 }
    }
}

impl State {
    pub fn new(mode: Mode, no_session: String) -> State {
        State {
            mode,
            queue: Queue::default(),
            sessions: vec![Session::new(no_session, Duration::ZERO)],
            journal: None,
            record: InStore::Unseen,
            taken: Vec::new(),
            due: None,
            failures: 0,
            paused_until: Duration::ZERO,
            sender: None,
        }
    }

    /// An event of the latest session. `at` is since 1970.
    pub fn written(&mut self, event: &Event, id: &str, at: Duration) -> Vec<u8> {
        let session = self.sessions.last_mut().expect("the one without a session stays");
        session.next_index += 1;
        event.written(&Head { id, index: session.next_index - 1, at })
    }

    pub fn push(&mut self, event: Vec<u8>, process: &str, urgent: bool, now: Duration) {
        let session = self.sessions.last().expect("the one without a session stays");
        self.queue.push(Untold { session: session.id.clone(), process: process.to_owned(), event });
        let at_once = urgent || self.queue.len() >= MANY;
        let at = if at_once { now } else { now + Duration::from_secs(EVERY) }.max(self.paused_until);
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(sender) = self.sender.take() {
            sender.wake();
        }
    }

    /// What waits is sent at once, and nobody may be there to hear the answer.
    pub fn leave(&mut self, mode: Mode) {
        if self.mode == Mode::Open && (mode == Mode::Ending || !self.queue.is_empty())
            || self.mode == Mode::Leaving
        {
            self.mode = mode;
            self.due = Some(Duration::ZERO);
            self.wake();
        }
    }

    pub fn next(&self, now: Duration, stopping: bool) -> Next {
        match (self.record, self.due) {
            (InStore::Unseen, _) if self.journal.is_some() && !stopping => Next::Look,
            (InStore::Stale, _) if self.journal.is_some() => Next::Keep,
            (_, Some(due)) if due <= now && !self.queue.is_empty() => Next::Send,
            _ if stopping => Next::End,
            (_, Some(due)) if self.failures > 0 => {
                Next::Wait("the server to take telemetry again", due.saturating_sub(now))
            }
            (_, Some(due)) => Next::Wait("the next batch", due.saturating_sub(now)),
            // Until somebody says something.
            (_, None) => Next::Wait("something to tell", Duration::from_secs(24 * 3_600)),
        }
    }

    /// What others have left goes first.
    pub fn take_up(&mut self, found: Found) {
        let mut left = Vec::new();
        for (key, bytes) in found {
            match Telemetry::from_bytes(&key, &bytes) {
                Ok(mut record) => left.append(&mut record.events),
                Err(Unreadable::Damaged) => {}
                Err(Unreadable::TooNew(_)) => continue,
            }
            self.taken.push(Op::Delete(key));
        }
        self.record = if self.taken.is_empty() { InStore::Nothing } else { InStore::Stale };
        self.queue.prepend(left);
    }

    /// What makes the record, under this key, what waits.
    pub fn keep(&mut self, own: &str) -> Vec<Op> {
        let mut ops = std::mem::take(&mut self.taken);
        let (op, record) = match self.queue.is_empty() {
            true => (Op::Delete(own.to_owned()), InStore::Nothing),
            false => (put(own.to_owned(), self.queue.record()), InStore::Everything),
        };
        ops.push(op);
        self.record = record;
        ops
    }

    /// The status with which the server has answered a batch, or none.
    pub fn answered(&mut self, batch: &Batch, status: Option<u16>, now: Duration) {
        let later = matches!(status, None | Some(408 | 429 | 500 | 502..));
        if later {
            let pause = (EVERY << self.failures.min(5)).min(LONGEST_PAUSE);
            self.failures += 1;
            self.paused_until = now + Duration::from_secs(pause);
            self.due = (self.mode != Mode::Ending).then_some(self.paused_until);
        } else {
            self.failures = 0;
            self.paused_until = Duration::ZERO;
            self.due = Some(now);
            self.queue.settle(batch);
        }
        if matches!(status, Some(404 | 405 | 501)) {
            // It has no telemetry, and will have none.
            self.queue = Queue::default();
            self.mode = Mode::Off;
        }
        if self.queue.is_empty() {
            self.due = None;
        }
        if (later && self.mode == Mode::Open) || (self.queue.is_empty() && self.record == InStore::Everything)
        {
            self.record = InStore::Stale;
        }
        if self.mode == Mode::Leaving && (later || self.queue.is_empty()) {
            self.mode = Mode::Open;
        }
    }
}
