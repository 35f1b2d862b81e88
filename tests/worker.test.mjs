// The client in a real worker: one that is ended is followed by another, and one that can't be made says what to do.
import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { root } from "../scripts/paths.mjs";
import { complaints, launchChromium, launchFirefox } from "./support/browsers.mjs";
import { pageOf } from "./support/page.mjs";
import { startSandbox } from "./support/sandbox.mjs";
import { serveFolder } from "./support/static.mjs";

/** As many as an owner puts up with within 5 s. */
const deaths = 3;

test(`${deaths} workers that are ended while they train are followed by others, and each step is applied once`, async (t) => {
  const folder = await pageOf(t, join(root, "tests/pages/page-life.mjs"));
  const sandbox = await startSandbox(t, ["--static", folder]);
  const page = await (await launchChromium(t)).newPage();
  const heard = complaints(page);
  await page.addInitScript(() => {
    globalThis.workers = [];
    // Whether a worker answers is asked every other second; here more often.
    const { setInterval } = globalThis;
    globalThis.setInterval = (ask, ms) => setInterval(ask, ms / 10);
    globalThis.Worker = class extends Worker {
      constructor(...args) {
        super(...args);
        globalThis.workers.push(this);
      }
    };
  });
  await page.goto(sandbox.url);
  await page.waitForFunction(() => document.title === "ready");
  await page.evaluate(() => globalThis.train(true));
  for (let death = 0; death <= deaths; death += 1) {
    const after = await page.evaluate(() => globalThis.seen.steps + 5);
    await page.waitForFunction(
      (steps) => globalThis.seen.steps >= steps || globalThis.seen.failed.length,
      after,
    );
    if (death < deaths) await page.evaluate(() => globalThis.workers.at(-1).terminate());
  }
  const seen = await page.evaluate(async () => {
    globalThis.seen.enough = true;
    await globalThis.stop;
    return { ...globalThis.seen, workers: globalThis.workers.length };
  });
  assert.deepEqual([seen.failed, heard], [[], []]);
  assert.ok(seen.workers > deaths, `${seen.workers} workers`);
  const applied = (await sandbox.log()).filter(
    ({ model_id, seq_id }) => model_id === seen.model && seq_id > 0,
  );
  assert.deepEqual(
    applied.map(({ seq_id, ok }) => [seq_id, ok]),
    Array.from({ length: 2 * seen.steps }, (_, i) => [i + 1, true]),
  );
});

for (const [name, launch] of [
  ["Chromium", launchChromium],
  ["Firefox", launchFirefox],
]) {
  test(`in ${name} a worker that a policy refuses, or that is not there, says what to do`, async (t) => {
    const folder = await pageOf(t, join(root, "tests/pages/page-life.mjs"));
    const browser = await launch(t);
    const refusal = async (headers) => {
      const page = await browser.newPage();
      await page.goto(await serveFolder(t, folder, { headers }));
      await page.waitForFunction(() => document.title === "ready");
      return page.evaluate(() =>
        globalThis.train(true).catch(({ name, code, message }) => [name, code, message]),
      );
    };
    const refused = await refusal({ "content-security-policy": "worker-src 'none'" });
    rmSync(join(folder, "worker.js"));
    for (const [kind, code, message] of [refused, await refusal({})]) {
      assert.deepEqual([kind, code], ["InitError", "init_failed"]);
      assert.match(message, /init\(\{ worker: url \}\).*worker-src.*Without `worker`/);
    }
  });
}
