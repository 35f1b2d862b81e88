//! Starting a supervisor and its children, what they may say instead, and specs that contradict themselves.

use tinkex_supervise::*;

use crate::world::*;

#[test]
fn sup_start_normal() {
    let world = World::new();
    let supervisor = world.supervisor(Strategy::OneForOne);
    let pid = world.start(&supervisor);
    assert_eq!(pid.state(), State::Running);
    assert_eq!(world.run(supervisor.stop()), Exit::Shutdown);
    assert_eq!(supervisor.pid(), None);
    assert_eq!(world.time.live_tasks(), 0);
}

#[test]
fn sup_start_ignore_child() {
    let world = World::new();
    let supervisor = world.started(Strategy::OneForOne);
    let ignoring = world.child_that("child1", [Init::Fail(Exit::Ignore)]);
    let started = world.run(supervisor.start_child(ignoring)).unwrap();
    assert_eq!(started.pid, None);
    world.add(&supervisor, world.child("child2"));
    assert_eq!(ids(&supervisor), ["child2", "child1 undefined"]);
    assert_eq!(counts(supervisor.count_children()), [2, 1, 0, 2]);
    assert_eq!(world.complaints(), []);
}

#[test]
fn sup_start_ignore_temporary_child() {
    let world = World::new();
    let ignoring = world.child_that("child1", [Init::Fail(Exit::Ignore)]).restart(Restart::Temporary);
    let supervisor = world
        .supervisor(Strategy::OneForOne)
        .with(ignoring)
        .with(world.child("child2").restart(Restart::Temporary));
    world.start(&supervisor);
    assert_eq!(ids(&supervisor), ["child2"]);
    assert_eq!(counts(supervisor.count_children()), [1, 1, 0, 1]);
}

#[test]
fn sup_start_ignore_temporary_child_start_child() {
    let world = World::new();
    let supervisor = world.started(Strategy::OneForOne);
    let ignoring = world.child_that("child1", [Init::Fail(Exit::Ignore)]).restart(Restart::Temporary);
    assert_eq!(world.run(supervisor.start_child(ignoring)).unwrap().pid, None);
    world.add(&supervisor, world.child("child2").restart(Restart::Temporary));
    assert_eq!(ids(&supervisor), ["child2"]);
    assert_eq!(counts(supervisor.count_children()), [1, 1, 0, 1]);
}

#[test]
fn sup_start_error_return() {
    let world = World::new();
    let failing = world.child_that("child1", [Init::Fail(Exit::error("invalid"))]);
    let supervisor = world.supervisor(Strategy::OneForOne).with(world.child("child0")).with(failing);
    let error = world.run(supervisor.start(&world.system)).unwrap_err();
    let reason = Exit::ShutdownWith("failed_to_start_child child1: invalid".into());
    assert_eq!(error, ChildError::Failed(reason));
    assert_eq!(world.log(), ["+child0", "-child0"]);
    assert_eq!(world.complaints(), [(ReportContext::StartError, "child1".into(), Exit::error("invalid"))]);
    assert_eq!(world.time.live_tasks(), 0);
}

#[test]
fn sup_start_fail() {
    let world = World::new();
    let panicking = ChildSpec::new("child1", |_| async { assert_eq!(1, 2, "badmatch") });
    let supervisor = world.supervisor(Strategy::OneForOne).with(panicking);
    let ChildError::Failed(Exit::ShutdownWith(reason)) =
        world.run(supervisor.start(&world.system)).unwrap_err()
    else {
        panic!("a failed start")
    };
    assert!(reason.contains("child1") && reason.contains("badmatch"), "{reason}");
    assert_eq!(world.time.live_tasks(), 0);
}

#[test]
fn sup_start_child_returns_error() {
    let world = World::new();
    let supervisor = world.started(Strategy::OneForOne);
    let failing = world.child_that("child1", [Init::Fail(Exit::error("reason"))]);
    let error = world.run(supervisor.start_child(failing)).unwrap_err();
    assert_eq!(error, ChildError::Failed(Exit::error("reason")));
    assert_eq!(supervisor.which_children(), []);
    assert_eq!(supervisor.child_spec("child1").map(|spec| spec.id().to_string()), None);
}

