//! Tasks: their results, their limits, their ends, and who shares their fate.

use std::{cell::Cell, rc::Rc};

use futures_util::{FutureExt, StreamExt};
use tinkex_supervise::*;

use crate::world::*;

fn started(world: &World, tasks: TaskSupervisor) -> TaskSupervisor {
    world.run(tasks.start(&world.system)).unwrap();
    tasks
}

#[test]
fn a_task_gives_its_value() {
    let world = World::new();
    let tasks = started(&world, TaskSupervisor::new("tasks"));
    let task = tasks.spawn("sum", |ctx| async move {
        assert_eq!(&**ctx.name(), "sum");
        1 + 1
    });
    assert_eq!(tasks.running(), 1);
    assert!(!task.is_finished());
    assert_eq!(world.run(task), Ok(2));
    assert_eq!(tasks.running(), 0);
}

#[test]
fn a_task_that_panics_gives_its_exit_and_the_others_go_on() {
    let world = World::new();
    let tasks = started(&world, TaskSupervisor::new("tasks"));
    let good = tasks.spawn("good", |ctx| async move { ctx.sleep(seconds(1)).await.map(|()| 7) });
    let bad = tasks.spawn("bad", |_| async { panic!("boom {}", 1) as u8 });
    let exit = world.run(bad).unwrap_err();
    let panic = exit.panic().unwrap();
    assert_eq!(&*panic.message, "boom 1");
    assert!(panic.place.contains("tasks.rs:"), "{}", panic.place);
    assert_eq!(panic.callers, ["bad".into()]);
    assert_eq!(world.run(good), Ok(Ok(7)));
    let reported = |report: &Report| matches!(report, Report::TaskExited { reason, .. } if *reason == exit);
    assert_eq!(world.reports.borrow().iter().filter(|report| reported(report)).count(), 1);
}

#[test]
fn a_handle_that_is_dropped_leaves_its_task_alone() {
    let world = World::new();
    let tasks = started(&world, TaskSupervisor::new("tasks"));
    let done = Rc::new(Cell::new(false));
    let flag = done.clone();
    drop(tasks.spawn("detached", move |_| async move { flag.set(true) }));
    world.settle();
    assert!(done.get());
}

#[test]
fn no_more_tasks_run_than_the_limit_and_the_others_queue_in_order() {
    let world = World::new();
    let tasks = started(&world, TaskSupervisor::new("tasks").limit(2));
    let order = Rc::new(std::cell::RefCell::new(Vec::new()));
    let handles: Vec<_> = (0..6)
        .map(|nth| {
            let order = order.clone();
            tasks.spawn("task", move |ctx| async move {
                order.borrow_mut().push(nth);
                ctx.sleep(seconds(1)).await.is_ok()
            })
        })
        .collect();
    assert_eq!((tasks.running(), tasks.queued()), (2, 4));
    world.time.advance(ms(1500));
    assert_eq!((tasks.running(), tasks.queued()), (2, 2));
    assert_eq!(*order.borrow(), [0, 1, 2, 3]);
    assert_eq!(world.run(futures_util::future::join_all(handles)), vec![Ok(true); 6]);
    assert_eq!(world.time.now(), seconds(3));
}

#[test]
fn a_full_queue_refuses_and_says_when_there_is_room() {
    let world = World::new();
    let tasks = started(&world, TaskSupervisor::new("tasks").limit(1).queue(1));
    let sleeper = || tasks.spawn("sleeper", |ctx| async move { ctx.sleep(seconds(1)).await.is_ok() });
    let (first, second) = (sleeper(), sleeper());
    assert!(!tasks.has_room());
    assert_eq!(world.run(sleeper()), Err(Exit::Refused));
    world.run(tasks.room());
    assert_eq!(world.time.now(), seconds(1));
    assert_eq!(first.now_or_never(), Some(Ok(true)));
    let third = sleeper();
    assert_eq!(world.run(third), Ok(true));
    assert_eq!(second.now_or_never(), Some(Ok(true)));
    let full = (sleeper(), sleeper());
    let mut room = Box::pin(tasks.room());
    assert!((&mut room).now_or_never().is_none());
    full.1.cancel();
    assert!(room.now_or_never().is_some(), "a task that leaves the queue makes room");
}

