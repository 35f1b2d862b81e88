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

/** Between two tries, in ms, where nothing goes on without it. */
const PAUSE = 2_000;
/** So many fail before it is given up; those of a page that is offline don't count. */
const MOST_TRIES = 5;

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

  /** Loads it, once; after a failure the next call tries again. Rejects with `InitError`. */
  bring(): Promise<void> {
    this.#coming ??= this.#load().then(
      (module) => void (this.here = module),
      (reason: unknown) => {
        this.#coming = undefined;
        throw reason;
      },
    );
    return this.#coming;
  }

  /** The same for those who can't go on without it: it is not given up at once. */
  async insist(): Promise<void> {
    for (let failed = 0; ;) {
      try {
        return await this.bring();
      } catch (reason) {
        if (isOnline() && ++failed === MOST_TRIES) throw reason;
      }
      await new Promise((resolve) => setTimeout(resolve, PAUSE));
    }
  }
}
