// What a person may set before a run, and within which bounds. Checked here once; past `readSettings` the numbers hold.

export const schedules = ["constant", "linear", "cosine"] as const;
export type ScheduleType = (typeof schedules)[number];

/** What a run starts with. All numbers are within their field's bounds. */
export interface Settings {
  /** Optimizer steps. */
  steps: number;
  /** Adam's learning rate, at its highest. */
  learningRate: number;
  /** How the rate goes on from its highest. */
  schedule: ScheduleType;
  /** Steps in which the rate rises to its highest. */
  warmupSteps: number;
  /** Sequences in one step. */
  batchSize: number;
  /** Tokens of one sequence at most. */
  sequenceLength: number;
  /** Rank of the LoRA update. */
  rank: number;
  /** Decides the initial weights, the order of the data and the samples. */
  seed: number;
  /** Steps from one look at held-out data to the next, from one checkpoint, and from one set of samples. */
  evaluateEvery: number;
  checkpointEvery: number;
  sampleEvery: number;
}

export type SettingName = Exclude<keyof Settings, "schedule">;

export interface Field {
  name: SettingName;
  label: string;
  /** One short line on what a change does. */
  hint: string;
  initial: string;
  min: number;
  max: number;
  whole: boolean;
}

const MOST_STEPS = 10_000;
const everySteps = { min: 1, max: MOST_STEPS, whole: true };

/** In the order in which the form shows them. The initial values reach their lowest held-out loss in well under a minute. */
export const trainingFields: readonly Field[] = [
  { name: "steps", label: "Steps", hint: "How long to train", initial: "300", ...everySteps },
  {
    name: "batchSize",
    label: "Batch size",
    hint: "Sequences a step",
    initial: "8",
    min: 1,
    max: 128,
    whole: true,
  },
  {
    name: "learningRate",
    label: "Learning rate",
    hint: "How far a step goes",
    initial: "0.003",
    min: 0.000_001,
    max: 0.1,
    whole: false,
  },
  {
    name: "warmupSteps",
    label: "Warm-up",
    hint: "Steps up to that rate",
    initial: "0",
    min: 0,
    max: MOST_STEPS,
    whole: true,
  },
  {
    name: "sequenceLength",
    label: "Sequence length",
    hint: "Tokens in each",
    initial: "64",
    min: 8,
    max: 4096,
    whole: true,
  },
  {
    name: "rank",
    label: "LoRA rank",
    hint: "Size of what is learnt",
    initial: "8",
    min: 1,
    max: 128,
    whole: true,
  },
  {
    name: "seed",
    label: "Seed",
    hint: "Repeats a run",
    initial: "1",
    min: 0,
    max: 2_147_483_647,
    whole: true,
  },
];

/** What is done along the way, every so many steps. */
export const cadenceFields: readonly Field[] = [
  { name: "evaluateEvery", label: "Evaluate", hint: "On held-out text", initial: "15", ...everySteps },
  { name: "sampleEvery", label: "Sample", hint: "From the prompts", initial: "100", ...everySteps },
  { name: "checkpointEvery", label: "Checkpoint", hint: "To go on from", initial: "50", ...everySteps },
];

const fields = [...trainingFields, ...cadenceFields];

/** What stands in the form: text in the boxes, whatever was typed. */
export type SettingTexts = Record<SettingName, string> & { schedule: ScheduleType };

export function initialTexts(): SettingTexts {
  const texts = Object.fromEntries(fields.map((field) => [field.name, field.initial]));
  return { ...(texts as Record<SettingName, string>), schedule: "constant" };
}

/** Either every number, or what is wrong with the boxes that have no valid one. */
export type Reading =
  { valid: true; settings: Settings } | { valid: false; problems: Partial<Record<SettingName, string>> };

/** `contextLength`: tokens that the chosen model reads at once, where the server says so. */
export function readSettings(texts: SettingTexts, contextLength?: number): Reading {
  const settings: Partial<Settings> = { schedule: texts.schedule };
  const problems: Partial<Record<SettingName, string>> = {};
  for (const field of fields) {
    const result = readNumber(field, texts[field.name]);
    if (typeof result === "string") problems[field.name] = result;
    else settings[field.name] = result;
  }
  if (contextLength !== undefined && (settings.sequenceLength ?? 0) > contextLength)
    problems.sequenceLength = `This model reads ${contextLength} tokens at most.`;
  if (settings.steps !== undefined && (settings.warmupSteps ?? 0) > settings.steps)
    problems.warmupSteps = `The run has ${settings.steps} steps: enter no more.`;
  return Object.keys(problems).length === 0
    ? { valid: true, settings: settings as Settings }
    : { valid: false, problems };
}

/** The number, or a sentence that says what to type instead. */
function readNumber(field: Field, text: string): number | string {
  const trimmed = text.trim();
  const bounds = `${plain(field.min)} to ${plain(field.max)}`;
  if (trimmed === "") return `Enter a number from ${bounds}.`;
  const value = Number(trimmed);
  if (!Number.isFinite(value)) return `“${trimmed}” is not a number. Enter one from ${bounds}.`;
  if (field.whole && !Number.isInteger(value)) return `Enter a whole number from ${bounds}.`;
  if (value < field.min || value > field.max) return `Enter a number from ${bounds}.`;
  return value;
}

/** Digits as one would type them: no grouping, no exponent. */
function plain(value: number): string {
  return value.toLocaleString("en", { useGrouping: false, maximumFractionDigits: 10 });
}

/** Settings to be shown, under the names that the form has. */
export function describeSettings(texts: SettingTexts): { label: string; value: string }[] {
  const line = ({ name, label }: Field) => ({ label, value: texts[name] });
  return [
    ...trainingFields.map(line),
    { label: "Schedule", value: texts.schedule },
    ...cadenceFields.map((field) => ({ label: field.label, value: `every ${texts[field.name]} steps` })),
  ];
}
