// Training runs in several tabs of real browsers: handed over, commanded, put aside, and split in two. tests/durability.test.mjs strikes them.
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as after } from "node:timers/promises";
import { root } from "../scripts/paths.mjs";
import { hashesOf, ratesIn } from "./durability/log.mjs";
import { stepOf } from "./pages/training.mjs";
import { back, keepsPages, whereKept } from "./support/back.mjs";
import { complaints, launchChromium, launchFirefox } from "./support/browsers.mjs";
import { pageOf } from "./support/page.mjs";
import { startSandbox } from "./support/sandbox.mjs";

/** A sandbox whose site is the page of runs. */
async function siteOf(t) {
  const page = await pageOf(t, join(root, "tests/pages/runs.mjs"));
  return startSandbox(t, ["--static", page, "--log-bodies"]);
}

/** A tab, and what it asks of the server. */
async function tabIn(context, { url }, { worker = false } = {}) {
  const page = await context.newPage();
  const requests = [];
  page.on("request", (request) => request.url().includes("/api/") && requests.push(request.url()));
  await load(page, url, { worker });
  return Object.assign(page, { requests });
}

async function load(page, url, about = {}) {
  await page.goto(`${url}/#${encodeURIComponent(JSON.stringify(about))}`);
  await page.waitForFunction(() => document.title === "ready");
}

const start = (page, options) => page.evaluate((options) => globalThis.tab.start(options), options);
const open = (page, id, given) => page.evaluate(([id, given]) => globalThis.tab.open(id, given), [id, given]);
const status = (page) => page.evaluate(() => globalThis.tab.status());
const events = (page) => page.evaluate(() => globalThis.tab.events);
const ended = (page) => page.evaluate(() => globalThis.tab.ended());
const reaches = (page, step) =>
  page.waitForFunction(
    (step) => globalThis.tab.events.some((event) => event.type === "step" && event.step >= step),
    step,
  );
/** Asked again and again by the test, as the driver's own wait takes a promise for an answer. */
async function hasRole(page, role) {
  while ((await status(page)).role !== role) await after(10);
}

/** Each step once, in order, by its rate, of all models of the run; gives the hash of the last model's weights. */
async function checkLog(sandbox, id, page, steps) {
  const run = (await page.evaluate(() => globalThis.tab.runs())).find((run) => run.id === id);
  assert.deepEqual([run.state, run.step, run.incarnation], ["completed", steps, 1]);
  const log = (await sandbox.log()).filter(({ model_id }) => model_id === run.modelId);
  assert.ok(log.every(({ ok }) => ok), "nothing was refused"); // prettier-ignore
  assert.deepEqual(ratesIn(log).map(stepOf), Array.from({ length: steps }, (_, i) => i + 1), "each step once, in order"); // prettier-ignore
  return { hash: (await hashesOf(sandbox, run.modelId)).weights_hash, log };
}

/** The weights of a run of so many steps that nothing disturbed. */
async function undisturbed(sandbox, context, steps) {
  const page = await tabIn(context, sandbox);
  const id = await start(page, { steps });
  await ended(page);
  const { hash } = await checkLog(sandbox, id, page, steps);
  await page.close();
  return hash;
}

