// What a public class holds: the way of its calls to the owner. It has a number and no pointer, so it outlives an instance.

import type { Methods } from "./boundary.js";
import { ClosedError } from "./errors.js";
import { pageFor } from "./init.js";
import type { Page, Talk } from "./page.js";
import type { Settings } from "./settings.js";
import type { Persistence } from "./store/store.js";
import type { Run } from "./tasks.js";
import type { SupervisionListener } from "./types.js";

/** A service as its own calls and those of its clients reach it; opened by the first of them. */
export class Link {
  readonly #settings: Settings;
  #number: number | undefined;

  constructor(settings: Settings) {
    this.#settings = settings;
  }

  get persistence(): Persistence | undefined {
    return this.#settings.persistence;
  }

  /** Names the place of the records: a server and an account. */
  get place(): string {
    return this.#settings.place;
  }

  /** `name` is the method's as the user knows it. */
  call(
    name: string,
    client: number,
    method: string,
    args: object,
    signal?: AbortSignal,
    work?: Run | Talk,
  ): Promise<unknown> {
    const page = pageFor(name);
    return page.call(this.#open(page), client, method, args, signal, work);
  }

  watch(name: string, listener: SupervisionListener): () => void {
    const page = pageFor(name);
    return page.watch(this.#open(page), listener);
  }

  /** Closes a client, or the service itself (0). What was never opened is closed. */
  async close(name: string, client: number): Promise<void> {
    if (this.#number === undefined) return;
    await this.call(name, client, "close", {});
    if (!client) pageFor(name).forget(this.#number);
  }

  /** Deletes all that is kept where this service keeps its records. */
  async forget(name: string): Promise<void> {
    const { store, place } = this.#settings;
    if (store) await store.forget();
    else await pageFor(name).call(this.#number ?? 0, 0, "forget", { place });
  }

  #open(page: Page): number {
    return (this.#number ??= page.open(this.#settings));
  }
}

/** One client: its methods' names and types are `M`. */
export class Handle<M extends Methods<M>> {
  readonly link: Link;
  readonly #name: string;
  readonly #client: number;
  #closing: Promise<void> | undefined;

  /** `client` 0 is the service itself. */
  constructor(link: Link, name: string, client: number) {
    this.link = link;
    this.#name = name;
    this.#client = client;
  }

  /**
   * Posts the call before it returns. Throws `NotInitializedError`, and `ClosedError` once `close` was called; both mean
   * that nothing was sent.
   */
  call<K extends keyof M & string>(
    method: K,
    args: M[K]["args"],
    signal?: AbortSignal,
    work?: Run | Talk,
  ): Promise<M[K]["result"]> {
    this.checkOpen(method);
    return this.link.call(`${this.#name}.${method}`, this.#client, method, args, signal, work);
  }

  /** Throws `ClosedError` once `close` was called. */
  checkOpen(method: string): void {
    if (this.#closing) {
      throw new ClosedError(`${this.#name}.${method} was called after close(): make a new ${this.#name}`);
    }
  }

  /** The same promise however often it is called. */
  close(): Promise<void> {
    this.#closing ??= this.link.close(`${this.#name}.close`, this.#client);
    return this.#closing;
  }
}
