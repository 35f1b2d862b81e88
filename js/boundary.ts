// What crosses between the page's classes, the owner and the WebAssembly: plain objects, strings, numbers, booleans and
// bytes, so that a Worker may stand in between. Arrays of numbers are raw little-endian bytes of the type that is named.

import type { Outcome, StorageReason } from "./errors.js";
import type { FromRun, RunMethods, ToRun } from "./run-boundary.js";
import type { Batch, Persistence } from "./store/store.js";
import type {
  ModelInfo,
  OptimStepOutput,
  SavedCheckpoint,
  ServerCapabilities,
  SupervisionNode,
} from "./types.js";

/** Where a service is and how to speak to it, all checked. */
export interface WireOptions {
  apiKey: string;
  /** Without a trailing slash. */
  baseURL: string;
  timeoutMs: number;
  maxRetries?: number;
  maxConnections?: number;
  tags: readonly string[];
  userMetadata: Record<string, string>;
  projectId?: string;
  displayName?: string;
  /** `resume`, or the id of a session that is kept. */
  session?: string;
  /** Whether the service is told how its client fares. */
  telemetry: boolean;
  /** The name of this service in records: two that live at once have two names, and one keeps it over its instances. */
  owner: string;
}

/** `tokens` are int32. */
export interface WireChunk {
  type: "encoded_text";
  tokens: Uint8Array;
}

/** `data` is of `dtype`, row-major, as many as `shape` says. */
export interface WireTensor {
  dtype: "int64" | "float32";
  shape: number[];
  data: Uint8Array;
}

/** `lossFnInputs` has the names that the service has for them. */
export interface WireDatum {
  modelInput: WireChunk[];
  lossFnInputs: Record<string, WireTensor>;
}

export interface WireForward {
  data: WireDatum[];
  lossFn: string;
  lossFnConfig?: Record<string, number | string>;
}

export interface WireForwardOutput {
  lossFnOutputType: string;
  lossFnOutputs: Record<string, WireTensor>[];
  metrics: Record<string, number>;
}

export interface WireOptimStep {
  learningRate: number;
  beta1: number;
  beta2: number;
  eps: number;
  weightDecay: number;
  gradClipNorm: number;
}

export interface WireSave {
  name: string;
  ttlSeconds?: number;
  userMetadata?: Record<string, string>;
}

export interface WireSamplingParams {
  maxTokens?: number;
  seed?: number;
  stop?: string | readonly string[] | readonly number[];
  temperature?: number;
  topK?: number;
  topP?: number;
}

export interface WireSample {
  prompt: WireChunk[];
  numSamples: number;
  samplingParams: WireSamplingParams;
  includePromptLogprobs: boolean;
  topkPromptLogprobs: number;
}

/** Tokens are int32, log-probabilities float32. */
export interface WireSampleOutput {
  sequences: {
    tokens: Uint8Array;
    logprobs?: Uint8Array;
    stopReason: "stop" | "length";
    sequenceId?: string;
  }[];
  promptLogprobs?: Uint8Array;
  topkPromptLogprobs?: { tokenIds: Uint8Array; logprobs: Uint8Array; k: number; length: number };
}

/** What a method takes, and what it gives. */
interface Method<Args, Result> {
  args: Args;
  result: Result;
}

type Nothing = Record<never, never>;

/** Answers of methods that make a client name it; every later call on it says that number. */
interface Made {
  client: number;
  sessionId?: string;
  exactlyOnce?: boolean;
}

export interface MadeTrainingClient extends Made {
  modelId: string;
  pending: WirePending[];
}

export interface MadeSamplingClient extends Made {
  samplingSessionId: string;
}

/** A call that came back. */
export interface WirePending {
  seqId: number;
  /** None where it can't be known any more. */
  method?: JournaledMethod;
  /** JSON text, or empty. */
  label: string;
  /** Of its promise, where this very service made the call; else 0. */
  key: number;
  finished: boolean;
}

