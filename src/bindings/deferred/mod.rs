//! The methods that a page needs when it does more than make clients, train and sample. All of this is in the second file of the
//! package: the first one reaches it through [`super::door`] alone.

mod page;
mod runs;
mod supervision;

use std::future::pending;
use std::rc::Rc;

use futures_util::future::LocalBoxFuture;
use tinkex_supervise::{Context, DynamicSupervisor, Exit, System, TaskHandle};
use wasm_bindgen::prelude::*;

use super::commands::{Client, Clients, Work, numbered, output, sampling, training, unknown};
use super::desk::{OnPage, OpenCall};
use super::door::{self, Call, Deferred, Methods};
use super::exports::services;
use crate::error::Error;
use crate::platform::plain::Plain;
use crate::run::Runs;
use crate::sampling::SamplingClient;
use crate::service::Service;
use crate::session::{deferred, earlier};
use crate::training::TrainingClient;
use crate::training::deferred::load_state;
use crate::wire::{arguments, results};

/// The second file is there: once, before anything of it is asked for.
#[wasm_bindgen]
pub fn provide_deferred() {
    earlier::provide(&deferred::Here);
    door::provide(&Here);
    for service in services() {
        let session = service.session().clone();
        // Whoever stops it finds what is left the next time.
        drop(service.calls().spawn_nolink("old sessions", |_| async move { session.clear_later().await }));
    }
}

struct Here;

impl Deferred for Here {
    fn methods(&self, service: &Service, clients: &Clients, runs: &DynamicSupervisor) -> Rc<dyn Methods> {
        let (service, clients) = (service.clone(), clients.clone());
        Rc::new(OfService { runs: Runs::new(&service, runs), service, clients })
    }

    fn rows(&self, system: &System) -> JsValue {
        supervision::rows(system)
    }

    fn tell(&self, service: &Service, number: u32) -> TaskHandle<()> {
        supervision::tell(service, number)
    }
}

struct OfService {
    service: Service,
    clients: Clients,
    runs: Runs,
}

impl Methods for OfService {
    fn begin(&self, asked: Call) -> Result<Work, Error> {
        match asked.client {
            Some(Client::Training(client, _)) => self.of_training(client, asked),
            Some(Client::Sampling(client, _)) => of_sampling(client, asked),
            None => self.of_service(asked),
        }
    }
}

impl OfService {
    fn of_service(&self, asked: Call) -> Result<Work, Error> {
        let OfService { service, clients, runs } = self;
        let Call { method, given, call, .. } = asked;
        Ok(match method {
            "resumeTrainingClient" => {
                let model = given.text("modelId").into();
                given.wrong().check()?;
                training(clients, service, service.resume_training_client(model))
            }
            "resumeSamplingClient" => {
                let id = given.text("samplingSessionId").into();
                given.wrong().check()?;
                sampling(clients, service, service.resume_sampling_client(id))
            }
            "createTrainingClientFromState" => {
                let (path, optimizer) = (given.text("path"), given.flag("optimizer"));
                let user_metadata = given.optional_texts("userMetadata");
                given.wrong().check()?;
                let progress = &call.promise.progress;
                let made =
                    service.create_training_client_from_state(path, optimizer, user_metadata, progress);
                training(clients, service, made)
            }
            "spawn" => function_of_the_page(call.clone()),
            "finish" => nothing(service.finish()),
            _ => return runs::begin(runs, asked),
        })
    }

    fn of_training(&self, client: &TrainingClient, asked: Call) -> Result<Work, Error> {
        let Call { method, given, call, .. } = asked;
        Ok(match method {
            "result" => {
                let first = given.count("seqId");
                given.wrong().check()?;
                let promise = &call.promise;
                let asked = client.result(first.into(), promise.key(), &promise.progress)?;
                output(self.clients.clone(), self.service.clone(), asked)
            }
            "loadState" => {
                let ask = load_state(given.text("path"), given.flag("optimizer"));
                numbered(&self.clients, &self.service, client, ask, given, &call.promise)?
            }
            "getInfo" => {
                let info = client.get_info();
                Box::pin(async move { Ok(results::model_info(&info.await?)) })
            }
            _ => return Err(unknown(method)),
        })
    }
}

fn of_sampling(client: &SamplingClient, asked: Call) -> Result<Work, Error> {
    let Call { method, given, call, .. } = asked;
    if method != "computeLogprobs" {
        return Err(unknown(method));
    }
    let prompt = arguments::prompt(given);
    given.wrong().check()?;
    let logprobs = client.compute_logprobs(prompt, &call.promise.progress);
    Ok(Box::pin(async move { Ok(results::logprobs(&logprobs.await?)) }))
}

/// The function runs on the page; its task waits for it, and ends as it does.
fn function_of_the_page(call: Rc<OpenCall>) -> Work {
    Box::pin(async move {
        let ctx = context();
        let _waiting = ctx.waiting_for("its function on the page");
        let on_page = call.on_page.get_or_init(OnPage::default);
        // From here on it may have asked the server for anything.
        call.promise.progress.sent();
        call.promise.run();
        on_page.ended.cancelled().await;
        if let Some(failure) = on_page.failure.take() {
            ctx.pid().kill(Exit::error(failure));
            pending::<()>().await;
        }
        Ok(Plain::nothing())
    })
}

/// What gives nothing when it is done.
pub fn nothing(done: LocalBoxFuture<'static, Result<(), Error>>) -> Work {
    Box::pin(async move { done.await.map(|()| Plain::nothing()) })
}

/// The task that polls this work.
fn context() -> Context {
    Context::current().expect("the work of a call is polled by its task alone")
}
