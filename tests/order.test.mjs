// Calls made without an await between them are applied in the order of the calls, and none waits behind a held poll.
import assert from "node:assert/strict";
import { test } from "node:test";
import { join } from "node:path";
import { root } from "../scripts/paths.mjs";
import { complaints, launchChromium } from "./support/browsers.mjs";
import { pageOf } from "./support/page.mjs";
import { startSandbox } from "./support/sandbox.mjs";

/** A browser's limit for one host over HTTP/1.1. What goes beyond it waits for one of them to end, a held poll perhaps. */
const browserConnections = 6;

const steps = 500;
const samples = 100;

for (const [where, worker] of [
  ["on the page", false],
  ["in a worker", true],
]) {
  const words = `${where}, 500 steps and 100 samples called without awaiting are in order, and no call waits behind a held poll`;
  test(words, async (t) => {
    const folder = await pageOf(t, join(root, "tests/pages/order.mjs"));
    const sandbox = await startSandbox(t, ["--static", folder, "--log-bodies"]);
    const page = await (await launchChromium(t)).newPage();
    const heard = complaints(page);
    await page.goto(sandbox.url);
    await page.waitForFunction(() => document.title === "ready");
    const seen = await page.evaluate((args) => globalThis.run(...args), [steps, samples, worker]);

    const inOrder = Array.from({ length: steps }, (_, step) => [
      `forwardBackward ${step}`,
      `optimStep ${step}`,
    ]).flat();
    assert.deepEqual(seen.settled, inOrder, "promises settle in the order of their calls");
    assert.equal(seen.samples, samples);

    // Number 0 makes the model.
    const applied = (await sandbox.log()).filter(({ seq_id }) => seq_id > 0);
    assert.deepEqual(
      applied.map(({ seq_id, ok }) => [seq_id, ok]),
      inOrder.map((_, i) => [i + 1, true]),
      "the server applied each number once, in order",
    );
    assert.deepEqual(
      applied.filter(({ kind }) => kind === "optim_step").map(({ body }) => learningRateOf(body)),
      Array.from({ length: steps }, (_, step) => (step + 1) / 1e6),
      "and each number has the request of its call",
    );

    t.diagnostic(
      `${seen.requests} requests over ${seen.protocols}; at most ${seen.most} at once, ${seen.mostPolls} of them polls`,
    );
    t.diagnostic(`the longest wait for a connection: ${seen.longestWait.toFixed(1)} ms`);
    assert.deepEqual(seen.protocols, ["http/1.1"]);
    assert.ok(
      seen.most <= browserConnections,
      `${seen.most} requests at once: some waited for another to end`,
    );
    assert.ok(seen.mostPolls >= 1, "polls are held, or this shows nothing");
    assert.ok(
      seen.mostPolls <= browserConnections - 2,
      `${seen.mostPolls} polls at once leave no place for submissions`,
    );
    assert.deepEqual(heard, []);
  });
}

const learningRateOf = (body) => JSON.parse(body).adam_params.learning_rate;
