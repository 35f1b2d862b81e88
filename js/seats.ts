// Who may own a run: one page at a time of those that share an origin. That no two can write at once is not rested on it, but
// on the store's fence; this is what keeps them from trying.

/** A place that is held. Releasing it twice is once. */
export interface Seat {
  release(): void;
}

export interface Seats {
  /** Undefined where somebody has it. Of what is `new` nobody else can know. */
  takeIfFree(isNew: boolean): Promise<Seat | undefined>;
  /** In the order in which they asked. Undefined when the signal fires first. */
  take(signal: AbortSignal): Promise<Seat | undefined>;
}

/** By Web Locks, which a browser gives back when their page is gone; a lease where there are none. */
export function seatsOf(name: string): Seats {
  const { navigator } = globalThis as { navigator?: { locks?: LockManager } };
  return navigator?.locks ? new WebLocks(navigator.locks, name) : new Lease(name);
}

class WebLocks implements Seats {
  readonly #locks: LockManager;
  readonly #name: string;
  /** Where the page may not use them, as in a frame of no origin. */
  #instead: Lease | undefined;

  constructor(locks: LockManager, name: string) {
    this.#locks = locks;
    this.#name = name;
  }

  async takeIfFree(isNew: boolean): Promise<Seat | undefined> {
    try {
      if (!this.#instead) return await this.#request({ ifAvailable: true });
    } catch {
      this.#instead = new Lease(this.#name);
    }
    return this.#instead.takeIfFree(isNew);
  }

  async take(signal: AbortSignal): Promise<Seat | undefined> {
    if (signal.aborted) return undefined;
    try {
      if (!this.#instead) return await this.#request({ signal });
    } catch {
      this.#instead = new Lease(this.#name);
    }
    return this.#instead.take(signal);
  }

  #request(options: LockOptions): Promise<Seat | undefined> {
    return new Promise((resolve, reject) => {
      const held = (lock: Lock | null) => {
        if (!lock) return resolve(undefined);
        return new Promise<void>((release) => resolve({ release }));
      };
      this.#locks.request(this.#name, options, held).catch((reason: unknown) => {
        if (options.signal?.aborted) resolve(undefined);
        else reject(reason);
      });
    });
  }
}

const BEAT = 1_000; // ms
/** Without a beat for so long, whoever held it is taken for gone. A page whose timers are throttled may be wrongly. */
const LEASE = 5_000; // ms
/** How long whoever holds it has to say so. */
const OBJECTION = 500; // ms

type LeaseMessage = { type: "claim" | "held" | "free"; from: string };

/** By word of mouth: whoever wants it asks, and has it when nobody objects. */
class Lease implements Seats {
  readonly #name: string;

  constructor(name: string) {
    this.#name = name;
  }

  async takeIfFree(isNew: boolean): Promise<Seat | undefined> {
    const claim = new Claim(this.#name);
    const seat = await claim.once(isNew ? 0 : OBJECTION);
    if (!seat) claim.close();
    return seat;
  }

  async take(signal: AbortSignal): Promise<Seat | undefined> {
    while (!signal.aborted) {
      const claim = new Claim(this.#name);
      const seat = await claim.once(OBJECTION);
      if (seat && signal.aborted) seat.release();
      else if (seat) return seat;
      else await claim.vacancy(signal);
    }
    return undefined;
  }
}

class Claim implements Seat {
  readonly #channel: BroadcastChannel | undefined;
  readonly #from = `${Math.random()}`;
  #objected = false;
  /** Whoever objected has let go since. */
  #freed = false;
  #beat: unknown;
  #heard: (message: LeaseMessage) => void = () => undefined;

  constructor(name: string) {
    this.#channel = openChannel(`${name} seat`, (message: LeaseMessage) => this.#hear(message));
  }

  async once(wait: number): Promise<Seat | undefined> {
    if (!this.#channel) return this;
    // Twice: of two that claim at once, the one may not have been there yet when the other did.
    for (let asked = 0; asked < 2 && wait && !this.#objected; asked++) {
      this.#post("claim");
      await new Promise((resolve) => setTimeout(resolve, wait / 2));
    }
    if (this.#objected) return undefined;
    this.#beat = setInterval(() => this.#post("held"), BEAT);
    (this.#beat as { unref?: () => void }).unref?.();
    this.#post("held");
    return this;
  }

  release(): void {
    if (this.#beat === undefined) return;
    clearInterval(this.#beat as number);
    this.#beat = undefined;
    this.#post("free");
    this.close();
  }

  close(): void {
    this.#channel?.close();
  }

  /** Resolves when it is free, or nobody has said for long that it isn't. */
  vacancy(signal: AbortSignal): Promise<void> {
    return new Promise<void>((resolve) => {
      const end = () => {
        clearTimeout(timer);
        signal.removeEventListener("abort", end);
        this.close();
        resolve();
      };
      const wait = () => {
        const timer = setTimeout(end, LEASE);
        (timer as unknown as { unref?: () => void }).unref?.();
        return timer;
      };
      let timer = wait();
      this.#heard = ({ type }) => {
        clearTimeout(timer);
        if (type === "free") end();
        else timer = wait();
      };
      signal.addEventListener("abort", end);
      if (this.#freed) end();
    });
  }

  #hear(message: LeaseMessage): void {
    const holds = this.#beat !== undefined;
    if (message.type === "claim" && holds) this.#post("held");
    // Of two that claim at once, one has the lower name.
    else if (message.type === "held" || (message.type === "claim" && message.from < this.#from)) {
      this.#objected = true;
    }
    if (message.type === "free") this.#freed = true;
    this.#heard(message);
  }

  #post(type: LeaseMessage["type"]): void {
    this.#channel?.postMessage({ type, from: this.#from } satisfies LeaseMessage);
  }
}

/**
 * To whoever else has a channel of this name. It doesn't keep a process alive, where a runtime can be told. Undefined where
 * there is nobody to hear: some runtimes of servers have no channels.
 */
export function openChannel<M>(name: string, hear: (message: M) => void): BroadcastChannel | undefined {
  if (typeof BroadcastChannel === "undefined") return undefined;
  const channel = new BroadcastChannel(name);
  (channel as { unref?: () => void }).unref?.();
  channel.onmessage = ({ data }: MessageEvent<M>) => hear(data);
  return channel;
}
