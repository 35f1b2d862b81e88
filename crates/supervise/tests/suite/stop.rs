//! Stopping: in reverse order, with a limit of time or without, whatever the children do meanwhile.

use tinkex_supervise::*;

use crate::world::*;

#[test]
fn sup_stop_infinity() {
    let world = World::new();
    let supervisor = world.started(Strategy::OneForOne);
    let slow = |id| world.slow_child(id, seconds(1000), None).shutdown(Shutdown::Infinity);
    let (one, two) = (world.add(&supervisor, slow("child1")), world.add(&supervisor, slow("child2")));
    assert_eq!(world.run(supervisor.stop()), Exit::Shutdown);
    assert_eq!(one.exit_reason(), Some(Exit::Shutdown));
    assert_eq!(two.exit_reason(), Some(Exit::Shutdown));
    assert_eq!(world.time.now(), seconds(2000), "one after another");
}

#[test]
fn sup_stop_timeout() {
    let world = World::new();
    let supervisor = world.started(Strategy::OneForOne);
    let second = Shutdown::After(seconds(1));
    let one = world.add(&supervisor, world.child("child1").shutdown(second));
    let two = world.add(&supervisor, world.slow_child("child2", seconds(200), None).shutdown(second));
    world.run(supervisor.stop());
    assert_eq!(one.exit_reason(), Some(Exit::Shutdown));
    assert_eq!(two.exit_reason(), Some(Exit::Killed));
    assert_eq!(world.time.now(), seconds(1));
    assert_eq!(world.complaints(), [(ReportContext::ShutdownError, "child2".into(), Exit::Killed)]);
    assert_eq!(world.time.live_timers(), 0);
}

#[test]
fn sup_stop_timeout_dynamic() {
    let world = World::new();
    let supervisor = DynamicSupervisor::new("sup_test");
    world.run(supervisor.start(&world.system)).unwrap();
    let second = Shutdown::After(seconds(1));
    let slow: Vec<Pid> = (0..10)
        .map(|_| world.add_to(&supervisor, world.slow_child("slow", seconds(100), None).shutdown(second)))
        .collect();
    let quick = world.add_to(&supervisor, world.child("quick").shutdown(second));
    world.run(supervisor.stop());
    assert_eq!(world.time.now(), seconds(1), "all under one timer");
    assert!(slow.iter().all(|pid| pid.exit_reason() == Some(Exit::Killed)));
    assert_eq!(quick.exit_reason(), Some(Exit::Shutdown));
    assert_eq!(world.complaints().len(), 10);
    assert_eq!(world.time.live_timers(), 0);
}

#[test]
fn sup_stop_brutal_kill() {
    let world = World::new();
    let supervisor = world.started(Strategy::OneForOne);
    let one = world.add(&supervisor, world.child("child1"));
    let two = world.add(&supervisor, world.child("child2").shutdown(Shutdown::BrutalKill));
    world.run(supervisor.stop());
    assert_eq!(one.exit_reason(), Some(Exit::Shutdown));
    assert_eq!(two.exit_reason(), Some(Exit::Killed));
    assert_eq!(world.complaints(), [], "being killed is what was asked for");
}

#[test]
fn sup_stop_brutal_kill_dynamic() {
    let world = World::new();
    let supervisor = DynamicSupervisor::new("sup_test");
    world.run(supervisor.start(&world.system)).unwrap();
    let spec = || world.child("child").restart(Restart::Temporary).shutdown(Shutdown::BrutalKill);
    let pids: Vec<Pid> = (0..10).map(|_| world.add_to(&supervisor, spec())).collect();
    assert_eq!(world.run(supervisor.stop()), Exit::Shutdown);
    assert!(pids.iter().all(|pid| pid.exit_reason() == Some(Exit::Killed)));
    assert_eq!(world.complaints(), []);
}

const REASONS: [fn() -> Exit; 4] =
    [|| Exit::Normal, || Exit::Shutdown, || Exit::ShutdownWith("test".into()), || Exit::error("other")];

