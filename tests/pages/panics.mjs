// Panics at every kind of place of a training and sampling load, one at a time, while siblings work. Gives the test
// `run(seed, panics, worker)` and `stopping(way)`.
import { ClosedError, CrashedError, init, ServiceClient } from "tinkex";
import { arm, armed } from "../support/faulty-instance.mjs";

const base = "tinkex/tiny";
const data = [{ modelInput: [11, 12, 13], lossFnInputs: { targetTokens: [12, 13, 14] } }];
const drawn = { samplingParams: { maxTokens: 2, seed: 1 } };

/** Where a victim's processes are in the tree. */
const training = (v) => `training client ${v.training.modelId}`;
const sampling = (v) => `sampling client ${v.sampler.samplingSessionId}`;

/**
 * A panic that ends work rejects the call that it was done for, and no other. `gone`: the client has gone with it.
 * A lane is a series of calls, one at a time, beside the other lanes.
 */
const ending = {
  training: [
    { place: "task poll", of: "a training call", at: (v) => `${training(v)}/calls/`, upTo: 2 },
    { place: "task poll", of: "a request", at: (v) => `${training(v)}/requests/`, upTo: 2 },
    {
      place: "task poll",
      of: "a poll for a result",
      at: (v) => `${training(v)}/requests/result of`,
      upTo: 2,
    },
    { place: "task drop", of: "a training call", at: (v) => `${training(v)}/calls/`, upTo: 1 },
    { place: "task drop", of: "a request", at: (v) => `${training(v)}/requests/`, upTo: 2 },
    { place: "dispatcher", of: "a client", at: (v) => `${training(v)}/dispatcher`, upTo: 3, gone: true },
    { place: "task poll", of: "a dispatcher", at: (v) => `${training(v)}/dispatcher`, upTo: 3, gone: true },
    { place: "desk", of: "a training call", at: () => "service/desk", upTo: 1 },
  ],
  sampling: [
    { place: "task poll", of: "a sample", at: (v) => `${sampling(v)}/calls/`, upTo: 3 },
    { place: "task drop", of: "a sample", at: (v) => `${sampling(v)}/calls/`, upTo: 1 },
    { place: "desk", of: "a sample", at: () => "service/desk", upTo: 1 },
  ],
  service: [
    { place: "task poll", of: "a service's call", at: () => "service/calls/getServer", upTo: 2 },
    { place: "task drop", of: "a service's call", at: () => "service/calls/getServer", upTo: 1 },
    { place: "desk", of: "a service's call", at: () => "service/desk", upTo: 1 },
  ],
};

/** A panic in the loop of a supervisor or of the desk is met right there: no call rejects for it. */
const contained = [
  { place: "supervisor step", of: "the clients", at: () => "service/clients", upTo: 3, call: remake },
  { place: "supervisor effect", of: "the clients", at: () => "service/clients", upTo: 3, call: remake },
  { place: "supervisor step", of: "a client", at: () => "/training client", upTo: 4, call: remake },
  { place: "supervisor effect", of: "a client", at: () => "/training client", upTo: 4, call: remake },
  // Few: the desk may be started again ten times in five seconds.
  { place: "task poll", of: "the desk", at: () => "service/desk", upTo: 2, most: 8 },
];

/** At the third panic in a row a supervisor gives up: that which was to be started under it has failed. */
const givingUp = [
  { place: "supervisor step", of: "a new client", at: () => "/training client", call: create, times: 3 },
  { place: "supervisor effect", of: "a new client", at: () => "/training client", call: create, times: 3 },
];

/** Lets `panics` panics end work, and beside them some happen that supervisors meet, and some at which they give up. */
globalThis.run = async (seed, panics, worker = false) => {
  const random = dice(seed);
  await init({ worker });
  const service = open();
  const victims = { service, ...(await clientsOf(service)) };
  const siblings = await work(service);
  const table = new Map();

  const strike = async (ends, { place, of, at, upTo = 1, times = 1, call, gone, most = Infinity }) => {
    const line = lineOf(table, `${place} of ${of}`, ends);
    if (line.panics >= most) return;
    const nth = 1 + random(upTo);
    // In a task of its own: whatever was posted before this call has been taken.
    await macrotask();
    for (let i = 0; i < times; i++) {
      const told = arm(place, at(victims), nth + i);
      if (told) await told;
    }
    const [result] = await Promise.allSettled([call(victims, random)]);
    line.panics += times;
    // What is armed in a worker may be met before the call gets there: then its client has gone already.
    count(line, result, worker && gone);
    if (gone) await remake(victims);
  };
  const lane = async (call, all, share) => {
    const kinds = all.filter(({ place }) => !(worker && place === "desk"));
    for (let i = 0; i < panics * share; i++) {
      // Each kind in its turn first, then by chance.
      await strike("rejects", { call, ...(kinds[i] ?? kinds[random(kinds.length)]) });
      // The client goes on, or the new one does.
      await call(victims, random);
      if (call !== train || i % 5 !== 0) continue;
      const others = [
        ["resolves", contained],
        ["gives up", givingUp],
      ];
      for (const [ends, kinds] of others) await strike(ends, { call, ...kinds[(i / 5) % kinds.length] });
    }
  };
  const lanes = [
    () => lane(train, ending.training, 0.4),
    () => lane(sample, ending.sampling, 0.3),
    () => lane(ask, ending.service, 0.3),
  ];
  // What is armed in a worker may be met by whatever other call gets there first.
  if (worker) for (const lane of lanes) await lane();
  else await Promise.all(lanes.map((lane) => lane()));

  const siblingCalls = await siblings.end();
  await service.close();
  return { table: [...table.values()], siblingCalls, notStruck: await armed() };
};

