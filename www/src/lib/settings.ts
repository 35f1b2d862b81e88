// What a person may set before a run, and within which bounds. Checked here once; past `readSettings` the numbers hold.

/** Numbers that a run starts with. All are within their field's bounds. */
export interface Settings {
  /** Optimizer steps. */
  steps: number;
  /** Adam's learning rate. */
  learningRate: number;
  /** Sequences in one step. */
  batchSize: number;
  /** Tokens of one sequence at most. */
  sequenceLength: number;
  /** Rank of the LoRA update. */
  rank: number;
  /** Decides the initial weights, the order of the data and the samples. */
  seed: number;
}

export type SettingName = keyof Settings;

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

/** In the order in which the form shows them. The initial values reach their lowest held-out loss in well under a minute. */
export const fields: readonly Field[] = [
  {
    name: "steps",
    label: "Steps",
    hint: "How long to train",
    initial: "300",
    min: 1,
    max: 10_000,
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
    name: "batchSize",
    label: "Batch size",
    hint: "Sequences a step",
    initial: "8",
    min: 1,
    max: 128,
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

/** What stands in the form's boxes: text, whatever was typed. */
export type SettingTexts = Record<SettingName, string>;

export function initialTexts(): SettingTexts {
  return Object.fromEntries(fields.map((field) => [field.name, field.initial])) as SettingTexts;
}

/** Either every number, or what is wrong with the boxes that have no valid one. */
export type Reading =
  { valid: true; settings: Settings } | { valid: false; problems: Partial<Record<SettingName, string>> };

/** `contextLength`: tokens that the chosen model reads at once, where the server says so. */
export function readSettings(texts: SettingTexts, contextLength?: number): Reading {
  const settings: Partial<Settings> = {};
  const problems: Partial<Record<SettingName, string>> = {};
  for (const field of fields) {
    const result = readNumber(field, texts[field.name]);
    if (typeof result === "string") problems[field.name] = result;
    else settings[field.name] = result;
  }
  if (contextLength !== undefined && (settings.sequenceLength ?? 0) > contextLength)
    problems.sequenceLength = `This model reads ${contextLength} tokens at most.`;
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
