// The public types, held against the boundary and against what users write. Compiled, never run.
import type {
  MadeSamplingClient,
  MadeTrainingClient,
  SamplingMethods,
  ServiceMethods,
  TrainingMethods,
  WireDatum,
  WireOptions,
  WirePending,
  WireSample,
  WireSampleOutput,
  WireTensor,
} from "../../js/boundary.js";
import type { RunMethods, StepResults, WireRunSpec } from "../../js/run-boundary.js";
import {
  type AdamParams,
  APIError,
  type CallOptions,
  type Datum,
  type FromStateOptions,
  init,
  InvalidArgumentError,
  type LoraOptions,
  type OrderedOptions,
  RateLimitError,
  type RunEnd,
  type RunEvent,
  type RunOptions,
  type SampledSequence,
  type SampleOptions,
  type SampleOutput,
  type SamplingClient,
  type SamplingClientOptions,
  type SamplingParams,
  type SaveOptions,
  type SaveStateOptions,
  ServiceClient,
  type ServiceOptions,
  type StepContext,
  type StepFunction,
  type SupervisionNode,
  type Tasks,
  type Tensor,
  TinkexError,
  type TopkLogprobs,
  type TrainingClient,
  type TrainingRun,
} from "../../js/index.js";

/** True for two types that are the same. */
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
type Args<M, K extends keyof M> = M[K] extends { args: infer A } ? A : never;
type Result<M, K extends keyof M> = M[K] extends { result: infer R } ? R : never;
/** The names that a user may choose; `signal` does not cross. */
type Names<T> = Exclude<keyof T, keyof CallOptions>;
type Ordered = Names<OrderedOptions>;

function hold<Holds extends true>(): Holds | void {}

// Every option has its place on the boundary, and nothing crosses that a user can't say.
hold<Same<Names<LoraOptions> | "baseModel", keyof Args<ServiceMethods, "createLoraTrainingClient">>>();
hold<
  Same<
    Names<FromStateOptions> | "path" | "optimizer",
    keyof Args<ServiceMethods, "createTrainingClientFromState">
  >
>();
hold<Same<Names<SamplingClientOptions>, keyof Args<ServiceMethods, "createSamplingClient">>>();
hold<Same<keyof AdamParams | Ordered, keyof Args<TrainingMethods, "optimStep">>>();
hold<Same<Names<SaveStateOptions> | "name", keyof Args<TrainingMethods, "saveState">>>();
hold<Same<Names<SaveOptions> | "name", keyof Args<TrainingMethods, "saveWeightsForSampler">>>();
hold<Same<Names<SampleOptions> | "prompt", keyof WireSample>>();
hold<Same<SamplingParams, WireSample["samplingParams"]>>();
hold<Same<keyof Datum, keyof WireDatum>>();
hold<
  Same<
    | Exclude<
        keyof ServiceOptions,
        "timeout" | "fetch" | "logger" | "dangerouslyAllowBrowser" | "store" | "account"
      >
    | "timeoutMs"
    | "owner",
    keyof WireOptions
  >
>();

// What comes back is what crossed, with typed arrays for its bytes.
hold<Same<keyof Tensor, keyof WireTensor>>();
hold<Same<keyof SampledSequence, keyof WireSampleOutput["sequences"][number]>>();
hold<Same<keyof SampleOutput, keyof WireSampleOutput>>();
hold<Same<keyof TopkLogprobs, keyof NonNullable<WireSampleOutput["topkPromptLogprobs"]>>>();
hold<
  Same<keyof Awaited<ReturnType<TrainingClient["forward"]>>, keyof Result<TrainingMethods, "forwardBackward">>
>();
type OfTheSession = "client" | "sessionId" | "exactlyOnce";
hold<Same<Exclude<keyof MadeTrainingClient, OfTheSession>, keyof TrainingClient & ("modelId" | "pending")>>();
hold<Same<Exclude<keyof MadeSamplingClient, OfTheSession>, keyof SamplingClient & "samplingSessionId">>();
hold<
  Same<
    NonNullable<WirePending["method"]> | "unknown",
    ReturnType<TrainingClient["pending"]>[number]["method"]
  >
>();

// Every method of the boundary is one that a user can call, but for those by which the owner makes a client again and the
// page asks for what came back, and those of a run, whose class has names of its own.
hold<
  Same<
    Exclude<keyof ServiceMethods, keyof ServiceClient | keyof Tasks | keyof RunMethods>,
    "resumeSamplingClient"
  >
>();
hold<Same<Exclude<keyof RunMethods, keyof ServiceClient>, OfAnOpenRun>>();
hold<Same<Exclude<keyof TrainingMethods, keyof TrainingClient>, "result">>();
hold<Same<Exclude<keyof SamplingMethods, keyof SamplingClient>, never>>();

type OfAnOpenRun =
  "run" | "readRun" | "pauseRun" | "resumeRun" | "stopRun" | "checkpointRun" | "closeRun" | "stepCall";

// What a run is started with has its place in what is written down of it, under this or another name.
hold<
  Same<
    Exclude<keyof RunOptions, keyof WireRunSpec>,
    "loss" | "step" | "learningRate" // `lossFn`, `version`, `schedule`
  >
>();
hold<Same<Exclude<keyof WireRunSpec, keyof RunOptions>, "kind" | "lossFn" | "buffer" | "schedule">>();
hold<
  Same<
    keyof StepResults | "random" | "now" | "once",
    Exclude<StepMethods, "saveWeightsAndGetSamplingClient"> | "sampler"
  >
