// The choices before a run: what they are now, what is wrong with them, and the plan that they add up to.
import { advise, type Advice } from "./advice.ts";
import type { Connected, Model } from "./connection.svelte.ts";
import { glimpse, prepare, tokensOf, type Corpus, type Prepared, type Stretch } from "./data.ts";
import { dataSets, type DataSet } from "./datasets.ts";
import { count, counted } from "./format.ts";
import {
  initialTexts,
  readSettings,
  type SettingName,
  type Settings,
  type SettingTexts,
} from "./settings.ts";
import type { RunRecord, TrainingPlan } from "./plan.ts";

type Loading =
  | { kind: "loading" }
  | { kind: "ready"; corpus: Corpus; glimpse: Stretch[] }
  | { kind: "failed"; advice: Advice };

export class Setup {
  /** As typed; read through `problems` and `plan`. */
  texts = $state(initialTexts());
  /** Of the run. Empty: it is called as its data set is. */
  name = $state("");
  set = $state.raw<DataSet>(dataSets[0]);
  #modelName = $state<string | null>(null);
  #connected = $state.raw<Connected | null>(null);
  #loading = $state.raw<Loading>({ kind: "loading" });

  readonly model: Model | null = $derived.by(() => {
    const models = this.#connected?.models;
    return models?.find(({ name }) => name === this.#modelName) ?? models?.[0] ?? null;
  });

  readonly #reading = $derived(readSettings(this.texts, this.model?.contextLength));

  readonly #prepared: Prepared | null = $derived(
    this.#loading.kind === "ready" && this.#reading.valid
      ? prepare(this.#loading.corpus, this.#reading.settings.sequenceLength)
      : null,
  );

  /** What stands in the way of a start, by the field to change. */
  readonly problems: Partial<Record<SettingName, string>> = $derived.by(() => {
    if (!this.#reading.valid) return this.#reading.problems;
    return this.#prepared ? dataProblems(this.#prepared, this.#reading.settings) : {};
  });

  /** Null while something is missing or wrong. */
  readonly plan: TrainingPlan | null = $derived.by(() => {
    if (!this.model || this.#loading.kind !== "ready" || !this.#reading.valid || !this.#prepared) return null;
    if (Object.keys(this.problems).length > 0) return null;
    return {
      name: this.name.trim() || this.set.name,
      model: this.model.name,
      set: this.set,
      texts: { ...this.texts },
      settings: this.#reading.settings,
      data: this.#prepared,
      prompts: this.#loading.corpus.prompts,
      style: this.#loading.corpus.style,
    };
  });

  /** What the run would be, in figures. */
  readonly summary: string | null = $derived(this.plan ? summarise(this.plan) : null);

  get modelName(): string {
    return this.model?.name ?? "";
  }

  set modelName(name: string) {
    this.#modelName = name;
  }

  /** The first example, or null while it is being read. */
  get glimpse(): Stretch[] | null {
    return this.#loading.kind === "ready" ? this.#loading.glimpse : null;
  }

  /** Why the data set can't be used, or null. */
  get dataAdvice(): Advice | null {
    return this.#loading.kind === "failed" ? this.#loading.advice : null;
  }

  get changed(): boolean {
    const initial = initialTexts();
    return (Object.keys(initial) as (keyof SettingTexts)[]).some(
      (name) => this.texts[name] !== initial[name],
    );
  }

  reset(): void {
    this.texts = initialTexts();
  }

  /** Puts in the form what another run was made of. */
  fill({ set, texts }: RunRecord, model: string): void {
    this.set = set;
    this.texts = { ...texts };
    this.modelName = model;
  }

  /** Reads the chosen data set with the server's tokenizer. */
  async use(connected: Connected, set: DataSet): Promise<void> {
    this.#connected = connected;
    this.#loading = { kind: "loading" };
    const loaded = await load(connected, set);
    if (this.set === set && this.#connected === connected) this.#loading = loaded;
  }
}

async function load({ corpora, codec }: Connected, set: DataSet): Promise<Loading> {
  try {
    const corpus = await corpora.get(set);
    return { kind: "ready", corpus, glimpse: glimpse(corpus, codec) };
  } catch (error) {
    return { kind: "failed", advice: advise(error, location.origin) };
  }
}

function dataProblems(data: Prepared, settings: Settings): Partial<Record<SettingName, string>> {
  if (data.train.length === 0 || data.heldOut.length === 0)
    return data.leftOut > 0
      ? { sequenceLength: `Too few examples fit. The longest has ${count(data.longest)} tokens.` }
      : { sequenceLength: "The data set is too short for sequences of this length." };
  if (settings.batchSize > data.train.length)
    return { batchSize: `There are ${counted(data.train.length, "sequence")} to train on: use no more.` };
  return {};
}

function summarise({ settings, data }: TrainingPlan): string {
  const sequences = settings.steps * settings.batchSize;
  const tokens = (tokensOf(data.train) / data.train.length) * sequences;
  const passes = sequences / data.train.length;
  const parts = [
    `${counted(data.train.length, "sequence")}, ${count(data.heldOut.length)} held out`,
    `${count(tokens)} tokens, ${passes.toFixed(1)} passes over the data`,
  ];
  if (data.leftOut > 0) parts.push(`${counted(data.leftOut, "example")} left out as too long`);
  return parts.join(" · ");
}
