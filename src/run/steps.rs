//! Steps whose work is a function of the page. Its calls are recorded in the order in which they were made, so that after a
//! crash it runs again from its first line: what is recorded is given back, what is in flight is joined, and from there on it
//! goes on live.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use tinkex_journal::record::check;
use tinkex_protocol::Datum;
use tinkex_protocol::metrics::Metrics;
use tinkex_supervise::Reply;

use super::driver::{Beside, Driver, Then, weigh};
use super::event;
use super::order::Position;
use super::page::{Ask as Question, Failure, FailureKind, News, Recorded, Told};
use super::records::{Cursor, Entry, Row, Value, cursor_key, entry_key, row_key};
use super::status::Cause;
use super::tag::{Kind, Tag};
use crate::error::{Error, Outcome};
use crate::platform::plain::{Given, Plain, Wrong};
use crate::request::Progress;
use crate::sampling::{Sample, SamplingClient};
use crate::store::{Durability, Op, put};
use crate::training::method::{Ask, Output};
use crate::training::{Save, TrainingClient};
use crate::wire::{arguments, results};

/// A call of a step's function.
pub struct Called {
    pub attempt: u32,
    /// Its place among all of the step's calls.
    pub index: u32,
    pub method: String,
    /// A plain value.
    pub args: Vec<u8>,
    pub reply: Reply<Came>,
}

/// What a call gives: a plain value, or the error that it is rejected with as one.
pub type Came = Result<Vec<u8>, Vec<u8>>;

/// One run of a step's function.
pub struct Attempt {
    number: u32,
    /// Until the function has ended.
    function: Option<LocalBoxFuture<'static, Result<Told, Failure>>>,
    /// What it gave, as JSON text.
    value: Option<String>,
    /// Calls that wait for those before them to be written.
    queue: VecDeque<Called>,
    /// Who waits for calls that are under way.
    waiting: Vec<(u32, Reply<Came>)>,
    samplers: Samplers,
    /// Of the calls that train: place, weight and tokens of their data.
    passes: Vec<(u32, f64, u64)>,
    /// Of the last step of the optimizer.
    learning_rate: Option<f64>,
    metrics: Metrics,
    began: Duration,
}

type Samplers = Rc<RefCell<Vec<(String, SamplingClient)>>>;

impl Attempt {
    /// How the function has ended, once it has.
    pub fn poll(&mut self, cx: &mut Context) -> Option<Result<Told, Failure>> {
        let ended = match self.function.as_mut()?.poll_unpin(cx) {
            Poll::Ready(ended) => ended,
            Poll::Pending => return None,
        };
        self.function = None;
        Some(ended)
    }

    /// Whether all is up to the function.
    pub fn is_idle(&self) -> bool {
        self.function.is_some() && self.queue.is_empty() && self.waiting.is_empty()
    }

    /// Takes in what a pass is over.
    fn weigh(&mut self, index: u32, data: &[Datum]) {
        let (weight, tokens) = weigh(data);
        self.passes.push((index, weight, tokens));
    }

    fn is_done(&self) -> bool {
        self.function.is_none() && self.queue.is_empty() && self.waiting.is_empty()
    }
}

impl Driver {
    /// Begins the step at the cursor, or goes on with it.
    pub(super) fn ask_of_function(&mut self, client: &TrainingClient) {
        if self.attempt.is_none() {
            // Results that were on their way are recorded first: then the function finds them.
            if !self.has_flights() && self.beside.is_empty() {
                self.begin_attempt();
            }
            return;
        }
        while self.may_ask() {
            let Some(called) = self.attempt.as_mut().and_then(|attempt| attempt.queue.pop_front()) else {
                break;
            };
            self.place_call(client, called);
        }
    }

    fn begin_attempt(&mut self) {
        if self.entries.is_empty() {
            self.begun_with_its_version();
        }
        let number = self.shared.next_attempt();
        let recorded = self.entries.iter().map(|entry| Recorded {
            method: entry.method.clone(),
            name: entry.name.clone(),
            done: entry.value.is_some(),
            value: match &entry.value {
                Some(Value::Given(bytes)) if is_of_the_page(&entry.method) => {
                    String::from_utf8(bytes.clone()).ok()
                }
                _ => None,
            },
        });
        let ask = Question::Step { step: self.cursor.step, attempt: number, recorded: recorded.collect() };
        self.attempt = Some(Attempt {
            number,
            function: Some(self.shared.page.ask(ask)),
            value: None,
            queue: VecDeque::new(),
            waiting: Vec::new(),
            samplers: Rc::default(),
            passes: Vec::new(),
            learning_rate: None,
            metrics: Metrics::default(),
            began: self.now(),
        });
    }

