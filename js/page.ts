// The page's side of every call: its key, its promise, its signal. The promise outlives the instance that works on it,
// and no part of this knows where that one lives.

import type {
  Failure,
  FromOwner,
  HttpAnswer,
  HttpFailure,
  HttpRequest,
  LogLevel,
  StoreAnswer,
  StoreOperation,
  ToOwner,
} from "./boundary.js";
import { AbortedError } from "./errors.js";
import { errorOf } from "./failures.js";
import type { FromRun, ToRun } from "./run-boundary.js";
import type { Settings } from "./settings.js";
import { StoreError } from "./store/store.js";
import { Listeners } from "./supervision.js";
import type { Run } from "./tasks.js";
import type { SupervisionListener } from "./types.js";
import { exchange, type Given, operate } from "./world.js";

/** The page's half of a `run` call: what it says and hears while the call is under way. */
export interface Talk {
  /** Called with the way to the run, when the call is made. */
  begin(say: (message: ToRun) => void): void;
  /** `life` numbers the instance that says it, and `answer` reaches no other one. */
  hear(message: FromRun, life: number, answer: (message: ToRun) => void): void;
}

interface Waiting {
  service: Settings | undefined;
  signal: AbortSignal | undefined;
  resolve: (value: unknown) => void;
  reject: (reason: unknown) => void;
  /** Of a `spawn`: the function; of a `run`: the page's half of it. */
  work: Run | Talk | undefined;
}

