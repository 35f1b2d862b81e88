//! Messages to a process, and calls that end: with an answer, with the end of the other, or with a timeout.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    fmt,
    future::{Future, poll_fn},
    pin::pin,
    rc::Rc,
    task::{Context as TaskContext, Poll, Waker},
    time::Duration,
};

use crate::{
    deadlines::deadline,
    panics::destructor,
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
    let ends = Ends { addresses: Cell::new(1), closed: Cell::new(false), reader: Cell::new(None) };
    let shared = Rc::new(Shared { ends, messages: RefCell::default() });
    (Address(shared.clone()), Mailbox(shared))
}

struct Shared<M> {
    ends: Ends,
    messages: RefCell<VecDeque<M>>,
}

/// Who is there, at either end.
struct Ends {
    addresses: Cell<usize>,
    /// Nobody reads any more.
    closed: Cell<bool>,
    reader: Cell<Option<Waker>>,
}

/// Where to write to. It doesn't keep the mailbox alive.
pub struct Address<M>(Rc<Shared<M>>);

/// Where a process reads. When it is dropped, its unread messages are, and every call in them fails.
pub struct Mailbox<M>(Rc<Shared<M>>);

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
        if self.is_closed() {
            return Err(message);
        }
        self.0.messages.borrow_mut().push_back(message);
        self.0.ends.wake();
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
        self.0.ends.closed.get()
    }
}

impl<M> Mailbox<M> {
    /// The next message, in the order of sending; `None` when there is none and no address is left.
    pub async fn next(&mut self) -> Option<M> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The same, for a process that waits for other things as well.
    pub fn poll_next(&mut self, cx: &mut TaskContext<'_>) -> Poll<Option<M>> {
        let message = self.0.messages.borrow_mut().pop_front();
        if message.is_none() && self.0.ends.waits(cx) { Poll::Pending } else { Poll::Ready(message) }
    }

    /// How many messages wait. Also as a function for [`Context::show_queue`](crate::Context::show_queue).
    pub fn len(&self) -> usize {
        self.0.messages.borrow().len()
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
        let shared = self.0.clone();
        move || shared.messages.borrow().len()
    }
}

impl<M> Clone for Address<M> {
    fn clone(&self) -> Self {
        let addresses = &self.0.ends.addresses;
        addresses.set(addresses.get() + 1);
        Self(self.0.clone())
    }
}

impl<M> Drop for Address<M> {
    fn drop(&mut self) {
        destructor(&mut || self.0.ends.one_address_less());
    }
}

impl<M> Drop for Mailbox<M> {
    fn drop(&mut self) {
        destructor(&mut || {
            self.0.ends.closed.set(true);
            // What the waker holds may hold an address.
            self.0.ends.reader.take();
            // Not borrowed while they are dropped: they may do anything.
            let unread = self.0.messages.take();
            drop(unread);
        });
    }
}

impl Ends {
    fn wake(&self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// Whether a message may come yet; then the reader is woken for it.
    fn waits(&self, cx: &TaskContext<'_>) -> bool {
        let waits = self.addresses.get() > 0;
        if waits {
            self.reader.set(Some(cx.waker().clone()));
        }
        waits
    }

    fn one_address_less(&self) {
        self.addresses.set(self.addresses.get() - 1);
        if self.addresses.get() == 0 {
            self.wake();
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