    /// Nobody waits for the function any more. What was not written of its calls was never made.
    pub(super) fn end_attempt(&mut self) {
        let Some(attempt) = self.attempt.take() else { return };
        if let Some(first) = attempt.queue.front().map(|called| called.index) {
            self.entries.truncate(first as usize);
            self.unwritten.retain(|(index, _)| *index < first);
        }
        self.shared.page.tell(News::Over(attempt.number));
        for reply in attempt.waiting.into_iter().map(|(_, reply)| reply) {
            let _ = reply.send(Err(over()));
        }
        for called in attempt.queue {
            let _ = called.reply.send(Err(over()));
        }
    }

    /// A call of the function: what is recorded is given at once, the rest waits for its turn.
    pub(super) fn call(&mut self, called: Called) {
        let under_way = self.has_flight(Kind::Call(called.index));
        let Some(attempt) = self.attempt.as_mut().filter(|attempt| attempt.number == called.attempt) else {
            let _ = called.reply.send(Err(over()));
            return;
        };
        let check = check(&called.method, &called.args);
        if called.method == "optimStep" {
            let wrong = Wrong::default();
            let adam = self.shared.spec.adam(self.cursor.step);
            let given = arguments::adam_over(Given::new(&called.args, &wrong), adam);
            attempt.learning_rate = Some(given.learning_rate);
        }
        let Some(entry) = self.entries.get(called.index as usize) else {
            // The page gives places in order.
            let entry = Entry { method: called.method.clone(), name: String::new(), check, value: None };
            self.entries.push(entry);
            attempt.queue.push_back(called);
            return;
        };
        if entry.method != called.method || entry.check != check {
            let what = if entry.method != called.method { "" } else { " with other arguments" };
            let message = format!(
                "step {} asked for {}{what} where {} was recorded as its call {}",
                self.cursor.step,
                called.method,
                entry.method,
                called.index + 1
            );
            let _ = called.reply.send(Err(results::failure(&Error::step_mismatch(message.clone()))));
            return self.pause(Cause::StepMismatch, message);
        }
        if called.method == "forwardBackward" && (under_way || entry.value.is_some()) {
            // Others are weighed when it is their turn.
            let wrong = Wrong::default();
            attempt.weigh(called.index, &arguments::data(Given::new(&called.args, &wrong)));
        }
        match &entry.value {
            Some(Value::Given(bytes)) => drop(called.reply.send(Ok(bytes.clone()))),
            Some(Value::Failed(bytes)) => drop(called.reply.send(Err(bytes.clone()))),
            None if under_way => attempt.waiting.push((called.index, called.reply)),
            // A sample that was not done: it changes nothing, and is drawn again.
            None => attempt.queue.push_back(called),
        }
    }

    /// The page has recorded something of its own.
    pub(super) fn note(&mut self, attempt: u32, index: u32, entry: Entry) {
        let current = self.attempt.as_ref().is_some_and(|current| current.number == attempt);
        if !current || index as usize != self.entries.len() {
            return;
        }
        let op = put(entry_key(&self.shared.id, self.cursor.step, index), &entry);
        let at_once = entry.method == "once";
        self.entries.push(entry);
        self.unwritten.push((index, op));
        if at_once {
            // What a function did outside can't be done again; the rest need only be there before what follows from it.
            let ops = self.take_unwritten();
            self.keep(ops);
        }
    }

    /// What can be written now: nothing is written behind a call that isn't.
    fn take_unwritten(&mut self) -> Vec<Op> {
        let first = self.attempt.as_ref().and_then(|attempt| attempt.queue.front());
        let first = first.map_or(u32::MAX, |called| called.index);
        let (now, later) = std::mem::take(&mut self.unwritten).into_iter().partition(|(at, _)| *at < first);
        self.unwritten = later;
        let now: Vec<(u32, Op)> = now;
        now.into_iter().map(|(_, op)| op).collect()
    }

    fn keep(&mut self, ops: Vec<Op>) {
        if !ops.is_empty() {
            self.write(Durability::Relaxed, ops, Then::Nothing);
        }
    }

