// The loop of the README on a page that is struck at one point of one request: killed, reloaded, its instance trapped, or
// its server killed. Started again with the model's id, it goes on from `pending()`. tests/durability/calls.mjs strikes.
import { init, InstanceLostError, ServiceClient } from "tinkex";
import { armTrap, lives } from "../support/faulty-instance.mjs";
import { asked, failed, reach, tell, watchedFetch, watchStore } from "../support/struck-page.mjs";

const { apiKey, steps, session, model } = asked;
let step = 0;
let client;

/** Nobody is struck in the last step: behind it there is no call from which a page could see that it is done. */
function pass(point) {
  if (step >= steps - 1) return;
  if (reach(point)?.trap) armTrap("task poll", "", 1);
}

watchStore({ apiKey, counts: () => client !== undefined, pass });
const submits = ["forward_backward", "optim_step"];
const watched = watchedFetch({ sends: (path) => submits.includes(path) && "sent", pass });

async function main() {
  await init();
  const service = new ServiceClient({
    apiKey,
    baseURL: location.origin,
    fetch: watched,
    ...(session && { session }),
  });
  client = model
    ? await service.resumeTrainingClient(model)
    : await service.createLoraTrainingClient("tinkex/sandbox-1m", { rank: 4, seed: 1 });
  if (service.persistence !== "indexeddb") throw new Error(`it works in ${service.persistence}`);
  if (!model) tell("made", { session: service.sessionId, model: client.modelId });

  // A result counts as seen in the task after the one that gave it. Whoever calls on before that always has a call
  // pending from which a page can see where it was; so nothing else is waited for, here and below.
  let loss;
  let last;
  for (const { method, label, promise } of model ? client.pending() : []) {
    last = promise;
    loss = method === "forwardBackward" ? promise : undefined;
    step = label.step + (loss ? 0 : 1);
    promise.then(() => tell("after", { ms: performance.now() }), failed);
  }
  const sampler = made(() => service.createSamplingClient({ baseModel: "tinkex/sandbox-1m" }));
  const others = [last, sampler];
  while (step < steps) {
    const label = { step };
    loss ??= client.forwardBackward(batch(), "cross_entropy", { label });
    const update = client.optimStep({ learningRate: (step + 1) / 1e6 }, { label });
    update.then(
      () => pass("settled"),
      () => undefined,
    );
    const [lossUnsent, updateUnsent] = await Promise.all([loss, update].map(unsent));
    if (lossUnsent) loss = undefined;
    if (lossUnsent || updateUnsent) continue;
    loss = undefined;
    if (step % 4 === 0) others.push(sample(sampler));
    step += 1;
  }
  await Promise.all(others);
  tell("done", { instances: lives() });
}

/** Whether a call must be made again: its instance died before it was written down. */
async function unsent(call) {
  try {
    await call;
    return false;
  } catch (error) {
    if (error instanceof InstanceLostError && error.outcome === "not_sent") return true;
    throw error;
  }
}

/** Asks again where the instance died that was asked. */
async function made(make) {
  for (;;) {
    try {
      return await make();
    } catch (error) {
      if (!(error instanceof InstanceLostError && error.retryable)) throw error;
    }
  }
}

/** Changes nothing, so it is not kept; nobody waits for it. */
async function sample(sampler) {
  try {
    await (await sampler).sample(tokens(), { samplingParams: { maxTokens: 2 } });
  } catch (error) {
    if (!(error instanceof InstanceLostError)) throw error;
  }
}

/** Drawn, so that nobody can make it again. */
function batch() {
  const drawn = tokens();
  return [{ modelInput: drawn.slice(0, -1), lossFnInputs: { targetTokens: drawn.slice(1) } }];
}

function tokens() {
  return Array.from({ length: 6 }, () => 1 + Math.floor(Math.random() * 200));
}

main().catch(failed);
