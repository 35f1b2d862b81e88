// Commands between the tabs of a run: a follower asks its owner, again and again until that says that it has the command, and
// the owner does it once, however often it comes.

import type { Failure } from "./boundary.js";
import { APITimeoutError, ClosedError, InvalidArgumentError, type TinkexError } from "./errors.js";
import { errorOf } from "./failures.js";
import type { Command, OpenedRun } from "./run-open.js";
import { failureOf } from "./tab-failures.js";

export type CommandMessage =
  /** The same again as long as it has no answer: it is done once for its `id`. */
  | { type: "command"; to: string; id: string; command: Command }
  | { type: "taken"; id: string }
  | { type: "answer"; id: string; value?: unknown; failure?: Failure };

/** What is known of the run in this tab. */
export interface CommandWays {
  /** The tab that owns it, by its name; undefined while none is heard. */
  owner(): string | undefined;
  /** Where this tab owns it. */
  run(): OpenedRun | undefined;
  lacks(): keyof typeof LACKING | undefined;
  /** `hello` asks who the owner is. */
  post(message: CommandMessage | { type: "hello" }): void;
}

/** Asked of `owner`, once one was heard. */
interface Asked {
  readonly command: Command;
  owner: string | undefined;
  readonly since: number;
  /** When the owner last said that it has it. */
  taken: number;
  readonly resolve: (value: unknown) => void;
  readonly reject: (reason: unknown) => void;
}

/** An answer that says: look again who owns the run. */
export const AGAIN = Symbol();

export const LACKING = {
  needs_data: {
    kind: "needs_data",
    message: "no page that is open has given the run its data",
    ends: "a page that calls openRun(id, { data })",
  },
  needs_step: {
    kind: "needs_step",
    message: "no page that is open has given the run its step function",
    ends: "a page that calls openRun(id, { step })",
  },
} as const;

/** So long without a sign from the owner, and a command is given up. */
const PATIENCE = 10_000; // ms
/** So long without an owner, and a page that can't be it gives the command up. */
const SEARCH = 2_000; // ms
/** Answers that are kept for those who ask again. */
const MOST_SERVED = 100;

export class Commands {
  /** Of this tab. */
  readonly #name: string;
  readonly #ways: CommandWays;
  readonly #asked = new Map<string, Asked>();
  readonly #served = new Map<string, Promise<CommandMessage & { type: "answer" }>>();
  #last = 0;

  constructor(name: string, ways: CommandWays) {
    this.#name = name;
    this.#ways = ways;
  }

  /** Resolves with what the command gives at its owner, or with `AGAIN` when this tab may have to do it. */
  ask(command: Command): Promise<unknown> {
    const id = `${this.#name} ${++this.#last}`;
    return new Promise((resolve, reject) => {
      const now = performance.now();
      this.#asked.set(id, { command, owner: undefined, since: now, taken: now, resolve, reject });
      this.#press(id);
    });
  }

  /** Asks again for whatever has no answer. To be called every second, and when another owner is heard. */
  press(): void {
    for (const id of this.#asked.keys()) this.#press(id);
  }

  /** This tab has become the owner, or the run is over: what it had asked of another comes back to it. */
  handBack(): void {
    for (const { command, owner, resolve, reject } of this.#asked.values()) {
      if (owner === undefined || isRepeatable(command)) resolve(AGAIN);
      else reject(lostWithOwner(command));
    }
    this.#asked.clear();
  }

  hear(message: CommandMessage): void {
    if (message.type === "command") {
      if (message.to === this.#name) void this.#serve(message.id, message.command);
      return;
    }
    const asked = this.#asked.get(message.id);
    if (!asked) return;
    if (message.type === "taken") {
      asked.taken = performance.now();
      return;
    }
    this.#asked.delete(message.id);
    if (message.failure) asked.reject(errorOf(message.failure));
    else asked.resolve(message.value);
  }

  async #serve(id: string, command: Command): Promise<void> {
    let answer = this.#served.get(id);
    if (!answer) {
      const run = this.#ways.run();
      if (!run) return;
      answer = run.command(command).then(
        (value) => ({ type: "answer", id, value }),
        (thrown: unknown) => ({ type: "answer", id, failure: failureOf(thrown) }),
      );
      this.#served.set(id, answer);
      const [oldest] = this.#served.keys();
      if (this.#served.size > MOST_SERVED) this.#served.delete(oldest as string);
    }
    this.#ways.post({ type: "taken", id });
    const message = await answer;
    // Who lets go of the run fails with its commands, and the next owner does them.
    if (message.failure?.kind !== "closed" || this.#ways.run()) this.#ways.post(message);
  }

  #press(id: string): void {
    const asked = this.#asked.get(id);
    if (!asked) return;
    const { command, owner: before } = asked;
    const owner = this.#ways.owner();
    const now = performance.now();
    const lacks = this.#ways.lacks();
    if (owner === undefined && lacks && now - asked.since > SEARCH) {
      const { message, ends } = LACKING[lacks];
      const field = lacks === "needs_data" ? "data" : "step";
      this.#giveUp(id, new InvalidArgumentError(field, `${command.name}: ${message}. It takes ${ends}`));
    } else if (now - asked.taken > PATIENCE) {
      this.#giveUp(id, unanswered(command, before !== undefined));
    } else if (owner === undefined) {
      this.#ways.post({ type: "hello" });
    } else if (before !== undefined && before !== owner && !isRepeatable(command)) {
      this.#giveUp(id, lostWithOwner(command));
    } else {
      asked.owner = owner;
      this.#ways.post({ type: "command", to: owner, id, command });
    }
  }

  #giveUp(id: string, error: TinkexError): void {
    this.#asked.get(id)?.reject(error);
    this.#asked.delete(id);
  }
}

/** Doing it twice is doing it once. */
function isRepeatable({ name }: Command): boolean {
  return name !== "checkpoint";
}

function unanswered({ name }: Command, sent: boolean): TinkexError {
  const happened = sent ? "the tab that owns the run didn't answer" : "no tab that owns the run was found";
  return new APITimeoutError(
    `${name}: ${happened} within ${PATIENCE / 1000} s. It may be frozen: look at it, or close it, and call this again`,
    { outcome: sent ? "unknown" : "not_sent", retryable: true },
  );
}

function lostWithOwner({ name }: Command): TinkexError {
  const happened = "the tab that owned the run went while it was doing this, which may be done or not";
  return new ClosedError(`${name}: ${happened}`, { outcome: "unknown", retryable: true });
}
