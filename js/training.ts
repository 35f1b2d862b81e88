// A model in training: the calls that change it, in the order in which they are made.

import type { TrainingMethods, WireForward, WireOptimStep } from "./boundary.js";
import {
  boolean,
  checkpoint,
  choices,
  integer,
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
  LossFn,
  ModelInfo,
  OptimStepOutput,
  SavedCheckpoint,
  SaveOptions,
  SaveStateOptions,
} from "./types.js";

const SHORTEST_TTL = 3_600; // s, the service's own limits
const LONGEST_TTL = 10 * 365 * 24 * 3_600; // s

const ADAM: WireOptimStep = {
  learningRate: 1e-4,
  beta1: 0.9,
  beta2: 0.95,
  eps: 1e-12,
  weightDecay: 0,
  gradClipNorm: 0,
};

const SAVE_OPTIONS = { ttlSeconds: integer(SHORTEST_TTL, LONGEST_TTL), userMetadata: metadata, signal };

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

  /** @internal */
  constructor(link: Link, made: { client: number; modelId: string }) {
    this.modelId = made.modelId;
    this.#handle = new Handle(link, "TrainingClient", made.client);
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
  async optimStep(params: AdamParams = {}, options: CallOptions = {}): Promise<OptimStepOutput> {
    const given = choices(params, {
      learningRate: number(0),
      beta1: number(0, 1, true),
      beta2: number(0, 1, true),
      eps: number(0),
      weightDecay: number(0),
      gradClipNorm: number(0),
    });
    return this.#handle.call("optimStep", { ...ADAM, ...given }, signalOf(options));
  }

  /** Writes a checkpoint that training can go on from: weights and optimizer. */
  async saveState(name: string, options: SaveStateOptions = {}): Promise<SavedCheckpoint> {
    const { signal: given, ...rest } = choices(options, { ...SAVE_OPTIONS, overwrite: boolean });
    return this.#handle.call("saveState", { name: text(name, "name"), overwrite: false, ...rest }, given);
  }

  /** Takes a checkpoint's weights; the optimizer starts anew. */
  async loadState(path: string, options: CallOptions = {}): Promise<void> {
    await this.#load(path, false, options);
  }

  /** Takes a checkpoint's weights and its optimizer, so that training goes on as it was. */
  async loadStateWithOptimizer(path: string, options: CallOptions = {}): Promise<void> {
    await this.#load(path, true, options);
  }

  /** Writes a checkpoint that can be sampled from, by `createSamplingClient({ modelPath })`. */
  async saveWeightsForSampler(name: string, options: SaveOptions = {}): Promise<SavedCheckpoint> {
    const { signal: given, ...rest } = choices(options, SAVE_OPTIONS);
    return this.#handle.call("saveWeightsForSampler", { name: text(name, "name"), ...rest }, given);
  }

  /** A sampler of the weights as they are at this place in the order of calls; no checkpoint is kept. */
  async saveWeightsAndGetSamplingClient(options: CallOptions = {}): Promise<SamplingClient> {
    const made = await this.#handle.call("saveWeightsAndGetSamplingClient", {}, signalOf(options));
    return new SamplingClient(this.#handle.link, made);
  }

  /** What the model is. */
  async getInfo(options: CallOptions = {}): Promise<ModelInfo> {
    return this.#handle.call("getInfo", {}, signalOf(options));
  }

  /** Lets the model go. Calls that wait reject with `ClosedError`; the service and its other clients go on. */
  async close(): Promise<void> {
    await this.#handle.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #load(path: string, optimizer: boolean, options: CallOptions): Promise<unknown> {
    return this.#handle.call("loadState", { path: checkpoint(path, "path"), optimizer }, signalOf(options));
  }
}

function forwardArgs(
  data: readonly Datum[],
  lossFn: LossFn,
  options: ForwardOptions,
): { args: WireForward; signal: AbortSignal | undefined } {
  const { signal: given, ...rest } = choices(options, { lossFnConfig: numbersOrTexts, signal });
  return { args: { data: wireData(data), lossFn: text(lossFn, "lossFn"), ...rest }, signal: given };
}

function signalOf(options: CallOptions): AbortSignal | undefined {
  return choices(options, { signal }).signal;
}
