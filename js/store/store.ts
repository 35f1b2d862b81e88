// What keeps records when a page, an instance or a process is gone. A store holds one namespace: a server and an account.

/** What keeps the records. "memory" forgets them with the page. */
export type Persistence = "indexeddb" | "file" | "custom" | "memory";

/** `deletePrefix` deletes all records whose keys begin with `key`. */
export type StoreOp =
  | { type: "put"; key: string; value: Uint8Array }
  | { type: "delete"; key: string }
  | { type: "deletePrefix"; key: string };

export interface Batch {
  fence: string;
  /** What `claim` gave for the fence. */
  epoch: number;
  /** "strict": on the disk when `commit` resolves. "relaxed": survives the page, and may be lost with the machine. */
  durability: "strict" | "relaxed";
  ops: readonly StoreOp[];
}

/**
 * Records, by key, and fences that say who may write them. Keys are printable ASCII, so that every store orders them
 * alike. Nobody changes a value once it was given to a store, or got from one.
 *
 * All of it rejects with `StoreError`.
 */
export interface Store {
  readonly persistence: Persistence;
  /** All records whose keys begin with `prefix`, in the order of their keys. */
  load(prefix: string): Promise<[key: string, value: Uint8Array][]>;
  /** Gives the fence a higher epoch than it ever had: whoever held it before can't commit any more. */
  claim(fence: string): Promise<number>;
  /** All ops in their order, or none of them. Rejects as "fenced" when the epoch of the fence is another one. */
  commit(batch: Batch): Promise<void>;
  /** Deletes all records, and fences whoever held one. */
  forget(): Promise<void>;
  /** What comes after it rejects as "closed". */
  close(): Promise<void>;
}

const RETRYABLE = {
  /** Somebody else has claimed the fence. */
  fenced: false,
  /** No room. */
  quota: false,
  /** There is no such store here, or it may not be used. */
  unavailable: false,
  closed: false,
  /** The disk refused, or nobody says why. Nothing was written. */
  aborted: true,
  /** Another page keeps an old version of the store open. */
  blocked: true,
  /** A newer version of this package wrote it; it is left as it is. */
  too_new: false,
};

export class StoreError extends Error {
  static {
    // Written out, as minifiers rename classes.
    Object.defineProperty(this.prototype, "name", {
      value: "StoreError",
      configurable: true,
      writable: true,
    });
  }

  readonly kind: keyof typeof RETRYABLE;

  constructor(kind: keyof typeof RETRYABLE, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.kind = kind;
  }

  /** Whether the same may succeed when it is tried again, without anybody's doing. */
  get retryable(): boolean {
    return RETRYABLE[this.kind];
  }
}

/**
 * The epoch after `last`. A fence that is new, or was forgotten, begins anywhere, so that nobody who held it before the
 * forgetting has a number that counts again.
 */
export function epochAfter(last: number | undefined): number {
  return (last ?? Math.floor(Math.random() * 2 ** 32)) + 1;
}

export function checkFence(batch: Batch, epoch: number | undefined): void {
  if (batch.epoch !== epoch) {
    throw new StoreError("fenced", `${batch.fence} was taken over by another page or process`);
  }
}

/** The bytes alone: with a view of a larger buffer, all of that would be kept. */
export function alone(value: Uint8Array): Uint8Array {
  return value.byteLength === value.buffer.byteLength ? value : value.slice();
}
