// The README's loop, struck: what must be true of it in the end. Each step stands once in the server's own log, none is missing, no
// body was refused, and the log applied to a fresh engine gives the same weights.
import assert from "node:assert/strict";
import { upTo } from "./chance.mjs";
import { checkReplay, ratesIn } from "./log.mjs";
import { struck } from "./struck.mjs";

/** Where a request is when its page, its instance or its server is struck, and which state that is. */
export const points = {
  called: "unwritten",
  written: "written",
  sent: "sent",
  accepted: "sent",
  answered: "answered",
  settled: "answered",
};

/** What a strike is. */
export const strikes = {
  kill: "the browser is killed",
  reload: "the page is reloaded",
  trap: "the instance traps",
  server: "the server is killed",
};

/** What a page passes before it is struck, in steps, at most. */
const farthest = 3;
/** A strike comes at once, or so many ms later at most. */
const latest = 12;

/**
 * Runs the loop through strikes at these points, in ways that `random` decides, and checks it. Gives the points where it was hit, and how
 * long after each load of the page its pending calls were settled, in ms.
 */
export async function struckCalls(t, { how, at, random }) {
  const steps = at.length * farthest + 2;
  const { sandbox, made, hit, times, done } = await struck(t, {
    page: "durability.mjs",
    faults: true,
    how,
    at: at.map((point) => ({ point, nth: upTo(farthest, random) })),
    latest,
    random,
    asked: { steps },
  });
  assert.equal(hit.length, at.length, "each strike hit");
  assert.equal(done.instances, how === "trap" ? 1 + hit.length : 1, "each trap ended an instance");
  const log = (await sandbox.log()).filter(({ model_id }) => model_id === made.model);
  assert.deepEqual(
    log.map(({ seq_id, ok }) => [seq_id, ok]),
    Array.from({ length: 2 * steps + 1 }, (_, n) => [n, true]),
    "each number stands once, in order",
  );
  assert.deepEqual(
    ratesIn(log),
    Array.from({ length: steps }, (_, step) => (step + 1) / 1e6),
    "each step stands once",
  );
  await checkReplay(sandbox, made.model);
  return { steps, hit: hit.map(({ point }) => point), times };
}
