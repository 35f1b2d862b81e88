// What crosses for training runs, as `boundary.ts` has it for the rest: the methods, and what a run and its page say to each
// other while the run is open.

import type { WireChunk, WireDatum, WireForwardOutput, WireOptimStep, WireSampleOutput } from "./boundary.js";
import type { WireSamplingParams } from "./boundary.js";
import type { RunEnd, RunEvent, RunStatus } from "./run-types.js";
import type { OptimStepOutput, SavedCheckpoint } from "./types.js";

interface Method<Args, Result> {
  args: Args;
  result: Result;
}

type Nothing = Record<never, never>;

/** A run as it is written down: all checked, every default in its place. */
export interface WireRunSpec {
  name?: string;
  baseModel: string;
  rank: number;
  loraSeed?: number;
  trainMlp: boolean;
  trainAttn: boolean;
  trainUnembed: boolean;
  userMetadata?: Record<string, string>;
  kind: "data" | "steps";
  /** Of a run over data. */
  data?: WireRunData;
  lossFn?: string;
  lossFnConfig?: Record<string, number | string>;
  batchSize: number;
  shuffle: boolean;
  /** Datums. */
  buffer: number;
  /** Of a run of steps. */
  version?: string;
  stepTimeoutMs: number;
  steps?: number;
  epochs?: number;
  seed: number;
  schedule: WireSchedule;
  adam: Omit<WireOptimStep, "learningRate">;
  /** None: as it sees fit. */
  pipeline?: number;
  evaluation?: { data: WireDatum[]; every: number };
  checkpoints: { everySteps?: number; everyMs?: number; onHide: boolean; ttlSeconds?: number };
  samples?: {
    prompts: { chunks: WireChunk[] }[];
    every: number;
    numSamples: number;
    samplingParams: WireSamplingParams;
  };
  recovery: { from: string; attempts: number; backoffMs: number; ask: boolean };
}

export interface WireSchedule {
  type: "constant" | "linear" | "cosine" | "points";
  peak: number;
  warmupSteps: number;
  floor: number;
  steps?: number;
  /** Step and rate, one after the other. */
  points?: number[];
}

export type WireRunData =
  { kind: "indexed"; length: number; fingerprint: string } | { kind: "stream"; fingerprint?: string };

/** What opens a run: what this page can give it. */
export interface WireOpenRun {
  id: string;
  data?: WireRunData;
  lossFn?: string;
  version?: string;
  canStep: boolean;
}

export type WireRunStatus = Omit<RunStatus, "role" | "persistence">;

/** `value` is JSON text, tokens are int32 and log-probabilities float32. */
export type WireRunEvent = Flat<RunEvent>;

type Flat<E> = E extends { type: "step" }
  ? Omit<E, "value"> & { value?: string }
  : E extends { type: "sample" }
    ? Omit<E, "tokens" | "logprobs"> & { tokens: Uint8Array; logprobs?: Uint8Array }
    : E;

/** Of the service. Those that name a run that is open here: `pauseRun` to `closeRun`, and `stepCall`. */
export interface RunMethods {
  startRun: Method<WireRunSpec, { id: string }>;
  /** Lasts until the run has ended or is closed, and speaks meanwhile: `FromRun` and `ToRun`. */
  run: Method<WireOpenRun, RunEnd>;
  runs: Method<Nothing, { runs: WireRunStatus[] }>;
  /** From the store, of any run. `after`: rows of a later time only, in milliseconds since 1970. */
  readRun: Method<
    { id: string; after?: number },
    { status: WireRunStatus; rows: WireRunEvent[]; spec: WireRunSpec }
  >;
  pauseRun: Method<{ id: string }, unknown>;
  resumeRun: Method<{ id: string; from?: "checkpoint"; step?: "restart" }, unknown>;
  stopRun: Method<{ id: string; checkpoint: boolean }, unknown>;
  checkpointRun: Method<{ id: string }, SavedCheckpoint>;
  closeRun: Method<{ id: string }, unknown>;
  stepCall: Method<WireStepCall, unknown>;
}

/** `index`: its place among all calls of the attempt, in the order in which they were made. */
export interface WireStepCall {
  id: string;
  attempt: number;
  index: number;
  method: keyof StepResults;
  args: object;
}

/** What a step's calls give, by method. */
export interface StepResults {
  forward: WireForwardOutput;
  forwardBackward: WireForwardOutput;
  optimStep: OptimStepOutput;
  saveState: SavedCheckpoint;
  saveWeightsForSampler: SavedCheckpoint;
  sampler: { sampler: string };
  sample: WireSampleOutput;
}

/** A call of a step that was made before. `value` is the JSON text of what a `random`, `now` or `once` gave. */
export interface WireStepEntry {
  method: string;
  done: boolean;
  value?: string;
  name?: string;
}

/** What a run asks of its page. */
export type WireAsk =
  | { what: "rows"; rows: number[] }
  /** `cursor`: JSON text; none for the beginning. */
  | { what: "stream"; cursor?: string; count: number }
  | { what: "step"; step: number; attempt: number; entries: WireStepEntry[] };

export type Ask = { type: "ask"; ask: number } & WireAsk;

/** From a run to its page. */
export type FromRun =
  | { type: "event"; event: WireRunEvent }
  | { type: "status"; status: WireRunStatus }
  | Ask
  /** Nobody waits any more for this attempt at a step. */
  | { type: "over"; attempt: number };

/** What answers an ask, by what was asked. */
export type Answer =
  | { data: WireDatum[] }
  /** `cursors`: JSON texts, one for each datum. Fewer than were asked for only at the `end`. */
  | { data: WireDatum[]; cursors: string[]; end: boolean }
  /** Of a step: JSON text. */
  | { value?: string }
  | { failure: string; kind?: "step_mismatch" | "data_mismatch" };

/** From the page to a run. */
export type ToRun =
  | ({ type: "answer"; ask: number } & Answer)
  /** Recorded before any later call of the step is sent. */
  | {
      type: "note";
      attempt: number;
      index: number;
      method: "random" | "now" | "once";
      name?: string;
      value: string;
    }
  /** The page is hidden. */
  | { type: "hidden" };
