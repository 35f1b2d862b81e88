// Instances that die in the middle of a load, one after another. Gives the test `run(seed, traps, worker)`.
import { init, InstanceLostError, ServiceClient } from "tinkex";
import { armTrap, lives, skip } from "../support/faulty-instance.mjs";

const base = "tinkex/tiny";
const data = [{ modelInput: [11, 12, 13], lossFnInputs: { targetTokens: [12, 13, 14] } }];

/** Where an instance dies: wherever its processes go on, at one of so many passages. */
const places = [
  ["task poll", "/requests/", 6],
  ["task poll", "/requests/result of", 6],
  ["task poll", "/calls/", 6],
  ["task drop", "/requests/", 6],
  ["dispatcher", "", 6],
  ["desk", "", 6],
  // It comes every ten seconds.
  ["heartbeat", "", 1],
];

/** What was asked for and what came of it, after so many traps. */
globalThis.run = async (seed, traps, worker = false, baseURL = globalThis.location?.origin) => {
  await init({ worker });
  const dice = diceOf(seed);
  const service = new ServiceClient({ apiKey: "tml-local", baseURL });
  const trained = await Promise.all([1, 2].map(() => service.createLoraTrainingClient(base, { rank: 2 })));
  const sampler = await service.createSamplingClient({ baseModel: base });
  const seen = { steps: trained.map(() => 0), samples: 0, lost: { not_sent: 0, unknown: 0 }, wrong: [] };
  let over = false;

  /** Until it resolves: what was lost is asked for again, where that is safe. */
  const insist = async (call) => {
    for (;;) {
      try {
        return await call();
      } catch (error) {
        if (!(error instanceof InstanceLostError && error.retryable)) {
          seen.wrong.push(`${error.name}: ${error.message}`);
          over = true;
          throw error;
        }
        seen.lost[error.outcome] += 1;
      }
    }
  };
  const train = async (client, i) => {
    while (!over) {
      await insist(() => client.forwardBackward(data, "cross_entropy"));
      await insist(() => client.optimStep({ learningRate: 1e-3 }));
      seen.steps[i] += 1;
    }
  };
  const sample = async () => {
    while (!over) {
      await insist(() => sampler.sample([11, 12], { samplingParams: { maxTokens: 2 } }));
      seen.samples += 1;
    }
  };
  const load = [...trained.map(train), sample(), sample()];
  const first = lives();
  while (lives() - first < traps && !over) {
    const life = lives();
    const [place, within, passages] = places[dice() % places.length];
    await armTrap(place, within, 1 + (dice() % passages));
    // Deaths are counted by a clock, and these come quicker than an owner puts up with: each is ten seconds after the last.
    // A heartbeat comes when it is due; one that is due comes with the next answer.
    await skip(10_000);
    const given = Date.now() + 20_000;
    while (lives() === life && !over && Date.now() < given) await new Promise((next) => setTimeout(next, 1));
    if (lives() === life) {
      seen.wrong.push(`no trap at ${place}`);
      over = true;
    }
  }
  over = true;
  await Promise.allSettled(load);
  await service.finish();
  return { ...seen, lives: lives() - first, models: trained.map(({ modelId }) => modelId) };
};

if (globalThis.document) document.title = "ready";

/** Numbers that depend on the seed alone. */
function diceOf(seed) {
  let state = seed;
  return () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) >>> 8;
}
