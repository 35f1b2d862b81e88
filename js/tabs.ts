// One run in several tabs. One of them owns it: it has the seat and the open run. The others follow what it tells, hand it
// their commands, and take over when the seat is free. Where the owner is silent, they read what is kept; none of them asks
// the server for anything.

import { ClosedError, StorageError } from "./errors.js";
import { watchPage } from "./page-life.js";
import type { RunMethods, WireRunStatus } from "./run-boundary.js";
import { runEvent } from "./run-event.js";
import type { Command, OpenedRun, RunHearer } from "./run-open.js";
import type { CauseKind, RunCause, RunEnd, RunEvent, RunStatus } from "./run-types.js";
import type { Seat, Seats } from "./seats.js";
import { AGAIN, type CommandMessage, Commands, LACKING } from "./tab-commands.js";

export type ReadRun = RunMethods["readRun"]["result"];

/** What a tab does with the rest of its page. */
export interface TabWays extends RunHearer {
  readonly id: string;
  readonly seats: Seats;
  channel(hear: (message: TabMessage) => void): BroadcastChannel | undefined;
  /** What this page would need to own the run; undefined where it has it. */
  lacks(status: WireRunStatus): "needs_data" | "needs_step" | undefined;
  open(hearer: RunHearer): OpenedRun;
  /** From the store: rows of a later time than `after`, in milliseconds since 1970. */
  read(after: number): Promise<ReadRun>;
  ended(end: RunEnd): void;
}

export type TabMessage = { from: string } & (
  | { type: "hello" }
  | { type: "status"; status: WireRunStatus }
  | { type: "event"; event: RunEvent }
  /** All that it had to tell was told. */
  | { type: "ended"; end: RunEnd }
  | CommandMessage
);

const BEAT = 1_000; // ms
/** So long without a word, and the owner counts as silent. */
const SILENCE = 2 * BEAT;
/** How long a tab waits for the first word of an owner. */
const GREETING = 300; // ms
/** After being fenced, or failing to open the run: doubled each time. */
const SHORTEST_REST = 5_000; // ms
const LONGEST_REST = 600_000; // ms
/** Events that are known, so that none is told twice. */
const MOST_SEEN = 1_000;

export class Tab {
  readonly #ways: TabWays;
  readonly #name = `${Math.random()}`.slice(2);
  /** Of the last event that is known; at first of the opening. */
  #lastAt = Date.now();
  readonly #commands: Commands;
  readonly #seen = new Set<string>();
  #channel: BroadcastChannel | undefined;
  #known: WireRunStatus | undefined;
  #run: OpenedRun | undefined;
  #seat: Seat | undefined;
  #end: RunEnd | undefined;
  /** The owner that was heard last, and when. */
  #owner: string | undefined;
  #heardAt = -Infinity;
  #greeted: () => void = () => undefined;
  /** Why this page can't own the run at present, though it should. */
  #trouble: RunCause | undefined;
  #silentSince = Date.now();
  #rest = SHORTEST_REST;
  /** Fires when this page stops asking for the seat. */
  #wanting = new AbortController();
  #isBack: Promise<void> | undefined;
  #comeBack: () => void = () => undefined;
  #timer: unknown;
  #unwatch: () => void = () => undefined;
  #polling = false;

