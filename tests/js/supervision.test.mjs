// The page's own tasks, and the tree as it is shown: with an instance that tests play themselves.
import assert from "node:assert/strict";
import { test } from "node:test";
import { startedCopy, turn } from "./stub.mjs";

const ROWS = [
  { id: 1, name: "service", kind: "supervisor", state: "running", restarts: 0, uptimeMs: 5, queues: [] },
  {
    id: 2,
    parent: 1,
    name: "session",
    kind: "worker",
    state: "running",
    restarts: 1,
    uptimeMs: 4,
    waitsFor: "the next heartbeat",
    waitsMs: 3,
    queues: [],
  },
  {
    id: 4,
    parent: 1,
    name: "calls",
    kind: "taskSupervisor",
    state: "running",
    restarts: 0,
    uptimeMs: 5,
    queues: [{ name: "running", length: 1 }],
  },
  { id: 5, parent: 4, name: "sample", kind: "task", state: "starting", restarts: 0, uptimeMs: 0, queues: [] },
];

const TREE = {
  id: 1,
  name: "service",
  kind: "supervisor",
  state: "running",
  restarts: 0,
  uptimeMs: 5,
  queues: {},
  children: [
    {
      id: 2,
      name: "session",
      kind: "worker",
      state: "running",
      restarts: 1,
      uptimeMs: 4,
      waits: { for: "the next heartbeat", ms: 3 },
      queues: {},
      children: [],
    },
    {
      id: 4,
      name: "calls",
      kind: "taskSupervisor",
      state: "running",
      restarts: 0,
      uptimeMs: 5,
      queues: { running: 1 },
      children: [
        {
          id: 5,
          name: "sample",
          kind: "task",
          state: "starting",
          restarts: 0,
          uptimeMs: 0,
          queues: {},
          children: [],
        },
      ],
    },
  ],
};

/** A task that is under way: its promise, and the function's end of it. */
async function spawned(copy, options) {
  const task = {};
  const begun = new Promise((resolve) => {
    task.promise = copy.service.tasks.spawn(
      (signal) =>
        new Promise((done, fail) => {
          Object.assign(task, { signal, done, fail });
          task.runs = (task.runs ?? 0) + 1;
          resolve();
        }),
      { name: "my work", ...options },
    );
    task.promise.catch(() => {});
  });
  task.call = copy.instance.lastCall;
  copy.instance.host.run(task.call.key);
  await begun;
  return task;
}

test("a function runs when its task starts, not within the instance's call, and settles its promise", async () => {
  const copy = await startedCopy();
  let ran = false;
  const promise = copy.service.tasks.spawn(async () => (ran = true), { name: "mine" });
  const { key, client, method, args } = copy.instance.lastCall;
  assert.deepEqual([client, method, args], [0, "spawn", { name: "mine" }]);
  await turn();
  assert.equal(ran, false, "it waits for its place");
  copy.instance.host.run(key);
  assert.equal(ran, false);
  await turn();
  assert.deepEqual(copy.instance.ends, [[key, undefined]]);
  copy.instance.settle({}, { key });
  assert.equal(await promise, true);
});

test("what a function throws is what its promise rejects with, whatever it is", async () => {
  for (const thrown of [new RangeError("mine"), "words", undefined]) {
    const copy = await startedCopy();
    const task = await spawned(copy);
    task.fail(thrown);
    await turn();
    assert.deepEqual(copy.instance.ends, [
      [task.call.key, thrown instanceof Error ? "mine" : String(thrown)],
    ]);
    copy.instance.fail({ kind: "crashed", place: "", callers: [] }, task.call);
    const caught = await task.promise.then(
      () => assert.fail("it resolved"),
      (reason) => reason,
    );
    assert.equal(caught, thrown);
  }
});

test("a function that throws at once, and one that is none", async () => {
  const copy = await startedCopy();
  const promise = copy.service.tasks.spawn(
    () => {
      throw new RangeError("at once");
    },
    { name: "mine" },
  );
  const { key } = copy.instance.lastCall;
  copy.instance.host.run(key);
  await turn();
  copy.instance.fail({ kind: "crashed" }, { key });
  await assert.rejects(promise, RangeError);
  await assert.rejects(copy.service.tasks.spawn(7, { name: "x" }), { field: "task" });
  await assert.rejects(
    copy.service.tasks.spawn(() => {}, {}),
    { field: "name" },
  );
});

test("a task that is ended rejects at once, and its signal fires with the same error", async () => {
  const copy = await startedCopy();
  const task = await spawned(copy);
  copy.instance.fail({ kind: "closed" }, task.call);
  await assert.rejects(task.promise, (error) => {
    assert.ok(error instanceof copy.tinkex.ClosedError);
    assert.equal(task.signal.reason, error);
    return true;
  });
});

