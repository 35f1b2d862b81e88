// The runs of one server and account: all that are kept, and those that are open in this page. One that is running and that
// nobody has goes on as soon as this page sees it.
import type { RunSummary } from "tinkex";
import { SvelteMap, SvelteSet } from "svelte/reactivity";
import { advise, type Advice } from "./advice.ts";
import type { Connected } from "./connection.svelte.ts";
import { recordOf, runOptions, type TrainingPlan } from "./plan.ts";
import { Run } from "./run.svelte.ts";

/** How often the list is read again while it is shown, in ms: other tabs start and end runs as well. */
const EVERY = 4_000;

export class Runs {
  readonly #connected: Connected;
  readonly #server: string;
  readonly #open = new SvelteMap<string, Run>();
  /** Let go of on purpose: they go on when their page is opened. */
  readonly #letGo = new SvelteSet<string>();
  #listed = $state.raw<readonly RunSummary[] | null>(null);
  #advice = $state.raw<Advice | null>(null);

  constructor(connected: Connected, server: string) {
    this.#connected = connected;
    this.#server = server;
  }

  /** Newest first; null while they are being read. */
  get listed(): readonly RunSummary[] | null {
    return this.#listed;
  }

  /** Why they can't be read, or null. */
  get advice(): Advice | null {
    return this.#advice;
  }

  /** A run that is open in this page. */
  get(id: string): Run | undefined {
    return this.#open.get(id);
  }

  /** Rejects as `startRun` does. */
  async start(plan: TrainingPlan): Promise<string> {
    const run = await this.#connected.service.startRun(runOptions(plan));
    this.#open.set(run.id, new Run(run.id, this.#connected, this.#server, run));
    await this.refresh();
    return run.id;
  }

  /** Opens a run, unless it is open here. What goes wrong is in the run. */
  open(id: string): void {
    if (this.#open.has(id)) return;
    this.#letGo.delete(id);
    this.#open.set(id, new Run(id, this.#connected, this.#server));
  }

  /** Lets a run go as it is; another tab takes it, or this one when it opens it again. */
  letGo(id: string): void {
    this.#letGo.add(id);
    this.#open.get(id)?.close();
    this.#open.delete(id);
    void this.refresh();
  }

  async refresh(): Promise<void> {
    try {
      this.#listed = await this.#connected.service.runs();
      this.#advice = null;
    } catch (error) {
      this.#advice = advise(error, this.#server);
      return;
    }
    for (const { id, state, userMetadata } of this.#listed) {
      if (state === "running" && recordOf(userMetadata) && !this.#letGo.has(id)) this.open(id);
    }
  }

  /** Keeps the list up to date while somebody can see it. Gives the function that ends that. */
  watch(): () => void {
    void this.refresh();
    const ticking = setInterval(() => {
      if (!document.hidden) void this.refresh();
    }, EVERY);
    return () => clearInterval(ticking);
  }
}
