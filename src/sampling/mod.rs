//! SamplingClient: samples from one set of weights. A sample changes nothing at the server, so it has no place in an
//! order, and one that was lost is simply made again.

use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use tinkex_protocol::chunking::prompt_bytes;
use tinkex_protocol::json::futures::{RequestType, Submitted};
use tinkex_protocol::json::sampling::{self, SamplingParams};
use tinkex_protocol::{LeVec, ModelInput, SampleResponse, SampleSeqId, SampleSequenceId, SamplingSessionId};
use tinkex_supervise::{Context, TaskSupervisor};

use crate::error::Error;
use crate::request::Progress;
use crate::request::retrieve::{Payload, retrieve_or_fail};
use crate::transport::connections::Class;
use crate::transport::retry::PATIENCE;
use crate::transport::{Call, PAUSE_FOR_BILLING, Transport};

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

    /// Draws samples. Runs in the task whose context it is given.
    pub fn sample(
        &self,
        ctx: &Context,
        sample: Sample,
        progress: &Progress,
    ) -> impl Future<Output = Result<Sampled, Error>> + use<> {
        let (client, ctx, progress) = (self.clone(), ctx.clone(), progress.clone());
        async move {
            if sample.prompt.chunks.is_empty() {
                return Err(Error::invalid("prompt", "the prompt is empty: give at least one token"));
            }
            let mut remakes = 0;
            loop {
                match client.once(&ctx, &sample, &progress).await {
                    Err(error) if error.status() == Some(410) && remakes < MAX_REMAKES => {
                        // Its future is gone, and nothing was changed: sample again, under a new number.
                        ctx.sleep(client.0.transport.backoff(remakes))
                            .await
                            .map_err(|_| Error::closed("the sampling client", progress.outcome()))?;
                        remakes += 1;
                    }
                    result => return result,
                }
            }
        }
    }

    /// The log-probability of each token of the prompt, given those before it; NaN for the first.
    pub fn compute_logprobs(
        &self,
        ctx: &Context,
        prompt: ModelInput,
        progress: &Progress,
    ) -> impl Future<Output = Result<LeVec<f32>, Error>> + use<> {
        let params = SamplingParams { max_tokens: Some(1), ..SamplingParams::default() };
        let sample =
            Sample { prompt, num_samples: 1, params, prompt_logprobs: true, topk_prompt_logprobs: 0 };
        let sampled = self.sample(ctx, sample, progress);
        async move {
            let logprobs = sampled.await?.response.prompt_logprobs;
            logprobs.ok_or_else(|| Error::protocol("the server gave no log-probabilities of the prompt"))
        }
    }

    /// Submits a sample under a new number and waits for its result.
    async fn once(&self, ctx: &Context, sample: &Sample, progress: &Progress) -> Result<Sampled, Error> {
        let number = self.0.next_sample.get();
        self.0.next_sample.set(number.next());
        let (prompt, params) = (sample.prompt.clone(), sample.params.clone());
        let ask = sampling::Sample {
            num_samples: sample.num_samples,
            prompt_logprobs: sample.prompt_logprobs,
            topk_prompt_logprobs: sample.topk_prompt_logprobs,
            ..sampling::Sample::new(self.0.id.clone(), number, prompt, params)
        };
        let call = Call::post_json("asample", &ask).header("x-tinker-sampling-backpressure", "1");
        let taken = self.submit(ctx, &call, prompt_bytes(&sample.prompt), progress).await?;
        let payload =
            retrieve_or_fail(&self.0.transport, ctx, &taken.request_id, RequestType::Sample).await?;
        let response = match payload {
            Payload::Protobuf(bytes) => SampleResponse::decode(&bytes),
            Payload::Json(_) => {
                return Err(Error::protocol("the server sent JSON where a protobuf result belongs"));
            }
        };
        let response = response
            .map_err(|error| Error::protocol(format!("the server's sample can't be read: {error}")))?;
        Ok(Sampled { response, sequence_ids: taken.sample_sequence_ids.unwrap_or_default() })
    }

    /// Sends a sample until the server takes it. 429 holds all samples of this client back, without a limit; other
    /// passing faults are tried again for [`PATIENCE`].
    async fn submit(
        &self,
        ctx: &Context,
        call: &Call,
        bytes: usize,
        progress: &Progress,
    ) -> Result<Submitted, Error> {
        let transport = &self.0.transport;
        let platform = transport.platform();
        let started = platform.now();
        let key = crate::platform::uuid(&**platform);
        let mut retries = 0;
        loop {
            self.wait_for_the_server(ctx).await;
            let waiting = ctx.waiting_for("a connection");
            let permit = transport.permit(Class::Submission).await;
            drop(waiting);
            progress.sent();
            let waiting = ctx.waiting_for("the server to take it");
            let outcome = transport.attempt(call, Some(&key), retries).await;
            drop((permit, waiting));
            let attempt = match &outcome {
                Ok(answer) if answer.is_success() => {
                    return crate::transport::answer::read(&answer.body).map_err(|error| {
                        Error::protocol(format!("the server's answer to asample can't be read: {error}"))
                    });
                }
                Ok(answer) => crate::transport::retry::Attempt::Answer(answer),
                Err(silence) => silence.as_attempt(),
            };
            match outcome.as_ref().map(|answer| answer.status) {
                Ok(429) => {
                    let pause = if bytes > LARGE_PROMPT { PAUSE_AFTER_429_LARGE } else { PAUSE_AFTER_429 };
                    self.0.paused_until.set(self.0.paused_until.get().max(platform.now() + pause));
                    continue;
                }
                Ok(402) if transport.may_pause_for_billing() => {
                    platform.timer(PAUSE_FOR_BILLING).await;
                    continue;
                }
                _ => {}
            }
            let late = platform.now().saturating_sub(started) >= PATIENCE;
            match transport.pause_until_answered(&attempt, retries) {
                Some(pause) if !late => {
                    let _waiting = ctx.waiting_for("the next try");
                    platform.timer(pause).await;
                }
                _ => return Err(transport.final_error(&attempt)),
            }
            retries += 1;
        }
    }

    async fn wait_for_the_server(&self, ctx: &Context) {
        let platform = self.0.transport.platform();
        loop {
            let left = self.0.paused_until.get().saturating_sub(platform.now());
            if left.is_zero() {
                return;
            }
            let _waiting = ctx.waiting_for("the server, which asked for a pause");
            platform.timer(left).await;
        }
    }
}
