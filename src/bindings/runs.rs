//! Training runs, as far as they are known before a page has used one. Their code is in a file of its own, which is loaded
//! then (`scripts/build/split.mjs`): nothing out here names anything of it, and [`provide`] is how it makes itself known.

use std::cell::{Cell, OnceCell};
use std::rc::Rc;

use tinkex_supervise::{ChildSpec, DynamicSupervisor};

use super::commands::Work;
use super::desk::OpenCall;
use crate::error::Error;
use crate::platform::plain::Given;
use crate::service::Service;

/// The methods of runs, of one service.
pub trait Methods {
    /// As [`begin`](super::commands::begin): everything whose order matters happens before this returns.
    fn begin(&self, method: &str, given: Given, args: &[u8], call: &Rc<OpenCall>) -> Result<Work, Error>;
}

/// The other end of a call that speaks with its page while it lasts.
pub trait Talk {
    /// A message of the page: a plain value.
    fn hear(&self, message: &[u8]);
}

/// Makes the methods of a service. What they start are children of the supervisor.
pub type Provider = fn(&Service, &DynamicSupervisor) -> Rc<dyn Methods>;

thread_local! {
    static PROVIDER: Cell<Option<Provider>> = const { Cell::new(None) };
}

/// From now on there are runs.
pub fn provide(provider: Provider) {
    PROVIDER.set(Some(provider));
}

/// The place of runs in a service's tree. Clones are the same.
#[derive(Clone)]
pub struct Runs(Rc<Place>);

struct Place {
    supervisor: DynamicSupervisor,
    methods: OnceCell<Rc<dyn Methods>>,
}

impl Default for Runs {
    fn default() -> Runs {
        let supervisor = DynamicSupervisor::new("runs");
        Runs(Rc::new(Place { supervisor, methods: OnceCell::new() }))
    }
}

impl Runs {
    /// The runs as a child of their service.
    pub fn child(&self) -> ChildSpec {
        self.0.supervisor.child()
    }

    /// Who knows this method, if it is of runs and their code is there.
    pub fn of(&self, service: &Service, method: &str) -> Option<Rc<dyn Methods>> {
        let of_runs = method.ends_with("Run") || matches!(method, "run" | "runs" | "stepCall");
        let provider = PROVIDER.get().filter(|_| of_runs)?;
        Some(self.0.methods.get_or_init(|| provider(service, &self.0.supervisor)).clone())
    }
}
