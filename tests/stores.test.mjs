// The stores where they live: IndexedDB in real browsers, with the faults of the field.
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { root } from "../scripts/paths.mjs";
import { complaints, launchChromium, launchFirefox } from "./support/browsers.mjs";
import { pageOf } from "./support/page.mjs";
import { serveFolder } from "./support/static.mjs";

for (const [name, launch] of [
  ["Chromium", launchChromium],
  ["Firefox", launchFirefox],
]) {
  test(`IndexedDB in ${name}`, async (t) => {
    const site = await serveFolder(t, await pageOf(t, join(root, "tests/pages/stores.mjs")));
    const page = await (await launch(t)).newPage();
    const heard = complaints(page);
    await page.goto(site);
    await page.waitForFunction(() => document.title === "ready");
    for (const part of ["promises", "faults"]) {
      const found = await page.evaluate((part) => globalThis[part](), part);
      for (const [name, failure] of Object.entries(found)) {
        await t.test(name, () => assert.equal(failure, null));
      }
    }
    assert.deepEqual(heard, []);
  });
}

test("in Chromium, a full disk refuses a commit whole, and a database that the user deletes fences the page", async (t) => {
  const site = await serveFolder(t, await pageOf(t, join(root, "tests/pages/stores.mjs")));
  const page = await (await launchChromium(t)).newPage();
  const heard = complaints(page);
  await page.goto(site);
  await page.waitForFunction(() => document.title === "ready");
  const devtools = await page.context().newCDPSession(page);
  const commit = (bytes) => page.evaluate((bytes) => globalThis.driven.commit(bytes), bytes);
  const keys = () => page.evaluate(() => globalThis.driven.keys());

  // Before the database is there: Chromium remembers for a while how much room it had.
  await devtools.send("Storage.overrideQuotaForOrigin", { origin: site, quotaSize: 1_000_000 });
  await page.evaluate(() => globalThis.driven.begin());
  assert.equal(await commit(4_000_000), "quota");
  assert.deepEqual(await keys(), ["a"], "nothing of it was written");
  await devtools.send("Storage.overrideQuotaForOrigin", { origin: site });
  // It remembers that for a while as well.
  await page.waitForFunction(async () => (await globalThis.driven.commit(100)) === "written");
  assert.deepEqual(await keys(), ["b/0"]);

  await devtools.send("Storage.clearDataForOrigin", { origin: site, storageTypes: "indexeddb" });
  assert.equal(await commit(100), "fenced");
  assert.deepEqual(await keys(), []);
  assert.deepEqual(heard, []);
});

test("a page of no origin works in memory, and says so", async (t) => {
  const headers = { "content-security-policy": "sandbox allow-scripts", "access-control-allow-origin": "*" };
  const site = await serveFolder(t, await pageOf(t, join(root, "tests/pages/stores.mjs")), { headers });
  const page = await (await launchChromium(t)).newPage();
  await page.goto(site);
  await page.waitForFunction(() => document.title === "ready");
  const { persistence, said } = await page.evaluate(() => globalThis.persistence());
  assert.equal(persistence, "memory");
  assert.equal(said.length, 1);
  assert.match(said[0], /IndexedDB .* memory/);
});
