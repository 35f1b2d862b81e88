//! A child whose restart fails again and again can be stopped, and so can its supervisor.

use tinkex_supervise::*;

use crate::world::*;

/// A supervisor whose `child` hangs in a loop of failing restarts, two seconds each.
fn in_a_restart_loop(world: &World, strategy: Strategy, around: bool) -> (Supervisor, Pid) {
    let supervisor = Supervisor::new("sup_test").strategy(strategy).intensity(8, seconds(10));
    world.start(&supervisor);
    if around {
        world.add(&supervisor, world.child("before").shutdown(Shutdown::BrutalKill));
    }
    let fail = Init::FailAfter(seconds(2), abnormal());
    let turns = [vec![Init::Ready], vec![fail.clone(); 3], vec![Init::Ready], vec![fail; 8]].concat();
    let child = world.add(&supervisor, world.child_that("child", turns).shutdown(Shutdown::BrutalKill));
    if around {
        world.add(&supervisor, world.child("behind").shutdown(Shutdown::BrutalKill));
    }
    world.terminate(&child, abnormal());
    (supervisor, child)
}

#[test]
fn hanging_restart_loop() {
    let world = World::new();
    let (supervisor, child) = in_a_restart_loop(&world, Strategy::OneForOne, false);
    let start = || world.run(supervisor.start_child(world.child("child"))).map(drop);
    assert_eq!(start(), Err(ChildError::AlreadyPresent));
    assert_eq!(world.time.now(), seconds(2), "answered between two attempts");
    assert_eq!(world.run(supervisor.restart_child("child")).map(drop), Err(ChildError::Restarting));
    assert_eq!(world.run(supervisor.delete_child("child")), Err(ChildError::Restarting));
    assert_eq!(ids(&supervisor), ["child restarting"]);
    assert_eq!(counts(supervisor.count_children()), [1, 0, 0, 1]);
    assert_eq!(child.exit_reason(), Some(abnormal()));

    world.run(supervisor.terminate_child("child")).unwrap();
    assert_eq!(ids(&supervisor), ["child undefined"]);
    world.time.advance(seconds(10));
    assert_eq!(ids(&supervisor), ["child undefined"], "the loop is over");
    // One failure is left over, where the loop was ended during an attempt.
    while world.run(supervisor.restart_child("child")).is_err() {}
    world.terminate(&pid_of(&supervisor, "child"), abnormal());
    world.time.advance(seconds(1));
    let pid = supervisor.pid().unwrap();
    let before = world.time.now();
    assert_eq!(world.run(supervisor.stop()), Exit::Shutdown);
    assert_eq!(world.time.now(), before, "it does not wait for the attempt");
    assert_eq!(pid.exit_reason(), Some(Exit::Shutdown));
}

#[test]
fn hanging_restart_loop_rest_for_one() {
    let world = World::new();
    let (supervisor, _) = in_a_restart_loop(&world, Strategy::RestForOne, true);
    let before = pid_of(&supervisor, "before");
    assert_eq!(world.run(supervisor.restart_child("child")).map(drop), Err(ChildError::Restarting));
    assert_eq!(ids(&supervisor), ["behind undefined", "child restarting", "before"]);
    assert_eq!(counts(supervisor.count_children()), [3, 1, 0, 3]);
    world.run(supervisor.terminate_child("child")).unwrap();
    assert_eq!(ids(&supervisor), ["behind undefined", "child undefined", "before"]);
    assert_eq!(pid_of(&supervisor, "before"), before);
    while world.run(supervisor.restart_child("child")).is_err() {}
    world.terminate(&pid_of(&supervisor, "child"), abnormal());
    assert_eq!(world.run(supervisor.stop()), Exit::Shutdown);
}

#[test]
fn hanging_restart_loop_simple() {
    let world = World::new();
    let supervisor = DynamicSupervisor::new("sup_test").intensity(8, seconds(10));
    world.run(supervisor.start(&world.system)).unwrap();
    let looping = || {
        let fail = Init::FailAfter(seconds(2), abnormal());
        let turns = [vec![Init::Ready], vec![fail; 20]].concat();
        world.child_that("child", turns).shutdown(Shutdown::BrutalKill)
    };
    let child = world.add_to(&supervisor, looping());
    world.terminate(&child, abnormal());
    world.time.advance(seconds(2));
    assert!(supervisor.which_children()[0].restarting);
    assert_eq!(counts(supervisor.count_children()), [1, 0, 0, 1]);
    world.run(supervisor.terminate_child(&child)).unwrap();
    assert_eq!(supervisor.which_children(), []);
    let child = world.add_to(&supervisor, looping());
    world.terminate(&child, abnormal());
    let now = world.time.now();
    assert_eq!(world.run(supervisor.stop()), Exit::Shutdown);
    assert_eq!(world.time.now(), now);
}
