// The one object that has the live instance, and makes the next one when it dies: services are opened again from what they
// were opened with, and find their sessions by their names; clients are made again for the page's to work on; and every
// call gets its answer. It stands on the page and speaks with the instance's life in messages, so that this one may be
// lived there or in a Worker, and a Worker that dies is one more way for an instance to die.

import type { Failure, FromLife, FromOwner, ToOwner } from "./boundary.js";
import { Clients, type Made } from "./clients.js";
import { type Life, wordsOf } from "./life.js";
import { SecondFile } from "./second-file.js";
import { CLIENT_LOST, closed, givenUp, JOURNALED, lost, REPEATED, without } from "./unanswered.js";

/** More than this many new instances within the window, and something is wrong that a new one does not mend. */
const MOST_RESTARTS = 3;
const RESTART_WINDOW = 5_000; // ms
/** How often the second file is asked for when an instance has died: nothing goes on without it. */
const TRIES_AFTER_DEATH = 5;

type Call = Extract<ToOwner, { type: "call" }>;
type Open = Extract<ToOwner, { type: "open" }>;

/** Begins a life. Throws where that can't be. */
export type Begin = (hear: (message: FromLife) => void) => Life;

/** A call that is not answered yet. `life`: the instance that has it; none while it waits for one. */
interface Pending {
  call: Call;
  life?: Life;
  /** An instance died with it; the journal knows whether it goes on. */
  lost?: string;
}

export class Owner {
  readonly #begin: Begin;
  readonly #now: () => number;
  readonly #reply: (message: FromOwner) => void;
  /** In the order in which they were made. */
  readonly #pending = new Map<number, Pending>();
  /** What each open service was opened with. */
  readonly #services = new Map<number, Open>();
  /** Services that an earlier instance had: what they have at the server is to be taken up again. */
  readonly #before = new Set<number>();
  /** Services whose tree somebody looks at. */
  readonly #watched = new Set<number>();
  readonly #clients = new Clients();
  /** Calls whose callers were told that they go on without them. */
  readonly #left = new Set<number>();
  #life: Life;
  /** How many instances there were. */
  #lives = 0;
  #online = true;
  readonly #second: SecondFile;
  /** Whose calls wait for the second file: clients, and services as less than 0. */
  readonly #held = new Set<number>();
  /** The number of the instance for which it is to come, and of the last one that has it. */
  #bringing = 0;
  #extended = 0;
  /** When the last restarts were. */
  #restarts: number[] = [];
  /** What happened, when no instance will be made any more. */
  #terminal: string | undefined;

