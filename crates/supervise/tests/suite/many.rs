//! The order of children, and the cost of each where there are many.

use tinkex_supervise::*;

use crate::world::*;

#[test]
fn order_of_children() {
    let world = World::new();
    let supervisor = world.supervisor(Strategy::RestForOne).with(world.child("a")).with(world.child("b"));
    world.start(&supervisor);
    world.add(&supervisor, world.child("c"));
    world.add(&supervisor, world.child("d"));
    world.add(&supervisor, world.child("e"));
    assert_eq!(world.log(), ["+a", "+b", "+c", "+d", "+e"]);
    assert_eq!(ids(&supervisor), ["e", "d", "c", "b", "a"]);
    world.terminate(&pid_of(&supervisor, "c"), abnormal());
    assert_eq!(world.log(), ["-c", "-e", "-d", "+c", "+d", "+e"]);
    world.run(supervisor.terminate_child("b")).unwrap();
    world.run(supervisor.restart_child("b")).unwrap();
    world.log();
    assert_eq!(ids(&supervisor), ["e", "d", "c", "b", "a"], "a restarted child keeps its place");
    world.run(supervisor.stop());
    assert_eq!(world.log(), ["-e", "-d", "-c", "-b", "-a"]);
}

/// Starts and stops so many children; gives polls of the executor for each.
fn polls_per_child(children: u64) -> u64 {
    let world = World::new();
    let supervisor = Supervisor::new("sup_test");
    world.start(&supervisor);
    let before = world.time.polls();
    for nth in 0..children {
        let spec = ChildSpec::new(nth.to_string(), |ctx| async move {
            ctx.ready();
            ctx.shutdown().await;
        });
        drop(supervisor.start_child(spec));
    }
    world.settle();
    assert_eq!(supervisor.count_children().active as u64, children);
    world.run(supervisor.stop());
    assert_eq!(world.system.live(), 0);
    (world.time.polls() - before) / children
}

#[test]
fn scale_start_stop_many_children() {
    // OTP compares times; a count of polls can't be disturbed by a busy machine.
    assert_eq!(polls_per_child(1_000), 4, "two to start, two to stop");
    assert_eq!(polls_per_child(10_000), 4);
}

#[test]
fn simple_one_for_one_scale_many_temporary_children() {
    let polls = |children: u64| {
        let world = World::new();
        let supervisor = DynamicSupervisor::new("sup_test");
        world.run(supervisor.start(&world.system)).unwrap();
        for _ in 0..children {
            drop(supervisor.start_child(world.child("child").restart(Restart::Temporary)));
        }
        world.settle();
        let before = world.time.polls();
        for child in supervisor.which_children() {
            world.run(supervisor.terminate_child(&child.pid.unwrap())).unwrap();
        }
        assert_eq!(supervisor.which_children(), []);
        (world.time.polls() - before) / children
    };
    assert_eq!(polls(100), polls(1_000));
}