export class Page implements Given {
  readonly #post: (message: ToOwner) => void;
  readonly #waiting = new Map<number, Waiting>();
  readonly #services = new Map<number, Settings>();
  readonly #signals = new Signals();
  readonly #listeners = new Listeners();
  /** Calls whose callers have been told, and may not have heard yet. */
  #told: number[] = [];
  #lastKey = 0;
  #lastService = 0;
  /** Of this page or process, in records. `crypto.randomUUID` is kept from origins that aren't secure. */
  readonly #name = Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(36)).join(
    "-",
  );

  constructor(post: (message: ToOwner) => void) {
    this.#post = post;
  }

  /** Makes a service and gives its number. */
  open(settings: Settings): number {
    const service = ++this.#lastService;
    this.#services.set(service, settings);
    const { wire, fetch, store, place } = settings;
    const options = { ...wire, owner: `${this.#name}-${service}` };
    const given = { fetch: fetch !== undefined, store: store !== undefined, place };
    this.#post({ type: "open", service, options, given });
    return service;
  }

  /** Posts the call before it returns, so that calls are in the order in which they are made. */
  call(
    service: number,
    client: number,
    method: string,
    args: object,
    signal?: AbortSignal,
    work?: Run | Talk,
  ): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) {
        const message = `${method} was given up before anything was sent: its signal had fired`;
        return reject(new AbortedError(message, { retryable: true, cause: signal.reason }));
      }
      // Whoever ends something has heard what he was told before.
      if (method === "close" || method === "finish") this.#seen();
      const key = ++this.#lastKey;
      this.#waiting.set(key, { service: this.#services.get(service), signal, resolve, reject, work });
      if (signal) this.#signals.add(signal, key, () => this.#post({ type: "cancel", key }));
      if (work && "hear" in work) work.begin((message) => this.#post({ type: "toRun", key, message }));
      // What may be given up is numbered as late as can be.
      const given = signal ? { ...args, revocable: true } : args;
      this.#post({ type: "call", key, service, client, method, args: given });
    });
  }

  /** The page may never be seen again: what waits to be sent is sent now. */
  hidden(): void {
    this.#post({ type: "hidden" });
  }

  receive(message: FromOwner): void {
    switch (message.type) {
      case "settled":
        this.#settle(message.key, message.value);
        this.#tell(message.key);
        break;
      case "run":
        this.#runOf(message.key)?.start((failure) =>
          this.#post({ type: "ended", key: message.key, failure }),
        );
        break;
      case "fromRun": {
        const { key, life } = message;
        const work = this.#waiting.get(key)?.work;
        const answer = (message: ToRun) => this.#post({ type: "toRun", key, life, message });
        if (work && "hear" in work) work.hear(message.message, life, answer);
        break;
      }
      case "supervision":
        this.#listeners.tell(message.service, message.rows);
        break;
      case "failed": {
        const waiting = this.#take(message.key);
        if (!waiting) break;
        const failure = withoutSecret(waiting.service, message.failure);
        const cause: unknown = failure.kind === "aborted" ? waiting.signal?.reason : undefined;
        const error = errorOf(failure, cause);
        if (waiting.work && "settle" in waiting.work) {
          waiting.work.settle(waiting.resolve, waiting.reject, error);
        } else waiting.reject(error);
        // What goes on without its caller is for whoever resumes it.
        if (failure.outcome !== "journaled") this.#tell(message.key);
        break;
      }
      case "kept": {
        const service = this.#services.get(message.service);
        if (service) service.persistence = message.persistence;
        break;
      }
      case "log":
        this.#log(message.service, message.level, message.message);
        break;
    }
  }

  /** Tells the tree of a service as it is and as it changes, until the function that this gives is called. */
  watch(service: number, listener: SupervisionListener): () => void {
    this.#listeners.add(service, listener);
    this.#post({ type: "watch", service, on: true });
    return () => {
      if (this.#listeners.delete(service, listener)) this.#post({ type: "watch", service, on: false });
    };
  }

  /** Forgets a closed service, and its key. */
  forget(service: number): void {
    this.#listeners.forget(service);
    this.#services.delete(service);
  }

  /** By the `fetch` that a service was given. */
  fetch(service: number, request: HttpRequest, signal: AbortSignal): Promise<HttpAnswer | HttpFailure> {
    const given = this.#services.get(service)?.fetch;
    return exchange((url, init) => (given ?? fetch)(url, init), request, signal);
  }

  /** In the store that a service was given. */
  store(service: number, operation: StoreOperation): Promise<StoreAnswer> {
    return operate(() => this.#services.get(service)?.store ?? closed(), operation);
  }

  /** In a turn of its own: by then the handlers of the promise have run, and the call is done with. */
  #tell(key: number): void {
    if (this.#told.push(key) === 1) setTimeout(() => this.#seen(), 0);
  }

  #seen(): void {
    for (const key of this.#told.splice(0)) this.#post({ type: "seen", key });
  }

  #settle(key: number, value: unknown): void {
    const waiting = this.#take(key);
    if (waiting?.work && "settle" in waiting.work) waiting.work.settle(waiting.resolve, waiting.reject);
    else waiting?.resolve(value);
  }

  #runOf(key: number): Run | undefined {
    const work = this.#waiting.get(key)?.work;
    return work && "start" in work ? work : undefined;
  }

  #take(key: number): Waiting | undefined {
    const waiting = this.#waiting.get(key);
    this.#waiting.delete(key);
    if (waiting?.signal) this.#signals.delete(waiting.signal, key);
    return waiting;
  }

  /** In a microtask of its own: a logger is the user's code, and may call methods of this package. */
  #log(service: number, level: LogLevel, message: string): void {
    const to = this.#services.get(service);
    if (to) queueMicrotask(() => to.logger[level](message.replaceAll(to.wire.apiKey, HIDDEN)));
  }
}

const HIDDEN = "[API key]";

function closed(): never {
  throw new StoreError("closed", "the service was closed");
}

/** A server may repeat the key that it refuses. */
function withoutSecret(service: Settings | undefined, failure: Failure): Failure {
  if (!service) return failure;
  const secret = service.wire.apiKey;
  const cleaned = { ...failure, message: failure.message.replaceAll(secret, HIDDEN) };
  if (failure.body !== undefined) cleaned.body = failure.body.replaceAll(secret, HIDDEN);
  return cleaned;
}

/** One listener on each signal, however many calls share it, and none once they are settled. */
class Signals {
  readonly #calls = new Map<AbortSignal, { calls: Map<number, () => void>; listener: () => void }>();

  add(signal: AbortSignal, key: number, fired: () => void): void {
    const known = this.#calls.get(signal);
    if (known) {
      known.calls.set(key, fired);
      return;
    }
    const calls = new Map([[key, fired]]);
    // A copy: a call that is answered at once takes itself out.
    const listener = () => [...calls.values()].forEach((fired) => fired());
    this.#calls.set(signal, { calls, listener });
    signal.addEventListener("abort", listener);
  }

  delete(signal: AbortSignal, key: number): void {
    const known = this.#calls.get(signal);
    if (!known?.calls.delete(key) || known.calls.size) return;
    signal.removeEventListener("abort", known.listener);
    this.#calls.delete(signal);
  }
}
