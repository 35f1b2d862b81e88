//! What each method does that a page needs to make clients, to train and to sample: its arguments read, its call placed in order,
//! its result put into JavaScript's terms. The other methods are behind the [`Door`].

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::Rc;

use futures_util::FutureExt;
use futures_util::future::{Either, LocalBoxFuture, select};
use tinkex_supervise::{Pid, TaskHandle, TaskSupervisor};

use super::desk::{Answer, OpenCall};
use super::door::{Call, Door};
use super::host::Promise;
use crate::error::{Error, Outcome};
use crate::platform::plain::{Given, Plain};
use crate::request::Progress;
use crate::sampling::SamplingClient;
use crate::service::{Made, Making, Service};
use crate::training::method::{Ask, Output};
use crate::training::{Asked, Name, TrainingClient};
use crate::wire::{arguments, results};

/// The clients of a service, by the numbers that JavaScript has for them.
#[derive(Clone, Default)]
pub struct Clients(Rc<Registry>);

#[derive(Default)]
struct Registry {
    last: Cell<u32>,
    clients: RefCell<Vec<(u32, Rc<Client>)>>,
}

pub enum Client {
    Training(TrainingClient, Pid),
    Sampling(SamplingClient, Pid),
}

impl Clients {
    fn add(&self, client: Client) -> u32 {
        let number = self.0.last.get() + 1;
        self.0.last.set(number);
        self.0.clients.borrow_mut().push((number, Rc::new(client)));
        number
    }

    fn find(&self, number: u32) -> Option<Rc<Client>> {
        let clients = self.0.clients.borrow();
        clients.iter().find(|(known, _)| *known == number).map(|(_, client)| client.clone())
    }

    fn forget(&self, number: u32) {
        self.0.clients.borrow_mut().retain(|(known, _)| *known != number);
    }

    fn add_training(&self, service: &Service, made: Made<TrainingClient>) -> Vec<u8> {
        let client = made.client.clone();
        let number = self.add(Client::Training(made.client, made.pid));
        let journal = service.session().open_journal();
        results::new_client(
            number,
            "modelId",
            client.model().as_str(),
            journal.as_ref(),
            Some(client.pending()),
        )
    }

    fn add_sampling(&self, service: &Service, made: Made<SamplingClient>) -> Vec<u8> {
        let id = made.client.id().clone();
        let number = self.add(Client::Sampling(made.client, made.pid));
        let journal = service.session().open_journal();
        results::new_client(number, "samplingSessionId", id.as_str(), journal.as_ref(), None)
    }

    /// To the client that has the call of this key: the others know none.
    pub fn seen(&self, key: u32) {
        for (_, client) in &*self.0.clients.borrow() {
            if let Client::Training(training, _) = &**client {
                training.seen(key);
            }
        }
    }
}

/// A call that has its place in the order; polled as a task of its client. All methods have this one shape, so that
/// starting a task is compiled once.
pub type Work = LocalBoxFuture<'static, Answer>;

/// Places a call and starts the task that waits for it. Everything whose order matters happens before this returns.
pub fn begin(
    clients: &Clients,
    service: &Service,
    door: &Door,
    asked: Given,
    call: &Rc<OpenCall>,
) -> Result<TaskHandle<Answer>, Error> {
    let (number, method, given) = (asked.count("client"), asked.word("method"), asked.object("args"));
    let client = clients.find(number);
    if number != 0 && client.is_none() {
        return Err(Error::closed("this client", Outcome::NotSent));
    }
    let of_the_page = client.is_none() && method == "spawn";
    let closes = client.is_some() && method == "close";
    let tasks = match client.as_deref() {
        _ if of_the_page => service.tasks(),
        Some(Client::Training(training, _)) if !closes => training.calls(),
        Some(Client::Sampling(sampling, _)) if !closes => sampling.calls(),
        _ => service.calls(),
    };
    if !tasks.has_room() {
        return Err(Error::too_many_calls());
    }
    let name = if of_the_page { given.text("name") } else { method.to_owned() };
    let known = match client.as_deref() {
        Some(client) if closes => {
            clients.forget(number);
            Some(close(service.clone(), client))
        }
        Some(Client::Training(training, _)) => {
            of_training(clients, service, training, method, given, &call.promise)?
        }
        Some(Client::Sampling(sampling, _)) => of_sampling(sampling, method, given, &call.promise.progress)?,
        None => of_service(clients, service, method, given, &call.promise.progress)?,
    };
    let work = match known {
        Some(work) => work,
        None => {
            let more = door.open(service, clients).ok_or_else(|| unknown(method))?;
            more.begin(Call { client: client.as_deref(), method, given, call })?
        }
    };
    Ok(task(tasks, name, call, work))
}

