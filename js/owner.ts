// The one object that has the live instance, and makes the next one when it dies: services are opened again from what they
// were opened with, and find their sessions by their names; clients are made again for the page's to work on; and every
// call gets its answer. It stands on the page and speaks with the instance's life in messages, so that this one may be
// lived there or in a Worker, and a Worker that dies is one more way for an instance to die.

import type {
  Failure,
  FromLife,
  FromOwner,
  JournaledMethod,
  MadeSamplingClient,
  MadeTrainingClient,
  ServiceMethods,
  ToOwner,
} from "./boundary.js";
import { type Life, wordsOf } from "./life.js";

/** More than this many new instances within the window, and something is wrong that a new one does not mend. */
const MOST_RESTARTS = 3;
const RESTART_WINDOW = 5_000; // ms

type Call = Extract<ToOwner, { type: "call" }>;
type Open = Extract<ToOwner, { type: "open" }>;
type Extend = Extract<ToOwner, { type: "extend" }>;

/** Begins a life. Throws where that can't be. */
export type Begin = (hear: (message: FromLife) => void) => Life;

/** A call that is not answered yet. `life`: the instance that has it; none while it waits for one. */
interface Pending {
  call: Call;
  life?: Life;
  /** An instance died with it; the journal knows whether it goes on. */
  lost?: string;
}

/** A client that the page has. `number`: the living instance's for it, once that has made it. */
interface Client {
  service: number;
  number?: number;
  /** How it is made again. */
  method: "resumeTrainingClient" | "resumeSamplingClient";
  args: object;
}

/** The owner's own calls have keys from here on down; the page's count from 1. */
const OWN_KEYS = 2 ** 32 - 1;

export class Owner {
  readonly #begin: Begin;
  readonly #now: () => number;
  readonly #reply: (message: FromOwner) => void;
  /** In the order in which they were made. */
  readonly #pending = new Map<number, Pending>();
  /** What each open service was opened with. */
  readonly #services = new Map<number, Open>();
  /** Services whose tree somebody looks at. */
  readonly #watched = new Set<number>();
  /**
   * Clients of the live instance, by the number that the page has for them. Two instances may give the same number to
   * two clients, so the page's are the owner's own.
   */
  readonly #clients = new Map<number, Client>();
  #lastClient = 0;
  /** Calls whose callers were told that they go on without them. */
  readonly #left = new Set<number>();
  /** Clients that are being made again, by the keys of the owner's own calls. */
  readonly #remaking = new Map<number, number>();
  #nextOwnKey = OWN_KEYS;
  #life: Life;
  /** How many instances there were. */
  #lives = 0;
  #online = true;
  /** What every instance gets first, once the page has it. */
  #extension: Extend | undefined;
  /** When the last restarts were. */
  #restarts: number[] = [];
  /** What happened, when no instance will be made any more. */
  #terminal: string | undefined;

  /** Throws what `begin` throws. `now` is in milliseconds, from any start, never backwards. */
  constructor(begin: Begin, now: () => number, reply: (message: FromOwner) => void) {
    this.#begin = begin;
    this.#now = now;
    this.#reply = reply;
    this.#life = this.#newLife();
    this.#life.setBusy(false);
  }

  /** Calls reach the instance in the order of their messages, within this call where one is alive. */
  post(message: ToOwner): void {
    switch (message.type) {
      case "open":
        this.#services.set(message.service, message);
        this.#life.tell(message);
        break;
      case "call":
        this.#pending.set(message.key, { call: message });
        this.#life.setBusy(true);
        this.#pass(message.key);
        break;
      case "cancel":
        this.#cancel(message.key);
        break;
      case "toRun":
        this.#toRun(message);
        break;
      case "watch":
        if (message.on) this.#watched.add(message.service);
        else this.#watched.delete(message.service);
        this.#life.tell(message);
        break;
      case "wake":
        this.#online = message.online;
        this.#life.tell(message);
        break;
      case "extend":
        this.#extension = message;
        this.#life.tell(message);
        break;
      case "away":
        this.#life.tell(message);
        break;
      case "ended":
      case "hidden":
      case "seen":
        // A function that a dead instance does not hear of is asked for again by the next one, which hears then that it has
        // ended; and a call that was seen comes back as finished.
        this.#life.tell(message);
        break;
    }
  }

