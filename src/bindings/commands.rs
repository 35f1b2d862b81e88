//! What each method does: its arguments read, its call placed in order, its result put into JavaScript's terms.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::pin::pin;
use std::rc::Rc;

use futures_util::future::{Either, LocalBoxFuture, select};
use tinkex_supervise::{Context, Pid, TaskHandle, TaskSupervisor};
use wasm_bindgen::JsValue;

use super::desk::{Answer, OpenCall};
use super::plain::Given;
use super::{arguments, results};
use crate::error::{Error, Outcome};
use crate::sampling::SamplingClient;
use crate::service::{Made, Service};
use crate::training::TrainingClient;

/// The clients of a service, by the numbers that JavaScript has for them.
#[derive(Clone, Default)]
pub struct Clients(Rc<Registry>);

#[derive(Default)]
struct Registry {
    last: Cell<u32>,
    clients: RefCell<HashMap<u32, Client>>,
}

#[derive(Clone)]
enum Client {
    Training(TrainingClient, Pid),
    Sampling(SamplingClient, Pid),
}

impl Clients {
    fn add(&self, client: Client) -> u32 {
        let number = self.0.last.get() + 1;
        self.0.last.set(number);
        self.0.clients.borrow_mut().insert(number, client);
        number
    }

    fn add_training(&self, made: Made<TrainingClient>) -> JsValue {
        let model_id = made.client.model().clone();
        results::new_client(self.add(Client::Training(made.client, made.pid)), "modelId", model_id.as_str())
    }

    fn add_sampling(&self, made: Made<SamplingClient>) -> JsValue {
        let id = made.client.id().clone();
        let client = self.add(Client::Sampling(made.client, made.pid));
        results::new_client(client, "samplingSessionId", id.as_str())
    }
}

type Work = LocalBoxFuture<'static, Answer>;

/// Places a call and starts the task that waits for it. Everything whose order matters happens before this returns.
pub fn begin(
    clients: &Clients,
    service: &Service,
    client: u32,
    method: &str,
    given: Given,
    call: &Rc<OpenCall>,
) -> Result<TaskHandle<Answer>, Error> {
    if client == 0 {
        return of_service(clients, service, method, given, call);
    }
    let client_number = client;
    let client = clients.0.clients.borrow().get(&client).cloned();
    match (client, method) {
        (Some(Client::Training(_, pid) | Client::Sampling(_, pid)), "close") => {
            let service = service.clone();
            clients.0.clients.borrow_mut().remove(&client_number);
            task(
                &service.calls().clone(),
                method,
                call,
                Box::new(move |_| {
                    Box::pin(async move {
                        service.close_client(&pid).await;
                        Ok(results::nothing())
                    })
                }),
            )
        }
        (Some(Client::Training(training, _)), _) => {
            of_training(clients, service, &training, method, given, call)
        }
        (Some(Client::Sampling(sampling, _)), _) => of_sampling(&sampling, method, given, call),
        (None, _) => Err(Error::closed("this client", Outcome::NotSent)),
    }
}

fn of_service(
    clients: &Clients,
    service: &Service,
    method: &str,
    given: Given,
    call: &Rc<OpenCall>,
) -> Result<TaskHandle<Answer>, Error> {
    let (clients, progress) = (clients.clone(), call.promise.progress.clone());
    let tasks = service.calls().clone();
    let service = service.clone();
    match method {
        "getServerCapabilities" => task(
            &tasks,
            method,
            call,
            Box::new(move |_| {
                Box::pin(async move { Ok(results::capabilities(service.server_capabilities().await?)) })
            }),
        ),
        "createLoraTrainingClient" => {
            let lora = arguments::lora(&given)?;
            task(
                &tasks,
                method,
                call,
                Box::new(move |ctx| {
                    let made = service.create_training_client(&ctx, lora, &progress);
                    Box::pin(async move { Ok(clients.add_training(made.await?)) })
                }),
            )
        }
        "createTrainingClientFromState" => {
            let (path, optimizer) = (given.text("path")?, given.flag("optimizer")?);
            let user_metadata = given.optional_texts("userMetadata")?;
            task(
                &tasks,
                method,
                call,
                Box::new(move |ctx| {
                    let made = service.create_training_client_from_state(
                        &ctx,
                        path,
                        optimizer,
                        user_metadata,
                        &progress,
                    );
                    Box::pin(async move { Ok(clients.add_training(made.await?)) })
                }),
            )
        }
        "createSamplingClient" => {
            let base_model = given.optional_text("baseModel")?;
            let model_path = given.optional_text("modelPath")?;
            task(
                &tasks,
                method,
                call,
                Box::new(move |_| {
                    let made = service.create_sampling_client(base_model, model_path, &progress);
                    Box::pin(async move { Ok(clients.add_sampling(made.await?)) })
                }),
            )
        }
        _ => Err(unknown(method)),
    }
}

