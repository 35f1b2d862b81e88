// One instance's life: the instance with a glue of its own, and everything that it has started outside. When it dies,
// its timers and requests end with it, and what still comes for it is dropped in silence.

import type {
  Failure,
  HttpAnswer,
  HttpFailure,
  HttpRequest,
  LogLevel,
  StoreAnswer,
  StoreOperation,
  SupervisionRow,
} from "./boundary.js";
import type { FromRun } from "./run-boundary.js";
import type { Host, Instance, InstanceGlobals } from "./instance.js";
import { decode, encode } from "./plain.js";
import { type Store, StoreError } from "./store/store.js";

/** The world that instances live in; a test gives one of its own. */
export interface Surroundings {
  createInstance(globals: InstanceGlobals): Instance;
  fetch(service: number, url: string, init: RequestInit): Promise<Response>;
  /** What keeps the records of a service; the same one however many instances ask for it. */
  store(service: number): Promise<Store>;
  /** Milliseconds, from any start, never backwards. */
  now(): number;
}

/** Whom a living instance speaks to. */
export interface Listener {
  settle(key: number, value: unknown): void;
  fail(key: number, failure: Failure): void;
  log(service: number, level: LogLevel, message: string): void;
  run(key: number): void;
  fromRun(key: number, message: FromRun): void;
  supervision(service: number, rows: SupervisionRow[]): void;
  /** Said once, from inside the call that killed it: nothing may be asked of the instance any more. */
  died(): void;
}

/** A timer's handle, where the runtime can be told not to wait for it (Node, Deno, Bun). */
interface Timer {
  ref?(): void;
  unref?(): void;
}

export class Life {
  /** What ended it, once that is known: the trap is seen after the instance has said that it dies. */
  cause: unknown;

  readonly #instance: Instance;
  readonly #listener: Listener;
  readonly #surroundings: Surroundings;
  readonly #timers = new Set<unknown>();
  readonly #requests = new Set<AbortController>();
  #started = false;
  #alive = true;
  #busy = true;

  /** Throws what the module throws when it is instantiated and started; `died` is not said then. */
  constructor(module: WebAssembly.Module, surroundings: Surroundings, listener: Listener) {
    this.#surroundings = surroundings;
    this.#listener = listener;
    this.#instance = surroundings.createInstance(this.#globals());
    try {
      this.#instance.initSync({ module });
      this.#instance.start(this.#host());
    } catch (thrown) {
      this.#end();
      throw thrown;
    }
    this.#started = true;
  }

  get alive(): boolean {
    return this.#alive;
  }

  /** Asks something of the instance. Throws what it throws, unless that ended it: then `died` was said instead. */
  ask<T>(question: (instance: Instance) => T): T | undefined {
    return this.#guarded(() => question(this.#instance));
  }

