// Lives that are lived in a Worker, as the page has them: one worker at a time, in which one life follows another, and a new
// worker where the last one died.

import type { FromLife, FromWorker, ToOwner, ToWorker, ToNewWorker } from "./boundary.js";
// From the entry: a bundler that cuts by what reaches what keeps all that a page loads first in one file, then.
import { InitError } from "./index.js";
import { holdProcess, type Life, wordsOf } from "./life.js";
import { buffersOf } from "./worker-port.js";
import type { Given } from "./world.js";

/** Between two pings of a worker, in ms. */
const PULSE = 2_000;
/** After so many it is gone. Half a minute is more than any work of its own takes it, on a machine that has other work too. */
const MOST_UNANSWERED = 15;

/** Where `worker.js` is; undefined: beside this file. */
export type WorkerFile = string | URL | undefined;

export class Workers {
  readonly #start: () => Thread;
  #thread: Thread;
  /** It has begun, and has no owner yet. */
  #first: WorkerLife | undefined;

  private constructor(start: () => Thread, first: WorkerLife) {
    this.#start = start;
    this.#thread = first.thread;
    this.#first = first;
  }

  /** Resolves when an instance lives in a worker. */
  static async open(file: WorkerFile, module: WebAssembly.Module, page: Given): Promise<Workers> {
    if (typeof Worker === "undefined") {
      throw new InitError(
        "this runtime has no Worker: call init() without `worker`, and the client runs on this thread",
      );
    }
    const start = () => new Thread(workerOf(file), module, page);
    let first: WorkerLife;
    try {
      first = new WorkerLife(start());
    } catch (cause) {
      throw new InitError(`the worker can't be made (${wordsOf(cause)}). ${WORKER}`, cause);
    }
    await new Promise<void>((resolve, reject) => {
      first.begun = resolve;
      first.hear = () => {
        const why = first.thread.alive
          ? `the WebAssembly did not start (${wordsOf(first.cause)}): the file and the package must be of one version`
          : `${wordsOf(first.cause)}. ${WORKER}`;
        first.thread.end("it was not used");
        reject(new InitError(why, first.cause));
      };
    });
    return new Workers(start, first);
  }

  /** Begins a life, in a new worker if need be. Throws where there can't be one. */
  next(hear: (message: FromLife) => void): Life {
    let life = this.#first;
    this.#first = undefined;
    if (!life?.alive) {
      if (!this.#thread.alive) this.#thread = this.#start();
      life = new WorkerLife(this.#thread);
    }
    life.hear = hear;
    return life;
  }
}

/** Written so that bundlers see it and bring the file along. */
function workerOf(file: WorkerFile): Worker {
  if (file === undefined) return new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
  return new Worker(file, { type: "module" });
}

class WorkerLife implements Life {
  cause: unknown;
  readonly thread: Thread;
  hear: (message: FromLife) => void = () => {};
  begun: () => void = () => {};
  #alive = true;

  constructor(thread: Thread) {
    this.thread = thread;
    thread.life = this;
    thread.post({ type: "begin" });
  }

  get alive(): boolean {
    return this.#alive;
  }

  tell(message: ToOwner): void {
    // The bytes in the arguments of a client's calls, and in a run's data, are the classes' own copies, and passed on once.
    const moves = message.type === "toRun" || (message.type === "call" && message.client);
    if (this.#alive) this.thread.post(message, moves ? buffersOf(message) : []);
  }

  end(cause: unknown): void {
    if (!this.#alive) return;
    this.#alive = false;
    this.cause = cause;
    this.hear({ type: "died" });
  }

  setBusy(busy: boolean): void {
    this.thread.listen(busy && this.#alive);
  }
}

/** One worker, and the port to it. */
class Thread {
  life: WorkerLife | undefined;
  readonly #worker: Worker;
  readonly #port: MessagePort;
  readonly #page: Given;
  /** What the worker has the page fetch. */
  readonly #requests = new Map<number, AbortController>();
  #alive = true;
  #listens: boolean | undefined;
  #pulse: ReturnType<typeof setInterval> | undefined;
  /** Pings since the worker was heard. */
  #unanswered = 0;

  constructor(worker: Worker, module: WebAssembly.Module, page: Given) {
    this.#worker = worker;
    this.#page = page;
    worker.onerror = (event) => {
      // It is met here, and is no matter of the page's.
      event.preventDefault();
      this.end(`the worker failed: ${event.message || "its file did not load"}`);
    };
    worker.onmessageerror = () => this.end("the worker got what it can't read");
    const { port1, port2 } = new MessageChannel();
    this.#port = port1;
    port1.onmessage = ({ data }: MessageEvent<FromWorker>) => this.#hear(data);
    worker.postMessage({ module, port: port2 } satisfies ToNewWorker, [port2]);
  }

  get alive(): boolean {
    return this.#alive;
  }

  post(message: ToWorker, transfer: Transferable[] = []): void {
    if (!this.#alive) return;
    // A browser stops a page's worker as soon as the page has heard that it is put aside. What goes by the port comes too late
    // then, and what is posted to the worker itself is there.
    if (message.type === "away") this.#worker.postMessage(message);
    else this.#port.postMessage(message, transfer);
  }

  /**
   * While somebody waits for an answer: a worker can end without a word, and then only its silence tells. Otherwise it doesn't keep
   * a process alive, where the runtime can be told.
   */
  listen(on: boolean): void {
    if (on === this.#listens) return;
    this.#listens = on;
    clearInterval(this.#pulse);
    this.#unanswered = 0;
    if (on) this.#pulse = setInterval(() => this.#ping(), PULSE);
    for (const end of [this.#worker, this.#port]) holdProcess(end, on);
  }

  /** Counted and not timed: what stops the worker for a while, such as a machine that sleeps, stops the page as well. */
  #ping(): void {
    if (++this.#unanswered > MOST_UNANSWERED) this.end("the worker does not answer any more");
    else this.post({ type: "ping" });
  }

  /** Of its life as well. */
  end(cause: string): void {
    if (!this.#alive) return;
    this.listen(false);
    this.#alive = false;
    this.#worker.terminate();
    this.#port.close();
    for (const request of this.#requests.values()) request.abort();
    this.#requests.clear();
    this.life?.end(cause);
  }

  #hear(message: FromWorker): void {
    if (!this.#alive) return;
    this.#unanswered = 0;
    switch (message.type) {
      case "pong":
        return;
      case "begun":
        return this.life?.begun();
      case "died":
        return this.life?.end(message.cause);
      case "fetch": {
        const { asked, service, request } = message;
        const controller = new AbortController();
        this.#requests.set(asked, controller);
        return this.#answer(asked, this.#page.fetch(service, request, controller.signal));
      }
      case "abort":
        return this.#requests.get(message.asked)?.abort();
      case "store":
        return this.#answer(message.asked, this.#page.store(message.service, message.operation));
      default:
        return this.life?.hear(message);
    }
  }

  /** Copied: the bytes of a store's records are the store's, and those of an answer may be the user's. */
  #answer(asked: number, answer: Promise<object>): void {
    void answer.then((answer) => {
      this.#requests.delete(asked);
      this.post({ type: "answer", asked, answer });
    });
  }
}

const WORKER =
  "The package's worker.js comes from the page's own origin (init({ worker: url }) says where it is, if not beside the " +
  "package), and a Content-Security-Policy needs 'self' in worker-src. Without `worker`, the client runs on the page";
