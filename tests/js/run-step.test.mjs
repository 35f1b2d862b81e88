// A step function's calls: in their order, given back after a crash, and ended with their attempt.
import assert from "node:assert/strict";
import { test } from "node:test";
import { data, keptRun, tabWith } from "./run-stub.mjs";
import { turn } from "./stub.mjs";

const output = { lossFnOutputType: "x", lossFnOutputs: [], metrics: { "loss:sum": 2 } };

/** A run of this function, and its half of the talk. `begin` asks for a step and resolves with its end. */
async function stepping(t, step, options = {}) {
  const tab = await tabWith(keptRun(), options);
  t.after(() => tab.service.close());
  const run = await tab.service.startRun({ baseModel: "model", step, steps: 20 });
  await tab.opened();
  const begin = (number, attempt, entries = []) =>
    tab.run.ask({ what: "step", step: number, attempt, entries });
  const calls = async (count) => {
    while (tab.run.stepCalls().length < count) await turn();
    return tab.run.stepCalls();
  };
  return { tab, run, begin, calls, ended: run.ended };
}

const shapes = (calls) => calls.map(({ args }) => [args.attempt, args.index, args.method]);

test("calls have their places in the order in which they were made", async (t) => {
  let seen;
  const { begin, calls, tab } = await stepping(t, async (ctx, step) => {
    const [a, b] = [ctx.forwardBackward(data, "cross_entropy"), ctx.optimStep({ learningRate: 0.5 })];
    const noise = ctx.random();
    seen = [step, ctx.step, ctx.runId, (await a).metrics, (await b).metrics, noise];
    return { noise };
  });
  const ended = begin(3, 7);
  const [forward, optim] = await calls(2);
  assert.deepEqual(shapes([forward, optim]), [
    [7, 0, "forwardBackward"],
    [7, 1, "optimStep"],
  ]);
  assert.equal(forward.args.id, tab.kept.status.id);
  assert.equal(forward.args.args.data.length, 3);
  assert.deepEqual(optim.args.args, { learningRate: 0.5 }, "the rest is the run's");
  tab.instance.settle({ metrics: { a: 1 } }, optim);
  tab.instance.settle(output, forward);
  const { value } = await ended;
  const [note] = tab.run.notes();
  assert.deepEqual([note.index, note.method, note.attempt], [2, "random", 7]);
  assert.deepEqual(JSON.parse(value), { noise: JSON.parse(note.value) });
  assert.deepEqual(seen, [3, 3, tab.kept.status.id, { "loss:sum": 2 }, { a: 1 }, JSON.parse(note.value)]);
});

test("a step that asks for nothing leaves the page its turn", async (t) => {
  let turned = false;
  const { begin } = await stepping(t, (ctx) => {
    ctx.random();
    setImmediate(() => (turned = true));
  });
  await begin(1, 1);
  assert.ok(turned);
});

test("what the page itself drew is given back, and what it had not drawn is drawn", async (t) => {
  let called = 0;
  let seen;
  const { begin, tab } = await stepping(t, async (ctx) => {
    const random = ctx.random();
    const now = ctx.now();
    const once = await ctx.once("reward", async () => ++called);
    const more = ctx.random();
    seen = [random, now, once, typeof more];
  });
  const entries = [
    { method: "random", done: true, value: "0.25" },
    { method: "now", done: true, value: "123" },
    { method: "once", name: "reward", done: true, value: "41" },
  ];
  assert.deepEqual(await begin(1, 1, entries), {});
  assert.deepEqual(seen, [0.25, 123, 41, "number"]);
  assert.equal(called, 0);
  assert.deepEqual(tab.run.notes().map(({ index }) => index), [3]); // prettier-ignore

  await begin(2, 2);
  assert.equal(called, 1);
  const notes = tab.run.notes().slice(1);
  assert.deepEqual(
    notes.map(({ index, method, name }) => [index, method, name]),
    [[0, "random", undefined], [1, "now", undefined], [2, "once", "reward"], [3, "random", undefined]], // prettier-ignore
  );
  assert.ok(Math.abs(JSON.parse(notes[1].value) - Date.now()) < 60_000);
});

test("a call that was recorded is asked for again, and its recorded result is the run's to give", async (t) => {
  const { begin, calls, tab } = await stepping(t, async (ctx) => {
    await ctx.optimStep();
    return "done";
  });
  const ended = begin(1, 4, [{ method: "optimStep", done: true }]);
  const [optim] = await calls(1);
  tab.instance.settle({ metrics: {} }, optim);
  assert.deepEqual(await ended, { value: '"done"' });
});

const mismatches = {
  "another method": [
    async (ctx) => {
      ctx.random();
      ctx.now();
      await ctx.optimStep();
    },
    /^step 12 asked for optimStep where forwardBackward was recorded as call 3$/,
  ],
  less: [
    async (ctx) => {
      ctx.random();
      ctx.now();
      await ctx.once("a", () => 1);
    },
    /^step 12 ended without forwardBackward, which was recorded as call 3$/,
  ],
  "another method, which the function catches": [
    async (ctx) => {
      ctx.random();
      try {
        ctx.random();
      } catch {
        return "never mind";
      }
    },
    /^step 12 asked for random where now was recorded as call 2$/,
  ],
};

