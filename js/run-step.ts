// A step function's calls. Each has its place in the order in which they were made; those that are recorded give what they
// gave then, and the others go to the run in that order, which writes them down. A `once` has its place where it was done, and
// is found again by its name. An attempt that is over lets nothing through any more.

import { choices, label, refuse, text } from "./checks.js";
import { ClosedError, StepMismatchError, TinkexError } from "./errors.js";
import { forwardOutput, sampleOutput } from "./results.js";
import type { Answer, StepResults, ToRun, WireStepCall, WireStepEntry } from "./run-boundary.js";
import type { StepContext, StepForwardOptions, StepFunction, StepSampleOptions } from "./run-types.js";
import { sampleArgs } from "./sampling.js";
import { ADAM_CHECKS, forwardArgs } from "./training.js";
import type { AdamParams, Datum, Label, LossFn, Prompt, SampleOutput } from "./types.js";

export interface StepDescription {
  runId: string;
  step: number;
  attempt: number;
  /** What was recorded of the step, in the order of its calls. */
  entries: readonly WireStepEntry[];
}

type Recorded = WireStepEntry & { place: number };

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
  /** What is recorded and was not asked for yet, in its order, with its places. */
  readonly #recorded: Recorded[];
  /** How many places are taken. */
  #places: number;
  /** What was called before was sent when this resolves. */
  #sent: Promise<unknown> = Promise.resolve();
  #sampler: Promise<string> | undefined;
  /** Whether a call has gone to the run, whose answer takes a turn of the event loop at least. */
  #asked = false;
  #over: Error | undefined;
  /** The function may catch it, and go on as if nothing was. */
  #mismatch: StepMismatchError | undefined;

  constructor(described: StepDescription, ways: StepWays) {
    this.attempt = described.attempt;
    this.#described = described;
    this.#ways = ways;
    this.#recorded = described.entries.map((entry, place) => ({ ...entry, place }));
    this.#places = this.#recorded.length;
  }

  /** Calls the function and resolves with how it ended, when its calls have ended as well. Undefined: nobody asks any more. */
  async run(step: StepFunction): Promise<Answer | undefined> {
    let answer: Answer;
    try {
      // Later than this call: the function is the user's, and may throw or take its time.
      await Promise.resolve();
      const value = await step(this.#context(), this.#described.step);
      while (this.#open.size) await Promise.allSettled(this.#open.keys());
      await this.#sent;
      this.#checkComplete();
      if (!this.#asked) await turn();
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
      this.#call(method, () => (name === undefined ? {} : { name: text(name, "name") }), asItIs, asItIs);
    return {
      runId,
      step,
      signal: this.#stop.signal,
      forward: (data, lossFn, options = {}) => this.#forward("forward", data, lossFn, options),
      forwardBackward: (data, lossFn, options = {}) =>
        this.#forward("forwardBackward", data, lossFn, options),
      optimStep: (params: AdamParams = {}) =>
        this.#call("optimStep", () => choices(params, ADAM_CHECKS), asItIs, asItIs),
      saveState: (name) => save("saveState", name),
      saveWeightsForSampler: (name) => save("saveWeightsForSampler", name),
      saveWeightsAndGetSamplingClient: () => {
        const sampler = this.#makeSampler();
        return this.#tracked(async () => {
          await sampler;
          return { sample: (prompt, options = {}) => this.#sample(prompt, options, sampler) };
        });
      },
      sample: (prompt, options = {}) => this.#sample(prompt, options),
      random: () => this.#drawn("random", Math.random),
      now: () => this.#drawn("now", Date.now),
      once: (name, fn) => this.#once(name, fn),
    };
  }

  #forward(
    method: "forward" | "forwardBackward",
    data: readonly Datum[],
    lossFn: LossFn,
    options: StepForwardOptions,
  ) {
    const args = () => forwardArgs(data, lossFn, options).args;
    return this.#call(method, args, asItIs, forwardOutput);
  }

  /** Without a sampler, by the step's own, which the first such call makes. */
  #sample(prompt: Prompt, options: StepSampleOptions, of?: Promise<string>): Promise<SampleOutput> {
    return this.#tracked(async () => {
      this.#checkOpen();
      const { args } = sampleArgs(prompt, options);
      const sampler = of ?? (this.#sampler ??= this.#makeSampler());
      // Its place is taken, so it is sent even where there is no sampler for it.
      const complete = async () => ({ ...args, sampler: await sampler.catch(() => "") });
      const output = this.#call("sample", () => undefined, complete, sampleOutput);
      await sampler;
      return output;
    });
  }

  #makeSampler(): Promise<string> {
    return this.#call(
      "sampler",
      () => ({}),
      asItIs,
      ({ sampler }) => sampler,
    );
  }

  /**
   * Whatever fails comes by the promise, as of the clients' methods. A call whose arguments can't be right has no place. What
   * completes the arguments may take its time, and later calls wait for it.
   */
  #call<K extends keyof StepResults, A, T>(
    method: K,
    check: () => A,
    complete: (args: A) => object | Promise<object>,
    result: (value: StepResults[K]) => T,
  ): Promise<T> {
    return this.#tracked(async () => {
      this.#checkOpen();
      const checked = check();
      const place = this.#take(method);
      const answer = await this.#inOrder(async () => {
        const args = await complete(checked);
        this.#checkOpen();
        this.#asked = true;
        return [this.#ways.call({ attempt: this.attempt, index: place, method, args })];
      });
      try {
        return result((await answer[0]) as StepResults[K]);
      } catch (thrown) {
        if (StepMismatchError.isInstance(thrown)) this.#mismatch ??= thrown;
        throw thrown;
      }
    });
  }

  #drawn(method: "random" | "now", draw: () => number): number {
    this.#checkOpen();
    const known = this.#recorded.find(({ method }) => method !== "once");
    const place = this.#take(method);
    if (known?.value !== undefined) return JSON.parse(known.value) as number;
    const drawn = draw();
    this.#note(place, method, JSON.stringify(drawn));
    return drawn;
  }

  #once<T extends Label>(name: string, fn: () => T | Promise<T>): Promise<T> {
    return this.#tracked(async () => {
      this.#checkOpen();
      text(name, "name");
      if (typeof fn !== "function") refuse("fn", fn, "a function");
      const at = this.#recorded.findIndex((entry) => entry.method === "once" && entry.name === name);
      const [known] = at < 0 ? [] : this.#recorded.splice(at, 1);
      if (known?.value !== undefined) return JSON.parse(known.value) as T;
      const json = label(await fn(), `once(${JSON.stringify(name)})`);
      this.#checkOpen();
      this.#note(this.#places++, "once", json, name);
      // As it will be given back.
      return JSON.parse(json) as T;
    });
  }

  #note(index: number, method: "random" | "now" | "once", value: string, name?: string): void {
    const { attempt } = this;
    const note = {
      type: "note",
      attempt,
      index,
      method,
      value,
      ...(name !== undefined && { name }),
    } as const;
    void this.#inOrder(() => this.#over ?? this.#ways.note(note));
  }

  /** Sends something when all that was called before it was sent, or could not be. */
  #inOrder<T>(send: () => T | Promise<T>): Promise<T> {
    const sent = this.#sent.then(send);
    this.#sent = sent.catch(() => undefined);
    return sent;
  }

  /** The next place. What stands there already must be the same. */
  #take(method: string): number {
    const at = this.#recorded.findIndex((entry) => entry.method !== "once");
    if (at < 0) return this.#places++;
    const entry = this.#recorded[at] as Recorded;
    if (entry.method !== method)
      this.#differs(`asked for ${method} where ${named(entry)} was recorded as ${nth(entry)}`);
    this.#recorded.splice(at, 1);
    return entry.place;
  }

  #checkComplete(): void {
    const [entry] = this.#recorded;
    if (entry && !this.#mismatch)
      this.#differs(`ended without ${named(entry)}, which was recorded as ${nth(entry)}`);
  }

  #differs(how: string): never {
    this.#mismatch ??= new StepMismatchError(`step ${this.#described.step} ${how}`);
    throw this.#mismatch;
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

/** Steps that ask for nothing would follow each other without an end, and the page would never have its turn. */
function turn(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve));
}

function named({ method, name }: Recorded): string {
  return name ? `${method}(${JSON.stringify(name)})` : method;
}

function nth({ place }: Recorded): string {
  return `call ${place + 1}`;
}

function asItIs<T>(value: T): T {
  return value;
}

function wordsOf(thrown: unknown): string {
  return thrown instanceof Error ? `${thrown.name}: ${thrown.message}` : String(thrown);
}
