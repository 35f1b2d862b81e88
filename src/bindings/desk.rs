//! Where calls from JavaScript arrive and their answers leave: one process of each service.
//!
//! Calls are taken in order, so those that were made without an `await` between them stay in order. Taking one is
//! quick: it finds the client, gives the call its place, and starts a task of that client which waits for the result.
//! When the task ends, however it ends, the desk answers.
//!
//! What the desk knows lives beside its process: should that crash, it starts again and goes on with the same calls.

use std::cell::{Cell, OnceCell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as Task, Poll, Waker, ready};

use futures_util::FutureExt;
use tinkex_supervise::{
    Address, CancelToken, CancelledFuture, ChildSpec, Context, Exit, Mailbox, TaskHandle, destructor, faults,
    mailbox,
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
    /// Calls that are not answered yet, in the order of their keys.
    open: RefCell<Vec<Rc<OpenCall>>>,
    ended: Rc<Ended>,
    /// Calls of `close`, answered when everything else is.
    closing: RefCell<Vec<Promise>>,
}

/// The keys of calls whose tasks have come to their end, and are not answered yet.
#[derive(Default)]
struct Ended {
    keys: RefCell<Vec<u32>>,
    desk: Cell<Option<Waker>>,
}

/// What the task of a call has until its end, whatever that is.
pub struct Ends {
    key: u32,
    ended: Rc<Ended>,
}

/// One call, as its task, the desk and `cancel` see it.
pub struct OpenCall {
    pub promise: Promise,
    /// The caller gave it up, so the end of its task is an abort and not the client's.
    given_up: Cell<bool>,
    task: RefCell<Option<TaskHandle<Answer>>>,
    ended: Rc<Ended>,
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
            ended: Rc::default(),
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
        ctx.show_queue("open calls", move || open.open.borrow().len());
        ctx.ready();
        Serving { desk: self, service, door, stop: Some(ctx.shutdown()) }
    }

    fn next(&self, cx: &mut Task) -> Poll<Option<Message>> {
        match &mut *self.inbox.borrow_mut() {
            Some(inbox) => inbox.poll_next(cx),
            None => Poll::Pending,
        }
    }

    /// Answers a call whose task has ended, if there is one; `None` when there is no call any more.
    fn answer(&self, cx: &mut Task) -> Poll<Option<()>> {
        let mut at = 0;
        while let Some(key) = self.ended.key(at) {
            let Some(call) = self.find(key) else {
                self.ended.forget(at);
                continue;
            };
            if let Poll::Ready(answer) = call.poll(cx) {
                self.ended.forget(at);
                self.forget(key);
                call.promise.settle(answer);
                return Poll::Ready(Some(()));
            }
            // What it had is dropped, and its exit comes: that wakes once more.
            at += 1;
        }
        if self.open.borrow().is_empty() {
            return Poll::Ready(None);
        }
        self.ended.desk.set(Some(cx.waker().clone()));
        Poll::Pending
    }

    fn cancel_all(&self) {
        for call in &*self.open.borrow() {
            if let Some(task) = &*call.task.borrow() {
                task.cancel();
            }
        }
    }

    /// Answers whatever is left, and takes no more calls.
    pub fn end(&self, what: &str) {
        let closed = |promise: &Promise| promise.settle(Err(Error::closed(what, promise.progress.outcome())));
        let open = std::mem::take(&mut *self.open.borrow_mut());
        open.iter().for_each(|call| closed(&call.promise));
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
            ended: self.ended.clone(),
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
        *call.task.borrow_mut() = Some(task);
        let key = call.promise.key();
        let mut open = self.open.borrow_mut();
        let (Ok(place) | Err(place)) = place(&open, key);
        open.insert(place, call);
    }

    fn find(&self, key: u32) -> Option<Rc<OpenCall>> {
        let open = self.open.borrow();
        place(&open, key).ok().map(|place| open[place].clone())
    }

    fn forget(&self, key: u32) {
        let mut open = self.open.borrow_mut();
        if let Ok(place) = place(&open, key) {
            open.remove(place);
        }
    }

    fn to_run(&self, key: u32, message: Given) {
        if let Some(call) = self.find(key)
            && let Some(talk) = call.talk.get()
        {
            talk.hear(message);
        }
    }

    fn ended(&self, key: u32, failure: Option<String>) {
        if let Some(call) = self.find(key)
            && let Some(on_page) = call.on_page.get()
        {
            *on_page.failure.borrow_mut() = failure;
            on_page.ended.cancel();
        }
    }

    fn give_up(&self, key: u32) {
        if let Some(call) = self.find(key) {
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
            // What has come is heard, and what has ended answered, before it is asked to stop.
            if matches!(this.desk.answer(cx), Poll::Ready(Some(()))) {
                continue;
            }
            if stop.poll_unpin(cx).is_pending() {
                return Poll::Pending;
            }
            this.stop = None;
            this.desk.cancel_all();
        }
        while ready!(this.desk.answer(cx)).is_some() {}
        this.desk.end("this service");
        Poll::Ready(())
    }
}

/// Where the call of this key is, or else where it would be.
fn place(open: &[Rc<OpenCall>], key: u32) -> Result<usize, usize> {
    open.binary_search_by_key(&key, |call| call.promise.key())
}

/// Whether this call is to close the service.
fn closes(asked: Given) -> bool {
    asked.count("client") == 0 && asked.word("method") == "close"
}

impl OpenCall {
    /// For its task: the desk looks for an answer when this is dropped.
    pub fn ends(&self) -> Ends {
        Ends { key: self.promise.key(), ended: self.ended.clone() }
    }

    fn poll(&self, cx: &mut Task) -> Poll<Answer> {
        let exit = match &mut *self.task.borrow_mut() {
            Some(task) => ready!(task.poll_unpin(cx)),
            None => Err(Exit::NoProcess),
        };
        Poll::Ready(exit.unwrap_or_else(|exit| Err(self.error(&exit))))
    }

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

impl Ended {
    fn key(&self, at: usize) -> Option<u32> {
        self.keys.borrow().get(at).copied()
    }

    fn forget(&self, at: usize) {
        self.keys.borrow_mut().remove(at);
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        destructor(&mut || {
            self.ended.keys.borrow_mut().push(self.key);
            if let Some(desk) = self.ended.desk.take() {
                desk.wake();
            }
        });
    }
}
