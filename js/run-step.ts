// A step function's calls. Each has its place in the order in which they were made; those that are recorded give what they
// gave then, and the others go to the run, which writes them down. An attempt that is over lets nothing through any more.

import { choices, label, refuse, text } from "./checks.js";
import { ClosedError, StepMismatchError, TinkexError } from "./errors.js";
import { forwardOutput, sampleOutput } from "./results.js";
import type { Answer, StepResults, ToRun, WireStepCall, WireStepEntry } from "./run-boundary.js";
import type { StepContext, StepForwardOptions, StepFunction, StepSampleOptions } from "./run-types.js";
import { sampleArgs } from "./sampling.js";
import { ADAM_CHECKS, forwardArgs } from "./training.js";
import type { AdamParams, Datum, Label, LossFn, Prompt, SavedCheckpoint } from "./types.js";

export interface StepDescription {
  runId: string;
  step: number;
  attempt: number;
  /** What was recorded of the step, in the order of its calls. */
  entries: readonly WireStepEntry[];
}

/** The way to the run. */
export interface StepWays {
  call(args: Omit<WireStepCall, "id">): Promise<unknown>;
  note(message: ToRun & { type: "note" }): void;
}

/** One attempt at a step. */
export class StepAttempt {
  readonly attempt: number;
  readonly #described: StepDescription;
  readonly #ways: StepWays;
  readonly #stop = new AbortController();
  /** Every call that isn't settled, and how to reject it when the attempt is over. */
  readonly #open = new Map<Promise<unknown>, (reason: unknown) => void>();
  #calls = 0;
  #over: Error | undefined;
  /** The function may catch it, and go on as if nothing was. */
  #mismatch: StepMismatchError | undefined;

  constructor(described: StepDescription, ways: StepWays) {
    this.attempt = described.attempt;
    this.#described = described;
    this.#ways = ways;
  }