fn close(service: Service, client: &Client) -> Work {
    let (Client::Training(_, pid) | Client::Sampling(_, pid)) = client;
    let pid = pid.clone();
    Box::pin(async move {
        service.close_client(&pid).await;
        Ok(Plain::nothing())
    })
}

fn of_service(
    clients: &Clients,
    service: &Service,
    method: &str,
    given: Given,
    progress: &Progress,
) -> Result<Option<Work>, Error> {
    Ok(Some(match method {
        "getServerCapabilities" => {
            Box::pin(service.server_capabilities().map(|known| Ok(results::capabilities(&known?))))
        }
        "createLoraTrainingClient" => {
            let lora = arguments::lora(given);
            given.wrong().check()?;
            training(clients, service, service.create_training_client(lora, progress))
        }
        "createSamplingClient" => {
            let base_model = given.optional_text("baseModel");
            let model_path = given.optional_text("modelPath");
            given.wrong().check()?;
            sampling(clients, service, service.create_sampling_client(base_model, model_path, progress))
        }
        _ => return Ok(None),
    }))
}

/// A training client that is being made; it joins the others.
pub fn training(clients: &Clients, service: &Service, made: Making<TrainingClient>) -> Work {
    let (clients, service) = (clients.clone(), service.clone());
    Box::pin(made.map(move |made| Ok(clients.add_training(&service, made?))))
}

/// A sampling client that is being made; it joins the others.
pub fn sampling(clients: &Clients, service: &Service, made: Making<SamplingClient>) -> Work {
    let (clients, service) = (clients.clone(), service.clone());
    Box::pin(made.map(move |made| Ok(clients.add_sampling(&service, made?))))
}

fn of_training(
    clients: &Clients,
    service: &Service,
    training: &TrainingClient,
    method: &str,
    given: Given,
    promise: &Promise,
) -> Result<Option<Work>, Error> {
    let ask = match method {
        "forward" | "forwardBackward" => {
            let (data, loss) = (arguments::data(given), arguments::loss(given, method == "forward"));
            given.wrong().check()?;
            training.cut(data, &loss)?
        }
        "optimStep" => Ask::OptimStep(arguments::adam(given)),
        "saveState" => Ask::SaveState(arguments::save(given)),
        "saveWeightsForSampler" => Ask::SaveWeightsForSampler(arguments::save(given)),
        "saveWeightsAndGetSamplingClient" => training.new_sampler(),
        _ => return Ok(None),
    };
    numbered(clients, service, training, ask, given, promise).map(Some)
}

/// A call that has a number takes its place in the order.
pub fn numbered(
    clients: &Clients,
    service: &Service,
    training: &TrainingClient,
    ask: Ask,
    given: Given,
    promise: &Promise,
) -> Result<Work, Error> {
    let label = given.optional_text("label").unwrap_or_default();
    let revocable = given.optional_flag("revocable").unwrap_or_default();
    let name = Name { key: promise.key(), label, revocable, ..Name::default() };
    given.wrong().check()?;
    Ok(output(clients.clone(), service.clone(), training.ask(ask, name, &promise.progress)))
}

/// Waits for what comes of a call, and puts it into JavaScript's terms.
pub fn output(clients: Clients, service: Service, asked: Asked) -> Work {
    let used = asked.resumed;
    Box::pin(async move {
        Ok(match asked.await? {
            Output::Forward(output) => results::forward(&output),
            Output::Step(metrics) => results::metrics(&metrics),
            Output::Path(path) => results::path(&path),
            Output::Loaded => Plain::nothing(),
            Output::Sampler(id) => {
                let made = service.start_sampling_client(id, used).await?;
                clients.add_sampling(&service, made)
            }
        })
    })
}

fn of_sampling(
    client: &SamplingClient,
    method: &str,
    given: Given,
    progress: &Progress,
) -> Result<Option<Work>, Error> {
    if method != "sample" {
        return Ok(None);
    }
    let sample = arguments::sample(given);
    given.wrong().check()?;
    let sampled = client.sample(sample, progress);
    Ok(Some(Box::pin(sampled.map(|sampled| Ok(results::sample(&sampled?))))))
}

/// The task of a call: does its work, or stops when it is asked to.
fn task(tasks: &TaskSupervisor, name: String, call: &Rc<OpenCall>, work: Work) -> TaskHandle<Answer> {
    let (call, ends) = (call.clone(), call.ends());
    tasks.spawn_nolink(name, move |ctx| async move {
        let _ends = ends;
        match select(work, pin!(ctx.shutdown())).await {
            Either::Left((answer, _)) => answer,
            Either::Right(_) => Err(call.stopped()),
        }
    })
}

#[cold]
#[inline(never)]
pub fn unknown(method: &str) -> Error {
    Error::invalid("method", ["there is no method ", method].concat())
}
