//! Turns a panic of supervised code into what is known of it, so that an exit can say message and place.

use std::{
    any::Any,
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::Once,
};

use crate::{
    exit::{Exit, PanicInfo},
    process::Process,
    report::Report,
};

/// Of a panic with a payload that is no text.
const NO_TEXT: &str = "a panic without a text";
/// Of a panic that passed another hook.
const NO_PLACE: &str = "unknown";

type Noted = Cell<Option<Rc<PanicInfo>>>;

thread_local! {
    /// How many `catch` are open on this thread: inside of one, the hook notes instead of printing.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
    /// The panic that unwinds.
    static NOTED: Noted = const { Cell::new(None) };
    /// The first panic of a destructor since the innermost `catch` was opened.
    static HELD: Noted = const { Cell::new(None) };
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
            let place = info.location().map(|place| format!("{}:{}", place.file(), place.line()));
            NOTED.set(Some(known(info.payload(), place.as_deref())));
        }));
    });
}

/// What is known of a panic of the process that runs now.
fn known(payload: &dyn Any, place: Option<&str>) -> Rc<PanicInfo> {
    let literal = payload.downcast_ref::<&'static str>().copied();
    // A message that was formatted is a `String`.
    let text = literal.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let process = Process::current();
    Rc::new(PanicInfo {
        message: text.unwrap_or(NO_TEXT).into(),
        literal: literal.is_some(),
        place: place.unwrap_or(NO_PLACE).into(),
        in_destructor: process.as_ref().is_some_and(|process| process.is_dropped()),
        callers: process.map_or_else(Vec::new, |process| process.and_callers()),
    })
}

/// What is noted here, and stays so.
fn noted(here: &Noted) -> Option<Rc<PanicInfo>> {
    let panic = here.take();
    here.set(panic.clone());
    panic
}

/// Runs code and catches its panic. What the code had borrowed mutably must be thrown away afterwards, or be
/// consistent after every statement: that is what the callers see to, hence the assertion.
pub(crate) fn catch<T>(run: impl FnOnce() -> T) -> Result<T, Rc<PanicInfo>> {
    let (mut run, mut outcome) = (Some(run), None);
    catch_any(&mut || outcome = run.take().map(|run| run()))?;
    Ok(outcome.expect("what did not panic has run"))
}

/// The one place where panics are caught, whatever runs, but for destructors.
#[inline(never)]
fn catch_any(run: &mut dyn FnMut()) -> Result<(), Rc<PanicInfo>> {
    let around = HELD.take();
    DEPTH.set(DEPTH.get() + 1);
    let outcome = catch_unwind(AssertUnwindSafe(run));
    DEPTH.set(DEPTH.get() - 1);
    let held = HELD.replace(around);
    outcome.map_err(caught)?;
    held.map_or(Ok(()), Err)
}

/// What a destructor does, all of it. A panic does not leave the destructor, since nothing good can come of that: in
/// the midst of another panic it ends the program, and where `-Zpanic-in-drop=abort` was set, always. It is held back
/// until the code around has run, and is then the exit of the process that dropped, as if it had come from there; the
/// first of several counts, and one that unwinds counts before it.
///
/// ```
/// struct Lock(std::rc::Rc<std::cell::RefCell<Vec<u64>>>, u64);
///
/// impl Drop for Lock {
///     fn drop(&mut self) {
///         tinkex_supervise::destructor(&mut || self.0.borrow_mut().retain(|held| *held != self.1));
///     }
/// }
/// ```
#[inline(never)]
pub fn destructor(run: &mut dyn FnMut()) {
    let unwinding = NOTED.with(noted);
    if let Err(payload) = catch_unwind(AssertUnwindSafe(run)) {
        let caught = caught(payload);
        NOTED.set(unwinding);
        // Outside of what is caught nobody asks for it: there the former hook has had its say.
        HELD.set(HELD.take().or(Some(caught)));
    }
}

fn caught(payload: Box<dyn Any + Send>) -> Rc<PanicInfo> {
    let panic = NOTED.take().unwrap_or_else(|| known(&*payload, None));
    // A payload may have a destructor that panics, with a payload that has one: the second is left alone.
    DEPTH.set(DEPTH.get() + 1);
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(second);
    }
    DEPTH.set(DEPTH.get() - 1);
    panic
}

/// The panic of the process that runs now: while it unwinds, or is held back, and while what it held is dropped. For
/// destructors that tell somebody else what became of the work.
pub fn under_way() -> Option<Rc<PanicInfo>> {
    let process = Process::current()?;
    process.crash().or_else(|| NOTED.with(noted)).or_else(|| HELD.with(noted))
}

/// Runs code and catches its panic, for a process that handles one message after another and must survive a panic over
/// one of them. The code must leave what it shares with others consistent at every place where it may panic.
///
/// Inside of a process it is [reported](Report::Contained).
pub fn contain<T>(run: impl FnOnce() -> T) -> Result<T, Rc<PanicInfo>> {
    let outcome = catch(run);
    if let (Err(panic), Some(process)) = (&outcome, Process::current()) {
        let reason = Exit::Panic(panic.clone());
        process.system.report(Report::Contained { process: process.name.clone(), reason });
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outside_of_what_is_caught_the_hook_before_has_its_say() {
        let inner = catch(|| catch(|| panic!("inner")).map_err(|panic| (panic.message.clone(), DEPTH.get())));
        assert_eq!(inner.map_err(|_| ()), Ok(Err(("inner".into(), 1))));
        assert_eq!(DEPTH.get(), 0);
    }
}
