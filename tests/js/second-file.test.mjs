// What is in the second file of WebAssembly waits for it, in its place in the order, and so does all that follows a death.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { freshCopy, KEY, silent, trainingCopy, turn, WASM } from "./stub.mjs";

const source = (path) => readFileSync(new URL(`../../src/bindings/${path}`, import.meta.url), "utf8");
const methodsIn = (text) =>
  [...text.matchAll(/^\s*((?:"\w+"(?: \| )?)+) =>|method [!=]= "(\w+)"/gm)]
    .flatMap(([, arm, compared]) => (arm ? arm.match(/\w+/g) : [compared]))
    .filter((method) => method !== "close");

/** The owner alone. `load` gives the second file. */
async function owned(load) {
  const copy = freshCopy();
  const { Owner } = await copy.load("owner");
  const { LocalLife } = await copy.load("life");
  const { World } = await copy.load("world");
  const module = await WebAssembly.compile(WASM);
  const replies = [];
  const world = new World({}, () => {});
  const begin = (hear) => new LocalLife(module, copy.createInstance, world, hear);
  const owner = new Owner(
    begin,
    () => load(module),
    () => 0,
    (message) => replies.push(message),
  );
  const open = (service, options = {}) =>
    owner.post({ type: "open", service, options: { apiKey: KEY, ...options }, given: { place: "" } });
  const call = (key, method, { service = 1, client = 0 } = {}) =>
    owner.post({ type: "call", key, service, client, method, args: {} });
  return Object.assign(copy, { owner, replies, open, call });
}

/** A second file that comes when it is let in, or not at all. */
function door() {
  const asked = [];
  const load = (module) =>
    new Promise((resolve, reject) => asked.push({ come: () => resolve(module), fail: reject }));
  return { asked, load };
}

/** A page without a network, until its `onLine` is set. Its timers are the test's. */
function offline(t) {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const navigator = { onLine: false };
  const real = Object.getOwnPropertyDescriptor(globalThis, "navigator");
  Object.defineProperty(globalThis, "navigator", { value: navigator, configurable: true });
  t.after(() => (real ? Object.defineProperty(globalThis, "navigator", real) : delete globalThis.navigator));
  return navigator;
}

/** The last try to load the second file fails, and it is time for the next. */
async function failed(t, asked) {
  asked.at(-1).fail(new Error("no network"));
  await turn();
  t.mock.timers.tick(2_000);
  await turn();
}

const methods = (instance) => instance.calls.map(({ method }) => method);
const failures = (replies) => replies.filter(({ type }) => type === "failed");

/** The owner of a client of each kind, 1 and 2 to the page. */
async function withClients() {
  const { asked, load } = door();
  const copy = Object.assign(await owned(load), { asked });
  copy.open(1);
  copy.call(1, "createLoraTrainingClient");
  copy.instance.settle({ client: 7, modelId: "m", pending: [] });
  copy.call(2, "createSamplingClient");
  copy.instance.settle({ client: 8, samplingSessionId: "s" });
  copy.instance.calls.length = 0;
  return copy;
}

test("the page knows which methods are in the second file", async () => {
  const { SecondFile } = await freshCopy().load("second-file");
  const second = new SecondFile(() => Promise.reject());
  const deferred = methodsIn(source("deferred/mod.rs") + source("deferred/runs.rs"));
  for (const known of ["result", "resumeTrainingClient", "computeLogprobs", "startRun", "stepCall"])
    assert.ok(deferred.includes(known), known);
  // The tree is read without a call.
  for (const method of [...deferred, "supervision"]) assert.ok(second.has(method), method);
  // Of a task of the page the first file knows whose it is, and no more.
  const first = methodsIn(source("commands.rs")).filter((method) => method !== "spawn");
  assert.ok(first.includes("forwardBackward") && first.includes("createSamplingClient"), String(first));
  for (const method of first) assert.ok(!second.has(method), method);
});

