// What both ends of a worker's port do: what moves over it rather than being copied, and how the worker asks the page.

import type {
  FromWorker,
  HttpAnswer,
  HttpFailure,
  HttpRequest,
  StoreAnswer,
  StoreOperation,
} from "./boundary.js";
import type { Given } from "./world.js";

/**
 * The buffers of all bytes in a message that have one to themselves. Only for messages whose bytes nobody else has: what
 * the classes make of their arguments, and what an instance has said.
 */
export function buffersOf(message: object): Transferable[] {
  const found = new Set<Transferable>();
  const visit = (value: unknown): void => {
    if (ArrayBuffer.isView(value)) {
      if (value.byteLength === value.buffer.byteLength) found.add(value.buffer as ArrayBuffer);
    } else if (typeof value === "object" && value !== null) {
      Object.values(value).forEach(visit);
    }
  };
  visit(message);
  return [...found];
}

/** In the worker: what only the page has, asked for by messages. */
export class PageAsked implements Given {
  readonly #post: (message: FromWorker) => void;
  readonly #waiting = new Map<number, (answer: never) => void>();
  #last = 0;

  constructor(post: (message: FromWorker) => void) {
    this.#post = post;
  }

  fetch(service: number, request: HttpRequest, signal: AbortSignal): Promise<HttpAnswer | HttpFailure> {
    return this.#ask((asked) => {
      signal.addEventListener("abort", () => this.#post({ type: "abort", asked }));
      return { type: "fetch", asked, service, request };
    });
  }

  store(service: number, operation: StoreOperation): Promise<StoreAnswer> {
    return this.#ask((asked) => ({ type: "store", asked, service, operation }));
  }

  answer(asked: number, answer: object): void {
    this.#waiting.get(asked)?.(answer as never);
    this.#waiting.delete(asked);
  }

  #ask<T>(question: (asked: number) => FromWorker): Promise<T> {
    return new Promise((resolve) => {
      const asked = ++this.#last;
      this.#waiting.set(asked, resolve);
      this.#post(question(asked));
    });
  }
}
