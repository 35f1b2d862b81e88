// What outlives a page of the console: the connection, the choices, the run. One for the whole app, handed down by context.
import { createContext } from "svelte";
import { Connection } from "./connection.svelte.ts";
import { Run } from "./run.svelte.ts";
import { Setup } from "./setup.svelte.ts";

export class Workbench {
  readonly connection = new Connection();
  readonly setup = new Setup();
  #run = $state.raw<Run | null>(null);

  /** The run that is shown: the one that is going, else the last one. */
  get run(): Run | null {
    return this.#run;
  }

  get busy(): boolean {
    return this.#run?.active ?? false;
  }

  /** Starts what `setup` says. Does nothing while a run is going or a choice is missing. */
  start(): void {
    const { state, server } = this.connection;
    const { plan } = this.setup;
    if (this.busy || state.kind !== "connected" || !plan) return;
    this.#run = new Run(state.service, state.codec, plan, server.address);
  }

  /** Starts again after a failure, over a new connection: the old one may be what failed. What fails now, `connection` says. */
  async startAgain(): Promise<void> {
    await this.connection.connect();
    const { state } = this.connection;
    if (state.kind !== "connected") return;
    await this.setup.use(state, this.setup.set);
    this.start();
  }
}

export const [getWorkbench, setWorkbench] = createContext<Workbench>();
