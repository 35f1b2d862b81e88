//! Whom a crash concerns, and when a supervisor gives up.

use tinkex_supervise::*;

use crate::world::*;

#[test]
fn one_for_one() {
    let world = World::new();
    let supervisor = world.started(Strategy::OneForOne);
    let one = world.add(&supervisor, world.child("child1"));
    let two = world.add(&supervisor, world.child("child2"));
    world.terminate(&one, abnormal());
    assert!(two.is_alive());
    assert_ne!(pid_of(&supervisor, "child1"), one);
    assert_eq!(counts(supervisor.count_children()), [2, 2, 0, 2]);
    let pid = supervisor.pid().unwrap();
    world.terminate(&two, abnormal());
    assert!(pid.is_alive());
    world.terminate(&pid_of(&supervisor, "child2"), abnormal());
    assert_eq!(pid.exit_reason(), Some(Exit::Shutdown));
    assert_eq!(
        world.log(),
        ["+child1", "+child2", "-child1", "+child1", "-child2", "+child2", "-child2", "-child1"]
    );
    let last = world.complaints().pop().unwrap();
    assert_eq!(
        last,
        (ReportContext::Shutdown, "child2".into(), Exit::error("reached_max_restart_intensity"))
    );
}

#[test]
fn one_for_one_escalation() {
    let world = World::new();
    let supervisor = Supervisor::new("sup_test").intensity(4, seconds(3600));
    let pid = world.start(&supervisor);
    let one = world.add(&supervisor, world.child_that_starts_once("child1"));
    let two = world.add(&supervisor, world.child("child2"));
    world.terminate(&one, abnormal());
    assert_eq!(pid.exit_reason(), Some(Exit::Shutdown));
    assert_eq!(two.exit_reason(), Some(Exit::Shutdown));
    let failures = world.complaints();
    let of = |context| failures.iter().filter(|(each, ..)| *each == context).count();
    assert_eq!(of(ReportContext::ChildTerminated), 1);
    assert_eq!(of(ReportContext::StartError), 4, "each attempt counts");
    assert_eq!(of(ReportContext::Shutdown), 1);
}

#[test]
fn one_for_all() {
    let world = World::new();
    let supervisor = world.started(Strategy::OneForAll);
    let one = world.add(&supervisor, world.child("child1"));
    let two = world.add(&supervisor, world.child("child2"));
    world.add(&supervisor, world.child("child3"));
    world.log();
    world.terminate(&one, abnormal());
    assert_eq!(two.exit_reason(), Some(Exit::Shutdown));
    assert_eq!(
        world.log(),
        ["-child1", "-child3", "-child2", "+child1", "+child2", "+child3"],
        "the others are stopped in reverse order, all are started in order"
    );
    assert_eq!(ids(&supervisor), ["child3", "child2", "child1"]);
    assert_eq!(counts(supervisor.count_children()), [3, 3, 0, 3]);
    let pid = supervisor.pid().unwrap();
    world.terminate(&pid_of(&supervisor, "child2"), abnormal());
    assert!(pid.is_alive());
    world.terminate(&pid_of(&supervisor, "child2"), abnormal());
    assert_eq!(pid.exit_reason(), Some(Exit::Shutdown));
}

#[test]
fn one_for_all_escalation() {
    let world = World::new();
    let supervisor = Supervisor::new("sup_test").strategy(Strategy::OneForAll).intensity(4, seconds(3600));
    let pid = world.start(&supervisor);
    let one = world.add(&supervisor, world.child("child1"));
    let two = world.add(&supervisor, world.child_that_starts_once("child2"));
    world.terminate(&one, abnormal());
    assert!(!two.is_alive());
    assert_eq!(pid.exit_reason(), Some(Exit::Shutdown));
}

