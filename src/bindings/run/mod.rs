//! The methods of training runs. All of this, and [`crate::run`], is in the second file of the package: the first one reaches
//! it through [`super::runs`] alone.

mod page;

use std::rc::Rc;

use tinkex_supervise::DynamicSupervisor;
use wasm_bindgen::prelude::*;

use super::commands::{Work, nothing, unknown};
use super::desk::OpenCall;
use super::runs::{Methods, provide};
use crate::error::Error;
use crate::platform::plain::{Given, Plain};
use crate::run::Runs;
use crate::service::Service;
use crate::wire::results;
use page::{RunPage, brought, end};

/// The second file is there: once, before the first method of a run.
#[wasm_bindgen]
pub fn provide_runs() {
    provide(methods);
}

fn methods(service: &Service, supervisor: &DynamicSupervisor) -> Rc<dyn Methods> {
    Rc::new(Runs::new(service, supervisor))
}

impl Methods for Runs {
    fn begin(&self, method: &str, given: Given, args: &[u8], call: &Rc<OpenCall>) -> Result<Work, Error> {
        if method == "runs" {
            return Ok(self.list());
        }
        if method == "startRun" {
            let started = self.start(args);
            return Ok(Box::pin(async move {
                let id = started.await?;
                Ok(Plain::object(|plain| plain.text("id", &id)))
            }));
        }
        let id = given.text("id");
        if method == "readRun" {
            let after = given.optional_number("after").unwrap_or_default();
            given.wrong().check()?;
            return Ok(self.read(id, after));
        }
        if method == "run" {
            let brought = brought(given);
            given.wrong().check()?;
            let (runs, call) = (self.clone(), call.clone());
            return Ok(Box::pin(async move {
                let page = RunPage::new(call.promise.key());
                // From here on it may ask the server for anything.
                call.promise.progress.sent();
                let _ = call.talk.set(page.clone());
                let run = runs.open(id, brought, page.clone()).await?;
                page.is_of(run.clone());
                Ok(end(&run.ended().await))
            }));
        }
        given.wrong().check()?;
        let missing = || Error::invalid("id", "this run isn't open here: open it first");
        let run = self.find(&id).ok_or_else(missing)?;
        Ok(match method {
            "pauseRun" => nothing(run.pause()),
            "resumeRun" => {
                let restart = given.optional_text("step").is_some();
                nothing(run.resume(given.optional_text("from"), restart))
            }
            "stopRun" => nothing(run.stop(given.optional_flag("checkpoint").unwrap_or(true))),
            "checkpointRun" => {
                let saved = run.checkpoint();
                Box::pin(async move { Ok(results::path(&saved.await?)) })
            }
            "closeRun" => {
                let runs = self.clone();
                Box::pin(async move {
                    runs.close(&run).await;
                    Ok(Plain::nothing())
                })
            }
            "stepCall" => {
                let (attempt, index) = (given.count("attempt"), given.count("index"));
                let method = given.text("method");
                let args = given.encoded("args");
                given.wrong().check()?;
                let came = run.call(attempt, index, method, args);
                let call = call.clone();
                Box::pin(async move {
                    call.promise.settle_with(came.await);
                    Ok(Plain::nothing())
                })
            }
            _ => return Err(unknown(method)),
        })
    }
}
