//! Calls to a supervisor, and OTP's answers.

use tinkex_supervise::*;

use crate::world::*;

#[test]
fn child_adm() {
    let world = World::new();
    let supervisor = world.supervisor(Strategy::OneForOne).with(world.child("child1"));
    world.start(&supervisor);
    let first = pid_of(&supervisor, "child1");
    assert_eq!(counts(supervisor.count_children()), [1, 1, 0, 1]);
    let start = || world.run(supervisor.start_child(world.child("child1"))).map(drop);
    let terminate = |id| world.run(supervisor.terminate_child(id));
    let restart = |id| world.run(supervisor.restart_child(id)).map(drop);
    let delete = |id| world.run(supervisor.delete_child(id));

    assert_eq!(start(), Err(ChildError::AlreadyStarted(first.clone())));
    assert_eq!(terminate("hej"), Err(ChildError::NotFound));
    assert_eq!(terminate("child1"), Ok(()));
    assert_eq!(first.exit_reason(), Some(Exit::Shutdown));
    assert_eq!(ids(&supervisor), ["child1 undefined"]);
    assert_eq!(counts(supervisor.count_children()), [1, 0, 0, 1]);
    assert_eq!(terminate("child1"), Ok(()), "as if it had been running");
    assert_eq!(start(), Err(ChildError::AlreadyPresent));

    assert_eq!(restart("child1"), Ok(()));
    assert_ne!(pid_of(&supervisor, "child1"), first);
    assert_eq!(restart("child1"), Err(ChildError::Running));
    assert_eq!(restart("child2"), Err(ChildError::NotFound));
    assert_eq!(delete("child1"), Err(ChildError::Running));
    assert_eq!(delete("hej"), Err(ChildError::NotFound));
    assert_eq!(terminate("child1"), Ok(()));
    assert_eq!(delete("child1"), Ok(()));
    assert_eq!(restart("child1"), Err(ChildError::NotFound));
    assert_eq!(counts(supervisor.count_children()), [0, 0, 0, 0]);
    assert_eq!(start(), Ok(()));
    assert_eq!(ids(&supervisor), ["child1"]);

    let nobody = Supervisor::new("foo");
    assert_eq!(world.run(nobody.terminate_child("child1")), Err(ChildError::NoProcess));
    assert_eq!(world.run(nobody.delete_child("child1")), Err(ChildError::NoProcess));
    assert_eq!(world.run(nobody.start_child(world.child("a"))).map(drop), Err(ChildError::NoProcess));
    assert_eq!(nobody.which_children(), []);
}

#[test]
fn child_adm_simple() {
    let world = World::new();
    let supervisor = DynamicSupervisor::new("sup_test").intensity(2, seconds(3600));
    world.run(supervisor.start(&world.system)).unwrap();
    assert_eq!(counts(supervisor.count_children()), [0, 0, 0, 0]);
    let one = world.add_to(&supervisor, world.child("child"));
    let two = world.add_to(&supervisor, world.child("child"));
    assert_eq!(counts(supervisor.count_children()), [2, 2, 0, 2]);
    let terminate = |pid: &Pid| world.run(supervisor.terminate_child(pid));

    assert_eq!(terminate(&one), Ok(()));
    assert!(!one.is_alive());
    assert_eq!(counts(supervisor.count_children()), [1, 1, 0, 1]);
    assert_eq!(terminate(&one), Ok(()), "it has ended, which is what was asked for");
    let other = world.supervisor(Strategy::OneForOne).with(world.child("stranger"));
    world.start(&other);
    let stranger = pid_of(&other, "stranger");
    assert_eq!(terminate(&stranger), Err(ChildError::NotFound));
    assert!(stranger.is_alive());
    assert_eq!(terminate(&two), Ok(()));
    assert_eq!(supervisor.which_children(), []);

    let nobody = DynamicSupervisor::new("foo");
    assert_eq!(world.run(nobody.start_child(world.child("a"))).map(drop), Err(ChildError::NoProcess));
    assert_eq!(world.run(nobody.terminate_child(&two)), Err(ChildError::NoProcess));
    assert_eq!(world.run(nobody.stop()), Exit::NoProcess);
}

#[test]
fn extra_return() {
    let world = World::new();
    let spec = || {
        ChildSpec::new("child1", |ctx| async move {
            ctx.ready_with("extra_return");
            ctx.shutdown().await;
        })
    };
    let supervisor = world.supervisor(Strategy::OneForOne).with(spec());
    world.start(&supervisor);
    let info = |started: &Started| *started.info.clone().unwrap().downcast::<&'static str>().unwrap();
    world.run(supervisor.terminate_child("child1")).unwrap();
    let again = world.run(supervisor.restart_child("child1")).unwrap();
    assert_eq!(info(&again), "extra_return");
    world.run(supervisor.terminate_child("child1")).unwrap();
    world.run(supervisor.delete_child("child1")).unwrap();
    let new = world.run(supervisor.start_child(spec())).unwrap();
    assert_eq!(info(&new), "extra_return");
    let third = new.pid.unwrap();
    world.terminate(&third, abnormal());
    assert_ne!(pid_of(&supervisor, "child1"), third);
    assert_eq!(counts(supervisor.count_children()), [1, 1, 0, 1]);
}

