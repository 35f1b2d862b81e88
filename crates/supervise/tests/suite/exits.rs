//! What each kind of child does after each kind of exit.

use tinkex_supervise::*;

use crate::world::*;

/// Ends a child with each exit; gives the ids afterwards and the number of complaints.
fn after(restart: Restart, exit: Exit) -> (Vec<String>, usize) {
    let world = World::new();
    let supervisor = world.started(Strategy::OneForOne);
    let pid = world.add(&supervisor, world.child("child1").restart(restart));
    world.terminate(&pid, exit);
    assert!(!pid.is_alive());
    (ids(&supervisor), world.complaints().len())
}

fn shutdown_with() -> Exit {
    Exit::ShutdownWith("some_info".into())
}

#[test]
fn permanent_normal() {
    assert_eq!(after(Restart::Permanent, Exit::Normal), (vec!["child1".into()], 1));
}

#[test]
fn permanent_shutdown() {
    assert_eq!(after(Restart::Permanent, Exit::Shutdown), (vec!["child1".into()], 1));
    assert_eq!(after(Restart::Permanent, shutdown_with()), (vec!["child1".into()], 1));
}

#[test]
fn permanent_abnormal() {
    assert_eq!(after(Restart::Permanent, abnormal()), (vec!["child1".into()], 1));
}

#[test]
fn transient_normal() {
    assert_eq!(after(Restart::Transient, Exit::Normal), (vec!["child1 undefined".into()], 0));
}

#[test]
fn transient_shutdown() {
    assert_eq!(after(Restart::Transient, Exit::Shutdown), (vec!["child1 undefined".into()], 0));
    assert_eq!(after(Restart::Transient, shutdown_with()), (vec!["child1 undefined".into()], 0));
}

#[test]
fn transient_abnormal() {
    assert_eq!(after(Restart::Transient, abnormal()), (vec!["child1".into()], 1));
    assert_eq!(after(Restart::Transient, Exit::Killed), (vec!["child1".into()], 1));
}

#[test]
fn temporary_normal() {
    assert_eq!(after(Restart::Temporary, Exit::Normal), (vec![], 0));
}

#[test]
fn temporary_shutdown() {
    assert_eq!(after(Restart::Temporary, Exit::Shutdown), (vec![], 0));
    assert_eq!(after(Restart::Temporary, shutdown_with()), (vec![], 0));
}

#[test]
fn temporary_abnormal() {
    assert_eq!(after(Restart::Temporary, abnormal()), (vec![], 1));
}

#[test]
fn faulty_application_shutdown() {
    let world = World::new();
    let faulty = ChildSpec::new("app_faulty", |_| async { Err::<(), _>("undef") });
    let inner = Supervisor::new("inner").with(faulty);
    let outer = world.supervisor(Strategy::OneForOne).with(inner.child());
    let error = world.run(outer.start(&world.system)).unwrap_err();
    let reason = "failed_to_start_child inner: shutdown: failed_to_start_child app_faulty: undef";
    assert_eq!(error, ChildError::Failed(Exit::ShutdownWith(reason.into())));
}

#[test]
fn external_start_no_progress_log() {
    // OTP: no progress report for a child that somebody else started. Here nobody else can; each start has one.
    let world = World::new();
    let supervisor = world.started(Strategy::OneForOne);
    let pid = world.add(&supervisor, world.child("child1"));
    let progress = Report::Progress { supervisor: "sup_test".into(), child: "child1".into(), pid };
    assert_eq!(*world.reports.borrow(), [progress]);
}

#[test]
fn what_a_child_returns_is_its_exit() {
    let world = World::new();
    let supervisor = DynamicSupervisor::new("sup_test");
    world.run(supervisor.start(&world.system)).unwrap();
    let exit_of = |spec: ChildSpec| {
        let pid = world.add_to(&supervisor, spec.restart(Restart::Temporary));
        world.run(pid.monitor())
    };
    type Boxed = Box<dyn std::error::Error>;
    assert_eq!(exit_of(ChildSpec::new("a", |ctx| async move { ctx.ready() })), Exit::Normal);
    assert_eq!(
        exit_of(ChildSpec::new("a", |ctx| async move {
            ctx.ready();
            Err::<(), Boxed>("boxed".into())
        })),
        Exit::error("boxed")
    );
    assert_eq!(
        exit_of(ChildSpec::new("a", |ctx| async move {
            ctx.ready();
            Exit::ShutdownWith("mine".into())
        })),
        Exit::ShutdownWith("mine".into())
    );
    assert_eq!(
        exit_of(ChildSpec::new("a", |ctx| async move {
            ctx.ready();
            Exit::Ignore
        })),
        Exit::Normal,
        "only a start can come to nothing"
    );
    assert_eq!(
        exit_of(ChildSpec::new("a", |ctx| async move {
            ctx.ready();
            Err::<(), _>(format!("{}", 7))
        })),
        Exit::error("7")
    );
}

#[test]
fn a_child_that_stops_when_asked_has_exited_with_shutdown() {
    let world = World::new();
    let supervisor = world.started(Strategy::OneForOne);
    let by_cancel = ChildSpec::new("a", |ctx| async move {
        ctx.ready();
        ctx.sleep(seconds(1000)).await
    });
    let pid = world.add(&supervisor, by_cancel);
    world.run(supervisor.terminate_child("a")).unwrap();
    assert_eq!(pid.exit_reason(), Some(Exit::Shutdown));
    assert_eq!(world.complaints(), []);
    let says_normal = world.slow_child("b", ms(1), Some(Exit::Normal));
    world.add(&supervisor, says_normal);
    world.run(supervisor.terminate_child("b")).unwrap();
    assert_eq!(world.complaints(), [(ReportContext::ShutdownError, "b".into(), Exit::Normal)]);
}

#[test]
fn each_kind_of_exit_has_a_word_and_a_text() {
    let panic = PanicInfo {
        message: "m".into(),
        literal: true,
        place: "file:1:2".into(),
        callers: vec![],
        in_destructor: false,
    };
    let all = [
        (Exit::Normal, "normal", "normal"),
        (Exit::Shutdown, "shutdown", "shutdown"),
        (shutdown_with(), "shutdown", "shutdown: some_info"),
        (Exit::error("text"), "error", "text"),
        (Exit::Panic(panic.into()), "panic", "panicked at file:1:2: m"),
        (Exit::Killed, "killed", "killed"),
        (Exit::Ignore, "ignore", "ignore"),
        (Exit::Timeout, "timeout", "it took longer than it may"),
        (Exit::NoProcess, "noproc", "it is not running"),
        (Exit::Refused, "refused", "too many tasks: wait for room() before the next"),
    ];
    for (exit, kind, text) in all {
        assert_eq!(exit.kind(), kind);
        assert_eq!(exit.to_string(), text);
        assert_eq!(exit.is_graceful(), matches!(kind, "normal" | "shutdown"));
    }
}
