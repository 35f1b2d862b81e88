// What a run is started with: checked, completed, and flat as it is written down. What a page gives a run beyond that is
// functions and data, and those stay here.

import {
  boolean,
  type Check,
  checkpoint,
  choices,
  integer,
  isRecord,
  metadata,
  number,
  numbersOrTexts,
  refuse,
  text,
} from "./checks.js";
import { wireData, wirePrompt } from "./data.js";
import { InvalidArgumentError } from "./errors.js";
import { fingerprintOf } from "./fingerprint.js";
import type { WireDatum } from "./boundary.js";
import type { WireRunData, WireRunSpec, WireSchedule } from "./run-boundary.js";
import { dataLike, type Source, sourceOf } from "./run-data.js";
import type {
  CheckpointOptions,
  OpenRunOptions,
  RecoveryOptions,
  RunOptions,
  Schedule,
  StepFunction,
} from "./run-types.js";
import { samplingParams } from "./sampling.js";
import { ADAM, ADAM_CHECKS, ttlSeconds } from "./training.js";

const MOST = 2 ** 32 - 1;
const DEFAULT_RATE = 1e-4;
const DEFAULT_BATCH = 8;
const DEFAULT_BUFFER = 1_024; // datums
const MS_PER_MINUTE = 60_000;
/** What a timer can hold: 24 days. */
const LONGEST_TIMEOUT = 2 ** 31 - 1; // ms
/** It is written down with the run. */
const LARGEST_EVALUATION = 16 * 2 ** 20; // bytes

/** What a page has for a run: from its options, and looked at only when the run asks. */
export interface Means {
  source?: Source;
  /** As the run is told of it. */
  data?: WireRunData;
  lossFn?: string;
  step?: StepFunction;
  version?: string;
}

/** The rate is the schedule's. */
const ADAM_BUT_RATE = without(ADAM_CHECKS);
const ADAM_DEFAULTS = without(ADAM);

const count = integer(1, MOST);
const pass: Check<unknown> = (value) => value;

const stepLike: Check<StepFunction> = (value, field) =>
  typeof value === "function"
    ? (value as StepFunction)
    : refuse(field, value, "a function of a context and the step's number");

/** The options of one loop have no meaning in the other. */
const OF_DATA = ["loss", "lossFnConfig", "batchSize", "shuffle", "epochs"] as const;
const OF_STEPS = ["version", "stepTimeoutMs"] as const;