  /** An answer to a dead instance's question is nothing to the next one, which asks for itself. */
  #toRun(message: Extract<ToOwner, { type: "toRun" }>): void {
    const { key, life = this.#lives } = message;
    if (this.#pending.get(key)?.life && life === this.#lives) this.#life.tell(message);
  }

  /** Hands a call to the instance, or answers it where that can't be. */
  #pass(key: number): void {
    const pending = this.#pending.get(key);
    if (!pending) return;
    const { service, client, method } = pending.call;
    const to = this.#clients.get(client);
    if (this.#terminal !== undefined) return this.#lost(pending.call, this.#terminal, "not_sent");
    if (!this.#life.alive) return;
    if (!this.#services.has(service) && method !== "forget") return this.#closed(pending.call);
    if (client && !to) return this.#lost(pending.call, CLIENT_LOST, "not_sent");
    // It waits for its client.
    if (to && to.number === undefined) return;
    if (method === "close") {
      // From here on nothing of it is made again, whatever becomes of this call.
      if (!client) {
        this.#services.delete(service);
        this.#watched.delete(service);
      }
      for (const [number, of] of this.#clients) {
        if (number === client || (!client && of.service === service)) this.#clients.delete(number);
      }
    }
    pending.life = this.#life;
    this.#life.tell({ ...pending.call, client: to?.number ?? 0 });
  }

  #cancel(key: number): void {
    const pending = this.#pending.get(key);
    if (pending?.life) {
      this.#life.tell({ type: "cancel", key });
    } else if (pending) {
      this.#fail(key, {
        kind: "aborted",
        message: `${pending.call.method} was given up while no instance had it`,
        // The journal may know it, and then it goes on.
        outcome: pending.lost === undefined ? "not_sent" : "unknown",
        retryable: pending.lost === undefined,
      });
    }
  }

  #settle(key: number, value: unknown): void {
    if (this.#remaking.has(key)) return this.#remade(key, value as MadeTrainingClient | MadeSamplingClient);
    const call = this.#pending.get(key)?.call;
    if (!call) return;
    this.#answered(key);
    this.#reply({ type: "settled", key, value: this.#ofThePage(call.service, value) });
  }

  #fail(key: number, failure: Failure): void {
    if (this.#remaking.has(key)) return this.#notRemade(key, failure);
    if (!this.#pending.has(key)) return;
    if (failure.outcome === "journaled") this.#left.add(key);
    this.#answered(key);
    this.#reply({ type: "failed", key, failure });
  }

  #answered(key: number): void {
    this.#pending.delete(key);
    this.#life.setBusy(this.#pending.size > 0);
  }

