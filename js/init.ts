// Gets the WebAssembly, once, and makes its owner, and a Worker for it to live in where one is asked for. Nothing happens before `init()` is called: no entry has side effects.

import { choices, shown, workerLike } from "./checks.js";
import { InitError, InvalidArgumentError, NotInitializedError } from "./errors.js";
import { moduleFrom, oneOf, part, sourceChecks, type WasmFile, wasmSource } from "./files.js";
import { createInstance } from "./instance.js";
import { LocalLife, wordsOf } from "./life.js";
import { type Begin, Owner } from "./owner.js";
import { isOnline, watchPage } from "./page-life.js";
import { Page } from "./page.js";
import type { InitOptions, WasmSource } from "./types.js";
import { World } from "./world.js";

let started: Promise<void> | undefined;
/** What it was started with. */
let first: InitOptions = {};
let page: Page | undefined;
let owner: Owner | undefined;
let runs: Promise<RunsCode> | undefined;

type RunsCode = typeof import("./run.js");

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
  const before = named(first);
  for (const [name, asked] of Object.entries(named(options))) {
    if (asked === undefined || asked === (before[name] ?? false)) continue;
    const message =
      `init() with ${name}: ${shown(asked)} comes after an init() without it: all of a page shares one client, so make ` +
      "this the first call, or leave it out";
    return Promise.reject(new InvalidArgumentError(name, message));
  }
  return undefined;
}

/** Each option by its name. Two URLs are two objects, and may be the same. */
function named({ deferred, ...options }: InitOptions): Record<string, unknown> {
  const ofSecond = Object.entries(deferred ?? {}).map(
    ([name, value]) => [`deferred.${name}`, value] as const,
  );
  const all = [...Object.entries(options), ...ofSecond];
  return Object.fromEntries(all.map(([name, value]) => [name, value instanceof URL ? value.href : value]));
}

/**
 * Loads what training runs need beyond `init()`, once; after a failure the next call tries again. Rejects with `InitError`,
 * and with `NotInitializedError` before `init()` has resolved.
 */
export async function loadRuns(method: string): Promise<RunsCode> {
  if (!owner) throw new NotInitializedError(method);
  runs ??= Promise.all([part("run.js", () => import("./run.js")), owner.bring()]).then(
    ([code]) => code,
    (reason: unknown) => {
      runs = undefined;
      throw reason;
    },
  );
  return runs;
}

/** What all calls go through. Throws `NotInitializedError` before `init()` has resolved. */
export function pageFor(method: string): Page {
  if (!page) throw new NotInitializedError(method);
  return page;
}

async function start(given: InitOptions): Promise<void> {
  const { worker, deferred, ...source } = choices(given, {
    worker: workerLike,
    deferred: wasmSource,
    ...sourceChecks,
  });
  const module = await moduleFrom(oneOf(source), FIRST);
  const second = async () => {
    const second = await moduleFrom(deferred ?? besideOf(source), SECOND);
    checkFit(module, second);
    return second;
  };
  const made = new Page((message) => began.post(message));
  const begin = worker ? await inWorker(worker, module, made) : onPage(module, made);
  let began: Owner;
  try {
    began = new Owner(
      begin,
      second,
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
  owner = began;
  // For as long as there is the page.
  const hidden = () => made.hidden();
  const away = (kept: boolean) => {
    hidden();
    if (kept) began.post({ type: "away" });
  };
  const wake = () => began.post({ type: "wake", online: isOnline() });
  watchPage({ hidden, away, back: wake, network: wake });
  if (!isOnline()) wake();
}

function onPage(module: WebAssembly.Module, page: Page): Begin {
  const world = new World(page, (message) => page.receive(message));
  return (hear) => new LocalLife(module, createInstance, world, hear);
}

async function inWorker(worker: true | string | URL, module: WebAssembly.Module, page: Page): Promise<Begin> {
  const { Workers } = await part("workers.js", () => import("./workers.js"));
  const workers = await Workers.open(worker === true ? undefined : worker, module, page);
  return (hear) => workers.next(hear);
}

/** The second file is where the first one is said to be. */
function besideOf({ url }: WasmSource): WasmSource {
  return url === undefined ? {} : { url: String(url).replace(/[^/]*$/, "tinkex_deferred_bg.wasm") };
}

/** The second file imports the memory by a name that only the first file of its own build has. */
function checkFit(first: WebAssembly.Module, second: WebAssembly.Module): void {
  const memory = WebAssembly.Module.imports(second).find(({ kind }) => kind === "memory");
  if (memory && WebAssembly.Module.exports(first).some(({ name }) => name === memory.name)) return;
  throw new InitError(
    "tinkex_deferred_bg.wasm is not of the version of tinkex_bg.wasm that is running: take both from one version of the " +
      "package. A page that was open while it was updated is right after a reload",
  );
}

// The URLs are written so that bundlers see them and bring the files along.

const FIRST: WasmFile = {
  beside: () => new URL("./tinkex_bg.wasm", import.meta.url),
  otherwise:
    "Say where the package's tinkex_bg.wasm is, with init({ url }), or give it, with init({ bytes }) or init({ module })",
};

const SECOND: WasmFile = {
  beside: () => new URL("./tinkex_deferred_bg.wasm", import.meta.url),
  otherwise:
    "What was asked for needs the package's tinkex_deferred_bg.wasm: say where it is, with init({ deferred: { url } }), or " +
    "give it, with init({ deferred: { bytes } }) or init({ deferred: { module } })",
};
