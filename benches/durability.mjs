// `npm run bench -- durability`: what it costs that a request is on the disk before it is sent.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { root } from "../scripts/paths.mjs";
import { launchOnProfile } from "../tests/support/browsers.mjs";
import { pageOf } from "../tests/support/page.mjs";
import { startSandbox } from "../tests/support/sandbox.mjs";

const cleanups = [];
const t = { after: (cleanup) => cleanups.unshift(cleanup) };
try {
  const sandbox = await startSandbox(t, [
    "--static",
    await pageOf(t, join(root, "benches/durability/page.mjs")),
  ]);
  const page = await pageOn(sandbox.url);
  await commits(page);
  await steps(page, sandbox.url);
} finally {
  for (const cleanup of cleanups) await cleanup();
}

/** Interleaved, so that whatever else the machine does meets both. */
async function commits(page) {
  console.log("a commit of the journal, and a bare strict put of the same bytes, in ms:");
  console.log("body           journal p50   p95    put p50    p95   ratio of p50, p95");
  for (const [bytes, times] of [
    [200, 300],
    [2_000, 300],
    [20_000, 300],
    [200_000, 200],
    [2_000_000, 80],
    [5_000_000, 60],
  ]) {
    const { journaled, put } = await page.evaluate((args) => globalThis.commits(...args), [bytes, times]);
    const ms = (values, part) => quantile(values, part).toFixed(1).padStart(6);
    const ratio = (part) => (quantile(journaled, part) / quantile(put, part)).toFixed(2);
    console.log(
      `${String(bytes).padStart(9)} B   ${ms(journaled, 0.5)} ${ms(journaled, 0.95)}    ${ms(put, 0.5)} ${ms(put, 0.95)}   ` +
        `${ratio(0.5)}, ${ratio(0.95)}`,
    );
  }
}

/** In turns as well. */
async function steps(page, url) {
  const times = 200;
  const runs = await page.evaluate((args) => globalThis.steps(...args), [url, times]);
  const [disk, memory] = runs.map(({ took }) => took.reduce((sum, ms) => sum + ms, 0) / times);
  console.log(`\n${times} steps of the real model, 8 x 64 tokens each:`);
  runs.forEach(({ persistence, took }) => {
    console.log(
      `${persistence.padEnd(10)} ${quantile(took, 0.5).toFixed(1)} ms a step (p50), ${quantile(took, 0.95).toFixed(1)} (p95)`,
    );
  });
  console.log(`in sum the first took ${(disk / memory).toFixed(3)} times as long`);
}

async function pageOn(url) {
  const profile = mkdtempSync(join(tmpdir(), "tinkex-profile-"));
  t.after(() => rmSync(profile, { recursive: true, force: true }));
  const page = await (await launchOnProfile(t, profile)).newPage();
  await page.goto(url);
  await page.waitForFunction(() => document.title === "ready");
  return page;
}

function quantile(values, part) {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor((sorted.length - 1) * part)];
}
