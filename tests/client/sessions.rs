//! Sessions that outlive a page, a process of their own and a hidden tab's late timers; and how one ends.

use std::time::Duration;

use tinkex::error::{Error, Kind};
use tinkex::request::Progress;
use tinkex::service::Service;
use tinkex::session::Resume;
use tinkex::store::StoreErrorKind;
use tinkex::training::{Name, method::Ask};
use tinkex_protocol::{ModelId, SessionId};
use tinkex_sandbox::NOOP;

use crate::adam;
use crate::world::{World, model, of_base, resume};

/// The session of a service, opened if it is not.
fn session_of(world: &World, service: &Service) -> Result<SessionId, Error> {
    let session = service.session().clone();
    world.time.block_on(async move { session.journal().await.map(|journal| journal.session().clone()) })
}

/// How many sessions the server has made.
fn sessions_made(world: &World) -> usize {
    world.sent().iter().filter(|path| path.ends_with("/create_session")).count()
}

#[test]
fn a_session_is_written_down_before_it_is_used() {
    let world = World::new(1);
    world.disk.refuse(Some(StoreErrorKind::Unavailable));
    let service = world.service();
    let error = world.time.block_on(model(&service)).err().expect("there is no disk");
    assert_eq!(error.kind(), &Kind::Storage(StoreErrorKind::Unavailable));
    assert!(!world.sent().iter().any(|path| path.ends_with("/create_model")), "{:?}", world.sent());
    world.disk.refuse(None);
    world.time.block_on(model(&service)).expect("the disk is back");
    service.close();
}

#[test]
fn a_page_takes_the_newest_session_up_again_or_the_one_that_it_names() {
    let world = World::new(2);
    let mut sessions = Vec::new();
    for owner in ["a", "b"] {
        let service = world.service_of(owner, Resume::None);
        sessions.push(session_of(&world, &service).expect("the server is up"));
        service.close();
        world.time.advance(Duration::from_secs(1));
    }
    let newest = world.service_of("c", Resume::Newest);
    assert_eq!(session_of(&world, &newest).expect("it is kept"), sessions[1]);
    let named = world.service_of("d", Resume::This(sessions[0].clone()));
    assert_eq!(session_of(&world, &named).expect("it is kept"), sessions[0]);
    assert_eq!(sessions_made(&world), 2);
    newest.close();
    named.close();
}

#[test]
fn without_a_session_to_resume_a_new_one_is_made_and_one_that_is_named_must_be_there() {
    let world = World::new(3);
    let named = world.service_of("a", Resume::This("nobody's".into()));
    let error = session_of(&world, &named).expect_err("it is not kept here");
    assert_eq!(error.kind(), &Kind::InvalidArgument { field: "session".into() });
    let newest = world.service_of("b", Resume::Newest);
    session_of(&world, &newest).expect("a new one is made");
    assert_eq!(sessions_made(&world), 1);
    named.close();
    newest.close();
}

#[test]
fn the_next_instance_of_a_page_has_the_session_of_the_one_that_died_without_asking() {
    let world = World::new(4);
    let (first, instance) = world.mortal("page", Resume::None);
    let session = session_of(&world, &first).expect("the server is up");
    instance.die_after(0);
    let next = world.service_of("page", Resume::None);
    assert_eq!(session_of(&world, &next).expect("the session lives"), session);
    assert_eq!(sessions_made(&world), 1);
    next.close();
}

