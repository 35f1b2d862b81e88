//! SamplingClient: samples from one set of weights. A sample changes nothing at the server, so it has no place in an
//! order, and one that was lost is simply made again.

use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use tinkex_protocol::chunking::prompt_bytes;
use tinkex_protocol::json::futures::{RequestType, Submitted};
use tinkex_protocol::json::sampling::{self, SamplingParams};
use tinkex_protocol::{LeVec, ModelInput, SampleResponse, SampleSeqId, SampleSequenceId, SamplingSessionId};
use tinkex_supervise::TaskSupervisor;

use crate::error::Error;
use crate::platform::uuid;
use crate::request::Progress;
use crate::request::retrieve::{Payload, retrieve_or_fail};
use crate::transport::delivery::{Course, Way};
use crate::transport::retry::{Attempt, PATIENCE};
use crate::transport::{Call, Fetched, PAUSE_FOR_BILLING, Transport, unreadable};

/// After a 429 all samples of a client wait this long: longer when prompts are large.
const PAUSE_AFTER_429: Duration = Duration::from_secs(1);
const PAUSE_AFTER_429_LARGE: Duration = Duration::from_secs(5);
/// Bytes, as the protocol estimates them.
const LARGE_PROMPT: usize = 128 * 1024;

/// A clone of a sampler counts its samples from a random multiple of 10⁹, at most this one.
const MOST_CLONES: u64 = 1 << 20;

/// How often a sample whose result was lost is made again as a whole.
const MAX_REMAKES: u32 = 10;

/// The handle of one sampler. Clones are the same client.
#[derive(Clone)]
pub struct SamplingClient(Rc<Inner>);

struct Inner {
    id: SamplingSessionId,
    transport: Transport,
    calls: TaskSupervisor,
    next_sample: Cell<SampleSeqId>,
    /// Nothing is submitted before this time: the server asked for a pause.
    paused_until: Cell<Duration>,
}

/// What to sample.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    pub prompt: ModelInput,
    pub num_samples: u32,
    pub params: SamplingParams,
    pub prompt_logprobs: bool,
    pub topk_prompt_logprobs: u32,
}

/// What came of it.
#[derive(Debug)]
pub struct Sampled {
    pub response: SampleResponse,
    /// One a sequence, from servers that name them.
    pub sequence_ids: Vec<SampleSequenceId>,
}

impl SamplingClient {
    /// `used`: the sampler had another client, whose samples' numbers are not known; this one counts far from them.
    pub(crate) fn new(
        id: SamplingSessionId,
        transport: Transport,
        calls: TaskSupervisor,
        used: bool,
    ) -> SamplingClient {
        let clone = if used { 1 + transport.platform().random() % MOST_CLONES } else { 0 };
        SamplingClient(Rc::new(Inner {
            id,
            transport,
            calls,
            next_sample: Cell::new(SampleSeqId::first_of_clone(clone).unwrap_or(SampleSeqId::FIRST)),
            paused_until: Cell::new(Duration::ZERO),
        }))
    }

    pub fn id(&self) -> &SamplingSessionId {
        &self.0.id
    }

    /// Where calls of this client run as tasks: bounded, and ended when the client is closed.
    pub fn calls(&self) -> &TaskSupervisor {
        &self.0.calls
    }

