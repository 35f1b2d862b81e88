// The one object that has the compiled module and the live instance. It speaks in messages, so that it may stand on the
// page or in a Worker. An instance that dies is replaced: services are opened again from what they were opened with, and
// every call gets its answer.

import type { Failure, FromOwner, ToOwner, WireOptions } from "./boundary.js";
import type { Instance } from "./instance.js";
import { Life, type Listener, type Surroundings } from "./life.js";
import { encode } from "./plain.js";

/** More than this many new instances within the window, and something is wrong that a new one does not mend. */
const MOST_RESTARTS = 3;
const RESTART_WINDOW = 5_000; // ms

type Call = Extract<ToOwner, { type: "call" }>;

/** A call that is not answered yet. `life`: the instance that has it; none while it waits for one. */
interface Pending {
  call: Call;
  life?: Life;
}

export class Owner {
  readonly #module: WebAssembly.Module;
  readonly #surroundings: Surroundings;
  readonly #reply: (message: FromOwner) => void;
  /** In the order in which they were made. */
  readonly #pending = new Map<number, Pending>();
  /** What each open service was opened with. */
  readonly #services = new Map<number, WireOptions>();
  /** Services whose tree somebody looks at. */
  readonly #watched = new Set<number>();
  /**
   * Clients of the live instance, by the number that the page has for them. Two instances may give the same number to
   * two clients, so the page's are the owner's own.
   */
  readonly #clients = new Map<number, { service: number; number: number }>();
  #lastClient = 0;
  #life: Life;
  /** When the last restarts were. */
  #restarts: number[] = [];
  /** What happened, when no instance will be made any more. */
  #terminal: string | undefined;

  /** Throws what the module throws when it is instantiated and started. */
  constructor(module: WebAssembly.Module, surroundings: Surroundings, reply: (message: FromOwner) => void) {
    this.#module = module;
    this.#surroundings = surroundings;
    this.#reply = reply;
    this.#life = this.#newLife();
    this.#life.setBusy(false);
  }

  /** Calls reach the instance in the order of their messages, within this call where one is alive. */
  post(message: ToOwner): void {
    switch (message.type) {
      case "open":
        this.#services.set(message.service, message.options);
        this.#open(message.service, message.options);
        break;
      case "call":
        this.#pending.set(message.key, { call: message });
        this.#life.setBusy(true);
        this.#pass(message.key);
        break;
      case "cancel":
        this.#cancel(message.key);
        break;
      case "ended":
        this.#ended(message.key, message.failure);
        break;
      case "watch":
        this.#watch(message.service, message.on);
        break;
    }
  }