/** Reads all data once, for its fingerprint. Throws `InvalidArgumentError`, whose `field` is the option that can't be right. */
export async function specOf(options: RunOptions): Promise<{ spec: WireRunSpec; means: Means }> {
  const given = choices(options, {
    baseModel: text,
    name: text,
    rank: count,
    loraSeed: integer(Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER),
    trainMlp: boolean,
    trainAttn: boolean,
    trainUnembed: boolean,
    userMetadata: metadata,
    data: dataLike,
    loss: text,
    lossFnConfig: numbersOrTexts,
    batchSize: count,
    shuffle: shuffling,
    step: stepLike,
    version: text,
    stepTimeoutMs: integer(1, LONGEST_TIMEOUT),
    steps: count,
    epochs: count,
    seed: integer(0, Number.MAX_SAFE_INTEGER),
    learningRate: scheduleLike,
    adam: (value, field) => choices(value as NonNullable<RunOptions["adam"]>, ADAM_BUT_RATE, field),
    pipeline: count,
    evaluation,
    checkpoints,
    samples,
    recovery,
  });
  const { baseModel = refuse("baseModel", undefined, "the name of a model"), name } = given;
  const { rank = 32, loraSeed, trainMlp = true, trainAttn = true, trainUnembed = true } = given;
  if (!trainMlp && !trainAttn && !trainUnembed) {
    throw new InvalidArgumentError(
      "trainMlp",
      "trainMlp, trainAttn and trainUnembed are all false: at least one must be true, or nothing is trained",
    );
  }
  const kind = kindOf(given);
  const { epochs, steps, shuffle = { shuffle: true, buffer: DEFAULT_BUFFER } } = given;
  const means: Means = given.step
    ? { step: given.step, version: given.version ?? versionOf(given.step) }
    : { lossFn: given.loss ?? "cross_entropy" };
  if (given.data) {
    means.source = sourceOf(given.data);
    means.data = await means.source.describe();
  }
  const batchSize = batchOf(means.data, given.batchSize);
  const schedule = given.learningRate ?? { ...FLAT, peak: DEFAULT_RATE };
  const planned = plannedSteps(means.data, { steps, epochs, batchSize });
  checkSchedule(schedule, planned);
  if (given.recovery?.from === "best" && !given.evaluation) {
    throw new InvalidArgumentError(
      "recovery.from",
      'recovery.from is "best" and there is no evaluation to tell which that is: add `evaluation`, or take "latest"',
    );
  }
  const spec: WireRunSpec = {
    ...defined({ name, loraSeed, userMetadata: given.userMetadata, lossFnConfig: given.lossFnConfig }),
    ...defined({ data: means.data, lossFn: means.lossFn, version: means.version }),
    ...defined({ steps, epochs: epochsOf(kind, steps, epochs) }),
    baseModel,
    rank,
    trainMlp,
    trainAttn,
    trainUnembed,
    kind,
    batchSize,
    ...shuffle,
    stepTimeoutMs: given.stepTimeoutMs ?? 600_000,
    seed: given.seed ?? (crypto.getRandomValues(new Uint32Array(1))[0] as number),
    schedule,
    adam: { ...ADAM_DEFAULTS, ...given.adam },
    ...defined({ pipeline: given.pipeline, evaluation: given.evaluation, samples: given.samples }),
    checkpoints: given.checkpoints ?? checkpoints({}, "checkpoints"),
    recovery: given.recovery ?? recovery({}, "recovery"),
  };
  return { spec, means };
}

/** The same of a page that opens a run that there is. */
export async function meansOf(options: OpenRunOptions): Promise<Means> {
  const { data, loss, step, version } = choices(options, {
    data: dataLike,
    loss: text,
    step: stepLike,
    version: text,
  });
  if (data && step) bothLoops();
  if (version !== undefined && !step) refuseWithout("version", "step");
  const source = data && sourceOf(data);
  return {
    ...defined({ lossFn: loss, step, source, data: await source?.describe() }),
    ...(step && { version: version ?? versionOf(step) }),
  };
}

function kindOf(given: { data?: unknown; step?: unknown; steps?: unknown }): "data" | "steps" {
  if (given.data !== undefined && given.step !== undefined) bothLoops();
  if (given.data === undefined && given.step === undefined) {
    throw new InvalidArgumentError("data", "a run takes data, or a step function: give one of the two");
  }
  const kind = given.step === undefined ? "data" : "steps";
  for (const field of kind === "data" ? OF_STEPS : OF_DATA) {
    if (field in given) refuseWithout(field, kind === "data" ? "step" : "data");
  }
  if (kind === "steps" && given.steps === undefined) {
    throw new InvalidArgumentError(
      "steps",
      "a step function doesn't say how often it is to be called: give `steps`",
    );
  }
  return kind;
}

function bothLoops(): never {
  throw new InvalidArgumentError(
    "step",
    "data and step are both given: a run is a loop over data or one of a step function, which reads data by itself",
  );
}

function refuseWithout(field: string, other: string): never {
  throw new InvalidArgumentError(
    field,
    `${field} belongs to a run with \`${other}\`: leave it out, or give that`,
  );
}

/** The text is all that there is to see of a function, and a change in what it calls goes unseen. */
function versionOf(step: StepFunction): string {
  return fingerprintOf(step.toString());
}

