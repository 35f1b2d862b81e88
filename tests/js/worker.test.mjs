// The client in a worker: the classes don't see a difference, what can't cross is met, and a worker that fails says what to
// do or is replaced. The worker here is its file, run in this thread behind a real port.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import { pathToFileURL } from "node:url";
import { encode, freshCopy, KEY, silent, turn, SECOND, WASM } from "./stub.mjs";

after(() => delete globalThis.Worker);

/** A copy whose workers the test has: `workers`, the newest last. */
function workerCopy({ onWorker = () => {} } = {}) {
  const copy = freshCopy();
  copy.workers = [];
  globalThis.Worker = class {
    constructor(url, options) {
      Object.assign(this, { url: String(url), options, sent: [] });
      copy.workers.push(this);
      onWorker(this);
      this.loaded = this.load();
    }

    /** Its global scope is this one, for as long as its file is read. */
    async load() {
      const heard = [];
      globalThis.addEventListener = (_type, listener) => heard.push(listener);
      const file = join(copy.folder, "worker.js");
      if (this.broken) return;
      readFileSync(file);
      await import(`${pathToFileURL(file).href}?${copy.workers.length}`);
      delete globalThis.addEventListener;
      this.listener = heard[0];
      for (const data of this.sent.splice(0)) this.listener({ data });
    }

    postMessage(data, transfer) {
      assert.deepEqual(transfer, [data.port]);
      this.port = data.port;
      if (this.listener) this.listener({ data });
      else this.sent.push(data);
    }

    terminate() {
      this.terminated = true;
      this.port?.close();
    }
  };
  return copy;
}

/** No worker is made in the place of those that end now. */
async function end({ workers }) {
  globalThis.Worker = class {
    constructor() {
      throw new Error("the test is over");
    }
  };
  workers.forEach((worker) => worker.terminate());
  await delivered();
}

async function started(t) {
  const copy = workerCopy();
  t.after(() => end(copy));
  const tinkex = await copy.load("index");
  await tinkex.init({ bytes: WASM, worker: true, deferred: { bytes: SECOND } });
  await (await copy.load("init")).loadRuns("a test");
  const service = new tinkex.ServiceClient({ apiKey: KEY, baseURL: "http://127.0.0.1:1", logger: silent });
  return Object.assign(copy, { tinkex, service });
}

/** What was posted is there. */
async function delivered() {
  for (let i = 0; i < 4; i += 1) await turn();
}

async function training(copy) {
  const made = copy.service.createLoraTrainingClient("model");
  await delivered();
  copy.instance.settle({ client: 1, modelId: "session:train:0", pending: [] });
  return made;
}

test("calls reach the instance in their order, and their results come back as typed arrays", async (t) => {
  const copy = await started(t);
  assert.equal(copy.workers.length, 1);
  assert.match(copy.workers[0].url, /\/worker\.js$/);
  assert.deepEqual(copy.workers[0].options, { type: "module" });
  const client = await training(copy);
  const tokens = Int32Array.of(1, 2, 3);
  const results = [1, 2].map(() =>
    client.forwardBackward(
      [{ modelInput: tokens, lossFnInputs: { targetTokens: [2, 3, 4] } }],
      "cross_entropy",
    ),
  );
  results.push(client.optimStep());
  await delivered();
  const calls = copy.instance.calls.slice(-3);
  assert.deepEqual(
    calls.map(({ method, client }) => [method, client]),
    [
      ["forwardBackward", 1],
      ["forwardBackward", 1],
      ["optimStep", 1],
    ],
  );
  assert.deepEqual(new Int32Array(calls[0].args.data[0].modelInput[0].tokens.slice().buffer), tokens);
  assert.equal(tokens.length, 3, "the caller's own array is left alone");
  const logprobs = { dtype: "float32", shape: [1], data: new Uint8Array(Float32Array.of(-1.5).buffer) };
  const answer = { lossFnOutputType: "x", lossFnOutputs: [{ logprobs }], metrics: { "loss:sum": 1 } };
  for (const call of calls.slice(0, 2)) copy.instance.settle(answer, call);
  copy.instance.settle({ metrics: {} }, calls[2]);
  const [first] = await Promise.all(results);
  assert.deepEqual(first.lossFnOutputs[0].logprobs.data, Float32Array.of(-1.5));
});

