// What a run is started with: complete as it is written down, and refused by name where it can't be right.
import assert from "node:assert/strict";
import { test } from "node:test";
import { data, datum, keptRun, tabWith } from "./run-stub.mjs";

const step = async () => {};

test("a run is written down with every default in its place", async (t) => {
  const tab = await tabWith(keptRun());
  t.after(() => tab.service.close());
  await tab.service.startRun({ baseModel: "model", data, batchSize: 2 });
  const { seed, data: written, ...spec } = tab.kept.spec;
  assert.ok(Number.isInteger(seed) && seed >= 0, "a seed was drawn");
  assert.equal(written.kind, "indexed");
  assert.equal(written.length, 3);
  assert.match(written.fingerprint, /^[0-9a-f]{16}$/);
  assert.deepEqual(spec, {
    baseModel: "model",
    rank: 32,
    trainMlp: true,
    trainAttn: true,
    trainUnembed: true,
    kind: "data",
    lossFn: "cross_entropy",
    epochs: 1,
    batchSize: 2,
    shuffle: true,
    buffer: 1024,
    stepTimeoutMs: 600_000,
    schedule: { type: "constant", peak: 1e-4, warmupSteps: 0, floor: 0 },
    adam: { beta1: 0.9, beta2: 0.95, eps: 1e-12, weightDecay: 0, gradClipNorm: 0 },
    checkpoints: { everyMs: 600_000, onHide: true },
    recovery: { from: "latest", attempts: 3, backoffMs: 1000, ask: false },
  });
});

test("a batch that nobody has given a size is of 8, or of all data where that is less", async (t) => {
  for (const [length, batchSize] of [
    [3, 3],
    [9, 8],
  ]) {
    const tab = await tabWith(keptRun());
    t.after(() => tab.service.close());
    const given = Array.from({ length }, (_, i) => datum(i, i + 1));
    await tab.service.startRun({ baseModel: "model", data: given });
    assert.equal(tab.kept.spec.batchSize, batchSize);
  }
});

test("a run of a step function is written down under the function's version", async (t) => {
  const tab = await tabWith(keptRun());
  t.after(() => tab.service.close());
  await tab.service.startRun({ baseModel: "model", step, steps: 5, seed: 3, learningRate: 1e-3 });
  const { kind, steps, seed, version, schedule, epochs } = tab.kept.spec;
  assert.deepEqual(
    { kind, steps, seed, epochs, peak: schedule.peak },
    { kind: "steps", steps: 5, seed: 3, epochs: undefined, peak: 1e-3 },
  );
  assert.match(version, /^[0-9a-f]{16}$/);
  assert.deepEqual((await tab.opened()).args, { id: tab.kept.status.id, canStep: true, version });
});

test("schedules are written down as their numbers", async (t) => {
  const tab = await tabWith(keptRun());
  t.after(() => tab.service.close());
  const points = [
    [0, 0],
    [10, 0.01],
    [100, 0.001],
  ];
  await tab.service.startRun({
    baseModel: "model",
    data,
    batchSize: 1,
    steps: 100,
    learningRate: { type: "points", points },
  });
  assert.deepEqual(tab.kept.spec.schedule, {
    type: "points",
    peak: 0.01,
    warmupSteps: 0,
    floor: 0,
    points: [0, 0, 10, 0.01, 100, 0.001],
  });
});

