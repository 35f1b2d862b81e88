// Trains on large batches and watches its own thread meanwhile. Gives the bench `run(url, worker, steps, form)`.
import { init, ServiceClient } from "tinkex";

const DATUMS = 64;
const TOKENS = 1_024;

globalThis.run = async (baseURL, worker, steps, form) => {
  await init({ worker });
  const service = new ServiceClient({ apiKey: "tml-a-bench", baseURL });
  const training = await service.createLoraTrainingClient("tinkex/noop", { rank: 8, seed: 1 });
  const batch = Array.from({ length: DATUMS }, () => datum(form));
  const step = async () => {
    const loss = training.forwardBackward(batch, "cross_entropy");
    await training.optimStep({ learningRate: 1e-3 });
    return loss;
  };
  for (let n = 0; n < 5; n++) await step();

  performance.mark("measured");
  const tasks = [];
  const observer = new PerformanceObserver((list) => tasks.push(...list.getEntries()));
  observer.observe({ type: "longtask" });
  const began = performance.now();
  // As a loop does that keeps the server busy: the next step is submitted while the last one runs.
  let last = step();
  for (let n = 1; n < steps; n++) {
    const next = step();
    await last;
    last = next;
  }
  const { metrics, lossFnOutputs } = await last;
  const took = performance.now() - began;
  await new Promise((resolve) => setTimeout(resolve, 100));
  performance.mark("measured");
  tasks.push(...observer.takeRecords());
  observer.disconnect();
  await service.close();
  if (lossFnOutputs.length !== DATUMS || metrics["loss:sum"] === undefined)
    throw new Error("no whole result");
  return { took, long: tasks.map(({ duration }) => duration) };
};
document.title = "ready";

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