/** Its size, in datums. */
function batchOf(data: WireRunData | undefined, asked: number | undefined): number {
  const { length } = data?.kind === "indexed" ? data : { length: Infinity };
  if (!length) throw new InvalidArgumentError("data", "data is empty: a run takes at least one datum");
  if (asked !== undefined && asked > length) {
    const most = `data has ${length} datums: it takes ${length} at most`;
    throw new InvalidArgumentError("batchSize", `batchSize is ${asked} and ${most}`);
  }
  return asked ?? Math.min(DEFAULT_BATCH, length);
}

/** Where both are given, the first that is reached ends the run. Data that has no end known has no epochs of its own. */
function epochsOf(kind: "data" | "steps", steps?: number, epochs?: number): number | undefined {
  return epochs ?? (kind === "data" && steps === undefined ? 1 : undefined);
}

/** As far as it is known before the data was read. */
function plannedSteps(
  data: WireRunData | undefined,
  {
    steps,
    epochs,
    batchSize,
  }: { steps?: number | undefined; epochs?: number | undefined; batchSize: number },
): number | undefined {
  if (data?.kind !== "indexed" || (steps !== undefined && epochs === undefined)) return steps;
  return Math.min(steps ?? Infinity, Math.ceil(data.length / batchSize) * (epochs ?? 1));
}

function checkSchedule(schedule: WireSchedule, planned: number | undefined): void {
  const { type, steps, points, warmupSteps } = schedule;
  if (type === "constant") return;
  const [field, end] =
    type === "points" ? ["learningRate.points", points?.at(-2)] : ["learningRate.steps", steps ?? planned];
  if (planned === undefined) {
    if (type === "points" || steps !== undefined) return;
    throw new InvalidArgumentError(
      "steps",
      `a ${type} learning rate needs the run's steps, as an iterable does not say how long it is: give \`steps\``,
    );
  }
  if (end !== undefined && end < planned) {
    throw new InvalidArgumentError(
      field,
      `${field} ends at step ${end} and the run has ${planned}: a schedule lasts as long as its run`,
    );
  }
  if (warmupSteps > planned) {
    throw new InvalidArgumentError(
      "learningRate.warmupSteps",
      `learningRate.warmupSteps is ${warmupSteps} and the run has ${planned} steps: it takes no more than those`,
    );
  }
}

const FLAT: WireSchedule = { type: "constant", peak: 0, warmupSteps: 0, floor: 0 };

const scheduleLike: Check<WireSchedule> = (value, field) => {
  const rate = number(0);
  if (!isRecord(value)) return { ...FLAT, peak: rate(value, field) };
  if (value["type"] === "points") {
    const { points } = choices(value as Schedule & { type: "points" }, { type: pass, points: pass }, field);
    return { ...FLAT, type: "points", ...pointsOf(points, `${field}.points`) };
  }
  const { type, peak, ...rest } = choices(
    value as Schedule & { type: "constant" },
    {
      type: (type, at) =>
        type === "constant" || type === "linear" || type === "cosine"
          ? type
          : refuse(at, type, '"constant", "linear", "cosine" or "points"'),
      peak: rate,
      warmupSteps: integer(0, MOST),
      floor: rate,
      steps: count,
    },
    field,
  );
  if (type === undefined) refuse(`${field}.type`, type, '"constant", "linear", "cosine" or "points"');
  if (peak === undefined) refuse(`${field}.peak`, peak, "the highest rate, a number");
  if ((rest.floor ?? 0) > peak) refuse(`${field}.floor`, rest.floor, `no more than the peak, ${peak}`);
  return { ...FLAT, type, peak, ...rest };
};

function pointsOf(points: unknown, field: string): { points: number[]; peak: number } {
  if (!Array.isArray(points) || !points.length) refuse(field, points, "an array of [step, rate]");
  const flat: number[] = [];
  let last = -1;
  let peak = 0;
  points.forEach((point: unknown, i) => {
    const at = `${field}[${i}]`;
    if (!Array.isArray(point) || point.length !== 2) refuse(at, point, "[step, rate]");
    const step = integer(last + 1, MOST)(point[0], `${at}[0]`);
    const rate = number(0)(point[1], `${at}[1]`);
    flat.push(step, rate);
    last = step;
    peak = Math.max(peak, rate);
  });
  return { points: flat, peak };
}

