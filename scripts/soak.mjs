// `npm run soak [-- --seed N]`: training runs that are struck at seeded random moments, more of them than `npm test` has
// time for. Prints the table of docs/durability.md.
import { points, numbers, strikes, struckRun } from "../tests/durability/run.mjs";
import { buildFaulty } from "./build/faulty.mjs";
import { buildPackage } from "./build/package.mjs";
import { buildSandbox } from "./build/sandbox.mjs";
import { main, Stop } from "./run.mjs";
import { setup } from "./setup.mjs";

/** How often each kind strikes, and how often in one run. */
const times = { kill: 100, reload: 50, trap: 50, server: 50 };
const inOneRun = 10;

const states = [...new Set(Object.values(points))];

await main(async () => {
  const [flag, value, ...rest] = process.argv.slice(2);
  const seed = flag === undefined ? 1 : Number(value);
  if ((flag !== undefined && flag !== "--seed") || !Number.isInteger(seed) || rest.length > 0) {
    throw new Stop("npm run soak takes --seed N, a whole number, or nothing.");
  }
  await setup("test");
  await buildPackage();
  await buildFaulty();
  await buildSandbox();
  const rows = [];
  for (const how of Object.keys(strikes)) rows.push(await struck(how, seed));
  console.log(`\n| | ${states.join(" | ")} | steps | settled after load, p50 and p95 |`);
  console.log(`|---|${"---|".repeat(states.length + 2)}`);
  rows.forEach((row) => console.log(`| ${row.join(" | ")} |`));
  console.log("\nEach step stands once in the servers' logs, and the logs give the same weights.");
});

async function struck(how, seed) {
  const random = numbers(seed);
  const all = Object.keys(points);
  const at = shuffled(
    Array.from({ length: times[how] }, (_, n) => all[n % all.length]),
    random,
  );
  const hit = [];
  const settledAfter = [];
  let steps = 0;
  for (let from = 0; from < at.length; from += inOneRun) {
    const cleanups = [];
    const t = { after: (cleanup) => cleanups.unshift(cleanup) };
    try {
      const run = await struckRun(t, { how, at: at.slice(from, from + inOneRun), random });
      hit.push(...run.hit);
      settledAfter.push(...run.settledAfter);
      steps += run.steps;
    } catch (error) {
      throw new Error(`${strikes[how]}, seed ${seed}, strikes from ${from}: ${error.message}`, {
        cause: error,
      });
    } finally {
      for (const cleanup of cleanups) await cleanup();
    }
    console.log(`${strikes[how]}: ${hit.length} of ${at.length}`);
  }
  const count = (state) => hit.filter((point) => points[point] === state).length;
  return [`${strikes[how]}, ${hit.length} times`, ...states.map(count), steps, quantiles(settledAfter)];
}

function quantiles(values) {
  if (values.length === 0) return "";
  const sorted = values.toSorted((a, b) => a - b);
  const [p50, p95] = [0.5, 0.95].map((part) => Math.round(sorted[Math.floor((sorted.length - 1) * part)]));
  return `${p50} and ${p95} ms`;
}

function shuffled(values, random) {
  return values
    .map((value) => [random(), value])
    .sort(([a], [b]) => a - b)
    .map(([, value]) => value);
}
