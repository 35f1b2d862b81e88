// A training run that is struck, and what must be true of it in the end: within each incarnation every step stands once in the server's
// own log, in order; the last one ends with the weights of a run that nothing disturbed; and what a step function recorded is what was trained on.
import assert from "node:assert/strict";
import { advantagesOf, evaluation, inputsOf, isEvaluation, lossOf, stepOf } from "../pages/training.mjs";
import { upTo } from "./chance.mjs";
import { checkReplay, hashesOf, ratesIn } from "./log.mjs";
import { anyMoment, struck } from "./struck.mjs";

/** What a strike is. */
export const runStrikes = {
  kill: "the browser is killed",
  reload: "the page is reloaded",
  absence: "the browser is killed until the session has ended",
};

/** What a run is doing when it is struck; and how often a page passes each point of that before it is struck, at most. */
export const phases = {
  opening: { opening: 1, opened: 1 },
  writing: { called: 12, written: 12 },
  asking: { sent: 10, accepted: 10, answered: 10 },
  sampling: { sampling: 6, sampled: 4, drawn: 4, trained: 4 },
  telling: { told: 5 },
  evaluating: { evaluating: 1, evaluated: 1 },
  saving: { saving: 1, saved: 1 },
  renewing: { creating: 1, loading: 1, renewed: 1 },
  [anyMoment]: { [anyMoment]: 1 },
};

const farthest = Object.assign({}, ...Object.values(phases));
const phaseOf = (point) => Object.keys(phases).find((phase) => Object.hasOwn(phases[phase], point));

/** A strike comes at once, or so many ms later at most: about as long as a step takes. */
const latest = 40;
/** One at any moment comes so many ms after the page was asked for, at most. */
const latestMoment = 700;
/** Longer than from one heartbeat to the next (10 s). */
const sessionTimeout = 12; // s

/** The points at which a run of this kind can be struck. Where a worker works, those that the page itself sees. */
export function pointsOf({ how, kind, worker = false }) {
  const of = (...names) => names.flatMap((name) => Object.keys(phases[name]));
  if (worker) return [...of("opening", "telling", anyMoment), "evaluated", "saved"];
  return [
    ...of("opening", "writing", "asking", "telling", "evaluating", "saving", anyMoment),
    ...(kind === "steps" ? of("sampling") : []),
    ...(how === "absence" ? of("renewing") : []),
  ];
}

/** The strikes at these points, which `random` places. */
export const placed = (points, random) =>
  points.map((point) =>
    point === anyMoment
      ? { point, ms: random() * latestMoment }
      : { point, nth: upTo(farthest[point], random) },
  );

/**
 * Has a run of so many steps, over a set of data or of a step function, struck in one profile, and checks it. Gives the strikes that hit with
 * what the run was doing then, how often it had another model, the hash of its weights, and how long after its loads it moved again, in ms.
 */
export async function struckRun(t, { how, kind, worker, steps, at, random }) {
  const mayBeGone = how === "absence";
  const checkpoints = { everySteps: 5 };
  const { sandbox, hit, times, done } = await struck(t, {
    page: "struck-run.mjs",
    how,
    at,
    latest,
    random,
    asked: { kind, worker, mayBeGone, run: { steps, checkpoints, evaluation } },
    server: mayBeGone ? ["--session-timeout", `${sessionTimeout}`] : [],
  });
  assert.deepEqual(done.end, { state: "completed" });
  const { run, history } = done;
  const log = await sandbox.log();
  const seams = checkHistory(history, log, run, steps);
  if (!mayBeGone) assert.equal(seams, 0, "it goes on with the model that it had");
  if (kind === "steps") {
    checkTrained(history, log, run.modelId, steps);
    await checkReplay(sandbox, run.modelId);
  }
  const { weights_hash: hash } = await hashesOf(sandbox, run.modelId);
  return { steps, hit: hit.map(({ point }) => ({ point, phase: phaseOf(point) })), seams, hash, times };
}

/** Every model of a run, by the history that it shows: from which step it goes on, and what was done with it. Gives how many seams there are. */
function checkHistory(history, log, run, steps) {
  const seams = history.filter(({ type }) => type === "incarnation");
  assert.deepEqual([run.state, run.step, run.incarnation], ["completed", steps, 1 + seams.length]);
  assert.ok(log.every(({ ok }) => ok), "nothing was refused"); // prettier-ignore
  const told = (incarnation) =>
    history
      .filter((event) => event.type === "step" && event.incarnation === incarnation)
      .map(({ step }) => step);

  // The first model of a run that has lost it is named nowhere any more.
  const models = [undefined, ...seams.map(({ modelId }) => modelId)];
  if (seams.length === 0) models[0] = run.modelId;
  assert.equal(models.at(-1), run.modelId);
  const others = new Set(models);
  const ofFirst = log.filter(({ model_id }) => !others.has(model_id));

  models.forEach((model, i) => {
    const [seam, next] = [seams[i - 1], seams[i]];
    const from = seam?.step ?? 0;
    const until = next?.from ?? steps;
    if (seam) checkSeam(history, seam, i + 1);
    assert.deepEqual(told(i + 1), stepsFrom(from, until), `incarnation ${i + 1} tells each step once`);
    const applied = ratesIn(model ? log.filter(({ model_id }) => model_id === model) : ofFirst).map(stepOf);
    // What was lost with a model may have been applied and not told.
    assert.ok(applied.length >= until - from, `incarnation ${i + 1} made what it tells`);
    const made = next ? from + applied.length : steps;
    assert.deepEqual(applied, stepsFrom(from, made), `incarnation ${i + 1} makes each step once, in order`);
  });
  return seams.length;
}

/** It goes on from the last checkpoint before it, or anew where there is none. */
function checkSeam(history, seam, incarnation) {
  assert.equal(seam.incarnation, incarnation);
  const before = history.slice(0, history.indexOf(seam));
  const last = before.findLast(({ type }) => type === "checkpoint");
  assert.deepEqual([seam.step, seam.path], [last?.step ?? 0, last?.path], "it is the last checkpoint");
  assert.ok(seam.from >= seam.step);
}

/** What each step's function gave is what its update was trained on, to the byte. */
function checkTrained(history, log, model, steps) {
  const values = history.filter(({ type }) => type === "step").map(({ value }) => value);
  const passes = log.filter(
    ({ kind, model_id, body }) => kind === "forward_backward" && model_id === model && !isEvaluation(body),
  );
  assert.equal(passes.length, steps, "one pass a step");
  passes.forEach(({ body }, i) => {
    const { rollouts, logprobs, noise } = values[i];
    assert.ok(body.includes(lossOf(i + 1)), `step ${i + 1} has its loss`);
    const has = (numbers, what) => {
      const bytes = new Uint8Array(numbers.buffer);
      assert.ok(body.includes(bytes), `step ${i + 1} was trained on the ${what} that it recorded`);
    };
    const advantages = advantagesOf(rollouts, noise);
    rollouts.forEach((tokens, nth) => {
      const inputs = inputsOf(tokens, logprobs[nth], advantages[nth]);
      has(BigInt64Array.from(inputs.targetTokens, BigInt), "rollouts");
      has(Float32Array.from(inputs.logprobs), "logprobs");
      has(Float32Array.from(inputs.advantages), "advantages");
    });
  });
}

const stepsFrom = (from, until) => Array.from({ length: until - from }, (_, i) => from + i + 1);
