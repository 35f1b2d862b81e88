//! Messages in order, and calls that end.

use futures_util::FutureExt;
use tinkex_supervise::*;

use crate::world::*;

enum Message {
    Put(u32),
    Sum(Reply<u32>),
    Never(Reply<u32>),
    Drop(Reply<u32>),
}

fn server(world: &World) -> (Address<Message>, Supervisor) {
    let slot = std::rc::Rc::new(std::cell::RefCell::new(None));
    let place = slot.clone();
    let spec = ChildSpec::new("server", move |ctx| {
        let (address, mut mailbox) = mailbox();
        ctx.show_queue("mailbox", mailbox.length());
        place.borrow_mut().replace(address);
        async move {
            ctx.ready();
            let (mut sum, mut held) = (0, Vec::new());
            while let Some(message) = ctx.until_shutdown(mailbox.next()).await? {
                match message {
                    Message::Put(number) => sum += number,
                    Message::Sum(reply) => assert_eq!(reply.send(sum), Ok(())),
                    Message::Never(reply) => held.push(reply),
                    Message::Drop(reply) => drop(reply),
                }
            }
            Ok::<_, Cancelled>(())
        }
    });
    let supervisor = world.started(Strategy::OneForOne);
    world.add(&supervisor, spec.restart(Restart::Temporary));
    (slot.take().unwrap(), supervisor)
}

#[test]
fn a_call_is_answered_in_the_order_of_messages() {
    let world = World::new();
    let (address, _supervisor) = server(&world);
    for number in 1..=10 {
        assert!(address.send(Message::Put(number)).is_ok());
    }
    let server = |world: &World| world.system.snapshot().pop().unwrap();
    assert_eq!(server(&world).queues, [("mailbox", 10)]);
    assert_eq!(world.run(address.call(&world.system, seconds(5), Message::Sum)), Ok(55));
    assert_eq!(server(&world).queues, [("mailbox", 0)]);
    assert_eq!(world.time.live_timers(), 0);
}

#[test]
fn a_call_ends_with_its_time() {
    let world = World::new();
    let (address, _supervisor) = server(&world);
    let answer = world.run(address.call(&world.system, seconds(5), Message::Never));
    assert_eq!(answer, Err(CallError::Timeout));
    assert_eq!(world.time.now(), seconds(5));
    assert_eq!(CallError::Timeout.to_string(), "no answer in time");
}

#[test]
fn a_call_ends_with_the_one_who_should_answer() {
    let world = World::new();
    let (address, supervisor) = server(&world);
    let dropped = world.run(address.call(&world.system, seconds(5), Message::Drop));
    assert_eq!(dropped, Err(CallError::NoProcess));
    let system = world.system.clone();
    let mut call = Box::pin(address.call(&system, seconds(5), Message::Never));
    assert!((&mut call).now_or_never().is_none());
    world.settle();
    assert!(!address.is_closed());
    world.terminate(&pid_of(&supervisor, "server"), abnormal());
    assert_eq!(call.now_or_never(), Some(Err(CallError::NoProcess)));
    assert!(address.is_closed());
    assert!(address.send(Message::Put(1)).is_err());
    let late = world.run(address.call(&world.system, seconds(5), Message::Sum));
    assert_eq!(late, Err(CallError::NoProcess));
    assert_eq!(world.time.now(), ms(0));
    assert_eq!(CallError::NoProcess.to_string(), "nobody is there to answer");
}

#[test]
fn a_mailbox_ends_when_nobody_can_write_to_it() {
    let (address, mut inbox) = mailbox();
    let second = address.clone();
    assert!(inbox.is_empty());
    assert!(address.send(1).is_ok());
    assert_eq!(inbox.len(), 1);
    let length = inbox.length();
    drop(address);
    assert_eq!(inbox.next().now_or_never(), Some(Some(1)));
    assert!(inbox.is_empty() && length() == 0);
    assert_eq!(inbox.next().now_or_never(), None, "one address is left");
    drop(second);
    assert_eq!(inbox.next().now_or_never(), Some(None));
    drop(inbox);
    assert_eq!(length(), 0);
}

#[test]
fn the_last_address_wakes_the_reader() {
    let world = World::new();
    let tasks = TaskSupervisor::new("tasks");
    world.run(tasks.start(&world.system)).unwrap();
    let (address, mut inbox) = mailbox::<()>();
    let reader = tasks.spawn("reader", move |_| async move { inbox.next().await.is_none() });
    world.settle();
    drop(address);
    assert_eq!(world.run(reader), Ok(true));
}

#[test]
fn an_answer_that_nobody_waits_for_can_be_left() {
    let world = World::new();
    let (address, mut inbox) = mailbox::<Reply<u8>>();
    {
        let mut call = Box::pin(address.call(&world.system, seconds(5), |reply| reply));
        assert!((&mut call).now_or_never().is_none());
    }
    let reply = inbox.next().now_or_never().unwrap().unwrap();
    assert!(reply.is_abandoned());
    assert_eq!(reply.send(1), Err(1));
}

#[test]
fn a_mailbox_is_empty_when_nothing_waits_in_it() {
    let (address, mailbox) = mailbox::<u8>();
    assert!(mailbox.is_empty());
    address.send(1).unwrap();
    assert!(!mailbox.is_empty() && mailbox.len() == 1);
}

#[test]
fn a_reply_that_was_dropped_says_so() {
    assert_eq!(Dropped.to_string(), "nobody is there to answer");
}
