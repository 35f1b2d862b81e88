// The way in: a service that trains and samples models, and the clients that it makes.

import type { MadeSamplingClient, MadeTrainingClient, ServiceMethods } from "./boundary.js";
import { boolean, checkpoint, choices, integer, metadata, refuse, signal, text } from "./checks.js";
import { ClosedError, InvalidArgumentError } from "./errors.js";
import { Handle, Link } from "./handle.js";
import { loadRuns } from "./init.js";
import type { TrainingRun } from "./run.js";
import type { OpenRunOptions, RunOptions, RunSummary } from "./run-types.js";
import { SamplingClient } from "./sampling.js";
import { settingsOf } from "./settings.js";
import type { Persistence } from "./store/store.js";
import { treeOf } from "./supervision.js";
import { Tasks } from "./tasks.js";
import { TrainingClient } from "./training.js";
import type {
  CallOptions,
  Capabilities,
  FromStateOptions,
  LoraOptions,
  SamplingClientOptions,
  ServerCapabilities,
  ServiceOptions,
  SupervisionListener,
  SupervisionNode,
} from "./types.js";

const MOST = 2 ** 32 - 1;
const DEFAULT_RANK = 32;

/**
 * A connection to the Tinker service, or to any server that speaks its API. Nothing is sent before the first method, and
 * `init()` must have resolved by then.
 *
 * ```ts
 * await init();
 * await using service = new ServiceClient({ apiKey: "tml-…" });
 * const training = await service.createLoraTrainingClient("meta-llama/Llama-3.1-8B", { rank: 16 });
 * ```
 */
export class ServiceClient implements AsyncDisposable {
  /** The page's own functions, under this service's supervision. */
  readonly tasks: Tasks;
  readonly #handle: Handle<ServiceMethods>;
  #sessionId: string | undefined;
  #exactlyOnce: boolean | undefined;
  /** Those that are open here. */
  readonly #runs = new Set<TrainingRun>();

