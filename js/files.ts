// The package's files that are not there from the start: WebAssembly, given, fetched or read from the disk, and modules that
// few pages need. In every error stands what to do instead.

import { bufferSource, type Check, choices, isRecord, refuse, urlLike, wasmModule } from "./checks.js";
import { InitError, InvalidArgumentError } from "./errors.js";
import { wordsOf } from "./life.js";
import type { WasmSource } from "./types.js";

export const sourceChecks = { module: wasmModule, url: urlLike, bytes: bufferSource };

export const wasmSource: Check<WasmSource> = (value, field) => {
  const source = isRecord(value) ? choices(value as WasmSource, sourceChecks, field) : {};
  // A URL or a module itself is an object with no names.
  if (Object.keys(source).length === 0) refuse(field, value, "an object with module, url or bytes");
  return oneOf(source, field);
};

/** `at`: the option that it is, if it is not the options themselves. */
export function oneOf(source: WasmSource, at = ""): WasmSource {
  const [second] = Object.keys(source).slice(1);
  if (second) {
    throw new InvalidArgumentError(
      at ? `${at}.${second}` : second,
      `${at || "init()"} takes one of \`module\`, \`url\` and \`bytes\`, not several`,
    );
  }
  return source;
}

/** A module of the package. Rejects with an `InitError`. */
export async function part<T>(name: string, load: () => Promise<T>): Promise<T> {
  try {
    return await load();
  } catch (cause) {
    const fix = "it is beside the package's other files, and a page needs its network for it the first time";
    throw new InitError(`${name} can't be loaded (${wordsOf(cause)}): ${fix}`, cause);
  }
}

/** A file of WebAssembly. */
export interface WasmFile {
  /** Where it is when nobody says. Throws where the runtime doesn't know. */
  beside: () => URL;
  /** How else to get it: the last sentence of an error. */
  otherwise: string;
}

/** Rejects with an `InitError`. */
export async function moduleFrom(source: WasmSource, file: WasmFile): Promise<WebAssembly.Module> {
  const { otherwise } = file;
  if (source.module) return source.module;
  if (source.bytes) return compile(source.bytes, "the given bytes", otherwise);
  const href = String(source.url ?? beside(file));
  if (href.startsWith("file:")) return compile(await readFile(href, otherwise), href, otherwise);
  let response: Response;
  try {
    response = await fetch(href);
  } catch (cause) {
    throw new InitError(`${href} can't be fetched (${wordsOf(cause)}). ${otherwise}`, cause);
  }
  if (!response.ok) throw new InitError(`${href} was answered with ${response.status}. ${otherwise}`);
  if ("compileStreaming" in WebAssembly && isWasm(response.headers.get("content-type"))) {
    return compile(response, href, otherwise);
  }
  // A server that doesn't know the type: the bytes are as good, and say whether they are WebAssembly at all.
  return compile(await response.arrayBuffer(), href, otherwise);
}

function beside({ beside, otherwise }: WasmFile): URL {
  try {
    return beside();
  } catch (cause) {
    throw new InitError(`this runtime does not say where the package is. ${otherwise}`, cause);
  }
}

async function compile(
  source: Response | BufferSource,
  from: string,
  otherwise: string,
): Promise<WebAssembly.Module> {
  try {
    if (source instanceof Response) return await WebAssembly.compileStreaming(source);
    const whole = ArrayBuffer.isView(source)
      ? new Uint8Array(source.buffer, source.byteOffset, source.byteLength)
      : new Uint8Array(source);
    const head = new TextDecoder().decode(whole.slice(0, 64));
    if (!head.startsWith("\0asm")) {
      const fix = head.trimStart().startsWith("<") ? `${HTML}. ${otherwise}` : otherwise;
      throw new InitError(`${from} is not WebAssembly. ${fix}`);
    }
    return await WebAssembly.compile(source);
  } catch (cause) {
    if (cause instanceof InitError) throw cause;
    const why = wordsOf(cause);
    const fix = /unsafe-eval|Security Policy|CSP/i.test(why) ? CSP : otherwise;
    throw new InitError(`${from} can't be compiled (${why}). ${fix}`, cause);
  }
}

async function readFile(href: string, otherwise: string): Promise<BufferSource> {
  // By a name that bundlers for browsers don't follow; only runtimes with files come here.
  const fs = "node:fs/promises";
  try {
    const { readFile } = (await import(/* @vite-ignore */ /* webpackIgnore: true */ fs)) as {
      readFile(this: void, url: URL): Promise<Uint8Array<ArrayBuffer>>;
    };
    return await readFile(new URL(href));
  } catch (cause) {
    throw new InitError(`${href} can't be read (${wordsOf(cause)}). ${otherwise}`, cause);
  }
}

const HTML =
  "It is HTML: a server answers so for a file that it doesn't have. With Vite, add " +
  'optimizeDeps: { exclude: ["tinkex"] } to vite.config';
const CSP = "The page's Content-Security-Policy needs 'wasm-unsafe-eval' in script-src";

function isWasm(contentType: string | null): boolean {
  return contentType?.startsWith("application/wasm") ?? false;
}
