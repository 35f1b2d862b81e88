// A tab with a training run that a test drives by functions, and what it has seen of the run. tests/runs.test.mjs opens it.
import { init, ServiceClient } from "tinkex";

const datum = (...tokens) => ({
  modelInput: tokens.slice(0, -1),
  lossFnInputs: { targetTokens: tokens.slice(1) },
});
/** The same in every tab. */
const data = Array.from({ length: 24 }, (_, i) =>
  datum(...Array.from({ length: 8 }, (_, j) => 1 + ((7 * i + 3 * j) % 200))),
);

const events = [];
const statuses = [];
let run;
let shown = 0;
/** Of the page, since it was loaded: each restore from the back-forward cache. */
addEventListener("pageshow", ({ persisted }) => (shown += persisted ? 1 : 0));

/** A step as reinforcement learning has them: sample, score with noise, update. */
async function step(ctx) {
  const prompt = [1, 2, 3];
  const { sequences } = await ctx.sample(prompt, { numSamples: 2, samplingParams: { maxTokens: 3 } });
  const rollouts = sequences.map(({ tokens }) => [...tokens]);
  const scores = rollouts.map(() => ctx.random());
  const batch = rollouts.map((tokens, i) => {
    const all = [...prompt, ...tokens];
    const weights = all.slice(1).map((_, at) => (at < prompt.length - 1 ? 0 : scores[i]));
    return { modelInput: all.slice(0, -1), lossFnInputs: { targetTokens: all.slice(1), weights } };
  });
  await Promise.all([ctx.forwardBackward(batch, "cross_entropy"), ctx.optimStep()]);
  return { rollouts, scores };
}

const means = { data: { data }, steps: { step }, nothing: {} };

async function take(opening) {
  run = await opening;
  run.on("event", (event) => events.push({ ...event, heard: performance.timeOrigin + performance.now() }));
  run.on("status", (status) => statuses.push(status));
  return run.id;
}

const started = (async () => {
  const { worker } = JSON.parse(decodeURIComponent(location.hash.slice(1)) || "{}");
  await init(worker ? { worker: true } : {});
  return new ServiceClient({ apiKey: "tml-a-test", baseURL: location.origin });
})();

globalThis.tab = {
  events,
  statuses,
  shown: () => shown,
  async start({ kind = "data", steps, ...options }) {
    const service = await started;
    // By its rate a step is known in the server's log.
    const points = [
      [1, 1e-6],
      [steps + 1, (steps + 1) * 1e-6],
    ];
    const own = kind === "data" ? { batchSize: 4, epochs: 1_000 } : {};
    return take(
      service.startRun({
        baseModel: "tinkex/sandbox-1m",
        rank: 4,
        loraSeed: 1,
        seed: 7,
        steps,
        learningRate: { type: "points", points },
        ...own,
        ...means[kind],
        ...options,
      }),
    );
  },
  open: async (id, given = "data") => take((await started).openRun(id, means[given])),
  runs: async () => (await started).runs(),
  supervision: async () => (await started).supervision(),
  status: () => run?.status(),
  pause: () => run.pause(),
  resume: () => run.resume(),
  checkpoint: () => run.checkpoint(),
  stop: () => run.stop(),
  ended: () => run.ended,
  history: () => run.history(),
};
document.title = "ready";
