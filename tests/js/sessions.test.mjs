// What a page says of a session and gets back from an earlier one: options, labels, pending calls, the ways to end.
import assert from "node:assert/strict";
import { test } from "node:test";
import { decode, encode, freshCopy, KEY, silent, startedCopy, trainingCopy } from "./stub.mjs";

test("a session to resume goes to the instance, and its store and account do not", async () => {
  const { MemoryStore } = await freshCopy().load("store/memory");
  const store = new MemoryStore();
  const copy = await startedCopy({ session: "resume", store, account: "me" });
  void copy.service.getServerCapabilities();
  const { options } = copy.instance.opened[0];
  assert.equal(options.session, "resume");
  assert.ok(!("store" in options) && !("account" in options));
  assert.equal(copy.service.persistence, "memory");
});

test("a store must be one, and a session and an account be words", async () => {
  const { InvalidArgumentError, ServiceClient } = await freshCopy().load("index");
  const field = (options) => {
    try {
      new ServiceClient({ apiKey: KEY, baseURL: "http://localhost", ...options });
    } catch (error) {
      assert.ok(error instanceof InvalidArgumentError);
      return error.field;
    }
    return undefined;
  };
  assert.equal(field({ store: {} }), "store");
  assert.equal(field({ store: "memory" }), "store");
  assert.equal(field({ session: "" }), "session");
  assert.equal(field({ account: 7 }), "account");
});

test("a service knows its session once a client was made, and what the server is known for", async () => {
  const copy = await startedCopy();
  assert.deepEqual(
    [copy.service.sessionId, copy.service.capabilities],
    [undefined, { exactlyOnce: undefined }],
  );
  const made = copy.service.createLoraTrainingClient("model");
  copy.instance.settle({ client: 1, modelId: "s:train:0", pending: [], sessionId: "s", exactlyOnce: true });
  await made;
  assert.deepEqual([copy.service.sessionId, copy.service.capabilities], ["s", { exactlyOnce: true }]);
});

test("a label crosses as JSON, and one that JSON can't hold is refused before anything is sent", async () => {
  const { training, instance, tinkex } = await trainingCopy();
  void training.optimStep({}, { label: { step: 12 } });
  assert.equal(instance.lastCall.args.label, '{"step":12}');
  void training.saveState("name", { label: "before" });
  assert.equal(instance.lastCall.args.label, '"before"');
  void training.optimStep();
  assert.ok(!("label" in instance.lastCall.args));
  const circle = {};
  circle.circle = circle;
  const calls = instance.calls.length;
  for (const label of [circle, () => 1, 7n, "x".repeat(1_001)]) {
    await assert.rejects(training.optimStep({}, { label }), (error) => {
      assert.ok(error instanceof tinkex.InvalidArgumentError);
      return error.field === "label" && error.outcome === "not_sent";
    });
  }
  assert.equal(instance.calls.length, calls);
});

const came = (seqId, method, more = {}) => ({ seqId, method, label: "", key: 0, finished: true, ...more });

/** A client that came back with these calls. */
async function resumed(pending) {
  const copy = await startedCopy();
  const resuming = copy.service.resumeTrainingClient("s:train:0");
  assert.deepEqual(copy.instance.lastCall.args, { modelId: "s:train:0" });
  copy.instance.settle({ client: 1, modelId: "s:train:0", pending });
  return Object.assign(copy, { training: await resuming });
}

test("what came back resolves as its own method does", async () => {
  const copy = await resumed([
    came(1, "forwardBackward"),
    came(2, "loadState"),
    came(3, "saveState"),
    came(4, "saveWeightsAndGetSamplingClient"),
  ]);
  const [forward, load, save, sampler] = copy.training.pending();
  const answer = async ({ promise }, value) => {
    copy.instance.settle(value);
    return promise;
  };
  const logprobs = { dtype: "float32", shape: [1], data: new Uint8Array(4) };
  const outputs = { lossFnOutputType: "x", lossFnOutputs: [{ logprobs }], metrics: {} };
  assert.deepEqual((await answer(forward, outputs)).lossFnOutputs[0].logprobs.data, Float32Array.of(0));
  assert.equal(await answer(load, {}), undefined);
  assert.deepEqual(await answer(save, { path: "tinker://x" }), { path: "tinker://x" });
  const made = await answer(sampler, { client: 2, samplingSessionId: "s:sample:0" });
  assert.ok(made instanceof copy.tinkex.SamplingClient);
  assert.deepEqual(copy.training.pending(), [], "each was seen");
});

