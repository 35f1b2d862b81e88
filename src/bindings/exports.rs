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
}

thread_local! {
    static INSTANCE: RefCell<Instance> = const { RefCell::new(Instance { online: true, services: Vec::new() }) };
}

/// What the page says, as a plain value: `ToOwner` in `js/boundary.ts`. Each call is answered through the host, exactly once.
#[wasm_bindgen]
pub fn tell(message: Vec<u8>) {
    let wrong = Wrong::default();
    let said = Given::new(&message, &wrong);
    match said.word("type") {
        "open" => open(said.count("service"), said.object("options")),
        "call" => {
            let (promise, service) = (Promise::new(said.count("key")), said.count("service"));
            let message = Message::Call(promise, message);
            INSTANCE.with_borrow_mut(|instance| match instance.find(service) {
                Some(opened) => opened.desk.send(message).unwrap_or_else(refuse),
                None => refuse(message),
            });
        }
        "watch" => watch(said.count("service"), said.flag("on")),
        "hidden" => INSTANCE.with_borrow(|instance| {
            instance.services.iter().for_each(|opened| opened.service.hidden());
        }),
        "wake" => INSTANCE.with_borrow_mut(|instance| {
            instance.online = said.flag("online");
            instance.services.iter().for_each(|opened| opened.service.wake(instance.online));
        }),
        // To the desk that has the call of its key: the others know none, and one whose service is closed has answered all its calls.
        _ => {
            let message = Rc::from(message);
            INSTANCE.with_borrow(|instance| {
                for opened in &instance.services {
                    let _ = opened.desk.send(Message::Of(Rc::clone(&message)));
                }
            });
        }
    }
}

/// Makes a service. Its options were checked by the class; nothing is sent before the first call.
fn open(service: u32, options: Given) {
    let settings = arguments::settings(options);
    if let Err(error) = options.wrong().check() {
        return log(service, "error", error.message());
    }
    let host = ServiceHost(service);
    let platform = Browser::new(host);
    let (desk, address) = Desk::new();
    let opened = Service::open(platform, Rc::new(host), settings, {
        let desk = desk.clone();
        move |service, root| {
            let door = Door::default();
            root.with(door.runs()).with(desk.spec(service, door))
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
fn watch(service: u32, on: bool) {
    INSTANCE.with_borrow_mut(|instance| {
        let Some(opened) = instance.find(service) else { return };
        if let Some(former) = opened.watch.take() {
            former.cancel();
        }
        opened.watch = here().filter(|_| on).map(|deferred| deferred.tell(&opened.service, service));
    });
}

/// Those that are open, or were.
pub fn services() -> Vec<Service> {
    INSTANCE.with_borrow(|instance| instance.services.iter().map(|opened| opened.service.clone()).collect())
}

fn refuse(message: Message) {
    if let Message::Call(promise, _) = message {
        promise.settle(Err(Error::closed("this service", Outcome::NotSent)));
    }
}
