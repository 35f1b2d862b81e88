// One instance's life: the instance with a glue of its own, and everything that it has started outside. When it dies,
// its timers and requests end with it, and what still comes for it is dropped in silence.

import type { Failure, FromLife, HttpRequest, StoreOperation, ToOwner } from "./boundary.js";
import type { FromRun } from "./run-boundary.js";
import type { Host, Instance, InstanceGlobals } from "./instance.js";
import { decode, encode } from "./plain.js";
import type { World } from "./world.js";

/** Makes an instance with a glue of its own; a test gives its own. */
export type CreateInstance = (host: Host, globals: InstanceGlobals) => Instance;

/** One life as its owner sees it, wherever it is lived. It answers calls, and says `died` once. */
export interface Life {
  readonly alive: boolean;
  /** What ended it. */
  cause: unknown;
  /** Messages reach the instance in their order, and never after its death. */
  tell(message: ToOwner): void;
  /**
   * While nobody waits for an answer, timers don't keep a process alive: a script that forgets `close()` ends when its
   * work is done, and is not held by heartbeats.
   */
  setBusy(busy: boolean): void;
}

/** A timer, a port or a worker, where the runtime can be told not to wait for it (Node, Deno, Bun). */
interface Held {
  ref?(): void;
  unref?(): void;
}

export const DEFECT = "This is a defect of tinkex";

/** A life in this very thread. */
export class LocalLife implements Life {
  cause: unknown;

  readonly #instance: Instance;
  readonly #hear: (message: FromLife) => void;
  readonly #world: World;
  readonly #timers = new Set<unknown>();
  readonly #requests = new Set<AbortController>();
  #alive = true;
  #busy = true;

  /** Throws what the module throws when it is made an instance; `died` is not said then. */
  constructor(
    module: WebAssembly.Module,
    createInstance: CreateInstance,
    world: World,
    hear: (message: FromLife) => void,
  ) {
    this.#world = world;
    this.#hear = hear;
    this.#instance = createInstance(this.#host(), this.#globals());
    this.#instance.begin(module);
  }

  get alive(): boolean {
    return this.#alive;
  }

  /** `died` is said from inside the call that killed it: nothing may be asked of the instance any more. */
  tell(message: ToOwner): void {
    try {
      this.#guarded(() => this.#take(message));
    } catch (thrown) {
      if (message.type === "extend") {
        // An instance with half of the second file is none.
        this.cause = thrown;
        return this.#end();
      }
      const crashed = `crashed: ${wordsOf(thrown)}. ${DEFECT}`;
      if (message.type === "call") {
        const { key, method } = message;
        this.#fail(key, {
          kind: "crashed",
          message: `${method} ${crashed}`,
          outcome: "unknown",
          retryable: false,
        });
      } else {
        // What has no answer can only be told to the log.
        const service = "service" in message ? message.service : 0;
        this.#hear({ type: "log", service, level: "error", message: `the client ${crashed}` });
      }
    }
  }

  #take(message: ToOwner): void {
    const instance = this.#instance;
    switch (message.type) {
      case "open":
        this.#world.open(message.service, message.given);
        break;
      case "call": {
        const { key, service, method, args } = message;
        if (method === "forget") return void this.#forget(key, service, (args as { place: string }).place);
        const rows = method === "supervision" ? instance.supervision(service) : undefined;
        if (rows) return this.#hear({ type: "settled", key, value: rows });
        break;
      }
      case "away":
        return this.#world.letGo();
      case "wake":
        this.#world.goOn();
        break;
      case "extend":
        return instance.provide_deferred(message.module);
    }
    instance.tell(encode(message));
  }

  /** It is no instance's work, and needs one only because whoever has it has the stores. */
  async #forget(key: number, service: number, place: string): Promise<void> {
    const answer = await this.#world.forget(service, place);
    if (!this.#alive) return;
    if (!("failure" in answer)) return this.#hear({ type: "settled", key, value: undefined });
    const { failure: reason, message } = answer;
    this.#fail(key, { kind: "storage", reason, message, outcome: "not_sent", retryable: true });
  }

  #fail(key: number, failure: Failure): void {
    this.#hear({ type: "failed", key, failure });
  }

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
    this.#hear({ type: "died" });
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
      settle: (key, value) => this.#alive && this.#hear({ type: "settled", key, value: decode(value) }),
      fail: (key, failure) =>
        this.#alive && this.#hear({ type: "failed", key, failure: decode(failure) as Failure }),
      log: (service, level, message) => this.#alive && this.#hear({ type: "log", service, level, message }),
      fetch: (service, request, signal) =>
        this.#whileAlive(() => this.#fetch(service, decode(request) as HttpRequest, signal)),
      run: (key) => this.#alive && this.#hear({ type: "run", key }),
      fromRun: (key, message) =>
        this.#alive && this.#hear({ type: "fromRun", key, message: decode(message) as FromRun }),
      supervision: (service, rows) => this.#alive && this.#hear({ type: "supervision", service, rows }),
      bring: () => this.#alive && this.#hear({ type: "bring" }),
      writeNumber: (number, to) => text.encodeInto(String(number), to).written,
      store: (service, operation) =>
        this.#whileAlive(() => this.#world.store(service, decode(operation) as StoreOperation)),
    };
  }

  async #fetch(service: number, request: HttpRequest, signal: AbortSignal) {
    const controller = new AbortController();
    // The instance's own signal lives as long as its request, so this listener needs no removal.
    signal.addEventListener("abort", () => controller.abort(signal.reason), { once: true });
    this.#requests.add(controller);
    try {
      // Not within the instance's own call: a `fetch` of the user's may call methods of this package.
      await Promise.resolve();
      return await this.#world.fetch(service, request, controller.signal);
    } finally {
      this.#requests.delete(controller);
    }
  }

  /**
   * What a living instance asks for. For a dead one nothing is done, and its promise never settles, as nobody is there to hear. What
   * the instance hangs on it is guarded as well: a trap in there would be an unhandled rejection of the page's.
   */
  #whileAlive(ask: () => Promise<object>): Promise<Uint8Array> {
    const heard = new Promise<Uint8Array>((resolve, reject) => {
      if (!this.#alive) return;
      ask()
        .then(encode)
        .then(
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

const text = new TextEncoder();

export function wordsOf(thrown: unknown): string {
  return thrown instanceof Error
    ? thrown.message
    : typeof thrown === "string"
      ? thrown
      : "for no known reason";
}

/** A trap, or an overflow of the stack: each engine has its own words for it. A panic comes as an error of its own. */
function endsInstance(thrown: unknown): boolean {
  if (thrown instanceof WebAssembly.RuntimeError) return true;
  return thrown instanceof Error && /call stack|too much recursion/.test(thrown.message);
}

export function holdProcess(by: unknown, held: boolean): void {
  if (held) (by as Held).ref?.();
  else (by as Held).unref?.();
}