test("a given fetch, a given store and a signal are asked on the page", async (t) => {
  const fetched = [];
  const fetch = async (url, { signal }) => {
    fetched.push([url, signal]);
    if (url.endsWith("held")) return new Promise((_, reject) => signal.addEventListener("abort", reject));
    return new Response("an answer", { headers: { "retry-after-ms": "7" } });
  };
  const copy = await started(t);
  const { MemoryStore } = await copy.load("store/memory");
  const store = new MemoryStore();
  const options = { apiKey: KEY, baseURL: "http://127.0.0.1:1", logger: silent, fetch, store };
  const service = new copy.tinkex.ServiceClient(options);
  assert.equal(service.persistence, "memory");
  const stop = new AbortController();
  const call = service.getServerCapabilities({ signal: stop.signal });
  await delivered();
  const { host, lastCall } = copy.instance;
  const { decode } = await copy.load("plain");
  const answer = decode(await copy.instance.fetch("http://server/x"));
  assert.deepEqual([answer.status, answer.headers["retry-after-ms"]], [200, "7"]);
  assert.equal(new TextDecoder().decode(answer.body), "an answer");
  const abort = new AbortController();
  void copy.instance.fetch("http://server/held", abort);
  await delivered();
  abort.abort();
  await delivered();
  assert.deepEqual(
    fetched.map(([url, { aborted }]) => [url, aborted]),
    [
      ["http://server/x", false],
      ["http://server/held", true],
    ],
  );
  const ask = async (operation) => decode(await host.store(1, encode(operation)));
  const { epoch } = await ask({ claim: "f" });
  const put = (n) => ({ type: "put", key: "k", value: Uint8Array.of(n) });
  const commits = [1, 2, 3].map((n) => ask({ fence: "f", epoch, durability: "strict", ops: [put(n)] }));
  assert.deepEqual(await Promise.all(commits), [{}, {}, {}]);
  assert.deepEqual(
    await store.load("k"),
    [["k", Uint8Array.of(3)]],
    "in the order in which they were asked for",
  );
  assert.deepEqual(await ask({ load: "k" }), { records: [["k", Uint8Array.of(3)]] });
  assert.deepEqual(await store.load("k"), [["k", Uint8Array.of(3)]], "the store's own bytes are left to it");
  assert.equal((await ask({ fence: "f", epoch: 1, durability: "strict", ops: [] })).failure, "fenced");
  stop.abort();
  await delivered();
  assert.deepEqual(copy.instance.cancelled, [lastCall.key]);
  copy.instance.fail({ kind: "aborted", outcome: "not_sent" }, lastCall);
  await assert.rejects(call, copy.tinkex.AbortedError);
});

test("tasks run on the page", async (t) => {
  const copy = await started(t);
  const task = copy.service.tasks.spawn(() => globalThis.somethingOfThePage, { name: "look" });
  globalThis.somethingOfThePage = {};
  t.after(() => delete globalThis.somethingOfThePage);
  await delivered();
  copy.instance.host.run(copy.instance.lastCall.key);
  await delivered();
  assert.deepEqual(copy.instance.ends, [[copy.instance.lastCall.key, undefined]]);
  copy.instance.settle({});
  assert.equal(await task, globalThis.somethingOfThePage);
});

/** Pings that a worker may leave without an answer, and the one at which it is given up. */
const SILENCE = 16;