test("a method of the second file waits for it, and what comes behind it on its client waits as well", async () => {
  const copy = await withClients();
  const { asked } = copy;
  copy.call(3, "optimStep", { client: 1 });
  copy.call(4, "getInfo", { client: 1 });
  copy.call(5, "optimStep", { client: 1 });
  copy.call(6, "sample", { client: 2 });
  copy.call(7, "getServerCapabilities");
  assert.deepEqual(methods(copy.instance), ["optimStep", "sample", "getServerCapabilities"]);
  copy.call(8, "computeLogprobs", { client: 2 });
  assert.equal(asked.length, 1, "loaded once");
  asked[0].come();
  await turn();
  assert.deepEqual(
    copy.instance.calls.slice(3).map(({ key, client }) => [key, client]),
    [
      [4, 7],
      [5, 7],
      [8, 8],
    ],
    "each once, in the order in which they were made",
  );
  assert.equal(copy.instance.extension.openedBefore, 1);
});

test("a service that resumes waits for the second file with its first call", async () => {
  const { asked, load } = door();
  const copy = await owned(load);
  copy.open(1, { session: "resume" });
  copy.call(1, "createLoraTrainingClient");
  assert.deepEqual([methods(copy.instance), asked.length], [[], 1]);
  asked[0].come();
  await turn();
  assert.deepEqual(methods(copy.instance), ["createLoraTrainingClient"]);
});

test("where the second file can't be had, what needs it says so, the rest goes on, and the next call tries again", async () => {
  const copy = await withClients();
  const { asked } = copy;
  copy.call(3, "getInfo", { client: 1 });
  copy.call(4, "optimStep", { client: 1 });
  asked[0].fail(new Error("it is not there"));
  await turn();
  assert.deepEqual(methods(copy.instance), ["optimStep"]);
  const [{ key, failure }] = failures(copy.replies);
  assert.deepEqual([key, failure.kind, failure.outcome], [3, "init_failed", "not_sent"]);
  assert.match(failure.message, /it is not there/);
  copy.call(5, "getInfo", { client: 1 });
  asked[1].come();
  await turn();
  assert.deepEqual(methods(copy.instance), ["optimStep", "getInfo"]);
});

test("closing answers what waits for the second file at once", async () => {
  const copy = await withClients();
  copy.call(3, "getInfo", { client: 1 });
  copy.call(4, "computeLogprobs", { client: 2 });
  copy.call(5, "close", { client: 1 });
  assert.deepEqual(methods(copy.instance), ["close"]);
  copy.call(6, "close");
  assert.deepEqual(methods(copy.instance), ["close", "close"]);
  assert.deepEqual(
    failures(copy.replies).map(({ key, failure }) => [key, failure.kind]),
    [
      [3, "closed"],
      [4, "closed"],
    ],
  );
});

test("a call that waits for the second file may be given up", async () => {
  const { load } = door();
  const copy = await owned(load);
  copy.open(1);
  copy.call(1, "finish");
  copy.owner.post({ type: "cancel", key: 1 });
  assert.deepEqual(
    failures(copy.replies).map(({ failure }) => [failure.kind, failure.outcome]),
    [["aborted", "not_sent"]],
  );
});

test("after a death the second file comes first, then the page's clients, and then their calls", async () => {
  const copy = await withClients();
  const { asked } = copy;
  copy.call(3, "optimStep", { client: 1 });
  await copy.instance.die();
  await turn();
  copy.call(4, "getServerCapabilities");
  assert.equal(copy.instances.length, 2);
  assert.deepEqual(methods(copy.instance), [], "nothing goes on without it");
  asked[0].come();
  await turn();
  assert.deepEqual(methods(copy.instance), [
    "resumeTrainingClient",
    "resumeSamplingClient",
    "getServerCapabilities",
  ]);
  const again = { seqId: 4, method: "optimStep", label: "", key: 3, finished: false };
  copy.instance.settle({ client: 5, modelId: "m", pending: [again] }, copy.instance.calls[0]);
  assert.deepEqual([copy.instance.lastCall.key, copy.instance.lastCall.method], [3, "result"]);
});

