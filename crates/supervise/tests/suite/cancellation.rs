//! A wait that is cancelled ends at once: the clock does not move.

use std::{cell::Cell, rc::Rc};

use futures_util::FutureExt;
use tinkex_supervise::*;

use crate::world::*;

#[test]
fn a_cancelled_wait_ends_at_once() {
    let world = World::new();
    let token = CancelToken::new();
    let runtime = world.system.runtime().clone();
    let waiter = token.clone();
    let tasks = TaskSupervisor::new("tasks");
    world.run(tasks.start(&world.system)).unwrap();
    let wait = tasks.spawn("wait", move |_| async move { waiter.guard(runtime.timer(seconds(3600))).await });
    world.settle();
    assert_eq!(world.time.live_timers(), 1);
    token.cancel();
    assert_eq!(world.run(wait), Ok(Err(Cancelled)));
    assert_eq!(world.time.now(), ms(0));
    assert_eq!(world.time.live_timers(), 0, "its timer is gone as well");
    assert_eq!(token.waiting(), 0);
}

#[test]
fn two_hundred_waits_end_in_one_turn() {
    let world = World::new();
    let tasks = TaskSupervisor::new("requests");
    let pid = world.run(tasks.start(&world.system)).unwrap();
    let settled = Rc::new(Cell::new(0));
    for _ in 0..200 {
        let settled = settled.clone();
        drop(tasks.spawn("request", move |ctx| async move {
            let ended = ctx.sleep(seconds(60)).await;
            settled.set(settled.get() + 1);
            ended
        }));
    }
    world.settle();
    pid.ask_to_stop();
    world.settle();
    assert_eq!(settled.get(), 200);
    assert_eq!(world.time.now(), ms(0));
    assert_eq!(world.system.live(), 0);
}

#[test]
fn a_wait_that_is_not_cancelled_takes_its_time() {
    let world = World::new();
    let tasks = TaskSupervisor::new("tasks");
    world.run(tasks.start(&world.system)).unwrap();
    let wait = tasks.spawn("wait", |ctx| async move { ctx.sleep(seconds(2)).await });
    assert_eq!(world.run(wait), Ok(Ok(())));
    assert_eq!(world.time.now(), seconds(2));
}

#[test]
fn a_guarded_future_gives_its_value_unless_it_was_cancelled_before() {
    let token = CancelToken::new();
    assert_eq!(token.guard(async { 1 }).now_or_never(), Some(Ok(1)));
    token.cancel();
    token.cancel();
    assert!(token.is_cancelled() && token.clone().is_cancelled());
    let ran = Cell::new(false);
    assert_eq!(token.guard(async { ran.set(true) }).now_or_never(), Some(Err(Cancelled)));
    assert!(!ran.get());
    assert!(token.cancelled().now_or_never().is_some());
    assert_eq!(format!("{:?} {:?}", token, CancelToken::new()), "CancelToken(cancelled) CancelToken");
    assert_eq!(Cancelled.to_string(), "cancelled");
}

#[test]
fn a_wait_that_is_given_up_leaves_nothing_in_the_token() {
    let token = CancelToken::new();
    for _ in 0..100 {
        let mut wait = token.cancelled();
        assert!((&mut wait).now_or_never().is_none());
        assert!((&mut wait).now_or_never().is_none(), "asked again, it is still one waiter");
        assert_eq!(token.waiting(), 1);
    }
    assert_eq!(token.waiting(), 0);
}

#[test]
fn a_child_knows_that_it_is_asked_to_stop() {
    let world = World::new();
    let supervisor = world.started(Strategy::OneForOne);
    let seen = Rc::new(Cell::new((false, false)));
    let notes = seen.clone();
    let spec = ChildSpec::new("child", move |ctx| {
        let notes = notes.clone();
        async move {
            ctx.ready();
            let before = ctx.is_stopping();
            assert!(ctx.until_shutdown(async {}).await.is_ok());
            let cut = ctx.until_shutdown(std::future::pending::<()>()).await;
            assert_eq!(cut, Err(Cancelled));
            notes.set((before, ctx.is_stopping()));
        }
    });
    let pid = world.add(&supervisor, spec);
    world.settle();
    assert_eq!(pid.state(), State::Running);
    world.run(supervisor.terminate_child("child")).unwrap();
    assert_eq!(seen.get(), (false, true));
}

#[test]
fn asking_oneself_to_stop_is_possible() {
    let world = World::new();
    let supervisor = world.started(Strategy::OneForOne);
    let spec = ChildSpec::new("child", |ctx| async move {
        ctx.ready();
        ctx.token().cancel();
        ctx.sleep(seconds(1)).await
    });
    let pid = world.add(&supervisor, spec.restart(Restart::Transient));
    assert_eq!(world.run(pid.monitor()), Exit::Shutdown);
    assert_eq!(world.time.now(), ms(0));
}

#[test]
fn yielding_lets_the_others_run_once() {
    let world = World::new();
    let tasks = TaskSupervisor::new("tasks");
    world.run(tasks.start(&world.system)).unwrap();
    let turns = Rc::new(std::cell::RefCell::new(String::new()));
    for name in ["a", "b"] {
        let turns = turns.clone();
        drop(tasks.spawn(name, move |ctx| async move {
            for _ in 0..3 {
                turns.borrow_mut().push_str(ctx.name());
                ctx.yield_now().await;
            }
        }));
    }
    world.settle();
    assert_eq!(*turns.borrow(), "ababab");
}