#[test]
fn sup_stop_race() {
    let world = World::new();
    let supervisor = world.started(Strategy::OneForOne);
    let first = world.add(&supervisor, world.child("child_a").restart(Restart::Temporary));
    let mut racing = Vec::new();
    for restart in [Restart::Temporary, Restart::Transient, Restart::Permanent] {
        for reason in REASONS {
            let id = format!("{restart:?} {}", reason());
            racing.push((world.add(&supervisor, world.child(&id).restart(restart)), reason(), restart));
        }
    }
    let last = world.add(
        &supervisor,
        world
            .slow_child("child_z", seconds(1), None)
            .restart(Restart::Temporary)
            .shutdown(Shutdown::After(seconds(2))),
    );
    let pid = supervisor.pid().unwrap();
    pid.ask_to_stop();
    world.time.advance(ms(200));
    for (child, reason, _) in &racing {
        child.kill(reason.clone());
    }
    world.time.advance(seconds(1));
    assert_eq!(pid.exit_reason(), Some(Exit::Shutdown));
    assert_eq!(last.exit_reason(), Some(Exit::Shutdown));
    assert_eq!(first.exit_reason(), Some(Exit::Shutdown));
    assert!(racing.iter().all(|(child, reason, _)| child.exit_reason().as_ref() == Some(reason)));
    let unexpected = |(_, reason, restart): &&(Pid, Exit, Restart)| match reason {
        Exit::Shutdown => false,
        Exit::Normal | Exit::ShutdownWith(_) => *restart == Restart::Permanent,
        _ => true,
    };
    let complaints = world.complaints();
    assert_eq!(complaints.len(), racing.iter().filter(unexpected).count());
    assert!(complaints.iter().all(|(context, ..)| *context == ReportContext::ShutdownError));
}

#[test]
fn sup_stop_non_shutdown_exit_dynamic() {
    let world = World::new();
    for restart in [Restart::Temporary, Restart::Transient, Restart::Permanent] {
        let supervisor = DynamicSupervisor::new("sup_test");
        world.run(supervisor.start(&world.system)).unwrap();
        let pids: Vec<(Pid, Exit)> = REASONS
            .iter()
            .map(|reason| {
                let spec = world.slow_child("child", ms(10), Some(reason())).restart(restart);
                (world.add_to(&supervisor, spec), reason())
            })
            .collect();
        assert_eq!(world.run(supervisor.stop()), Exit::Shutdown);
        assert!(pids.iter().all(|(pid, reason)| pid.exit_reason().as_ref() == Some(reason)));
        assert_eq!(world.complaints().len(), if restart == Restart::Permanent { 3 } else { 1 });
    }
}

#[test]
fn a_brutal_kill_that_comes_after_a_graceful_end_is_no_error_unless_permanent() {
    for (restart, complaints) in [(Restart::Temporary, 0), (Restart::Transient, 0), (Restart::Permanent, 1)] {
        let world = World::new();
        let supervisor = world.started(Strategy::OneForOne);
        let brutal = world.child("brutal").restart(restart).shutdown(Shutdown::BrutalKill);
        let pid = world.add(&supervisor, brutal);
        world.add(&supervisor, world.slow_child("slow", seconds(1), None));
        supervisor.pid().unwrap().ask_to_stop();
        world.settle();
        pid.kill(Exit::Shutdown);
        world.time.advance(seconds(1));
        assert_eq!(world.complaints().len(), complaints, "{restart:?}");
    }
}

#[test]
fn a_supervisor_is_stopped_in_the_midst_of_its_start() {
    let world = World::new();
    let supervisor = world
        .supervisor(Strategy::OneForOne)
        .with(world.child("child1"))
        .with(world.child_that("child2", [Init::Never]).shutdown(Shutdown::After(seconds(1))));
    let start = supervisor.start(&world.system);
    world.settle();
    supervisor.pid().unwrap().ask_to_stop();
    assert_eq!(world.run(start).unwrap_err(), ChildError::Failed(Exit::Shutdown));
    assert_eq!(world.time.now(), seconds(1));
    assert_eq!(world.log(), ["+child1", "-child1"]);
}

