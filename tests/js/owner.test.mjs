// An instance that dies: its calls are answered, its services come back, and nothing of it reaches the page any more.
import assert from "node:assert/strict";
import { test } from "node:test";
import { encode, KEY, silent, startedCopy, trainingCopy, turn, WASM, freshCopy } from "./stub.mjs";

/** The owner alone, with a clock that the test sets. */
async function owned({ fetch = async () => new Response(""), now = () => 0 } = {}) {
  const copy = freshCopy();
  const { Owner } = await copy.load("owner");
  const { LocalLife } = await copy.load("life");
  const { World, exchange, operate } = await copy.load("world");
  const replies = [];
  const { MemoryStore } = await copy.load("store/memory");
  const store = new MemoryStore();
  const page = {
    fetch: (service, request, signal) => exchange((url, init) => fetch(service, url, init), request, signal),
    store: (_service, operation) => operate(() => store, operation),
  };
  const reply = (message) => replies.push(message);
  const world = new World(page, reply);
  const module = await WebAssembly.compile(WASM);
  const begin = (hear) => new LocalLife(module, copy.createInstance, world, hear);
  const owner = new Owner(begin, async () => module, now, reply);
  await owner.bring();
  const given = { fetch: true, store: true, place: "" };
  const open = (service) => owner.post({ type: "open", service, options: { apiKey: KEY }, given });
  const call = (key, method = "getServerCapabilities", { service = 1, client = 0 } = {}) =>
    owner.post({ type: "call", key, service, client, method, args: {} });
  return Object.assign(copy, { owner, replies, open, call, store });
}

/** The call by which the owner asks the living instance for a client that the page has. */
const remaking = ({ instance }, method = "resumeTrainingClient") =>
  instance.calls.find((call) => call.method === method);

/** What an instance says of a call in its journal. */
const kept = (key, method, seqId = 1) => ({ seqId, method, label: "", key, finished: false });

test("after a trap the next instance makes the client again, and the journal decides", async () => {
  const copy = await trainingCopy();
  const { service, training, instances, instance, tinkex } = copy;
  const journaled = training.optimStep();
  const { key } = instance.lastCall;
  const others = [training.optimStep(), training.getInfo(), service.getServerCapabilities()];
  instance.trapOnCall();
  others.push(training.optimStep());
  others.forEach((call) => call.catch(() => {}));
  await turn();
  assert.equal(instances.length, 2);
  assert.equal(instances[1].opened.length, 1);
  assert.equal(instances[1].opened[0].options.owner, instance.opened[0].options.owner);
  assert.equal(instances[1].module, instance.module, "compiled once");
  const again = remaking(copy);
  assert.deepEqual([again.client, again.args], [0, { modelId: "session:train:0" }]);
  const later = training.optimStep();
  assert.equal(copy.instance.lastCall, again, "what comes later waits for its client");
  copy.instance.settle({ client: 9, modelId: "m", pending: [kept(key, "optimStep", 7)] }, again);
  const [result, next] = copy.instance.calls.slice(-2);
  assert.deepEqual([result.key, result.method, result.client, result.args], [key, "result", 9, { seqId: 7 }]);
  assert.deepEqual([next.method, next.client], ["optimStep", 9]);
  copy.instance.settle({ metrics: { a: 1 } }, result);
  copy.instance.settle({ metrics: {} }, next);
  assert.deepEqual(await journaled, { metrics: { a: 1 } }, "the same promise");
  await later;
  const reasons = (await Promise.allSettled(others)).map(({ reason }) => reason);
  for (const error of reasons) {
    assert.ok(error instanceof tinkex.InstanceLostError);
    assert.match(error.message, /unreachable/);
    assert.equal(error.retryable, true);
  }
  assert.deepEqual(
    reasons.map(({ outcome }) => outcome),
    ["not_sent", "unknown", "unknown", "not_sent"],
  );
});

