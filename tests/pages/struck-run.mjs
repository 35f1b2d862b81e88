// A page with a training run that is struck: started once, and opened by each page that comes after. It tells when the run moves
// again after the page's load, and what it has come to. tests/durability/runs.mjs strikes.
import { init, ServiceClient } from "tinkex";
import { asked, failed, reach, tell, watchedFetch, watchStore } from "../support/struck-page.mjs";
import { isEvaluation, meansOf, optionsOf } from "./training.mjs";

const { apiKey, kind, worker, mayBeGone, ...options } = asked;

/** The points that events are. */
const heard = { step: "told", evaluation: "evaluated", checkpoint: "saved", incarnation: "renewed" };
/** And what is sent. */
const sent = {
  forward_backward: "sent",
  optim_step: "sent",
  save_weights: "saving",
  asample: "sampling",
  create_model: "creating",
  load_weights: "loading",
};
const sends = (path, body) => (path === "forward_backward" && isEvaluation(body) ? "evaluating" : sent[path]);

/** Nothing that strikes it gives it a reason to pause, or to forget. */
function check({ state, cause, persistence }) {
  if (state === "paused") failed(`it paused: ${cause.kind}: ${cause.message}`);
  if (persistence !== "indexeddb") failed(`it works in ${persistence}`);
}

async function main() {
  // What a worker does is not seen here; there, the points of the page itself are left.
  if (!worker) watchStore({ apiKey, pass: reach });
  await init(worker ? { worker: true } : {});
  const service = new ServiceClient({
    apiKey,
    baseURL: location.origin,
    ...(!worker && { fetch: watchedFetch({ sends, mayRefuse: mayBeGone, pass: reach }) }),
  });
  const [known] = await service.runs();
  reach("opening");
  const run = await (known
    ? service.openRun(known.id, meansOf(kind, reach))
    : service.startRun(optionsOf({ kind, ...options.run }, reach)));
  let moves = false;
  run.on("event", ({ type }) => {
    // A new model is not yet a movement.
    if (!moves && type !== "incarnation") {
      moves = true;
      tell("after", { ms: performance.now() });
    }
    reach(heard[type]);
  });
  run.on("status", check);
  globalThis.whereItIs = () => run.status();
  reach("opened");
  check(await run.status());
  const end = await run.ended;
  tell("done", {
    end,
    run: (await service.runs()).find(({ id }) => id === run.id),
    history: await run.history(),
  });
}

main().catch(failed);