#[test]
fn a_session_that_is_gone_says_so_with_what_is_kept_of_it() {
    let world = World::new(5);
    let (first, instance) = world.mortal("a", Resume::None);
    let id = world.time.block_on(async {
        let client = model(&first).await.expect("the server is up").client;
        world.set_up(false);
        let _asked = client.ask(Ask::OptimStep(adam()), Name::default(), &Progress::default());
        world.runtime_timer(Duration::from_secs(1)).await;
        client.model().clone()
    });
    instance.die_after(0);
    world.set_up(true);
    world.time.advance(Duration::from_secs(24 * 3_600));
    let second = world.service_of("b", Resume::Newest);
    let error = session_of(&world, &second).expect_err("it has ended");
    assert_eq!(error.status(), Some(410));
    assert!(error.message().contains(&format!("1 of {id} (optimStep)")), "{error}");
    let error = session_of(&world, &second).expect_err("and stays so");
    assert_eq!(error.status(), Some(410));
    second.close();
    let third = world.service();
    session_of(&world, &third).expect("a new one can be made");
    third.close();
}

#[test]
fn sessions_that_ended_long_ago_go_unless_something_is_left_in_them() {
    let world = World::new(14);
    let unseen = world.first_life(async |client| {
        let asked =
            client.ask(Ask::OptimStep(adam()), Name { key: 1, ..Name::default() }, &Progress::default());
        asked.await.expect("the server is up");
    });
    let empty = world.service_of("empty", Resume::None);
    world.time.block_on(model(&empty)).expect("the server is up");
    empty.close();
    let run = world.service_of("run/a", Resume::None);
    session_of(&world, &run).expect("the server is up");
    run.close();
    let kept_after = |days: u64| {
        world.time.advance(Duration::from_secs(days * 24 * 3_600));
        let page = world.service_of(&format!("page {:?}", world.time.now()), Resume::None);
        session_of(&world, &page).expect("the server is up");
        page.close();
        world.time.run_until_stalled();
        (world.disk.keys_of("session/").len(), world.disk.keys_of("model/").len())
    };
    assert_eq!(kept_after(29), (4, 2), "all of them, and the page's own");
    assert_eq!(kept_after(2), (4, 1), "the empty one has gone, and the page has another");
    assert_eq!(kept_after(2), (5, 1), "none is old enough");
    assert_eq!(world.disk.keys_of("model/"), [format!("model/{unseen}")], "a result waits to be seen");
}

#[test]
fn a_session_that_the_server_still_has_is_not_cleared() {
    let world = World::new(15);
    let old = world.service();
    let id = session_of(&world, &old).expect("the server is up");
    world.time.advance(Duration::from_secs(31 * 24 * 3_600));
    let page = world.service_of("page two", Resume::None);
    session_of(&world, &page).expect("the server is up");
    assert_eq!(world.disk.keys_of("session/").len(), 2);
    assert_eq!(session_of(&world, &old).expect("it lives, and is its own"), id);
    old.close();
    page.close();
}

#[test]
fn models_and_samplers_of_a_resumed_session_take_numbers_that_nobody_had() {
    let world = World::new(6);
    let (first, instance) = world.mortal("a", Resume::None);
    let make = async |service: &Service| {
        let made = of_base(service, NOOP).await.expect("the server is up").client;
        let sampler = service.create_sampling_client(Some(NOOP.into()), None, &Progress::default());
        (
            made.model().as_str().to_owned(),
            sampler.await.expect("the server is up").client.id().as_str().to_owned(),
        )
    };
    let before = world.time.block_on(make(&first));
    instance.die_after(0);
    let second = world.service_of("b", Resume::Newest);
    let after = world.time.block_on(make(&second));
    let number =
        |id: &str| id.rsplit(':').next().and_then(|number| number.parse::<u64>().ok()).expect("an id");
    assert!(number(&after.0) > number(&before.0), "{before:?} {after:?}");
    assert!(number(&after.1) > number(&before.1), "{before:?} {after:?}");
    second.close();
}

#[test]
fn a_model_that_is_not_kept_or_has_a_client_already_is_said() {
    let world = World::new(7);
    let service = world.service();
    world.time.block_on(async {
        let made = model(&service).await.expect("the server is up");
        let error = resume(&service, made.client.model()).await.err().expect("it has a client");
        assert!(error.message().contains("has a client already"), "{error}");
        let error = resume(&service, &ModelId::new("nobody's")).await.err().expect("it is not kept");
        assert_eq!(error.kind(), &Kind::InvalidArgument { field: "modelId".into() });
        service.close_client(&made.pid).await;
        let again = resume(&service, made.client.model()).await.expect("its client was closed");
        again.optim_step(adam(), &Progress::default()).await.expect("it goes on");
    });
    service.close();
}

