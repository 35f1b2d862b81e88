// Arrays of numbers to bytes and back. Going in they are copied, so that a caller may change its array right after the
// call. The bytes are the machine's own order, which is little-endian wherever WebAssembly runs in practice.

import { refuse } from "./checks.js";

/** The largest token id that fits the wire. */
export const LAST_TOKEN = 2 ** 31 - 1;

type List = ArrayLike<unknown>;

/** An array or a typed array, whatever is in it. */
export function list(value: unknown, field: string): List {
  if (Array.isArray(value) || (ArrayBuffer.isView(value) && !(value instanceof DataView))) {
    return value as unknown as List;
  }
  const text = typeof value === "string" ? " (encode text with the model's tokenizer first)" : "";
  refuse(field, value, `an array or a typed array of numbers${text}`);
}

/** Token ids as int32. */
export function tokensToBytes(from: List, field: string): Uint8Array {
  const to = new Int32Array(from.length);
  for (let i = 0; i < from.length; i++) to[i] = token(from[i], field, i);
  return new Uint8Array(to.buffer);
}

/** Token ids as int64, which is what the service has targets as. */
export function targetsToBytes(from: List, field: string): Uint8Array {
  return int64sToBytes(from, field, (value, i) => token(value, field, i));
}

/** Any integers as int64: of numbers those that are exact, and of bigints those that fit. */
export function int64sToBytes(
  from: List,
  field: string,
  check: (value: unknown, i: number) => number | bigint = (value, i) => wide(value, field, i),
): Uint8Array {
  const to = new Int32Array(2 * from.length);
  for (let i = 0; i < from.length; i++) {
    const value = check(from[i], i);
    if (typeof value === "bigint") {
      to[2 * i] = Number(BigInt.asIntN(32, value));
      to[2 * i + 1] = Number(value >> 32n);
    } else {
      to[2 * i] = value | 0;
      to[2 * i + 1] = Math.floor(value / 2 ** 32);
    }
  }
  return new Uint8Array(to.buffer);
}

/** Finite numbers as float32, rounded to it. */
export function float32sToBytes(from: List, field: string): Uint8Array {
  const to = new Float32Array(from.length);
  for (let i = 0; i < from.length; i++) {
    const value = from[i];
    to[i] = typeof value === "bigint" ? Number(value) : typeof value === "number" ? value : NaN;
    if (!Number.isFinite(to[i])) refuse(`${field}[${i}]`, value, "a finite number within float32");
  }
  return new Uint8Array(to.buffer);
}

/** Views of bytes that have a buffer of their own, as all have that come from the instance. */
export function int32s({ buffer }: Uint8Array): Int32Array {
  return new Int32Array(buffer);
}

export function float32s({ buffer }: Uint8Array): Float32Array {
  return new Float32Array(buffer);
}

export function int64s({ buffer }: Uint8Array): BigInt64Array {
  return new BigInt64Array(buffer);
}

function token(value: unknown, field: string, i: number): number {
  const id = typeof value === "bigint" ? Number(value) : value;
  if (Number.isInteger(id) && (id as number) >= 0 && (id as number) <= LAST_TOKEN) return id as number;
  refuse(`${field}[${i}]`, value, `a token id: an integer from 0 to ${LAST_TOKEN}`);
}

function wide(value: unknown, field: string, i: number): number | bigint {
  if (Number.isSafeInteger(value)) return value as number;
  if (typeof value === "bigint" && BigInt.asIntN(64, value) === value) return value;
  refuse(`${field}[${i}]`, value, "an integer: of a number up to 2^53 - 1, of a bigint up to 64 bits");
}
