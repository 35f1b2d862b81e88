// Records in IndexedDB: what a page has by default. One connection at a time, made when it is needed and made again when
// the browser takes it away.

import {
  alone,
  type Batch,
  checkFence,
  epochAfter,
  type Persistence,
  type Store,
  StoreError,
} from "./store.js";
import { Turns } from "./turns.js";

/** One step of the schema, and the version that a database has after it. */
export type SchemaStep = [version: number, step: (database: IDBDatabase, upgrade: IDBTransaction) => void];

/**
 * In the order of versions. What is pending runs in one transaction, so an upgrade that is killed begins again from the
 * old version. Versions of the same thousand read each other's databases. What records hold is not the schema's matter:
 * they say their own version.
 */
const SCHEMA: readonly SchemaStep[] = [
  [
    1000,
    (database) => {
      database.createObjectStore(RECORDS);
      database.createObjectStore(FENCES);
    },
  ],
];
const RECORDS = "records";
const FENCES = "fences";

/** How long another page may take to let go of an older version, in ms. It is told, and closes at once if it can. */
const BLOCKED_FOR = 2_000;
/** A database that can't be opened, or has lost its stores, is left for whoever can read it; the next one is begun. */
const DATABASES = ["", " 2", " 3"];
const TRIES = 3;
/** So long a relaxed commit waits for another one to go with, in ms: a transaction costs a page more than what is in it. */
const SOON = 10;

export class IndexedDbStore implements Store {
  readonly persistence: Persistence = "indexeddb";
  readonly #name: string;
  readonly #warn: (message: string) => void;
  readonly #schema: readonly SchemaStep[];
  readonly #turns = new Turns();
  #connection: Promise<IDBDatabase> | undefined;
  #waiting: { batch: Batch; settle: (written: Promise<void>) => void }[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** Gives up the transaction under way; it is made again. */
  #interrupt: () => void = () => undefined;
  /** While the page is put aside: resolves when it is back. */
  #back: Promise<void> | undefined;
  #goOn: () => void = () => undefined;

  constructor(name: string, warn: (message: string) => void, schema = SCHEMA) {
    this.#name = name;
    this.#warn = warn;
    this.#schema = schema;
  }

  /** Rejects as "unavailable" where pages have no IndexedDB: private windows of some browsers, sandboxed frames. */
  async open(): Promise<void> {
    await this.#turns.take(() => this.#database());
  }