const stream = { async *open() {} };
const cosine = { type: "cosine", peak: 1e-3 };
const refusals = {
  "no model": [{ baseModel: undefined }, "baseModel"],
  "neither data nor a step function": [{ data: undefined }, "data"],
  "data and a step function": [{ step }, "step"],
  "an option that there isn't": [{ batchsize: 4 }, "batchsize", /did you mean batchSize/],
  "an empty data set": [{ data: [] }, "data", /at least one/],
  "data that is no data": [{ data: "data.jsonl" }, "data"],
  "a datum that can't be right": [
    { data: [datum(1, 2), datum(1, -2)], batchSize: 1 },
    "data[1].lossFnInputs.targetTokens[0]",
  ],
  "a batch that is larger than the data": [{ batchSize: 4 }, "batchSize", /3 at most/],
  "a batch of nothing": [{ batchSize: 0 }, "batchSize"],
  "half an epoch": [{ epochs: 0.5 }, "epochs"],
  "a negative number of steps": [{ steps: -1 }, "steps"],
  "no steps in the pipeline": [{ pipeline: 0 }, "pipeline"],
  "a learning rate that is no number": [{ learningRate: NaN }, "learningRate"],
  "a learning rate below 0": [{ learningRate: -1 }, "learningRate"],
  "a schedule that there isn't": [{ learningRate: { type: "step", peak: 1 } }, "learningRate.type"],
  "a schedule without a peak": [{ learningRate: { type: "linear" } }, "learningRate.peak"],
  "a schedule that ends before the run": [
    { epochs: 10, learningRate: { ...cosine, steps: 5 } },
    "learningRate.steps",
    /ends at step 5 and the run has 20/,
  ],
  "points that end before the run": [
    { epochs: 10, learningRate: { type: "points", points: [[0, 1], [19, 0]] } }, // prettier-ignore
    "learningRate.points",
  ],
  "points that go back": [
    { learningRate: { type: "points", points: [[5, 1], [5, 0]] } }, // prettier-ignore
    "learningRate.points[1][0]",
  ],
  "a warm-up that is longer than the run": [
    { learningRate: { ...cosine, warmupSteps: 3 } },
    "learningRate.warmupSteps",
  ],
  "a floor above the peak": [{ learningRate: { ...cosine, floor: 1 } }, "learningRate.floor"],
  "a schedule over an iterable without steps": [{ data: stream, learningRate: cosine }, "steps"],
  "a step function without steps": [
    { data: undefined, batchSize: undefined, step },
    "steps",
    /how often it is to be called/,
  ],
  "a batch size of a step function": [{ data: undefined, step }, "batchSize", /belongs to a run with `data`/],
  "a version without a step function": [{ version: "2" }, "version", /belongs to a run with `step`/],
  "Adam's rate beside the run's": [{ adam: { learningRate: 1 } }, "adam.learningRate"],
  "an evaluation of nothing": [{ evaluation: { data: [], every: 1 } }, "evaluation.data"],
  "an evaluation without an interval": [{ evaluation: { data } }, "evaluation.every"],
  "an evaluation too large to be kept": [
    { evaluation: { data: [{ modelInput: new Int32Array(5e6), lossFnInputs: {} }], every: 1 } },
    "evaluation.data",
    /takes 16 MB/,
  ],
  "samples of no prompt": [{ samples: { prompts: [], every: 1 } }, "samples.prompts"],
  "a prompt that is text": [{ samples: { prompts: ["a"], every: 1 } }, "samples.prompts[0]", /tokenizer/],
  "checkpoints at no interval": [{ checkpoints: { everyMinutes: 0 } }, "checkpoints.everyMinutes"],
  "a checkpoint's life of a minute": [{ checkpoints: { ttlSeconds: 60 } }, "checkpoints.ttlSeconds"],
  "recovery from nowhere": [{ recovery: { from: "first" } }, "recovery.from"],
  "recovery from the best of no evaluation": [{ recovery: { from: "best" } }, "recovery.from"],
  "recovery that is never tried": [{ recovery: { attempts: 0 } }, "recovery.attempts"],
  "a buffer of nothing": [{ shuffle: { buffer: 0 } }, "shuffle.buffer"],
  "nothing to train": [{ trainMlp: false, trainAttn: false, trainUnembed: false }, "trainMlp"],
};

for (const [what, [options, field, message = /./]] of Object.entries(refusals)) {
  test(`${what}: refused by name, and nothing is written`, async (t) => {
    const tab = await tabWith(keptRun());
    t.after(() => tab.service.close());
    await assert.rejects(
      tab.service.startRun({ baseModel: "model", data, batchSize: 2, ...options }),
      (error) => {
        assert.equal(error.code, "invalid_argument", error.stack);
        assert.equal(error.field, field);
        assert.match(error.message, message);
        return true;
      },
    );
    assert.equal(tab.kept.spec, undefined);
  });
}

test("a run is opened with what it was started with, and with nothing else", async (t) => {
  const tab = await tabWith(keptRun());
  t.after(() => tab.service.close());
  await (await tab.service.startRun({ baseModel: "model", data, batchSize: 2 })).close();
  const refused = {
    "data with one datum more": [{ data: [...data, datum(1, 2)] }, "data_mismatch", /had 3 datums and has 4/],
    "data with another token": [{ data: [data[0], data[1], datum(6, 7, 8, 1)] }, "data_mismatch"],
    "an iterable": [{ data: stream }, "data_mismatch"],
    "another loss": [{ data, loss: "ppo" }, "invalid_argument"],
    "a step function": [{ step }, "invalid_argument"],
  };
  for (const [what, [options, code, message = /./]] of Object.entries(refused)) {
    await assert.rejects(tab.service.openRun(tab.kept.status.id, options), { code, message }, what);
  }
  const opened = await tab.service.openRun(tab.kept.status.id, { data: structuredClone(data) });
  assert.equal((await opened.status()).role, "owner");
});
