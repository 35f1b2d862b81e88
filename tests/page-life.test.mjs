// What happens to a page happens to nothing in it: put aside and brought back by the browser's history, offline and online
// again, it goes on, and each step is applied once.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { root } from "../scripts/paths.mjs";
import { back, keepsPages, whereKept } from "./support/back.mjs";
import { complaints, launchChromium } from "./support/browsers.mjs";
import { pageOf } from "./support/page.mjs";
import { startSandbox } from "./support/sandbox.mjs";

const steps = 5;

for (const [where, worker] of [
  ["on the page", false],
  ["in a worker", true],
]) {
  test(`${where}, a page that was left while it trains and comes back by history goes on`, (t) =>
    whereKept(t, worker, async () => {
      const { page, sandbox, heard } = await open(t, worker);
      for (let visit = 1; visit <= 3; visit += 1) {
        await trained(page, steps * visit);
        await page.goto(`${sandbox.url}/elsewhere.html`);
        await returned(page);
      }
      const before = await page.evaluate(() => globalThis.seen.steps);
      await trained(page, before + steps);
      await end(page, sandbox, heard, [false, true, true, true]);
    }));

  test(`${where}, a page that was left is in nobody's way: its database can be upgraded meanwhile`, (t) =>
    whereKept(t, worker, async () => {
      const { page, sandbox, heard } = await open(t, worker);
      for (let visit = 1; visit <= 2; visit += 1) {
        await trained(page, steps * visit);
        await page.evaluate(() => globalThis.hold());
        await page.goto(`${sandbox.url}/elsewhere.html`);
        // The browser would throw the other page away, were it in the way of this.
        assert.deepEqual(await page.evaluate(upgrade, 1000 + visit), { upgraded: 1, blocked: 0 });
        await returned(page);
        await page.evaluate(() => globalThis.release());
      }
      await trained(page, steps * 3);
      await end(page, sandbox, heard, [false, true, true]);
    }));

  test(`${where}, a page that was left while it writes is kept, though another page waits to write`, (t) =>
    whereKept(t, worker, async () => {
      const { page, sandbox, heard, context } = await open(t, worker);
      const other = await context.newPage();
      await other.goto(`${sandbox.url}/elsewhere.html`);
      for (let visit = 1; visit <= 3; visit += 1) {
        await trained(page, steps * visit);
        await page.evaluate(() => globalThis.hold());
        await page.evaluate(() => (globalThis.leaving = globalThis.release));
        await page.goto(`${sandbox.url}/elsewhere.html`);
        await other.evaluate(write);
        await returned(page);
      }
      await trained(page, steps * 4);
      await end(page, sandbox, heard, [false, true, true, true]);
    }));

  test(`${where}, a page that is offline says so of what it waits for, and goes on when it is online again`, async (t) => {
    const { page, sandbox, heard, context } = await open(t, worker);
    // A page that shows its tree has the package's second file before it is offline.
    await page.evaluate(() => globalThis.tree());
    for (let time = 1; time <= 2; time += 1) {
      await trained(page, steps * time);
      await context.setOffline(true);
      await page.waitForFunction(async () =>
        (await globalThis.tree()).waits.some((what) => what.includes("this device is offline")),
      );
      const before = await page.evaluate(() => globalThis.seen.steps);
      await context.setOffline(false);
      await trained(page, before + steps);
    }
    const { waits } = await page.evaluate(() => globalThis.tree());
    assert.deepEqual(
      waits.filter((what) => what.includes("offline")),
      [],
    );
    await end(page, sandbox, heard, [false]);
  });
}

async function open(t, worker) {
  const folder = await pageOf(t, join(root, "tests/pages/page-life.mjs"));
  const sandbox = await startSandbox(t, ["--static", folder]);
  const elsewhere = '<!doctype html><title>elsewhere</title><link rel="icon" href="data:," />';
  writeFileSync(join(folder, "elsewhere.html"), elsewhere);
  const browser = await launchChromium(t, keepsPages);
  const context = await browser.newContext();
  const page = await context.newPage();
  const heard = complaints(page);
  await page.goto(sandbox.url);
  await page.waitForFunction(() => document.title === "ready");
  await page.evaluate((worker) => globalThis.train(worker), worker);
  return { page, sandbox, heard, context };
}

/** By the browser's history, to the page as it was. */
async function returned(page) {
  await back(page);
  await page.waitForFunction(() => globalThis.seen.shown.at(-1));
}

/** In a page: gives the package's databases a new version, as a newer version of the package does. */
async function upgrade(version) {
  let [upgraded, blocked] = [0, 0];
  for (const { name } of await indexedDB.databases()) {
    await new Promise((resolve, reject) => {
      const request = indexedDB.open(name, version);
      request.onblocked = () => (blocked += 1);
      request.onerror = () => reject(request.error);
      request.onsuccess = () => {
        upgraded += 1;
        request.result.close();
        resolve();
      };
    });
  }
  return { upgraded, blocked };
}

/** In a page: a transaction that takes its turn behind all others of the package's databases. */
async function write() {
  const done = (request, event) => new Promise((resolve) => (request[event] = () => resolve(request.result)));
  for (const { name } of await indexedDB.databases()) {
    const database = await done(indexedDB.open(name), "onsuccess");
    const transaction = database.transaction(["records", "fences"], "readwrite");
    transaction.objectStore("fences").count();
    await done(transaction, "oncomplete");
    database.close();
  }
}

function trained(page, steps) {
  return page.waitForFunction(
    (steps) => globalThis.seen.steps >= steps || globalThis.seen.failed.length,
    steps,
  );
}

/** The page was never another one, nothing failed or was restarted, and each step was applied once. */
async function end(page, sandbox, heard, shown) {
  const { restarted } = await page.evaluate(() => globalThis.tree());
  const seen = await page.evaluate(async () => {
    globalThis.seen.enough = true;
    await globalThis.stop;
    return globalThis.seen;
  });
  // The browser's own word for each request that it did not send.
  const unmet = heard.filter((line) => !line.includes("ERR_INTERNET_DISCONNECTED"));
  assert.deepEqual([seen.shown, seen.failed, seen.warned, restarted, unmet], [shown, [], [], [], []]);
  const applied = (await sandbox.log()).filter(
    ({ model_id, seq_id }) => model_id === seen.model && seq_id > 0,
  );
  assert.deepEqual(
    applied.map(({ seq_id, ok }) => [seq_id, ok]),
    Array.from({ length: 2 * seen.steps }, (_, i) => [i + 1, true]),
    "each number once, and none left out",
  );
}
