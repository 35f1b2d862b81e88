// A call from the method to its answer: order, signals, close, logs, all on an instance that the test plays.
import assert from "node:assert/strict";
import { test } from "node:test";
import { decode, freshCopy, KEY, silent, startedCopy, trainingCopy, turn } from "./stub.mjs";

const DATA = [{ modelInput: [1, 2], lossFnInputs: { targetTokens: [2, 3], weights: [1, 1] } }];

test("calls made without an await are posted in their order, before the method returns", async () => {
  const { training, instance } = await trainingCopy();
  const before = instance.calls.length;
  const calls = [
    training.forwardBackward(DATA, "cross_entropy"),
    training.optimStep({ learningRate: 3e-3 }),
    training.forward(DATA, "cross_entropy"),
    training.saveState("a"),
    training.saveWeightsAndGetSamplingClient(),
  ];
  const posted = instance.calls.slice(before);
  assert.deepEqual(
    posted.map(({ method, client }) => [method, client]),
    [
      ["forwardBackward", 1],
      ["optimStep", 1],
      ["forward", 1],
      ["saveState", 1],
      ["saveWeightsAndGetSamplingClient", 1],
    ],
  );
  const output = { lossFnOutputType: "", lossFnOutputs: [], metrics: {} };
  const answers = [
    output,
    { metrics: {} },
    output,
    { path: "tinker://a" },
    { client: 2, samplingSessionId: "s" },
  ];
  posted.forEach((call, i) => instance.settle(answers[i], call));
  const [, , , saved, sampler] = await Promise.all(calls);
  assert.equal(saved.path, "tinker://a");
  assert.equal(sampler.samplingSessionId, "s");
});

test("answers in another order reach their own callers", async () => {
  const { training, instance } = await trainingCopy();
  const steps = [training.optimStep(), training.optimStep()];
  const [first, second] = instance.calls.slice(-2);
  instance.settle({ metrics: { which: 2 } }, second);
  instance.settle({ metrics: { which: 1 } }, first);
  assert.deepEqual(await Promise.all(steps), [{ metrics: { which: 1 } }, { metrics: { which: 2 } }]);
});

test("a service is opened by its first call, with its options, and only once", async () => {
  const copy = await startedCopy({ timeout: 5_000, tags: ["a"], projectId: "p" });
  assert.deepEqual(copy.instance.opened, []);
  void copy.service.getServerCapabilities();
  void copy.service.getServerCapabilities();
  const owner = copy.instance.opened[0].options.owner;
  assert.match(owner, /^[0-9a-z]+(-[0-9a-z]+){3}-1$/);
  assert.deepEqual(copy.instance.opened, [
    {
      service: 1,
      options: {
        apiKey: KEY,
        baseURL: "http://127.0.0.1:1",
        timeoutMs: 5_000,
        tags: ["a"],
        userMetadata: {},
        projectId: "p",
        telemetry: true,
        owner,
      },
    },
  ]);
});

test("a method before init() rejects, naming itself, and sends nothing", async () => {
  const copy = freshCopy();
  const { ServiceClient, NotInitializedError } = await copy.load("index");
  const service = new ServiceClient({ apiKey: KEY, baseURL: "http://localhost" });
  await assert.rejects(service.getServerCapabilities(), (error) => {
    assert.ok(error instanceof NotInitializedError);
    assert.match(error.message, /ServiceClient\.getServerCapabilities .*await init\(\)/);
    assert.equal(error.outcome, "not_sent");
    return true;
  });
  await service.close();
  assert.equal(copy.instances.length, 0);
});

test("a signal that has fired rejects at once, with its reason, and sends nothing", async () => {
  const { training, instance, tinkex } = await trainingCopy();
  const before = instance.calls.length;
  await assert.rejects(training.optimStep({}, { signal: AbortSignal.abort("enough") }), (error) => {
    assert.ok(error instanceof tinkex.AbortedError);
    assert.equal(error.cause, "enough");
    assert.equal(error.outcome, "not_sent");
    return true;
  });
  assert.equal(instance.calls.length, before);
});

test("a signal that fires later reaches the instance, whose answer decides", async () => {
  const { training, instance, tinkex } = await trainingCopy();
  const control = new AbortController();
  const given = training.optimStep({}, { signal: control.signal });
  const late = training.optimStep({}, { signal: control.signal });
  const [first, second] = instance.calls.slice(-2);
  control.abort("enough");
  assert.deepEqual(instance.cancelled, [first.key, second.key]);
  instance.fail({ kind: "aborted", outcome: "journaled" }, first);
  instance.settle({ metrics: {} }, second);
  await assert.rejects(given, (error) => {
    assert.ok(error instanceof tinkex.AbortedError);
    assert.equal(error.outcome, "journaled");
    assert.equal(error.cause, "enough");
    return true;
  });
  assert.deepEqual(await late, { metrics: {} });
});

test("the instance hears of a call whether it may be given up", async () => {
  const { training, instance } = await trainingCopy();
  void training.optimStep({}, { signal: new AbortController().signal });
  void training.optimStep();
  assert.deepEqual(
    instance.calls.slice(-2).map(({ args }) => args.revocable),
    [true, undefined],
  );
});

