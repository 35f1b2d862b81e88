// The store of a service: the one that it was given, or the one that all services of its server and account share.

import { namespaceOf, openStore } from "./open.js";
import type { Persistence, Store } from "./store.js";

/** By namespace; one that could not be opened is tried again. */
const shared = new Map<string, Promise<Store>>();

export class KeptIn {
  readonly namespace: string;
  readonly #given: Store | undefined;
  readonly #warn: (message: string) => void;
  #opened: Store | undefined;

  constructor(
    given: Store | undefined,
    { baseURL, apiKey }: { baseURL: string; apiKey: string },
    account: string | undefined,
    warn: (message: string) => void,
  ) {
    this.#given = given;
    this.#opened = given;
    this.namespace = namespaceOf(baseURL, apiKey, account);
    this.#warn = warn;
  }

  /** Undefined until the store was opened, which the first call does. */
  get persistence(): Persistence | undefined {
    return this.#opened?.persistence;
  }

  async open(): Promise<Store> {
    if (this.#given) return this.#given;
    let opening = shared.get(this.namespace);
    if (!opening) {
      opening = openStore(this.namespace, this.#warn);
      shared.set(this.namespace, opening);
      opening.catch(() => shared.delete(this.namespace));
    }
    return (this.#opened = await opening);
  }
}