  #open(service: number, options: WireOptions): void {
    this.#ask(service, (instance) => {
      instance.open(service, encode(options));
      if (this.#watched.has(service)) instance.watch(service, true);
    });
  }

  #watch(service: number, on: boolean): void {
    if (on) this.#watched.add(service);
    else this.#watched.delete(service);
    this.#ask(service, (instance) => instance.watch(service, on));
  }

  /** Of an instance that died meanwhile the next one asks for the function again, and hears then that it has ended. */
  #ended(key: number, failure: string | undefined): void {
    const pending = this.#pending.get(key);
    if (pending) this.#ask(pending.call.service, (instance) => instance.ended(key, failure));
  }

  /** Asks what has no answer; a crash can only be told to the log. */
  #ask(service: number, question: (instance: Instance) => void): void {
    try {
      this.#life.ask(question);
    } catch (thrown) {
      const message = `the client crashed: ${wordsOf(thrown)}. ${DEFECT}`;
      this.#reply({ type: "log", service, level: "error", message });
    }
  }

  /** Hands a call to the instance, or answers it where that can't be. */
  #pass(key: number): void {
    const pending = this.#pending.get(key);
    if (!pending) return;
    const { service, client, method, args } = pending.call;
    const to = this.#clients.get(client);
    if (this.#terminal !== undefined) return this.#lost(pending.call, this.#terminal, "not_sent");
    if (!this.#life.alive) return;
    if (!this.#services.has(service)) return this.#closed(pending.call);
    if (client && !to) return this.#lost(pending.call, CLIENT_LOST, "not_sent");
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
    try {
      if (method === "supervision") {
        const rows = this.#life.ask((instance) => instance.supervision(service));
        if (rows) this.#settle(key, rows);
        return;
      }
      this.#life.ask((instance) => instance.call(key, service, to?.number ?? 0, method, encode(args)));
    } catch (thrown) {
      this.#fail(key, {
        kind: "crashed",
        message: `${method} crashed: ${wordsOf(thrown)}. ${DEFECT}`,
        outcome: "unknown",
        retryable: false,
      });
    }
  }

  #cancel(key: number): void {
    const pending = this.#pending.get(key);
    if (pending?.life) {
      this.#ask(pending.call.service, (instance) => instance.cancel(key));
    } else if (pending) {
      this.#fail(key, {
        kind: "aborted",
        message: `${pending.call.method} was given up before anything was sent`,
        outcome: "not_sent",
        retryable: true,
      });
    }
  }

  #settle(key: number, value: unknown): void {
    const call = this.#pending.get(key)?.call;
    if (!call) return;
    this.#answered(key);
    this.#reply({ type: "settled", key, value: this.#ofThePage(call.service, value) });
  }

  #fail(key: number, failure: Failure): void {
    if (!this.#pending.has(key)) return;
    this.#answered(key);
    this.#reply({ type: "failed", key, failure });
  }

  #answered(key: number): void {
    this.#pending.delete(key);
    this.#life.setBusy(this.#pending.size > 0);
  }

  /** An answer that names a new client, with the page's number for it. */
  #ofThePage(service: number, value: unknown): unknown {
    const made = value as { client?: unknown } | undefined;
    if (typeof made?.client !== "number") return value;
    const client = ++this.#lastClient;
    if (this.#services.has(service)) this.#clients.set(client, { service, number: made.client });
    return { ...made, client };
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
    const next = ended ? LAST : client ? NEW_CLIENT : "Call it again";
    this.#fail(key, {
      kind: "instance_lost",
      message: `${method}: ${happened}. ${sent}. ${next}`,
      outcome,
      // What a service is asked for itself may be asked again: it reads, or makes something that is in nobody's way.
      retryable: !client && !ended,
    });
  }

  #newLife(): Life {
    const listener: Listener = {
      settle: (key, value) => this.#settle(key, value),
      fail: (key, failure) => this.#fail(key, failure),
      log: (service, level, message) => this.#reply({ type: "log", service, level, message }),
      run: (key) => this.#reply({ type: "run", key }),
      supervision: (service, rows) => this.#reply({ type: "supervision", service, rows }),
      // In a microtask: the dying call is still on the stack, and says only later what killed it.
      died: () => queueMicrotask(() => this.#restart()),
    };
    return new Life(this.#module, this.#surroundings, listener);
  }

  /** Rejects what the dead instance had, and goes on with the next one. */
  #restart(): void {
    const cause = `the WebAssembly instance died (${wordsOf(this.#life.cause)})`;
    this.#clients.clear();
    const held = [...this.#pending.values()].filter(({ life }) => life);
    const now = this.#surroundings.now();
    this.#restarts = this.#restarts.filter((at) => now - at < RESTART_WINDOW);
    if (this.#restarts.length >= MOST_RESTARTS) {
      const often = `${this.#restarts.length + 1} times within ${RESTART_WINDOW / 1000} s`;
      this.#terminal = `${cause}, ${often}`;
    }
    for (const pending of held) {
      // What runs on the page goes on there, and the next instance takes it under its supervision.
      if (pending.call.method === "spawn" && this.#terminal === undefined) delete pending.life;
      else this.#lost(pending.call, this.#terminal ?? cause, "unknown");
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
      for (const [service, options] of this.#services) this.#open(service, options);
    }
    for (const key of [...this.#pending.keys()]) this.#pass(key);
  }
}

const DEFECT = "This is a defect of tinkex";
const CLIENT_LOST = "the WebAssembly instance that had this client died";
const NEW_CLIENT =
  "Make a new client: createTrainingClientFromStateWithOptimizer() with the last checkpoint, or createSamplingClient()";
const LAST = "No other instance is made: reload the page, or start the process again";

function wordsOf(thrown: unknown): string {
  return thrown instanceof Error
    ? thrown.message
    : typeof thrown === "string"
      ? thrown
      : "for no known reason";
}
