// What goes into the methods and what comes out: the public types, with shapes, units and defaults.

import type { Store } from "./store/store.js";

/** Numbers in order. A plain array or a typed array; 64-bit integers as `BigInt64Array` or numbers. */
export type Numbers =
  | readonly number[]
  | Int8Array
  | Uint8Array
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array
  | Float32Array
  | Float64Array
  | BigInt64Array;

/** Text as token ids of the model's own tokenizer: integers from 0 to 2³¹ − 1. */
export interface EncodedText {
  type: "encoded_text";
  tokens: Numbers;
}

/** What a model reads: chunks, one after another. */
export interface ModelInput {
  chunks: readonly EncodedText[];
}

/** A model input, or just its token ids. */
export type Prompt = Numbers | ModelInput;

/** A tensor with its shape written out. `data` is flat, row-major. */
export interface TensorInput {
  data: Numbers;
  /** Left out: one dimension, as long as `data`. */
  shape?: readonly number[];
  /** Left out: by name (`targetTokens` is int64, the rest float32). */
  dtype?: "int64" | "float32";
}

/**
 * What the loss function of a datum takes, by name: numbers (one per target) or a tensor.
 * The names below are sent in the service's spelling (`target_tokens`); any other name is sent as it is.
 */
export interface LossFnInputs {
  /** The token to be predicted at each position: int64, as long as the datum's tokens. */
  targetTokens?: Numbers | TensorInput;
  /** How much each position counts: float32, as long as `targetTokens`. 0 masks it out. */
  weights?: Numbers | TensorInput;
  /** For `importance_sampling` and `ppo`: float32, as long as `targetTokens`. */
  advantages?: Numbers | TensorInput;
  /** For `importance_sampling` and `ppo`: the sampler's own log-probabilities (natural logarithm). */
  logprobs?: Numbers | TensorInput;
  [name: string]: Numbers | TensorInput | undefined;
}

/** One training example. */
export interface Datum {
  /** `n` tokens; position `i` predicts `targetTokens[i]`, so targets are the input moved on by one. */
  modelInput: Prompt;
  lossFnInputs: LossFnInputs;
}

/** The service's loss functions. Each is a *sum* over tokens; `cross_entropy` is −Σ weights · logprob(target). */
export type LossFn =
  "cross_entropy" | "importance_sampling" | "ppo" | "cispo" | "dro" | "gspo" | "stable_reinforce";

/** Numbers that came back. */
export interface Tensor {
  data: Float32Array | BigInt64Array;
  dtype: "float32" | "int64";
  shape: number[];
}

/** What `forward` and `forwardBackward` resolve with. */
export interface ForwardBackwardOutput {
  lossFnOutputType: string;
  /** One entry per datum, in order. `logprobs` is as long as its targets (natural logarithm). */
  lossFnOutputs: { logprobs: Tensor; [field: string]: Tensor }[];
  /** By name with a suffix that says how it was put together, as `loss:sum`. */
  metrics: Record<string, number>;
}

/** Options that every call takes. */
export interface CallOptions {
  /**
   * Gives the call up. Before it has its sequence number nothing was sent and it is gone; after that it is a fact:
   * the server may apply it, and only this caller stops waiting. A call with a signal gets its number when it is its turn, and no
   * sooner; without, it may get it together with the calls before it. Rejects with `AbortedError`, whose `outcome` tells.
   */
  signal?: AbortSignal;
}

/** What JSON can hold. */
export type Label = string | number | boolean | null | readonly Label[] | { readonly [name: string]: Label };

/** Options of every call that has a place in a model's order. */
export interface OrderedOptions extends CallOptions {
  /**
   * By which the call is known when it comes back after a reload: `{ step: 12 }`. At most 1,000 characters of JSON. It is
   * kept on this machine and never sent.
   */
  label?: Label;
}

/** A call that came back with its model: it goes on, or is finished and nobody has seen its result. */
export interface PendingCall {
  readonly method:
    | "forward"
    | "forwardBackward"
    | "optimStep"
    | "saveState"
    | "loadState"
    | "saveWeightsForSampler"
    | "saveWeightsAndGetSamplingClient"
    /** Its record was damaged, or a newer version of this package made it. */
    | "unknown";
  /** As it was given; undefined where none was. */
  readonly label: Label | undefined;
  /** Its place in the model's order, and of a call in several requests that of the first. */
  readonly seqId: number;
  readonly state: "sent" | "finished";
  /** As the method's own promise. Once it was looked at and has settled, the call is done with, and not kept any more. */
  readonly promise: Promise<unknown>;
}