test("a sampler works on: what was under way is unknown, and may be asked for again", async () => {
  const copy = await startedCopy();
  const made = copy.service.createSamplingClient({ baseModel: "model" });
  copy.instance.settle({ client: 3, samplingSessionId: "s:sample:0" });
  const sampler = await made;
  const lost = sampler.computeLogprobs([1]);
  lost.catch(() => {});
  await copy.instance.die();
  await turn();
  const again = remaking(copy, "resumeSamplingClient");
  assert.deepEqual(again.args, { samplingSessionId: "s:sample:0" });
  copy.instance.settle({ client: 1, samplingSessionId: "s:sample:0" }, again);
  await assert.rejects(lost, ({ outcome, retryable }) => outcome === "unknown" && retryable);
  void sampler.computeLogprobs([1]);
  assert.deepEqual([copy.instance.lastCall.method, copy.instance.lastCall.client], ["computeLogprobs", 1]);
});

test("an instance that dies while it makes the clients again is followed by one that does", async () => {
  const copy = await trainingCopy();
  const journaled = copy.training.optimStep();
  const { key } = copy.instance.lastCall;
  await copy.instance.die();
  await turn();
  await copy.instance.die();
  await turn();
  assert.equal(copy.instances.length, 3);
  const again = remaking(copy);
  copy.instances[1].host.settle(remaking({ instance: copy.instances[1] }).key, { client: 1 });
  copy.instance.settle({ client: 1, modelId: "m", pending: [kept(key, "optimStep")] }, again);
  copy.instance.settle({ metrics: {} });
  await journaled;
});

test("a call that came back from an earlier page comes back again from an instance that died", async () => {
  const copy = await startedCopy();
  const resuming = copy.service.resumeTrainingClient("m");
  const pending = [{ ...kept(0, "optimStep", 4), label: '{"step":2}' }];
  copy.instance.settle({ client: 1, modelId: "m", pending });
  const training = await resuming;
  const [call] = training.pending();
  assert.deepEqual([call.method, call.label, call.seqId, call.state], ["optimStep", { step: 2 }, 4, "sent"]);
  assert.equal(
    copy.instance.lastCall.method,
    "resumeTrainingClient",
    "nothing is asked before it is looked at",
  );
  const { promise } = call;
  const { key } = copy.instance.lastCall;
  await copy.instance.die();
  await turn();
  copy.instance.settle({ client: 1, modelId: "m", pending }, remaking(copy));
  assert.deepEqual([copy.instance.lastCall.key, copy.instance.lastCall.args], [key, { seqId: 4 }]);
  copy.instance.settle({ metrics: { loss: 2 } });
  assert.deepEqual(await promise, { metrics: { loss: 2 } });
  assert.deepEqual(training.pending(), []);
});

test("what was seen by the page, and not by the instance that died, is said again", async () => {
  const copy = await trainingCopy();
  const { training } = copy;
  const keys = [];
  const calls = [training.optimStep(), training.optimStep(), training.optimStep()];
  calls.forEach((call) => call.catch(() => {}));
  keys.push(...copy.instance.calls.slice(-3).map(({ key }) => key));
  copy.instance.host.settle(keys[0], encode({ metrics: {} }));
  copy.instance.host.fail(
    keys[1],
    encode({ kind: "timeout", message: "", outcome: "journaled", retryable: false }),
  );
  await copy.instance.die();
  await turn();
  const pending = keys.map((key, i) => kept(key, "optimStep", i + 1));
  copy.instance.settle({ client: 1, modelId: "m", pending }, remaking(copy));
  const seen = keys.filter((key) => copy.instance.seenKeys.includes(key));
  assert.deepEqual(seen, [keys[0]], "one goes on without its caller, one is waited for");
  copy.instance.settle({ metrics: {} });
  await calls[2];
});

test("a client that can't be made again says why, and what to do", async () => {
  const copy = await trainingCopy();
  const { training, tinkex } = copy;
  const lost = training.optimStep();
  lost.catch(() => {});
  await copy.instance.die();
  await turn();
  copy.instance.fail({ kind: "api", status: 410, message: "the session has ended" }, remaking(copy));
  await assert.rejects(lost, ({ outcome, message }) => outcome === "unknown" && /has ended/.test(message));
  await assert.rejects(training.optimStep(), (error) => {
    assert.ok(error instanceof tinkex.InstanceLostError);
    assert.deepEqual([error.outcome, error.retryable], ["not_sent", false]);
    assert.match(error.message, /createTrainingClientFromStateWithOptimizer/);
    return true;
  });
  await training.close();
  assert.equal(copy.instance.lastCall.method, "resumeTrainingClient", "there is nothing to close any more");
});