for (const [name, launch] of [
  ["Chromium", launchChromium],
  ["Firefox", launchFirefox],
]) {
  test(`in ${name}, of five tabs one runs the run, and another takes over when that one is gone`, async (t) => {
    const sandbox = await siteOf(t);
    const context = await (await launch(t)).newContext();
    const steps = 120; // Enough for four tabs to be opened meanwhile.
    const owner = await tabIn(context, sandbox);
    const id = await start(owner, { steps });
    const followers = [];
    for (let i = 0; i < 4; i++) followers.push(await tabIn(context, sandbox));
    const heard = followers.map(complaints);
    for (const follower of followers) await open(follower, id);
    for (const follower of followers) await reaches(follower, 3);
    assert.deepEqual(await Promise.all(followers.map(async (page) => (await status(page)).role)), Array(4).fill("follower")); // prettier-ignore
    assert.deepEqual(followers.flatMap(({ requests }) => requests), [], "followers ask the server for nothing"); // prettier-ignore
    assert.ok(owner.requests.length > 0);

    const gone = Date.now();
    await owner.close();
    const next = await Promise.any(followers.map((page) => hasRole(page, "owner").then(() => page)));
    const taken = Date.now() - gone;
    await reaches(next, 10);
    const moved = (await events(next)).find(({ type, heard }) => type === "step" && heard > gone + taken);
    t.diagnostic(`another tab owned the run ${taken} ms after the owner was closed (bar: 2,000 ms)`);
    if (moved) t.diagnostic(`and told its first step after ${Math.round(moved.heard - gone)} ms`);

    const ends = await Promise.all(followers.map(ended));
    assert.deepEqual(ends, Array(4).fill({ state: "completed" }));
    await checkLog(sandbox, id, next, steps);
    const silent = followers.filter(({ requests }) => requests.length === 0);
    assert.equal(silent.length, 3, "only the one that took over has asked for anything");
    const all = (await next.evaluate(() => globalThis.tab.history())).filter(({ type }) => type === "step");
    assert.deepEqual(all.map(({ step }) => step), Array.from({ length: steps }, (_, i) => i + 1)); // prettier-ignore
    assert.deepEqual(heard.flat(), []);
  });
}

test("a tab that crashes hands its run over, and the weights are those of an undisturbed run", async (t) => {
  const sandbox = await siteOf(t);
  const context = await (await launchChromium(t)).newContext();
  const steps = 30;
  const hash = await undisturbed(sandbox, context, steps);
  const owner = await tabIn(context, sandbox);
  const id = await start(owner, { steps });
  const follower = await tabIn(context, sandbox);
  await open(follower, id);
  await reaches(follower, 3);
  const session = await context.newCDPSession(owner);
  const gone = Date.now();
  session.send("Page.crash").catch(() => undefined);
  await hasRole(follower, "owner");
  t.diagnostic(`taken over ${Date.now() - gone} ms after the crash (bar: 2,000 ms)`);
  assert.deepEqual(await ended(follower), { state: "completed" });
  assert.equal((await checkLog(sandbox, id, follower, steps)).hash, hash);
});

test("without Web Locks tabs agree on one owner, and one that is gone is missed", async (t) => {
  const sandbox = await siteOf(t);
  const context = await (await launchChromium(t)).newContext();
  await context.addInitScript(() => Object.defineProperty(navigator, "locks", { value: undefined }));
  const steps = 250;
  const owner = await tabIn(context, sandbox);
  const id = await start(owner, { steps, baseModel: "tinkex/noop" });
  const followers = [await tabIn(context, sandbox), await tabIn(context, sandbox)];
  for (const follower of followers) await open(follower, id);
  await reaches(followers[0], 3);
  assert.deepEqual(followers.flatMap(({ requests }) => requests), []); // prettier-ignore
  assert.deepEqual(await Promise.all(followers.map(async (page) => (await status(page)).role)), Array(2).fill("follower")); // prettier-ignore
  const session = await context.newCDPSession(owner);
  const gone = Date.now();
  session.send("Page.crash").catch(() => undefined);
  await Promise.any(followers.map((page) => hasRole(page, "owner")));
  t.diagnostic(`taken over ${Date.now() - gone} ms after the crash (a lease lasts 5,000 ms)`);
  const ends = await Promise.all(followers.map(ended));
  assert.deepEqual(ends, Array(2).fill({ state: "completed" }));
  await checkLog(sandbox, id, followers[0], steps);
});