fn of_training(
    clients: &Clients,
    service: &Service,
    training: &TrainingClient,
    method: &str,
    given: Given,
    call: &Rc<OpenCall>,
) -> Result<TaskHandle<Answer>, Error> {
    let tasks = training.calls();
    if !tasks.has_room() {
        return Err(Error::too_many_calls());
    }
    let progress = &call.promise.progress;
    let work: Work = match method {
        "forward" | "forwardBackward" => {
            let (data, loss) = arguments::forward(&given, method == "forward")?;
            let output = training.forward_backward(data, loss, progress);
            Box::pin(async move { Ok(results::forward(output.await?)) })
        }
        "optimStep" => {
            let step = training.optim_step(arguments::adam(&given)?, progress);
            Box::pin(async move { Ok(results::metrics(&step.await?)) })
        }
        "saveState" => {
            let saved = training.save_state(arguments::save(&given)?, progress);
            Box::pin(async move { Ok(results::path(&saved.await?)) })
        }
        "loadState" => {
            let (path, optimizer) = (given.text("path")?, given.flag("optimizer")?);
            let loaded = training.load_state(path, optimizer, progress);
            Box::pin(async move { loaded.await.map(|()| results::nothing()) })
        }
        "saveWeightsForSampler" => {
            let saved = training.save_weights_for_sampler(arguments::save(&given)?, progress);
            Box::pin(async move { Ok(results::path(&saved.await?)) })
        }
        "saveWeightsAndGetSamplingClient" => {
            let saved = training.save_weights_for_new_sampler(progress);
            let (clients, service) = (clients.clone(), service.clone());
            Box::pin(async move {
                let made = service.start_sampling_client(saved.await?).await?;
                Ok(clients.add_sampling(made))
            })
        }
        "getInfo" => {
            let info = training.get_info();
            Box::pin(async move { Ok(results::model_info(info.await?)) })
        }
        _ => return Err(unknown(method)),
    };
    task(tasks, method, call, Box::new(move |_| work))
}

fn of_sampling(
    sampling: &SamplingClient,
    method: &str,
    given: Given,
    call: &Rc<OpenCall>,
) -> Result<TaskHandle<Answer>, Error> {
    let progress = call.promise.progress.clone();
    let client = sampling.clone();
    match method {
        "sample" => {
            let sample = arguments::sample(&given)?;
            task(
                sampling.calls(),
                method,
                call,
                Box::new(move |ctx| {
                    let sampled = client.sample(&ctx, sample, &progress);
                    Box::pin(async move { Ok(results::sample(sampled.await?)) })
                }),
            )
        }
        "computeLogprobs" => {
            let prompt = arguments::prompt(&given)?;
            task(
                sampling.calls(),
                method,
                call,
                Box::new(move |ctx| {
                    let logprobs = client.compute_logprobs(&ctx, prompt, &progress);
                    Box::pin(async move { Ok(results::logprobs(&logprobs.await?)) })
                }),
            )
        }
        _ => Err(unknown(method)),
    }
}

/// The task of a call: does its work, or stops when it is asked to.
fn task(
    tasks: &TaskSupervisor,
    method: &str,
    call: &Rc<OpenCall>,
    // Boxed, so that starting a task is compiled once and not for each method.
    work: Box<dyn FnOnce(Context) -> Work>,
) -> Result<TaskHandle<Answer>, Error> {
    if !tasks.has_room() {
        return Err(Error::too_many_calls());
    }
    let call = call.clone();
    Ok(tasks.spawn_nolink(method, move |ctx| async move {
        let stop = pin!(ctx.shutdown());
        match select(work(ctx.clone()), stop).await {
            Either::Left((answer, _)) => answer,
            Either::Right(_) => Err(call.stopped()),
        }
    }))
}

fn unknown(method: &str) -> Error {
    Error::invalid("method", format!("there is no method {method:?}"))
}