#[test]
fn sup_start_restart_child_returns_error() {
    let world = World::new();
    let supervisor = world.supervisor(Strategy::OneForOne).with(world.child_that_starts_once("child1"));
    world.start(&supervisor);
    world.run(supervisor.terminate_child("child1")).unwrap();
    let error = world.run(supervisor.restart_child("child1")).unwrap_err();
    assert_eq!(error, ChildError::Failed(Exit::error("no more")));
    assert_eq!(ids(&supervisor), ["child1 undefined"]);
}

#[test]
fn sup_start_map() {
    let world = World::new();
    let supervisor = Supervisor::new("sup_test")
        .with(world.child("child1"))
        .with(world.child("child2").shutdown(Shutdown::BrutalKill))
        .with(Supervisor::new("child3").child());
    world.start(&supervisor);
    let spec = |id| supervisor.child_spec(id).unwrap();
    assert_eq!(spec("child1").restart_type(), Restart::Permanent);
    assert_eq!(spec("child1").shutdown_type(), Shutdown::After(seconds(5)));
    assert_eq!(spec("child1").kind(), Kind::Worker);
    assert!(!spec("child1").is_significant());
    assert_eq!(spec("child2").shutdown_type(), Shutdown::BrutalKill);
    assert_eq!(spec("child3").shutdown_type(), Shutdown::Infinity);
    assert_eq!(spec("child3").kind(), Kind::Supervisor);
    assert!(supervisor.child_spec("child4").is_none());
}

#[test]
fn a_spec_says_what_it_was_told() {
    let world = World::new();
    let spec = world.child("a").restart(Restart::Transient).shutdown(Shutdown::BrutalKill).significant(true);
    assert_eq!(&**spec.id(), "a");
    assert_eq!(spec.restart_type(), Restart::Transient);
    assert!(spec.is_significant());
    let text = "ChildSpec { id: \"a\", restart: Transient, shutdown: BrutalKill, significant: true, kind: Worker, .. }";
    assert_eq!(format!("{spec:?}"), text);
}

#[test]
fn sup_start_map_faulty_specs() {
    // What can't be written down at all (a missing id or start) is left to the compiler.
    let world = World::new();
    let twice = Supervisor::new("sup_test").with(world.child("child1")).with(world.child("child1"));
    let error = world.run(twice.start(&world.system)).unwrap_err();
    assert_eq!(error, ChildError::Spec(SpecError::DuplicateId("child1".into())));
    assert!(error.to_string().starts_with("duplicate_child_name: "));
    assert_eq!(world.time.live_tasks(), 0);
}

#[test]
fn child_specs() {
    let world = World::new();
    for restart in [Restart::Permanent, Restart::Transient, Restart::Temporary] {
        for shutdown in
            [Shutdown::After(ms(0)), Shutdown::After(seconds(1)), Shutdown::Infinity, Shutdown::BrutalKill]
        {
            for significant in [false, true] {
                let spec = world.child("child").restart(restart).shutdown(shutdown).significant(significant);
                let refused = significant && restart == Restart::Permanent;
                assert_eq!(spec.check().is_err(), refused, "{spec:?}");
            }
        }
    }
    let error = world.child("child").significant(true).check().unwrap_err();
    assert_eq!(error, SpecError::SignificantPermanent("child".into()));
    assert_eq!(error.reason(), "bad_combination");
    let under_one =
        |auto| Supervisor::new("sup_test").auto_shutdown(auto).with(world.child("child").significant(true));
    assert!(under_one(AutoShutdown::AnySignificant).check().is_err());
}

#[test]
fn child_specs_map() {
    let world = World::new();
    for auto in [AutoShutdown::Never, AutoShutdown::AnySignificant, AutoShutdown::AllSignificant] {
        let spec = || world.child("child").restart(Restart::Transient).significant(true);
        let supervisor = Supervisor::new("sup_test").auto_shutdown(auto).with(spec());
        let expected = match auto {
            AutoShutdown::Never => Err(SpecError::SignificantNever("child".into())),
            _ => Ok(()),
        };
        assert_eq!(supervisor.check(), expected);

        let supervisor = Supervisor::new("sup_test").auto_shutdown(auto);
        world.start(&supervisor);
        let answer = world.run(supervisor.start_child(spec())).map(drop);
        assert_eq!(answer, expected.map_err(ChildError::Spec));
        world.run(supervisor.stop());
    }
}

