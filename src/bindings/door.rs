//! What a page that makes clients, trains and samples may never ask for, as far as it is known before a page has asked. Its code
//! is in a file of its own, which is loaded then (`scripts/build/split.mjs`): nothing out here names anything of it, and
//! [`provide`] is how it makes itself known.

use std::cell::{Cell, OnceCell};
use std::hint::black_box;
use std::rc::Rc;

use tinkex_supervise::{ChildSpec, DynamicSupervisor, System, TaskHandle};
use wasm_bindgen::JsValue;

use super::commands::{Client, Clients, Work};
use super::desk::OpenCall;
use crate::error::Error;
use crate::platform::plain::Given;
use crate::service::Service;

/// What the second file has.
pub trait Deferred {
    /// The methods of a service. What its runs start are children of the supervisor.
    fn methods(&self, service: &Service, clients: &Clients, runs: &DynamicSupervisor) -> Rc<dyn Methods>;

    /// All processes of a tree, each after its supervisor.
    fn rows(&self, system: &System) -> JsValue;

    /// Starts the task that tells the host how the tree of the service of this number is now, and each time when it has changed.
    fn tell(&self, service: &Service, number: u32) -> TaskHandle<()>;
}

/// The methods of one service and its clients.
pub trait Methods {
    /// As [`begin`](super::commands::begin): everything whose order matters happens before this returns.
    fn begin(&self, asked: Call) -> Result<Work, Error>;
}

/// A call of a method that the first file does not know.
pub struct Call<'a> {
    /// None where the service itself is asked.
    pub client: Option<&'a Client>,
    pub method: &'a str,
    pub given: Given<'a>,
    pub call: &'a Rc<OpenCall>,
}

/// The other end of a call that speaks with its page while it lasts.
pub trait Talk {
    /// A message of the page.
    fn hear(&self, message: Given);
}

thread_local! {
    static DEFERRED: Cell<Option<&'static dyn Deferred>> = const { Cell::new(None) };
}

/// From now on there is all of it.
pub fn provide(deferred: &'static dyn Deferred) {
    // The optimizer is not to know which it is: it would call what is in there by name.
    DEFERRED.set(Some(black_box(deferred)));
}

pub fn here() -> Option<&'static dyn Deferred> {
    DEFERRED.get()
}

/// The door of one service. Clones are the same.
#[derive(Clone)]
pub struct Door(Rc<Place>);

struct Place {
    runs: DynamicSupervisor,
    methods: OnceCell<Rc<dyn Methods>>,
}

impl Default for Door {
    fn default() -> Door {
        Door(Rc::new(Place { runs: DynamicSupervisor::new("runs"), methods: OnceCell::new() }))
    }
}

impl Door {
    /// Training runs, as a child of their service.
    pub fn runs(&self) -> ChildSpec {
        self.0.runs.child()
    }

    /// The methods behind it, once they are there.
    pub fn open(&self, service: &Service, clients: &Clients) -> Option<&dyn Methods> {
        let deferred = here()?;
        Some(&**self.0.methods.get_or_init(|| deferred.methods(service, clients, &self.0.runs)))
    }
}
