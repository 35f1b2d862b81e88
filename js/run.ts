// A training run as users have it: its status, its events and its commands, wherever it works.

import type { ServiceMethods } from "./boundary.js";
import { boolean, choices, integer, refuse, text } from "./checks.js";
import type { Handle } from "./handle.js";
// From the entry: a bundler that cuts by what reaches what keeps all that a page loads first in one file, then.
import { DataMismatchError, InvalidArgumentError } from "./index.js";
import { runEvent } from "./run-event.js";
import type { WireRunSpec } from "./run-boundary.js";
import { OpenedRun } from "./run-open.js";
import { type Means, meansOf, specOf } from "./run-options.js";
import type {
  OpenRunOptions,
  ResumeOptions,
  RunEnd,
  RunEvent,
  RunListeners,
  RunOptions,
  RunStatus,
  StopOptions,
} from "./run-types.js";
import { openChannel, seatsOf } from "./seats.js";
import { type ReadRun, Tab } from "./tabs.js";
import type { SavedCheckpoint } from "./types.js";

/** Events that an iterator holds for a slow reader; the oldest go first, and `history()` has them. */
const MOST_WAITING = 10_000;

const EVENTS: readonly (keyof RunListeners)[] = [
  "status",
  "event",
  "step",
  "evaluation",
  "checkpoint",
  "sample",
  "incarnation",
];

/**
 * Made by `ServiceClient`. A run works in one page at a time, and outlives it: the next one that opens it with the same data
 * goes on where it was. In every other page that has it open, it is followed, and takes commands as well.
 *
 * ```ts
 * const run = await service.startRun({ baseModel: "meta-llama/Llama-3.1-8B", data, epochs: 2 });
 * for await (const event of run) if (event.type === "step") console.log(event.step, event.loss);
 * ```
 */
export class TrainingRun implements AsyncIterable<RunEvent>, AsyncDisposable {
  /** By which `openRun` finds it. */
  readonly id: string;
  readonly name: string | undefined;
  /**
   * Resolves when the run has completed or was stopped, in whichever page, or with `{ state: "closed" }` when this
   * page closes it. Never rejects, and stays pending while the run is paused.
   */
  readonly ended: Promise<RunEnd>;
  readonly #handle: Handle<ServiceMethods>;
  readonly #tab: Tab;
  readonly #listeners = new Map<string, Set<(value: never) => void>>();
  /** Those who iterate: each hears an event, or undefined for the end. */
  readonly #readers = new Set<(event: RunEvent | undefined) => void>();
  #over: RunEnd | undefined;

  private constructor(handle: Handle<ServiceMethods>, id: string, means: Means, spec: WireRunSpec) {
    this.id = id;
    this.name = spec.name;
    this.#handle = handle;
    let end: (end: RunEnd) => void = () => undefined;
    this.ended = new Promise((resolve) => (end = resolve));
    const place = `tinkex run ${handle.link.place} ${id}`;
    const has = spec.kind === "data" ? means.source : means.step;
    this.#tab = new Tab({
      id,
      seats: seatsOf(place),
      channel: (hear) => openChannel(place, hear),
      lacks: () => (has ? undefined : spec.kind === "data" ? "needs_data" : "needs_step"),
      open: (hearer) => new OpenedRun(handle, id, means, hearer),
      read: (after) => handle.call("readRun", { id, after }),
      status: () => this.#tell("status", this.#withPersistence(this.#tab.status)),
      event: (event) => {
        this.#tell("event", event);
        this.#tell(event.type, event);
        for (const reader of this.#readers) reader(event);
      },
      ended: (how) => {
        this.#over = how;
        for (const reader of this.#readers) reader(undefined);
        end(how);
      },
    });
  }

  /** @internal Writes a new run down, and opens it. */
  static async start(handle: Handle<ServiceMethods>, options: RunOptions): Promise<TrainingRun> {
    const { spec, means } = await specOf(options);
    const { id } = await handle.call("startRun", spec);
    return TrainingRun.#open(handle, id, means, true);
  }

  /** @internal Rejects with `DataMismatchError` where the page has something else than the run was started with. */
  static async reopen(
    handle: Handle<ServiceMethods>,
    id: string,
    options: OpenRunOptions,
  ): Promise<TrainingRun> {
    return TrainingRun.#open(handle, text(id, "id"), await meansOf(options), false);
  }

