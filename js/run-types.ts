// Training runs as users give and see them: options, data, the context of a step function, events and the status.

import type { Persistence } from "./store/store.js";
import type {
  AdamParams,
  CallOptions,
  Datum,
  ForwardBackwardOutput,
  ForwardOptions,
  Label,
  LossFn,
  OptimStepOutput,
  Prompt,
  SampleOptions,
  SampleOutput,
  SamplingParams,
  SavedCheckpoint,
} from "./types.js";

/** A run is one of two loops: over `data` with a `loss`, or of a `step` function. */
export interface RunOptions {
  /** A model as the service has it. */
  baseModel: string;
  /** For people. Default: none. */
  name?: string;
  /** Rank of the low-rank update. Default 32. */
  rank?: number;
  /** Makes the initial weights the same each time. Default: the server's choice. */
  loraSeed?: number;
  /** Which matrices are trained. All true by default; at least one must be. */
  trainMlp?: boolean;
  trainAttn?: boolean;
  trainUnembed?: boolean;
  userMetadata?: Record<string, string>;

  data?: RunData;
  /** Default `cross_entropy`. */
  loss?: LossFn;
  /** Settings of the loss function, by name. */
  lossFnConfig?: Record<string, number | string>;
  /** Datums of a step. Default 8, and of less data all of it. */
  batchSize?: number;
  /**
   * Default true. An iterable is shuffled in a buffer, whose length in datums is 1,024 unless it is given here: its order is
   * that of the seed as well.
   */
  shuffle?: boolean | { buffer: number };

  step?: StepFunction;
  /** Of the step function, so that a run knows when it comes back with another one. Default: a hash of the function's text. */
  version?: string;
  /** Milliseconds that a step function may take without a call of its context under way. Default 600,000. */
  stepTimeoutMs?: number;

  /** Optimizer steps. Default: as many as `epochs` has. A step function needs it. */
  steps?: number;
  /** How often all data is used. Default 1 where `steps` isn't given. The last batch of an epoch may be smaller. */
  epochs?: number;
  /** Makes the order of the data the same each time. Default: drawn, and written down with the run. */
  seed?: number;
  /** Default 1e-4. */
  learningRate?: number | Schedule;
  adam?: Omit<AdamParams, "learningRate">;
  /**
   * Steps that may be submitted and not finished, so that the server never waits for the page. Default: as many as take half a
   * second together, from 2 to 8.
   */
  pipeline?: number;

  /** Losses of data that isn't trained on: before the first step, every so many, and after the last. It is kept with the run, so it may have 16 MB. */
  evaluation?: { data: readonly Datum[]; every: number };
  checkpoints?: CheckpointOptions;
  /** Before the first step, every so many, and after the last. */
  samples?: {
    prompts: readonly Prompt[];
    /** Steps from one to the next. */
    every: number;
    /** Sequences of each prompt. Default 1. */
    numSamples?: number;
    samplingParams?: SamplingParams;
  };
  recovery?: RecoveryOptions;
}

/** When the run writes a checkpoint. One is written at the end always. */
export interface CheckpointOptions {
  /** Default: none for their number. */
  everySteps?: number;
  /** Default 10. */
  everyMinutes?: number;
  /** One is asked for when the page is hidden, if steps were made since the last. Default true. */
  onHide?: boolean;
  /** Seconds until the server deletes them, from 3,600 to ten years. Default: never. */
  ttlSeconds?: number;
}

/** What becomes of a run whose model the server has no more. */
export interface RecoveryOptions {
  /** The checkpoint that it goes on from: the `latest`, the one after the `best` evaluation, or a path. Default `latest`. */
  from?: "latest" | "best" | (string & Record<never, never>);
  /** How often one is tried. Default 3. */
  attempts?: number;
  /** Milliseconds before the second attempt, doubled for each further one. Default 1,000. */
  backoffMs?: number;
  /** Pause, and wait for `resume({ from: "checkpoint" })`. Default false. */
  ask?: boolean;
}

/**
 * The learning rate of each step. `linear` and `cosine` rise from 0 to `peak` within `warmupSteps` (default 0) and fall to
 * `floor` (default 0) at `steps` (default: the run's). `points` are joined by straight lines.
 */
