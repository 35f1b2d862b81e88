// What has happened in a run, folded from its events. An event that comes twice changes nothing the second time, so what is kept
// and what comes live may overlap. Plain data: whoever shows it says when to look again.
import type { RunEvent } from "tinkex";
import { Curve } from "./curve.ts";
import { Pace } from "./pace.ts";

export interface Checkpoint {
  step: number;
  incarnation: number;
  path: string;
  reason: (RunEvent & { type: "checkpoint" })["reason"];
  /** Milliseconds since 1970. */
  at: number;
}

/** What the prompts were gone on with behind a step, by the place of the prompt. */
export interface SampleSet {
  step: number;
  texts: (string | undefined)[];
}

export class History {
  readonly curve = new Curve();
  readonly pace = new Pace();
  readonly #decode: (tokens: Iterable<number>) => string;
  readonly #checkpoints = new Map<string, Checkpoint>();
  readonly #samples = new Map<number, SampleSet>();
  /** Milliseconds of each step, those that were lost included. */
  readonly #times = new Map<string, number>();
  #tokens = 0;

  constructor(decode: (tokens: Iterable<number>) => string) {
    this.#decode = decode;
  }

  /** In the order in which they were written. */
  get checkpoints(): Checkpoint[] {
    return [...this.#checkpoints.values()];
  }

  /** By their steps. */
  get samples(): SampleSet[] {
    return [...this.#samples.values()].sort((one, other) => one.step - other.step);
  }

  /** Seconds that were trained, pauses left out. */
  get trained(): number {
    return [...this.#times.values()].reduce((sum, ms) => sum + ms, 0) / 1_000;
  }

  /** Tokens per second over all of that time; null before the first step. */
  get averagePace(): number | null {
    return this.trained > 0 ? this.#tokens / this.trained : null;
  }

  take(event: RunEvent): void {
    const { at, step, incarnation } = event;
    switch (event.type) {
      case "step": {
        const key = `${incarnation} ${step}`;
        if (!this.#times.has(key)) {
          this.#tokens += event.tokens;
          this.pace.mark(at, event.tokens);
        }
        this.#times.set(key, event.ms);
        this.curve.addStep(step, event.loss ?? null);
        break;
      }
      case "evaluation":
        this.curve.addHeldOut(step, event.loss);
        break;
      case "checkpoint": {
        const { path, reason } = event;
        this.#checkpoints.set(path, { step, incarnation, path, reason, at });
        break;
      }
      case "sample": {
        const texts = [...(this.#samples.get(step)?.texts ?? [])];
        texts[event.prompt] = this.#decode(event.tokens);
        this.#samples.set(step, { step, texts });
        break;
      }
      case "incarnation": {
        const { from: reached, reason, path } = event;
        this.curve.addSeam({ step, incarnation, at, reached, reason, fromCheckpoint: path !== undefined });
        for (const lost of this.#samples.keys()) if (lost > step) this.#samples.delete(lost);
        break;
      }
    }
  }
}
