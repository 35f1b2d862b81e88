// The page's own tasks and the tree, on the real WebAssembly and a real server.
import assert from "node:assert/strict";
import { before, test } from "node:test";
import { ClosedError, AbortedError, init, ServiceClient, TooManyCallsError } from "../pkg/index.js";
import { startSandbox } from "./support/sandbox.mjs";

before(() => init());

async function open(t) {
  const { url } = await startSandbox(t);
  const service = new ServiceClient({ apiKey: "tml-a-test", baseURL: url });
  t.after(() => service.close());
  return service;
}

const named = (tree, name) => tree.children.find((child) => child.name.startsWith(name));

/** The tree, once `holds` says that it is as awaited. */
const treeOnce = (service, holds) =>
  new Promise((resolve) => {
    const end = service.on("supervision", (tree) => {
      if (!holds(tree)) return;
      end();
      resolve(tree);
    });
  });

const never = () => new Promise(() => {});

test("a task is in the tree under its name while its function runs, and siblings don't notice its end", async (t) => {
  const service = await open(t);
  let finish;
  const stays = service.tasks.spawn(() => new Promise((resolve) => (finish = resolve)), { name: "stays" });
  const fails = service.tasks.spawn(
    async () => {
      throw new RangeError("mine");
    },
    { name: "fails" },
  );
  await assert.rejects(fails, RangeError);
  const tree = await treeOnce(service, (tree) => named(tree, "tasks")?.children.length === 1);
  const { name, kind, state, waits, children } = named(tree, "tasks").children[0];
  assert.deepEqual(
    { name, kind, state, children },
    { name: "stays", kind: "task", state: "running", children: [] },
  );
  assert.equal(waits.for, "its function on the page");
  finish("a result");
  assert.equal(await stays, "a result");
  await treeOnce(service, (tree) => named(tree, "tasks").children.length === 0);
});

test("closing the service ends its tasks: their signals fire, their promises reject", async (t) => {
  const service = await open(t);
  let signal;
  const task = service.tasks.spawn((given) => ((signal = given), never()), { name: "held" });
  await treeOnce(service, (tree) => named(tree, "tasks")?.children.length === 1);
  const rejected = assert.rejects(task, ClosedError);
  await service.close();
  await rejected;
  assert.ok(signal.reason instanceof ClosedError);
  await assert.rejects(
    service.tasks.spawn(() => {}, { name: "late" }),
    ClosedError,
  );
});

test("giving a task up ends it, and no other", async (t) => {
  const service = await open(t);
  const control = new AbortController();
  let signal;
  const task = service.tasks.spawn((given) => ((signal = given), never()), {
    name: "given up",
    signal: control.signal,
  });
  const other = service.tasks.spawn(async () => "other", { name: "other" });
  await treeOnce(service, (tree) => named(tree, "tasks")?.children.length === 1);
  control.abort();
  await assert.rejects(task, AbortedError);
  assert.ok(signal.aborted);
  assert.equal(await other, "other");
});

test("100 tasks run at a time, 10,000 wait, and the next is refused", async (t) => {
  const service = await open(t);
  let running = 0;
  const work = () => ((running += 1), never());
  const tasks = Array.from({ length: 10_100 }, (_, i) => service.tasks.spawn(work, { name: `${i}` }));
  const ends = Promise.allSettled(tasks);
  await assert.rejects(service.tasks.spawn(work, { name: "one more" }), (error) => {
    assert.ok(error instanceof TooManyCallsError);
    return error.retryable && error.outcome === "not_sent";
  });
  const { queues } = named(await service.supervision(), "tasks");
  assert.deepEqual(queues, { running: 100, queued: 10_000 });
  assert.equal(running, 100);
  await service.close();
  assert.ok((await ends).every(({ reason }) => reason instanceof ClosedError));
  assert.equal(running, 100, "what waited was never started");
});

test("the tree shows a session and its heartbeat, and a client while there is one", async (t) => {
  const service = await open(t);
  const training = await service.createLoraTrainingClient("tinkex/sandbox-1m", { rank: 4 });
  const heartbeat = (tree) => named(tree, "session")?.waits?.for === "the next heartbeat";
  const tree = await treeOnce(service, heartbeat);
  const client = named(named(tree, "clients"), `training client ${training.modelId}`);
  assert.equal(client.kind, "supervisor");
  assert.deepEqual(client.children.map(({ name }) => name).sort(), ["calls", "dispatcher", "requests"]);
  await training.close();
  await treeOnce(service, (tree) => named(tree, "clients").children.length === 0);
});

test("changes are told at most ten times a second, and not at all once nobody listens", async (t) => {
  const service = await open(t);
  let told = 0;
  const end = service.on("supervision", () => (told += 1));
  const began = performance.now();
  const shortly = () => new Promise((resolve) => setTimeout(resolve));
  while (told < 3) await service.tasks.spawn(shortly, { name: "busy" });
  // The first is told at once, each other one after a pause.
  assert.ok(performance.now() - began >= 199, "three times within 200 ms");
  end();
  await service.tasks.spawn(shortly, { name: "unseen" });
  assert.equal(named(await service.supervision(), "calls").children.length, 0, "nobody watches any more");
});