for (const [what, [step, message]] of Object.entries(mismatches)) {
  test(`a step that asks for ${what} the second time is refused by name`, async (t) => {
    const { begin } = await stepping(t, step);
    const entries = [
      { method: "random", done: true, value: "0.5" },
      { method: "now", done: true, value: "1" },
      { method: "forwardBackward", done: true },
    ];
    const { kind, failure } = await begin(12, 1, entries);
    assert.equal(kind, "step_mismatch");
    assert.match(failure, message);
  });
}

test("a mismatch that the run sees, in the arguments, ends the step as one", async (t) => {
  const { begin, calls, tab } = await stepping(t, async (ctx) => {
    await ctx.optimStep({ learningRate: 1 }).catch(() => undefined);
  });
  const ended = begin(1, 1, [{ method: "optimStep", done: true }]);
  const [optim] = await calls(1);
  tab.instance.fail({ kind: "step_mismatch", message: "other arguments" }, optim);
  assert.deepEqual(await ended, { failure: "other arguments", kind: "step_mismatch" });
});

test("what a step function throws is told with its name", async (t) => {
  const { begin } = await stepping(t, async () => {
    throw new RangeError("no such reward");
  });
  assert.deepEqual(await begin(1, 1), { failure: "RangeError: no such reward" });
  const { begin: another } = await stepping(t, () => {
    throw "a word";
  });
  assert.deepEqual(await another(1, 1), { failure: "a word" });
});

test("a value that is not JSON fails its step", async (t) => {
  const { begin } = await stepping(t, async () => 10n);
  assert.match((await begin(1, 1)).failure, /takes what JSON can hold/);
});

test("arguments that can't be right reject, and take no place", async (t) => {
  const { begin, calls, tab } = await stepping(t, async (ctx) => {
    await assert.rejects(ctx.forwardBackward([], "cross_entropy"), { code: "invalid_argument" });
    await assert.rejects(ctx.sample("text"), { code: "invalid_argument" });
    await assert.rejects(
      ctx.once("a", () => 10n),
      { code: "invalid_argument" },
    );
    await ctx.optimStep();
  });
  const ended = begin(1, 1);
  const [optim] = await calls(1);
  assert.deepEqual(shapes([optim]), [[1, 0, "optimStep"]]);
  tab.instance.settle({ metrics: {} }, optim);
  assert.deepEqual(await ended, {});
});

test("samples are asked of the step's own sampler, or of one that was made for a place", async (t) => {
  const sequences = [{ tokens: new Uint8Array([1, 0, 0, 0]), stopReason: "stop" }];
  let seen;
  const { begin, calls, tab } = await stepping(t, async (ctx) => {
    const first = await ctx.sample([1, 2], { numSamples: 2 });
    const sampler = await ctx.saveWeightsAndGetSamplingClient();
    const second = await sampler.sample([3]);
    seen = [first.sequences[0].tokens, second.sequences[0].stopReason];
  });
  const ended = begin(1, 1);
  const [first] = await calls(1);
  tab.instance.settle({ sampler: "s-1" }, first);
  const [, own] = await calls(2);
  assert.deepEqual([own.args.args.sampler, own.args.args.numSamples], ["s-1", 2]);
  tab.instance.settle({ sequences }, own);
  const [, , made] = await calls(3);
  tab.instance.settle({ sampler: "s-2" }, made);
  const [, , , of] = await calls(4);
  assert.equal(of.args.args.sampler, "s-2");
  tab.instance.settle({ sequences }, of);
  await ended;
  assert.deepEqual(seen, [Int32Array.of(1), "stop"]);
  assert.deepEqual(
    shapes([first, own, made, of]).map(([, index, method]) => [index, method]),
    [[0, "sampler"], [1, "sample"], [2, "sampler"], [3, "sample"]], // prettier-ignore
  );
});

test("calls are sent in the order of their places, whatever they wait for", async (t) => {
  const { begin, calls, tab } = await stepping(t, async (ctx) => {
    const sample = ctx.sample([1]);
    const drawn = ctx.random();
    await Promise.all([sample.catch(() => undefined), ctx.optimStep()]);
    return drawn;
  });
  const ended = begin(1, 1);
  const [sampler] = await calls(1);
  await turn();
  assert.deepEqual([tab.run.stepCalls().length, tab.run.notes().length], [1, 0]);
  tab.instance.fail({ kind: "request_failed", message: "no room for a sampler" }, sampler);
  const all = await calls(3);
  assert.deepEqual(
    shapes(all).map(([, index, method]) => [index, method]),
    [[0, "sampler"], [1, "sample"], [3, "optimStep"]], // prettier-ignore
  );
  assert.deepEqual(tab.run.notes().map(({ index }) => index), [2]); // prettier-ignore
  tab.instance.fail({ kind: "request_failed" }, all[1]);
  tab.instance.settle({ metrics: {} }, all[2]);
  await ended;
});

