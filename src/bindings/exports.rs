//! What JavaScript calls.

use std::cell::RefCell;
use std::rc::Rc;

use tinkex_supervise::{Address, Report, ReportContext, TaskHandle};
use wasm_bindgen::prelude::*;

use super::desk::{Desk, Message};
use super::door::{Door, here};
use super::host::{Promise, ServiceHost, log};
use crate::error::{Error, Outcome};
use crate::platform::browser::Browser;
use crate::platform::plain::{Given, Wrong};
use crate::service::Service;
use crate::wire::arguments;

struct Instance {
    /// What the page says of its network.
    online: bool,
    services: Vec<Opened>,
}

struct Opened {
    number: u32,
    service: Service,
    desk: Address<Message>,
    /// Tells the host how the tree changes.
    watch: Option<TaskHandle<()>>,
}

impl Instance {
    fn find(&mut self, service: u32) -> Option<&mut Opened> {
        self.services.iter_mut().find(|opened| opened.number == service)
    }

    /// To the desk that has the call of this key: the others know none.
    fn tell_all(&self, message: impl Fn() -> Message) {
        for opened in &self.services {
            // A service that is closed has answered all its calls.
            let _ = opened.desk.send(message());
        }
    }
}

thread_local! {
    static INSTANCE: RefCell<Instance> = const { RefCell::new(Instance { online: true, services: Vec::new() }) };
}

/// Makes a service. Its options were checked by the class; nothing is sent before the first call.
#[wasm_bindgen]
pub fn open(service: u32, options: &[u8]) {
    let wrong = Wrong::default();
    let settings = arguments::settings(Given::new(options, &wrong));
    if let Err(error) = wrong.check() {
        return log(service, "error", error.message());
    }
    let host = ServiceHost(service);
    let platform = Browser::new(host);
    let (desk, address) = Desk::new();
    let opened = Service::open(platform, Rc::new(host), settings, {
        let desk = desk.clone();
        move |service| {
            let door = Door::default();
            vec![door.runs(), desk.spec(service, door)]
        }
    });
    // The tree has crashed too often: nobody will answer any more, so everybody is answered now.
    let (desk, handle) = (Rc::downgrade(&desk), opened.clone());
    opened.system().on_report(move |report| {
        if let Report::Supervisor { supervisor, context: ReportContext::Shutdown, .. } = report
            && &**supervisor == "service"
            && let Some(desk) = desk.upgrade()
        {
            handle.close();
            desk.end("this service, whose parts crashed too often,");
        }
    });
    INSTANCE.with_borrow_mut(|instance| {
        if !instance.online {
            opened.wake(false);
        }
        instance.services.push(Opened { number: service, service: opened, desk: address, watch: None });
    });
}

/// Starts a call. Exactly one answer comes through the host.
#[wasm_bindgen]
pub fn call(key: u32, service: u32, client: u32, method: String, args: Vec<u8>) {
    INSTANCE.with_borrow_mut(|instance| {
        let promise = Promise::new(key);
        let message = Message::Call { promise, client, method, args };
        let Some(opened) = instance.find(service) else { return refuse(message) };
        if let Err(message) = opened.desk.send(message) {
            refuse(message);
        }
    });
}

/// Gives a call up. It is answered all the same: as given up, or with its result if that came first.
#[wasm_bindgen]
pub fn cancel(key: u32) {
    INSTANCE.with_borrow(|instance| instance.tell_all(|| Message::Cancel(key)));
}

/// A function of the page has ended, or failed with these words.
#[wasm_bindgen]
pub fn ended(key: u32, failure: Option<String>) {
    let message = || Message::Ended(key, failure.clone());
    INSTANCE.with_borrow(|instance| instance.tell_all(message));
}

/// What the page says to a run, by the key of the call that opened it: a plain value.
#[wasm_bindgen]
pub fn to_run(key: u32, message: Vec<u8>) {
    let message = || Message::ToRun(key, message.clone());
    INSTANCE.with_borrow(|instance| instance.tell_all(message));
}

/// The tree of a service as it is now: its rows, each after its supervisor; undefined where there is no such service. The second
/// file is here.
#[wasm_bindgen]
pub fn supervision(service: u32) -> JsValue {
    INSTANCE.with_borrow_mut(|instance| {
        let found = here().zip(instance.find(service));
        found.map_or(JsValue::UNDEFINED, |(deferred, opened)| deferred.rows(opened.service.system()))
    })
}

/// From now on the host is told when the tree of a service changes, or no more. The second file is here.
#[wasm_bindgen]
pub fn watch(service: u32, on: bool) {
    INSTANCE.with_borrow_mut(|instance| {
        let Some(opened) = instance.find(service) else { return };
        if let Some(former) = opened.watch.take() {
            former.cancel();
        }
        opened.watch = here().filter(|_| on).map(|deferred| deferred.tell(&opened.service, service));
    });
}

/// The page is hidden, and may never be seen again.
#[wasm_bindgen]
pub fn hidden() {
    INSTANCE.with_borrow(|instance| {
        instance.services.iter().for_each(|opened| opened.service.hidden());
    });
}

/// The page is back, or its network has come or gone: what waits for a next try tries now, and heartbeats that are due are
/// sent.
#[wasm_bindgen]
pub fn wake(online: bool) {
    INSTANCE.with_borrow_mut(|instance| {
        instance.online = online;
        instance.services.iter().for_each(|opened| opened.service.wake(online));
    });
}

/// The caller of a training call knows what came of it. With a service that is closed it stays in the journal, and comes
/// back as finished.
#[wasm_bindgen]
pub fn seen(key: u32) {
    INSTANCE.with_borrow(|instance| instance.tell_all(|| Message::Seen(key)));
}

/// Those that are open, or were.
pub fn services() -> Vec<Service> {
    INSTANCE.with_borrow(|instance| instance.services.iter().map(|opened| opened.service.clone()).collect())
}

fn refuse(message: Message) {
    if let Message::Call { promise, .. } = message {
        promise.settle(Err(Error::closed("this service", Outcome::NotSent)));
    }
}