#[test]
fn a_task_that_is_cancelled_stops_at_once_and_a_queued_one_never_starts() {
    let world = World::new();
    let tasks = started(&world, TaskSupervisor::new("tasks").limit(1));
    let sleeper = || tasks.spawn("sleeper", |ctx| async move { ctx.sleep(seconds(100)).await });
    let (running, queued, killed) = (sleeper(), sleeper(), sleeper());
    assert!(running.pid().is_some() && queued.pid().is_none());
    queued.cancel();
    assert!(queued.is_finished());
    assert_eq!(world.run(queued), Err(Exit::Shutdown));
    killed.kill();
    assert_eq!(world.run(killed), Err(Exit::Killed));
    world.settle();
    running.cancel();
    assert_eq!(world.run(running), Ok(Err(Cancelled)));
    let hard = sleeper();
    world.settle();
    hard.kill();
    assert_eq!(tasks.running(), 0);
    assert_eq!(world.run(hard), Err(Exit::Killed));
    assert_eq!(world.time.now(), ms(0));
    assert_eq!(world.time.live_timers(), 0);
}

#[test]
fn a_supervisor_that_stops_ends_its_tasks_within_its_time() {
    let world = World::new();
    let second = Shutdown::After(seconds(1));
    let tasks = started(&world, TaskSupervisor::new("tasks").limit(3).shutdown(second));
    let good = tasks.spawn("good", |ctx| async move { ctx.sleep(seconds(100)).await });
    let last_words = tasks.spawn("flush", |ctx| async move {
        ctx.shutdown().await;
        ctx.system().runtime().timer(ms(500)).await;
        "flushed"
    });
    let deaf = tasks.spawn("deaf", |_| std::future::pending::<()>());
    let queued = tasks.spawn("queued", |_| async {});
    let pid = tasks.pid().unwrap();
    world.settle();
    pid.ask_to_stop();
    world.settle();
    assert_eq!(tasks.pid(), None);
    let late = tasks.spawn("late", |_| async {});
    assert_eq!(world.run(late), Err(Exit::NoProcess));
    assert_eq!(world.run(queued), Err(Exit::Shutdown));
    assert_eq!(world.run(good), Ok(Err(Cancelled)));
    assert_eq!(world.time.now(), ms(0));
    assert_eq!(world.run(last_words), Ok("flushed"));
    assert_eq!(world.run(deaf), Err(Exit::Killed));
    assert_eq!(world.time.now(), seconds(1));
    assert_eq!(world.run(pid.monitor()), Exit::Shutdown);
}

#[test]
fn how_tasks_are_ended_is_a_matter_of_the_shutdown() {
    for (shutdown, takes) in [
        (Shutdown::BrutalKill, ms(0)),
        (Shutdown::After(seconds(3)), seconds(3)),
        (Shutdown::Infinity, seconds(10)),
        (Shutdown::default(), seconds(5)),
    ] {
        let world = World::new();
        let tasks = started(&world, TaskSupervisor::new("tasks").shutdown(shutdown));
        let task = tasks.spawn("slow", |ctx| async move { ctx.system().runtime().timer(seconds(10)).await });
        world.settle();
        let pid = tasks.pid().unwrap();
        pid.ask_to_stop();
        world.run(pid.monitor());
        assert_eq!(world.time.now(), takes);
        assert_eq!(world.run(task).is_ok(), shutdown == Shutdown::Infinity);
    }
}

#[test]
fn a_supervisor_that_is_killed_takes_its_tasks_with_it() {
    let world = World::new();
    let tasks = started(&world, TaskSupervisor::new("tasks").limit(1));
    let running = tasks.spawn("running", |_| std::future::pending::<()>());
    let queued = tasks.spawn("queued", |_| async {});
    world.settle();
    tasks.pid().unwrap().kill(Exit::Killed);
    assert_eq!(running.now_or_never(), Some(Err(Exit::Killed)));
    assert_eq!(queued.now_or_never(), Some(Err(Exit::Shutdown)));
    world.settle();
    assert_eq!(world.time.live_tasks(), 0);
}

#[test]
fn a_task_supervisor_in_a_tree_is_restarted_and_its_handle_reaches_the_new_one() {
    let world = World::new();
    let tasks = TaskSupervisor::new("tasks");
    let root = world.supervisor(Strategy::OneForOne).with(tasks.child());
    world.start(&root);
    assert_eq!(root.child_spec("tasks").unwrap().kind(), Kind::TaskSupervisor);
    assert_eq!(root.child_spec("tasks").unwrap().shutdown_type(), Shutdown::Infinity);
    assert!(world.run(tasks.start(&world.system)).is_err(), "it runs already");
    let before = tasks.spawn("before", |_| std::future::pending::<()>());
    tasks.pid().unwrap().kill(abnormal());
    let between = tasks.spawn("between", |_| async {});
    assert_eq!(between.now_or_never(), Some(Err(Exit::NoProcess)));
    world.settle();
    assert_eq!(world.run(before), Err(Exit::Killed));
    assert_eq!(world.run(tasks.spawn("after", |_| async { 1 })), Ok(1));
    assert_eq!(counts(root.count_children()), [1, 1, 1, 0]);
}

