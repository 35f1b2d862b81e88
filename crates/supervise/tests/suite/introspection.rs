//! What can be seen of a tree: its nodes, their changes, their waits and queues, and slow polls.

use std::rc::Rc;

use futures_util::FutureExt;
use tinkex_supervise::*;

use crate::world::*;

fn lines(nodes: &[Node]) -> Vec<String> {
    nodes.iter().map(|node| format!("{} {}", node.name, node.state.as_str())).collect()
}

#[test]
fn a_snapshot_shows_every_node_under_its_supervisor() {
    let world = World::new();
    let tasks = TaskSupervisor::new("tasks");
    let root = world.supervisor(Strategy::OneForOne).with(tasks.child()).with(world.child("store"));
    world.start(&root);
    world.time.advance(seconds(3));
    let task = tasks.spawn("poll", |ctx| async move { ctx.shutdown().await });
    world.settle();
    let nodes = world.system.snapshot();
    assert_eq!(lines(&nodes), ["sup_test running", "tasks running", "store running", "poll running"]);
    let node = |name| nodes.iter().find(|node| &*node.name == name).unwrap();
    assert_eq!(node("sup_test").parent, None);
    assert_eq!(node("tasks").parent, Some(node("sup_test").id));
    assert_eq!(node("poll").parent, Some(node("tasks").id));
    assert_eq!((node("poll").kind, node("tasks").kind), (Kind::Task, Kind::TaskSupervisor));
    assert_eq!((node("sup_test").kind, node("store").kind), (Kind::Supervisor, Kind::Worker));
    assert_eq!(world.system.now() - node("store").started, seconds(3));
    assert_eq!(node("poll").started, seconds(3));
    assert_eq!(node("tasks").queues, [("running", 1), ("queued", 0)]);
    assert_eq!(node("sup_test").queues, [("events", 0)]);
    task.cancel();
    world.run(task).unwrap();
}

#[test]
fn a_node_says_what_it_waits_for_and_since_when() {
    let world = World::new();
    let tasks = TaskSupervisor::new("tasks");
    world.run(tasks.start(&world.system)).unwrap();
    drop(tasks.spawn("request", |ctx| async move {
        ctx.sleep(seconds(1)).await?;
        let _outer = ctx.waiting_for("the service");
        {
            let _inner = ctx.waiting_for(format!("poll {}", 7));
            ctx.sleep(seconds(1)).await?;
        }
        ctx.sleep(seconds(1)).await
    }));
    let waits = || {
        let node = world.system.snapshot().into_iter().find(|node| &*node.name == "request")?;
        node.waits.map(|(what, since)| (what.to_string(), since))
    };
    world.settle();
    assert_eq!(waits(), None);
    world.time.advance(seconds(1));
    assert_eq!(waits(), Some(("poll 7".into(), seconds(1))));
    world.time.advance(seconds(1));
    assert_eq!(waits(), Some(("the service".into(), seconds(1))));
    world.time.advance(seconds(1));
    assert_eq!(waits(), None);
}

#[test]
fn children_that_do_not_run_are_in_the_snapshot() {
    let world = World::new();
    let turns = [Init::Ready, Init::Fail(abnormal()), Init::FailAfter(seconds(9), abnormal())];
    let supervisor = Supervisor::new("sup")
        .strategy(Strategy::RestForOne)
        .intensity(5, seconds(60))
        .with(world.child("stopped"))
        .with(world.child_that("a", turns).shutdown(Shutdown::BrutalKill))
        .with(world.child("behind"));
    world.start(&supervisor);
    world.run(supervisor.terminate_child("stopped")).unwrap();
    pid_of(&supervisor, "a").kill(abnormal());
    world.settle();
    let nodes = world.system.snapshot();
    assert_eq!(lines(&nodes), ["sup running", "stopped stopped", "behind stopped", "a starting"]);
    assert_eq!(nodes[3].restarts, 2);
    assert!(nodes.iter().skip(1).all(|node| node.parent == Some(nodes[0].id)));
    let mut states = vec![];
    for state in [State::Restarting, State::Exited, State::Stopping] {
        states.push(state.as_str());
    }
    assert_eq!(states, ["restarting", "exited", "stopping"]);
}