/** Of every call that has a place in a model's order: JSON text. */
interface Labelled {
  label?: string;
}

export interface ServiceMethods extends RunMethods {
  getServerCapabilities: Method<Nothing, ServerCapabilities>;
  createLoraTrainingClient: Method<
    {
      baseModel: string;
      rank: number;
      seed?: number;
      trainMlp: boolean;
      trainAttn: boolean;
      trainUnembed: boolean;
      userMetadata?: Record<string, string>;
    },
    MadeTrainingClient
  >;
  createTrainingClientFromState: Method<
    { path: string; optimizer: boolean; userMetadata?: Record<string, string> },
    MadeTrainingClient
  >;
  createSamplingClient: Method<{ baseModel?: string; modelPath?: string }, MadeSamplingClient>;
  resumeTrainingClient: Method<{ modelId: string }, MadeTrainingClient>;
  resumeSamplingClient: Method<{ samplingSessionId: string }, MadeSamplingClient>;
  /** Ends the session, of which nothing is left to be seen. */
  finish: Method<Nothing, unknown>;
  /** The task of a function that runs on the page: see `run` and `ended`. */
  spawn: Method<{ name: string }, unknown>;
  supervision: Method<Nothing, SupervisionRow[]>;
  /** Deletes what is kept in a place; also of a service that is closed. */
  forget: Method<{ place: string }, unknown>;
  close: Method<Nothing, unknown>;
}

/** They have a place in the model's order, and are written down before they are sent. */
interface JournaledMethods {
  forward: Method<WireForward & Labelled, WireForwardOutput>;
  forwardBackward: Method<WireForward & Labelled, WireForwardOutput>;
  optimStep: Method<WireOptimStep & Labelled, OptimStepOutput>;
  saveState: Method<WireSave & { overwrite: boolean } & Labelled, SavedCheckpoint>;
  loadState: Method<{ path: string; optimizer: boolean } & Labelled, unknown>;
  saveWeightsForSampler: Method<WireSave & Labelled, SavedCheckpoint>;
  saveWeightsAndGetSamplingClient: Method<Labelled, MadeSamplingClient>;
}

export type JournaledMethod = keyof JournaledMethods;

export interface TrainingMethods extends JournaledMethods {
  /** What comes of a call that came back: as of its own method. */
  result: Method<{ seqId: number }, unknown>;
  getInfo: Method<Nothing, ModelInfo>;
  close: Method<Nothing, unknown>;
}

export interface SamplingMethods {
  sample: Method<WireSample, WireSampleOutput>;
  computeLogprobs: Method<{ prompt: WireChunk[] }, { logprobs: Uint8Array }>;
  close: Method<Nothing, unknown>;
}

/** One process of a service's tree; `types.ts` says what most of it is. */
export interface SupervisionRow extends Omit<SupervisionNode, "waits" | "queues" | "children"> {
  parent?: number;
  waitsFor?: string;
  waitsMs?: number;
  queues: { name: string; length: number }[];
}

/** The methods of one kind of client, by name. */
export type Methods<M> = { [K in keyof M]: Method<object, unknown> };

/** Why a call failed, as it crosses; `errors.ts` has a class for each kind. */
export interface Failure {
  kind:
    | "invalid_argument"
    | "api"
    | "connection"
    | "timeout"
    | "protocol"
    | "request_failed"
    | "aborted"
    | "closed"
    | "crashed"
    | "refused"
    | "storage"
    | "pending"
    | "data_mismatch"
    | "step_mismatch"
    | "instance_lost"
    | "init_failed";
  message: string;
  outcome: Outcome;
  retryable: boolean;
  field?: string;
  status?: number;
  body?: string;
  category?: string;
  reason?: StorageReason;
  place?: string;
  callers?: string[];
}

/** A request of an instance, whole. */
export interface HttpRequest {
  method: string;
  url: string;
  headers: Record<string, string>;
  body?: Uint8Array<ArrayBuffer>;
  /** It is to arrive also when the page goes. */
  keepalive?: boolean;
}

