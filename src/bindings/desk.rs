//! Where calls from JavaScript arrive and their answers leave: one process of each service.
//!
//! Calls are taken in order, so those that were made without an `await` between them stay in order. Taking one is
//! quick: it finds the client, gives the call its place, and starts a task of that client which waits for the result.
//! When the task ends, however it ends, the desk answers.
//!
//! What the desk knows lives beside its process: should that crash, it starts again and goes on with the same calls.

use std::cell::{Cell, OnceCell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as Task, Poll, ready};

use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tinkex_supervise::{
    Address, CancelToken, CancelledFuture, ChildSpec, Context, Exit, Mailbox, TaskHandle, faults, mailbox,
};

use super::commands::{Clients, begin};
use super::door::{Door, Talk};
use super::host::Promise;
use crate::error::Error;
use crate::platform::plain::{Given, Plain, Wrong};
use crate::service::Service;

/// What the page says to a service's desk, each as the plain value that came.
pub enum Message {
    Call(Promise, Vec<u8>),
    /// Of a call that was made before.
    Of(Rc<[u8]>),
}

/// What a call's task ends with.
pub type Answer = Result<Vec<u8>, Error>;

pub struct Desk {
    /// `None` once the service has ended: from then on calls are refused where they are made.
    inbox: RefCell<Option<Mailbox<Message>>>,
    clients: Clients,
    open: RefCell<Open>,
    /// Calls of `close`, answered when everything else is.
    closing: RefCell<Vec<Promise>>,
}

/// Calls that are not answered yet.
#[derive(Default)]
struct Open {
    waiting: FuturesUnordered<LocalBoxFuture<'static, u32>>,
    /// In the order of their keys.
    calls: Vec<Rc<OpenCall>>,
}

/// One call, as its task, its waiter and `cancel` see it.
pub struct OpenCall {
    pub promise: Promise,
    /// The caller gave it up, so the end of its task is an abort and not the client's.
    given_up: Cell<bool>,
    task: RefCell<Option<TaskHandle<Answer>>>,
    /// Of a call whose work is a function of the page.
    pub on_page: OnceCell<OnPage>,
    /// Of a call that has opened a run, with which its page speaks.
    pub talk: OnceCell<Rc<dyn Talk>>,
}

/// The end of a function that runs on the page.
#[derive(Default)]
pub struct OnPage {
    pub ended: CancelToken,
    /// What it threw, in words.
    pub failure: RefCell<Option<String>>,
}

/// The desk's process: serves until it is asked to stop, and then until every call has ended.
struct Serving {
    desk: Rc<Desk>,
    service: Service,
    door: Door,
    /// None once it was asked.
    stop: Option<CancelledFuture>,
}

impl Desk {
    pub fn new() -> (Rc<Desk>, Address<Message>) {
        let (address, inbox) = mailbox();
        let desk = Desk {
            inbox: RefCell::new(Some(inbox)),
            clients: Clients::default(),
            open: RefCell::default(),
            closing: RefCell::default(),
        };
        (Rc::new(desk), address)
    }

    /// The desk as a child of its service.
    pub fn spec(self: Rc<Self>, service: &Service, door: Door) -> ChildSpec {
        let service = service.clone();
        ChildSpec::new("desk", move |ctx| self.clone().serve(service.clone(), door.clone(), ctx))
    }

    fn serve(self: Rc<Self>, service: Service, door: Door, ctx: Context) -> Serving {
        if let Some(inbox) = &*self.inbox.borrow() {
            ctx.show_queue("messages", inbox.length());
        }
        let open = self.clone();
        ctx.show_queue("open calls", move || open.open.borrow().calls.len());
        ctx.ready();
        Serving { desk: self, service, door, stop: Some(ctx.shutdown()) }
    }

    fn next(&self, cx: &mut Task) -> Poll<Option<Message>> {
        match &mut *self.inbox.borrow_mut() {
            Some(inbox) => inbox.poll_next(cx),
            None => Poll::Pending,
        }
    }

    /// Forgets a call that was answered, if there is one; `None` when there is no call any more.
    fn forget_answered(&self, cx: &mut Task) -> Poll<Option<()>> {
        let open = &mut *self.open.borrow_mut();
        let answered = open.waiting.poll_next_unpin(cx);
        answered.map(|key| key.map(|key| open.forget(key)))
    }

    fn cancel_all(&self) {
        for call in &self.open.borrow().calls {
            if let Some(task) = &*call.task.borrow() {
                task.cancel();
            }
        }
    }

    /// Answers whatever is left, and takes no more calls.
    pub fn end(&self, what: &str) {
        let closed = |promise: &Promise| promise.settle(Err(Error::closed(what, promise.progress.outcome())));
        let open = std::mem::take(&mut *self.open.borrow_mut());
        open.calls.iter().for_each(|call| closed(&call.promise));
        let inbox = self.inbox.borrow_mut().take();
        for promise in self.closing.take() {
            promise.settle(Ok(Plain::nothing()));
        }
        let Some(mut inbox) = inbox else { return };
        while let Some(message) = inbox.next().now_or_never().flatten() {
            let Message::Call(promise, asked) = message else { continue };
            match closes(Given::new(&asked, &Wrong::default())) {
                true => promise.settle(Ok(Plain::nothing())),
                false => closed(&promise),
            }
        }
    }

