// From the choices of the form to a run, and back: what a run was made of stands in its metadata, so that any tab can open it
// again with the same data, and start another one like it.
import type { RunOptions } from "tinkex";
import { toDatum, type Prepared, type SamplePrompt, type SampleStyle } from "./data.ts";
import { dataSets, type DataSet } from "./datasets.ts";
import {
  initialTexts,
  readSettings,
  schedules,
  type Settings,
  type SettingName,
  type SettingTexts,
} from "./settings.ts";

/** Everything that decides a run. The same plan on the same server gives the same losses. */
export interface TrainingPlan {
  /** For people. */
  name: string;
  model: string;
  set: DataSet;
  texts: SettingTexts;
  settings: Settings;
  data: Prepared;
  prompts: SamplePrompt[];
  style: SampleStyle;
}

/** What a run of the console says of itself. */
export interface RunRecord {
  set: DataSet;
  texts: SettingTexts;
  settings: Settings;
}

export function runOptions(plan: TrainingPlan): RunOptions {
  const { settings, data, prompts, style } = plan;
  const { learningRate: peak, schedule: type, warmupSteps, seed } = settings;
  return {
    baseModel: plan.model,
    name: plan.name,
    rank: settings.rank,
    loraSeed: seed,
    seed,
    data: data.train.map(toDatum),
    batchSize: settings.batchSize,
    steps: settings.steps,
    learningRate: { type, peak, warmupSteps },
    evaluation: { data: data.heldOut.map(toDatum), every: settings.evaluateEvery },
    samples: {
      prompts: prompts.map(({ tokens }) => tokens),
      every: settings.sampleEvery,
      samplingParams: { ...style, seed },
    },
    checkpoints: { everySteps: settings.checkpointEvery },
    userMetadata: { dataSet: plan.set.id, ...plan.texts },
  };
}

/** Null for a run that the console did not start. */
export function recordOf(metadata: Readonly<Record<string, string>> | undefined): RunRecord | null {
  const set = dataSets.find(({ id }) => id === metadata?.["dataSet"]);
  const schedule = schedules.find((each) => each === metadata?.["schedule"]);
  if (!set || !schedule || !metadata) return null;
  const names = Object.keys(initialTexts()) as SettingName[];
  const numbers = Object.fromEntries(names.map((name) => [name, metadata[name] ?? ""]));
  const texts = { ...(numbers as Record<SettingName, string>), schedule };
  const reading = readSettings(texts);
  return reading.valid ? { set, texts, settings: reading.settings } : null;
}
