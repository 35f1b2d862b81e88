// One run as the page sees it: folds the loop's events into what is shown. Holds no markup and makes no request, so that
// anything that emits the same events can stand in the loop's place.
import type { ServiceClient } from "tinkex";
import { advise, isAbandoned, type Advice } from "./advice.ts";
import { Curve } from "./curve.ts";
import { Pace } from "./pace.ts";
import { answers } from "./reach.ts";
import type { TextCodec } from "./tokenizer.ts";
import { train, type TrainingEvent, type TrainingPlan } from "./training.ts";

export type RunStatus =
  | "baseline" // measuring the model as it is
  | "training"
  | "stopping" // finishing the steps under way
  | "finishing" // sampling from what was learnt
  | "done"
  | "stopped"
  | "failed";

/** What a prompt was gone on with; null until it is there. */
export interface SamplePair {
  before: string | null;
  after: string | null;
}

/** How often the figures that change by themselves are brought up to date, in ms. */
const TICK = 500;
/** After so many seconds without a result, and again after as many, the page asks whether the server is there at all. */
const LONG_SILENCE = 5;

export class Run {
  readonly plan: TrainingPlan;
  readonly server: string;
  readonly curve = new Curve();
  readonly #stop = new AbortController();
  readonly #abandon = new AbortController();
  readonly #pace = new Pace();
  readonly #startedAt = performance.now();
  #heardAt = this.#startedAt;
  #tokens = 0;
  #askedAt = 0;

  status = $state<RunStatus>("baseline");
  /** Counts up with each change of `curve`, which is plain data: proxies would cost more than the drawing. */
  revision = $state(0);
  step = $state(0);
  firstHeldOut = $state<number | null>(null);
  lastHeldOut = $state<number | null>(null);
  tokensPerSecond = $state<number | null>(null);
  secondsLeft = $state<number | null>(null);
  elapsed = $state(0);
  /** Seconds since the last result. */
  silence = $state(0);
  /** Nothing answers at the server's address. The client goes on trying, so the run is not over. */
  unreachable = $state(false);
  samples = $state<SamplePair[]>([]);
  advice = $state.raw<Advice | null>(null);

  /** Starts at once. */
  constructor(service: ServiceClient, codec: TextCodec, plan: TrainingPlan, server: string) {
    this.plan = plan;
    this.server = server;
    this.samples = plan.prompts.map(() => ({ before: null, after: null }));
    void this.#go(service, codec);
  }

  get active(): boolean {
    return this.status !== "done" && this.status !== "stopped" && this.status !== "failed";
  }

  /** Whether the run ended before its last step because the user said so. */
  get stoppedEarly(): boolean {
    return this.#stop.signal.aborted && this.step < this.plan.settings.steps;
  }

  /** Finishes the steps under way, then evaluates and samples. */
  stop(): void {
    if (!this.active || this.status === "finishing") return;
    this.#stop.abort();
    this.status = "stopping";
  }

  /** Lets go at once, whatever the server is doing. */
  abandon(): void {
    this.#abandon.abort();
  }

  async #go(service: ServiceClient, codec: TextCodec): Promise<void> {
    const ticking = setInterval(() => this.#tick(), TICK);
    const controls = { stop: this.#stop.signal, abandon: this.#abandon.signal };
    try {
      await train(service, codec, this.plan, controls, (event) => this.#take(event));
      this.status = this.stoppedEarly ? "stopped" : "done";
    } catch (error) {
      if (isAbandoned(error) && this.#abandon.signal.aborted) this.status = "stopped";
      else {
        this.advice = advise(error, this.server);
        this.status = "failed";
      }
    } finally {
      clearInterval(ticking);
      this.unreachable = false;
      this.#tick();
    }
  }

  #take(event: TrainingEvent): void {
    this.#heardAt = performance.now();
    this.unreachable = false;
    switch (event.type) {
      case "phase":
        if (event.phase === "training") this.#pace.mark(this.#heardAt, 0, 0);
        if (this.status !== "stopping" || event.phase === "finishing") this.status = event.phase;
        break;
      case "step":
        this.step = event.step;
        this.#tokens += event.tokens;
        this.#pace.mark(this.#heardAt, event.step, this.#tokens);
        this.curve.addStep(event.loss);
        this.revision += 1;
        break;
      case "heldOut":
        this.firstHeldOut ??= event.loss;
        this.lastHeldOut = event.loss;
        this.curve.addHeldOut(event.step, event.loss);
        this.revision += 1;
        break;
      case "sample":
        (this.samples[event.prompt] as SamplePair)[event.when] = event.text;
        break;
    }
  }

  #tick(): void {
    const now = performance.now();
    this.elapsed = (now - this.#startedAt) / 1_000;
    this.silence = this.active ? (now - this.#heardAt) / 1_000 : 0;
    if (this.silence > LONG_SILENCE && now - this.#askedAt > LONG_SILENCE * 1_000) void this.#ask(now);
    const moving = this.status === "training" || this.status === "stopping";
    if (moving) this.tokensPerSecond = this.#pace.tokensPerSecond(now);
    this.secondsLeft =
      this.status === "training" ? this.#pace.secondsLeft(now, this.plan.settings.steps) : null;
  }
  /** An answer that comes after a result says nothing about now. */
  async #ask(now: number): Promise<void> {
    this.#askedAt = now;
    const heardAt = this.#heardAt;
    const reachable = await answers(this.server);
    if (this.#heardAt === heardAt) this.unreachable = this.active && !reachable;
  }
}
