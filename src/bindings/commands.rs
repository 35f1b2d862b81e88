//! What each method does: its arguments read, its call placed in order, its result put into JavaScript's terms.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::pin::pin;
use std::rc::Rc;

use futures_util::future::{Either, LocalBoxFuture, select};
use tinkex_supervise::{Context, Pid, TaskHandle, TaskSupervisor};
use wasm_bindgen::JsValue;

use super::arguments::{self as args, model_input, read};
use super::desk::{Answer, OpenCall};
use super::results::{
    Capabilities, Forward, Logprobs, Metrics, ModelInfo, NewSamplingClient, NewTrainingClient, Nothing, Path,
    Sample, to_js,
};
use crate::error::{Error, Outcome};
use crate::sampling::{self, SamplingClient};
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

    fn add_training(&self, made: Made<TrainingClient>) -> NewTrainingClient {
        let model_id = made.client.model().as_str().to_owned();
        NewTrainingClient { client: self.add(Client::Training(made.client, made.pid)), model_id }
    }

    fn add_sampling(&self, made: Made<SamplingClient>) -> NewSamplingClient {
        let sampling_session_id = made.client.id().as_str().to_owned();
        NewSamplingClient { client: self.add(Client::Sampling(made.client, made.pid)), sampling_session_id }
    }
}

type Work = LocalBoxFuture<'static, Answer>;

/// Places a call and starts the task that waits for it. Everything whose order matters happens before this returns.
pub fn begin(
    clients: &Clients,
    service: &Service,
    client: u32,
    method: &str,
    arguments: JsValue,
    call: &Rc<OpenCall>,
) -> Result<TaskHandle<Answer>, Error> {
    if client == 0 {
        return of_service(clients, service, method, arguments, call);
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
                        to_js(&Nothing {})
                    })
                }),
            )
        }
        (Some(Client::Training(training, _)), _) => {
            of_training(clients, service, &training, method, arguments, call)
        }
        (Some(Client::Sampling(sampling, _)), _) => of_sampling(&sampling, method, arguments, call),
        (None, _) => Err(Error::closed("this client", Outcome::NotSent)),
    }
}

fn of_service(
    clients: &Clients,
    service: &Service,
    method: &str,
    arguments: JsValue,
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
                Box::pin(async move { to_js(&Capabilities::from(service.server_capabilities().await?)) })
            }),
        ),
        "createLoraTrainingClient" => {
            let given: args::CreateLoraTrainingClient = read(arguments)?;
            task(
                &tasks,
                method,
                call,
                Box::new(move |ctx| {
                    let made = service.create_training_client(&ctx, given.into(), &progress);
                    Box::pin(async move { to_js(&clients.add_training(made.await?)) })
                }),
            )
        }
        "createTrainingClientFromState" => {
            let given: args::CreateTrainingClientFromState = read(arguments)?;
            task(
                &tasks,
                method,
                call,
                Box::new(move |ctx| {
                    let args::CreateTrainingClientFromState { path, optimizer, user_metadata } = given;
                    let made = service.create_training_client_from_state(
                        &ctx,
                        path,
                        optimizer,
                        user_metadata,
                        &progress,
                    );
                    Box::pin(async move { to_js(&clients.add_training(made.await?)) })
                }),
            )
        }
        "createSamplingClient" => {
            let given: args::CreateSamplingClient = read(arguments)?;
            task(
                &tasks,
                method,
                call,
                Box::new(move |_| {
                    let made = service.create_sampling_client(given.base_model, given.model_path, &progress);
                    Box::pin(async move { to_js(&clients.add_sampling(made.await?)) })
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
    arguments: JsValue,
    call: &Rc<OpenCall>,
) -> Result<TaskHandle<Answer>, Error> {
    let tasks = training.calls();
    if !tasks.has_room() {
        return Err(Error::too_many_calls());
    }
    let progress = &call.promise.progress;
    let work: Work = match method {
        "forward" | "forwardBackward" => {
            let (data, loss) = read::<args::Forward>(arguments)?.into_parts(method == "forward")?;
            let output = training.forward_backward(data, loss, progress);
            Box::pin(async move { to_js(&Forward::from(output.await?)) })
        }
        "optimStep" => {
            let step = training.optim_step(read::<args::OptimStep>(arguments)?.into(), progress);
            Box::pin(async move { to_js(&Metrics { metrics: step.await? }) })
        }
        "saveState" => {
            let saved = training.save_state(read::<args::Save>(arguments)?.into(), progress);
            Box::pin(async move { to_js(&Path { path: saved.await? }) })
        }
        "loadState" => {
            let args::LoadState { path, optimizer } = read(arguments)?;
            let loaded = training.load_state(path, optimizer, progress);
            Box::pin(async move { loaded.await.and_then(|()| to_js(&Nothing {})) })
        }
        "saveWeightsForSampler" => {
            let saved = training.save_weights_for_sampler(read::<args::Save>(arguments)?.into(), progress);
            Box::pin(async move { to_js(&Path { path: saved.await? }) })
        }
        "saveWeightsAndGetSamplingClient" => {
            let saved = training.save_weights_for_new_sampler(progress);
            let (clients, service) = (clients.clone(), service.clone());
            Box::pin(async move {
                let made = service.start_sampling_client(saved.await?).await?;
                to_js(&clients.add_sampling(made))
            })
        }
        "getInfo" => {
            let info = training.get_info();
            Box::pin(async move { to_js(&ModelInfo::from(info.await?)) })
        }
        _ => return Err(unknown(method)),
    };
    task(tasks, method, call, Box::new(move |_| work))
}

fn of_sampling(
    sampling: &SamplingClient,
    method: &str,
    arguments: JsValue,
    call: &Rc<OpenCall>,
) -> Result<TaskHandle<Answer>, Error> {
    let progress = call.promise.progress.clone();
    let client = sampling.clone();
    match method {
        "sample" => {
            let given: args::Sample = read(arguments)?;
            let sample = sampling::Sample {
                prompt: model_input(given.prompt)?,
                num_samples: given.num_samples,
                params: given.sampling_params.into(),
                prompt_logprobs: given.include_prompt_logprobs,
                topk_prompt_logprobs: given.topk_prompt_logprobs,
            };
            task(
                sampling.calls(),
                method,
                call,
                Box::new(move |ctx| {
                    let sampled = client.sample(&ctx, sample, &progress);
                    Box::pin(async move { to_js(&Sample::from(sampled.await?)) })
                }),
            )
        }
        "computeLogprobs" => {
            let prompt = model_input(read::<args::ComputeLogprobs>(arguments)?.prompt)?;
            task(
                sampling.calls(),
                method,
                call,
                Box::new(move |ctx| {
                    let logprobs = client.compute_logprobs(&ctx, prompt, &progress);
                    Box::pin(async move { to_js(&Logprobs::from(logprobs.await?)) })
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
