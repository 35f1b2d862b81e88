// The data of a run, where it is: rows are made for the wire when the run asks for them, by number, or from a cursor on. The
// order is the run's. All of it is read once at the start, for its fingerprint, without holding up the page.

import type { WireDatum } from "./boundary.js";
import { type Check, isRecord, label, refuse, shown } from "./checks.js";
import { wireDatum } from "./data.js";
import { DataMismatchError, InvalidArgumentError } from "./errors.js";
import { Fingerprint } from "./fingerprint.js";
import type { WireRunData } from "./run-boundary.js";
import type { FileData, RunData, StreamData, StreamedDatum } from "./run-types.js";
import type { Datum, Label } from "./types.js";

export interface StreamedRows {
  data: WireDatum[];
  cursors: string[];
  end: boolean;
}

/** What a run can ask of its data. Either rows by number, or what comes behind a cursor. */
export interface Source {
  describe(): Promise<WireRunData>;
  rows(numbers: readonly number[]): Promise<WireDatum[]>;
  stream(cursor: string | undefined, count: number): Promise<StreamedRows>;
  /** Lets go of what is open. It may be asked again. */
  close(): void;
}

export const dataLike: Check<RunData> = (value, field) => {
  if (Array.isArray(value)) return value as Datum[];
  if (isRecord(value)) {
    const { file, toDatum, open, fingerprint } = value;
    if (file instanceof Blob && (toDatum === undefined || typeof toDatum === "function")) {
      return value as unknown as FileData;
    }
    if (typeof open === "function" && (fingerprint === undefined || typeof fingerprint === "string")) {
      return value as unknown as StreamData;
    }
  }
  refuse(
    field,
    value,
    "an array of datums, { file, toDatum? } with a File or Blob, or { open, fingerprint? }",
  );
};

export function sourceOf(data: RunData): Source {
  if ("file" in data) return new FileSource(data);
  return "open" in data ? new StreamSource(data) : new ArraySource(data);
}

class ArraySource implements Source {
  readonly #data: readonly Datum[];

  constructor(data: readonly Datum[]) {
    this.#data = data;
  }