    /// It is a call's turn.
    fn place_call(&mut self, client: &TrainingClient, called: Called) {
        let Called { index, method, args, reply, .. } = called;
        let step = self.cursor.step;
        let wrong = Wrong::default();
        let given = Given::new(&args, &wrong);
        let ask = match &*method {
            "forward" | "forwardBackward" => {
                let (data, loss) = (arguments::data(given), arguments::loss(given, method == "forward"));
                if let Some(attempt) = self.attempt.as_mut().filter(|_| !loss.forward_only) {
                    attempt.weigh(index, &data);
                }
                wrong.check().and_then(|()| client.cut(data, &loss))
            }
            "optimStep" => Ok(Ask::OptimStep(arguments::adam_over(given, self.shared.spec.adam(step)))),
            "saveState" => Ok(Ask::SaveState(self.named(given, index))),
            "saveWeightsForSampler" => Ok(Ask::SaveWeightsForSampler(self.named(given, index))),
            "sampler" => Ok(client.new_sampler()),
            "sample" => {
                let sampler = given.text("sampler");
                let sample = arguments::sample(given);
                match wrong.check() {
                    Ok(()) => return self.sample(index, sampler, sample, reply),
                    Err(error) => Err(error),
                }
            }
            _ => Err(Error::invalid("method", ["a step has no method ", &method].concat())),
        };
        match wrong.check().and(ask) {
            Ok(ask) => {
                let mut with = self.take_unwritten();
                if let Some(entry) = self.entries.get(index as usize) {
                    with.push(put(entry_key(&self.shared.id, step, index), entry));
                }
                if let Some(attempt) = &mut self.attempt {
                    attempt.waiting.push((index, reply));
                }
                self.ask(client, Tag::new(step, Kind::Call(index)), ask, with, None);
            }
            Err(error) => {
                let failure = results::failure(&error);
                if let Some(attempt) = &mut self.attempt {
                    attempt.waiting.push((index, reply));
                }
                self.record(index, Value::Failed(failure.clone()), Err(failure));
            }
        }
    }

    /// Under a name of the run's where the function gives none; asked for again, it is the same.
    fn named(&self, given: Given, index: u32) -> Save {
        let name = || format!("run-{}-{}-{}-{index}", self.shared.id, self.incarnation(), self.cursor.step);
        Save {
            name: given.optional_text("name").unwrap_or_else(name),
            ttl_seconds: self.shared.spec.checkpoints.ttl_seconds,
            overwrite: true,
            user_metadata: None,
        }
    }

    /// Draws samples for the function, beside the order.
    fn sample(&mut self, index: u32, sampler: String, sample: Sample, reply: Reply<Came>) {
        if let Some(entry) = self.entries.get(index as usize) {
            // That it was asked for stands in front of whatever is asked for behind it.
            self.unwritten.push((index, put(entry_key(&self.shared.id, self.cursor.step, index), entry)));
        }
        if let Some(attempt) = &mut self.attempt {
            attempt.waiting.push((index, reply));
        }
        let (Some(open), Some(attempt)) = (self.open_incarnation(), &self.attempt) else { return };
        let service = open.service.clone();
        let samplers = attempt.samplers.clone();
        let drawing = async move {
            let known =
                samplers.borrow().iter().find(|(id, _)| *id == sampler).map(|(_, client)| client.clone());
            let client = match known {
                Some(client) => client,
                None => {
                    let made = service.start_sampling_client(sampler.as_str().into(), true).await?;
                    samplers.borrow_mut().push((sampler, made.client.clone()));
                    made.client
                }
            };
            let sampled = client.sample(sample, &Progress::default()).await?;
            Ok(results::sample(&sampled))
        };
        let drawn = drawing.map(move |value| Beside::Sampled { index, value });
        self.beside.push(drawn.boxed_local());
    }

    pub(super) fn call_sampled(&mut self, index: u32, value: Result<Vec<u8>, Error>) {
        match value {
            Ok(bytes) => self.record(index, Value::Given(bytes.clone()), Ok(bytes)),
            Err(error) => {
                let failure = results::failure(&error);
                if is_final(&error) {
                    return self.record(index, Value::Failed(failure.clone()), Err(failure));
                }
                self.answer(index, Err(failure));
                self.could_not_sample(error);
            }
        }
    }

    /// A call that trains has its result.
    pub(super) fn call_done(&mut self, key: u32, index: u32, output: Output) {
        let bytes = match output {
            Output::Forward(output) => results::forward(&output),
            Output::Step(metrics) => {
                let bytes = results::metrics(&metrics);
                if let Some(attempt) = &mut self.attempt {
                    attempt.metrics = metrics;
                }
                bytes
            }
            Output::Path(path) => results::path(&path),
            Output::Loaded => Plain::nothing(),
            Output::Sampler(id) => Plain::object(|plain| plain.text("sampler", id.as_str())),
        };
        let with = self.recorded(index, Value::Given(bytes.clone()));
        self.seen(key, with);
        self.answer(index, Ok(bytes));
    }

    /// A call that trains has failed. Gives whether that is for the function to meet, and not the end of the run's moving.
    pub(super) fn call_failed(&mut self, key: u32, index: u32, error: &Error) -> bool {
        let for_the_function = is_final(error);
        if for_the_function {
            let failure = results::failure(error);
            let with = self.recorded(index, Value::Failed(failure.clone()));
            self.seen(key, with);
            self.answer(index, Err(failure));
        }
        for_the_function
    }

