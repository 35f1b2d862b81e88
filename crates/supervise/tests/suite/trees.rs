//! Trees of supervisors, and what stands beside a child.

use tinkex_supervise::*;

use crate::world::*;

#[test]
fn temporary_bystander() {
    for strategy in [Strategy::OneForAll, Strategy::RestForOne] {
        let world = World::new();
        let supervisor = world.started(strategy);
        let one = world.add(&supervisor, world.child("child1"));
        world.add(&supervisor, world.child("child2").restart(Restart::Temporary));
        world.terminate(&one, Exit::Normal);
        assert!(supervisor.pid().is_some());
        assert_eq!(ids(&supervisor), ["child1"]);
    }
}

#[test]
fn child_unlink() {
    // OTP: a child that cuts its link can't make the supervisor hang. Here the link is not the child's to cut; what is
    // left to try is to ignore the request to stop.
    let world = World::new();
    let supervisor = world.started(Strategy::OneForOne);
    let naughty = ChildSpec::new("naughty_child", |ctx| async move {
        ctx.ready();
        std::future::pending::<()>().await;
    });
    world.add(&supervisor, naughty.shutdown(Shutdown::After(seconds(1))));
    world.run(supervisor.terminate_child("naughty_child")).unwrap();
    assert_eq!(world.time.now(), seconds(1));
    world.add(&supervisor, world.child("next"));
}

#[test]
fn tree() {
    let world = World::new();
    let four = |name: &str| Supervisor::new(name).intensity(4, seconds(3600));
    let sup1 = four("supchild1").with(world.child("child1")).with(world.child("child2"));
    let (sup2, sup3) = (four("supchild2"), four("supchild3"));
    let top = four("top").strategy(Strategy::OneForAll);
    world.start(&top);
    world.add(&top, sup1.child());
    let sup2_pid = world.add(&top, sup2.child());
    world.add(&top, sup3.child().restart(Restart::Transient));
    world.run(top.terminate_child("supchild3")).unwrap();
    assert_eq!(counts(top.count_children()), [3, 2, 3, 0]);

    let (child1, child2) = (pid_of(&sup1, "child1"), pid_of(&sup1, "child2"));
    assert_eq!(counts(sup2.count_children()), [0, 0, 0, 0]);
    let child3 = world.add(&sup2, world.child_that_starts_once("child3"));
    let child4 = world.add(&sup2, world.child("child4"));
    world.terminate(&child4, abnormal());
    assert!(child1.is_alive() && child2.is_alive() && child3.is_alive());
    assert_ne!(pid_of(&sup2, "child4"), child4);

    world.terminate(&child3, abnormal());
    assert_eq!(sup2_pid.exit_reason(), Some(Exit::Shutdown), "its restarts were used up");
    assert_eq!(ids(&top), ["supchild3", "supchild2", "supchild1"]);
    assert_eq!(counts(top.count_children()), [3, 3, 3, 0]);
    assert!(!child1.is_alive());
    assert_eq!(ids(&sup1), ["child2", "child1"]);
    assert_eq!(ids(&sup2), Vec::<String>::new(), "children that were added later are not part of its plan");
    assert_eq!(counts(sup3.count_children()), [0, 0, 0, 0]);
}

#[test]
fn already_started_outside_supervisor() {
    // OTP: the start function answers with a process that somebody else started. Here a name is what may be taken.
    let world = World::new();
    let spec = |id: &str| {
        ChildSpec::new(id, |ctx| async move {
            ctx.register("server", ())?;
            ctx.ready();
            ctx.shutdown().await;
            Ok::<_, Exit>(())
        })
    };
    let first = world.supervisor(Strategy::OneForOne).with(spec("child1"));
    world.start(&first);
    let second = world.started(Strategy::OneForOne);
    let error = world.run(second.start_child(spec("child1"))).unwrap_err();
    assert!(error.to_string().contains("the name server is taken"), "{error}");
    assert_eq!(second.which_children(), []);
}

#[test]
fn simple_global_supervisor() {
    // Names survive neither their owner nor get lost when it is restarted.
    let world = World::new();
    let server = ChildSpec::new("server", |ctx| async move {
        ctx.register("server", ctx.pid())?;
        ctx.ready();
        ctx.shutdown().await;
        Ok::<_, Exit>(())
    });
    let middle = Supervisor::new("sup2").strategy(Strategy::OneForAll).intensity(3, seconds(60)).with(server);
    let top =
        Supervisor::new("top").strategy(Strategy::OneForAll).intensity(3, seconds(60)).with(middle.child());
    world.start(&top);
    let names = world.system.names();
    let named = || names.find::<Pid>("server").expect("the name is known");
    let ways: [&dyn Fn(); 4] = [
        &|| middle.pid().unwrap().kill(Exit::Killed),
        &|| named().kill(Exit::Killed),
        &|| named().kill(Exit::Normal),
        &|| {
            world.run(middle.terminate_child("server")).unwrap();
            world.run(middle.restart_child("server")).unwrap();
        },
    ];
    for way in ways {
        let before = named();
        way();
        world.settle();
        assert_ne!(named(), before);
        assert!(named().is_alive());
    }
    world.run(top.stop());
    assert!(names.find::<Pid>("server").is_none());
}