#[test]
fn tasks_given_before_the_start_wait_for_it() {
    let world = World::new();
    let tasks = TaskSupervisor::new("tasks").limit(1).queue(2);
    let early = tasks.spawn("early", |_| async { 1 });
    drop(tasks.start(&world.system)); // not awaited: the process is made in the call
    let soon = tasks.spawn("soon", |_| async { 2 });
    let too_many = tasks.spawn("too many", |_| async { 3 });
    assert_eq!(too_many.now_or_never(), Some(Err(Exit::Refused)));
    assert_eq!(tasks.queued(), 2);
    assert_eq!(world.run(early), Ok(1));
    assert_eq!(world.run(soon), Ok(2));
}

#[test]
fn a_linked_task_and_its_caller_crash_together() {
    let world = World::new();
    let tasks = started(&world, TaskSupervisor::new("tasks"));
    let supervisor = world.started(Strategy::OneForOne);
    let caller = |link: bool| {
        let tasks = tasks.clone();
        ChildSpec::new("caller", move |ctx| {
            let tasks = tasks.clone();
            async move {
                let crash = |ctx: Context| async move {
                    ctx.sleep(seconds(1)).await.ok();
                    panic!("task crashed")
                };
                let _task: TaskHandle<()> =
                    if link { tasks.spawn("task", crash) } else { tasks.spawn_nolink("task", crash) };
                ctx.ready();
                ctx.shutdown().await;
            }
        })
        .restart(Restart::Temporary)
    };
    let linked = world.add(&supervisor, caller(true));
    world.time.advance(seconds(1));
    let exit = linked.exit_reason().unwrap();
    assert_eq!(&*exit.panic().unwrap().message, "task crashed");
    assert_eq!(exit.panic().unwrap().callers, ["task".into(), "caller".into(), "sup_test".into()]);

    let apart = world.add(&supervisor, caller(false));
    world.time.advance(seconds(1));
    assert!(apart.is_alive());
    world.run(supervisor.terminate_child("caller")).unwrap();

    let linked = world.add(&supervisor, caller(true));
    world.terminate(&linked, abnormal());
    assert_eq!(tasks.running(), 0, "the task crashes with its caller");
    let linked = world.add(&supervisor, caller(true));
    world.terminate(&linked, Exit::Normal);
    assert_eq!(tasks.running(), 1, "a graceful end of the caller leaves it alone");
    world.time.advance(seconds(1));
}

#[test]
fn a_queued_task_whose_caller_crashes_does_not_run() {
    let world = World::new();
    let tasks = started(&world, TaskSupervisor::new("tasks").limit(1));
    let first = tasks.spawn("first", |ctx| async move { ctx.sleep(seconds(1)).await.is_ok() });
    let ran = Rc::new(Cell::new(false));
    let supervisor = world.started(Strategy::OneForOne);
    let (handle, flag) = (tasks.clone(), ran.clone());
    let caller = ChildSpec::new("caller", move |ctx| {
        let (handle, flag) = (handle.clone(), flag.clone());
        async move {
            drop(handle.spawn("queued", move |_| async move { flag.set(true) }));
            ctx.ready();
            ctx.shutdown().await;
        }
    });
    let pid = world.add(&supervisor, caller.restart(Restart::Temporary));
    world.terminate(&pid, abnormal());
    assert_eq!(world.run(first), Ok(true));
    world.settle();
    assert!(!ran.get());
    assert_eq!((tasks.running(), tasks.queued()), (0, 0));
}

#[test]
fn the_callers_of_a_task_are_known_outwards() {
    let world = World::new();
    let tasks = started(&world, TaskSupervisor::new("tasks"));
    let inner = tasks.clone();
    let callers = tasks.spawn("outer", move |ctx| async move {
        assert!(ctx.callers().is_empty());
        let inner = inner.clone();
        let task = inner.clone().spawn("middle", move |_| async move {
            inner.spawn("inner", |ctx| async move { ctx.callers() }).await
        });
        task.await
    });
    assert_eq!(world.run(callers), Ok(Ok(Ok(vec!["middle".into(), "outer".into()]))));
}

