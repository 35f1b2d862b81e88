//! The methods of training runs.

use super::super::commands::{Work, unknown};
use super::super::door::Call;
use super::nothing;
use super::page::{RunPage, brought, end};
use crate::error::Error;
use crate::platform::plain::Plain;
use crate::run::Runs;
use crate::wire::results;

/// Begins a call of a method of runs.
pub fn begin(runs: &Runs, Call { method, given, call, .. }: Call) -> Result<Work, Error> {
    if method == "runs" {
        return Ok(runs.list());
    }
    if method == "startRun" {
        let started = runs.start(&given.encoded());
        return Ok(Box::pin(async move {
            let id = started.await?;
            Ok(Plain::object(|plain| plain.text("id", &id)))
        }));
    }
    let id = given.text("id");
    if method == "readRun" {
        let after = given.optional_number("after").unwrap_or_default();
        given.wrong().check()?;
        return Ok(runs.read(id, after));
    }
    if method == "run" {
        let brought = brought(given);
        given.wrong().check()?;
        let (runs, call) = (runs.clone(), call.clone());
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
    let run = runs.find(&id).ok_or_else(missing)?;
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
            let runs = runs.clone();
            Box::pin(async move {
                runs.close(&run).await;
                Ok(Plain::nothing())
            })
        }
        "stepCall" => {
            let (attempt, index) = (given.count("attempt"), given.count("index"));
            let method = given.text("method");
            let args = given.object("args").encoded();
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
