//! The budget of HTTP connections: six a host on HTTP/1.1, shared so that a held poll never takes the place of a
//! submission, nor a submission that of a heartbeat.
//!
//! Each request asks for a *permit* of its class and keeps it until its answer is whole. Within a class permits go
//! in the order in which they were asked for. Polls that are held give way when others of their class wait
//! ([`Permit::others_wait`]), so that one slow result does not keep the ready ones waiting.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use tinkex_supervise::destructor;

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

/// The budget. Clones share it.
#[derive(Clone)]
pub struct Connections(Rc<RefCell<State>>);

struct State {
    total: usize,
    /// How many of each class are open.
    open: [usize; 3],
    /// In the order in which they asked.
    waiting: Vec<Rc<Place>>,
}

/// A place that somebody asked for.
struct Place {
    class: Class,
    given: Cell<bool>,
    waiter: Cell<Option<Waker>>,
}

impl Connections {
    /// A budget of `total` connections, raised to [`MIN_CONNECTIONS`].
    pub fn new(total: usize) -> Connections {
        let total = total.max(MIN_CONNECTIONS);
        Connections(Rc::new(RefCell::new(State { total, open: [0; 3], waiting: Vec::new() })))
    }

    /// Asks for a place; resolves when it is given.
    pub fn acquire(&self, class: Class) -> Asked {
        let place = Rc::new(Place { class, given: Cell::new(false), waiter: Cell::new(None) });
        self.0.borrow_mut().waiting.push(place.clone());
        self.hand_out();
        Asked(Some(Permit { connections: self.clone(), place }))
    }

    /// Gives free places to those who wait, the vital classes first.
    fn hand_out(&self) {
        for class in CLASSES {
            while let Some(place) = self.0.borrow_mut().next(class) {
                place.given.set(true);
                if let Some(waiter) = place.waiter.take() {
                    waiter.wake();
                }
            }
        }
    }
}

impl State {
    /// Takes the one of this class who has waited longest from the queue, if there is a place for it.
    fn next(&mut self, class: Class) -> Option<Rc<Place>> {
        if !self.has_room(class) {
            return None;
        }
        let first = self.waiting.iter().position(|place| place.class == class)?;
        let place = self.waiting.remove(first);
        self.open[class as usize] += 1;
        Some(place)
    }

    fn has_room(&self, class: Class) -> bool {
        let open: usize = self.open.iter().sum();
        match class {
            Class::Control => open < self.total,
            Class::Submission => open < self.total - RESERVED_FOR_CONTROL,
            // The places that polls may not take are those of the other two classes.
            Class::Poll => {
                self.open[Class::Poll as usize] < MAX_POLLS && open < self.total - RESERVED_FOR_CONTROL
            }
        }
    }
}

/// A place that was asked for, until it was taken; dropping it gives it up, also where it was given already.
pub struct Asked(Option<Permit>);

impl Future for Asked {
    type Output = Permit;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Permit> {
        let place = &self.0.as_ref().expect("a future that is ready is not asked again").place;
        if !place.given.get() {
            place.waiter.set(Some(cx.waker().clone()));
            return Poll::Pending;
        }
        Poll::Ready(self.0.take().expect("it is there"))
    }
}

/// A place among the connections; dropping it frees the place.
pub struct Permit {
    connections: Connections,
    place: Rc<Place>,
}

impl Permit {
    /// Whether others of this class wait for a place.
    pub fn others_wait(&self) -> bool {
        let state = self.connections.0.borrow();
        state.waiting.iter().any(|waiting| waiting.class == self.place.class)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        destructor(&mut || {
            let Permit { connections, place } = &*self;
            let mut state = connections.0.borrow_mut();
            if place.given.get() {
                state.open[place.class as usize] -= 1;
            } else {
                state.waiting.retain(|waiting| !Rc::ptr_eq(waiting, place));
            }
            drop(state);
            connections.hand_out();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn open(connections: &Connections, class: Class) -> usize {
        connections.0.borrow().open[class as usize]
    }

    /// The permit, if it is given at once.
    fn take(connections: &Connections, class: Class) -> Option<Permit> {
        connections.acquire(class).now_or_never()
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
        let mut third = Box::pin(connections.acquire(Class::Poll));
        let mut fourth = Box::pin(connections.acquire(Class::Poll));
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
        drop(connections.acquire(Class::Poll));
        let mut patient = Box::pin(connections.acquire(Class::Poll));
        assert_eq!(connections.0.borrow().waiting.len(), 1);
        drop(first);
        assert!(patient.as_mut().now_or_never().is_some());
        assert_eq!(open(&connections, Class::Poll), 1, "the patient one has left again");
    }

    #[test]
    fn a_permit_that_was_given_and_never_collected_frees_its_place() {
        let connections = Connections::new(MIN_CONNECTIONS);
        drop(connections.acquire(Class::Control));
        assert_eq!(open(&connections, Class::Control), 0);
    }
}