#[test]
fn a_restart_that_is_due_is_seen() {
    let world = World::new();
    let supervisor = Supervisor::new("sup").intensity(5, seconds(60)).with(world.child_that_starts_once("a"));
    world.start(&supervisor);
    // Seen from the midst: when the failed attempt is reported, the next one is due.
    let seen = Rc::new(std::cell::RefCell::new(Vec::new()));
    let (system, notes) = (world.system.clone(), seen.clone());
    world.system.on_report(move |report| {
        if matches!(report, Report::Supervisor { context: ReportContext::StartError, .. }) {
            notes.borrow_mut().push(lines(&system.snapshot())[1].clone());
        }
    });
    world.terminate(&pid_of(&supervisor, "a"), abnormal());
    assert_eq!(*seen.borrow(), ["a restarting"; 5]);
}

#[test]
fn changes_are_told_as_they_come() {
    let world = World::new();
    let mut changes = world.system.changes();
    let supervisor = world.supervisor(Strategy::OneForOne).with(world.child("a"));
    world.start(&supervisor);
    let names = |changes: &[Change]| -> Vec<String> {
        let line = |change: &Change| match change {
            Change::Set(node) => format!("{} {}", node.name, node.state.as_str()),
            Change::Gone { exit, .. } => format!("gone {}", exit.as_ref().map_or("?", Exit::kind)),
        };
        changes.iter().map(line).collect()
    };
    assert_eq!(names(&world.run(changes.next())), ["sup_test running", "a running"]);
    assert!(changes.next().now_or_never().is_none(), "nothing is new");
    assert!(changes.take().is_empty());
    world.terminate(&pid_of(&supervisor, "a"), abnormal());
    assert_eq!(names(&world.run(changes.next())), ["gone error", "a running"]);
    world.run(supervisor.stop());
    assert_eq!(names(&world.run(changes.next())), ["gone shutdown", "gone shutdown"]);
    drop(changes);
}

#[test]
fn a_listener_to_changes_is_woken() {
    let world = World::new();
    let mut changes = world.system.changes();
    let tasks = TaskSupervisor::new("tasks");
    world.run(tasks.start(&world.system)).unwrap();
    let system = world.system.clone();
    let watcher = tasks.spawn("watcher", move |_| async move {
        changes.next().await;
        loop {
            for change in changes.next().await {
                if let Change::Set(Node { name, waits: Some((what, _)), .. }) = change {
                    return (name, what, system.now());
                }
            }
        }
    });
    world.settle();
    drop(tasks.spawn("waiter", |ctx| async move {
        ctx.sleep(seconds(1)).await?;
        let _shown = ctx.waiting_for("rain");
        ctx.sleep(seconds(1)).await
    }));
    assert_eq!(world.run(watcher), Ok(("waiter".into(), "rain".into(), seconds(1))));
}

#[test]
fn what_a_slow_listener_misses_it_does_not_pile_up() {
    let world = World::new();
    let mut changes = world.system.changes();
    let tasks = TaskSupervisor::new("tasks");
    world.run(tasks.start(&world.system)).unwrap();
    for _ in 0..1000 {
        world.run(tasks.spawn("short", |_| async {})).unwrap();
    }
    assert_eq!(changes.take().len(), 1, "only the task supervisor is there");
}

#[test]
fn a_poll_that_holds_the_thread_is_reported_with_its_name() {
    let world = World::new();
    let tasks = TaskSupervisor::new("tasks");
    world.run(tasks.start(&world.system)).unwrap();
    let slow = |held: u64| {
        let time = world.time.clone();
        let task = tasks.spawn(format!("held {held}"), move |_| async move { time.burn(ms(held)) });
        world.run(task).unwrap();
    };
    slow(50);
    slow(51);
    world.system.report_polls_over(Some(seconds(1)));
    slow(999);
    slow(1001);
    world.system.report_polls_over(None);
    slow(5000);
    let reported = |report: &Report| match report {
        Report::SlowPoll { process, took } => Some((process.name().to_string(), *took)),
        _ => None,
    };
    let reports: Vec<_> = world.reports.borrow().iter().filter_map(reported).collect();
    assert_eq!(reports, [("held 51".into(), ms(51)), ("held 1001".into(), ms(1001))]);
}