const shuffling: Check<{ shuffle: boolean; buffer: number }> = (value, field) => {
  if (!isRecord(value)) return { shuffle: boolean(value, field), buffer: DEFAULT_BUFFER };
  const { buffer = DEFAULT_BUFFER } = choices(value as { buffer: number }, { buffer: count }, field);
  return { shuffle: true, buffer };
};

const evaluation: Check<{ data: WireDatum[]; every: number }> = (value, field) => {
  const { data, every } = choices(
    value as NonNullable<RunOptions["evaluation"]>,
    { data: (value, at) => wireData(value, at), every: count },
    field,
  );
  if (!data) refuse(`${field}.data`, data, "an array of datums");
  if (!every) refuse(`${field}.every`, every, "the number of steps from one to the next");
  const bytes = data.reduce((sum, datum) => sum + bytesOf(datum), 0);
  if (bytes > LARGEST_EVALUATION) {
    throw new InvalidArgumentError(
      `${field}.data`,
      `${field}.data has ${Math.ceil(bytes / 2 ** 20)} MB, and it is kept with the run: it takes ${LARGEST_EVALUATION / 2 ** 20} MB`,
    );
  }
  return { data, every };
};

function bytesOf({ modelInput, lossFnInputs }: WireDatum): number {
  const inputs = Object.values(lossFnInputs).reduce((sum, { data }) => sum + data.length, 0);
  return modelInput.reduce((sum, { tokens }) => sum + tokens.length, inputs);
}

const checkpoints: Check<WireRunSpec["checkpoints"]> = (value, field) => {
  const {
    everyMinutes,
    onHide = true,
    ...rest
  } = choices(
    value as CheckpointOptions,
    { everySteps: count, everyMinutes: number(0), onHide: boolean, ttlSeconds },
    field,
  );
  if (everyMinutes === 0) refuse(`${field}.everyMinutes`, 0, "a number above 0");
  return { ...rest, everyMs: (everyMinutes ?? 10) * MS_PER_MINUTE, onHide };
};

const samples: Check<NonNullable<WireRunSpec["samples"]>> = (value, field) => {
  const { prompts, every, ...rest } = choices(
    value as NonNullable<RunOptions["samples"]>,
    {
      prompts: (value, at) =>
        Array.isArray(value) && value.length
          ? value.map((prompt, i) => ({ chunks: wirePrompt(prompt, `${at}[${i}]`) }))
          : refuse(at, value, "an array of at least one prompt"),
      every: count,
      numSamples: count,
      samplingParams,
    },
    field,
  );
  if (!prompts) refuse(`${field}.prompts`, prompts, "an array of at least one prompt");
  if (!every) refuse(`${field}.every`, every, "the number of steps from one to the next");
  return { prompts, every, numSamples: 1, samplingParams: {}, ...rest };
};

const recovery: Check<WireRunSpec["recovery"]> = (value, field) => ({
  from: "latest",
  attempts: 3,
  backoffMs: 1_000,
  ask: false,
  ...choices(
    value as RecoveryOptions,
    {
      from: (from, at) => (from === "latest" || from === "best" ? from : checkpoint(from, at)),
      attempts: count,
      backoffMs: integer(0, LONGEST_TIMEOUT),
      ask: boolean,
    },
    field,
  ),
});

function without<T extends { learningRate: unknown }>(adam: T): Omit<T, "learningRate"> {
  const others: Partial<T> = { ...adam };
  delete others.learningRate;
  return others as Omit<T, "learningRate">;
}

/** Without the names that have no value: those are left out on the boundary. */
function defined<T extends object>(value: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(value).filter(([, each]) => each !== undefined)) as never;
}
