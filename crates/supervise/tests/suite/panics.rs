//! A panic is an exit like any other, wherever it comes from, and nobody else's.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use tinkex_supervise::*;

use crate::world::*;

struct PanicsWhenDropped(&'static str);

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("{}", self.0);
        }
    }
}

/// As a destructor of the crate's own, or of its users, is made.
struct HoldsBack(&'static str);

impl Drop for HoldsBack {
    fn drop(&mut self) {
        destructor(&mut || panic!("{}", self.0));
    }
}

fn message(exit: &Exit) -> &str {
    &exit.panic().expect("a panic").message
}

#[test]
fn in_a_poll() {
    let world = World::new();
    let supervisor = world.started(Strategy::OneForOne);
    let spec = ChildSpec::new("child", |ctx| async move {
        ctx.ready();
        ctx.sleep(seconds(1)).await.ok();
        assert!(ctx.is_stopping(), "something");
    });
    let pid = world.add(&supervisor, spec.restart(Restart::Transient));
    let sibling = world.add(&supervisor, world.child("sibling"));
    world.time.advance(seconds(1));
    let exit = pid.exit_reason().unwrap();
    assert_eq!(message(&exit), "something");
    assert!(!exit.panic().unwrap().in_destructor);
    assert!(exit.panic().unwrap().place.contains("panics.rs"));
    assert!(sibling.is_alive());
    assert_ne!(pid_of(&supervisor, "child"), pid, "a panic is a crash, so it was restarted");
}

#[test]
fn in_a_factory() {
    let world = World::new();
    let supervisor = world.started(Strategy::OneForOne);
    let spec = ChildSpec::new("child", |ctx: Context| -> std::future::Ready<()> {
        panic!("factory of {}", ctx.name())
    });
    let ChildError::Failed(exit) = world.run(supervisor.start_child(spec)).unwrap_err() else { panic!() };
    assert_eq!(message(&exit), "factory of child");
    assert_eq!(supervisor.which_children(), []);
}

#[test]
fn in_a_destructor_while_it_is_killed() {
    let world = World::new();
    let supervisor = world.started(Strategy::OneForOne);
    let spec = ChildSpec::new("child", |ctx| async move {
        let _bomb = PanicsWhenDropped("dropped");
        ctx.ready();
        ctx.shutdown().await;
        std::future::pending::<()>().await;
    });
    let pid = world.add(&supervisor, spec.shutdown(Shutdown::BrutalKill));
    let sibling = world.add(&supervisor, world.child("sibling"));
    world.run(supervisor.terminate_child("child")).unwrap();
    let exit = pid.exit_reason().unwrap();
    assert_eq!(message(&exit), "dropped");
    assert!(exit.panic().unwrap().in_destructor);
    assert_eq!(world.complaints(), [(ReportContext::ShutdownError, "child".into(), exit)]);
    assert!(sibling.is_alive() && supervisor.pid().unwrap().is_alive());
}

#[test]
fn in_a_destructor_after_the_work_is_done() {
    let world = World::new();
    let tasks = TaskSupervisor::new("tasks");
    world.run(tasks.start(&world.system)).unwrap();
    struct Captured {
        _bomb: PanicsWhenDropped,
    }
    impl std::future::Future for Captured {
        type Output = u8;
        fn poll(self: std::pin::Pin<&mut Self>, _: &mut std::task::Context<'_>) -> std::task::Poll<u8> {
            std::task::Poll::Ready(1)
        }
    }
    let task = tasks.spawn("task", |_| Captured { _bomb: PanicsWhenDropped("late") });
    assert_eq!(message(&world.run(task).unwrap_err()), "late", "a crash is not passed off as a success");
    assert_eq!(tasks.running(), 0);
}

#[test]
fn in_a_destructor_that_holds_it_back_while_its_process_is_killed() {
    struct Tells(Rc<RefCell<String>>);
    impl Drop for Tells {
        fn drop(&mut self) {
            destructor(&mut || {
                self.0.replace(panic_under_way().expect("one is held back").message.to_string());
            });
        }
    }
    let world = World::new();
    let supervisor = world.started(Strategy::OneForOne);
    let told = Rc::new(RefCell::default());
    let tells = told.clone();
    let spec = ChildSpec::new("child", move |ctx| {
        let tells = Tells(tells.clone());
        async move {
            let (_tells, _second, _first) = (tells, HoldsBack("second"), HoldsBack("first"));
            ctx.ready();
            std::future::pending::<()>().await;
        }
    });
    let pid = world.add(&supervisor, spec.shutdown(Shutdown::BrutalKill));
    let sibling = world.add(&supervisor, world.child("sibling"));
    world.run(supervisor.terminate_child("child")).unwrap();
    let exit = pid.exit_reason().unwrap();
    let panic = exit.panic().expect("a panic");
    assert_eq!((&*panic.message, panic.in_destructor, &*panic.callers[0]), ("first", true, "child"));
    assert!(panic.place.contains("panics.rs"));
    assert_eq!(*told.borrow(), "first", "what is dropped afterwards knows of it");
    assert_eq!(world.complaints(), [(ReportContext::ShutdownError, "child".into(), exit)]);
    assert!(sibling.is_alive() && supervisor.pid().unwrap().is_alive());
}

#[test]
fn in_a_destructor_that_holds_it_back_until_its_process_yields() {
    let world = World::new();
    let tasks = TaskSupervisor::new("tasks");
    world.run(tasks.start(&world.system)).unwrap();
    let reached = Rc::new(Cell::new(0));
    for yields in [false, true] {
        let steps = reached.clone();
        let task = tasks.spawn("task", move |ctx| async move {
            drop(HoldsBack("dropped"));
            assert!(contain(|| ()).is_ok(), "it is no panic of what runs meanwhile");
            steps.set(steps.get() + 1);
            if yields {
                ctx.yield_now().await;
                steps.set(steps.get() + 10);
            }
        });
        assert_eq!(message(&world.run(task).unwrap_err()), "dropped");
    }
    assert_eq!(reached.get(), 2);
    assert_eq!(world.run(tasks.spawn("next", |_| async { panic_under_way().is_none() })), Ok(true));
}

#[test]
fn in_a_destructor_that_holds_it_back_while_another_unwinds() {
    let world = World::new();
    let tasks = TaskSupervisor::new("tasks");
    world.run(tasks.start(&world.system)).unwrap();
    let task = tasks.spawn("task", |_| async {
        let _second = HoldsBack("second");
        panic!("first");
    });
    let exit: Result<(), Exit> = world.run(task);
    let exit = exit.unwrap_err();
    assert_eq!(message(&exit), "first");
    assert!(exit.panic().unwrap().place.contains("panics.rs"));
    assert_eq!(message(&contain(|| drop(HoldsBack("alone"))).map_err(Exit::Panic).unwrap_err()), "alone");
}

#[test]
fn in_a_destructor_outside_of_supervised_code_goes_to_the_former_hook() {
    let world = World::new();
    drop(HoldsBack("not ours: expected on the console of this test"));
    assert_eq!(contain(|| 1), Ok(1));
    let tasks = TaskSupervisor::new("tasks");
    world.run(tasks.start(&world.system)).unwrap();
    assert_eq!(world.run(tasks.spawn("next", |_| async { 1 })), Ok(1));
}

#[test]
fn with_a_payload_that_panics_itself() {
    let world = World::new();
    let tasks = TaskSupervisor::new("tasks");
    world.run(tasks.start(&world.system)).unwrap();
    let task = tasks.spawn("task", |_| async { std::panic::panic_any(PanicsWhenDropped("payload")) });
    let exit: Result<(), Exit> = world.run(task);
    assert_eq!(message(&exit.unwrap_err()), "a panic without a text");
    assert_eq!(world.run(tasks.spawn("next", |_| async { 1 })), Ok(1));
}

#[test]
fn in_what_a_spec_has_captured() {
    let world = World::new();
    let supervisor = world.started(Strategy::OneForOne);
    let bomb = PanicsWhenDropped("spec");
    let spec = ChildSpec::new("child", move |ctx| {
        let _ = &bomb;
        async move {
            ctx.ready();
            ctx.shutdown().await;
        }
    });
    world.add(&supervisor, spec);
    let sibling = world.add(&supervisor, world.child("sibling"));
    world.run(supervisor.terminate_child("child")).unwrap();
    world.run(supervisor.delete_child("child")).unwrap();
    world.settle();
    let contained =
        |report: &Report| matches!(report, Report::Contained { reason, .. } if message(reason) == "spec");
    assert_eq!(world.reports.borrow().iter().filter(|report| contained(report)).count(), 1);
    assert!(sibling.is_alive());
    assert_eq!(ids(&supervisor), ["sibling"]);
}

#[test]
fn in_the_supervisors_own_loop() {
    for (place, passages) in [("supervisor step", 6), ("supervisor effect", 6)] {
        for nth in 1..=passages {
            let world = World::new();
            let supervisor =
                world.supervisor(Strategy::OneForOne).with(world.child("a")).with(world.child("sibling"));
            let pid = world.start(&supervisor);
            let sibling = pid_of(&supervisor, "sibling");
            faults::clear();
            faults::arm(place, nth);
            world.terminate(&pid_of(&supervisor, "a"), abnormal());
            world.add(&supervisor, world.child("b"));
            world.run(supervisor.terminate_child("b")).unwrap();
            faults::clear();
            assert!(pid.is_alive() && sibling.is_alive(), "{place} {nth}");
            assert_eq!(ids(&supervisor), ["b undefined", "sibling", "a"], "{place} {nth}");
            let contained =
                world.reports.borrow().iter().filter(|r| matches!(r, Report::Contained { .. })).count();
            assert_eq!(contained, 1, "{place} {nth}");
            assert_eq!(world.run(supervisor.stop()), Exit::Shutdown);
            assert_eq!(world.system.live(), 0);
        }
    }
}

#[test]
fn a_supervisor_that_can_not_go_on_crashes_and_takes_its_children_with_it() {
    let world = World::new();
    let inner = Supervisor::new("inner").with(world.child("leaf"));
    let outer = world.supervisor(Strategy::OneForOne).with(inner.child());
    world.start(&outer);
    let (leaf, former) = (pid_of(&inner, "leaf"), inner.pid().unwrap());
    faults::clear();
    for nth in 1..=3 {
        faults::arm("supervisor step", nth);
    }
    let call = inner.start_child(world.child("other"));
    world.settle();
    faults::clear();
    assert_eq!(message(&former.exit_reason().unwrap()), "injected fault at supervisor step");
    assert!(!leaf.is_alive());
    assert_eq!(world.run(call).map(drop), Err(ChildError::NoProcess));
    assert_eq!(ids(&inner), ["leaf"], "its own supervisor has started it again");
    let contained = |report: &Report| match report {
        Report::Contained { process: supervisor, reason } => {
            assert_eq!((&**supervisor, &reason.panic().unwrap().callers[0]), ("inner", &"inner".into()));
            true
        }
        _ => false,
    };
    assert_eq!(world.reports.borrow().iter().filter(|report| contained(report)).count(), 3);
}

#[test]
fn that_is_contained_by_hand_is_known_by_its_place_and_callers() {
    let world = World::new();
    assert_eq!(contain(|| 1), Ok(1));
    let outside = contain::<()>(|| panic!("outside")).unwrap_err();
    assert_eq!((&*outside.message, outside.callers.len()), ("outside", 0));
    let tasks = TaskSupervisor::new("tasks");
    world.run(tasks.start(&world.system)).unwrap();
    let caught = tasks.spawn("loop", |_| async { contain::<()>(|| panic!("inside")).unwrap_err() });
    let inside = world.run(caught).unwrap();
    assert_eq!((&*inside.message, &inside.callers[..]), ("inside", &["loop".into()][..]));
    assert!(inside.place.contains("panics.rs") && !inside.in_destructor);
}

#[test]
fn that_is_under_way_is_known_to_the_destructors_of_what_its_process_held() {
    struct Tells(Rc<RefCell<Vec<String>>>, &'static str);
    impl Drop for Tells {
        fn drop(&mut self) {
            let panic = panic_under_way().expect("its process has panicked");
            self.0.borrow_mut().push(format!("{} {} {}", self.1, panic.message, panic.callers[0]));
        }
    }
    let world = World::new();
    let tasks = TaskSupervisor::new("tasks");
    world.run(tasks.start(&world.system)).unwrap();
    let told = Rc::new(RefCell::default());
    let (unwound, captured) = (Tells(told.clone(), "local"), Tells(told.clone(), "held"));
    let task = tasks.spawn("task", move |_| {
        let polled = std::future::poll_fn(move |_| {
            let _held = &captured;
            if true { panic!("boom") } else { std::task::Poll::Ready(()) }
        });
        async move {
            let _local = unwound;
            polled.await;
        }
    });
    assert_eq!(message(&world.run(task).unwrap_err()), "boom");
    told.borrow_mut().sort();
    assert_eq!(*told.borrow(), ["held boom task", "local boom task"]);
    assert!(panic_under_way().is_none());
    let kept = Tells(told.clone(), "kept");
    faults::arm("task poll", 1);
    world.run(tasks.spawn("task", move |_| async move { drop(kept) })).unwrap_err();
    faults::clear();
    assert_eq!(told.borrow()[2], "kept injected fault at task poll task");
    world.run(tasks.spawn("next", |_| async { assert!(panic_under_way().is_none()) })).unwrap();
}

#[test]
fn in_a_listener() {
    let world = World::new();
    world.system.on_report(|_| panic!("listener"));
    let supervisor = world.started(Strategy::OneForOne);
    world.add(&supervisor, world.child("a"));
    assert_eq!(ids(&supervisor), ["a"]);
}

#[test]
fn in_a_value_under_a_name() {
    let world = World::new();
    let supervisor = world.started(Strategy::OneForOne);
    let spec = ChildSpec::new("a", |ctx| async move {
        ctx.register("bomb", PanicsWhenDropped("named"))?;
        ctx.ready();
        ctx.shutdown().await;
        Ok::<_, Exit>(())
    });
    let pid = world.add(&supervisor, spec);
    world.run(supervisor.terminate_child("a")).unwrap();
    assert_eq!(pid.exit_reason(), Some(Exit::Shutdown));
    assert!(world.system.names().owner("bomb").is_none());
}

#[test]
fn a_thousand_faults_give_a_thousand_exits() {
    let world = World::new();
    let tasks = TaskSupervisor::new("tasks").limit(8);
    world.run(tasks.start(&world.system)).unwrap();
    let supervisor = world.supervisor(Strategy::OneForOne).with(world.child("sibling"));
    world.start(&supervisor);
    let sibling = pid_of(&supervisor, "sibling");
    faults::clear();
    let ended = Rc::new(RefCell::new((0, 0)));
    for nth in 0..2000_u64 {
        if nth.is_multiple_of(2) {
            faults::arm(if nth.is_multiple_of(4) { "task poll" } else { "task drop" }, 1);
        }
        let task = tasks.spawn_nolink("task", move |_| async move { nth });
        match world.run(task) {
            Ok(value) => {
                assert_eq!(value, nth);
                ended.borrow_mut().0 += 1;
            }
            Err(exit) => {
                assert!(message(&exit).starts_with("injected fault at task "));
                ended.borrow_mut().1 += 1;
            }
        }
    }
    faults::clear();
    assert_eq!(*ended.borrow(), (1000, 1000));
    assert!(sibling.is_alive());
}

#[test]
fn a_fault_strikes_the_process_that_it_was_meant_for() {
    faults::clear();
    let world = World::new();
    let tasks = TaskSupervisor::new("tasks");
    world.run(tasks.start(&world.system)).unwrap();
    faults::arm_within("task poll", "tasks/second", 1);
    assert_eq!(world.run(tasks.spawn_nolink("first", |_| async { 1 })), Ok(1));
    assert_eq!(faults::armed(), 1);
    assert!(world.run(tasks.spawn_nolink("second", |_| async { 2 })).is_err());
    assert_eq!(faults::armed(), 0);
    assert_eq!(world.run(tasks.spawn_nolink("second", |_| async { 3 })), Ok(3));
}

#[test]
fn a_place_knows_how_often_it_was_passed() {
    faults::clear();
    for nth in 1..=3 {
        faults::point!("here");
        assert_eq!(faults::passages("here"), nth);
    }
    assert_eq!(faults::passages("elsewhere"), 0);
    faults::arm("here", 2);
    faults::point!("here");
    assert!(contain(|| faults::point!("here")).is_err(), "the second from the arming");
    faults::clear();
    assert_eq!(faults::passages("here"), 0);
}

#[test]
fn outside_of_supervised_code_goes_to_the_former_hook() {
    let _world = World::new();
    let seen = std::panic::catch_unwind(|| panic!("not ours: expected on the console of this test"));
    assert!(seen.is_err());
}

#[test]
fn a_process_that_ends_itself_ends_when_it_yields() {
    let world = World::new();
    let supervisor = world.started(Strategy::OneForOne);
    let reached = Rc::new(Cell::new(0));
    let steps = reached.clone();
    let spec = ChildSpec::new("child", move |ctx| {
        let steps = steps.clone();
        async move {
            ctx.ready();
            ctx.pid().kill(Exit::error("first"));
            ctx.pid().kill(Exit::error("second"));
            steps.set(1);
            ctx.yield_now().await;
            steps.set(2);
        }
    });
    let pid = world.add(&supervisor, spec.restart(Restart::Temporary));
    world.settle();
    assert_eq!(pid.exit_reason(), Some(Exit::error("first")));
    assert_eq!(reached.get(), 1);
}

#[test]
fn a_destructor_that_kills_its_own_process_changes_nothing() {
    let world = World::new();
    struct KillsOnDrop(Pid);
    impl Drop for KillsOnDrop {
        fn drop(&mut self) {
            self.0.kill(Exit::error("from the destructor"));
        }
    }
    let supervisor = world.started(Strategy::OneForOne);
    let spec = ChildSpec::new("child", |ctx| async move {
        let _kills = KillsOnDrop(ctx.pid());
        ctx.ready();
        std::future::pending::<()>().await;
    });
    let pid = world.add(&supervisor, spec.restart(Restart::Temporary));
    pid.kill(abnormal());
    assert_eq!(pid.exit_reason(), Some(abnormal()));
}

#[test]
fn the_first_of_two_is_the_exit() {
    let world = World::new();
    let tasks = TaskSupervisor::new("tasks");
    world.run(tasks.start(&world.system)).unwrap();
    let second = PanicsWhenDropped("second");
    faults::arm("task poll", 1);
    let exit = world.run(tasks.spawn("task", move |_| async move { drop(second) })).unwrap_err();
    faults::clear();
    let panic = exit.panic().expect("it panicked");
    assert_eq!((&*panic.message, panic.in_destructor), ("injected fault at task poll", false));
}
