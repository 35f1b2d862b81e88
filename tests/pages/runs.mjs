// A tab with a training run that a test drives by functions, and what it has seen of the run. tests/runs.test.mjs opens it.
import { init, ServiceClient } from "tinkex";
import { meansOf, optionsOf } from "./training.mjs";

const events = [];
const statuses = [];
let run;
let shown = 0;
/** Of the page, since it was loaded: each restore from the back-forward cache. */
addEventListener("pageshow", ({ persisted }) => (shown += persisted ? 1 : 0));

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
  start: async (options) => take((await started).startRun(optionsOf(options))),
  open: async (id, kind = "data") => take((await started).openRun(id, meansOf(kind))),
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
