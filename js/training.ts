// A model in training: the calls that change it, in the order in which they are made.

import type {
  MadeSamplingClient,
  MadeTrainingClient,
  TrainingMethods,
  WireForward,
  WireForwardOutput,
  WireOptimStep,
  WirePending,
} from "./boundary.js";
import {
  boolean,
  checkpoint,
  choices,
  integer,
  label,
  metadata,
  number,
  numbersOrTexts,
  signal,
  text,
} from "./checks.js";
import { wireData } from "./data.js";
import { Handle, type Link } from "./handle.js";
import { forwardOutput } from "./results.js";
import { SamplingClient } from "./sampling.js";
import type {
  AdamParams,
  CallOptions,
  Datum,
  ForwardBackwardOutput,
  ForwardOptions,
  Label,
  LossFn,
  ModelInfo,
  OptimStepOutput,
  OrderedOptions,
  PendingCall,
  SavedCheckpoint,
  SaveOptions,
  SaveStateOptions,
} from "./types.js";

const SHORTEST_TTL = 3_600; // s, the service's own limits
const LONGEST_TTL = 10 * 365 * 24 * 3_600; // s

export const ttlSeconds = integer(SHORTEST_TTL, LONGEST_TTL);

export const ADAM: WireOptimStep = {
  learningRate: 1e-4,
  beta1: 0.9,
  beta2: 0.95,
  eps: 1e-12,
  weightDecay: 0,
  gradClipNorm: 0,
};

/** Of Adam's settings. */
export const ADAM_CHECKS = {
  learningRate: number(0),
  beta1: number(0, 1, true),
  beta2: number(0, 1, true),
  eps: number(0),
  weightDecay: number(0),
  gradClipNorm: number(0),
};

const ORDERED = { label, signal };
const SAVE_OPTIONS = { ttlSeconds, userMetadata: metadata, ...ORDERED };

/**
 * Made by `ServiceClient`. Calls made without an `await` between them are applied in the order in which they were made,
 * so a step may be asked for while its gradients are still on the way.
 *
 * Every method rejects with `InvalidArgumentError` before anything is sent where an argument can't be right, and with
 * another `TinkexError` where the call fails.
 */
export class TrainingClient implements AsyncDisposable {
  /** The service's name for this model, as `{session}:train:{number}`. */
  readonly modelId: string;
  readonly #handle: Handle<TrainingMethods>;
  #pending: Pending[];

  /** @internal */
  constructor(link: Link, made: MadeTrainingClient) {
    this.modelId = made.modelId;
    this.#handle = new Handle(link, "TrainingClient", made.client);
    this.#pending = made.pending.map((call) => new Pending(call, this.#handle));
  }