export type Schedule =
  | {
      type: "constant" | "linear" | "cosine";
      peak: number;
      warmupSteps?: number;
      floor?: number;
      steps?: number;
    }
  | { type: "points"; points: readonly (readonly [step: number, rate: number])[] };

/**
 * The data of a run: an array; a file of lines of JSON, each a datum, or what `toDatum` makes one of; or anything that can be
 * read from a place of its own again. It isn't kept with the run: whoever opens the run gives the same data.
 */
export type RunData = readonly Datum[] | FileData | StreamData;

export interface FileData {
  file: Blob;
  /** `line` counts from 1. */
  toDatum?: (row: unknown, line: number) => Datum;
}

export interface StreamData {
  /** Begins behind the datum that `cursor` came with; undefined: at the first. */
  open(cursor: Label | undefined): AsyncIterable<StreamedDatum>;
  /** A word that changes when the data does. Default: none, and then a change goes unseen. */
  fingerprint?: string;
}

export interface StreamedDatum {
  datum: Datum;
  /** Where to go on behind this datum. At most 1,000 characters of JSON. */
  cursor: Label;
}

/**
 * One step of a run. What it gives stands in the step's event as `value`. After a crash it is called again for the same step,
 * and calls of its context that were made before give what they gave then.
 */
export type StepFunction = (ctx: StepContext, step: number) => Promise<Label | void> | Label | void;

/** What a step function may not do without: calls that are written down in the order in which they are made. */
export interface StepContext {
  /** The one that the function makes: the first is 1. */
  readonly step: number;
  readonly runId: string;
  /** Fires when this attempt is over: the run was stopped or closed, or paused for something that went wrong. */
  readonly signal: AbortSignal;
  forward(
    data: readonly Datum[],
    lossFn: LossFn,
    options?: StepForwardOptions,
  ): Promise<ForwardBackwardOutput>;
  forwardBackward(
    data: readonly Datum[],
    lossFn: LossFn,
    options?: StepForwardOptions,
  ): Promise<ForwardBackwardOutput>;
  /** Without `learningRate` it is that of the run's schedule, and without the others those of the run's `adam`. */
  optimStep(params?: AdamParams): Promise<OptimStepOutput>;
  saveState(name?: string): Promise<SavedCheckpoint>;
  saveWeightsForSampler(name?: string): Promise<SavedCheckpoint>;
  /** A sampler of the weights as they are at this place in the order of calls. */
  saveWeightsAndGetSamplingClient(): Promise<StepSampler>;
  /** By a sampler of this step, which the first such call makes: from the weights as they are at its place. */
  sample(prompt: Prompt, options?: StepSampleOptions): Promise<SampleOutput>;
  /** From 0 to below 1. */
  random(): number;
  /** Milliseconds since 1970. */
  now(): number;
  /**
   * What `fn` gives, and from then on the same without calling it: for what can't be done again, or would give something else.
   * It is known by its name. At most 1,000 characters of JSON.
   */
  once<T extends Label>(name: string, fn: () => T | Promise<T>): Promise<T>;
}

export type StepForwardOptions = Omit<ForwardOptions, "label" | keyof CallOptions>;
export type StepSampleOptions = Omit<SampleOptions, keyof CallOptions>;

export interface StepSampler {
  sample(prompt: Prompt, options?: StepSampleOptions): Promise<SampleOutput>;
}

/** What a page has to give so that it can own a run. Without it, it reads, follows, and commands the page that owns it. */
export interface OpenRunOptions {
  data?: RunData;
  /** Default: the run's own. */
  loss?: LossFn;
  step?: StepFunction;
  version?: string;
}

export interface ResumeOptions {
  /** Go on from a checkpoint with a new model, as `recovery` says. */
  from?: "checkpoint";
  /** Forget what the unfinished step has recorded, and call its function anew. */
  step?: "restart";
}

export interface StopOptions {
  /** Write a last checkpoint. Default true. */
  checkpoint?: boolean;
}

/** One that was asked to stop is running until it has: its cause is `stopping`. */
export type RunState = "running" | "paused" | "completed" | "stopped";

