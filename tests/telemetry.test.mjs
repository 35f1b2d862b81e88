// What a client tells of itself arrives: when its service is closed, when its page goes, and else the next time.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { before, test } from "node:test";
import { init, ServiceClient } from "../pkg/index.js";
import { root } from "../scripts/paths.mjs";
import { launchChromium, launchFirefox } from "./support/browsers.mjs";
import { pageOf } from "./support/page.mjs";
import { startSandbox } from "./support/sandbox.mjs";
import { serveFolder } from "./support/static.mjs";

before(() => init());

/** Until then a batch would have gone out by itself, so that nothing would be shown. In ms. */
const SOONER = 9_000;

/** The batches that a sandbox has, once they hold what is asked for; those that it has after a while where they don't. */
async function batchesOnce(url, holds, patience = 30_000) {
  const end = performance.now() + patience;
  for (;;) {
    const response = await fetch(`${url}/api/v1/sandbox/telemetry`, {
      headers: { "x-api-key": "tml-a-test" },
    });
    const lines = (await response.text()).split("\n").filter((line) => line !== "");
    const batches = lines.map((line) => JSON.parse(line));
    if (holds(batches) || performance.now() > end) return batches;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

const of = (batches, session) =>
  batches.filter(({ session_id }) => session_id === session).flatMap(({ events }) => events);

test("closing a service sends what was not sent, and doesn't wait for it", async (t) => {
  const { url } = await startSandbox(t);
  const service = new ServiceClient({ apiKey: "tml-a-test", baseURL: url });
  await service.createSamplingClient({ baseModel: "tinkex/tiny" });
  const { sessionId } = service;
  await service.close();
  const batches = await batchesOnce(url, (batches) => of(batches, sessionId).length === 2);
  assert.deepEqual(
    of(batches, sessionId).map(({ event }) => event),
    ["SESSION_START", "SESSION_END"],
  );
});

test("turned off, nothing is sent", async (t) => {
  const { url } = await startSandbox(t);
  const service = new ServiceClient({ apiKey: "tml-a-test", baseURL: url, telemetry: false });
  await service.createSamplingClient({ baseModel: "tinkex/tiny" });
  assert.ok((await service.supervision()).children.every(({ name }) => name !== "telemetry"));
  await service.close();
  assert.deepEqual(await batchesOnce(url, () => false, 500), []);
});

test("the tree shows how many events wait, and what for", async (t) => {
  const { url } = await startSandbox(t);
  const service = new ServiceClient({ apiKey: "tml-a-test", baseURL: url });
  t.after(() => service.close());
  await service.createSamplingClient({ baseModel: "tinkex/tiny" });
  const { children } = await service.supervision();
  const { name, kind, queues, waits } = children[0];
  assert.deepEqual([name, kind, queues, waits.for], ["telemetry", "worker", { events: 1 }, "the next batch"]);
});

for (const [browser, launch] of [
  ["Chromium", launchChromium],
  ["Firefox", launchFirefox],
]) {
  for (const [where, ofItsOwn] of [
    ["the page's own server", false],
    ["a server of another origin", true],
  ]) {
    test(`what waits reaches ${where} from a page that is left, in ${browser}`, async (t) => {
      const folder = await pageOf(t, join(root, "tests/pages/telemetry.mjs"));
      const { url } = await startSandbox(t, ofItsOwn ? [] : ["--static", folder]);
      const at = ofItsOwn ? `${await serveFolder(t, folder)}?server=${url}` : url;
      const page = await (await launch(t)).newPage();
      const { session, since } = await opened(page, at);
      await page.goto("about:blank");
      const batches = await batchesOnce(
        url,
        (batches) => of(batches, session).length > 0,
        since + SOONER - performance.now(),
      );
      assert.deepEqual(
        of(batches, session).map(({ event }) => event),
        ["SESSION_START"],
      );
    });
  }
}

test("what a page could not send is sent by the next one, in Chromium", async (t) => {
  const data = mkdtempSync(join(tmpdir(), "tinkex-telemetry-"));
  t.after(() => rmSync(data, { recursive: true, force: true }));
  const folder = await pageOf(t, join(root, "tests/pages/telemetry.mjs"));
  const host = await serveFolder(t, folder);
  const sandbox = await startSandbox(t, ["--data", data]);
  const at = `${host}?server=${sandbox.url}`;
  const context = await (await launchChromium(t)).newContext();
  const page = await context.newPage();
  const { session } = await opened(page, at);
  await sandbox.kill();
  // As a tab is that is not looked at any more: its page has time to write.
  await page.evaluate(() => {
    Object.defineProperty(document, "visibilityState", { value: "hidden" });
    document.dispatchEvent(new Event("visibilitychange"));
  });
  const kept = async () => (await keysOf(page)).some((key) => key.startsWith("telemetry/"));
  while (!(await kept())) await new Promise((resolve) => setTimeout(resolve, 50));
  await page.close();

  const port = new URL(sandbox.url).port;
  const { url } = await startSandbox(t, ["--data", data, "--port", port]);
  await opened(await context.newPage(), at);
  const batches = await batchesOnce(url, (batches) => of(batches, session).length > 0);
  assert.deepEqual(
    of(batches, session).map(({ event }) => event),
    ["SESSION_START"],
  );
});

/** Opens the page and a session in it, and says since when it may have been open. */
async function opened(page, at) {
  await page.goto(at);
  await page.waitForFunction(() => document.title === "ready");
  const since = performance.now();
  return { since, session: await page.evaluate(() => globalThis.open()) };
}

/** The keys of all records in a page's databases. */
function keysOf(page) {
  return page.evaluate(async () => {
    const done = (request) =>
      new Promise((resolve, reject) => {
        request.onsuccess = () => resolve(request.result);
        request.onerror = () => reject(request.error);
      });
    const keys = [];
    for (const { name } of await indexedDB.databases()) {
      const database = await done(indexedDB.open(name));
      for (const store of database.objectStoreNames) {
        keys.push(...(await done(database.transaction(store).objectStore(store).getAllKeys())));
      }
      database.close();
    }
    return keys.map(String);
  });
}
