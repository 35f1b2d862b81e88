//! Significant children, and supervisors that stop when they have ended.

use tinkex_supervise::*;

use crate::world::*;

const MODES: [AutoShutdown; 3] =
    [AutoShutdown::Never, AutoShutdown::AnySignificant, AutoShutdown::AllSignificant];

fn supervisor(world: &World, strategy: Strategy, auto: AutoShutdown) -> (Supervisor, Pid) {
    let supervisor =
        Supervisor::new("sup_test").strategy(strategy).auto_shutdown(auto).intensity(5, seconds(5));
    let pid = world.start(&supervisor);
    (supervisor, pid)
}

/// Three children, of which the first two are significant.
fn three(world: &World, restart: Restart, auto: AutoShutdown) -> (Supervisor, Pid) {
    let (supervisor, pid) = supervisor(world, Strategy::OneForOne, auto);
    for (id, significant) in [("child1", true), ("child2", true), ("child3", false)] {
        world.add(&supervisor, world.child(id).restart(restart).significant(significant));
    }
    (supervisor, pid)
}

#[test]
fn nonsignificant_temporary() {
    for auto in MODES {
        let world = World::new();
        let (supervisor, pid) = supervisor(&world, Strategy::OneForOne, auto);
        let child = || world.child("child1").restart(Restart::Temporary);
        world.add(&supervisor, child());
        world.run(supervisor.terminate_child("child1")).unwrap();
        for exit in [Exit::Killed, abnormal(), Exit::Normal] {
            world.terminate(&world.add(&supervisor, child()), exit);
        }
        assert!(pid.is_alive());
    }
}

#[test]
fn nonsignificant_transient() {
    for auto in MODES {
        let world = World::new();
        let (supervisor, pid) = supervisor(&world, Strategy::OneForOne, auto);
        world.add(&supervisor, world.child("child1").restart(Restart::Transient));
        world.run(supervisor.terminate_child("child1")).unwrap();
        world.run(supervisor.restart_child("child1")).unwrap();
        for exit in [Exit::Killed, abnormal(), Exit::Normal] {
            world.terminate(&pid_of(&supervisor, "child1"), exit);
        }
        assert!(pid.is_alive());
    }
}

#[test]
fn significant_temporary() {
    let world = World::new();
    let (supervisor, pid) = three(&world, Restart::Temporary, AutoShutdown::AnySignificant);
    world.run(supervisor.terminate_child("child1")).unwrap();
    world.settle();
    assert!(pid.is_alive(), "what was asked for triggers nothing");
    for exit in [Exit::Killed, abnormal(), Exit::Normal] {
        let (supervisor, pid) = three(&world, Restart::Temporary, AutoShutdown::AnySignificant);
        let others = [pid_of(&supervisor, "child2"), pid_of(&supervisor, "child3")];
        world.terminate(&pid_of(&supervisor, "child1"), exit);
        assert_eq!(pid.exit_reason(), Some(Exit::Shutdown));
        assert!(others.iter().all(|other| other.exit_reason() == Some(Exit::Shutdown)));
    }
    let (supervisor, pid) = three(&world, Restart::Temporary, AutoShutdown::AllSignificant);
    world.terminate(&pid_of(&supervisor, "child1"), Exit::Normal);
    assert!(pid.is_alive());
    world.terminate(&pid_of(&supervisor, "child3"), Exit::Normal);
    assert!(pid.is_alive());
    world.terminate(&pid_of(&supervisor, "child2"), Exit::Normal);
    assert_eq!(pid.exit_reason(), Some(Exit::Shutdown));
}

#[test]
fn significant_transient() {
    let world = World::new();
    let (supervisor, pid) = three(&world, Restart::Transient, AutoShutdown::AnySignificant);
    world.run(supervisor.terminate_child("child1")).unwrap();
    world.run(supervisor.restart_child("child1")).unwrap();
    for exit in [Exit::Killed, abnormal()] {
        world.terminate(&pid_of(&supervisor, "child1"), exit);
        assert!(pid.is_alive(), "it was restarted");
        assert!(supervisor.child_pid("child1").is_some());
    }
    world.terminate(&pid_of(&supervisor, "child1"), Exit::Normal);
    assert_eq!(pid.exit_reason(), Some(Exit::Shutdown));

    let (supervisor, pid) = three(&world, Restart::Transient, AutoShutdown::AllSignificant);
    world.terminate(&pid_of(&supervisor, "child1"), Exit::Normal);
    assert!(pid.is_alive());
    world.terminate(&pid_of(&supervisor, "child2"), Exit::Shutdown);
    assert_eq!(pid.exit_reason(), Some(Exit::Shutdown));
}

#[test]
fn a_significant_child_that_is_being_restarted_has_not_ended() {
    let world = World::new();
    let (supervisor, pid) = supervisor(&world, Strategy::OneForOne, AutoShutdown::AllSignificant);
    let significant = |spec: ChildSpec| spec.restart(Restart::Transient).significant(true);
    let hanging = world.child_that("child1", [Init::Ready, Init::Never]).shutdown(Shutdown::BrutalKill);
    world.add(&supervisor, significant(hanging));
    world.add(&supervisor, significant(world.child("child2")));
    world.terminate(&pid_of(&supervisor, "child1"), abnormal());
    world.terminate(&pid_of(&supervisor, "child2"), Exit::Normal);
    assert!(pid.is_alive());
}

#[test]
fn significant_simple() {
    // A dynamic supervisor has no automatic shutdown, as OTP's simple_one_for_one may have none.
    let world = World::new();
    let supervisor = DynamicSupervisor::new("sup_test");
    world.run(supervisor.start(&world.system)).unwrap();
    let significant = world.child("child1").restart(Restart::Transient).significant(true);
    assert_eq!(
        world.run(supervisor.start_child(significant)).map(drop),
        Err(ChildError::Spec(SpecError::SignificantNever("child1".into())))
    );
}

#[test]
fn significant_bystander() {
    for auto in [AutoShutdown::AnySignificant, AutoShutdown::AllSignificant] {
        for (strategy, stopped) in
            [(Strategy::OneForOne, 0), (Strategy::RestForOne, 1), (Strategy::OneForAll, 2)]
        {
            let world = World::new();
            let (supervisor, pid) = supervisor(&world, strategy, auto);
            let child =
                |id, significant| world.child(id).restart(Restart::Transient).significant(significant);
            let one = world.add(&supervisor, child("child1", true));
            let two = world.add(&supervisor, child("child2", false));
            let three = world.add(&supervisor, child("child3", true));
            world.terminate(&two, Exit::Killed);
            assert_eq!([&one, &three].iter().filter(|pid| !pid.is_alive()).count(), stopped);
            assert!(pid.is_alive());
            assert_eq!(counts(supervisor.count_children()), [3, 3, 0, 3]);
        }
    }
}

#[test]
fn significant_escalation() {
    for significant in [true, false] {
        let world = World::new();
        let (outer, outer_pid) = supervisor(&world, Strategy::OneForOne, AutoShutdown::AnySignificant);
        let inner = Supervisor::new("sup1").auto_shutdown(AutoShutdown::AnySignificant);
        let inner_pid = world.add(&outer, inner.child().restart(Restart::Transient).significant(significant));
        let child = world.child("child1").restart(Restart::Transient).significant(true);
        let child_pid = world.add(&inner, child);
        world.terminate(&child_pid, Exit::Normal);
        assert_eq!(inner_pid.exit_reason(), Some(Exit::Shutdown));
        assert_eq!(outer_pid.is_alive(), !significant);
    }
}
