// Records in a directory, for Node, Deno and Bun: `import { fileStore } from "tinkex/file"`.
//
// Of the files in the directory the one with the highest number counts. It begins with all records of its time, and each
// commit is appended to it, by the store that made it and by no other. Another store that wants to write (of another
// process, perhaps) closes the file by making it read-only, and makes the next one from what it finds in there; a store
// does the same with a file of its own that has grown. A file appears whole, and only under a name that is free, so of
// many stores that make the next file at once one succeeds, and the others look again.
//
// A store can't know that its file is being closed while it appends. So it looks afterwards. If the file is still open,
// then whoever closes it will find what was appended. If it is not, then the next file says how much of this one it was
// made from, and what is behind that was never committed. Nobody waits for anybody, so a process may be killed at any
// point.

import { chmod, type FileHandle, link, mkdir, open, readdir, readFile, rm, stat } from "node:fs/promises";
import { type Counted, type Fences, FORM, frame, replay } from "./frames.js";
import { Records } from "./memory.js";
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

/**
 * A store in a directory, which is made when it isn't there: a directory for each server and account. Several processes
 * may open it; whoever claims a fence last may write under it.
 */
export function fileStore(directory: string, warn = (message: string) => console.warn(message)): Store {
  return new FileStore(directory, warn);
}

/** A file is made anew when it is so many times larger than at its beginning, and this much in bytes. */
const GROWTH = 2;
const LEAST_GROWTH = 1 << 20;

/** How many earlier files a file tells of. A process that slept through so many finds its last commit refused. */
const COUNTED = 1000;

/** The file that this store appends to, and what it holds. */
interface Own {
  number: number;
  /** Another file may come to have the name of this one; nothing else has its number on the disk. */
  ino: number;
  handle: FileHandle;
  length: number;
  /** Beyond that it is made anew. */
  most: number;
  records: Records;
}

interface Changes {
  fences?: Fences;
  ops?: readonly StoreOp[];
}

/** What is to be written on top of the records; throws where it may not be. */
type Change = (records: Records) => Changes;

/** What was appended, maybe too late, and where it stands. */
interface Appended {
  changes: Changes;
  number: number;
  end: number;
}

class FileStore implements Store {
  readonly persistence: Persistence = "file";
  readonly #directory: string;
  readonly #warn: (message: string) => void;
  #own: Own | undefined;
  readonly #turns = new Turns();

  constructor(directory: string, warn: (message: string) => void) {
    this.#directory = directory;
    this.#warn = warn;
  }

