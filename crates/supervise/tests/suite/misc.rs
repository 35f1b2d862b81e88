//! The rest of OTP's suite: trees, counts, restart loops, order, and many children.

use std::rc::Rc;

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
fn do_not_save_start_parameters_for_temporary_children() {
    let world = World::new();
    let large = Rc::new([0_u8; 1000]);
    let spec = |id: &str, restart| {
        let large = large.clone();
        ChildSpec::new(id, move |ctx| {
            let _ = &large;
            async move {
                ctx.ready();
                ctx.shutdown().await;
            }
        })
        .restart(restart)
    };
    for strategy in [Strategy::OneForAll, Strategy::OneForOne, Strategy::RestForOne] {
        let supervisor = world.started(strategy);
        world.add(&supervisor, spec("temporary", Restart::Temporary));
        let permanent = world.add(&supervisor, spec("permanent", Restart::Permanent));
        assert_eq!(Rc::strong_count(&large), 2, "what the temporary child was made from is not kept");
        let again = supervisor.child_spec("temporary").unwrap();
        world.run(supervisor.terminate_child("temporary")).unwrap();
        assert_eq!(
            world.run(supervisor.start_child(again)).map(drop),
            Err(ChildError::Failed(Exit::NoProcess))
        );
        world.run(supervisor.terminate_child("permanent")).unwrap();
        assert_eq!(Rc::strong_count(&large), 2, "what the permanent one has is kept for its restart");
        drop(permanent);
        world.run(supervisor.stop());
        assert_eq!(Rc::strong_count(&large), 1);
    }
}

#[test]
fn simple_one_for_one_corruption() {
    let world = World::new();
    let supervisor = DynamicSupervisor::new("sup_test");
    world.run(supervisor.start(&world.system)).unwrap();
    let large = Rc::new([0_u8; 1000]);
    for _ in 0..3 {
        let captured = large.clone();
        let spec = ChildSpec::new("child", move |ctx| {
            let _ = &captured;
            async move {
                ctx.ready();
                ctx.shutdown().await;
            }
        });
        let pid = world.add_to(&supervisor, spec.restart(Restart::Temporary));
        world.terminate(&pid, abnormal());
        assert_eq!(Rc::strong_count(&large), 1);
    }
    assert_eq!(supervisor.which_children(), []);
}

#[test]
fn do_not_save_child_specs_for_temporary_children() {
    let world = World::new();
    for strategy in [Strategy::OneForAll, Strategy::OneForOne, Strategy::RestForOne] {
        for exit in [Some(Exit::Killed), Some(Exit::Normal), Some(abnormal()), None] {
            let supervisor = world.started(strategy);
            for restart in [Restart::Permanent, Restart::Transient, Restart::Temporary] {
                let id = format!("{restart:?}");
                let pid = world.add(&supervisor, world.child(&id).restart(restart));
                match &exit {
                    Some(exit) => world.terminate(&pid, exit.clone()),
                    None => world.run(supervisor.terminate_child(&id)).unwrap(),
                }
                let again = world.run(supervisor.start_child(world.child(&id).restart(restart)));
                let graceful = exit.as_ref().is_none_or(Exit::is_graceful);
                match restart {
                    Restart::Temporary => assert!(again.is_ok()),
                    Restart::Transient if graceful => {
                        assert_eq!(again.unwrap_err(), ChildError::AlreadyPresent)
                    }
                    Restart::Permanent if exit.is_none() => {
                        assert_eq!(again.unwrap_err(), ChildError::AlreadyPresent);
                    }
                    _ => assert!(matches!(again.unwrap_err(), ChildError::AlreadyStarted(_))),
                }
                if supervisor.child_pid(&id).is_none() {
                    assert!(world.run(supervisor.restart_child(&id)).is_ok());
                }
            }
            world.run(supervisor.stop());
        }
    }
}

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

#[test]
fn format_log_1() {
    let world = World::new();
    let supervisor = world.started(Strategy::OneForOne);
    let pid = world.add(&supervisor, world.child("any_id"));
    let line = |report: Report| report.to_string();
    assert_eq!(line(world.reports.borrow()[0].clone()), "sup_test: started any_id");
    let slow = Report::SlowPoll { process: pid.clone(), took: ms(60) };
    assert_eq!(line(slow), "any_id held the thread for 60 ms");
    let suspended = Report::Suspended { asked: ms(10), took: ms(60) };
    assert_eq!(line(suspended), "a timer of 10 ms took 60 ms: suspended");
    let contained = Report::Contained { supervisor: "s".into(), reason: abnormal() };
    assert_eq!(line(contained), "s: contained abnormal");
    let task = Report::TaskExited { supervisor: "s".into(), pid, reason: abnormal() };
    assert_eq!(line(task), "s: any_id: abnormal");
}

#[test]
fn format_log_2() {
    let line = |context| {
        let report = Report::Supervisor {
            supervisor: "my_supervisor".into(),
            context,
            reason: abnormal(),
            offender: "any_id".into(),
        };
        report.to_string()
    };
    assert_eq!(line(ReportContext::ShutdownError), "my_supervisor: shutdown_error of any_id: abnormal");
    assert_eq!(line(ReportContext::StartError), "my_supervisor: start_error of any_id: abnormal");
    assert_eq!(line(ReportContext::ChildTerminated), "my_supervisor: child_terminated of any_id: abnormal");
    assert_eq!(line(ReportContext::Shutdown), "my_supervisor: shutdown of any_id: abnormal");
}
