//! Children that come and go: OTP's simple-one-for-one, and what Elixir's DynamicSupervisor adds.

use tinkex_supervise::*;

use crate::world::*;

fn started(world: &World) -> DynamicSupervisor {
    let supervisor = DynamicSupervisor::new("sup_test").intensity(2, seconds(3600));
    world.run(supervisor.start(&world.system)).unwrap();
    supervisor
}

fn pids(supervisor: &DynamicSupervisor) -> Vec<Pid> {
    supervisor.which_children().into_iter().filter_map(|child| child.pid).collect()
}

#[test]
fn sup_start_ignore_temporary_child_start_child_simple() {
    for restart in [Restart::Temporary, Restart::Transient] {
        let world = World::new();
        let supervisor = started(&world);
        let ignoring = world.child_that("child1", [Init::Fail(Exit::Ignore)]).restart(restart);
        assert_eq!(world.run(supervisor.start_child(ignoring)).unwrap().pid, None);
        world.add_to(&supervisor, world.child("child1").restart(restart));
        assert_eq!(counts(supervisor.count_children()), [1, 1, 0, 1]);
    }
}

#[test]
fn sup_start_ignore_permanent_child_start_child_simple() {
    let world = World::new();
    let supervisor = started(&world);
    let ignoring = world.child_that("child1", [Init::Fail(Exit::Ignore)]);
    assert_eq!(world.run(supervisor.start_child(ignoring)).unwrap().pid, None);
    world.add_to(&supervisor, world.child("child1"));
    assert_eq!(counts(supervisor.count_children()), [1, 1, 0, 1]);
    assert_eq!(world.run(supervisor.stop()), Exit::Shutdown);
}

#[test]
fn sup_start_child_returns_error_simple() {
    let world = World::new();
    let supervisor = started(&world);
    for exit in [Exit::error("reason"), Exit::Normal, Exit::Shutdown] {
        let failing = world.child_that("child1", [Init::Fail(exit.clone())]);
        assert_eq!(world.run(supervisor.start_child(failing)).map(drop), Err(ChildError::Failed(exit)));
    }
    assert_eq!(supervisor.which_children(), []);
    assert_eq!(world.complaints(), [], "who asked is told; nobody else is");
}

#[test]
fn sup_start_map_simple() {
    let world = World::new();
    let supervisor = started(&world);
    let pid = world.add_to(&supervisor, world.child("child1"));
    world.terminate(&pid, Exit::Normal);
    assert_eq!(pids(&supervisor).len(), 1, "permanent, unless said");
}

#[test]
fn simple_one_for_one() {
    let world = World::new();
    let supervisor = started(&world);
    let one = world.add_to(&supervisor, world.child("child"));
    let two = world.add_to(&supervisor, world.child("child"));
    world.terminate(&one, abnormal());
    assert!(two.is_alive() && !pids(&supervisor).contains(&one));
    assert_eq!(counts(supervisor.count_children()), [2, 2, 0, 2]);
    let pid = supervisor.pid().unwrap();
    world.terminate(&two, abnormal());
    assert_eq!(supervisor.which_children()[1].restarts, 1);
    world.terminate(&pids(&supervisor)[0], abnormal());
    assert_eq!(pid.exit_reason(), Some(Exit::Shutdown));
    assert_eq!(world.complaints().pop().unwrap().0, ReportContext::Shutdown);
}

#[test]
fn simple_one_for_one_restart_ignore() {
    for restart in [Restart::Transient, Restart::Permanent] {
        let world = World::new();
        let supervisor = DynamicSupervisor::new("sup_test").intensity(10, seconds(3600));
        world.run(supervisor.start(&world.system)).unwrap();
        let turns = [Init::Ready, Init::Ready, Init::Fail(Exit::Ignore)];
        world.add_to(&supervisor, world.child_that("child", turns).restart(restart));
        world.terminate(&pids(&supervisor)[0], Exit::Killed);
        assert_eq!(pids(&supervisor).len(), 1);
        world.terminate(&pids(&supervisor)[0], Exit::Killed);
        assert_eq!(supervisor.which_children(), []);
        assert_eq!(world.run(supervisor.stop()), Exit::Shutdown);
    }
}

#[test]
fn simple_one_for_one_shutdown() {
    let world = World::new();
    let supervisor = started(&world);
    let slow = |time| world.slow_child("child", time, None).shutdown(Shutdown::After(seconds(2)));
    let graceful = [world.add_to(&supervisor, slow(seconds(1))), world.add_to(&supervisor, slow(seconds(1)))];
    let killed = world.add_to(&supervisor, slow(seconds(5)));
    world.run(supervisor.stop());
    assert_eq!(world.time.now(), seconds(2));
    assert!(graceful.iter().all(|pid| pid.exit_reason() == Some(Exit::Shutdown)));
    assert_eq!(killed.exit_reason(), Some(Exit::Killed));
}

