//! What a child is made from is not kept longer than it is needed.

#![expect(clippy::disallowed_methods, reason = "nothing panics here, so that counts are right")]

use std::rc::Rc;

use tinkex_supervise::*;

use crate::world::*;

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