  /** Calls the function and resolves with how it ended, when its calls have ended as well. Undefined: nobody asks any more. */
  async run(step: StepFunction): Promise<Answer | undefined> {
    let answer: Answer;
    try {
      // Later than this call: the function is the user's, and may throw or take its time.
      await Promise.resolve();
      const value = await step(this.#context(), this.#described.step);
      while (this.#open.size) await Promise.allSettled(this.#open.keys());
      answer = value === undefined ? {} : { value: label(value, "the step function's value") };
    } catch (thrown) {
      answer = { failure: wordsOf(thrown) };
      if (TinkexError.isInstance(thrown) && thrown.code === StepMismatchError.code) {
        this.#mismatch ??= thrown;
      }
    }
    if (this.#over) return undefined;
    this.end(
      new ClosedError(`step ${this.#described.step} is over: a call of its context came after its end`),
    );
    return this.#mismatch ? { failure: this.#mismatch.message, kind: "step_mismatch" } : answer;
  }

  /** Nothing goes through any more. The first reason counts. */
  end(reason: Error): void {
    if (this.#over) return;
    this.#over = reason;
    this.#stop.abort(reason);
    for (const reject of this.#open.values()) reject(reason);
    this.#open.clear();
  }

  #context(): StepContext {
    const { runId, step } = this.#described;
    const save = (method: "saveState" | "saveWeightsForSampler", name?: string) =>
      this.#call(method, () => (name === undefined ? {} : { name: text(name, "name") }), checkpointOf);
    const sample = (prompt: Prompt, options: StepSampleOptions, sampler?: string) =>
      this.#call("sample", () => ({ ...sampleArgs(prompt, options).args, sampler }), sampleOutput);
    return {
      runId,
      step,
      signal: this.#stop.signal,
      forward: (data, lossFn, options = {}) => this.#forward("forward", data, lossFn, options),
      forwardBackward: (data, lossFn, options = {}) =>
        this.#forward("forwardBackward", data, lossFn, options),
      optimStep: (params: AdamParams = {}) =>
        this.#call(
          "optimStep",
          () => choices(params, ADAM_CHECKS),
          (output) => output,
        ),
      saveState: (name) => save("saveState", name),
      saveWeightsForSampler: (name) => save("saveWeightsForSampler", name),
      saveWeightsAndGetSamplingClient: () =>
        this.#call(
          "sampler",
          () => ({}),
          ({ sampler }) => ({ sample: (prompt, options = {}) => sample(prompt, options, sampler) }),
        ),
      sample: (prompt, options = {}) => sample(prompt, options),
      random: () => this.#drawn("random", Math.random) as number,
      now: () => this.#drawn("now", Date.now) as number,
      once: (name, fn) => this.#once(name, fn),
    };
  }

  #forward(
    method: "forward" | "forwardBackward",
    data: readonly Datum[],
    lossFn: LossFn,
    options: StepForwardOptions,
  ) {
    return this.#call(method, () => forwardArgs(data, lossFn, options).args, forwardOutput);
  }

  /** Whatever fails comes by the promise, as of the clients' methods. A call whose arguments can't be right has no place. */
  #call<K extends keyof StepResults, T>(
    method: K,
    args: () => object,
    result: (value: StepResults[K]) => T,
  ): Promise<T> {
    return this.#tracked(() => {
      this.#checkOpen();
      const checked = args();
      const index = this.#next(method);
      return this.#ways.call({ attempt: this.attempt, index, method, args: checked }).then(
        (value) => result(value as StepResults[K]),
        (thrown: unknown) => this.#failed(thrown),
      );
    });
  }

  #drawn(method: "random" | "now", draw: () => number): Label {
    this.#checkOpen();
    const known = this.#recorded(method);
    if (known.value !== undefined) return JSON.parse(known.value) as Label;
    const drawn = draw();
    this.#note(known.index, method, JSON.stringify(drawn));
    return drawn;
  }

  #once<T extends Label>(name: string, fn: () => T | Promise<T>): Promise<T> {
    return this.#tracked(async () => {
      this.#checkOpen();
      if (typeof fn !== "function") refuse("fn", fn, "a function");
      const known = this.#recorded("once", text(name, "name"));
      if (known.value !== undefined) return JSON.parse(known.value) as T;
      const value = await fn();
      this.#checkOpen();
      const json = label(value, `once(${JSON.stringify(name)})`);
      this.#note(known.index, "once", json, name);
      // As it will be given back.
      return JSON.parse(json) as T;
    });
  }

  #note(index: number, method: "random" | "now" | "once", value: string, name?: string): void {
    this.#ways.note({
      type: "note",
      attempt: this.attempt,
      index,
      method,
      value,
      ...(name !== undefined && { name }),
    });
  }

  #recorded(method: string, name?: string): { index: number; value: string | undefined } {
    const index = this.#next(method, name);
    const entry = this.#described.entries[index];
    return { index, value: entry?.done ? entry.value : undefined };
  }

  /** Takes the next place. What stands there already must be the same. */
  #next(method: string, name?: string): number {
    const index = this.#calls++;
    const entry = this.#described.entries[index];
    // A place without a method: its call had left no record when the next one did.
    if (!entry?.method || (entry.method === method && (name === undefined || entry.name === name)))
      return index;
    this.#mismatch ??= new StepMismatchError(
      `step ${this.#described.step} asked for ${called(method, name)} where ` +
        `${called(entry.method, entry.name)} was recorded as call ${index + 1}`,
    );
    throw this.#mismatch;
  }

  #failed(thrown: unknown): never {
    if (StepMismatchError.isInstance(thrown)) this.#mismatch ??= thrown;
    throw thrown;
  }

  #checkOpen(): void {
    if (this.#over) throw this.#over;
    if (this.#mismatch) throw this.#mismatch;
  }

  /** Rejects at the latest when the attempt is over, and is nobody's unhandled rejection. */
  #tracked<T>(work: () => Promise<T>): Promise<T> {
    let reject: (reason: unknown) => void = () => undefined;
    const promise = new Promise<T>((settle, refuse) => {
      reject = refuse;
      try {
        work().then(settle, refuse);
      } catch (thrown) {
        refuse(thrown);
      }
    });
    this.#open.set(promise, reject);
    const done = () => void this.#open.delete(promise);
    promise.then(done, done);
    return promise;
  }
}

function called(method: string, name: string | undefined): string {
  return name === undefined ? method : `${method}(${JSON.stringify(name)})`;
}

function checkpointOf({ path }: SavedCheckpoint): SavedCheckpoint {
  return { path };
}

function wordsOf(thrown: unknown): string {
  return thrown instanceof Error ? `${thrown.name}: ${thrown.message}` : String(thrown);
}
