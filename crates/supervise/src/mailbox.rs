//! Messages to a process, and calls that end: with an answer, with the end of the other, or with a timeout.

use std::{
    cell::RefCell,
    collections::VecDeque,
    fmt,
    future::{Future, poll_fn},
    pin::pin,
    rc::{Rc, Weak},
    task::{Poll, Waker},
    time::Duration,
};

use crate::{
    deadlines::deadline,
    reply::{Reply, reply},
    system::System,
};

/// A mailbox and the address to write to. The mailbox goes to the process, the address to everyone else.
///
/// ```
/// # use tinkex_supervise::{*, virtual_time::VirtualTime};
/// # use std::time::Duration;
/// enum Ask {
///     Total(Reply<u32>),
/// }
///
/// # let world = VirtualTime::new(0);
/// # let system = System::new(world.runtime());
/// # let tasks = TaskSupervisor::new("tasks");
/// # world.block_on(async {
/// # tasks.start(&system).await.unwrap();
/// let (address, mut mailbox) = mailbox::<Ask>();
/// let counter = tasks.spawn("counter", |ctx| async move {
///     ctx.ready();
///     while let Some(Ask::Total(reply)) = mailbox.next().await {
///         let _ = reply.send(3);
///     }
/// });
/// let total = address.call(&system, Duration::from_secs(5), Ask::Total).await;
/// assert_eq!(total, Ok(3));
/// # });
/// ```
pub fn mailbox<M>() -> (Address<M>, Mailbox<M>) {
    let shared = Rc::new(RefCell::new(Shared { messages: VecDeque::new(), reader: None, addresses: 1 }));
    (Address(Rc::downgrade(&shared)), Mailbox(shared))
}

struct Shared<M> {
    messages: VecDeque<M>,
    reader: Option<Waker>,
    addresses: usize,
}

/// Where to write to. It doesn't keep the mailbox alive.
pub struct Address<M>(Weak<RefCell<Shared<M>>>);

/// Where a process reads. When it is dropped, its unread messages are, and every call in them fails.
pub struct Mailbox<M>(Rc<RefCell<Shared<M>>>);

/// Why a call has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallError {
    /// The time was over. The message may still be handled; its answer goes nowhere.
    Timeout,
    /// The mailbox is gone, or the reply was dropped: nobody will answer.
    NoProcess,
}

impl<M> Address<M> {
    /// Puts a message into the mailbox, in order. `Err` gives it back when nobody reads any more.
    pub fn send(&self, message: M) -> Result<(), M> {
        let Some(shared) = self.0.upgrade() else { return Err(message) };
        let reader = {
            let mut shared = shared.borrow_mut();
            shared.messages.push_back(message);
            shared.reader.take()
        };
        if let Some(reader) = reader {
            reader.wake();
        }
        Ok(())
    }

    /// Sends a message with a way back, and waits for the answer for `timeout` at most. A late answer is dropped.
    pub async fn call<R>(
        &self,
        system: &System,
        timeout: Duration,
        message: impl FnOnce(Reply<R>) -> M,
    ) -> Result<R, CallError> {
        let (reply, mut answer) = reply();
        self.send(message(reply)).map_err(|_| CallError::NoProcess)?;
        let mut time = pin!(deadline(system.clone(), timeout));
        poll_fn(|cx| {
            if let Poll::Ready(answer) = pin!(&mut answer).poll(cx) {
                return Poll::Ready(answer.map_err(|_| CallError::NoProcess));
            }
            time.as_mut().poll(cx).map(|()| Err(CallError::Timeout))
        })
        .await
    }

    /// Whether nobody reads any more.
    pub fn is_closed(&self) -> bool {
        self.0.strong_count() == 0
    }
}

impl<M> Mailbox<M> {
    /// The next message, in the order of sending; `None` when there is none and no address is left.
    pub async fn next(&mut self) -> Option<M> {
        poll_fn(|cx| {
            let mut shared = self.0.borrow_mut();
            if let Some(message) = shared.messages.pop_front() {
                return Poll::Ready(Some(message));
            }
            if shared.addresses == 0 {
                return Poll::Ready(None);
            }
            shared.reader = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// How many messages wait. Also as a function for [`Context::show_queue`](crate::Context::show_queue).
    pub fn len(&self) -> usize {
        self.0.borrow().messages.len()
    }

    /// Whether no message waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A function that gives the number of waiting messages, for [`Context::show_queue`](crate::Context::show_queue).
    pub fn length(&self) -> impl Fn() -> usize + 'static
    where
        M: 'static,
    {
        let shared = Rc::downgrade(&self.0);
        move || shared.upgrade().map_or(0, |shared| shared.borrow().messages.len())
    }
}

impl<M> Clone for Address<M> {
    fn clone(&self) -> Self {
        if let Some(shared) = self.0.upgrade() {
            shared.borrow_mut().addresses += 1;
        }
        Self(self.0.clone())
    }
}

impl<M> Drop for Address<M> {
    fn drop(&mut self) {
        let Some(shared) = self.0.upgrade() else { return };
        let reader = {
            let mut shared = shared.borrow_mut();
            shared.addresses -= 1;
            if shared.addresses == 0 { shared.reader.take() } else { None }
        };
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timeout => "no answer in time",
            Self::NoProcess => "nobody is there to answer",
        })
    }
}

impl std::error::Error for CallError {}