    /// Draws samples.
    pub fn sample(
        &self,
        sample: Sample,
        progress: &Progress,
    ) -> LocalBoxFuture<'static, Result<Sampled, Error>> {
        let (client, progress) = (self.clone(), progress.clone());
        async move {
            if sample.prompt.chunks.is_empty() {
                return Err(Error::invalid("prompt", "the prompt is empty: give at least one token"));
            }
            let transport = &client.0.transport;
            let (mut remakes, mut not_before) = (0, Duration::ZERO);
            loop {
                let taken: Submitted = client.submit(&sample, not_before, &progress).await?.read()?;
                match retrieve_or_fail(transport, &taken.request_id, RequestType::Sample).await {
                    Err(error) if error.status() == Some(410) && remakes < MAX_REMAKES => {
                        // Its future is gone, and nothing was changed: sample again, under a new number.
                        not_before = transport.platform().now() + transport.backoff(remakes);
                        remakes += 1;
                    }
                    answer => return read(answer?, taken),
                }
            }
        }
        .boxed_local()
    }

    /// The log-probability of each token of the prompt, given those before it; NaN for the first.
    pub fn compute_logprobs(
        &self,
        prompt: ModelInput,
        progress: &Progress,
    ) -> impl Future<Output = Result<LeVec<f32>, Error>> + use<> {
        let params = SamplingParams { max_tokens: Some(1), ..SamplingParams::default() };
        let sample =
            Sample { prompt, num_samples: 1, params, prompt_logprobs: true, topk_prompt_logprobs: 0 };
        let sampled = self.sample(sample, progress);
        async move {
            let logprobs = sampled.await?.response.prompt_logprobs;
            logprobs.ok_or_else(|| Error::protocol("the server gave no log-probabilities of the prompt"))
        }
    }

    /// Sends a sample, under a new number and not before this time, until the server takes it. 429 holds all samples of this
    /// client back, without a limit; other passing faults are tried again for [`PATIENCE`].
    fn submit(
        &self,
        sample: &Sample,
        not_before: Duration,
        progress: &Progress,
    ) -> LocalBoxFuture<'static, Result<Fetched, Error>> {
        let Inner { id, transport, next_sample, .. } = &*self.0;
        let number = next_sample.replace(next_sample.get().next());
        let ask = sampling::Sample {
            num_samples: sample.num_samples,
            prompt_logprobs: sample.prompt_logprobs,
            topk_prompt_logprobs: sample.topk_prompt_logprobs,
            ..sampling::Sample::new(id.clone(), number, &sample.prompt, &sample.params)
        };
        let mut call = Call::post_json("asample", &ask).header("x-tinker-sampling-backpressure", "1");
        call.idempotency_key = Some(uuid(&**transport.platform()));
        let is_large = prompt_bytes(&sample.prompt) > LARGE_PROMPT;
        let course = Submission {
            client: self.clone(),
            progress: progress.clone(),
            not_before,
            pause_after_429: if is_large { PAUSE_AFTER_429_LARGE } else { PAUSE_AFTER_429 },
            retries: 0,
        };
        transport.deliver(call, Box::new(course))
    }
}

/// A sample on its way to the server.
struct Submission {
    client: SamplingClient,
    progress: Progress,
    not_before: Duration,
    pause_after_429: Duration,
    retries: u32,
}

impl Course for Submission {
    fn held_back(&self) -> Option<(&'static str, Duration)> {
        let Inner { transport, paused_until, .. } = &*self.client.0;
        let (why, until) = match paused_until.get() {
            asked if asked < self.not_before => ("the next try", self.not_before),
            asked => ("the server, which asked for a pause", asked),
        };
        let left = until.saturating_sub(transport.platform().now());
        (!left.is_zero()).then_some((why, left))
    }

    fn sent(&self) {
        self.progress.sent();
    }

    fn failed(&mut self, way: &Way, attempt: &Attempt, status: u16) -> Result<Duration, Error> {
        let Inner { transport, paused_until, .. } = &*self.client.0;
        let now = transport.platform().now();
        if status == 429 {
            paused_until.set(paused_until.get().max(now + self.pause_after_429));
            return Ok(Duration::ZERO);
        }
        if status == 402 && transport.may_pause_for_billing() {
            return Ok(PAUSE_FOR_BILLING);
        }
        self.retries += 1;
        transport
            .pause_until_answered(attempt, self.retries - 1)
            .filter(|_| now.saturating_sub(way.started) < PATIENCE)
            .ok_or_else(|| transport.final_error(attempt))
    }
}

fn read(answer: Fetched, taken: Submitted) -> Result<Sampled, Error> {
    let bytes = Payload::of(answer).protobuf()?;
    let response = SampleResponse::decode(&bytes).map_err(|error| unreadable("sample", error))?;
    Ok(Sampled { response, sequence_ids: taken.sample_sequence_ids.unwrap_or_default() })
}