test("a caller that was told has seen it a turn later, and before a service is closed", async () => {
  const copy = await trainingCopy();
  const { training, service, instance } = copy;
  const step = training.optimStep();
  const first = instance.lastCall.key;
  instance.settle({ metrics: {} });
  await step;
  assert.deepEqual(instance.seenKeys.includes(first), false, "its handlers may be running");
  await new Promise((resolve) => setTimeout(resolve, 5));
  assert.ok(instance.seenKeys.includes(first));
  const failed = training.optimStep();
  const second = instance.lastCall.key;
  instance.fail({ kind: "timeout", outcome: "journaled" });
  await assert.rejects(failed);
  const last = training.optimStep();
  const third = instance.lastCall.key;
  instance.settle({ metrics: {} });
  await last;
  void service.close();
  assert.ok(instance.seenKeys.includes(third), "whoever closes has seen what came before");
  await new Promise((resolve) => setTimeout(resolve, 5));
  assert.ok(!instance.seenKeys.includes(second), "what goes on is for whoever resumes it");
});

test("an instance reaches the store of its service, and one that is dead hears nothing of it", async () => {
  const copy = await owned();
  const { decode, encode } = await copy.load("plain");
  const { instance } = copy;
  const { host } = instance;
  const ask = async (operation) => decode(await host.store(1, encode(operation)));
  const { epoch } = await ask({ claim: "f" });
  const put = { type: "put", key: "k/1", value: Uint8Array.of(7) };
  const batch = { fence: "f", epoch, durability: "strict", ops: [put] };
  assert.deepEqual(await ask(batch), {});
  assert.deepEqual(await ask({ load: "k/" }), { records: [["k/1", Uint8Array.of(7)]] });
  const fenced = await ask({ ...batch, epoch: epoch - 1 });
  assert.equal(fenced.failure, "fenced");
  assert.match(fenced.message, /taken over/);
  let heard = false;
  void host.store(1, encode({ ...batch, ops: [{ type: "delete", key: "k/1" }] })).then(() => (heard = true));
  await instance.die();
  await turn();
  assert.equal(heard, false);
  assert.deepEqual(await copy.store.load("k/"), [], "what it had begun to write is written");
});

test("calls made while no instance lives wait for the next one, in their order", async () => {
  const { open, call, replies, instances } = await owned();
  open(1);
  await instances[0].die();
  call(1, "a");
  call(2, "b");
  open(2);
  call(3, "c", { service: 2 });
  assert.deepEqual(instances[0].calls, []);
  await turn();
  assert.deepEqual(
    instances[1].calls.map(({ key, method, service }) => [key, method, service]),
    [
      [1, "a", 1],
      [2, "b", 1],
      [3, "c", 2],
    ],
  );
  assert.deepEqual(
    instances[1].opened.map(({ service }) => service),
    [1, 2],
  );
  assert.deepEqual(replies, []);
});

test("a call that is given up while no instance lives was not sent", async () => {
  const { open, call, owner, replies, instances } = await owned();
  open(1);
  await instances[0].die();
  call(1);
  owner.post({ type: "cancel", key: 1 });
  await turn();
  assert.deepEqual(instances[1].calls, []);
  assert.equal(replies.length, 1);
  assert.deepEqual(
    [replies[0].type, replies[0].key, replies[0].failure.kind, replies[0].failure.outcome],
    ["failed", 1, "aborted", "not_sent"],
  );
});

test("an answer that a dead instance gives is dropped, and no call is answered twice", async () => {
  const { open, call, replies, instances } = await owned();
  open(1);
  call(1);
  await instances[0].die();
  instances[0].settle("late");
  await turn();
  instances[0].settle("later");
  instances[1].settle("from another", { key: 1 });
  assert.equal(replies.length, 1);
  assert.equal(replies[0].failure.kind, "instance_lost");
  call(2);
  instances[1].settle("answer");
  instances[1].fail({ kind: "closed" });
  assert.deepEqual(replies.slice(1), [{ type: "settled", key: 2, value: "answer" }]);
});