  load(prefix: string): Promise<[string, Uint8Array][]> {
    this.#flush();
    return this.#transact("readonly", "relaxed", (records) => {
      const keys = records.getAllKeys(under(prefix));
      const values = records.getAll(under(prefix));
      return () => keys.result.map((key, i) => [key as string, values.result[i] as Uint8Array]);
    });
  }

  claim(fence: string): Promise<number> {
    this.#flush();
    // Relaxed: what ends the machine before it is on the disk ends whoever held the epoch before as well.
    return this.#transact("readwrite", "relaxed", (_, fences) => {
      let epoch: number;
      const last = fences.get(fence) as IDBRequest<number | undefined>;
      last.onsuccess = () => fences.put((epoch = epochAfter(last.result)), fence);
      return () => epoch;
    });
  }

  commit(batch: Batch): Promise<void> {
    return new Promise((settle) => {
      this.#waiting.push({ batch, settle });
      if (batch.durability === "strict") this.#flush();
      else this.#timer ??= setTimeout(() => this.#flush(), SOON);
    });
  }

  /** Those that follow each other under the same epoch are one transaction. */
  #flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (let next; (next = waiting.shift());) {
      const { fence, epoch } = next.batch;
      const together = [next];
      while (waiting[0]?.batch.fence === fence && waiting[0].batch.epoch === epoch) {
        together.push(waiting.shift() as typeof next);
      }
      const written = this.#write({
        ...(together.at(-1) as typeof next).batch,
        ops: together.flatMap(({ batch }) => batch.ops),
      });
      together.forEach(({ settle }) => settle(written));
    }
  }

  #write(batch: Batch): Promise<void> {
    return this.#transact("readwrite", batch.durability, (records, fences, refuse) => {
      const epoch = fences.get(batch.fence) as IDBRequest<number | undefined>;
      // The ops don't wait for the epoch: should it be another one, all of them are undone.
      epoch.onsuccess = () => {
        try {
          checkFence(batch, epoch.result);
          // All is asked for: that it is done need not come back here first.
          epoch.transaction?.commit();
        } catch (fenced) {
          refuse(fenced as StoreError);
        }
      };
      for (const op of batch.ops) {
        if (op.type === "put") records.put(alone(op.value), op.key);
        else records.delete(op.type === "delete" ? op.key : under(op.key));
      }
      return () => undefined;
    });
  }

  forget(): Promise<void> {
    this.#flush();
    return this.#turns.take(async () => {
      await this.#disconnect();
      for (const suffix of DATABASES) {
        await answered(indexedDB.deleteDatabase(this.#name + suffix)).catch(refuse);
      }
    });
  }

  async close(): Promise<void> {
    this.goOn();
    this.#flush();
    await this.#turns.close();
    await this.#disconnect();
  }

  /**
   * For a page that is put aside: closes the connection, and opens none before `goOn`. A transaction under way is given up, and
   * made again then. It would stand still with the page, and a browser throws a page away for whose transaction others wait.
   */
  letGo(): void {
    if (this.#back) return;
    this.#back = new Promise((goOn) => (this.#goOn = goOn));
    this.#interrupt();
    void this.#disconnect();
  }

  goOn(): void {
    this.#back = undefined;
    this.#goOn();
  }

  /**
   * Runs `body`, which asks for all that it needs before it returns: a transaction that is not asked anything ends. What
   * fails for no final reason is tried again on a new connection; a commit that is made twice is one.
   */
  #transact<T>(
    mode: IDBTransactionMode,
    durability: IDBTransactionDurability,
    body: (records: IDBObjectStore, fences: IDBObjectStore, refuse: (reason: Error) => void) => () => T,
  ): Promise<T> {
    return this.#turns.take(async () => {
      for (let tries = 1; ;) {
        const connection = this.#database();
        const database = await connection;
        try {
          return await new Promise((resolve, reject) => {
            const transaction = database.transaction([RECORDS, FENCES], mode, { durability });
            const [records, fences] = [transaction.objectStore(RECORDS), transaction.objectStore(FENCES)];
            const abort = (reason: Error) => {
              reject(reason);
              transaction.abort();
            };
            this.#interrupt = () => {
              try {
                transaction.abort();
              } catch {
                // It is on its way to the disk, and needs the page no more.
                return;
              }
              reject(new Error("the page was put aside"));
            };
            try {
              const result = body(records, fences, abort);
              transaction.oncomplete = () => resolve(result());
              transaction.onabort = () =>
                reject(transaction.error ?? new Error("the browser gives no reason"));
            } catch (thrown) {
              abort(thrown as Error);
            }
          });
        } catch (thrown) {
          // That the page was put aside is no failure.
          if (isFinal(thrown) || (!this.#back && tries++ === TRIES)) refuse(thrown);
          database.close();
          this.#lost(connection);
        } finally {
          this.#interrupt = () => undefined;
        }
      }
    });
  }

  /** The promise is there before anything is waited for, so there are never two connections. */
  #database(): Promise<IDBDatabase> {
    if (!this.#connection) {
      const connection = this.#connect(() => this.#lost(connection));
      this.#connection = connection;
      connection.catch(() => this.#lost(connection));
    }
    return this.#connection;
  }

  #lost(connection: Promise<IDBDatabase>): void {
    if (this.#connection === connection) this.#connection = undefined;
  }

  async #disconnect(): Promise<void> {
    const connection = this.#connection;
    this.#connection = undefined;
    // What could not be opened is closed.
    (await connection?.catch(() => undefined))?.close();
  }

  async #connect(lost: () => void): Promise<IDBDatabase> {
    while (this.#back) await this.#back;
    let cause: unknown;
    for (const suffix of DATABASES) {
      const name = this.#name + suffix;
      for (let tries = 1; tries <= TRIES; tries++) {
        try {
          const database = await this.#openNamed(name);
          const { objectStoreNames: stores } = database;
          if (!stores.contains(RECORDS) || !stores.contains(FENCES)) {
            database.close();
            cause = `${name} has lost its object stores`;
            break;
          }
          database.onclose = lost;
          database.onversionchange = () => {
            database.close();
            lost();
            this.#warn(
              "another page upgrades or deletes what this package keeps here; this page let go of it",
            );
          };
          if (cause !== undefined)
            this.#warn(`a damaged database was set aside, ${name} is used: ${words(cause)}`);
          return database;
        } catch (thrown) {
          if (isFinal(thrown)) refuse(thrown);
          cause = thrown;
        }
      }
    }
    throw new StoreError("unavailable", `IndexedDB can't be used here: ${words(cause)}`, cause);
  }

  async #openNamed(name: string): Promise<IDBDatabase> {
    const newest = this.#schema.at(-1)?.[0];
    const request = indexedDB.open(name, newest);
    request.onupgradeneeded = ({ oldVersion }) => {
      for (const [version, step] of this.#schema) {
        if (version > oldVersion) step(request.result, request.transaction as IDBTransaction);
      }
    };
    try {
      return await answered(request);
    } catch (thrown) {
      if (nameOf(thrown) !== "VersionError") throw thrown;
    }
    // A newer one, as it is; should it be gone by now, it is not begun with no schema.
    const newer = indexedDB.open(name);
    newer.onupgradeneeded = () => newer.transaction?.abort();
    const database = await answered(newer);
    if (Math.floor(database.version / 1000) === Math.floor((newest ?? 0) / 1000)) return database;
    database.close();
    const message =
      "a newer version of this package keeps its records here: reload the page to run that version";
    throw new StoreError("too_new", message);
  }
}

