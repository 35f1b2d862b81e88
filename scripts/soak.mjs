// `npm run soak [-- --only calls|runs] [--seed N]`: training that is struck at seeded random moments, more of them than `npm test` has
// time for. Prints the tables of docs/durability.md.
import { loadavg } from "node:os";
import { parseArgs } from "node:util";
import { points, strikes, struckCalls } from "../tests/durability/calls.mjs";
import { numbers, quantiles, shuffled } from "../tests/durability/chance.mjs";
import { phases, placed, pointsOf, runStrikes, struckRun } from "../tests/durability/runs.mjs";
import { buildFaulty } from "./build/faulty.mjs";
import { buildPackage } from "./build/package.mjs";
import { buildSandbox } from "./build/sandbox.mjs";
import { main, Stop } from "./run.mjs";
import { setup } from "./setup.mjs";

/** How often each kind of strike comes. */
const callTimes = { kill: 100, reload: 50, trap: 50, server: 50 };
const runKinds = [
  { how: "kill", kind: "data", times: 100 },
  { how: "reload", kind: "data", times: 50 },
  { how: "kill", kind: "data", worker: true, times: 30 },
  { how: "kill", kind: "steps", times: 50 },
  { how: "reload", kind: "steps", times: 30 },
  { how: "absence", kind: "data", times: 20 },
];
/** How often one run is struck, and the steps of a training run. */
const inOneRun = 10;
const steps = 60;

await main(async () => {
  const { only, seed } = asked();
  await setup("test");
  await buildPackage();
  await buildFaulty();
  await buildSandbox();
  const tables = [];
  if (only !== "runs") tables.push(await callTable(seed));
  if (only !== "calls") tables.push(await runTable(seed));
  tables.forEach((table) => console.log(`\n${table}`));
  console.log(
    `\nAll of it held. Load average at the end: ${loadavg()
      .map((load) => load.toFixed(1))
      .join(", ")}.`,
  );
});

function asked() {
  const usage = new Stop("npm run soak takes --only calls or --only runs, and --seed N, a whole number.");
  try {
    const { values } = parseArgs({ options: { only: { type: "string" }, seed: { type: "string" } } });
    const seed = Number(values.seed ?? 1);
    if (!Number.isInteger(seed) || !["calls", "runs", undefined].includes(values.only)) throw usage;
    return { only: values.only, seed };
  } catch {
    throw usage;
  }
}

async function callTable(seed) {
  const states = [...new Set(Object.values(points))];
  const rows = [];
  for (const [how, what] of Object.entries(strikes)) {
    const random = numbers(seed);
    const at = spread(Object.keys(points), callTimes[how], random);
    const runs = await struckOften(what, seed, at, (t, at) => struckCalls(t, { how, at, random }));
    const hit = runs.flatMap((run) => run.hit);
    const counts = states.map((state) => hit.filter((point) => points[point] === state).length);
    rows.push(told([`${what}, ${hit.length} times`, ...counts, ...sums(runs)]));
  }
  return table([...states, "steps", "settled after load, p50 and p95 (bar: 1,000 ms)"], rows);
}

async function runTable(seed) {
  const names = Object.keys(phases);
  const rows = [];
  const undisturbed = await struckOnce((t) =>
    struckRun(t, { how: "kill", kind: "data", steps, at: [], random: numbers(seed) }),
  );
  for (const { times, ...kind } of runKinds) {
    const what = `${runStrikes[kind.how]}${kind.worker ? ", with a worker" : ""}`;
    const name = kind.kind === "steps" ? `step function: ${what}` : what;
    const random = numbers(seed);
    const at = placed(spread(pointsOf(kind), times, random), random);
    const strike = async (t, at) => {
      const run = await struckRun(t, { ...kind, steps, at, random });
      if (kind.kind === "data" && run.hash !== undisturbed.hash) {
        throw new Error(`its weights are ${run.hash}, and an undisturbed run's are ${undisturbed.hash}`);
      }
      return run;
    };
    const runs = await struckOften(name, seed, at, strike, () => placed(["told"], random)[0]);
    const hit = runs.flatMap((run) => run.hit);
    const counts = names.map((phase) => hit.filter((strike) => strike.phase === phase).length || "");
    const seams = runs.reduce((sum, run) => sum + run.seams, 0);
    rows.push(told([`${name}, ${hit.length} times`, ...counts, runs.length, seams, ...sums(runs)]));
  }
  return table([...names, "runs", "seams", "steps", "moves after load, p50 and p95 (bar: 1,000 ms)"], rows);
}

/** Of the points, each as often as the others, `times` in all. */
function spread(of, times, random) {
  return shuffled(
    Array.from({ length: times }, (_, n) => of[n % of.length]),
    random,
  );
}

/**
 * Runs until all strikes have hit: those that are left when a run is done go on in another one. Where none has hit, `first` gives
 * one to begin with: some are made possible only by another.
 */
async function struckOften(what, seed, at, strike, first) {
  const left = [...at];
  const runs = [];
  while (left.length > 0) {
    const these = left.splice(0, inOneRun);
    try {
      const run = await struckOnce((t) => strike(t, these));
      runs.push(run);
      const missed = these.slice(run.hit.length);
      if (run.hit.length === 0) left.push(first());
      left.push(...missed);
    } catch (error) {
      const message = `${what}, seed ${seed}, run ${runs.length + 1}: ${error.message}`;
      throw new Error(message, { cause: error });
    }
    console.log(`${what}: ${left.length} of ${at.length} left`);
  }
  return runs;
}

/** As the test runner would: what is to be done after it, is. */
async function struckOnce(strike) {
  const cleanups = [];
  try {
    return await strike({ after: (cleanup) => cleanups.unshift(cleanup) });
  } finally {
    for (const cleanup of cleanups) await cleanup();
  }
}

function sums(runs) {
  const made = runs.reduce((sum, run) => sum + run.steps, 0);
  return [made, quantiles(runs.flatMap((run) => run.times))];
}

function line(cells) {
  return `| ${cells.join(" | ")} |`;
}

/** As soon as it is known: a later kind of strike may fail. */
function told(row) {
  console.log(line(row));
  return row;
}

function table(heads, rows) {
  return [line(["", ...heads]), line(["", ...heads].map(() => "---")), ...rows.map(line)].join("\n");
}