/** How a run ended, or that this page closed it. */
export interface RunEnd {
  state: "completed" | "stopped" | "closed";
  /** Of one that was closed by something that went wrong. */
  cause?: Omit<RunCause, "since">;
}

/** Why a run isn't moving. */
export type CauseKind =
  | "starting"
  | "waiting_for_server"
  | "waiting_for_data"
  | "waiting_for_step"
  /** It was asked to stop, and does so with the results of what is under way. */
  | "stopping"
  | "recovering"
  | "paused_by_user"
  /** No open page has given it its data. */
  | "needs_data"
  /** No open page has given it its step function. */
  | "needs_step"
  /** No page has it open that could own it. */
  | "needs_owner"
  | "data_changed"
  | "data_failed"
  | "function_changed"
  | "step_mismatch"
  | "step_failed"
  | "step_timed_out"
  | "loss_not_finite"
  | "model_gone"
  | "checkpoint_gone"
  | "not_let_in"
  | "refused"
  | "storage"
  /** Another page or process owns it now. */
  | "fenced"
  | "crashed";

export interface RunCause {
  kind: CauseKind;
  /** Milliseconds since 1970. */
  since: number;
  message: string;
  /** What will end it. */
  ends: string;
}

export interface RunStatus {
  id: string;
  name?: string;
  kind: "data" | "steps";
  baseModel: string;
  /** Milliseconds since 1970. */
  createdAt: number;
  state: RunState;
  /** Of this page: `owner`: the run works here; `follower`: in another page, or in none; `none`: it has ended. */
  role: "owner" | "follower" | "none";
  /** Finished optimizer steps. */
  step: number;
  /** Of the last of them, where it has one. */
  loss?: number;
  /** Steps that are submitted: `step` and those under way. */
  submitted: number;
  /** None where it isn't known yet. */
  steps?: number;
  /** How many models it has had, this one included. */
  incarnation: number;
  modelId?: string;
  sessionId?: string;
  /** "memory" forgets the run with the page. */
  persistence?: Persistence;
  lastCheckpoint?: { step: number; path: string };
  /** As the run was started with it: where its data are, say. */
  userMetadata?: Record<string, string>;
  /** There whenever it isn't moving. */
  cause?: RunCause;
}

/** A run that is kept here, whether or not it is open. */
export type RunSummary = Omit<RunStatus, "role" | "persistence">;

/** What has happened in a run, in the order in which it did. */
export type RunEvent = {
  /** Milliseconds since 1970. */
  at: number;
  /** Finished optimizer steps. */
  step: number;
  incarnation: number;
} & (
  | {
      type: "step";
      /** Per weighted token; of a step function, over its `forwardBackward` calls. */
      loss?: number;
      tokens: number;
      learningRate?: number;
      /** From its submission to its end. */
      ms: number;
      /** As the server names them. */
      metrics: Record<string, number>;
      /** What the step function gave. */
      value?: Label;
    }
  | { type: "evaluation"; loss: number; tokens: number }
  | { type: "checkpoint"; path: string; reason: "cadence" | "hidden" | "asked" | "end" | "stop" }
  | {
      type: "sample";
      /** Which of `samples.prompts`, from 0. */
      prompt: number;
      tokens: Int32Array;
      logprobs?: Float32Array;
      stopReason: "stop" | "length";
    }
  /** The seam: the run goes on with a new model, from `step`. */
  | {
      type: "incarnation";
      /** The step that it had reached. */
      from: number;
      /** The checkpoint; none where it began anew. */
      path?: string;
      reason: string;
      modelId: string;
    }
);

/** What a `TrainingRun` calls listeners with, by name. */
export interface RunListeners {
  status: (status: RunStatus) => void;
  /** Each event, whatever its type. */
  event: (event: RunEvent) => void;
  step: (event: RunEvent & { type: "step" }) => void;
  evaluation: (event: RunEvent & { type: "evaluation" }) => void;
  checkpoint: (event: RunEvent & { type: "checkpoint" }) => void;
  sample: (event: RunEvent & { type: "sample" }) => void;
  incarnation: (event: RunEvent & { type: "incarnation" }) => void;
}