  async describe(): Promise<WireRunData> {
    const all = new Fingerprint();
    const turns = new Turns();
    try {
      for (let i = 0; i < this.#data.length; i++) {
        addDatum(all, wireDatum(this.#data[i], `data[${i}]`));
        await turns.taken();
      }
    } finally {
      turns.end();
    }
    return { kind: "indexed", length: this.#data.length, fingerprint: all.digest() };
  }

  rows(numbers: readonly number[]): Promise<WireDatum[]> {
    return Promise.resolve(numbers.map((i) => wireDatum(this.#data[i], `data[${i}]`)));
  }

  stream(): never {
    throw notOfThisKind();
  }

  close(): void {}
}

/** A file of lines. Of its lines only their places are held. */
class FileSource implements Source {
  readonly #file: Blob;
  readonly #toDatum: (row: unknown, line: number) => Datum;
  /** Of each row: where it begins and ends, in bytes, and the number of its line. */
  readonly #rows: { start: number; end: number; line: number }[] = [];

  constructor({ file, toDatum }: FileData) {
    this.#file = file;
    this.#toDatum = toDatum ?? ((row) => row as Datum);
  }

  async describe(): Promise<WireRunData> {
    this.#rows.length = 0;
    const all = new Fingerprint();
    const turns = new Turns();
    let at = 0;
    let line = 1;
    let start = 0;
    /** Lines without anything are no rows. */
    let blank = true;
    const ends = (end: number) => {
      if (!blank) this.#rows.push({ start, end, line });
      line += 1;
      start = end + 1;
      blank = true;
    };
    try {
      for await (const chunk of chunksOf(this.#file)) {
        for (let from = 0; from < chunk.length; from += PIECE) {
          const piece = chunk.subarray(from, from + PIECE);
          all.bytes(piece);
          for (let i = 0; i < piece.length; i++) {
            const byte = piece[i] as number;
            if (byte === NEWLINE) ends(at + i);
            else if (byte > SPACE) blank = false;
          }
          at += piece.length;
          await turns.taken();
        }
      }
    } finally {
      turns.end();
    }
    ends(at);
    if (this.#rows.length) await this.rows([0]);
    return { kind: "indexed", length: this.#rows.length, fingerprint: all.digest() };
  }

  rows(numbers: readonly number[]): Promise<WireDatum[]> {
    return Promise.all(numbers.map((number) => this.#row(number)));
  }

  async #row(number: number): Promise<WireDatum> {
    const place = this.#rows[number];
    if (!place) throw new DataMismatchError(`the file has ${this.#rows.length} rows and no row ${number}`);
    const { start, end, line } = place;
    let text: string;
    try {
      text = await this.#file.slice(start, end).text();
    } catch (cause) {
      throw new DataMismatchError(
        `the file can't be read any more (${wordsOf(cause)}): it was changed, moved or deleted. Open the run again with it`,
        { cause },
      );
    }
    let row: unknown;
    try {
      row = JSON.parse(text);
    } catch (cause) {
      const what = `it is not JSON (${wordsOf(cause)}): ${shown(text.trim())}`;
      throw new InvalidArgumentError(`line ${line}`, `line ${line} of the file can't be used: ${what}`, {
        cause,
      });
    }
    try {
      return wireDatum(this.#toDatum(row, line), "datum");
    } catch (cause) {
      throw new InvalidArgumentError(
        `line ${line}`,
        `line ${line} of the file can't be used: ${wordsOf(cause)}`,
        { cause },
      );
    }
  }

  stream(): never {
    throw notOfThisKind();
  }

  close(): void {}
}

/** What can be read again from a place. The iterator is kept from one question to the next that goes on behind it. */
class StreamSource implements Source {
  readonly #data: StreamData;
  #open: { iterator: AsyncIterator<StreamedDatum>; at: string | undefined } | undefined;

  constructor(data: StreamData) {
    this.#data = data;
  }

  describe(): Promise<WireRunData> {
    const { fingerprint } = this.#data;
    return Promise.resolve({ kind: "stream", ...(fingerprint !== undefined && { fingerprint }) });
  }

  rows(): never {
    throw notOfThisKind();
  }

  async stream(cursor: string | undefined, count: number): Promise<StreamedRows> {
    const kept = this.#open;
    // Nobody else may go on with it while this question is answered.
    this.#open = undefined;
    if (kept && kept.at !== cursor) letGo(kept.iterator);
    const iterator = kept?.at === cursor && kept ? kept.iterator : this.#begin(cursor);
    const rows: StreamedRows = { data: [], cursors: [], end: false };
    try {
      while (rows.data.length < count) {
        const next = await iterator.next();
        if (next.done) {
          rows.end = true;
          return rows;
        }
        const { datum, cursor: behind } = next.value;
        rows.data.push(wireDatum(datum, "datum"));
        rows.cursors.push(label(behind, "cursor"));
      }
    } catch (thrown) {
      letGo(iterator);
      throw thrown;
    }
    // A question that came meanwhile has one of its own.
    if (this.#open) letGo(iterator);
    else this.#open = { iterator, at: rows.cursors.at(-1) ?? cursor };
    return rows;
  }

  close(): void {
    if (this.#open) letGo(this.#open.iterator);
    this.#open = undefined;
  }

  #begin(cursor: string | undefined): AsyncIterator<StreamedDatum> {
    const rows = this.#data.open(cursor === undefined ? undefined : (JSON.parse(cursor) as Label));
    if (typeof rows?.[Symbol.asyncIterator] !== "function") {
      refuse("data.open()", rows, "to give an async iterable of { datum, cursor }");
    }
    return rows[Symbol.asyncIterator]();
  }
}

const NEWLINE = 10;
const SPACE = 32; // and what is below it: tabs, carriage returns
/** What is looked at between two looks at the clock. */
const PIECE = 2 ** 16; // bytes

async function* chunksOf(file: Blob): AsyncGenerator<Uint8Array> {
  const reader = (file.stream() as ReadableStream<Uint8Array>).getReader();
  try {
    for (let next = await reader.read(); !next.done; next = await reader.read()) yield next.value;
  } finally {
    reader.releaseLock();
  }
}

function addDatum(to: Fingerprint, { modelInput, lossFnInputs }: WireDatum): void {
  to.number(modelInput.length);
  for (const { tokens } of modelInput) to.number(tokens.length).bytes(tokens);
  for (const name of Object.keys(lossFnInputs).sort()) {
    const { dtype, shape, data } = lossFnInputs[name] as WireDatum["lossFnInputs"][string];
    to.text(`${name} ${dtype} ${shape.join()}`).bytes(data);
  }
}

/** Without waiting: an iterator that hangs, or throws on its way out, is nobody's concern any more. */
function letGo(iterator: AsyncIterator<unknown>): void {
  void Promise.resolve()
    .then(() => iterator.return?.())
    .catch(() => undefined);
}

/** Lets the page have its turn every few milliseconds. A timer would wait for a second where the page is hidden. */
class Turns {
  readonly #channel = typeof MessageChannel === "undefined" ? undefined : new MessageChannel();
  #since = performance.now();

  /** To be called often: mostly it gives nothing to wait for. */
  taken(): Promise<void> | undefined {
    if (performance.now() - this.#since < LONGEST_TURN) return undefined;
    return new Promise<void>((resolve) => {
      if (!this.#channel) return void setTimeout(resolve);
      this.#channel.port1.onmessage = () => resolve();
      this.#channel.port2.postMessage(undefined);
    }).then(() => void (this.#since = performance.now()));
  }

  end(): void {
    this.#channel?.port1.close();
  }
}

const LONGEST_TURN = 10; // ms; a task from 50 on is a long one

function notOfThisKind(): DataMismatchError {
  return new DataMismatchError("the run was started with data of another kind");
}

function wordsOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}