#[test]
fn multiple_restarts() {
    let world = World::new();
    let supervisor = Supervisor::new("sup_test")
        .intensity(1, seconds(1))
        .with(world.child("child1").shutdown(Shutdown::BrutalKill));
    world.start(&supervisor);
    for restarts in 1..=4 {
        world.terminate(&pid_of(&supervisor, "child1"), abnormal());
        assert_eq!(supervisor.which_children()[0].restarts, restarts);
        world.time.advance(ms(2100));
    }
    world.run(supervisor.terminate_child("child1")).unwrap();
    world.run(supervisor.delete_child("child1")).unwrap();
}

#[test]
fn calls_that_are_not_awaited_keep_their_order() {
    let world = World::new();
    let supervisor = world.started(Strategy::OneForOne);
    let start = supervisor.start_child(world.child("a"));
    let stop = supervisor.terminate_child("a");
    let delete = supervisor.delete_child("a");
    let gone = supervisor.restart_child("a");
    world.settle();
    assert_eq!(world.run(gone).map(drop), Err(ChildError::NotFound));
    assert_eq!(world.run(delete), Ok(()));
    assert_eq!(world.run(stop), Ok(()));
    let ended = ChildError::Failed(Exit::Shutdown);
    assert_eq!(world.run(start).map(drop), Err(ended), "it was not ready yet when it was to stop");
}

#[test]
fn a_call_that_nobody_awaits_is_done_all_the_same() {
    let world = World::new();
    let supervisor = world.started(Strategy::OneForOne);
    drop(supervisor.start_child(world.child("a")));
    world.settle();
    assert_eq!(ids(&supervisor), ["a"]);
}

#[test]
fn a_start_that_hangs_can_be_ended() {
    let world = World::new();
    let supervisor = world.started(Strategy::OneForOne);
    let hanging = || world.child_that("a", [Init::Never]).shutdown(Shutdown::BrutalKill);
    let start = supervisor.start_child(hanging().start_timeout(seconds(60)));
    world.settle();
    assert_eq!(world.run(supervisor.terminate_child("a")), Ok(()));
    assert_eq!(world.run(start).map(drop), Err(ChildError::Failed(Exit::Shutdown)));
    assert_eq!(ids(&supervisor), ["a undefined"], "its spec stays, as after any terminate_child");
    assert_eq!(world.time.live_timers(), 0);

    let restart = supervisor.restart_child("a");
    world.settle();
    assert_eq!(ids(&supervisor), ["a"], "the second start is ready");
    assert!(world.run(restart).is_ok());
}

#[test]
fn a_hanging_start_holds_up_the_calls_behind_it_and_no_others() {
    let world = World::new();
    let supervisor = world.started(Strategy::OneForOne);
    let start = supervisor.start_child(world.child_that("a", [Init::Never]).shutdown(Shutdown::BrutalKill));
    let behind = supervisor.start_child(world.child("b"));
    let crash = supervisor.terminate_child("nobody");
    world.settle();
    assert_eq!(world.log(), Vec::<String>::new());
    assert_eq!(counts(supervisor.count_children()), [1, 0, 0, 1], "it can be asked meanwhile");
    drop(supervisor.terminate_child("a"));
    world.settle();
    assert!(world.run(start).is_err());
    assert!(world.run(behind).is_ok());
    assert_eq!(world.run(crash), Err(ChildError::NotFound));
}

#[test]
fn errors_are_otps_words() {
    assert!(ChildError::NotFound.to_string().starts_with("not_found"));
    assert!(ChildError::Running.to_string().starts_with("running"));
    assert!(ChildError::Restarting.to_string().starts_with("restarting"));
    assert!(ChildError::AlreadyPresent.to_string().starts_with("already_present"));
    assert!(ChildError::MaxChildren.to_string().starts_with("max_children"));
    assert!(ChildError::NoProcess.to_string().starts_with("noproc"));
    assert!(ChildError::Failed(Exit::error("boom")).to_string().ends_with("boom"));
    assert!(ChildError::Spec(SpecError::InvalidPeriod).to_string().starts_with("invalid_period"));
    let world = World::new();
    let supervisor = world.started(Strategy::OneForOne);
    let pid = world.add(&supervisor, world.child("a"));
    assert_eq!(ChildError::AlreadyStarted(pid).to_string(), "already_started: a");
}

#[test]
fn ending_one_child_does_not_disturb_the_start_of_another() {
    let world = World::new();
    let supervisor = world.started(Strategy::OneForOne);
    world.add(&supervisor, world.child("a"));
    let slow = world.child_with("slow", |_| Init::FailAfter(seconds(2), Exit::error("slowly")));
    let start = supervisor.start_child(slow);
    world.settle();
    let end = supervisor.terminate_child("a");
    assert_eq!(world.run(start).unwrap_err(), ChildError::Failed(Exit::error("slowly")));
    assert_eq!(world.run(end), Ok(()));
    assert_eq!(world.time.now(), seconds(2));
}