  load(prefix: string): Promise<[string, Uint8Array][]> {
    return this.#inTurn(async () => {
      const { records } = this.#own && (await this.#isOpen(this.#own)) ? this.#own : await this.#read();
      return records.under(prefix);
    });
  }

  async claim(fence: string): Promise<number> {
    const { fences } = await this.#inTurn(() =>
      this.#write("relaxed", ({ fences }) => ({ fences: [[fence, epochAfter(fences.get(fence))]] })),
    );
    return fences?.[0]?.[1] as number;
  }

  async commit(batch: Batch): Promise<void> {
    await this.#inTurn(() =>
      this.#write(batch.durability, ({ fences }) => {
        checkFence(batch, fences.get(batch.fence));
        return { ops: batch.ops };
      }),
    );
  }

  async forget(): Promise<void> {
    await this.#inTurn(async () => {
      await this.#makeNext((records) => {
        records.clear();
        return {};
      });
      await this.#remove(/^\d+\.log\.damaged$/);
    });
  }

  async close(): Promise<void> {
    await this.#turns.close();
    await this.#letGo();
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    return this.#turns.take(work).catch((thrown: unknown) => {
      throw thrown instanceof StoreError ? thrown : refused(this.#directory, thrown);
    });
  }

  /** Gives what was written. */
  async #write(durability: Batch["durability"], change: Change): Promise<Changes> {
    const own = this.#own;
    if (!own || own.length > own.most) return this.#makeNext(change);
    const changes = change(own.records);
    const bytes = frame(changes);
    try {
      await writeAll(own.handle, bytes, own.length);
      if (durability === "strict") await own.handle.datasync();
    } catch (thrown) {
      // Some of it may be in the file. It must not come to count, and nothing is to be appended behind it.
      await own.handle.truncate(own.length).catch(() => undefined);
      await this.#letGo();
      throw thrown;
    }
    own.length += bytes.length;
    if (!(await this.#isOpen(own))) {
      return this.#makeNext(change, { changes, number: own.number, end: own.length });
    }
    own.records.take(changes.fences, changes.ops);
    return changes;
  }

  /** Makes the next file, with the change in it. Gives what was written. */
  async #makeNext(change: Change, appended?: Appended): Promise<Changes> {
    await this.#letGo();
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    for (;;) {
      const found = await this.#read();
      if (appended && appended.number < found.number) {
        const [, bytes = 0] = found.counted.find(([number]) => number === appended?.number) ?? [];
        if (appended.end <= bytes) return appended.changes;
        appended = undefined;
      }
      // What may not be written closes nobody's file.
      change(found.records);
      // From here on nothing that is appended counts, unless it is read now.
      await chmod(this.#path(found.number), 0o400).catch(ifMissing);
      const last = await this.#read();
      if (last.number !== found.number) continue;
      const changes = change(last.records);
      last.records.take(changes.fences, changes.ops);
      const kept = last.damaged ? await this.#keepDamaged(last.number) : undefined;
      const counted: Counted = [...last.counted, [last.number, last.length] as Counted[number]].slice(
        -COUNTED,
      );
      if (!(await this.#publish(last.number + 1, last.records, counted))) continue;
      if (kept)
        this.#warn(`a part of what was stored is damaged and was left out; the file is kept as ${kept}`);
      // What can't be removed now is removed next time.
      await this.#removeBefore(last.number + 1).catch(() => undefined);
      return changes;
    }
  }

  /** Whether this file is the one of that number now. */
  async #publish(number: number, records: Records, counted: Counted): Promise<boolean> {
    const ops = [...records.values].map(([key, value]) => ({ type: "put", key, value }) as const);
    const bytes = frame({ form: FORM, counted, fences: [...records.fences], ops });
    const draft = `${this.#path(number)}.${Math.random().toString(36).slice(2)}.draft`;
    const handle = await open(draft, "wx", 0o600);
    try {
      await writeAll(handle, bytes, 0);
      await handle.datasync();
      const { ino } = await handle.stat();
      await link(draft, this.#path(number));
      if (!(await this.#follows(number))) {
        await rm(this.#path(number), { force: true });
        throw Object.assign(new Error("others have gone on"), { code: "EEXIST" });
      }
      await this.#syncNames();
      const most = Math.max(bytes.length * GROWTH, bytes.length + LEAST_GROWTH);
      this.#own = { number, ino, handle, length: bytes.length, most, records };
      return true;
    } catch (thrown) {
      await handle.close();
      // Another store was quicker; or it has swept up the draft, which comes to the same.
      if (["EEXIST", "ENOENT"].includes(codeOf(thrown))) return false;
      throw thrown;
    } finally {
      await rm(draft, { force: true });
    }
  }

  /**
   * Whether a file that has just got this number is the first that had it, and not one that comes when others have been
   * made and removed: a file is removed after those before it.
   */
  async #follows(number: number): Promise<boolean> {
    return number === 1
      ? (await this.#newest()) === 1
      : (await stat(this.#path(number - 1)).catch(ifMissing)) !== undefined;
  }

  /** What the newest file holds; of file 0, which never is there, nothing. */
  async #read() {
    for (;;) {
      const number = await this.#newest();
      const bytes = number ? await readFile(this.#path(number)).catch(ifMissing) : new Uint8Array();
      // Otherwise a newer one is there by now.
      if (!bytes) continue;
      const records = new Records();
      const replayed = replay(bytes, records);
      if (replayed.form > FORM) {
        const message = `a newer version of this package wrote ${this.#directory}: use that version`;
        throw new StoreError("too_new", message);
      }
      return { number, records, ...replayed };
    }
  }

  async #newest(): Promise<number> {
    return Math.max(0, ...(await this.#numbers()));
  }

  /** Of all files that count or did. Whatever else is in the directory is not ours. */
  async #numbers(): Promise<number[]> {
    const names = (await readdir(this.#directory).catch(ifMissing)) ?? [];
    return names.map((name) => Number(/^(\d+)\.log$/.exec(name)?.[1] ?? 0));
  }

  /** A second name for a file, by which it stays. */
  async #keepDamaged(number: number): Promise<string> {
    const kept = `${this.#path(number)}.damaged`;
    await link(this.#path(number), kept).catch(() => undefined);
    return kept;
  }

  async #removeBefore(number: number): Promise<void> {
    const old = (await this.#numbers()).filter((other) => other && other < number).sort((a, b) => a - b);
    for (const other of old) await rm(this.#path(other), { force: true });
    await this.#remove(/^\d+\.log\.\w+\.draft$/);
  }

  async #remove(names: RegExp): Promise<void> {
    for (const name of await readdir(this.#directory)) {
      if (names.test(name)) await rm(`${this.#directory}/${name}`, { force: true });
    }
  }

  async #isOpen({ number, ino }: Own): Promise<boolean> {
    const found = await stat(this.#path(number)).catch(ifMissing);
    return found?.ino === ino && (found.mode & 0o200) !== 0;
  }

  async #letGo(): Promise<void> {
    const own = this.#own;
    this.#own = undefined;
    await own?.handle.close();
  }

  /** So that the name of a file is on the disk as well. Windows can't, and needs not. */
  async #syncNames(): Promise<void> {
    const directory = await open(this.#directory, "r").catch(() => undefined);
    await directory?.datasync().catch(() => undefined);
    await directory?.close();
  }

  #path(number: number): string {
    return `${this.#directory}/${number}.log`;
  }
}

async function writeAll(handle: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    done += (await handle.write(bytes, done, bytes.length - done, position + done)).bytesWritten;
  }
}

function ifMissing(thrown: unknown): undefined {
  if (codeOf(thrown) !== "ENOENT") throw thrown;
}

function codeOf(thrown: unknown): string {
  return (thrown as { code?: string } | null)?.code ?? "";
}

function refused(directory: string, thrown: unknown): StoreError {
  const code = codeOf(thrown);
  const why = thrown instanceof Error ? thrown.message : String(thrown);
  if (/^(ENOSPC|EDQUOT|EFBIG)$/.test(code)) {
    return new StoreError("quota", `there is no room for ${directory}: free some (${why})`, thrown);
  }
  if (/^(EACCES|EPERM|EROFS|EEXIST|ENOTDIR|ELOOP|ENAMETOOLONG)$/.test(code)) {
    return new StoreError("unavailable", `${directory} can't be used: ${why}`, thrown);
  }
  return new StoreError("aborted", `${directory} was not written: ${why}`, thrown);
}
