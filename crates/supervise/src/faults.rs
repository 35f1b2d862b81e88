//! Places where a test can make the code panic, to show that the panic is contained.

/// Marks a place: `faults::point!("task poll")`. With the feature `fault-injection`, it panics if this passage was [armed](arm);
/// without it, it is nothing. It is no function, since for a call that might unwind the compiler makes cleanups of all that is owned
/// there, and keeps some when it finds that there is nothing to call.
#[cfg(feature = "fault-injection")]
#[macro_export]
#[doc(hidden)]
macro_rules! __fault_point {
    ($place:literal) => {
        $crate::faults::pass($place)
    };
}

#[cfg(not(feature = "fault-injection"))]
#[macro_export]
#[doc(hidden)]
macro_rules! __fault_point {
    ($place:literal) => {};
}

pub use crate::__fault_point as point;

#[cfg(feature = "fault-injection")]
pub use armed::{arm, arm_abort, arm_within, armed, clear, pass, passages};

#[cfg(feature = "fault-injection")]
mod armed {
    use std::{cell::RefCell, collections::BTreeMap};

    use crate::process::Process;

    #[derive(Default)]
    struct Faults {
        passages: BTreeMap<&'static str, u64>,
        armed: Vec<Armed>,
    }

    struct Armed {
        place: String,
        within: String,
        /// Passages that it still lets through, and the one that panics.
        left: u64,
        /// It ends the program, and not what passes.
        abort: bool,
    }

    thread_local! {
        static FAULTS: RefCell<Faults> = RefCell::default();
    }

    /// Lets the `nth` passage from now panic (1 is the next). A place can be armed for several.
    pub fn arm(place: &str, nth: u64) {
        arm_within(place, "", nth);
    }

    /// As [`arm`], counting only the passages of processes whose path has `within` in it: the names from the root
    /// of the tree down to the process, with a `/` between.
    pub fn arm_within(place: &str, within: &str, nth: u64) {
        push(place, within, nth, false);
    }

    /// As [`arm_within`], and what strikes is not a panic but an abort: of WebAssembly, a trap that ends the instance.
    pub fn arm_abort(place: &str, within: &str, nth: u64) {
        push(place, within, nth, true);
    }

    fn push(place: &str, within: &str, nth: u64, abort: bool) {
        let armed = Armed { place: place.to_owned(), within: within.to_owned(), left: nth, abort };
        FAULTS.with_borrow_mut(|faults| faults.armed.push(armed));
    }

    /// How many faults are armed and have not struck.
    pub fn armed() -> usize {
        FAULTS.with_borrow(|faults| faults.armed.len())
    }

    /// How often a place was passed on this thread since the last [`clear`].
    pub fn passages(place: &str) -> u64 {
        FAULTS.with_borrow(|faults| faults.passages.get(place).copied().unwrap_or(0))
    }

    /// Forgets all places: nothing is armed, nothing was passed.
    pub fn clear() {
        FAULTS.take();
    }

    /// A [place](super::point) is passed.
    pub fn pass(place: &'static str) {
        let strikes = FAULTS.with_borrow_mut(|faults| {
            *faults.passages.entry(place).or_default() += 1;
            if !faults.armed.iter().any(|armed| armed.place == place) {
                return false;
            }
            let path = Process::current().map_or_else(String::new, |process| process.path());
            let mut strikes = false;
            faults.armed.retain_mut(|armed| {
                if armed.place == place && path.contains(&armed.within) {
                    armed.left -= 1;
                    strikes |= armed.left == 0;
                    if armed.left == 0 && armed.abort {
                        std::process::abort();
                    }
                }
                armed.left > 0
            });
            strikes
        });
        // A panic while panicking ends the program where nobody holds it back, so none is made.
        if strikes && !std::thread::panicking() {
            panic!("injected fault at {place}");
        }
    }
}