  /** An answer that names a new client, with the page's number for it. */
  #ofThePage(service: number, value: unknown): unknown {
    const made = value as MadeTrainingClient | MadeSamplingClient | undefined;
    if (typeof made?.client !== "number") return value;
    const client = ++this.#lastClient;
    if (this.#services.has(service)) {
      const again: Pick<Client, "method" | "args"> =
        "modelId" in made
          ? { method: "resumeTrainingClient", args: { modelId: made.modelId } }
          : { method: "resumeSamplingClient", args: { samplingSessionId: made.samplingSessionId } };
      this.#clients.set(client, { service, number: made.client, ...again });
    }
    return { ...made, client };
  }

  /** Asks the new instance for a client that the page has. */
  #remake(client: number, { service, method, args }: Client): void {
    const key = this.#nextOwnKey--;
    this.#remaking.set(key, client);
    this.#life.tell({ type: "call", key, service, client: 0, method, args });
  }

  /** The calls that the journal knows go on and settle the same promises; the others were not sent, or are unknown. */
  #remade(key: number, made: MadeTrainingClient | MadeSamplingClient): void {
    const number = this.#takeRemaking(key);
    const client = this.#clients.get(number);
    // It was closed meanwhile.
    if (!client) return;
    client.number = made.client;
    const kept = "pending" in made ? made.pending : undefined;
    for (const pending of this.#of(number)) {
      const { call, lost } = pending;
      if (lost === undefined) continue;
      delete pending.lost;
      const seqId = (call.args as { seqId?: number }).seqId;
      const same = kept?.find((known) =>
        call.method === "result" ? known.seqId === seqId : known.key === call.key,
      );
      if (same) pending.call = { ...call, method: "result", args: { seqId: same.seqId } };
      else if (!kept || !JOURNALED.has(call.method)) this.#lost(call, lost, "unknown");
      else this.#lost(call, lost, "not_sent");
    }
    for (const { key } of kept ?? []) {
      // It was answered, and the instance died before it had heard that this was seen.
      if (key && !this.#pending.has(key) && !this.#left.has(key)) this.#life.tell({ type: "seen", key });
    }
    for (const { call } of this.#of(number)) this.#pass(call.key);
  }

  /** Why is for whoever calls it: the session may have ended. */
  #notRemade(key: number, { message }: Failure): void {
    const number = this.#takeRemaking(key);
    this.#clients.delete(number);
    for (const { call, lost } of this.#of(number)) {
      const sent = lost !== undefined;
      this.#lost(
        call,
        `${lost ?? CLIENT_LOST}, and can't be made again: ${message}`,
        sent ? "unknown" : "not_sent",
      );
    }
  }

  #takeRemaking(key: number): number {
    const number = this.#remaking.get(key) ?? 0;
    this.#remaking.delete(key);
    return number;
  }

  /** The open calls of a client, in their order. */
  #of(client: number): Pending[] {
    return [...this.#pending.values()].filter(({ call }) => call.client === client);
  }

  /** Closing what is closed or lost is done already; anything else says so. */
  #closed({ key, method }: Call): void {
    if (method === "close") return this.#settle(key, undefined);
    this.#fail(key, {
      kind: "closed",
      message: `${method} was called after its service was closed: make a new ServiceClient`,
      outcome: "not_sent",
      retryable: false,
    });
  }

  /** Rejects a call with what happened, what that means for the server, and what to do. */
  #lost({ key, client, method }: Call, happened: string, outcome: "not_sent" | "unknown"): void {
    if (method === "close") return this.#settle(key, undefined);
    const ended = this.#terminal !== undefined;
    const sent = outcome === "unknown" ? "The server may have got this call" : "This call was not sent";
    const works = !ended && (!client || this.#clients.has(client));
    const next = ended ? LAST : works ? "Call it again" : NEW_CLIENT;
    this.#fail(key, {
      kind: "instance_lost",
      message: `${method}: ${happened}. ${sent}. ${next}`,
      outcome,
      // What a service is asked for itself may be asked again: it reads, or makes something that is in nobody's way. Of a
      // client that works on, what the journal does not know was not sent, or changes nothing.
      retryable: works,
    });
  }

  #newLife(): Life {
    const life = ++this.#lives;
    return this.#begin((message) => {
      switch (message.type) {
        case "settled":
          return this.#settle(message.key, message.value);
        case "failed":
          return this.#fail(message.key, message.failure);
        case "fromRun":
          return this.#reply({ ...message, life });
        case "died":
          // In a microtask: the dying call is still on the stack, and says only later what killed it.
          return queueMicrotask(() => this.#restart());
        default:
          return this.#reply(message);
      }
    });
  }

  /** Goes on with the next instance: clients are made again, and know then what becomes of their calls. */
  #restart(): void {
    const cause = `the WebAssembly instance died (${wordsOf(this.#life.cause)})`;
    this.#remaking.clear();
    for (const client of this.#clients.values()) delete client.number;
    const now = this.#now();
    this.#restarts = this.#restarts.filter((at) => now - at < RESTART_WINDOW);
    if (this.#restarts.length >= MOST_RESTARTS) {
      const often = `${this.#restarts.length + 1} times within ${RESTART_WINDOW / 1000} s`;
      this.#terminal = `${cause}, ${often}`;
    }
    for (const pending of [...this.#pending.values()]) {
      if (!pending.life && pending.lost === undefined) continue;
      delete pending.life;
      const { call } = pending;
      // What runs on the page goes on there, and the next instance takes it under its supervision.
      if (this.#terminal === undefined && REPEATED.has(call.method)) continue;
      if (this.#terminal === undefined && this.#clients.has(call.client)) pending.lost ??= cause;
      else this.#lost(call, this.#terminal ?? cause, "unknown");
    }
    if (this.#terminal === undefined) {
      this.#restarts.push(now);
      try {
        this.#life = this.#newLife();
      } catch (thrown) {
        this.#life.cause = thrown;
        return queueMicrotask(() => this.#restart());
      }
      this.#life.setBusy(this.#pending.size > 0);
      if (!this.#online) this.#life.tell({ type: "wake", online: false });
      if (this.#extension) this.#life.tell(this.#extension);
      for (const opened of this.#services.values()) this.#life.tell(opened);
      for (const service of this.#watched) this.#life.tell({ type: "watch", service, on: true });
      for (const [number, client] of this.#clients) this.#remake(number, client);
    }
    for (const key of [...this.#pending.keys()]) this.#pass(key);
  }
}

/**
 * Calls that the next instance gets as they are: functions and runs go on, and of a run's commands one more changes nothing
 * but that there may be a checkpoint more.
 */
const REPEATED: ReadonlySet<string> = new Set<keyof ServiceMethods>([
  "spawn",
  "run",
  "pauseRun",
  "resumeRun",
  "stopRun",
  "checkpointRun",
  "closeRun",
  "runs",
  "readRun",
]);

/** A call of these that the journal does not know was not sent. */
const JOURNALED: ReadonlySet<string> = new Set<JournaledMethod | "result">([
  "forward",
  "forwardBackward",
  "optimStep",
  "saveState",
  "loadState",
  "saveWeightsForSampler",
  "saveWeightsAndGetSamplingClient",
  "result",
]);
const CLIENT_LOST = "the WebAssembly instance that had this client died";
const NEW_CLIENT =
  "Make a new client: createTrainingClientFromStateWithOptimizer() with the last checkpoint, or createSamplingClient()";
const LAST = "No other instance is made: reload the page, or start the process again";