/** What is known of the server. */
export interface Capabilities {
  /**
   * Whether it answers the same number and body with the same request, on which it rests that each training call is
   * applied once. False: a call that is sent again after a lost answer or a crash may be applied twice. Undefined until
   * a model was made.
   */
  exactlyOnce: boolean | undefined;
}

export interface ForwardOptions extends OrderedOptions {
  /** Settings of the loss function, by name. */
  lossFnConfig?: Record<string, number | string>;
}

/** Adam's settings for one step; the defaults are the service's own. */
export interface AdamParams {
  /** Default 1e-4. */
  learningRate?: number;
  /** Default 0.9. */
  beta1?: number;
  /** Default 0.95. */
  beta2?: number;
  /** Default 1e-12. */
  eps?: number;
  /** Default 0. */
  weightDecay?: number;
  /** The gradient's norm is cut to this. Default 0: off. */
  gradClipNorm?: number;
}

export interface OptimStepOutput {
  metrics: Record<string, number>;
}

export interface LoraOptions extends CallOptions {
  /** Rank of the low-rank update. Default 32. */
  rank?: number;
  /** Makes the initial weights the same each time. Default: the server's choice. */
  seed?: number;
  /** Which matrices are trained. All true by default; at least one must be. */
  trainMlp?: boolean;
  trainAttn?: boolean;
  trainUnembed?: boolean;
  userMetadata?: Record<string, string>;
}

export interface FromStateOptions extends CallOptions {
  userMetadata?: Record<string, string>;
}

/** What to sample from: one of the two. */
export interface SamplingClientOptions extends CallOptions {
  /** A model as the service has it. */
  baseModel?: string;
  /** A checkpoint of `saveWeightsForSampler`: `tinker://…`. */
  modelPath?: string;
}

export interface SaveOptions extends OrderedOptions {
  /** Seconds until the checkpoint is deleted, from 3,600 to ten years. Default: never. */
  ttlSeconds?: number;
  userMetadata?: Record<string, string>;
}

export interface SaveStateOptions extends SaveOptions {
  /** Replace a checkpoint of this name. Default false: a name in use is an error. */
  overwrite?: boolean;
}

/** Where a checkpoint is: `tinker://{training run}/{weights|sampler_weights}/{name}`. */
export interface SavedCheckpoint {
  path: string;
}

export interface ModelInfo {
  modelId: string;
  modelData: { arch?: string; modelName?: string; tokenizerId?: string };
  isLora?: boolean;
  loraRank?: number;
}

export interface SupportedModel {
  modelName?: string;
  /** Tokens. */
  maxContextLength?: number;
  trainable?: boolean;
  sampleable?: boolean;
}

export interface ServerCapabilities {
  supportedModels: SupportedModel[];
}

export interface SamplingParams {
  /** Tokens at most. Default: up to the model's context. */
  maxTokens?: number;
  /** Makes the sample the same each time. */
  seed?: number;
  /** Ends the sample: a string, strings, or token ids. `[]` turns all stopping off, end of sequence too. */
  stop?: string | readonly string[] | readonly number[];
  /** Default 1; 0 takes the likeliest token. */
  temperature?: number;
  /** Only the k likeliest tokens. Default −1: all. */
  topK?: number;
  /** Only the likeliest tokens that together have this probability. Default 1: all. */
  topP?: number;
}

export interface SampleOptions extends CallOptions {
  /** How many sequences. Default 1. */
  numSamples?: number;
  samplingParams?: SamplingParams;
  /** Also give the log-probability of each token of the prompt. */
  includePromptLogprobs?: boolean;
  /** Also give the k likeliest tokens at each position of the prompt. Default 0. */
  topkPromptLogprobs?: number;
}

export interface SampledSequence {
  tokens: Int32Array;
  /** As long as `tokens`; natural logarithm. */
  logprobs?: Float32Array;
  stopReason: "stop" | "length";
  /** The service's name for this sequence, where it gives one. */
  sequenceId?: string;
}

/** The k likeliest tokens at each of `length` positions, row by row; unused places hold token 0 and −99999. */
export interface TopkLogprobs {
  tokenIds: Int32Array;
  logprobs: Float32Array;
  k: number;
  length: number;
}

export interface SampleOutput {
  sequences: SampledSequence[];
  /** As long as the prompt; the first is NaN, as nothing comes before it. */
  promptLogprobs?: Float32Array;
  topkPromptLogprobs?: TopkLogprobs;
}

