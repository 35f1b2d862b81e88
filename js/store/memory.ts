// Records in memory: what a page has where nothing better may be used. They are gone with it.

import {
  alone,
  type Batch,
  checkFence,
  epochAfter,
  type Persistence,
  type Store,
  StoreError,
  type StoreOp,
} from "./store.js";

/** Records and epochs as a commit changes them. The other half of a file's store as well. */
export class Records {
  readonly values = new Map<string, Uint8Array>();
  readonly fences = new Map<string, number>();

  /** In the order of keys. */
  under(prefix: string): [string, Uint8Array][] {
    return [...this.values].filter(([key]) => key.startsWith(prefix)).sort(([a], [b]) => (a < b ? -1 : 1));
  }

  take(
    fences: readonly (readonly [fence: string, epoch: number])[] = [],
    ops: readonly StoreOp[] = [],
  ): void {
    for (const [fence, epoch] of fences) this.fences.set(fence, epoch);
    for (const op of ops) {
      if (op.type === "put") this.values.set(op.key, alone(op.value));
      else if (op.type === "delete") this.values.delete(op.key);
      else for (const key of this.values.keys()) if (key.startsWith(op.key)) this.values.delete(key);
    }
  }

  clear(): void {
    this.values.clear();
    this.fences.clear();
  }
}

export class MemoryStore implements Store {
  readonly persistence: Persistence = "memory";
  readonly #records = new Records();
  #closed = false;

  load(prefix: string): Promise<[string, Uint8Array][]> {
    return this.#use((records) => records.under(prefix));
  }

  claim(fence: string): Promise<number> {
    return this.#use(({ fences }) => {
      const epoch = epochAfter(fences.get(fence));
      fences.set(fence, epoch);
      return epoch;
    });
  }

  commit(batch: Batch): Promise<void> {
    return this.#use((records) => {
      checkFence(batch, records.fences.get(batch.fence));
      records.take([], batch.ops);
    });
  }

  forget(): Promise<void> {
    return this.#use((records) => records.clear());
  }

  close(): Promise<void> {
    this.#closed = true;
    this.#records.clear();
    return Promise.resolve();
  }

  #use<T>(work: (records: Records) => T): Promise<T> {
    return new Promise((resolve) => {
      if (this.#closed) throw new StoreError("closed", "the store was closed");
      resolve(work(this.#records));
    });
  }
}
