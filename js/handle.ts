// What a public class holds: the way of its calls to the owner. It has a number and no pointer, so it outlives an instance.

import type { Methods } from "./boundary.js";
import { ClosedError } from "./errors.js";
import { pageFor } from "./init.js";
import type { Settings } from "./settings.js";

/** A service as its own calls and those of its clients reach it; opened by the first of them. */
export class Link {
  readonly #settings: Settings;
  #number: number | undefined;

  constructor(settings: Settings) {
    this.#settings = settings;
  }

  /** `name` is the method's as the user knows it. */
  call(name: string, client: number, method: string, args: object, signal?: AbortSignal): Promise<unknown> {
    const page = pageFor(name);
    const { wire, logger, fetch } = this.#settings;
    this.#number ??= page.open(wire, logger, fetch);
    return page.call(this.#number, client, method, args, signal);
  }

  /** Closes a client, or the service itself (0). What was never opened is closed. */
  async close(name: string, client: number): Promise<void> {
    if (this.#number === undefined) return;
    await this.call(name, client, "close", {});
    if (!client) pageFor(name).forget(this.#number);
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
  ): Promise<M[K]["result"]> {
    if (this.#closing) {
      throw new ClosedError(`${this.#name}.${method} was called after close(): make a new ${this.#name}`);
    }
    return this.link.call(`${this.#name}.${method}`, this.#client, method, args, signal);
  }

  /** The same promise however often it is called. */
  close(): Promise<void> {
    this.#closing ??= this.link.close(`${this.#name}.close`, this.#client);
    return this.#closing;
  }
}