#[test]
fn a_process_knows_itself() {
    let world = World::new();
    let tasks = TaskSupervisor::new("tasks");
    world.run(tasks.start(&world.system)).unwrap();
    assert!(Context::current().is_none());
    let same = tasks.spawn("task", |ctx| async move {
        ctx.yield_now().await;
        let current = Context::current().unwrap();
        assert_eq!(format!("{current:?}"), "Context(task, Running)");
        assert_eq!(format!("{:?}", ctx.pid()), format!("Pid({} task)", ctx.pid().id()));
        current.pid() == ctx.pid() && ctx.restarts() == 0
    });
    assert_eq!(world.run(same), Ok(true));
    assert!(Context::current().is_none());
}

#[test]
fn a_child_knows_how_often_it_was_restarted() {
    let world = World::new();
    let supervisor = world.started(Strategy::OneForOne);
    let seen = Rc::new(std::cell::RefCell::new(Vec::new()));
    let notes = seen.clone();
    let spec = ChildSpec::new("child", move |ctx| {
        notes.borrow_mut().push(ctx.restarts());
        async move {
            ctx.ready();
            ctx.shutdown().await;
        }
    });
    world.add(&supervisor, spec);
    for _ in 0..2 {
        world.terminate(&pid_of(&supervisor, "child"), abnormal());
    }
    assert_eq!(*seen.borrow(), [0, 1, 2]);
}

#[test]
fn a_monitor_tells_the_exit_once_and_at_once_afterwards() {
    let world = World::new();
    let supervisor = world.started(Strategy::OneForOne);
    let pid = world.add(&supervisor, world.child("a").restart(Restart::Temporary));
    assert_eq!(pid.exit_reason(), None);
    let (one, two, dropped) = (pid.monitor(), pid.monitor(), pid.monitor());
    drop(dropped);
    let mut waiting = pid.monitor();
    assert!((&mut waiting).now_or_never().is_none());
    world.terminate(&pid, abnormal());
    assert_eq!(waiting.now_or_never(), Some(abnormal()));
    assert_eq!(world.run(one), abnormal());
    assert_eq!(world.run(two), abnormal());
    assert_eq!(pid.monitor().now_or_never(), Some(abnormal()));
    assert_eq!(pid.state(), State::Exited);
    pid.kill(Exit::Killed);
    pid.ask_to_stop();
    assert_eq!(pid.exit_reason(), Some(abnormal()), "an exit is final");
}

#[test]
fn names_are_taken_once() {
    let world = World::new();
    let supervisor = world.started(Strategy::OneForOne);
    let (one, two) = (world.add(&supervisor, world.child("a")), world.add(&supervisor, world.child("b")));
    let names = world.system.names();
    names.register(&one, "name", 1_u8).unwrap();
    names.register(&one, "other", "text").unwrap();
    let taken = names.register(&two, "name", 2_u8).unwrap_err();
    assert_eq!(taken, NameTaken { name: "name".into(), owner: one.clone() });
    assert_eq!(taken.to_string(), format!("the name name is taken by {}", one.name()));
    assert_eq!(names.find::<u8>("name"), Some(1));
    assert_eq!(names.find::<u16>("name"), None, "another type");
    assert_eq!(names.owner("name"), Some(one.clone()));
    assert!(names.unregister("name") && !names.unregister("name"));
    names.register(&two, "name", 2_u8).unwrap();
    world.run(supervisor.terminate_child("a")).unwrap();
    assert_eq!(names.find::<&str>("other"), None);
    assert_eq!(names.find::<u8>("name"), Some(2));
    names.register(&one, "late", ()).unwrap();
    assert!(names.owner("late").is_none(), "who has ended has no names");
}

#[test]
fn what_a_start_gives_says_whom_it_started() {
    let world = World::new();
    let supervisor = world.started(Strategy::OneForOne);
    let started = world.run(supervisor.start_child(world.child("a"))).unwrap();
    let pid = started.pid.clone().unwrap();
    assert_eq!(format!("{started:?}"), format!("Started(Some({pid:?}))"));
}
