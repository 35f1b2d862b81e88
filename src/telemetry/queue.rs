//! What waits to be told: bounded, the oldest gone first. Pure: it takes events and gives batches.

use tinkex_journal::record::{Telemetry, Untold};

use super::event;

/// Events that wait at most: with one that says how many were dropped, as many as the service takes in a request.
pub const MOST_EVENTS: usize = 99;

/// Of their JSON. A full queue is, as a body and as a record, less than the 64 KiB that a page may have under way when it
/// goes.
const MOST_BYTES: usize = 56_000;

#[derive(Default)]
pub struct Queue {
    waiting: Telemetry,
    bytes: usize,
    /// How many have left it.
    gone: u64,
    /// Events that found no room, and of which nobody was told.
    dropped: u64,
}

/// Which events are in one request: the oldest, as far as they are of one session.
pub struct Batch {
    /// How many had left the queue when these have.
    gone: u64,
    /// The dropped events that it tells of.
    dropped: u64,
}

impl Queue {
    pub fn push(&mut self, event: Untold) {
        self.bytes += event.event.len();
        self.waiting.events.push(event);
        while self.len() > MOST_EVENTS || self.bytes > MOST_BYTES {
            self.forget_first();
            self.dropped += 1;
        }
    }

    fn forget_first(&mut self) {
        self.bytes -= self.waiting.events.remove(0).event.len();
        self.gone += 1;
    }

    pub fn len(&self) -> usize {
        self.waiting.events.len()
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.events.is_empty()
    }

    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// What is sent next, and its body. `report` is an event that tells of those that were dropped; empty where none were.
    pub fn batch(&self, report: &[u8]) -> (Batch, Vec<u8>) {
        let events = &self.waiting.events;
        let mut length = 0;
        while let (Some(first), Some(next)) = (events.first(), events.get(length))
            && next.session == first.session
            && next.process == first.process
        {
            length += 1;
        }
        let batch = Batch { gone: self.gone + length as u64, dropped: self.dropped };
        (batch, event::batch(&events[..length], report))
    }

    /// Nobody need be told of these any more.
    pub fn settle(&mut self, batch: &Batch) {
        while self.gone < batch.gone {
            self.forget_first();
        }
        self.dropped -= batch.dropped;
    }

    /// Puts older events in front of these.
    pub fn prepend(&mut self, mut older: Vec<Untold>) {
        older.append(&mut self.waiting.events);
        self.bytes = 0;
        for event in older {
            self.push(event);
        }
    }

    /// What waits, as it is written down.
    pub fn record(&self) -> &Telemetry {
        &self.waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tinkex_journal::record::Record;

    fn untold(session: &str, event: &[u8]) -> Untold {
        Untold { session: session.to_owned(), process: "p".repeat(36), event: event.to_vec() }
    }

    fn batch_of(queue: &Queue) -> (Batch, Vec<u8>) {
        let report = (queue.dropped() > 0).then(|| format!("\"{} dropped\"", queue.dropped()));
        queue.batch(report.unwrap_or_default().as_bytes())
    }

    fn events((_, body): &(Batch, Vec<u8>)) -> serde_json::Value {
        let body: serde_json::Value = serde_json::from_slice(body).expect("a batch is JSON");
        body["events"].clone()
    }

    #[test]
    fn events_of_one_session_are_one_batch_and_wait_until_it_was_taken() {
        let mut queue = Queue::default();
        queue.push(untold("a", b"1"));
        queue.push(untold("a", b"2"));
        queue.push(untold("b", b"3"));
        let first = batch_of(&queue);
        assert_eq!(events(&first), serde_json::json!([1, 2]));
        queue.push(untold("b", b"4"));
        assert_eq!(events(&batch_of(&queue)), serde_json::json!([1, 2]), "it was not taken");
        queue.settle(&first.0);
        let second = batch_of(&queue);
        assert_eq!(events(&second), serde_json::json!([3, 4]));
        queue.settle(&second.0);
        assert!(queue.is_empty());
    }

    #[test]
    fn the_oldest_go_first_and_the_next_batch_says_how_many() {
        let mut queue = Queue::default();
        for number in 0..MOST_EVENTS + 7 {
            queue.push(untold("a", number.to_string().as_bytes()));
        }
        assert_eq!(queue.len(), MOST_EVENTS);
        let batch = batch_of(&queue);
        assert_eq!((&events(&batch)[0], &events(&batch)[MOST_EVENTS]), (&7.into(), &"7 dropped".into()));
        // While it is under way, two of its own are dropped, and counted: whether they got there isn't known yet.
        queue.push(untold("a", b"0"));
        queue.push(untold("a", b"1"));
        queue.settle(&batch.0);
        assert_eq!(events(&batch_of(&queue)), serde_json::json!([0, 1, "2 dropped"]));
    }

    #[test]
    fn what_was_kept_goes_first_also_where_there_is_too_much() {
        let mut queue = Queue::default();
        queue.push(untold("a", b"2"));
        queue.prepend(vec![untold("a", b"0"), untold("a", b"1")]);
        assert_eq!(events(&batch_of(&queue)), serde_json::json!([0, 1, 2]));
        queue.prepend((0..150).map(|_| untold("a", b"9")).collect());
        assert_eq!(queue.len(), MOST_EVENTS);
        assert_eq!(events(&batch_of(&queue))[MOST_EVENTS - 4], 9);
        assert_eq!(events(&batch_of(&queue))[MOST_EVENTS - 1], 2);
    }

    #[test]
    fn a_full_queue_fits_into_what_a_page_may_send_when_it_goes_and_into_one_record() {
        let mut queue = Queue::default();
        for _ in 0..200 {
            queue.push(untold(&"s".repeat(40), &[b"\"", &[b'x'; 600][..], b"\""].concat()));
        }
        assert!(queue.len() > 90 && queue.len() < MOST_EVENTS, "bytes are the limit: {}", queue.len());
        let (_, body) = batch_of(&queue);
        assert!(body.len() < 64 * 1024, "{}", body.len());
        let record = queue.record().to_bytes("key");
        assert!(record.len() < 64 * 1024, "{}", record.len());
    }
}
