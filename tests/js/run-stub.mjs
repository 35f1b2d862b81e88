// Tabs with a training run each, on instances that tests play themselves, and what a browser has for them: locks, a page's
// events. All tabs see one store, as those of one origin do.
import { encode, startedCopy, turn } from "./stub.mjs";

export const datum = (...tokens) => ({
  modelInput: tokens.slice(0, -1),
  lossFnInputs: { targetTokens: tokens.slice(1) },
});

export const data = [datum(1, 2, 3), datum(4, 5), datum(6, 7, 8, 9)];

let runs = 0;

/** What is kept of a run: what `startRun` was given, its status and its rows. Tabs that are given the same one share it. */
export function keptRun(id = `run-${++runs}`) {
  return {
    spec: undefined,
    status: {
      id,
      kind: "data",
      baseModel: "model",
      createdAt: 1,
      state: "running",
      step: 0,
      submitted: 0,
      incarnation: 1,
    },
    rows: [],
    reads: 0,
  };
}

/** A page that has loaded the package. `run` gives its instance's open call, with the ways to play the run. */
export async function tabWith(kept, options) {
  const copy = await startedCopy(options);
  play(copy.instance, kept);
  const tab = Object.assign(copy, {
    kept,
    /** Waits until the instance has been asked to open the run. */
    async opened() {
      while (!playedRun(copy.instance)) await turn();
      return playedRun(copy.instance);
    },
    commands: () =>
      copy.instances
        .flatMap(({ calls }) => calls)
        .filter(({ method }) => /^(pause|resume|stop|checkpoint|close)Run$/.test(method))
        .map(({ method, args }) => [method, args]),
  });
  // The run that the living instance has open.
  Object.defineProperty(tab, "run", { get: () => playedRun(copy.instance) });
  copy.onInstance = (instance) => play(instance, kept);
  return tab;
}

/** Answers what the store answers by itself. */
function play(instance, kept) {
  instance.kept = kept;
  const noted = instance.call.bind(instance);
  instance.call = (asked) => {
    noted(asked);
    const call = instance.lastCall;
    const { method } = call;
    if (method === "startRun") {
      kept.spec = call.args;
      kept.status.kind = call.args.kind;
      instance.settle({ id: kept.status.id }, call);
    } else if (method === "readRun") {
      kept.reads += 1;
      const rows = kept.rows.filter(({ at }) => at > (call.args.after ?? 0));
      instance.settle({ status: kept.status, rows, spec: kept.spec }, call);
    } else if (method === "run") {
      instance.opened.run = call;
      // As the run does, it says first how it is.
      const { state } = kept.status;
      if (!["running", "paused"].includes(state)) return instance.settle({ state }, call);
      setImmediate(() => kept.says !== false && say(instance, call, { type: "status", status: kept.status }));
    } else if (method === "close") {
      kept.closed = true;
      instance.settle({}, call);
    } else if (method === "closeRun" && !kept.closesSlowly) {
      instance.settle({}, call);
      instance.settle({ state: "closed" }, instance.opened.run);
    }
  };
}

function say(instance, { key }, message) {
  instance.host.fromRun(key, encode(message));
}

function playedRun(instance) {
  const call = instance.opened.run;
  if (!call) return undefined;
  let asked = 0;
  return {
    call,
    args: call.args,
    says: (message) => say(instance, call, message),
    status: (status) => say(instance, call, { type: "status", status }),
    event: (event) => say(instance, call, { type: "event", event }),
    ends: (end) => instance.settle(end, call),
    fails: (failure) => instance.fail(failure, call),
    /** Asks the page, and resolves with what it answers. */
    async ask(question, number = ++asked + 1000 * Math.floor(Math.random() * 1e6)) {
      say(instance, call, { type: "ask", ask: number, ...question });
      while (!instance.kept.closed) {
        const answer = instance.toRuns.find(([, { type, ask }]) => type === "answer" && ask === number);
        if (answer) {
          const rest = { ...answer[1] };
          delete rest.type;
          delete rest.ask;
          return rest;
        }
        await turn();
      }
    },
    notes: () => instance.toRuns.map(([, message]) => message).filter(({ type }) => type === "note"),
    heard: () => instance.toRuns.map(([, message]) => message),
    /** The step's calls that have come, in their order. */
    stepCalls: () => instance.calls.filter(({ method }) => method === "stepCall"),
  };
}

/** Web Locks of one origin. Put in place of `navigator` for a test. */
export class FakeLocks {
  #queues = new Map();

  request(name, options, callback) {
    const queue = this.#queues.get(name) ?? [];
    this.#queues.set(name, queue);
    return new Promise((resolve, reject) => {
      const entry = {
        enter: async () => {
          try {
            resolve(await callback({ name }));
          } catch (error) {
            reject(error);
          }
          queue.splice(queue.indexOf(entry), 1);
          queue[0]?.enter();
        },
      };
      if (queue.length && options.ifAvailable) return resolve(callback(null));
      queue.push(entry);
      options.signal?.addEventListener("abort", () => {
        if (queue.indexOf(entry) > 0) queue.splice(queue.indexOf(entry), 1);
        reject(options.signal.reason);
      });
      if (queue[0] === entry) entry.enter();
    });
  }

  /** How many hold or want it. */
  wanted() {
    return [...this.#queues.values()].reduce((sum, queue) => sum + queue.length, 0);
  }
}

/** Gives this process Web Locks for one test. */
export function withLocks(t) {
  const locks = new FakeLocks();
  Object.defineProperty(globalThis, "navigator", { value: { locks }, configurable: true });
  t.after(() => delete globalThis.navigator);
  return locks;
}