test("an instance that can't take the second file is dead, as the next ones are, and the call says why", async () => {
  const copy = await withClients();
  const noMemory = () => {
    throw new RangeError("WebAssembly.Instance(): Out of memory");
  };
  copy.instance.provide_deferred = noMemory;
  copy.onInstance = (instance) => Object.assign(instance, { provide_deferred: noMemory });
  copy.call(3, "getInfo", { client: 1 });
  copy.asked[0].come();
  await turn();
  const [{ key, failure }] = failures(copy.replies);
  assert.equal(key, 3);
  assert.match(failure.message, /Out of memory/);
});

test("after a death the second file is not given up while the page is offline, nor at its first failure", async (t) => {
  const navigator = offline(t);
  const copy = await withClients();
  const { asked } = copy;
  copy.call(3, "optimStep", { client: 1 });
  await copy.instance.die();
  await turn();
  const fail = () => failed(t, asked);
  for (let i = 0; i < 20; i += 1) await fail();
  assert.equal(asked.length, 21);
  navigator.onLine = true;
  for (let i = 0; i < 4; i += 1) await fail();
  assert.deepEqual(failures(copy.replies), []);
  await fail();
  const [{ key, failure }] = failures(copy.replies);
  assert.deepEqual([key, failure.kind, failure.outcome], [3, "instance_lost", "unknown"]);
  assert.match(failure.message, /can't be made again: no network/);
});

test("while the page is offline what needs the second file waits, as all calls do, and goes on when it has come", async (t) => {
  const navigator = offline(t);
  const copy = await withClients();
  copy.call(3, "getInfo", { client: 1 });
  for (let i = 0; i < 3; i += 1) await failed(t, copy.asked);
  assert.deepEqual([methods(copy.instance), failures(copy.replies)], [[], []]);
  navigator.onLine = true;
  copy.asked.at(-1).come();
  await turn();
  assert.deepEqual(methods(copy.instance), ["getInfo"]);
});

test("who watches the tree is told when the second file is here, and the log says where it can't be had", async () => {
  const { asked, load } = door();
  const copy = await owned(load);
  copy.open(1);
  copy.owner.post({ type: "watch", service: 1, on: true });
  asked[0].fail(new Error("it is not there"));
  await turn();
  const [{ type, level, message }] = copy.replies;
  assert.deepEqual([type, level], ["log", "error"]);
  assert.match(message, /it is not there/);
  copy.call(1, "supervision");
  asked[1].come();
  copy.instance.rows = [];
  await turn();
  assert.deepEqual(copy.instance.watched, [[1, true]]);
  assert.deepEqual(copy.replies.at(-1), { type: "settled", key: 1, value: [] });
});

test("an instance may have the second file brought, and hears nothing where that fails", async () => {
  const { asked, load } = door();
  const copy = await owned(load);
  copy.open(1);
  copy.instance.host.bring();
  asked[0].fail(new Error("it is not there"));
  await turn();
  copy.instance.host.bring();
  asked[1].come();
  await turn();
  assert.ok(copy.instance.extension);
  assert.deepEqual(copy.replies, []);
});

test("the rejection is an InitError that says what to do", async () => {
  const copy = freshCopy();
  const { init, InitError, ServiceClient } = await copy.load("index");
  await init({ bytes: WASM });
  const service = new ServiceClient({ apiKey: KEY, baseURL: "http://127.0.0.1:1", logger: silent });
  await assert.rejects(
    service.supervision(),
    (error) => error instanceof InitError && /init\(\{ deferred: \{ url \} \}\)/.test(error.message),
  );
});

test("a service that is closed while its clients are made again answers all their calls", async () => {
  const copy = await trainingCopy();
  const lost = copy.training.optimStep();
  await copy.instance.die();
  await turn();
  const closed = copy.service.close();
  await assert.rejects(lost, copy.tinkex.InstanceLostError);
  copy.instance.settle({});
  await closed;
});
