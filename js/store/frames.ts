// How a file holds batches: one frame each, with its length and a checksum, so that one that was not written to its end,
// or was damaged later, is known as such.

import type { Records } from "./memory.js";
import type { StoreOp } from "./store.js";

/** The form of what is written. Higher ones are left to the versions of this package that know them. */
export const FORM = 1;

/** What a frame says in words; the bytes of its puts come behind them, in their order. */
interface Words {
  /** The first frame of a file has these two. */
  form?: number;
  counted?: Counted;
  fences?: Fences;
  ops?: ([type: "put", key: string, bytes: number] | [type: "delete" | "deletePrefix", key: string])[];
}

export type Fences = readonly (readonly [fence: string, epoch: number])[];

/** How many bytes of earlier files count: what is behind them was appended too late. */
export type Counted = [file: number, bytes: number][];

/** Four bytes each: where a frame begins, its length, its checksum. */
const HEAD = 12;
const BEGIN = 0x316b6e74; // "tnk1"

export function frame({
  ops = [],
  ...words
}: Omit<Words, "ops"> & { ops?: readonly StoreOp[] }): Uint8Array<ArrayBuffer> {
  const values = ops.flatMap((op) => (op.type === "put" ? [op.value] : []));
  const said: Words = {
    ...words,
    ops: ops.map((op) => (op.type === "put" ? [op.type, op.key, op.value.length] : [op.type, op.key])),
  };
  const json = new TextEncoder().encode(JSON.stringify(said));
  const length = 4 + json.length + values.reduce((sum, value) => sum + value.length, 0);
  const bytes = new Uint8Array(HEAD + length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, BEGIN, true);
  view.setUint32(4, length, true);
  view.setUint32(HEAD, json.length, true);
  bytes.set(json, HEAD + 4);
  let at = HEAD + 4 + json.length;
  for (const value of values) {
    bytes.set(value, at);
    at += value.length;
  }
  view.setUint32(8, checksum(bytes.subarray(HEAD)), true);
  return bytes;
}

/** All that is known after the frames of a file. */
export interface Replayed {
  form: number;
  counted: Counted;
  /** Where the last whole frame ends. */
  length: number;
  /** Whether there was one that is not whole, and not merely the last. */
  damaged: boolean;
}

/**
 * Applies the frames to the records. A last one that was not written to its end is as if it never was. One that is
 * damaged, with whole ones behind it, is left out: each was committed, and the fewest are lost so. Of a file of a higher
 * form nothing is read.
 */
export function replay(bytes: Uint8Array, records: Records): Replayed {
  const replayed: Replayed = { form: FORM, counted: [], length: 0, damaged: false };
  for (let at = wholeFrom(bytes, 0); at !== undefined; at = wholeFrom(bytes, replayed.length)) {
    replayed.damaged ||= at > replayed.length;
    replayed.length = at + HEAD + new DataView(bytes.buffer, bytes.byteOffset + at).getUint32(4, true);
    const payload = bytes.subarray(at + HEAD, replayed.length);
    let value = 4 + new DataView(payload.buffer, payload.byteOffset).getUint32(0, true);
    const words = JSON.parse(new TextDecoder().decode(payload.subarray(4, value))) as Words;
    replayed.form = words.form ?? replayed.form;
    if (replayed.form > FORM) break;
    replayed.counted = words.counted ?? replayed.counted;
    const ops = words.ops?.map(([type, key, bytes]): StoreOp => {
      return type === "put" ? { type, key, value: payload.slice(value, (value += bytes)) } : { type, key };
    });
    records.take(words.fences, ops);
  }
  return replayed;
}

/** Where the next whole frame begins, at `from` or behind it. */
function wholeFrom(bytes: Uint8Array, from: number): number | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = from; at + HEAD <= bytes.length; at++) {
    if (view.getUint32(at, true) !== BEGIN) continue;
    const length = view.getUint32(at + 4, true);
    const end = at + HEAD + length;
    // Of no bytes the checksum is 0, and so is what was never written.
    if (!length || end > bytes.length) continue;
    if (view.getUint32(at + 8, true) === checksum(bytes.subarray(at + HEAD, end))) return at;
  }
  return undefined;
}

/** CRC-32, as zip has it. */
function checksum(bytes: Uint8Array): number {
  let sum = -1;
  for (const byte of bytes) sum = (sum >>> 8) ^ (TABLE[(sum ^ byte) & 0xff] as number);
  return ~sum >>> 0;
}
const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  for (let bit = 0; bit < 8; bit++) byte = (byte >>> 1) ^ (byte & 1 && 0xedb88320);
  return byte;
});