  constructor(ways: TabWays) {
    this.#ways = ways;
    this.#commands = new Commands(this.#name, {
      owner: () => this.#owner,
      run: () => this.#run,
      lacks: () => ways.lacks(this.#known as WireRunStatus),
      post: (message) => this.#post(message),
    });
  }

  /** Resolves when it is known who owns the run. Rejects where this page would, and can't. */
  async start(status: WireRunStatus, isNew: boolean): Promise<void> {
    this.#learn(status);
    this.#endAsKept(status);
    if (this.#end) return;
    this.#listen();
    this.#timer = setInterval(() => this.#tick(), BEAT);
    this.#unwatch = watchPage({
      hidden: () => this.#run?.hidden(),
      away: () => this.#away(),
      back: () => this.#back(),
    });
    if (this.#canOwn()) {
      const seat = await this.#ways.seats.takeIfFree(isNew);
      if (seat) {
        const first = this.#own(seat);
        void this.#compete(first);
        await this.#run?.opened;
        return;
      }
      void this.#compete();
    }
    await this.#greeting();
  }

  /** As far as this page knows. */
  get status(): RunStatus {
    const known = this.#known as WireRunStatus;
    const role = this.#end ? "none" : this.#run ? "owner" : "follower";
    const cause = role === "follower" && known.state === "running" ? this.#orphaned() : undefined;
    return { ...known, role, ...(cause && { cause }) };
  }

  /** The same, after a look where nobody tells. */
  async fresh(): Promise<RunStatus> {
    if (!this.#end && !this.#run && this.#silent()) await this.#look();
    return this.status;
  }

  /** Does it here or has the owner do it, once. */
  async command(command: Command): Promise<unknown> {
    for (;;) {
      if (this.#end) {
        throw new ClosedError(
          this.#end.state === "closed"
            ? `${command.name} was called after close(): open the run again with openRun()`
            : `${command.name}: the run is ${this.#end.state}, and takes no commands any more`,
        );
      }
      const run = this.#run;
      if (run) {
        await run.opened;
        return await run.command(command);
      }
      const answer = await this.#commands.ask(command);
      if (answer !== AGAIN) return answer;
    }
  }

  /** Lets the run go: it works on in another tab, or in none. */
  async close(): Promise<void> {
    const run = this.#run;
    this.#finish({ state: "closed" });
    run?.close();
    await run?.over.catch(() => undefined);
    this.#letGo();
  }

  #canOwn(): boolean {
    return this.#ways.lacks(this.#known as WireRunStatus) === undefined;
  }

  /** Asks for the seat, owns the run as long as it may, and asks again. */
  async #compete(owning?: Promise<boolean>): Promise<void> {
    for (;;) {
      if (owning && !(await owning)) await this.#pause();
      if (this.#end) return;
      await this.#isBack;
      const seat = await this.#ways.seats.take(this.#wanting.signal);
      // What happened while nobody told.
      if (seat) await this.#poll();
      if (seat && (this.#end || this.#isBack)) seat.release();
      owning = seat && !this.#end && !this.#isBack ? this.#own(seat) : undefined;
    }
  }

  /** Owns the run until that ends; false where it was refused or taken away. */
  async #own(seat: Seat): Promise<boolean> {
    this.#seat = seat;
    const run = this.#ways.open({
      status: (status) => {
        if (this.#run !== run) return;
        this.#learn(status);
        this.#post({ type: "status", status });
      },
      event: (event) => {
        this.#tell(event);
        this.#post({ type: "event", event });
      },
    });
    this.#run = run;
    this.#owner = undefined;
    this.#commands.handBack();
    try {
      const end = await run.over;
      if (end.state !== "closed") {
        this.#post({ type: "ended", end });
        this.#finish(end);
      }
      this.#trouble = end.state === "closed" && end.cause ? this.#troubled(end.cause) : undefined;
      if (!this.#trouble) this.#rest = SHORTEST_REST;
      return !this.#trouble;
    } catch (thrown) {
      // Its service was closed, and it with that.
      if (ClosedError.isInstance(thrown)) this.#finish({ state: "closed" });
      else this.#trouble = this.#troubled(causeOf(thrown));
      return false;
    } finally {
      if (this.#run === run) this.#run = undefined;
      if (this.#seat === seat) this.#letGo();
      this.#silentSince = Date.now();
    }
  }

  #letGo(): void {
    this.#seat?.release();
    this.#seat = undefined;
  }

  /** Between two tries to own the run; longer while another owner is heard. */
  async #pause(): Promise<void> {
    const { signal } = this.#wanting;
    do {
      await until(signal, this.#rest);
      this.#rest = Math.min(2 * this.#rest, LONGEST_REST);
    } while (!signal.aborted && !this.#silent());
  }

  #listen(): void {
    this.#channel = this.#ways.channel((message) => this.#hear(message));
  }

  #hush(): void {
    this.#channel?.close();
    this.#channel = undefined;
  }

  /**
   * A page that is put aside keeps nobody waiting. It holds no lock and hears no channel: with either it would be thrown away
   * rather than kept.
   */
  #away(): void {
    if (this.#isBack || this.#end) return;
    this.#isBack = new Promise((resolve) => (this.#comeBack = resolve));
    this.#wanting.abort();
    this.#run?.close();
    this.#letGo();
    this.#hush();
  }

  #back(): void {
    if (!this.#isBack) return;
    this.#isBack = undefined;
    this.#listen();
    this.#wanting = new AbortController();
    this.#comeBack();
    this.#tick();
  }

  #finish(end: RunEnd): void {
    if (this.#end) return;
    this.#end = end;
    this.#wanting.abort();
    this.#comeBack();
    clearInterval(this.#timer as number);
    this.#unwatch();
    this.#commands.handBack();
    // The others are told of the end before the channel goes, and those who asked get their answers.
    const closing = setTimeout(() => this.#hush(), BEAT);
    (closing as unknown as { unref?: () => void }).unref?.();
    this.#ways.ended(end);
  }

  #learn(status: WireRunStatus): void {
    if (this.#end) return;
    this.#known = status;
    this.#ways.status(status);
  }

  #endAsKept({ state, cause }: WireRunStatus): void {
    if (state !== "running" && state !== "paused") this.#finish({ state, ...(cause && { cause }) });
  }

  #tell(event: RunEvent): void {
    const key = [
      event.incarnation,
      event.type,
      event.step,
      event.at,
      "prompt" in event && event.prompt,
    ].join();
    if (this.#seen.has(key)) return;
    this.#seen.add(key);
    this.#lastAt = Math.max(this.#lastAt, event.at);
    for (const oldest of this.#seen) {
      if (this.#seen.size <= MOST_SEEN) break;
      this.#seen.delete(oldest);
    }
    this.#ways.event(event);
  }

  #post(message: TabMessage extends infer M ? (M extends unknown ? Omit<M, "from"> : never) : never): void {
    this.#channel?.postMessage({ from: this.#name, ...message });
  }

  #hear(message: TabMessage): void {
    switch (message.type) {
      case "hello":
        if (this.#run && this.#known) this.#post({ type: "status", status: this.#known });
        break;
      case "status":
        this.#heard(message.from);
        if (!this.#run) this.#learn(message.status);
        break;
      case "event":
        this.#heard(message.from);
        if (!this.#run) this.#tell(message.event);
        break;
      case "ended":
        if (!this.#run) this.#finish(message.end);
        break;
      default:
        this.#commands.hear(message);
    }
  }

  #heard(owner: string): void {
    if (this.#run) return;
    this.#heardAt = performance.now();
    const another = this.#owner !== owner;
    this.#owner = owner;
    this.#greeted();
    if (another) this.#commands.press();
  }

  #silent(): boolean {
    return performance.now() - this.#heardAt >= SILENCE;
  }

  #greeting(): Promise<void> {
    return new Promise((resolve) => {
      this.#greeted = resolve;
      setTimeout(resolve, GREETING);
      this.#post({ type: "hello" });
    });
  }

  #tick(): void {
    this.#commands.press();
    if (this.#run || this.#isBack || performance.now() - this.#heardAt < BEAT) return;
    this.#post({ type: "hello" });
    if (!this.#silent()) return;
    if (this.#owner !== undefined) this.#silentSince = Date.now();
    this.#owner = undefined;
    void this.#look();
  }

  /** What is kept, in the place of what an owner would tell. */
  async #look(): Promise<void> {
    const status = await this.#poll();
    if (!status || this.#run || !this.#silent()) return;
    this.#learn(status);
    this.#endAsKept(status);
  }

  /** Tells events that are kept and were not told; undefined where it can't be read, or another look is under way. */
  async #poll(): Promise<WireRunStatus | undefined> {
    if (this.#polling) return undefined;
    this.#polling = true;
    try {
      const { status, rows } = await this.#ways.read(this.#lastAt - 1);
      for (const row of rows) this.#tell(runEvent(row));
      return status;
    } catch (thrown) {
      // Else there is another look in a second.
      if (ClosedError.isInstance(thrown)) this.#finish({ state: "closed" });
      return undefined;
    } finally {
      this.#polling = false;
    }
  }

  #troubled({ kind, message }: { kind: CauseKind; message: string }): RunCause {
    const again = `this page tries again in ${Math.round(this.#rest / 1000)} s`;
    const ends = kind === "fenced" ? `${again}, if no other owner is heard by then` : again;
    return { kind, since: Date.now(), message, ends };
  }

  /** Why a run that should move has nobody to move it, as far as this page sees. */
  #orphaned(): RunCause | undefined {
    if (!this.#silent()) return undefined;
    if (this.#trouble) return this.#trouble;
    const lacks = this.#ways.lacks(this.#known as WireRunStatus);
    return { since: this.#silentSince, ...(lacks ? LACKING[lacks] : UNOWNED) };
  }
}

const UNOWNED = {
  kind: "needs_owner",
  message: "another page has the run, and says nothing: it may be frozen",
  ends: "that page waking up or being closed; then this one takes over",
} as const;

function causeOf(thrown: unknown): { kind: CauseKind; message: string } {
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  if (!StorageError.isInstance(thrown)) return { kind: "refused", message };
  return { kind: thrown.reason === "fenced" ? "fenced" : "storage", message };
}

/** Resolves after so long, or when the signal fires; it leaves nothing on the signal. */
function until(signal: AbortSignal, ms: number): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    (timer as unknown as { unref?: () => void }).unref?.();
    signal.addEventListener("abort", end);
  });
}