  /** Throws `InvalidArgumentError`, whose `field` is the option that can't be right. */
  constructor(options: ServiceOptions = {}) {
    this.#handle = new Handle(new Link(settingsOf(options)), "ServiceClient", 0);
    this.tasks = new Tasks(this.#handle);
  }

  /** The server's name for the session; undefined until the first client was made. */
  get sessionId(): string | undefined {
    return this.#sessionId;
  }

  /** What keeps sessions and training calls; undefined until the first client was made. "memory" forgets them with the page. */
  get persistence(): Persistence | undefined {
    return this.#handle.link.persistence;
  }

  get capabilities(): Capabilities {
    return { exactlyOnce: this.#exactlyOnce };
  }

  /** Which models there are. */
  async getServerCapabilities(options: CallOptions = {}): Promise<ServerCapabilities> {
    const { signal: given } = choices(options, { signal });
    return this.#handle.call("getServerCapabilities", {}, given);
  }

  /** Starts training a low-rank update of a base model. Rejects with an `APIError` when it isn't served. */
  async createLoraTrainingClient(baseModel: string, options: LoraOptions = {}): Promise<TrainingClient> {
    const { signal: given, ...rest } = choices(options, {
      rank: integer(1, MOST),
      seed: integer(Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER),
      trainMlp: boolean,
      trainAttn: boolean,
      trainUnembed: boolean,
      userMetadata: metadata,
      signal,
    });
    const args = {
      baseModel: text(baseModel, "baseModel"),
      rank: DEFAULT_RANK,
      trainMlp: true,
      trainAttn: true,
      trainUnembed: true,
      ...rest,
    };
    if (!args.trainMlp && !args.trainAttn && !args.trainUnembed) {
      throw new InvalidArgumentError(
        "trainMlp",
        "trainMlp, trainAttn and trainUnembed are all false: at least one must be true, or nothing is trained",
      );
    }
    return this.#training(await this.#handle.call("createLoraTrainingClient", args, given));
  }

  /** A new model with a checkpoint's weights and a new optimizer. `path` is that of `saveState`. */
  async createTrainingClientFromState(path: string, options: FromStateOptions = {}): Promise<TrainingClient> {
    return this.#fromState(path, false, options);
  }

  /** A new model that goes on where a checkpoint was written: its weights and its optimizer. */
  async createTrainingClientFromStateWithOptimizer(
    path: string,
    options: FromStateOptions = {},
  ): Promise<TrainingClient> {
    return this.#fromState(path, true, options);
  }

  /**
   * Goes on with a model of this session: `pending()` of the client has the calls that nobody has seen the end of. They go
   * on by themselves. Rejects with `GoneError` when the server has ended the session, and with `InvalidArgumentError` when
   * the model is not kept here.
   */
  async resumeTrainingClient(modelId: string, options: CallOptions = {}): Promise<TrainingClient> {
    const { signal: given } = choices(options, { signal });
    const args = { modelId: text(modelId, "modelId") };
    return this.#training(await this.#handle.call("resumeTrainingClient", args, given));
  }

  /** A sampler of a base model, or of the checkpoint that `saveWeightsForSampler` wrote. */
  async createSamplingClient(options: SamplingClientOptions): Promise<SamplingClient> {
    const { signal: given, ...source } = choices(options, { baseModel: text, modelPath: checkpoint, signal });
    if (Object.keys(source).length !== 1) {
      throw new InvalidArgumentError("baseModel", "createSamplingClient takes either baseModel or modelPath");
    }
    const made = await this.#handle.call("createSamplingClient", source, given);
    this.#learn(made);
    return new SamplingClient(this.#handle.link, made);
  }

  /**
   * Starts a training run, which outlives this page: it is written down before anything is sent. It works here until the page
   * goes, and then wherever it is opened.
   *
   * Rejects with `InvalidArgumentError` where an option can't be right, a datum included, before anything is written.
   */
  async startRun(options: RunOptions): Promise<TrainingRun> {
    const { TrainingRun } = await this.#runsCode("startRun");
    return this.#keep(await TrainingRun.start(this.#handle, options));
  }

  /**
   * Opens a run that is kept here, with the data or the step function that it was started with. It goes on in this page if no
   * other one has it, and is followed here otherwise. Without data or step it can be followed, read and commanded.
   *
   * Rejects with `DataMismatchError` when the data is not the same, and with `InvalidArgumentError` when there is no such run.
   */
  async openRun(id: string, options: OpenRunOptions = {}): Promise<TrainingRun> {
    const { TrainingRun } = await this.#runsCode("openRun");
    return this.#keep(await TrainingRun.reopen(this.#handle, id, options));
  }

  /** All runs of this server and account that are kept here, the newest first. */
  async runs(): Promise<RunSummary[]> {
    await this.#runsCode("runs");
    return (await this.#handle.call("runs", {})).runs;
  }

  /** Everything that runs for this service, as a tree, and what each part waits for. */
  async supervision(): Promise<SupervisionNode> {
    const tree = treeOf(await this.#handle.call("supervision", {}));
    if (!tree) throw new ClosedError("nothing runs any more for this service: make a new ServiceClient");
    return tree;
  }

  /**
   * Calls `listener` with the tree as it is, and again when something of it has changed, at most 10 times a second and with
   * the latest state. Gives the function that ends it; `close` ends it as well. While nobody listens, nothing is done for it.
   */
  on(event: "supervision", listener: SupervisionListener): () => void {
    if (event !== "supervision") refuse("event", event, '"supervision"');
    if (typeof listener !== "function") refuse("listener", listener, "a function");
    this.#handle.checkOpen("on");
    return this.#handle.link.watch("ServiceClient.on", listener);
  }

  /**
   * Ends all clients of this service. Calls that wait reject with `ClosedError`; those whose `outcome` is `journaled` go on
   * when somebody resumes the session, which is not ended.
   */
  async close(): Promise<void> {
    const runs = [...this.#runs].map((run) => run.close());
    await this.#handle.close();
    await Promise.all(runs);
  }

  /**
   * Ends the session at the server, and this service. Rejects with `PendingCallsError` when there are calls that are not
   * done, or whose end nobody has seen; then nothing is ended.
   */
  async finish(): Promise<void> {
    await this.#handle.call("finish", {});
    await this.close();
  }

  /** Closes this service, and deletes all that is kept of this server and account. The session ends by itself. */
  async forget(): Promise<void> {
    await this.close();
    await this.#handle.link.forget("ServiceClient.forget");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #fromState(path: string, optimizer: boolean, options: FromStateOptions): Promise<TrainingClient> {
    const { signal: given, ...rest } = choices(options, { userMetadata: metadata, signal });
    const args = { path: checkpoint(path, "path"), optimizer, ...rest };
    return this.#training(await this.#handle.call("createTrainingClientFromState", args, given));
  }

  #runsCode(method: string): ReturnType<typeof loadRuns> {
    this.#handle.checkOpen(method);
    return loadRuns(`ServiceClient.${method}`);
  }

  #keep(run: TrainingRun): TrainingRun {
    this.#runs.add(run);
    void run.ended.then(() => this.#runs.delete(run));
    return run;
  }

  #training(made: MadeTrainingClient): TrainingClient {
    this.#learn(made);
    return new TrainingClient(this.#handle.link, made);
  }

  #learn({ sessionId, exactlyOnce }: MadeTrainingClient | MadeSamplingClient): void {
    this.#sessionId = sessionId;
    this.#exactlyOnce = exactlyOnce ?? this.#exactlyOnce;
  }
}