/** Stops 200 calls that are under way, by `signal` or by `close`: how many have settled when the next task begins. */
globalThis.stopping = async (way) => {
  await init();
  let holds = false;
  const service = open((url, options) => (holds ? neverAnswered(options.signal) : fetch(url, options)));
  const { training, sampler } = await clientsOf(service);
  holds = true;
  const controller = new AbortController();
  const { signal } = controller;
  let settled = 0;
  const calls = Array.from({ length: 100 }, () => [
    training.optimStep({}, { signal }),
    sampler.sample([11, 12], { ...drawn, signal }),
  ]).flat();
  for (const call of calls) call.catch(() => (settled += 1));
  while (connections < 3) await macrotask();
  const before = settled;
  if (way === "signal") controller.abort();
  else void (way === "close" ? service.close() : Promise.all([training.close(), sampler.close()]));
  await macrotask();
  const after = settled;
  await service.close();
  return { before, after };
};

document.title = "ready";

function open(fetch) {
  return new ServiceClient({ apiKey: "tml-a-test", baseURL: location.origin, ...(fetch && { fetch }) });
}

function create(v) {
  return v.service.createLoraTrainingClient(base, { rank: 2, seed: 1 });
}

/** A client in the place of the one that crashed. */
async function remake(v) {
  const former = v.training;
  v.training = await create(v);
  await former?.close();
}

async function clientsOf(service) {
  const training = await service.createLoraTrainingClient(base, { rank: 2, seed: 1 });
  return { training, sampler: await service.createSamplingClient({ baseModel: base }) };
}

/** Trains and samples without end, beside the victims, until it is told to end: how many calls that were. */
async function work(service) {
  const { training, sampler } = await clientsOf(service);
  let ended = false;
  const working = (async () => {
    let calls = 0;
    while (!ended) {
      const step = [training.forwardBackward(data, "cross_entropy"), training.optimStep()];
      await Promise.all([...step, sampler.sample([11, 12], drawn)]);
      calls += 3;
    }
    return calls;
  })();
  // Should one fail, `end` rejects with its reason; until then that is no unhandled rejection of the page.
  working.catch(() => {});
  return {
    end() {
      ended = true;
      return working;
    },
  };
}

function train({ training }, random) {
  const calls = [
    () => training.optimStep(),
    () => training.forward(data, "cross_entropy"),
    () => training.forwardBackward(data, "cross_entropy"),
  ];
  return calls[random(calls.length)]();
}

function sample({ sampler }) {
  return sampler.sample([11, 12], drawn);
}

function ask({ service }) {
  return service.getServerCapabilities();
}

/** The line of the table for a kind of panic; `ends`: how it is to end. */
function lineOf(table, name, ends) {
  if (!table.has(name)) table.set(name, { name, ends, panics: 0, rejected: 0, resolved: 0, wrong: [] });
  return table.get(name);
}

function count(line, { status, reason }, mayBeLate) {
  const late = mayBeLate && reason instanceof ClosedError && reason.outcome === "not_sent";
  if (status === "fulfilled") line.resolved += 1;
  else if (isTyped(reason) || late) line.rejected += 1;
  else line.wrong.push(`${line.name}: ${JSON.stringify({ text: String(reason), ...reason })}`);
}

/** Whether it says all that a crash has to say, and means it: what was not sent may be called again. */
function isTyped(reason) {
  return (
    reason instanceof CrashedError &&
    reason.message.includes("injected fault at") &&
    /faults\.rs:\d+$/.test(reason.place) &&
    reason.callers.length > 0 &&
    ["not_sent", "unknown", "journaled"].includes(reason.outcome) &&
    reason.retryable === (reason.outcome === "not_sent")
  );
}

let connections = 0;

/** A server that takes a request and says nothing. */
function neverAnswered(signal) {
  connections += 1;
  return new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
}

/** Resolves in a later task: every microtask has run by then. */
function macrotask() {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = resolve;
    port2.postMessage(undefined);
  });
}

/** Numbers from 0 up to below `sides`, the same for the same seed. */
function dice(seed) {
  let state = seed;
  return (sides) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state >>> 8) % sides;
  };
}
