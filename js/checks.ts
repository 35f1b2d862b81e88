// Arguments are checked where they come in: past these functions a value is what its type says. Each check gives the
// value back, or throws an `InvalidArgumentError` that names the field and says what it takes.

import { InvalidArgumentError } from "./errors.js";

/** `field` is the way to the value as the caller wrote it: `samplingParams.topK`. */
export type Check<T> = (value: unknown, field: string) => T;

/** Throws; `takes` ends the sentence "… it takes". */
export function refuse(field: string, value: unknown, takes: string): never {
  throw new InvalidArgumentError(field, `${field} is ${shown(value)}: it takes ${takes}`);
}

/**
 * An options object: every name known, every value checked. A name that is undefined counts as left out. The compiler
 * asks for a check of each name that the type of `given` has.
 */
export function choices<T extends object, C extends Record<keyof T | string, Check<unknown>>>(
  given: T,
  checks: C & Record<keyof T, unknown>,
  at = "",
): { -readonly [K in keyof C]?: ReturnType<C[K]> } {
  const names = Object.keys(checks);
  if (typeof given !== "object" || given === null || Array.isArray(given)) {
    refuse(at || "options", given, `an object with ${listed(names)}`);
  }
  const checked: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(given)) {
    const field = at ? `${at}.${name}` : name;
    const check = Object.hasOwn(checks, name) ? checks[name] : undefined;
    if (!check) {
      const meant = names.find((known) => plain(known) === plain(name));
      const hint = meant ? `did you mean ${meant}?` : `there are ${listed(names)}`;
      throw new InvalidArgumentError(field, `${field} is not known here: ${hint}`);
    }
    if (value !== undefined) checked[name] = check(value, field);
  }
  return checked as { [K in keyof C]?: ReturnType<C[K]> };
}

export function integer(least: number, most: number): Check<number> {
  return (value, field) =>
    Number.isInteger(value) && inside(value as number, least, most)
      ? (value as number)
      : refuse(field, value, `an integer from ${least} to ${most}`);
}

/** A finite number. `most` itself is left out where `open`. */
export function number(least: number, most = Infinity, open = false): Check<number> {
  const takes =
    most === Infinity
      ? `a finite number, at least ${least}`
      : `a number from ${least} to ${open ? "below " : ""}${most}`;
  return (value, field) =>
    Number.isFinite(value) && inside(value as number, least, most) && !(open && value === most)
      ? (value as number)
      : refuse(field, value, takes);
}

export const boolean: Check<boolean> = (value, field) =>
  typeof value === "boolean" ? value : refuse(field, value, "true or false");

/** Text that is not empty. */
export const text: Check<string> = (value, field) =>
  typeof value === "string" && value !== "" ? value : refuse(field, value, "a string that is not empty");

export const texts: Check<string[]> = (value, field) =>
  Array.isArray(value)
    ? value.map((each, i) => text(each, `${field}[${i}]`))
    : refuse(field, value, "an array of strings");

export const metadata: Check<Record<string, string>> = (value, field) =>
  record(value, field, "an object of strings", (each, at) =>
    typeof each === "string" ? each : refuse(at, each, "a string"),
  );

export const numbersOrTexts: Check<Record<string, number | string>> = (value, field) =>
  record(value, field, "an object of numbers and strings", (each, at) =>
    typeof each === "string" || Number.isFinite(each)
      ? (each as number | string)
      : refuse(at, each, "a finite number or a string"),
  );

/** `tinker://…`, the path of a checkpoint. */
export const checkpoint: Check<string> = (value, field) =>
  typeof value === "string" && value.startsWith("tinker://")
    ? value
    : refuse(field, value, "a checkpoint's path, which begins with tinker://");

const LONGEST_LABEL = 1_000; // characters: a name for a call, and no place for its data

/** What JSON can hold, as its text. */
export const label: Check<string> = (value, field) => {
  let json: unknown;
  try {
    json = JSON.stringify(value);
  } catch {
    // A circle, or a BigInt.
  }
  return typeof json === "string" && json.length <= LONGEST_LABEL
    ? json
    : refuse(field, value, `what JSON can hold, in ${LONGEST_LABEL} characters`);
};

export const signal: Check<AbortSignal> = (value, field) =>
  typeof (value as AbortSignal | null)?.addEventListener === "function" && "aborted" in (value as object)
    ? (value as AbortSignal)
    : refuse(field, value, "an AbortSignal");

/** A function; its own type is for TypeScript to hold. */
export const fetchLike: Check<typeof globalThis.fetch> = (value, field) =>
  typeof value === "function"
    ? (value as typeof globalThis.fetch)
    : refuse(field, value, "a function like fetch");

export const wasmModule: Check<WebAssembly.Module> = (value, field) =>
  value instanceof WebAssembly.Module ? value : refuse(field, value, "a WebAssembly.Module");

export const urlLike: Check<string | URL> = (value, field) =>
  value instanceof URL ? value : text(value, field);

/** Whether, or where its file is. */
export const workerLike: Check<boolean | string | URL> = (value, field) =>
  typeof value === "boolean" || value instanceof URL || (typeof value === "string" && value !== "")
    ? value
    : refuse(field, value, "true, or where the package's worker.js is");

export const bufferSource: Check<BufferSource> = (value, field) =>
  value instanceof ArrayBuffer || ArrayBuffer.isView(value)
    ? (value as BufferSource)
    : refuse(field, value, "an ArrayBuffer or a view of one");

/** Whether it is an object with names, of which a caller may have meant options. */
export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !ArrayBuffer.isView(value);
}

/** A value as a message shows it: short, and of an object only what it is. */
export function shown(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value);
  if (Array.isArray(value)) return value.length ? "an array" : "an empty array";
  if (typeof value === "object" && value !== null) return `a ${value.constructor?.name ?? "value"}`;
  return typeof value === "function" ? "a function" : String(value);
}

function record<T>(value: unknown, field: string, takes: string, each: Check<T>): Record<string, T> {
  if (!isRecord(value)) refuse(field, value, takes);
  return Object.fromEntries(
    Object.entries(value).map(([name, one]) => [name, each(one, `${field}.${name}`)]),
  );
}

function inside(value: number, least: number, most: number): boolean {
  return value >= least && value <= most;
}

/** How a name reads whatever its spelling: `base_url` and `baseUrl` as `baseURL`. */
function plain(name: string): string {
  return name.replaceAll("_", "").toLowerCase();
}

function listed(names: readonly string[]): string {
  return names.join(", ");
}