test("what was done once is found by its name, wherever it stands", async (t) => {
  const seen = [];
  const { begin, calls, tab } = await stepping(t, async (ctx) => {
    const slow = ctx.once("slow", () => turn().then(() => "slow"));
    const fast = ctx.once("fast", () => "fast");
    const optim = ctx.optimStep();
    seen.push(await slow, await fast);
    await optim;
  });
  const ended = begin(1, 1);
  tab.instance.settle({ metrics: {} }, (await calls(1))[0]);
  await ended;
  const written = tab.run.notes().map(({ index, name }) => [index, name]);
  assert.deepEqual(written, [[1, "fast"], [2, "slow"]]); // prettier-ignore
  const again = begin(1, 2, [
    { method: "optimStep", done: true },
    { method: "once", name: "fast", done: true, value: '"then"' },
    { method: "once", name: "slow", done: true, value: '"before"' },
  ]);
  const [, optim] = await calls(2);
  assert.equal(optim.args.index, 0);
  tab.instance.settle({ metrics: {} }, optim);
  assert.deepEqual(await again, {});
  assert.deepEqual(seen, ["slow", "fast", "before", "then"]);
});

test("a step that is under way when the run is paused comes to its end", async (t) => {
  const { begin, calls, tab } = await stepping(t, async (ctx) => (await ctx.optimStep(), "done"));
  const ended = begin(1, 1);
  const [optim] = await calls(1);
  tab.run.status({ ...tab.kept.status, state: "paused" });
  tab.instance.settle({ metrics: {} }, optim);
  assert.deepEqual(await ended, { value: '"done"' });
});

test("a step has ended when its calls have, also those that nobody awaits", async (t) => {
  const { begin, calls, tab } = await stepping(t, async (ctx) => void ctx.optimStep());
  let answered = false;
  const ended = begin(1, 1).then(() => (answered = true));
  const [optim] = await calls(1);
  await turn();
  assert.equal(answered, false);
  tab.instance.settle({ metrics: {} }, optim);
  await ended;
});

/** What ends an attempt from outside. */
const ends = {
  "the run goes on without it": ({ tab }) => tab.run.says({ type: "over", attempt: 1 }),
  "the step is called again": ({ tab }) =>
    tab.run.says({ type: "ask", ask: 99, what: "step", step: 1, attempt: 2, entries: [] }),
  "the run has ended": ({ tab }) => tab.run.ends({ state: "stopped" }),
  "the run is closed": ({ run }) => run.close(),
  "the instance dies": async ({ tab }) => {
    const call = tab.instance.call;
    tab.instance.trapOnCall();
    tab.service.getServerCapabilities().catch(() => undefined);
    await turn();
    assert.notEqual(tab.instance.call, call);
    tab.run.status(tab.kept.status);
  },
};

for (const [how, end] of Object.entries(ends)) {
  test(`an attempt is over when ${how}: its signal fires, its calls reject, and nothing is unhandled`, async (t) => {
    const unhandled = [];
    const note = (reason) => unhandled.push(reason);
    process.on("unhandledRejection", note);
    t.after(() => process.off("unhandledRejection", note));
    let ctx;
    let failure;
    const world = await stepping(t, async (given) => {
      if (ctx) return;
      ctx = given;
      void ctx.once("slow", () => new Promise(() => undefined));
      void ctx.forward(data, "cross_entropy");
      await ctx.optimStep().catch((error) => {
        failure = error;
        throw error;
      });
    });
    void world.begin(1, 1);
    await world.calls(2);
    await end(world);
    for (let i = 0; i < 5; i++) await turn();
    assert.equal(ctx.signal.aborted, true);
    assert.match(failure.code, /^(closed|instance_lost)$/);
    await assert.rejects(ctx.optimStep(), { code: "closed" });
    assert.throws(() => ctx.random(), { code: "closed" });
    await turn();
    assert.deepEqual(unhandled, []);
    const late = world.tab.instances[0].toRuns.filter(([, { type, ask }]) => type === "answer" && ask !== 99);
    assert.deepEqual(late, [], "what it was asked is not answered");
  });
}

test("an answer to an instance that died reaches no other", async (t) => {
  let release;
  const { tab } = await stepping(t, () => new Promise((resolve) => (release = resolve)));
  tab.run.says({ type: "ask", ask: 5, what: "step", step: 1, attempt: 1, entries: [] });
  while (!release) await turn();
  tab.instance.trapOnCall();
  tab.service.getServerCapabilities().catch(() => undefined);
  await turn();
  await tab.opened();
  assert.equal(tab.instances.length, 2, "the run was passed on");
  assert.equal(tab.run.args.id, tab.kept.status.id);
  release();
  await turn();
  assert.deepEqual(tab.run.heard(), []);
});

test("a call after the step's end is refused", async (t) => {
  let ctx;
  const { begin } = await stepping(t, async (given) => void (ctx = given));
  await begin(1, 1);
  await assert.rejects(ctx.optimStep(), { code: "closed", message: /after its end/ });
});
