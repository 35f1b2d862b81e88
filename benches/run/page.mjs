// Times a training run beside a script that submits all its steps ahead and keeps nothing, on the same data.
import { datum, timed } from "../measured.mjs";
import { init, ServiceClient } from "tinkex";
import { MemoryStore } from "../../js/store/memory.ts";

const base = "tinkex/sandbox-1m";
const BATCH = 8;
const rate = 1e-3;

/** Milliseconds from the first step's beginning to the last one's end, of all turns of each. */
globalThis.compare = async (baseURL, steps, turns) => {
  await init();
  const apiKey = "tml-a-bench";
  const kept = new ServiceClient({ apiKey, baseURL });
  const plain = new ServiceClient({ apiKey, baseURL, store: new MemoryStore() });
  const data = Array.from({ length: 256 }, () => datum(64));
  const took = { kept: 0, inMemory: 0, bare: 0 };
  for (let turn = 0; turn < turns; turn++) {
    took.bare += await bare(plain, data, steps);
    took.kept += await ran(kept, data, steps);
    took.inMemory += await ran(plain, data, steps);
  }
  const { persistence } = kept;
  await kept.close();
  await plain.close();
  return { ...took, persistence };
};

async function bare(service, data, steps) {
  const training = await service.createLoraTrainingClient(base, { rank: 8, seed: 1 });
  const took = await timed(async () => {
    const calls = [];
    for (let step = 0; step < steps; step++) {
      const from = (step * BATCH) % data.length;
      calls.push(training.forwardBackward(data.slice(from, from + BATCH), "cross_entropy"));
      calls.push(training.optimStep({ learningRate: rate }));
    }
    await Promise.all(calls);
  });
  await training.close();
  return took;
}

async function ran(service, data, steps) {
  const options = {
    baseModel: base,
    rank: 8,
    loraSeed: 1,
    data,
    batchSize: BATCH,
    steps,
    learningRate: rate,
  };
  const run = await service.startRun(options);
  const began = await first(run);
  await run.ended;
  const rows = (await run.history()).filter(({ type }) => type === "step");
  // Its model is made meanwhile, which the bare script had before.
  return rows.at(-1).at - began;
}
document.title = "ready";

/** When the first step was begun: its event says how long it took. */
function first(run) {
  return new Promise((resolve) => {
    const end = run.on("step", ({ at, ms }) => {
      end();
      resolve(at - ms);
    });
  });
}
