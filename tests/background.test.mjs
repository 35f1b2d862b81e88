// A tab that nobody sees, in a browser with a window: its timers come late, once a minute at the worst, and its session, its run
// and its supervision tree take no harm.
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as after } from "node:timers/promises";
import { root } from "../scripts/paths.mjs";
import { complaints } from "./support/browsers.mjs";
import { launchHeaded } from "./support/headed.mjs";
import { pageOf } from "./support/page.mjs";
import { startSandbox } from "./support/sandbox.mjs";

/** Timers are throttled a second after a tab is hidden, and not first after 5 minutes. */
const soon =
  "--enable-features=IntensiveWakeUpThrottling:grace_period_seconds/1," +
  "QuickIntensiveWakeUpThrottlingAfterLoading:grace_period_seconds_loaded/1";

const hidden = process.env["TINKEX_FULL"] === undefined ? 40 : 200; // s
/** So long without a heartbeat, and the server ends a session. One is due every 10 s. */
const timeout = 30; // s
const tabs = ["runs on the page", "runs in a worker", "waits on the page", "waits in a worker"];

test(`tabs that are hidden for ${hidden} s keep sessions that their server ends after ${timeout}, and their runs go on`, async (t) => {
  const folder = await pageOf(t, join(root, "tests/pages/background.mjs"));
  // A step takes a while, as it does elsewhere.
  const faults = ["--faults", "seed=1,delay=1:100-300"];
  const sandbox = await startSandbox(t, ["--static", folder, "--session-timeout", `${timeout}`, ...faults]);
  const context = await launchHeaded(t, [soon]);
  const [front] = context.pages();
  const open = [];
  for (const what of tabs) open.push(await begin(context, sandbox, what));
  const heard = open.map(complaints);

  await front.bringToFront();
  const before = await Promise.all(open.map(look));
  assert.deepEqual(before.map(({ visibility }) => visibility), tabs.map(() => "hidden")); // prettier-ignore
  await after(hidden * 1_000);
  const behind = await Promise.all(open.map(look));

  for (const [i, page] of open.entries()) {
    const what = tabs[i];
    const ticks = behind[i].ticks - before[i].ticks;
    t.diagnostic(
      `${what}: ${ticks} ticks of a timer of 100 ms in ${hidden} s, ${behind[i].steps - before[i].steps} steps`,
    );
    assert.ok(ticks < hidden, `${what}: its timers are throttled (${ticks} ticks)`);
    if (what.startsWith("runs")) assert.ok(behind[i].steps > before[i].steps, `${what}: goes on behind`);
    await page.bringToFront();
    if (what.startsWith("waits")) await page.evaluate(() => globalThis.tab.resume());
    await page.waitForFunction(
      (steps) => globalThis.tab.events.filter(({ type }) => type === "step").length > steps + 2,
      behind[i].steps,
    );
    const now = await look(page);
    assert.deepEqual([now.state, now.incarnation, now.restarted], ["running", 1, []], what);
    await page.evaluate(() => globalThis.tab.stop());
  }
  assert.deepEqual(heard.flat(), []);
});

/** A tab whose run has made its first steps. */
async function begin(context, { url }, what) {
  const page = await context.newPage();
  await page.goto(`${url}/#${encodeURIComponent(JSON.stringify({ worker: what.endsWith("worker") }))}`);
  await page.waitForFunction(() => document.title === "ready");
  await page.evaluate(() => globalThis.tab.start({ baseModel: "tinkex/noop", steps: 100_000 }));
  await page.waitForFunction(() => globalThis.tab.events.filter(({ type }) => type === "step").length > 2);
  if (what.startsWith("waits")) await page.evaluate(() => globalThis.tab.pause());
  return page;
}

function look(page) {
  return page.evaluate(async () => {
    const restarted = [];
    const visit = (node) => {
      if (node.restarts) restarted.push(node.name);
      node.children.forEach(visit);
    };
    visit(await globalThis.tab.supervision());
    const { state, incarnation } = await globalThis.tab.status();
    const steps = globalThis.tab.events.filter(({ type }) => type === "step").length;
    const visibility = document.visibilityState;
    return { state, incarnation, restarted, steps, visibility, ticks: globalThis.plain.ticks };
  });
}
