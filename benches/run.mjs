// `npm run bench -- run`: steps per second of a training run beside a bare script that submits ahead and keeps nothing.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { root } from "../scripts/paths.mjs";
import { launchOnProfile } from "../tests/support/browsers.mjs";
import { pageOf } from "../tests/support/page.mjs";
import { startSandbox } from "../tests/support/sandbox.mjs";

const STEPS = 60; // of each, in each turn
const TURNS = 4;
const BAR = 0.9;
const DISK = 1.1;

const cleanups = [];
const t = { after: (cleanup) => cleanups.unshift(cleanup) };
try {
  const sandbox = await startSandbox(t, ["--static", await pageOf(t, join(root, "benches/run/page.mjs"))]);
  const profile = mkdtempSync(join(tmpdir(), "tinkex-profile-"));
  t.after(() => rmSync(profile, { recursive: true, force: true }));
  const page = await (await launchOnProfile(t, profile)).newPage();
  await page.goto(sandbox.url);
  await page.waitForFunction(() => document.title === "ready");
  const { kept, inMemory, bare, persistence } = await page.evaluate(
    (args) => globalThis.compare(...args),
    [sandbox.url, STEPS, TURNS],
  );
  const rate = (took) => (STEPS * TURNS * 1000) / took;
  console.log(`${TURNS} x ${STEPS} steps of the real model, 8 x 64 tokens each, in turns:`);
  console.log(`a run, kept in ${persistence}: ${rate(kept).toFixed(1)} steps/s`);
  console.log(`a run, kept in memory: ${rate(inMemory).toFixed(1)} steps/s`);
  console.log(`a bare script: ${rate(bare).toFixed(1)} steps/s`);
  console.log(`the run makes ${(bare / kept).toFixed(3)} of the bare script's steps; the bar is ${BAR}`);
  console.log(
    `on the disk it takes ${(kept / inMemory).toFixed(3)} times as long as in memory; the bar is ${DISK}`,
  );
} finally {
  for (const cleanup of cleanups) await cleanup();
}
