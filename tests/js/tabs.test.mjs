// One run in several tabs: one owns it, the others follow, command, and take over.
import assert from "node:assert/strict";
import { test } from "node:test";
import { data, keptRun, tabWith, withLocks } from "./run-stub.mjs";
import { turn } from "./stub.mjs";

/** A run that was started in a first tab. `open` opens it in one more. */
async function world(t, given = { data }) {
  const kept = keptRun();
  const id = kept.status.id;
  const tabs = [];
  t.after(async () => {
    for (const tab of tabs) await tab.service.close();
  });
  const tabOf = async () => {
    const tab = await tabWith(kept);
    tabs.push(tab);
    return tab;
  };
  const first = await tabOf();
  first.opening = await first.service.startRun({ baseModel: "model", batchSize: 1, ...given });
  const open = async (options = { data }) => {
    const tab = await tabOf();
    tab.opening = await tab.service.openRun(id, options);
    return tab;
  };
  return { kept, id, first, open, tabOf };
}

const role = async (tab) => (await tab.opening.status()).role;
const until = async (what, condition) => {
  for (let waited = 0; !(await condition()); waited += 10) {
    assert.ok(waited < 5_000, what);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
};
/** What a tab hears of a run. */
const heard = (tab, type = "event") => {
  const all = [];
  tab.opening.on(type, (value) => all.push(value));
  return all;
};
const stepEvent = (step, at = Date.now() + 10 * step) => ({
  type: "step",
  at,
  step,
  incarnation: 1,
  tokens: 3,
  ms: 1,
  loss: 2,
  metrics: {},
});

for (const how of ["Web Locks", "a lease"]) {
  test(`by ${how} one tab owns a run, and only it asks its instance to run it`, async (t) => {
    if (how === "Web Locks") withLocks(t);
    const { first, open } = await world(t);
    const others = [await open(), await open(), await open(), await open()];
    assert.equal(await role(first), "owner");
    for (const other of others) {
      assert.equal(await role(other), "follower");
      const methods = new Set(other.instance.calls.map(({ method }) => method));
      assert.deepEqual([...methods], ["readRun"], "a follower reads, and asks for nothing else");
    }
  });

  test(`by ${how} a tab takes over when the owner lets go, and one at a time`, async (t) => {
    if (how === "Web Locks") withLocks(t);
    const { first, open } = await world(t);
    const [second, third] = [await open(), await open()];
    await first.opening.close();
    await until("one of them owns it", async () => [await role(second), await role(third)].includes("owner"));
    assert.notEqual(await role(second), await role(third));
    const [owner, other] = (await role(second)) === "owner" ? [second, third] : [third, second];
    await owner.opened();
    assert.equal(other.run, undefined);
    await owner.opening.close();
    await until("the other owns it", async () => (await role(other)) === "owner");
    assert.deepEqual(await first.opening.ended, { state: "closed" });
  });
}

test("followers hear what the owner hears, and what they are told of its state", async (t) => {
  withLocks(t);
  const { first, open, kept } = await world(t);
  const follower = await open();
  const [events, states] = [heard(follower), heard(follower, "status")];
  const read = (async () => {
    for await (const event of follower.opening) return event;
  })();
  first.run.event(stepEvent(1, 5));
  first.run.event({
    ...stepEvent(1, 6),
    type: "sample",
    prompt: 0,
    tokens: new Uint8Array(8),
    stopReason: "stop",
  });
  first.run.status({ ...kept.status, step: 1, submitted: 2 });
  await until("it was told", () => states.length > 0 && events.length === 2);
  assert.deepEqual(await read, events[0]);
  assert.deepEqual(events[0], stepEvent(1, 5));
  assert.deepEqual(events[1].tokens, Int32Array.of(0, 0));
  assert.deepEqual([states.at(-1).step, states.at(-1).role], [1, "follower"]);
  const { reads } = kept;
  assert.equal((await follower.opening.status()).step, 1);
  assert.equal(kept.reads, reads, "while the owner is heard, nothing is read");
});

test("where the owner is silent, a follower reads what is kept, and tells nothing twice", async (t) => {
  withLocks(t);
  const { first, open, kept } = await world(t);
  const follower = await open();
  const events = heard(follower);
  const known = stepEvent(1);
  first.run.event(known);
  await until("it was told", () => events.length === 1);
  // As a tab that is frozen: it holds the lock, and hears nothing.
  Object.defineProperty(BroadcastChannel.prototype, "postMessage", {
    value: () => undefined,
    configurable: true,
    writable: true,
  });
  t.after(() => (BroadcastChannel.prototype.postMessage = post));
  kept.rows.push(known, stepEvent(2));
  kept.status = { ...kept.status, step: 2 };
  await until("it was read", () => events.length === 2);
  assert.deepEqual(events.map(({ step }) => step), [1, 2]); // prettier-ignore
  const { cause, step } = await follower.opening.status();
  assert.deepEqual([step, cause.kind], [2, "needs_owner"]);
  assert.ok(cause.since <= Date.now() && cause.ends.length > 0);
});
const post = BroadcastChannel.prototype.postMessage;

test("a tab that takes over tells what the owner could not tell any more", async (t) => {
  withLocks(t);
  const { first, open, kept } = await world(t);
  const second = await open();
  const events = heard(second);
  const known = stepEvent(1);
  first.run.event(known);
  await until("it was told", () => events.length === 1);
  kept.rows.push(known, stepEvent(2));
  await first.opening.close();
  const run = await second.opened();
  run.event(stepEvent(3));
  await until("all was told", () => events.length === 3);
  assert.deepEqual(events.map(({ step }) => step), [1, 2, 3]); // prettier-ignore
});

test("where there are no channels, a run has nobody to share it with", async (t) => {
  const { BroadcastChannel } = globalThis;
  delete globalThis.BroadcastChannel;
  t.after(() => (globalThis.BroadcastChannel = BroadcastChannel));
  const { first } = await world(t);
  assert.equal(await role(first), "owner");
  const pausing = first.opening.pause();
  await turn();
  first.instance.settle({});
  await pausing;
});

test("where a page may not use its locks, there is a lease", async (t) => {
  const locks = { request: () => Promise.reject(new DOMException("an opaque origin", "SecurityError")) };
  Object.defineProperty(globalThis, "navigator", { value: { locks }, configurable: true });
  t.after(() => delete globalThis.navigator);
  const { first, open } = await world(t);
  const second = await open();
  assert.deepEqual([await role(first), await role(second)], ["owner", "follower"]);
  await first.opening.close();
  await until("it owns it", async () => (await role(second)) === "owner");
});

test("commands of a follower are done by the owner, once each, and give what they give there", async (t) => {
  withLocks(t);
  const { first, open } = await world(t);
  const follower = await open();
  const doing = [
    follower.opening.pause(),
    follower.opening.resume({ from: "checkpoint" }),
    follower.opening.checkpoint(),
  ];
  await until("all have come", () => first.commands().length === 3);
  const calls = first.instance.calls.slice(-3);
  // Longer than it takes to ask again.
  await new Promise((resolve) => setTimeout(resolve, 2_500));
  first.instance.settle({}, calls[0]);
  first.instance.fail({ kind: "storage", reason: "quota", message: "no room" }, calls[1]);
  first.instance.settle({ path: "tinker://a/weights/b" }, calls[2]);
  const [paused, resumed, saved] = await Promise.allSettled(doing);
  assert.equal(paused.status, "fulfilled");
  assert.deepEqual([resumed.reason.code, resumed.reason.reason], ["storage", "quota"]);
  assert.deepEqual(saved.value, { path: "tinker://a/weights/b" });
  const id = first.kept.status.id;
  assert.deepEqual(first.commands(), [
    ["pauseRun", { id }],
    ["resumeRun", { id, from: "checkpoint" }],
    ["checkpointRun", { id }],
  ]);
});

test("a follower that stops a run hears its end, as all do", async (t) => {
  withLocks(t);
  const { first, open, kept } = await world(t);
  const [follower, another] = [await open(), await open({})];
  const stopping = follower.opening.stop({ checkpoint: false });
  await until("it has come", () => first.commands().length === 1);
  assert.deepEqual(first.commands()[0][1], { id: kept.status.id, checkpoint: false });
  kept.status = { ...kept.status, state: "stopped" };
  const [call] = first.instance.calls.slice(-1);
  first.run.status(kept.status);
  first.run.ends({ state: "stopped" });
  first.instance.settle({}, call);
  for (const end of [stopping, first.opening.ended, follower.opening.ended, another.opening.ended]) {
    assert.deepEqual(await end, { state: "stopped" });
  }
  assert.equal(await role(first), "none");
  await assert.rejects(follower.opening.pause(), { code: "closed", message: /is stopped/ });
  assert.deepEqual(await follower.opening.stop(), { state: "stopped" });
  const reopened = await open();
  assert.deepEqual([await role(reopened), await reopened.opening.ended], ["none", { state: "stopped" }]);
});

test("a command that the owner goes away with is done by the next, where once more is as once", async (t) => {
  withLocks(t);
  const { first, open } = await world(t);
  const [second, third] = [await open(), await open({})];
  const pausing = third.opening.pause();
  const saving = third.opening.checkpoint();
  saving.catch(() => undefined);
  await until("both have come", () => first.commands().length === 2);
  await first.opening.close();
  await until("the next has it", () => second.commands().length === 1);
  second.instance.settle({});
  await pausing;
  await assert.rejects(saving, { code: "closed", outcome: "unknown", message: /may be done or not/ });
});

test("without data a run is followed and read, and its status says what it needs", async (t) => {
  withLocks(t);
  const { first, open, kept } = await world(t);
  const follower = await open({});
  await first.opening.close();
  await until("nobody is heard", async () => (await follower.opening.status()).cause !== undefined);
  const { role, state, cause } = await follower.opening.status();
  assert.deepEqual([role, state, cause.kind], ["follower", "running", "needs_data"]);
  assert.match(cause.ends, /openRun\(id, \{ data \}\)/);
  assert.equal(follower.run, undefined, "it doesn't own it");
  kept.rows.push(stepEvent(1));
  assert.equal((await follower.opening.history()).length, 1);
  await assert.rejects(follower.opening.pause(), { code: "invalid_argument", field: "data" });
  const owner = await open();
  assert.equal(await owner.opening.status().then(({ role }) => role), "owner");
  await until("it is followed", async () => (await follower.opening.status()).cause === undefined);
});

test("a run of steps without its function needs that", async (t) => {
  withLocks(t);
  const { first, open } = await world(t, { step: async () => {}, steps: 3, batchSize: undefined });
  const follower = await open({});
  await first.opening.close();
  await until("nobody is heard", async () => (await follower.opening.status()).cause !== undefined);
  assert.equal((await follower.opening.status()).cause.kind, "needs_step");
});

test("an owner that is fenced follows, and doesn't take the run back while another is heard", async (t) => {
  // Two tabs that are both told that they may: what a browser never says, and what the fence is for.
  Object.defineProperty(globalThis, "navigator", {
    value: { locks: { request: (_name, _options, callback) => Promise.resolve(callback({})) } },
    configurable: true,
  });
  t.after(() => delete globalThis.navigator);
  const { first, open } = await world(t);
  const second = await open();
  assert.equal(await role(second), "owner");
  first.run.ends({ state: "closed", cause: { kind: "fenced", message: "taken over", ends: "" } });
  await turn();
  assert.equal(await role(first), "follower");
  await until("it hears the other", async () => (await first.opening.status()).cause === undefined);
  // Longer than it rests before it would ask again.
  await new Promise((resolve) => setTimeout(resolve, 6_000));
  assert.equal(first.instance.calls.filter(({ method }) => method === "run").length, 1);
});

/** What a browser tells a page, and how it is. */
function withPage(t) {
  const page = new EventTarget();
  page.visibilityState = "visible";
  globalThis.document = page;
  globalThis.addEventListener = (...given) => page.addEventListener(...given);
  globalThis.removeEventListener = (...given) => page.removeEventListener(...given);
  // What listens is let go of after the test's own end, without a page.
  t.after(() => {
    delete globalThis.document;
    delete globalThis.addEventListener;
  });
  return (type, about = {}) => {
    if (about.visibilityState) page.visibilityState = about.visibilityState;
    page.dispatchEvent(Object.assign(new Event(type), about));
  };
}

test("a page that is put aside lets the run go and its lock with it, and asks again when it is back", async (t) => {
  const locks = withLocks(t);
  const { first, open, kept } = await world(t);
  await first.opening.close();
  const happens = withPage(t);
  const page = await open();
  happens("visibilitychange", { visibilityState: "hidden" });
  assert.deepEqual(page.run.heard().at(-1), { type: "hidden" });
  kept.closesSlowly = true;
  happens("pagehide", { persisted: true });
  await turn();
  assert.equal(locks.wanted(), 0, "no lock is held or waited for, also while the run is still closing");
  page.run.ends({ state: "closed" });
  kept.closesSlowly = false;
  await turn();
  assert.deepEqual(page.commands(), [["closeRun", { id: kept.status.id }]]);
  assert.equal(await role(page), "follower");
  happens("pageshow", { persisted: true });
  await until("it owns it again", async () => (await role(page)) === "owner");
  assert.equal(locks.wanted(), 1);
});

test("a follower that is put aside asks for no lock meanwhile", async (t) => {
  const locks = withLocks(t);
  const { first, open } = await world(t);
  const happens = withPage(t);
  const follower = await open();
  assert.equal(locks.wanted(), 2);
  happens("pagehide", { persisted: true });
  await turn();
  assert.equal(locks.wanted(), 1);
  await first.opening.close();
  await turn();
  assert.equal(follower.run, undefined);
  happens("pageshow", { persisted: true });
  await until("it owns it", async () => (await role(follower)) === "owner");
});

test("an instance's death is nothing to the run's tab: the next one has the run and the commands", async (t) => {
  withLocks(t);
  const { first, kept } = await world(t);
  const pausing = first.opening.pause();
  await turn();
  first.instance.trapOnCall();
  first.service.getServerCapabilities().catch(() => undefined);
  await until("another instance runs it", () => first.instances.length === 2 && first.run);
  assert.equal(await role(first), "owner");
  assert.deepEqual(first.run.args.data.length, 3);
  const again = first.instance.calls.find(({ method }) => method === "pauseRun");
  first.instance.settle({}, again);
  await pausing;
  const events = heard(first);
  first.run.event(stepEvent(7));
  await turn();
  assert.equal(events.length, 1);
  assert.equal(kept.status.state, "running");
});

test("closing the service closes its runs", async (t) => {
  withLocks(t);
  const { first, open } = await world(t);
  const follower = await open();
  await first.service.close();
  assert.deepEqual(await first.opening.ended, { state: "closed" });
  await until("another has it", async () => (await role(follower)) === "owner");
  await assert.rejects(first.opening.pause(), { code: "closed" });
  const next = await first.opening[Symbol.asyncIterator]().next();
  assert.equal(next.done, true);
});

test("a run that can't be opened says why, and holds nothing", async (t) => {
  const locks = withLocks(t);
  const { first, id, tabOf } = await world(t);
  await first.opening.close();
  first.kept.says = false;
  const tab = await tabOf();
  const opening = tab.service.openRun(id, { data });
  const { fails } = await tab.opened();
  fails({ kind: "storage", reason: "blocked", message: "an old page keeps it" });
  await assert.rejects(opening, { code: "storage", reason: "blocked" });
  assert.equal(locks.wanted(), 0);
});