/** Where messages go. `console` fits. */
export interface Logger {
  debug(message: string): void;
  info(message: string): void;
  warn(message: string): void;
  error(message: string): void;
}

export interface ServiceOptions {
  /** `tml-…` or a token `eyJ…`. Default: `TINKER_API_KEY` of the environment, where there is one. */
  apiKey?: string;
  /** Where the service is. Default: `TINKER_BASE_URL` of the environment, else the hosted service. */
  baseURL?: string;
  /**
   * A page can be read by whoever opens it, and its key with it. In a browser, a key for a server that isn't on this
   * machine is refused unless this is true.
   */
  dangerouslyAllowBrowser?: boolean;
  /** Used in the place of the global `fetch`. */
  fetch?: typeof globalThis.fetch;
  /** Milliseconds that one HTTP request may take. Default 60,000. */
  timeout?: number;
  /** How often one HTTP request is tried again. Default 10; 3 until the server has answered for the first time. */
  maxRetries?: number;
  /** HTTP connections at once, at least 3. Default 6, as browsers have per host on HTTP/1.1. */
  maxConnections?: number;
  /** Default: warnings and errors to `console`. */
  logger?: Logger;
  /**
   * `"resume"`: the newest session of this server and account that is kept here, or a new one where there is none; or the
   * id of one. Default: a new session. One that another page uses is taken over: calls there reject with a `StorageError`
   * whose `reason` is `fenced`.
   */
  session?: string;
  /**
   * Where sessions and training calls are kept. Default: IndexedDB, or memory where there is none; `fileStore()` of
   * `tinkex/file` keeps them in a directory.
   */
  store?: Store;
  /** A word for the account, by which its records are kept apart. Default: 16 bits of a checksum of the key. */
  account?: string;
  /**
   * Whether the service is told that sessions began and ended, and of crashes of this package; `docs/telemetry.md` lists
   * every field. Default: true, unless `TINKER_TELEMETRY` of the environment is `0`, `false`, `no` or `off`.
   */
  telemetry?: boolean;
  /** Written with the session. */
  tags?: readonly string[];
  userMetadata?: Record<string, string>;
  projectId?: string;
  displayName?: string;
}

/** Where a file of WebAssembly comes from: one of these; default: the file beside the package. */
export interface WasmSource {
  module?: WebAssembly.Module;
  url?: string | URL;
  bytes?: BufferSource;
}

/** How the package gets its WebAssembly, tinkex_bg.wasm, and where that lives. */
export interface InitOptions extends WasmSource {
  /**
   * `true`: the WebAssembly lives in a dedicated Worker, so that nothing of its work holds the page up, and its timers are
   * not throttled in a hidden page. Or where the package's `worker.js` is, for bundlers that don't find it. Default: false.
   */
  worker?: boolean | string | URL;
  /**
   * The second file, tinkex_deferred_bg.wasm, with what a page may never ask for that makes clients, trains and samples: training
   * runs, whatever is resumed, the supervision tree. It is loaded when something of that is asked for first, and after a trap.
   * Default: beside `url` where that is given, else beside the package.
   */
  deferred?: WasmSource;
}

/** Work of the page: it should end soon after its signal has fired. */
export type TaskFunction<T> = (signal: AbortSignal) => T | PromiseLike<T>;

export interface TaskOptions extends CallOptions {
  /** By which `supervision()` shows it. */
  name: string;
}

/** One process of a service's supervision tree. */
export interface SupervisionNode {
  /** The number of its latest start; no other process of this instance has had it. */
  id: number;
  name: string;
  /** A supervisor keeps children, a task supervisor tasks: pieces of work with one result each. */
  kind: "supervisor" | "taskSupervisor" | "worker" | "task";
  /** `restarting`: it is gone, and to be started again; `stopped`: it is gone, and its supervisor keeps its place. */
  state: "starting" | "running" | "stopping" | "exited" | "restarting" | "stopped";
  /** How often its supervisor has started it again. */
  restarts: number;
  /** Since its latest start, in ms. */
  uptimeMs: number;
  /** What it waits for, and for how many ms by now. Left out while it says nothing of that. */
  waits?: { for: string; ms: number };
  /** The lengths of its queues, by name. */
  queues: Record<string, number>;
  /** In the order in which they were started. */
  children: SupervisionNode[];
}

/** Takes the whole tree, as it is now. */
export type SupervisionListener = (tree: SupervisionNode) => void;
