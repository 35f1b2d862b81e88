// Training goes on wherever it is struck, and each step happens once. `npm run soak` strikes far more often.
import { test } from "node:test";
import assert from "node:assert/strict";
import { points, strikes, struckCalls } from "./durability/calls.mjs";
import { numbers, quantiles } from "./durability/chance.mjs";
import { placed, struckRun } from "./durability/runs.mjs";

for (const [how, what] of Object.entries(strikes)) {
  test(`each training step happens once when ${what}, at every point of a request`, async (t) => {
    const { steps, hit, times } = await struckCalls(t, {
      how,
      at: Object.keys(points),
      random: numbers(1),
    });
    t.diagnostic(`${steps} steps, struck at: ${hit.join(", ")}`);
    if (times.length > 0) t.diagnostic(`pending calls settled ${quantiles(times)} after the page's load`);
  });
}

const steps = 24;
let undisturbed;

/** The weights of a run that nothing struck. */
function weightsOfUndisturbed(t) {
  undisturbed ??= struckRun(t, { how: "kill", kind: "data", steps, at: [], random: numbers(1) });
  return undisturbed.then(({ hash }) => hash);
}

const tellStrikes = (t, { hit, times }) => {
  t.diagnostic(`struck at: ${hit.map(({ point }) => point).join(", ")}`);
  if (times.length > 0)
    t.diagnostic(`it moved ${quantiles(times)} (p50 and p95) after the page's load (bar: 1,000 ms)`);
};

for (const [name, how, worker, at] of [
  ["its browser is killed", "kill", false, ["opening", "written", "sent", "told", "evaluating", "saved"]],
  ["its page is reloaded", "reload", false, ["called", "opened", "answered", "evaluated", "saving", "told"]],
  ["it works in a worker, and its browser is killed", "kill", true, ["told", "any moment", "saved"]],
]) {
  test(`a run makes each step once when ${name}, and has the weights of an undisturbed run`, async (t) => {
    const expected = await weightsOfUndisturbed(t);
    const random = numbers(2);
    const run = await struckRun(t, { how, kind: "data", worker, steps, at: placed(at, random), random });
    tellStrikes(t, run);
    assert.equal(run.hash, expected);
  });
}

for (const [name, how, at] of [
  ["its browser is killed", "kill", ["drawn", "sent", "sampling", "called", "trained"]],
  ["its page is reloaded", "reload", ["sampled", "answered", "written", "trained"]],
]) {
  test(`a step function's run makes each update once when ${name}: what was sampled and drawn is what was trained on`, async (t) => {
    const random = numbers(3);
    tellStrikes(t, await struckRun(t, { how, kind: "steps", steps: 16, at: placed(at, random), random }));
  });
}

test("a run whose session ended in its absence goes on with a new model from the last checkpoint, to the weights of an undisturbed run", async (t) => {
  const expected = await weightsOfUndisturbed(t);
  const random = numbers(4);
  const at = placed(["told", "saved"], random);
  const run = await struckRun(t, { how: "absence", kind: "data", steps, at, random });
  tellStrikes(t, run);
  assert.equal(run.seams, run.hit.length, "each absence is a seam");
  assert.equal(run.hash, expected);
});
