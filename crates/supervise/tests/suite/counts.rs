//! What a supervisor says of its children.

use std::rc::Rc;

use tinkex_supervise::*;

use crate::world::*;

#[test]
fn count_children() {
    let world = World::new();
    let supervisor = DynamicSupervisor::new("sup_test").intensity(2, seconds(3600));
    world.run(supervisor.start(&world.system)).unwrap();
    let spec = || world.child("child").restart(Restart::Temporary);
    for total in [1000, 2000] {
        for _ in 0..1000 {
            drop(supervisor.start_child(spec()));
        }
        world.settle();
        assert_eq!(supervisor.which_children().len(), total);
        assert_eq!(counts(supervisor.count_children()), [total, total, 0, total]);
    }
    for child in supervisor.which_children() {
        child.pid.unwrap().kill(Exit::Killed);
    }
    world.settle();
    assert_eq!(counts(supervisor.count_children()), [0, 0, 0, 0]);
}

#[test]
fn count_children_supervisor() {
    let world = World::new();
    let supervisor = DynamicSupervisor::new("sup_test");
    world.run(supervisor.start(&world.system)).unwrap();
    for _ in 0..2000 {
        drop(supervisor.start_child(Supervisor::new("child").child().restart(Restart::Temporary)));
    }
    world.settle();
    assert_eq!(counts(supervisor.count_children()), [2000, 2000, 2000, 0]);
    world.run(supervisor.stop());
    assert_eq!(world.system.live(), 0);
}

#[test]
fn count_restarting_children() {
    let world = World::new();
    let supervisor = DynamicSupervisor::new("sup_test").intensity(20, seconds(10));
    world.run(supervisor.start(&world.system)).unwrap();
    let fails = Rc::new(std::cell::Cell::new(false));
    let spec = || {
        let fails = fails.clone();
        let init = move |_| if fails.get() { Init::FailAfter(seconds(2), abnormal()) } else { Init::Ready };
        world.child_with("child", init).shutdown(Shutdown::BrutalKill)
    };
    for alive in 1..=3 {
        world.add_to(&supervisor, spec());
        assert_eq!(counts(supervisor.count_children()), [alive, alive, 0, alive]);
    }
    let pids = || supervisor.which_children().into_iter().filter_map(|child| child.pid).collect::<Vec<_>>();
    for pid in pids() {
        world.terminate(&pid, abnormal());
    }
    assert_eq!(counts(supervisor.count_children()), [3, 3, 0, 3]);
    fails.set(true);
    let now = pids();
    world.terminate(&now[0], abnormal());
    world.terminate(&now[1], abnormal());
    world.time.advance(ms(4500));
    assert_eq!(counts(supervisor.count_children()), [3, 1, 0, 3]);
    assert_eq!(supervisor.which_children().iter().filter(|child| child.restarting).count(), 2);
    fails.set(false);
    world.time.advance(seconds(4));
    assert_eq!(counts(supervisor.count_children()), [3, 3, 0, 3]);
    for left in [2, 1, 0] {
        world.run(supervisor.terminate_child(&pids()[0])).unwrap();
        assert_eq!(counts(supervisor.count_children()), [left, left, 0, left]);
    }
}

#[test]
fn which_children() {
    let world = World::new();
    let supervisor = world
        .supervisor(Strategy::OneForOne)
        .with(world.child("child1"))
        .with(Supervisor::new("child2").child());
    world.start(&supervisor);
    let [second, first] = &supervisor.which_children()[..] else { panic!("two children") };
    assert_eq!((&*second.id, second.kind), ("child2", Kind::Supervisor));
    assert_eq!((&*first.id, first.kind), ("child1", Kind::Worker));
    assert_eq!(first.pid, supervisor.child_pid("child1"));
    assert_eq!((first.restarting, first.restarts), (false, 0));
    assert_eq!(Supervisor::new("nobody").count_children(), Counts::default());
}

#[test]
fn which_children_simple_one_for_one() {
    let world = World::new();
    let supervisor = DynamicSupervisor::new("sup_test");
    world.run(supervisor.start(&world.system)).unwrap();
    let one = world.add_to(&supervisor, world.child("a"));
    let two = world.add_to(&supervisor, world.child("a"));
    let pids: Vec<_> = supervisor.which_children().into_iter().map(|child| child.pid.unwrap()).collect();
    assert_eq!(pids, [one, two]);
}

#[test]
fn a_first_start_is_not_called_a_restart() {
    let world = World::new();
    let supervisor = world.started(Strategy::OneForOne);
    drop(supervisor.start_child(world.child_that("slow", [Init::Never])));
    world.settle();
    let [child] = &supervisor.which_children()[..] else { panic!("one child") };
    assert!(!child.restarting && child.pid.is_none());
}