test("what a dead instance has started is cut off: timers, microtasks, requests; and it asks for nothing more", async () => {
  const fetched = [];
  const aborted = [];
  const { open, instances } = await owned({
    fetch: (_service, url, { signal }) => {
      fetched.push(url);
      signal.addEventListener("abort", () => aborted.push(url));
      return new Promise(() => {});
    },
  });
  open(1);
  const [instance] = instances;
  const { globals } = instance;
  const ran = [];
  instance.fetch("http://held").then(
    () => ran.push("answer"),
    () => ran.push("rejection"),
  );
  await turn();
  globals.setTimeout(() => ran.push("timer"), 0);
  const dying = instance.die();
  globals.queueMicrotask(() => ran.push("microtask"));
  await dying;
  void instance.fetch("http://later");
  await new Promise((resolve) => setTimeout(resolve, 5));
  assert.deepEqual(ran, []);
  assert.deepEqual([fetched, aborted], [["http://held"], ["http://held"]]);
});

test("a body that is read when the instance dies is never given to it", async () => {
  let read;
  const response = new Response("");
  response.arrayBuffer = () => new Promise((resolve) => (read = resolve));
  const { open, instances } = await owned({ fetch: async () => response });
  open(1);
  let heard = false;
  void instances[0].fetch("http://x").finally(() => (heard = true));
  await turn();
  await instances[0].die();
  read(new ArrayBuffer(1));
  await turn();
  assert.equal(heard, false);
});

test("a trap in a timer or a microtask ends the instance, and not the page", async () => {
  for (const start of ["setTimeout", "queueMicrotask"]) {
    const { open, call, replies, instances } = await owned();
    open(1);
    call(1);
    instances[0].globals[start](() => {
      throw new WebAssembly.RuntimeError("memory access out of bounds");
    });
    await new Promise((resolve) => setTimeout(resolve, 5));
    assert.equal(instances.length, 2, start);
    assert.match(replies[0].failure.message, /memory access out of bounds/);
  }
});

test("a trap in what the instance hangs on a request ends it, and is no unhandled rejection", async () => {
  const { open, call, replies, instances } = await owned();
  open(1);
  call(1);
  const trap = () => {
    throw new WebAssembly.RuntimeError("memory access out of bounds");
  };
  const answer = instances[0].fetch("http://x");
  const unhandled = [];
  const note = (reason) => unhandled.push(reason);
  process.on("unhandledRejection", note);
  answer.then(trap, trap);
  answer.then(() => unhandled.push("a dead instance was called"));
  await turn();
  await turn();
  process.off("unhandledRejection", note);
  assert.deepEqual(unhandled, []);
  assert.equal(instances.length, 2);
  assert.match(replies[0].failure.message, /memory access out of bounds/);
});

test("an overflow of the stack ends the instance; a panic that comes out ends only its call", async () => {
  const { open, call, replies, instances } = await owned();
  open(1);
  instances[0].call = () => {
    throw new Error("a panic");
  };
  call(1);
  await turn();
  assert.equal(instances.length, 1);
  assert.deepEqual([replies[0].failure.kind, replies[0].failure.outcome], ["crashed", "unknown"]);
  instances[0].call = function again() {
    again();
  };
  call(2);
  await turn();
  assert.equal(instances.length, 2);
  assert.equal(replies[1].failure.kind, "instance_lost");
});

test("three deaths within 5 s are met, the fourth is the last; what waits is rejected by name", async () => {
  let now = 0;
  const { open, call, replies, instances } = await owned({ now: () => now });
  open(1);
  for (let death = 1; death <= 4; death += 1) {
    now += 1_000;
    await instances.at(-1).die();
    if (death === 4) call(1);
    await turn();
  }
  assert.equal(instances.length, 4);
  call(2);
  call(3, "close");
  assert.deepEqual(
    replies.map(({ type, key, failure }) => [type, key, failure?.kind, failure?.outcome, failure?.retryable]),
    [
      ["failed", 1, "instance_lost", "not_sent", false],
      ["failed", 2, "instance_lost", "not_sent", false],
      ["settled", 3, undefined, undefined, undefined],
    ],
  );
  assert.match(replies[0].failure.message, /4 times within 5 s.*reload the page/);
});