#[test]
fn sup_flags() {
    let world = World::new();
    let timeless = Supervisor::new("sup_test").intensity(2, ms(0));
    let error = world.run(timeless.start(&world.system)).unwrap_err();
    assert_eq!(error, ChildError::Spec(SpecError::InvalidPeriod));
    assert!(error.to_string().starts_with("invalid_period: "));
    let timeless = DynamicSupervisor::new("sup_test").intensity(2, ms(0));
    assert_eq!(timeless.check(), Err(SpecError::InvalidPeriod));
}

#[test]
fn a_faulty_spec_deep_in_a_tree_is_refused_before_anything_starts() {
    let world = World::new();
    let inner = Supervisor::new("inner").with(world.child("a")).with(world.child("a"));
    let outer = Supervisor::new("outer").with(world.child("first")).with(inner.child());
    let error = world.run(outer.start(&world.system)).unwrap_err();
    assert_eq!(error, ChildError::Spec(SpecError::DuplicateId("a".into())));
    assert_eq!(world.log(), Vec::<String>::new());
    let timeless = DynamicSupervisor::new("inner").intensity(1, ms(0));
    assert_eq!(timeless.child().check(), Err(SpecError::InvalidPeriod));
}

#[test]
fn the_message_of_a_refusal_says_what_to_do() {
    let never = SpecError::SignificantNever("a".into());
    assert_eq!(never.reason(), "bad_combination");
    assert!(never.to_string().contains("auto_shutdown"));
    assert!(SpecError::SignificantPermanent("a".into()).to_string().contains("transient or temporary"));
    assert!(SpecError::DuplicateId("a".into()).to_string().contains("called a"));
}

#[test]
fn a_start_that_takes_too_long_is_ended_where_a_limit_was_set() {
    let world = World::new();
    let supervisor = world.started(Strategy::OneForOne);
    let hanging = world.child_that("child1", [Init::Never]).start_timeout(seconds(2));
    let error = world.run(supervisor.start_child(hanging)).unwrap_err();
    assert_eq!(error, ChildError::Failed(Exit::Timeout));
    assert_eq!(world.time.now(), seconds(2));
    assert_eq!(world.time.live_timers(), 0);
    let quick = world.child("child2").start_timeout(seconds(2));
    world.add(&supervisor, quick);
    assert_eq!(world.time.live_timers(), 0, "a start that was quick leaves no timer");
    world.time.advance(seconds(10));
    assert_eq!(ids(&supervisor), ["child2"]);
}

#[test]
fn a_child_without_init_phase_is_started_before_it_has_run() {
    let world = World::new();
    let supervisor = world.started(Strategy::OneForOne);
    let spec = ChildSpec::new("child1", |ctx| async move { ctx.shutdown().await }).ready_at_once();
    let pid = world.add(&supervisor, spec);
    assert_eq!(pid.state(), State::Running);
    assert_eq!(ids(&supervisor), ["child1"]);
}

#[test]
fn a_supervisor_runs_once_at_a_time() {
    let world = World::new();
    let supervisor = world.supervisor(Strategy::OneForOne);
    world.start(&supervisor);
    assert!(matches!(world.run(supervisor.start(&world.system)), Err(ChildError::Failed(Exit::Error(_)))));
    world.run(supervisor.stop());
    world.start(&supervisor);
    let dynamic = DynamicSupervisor::new("dynamic");
    world.run(dynamic.start(&world.system)).unwrap();
    assert!(world.run(dynamic.start(&world.system)).is_err());
    world.run(dynamic.stop());
    assert!(world.run(dynamic.start(&world.system)).is_ok());
}

#[test]
fn the_end_of_a_child_waits_until_its_supervisor_is_up() {
    let world = World::new();
    let slow = ChildSpec::new("slow", |ctx| async move {
        ctx.sleep(seconds(2)).await?;
        ctx.ready();
        ctx.shutdown().await;
        Ok::<_, Exit>(())
    });
    let supervisor = world.supervisor(Strategy::OneForOne).with(slow);
    let start = supervisor.start(&world.system);
    world.settle();
    let end = supervisor.terminate_child("slow");
    world.run(start).expect("it starts, whole");
    assert_eq!(world.time.now(), seconds(2));
    assert_eq!(world.run(end), Ok(()));
    assert_eq!(supervisor.count_children().active, 0);
}
