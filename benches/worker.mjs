// `npm run bench -- worker`: how long a page is held up while it trains on large batches, by a client's calls and by a run, with
// the client on the page and in a worker.
import { join } from "node:path";
import { root } from "../scripts/paths.mjs";
import { launchChromium } from "../tests/support/browsers.mjs";
import { pageOf } from "../tests/support/page.mjs";
import { startSandbox } from "../tests/support/sandbox.mjs";

const steps = 30;
/** What a browser calls a long task, in ms: with the worker there is none. */
const bar = 50;

const cleanups = [];
const t = { after: (cleanup) => cleanups.unshift(cleanup) };
try {
  const sandbox = await startSandbox(t, ["--static", await pageOf(t, join(root, "benches/worker/page.mjs"))]);
  const browser = await launchChromium(t);
  console.log(
    `${steps} steps of 64 x 1,024 tokens on the no-op model, the next submitted while the last runs.`,
  );
  console.log(
    "The page's thread, in ms; what waits for a processor that others use counts in wall time alone:\n",
  );
  console.log("                                                 tasks over   the longest task        a step");
  console.log(
    "work        client      batches      ms a step   50 ms        wall time   processor   processor",
  );
  const over = [];
  for (const work of ["calls", "run"]) {
    for (const form of ["arrays", "typed arrays"]) {
      for (const worker of [false, true]) {
        const { took, tasks } = await measured(browser, sandbox.url, { work, worker, form });
        const most = Math.max(...tasks.map(({ wall }) => wall));
        const busiest = Math.max(...tasks.map(({ cpu }) => cpu));
        const all = tasks.reduce((sum, { cpu }) => sum + cpu, 0);
        const long = tasks.filter(({ wall }) => wall > bar).length;
        if (worker && long) over.push({ most, busiest });
        console.log(
          { calls: "calls", run: "a run" }[work].padEnd(12) +
            (worker ? "in a worker" : "on the page").padEnd(12) +
            form.padEnd(13) +
            cell(took / steps, 9) +
            String(long).padStart(13) +
            [most, busiest, all / steps].map((ms) => cell(ms, 12)).join(""),
        );
      }
    }
  }
  console.log(
    over.length
      ? `\nover the bar of no task over ${bar} ms with the worker; of the processor they took at most ` +
          `${Math.max(...over.map(({ busiest }) => busiest)).toFixed(1)} ms`
      : `\nno task over ${bar} ms with the worker: within the bar`,
  );
} finally {
  for (const cleanup of cleanups) await cleanup();
}

function cell(ms, width) {
  return ms.toFixed(1).padStart(width);
}

/** So many steps of one kind, and the tasks of the page's thread while they went. */
async function measured(browser, url, { work, worker, form }) {
  const page = await browser.newPage();
  await page.goto(url);
  await page.waitForFunction(() => document.title === "ready");
  await browser.startTracing(page, { categories: ["toplevel", "blink.user_timing", "__metadata"] });
  const took = await page.evaluate((args) => globalThis.measure(...args), [work, url, worker, steps, form]);
  const { traceEvents } = JSON.parse(await browser.stopTracing());
  await page.close();
  const [begin, end] = traceEvents.filter(({ name }) => name === "measured");
  const tasks = traceEvents
    .filter(
      ({ name, pid, tid, ts }) =>
        /RunTask$/.test(name) && pid === begin.pid && tid === begin.tid && ts >= begin.ts && ts < end.ts,
    )
    .map(({ dur = 0, tdur = 0 }) => ({ wall: dur / 1000, cpu: tdur / 1000 }));
  return { took, tasks };
}