  /**
   * Throws what `begin` throws. `load` gives the second file. `now` is in milliseconds, from any start, never backwards.
   */
  constructor(
    begin: Begin,
    load: () => Promise<WebAssembly.Module>,
    now: () => number,
    reply: (message: FromOwner) => void,
  ) {
    this.#begin = begin;
    this.#second = new SecondFile(load);
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
        if (this.#second.here) this.#life.tell(message);
        else if (message.on) this.#needed();
        break;
      case "wake":
        this.#online = message.online;
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

  /** Resolves when this instance has the second file, as all that follow will. Rejects with `InitError`. */
  async bring(): Promise<void> {
    if (this.#second.here) return;
    await this.#second.bring();
    this.#extend();
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
    if (this.#waits(pending.call)) return;
    if (method === "close") {
      // From here on nothing of it is made again, whatever becomes of this call.
      if (client) {
        this.#clients.delete(client);
      } else {
        this.#services.delete(service);
        this.#watched.delete(service);
        this.#clients.deleteOf(service);
      }
      this.#closeWaiting(pending.call);
    }
    pending.life = this.#life;
    this.#life.tell({ ...pending.call, client: to?.number ?? 0 });
  }

  /** Calls that no instance has don't wait any more, since this one closes their client or service. */
  #closeWaiting({ key, service, client }: Call): void {
    for (const { call, life, lost } of [...this.#pending.values()]) {
      const its = client ? call.client === client : call.service === service;
      if (!its || life || call.key === key) continue;
      if (lost !== undefined) this.#lost(call, lost, "unknown");
      else this.#closed(call);
    }
  }

  /** Whether a call can't be made without the second file, which is not here. */
  #needsMore({ service, client, method }: Call): boolean {
    if (this.#second.here || method === "close" || method === "forget") return false;
    const resumes = this.#before.has(service) || this.#services.get(service)?.options.session !== undefined;
    return this.#second.has(method) || (!client && resumes);
  }

  /** Whether a call waits for the second file: it needs that, or stands behind one of the same client that does. */
  #waits(call: Call): boolean {
    const of = call.client || -call.service;
    if (!this.#needsMore(call)) return this.#held.has(of) && call.method !== "close";
    this.#held.add(of);
    this.#needed();
    return true;
  }

  /** Has the second file come for those that wait. */
  #needed(): void {
    const life = this.#lives;
    if (this.#bringing === life) return;
    this.#bringing = life;
    this.#second.bring(this.#before.size ? TRIES_AFTER_DEATH : 1).then(
      () => this.#extend(),
      (reason: unknown) => this.#bringing === life && this.#without(wordsOf(reason)),
    );
  }

  /** The second file is here: this instance gets it, and then what waited for it. */
  #extend(): void {
    const module = this.#second.here;
    if (!module || this.#extended === this.#lives) return;
    this.#extended = this.#lives;
    this.#life.tell({ type: "extend", module });
    this.#goOn();
  }

  #without(why: string): void {
    this.#bringing = 0;
    for (const [number] of this.#clients.missing()) this.#gone(number, why);
    for (const service of this.#watched) {
      this.#reply({ type: "log", service, level: "error", message: `supervision is not told: ${why}` });
    }
    for (const { call, life } of [...this.#pending.values()]) {
      if (!life && this.#needsMore(call)) this.#fail(call.key, without(why));
    }
    this.#goOn();
  }

  /** Hands on what waited. */
  #goOn(): void {
    this.#held.clear();
    if (this.#second.here && this.#life.alive) {
      for (const service of this.#watched) this.#life.tell({ type: "watch", service, on: true });
      for (const [number, { service, method, args }] of this.#clients.missing()) {
        const key = this.#clients.remake(number);
        this.#life.tell({ type: "call", key, service, client: 0, method, args });
      }
    }
    for (const [key, { life }] of [...this.#pending]) if (!life) this.#pass(key);
  }

  #cancel(key: number): void {
    const pending = this.#pending.get(key);
    if (pending?.life) {
      this.#life.tell({ type: "cancel", key });
    } else if (pending) {
      this.#fail(key, givenUp(pending.call.method, pending.lost !== undefined));
    }
  }

  #settle(key: number, value: unknown): void {
    if (this.#clients.isRemaking(key)) return this.#remade(key, value as Made);
    const call = this.#pending.get(key)?.call;
    if (!call) return;
    this.#answered(key);
    this.#reply({ type: "settled", key, value: this.#ofThePage(call.service, value) });
  }

  #fail(key: number, failure: Failure): void {
    if (this.#clients.isRemaking(key)) return this.#notRemade(key, failure);
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
    const made = value as Made | undefined;
    if (typeof made?.client !== "number") return value;
    return { ...made, client: this.#clients.add(service, made, this.#services.has(service)) };
  }

  /** The calls that the journal knows go on and settle the same promises; the others were not sent, or are unknown. */
  #remade(key: number, made: Made): void {
    const number = this.#clients.remade(key);
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
    this.#gone(this.#clients.remade(key), message);
  }

  #gone(number: number, why: string): void {
    this.#clients.delete(number);
    for (const { call, lost } of this.#of(number)) {
      const sent = lost !== undefined;
      this.#lost(
        call,
        `${lost ?? CLIENT_LOST}, and can't be made again: ${why}`,
        sent ? "unknown" : "not_sent",
      );
    }
  }

  /** The open calls of a client, in their order. */
  #of(client: number): Pending[] {
    return [...this.#pending.values()].filter(({ call }) => call.client === client);
  }

  /** Closing what is closed or lost is done already; anything else says so. */
  #closed(call: Call): void {
    if (call.method === "close") return this.#settle(call.key, undefined);
    this.#fail(call.key, closed(call));
  }

  /** Rejects a call with what happened, what that means for the server, and what to do. */
  #lost({ key, client, method }: Call, happened: string, outcome: "not_sent" | "unknown"): void {
    if (method === "close") return this.#settle(key, undefined);
    const works = !client || this.#clients.has(client);
    const left = this.#terminal !== undefined ? "nothing" : works ? "works on" : "client lost";
    this.#fail(key, lost(method, happened, outcome, left));
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
          // In a microtask: whoever has just told it something goes on first.
          return queueMicrotask(() => this.#restart());
        case "bring":
          // Nobody waits for it.
          return void this.bring().catch(() => undefined);
        default:
          return this.#reply(message);
      }
    });
  }

  /** Goes on with the next instance: clients are made again, and know then what becomes of their calls. */
  #restart(): void {
    const cause = `the WebAssembly instance died (${wordsOf(this.#life.cause)})`;
    this.#clients.lose();
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
      const module = this.#second.here;
      if (module) {
        this.#extended = this.#lives;
        this.#life.tell({ type: "extend", module });
      }
      for (const [service, opened] of this.#services) {
        this.#life.tell(opened);
        this.#before.add(service);
      }
      if (!module && this.#before.size) this.#needed();
    }
    this.#goOn();
  }
}
