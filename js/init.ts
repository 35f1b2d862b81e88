// Gets the WebAssembly, once, and makes its owner, and a Worker for it to live in where one is asked for. Nothing happens before `init()` is called: no entry has side effects.

import { bufferSource, choices, shown, urlLike, wasmModule, workerLike } from "./checks.js";
import { InitError, InvalidArgumentError, NotInitializedError } from "./errors.js";
import { createInstance } from "./instance.js";
import { LocalLife, wordsOf } from "./life.js";
import { type Begin, Owner } from "./owner.js";
import { isOnline, watchPage } from "./page-life.js";
import { Page } from "./page.js";
import type { InitOptions } from "./types.js";
import { Workers } from "./workers.js";
import { World } from "./world.js";

let started: Promise<void> | undefined;
/** What it was started with. */
let first: InitOptions = {};
let page: Page | undefined;

/**
 * Loads and starts the WebAssembly. To be awaited once before the first method; further calls give the same promise,
 * and after a failure the next one tries again. Without options it takes the file beside the package: by `fetch`, or
 * from the disk where the package is one's own. A runtime that can do neither is given the compiled `module`.
 *
 * Rejects with `InitError`, whose message says what to change, and with `InvalidArgumentError` where a further call asks for
 * something else than the first.
 */
export function init(options: InitOptions = {}): Promise<void> {
  if (started) return refuseOther(options) ?? started;
  first = options;
  started = start(options).catch((reason: unknown) => {
    started = undefined;
    throw reason;
  });
  return started;
}

function refuseOther(options: InitOptions): Promise<never> | undefined {
  for (const name of ["worker", "module", "url", "bytes"] as const) {
    const asked = plain(options[name]);
    if (asked === undefined || asked === (plain(first[name]) ?? false)) continue;
    const message =
      `init({ ${name}: ${shown(asked)} }) comes after an init() without it: all of a page shares one client, so make ` +
      "this the first call, or leave it out";
    return Promise.reject(new InvalidArgumentError(name, message));
  }
  return undefined;
}

/** Two URLs are two objects, and may be the same. */
function plain<T>(value: T | URL): T | string {
  return value instanceof URL ? value.href : value;
}

/** What all calls go through. Throws `NotInitializedError` before `init()` has resolved. */
export function pageFor(method: string): Page {
  if (!page) throw new NotInitializedError(method);
  return page;
}

async function start(given: InitOptions): Promise<void> {
  const { worker, ...options } = choices(given, {
    worker: workerLike,
    module: wasmModule,
    url: urlLike,
    bytes: bufferSource,
  });
  const [second] = Object.keys(options).slice(1);
  if (second) {
    throw new InvalidArgumentError(second, "init() takes one of `module`, `url` and `bytes`, not several");
  }
  const module = await moduleFrom(options);
  const made = new Page((message) => owner.post(message));
  const begin = worker ? await inWorker(worker, module, made) : onPage(module, made);
  let owner: Owner;
  try {
    owner = new Owner(
      begin,
      () => performance.now(),
      (message) => made.receive(message),
    );
  } catch (cause) {
    throw new InitError(
      `the WebAssembly did not start (${wordsOf(cause)}): the file and the package must be of one version`,
      cause,
    );
  }
  page = made;
  // For as long as there is the page.
  const hidden = () => made.hidden();
  const away = (kept: boolean) => {
    hidden();
    if (kept) owner.post({ type: "away" });
  };
  const wake = () => owner.post({ type: "wake", online: isOnline() });
  watchPage({ hidden, away, back: wake, network: wake });
  if (!isOnline()) wake();
}

function onPage(module: WebAssembly.Module, page: Page): Begin {
  const world = new World(page, (message) => page.receive(message));
  return (hear) => new LocalLife(module, createInstance, world, hear);
}

async function inWorker(worker: true | string | URL, module: WebAssembly.Module, page: Page): Promise<Begin> {
  const workers = await Workers.open(worker === true ? undefined : worker, module, page);
  return (hear) => workers.next(hear);
}

async function moduleFrom(options: Omit<InitOptions, "worker">): Promise<WebAssembly.Module> {
  if (options.module) return options.module;
  if (options.bytes) return compile(options.bytes, "the given bytes");
  const url = options.url ?? besideThePackage();
  const href = String(url);
  if (href.startsWith("file:")) return compile(await readFile(href), href);
  let response: Response;
  try {
    response = await fetch(href);
  } catch (cause) {
    throw new InitError(`${href} can't be fetched (${wordsOf(cause)}). ${OTHER_WAYS}`, cause);
  }
  if (!response.ok) throw new InitError(`${href} was answered with ${response.status}. ${OTHER_WAYS}`);
  if ("compileStreaming" in WebAssembly && isWasm(response.headers.get("content-type"))) {
    return compile(response, href);
  }
  // A server that doesn't know the type: the bytes are as good, and say whether they are WebAssembly at all.
  return compile(await response.arrayBuffer(), href);
}

async function compile(source: Response | BufferSource, from: string): Promise<WebAssembly.Module> {
  try {
    if (source instanceof Response) return await WebAssembly.compileStreaming(source);
    const whole = ArrayBuffer.isView(source)
      ? new Uint8Array(source.buffer, source.byteOffset, source.byteLength)
      : new Uint8Array(source);
    const head = new TextDecoder().decode(whole.slice(0, 64));
    if (!head.startsWith("\0asm")) {
      const fix = head.trimStart().startsWith("<") ? HTML : OTHER_WAYS;
      throw new InitError(`${from} is not WebAssembly. ${fix}`);
    }
    return await WebAssembly.compile(source);
  } catch (cause) {
    if (cause instanceof InitError) throw cause;
    const why = wordsOf(cause);
    const fix = /unsafe-eval|Security Policy|CSP/i.test(why) ? CSP : OTHER_WAYS;
    throw new InitError(`${from} can't be compiled (${why}). ${fix}`, cause);
  }
}

/** Written so that bundlers see it and bring the file along. */
function besideThePackage(): URL {
  try {
    return new URL("./tinkex_bg.wasm", import.meta.url);
  } catch (cause) {
    throw new InitError(`this runtime does not say where the package is. ${OTHER_WAYS}`, cause);
  }
}

async function readFile(href: string): Promise<BufferSource> {
  // By a name that bundlers for browsers don't follow; only runtimes with files come here.
  const fs = "node:fs/promises";
  try {
    const { readFile } = (await import(/* @vite-ignore */ /* webpackIgnore: true */ fs)) as {
      readFile(this: void, url: URL): Promise<Uint8Array<ArrayBuffer>>;
    };
    return await readFile(new URL(href));
  } catch (cause) {
    throw new InitError(`${href} can't be read (${wordsOf(cause)}). ${OTHER_WAYS}`, cause);
  }
}

const OTHER_WAYS =
  "Say where the package's tinkex_bg.wasm is, with init({ url }), or give it, with init({ bytes }) or init({ module })";
const HTML =
  "It is HTML: a server answers so for a file that it doesn't have. With Vite, add " +
  'optimizeDeps: { exclude: ["tinkex"] } to vite.config; else say where the file is, with init({ url })';
const CSP = "The page's Content-Security-Policy needs 'wasm-unsafe-eval' in script-src";

function isWasm(contentType: string | null): boolean {
  return contentType?.startsWith("application/wasm") ?? false;
}