  /**
   * While nobody waits for an answer, timers don't keep a process alive: a script that forgets `close()` ends when its
   * work is done, and is not held by heartbeats.
   */
  setBusy(busy: boolean): void {
    if (busy === this.#busy) return;
    this.#busy = busy;
    for (const timer of this.#timers) holdProcess(timer, busy);
  }

  /** Runs it if the instance lives, and tells a trap from an exception. */
  #guarded<T>(run: () => T): T | undefined {
    if (!this.#alive) return undefined;
    try {
      return run();
    } catch (thrown) {
      if (this.#alive && !endsInstance(thrown)) throw thrown;
      this.cause ??= thrown;
      this.#end();
      return undefined;
    }
  }

  #end(): void {
    if (!this.#alive) return;
    this.#alive = false;
    for (const timer of this.#timers) clearTimeout(timer as number);
    this.#timers.clear();
    for (const request of this.#requests) request.abort();
    this.#requests.clear();
    if (this.#started) this.#listener.died();
  }

  #globals(): InstanceGlobals {
    return {
      setTimeout: (callback, ms) => {
        const timer: unknown = setTimeout(() => {
          this.#timers.delete(timer);
          this.#guarded(callback);
        }, ms);
        this.#timers.add(timer);
        if (!this.#busy) holdProcess(timer, false);
        return timer;
      },
      clearTimeout: (timer) => {
        this.#timers.delete(timer);
        clearTimeout(timer as number);
      },
      queueMicrotask: (callback) => queueMicrotask(() => this.#guarded(callback)),
      FinalizationRegistry: this.#finalizationRegistry(),
    };
  }

  /** The glue frees what JavaScript has let go of; of a dead instance there is nothing to free. */
  #finalizationRegistry(): typeof FinalizationRegistry | undefined {
    if (!globalThis.FinalizationRegistry) return undefined;
    const guarded = (run: () => void) => this.#guarded(run);
    return class<T> extends FinalizationRegistry<T> {
      constructor(finalize: (held: T) => void) {
        super((held) => guarded(() => finalize(held)));
      }
    };
  }

  #host(): Host {
    return {
      settle: (key, value) => this.#alive && this.#listener.settle(key, decode(value)),
      fail: (key, failure) => this.#alive && this.#listener.fail(key, decode(failure) as Failure),
      log: (service, level, message) => this.#alive && this.#listener.log(service, level, message),
      fetch: (service, request, signal) =>
        this.#whileAlive(this.#fetch(service, decode(request) as HttpRequest, signal).then(encode)),
      run: (key) => this.#alive && this.#listener.run(key),
      fromRun: (key, message) => this.#alive && this.#listener.fromRun(key, decode(message) as FromRun),
      supervision: (service, rows) => this.#alive && this.#listener.supervision(service, rows),
      store: (service, operation) =>
        this.#whileAlive(this.#store(service, decode(operation) as StoreOperation).then(encode)),
      aborted: () => this.#end(),
    };
  }

  /** In the order in which they were asked for. An instance that dies has written what it had begun to write. */
  async #store(service: number, operation: StoreOperation): Promise<StoreAnswer> {
    try {
      const store = await this.#surroundings.store(service);
      if ("load" in operation) return { records: await store.load(operation.load) };
      if ("claim" in operation) return { epoch: await store.claim(operation.claim) };
      await store.commit(operation);
      return {};
    } catch (thrown) {
      const kind = thrown instanceof StoreError ? thrown.kind : "aborted";
      return { failure: kind, message: wordsOf(thrown) };
    }
  }

  async #fetch(
    service: number,
    { url, ...init }: HttpRequest,
    signal: AbortSignal,
  ): Promise<HttpAnswer | HttpFailure> {
    const request = new AbortController();
    // The instance's own signal lives as long as its request, so this listener needs no removal.
    signal.addEventListener("abort", () => request.abort(signal.reason), { once: true });
    this.#requests.add(request);
    try {
      // Not within the instance's own call: a `fetch` of the user's may call methods of this package.
      await Promise.resolve();
      const response = await this.#surroundings.fetch(service, url, { ...init, signal: request.signal });
      const headers: Record<string, string> = {};
      for (const name of READ_HEADERS) {
        const value = response.headers.get(name);
        if (value !== null) headers[name] = name === "retry-after" ? secondsOf(value) : value;
      }
      return { status: response.status, headers, body: new Uint8Array(await response.arrayBuffer()) };
    } catch (thrown) {
      return { failure: wordsOf(thrown) };
    } finally {
      this.#requests.delete(request);
    }
  }

  /**
   * The same promise for a living instance; for a dead one it never settles, as nobody is there to hear. What the
   * instance hangs on it is guarded as well: a trap in there would be an unhandled rejection of the page's.
   */
  #whileAlive<T>(promise: Promise<T>): Promise<T> {
    const heard = new Promise<T>((resolve, reject) => {
      promise.then(
        (value) => this.#alive && resolve(value),
        (reason: unknown) => this.#alive && reject(reason),
      );
    });
    const then = heard.then.bind(heard) as (...callbacks: unknown[]) => Promise<unknown>;
    const guarded = (callback: unknown) => {
      if (typeof callback !== "function") return callback;
      return (value: unknown) => this.#guarded(() => (callback as (value: unknown) => unknown)(value));
    };
    const value = (...callbacks: unknown[]) => then(...callbacks.map(guarded));
    return Object.defineProperty(heard, "then", { value });
  }
}

/** Headers of an answer that the client reads. */
const READ_HEADERS = [
  "content-type",
  "retry-after",
  "retry-after-ms",
  "x-should-retry",
  "x-deprecation-note",
  "x-deprecation-level",
];

/** What `retry-after` says, in seconds, also where it is a date. */
function secondsOf(after: string): string {
  return Number.isNaN(Number(after)) ? `${(Date.parse(after) - Date.now()) / 1000}` : after;
}

/** What a thrown value says of itself, and of its cause: `fetch failed` alone says nothing. */
function wordsOf(thrown: unknown): string {
  if (!(thrown instanceof Error)) return typeof thrown === "string" ? thrown : "fetch failed";
  return thrown.cause instanceof Error ? `${thrown.message} (${thrown.cause.message})` : thrown.message;
}

/** A trap, an overflow of the stack (each engine has its own words for it), or a glue that has seen one. */
function endsInstance(thrown: unknown): boolean {
  if (thrown instanceof WebAssembly.RuntimeError) return true;
  return thrown instanceof Error && /call stack|too much recursion|^Module terminated/.test(thrown.message);
}

function holdProcess(timer: unknown, held: boolean): void {
  if (held) (timer as Timer).ref?.();
  else (timer as Timer).unref?.();
}