#[test]
fn a_queued_task_has_the_callers_of_its_asking() {
    let world = World::new();
    let tasks = started(&world, TaskSupervisor::new("tasks").limit(1));
    let blocker = tasks.spawn("blocker", |ctx| async move { ctx.sleep(seconds(1)).await });
    let queue = tasks.clone();
    let other = started(&world, TaskSupervisor::new("other"));
    let asker = other.spawn("asker", move |_| async move {
        queue.spawn("queued", |ctx| async move { ctx.callers() }).await
    });
    assert_eq!(world.run(asker), Ok(Ok(vec!["asker".into()])));
    assert_eq!(world.run(blocker), Ok(Ok(())));
}

#[test]
fn a_stream_is_in_order_and_bounded() {
    let world = World::new();
    let tasks = started(&world, TaskSupervisor::new("tasks"));
    let most = Rc::new(Cell::new(0));
    let (watch, counted) = (tasks.clone(), most.clone());
    let stream = tasks.stream(0..10_u64, 3, move |ctx, item| {
        let (watch, counted) = (watch.clone(), counted.clone());
        async move {
            counted.set(counted.get().max(watch.running()));
            ctx.sleep(ms(10 - item)).await.ok(); // the first take longest
            item * 2
        }
    });
    let results: Vec<_> = world.run(stream.collect());
    assert_eq!(results, (0..10).map(|item| Ok(item * 2)).collect::<Vec<_>>());
    assert_eq!(most.get(), 3);
}

#[test]
fn a_slow_reader_holds_a_stream_back() {
    let world = World::new();
    let tasks = started(&world, TaskSupervisor::new("tasks"));
    let begun = Rc::new(Cell::new(0));
    let count = begun.clone();
    let mut stream = tasks.stream(0..100, 4, move |_, item| {
        count.set(count.get() + 1);
        async move { item }
    });
    assert_eq!(world.run(stream.next()), Some(Ok(0)));
    world.settle();
    assert_eq!(begun.get(), 4);
    assert_eq!(world.run(stream.next()), Some(Ok(1)));
    world.settle();
    assert_eq!(begun.get(), 5);
}

#[test]
fn a_crash_in_a_stream_stands_in_its_place() {
    let world = World::new();
    let tasks = started(&world, TaskSupervisor::new("tasks"));
    let stream =
        tasks.stream([1, 0, 2], 2, |_, item: u32| async move { 10_u32.checked_div(item).expect("not zero") });
    let results: Vec<_> = world.run(stream.collect());
    assert_eq!((&results[0], &results[2]), (&Ok(10), &Ok(5)));
    assert_eq!(results[1].as_ref().unwrap_err().kind(), "panic");
}

#[test]
fn an_element_that_takes_too_long_is_ended() {
    let world = World::new();
    let tasks = started(&world, TaskSupervisor::new("tasks"));
    let stream = tasks
        .stream([1, 100, 2], 1, |ctx, time| async move { ctx.sleep(seconds(time)).await.is_ok() })
        .timeout(seconds(10));
    let results: Vec<_> = world.run(stream.collect());
    assert_eq!(results, [Ok(true), Err(Exit::Timeout), Ok(true)]);
    assert_eq!(world.time.now(), seconds(13));
    assert_eq!(tasks.running(), 0);
}

#[test]
fn a_stream_that_is_dropped_ends_its_tasks() {
    let world = World::new();
    let tasks = started(&world, TaskSupervisor::new("tasks"));
    let mut stream = tasks.stream(0..10, 0, |_, item| async move {
        if item == 1 {
            std::future::pending::<()>().await;
        }
    });
    assert_eq!(world.run(stream.next()), Some(Ok(())), "a limit of 0 is one at a time");
    assert!(stream.next().now_or_never().is_none());
    assert_eq!(tasks.running(), 1);
    drop(stream);
    assert_eq!(tasks.running(), 0);
}

#[test]
fn a_stream_over_nothing_ends_at_once() {
    let world = World::new();
    let tasks = started(&world, TaskSupervisor::new("tasks"));
    let mut stream = tasks.stream(Vec::<u8>::new(), 4, |_, item| async move { item });
    assert_eq!(world.run(stream.next()), None);
}

#[test]
fn a_handle_says_whose_it_is() {
    let handle = TaskSupervisor::new("tasks").spawn("sum", |_| async {});
    assert_eq!(format!("{handle:?}"), "TaskHandle(sum)");
}

#[test]
fn there_is_room_where_a_place_is_free_and_no_queue() {
    let world = World::new();
    let tasks = TaskSupervisor::new("tasks").limit(1).queue(0);
    world.run(tasks.start(&world.system)).unwrap();
    assert!(tasks.has_room());
    let task = tasks.spawn("task", |ctx| async move { ctx.sleep(seconds(1)).await.is_ok() });
    assert!(!tasks.has_room());
    assert_eq!(world.run(task), Ok(true));
    assert!(tasks.has_room());
}
