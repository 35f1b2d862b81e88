// A training run goes on wherever it is struck, and each step happens once. `npm run soak` strikes far more often.
import { test } from "node:test";
import { numbers, points, strikes, struckRun } from "./durability/run.mjs";

for (const [how, what] of Object.entries(strikes)) {
  test(`each training step happens once when ${what}, at every point of a request`, async (t) => {
    const { steps, hit, settledAfter } = await struckRun(t, {
      how,
      at: Object.keys(points),
      random: numbers(1),
    });
    t.diagnostic(`${steps} steps, struck at: ${hit.join(", ")}`);
    if (settledAfter.length > 0) {
      t.diagnostic(
        `pending calls settled ${settledAfter.map(Math.round).join(", ")} ms after the page's load`,
      );
    }
  });
}