test("a follower's commands are done by the owner", async (t) => {
  const sandbox = await siteOf(t);
  const context = await (await launchChromium(t)).newContext();
  const owner = await tabIn(context, sandbox);
  const id = await start(owner, { steps: 1_000 });
  const follower = await tabIn(context, sandbox);
  await open(follower, id, "nothing");
  await reaches(follower, 2);
  await follower.evaluate(() => globalThis.tab.pause());
  const paused = await status(owner);
  assert.deepEqual([paused.state, paused.cause.kind], ["paused", "paused_by_user"]);
  await follower.evaluate(() => globalThis.tab.resume());
  const { path } = await follower.evaluate(() => globalThis.tab.checkpoint());
  assert.match(path, /^tinker:\/\//);
  await reaches(follower, paused.step + 2);
  assert.deepEqual(await follower.evaluate(() => globalThis.tab.stop()), { state: "stopped" });
  assert.deepEqual(await ended(owner), { state: "stopped" });
  assert.deepEqual(follower.requests, []);
});

for (const kind of ["data", "steps"]) {
  test(`two tabs that are both told to lead (${kind}): one is fenced, and each step happens once`, async (t) => {
    const sandbox = await siteOf(t);
    const context = await (await launchChromium(t)).newContext();
    // What a browser never does: everybody gets every lock.
    await context.addInitScript(() => {
      const request = (_name, options, held) => Promise.resolve((held ?? options)({}));
      Object.defineProperty(navigator, "locks", { value: { request } });
    });
    const steps = 25;
    const first = await tabIn(context, sandbox);
    const id = await start(first, { steps, kind });
    await reaches(first, 3);
    const second = await tabIn(context, sandbox);
    await open(second, id, kind);
    assert.equal((await status(second)).role, "owner");
    await hasRole(first, "follower");
    assert.deepEqual(await Promise.all([first, second].map(ended)), Array(2).fill({ state: "completed" }));
    const { log } = await checkLog(sandbox, id, second, steps);
    const seqs = log.map(({ seq_id }) => seq_id);
    assert.equal(new Set(seqs).size, seqs.length, "no number was used twice");
  });
}

for (const worker of [false, true]) {
  const where = worker ? "in a worker" : "on the page";
  test(`a page that goes into the back-forward cache lets its run go (${where}), and goes on with it when it is back`, (t) =>
    whereKept(t, worker, async () => {
      const sandbox = await siteOf(t);
      const context = await (await launchChromium(t, keepsPages)).newContext();
      const steps = 60;
      const page = await tabIn(context, sandbox, { worker });
      const id = await start(page, { steps });
      const other = await tabIn(context, sandbox);
      await reaches(page, 3);
      await page.evaluate(() => (location.href = "/elsewhere.html"));
      await page.waitForFunction(() => location.pathname === "/elsewhere.html");
      await open(other, id);
      assert.equal((await status(other)).role, "owner", "the lock was let go");
      await reaches(other, 8);
      await back(page);
      await page.waitForFunction(() => globalThis.tab.shown() === 1);
      await hasRole(page, "follower");
      await other.close();
      await hasRole(page, "owner");
      assert.deepEqual(await ended(page), { state: "completed" });
      await checkLog(sandbox, id, page, steps);
    }));
}

test("a run whose server has lost its model before the first checkpoint begins again at its first step, and says so", async (t) => {
  const page = await pageOf(t, join(root, "tests/pages/runs.mjs"));
  const site = ["--static", page];
  const before = await startSandbox(t, site);
  const tab = await tabIn(await (await launchChromium(t)).newContext(), before);
  const steps = 60;
  await start(tab, { steps });
  await reaches(tab, 3);
  await before.kill();
  await startSandbox(t, [...site, "--port", new URL(before.url).port]);
  assert.deepEqual(await ended(tab), { state: "completed" });
  const history = await tab.evaluate(() => globalThis.tab.history());
  const seams = history.filter(({ type }) => type === "incarnation");
  assert.deepEqual(seams.map(({ step, incarnation, path }) => [step, incarnation, path]), [[0, 2, undefined]]); // prettier-ignore
  const again = history.filter(({ type, incarnation }) => type === "step" && incarnation === 2);
  assert.deepEqual(again.map(({ step }) => step), Array.from({ length: steps }, (_, i) => i + 1)); // prettier-ignore
});