#[test]
fn simple_one_for_one_extra() {
    let world = World::new();
    let supervisor = started(&world);
    let spec = || {
        ChildSpec::new("child", |ctx| async move {
            ctx.ready_with(7_u8);
            ctx.shutdown().await;
        })
    };
    let one = world.run(supervisor.start_child(spec())).unwrap();
    assert_eq!(*one.info.unwrap().downcast::<u8>().unwrap(), 7);
    world.add_to(&supervisor, spec());
    world.terminate(&one.pid.unwrap(), abnormal());
    assert_eq!(counts(supervisor.count_children()), [2, 2, 0, 2]);
}

#[test]
fn simple_one_for_one_escalation() {
    let world = World::new();
    let supervisor = DynamicSupervisor::new("sup_test").intensity(4, seconds(3600));
    let pid = world.run(supervisor.start(&world.system)).unwrap();
    let one = world.add_to(&supervisor, world.child_that_starts_once("child"));
    let two = world.add_to(&supervisor, world.child("child"));
    world.terminate(&one, abnormal());
    assert_eq!(pid.exit_reason(), Some(Exit::Shutdown));
    assert_eq!(two.exit_reason(), Some(Exit::Shutdown));
    let starts =
        world.complaints().iter().filter(|(context, ..)| *context == ReportContext::StartError).count();
    assert_eq!(starts, 4);
}

#[test]
fn what_ended_for_good_is_reported_once_and_forgotten() {
    let world = World::new();
    let supervisor = started(&world);
    for (restart, exit, complaints) in [
        (Restart::Temporary, abnormal(), 1),
        (Restart::Temporary, Exit::Normal, 0),
        (Restart::Transient, Exit::Shutdown, 0),
    ] {
        let pid = world.add_to(&supervisor, world.child("child").restart(restart));
        world.terminate(&pid, exit);
        assert_eq!(supervisor.which_children(), []);
        assert_eq!(world.complaints().len(), complaints);
    }
}

#[test]
fn max_children() {
    let world = World::new();
    let supervisor = DynamicSupervisor::new("sup_test").max_children(2).intensity(5, seconds(60));
    world.run(supervisor.start(&world.system)).unwrap();
    let start = || world.run(supervisor.start_child(world.child("child"))).map(drop);
    assert_eq!(start(), Ok(()));
    let failing = world.child_that("child", [Init::Ready, Init::FailAfter(seconds(60), abnormal())]);
    let crashing = world.add_to(&supervisor, failing);
    assert_eq!(start(), Err(ChildError::MaxChildren));
    world.terminate(&crashing, abnormal());
    assert_eq!(start(), Err(ChildError::MaxChildren), "one that is being restarted counts");
    world.run(supervisor.terminate_child(&crashing)).unwrap();
    assert_eq!(start(), Ok(()));
    assert_eq!(supervisor.which_children().len(), 2);
}

#[test]
fn starts_do_not_wait_for_each_other() {
    let world = World::new();
    let supervisor = started(&world);
    let hanging =
        supervisor.start_child(world.child_that("slow", [Init::Never]).shutdown(Shutdown::BrutalKill));
    world.settle();
    world.add_to(&supervisor, world.child("quick"));
    let starting = world.system.snapshot().into_iter().find(|node| &*node.name == "slow").unwrap();
    assert_eq!(starting.state, State::Starting);
    world.run(supervisor.stop());
    assert_eq!(world.run(hanging).map(drop), Err(ChildError::NoProcess));
}

#[test]
fn a_start_is_ended_by_its_time() {
    let world = World::new();
    let supervisor = started(&world);
    let hanging = world.child_that("slow", [Init::Never]).start_timeout(seconds(3));
    assert_eq!(world.run(supervisor.start_child(hanging)).map(drop), Err(ChildError::Failed(Exit::Timeout)));
    assert_eq!(world.time.now(), seconds(3));
    world.add_to(&supervisor, world.child("quick").start_timeout(seconds(3)));
    assert_eq!(world.time.live_timers(), 0);
    world.time.advance(seconds(10));
    assert_eq!(pids(&supervisor).len(), 1);
}

#[test]
fn terminate_child_waits_for_the_end_and_may_be_asked_twice() {
    let world = World::new();
    let supervisor = started(&world);
    let slow = world.slow_child("slow", seconds(10), None).shutdown(Shutdown::After(seconds(2)));
    let pid = world.add_to(&supervisor, slow);
    let (one, two) = (supervisor.terminate_child(&pid), supervisor.terminate_child(&pid));
    world.settle();
    assert_eq!(pid.state(), State::Stopping);
    assert_eq!(world.run(one), Ok(()));
    assert_eq!(world.run(two), Ok(()));
    assert_eq!(world.time.now(), seconds(2));
    assert_eq!(world.complaints(), [(ReportContext::ShutdownError, "slow".into(), Exit::Killed)]);
    assert_eq!(supervisor.which_children(), []);
}