#[test]
fn a_model_of_another_session_is_said_with_that_session() {
    let world = World::new(8);
    let (first, second) = (world.service_of("a", Resume::None), world.service_of("b", Resume::None));
    world.time.block_on(async {
        let made = model(&first).await.expect("the server is up").client;
        let error = resume(&second, made.model()).await.err().expect("it is the other's");
        let session = first.session().id().expect("it is open");
        assert!(error.message().contains(session.as_str()), "{error}");
    });
    first.close();
    second.close();
}

#[test]
fn leaving_never_finishes_a_session_and_finish_does_once_everything_was_seen() {
    let world = World::new(9);
    let service = world.service();
    world.time.block_on(async {
        let client = model(&service).await.expect("the server is up").client;
        let name = Name { key: 1, ..Name::default() };
        client.ask(Ask::OptimStep(adam()), name, &Progress::default()).await.expect("the server is up");
        let error = service.finish().await.expect_err("its result was not seen");
        assert_eq!(error.kind(), &Kind::Pending);
        assert!(error.message().contains("optimStep"), "{error}");
        client.seen(1);
        service.finish().await.expect("everything was seen");
        let error = client.optim_step(adam(), &Progress::default()).await.expect_err("it is finished");
        assert_eq!(error.kind(), &Kind::Closed, "{error}");
    });
    assert_eq!(world.disk.keys(), [""; 0], "nothing of it is kept");
    assert!(world.sent().iter().any(|path| path.ends_with("/finish")));
    service.close();

    let leaving = World::new(9);
    let service = leaving.service();
    leaving.time.block_on(model(&service)).expect("the server is up");
    service.close();
    leaving.time.advance(Duration::from_secs(60));
    assert!(!leaving.sent().iter().any(|path| path.ends_with("/finish")), "{:?}", leaving.sent());
}

#[test]
fn a_session_of_which_nothing_was_asked_is_finished_already() {
    let world = World::new(10);
    let service = world.service();
    world.time.block_on(service.finish()).expect("there is nothing to finish");
    assert_eq!(world.requests(), 0);
    service.close();
}

/// A hidden tab's timers come once a minute, and a frozen one's not at all; answers come all the same.
#[test]
fn late_timers_do_not_end_a_session_in_which_something_happens() {
    let world = World::new(11);
    let (service, instance) = world.mortal("page", Resume::None);
    world.time.block_on(async {
        let client = model(&service).await.expect("the server is up").client;
        instance.delay_timers(Duration::from_secs(3_600));
        for _ in 0..60 {
            client.optim_step(adam(), &Progress::default()).await.expect("the session lives");
            world.runtime_timer(Duration::from_secs(60)).await;
        }
    });
    service.close();
}

#[test]
fn a_server_that_answers_the_same_number_with_the_same_request_is_known_to() {
    let world = World::new(12);
    let service = world.service();
    world.time.block_on(async {
        model(&service).await.expect("the server is up");
        let journal = service.session().journal().await.expect("it is open");
        assert_eq!(journal.exactly_once(), Some(true));
        let sent = world.sent().len();
        model(&service).await.expect("the server is up");
        let again = world.sent()[sent..].iter().filter(|path| path.ends_with("/create_model")).count();
        assert_eq!(again, 1, "one probe a session");
    });
    let resumed = world.service_of("b", Resume::Newest);
    world.time.block_on(async {
        let journal = resumed.session().journal().await.expect("the session lives");
        assert_eq!(journal.exactly_once(), Some(true), "and kept");
    });
    service.close();
    resumed.close();
}
