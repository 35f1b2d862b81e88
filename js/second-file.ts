// The package's second file of WebAssembly, as the owner has it: which methods are in there, and how it comes.

import type { SamplingMethods, ServiceMethods, TrainingMethods } from "./boundary.js";
import { isOnline } from "./page-life.js";

/** What a page may never ask for that makes clients, trains and samples. The first file has all other methods. */
const METHODS: ReadonlySet<string> = new Set<
  keyof ServiceMethods | keyof TrainingMethods | keyof SamplingMethods
>([
  "resumeTrainingClient",
  "resumeSamplingClient",
  "result",
  "createTrainingClientFromState",
  "finish",
  "loadState",
  "getInfo",
  "computeLogprobs",
  "spawn",
  "supervision",
  "startRun",
  "run",
  "runs",
  "readRun",
  "pauseRun",
  "resumeRun",
  "stopRun",
  "checkpointRun",
  "closeRun",
  "stepCall",
]);

/** Between two tries, in ms. */
const PAUSE = 2_000;

export class SecondFile {
  /** Once it has come. */
  here: WebAssembly.Module | undefined;
  readonly #load: () => Promise<WebAssembly.Module>;
  #coming: Promise<void> | undefined;

  constructor(load: () => Promise<WebAssembly.Module>) {
    this.#load = load;
  }

  has(method: string): boolean {
    return METHODS.has(method);
  }

  /**
   * Loads it, once; after a failure the next call tries again. A page that is offline waits, as all calls do then. Rejects with
   * `InitError` when so many tries have failed.
   */
  async bring(tries = 1): Promise<void> {
    for (let failed = 0; ;) {
      try {
        return await this.#once();
      } catch (reason) {
        if (isOnline() && ++failed === tries) throw reason;
      }
      await new Promise((resolve) => setTimeout(resolve, PAUSE));
    }
  }

  #once(): Promise<void> {
    this.#coming ??= this.#load().then(
      (module) => void (this.here = module),
      (reason: unknown) => {
        this.#coming = undefined;
        throw reason;
      },
    );
    return this.#coming;
  }
}