/** Resolves to the result. A request that is blocked rejects in time; what it opens later is closed. */
function answered(request: IDBOpenDBRequest): Promise<IDBDatabase> {
  return new Promise((resolve, reject) => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    let late = false;
    request.onblocked = () => {
      timer = setTimeout(() => {
        late = true;
        reject(new StoreError("blocked", "another page keeps an older version open: close or reload it"));
      }, BLOCKED_FOR);
    };
    request.onsuccess = () => {
      clearTimeout(timer);
      // Of a deletion there is none.
      if (late) (request.result as IDBDatabase | undefined)?.close();
      else resolve(request.result);
    };
    request.onerror = () => {
      clearTimeout(timer);
      reject(request.error ?? new Error("the browser gives no reason"));
    };
  });
}

function under(prefix: string): IDBKeyRange {
  return IDBKeyRange.bound(prefix, `${prefix}\uffff`);
}

/** Whether trying again would only give the same. */
function isFinal(thrown: unknown): boolean {
  return thrown instanceof StoreError || /^(Quota|Security|DataClone)/.test(nameOf(thrown));
}

function refuse(thrown: unknown): never {
  if (thrown instanceof StoreError) throw thrown;
  switch (nameOf(thrown)) {
    case "QuotaExceededError":
      throw new StoreError("quota", "the browser has no more room for this site: free some", thrown);
    case "SecurityError":
      throw new StoreError("unavailable", `IndexedDB may not be used here: ${words(thrown)}`, thrown);
    default:
      throw new StoreError("aborted", `the browser did not write it: ${words(thrown)}`, thrown);
  }
}

function nameOf(thrown: unknown): string {
  return (thrown as Error | null)?.name ?? "";
}

function words(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}
