//! Turns a panic of supervised code into what is known of it, so that an exit can say message and place.

use std::{
    any::Any,
    cell::{Cell, RefCell},
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::Once,
};

use crate::{
    exit::{Exit, PanicInfo},
    process::Process,
    report::Report,
};

/// A panic that was caught: what it said, and where.
#[derive(Clone)]
pub(crate) struct Caught {
    pub(crate) message: Rc<str>,
    pub(crate) literal: bool,
    pub(crate) place: Rc<str>,
}

impl Caught {
    pub(crate) fn into_info(self, callers: Vec<Rc<str>>, in_destructor: bool) -> PanicInfo {
        let Self { message, literal, place } = self;
        PanicInfo { message, literal, place, callers, in_destructor }
    }
}

/// Of a panic with a payload that is no text.
const NO_TEXT: &str = "a panic without a text";
/// Of a panic that passed another hook.
const NO_PLACE: &str = "unknown";

thread_local! {
    /// How many `catch` are open on this thread: inside of one, the hook notes instead of printing.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
    static NOTED: RefCell<Option<Caught>> = const { RefCell::new(None) };
}

/// Puts the crate's panic hook before the one that is set. A panic inside of supervised code is noted and shows in
/// the exit and in the reports; any other goes to the former hook as before. It happens once; a
/// [`System`](crate::System) does it by itself. Whoever replaces the hook later loses the places, nothing else.
pub fn install_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let former = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if DEPTH.get() == 0 {
                return former(info);
            }
            let message = info.payload_as_str().unwrap_or(NO_TEXT).into();
            let literal = is_literal(info.payload());
            let place = info.location().map(|place| format!("{}:{}", place.file(), place.line()).into());
            let place = place.unwrap_or_else(|| NO_PLACE.into());
            NOTED.replace(Some(Caught { message, literal, place }));
        }));
    });
}

/// Runs code and catches its panic. What the code had borrowed mutably must be thrown away afterwards, or be
/// consistent after every statement: that is what the callers see to, hence the assertion.
pub(crate) fn catch<T>(run: impl FnOnce() -> T) -> Result<T, Caught> {
    let (mut run, mut outcome) = (Some(run), None);
    catch_any(&mut || outcome = run.take().map(|run| run()))?;
    Ok(outcome.expect("what did not panic has run"))
}

/// The one place where panics are caught, whatever runs.
#[inline(never)]
fn catch_any(run: &mut dyn FnMut()) -> Result<(), Caught> {
    DEPTH.set(DEPTH.get() + 1);
    let outcome = catch_unwind(AssertUnwindSafe(run));
    DEPTH.set(DEPTH.get() - 1);
    outcome.map_err(caught)
}

fn caught(payload: Box<dyn Any + Send>) -> Caught {
    let noted = NOTED.take().unwrap_or_else(|| {
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let literal = is_literal(&*payload);
        Caught { message: text.unwrap_or(NO_TEXT).into(), literal, place: NO_PLACE.into() }
    });
    // A payload may have a destructor that panics, with a payload that has one: the second is left alone.
    DEPTH.set(DEPTH.get() + 1);
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(second);
    }
    DEPTH.set(DEPTH.get() - 1);
    noted
}

/// A message that was formatted is a `String`.
fn is_literal(payload: &dyn Any) -> bool {
    payload.is::<&'static str>()
}

/// The panic of the process that runs now: while it unwinds, and while what it held is dropped. For destructors that
/// tell somebody else what became of the work.
pub fn under_way() -> Option<Rc<PanicInfo>> {
    let process = Process::current()?;
    process.crash().or_else(|| {
        let caught = NOTED.with_borrow(Clone::clone)?;
        Some(Rc::new(process.panic_info(caught, false)))
    })
}

/// Runs code and catches its panic, for a process that handles one message after another and must survive a panic over
/// one of them. The code must leave what it shares with others consistent at every place where it may panic.
///
/// Inside of a process it is [reported](Report::Contained).
pub fn contain<T>(run: impl FnOnce() -> T) -> Result<T, Rc<PanicInfo>> {
    catch(run).map_err(|caught| {
        let Some(process) = Process::current() else { return Rc::new(caught.into_info(Vec::new(), false)) };
        let panic = Rc::new(process.panic_info(caught, false));
        let reason = Exit::Panic(panic.clone());
        process.system.report(Report::Contained { process: process.name.clone(), reason });
        panic
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outside_of_what_is_caught_the_hook_before_has_its_say() {
        let inner = catch(|| catch(|| panic!("inner")).map_err(|caught| (caught.message, DEPTH.get())));
        assert_eq!(inner.map_err(|_| ()), Ok(Err(("inner".into(), 1))));
        assert_eq!(DEPTH.get(), 0);
    }
}