    /// Records what came of a call that has no request of its own. The function has it when it is written: what it asks
    /// for next would be on the disk without it otherwise, where the disk refuses this and takes that.
    fn record(&mut self, index: u32, value: Value, came: Came) {
        let mut ops = self.take_unwritten();
        ops.extend(self.recorded(index, value));
        let attempt = self.attempt.as_ref().map_or(0, |attempt| attempt.number);
        self.write(Durability::Relaxed, ops, Then::Answered { attempt, index, came });
    }

    pub(super) fn answer_in(&mut self, attempt: u32, index: u32, came: Came) {
        if self.attempt.as_ref().is_some_and(|current| current.number == attempt) {
            self.answer(index, came);
        }
    }

    fn recorded(&mut self, index: u32, value: Value) -> Vec<Op> {
        let key = entry_key(&self.shared.id, self.cursor.step, index);
        let Some(entry) = self.entries.get_mut(index as usize) else { return Vec::new() };
        entry.value = Some(value);
        vec![put(key, entry)]
    }

    fn answer(&mut self, index: u32, value: Came) {
        let Some(attempt) = &mut self.attempt else { return };
        let (its, others) =
            std::mem::take(&mut attempt.waiting).into_iter().partition(|(of, _)| *of == index);
        attempt.waiting = others;
        let its: Vec<(u32, Reply<Came>)> = its;
        for (_, reply) in its {
            let _ = reply.send(value.clone());
        }
    }

    /// The function has ended, or thrown.
    pub(super) fn function_ended(&mut self, told: Result<Told, Failure>) {
        match told {
            Ok(Told::Step(value)) => {
                if let Some(attempt) = &mut self.attempt {
                    attempt.value = value;
                }
            }
            Ok(_) => {
                let message = "the page gave data where a step ended".to_owned();
                self.pause(Cause::StepFailed, message);
            }
            Err(Failure { kind, message }) => {
                let cause = match kind {
                    FailureKind::StepMismatch => Cause::StepMismatch,
                    _ => Cause::StepFailed,
                };
                self.pause(cause, message);
            }
        }
    }

    /// Closes the step whose function has ended, when all that it asked for is in.
    pub(super) fn close_step(&mut self) {
        if self.has_flights() || !self.beside.is_empty() {
            return;
        }
        let Some(attempt) = self.attempt.take_if(|attempt| attempt.is_done()) else { return };
        let step = self.cursor.step;
        let (mut loss, mut weight, mut tokens) = (0.0, 0.0, 0);
        for (index, of_it, its_tokens) in &attempt.passes {
            if let Some(Entry { value: Some(Value::Given(bytes)), .. }) = self.entries.get(*index as usize) {
                let wrong = Wrong::default();
                let metrics = Given::new(bytes, &wrong).object("metrics");
                loss += metrics.optional_number("loss:sum").unwrap_or(f64::NAN);
                weight += of_it;
                tokens += its_tokens;
            }
        }
        let done = event::Step {
            loss: (weight > 0.0).then(|| loss / weight),
            tokens,
            learning_rate: attempt.learning_rate,
            ms: self.now().saturating_sub(attempt.began).as_millis() as u64,
            metrics: &attempt.metrics,
            value: attempt.value.as_deref(),
        };
        let row = event::step(self.when(step), &done);
        let id = &self.shared.id;
        let next = Cursor { step: step + 1, position: Position::default() };
        let ops = vec![
            put(cursor_key(id), &next),
            put(row_key(id, self.incarnation(), step, "step", 0), &Row(row.clone())),
        ];
        // The next call is not to be there without them, and what came of the last one may be written behind this.
        let calls = 0..self.entries.len() as u32;
        let entries = calls.map(|index| Op::Delete(entry_key(id, step, index)));
        self.closing = ops.iter().cloned().chain(entries).collect();
        self.unwritten.clear();
        self.entries.clear();
        self.cursor = next;
        // Should it be lost with the machine, the function runs again and finds all its calls recorded.
        self.write(Durability::Relaxed, ops, Then::StepClosed(row));
    }
}

/// What the server has said no to; nothing but another call helps.
fn is_final(error: &Error) -> bool {
    matches!(error.outcome(), Outcome::Refused) && !matches!(error.status(), Some(401..=404 | 410))
        || matches!(error.kind(), crate::error::Kind::InvalidArgument { .. })
}

fn is_of_the_page(method: &str) -> bool {
    matches!(method, "random" | "now" | "once")
}

fn over() -> Vec<u8> {
    results::failure(&Error::closed(
        "this run of the step's function is over: what it asks for",
        Outcome::NotSent,
    ))
}
