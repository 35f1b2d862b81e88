//! The budget of HTTP connections: six a host on HTTP/1.1, shared so that a held poll never takes the place of a
//! submission, nor a submission that of a heartbeat.
//!
//! Each request asks for a *permit* of its class and keeps it until its answer is whole. Within a class permits go
//! in the order in which they were asked for. Polls that are held give way when others of their class wait
//! ([`Permit::give_way`]), so that one slow result does not keep the ready ones waiting.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use futures_channel::oneshot;

/// What a connection is asked for. Earlier classes come first when a place is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Short and vital: heartbeats, session and configuration.
    Control,
    /// A request that carries work or reads something.
    Submission,
    /// A poll that the server may hold for half a minute.
    Poll,
}

const CLASSES: [Class; 3] = [Class::Control, Class::Submission, Class::Poll];

/// Polls at once. A model's results come in order, so one poll a client is enough; two keep two clients going.
const MAX_POLLS: usize = 2;

/// Places that only `Control` may take.
const RESERVED_FOR_CONTROL: usize = 1;

/// Connections that leave one place for each class.
pub const MIN_CONNECTIONS: usize = MAX_POLLS + RESERVED_FOR_CONTROL + 1;

/// Connections that a browser opens to one host on HTTP/1.1.
pub const DEFAULT_CONNECTIONS: usize = 6;

/// The figures of one class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClassUse {
    pub open: usize,
    pub waiting: usize,
    /// How many permits were given so far.
    pub granted: u64,
    /// The longest that a request has waited for its place.
    pub longest_wait: Duration,
}

/// The budget. Clones share it.
#[derive(Clone)]
pub struct Connections(Rc<RefCell<State>>);

struct State {
    total: usize,
    used: [ClassUse; 3],
    waiting: [VecDeque<oneshot::Sender<Permit>>; 3],
}

impl Connections {
    /// A budget of `total` connections, raised to [`MIN_CONNECTIONS`].
    pub fn new(total: usize) -> Connections {
        Connections(Rc::new(RefCell::new(State {
            total: total.max(MIN_CONNECTIONS),
            used: Default::default(),
            waiting: Default::default(),
        })))
    }

    /// Waits for a place. `now` is the clock, read when the place is asked for and when it is given.
    pub fn acquire<F>(&self, class: Class, now: F) -> impl Future<Output = Permit> + use<F>
    where
        F: Fn() -> Duration,
    {
        let asked = now();
        let (place, given) = oneshot::channel();
        self.0.borrow_mut().waiting[class as usize].push_back(place);
        self.hand_out();
        let connections = self.clone();
        async move {
            let permit = given.await.expect("a waiting request's sender lives in the budget, which it holds");
            let waited = now().saturating_sub(asked);
            let used = &mut connections.0.borrow_mut().used[class as usize];
            used.longest_wait = used.longest_wait.max(waited);
            permit
        }
    }

    /// The figures of a class.
    pub fn usage(&self, class: Class) -> ClassUse {
        let state = self.0.borrow();
        // A waiter that was dropped stays in the queue until its turn; it waits for nothing.
        let waiting = state.waiting[class as usize].iter().filter(|place| !place.is_canceled()).count();
        ClassUse { waiting, ..state.used[class as usize] }
    }

    /// Gives free places to those who wait, the vital classes first.
    fn hand_out(&self) {
        for class in CLASSES {
            loop {
                let mut state = self.0.borrow_mut();
                if !state.has_room(class) {
                    break;
                }
                let Some(place) = state.waiting[class as usize].pop_front() else { break };
                if place.is_canceled() {
                    continue;
                }
                let used = &mut state.used[class as usize];
                used.open += 1;
                used.granted += 1;
                drop(state);
                // Should the waiter be gone after all, the permit comes back here and is dropped, which frees it.
                let _ = place.send(Permit { connections: self.clone(), class });
            }
        }
    }
}

impl State {
    fn has_room(&self, class: Class) -> bool {
        let open: usize = self.used.iter().map(|used| used.open).sum();
        match class {
            Class::Control => open < self.total,
            Class::Submission => open < self.total - RESERVED_FOR_CONTROL,
            // The places that polls may not take are those of the other two classes.
            Class::Poll => {
                self.used[Class::Poll as usize].open < MAX_POLLS && open < self.total - RESERVED_FOR_CONTROL
            }
        }
    }
}

/// A place among the connections; dropping it frees the place.
pub struct Permit {
    connections: Connections,
    class: Class,
}

impl Permit {
    /// Whether others of this class wait for a place.
    pub fn others_wait(&self) -> bool {
        self.connections.usage(self.class).waiting > 0
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.connections.0.borrow_mut().used[self.class as usize].open -= 1;
        self.connections.hand_out();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn clock() -> Duration {
        Duration::ZERO
    }

    /// The permit, if it is given at once.
    fn take(connections: &Connections, class: Class) -> Option<Permit> {
        connections.acquire(class, clock).now_or_never()
    }

    #[test]
    fn held_polls_never_take_the_places_of_submissions_and_heartbeats() {
        let connections = Connections::new(6);
        let polls: Vec<_> = (0..5).map(|_| take(&connections, Class::Poll)).collect();
        assert_eq!(polls.iter().flatten().count(), 2);
        let submissions: Vec<_> = (0..5).map(|_| take(&connections, Class::Submission)).collect();
        assert_eq!(submissions.iter().flatten().count(), 3);
        assert!(take(&connections, Class::Control).is_some());
    }

    #[test]
    fn a_freed_place_goes_to_the_one_who_waited_longest() {
        let connections = Connections::new(MIN_CONNECTIONS);
        let first = take(&connections, Class::Poll).expect("a place is free");
        let _second = take(&connections, Class::Poll).expect("a place is free");
        let mut third = Box::pin(connections.acquire(Class::Poll, clock));
        let mut fourth = Box::pin(connections.acquire(Class::Poll, clock));
        assert!(first.others_wait());
        drop(first);
        assert!(fourth.as_mut().now_or_never().is_none());
        assert!(third.as_mut().now_or_never().is_some());
    }

    #[test]
    fn a_waiter_that_gave_up_is_passed_over() {
        let connections = Connections::new(MIN_CONNECTIONS);
        let first = take(&connections, Class::Poll).expect("a place is free");
        let _second = take(&connections, Class::Poll).expect("a place is free");
        drop(connections.acquire(Class::Poll, clock));
        let mut patient = Box::pin(connections.acquire(Class::Poll, clock));
        assert_eq!(connections.usage(Class::Poll).waiting, 1);
        drop(first);
        assert!(patient.as_mut().now_or_never().is_some());
        assert_eq!(connections.usage(Class::Poll).open, 1, "the patient one has left again");
    }

    #[test]
    fn a_permit_that_was_given_and_never_collected_frees_its_place() {
        let connections = Connections::new(MIN_CONNECTIONS);
        drop(connections.acquire(Class::Control, clock));
        assert_eq!(connections.usage(Class::Control).open, 0);
    }
}
