// Records in a key-value store whose values are small, such as a Durable Object's storage:
// `import { smallValueStore } from "tinkex/small-values"`. A record that is too large for one value is cut into several.

import {
  type Batch,
  checkFence,
  epochAfter,
  type Persistence,
  type Store,
  StoreError,
  type StoreOp,
} from "./store.js";
import { Turns } from "./turns.js";

/** What a commit does in one transaction. A Durable Object's storage has it as it is. */
export interface SmallValues {
  get(key: string): Promise<unknown>;
  put(key: string, value: Uint8Array | number): Promise<void>;
  delete(key: string): Promise<unknown>;
  /** In the order of keys. */
  list(options: { prefix: string }): Promise<Map<string, unknown>>;
}

export interface SmallValueStorage extends SmallValues {
  /** All that `work` does, or nothing of it where it rejects; `work` may be run again where others were quicker. */
  transaction<T>(work: (transaction: SmallValues) => Promise<T>): Promise<T>;
  /** Resolves when what was written is on the disk. A storage without it has that before `transaction` resolves. */
  sync?(): Promise<void>;
}

/**
 * A store in a storage that the caller has. It uses keys that begin with `tinkex/`. `maxValueBytes`: what a value may have:
 * 131072 in a Durable Object, 2097152 in one with SQLite.
 */
export function smallValueStore(
  storage: SmallValueStorage,
  { maxValueBytes = 131_072 }: { maxValueBytes?: number } = {},
): Store {
  return new SmallValueStore(storage, maxValueBytes - OVERHEAD);
}

/** What a storage may add to a value's bytes, and a key that counts with them. */
const OVERHEAD = 4096;

/** A record by its key: how many pieces it has, and the first of them. */
const HEAD = "tinkex/record/";
/** The others. */
const PIECE = "tinkex/piece/";
const FENCE = "tinkex/fence/";

class SmallValueStore implements Store {
  readonly persistence: Persistence = "custom";
  readonly #storage: SmallValueStorage;
  readonly #most: number;
  readonly #turns = new Turns();

  constructor(storage: SmallValueStorage, most: number) {
    if (!(most > 0)) throw new RangeError(`maxValueBytes is more than ${OVERHEAD}`);
    this.#storage = storage;
    this.#most = most;
  }

  load(prefix: string): Promise<[string, Uint8Array][]> {
    return this.#transact(async (transaction) => {
      const heads = await transaction.list({ prefix: HEAD + prefix });
      const pieces = await transaction.list({ prefix: PIECE + prefix });
      return [...heads].map(([name, value]) => {
        const key = name.slice(HEAD.length);
        const head = value as Uint8Array;
        const rest = pieceKeys(key, head).map((piece) => pieces.get(piece) as Uint8Array);
        return [key, joined([head.subarray(4), ...rest])];
      });
    });
  }

  claim(fence: string): Promise<number> {
    return this.#transact(async (transaction) => {
      const epoch = epochAfter((await transaction.get(FENCE + fence)) as number | undefined);
      await transaction.put(FENCE + fence, epoch);
      return epoch;
    });
  }

  commit(batch: Batch): Promise<void> {
    return this.#transact(async (transaction) => {
      checkFence(batch, (await transaction.get(FENCE + batch.fence)) as number | undefined);
      for (const op of batch.ops) await this.#apply(transaction, op);
    }, batch.durability);
  }

  forget(): Promise<void> {
    return this.#transact(async (transaction) => {
      for (const kind of [HEAD, PIECE, FENCE]) await deleteUnder(transaction, kind);
    });
  }

  close(): Promise<void> {
    return this.#turns.close();
  }

  async #apply(transaction: SmallValues, op: StoreOp): Promise<void> {
    if (op.type === "deletePrefix") {
      await deleteUnder(transaction, HEAD + op.key);
      await deleteUnder(transaction, PIECE + op.key);
      return;
    }
    const head = (await transaction.get(HEAD + op.key)) as Uint8Array | undefined;
    for (const piece of head ? pieceKeys(op.key, head) : []) await transaction.delete(piece);
    if (op.type === "delete") {
      await transaction.delete(HEAD + op.key);
      return;
    }
    const count = Math.max(1, Math.ceil((op.value.length + 4) / this.#most));
    const made = joined([new Uint8Array(4), op.value]);
    new DataView(made.buffer).setUint32(0, count);
    const keys = [HEAD + op.key, ...pieceKeys(op.key, made)];
    for (const [i, key] of keys.entries()) {
      await transaction.put(key, made.slice(i * this.#most, (i + 1) * this.#most));
    }
  }

  #transact<T>(
    work: (transaction: SmallValues) => Promise<T>,
    durability: Batch["durability"] = "relaxed",
  ): Promise<T> {
    return this.#turns.take(async () => {
      try {
        const result = await this.#storage.transaction(work);
        if (durability === "strict") await this.#storage.sync?.();
        return result;
      } catch (thrown) {
        if (thrown instanceof StoreError) throw thrown;
        const why = thrown instanceof Error ? thrown.message : String(thrown);
        throw new StoreError("aborted", `the storage did not write it: ${why}`, thrown);
      }
    });
  }
}

async function deleteUnder(transaction: SmallValues, prefix: string): Promise<void> {
  for (const key of (await transaction.list({ prefix })).keys()) await transaction.delete(key);
}

/** No record's key has a line break, so that no two records share a piece. */
function pieceKeys(key: string, head: Uint8Array): string[] {
  const count = new DataView(head.buffer, head.byteOffset).getUint32(0);
  return Array.from({ length: count - 1 }, (_, i) => `${PIECE}${key}\n${i + 1}`);
}

function joined(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