for (const [how, ends, workers, pings = 0] of [
  ["an instance traps", (copy) => copy.instance.trapOnCall(), 1],
  [
    "a worker fails",
    ({ workers }) => workers[0].onerror({ message: "out of memory", preventDefault() {} }),
    2,
  ],
  ["a worker is ended from outside", ({ workers }) => workers[0].terminate(), 2, SILENCE],
]) {
  test(`${how}: the next instance goes on with the same promises`, async (t) => {
    t.mock.timers.enable({ apis: ["setInterval"] });
    const copy = await started(t);
    const client = await training(copy);
    const journaled = client.optimStep();
    await delivered();
    const { key } = copy.instance.lastCall;
    for (let ping = 0; ping < 2 * SILENCE; ping += 1) {
      t.mock.timers.tick(2_000);
      await delivered();
    }
    assert.equal(copy.instances.length, 1, "a worker that answers is left alone");
    ends(copy);
    for (let ping = 0; ping < pings; ping += 1) {
      assert.equal(copy.workers.length, 1);
      t.mock.timers.tick(2_000);
      await delivered();
    }
    const unknown = copy.service.getServerCapabilities();
    unknown.catch(() => {});
    await delivered();
    for (const { loaded } of copy.workers) await loaded;
    await delivered();
    assert.deepEqual([copy.instances.length, copy.workers.length], [2, workers]);
    const again = copy.instance.calls.find(({ method }) => method === "resumeTrainingClient");
    copy.instance.settle(
      {
        client: 9,
        modelId: "m",
        pending: [{ seqId: 7, method: "optimStep", label: "", key, finished: false }],
      },
      again,
    );
    await delivered();
    const result = copy.instance.calls.find(({ method }) => method === "result");
    assert.deepEqual([result.key, result.client, result.args], [key, 9, { seqId: 7 }]);
    copy.instance.settle({ metrics: { a: 1 } }, result);
    assert.deepEqual(await journaled, { metrics: { a: 1 } });
  });
}

test("three deaths of workers within 5 s are met, the fourth is the last", async (t) => {
  const copy = await started(t);
  for (let death = 1; death <= 4; death += 1) {
    copy.workers.at(-1).onerror({ message: "out of memory", preventDefault() {} });
    await delivered();
    for (const { loaded } of copy.workers) await loaded;
    await delivered();
  }
  assert.equal(copy.workers.length, 4);
  await assert.rejects(copy.service.getServerCapabilities(), (error) => {
    assert.ok(error instanceof copy.tinkex.InstanceLostError);
    assert.match(error.message, /out of memory.*4 times within 5 s.*reload the page/);
    return true;
  });
});

test("a worker that does not start says what to do, and init() may be called again", async (t) => {
  const failing = { broken: true };
  const copy = workerCopy({
    onWorker: (worker) => {
      if (failing.throws) throw failing.throws;
      worker.broken = failing.broken;
      if (failing.broken) setImmediate(() => worker.onerror({ preventDefault() {} }));
    },
  });
  t.after(() => end(copy));
  const { init, InitError } = await copy.load("index");
  const fails = (words) =>
    assert.rejects(init({ bytes: WASM, worker: true }), (error) => {
      assert.ok(error instanceof InitError, String(error));
      assert.match(error.message, words);
      return true;
    });
  await fails(/did not load.*init\(\{ worker: url \}\).*worker-src/);
  assert.ok(copy.workers[0].terminated);
  failing.throws = new Error("Refused by policy");
  await fails(/Refused by policy.*worker-src/);
  delete failing.throws;
  failing.broken = false;
  copy.onInstance = (instance) => {
    instance.begin = () => {
      throw new TypeError("start is not what it was");
    };
  };
  await fails(/did not start \(start is not what it was\)/);
  copy.onInstance = () => {};
  const { Worker } = globalThis;
  delete globalThis.Worker;
  await fails(/has no Worker.*without `worker`/);
  globalThis.Worker = Worker;
  await init({ bytes: WASM, worker: "https://elsewhere/worker.js" });
  assert.equal(copy.workers.at(-1).url, "https://elsewhere/worker.js");
});

test("a second init() that asks for something else is refused by name", async (t) => {
  const copy = await started(t);
  const { init, InvalidArgumentError } = copy.tinkex;
  await init();
  await init({ worker: true, bytes: WASM });
  for (const [options, field] of [
    [{ worker: false }, "worker"],
    [{ worker: "elsewhere.js" }, "worker"],
    [{ url: "x.wasm" }, "url"],
  ]) {
    await assert.rejects(init(options), (error) => {
      assert.ok(error instanceof InvalidArgumentError);
      assert.equal(error.field, field);
      return true;
    });
  }
  const page = freshCopy();
  const onPage = await page.load("index");
  await onPage.init({ bytes: WASM });
  await onPage.init({ worker: false });
  await assert.rejects(onPage.init({ worker: true }), /first call/);
});