#[test]
fn calls_that_wait_are_answered_when_the_supervisor_stops() {
    let world = World::new();
    let supervisor = world.started(Strategy::OneForOne);
    let hanging = world.child_that("child1", [Init::Never]).shutdown(Shutdown::BrutalKill);
    let starts = supervisor.start_child(hanging);
    let waits = supervisor.start_child(world.child("child2"));
    world.settle();
    let stopped = supervisor.stop();
    assert_eq!(world.run(stopped), Exit::Shutdown);
    assert_eq!(world.run(starts).unwrap_err(), ChildError::NoProcess);
    assert_eq!(world.run(waits).unwrap_err(), ChildError::NoProcess);
    assert_eq!(world.run(supervisor.terminate_child("child1")), Err(ChildError::NoProcess));
    assert_eq!(world.run(supervisor.stop()), Exit::NoProcess);
}

#[test]
fn a_supervisor_that_is_killed_takes_its_children_with_it() {
    let world = World::new();
    let inner = Supervisor::new("inner").with(world.child("leaf"));
    let outer = world.supervisor(Strategy::OneForOne).with(inner.child()).with(world.child("other"));
    let pid = world.start(&outer);
    let leaf = pid_of(&inner, "leaf");
    let waits = outer.start_child(world.child_that("hanging", [Init::Never]));
    world.settle();
    pid.kill(Exit::Killed);
    assert_eq!(leaf.exit_reason(), Some(Exit::Killed), "in the same turn");
    assert_eq!(world.log(), ["+leaf", "+other", "-other", "-leaf"], "the last started first");
    assert_eq!(world.run(waits).unwrap_err(), ChildError::NoProcess);
    world.settle();
    assert_eq!(world.time.live_tasks(), 0);
    assert_eq!(inner.pid(), None);
}

#[test]
fn an_executor_that_is_dropped_ends_every_child() {
    let world = World::new();
    let supervisor = world.supervisor(Strategy::OneForOne).with(world.child("child1"));
    let pid = world.start(&supervisor);
    let child = pid_of(&supervisor, "child1");
    let (log, system) = (world.log.clone(), world.system.clone());
    assert_eq!(system.live(), 2);
    drop(world);
    assert_eq!(child.exit_reason(), Some(Exit::Killed));
    assert_eq!(pid.exit_reason(), Some(Exit::Killed));
    assert_eq!(*log.borrow(), ["+child1", "-child1"]);
    assert_eq!(system.live(), 0);
}

#[test]
fn a_clock_that_was_suspended_gives_a_child_its_time_once_more() {
    let world = World::new();
    let supervisor = world.started(Strategy::OneForOne);
    let limit = Shutdown::After(seconds(5));
    let pid = world.add(&supervisor, world.slow_child("child1", seconds(8), None).shutdown(limit));
    let stopping = supervisor.stop();
    supervisor.pid().unwrap().ask_to_stop();
    world.time.advance(seconds(4));
    world.time.burn(seconds(3600)); // the lid is closed
    world.settle();
    assert_eq!(pid.exit_reason(), Some(Exit::Shutdown), "its own timer was due as well");
    world.run(stopping);
    world.reports.take();

    let supervisor = world.started(Strategy::OneForOne);
    let pid = world.add(&supervisor, world.slow_child("child1", seconds(10_000), None).shutdown(limit));
    supervisor.pid().unwrap().ask_to_stop();
    world.time.advance(seconds(4));
    world.time.burn(seconds(3600));
    world.settle();
    assert!(pid.is_alive(), "it has had four seconds");
    let suspended =
        |report: &Report| matches!(report, Report::Suspended { asked, .. } if *asked == seconds(5));
    assert_eq!(world.reports.borrow().iter().filter(|report| suspended(report)).count(), 1);
    world.time.advance(seconds(4));
    assert!(pid.is_alive());
    world.time.burn(seconds(3600));
    world.settle();
    assert_eq!(pid.exit_reason(), Some(Exit::Killed), "the grace is given once");
}

#[test]
fn a_timer_that_is_twice_as_late_is_late_and_no_suspension() {
    let world = World::new();
    let supervisor = world.started(Strategy::OneForOne);
    let limit = Shutdown::After(seconds(5));
    let pid = world.add(&supervisor, world.slow_child("child1", seconds(10_000), None).shutdown(limit));
    supervisor.pid().unwrap().ask_to_stop();
    world.settle();
    world.time.burn(seconds(10));
    world.settle();
    assert_eq!(pid.exit_reason(), Some(Exit::Killed));
}