test("10,000 calls on one signal hold one listener, and leave none", async () => {
  const { training, instance } = await trainingCopy();
  const { signal } = new AbortController();
  const listeners = new Set();
  let most = 0;
  const { addEventListener, removeEventListener } = AbortSignal.prototype;
  signal.addEventListener = (type, listener, ...rest) => {
    listeners.add(listener);
    most = Math.max(most, listeners.size);
    addEventListener.call(signal, type, listener, ...rest);
  };
  signal.removeEventListener = (type, listener) => {
    listeners.delete(listener);
    removeEventListener.call(signal, type, listener);
  };
  const calls = Array.from({ length: 10_000 }, () => training.optimStep({}, { signal }));
  for (const call of instance.calls.slice(1)) instance.settle({ metrics: {} }, call);
  await Promise.all(calls);
  assert.equal(calls.length, 10_000);
  assert.deepEqual([most, listeners.size], [1, 0]);
});

test("a closed client refuses calls by name, while its siblings go on", async () => {
  const { service, training, instance, tinkex } = await trainingCopy();
  const closing = training.close();
  assert.equal(instance.lastCall.method, "close");
  const calls = instance.calls.length;
  await assert.rejects(training.optimStep(), (error) => {
    assert.ok(error instanceof tinkex.ClosedError);
    assert.match(error.message, /TrainingClient\.optimStep .*close\(\)/);
    return true;
  });
  const again = training.close();
  assert.equal(instance.calls.length, calls, "the second close asks nothing");
  instance.settle({});
  await Promise.all([closing, again]);
  const capabilities = service.getServerCapabilities();
  instance.settle({ supportedModels: [] });
  assert.deepEqual(await capabilities, { supportedModels: [] });
});

test("closing a service closes its clients, and no other service's", async () => {
  const { service, training, instance, tinkex } = await trainingCopy();
  const other = new tinkex.ServiceClient({ apiKey: KEY, baseURL: "http://localhost", logger: silent });
  const closing = service.close();
  instance.settle({});
  await closing;
  await assert.rejects(training.optimStep(), tinkex.ClosedError);
  await assert.rejects(service.getServerCapabilities(), tinkex.ClosedError);
  await training.close();
  const capabilities = other.getServerCapabilities();
  instance.settle({ supportedModels: [] });
  await capabilities;
});

test("`await using` closes, where the runtime has it", { skip: !Symbol.asyncDispose }, async () => {
  const { training, instance } = await trainingCopy();
  const disposed = training[Symbol.asyncDispose]();
  assert.equal(instance.lastCall.method, "close");
  instance.settle({});
  await disposed;
});

test("what the client says goes to the service's logger, without the key", async () => {
  const said = [];
  const logger = Object.fromEntries(
    ["debug", "info", "warn", "error"].map((level) => [level, (message) => said.push([level, message])]),
  );
  const { instance } = await trainingCopy({ logger });
  instance.host.log(1, "warn", `paused (${KEY})`);
  assert.deepEqual(said, [], "not while the instance runs");
  await turn();
  assert.deepEqual(said, [["warn", "paused ([API key])"]]);
});

test("a service's own fetch is used, and not within the instance's call", async () => {
  const asked = [];
  const { instance } = await trainingCopy({
    fetch: async (url, init) => {
      asked.push([url, init.method]);
      return new Response("hello");
    },
  });
  const answer = instance.fetch("http://127.0.0.1:1/api");
  assert.deepEqual(asked, []);
  const { status, headers, body } = decode(await answer);
  assert.deepEqual(asked, [["http://127.0.0.1:1/api", "GET"]]);
  assert.deepEqual([status, headers], [200, { "content-type": "text/plain;charset=UTF-8" }]);
  assert.equal(new TextDecoder().decode(body), "hello");
});

test("a pause that the server asks for until a date is as long as until then", async (t) => {
  t.mock.method(Date, "now", () => Date.parse("Wed, 21 Oct 2026 07:28:00 GMT"));
  for (const [said, seconds] of [
    ["Wed, 21 Oct 2026 07:28:07 GMT", "7"],
    ["Wed, 21 Oct 2026 07:27:00 GMT", "-60"],
    ["7.5", "7.5"],
    ["soon", "NaN"],
  ]) {
    const { instance } = await trainingCopy({
      fetch: async () => new Response(null, { status: 429, headers: { "retry-after": said } }),
    });
    assert.deepEqual(decode(await instance.fetch("http://x")).headers, { "retry-after": seconds }, said);
  }
});

test("a fetch that throws at once is a request that failed", async () => {
  const { instance } = await trainingCopy({
    fetch: () => {
      throw new TypeError("no network here");
    },
  });
  assert.deepEqual(decode(await instance.fetch("http://x")), { failure: "no network here" });
});

test("the instance's own signal ends its request", async () => {
  const { instance } = await trainingCopy({
    fetch: (_, { signal }) =>
      new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason))),
  });
  const control = new AbortController();
  const answer = instance.fetch("http://x", control);
  await turn();
  control.abort(new Error("let go"));
  assert.deepEqual(decode(await answer), { failure: "let go" });
});
