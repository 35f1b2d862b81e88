// A page that trains for as long as it lives, and notes what happens to it. Gives the test `train(worker)` and `seen`.
import { init, InstanceLostError, ServiceClient } from "tinkex";

const data = [{ modelInput: [11, 12, 13], lossFnInputs: { targetTokens: [12, 13, 14] } }];

const seen = (globalThis.seen = { steps: 0, failed: [], shown: [], warned: [] });

addEventListener("pageshow", ({ persisted }) => seen.shown.push(persisted));
// Before the package hears of it.
addEventListener("pagehide", () => globalThis.leaving?.());

globalThis.train = async (worker) => {
  await init({ worker });
  const warn = (message) => seen.warned.push(message);
  const logger = { debug() {}, info() {}, warn, error: warn };
  const service = (globalThis.service = new ServiceClient({
    apiKey: "tml-a-test",
    baseURL: location.origin,
    logger,
  }));
  const training = await service.createLoraTrainingClient("tinkex/tiny", { rank: 2, seed: 1 });
  seen.model = training.modelId;
  seen.persistence = service.persistence;
  globalThis.stop = (async () => {
    while (!seen.enough) {
      await globalThis.held;
      const pass = insist(() => training.forwardBackward(data, "cross_entropy"));
      await insist(() => training.optimStep({ learningRate: 1e-3 }));
      await pass;
      seen.steps += 1;
    }
  })().catch((error) => seen.failed.push(`${error.name}: ${error.message}`));
};

/** Again where an instance, or its worker, died before it was sent. */
async function insist(call) {
  for (;;) {
    try {
      return await call();
    } catch (error) {
      if (!(error instanceof InstanceLostError && error.retryable)) throw error;
    }
  }
}

/** Trains no more until the function that it gives is called; resolves when nothing of it is left to be written. */
globalThis.hold = async () => {
  globalThis.held = new Promise((resolve) => (globalThis.release = resolve));
  for (;;) {
    const keys = await keysKept();
    if (!keys.some((key) => /^(request|body|answer)\//.test(key))) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
};

async function keysKept() {
  const [{ name }] = await indexedDB.databases();
  const request = indexedDB.open(name);
  await new Promise((resolve) => (request.onsuccess = resolve));
  const keys = request.result.transaction("records").objectStore("records").getAllKeys();
  await new Promise((resolve) => (keys.onsuccess = resolve));
  request.result.close();
  return keys.result;
}

/** Names of all processes that were restarted, and what everything waits for. */
globalThis.tree = async () => {
  const restarted = [];
  const waits = [];
  const visit = (node) => {
    if (node.restarts) restarted.push(node.name);
    if (node.waits) waits.push(node.waits.for);
    node.children.forEach(visit);
  };
  visit(await globalThis.service.supervision());
  return { restarted, waits };
};

document.title = "ready";
