// The package's classes on an instance that tests play themselves: js/ compiled into a folder of its own, so that each
// copy has its own state, beside a glue that gives what the test says.
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { buildSync, transformSync } from "esbuild";

const js = fileURLToPath(new URL("../../js/", import.meta.url));

const source = transformSync(readFileSync(join(js, "plain.ts"), "utf8"), { loader: "ts" }).code;
/** Instances speak in bytes, tests in what they stand for. */
export const { encode, decode } = await import(
  `data:text/javascript;base64,${Buffer.from(source).toString("base64")}`
);

const folders = [];
process.once("exit", () => folders.forEach((folder) => rmSync(folder, { recursive: true, force: true })));

const module = (...sections) => Uint8Array.of(0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, ...sections.flat());
const name = (text) => [text.length, ...Buffer.from(text)];
const section = (id, ...bytes) => [id, bytes.flat().length, ...bytes.flat()];

/** The first file, as small as it gets: it exports its memory under the name of its build, of 5 letters. */
export const firstFile = (build) => module(section(5, 1, 0, 1), section(7, 1, name(build), 2, 0));

/** A second file, which is of that build. */
export const secondFile = (build) => module(section(2, 1, name("first"), name(build), 2, 0, 1));

export const WASM = firstFile("built");
export const SECOND = secondFile("built");

/** A key that looks like one. */
export const KEY = "tml-a-secret-of-somebody";

/**
 * A copy of the package that nothing has touched yet. `load(name)` imports one of its modules; `instances` are the ones
 * that were made, the newest last, and `onInstance` may spoil one before it starts.
 */
export function freshCopy() {
  const folder = mkdtempSync(join(tmpdir(), "tinkex-js-"));
  folders.push(folder);
  buildSync({
    entryPoints: readdirSync(js, { recursive: true })
      .filter((name) => name.endsWith(".ts") && !name.endsWith(".d.ts"))
      .map((name) => join(js, name)),
    outdir: folder,
    outbase: js,
    format: "esm",
    target: "es2022",
  });
  const stubs = (globalThis.tinkexStubs ??= new Map());
  writeFileSync(join(folder, "package.json"), '{ "type": "module" }');
  writeFileSync(
    join(folder, "instance.js"),
    `export const createInstance = (...given) => globalThis.tinkexStubs.get(${JSON.stringify(folder)})(...given);`,
  );
  const copy = {
    folder,
    instances: [],
    onInstance() {},
    createInstance(host, globals) {
      const instance = new StubInstance(host, globals);
      copy.instances.push(instance);
      copy.onInstance(instance);
      return instance;
    },
    /** The living instance. */
    get instance() {
      return copy.instances.at(-1);
    },
    load: (name) => import(pathToFileURL(join(folder, `${name}.js`)).href),
  };
  stubs.set(folder, copy.createInstance);
  return copy;
}

/** A copy that is initialized, with both files, and with a service. */
export async function startedCopy(options = {}) {
  const copy = freshCopy();
  const tinkex = await copy.load("index");
  await tinkex.init({ bytes: WASM, deferred: { bytes: SECOND } });
  await (await copy.load("init")).loadRuns("a test");
  const service = new tinkex.ServiceClient({
    apiKey: KEY,
    baseURL: "http://127.0.0.1:1",
    logger: silent,
    ...options,
  });
  return Object.assign(copy, { tinkex, service });
}

/** The same, with a training client. */
export async function trainingCopy(options) {
  const copy = await startedCopy(options);
  const made = copy.service.createLoraTrainingClient("model");
  copy.instance.settle({ client: 1, modelId: "session:train:0", pending: [] });
  return Object.assign(copy, { training: await made });
}

export const silent = { debug() {}, info() {}, warn() {}, error() {} };

/** Notes what it is asked; a test answers in its place. */
class StubInstance {
  opened = [];
  calls = [];
  cancelled = [];
  ends = [];
  watched = [];
  woken = [];
  seenKeys = [];
  /** What the page has said to runs, as [key, message]. */
  toRuns = [];
  hides = 0;
  /** The second file, and how many services were open before it came. */
  extension = undefined;

  constructor(host, globals) {
    this.host = host;
    this.globals = globals;
  }

  begin(module) {
    this.module = module;
  }

  provide_deferred(module) {
    this.extension = { module, openedBefore: this.opened.length };
  }

  tell(bytes) {
    const { type, ...message } = decode(bytes);
    this[type](message);
  }

  open({ service, options }) {
    this.opened.push({ service, options });
  }

  call({ key, service, client, method, args }) {
    this.calls.push({ key, service, client, method, args });
  }

  cancel({ key }) {
    this.cancelled.push(key);
  }

  ended({ key, failure }) {
    this.ends.push([key, failure]);
  }

  toRun({ key, message }) {
    this.toRuns.push([key, message]);
  }

  supervision() {
    return this.rows;
  }

  watch({ service, on }) {
    this.watched.push([service, on]);
  }

  wake({ online }) {
    this.woken.push(online);
  }

  seen({ key }) {
    this.seenKeys.push(key);
  }

  hidden() {
    this.hides += 1;
  }

  get lastCall() {
    return this.calls.at(-1);
  }

  /** Answers a call, the last one unless it is named. */
  settle(value, { key } = this.lastCall) {
    this.host.settle(key, encode(value));
  }

  fail(failure, { key } = this.lastCall) {
    this.host.fail(key, encode({ message: "it failed", outcome: "unknown", retryable: false, ...failure }));
  }

  /** Asks for a page, as Rust does. What comes is bytes. */
  fetch(url, { signal } = new AbortController()) {
    return this.host.fetch(1, encode({ method: "GET", url, headers: {} }), signal);
  }

  /** From now on every call traps. */
  trapOnCall() {
    this.call = trap;
  }

  /** Traps by itself. Resolves when it has, before there is another one. */
  die() {
    return new Promise((resolve) => {
      this.globals.queueMicrotask(() => {
        resolve();
        trap();
      });
    });
  }
}

function trap() {
  throw new WebAssembly.RuntimeError("unreachable");
}

/** Lets everything run that is due now: microtasks, and what they start. */
export const turn = () => new Promise((resolve) => setImmediate(resolve));