/** Its answer, whole, with the headers that the client reads. */
export interface HttpAnswer {
  status: number;
  headers: Record<string, string>;
  body: Uint8Array;
}

/** No answer came; why, in words. */
export interface HttpFailure {
  failure: string;
}

/** What an instance asks of its service's store. */
export type StoreOperation = { load: string } | { claim: string } | Batch;

/** What came of it. */
export type StoreAnswer =
  | { records: [key: string, value: Uint8Array][] }
  | { epoch: number }
  | Record<never, never>
  | { failure: StorageReason; message: string };

export type LogLevel = "debug" | "info" | "warn" | "error";

/** What a service takes of the page. Functions and objects can't cross, so whoever needs them asks the page. */
export interface WireGiven {
  fetch: boolean;
  store: boolean;
  /** Where its records are unless it was given a store. */
  place: string;
}

/** From the page to the owner, and on to the life of the instance. `client` 0 is the service itself. */
export type ToOwner =
  | { type: "open"; service: number; options: WireOptions; given: WireGiven }
  | { type: "call"; key: number; service: number; client: number; method: string; args: object }
  | { type: "cancel"; key: number }
  | { type: "seen"; key: number }
  /** The page is hidden, and may never be seen again. */
  | { type: "hidden" }
  /** The function of a `spawn` has ended, or failed with these words. */
  | { type: "ended"; key: number; failure: string | undefined }
  /** From now on `supervision` tells how the tree of a service is and becomes, or no more. */
  | { type: "watch"; service: number; on: boolean }
  /** The page is put aside, and kept: it lets go of what others may need, until it is back. */
  | { type: "away" }
  /** The page is back, or its network has come or gone. */
  | { type: "wake"; online: boolean }
  /** The second file, of the same build. */
  | { type: "extend"; module: WebAssembly.Module }
  /** To the run that the call of this key has open. With `life` only to that instance, whose question it answers. */
  | { type: "toRun"; key: number; life?: number; message: ToRun };

/** From the owner to the page. Each call is answered once, by `settled` or `failed`. */
export type FromOwner =
  | { type: "settled"; key: number; value: unknown }
  | { type: "failed"; key: number; failure: Failure }
  | { type: "log"; service: number; level: LogLevel; message: string }
  /** The function of a `spawn` is to run; said again by each new instance. */
  | { type: "run"; key: number }
  | { type: "supervision"; service: number; rows: SupervisionRow[] }
  /** The store of a service is open, and is one of these. */
  | { type: "kept"; service: number; persistence: Persistence }
  /** From the run that the call of this key has open. `life` numbers the instance. */
  | { type: "fromRun"; key: number; life: number; message: FromRun };

/** From a life to the owner, which numbers lives. After `died` nothing comes of it. */
export type FromLife =
  | Exclude<FromOwner, { type: "fromRun" }>
  | { type: "fromRun"; key: number; message: FromRun }
  /** The second file is to come, and nobody waits for it. */
  | { type: "bring" }
  | { type: "died" };

/** The page's first word to a worker. */
export interface ToNewWorker {
  module: WebAssembly.Module;
  port: MessagePort;
}

/** From the page to a worker, in which one life follows another. `asked` is what the page was asked for. */
export type ToWorker =
  ToOwner | { type: "begin" } | { type: "ping" } | { type: "answer"; asked: number; answer: object };

/** From a worker to the page. What it asks for is answered once, also where it doesn't wait any more. */
export type FromWorker =
  | Exclude<FromLife, { type: "died" }>
  | { type: "begun" }
  | { type: "pong" }
  | { type: "died"; cause: string }
  | { type: "fetch"; asked: number; service: number; request: HttpRequest }
  | { type: "abort"; asked: number }
  | { type: "store"; asked: number; service: number; operation: StoreOperation };
