// A panic of the client rejects the call that it was working on, says so, and takes nobody else with it.
import assert from "node:assert/strict";
import { join } from "node:path";
import { describe, test } from "node:test";
import { root } from "../scripts/paths.mjs";
import { complaints, launchChromium, launchFirefox } from "./support/browsers.mjs";
import { pageOf } from "./support/page.mjs";
import { startSandbox } from "./support/sandbox.mjs";

const panics = 1_000;
/** In a worker, where they are the same panics. */
const few = 100;

for (const [name, launch] of [
  ["Chromium", launchChromium],
  ["Firefox", launchFirefox],
]) {
  describe(`in ${name}`, () => {
    test(`${panics} panics reject ${panics} calls, each with its type, and siblings work on`, async (t) => {
      const { page, heard } = await open(t, launch);
      const seed = 1;
      const seen = await page.evaluate(([seed, panics]) => globalThis.run(seed, panics), [seed, panics]);
      print(t, seen);

      const those = (how) => seen.table.filter(({ ends }) => ends === how);
      assert.deepEqual(
        seen.table.flatMap(({ wrong }) => wrong),
        [],
      );
      assert.equal(seen.notStruck, 0);
      assert.deepEqual(sums(those("rejects")), { panics, rejected: panics, resolved: 0 });
      // A supervisor tries again what it was doing, and gives up at the third panic in a row.
      const { panics: met } = sums(those("resolves"));
      assert.deepEqual(sums(those("resolves")), { panics: met, rejected: 0, resolved: met });
      const { rejected: given } = sums(those("gives up"));
      assert.deepEqual(sums(those("gives up")), { panics: 3 * given, rejected: given, resolved: 0 });
      assert.ok(met > 0 && given > 0);
      assert.ok(seen.siblingCalls > panics / 10, `${seen.siblingCalls} calls of siblings`);
      assert.deepEqual(heard, []);
    });

    for (const [way, words] of [
      ["signal", "giving 200 calls up"],
      ["clients", "closing the clients of 200 calls"],
      ["close", "closing the service of 200 calls"],
    ]) {
      test(`${words} settles them all before the next task of the event loop`, async (t) => {
        const { page, heard } = await open(t, launch);
        assert.deepEqual(await page.evaluate((way) => globalThis.stopping(way), way), {
          before: 0,
          after: 200,
        });
        assert.deepEqual(heard, []);
      });
    }
  });
}

test(`${few} panics in a worker in Chromium reject ${few} calls, and siblings work on`, async (t) => {
  const { page, heard } = await open(t, launchChromium);
  const seen = await page.evaluate((panics) => globalThis.run(1, panics, true), few);
  print(t, seen);
  const wrong = seen.table.flatMap(({ wrong }) => wrong);
  const { panics, rejected, resolved } = sums(seen.table.filter(({ ends }) => ends === "rejects"));
  assert.deepEqual([wrong, seen.notStruck, panics, rejected, resolved], [[], 0, few, few, 0]);
  assert.ok(seen.siblingCalls > few / 10, `${seen.siblingCalls} calls of siblings`);
  assert.deepEqual(heard, []);
});

async function open(t, launch) {
  const folder = await pageOf(t, join(root, "tests/pages/panics.mjs"), { faults: true });
  const sandbox = await startSandbox(t, ["--static", folder]);
  const page = await (await launch(t)).newPage();
  const heard = complaints(page);
  await page.goto(sandbox.url);
  await page.waitForFunction(() => document.title === "ready");
  return { page, heard };
}

function print(t, { table, siblingCalls }) {
  const row = (name, ...columns) =>
    t.diagnostic(name.padEnd(40) + columns.map((column) => String(column).padStart(10)).join(""));
  row("place", "panics", "rejected", "resolved");
  for (const { name, panics, rejected, resolved } of table) row(name, panics, rejected, resolved);
  row("all", ...Object.values(sums(table)));
  t.diagnostic(`${siblingCalls} calls of siblings resolved meanwhile, and none was rejected`);
}

function sums(lines) {
  const sum = (column) => lines.reduce((sum, line) => sum + line[column], 0);
  return { panics: sum("panics"), rejected: sum("rejected"), resolved: sum("resolved") };
}
