// One run as the page sees it: opens it, shows its history and what comes from it, and passes commands on.
// Whether it works in this tab or in another one makes no difference here.
import { DataMismatchError, type RunEvent, type RunStatus, type TrainingRun } from "tinkex";
import { advise, type Advice } from "./advice.ts";
import type { Connected } from "./connection.svelte.ts";
import type { Curve } from "./curve.ts";
import { prepare, toDatum, type SamplePrompt } from "./data.ts";
import { History, type Checkpoint, type SampleSet } from "./history.ts";
import { recordOf, type RunRecord } from "./plan.ts";
import { answers } from "./reach.ts";

/** What a command does; while one is under way, no other one is given. */
export type Command = "pause" | "resume" | "stop" | "checkpoint";

/** How often the figures that change by themselves are brought up to date, in ms. */
const TICK = 500;
/** After so many seconds without a result, and again after as many, the page asks whether the server is there at all. */
const LONG_SILENCE = 5;

export class Run {
  readonly id: string;
  readonly server: string;
  readonly #connected: Connected;
  readonly #history: History;
  #run: TrainingRun | undefined;
  #closed = false;
  #heardAt = Date.now();
  #askedAt = 0;
  #drawing = false;

  /** Null until it is open. */
  status = $state.raw<RunStatus | null>(null);
  /** What it was made of; null where that isn't known, as of a run of another page. */
  record = $state.raw<RunRecord | null>(null);
  prompts = $state.raw<readonly SamplePrompt[]>([]);
  /** Why it can't be opened, or can only be looked at. */
  problem = $state.raw<Advice | null>(null);
  /** Why the last command could not be done. */
  refusal = $state.raw<Advice | null>(null);
  command = $state<Command | null>(null);
  /** Counts up with each change of what is plain data, at most once a frame: proxies would cost more than the drawing. */
  revision = $state(0);
  tokensPerSecond = $state<number | null>(null);
  secondsLeft = $state<number | null>(null);
  /** Seconds that it has trained, pauses left out. */
  trained = $state(0);
  /** Seconds since the last result. */
  silence = $state(0);
  /** Nothing answers at the server's address. The client goes on trying, so the run is not over. */
  unreachable = $state(false);

  /** Opens it, unless it is given `started`. */
  constructor(id: string, connected: Connected, server: string, started?: TrainingRun) {
    this.id = id;
    this.server = server;
    this.#connected = connected;
    this.#history = new History((tokens) => connected.codec.decode(tokens));
    void this.#go(started).catch((error: unknown) => (this.problem = advise(error, server)));
  }

  /** Whether it will ever go on. */
  get over(): boolean {
    const state = this.status?.state;
    return state === "completed" || state === "stopped";
  }

  get running(): boolean {
    return this.status?.state === "running";
  }

  /** The losses, to be read anew with each `revision`. */
  get curve(): Curve {
    return this.#history.curve;
  }

  /** In the order in which they were written. */
  get checkpoints(): Checkpoint[] {
    void this.revision;
    return this.#history.checkpoints;
  }

  /** By their steps. */
  get samples(): SampleSet[] {
    void this.revision;
    return this.#history.samples;
  }

  pause = () => this.#do("pause", (run) => run.pause());
  resume = () => this.#do("resume", (run) => run.resume());
  goBack = () => this.#do("resume", (run) => run.resume({ from: "checkpoint" }));
  stop = (checkpoint: boolean) => this.#do("stop", (run) => run.stop({ checkpoint }));
  save = () => this.#do("checkpoint", (run) => run.checkpoint());

  /** Lets it go, as it is. */
  close(): void {
    this.#closed = true;
    void this.#run?.close().catch(() => {});
  }

  async #go(started: TrainingRun | undefined): Promise<void> {
    const run = started ?? (await this.#open());
    this.#run = run;
    if (this.#closed) return this.close();
    run.on("event", (event) => this.#take(event));
    run.on("status", (status) => (this.status = status));
    // What comes meanwhile is taken twice, which is as good as once.
    for (const event of await run.history()) this.#take(event);
    const status = await run.status();
    this.record = recordOf(status.userMetadata);
    if (this.record) {
      const corpus = await this.#connected.corpora.get(this.record.set);
      this.prompts = corpus.prompts;
    }
    this.status = await run.status();
    const ticking = setInterval(() => this.#tick(), TICK);
    this.#tick();
    const { state } = await run.ended;
    clearInterval(ticking);
    if (state !== "closed") this.status = await run.status();
    this.#tick();
  }

  /** With its data, so that it can go on here; without, where they are not to be had, so that it can be read. */
  async #open(): Promise<TrainingRun> {
    const { service, corpora } = this.#connected;
    const listed = (await service.runs()).find(({ id }) => id === this.id);
    const record = recordOf(listed?.userMetadata);
    if (!record) return service.openRun(this.id);
    try {
      const corpus = await corpora.get(record.set);
      const { train } = prepare(corpus, record.settings.sequenceLength);
      return await service.openRun(this.id, { data: train.map(toDatum) });
    } catch (error) {
      if (!DataMismatchError.isInstance(error)) throw error;
      this.problem = advise(error, this.server);
      return service.openRun(this.id);
    }
  }

  async #do(command: Command, call: (run: TrainingRun) => Promise<unknown>): Promise<void> {
    if (!this.#run || this.command) return;
    this.command = command;
    this.refusal = null;
    this.#heardAt = Date.now();
    try {
      await call(this.#run);
    } catch (error) {
      if (!this.#closed) this.refusal = advise(error, this.server);
    } finally {
      this.command = null;
    }
  }

  #take(event: RunEvent): void {
    this.#heardAt = Date.now();
    this.unreachable = false;
    this.#history.take(event);
    this.#draw();
  }

  #draw(): void {
    if (this.#drawing) return;
    this.#drawing = true;
    requestAnimationFrame(() => {
      this.#drawing = false;
      this.revision += 1;
    });
  }

  #tick(): void {
    const now = Date.now();
    const { running, status } = this;
    this.silence = running || this.command ? (now - this.#heardAt) / 1_000 : 0;
    if (this.silence > LONG_SILENCE && now - this.#askedAt > LONG_SILENCE * 1_000) void this.#ask(now);
    if (!running) this.unreachable = false;
    this.trained = this.#history.trained;
    const left = status?.steps === undefined ? null : status.steps - status.step;
    const { pace, averagePace } = this.#history;
    this.tokensPerSecond = running ? pace.tokensPerSecond(now) : this.over ? averagePace : null;
    this.secondsLeft = running && left !== null ? pace.secondsFor(left, now) : null;
  }

  /** An answer that comes after a result says nothing about now. */
  async #ask(now: number): Promise<void> {
    this.#askedAt = now;
    const heardAt = this.#heardAt;
    const reachable = await answers(this.server);
    if (this.#heardAt === heardAt) this.unreachable = this.running && !reachable;
  }
}
