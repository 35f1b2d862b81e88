// Trains on large batches and watches its own thread meanwhile. Gives the bench `measure(work, url, worker, steps, form)`.
import { init, ServiceClient } from "tinkex";

const DATUMS = 64;
const TOKENS = 1_024;
const baseModel = "tinkex/noop";

/** What a page may do with such batches: `work` is one of these. Each trains for so many steps. */
const ways = {
  /** As a loop does that keeps the server busy: the next step is submitted while the last one runs. */
  async calls(service, steps, form) {
    const training = await service.createLoraTrainingClient(baseModel, { rank: 8, seed: 1 });
    const batch = datums(DATUMS, form);
    const step = async () => {
      const loss = training.forwardBackward(batch, "cross_entropy");
      await training.optimStep({ learningRate: 1e-3 });
      return loss;
    };
    return async () => {
      let last = step();
      for (let n = 1; n < steps; n++) {
        const next = step();
        await last;
        last = next;
      }
      const { metrics, lossFnOutputs } = await last;
      if (lossFnOutputs.length !== DATUMS || metrics["loss:sum"] === undefined)
        throw new Error("no whole result");
    };
  },

  /** From `startRun`, which reads all data for its fingerprint, to the run's end. */
  async run(service, steps, form) {
    const data = datums(4 * DATUMS, form);
    return async () => {
      const options = { baseModel, rank: 8, loraSeed: 1, data, batchSize: DATUMS, steps, learningRate: 1e-3 };
      const run = await service.startRun({ ...options, epochs: steps });
      const { state } = await run.ended;
      const rows = (await run.history()).filter(({ type }) => type === "step");
      if (state !== "completed" || rows.length !== steps) throw new Error(`${state}, ${rows.length} steps`);
    };
  },
};

globalThis.measure = async (work, baseURL, worker, steps, form) => {
  await init({ worker });
  const service = new ServiceClient({ apiKey: "tml-a-bench", baseURL });
  await (
    await ways[work](service, 5, form)
  )();
  const train = await ways[work](service, steps, form);

  performance.mark("measured");
  const began = performance.now();
  await train();
  const took = performance.now() - began;
  await new Promise((resolve) => setTimeout(resolve, 100));
  performance.mark("measured");
  await service.close();
  return took;
};
document.title = "ready";

function datums(count, form) {
  return Array.from({ length: count }, () => datum(form));
}

function datum(form) {
  const tokens = Array.from({ length: TOKENS + 1 }, () => 1 + Math.floor(Math.random() * 200));
  const [modelInput, targetTokens] = [tokens.slice(0, -1), tokens.slice(1)];
  const weights = modelInput.map(() => 1);
  if (form === "arrays") return { modelInput, lossFnInputs: { targetTokens, weights } };
  return {
    modelInput: Int32Array.from(modelInput),
    lossFnInputs: { targetTokens: Int32Array.from(targetTokens), weights: Float32Array.from(weights) },
  };
}