#[test]
fn a_child_that_is_stopped_by_hand_keeps_its_own_time_when_all_stop() {
    let world = World::new();
    let supervisor = started(&world);
    let slow = |limit| world.slow_child("slow", seconds(100), None).shutdown(Shutdown::After(seconds(limit)));
    let by_hand = world.add_to(&supervisor, slow(3));
    let other = world.add_to(&supervisor, slow(5));
    let asked = supervisor.terminate_child(&by_hand);
    world.time.advance(seconds(1));
    let end = supervisor.pid().unwrap();
    end.ask_to_stop();
    world.time.advance(ms(1999));
    assert!(by_hand.is_alive());
    world.time.advance(ms(1));
    assert_eq!(by_hand.exit_reason(), Some(Exit::Killed));
    assert!(other.is_alive());
    world.time.advance(seconds(3));
    assert_eq!(other.exit_reason(), Some(Exit::Killed));
    assert_eq!(end.exit_reason(), Some(Exit::Shutdown));
    assert_eq!(world.run(asked), Ok(()));
}

#[test]
fn children_with_different_limits_stop_together_each_by_its_own() {
    let world = World::new();
    let supervisor = started(&world);
    let slow = |shutdown| world.slow_child("slow", seconds(10), None).shutdown(shutdown);
    let brutal = world.add_to(&supervisor, slow(Shutdown::BrutalKill));
    let two = world.add_to(&supervisor, slow(Shutdown::After(seconds(2))));
    let four = world.add_to(&supervisor, slow(Shutdown::After(seconds(4))));
    let patient = world.add_to(&supervisor, slow(Shutdown::Infinity));
    let pid = supervisor.pid().unwrap();
    pid.ask_to_stop();
    let alive = || [&brutal, &two, &four, &patient].map(|pid| pid.is_alive());
    world.settle();
    assert_eq!(alive(), [false, true, true, true]);
    assert_eq!(world.run(supervisor.start_child(world.child("late"))).map(drop), Err(ChildError::NoProcess));
    world.time.advance(seconds(2));
    assert_eq!(alive(), [false, false, true, true]);
    world.time.advance(seconds(2));
    assert_eq!(alive(), [false, false, false, true]);
    assert!(pid.is_alive());
    world.time.advance(seconds(6));
    assert_eq!(pid.exit_reason(), Some(Exit::Shutdown));
    assert_eq!(patient.exit_reason(), Some(Exit::Shutdown));
}

#[test]
fn a_restart_that_is_due_is_dropped_when_all_stop() {
    let world = World::new();
    let supervisor = started(&world);
    let child = world.add_to(&supervisor, world.child_that_starts_once("child"));
    child.kill(abnormal());
    supervisor.pid().unwrap().ask_to_stop();
    world.settle();
    assert_eq!(world.system.live(), 0);
}

#[test]
fn ten_thousand_temporary_children_end_one_after_another_and_none_is_restarted() {
    let world = World::new();
    let supervisor = DynamicSupervisor::new("clients").intensity(3, seconds(5));
    let pid = world.run(supervisor.start(&world.system)).unwrap();
    let sibling = world.add_to(&supervisor, world.child("sibling"));
    let clients: Vec<Pid> = (0..10_000)
        .map(|_| world.add_to(&supervisor, world.child("client").restart(Restart::Temporary)))
        .collect();
    world.log();
    for client in clients {
        client.ask_to_stop();
        assert_eq!(world.run(client.monitor()), Exit::Shutdown);
    }
    world.settle();
    assert!(pid.is_alive() && sibling.is_alive());
    assert_eq!(pids(&supervisor), [sibling]);
    assert!(world.log().iter().all(|line| line == "-client"));
    assert_eq!(world.complaints(), []);
}

#[test]
fn the_pid_of_a_former_start_ends_nobody() {
    let world = World::new();
    let supervisor = DynamicSupervisor::new("dynamic");
    world.run(supervisor.start(&world.system)).unwrap();
    let former = world.run(supervisor.start_child(world.child("a"))).unwrap().pid.unwrap();
    world.terminate(&former, abnormal());
    assert_eq!(world.run(supervisor.terminate_child(&former)), Ok(()));
    assert_eq!(supervisor.count_children().active, 1);
}

#[test]
fn everyone_who_ends_a_child_is_answered_when_that_child_has_ended() {
    let world = World::new();
    let supervisor = DynamicSupervisor::new("dynamic");
    world.run(supervisor.start(&world.system)).unwrap();
    let start = |id, time| {
        let child = world.slow_child(id, seconds(time), None);
        world.run(supervisor.start_child(child)).unwrap().pid.unwrap()
    };
    let pids = [start("slow", 2), start("slower", 4)];
    let calls: Vec<_> = pids.iter().cycle().take(6).map(|pid| supervisor.terminate_child(pid)).collect();
    let mut ends = Vec::new();
    for call in calls {
        ends.push((world.run(call), world.time.now()));
    }
    assert_eq!(ends[0], (Ok(()), seconds(2)));
    assert!(ends[1..].iter().all(|end| *end == (Ok(()), seconds(4))));
}