test("deaths that are far apart are met for ever", async () => {
  let now = 0;
  const { open, call, replies, instances } = await owned({ now: () => now });
  open(1);
  for (let death = 1; death <= 20; death += 1) {
    now += 2_500;
    await instances.at(-1).die();
    await turn();
  }
  assert.equal(instances.length, 21);
  call(1);
  instances.at(-1).settle("served");
  assert.deepEqual(replies, [{ type: "settled", key: 1, value: "served" }]);
});

test("an instance that can't be made counts as one that died", async () => {
  const copy = await owned();
  copy.open(1);
  copy.onInstance = (instance) => {
    instance.begin = () => {
      throw new RangeError("out of memory");
    };
  };
  await copy.instance.die();
  copy.call(1);
  await turn();
  assert.equal(copy.instances.length, 4);
  assert.equal(copy.replies.length, 1);
  assert.match(copy.replies[0].failure.message, /out of memory.*reload the page/);
});

test("a close that the instance does not survive is done", async () => {
  const { service, training, instance, tinkex } = await trainingCopy();
  const closing = [training.close(), service.close()];
  await instance.die();
  await Promise.all(closing);
  await assert.rejects(service.getServerCapabilities(), tinkex.ClosedError);
});

test("a closed service is not opened again", async () => {
  const copy = await trainingCopy();
  const other = new copy.tinkex.ServiceClient({ apiKey: KEY, baseURL: "http://localhost", logger: silent });
  void other.getServerCapabilities().catch(() => {});
  const closing = copy.service.close();
  copy.instance.settle({});
  await closing;
  await copy.instance.die();
  await turn();
  assert.deepEqual(
    copy.instance.opened.map(({ service }) => service),
    [2],
  );
});

test("timers keep the process only while a call waits", async () => {
  const { open, call, instances } = await owned();
  open(1);
  const [instance] = instances;
  const heartbeat = instance.globals.setTimeout(() => {}, 60_000);
  assert.equal(heartbeat.hasRef(), false);
  call(1);
  assert.equal(heartbeat.hasRef(), true);
  const poll = instance.globals.setTimeout(() => {}, 60_000);
  assert.equal(poll.hasRef(), true);
  instance.settle("answer");
  assert.deepEqual([heartbeat.hasRef(), poll.hasRef()], [false, false]);
  instance.globals.clearTimeout(poll);
  call(2);
  assert.deepEqual([heartbeat.hasRef(), poll.hasRef()], [true, false]);
  await instance.die();
  await turn();
});

test("a page's services have one owner, and its clients numbers of their own", async () => {
  const copy = await startedCopy();
  const second = new copy.tinkex.ServiceClient({ apiKey: KEY, baseURL: "http://localhost", logger: silent });
  const made = [];
  for (const service of [copy.service, second]) {
    const client = service.createSamplingClient({ baseModel: "model" });
    // The same number twice, as an instance may count by service.
    copy.instance.settle({ client: 7, samplingSessionId: "s" });
    made.push(await client);
  }
  for (const client of made) void client.computeLogprobs([1]);
  assert.deepEqual(
    copy.instance.calls.slice(-2).map(({ service, client }) => [service, client]),
    [
      [1, 7],
      [2, 7],
    ],
  );
});

test("the next instance knows that the page is offline before anything is asked of it", async () => {
  const { open, owner, instances } = await owned();
  open(1);
  owner.post({ type: "wake", online: false });
  await instances[0].die();
  await turn();
  assert.deepEqual([instances[0].woken, instances[1].woken], [[false], [false]]);
  owner.post({ type: "wake", online: true });
  await instances[1].die();
  await turn();
  assert.deepEqual([instances[1].woken, instances[2].woken], [[false, true], []]);
});