#[test]
fn one_for_all_other_child_fails_restart() {
    let world = World::new();
    let failing = world.child_that("child2", [Init::Ready, Init::Fail(Exit::Normal)]);
    let supervisor = Supervisor::new("sup_test")
        .strategy(Strategy::OneForAll)
        .intensity(3, seconds(3600))
        .with(world.child("child1"))
        .with(failing);
    world.start(&supervisor);
    world.terminate(&pid_of(&supervisor, "child1"), Exit::error("die"));
    assert_eq!(
        world.log(),
        [
            "+child1", "+child2", "-child1", "-child2", // the crash
            "+child1", "-child1", // child2 fails, so child1 is stopped again
            "+child1", "+child2"
        ]
    );
    assert_eq!(counts(supervisor.count_children()), [2, 2, 0, 2]);
}

#[test]
fn rest_for_one() {
    let world = World::new();
    let supervisor = world.started(Strategy::RestForOne);
    let one = world.add(&supervisor, world.child("child1"));
    let two = world.add(&supervisor, world.child("child2"));
    let three = world.add(&supervisor, world.child("child3"));
    world.log();
    world.terminate(&two, abnormal());
    assert_eq!(world.log(), ["-child2", "-child3", "+child2", "+child3"]);
    assert!(one.is_alive());
    assert_eq!(three.exit_reason(), Some(Exit::Shutdown));
    assert_eq!(ids(&supervisor), ["child3", "child2", "child1"]);
    let pid = supervisor.pid().unwrap();
    world.terminate(&pid_of(&supervisor, "child3"), abnormal());
    assert_eq!(world.log(), ["-child3", "+child3"]);
    world.terminate(&pid_of(&supervisor, "child2"), abnormal());
    assert_eq!(pid.exit_reason(), Some(Exit::Shutdown));
    assert_eq!(world.log(), ["-child2", "-child3", "-child1"]);
}

#[test]
fn rest_for_one_escalation() {
    let world = World::new();
    let supervisor = Supervisor::new("sup_test").strategy(Strategy::RestForOne).intensity(4, seconds(3600));
    let pid = world.start(&supervisor);
    let one = world.add(&supervisor, world.child("child1"));
    world.add(&supervisor, world.child_that_starts_once("child2"));
    world.terminate(&one, abnormal());
    assert_eq!(pid.exit_reason(), Some(Exit::Shutdown));
    assert_eq!(world.log(), ["+child1", "+child2", "-child1", "-child2", "+child1", "-child1"]);
}

#[test]
fn rest_for_one_other_child_fails_restart() {
    let world = World::new();
    let failing = world.child_that("child2", [Init::Ready, Init::Fail(Exit::Normal)]);
    let supervisor = Supervisor::new("sup_test")
        .strategy(Strategy::RestForOne)
        .intensity(3, seconds(3600))
        .with(world.child("child1"))
        .with(failing);
    world.start(&supervisor);
    world.terminate(&pid_of(&supervisor, "child1"), Exit::error("die"));
    assert_eq!(
        world.log(),
        ["+child1", "+child2", "-child1", "-child2", "+child1", "+child2"],
        "child1 stays up while child2 is tried again"
    );
}

#[test]
fn those_behind_a_failed_start_stay_down_until_it_succeeds() {
    let world = World::new();
    let failing =
        world.child_that("b", [Init::Ready, Init::Fail(abnormal()), Init::FailAfter(seconds(1), abnormal())]);
    let supervisor = Supervisor::new("sup_test")
        .strategy(Strategy::OneForAll)
        .intensity(5, seconds(3600))
        .with(world.child("a"))
        .with(failing)
        .with(world.child("c"));
    world.start(&supervisor);
    world.terminate(&pid_of(&supervisor, "c"), abnormal());
    assert_eq!(ids(&supervisor), ["c undefined", "b restarting", "a"]);
    world.time.advance(seconds(1));
    assert_eq!(ids(&supervisor), ["c", "b", "a"]);
}

