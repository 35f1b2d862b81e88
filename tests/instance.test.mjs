// An instance that dies is replaced: its calls go on or say that they were not sent, its clients work on, and each step is
// applied once.
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";
import { root } from "../scripts/paths.mjs";
import { complaints, launchChromium } from "./support/browsers.mjs";
import { pageOf } from "./support/page.mjs";
import { startSandbox } from "./support/sandbox.mjs";

const traps = process.env.TINKEX_FULL ? 100 : 25;

test(`${traps} traps under load in Node: every promise settles, and each step is applied once`, async (t) => {
  const folder = await pageOf(t, join(root, "tests/pages/traps.mjs"), { faults: true });
  const sandbox = await startSandbox(t);
  const uncaught = [];
  const note = (reason) => uncaught.push(reason);
  process.on("unhandledRejection", note).on("uncaughtException", note);
  t.after(() => process.off("unhandledRejection", note).off("uncaughtException", note));
  await import(pathToFileURL(join(folder, "page.js")).href);
  await hold(t, sandbox, await globalThis.run(1, traps, false, sandbox.url));
  assert.deepEqual(uncaught, []);
});

for (const [where, worker] of [
  ["in Chromium", false],
  ["in a worker in Chromium", true],
]) {
  test(`${traps} traps under load ${where}: nothing of them reaches the page`, async (t) => {
    const folder = await pageOf(t, join(root, "tests/pages/traps.mjs"), { faults: true });
    const sandbox = await startSandbox(t, ["--static", folder]);
    const page = await (await launchChromium(t)).newPage();
    const heard = complaints(page);
    await page.goto(sandbox.url);
    await page.waitForFunction(() => document.title === "ready");
    await hold(t, sandbox, await page.evaluate((args) => globalThis.run(2, ...args), [traps, worker]));
    assert.deepEqual(heard, []);
  });
}

async function hold(t, sandbox, { steps, samples, lost, wrong, lives, models }) {
  t.diagnostic(
    `${lives} traps, ${steps.join(" and ")} steps, ${samples} samples, ${lost.not_sent} calls not sent, ` +
      `${lost.unknown} unknown`,
  );
  assert.deepEqual(wrong, []);
  assert.equal(lives, traps);
  const log = await sandbox.log();
  for (const [i, model] of models.entries()) {
    const applied = log.filter((entry) => entry.model_id === model && entry.seq_id > 0);
    assert.deepEqual(
      applied.map(({ seq_id }) => seq_id),
      applied.map((_, place) => place + 1),
      "no number is left out, and none comes twice",
    );
    for (const kind of ["forward_backward", "optim_step"]) {
      assert.equal(applied.filter((entry) => entry.kind === kind).length, steps[i], `${kind} of model ${i}`);
    }
  }
}
