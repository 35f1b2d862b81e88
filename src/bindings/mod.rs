//! The wasm boundary: messages in, answers and events out. The only place that knows JavaScript's values, with the
//! browser's half of `platform`.
//!
//! The classes in `js/` hold ids. Their owner passes each call on with a key, and gets exactly one answer for it:
//!
//! | export | what |
//! |---|---|
//! | `start(host)` | once, first: who gets the answers |
//! | `open(service, options)` | makes a service |
//! | `call(key, service, client, method, args)` | starts a call; client 0 is the service itself |
//! | `cancel(key)` | the caller doesn't wait any more |
//!
//! Calls are answered through the host: `settle(key, value)` or `fail(key, error)`.

mod arguments;
mod commands;
mod desk;
#[cfg(feature = "fault-injection")]
mod faults;
mod host;
mod plain;
mod results;

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use tinkex_supervise::{Address, Report, ReportContext};
use wasm_bindgen::prelude::*;

use crate::error::{Error, Outcome};
use crate::platform::browser::Browser;
use crate::service::Service;
use desk::{Desk, Message};
use host::{Host, Promise, ServiceHost};
use plain::Given;

struct Instance {
    host: Host,
    services: HashMap<u32, Address<Message>>,
}

thread_local! {
    /// Apart from the rest, which may be borrowed at the moment of death.
    static OWNER: OnceCell<Host> = const { OnceCell::new() };
    static INSTANCE: RefCell<Option<Instance>> = const { RefCell::new(None) };
}

/// Sets the owner, and lets it know when this instance dies of what can't be caught.
#[wasm_bindgen]
pub fn start(host: Host) {
    wasm_bindgen::handler::set_on_abort(dying);
    OWNER.with(|owner| owner.set(host.clone()).ok());
    INSTANCE.with_borrow_mut(|instance| *instance = Some(Instance { host, services: HashMap::new() }));
}

/// Makes a service. Its options were checked by the class; nothing is sent before the first call.
#[wasm_bindgen]
pub fn open(service: u32, options: JsValue) -> Result<(), JsValue> {
    let settings = arguments::settings(&Given(options))
        .map_err(|error| JsValue::from(js_sys::Error::new(error.message())))?;
    let Some(host) = INSTANCE.with_borrow(|instance| instance.as_ref().map(|instance| instance.host.clone()))
    else {
        return Err(JsValue::from_str("start comes before open"));
    };
    let platform = Browser::new(ServiceHost { host: host.clone(), service });
    let (desk, address) = Desk::new();
    let opened = Service::open(platform, settings, {
        let desk = desk.clone();
        move |service| Some(desk.spec(service))
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
        if let Some(instance) = instance {
            instance.services.insert(service, address);
        }
    });
    Ok(())
}

/// Starts a call. Exactly one answer comes through the host.
#[wasm_bindgen]
pub fn call(key: u32, service: u32, client: u32, method: String, args: JsValue) {
    INSTANCE.with_borrow(|instance| {
        let Some(instance) = instance else { return };
        let promise = Promise::new(instance.host.clone(), key);
        let message = Message::Call { promise, client, method, args };
        let Some(address) = instance.services.get(&service) else { return refuse(message) };
        if let Err(message) = address.send(message) {
            refuse(message);
        }
    });
}

/// Gives a call up. It is answered all the same: as given up, or with its result if that came first.
#[wasm_bindgen]
pub fn cancel(key: u32) {
    INSTANCE.with_borrow(|instance| {
        for address in instance.iter().flat_map(|instance| instance.services.values()) {
            // A service that is closed has answered all its calls.
            let _ = address.send(Message::Cancel(key));
        }
    });
}

/// Called when this instance has met what can't be caught: there is time for one call.
fn dying() {
    OWNER.with(|owner| owner.get().map(Host::aborted));
}

fn refuse(message: Message) {
    if let Message::Call { promise, .. } = message {
        promise.settle(Err(Error::closed("this service", Outcome::NotSent)));
    }
}