#[test]
fn a_group_restart_brings_back_children_that_were_stopped_by_hand() {
    // As in OTP: whoever is in the order is started.
    let world = World::new();
    let supervisor = world.supervisor(Strategy::OneForAll).with(world.child("a")).with(world.child("b"));
    world.start(&supervisor);
    world.run(supervisor.terminate_child("a")).unwrap();
    world.terminate(&pid_of(&supervisor, "b"), abnormal());
    assert_eq!(ids(&supervisor), ["b", "a"]);
}

#[test]
fn two_crashes_at_once_are_one_group_restart() {
    let world = World::new();
    let supervisor = Supervisor::new("sup_test")
        .strategy(Strategy::OneForAll)
        .intensity(1, seconds(3600))
        .with(world.child("a"))
        .with(world.child("b"));
    let pid = world.start(&supervisor);
    pid_of(&supervisor, "a").kill(abnormal());
    pid_of(&supervisor, "b").kill(abnormal());
    world.settle();
    assert!(pid.is_alive());
    assert_eq!(ids(&supervisor), ["b", "a"]);
    let complaints: Vec<_> = world.complaints().into_iter().map(|(context, id, _)| (context, id)).collect();
    assert_eq!(
        complaints,
        [(ReportContext::ChildTerminated, "a".into()), (ReportContext::ShutdownError, "b".into())]
    );
}

#[test]
fn two_crashes_at_once_are_two_restarts_where_each_is_alone() {
    let world = World::new();
    let supervisor =
        Supervisor::new("sup_test").intensity(1, seconds(3600)).with(world.child("a")).with(world.child("b"));
    let pid = world.start(&supervisor);
    pid_of(&supervisor, "a").kill(abnormal());
    pid_of(&supervisor, "b").kill(abnormal());
    world.settle();
    assert_eq!(pid.exit_reason(), Some(Exit::Shutdown));
}

#[test]
fn a_crash_during_a_call_is_dealt_with_after_it() {
    let world = World::new();
    let supervisor = world.supervisor(Strategy::OneForOne).with(world.child("a"));
    world.start(&supervisor);
    let first = pid_of(&supervisor, "a");
    let slow = ChildSpec::new("slow", |ctx| async move {
        ctx.sleep(seconds(1)).await?;
        ctx.ready();
        ctx.shutdown().await;
        Ok::<_, Cancelled>(())
    });
    let start = supervisor.start_child(slow);
    world.settle();
    world.terminate(&first, abnormal());
    assert_eq!(supervisor.child_pid("a"), None, "its turn comes after the start");
    assert_eq!(
        world.run(supervisor.start_child(world.child("a"))).map(drop),
        Err(ChildError::AlreadyStarted(pid_of(&supervisor, "a"))),
    );
    assert!(world.run(start).is_ok());
    assert_ne!(pid_of(&supervisor, "a"), first);
    assert_eq!(world.time.now(), seconds(1));
}

#[test]
fn restarts_are_counted_in_a_window_that_slides() {
    let world = World::new();
    let supervisor = Supervisor::new("sup_test").intensity(2, seconds(10)).with(world.child("a"));
    let pid = world.start(&supervisor);
    let crash = || world.terminate(&pid_of(&supervisor, "a"), abnormal());
    for _ in 0..20 {
        crash();
        world.time.advance(ms(5001));
    }
    assert!(pid.is_alive());
    crash();
    crash();
    assert_eq!(pid.exit_reason(), Some(Exit::Shutdown));
}

#[test]
fn the_default_is_otps_one_restart_in_five_seconds() {
    let world = World::new();
    let supervisor = Supervisor::new("sup_test").with(world.child("a"));
    let pid = world.start(&supervisor);
    world.terminate(&pid_of(&supervisor, "a"), abnormal());
    world.time.advance(ms(5001));
    world.terminate(&pid_of(&supervisor, "a"), abnormal());
    assert!(pid.is_alive());
    world.time.advance(ms(5000));
    world.terminate(&pid_of(&supervisor, "a"), abnormal());
    assert!(!pid.is_alive());
    assert_eq!(Intensity::default(), Intensity { restarts: 1, period: seconds(5) });
}