    /// Starts a call. A panic on the way rejects this call and no other.
    fn take(&self, service: &Service, door: &Door, promise: Promise, asked: Given) {
        let call = Rc::new(OpenCall {
            promise,
            given_up: Cell::new(false),
            task: RefCell::new(None),
            on_page: OnceCell::new(),
            talk: OnceCell::new(),
        });
        let begun = tinkex_supervise::contain(|| {
            faults::point!("desk");
            begin(&self.clients, service, door, asked, &call)
        });
        let task = match begun {
            Ok(Ok(task)) => task,
            Ok(Err(error)) => return call.promise.settle(Err(error)),
            Err(panic) => {
                let error = Error::from_exit(&Exit::Panic(panic), call.promise.progress.outcome());
                return call.promise.settle(Err(error));
            }
        };
        let key = call.promise.key();
        let mut open = self.open.borrow_mut();
        let place = open.calls.partition_point(|other| other.promise.key() < key);
        open.calls.insert(place, call.clone());
        *call.task.borrow_mut() = Some(task);
        open.waiting.push(Box::pin(async move {
            let answer = poll_fn(|cx| match &mut *call.task.borrow_mut() {
                Some(task) => task.poll_unpin(cx),
                None => Poll::Ready(Err(Exit::NoProcess)),
            })
            .await;
            call.promise.settle(answer.unwrap_or_else(|exit| Err(call.error(&exit))));
            key
        }));
    }

    fn to_run(&self, key: u32, message: Given) {
        let talk = self.open.borrow().find(key).and_then(|call| call.talk.get().cloned());
        if let Some(talk) = talk {
            talk.hear(message);
        }
    }

    fn ended(&self, key: u32, failure: Option<String>) {
        if let Some(call) = self.open.borrow().find(key)
            && let Some(on_page) = call.on_page.get()
        {
            *on_page.failure.borrow_mut() = failure;
            on_page.ended.cancel();
        }
    }

    fn give_up(&self, key: u32) {
        if let Some(call) = self.open.borrow().find(key) {
            call.given_up.set(true);
            call.promise.progress.give_up();
            if let Some(task) = &*call.task.borrow() {
                task.cancel();
            }
        }
    }
}

impl Serving {
    fn hear(&self, message: Message) {
        let Serving { desk, service, door, .. } = self;
        let wrong = Wrong::default();
        match message {
            Message::Call(promise, asked) => {
                let asked = Given::new(&asked, &wrong);
                if closes(asked) {
                    desk.closing.borrow_mut().push(promise);
                    service.close();
                } else {
                    desk.take(service, door, promise, asked);
                }
            }
            Message::Of(said) => {
                let said = Given::new(&said, &wrong);
                let key = said.count("key");
                match said.word("type") {
                    "cancel" => desk.give_up(key),
                    "ended" => desk.ended(key, said.optional_text("failure")),
                    "seen" => desk.clients.seen(key),
                    _ => desk.to_run(key, said.object("message")),
                }
            }
        }
    }
}

impl Future for Serving {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Task) -> Poll<()> {
        let this = &mut *self;
        while let Some(stop) = &mut this.stop {
            if let Poll::Ready(Some(message)) = this.desk.next(cx) {
                this.hear(message);
                continue;
            }
            // What has come is heard, and what has ended forgotten, before it is asked to stop.
            if matches!(this.desk.forget_answered(cx), Poll::Ready(Some(()))) {
                continue;
            }
            if stop.poll_unpin(cx).is_pending() {
                return Poll::Pending;
            }
            this.stop = None;
            this.desk.cancel_all();
        }
        while ready!(this.desk.forget_answered(cx)).is_some() {}
        this.desk.end("this service");
        Poll::Ready(())
    }
}

/// Whether this call is to close the service.
fn closes(asked: Given) -> bool {
    asked.count("client") == 0 && asked.word("method") == "close"
}

impl Open {
    fn place(&self, key: u32) -> Option<usize> {
        self.calls.binary_search_by_key(&key, |call| call.promise.key()).ok()
    }

    fn find(&self, key: u32) -> Option<&OpenCall> {
        self.place(key).map(|place| &*self.calls[place])
    }

    fn forget(&mut self, key: u32) {
        if let Some(place) = self.place(key) {
            self.calls.remove(place);
        }
    }
}

impl OpenCall {
    /// Why a call that was stopped has no result.
    pub fn stopped(&self) -> Error {
        self.error(&Exit::Shutdown)
    }

    fn error(&self, exit: &Exit) -> Error {
        let outcome = self.promise.progress.outcome();
        match exit.is_graceful() && self.given_up.get() {
            true => Error::aborted(outcome),
            false => Error::from_exit(exit, outcome),
        }
    }
}