test("a call that nobody looks at is not asked for, and stays", async () => {
  const copy = await resumed([came(5, "optimStep", { label: "[1]", finished: false }), came(6, undefined)]);
  const calls = copy.training.pending();
  assert.deepEqual(
    calls.map(({ method, label, seqId, state }) => [method, label, seqId, state]),
    [
      ["optimStep", [1], 5, "sent"],
      ["unknown", undefined, 6, "finished"],
    ],
  );
  assert.equal(copy.instance.lastCall.method, "resumeTrainingClient");
  assert.equal(copy.training.pending().length, 2);
  assert.equal(calls[0].promise, calls[0].promise, "one promise, however often it is looked at");
  assert.deepEqual(copy.instance.lastCall.args, { seqId: 5 });
});

test("finish ends the service when the session is ended, and leaves it when calls are not done", async () => {
  const copy = await trainingCopy();
  const refused = copy.service.finish();
  copy.instance.fail({ kind: "pending", outcome: "not_sent" });
  await assert.rejects(refused, copy.tinkex.PendingCallsError);
  void copy.training.optimStep();
  const finished = copy.service.finish();
  copy.instance.settle({});
  await new Promise((resolve) => setTimeout(resolve));
  assert.equal(copy.instance.lastCall.method, "close");
  copy.instance.settle({});
  await finished;
  await assert.rejects(copy.service.getServerCapabilities(), copy.tinkex.ClosedError);
});

test("forget closes the service and deletes what is kept of its server and account", async () => {
  const { MemoryStore } = await freshCopy().load("store/memory");
  const store = new MemoryStore();
  const epoch = await store.claim("f");
  const op = { type: "put", key: "k", value: Uint8Array.of(1) };
  await store.commit({ fence: "f", epoch, durability: "strict", ops: [op] });
  const copy = await trainingCopy({ store });
  const forgotten = copy.service.forget();
  assert.equal(copy.instance.lastCall.method, "close");
  copy.instance.settle({});
  await forgotten;
  assert.deepEqual(await store.load(""), []);
});

test("services of one server and account share a store, others have their own, and forget() empties it", async () => {
  const copy = await startedCopy({ baseURL: "http://a" });
  const { instance, tinkex } = copy;
  const ask = async (service, operation) => decode(await instance.host.store(service, encode(operation)));
  const others = [{}, { baseURL: "http://b" }, { apiKey: "tml-2" }, { account: "me" }].map((options) => {
    const service = new tinkex.ServiceClient({
      apiKey: KEY,
      baseURL: "http://a",
      logger: silent,
      ...options,
    });
    void service.getServerCapabilities().catch(() => {});
    return service;
  });
  assert.equal(others[0].persistence, undefined);
  void copy.service.getServerCapabilities().catch(() => {});
  const { epoch } = await ask(1, { claim: "f" });
  const ops = [{ type: "put", key: "k", value: Uint8Array.of(1) }];
  assert.deepEqual(await ask(1, { fence: "f", epoch, durability: "strict", ops }), {});
  assert.equal(others[0].persistence, "memory");
  const counts = async () =>
    Promise.all([1, 2, 3, 4].map(async (service) => (await ask(service, { load: "" })).records.length));
  assert.deepEqual(await counts(), [1, 0, 0, 0]);
  assert.equal((await ask(5, { load: "" })).records.length, 1);
  const forgotten = others[0].forget();
  instance.settle({});
  await forgotten;
  assert.deepEqual(await counts(), [0, 0, 0, 0]);
});