  /**
   * The calls that came back with `resumeTrainingClient`, in their order, and that nobody has seen the end of. They go on
   * whether or not anybody waits.
   */
  pending(): PendingCall[] {
    this.#pending = this.#pending.filter((call) => !call.over);
    return [...this.#pending];
  }

  /** Computes losses, without gradients. */
  async forward(
    data: readonly Datum[],
    lossFn: LossFn,
    options: ForwardOptions = {},
  ): Promise<ForwardBackwardOutput> {
    const { args, signal } = forwardArgs(data, lossFn, options);
    return forwardOutput(await this.#handle.call("forward", args, signal));
  }

  /** Computes losses, and adds their gradients to what the next `optimStep` takes. */
  async forwardBackward(
    data: readonly Datum[],
    lossFn: LossFn,
    options: ForwardOptions = {},
  ): Promise<ForwardBackwardOutput> {
    const { args, signal } = forwardArgs(data, lossFn, options);
    return forwardOutput(await this.#handle.call("forwardBackward", args, signal));
  }

  /** Takes one step of Adam with the gradients gathered since the last one, and clears them. */
  async optimStep(params: AdamParams = {}, options: OrderedOptions = {}): Promise<OptimStepOutput> {
    const given = choices(params, ADAM_CHECKS);
    const { signal, ...ordered } = choices(options, ORDERED);
    return this.#handle.call("optimStep", { ...ADAM, ...given, ...ordered }, signal);
  }

  /** Writes a checkpoint that training can go on from: weights and optimizer. */
  async saveState(name: string, options: SaveStateOptions = {}): Promise<SavedCheckpoint> {
    const { signal: given, ...rest } = choices(options, { ...SAVE_OPTIONS, overwrite: boolean });
    return this.#handle.call("saveState", { name: text(name, "name"), overwrite: false, ...rest }, given);
  }

  /** Takes a checkpoint's weights; the optimizer starts anew. */
  async loadState(path: string, options: OrderedOptions = {}): Promise<void> {
    await this.#load(path, false, options);
  }

  /** Takes a checkpoint's weights and its optimizer, so that training goes on as it was. */
  async loadStateWithOptimizer(path: string, options: OrderedOptions = {}): Promise<void> {
    await this.#load(path, true, options);
  }

  /** Writes a checkpoint that can be sampled from, by `createSamplingClient({ modelPath })`. */
  async saveWeightsForSampler(name: string, options: SaveOptions = {}): Promise<SavedCheckpoint> {
    const { signal: given, ...rest } = choices(options, SAVE_OPTIONS);
    return this.#handle.call("saveWeightsForSampler", { name: text(name, "name"), ...rest }, given);
  }

  /** A sampler of the weights as they are at this place in the order of calls; no checkpoint is kept. */
  async saveWeightsAndGetSamplingClient(options: OrderedOptions = {}): Promise<SamplingClient> {
    const { signal, ...ordered } = choices(options, ORDERED);
    const made = await this.#handle.call("saveWeightsAndGetSamplingClient", ordered, signal);
    return new SamplingClient(this.#handle.link, made);
  }

  /** What the model is. */
  async getInfo(options: CallOptions = {}): Promise<ModelInfo> {
    return this.#handle.call("getInfo", {}, choices(options, { signal }).signal);
  }

  /** Lets the model go. Calls that wait reject with `ClosedError`; the service and its other clients go on. */
  async close(): Promise<void> {
    await this.#handle.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #load(path: string, optimizer: boolean, options: OrderedOptions): Promise<unknown> {
    const { signal, ...ordered } = choices(options, ORDERED);
    return this.#handle.call("loadState", { path: checkpoint(path, "path"), optimizer, ...ordered }, signal);
  }
}

/** A call that came back. Nothing is asked for before somebody looks at the promise: only then is it seen. */
class Pending implements PendingCall {
  readonly method: PendingCall["method"];
  readonly label: Label | undefined;
  readonly seqId: number;
  readonly state: PendingCall["state"];
  /** Its end was told. */
  over = false;
  readonly #handle: Handle<TrainingMethods>;
  #promise: Promise<unknown> | undefined;

  constructor({ method, label, seqId, finished }: WirePending, handle: Handle<TrainingMethods>) {
    this.method = method ?? "unknown";
    this.label = label ? (JSON.parse(label) as Label) : undefined;
    this.seqId = seqId;
    this.state = finished ? "finished" : "sent";
    this.#handle = handle;
  }

  get promise(): Promise<unknown> {
    return (this.#promise ??= this.#result());
  }

  async #result(): Promise<unknown> {
    const answer = await this.#handle.call("result", { seqId: this.seqId }).finally(() => (this.over = true));
    switch (this.method) {
      case "forward":
      case "forwardBackward":
        return forwardOutput(answer as WireForwardOutput);
      case "saveWeightsAndGetSamplingClient":
        return new SamplingClient(this.#handle.link, answer as MadeSamplingClient);
      case "loadState":
        return undefined;
      default:
        return answer;
    }
  }
}

export function forwardArgs(
  data: readonly Datum[],
  lossFn: LossFn,
  options: ForwardOptions,
): { args: WireForward; signal: AbortSignal | undefined } {
  const { signal: given, ...rest } = choices(options, { lossFnConfig: numbersOrTexts, ...ORDERED });
  return { args: { data: wireData(data), lossFn: text(lossFn, "lossFn"), ...rest }, signal: given };
}
