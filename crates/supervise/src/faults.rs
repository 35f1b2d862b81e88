//! Places where a test can make the code panic, to show that the panic is contained.

/// Marks a place. With the feature `fault-injection`, it panics if this passage was [armed](arm); without it, it
/// is nothing.
#[inline(always)]
pub fn point(place: &'static str) {
    #[cfg(feature = "fault-injection")]
    armed::pass(place);
    #[cfg(not(feature = "fault-injection"))]
    let _ = place;
}

#[cfg(feature = "fault-injection")]
pub use armed::{arm, clear, passages};

#[cfg(feature = "fault-injection")]
mod armed {
    use std::{
        cell::RefCell,
        collections::{BTreeMap, BTreeSet},
    };

    #[derive(Default)]
    struct Place {
        passages: u64,
        armed: BTreeSet<u64>,
    }

    thread_local! {
        static PLACES: RefCell<BTreeMap<&'static str, Place>> = const { RefCell::new(BTreeMap::new()) };
    }

    /// Lets the `nth` passage from now panic (1 is the next). A place can be armed for several.
    pub fn arm(place: &'static str, nth: u64) {
        PLACES.with(|places| {
            let mut places = places.borrow_mut();
            let place = places.entry(place).or_default();
            let at = place.passages + nth;
            place.armed.insert(at);
        });
    }

    /// How often a place was passed on this thread since the last [`clear`].
    pub fn passages(place: &'static str) -> u64 {
        PLACES.with(|places| places.borrow().get(place).map_or(0, |place| place.passages))
    }

    /// Forgets all places: nothing is armed, nothing was passed.
    pub fn clear() {
        PLACES.with(|places| places.borrow_mut().clear());
    }

    pub(super) fn pass(name: &'static str) {
        let fires = PLACES.with(|places| {
            let mut places = places.borrow_mut();
            let place = places.entry(name).or_default();
            place.passages += 1;
            let now = place.passages;
            place.armed.remove(&now)
        });
        // A panic while panicking can't be survived by anyone, so none is made.
        if fires && !std::thread::panicking() {
            panic!("injected fault at {name}");
        }
    }
}
