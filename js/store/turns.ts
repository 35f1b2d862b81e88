// The order of a store's work: one thing after the other, so that what must be tried again does not come after what was
// asked for later.

import { StoreError } from "./store.js";

export class Turns {
  #last: Promise<unknown> = Promise.resolve();
  #closed = false;

  take<T>(work: () => Promise<T>): Promise<T> {
    if (this.#closed) return Promise.reject(new StoreError("closed", "the store was closed"));
    const done = this.#last.then(work);
    this.#last = done.catch(() => undefined);
    return done;
  }

  /** Nothing is taken any more. Resolves when what was taken has ended. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#last;
  }
}