test("a signal that fires reaches the instance, and the function hears why", async () => {
  const copy = await startedCopy();
  const control = new AbortController();
  const task = await spawned(copy, { signal: control.signal });
  control.abort("enough");
  assert.deepEqual(copy.instance.cancelled, [task.call.key]);
  copy.instance.fail({ kind: "aborted" }, task.call);
  await assert.rejects(task.promise, (error) => {
    assert.ok(error instanceof copy.tinkex.AbortedError);
    assert.equal(error.cause, "enough");
    assert.equal(task.signal.reason, error);
    return true;
  });
});

test("a function that has ended settles its promise, though its service was closed in the same moment", async () => {
  const copy = await startedCopy();
  const task = await spawned(copy);
  task.done("a result");
  await turn();
  copy.instance.fail({ kind: "closed" }, task.call);
  assert.equal(await task.promise, "a result");
});

test("a function outlives the instance, is not started again, and the next one hears of its end", async () => {
  const copy = await startedCopy();
  const [going, ended] = [await spawned(copy), await spawned(copy)];
  await copy.instance.die();
  ended.done("before");
  await turn();
  assert.equal(copy.instances.length, 2);
  const keys = copy.instance.calls.map(({ key, method, args }) => [key, method, args.name]);
  assert.deepEqual(keys, [
    [going.call.key, "spawn", "my work"],
    [ended.call.key, "spawn", "my work"],
  ]);
  copy.instance.ends = [];
  copy.instance.host.run(going.call.key);
  copy.instance.host.run(ended.call.key);
  await turn();
  assert.deepEqual(copy.instance.ends, [[ended.call.key, undefined]]);
  going.done("after");
  await turn();
  for (const { call } of [going, ended]) copy.instance.settle({}, call);
  assert.deepEqual(await Promise.all([going.promise, ended.promise]), ["after", "before"]);
  assert.deepEqual([going.runs, ended.runs, going.signal.aborted], [1, 1, false]);
});

test("when no instance will be made any more, a task ends, and its signal fires", async () => {
  const copy = await startedCopy();
  const task = await spawned(copy);
  for (let death = 0; death < 4; death += 1) {
    await copy.instance.die();
    await turn();
  }
  await assert.rejects(task.promise, copy.tinkex.InstanceLostError);
  assert.ok(task.signal.aborted);
});

test("the tree is a tree, with what each part waits for", async () => {
  const copy = await startedCopy();
  copy.onInstance = () => assert.fail("no other instance is made");
  void copy.service.getServerCapabilities();
  copy.instance.rows = ROWS;
  assert.deepEqual(await copy.service.supervision(), TREE);
  copy.instance.rows = [];
  await assert.rejects(copy.service.supervision(), copy.tinkex.ClosedError);
});

test("listeners hear the tree, each until it ends; the instance is watched while there is one", async () => {
  const copy = await startedCopy();
  const heard = [];
  const ends = ["a", "b"].map((who) => copy.service.on("supervision", (tree) => heard.push([who, tree])));
  assert.deepEqual(copy.instance.watched, [
    [1, true],
    [1, true],
  ]);
  copy.instance.host.supervision(1, ROWS);
  assert.deepEqual(heard, [], "not while the instance runs");
  await turn();
  assert.deepEqual(heard, [
    ["a", TREE],
    ["b", TREE],
  ]);
  ends[0]();
  ends[0]();
  copy.instance.host.supervision(1, ROWS);
  copy.instance.host.supervision(2, ROWS);
  await turn();
  assert.deepEqual(
    heard.map(([who]) => who),
    ["a", "b", "b"],
  );
  assert.equal(copy.instance.watched.length, 2);
  ends[1]();
  assert.deepEqual(copy.instance.watched[2], [1, false]);
});

test("the next instance is watched as well, until the service is closed", async () => {
  const copy = await startedCopy();
  const heard = [];
  copy.service.on("supervision", (tree) => heard.push(tree));
  await copy.instance.die();
  await turn();
  assert.deepEqual(copy.instance.watched, [[1, true]]);
  const closing = copy.service.close();
  copy.instance.settle({});
  await closing;
  copy.instance.host.supervision(1, ROWS);
  await turn();
  assert.deepEqual(heard, []);
  await copy.instance.die();
  await turn();
  assert.deepEqual(copy.instance.watched, []);
  assert.throws(() => copy.service.on("supervision", () => {}), copy.tinkex.ClosedError);
});

test("an event that there isn't, and a listener that is none, are refused", async () => {
  const { service } = await startedCopy();
  assert.throws(() => service.on("change", () => {}), { field: "event" });
  assert.throws(() => service.on("supervision"), { field: "listener" });
});