  static async #open(
    handle: Handle<ServiceMethods>,
    id: string,
    means: Means,
    isNew: boolean,
  ): Promise<TrainingRun> {
    const { spec, status } = await handle.call("readRun", { id, after: Number.MAX_SAFE_INTEGER });
    checkMeans(means, spec);
    const run = new TrainingRun(handle, id, means, spec);
    try {
      await run.#tab.start(status, isNew);
    } catch (thrown) {
      await run.close();
      throw thrown;
    }
    return run;
  }

  /** How the run is, and why it isn't moving where it isn't. */
  async status(): Promise<RunStatus> {
    return this.#withPersistence(await this.#tab.fresh());
  }

  /** Submits nothing more. What was submitted comes to its end. */
  async pause(): Promise<void> {
    await this.#tab.command({ name: "pause" });
  }

  async resume(options: ResumeOptions = {}): Promise<void> {
    const how = choices(options, { from: only("checkpoint"), step: only("restart") });
    await this.#tab.command({ name: "resume", ...how });
  }

  /** Ends the run for good. */
  async stop(options: StopOptions = {}): Promise<RunEnd> {
    const { checkpoint = true } = choices(options, { checkpoint: boolean });
    const told = this.#tab.command({ name: "stop", checkpoint }).catch(async (thrown: unknown) => {
      // It may have ended before, and whoever hears the one may not have heard the other yet.
      await new Promise((resolve) => setTimeout(resolve));
      if (!this.#over) throw thrown;
    });
    await Promise.race([told, this.ended]);
    return this.ended;
  }

  /** Writes a checkpoint that training can go on from. */
  async checkpoint(): Promise<SavedCheckpoint> {
    return (await this.#tab.command({ name: "checkpoint" })) as SavedCheckpoint;
  }

  /** What has happened in the run: from its beginning, or after a time in milliseconds since 1970, as the `at` of an event. */
  async history(options: { after?: number } = {}): Promise<RunEvent[]> {
    const { after } = choices(options, { after: integer(0, Number.MAX_SAFE_INTEGER) });
    const { rows } = await this.#read(after);
    return rows.map(runEvent);
  }

  /** Calls `listener` with what happens from now on. Gives the function that ends it. */
  on<K extends keyof RunListeners>(type: K, listener: RunListeners[K]): () => void {
    if (!EVENTS.includes(type)) refuse("type", type, EVENTS.map((name) => `"${name}"`).join(", "));
    if (typeof listener !== "function") refuse("listener", listener, "a function");
    const of = this.#listeners.get(type) ?? new Set();
    this.#listeners.set(type, of.add(listener));
    return () => void of.delete(listener);
  }

  /** Events as they come, until the run has ended or is closed. */
  [Symbol.asyncIterator](): AsyncIterator<RunEvent> {
    const waiting: RunEvent[] = [];
    let over = this.#over !== undefined;
    let wake: () => void = () => undefined;
    const reader = (event: RunEvent | undefined) => {
      if (event) {
        if (waiting.push(event) > MOST_WAITING) waiting.shift();
      } else over = true;
      wake();
    };
    this.#readers.add(reader);
    const next = async (): Promise<IteratorResult<RunEvent, undefined>> => {
      while (!waiting.length && !over) await new Promise<void>((resolve) => (wake = resolve));
      const value = waiting.shift();
      if (value) return { value, done: false };
      this.#readers.delete(reader);
      return { value, done: true };
    };
    return {
      next,
      return: () => {
        waiting.length = 0;
        reader(undefined);
        return next();
      },
    };
  }

  /** Lets the run go, as it is: another page takes over, or the next `openRun`. */
  async close(): Promise<void> {
    await this.#tab.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #withPersistence(status: RunStatus): RunStatus {
    const { persistence } = this.#handle.link;
    return { ...status, ...(persistence && { persistence }) };
  }

  #read(after: number | undefined): Promise<ReadRun> {
    return this.#handle.call("readRun", { id: this.id, ...(after !== undefined && { after }) });
  }

  /** In a microtask of its own for each: a listener is the user's code. */
  #tell(type: keyof RunListeners, value: RunEvent | RunStatus): void {
    const of = this.#listeners.get(type);
    for (const listener of of ?? []) queueMicrotask(() => of?.has(listener) && listener(value as never));
  }
}

function checkMeans({ data, lossFn, step }: Means, spec: WireRunSpec): void {
  const other = spec.kind === "data" ? step && "step" : data && "data";
  if (other) {
    throw new InvalidArgumentError(
      other,
      `${other}: the run was started with ${spec.kind === "data" ? "data" : "a step function"}, and takes that again`,
    );
  }
  if (lossFn !== undefined && lossFn !== spec.lossFn) {
    throw new InvalidArgumentError(
      "loss",
      `loss is "${lossFn}" and the run was started with "${spec.lossFn}": leave it out, or start another run`,
    );
  }
  if (!data || !spec.data) return;
  const before = spec.data;
  if (data.kind !== before.kind) {
    throw new DataMismatchError(
      `the run was started with ${before.kind === "indexed" ? "an array or a file" : "an iterable"}, and takes that again`,
    );
  }
  if (data.fingerprint === before.fingerprint) return;
  const sizes =
    data.kind === "indexed" && before.kind === "indexed" && data.length !== before.length
      ? `it had ${before.length} datums and has ${data.length}`
      : "its content has changed";
  throw new DataMismatchError(
    `this is not the data that the run was started with: ${sizes}. Open the run with that data, or start another run`,
  );
}

function only<T extends string>(word: T): (value: unknown, field: string) => T {
  return (value, field) => (value === word ? word : refuse(field, value, `"${word}"`));
}