>();
type StepMethods = Exclude<keyof StepContext, "step" | "runId" | "signal">;

/** What users write, and what their compiler tells them. */
export async function use(signal: AbortSignal): Promise<number> {
  await init();
  await init({ url: new URL("https://example.com/tinkex_bg.wasm"), deferred: { bytes: new Uint8Array() } });
  await using service = new ServiceClient({ apiKey: "tml-a", fetch, logger: console, tags: ["a"] });
  const training = await service.createLoraTrainingClient("model", { rank: 8, seed: 1, signal });
  const tokens = Int32Array.of(1, 2, 3);
  const data = [
    {
      modelInput: tokens.slice(0, -1),
      lossFnInputs: { targetTokens: tokens.slice(1), weights: [1, 1], mine: { data: [1], shape: [1] } },
    },
  ];
  const forward = training.forwardBackward(data, "cross_entropy", { lossFnConfig: { clip: 0.2 } });
  const { metrics } = await training.optimStep({ learningRate: 3e-3 });
  const output = await forward;
  const logprobs: Float32Array | BigInt64Array | undefined = output.lossFnOutputs[0]?.logprobs.data;
  const sampler = await training.saveWeightsAndGetSamplingClient();
  const resumed = await service.resumeTrainingClient(training.modelId);
  for (const { method, label, promise } of resumed.pending()) console.log(method, label, await promise);
  void resumed.optimStep({}, { label: { step: 12 } });
  const { sequences } = await sampler.sample([1, 2], {
    numSamples: 2,
    samplingParams: { maxTokens: 4, stop: ["\n"] },
  });
  const first: Int32Array | undefined = sequences[0]?.tokens;

  const sum: number = await service.tasks.spawn(async (signal) => (signal.aborted ? 0 : 1), { name: "sum" });
  const tree: SupervisionNode = await service.supervision();
  service.on("supervision", ({ children }) => children[0]?.waits?.ms)();

  const step: StepFunction = async (ctx, step) => {
    const { sequences } = await ctx.sample(tokens, { numSamples: 2 });
    const [{ metrics }] = await Promise.all([ctx.forwardBackward(data, "ppo"), ctx.optimStep()]);
    const seen = await ctx.once("score", () => sequences.length + ctx.random());
    return { step, seen, loss: metrics["loss:sum"] ?? null };
  };
  const run: TrainingRun = await service.startRun({
    baseModel: "model",
    data,
    learningRate: 1e-3,
    epochs: 2,
  });
  await service.startRun({
    baseModel: "model",
    step,
    steps: 3,
    learningRate: { type: "cosine", peak: 1e-3 },
  });
  await service.openRun(run.id, { data: { file: new Blob([]) } });
  for await (const event of run) {
    if (event.type === "step") console.log(event.loss?.toFixed(2), event.value);
    if (event.type === "sample") console.log(event.tokens.length, event.stopReason);
    // @ts-expect-error -- an evaluation has no path
    if (event.type === "evaluation") console.log(event.path);
  }
  run.on("checkpoint", ({ path }) => path.length)();
  run.on("status", ({ cause, role }) => console.log(role, cause?.kind, cause?.since, cause?.ends))();
  const { state }: RunEnd = await run.stop({ checkpoint: false });
  const history: RunEvent[] = await run.history({ after: Date.now() });

  // @ts-expect-error -- a run has a model
  void service.startRun({ data });
  // @ts-expect-error -- no such schedule
  void service.startRun({ baseModel: "model", data, learningRate: { type: "step", peak: 1 } });
  // @ts-expect-error -- the rate is the schedule's
  void service.startRun({ baseModel: "model", data, adam: { learningRate: 1 } });
  // @ts-expect-error -- what a step gives is what JSON can hold
  void service.startRun({ baseModel: "model", step: async () => () => 1 });
  // @ts-expect-error -- no such event
  run.on("loss", () => {});

  // @ts-expect-error -- a task has a name
  void service.tasks.spawn(async () => {}, {});
  // @ts-expect-error -- the only event
  service.on("change", () => {});
  // @ts-expect-error -- one word, two capitals
  new ServiceClient({ baseUrl: "http://localhost" });
  // @ts-expect-error -- snake_case is the wire's
  void training.optimStep({ learning_rate: 1 });
  // @ts-expect-error -- a label is what JSON can hold
  void training.optimStep({}, { label: () => 12 });
  // @ts-expect-error -- text is not tokens
  void sampler.sample("text");
  // @ts-expect-error -- no such loss
  void training.forward(data, "crossEntropy");
  // @ts-expect-error -- sampling parameters have a place of their own
  void sampler.sample([1], { maxTokens: 3 });
  // @ts-expect-error -- a datum has an input
  void training.forward([{ lossFnInputs: {} }], "cross_entropy");
  // @ts-expect-error -- the answer is read only
  training.modelId = "another";

  return (
    sum +
    history.length +
    state.length +
    tree.restarts +
    (first?.length ?? 0) +
    (logprobs?.length ?? 0) +
    (metrics["x"] ?? 0)
  );
}

export function tell(error: unknown): string {
  if (InvalidArgumentError.isInstance(error)) return error.field;
  if (RateLimitError.isInstance(error) || error instanceof APIError) return `${error.status}: ${error.body}`;
  if (TinkexError.isInstance(error)) return `${error.code} ${error.outcome} ${error.retryable}`;
  return "not ours";
}
