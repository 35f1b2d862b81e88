// The training loop: prepares batches, keeps the server busy, evaluates, samples. It knows the client and no view: what
// happens comes out as events, so that whatever shows a run can follow any other thing that emits them.
import type { ForwardBackwardOutput, SamplingClient, ServiceClient, TrainingClient } from "tinkex";
import {
  batches,
  toDatum,
  tokensOf,
  type Prepared,
  type SamplePrompt,
  type SampleStyle,
  type Sequence,
} from "./data.ts";
import type { Settings } from "./settings.ts";
import type { TextCodec } from "./tokenizer.ts";

/** Everything that decides a run. The same plan on the same server gives the same losses. */
export interface TrainingPlan {
  model: string;
  settings: Settings;
  data: Prepared;
  prompts: SamplePrompt[];
  style: SampleStyle;
}

export type TrainingPhase = "baseline" | "training" | "finishing";

export type TrainingEvent =
  | { type: "phase"; phase: TrainingPhase }
  /** `step` counts from 1. `loss`: mean over the tokens that count, in nats. `tokens`: all that were read in this step. */
  | { type: "step"; step: number; loss: number; tokens: number }
  /** The held-out loss after `step` steps, in nats a token. */
  | { type: "heldOut"; step: number; loss: number }
  /** What the model goes on with after the prompt of that index. */
  | { type: "sample"; when: "before" | "after"; prompt: number; text: string };

export interface TrainingControls {
  /** Ends the run early but in order: what was submitted is finished, then it is evaluated and sampled. */
  stop: AbortSignal;
  /** Lets go of everything at once: `train` rejects with the client's `AbortedError`. */
  abandon: AbortSignal;
}

/** The loss became NaN or infinite: the weights are spoilt. */
export class DivergedError extends Error {
  override name = "DivergedError";
  readonly step: number;
  constructor(step: number) {
    super(`The loss at step ${step} is not a finite number`);
    this.step = step;
  }
}

/** Steps submitted before the oldest one's result is awaited: one is computed while the next already waits its turn. */
const AHEAD = 2;
/** Held-out evaluations in a run, besides the one before its first step. */
const EVALUATIONS = 20;

/** Resolves when the run is over, at its last step or stopped. Rejects with the first call's error; the clients are closed. */
export async function train(
  service: ServiceClient,
  codec: TextCodec,
  plan: TrainingPlan,
  controls: TrainingControls,
  emit: (event: TrainingEvent) => void,
): Promise<void> {
  const { rank, seed } = plan.settings;
  const signal = controls.abandon;
  emit({ type: "phase", phase: "baseline" });
  const training = await service.createLoraTrainingClient(plan.model, { rank, seed, signal });
  try {
    await Promise.all([
      service
        .createSamplingClient({ baseModel: plan.model, signal })
        .then((base) => sampleAll(base, codec, plan, "before", signal, emit)),
      evaluate(training, plan, 0, signal, emit),
    ]);

    emit({ type: "phase", phase: "training" });
    await runSteps(training, plan, controls, emit);

    emit({ type: "phase", phase: "finishing" });
    const tuned = await training.saveWeightsAndGetSamplingClient({ signal });
    await sampleAll(tuned, codec, plan, "after", signal, emit);
  } finally {
    await letGo(training);
  }
}

/** Submits steps ahead of their results; ends with an evaluation of the last one's weights. */
async function runSteps(
  training: TrainingClient,
  plan: TrainingPlan,
  { stop, abandon: signal }: TrainingControls,
  emit: (event: TrainingEvent) => void,
): Promise<void> {
  const { steps, batchSize, learningRate, seed } = plan.settings;
  const every = Math.ceil(steps / EVALUATIONS);
  const drawn = batches(plan.data.train, batchSize, seed);
  const ahead: Promise<void>[] = [];
  let step = 0;
  let evaluated = 0;
  while (step < steps && !stop.aborted) {
    step += 1;
    const submitted = [submitStep(training, step, drawn.next().value, learningRate, signal, emit)];
    if (step % every === 0 || step === steps) {
      submitted.push(evaluate(training, plan, step, signal, emit));
      evaluated = step;
    }
    const results = Promise.all(submitted).then(() => {});
    // Should an earlier step fail, nobody will wait for this one: its rejection says nothing new.
    results.catch(() => {});
    ahead.push(results);
    if (ahead.length > AHEAD) await ahead.shift();
  }
  await Promise.all(ahead);
  if (evaluated < step) await evaluate(training, plan, step, signal, emit);
}

/** Both calls are made before either is awaited: they keep their order, and the server has the next while it does the first. */
async function submitStep(
  training: TrainingClient,
  step: number,
  batch: Sequence[],
  learningRate: number,
  signal: AbortSignal,
  emit: (event: TrainingEvent) => void,
): Promise<void> {
  const [output] = await Promise.all([
    training.forwardBackward(batch.map(toDatum), "cross_entropy", { signal }),
    training.optimStep({ learningRate }, { signal }),
  ]);
  const loss = meanLoss(batch, output);
  if (!Number.isFinite(loss)) throw new DivergedError(step);
  emit({ type: "step", step, loss, tokens: tokensOf(batch) });
}

async function evaluate(
  training: TrainingClient,
  plan: TrainingPlan,
  step: number,
  signal: AbortSignal,
  emit: (event: TrainingEvent) => void,
): Promise<void> {
  const { heldOut } = plan.data;
  const output = await training.forward(heldOut.map(toDatum), "cross_entropy", { signal });
  const loss = meanLoss(heldOut, output);
  if (!Number.isFinite(loss)) throw new DivergedError(step);
  emit({ type: "heldOut", step, loss });
}

/** Nats a token, over the tokens that count. The service's own figure is a sum. */
function meanLoss(sequences: readonly Sequence[], output: ForwardBackwardOutput): number {
  let sum = 0;
  let weight = 0;
  sequences.forEach((sequence, index) => {
    const logprobs = output.lossFnOutputs[index]?.logprobs.data;
    sequence.weights.forEach((counts, position) => {
      sum -= counts * Number(logprobs?.[position]);
      weight += counts;
    });
  });
  return sum / weight;
}

/** Closes a client whose work is over. A close that fails says nothing that an earlier error didn't. */
async function letGo(client: TrainingClient | SamplingClient): Promise<void> {
  await client.close().catch(() => {});
}

/** All prompts at once, and the sampler is closed after them; each is shown as soon as it is there. */
async function sampleAll(
  sampler: SamplingClient,
  codec: TextCodec,
  { prompts, style, settings }: TrainingPlan,
  when: "before" | "after",
  signal: AbortSignal,
  emit: (event: TrainingEvent) => void,
): Promise<void> {
  const samplingParams = { ...style, seed: settings.seed };
  try {
    await Promise.all(
      prompts.map(async ({ tokens }, prompt) => {
        const { sequences } = await sampler.sample(tokens, { samplingParams, signal });
        emit({ type: "sample", when, prompt, text: codec.decode(sequences[0]?.tokens ?? []) });
      }),
    );
  } finally {
    await letGo(sampler);
  }
}
